#!/usr/bin/env python3
"""An HTTP/1.1 server for uploads that resume. It keeps the rules until the
test gives it one of its own:

    /files/        tus 1.0.0                    resumable_tus.py
    /ietf/NAME     the IETF draft               resumable_ietf.py
    /put/NAME      PUT with Content-Range       resumable_put.py
    /BUCKET/KEY    S3, for what Swift has not   resumable_s3.py
    /_stats, /_rules, /_options, /_uploads      for the test (class Control)

A rule is an object. It fits a request when all of these do, as far as given:

    method, op     a name or several; op is what the protocol calls it, see
                   operation() of the protocol
    path           a regular expression found in the path with its query
    header         {name: regular expression found in it}
    skip=N         not the first N that fit
    times=N        the next N (1); 0: all

and does this to it; what several rules say goes together:

    status=N       answers so, with headers={} and body (TEXT, or @NAME: one of
                   resumable_bodies.BODIES); when="early": reads no body,
                   "late": reads it and does nothing, "after": does the work.
                   after_bytes=N: after so many bytes of the body
    action="drop"        closes after after_bytes of the body (all of them are
                         kept), or at once; rst=true resets
    action="hang"        the same, but says nothing and keeps the connection
    action="lose_answer" does the work and closes
    action="forget"      the upload is gone: 404, or gone=410
    action="truncate"    the upload loses all from to=N on, or its last by=N
    action="short"       reads all and keeps after_bytes of it
    corrupt=N            flips a bit of this byte of the body; where="disk":
                         after a checksum was made, else before
    lie_offset=N   adds N to the Upload-Offset that is told
    delay_before=S, delay=S    before the work, before the answer
    slow=N         reads N bytes/s
    set={name: value or null}  headers of the answer
    blank=S        S seconds of white space before the body of the answer,
                   blank_inside=true: after its <?xml ...?>
    location=WORD  see World.location()
    no104=true, set104={name: value}   the interim answer of the draft

Standard library only; a thread for each connection; knows nothing of haul.
"""

import argparse
import email.utils
import http.client
import json
import os
import re
import secrets
import select
import signal
import socket
import ssl
import struct
import threading
import time
import urllib.parse

from resumable_bodies import BODIES

BLOCK = 1 << 20
# Far more than any client should need for a head.
HEAD_MAX = 1 << 18
CONTROL_MAX = 1 << 24
REASONS = {**http.client.responses, 104: "Upload Resumption Supported",
           413: "Content Too Large", 460: "Checksum Mismatch"}

OPTIONS = {
    "location": "absolute",
    "auth": None,           # the Authorization that is wanted, else 401
    "max_body": None,       # 413 for more in one request, like nginx
    "locking": "interrupt",  # what a second writer does; or "refuse": 423
    "tus_extensions": "creation,creation-with-upload,creation-defer-length,"
                      "checksum,concatenation,termination,expiration",
    "tus_checksums": "sha1,md5,sha256,crc32",
    "tus_max_size": None,
    "tus_expires": None,    # seconds that an upload lives
    "ietf_versions": [3, 4, 5, 6, 7, 8],
    "ietf_final": False,    # the header of the interop version is not asked
    "ietf_unknown": None,   # status for other versions; None: a plain upload
    "ietf_limit": "min-size=0",
    "ietf_104": True,
    "ietf_progress": None,  # bytes between two 104s with an offset
    "ietf_bare": False,     # tells no more than tusd 2.8 does
    "ietf_discover": True,  # OPTIONS tells
    "ietf_status": 201,     # of the resource when all is there
}


class Cut(Exception):
    """Close the connection."""


class Interrupted(Exception):
    """Another request of this upload came."""


class Answer(Exception):
    """Returned, or raised from inside. body: bytes, or (path, begin, end)."""

    def __init__(self, status, headers=None, body=b""):
        super().__init__(status)
        self.status = status
        self.headers = dict(headers or {})
        self.body = body.encode() if isinstance(body, str) else body

    def length(self):
        return self.body[2] - self.body[1] if isinstance(self.body, tuple) \
            else len(self.body)


