"""tus 1.0.0 for resumable.py, with all extensions that are in the options."""

import base64
import os
import shutil
import threading
import time
import urllib.parse
from email.utils import formatdate

from resumable import Answer, Cut, Interrupted, Upload, file_answer
from resumable_sums import SUMS

BASE = "/files"
STREAM = "application/offset+octet-stream"


HASHES = {n: SUMS[n] for n in ("sha1", "md5", "sha256", "crc32")}


class Checksum:
    """What Upload-Checksum promises of one body."""

    def __init__(self, text, offered):
        name, _, value = text.partition(" ")
        if name not in offered.split(",") or name not in HASHES:
            raise Answer(400, body="unknown checksum algorithm\n")
        try:
            self.wanted = base64.b64decode(value, validate=True)
        except ValueError:
            raise Answer(400, body="bad checksum\n") from None
        self.hash = HASHES[name]()

    def update(self, data):
        self.hash.update(data)

    def right(self):
        return self.hash.digest() == self.wanted


class Joined(Upload):
    """Made of parts: other names of their files at first, one file when
    somebody wants to see it. Copying would keep the client waiting."""

    pieces = ()

    def __init__(self, world, parts):
        self.lock = threading.Lock()
        super().__init__(world, "tus")
        self.offset = self.length = sum(p.offset for p in parts)
        self.complete = True
        names = ["%s.%06d" % (self.file, i) for i in range(len(parts))]
        for part, name in zip(parts, names):
            os.link(part.path, name)
        self.pieces = names

    @property
    def path(self):
        with self.lock:
            if self.pieces:
                self.join()
        return self.file

    @path.setter
    def path(self, file):
        self.file = file

    def join(self):
        with open(self.file, "wb") as out:
            for name in self.pieces:
                with open(name, "rb") as f:
                    shutil.copyfileobj(f, out, 1 << 20)
                os.unlink(name)
        self.pieces = ()


