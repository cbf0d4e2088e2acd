"""S3 for resumable.py: what AWS does and Swift does not, and what goes wrong.
Path style, and buckets in the host name below s3.localhost. Options:

    s3_key, s3_secret, s3_region   who may, else 403 or 400; s3_key None: all
    s3_buckets       those that there are; None: every one
    s3_skew          seconds that the clock of the server is ahead
    s3_sums          names of the checksums that it knows (resumable_sums.py)
    s3_default_sum   what it computes when the client names none, or None
    s3_etag          "md5", or "opaque" as with encryption by KMS
    s3_min_part      bytes, except of the last part; s3_max_part: bytes
    s3_page          parts in one answer to ListParts
    s3_equal_parts   all but the last part are as long as the first (R2)
    s3_none_match    If-None-Match: "aws" (412), "ignore", or 501
    s3_repeat        a second Complete is told what the first one was
    s3_flavor        "aws", or "gcs": x-goog-hash, opaque ETag of the whole
"""

import base64
import calendar
import email.utils
import hashlib
import os
import re
import secrets
import time
import xml.etree.ElementTree
from xml.sax.saxutils import escape

from resumable import Answer, Cut, file_answer
from resumable_bodies import XML
from resumable_sums import SUMS
from s3_client import signature

OPTIONS = {
    "s3_key": "AKIAHAULTEST", "s3_secret": "no-secret/at+all",
    "s3_region": "us-east-1", "s3_buckets": None, "s3_skew": 0,
    "s3_sums": ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"],
    "s3_default_sum": None, "s3_etag": "md5", "s3_min_part": 5 << 20,
    "s3_max_part": 5 << 30, "s3_page": 1000, "s3_equal_parts": False,
    "s3_none_match": "aws", "s3_repeat": False, "s3_flavor": "aws",
}
DOMAIN = ".s3.localhost"
SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
SKEW_MAX = 900
WHOLE_SUMS = ("crc32", "crc32c", "crc64nvme")


def error(status, code, headers=None, **more):
    text = "".join("<%s>%s</%s>" % (k, escape(str(v)), k)
                   for k, v in more.items())
    return Answer(status, {"Content-Type": "application/xml",
                           **(headers or {})},
                  XML + "<Error><Code>%s</Code><Message>it is %s</Message>%s"
                  "<RequestId>%s</RequestId></Error>" % (
                      code, code, text, secrets.token_hex(8)))


def reply(name, inside):
    return Answer(200, {"Content-Type": "application/xml"},
                  XML + "<%s%s>%s</%s>" % (name, SPACE, inside, name))


def element(name, value):
    return "<%s>%s</%s>" % (name, escape(str(value)), name)


def b64(data):
    return base64.b64encode(data).decode()


class Thing:
    """A part, or an object: a file with what is known of it."""

    def __init__(self, path, size, md5, sums, tag):
        self.path, self.size, self.md5 = path, size, md5
        self.sums = sums  # {name: what it digests to}
        self.told = {k: b64(v) for k, v in sums.items()}
        self.tag, self.when = tag, time.time()
        self.parts, self.sum_type, self.metadata = [], None, {}

    def elements(self):
        return "".join(element("Checksum" + name.upper(), value)
                       for name, value in self.told.items())


class Multipart:
    def __init__(self, bucket, key, sums, sum_type, metadata):
        self.id = secrets.token_urlsafe(24)
        self.bucket, self.key = bucket, key
        self.sums, self.sum_type = sums, sum_type
        self.metadata = metadata
        self.parts = {}
        self.result = None  # the answer to Complete


