"""Uploads to HTTP servers: one PUT or POST, confirmed by its answer."""

import hashlib
import json
import os
import re
import subprocess
import time

import conftest
import http_servers
import pytest
from http_checks import PATIENCE, done, failed, no_secret, warnings
from test_command import Terminal, plain

MI = conftest.MI


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def piped(haul, source, url, *options):
    with open(source, "rb") as f, \
            subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE) as cat:
        return haul("copy", "-", url, *options, stdin=cat.stdout)


KINDS = ["apache", "liar", "nginx"]


@pytest.fixture(params=KINDS)
def any_server(request):
    return request.getfixturevalue(request.param)


def place(server, name="t"):
    """(URL, path of the file) to write to."""
    folder = "" if server.name == "liar" else "/dav"
    return server.url("%s/%s" % (folder, name)), "%s/%s" % (server.dav, name)


# ---- The bytes --------------------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, 4 * MI, 9 * MI + 5])
def test_upload_is_the_same_bytes(haul, any_server, dump, size):
    haul.trust(any_server)
    source = dump(size)
    url, final = place(any_server)
    run = haul.copy(source, url)
    done(run, size)
    assert run.last["answer"]["status"] in (200, 201, 204), run
    assert conftest.digest(final) == conftest.digest(source)
    assert os.listdir(any_server.dav) == ["t"]


def test_existing_target_is_replaced(haul, any_server, dump):
    haul.trust(any_server)
    url, final = place(any_server)
    done(haul.copy(dump(3 * MI), url), 3 * MI)
    source = dump(MI, seed=2)
    done(haul.copy(source, url), MI)
    assert conftest.digest(final) == conftest.digest(source)


def test_large_upload(haul, nginx, dump):
    haul.trust(nginx)
    source = dump(100 * MI + 3)
    url, final = place(nginx)
    done(haul.copy(source, url), 100 * MI + 3)
    assert conftest.digest(final) == conftest.digest(source)
    sent = [e for e in nginx.seen() if e["method"] == "PUT"]
    assert [e["length"] for e in sent] == [str(100 * MI + 3)]
    assert sent[0]["protocol"] == "HTTP/1.1"


@pytest.mark.parametrize("size", [0, 3, 9 * MI + 5])
def test_pipe_is_uploaded_in_chunks(haul, any_server, dump, size):
    haul.trust(any_server)
    source = dump(size)
    url, final = place(any_server)
    run = piped(haul, source, url)
    done(run, size)
    assert conftest.digest(final) == conftest.digest(source)
    if any_server.name == "liar":
        seen, = any_server.seen("PUT")
        assert size == 0 or seen["headers"]["transfer-encoding"] == "chunked"
        assert seen["digest"] == sha256(source)


@pytest.mark.parametrize("scheme, method", [("put+http", "PUT"),
                                            ("post+http", "POST")])
def test_method_is_chosen_by_the_scheme(haul, liar, dump, scheme, method):
    source = dump(5 * MI + 1)
    run = haul.copy(source, liar.url("/t?a=b", scheme=scheme))
    done(run, 5 * MI + 1)
    seen, = liar.seen(method)
    assert seen["digest"] == sha256(source)
    assert seen["query"] == "a=b"
    assert seen["headers"]["content-length"] == str(5 * MI + 1)
    assert "transfer-encoding" not in seen["headers"]
    if method == "POST":
        assert seen["headers"]["content-type"] == "application/octet-stream"


def test_post_over_tls(haul, start, certs, www, dump):
    liar = start(http_servers.Liar, certs, www, tls=True)
    haul.trust(liar)
    source = dump(5 * MI)
    done(haul.copy(source, liar.url("/t", scheme="post+https")), 5 * MI)
    seen, = liar.seen("POST")
    assert seen["digest"] == sha256(source)


def test_pipe_is_posted_in_chunks(haul, liar, dump):
    source = dump(5 * MI + 1)
    done(piped(haul, source, liar.url("/t", scheme="post+http")), 5 * MI + 1)
    seen, = liar.seen("POST")
    assert seen["digest"] == sha256(source)
    assert seen["headers"]["transfer-encoding"] == "chunked"


def test_folder_gets_the_name_of_the_source(haul, nginx, dump):
    haul.trust(nginx)
    source = dump(MI, name="mine.dump")
    done(haul.copy(source, nginx.url("/dav/")), MI)
    assert os.listdir(nginx.dav) == ["mine.dump"]


