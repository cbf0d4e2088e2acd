"""Downloads from HTTP servers: the bytes, the ranges, resume, digests."""

import base64
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import time

import conftest
import http_servers
import pytest
import servers
from http_checks import (PATIENCE, done, failed, no_secret, ranges,
                         warnings)

MI = conftest.MI
CHUNK = 4 * MI
CYCLES = 20 if conftest.LONG else 3
# What a killed run has acknowledged and not saved: 8 MiB or a second, and what
# comes while that is written.
UNSAVED = 16 * MI


def names(folder):
    return sorted(os.listdir(folder))


@pytest.fixture
def here(work):
    """The folder that tests download to."""
    path = os.path.join(work, "here")
    os.mkdir(path)
    return path


# ---- The bytes --------------------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1,
                                  100 * MI])
def test_download_is_the_same_bytes(haul, nginx, here, page, size):
    haul.trust(nginx)
    source = page(size)
    done(haul.copy(nginx.url("/dump.sql"), here + "/t"), size)
    assert names(here) == ["t"]
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert int(os.stat(here + "/t").st_mtime) == int(
        os.stat(source).st_mtime)
    seen = nginx.seen("/dump.sql")
    assert {e["encoding"] for e in seen} == {"identity"}
    assert {e["protocol"] for e in seen} == {"HTTP/1.1"}
    assert sum(e["sent"] for e in seen) <= size + MI


@pytest.mark.parametrize("place", ["norange", "noetag", "novalidator", "gz"])
def test_servers_that_do_less_are_served(haul, nginx, here, page, place):
    haul.trust(nginx)
    source = page(9 * MI + 1)
    run = haul.copy(nginx.url("/%s/dump.sql" % place), here + "/t")
    done(run, 9 * MI + 1)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert names(here) == ["t"]
    seen = nginx.seen()
    assert sum(e["sent"] for e in seen) <= 10 * MI
    if place == "norange":
        assert max(e["status"] for e in seen) == 200
        assert len({e["connection"] for e in seen}) == 1


@pytest.mark.parametrize("lie", ["chunked", "close", "chunked-ranges", "full",
                                 "interim-few"])
@pytest.mark.parametrize("size", [0, 3 * MI + 7])
def test_length_that_is_not_told(haul, liar, here, page, lie, size):
    source = page(size)
    run = haul.copy(liar.url("/dump.sql?lie=" + lie), here + "/t", *PATIENCE)
    done(run, size)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert names(here) == ["t"]


