"""What an HTTP server, a proxy or a certificate can do wrong: the documented
exit status, one line that names it, and no file under the final name."""

import contextlib
import os
import socket
import threading
import time

import conftest
import http_servers
import pytest
import servers
from http_checks import PATIENCE, failed

MI = conftest.MI


@pytest.fixture
def here(work):
    path = os.path.join(work, "here")
    os.mkdir(path)
    return path


def check_none(here):
    assert not os.path.exists(here + "/t"), "partial file"


@contextlib.contextmanager
def peer(say=b"", close=True):
    """Listens, and says this to whom connects; its port."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        held = []

        def serve():
            while True:
                try:
                    c, _ = s.accept()
                except OSError:
                    return
                held.append(c)
                with contextlib.suppress(OSError):
                    c.sendall(say)
                    if close:
                        c.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield s.getsockname()[1]
        s.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for c in held:
            c.close()


# ---- Certificates -----------------------------------------------------------

@pytest.mark.parametrize("way", ["get", "put"])
@pytest.mark.parametrize("door, word", [
    ("expired", "expired"), ("wrong_name", "certificate"),
    ("self_signed", "self-signed")])
def test_bad_certificate_is_exit_5(haul, nginx, here, page, way, door, word):
    haul.trust(nginx)
    source = page(MI)
    port = getattr(nginx, door)
    begin = time.monotonic()
    if way == "get":
        run = haul.copy(nginx.url("/dump.sql", port=port), here + "/t")
    else:
        run = haul.copy(source, nginx.url("/dav/t", port=port))
    failed(run, 5, word)
    assert run.last["hint"]
    assert time.monotonic() - begin < 5, "it was tried again"
    check_none(here)
    assert nginx.seen() == [] and os.listdir(nginx.dav) == []


def test_unknown_authority_is_exit_5(haul, nginx, here, page):
    page(MI)
    run = haul.copy(nginx.url("/dump.sql"), here + "/t")
    failed(run, 5, "--cacert")
    check_none(here)


@pytest.mark.parametrize("content", [None, "", "no certificate\n"])
def test_cacert_that_cannot_be_used_names_it(haul, nginx, work, here, page,
                                             content):
    page(MI)
    haul.cacert = work + "/authority.pem"
    if content is not None:
        with open(haul.cacert, "w") as f:
            f.write(content)
    run = haul.copy(nginx.url("/dump.sql"), here + "/t")
    failed(run, (2, 3, 5), "authority.pem")
    check_none(here)


def test_force_does_not_help_against_a_bad_certificate(haul, nginx, here,
                                                       page):
    haul.trust(nginx)
    page(MI)
    run = haul.copy(nginx.url("/dump.sql", port=nginx.wrong_name),
                    here + "/t", "--force")
    failed(run, 5)


# ---- Statuses ---------------------------------------------------------------

STATUSES = [(400, 6), (401, 5), (403, 6), (404, 6), (405, 6), (407, 5),
            (408, 4), (410, 6), (416, 8), (418, 6), (425, 4), (429, 4),
            (451, 6), (500, 6), (501, 6), (502, 4), (503, 4), (504, 4),
            (507, 6), (599, 6), (204, (4, 6)), (206, 4), (304, (4, 6)),
            (300, (4, 6))]
AGAIN = {408, 425, 429, 500, 501, 502, 503, 504, 599}


@pytest.mark.parametrize("status, exit_status", STATUSES)
def test_status_of_a_download(haul, liar, here, page, status, exit_status):
    page(MI)
    run = haul.copy(liar.url("/dump.sql?lie=status&status=%d" % status),
                    here + "/t", "--retries", 1, "--give-up-after", 5)
    failed(run, exit_status, "127.0.0.1:%d" % liar.port)
    check_none(here)
    assert os.listdir(here) == []
    if status not in AGAIN and status >= 400:
        assert len(liar.seen("GET")) <= 2, "it was tried again"


@pytest.mark.parametrize("status, exit_status", [
    s for s in STATUSES if s[0] >= 400 and s[0] not in (412, 416)])
def test_status_of_an_upload(haul, liar, dump, status, exit_status):
    run = haul.copy(dump(MI), liar.url("/t?lie=status&status=%d" % status),
                    "--retries", 1, "--give-up-after", 5)
    failed(run, exit_status)
    assert run.last["answer"]["status"] == status
    assert run.last["answer"]["body"] == "it says %d\n" % status
    tries = len(liar.seen("PUT"))
    assert tries == 2 if status in AGAIN and status != 501 else tries <= 2


@pytest.mark.parametrize("path, exit_status", [
    ("/forbidden/x", 6), ("/no-such", 6), ("/auth/dump.sql", 5),
    ("/dead/x", 4), ("/cut/x", 4)])
def test_refusals_of_nginx(haul, nginx, here, page, path, exit_status):
    haul.trust(nginx)
    page(MI)
    run = haul.copy(nginx.url(path), here + "/t", *PATIENCE)
    failed(run, exit_status, path)
    check_none(here)


@pytest.mark.parametrize("path", ["/dead/x", "/mute/x", "/cut/x"])
def test_gateway_without_a_server(haul, start, certs, nginx, here, path):
    """503, 504 and 502."""
    gate = start(http_servers.Haproxy, certs, nginx.plain)
    haul.trust(gate)
    run = haul.copy(gate.url(path), here + "/t", "--retries", 1)
    failed(run, 4, path)
    check_none(here)


def test_gateway_that_hangs(haul, start, certs, nginx, here):
    gate = start(http_servers.Haproxy, certs, nginx.plain)
    haul.trust(gate)
    run = haul.copy(gate.url("/hang/x"), here + "/t", *PATIENCE)
    failed(run, 4)
    check_none(here)


# ---- Lies -------------------------------------------------------------------

# Exit statuses that are right when every answer is a lie.
ALWAYS = {
    "length-long&at=0": (4,), "length-short": (4,), "range-other": (4,),
    "range-total": (4, 8), "range-none": (4,), "range-longer": (4,),
    "range-earlier": (4,), "cut&at=0": (4,), "chunk-cut": (4,),
    "gzip": (4, 6), "loop": (4, 6), "headers-endless": (4,),
    "header-long": (4,), "interim": (4,), "garbage": (4,), "empty": (4,),
    "hang-before": (4,), "hang-in&at=0": (4,), "hang-after": (4,),
    "range-text&value=bytes+0-1048575/": (4,),
    "range-text&value=bytes+-5-10/20": (4,),
    "range-text&value=bytes+0-99999999999999999999/*": (4,),
    "range-text&value=lines+0-9/10": (4,),
    "range-text&value=bytes+*/100": (4,),
    "header&name=Content-Length&value=-1": (4,),
    # libcurl takes a length beyond 63 bits for none.
    "header&name=Content-Length&value=99999999999999999999999": (0, 4),
    "header&name=Content-Length&value=12,13": (4,),
    "header&name=Transfer-Encoding&value=chunked": (4,),
    "header&name=Content-Encoding&value=gzip": (4, 6),
}


@pytest.mark.parametrize("lie", sorted(ALWAYS))
def test_server_that_always_lies_ends_the_download(haul, liar, here, page,
                                                   lie):
    source = page(9 * MI)
    begin = time.monotonic()
    run = haul.copy(liar.url("/dump.sql?lie=" + lie), here + "/t",
                    "--stall-timeout", 1, "--give-up-after", 2, "--retries",
                    1)
    assert time.monotonic() - begin < 15
    if run.status == 0 and 0 in ALWAYS[lie]:
        assert conftest.digest(here + "/t") == conftest.digest(source)
        return
    failed(run, ALWAYS[lie])
    check_none(here)
    assert liar.seen("GET")


MUST_SURVIVE = {"cut", "hang-in", "hang-before", "empty", "garbage",
                "length-long", "range-shorter", "surplus", "range-other",
                "range-none", "full"}


@pytest.mark.parametrize("lie", sorted(
    {w.partition("&")[0] for w in ALWAYS if "=" not in w} | MUST_SURVIVE))
def test_one_lie_in_the_middle_is_an_accident(haul, liar, here, page, lie):
    """The bytes are right, or it fails and there is no file."""
    source = page(9 * MI)
    run = haul.copy(liar.url("/dump.sql?first=1&skip=2&at=50000&lie=" + lie),
                    here + "/t", "--chunk-size", "1mi", "--connections", 2,
                    *PATIENCE)
    if lie in MUST_SURVIVE:
        assert run.status == 0, run
    if run.status == 0:
        assert conftest.digest(here + "/t") == conftest.digest(source)
    else:
        failed(run, (4, 6, 8))
        check_none(here)


@pytest.mark.parametrize("lie", ["surplus", "range-shorter", "interim-few"])
def test_oddities_that_are_survived(haul, liar, here, page, lie):
    source = page(9 * MI)
    run = haul.copy(liar.url("/dump.sql?lie=" + lie), here + "/t",
                    *PATIENCE)
    if run.status == 0:
        assert conftest.digest(here + "/t") == conftest.digest(source)
    else:
        failed(run, 4)
        check_none(here)
    assert lie != "interim-few" or run.status == 0, run


def test_gzip_that_nobody_asked_for_is_named(haul, liar, here, page):
    page(MI)
    run = haul.copy(liar.url("/dump.sql?lie=gzip"), here + "/t", *PATIENCE)
    failed(run, (4, 6), "gzip")


def test_body_that_ends_early_every_time_still_makes_progress(haul, liar,
                                                              here, page):
    """Each answer brings something: it goes on until it is through."""
    source = page(4 * MI)
    run = haul.copy(liar.url("/dump.sql?lie=cut&at=1500000"), here + "/t",
                    "--chunk-size", "1mi")
    assert run.status == 0, run
    assert conftest.digest(here + "/t") == conftest.digest(source)


def test_endless_headers_do_not_fill_the_memory(haul, liar, here):
    run = haul.copy(liar.url("/x?lie=status&status=200"), here + "/t")
    for lie in ("headers-endless", "header-long", "interim"):
        open(os.path.join(liar.www, "x"), "w").close()
        run = haul.copy(liar.url("/x?lie=" + lie), here + "/u", "--retries",
                        0, "--give-up-after", 2)
        failed(run, 4)
        assert all(r["sent"] < 8 * MI for r in liar.seen()
                   if lie in r["query"])


@pytest.mark.parametrize("lie", ["garbage", "hang-in&at=100", "interim"])
def test_upload_to_a_liar_fails(haul, liar, dump, lie):
    if lie == "interim":
        lie = "cut-after"
    run = haul.copy(dump(5 * MI), liar.url("/t?lie=" + lie), *PATIENCE)
    failed(run, 4)


# ---- Peers that are not there, or something else ----------------------------

@pytest.mark.parametrize("way", ["get", "put"])
def test_refused_connection_is_exit_4(haul, here, dump, way):
    url = "https://127.0.0.1:%d/t" % servers.free_port()
    args = (url, here + "/t") if way == "get" else (dump(MI), url)
    begin = time.monotonic()
    failed(haul.copy(*args, timeout=20), 4)
    # Nothing has ever answered there: it is a mistake, not an outage.
    assert time.monotonic() - begin < 10
    check_none(here)


def test_name_that_does_not_resolve_is_exit_4(haul, here):
    run = haul.copy("https://no-such-host.invalid/t", here + "/t",
                    "--give-up-after", 2)
    failed(run, 4, "no-such-host.invalid")


def test_tls_to_a_server_without_it(haul, nginx, here, page):
    haul.trust(nginx)
    page(MI)
    run = haul.copy(nginx.url("/dump.sql", port=nginx.plain), here + "/t",
                    *PATIENCE)
    failed(run, (4, 5))
    check_none(here)


def test_no_tls_to_a_server_with_it(haul, nginx, here, page):
    page(MI)
    run = haul.copy(nginx.url("/dump.sql", scheme="http"), here + "/t",
                    *PATIENCE)
    failed(run, 6)
    check_none(here)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("say, close", [(b"", False), (b"", True),
                                        (b"SSH-2.0-x\r\n", True)],
                         ids=["mute", "hang-up", "ssh"])
def test_peer_that_is_no_http_server_is_exit_4(haul, here, scheme, say,
                                               close):
    begin = time.monotonic()
    with peer(say, close) as port:
        run = haul.copy("%s://127.0.0.1:%d/t" % (scheme, port), here + "/t",
                        "--stall-timeout", 1, "--give-up-after", 2,
                        "--retries", 1)
    failed(run, (4, 5) if say else 4)
    assert time.monotonic() - begin < 15
    check_none(here)


@pytest.mark.parametrize("url", ["https:///x", "https://", "https://a b/x",
                                 "https://127.0.0.1:99999/x",
                                 "https://127.0.0.1:0x50/x", "http://[::1/x",
                                 "put+ftp://127.0.0.1/x"])
def test_urls_that_are_none_are_exit_2(haul, here, url):
    assert haul.copy(url, here + "/t").status == 2
    check_none(here)


@pytest.mark.parametrize("args", [
    ("--header", "no colon here"), ("--header", "A: b\r\nX-Evil: 1"),
    ("--header", ": empty"), ("--header", "@/no/such/file"),
    ("--proxy", "gopher://127.0.0.1:1")],
    ids=lambda a: a[1][:12].replace("/", "_"))
def test_options_that_cannot_be_meant(haul, liar, here, page, args):
    page(MI)
    run = haul.copy(liar.url("/dump.sql"), here + "/t", *args)
    assert run.status in (2, 3), run
    assert not run.stderr or "\n\n" not in run.stderr
    check_none(here)
    assert liar.seen() == []


def test_full_local_disk_is_exit_3(haul, nginx, small_disk, page):
    haul.trust(nginx)
    page(40 * MI)
    run = haul.copy(nginx.url("/dump.sql"), small_disk + "/t")
    failed(run, 3)
    assert not os.path.exists(small_disk + "/t")
