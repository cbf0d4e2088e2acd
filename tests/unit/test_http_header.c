/*
 * What HTTP headers say: the examples of the RFCs are read, what is no such
 * value is refused and changes nothing, and redirects keep to our policy.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "http_header.h"

static int check_no_leak(void **state)
{
    (void)state;
    hl_mem_fail_at(0, false);
    return hl_mem_live() == 0 ? 0 : -1;
}

/* ---- Numbers, ranges, tags, dates --------------------------------------- */

static void numbers_are_digits_only(void **state)
{
    static const char *const bad[] = {"",
                                      " ",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x10",
                                      "1.0",
                                      "1,1",
                                      "1\n",
                                      "9223372036854775808",
                                      "18446744073709551615",
                                      "18446744073709551616",
                                      "99999999999999999999999999"};
    uint64_t n = 77;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        if (hl_http_number(bad[i], &n))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(n, 77);
    }
    assert_true(hl_http_number("0", &n));
    assert_int_equal(n, 0);
    assert_true(hl_http_number("0003495", &n));
    assert_int_equal(n, 3495);
    assert_true(hl_http_number("9223372036854775807", &n));
    assert_int_equal(n, INT64_MAX);
}

static void check_range(const char *value, uint64_t begin, uint64_t end,
                        uint64_t total)
{
    struct hl_http_range r;

    if (!hl_http_content_range(value, &r))
        fail_msg("refused: %s", value);
    assert_int_equal(r.begin, begin);
    assert_int_equal(r.end, end);
    assert_int_equal(r.total, total);
}

/* RFC 9110 14.4. */
static void content_ranges_are_read(void **state)
{
    (void)state;
    check_range("bytes 42-1233/1234", 42, 1234, 1234);
    check_range("bytes 42-1233/*", 42, 1234, HL_SIZE_UNKNOWN);
    check_range("bytes */1234", 0, 0, 1234);
    check_range("bytes */0", 0, 0, 0);
    check_range("bytes 0-0/1", 0, 1, 1);
    check_range("Bytes 0-499/1234", 0, 500, 1234);
    check_range(" bytes 734-1233/1234 ", 734, 1234, 1234);
    check_range("bytes 0-9223372036854775806/9223372036854775807", 0, INT64_MAX,
                INT64_MAX);
}

static void what_is_no_content_range_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "bytes",
        "bytes ",
        "bytes */*",
        "bytes 0-1",
        "bytes 0-1/",
        "bytes /5",
        "bytes -/5",
        "bytes 0-/5",
        "bytes -1/5",
        "bytes 2-1/5",
        "bytes 0-5/5",
        "bytes 5-5/5",
        "bytes 0-1/2/3",
        "bytes 0-1-2/5",
        "bytes=0-1/5",
        "bytes\t0-1/5",
        "bytes  0-1/5",
        "bytes 0 -1/5",
        "bytes 0- 1/5",
        "bytes 0-1/ 5",
        "bytes 0-1,2-3/5",
        "items 0-1/5",
        "bytes 0-9223372036854775807/*",
        "bytes 0-9223372036854775808/*",
        "bytes 0-18446744073709551615/*",
        "bytes 0-1/18446744073709551615",
        "bytes 18446744073709551616-1/5",
        "bytes 0-1/99999999999999999999999999999999999999999",
    };
    const struct hl_http_range before = {1, 2, 3};
    struct hl_http_range r = before;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        if (hl_http_content_range(bad[i], &r))
            fail_msg("accepted: %s", bad[i]);
        assert_memory_equal(&r, &before, sizeof(r));
    }
}

static void check_etag(const char *value, const char *want, bool want_weak)
{
    char out[HL_HTTP_ETAG_MAX];
    bool weak = !want_weak;

    if (!hl_http_etag(value, out, sizeof(out), &weak))
        fail_msg("refused: %s", value);
    assert_string_equal(out, want);
    assert_int_equal(weak, want_weak);
}

/* RFC 9110 8.8.3. */
static void tags_are_read(void **state)
{
    char out[4];
    bool weak;

    (void)state;
    check_etag("\"xyzzy\"", "\"xyzzy\"", false);
    check_etag("W/\"xyzzy\"", "\"xyzzy\"", true);
    check_etag("\"\"", "\"\"", false);
    check_etag("W/\"\"", "\"\"", true);
    check_etag("\"a,b\\c/W\xc3\xbc\"", "\"a,b\\c/W\xc3\xbc\"", false);
    check_etag(" \"x\"\t", "\"x\"", false);
    assert_true(hl_http_etag("\"x\"", out, sizeof(out), &weak));
    assert_string_equal(out, "\"x\"");
}

