"""The HTTP servers are what the other tests believe they are.

Proven with curl, so that a failure elsewhere is haul's.
"""

import base64
import hashlib
import os
import subprocess

import conftest
import http_servers
import pytest
import servers

MI = conftest.MI
LOGIN = "%s:%s" % http_servers.LOGIN


class Answer:
    def __init__(self, result, head, body):
        self.code = result.returncode
        self.status = int(result.stdout.strip() or 0)
        self.error = result.stderr
        self.headers = {}
        for line in head.split(b"\r\n"):
            if line.startswith(b"HTTP/"):
                self.headers = {}
            name, colon, value = line.partition(b":")
            if colon:
                self.headers[name.decode().lower()] = value.decode().strip()
        self.body = body


@pytest.fixture
def curl(work, certs):
    try:
        program = servers.program("curl")
    except servers.Missing as missing:
        pytest.skip(str(missing))
    env = {k: v for k, v in os.environ.items()
           if not k.lower().endswith("_proxy")}

    def curl(*args, timeout=10):
        head, body = os.path.join(work, "head"), os.path.join(work, "body")
        for path in (head, body):
            open(path, "wb").close()
        result = subprocess.run(
            [program, "-q", "-sS", "--cacert", certs.ca, "--proxy-cacert",
             certs.ca, "-D", head, "-o", body, "-w", "%{http_code}", "-m",
             str(timeout), *args], capture_output=True, text=True, env=env)
        with open(head, "rb") as h, open(body, "rb") as b:
            return Answer(result, h.read(), b.read())
    return curl


def read(path):
    with open(path, "rb") as f:
        return f.read()


def test_nginx_serves_ranges(curl, nginx, page):
    source = page(300000)
    whole = curl(nginx.url("/dump.sql"))
    assert (whole.status, whole.body) == (200, read(source))
    etag = whole.headers["etag"]
    assert etag.startswith('"')
    part = curl(nginx.url("/dump.sql"), "-r", "100-199", "-H",
                "If-Range: " + etag)
    assert (part.status, part.body) == (206, read(source)[100:200])
    assert part.headers["content-range"] == "bytes 100-199/300000"
    other = curl(nginx.url("/dump.sql"), "-r", "100-199", "-H",
                 'If-Range: "x"')
    assert other.status == 200
    assert curl(nginx.url("/dump.sql"), "-r", "300000-").status == 416
    seen = nginx.seen("/dump.sql")
    assert [e["status"] for e in seen] == [200, 206, 200, 416]
    assert [e["sent"] for e in seen][:2] == [300000, 100]
    assert {e["tls"] for e in seen} == {"TLSv1.3"}


