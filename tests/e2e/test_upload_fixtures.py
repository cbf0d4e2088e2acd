"""The servers for uploads are what the other tests believe they are; those of
S3 are in test_s3_fixtures.py.

Proven without haul, so that a failure elsewhere is haul's.
"""

import base64
import hashlib
import http.client
import json
import os
import socket
import time
import urllib.parse
import zlib

import pytest
import servers
import upload_servers

MI = 1 << 20
TUS = {"Tus-Resumable": "1.0.0"}
STREAM = {"Content-Type": "application/offset+octet-stream"}
DATA = bytes(range(256)) * 1200  # 307200


def read(path):
    with open(path, "rb") as f:
        return f.read()


def b64(data):
    return base64.b64encode(data).decode()


class Ask:
    """One request; status and headers of the answer."""

    def __init__(self, certs, method, url, body=None, **headers):
        headers = {k.replace("_", "-"): str(v) for k, v in headers.items()}
        self.status, self.headers, self.body = upload_servers.fetch(
            url, certs, method, body, headers)

    def offset(self):
        return int(self.headers["Upload-Offset"])


class Tus:
    """What a client of tus says."""

    def __init__(self, certs, url):
        self.certs, self.url = certs, url

    def ask(self, method, url, body=None, **headers):
        return Ask(self.certs, method, url, body, **{
            "Tus-Resumable": "1.0.0", **headers})

    def create(self, length=len(DATA), **headers):
        if length is not None:
            headers["Upload-Length"] = length
        a = self.ask("POST", self.url, **headers)
        assert a.status == 201
        return urllib.parse.urljoin(self.url, a.headers["Location"])

    def patch(self, url, offset, body, **headers):
        return self.ask("PATCH", url, body, Upload_Offset=offset,
                        **STREAM, **headers)

    def offset(self, url):
        a = self.ask("HEAD", url)
        assert a.status == 200
        return a.offset()


class Half:
    """A request of which not all is sent."""

    def __init__(self, url, method, length, sent, **headers):
        split = urllib.parse.urlsplit(url)
        self.sock = socket.create_connection((split.hostname, split.port), 20)
        lines = ["%s %s HTTP/1.1" % (method, split.path),
                 "Host: " + split.netloc, "Content-Length: %d" % length]
        lines += ["%s: %s" % (k.replace("_", "-"), v)
                  for k, v in headers.items()]
        self.sock.sendall("\r\n".join(lines + ["", ""]).encode() + sent)

    def answer(self):
        a = http.client.HTTPResponse(self.sock)
        a.begin()
        a.read()
        self.close()
        return a

    def close(self):
        self.sock.close()


def patch_half(url, sent, offset=0):
    return Half(url, "PATCH", len(DATA) - offset, sent, Upload_Offset=offset,
                **TUS, **STREAM)


def wait_for(what, timeout=10):
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def client(plain, certs):
    return Tus(certs, plain.tus())


# ---- tus, scripted


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_tus_takes_an_upload_in_two_pieces(start, certs, tls):
    server = start(upload_servers.Resumable, certs, tls=tls)
    client = Tus(certs, server.tus())
    a = Ask(certs, "OPTIONS", server.tus())
    assert a.status == 204 and a.headers["Tus-Version"] == "1.0.0"
    assert "checksum" in a.headers["Tus-Extension"].split(",")
    assert "sha1" in a.headers["Tus-Checksum-Algorithm"].split(",")
    url = client.create(Upload_Metadata="filename " + b64(b"a.sql"))
    assert url.startswith(server.url("/files/"))
    a = client.patch(url, 0, DATA[:100000])
    assert (a.status, a.offset()) == (204, 100000)
    assert client.offset(url) == 100000
    assert server.finished() == []
    a = client.patch(url, 100000, DATA[100000:])
    assert (a.status, a.offset()) == (204, len(DATA))
    assert [read(p) for p in server.finished()] == [DATA]
    upload, = server.uploads("tus")
    assert upload["metadata"] == {"filename": "a.sql"}
    assert [r["op"] for r in server.seen()] == [
        "discover", "create", "append", "offset", "append"]
    assert [r["received"] for r in server.seen("append")] == [
        100000, len(DATA) - 100000]
    assert server.overlaps() == []


