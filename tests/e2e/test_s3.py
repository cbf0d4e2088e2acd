"""Uploads to S3 and downloads from it: OpenStack Swift, and a scripted server
for what that lacks."""

import os
import time

import conftest
import pytest
from http_checks import done, failed, no_secret, ranges, warnings
from s3_place import MI, PART, SIX, Place, notes, number


@pytest.fixture
def mock(haul, resumable):
    return Place(haul, resumable)


@pytest.fixture
def swift_place(haul, swift):
    return Place(haul, swift, swift.bucket())


@pytest.fixture(params=["mock", "swift_place"])
def place(request):
    return request.getfixturevalue(request.param)


# ---- The bytes --------------------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, 4 * MI, PART, PART + 1, SIX])
def test_what_is_put_is_got(place, dump, work, size):
    source = dump(size)
    run = place.put(source)
    done(run, size)
    assert run.last["resent"] == 0
    target = os.path.join(work, "back")
    done(place.get(target), size)
    assert conftest.digest(target) == conftest.digest(source)


def test_parts_are_equal_and_go_at_the_same_time(mock, dump):
    source = dump(SIX)
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source)
    parts = mock.seen("part")
    assert sorted(r["received"] for r in parts) == [3] + 5 * [PART]
    assert mock.numbers() == [1, 2, 3, 4, 5, 6]
    assert max(sum(r["begin"] <= p["begin"] < r["end"] for r in parts)
               for p in parts) > 1
    assert [r["op"] for r in mock.seen() if r["op"] != "part"] == [
        "head", "create", "complete"]
    assert mock.unfinished() == []


def test_every_part_is_compared(place, dump):
    run = place.put(dump(SIX))
    done(run, SIX)
    assert run.last["verified"] == "remote", run


