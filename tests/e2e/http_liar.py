#!/usr/bin/env python3
"""An HTTP/1.1 server that keeps the rules, or breaks the one that is named in
the query of a request:

    GET  /NAME?lie=WORD      a file of --store or --www
    PUT  /NAME?lie=WORD      kept in --store; POST too
    GET  /_stats             connections, and all requests as JSON
    OPTIONS                  405: it speaks nothing but HTTP

first=N   only the first N requests of that path and method are lied to
skip=N    ... not to the first N
at=N      after so many bytes of the body (100000)
status=N  after=S  to=URL  name=H  value=V  size=N    what WORD says it uses
slow=N    bytes/s of the body of an answer

WORDs are the methods of Lies below. Honest are those that only say what a
server may do: redirect, status, chunked, close, full, weak, no-validator.

Standard library only; a thread for each connection; knows nothing of haul.
"""

import argparse
import email.utils
import gzip
import hashlib
import json
import os
import select
import signal
import socket
import ssl
import threading
import time
import urllib.parse

STEP = 16384
REASONS = {200: "OK", 201: "Created", 204: "No Content",
           206: "Partial Content", 307: "Temporary Redirect",
           401: "Unauthorized", 404: "Not Found",
           405: "Method Not Allowed", 413: "Too Large",
           416: "Range Not Satisfiable", 429: "Too Many Requests"}
# Far more than any client should take.
FLOOD = 64 << 20
FLIPPED = bytes(b ^ 1 for b in range(256))


class Hang(Exception):
    """Say and read nothing more, and keep the connection."""


class Cut(Exception):
    """Close the connection."""


class Stats:
    def __init__(self):
        self.lock = threading.Lock()
        self.connections = 0
        self.requests = []
        self.counts = {}

    def connect(self):
        with self.lock:
            self.connections += 1
            return self.connections

    def add(self, entry):
        """Its number among those of its path and method, from 0."""
        key = (entry["method"], entry["path"])
        with self.lock:
            self.requests.append(entry)
            self.counts[key] = self.counts.get(key, 0) + 1
            return self.counts[key] - 1

    def text(self):
        with self.lock:
            return json.dumps({"connections": self.connections,
                               "requests": self.requests}).encode()


stats = Stats()


class Answer:
    """What will be sent: the file from begin to end, unless body is set."""

    def __init__(self, status=200, body=b""):
        self.status = status
        self.body = body
        self.path = None
        self.begin = self.end = self.size = 0
        self.headers = {}
        self.framing = "length"  # "chunked", "close"
        self.length_wrong = 0    # added to Content-Length
        self.surplus = 0         # bytes after the body
        self.cut_at = self.hang_at = None
        self.hang_after = self.no_last_chunk = False
        self.flip = False        # another version of the file

    def length(self):
        return self.end - self.begin if self.path else len(self.body)

    def blocks(self):
        if not self.path:
            for at in range(0, len(self.body), STEP):
                yield self.body[at:at + STEP]
            return
        with open(self.path, "rb") as f:
            f.seek(self.begin)
            left = self.end - self.begin
            while left > 0:
                data = f.read(min(STEP, left))
                if not data:
                    return
                left -= len(data)
                yield data.translate(FLIPPED) if self.flip else data


