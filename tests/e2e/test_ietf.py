"""Uploads by the IETF draft of resumable uploads, interop versions 3 to 8,
against a scripted server that keeps the rules until it is told to break one."""

import os
import re
import subprocess
import time

import conftest
import pytest
import upload_servers
from http_checks import PATIENCE, done, failed

MI = conftest.MI
# Bodies of 2 MiB at most, so that there are several.
LIMIT = "max-append-size=%d" % (2 * MI)
CHUNK = ("--chunk-size", "1mi")


@pytest.fixture
def server(haul, resumable):
    resumable.options(ietf_limit=LIMIT)
    haul.trust(resumable)
    return resumable


def tries(*more):
    """Enough patience for one failure, not for many."""
    return CHUNK + ("--stall-timeout", 2, "--give-up-after", 20) + more


def notes(run):
    return "\n".join(e["note"] for e in run.events if e["event"] == "note")


def sent(server, begin=0):
    """Bytes of bodies that came to it."""
    return sum(r["received"] for r in server.seen("append", begin=begin))


def whole(server, source, name="t", blind=False):
    """The target has the bytes, the rules were kept, nothing is left over.
    blind: a server that did not read could not see that a connection had
    been closed."""
    assert conftest.digest(server.ietf_file(name)) == conftest.digest(source)
    assert blind or server.overlaps() == []
    assert [u for u in server.uploads("ietf") if not u["complete"]] == []


def ends(server):
    """Requests that say that all is there."""
    return [r for r in server.seen() if
            r["headers"].get("upload-complete") == "?1" or
            r["headers"].get("upload-incomplete") == "?0"]


# ---- The way of the bytes ---------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, 2 * MI, 5 * MI + 7])
def test_upload_is_the_same_bytes(haul, server, dump, size):
    source = dump(size)
    run = haul.copy(source, server.ietf("t"), *CHUNK)
    done(run, size)
    whole(server, source)
    assert run.last["answer"]["status"] == 201
    assert run.last["answer"]["body"] == "stored\n"
    assert run.last["verified"] == "size", run
    assert "resumable uploads (interop version 8)" in notes(run)
    ops = [r["op"] for r in server.seen()]
    bodies = (size + 2 * MI - 1) // (2 * MI)
    assert ops == ["discover", "create"] + ["append"] * (bodies + 1)
    create = server.seen("create")[0]
    assert create["method"] == "PUT" and create["length"] == 0
    assert create["headers"]["upload-complete"] == "?0"
    assert create["headers"]["upload-length"] == str(size)
    for n, r in enumerate(server.seen("append")):
        assert r["offset"] == min(n * 2 * MI, size)
        assert r["length"] == min(2 * MI, size - r["offset"])
        assert r["headers"]["upload-complete"] == \
            ("?1" if n == bodies else "?0")
        assert r["headers"]["content-type"] == "application/partial-upload"
    assert sent(server) == size


@pytest.mark.parametrize("version", [3, 4, 5, 6, 7, 8] if conftest.LONG
                         else [3, 6, 8])
def test_every_version_is_spoken(haul, server, dump, version):
    server.options(ietf_versions=[version], ietf_unknown=412)
    if version < 6:
        # They know no discovery: what an answer names is what there is.
        server.rule(op="discover", times=0, set={
            "Upload-Draft-Interop-Version": version})
    source = dump(5 * MI)
    run = haul.copy(source, server.ietf("t"), *CHUNK)
    done(run, 5 * MI)
    whole(server, source)
    assert "interop version %d" % version in notes(run)
    for r in server.seen()[1:]:
        assert r["headers"]["upload-draft-interop-version"] == str(version)
        assert ("upload-incomplete" in r["headers"]) == \
            (version == 3 and r["op"] != "offset")


