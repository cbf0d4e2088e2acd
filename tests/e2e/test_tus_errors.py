"""tus: what servers and proxies may answer instead."""

import time

import pytest
import upload_servers
from http_checks import PATIENCE, done, failed, no_secret
from test_tus import (CHUNK, MI, SOON, joining, piped, same, single,
                      tus_url)

# Imported to be fixtures.
assert joining and single


# ---- Statuses of a body -----------------------------------------------------

@pytest.mark.parametrize("status, when", [
    (408, "early"), (409, "early"), (409, "late"), (423, "early"),
    (425, "late"), (429, "early"), (500, "late"), (502, "early"),
    (502, "late"), (503, "early"), (504, "late")])
def test_trouble_that_passes(haul, single, dump, status, when):
    """What comes after it is a question."""
    haul.trust(single)
    source = dump(9 * MI)
    single.rule(op="append", status=status, when=when)
    run = haul.copy(source, tus_url(single), *SOON)
    done(run, 9 * MI)
    assert same(single, source)
    assert [r["op"] for r in single.seen()] == [
        "discover", "create", "append", "offset", "append"]


@pytest.mark.parametrize("op, status", [("append", 429), ("create", 503),
                                        ("offset", 503)])
def test_server_says_when_to_come_again(haul, single, dump, op, status):
    haul.trust(single)
    source = dump(9 * MI)
    if op == "offset":
        single.rule(op="append", status=500)
    single.rule(op=op, status=status, set={"Retry-After": "2"})
    run = haul.copy(source, tus_url(single))
    done(run, 9 * MI)
    tries = single.seen(op)
    assert len(tries) == 2
    assert tries[1]["begin"] - tries[0]["end"] >= 1.9


@pytest.mark.parametrize("status, code, words", [
    (401, 5, ["login"]), (403, 6, ["permission"]),
    (412, 6, ["another version of tus"]), (415, 6, []), (422, 6, [])])
def test_refusal_is_the_end(haul, single, dump, status, code, words):
    haul.trust(single)
    single.rule(op="append", times=0, status=status)
    failed(haul.copy(dump(9 * MI), tus_url(single), *PATIENCE), code, *words)
    assert len(single.seen("append")) == 1


@pytest.mark.parametrize("status, code", [(500, 6), (503, 4), (409, 4),
                                          (423, 4)])
def test_trouble_that_stays_is_the_end(haul, single, dump, status, code):
    haul.trust(single)
    single.rule(op="append", times=0, status=status)
    run = haul.copy(dump(9 * MI), tus_url(single), "--retries", 2)
    failed(run, code)
    assert len(single.seen("append")) == 3


def test_request_that_is_not_understood_is_tried_twice(haul, single, dump):
    """tusd ends so what was disturbed; who means it says it again."""
    haul.trust(single)
    source = dump(9 * MI)
    single.rule(op="append", status=400)
    done(haul.copy(source, tus_url(single)), 9 * MI)
    assert same(single, source)
    single.rule(op="append", times=0, status=400)
    begin = len(single.stats()["requests"])
    failed(haul.copy(source, tus_url(single), "--resume", "never"), 6)
    assert len(single.seen("append", begin=begin)) == 2


@pytest.mark.parametrize("limit", [10 * MI, 1 * MI, 300 * 1000])
def test_bodies_become_smaller_until_they_fit(haul, single, dump, limit):
    haul.trust(single)
    source = dump(9 * MI + 5)
    single.options(max_body=limit)
    run = haul.copy(source, tus_url(single), *SOON)
    done(run, 9 * MI + 5)
    assert same(single, source)
    sent = single.seen("append")
    assert all(r["length"] <= limit for r in sent if r["status"] == 204)
    # No body that is refused is sent, and none is tried twice.
    refused = [r["length"] for r in sent if r["status"] == 413]
    assert refused == sorted(set(refused), reverse=True)
    assert len(refused) <= 3


