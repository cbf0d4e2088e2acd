"""The servers and the link are what the other tests believe they are.

Proven with OpenSSH's sftp, so that a failure elsewhere is haul's.
"""

import os
import socket
import subprocess
import time

import conftest
import pytest
import servers

MI = conftest.MI


def put_and_get(sftp, server, work, remote, dump, size):
    source = dump(size)
    target, back = os.path.join(remote, "t"), os.path.join(work, "back")
    result = sftp(server, "put %s %s" % (source, target),
                  "get %s %s" % (target, back))
    assert result.returncode == 0, result.stderr
    assert conftest.digest(source) == conftest.digest(target)
    assert conftest.digest(source) == conftest.digest(back)


def test_sftp_puts_and_gets_through_every_server(sftp, server, work, remote,
                                                 dump):
    put_and_get(sftp, server, work, remote, dump, 5 * MI + 1)


def test_stopped_server_leaves_nothing_behind(start, keys):
    server = start(servers.Sshd, keys)
    with subprocess.Popen(
            [servers.program("ssh"), "-F", "none", "-p", str(server.port),
             "-i", keys.identity, "-o", "StrictHostKeyChecking=no",
             "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentityAgent=none",
             servers.USER + "@127.0.0.1", "-s", "sftp"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL) as client:
        client.stdin.write(b"\0\0\0\5\1\0\0\0\3")
        client.stdin.flush()
        client.stdout.read(5)
        pids = servers.descendants(server.process.pid)
        assert pids  # the session
        pids.append(server.process.pid)
        server.stop()
        client.kill()
    assert not any(map(servers.alive, pids))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_plain_sshd_has_no_extension(start, keys, sftp, remote, work):
    plain, stock = start(servers.SshdPlain, keys), start(servers.Sshd, keys)
    assert sftp(stock, "df " + remote).returncode == 0
    assert sftp(plain, "df " + remote).returncode != 0


def test_asyncssh_answers_short_reads(start, keys, sftp, work, remote, dump):
    server = start(servers.Asyncssh, keys, "--max-read", "10000")
    put_and_get(sftp, server, work, remote, dump, MI)


@pytest.mark.parametrize("kind, options, refused", [
    (servers.Sshd, (), False),
    (servers.SshdNarrow, (), True),
    (servers.Asyncssh, ("--max-sessions", "1"), True)])
def test_second_channel_of_a_connection(start, keys, sftp, work, kind,
                                        options, refused):
    server = start(kind, keys, *options)
    assert sftp(server, "pwd").returncode == 0
    ssh = [servers.program("ssh"), "-F", "none", "-p", str(server.port),
           "-i", keys.identity, "-S", os.path.join(work, "ctl"),
           "-o", "UserKnownHostsFile=" + sftp.known_hosts,
           "-o", "IdentityAgent=none"]
    what = [servers.USER + "@127.0.0.1", "-s", "sftp"]
    with subprocess.Popen(ssh + ["-M"] + what, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as first:
        first.stdin.write(b"\0\0\0\5\1\0\0\0\3")
        first.stdin.flush()
        assert first.stdout.read(5)[4] == 2  # VERSION: it is served
        # ssh would open a connection of its own; this one cannot.
        second = subprocess.run(ssh + ["-o", "ProxyCommand=false"] + what,
                                stdin=subprocess.DEVNULL, timeout=20,
                                capture_output=True)
        first.kill()
    assert (second.returncode != 0) == refused


def test_asyncssh_lies_as_told(start, keys, sftp, work, remote, dump):
    server = start(servers.Asyncssh, keys, "--lie", "data-flip",
                   "--lie-after", "3")
    source = dump(MI)
    result = sftp(server, "get %s %s" % (source, work + "/back"))
    assert result.returncode == 0
    with open(source, "rb") as a, open(work + "/back", "rb") as b:
        differ = [i for i, (x, y) in enumerate(zip(a.read(), b.read()))
                  if x != y]
    assert len(differ) == 1
    assert server.lies_told() == 1


@pytest.mark.parametrize("lie", ["id", "packet-huge", "length-long",
                                 "data-status-failure", "hang-up"])
def test_sftp_fails_when_the_server_lies(start, keys, sftp, work, dump, lie):
    server = start(servers.Asyncssh, keys, "--lie", lie)
    result = sftp(server, "get %s %s" % (dump(MI), work + "/back"))
    assert result.returncode != 0
    assert server.lies_told() == 1


def test_linksim_has_the_rtt_and_rate_it_was_given(sftp, sshd, linksim, work,
                                                   dump):
    source = dump(8 * MI)
    link = linksim(sshd, "--rtt", 40, "--rate", "8m")
    t = time.monotonic()
    assert sftp(link, "get %s %s" % (source, work + "/b")).returncode == 0
    seconds = time.monotonic() - t
    link.stop()
    stats = link.stats()
    assert 8 * MI < stats["down"] < 8.3 * MI
    # 1.05 s for the bytes, and a login of about eight round trips
    assert 1.25 < seconds < 2.5


def test_linksim_resets_when_told(sftp, sshd, linksim, work, dump):
    link = linksim(sshd, "--reset-after", "3mi", "--dir", "down")
    result = sftp(link, "get %s %s" % (dump(8 * MI), work + "/back"))
    assert result.returncode != 0
    assert os.path.getsize(work + "/back") < 3 * MI
    assert link.stats()["resets"] == 1


def test_linksim_flips_one_bit_and_ssh_notices(sftp, sshd, linksim, work,
                                               dump):
    link = linksim(sshd, "--flip-at", "3mi", "--dir", "down")
    result = sftp(link, "get %s %s" % (dump(8 * MI), work + "/back"))
    assert result.returncode != 0
