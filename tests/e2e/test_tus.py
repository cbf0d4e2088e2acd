"""Uploads by tus 1.0.0 that go well, break and go on: @tus/server from npm,
proxies in front of it, and the scripted server for what those lack."""

import base64
import subprocess

import conftest
import pytest
from http_checks import done, failed

MI = conftest.MI
CHUNK = 4 * MI
PART = 8 * MI  # the smallest
# Cut off the network tests are short of patience.
SOON = ("--stall-timeout", 2, "--give-up-after", 30)


def piped(haul, source, url, *options):
    with open(source, "rb") as f, \
            subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE) as cat:
        return haul("copy", "-", url, *options, stdin=cat.stdout)


def tus_url(server, **options):
    """tus+https:// and the address that makes uploads."""
    return "tus+" + server.tus(**options)


def same(server, source):
    """One upload is whole, and it has these bytes."""
    path, = server.finished()
    return conftest.digest(path) == conftest.digest(source)


def partials(server):
    return [u for u in server.uploads("tus") if u["concat"] == "partial"]


def notes(run):
    return "\n".join(e["note"] for e in run.events if e["event"] == "note")


@pytest.fixture(params=["resumable", "tus"])
def any_server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def joining(resumable):
    """Joins parts, without checksums: bodies are as long as they may be."""
    resumable.options(tus_extensions="creation,termination,concatenation,"
                                     "creation-defer-length,expiration")
    return resumable


@pytest.fixture
def single(resumable):
    """Neither joins parts nor knows checksums."""
    resumable.options(tus_extensions="creation,termination,"
                                     "creation-defer-length,expiration")
    return resumable


# ---- The bytes --------------------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, CHUNK, 9 * MI + 5])
def test_upload_is_the_same_bytes(haul, any_server, dump, size):
    haul.trust(any_server)
    source = dump(size)
    run = haul.copy(source, tus_url(any_server))
    done(run, size)
    assert same(any_server, source)
    assert any_server.overlaps() == []
    assert run.last["resent"] == 0
    # Where it is nobody else would tell.
    key, = (u["key"] for u in any_server.uploads())
    assert run.last["answer"]["location"].endswith("/files/" + key)


@pytest.mark.parametrize("size", [0, 1, 9 * MI + 5])
def test_pipe_tells_its_length_last(haul, any_server, dump, size):
    haul.trust(any_server)
    source = dump(size)
    run = piped(haul, source, tus_url(any_server))
    done(run, size)
    assert same(any_server, source)


def test_pipe_of_known_end_fits_into_little_memory(haul, single, dump):
    """A body is not longer than what a pipe can be kept of."""
    haul.trust(single)
    source = dump(70 * MI)
    run = piped(haul, source, tus_url(single), "--memory", "24mi")
    done(run, 70 * MI)
    assert same(single, source)


def test_bodies_are_bounded_and_grow(haul, single, dump):
    haul.trust(single)
    source = dump(200 * MI + 1)
    done(haul.copy(source, tus_url(single)), 200 * MI + 1)
    assert same(single, source)
    lengths = [int(r["headers"]["content-length"])
               for r in single.seen("append")]
    assert lengths == [64 * MI, 128 * MI, 8 * MI + 1]


def test_only_the_first_body_waits_to_be_wanted(haul, joining, dump):
    haul.trust(joining)
    done(haul.copy(dump(64 * MI), tus_url(joining), "--connections", 2),
         64 * MI)
    asked = [r for r in joining.seen("append") if "expect" in r["headers"]]
    assert 1 <= len(asked) <= 2


def test_file_is_named_as_the_source(haul, any_server, dump):
    haul.trust(any_server)
    source = dump(MI, name="sales \u00fc, 1.dump")
    done(haul.copy(source, tus_url(any_server)), MI)
    if any_server.name == "tus":
        upload, = any_server.uploads()
        assert upload["metadata"] == {"filename": "sales \u00fc, 1.dump"}
    else:
        create, = any_server.seen("create")
        assert filename(create) == "sales \u00fc, 1.dump"


