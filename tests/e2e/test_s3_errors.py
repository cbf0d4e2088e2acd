"""S3: wrong keys, wrong clocks, bytes that change on the way, answers that are
none."""

import os

import conftest
import pytest
import resumable_bodies
from http_checks import PATIENCE, done, failed, no_secret, warnings
from s3_place import MI, PART, SIX, SOON, Place, number


@pytest.fixture
def mock(haul, resumable):
    return Place(haul, resumable)


@pytest.fixture
def swift_place(haul, swift):
    return Place(haul, swift, swift.bucket())


@pytest.fixture(params=["mock", "swift_place"])
def place(request):
    return request.getfixturevalue(request.param)


# ---- Who asks ---------------------------------------------------------------

def test_wrong_secret(place, dump, work):
    place.haul.env["AWS_SECRET_ACCESS_KEY"] = "not-the-right-one"
    run = place.put(dump(PART + 1), *SOON)
    failed(run, 5, "signature")
    no_secret(place.haul, run, "not-the-right-one")
    failed(place.get(os.path.join(work, "t"), *SOON), 5, "signature")


def test_unknown_key(mock, dump, work):
    mock.haul.env["AWS_ACCESS_KEY_ID"] = "AKIDNOBODY"
    failed(mock.put(dump(5), *SOON), 5, "does not know the key")
    failed(mock.get(os.path.join(work, "t"), *SOON), 5,
           "does not know the key")


def test_no_keys(mock, dump):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del mock.haul.env[name]
    run = mock.put(dump(5))
    assert run.status == 5, run
    assert mock.seen() == []


def test_bucket_that_is_not_there(place, dump, work):
    place.bucket = "nothing-here"
    if isinstance(place.server, conftest.upload_servers.Resumable):
        place.server.options(s3_buckets=["bucket"])
    failed(place.put(dump(PART + 1), *SOON), 6, "no such bucket")
    failed(place.get(os.path.join(work, "t"), *SOON), 6, "no such bucket")


def test_object_that_is_not_there(place, work):
    failed(place.get(os.path.join(work, "t"), *SOON), 6, "not found")
    assert not os.path.exists(os.path.join(work, "t"))


def test_no_permission(swift_place, dump):
    swift = swift_place.server
    swift_place.haul.env.update(AWS_ACCESS_KEY_ID=swift.stranger_key,
                                AWS_SECRET_ACCESS_KEY=swift.stranger_secret)
    failed(swift_place.put(dump(5), *SOON), 6, "no permission")


def test_wrong_region_is_told_with_the_right_one(mock, dump, work):
    mock.server.options(s3_region="eu-central-1")
    failed(mock.put(dump(5), *SOON), 5, "--region eu-central-1")
    failed(mock.get(os.path.join(work, "t"), *SOON), 5,
           "--region eu-central-1")
    done(mock.put(dump(5), "--region", "eu-central-1"), 5)


def test_bucket_of_another_region(mock, dump):
    """As Amazon says it: without a Location."""
    mock.server.rule(op=["head", "create"], status=301, times=0, headers={
        "x-amz-bucket-region": "eu-west-3"}, body=resumable_bodies.error(
            "PermanentRedirect"))
    failed(mock.put(dump(5), *SOON), 6, "--region eu-west-3")


# ---- The clock --------------------------------------------------------------

@pytest.mark.parametrize("skew", [3600, -3600, 86400 * 400])
def test_clock_is_corrected_once(mock, dump, work, skew):
    mock.server.options(s3_skew=skew)
    source = dump(SIX)
    run = mock.put(source)
    done(run, SIX)
    assert mock.same(source)
    assert "the clock of this machine" in warnings(run)
    refused = [r for r in mock.seen() if r["status"] == 403]
    assert len(refused) == 1
    run = mock.get(os.path.join(work, "back"))
    done(run, SIX)
    assert len([r for r in mock.seen() if r["status"] == 403]) == 2


def test_clock_that_jumps_meanwhile(mock, dump):
    """Parts are under way when the server starts to refuse."""
    mock.server.rule(op="part", path="partNumber=3&", times=1, status=403,
                     headers={"Date": "Mon, 01 Jan 2035 00:00:00 GMT"},
                     body=resumable_bodies.error("RequestTimeTooSkewed"))
    run = mock.put(dump(PART + 1), *SOON)
    done(run, PART + 1)
    run = mock.put(dump(SIX), *SOON, key="other")
    # The time it was told is wrong: nothing can be done about that.
    failed(run, (4, 5))