def test_tus_refuses_what_it_should(certs, client):
    url = client.create()
    assert client.patch(url, 5, DATA).status == 409
    assert client.patch(url, 0, DATA + b"x").status == 413
    assert client.ask("PATCH", url, DATA, Upload_Offset=0,
                      Content_Type="text/plain").status == 415
    assert Ask(certs, "PATCH", url, DATA, Upload_Offset=0,
               **STREAM).status == 412
    assert client.patch(client.url + "/nothing", 0, DATA).status == 404
    assert client.ask("POST", client.url, Upload_Length="x").status == 400
    assert client.ask("POST", client.url).status == 400
    assert client.offset(url) == 0


@pytest.mark.parametrize("name", ["sha1", "md5", "sha256", "crc32"])
def test_tus_checks_checksums(client, name):
    def of(data):
        if name == "crc32":
            return zlib.crc32(data).to_bytes(4, "big")
        return hashlib.new(name, data).digest()

    url = client.create()
    told = "%s %s" % (name, b64(of(DATA)))
    assert client.patch(url, 0, DATA[:5], Upload_Checksum=told).status == 460
    assert client.offset(url) == 0
    assert client.patch(url, 0, DATA[:5], Upload_Checksum="x AA==").status \
        == 400
    assert client.patch(url, 0, DATA, Upload_Checksum=told).status == 204


def test_tus_puts_parts_together(client, plain):
    parts = [client.create(n, Upload_Concat="partial")
             for n in (100000, len(DATA) - 100000)]
    final = "final;%s %s" % (urllib.parse.urlsplit(parts[0]).path, parts[1])
    client.patch(parts[0], 0, DATA[:100000])
    assert client.ask("POST", client.url, Upload_Concat=final).status == 400
    client.patch(parts[1], 0, DATA[100000:])
    url = client.create(None, Upload_Concat=final)
    head = client.ask("HEAD", url).headers
    assert head["Upload-Offset"] == head["Upload-Length"] == str(len(DATA))
    assert head["Upload-Concat"] == final
    assert client.patch(url, len(DATA), b"").status == 403
    assert [read(p) for p in plain.finished()] == [DATA]


def test_tus_has_the_other_extensions(client, plain):
    url = client.create(None, Upload_Defer_Length=1)
    assert client.ask("HEAD", url).headers["Upload-Defer-Length"] == "1"
    client.patch(url, 0, DATA[:9])
    assert plain.finished() == []
    client.patch(url, 9, DATA[9:], Upload_Length=len(DATA))
    assert [read(p) for p in plain.finished()] == [DATA]
    assert client.ask("DELETE", url).status == 204
    assert client.ask("HEAD", url).status == 404
    a = client.ask("POST", client.url, DATA, Upload_Length=len(DATA), **STREAM)
    assert (a.status, a.offset()) == (201, len(DATA))
    plain.options(tus_expires=0.2)
    a = client.ask("POST", client.url, Upload_Length=3)
    assert a.headers["Upload-Expires"].endswith("GMT")
    time.sleep(0.3)
    assert client.ask("HEAD", a.headers["Location"]).status == 410
    plain.options(tus_extensions="creation", tus_max_size=10)
    assert client.ask("POST", client.url, Upload_Length=11).status == 413
    assert client.ask("POST", client.url, Upload_Length=5,
                      Upload_Concat="partial").status == 501


def test_tus_takes_chunked_bodies(certs, client, plain):
    url = client.create()
    split = urllib.parse.urlsplit(url)
    c = http.client.HTTPConnection(split.netloc, timeout=20)
    c.request("PATCH", split.path, iter([DATA[:7], DATA[7:200000],
                                         DATA[200000:]]),
              dict(TUS, **STREAM, **{"Upload-Offset": "0",
                                     "Transfer-Encoding": "chunked"}),
              encode_chunked=True)
    assert c.getresponse().status == 204
    c.close()
    assert [read(p) for p in plain.finished()] == [DATA]


def test_head_during_a_patch_interrupts_it_and_is_noted(client, plain):
    url = client.create()
    patch = patch_half(url, DATA[:1000])
    wait_for(lambda: plain.uploads()[0]["offset"] == 1000)
    assert client.offset(url) == 1000
    assert patch.answer().status == 400
    assert [r["op"] for r in plain.overlaps()] == ["offset"]


def test_head_after_a_closed_patch_is_no_overlap(client, plain):
    url = client.create()
    for n in range(1, 21):
        before = client.offset(url)
        patch = patch_half(url, DATA[before:n * 1000], before)
        wait_for(lambda: plain.uploads()[0]["offset"] > before)
        patch.close()
    assert 0 < client.offset(url) <= 20000
    assert plain.overlaps() == []