def test_payload_is_not_signed_but_everything_else_is(mock, dump):
    """The server refuses what is not; here, which it was."""
    done(mock.put(dump(PART + 1)), PART + 1)
    for r in mock.seen():
        h = r["headers"]
        assert h["authorization"].startswith("AWS4-HMAC-SHA256 Credential="
                                             "AKIAHAULTEST/")
        if r["op"] in ("part", "create", "complete"):
            assert h["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert "content-md5" not in h  # would be a second reading


def test_the_length_of_every_body_is_told(mock, dump):
    done(mock.pipe(dump(2 * PART + 5)), 2 * PART + 5)
    for r in mock.seen("part"):
        assert "transfer-encoding" not in r["headers"]
        assert int(r["headers"]["content-length"]) == r["received"]


@pytest.mark.parametrize("key", [
    "a b+c/%25/d", "../x/./y//z", "ü/€ @:,;=&$!*'()", "/k", "a?b#c",
    "~tilde._-"])
def test_any_key_is_the_key(place, dump, work, key):
    source = dump(5)
    done(place.put(source, key=key), 5)
    name = key.replace("%25", "%")
    if isinstance(place.server, conftest.upload_servers.Swift):
        assert place.server.names(place.bucket) == [name]
    else:
        assert mock_names(place) == [name]
    target = os.path.join(work, "back")
    done(place.get(target, key=key), 5)
    assert conftest.digest(target) == conftest.digest(source)


def mock_names(place):
    return [u["name"] for u in place.server.uploads("s3-object")]


def test_folder_gets_the_name_of_the_source(mock, dump, work):
    source = dump(7)
    done(mock.put(source, key=""), 7)
    done(mock.put(source, key="d/"), 7)
    assert sorted(mock_names(mock)) == ["d/dump.sql", "dump.sql"]
    done(mock.get(work + "/", key="d/dump.sql", timeout=20), 7)


def test_buckets_in_the_host_name(haul, swift, resumable, dump, work):
    source = dump(PART + 1)
    for server, bucket in ((swift, swift.bucket()), (resumable, "bucket")):
        place = Place(haul, server, bucket)
        place.options = ["--endpoint", server.host_endpoint, "--addressing",
                         "virtual"]
        done(place.put(source), PART + 1)
        target = os.path.join(work, server.name)
        done(place.get(target), PART + 1)
        assert conftest.digest(target) == conftest.digest(source)
    assert all(r["headers"]["host"].startswith("bucket.s3.localhost:")
               for r in resumable.seen())


def test_settings_of_other_tools_are_used(haul, resumable, dump, work):
    """Files of keys and settings, a profile, the endpoint."""
    haul.trust(resumable)
    os.mkdir(work + "/.aws")
    with open(work + "/.aws/credentials", "w") as f:
        f.write("[default]\naws_access_key_id = wrong\n"
                "aws_secret_access_key = wrong\n[backup]\n"
                "aws_access_key_id = %s\naws_secret_access_key = %s\n" % (
                    resumable.access_key, resumable.secret_key))
    with open(work + "/.aws/config", "w") as f:
        f.write("[profile backup]\nregion = us-east-1\nendpoint_url = %s\n" %
                resumable.endpoint)
    run = haul.copy(dump(9), "s3://bucket/dump", "--profile", "backup")
    done(run, 9)
    no_secret(haul, run, resumable.secret_key)
    with open(work + "/keys", "w") as f:
        f.write("[default]\naws_access_key_id = %s\n"
                "aws_secret_access_key = %s\n" % (resumable.access_key,
                                                  resumable.secret_key))
    run = haul.copy(dump(9), "s3://bucket/other", "--credentials",
                    work + "/keys", "--endpoint", resumable.endpoint)
    done(run, 9)


def test_without_tls_there_is_a_warning(haul, start, certs, dump):
    server = start(conftest.upload_servers.Resumable, certs)
    place = Place(haul, server)
    run = place.put(dump(PART + 1))
    done(run, PART + 1)
    assert "is not encrypted" in warnings(run)


def test_secrets_are_neither_said_nor_kept(mock, dump, haul):
    mock.server.rule(op="part", status=403, times=0)
    run = mock.put(dump(SIX), "--trace", "all", "--retries", 0)
    failed(run, 6)
    no_secret(haul, run, mock.server.secret_key)


# ---- What the object is like ------------------------------------------------

def test_mtime_goes_along_and_comes_back(place, dump, work):
    source = dump(PART + 1)
    os.utime(source, ns=(0, 1600000000123456789))
    done(place.put(source), PART + 1)
    if isinstance(place.server, conftest.upload_servers.Resumable):
        created, = place.seen("create")
        assert created["headers"]["x-amz-meta-mtime"] == \
            "1600000000.123456789"
    target = os.path.join(work, "back")
    done(place.get(target), PART + 1)
    assert os.stat(target).st_mtime_ns == 1600000000123456789


@pytest.mark.parametrize("size", [0, SIX])
def test_finished_copy_is_not_repeated(place, dump, size):
    source = dump(size)
    done(place.put(source), size)
    again = place.put(source)
    done(again, size)
    assert again.last["resumed_from"] == size
    if isinstance(place.server, conftest.upload_servers.Resumable):
        assert len(place.seen("create", "put")) == 1


def test_changed_object_is_replaced(mock, dump):
    done(mock.put(dump(SIX)), SIX)
    newer = dump(SIX, "newer.sql", seed=2)
    done(mock.put(newer), SIX)
    assert mock.same(newer)


def test_headers_of_the_object_go_where_it_is_made(mock, dump):
    done(mock.put(dump(PART + 1), "--header", "x-amz-storage-class: GLACIER",
                  "--header", "Content-Type: text/x-sql", "--header",
                  "x-amz-request-payer: requester"), PART + 1)
    for r in mock.seen():
        made = r["op"] == "create"
        assert ("x-amz-storage-class" in r["headers"]) == made
        assert (r["headers"].get("content-type") == "text/x-sql") == made
        assert r["headers"]["x-amz-request-payer"] == "requester"


@pytest.mark.parametrize("size", [0, PART + 1])
def test_no_clobber_keeps_what_is_there(place, dump, work, size):
    old = dump(11)
    done(place.put(old), 11)
    run = place.put(dump(size, "new.sql", seed=2), "--no-clobber")
    failed(run, 3, "exists")
    target = os.path.join(work, "back")
    done(place.get(target), 11)
    assert conftest.digest(target) == conftest.digest(old)


@pytest.mark.parametrize("size", [0, PART + 1])
@pytest.mark.parametrize("looks", [2, 3])
def test_no_clobber_when_somebody_else_is_faster(mock, dump, size, looks):
    """Seen by the last look, or only by the server itself."""
    done(mock.put(dump(11, "old.sql", seed=3)), 11)
    mock.server.rule(op="head", status=404, times=looks)
    run = mock.put(dump(size), "--no-clobber")
    failed(run, 3, "exists")
    asked = mock.seen("complete", "put")[1:]
    assert [(r["headers"]["if-none-match"], r["status"])
            for r in asked] == [("*", 412)] * (looks - 2)
    assert os.path.getsize(mock.file()) == 11


@pytest.mark.parametrize("size", [0, PART + 1])
def test_no_clobber_where_the_server_does_not_know_it(mock, dump, size):
    mock.server.options(s3_none_match=501)
    run = mock.put(dump(size), "--no-clobber")
    done(run, size)
    assert "cannot refuse to replace" in warnings(run)


@pytest.mark.parametrize("size", [0, PART + 1])
def test_no_clobber_at_swift(swift_place, dump, size):
    """It answers 501 to PUT and ignores it otherwise."""
    run = swift_place.put(dump(size), "--no-clobber")
    done(run, size)
    failed(swift_place.put(dump(size, "b.sql", seed=2), "--no-clobber"), 3)


# ---- What is compared -------------------------------------------------------

def test_etag_that_is_no_md5_is_noticed_and_does_not_count(mock, dump):
    mock.server.options(s3_etag="opaque")
    source = dump(SIX)
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source)
    assert run.last["verified"] != "remote", run
    # A server that takes a part with its MD5 before it has the right bytes.
    proven = [r for r in mock.seen("part") if "content-md5" in r["headers"]]
    assert proven and all(r["status"] == 200 for r in proven)
    # It is known from then on.
    begin = mock.count()
    again = dump(SIX, "other.sql", seed=2)
    done(mock.put(again, key="other"), SIX)
    assert len(mock.seen("part", begin=begin)) == 6


