/*
 * Statuses of HTTP and codes of libcurl in our words (http_header.h). Pure,
 * any thread.
 */
#include <curl/curl.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http_header.h"

/* Bytes of a name in a message: what is wrong must stand behind it. */
#define NAME_MAX_SHOWN 150

struct failure {
    int code;
    const char *why, *hint; /* hint may be NULL */
};

/* "cannot read 'NAME': WHY", with the hint. Returns the code. The first cause
 * stays (hl_err()). */
static int set_error(struct hl_error *err, const struct failure *f, int status,
                     const struct hl_http_subject *subject, const char *detail)
{
    char name[NAME_MAX_SHOWN];

    if (!err || err->code)
        return f->code;
    hl_escape(name, sizeof(name), subject->name);
    hl_err(err, f->code, 0, "cannot %s '%s': %s", subject->verb, name, f->why);
    err->proto_status = status;
    hl_err_detail(err, "%s", detail);
    if (f->hint)
        hl_err_hint(err, "%s", f->hint);
    return f->code;
}

/* ---- Statuses ----------------------------------------------------------- */

struct status {
    int status, code;
    const char *why;
    const char *hint, *write_hint; /* or NULL; of a write if it differs */
};

#define HINT_PROXY_LOGIN                                                       \
    "Check user and password of the proxy: "                                   \
    "--proxy http://user:password@host:port."

/* Statuses of RFC 9110 15, RFC 6585, RFC 4918 11 and RFC 7725. */
static const struct status statuses[] = {
    {400, HAUL_E_REMOTE, "the server does not understand the request",
     "Check the address and what --header adds.", NULL},
    {401, HAUL_E_AUTH, "the server wants a login",
     "Name a user in the URL (https://user@host/...) or in ~/.netrc, or give "
     "a token with --header @FILE.",
     NULL},
    {402, HAUL_E_REMOTE, "the server wants a payment", NULL, NULL},
    {403, HAUL_E_REMOTE, "no permission",
     "No login was sent: the server may want one, or a signed address has "
     "expired, or nobody may do this.",
     NULL},
    {404, HAUL_E_REMOTE, "not found", "Check the address.",
     "Check the address: the folder must exist."},
    {405, HAUL_E_REMOTE, "the server does not allow this there",
     "Check that the address is one of a file.",
     "Check that the address takes uploads, and whether it wants PUT "
     "(put+https://) or POST (post+https://)."},
    {406, HAUL_E_REMOTE, "the server has nothing acceptable",
     "Check what --header adds.", NULL},
    {407, HAUL_E_AUTH, "the proxy wants a login", HINT_PROXY_LOGIN, NULL},
    {408, HAUL_E_REMOTE_BUSY, "the server waited too long for the request",
     NULL, NULL},
    {409, HAUL_E_REMOTE, "conflict with what is there",
     "Look at what is there on the server.",
     "On WebDAV the folder does not exist yet; elsewhere look at what is "
     "there."},
    {410, HAUL_E_REMOTE, "gone",
     "It has been removed, or the address has expired: get a new one.", NULL},
    {411, HAUL_E_REMOTE, "the server wants a length",
     "The size of this source is not known: write it to a file first and send "
     "that.",
     NULL},
    {412, HAUL_E_EXISTS, "a condition does not hold",
     "Look whether it has changed on the server.",
     "It exists already: remove it there, or leave --no-clobber out."},
    {413, HAUL_E_REMOTE, "too large for the server",
     "Raise the server's limit for bodies (nginx: client_max_body_size, "
     "Apache: LimitRequestBody) or send it another way.",
     NULL},
    {414, HAUL_E_REMOTE, "the address is too long for the server", NULL, NULL},
    {415, HAUL_E_REMOTE, "the server does not take this type of content",
     "Name the type with --header 'Content-Type: TYPE'.", NULL},
    {416, HAUL_E_CHANGED, "the range is not there any more",
     "The source became shorter: run the same command again when nobody "
     "writes it.",
     NULL},
    {417, HAUL_E_REMOTE, "the server does not fulfil an expectation",
     "Leave 'Expect' out of --header; otherwise something on the way does not "
     "know '100-continue'.",
     NULL},
    {421, HAUL_E_REMOTE, "the server is not the one for this address",
     "Check the host name and --unix-socket.", NULL},
    {422, HAUL_E_REMOTE, "the server refuses the content", NULL, NULL},
    {423, HAUL_E_REMOTE, "locked on the server",
     "Wait until the lock is gone, or remove it there.", NULL},
    {425, HAUL_E_REMOTE_BUSY, "too early for the server", NULL, NULL},
    {426, HAUL_E_REMOTE, "the server wants another protocol",
     "haul speaks HTTP/1.1: the server, or what stands before it, has to "
     "take that.",
     NULL},
    {428, HAUL_E_REMOTE, "the server wants a condition",
     "Give it with --header, as 'If-Match: \"TAG\"'.", NULL},
    {429, HAUL_E_REMOTE_BUSY, "too many requests for the server",
     "Fewer connections may help: --connections 1.", NULL},
    {431, HAUL_E_REMOTE, "the headers are too large for the server",
     "Shorten the address and what --header adds.", NULL},
    {451, HAUL_E_REMOTE, "not available for legal reasons", NULL, NULL},
    {500, HAUL_E_REMOTE_IO, "the server failed",
     "The log of the server says why.", NULL},
    {501, HAUL_E_REMOTE, "the server cannot do this", NULL,
     "Check whether it wants PUT (put+https://) or POST (post+https://)."},
    {502, HAUL_E_REMOTE_BUSY, "the server behind the server gave no answer",
     "Look at the server behind the one of this address.", NULL},
    {503, HAUL_E_REMOTE_BUSY, "the server is busy",
     "Run the same command again later.", NULL},
    {504, HAUL_E_REMOTE_BUSY, "the server behind the server is too slow",
     "Look at the server behind the one of this address, and at the time it "
     "is given.",
     NULL},
    {505, HAUL_E_REMOTE, "the server does not speak HTTP/1.1", NULL, NULL},
    {507, HAUL_E_REMOTE_FULL, "no space left on the server",
     "Free some space there and run the same command again.", NULL},
    {511, HAUL_E_REMOTE, "the network wants a login",
     "Open any page in a browser of this network and log in there.", NULL},
};