@pytest.mark.parametrize("version", [3, 5, 7] if conftest.LONG else [3])
def test_an_older_version_is_found_step_by_step(haul, server, dump, version):
    server.options(ietf_versions=[version], ietf_unknown=412)
    server.rule(op="discover", times=0, set={
        "Upload-Draft-Interop-Version": None, "Upload-Limit": "min-size=0"})
    source = dump(MI)
    done(haul.copy(source, server.ietf("t"), *CHUNK), MI)
    whole(server, source)
    # The next copy knows it.
    begin = len(server.seen())
    done(haul.copy(source, server.ietf("u"), *CHUNK), MI)
    assert [(r["op"], r["headers"]["upload-draft-interop-version"])
            for r in server.seen(begin=begin)] == \
        [("create", str(version))] + [("append", str(version))] * 2


def test_a_named_version_is_used(haul, server, dump):
    server.options(ietf_versions=[4], ietf_unknown=412)
    server.rule(op="discover", set={"Upload-Draft-Interop-Version": None,
                                    "Upload-Limit": "min-size=0"})
    server.rule(op="plain", status=412,
                headers={"Upload-Draft-Interop-Version": "4"})
    source = dump(MI)
    done(haul.copy(source, server.ietf("t"), *CHUNK), MI)
    whole(server, source)
    assert [r["headers"]["upload-draft-interop-version"]
            for r in server.seen() if r["op"] in ("plain", "create")] == \
        ["8", "4"]


def test_the_final_rfc_has_no_version(haul, server, dump):
    server.options(ietf_final=True)
    source = dump(3 * MI)
    done(haul.copy(source, server.ietf("t"), *CHUNK), 3 * MI)
    whole(server, source)


def test_no_version_in_common_is_an_error(haul, server, dump):
    server.options(ietf_versions=[9], ietf_unknown=412)
    server.rule(op="discover", times=0, set={"Upload-Limit": "min-size=0"})
    run = haul.copy(dump(MI), server.ietf("t"), *tries())
    failed(run, 6, "no version of the IETF draft", "put+https://")
    assert not os.path.exists(server.ietf_file("t"))


@pytest.mark.parametrize("style", ["absolute", "relative", "other", "http"])
def test_location_may_have_any_form(haul, server, dump, style):
    server.options(location=style, auth="Bearer t0p-secret")
    source = dump(3 * MI)
    if style == "other":
        # Another origin gets no credentials, and may want none.
        server.options(auth=None)
    header = ("--header", "Authorization: Bearer t0p-secret")
    done(haul.copy(source, server.ietf("t"), *CHUNK, *header), 3 * MI)
    whole(server, source)
    for r in server.seen("append"):
        assert ("authorization" in r["headers"]) == (style != "other")


def test_location_on_plain_http_is_refused(haul, server, dump):
    server.options(location="http://localhost:9/ietf-uploads/x")
    run = haul.copy(dump(MI), server.ietf("t"), *tries())
    failed(run, 6, "where nothing protects the bytes")
    assert server.seen("append") == []


def test_progress_by_104_is_no_answer(haul, server, dump):
    server.options(ietf_progress=256 << 10)
    source = dump(5 * MI + 1)
    done(haul.copy(source, server.ietf("t"), *CHUNK), 5 * MI + 1)
    whole(server, source)


def test_a_server_that_tells_little_is_enough(haul, server, dump):
    server.options(ietf_bare=True, ietf_104=False, ietf_versions=[6])
    source = dump(5 * MI)
    done(haul.copy(source, server.ietf("t"), *CHUNK), 5 * MI)
    whole(server, source)


def test_post_is_used_where_put_is_not_allowed(haul, server, dump):
    server.rule(op="create", method="PUT", status=405, times=0)
    source = dump(MI)
    done(haul.copy(source, server.ietf("t"), *CHUNK), MI)
    whole(server, source)
    begin = len(server.seen())
    done(haul.copy(source, server.ietf("u"), *CHUNK), MI)
    assert [r["method"] for r in server.seen("create", begin=begin)] == \
        ["POST"]
    named = server.seen("create")[-1]["headers"]["content-disposition"]
    assert named == "inline; filename*=UTF-8''dump.sql"


