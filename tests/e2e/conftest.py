"""Fixtures: servers, the link simulator, files, and haul itself.

HAUL=PATH tests another binary, HAUL_BUILD=DIR another build folder,
HAUL_TMP=DIR is where the files go, HAUL_LONG=1 runs the long campaigns.
The folder of a test that failed is kept and named in the report.
"""

import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import http_servers  # noqa: E402
import servers  # noqa: E402
import upload_servers  # noqa: E402

LONG = os.environ.get("HAUL_LONG") == "1"
MI = 1 << 20

KINDS = {
    "sshd": servers.Sshd,
    "sshd-plain": servers.SshdPlain,
    "sshd-narrow": servers.SshdNarrow,
    "proftpd": servers.Proftpd,
    "asyncssh": servers.Asyncssh,
}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.failed = True
    folder = getattr(item, "work_folder", None)
    if not report.failed or not folder:
        return
    report.sections.append(("kept", folder))
    for base, _, names in os.walk(folder):
        for name in sorted(n for n in names if n.endswith(".log")):
            with open(os.path.join(base, name), errors="replace") as f:
                report.sections.append((name, f.read()[-1500:]))


def pytest_runtest_setup(item):
    # A test that hangs must not stop all others.
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("timeout"))
    signal.alarm(900 if LONG else 300)


def pytest_runtest_teardown(item):
    signal.alarm(0)


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    return servers.Keys(str(tmp_path_factory.mktemp("keys")))


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    try:
        servers.program("openssl")
    except servers.Missing as missing:
        pytest.skip(str(missing))
    return http_servers.Certificates(str(tmp_path_factory.mktemp("certs")))


@pytest.fixture(scope="session")
def build():
    folder = servers.build_folder()
    for name in ("linksim", "mkdump"):
        if not os.path.exists(os.path.join(folder, name)):
            subprocess.run(["make", "-s", "tools"], cwd=servers.ROOT,
                           check=True)
    return folder


@pytest.fixture
def work(request):
    """A folder of the test's own, kept when it fails."""
    base = os.environ.get("HAUL_TMP")
    folder = tempfile.mkdtemp(prefix="haul-e2e-", dir=base)
    request.node.work_folder = folder
    yield folder
    if not getattr(request.node, "failed", False):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start(work):
    """start(CLASS, ...) starts a server of servers.py, ended by the test."""
    running = []

    def start(kind, *args, **options):
        try:
            server = kind(work, *args, **options)
            server.start()
        except servers.Missing as missing:
            pytest.skip(str(missing))
        running.append(server)
        return server

    yield start
    for server in reversed(running):
        server.stop()


@pytest.fixture
def sshd(start, keys):
    return start(servers.Sshd, keys)


@pytest.fixture(params=sorted(KINDS))
def server(request, start, keys):
    """Every kind of server in turn."""
    return start(KINDS[request.param], keys)


@pytest.fixture
def www(work):
    """The folder that HTTP servers show."""
    path = os.path.join(work, "www")
    os.mkdir(path)
    return path


@pytest.fixture
def page(www, dump):
    """page(SIZE) makes a file of www, a day old, returns its path."""
    def page(size, name="dump.sql", seed=1):
        path = dump(size, os.path.join(www, name), seed)
        day_ago = int(time.time()) - 86400
        os.utime(path, (day_ago, day_ago))
        return path
    return page


@pytest.fixture
def nginx(start, certs, www):
    return start(http_servers.Nginx, certs, www)


@pytest.fixture
def apache(start, certs, www):
    return start(http_servers.Apache, certs, www)


@pytest.fixture
def liar(start, certs, www):
    return start(http_servers.Liar, certs, www)


@pytest.fixture
def resumable(start, certs):
    """The scripted server of uploads, over TLS."""
    return start(upload_servers.Resumable, certs, tls=True)


@pytest.fixture
def plain(start, certs):
    """The same without TLS."""
    return start(upload_servers.Resumable, certs)


@pytest.fixture
def tus(start, certs):
    """@tus/server."""
    return start(upload_servers.TusNpm, certs)


@pytest.fixture(scope="session")
def swift(certs, tmp_path_factory):
    """OpenStack Swift with S3: one for all tests, each has its own buckets."""
    try:
        server = upload_servers.Swift(str(tmp_path_factory.mktemp("swift")),
                                      certs)
    except servers.Missing as missing:
        pytest.skip(str(missing))
    with server:
        yield server
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def linksim(start, keys, build):
    """linksim(server, "--rtt", 20, ...)"""
    def linksim(target, *options):
        return start(servers.Linksim, keys, build, target, *options)
    return linksim


@pytest.fixture
def remote(work):
    """The folder that tests write to through a server."""
    path = os.path.join(work, "remote")
    os.mkdir(path)
    return path


@pytest.fixture
def dump(work, build):
    """dump(SIZE) makes a file like a database dump, returns its path."""
    def dump(size, name="dump.sql", seed=1):
        path = os.path.join(work, name)
        subprocess.run([os.path.join(build, "mkdump"), str(size), path,
                        "--seed", str(seed)], check=True)
        return path
    return dump


def digest(path):
    h = hashlib.blake2b()
    with open(path, "rb") as f:
        while block := f.read(4 * MI):
            h.update(block)
    return h.hexdigest()