static void what_is_no_tag_is_refused(void **state)
{
    static const char *const bad[] = {
        "",          "\"",        "x",           "xyzzy",         "\"a",
        "a\"",       "\"a\"b\"",  "\"a\" \"b\"", "\"a b\"",       "w/\"a\"",
        "W/",        "W/a",       "W /\"a\"",    "W/\"",          "\"a\tb\"",
        "\"a\x01\"", "\"a\x7f\"", "*",           "\"a\r\nX: y\"", "'a'"};
    char longest[HL_HTTP_ETAG_MAX + 2], out[HL_HTTP_ETAG_MAX] = "before";
    bool weak = true;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        if (hl_http_etag(bad[i], out, sizeof(out), &weak))
            fail_msg("accepted: %s", bad[i]);
        assert_string_equal(out, "before");
        assert_true(weak);
    }
    assert_false(hl_http_etag("\"xy\"", out, 4, &weak));
    assert_false(hl_http_etag("\"\"", out, 0, &weak));
    memset(longest, 'a', sizeof(longest));
    longest[0] = '"';
    longest[HL_HTTP_ETAG_MAX - 1] = '"';
    longest[HL_HTTP_ETAG_MAX] = '\0';
    assert_false(hl_http_etag(longest, out, sizeof(out), &weak));
    longest[HL_HTTP_ETAG_MAX - 2] = '"';
    longest[HL_HTTP_ETAG_MAX - 1] = '\0';
    assert_true(hl_http_etag(longest, out, sizeof(out), &weak));
    assert_string_equal(out, longest);
}

/* The three forms of RFC 9110 5.6.7 for one moment. */
static void dates_are_read_in_three_forms(void **state)
{
    static const char *const bad[] = {"",
                                      "now",
                                      "yesterday",
                                      "0",
                                      "-1",
                                      "Sun, 99 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nov",
                                      "Sun, 06 Nov 1994 25:49:37 GMT"};
    char text[100];
    int64_t s = 5;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        if (hl_http_date(bad[i], &s))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(s, 5);
    }
    memset(text, ' ', sizeof(text));
    memcpy(text + 70, "Sun, 06 Nov 1994 08:49:37 GMT", 30);
    assert_false(hl_http_date(text, &s));
    assert_true(hl_http_date("Sun, 06 Nov 1994 08:49:37 GMT", &s));
    assert_int_equal(s, 784111777);
    s = 0;
    assert_true(hl_http_date("Sunday, 06-Nov-94 08:49:37 GMT", &s));
    assert_int_equal(s, 784111777);
    s = 0;
    assert_true(hl_http_date("Sun Nov  6 08:49:37 1994", &s));
    assert_int_equal(s, 784111777);
    assert_true(hl_http_date("Thu, 01 Jan 1970 00:00:00 GMT", &s));
    assert_int_equal(s, 0);
    /* behind the end of 32 bits */
    assert_true(hl_http_date("Tue, 19 Jan 2038 03:14:08 GMT", &s));
    assert_int_equal(s, INT64_C(2147483648));
}

/* RFC 9110 10.2.3. */
static void retry_after_is_seconds_or_a_date(void **state)
{
    const int64_t now = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */
    const uint64_t hour = 3600 * HL_NS_PER_S;
    static const char *const nothing[] = {"",
                                          "0",
                                          "00",
                                          "-1",
                                          "x",
                                          "1.",
                                          "120 seconds",
                                          "Sun, 06 Nov 1994 08:49:37 GMT",
                                          "1e3",
                                          "Sun, 06 Nov 1994 08:49:36 GMT"};

    (void)state;
    for (size_t i = 0; i < HL_LEN(nothing); i++)
        if (hl_http_retry_after_ns(nothing[i], now))
            fail_msg("waits for: %s", nothing[i]);
    assert_int_equal(hl_http_retry_after_ns("120", now), 120 * HL_NS_PER_S);
    assert_int_equal(hl_http_retry_after_ns(" 2 ", now), 2 * HL_NS_PER_S);
    assert_int_equal(hl_http_retry_after_ns("3600", now), hour);
    assert_int_equal(hl_http_retry_after_ns("3601", now), hour);
    assert_int_equal(hl_http_retry_after_ns("18446744073709551615", now), hour);
    assert_int_equal(hl_http_retry_after_ns("99999999999999999999999", now),
                     hour);
    assert_int_equal(
        hl_http_retry_after_ns("Sun, 06 Nov 1994 08:50:07 GMT", now),
        30 * HL_NS_PER_S);
    assert_int_equal(
        hl_http_retry_after_ns("Fri, 31 Dec 1999 23:59:59 GMT", now), hour);
    assert_int_equal(
        hl_http_retry_after_ns("Fri, 31 Dec 1999 23:59:59 GMT", INT64_MIN),
        hour);
    assert_int_equal(
        hl_http_retry_after_ns("Fri, 31 Dec 1999 23:59:59 GMT", INT64_MAX), 0);
}

