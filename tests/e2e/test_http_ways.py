"""The ways to an HTTP server: proxies, client certificates, headers, sockets,
redirects, and links that are cut."""

import json
import os
import time

import conftest
import http_servers
import pytest
import servers
from http_checks import (PATIENCE, done, failed, no_secret,
                         no_secret_in_title, warnings)

MI = conftest.MI
LOGIN = "%s:%s" % http_servers.LOGIN
SECRET = http_servers.LOGIN[1]


@pytest.fixture
def here(work):
    path = os.path.join(work, "here")
    os.mkdir(path)
    return path


# ---- Proxies ----------------------------------------------------------------

@pytest.fixture
def squid(start, certs, nginx):
    return start(http_servers.Squid, certs, denied=nginx.other)


def proxy_url(squid, login=LOGIN, port=None, scheme="http"):
    return "%s://%s127.0.0.1:%d" % (scheme, login + "@" if login else "",
                                    port or squid.port)


@pytest.mark.parametrize("how", ["option", "https_proxy", "HTTPS_PROXY",
                                 "all_proxy"])
def test_download_through_a_proxy(haul, nginx, squid, here, page, how):
    haul.trust(nginx)
    source = page(9 * MI)
    args, env = (), {}
    if how == "option":
        args = ("--proxy", proxy_url(squid))
    else:
        env = {how: proxy_url(squid)}
    run = haul.copy(nginx.url("/dump.sql"), here + "/t", *args, env=env)
    done(run, 9 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    no_secret(haul, run, SECRET)
    passed = [s for s in squid.seen() if s[0] == 200]
    assert passed and {s[3] for s in passed} == {"someone"}
    # The server is not told the login of the proxy.
    assert {e["authorization"] for e in nginx.seen()} == {""}


@pytest.mark.parametrize("way", ["get", "put"])
def test_http_through_a_proxy(haul, nginx, squid, here, page, way):
    source = page(9 * MI)
    args = ("--proxy", proxy_url(squid))
    if way == "get":
        run = haul.copy(nginx.url("/dump.sql", nginx.plain, scheme="http"),
                        here + "/t", *args)
        final = here + "/t"
    else:
        run = haul.copy(source, nginx.url("/dav/t", nginx.plain,
                                          scheme="http"), *args)
        final = nginx.dav + "/t"
    done(run, 9 * MI)
    assert conftest.digest(final) == conftest.digest(source)
    assert {s[1] for s in squid.seen() if s[0] < 300} == {way.upper()}


def test_upload_through_a_proxy(haul, nginx, squid, dump):
    haul.trust(nginx)
    source = dump(9 * MI)
    run = haul.copy(source, nginx.url("/dav/t"), "--proxy", proxy_url(squid))
    done(run, 9 * MI)
    assert conftest.digest(nginx.dav + "/t") == conftest.digest(source)
    assert "CONNECT" in {s[1] for s in squid.seen()}


def test_https_proxy(haul, start, certs, nginx, squid, here, page):
    front = start(http_servers.Haproxy, certs, squid.port)
    haul.trust(nginx)
    source = page(9 * MI)
    run = haul.copy(nginx.url("/dump.sql"), here + "/t", "--proxy",
                    proxy_url(squid, port=front.tunnel, scheme="https"))
    done(run, 9 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    assert 200 in {s[0] for s in squid.seen()}


def test_https_proxy_with_a_bad_certificate_is_exit_5(haul, start, certs,
                                                      nginx, squid, here):
    front = start(http_servers.Haproxy, certs, squid.port)
    run = haul.copy(nginx.url("/dump.sql"), here + "/t", "--proxy",
                    proxy_url(squid, port=front.tunnel, scheme="https"))
    failed(run, 5)
    no_secret(haul, run, SECRET)


@pytest.mark.parametrize("login", ["", "someone:guessed"])
@pytest.mark.parametrize("door", ["port", "plain"])
def test_proxy_that_wants_another_login_is_exit_5(haul, nginx, squid, here,
                                                  page, login, door):
    haul.trust(nginx)
    page(MI)
    url = nginx.url("/dump.sql", getattr(nginx, door),
                    scheme="https" if door == "port" else "http")
    run = haul.copy(url, here + "/t", "--proxy", proxy_url(squid, login),
                    *PATIENCE)
    failed(run, 5, "proxy")
    no_secret(haul, run, "guessed")
    assert 407 in {s[0] for s in squid.seen()}
    assert nginx.seen() == [] and os.listdir(here) == []


def test_proxy_that_refuses_is_exit_6(haul, nginx, squid, here, page):
    haul.trust(nginx)
    page(MI)
    run = haul.copy(nginx.url("/dump.sql", port=nginx.other), here + "/t",
                    "--proxy", proxy_url(squid), *PATIENCE)
    failed(run, 6, "proxy")
    assert 403 in {s[0] for s in squid.seen()}


def test_proxy_that_is_not_there_is_exit_4(haul, nginx, here, page):
    haul.trust(nginx)
    page(MI)
    run = haul.copy(nginx.url("/dump.sql"), here + "/t", "--proxy",
                    "http://127.0.0.1:%d" % servers.free_port(), *PATIENCE)
    failed(run, 4, "proxy")
    assert nginx.seen() == []


def test_proxy_to_a_server_that_is_not_there_is_exit_4(haul, nginx, squid,
                                                       here):
    haul.trust(nginx)
    run = haul.copy("https://127.0.0.1:%d/x" % servers.free_port(),
                    here + "/t", "--proxy", proxy_url(squid), *PATIENCE)
    failed(run, 4)


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("value", ["127.0.0.1", "*", "x.test,127.0.0.1"])
def test_no_proxy_goes_around_it(haul, nginx, here, page, name, value):
    haul.trust(nginx)
    page(MI)
    dead = "http://127.0.0.1:%d" % servers.free_port()
    run = haul.copy(nginx.url("/dump.sql"), here + "/t",
                    env={"https_proxy": dead, name: value})
    done(run, MI)


def test_login_of_a_proxy_leaves_the_process_title(haul, nginx, squid,
                                                   linksim, here, page):
    link = linksim(nginx, "--rate", "3m")
    haul.trust(link)
    page(6 * MI)
    run = haul.start("copy", link.url("/dump.sql"), here + "/t",
                     "--proxy=" + proxy_url(squid))
    no_secret_in_title(run, SECRET)
    assert run.wait() == 0, run
    no_secret(haul, run, SECRET)


# ---- Client certificates ----------------------------------------------------

@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
@pytest.mark.parametrize("way", ["get", "put"])
def test_client_certificate(haul, start, certs, nginx, here, page, kind, way):
    haul.trust(nginx)
    server = nginx if kind == "nginx" else start(http_servers.Haproxy, certs,
                                                 nginx.plain)
    source = page(9 * MI)
    options = ("--cert", certs.client, "--key", certs.key(certs.client))
    if way == "get":
        run = haul.copy(server.url("/dump.sql", port=server.mutual),
                        here + "/t", *options)
        final = here + "/t"
    else:
        run = haul.copy(source, server.url("/dav/t", port=server.mutual),
                        *options)
        final = nginx.dav + "/t"
    done(run, 9 * MI)
    assert conftest.digest(final) == conftest.digest(source)
    if kind == "nginx":
        assert {e["client"] for e in nginx.seen()} == {"CN=client"}


def test_certificate_and_key_in_one_file(haul, nginx, certs, here, page):
    haul.trust(nginx)
    page(MI)
    done(haul.copy(nginx.url("/dump.sql", port=nginx.mutual), here + "/t",
                   "--cert", certs.both(certs.client)), MI)


@pytest.mark.parametrize("who", [None, "stranger"])
def test_server_that_wants_another_client_certificate_is_exit_5(
        haul, start, certs, nginx, here, page, who):
    gate = start(http_servers.Haproxy, certs, nginx.plain)
    haul.trust(gate)
    page(MI)
    options = ("--cert", certs.stranger, "--key",
               certs.key(certs.stranger)) if who else ()
    run = haul.copy(gate.url("/dump.sql", port=gate.mutual), here + "/t",
                    *options, *PATIENCE)
    failed(run, 5, "certificate")
    assert nginx.seen() == [] and os.listdir(here) == []


def test_nginx_without_the_client_certificate_refuses(haul, nginx, here,
                                                      page):
    """With status 400, after the handshake."""
    haul.trust(nginx)
    page(MI)
    run = haul.copy(nginx.url("/dump.sql", port=nginx.mutual), here + "/t",
                    *PATIENCE)
    failed(run, (5, 6))


def test_client_certificate_that_is_not_there_is_named(haul, nginx, certs,
                                                       work, here, page):
    haul.trust(nginx)
    page(MI)
    url = nginx.url("/dump.sql", port=nginx.mutual)
    run = haul.copy(url, here + "/t", "--cert", work + "/mine.pem", *PATIENCE)
    failed(run, (2, 3, 5), "mine.pem")
    run = haul.copy(url, here + "/t", "--cert", certs.client, "--key",
                    certs.key(certs.stranger), *PATIENCE)
    failed(run, (2, 3, 5))


# ---- Headers ----------------------------------------------------------------

@pytest.mark.parametrize("way", ["get", "put"])
def test_headers_are_sent(haul, nginx, work, here, page, way):
    haul.trust(nginx)
    source = page(MI)
    with open(work + "/headers", "w") as f:
        f.write("Authorization: Bearer t0ken\nCookie: a=b; c=d\n")
    options = ("--header", "X-Extra: one, two", "--header",
               "@" + work + "/headers")
    if way == "get":
        run = haul.copy(nginx.url("/dump.sql"), here + "/t", *options)
    else:
        run = haul.copy(source, nginx.url("/dav/t"), *options)
    done(run, MI)
    for e in nginx.seen():
        assert e["extra"] == "one, two"
        assert e["authorization"] == "Bearer t0ken"
        assert e["cookie"] == "a=b; c=d"
    no_secret(haul, run, "t0ken")


def test_header_on_the_command_line_is_wiped_and_warned_of(haul, nginx,
                                                           linksim, here,
                                                           page):
    link = linksim(nginx, "--rate", "3m")
    haul.trust(link)
    page(6 * MI)
    run = haul.start("copy", link.url("/dump.sql"), here + "/t", "--header",
                     "Authorization: Bearer t0ken",
                     "--header=Cookie: s3ssion")
    no_secret_in_title(run, "t0ken", "s3ssion")
    assert run.wait() == 0, run
    no_secret(haul, run, "t0ken", "s3ssion")
    assert "--header" in run.stderr + warnings(run)


def test_own_user_agent_and_type_replace_ours(haul, nginx, dump):
    haul.trust(nginx)
    done(haul.copy(dump(MI), nginx.url("/dav/t"), "--header",
                   "User-Agent: mine/1", "--header",
                   "Content-Type: application/x-dump"), MI)
    for e in nginx.seen():
        assert e["agent"] == "mine/1"
        if e["method"] == "PUT":
            assert e["type"] == "application/x-dump"


def test_user_agent_is_haul(haul, nginx, here, page):
    haul.trust(nginx)
    page(MI)
    done(haul.copy(nginx.url("/dump.sql"), here + "/t"), MI)
    assert all(e["agent"].startswith("haul") for e in nginx.seen())


# ---- Sockets and addresses --------------------------------------------------

@pytest.mark.parametrize("way", ["get", "put"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_unix_socket(haul, nginx, here, page, scheme, way):
    haul.trust(nginx)
    source = page(9 * MI)
    name = nginx.unix if scheme == "http" else nginx.unix_tls
    url = scheme + "://localhost"
    if way == "get":
        run = haul.copy(url + "/dump.sql", here + "/t", "--unix-socket", name)
        final = here + "/t"
    else:
        run = haul.copy(source, url + "/dav/t", "--unix-socket", name)
        final = nginx.dav + "/t"
    done(run, 9 * MI)
    assert conftest.digest(final) == conftest.digest(source)


def test_unix_socket_that_is_not_there_is_exit_4(haul, work, here):
    run = haul.copy("http://localhost/x", here + "/t", "--unix-socket",
                    work + "/nobody", *PATIENCE)
    failed(run, (3, 4), "nobody")


@pytest.mark.parametrize("way", ["get", "put"])
def test_ipv6(haul, nginx, here, page, way):
    if not nginx.six:
        pytest.skip("no IPv6 on this machine")
    haul.trust(nginx)
    source = page(9 * MI)
    if way == "get":
        run = haul.copy(nginx.url("/dump.sql", nginx.six, host="[::1]"),
                        here + "/t")
        final = here + "/t"
    else:
        run = haul.copy(source, nginx.url("/dav/t", nginx.six, host="[::1]"))
        final = nginx.dav + "/t"
    done(run, 9 * MI)
    assert conftest.digest(final) == conftest.digest(source)


# ---- Retry-After ------------------------------------------------------------

@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("way", ["get", "put"])
def test_retry_after_is_honoured(haul, start, certs, nginx, here, page,
                                 status, way):
    gate = start(http_servers.Haproxy, certs, nginx.plain)
    haul.trust(gate)
    source = page(MI)
    begin = time.monotonic()
    if way == "get":
        run = haul.copy(gate.url("/busy%d/dump.sql" % status), here + "/t")
        final = here + "/t"
    else:
        run = haul.copy(source, gate.url("/busy%d/dav/t" % status))
        final = nginx.dav + "/t"
    done(run, MI)
    assert 2 <= time.monotonic() - begin < 10
    assert conftest.digest(final) == conftest.digest(source)


def test_retry_after_in_the_middle(haul, liar, here, page):
    """All wait, and what was there stays."""
    source = page(9 * MI)
    begin = time.monotonic()
    run = haul.copy(liar.url("/dump.sql?lie=status&status=503&after=2&skip=3"
                             "&first=1"), here + "/t", "--chunk-size",
                    "256ki", "--connections", 1)
    done(run, 9 * MI)
    assert conftest.digest(here + "/t") == conftest.digest(source)
    seen = liar.seen("GET")
    busy = [i for i, r in enumerate(seen) if r["status"] == 503]
    assert len(busy) <= 1
    if busy:
        assert time.monotonic() - begin >= 2
        later = [r["begin"] - seen[busy[0]]["begin"]
                 for r in seen[busy[0] + 1:]]
        assert later and min(later) >= 1.9


# ---- Redirects --------------------------------------------------------------

@pytest.mark.parametrize("way", ["get", "put"])
def test_never_from_https_down_to_http(haul, nginx, here, page, way):
    haul.trust(nginx)
    source = page(MI)
    args = (nginx.url("/tohttp/dump.sql"), here + "/t") if way == "get" \
        else (source, nginx.url("/tohttp/dav/t"))
    run = haul.copy(*args, *PATIENCE)
    assert run.status not in (0, 1, 2, 3), run
    failed(run, run.status)
    assert nginx.seen(port=nginx.plain) == []
    assert os.listdir(here) == [] and os.listdir(nginx.dav) == []


@pytest.mark.parametrize("how", ["url", "netrc", "header"])
@pytest.mark.parametrize("way", ["get", "put"])
def test_no_credentials_to_another_host(haul, nginx, work, here, page, how,
                                        way):
    haul.trust(nginx)
    source = page(5 * MI)
    login, options = None, ()
    if how == "url":
        login = http_servers.LOGIN
    elif how == "netrc":
        with open(work + "/.netrc", "w") as f:
            f.write("machine 127.0.0.1 login %s password %s\n" %
                    http_servers.LOGIN)
    else:
        with open(work + "/headers", "w") as f:
            f.write("Authorization: Bearer t0ken\nCookie: s3ssion\n"
                    "X-Extra: k3y\n")
        options = ("--header", "@" + work + "/headers")
    if way == "get":
        run = haul.copy(nginx.url("/toother/dump.sql", login=login),
                        here + "/t", *options)
        final = here + "/t"
    else:
        run = haul.copy(source, nginx.url("/toother/dav/t", login=login),
                        *options)
        final = nginx.dav + "/t"
    done(run, 5 * MI)
    assert conftest.digest(final) == conftest.digest(source)
    second = nginx.seen(port=nginx.other)
    assert second
    for e in second:
        assert (e["authorization"], e["cookie"], e["extra"]) == ("", "", "")
        assert e["host"] == "localhost:%d" % nginx.other
    if how == "header":
        assert {e["cookie"] for e in nginx.seen(port=nginx.port)} == {
            "s3ssion"}


@pytest.mark.parametrize("path", ["/loop/x", "/endless/1"])
@pytest.mark.parametrize("way", ["get", "put"])
def test_redirects_without_end_are_ended(haul, nginx, here, dump, path, way):
    haul.trust(nginx)
    url = nginx.url(path)
    args = (url, here + "/t") if way == "get" else (dump(MI), url)
    failed(haul.copy(*args, *PATIENCE), (4, 6))
    assert len(nginx.seen()) <= 40
    assert os.listdir(here) == []


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/x", "file:///etc/hostname",
                                "sftp://127.0.0.1/x", "", "http://",
                                "//", "https://user:pw@127.0.0.1:1/",
                                "gopher://x", "%00", "http:///x"])
def test_redirects_to_what_is_no_web_address(haul, liar, here, page, to):
    page(MI)
    run = haul.copy(liar.url("/dump.sql?lie=redirect&to=" + to), here + "/t",
                    *PATIENCE)
    failed(run, (4, 6))
    assert os.listdir(here) == []
    no_secret(haul, run, "user:pw")


# ---- Links that are cut -----------------------------------------------------

# In the connection, the handshake, the head, the body, at its end.
MOMENTS = [1, 600, 1500, 3000, 5000, 40000, 3000000, 5242000] + (
    list(range(200, 12000, 100)) if conftest.LONG else [])


@pytest.mark.parametrize("after", MOMENTS)
@pytest.mark.parametrize("way", ["get", "put"])
def test_link_that_is_cut_once(haul, nginx, linksim, here, page, after, way):
    """It goes on in the same run, or in the next."""
    link = linksim(nginx, "--reset-after", after)
    haul.trust(link)
    source = page(5 * MI)
    if way == "get":
        args, final = (link.url("/dump.sql"), here + "/t"), here + "/t"
    else:
        args, final = (source, link.url("/dav/t")), nginx.dav + "/t"
    run = haul.copy(*args)
    if run.status:
        failed(run, 4)
        assert not os.path.exists(final)
        assert after < 6000, "it had worked before"
        run = haul.copy(*args)
    # One by the link; a connection that is done with may end in one too.
    assert link.stats()["resets"] in (1, 2)
    done(run, 5 * MI)
    assert conftest.digest(final) == conftest.digest(source)


@pytest.mark.parametrize("way", ["get", "put"])
@pytest.mark.parametrize("state", ["start", "opening", "moving", "checking",
                                   "committing"])
def test_killed_in_every_state(haul, nginx, linksim, here, page, state, way):
    link = linksim(nginx, "--rtt", 20, "--rate", "60m")
    haul.trust(link)
    source = page(5 * MI)
    if way == "get":
        args, final = (link.url("/dump.sql"), here + "/t"), here + "/t"
    else:
        args, final = (source, link.url("/dav/t")), nginx.dav + "/t"
    run = haul.start("copy", *args)
    run.wait_for(lambda e: state in (e["event"], e.get("state")))
    run.kill()
    run.wait()
    if os.path.exists(final):
        assert conftest.digest(final) == conftest.digest(source)
    run = haul.copy(*args)
    assert run.status == 0, run
    assert conftest.digest(final) == conftest.digest(source)
    assert os.listdir(os.path.dirname(final)) == ["t"]


def test_resets_are_survived_in_one_run(haul, nginx, linksim, here, page):
    link = linksim(nginx, "--reset-after", "9mi", "--repeat", "--rtt", 5)
    haul.trust(link)
    source = page(40 * MI)
    done(haul.copy(link.url("/dump.sql"), here + "/t"), 40 * MI)
    assert link.stats()["resets"] >= 3
    assert conftest.digest(here + "/t") == conftest.digest(source)


@pytest.mark.parametrize("way", ["get", "put"])
def test_stalled_link_is_dropped_and_tried_again(haul, nginx, linksim, here,
                                                 page, way):
    link = linksim(nginx, "--stall-after", "5mi", "--rtt", 5)
    haul.trust(link)
    # More than all buffers on the way hold.
    size = 60 * MI
    source = page(size)
    if way == "get":
        args, final = (link.url("/dump.sql"), here + "/t"), here + "/t"
    else:
        args, final = (source, link.url("/dav/t")), nginx.dav + "/t"
    begin = time.monotonic()
    done(haul.copy(*args, "--stall-timeout", 2), size)
    assert 2 <= time.monotonic() - begin < 15
    assert conftest.digest(final) == conftest.digest(source)


def test_server_that_is_away_for_two_seconds(haul, nginx, linksim, here,
                                             page):
    link = linksim(nginx, "--rate", "20m")
    haul.trust(link)
    source = page(20 * MI)
    run = haul.start("copy", link.url("/dump.sql"), here + "/t")
    run.wait_acked(4 * MI)
    port = nginx.port
    nginx.stop()
    time.sleep(2)
    nginx.start(port)
    assert run.wait(40) == 0, run
    assert conftest.digest(here + "/t") == conftest.digest(source)


def test_flipped_bits_do_not_arrive(haul, nginx, linksim, here, page):
    link = linksim(nginx, "--flip-at", "5mi", "--each", "--dir", "down")
    haul.trust(link)
    source = page(16 * MI)
    haul.copy(link.url("/dump.sql"), here + "/t", "--connections", 1,
              *PATIENCE)
    if os.path.exists(here + "/t"):
        assert conftest.digest(here + "/t") == conftest.digest(source)


def test_events_of_a_relay_name_both_ends(haul, nginx, apache, page):
    haul.trust(nginx)
    page(5 * MI)
    run = haul.copy(nginx.url("/dump.sql"), apache.url("/dav/t"))
    done(run, 5 * MI)
    assert run.last["source"] == nginx.url("/dump.sql")
    assert run.last["target"] == apache.url("/dav/t")
    json.dumps(run.last)
