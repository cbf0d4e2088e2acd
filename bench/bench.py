#!/usr/bin/env python3
"""Measures haul and its peers side by side on this machine.

Every run starts real servers on 127.0.0.1 with both ends on tmpfs (nobody
pays for a disk), puts a link simulator between where a case says so, and
compares the bytes afterwards: a run whose bytes differ or that fails is
INVALID, never slow. Runs of different programs take turns, so that a change
of the machine's load hits all of them; the table shows medians and spreads.
Peers run with the settings that are best for them here.

  bench.py [--quick] [--only NAME[,NAME]] [--all] [--runs N] [--save]
"""

import argparse
import glob
import json
import os
import platform
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

from measure import (GI, HERE, MI, ROOT, Invalid, become_subreaper,
                     check_carried, measured, paired, same_bytes)
from peers import Haul, Lftp, Rclone, Sftp
import http_cases
import http_servers
import servers
import upload_cases

LINK_RATE = 125_000_000


# ---- The table --------------------------------------------------------------

class Bench:
    """Folders, servers, the list of rows."""

    def __init__(self, args):
        self.args = args
        self.runs = self.times(3, 1)
        self.rows = []
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.mkdtemp(prefix="haul-bench-", dir=base)
        self.disk = tempfile.mkdtemp(prefix="haul-bench-",
                                     dir=args.disk or None)
        self.build = os.path.abspath(args.build or servers.build_folder())
        self.keys = servers.Keys(self.folder + "/keys")
        self.known_hosts = self.folder + "/known_hosts"
        self.ssh_config = self.folder + "/ssh_config"
        open(self.ssh_config, "w").close()
        self.env = {k: v for k, v in os.environ.items()
                    if k not in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY")
                    and not k.lower().endswith("_proxy")
                    and not k.startswith("AWS_")}
        self.env.update(HOME=self.folder, XDG_STATE_HOME=self.folder,
                        LC_ALL="C.UTF-8")
        self.count = 0
        self.haul_missing = False
        self.certs = None
        self.cacert = ""
        self.running = {}
        self.sshd = servers.Sshd(self.folder, self.keys,
                                 ["MaxStartups 100"])

    def times(self, usual, quick):
        """How many runs: what was asked for, or one of these."""
        return self.args.runs or (quick if self.args.quick else usual)

    def serve(self, kind, *args, **options):
        """A server with HTTP; the first call with these words starts it."""
        if not self.certs:
            self.certs = http_servers.Certificates(self.folder + "/certs")
            self.cacert = self.certs.ca
        words = (kind, args, tuple(options.items()))
        if words not in self.running:
            self.running[words] = kind(self.folder, self.certs, *args,
                                       **options)
            self.running[words].start()
        return self.running[words]

    def web(self):
        """The web server."""
        return self.serve(http_servers.Nginx)

    def close(self):
        for server in (self.sshd, *self.running.values()):
            server.stop()
        for folder in (self.folder, self.disk):
            shutil.rmtree(folder, ignore_errors=True)

    def fresh(self, name):
        self.count += 1
        path = "%s/%s-%d" % (self.folder, name, self.count)
        os.mkdir(path)
        return path

    def trust(self, server):
        with open(self.known_hosts, "a") as f:
            f.write(self.keys.known_hosts_lines(server.port))

    def ssh_options(self):
        return ["-i", self.keys.identity, "-o", "IdentitiesOnly=yes", "-o",
                "UserKnownHostsFile=" + self.known_hosts, "-o",
                "IdentityAgent=none"]

    def dump(self, size, folder=None):
        path = "%s/dump-%d" % (folder or self.folder, size)
        if not os.path.exists(path):
            subprocess.run([os.path.join(self.build, "mkdump"), str(size),
                            path], check=True)
        return path

    def link(self, rtt, rate):
        link = servers.Linksim(self.folder, self.keys, self.build, self.sshd,
                               "--rtt", rtt, "--rate", rate)
        link.start()
        self.trust(link)
        return link

    def tools(self, peers=(Sftp, Rclone, Lftp)):
        """haul and its peers, those that are here."""
        found = map(self.tool, (Haul, *peers))
        return [tool for tool in found if tool]

    def tool(self, kind, *options):
        """A program, or None with a remark."""
        try:
            return kind(self, *options)
        except servers.Missing as missing:
            self.haul_missing |= kind is Haul
            print("  left out: %s" % missing)
            return None

    def haul(self, *options):
        return self.tool(Haul, *options)

    def run(self, argv, tool):
        return measured(argv, tool.env, self.folder)

    def row(self, case, who, unit, values, invalid=0, note="", **more):
        """Values of the runs in unit, median first in mind."""
        row = {"case": case, "who": who, "unit": unit, "runs": values,
               "invalid": invalid, "note": note, **more}
        if values:
            row["median"] = statistics.median(values)
        self.rows.append(row)
        print_row(row)
        return row

    def speed(self, case, who, results, invalid, size, rate=0, note=""):
        """MB/s of these runs; with the rate of the link, the share of it."""
        values = [size / r.wall / 1e6 for r in results]
        self.row(case, who, "MB/s", values, invalid, note,
                 seconds=[r.wall for r in results],
                 cpu=[r.cpu for r in results],
                 reported=[r.last for r in results])
        if rate and values:
            self.row(case, who, "% of link",
                     [v * 1e8 / rate for v in values])

    def cpu(self, case, who, results, size, invalid=0):
        self.row(case, who, "cpu s/GiB",
                 [r.cpu * GI / size for r in results], invalid)

    def ratio(self, case, who, results):
        """Ratios of runs of the same turn: haul over peer."""
        theirs = {r.turn: r for r in results[who]}
        pairs = [(r, theirs[r.turn]) for r in results.get("haul", [])
                 if r.turn in theirs]
        for name in ("wall", "cpu"):
            if pairs:
                self.row(case, "haul / " + who, name + " ratio",
                         [getattr(a, name) / getattr(b, name)
                          for a, b in pairs])


