"""How the way to write to a server is found out: one OPTIONS request, believed
for a day, and what becomes of it when it is not so."""

import os
import re
import sqlite3
import subprocess
import time

import conftest
import pytest
from http_checks import PATIENCE, done, failed

MI = conftest.MI


def notes(run):
    return "\n".join(e["note"] for e in run.events if e["event"] == "note")


@pytest.fixture
def server(haul, resumable):
    haul.trust(resumable)
    return resumable


def facts(haul):
    """What is kept: {key: value}."""
    with sqlite3.connect(haul.state) as db:
        return dict(db.execute("SELECT key, value FROM facts"))


def change(haul, text):
    """Another value for all facts."""
    with sqlite3.connect(haul.state) as db:
        db.execute("UPDATE facts SET value = ?", (text,))


def ops(server, begin=0):
    return [r["op"] for r in server.seen(begin=begin)]


# ---- What is found ----------------------------------------------------------

def test_the_draft_is_found(haul, server, dump):
    run = haul.copy(dump(MI), server.ietf("a/t"))
    done(run, MI)
    assert ops(server)[:2] == ["discover", "create"]
    assert "'%s' speaks the IETF draft" % server.ietf("a/t") in notes(run)
    seen = server.seen("discover")[0]
    assert seen["method"] == "OPTIONS" and seen["length"] == 0
    assert seen["headers"]["upload-draft-interop-version"] == "8"
    assert "tus-resumable" not in seen["headers"]


def test_tus_is_found(haul, server, dump):
    run = haul.copy(dump(MI), server.tus())
    done(run, MI)
    assert "discover" == ops(server)[0]
    assert re.search(r"speaks tus 1\.0\.0 \(creation,.*concatenation.*: "
                     r"sha1,sha256,md5,crc32\)", notes(run)), notes(run)
    path, = server.finished()
    assert os.path.getsize(path) == MI


def test_a_plain_put_is_what_is_left(haul, server, dump):
    source = dump(MI)
    run = haul.copy(source, server.put("t"))
    done(run, MI)
    assert ops(server) == ["discover", "put"]
    assert "takes a plain PUT: it cannot be continued" in notes(run)
    assert conftest.digest(server.put_file("t")) == conftest.digest(source)


@pytest.mark.parametrize("kind", ["nginx", "apache", "liar"])
def test_ordinary_servers_take_a_plain_put(haul, request, dump, kind):
    ordinary = request.getfixturevalue(kind)
    haul.trust(ordinary)
    source = dump(MI)
    folder = "" if kind == "liar" else "/dav"
    run = haul.copy(source, ordinary.url(folder + "/t"))
    done(run, MI)
    assert "plain PUT" in notes(run)
    assert conftest.digest(ordinary.dav + "/t") == conftest.digest(source)


@pytest.mark.parametrize("headers", [
    {"Accept-Patch": "application/partial-upload",
     "Upload-Draft-Interop-Version": None, "Upload-Limit": None},
    {"Accept-Patch": "text/x, application/partial-upload;a=b",
     "Upload-Draft-Interop-Version": None, "Upload-Limit": None},
    {"Accept-Patch": None, "Upload-Draft-Interop-Version": None,
     "Upload-Limit": "min-size=0"},
    {"Accept-Patch": None, "Upload-Draft-Interop-Version": "8",
     "Upload-Limit": None}])
def test_each_sign_of_the_draft_is_enough(haul, server, dump, headers):
    server.rule(op="discover", set=headers)
    done(haul.copy(dump(MI), server.ietf("t")), MI)
    assert "create" in ops(server)


@pytest.mark.parametrize("headers", [
    {"Tus-Version": "0.2.2"}, {"Tus-Version": None}, {"Tus-Version": "1.0.01"},
    {"Tus-Extension": "termination"}, {"Tus-Extension": None}])
def test_what_is_no_tus_is_not_taken_for_it(haul, server, dump, headers):
    server.rule(op="discover", times=0, set=headers)
    run = haul.copy(dump(MI), server.tus(), *PATIENCE)
    assert "plain PUT" in notes(run)
    assert "create" not in ops(server)


# ---- Answers that say little ------------------------------------------------

@pytest.mark.parametrize("status", [400, 403, 404, 405, 501]
                         if conftest.LONG else [404, 501])
def test_a_server_that_does_not_know_options(haul, server, dump, status):
    server.rule(op="discover", times=0, status=status,
                headers={"Upload-Limit": "min-size=0",
                         "Tus-Version": "1.0.0"})
    done(haul.copy(dump(MI), server.put("t")), MI)
    assert ops(server) == ["discover", "put"]
    # It is known now.
    begin = len(server.seen())
    done(haul.copy(dump(MI), server.put("u")), MI)
    assert ops(server, begin) == ["put"]


@pytest.mark.parametrize("fault", [
    {"action": "drop"}, {"action": "hang"}, {"status": 500},
    {"status": 200, "body": "@huge"}])