def test_a_hanging_patch_is_still_one(client, plain):
    plain.rule(op="append", action="hang", after_bytes=500)
    url = client.create()
    patch = patch_half(url, DATA)
    wait_for(lambda: plain.uploads()[0]["offset"] == 500)
    assert client.offset(url) == 500
    assert len(plain.overlaps()) == 1
    patch.close()


def test_a_second_writer_is_refused_when_told(client, plain):
    plain.options(locking="refuse")
    url = client.create()
    patch = patch_half(url, DATA[:10])
    wait_for(lambda: plain.uploads()[0]["offset"] == 10)
    assert client.patch(url, 10, DATA[10:]).status == 423
    patch.close()


# ---- Rules


def test_rule_drop_keeps_what_came(client, plain):
    for count in (0, 1, 60000):
        plain.rule(method="PATCH", action="drop", after_bytes=count)
        url = client.create()
        with pytest.raises(OSError):
            client.patch(url, 0, DATA)
        assert client.offset(url) == count
    assert client.patch(url, 60000, DATA[60000:]).status == 204


def test_rule_lose_answer_does_the_work(client, plain):
    plain.rule(op="create", action="lose_answer")
    plain.rule(op="append", action="lose_answer")
    with pytest.raises(OSError):
        client.create()
    assert len(plain.uploads()) == 1
    url = client.create()
    with pytest.raises(OSError):
        client.patch(url, 0, DATA)
    assert client.offset(url) == len(DATA)


def test_rules_answer_a_status_at_three_moments(client, plain):
    url = client.create()
    for when, offset in (("early", 0), ("late", 0), ("after", len(DATA))):
        plain.rule(op="append", status=503, when=when,
                   headers={"Retry-After": "7"})
        a = client.patch(url, 0, DATA)
        assert (a.status, a.headers["Retry-After"]) == (503, "7")
        assert client.offset(url) == offset
    received = [r["received"] for r in plain.seen("append")]
    assert received == [0, len(DATA), len(DATA)]
    url = client.create()
    plain.rule(op="append", status=500, after_bytes=777)
    assert client.patch(url, 0, DATA).status == 500
    assert client.offset(url) == 777


def test_rules_lie_forget_and_lose(client, plain):
    url = client.create()
    client.patch(url, 0, DATA[:1000])
    plain.rule(op="offset", lie_offset=-10)
    plain.rule(op="offset", lie_offset=+10, skip=1)
    assert [client.offset(url) for _ in range(3)] == [990, 1010, 1000]
    plain.rule(op="offset", action="truncate", to=400)
    assert client.offset(url) == 400
    plain.rule(op="offset", action="truncate", by=50)
    assert client.offset(url) == 350
    assert client.patch(url, 350, DATA[350:]).status == 204
    assert read(plain.finished()[0]) == DATA
    plain.rule(op="offset", action="forget", gone=410)
    assert client.ask("HEAD", url).status == 410
    other = client.create()
    plain.rule(op="offset", action="forget", path=other[-16:])
    assert client.ask("HEAD", other).status == 404


def test_rules_store_less_or_other_bytes(client, plain):
    url = client.create()
    plain.rule(op="append", action="short", after_bytes=100)
    a = client.patch(url, 0, DATA)
    assert (a.status, a.offset()) == (204, 100)
    told = "sha1 " + b64(hashlib.sha1(DATA[100:]).digest())
    plain.rule(op="append", corrupt=5)
    assert client.patch(url, 100, DATA[100:], Upload_Checksum=told).status \
        == 460
    plain.rule(op="append", corrupt=5, where="disk")
    assert client.patch(url, 100, DATA[100:], Upload_Checksum=told).status \
        == 204
    stored = read(plain.finished()[0])
    assert [i for i in range(len(DATA)) if stored[i] != DATA[i]] == [105]


@pytest.mark.parametrize("word, begin", [
    ("relative", "/files/"), ("http", "http://127.0.0.1:"),
    ("https", "https://127.0.0.1:"), ("other", "https://localhost:"),
    ("//elsewhere.test/x", "//elsewhere.test/x")])
def test_rule_location_says_where(start, certs, word, begin):
    server = start(upload_servers.Resumable, certs, tls=True)
    server.rule(op="create", location=word)
    a = Ask(certs, "POST", server.tus(), Upload_Length=5, **TUS)
    assert a.headers["Location"].startswith(begin)


