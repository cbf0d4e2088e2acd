"""The S3 servers are what the other tests believe they are.

Proven without haul, so that a failure elsewhere is haul's.
"""

import base64
import datetime
import hashlib
import http.client
import urllib.parse

import pytest
import resumable_sums
import s3_client
import servers
import upload_servers

MI = 1 << 20
DATA = bytes(range(256)) * 1200  # 307200


def read(path):
    with open(path, "rb") as f:
        return f.read()


def b64(data):
    return base64.b64encode(data).decode()


# ---- What the servers are made of


@pytest.mark.parametrize("name, text", [
    ("crc32", "cbf43926"), ("crc32c", "e3069283"),
    ("crc64nvme", "ae8b14860a799888"), ("xxhash64", "8cb841db40e6ae83"),
    ("xxhash128", "33119477ede5dcd5e9716427681d5860")])
def test_checksums_have_their_published_check_values(name, text):
    h = resumable_sums.SUMS[name]()
    for piece in (b"", b"1", bytearray(b"2345678"), memoryview(b"9")):
        h.update(piece)
    assert h.digest().hex() == text


def test_crc_of_blocks_is_that_of_their_bytes():
    """The tables and the byte by byte way agree, whatever the alignment."""
    for name in ("crc32c", "crc64nvme"):
        whole, pieces = (resumable_sums.SUMS[name]() for _ in range(2))
        whole.update(DATA[:5000])
        for byte in DATA[:5000]:
            pieces.update(bytes([byte]))
        assert whole.digest() == pieces.digest()