# ---- Bytes that change on the way -------------------------------------------

@pytest.mark.parametrize("where", ["before", "disk"])
def test_part_that_is_changed_once_is_sent_again(mock, dump, where):
    mock.server.rule(op="part", path="partNumber=2&", corrupt=4711, times=1,
                     where=where)
    source = dump(SIX)
    run = mock.put(source)
    done(run, SIX)
    twos = [r for r in mock.seen("part") if number(r) == 2]
    if where == "disk":  # nobody can know
        assert len(twos) == 1 and not mock.same(source)
        return
    assert mock.same(source)
    # The server itself is to look at the second one.
    assert ["content-md5" in r["headers"] for r in twos] == [False, True]
    assert run.last["verified"] == "remote"


def test_part_that_is_changed_always_is_exit_7(mock, dump):
    mock.server.rule(op="part", path="partNumber=2&", corrupt=4711, times=0)
    run = mock.put(dump(SIX))
    failed(run, 7)
    twos = [r for r in mock.seen("part") if number(r) == 2]
    assert [r["status"] for r in twos] == [200, 400, 400]
    assert mock.seen("complete") == []


def test_bad_digest_three_times_is_exit_7(mock, dump):
    mock.server.rule(op="part", path="partNumber=4&", status=400, times=0,
                     body=resumable_bodies.error("BadDigest"), when="late")
    failed(mock.put(dump(SIX)), 7)
    assert len([r for r in mock.seen("part") if number(r) == 4]) == 3


def test_bad_digest_twice_is_overcome(mock, dump):
    mock.server.rule(op="part", path="partNumber=4&", status=400, times=2,
                     body=resumable_bodies.error("BadDigest"), when="late")
    source = dump(SIX)
    done(mock.put(source), SIX)
    assert mock.same(source)


def test_download_that_is_changed_is_exit_7(mock, dump, work):
    mock.server.options(s3_default_sum="crc64nvme")
    done(mock.put(dump(SIX)), SIX)
    with open(mock.file(), "r+b") as f:
        f.seek(SIX - 1)
        f.write(b"\0")
    failed(mock.get(os.path.join(work, "back")), 7, "crc64nvme")


# ---- Answers that are none --------------------------------------------------

HOSTILE = ["entities", "truncated", "html", "huge"]
MORE = ["entity", "external", "dtd", "unknown-entity", "deep", "empty",
        "binary", "two-roots", "no-id"]


def some(short, more):
    """All of them with HAUL_LONG=1: each costs the seconds of its retries, and
    the parser has tests of its own."""
    return short + more if conftest.LONG else short


@pytest.mark.parametrize("body", some(HOSTILE, MORE))
def test_hostile_answer_to_create(mock, dump, body):
    mock.server.rule(op="create", status=200, body="@" + body, times=0)
    run = mock.put(dump(PART + 1), *PATIENCE)
    failed(run, 4)
    assert "\033" not in run.stderr
    mock.server.clear_rules()
    done(mock.put(dump(PART + 1)), PART + 1)


def test_upload_id_that_is_odd_is_used_as_it_is(mock, dump):
    mock.server.rule(op="create", status=200, body="@odd-id")
    run = mock.put(dump(PART + 1), *PATIENCE)
    assert run.status in (0, 4, 6), run
    assert "uploadId=a%26b%3Dc%20d%2F..%2F%250d%250aX%3A%20y" in \
        mock.seen("part")[0]["query"]


@pytest.mark.parametrize("body", some(["entities", "html"],
                                      ["truncated", "huge", "many", "deep",
                                       "binary"]))
def test_hostile_answer_to_complete(mock, dump, body):
    """It may have been done: the next run looks."""
    mock.server.rule(op="complete", status=200, body="@" + body, times=0)
    failed(mock.put(dump(SIX), *PATIENCE), 4)
    mock.server.clear_rules()
    begin = mock.count()
    done(mock.put(os.path.join(mock.haul.work, "dump.sql")), SIX)
    assert mock.numbers(begin) == []


@pytest.mark.parametrize("body", some(["many", "html"],
                                      ["huge", "entities", "deep"]))
def test_hostile_list_of_parts(mock, dump, body):
    source = dump(SIX)
    mock.server.rule(op="part", path="partNumber=6&", delay_before=20)
    run = mock.start(source)
    run.wait_acked(2 * PART)
    run.kill()
    run.wait()
    mock.server.clear_rules()
    mock.server.rule(op="parts", status=200, body="@" + body, times=0)
    failed(mock.put(source, *PATIENCE), (4, 8))
    mock.server.clear_rules()
    done(mock.put(source), SIX)
    assert mock.same(source)


