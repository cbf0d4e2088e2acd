"""The command itself: help, mistakes, terminals, jobs, completion."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import conftest
import pytest
import servers

MI = conftest.MI


def plain(haul, *args, **options):
    """Without the options that haul() adds; standard streams as text."""
    return subprocess.run([haul.binary, *map(str, args)], env=haul.env,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, **options)


class Terminal:
    """A haul whose controlling terminal is a pty of so many columns."""

    def __init__(self, haul, *args, columns=80):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ,
                        struct.pack("HHHH", 24, columns, 0, 0))
            os.execve(haul.binary, [haul.binary, *map(str, args)],
                      dict(haul.env, TERM="xterm"))

    def read_until(self, pattern, timeout=30):
        end = time.monotonic() + timeout
        while not re.search(pattern, self.seen):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                pytest.fail("no '%s' in: %r" % (pattern, self.seen))
            try:
                self.seen += os.read(self.fd, 65536).decode()
            except OSError:  # the other end is closed
                assert re.search(pattern, self.seen), self.seen

    def echoes(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def wait(self):
        """Reads to the end; the exit status, negative for a signal."""
        while True:
            try:
                self.seen += os.read(self.fd, 65536).decode()
            except OSError:
                break
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


def test_help_fits_a_screen(haul):
    run = plain(haul, "--help")
    lines = run.stdout.splitlines()
    assert run.returncode == 0 and not run.stderr
    assert len(lines) <= 24
    for command in ("copy", "verify", "jobs"):
        more = plain(haul, command, "--help")
        assert more.returncode == 0
        assert "haul " + command in more.stdout
        lines += more.stdout.splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("args, words", [
    (("cpoy", "a", "b"), "haul copy"),
    (("copy", "--memroy", "1g", "a", "b"), "--memory"),
    (("copy", "a"), "SOURCE TARGET"),
    (("copy", "a", "b", "surplus"), "surplus"),
    (("copy", "--memory"), "SIZE"),
    (("copy", "--in-order=1", "a", "b"), "no value"),
    (("verify", "--manifest", "m", "a"), "--manifest"),
    (("jobs", "show", "x"), "'x'"),
    (("copy", "--progress-fd", "99", "a", "b"), "99"),
    (("copy", "--trace", "nothing", "a", "b"), "nothing"),
    (("copy", "--header"), "LINE|@FILE"),
    (("copy", "--header", "no colon", "a", "http://127.0.0.1:9/"), "NAME"),
    (("copy", "post+http://127.0.0.1:9/a", "b"), "target")],
    ids=lambda a: " ".join(a) if isinstance(a, tuple) else "")
def test_mistakes_are_exit_2_and_name_what_was_meant(haul, args, words):
    run = plain(haul, *args)
    assert run.returncode == 2 and not run.stdout
    assert words in run.stderr
    assert all(line.startswith("haul: ") for line in run.stderr.splitlines())


def test_options_stand_anywhere_and_two_dashes_end_them(haul, work, dump):
    source = dump(MI)
    run = plain(haul, "--state=" + haul.state, "copy", source, "--quiet",
                "--", "--target", cwd=work)
    assert run.returncode == 0 and not run.stdout and not run.stderr
    assert conftest.digest(work + "/--target") == conftest.digest(source)


def test_without_a_terminal_there_is_the_summary_and_nothing_else(haul, work,
                                                                  dump):
    run = plain(haul, "copy", "--state", haul.state, dump(MI), work + "/t")
    assert run.returncode == 0 and not run.stdout
    assert run.stderr.count("\n") == 1
    assert "\r" not in run.stderr and "\033" not in run.stderr
    assert "1.05 MB" in run.stderr and "verified: size" in run.stderr


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_bar_fits_the_terminal_and_goes_away(haul, work, columns):
    t = Terminal(haul, "copy", "--state", haul.state, "--rate-limit", "40m",
                 "mem:gen?size=20000000&seed=1", work + "/t",
                 columns=columns)
    assert t.wait() == 0
    bars = [b for b in t.seen.split("\r") if b.endswith("\033[K")]
    assert any("%" in b for b in bars)
    assert max(len(b) - len("\033[K") for b in bars) < columns
    assert "20.0 MB" in t.seen[t.seen.rindex("\033[K"):]


@pytest.mark.parametrize("columns", [20, 40, 80, 100])
def test_bar_of_an_upload_fits_and_says_unconfirmed(haul, liar, columns):
    t = Terminal(haul, "copy", "--state", haul.state, "--rate-limit", "20m",
                 "mem:gen?size=20000000&seed=1", liar.url("/t"),
                 columns=columns)
    assert t.wait() == 0, t.seen
    bars = [b[:-len("\033[K")] for b in t.seen.split("\r")
            if b.endswith("\033[K")]
    assert max(map(len, bars)) < columns
    assert columns == 20 or any("MB sent, unconfirmed" in b for b in bars)
    assert columns < 80 or any("[--" in b and "ETA" in b for b in bars)
    assert not any("=" in b for b in bars if "unconfirmed" in b)


def test_answer_to_an_upload_follows_the_summary(haul, liar, dump):
    run = plain(haul, "copy", "--state", haul.state, dump(MI),
                liar.url("/t"))
    assert run.returncode == 0
    assert run.stderr.endswith("\nanswer: 201\n  stored\n")
    summary = [line for line in run.stderr.splitlines() if " -> " in line]
    assert len(summary) == 1 and "1.05 MB" in summary[0]
    run = plain(haul, "copy", "--state", haul.state, "--quiet", dump(MI),
                liar.url("/t"))
    assert run.returncode == 0 and not run.stderr


def test_answer_to_a_failed_upload_follows_the_error(haul, liar, dump):
    run = plain(haul, "copy", "--state", haul.state, dump(MI),
                liar.url("/t?lie=early&status=413"))
    assert run.returncode == 6
    lines = run.stderr.splitlines()
    assert lines[lines.index("answer: 413") + 1] == "  it says 413"


def test_interrupted_upload_does_not_say_that_it_continues(haul, liar):
    run = haul.start("copy", "--rate-limit", "4m",
                     "mem:gen?size=40000000&seed=1", liar.url("/t"))
    run.wait_for(lambda e: (e.get("sent") or 0) >= MI)
    run.kill(signal.SIGINT)
    assert run.wait(20) == 130, run
    late = [e["late"] for e in run.events if e.get("sent")]
    assert late and all(late)
    assert "haul: stopping\n" in run.stderr
    assert "sent, unconfirmed" in run.stderr
    assert "continues" not in run.stderr


def test_names_are_escaped_on_the_terminal_and_in_events(haul, work, dump):
    source = os.path.join(os.fsencode(work), b'a\033[2J\xe4"')
    os.rename(dump(MI), source)
    source = os.fsdecode(source)
    run = plain(haul, "copy", "--state", haul.state, source, work + "/t")
    assert run.returncode == 0
    assert 'a\\x1b[2J\\xe4"' in run.stderr and "\033" not in run.stderr
    run = haul.copy(source, work + "/u")
    assert run.last["event"] == "done"
    assert '\\xe4"' in run.events[0]["source"]


def test_reader_of_events_that_goes_away_does_not_stop_the_copy(haul, work,
                                                                dump):
    source = dump(30 * MI)
    run = subprocess.Popen(
        [haul.binary, "copy", "--state", haul.state, "--progress", "json",
         "--rate-limit", "40m", source, work + "/t"], env=haul.env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout.readline()
    run.stdout.close()
    assert run.stderr.read() == b"" and run.wait(30) == 0
    assert conftest.digest(work + "/t") == conftest.digest(source)


def test_progress_fd_gets_the_events(haul, work, dump):
    with open(work + "/events", "w") as f:
        run = plain(haul, "copy", "--state", haul.state, "--progress-fd",
                    f.fileno(), dump(MI), work + "/t",
                    pass_fds=[f.fileno()])
    assert run.returncode == 0 and not run.stdout
    with open(work + "/events") as f:
        events = [json.loads(line) for line in f]
    assert [events[0]["event"], events[-1]["event"]] == ["start", "done"]


def test_password_is_asked_for_without_echo(haul, start, keys, remote, dump):
    server = start(servers.Asyncssh, keys, "--password", "s3cretpw",
                   login="password")
    haul.trust(server)
    source = dump(MI)
    args = ("copy", "--state", haul.state, "--known-hosts", haul.known_hosts,
            "--ssh-config", haul.ssh_config, source,
            server.url(remote + "/t"))
    t = Terminal(haul, *args)
    t.read_until("password for ")
    assert not t.echoes()
    os.write(t.fd, b"s3cretpw\n")
    assert t.wait() == 0, t.seen
    assert "s3cretpw" not in t.seen
    assert conftest.digest(remote + "/t") == conftest.digest(source)


@pytest.mark.parametrize("presses", [1, 2])
def test_interrupt_at_the_prompt_gives_the_echo_back(haul, start, keys,
                                                     remote, dump, presses):
    server = start(servers.Asyncssh, keys, "--password", "s3cretpw",
                   login="password")
    haul.trust(server)
    t = Terminal(haul, "copy", "--state", haul.state, "--known-hosts",
                 haul.known_hosts, "--ssh-config", haul.ssh_config,
                 dump(MI), server.url(remote + "/t"))
    t.read_until("password for ")
    # Held open, the terminal keeps its state when haul has ended.
    keep = os.open("/proc/%d/fd/0" % t.pid, os.O_RDWR | os.O_NOCTTY)
    assert not termios.tcgetattr(keep)[3] & termios.ECHO
    os.write(t.fd, b"\x03" * presses)
    status = os.waitstatus_to_exitcode(os.waitpid(t.pid, 0)[1])
    assert status in (130, -signal.SIGINT)
    assert termios.tcgetattr(keep)[3] & termios.ECHO
    os.close(keep)
    os.close(t.fd)


def test_password_in_a_url_leaves_the_process_title(haul, start, keys, remote,
                                                    dump):
    server = start(servers.Asyncssh, keys, "--password", "s3cretpw",
                   login="password")
    haul.trust(server)
    haul.identity = None
    run = haul.start("copy", "--rate-limit", "2m", dump(4 * MI),
                     "sftp://%s:s3cretpw@127.0.0.1:%d%s/t" % (
                         servers.USER, server.port, remote))
    run.wait_for(lambda e: e["event"] == "state")
    with open("/proc/%d/cmdline" % run.process.pid, "rb") as f:
        title = f.read()
    assert b"s3cretpw" not in title and servers.USER.encode() in title
    assert run.wait() == 0, run
    assert "s3cretpw" not in str(run.events)


def test_secrets_of_options_leave_the_process_title(haul):
    port = servers.free_port()
    run = haul.start(
        "copy", "--header", "Authorization: Bearer s3cret1", "--header",
        "X-Note: shown", "--header=My-Token:s3cret2", "--proxy",
        "http://joe:s3cret3@127.0.0.1:%d" % port,
        "mem:gen?size=1000&seed=1",
        "http://127.0.0.1:%d/t?sig=s3cret4&part=7" % port)
    run.wait_for(lambda e: e["event"] == "retry")
    with open("/proc/%d/cmdline" % run.process.pid, "rb") as f:
        title = f.read()
    run.kill(signal.SIGINT)
    assert run.wait() in (4, 130), run
    assert b"s3cret" not in title, title
    for rest in (b"Authorization:", b"X-Note: shown", b"My-Token:",
                 b"http://joe@127.0.0.1:%d" % port, b"part=7"):
        assert rest in title, title
    assert "s3cret" not in str(run.events) + run.stderr


def test_second_interrupt_ends_at_once(haul, sshd, linksim, remote, dump):
    link = linksim(sshd, "--rate", "4m")
    haul.trust(link)
    run = haul.start("copy", dump(30 * MI), link.url(remote + "/t"))
    run.wait_acked(MI)
    run.kill(signal.SIGTERM)
    run.kill(signal.SIGTERM)  # timeout(1) sends it twice
    run.kill(signal.SIGINT)
    assert run.wait(5) in (130, -signal.SIGINT)


def unfinished(haul, work):
    """A copy that was stopped; returns its temporary file."""
    run = haul.start("copy", "--rate-limit", "20m", "--chunk-size", "256ki",
                     "mem:gen?size=60000000&seed=1", work + "/t")
    run.wait_acked(4 * MI)
    run.kill(signal.SIGINT)
    assert run.wait() == 130, run
    assert "the same command continues" in run.stderr
    rest = [n for n in os.listdir(work) if n.endswith(".part")]
    assert len(rest) == 1
    return os.path.join(work, rest[0])


@pytest.mark.parametrize("verb", ["cancel", "forget"])
def test_jobs_list_show_and_remove(haul, work, verb):
    def jobs(*args):
        return plain(haul, "jobs", "--state", haul.state, *args)

    assert jobs("list").stdout == "no unfinished transfers\n"
    rest = unfinished(haul, work)
    job, = map(json.loads, jobs("list", "--json").stdout.splitlines())
    assert job["state"] == "unfinished" and job["bytes"] == 60000000
    assert 4 * MI <= job["acked"] < 60000000
    assert job["target"].endswith("/t")
    assert work + "/t" in jobs("list").stdout
    assert "unfinished" in jobs("show", job["id"]).stdout
    assert jobs("show", job["id"] + 1).returncode == 2
    assert jobs(verb, job["id"]).returncode == 0
    assert not os.path.exists(rest)
    assert jobs("list").stdout == "no unfinished transfers\n"


def test_finished_jobs_are_listed_with_all(haul, work, dump):
    assert haul.copy(dump(MI), work + "/t").status == 0
    run = plain(haul, "jobs", "list", "--state", haul.state)
    assert run.stdout == "no unfinished transfers\n"
    run = plain(haul, "jobs", "list", "--all", "--state", haul.state)
    assert " done " in run.stdout


def test_bash_completion_offers_commands_options_and_words(haul):
    script = plain(haul, "completion", "bash").stdout

    def complete(*words):
        out = subprocess.run(
            ["bash", "-c", script + '\nCOMP_WORDS=("$@")\n'
             "COMP_CWORD=$(($# - 1))\n_haul 2>/dev/null\n"
             'echo "${COMPREPLY[*]}"', "bash", *words],
            capture_output=True, text=True, check=True)
        return out.stdout.split()

    assert complete("haul", "c") == ["copy"]
    assert complete("haul", "copy", "--re") == ["--resume", "--retries",
                                                "--region"]
    assert complete("haul", "copy", "--host-key", "") == ["strict",
                                                          "accept-new"]
    assert complete("haul", "copy", "--addressing", "") == ["auto", "path",
                                                            "virtual"]
    assert complete("haul", "verify", "--mani") == []
    assert complete("haul", "jobs", "--endp") == ["--endpoint"]
    assert complete("haul", "jobs", "s") == ["show"]
    # bash breaks words at '@', unless it is told not to
    assert complete("haul", "copy", "--header", "@", "/etc/passw") == \
        complete("haul", "copy", "--header", "@/etc/passw")
    assert "@/etc/passwd" in complete("haul", "copy", "--header",
                                      "@/etc/passw")
    assert complete("haul", "copy", "--header", "X-") == []
