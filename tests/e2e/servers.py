"""Real servers on 127.0.0.1 with keys of their own, for tests and benchmarks.

Standard library only. Every server lives in a folder that the caller gives,
logs to FOLDER/NAME.log, and is ended by its process id. They run as root and
as an ordinary user; who runs them is who logs in.
"""

import grp
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

USER = pwd.getpwuid(os.getuid()).pw_name
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


class Missing(Exception):
    """Something that is not installed; a test that needs it is skipped."""


def program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") +
                        ":/usr/sbin:/sbin:/usr/local/sbin")
    if not path:
        raise Missing(name + " is not installed")
    return path


def free_port():
    """Below the range that the kernel gives to clients, or a connection of
    somebody else could take it before the server does."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise OSError("no free port")


def descendants(pid):
    """Process ids below pid, children first."""
    below = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as f:
                    parent = int(f.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            below.setdefault(parent, []).append(int(name))
    found = list(below.get(pid, []))
    for child in found:
        found.extend(below.get(child, []))
    return found


def alive(pid):
    """Runs, and is not only waiting to be buried."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Keys:
    """Key pairs: of the user, of a stranger, and of the host (two kinds)."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.identity = self._make("id_ed25519", "ed25519")
        self.stranger = self._make("id_stranger", "ed25519")
        self.host = self._make("host_ed25519", "ed25519")
        self.other_host = self._make("other_host_ed25519", "ed25519")
        self.host_rsa = self._make("host_rsa", "rsa", "-b", "2048")
        self.authorized = os.path.join(folder, "authorized_keys")
        shutil.copy(self.identity + ".pub", self.authorized)
        os.chmod(self.authorized, 0o600)

    def _make(self, name, kind, *more):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            subprocess.run([program("ssh-keygen"), "-q", "-t", kind, *more,
                            "-N", "", "-C", "test", "-f", path], check=True)
        return path

    def known_hosts_lines(self, port, wrong=False):
        """Lines of known_hosts for a server of ours on this port."""
        lines = ""
        for path in ([self.other_host] if wrong
                     else [self.host, self.host_rsa]):
            with open(path + ".pub") as f:
                lines += "[127.0.0.1]:%d %s\n" % (
                    port, " ".join(f.read().split()[:2]))
        return lines


class Daemon:
    """A process that listens on self.port once start() returns."""

    name = "daemon"
    sftp = True
    end = signal.SIGTERM

    def __init__(self, folder, keys):
        self.folder = os.path.join(folder, "%s-%d" % (
            self.name, random.SystemRandom().randrange(10**9)))
        os.makedirs(self.folder, mode=0o700)
        self.log = os.path.join(folder, os.path.basename(self.folder) +
                                ".log")
        self.keys = keys
        self.process = None
        self.port = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text, mode=0o600):
        with open(self.path(name), "w") as f:
            f.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def command(self):
        raise NotImplementedError

    def listening(self):
        """Without connecting: a connection would count in MaxStartups."""
        wanted = "0100007F:%04X" % self.port
        with open("/proc/net/tcp") as f:
            return any(line.split()[1] == wanted and line.split()[3] == "0A"
                       for line in list(f)[1:])

    def start(self, port=0):
        for _ in range(3):
            self.port = port or free_port()
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    self.command(), stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, cwd=self.folder, start_new_session=True)
            end = time.monotonic() + 20
            while self.process.poll() is None and time.monotonic() < end:
                if self.listening():
                    return self
                time.sleep(0.01)
            self.stop()
        with open(self.log, errors="replace") as f:
            raise RuntimeError("%s does not start:\n%s" % (
                self.name, f.read()[-2000:]))

    def stop(self):
        """Sessions are processes of their own and survive their listener."""
        if not self.process:
            return
        pids = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(self.end)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.kill(pids)
        self.process = None

    def kill_sessions(self):
        """Ends what serves present connections, not the listener."""
        self.kill(descendants(self.process.pid))

    @staticmethod
    def kill(pids):
        """Returns when they are gone."""
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        end = time.monotonic() + 5
        while any(map(alive, pids)) and time.monotonic() < end:
            time.sleep(0.002)

    def url(self, path, port=None, user=USER):
        return "sftp://%s@127.0.0.1:%d%s" % (user, port or self.port, path)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class Sshd(Daemon):
    """OpenSSH. options: lines for sshd_config; subsystem: its command."""

    name = "sshd"

    def __init__(self, folder, keys, options=(), subsystem="internal-sftp",
                 host_keys=None):
        super().__init__(folder, keys)
        self.options = list(options)
        self.subsystem = subsystem
        self.host_keys = host_keys or [keys.host, keys.host_rsa]

    def command(self):
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        lines = self.options + [
            "Port %d" % self.port,
            "ListenAddress 127.0.0.1",
            "PidFile none",
            "AuthorizedKeysFile " + self.keys.authorized,
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "UseDNS no",
            "LogLevel VERBOSE",
            "Subsystem sftp " + self.subsystem,
        ] + ["HostKey " + k for k in self.host_keys]
        config = self.write("sshd_config", "\n".join(lines) + "\n")
        return [program("sshd"), "-D", "-e", "-f", config]


class SshdPlain(Sshd):
    """A server without any extension, and new keys every 64 MiB."""

    name = "sshd-plain"
    denied = ("posix-rename,hardlink,statvfs,fstatvfs,fsync,lsetstat,limits,"
              "expand-path,copy-data,home-directory,users-groups-by-id")

    def __init__(self, folder, keys, options=()):
        if not os.path.exists(SFTP_SERVER):
            raise Missing(SFTP_SERVER + " is not installed")
        shell = pwd.getpwuid(os.getuid()).pw_shell
        if shell.endswith(("/nologin", "/false")):
            raise Missing("%s may not run commands: its shell is %s" % (
                USER, shell))
        super().__init__(folder, keys, ["RekeyLimit 64M", *options],
                         "%s -P %s" % (SFTP_SERVER, self.denied))


class SshdNarrow(Sshd):
    """One channel per connection, one login at a time."""

    name = "sshd-narrow"

    def __init__(self, folder, keys, options=()):
        super().__init__(folder, keys, ["MaxSessions 1",
                                        "MaxStartups 1:100:2", *options])


class Proftpd(Daemon):
    """ProFTPD with mod_sftp: another implementation of the protocol."""

    name = "proftpd"

    def __init__(self, folder, keys, options=()):
        super().__init__(folder, keys)
        self.options = list(options)
        if not os.path.exists("/usr/lib/proftpd/mod_sftp.so"):
            raise Missing("proftpd-mod-crypto is not installed")

    def command(self):
        def run(*argv):
            return subprocess.run(argv, check=True, capture_output=True,
                                  text=True).stdout

        me = pwd.getpwuid(os.getuid())
        group = os.getgid()
        secret = run(program("openssl"), "passwd", "-6", "secret").strip()
        self.write("passwd", "%s:%s:%d:%d::%s:/bin/sh\n" % (
            USER, secret, me.pw_uid, group, self.folder))
        self.write("group", "users:x:%d:%s\n" % (group, USER))
        self.write("keys", run(program("ssh-keygen"), "-e", "-m", "RFC4716",
                               "-f", self.keys.identity + ".pub"))
        lines = [
            "ServerType standalone", "ServerName test",
            "ModulePath /usr/lib/proftpd", "LoadModule mod_sftp.c",
            "DefaultAddress 127.0.0.1", "SocketBindTight on",
            "UseIPv6 off", "UseReverseDNS off", "Port %d" % self.port,
            "User " + USER, "Group " + grp.getgrgid(group).gr_name,
            "PidFile " + self.path("pid"),
            "ScoreboardFile " + self.path("scoreboard"),
            "DelayTable none", "WtmpLog off", "RootLogin on",
            "TransferLog none", "RequireValidShell off",
            "UseFtpUsers off",
            "AuthOrder mod_auth_file.c",
            "AuthUserFile " + self.path("passwd"),
            "AuthGroupFile " + self.path("group"),
            "AllowOverwrite on", "AllowStoreRestart on",
            "SFTPEngine on", "SFTPLog " + self.path("sftp.log"),
            "SFTPHostKey " + self.keys.host_rsa,
            "SFTPAuthMethods publickey password",
            "SFTPAuthorizedUserKeys file:" + self.path("keys"),
            "SFTPCompression off", *self.options]
        config = self.write("proftpd.conf", "\n".join(lines) + "\n")
        return [program("proftpd"), "-n", "-q", "-c", config]


class Asyncssh(Daemon):
    """tests/e2e/asyncssh_server.py with its options."""

    name = "asyncssh"

    def __init__(self, folder, keys, *options, login="key"):
        super().__init__(folder, keys)
        self.options = list(options)
        self.login = login

    @staticmethod
    def python():
        for path in (sys.executable, "/usr/bin/python3"):
            if subprocess.run([path, "-W", "ignore", "-c", "import asyncssh"],
                              capture_output=True).returncode == 0:
                return path
        raise Missing("asyncssh is not installed")

    def command(self):
        argv = [self.python(), os.path.join(HERE, "asyncssh_server.py"),
                "--port", str(self.port), "--host-key", self.keys.host]
        if self.login == "key":
            argv += ["--authorized-keys", self.keys.authorized]
        return argv + self.options

    def lies_told(self):
        with open(self.log) as f:
            return sum(line.startswith("lie ") for line in f)


class Linksim(Daemon):
    """The link simulator in front of a server. options: as in --help."""

    name = "linksim"

    def __init__(self, folder, keys, build, target, *options):
        super().__init__(folder, keys)
        self.target = target
        self.options = [str(o) for o in options]
        self.binary = os.path.join(build, "linksim")
        self.result = None

    def command(self):
        return [self.binary, "--listen", str(self.port), "--to",
                "127.0.0.1:%d" % self.target.port, "--stats",
                self.path("stats.json"), *self.options]

    def url(self, path, **more):
        return self.target.url(path, port=self.port, **more)

    def stats(self):
        """The counters: now while it runs, the last ones after stop()."""
        if self.process:
            if os.path.exists(self.path("stats.json")):
                os.unlink(self.path("stats.json"))
            self.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + 5
            while not os.path.exists(self.path("stats.json")):
                if time.monotonic() > end:
                    raise RuntimeError("no statistics from linksim")
                time.sleep(0.002)
        with open(self.path("stats.json")) as f:
            return json.load(f)

    def reset(self):
        self.process.send_signal(signal.SIGUSR1)

    def toggle_plug(self):
        self.process.send_signal(signal.SIGUSR2)


def build_folder():
    """Where the newest build put its programs: beside ./haul, or the newest
    folder with a linksim."""
    if os.environ.get("HAUL_BUILD"):
        return os.path.abspath(os.environ["HAUL_BUILD"])
    link = os.path.join(ROOT, "haul")
    if os.path.exists(link):
        return os.path.dirname(os.path.realpath(link))
    base = os.path.join(ROOT, "build")
    found = [os.path.join(base, d) for d in
             (os.listdir(base) if os.path.isdir(base) else [])
             if os.path.exists(os.path.join(base, d, "linksim"))]
    if not found:
        raise Missing("linksim is not built (make tools)")
    return max(found, key=lambda d: os.path.getmtime(
        os.path.join(d, "linksim")))
