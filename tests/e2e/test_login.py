"""Logins that a person takes part in: haul asks on the terminal."""

import os
import pty
import select
import time

import conftest
import servers

MI = conftest.MI


class Terminal:
    """haul on a terminal of its own; expect() and send() are the person."""

    def __init__(self, haul, *args):
        argv = [haul.binary, "copy", "--state", haul.state, "--known-hosts",
                haul.known_hosts, "--ssh-config", haul.ssh_config, *args]
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(haul.binary, argv, haul.env)

    def read(self, timeout):
        if not select.select([self.fd], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.fd, 4096)
        except OSError:  # the other side is closed
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def expect(self, words, timeout=20):
        end = time.monotonic() + timeout
        while words not in self.text:
            assert time.monotonic() < end, self.text
            if not self.read(0.2):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                assert pid == 0, "ended with %d: %s" % (status, self.text)
        self.text = self.text.partition(words)[2]

    def send(self, line):
        time.sleep(0.2)  # a prompt is shown before input is read
        os.write(self.fd, line.encode() + b"\n")

    def wait(self):
        seen = ""
        while self.read(30):
            seen = self.text
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status, seen


def test_password_is_asked_for_and_not_shown(haul, start, keys, remote,
                                             dump):
    server = start(servers.Asyncssh, keys, "--password", "s3cretpw",
                   login="password")
    haul.trust(server)
    source = dump(9 * MI)
    terminal = Terminal(haul, source, server.url(remote + "/t"))
    terminal.expect("assword")
    terminal.send("s3cretpw")
    status, text = terminal.wait()
    assert status == 0, text
    assert "s3cretpw" not in text
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_one_time_code_is_asked_for_once(haul, start, keys, remote, dump):
    server = start(servers.Asyncssh, keys, "--password", "s3cretpw", "--otp",
                   "123456", login="password")
    haul.trust(server)
    source = dump(9 * MI)
    terminal = Terminal(haul, source, server.url(remote + "/t"),
                        "--connections", "1")
    terminal.expect("assword")
    terminal.send("s3cretpw")
    terminal.expect("ne-time code")
    terminal.send("123456")
    status, text = terminal.wait()
    assert status == 0, text
    assert "s3cretpw" not in text
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_interrupt_at_the_prompt_ends_with_130(haul, start, keys, remote,
                                               dump):
    server = start(servers.Asyncssh, keys, "--password", "s3cretpw",
                   login="password")
    haul.trust(server)
    terminal = Terminal(haul, dump(MI), server.url(remote + "/t"))
    terminal.expect("assword")
    time.sleep(0.2)
    os.write(terminal.fd, b"\x03")
    status, text = terminal.wait()
    assert status == 130, text
    assert os.listdir(remote) == []


def test_no_terminal_and_no_key_is_exit_5_at_once(haul, start, keys, remote,
                                                  dump):
    server = start(servers.Asyncssh, keys, "--password", "s3cretpw",
                   login="password")
    haul.trust(server)
    begin = time.monotonic()
    run = haul.copy(dump(MI), server.url(remote + "/t"))
    assert run.status == 5, run
    assert time.monotonic() - begin < 10