def test_no_answer_is_no_fact(haul, server, dump, fault):
    server.rule(op="discover", times=0, **fault)
    run = haul.copy(dump(MI), server.put("t"), "--stall-timeout", 1)
    done(run, MI)
    assert "put" in ops(server)
    assert not any(k.startswith("speaks") for k in facts(haul))


@pytest.mark.parametrize("fault", [
    {"action": "drop"}, {"action": "lose_answer"}, {"status": 502},
    {"status": 503, "headers": {"Retry-After": "1"}}, {"status": 429}])
def test_one_failure_does_not_cost_the_way(haul, server, dump, fault):
    server.rule(op="discover", **fault)
    run = haul.copy(dump(MI), server.ietf("t"))
    done(run, MI)
    assert "create" in ops(server)


def test_no_connection_is_an_outage(haul, server, dump):
    url = server.ietf("t")
    server.stop()
    run = haul.copy(dump(MI), url, *PATIENCE)
    failed(run, 4, "no connection")


def test_hostile_answers_are_survived(haul, server, dump):
    for n, set_ in enumerate((
            {"Upload-Limit": "a" * 60000, "Accept-Patch": None,
             "Upload-Draft-Interop-Version": None},
            {"Tus-Version": "1.0.0" + ",1.0.0" * 9000},
            {"Tus-Version": "\x1b[2J1.0.0\x07"},
            {"Upload-Draft-Interop-Version": "99999999999999999999",
             "Upload-Limit": "max-size=-1", "Allow": ",,;" * 1000})):
        server.rule(op="discover", path="t%d" % n, set=set_)
        run = haul.copy(dump(MI), server.ietf("t%d/x" % n), *PATIENCE)
        assert run.status in (0, 4, 6), run
        assert "\x1b" not in run.stderr + notes(run)


# ---- Logins -----------------------------------------------------------------

def test_options_gets_the_login(haul, server, dump):
    server.options(auth="Bearer t0p-secret")
    done(haul.copy(dump(MI), server.ietf("t"), "--header",
                   "Authorization: Bearer t0p-secret"), MI)
    assert server.seen("discover")[0]["headers"]["authorization"] == \
        "Bearer t0p-secret"


def test_refused_login_is_the_error(haul, server, dump):
    server.rule(op="discover", times=0, status=401)
    run = haul.copy(dump(MI), server.ietf("t"), "--header",
                    "Authorization: Bearer wrong")
    failed(run, 5)
    assert ops(server) == ["discover"]


def test_signed_address_may_be_good_for_put_only(haul, server, dump):
    server.rule(op="discover", times=0, status=401)
    done(haul.copy(dump(MI), server.put("t") + "?sig=abc"), MI)
    assert ops(server) == ["discover", "put"]


# ---- The scheme -------------------------------------------------------------

def test_put_and_post_ask_nothing(haul, server, dump):
    source = dump(MI)
    done(haul.copy(source, "put+" + server.ietf("t")), MI)
    done(haul.copy(source, "post+" + server.ietf("u")), MI)
    assert "discover" not in ops(server)
    assert not any(k.startswith("speaks") for k in facts(haul))


def test_tus_by_scheme_needs_tus(haul, server, dump):
    run = haul.copy(dump(MI), "tus+" + server.ietf("t"))
    failed(run, 6, "does not speak tus 1.0.0", "tus+")
    assert ops(server) == ["discover"]


def test_tus_by_scheme_does_not_fall_back(haul, server, dump):
    server.rule(op="discover", times=0, status=404)
    run = haul.copy(dump(MI), "tus+" + server.tus())
    failed(run, 6, "does not speak tus")
    run = haul.copy(dump(MI), "tus+" + server.put("t"))
    failed(run, 6, "does not speak tus")


def piped(haul, source, url):
    with open(source, "rb") as f, \
            subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE) as cat:
        return haul("copy", "-", url, stdin=cat.stdout)


def test_pipe_goes_by_put_where_the_size_must_be_known(haul, server, dump):
    server.options(tus_extensions="creation")
    run = piped(haul, dump(MI), server.tus())
    assert "has to know the size: a plain PUT" in notes(run)
    assert "create" not in ops(server)


def test_too_little_for_the_draft_goes_by_put(haul, server, dump):
    server.options(ietf_limit="min-size=%d" % (2 * MI))
    source = dump(MI)
    run = haul.copy(source, server.ietf("t"))
    done(run, MI)
    assert "not for so little: a plain PUT" in notes(run)
    assert ops(server) == ["discover", "plain"]
    assert conftest.digest(server.ietf_file("t")) == conftest.digest(source)
    done(haul.copy(dump(2 * MI), server.ietf("u")), 2 * MI)
    assert "create" in ops(server)


# ---- What is kept -----------------------------------------------------------

