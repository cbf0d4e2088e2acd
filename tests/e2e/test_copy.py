"""Copies that are allowed to work do, through every server."""

import json
import os
import signal
import socket
import subprocess
import time

import conftest
import pytest
import servers

MI = conftest.MI


def names(folder):
    return sorted(os.listdir(folder))


def check_done(run, size):
    assert run.status == 0, run
    assert run.last["event"] == "done"
    assert run.last["exit"] == 0
    assert run.last["bytes"] == run.last["acked"] == size


@pytest.mark.parametrize("size", [0, 1, 255 * 1024 + 1, 4 * MI, 37 * MI + 5])
def test_upload_and_download_are_the_same_bytes(haul, server, work, remote,
                                                dump, size):
    haul.trust(server)
    source = dump(size)
    target, back = os.path.join(remote, "t.sql"), os.path.join(work, "back")
    check_done(haul.copy(source, server.url(target)), size)
    assert names(remote) == ["t.sql"]
    assert conftest.digest(target) == conftest.digest(source)
    check_done(haul.copy(server.url(target), back), size)
    assert conftest.digest(back) == conftest.digest(source)
    assert int(os.stat(back).st_mtime) == int(os.stat(source).st_mtime)


@pytest.mark.parametrize("options", [
    ("--streams", 1, "--connections", 1), ("--streams", 8),
    ("--connections", 4, "--streams", 1), ("--chunk-size", "256ki"),
    ("--chunk-size", "64mi"), ("--memory", "16mi"), ("--in-order",),
    ("--verify", "readback"), ("--verify", "none"),
    ("--digest", "sha256"), ("--cipher", "chacha20-poly1305@openssh.com")],
    ids=lambda o: "".join(map(str, o)))
def test_options_do_not_change_the_bytes(haul, sshd, work, remote, dump,
                                         options):
    haul.trust(sshd)
    source = dump(70 * MI + 3)
    target, back = remote + "/t", work + "/back"
    check_done(haul.copy(source, sshd.url(target), *options), 70 * MI + 3)
    assert conftest.digest(target) == conftest.digest(source)
    check_done(haul.copy(sshd.url(target), back, *options), 70 * MI + 3)
    assert conftest.digest(back) == conftest.digest(source)


@pytest.mark.parametrize("algorithm", ["xxh128", "sha256"])
def test_verify_remote_lets_the_server_compute(haul, sshd, remote, dump,
                                               algorithm):
    servers.program(algorithm + "sum")
    haul.trust(sshd)
    run = haul.copy(dump(20 * MI), sshd.url(remote + "/it's a t"), "--verify",
                    "remote", "--digest", algorithm)
    check_done(run, 20 * MI)
    assert run.last["verified"] == "remote"
    out = subprocess.run([algorithm + "sum", remote + "/it's a t"],
                         capture_output=True, text=True, check=True).stdout
    assert run.last["digest"] == algorithm + ":" + out.split()[0]


@pytest.mark.parametrize("existing", [False, True])
def test_verify_remote_is_refused_before_a_byte_moves(
        haul, start, keys, linksim, remote, dump, existing):
    sshd = start(servers.Sshd, keys, ["ForceCommand internal-sftp"])
    link = linksim(sshd)
    haul.trust(link)
    if existing:
        with open(remote + "/t", "w") as f:
            f.write("keep me")
    run = haul.copy(dump(20 * MI), link.url(remote + "/t"), "--verify",
                    "remote")
    assert run.status == 2, run
    assert names(remote) == ["t"] * existing
    assert link.stats()["up"] < MI


def test_existing_target_is_replaced_and_shorter(haul, server, remote, dump):
    haul.trust(server)
    target = remote + "/t"
    with open(target, "wb") as f:
        f.write(b"old" * MI)
    source = dump(MI)
    check_done(haul.copy(source, server.url(target)), MI)
    assert conftest.digest(target) == conftest.digest(source)
    assert names(remote) == ["t"]