def print_row(row):
    values = row["runs"]
    if not values:
        text = "INVALID" if row["invalid"] else "-"
    elif len(values) == 1:
        text = "%10.3f" % values[0]
    else:
        text = "%10.3f  (%.3f .. %.3f, %d runs)" % (
            row["median"], min(values), max(values), len(values))
    if row["invalid"] and values:
        text += "  %d INVALID" % row["invalid"]
    print("  %-16s %-14s %-10s %s%s" % (
        row["case"], row["who"], row["unit"], text,
        "  " + row["note"] if row["note"] else ""), flush=True)


# ---- Cases ------------------------------------------------------------------

def transfer(bench, tool, way, server, source):
    """One put or get over SFTP, compared."""
    target = bench.fresh("t") + "/target"
    try:
        if way == "put":
            result = bench.run(tool.put(source, server, target), tool)
        else:
            result = bench.run(tool.get(target, server, source), tool)
        same_bytes(source, target)
        return result
    finally:
        shutil.rmtree(os.path.dirname(target))


def case_link(bench, rtt, size, peers):
    source = bench.dump(size)
    tools = bench.tools() if peers else bench.tools(())
    for way in ("put", "get"):
        case = "link%d-%s" % (rtt, way)

        def one(tool):
            link = bench.link(rtt, LINK_RATE)
            try:
                result = transfer(bench, tool, way, link, source)
                check_carried(link, "up" if way == "put" else "down", size)
                return result
            finally:
                link.stop()

        results, invalid = paired(case, tools, one, bench.runs)
        for tool in tools:
            bench.speed(case, tool.name, results[tool.name],
                        invalid[tool.name], size)


def case_link50(bench):
    case_link(bench, 50, 256 * MI if bench.args.quick else GI, True)


def case_link100(bench):
    case_link(bench, 100, 2 * GI, bench.args.all)


def case_link200(bench):
    case_link(bench, 200, 4 * GI, bench.args.all)