def test_allow_says_that_post_is_wanted(haul, server, dump):
    server.rule(op="discover", set={"Allow": "OPTIONS, POST"})
    source = dump(MI)
    done(haul.copy(source, server.ietf("t"), *CHUNK), MI)
    assert [r["method"] for r in server.seen("create")] == ["POST"]


def piped(haul, source, url, *options):
    with open(source, "rb") as f, \
            subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE) as cat:
        return haul("copy", *options, "-", url, stdin=cat.stdout)


@pytest.mark.parametrize("size", [0, 1, 5 * MI + 7])
def test_pipe_has_no_length(haul, server, dump, size):
    source = dump(size)
    run = piped(haul, source, server.ietf("t"), *CHUNK)
    done(run, size)
    whole(server, source)
    assert "upload-length" not in server.seen("create")[0]["headers"]
    assert len(ends(server)) == 1


def test_pipe_survives_a_cut(haul, server, dump):
    source = dump(9 * MI)
    server.rule(op="append", skip=2, action="drop", after_bytes=MI // 2)
    run = piped(haul, source, server.ietf("t"), *tries("--memory", "16mi"))
    done(run, 9 * MI)
    whole(server, source)


# ---- Limits -----------------------------------------------------------------

def test_bodies_keep_to_the_limits(haul, server, dump):
    server.options(ietf_limit="max-append-size=%d, min-append-size=%d" % (
        3 * MI, 2 * MI))
    source = dump(7 * MI + 5)
    done(haul.copy(source, server.ietf("t"), *CHUNK), 7 * MI + 5)
    whole(server, source)
    bodies = server.seen("append")
    assert all(r["length"] <= 3 * MI for r in bodies)
    assert all(r["length"] >= 2 * MI for r in bodies[:-1])
    # The rest is too small for anything but the end.
    assert bodies[-1]["length"] == 7 * MI + 5 - bodies[-1]["offset"]
    assert [r["number"] for r in ends(server)] == [bodies[-1]["number"]]


def test_small_object_is_one_body_that_ends_it(haul, server, dump):
    server.options(ietf_limit="min-append-size=%d" % (5 * MI))
    source = dump(MI)
    run = haul.copy(source, server.ietf("t"), *CHUNK)
    done(run, MI)
    whole(server, source)
    assert run.last["answer"]["body"] == "stored\n"
    assert [r["length"] for r in server.seen("append")] == [MI]


def test_too_large_is_said_before_a_byte_is_sent(haul, server, dump):
    server.options(ietf_limit="max-size=%d" % MI)
    run = haul.copy(dump(2 * MI), server.ietf("t"), *tries())
    failed(run, 6, "at most 1048576 bytes")
    assert [r["op"] for r in server.seen()] == ["discover"]


def test_limit_that_is_told_late_counts(haul, server, dump):
    server.options(ietf_limit="max-size=%d" % MI)
    server.rule(op="discover", times=0, set={"Upload-Limit": "min-size=0"})
    server.rule(op="create", status=201, set={
        "Location": "/ietf-uploads/x", "Upload-Limit": "max-size=%d" % MI})
    run = haul.copy(dump(2 * MI), server.ietf("t"), *tries())
    failed(run, 6, "at most 1048576 bytes")
    assert server.seen("append") == []


def test_smaller_bodies_after_413(haul, server, dump):
    server.options(ietf_limit="min-size=0", max_body=MI)
    source = dump(20 * MI)
    run = haul.copy(source, server.ietf("t"), *CHUNK, "--give-up-after", 60)
    done(run, 20 * MI)
    whole(server, source)
    assert max(r["length"] for r in server.seen("append")
               if r["status"] < 300) <= MI


def test_hostile_limits_are_survived(haul, server, dump):
    source = dump(MI)
    for n, limit in enumerate((
            "max-append-size=0", "max-append-size=1", "max-size=-1",
            "max-append-size=999999999999999999999", "x" * 5000,
            "max-size=\"a\", min-size=?1", "max-append-size=65536;a=(")):
        server.rule(op=["create", "discover"], path="t%d" % n, times=0,
                    set={"Upload-Limit": limit})
        if limit == "max-append-size=1":
            continue  # a request for each byte
        done(haul.copy(source, server.ietf("t%d" % n), *CHUNK), MI)
        whole(server, source, "t%d" % n)


# ---- What breaks once, at every state ---------------------------------------

STATES = ["create", "append", "end"]
CUTS = {
    "drop": {"action": "drop"},
    "reset": {"action": "drop", "rst": True},
    "answer": {"action": "lose_answer"},
    "hang": {"action": "hang"},
    "503": {"status": 503, "headers": {"Retry-After": "1"}},
    "502-late": {"status": 502, "when": "late"},
    "502-after": {"status": 502, "when": "after"},
    "500": {"status": 500},
    "429": {"status": 429, "headers": {"Retry-After": "1"}},
    "html": {"status": 504, "body": "@html", "when": "after"},
}


def state(name):
    """The rule for the one request of that state."""
    if name == "end":
        return {"op": "append", "header": {"Upload-Complete": r"\?1"}}
    return {"op": name, "skip": 1 if name == "append" else 0}


# HAUL_LONG=1 tries each failure at each state.
FAILURES = [(w, c) for w in STATES for c in CUTS
            if conftest.LONG or c in ("answer", "503") or
            (w, c) in (("append", "reset"), ("append", "hang"),
                       ("end", "502-after"), ("create", "html"))]


@pytest.mark.parametrize("where, cut", FAILURES)
def test_one_failure_is_survived(haul, server, dump, where, cut):
    server.rule(**state(where), **CUTS[cut])
    source = dump(7 * MI)
    run = haul.copy(source, server.ietf("t"), *tries())
    done(run, 7 * MI)
    whole(server, source, blind=cut == "hang")
    # What was confirmed is not sent again: one body at most.
    assert sent(server) <= 9 * MI
    assert run.last["resent"] <= 2 * MI


@pytest.mark.parametrize("bytes_", [1, 1000, MI + 1, 2 * MI - 1]
                         if conftest.LONG else [1000, 2 * MI - 1])
def test_cut_in_a_body_goes_on_where_it_was(haul, server, dump, bytes_):
    server.rule(op="append", skip=1, action="drop", after_bytes=bytes_)
    source = dump(7 * MI)
    run = haul.copy(source, server.ietf("t"), *tries())
    done(run, 7 * MI)
    whole(server, source)
    offset, = server.seen("offset")
    again = server.seen("append", begin=offset["number"])[0]
    assert again["offset"] == 2 * MI + bytes_
    # All that came was kept; some was on its way.
    assert sent(server) <= 9 * MI


def test_a_cut_in_every_body_still_gets_there(haul, server, dump):
    server.rule(op="append", times=0, action="drop", after_bytes=MI + 17,
                header={"Upload-Complete": r"\?0"})
    source = dump(5 * MI)
    run = haul.copy(source, server.ietf("t"), *CHUNK, "--give-up-after", 60)
    done(run, 5 * MI)
    whole(server, source)


def test_address_from_104_is_used_when_the_answer_is_lost(haul, server, dump):
    server.rule(op="create", action="lose_answer")
    source = dump(3 * MI)
    done(haul.copy(source, server.ietf("t"), *tries()), 3 * MI)
    whole(server, source)
    assert [r["op"] for r in server.seen()][:3] == \
        ["discover", "create", "offset"]


def test_104_of_another_version_is_ignored(haul, server, dump):
    server.rule(op="create", action="lose_answer",
                set104={"Upload-Draft-Interop-Version": "6"})
    source = dump(3 * MI)
    done(haul.copy(source, server.ietf("t"), *tries()), 3 * MI)
    assert len(server.seen("create")) == 2


def test_failing_offset_is_asked_again(haul, server, dump):
    server.rule(op="append", action="drop", skip=1, after_bytes=MI)
    server.rule(op="offset", status=503)
    server.rule(op="offset", skip=1, action="drop")
    source = dump(5 * MI)
    done(haul.copy(source, server.ietf("t"), *CHUNK, "--give-up-after", 60),
         5 * MI)
    whole(server, source)


# ---- What a server should not say -------------------------------------------

def test_success_with_a_smaller_offset_is_none(haul, server, dump):
    server.options(ietf_versions=[6])
    server.rule(op="append", skip=1, action="short", after_bytes=MI)
    source = dump(7 * MI)
    run = haul.copy(source, server.ietf("t"), *tries())
    done(run, 7 * MI)
    whole(server, source)
    assert server.seen("append")[2]["offset"] == 3 * MI


def test_offset_is_resynchronized_after_409(haul, server, dump):
    server.rule(op="append", skip=1, status=409)
    source = dump(5 * MI)
    done(haul.copy(source, server.ietf("t"), *tries()), 5 * MI)
    whole(server, source)
    assert len(server.seen("offset")) == 1


def test_locked_is_waited_for(haul, server, dump):
    server.rule(op="append", skip=1, status=423)
    source = dump(5 * MI)
    done(haul.copy(source, server.ietf("t"), *tries()), 5 * MI)
    whole(server, source)


def test_more_than_was_sent_is_refused(haul, server, dump):
    server.rule(op="append", skip=1, action="drop", after_bytes=MI)
    server.rule(op="offset", times=0, lie_offset=3 * MI)
    run = haul.copy(dump(9 * MI), server.ietf("t"), *tries())
    failed(run, 8, "claims", "--resume never")


def test_lost_bytes_are_sent_again(haul, server, dump):
    """A server that loses what it had confirmed."""
    server.rule(op="append", skip=2, action="drop")
    server.rule(op="offset", action="truncate", to=MI)
    source = dump(9 * MI)
    run = haul.copy(source, server.ietf("t"), *tries())
    done(run, 9 * MI)
    whole(server, source)


@pytest.mark.parametrize("gone", [404, 410] if conftest.LONG else [410])
@pytest.mark.parametrize("op", ["append", "offset"])
def test_upload_that_is_gone_begins_anew(haul, server, dump, op, gone):
    server.rule(op="append", skip=2, **(
        {"action": "forget", "gone": gone} if op == "append"
        else {"action": "drop", "after_bytes": MI + 1000}))
    if op == "offset":
        server.rule(op="offset", action="forget", gone=gone)
    source = dump(7 * MI)
    run = haul.copy(source, server.ietf("t"), *tries())
    done(run, 7 * MI)
    assert conftest.digest(server.ietf_file("t")) == conftest.digest(source)
    assert len(server.seen("create")) == 2


def test_refused_end_is_the_error(haul, server, dump):
    server.rule(**state("end"), status=422, when="after",
                headers={"Upload-Complete": "?1"}, body="virus found\n")
    source = dump(3 * MI)
    run = haul.copy(source, server.ietf("t"), *tries())
    failed(run, 6, "refuses the content")
    assert run.last["answer"]["status"] == 422
    assert run.last["answer"]["body"] == "virus found\n"
    # It is not asked again, and the next run has nothing to go on with.
    assert len(ends(server)) == 1
    run = haul.copy(source, server.ietf("t"), *tries())
    done(run, 3 * MI)
    assert run.last["resumed_from"] == 0
    assert len(server.seen("create")) == 2
    whole(server, source)


def test_failed_processing_is_not_repeated(haul, server, dump):
    server.rule(**state("end"), status=500, when="after",
                headers={"Upload-Complete": "?1"})
    run = haul.copy(dump(3 * MI), server.ietf("t"), *tries())
    failed(run, 6, "the server failed")
    assert len(ends(server)) == 1


def test_lost_answer_to_the_end_is_no_failure(haul, server, dump):
    server.rule(**state("end"), action="lose_answer")
    source = dump(3 * MI)
    run = haul.copy(source, server.ietf("t"), *tries())
    done(run, 3 * MI)
    whole(server, source)
    assert "it says that it has all of it" in notes(run)
    assert len(ends(server)) == 1


def test_early_success_is_none(haul, server, dump):
    server.rule(op="append", skip=1, status=204, when="early",
                headers={"Upload-Complete": "?0"})
    source = dump(5 * MI)
    done(haul.copy(source, server.ietf("t"), *tries()), 5 * MI)
    whole(server, source)


def test_complete_in_the_middle_is_no_success(haul, server, dump):
    server.rule(op="append", skip=1, set={"Upload-Complete": "?1"})
    source = dump(7 * MI)
    done(haul.copy(source, server.ietf("t"), *tries()), 7 * MI)
    whole(server, source)


@pytest.mark.parametrize("value", ["", "abc", "-1", "1.5", "99999999999999999",
                                   "18446744073709551616", "?1", "\"5\""]
                         if conftest.LONG else ["-1", "99999999999999999"])
def test_offset_that_is_none_is_no_answer(haul, server, dump, value):
    server.rule(op="append", skip=1, action="drop", after_bytes=MI)
    server.rule(op="offset", set={"Upload-Offset": value})
    source = dump(5 * MI)
    done(haul.copy(source, server.ietf("t"), *tries()), 5 * MI)
    whole(server, source)


@pytest.mark.parametrize("set_", [{"Location": None},
                                  {"Location": "ftp://127.0.0.1/x"},
                                  {"Location": "https://"},
                                  {"Location": "x" * 20000}])
def test_bad_location_is_an_error(haul, server, dump, set_):
    server.options(ietf_104=False)
    server.rule(op="create", times=0, set=set_)
    run = haul.copy(dump(MI), server.ietf("t"), *CHUNK, *PATIENCE)
    failed(run, (4, 6))
    assert server.seen("append") == []


# ---- Later runs -------------------------------------------------------------

def test_killed_copy_goes_on(haul, server, dump):
    source = dump(24 * MI)
    server.rule(op="append", times=0, slow=8 * MI)
    run = haul.start("copy", *CHUNK, source, server.ietf("t"))
    run.wait_acked(8 * MI)
    run.kill()
    run.wait()
    server.clear_rules()
    begin = len(server.seen())
    run = haul.copy(source, server.ietf("t"), *CHUNK)
    done(run, 24 * MI)
    whole(server, source)
    assert run.last["resumed_from"] >= 8 * MI
    # No discovery, no second upload; what it had was not sent again.
    ops = [r["op"] for r in server.seen(begin=begin)]
    assert ops[0] == "offset" and set(ops[1:]) == {"append"}
    assert sent(server, begin) <= 16 * MI


@pytest.mark.parametrize("after", [False, True] if conftest.LONG else [True])
@pytest.mark.parametrize("where", ["discover", "create", "append", "offset",
                                   "end"])
def test_kill_at_every_state(haul, server, dump, where, after):
    """after: the server did what it was asked, and the answer came too
    late."""
    if where == "offset":
        server.rule(op="append", skip=1, action="drop", after_bytes=MI)
        server.rule(op="offset", action="hang")
    else:
        server.rule(**state(where), **(
            {"delay": 30} if after else {"action": "hang"}))
    source = dump(7 * MI)
    run = haul.start("copy", *CHUNK, source, server.ietf("t"))
    last = "offset" if where == "offset" else None
    while run.process.poll() is None:
        reached = [r for r in server.ask("/_stats")["requests"]
                   if r["faults"] and last in (None, r["op"])]
        if reached:
            break
        time.sleep(0.01)
    assert reached
    run.kill()
    run.wait()
    server.clear_rules()
    done(haul.copy(source, server.ietf("t"), *CHUNK), 7 * MI)
    assert conftest.digest(server.ietf_file("t")) == conftest.digest(source)
    # One body of 2 MiB, and what nobody could know of.
    assert sent(server) <= 9 * MI
    assert len(server.seen("create")) <= (2 if where == "create" else 1)


def interrupted(haul, server, source, count, *options):
    """A copy that was ended when the server had count bytes."""
    server.rule(op="append", times=0, slow=8 * MI)
    run = haul.start("copy", *CHUNK, *options, source, server.ietf("t"))
    run.wait_acked(count)
    run.kill(conftest.signal.SIGINT)
    assert run.wait() == 130
    server.clear_rules()


def test_upload_that_expired_begins_anew(haul, server, dump):
    source = dump(16 * MI)
    interrupted(haul, server, source, 4 * MI)
    server.rule(op="offset", action="forget")
    run = haul.copy(source, server.ietf("t"), *CHUNK)
    done(run, 16 * MI)
    assert run.last["resumed_from"] == 0
    whole(server, source, blind=True)


def test_bytes_lost_between_runs_are_sent_again(haul, server, dump):
    source = dump(16 * MI)
    interrupted(haul, server, source, 6 * MI)
    server.rule(op="offset", action="truncate", to=2 * MI + 11)
    run = haul.copy(source, server.ietf("t"), *CHUNK)
    done(run, 16 * MI)
    whole(server, source, blind=True)


def test_an_end_that_nobody_heard_of_is_found(haul, server, dump):
    source = dump(4 * MI)
    server.rule(**state("end"), action="lose_answer")
    server.rule(op="offset", times=0, action="drop")
    run = haul.copy(source, server.ietf("t"), *CHUNK, *PATIENCE)
    failed(run, 4)
    server.clear_rules()
    begin = len(server.seen())
    done(haul.copy(source, server.ietf("t"), *CHUNK), 4 * MI)
    whole(server, source)
    assert sent(server, begin) == 0
    assert len(ends(server)) == 1


def test_changed_source_is_never_mixed(haul, server, dump):
    source = dump(16 * MI)
    interrupted(haul, server, source, 4 * MI)
    dump(16 * MI, seed=2)
    run = haul.copy(source, server.ietf("t"), *CHUNK)
    failed(run, 8)
    done(haul.copy(source, server.ietf("t"), *CHUNK, "--resume", "never"),
         16 * MI)
    assert conftest.digest(server.ietf_file("t")) == conftest.digest(source)


def test_cancel_removes_the_upload(haul, server, dump):
    source = dump(16 * MI)
    interrupted(haul, server, source, 4 * MI)
    listed = haul("jobs", "list", stdout=subprocess.PIPE)
    jobs = listed.process.stdout.read().decode()
    ident = re.search(r"^\s*(\d+)", jobs, re.M)[1]
    run = haul("jobs", "cancel", ident, "--cacert", haul.cacert,
               stdout=subprocess.PIPE)
    assert run.status == 0, run
    assert server.uploads("ietf") == []
    assert not os.path.exists(server.ietf_file("t"))


# ---- Options ----------------------------------------------------------------

def test_digests_are_compared_when_asked_for(haul, server, dump):
    """sha-256 of what went out against the Repr-Digest of the server."""
    source = dump(7 * MI + 3)
    server.rule(op="append", skip=1, action="drop", after_bytes=MI + 1)
    server.rule(op="append", skip=2, action="lose_answer")
    run = haul.copy(source, server.ietf("t"), *tries("--verify", "remote"))
    done(run, 7 * MI + 3)
    whole(server, source)
    assert run.last["verified"] == "remote", run
    assert server.seen("create")[0]["headers"]["want-repr-digest"] == \
        "sha-256=10"
    done(haul.copy(source, server.ietf("u"), *CHUNK), 7 * MI + 3)
    assert "want-repr-digest" not in server.seen("create")[1]["headers"]


def test_small_rest_is_compared_too(haul, server, dump):
    server.options(ietf_limit="min-append-size=%d" % (5 * MI))
    run = haul.copy(dump(MI), server.ietf("t"), *CHUNK, "--verify", "remote")
    done(run, MI)
    assert run.last["verified"] == "remote", run


def test_digest_that_differs_is_the_end(haul, server, dump):
    server.rule(op="append", skip=1, corrupt=5)
    source = dump(5 * MI)
    run = haul.copy(source, server.ietf("t"), *tries("--verify", "remote"))
    failed(run, 7, "differs from that of what was sent")
    assert len(ends(server)) == 1
    # The next one begins anew.
    run = haul.copy(source, server.ietf("t"), *tries("--verify", "remote"))
    done(run, 5 * MI)
    assert run.last["resumed_from"] == 0
    assert conftest.digest(server.ietf_file("t")) == conftest.digest(source)


@pytest.mark.parametrize("value", [None, "", "sha-256=::", "md5=:AAAA:",
                                   "sha-256=:AAAA:", "x" * 3000]
                         if conftest.LONG else [None, "sha-256=:AAAA:"])
def test_no_usable_digest_compares_nothing(haul, server, dump, value):
    server.rule(op="append", times=0, set={"Repr-Digest": value})
    run = haul.copy(dump(MI), server.ietf("t"), *CHUNK, "--verify", "remote")
    failed(run, (2, 6), "compared nothing")


@pytest.mark.parametrize("location, told", [
    ("/elsewhere/1", True), ("https://127.0.0.1/x?sig=a", True),
    ("http://127.0.0.1/x", False), ("", False), (None, False)])
def test_address_of_the_result_is_told(haul, server, dump, location, told):
    server.rule(op="append", times=0, set={"Location": location},
                header={"Upload-Complete": r"\?1"})
    run = haul.copy(dump(MI), server.ietf("t"), *CHUNK)
    done(run, MI)
    assert run.last["answer"]["status"] == 201
    assert ("location" in run.last["answer"] and
            run.last["answer"]["location"] is not None) == told, run


def test_no_clobber_is_asked_of_the_server(haul, server, dump):
    source = dump(MI)
    done(haul.copy(source, server.ietf("t"), *CHUNK, "--no-clobber"), MI)
    assert server.seen("create")[0]["headers"]["if-none-match"] == "*"
    run = haul.copy(source, server.ietf("t"), *CHUNK, "--no-clobber")
    failed(run, 3, "exists")


def test_login_is_the_usual_one(haul, server, dump):
    server.options(auth="Basic am9lOmdlaGVpbQ==")
    url = server.ietf("t").replace("://", "://joe:geheim@")
    source = dump(3 * MI)
    done(haul.copy(source, url, *CHUNK), 3 * MI)
    whole(server, source)
    run = haul.copy(source, server.ietf("u"), *tries())
    failed(run, 5)


@pytest.mark.parametrize("port", ["port", "buffered"])
def test_behind_nginx(haul, start, certs, dump, port):
    # nginx 1.22 takes a 104 for the answer and waits for its end.
    behind = start(upload_servers.Resumable, certs, tls=False,
                   ietf_limit=LIMIT, ietf_104=False)
    front = start(upload_servers.Front, certs, behind.port)
    haul.trust(front)
    source = dump(9 * MI)
    behind.rule(op="append", skip=2, action="drop", after_bytes=MI)
    run = haul.copy(source, front.url("/ietf/t", getattr(front, port)),
                    *tries())
    done(run, 9 * MI)
    whole(behind, source)
    # Behind a proxy that keeps the request first, one body is lost at most.
    assert run.last["resent"] <= 2 * MI
