#!/usr/bin/env python3
"""Runs tests, several at once, and says in one line each what became of them.

    tests/run.py [-j N] LABEL=BUILD TEST... [LABEL=BUILD TEST...]...

A TEST is a source file, a pytest node id or FILE.py@WORD+WORD (tests with one
of the words in their names); BUILD is the folder of the build
that it tests. tests/unit/test_x.c is the program BUILD/tests/unit/test_x,
fuzz_x.c replays tests/fuzz/corpus/x, test_x.py runs under pytest, other .py
and .sh files run as they are. Each gets a TMPDIR of its own (kept when it
fails), no terminal, a time limit (--timeout), HAUL_BUILD and HAUL. Exit
status 77 means skipped; the last line of output says why.

Logs are BUILD/log/*.log; those of failed tests are shown. The last line is
'N passed, N failed, N skipped'.
"""

import argparse
import concurrent.futures
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SKIP = 77
LONG = os.environ.get("HAUL_LONG") == "1"
SHOWN = 6000  # characters of a failed test's log

# The long ones start first.
FIRST = ("e2e", "crash", "sim", "contract")


running = set()  # process groups


@functools.cache
def pytest_python():
    """The Python that has pytest: Debian's, which need not be the first."""
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import pytest"],
                          capture_output=True).returncode == 0:
            return python
    return sys.executable


def kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Test:
    def __init__(self, label, build, path):
        self.build = os.path.abspath(build)
        self.path = path
        self.name = re.sub(r"^tests/|\.(c|py|sh)(?=$|::|@)", "", path)
        if label != "release":
            self.name = label + ":" + self.name
        self.log = os.path.join(self.build, "log", re.sub(
            r"[^\w.-]+", "_", self.name) + ".log")
        self.passed = self.failed = self.skipped = 0
        self.reasons = []
        self.seconds = 0.0

    def is_pytest(self):
        return os.path.basename(self.path).startswith("test_") and \
            ".py" in self.path

    def command(self, tmp):
        stem, end = os.path.splitext(self.path)
        if self.is_pytest():
            path, _, words = self.path.partition("@")
            return [pytest_python(), "-m", "pytest", "-q", "-rs", "-p",
                    "no:cacheprovider", "--tb=short",
                    "--junitxml=" + os.path.join(tmp, "result.xml"),
                    "-k", words.replace("+", " or "), path]
        if end == ".py":
            return [sys.executable, self.path]
        if end == ".sh":
            return ["/bin/sh", self.path]
        argv = [os.path.join(self.build, stem)]
        name = os.path.basename(stem)
        if name.startswith("fuzz_"):
            argv.append("tests/fuzz/corpus/" + name[5:])
        return argv

    def environment(self, tmp):
        env = dict(os.environ, TMPDIR=tmp, HAUL_TMP=tmp, XDG_STATE_HOME=tmp,
                   HAUL_BUILD=self.build, LC_ALL="C.UTF-8",
                   HAUL=os.path.join(self.build, "haul"),
                   PYTHONDONTWRITEBYTECODE="1", PYTHON=sys.executable,
                   ASAN_OPTIONS="detect_leaks=1:abort_on_error=1",
                   UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
                   TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1")
        # A test started from make is not part of that make.
        for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            env.pop(name, None)
        return env

    def run(self, timeout):
        tmp = tempfile.mkdtemp(prefix="haul-test-")
        os.chmod(tmp, 0o711)  # for tests that give root's rights away
        os.makedirs(os.path.dirname(self.log), exist_ok=True)
        begin = time.monotonic()
        with open(self.log, "w") as log:
            status = self.execute(tmp, log, timeout)
        self.seconds = time.monotonic() - begin
        try:
            with open(self.log, errors="replace") as log:
                self.count(status, log.read(), tmp)
        finally:
            if self.failed:
                with open(self.log, "a") as log:
                    log.write("\nkept: %s\n" % tmp)
            else:
                shutil.rmtree(tmp, ignore_errors=True)
        return self

    def execute(self, tmp, log, timeout):
        """Exit status; the test's process group does not outlive it."""
        try:
            process = subprocess.Popen(
                self.command(tmp), cwd=ROOT, env=self.environment(tmp),
                stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as e:
            log.write("cannot run %s: %s\n" % (self.path, e))
            return 126
        running.add(process.pid)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            log.write("\nno end after %d s\n" % timeout)
            return 124
        finally:
            running.discard(process.pid)
            kill_group(process.pid)
            process.wait()

    def count(self, status, text, tmp):
        result = os.path.join(tmp, "result.xml")
        if status == SKIP:
            lines = text.strip().splitlines()
            self.skipped = 1
            self.reasons.append(lines[-1] if lines else "no reason given")
        elif self.is_pytest():
            self.count_pytest(status, result)
        else:
            self.count_cmocka(status, text)

    def count_pytest(self, status, result):
        cases = []
        if os.path.exists(result):
            cases = xml.etree.ElementTree.parse(result).iter("testcase")
        for case in cases:
            skip = case.find("skipped")
            if skip is not None:
                self.skipped += 1
                self.reasons.append(skip.get("message", ""))
            elif case.find("failure") is None and case.find("error") is None:
                self.passed += 1
            else:
                self.failed += 1
        # 5: nothing was collected; anything else went wrong around the tests.
        if status and not self.failed and not (status == 5 and self.skipped):
            self.failed = 1

    def count_cmocka(self, status, text):
        def number(word):
            return sum(int(n) for n in re.findall(
                r"^\[ *%s *\] (\d+) test" % word, text, re.M))
        self.passed = number("PASSED")
        self.skipped = number("SKIPPED")
        if status:
            self.failed = max(1, number("=+") - self.passed - self.skipped)
        elif not self.passed and not self.skipped:
            self.passed = 1
        self.reasons += re.findall(r"^skipped: (.*)", text, re.M)

    def line(self):
        word = "FAIL" if self.failed else \
            "ok" if self.passed else "skip"
        text = "  %-4s  %-44s %4d %7.1f s" % (
            word, self.name, self.passed + self.failed, self.seconds)
        if self.skipped:
            text += "  (%d skipped: %s)" % (
                self.skipped, "; ".join(sorted(set(self.reasons))) or "?")
        return text

    def order(self):
        for i, word in enumerate(FIRST):
            if "tests/%s/" % word in "/" + self.path:
                return i
        return len(FIRST)


def arguments():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("-j", type=int, default=2, metavar="N",
                   help="tests at once (2)")
    p.add_argument("--timeout", type=int, default=7200 if LONG else 600,
                   metavar="SECONDS", help="of one file (600)")
    p.add_argument("tests", nargs="+", metavar="LABEL=BUILD TEST...")
    args = p.parse_args()
    label, build, tests = None, None, []
    for word in args.tests:
        if "=" in word and "::" not in word:
            label, build = word.split("=", 1)
        elif label is None:
            p.error("LABEL=BUILD comes first")
        else:
            tests.append(Test(label, build, word))
    if not tests:
        p.error("no test given")
    args.tests = sorted(tests, key=Test.order)
    return args


def main():
    args = arguments()
    done = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with concurrent.futures.ThreadPoolExecutor(args.j) as pool:
        futures = [pool.submit(t.run, args.timeout) for t in args.tests]
        try:
            for future in concurrent.futures.as_completed(futures):
                test = future.result()
                done.append(test)
                print(test.line(), flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for pid in list(running):
                kill_group(pid)
            raise
    for test in (t for t in done if t.failed):
        with open(test.log, errors="replace") as log:
            text = log.read()
        print("\n---- %s, %s\n%s" % (test.name, os.path.relpath(
            test.log, ROOT), text[-SHOWN:]))
    failed = sum(t.failed for t in done)
    print("\n%d passed, %d failed, %d skipped" % (
        sum(t.passed for t in done), failed, sum(t.skipped for t in done)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