def case_loop(bench):
    """Loopback, both ends on tmpfs, one sshd for all: wall and client CPU."""
    size = 512 * MI if bench.args.quick else GI
    source = bench.dump(size)
    tools = bench.tools()
    for way in ("put", "get"):
        case = "loop-" + way
        results, invalid = paired(
            case, tools,
            lambda tool: transfer(bench, tool, way, bench.sshd, source),
            bench.runs, warm_up=True)
        for tool in tools:
            bench.speed(case, tool.name, results[tool.name],
                        invalid[tool.name], size)
            bench.cpu(case, tool.name, results[tool.name], size)
        for tool in tools:
            if tool.name != "haul":
                bench.ratio(case, tool.name, results)


def drop_caches(path):
    """True when the file is in no cache any more."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("1")
    except OSError:
        pass  # not root: what fadvise could do


def fio_read(bench, path, size):
    argv = [servers.program("fio"), "--name=read", "--filename=" + path,
            "--rw=read", "--bs=4m", "--iodepth=8", "--ioengine=io_uring",
            "--direct=1", "--size=%d" % size, "--readonly",
            "--output-format=json"]
    out = subprocess.run(argv, capture_output=True, text=True,
                         cwd=bench.folder)
    if out.returncode != 0:
        raise Invalid("fio: " + out.stderr[-200:])
    job = json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0]
    return job["read"]["bw_bytes"] / 1e6


def case_file(bench):
    """Reading a file and its digest, against fio on the same file."""
    size = GI if bench.args.quick else 4 * GI
    path = bench.dump(size, bench.disk)
    haul = bench.haul()
    cold, cached, fio, invalid = [], [], [], 0
    for _ in range(bench.runs):
        drop_caches(path)
        try:
            fio.append(fio_read(bench, path, size))
        except (Invalid, servers.Missing) as why:
            print("  left out: %s" % why)
        for values, warm in ((cold, False), (cached, True)):
            if not haul:
                continue
            drop_caches(path)
            if warm:
                subprocess.run(["cat", path], stdout=subprocess.DEVNULL)
            try:
                r = bench.run(haul.copy(path, "mem:null"), haul)
                values.append(size / r.wall / 1e6)
            except Invalid as why:
                invalid += 1
                print("  INVALID: %s" % why)
    bench.row("file-cold", "fio", "MB/s", fio, note="io_uring, direct")
    if haul:
        bench.row("file-cold", "haul", "MB/s", cold, invalid)
        bench.row("file-cached", "haul", "MB/s", cached)
    os.unlink(path)


def case_digest(bench):
    """What the digest costs: client CPU of an upload with and without."""
    size = 512 * MI if bench.args.quick else GI
    source = bench.dump(size)
    if not bench.haul():
        return
    tools = [Haul(bench, "--verify", "ack"), Haul(bench, "--verify", "none")]
    tools[0].name, tools[1].name = "verify ack", "verify none"
    results, invalid = paired(
        "digest", tools,
        lambda tool: transfer(bench, tool, "put", bench.sshd, source),
        bench.runs, warm_up=True)
    for tool in tools:
        bench.cpu("digest", tool.name, results[tool.name], size,
                  invalid[tool.name])
    a, b = results["verify ack"], results["verify none"]
    if a and len(a) == len(b):
        bench.row("digest", "ack / none", "cpu ratio",
                  [x.cpu / y.cpu for x, y in zip(a, b)])


def case_memory(bench):
    """Peak resident memory against --memory, and with the object's size."""
    size = 256 * MI if bench.args.quick else GI
    source = bench.dump(size)
    huge = "20gi" if bench.args.quick else bench.args.huge
    if not bench.haul():
        return
    for limit in ("32mi", "128mi"):
        haul = Haul(bench, "--memory", limit)
        for way in ("put", "get"):
            try:
                r = transfer(bench, haul, way, bench.sshd, source)
                bench.row("memory", "%s %s" % (way, limit), "MiB",
                          [r.rss / MI])
            except Invalid as why:
                bench.row("memory", "%s %s" % (way, limit), "MiB", [], 1,
                          str(why))
        for generated in ("1gi", huge):
            who = "%s, %s" % (generated, limit)
            try:
                r = bench.run(haul.copy("mem:gen?size=%s&seed=1" % generated,
                                        "mem:null"), haul)
                bench.row("memory", who, "MiB", [r.rss / MI],
                          note="%.0f s" % r.wall)
            except Invalid as why:
                bench.row("memory", who, "MiB", [], 1, str(why))


