"""Servers that break the protocol: the copy is right or it fails, in time."""

import os

import conftest
import pytest
import servers

MI = conftest.MI
ANY = ["id", "twice", "never", "packet-huge", "packet-zero", "packet-type",
       "hang-up"]
READS = ["length-long", "length-short", "data-long", "data-empty",
         "data-status-ok", "data-status-failure", "early-eof"]
PATIENCE = ("--stall-timeout", 2, "--give-up-after", 15)


def check(run, server, final, source):
    """One lie is an accident: haul may get over it or give up. A file that
    ends early is one that changed (8)."""
    assert server.lies_told() >= 1, run
    assert run.status in (0, 4, 6, 7, 8), run
    if run.status == 0:
        assert conftest.digest(final) == conftest.digest(source)
    else:
        assert not os.path.exists(final)


@pytest.mark.parametrize("lie", ANY + ["write-failure"])
def test_upload_to_a_liar(haul, start, keys, remote, dump, lie):
    server = start(servers.Asyncssh, keys, "--lie", lie, "--lie-after", "20")
    haul.trust(server)
    source, final = dump(12 * MI), remote + "/t"
    check(haul.copy(source, server.url(final), *PATIENCE), server, final,
          source)


@pytest.mark.parametrize("lie", ANY + READS)
def test_download_from_a_liar(haul, start, keys, work, dump, lie):
    server = start(servers.Asyncssh, keys, "--lie", lie, "--lie-after", "20")
    haul.trust(server)
    source, final = dump(12 * MI), work + "/back"
    check(haul.copy(server.url(source), final, *PATIENCE), server, final,
          source)


@pytest.mark.parametrize("lie", ["id", "length-long", "data-empty", "never",
                                 "hang-up"])
def test_liar_that_never_stops_ends_the_copy(haul, start, keys, work, dump,
                                             lie):
    server = start(servers.Asyncssh, keys, "--lie", lie, "--lie-count",
                   "1000000000")
    haul.trust(server)
    run = haul.copy(server.url(dump(12 * MI)), work + "/back",
                    "--stall-timeout", 1, "--give-up-after", 5,
                    "--retries", 2)
    assert run.status in (4, 6, 7), run
    assert not os.path.exists(work + "/back")


@pytest.mark.parametrize("options", [
    ("--max-read", "10000"), ("--max-write", "32768", "--no-extensions"),
    ("--max-sessions", "1"), ("--max-connections", "1"), ("--no-extensions",),
    ("--no-posix-rename",), ("--no-setstat",)], ids=" ".join)
def test_poor_servers_are_served(haul, start, keys, work, remote, dump,
                                 options):
    server = start(servers.Asyncssh, keys, *options)
    haul.trust(server)
    source = dump(20 * MI + 1)
    for existing in (False, True):
        run = haul.copy(source, server.url(remote + "/t"))
        assert run.status == 0, run
        assert conftest.digest(remote + "/t") == conftest.digest(source)
        source = dump(9 * MI + 1, seed=3)
    run = haul.copy(server.url(remote + "/t"), work + "/back")
    assert run.status == 0, run
    assert conftest.digest(work + "/back") == conftest.digest(source)