class Request:
    def __init__(self, method, target, headers):
        self.headers = headers
        self.method = method
        if method == "POST":
            self.method = headers.get("x-http-method-override", method)
        self.target = target
        split = urllib.parse.urlsplit(target)
        # A leading "//" is a path here and no host.
        self.raw_path = target.partition("?")[0] if target[:1] == "/" \
            else split.path
        self.raw_query = split.query
        self.path = urllib.parse.unquote(self.raw_path)
        self.query = dict(urllib.parse.parse_qsl(
            split.query, keep_blank_values=True))
        self.chunked = "chunked" in headers.get("transfer-encoding", "")
        self.length = 0
        if not self.chunked:
            self.length = int(headers.get("content-length", 0))

    def has_body(self):
        return self.chunked or self.length > 0

    def number(self, name):
        """A decimal number, None when it is not there, 400 when it is not
        one."""
        text = self.headers.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"\d{1,18}", text):
            raise Answer(400, body="bad %s\n" % name)
        return int(text)


class Stats:
    def __init__(self):
        self.lock = threading.Lock()
        self.connections = 0
        self.requests = []

    def connect(self):
        with self.lock:
            self.connections += 1
            return self.connections

    def begin(self, entry):
        with self.lock:
            entry["number"] = len(self.requests)
            self.requests.append(entry)

    def text(self):
        with self.lock:
            return json.dumps({"connections": self.connections,
                               "requests": self.requests})


class Rules:
    def __init__(self):
        self.lock = threading.Lock()
        self.rules = []

    def add(self, rules):
        with self.lock:
            for rule in rules:
                self.rules.append(dict(rule, seen=0, done=0))

    def clear(self):
        with self.lock:
            self.rules = []

    @staticmethod
    def fits(rule, request, op):
        for name, value in (("method", request.method), ("op", op)):
            wanted = rule.get(name)
            if wanted is not None and value not in (
                    [wanted] if isinstance(wanted, str) else wanted):
                return False
        if not re.search(rule.get("path", ""), request.target):
            return False
        return all(re.search(pattern, request.headers.get(name.lower(), ""))
                   for name, pattern in rule.get("header", {}).items())

    def match(self, request, op):
        """What the rules say to this request, together."""
        found = {}
        with self.lock:
            for rule in self.rules:
                if not self.fits(rule, request, op):
                    continue
                rule["seen"] += 1
                times = rule.get("times", 1)
                if rule["seen"] <= rule.get("skip", 0) or \
                        times and rule["done"] >= times:
                    continue
                rule["done"] += 1
                found.update(rule)
        return found


class Upload:
    """What has been sent so far: bytes of a file."""

    def __init__(self, world, protocol):
        self.world, self.protocol = world, protocol
        self.key = secrets.token_hex(8)
        self.path = os.path.join(world.store, self.key)
        self.offset, self.length = 0, None
        self.complete = False
        self.expires = None
        self.facts = {}  # the protocol's own
        self.writer = None
        self.changed = threading.Condition()
        open(self.path, "wb").close()

    def describe(self):
        return {"key": self.key, "protocol": self.protocol,
                "path": self.path, "offset": self.offset,
                "length": self.length, "complete": self.complete,
                "writing": self.writer is not None, **self.facts}

    def rewind(self, offset):
        self.offset = min(offset, self.offset)
        os.truncate(self.path, self.offset)

    def wait(self, connection, write):
        """Ends who writes now."""
        with self.changed:
            other = self.writer
            if other:
                connection.overlaps(other)
                if write and self.world.options["locking"] == "refuse":
                    raise Answer(423, body="locked\n")
                other.interrupt()
                if not self.changed.wait_for(lambda: not self.writer, 10):
                    raise Answer(423, body="locked\n")
            if write:
                self.writer = connection

    def release(self):
        with self.changed:
            self.writer = None
            self.changed.notify_all()

    def writing(self, connection):
        return Writing(self, connection)

    def receive(self, connection, *hashes, limit=None):
        """Appends the body; each block counts when it is in the file."""
        with open(self.path, "r+b", buffering=0) as f:
            f.seek(self.offset)
            for block in connection.hashed(*hashes):
                if limit is not None and self.offset + len(block) > limit:
                    raise Answer(413, body="more than it was to be\n")
                while block:
                    written = f.write(block)
                    self.offset += written
                    block = block[written:]


