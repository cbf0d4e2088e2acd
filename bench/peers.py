"""haul and the programs beside it: how each of them is told to copy a file."""

import os

from measure import ROOT
import servers


class Tool:
    """put() and get() are command lines: local path, server, remote path."""

    name = ""

    def __init__(self, bench):
        self.bench = bench
        self.binary = servers.program(self.name)
        self.env = dict(bench.env)


class Haul(Tool):
    name = "haul"

    def __init__(self, bench, *options):
        self.bench = bench
        self.env = dict(bench.env)
        self.options = list(options)
        self.binary = os.path.abspath(
            os.environ.get("HAUL", os.path.join(ROOT, "haul")))
        if not os.path.exists(self.binary):
            raise servers.Missing("haul is not built")

    def copy(self, source, target, state=None):
        b = self.bench
        argv = [self.binary, "copy", "--progress", "json", "--state",
                state or b.fresh("state") + "/s.db"]
        if "sftp:" in source[:5] + target[:5]:
            argv += ["--known-hosts", b.known_hosts, "--ssh-config",
                     b.ssh_config, "--identity", b.keys.identity]
        if "https:" in source[:6] + target[:6]:
            argv += ["--cacert", b.cacert]
        return [*argv, *self.options, source, target]

    def put(self, local, server, remote):
        return self.copy(local, server.url(remote))

    def get(self, local, server, remote):
        return self.copy(server.url(remote), local)


class Sftp(Tool):
    name = "sftp"

    def command(self, server, line):
        batch = self.bench.fresh("batch") + "/b"
        with open(batch, "w") as f:
            f.write(line + "\n")
        return [self.binary, "-q", "-F", "none", "-b", batch, "-P",
                str(server.port), *self.bench.ssh_options(),
                servers.USER + "@127.0.0.1"]

    def put(self, local, server, remote):
        return self.command(server, "put %s %s" % (local, remote))

    def get(self, local, server, remote):
        return self.command(server, "get %s %s" % (remote, local))


class Rclone(Tool):
    name = "rclone"

    def command(self, server, source, target):
        b = self.bench
        return [self.binary, "--config", "/dev/null", "copyto",
                "--ignore-times", "--sftp-host", "127.0.0.1", "--sftp-port",
                str(server.port), "--sftp-user", servers.USER,
                "--sftp-key-file", b.keys.identity,
                "--sftp-known-hosts-file", b.known_hosts,
                "--sftp-shell-type", "none", "--sftp-md5sum-command", "none",
                "--sftp-sha1sum-command", "none", "--sftp-chunk-size",
                "255k", source, target]

    def put(self, local, server, remote):
        return self.command(server, local, ":sftp:" + remote)

    def get(self, local, server, remote):
        return self.command(server, ":sftp:" + remote, local)


class Lftp(Tool):
    name = "lftp"

    def command(self, server, line):
        connect = "ssh -a -x -F none " + " ".join(self.bench.ssh_options())
        return [self.binary, "-c", "set sftp:connect-program '%s'; "
                "set cmd:fail-exit yes; set net:max-retries 1; "
                "set sftp:max-packets-in-flight 256; "
                "open -u %s, sftp://127.0.0.1:%d; %s" % (
                    connect, servers.USER, server.port, line)]

    def put(self, local, server, remote):
        return self.command(server, "put %s -o %s" % (local, remote))

    def get(self, local, server, remote):
        return self.command(server, "get %s -o %s" % (remote, local))


class Curl(Tool):
    """As its users run it."""

    name = "curl"

    def put(self, local, server, remote):
        return [self.binary, "-sS", "--cacert", self.bench.cacert, "-T",
                local, server.url(remote)]

    def get(self, local, server, remote):
        return [self.binary, "-sS", "--cacert", self.bench.cacert, "-o",
                local, server.url(remote)]


class Aria2(Tool):
    """Downloads only. connections: the most that it opens."""

    name = "aria2"
    connections = 16

    def __init__(self, bench):
        self.bench = bench
        self.binary = servers.program("aria2c")
        self.env = dict(bench.env)

    def get(self, local, server, remote):
        n = str(self.connections)
        return [self.binary, "--no-conf", "-q", "-j1", "-x" + n, "-s" + n,
                "-k1M", "--file-allocation=none", "--ca-certificate=" +
                self.bench.cacert, "-d", os.path.dirname(local), "-o",
                os.path.basename(local), server.url(remote)]