def test_https_finds_tus_and_makes_it_in_the_folder(haul, resumable, dump):
    """There is nothing that could be made at the name."""
    haul.trust(resumable)
    source = dump(MI, name="mine.dump")
    run = haul.copy(source, resumable.url("/files/"))
    done(run, MI)
    assert "speaks tus 1.0.0" in notes(run)
    assert same(resumable, source)
    assert [(r["path"], r["status"]) for r in resumable.seen("create")] == \
        [("/files/mine.dump", 404), ("/files/", 201)]


def test_https_to_the_npm_server(haul, tus, dump):
    """It makes an upload wherever it is asked to."""
    source = dump(MI, name="mine.dump")
    done(haul.copy(source, tus.url("/files/")), MI)
    done(haul.copy(source, tus.url("/files")), MI)
    assert [u["metadata"] for u in tus.uploads()] == \
        [{"filename": "mine.dump"}] * 2
    for path in tus.finished():
        assert conftest.digest(path) == conftest.digest(source)


def filename(request):
    name, _, value = request["headers"].get("upload-metadata",
                                            "").partition(" ")
    return base64.b64decode(value).decode() if name == "filename" else None


def test_file_may_get_another_name(haul, resumable, dump):
    haul.trust(resumable)
    done(haul.copy(dump(MI), resumable.url("/files/other.dump")), MI)
    assert filename(resumable.seen("create")[-1]) == "other.dump"


