"""PUT in ranges: put+https:// with --ranged, after a probe beside the target.
Against Apache mod_dav, nginx, which has no ranges, and a scripted server."""

import os
import subprocess
import time

import conftest
import http_servers
import pytest
import upload_servers
from http_checks import PATIENCE, done, failed

MI = conftest.MI
RANGED = ("--ranged", "--chunk-size", "1mi")
TRIES = RANGED + ("--stall-timeout", 2, "--give-up-after", 20)


def notes(run):
    return "\n".join(e["note"] for e in run.events if e["event"] == "note")


class Place:
    """A server to write to, and what is seen there."""

    def __init__(self, server, folder, url):
        self.server, self.folder, self.base = server, folder, url

    def url(self, name="t"):
        return "put+" + self.base + name

    def names(self):
        """Of files, as the user sees them."""
        return sorted(n[len("put-"):] if n.startswith("put-") else n
                      for n in os.listdir(self.folder))

    def file(self, name="t"):
        found = [n for n in os.listdir(self.folder)
                 if n in (name, "put-" + name)]
        return os.path.join(self.folder, found[0]) if found else None

    def put(self, name, text):
        prefix = "put-" if self.server.name == "resumable" else ""
        path = os.path.join(self.folder, prefix + name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o666)

    def read(self, name="t"):
        with open(self.file(name)) as f:
            return f.read()


@pytest.fixture
def scripted(haul, resumable):
    haul.trust(resumable)
    return Place(resumable, resumable.store, resumable.put(""))


@pytest.fixture
def dav(haul, apache):
    haul.trust(apache)
    return Place(apache, apache.dav, apache.url("/dav/"))


@pytest.fixture(params=["dav", "scripted"])
def place(request):
    return request.getfixturevalue(request.param)


def whole(place, source, name="t"):
    """The bytes, and nothing else beside them."""
    assert place.names() == [name]
    assert conftest.digest(place.file(name)) == conftest.digest(source)


# ---- The way of the bytes ---------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, MI, 37 * MI + 5])
def test_upload_is_the_same_bytes(haul, place, dump, size):
    source = dump(size)
    run = haul.copy(source, place.url(), *RANGED)
    done(run, size)
    whole(place, source)
    assert run.last["verified"] == "size", run
    assert "takes ranges by PUT, then MOVE" in notes(run)


def test_parts_go_at_once(haul, scripted, dump):
    source = dump(32 * MI)
    scripted.server.rule(op="range", path="t.haul-[0-9a-f]{8}.part$", times=0,
                         slow=20 * MI)
    run = haul.copy(source, scripted.url(), *RANGED, "--connections", 4)
    done(run, 32 * MI)
    whole(scripted, source)
    bodies = [r for r in scripted.server.seen("range")
              if r["path"].endswith(".part")]
    assert len(bodies) == 16
    assert sorted(r["headers"]["content-range"] for r in bodies) == sorted(
        "bytes %d-%d/%d" % (n * 2 * MI, (n + 1) * 2 * MI - 1, 32 * MI)
        for n in range(16))
    assert len({r["connection"] for r in bodies}) >= 4
    assert any(a["begin"] < b["begin"] < a["end"]
               for a in bodies for b in bodies)


def test_existing_target_stays_until_the_end(haul, place, dump):
    place.put("t", "old")
    if place.server.name == "resumable":
        place.server.rule(op="move", path=".part$", skip=0, status=403)
        run = haul.copy(dump(5 * MI), place.url(), *TRIES)
        failed(run, 6, "no permission")
        assert place.read() == "old"
        place.server.clear_rules()
    source = dump(5 * MI)
    os.utime(source, (1, 1))
    done(haul.copy(source, place.url(), *RANGED, "--resume", "never"), 5 * MI)
    whole(place, source)


def test_probe_is_asked_once_a_day(haul, scripted, dump):
    source = dump(MI)
    done(haul.copy(source, scripted.url(), *RANGED), MI)
    begin = len(scripted.server.seen())
    done(haul.copy(source, scripted.url("u"), *RANGED), MI)
    assert [r["op"] for r in scripted.server.seen(begin=begin)] == \
        ["put", "range", "head", "move"]


