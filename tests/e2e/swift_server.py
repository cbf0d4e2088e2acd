#!/usr/bin/env python3
"""OpenStack Swift with its S3 interface, all of it below one folder:

    swift_server.py FOLDER '{"proxy": PORT, "account": PORT, "container": PORT,
                             "object": PORT, "memcached": PORT, "user": NAME,
                             "domain": NAME}'

One account, "test", one disk, one copy. The servers are children of this
process; when one ends, all do. Nothing of /etc/swift is read.
Needs Debian's swift-proxy, swift-account, swift-container, swift-object and
memcached.
"""

import ctypes
import json
import os
import signal
import sys

BACKENDS = ("account", "container", "object")

SWIFT = """
[swift-hash]
swift_hash_path_suffix = haul
swift_hash_path_prefix = haul
[storage-policy:0]
name = gold
default = yes
"""

BACKEND = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {dir}
devices = {dir}/disks
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = ERROR
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {dir}
log_level = ERROR
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats s3api \
tempauth bulk slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
dns_compliant_bucket_names = true
min_segment_size = 5242880
max_upload_part_num = 10000
storage_domain = {domain}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
user_test_stranger = strange
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def make_ring(folder, name, port):
    from swift.common.ring import RingBuilder
    builder = RingBuilder(2, 1, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0,
                     "ip": "127.0.0.1", "port": port, "device": "d1",
                     "meta": "", "replication_ip": "127.0.0.1",
                     "replication_port": port})
    builder.rebalance(seed="1")
    builder.get_ring().save(os.path.join(folder, name + ".ring.gz"))


def run(config, section):
    from swift.common.wsgi import run_wsgi
    return run_wsgi(config, section, verbose=True)


def spawn(work):
    """A child that works and ends; its process id."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        die_with_parent()
        if os.getppid() == parent:
            status = work()
    finally:
        os._exit(status or 0)


def start(folder, ports):
    """The process ids of all servers."""
    memcached = ["memcached", "-u", ports["user"], "-l", "127.0.0.1", "-p",
                 str(ports["memcached"]), "-U", "0", "-m", "16"]
    pids = [spawn(lambda: os.execvp(memcached[0], memcached))]
    for name in BACKENDS:
        make_ring(folder, name, ports[name])
        config = write(folder, name + ".conf", BACKEND.format(
            dir=folder, name=name, port=ports[name], user=ports["user"]))
        pids.append(spawn(lambda: run(config, name + "-server")))
    values = dict(ports, dir=folder, port=ports["proxy"])
    config = write(folder, "proxy.conf", PROXY.format(**values))
    return pids + [spawn(lambda: run(config, "proxy-server"))]


def main():
    folder, ports = sys.argv[1], json.loads(sys.argv[2])
    os.makedirs(os.path.join(folder, "disks", "d1"), exist_ok=True)
    write(folder, "swift.conf", SWIFT)
    from swift.common import utils
    utils.set_swift_dir(folder)
    import swift.common.middleware.s3api.s3api  # noqa: F401 imported once
    import swift.proxy.server  # noqa: F401
    signals = {signal.SIGTERM, signal.SIGCHLD}
    pids = start(folder, ports)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        if not any(os.waitpid(p, os.WNOHANG)[0] for p in pids):
            signal.sigwait(signals)
    finally:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ChildProcessError, ProcessLookupError):
                pass


if __name__ == "__main__":
    sys.exit(main())