def test_pipe_has_the_name_of_the_target_or_none(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(MI)
    done(piped(haul, source, resumable.url("/files/piped.dump")), MI)
    assert filename(resumable.seen("create")[-1]) == "piped.dump"
    done(piped(haul, source, tus_url(resumable)), MI)
    assert filename(resumable.seen("create")[-1]) is None


def test_second_upload_does_not_ask_again(haul, single, dump):
    haul.trust(single)
    source = dump(MI)
    for _ in range(2):
        done(haul.copy(source, tus_url(single), "--resume", "never"), MI)
    assert len(single.seen("discover")) == 1
    assert len(single.finished()) == 2


# ---- Parts ------------------------------------------------------------------

def test_large_object_goes_in_parts_that_are_joined(haul, joining, dump):
    haul.trust(joining)
    source = dump(100 * MI + 5)
    run = haul.copy(source, tus_url(joining))
    done(run, 100 * MI + 5)
    assert same(joining, source)
    assert joining.overlaps() == []
    made = joining.seen("create")
    assert [int(r["headers"]["upload-length"]) for r in made[:1]] == [PART]
    assert sum(int(r["headers"]["upload-length"]) for r in made) == \
        100 * MI + 5
    assert len(made) == 13
    assert all(r["headers"]["upload-concat"] == "partial" and
               "upload-metadata" not in r["headers"] for r in made)
    final, = joining.seen("final")
    assert "upload-length" not in final["headers"]
    assert filename(final) == "dump.sql"
    assert run.last["streams"] > 1 and run.last["verified"] == "size"
    assert "13 parts of 8 MiB, to be joined" in notes(run)


def test_parts_are_made_while_others_are_sent(haul, joining, dump):
    haul.trust(joining)
    source = dump(144 * MI)
    joining.rule(op="create", skip=8, times=0, delay_before=0.5)
    done(haul.copy(source, tus_url(joining)), 144 * MI)
    assert same(joining, source)
    made = joining.seen("create")
    assert len(made) == 18
    assert joining.seen("append")[0]["begin"] < min(r["end"]
                                                    for r in made[8:])
    assert joining.overlaps() == []


@pytest.mark.parametrize("fault", [dict(status=503), dict(action="drop"),
                                   dict(action="lose_answer")])
def test_part_that_is_not_made_ahead_is_made_in_its_turn(haul, joining, dump,
                                                         fault):
    haul.trust(joining)
    source = dump(144 * MI)
    joining.rule(op="create", skip=9, times=2, **fault)
    done(haul.copy(source, tus_url(joining), *SOON), 144 * MI)
    assert same(joining, source)


@pytest.mark.parametrize("options", [("--connections", 1), ("--in-order",)])
def test_one_stream_is_one_upload(haul, joining, dump, options):
    haul.trust(joining)
    source = dump(40 * MI)
    run = haul.copy(source, tus_url(joining), *options)
    done(run, 40 * MI)
    assert same(joining, source)
    assert len(joining.seen("create")) == 1 and joining.seen("final") == []


def test_server_that_does_not_join_gets_one_upload(haul, tus, dump):
    source = dump(40 * MI)
    run = haul.copy(source, tus_url(tus))
    done(run, 40 * MI)
    assert same(tus, source)
    assert len(tus.seen("POST")) == 1
    assert "does not join" in notes(run)


def test_joining_may_take_its_time(haul, joining, dump):
    """Longer than the stall timeout, and an answer before it is through."""
    haul.trust(joining)
    source = dump(32 * MI)
    joining.rule(op="final", delay_before=4)
    joining.rule(op="offset", times=2, set={"Upload-Offset": None})
    run = haul.copy(source, tus_url(joining), "--stall-timeout", 1)
    done(run, 32 * MI)
    assert same(joining, source)
    assert len(joining.seen("final")) == 1
    assert len(joining.seen("offset")) == 3


@pytest.mark.parametrize("status", [400, 403, 501])
def test_server_that_does_not_join_after_all(haul, joining, dump, status):
    haul.trust(joining)
    joining.rule(op="final", times=0, status=status)
    run = haul.copy(dump(32 * MI), tus_url(joining))
    failed(run, 6, "join", "--connections 1")
    assert len(joining.seen("final")) == 1


@pytest.mark.parametrize("fault", [
    dict(action="lose_answer"), dict(action="drop"), dict(status=502),
    dict(status=503, set={"Retry-After": "1"}),
    dict(status=500, when="after")])
def test_lost_answer_to_the_join_is_asked_for_again(haul, joining, dump,
                                                    fault):
    haul.trust(joining)
    source = dump(32 * MI)
    joining.rule(op="final", **fault)
    run = haul.copy(source, tus_url(joining))
    done(run, 32 * MI)
    for path in joining.finished():
        assert conftest.digest(path) == conftest.digest(source)
    # Between the two tries the parts were looked at.
    ops = [r["op"] for r in joining.seen()]
    first = ops.index("final")
    assert ops[first + 1:first + 5] == ["offset"] * 4


def test_parts_that_are_gone_after_a_lost_join_are_no_success(haul, joining,
                                                              dump):
    haul.trust(joining)
    joining.rule(op="final", action="lose_answer")
    joining.rule(op="offset", action="forget")
    run = haul.copy(dump(32 * MI), tus_url(joining))
    failed(run, 6, "parts are gone", "may have been joined")


def test_joined_upload_of_another_size_is_no_success(haul, joining, dump):
    haul.trust(joining)
    joining.rule(op="offset", set={"Upload-Length": str(32 * MI - 1),
                                   "Upload-Offset": str(32 * MI - 1)})
    run = haul.copy(dump(32 * MI), tus_url(joining))
    failed(run, 7, "%d bytes instead of %d" % (32 * MI - 1, 32 * MI))


def test_joined_upload_that_is_not_there_is_no_success(haul, joining, dump):
    haul.trust(joining)
    joining.rule(op="offset", status=404)
    failed(haul.copy(dump(32 * MI), tus_url(joining)), 6, "has nothing")


def test_memory_is_not_that_of_the_parts(haul, joining, dump):
    haul.trust(joining)
    source = dump(160 * MI)
    run = haul.start("copy", source, tus_url(joining), "--memory", "48mi",
                     "--connections", 4)
    run.wait(60)
    done(run, 160 * MI)
    assert same(joining, source)


# ---- Checksums --------------------------------------------------------------

def test_every_chunk_goes_under_a_checksum(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(9 * MI + 5)
    run = haul.copy(source, tus_url(resumable))
    done(run, 9 * MI + 5)
    assert same(resumable, source)
    sent = resumable.seen("append")
    assert [int(r["headers"]["content-length"]) for r in sent] == \
        [CHUNK, CHUNK, MI + 5]
    assert all(r["headers"]["upload-checksum"].startswith("sha256 ")
               for r in sent)
    assert run.last["verified"] == "remote", run


def test_checksums_and_parts(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(40 * MI + 7)
    run = haul.copy(source, tus_url(resumable))
    done(run, 40 * MI + 7)
    assert same(resumable, source)
    assert len(resumable.seen("append")) == 11
    assert run.last["verified"] == "remote"
    final, = (u for u in resumable.uploads() if u["concat"] != "partial")
    assert run.last["answer"]["location"].endswith("/files/" + final["key"])


@pytest.mark.parametrize("offered, used", [
    ("sha1", "sha1"), ("crc32,md5", "md5"), ("sha1,sha256", "sha256")])
def test_checksum_is_one_that_the_server_offers(haul, resumable, dump,
                                                offered, used):
    haul.trust(resumable)
    resumable.options(tus_checksums=offered)
    source = dump(MI)
    done(haul.copy(source, tus_url(resumable)), MI)
    sent, = resumable.seen("append")
    assert sent["headers"]["upload-checksum"].split(" ")[0] == used
    assert same(resumable, source)


@pytest.mark.parametrize("extensions, sums", [
    ("creation,checksum", "crc32"), ("creation", "sha1")])
def test_checksum_that_is_not_offered_is_not_claimed(haul, resumable, dump,
                                                     extensions, sums):
    haul.trust(resumable)
    resumable.options(tus_extensions=extensions, tus_checksums=sums)
    run = haul.copy(dump(MI), tus_url(resumable))
    done(run, MI)
    assert "upload-checksum" not in resumable.seen("append")[0]["headers"]
    assert run.last["verified"] == "size"


def test_damaged_chunk_is_sent_again(haul, resumable, dump):
    haul.trust(resumable)
    source = dump(9 * MI)
    resumable.rule(op="append", skip=1, times=2, corrupt=1000)
    run = haul.copy(source, tus_url(resumable))
    done(run, 9 * MI)
    assert same(resumable, source)
    assert [r["status"] for r in resumable.seen("append")] == \
        [204, 460, 460, 204, 204]
    assert run.last["resent"] == 2 * CHUNK
    assert run.last["verified"] == "remote"


def test_chunk_that_is_damaged_thrice_is_the_end(haul, resumable, dump):
    haul.trust(resumable)
    resumable.rule(op="append", skip=1, times=0, corrupt=1000)
    run = haul.copy(dump(9 * MI), tus_url(resumable))
    failed(run, 7, "other bytes")
    assert [r["status"] for r in resumable.seen("append")] == \
        [204, 460, 460, 460]


def test_bytes_that_no_checksum_saw_are_not_claimed(haul, single, resumable,
                                                    dump):
    """A server that keeps what came of a chunk before the line was cut."""
    haul.trust(resumable)
    source = dump(9 * MI)
    resumable.options(tus_extensions="creation,checksum",
                      tus_checksums="sha1")
    resumable.rule(op="discover", set={"Tus-Extension": "creation,checksum",
                                       "Tus-Checksum-Algorithm": "sha1"})
    resumable.options(tus_extensions="creation")
    resumable.rule(op="append", action="drop", after_bytes=MI + 1)
    run = haul.copy(source, tus_url(resumable))
    done(run, 9 * MI)
    assert same(resumable, source)
    assert run.last["verified"] == "size"


# ---- Every cut --------------------------------------------------------------

CUTS = [
    ("discover", dict(action="drop")),
    ("discover", dict(action="lose_answer")),
    ("discover", dict(status=503)),
    ("create", dict(action="drop")),
    ("create", dict(action="lose_answer")),
    ("create", dict(status=502)),
    ("append", dict(action="drop")),
    ("append", dict(action="drop", after_bytes=1)),
    ("append", dict(action="drop", after_bytes=MI + 77, rst=True)),
    ("append", dict(action="drop", after_bytes=9 * MI)),
    ("append", dict(action="lose_answer")),
    ("append", dict(status=500, when="early")),
    ("append", dict(status=502, when="late")),
    ("append", dict(status=504, when="after")),
    ("append", dict(status=503, when="early", after_bytes=2 * MI)),
    ("append", dict(action="short", after_bytes=3 * MI)),
]


@pytest.mark.parametrize("op, fault", CUTS)
def test_cut_is_survived(haul, single, dump, op, fault):
    haul.trust(single)
    source = dump(9 * MI + 5)
    single.rule(op=op, **fault)
    run = haul.copy(source, tus_url(single), *SOON)
    done(run, 9 * MI + 5)
    assert same(single, source)
    assert single.overlaps() == []
    # After what broke the first question is how far it is.
    if op == "append":
        ops = [r["op"] for r in single.seen()]
        assert ops[ops.index("append") + 1] == "offset"


@pytest.mark.parametrize("op, fault", [
    ("offset", dict(action="drop")), ("offset", dict(status=503)),
    ("offset", dict(action="hang")),
    ("offset", dict(set={"Upload-Offset": None})),
    ("offset", dict(set={"Upload-Offset": "12x"}))])
def test_question_that_is_cut_is_asked_again(haul, single, dump, op, fault):
    haul.trust(single)
    source = dump(9 * MI + 5)
    single.rule(op="append", action="drop", after_bytes=5 * MI)
    single.rule(op=op, **fault)
    run = haul.copy(source, tus_url(single), *SOON)
    done(run, 9 * MI + 5)
    assert same(single, source)
    assert len(single.seen("offset")) == 2


@pytest.mark.parametrize("op", ["create", "append"])
def test_server_that_says_nothing_is_left(haul, single, dump, op):
    haul.trust(single)
    source = dump(9 * MI)
    single.rule(op=op, action="hang", after_bytes=MI)
    run = haul.copy(source, tus_url(single), "--stall-timeout", 1,
                    "--give-up-after", 60)
    done(run, 9 * MI)
    assert same(single, source)


@pytest.mark.parametrize("op, fault", CUTS[3:])
def test_cut_of_a_part_is_survived(haul, joining, dump, op, fault):
    haul.trust(joining)
    source = dump(40 * MI + 5)
    joining.rule(op=op, skip=2, **fault)
    run = haul.copy(source, tus_url(joining), *SOON)
    done(run, 40 * MI + 5)
    assert same(joining, source)
    assert joining.overlaps() == []


@pytest.mark.parametrize("cut_at", [1, 70 * 1000, 5 * MI, 8 * MI])
def test_what_is_resent_is_what_the_server_has_not(haul, single, dump,
                                                   cut_at):
    haul.trust(single)
    source = dump(9 * MI)
    single.rule(op="append", action="drop", after_bytes=cut_at)
    run = haul.copy(source, tus_url(single), *SOON)
    done(run, 9 * MI)
    first, second = single.seen("append")
    assert int(second["headers"]["upload-offset"]) == cut_at
    assert run.last["resent"] <= CHUNK


def test_pipe_goes_on_after_a_cut(haul, single, dump):
    haul.trust(single)
    source = dump(30 * MI + 1)
    single.rule(op="append", skip=1, action="drop", after_bytes=MI)
    run = piped(haul, source, tus_url(single), *SOON)
    done(run, 30 * MI + 1)
    assert same(single, source)


@pytest.mark.parametrize("fault", [dict(action="lose_answer"),
                                   dict(action="drop"), dict(status=502)])
def test_lost_answer_to_the_length_of_a_pipe(haul, single, dump, fault):
    haul.trust(single)
    source = dump(3 * MI)
    single.rule(op="append", header={"Upload-Length": "."}, **fault)
    run = piped(haul, source, tus_url(single), *SOON)
    done(run, 3 * MI)
    assert same(single, source)


def test_link_that_is_cut_again_and_again(haul, joining, linksim, dump):
    link = linksim(joining, "--reset-after", "3mi", "--rtt", 5)
    haul.trust(link)
    source = dump(48 * MI)
    run = haul.copy(source, "tus+" + link.url("/files"), "--connections", 4,
                    "--retries", 50)
    done(run, 48 * MI)
    assert same(joining, source)
    assert joining.overlaps() == []


def test_parts_are_few_enough_for_one_header(haul, joining, dump):
    """Addresses of some 750 bytes: ten fit, which makes 8 of 12 MiB."""
    haul.trust(joining)
    source = dump(96 * MI)
    joining.rule(op=["create", "final"], times=0, location="long")
    done(haul.copy(source, tus_url(joining)), 96 * MI)
    assert same(joining, source)
    final, = joining.seen("final")
    named = final["headers"]["upload-concat"]
    assert len(named.split(" ")) == 8 and len(named) < 7800
    # The one that was made to see how long they are is gone.
    assert len(partials(joining)) == 8
    assert len(joining.seen("delete")) == 1