def test_without_the_option_it_is_one_put(haul, scripted, dump):
    source = dump(5 * MI)
    done(haul.copy(source, scripted.url()), 5 * MI)
    assert [r["op"] for r in scripted.server.seen()] == ["put"]


# ---- What the probe finds out -----------------------------------------------

def refused(haul, place, source, *words, status=6):
    """The probe says no: the target is as it was, nothing is left."""
    place.put("t", "old")
    run = haul.copy(source, place.url(), *RANGED, *PATIENCE)
    failed(run, status, *words)
    assert place.names() == ["t"]
    assert place.read() == "old"
    return run


@pytest.mark.parametrize("kind, why", [
    ("replace", "a range replaces the whole file"),
    ("refuse", "refuses Content-Range"),
    ("bad", "refuses Content-Range")])
def test_server_without_ranges_is_found_out(haul, scripted, dump, kind, why):
    scripted.server.options(put=kind)
    run = refused(haul, scripted, dump(MI), "cannot be written in ranges", why,
                  "--ranged")
    # Nothing was ever sent to the name of the target.
    assert not any(r["path"].endswith("/t") for r in scripted.server.seen())
    # It is found out again, not remembered as good.
    begin = len(scripted.server.seen())
    refused(haul, scripted, run.last["source"], why)
    assert len(scripted.server.seen(begin=begin)) > 2


def test_nginx_has_no_ranges(haul, nginx, dump):
    haul.trust(nginx)
    place = Place(nginx, nginx.dav, nginx.url("/dav/"))
    refused(haul, place, dump(MI), "refuses Content-Range", "--ranged")


@pytest.mark.parametrize("rule", [
    {"op": "range", "corrupt": 3},
    {"op": "range", "skip": 1, "corrupt": 0},
    {"op": "get", "status": 200, "body": "something else of 16"},
    {"op": "get", "status": 200, "body": "short"},
    {"op": "get", "status": 200, "body": "@html"},
    {"op": "get", "status": 200, "body": "@huge"}])
def test_bytes_that_read_differently_are_found_out(haul, scripted, dump, rule):
    scripted.server.rule(**rule)
    refused(haul, scripted, dump(MI), "reads differently")


@pytest.mark.parametrize("rule, words", [
    ({"op": "get", "status": 403}, "cannot be read back"),
    ({"op": "head", "set": {"Content-Length": None}}, "length"),
    ({"op": "head", "set": {"Content-Length": "8"}}, "replaces"),
    ({"op": "head", "set": {"Content-Length": "16x"}}, "length"),
    ({"op": "put", "status": 403, "times": 0}, "no permission"),
    ({"op": "put", "status": 507, "times": 0}, "no space")])
def test_why_the_probe_failed_is_said(haul, scripted, dump, rule, words):
    scripted.server.rule(**rule)
    refused(haul, scripted, dump(MI), words)


@pytest.mark.parametrize("op", ["put", "range", "head", "get", "move",
                                "delete"])
@pytest.mark.parametrize("fault", [
    {"action": "lose_answer"}, {"action": "drop"},
    {"status": 503, "headers": {"Retry-After": "1"}}][
        :None if conftest.LONG else 1])
def test_probe_survives_one_failure(haul, scripted, dump, op, fault):
    scripted.server.rule(op=op, path="probe", **fault)
    source = dump(3 * MI)
    done(haul.copy(source, scripted.url(), *TRIES), 3 * MI)
    assert conftest.digest(scripted.file()) == conftest.digest(source)


def test_unknown_size_is_refused(haul, scripted, dump):
    with open(dump(MI), "rb") as f, \
            subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE) as cat:
        run = haul("copy", "-", scripted.url(), *RANGED, stdin=cat.stdout)
        cat.stdout.close()
    failed(run, (2, 3, 6), "size of the source is not known", "--ranged")
    assert scripted.server.seen() == []


# ---- Without MOVE -----------------------------------------------------------

def test_without_move_it_is_written_in_place(haul, scripted, dump):
    scripted.server.options(put_move=False)
    scripted.put("t", "old" * MI)
    source = dump(9 * MI)
    run = haul.copy(source, scripted.url(), *RANGED)
    done(run, 9 * MI)
    whole(scripted, source)
    assert "written in place" in notes(run)