def test_several_connections_are_faster_where_one_is_slow(haul, nginx, here,
                                                          page):
    haul.trust(nginx)
    source = page(16 * MI)
    begin = time.monotonic()
    run = haul.copy(nginx.url("/slow/dump.sql"), here + "/t",
                    "--connections", 4, "--chunk-size", "1mi")
    seconds = time.monotonic() - begin
    done(run, 16 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    seen = nginx.seen("/slow/dump.sql")
    assert len({e["connection"] for e in seen}) >= 2
    # One connection alone takes eight seconds.
    assert seconds < 6.5
    assert 2 <= run.last["connections"] <= 4


def test_one_connection_when_one_is_wanted(haul, nginx, here, page):
    haul.trust(nginx)
    source = page(30 * MI)
    done(haul.copy(nginx.url("/dump.sql"), here + "/t", "--connections", 1),
         30 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert len({e["connection"] for e in nginx.seen("/dump.sql")}) == 1


def test_ranges_are_asked_for_once_each(haul, nginx, here, page):
    haul.trust(nginx)
    page(64 * MI)
    done(haul.copy(nginx.url("/dump.sql"), here + "/t", "--connections", 4),
         64 * MI)
    seen = nginx.seen("/dump.sql")
    assert {e["status"] for e in seen} == {206}
    assert sum(e["sent"] for e in seen) == 64 * MI
    asked = ranges(seen)
    assert asked[0][0] == 0 and len(asked) == len(seen)
    assert all("," not in e["range"] for e in seen)
    # Without a second validator nobody may mix two versions.
    for e in seen:
        assert e["if_range"].startswith('"') or e["range"].startswith(
            "bytes=0-"), e


def test_http_without_tls_is_told(haul, nginx, here, page):
    source = page(5 * MI)
    url = nginx.url("/dump.sql", port=nginx.plain, scheme="http")
    run = haul.copy(url, here + "/t")
    done(run, 5 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert "http://" in warnings(run), run


@pytest.mark.parametrize("slash", ["", "/"])
def test_folder_gets_the_name_of_the_url(haul, nginx, here, page, slash):
    haul.trust(nginx)
    source = page(MI, name="a b.dump")
    done(haul.copy(nginx.url("/a%20b.dump?x=/y#part"), here + slash), MI)
    assert names(here) == ["a b.dump"]
    assert conftest.digest(here + "/a b.dump") == conftest.digest(source)


@pytest.mark.parametrize("path", ["/", "/..", "/%2e%2e", "/a%2f..%2f..%2fx",
                                  "/%2fetc", "/x%00y"])
def test_name_of_a_url_stays_in_its_folder(haul, liar, work, here, path):
    """It is refused, or one file is made in the folder."""
    before = names(work)
    run = haul.copy(liar.url(path + "?lie=status&status=200"), here + "/",
                    *PATIENCE)
    assert set(names(work)) - set(before) <= {"state"}
    if run.status == 0:
        assert len(names(here)) == 1
        assert os.path.isfile(os.path.join(here, names(here)[0]))
    else:
        assert run.status in (2, 3, 6), run
        assert names(here) == []


def test_repeated_download_is_already_there(haul, nginx, here, page):
    haul.trust(nginx)
    page(9 * MI)
    url = nginx.url("/dump.sql")
    done(haul.copy(url, here + "/t"), 9 * MI)
    count = len(nginx.seen())
    run = haul.copy(url, here + "/t")
    done(run, 9 * MI)
    assert "already there" in run.last["note"]
    # To see that it is the same one it may look at both ends.
    assert sum(e["sent"] for e in nginx.seen()[count:]) <= 9 * MI


def test_dry_run_makes_nothing(haul, nginx, here, page):
    haul.trust(nginx)
    page(9 * MI)
    run = haul.copy(nginx.url("/dump.sql"), here + "/t", "--dry-run")
    assert run.status == 0, run
    assert names(here) == []


def test_download_to_standard_output(haul, nginx, work, page):
    haul.trust(nginx)
    source = page(30 * MI + 7)
    with open(work + "/out", "wb") as out:
        run = haul("copy", nginx.url("/dump.sql"), "-", stdout=out)
    assert run.status == 0, run
    assert conftest.digest(work + "/out") == conftest.digest(source)
    assert run.last["event"] == "done"


def test_rate_limit_is_kept(haul, nginx, here, page):
    haul.trust(nginx)
    page(16 * MI)
    begin = time.monotonic()
    run = haul.copy(nginx.url("/dump.sql"), here + "/t", "--rate-limit",
                    "8mi", "--chunk-size", "1mi")
    done(run, 16 * MI)
    assert 1.2 < time.monotonic() - begin < 8
    assert run.last["limit"] == "rate-limit"


# ---- Relays -----------------------------------------------------------------

def test_from_https_to_sftp(haul, nginx, sshd, remote, page):
    haul.trust(nginx)
    haul.trust(sshd)
    source = page(20 * MI + 3)
    done(haul.copy(nginx.url("/dump.sql"), sshd.url(remote + "/t")),
         20 * MI + 3)
    assert conftest.digest(remote + "/t") == conftest.digest(source)
    assert names(remote) == ["t"]


def test_from_sftp_to_https(haul, nginx, sshd, dump):
    haul.trust(nginx)
    haul.trust(sshd)
    source = dump(20 * MI + 3)
    done(haul.copy(sshd.url(source), nginx.url("/dav/t")), 20 * MI + 3)
    assert conftest.digest(nginx.dav + "/t") == conftest.digest(source)


def test_from_https_to_https(haul, nginx, apache, page):
    haul.trust(nginx)
    source = page(20 * MI + 3)
    done(haul.copy(nginx.url("/dump.sql"), apache.url("/dav/t")),
         20 * MI + 3)
    assert conftest.digest(apache.dav + "/t") == conftest.digest(source)


# ---- Resume -----------------------------------------------------------------

def slow_link(linksim, server):
    return linksim(server, "--rate", "30m", "--rtt", 5)


def interrupted(haul, url, target, acked):
    """A run that is killed; what it had acknowledged."""
    run = haul.start("copy", url, target)
    event = run.wait_acked(acked)
    run.kill()
    assert run.wait() == -9, run
    return event["acked"]


def test_resume_asks_only_for_what_is_missing(haul, nginx, linksim, here,
                                              page):
    size = 48 * MI
    link = slow_link(linksim, nginx)
    haul.trust(link)
    source, url = page(size), link.url("/dump.sql")
    acked = interrupted(haul, url, here + "/t", 28 * MI)
    count = len(nginx.seen())
    assert names(here) != ["t"]
    run = haul.copy(url, here + "/t")
    done(run, size)
    assert run.last["resumed_from"] >= acked - UNSAVED, run
    assert run.last["resumed_from"] > 0
    seen = nginx.seen(begin=count)
    # The first and last chunk may be read again to know the source.
    assert sum(e["sent"] for e in seen) <= (
        size - run.last["resumed_from"] + 2 * CHUNK + MI)
    assert {e["status"] for e in seen} == {206}
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert names(here) == ["t"]


def test_download_survives_sigkill(haul, nginx, linksim, here, page):
    size = 48 * MI
    seed = int(os.environ.get("HAUL_SEED", random.randrange(10**6)))
    print("HAUL_SEED=%d" % seed)
    rng = random.Random(seed)
    link = linksim(nginx, "--rate", "60m", "--rtt", 10)
    haul.trust(link)
    source, final, url = page(size), here + "/t", link.url("/dump.sql")
    kills = 0
    while kills < CYCLES:
        run = haul.start("copy", url, final)
        try:
            run.process.wait(rng.uniform(0, 0.9))
        except subprocess.TimeoutExpired:
            run.kill()
        run.wait()
        if os.path.exists(final):
            assert conftest.digest(final) == conftest.digest(source)
        if run.status == 0:
            os.unlink(final)
            continue
        assert run.status == -9, run
        kills += 1
    done(haul.copy(url, final), size)
    assert conftest.digest(final) == conftest.digest(source)
    assert names(here) == ["t"]


def test_noetag_resumes_with_a_date_that_is_old_enough(haul, nginx, linksim,
                                                       here, page):
    link = slow_link(linksim, nginx)
    haul.trust(link)
    source, url = page(40 * MI), link.url("/noetag/dump.sql")
    interrupted(haul, url, here + "/t", 24 * MI)
    run = haul.copy(url, here + "/t")
    done(run, 40 * MI)
    assert run.last["resumed_from"] > 0, run
    assert conftest.digest(here + "/t") == conftest.digest(source)


def test_changed_source_is_exit_8_on_resume(haul, nginx, linksim, here, page):
    link = slow_link(linksim, nginx)
    haul.trust(link)
    page(40 * MI)
    url = link.url("/dump.sql")
    interrupted(haul, url, here + "/t", 20 * MI)
    source = page(40 * MI, seed=2)
    os.utime(source, (1600000000, 1600000000))
    run = haul.copy(url, here + "/t")
    failed(run, 8, "--resume never")
    assert not os.path.exists(here + "/t")
    done(haul.copy(url, here + "/t", "--resume", "never"), 40 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert names(here) == ["t"]


@pytest.mark.parametrize("lie", ["weak", "no-validator"])
def test_without_a_strong_validator_it_starts_again_and_says_so(
        haul, liar, linksim, here, page, lie):
    link = slow_link(linksim, liar)
    source, url = page(30 * MI), link.url("/dump.sql?lie=" + lie)
    interrupted(haul, url, here + "/t", 16 * MI)
    run = haul.copy(url, here + "/t")
    done(run, 30 * MI)
    assert run.last["resumed_from"] == 0, run
    assert re.search("start|again", warnings(run)), run
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert names(here) == ["t"]


def test_resume_require_is_refused_without_a_validator(haul, liar, linksim,
                                                       here, page):
    link = slow_link(linksim, liar)
    page(80 * MI)
    url = link.url("/dump.sql?lie=no-validator")
    interrupted(haul, url, here + "/t", 16 * MI)
    run = haul.copy(url, here + "/t", "--resume", "require")
    failed(run, 8)
    assert not os.path.exists(here + "/t")


@pytest.mark.parametrize("lie", ["etag-other", "changed"])
def test_source_that_changes_during_the_copy_is_exit_8(haul, liar, linksim,
                                                       here, page, lie):
    page(24 * MI)
    link = slow_link(linksim, liar)
    run = haul.copy(link.url("/dump.sql?lie=%s&skip=3" % lie), here + "/t",
                    "--chunk-size", "256ki", "--connections", 2, *PATIENCE)
    assert len(liar.seen()) > 3, "asked too seldom to notice"
    failed(run, 8)
    assert not os.path.exists(here + "/t")


def test_interrupt_ends_in_order_and_goes_on(haul, nginx, linksim, here,
                                             page):
    link = slow_link(linksim, nginx)
    haul.trust(link)
    source, url = page(40 * MI), link.url("/dump.sql")
    run = haul.start("copy", url, here + "/t")
    run.wait_acked(10 * MI)
    begin = time.monotonic()
    run.kill(2)
    assert run.wait(20) == 130, run
    assert time.monotonic() - begin < 5
    again = haul.copy(url, here + "/t")
    done(again, 40 * MI)
    assert again.last["resumed_from"] >= 8 * MI
    assert conftest.digest(here + "/t") == conftest.digest(source)


# ---- Digests ----------------------------------------------------------------

def crc32c(data):
    """RFC 3720 B.4, computed here: no program of the distribution has it."""
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "big")


def program_digest(name, path):
    """By sha256sum and its brothers."""
    out = subprocess.run([name + "sum", path], capture_output=True, text=True,
                         check=True).stdout
    return bytes.fromhex(out.split()[0])


OFFERS = {
    "repr": ("Repr-Digest", "sha-256=:%s:", "sha256"),
    "repr-512": ("Repr-Digest", "sha-512=:%s:", "sha512"),
    "old": ("Digest", "SHA-256=%s", "sha256"),
    "goog-md5": ("x-goog-hash", "md5=%s", "md5"),
    "goog-crc": ("x-goog-hash", "crc32c=%s", "crc32c"),
    "azure": ("x-ms-blob-content-md5", "%s", "md5"),
}


def offer(name, path, wrong=False):
    header, form, algorithm = OFFERS[name]
    if algorithm == "crc32c":
        with open(path, "rb") as f:
            value = crc32c(f.read())
    else:
        value = program_digest(algorithm, path)
    if wrong:
        value = bytes([value[0] ^ 1]) + value[1:]
    return header, form % base64.b64encode(value).decode()


def test_crc32c_of_the_test_is_right():
    # The check value of the catalogue of parametrised CRCs.
    assert crc32c(b"123456789").hex() == "e3069283"


@pytest.fixture
def offering(start, certs, www):
    """offering(file, (header, value)...): an nginx that says so."""
    def offering(file, *headers):
        try:
            server = http_servers.Nginx(os.path.dirname(www), certs, www)
        except servers.Missing as missing:
            pytest.skip(str(missing))
        server.offer("/offer", file, *headers)
        return start(lambda work: server)
    return offering


@pytest.mark.parametrize("name", sorted(OFFERS))
def test_digest_that_is_offered_is_checked(haul, offering, here, page, name):
    size = MI if "crc" in name else 9 * MI + 1
    source = page(size)
    server = offering("dump.sql", offer(name, source))
    haul.trust(server)
    run = haul.copy(server.url("/offer"), here + "/t")
    done(run, size)
    assert run.last["verified"] == "remote", run
    assert conftest.digest(here + "/t") == conftest.digest(source)


@pytest.mark.parametrize("name", sorted(OFFERS))
def test_digest_that_does_not_fit_is_exit_7(haul, offering, here, page, name):
    source = page(MI + 1)
    server = offering("dump.sql", offer(name, source, wrong=True))
    haul.trust(server)
    run = haul.copy(server.url("/offer"), here + "/t", *PATIENCE)
    failed(run, 7)
    assert not os.path.exists(here + "/t")


def test_best_of_several_digests_counts(haul, offering, here, page):
    source = page(MI)
    server = offering("dump.sql", offer("goog-md5", source, wrong=True),
                      offer("repr", source))
    haul.trust(server)
    run = haul.copy(server.url("/offer"), here + "/t")
    done(run, MI)
    assert run.last["verified"] == "remote", run


@pytest.mark.parametrize("value", ["sha-256=:AAAA:", "sha-256", "=::",
                                   "crc=:AAAAAA==:", "md5=?1", ""])
def test_digest_that_says_nothing_is_no_digest(haul, offering, here, page,
                                               value):
    page(MI)
    server = offering("dump.sql", ("Repr-Digest", value))
    haul.trust(server)
    run = haul.copy(server.url("/offer"), here + "/t")
    done(run, MI)
    assert run.last["verified"] != "remote", run


@pytest.mark.parametrize("what", ["dump.sql", "none"])
def test_content_md5_of_a_whole_answer_is_checked(haul, apache, here, page,
                                                  what):
    haul.trust(apache)
    source = page(MI, name=what)
    run = haul.copy(apache.url("/whole/" + what), here + "/t")
    done(run, MI)
    assert run.last["verified"] == "remote", run
    assert conftest.digest(here + "/t") == conftest.digest(source)


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_digest_is_checked_after_a_resume(haul, offering, linksim, here, page,
                                          wrong):
    """When asked: what was there has to be read again for that."""
    source = page(40 * MI)
    server = offering("dump.sql", offer("repr", source, wrong))
    link = slow_link(linksim, server)
    haul.trust(link)
    interrupted(haul, link.url("/offer"), here + "/t", 24 * MI)
    run = haul.copy(link.url("/offer"), here + "/t", "--verify", "remote")
    if wrong:
        failed(run, 7)
        assert not os.path.exists(here + "/t")
        return
    done(run, 40 * MI)
    assert run.last["resumed_from"] > 0
    assert run.last["verified"] == "remote", run


def test_digest_is_checked_on_the_way_to_standard_output(haul, offering, work,
                                                         page):
    source = page(9 * MI)
    server = offering("dump.sql", offer("repr", source, wrong=True))
    haul.trust(server)
    with open(work + "/out", "wb") as out:
        run = haul("copy", server.url("/offer"), "-", *PATIENCE, stdout=out)
    assert run.status == 7, run


def test_manifest_verifies_what_the_server_has(haul, nginx, work, here, page):
    haul.trust(nginx)
    source = page(20 * MI)
    manifest = work + "/m.haul.json"
    done(haul.copy(nginx.url("/dump.sql"), here + "/t", "--manifest",
                   manifest), 20 * MI)
    with open(manifest) as f:
        json.load(f)
    assert haul("verify", here + "/t", manifest).status == 0
    assert haul("verify", nginx.url("/dump.sql"), manifest).status == 0
    with open(source, "r+b") as f:
        f.seek(11 * MI)
        byte = f.read(1)[0]
        f.seek(11 * MI)
        f.write(bytes([byte ^ 4]))
    run = haul("verify", nginx.url("/dump.sql"), manifest)
    assert run.status == 7, run


# ---- Logins and redirects ---------------------------------------------------

def test_login_from_netrc(haul, nginx, work, here, page):
    haul.trust(nginx)
    source = page(9 * MI)
    with open(work + "/.netrc", "w") as f:
        f.write("machine 127.0.0.1 login %s password %s\n" %
                http_servers.LOGIN)
    os.chmod(work + "/.netrc", 0o600)
    run = haul.copy(nginx.url("/auth/dump.sql"), here + "/t")
    done(run, 9 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    no_secret(haul, run, http_servers.LOGIN[1])


def test_login_in_the_url_is_taken_with_a_warning(haul, nginx, here, page):
    haul.trust(nginx)
    source = page(9 * MI)
    run = haul.copy(nginx.url("/auth/dump.sql", login=http_servers.LOGIN),
                    here + "/t")
    done(run, 9 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    login = ("%s:%s" % http_servers.LOGIN).encode()
    no_secret(haul, run, http_servers.LOGIN[1],
              base64.b64encode(login).decode())
    assert "password" in run.stderr + warnings(run)


def test_wrong_password_is_exit_5(haul, nginx, here, page):
    haul.trust(nginx)
    page(MI)
    run = haul.copy(nginx.url("/auth/dump.sql", login=("someone", "guessed")),
                    here + "/t")
    failed(run, 5)
    no_secret(haul, run, "guessed")
    assert names(here) == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(haul, nginx, here, page, code):
    haul.trust(nginx)
    source = page(9 * MI)
    run = haul.copy(nginx.url("/to/%d/to/302/dump.sql" % code), here + "/t")
    done(run, 9 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)


def test_token_in_a_query_is_masked(haul, nginx, here, page):
    haul.trust(nginx)
    source = page(MI)
    run = haul.copy(nginx.url("/dump.sql?token=t0psecret&X-Amz-Signature="
                              "s1gned"), here + "/t")
    done(run, MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert nginx.seen()[0]["path"].endswith("s1gned")
    no_secret(haul, run, "t0psecret", "s1gned")


def test_file_beside_the_target_is_not_touched(haul, nginx, here, page):
    haul.trust(nginx)
    source = page(MI)
    shutil.copy(source, here + "/other")
    with open(here + "/t", "w") as f:
        f.write("old")
    done(haul.copy(nginx.url("/dump.sql"), here + "/t"), MI)
    assert names(here) == ["other", "t"]
    assert hashlib.md5(open(here + "/t", "rb").read()).digest() == \
        program_digest("md5", source)
