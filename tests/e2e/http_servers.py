"""HTTP servers on 127.0.0.1 with certificates of their own; see servers.py.

Standard library only. Nothing is read from or written to the folders of the
distribution's own services. Apache and squid do not serve as root: started by
root, they run as an ordinary user.
"""

import glob
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

from servers import HERE, USER, Daemon, Missing, free_port, program

NOBODY = 65534
LOGIN = ("someone", "open-sesame")


def ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


class Certificates:
    """An authority, what it signed, and what it should not have."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, mode=0o755, exist_ok=True)
        self.ca = self.path("ca.pem")
        self.openssl("req", "-x509", *self.new_key("ca"), "-days", "30",
                     "-subj", "/CN=haul-test-ca", "-out", self.ca,
                     "-addext", "basicConstraints=critical,CA:TRUE")
        names = "DNS:localhost,IP:127.0.0.1,IP:::1"
        self.server = self.sign("server", names)
        self.expired = self.sign("expired", names, days=-1)
        self.wrong_name = self.sign("wrong-name", "DNS:elsewhere.test")
        self.client = self.sign("client", "DNS:client.test")
        self.self_signed = self.own("self-signed", names)
        self.stranger = self.own("stranger", "DNS:stranger.test")

    def path(self, name):
        return os.path.join(self.folder, name)

    def key(self, pem):
        """The key of a certificate of ours."""
        return pem[:-len(".pem")] + ".key"

    def both(self, pem):
        """Certificate and key in one file."""
        path = pem[:-len(".pem")] + ".both"
        with open(path, "w") as out:
            for name in (pem, self.key(pem)):
                with open(name) as f:
                    out.write(f.read())
        return path

    def new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-keyout", self.path(name + ".key")]

    @staticmethod
    def openssl(*args):
        subprocess.run([program("openssl"), *args], check=True,
                       capture_output=True)

    def sign(self, name, names, days=30):
        pem, csr = self.path(name + ".pem"), self.path(name + ".csr")
        self.openssl("req", *self.new_key(name), "-subj", "/CN=" + name,
                     "-addext", "subjectAltName=" + names, "-out", csr)
        self.openssl("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey",
                     self.path("ca.key"), "-CAcreateserial", "-days",
                     str(days), "-copy_extensions", "copy", "-out", pem)
        return pem

    def own(self, name, names):
        pem = self.path(name + ".pem")
        self.openssl("req", "-x509", *self.new_key(name), "-days", "30",
                     "-subj", "/CN=" + name, "-addext",
                     "subjectAltName=" + names, "-out", pem)
        return pem


def password_file(path, mode=0o644):
    """htpasswd with LOGIN."""
    out = subprocess.run(
        [program("openssl"), "passwd", "-apr1", LOGIN[1]], check=True,
        capture_output=True, text=True).stdout
    with open(path, "w") as f:
        f.write("%s:%s\n" % (LOGIN[0], out.strip()))
    os.chmod(path, mode)
    return path


def wait_steady(count, quiet=0.06, timeout=10):
    """What count() gives when it has not changed for a while."""
    end, last, since = time.monotonic() + timeout, count(), time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < quiet:
        time.sleep(0.02)
        now = count()
        if now != last:
            last, since = now, time.monotonic()
    return last


class HttpDaemon(Daemon):
    """www: the folder that is served; dav: the one that is written to."""

    name = "http"
    scheme = "https"

    def __init__(self, folder, certs, www=None):
        super().__init__(folder, certs)
        self.certs = certs
        self.www = www or self.path("www")
        self.dav = self.path("dav")
        for path in (self.www, self.dav):
            os.makedirs(path, exist_ok=True)
        if os.getuid() == 0:
            # For those that run as an ordinary user.
            os.chmod(folder, 0o711)
            os.chmod(self.folder, 0o711)

    def url(self, path, port=None, host="127.0.0.1", login=None,
            scheme=None):
        return "%s://%s%s:%d%s" % (
            scheme or self.scheme, "%s:%s@" % login if login else "", host,
            port or self.port, path)

    def as_user(self, argv, *owned):
        """argv for an ordinary user, who gets the files."""
        if os.getuid():
            return argv
        for path in (self.folder, *owned):
            os.chown(path, NOBODY, NOBODY)
        return [program("setpriv"), "--reuid", str(NOBODY), "--regid",
                str(NOBODY), "--clear-groups", *argv]

    def copied(self, path, mode=0o600):
        """A copy for that user."""
        name = self.path(os.path.basename(path))
        with open(path, "rb") as f, open(name, "wb") as out:
            out.write(f.read())
        os.chmod(name, mode)
        if os.getuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        return name


LOG_FORMAT = """log_format seen escape=json '{"port":"$server_port",'
  '"connection":$connection,"method":"$request_method",'
  '"path":"$request_uri","status":$status,"sent":$body_bytes_sent,'
  '"received":$request_length,"range":"$http_range",'
  '"if_range":"$http_if_range","encoding":"$http_accept_encoding",'
  '"authorization":"$http_authorization","cookie":"$http_cookie",'
  '"expect":"$http_expect","length":"$http_content_length",'
  '"transfer":"$http_transfer_encoding","type":"$http_content_type",'
  '"extra":"$http_x_extra","host":"$http_host","agent":"$http_user_agent",'
  '"none_match":"$http_if_none_match","tls":"$ssl_protocol",'
  '"client":"$ssl_client_s_dn","protocol":"$server_protocol"}';"""

NGINX = """
daemon off; worker_processes 2; pid {dir}/pid; error_log stderr warn;
{user}
events {{ worker_connections 512; }}
http {{
{log_format}
access_log {dir}/access.log seen;
default_type application/octet-stream; sendfile on; tcp_nopush on;
client_body_temp_path {dir}/tmp-b; proxy_temp_path {dir}/tmp-p;
fastcgi_temp_path {dir}/tmp-f; uwsgi_temp_path {dir}/tmp-u;
scgi_temp_path {dir}/tmp-s;
client_max_body_size 0; ssl_protocols TLSv1.3; ssl_session_cache shared:S:1m;
ssl_certificate {certs.server}; ssl_certificate_key {key};
{servers}
}}
"""

LOCATIONS = """
root {www};
location / {{ }}
location /slow/ {{ alias {www}/; limit_rate {slow}; }}
location /norange/ {{ alias {www}/; max_ranges 0; }}
location /noetag/ {{ alias {www}/; etag off; }}
location /novalidator/ {{ alias {www}/; etag off; if_modified_since off;
  add_header Last-Modified ""; }}