/* With an answer for every number. */
static struct status find_status(int number)
{
    struct status other = {number, HAUL_E_PROTO, "unexpected answer", NULL,
                           NULL};
    size_t i;

    for (i = 0; i < HL_LEN(statuses); i++)
        if (statuses[i].status == number)
            return statuses[i];
    if (number >= 300 && number < 400) {
        other.code = HAUL_E_REMOTE;
        other.why = "unexpected redirect";
    } else if (number >= 400 && number < 500) {
        other.code = HAUL_E_REMOTE;
        other.why = "the server refuses";
    } else if (number >= 500 && number < 600) {
        other.code = HAUL_E_REMOTE_IO;
        other.why = "the server failed";
    }
    return other;
}

/* What depends on who asks. */
static const char *hint_of(const struct status *s,
                           const struct hl_http_subject *subject)
{
    if (s->status == 401 && subject->credentials)
        return "User, password or token were refused: check them.";
    if (s->status == 403 && subject->credentials)
        return "Either the login is wrong or expired, or it has no permission "
               "for this: check both.";
    if (s->status == 407 && !subject->proxy)
        return "haul used no proxy: one stands between this machine and the "
               "server; name it with --proxy.";
    if ((s->status == 502 || s->status == 503 || s->status == 504) &&
        subject->proxy)
        return "The answer may be one of the proxy: check that it reaches the "
               "server.";
    return s->write_hint && strcmp(subject->verb, "write") == 0 ? s->write_hint
                                                                : s->hint;
}

/* Is it a line that a person can read? */
static bool is_text(const char *s, size_t len)
{
    bool word = false;
    size_t i;

    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f || c == '<')
            return false;
        word |= (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                (c >= 'a' && c <= 'z') || c >= 0x80;
    }
    return word;
}

/* Text of the element that name begins ("<title>"), if it is in one line. */
static size_t element_text(const char **body, const char *name)
{
    const char *s = strcasestr(*body, name);
    size_t len;

    if (!s)
        return 0;
    s += strlen(name);
    len = strcspn(s, "<");
    if (!is_text(s, len))
        return 0;
    *body = s;
    return len;
}

/* What a body says to people, and its bytes: its first line with a letter or
 * digit; of markup the one element that has it (S3 and Azure, or a page). */
static size_t find_words(const char **body)
{
    static const char mark[] = "\xef\xbb\xbf"; /* of the byte order */
    const char *s = *body;
    size_t len, size;

    s += strncmp(s, mark, 3) == 0 ? 3 : 0;
    s += strspn(s, " \t\r\n");
    if (*s == '<') {
        len = element_text(body, "<Message>");
        return len ? len : element_text(body, "<title>");
    }
    for (; *s; s += size + strspn(s + size, " \t\r\n")) {
        size = strcspn(s, "\r\n");
        if (is_text(s, size)) {
            *body = s;
            return size;
        }
    }
    return 0;
}