def test_places_of_nginx_lack_what_they_should(curl, nginx, page):
    source = page(300000)
    assert curl(nginx.url("/norange/dump.sql"), "-r", "0-9").status == 200
    assert "etag" not in curl(nginx.url("/noetag/dump.sql")).headers
    bare = curl(nginx.url("/novalidator/dump.sql")).headers
    assert "etag" not in bare and "last-modified" not in bare
    packed = curl(nginx.url("/gz/dump.sql"), "-H", "Accept-Encoding: gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < 300000
    assert curl(nginx.url("/forbidden/x")).status == 403
    assert curl(nginx.url("/dead/x")).status == 502
    assert curl(nginx.url("/cut/x")).code == 52
    assert curl(nginx.url("/auth/dump.sql")).status == 401
    assert curl(nginx.url("/auth/dump.sql"), "-u", LOGIN).body == read(source)


@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_servers_take_uploads(curl, request, kind, dump):
    server = request.getfixturevalue(kind)
    source = dump(3 * MI)
    assert curl(server.url("/dav/t"), "-T", source).status == 201
    assert read(server.dav + "/t") == read(source)
    assert curl(server.url("/authdav/u"), "-T", source).status == 401
    assert curl(server.url("/authdav/u"), "-T", source, "-u",
                LOGIN).status == 201
    with open(source) as f:
        pipe = subprocess.run(["cat"], stdin=f, capture_output=True).stdout
    assert len(pipe) == 3 * MI
    assert curl(server.url("/dav/v"), "-T", source, "-H",
                "Transfer-Encoding: chunked").status == 201
    assert read(server.dav + "/v") == read(source)


def test_small_refuses_more_than_64_kib(curl, nginx, dump):
    assert curl(nginx.url("/small/t"), "-T", dump(65537)).status == 413
    assert curl(nginx.url("/small/t"), "-T", dump(65536)).status == 201


def test_apache_tells_content_md5(curl, apache, page):
    source = page(300000)
    answer = curl(apache.url("/whole/dump.sql"), "-r", "0-9")
    assert answer.status == 200
    assert answer.headers["content-md5"] == base64.b64encode(
        hashlib.md5(read(source)).digest()).decode()


@pytest.mark.parametrize("door, words", [
    ("expired", "expired"), ("wrong_name", "subject name"),
    ("self_signed", "self-signed")])
def test_doors_have_the_certificates_they_should(curl, nginx, door, words):
    answer = curl(nginx.url("/", port=getattr(nginx, door)))
    assert answer.code == 60 and words in answer.error


def test_client_certificates_are_wanted(curl, start, certs, nginx, page):
    page(10)
    gate = start(http_servers.Haproxy, certs, nginx.plain)
    mine = ("--cert", certs.client, "--key", certs.key(certs.client))
    theirs = ("--cert", certs.stranger, "--key", certs.key(certs.stranger))
    for server, refused in ((nginx, (0, 400)), (gate, (56, 0))):
        url = server.url("/dump.sql", port=server.mutual)
        assert curl(url, *mine).status == 200
        for who in ((), theirs):
            answer = curl(url, *who)
            assert (answer.code, answer.status) == refused, answer.error


def test_nginx_listens_on_sockets_and_ipv6(curl, nginx, page):
    source = page(1000)
    for name, scheme in ((nginx.unix, "http"), (nginx.unix_tls, "https")):
        assert curl(scheme + "://localhost/dump.sql", "--unix-socket",
                    name).body == read(source)
    if nginx.six:
        assert curl(nginx.url("/dump.sql", nginx.six,
                              host="[::1]")).body == read(source)


def test_redirects_lead_where_they_should(curl, nginx):
    def where(path):
        return curl(nginx.url(path)).headers["location"]

    assert where("/to/307/a/b") == nginx.url("/a/b")
    assert where("/tohttp/a") == "http://127.0.0.1:%d/a" % nginx.plain
    assert where("/toother/a") == "https://localhost:%d/a" % nginx.other
    assert curl(nginx.url("/loop/x"), "-L").code == 47
    assert curl(nginx.url("/endless/1"), "-L").code == 47


def test_haproxy_is_busy_as_often_as_told(curl, start, certs, nginx, page):
    source = page(1000)
    gate = start(http_servers.Haproxy, certs, nginx.plain, first=2)
    for status in (503, 429):
        url = gate.url("/busy%d/dump.sql" % status)
        for _ in range(2):
            answer = curl(url)
            assert (answer.status, answer.headers["retry-after"]) == (
                status, "2")
        assert curl(url).body == read(source)
    assert curl(gate.url("/dead/x")).status == 503
    assert curl(gate.url("/mute/x")).status == 504
    assert curl(gate.url("/cut/x")).status == 502
    assert curl(gate.url("/hang/x"), timeout=1).code == 28


def test_squid_asks_for_a_login_and_refuses_a_port(curl, start, certs, nginx,
                                                   page):
    source = page(1000)
    squid = start(http_servers.Squid, certs, denied=nginx.other)
    front = start(http_servers.Haproxy, certs, squid.port)
    via = ("-x", "http://127.0.0.1:%d" % squid.port)
    url = nginx.url("/dump.sql")
    assert "407" in curl(url, *via).error
    assert curl(url, *via, "-U", LOGIN).body == read(source)
    assert "403" in curl(nginx.url("/", nginx.other), *via, "-U", LOGIN).error
    assert curl(url, "-x", "https://127.0.0.1:%d" % front.tunnel, "-U",
                LOGIN).body == read(source)
    assert [s[0] for s in squid.seen()] == [407, 200, 403, 200]


# What curl makes of the lies: its exit status.
LIES = {"length-long": 18, "cut": 18, "chunk-cut": 18, "garbage": 1,
        "empty": 52, "headers-endless": 56, "hang-before": 28,
        "hang-in": 28, "hang-after": 28, "interim": 56}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_liar_is_honest_and_lies_as_told(curl, start, certs, www, page, tls):
    source = page(300000)
    liar = start(http_servers.Liar, certs, www, tls=tls)
    url = liar.url("/dump.sql")
    assert curl(url).body == read(source)
    assert curl(url, "-r", "7-99").body == read(source)[7:100]
    for lie in ("surplus", "chunked", "close", "interim-few", "full"):
        assert curl(url + "?lie=" + lie, "-r", "7-").code == 0, lie
    assert len(curl(url + "?lie=length-short").body) == 299000
    for lie, code in LIES.items():
        assert curl(url + "?lie=" + lie, timeout=0.4).code == code, lie
    other = curl(url + "?lie=etag-other", "-r", "0-9")
    assert other.body == bytes(b ^ 1 for b in read(source)[:10])
    assert curl(url + "?lie=loop", "-L").code == 47
    page(10, name="other")
    for _ in range(3):
        curl(liar.url("/other?lie=status&status=503&skip=1&first=1"))
    assert [r["status"] for r in liar.seen()[-3:]] == [200, 503, 200]


def test_liar_takes_uploads_and_lies_as_told(curl, liar, dump):
    source = dump(3 * MI)

    def put(query, *more):
        return curl(liar.url("/t?" + query), "-T", source, *more, timeout=1.5)

    assert put("").status == 201
    assert read(liar.dav + "/t") == read(source)
    assert put("", "-H", "If-None-Match: *").status == 412
    assert put("lie=early&status=413").status == 413
    assert put("lie=status&status=500").status == 500
    assert put("lie=expect-401").status == 401
    assert put("lie=auth", "-u", LOGIN).status == 201
    assert put("lie=redirect&to=/u", "-L").status == 201
    assert read(liar.dav + "/u") == read(source)
    assert put("lie=cut").code in (52, 55, 56)
    assert put("lie=hang-after").code == 28
    assert len(put("lie=body&size=2000000").body) == 2000000
    assert put("lie=no-chunks", "-H", "Transfer-Encoding: chunked"
               ).status == 411
    assert [r["received"] for r in liar.seen()
            if "413" in r["query"]] == [0]


@pytest.mark.parametrize("kind", [http_servers.Nginx, http_servers.Apache,
                                  http_servers.Squid, http_servers.Liar])
def test_stopped_server_leaves_nothing_behind(start, certs, kind):
    server = start(kind, certs)
    pids = [server.process.pid, *servers.descendants(server.process.pid)]
    server.stop()
    assert not any(map(servers.alive, pids))
