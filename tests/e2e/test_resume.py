"""An interrupted transfer continues where it stopped, and is right."""

import os
import random
import signal
import subprocess
import threading
import time

import conftest
import pytest
import servers

MI = conftest.MI
CYCLES = 20 if conftest.LONG else 2


def seeded():
    """Random moments, the same again with the seed that a report shows."""
    seed = int(os.environ.get("HAUL_SEED", random.randrange(10**6)))
    print("HAUL_SEED=%d" % seed)
    return random.Random(seed)


# What a killed run has acknowledged and not saved: 8 MiB or a second, and what
# comes while that is written.
UNSAVED = 16 * MI


def acked(run):
    return max((e.get("acked") or 0 for e in run.events), default=0)


def kill_and_go_on(haul, source, target, local, final, cycles):
    """SIGKILL at random moments, then a run to the end. Returns it."""
    rng, whole = seeded(), conftest.digest(local)
    before, size = 0, os.path.getsize(local)

    def check(run):
        """What was there counts, and is not sent again."""
        known = [e for e in run.events if e.get("sent")]
        if known:
            assert known[-1]["resumed_from"] >= before - UNSAVED, run
        if run.status == 0:
            assert run.last["resent"] <= UNSAVED, run

    kills = 0
    while kills < cycles:
        run = haul.start("copy", source, target)
        try:
            run.process.wait(rng.uniform(0, 0.5 + (size - before) / 60e6))
        except subprocess.TimeoutExpired:
            run.kill()
        run.wait()
        check(run)
        if run.status == 0:
            # Once more from the beginning.
            assert conftest.digest(final) == whole
            os.unlink(final)
            before = 0
            continue
        assert run.status == -9, run
        kills += 1
        before = max(before, acked(run))
        # It may have been at its very end.
        if os.path.exists(final):
            assert conftest.digest(final) == whole, "partial file"
    run = haul.copy(source, target)
    assert run.status == 0, run
    if not run.last["note"]:
        check(run)
    return run


@pytest.mark.parametrize("kind", sorted(conftest.KINDS))
def test_upload_survives_sigkill(haul, start, keys, linksim, remote, dump,
                                 kind):
    size = 64 * MI
    link = linksim(start(conftest.KINDS[kind], keys), "--rate", "60m",
                   "--rtt", 10)
    haul.trust(link)
    source, final = dump(size), remote + "/t"
    kill_and_go_on(haul, source, link.url(final), source, final, CYCLES)
    assert conftest.digest(final) == conftest.digest(source)
    assert os.listdir(remote) == ["t"]


@pytest.mark.parametrize("kind", sorted(conftest.KINDS))
def test_download_survives_sigkill(haul, start, keys, linksim, work, remote,
                                   dump, kind):
    size = 64 * MI
    link = linksim(start(conftest.KINDS[kind], keys), "--rate", "60m",
                   "--rtt", 10)
    haul.trust(link)
    source, folder = dump(size), os.path.join(work, "here")
    os.mkdir(folder)
    final = folder + "/t"
    kill_and_go_on(haul, link.url(source), final, source, final, CYCLES)
    assert conftest.digest(final) == conftest.digest(source)
    assert os.listdir(folder) == ["t"]


def test_second_run_sends_only_what_is_missing(haul, sshd, linksim, remote,
                                               dump):
    size = 100 * MI
    first = linksim(sshd, "--rate", "50m")
    haul.trust(first)
    source, target = dump(size), first.url(remote + "/t")
    run = haul.start("copy", source, target)
    run.wait_acked(80 * MI)
    run.kill()
    run.wait()
    before = first.stats()["up"]
    run = haul.copy(source, target)
    assert run.status == 0, run
    assert run.last["resumed_from"] >= 60 * MI
    assert first.stats()["up"] - before < 45 * MI
    assert conftest.digest(remote + "/t") == conftest.digest(source)


@pytest.mark.skipif(not conftest.LONG, reason="HAUL_LONG=1 runs it")
def test_400_gib_go_on_within_two_seconds(haul, start, keys, work, remote):
    # A server that does not tell how little room there is.
    server = start(servers.SshdPlain, keys)
    haul.trust(server)
    source, size = work + "/sparse", 400 << 30
    with open(source, "w") as f:
        f.truncate(size)
    for _ in range(2):
        begin = time.monotonic()
        run = haul.start("copy", source, server.url(remote + "/t"))
        event = run.wait_for(lambda e: e.get("sent") or 0)
        seconds = time.monotonic() - begin
        assert event and event["event"] == "progress", run
        run.wait_acked(event["acked"] + 500 * MI)
        run.kill()
        run.wait()
    assert event["resumed_from"] > 400 * MI
    assert seconds < 2


