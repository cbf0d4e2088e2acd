"""haul as an ordinary user: 8 MiB of locked memory, no rights over files of
others."""

import os
import resource
import shutil
import signal
import subprocess

import conftest
import pytest
import servers

MI = conftest.MI
NOBODY = 65534


@pytest.fixture
def home(work, haul, keys):
    """The user's folder; from now on haul runs as that user."""
    path = os.path.join(work, "home")
    os.mkdir(path, 0o700)
    haul.env.update(HOME=path, XDG_STATE_HOME=path)
    if os.getuid() == 0:
        drop_rights(work, haul, keys, path)
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    limit = min(8 * MI, hard) if hard >= 0 else 8 * MI
    haul.prefix = [servers.program("prlimit"), "--memlock=%d" % limit,
                   *haul.prefix]
    return path


def drop_rights(work, haul, keys, path):
    haul.prefix = [servers.program("setpriv"), "--reuid", str(NOBODY),
                   "--regid", str(NOBODY), "--clear-groups"]
    haul.state = os.path.join(path, "state", "state.db")
    haul.identity = os.path.join(path, "key")
    shutil.copy(keys.identity, haul.identity)
    for name in ("known_hosts", "ssh_config"):
        setattr(haul, name, os.path.join(path, name))
        open(os.path.join(path, name), "w").close()
    for name in os.listdir(path):
        os.chmod(os.path.join(path, name), 0o600)
        os.chown(os.path.join(path, name), NOBODY, NOBODY)
    os.chmod(work, 0o711)
    os.chown(path, NOBODY, NOBODY)
    if subprocess.run([*haul.prefix, haul.binary, "--help"],
                      capture_output=True).returncode != 0 or \
            subprocess.run([*haul.prefix, "test", "-w", path]).returncode:
        pytest.skip("user %d may not run '%s' or not enter '%s'" % (
            NOBODY, haul.binary, path))


def theirs(path):
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


def test_up_and_down(haul, home, sshd, remote, dump):
    haul.trust(sshd)
    source = theirs(dump(70 * MI + 3))
    run = haul.copy(source, sshd.url(remote + "/t"))
    assert run.status == 0, run
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    run = haul.copy(sshd.url(remote + "/t"), home + "/back", "--verify",
                    "readback")
    assert run.status == 0, run
    assert conftest.digest(home + "/back") == conftest.digest(source)
    assert os.stat(home + "/back").st_uid == os.stat(home).st_uid


def test_file_to_file_and_on_after_sigkill(haul, home, dump):
    source = theirs(dump(70 * MI + 3))
    run = haul.start("copy", "--rate-limit", "60m", source, home + "/t")
    run.wait_acked(20 * MI)
    run.kill(signal.SIGKILL)
    run.wait()
    run = haul.copy(source, home + "/t")
    assert run.status == 0, run
    assert run.last["resumed_from"] > 0
    assert conftest.digest(home + "/t") == conftest.digest(source)
    assert os.listdir(home).count("t") == 1


def test_file_of_somebody_else_is_exit_3(haul, home, dump):
    if os.getuid():
        pytest.skip("needs files of another user (run as root)")
    source = dump(MI)
    os.chmod(source, 0o600)
    run = haul.copy(source, home + "/t")
    assert run.status == 3 and source in run.last["error"], run


def test_folder_of_somebody_else_is_exit_3(haul, home, remote, dump):
    if os.getuid():
        pytest.skip("needs a folder of another user (run as root)")
    run = haul.copy(theirs(dump(MI)), remote + "/t")
    assert run.status == 3 and remote in run.last["error"], run
    assert os.listdir(remote) == []


def test_only_file_in_the_folder_of_somebody_else(haul, home, remote, dump):
    """No other file can be made beside it."""
    if os.getuid():
        pytest.skip("needs a folder of another user (run as root)")
    open(remote + "/t", "w").close()
    theirs(remote + "/t")
    source = theirs(dump(20 * MI + 1))
    run = haul.copy(source, remote + "/t")
    assert run.status == 0, run
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    assert os.listdir(remote) == ["t"]


def test_store_in_a_folder_of_somebody_else_is_exit_3(haul, home, work, dump):
    if os.getuid():
        pytest.skip("needs a folder of another user (run as root)")
    haul.state = work + "/state.db"
    run = haul.copy(theirs(dump(MI)), home + "/t")
    assert run.status == 3 and haul.state in run.last["error"], run
