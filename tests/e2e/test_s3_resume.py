"""Uploads to S3 that break, are killed, or are cut off by somebody else."""

import os
import signal
import sqlite3
import time

import conftest
import pytest
from http_checks import done, failed, warnings
from s3_place import MI, PART, SIX, SOON, Place, number


@pytest.fixture
def mock(haul, resumable):
    return Place(haul, resumable)


@pytest.fixture
def swift_place(haul, swift):
    return Place(haul, swift, swift.bucket())


def wait_seen(server, op, count=1, timeout=30):
    """Until so many requests have come that are not over."""
    end = time.monotonic() + timeout
    while True:
        found = [r for r in server.stats()["requests"] if r["op"] == op]
        if len(found) >= count:
            return found
        assert time.monotonic() < end, op
        time.sleep(0.02)


def kill(run, sig=signal.SIGKILL):
    run.kill(sig)
    return run.wait(30)


def tamper(haul, statement, *values):
    with sqlite3.connect(haul.state) as db:
        changed = db.execute(statement, values).rowcount
    db.close()
    assert changed > 0


# ---- Killed at every state --------------------------------------------------

@pytest.mark.parametrize("op, when, orphans", [
    ("head", "delay_before", 0), ("create", "delay_before", 0),
    ("create", "delay", 1), ("part", "delay_before", 0), ("part", "delay", 0),
    ("complete", "delay_before", 0), ("complete", "delay", 0)])
def test_killed_while(mock, dump, op, when, orphans):
    """Before the server does it, and when it has done it."""
    source = dump(SIX)
    skip = 3 if op == "part" else 0
    mock.server.rule(op=op, skip=skip, times=0, **{when: 20})
    run = mock.start(source)
    wait_seen(mock.server, op, skip + 1)
    time.sleep(1)
    assert kill(run) == -9
    before = mock.numbers() if op != "part" else []
    mock.server.clear_rules()
    begin = mock.count()
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source)
    assert len(mock.unfinished()) == orphans
    sent = mock.numbers(begin)
    assert len(sent) == len(set(sent))
    if op == "complete":
        assert before == [1, 2, 3, 4, 5, 6] and sent == []
        assert run.last["resumed_from"] == SIX


def test_killed_while_the_parts_of_swift_go(swift_place, linksim, dump):
    place, swift = swift_place, swift_place.server
    link = linksim(swift.front, "--rate", "20m")
    place.options = ["--endpoint", link.url("")]
    source = dump(SIX)
    run = place.start(source, "--connections", 2)
    run.wait_acked(2 * PART)
    assert kill(run) == -9
    (key, upload), = swift.uploads(place.bucket)
    there = swift.parts(place.bucket, key, upload)
    run = place.put(source, "--connections", 2)
    done(run, SIX)
    assert run.last["resumed_from"] >= 2 * PART
    assert run.last["resumed_from"] <= sum(s for s, _ in there.values())
    assert swift.uploads(place.bucket) == []
    with open(source, "rb") as f:
        assert swift.get(place.bucket, "dump") == f.read()


def test_interrupted_in_order_goes_on(mock, dump):
    source = dump(SIX)
    mock.server.rule(op="part", slow=8 * MI, times=0)
    run = mock.start(source, "--connections", 2)
    run.wait_acked(2 * PART)
    assert kill(run, signal.SIGINT) == 130
    mock.server.clear_rules()
    begin = mock.count()
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source)
    assert run.last["resumed_from"] >= 2 * PART
    assert len(mock.numbers(begin)) <= 4
    assert [r["op"] for r in mock.seen("create", begin=begin)] == []


def wait_kept(haul, parts, timeout=10):
    """Until notes of so many parts are in the store."""
    end = time.monotonic() + timeout
    while True:
        with sqlite3.connect(haul.state) as db:
            (count,), = db.execute("SELECT count(*) FROM notes")
        db.close()
        if count >= parts:
            return
        assert time.monotonic() < end
        time.sleep(0.05)


def interrupted(mock, source, *options):
    """A copy that has three parts at the server and three not."""
    mock.server.rule(op="part", path="partNumber=[456]&", delay_before=30,
                     times=0)
    run = mock.start(source, *options)
    run.wait_acked(3 * PART)
    wait_kept(mock.haul, 3)
    assert kill(run) == -9
    mock.server.clear_rules()
    assert mock.unfinished()[0]["parts"].keys() == {"1", "2", "3"}
    return mock.count()