def test_in_place_goes_on_after_a_kill(haul, scripted, dump):
    scripted.server.options(put_move=False)
    begin, source = killed(haul, scripted, dump(32 * MI), 12 * MI)
    assert scripted.names() == ["t"]
    done(haul.copy(source, scripted.url(), *RANGED), 32 * MI)
    whole(scripted, source)
    # It was not emptied.
    assert scripted.server.seen("put", begin=begin) == []


def test_in_place_refuses_to_replace_with_no_clobber(haul, scripted, dump):
    scripted.server.options(put_move=False)
    scripted.put("t", "old")
    run = haul.copy(dump(MI), scripted.url(), *RANGED, "--no-clobber")
    failed(run, 3, "exists")
    assert scripted.read() == "old"


def test_no_clobber_holds_at_the_end_too(haul, scripted, dump):
    """Somebody else was faster."""
    scripted.server.rule(op="range", path=".part$", times=0, slow=4 * MI)
    run = haul.start("copy", *RANGED, "--no-clobber", dump(8 * MI),
                     scripted.url())
    run.wait_acked(1)
    scripted.put("t", "theirs")
    run.wait()
    failed(run, (3, 6), "exists")
    assert scripted.read() == "theirs"


# ---- Breaks -----------------------------------------------------------------

PART = "t.haul-[0-9a-f]{8}.part$"


