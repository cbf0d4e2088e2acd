"""What the tests of S3 share: a bucket of a server, and haul with its keys."""

import re
import subprocess

import conftest

MI = conftest.MI
PART = 8 * MI  # the smallest part
SIX = 5 * PART + 3  # six parts
# What cannot work is over soon.
SOON = ("--stall-timeout", 2, "--give-up-after", 20, "--retries", 4)


class Place:
    def __init__(self, haul, server, bucket="bucket"):
        self.haul, self.server, self.bucket = haul, server, bucket
        haul.trust(server)
        haul.env.update(server.env())
        self.options = ["--endpoint", server.endpoint]

    def url(self, key="dump"):
        return "s3://%s/%s" % (self.bucket, key)

    def put(self, source, *options, key="dump", **more):
        return self.haul.copy(source, self.url(key), *self.options, *options,
                              **more)

    def start(self, source, *options, key="dump"):
        return self.haul.start("copy", source, self.url(key), *self.options,
                               *options)

    def get(self, target, *options, key="dump", **more):
        return self.haul.copy(self.url(key), target, *self.options, *options,
                              **more)

    def pipe(self, source, *options, key="dump", **more):
        with open(source, "rb") as f, subprocess.Popen(
                ["cat"], stdin=f, stdout=subprocess.PIPE) as cat:
            return self.put("-", *options, key=key, stdin=cat.stdout, **more)

    # ---- Of the scripted server

    def file(self, key="dump"):
        return self.server.s3_file(self.bucket, key)

    def seen(self, *ops, begin=0):
        return [r for r in self.server.seen(begin=begin)
                if not ops or r["op"] in ops]

    def numbers(self, begin=0, status=200):
        """Of the parts that were taken, in order of their number."""
        return sorted(number(r) for r in self.seen("part", begin=begin)
                      if r["status"] == status)

    def count(self):
        return len(self.server.seen())

    def unfinished(self):
        return self.server.uploads("s3")

    def same(self, source, key="dump"):
        path = self.file(key)
        return path and conftest.digest(path) == conftest.digest(source)


def number(request):
    return int(re.search(r"partNumber=(\d+)", request["query"])[1])


def notes(run):
    return "\n".join(e["note"] for e in run.events if e["event"] == "note")