def test_etag_of_kms_is_not_taken_for_an_md5(mock, dump):
    mock.server.options(s3_etag="opaque")
    mock.server.rule(op=["create", "part"], times=0, set={
        "x-amz-server-side-encryption": "aws:kms"})
    run = mock.put(dump(SIX), "--verbose")
    done(run, SIX)
    assert len(mock.seen("part")) == 6  # nothing twice
    assert run.last["verified"] != "remote"
    assert "KMS" in notes(run)


@pytest.mark.parametrize("name", ["crc64nvme", "crc32c", "sha256",
                                  "xxhash128"])
def test_checksums_that_the_server_echoes_are_compared(mock, dump, name):
    """Where ETags tell nothing; from the second part of a connection on."""
    mock.server.options(
        s3_etag="opaque", s3_default_sum=name,
        s3_sums=["crc64nvme", "crc32c", "sha256", "xxhash128"])
    mock.server.rule(op=["create", "part"], times=0, set={
        "x-amz-server-side-encryption": "aws:kms"})
    mock.server.rule(op="part", path="partNumber=5", corrupt=77, times=1)
    source = dump(SIX)
    run = mock.put(source, "--connections", 1)
    done(run, SIX)
    assert mock.same(source)
    assert len([r for r in mock.seen("part")
                if number(r) == 5]) == 2


def test_verify_none_compares_nothing(mock, dump):
    mock.server.rule(op="part", path="partNumber=2", corrupt=77, times=1)
    run = mock.put(dump(SIX), "--verify", "none")
    done(run, SIX)
    assert run.last["verified"] == "none"


def test_verify_remote_says_the_checksum_first_where_it_can(mock, dump):
    source = dump(SIX)
    run = mock.put(source, "--verify", "remote", "--chunk-size", "8mi")
    done(run, SIX)
    assert run.last["verified"] == "remote"
    parts = mock.seen("part")
    assert [r for r in parts if "content-md5" not in r["headers"]] == []
    assert mock.same(source)


