"""What cannot work ends with the documented exit status, one line that names
the subject, and no file under the final name."""

import os
import socket

import conftest
import pytest
import servers

MI = conftest.MI


def check_failed(run, status, *words):
    assert run.status == status, run
    assert run.last.get("event") == "failed", run
    assert run.last["exit"] == status
    assert run.last["error"] and "\n" not in run.last["error"]
    for word in words:
        assert word in run.last["error"], run


def test_unknown_host_key_is_exit_5(haul, sshd, remote, dump):
    run = haul.copy(dump(MI), sshd.url(remote + "/t"))
    check_failed(run, 5)
    assert "accept-new" in run.last["hint"]
    assert os.listdir(remote) == []
    assert os.path.getsize(haul.known_hosts) == 0


def test_accept_new_learns_the_key_once(haul, sshd, remote, dump):
    source = dump(MI)
    run = haul.copy(source, sshd.url(remote + "/t"), "--host-key",
                    "accept-new")
    assert run.status == 0, run
    assert os.path.getsize(haul.known_hosts) > 0
    assert haul.copy(source, sshd.url(remote + "/u")).status == 0


@pytest.mark.parametrize("options", [(), ("--host-key", "accept-new"),
                                     ("--force",)])
def test_changed_host_key_is_exit_5_whatever_is_asked(haul, start, keys,
                                                      remote, dump, options):
    sshd = start(servers.Sshd, keys, host_keys=[keys.host])
    haul.trust(sshd, wrong=True)
    run = haul.copy(dump(MI), sshd.url(remote + "/t"), *options)
    check_failed(run, 5)
    assert os.listdir(remote) == []


def test_wrong_key_is_exit_5(haul, server, remote, dump):
    haul.trust(server)
    haul.identity = haul.keys.stranger
    run = haul.copy(dump(MI), server.url(remote + "/t"))
    check_failed(run, 5)
    assert os.listdir(remote) == []


def test_missing_identity_file_names_it(haul, sshd, work, remote, dump):
    haul.trust(sshd)
    haul.identity = work + "/nobody-has-this"
    run = haul.copy(dump(MI), sshd.url(remote + "/t"))
    assert run.status in (3, 5), run
    assert "nobody-has-this" in run.last["error"] + run.stderr


def test_refused_connection_is_exit_4(haul, dump):
    url = "sftp://%s@127.0.0.1:%d/tmp/t" % (servers.USER,
                                            servers.free_port())
    run = haul.copy(dump(MI), url, "--give-up-after", 2)
    check_failed(run, 4)


def test_name_that_does_not_resolve_is_exit_4(haul, dump):
    run = haul.copy(dump(MI), "sftp://x@no-such-host.invalid/t",
                    "--give-up-after", 2)
    check_failed(run, 4, "no-such-host.invalid")


def test_peer_that_is_no_ssh_server_is_exit_4(haul, dump):
    with socket.create_server(("127.0.0.1", 0)) as s:
        url = "sftp://x@127.0.0.1:%d/t" % s.getsockname()[1]
        run = haul.start("copy", dump(MI), url, "--give-up-after", 3,
                         "--stall-timeout", 2)
        s.settimeout(5)
        c, _ = s.accept()
        c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        c.close()
        s.close()
        assert run.wait(30) == 4, run


def test_missing_target_folder_is_exit_6(haul, server, remote, dump):
    haul.trust(server)
    run = haul.copy(dump(MI), server.url(remote + "/no/such/t"))
    check_failed(run, 6, "/no/such")
    assert os.listdir(remote) == []


def test_read_only_server_is_exit_6(haul, start, keys, remote, dump):
    sshd = start(servers.Sshd, keys, subsystem="internal-sftp -R")
    haul.trust(sshd)
    run = haul.copy(dump(MI), sshd.url(remote + "/t"))
    check_failed(run, 6, remote + "/t")
    assert os.listdir(remote) == []


def test_missing_remote_source_is_exit_6(haul, sshd, work, remote):
    haul.trust(sshd)
    run = haul.copy(sshd.url(remote + "/no-such"), work + "/back")
    check_failed(run, 6, "no-such")
    assert not os.path.exists(work + "/back")


def test_missing_local_source_is_exit_3(haul, sshd, work, remote):
    haul.trust(sshd)
    run = haul.copy(work + "/no-such", sshd.url(remote + "/t"))
    check_failed(run, 3, "no-such")
    assert os.listdir(remote) == []


