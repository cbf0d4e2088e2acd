"""Cases of uploads that are made of requests: S3 at OpenStack Swift with
nginx and TLS before it, tus at the scripted server of the tests with TLS."""

import os
import random
import urllib.request

from measure import GI, MI, Invalid, check_carried, paired, same_bytes
from peers import CurlS3, CurlTus, Haul, RcloneS3
import servers
import upload_servers

LINK_RATE = 125_000_000
LINK = ("--rtt", 50, "--rate", LINK_RATE)
PERCON = (*LINK, "--conn-rate", 25_000_000)
BLOCK = 4 * MI
CHUNK = 4 * MI  # haul's
# Concatenation, and bodies of any length: what tusd offers too.
JOINING = "creation,creation-defer-length,concatenation,termination"
SINGLE = "creation,creation-defer-length,termination"


# ---- Servers ----------------------------------------------------------------

class S3Door:
    """How programs get to a bucket: straight, or through a link."""

    def __init__(self, bucket, at):
        self.bucket = bucket
        self.endpoint = at.url("")

    def url(self, key):
        return "s3://%s/%s" % (self.bucket, key)

    def http(self, key, login=""):
        scheme, rest = self.endpoint.split("://")
        return "%s://%s%s/%s/%s" % (scheme, login, rest, self.bucket, key)


class S3Place:
    """A bucket of Swift."""

    def __init__(self, bench):
        self.swift = bench.serve(upload_servers.Swift)
        self.bucket = self.swift.bucket()
        self.target = self.swift.front
        self.env = self.swift.env()

    def door(self, at):
        return S3Door(self.bucket, at)

    def stream(self, key):
        """The object by Swift's own interface, without TLS."""
        swift = self.swift
        _, headers, _ = upload_servers.fetch(
            swift.url("/auth/v1.0"), headers={
                "X-Storage-User": swift.access_key,
                "X-Storage-Pass": swift.secret_key})
        request = urllib.request.Request(
            "%s/%s/%s" % (headers["X-Storage-Url"], self.bucket, key),
            headers={"X-Auth-Token": headers["X-Auth-Token"]})
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({})).open(request, timeout=60)

    def check(self, source, key):
        with open(source, "rb") as f, self.stream(key) as stored:
            while True:
                want = f.read(BLOCK)
                if stored.read(len(want) or 1) != want:
                    raise Invalid("bytes differ")
                if not want:
                    return

    def parts(self):
        """Sizes of the parts that Swift keeps, without repeats."""

    def clear(self):
        for key, upload in self.swift.uploads(self.bucket):
            self.swift.delete_upload(self.bucket, key, upload)
        for key in self.swift.names(self.bucket):
            self.swift.delete(self.bucket, key)


class TusDoor:
    def __init__(self, at):
        self.files = at.url("/files")

    def url(self, _):
        return "tus+" + self.files

    def http(self, _):
        return self.files


class TusPlace:
    """The scripted server."""

    env = {}

    def __init__(self, bench, extensions=JOINING):
        self.server = bench.serve(upload_servers.Resumable, tls=True)
        self.server.options(tus_extensions=extensions)
        self.target = self.server

    def door(self, at):
        return TusDoor(at)

    def check(self, source, _):
        stored = self.server.finished()
        if len(stored) != 1:
            raise Invalid("%d uploads are whole" % len(stored))
        same_bytes(source, stored[0])

    def clear(self):
        for upload in self.server.uploads("tus"):
            upload_servers.fetch(
                self.server.url("/files/" + upload["key"]),
                self.server.certs, "DELETE",
                headers={"Tus-Resumable": "1.0.0"})


class BufferedTusPlace(TusPlace):
    """The same without TLS behind nginx, which takes a request as a whole
    before it passes it on."""

    def __init__(self, bench):
        self.server = bench.serve(upload_servers.Resumable)
        self.server.options(tus_extensions=SINGLE, location="relative")
        self.front = bench.serve(upload_servers.Front, self.server.port)
        self.target = Buffered(self.front)


