"""haul and the programs beside it: how each of them is told to copy a file."""

import os
import re
import urllib.parse

from measure import ROOT
import servers


class Tool:
    """put() and get() are command lines: local path, server, remote path."""

    name = ""
    note = ""  # how it was told to work

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
        if any(re.match(r"(tus\+)?https:|s3:", u) for u in (source, target)):
            argv += ["--cacert", b.cacert]
        return [*argv, *self.options, source, target]

    def put(self, local, server, remote):
        argv = self.copy(local, server.url(remote))
        if server.url(remote).startswith("s3:"):
            argv[2:2] = ["--endpoint", server.endpoint]
        return argv

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


class RcloneS3(Tool):
    """Its S3 backend. It reads the file once, as haul does: without the MD5
    of the whole that it would compute first."""

    name = "rclone"
    CHOICES = ((4, "16Mi"), (8, "8Mi"), (8, "32Mi"), (16, "16Mi"))
    concurrency, chunk = CHOICES[0]

    def put(self, local, server, remote):
        return [self.binary, "--config", "/dev/null", "copyto",
                "--ignore-times", "--ca-cert", self.bench.cacert,
                "--s3-provider", "Other", "--s3-env-auth", "--s3-region",
                self.env["AWS_REGION"], "--s3-endpoint", server.endpoint,
                "--s3-no-check-bucket", "--s3-disable-checksum",
                "--s3-upload-cutoff", "0", "--s3-upload-concurrency",
                str(self.concurrency), "--s3-chunk-size", self.chunk, local,
                ":s3:%s/%s" % (server.bucket, remote)]


class CurlS3(Tool):
    """One PUT."""

    name = "curl"

    def put(self, local, server, remote):
        login = "%s:%s@" % tuple(
            urllib.parse.quote(self.env["AWS_" + name], safe="")
            for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        return [self.binary, "-sSf", "--cacert", self.bench.cacert,
                "--aws-sigv4", "aws:amz:%s:s3" % self.env["AWS_REGION"], "-H",
                "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T", local,
                server.http(remote, login)]


class CurlTus(Tool):
    """A request that makes the upload, and one PATCH."""

    name = "curl"
    SCRIPT = """
curl="$1 -sSf --cacert $2 -H Tus-Resumable:1.0.0"
at=$($curl -o /dev/null -w '%header{location}' -H "Upload-Length: $4" \\
    -X POST "$5")
exec $curl -H Upload-Offset:0 -H "$6" -X PATCH -T "$3" "$at"
"""

    def put(self, local, server, remote):
        return ["sh", "-ec", self.SCRIPT, "sh", self.binary,
                self.bench.cacert, local, str(os.path.getsize(local)),
                server.http(remote),
                "Content-Type: application/offset+octet-stream"]