location /gz/ {{ alias {www}/; gzip on; gzip_types *; gzip_min_length 1; }}
location /dav/ {{ alias {dav}/; dav_methods PUT DELETE MKCOL MOVE;
  min_delete_depth 0; create_full_put_path on; }}
location /small/ {{ alias {dav}/; dav_methods PUT;
  client_max_body_size 64k; }}
location /auth/ {{ alias {www}/; auth_basic "test";
  auth_basic_user_file {passwords}; }}
location /authdav/ {{ alias {dav}/; dav_methods PUT; auth_basic "test";
  auth_basic_user_file {passwords}; }}
location /forbidden/ {{ return 403; }}
location /cut/ {{ return 444; }}
location /dead/ {{ proxy_pass http://127.0.0.1:{dead}; }}
location ~ ^/to/(?<code>\\d+)(?<rest>/.*) {{
  if ($code = 301) {{ return 301 $rest; }}
  if ($code = 302) {{ return 302 $rest; }}
  if ($code = 303) {{ return 303 $rest; }}
  if ($code = 307) {{ return 307 $rest; }}
  return 308 $rest; }}
location ~ ^/tohttp(?<rest>/.*) {{
  return 302 http://127.0.0.1:{plain}$rest; }}
location ~ ^/toother(?<rest>/.*) {{
  return 307 https://localhost:{other}$rest; }}
location /loop/ {{ return 302 /loop2/x; }}
location /loop2/ {{ return 302 /loop/x; }}
location ~ ^/endless/(?<n>.*) {{ return 302 /endless/1$n; }}
{extra}
"""


class Nginx(HttpDaemon):
    """Many doors to the same files: port (TLS 1.3), plain (no TLS), other (a
    second one with TLS), mutual (wants a client certificate), six ([::1]),
    expired, wrong_name, self_signed; and the sockets unix and unix_tls.
    extra: more lines for them; slow: bytes/s of one request below /slow/."""

    name = "nginx"
    DOORS = ("plain", "other", "mutual", "expired", "wrong_name",
             "self_signed", "dead")

    def __init__(self, folder, certs, www=None, extra=(), slow="2m"):
        super().__init__(folder, certs, www)
        program("nginx")
        self.extra, self.slow = list(extra), slow
        self.six = None
        self.unix = self.path("s")
        self.unix_tls = self.path("t")

    def offer(self, path, file, *headers):
        """Before start(): path is a file of www, with these headers."""
        self.extra.append("location = %s { alias %s; %s }" % (
            path, os.path.join(self.www, file),
            " ".join("add_header %s '%s';" % h for h in headers)))

    def server(self, listen, certificate=None, *more):
        lines = ["listen %s;" % listen, *more]
        if certificate:
            lines += ["ssl_certificate %s;" % certificate,
                      "ssl_certificate_key %s;" % self.certs.key(certificate)]
        return "server { %s include %s; }" % (" ".join(lines),
                                              self.path("locations"))

    def command(self):
        for door in self.DOORS:
            setattr(self, door, free_port())
        self.six = free_port() if ipv6() else None
        for name in (self.unix, self.unix_tls):
            if os.path.exists(name):
                os.unlink(name)
        here = "127.0.0.1:%d"
        lines = [self.server(here % self.port + " ssl"),
                 self.server(here % self.plain),
                 self.server(here % self.other + " ssl"),
                 self.server("unix:" + self.unix),
                 self.server("unix:%s ssl" % self.unix_tls),
                 self.server(here % self.mutual + " ssl", None,
                             "ssl_client_certificate %s;" % self.certs.ca,
                             "ssl_verify_client on;")]
        for name in ("expired", "wrong_name", "self_signed"):
            lines.append(self.server(here % getattr(self, name) + " ssl",
                                     getattr(self.certs, name)))
        if self.six:
            lines.append(self.server("[::1]:%d ssl" % self.six))
        values = {n: getattr(self, n) for n in self.DOORS}
        self.write("locations", LOCATIONS.format(
            www=self.www, dav=self.dav, slow=self.slow,
            passwords=password_file(self.path("passwords")),
            extra="\n".join(self.extra), **values))
        config = self.write("nginx.conf", NGINX.format(
            dir=self.folder, log_format=LOG_FORMAT, certs=self.certs,
            user="" if os.getuid() else "user %s;" % USER,
            key=self.certs.key(self.certs.server), servers="\n".join(lines)))
        return [program("nginx"), "-e", "stderr", "-p", self.folder, "-c",
                config]

    def seen(self, path=None, port=None, begin=0):
        """What was asked, from the begin-th request on; of this path (without
        its query), through this port. A request is noted when it is over."""
        wait_steady(lambda: os.path.getsize(self.path("access.log")))
        with open(self.path("access.log")) as f:
            lines = [json.loads(line) for line in f]
        return [e for e in lines[begin:]
                if (path is None or e["path"].partition("?")[0] == path) and
                (port is None or e["port"] == str(port))]


APACHE = """
ServerRoot {dir}
PidFile {dir}/pid
DefaultRuntimeDir {dir}
ServerName localhost
Listen 127.0.0.1:{port}
Listen 127.0.0.1:{plain}
{modules}
ErrorLog {dir}/error.log
LogLevel warn
DavLockDB {dir}/lock
LimitRequestBody 0
DocumentRoot {www}
ContentDigest On
EnableSendfile Off
StartServers 1
<Directory {www}>
Require all granted
</Directory>
Alias /whole {www}
<Location /whole>
MaxRanges none
</Location>
Alias /dav {dav}
<Directory {dav}>
Dav On
Require all granted
</Directory>
Alias /authdav {dav}
<Location /authdav>
AuthType Basic
AuthName test
AuthUserFile {dir}/passwords
Require valid-user
</Location>
<VirtualHost 127.0.0.1:{port}>
SSLEngine on
SSLCertificateFile {certificate}
SSLCertificateKeyFile {key}
</VirtualHost>
"""


class Apache(HttpDaemon):
    """mod_dav below /dav, Content-MD5 with whole files; plain: without TLS."""

    name = "apache"
    MODULES = "/usr/lib/apache2/modules"
    WANTED = ("mpm_event authz_core authz_user authn_core authn_file "
              "auth_basic ssl socache_shmcb dav dav_fs alias "
              "mime").split()

    def __init__(self, folder, certs, www=None):
        super().__init__(folder, certs, www)
        program("apache2")
        self.plain = 0

    def command(self):
        self.plain = free_port()
        password_file(self.path("passwords"))
        modules = ["LoadModule %s_module %s/mod_%s.so" % (
            m, self.MODULES, m) for m in self.WANTED]
        self.write("types", "", 0o644)
        modules.append("TypesConfig " + self.path("types"))
        config = self.write("apache.conf", APACHE.format(
            dir=self.folder, port=self.port, plain=self.plain, www=self.www,
            dav=self.dav, modules="\n".join(modules),
            certificate=self.copied(self.certs.server),
            key=self.copied(self.certs.key(self.certs.server))), 0o644)
        return self.as_user([program("apache2"), "-DFOREGROUND", "-f",
                             config], self.dav)


HAPROXY = """
global
  maxconn 200
  nbthread 1
defaults
  mode http
  retries 0
  timeout connect 2s
  timeout client 60s
  timeout server 60s
frontend front
  bind 127.0.0.1:{port} ssl crt {both}
  stick-table type string len 100 size 1k expire 10m store gpc0
  http-request track-sc0 path
  http-request sc-inc-gpc0(0)
  acl early sc0_get_gpc0 le {first}
  http-request return status 503 hdr Retry-After 2 if {{ path_beg /busy503/ }} \
early
  http-request return status 429 hdr Retry-After 2 if {{ path_beg /busy429/ }} \
early
  http-request set-path %[path,regsub(^/busy[0-9]+/,/)]
  use_backend dead if {{ path_beg /dead/ }}
  use_backend mute if {{ path_beg /mute/ }}
  use_backend hang if {{ path_beg /hang/ }}
  default_backend files
frontend mutual
  bind 127.0.0.1:{mutual} ssl crt {both} ca-file {ca} verify required
  default_backend files
listen tunnel
  mode tcp
  bind 127.0.0.1:{tunnel} ssl crt {both}
  server t 127.0.0.1:{to}
backend files
  server f 127.0.0.1:{to}
backend dead
  server d 127.0.0.1:{dead}
backend mute
  timeout server 300ms
  server m 127.0.0.1:{mute}
backend hang
  server m 127.0.0.1:{mute}
"""


class Haproxy(HttpDaemon):
    """In front of 127.0.0.1:to, which speaks HTTP without TLS. The first so
    many requests of a path below /busy503/ and /busy429/ are told to come back
    in two seconds, /dead/ gives 503, /mute/ 504, /hang/ nothing. mutual
    insists on a client certificate; tunnel is TLS around what speaks anything.
    """

    name = "haproxy"

    def __init__(self, folder, certs, to, first=1):
        super().__init__(folder, certs)
        program("haproxy")
        self.to, self.first = to, first
        self.silence = None
        self.mutual = self.tunnel = 0

    def command(self):
        if self.silence:
            self.silence.close()
        self.silence = socket.create_server(("127.0.0.1", 0))
        self.mutual, self.tunnel = free_port(), free_port()
        config = self.write("haproxy.cfg", HAPROXY.format(
            port=self.port, mutual=self.mutual, tunnel=self.tunnel,
            both=self.certs.both(self.certs.server), ca=self.certs.ca,
            to=self.to, first=self.first, dead=free_port(),
            mute=self.silence.getsockname()[1]))
        return [program("haproxy"), "-db", "-f", config]

    def stop(self):
        super().stop()
        if self.silence:
            self.silence.close()
            self.silence = None


SQUID = """
http_port 127.0.0.1:{port}
acl denied port {denied}
auth_param basic program {helper} {dir}/passwords
acl known proxy_auth REQUIRED
http_access deny denied
{rule}
http_access deny all
cache deny all
cache_mem 0 MB
maximum_object_size_in_memory 0 KB
memory_pools off
access_log stdio:{dir}/access.log
cache_log {dir}/cache.log
cache_store_log none
netdb_filename none
pid_filename none
coredump_dir {dir}
max_filedescriptors 1024
visible_hostname localhost
shutdown_lifetime 0 seconds
pinger_enable off
dns_nameservers 127.0.0.1
via on
"""


class Squid(HttpDaemon):
    """A proxy that asks for LOGIN (unless auth is False) and never connects to
    the port denied."""

    name = "squid"
    scheme = "http"
    end = signal.SIGKILL  # in order it takes a second and a half
    HELPER = "/usr/lib/squid/basic_ncsa_auth"

    def __init__(self, folder, certs, auth=True, denied=9):
        super().__init__(folder, certs)
        program("squid")
        if not os.path.exists(self.HELPER):
            raise Missing(self.HELPER + " is not installed")
        self.auth, self.denied = auth, denied

    def command(self):
        password_file(self.path("passwords"))
        config = self.write("squid.conf", SQUID.format(
            dir=self.folder, port=self.port, denied=self.denied,
            helper=self.HELPER, rule="http_access allow known" if self.auth
            else "http_access allow all"), 0o644)
        return self.as_user([program("squid"), "-N", "-n",
                             "haul%d" % self.port, "-f", config])

    def stop(self):
        """What is killed leaves its shared memory behind."""
        super().stop()
        for path in glob.glob("/dev/shm/haul%d-*.shm" % self.port):
            os.unlink(path)

    def seen(self):
        """(status, method, what, user) of each request that is over."""
        path = self.path("access.log")
        wait_steady(lambda: os.path.getsize(path)
                    if os.path.exists(path) else 0)
        with open(path) as f:
            lines = [line.split() for line in f]
        return [(int(w[3].rpartition("/")[2]), w[5], w[6], w[7])
                for w in lines]


class Liar(HttpDaemon):
    """tests/e2e/http_liar.py: a server that breaks its word when asked."""

    name = "liar"

    def __init__(self, folder, certs, www=None, tls=False):
        super().__init__(folder, certs, www)
        self.scheme = "https" if tls else "http"

    def command(self):
        argv = [sys.executable, os.path.join(HERE, "http_liar.py"), "--port",
                str(self.port), "--www", self.www, "--store", self.dav]
        if self.scheme == "https":
            argv += ["--certificate", self.certs.server, "--key",
                     self.certs.key(self.certs.server)]
        return argv

    def stats(self):
        """connections; requests: what was asked and answered, in order."""
        trust = ssl.create_default_context(cafile=self.certs.ca)
        with urllib.request.build_opener(
                urllib.request.ProxyHandler({}),
                urllib.request.HTTPSHandler(context=trust)).open(
                    self.url("/_stats"), timeout=10) as answer:
            return json.load(answer)

    def seen(self, method=None):
        """The requests, when nothing changes any more."""
        requests = wait_steady(lambda: self.stats()["requests"])
        return [r for r in requests if method in (None, r["method"])]
