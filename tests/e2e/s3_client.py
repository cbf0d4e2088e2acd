"""S3 requests for tests: Signature Version 4, and a client that follows and
retries nothing. Standard library only; knows nothing of haul."""

import datetime
import hashlib
import hmac
import http.client
import re
import ssl
import urllib.parse
import xml.etree.ElementTree

UNSIGNED = "UNSIGNED-PAYLOAD"
SAFE = "-._~"


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def quote(text, safe=""):
    return urllib.parse.quote(text, safe=SAFE + safe)


def canonical_query(raw):
    pairs = [p.partition("=") for p in raw.split("&") if p]
    return "&".join("%s=%s" % pair for pair in sorted(
        (quote(urllib.parse.unquote(k)), quote(urllib.parse.unquote(v)))
        for k, _, v in pairs))


def signature(request, headers, signed, scope, secret):
    """request: (method, raw path, raw query); headers: lower-case names;
    signed: names, in order; scope: DATE/REGION/SERVICE/aws4_request."""
    method, path, query = request
    canonical = "\n".join(
        [method, quote(urllib.parse.unquote(path), "/"),
         canonical_query(query)] +
        ["%s:%s" % (n, re.sub(" +", " ", headers.get(n, "").strip()))
         for n in signed] +
        ["", ";".join(signed), headers["x-amz-content-sha256"]])
    date, region, service, end = scope.split("/")
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope,
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for word in (date, region, service, end):
        key = mac(key, word)
    return mac(key, text).hex()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def all(self, name):
        """Texts of the elements of this name, whatever their name space."""
        return [e.text or "" for e in
                xml.etree.ElementTree.fromstring(self.body).iter()
                if e.tag.rpartition("}")[2] == name]

    def one(self, name):
        found = self.all(name)
        return found[0] if found else None

    def __repr__(self):
        return "%d %s %r" % (self.status, dict(self.headers),
                             self.body[:1000])


class S3Client:
    """endpoint: http(s)://HOST:PORT. What it does is path style."""

    def __init__(self, endpoint, key, secret, region="us-east-1", cafile=None):
        split = urllib.parse.urlsplit(endpoint)
        self.host, self.tls = split.netloc, split.scheme == "https"
        self.key, self.secret, self.region = key, secret, region
        self.cafile = cafile

    def sign(self, request, headers, now=None):
        """Adds what makes them signed."""
        now = now or datetime.datetime.now(datetime.timezone.utc)
        headers.setdefault("x-amz-content-sha256", UNSIGNED)
        headers["x-amz-date"] = now.strftime("%Y%m%dT%H%M%SZ")
        scope = "%s/%s/s3/aws4_request" % (now.strftime("%Y%m%d"),
                                           self.region)
        signed = sorted(headers)
        headers["authorization"] = \
            "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s," \
            "Signature=%s" % (self.key, scope, ";".join(signed), signature(
                request, headers, signed, scope, self.secret))

    def __call__(self, method, bucket="", key=None, query="", body=b"",
                 now=None, host=None, **headers):
        """headers: with _ for -. host: the Host, of the same server."""
        path = "/" + bucket
        if key is not None:
            path = path.rstrip("/") + "/" + quote(key, "/")
        headers = {k.replace("_", "-").lower(): v
                   for k, v in headers.items()}
        headers["host"] = host or self.host
        query = "&".join(q if "=" in q else q + "=" for q in
                         query.split("&") if q)
        self.sign((method, path, query), headers, now)
        connection = http.client.HTTPSConnection(
            self.host, timeout=60, context=ssl.create_default_context(
                cafile=self.cafile)) if self.tls \
            else http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, path + ("?" + query if query else ""),
                               body, headers)
            a = connection.getresponse()
            return Answer(a.status, a.headers, a.read())
        finally:
            connection.close()

    # ---- Multipart uploads

    def create(self, bucket, key, **headers):
        """The UploadId."""
        a = self("POST", bucket, key, "uploads", **headers)
        assert a.status == 200, a
        return a.one("UploadId")

    def part(self, bucket, key, upload, number, body, **headers):
        return self("PUT", bucket, key, "partNumber=%d&uploadId=%s" % (
            number, quote(upload)), body, **headers)

    def complete(self, bucket, key, upload, tags, **headers):
        """tags: ETags of the parts from 1 on, or (number, ETag) of each."""
        tags = [t if isinstance(t, tuple) else (i, t)
                for i, t in enumerate(tags, 1)]
        body = "<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % (
            "".join("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>"
                    % t for t in tags))
        return self("POST", bucket, key, "uploadId=" + quote(upload),
                    body.encode(), **headers)

    def parts(self, bucket, key, upload, more=""):
        return self("GET", bucket, key, "uploadId=%s%s" % (
            quote(upload), more))

    def abort(self, bucket, key, upload):
        return self("DELETE", bucket, key, "uploadId=" + quote(upload))

    def uploads(self, bucket):
        """[(key, UploadId)] of unfinished ones."""
        a = self("GET", bucket, query="uploads")
        assert a.status == 200, a
        return list(zip(a.all("Key"), a.all("UploadId")))
