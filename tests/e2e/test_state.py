"""A state store that cannot be used ends the copy before it begins, with one
line that names it."""

import os
import sqlite3
import subprocess

import conftest
import pytest

MI = conftest.MI


def check_refused(haul, work, dump, *words):
    """A copy with that store fails; nothing is made."""
    run = haul.copy(dump(MI), work + "/t")
    assert run.status == 3, run
    text = run.last.get("error") or run.stderr
    assert haul.state in text and "\n" not in text.strip(), run
    for word in words:
        assert word in text + (run.last.get("hint") or ""), run
    assert not os.path.exists(work + "/t")


def make_store(haul, work, dump):
    assert haul.copy(dump(MI), work + "/first").status == 0


@pytest.mark.parametrize("content", [b"this is no database\n" * 500,
                                     b"SQLite format 3\0" + b"\xff" * 9000],
                         ids=["text", "header"])
def test_file_that_is_no_store(haul, work, dump, content):
    os.makedirs(os.path.dirname(haul.state))
    with open(haul.state, "wb") as f:
        f.write(content)
    check_refused(haul, work, dump)
    with open(haul.state, "rb") as f:
        assert f.read() == content


def test_damaged_store(haul, work, dump):
    make_store(haul, work, dump)
    with sqlite3.connect(haul.state) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(haul.state, "r+b") as f:
        f.seek(100)
        f.write(b"\xa5" * (os.path.getsize(haul.state) - 100))
    check_refused(haul, work, dump)


def test_store_of_a_newer_haul(haul, work, dump):
    make_store(haul, work, dump)
    db = sqlite3.connect(haul.state)
    db.execute("PRAGMA user_version = 999")
    db.commit()
    db.close()
    check_refused(haul, work, dump, "newer")


def test_other_database_is_left_alone(haul, work, dump):
    os.makedirs(os.path.dirname(haul.state))
    db = sqlite3.connect(haul.state)
    db.execute("CREATE TABLE theirs (a)")
    db.commit()
    db.close()
    check_refused(haul, work, dump)
    db = sqlite3.connect(haul.state)
    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [
        ("theirs",)]
    db.close()


def test_store_in_a_folder_that_cannot_be_made(haul, work, dump):
    open(work + "/file", "w").close()
    haul.state = work + "/file/below/state.db"
    run = haul.copy(dump(MI), work + "/t")
    assert run.status == 3, run
    assert "'%s/file'" % work in run.last["error"], run
    assert not os.path.exists(work + "/t")


def test_store_in_a_read_only_folder(haul, work, small_disk, dump):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    haul.state = small_disk + "/state.db"
    check_refused(haul, work, dump)


def test_store_on_a_full_disk(haul, work, small_disk, dump):
    with open(small_disk + "/filler", "wb") as f:
        try:
            while True:
                f.write(bytes(65536))
                f.flush()
        except OSError:
            pass
    haul.state = small_disk + "/state.db"
    check_refused(haul, work, dump)


def test_store_is_for_its_owner_only(haul, work, dump):
    make_store(haul, work, dump)
    assert os.stat(haul.state).st_mode & 0o777 == 0o600


def test_disk_that_fills_up_during_the_copy(haul, work, small_disk, dump):
    """What is not saved is no reason to stop or to be wrong."""
    haul.state = small_disk + "/state.db"
    source = dump(40 * MI)
    run = haul.start("copy", "--rate-limit", "20m", source, work + "/t")
    run.wait_acked(4 * MI)
    with open(small_disk + "/filler", "wb") as f:
        try:
            while True:
                f.write(bytes(65536))
                f.flush()
        except OSError:
            pass
    assert run.wait() in (0, 3), run
    if run.status == 0:
        assert conftest.digest(work + "/t") == conftest.digest(source)
    else:
        assert not os.path.exists(work + "/t")
        assert haul.state in run.last["error"]