/* ---- Digests ------------------------------------------------------------ */

/* RFC 9530 B: of '{"hello": "world"}' and a line feed. */
#define SHA256_B64 "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg="
#define SHA256_HEX                                                             \
    "44aff4ab2d7c3250525675a08f0cfa9591168cffe51791c5f5bbc417c15a6c38"
#define SHA512_B64                                                             \
    "YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCs"                 \
    "yRZOtw8MjkM7iw7yZ/WkppmM44T3qg=="
#define SHA512_HEX                                                             \
    "60c01a9b9d49cff8ce0134faff3bc7acb5603984c6172d5de862623874e886ae"         \
    "323fea60938bdfd9a0acc9164eb70f0c8e433b8b0ef267f5a4a6998ce384f7aa"
/* RFC 1864 and the documentation of Google's x-goog-hash. */
#define MD5_B64 "Q2hlY2sgSW50ZWdyaXR5IQ=="
#define MD5_HEX "436865636b20496e7465677269747921" /* "Check Integrity!" */
#define CRC_B64 "n03x6A=="
#define CRC_HEX "9f4df1e8"

static void check_offered(const struct hl_identity *id, const char *name,
                          const char *hex)
{
    char got[2 * HL_OFFERED_MAX + 1] = "";
    size_t i;

    assert_string_equal(id->offered, name);
    for (i = 0; i < strlen(hex) / 2; i++)
        snprintf(got + 2 * i, 3, "%02x", id->offered_digest[i]);
    assert_string_equal(got, hex);
    for (; i < HL_OFFERED_MAX; i++)
        assert_int_equal(id->offered_digest[i], 0);
}

static void check_offer(const char *field, const char *value, const char *name,
                        const char *hex)
{
    struct hl_identity id = {0};

    hl_http_offer(&id, field, value, false);
    check_offered(&id, name, hex);
}

static void digests_are_taken_from_every_field(void **state)
{
    (void)state;
    check_offer("Repr-Digest", "sha-256=:" SHA256_B64 ":", "sha256",
                SHA256_HEX);
    check_offer("repr-digest", "sha-512=:" SHA512_B64 ":", "sha512",
                SHA512_HEX);
    check_offer("REPR-DIGEST", "unixsum=:AA==:, sha-256=:" SHA256_B64 ":;q=1",
                "sha256", SHA256_HEX);
    check_offer("Repr-Digest", "crc32c=:" CRC_B64 ":", "crc32c", CRC_HEX);
    check_offer("Digest", "SHA-256=" SHA256_B64, "sha256", SHA256_HEX);
    check_offer("digest", "UnixSum=30637, sha-512=" SHA512_B64, "sha512",
                SHA512_HEX);
    check_offer("Digest", "md5=" MD5_B64, "md5", MD5_HEX);
    /* IANA's example, both spellings */
    check_offer("Digest", "CRC32c=0a72a4df", "crc32c", "0a72a4df");
    check_offer("Digest", "crc32c=A72A4DF", "crc32c", "0a72a4df");
    check_offer("x-goog-hash", "crc32c=" CRC_B64, "crc32c", CRC_HEX);
    check_offer("X-Goog-Hash", "crc32c=" CRC_B64 ",md5=" MD5_B64, "md5",
                MD5_HEX);
    check_offer("x-ms-blob-content-md5", MD5_B64, "md5", MD5_HEX);
    /* the '=' at the end may be missing */
    check_offer("x-goog-hash", "crc32c=n03x6A", "crc32c", CRC_HEX);
}