def test_list_of_parts_comes_in_pages(mock, dump):
    source = dump(SIX)
    begin = interrupted(mock, source)
    mock.server.options(s3_page=2)
    done(mock.put(source), SIX)
    assert mock.same(source)
    assert len(mock.seen("parts", begin=begin)) == 2
    assert mock.numbers(begin) == [4, 5, 6]


def test_resumed_copy_is_compared_as_a_whole(mock, dump):
    source = dump(SIX)
    interrupted(mock, source)
    run = mock.put(source)
    done(run, SIX)
    assert run.last["verified"] == "remote", run


# ---- What the server lost, or has too much of -------------------------------

def test_part_that_the_server_lost_is_sent_again(mock, dump):
    source = dump(SIX)
    begin = interrupted(mock, source)
    mock.server.rule(op="parts", action="truncate", to=2)
    done(mock.put(source), SIX)
    assert mock.same(source)
    assert mock.numbers(begin) == [3, 4, 5, 6]


def test_part_that_is_another_one_is_sent_again(mock, dump):
    """Somebody wrote over it."""
    source = dump(SIX)
    begin = interrupted(mock, source)
    upload = mock.unfinished()[0]["key"]
    for body in (b"x" * PART, b"short"):
        a = mock.server.s3.part("bucket", "dump", upload,
                                2 if len(body) == PART else 3, body)
        assert a.status == 200
    done(mock.put(source), SIX)
    assert mock.same(source)
    assert mock.numbers(begin) == [2, 2, 3, 3, 4, 5, 6]


def test_part_without_a_note_is_sent_again(mock, dump):
    """Written by nobody that this store knows of."""
    source = dump(SIX)
    begin = interrupted(mock, source)
    tamper(mock.haul, "DELETE FROM notes WHERE part = 1")
    done(mock.put(source), SIX)
    assert mock.same(source)
    assert mock.numbers(begin) == [2, 4, 5, 6]


@pytest.mark.parametrize("note", [
    "", "size=8388608", "size=8388608\netag=00000000000000000000000000000000"
    "\nmd5=\ncompared=1\n", "size=18446744073709551616\netag=a\nmd5=\n"
    "compared=1\n", "size=1\netag=b\nmd5=zz\ncompared=1\n", "\n\n=\n"])
def test_note_that_was_changed_is_not_believed(mock, dump, note):
    source = dump(SIX)
    begin = interrupted(mock, source)
    tamper(mock.haul, "UPDATE notes SET note = ? WHERE part = 0", note)
    done(mock.put(source), SIX)
    assert mock.same(source)
    assert mock.numbers(begin) == [1, 4, 5, 6]


@pytest.mark.parametrize("old, new", [
    ("part=8388608", "part=16777216"), ("part=8388608", "part=8388607"),
    ("grow=0", "grow=7"), ("upload=", "upload=x"), ("etag=md5", "etag=none"),
    ("\n", "")])
def test_token_that_was_changed_is_exit_8(mock, dump, old, new):
    source = dump(SIX)
    begin = interrupted(mock, source)
    tamper(mock.haul, "UPDATE objects SET token = replace(token, ?, ?)", old,
           new)
    for _ in range(2):
        failed(mock.put(source), 8, "--resume never")
    assert mock.seen("part", "create", "complete", begin=begin) == []
    run = mock.put(source, "--resume", "never")
    done(run, SIX)
    assert mock.same(source)
    # Which upload that was nobody knows any more.
    assert "stays there" in warnings(run)
    assert len(mock.unfinished()) == 1


def test_parts_behind_the_end_are_exit_8(mock, dump):
    source = dump(SIX)
    interrupted(mock, source)
    upload = mock.unfinished()[0]["key"]
    assert mock.server.s3.part("bucket", "dump", upload, 7,
                               b"more").status == 200
    for _ in range(2):
        failed(mock.put(source), 8, "behind the end")
    assert len(mock.unfinished()) == 1
    done(mock.put(source, "--resume", "never"), SIX)
    assert mock.unfinished() == []


def test_another_endpoint_is_exit_8(mock, dump, start, certs):
    source = dump(SIX)
    interrupted(mock, source)
    other = start(conftest.upload_servers.Resumable, certs, tls=True)
    there = Place(mock.haul, other)
    failed(there.put(source), 8, mock.server.endpoint)
    assert other.uploads("s3") == []
    done(mock.put(source), SIX)
    begin = interrupted(mock, dump(SIX, "other.sql", seed=2))
    run = there.put(os.path.join(mock.haul.work, "other.sql"), "--resume",
                    "never")
    done(run, SIX)
    assert "stays there" in warnings(run)
    assert mock.seen(begin=begin) == []


