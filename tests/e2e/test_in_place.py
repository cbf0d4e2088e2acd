"""Targets that exist and cannot be made anew: written where they are. And
what OpenSSH's sftp makes of what haul left."""

import os
import signal

import conftest
import pytest
import servers

MI = conftest.MI


@pytest.fixture
def fixed(start, keys, haul, remote):
    """A server that lets nobody make a file; one is there."""
    server = start(servers.Asyncssh, keys, "--fixed")
    haul.trust(server)
    open(remote + "/t", "w").close()
    return server


@pytest.mark.parametrize("old", [0, 3 * MI, 30 * MI])
def test_only_file_is_written_in_place(haul, fixed, remote, dump, old):
    os.truncate(remote + "/t", old)
    inode = os.stat(remote + "/t").st_ino
    source = dump(20 * MI + 1)
    run = haul.copy(source, fixed.url(remote + "/t"))
    assert run.status == 0, run
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    assert os.stat(remote + "/t").st_ino == inode
    assert os.listdir(remote) == ["t"]


def test_no_other_file_can_be_made_there(haul, fixed, remote, dump):
    run = haul.copy(dump(MI), fixed.url(remote + "/other"))
    assert run.status == 6, run
    assert os.listdir(remote) == ["t"]


@pytest.mark.parametrize("old", [0, 60 * MI])
def test_interrupt_leaves_what_sftp_can_continue(haul, sftp, fixed, linksim,
                                                 remote, dump, old):
    os.truncate(remote + "/t", old)
    link = linksim(fixed, "--rate", "20m")
    haul.trust(link)
    source = dump(50 * MI + 7)
    run = haul.start("copy", "--chunk-size", "1mi", source,
                     link.url(remote + "/t"))
    run.wait_acked(12 * MI)
    run.kill(signal.SIGINT)
    assert run.wait() == 130, run
    left = os.path.getsize(remote + "/t")
    assert 0 < left < 50 * MI
    with open(source, "rb") as a, open(remote + "/t", "rb") as b:
        assert a.read(left) == b.read()
    result = sftp(fixed, "put -a %s %s/t" % (source, remote))
    assert result.returncode == 0, result.stderr
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_next_run_continues_in_place(haul, fixed, linksim, remote, dump):
    link = linksim(fixed, "--rate", "20m")
    haul.trust(link)
    source = dump(50 * MI + 7)
    args = ("copy", "--chunk-size", "1mi", source, link.url(remote + "/t"))
    for sig in (signal.SIGKILL, signal.SIGINT):
        run = haul.start(*args)
        run.wait_acked(24 * MI)
        run.kill(sig)
        run.wait()
    run = haul(*args)
    assert run.status == 0, run
    assert run.last["resumed_from"] > 0
    assert conftest.digest(remote + "/t") == conftest.digest(source)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT],
                         ids=lambda s: s.name)
def test_sftp_continues_an_in_order_copy(haul, sftp, sshd, linksim, remote,
                                         dump, sig):
    link = linksim(sshd, "--rate", "20m")
    haul.trust(link)
    source = dump(40 * MI)
    run = haul.start("copy", "--in-order", source, link.url(remote + "/t"))
    run.wait_acked(10 * MI)
    run.kill(sig)
    run.wait()
    assert os.listdir(remote) == ["t"]
    result = sftp(sshd, "put -a %s %s/t" % (source, remote))
    assert result.returncode == 0, result.stderr
    assert conftest.digest(remote + "/t") == conftest.digest(source)