class Tus:
    def __init__(self, world):
        self.world = world

    @staticmethod
    def owns(path):
        return path == BASE or path.startswith(BASE + "/")

    @staticmethod
    def key(r):
        return r.path[len(BASE) + 1:]

    def exclusive(self, r):
        """Do two requests of this path disturb each other?"""
        return bool(self.key(r))

    def operation(self, r):
        """discover, create, final, offset, append, delete, get."""
        if r.method == "POST":
            return "final" if r.headers.get(
                "upload-concat", "").startswith("final") else "create"
        return {"OPTIONS": "discover", "HEAD": "offset", "PATCH": "append",
                "DELETE": "delete", "GET": "get"}.get(r.method, r.method)

    def describe(self):
        return []

    def forget(self, r, rule):
        if rule.get("gone") == 410:
            self.world.find(self.key(r)).expires = 1
        else:
            self.world.remove(self.key(r))

    def truncate(self, r, rule):
        upload = self.world.find(self.key(r))
        upload.complete = False
        upload.rewind(rule["to"] if "to" in rule
                      else max(0, upload.offset - rule["by"]))

    def mark(self, r, answer):
        if r.method != "OPTIONS":
            answer.headers.setdefault("Tus-Resumable", "1.0.0")

    def has(self, extension):
        return extension in self.world.options["tus_extensions"].split(",")

    def serve(self, c, r):
        if r.method == "OPTIONS":
            return self.discover()
        if r.method != "GET" and r.headers.get("tus-resumable") != "1.0.0":
            raise Answer(412, {"Tus-Version": "1.0.0"})
        if r.method == "POST" and self.has("creation") and not self.key(r):
            return self.create(c, r)
        upload = self.world.find(self.key(r))
        if r.method == "HEAD":
            upload.wait(c, False)
            return self.offset(r, upload)
        if r.method == "PATCH":
            return self.append(c, r, upload)
        if r.method == "GET":
            return file_answer(r, upload.path)
        if r.method == "DELETE" and self.has("termination"):
            upload.wait(c, False)
            self.world.remove(upload.key)
            return Answer(204)
        raise Answer(405)

    def discover(self):
        options = self.world.options
        headers = {"Tus-Resumable": "1.0.0", "Tus-Version": "1.0.0",
                   "Tus-Extension": options["tus_extensions"] or None,
                   "Tus-Max-Size": options["tus_max_size"]}
        if self.has("checksum"):
            headers["Tus-Checksum-Algorithm"] = options["tus_checksums"]
        return Answer(204, headers)

    def expiry(self, upload):
        if not upload.expires:
            return {}
        return {"Upload-Expires": formatdate(upload.expires, usegmt=True)}

    def length(self, r):
        """Upload-Length, None when it comes later."""
        later = r.headers.get("upload-defer-length")
        length = r.number("upload-length")
        if later is not None and (later != "1" or length is not None or
                                  not self.has("creation-defer-length")):
            raise Answer(400, body="bad Upload-Defer-Length\n")
        if later is None and length is None:
            raise Answer(400, body="no Upload-Length\n")
        most = self.world.options["tus_max_size"]
        if most is not None and (length or 0) > most:
            raise Answer(413)
        return length

    def metadata(self, r):
        text = r.headers.get("upload-metadata", "")
        pairs = [p.strip().split(" ") for p in text.split(",") if p.strip()]
        try:
            return {p[0]: base64.b64decode(
                p[1] if len(p) > 1 else "", validate=True).decode("latin-1")
                for p in pairs}
        except ValueError:
            raise Answer(400, body="bad Upload-Metadata\n") from None

    def create(self, c, r):
        concat = r.headers.get("upload-concat", "")
        if concat and not self.has("concatenation"):
            raise Answer(501)
        if concat.startswith("final;"):
            return self.concatenate(c, r, concat[6:])
        if concat not in ("", "partial"):
            raise Answer(400, body="bad Upload-Concat\n")
        upload = Upload(self.world, "tus")
        upload.length = self.length(r)
        upload.facts.update(concat=concat, metadata=self.metadata(r),
                            metadata_text=r.headers.get("upload-metadata"))
        self.world.add(upload)
        headers = self.created(c, r, upload)
        if not r.has_body():
            upload.complete = upload.length == 0
            return Answer(201, headers)
        if not self.has("creation-with-upload"):
            raise Answer(400, headers)
        answer = self.append(c, r, upload, 0)
        return Answer(201 if answer.status == 204 else answer.status,
                      {**answer.headers, **headers})

    def created(self, c, r, upload):
        if self.has("expiration") and self.world.options["tus_expires"]:
            upload.expires = time.time() + self.world.options["tus_expires"]
        return {"Location": self.world.location(
            r, "%s/%s" % (BASE, upload.key), c.fault.get("location")),
            **self.expiry(upload)}

    def parts(self, urls):
        found = []
        for url in urls.split():
            path = urllib.parse.urlsplit(url).path
            if not path.startswith(BASE + "/"):
                raise Answer(400, body="not one of ours\n")
            part = self.world.find(path[len(BASE) + 1:])
            if part.facts.get("concat") != "partial":
                raise Answer(400, body="not a partial upload\n")
            if not part.complete:
                raise Answer(400, body="a partial upload is unfinished\n")
            found.append(part)
        if not found:
            raise Answer(400, body="nothing to put together\n")
        return found

    def concatenate(self, c, r, urls):
        if r.has_body() or "upload-length" in r.headers:
            raise Answer(400, body="a final upload has no length\n")
        parts = self.parts(urls)
        upload = Joined(self.world, parts)
        upload.facts.update(concat="final;" + urls, metadata=self.metadata(r),
                            metadata_text=r.headers.get("upload-metadata"),
                            parts=[p.key for p in parts])
        self.world.add(upload)
        return Answer(201, self.created(c, r, upload))

    def offset(self, r, upload):
        headers = {"Upload-Offset": upload.offset,
                   "Cache-Control": "no-store", **self.expiry(upload),
                   "Upload-Metadata": upload.facts["metadata_text"],
                   "Upload-Concat": upload.facts["concat"] or None}
        if upload.length is None:
            headers["Upload-Defer-Length"] = 1
        else:
            headers["Upload-Length"] = upload.length
        return Answer(200, headers)

    def checksum(self, r):
        text = r.headers.get("upload-checksum")
        if text is None or not self.has("checksum"):
            return None
        return Checksum(text, self.world.options["tus_checksums"])

    def append(self, c, r, upload, offset=None):
        if r.headers.get("content-type") != STREAM:
            raise Answer(415)
        if upload.facts["concat"].startswith("final"):
            raise Answer(403, body="a final upload does not change\n")
        if offset is None:
            offset = r.number("upload-offset")
        if offset is None:
            raise Answer(400, body="no Upload-Offset\n")
        checksum = self.checksum(r)
        with upload.writing(c):
            if offset != upload.offset:
                raise Answer(409, body="it is at %d\n" % upload.offset)
            self.settle_length(r, upload)
            self.receive(c, upload, checksum)
            upload.complete = upload.offset == upload.length
        return Answer(204, {"Upload-Offset": upload.offset,
                            **self.expiry(upload)})

    def settle_length(self, r, upload):
        length = None
        if r.method == "PATCH":
            length = r.number("upload-length")
        if length is not None:
            if upload.length not in (None, length):
                raise Answer(400, body="another Upload-Length\n")
            upload.length = length
        if upload.length is not None and \
                upload.offset + r.length > upload.length:
            raise Answer(413, body="more than Upload-Length\n")

    def receive(self, c, upload, checksum):
        begin = upload.offset
        try:
            upload.receive(c, *([checksum] if checksum else []),
                           limit=upload.length)
        except (Answer, Cut, Interrupted, OSError):
            # What cannot be checked does not count.
            if checksum:
                upload.rewind(begin)
            raise
        late = c.trailers.get("upload-checksum") \
            if self.has("checksum-trailer") else None
        if late and not checksum:
            checksum = Checksum(late, self.world.options["tus_checksums"])
            with open(upload.path, "rb") as f:
                f.seek(begin)
                while data := f.read(1 << 20):
                    checksum.update(data)
        if checksum and not checksum.right():
            upload.rewind(begin)
            raise Answer(460, body="checksum mismatch\n")
