/*
 * Statuses of HTTP and codes of libcurl become our errors: the code, the
 * subject, what the server said, and a hint for what a user can do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <openssl/x509_vfy.h>

#include "http_header.h"

static const struct hl_http_subject reader = {.name = "https://h/x",
                                              .verb = "read"};
static const struct hl_http_subject writer = {
    .name = "https://h/x", .verb = "write", .credentials = true, .proxy = true};

static void statuses_have_codes_and_hints(void **state)
{
    static const struct {
        int status, code;
        bool hint;
    } cases[] = {
        {300, HAUL_E_REMOTE, false},      {304, HAUL_E_REMOTE, false},
        {400, HAUL_E_REMOTE, true},       {401, HAUL_E_AUTH, true},
        {403, HAUL_E_REMOTE, true},       {404, HAUL_E_REMOTE, true},
        {405, HAUL_E_REMOTE, true},       {407, HAUL_E_AUTH, true},
        {408, HAUL_E_REMOTE_BUSY, false}, {409, HAUL_E_REMOTE, true},
        {410, HAUL_E_REMOTE, true},       {411, HAUL_E_REMOTE, true},
        {412, HAUL_E_EXISTS, true},       {413, HAUL_E_REMOTE, true},
        {415, HAUL_E_REMOTE, true},       {416, HAUL_E_CHANGED, true},
        {417, HAUL_E_REMOTE, true},       {418, HAUL_E_REMOTE, false},
        {425, HAUL_E_REMOTE_BUSY, false}, {426, HAUL_E_REMOTE, true},
        {429, HAUL_E_REMOTE_BUSY, true},  {431, HAUL_E_REMOTE, true},
        {451, HAUL_E_REMOTE, false},      {499, HAUL_E_REMOTE, false},
        {500, HAUL_E_REMOTE_IO, true},    {502, HAUL_E_REMOTE_BUSY, true},
        {503, HAUL_E_REMOTE_BUSY, true},  {504, HAUL_E_REMOTE_BUSY, true},
        {505, HAUL_E_REMOTE, false},      {507, HAUL_E_REMOTE_FULL, true},
        {599, HAUL_E_REMOTE_IO, false},   {0, HAUL_E_PROTO, false},
        {100, HAUL_E_PROTO, false},       {200, HAUL_E_PROTO, false},
        {600, HAUL_E_PROTO, false},       {-1, HAUL_E_PROTO, false},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        struct hl_error e = {0};

        assert_int_equal(
            hl_http_status_error(cases[i].status, &reader, NULL, &e),
            cases[i].code);
        assert_int_equal(e.code, cases[i].code);
        assert_int_equal(e.proto_status, cases[i].status);
        assert_ptr_equal(strstr(e.message, "cannot read 'https://h/x': "),
                         e.message);
        if ((e.hint[0] != '\0') != cases[i].hint)
            fail_msg("hint of %d: '%s'", cases[i].status, e.hint);
        assert_int_equal(
            hl_http_status_error(cases[i].status, &writer, "", NULL),
            cases[i].code);
    }
}

static void check_hint(int status, const struct hl_http_subject *subject,
                       const char *word)
{
    struct hl_error e = {0};

    hl_http_status_error(status, subject, NULL, &e);
    if (!strstr(e.hint, word))
        fail_msg("no '%s' in '%s'", word, e.hint);
}

static void hints_fit_who_asked(void **state)
{
    const struct hl_http_subject known = {"https://h/x", "read", false, true};

    (void)state;
    check_hint(401, &reader, ".netrc");
    check_hint(401, &known, "refused");
    check_hint(403, &reader, "No login was sent");
    check_hint(403, &known, "login is wrong");
    check_hint(403, &known, "permission");
    check_hint(404, &writer, "folder");
    check_hint(405, &writer, "post+https://");
    check_hint(407, &reader, "--proxy");
    check_hint(407, &writer, "user:password");
    check_hint(411, &writer, "to a file first");
    check_hint(412, &writer, "--no-clobber");
    check_hint(413, &writer, "client_max_body_size");
    check_hint(503, &writer, "proxy");
    check_hint(503, &reader, "later");
}

static void check_detail(const char *body, const char *want)
{
    struct hl_error e = {0};

    hl_http_status_error(403, &reader, body, &e);
    assert_string_equal(e.detail, want);
}

static void the_body_tells_why_when_it_is_text(void **state)
{
    char body[3000], escapes[3000];
    struct hl_error e = {0};

    (void)state;
    check_detail(NULL, "HTTP status 403");
    check_detail("", "HTTP status 403");
    check_detail("quota exceeded\n", "HTTP status 403: quota exceeded");
    check_detail("\r\n\r\n  quota\r\nmore", "HTTP status 403: quota");
    check_detail("{\n  \"error\": \"no\"\n}",
                 "HTTP status 403: \"error\": \"no\"");
    check_detail("{\"error\":\"no\"}", "HTTP status 403: {\"error\":\"no\"}");
    check_detail("\xef\xbb\xbf<?xml version='1.0'?><Error><Code>A</Code>"
                 "<Message>Access Denied</Message></Error>",
                 "HTTP status 403: Access Denied");
    check_detail("<html>\r\n<head><title>403 Forbidden</title></head>",
                 "HTTP status 403: 403 Forbidden");
    check_detail("<p>tag soup</p>", "HTTP status 403");
    check_detail("<title></title>", "HTTP status 403");
    check_detail("<title>", "HTTP status 403");
    check_detail("<title>a\x01</title>", "HTTP status 403");
    check_detail("a <b>soup</b>", "HTTP status 403");
    check_detail("\x1f\x8b\x08gzip", "HTTP status 403");
    check_detail("{}\n---\n", "HTTP status 403");
    check_detail("\xff\xfe", "HTTP status 403: \\xff\\xfe");
    memset(body, 'y', sizeof(body) - 1);
    body[sizeof(body) - 1] = '\0';
    hl_http_status_error(403, &reader, body, &e);
    assert_int_equal(strlen(e.detail), sizeof(e.detail) - 1);
    memset(escapes, '\xff', sizeof(escapes) - 1);
    escapes[sizeof(escapes) - 1] = '\0';
    hl_err_clear(&e);
    hl_http_status_error(403, &reader, escapes, &e);
    assert_true(strlen(e.detail) < sizeof(e.detail));
}

static void the_reason_survives_a_long_name_and_an_earlier_error(void **state)
{
    char name[2000];
    struct hl_http_subject subject = {name, "read", false, false};
    struct hl_error e = {0};

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    hl_http_status_error(404, &subject, NULL, &e);
    assert_string_equal(e.message + strlen(e.message) - 12, "': not found");
    assert_int_equal(hl_http_status_error(500, &subject, "x", &e),
                     HAUL_E_REMOTE_IO);
    assert_int_equal(e.code, HAUL_E_REMOTE);
    assert_int_equal(e.proto_status, 404);
    assert_string_equal(e.detail, "HTTP status 404");
}

/* Texts as libcurl 7.88.1 with OpenSSL 3.0 writes them. */
static const struct {
    int curl_code, code;
    const char *text;
} codes[] = {
    {CURLE_COULDNT_RESOLVE_HOST, HAUL_E_RESOLVE, "Could not resolve host: h"},
    {CURLE_COULDNT_RESOLVE_PROXY, HAUL_E_RESOLVE, "Could not resolve proxy: p"},
    {CURLE_COULDNT_CONNECT, HAUL_E_CONNECT,
     "Failed to connect to h port 443 after 1 ms: Couldn't connect to "
     "server"},
    {CURLE_OPERATION_TIMEDOUT, HAUL_E_CONNECT,
     "Failed to connect to h port 443 after 30001 ms: Timeout was reached"},
    {CURLE_OPERATION_TIMEDOUT, HAUL_E_CONNECT, "SSL connection timeout"},
    {CURLE_OPERATION_TIMEDOUT, HAUL_E_CONNECT,
     "Connection timed out after 30001 milliseconds"},
    {CURLE_OPERATION_TIMEDOUT, HAUL_E_RESOLVE,
     "Resolving timed out after 30001 milliseconds"},
    {CURLE_OPERATION_TIMEDOUT, HAUL_E_STALLED,
     "Operation timed out after 5000 milliseconds with 0 bytes received"},
    {CURLE_SSL_CONNECT_ERROR, HAUL_E_RESET,
     "OpenSSL SSL_connect: Connection reset by peer in connection to "
     "h:443 "},
    {CURLE_SSL_CONNECT_ERROR, HAUL_E_RESET,
     "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to h:443 "},
    {CURLE_SSL_CONNECT_ERROR, HAUL_E_RESET,
     "error:0A000126:SSL routines::unexpected eof while reading"},
    {CURLE_SSL_CONNECT_ERROR, HAUL_E_TLS,
     "error:0A00010B:SSL routines::wrong version number"},
    {CURLE_SSL_CONNECT_ERROR, HAUL_E_TLS,
     "error:0A000410:SSL routines::sslv3 alert handshake failure"},
    {CURLE_SSL_CONNECT_ERROR, HAUL_E_TLS,
     "error:0A000102:SSL routines::unsupported protocol"},
    {CURLE_RECV_ERROR, HAUL_E_RESET, "Recv failure: Connection reset by peer"},
    {CURLE_RECV_ERROR, HAUL_E_TLS,
     "OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert "
     "certificate required, errno 0"},
    {CURLE_RECV_ERROR, HAUL_E_RESET,
     "OpenSSL SSL_read: error:0A000119:SSL routines::decryption failed or "
     "bad record mac, errno 0"},
    {CURLE_RECV_ERROR, HAUL_E_PROTO,
     "Illegal or missing hexadecimal sequence in chunked-encoding"},
    {CURLE_RECV_ERROR, HAUL_E_PROTO,
     "Too large response headers: 307203 > 307200"},
    {CURLE_SEND_ERROR, HAUL_E_RESET, "Send failure: Broken pipe"},
    {CURLE_GOT_NOTHING, HAUL_E_RESET, "Empty reply from server"},
    {CURLE_PARTIAL_FILE, HAUL_E_RESET,
     "transfer closed with 5 bytes remaining to read"},
    {CURLE_SEND_FAIL_REWIND, HAUL_E_RESET, ""},
    {CURLE_SSL_CERTPROBLEM, HAUL_E_TLS,
     "could not load PEM client certificate"},
    {CURLE_SSL_CACERT_BADFILE, HAUL_E_TLS,
     "error setting certificate file: /x"},
    {CURLE_UNSUPPORTED_PROTOCOL, HAUL_E_PROTO,
     "Received HTTP/0.9 when not allowed"},
    {CURLE_WEIRD_SERVER_REPLY, HAUL_E_PROTO, "Invalid Content-Length: value"},
    {CURLE_URL_MALFORMAT, HAUL_E_INVAL, ""},
    {CURLE_ABORTED_BY_CALLBACK, HAUL_E_CANCELED, ""},
    {9999, HAUL_E_PROTO, ""},
};