def test_rules_fit_what_they_say(client, plain):
    url = client.create()
    plain.rule(method=["HEAD", "GET"], header={"X-A": "^b"}, status=418,
               skip=1, times=2)
    seen = [client.ask("HEAD", url, X_A=v).status
            for v in ("b", "c", "bb", "b", "b")]
    assert seen == [200, 200, 418, 418, 200]
    plain.rule(op="offset", status=500, times=0)
    assert [client.ask("HEAD", url).status for _ in range(3)] == [500] * 3
    plain.clear_rules()
    plain.rule(op="offset", delay=0.3, set={"X-Odd": "1",
                                            "Upload-Offset": None})
    begin = time.monotonic()
    head = client.ask("HEAD", url).headers
    assert time.monotonic() - begin >= 0.3
    assert head["X-Odd"] == "1" and "Upload-Offset" not in head


def test_options_hold_for_all_requests(certs, client, plain):
    plain.options(auth="Bearer x")
    assert client.ask("POST", client.url, Upload_Length=5).status == 401
    url = client.create(Authorization="Bearer x")
    plain.options(auth=None, max_body=1000)
    assert client.patch(url, 0, DATA[:1001]).status == 413
    assert client.patch(url, 0, DATA[:1000]).status == 204


# ---- The IETF draft, scripted


class Ietf:
    """What a client of interop version V says."""

    def __init__(self, certs, version):
        self.certs, self.version = certs, version

    def complete(self, yes):
        if self.version == 3:
            return {"Upload-Incomplete": "?0" if yes else "?1"}
        return {"Upload-Complete": "?1" if yes else "?0"}

    def ask(self, method, url, body=None, complete=None, **headers):
        if complete is not None:
            headers.update(self.complete(complete))
        return Ask(self.certs, method, url, body,
                   Upload_Draft_Interop_Version=self.version, **headers)

    def create(self, url, **headers):
        a = self.ask("POST", url, complete=False, **headers)
        assert a.status == 201
        return a.headers["Location"]

    def patch(self, url, offset, body, complete, **headers):
        if self.version >= 6:
            headers.setdefault("Content_Type", "application/partial-upload")
        return self.ask("PATCH", url, body, complete, Upload_Offset=offset,
                        **headers)


@pytest.mark.parametrize("version", range(3, 9))
def test_ietf_takes_a_careful_upload(certs, plain, version):
    plain.options(ietf_limit="max-size=1000000,max-age=60", ietf_104=False)
    client = Ietf(certs, version)
    url = client.create(plain.ietf("a"))
    a = client.patch(url, 0, DATA[:1000], False)
    assert a.status == (201 if version < 5 else 204)
    said = "Upload-Incomplete" if version == 3 else "Upload-Complete"
    assert a.headers[said] == ("?1" if version == 3 else "?0")
    assert a.headers["Upload-Draft-Interop-Version"] == str(version)
    head = client.ask("HEAD", url)
    assert (head.status, head.offset()) == (204, 1000)
    assert head.headers["Cache-Control"] == "no-store"
    limit = {3: None, 4: None, 5: "max-size=1000000,expires=60",
             6: "max-size=1000000,expires=60"}.get(
                 version, "max-size=1000000,max-age=60")
    assert head.headers["Upload-Limit"] == limit
    wrong = client.patch(url, 999, DATA[999:], True)
    assert (wrong.status, wrong.offset()) == (409, 1000)
    problem = json.loads(wrong.body)
    assert problem["type"].endswith("#mismatching-upload-offset")
    assert problem["expected-offset"] == 1000
    assert not os.path.exists(plain.ietf_file("a"))
    a = client.patch(url, 1000, DATA[1000:], True)
    assert a.status == 201
    assert a.headers[said] == ("?0" if version == 3 else "?1")
    assert read(plain.ietf_file("a")) == DATA
    assert client.patch(url, len(DATA), b"x", True).status == 400


def test_ietf_tells_what_it_offers(certs, plain):
    a = Ask(certs, "OPTIONS", plain.ietf("a"))
    assert a.headers["Upload-Limit"] == "min-size=0"
    assert a.headers["Accept-Patch"] == "application/partial-upload"
    assert a.headers["Upload-Draft-Interop-Version"] == "8"
    plain.options(ietf_versions=[3, 4])
    assert "Upload-Limit" not in Ask(certs, "OPTIONS",
                                     plain.ietf("a")).headers
    # A version that it does not know: a plain upload, unless told otherwise.
    client = Ietf(certs, 8)
    a = client.ask("POST", plain.ietf("b"), DATA, complete=True)
    assert a.status == 201 and "Upload-Complete" not in a.headers
    assert read(plain.ietf_file("b")) == DATA
    plain.options(ietf_unknown=412)
    assert client.ask("POST", plain.ietf("c"), DATA,
                      complete=True).status == 412


