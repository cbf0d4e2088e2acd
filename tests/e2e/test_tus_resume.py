"""tus: what a second run finds, what a server may have lost, and what is left
behind."""

import json
import signal
import sqlite3
import time

import conftest
import pytest
from http_checks import done, failed, warnings
from test_command import plain
from test_tus import (CHUNK, MI, PART, SOON, joining, notes, partials, same,
                      single, tus_url)

# Imported to be fixtures.
assert joining and single


# The client is slow, not the server: nothing is on its way for long after it
# was killed.
SLOWLY = ("--rate-limit", "24mi")


def interrupted(haul, server, source, at, *options, sig=signal.SIGKILL):
    """A run that ends when so much is acknowledged."""
    run = haul.start("copy", source, tus_url(server), *SLOWLY, *options)
    run.wait_acked(at)
    run.kill(sig)
    run.wait()
    settle(server)
    return run


def settle(server):
    """Until the server has seen the end of all connections."""
    end = time.monotonic() + 10
    while any(u["writing"] for u in server.uploads("tus")):
        assert time.monotonic() < end
        time.sleep(0.02)


def token(haul):
    with sqlite3.connect(haul.state) as db:
        (text,), = db.execute("SELECT token FROM objects")
    return text


def jobs(haul, *args):
    return plain(haul, "jobs", "--state", haul.state, *args)


def cancel(haul, *options):
    job, = map(json.loads, jobs(haul, "list", "--json").stdout.splitlines())
    return jobs(haul, "cancel", *options, str(job["id"]))


# ---- Going on ---------------------------------------------------------------

@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("options", [(), ("--connections", 1)])
def test_second_run_sends_what_is_missing(haul, resumable, dump, sig,
                                          options):
    """With checksums: a chunk at a time is acknowledged."""
    haul.trust(resumable)
    source = dump(48 * MI)
    interrupted(haul, resumable, source, 20 * MI, *options, sig=sig)
    had = sum(u["offset"] for u in resumable.uploads("tus"))
    begin = len(resumable.stats()["requests"])
    run = haul.copy(source, tus_url(resumable), *options)
    done(run, 48 * MI)
    assert same(resumable, source)
    assert resumable.overlaps() == []
    assert run.last["resumed_from"] == had >= 20 * MI
    assert "has %d bytes of an earlier run" % had in notes(run)
    assert run.last["resent"] == 0
    assert run.last["verified"] == "remote"
    sent = [r for r in resumable.seen("append", begin=begin)]
    assert sum(r["received"] for r in sent) == 48 * MI - had
    assert resumable.seen("create", begin=begin) == []
    assert resumable.seen("discover", begin=begin) == []


@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_moment(haul, joining, dump, moment):
    """Some of the parts may not be made yet, others not be named."""
    haul.trust(joining)
    source = dump(144 * MI)
    run = haul.start("copy", source, tus_url(joining), "--connections", 4,
                     "--rate-limit", "64mi")
    time.sleep(0.1 + 0.3 * moment)
    run.kill()
    run.wait()
    settle(joining)
    run = haul.copy(source, tus_url(joining))
    done(run, 144 * MI)
    assert same(joining, source)
    assert joining.overlaps() == []
    # Orphans are empty.
    named = joining.seen("final")[-1]["headers"]["upload-concat"]
    for part in partials(joining):
        assert part["key"] in named or part["offset"] == 0


def test_single_body_that_was_cut_counts(haul, single, dump):
    """Nothing of it was acknowledged; the server has it all the same."""
    haul.trust(single)
    source = dump(40 * MI)
    run = haul.start("copy", source, tus_url(single), *SLOWLY)
    run.wait_for(lambda e: (e.get("sent") or 0) >= 12 * MI)
    run.kill()
    run.wait()
    settle(single)
    had, = (u["offset"] for u in single.uploads("tus"))
    assert had >= 4 * MI
    run = haul.copy(source, tus_url(single))
    done(run, 40 * MI)
    assert same(single, source)
    assert run.last["resumed_from"] == had


def test_npm_server_goes_on(haul, tus, dump):
    source = dump(40 * MI)
    run = haul.start("copy", source, tus_url(tus), "--rate-limit", "16mi")
    run.wait_for(lambda e: (e.get("sent") or 0) >= 12 * MI)
    run.kill()
    run.wait()
    run = haul.copy(source, tus_url(tus))
    done(run, 40 * MI)
    assert same(tus, source)
    assert run.last["resumed_from"] >= 4 * MI
    assert tus.overlaps() == []
    assert len(tus.uploads()) == 1


