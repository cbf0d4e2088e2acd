"""Servers for uploads that resume: a scripted one, tus from npm, Swift with
S3, and proxies in front of them; see servers.py and http_servers.py.

Standard library only. What npm has to bring is fetched once, to
${XDG_CACHE_HOME:-~/.cache}/haul-tests.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import types
import urllib.error
import urllib.request

from http_servers import (LOG_FORMAT, NGINX, Apache, HttpDaemon, Nginx,
                          wait_steady)
from s3_client import S3Client, quote
from servers import HERE, USER, Missing, free_port, program


def fetch(url, certs=None, method="GET", data=None, headers=None, timeout=30):
    """(status, headers, body) of a request that goes around proxies and
    follows nothing."""
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    trust = ssl.create_default_context(cafile=certs.ca if certs else None)
    request = urllib.request.Request(url, data, headers or {}, method=method)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), Stay,
        urllib.request.HTTPSHandler(context=trust))
    try:
        with opener.open(request, timeout=timeout) as a:
            return a.status, a.headers, a.read()
    except urllib.error.HTTPError as a:
        with a:
            return a.code, a.headers, a.read()


S3_DOMAIN = "s3.localhost"


def bucket_certificate(certs):
    """One that is good for buckets in the host name too."""
    path = certs.path("s3.pem")
    if not os.path.exists(path):
        certs.sign("s3", "DNS:localhost,IP:127.0.0.1,DNS:%s,DNS:*.%s" % (
            S3_DOMAIN, S3_DOMAIN))
    return path


class Resumable(HttpDaemon):
    """tests/e2e/resumable.py: keeps the rules of tus, of the IETF draft, of
    ranged PUT and of S3, or breaks the one that rule() names. One that was
    stopped and started knows nothing of earlier uploads."""

    name = "resumable"

    def __init__(self, folder, certs, tls=False, **options):
        super().__init__(folder, certs)
        self.scheme = "https" if tls else "http"
        self.first = options
        self.store = self.path("store")
        os.mkdir(self.store)

    def command(self):
        argv = [sys.executable, os.path.join(HERE, "resumable.py"), "--port",
                str(self.port), "--store", self.store]
        if self.scheme == "https":
            pem = bucket_certificate(self.certs)
            argv += ["--certificate", pem, "--key", self.certs.key(pem)]
        return argv

    def start(self, port=0):
        super().start(port)
        if self.first:
            self.options(**self.first)
        return self

    def ask(self, path, method="GET", value=None):
        data = None if value is None else json.dumps(value).encode()
        status, _, body = fetch(self.url(path), self.certs, method, data)
        assert status in (200, 204), (path, status)
        return json.loads(body) if body else None

    def options(self, **options):
        """OPTIONS of resumable.py, and those of the protocols."""
        self.ask("/_options", "POST", options)

    def rule(self, **rule):
        """One more rule; what it can say stands in resumable.py."""
        self.ask("/_rules", "POST", [rule])

    def clear_rules(self):
        self.ask("/_rules", "DELETE")

    def stats(self):
        """connections; requests: what was asked and answered, in order."""
        return self.ask("/_stats")

    def seen(self, op=None, method=None, begin=0):
        """The requests from the begin-th on, when nothing changes any more."""
        requests = wait_steady(lambda: self.stats()["requests"])
        return [r for r in requests[begin:] if op in (None, r["op"]) and
                method in (None, r["method"])]

    def overlaps(self):
        """Requests that came while another one of the same upload was under
        way that the client had not ended. There should be none, ever."""
        return [r for r in self.seen() if r["overlap"] and
                r["overlap"]["open"]]

    def uploads(self, protocol=None):
        """What has been begun: key, path, offset, length, complete ..."""
        return [u for u in self.ask("/_uploads")
                if protocol in (None, u["protocol"])]

    # ---- Where to upload to, and what came

    def tus(self):
        """The creation URL."""
        return self.url("/files")

    def finished(self):
        """Paths of tus uploads that are whole, without partial ones."""
        return [u["path"] for u in self.uploads("tus")
                if u["complete"] and u["concat"] != "partial"]

    def ietf(self, name):
        return self.url("/ietf/" + name)

    def ietf_file(self, name):
        return os.path.join(self.store, "ietf-" + name)

    def put(self, name):
        """For PUT with Content-Range."""
        return self.url("/put/" + name)

    def put_file(self, name):
        return os.path.join(self.store, "put-" + name)

    # S3: the endpoint is url(""), with key and secret of its own.
    access_key, secret_key = "AKIAHAULTEST", "no-secret/at+all"
    region = "us-east-1"

    @property
    def endpoint(self):
        return self.url("")

    @property
    def host_endpoint(self):
        """For buckets in the host name."""
        return self.url("", host=S3_DOMAIN)

    def env(self):
        """The usual environment variables."""
        return {"AWS_ACCESS_KEY_ID": self.access_key,
                "AWS_SECRET_ACCESS_KEY": self.secret_key,
                "AWS_REGION": self.region}

    @property
    def s3(self):
        return S3Client(self.endpoint, self.access_key, self.secret_key,
                        self.region, self.certs.ca)

    def s3_file(self, bucket, name):
        """The path of an object, None: there is none."""
        found = [u["path"] for u in self.uploads("s3-object")
                 if (u["bucket"], u["name"]) == (bucket, name)]
        return found[0] if found else None


# ---- tus from npm

TUS = {"@tus/server": "2.4.5", "@tus/file-store": "2.1.1"}
NODE = (18, 0)  # they ask for 20.19, and work with the 18 of Debian 12


@contextlib.contextmanager
def locked(path):
    """One process at a time."""
    with open(path, "a") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(base, "haul-tests")
    os.makedirs(path, exist_ok=True)
    return path


def npm_install(packages, folder):
    """packages: {name: version}. No scripts run, nothing else is touched."""
    names = ["%s@%s" % p for p in packages.items()]
    with open(os.path.join(folder, "package.json"), "w") as f:
        f.write('{"private": true}\n')
    try:
        done = subprocess.run(
            [program("npm"), "install", "--no-save", "--no-package-lock",
             "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional",
             "--logs-max=0", "--fetch-retries=1",
             "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000", *names],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=120)
        code = re.search(r"\bcode (\w+)", done.stderr)
        reason = done.returncode and (code[1] if code else
                                      "status %d" % done.returncode)
    except subprocess.TimeoutExpired:
        reason = "no answer in 120 s"
    if reason:
        raise Missing("npm cannot fetch %s: %s" % (" ".join(names), reason))


def node_modules(packages):
    """Where they are, fetched once for all tests of this user."""
    name = "-".join("%s-%s" % (n.replace("/", "_"), v)
                    for n, v in sorted(packages.items()))
    base, failed = cache(), os.path.join(cache(), name + ".failed")
    path = os.path.join(base, name)
    with locked(os.path.join(base, "lock")):
        if os.path.isdir(path):
            return os.path.join(path, "node_modules")
        # Others need not wait for the same timeout again.
        if os.path.exists(failed) and \
                time.time() - os.path.getmtime(failed) < 300:
            with open(failed) as f:
                raise Missing(f.read())
        folder = tempfile.mkdtemp(dir=base)
        try:
            npm_install(packages, folder)
            os.rename(folder, path)
        except Missing as missing:
            with open(failed, "w") as f:
                f.write(str(missing))
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return os.path.join(path, "node_modules")


class TusNpm(HttpDaemon):
    """@tus/server with its file store, without TLS. options: of Server;
    expire: milliseconds that an upload lives."""

    name = "tus"
    scheme = "http"

    def __init__(self, folder, certs, **options):
        super().__init__(folder, certs)
        text = subprocess.run([program("node"), "--version"], check=True,
                              capture_output=True, text=True).stdout.strip()
        if tuple(map(int, text[1:].split(".")[:2])) < NODE:
            raise Missing("node is %s, @tus/server needs v%d.%d" % (
                text, *NODE))
        self.modules = node_modules(TUS)
        self.options = options
        self.store = self.path("store")
        os.mkdir(self.store)
        self.requests = self.path("requests")

    def command(self):
        return [program("node"), os.path.join(HERE, "tus_server.mjs"),
                self.modules, json.dumps(dict(
                    self.options, port=self.port, directory=self.store,
                    log=self.requests))]

    def tus(self, front=None):
        """The creation URL, or that of a proxy in front."""
        return (front or self).url("/files")

    def file(self, key):
        return os.path.join(self.store, key)

    def uploads(self):
        """key, path, offset, length, complete, metadata of each."""
        found = []
        for name in sorted(os.listdir(self.store)):
            if not name.endswith(".json"):
                continue
            with open(self.file(name)) as f:
                info = json.load(f)
            path = self.file(info["id"])
            offset = os.path.getsize(path)
            found.append({"key": info["id"], "path": path, "offset": offset,
                          "length": info.get("size"),
                          "complete": offset == info.get("size"),
                          "metadata": info.get("metadata") or {}})
        return found

    def finished(self):
        """Paths of uploads that are whole."""
        return [u["path"] for u in self.uploads() if u["complete"]]

    def seen(self, method=None):
        """Requests that are over, in the order of their ends."""
        if not os.path.exists(self.requests):
            return []
        wait_steady(lambda: os.path.getsize(self.requests))
        with open(self.requests) as f:
            found = [json.loads(line) for line in f]
        return [r for r in found if method in (None, r["method"])]

    def overlaps(self):
        """HEADs that came while a PATCH of the same upload was under way."""
        return [r for r in self.seen("HEAD") if r["overlap"] == "PATCH"]


# ---- Proxies

PROXY = """server {{ listen 127.0.0.1:{port} ssl; location / {{
proxy_pass http://127.0.0.1:{to}; proxy_http_version 1.1;
proxy_set_header Host $http_host; proxy_set_header Connection "";
{more} }} }}"""
FORWARDED = "proxy_set_header X-Forwarded-Proto https;"


class Front(HttpDaemon):
    """nginx with TLS 1.3 in front of 127.0.0.1:to. port: passes a request on
    while it comes; buffered: when it is whole (nginx's default); unaware: does
    not tell that it speaks TLS; small: 413 above 1 MiB in one request."""

    name = "front"

    def __init__(self, folder, certs, to, small="1m", certificate=None):
        super().__init__(folder, certs)
        program("nginx")
        self.to, self.small_size = to, small
        self.certificate = certificate or certs.server
        self.buffered = self.unaware = self.small = 0

    def command(self):
        self.buffered, self.unaware, self.small = (
            free_port() for _ in range(3))
        passing = "proxy_request_buffering off;"
        doors = [(self.port, passing + FORWARDED), (self.buffered, FORWARDED),
                 (self.unaware, passing),
                 (self.small, passing + FORWARDED +
                  "client_max_body_size %s;" % self.small_size)]
        config = self.write("nginx.conf", NGINX.format(
            dir=self.folder, log_format=LOG_FORMAT,
            certs=types.SimpleNamespace(server=self.certificate),
            user="" if os.getuid() else "user %s;" % USER,
            key=self.certs.key(self.certificate),
            servers="\n".join(PROXY.format(port=port, to=self.to, more=more)
                              for port, more in doors)))
        return [program("nginx"), "-e", "stderr", "-p", self.folder, "-c",
                config]

    seen = Nginx.seen


class ApacheFront(Apache):
    """Apache's mod_proxy in front of paths of 127.0.0.1:to. It does not tell
    that it speaks TLS unless forwarded is set."""

    name = "apache-front"
    WANTED = Apache.WANTED + ["proxy", "proxy_http", "headers"]

    def __init__(self, folder, certs, to, paths=("/files",),
                 forwarded=False):
        super().__init__(folder, certs)
        self.to, self.paths, self.forwarded = to, paths, forwarded

    def command(self):
        argv = super().command()
        with open(self.path("apache.conf"), "a") as f:
            f.write("ProxyPreserveHost On\n")
            for path in self.paths:
                f.write("ProxyPass %s http://127.0.0.1:%d%s\n" % (
                    path, self.to, path))
            if self.forwarded:
                f.write("RequestHeader set X-Forwarded-Proto https\n")
        return argv


# ---- S3


class Swift(HttpDaemon):
    """OpenStack Swift with its S3 interface, alone and behind a Front (TLS).
    What it has outlives stop() and start().
    Bucket names work in the path and, below S3_DOMAIN, in the host name."""

    name = "swift"
    scheme = "http"
    region = "us-east-1"
    access_key, secret_key = "test:tester", "testing"
    stranger_key, stranger_secret = "test:stranger", "strange"
    OTHERS = ("account", "container", "object", "memcached")

    def __init__(self, folder, certs):
        super().__init__(folder, certs)
        self.interpreter = self.python()
        program("memcached")
        try:
            os.setxattr(self.folder, "user.haul", b"")
        except OSError as e:
            raise Missing("swift needs extended attributes below %s: %s" % (
                folder, e.strerror)) from None
        self.ports = {}
        self.front = None
        self.count = 0

    @staticmethod
    def python():
        for path in (sys.executable, "/usr/bin/python3"):
            if subprocess.run(
                    [path, "-c", "import swift.proxy, swift.account, "
                     "swift.container, swift.obj"],
                    capture_output=True).returncode == 0:
                return path
        raise Missing("swift is not installed")

    def command(self):
        os.makedirs(self.path("swift"), exist_ok=True)
        self.ports = {name: free_port() for name in self.OTHERS}
        return [self.interpreter, os.path.join(HERE, "swift_server.py"),
                self.path("swift"), json.dumps(dict(
                    self.ports, proxy=self.port, user=USER,
                    domain=S3_DOMAIN))]

    def listening(self):
        """All of them do, and the whole works."""
        with open("/proc/net/tcp") as f:
            listening = {line.split()[1] for line in list(f)[1:]
                         if line.split()[3] == "0A"}
        return all("0100007F:%04X" % port in listening
                   for port in (self.port, *self.ports.values()))

    def start(self, port=0):
        super().start(port)
        self.front = Front(self.folder, self.certs, self.port,
                           certificate=bucket_certificate(self.certs))
        self.front.start()
        return self

    def stop(self):
        if self.front:
            self.front.stop()
            self.front = None
        super().stop()

    # ---- What haul is told

    @property
    def endpoint(self):
        return self.front.url("")

    @property
    def buffered_endpoint(self):
        """nginx takes a request as a whole before it passes it on."""
        return self.front.url("", self.front.buffered)

    @property
    def host_endpoint(self):
        """For buckets in the host name."""
        return self.front.url("", host=S3_DOMAIN)

    @property
    def plain_endpoint(self):
        return self.url("")

    def env(self):
        """The usual environment variables."""
        return {"AWS_ACCESS_KEY_ID": self.access_key,
                "AWS_SECRET_ACCESS_KEY": self.secret_key,
                "AWS_REGION": self.region}

    # ---- What the test does, without haul

    @property
    def s3(self):
        return S3Client(self.plain_endpoint, self.access_key,
                        self.secret_key, self.region)

    def bucket(self, name=None):
        """A new one; its name."""
        self.count += 1
        name = name or "bucket-%d" % self.count
        a = self.s3("PUT", name)
        assert a.status == 200, a
        return name

    def native(self, path):
        """Swift's own interface: (status, headers, body)."""
        _, headers, _ = fetch(self.url("/auth/v1.0"), headers={
            "X-Storage-User": self.access_key,
            "X-Storage-Pass": self.secret_key})
        return fetch(headers["X-Storage-Url"] + path, headers={
            "X-Auth-Token": headers["X-Auth-Token"]})

    def get(self, bucket, key):
        """The bytes of an object, None: there is none."""
        status, _, body = self.native("/%s/%s" % (bucket, quote(key, "/")))
        return body if status == 200 else None

    def names(self, bucket):
        """Keys of its objects."""
        a = self.s3("GET", bucket)
        assert a.status == 200, a
        return a.all("Key")

    def uploads(self, bucket):
        """[(key, UploadId)] of unfinished multipart uploads."""
        return self.s3.uploads(bucket)

    def parts(self, bucket, key, upload):
        """{number: (size, ETag)} of one."""
        a = self.s3.parts(bucket, key, upload)
        assert a.status == 200, a
        return {int(n): (int(s), t.strip('"')) for n, s, t in zip(
            a.all("PartNumber"), a.all("Size"), a.all("ETag"))}

    def delete_upload(self, bucket, key, upload):
        assert self.s3.abort(bucket, key, upload).status == 204

    def delete(self, bucket, key):
        assert self.s3("DELETE", bucket, key).status == 204

    def seen(self, **what):
        """Requests that came through the front; see Nginx.seen()."""
        return self.front.seen(**what)