def test_no_clobber_refuses_and_keeps_the_target(haul, sshd, remote, dump):
    haul.trust(sshd)
    with open(remote + "/t", "w") as f:
        f.write("keep me")
    run = haul.copy(dump(MI), sshd.url(remote + "/t"), "--no-clobber")
    assert run.status in (3, 6), run
    with open(remote + "/t") as f:
        assert f.read() == "keep me"
    assert names(remote) == ["t"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_folder_as_target_gets_the_name_of_the_source(haul, sshd, remote,
                                                      dump, slash):
    haul.trust(sshd)
    source = dump(MI, name="mine.dump")
    check_done(haul.copy(source, sshd.url(remote + slash)), MI)
    assert names(remote) == ["mine.dump"]


def test_mode_and_mtime_follow_the_source(haul, sshd, remote, dump):
    haul.trust(sshd)
    source = dump(MI)
    os.chmod(source, 0o640)
    os.utime(source, (1700000000, 1600000000))
    check_done(haul.copy(source, sshd.url(remote + "/t")), MI)
    st = os.stat(remote + "/t")
    assert st.st_mode & 0o777 == 0o640
    assert int(st.st_mtime) == 1600000000


def test_repeated_copy_is_already_there(haul, sshd, linksim, remote, dump):
    haul.trust(sshd)
    link = linksim(sshd)
    haul.trust(link)
    source, target = dump(20 * MI), link.url(remote + "/t")
    check_done(haul.copy(source, target), 20 * MI)
    before = link.stats()["up"]
    run = haul.copy(source, target)
    check_done(run, 20 * MI)
    assert "already there" in run.last["note"]
    assert link.stats()["up"] - before < MI


def test_dry_run_changes_nothing(haul, sshd, remote, dump):
    haul.trust(sshd)
    with open(remote + "/t", "w") as f:
        f.write("keep me")
    run = haul.copy(dump(9 * MI), sshd.url(remote + "/t"), "--dry-run")
    assert run.status == 0, run
    with open(remote + "/t") as f:
        assert f.read() == "keep me"
    assert names(remote) == ["t"]


def test_remote_name_with_odd_characters(haul, sshd, remote, dump):
    haul.trust(sshd)
    name = "ä b'\"$(x)#?.sql"
    source = dump(MI)
    quoted = "".join(c if c.isalnum() and c.isascii() else
                     "".join("%%%02X" % b for b in c.encode())
                     for c in name)
    check_done(haul.copy(source, sshd.url(remote + "/" + quoted)), MI)
    assert names(remote) == [name]


def test_pipe_as_source_and_as_target(haul, sshd, work, remote, dump):
    haul.trust(sshd)
    source = dump(30 * MI + 7)
    with open(source, "rb") as f:
        cat = subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE)
        run = haul("copy", "-", sshd.url(remote + "/t"), stdin=cat.stdout)
        cat.wait()
    assert run.status == 0, run
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    with open(work + "/back", "wb") as out:
        run = haul("copy", sshd.url(remote + "/t"), "-", stdout=out)
    assert run.status == 0, run
    assert conftest.digest(work + "/back") == conftest.digest(source)


def test_progress_is_one_object_a_line_and_never_goes_back(haul, sshd,
                                                           linksim, remote,
                                                           dump):
    link = linksim(sshd, "--rate", "20m", "--rtt", 20)
    haul.trust(link)
    begin = time.monotonic()
    run = haul.copy(dump(40 * MI), link.url(remote + "/t"))
    seconds = time.monotonic() - begin
    check_done(run, 40 * MI)
    progress = [e for e in run.events if e["event"] == "progress"]
    acked = [e["acked"] for e in progress]
    assert acked == sorted(acked) and len(acked) >= 5
    assert len(progress) <= 10 * seconds + 2
    for key in ("source target bytes acked seconds rate resumed_from resent "
                "connections streams digest verified limit exit").split():
        assert key in run.last, key
    # 42 MB at 20 MB/s, whatever haul says
    assert abs(run.last["seconds"] - seconds) < 3


def test_limit_is_link_on_a_slow_link(haul, sshd, linksim, remote, dump):
    link = linksim(sshd, "--rate", "10m")
    haul.trust(link)
    run = haul.copy(dump(30 * MI), link.url(remote + "/t"))
    check_done(run, 30 * MI)
    assert run.last["limit"] in ("link", "connection", "window")


def test_rate_limit_is_kept(haul, sshd, remote, dump):
    haul.trust(sshd)
    begin = time.monotonic()
    run = haul.copy(dump(40 * MI), sshd.url(remote + "/t"), "--rate-limit",
                    "10mi")
    check_done(run, 40 * MI)
    assert 3 < time.monotonic() - begin < 20
    assert run.last["limit"] == "rate-limit"


def test_manifest_verifies_and_finds_a_flipped_bit(haul, sshd, work, remote,
                                                   dump):
    haul.trust(sshd)
    manifest = work + "/m.haul.json"
    check_done(haul.copy(dump(20 * MI), sshd.url(remote + "/t"),
                         "--manifest", manifest), 20 * MI)
    with open(manifest) as f:
        json.load(f)
    assert haul("verify", remote + "/t", manifest).status == 0
    assert haul("verify", sshd.url(remote + "/t"), manifest).status == 0
    with open(remote + "/t", "r+b") as f:
        f.seek(11 * MI)
        byte = f.read(1)[0]
        f.seek(11 * MI)
        f.write(bytes([byte ^ 4]))
    for target in (remote + "/t", sshd.url(remote + "/t")):
        run = haul("verify", target, manifest)
        assert run.status == 7, run


