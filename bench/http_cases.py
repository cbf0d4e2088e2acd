"""Cases over HTTP: loopback, links, relays, all with the same Nginx."""

import os
import shutil

from measure import GI, MI, Invalid, check_carried, paired, same_bytes
from peers import Aria2, Curl
import servers

LINK_RATE = 125_000_000
CONN_RATE = 25_000_000


class Plain:
    """A web server's door without TLS."""

    def __init__(self, web):
        self.web = web

    def url(self, path):
        return self.web.url(path, port=self.web.plain, scheme="http")


def offer(web, source):
    """Path in URLs of a file on the same file system."""
    path = "/" + os.path.basename(source)
    if not os.path.exists(web.www + path):
        os.link(source, web.www + path)
    return path


def transfer(bench, tool, way, server, source):
    """One put or get through server (the web server, its plain door, a link
    to it), compared."""
    web = bench.web()
    folder = bench.fresh("t")
    try:
        if way == "put":
            name = "/" + os.path.basename(folder)
            target = web.dav + name
            argv = tool.put(source, server, "/dav" + name)
        else:
            target = folder + "/target"
            argv = tool.get(target, server, offer(web, source))
        result = bench.run(argv, tool)
        same_bytes(source, target)
        return result
    finally:
        shutil.rmtree(folder)
        if way == "put" and os.path.exists(target):
            os.unlink(target)


def over_link(bench, tool, way, source, *options):
    """The same through a link of 50 ms and 125 MB/s."""
    link = servers.Linksim(bench.folder, bench.keys, bench.build,
                           bench.web(), "--rtt", 50, "--rate", LINK_RATE,
                           *options)
    link.start()
    try:
        result = transfer(bench, tool, way, link, source)
        check_carried(link, "up" if way == "put" else "down",
                      os.path.getsize(source))
        return result
    finally:
        link.stop()


def rows(bench, case, tools, results, invalid, size, rate=0, notes=None):
    for tool in tools:
        bench.speed(case, tool.name, results[tool.name],
                    invalid[tool.name], size, rate,
                    (notes or {}).get(tool.name, ""))
        bench.cpu(case, tool.name, results[tool.name], size)
    for tool in tools:
        if tool.name != "haul":
            bench.ratio(case, tool.name, results)


def tune(bench, aria2, source, *options):
    """Finds how many connections suit aria2 best here: one run of each that
    counts for nothing else. Returns a remark."""
    walls = {}
    for aria2.connections in (5, 8, 16):
        try:
            walls[aria2.connections] = over_link(
                bench, aria2, "get", source, *options).wall
        except Invalid as why:
            print("  aria2 -x%d: %s" % (aria2.connections, why))
    aria2.connections = min(walls, key=walls.get, default=16)
    return "-x%d, best of %s" % (aria2.connections, ", ".join(
        "%d (%.1f s)" % item for item in walls.items()))


def case_percon(bench):
    """A link that gives one connection a fifth of its rate."""
    size = 256 * MI if bench.args.quick else GI
    source = bench.dump(size)
    each = ("--conn-rate", CONN_RATE)
    tools = bench.tools((Curl, Aria2))
    notes = {tool.name: tune(bench, tool, source, *each)
             for tool in tools if tool.name == "aria2"}
    results, invalid = paired(
        "https-percon", tools,
        lambda tool: over_link(bench, tool, "get", source, *each),
        bench.runs)
    rows(bench, "https-percon", tools, results, invalid, size, LINK_RATE,
         notes)


def case_link(bench, way):
    """A link that one connection can fill."""
    case = "https-link50-" + way
    size = 256 * MI if bench.args.quick else GI
    source = bench.dump(size)
    tools = bench.tools((Curl, Aria2) if way == "get" else (Curl,))
    notes = {tool.name: tune(bench, tool, source)
             for tool in tools if tool.name == "aria2"}
    results, invalid = paired(
        case, tools, lambda tool: over_link(bench, tool, way, source),
        bench.runs)
    rows(bench, case, tools, results, invalid, size, LINK_RATE, notes)


def case_loop(bench, scheme, way):
    """Loopback, one Nginx for all: pairs of haul and curl."""
    case = "%s-loop-%s" % (scheme, way)
    size = 512 * MI if bench.args.quick else GI
    source = bench.dump(size)
    web = bench.web()
    server = web if scheme == "https" else Plain(web)
    tools = bench.tools((Curl,))
    results, invalid = paired(
        case, tools,
        lambda tool: transfer(bench, tool, way, server, source),
        bench.times(15, 3), warm_up=True)
    rows(bench, case, tools, results, invalid, size)


class Work:
    """One copy by haul: source and target are its words, from and to the
    files whose bytes must be the same."""

    def __init__(self, name, source, target, at):
        self.name, self.source, self.target = name, source, target
        self.at = at


def relay_one(bench, haul, work, dump):
    try:
        result = bench.run(haul.copy(work.source, work.target), haul)
        same_bytes(dump, work.at)
        return result
    finally:
        if os.path.exists(work.at):
            os.unlink(work.at)


def case_relay(bench):
    """From one server to another, against the slower of the two alone."""
    size = 256 * MI if bench.args.quick else GI
    dump = bench.dump(size)
    web, haul = bench.web(), bench.haul()
    if not haul:
        return
    at = bench.fresh("t") + "/target"
    stored = web.dav + "/relay"
    get_url, put_url = web.url(offer(web, dump)), web.url("/dav/relay")
    sftp_get, sftp_put = bench.sshd.url(dump), bench.sshd.url(at)
    works = [Work("https get", get_url, at, at),
             Work("sftp put", dump, sftp_put, at),
             Work("https > sftp", get_url, sftp_put, at),
             Work("sftp get", sftp_get, at, at),
             Work("https put", dump, put_url, stored),
             Work("sftp > https", sftp_get, put_url, stored)]
    results, invalid = paired(
        "relay", works, lambda work: relay_one(bench, haul, work, dump),
        bench.times(7, 1), warm_up=True)
    for work in works:
        bench.speed("relay", work.name, results[work.name],
                    invalid[work.name], size)
    for one, other, both in (works[:3], works[3:]):
        alone = [{r.turn: r.wall for r in results[w.name]}
                 for w in (one, other)]
        bench.row("relay", both.name, "of slower", [
            max(a[r.turn] for a in alone) / r.wall
            for r in results[both.name]
            if all(r.turn in a for a in alone)])


CASES = {
    "https-percon": case_percon,
    "https-link50-get": lambda bench: case_link(bench, "get"),
    "https-link50-put": lambda bench: case_link(bench, "put"),
    "https-loop-get": lambda bench: case_loop(bench, "https", "get"),
    "https-loop-put": lambda bench: case_loop(bench, "https", "put"),
    "http-loop-get": lambda bench: case_loop(bench, "http", "get"),
    "http-loop-put": lambda bench: case_loop(bench, "http", "put"),
    "relay": case_relay,
}