def test_ietf_sends_104_and_goes_on_after_a_cut(plain, certs):
    half = Half(plain.ietf("a"), "POST", len(DATA), DATA[:5000],
                Upload_Complete="?1", Upload_Draft_Interop_Version=8)
    text = b""
    while b"\r\n\r\n" not in text:
        text += half.sock.recv(1000)
    lines = text.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 104 Upload Resumption Supported"
    told = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    assert told["Upload-Draft-Interop-Version"] == "8"
    half.close()
    client = Ietf(certs, 8)
    assert client.ask("HEAD", told["Location"]).offset() == 5000
    assert client.patch(told["Location"], 5000, DATA[5000:],
                        True).status == 201
    assert read(plain.ietf_file("a")) == DATA
    plain.rule(op="create", no104=True, path="/b$")
    half = Half(plain.ietf("b"), "POST", 3, b"abc", Upload_Complete="?1",
                Upload_Draft_Interop_Version=8)
    assert half.answer().status == 201


def test_ietf_checks_digests_and_lengths(certs, plain):
    plain.options(ietf_104=False)  # Python's client does not know it
    client = Ietf(certs, 8)
    sha = "sha-256=:%s:" % b64(hashlib.sha256(DATA).digest())
    url = client.create(plain.ietf("a"), Upload_Length=len(DATA),
                        Repr_Digest=sha, Want_Repr_Digest="sha-256=9")
    assert client.patch(url, 0, DATA[:9], False,
                        Content_Digest=sha).status == 400
    assert client.patch(url, 0, DATA[:9], True).status == 400
    assert client.patch(url, 0, DATA + b"x", False).status == 400
    assert client.ask("HEAD", url).offset() == 0
    a = client.patch(url, 0, DATA, True, Content_Digest=sha)
    assert (a.status, a.headers["Repr-Digest"]) == (201, sha)
    url = client.create(plain.ietf("b"), Repr_Digest=sha)
    a = client.patch(url, 0, DATA[1:], True)
    assert (a.status, a.headers["Upload-Complete"]) == (400, "?1")
    plain.options(ietf_limit="max-size=100, max-append-size=10")
    a = client.ask("POST", plain.ietf("c"), complete=False,
                   Upload_Length=101)
    assert a.status == 413 and "max-size=100" in a.headers["Upload-Limit"]
    url = client.create(plain.ietf("c"))
    assert client.patch(url, 0, DATA[:11], False).status == 413
    assert client.patch(url, 0, DATA[:10], False).status == 204
    assert client.ask("DELETE", url).status == 204
    assert client.ask("HEAD", url).status == 404


# ---- Ranged PUT


def put_range(certs, url, begin, data, total=len(DATA), **headers):
    return Ask(certs, "PUT", url, data, Content_Range="bytes %d-%d/%d" % (
        begin, begin + len(data) - 1, total), **headers).status


@pytest.mark.parametrize("kind", ["scripted", "apache"])
def test_ranged_put_writes_in_any_order(certs, plain, request, kind):
    if kind == "apache":
        server = request.getfixturevalue("apache")
        url, path = server.url("/dav/t"), server.dav + "/t"
    else:
        url, path = plain.put("t"), plain.put_file("t")
    assert Ask(certs, "PUT", url, b"").status == 201
    for begin in (200000, 0, 100000):
        data = DATA[begin:begin + 100000 if begin < 200000 else None]
        assert put_range(certs, url, begin, data) in (201, 204)
    assert read(path) == DATA
    # Interrupted: what came stays.
    half = Half(plain.put("t") if kind == "scripted" else server.url(
        "/dav/t", server.plain), "PUT", 1000, b"x" * 500,
        Content_Range="bytes 0-999/%d" % len(DATA))
    wait_for(lambda: read(path)[:1] == b"x")
    half.close()
    assert Ask(certs, "HEAD", url).headers["Content-Length"] == str(len(DATA))
    assert Ask(certs, "MOVE", url, Destination=url + "2").status == 201
    assert read(path + "2")[1000:] == DATA[1000:]


def test_ranged_put_is_misunderstood_as_told(certs, plain):
    url, path = plain.put("t"), plain.put_file("t")
    Ask(certs, "PUT", url, DATA)
    plain.options(put="refuse")
    assert put_range(certs, url, 5, b"x") == 501
    plain.options(put="bad")
    assert put_range(certs, url, 5, b"x") == 400
    assert read(path) == DATA
    plain.options(put="replace")
    assert put_range(certs, url, 5, b"x") == 204
    assert read(path) == b"x"