class S3:
    def __init__(self, world):
        self.world = world
        for name, value in OPTIONS.items():
            world.options.setdefault(name, value)
        self.objects, self.uploads = {}, {}

    def option(self, name):
        return self.world.options["s3_" + name]

    @staticmethod
    def owns(path):
        return True

    def exclusive(self, r):
        return False

    @staticmethod
    def place(r):
        """(bucket, key) of the request."""
        host = r.headers.get("host", "").rpartition(":")[0]
        if host.endswith(DOMAIN):
            return host[:-len(DOMAIN)], r.path[1:]
        bucket, _, key = r.path[1:].partition("/")
        return bucket, key

    def operation(self, r):
        """create, part, parts, complete, abort, put, get, head, delete;
        uploads, bucket."""
        q, m = r.query, r.method
        if not self.place(r)[1]:
            return "uploads" if "uploads" in q and m == "GET" else "bucket"
        if m == "POST":
            return "create" if "uploads" in q else "complete"
        if "uploadId" in q:
            return {"PUT": "part", "GET": "parts", "DELETE": "abort"}.get(
                m, m)
        return m.lower()

    def describe(self):
        """s3: unfinished uploads, {part: size}; s3-object: objects."""
        with self.world.lock:
            found = [{"protocol": "s3", "bucket": u.bucket, "name": u.key,
                      "key": u.id, "parts": {n: p.size for n, p in
                                             u.parts.items()},
                      "complete": False}
                     for u in self.uploads.values() if not u.result]
            found += [{"protocol": "s3-object", "bucket": b, "name": k,
                       "path": o.path, "size": o.size, "etag": o.tag,
                       "sums": o.told, "complete": True}
                      for (b, k), o in self.objects.items()]
        return found

    def forget(self, r, rule):
        self.uploads.pop(r.query.get("uploadId"), None)

    def truncate(self, r, rule):
        """Parts above to=N are gone."""
        upload = self.uploads[r.query["uploadId"]]
        for number in [n for n in upload.parts if n > rule["to"]]:
            del upload.parts[number]

    def mark(self, r, a):
        a.headers.setdefault("Date", email.utils.formatdate(
            time.time() + self.option("skew"), usegmt=True))
        a.headers.setdefault("x-amz-request-id", "HAUL")

    # ---- Who asks

    def check_signature(self, r):
        h = r.headers
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 +Credential=([^,]+?)/([^,/]+/[^,/]+/s3/"
            r"aws4_request), *SignedHeaders=([^,]+), *Signature=([0-9a-f]+)",
            h.get("authorization", ""))
        if not found:
            raise error(403, "AccessDenied")
        key, scope, names, given = found.groups()
        if key != self.option("key"):
            raise error(403, "InvalidAccessKeyId", AWSAccessKeyId=key)
        region = scope.split("/")[1]
        if region != self.option("region"):
            raise error(400, "AuthorizationHeaderMalformed", {
                "x-amz-bucket-region": self.option("region")},
                Region=self.option("region"))
        self.check_date(h.get("x-amz-date", ""), scope)
        names = names.split(";")
        wanted = [n for n in h if n.startswith("x-amz-")] + ["host"]
        if "x-amz-content-sha256" not in h:
            raise error(400, "InvalidRequest")
        if any(n not in names for n in wanted) or names != sorted(names):
            raise error(403, "AccessDenied")
        if signature((r.method, r.raw_path, r.raw_query), h, names, scope,
                     self.option("secret")) != given:
            raise error(403, "SignatureDoesNotMatch")

    def check_date(self, text, scope):
        try:
            when = calendar.timegm(time.strptime(text, "%Y%m%dT%H%M%SZ"))
        except ValueError:
            raise error(403, "AccessDenied") from None
        now = time.time() + self.option("skew")
        if abs(when - now) > SKEW_MAX:
            raise error(403, "RequestTimeTooSkewed", RequestTime=text,
                        ServerTime=time.strftime(
                            "%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
                        MaxAllowedSkewMilliseconds=SKEW_MAX * 1000)
        if not scope.startswith(text[:8]):
            raise error(403, "SignatureDoesNotMatch")

    # ---- Requests

    def serve(self, c, r):
        if self.option("key") is not None:
            self.check_signature(r)
        bucket, key = self.place(r)
        buckets = self.option("buckets")
        if buckets is not None and bucket not in buckets:
            raise error(404, "NoSuchBucket", BucketName=bucket)
        op = self.operation(r)
        if op in ("part", "parts", "complete", "abort"):
            upload = self.uploads.get(r.query.get("uploadId"))
            if not upload or (upload.bucket, upload.key) != (bucket, key):
                raise error(404, "NoSuchUpload")
            return getattr(self, op)(c, r, upload)
        if op in ("create", "put", "get", "head", "delete"):
            return getattr(self, op)(c, r, (bucket, key))
        if op == "uploads":
            return self.list_uploads(r, bucket)
        if op == "bucket" and r.method in ("HEAD", "PUT"):
            return Answer(200, {"x-amz-bucket-region": self.option("region")})
        raise error(405, "MethodNotAllowed")

    def sums_of(self, r):
        """Names of the checksums to compute: those the client tells, else
        its algorithm, else the default."""
        known = self.option("sums")
        told = [n for n in known if "x-amz-checksum-" + n in r.headers]
        named = r.headers.get("x-amz-checksum-algorithm", "").lower() or \
            r.headers.get("x-amz-sdk-checksum-algorithm", "").lower()
        if told:
            return told
        if named in known:
            return [named]
        return [self.option("default_sum")] if self.option("default_sum") \
            else []

    def store(self, c, r, names):
        """The body as a Thing, all that is promised of it checked."""
        path = os.path.join(self.world.store, "s3-" + secrets.token_hex(8))
        sums = {n: SUMS[n]() for n in names}
        md5, sha256, size = hashlib.md5(), hashlib.sha256(), 0
        payload = r.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        hashes = [md5, *sums.values()]
        if payload != "UNSIGNED-PAYLOAD":
            hashes.append(sha256)
        try:
            with open(path, "wb") as f:
                for block in c.hashed(*hashes):
                    f.write(block)
                    size += len(block)
            self.check_body(r, payload, md5, sha256, sums)
        except (Answer, Cut, OSError):
            os.unlink(path)
            raise
        tag = md5.hexdigest() if self.option("etag") == "md5" \
            else secrets.token_hex(16)
        return Thing(path, size, md5.digest(),
                     {n: s.digest() for n, s in sums.items()}, '"%s"' % tag)

    @staticmethod
    def check_body(r, payload, md5, sha256, sums):
        wanted = r.headers.get("content-md5")
        if wanted is not None and wanted != b64(md5.digest()):
            raise error(400, "BadDigest")
        if payload.startswith("STREAMING-"):
            raise error(501, "NotImplemented")
        if payload != "UNSIGNED-PAYLOAD" and payload != sha256.hexdigest():
            raise error(400, "XAmzContentSHA256Mismatch")
        for name, h in sums.items():
            told = r.headers.get("x-amz-checksum-" + name)
            if told is not None and told != b64(h.digest()):
                raise error(400, "BadDigest")

    def headers_of(self, thing):
        headers = {"ETag": thing.tag}
        headers.update({"x-amz-checksum-" + n: v
                        for n, v in thing.told.items()})
        if self.option("flavor") == "gcs":
            crc = SUMS["crc32c"]()
            with open(thing.path, "rb") as f:
                while data := f.read(1 << 20):
                    crc.update(data)
            headers["x-goog-hash"] = "crc32c=" + b64(crc.digest())
            if not thing.parts:
                headers["x-goog-hash"] += ",md5=" + b64(thing.md5)
        return headers

    def none_match(self, r, place):
        if r.headers.get("if-none-match") is None:
            return
        if self.option("none_match") == 501:
            raise error(501, "NotImplemented", Header="If-None-Match")
        if self.option("none_match") == "aws" and place in self.objects:
            raise error(412, "PreconditionFailed", Condition="If-None-Match")

    def create(self, c, r, place):
        names = self.sums_of(r)
        whole = "crc64nvme" in names
        kind = r.headers.get("x-amz-checksum-type",
                             "FULL_OBJECT" if whole else "COMPOSITE")
        if names and (kind == "FULL_OBJECT" and names[0] not in WHOLE_SUMS or
                      kind == "COMPOSITE" and whole):
            raise error(400, "InvalidRequest")
        upload = Multipart(*place, names, kind if names else None, {
            k: v for k, v in r.headers.items()
            if k.startswith("x-amz-meta-")})
        self.uploads[upload.id] = upload
        a = reply("InitiateMultipartUploadResult",
                  element("Bucket", place[0]) + element("Key", place[1]) +
                  element("UploadId", upload.id))
        if names:
            a.headers["x-amz-checksum-algorithm"] = names[0].upper()
            a.headers["x-amz-checksum-type"] = kind
        return a

    def part(self, c, r, upload):
        number = r.query.get("partNumber", "")
        if not number.isdigit() or not 1 <= int(number) <= 10000:
            raise error(400, "InvalidArgument")
        if r.chunked:
            raise error(411, "MissingContentLength")
        if r.length > self.option("max_part"):
            raise error(400, "EntityTooLarge")
        thing = self.store(c, r, sorted(set(self.sums_of(r)) |
                                        set(upload.sums)))
        if self.uploads.get(upload.id) is not upload:
            raise error(404, "NoSuchUpload")
        upload.parts[int(number)] = thing
        return Answer(200, self.headers_of(thing))

    def parts(self, c, r, upload):
        after = int(r.query.get("part-number-marker") or 0)
        most = min(int(r.query.get("max-parts", 1000)), self.option("page"))
        numbers = sorted(n for n in upload.parts if n > after)
        shown = numbers[:most]
        text = element("Bucket", upload.bucket) + \
            element("Key", upload.key) + element("UploadId", upload.id) + \
            element("PartNumberMarker", after) + \
            element("NextPartNumberMarker", shown[-1] if shown else 0) + \
            element("MaxParts", most) + \
            element("IsTruncated", str(len(numbers) > most).lower())
        if upload.sums:
            text += element("ChecksumAlgorithm", upload.sums[0].upper()) + \
                element("ChecksumType", upload.sum_type)
        for n in shown:
            p = upload.parts[n]
            text += "<Part>%s</Part>" % (
                element("PartNumber", n) + element("ETag", p.tag) +
                element("Size", p.size) + p.elements() + element(
                    "LastModified", time.strftime(
                        "%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(p.when))))
        return reply("ListPartsResult", text)

    def chosen(self, data, upload):
        """The parts that Complete lists: [(number, part)]."""
        try:
            root = xml.etree.ElementTree.fromstring(data)
        except xml.etree.ElementTree.ParseError:
            raise error(400, "MalformedXML") from None
        found = []
        for item in root:
            told = {e.tag.rpartition("}")[2]: e.text for e in item}
            number = int(told["PartNumber"])
            part = upload.parts.get(number)
            if found and number <= found[-1][0]:
                raise error(400, "InvalidPartOrder")
            sums = {k[8:].lower(): v for k, v in told.items()
                    if k.startswith("Checksum")}
            if not part or told["ETag"].strip('"') != part.tag.strip('"') \
                    or any(part.told.get(n) != v for n, v in sums.items()):
                raise error(400, "InvalidPart", PartNumber=number)
            found.append((number, part))
        if not found:
            raise error(400, "MalformedXML")
        return found

    def check_sizes(self, r, parts):
        sizes = [p.size for _, p in parts]
        if any(s < self.option("min_part") for s in sizes[:-1]):
            raise error(400, "EntityTooSmall")
        if self.option("equal_parts") and (
                len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]):
            raise error(400, "InvalidPart")
        told = r.headers.get("x-amz-mp-object-size")
        if told is not None and int(told) != sum(sizes):
            raise error(400, "InvalidRequest")

    def complete(self, c, r, upload):
        data = c.whole_body()
        if upload.result:
            return Answer(*upload.result)
        parts = self.chosen(data, upload)
        self.check_sizes(r, parts)
        place = (upload.bucket, upload.key)
        self.none_match(r, place)
        thing = self.join(upload, [p for _, p in parts])
        for name, value in thing.told.items():
            if r.headers.get("x-amz-checksum-" + name, value) != value:
                raise error(400, "BadDigest")
        self.objects[place] = thing
        a = reply("CompleteMultipartUploadResult", element(
            "Location", self.world.location(r, r.raw_path)) +
            element("Bucket", place[0]) + element("Key", place[1]) +
            element("ETag", thing.tag) + thing.elements() + (
                element("ChecksumType", thing.sum_type) if thing.told
                else ""))
        if self.option("repeat"):
            upload.result = (a.status, a.headers, a.body)
        else:
            self.uploads.pop(upload.id, None)
        return a

    def join(self, upload, parts):
        path = os.path.join(self.world.store, "s3-" + secrets.token_hex(8))
        with open(path, "wb") as out:
            for part in parts:
                with open(part.path, "rb") as f:
                    left = part.size
                    while left:
                        left -= os.sendfile(out.fileno(), f.fileno(), None,
                                            left)
        md5 = hashlib.md5(b"".join(p.md5 for p in parts)).hexdigest()
        tag = "%s-%d" % (md5, len(parts))
        if self.option("etag") != "md5" or self.option("flavor") == "gcs":
            tag = secrets.token_hex(16)
        sums = {}
        for name in upload.sums:
            h = SUMS[name]()
            if upload.sum_type == "COMPOSITE":
                h.update(b"".join(p.sums[name] for p in parts))
            else:
                with open(path, "rb") as f:
                    while data := f.read(1 << 20):
                        h.update(data)
            sums[name] = h.digest()
        thing = Thing(path, os.path.getsize(path), b"", sums, '"%s"' % tag)
        if upload.sum_type == "COMPOSITE":
            thing.told = {n: "%s-%d" % (v, len(parts))
                          for n, v in thing.told.items()}
        thing.parts, thing.sum_type = parts, upload.sum_type
        thing.metadata = upload.metadata
        return thing

    def abort(self, c, r, upload):
        self.uploads.pop(upload.id, None)
        return Answer(204)

    def list_uploads(self, r, bucket):
        text = element("Bucket", bucket) + element("IsTruncated", "false")
        for u in list(self.uploads.values()):
            if u.bucket == bucket and not u.result and u.key.startswith(
                    r.query.get("prefix", "")):
                text += "<Upload>%s</Upload>" % (
                    element("Key", u.key) + element("UploadId", u.id))
        return reply("ListMultipartUploadsResult", text)

    # ---- Objects

    def put(self, c, r, place):
        self.none_match(r, place)
        thing = self.store(c, r, self.sums_of(r))
        thing.sum_type = "FULL_OBJECT" if thing.told else None
        thing.metadata = {k: v for k, v in r.headers.items()
                          if k.startswith("x-amz-meta-")}
        self.objects[place] = thing
        return Answer(200, self.headers_of(thing))

    def get(self, c, r, place):
        thing = self.objects.get(place)
        if not thing:
            raise error(404, "NoSuchKey")
        match = r.headers.get("if-match")
        if match not in (None, thing.tag):
            raise error(412, "PreconditionFailed")
        headers = {**self.headers_of(thing), **thing.metadata,
                   "Content-Type": "binary/octet-stream",
                   "Last-Modified": email.utils.formatdate(
                       thing.when, usegmt=True)}
        a = file_answer(r, thing.path, headers)
        part = r.query.get("partNumber")
        if part is not None:
            self.one_part(a, thing, int(part))
        wanted = r.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
        if wanted and thing.told and a.status == 200:
            a.headers["x-amz-checksum-type"] = thing.sum_type
        else:
            for name in thing.told:
                a.headers["x-amz-checksum-" + name] = None
        return a

    @staticmethod
    def one_part(a, thing, number):
        sizes = [p.size for p in thing.parts] or [thing.size]
        if not 1 <= number <= len(sizes):
            raise error(416, "InvalidPartNumber")
        begin = sum(sizes[:number - 1])
        end = begin + sizes[number - 1]
        a.status, a.body = 206, (thing.path, begin, end)
        a.headers["Content-Range"] = "bytes %d-%d/%d" % (begin, end - 1,
                                                         thing.size)
        if thing.parts:
            a.headers["x-amz-mp-parts-count"] = len(sizes)

    def head(self, c, r, place):
        if place not in self.objects:
            raise Answer(404)
        a = self.get(c, r, place)
        a.headers["Content-Length"] = a.length()
        return a

    def delete(self, c, r, place):
        self.objects.pop(place, None)
        return Answer(204)