def test_open_that_fails_keeps_what_was_begun(mock, dump):
    """Who may not list parts today may do so tomorrow."""
    source = dump(SIX)
    begin = interrupted(mock, source)
    mock.server.rule(op="parts", status=403, times=2)
    for _ in range(2):
        failed(mock.put(source), 6, "no permission")
    done(mock.put(source), SIX)
    assert mock.numbers(begin) == [4, 5, 6]


def test_source_that_changed_is_exit_8(mock, dump):
    interrupted(mock, dump(SIX))
    os.utime(dump(SIX, seed=2), ns=(0, 1600000000 * 10**9))
    failed(mock.put(os.path.join(mock.haul.work, "dump.sql")), 8, "changed")


def test_upload_that_somebody_aborted_starts_again(mock, dump):
    """Between two runs."""
    source = dump(SIX)
    begin = interrupted(mock, source)
    upload = mock.unfinished()[0]["key"]
    assert mock.server.s3.abort("bucket", "dump", upload).status == 204
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source) and mock.unfinished() == []
    assert mock.numbers(begin) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("op", ["part", "complete"])
def test_upload_that_somebody_aborts_meanwhile_starts_again(mock, dump, op):
    source = dump(SIX)
    mock.server.rule(op=op, skip=3 if op == "part" else 0, action="forget")
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source) and mock.unfinished() == []
    assert len(mock.seen("create")) == 2
    if op == "complete":
        assert run.last["resent"] >= SIX


def test_upload_of_swift_that_somebody_aborts(swift_place, dump):
    place, swift = swift_place, swift_place.server
    source = dump(SIX)
    run = place.start(source, "--rate-limit", "10m", "--connections", 2)
    run.wait_acked(PART)
    (key, upload), = swift.uploads(place.bucket)
    assert swift.s3.abort(place.bucket, key, upload).status == 204
    assert run.wait(90) == 0, run
    assert swift.uploads(place.bucket) == []
    with open(source, "rb") as f:
        assert swift.get(place.bucket, "dump") == f.read()


# ---- Answers that are lost --------------------------------------------------

def test_part_whose_answer_is_lost_is_not_sent_again(mock, dump):
    source = dump(SIX)
    mock.server.rule(op="part", path="partNumber=[25]&", times=2,
                     action="lose_answer")
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source)
    assert [number(r) for r in mock.seen("part")].count(2) == 1
    assert [number(r) for r in mock.seen("part")].count(5) == 1
    assert len(mock.seen("parts")) == 2
    assert run.last["verified"] == "remote"


@pytest.mark.parametrize("repeat", [True, False])
def test_answer_to_complete_is_lost(mock, dump, repeat):
    """A server repeats it, or knows the upload no more."""
    mock.server.options(s3_repeat=repeat)
    mock.server.rule(op="complete", action="lose_answer")
    source = dump(SIX)
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source)
    assert len(mock.seen("part")) == 6
    assert run.last["verified"] == "remote"


def test_answer_to_complete_is_lost_with_no_clobber(mock, dump):
    """The second is told that the object is there: it is ours."""
    mock.server.options(s3_repeat=True)
    mock.server.rule(op="complete", action="lose_answer")
    source = dump(SIX)
    done(mock.put(source, "--no-clobber"), SIX)
    assert mock.same(source)


def test_complete_takes_its_time(mock, dump):
    """White space first, then what it is."""
    mock.server.rule(op="complete", blank=4)
    source = dump(SIX)
    done(mock.put(source, "--stall-timeout", 1), SIX)
    assert mock.same(source)
    assert len(mock.seen("complete")) == 1


@pytest.mark.parametrize("body", ["@internal-error", "@blank-internal-error",
                                  "@slow-down"])
def test_complete_fails_with_200(mock, dump, body):
    mock.server.rule(op="complete", status=200, body=body, times=2)
    source = dump(SIX)
    done(mock.put(source), SIX)
    assert mock.same(source)
    assert len(mock.seen("complete")) == 3
    assert len(mock.seen("part")) == 6


def test_complete_that_never_works_ends(mock, dump):
    mock.server.rule(op="complete", status=200, body="@internal-error",
                     times=0)
    source = dump(SIX)
    failed(mock.put(source, "--retries", 2), 6, "the server failed")
    assert len(mock.seen("complete")) == 3
    mock.server.clear_rules()
    begin = mock.count()
    done(mock.put(source), SIX)
    assert mock.numbers(begin) == []