def test_checksums_and_small_bodies(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(9 * MI + 5)
    resumable.options(max_body=MI)
    run = haul.copy(source, tus_url(resumable), *SOON)
    done(run, 9 * MI + 5)
    assert same(resumable, source)


def test_nothing_fits(haul, single, dump):
    haul.trust(single)
    single.options(max_body=1000)
    run = haul.copy(dump(9 * MI), tus_url(single))
    failed(run, 6, "too large")
    assert len(single.seen("append")) <= 8


def test_middlebox_that_stops_patch(haul, resumable, dump):
    """X-HTTP-Method-Override, for each body that follows."""
    haul.trust(resumable)
    source = dump(13 * MI)
    resumable.rule(method="PATCH", times=1, status=405)
    run = haul.copy(source, tus_url(resumable), *SOON)
    done(run, 13 * MI)
    assert same(resumable, source)
    sent = resumable.seen("append")
    assert "x-http-method-override" not in sent[0]["headers"]
    assert [r["headers"].get("x-http-method-override")
            for r in sent[1:]] == ["PATCH"] * 4


def test_override_and_the_length_of_a_pipe(haul, single, dump):
    haul.trust(single)
    source = dump(3 * MI)
    single.rule(op="append", times=1, status=501)
    run = piped(haul, source, tus_url(single), *SOON)
    done(run, 3 * MI)
    assert same(single, source)
    assert single.seen("append")[-1]["headers"][
        "x-http-method-override"] == "PATCH"


def test_server_without_patch_at_all(haul, single, dump):
    haul.trust(single)
    single.rule(op="append", times=0, status=405)
    failed(haul.copy(dump(MI), tus_url(single), *SOON), 6)
    assert len(single.seen("append")) == 2


# ---- Making an upload -------------------------------------------------------

@pytest.mark.parametrize("status, code", [
    (400, 6), (401, 5), (403, 6), (404, 6), (405, 6), (409, 4), (412, 6),
    (413, 6), (500, 6)])
def test_upload_that_is_not_made(haul, single, dump, status, code):
    haul.trust(single)
    single.rule(op="create", times=0, status=status)
    failed(haul.copy(dump(MI), tus_url(single), "--retries", 1), code)
    assert single.seen("append") == []


@pytest.mark.parametrize("status", [200, 202, 204])
def test_success_that_made_nothing(haul, single, dump, status):
    haul.trust(single)
    single.rule(op="create", times=0, status=status)
    failed(haul.copy(dump(MI), tus_url(single), "--retries", 1), 4,
           "answered %d" % status)


def test_upload_without_an_address(haul, single, dump):
    haul.trust(single)
    single.rule(op="create", times=0, set={"Location": None})
    failed(haul.copy(dump(MI), tus_url(single), "--retries", 1), 4,
           "without an address")


def test_too_large_for_the_server_is_said_before(haul, single, dump):
    haul.trust(single)
    single.options(tus_max_size=5 * MI)
    run = haul.copy(dump(5 * MI + 1), tus_url(single))
    failed(run, 6, "takes no upload of %d bytes" % (5 * MI + 1),
           "at most %d bytes" % (5 * MI))
    assert single.seen("create") == []
    source = dump(5 * MI)
    done(haul.copy(source, tus_url(single)), 5 * MI)


def test_pipe_wants_a_length_that_comes_last(haul, resumable, dump):
    haul.trust(resumable)
    resumable.options(tus_extensions="creation")
    run = piped(haul, dump(MI), tus_url(resumable))
    failed(run, 2, "size", "file")
    assert resumable.seen("create") == []


@pytest.mark.parametrize("location", ["relative", "absolute", "https",
                                      "http"])
@pytest.mark.parametrize("size", [MI, 40 * MI])
def test_address_may_be_of_any_form(haul, joining, dump, location, size):
    """http: as behind a proxy that does not tell the server of TLS."""
    haul.trust(joining)
    source = dump(size)
    joining.options(location=location)
    done(haul.copy(source, tus_url(joining)), size)
    assert same(joining, source)


def test_address_on_another_server_gets_no_credentials(haul, single, dump):
    haul.trust(single)
    source = dump(MI)
    single.options(location="other", auth=None)
    run = haul.copy(source, tus_url(single), "--header", "X-Key: geheim",
                    "--header", "Authorization: Bearer geheim")
    done(run, MI)
    assert same(single, source)
    create, = single.seen("create")
    assert create["headers"]["authorization"] == "Bearer geheim"
    for r in single.seen("append"):
        assert r["headers"]["host"].startswith("localhost:")
        assert "geheim" not in str(r["headers"])
    no_secret(haul, run, "Bearer geheim")


def test_pipe_to_an_address_on_another_server(haul, single, dump):
    haul.trust(single)
    source = dump(MI)
    single.options(location="other")
    done(piped(haul, source, tus_url(single)), MI)
    assert same(single, source)


@pytest.mark.parametrize("location", [
    "http://other.test/files/x", "http://localhost:1/x", "ftp://127.0.0.1/x",
    "file:///etc/passwd", "https://", "https://[::1", "javascript:x"])
def test_address_that_is_not_followed(haul, single, dump, location):
    haul.trust(single)
    single.rule(op="create", times=0, location=location)
    run = haul.copy(dump(MI), tus_url(single), "--retries", 1,
                    "--give-up-after", 5)
    assert run.status in (4, 5, 6), run
    assert run.last["error"]
    assert single.seen("append") == []


# ---- Redirects --------------------------------------------------------------

@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("op", ["create", "append", "offset"])
def test_redirect_is_followed(haul, single, dump, status, op):
    haul.trust(single)
    source = dump(9 * MI)
    if op == "offset":
        single.rule(op="append", status=500)
    # To the same place by another name.
    where = "/files/" if op == "create" else "?again=1"
    single.rule(op=op, status=status, when="early",
                set={"Location": where})
    run = haul.copy(source, tus_url(single), *SOON)
    done(run, 9 * MI)
    assert same(single, source)
    assert single.seen(op)[0]["status"] == status
    assert len(single.seen(op)) == 2
    if op == "append":
        assert [r["query"] for r in single.seen(op)] == ["", "again=1"]


@pytest.mark.parametrize("where", ["http://127.0.0.1:9/x",
                                   "http://other.test/x"])
def test_redirect_never_leads_down_to_http(haul, single, dump, where):
    haul.trust(single)
    single.rule(op="append", times=0, status=307, when="early",
                set={"Location": where})
    run = haul.copy(dump(9 * MI), tus_url(single), "--retries", 1)
    assert run.status in (4, 5, 6), run
    assert single.finished() == []


# ---- Pages instead of answers -----------------------------------------------

PAGE = dict(status=200, body="<html><title>Log in</title></html>",
            set={"Content-Type": "text/html"}, when="early")


def test_page_instead_of_an_upload(haul, single, dump):
    haul.trust(single)
    single.rule(op="create", times=0, **PAGE)
    run = haul.copy(dump(MI), tus_url(single), "--retries", 1)
    failed(run, 4, "answered 200")


@pytest.mark.parametrize("op", ["append", "offset"])
def test_page_that_goes_away(haul, single, dump, op):
    haul.trust(single)
    source = dump(9 * MI)
    if op == "offset":
        single.rule(op="append", status=500)
    single.rule(op=op, **PAGE)
    done(haul.copy(source, tus_url(single), *SOON), 9 * MI)
    assert same(single, source)


def test_page_that_stays(haul, single, dump):
    haul.trust(single)
    single.rule(op=["append", "offset"], times=0, **PAGE)
    run = haul.copy(dump(9 * MI), tus_url(single), "--retries", 2)
    failed(run, 4)
    assert single.finished() == []


def test_server_that_is_none_of_tus(haul, nginx, dump):
    haul.trust(nginx)
    run = haul.copy(dump(MI), "tus+" + nginx.url("/dav/"), *PATIENCE)
    assert run.status in (4, 6), run
    assert "tus" in run.last["error"]


def test_server_that_no_longer_speaks_tus_is_asked_again(haul, resumable,
                                                         dump):
    """What was found out an hour ago is not true for ever."""
    haul.trust(resumable)
    source = dump(MI)
    done(haul.copy(source, tus_url(resumable)), MI)
    resumable.rule(op="create", status=404)
    run = haul.copy(source, tus_url(resumable), "--resume", "never", *SOON)
    done(run, MI)
    assert len(resumable.seen("discover")) == 2


# ---- Proxies ----------------------------------------------------------------

def front_url(front, port):
    return "tus+" + front.url("/files", port)


@pytest.mark.parametrize("door", ["port", "buffered", "unaware"])
@pytest.mark.parametrize("size", [0, 9 * MI + 5])
def test_nginx_in_front(haul, start, certs, tus, dump, door, size):
    front = start(upload_servers.Front, certs, tus.port)
    haul.trust(front)
    source = dump(size)
    done(haul.copy(source, front_url(front, getattr(front, door))), size)
    assert same(tus, source)


def test_nginx_with_a_small_limit(haul, start, certs, tus, dump):
    """client_max_body_size 1m, its default."""
    front = start(upload_servers.Front, certs, tus.port)
    haul.trust(front)
    source = dump(9 * MI + 5)
    done(haul.copy(source, front_url(front, front.small), *SOON),
         9 * MI + 5)
    assert same(tus, source)


@pytest.mark.parametrize("forwarded", [True, False])
def test_apache_in_front(haul, start, certs, tus, dump, forwarded):
    front = start(upload_servers.ApacheFront, certs, tus.port,
                  forwarded=forwarded)
    haul.trust(front)
    source = dump(9 * MI + 5)
    done(haul.copy(source, front_url(front, front.port)), 9 * MI + 5)
    assert same(tus, source)


@pytest.mark.parametrize("door, most", [("port", CHUNK),
                                        ("buffered", 12 * MI)])
def test_cut_before_a_proxy(haul, start, certs, tus, linksim, dump, door,
                            most):
    """Behind one that buffers all of the body is lost."""
    front = start(upload_servers.Front, certs, tus.port)
    front.port = getattr(front, door)
    link = linksim(front, "--reset-after", "10mi", "--rtt", 5,
                   "--rate", "50m")
    haul.trust(link)
    source = dump(24 * MI)
    run = haul.copy(source, "tus+" + link.url("/files"), *SOON)
    done(run, 24 * MI)
    assert same(tus, source)
    assert link.stats()["resets"] >= 1
    assert run.last["resent"] <= most * link.stats()["resets"]


def test_proxy_that_loses_its_server_for_a_while(haul, start, certs, tus,
                                                 dump):
    front = start(upload_servers.Front, certs, tus.port)
    haul.trust(front)
    source = dump(60 * MI)
    run = haul.start("copy", source, front_url(front, front.port),
                     "--rate-limit", "20mi", "--retries", 30)
    run.wait_for(lambda e: (e.get("sent") or 0) >= 20 * MI)
    port = tus.port
    tus.stop()
    time.sleep(1)
    tus.start(port)
    assert run.wait(60) == 0, run
    assert same(tus, source)