class Writing:
    """The one who writes, for the length of a with statement."""

    def __init__(self, upload, connection):
        self.upload, self.connection = upload, connection

    def __enter__(self):
        self.upload.wait(self.connection, True)

    def __exit__(self, *_):
        self.upload.release()


class World:
    """All that requests share."""

    def __init__(self, options):
        self.store = options.store
        self.scheme = "https" if options.certificate else "http"
        self.port = options.port
        self.options = dict(OPTIONS)
        self.stats, self.rules = Stats(), Rules()
        self.lock = threading.Lock()
        self.uploads = {}
        self.active = []  # connections with a request of an upload
        self.protocols = []

    def add(self, upload):
        with self.lock:
            self.uploads[upload.key] = upload
        return upload

    def remove(self, key):
        with self.lock:
            upload = self.uploads.pop(key, None)
        if upload:
            os.unlink(upload.path)

    def find(self, key):
        """404 when there is none, 410 when it was too old."""
        with self.lock:
            upload = self.uploads.get(key)
        if not upload:
            raise Answer(404, body="no such upload\n")
        if upload.expires and time.time() >= upload.expires:
            raise Answer(410, body="expired\n")
        return upload

    def protocol(self, path):
        return next(p for p in self.protocols if p.owns(path))

    def location(self, request, path, style=None):
        """The URL of an upload: absolute (as the Host says), relative (a
        path), http, https (this scheme, whatever was used), other (another
        host), long (700 bytes more), or this text."""
        style = style or self.options["location"]
        host = request.headers.get("host", "127.0.0.1:%d" % self.port)
        if style == "relative":
            return path
        if style in ("absolute", "http", "https"):
            return "%s://%s%s" % (
                self.scheme if style == "absolute" else style, host, path)
        if style == "long":
            return path + "?" + "x" * 700
        if style == "other":
            return "%s://localhost:%d%s" % (self.scheme, self.port, path)
        return style


def file_answer(request, path, headers=None):
    """A file, or the range of it that is asked for."""
    size = os.path.getsize(path)
    headers = dict({"Accept-Ranges": "bytes"}, **(headers or {}))
    begin, end, status = 0, size, 200
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)",
                         request.headers.get("range", ""))
    if asked and request.headers.get("if-range",
                                     headers.get("ETag")) == \
            headers.get("ETag"):
        begin = int(asked[1])
        end = min(size, int(asked[2]) + 1) if asked[2] else size
        if begin >= end:
            return Answer(416, {"Content-Range": "bytes */%d" % size})
        status = 206
        headers["Content-Range"] = "bytes %d-%d/%d" % (begin, end - 1, size)
    return Answer(status, headers, (path, begin, end))


class Control:
    """What the test asks and says: GET /_stats, GET /_uploads, POST or
    DELETE /_rules, POST /_options."""

    def __init__(self, world):
        self.world = world

    def serve(self, method, path, data):
        world = self.world
        if path == "/_stats":
            return Answer(200, body=world.stats.text())
        if path == "/_uploads":
            with world.lock:
                uploads = [u.describe() for u in world.uploads.values()]
            for protocol in world.protocols:
                uploads += protocol.describe()
            return Answer(200, body=json.dumps(uploads))
        if path == "/_rules" and method == "DELETE":
            world.rules.clear()
        elif path == "/_rules":
            world.rules.add(json.loads(data))
        elif path == "/_options":
            world.options.update(json.loads(data))
        else:
            return Answer(404)
        return Answer(204)