int hl_http_status_error(int status, const struct hl_http_subject *subject,
                         const char *body, struct hl_error *err)
{
    struct status s = find_status(status);
    struct failure f = {s.code, s.why, hint_of(&s, subject)};
    size_t len = body ? find_words(&body) : 0;
    char detail[sizeof(err->detail) + sizeof("HTTP status 2147483647: ")];

    snprintf(detail, sizeof(detail), "HTTP status %d%s%.*s", status,
             len ? ": " : "", (int)hl_min(len, sizeof(err->detail)),
             len ? body : "");
    return set_error(err, &f, status, subject, detail);
}

/* ---- Certificates ------------------------------------------------------- */

struct cert {
    long verify;      /* X509_V_ERR_* */
    const char *text; /* in libcurl's text, when it gives no number */
    const char *why, *hint;
};

#define HINT_EXPIRED                                                           \
    "The server needs a new certificate; check also the clock of this "        \
    "machine."
#define HINT_SELF                                                              \
    "If it is the right server, give its certificate with --cacert FILE."
#define HINT_ISSUER                                                            \
    "Give the certificate of the authority that issued it with --cacert "      \
    "FILE; or the server does not send its intermediate certificate."

/* The texts are those of OpenSSL 1.1 and 3 and of libcurl's name check. */
static const struct cert certs[] = {
    {X509_V_ERR_CERT_HAS_EXPIRED, "certificate has expired",
     "the certificate of the server has expired", HINT_EXPIRED},
    {X509_V_ERR_CERT_NOT_YET_VALID, "certificate is not yet valid",
     "the certificate of the server is not yet valid",
     "Check the clock of this machine, then the certificate."},
    {X509_V_ERR_HOSTNAME_MISMATCH, "subject name",
     "the certificate of the server is for another host name",
     "Use a name that stands in the certificate, or give the server one for "
     "this name."},
    {X509_V_ERR_IP_ADDRESS_MISMATCH, "IP address mismatch",
     "the certificate of the server is for another address",
     "Use the host name that stands in the certificate."},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "self-signed certificate",
     "the certificate of the server is self-signed", HINT_SELF},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "self signed certificate",
     "the certificate of the server is self-signed", HINT_SELF},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, "certificate in certificate chain",
     "the certificate of the server comes from an unknown authority",
     HINT_ISSUER},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "issuer certificate",
     "the certificate of the server comes from an unknown authority",
     HINT_ISSUER},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, "issuer certificate",
     "the certificate of the server comes from an unknown authority",
     HINT_ISSUER},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, "verify the first certificate",
     "the certificate of the server comes from an unknown authority",
     HINT_ISSUER},
    {X509_V_ERR_CERT_REVOKED, "certificate revoked",
     "the certificate of the server has been revoked",
     "Do not go on before it is known why."},
    {X509_V_ERR_EE_KEY_TOO_SMALL, "key too small",
     "the certificate of the server has too small a key",
     "The server needs a certificate with a larger key."},
};

static const struct cert *find_cert(long verify, const char *text)
{
    static const struct cert other = {
        0, "", "the certificate of the server cannot be trusted",
        "See the detail for what libcurl says of it."};
    const struct cert *found = NULL;
    size_t i;

    for (i = 0; i < HL_LEN(certs) && verify; i++)
        if (certs[i].verify == verify)
            return &certs[i];
    /* "self-signed certificate in certificate chain" has two of them; the
     * later one says more. */
    for (i = 0; i < HL_LEN(certs); i++)
        if (strcasestr(text, certs[i].text))
            found = &certs[i];
    return found ? found : &other;
}

/* ---- Codes of libcurl --------------------------------------------------- */

static bool has_any(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcasestr(text, *words))
            return true;
    return false;
}

/* A handshake that failed: cut, or no agreement. */
static struct failure tls_failure(const char *text)
{
    static const char *const lost[] = {
        "SYSCALL",     "ZERO_RETURN", "reset by", "unexpected eof",
        "broken pipe", "timed out",   "timeout",  NULL};
    static const char *const plain[] = {"wrong version number", "http request",
                                        "packet length too long",
                                        "record layer failure", NULL};
    static const char *const client[] = {"certificate required",
                                         "bad certificate",
                                         "certificate unknown",
                                         "unknown ca",
                                         "handshake failure",
                                         "access denied",
                                         NULL};

