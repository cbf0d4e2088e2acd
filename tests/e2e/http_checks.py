"""What the tests of HTTP look at."""

import os
import time

# Short, so that what cannot work is over soon.
PATIENCE = ("--stall-timeout", 1, "--give-up-after", 3, "--retries", 2)


def done(run, size):
    assert run.status == 0, run
    assert run.last["event"] == "done", run
    assert run.last["exit"] == 0
    assert run.last["bytes"] == run.last["acked"] == size, run


def failed(run, status, *words):
    """status: one, or several that are right."""
    right = status if isinstance(status, tuple) else (status,)
    assert run.status in right, run
    assert run.last.get("event") == "failed", run
    assert run.last["exit"] == run.status
    assert run.last["error"] and "\n" not in run.last["error"], run
    for word in words:
        assert word in run.last["error"] + (run.last["hint"] or ""), run


def warnings(run):
    """All that it warned of."""
    return "\n".join(
        "%s %s" % (e.get("error"), e.get("hint")) for e in run.events
        if e["event"] == "warning")


def no_secret(haul, run, *secrets):
    """Neither said nor kept."""
    said = run.stderr + str(run.events)
    for secret in secrets:
        assert secret not in said, run
        for base, _, names in os.walk(os.path.dirname(haul.state)):
            for name in names:
                with open(os.path.join(base, name), "rb") as f:
                    assert secret.encode() not in f.read(), name


def no_secret_in_title(run, *secrets):
    """What ps shows of it, once it has read its arguments."""
    end = time.monotonic() + 5
    while True:
        try:
            with open("/proc/%d/cmdline" % run.process.pid, "rb") as f:
                title = f.read()
        except OSError:
            title = b""
        found = [s for s in secrets if s.encode() in title]
        if not found and title:
            return
        assert run.process.poll() is None, "it ended too soon to be seen"
        assert time.monotonic() < end, "%s in %s" % (found, title)
        time.sleep(0.01)


def ranges(requests):
    """[begin, end) of requests that asked for one, in order of offset."""
    found = []
    for request in requests:
        if request["range"]:
            begin, _, end = request["range"][len("bytes="):].partition("-")
            found.append((int(begin), int(end) + 1 if end else None))
    return sorted(found)