def test_verify_remote_fails_where_nothing_can_be_compared(mock, dump):
    mock.server.options(s3_etag="opaque")
    run = mock.put(dump(SIX), "--verify", "remote")
    failed(run, (2, 7))


def test_etag_of_the_whole_of_another_kind_is_told(mock, dump):
    """Each part was compared all the same."""
    mock.server.options(s3_flavor="gcs")
    source = dump(SIX)
    run = mock.put(source, "--verbose")
    done(run, SIX)
    assert mock.same(source)
    assert "not made of those of its parts" in notes(run)
    assert "6 parts of 8 MiB" in notes(run)
    assert run.last["verified"] == "remote" and warnings(run) == ""


# ---- Pipes ------------------------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, PART, SIX])
def test_pipe(place, dump, work, size):
    source = dump(size)
    run = place.pipe(source)
    done(run, size)
    target = os.path.join(work, "back")
    done(place.get(target), size)
    assert conftest.digest(target) == conftest.digest(source)


def test_pipe_of_expected_size_has_equal_parts(mock, dump):
    """A server that wants it so (R2), and one that does not."""
    mock.server.options(s3_equal_parts=True)
    source = dump(SIX)
    run = mock.pipe(source, "--expected-size", "10mi")
    done(run, SIX)
    assert mock.same(source)
    assert sorted(r["received"] for r in mock.seen("part")) == [3] + 5 * [PART]


def test_expected_size_says_the_size_of_parts(mock, dump):
    source = dump(24 * MI)
    run = mock.pipe(source, "--expected-size", "700mi", "--memory", "64mi")
    done(run, 24 * MI)
    # 700 MiB in 64 parts, rounded up to chunks of 4 MiB.
    assert sorted(r["received"] for r in mock.seen("part")) == \
        2 * [12 * MI]


def test_pipe_that_breaks_is_sent_from_memory(mock, dump):
    mock.server.rule(op="part", path="partNumber=2", action="drop", times=2,
                     after_bytes=3 * MI)
    source = dump(SIX)
    run = mock.pipe(source)
    done(run, SIX)
    assert mock.same(source)


def test_expected_size_that_the_memory_cannot_keep(mock, dump):
    run = mock.pipe(dump(MI), "--expected-size", "2t", "--memory", "64mi")
    failed(run, 2, "memory")
    assert mock.seen("part", "create") == []


# ---- Downloads --------------------------------------------------------------

def test_download_is_read_in_ranges(mock, dump, work, linksim):
    """Over several connections where one is slow."""
    size = 60 * MI + 1
    source = dump(size)
    done(mock.put(source), size)
    link = linksim(mock.server, "--conn-rate", "5m")
    mock.options = ["--endpoint", link.url("")]
    begin = mock.count()
    target = os.path.join(work, "back")
    run = mock.get(target)
    done(run, size)
    assert conftest.digest(target) == conftest.digest(source)
    asked = ranges([dict(r, range=r["headers"].get("range"))
                    for r in mock.seen("get", begin=begin)])
    assert len(asked) > 1
    assert run.last["connections"] > 1
    assert run.last["seconds"] < 10


def test_checksum_of_the_whole_is_compared(mock, dump, work):
    mock.server.options(s3_default_sum="crc64nvme")
    source = dump(SIX)
    done(mock.put(source), SIX)
    target = os.path.join(work, "back")
    run = mock.get(target)
    done(run, SIX)
    assert run.last["verified"] == "remote", run
    with open(mock.file(), "r+b") as f:
        f.seek(5 * MI)
        f.write(b"!")
    run = mock.get(os.path.join(work, "again"))
    failed(run, 7, "crc64nvme")


@pytest.mark.parametrize("name", ["crc32c", "sha256"])
def test_checksum_of_one_put_is_compared(mock, dump, work, name):
    mock.server.options(s3_default_sum=name)
    with open(dump(MI), "rb") as f:
        assert mock.server.s3("PUT", "bucket", "dump",
                              body=f.read()).status == 200
    run = mock.get(os.path.join(work, "back"))
    done(run, MI)
    assert run.last["verified"] == "remote", run