class Buffered:
    """The port of a Front that does so, for a link."""

    def __init__(self, front):
        self.front, self.port = front, front.buffered

    def url(self, path, port=None):
        return self.front.url(path, port or self.port)


def put(bench, place, tool, source, *link_options):
    """One upload, straight or through a link with these options, compared."""
    at = link = None
    key = "dump-%d" % bench.count
    bench.count += 1
    tool.env.update(place.env)
    try:
        if link_options:
            link = servers.Linksim(bench.folder, bench.keys, bench.build,
                                   place.target, *link_options)
            link.start()
        at = link or place.target
        result = bench.run(tool.put(source, place.door(at), key), tool)
        place.check(source, key)
        if link:
            check_carried(link, "up", os.path.getsize(source))
            result.link = link.stats()
        return result
    finally:
        if link:
            link.stop()
        place.clear()


# ---- Speed ------------------------------------------------------------------

def place_of(bench, kind):
    """A place of this kind, or None with a remark."""
    try:
        return kind(bench)
    except servers.Missing as missing:
        print("  left out: %s" % missing)
        return None


def rclone_of(bench, case, one):
    """rclone with what suits it best: one run of each choice that counts for
    nothing else. None: it is not there."""
    rclone = bench.tool(RcloneS3)
    walls = {}
    for choice in RcloneS3.CHOICES if rclone else ():
        rclone.concurrency, rclone.chunk = choice
        try:
            walls[choice] = one(rclone).wall
        except Invalid as why:
            print("  %s: rclone %d x %s: %s" % (case, *choice, why))
    if walls:
        rclone.concurrency, rclone.chunk = min(walls, key=walls.get)
        rclone.note = "%d x %s, best of %s" % (
            rclone.concurrency, rclone.chunk, ", ".join(
                "%d x %s (%.1f s)" % (*c, w) for c, w in walls.items()))
    return rclone


def case_percon(bench, case, kind):
    """A link that gives one connection a fifth of its rate, against the same
    server without a link, and one request for all."""
    size = 512 * MI if bench.args.quick else 2 * GI
    source = bench.dump(size)
    place, haul = place_of(bench, kind), bench.haul()
    if not place or not haul:
        return
    near = Haul(bench)
    near.name = "haul, no link"

    def one(tool):
        return put(bench, place, tool, source,
                   *(() if tool is near else PERCON))

    tools = [haul, near]
    if kind is S3Place:
        tools.append(rclone_of(bench, case, one))
    tools = [t for t in tools if t]
    results, invalid = paired(case, tools, one, bench.runs)
    # A fifth of the link: more runs of it would tell nothing new.
    alone = bench.tool(CurlS3 if kind is S3Place else CurlTus)
    if alone:
        more, bad = paired(case, [alone], one, 1)
        results.update(more)
        invalid.update(bad)
        tools.append(alone)
    for tool in tools:
        bench.speed(case, tool.name, results[tool.name], invalid[tool.name],
                    size, 0 if tool is near else LINK_RATE, tool.note)
        bench.cpu(case, tool.name, results[tool.name], size)
    walls = {r.turn: r.wall for r in results[near.name]}
    bench.row(case, "haul", "% of least", [
        100 * max(size / LINK_RATE, walls[r.turn]) / r.wall
        for r in results["haul"] if r.turn in walls],
        note="the least of link and 'no link'")
    for tool in tools[2:]:
        bench.ratio(case, tool.name, results)


def case_loop(bench):
    """Loopback: pairs of haul and rclone."""
    size = 512 * MI if bench.args.quick else GI
    source = bench.dump(size)
    place, haul = place_of(bench, S3Place), bench.haul()
    if not place or not haul:
        return

    def one(tool):
        return put(bench, place, tool, source)

    tools = [t for t in (haul, rclone_of(bench, "s3-loop", one)) if t]
    results, invalid = paired("s3-loop", tools, one, bench.times(15, 3),
                              warm_up=True)
    for tool in tools:
        bench.speed("s3-loop", tool.name, results[tool.name],
                    invalid[tool.name], size, note=tool.note)
        bench.cpu("s3-loop", tool.name, results[tool.name], size)
    if len(tools) > 1:
        bench.ratio("s3-loop", "rclone", results)


