"""PUT with Content-Range for resumable.py. The option put says as what:

    range     like Apache's mod_dav: writes at the offset, in any order
    replace   does not know Content-Range: the fragment becomes the file
    refuse    501, like nginx;  bad: 400, like lighttpd
    length    like range, and refuses a body that is not as long as the range
"""

import os
import re
import urllib.parse

from resumable import Answer, Cut, file_answer

BASE = "/put/"


class Put:
    def __init__(self, world):
        self.world = world
        world.options.setdefault("put", "range")
        world.options.setdefault("put_move", True)

    @staticmethod
    def owns(path):
        return path.startswith(BASE)

    def exclusive(self, r):
        return False

    def operation(self, r):
        """put, range, get, head, delete, move, discover."""
        if r.method == "PUT":
            return "range" if "content-range" in r.headers else "put"
        return {"OPTIONS": "discover"}.get(r.method, r.method.lower())

    def describe(self):
        return []

    def path(self, path):
        return os.path.join(self.world.store, "put-" + path[len(BASE):]
                            .replace("/", "_"))

    def forget(self, r, rule):
        if os.path.exists(self.path(r.path)):
            os.unlink(self.path(r.path))

    def truncate(self, r, rule):
        path = self.path(r.path)
        os.truncate(path, rule["to"] if "to" in rule else max(
            0, os.path.getsize(path) - rule["by"]))

    def mark(self, r, answer):
        pass

    def serve(self, c, r):
        path = self.path(r.path)
        if r.method == "OPTIONS":
            return Answer(200, {"DAV": "1,2", "Allow": "OPTIONS,GET,HEAD,PUT,"
                                "DELETE,MOVE"})
        if r.method == "PUT":
            return self.put(c, r, path)
        if not os.path.exists(path):
            raise Answer(404)
        if r.method in ("GET", "HEAD"):
            return self.get(r, path)
        if r.method == "DELETE":
            os.unlink(path)
            return Answer(204)
        if r.method == "MOVE" and self.world.options["put_move"]:
            return self.move(r, path)
        raise Answer(405)

    def get(self, r, path):
        tag = os.stat(path)
        a = file_answer(r, path, {"ETag": '"%x-%x"' % (tag.st_size,
                                                       tag.st_mtime_ns)})
        if r.method == "HEAD":
            a.headers["Content-Length"] = a.length()
        return a

    def move(self, r, path):
        to = self.path(urllib.parse.unquote(urllib.parse.urlsplit(
            r.headers.get("destination", "")).path))
        there = os.path.exists(to)
        if there and r.headers.get("overwrite") == "F":
            raise Answer(412)
        os.replace(path, to)
        return Answer(204 if there else 201)

    def put(self, c, r, path):
        there = os.path.exists(path)
        if r.headers.get("if-none-match") == "*" and there:
            raise Answer(412)
        kind = self.world.options["put"]
        text = r.headers.get("content-range")
        if text is None or kind == "replace":
            self.whole(c, path)
            return Answer(204 if there else 201)
        if kind in ("refuse", "bad"):
            raise Answer(501 if kind == "refuse" else 400)
        asked = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", text)
        if not asked or int(asked[1]) > int(asked[2]):
            raise Answer(400)
        begin, end = int(asked[1]), int(asked[2]) + 1
        if kind == "length" and r.length != end - begin:
            raise Answer(400, body="not as long as the range\n")
        self.range(c, path, begin, there)
        return Answer(204 if there else 201)

    @staticmethod
    def whole(c, path):
        """Shows nothing before its end."""
        scratch = "%s.%d" % (path, c.number)
        try:
            with open(scratch, "wb") as f:
                for block in c.body():
                    f.write(block)
            os.replace(scratch, path)
        finally:
            if os.path.exists(scratch):
                os.unlink(scratch)

    @staticmethod
    def range(c, path, offset, there):
        """What came stays, but a new file goes when its PUT is cut."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            for block in c.body():
                while block:
                    done = os.pwrite(fd, block, offset)
                    offset += done
                    block = block[done:]
        except (Cut, OSError):
            if not there:
                os.unlink(path)
            raise
        finally:
            os.close(fd)