static void content_md5_counts_for_a_whole_message_only(void **state)
{
    struct hl_identity id = {0};

    (void)state;
    hl_http_offer(&id, "Content-MD5", MD5_B64, false);
    check_offered(&id, "", "");
    hl_http_offer(&id, "content-md5", MD5_B64, true);
    check_offered(&id, "md5", MD5_HEX);
    check_offer("Content-Digest", "sha-256=:" SHA256_B64 ":", "", "");
    check_offer("ETag", MD5_B64, "", "");
    check_offer("", MD5_B64, "", "");
}

static void the_strongest_digest_stays(void **state)
{
    struct hl_identity id = {0};

    (void)state;
    hl_http_offer(&id, "x-goog-hash", "crc32c=" CRC_B64, true);
    check_offered(&id, "crc32c", CRC_HEX);
    hl_http_offer(&id, "x-ms-blob-content-md5", MD5_B64, true);
    check_offered(&id, "md5", MD5_HEX);
    hl_http_offer(&id, "x-goog-hash", "crc32c=" CRC_B64, true);
    check_offered(&id, "md5", MD5_HEX);
    hl_http_offer(&id, "Digest", "sha-512=" SHA512_B64, true);
    check_offered(&id, "sha512", SHA512_HEX);
    hl_http_offer(&id, "Repr-Digest", "sha-256=:" SHA256_B64 ":", true);
    check_offered(&id, "sha256", SHA256_HEX);
    hl_http_offer(&id, "Content-MD5", MD5_B64, true);
    hl_http_offer(&id, "Repr-Digest", "sha-512=:" SHA512_B64 ":", true);
    check_offered(&id, "sha256", SHA256_HEX);
    /* one of the same strength: the first field */
    hl_http_offer(&id, "Digest",
                  "sha-256=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", true);
    check_offered(&id, "sha256", SHA256_HEX);
}

/* RFC 8941 4.2.2: the last of two members with one name. */
static void the_last_of_two_in_a_field_counts(void **state)
{
    const char *zero = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    char value[200];

    (void)state;
    snprintf(value, sizeof(value), "%s, sha-256=:%s:", zero, SHA256_B64);
    check_offer("Repr-Digest", value, "sha256", SHA256_HEX);
    check_offer("Repr-Digest",
                "sha-256=:" SHA256_B64 ":, sha-512=:" SHA512_B64
                ":, sha-256=:x:",
                "sha256", SHA256_HEX);
}

static void what_is_no_digest_changes_nothing(void **state)
{
    static const struct {
        const char *field, *value;
    } bad[] = {
        {"Repr-Digest", ""},
        {"Repr-Digest", ",,,=,=:,:=:"},
        {"Repr-Digest", "sha-256"},
        {"Repr-Digest", "sha-256="},
        {"Repr-Digest", "sha-256=:"},
        {"Repr-Digest", "sha-256=::"},
        {"Repr-Digest", "sha-256=" SHA256_B64},
        {"Repr-Digest", "sha-256=:" SHA256_B64},
        {"Repr-Digest", "sha-256=\"" SHA256_B64 "\""},
        {"Repr-Digest", "sha-256=:" SHA512_B64 ":"},
        {"Repr-Digest", "sha-512=:" SHA256_B64 ":"},
        {"Repr-Digest", "sha256=:" SHA256_B64 ":"},
        {"Repr-Digest", "sha-256=:" SHA256_B64 "=:"},
        {"Repr-Digest", "sha-256=: " SHA256_B64 ":"},
        {"Repr-Digest",
         "sha-256=:RK_0qy18MlBSVnWgjwz6lZEWjP-lF5HF9bvEF8FabDg=:"},
        {"Repr-Digest",
         "sha-256=:RK=0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"},
        {"Digest", "SHA-256=:" SHA256_B64 ":"},
        {"Digest", "sha-256=\x80"
                   "K/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg="},
        {"Digest", "crc32c="},
        {"Digest", "crc32c=0a72a4df0"},
        {"Digest", "crc32c=0a72a4dg"},
        {"Digest", "crc32c=-1"},
        {"Digest", "crc32c=" CRC_B64},
        {"x-goog-hash", "md5=" CRC_B64},
        {"x-goog-hash", "crc32c=" MD5_B64},
        {"x-goog-hash", "crc32c=0a72a4df"},
        {"x-goog-hash", "crc32c=n03x6A="},
        {"x-ms-blob-content-md5", ""},
        {"x-ms-blob-content-md5", "===="},
        {"x-ms-blob-content-md5", MD5_HEX},
        {"x-ms-blob-content-md5", MD5_B64 MD5_B64},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        struct hl_identity id = {0}, zero = {0};

        hl_http_offer(&id, bad[i].field, bad[i].value, true);
        if (id.offered[0])
            fail_msg("%s: accepted: %s", bad[i].field, bad[i].value);
        assert_memory_equal(&id, &zero, sizeof(id));
    }
}