def test_manifest_that_does_not_fit_is_told(haul, sshd, work, remote, dump):
    haul.trust(sshd)
    source, manifest = dump(9 * MI), work + "/m.haul.json"
    check_done(haul.copy(source, sshd.url(remote + "/t"), "--manifest",
                         manifest), 9 * MI)
    with open(remote + "/t", "ab") as f:
        f.write(b"more")
    for target in (remote + "/t", sshd.url(remote + "/t")):
        assert haul("verify", target, manifest).status == 7
    os.truncate(remote + "/t", 5 * MI)
    for target in (remote + "/t", sshd.url(remote + "/t")):
        assert haul("verify", target, manifest).status == 7
    with open(manifest) as f:
        text = f.read()
    for wrong in (text[:-20], "{}", text.replace("a", "b", 5)):
        with open(manifest, "w") as f:
            f.write(wrong)
        assert haul("verify", source, manifest).status == 8
    assert haul("verify", source, work + "/none").status == 3


def test_relay_between_two_servers(haul, start, keys, linksim, work, remote,
                                   dump):
    first = start(servers.Sshd, keys)
    second = start(servers.Proftpd, keys)
    link = linksim(first, "--rate", "30m")
    for server in (link, second):
        haul.trust(server)
    source = dump(40 * MI + 3)
    run = haul.start("copy", link.url(source), second.url(remote + "/t"))
    run.wait_acked(12 * MI)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    run = haul.copy(link.url(source), second.url(remote + "/t"))
    check_done(run, 40 * MI + 3)
    assert run.last["resumed_from"] > 0
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    assert names(remote) == ["t"]


def test_new_keys_every_64_mib(haul, start, keys, work, remote, dump):
    size = 210 * MI
    server = start(servers.Sshd, keys, ["RekeyLimit 64M"])
    haul.trust(server)
    source = dump(size)
    check_done(haul.copy(source, server.url(remote + "/t")), size)
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    os.unlink(source)
    check_done(haul.copy(server.url(remote + "/t"), source), size)
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_messages_of_two_channels_are_not_mixed(haul, start, keys, linksim,
                                                remote, dump):
    """mod_sftp has one buffer for the pieces of messages of all channels."""
    size = 100 * MI
    link = linksim(start(servers.Proftpd, keys), "--rtt", 30, "--rate", "60m")
    haul.trust(link)
    source = dump(size)
    run = haul.copy(source, link.url(remote + "/t"), "--connections", 1,
                    "--stall-timeout", 5)
    check_done(run, size)
    assert run.last["streams"] > 1
    assert run.last["resent"] == 0
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_refused_further_connections_do_no_harm(haul, start, keys, linksim,
                                                remote, dump):
    server = start(servers.Sshd, keys, ["MaxStartups 2:100:2",
                                        "MaxSessions 1"])
    link = linksim(server, "--rtt", 20, "--conn-rate", "10m")
    haul.trust(link)
    source = dump(60 * MI)
    run = haul.start("copy", "--connections", 4, source,
                     link.url(remote + "/t"))
    run.wait_for(lambda e: e.get("connections"))
    # Two that do not log in: the server takes no third.
    held = [socket.create_connection(("127.0.0.1", server.port))
            for _ in range(2)]
    status = run.wait()
    for s in held:
        s.close()
    assert status == 0, run
    with open(server.log) as f:
        assert "past MaxStartups" in f.read()
    assert conftest.digest(remote + "/t") == conftest.digest(source)


def test_interrupt_ends_in_order_with_130(haul, sshd, linksim, remote, dump):
    link = linksim(sshd, "--rate", "20m")
    haul.trust(link)
    source, target = dump(60 * MI), link.url(remote + "/t")
    run = haul.start("copy", source, target)
    run.wait_acked(10 * MI)
    begin = time.monotonic()
    run.kill(signal.SIGINT)
    assert run.wait(20) == 130, run
    assert time.monotonic() - begin < 10
    assert run.last["event"] == "failed" and run.last["exit"] == 130
    assert "t" not in names(remote)
    again = haul.copy(source, target)
    check_done(again, 60 * MI)
    assert again.last["resumed_from"] >= 8 * MI
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    assert names(remote) == ["t"]