# ---- tus from npm, and proxies


def test_npm_tus_takes_an_upload(certs, tus):
    client = Tus(certs, tus.tus())
    a = Ask(certs, "OPTIONS", tus.tus())
    offered = a.headers["Tus-Extension"].split(",")
    assert "creation-defer-length" in offered and "checksum" not in offered
    url = client.create()
    assert client.patch(url, 0, DATA[:1000]).offset() == 1000
    assert client.patch(url, 5, DATA).status == 409
    assert tus.uploads()[0]["offset"] == 1000
    assert client.patch(url, 1000, DATA[1000:]).offset() == len(DATA)
    assert [read(p) for p in tus.finished()] == [DATA]
    assert [r["method"] for r in tus.seen()] == [
        "OPTIONS", "POST", "PATCH", "PATCH", "PATCH"]


def test_npm_tus_answers_204_to_a_patch_that_head_cut_short(certs, tus):
    client = Tus(certs, tus.tus())
    url = client.create()
    patch = patch_half(url, DATA[:1000])
    wait_for(lambda: tus.uploads()[0]["offset"] == 1000)
    assert client.offset(url) == 1000
    a = patch.answer()
    assert (a.status, a.headers["Upload-Offset"]) == (204, "1000")
    assert len(tus.overlaps()) == 1


def proxied(certs, url):
    """A Tus through a proxy, an upload, its URL as it came."""
    client = Tus(certs, url)
    told = client.create()
    return client, told.replace("http://", "https://"), told


def tls_half(certs, url, sent):
    """As patch_half(), over TLS; the connection."""
    split = urllib.parse.urlsplit(url)
    context = upload_servers.ssl.create_default_context(cafile=certs.ca)
    c = http.client.HTTPSConnection(split.netloc, timeout=20, context=context)
    c.putrequest("PATCH", split.path)
    for name, value in {**TUS, **STREAM, "Upload-Offset": "0",
                        "Content-Length": str(len(DATA))}.items():
        c.putheader(name, value)
    c.endheaders()
    c.send(sent)
    return c


def test_nginx_in_front_of_tus_keeps_or_loses_what_was_cut(start, certs, tus):
    front = start(upload_servers.Front, certs, tus.port)
    for port, kept in ((front.port, 200000), (front.buffered, 0)):
        client, url, told = proxied(certs, front.url("/files", port))
        assert told == url
        c = tls_half(certs, url, DATA[:200000])
        if kept:
            wait_for(lambda: tus.uploads()[-1]["offset"] == kept or any(
                u["offset"] == kept for u in tus.uploads()))
        else:
            time.sleep(0.3)
        c.close()
        assert client.offset(url) == kept
        assert client.patch(url, kept, DATA[kept:]).status == 204
    assert [read(p) for p in tus.finished()] == [DATA, DATA]
    assert tus.overlaps() == []
    url = client.create()
    assert urllib.parse.urlsplit(url).port == front.buffered
    _, url, _ = proxied(certs, front.url("/files", front.small))
    assert client.patch(url, 0, bytes(MI + 1)).status == 413
    assert {e["tls"] for e in front.seen()} == {"TLSv1.3"}


def test_proxies_that_hide_tls_make_the_location_http(start, certs, tus):
    nginx = start(upload_servers.Front, certs, tus.port)
    apache = start(upload_servers.ApacheFront, certs, tus.port)
    honest = start(upload_servers.ApacheFront, certs, tus.port,
                   forwarded=True)
    for base, scheme in ((nginx.url("/files", nginx.unaware), "http"),
                         (apache.url("/files"), "http"),
                         (honest.url("/files"), "https")):
        client, url, told = proxied(certs, base)
        assert told.startswith("%s://%s/files/" % (
            scheme, urllib.parse.urlsplit(base).netloc))
        assert client.patch(url, 0, DATA).status == 204
    assert [read(p) for p in tus.finished()] == [DATA] * 3


# ---- The end


@pytest.mark.parametrize("kind", [
    upload_servers.Resumable, upload_servers.TusNpm])
def test_stopped_upload_server_leaves_nothing_behind(start, certs, kind):
    server = start(kind, certs)
    pids = [server.process.pid, *servers.descendants(server.process.pid)]
    server.stop()
    assert not any(map(servers.alive, pids))