@pytest.mark.parametrize("body", ["controls", "escaped"])
def test_text_of_errors_is_escaped(mock, dump, body):
    mock.server.rule(op="create", status=403, body="@" + body, times=0)
    run = mock.put(dump(5), *PATIENCE)
    failed(run, 6)
    assert "\033" not in run.stderr + str(run.events)
    assert "\u202e" not in run.stderr


@pytest.mark.parametrize("status, exit", some([(200, 4), (403, 6)],
                                              [(404, 6), (502, 4)]))
@pytest.mark.parametrize("op", ["create", "part"])
def test_html_is_no_answer_of_s3(mock, dump, status, exit, op):
    """Of a proxy, or of a wrong port."""
    mock.server.rule(op=op, status=status, body="@html", when="late",
                     headers={"Content-Type": "text/html"}, times=0)
    run = mock.put(dump(PART + 1), *PATIENCE)
    failed(run, (exit, 4))
    assert mock.file() is None


def test_list_that_never_ends(mock, dump):
    """Every page says that there is another one, and shows the same."""
    source = dump(SIX)
    mock.server.rule(op="part", path="partNumber=[3456]&", delay_before=20,
                     times=0)
    run = mock.start(source)
    run.wait_acked(PART)
    run.kill()
    run.wait()
    mock.server.clear_rules()
    mock.server.rule(
        op="parts", status=200, times=0, body="<ListPartsResult><IsTruncated>"
        "true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker>"
        "<Part><PartNumber>1</PartNumber><Size>%d</Size><ETag>x</ETag></Part>"
        "</ListPartsResult>" % PART)
    failed(mock.put(source, *PATIENCE), 4)
    assert len(mock.seen("parts")) < 20


# ---- Redirects --------------------------------------------------------------

def test_redirect_on_the_same_host_is_followed(mock, dump):
    """Signed anew for the new address."""
    source = dump(PART + 1)
    mock.server.rule(op="head", status=307, headers={
        "Location": mock.server.url("/bucket/dump?x=y%20z")}, times=1)
    done(mock.put(source), PART + 1)
    assert mock.same(source)


def test_no_key_goes_to_another_host(mock, dump, start, certs):
    other = start(conftest.upload_servers.Resumable, certs, tls=True)
    mock.server.rule(op=["part", "create"], status=307, times=0, headers={
        "Location": other.url("/bucket/dump", host="localhost")})
    run = mock.put(dump(PART + 1), *PATIENCE)
    assert run.status in (4, 5, 6), run
    for r in other.seen():
        assert "authorization" not in r["headers"]
        assert not [h for h in r["headers"] if h.startswith("x-amz-")]
    assert other.uploads() == []


def test_never_down_to_plain_http(mock, dump, start, certs):
    other = start(conftest.upload_servers.Resumable, certs)
    mock.server.rule(op=["create", "head"], status=307, times=0, headers={
        "Location": other.url("/bucket/dump")})
    failed(mock.put(dump(5), *PATIENCE), (4, 5, 6))
    assert other.seen() == []


# ---- Options ----------------------------------------------------------------

@pytest.mark.parametrize("endpoint", [
    "minio:9000", "ftp://x", "https://joe:geheim@127.0.0.1", "https://h?x=y",
    "https://", ""])
def test_endpoint_that_is_none(mock, dump, endpoint):
    mock.options = ["--endpoint", endpoint]
    if not endpoint:
        mock.haul.env["AWS_ENDPOINT_URL"] = "nonsense"
    run = mock.put(dump(5))
    assert run.status == 2, run
    assert "geheim" not in run.stderr + str(run.events)
    assert "--endpoint https://HOST" in run.stderr + str(run.last)


def test_source_must_name_an_object(mock, work):
    run = mock.get(os.path.join(work, "t"), key="")
    assert run.status == 2 and "names no object" in run.stderr + \
        str(run.last), run


def test_server_that_is_full(mock, dump):
    mock.server.rule(op="part", status=507, times=0, body=resumable_bodies.
                     error("XMinioStorageFull"), when="late")
    failed(mock.put(dump(PART + 1), *PATIENCE), 6, "no space")


def test_part_that_is_too_large(mock, dump):
    mock.server.options(s3_max_part=1 * MI)
    failed(mock.put(dump(PART + 1), *PATIENCE), 6, "too large")