static void codes_of_libcurl_become_ours(void **state)
{

    (void)state;
    for (size_t i = 0; i < HL_LEN(codes); i++) {
        struct hl_error e = {0};

        if (hl_http_curl_error(codes[i].curl_code, codes[i].text, 0, 0, &reader,
                               &e) != codes[i].code)
            fail_msg("%d became %d: %s", codes[i].curl_code, e.code,
                     codes[i].text);
        assert_int_equal(e.code, codes[i].code);
        assert_int_equal(e.proto_status, 0);
        assert_ptr_equal(strstr(e.message, "cannot read 'https://h/x': "),
                         e.message);
        assert_string_not_equal(e.detail, "");
        if (codes[i].text[0])
            assert_string_equal(e.detail, codes[i].text);
    }
}

static void certificates_are_told_apart(void **state)
{
    static const struct {
        long verify;
        const char *text, *message, *hint;
    } cases[] = {
        {X509_V_ERR_CERT_HAS_EXPIRED,
         "SSL certificate problem: certificate has expired", "has expired",
         "clock"},
        {X509_V_ERR_CERT_NOT_YET_VALID,
         "SSL certificate problem: certificate is not yet valid",
         "not yet valid", "clock"},
        /* the number that no check of the chain has changed */
        {1,
         "SSL: no alternative certificate subject name matches target host "
         "name 'h'",
         "another host name", "name"},
        {0,
         "SSL: certificate subject name 'g' does not match target host name "
         "'h'",
         "another host name", "name"},
        {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
         "SSL certificate problem: self-signed certificate", "is self-signed",
         "--cacert FILE"},
        {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
         "SSL certificate problem: self-signed certificate in certificate "
         "chain",
         "unknown authority", "--cacert FILE"},
        {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
         "SSL certificate problem: unable to get local issuer certificate",
         "unknown authority", "--cacert FILE"},
        {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
         "SSL certificate problem: unable to verify the first certificate",
         "unknown authority", "--cacert FILE"},
        {X509_V_ERR_CERT_REVOKED, "", "revoked", "why"},
        {12345, "SSL certificate problem: new", "cannot be trusted", "detail"},
        /* of a proxy: the number is 0 */
        {0, "SSL certificate problem: self-signed certificate",
         "is self-signed", "--cacert FILE"},
        {0,
         "SSL certificate problem: self-signed certificate in certificate "
         "chain",
         "unknown authority", "--cacert FILE"},
        {0, "SSL certificate problem: certificate has expired", "has expired",
         "clock"},
        {0, "SSL certificate problem: unable to get local issuer certificate",
         "unknown authority", "--cacert FILE"},
        {0, "", "cannot be trusted", "detail"},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        struct hl_error e = {0};

        assert_int_equal(hl_http_curl_error(CURLE_PEER_FAILED_VERIFICATION,
                                            cases[i].text, 0, cases[i].verify,
                                            &reader, &e),
                         HAUL_E_TLS);
        assert_int_equal(haul_err_exit_status(e.code), 5);
        if (!strstr(e.message, cases[i].message))
            fail_msg("'%s' is not in '%s'", cases[i].message, e.message);
        if (!strstr(e.hint, cases[i].hint))
            fail_msg("'%s' is not in '%s'", cases[i].hint, e.hint);
    }
}