def test_it_is_asked_once_a_folder(haul, server, dump):
    source = dump(MI)
    for name in ("a/x", "a/y", "b/x"):
        done(haul.copy(source, server.ietf(name)), MI)
    assert [r["path"] for r in server.seen("discover")] == \
        ["/ietf/a/x", "/ietf/b/x"]
    base = server.url("")
    assert sorted(k for k in facts(haul) if k.startswith("speaks")) == [
        "speaks %s/ietf/%s/" % (base, f) for f in "ab"]


def test_a_top_level_place_stands_for_itself(haul, server, dump):
    done(haul.copy(dump(MI), server.tus() + "?token=geheim"), MI)
    key, = [k for k in facts(haul) if k.startswith("speaks")]
    assert key == "speaks " + server.tus()


def test_what_is_believed_is_said(haul, server, dump):
    source = dump(MI)
    done(haul.copy(source, server.ietf("t")), MI)
    value = next(iter(facts(haul).values()))
    found = int(re.search(r"\bat=(\d+)", value)[1])
    assert abs(found - time.time()) < 60
    run = haul.copy(source, server.ietf("u"))
    done(run, MI)
    assert "(from an earlier run)" in notes(run)
    assert len(server.seen("discover")) == 1


def test_it_is_said_once(haul, server, dump):
    """However often an open is repeated."""
    server.rule(op="create", status=503, times=2)
    run = haul.copy(dump(MI), server.ietf("t"))
    done(run, MI)
    assert notes(run).count("speaks the IETF draft") == 1


@pytest.mark.parametrize("age", [86401, -100])
def test_it_is_believed_for_a_day(haul, server, dump, age):
    """And not when it comes from the future."""
    source = dump(MI)
    done(haul.copy(source, server.ietf("t")), MI)
    value = next(iter(facts(haul).values()))
    change(haul, re.sub(r"at=\d+", "at=%d" % (time.time() - age), value))
    done(haul.copy(source, server.ietf("u")), MI)
    assert len(server.seen("discover")) == 2


@pytest.mark.parametrize("text", [
    "", "way=ietf", "at=1 way=ietf", "at= way=ietf", "at=x way=ietf",
    "at=NOW", "at=NOW way=", "at=NOW way=gopher", "at=NOW  way=ietfs",
    "at=NOWway=ietf", "x" * 5000][::None if conftest.LONG else 4])
def test_what_is_no_fact_is_asked_again(haul, server, dump, text):
    source = dump(MI)
    done(haul.copy(source, server.ietf("t")), MI)
    change(haul, text.replace("NOW", str(int(time.time()))))
    done(haul.copy(source, server.ietf("u")), MI)
    assert len(server.seen("discover")) == 2


@pytest.mark.parametrize("text", [
    "at=NOW way=ietf interop=99999999999999999999 size_max=-1 append_max=x",
    "at=NOW   way=ietf    unknown=1 alone interop=8"])
def test_odd_numbers_of_a_fact_count_as_not_said(haul, server, dump, text):
    source = dump(MI)
    done(haul.copy(source, server.ietf("t")), MI)
    change(haul, text.replace("NOW", str(int(time.time()))))
    done(haul.copy(source, server.ietf("u")), MI)
    assert len(server.seen("discover")) == 1


# ---- When it is not so any more ---------------------------------------------

@pytest.mark.parametrize("believed", [
    "at=NOW way=ietf interop=8", "at=NOW way=tus extensions=creation sums="])
def test_what_is_not_so_is_forgotten(haul, server, dump, believed):
    """The server was changed: it takes plain PUTs only."""
    source = dump(MI)
    done(haul.copy(source, server.put("t")), MI)
    change(haul, believed.replace("NOW", str(int(time.time()))))
    server.rule(op="put", header={"Upload-Complete": "0"}, status=405, times=0)
    begin = len(server.seen())
    run = haul.copy(source, server.put("u"))
    done(run, MI)
    assert conftest.digest(server.put_file("u")) == conftest.digest(source)
    assert ops(server, begin)[-2:] == ["discover", "put"]
    assert "way=put" in "".join(facts(haul).values())


def test_an_upload_keeps_its_way(haul, server, dump):
    """What was begun by the draft is not gone on with by tus."""
    source = dump(24 * MI)
    server.options(ietf_limit="max-append-size=%d" % MI)
    server.rule(op="append", times=0, slow=8 * MI)
    run = haul.start("copy", "--chunk-size", "1mi", source, server.ietf("t"))
    run.wait_acked(6 * MI)
    run.kill()
    run.wait()
    server.clear_rules()
    server.rule(op="discover", times=0, set={"Tus-Version": "1.0.0",
                                             "Tus-Extension": "creation"})
    change(haul, "at=%d way=tus extensions=creation sums=" % time.time())
    begin = len(server.seen())
    run = haul.copy(source, server.ietf("t"), "--chunk-size", "1mi")
    done(run, 24 * MI)
    assert run.last["resumed_from"] >= 6 * MI
    assert set(ops(server, begin)) == {"offset", "append"}