# Of the examples that Amazon publishes for Signature Version 4.
EXAMPLE_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
EMPTY = hashlib.sha256(b"").hexdigest()
EXAMPLES = [
    (("GET", "/test.txt", ""), {"range": "bytes=0-9"}, EMPTY,
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
    (("PUT", "/test%24file.text", ""),
     {"date": "Fri, 24 May 2013 00:00:00 GMT",
      "x-amz-storage-class": "REDUCED_REDUNDANCY"},
     hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
    (("GET", "/", "lifecycle="), {}, EMPTY,
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    (("GET", "/", "max-keys=2&prefix=J"), {}, EMPTY,
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
]


@pytest.mark.parametrize("request_line, headers, payload, wanted", EXAMPLES)
def test_signer_makes_the_published_signatures(request_line, headers, payload,
                                               wanted):
    headers = {"host": "examplebucket.s3.amazonaws.com",
               "x-amz-content-sha256": payload,
               "x-amz-date": "20130524T000000Z", **headers}
    assert s3_client.signature(
        request_line, headers, sorted(headers),
        "20130524/us-east-1/s3/aws4_request", EXAMPLE_KEY) == wanted


# ---- S3, scripted

PARTS = [bytes([n]) * size for n, size in ((1, 5 * MI), (2, 5 * MI), (3, 9))]
COMPOSITE = '"%s-3"' % hashlib.md5(b"".join(
    hashlib.md5(p).digest() for p in PARTS)).hexdigest()
KEY = "dir/a+b (c) é.dump"


def upload(s3, bucket, **headers):
    """(UploadId, ETags) with all parts sent."""
    found = s3.create(bucket, KEY, **headers)
    return found, [s3.part(bucket, KEY, found, n, p).headers["ETag"]
                   for n, p in enumerate(PARTS, 1)]


def check_multipart(s3, bucket):
    """What any S3 server must do, by the book."""
    found, tags = upload(s3, bucket)
    assert [t.strip('"') for t in tags] == [hashlib.md5(p).hexdigest()
                                            for p in PARTS]
    assert s3.uploads(bucket) == [(KEY, found)]
    a = s3.parts(bucket, KEY, found, "&max-parts=1&part-number-marker=1")
    assert (a.all("PartNumber"), a.one("IsTruncated"),
            a.one("NextPartNumberMarker")) == (["2"], "true", "2")
    for tags_sent, code in (([(1, "x"), (2, tags[1])], "InvalidPart"),
                            ([(2, tags[1]), (1, tags[0])],
                             "InvalidPartOrder")):
        a = s3.complete(bucket, KEY, found, tags_sent)
        assert (a.status, a.one("Code")) == (400, code)
    a = s3.complete(bucket, KEY, found, tags)
    assert (a.status, a.one("ETag")) == (200, COMPOSITE)
    assert s3.uploads(bucket) == []
    a = s3("GET", bucket, KEY, range="bytes=%d-%d" % (10 * MI - 1, 10 * MI))
    assert (a.status, a.body) == (206, b"\2\3")
    small = s3.create(bucket, KEY)
    tags = [s3.part(bucket, KEY, small, n, b"x").headers["ETag"]
            for n in (1, 2)]
    a = s3.complete(bucket, KEY, small, tags)
    assert (a.status, a.one("Code")) == (400, "EntityTooSmall")
    assert s3.abort(bucket, KEY, small).status == 204
    assert s3.part(bucket, KEY, small, 1, b"x").one("Code") == "NoSuchUpload"
    a = s3("PUT", bucket, "md5", body=b"x", content_md5=b64(bytes(16)))
    assert (a.status, a.one("Code")) == (400, "BadDigest")


def check_who(endpoint, cafile, bucket, key, secret):
    def code(client, **more):
        return client("PUT", bucket, "x", body=b"1", **more).one("Code")

    right = s3_client.S3Client(endpoint, key, secret, cafile=cafile)
    assert right("PUT", bucket, "x", body=b"1").status == 200
    wrong = s3_client.S3Client(endpoint, key, "wrong", cafile=cafile)
    assert code(wrong) == "SignatureDoesNotMatch"
    late = datetime.datetime.now(datetime.timezone.utc) - \
        datetime.timedelta(minutes=16)
    assert code(right, now=late) == "RequestTimeTooSkewed"


def test_s3_does_multipart_by_the_book(resumable):
    check_multipart(resumable.s3, "bucket")
    assert read(resumable.s3_file("bucket", KEY)) == b"".join(PARTS)
    check_who(resumable.endpoint, resumable.certs.ca, "bucket",
              resumable.access_key, resumable.secret_key)
    a = resumable.s3("HEAD", "", KEY,
                     host="bucket.s3.localhost:%d" % resumable.port)
    assert (a.status, a.headers["ETag"]) == (200, COMPOSITE)


def test_s3_has_a_clock_of_its_own(plain):
    plain.options(s3_skew=3600)
    a = plain.s3("PUT", "b", "x", body=b"1")
    assert (a.status, a.one("Code")) == (403, "RequestTimeTooSkewed")
    then = datetime.datetime.strptime(
        a.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT").replace(
            tzinfo=datetime.timezone.utc)
    ahead = then - datetime.datetime.now(datetime.timezone.utc)
    assert 3590 < ahead.total_seconds() <= 3600
    assert plain.s3("PUT", "b", "x", body=b"1", now=then).status == 200


def test_s3_echoes_checksums(plain):
    plain.options(s3_sums=["crc32", "crc64nvme", "xxhash128"])
    s3 = plain.s3
    whole = b"123456789"
    a = s3("PUT", "b", "x", body=whole,
           x_amz_checksum_xxhash128="MxGUd+3l3NXpcWQnaB1YYA==")
    assert a.headers["x-amz-checksum-xxhash128"] == "MxGUd+3l3NXpcWQnaB1YYA=="
    a = s3("PUT", "b", "x", body=whole, x_amz_checksum_crc32="AAAAAA==")
    assert a.one("Code") == "BadDigest"
    # Not known: not looked at, not echoed.
    a = s3("PUT", "b", "x", body=whole, x_amz_checksum_sha256="AAAA")
    assert a.status == 200 and "x-amz-checksum-sha256" not in a.headers
    plain.options(s3_default_sum="crc64nvme", s3_min_part=1)
    found = s3.create("b", "y")
    tags = [s3.part("b", "y", found, n, whole[n - 1:n]).headers["ETag"]
            for n in range(1, 10)]
    a = s3.complete("b", "y", found, tags)
    assert a.one("ChecksumCRC64NVME") == "rosUhgp5mIg="
    assert a.one("ChecksumType") == "FULL_OBJECT"
    assert "x-amz-checksum-crc64nvme" not in s3("GET", "b", "y").headers
    a = s3("HEAD", "b", "y", x_amz_checksum_mode="ENABLED")
    assert a.headers["x-amz-checksum-crc64nvme"] == "rosUhgp5mIg="
    found = s3.create("b", "z", x_amz_checksum_algorithm="XXHASH128")
    a = s3.part("b", "z", found, 1, whole)
    assert a.headers["x-amz-checksum-xxhash128"] == "MxGUd+3l3NXpcWQnaB1YYA=="
    assert s3.parts("b", "z", found).one("ChecksumXXHASH128") == \
        "MxGUd+3l3NXpcWQnaB1YYA=="


def test_s3_fails_as_told(plain):
    s3 = plain.s3
    found, tags = upload(s3, "b")
    plain.rule(op="complete", status=200, body="@blank-internal-error")
    a = s3.complete("b", KEY, found, tags)
    assert a.status == 200 and a.body[:1] == b" " and \
        b"InternalError" in a.body
    assert plain.s3_file("b", KEY) is None
    plain.rule(op="complete", blank=0.2, blank_inside=True,
               action="lose_answer")
    with pytest.raises((OSError, http.client.HTTPException)):
        s3.complete("b", KEY, found, tags)
    assert read(plain.s3_file("b", KEY)) == b"".join(PARTS)
    assert s3.complete("b", KEY, found, tags).one("Code") == "NoSuchUpload"
    found, tags = upload(s3, "b")
    plain.rule(op="complete", blank=0.2, blank_inside=True)
    a = s3.complete("b", KEY, found, tags)
    assert b"?>    " in a.body and a.one("ETag") == COMPOSITE
    found, tags = upload(s3, "b")
    plain.rule(op="parts", action="truncate", to=1)
    assert s3.parts("b", KEY, found).all("PartNumber") == ["1"]
    plain.rule(op="parts", action="forget")
    assert s3.parts("b", KEY, found).one("Code") == "NoSuchUpload"
    plain.rule(op="put", status=503, body="@slow-down")
    assert s3("PUT", "b", "x", body=b"1").one("Code") == "SlowDown"
    a = s3("PUT", "b", KEY, body=b"1", if_none_match="*")
    assert (a.status, a.one("Code")) == (412, "PreconditionFailed")
    plain.rule(op="create", status=200, body="@entities")
    a = s3("POST", "b", KEY, "uploads")
    assert b"<!ENTITY e10" in a.body and b"&e10;" in a.body


def test_s3_has_the_manners_of_others(plain):
    s3 = plain.s3
    plain.options(s3_flavor="gcs")
    a = s3("PUT", "b", "x", body=b"123456789")
    assert a.headers["x-goog-hash"] == \
        "crc32c=4waSgw==,md5=JfnnlDI7RTiF9RgfG2JNCw=="
    plain.options(s3_flavor="aws", s3_etag="opaque")
    tag = s3("PUT", "b", "x", body=b"1").headers["ETag"]
    assert tag.strip('"') != hashlib.md5(b"1").hexdigest()
    plain.options(s3_equal_parts=True, s3_min_part=1)
    found = s3.create("b", "x")
    tags = [s3.part("b", "x", found, n, b"x" * n).headers["ETag"]
            for n in (1, 2, 3)]
    assert s3.complete("b", "x", found, tags).one("Code") == "InvalidPart"
    plain.options(s3_page=2)
    a = s3.parts("b", "x", found)
    assert (a.all("PartNumber"), a.one("IsTruncated")) == (["1", "2"], "true")


# ---- Swift


def test_swift_does_multipart_by_the_book(swift):
    for endpoint in (swift.plain_endpoint, swift.endpoint,
                     swift.buffered_endpoint):
        s3 = s3_client.S3Client(endpoint, swift.access_key, swift.secret_key,
                                cafile=swift.certs.ca)
        bucket = swift.bucket()
        check_multipart(s3, bucket)
        assert swift.get(bucket, KEY) == b"".join(PARTS)
        assert swift.names(bucket) == [KEY]
        check_who(endpoint, swift.certs.ca, bucket, swift.access_key,
                  swift.secret_key)


def test_swift_knows_buckets_in_host_names_and_strangers(swift):
    bucket = swift.bucket()
    swift.s3("PUT", bucket, KEY, body=b"123")
    port = urllib.parse.urlsplit(swift.host_endpoint).port
    s3 = s3_client.S3Client(swift.endpoint, swift.access_key,
                            swift.secret_key, cafile=swift.certs.ca)
    a = s3("GET", "", KEY, host="%s.s3.localhost:%d" % (bucket, port))
    assert (a.status, a.body) == (200, b"123")
    stranger = s3_client.S3Client(swift.endpoint, swift.stranger_key,
                                  swift.stranger_secret,
                                  cafile=swift.certs.ca)
    assert stranger("GET", bucket, KEY).one("Code") == "AccessDenied"
    assert s3("GET", "no-such-bucket", KEY).one("Code") == "NoSuchBucket"
    assert swift.get(bucket, "nothing") is None


def test_swift_shows_unfinished_uploads(swift):
    bucket = swift.bucket()
    found = swift.s3.create(bucket, KEY)
    swift.s3.part(bucket, KEY, found, 7, b"1234")
    assert swift.uploads(bucket) == [(KEY, found)]
    assert swift.parts(bucket, KEY, found) == {
        7: (4, hashlib.md5(b"1234").hexdigest())}
    swift.delete_upload(bucket, KEY, found)
    assert swift.uploads(bucket) == []
    begin = len(swift.seen())
    s3_client.S3Client(swift.endpoint, swift.access_key, swift.secret_key,
                       cafile=swift.certs.ca)("HEAD", bucket, KEY)
    seen, = swift.seen(begin=begin)
    assert (seen["method"], seen["status"]) == ("HEAD", 404)


# ---- The end


def test_stopped_swift_leaves_nothing_behind(start, certs):
    server = start(upload_servers.Swift, certs)
    pids = [server.process.pid, *servers.descendants(server.process.pid)]
    assert len(pids) == 6
    bucket = server.bucket()
    server.s3("PUT", bucket, "x", body=b"123")
    server.stop()
    assert not any(map(servers.alive, pids))
    server.start()
    assert server.get(bucket, "x") == b"123"