def test_directory_as_source_is_exit_3(haul, sshd, work, remote):
    haul.trust(sshd)
    run = haul.copy(work, sshd.url(remote + "/t"))
    check_failed(run, 3)
    assert os.listdir(remote) == []


def test_missing_local_target_folder_is_exit_3(haul, sshd, work, dump):
    haul.trust(sshd)
    run = haul.copy(sshd.url(dump(MI)), work + "/no/such/back")
    check_failed(run, 3, "/no/such")


def test_full_remote_disk_is_exit_6(haul, sshd, small_disk, dump):
    haul.trust(sshd)
    run = haul.copy(dump(40 * MI), sshd.url(small_disk + "/t"))
    check_failed(run, 6)
    assert not os.path.exists(small_disk + "/t")


def test_full_local_disk_is_exit_3(haul, sshd, small_disk, dump):
    haul.trust(sshd)
    run = haul.copy(sshd.url(dump(40 * MI)), small_disk + "/t")
    check_failed(run, 3)
    assert not os.path.exists(small_disk + "/t")


def test_full_remote_disk_continues_when_there_is_room(haul, sshd, work,
                                                       small_disk, dump):
    haul.trust(sshd)
    filler = small_disk + "/filler"
    with open(filler, "wb") as f:
        f.write(bytes(16 * MI))
    source = dump(20 * MI)
    check_failed(haul.copy(source, sshd.url(small_disk + "/t")), 6)
    os.unlink(filler)
    run = haul.copy(source, sshd.url(small_disk + "/t"))
    assert run.status == 0, run
    assert conftest.digest(small_disk + "/t") == conftest.digest(source)


@pytest.mark.parametrize("args", [
    ("copy",), ("copy", "one"), ("nonsense",), ("copy", "--no-such", "a",
                                                "b"),
    ("copy", "--memory", "lots", "a", "b"),
    ("copy", "--retries", "-1", "a", "b"),
    ("copy", "--verify", "maybe", "a", "b"),
    ("copy", "gopher://host/a", "b")], ids=" ".join)
def test_usage_errors_are_exit_2(haul, args):
    assert haul(*args).status == 2


@pytest.mark.parametrize("option, value", [
    ("connections", 0), ("connections", 65), ("streams", 0), ("streams", 65),
    ("chunk-size", "65535"), ("chunk-size", "2g"), ("memory", "8388607"),
    ("rate-limit", 1023), ("retries", 1000001), ("stall-timeout", 0),
    ("stall-timeout", 86401), ("give-up-after", 0), ("give-up-after", "1d"),
    ("resume", "append=x"), ("resume", "always"), ("digest", "md5"),
    ("host-key", "no"), ("connections", ""), ("retries", "5x"),
    ("chunk-size", "99999999999999999999")], ids=str)
def test_values_out_of_range_are_exit_2(haul, work, dump, option, value):
    run = haul.copy(dump(1), work + "/t", "--%s=%s" % (option, value))
    assert run.status == 2, run
    text = run.stderr + (run.last.get("error") or "")
    assert option in text, run
    assert not os.path.exists(work + "/t")


def test_passwords_are_nowhere(haul, start, keys, work, remote, dump):
    server = start(servers.Asyncssh, keys, "--password", "s3cretpw",
                   login="password")
    haul.trust(server)
    haul.identity = None
    url = "sftp://%s:s3cretpw@127.0.0.1:%d%s/t" % (servers.USER, server.port,
                                                   remote)
    run = haul.copy(dump(MI), url)
    assert run.status == 0, run
    assert os.listdir(remote) == ["t"]
    assert "s3cretpw" not in run.stderr + str(run.events)
    assert "password" in run.stderr + str(run.events)  # the warning
    for base, _, files in os.walk(os.path.dirname(haul.state)):
        for name in files:
            with open(os.path.join(base, name), "rb") as f:
                assert b"s3cretpw" not in f.read()


def test_wrong_password_is_exit_5(haul, start, keys, remote, dump):
    server = start(servers.Asyncssh, keys, "--password", "right",
                   login="password")
    haul.trust(server)
    haul.identity = None
    run = haul.copy(dump(MI), "sftp://%s:wrong@127.0.0.1:%d%s/t" % (
        servers.USER, server.port, remote))
    assert run.status == 5, run
    assert "wrong" not in run.stderr.replace("wrong password", "")