def test_second_haul_on_the_same_transfer_is_refused(haul, sshd, linksim,
                                                     remote, dump):
    link = linksim(sshd, "--rate", "10m")
    haul.trust(link)
    source, target = dump(60 * MI), link.url(remote + "/t")
    first = haul.start("copy", source, target)
    first.wait_acked(MI)
    second = haul.copy(source, target)
    assert second.status == 8, second
    for verb in ("cancel", "forget"):
        jobs = haul("jobs", verb, 1)
        assert jobs.status == 8 and "works on" in jobs.stderr, jobs
    assert first.process.poll() is None
    first.kill()
    first.wait()
    link.stop()


@pytest.mark.parametrize("way", ["up", "down"])
def test_resets_are_survived_in_one_run(haul, sshd, linksim, work, remote,
                                        dump, way):
    link = linksim(sshd, "--reset-after", "17mi", "--repeat", "--rtt", 5)
    haul.trust(link)
    source = dump(64 * MI)
    target = remote + "/t" if way == "up" else work + "/back"
    if way == "up":
        run = haul.copy(source, link.url(target))
    else:
        run = haul.copy(link.url(source), target)
    assert run.status == 0, run
    assert link.stats()["resets"] >= 3
    assert conftest.digest(target) == conftest.digest(source)


def test_pipe_survives_resets(haul, sshd, linksim, remote, dump):
    link = linksim(sshd, "--reset-after", "17mi", "--repeat", "--rtt", 5)
    haul.trust(link)
    source = dump(64 * MI)
    with open(source, "rb") as f, \
            subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE) as cat:
        run = haul("copy", "-", link.url(remote + "/t"), stdin=cat.stdout)
    assert run.status == 0, run
    assert link.stats()["resets"] >= 3
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_stalled_link_is_dropped_and_tried_again(haul, sshd, linksim, remote,
                                                 dump):
    link = linksim(sshd, "--stall-after", "20mi", "--rtt", 5)
    haul.trust(link)
    source = dump(40 * MI)
    begin = time.monotonic()
    run = haul.copy(source, link.url(remote + "/t"), "--stall-timeout", 3)
    assert run.status == 0, run
    assert time.monotonic() - begin < 20
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_link_that_is_down_for_a_while(haul, sshd, linksim, remote, dump):
    link = linksim(sshd, "--rate", "20m")
    haul.trust(link)
    source = dump(60 * MI)
    run = haul.start("copy", source, link.url(remote + "/t"),
                     "--stall-timeout", 2)
    run.wait_acked(10 * MI)
    link.toggle_plug()
    threading.Timer(6, link.toggle_plug).start()
    assert run.wait(60) == 0, run
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_flipped_bits_on_the_way_do_not_arrive(haul, sshd, linksim, remote,
                                               dump):
    link = linksim(sshd, "--flip-at", "9mi", "--each", "--dir", "up")
    haul.trust(link)
    source = dump(30 * MI)
    haul.copy(source, link.url(remote + "/t"), "--give-up-after", 20,
              "--connections", 1)
    if os.path.exists(remote + "/t"):
        assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_server_that_drops_its_sessions(haul, sshd, linksim, remote, dump):
    link = linksim(sshd, "--rate", "20m")
    haul.trust(link)
    source = dump(60 * MI)
    run = haul.start("copy", source, link.url(remote + "/t"))
    run.wait_acked(10 * MI)
    sshd.kill_sessions()
    assert run.wait(60) == 0, run
    assert conftest.digest(remote + "/t") == conftest.digest(source)


@pytest.mark.parametrize("way", ["up", "down"])
def test_server_that_is_away_for_three_seconds(haul, sshd, linksim, work,
                                               remote, dump, way):
    link = linksim(sshd, "--rate", "20m")
    haul.trust(link)
    source = dump(40 * MI)
    target = remote + "/t" if way == "up" else work + "/back"
    if way == "up":
        run = haul.start("copy", source, link.url(target))
    else:
        run = haul.start("copy", link.url(source), target)
    run.wait_acked(10 * MI)
    port = sshd.port
    sshd.stop()
    time.sleep(3)
    sshd.start(port)
    assert run.wait(60) == 0, run
    assert run.last["resumed_from"] == 0
    assert run.last["resent"] <= 30 * MI
    assert conftest.digest(target) == conftest.digest(source)