# HAUL_LONG=1 tries each of them at each state.
FAULTS = [
    {"action": "lose_answer"}, {"action": "drop", "after_bytes": MI},
    {"status": 502, "when": "after"}, {"action": "drop"},
    {"action": "drop", "rst": True}, {"status": 500},
    {"action": "hang", "after_bytes": MI // 2},
    {"status": 503, "headers": {"Retry-After": "1"}}][
        :None if conftest.LONG else 2]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("op", ["put", "range", "head", "move"])
def test_a_failure_is_survived(haul, scripted, dump, op, fault):
    scripted.server.rule(op=op, path=PART, skip=3 if op == "range" else 0,
                         **fault)
    source = dump(32 * MI)
    run = haul.copy(source, scripted.url(), *TRIES)
    done(run, 32 * MI)
    whole(scripted, source)
    # One part of 2 MiB.
    assert run.last["resent"] <= 2 * MI


def test_short_file_is_no_success(haul, scripted, dump):
    """Apache takes a body that is shorter than its range."""
    scripted.server.rule(op="head", path=PART, set={"Content-Length": "5"},
                         times=0)
    run = haul.copy(dump(3 * MI), scripted.url(), *RANGED, *PATIENCE)
    failed(run, (4, 6), "5 bytes")
    assert scripted.file() is None


def test_file_that_vanished_is_sent_anew(haul, scripted, dump):
    scripted.server.rule(op="range", path=PART, skip=8, action="forget")
    source = dump(32 * MI)
    run = haul.copy(source, scripted.url(), *TRIES, "--connections", 1)
    done(run, 32 * MI)
    whole(scripted, source)


def killed(haul, place, source, count, *options):
    """A copy that was killed when so many bytes were confirmed."""
    server = place.server
    if server.name == "resumable":
        server.rule(op="range", path="[^2e]$", times=0, slow=6 * MI)
    else:
        options += ("--rate-limit", "12mi")
    run = haul.start("copy", *RANGED, "--connections", 4, *options, source,
                     place.url())
    run.wait_acked(count)
    run.kill()
    run.wait()
    if server.name == "resumable":
        server.clear_rules()
        return len(server.seen()), source
    return 0, source


def test_killed_copy_goes_on(haul, place, dump):
    begin, source = killed(haul, place, dump(48 * MI), 12 * MI)
    part, = place.names()
    assert part.startswith("t.haul-") and part.endswith(".part")
    run = haul.copy(source, place.url(), *RANGED)
    done(run, 48 * MI)
    whole(place, source)
    if place.server.name == "resumable":
        again = place.server.seen(begin=begin)
        assert [r["op"] for r in again if r["op"] != "range"] == \
            ["head", "head", "move"]
        assert {r["path"].split("/")[-1] for r in again} == {part}


@pytest.mark.skipif(not conftest.LONG, reason="only with HAUL_LONG=1")
def test_killed_copy_sends_the_newest_gib_again(haul, dav, dump):
    """Nobody says what of it a crash of the server may have taken."""
    source = dump(1600 * MI)
    run = haul.start("copy", "--ranged", source, dav.url())
    run.wait_acked(1400 * MI)
    run.kill()
    run.wait()
    run = haul.copy(source, dav.url(), "--ranged")
    done(run, 1600 * MI)
    whole(dav, source)
    # Parts of 64 MiB, and what was not saved yet.
    assert 200 * MI <= run.last["resumed_from"] <= 600 * MI


def test_file_gone_between_runs_is_sent_anew(haul, place, dump):
    _, source = killed(haul, place, dump(32 * MI), 8 * MI)
    part, = place.names()
    os.unlink(place.file(part))
    run = haul.copy(source, place.url(), *RANGED)
    done(run, 32 * MI)
    assert run.last["resumed_from"] == 0
    whole(place, source)


def test_file_that_got_shorter_is_filled(haul, place, dump):
    _, source = killed(haul, place, dump(32 * MI), 12 * MI)
    part, = place.names()
    os.truncate(place.file(part), 3 * MI + 1)
    done(haul.copy(source, place.url(), *RANGED), 32 * MI)
    whole(place, source)


def test_cancel_removes_what_was_written(haul, scripted, dump):
    killed(haul, scripted, dump(32 * MI), 8 * MI)
    run = haul("jobs", "cancel", "1", "--cacert", haul.cacert,
               stdout=subprocess.PIPE)
    assert run.status == 0, run
    assert scripted.names() == []


def test_cuts_of_the_link_send_parts_again(haul, linksim, dav, dump):
    source = dump(24 * MI)
    cut = linksim(dav.server, "--reset-after", 9 * MI)
    url = dav.url().replace(":%d/" % dav.server.port, ":%d/" % cut.port)
    run = haul.copy(source, url, *RANGED, "--connections", 3)
    done(run, 24 * MI)
    whole(dav, source)


def test_folder_that_is_missing_is_said(haul, dav, dump):
    run = haul.copy(dump(MI), dav.url("no/such/t"), *RANGED, *PATIENCE)
    failed(run, 6, "folder")
    assert dav.names() == []


def test_behind_a_proxy_that_hides_tls(haul, start, certs, www, dump):
    """A destination with https is another server's for the one behind: it is
    told the path."""
    apache = start(http_servers.Apache, certs, www)
    front = start(upload_servers.ApacheFront, certs, apache.plain,
                  paths=("/dav",))
    haul.trust(front)
    place = Place(apache, apache.dav, front.url("/dav/"))
    source = dump(3 * MI)
    run = haul.copy(source, place.url(), *RANGED)
    done(run, 3 * MI)
    whole(place, source)
    assert "then MOVE" in notes(run)


# ---- The end of the process at every state ----------------------------------

STATES = [("put", "probe"), ("range", "probe"), ("head", "probe"),
          ("get", "probe"), ("move", "probe"), ("delete", "probe"),
          ("put", PART), ("range", PART), ("head", PART), ("move", PART)]


@pytest.mark.parametrize("move", [True, False] if conftest.LONG else [True])
@pytest.mark.parametrize("after", [False, True] if conftest.LONG else [True])
@pytest.mark.parametrize("op, path", STATES)
def test_kill_at_every_state(haul, scripted, dump, op, path, after, move):
    """after: the server did what it was asked, and the answer came too
    late."""
    server = scripted.server
    server.options(put_move=move)
    if not move and path == PART:
        path = "/t$"
    server.rule(op=op, path=path, **(
        {"delay": 30} if after else {"action": "hang"}))
    source = dump(5 * MI)
    run = haul.start("copy", *RANGED, source, scripted.url())
    reached = False
    while not reached and run.process.poll() is None:
        reached = any(r["faults"] for r in server.ask("/_stats")["requests"])
        time.sleep(0.01)
    run.kill()
    run.wait()
    if not reached:
        assert op == "move" and not move
        return
    server.clear_rules()
    again = haul.copy(source, scripted.url(), *RANGED)
    done(again, 5 * MI)
    whole(scripted, source)