    if (has_any(text, lost))
        return (struct failure){
            HAUL_E_RESET, "the connection was lost while TLS began", NULL};
    if (has_any(text, plain))
        return (struct failure){HAUL_E_TLS, "the server does not speak TLS",
                                "Check the port, and whether the address "
                                "begins with http://."};
    if (has_any(text, client))
        return (struct failure){HAUL_E_TLS, "the server refused TLS",
                                "It may want a client certificate: --cert "
                                "FILE and --key FILE."};
    return (struct failure){HAUL_E_TLS, "TLS failed",
                            "Server and client may have no version or cipher "
                            "in common."};
}

static struct failure timeout_failure(const char *text)
{
    if (strncmp(text, "Resolving", 9) == 0)
        return (struct failure){HAUL_E_RESOLVE,
                                "the host name was not found in time",
                                "Check the name servers of this machine."};
    if (strncmp(text, "Operation", 9) == 0)
        return (struct failure){HAUL_E_STALLED, "no answer in time", NULL};
    return (struct failure){HAUL_E_CONNECT, "no connection in time",
                            "Check address, port, firewall and whether a "
                            "proxy is needed (--proxy)."};
}

/* With TLS 1.3 a server's no to the client's certificate comes after the
 * handshake. */
static struct failure io_failure(const char *text)
{
    static const char *const wrong[] = {"chunk", "too large", NULL};
    static const char *const client[] = {
        "alert certificate", "alert unknown ca", "alert bad certificate",
        "alert access denied", NULL};

    if (has_any(text, client))
        return tls_failure(text);
    if (has_any(text, wrong))
        return (struct failure){HAUL_E_PROTO, "the answer cannot be understood",
                                NULL};
    return (struct failure){HAUL_E_RESET, "the connection was lost", NULL};
}

static const struct {
    int curl_code;
    struct failure failure;
} failures[] = {
    {CURLE_UNSUPPORTED_PROTOCOL,
     {HAUL_E_PROTO, "the server does not speak HTTP/1.1",
      "Check the port: another service may answer there."}},
    {CURLE_URL_MALFORMAT,
     {HAUL_E_INVAL, "the address cannot be understood", "Check it."}},
    {CURLE_NOT_BUILT_IN, {HAUL_E_NOTSUP, "libcurl cannot do this", NULL}},
    {CURLE_COULDNT_RESOLVE_PROXY,
     {HAUL_E_RESOLVE, "the host name of the proxy is not found",
      "Check --proxy and the variables https_proxy and http_proxy."}},
    {CURLE_COULDNT_RESOLVE_HOST,
     {HAUL_E_RESOLVE, "the host name is not found",
      "Check it, and the name servers of this machine."}},
    {CURLE_COULDNT_CONNECT,
     {HAUL_E_CONNECT, "no connection",
      "Check address and port, and that the server runs."}},
    {CURLE_INTERFACE_FAILED, {HAUL_E_CONNECT, "no connection", NULL}},
    {CURLE_NO_CONNECTION_AVAILABLE, {HAUL_E_CONNECT, "no connection", NULL}},
    {CURLE_PROXY,
     {HAUL_E_CONNECT, "no way through the proxy", "Check --proxy."}},
    {CURLE_REMOTE_ACCESS_DENIED, {HAUL_E_REMOTE, "no permission", NULL}},
    {CURLE_LOGIN_DENIED,
     {HAUL_E_AUTH, "the login was refused", "Check user and password."}},
    {CURLE_AUTH_ERROR,
     {HAUL_E_AUTH, "the login failed", "Check user and password."}},
    /* 7.88 has no other code for a header line of more than 100 KiB. */
    {CURLE_OUT_OF_MEMORY,
     {HAUL_E_PROTO, "a header line is too long, or memory is out", NULL}},
    {CURLE_ABORTED_BY_CALLBACK, {HAUL_E_CANCELED, "interrupted", NULL}},
    {CURLE_GOT_NOTHING,
     {HAUL_E_RESET, "the connection was lost before an answer", NULL}},
    {CURLE_PARTIAL_FILE,
     {HAUL_E_RESET, "the connection was lost in the middle", NULL}},
    {CURLE_SSL_SHUTDOWN_FAILED,
     {HAUL_E_RESET, "the connection was lost", NULL}},
    {CURLE_SEND_FAIL_REWIND,
     {HAUL_E_RESET,
      "the connection was lost and what was sent cannot be sent "
      "again on another",
      NULL}},
    {CURLE_SSL_CERTPROBLEM,
     {HAUL_E_TLS, "the client certificate cannot be used",
      "Check --cert and --key: PEM, readable, and belonging together."}},
    {CURLE_SSL_CACERT_BADFILE,
     {HAUL_E_TLS, "the trusted certificates cannot be read",
      "Check --cacert: a readable file in PEM; without it, that the package "
      "ca-certificates is installed."}},
    {CURLE_SSL_CIPHER, {HAUL_E_TLS, "no cipher in common", NULL}},
    {CURLE_USE_SSL_FAILED, {HAUL_E_TLS, "TLS failed", NULL}},
    {CURLE_SSL_ISSUER_ERROR, {HAUL_E_TLS, "TLS failed", NULL}},
    {CURLE_SSL_INVALIDCERTSTATUS, {HAUL_E_TLS, "TLS failed", NULL}},
    {CURLE_SSL_ENGINE_NOTFOUND, {HAUL_E_TLS, "TLS failed", NULL}},
    {CURLE_SSL_ENGINE_SETFAILED, {HAUL_E_TLS, "TLS failed", NULL}},
    {CURLE_SSL_ENGINE_INITFAILED, {HAUL_E_TLS, "TLS failed", NULL}},
};