# ---- Memory -----------------------------------------------------------------

PART = 64 * MI


def check_parts(place, begin):
    """Since this request, parts were as large as the case is about."""
    longest = max(int(r["length"] or 0) for r in
                  place.target.seen(begin=begin))
    if longest != PART:
        raise Invalid("the largest part has %d bytes" % longest)


def case_memory(bench):
    """Peak resident memory while eight parts of 64 MiB are under way. Parts
    are as large as that from 4 GiB on (io/s3_plan.c)."""
    place, haul = place_of(bench, S3Place), bench.haul()
    if not place or not haul:
        return
    source, options = bench.dump(64 * PART), ["--connections", "8"]
    for limit in ("64mi",) if bench.args.quick else ("64mi", "default"):
        haul.options = options if limit == "default" else [
            *options, "--memory", limit]
        begin = len(place.target.seen())
        try:
            r = put(bench, place, haul, source, *LINK)
            check_parts(place, begin)
            bench.row("s3-memory", limit, "MiB", [r.rss / MI],
                      note="%d connections, %.0f MB/s" % (
                          r.link["connections"], 64 * PART / r.wall / 1e6))
        except Invalid as why:
            bench.row("s3-memory", limit, "MiB", [], 1, str(why))


# ---- Cuts -------------------------------------------------------------------

class Cut:
    """What is cut, and what a stream may send again."""

    def __init__(self, name, kind, streams, size, limit):
        self.name, self.kind, self.streams = name, kind, streams
        self.size, self.limit = size, limit


def longest_patch(place):
    return max(int(r["length"]) for r in place.front.seen()
               if r["method"] == "PATCH")


CUTS = (
    Cut("tus", lambda bench: TusPlace(bench, SINGLE), 1, 128 * MI, CHUNK),
    Cut("tus, checksums", lambda bench: TusPlace(
        bench, SINGLE + ",checksum"), 1, 128 * MI, CHUNK),
    Cut("tus, parts", TusPlace, 4, 128 * MI, CHUNK),
    Cut("tus, buffered", BufferedTusPlace, 1, 256 * MI, longest_patch),
    Cut("s3", S3Place, 4, 128 * MI, 8 * MI),
)


def cut_once(bench, place, haul, cut, at):
    """One upload whose connections were all reset when so many bytes had come
    by."""
    r = put(bench, place, haul, bench.dump(cut.size), *PERCON, "--dir", "up",
            "--reset-after", at)
    if r.link["resets"] == 0:
        raise Invalid("nothing was cut")
    return r


def case_resent(bench):
    """What is sent again after a cut at a random byte, against what a stream
    may lose. 'more' is what the link carried beyond the object: that, heads
    and TLS."""
    haul = bench.haul()
    for cut in CUTS if haul else ():
        place = place_of(bench, cut.kind)
        if not place:
            continue
        haul.options = ["--connections", str(cut.streams)]
        seed = random.Random(cut.name)
        results, invalid = [], 0
        for _ in range(bench.times(8, 2)):
            at = seed.randrange(2 * MI, cut.size - 2 * MI)
            try:
                results.append(cut_once(bench, place, haul, cut, at))
            except Invalid as why:
                invalid += 1
                print("  INVALID: %s at %d: %s" % (cut.name, at, why))
        limit = cut.limit(place) if callable(cut.limit) else cut.limit
        resent = [r.last["resent"] for r in results]
        bench.row("resent", cut.name, "MiB", [n / MI for n in resent],
                  invalid, "%d x %d may be" % (cut.streams, limit // MI))
        bench.row("resent", cut.name, "of limit",
                  [n / limit / cut.streams for n in resent])
        bench.row("resent", cut.name, "MiB more",
                  [(r.link["up"] - cut.size) / MI for r in results])


CASES = {
    "s3-percon": lambda bench: case_percon(bench, "s3-percon", S3Place),
    "tus-percon": lambda bench: case_percon(bench, "tus-percon", TusPlace),
    "s3-loop": case_loop,
    "s3-memory": case_memory,
    "resent": case_resent,
}