def test_changed_source_is_not_mixed(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(24 * MI)
    interrupted(haul, resumable, source, 8 * MI)
    dump(24 * MI, seed=2)
    run = haul.copy(source, tus_url(resumable))
    if run.status == 0:
        assert same(resumable, source)
    else:
        failed(run, 8)
        assert resumable.finished() == []


def committing(haul, server, source, op):
    """A run whose last request is under way, or has been."""
    run = haul.start("copy", source, tus_url(server))
    run.wait_for(lambda e: e.get("state") == "committing")
    end = time.monotonic() + 10
    while op not in [r["op"] for r in server.stats()["requests"]]:
        assert time.monotonic() < end
        time.sleep(0.02)
    return run


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_while_parts_are_joined(haul, joining, dump, sig):
    """The server does not hear of it and joins them all the same."""
    haul.trust(joining)
    source = dump(32 * MI)
    joining.rule(op="final", delay=2)
    run = committing(haul, joining, source, "final")
    run.kill(sig)
    begin = time.monotonic()
    assert run.wait(20) == (130 if sig == signal.SIGINT else -9)
    assert time.monotonic() - begin < 2
    run = haul.copy(source, tus_url(joining))
    done(run, 32 * MI)
    assert run.last["resumed_from"] == 32 * MI
    assert len(joining.seen("append")) == 4
    for path in joining.finished():
        assert conftest.digest(path) == conftest.digest(source)
    assert joining.seen("final")[-1]["headers"]["upload-metadata"]


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_when_parts_have_been_joined(haul, joining, dump, sig):
    haul.trust(joining)
    source = dump(32 * MI)
    joining.rule(op="offset", set={"Upload-Offset": None}, times=0)
    run = committing(haul, joining, source, "offset")
    run.kill(sig)
    assert run.wait(20) == (130 if sig == signal.SIGINT else -9)
    joining.clear_rules()
    run = haul.copy(source, tus_url(joining))
    done(run, 32 * MI)
    assert same(joining, source)
    assert len(joining.seen("final")) == 1
    assert len(joining.seen("append")) == 4


def test_joined_upload_that_went_meanwhile(haul, joining, dump):
    haul.trust(joining)
    source = dump(32 * MI)
    joining.rule(op="offset", set={"Upload-Offset": None}, times=0)
    run = committing(haul, joining, source, "offset")
    run.kill()
    run.wait()
    joining.clear_rules()
    joining.rule(op="offset", action="forget")
    done(haul.copy(source, tus_url(joining)), 32 * MI)
    assert same(joining, source)
    assert len(joining.seen("final")) == 2
    assert len(joining.seen("append")) == 4


# ---- What the server lost ---------------------------------------------------

@pytest.mark.parametrize("gone", [404, 410, 403])
@pytest.mark.parametrize("options", [(), ("--connections", 1)])
def test_upload_that_is_gone_begins_anew(haul, resumable, dump, gone,
                                         options):
    haul.trust(resumable)
    source = dump(40 * MI)
    interrupted(haul, resumable, source, 12 * MI, *options)
    resumable.rule(op="offset", times=5, status=gone)
    run = haul.copy(source, tus_url(resumable), *options)
    done(run, 40 * MI)
    assert same(resumable, source)
    assert run.last["resumed_from"] == 0
    assert "no longer has the unfinished upload" in warnings(run)


def test_that_it_begins_anew_is_said_once(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(40 * MI)
    interrupted(haul, resumable, source, 12 * MI)
    resumable.rule(op="offset", times=5, action="forget")
    resumable.rule(op="create", status=503, skip=2)
    run = haul.copy(source, tus_url(resumable))
    done(run, 40 * MI)
    assert same(resumable, source)
    assert warnings(run).count("no longer has the unfinished upload") == 1
    assert notes(run).count("to be joined at the end") == 1
    assert 503 in [r["status"] for r in resumable.seen("create")]


def test_one_part_that_is_gone_is_made_again(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(40 * MI)
    interrupted(haul, resumable, source, 20 * MI)
    first = resumable.seen("append")[0]["path"]
    resumable.rule(op="offset", path=first, action="forget")
    begin = len(resumable.stats()["requests"])
    run = haul.copy(source, tus_url(resumable))
    done(run, 40 * MI)
    assert same(resumable, source)
    assert len(resumable.seen("create", begin=begin)) == 1
    assert run.last["resumed_from"] >= 20 * MI - PART


@pytest.mark.parametrize("action", [
    dict(action="forget"), dict(action="forget", gone=410),
    dict(action="truncate", to=MI), dict(action="truncate", to=0)])
def test_server_that_loses_bytes_in_a_run(haul, resumable, dump, action):
    """What it had confirmed is not there any more."""
    haul.trust(resumable)
    source = dump(24 * MI)
    resumable.options(tus_extensions="creation,checksum,termination")
    # An answer is lost, and with it what was there.
    resumable.rule(op="append", skip=2, status=502, when="late")
    resumable.rule(op="offset", **action)
    run = haul.copy(source, tus_url(resumable), *SOON)
    done(run, 24 * MI)
    assert same(resumable, source)
    assert resumable.overlaps() == []


def test_server_that_loses_a_part_in_a_run(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(40 * MI)
    resumable.rule(op="append", skip=5, status=502, when="late")
    resumable.rule(op="offset", action="forget")
    run = haul.copy(source, tus_url(resumable), *SOON)
    done(run, 40 * MI)
    assert same(resumable, source)
    assert len(resumable.seen("create")) == 6


def test_server_that_loses_everything_always(haul, resumable, dump):
    haul.trust(resumable)
    resumable.rule(op="append", times=0, status=404)
    run = haul.copy(dump(9 * MI), tus_url(resumable), "--retries", 2, *SOON)
    failed(run, (4, 6))
    assert len(resumable.seen("append")) <= 8


def test_server_that_loses_bytes_between_runs(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(40 * MI)
    interrupted(haul, resumable, source, 20 * MI, "--connections", 1)
    resumable.rule(op="offset", action="truncate", to=5 * MI + 3)
    run = haul.copy(source, tus_url(resumable), "--connections", 1)
    done(run, 40 * MI)
    assert same(resumable, source)
    assert run.last["resumed_from"] == 5 * MI + 3
    # The rest of that chunk came under a checksum of its own, its beginning
    # under none that is known of.
    assert run.last["verified"] == "size"


# ---- Lies -------------------------------------------------------------------

@pytest.mark.parametrize("lie", [-1, -MI, -9 * MI, 1, MI, 9 * MI])
def test_success_with_another_offset_is_none(haul, single, dump, lie):
    haul.trust(single)
    source = dump(9 * MI + 5)
    single.rule(op="append", lie_offset=lie)
    run = haul.copy(source, tus_url(single), *SOON)
    done(run, 9 * MI + 5)
    assert same(single, source)
    assert [r["op"] for r in single.seen()][-2:] == ["append", "offset"]


@pytest.mark.parametrize("what", [
    {"Upload-Offset": None}, {"Upload-Offset": ""}, {"Upload-Offset": "-1"},
    {"Upload-Offset": "9437189 "}, {"Upload-Offset": "9437189, 9437189"},
    {"Upload-Offset": "99999999999999999999999"}])
def test_success_without_an_offset_is_none(haul, single, dump, what):
    haul.trust(single)
    source = dump(9 * MI + 5)
    single.rule(op="append", set=what)
    run = haul.copy(source, tus_url(single), *SOON)
    done(run, 9 * MI + 5)
    assert same(single, source)


def test_more_than_was_sent_is_refused(haul, single, dump):
    haul.trust(single)
    source = dump(9 * MI)
    single.rule(op="append", action="drop", after_bytes=2 * MI)
    single.rule(op="offset", set={"Upload-Offset": str(9 * MI + 1)})
    run = haul.copy(source, tus_url(single), *SOON)
    failed(run, 8, "claims", "--resume never")


def test_more_than_the_source_has_is_refused_in_another_run(haul, resumable,
                                                            dump):
    haul.trust(resumable)
    source = dump(24 * MI)
    interrupted(haul, resumable, source, 8 * MI)
    resumable.rule(op="offset", times=0,
                   set={"Upload-Offset": str(25 * MI)})
    failed(haul.copy(source, tus_url(resumable)), 8, "claims")


def test_upload_of_another_length_is_refused(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(24 * MI)
    interrupted(haul, resumable, source, 8 * MI)
    resumable.rule(op="offset", times=0,
                   set={"Upload-Length": str(23 * MI)})
    run = haul.copy(source, tus_url(resumable))
    failed(run, 8, "of %d bytes there" % (23 * MI), "--resume never")
    resumable.clear_rules()
    run = haul.copy(source, tus_url(resumable), "--resume", "never")
    done(run, 24 * MI)
    assert same(resumable, source)


@pytest.mark.parametrize("change", [
    ("part=8388608", "part=8388609"), ("part=8388608", "part=4194304"),
    ("part=8388608", "part=0"), ("part=8388608", "part=x"),
    ("url0=", "url1=x\nurl0="), ("way=tus\n", "way=tus\nrubbish\n")])
def test_changed_state_is_refused(haul, resumable, dump, change):
    haul.trust(resumable)
    source = dump(40 * MI)
    interrupted(haul, resumable, source, 8 * MI)
    before = token(haul)
    assert change[0] in before
    with sqlite3.connect(haul.state) as db:
        db.execute("UPDATE objects SET token = ?",
                   (before.replace(*change, 1),))
    run = haul.copy(source, tus_url(resumable))
    failed(run, 8, "--resume never")
    assert resumable.finished() == []
    done(haul.copy(source, tus_url(resumable), "--resume", "never"), 40 * MI)
    assert same(resumable, source)


# ---- Expiry -----------------------------------------------------------------

def test_expired_upload_is_told(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(24 * MI)
    resumable.options(tus_expires=2)
    interrupted(haul, resumable, source, 8 * MI)
    time.sleep(2.5)
    run = haul.copy(source, tus_url(resumable))
    done(run, 24 * MI)
    assert same(resumable, source)
    said = warnings(run)
    assert "no longer has the unfinished upload" in said
    assert "It was to be kept until 2" in said and "UTC" in said


def test_upload_that_may_expire_any_time_goes_on(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(24 * MI)
    resumable.rule(op="create", set={
        "Upload-Expires": "Wed, 01 Jan 2020 00:00:00 GMT"})
    interrupted(haul, resumable, source, 8 * MI)
    run = haul.copy(source, tus_url(resumable))
    done(run, 24 * MI)
    assert run.last["resumed_from"] >= 8 * MI
    assert "at any time" in warnings(run)
    assert "2020-01-01 00:00:00 UTC" in warnings(run)


# ---- Removing ---------------------------------------------------------------

@pytest.mark.parametrize("options", [(), ("--connections", 1)])
def test_cancelled_job_leaves_nothing(haul, resumable, dump, options):
    haul.trust(resumable)
    source = dump(40 * MI)
    interrupted(haul, resumable, source, 12 * MI, *options)
    assert resumable.uploads("tus")
    run = cancel(haul, "--cacert", haul.cacert)
    assert run.returncode == 0, run
    assert resumable.uploads("tus") == []
    assert all(r["status"] == 204 for r in resumable.seen("delete"))


@pytest.mark.parametrize("fault", [
    dict(status=404), dict(status=405), dict(status=501), dict(status=403)])
def test_server_that_removes_nothing(haul, resumable, dump, fault):
    haul.trust(resumable)
    source = dump(16 * MI)
    interrupted(haul, resumable, source, 4 * MI)
    resumable.rule(op="delete", times=0, **fault)
    run = cancel(haul, "--cacert", haul.cacert)
    assert run.returncode == 0, run


def test_npm_upload_is_removed(haul, tus, dump):
    source = dump(40 * MI)
    run = haul.start("copy", source, tus_url(tus), "--rate-limit", "16mi")
    run.wait_for(lambda e: (e.get("sent") or 0) >= 8 * MI)
    run.kill()
    run.wait()
    assert len(tus.uploads()) == 1
    assert cancel(haul).returncode == 0
    assert tus.uploads() == []


def test_pipe_that_is_interrupted_leaves_nothing(haul, resumable, dump):
    """Nobody could go on."""
    haul.trust(resumable)
    with open(dump(24 * MI), "rb") as f:
        run = haul.start("copy", "-", tus_url(resumable), *SLOWLY, stdin=f)
        run.wait_acked(CHUNK)
        run.kill(signal.SIGINT)
        assert run.wait(20) == 130, run
    resumable.clear_rules()
    assert resumable.uploads("tus") == []


def test_never_resumes_when_not_wanted(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(24 * MI)
    interrupted(haul, resumable, source, 8 * MI)
    run = haul.copy(source, tus_url(resumable), "--resume", "never")
    done(run, 24 * MI)
    assert same(resumable, source)
    assert run.last["resumed_from"] == 0
    # What was left has gone.
    assert len(resumable.uploads("tus")) == 1


def test_address_of_the_upload_is_not_told(haul, resumable, dump):
    """Who knows it can write there and remove it."""
    haul.trust(resumable)
    source = dump(24 * MI)
    run = interrupted(haul, resumable, source, 8 * MI, sig=signal.SIGINT)
    key, = (u["key"] for u in resumable.uploads("tus"))
    assert key not in run.stderr + str(run.events)
    for command in (("list",), ("list", "--json"), ("show", "1")):
        listed = jobs(haul, *command)
        assert listed.returncode == 0
        assert key not in listed.stdout + listed.stderr
    assert key in token(haul)
