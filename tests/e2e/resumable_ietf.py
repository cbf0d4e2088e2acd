"""draft-ietf-httpbis-resumable-upload for resumable.py, interop versions 3 to
8, each as its text of the draft wants it."""

import base64
import hashlib
import json
import os
import re

from resumable import Answer, Cut, Interrupted, Upload, file_answer

TARGETS, UPLOADS = "/ietf/", "/ietf-uploads/"
TYPES = "https://iana.org/assignments/http-problem-types#"
HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512,
          "md5": hashlib.md5, "sha": hashlib.sha1}
PARTIAL = "application/partial-upload"


def problem(kind, status, headers=None, **members):
    return Answer(status, {"Content-Type": "application/problem+json",
                           **(headers or {})},
                  json.dumps(dict({"type": TYPES + kind, "title": kind},
                                  **members)))


def digests(text):
    """{name: value} of a digest field, as far as the names are known."""
    found = {}
    for name, value in re.findall(r"([\w-]+)=:([A-Za-z0-9+/=]*):",
                                  text or ""):
        if name in HASHES:
            found[name] = base64.b64decode(value)
    return found


class Ietf:
    def __init__(self, world):
        self.world = world

    @staticmethod
    def owns(path):
        return path.startswith((TARGETS, UPLOADS))

    def exclusive(self, r):
        return r.path.startswith(UPLOADS)

    def operation(self, r):
        """discover, create, plain, offset, append, delete, get."""
        if r.method == "OPTIONS":
            return "discover"
        if r.path.startswith(UPLOADS):
            return {"HEAD": "offset", "PATCH": "append", "DELETE": "delete",
                    "GET": "get"}.get(r.method, r.method)
        if r.method in ("GET", "HEAD"):
            return "get"
        return "create" if self.version(r) and \
            self.completes(r) is not None else "plain"

    def describe(self):
        return []

    def upload(self, r):
        return self.world.find(r.path[len(UPLOADS):])

    def forget(self, r, rule):
        if rule.get("gone") == 410:
            self.upload(r).expires = 1
        else:
            self.world.remove(r.path[len(UPLOADS):])

    def truncate(self, r, rule):
        upload = self.upload(r)
        upload.complete = False
        upload.rewind(rule["to"] if "to" in rule
                      else max(0, upload.offset - rule["by"]))

    # ---- What the versions call things

    def version(self, r):
        """The one that client and server speak, None when there is none."""
        text = r.headers.get("upload-draft-interop-version")
        if text is None:
            return 8 if self.world.options["ietf_final"] else None
        return int(text) if text.isdigit() and int(text) in \
            self.world.options["ietf_versions"] else None

    def completes(self, r):
        """Does this request say that it brings the end?"""
        if self.version(r) == 3:
            return {"?0": True, "?1": False}.get(
                r.headers.get("upload-incomplete"))
        return {"?1": True, "?0": False}.get(
            r.headers.get("upload-complete"))

    def complete_header(self, r, complete):
        if self.version(r) == 3:
            return {"Upload-Incomplete": "?0" if complete else "?1"}
        return {"Upload-Complete": "?1" if complete else "?0"}

    def limit_header(self, r):
        """As in the drafts: from -03 on; expires became max-age in -06."""
        limit = self.world.options["ietf_limit"]
        version = self.version(r) or max(self.world.options["ietf_versions"])
        if not limit or version < 5:
            return {}
        return {"Upload-Limit": limit.replace("max-age", "expires")
                if version < 7 else limit}

    def limit(self, name):
        found = re.search(r"\b%s=(\d+)" % name,
                          self.world.options["ietf_limit"] or "")
        return int(found[1]) if found else None

    def mark(self, r, answer):
        version = self.version(r)
        if version and not self.world.options["ietf_final"]:
            answer.headers.setdefault("Upload-Draft-Interop-Version", version)

    # ---- Requests

    def serve(self, c, r):
        if r.method == "OPTIONS":
            return self.discover(r)
        if r.path.startswith(TARGETS):
            return self.target(c, r)
        upload = self.upload(r)
        if self.version(r) is None:
            raise Answer(412, body="no such version\n")
        if r.method == "HEAD":
            upload.wait(c, False)
            return self.offset(r, upload)
        if r.method == "PATCH":
            return self.append(c, r, upload)
        if r.method == "DELETE":
            upload.wait(c, False)
            self.world.remove(upload.key)
            return Answer(204)
        raise Answer(405)

    def discover(self, r):
        options = self.world.options
        headers = {"Allow": "OPTIONS, HEAD, GET, POST, PUT, PATCH, DELETE"}
        newest = max(options["ietf_versions"])
        if options["ietf_discover"] and newest >= 6:
            headers["Accept-Patch"] = PARTIAL
            headers.update(self.limit_header(r))
            if not options["ietf_final"]:
                headers["Upload-Draft-Interop-Version"] = newest
        return Answer(204, headers)

    def target(self, c, r):
        path = os.path.join(self.world.store,
                            "ietf-" + r.path[len(TARGETS):].replace("/", "_"))
        if r.method in ("GET", "HEAD"):
            if not os.path.exists(path):
                raise Answer(404)
            return file_answer(r, path)
        if self.operation(r) == "create":
            return self.create(c, r, path)
        status = self.world.options["ietf_unknown"]
        if status and "upload-draft-interop-version" in r.headers:
            raise Answer(status, body="no such version\n")
        return self.plain(c, r, path)

    def plain(self, c, r, path):
        upload = Upload(self.world, "plain")
        try:
            upload.receive(c)
        except Cut:
            os.unlink(upload.path)
            raise
        os.replace(upload.path, path)
        return Answer(self.world.options["ietf_status"], body="stored\n")

    def announced(self, r, complete):
        """The length that the request tells, None when it tells none."""
        told = r.number("upload-length")
        if complete and not r.chunked:
            whole = r.length + (r.number("upload-offset") or 0)
            if told not in (None, whole):
                raise problem("inconsistent-upload-length", 400)
            return whole
        return told

    def check_limits(self, r, length):
        too_much = [(self.limit("max-size"), length),
                    (self.limit("max-append-size"), r.length)]
        for most, wanted in too_much:
            if most is not None and wanted is not None and wanted > most:
                raise Answer(413, self.limit_header(r))
        least = self.limit("min-append-size")
        if least and r.length < least and r.has_body() and \
                not self.completes(r):
            raise Answer(400, self.limit_header(r), "too small\n")

    def create(self, c, r, path):
        complete = self.completes(r)
        length = self.announced(r, complete)
        self.check_limits(r, length)
        upload = Upload(self.world, "ietf")
        upload.length = length
        upload.facts.update(target=path, method=r.method, digests={
            k: v.hex() for k, v in digests(
                r.headers.get("repr-digest")).items()},
            want=r.headers.get("want-repr-digest"))
        self.world.add(upload)
        url = self.world.location(r, UPLOADS + upload.key,
                                  c.fault.get("location"))
        headers = {"Location": url, **self.limit_header(r)}
        if self.world.options["ietf_104"] and not c.fault.get("no104"):
            c.interim(104, {"Upload-Draft-Interop-Version": self.version(r),
                            **headers, **c.fault.get("set104", {})})
        with upload.writing(c):
            self.receive(c, r, upload)
            if complete:
                return self.finish(r, upload)
        headers.update(self.complete_header(r, False))
        headers["Upload-Offset"] = upload.offset
        return Answer(201, headers)

    def offset(self, r, upload):
        headers = {"Upload-Offset": upload.offset,
                   "Upload-Length": upload.length,
                   "Cache-Control": "no-store",
                   **self.complete_header(r, upload.complete),
                   **self.limit_header(r)}
        if self.version(r) < 6:
            headers.pop("Upload-Length")
        return Answer(204, headers)

    def append(self, c, r, upload):
        complete, offset = self.completes(r), r.number("upload-offset")
        if self.version(r) >= 6 and r.headers.get("content-type") != PARTIAL:
            raise Answer(415, {"Accept-Patch": PARTIAL})
        if offset is None or complete is None:
            raise Answer(400, body="no Upload-Offset or Upload-Complete\n")
        bare = self.world.options["ietf_bare"]
        with upload.writing(c):
            if upload.complete:
                raise problem("completed-upload", 400)
            if offset != upload.offset:
                raise problem("mismatching-upload-offset", 409, {
                    "Upload-Offset": None if bare else upload.offset,
                    **self.complete_header(r, False)},
                    **{"expected-offset": upload.offset,
                       "provided-offset": offset})
            self.settle_length(r, upload, complete)
            self.receive(c, r, upload)
            if complete:
                return self.finish(r, upload)
        headers = {} if bare else self.complete_header(r, False)
        if self.version(r) < 7 or bare:
            headers["Upload-Offset"] = upload.offset
        return Answer(201 if self.version(r) < 5 else 204, headers)

    def settle_length(self, r, upload, complete):
        length = self.announced(r, complete)
        if length is not None:
            if upload.length not in (None, length):
                raise problem("inconsistent-upload-length", 400)
            upload.length = length
        if upload.length is not None and \
                upload.offset + r.length > upload.length:
            raise problem("inconsistent-upload-length", 400)
        self.check_limits(r, upload.length)

    def receive(self, c, r, upload):
        begin, wanted = upload.offset, digests(
            r.headers.get("content-digest"))
        hashes = {name: HASHES[name]() for name in wanted}
        every = self.world.options["ietf_progress"]
        watch = [Progress(c, self.version(r), upload, every)] \
            if every and self.version(r) >= 5 else []
        try:
            upload.receive(c, *hashes.values(), *watch, limit=upload.length)
        except (Cut, Interrupted):
            if hashes:
                upload.rewind(begin)
            raise
        except Answer as a:
            if a.status == 413:
                raise problem("inconsistent-upload-length", 400) from None
            raise
        if any(hashes[n].digest() != wanted[n] for n in wanted):
            upload.rewind(begin)
            raise Answer(400, body="Content-Digest differs\n")

    def finish(self, r, upload):
        """All is there: the target makes of it what it makes of a PUT."""
        if upload.length is not None and upload.offset != upload.length:
            raise problem("inconsistent-upload-length", 400)
        headers = self.complete_header(r, True)
        upload.complete, upload.length = True, upload.offset
        for name, value in upload.facts["digests"].items():
            if self.digest(upload, name).hex() != value:
                return Answer(400, headers, "Repr-Digest differs\n")
        path = upload.facts["target"]
        if os.path.exists(path):
            os.unlink(path)
        os.link(upload.path, path)
        wanted = [n for n in re.findall(
            r"([\w-]+)=[1-9]", upload.facts["want"] or "") if n in HASHES]
        if wanted:
            headers["Repr-Digest"] = ", ".join("%s=:%s:" % (
                n, base64.b64encode(self.digest(upload, n)).decode())
                for n in wanted)
        if self.version(r) < 7:
            headers["Upload-Offset"] = upload.offset
        return Answer(self.world.options["ietf_status"], headers, "stored\n")

    @staticmethod
    def digest(upload, name):
        h = HASHES[name]()
        with open(upload.path, "rb") as f:
            while data := f.read(1 << 20):
                h.update(data)
        return h.digest()


class Progress:
    """A 104 with the offset every so many bytes."""

    def __init__(self, connection, version, upload, every):
        self.connection, self.version = connection, version
        self.upload, self.every = upload, every
        self.next = upload.offset + every

    def update(self, _):
        if self.upload.offset >= self.next:
            self.next = self.upload.offset + self.every
            self.connection.interim(104, {
                "Upload-Draft-Interop-Version": self.version,
                "Upload-Offset": self.upload.offset})