class Lies:
    """Each changes an answer to GET and HEAD, q being the query."""

    def length_long(self, a, q):
        a.length_wrong = 1000

    def length_short(self, a, q):
        a.length_wrong = -1000

    def surplus(self, a, q):
        a.surplus = 1000

    def cut(self, a, q):
        a.cut_at = q["at"]

    def hang_in(self, a, q):
        a.hang_at = q["at"]

    def hang_before(self, a, q):
        raise Hang

    def empty(self, a, q):
        raise Cut

    def hang_after(self, a, q):
        a.framing, a.hang_after = "chunked", True
        self.full(a, q)

    def chunked(self, a, q):
        a.framing = "chunked"
        self.full(a, q)

    def chunked_ranges(self, a, q):
        a.framing = "chunked"

    def chunk_cut(self, a, q):
        a.framing, a.no_last_chunk = "chunked", True
        self.full(a, q)

    def close(self, a, q):
        a.framing = "close"
        self.full(a, q)

    def full(self, a, q):
        if a.path:
            a.status, a.begin, a.end = 200, 0, a.size
            a.headers.pop("Content-Range", None)
            a.headers.pop("Accept-Ranges", None)

    def range_other(self, a, q):
        if a.status == 206:
            by = 1 if a.end < a.size else -1
            a.headers["Content-Range"] = "bytes %d-%d/%d" % (
                max(a.begin + by, 0), a.end - 1 + by, a.size)

    def range_total(self, a, q):
        if a.status == 206:
            a.headers["Content-Range"] = "bytes %d-%d/%d" % (
                a.begin, a.end - 1, a.size + 1)

    def range_none(self, a, q):
        a.headers.pop("Content-Range", None)

    def range_text(self, a, q):
        a.headers["Content-Range"] = q["value"]

    def range_longer(self, a, q):
        if a.status == 206:
            a.end = min(a.size, a.end + 1000)
            self.own_range(a)

    def range_earlier(self, a, q):
        if a.status == 206:
            a.begin = max(0, a.begin - 1000)
            self.own_range(a)

    def range_shorter(self, a, q):
        if a.status == 206:
            a.end = a.begin + max(1, (a.end - a.begin) // 2)
            self.own_range(a)

    @staticmethod
    def own_range(a):
        a.headers["Content-Range"] = "bytes %d-%d/%d" % (a.begin, a.end - 1,
                                                         a.size)

    def etag_other(self, a, q):
        """The file is another one, and If-Range is not looked at."""
        a.headers["ETag"] = '"another"'
        a.flip = True

    def changed(self, a, q):
        """The file is another one; who asks for the old one gets it all."""
        self.etag_other(a, q)
        if q["if_range"] not in (None, a.headers["ETag"]):
            self.full(a, q)

    def weak(self, a, q):
        a.headers["ETag"] = "W/" + a.headers["ETag"]
        a.headers.pop("Last-Modified")

    def no_validator(self, a, q):
        a.headers.pop("ETag")
        a.headers.pop("Last-Modified")

    def gzip(self, a, q):
        self.full(a, q)
        with open(a.path, "rb") as f:
            a.body = gzip.compress(f.read(), 1)
        a.path = None
        a.headers["Content-Encoding"] = "gzip"

    def header(self, a, q):
        a.headers[q["name"]] = q["value"]

    def headers_endless(self, a, q):
        a.headers["X-Endless"] = None

    def header_long(self, a, q):
        a.headers["X-Long"] = None

    def interim(self, a, q):
        a.headers["X-Interim"] = None

    def interim_few(self, a, q):
        a.headers["X-Interim-Few"] = None

    def garbage(self, a, q):
        a.headers["X-Garbage"] = None

    def loop(self, a, q):
        self.redirect(a, dict(q, to="/loop?lie=loop&n=%d" % (
            int(q.get("n", 0)) + 1)))

    def redirect(self, a, q):
        self.status(a, dict(q, status=q.get("status", 302)))
        a.headers["Location"] = q["to"]

    def status(self, a, q):
        a.path, a.body = None, b"it says %d\n" % int(q["status"])
        a.headers = {"Content-Type": "text/plain"}
        a.status = int(q["status"])
        if "after" in q:
            a.headers["Retry-After"] = q["after"]
        if a.status == 416:
            a.headers["Content-Range"] = "bytes */%d" % a.size


class PutLies:
    """Each returns the answer to a PUT or POST, or None for the honest one,
    when the head has come; c is the connection."""

    def status(self, c, q):
        c.read_body(keep=False)
        a = Answer(body=b"")
        Lies().status(a, q)
        return a

    def early(self, c, q):
        """Answers before the body, and does not read it."""
        a = Answer()
        Lies().status(a, q)
        a.headers["Connection"] = "close"
        c.early = True
        return a

    def expect_401(self, c, q):
        if "expect" not in c.headers:
            c.read_body(keep=False)
        a = Answer(401, b"who are you\n")
        a.headers["WWW-Authenticate"] = 'Basic realm="test"'
        c.early = "expect" in c.headers
        return a

    def auth(self, c, q):
        """Only with Basic credentials."""
        if c.headers.get("authorization", "").startswith("Basic "):
            return None
        return self.expect_401(c, q)

    def expect_417(self, c, q):
        if "expect" not in c.headers:
            return None
        c.early = True
        return Answer(417)

    def no_continue(self, c, q):
        c.headers.pop("expect", None)

    def hang_before(self, c, q):
        raise Hang

    def hang_in(self, c, q):
        c.read_body(keep=False, stop_at=q["at"])
        raise Hang

    def hang_after(self, c, q):
        c.read_body()
        raise Hang

    def slow_answer(self, c, q):
        c.read_body()
        time.sleep(float(q["after"]))
        return Answer(201, b"stored\n")

    def cut(self, c, q):
        c.read_body(keep=False, stop_at=q["at"])
        raise Cut

    def cut_after(self, c, q):
        """It was kept, and nobody gets to know."""
        c.read_body()
        raise Cut

    def no_chunks(self, c, q):
        if c.headers.get("transfer-encoding", "") != "chunked":
            return None
        return self.early(c, dict(q, status=411))

    def redirect(self, c, q):
        status = int(q.get("status", 307))
        if "expect" not in c.headers:
            c.read_body(keep=False)
        c.early = "expect" in c.headers
        a = Answer(status)
        a.headers["Location"] = q["to"]
        return a

    def body(self, c, q):
        c.read_body()
        return Answer(201, b"0123456789abcde\n" * (int(q["size"]) // 16))

    def wrong(self, c, q):
        """Keeps it with a bit flipped."""
        c.read_body(flip=True)
        return Answer(201, b"stored\n")

    def garbage(self, c, q):
        c.read_body()
        a = Answer(201)
        a.headers["X-Garbage"] = None
        return a


class Connection:
    def __init__(self, sock, options):
        self.sock, self.options = sock, options
        self.buffer = b""
        self.number = stats.connect()
        self.headers, self.entry, self.early = {}, {}, False
        self.path, self.body_read = "", False

    def run(self):
        try:
            while self.request():
                pass
        except Hang:
            gone = select.poll()
            gone.register(self.sock, select.POLLRDHUP)
            gone.poll(600_000)
        except (Cut, OSError, ValueError):
            pass
        finally:
            self.sock.close()

    def fill(self):
        data = self.sock.recv(1 << 18)
        if not data:
            raise Cut
        self.buffer += data

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > 1 << 18:
                raise Cut
            self.fill()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {}
        for field in fields:
            name, _, value = field.partition(":")
            headers[name.strip().lower()] = value.strip()
        return line.split(" "), headers

    def request(self):
        """Serves one; is there to be another?"""
        (method, url, _), self.headers = self.read_head()
        split = urllib.parse.urlsplit(url)
        self.path = urllib.parse.unquote(split.path)
        if self.path == "/_stats":
            a = Answer(body=stats.text())
            a.headers["Connection"] = "close"
            self.entry = {"sent": 0}
            self.send(a, method)
            return False
        self.entry = {"connection": self.number, "method": method,
                      "path": split.path, "query": split.query,
                      "headers": dict(self.headers), "received": 0, "sent": 0,
                      "status": 0, "digest": None, "begin": time.time()}
        count = stats.add(self.entry)
        self.early = self.body_read = False
        q = dict({"at": 100000}, **dict(urllib.parse.parse_qsl(
            split.query, keep_blank_values=True)))
        q["at"], q["if_range"] = int(q["at"]), self.headers.get("if-range")
        skip, first = int(q.get("skip", 0)), int(q.get("first", 1 << 60))
        lie = q.get("lie") if skip <= count < skip + first else None
        lie = lie and lie.replace("-", "_")
        if method == "OPTIONS":
            return self.send(Answer(405), method)
        serve = self.get if method in ("GET", "HEAD") else self.put
        return self.send(serve(lie, q), method, float(q.get("slow", 0)))

    def file(self):
        name = os.path.basename(self.path)
        for folder in (self.options.store, self.options.www):
            path = os.path.join(folder, name)
            if name and os.path.isfile(path):
                return path
        return None

    def get(self, lie, q):
        a = Answer()
        a.path = self.file()
        if a.path:
            st = os.stat(a.path)
            a.size = a.end = st.st_size
            a.headers = {
                "Accept-Ranges": "bytes",
                "Last-Modified": email.utils.formatdate(st.st_mtime,
                                                        usegmt=True),
                "ETag": '"%x-%x"' % (st.st_size, st.st_mtime_ns)}
            self.choose_range(a)
        if lie and (a.path or lie in ("redirect", "loop", "status", "empty",
                                      "hang_before")):
            getattr(Lies(), lie)(a, q)
        elif not a.path:
            return Answer(404, b"no such file\n")
        return a

    def choose_range(self, a):
        asked = self.headers.get("range", "")
        wanted = self.headers.get("if-range")
        if not asked.startswith("bytes=") or "," in asked:
            return
        if wanted and wanted not in (a.headers["ETag"],
                                     a.headers["Last-Modified"]):
            return
        begin, _, end = asked[6:].partition("-")
        a.begin, a.end = int(begin), min(int(end) + 1 if end else a.size,
                                         a.size)
        a.status = 206
        if a.begin >= a.size:
            a.status, a.begin, a.end = 416, 0, 0
            a.headers["Content-Range"] = "bytes */%d" % a.size
            return
        Lies.own_range(a)

    def put(self, lie, q):
        if self.headers.get("if-none-match") == "*" and self.file():
            self.early = True
            return Answer(412, b"it is there\n")
        a = getattr(PutLies(), lie)(self, q) if lie else None
        if a:
            return a
        self.read_body()
        a = Answer(201, b"stored\n")
        a.headers["Location"] = self.path
        return a

    # ---- Bodies ----

    def body_blocks(self):
        if "expect" in self.headers:
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.headers.get("transfer-encoding", "") == "chunked":
            while True:
                size = int(self.read_line().split(b";")[0], 16)
                yield from self.exactly(size)
                self.read_line()
                if size == 0:
                    return
        else:
            yield from self.exactly(int(self.headers.get("content-length",
                                                         0)))

    def read_line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def exactly(self, size):
        while size > 0:
            if not self.buffer:
                self.fill()
            data, self.buffer = self.buffer[:size], self.buffer[size:]
            size -= len(data)
            yield data

    def read_body(self, keep=True, stop_at=None, flip=False):
        name = os.path.basename(self.path) or "unnamed"
        tmp = os.path.join(self.options.store, ".%s-%d" % (name,
                                                           self.number))
        h = hashlib.sha256()
        with open(tmp, "wb") as out:
            for data in self.body_blocks():
                self.entry["received"] += len(data)
                h.update(data)
                if flip and data:
                    data, flip = bytes([data[0] ^ 1]) + data[1:], False
                out.write(data)
                if stop_at is not None and \
                        self.entry["received"] >= stop_at:
                    break
        self.body_read = True
        if stop_at is None:
            self.entry["digest"] = h.hexdigest()
        if keep:
            os.rename(tmp, os.path.join(self.options.store, name))
        else:
            os.unlink(tmp)

    # ---- Answers ----

    def send(self, a, method, slow=0):
        """Returns whether the connection goes on."""
        self.flood(a)
        length = a.length() + a.length_wrong
        if a.framing == "length":
            a.headers.setdefault("Content-Length", str(length))
        elif a.framing == "chunked":
            a.headers["Transfer-Encoding"] = "chunked"
        if self.early or a.framing == "close" or a.length_wrong:
            a.headers["Connection"] = "close"
        self.entry["status"] = a.status
        self.head(a)
        if method != "HEAD" and a.status not in (204, 304):
            self.send_body(a, slow)
        if self.early:
            self.linger()
        return a.headers.get("Connection") != "close"

    def head(self, a):
        lines = ["HTTP/1.1 %d %s" % (a.status, REASONS.get(a.status, "Said")),
                 "Date: " + email.utils.formatdate(usegmt=True)]
        lines += ["%s: %s" % h for h in a.headers.items()]
        self.sock.sendall("\r\n".join(lines + ["", ""]).encode("latin-1"))

    def flood(self, a):
        """The lies that are told before or instead of a head."""
        say = self.sock.sendall
        if "X-Garbage" in a.headers:
            say(b"\x16\x03\x01 this is no HTTP\r\n\r\n" * 20)
            raise Cut
        if "X-Interim-Few" in a.headers:
            a.headers.pop("X-Interim-Few")
            say(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n"
                b"Content-Length: 7\r\nETag: \"no\"\r\n\r\n" * 3)
        if "X-Interim" in a.headers:
            one = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100
            self.pour(b"", one)
        if "X-Endless" in a.headers:
            self.pour(b"HTTP/1.1 200 OK\r\n",
                      b"X-More: 0123456789\r\n" * 1000)
        if "X-Long" in a.headers:
            self.pour(b"HTTP/1.1 200 OK\r\nX-Long: ", b"0123456789" * 2000)

    def pour(self, begin, again):
        self.sock.sendall(begin)
        while self.entry["sent"] < FLOOD:
            self.sock.sendall(again)
            self.entry["sent"] += len(again)
        raise Cut

    def send_body(self, a, slow):
        for data in a.blocks():
            for limit, what in ((a.cut_at, Cut), (a.hang_at, Hang)):
                if limit is not None and \
                        self.entry["sent"] + len(data) > limit:
                    self.block(a, data[:limit - self.entry["sent"]])
                    raise what
            self.block(a, data)
            if slow:
                time.sleep(len(data) / slow)
        if a.hang_after:
            raise Hang
        if a.framing == "chunked" and not a.no_last_chunk:
            self.sock.sendall(b"0\r\n\r\n")
        if a.no_last_chunk:
            raise Cut
        self.sock.sendall(b"x" * a.surplus)

    def block(self, a, data):
        if a.framing == "chunked" and data:
            self.sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))
        else:
            self.sock.sendall(data)
        self.entry["sent"] += len(data)

    def linger(self):
        """What was not read would reset the connection and take the answer
        with it."""
        self.sock.settimeout(2)
        try:
            if not isinstance(self.sock, ssl.SSLSocket):
                self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(1 << 16):
                pass
        except OSError:
            pass


def serve(sock, context, options):
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            sock = context.wrap_socket(sock, server_side=True)
        Connection(sock, options).run()
    except OSError:
        sock.close()


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--www", required=True)
    p.add_argument("--store", required=True)
    p.add_argument("--certificate")
    p.add_argument("--key")
    options = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    with socket.create_server(("127.0.0.1", options.port),
                              backlog=100) as listener:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve, args=(sock, context, options),
                             daemon=True).start()


if __name__ == "__main__":
    main()