def test_dry_run_sends_nothing(haul, liar, dump):
    run = haul.copy(dump(MI), liar.url("/t"), "--dry-run")
    assert run.status == 0, run
    assert liar.seen("PUT") == [] and os.listdir(liar.dav) == []


def test_rate_limit_is_kept(haul, nginx, dump):
    haul.trust(nginx)
    begin = time.monotonic()
    done(haul.copy(dump(16 * MI), nginx.url("/dav/t"), "--rate-limit",
                   "8mi", "--chunk-size", "1mi"), 16 * MI)
    assert 1.2 < time.monotonic() - begin < 8


# ---- What is said -----------------------------------------------------------

def test_it_says_before_that_it_cannot_go_on_later(haul, liar, dump):
    run = haul.copy(dump(MI), liar.url("/t"))
    done(run, MI)
    first = [e["event"] for e in run.events]
    assert "warning" in first, run
    assert re.search("again|start", warnings(run)), run
    assert "progress" not in first[:first.index("warning")]


def test_pipe_is_told_that_there_is_no_second_try(haul, liar, dump):
    run = piped(haul, dump(MI), liar.url("/t"))
    done(run, MI)
    assert re.search("retr|again", warnings(run)), run


def test_nothing_is_acknowledged_before_the_answer(haul, nginx, linksim,
                                                   dump):
    link = linksim(nginx, "--rate", "10m", "--rtt", 5)
    haul.trust(link)
    source = dump(15 * MI)
    run = haul.copy(source, link.url("/dav/t"))
    done(run, 15 * MI)
    progress = [e for e in run.events if e["event"] == "progress"]
    under_way = [e for e in progress if e["sent"] > MI and
                 e["acked"] < 15 * MI]
    assert len(under_way) >= 5, run
    assert {e["acked"] for e in under_way} == {0}


def test_bar_says_sent_unconfirmed(haul, nginx, linksim, dump):
    link = linksim(nginx, "--rate", "6m", "--rtt", 5)
    haul.trust(link)
    t = Terminal(haul, "copy", "--state", haul.state, "--cacert", haul.cacert,
                 dump(9 * MI), link.url("/dav/t"), columns=100)
    assert t.wait() == 0, t.seen
    assert "sent, unconfirmed" in t.seen


def test_answer_is_part_of_the_result(haul, liar, dump):
    source = dump(MI)
    run = haul.copy(source, liar.url("/t"))
    done(run, MI)
    assert run.last["answer"] == {"status": 201, "body": "stored\n"}
    out = plain(haul, "copy", "--state", haul.state, source, liar.url("/u"))
    assert out.returncode == 0
    assert "201" in out.stderr and "stored" in out.stderr