def acked(event):
    return event.get("acked") or 0


def run_until(bench, argv, enough):
    """SIGKILL once enough(event) holds. Returns that event."""
    p = subprocess.Popen(argv, env=bench.env, cwd=bench.folder,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL)
    found = None
    for line in p.stdout:
        event = json.loads(line)
        if event["event"] in ("done", "failed"):
            break
        if enough(event):
            found = event
            p.kill()
            break
    p.stdout.close()
    p.wait()
    if not found:
        raise Invalid("it ended before it could be killed: %s" % event)
    return found


def case_kill(bench):
    """kill -9 at 90 %: what the second run sends, counted by the link."""
    size = 256 * MI if bench.args.quick else 2 * GI
    source = bench.dump(size)
    haul = bench.haul()
    if not haul:
        return
    sent, invalid = [], 0
    for _ in range(bench.runs):
        link = bench.link(20, 50_000_000)
        target = bench.fresh("t") + "/target"
        state = bench.fresh("state") + "/s.db"
        argv = haul.copy(source, link.url(target), state)
        try:
            run_until(bench, argv,
                      lambda e: acked(e) >= size * 0.9)
            before = link.stats()["up"]
            bench.run(argv, haul)
            same_bytes(source, target)
            check_carried(link, "up", size)
            sent.append((link.stats()["up"] - before) / MI)
        except Invalid as why:
            invalid += 1
            print("  INVALID: %s" % why)
        link.stop()
        shutil.rmtree(os.path.dirname(target))
    bench.row("kill90", "haul", "MiB sent", sent, invalid,
              "10 %% are %d MiB" % (size // 10 // MI))


def clone_chunks(state, size, share):
    """Makes the state of a transfer of zeros that was killed early look as
    if it had been killed at this share: its chunks differ in their number
    only. Returns the bytes that are done then. The tables are those of
    docs/formats/state-store.md."""
    db = sqlite3.connect(state)
    full = db.execute("SELECT chunk_size FROM objects").fetchone()[0]
    count = int(size * share) // full
    row = db.execute("SELECT transfer, object, batch, digest FROM chunks "
                     "WHERE len = ? LIMIT 1", (full,)).fetchone()
    if not row:
        raise Invalid("no chunk was saved before the first run was killed")
    db.executemany("INSERT OR IGNORE INTO chunks (transfer, object, batch, "
                   "digest, len, chunk) VALUES (?, ?, ?, ?, ?, ?)",
                   ((*row, full, i) for i in range(count)))
    db.execute("UPDATE objects SET durable_batch = batch, acked = "
               "(SELECT sum(len) FROM chunks)")
    db.commit()
    db.close()
    return count * full


def case_huge(bench):
    """Resuming 400 GiB at 90 %: seconds until the first new byte counts,
    and memory. Source and target are sparse, the state is prepared."""
    size = 40 * GI if bench.args.quick else 400 * GI
    haul = bench.haul()
    if not haul:
        return
    source = bench.disk + "/huge"
    with open(source, "wb") as f:
        f.truncate(size)
    folder = bench.fresh("t")
    target = folder + "/target"
    state = bench.fresh("state") + "/s.db"
    # A server that does not tell how much room it has: there is none for
    # what is never sent.
    server = servers.Sshd(bench.folder, bench.keys, subsystem="%s -P "
                          "statvfs,fstatvfs" % servers.SFTP_SERVER)
    server.start()
    bench.trust(server)
    argv = haul.copy(source, server.url(target), state)
    try:
        run_until(bench, argv, lambda e: acked(e) >= 256 * MI)
        done = clone_chunks(state, size, 0.9)
        part = glob.glob(folder + "/*") + glob.glob(folder + "/.[!.]*")
        os.truncate(part[0], done)
        begin = time.monotonic()
        event = run_until(bench, argv,
                          lambda e: acked(e) > done + MI)
        bench.row("resume400", "haul", "seconds",
                  [time.monotonic() - begin],
                  note="%d GiB, resumed from %d" % (
                      size // GI, (event.get("resumed_from") or 0) // GI))
    except Invalid as why:
        bench.row("resume400", "haul", "seconds", [], 1, str(why))
    server.stop()
    shutil.rmtree(folder)
    os.unlink(source)


CASES = {
    "link50": case_link50,
    "link100": case_link100,
    "link200": case_link200,
    "loop": case_loop,
    "file": case_file,
    "digest": case_digest,
    "memory": case_memory,
    "kill90": case_kill,
    "resume400": case_huge,
    **http_cases.CASES,
    **upload_cases.CASES,
}
NOT_QUICK = ("link100", "link200")


# ---- Main -------------------------------------------------------------------

def version(argv):
    try:
        out = subprocess.run(argv, capture_output=True, text=True)
        return (out.stdout + out.stderr).strip().splitlines()[0]
    except (OSError, IndexError):
        return None


def machine():
    model = "unknown"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    commit = version(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"])
    return {"processor": model, "cores": os.cpu_count(),
            "memory_gib": os.sysconf("SC_PHYS_PAGES") *
            os.sysconf("SC_PAGE_SIZE") // GI,
            "kernel": platform.release(), "commit": commit,
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "ssh": version(["ssh", "-V"]),
            "rclone": version(["rclone", "version"]),
            "lftp": version(["lftp", "--version"]),
            "curl": version(["curl", "--version"]),
            "aria2": version(["aria2c", "--version"]),
            "nginx": version(["nginx", "-v"]),
            "swift": version(["dpkg-query", "-W", "-f", "${Version}\n",
                              "swift-proxy"])}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--quick", action="store_true", help="less data and runs")
    p.add_argument("--only", default="", help=", ".join(CASES))
    p.add_argument("--all", action="store_true",
                   help="peers on the long links too")
    p.add_argument("--runs", type=int,
                   help="of each program (3; 15 on loopback over HTTP)")
    p.add_argument("--huge", default="400gi", metavar="SIZE",
                   help="of the generated object (400gi)")
    p.add_argument("--save", action="store_true",
                   help="write bench/results/DATE.json")
    p.add_argument("--build", help="folder of linksim and mkdump")
    p.add_argument("--disk", help="folder for files that must be on a disk")
    args = p.parse_args()
    wanted = [w for w in args.only.split(",") if w] or [
        c for c in CASES if not (args.quick and c in NOT_QUICK)]
    for name in wanted:
        if name not in CASES:
            p.error("no case '%s': %s" % (name, ", ".join(CASES)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    become_subreaper()
    info = machine()
    print("%s, %d cores, Linux %s, %s" % (
        info["processor"], info["cores"], info["kernel"], info["ssh"]))
    bench = Bench(args)
    try:
        bench.sshd.start()
        bench.trust(bench.sshd)
        for name in wanted:
            print("%s" % name, flush=True)
            CASES[name](bench)
    finally:
        bench.close()
    invalid = sum(r["invalid"] for r in bench.rows)
    if args.save:
        folder = os.path.join(HERE, "results")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, time.strftime("%Y-%m-%d-%H%M.json"))
        with open(path, "w") as f:
            json.dump({"machine": info, "rows": bench.rows}, f, indent=1)
            f.write("\n")
        print("saved in bench/results/" + os.path.basename(path))
    if invalid:
        print("%d INVALID runs" % invalid)
    return 1 if invalid or bench.haul_missing else 0


if __name__ == "__main__":
    sys.exit(main())
