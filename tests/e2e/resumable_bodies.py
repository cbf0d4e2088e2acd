"""What no server should answer: bodies for the rules of resumable.py."""

BOMB = "".join('<!ENTITY e%d "%s">' % (n, "&e%d;" % (n - 1) * 10)
               for n in range(1, 11))
UPLOAD = ("<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key>"
          "<UploadId>%s</UploadId></InitiateMultipartUploadResult>")
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


def huge():
    """64 MiB in one element."""
    return XML + UPLOAD % ("x" * (64 << 20))


def many():
    """A million parts."""
    return XML + "<ListPartsResult><IsTruncated>false</IsTruncated>" + \
        "".join("<Part><PartNumber>%d</PartNumber><Size>1</Size><ETag>e"
                "</ETag></Part>" % n for n in range(1, 1000001)) + \
        "</ListPartsResult>"


def error(code, text="it says so"):
    return XML + "<Error><Code>%s</Code><Message>%s</Message></Error>" % (
        code, text)


BODIES = {
    "entities": lambda: XML + "<!DOCTYPE r [<!ENTITY e0 \"ha\">%s]>" % BOMB +
    UPLOAD % "&e10;",
    "entity": lambda: XML + '<!DOCTYPE r [<!ENTITY e "id">]>' +
    UPLOAD % "&e;",
    "external": lambda: XML +
    '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/hostname">]>' +
    UPLOAD % "&e;",
    "dtd": lambda: XML + '<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x.dtd">' +
    UPLOAD % "id",
    "truncated": lambda: XML + (UPLOAD % "id")[:-20],
    "unknown-entity": lambda: XML + UPLOAD % "&nothing;",
    "deep": lambda: XML + "<a>" * 100000,
    "huge": huge,
    "many": many,
    "html": lambda: "<!DOCTYPE html>\n<html><head><title>Welcome</title>"
    "<body><p>Please log in &nbsp; here.\n",
    "empty": lambda: "",
    "binary": lambda: bytes(range(256)),
    "controls": lambda: error("Slow\x1b[2JDown", "\x1b]0;owned\x07"),
    "escaped": lambda: error("AccessDenied",
                             "&#27;[2J&#8238;&lt;b&gt;&amp;amp;"),
    "two-roots": lambda: XML + UPLOAD % "one" + UPLOAD % "two",
    "no-id": lambda: XML + UPLOAD % "",
    "odd-id": lambda: XML + UPLOAD % "a&amp;b=c d/../%0d%0aX: y",
    "internal-error": lambda: error("InternalError", "We encountered an "
                                    "internal error. Please try again."),
    "slow-down": lambda: error("SlowDown", "Please reduce your request "
                               "rate."),
    "blank-internal-error": lambda: " \n" * 200 + error("InternalError"),
}