static struct failure find_failure(int curl_code, const char *text)
{
    size_t i;

    if (curl_code == CURLE_SSL_CONNECT_ERROR)
        return tls_failure(text);
    if (curl_code == CURLE_OPERATION_TIMEDOUT)
        return timeout_failure(text);
    if (curl_code == CURLE_RECV_ERROR || curl_code == CURLE_SEND_ERROR)
        return io_failure(text);
    for (i = 0; i < HL_LEN(failures); i++)
        if (failures[i].curl_code == curl_code)
            return failures[i].failure;
    return (struct failure){HAUL_E_PROTO, "the answer cannot be understood",
                            NULL};
}

static struct failure proxy_failure(long status)
{
    if (status == 407)
        return (struct failure){HAUL_E_AUTH, "the proxy wants a login",
                                HINT_PROXY_LOGIN};
    if (status == 403)
        return (struct failure){HAUL_E_REMOTE,
                                "the proxy does not allow this server",
                                "Whoever runs the proxy has to allow host and "
                                "port."};
    return (struct failure){HAUL_E_CONNECT, "the proxy gives no way to it",
                            "Check that the proxy reaches host and port, or "
                            "go without it (--proxy)."};
}

/* What was named by an option is named again. */
static void name_option(struct failure *f, int curl_code,
                        const struct hl_http_subject *subject, char *why,
                        size_t cap)
{
    bool connect =
        f->code == HAUL_E_CONNECT || curl_code == CURLE_COULDNT_RESOLVE_PROXY;

    if (curl_code == CURLE_SSL_CACERT_BADFILE && subject->cacert) {
        snprintf(why, cap, "there are no usable certificates in '%s'",
                 subject->cacert);
        *f = (struct failure){HAUL_E_READ, why,
                              "--cacert names a readable file in PEM."};
    } else if (connect && subject->unix_socket) {
        snprintf(why, cap, "no connection to the socket '%s'",
                 subject->unix_socket);
        *f = (struct failure){HAUL_E_CONNECT, why,
                              "Check that its server runs."};
    } else if (connect && subject->proxy) {
        *f = (struct failure){f->code, "no connection to the proxy",
                              "Check address and port of the proxy "
                              "(--proxy), and that it runs."};
    }
}

int hl_http_curl_error(int curl_code, const char *text, long connect_status,
                       long verify, const struct hl_http_subject *subject,
                       struct hl_error *err)
{
    bool refused = connect_status && connect_status / 100 != 2;
    struct failure f = find_failure(curl_code, text);
    const struct cert *cert;
    char why[160];
    int status = 0;

    HL_ASSERT(curl_code != CURLE_OK);
    if (curl_code == CURLE_PEER_FAILED_VERIFICATION) {
        cert = find_cert(verify, text);
        f = (struct failure){HAUL_E_TLS, cert->why, cert->hint};
    } else if (refused && (f.code == HAUL_E_RESET || f.code == HAUL_E_CONNECT ||
                           f.code == HAUL_E_PROTO)) {
        f = proxy_failure(connect_status);
        status = (int)connect_status;
    } else {
        name_option(&f, curl_code, subject, why, sizeof(why));
    }
    return set_error(err, &f, status, subject,
                     *text ? text : curl_easy_strerror((CURLcode)curl_code));
}