class Run:
    """A haul that runs or has run."""

    def __init__(self, argv, env, stdin, stdout):
        self.events = []
        self.status = None
        self.stderr = ""
        self._news = queue.Queue()
        self.process = subprocess.Popen(
            argv, env=env, stdin=stdin, stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True)
        self._threads = [
            threading.Thread(target=self._read_errors, daemon=True)]
        if not stdout:
            self._threads.append(
                threading.Thread(target=self._read_events, daemon=True))
        for t in self._threads:
            t.start()

    def _read_events(self):
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append(event)
            self._news.put(event)
        self._news.put(None)

    def _read_errors(self):
        for line in self.process.stderr:
            text = line.decode(errors="replace")
            self.stderr += text
            if text.startswith('{"event"'):  # the target is "-"
                self.events.append(json.loads(text))

    def wait(self, timeout=100):
        """Returns the exit status; kills and fails when it takes longer."""
        try:
            self.status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail("haul did not end in %d s: %s" % (timeout,
                                                          self.stderr))
        for t in self._threads:
            t.join(10)
        return self.status

    def wait_for(self, what, timeout=60):
        """The first event for which what(event) holds; None: it ended."""
        end = time.monotonic() + timeout
        while True:
            try:
                event = self._news.get(timeout=max(0, end -
                                                   time.monotonic()))
            except queue.Empty:
                self.kill()
                pytest.fail("no such event: %s %s" % (self.events[-3:],
                                                      self.stderr))
            if event is None or what(event):
                return event

    def wait_acked(self, count, timeout=60):
        return self.wait_for(lambda e: (e.get("acked") or 0) >= count, timeout)

    def kill(self, sig=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(sig)

    @property
    def last(self):
        return self.events[-1] if self.events else {}

    def __repr__(self):
        return "status %s, %s, stderr: %s" % (self.status, self.last,
                                              self.stderr)


class Haul:
    """Runs haul with a state store, keys and known hosts of the test."""

    def __init__(self, work, keys):
        self.binary = os.path.abspath(
            os.environ.get("HAUL", os.path.join(servers.ROOT, "haul")))
        if not os.path.exists(self.binary):
            pytest.skip("haul is not built")
        self.keys = keys
        self.work = work
        self.state = os.path.join(work, "state", "state.db")
        self.known_hosts = os.path.join(work, "known_hosts")
        self.ssh_config = os.path.join(work, "ssh_config")
        self.identity = keys.identity
        self.cacert = None
        self.prefix = []  # a command that runs haul
        self.runs = []
        for path in (self.known_hosts, self.ssh_config):
            open(path, "w").close()
        self.env = {k: v for k, v in os.environ.items()
                    if k not in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY")
                    and not k.lower().endswith("_proxy")}
        self.env.update(HOME=work, XDG_STATE_HOME=work, LC_ALL="C.UTF-8")

    def trust(self, server, wrong=False):
        """Writes the server's host key (or a wrong one) to known_hosts, or
        trusts the authority of its certificate."""
        server_certs = getattr(getattr(server, "target", server), "certs",
                               None)
        if server_certs:
            self.cacert = server_certs.ca
            return
        with open(self.known_hosts, "a") as f:
            f.write(self.keys.known_hosts_lines(server.port, wrong))

    def start(self, command, *args, stdin=subprocess.DEVNULL, stdout=None,
              env=None):
        options = ["--state", self.state]
        if command in ("copy", "verify"):
            options += ["--progress", "json", "--known-hosts",
                        self.known_hosts, "--ssh-config", self.ssh_config]
            if self.identity:
                options += ["--identity", self.identity]
            if self.cacert:
                options += ["--cacert", self.cacert]
        run = Run([*self.prefix, self.binary, command, *options,
                   *map(str, args)],
                  dict(self.env, **(env or {})), stdin, stdout)
        self.runs.append(run)
        return run

    def __call__(self, command, *args, timeout=100, **options):
        """Runs to the end."""
        run = self.start(command, *args, **options)
        run.wait(timeout)
        return run

    def copy(self, source, target, *options, **more):
        return self("copy", *options, source, target, **more)


@pytest.fixture
def haul(work, keys):
    haul = Haul(work, keys)
    yield haul
    for run in haul.runs:
        run.kill()
        run.process.wait()


class Sftp:
    """OpenSSH's sftp, to prove the fixtures and to compare with."""

    def __init__(self, work, keys):
        self.keys = keys
        self.known_hosts = os.path.join(work, "sftp_known_hosts")

    def __call__(self, server, *commands, timeout=60):
        with open(self.known_hosts, "w") as f:
            f.write(self.keys.known_hosts_lines(server.port))
        return subprocess.run(
            [servers.program("sftp"), "-q", "-F", "none", "-b", "-", "-P",
             str(server.port), "-i", self.keys.identity,
             "-o", "UserKnownHostsFile=" + self.known_hosts,
             "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
             servers.USER + "@127.0.0.1"],
            input="".join(c + "\n" for c in commands), text=True,
            capture_output=True, timeout=timeout)


@pytest.fixture
def sftp(work, keys):
    return Sftp(work, keys)


@pytest.fixture
def small_disk(work):
    """A folder on a file system of 24 MiB."""
    path = os.path.join(work, "small")
    os.mkdir(path)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs",
                       path], capture_output=True).returncode != 0:
        pytest.skip("may not mount a small file system (needs root)")
    yield path
    subprocess.run(["umount", "-l", path], check=True)