/* ---- Redirects ---------------------------------------------------------- */

static void check_hop(const char *from, const char *location, const char *want,
                      bool same_origin)
{
    struct hl_error e = {0};
    struct hl_http_hop hop;

    if (hl_http_redirect(from, location, &hop, &e))
        fail_msg("refused: %s: %s", location, e.message);
    assert_string_equal(hop.url, want);
    if (hop.same_origin != same_origin)
        fail_msg("origin of %s", location);
    hl_free(hop.url);
}

/* RFC 3986 5.4 has the base and the places. */
static void relative_places_are_resolved(void **state)
{
    static const struct {
        const char *location, *url;
    } cases[] = {
        {"g", "http://a/b/c/g"},       {"./g", "http://a/b/c/g"},
        {"g/", "http://a/b/c/g/"},     {"/g", "http://a/g"},
        {"?y", "http://a/b/c/d;p?y"},  {"g?y", "http://a/b/c/g?y"},
        {"g?y#s", "http://a/b/c/g?y"}, {";x", "http://a/b/c/;x"},
        {"..", "http://a/b/"},         {"../g", "http://a/b/g"},
        {"../../g", "http://a/g"},     {"../../../g", "http://a/g"},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++)
        check_hop("http://a/b/c/d;p?q", cases[i].location, cases[i].url, true);
}

static void places_are_made_whole_and_clean(void **state)
{
    static char location[10300] = "/", want[10400] = "https://h";

    (void)state;
    check_hop("https://h/x", "https://h/y?a=%41&b=%2F#f",
              "https://h/y?a=%41&b=%2F", true);
    check_hop("https://h/x", "https://h", "https://h/", true);
    /* user and password are dropped */
    check_hop("https://h/x", "https://joe:geheim@h/y", "https://h/y", true);
    check_hop("https://joe:geheim@h/x", "/y", "https://h/y", true);
    check_hop("https://h/x", "https://h@evil/y", "https://evil/y", false);
    /* scheme-relative */
    check_hop("https://h/x", "//h/y", "https://h/y", true);
    check_hop("https://h/x", "//g/y", "https://g/y", false);
    /* what has to be escaped */
    check_hop("https://h/x", "/a b", "https://h/a%20b", true);
    check_hop("https://h/x", "/\xc3\xbc", "https://h/%c3%bc", true);
    memset(location + 1, 'a', 10240);
    memset(want + 10, 'a', 10240);
    want[9] = '/';
    check_hop("https://h/x", location, want, true);
}

static void the_origin_is_host_and_port(void **state)
{
    (void)state;
    check_hop("https://h.test/x", "https://H.test:443/y",
              "https://H.test:443/y", true);
    check_hop("https://h:8443/x", "https://h:8443/y", "https://h:8443/y", true);
    check_hop("https://h/x", "https://h:8443/y", "https://h:8443/y", false);
    check_hop("https://h:8443/x", "https://h/y", "https://h/y", false);
    check_hop("https://h/x", "https://h.test/y", "https://h.test/y", false);
    check_hop("https://h.test/x", "https://sub.h.test/y",
              "https://sub.h.test/y", false);
    check_hop("http://h/x", "http://h/y", "http://h/y", true);
    /* up to https, from port to port */
    check_hop("http://h/x", "https://h/y", "https://h/y", true);
    check_hop("http://h:80/x", "https://h:443/y", "https://h:443/y", true);
    check_hop("http://h:8080/x", "https://h/y", "https://h/y", false);
    check_hop("http://h/x", "https://h:8443/y", "https://h:8443/y", false);
    check_hop("http://h:443/x", "https://h/y", "https://h/y", false);
    check_hop("http://h/x", "https://g/y", "https://g/y", false);
    check_hop("https://h/x", "///evil/y", "https://evil/y", false);
    /* IPv6 */
    check_hop("https://[::1]:8443/x", "/y", "https://[::1]:8443/y", true);
    check_hop("https://[::1]/x", "https://[::2]/y", "https://[::2]/y", false);
    check_hop("https://[fe80::1%25eth0]/x", "https://[fe80::1%25eth1]/y",
              "https://[fe80::1%25eth1]/y", false);
}