def test_long_answer_is_cut(haul, liar, dump):
    source = dump(MI)
    url = liar.url("/t?lie=body&size=%d" % (2 * MI))
    run = haul.copy(source, url)
    done(run, MI)
    body = run.last["answer"]["body"]
    assert 4096 <= len(body) <= MI
    assert body == ("0123456789abcde\n" * (len(body) // 16 + 1))[:len(body)]
    out = plain(haul, "copy", "--state", haul.state, source,
                liar.url("/u?lie=body&size=%d" % (2 * MI)))
    assert out.returncode == 0
    assert 4000 < len(out.stderr) < 8000


def test_answer_is_escaped_on_the_terminal(haul, liar, dump, work):
    """Of a refusal too."""
    out = plain(haul, "copy", "--state", haul.state, dump(MI),
                liar.url("/t?lie=early&status=403"))
    assert out.returncode == 6
    assert "it says 403" in out.stderr and "\033" not in out.stderr


# ---- Retries ----------------------------------------------------------------

@pytest.mark.parametrize("lie", ["cut&at=3000000", "cut&at=0", "cut-after",
                                 "status&status=500", "status&status=502",
                                 "status&status=504", "garbage"])
def test_failed_upload_is_repeated_from_its_start(haul, liar, dump, lie):
    source = dump(8 * MI)
    run = haul.copy(source, liar.url("/t?first=2&lie=" + lie))
    done(run, 8 * MI)
    seen = liar.seen("PUT")
    assert len(seen) == 3
    assert seen[-1]["digest"] == sha256(source)
    assert conftest.digest(liar.dav + "/t") == conftest.digest(source)


@pytest.mark.parametrize("lie, status", [
    ("cut&at=3000000", 4), ("cut&at=0", 4), ("cut&at=12000000", 4),
    ("status&status=500", 6), ("status&status=503", 4), ("cut-after", 4)])
def test_retries_end(haul, liar, dump, lie, status):
    """However much of it was taken each time."""
    run = haul.copy(dump(20 * MI), liar.url("/t?lie=" + lie), "--retries", 2,
                    "--give-up-after", 30, timeout=20)
    failed(run, status)
    assert len(liar.seen("PUT")) == 3
    if lie.startswith("status"):
        assert run.last["answer"]["status"] == int(lie[-3:]), run


def test_no_retries_when_none_are_wanted(haul, liar, dump):
    run = haul.copy(dump(5 * MI), liar.url("/t?lie=status&status=500"),
                    "--retries", 0)
    failed(run, 6)
    assert len(liar.seen("PUT")) == 1


@pytest.mark.parametrize("lie", ["cut&at=3000000", "status&status=500",
                                 "cut-after"])
def test_pipe_is_not_sent_twice(haul, liar, dump, lie):
    """It is small enough to be kept, or it is lost; never half of it."""
    source = dump(40 * MI)
    run = piped(haul, source, liar.url("/t?first=1&lie=" + lie), "--memory",
                "16mi", *PATIENCE)
    failed(run, (4, 6))
    assert len(liar.seen("PUT")) == 1
    assert os.listdir(liar.dav) == (["t"] if lie == "cut-after" else [])


def test_second_run_starts_again(haul, liar, linksim, dump):
    link = linksim(liar, "--rate", "20m")
    source = dump(20 * MI)
    run = haul.start("copy", source, link.url("/t"))
    run.wait_for(lambda e: (e.get("sent") or 0) >= 8 * MI)
    run.kill()
    assert run.wait() == -9
    run = haul.copy(source, link.url("/t"))
    done(run, 20 * MI)
    assert run.last["resumed_from"] == 0
    assert conftest.digest(liar.dav + "/t") == conftest.digest(source)
    assert liar.seen("PUT")[-1]["digest"] == sha256(source)


def test_link_that_is_cut_is_survived_in_one_run(haul, nginx, linksim, dump):
    link = linksim(nginx, "--reset-after", "5mi", "--rtt", 5)
    haul.trust(link)
    source = dump(12 * MI)
    done(haul.copy(source, link.url("/dav/t")), 12 * MI)
    assert link.stats()["resets"] in (1, 2)
    assert conftest.digest(nginx.dav + "/t") == conftest.digest(source)


def test_interrupt_ends_in_order_with_130(haul, nginx, linksim, dump):
    link = linksim(nginx, "--rate", "10m", "--rtt", 5)
    haul.trust(link)
    run = haul.start("copy", dump(40 * MI), link.url("/dav/t"))
    run.wait_for(lambda e: (e.get("sent") or 0) >= 2 * MI)
    begin = time.monotonic()
    run.kill(2)
    assert run.wait(20) == 130, run
    assert time.monotonic() - begin < 5
    assert os.listdir(nginx.dav) == []


def test_answer_may_take_longer_than_the_stall_timeout(haul, liar, dump):
    """A server may need long to make the file durable."""
    run = haul.copy(dump(2 * MI), liar.url("/t?lie=slow-answer&after=3"),
                    "--stall-timeout", 1)
    done(run, 2 * MI)
    assert len(liar.seen("PUT")) == 1


def test_answer_that_never_comes_ends_the_try(haul, liar, dump):
    begin = time.monotonic()
    run = haul.copy(dump(2 * MI), liar.url("/t?lie=hang-after"),
                    "--stall-timeout", 1, "--retries", 0,
                    "--give-up-after", 5)
    failed(run, 4)
    assert 1 <= time.monotonic() - begin < 15
    assert len(liar.seen("PUT")) == 1


# ---- Policies ---------------------------------------------------------------

def test_no_clobber_refuses_and_keeps_the_target(haul, any_server, dump):
    haul.trust(any_server)
    url, final = place(any_server)
    with open(final, "w") as f:
        f.write("keep me")
    os.chmod(final, 0o666)
    run = haul.copy(dump(3 * MI), url, "--no-clobber")
    failed(run, (3, 6))
    with open(final) as f:
        assert f.read() == "keep me"
    done(haul.copy(dump(MI), place(any_server, "new")[0], "--no-clobber"), MI)


def test_refusal_comes_before_the_body(haul, nginx, linksim, dump):
    """100-continue: nobody sends a dump to a server that wants none."""
    link = linksim(nginx)
    haul.trust(link)
    run = haul.copy(dump(20 * MI), link.url("/small/t"), *PATIENCE)
    failed(run, 6)
    assert run.last["answer"]["status"] == 413
    assert link.stats()["up"] < 5 * MI
    assert os.listdir(nginx.dav) == []


def test_early_refusal_without_reading_the_body(haul, liar, dump):
    run = haul.copy(dump(8 * MI), liar.url("/t?lie=early&status=413"),
                    *PATIENCE)
    failed(run, 6)
    assert run.last["answer"] == {"status": 413, "body": "it says 413\n"}
    assert os.listdir(liar.dav) == []


@pytest.mark.parametrize("lie", ["expect-417", "no-continue"])
def test_servers_that_do_not_know_expect(haul, liar, dump, lie):
    source = dump(5 * MI)
    done(haul.copy(source, liar.url("/t?lie=" + lie)), 5 * MI)
    assert conftest.digest(liar.dav + "/t") == conftest.digest(source)


def test_server_that_takes_no_chunks(haul, liar, dump):
    run = piped(haul, dump(5 * MI), liar.url("/t?lie=no-chunks"), *PATIENCE)
    failed(run, 6)
    assert run.last["answer"]["status"] == 411
    source = dump(5 * MI)
    done(haul.copy(source, liar.url("/t?lie=no-chunks")), 5 * MI)


@pytest.mark.parametrize("status", [307, 308])
def test_redirect_is_followed_with_the_body(haul, liar, dump, status):
    source = dump(5 * MI)
    run = haul.copy(source, liar.url("/t?lie=redirect&status=%d&to=/u" %
                                     status))
    done(run, 5 * MI)
    assert os.listdir(liar.dav) == ["u"]
    assert conftest.digest(liar.dav + "/u") == conftest.digest(source)
    first, second = liar.seen("PUT")
    assert first["received"] == 0 and second["digest"] == sha256(source)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_redirect_that_is_no_repetition_is_not_followed_with_the_body(
        haul, liar, dump, status):
    run = haul.copy(dump(MI), liar.url(
        "/t?lie=redirect&status=%d&to=/u" % status, scheme="post+http"),
        *PATIENCE)
    assert {r["path"] for r in liar.seen("POST")} == {"/t"}, run
    assert "u" not in os.listdir(liar.dav)
    if status != 303:  # the answer to a POST may be elsewhere
        failed(run, (4, 6))


def test_login(haul, any_server, work, dump):
    haul.trust(any_server)
    source = dump(5 * MI)
    with open(work + "/.netrc", "w") as f:
        f.write("machine 127.0.0.1 login %s password %s\n" %
                http_servers.LOGIN)
    path = "/t?lie=auth" if any_server.name == "liar" else "/authdav/t"
    run = haul.copy(source, any_server.url(path))
    done(run, 5 * MI)
    assert conftest.digest(any_server.dav + "/t") == conftest.digest(source)
    no_secret(haul, run, http_servers.LOGIN[1])


def test_login_is_refused_before_the_body(haul, liar, dump):
    run = haul.copy(dump(8 * MI), liar.url("/t?lie=expect-401"), *PATIENCE)
    failed(run, 5)
    assert [r["received"] for r in liar.seen("PUT")] == [0]


def test_verify_remote_is_refused_before_a_byte_moves(haul, liar, dump):
    run = haul.copy(dump(5 * MI), liar.url("/t"), "--verify", "remote",
                    *PATIENCE)
    failed(run, 2)
    assert liar.seen("PUT") == []


def test_source_that_grows_is_exit_8(haul, nginx, linksim, dump):
    link = linksim(nginx, "--rate", "10m")
    haul.trust(link)
    source = dump(20 * MI)
    run = haul.start("copy", source, link.url("/dav/t"))
    run.wait_for(lambda e: (e.get("sent") or 0) >= 4 * MI)
    with open(source, "ab") as f:
        f.write(b"more")
    run.wait(30)
    failed(run, 8)


def test_jobs_know_of_no_unfinished_upload_to_go_on_with(haul, liar, dump):
    done(haul.copy(dump(MI), liar.url("/t")), MI)
    out = plain(haul, "jobs", "list", "--json", "--state", haul.state)
    assert [json.loads(line) for line in out.stdout.splitlines()] == []
