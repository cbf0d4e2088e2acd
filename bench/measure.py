"""What one run costs: wall and CPU time, memory, and whether it counts."""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
MI, GI = 1 << 20, 1 << 30


class Invalid(Exception):
    """This run counts for nothing."""


class Result:
    """One run of one program."""

    def __init__(self, wall, cpu, rss, last=None):
        self.wall, self.cpu, self.rss = wall, cpu, rss
        self.last = last or {}
        self.turn = 0  # of paired()
        self.link = {}  # what the link counted


def children():
    with open("/proc/self/task/%d/children" % os.getpid()) as f:
        return set(map(int, f.read().split()))


def become_subreaper():
    """Orphans come to this process: lftp does not wait for its ssh."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def wait_and_count(pid, known):
    """Exit status, CPU seconds and peak memory of a process and of what it
    left behind. known: children that are none of it. Linux counts what a
    process was before exec(): no peak is below that of this program."""
    # wait4() counts a process and the children that it waited for.
    _, status, usage = os.wait4(pid, 0)
    end = time.monotonic()
    cpu, rss = usage.ru_utime + usage.ru_stime, usage.ru_maxrss
    for orphan in children() - known:
        _, _, usage = os.wait4(orphan, 0)
        cpu += usage.ru_utime + usage.ru_stime
    return os.waitstatus_to_exitcode(status), end, cpu, rss * 1024


def measured(argv, env, cwd):
    """Runs to the end. CPU time is that of the program and its children."""
    with tempfile.TemporaryFile(dir=cwd) as out, \
            tempfile.TemporaryFile(dir=cwd) as err:
        known = children()
        begin = time.monotonic()
        p = subprocess.Popen(argv, env=env, cwd=cwd, stdout=out, stderr=err,
                             stdin=subprocess.DEVNULL)
        try:
            p.returncode, end, cpu, rss = wait_and_count(p.pid, known)
        except BaseException:
            p.kill()
            raise
        out.seek(0)
        text = out.read().decode(errors="replace")
        if p.returncode != 0:
            err.seek(0)
            said = err.read().decode(errors="replace") or text
            raise Invalid("%s ended with %d: %s" % (
                os.path.basename(argv[0]), p.returncode,
                " / ".join(said.splitlines())[-300:]))
    last = {}
    for line in reversed(text.splitlines()):
        if line.startswith('{"event"'):
            last = json.loads(line)
            break
    return Result(end - begin, cpu, rss, last)


def same_bytes(a, b):
    if subprocess.run(["cmp", "-s", a, b]).returncode != 0:
        raise Invalid("bytes differ")


def check_carried(link, direction, least):
    """A program that did not use the link was not measured on it."""
    if link.stats()[direction] < least:
        raise Invalid("the link carried %d bytes only" %
                      link.stats()[direction])


def paired(case, tools, one, runs, warm_up=False):
    """Takes turns, every other time backwards; one(tool) is a Result.
    Returns them by name. warm_up: the very first run counts for nothing,
    it would pay for cold caches that the others find warm."""
    results = {t.name: [] for t in tools}
    invalid = {t.name: 0 for t in tools}
    for turn in range(runs):
        if warm_up and turn == 0 and tools:
            try:
                one(tools[0])
            except Invalid:
                pass  # it will fail again, and be counted
        for tool in tools if turn % 2 == 0 else reversed(tools):
            try:
                result = one(tool)
                result.turn = turn
                results[tool.name].append(result)
            except Invalid as why:
                invalid[tool.name] += 1
                print("  INVALID: %s %s: %s" % (case, tool.name, why))
    return results, invalid