def test_checksum_of_checksums_is_not_taken_for_one(mock, dump, work):
    mock.server.options(s3_default_sum="crc32c", s3_sums=["crc32c"])
    done(mock.put(dump(SIX)), SIX)
    run = mock.get(os.path.join(work, "back"))
    done(run, SIX)
    assert run.last["verified"] != "remote"


@pytest.mark.parametrize("sse, options, compared", [
    (None, [], False), ("AES256", [], True), ("aws:kms", [], False),
    (None, ["--verify", "remote"], True)])
def test_etag_is_an_md5_where_the_server_says_so(mock, dump, work, sse,
                                                  options, compared):
    with open(dump(MI), "rb") as f:
        assert mock.server.s3("PUT", "bucket", "dump",
                              body=f.read()).status == 200
    if sse:
        mock.server.rule(op="head", times=0, set={
            "x-amz-server-side-encryption": sse})
    run = mock.get(os.path.join(work, "back"), *options)
    done(run, MI)
    assert (run.last["verified"] == "remote") == compared, run


def test_interrupted_download_goes_on(mock, dump, work):
    size = 40 * MI
    source = dump(size)
    done(mock.put(source), size)
    mock.server.rule(op="get", slow=4 * MI, times=0)
    target = os.path.join(work, "back")
    run = mock.haul.start("copy", mock.url(), target, *mock.options)
    run.wait_acked(12 * MI)
    run.kill()
    assert run.wait() == -9
    mock.server.clear_rules()
    run = mock.get(target)
    done(run, size)
    assert run.last["resumed_from"] >= 8 * MI, run
    assert conftest.digest(target) == conftest.digest(source)


def test_object_that_changes_meanwhile_is_exit_8(mock, dump, work):
    size = 60 * MI
    done(mock.put(dump(size)), size)
    mock.server.rule(op="get", delay=0.5, times=0)
    run = mock.haul.start("copy", mock.url(), os.path.join(work, "back"),
                          *mock.options, "--connections", 1)
    run.wait_for(lambda e: e["event"] == "progress")
    done(mock.put(dump(size, "newer.sql", seed=2)), size)
    assert run.wait() == 8, run
    assert "changed" in run.last["error"]


def test_copy_from_s3_to_s3(haul, resumable, swift, dump, work):
    """Both ends at one endpoint."""
    place = Place(haul, swift, swift.bucket())
    source = dump(SIX)
    done(place.put(source), SIX)
    other = swift.bucket()
    run = haul.copy(place.url(), "s3://%s/copy" % other, *place.options)
    done(run, SIX)
    assert swift.get(other, "copy") == open(source, "rb").read()


# ---- Memory -----------------------------------------------------------------

def peak(run):
    with open("/proc/%d/status" % run.process.pid) as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def test_parts_are_streamed_not_buffered(haul, start, certs):
    """Eight parts of 64 MiB at once."""
    server = start(conftest.upload_servers.Resumable, certs)
    place = Place(haul, server)
    server.rule(op="part", slow=6 * MI, times=0)
    run = place.start("mem:gen?size=20gi&seed=1", "--memory", "64mi",
                      "--connections", 8)
    run.wait_for(lambda e: (e.get("sent") or 0) >= 256 * MI)
    most = peak(run)
    parts = [r for r in server.stats()["requests"] if r["op"] == "part"]
    run.kill(2)
    run.wait(30)
    assert int(parts[0]["headers"]["content-length"]) == 64 * MI
    assert len(parts) >= 8
    # Beside the buffers: the program, libraries, and what TLS would need.
    assert most < 64 * MI + 48 * MI, "%d MiB" % (most // MI)


def test_time_of_small_objects(mock, dump):
    """A few requests and no pauses."""
    source = dump(5)
    begin = time.monotonic()
    for i in range(5):
        done(mock.put(source, key="k%d" % i), 5)
    assert time.monotonic() - begin < 10