class Connection:
    def __init__(self, sock, world):
        self.sock, self.world = sock, world
        self.buffer = b""
        self.block = bytearray(BLOCK)
        self.number = world.stats.connect()
        self.entry, self.fault, self.request = {}, {}, None
        self.trailers = {}
        self.body_read = self.continued = self.interrupted = False
        self.wake = os.eventfd(0)

    def run(self):
        try:
            while self.serve():
                pass
        except (Cut, Interrupted, OSError, ValueError):
            pass
        finally:
            self.over()
            self.sock.close()
            os.close(self.wake)

    # ---- What comes in

    def ready(self):
        """Returns when there is something to read, unless interrupted."""
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return
        both = select.poll()
        both.register(self.sock, select.POLLIN)
        both.register(self.wake, select.POLLIN)
        both.poll()
        if self.interrupted:
            raise Interrupted

    def fill(self):
        self.ready()
        data = self.sock.recv(1 << 16)
        if not data:
            raise Cut
        self.buffer += data

    def line(self):
        while b"\n" not in self.buffer:
            if len(self.buffer) > HEAD_MAX:
                raise Cut
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    def fields(self):
        fields = {}
        while line := self.line():
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        return fields

    def read(self, count):
        """At least one byte, at most count, at the beginning of block."""
        if self.buffer:
            got = min(count, len(self.buffer), BLOCK)
            self.block[:got] = self.buffer[:got]
            self.buffer = self.buffer[got:]
            return got
        self.ready()
        got = self.sock.recv_into(self.block, min(count, BLOCK))
        if not got:
            raise Cut
        return got

    def raw_body(self):
        """Memory that is valid until the next one."""
        view = memoryview(self.block)
        left = self.request.length
        while left or self.request.chunked:
            if not left:
                left = int(self.line().partition(";")[0], 16)
                if not left:
                    self.trailers = self.fields()
                    break
            got = self.read(left)
            left -= got
            if not left and self.request.chunked:
                yield view[:got]
                self.line()
            else:
                yield view[:got]
        self.body_read = True

    def body(self):
        """The same, counted, and hurt as the rule says."""
        if self.request.headers.get("expect") and not self.continued:
            self.interim(100)
        self.continued = True
        f, done = self.fault, 0
        stop = f.get("after_bytes")
        flip = f.get("corrupt") if f.get("where") != "disk" else None
        for block in self.raw_body():
            self.entry["received"] += len(block)
            if flip is not None and done <= flip < done + len(block):
                block[flip - done] ^= 1
            if stop is not None and done + len(block) >= stop:
                if stop > done:
                    yield block[:stop - done]
                    done = stop
                self.stop_body()
                continue
            done += len(block)
            yield block
            if f.get("slow"):
                time.sleep(len(block) / f["slow"])

    def stop_body(self):
        """after_bytes have been read."""
        action = self.fault.get("action")
        if action == "drop":
            self.drop()
        if action == "hang":
            self.hang()
        if "status" in self.fault:
            raise self.scripted()

    def hashed(self, *hashes):
        """body(), each block after all hashes had it."""
        flip = self.fault.get("corrupt") \
            if self.fault.get("where") == "disk" else None
        done = 0
        for block in self.body():
            for h in hashes:
                h.update(block)
            if flip is not None and done <= flip < done + len(block):
                block[flip - done] ^= 1
            done += len(block)
            yield block

    def skip_body(self):
        for _ in self.body():
            pass

    def whole_body(self, most=1 << 24):
        data = bytearray()
        for block in self.body():
            data += block
            if len(data) > most:
                raise Answer(413)
        return bytes(data)

    def interrupt(self):
        """From another thread."""
        self.interrupted = True
        os.eventfd_write(self.wake, 1)

    def peer_is_there(self):
        """Has the client not closed its end?"""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        return not poll.poll(0)

    # ---- What goes out

    def interim(self, status, headers=None):
        lines = ["HTTP/1.1 %d %s" % (status, REASONS.get(status, "Interim"))]
        lines += ["%s: %s" % h for h in (headers or {}).items()]
        self.sock.sendall("\r\n".join(lines + ["", ""]).encode("latin-1"))

    def send(self, method, a):
        lines = ["HTTP/1.1 %d %s" % (a.status, REASONS.get(a.status, "So"))]
        headers = {"Date": email.utils.formatdate(usegmt=True)}
        if a.status != 204 and (method != "HEAD" or a.length()):
            headers["Content-Length"] = a.length()
        headers.update(a.headers)
        lines += ["%s: %s" % h for h in headers.items() if h[1] is not None]
        head = "\r\n".join(lines + ["", ""]).encode("latin-1")
        if method == "HEAD" or a.status == 204:
            self.sock.sendall(head)
        elif isinstance(a.body, tuple):
            self.sock.sendall(head)
            with open(a.body[0], "rb") as f:
                self.sock.sendfile(f, a.body[1], a.body[2] - a.body[1])
        else:
            self.sock.sendall(head + a.body)

    def hang(self):
        """Says and reads nothing more until the client has gone."""
        gone = select.poll()
        gone.register(self.sock, select.POLLRDHUP)
        gone.register(self.wake, select.POLLIN)
        gone.poll(600_000)
        raise Cut

    def drop(self):
        """Closes."""
        if self.fault.get("rst"):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                 struct.pack("ii", 1, 0))
        raise Cut

    def linger(self):
        """What was not read would reset the connection and take the answer
        with it."""
        self.sock.settimeout(2)
        end = time.monotonic() + 5
        try:
            if not isinstance(self.sock, ssl.SSLSocket):
                self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(1 << 16) and time.monotonic() < end:
                pass
        except OSError:
            pass

    def send_blank(self, a):
        """What S3 does while Complete takes its time."""
        head, mark, rest = a.body.partition(b"?>")
        if not self.fault.get("blank_inside") or not mark:
            head, mark, rest = b"", b"", a.body
        a.headers.update({"Transfer-Encoding": "chunked",
                          "Content-Length": None})
        self.send("HEAD", a)

        def chunk(data):
            if data:
                self.sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))

        chunk(head + mark)
        end = time.monotonic() + self.fault["blank"]
        while time.monotonic() < end:
            chunk(b" ")
            time.sleep(0.05)
        chunk(rest)
        self.sock.sendall(b"0\r\n\r\n")

    # ---- One request

    def begin(self, protocol, r):
        """Notes it, and whether another one of the same upload is under way.
        A client that knows the rules never lets it come so far while the
        other connection is open at its end."""
        op = protocol.operation(r)
        offset = r.headers.get("upload-offset", "")
        self.fault = self.world.rules.match(r, op)
        self.entry = {
            "connection": self.number, "method": r.method, "op": op,
            "path": r.raw_path, "query": r.raw_query, "headers": r.headers,
            "length": None if r.chunked else r.length, "received": 0,
            "offset": int(offset) if offset.isdigit() else None,
            "status": 0, "told": {}, "overlap": None,
            "faults": {k: v for k, v in self.fault.items()
                       if k not in ("seen", "done")},
            "begin": time.time(), "end": None}
        self.world.stats.begin(self.entry)
        if protocol.exclusive(r):
            with self.world.lock:
                for other in self.world.active:
                    if other.entry["path"] == r.raw_path:
                        self.overlaps(other)
                self.world.active.append(self)

    def overlaps(self, other):
        if self.entry["overlap"] is None:
            self.entry["overlap"] = {"number": other.entry["number"],
                                     "open": other.peer_is_there()}

    def over(self):
        """Before the client can know it."""
        with self.world.lock:
            if self in self.world.active:
                self.world.active.remove(self)
        if self.entry and self.entry["end"] is None:
            self.entry["end"] = time.time()

    def serve(self):
        """Is there to be another?"""
        self.body_read = self.continued = False
        method, target, _ = self.line().split(" ")
        self.request = r = Request(method, target, self.fields())
        if r.path.startswith("/_"):
            return self.control(method, r)
        protocol = self.world.protocol(r.path)
        self.begin(protocol, r)
        try:
            answer = self.work(protocol, r)
        except Answer as raised:
            answer = raised
        except Interrupted:
            answer = Answer(400, body="interrupted by another request\n")
        return self.finish(protocol, r, answer)

    def control(self, method, r):
        if r.length > CONTROL_MAX:
            raise Cut
        while len(self.buffer) < r.length:
            self.fill()
        a = Control(self.world).serve(method, r.path, self.buffer[:r.length])
        a.headers["Connection"] = "close"
        self.send(method, a)
        return False

    def scripted(self):
        body = self.fault.get("body", "it says %d\n" % self.fault["status"])
        headers = {"Content-Type": "text/plain"}
        if body[:1] == "@":
            headers["Content-Type"] = "text/html" if body == "@html" \
                else "application/xml"
            body = BODIES[body[1:]]()
        headers.update(self.fault.get("headers", {}))
        return Answer(self.fault["status"], headers, body)

    def work(self, protocol, r):
        f = self.fault
        action, when = f.get("action"), f.get("when", "early")
        inside = r.has_body() and f.get("after_bytes")
        time.sleep(f.get("delay_before", 0))
        self.check(r)
        if action == "drop" and not inside:
            self.drop()
        if action == "hang" and not inside:
            self.hang()
        if action in ("forget", "truncate"):
            getattr(protocol, action)(r, f)
        if "status" in f and not inside and when != "after":
            if when == "late":
                self.skip_body()
            return self.scripted()
        answer = protocol.serve(self, r)
        return self.scripted() if "status" in f and not inside else answer

    def check(self, r):
        """What any server may want."""
        options = self.world.options
        if options["auth"] and r.method != "OPTIONS" and \
                r.headers.get("authorization") != options["auth"]:
            raise Answer(401, {"WWW-Authenticate": 'Basic realm="test"'})
        if options["max_body"] and r.length > options["max_body"]:
            raise Answer(413, body="<html>413</html>\n")

    def finish(self, protocol, r, a):
        f = self.fault
        if r.has_body() and not self.body_read:
            # A short body may as well be read.
            if r.length and r.length <= len(self.buffer):
                self.buffer = self.buffer[r.length:]
                self.body_read = True
            else:
                a.headers["Connection"] = "close"
        if f.get("action") == "lose_answer":
            raise Cut
        if self.interrupted:
            a.headers["Connection"] = "close"
        time.sleep(f.get("delay", 0))
        if "lie_offset" in f and "Upload-Offset" in a.headers:
            a.headers["Upload-Offset"] = max(
                0, int(a.headers["Upload-Offset"]) + f["lie_offset"])
        a.headers.update(f.get("set", {}))
        protocol.mark(r, a)
        self.entry["status"] = a.status
        self.entry["told"] = {k.lower(): str(v) for k, v in a.headers.items()
                              if v is not None}
        self.over()
        if f.get("blank") and isinstance(a.body, bytes) and a.body:
            self.send_blank(a)
        else:
            self.send(r.method, a)
        if a.headers.get("Connection") == "close":
            self.linger()
            return False
        return r.headers.get("connection", "").lower() != "close"


def serve(sock, context, world):
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            sock = context.wrap_socket(sock, server_side=True)
        Connection(sock, world).run()
    except OSError:
        sock.close()


def main():
    from resumable_ietf import Ietf
    from resumable_put import Put
    from resumable_s3 import S3
    from resumable_tus import Tus
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--store", required=True)
    p.add_argument("--certificate")
    p.add_argument("--key")
    options = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    world = World(options)
    world.protocols = [kind(world) for kind in (Tus, Ietf, Put, S3)]
    with socket.create_server(("127.0.0.1", options.port),
                              backlog=200) as listener:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve, args=(sock, context, world),
                             daemon=True).start()


if __name__ == "__main__":
    # Not __main__'s own: the protocols raise what the module defines.
    import resumable
    resumable.main()