MOMENTS = [0, 0.04, 0.08, 0.12, 0.18] if conftest.LONG else [0.04, 0.1]


@pytest.mark.parametrize("seconds", MOMENTS)
@pytest.mark.parametrize("kind", ["sshd", "sshd-plain", "proftpd"])
def test_link_that_is_cut_while_committing(haul, start, keys, linksim, remote,
                                           dump, kind, seconds):
    server = start(conftest.KINDS[kind], keys)
    link = linksim(server, "--rtt", 60)
    haul.trust(link)
    source = dump(4 * MI)
    with open(remote + "/t", "w") as f:
        f.write("old")
    run = haul.start("copy", source, link.url(remote + "/t"))
    assert run.wait_for(lambda e: e.get("state") == "committing")
    time.sleep(seconds)
    link.reset()
    assert run.wait(60) == 0, run
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    assert os.listdir(remote) == ["t"]


@pytest.mark.parametrize("change", ["append", "rewrite"])
def test_source_that_changed_is_exit_8(haul, sshd, linksim, remote, dump,
                                       change):
    link = linksim(sshd, "--rate", "20m")
    haul.trust(link)
    source, target = dump(40 * MI), link.url(remote + "/t")
    run = haul.start("copy", source, target)
    run.wait_acked(10 * MI)
    run.kill()
    run.wait()
    if change == "append":
        with open(source, "ab") as f:
            f.write(b"more")
    else:
        dump(40 * MI, seed=2)
    run = haul.copy(source, target)
    assert run.status == 8, run
    assert not os.path.exists(remote + "/t")
    run = haul.copy(source, target, "--resume", "never")
    assert run.status == 0, run
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    assert os.listdir(remote) == ["t"]


def rewrite(path):
    with open(path, "r+b") as f:
        f.seek(5 * MI)
        f.write(b"changed")


CHANGES = {
    "rewritten": rewrite,
    "shorter": lambda path: os.truncate(path, 25 * MI),
    "longer": lambda path: os.truncate(path, 45 * MI),
    "touched": lambda path: os.utime(path, (1600000000, 1600000000)),
    "gone": os.unlink,
}


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_source_that_changes_during_the_copy_is_exit_8(
        haul, sshd, linksim, work, remote, dump, change, way):
    link = linksim(sshd, "--rate", "20m")
    haul.trust(link)
    source = dump(40 * MI)
    # SFTP tells whole seconds.
    os.utime(source, (1500000000, 1500000000))
    if way == "up":
        run = haul.start("copy", source, link.url(remote + "/t"))
    else:
        run = haul.start("copy", link.url(source), remote + "/t")
    run.wait_acked(10 * MI)
    CHANGES[change](source)
    assert run.wait(60) == 8, run
    assert "t" not in os.listdir(remote)


def test_resume_require_without_a_state_is_refused(haul, sshd, remote, dump):
    haul.trust(sshd)
    run = haul.copy(dump(MI), sshd.url(remote + "/t"), "--resume", "require")
    assert run.status == 8, run
    assert os.listdir(remote) == []


def test_other_chunk_size_on_resume_is_exit_8(haul, sshd, linksim, remote,
                                              dump):
    link = linksim(sshd, "--rate", "20m")
    haul.trust(link)
    source, target = dump(40 * MI), link.url(remote + "/t")
    run = haul.start("copy", source, target)
    run.wait_acked(10 * MI)
    run.kill()
    run.wait()
    run = haul.copy(source, target, "--chunk-size", "1mi")
    assert run.status == 8, run
    assert "--resume never" in run.stderr + run.last.get("hint", "")


def test_continues_what_sftp_began(haul, sftp, sshd, linksim, remote, dump):
    haul.trust(sshd)
    source = dump(30 * MI)
    with open(source, "rb") as f, open(remote + "/t", "wb") as out:
        out.write(f.read(17 * MI + 11))
    run = haul.copy(source, sshd.url(remote + "/t"), "--resume", "append")
    assert run.status == 0, run
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_append_refuses_another_file(haul, sshd, remote, dump):
    haul.trust(sshd)
    with open(remote + "/t", "wb") as out:
        out.write(b"something else" * 100000)
    before = conftest.digest(remote + "/t")
    run = haul.copy(dump(30 * MI), sshd.url(remote + "/t"), "--resume",
                    "append")
    assert run.status in (7, 8), run
    assert conftest.digest(remote + "/t") == before