@pytest.mark.parametrize("rule", [
    {"action": "drop", "after_bytes": 5 * MI}, {"action": "drop"},
    {"action": "drop", "after_bytes": MI, "rst": True},
    {"status": 500}, {"status": 503, "headers": {"Retry-After": "1"}},
    {"status": 503, "body": "@slow-down", "when": "early"},
    {"status": 502, "body": "@html", "when": "late"},
    {"action": "short", "after_bytes": MI}])
def test_part_that_breaks_is_sent_again(mock, dump, rule):
    source = dump(SIX)
    mock.server.rule(op="part", path="partNumber=[14]&", times=2, **rule)
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source)
    assert len(mock.seen("create")) == 1
    assert run.last["resent"] <= 2 * PART


def test_connection_that_hangs_is_given_up(mock, dump):
    source = dump(SIX)
    mock.server.rule(op="part", path="partNumber=2&", action="hang",
                     after_bytes=MI)
    run = mock.put(source, "--stall-timeout", 2)
    done(run, SIX)
    assert mock.same(source)


@pytest.mark.parametrize("op", ["create", "head", "complete"])
def test_requests_that_break_are_repeated(mock, dump, op):
    mock.server.rule(op=op, action="drop", times=2)
    source = dump(PART + 1)
    done(mock.put(source), PART + 1)
    assert mock.same(source)


def test_waiting_as_long_as_the_server_wants(mock, dump):
    mock.server.rule(op="create", status=503, headers={"Retry-After": "3"})
    source = dump(5)
    begin = time.monotonic()
    done(mock.put(source), 5)
    assert time.monotonic() - begin >= 3


def test_link_that_is_cut_again_and_again(mock, linksim, dump):
    """At any byte: at most a part of each stream goes twice."""
    link = linksim(mock.server, "--reset-after", "21mi", "--rtt", 2)
    mock.options = ["--endpoint", link.url("")]
    source = dump(SIX)
    run = mock.put(source, "--connections", 2)
    done(run, SIX)
    assert mock.same(source)
    assert link.stats()["resets"] >= 1
    assert run.last["resent"] <= 2 * PART * link.stats()["resets"]


# ---- Nothing is left --------------------------------------------------------

def jobs(haul, *args, **more):
    return haul("jobs", *args, **more)


def test_cancel_aborts_the_upload(mock, dump):
    source = dump(SIX)
    interrupted(mock, source)
    with sqlite3.connect(mock.haul.state) as db:
        (job,), = db.execute("SELECT id FROM transfers")
    db.close()
    run = jobs(mock.haul, "cancel", str(job), "--cacert", mock.haul.cacert,
               *mock.options)
    assert run.status == 0, run
    assert mock.unfinished() == []
    done(mock.put(source), SIX)
    assert mock.same(source)


def test_cancel_of_what_is_gone_is_no_error(mock, dump):
    interrupted(mock, dump(SIX))
    upload = mock.unfinished()[0]["key"]
    assert mock.server.s3.abort("bucket", "dump", upload).status == 204
    with sqlite3.connect(mock.haul.state) as db:
        (job,), = db.execute("SELECT id FROM transfers")
    db.close()
    run = jobs(mock.haul, "cancel", str(job), "--cacert", mock.haul.cacert,
               *mock.options)
    assert run.status == 0, run


def test_resume_never_aborts_the_old_upload(mock, dump):
    source = dump(SIX)
    interrupted(mock, source)
    done(mock.put(source, "--resume", "never"), SIX)
    assert mock.same(source) and mock.unfinished() == []


def test_pipe_that_fails_leaves_no_upload(mock, dump):
    """It cannot be continued."""
    mock.server.rule(op="part", path="partNumber=2&", status=403,
                     body="@escaped", times=0)
    failed(mock.pipe(dump(SIX), "--retries", 0, "--memory", "64mi"), 6)
    assert mock.unfinished() == []


def test_pipe_that_is_interrupted_leaves_no_upload(mock, dump):
    mock.server.rule(op="part", slow=MI, times=0)
    run = mock.haul.start("copy", "-", mock.url(), *mock.options,
                          stdin=open(dump(SIX), "rb"))
    wait_seen(mock.server, "part")
    assert kill(run, signal.SIGINT) == 130
    assert mock.unfinished() == []


def test_copy_that_never_sent_a_part_leaves_no_upload(mock, dump):
    mock.server.rule(op="part", status=403, times=0)
    run = mock.put(dump(SIX), *SOON)
    failed(run, 6, "no permission")
    assert mock.unfinished() == []