static void check_refused(const char *from, const char *location, int code,
                          const char *message)
{
    struct hl_http_hop hop = {.same_origin = true};
    struct hl_error e = {0};

    assert_int_equal(hl_http_redirect(from, location, &hop, &e), code);
    assert_null(hop.url);
    assert_false(hop.same_origin);
    assert_int_equal(e.code, code);
    assert_null(strstr(e.message, "geheim"));
    assert_null(strstr(e.detail, "geheim"));
    if (message)
        assert_string_equal(e.message, message);
    assert_non_null(strstr(e.message, "leads to"));
    assert_int_equal(hl_http_redirect(from, location, &hop, NULL), code);
}

static void places_against_the_policy_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "http://",
                                      "https://",

                                      "https://h:0x/y",
                                      "https://h:99999/y",
                                      "https://[::1/y",
                                      "//",
                                      "https://a b/",
                                      "https://h/a\nb",
                                      "/a\x01z",
                                      "https://ho\x7fst/"};
    static char longest[20000];

    (void)state;
    check_refused("https://h/x", "http://h/y", HAUL_E_REMOTE,
                  "'https://h/x' leads to 'http://h/y', where nothing protects "
                  "the bytes");
    check_refused("https://h/x", "HTTP://h/y", HAUL_E_REMOTE, NULL);
    check_refused("https://h/x", "http://joe:geheim@h/?token=geheim",
                  HAUL_E_REMOTE, NULL);
    check_refused("https://h/x?sig=geheim", "ftp://joe:geheim@h/y",
                  HAUL_E_REMOTE,
                  "'https://h/x?sig=***' leads to 'ftp://joe@h/y', which is no "
                  "HTTP address");
    check_refused("http://h/x", "file:///etc/passwd", HAUL_E_REMOTE, NULL);
    check_refused("http://h/x", "javascript://h/x", HAUL_E_REMOTE, NULL);
    for (size_t i = 0; i < HL_LEN(bad); i++)
        check_refused("https://h/x", bad[i], HAUL_E_PROTO, NULL);
    check_refused("https://h/x", "/y\x01?token=geheim", HAUL_E_PROTO,
                  "'https://h/x' leads to '/y\\x01', which cannot be "
                  "understood");
    check_refused("https://h/x", "//joe:geheim@[/y?geheim", HAUL_E_PROTO, NULL);
    check_refused("https://h/x", "https://joe:geheim@[/y", HAUL_E_PROTO, NULL);
    check_refused("https://h/x", "javascript:geheim", HAUL_E_PROTO,
                  "'https://h/x' leads to '...', which cannot be understood");
    memset(longest, 'a', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    check_refused("https://h/x", longest, HAUL_E_PROTO, NULL);
}

static void a_redirect_without_memory_leaves_nothing(void **state)
{
    struct hl_http_hop hop;
    struct hl_error e = {0};

    (void)state;
    hl_mem_fail_at(1, true);
    assert_int_equal(hl_http_redirect("https://h/x", "/y", &hop, &e),
                     HAUL_E_NOMEM);
    assert_int_equal(e.code, HAUL_E_NOMEM);
    assert_null(hop.url);
    hl_err_clear(&e);
    assert_int_equal(hl_http_redirect("not a URL", "/y", &hop, &e),
                     HAUL_E_INVAL);
}

#define TEST(f) cmocka_unit_test_teardown(f, check_no_leak)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(numbers_are_digits_only),
        TEST(content_ranges_are_read),
        TEST(what_is_no_content_range_is_refused),
        TEST(tags_are_read),
        TEST(what_is_no_tag_is_refused),
        TEST(dates_are_read_in_three_forms),
        TEST(retry_after_is_seconds_or_a_date),
        TEST(digests_are_taken_from_every_field),
        TEST(content_md5_counts_for_a_whole_message_only),
        TEST(the_strongest_digest_stays),
        TEST(the_last_of_two_in_a_field_counts),
        TEST(what_is_no_digest_changes_nothing),
        TEST(relative_places_are_resolved),
        TEST(places_are_made_whole_and_clean),
        TEST(the_origin_is_host_and_port),
        TEST(places_against_the_policy_are_refused),
        TEST(a_redirect_without_memory_leaves_nothing),
    };

    return cmocka_run_group_tests_name("http_header", tests, NULL, NULL);
}