static void check_proxy(int curl_code, long status, int code, int proto_status)
{
    struct hl_error e = {0};

    assert_int_equal(hl_http_curl_error(curl_code, "CONNECT tunnel failed",
                                        status, 0, &writer, &e),
                     code);
    assert_int_equal(e.code, code);
    assert_int_equal(e.proto_status, proto_status);
}

static void a_proxy_that_refuses_is_told_from_a_server(void **state)
{
    (void)state;
    check_proxy(CURLE_RECV_ERROR, 407, HAUL_E_AUTH, 407);
    check_proxy(CURLE_RECV_ERROR, 403, HAUL_E_REMOTE, 403);
    check_proxy(CURLE_RECV_ERROR, 502, HAUL_E_CONNECT, 502);
    check_proxy(CURLE_COULDNT_CONNECT, 503, HAUL_E_CONNECT, 503);
    check_proxy(CURLE_PROXY, 407, HAUL_E_AUTH, 407);
    check_proxy(CURLE_PROXY, 0, HAUL_E_CONNECT, 0);
    /* the tunnel stood */
    check_proxy(CURLE_RECV_ERROR, 200, HAUL_E_RESET, 0);
    check_proxy(CURLE_COULDNT_RESOLVE_PROXY, 0, HAUL_E_RESOLVE, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses_have_codes_and_hints),
        cmocka_unit_test(hints_fit_who_asked),
        cmocka_unit_test(the_body_tells_why_when_it_is_text),
        cmocka_unit_test(the_reason_survives_a_long_name_and_an_earlier_error),
        cmocka_unit_test(codes_of_libcurl_become_ours),
        cmocka_unit_test(certificates_are_told_apart),
        cmocka_unit_test(a_proxy_that_refuses_is_told_from_a_server),
    };

    return cmocka_run_group_tests_name("http_error", tests, NULL, NULL);
}
