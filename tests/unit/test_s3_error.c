/*
 * What the errors of S3 mean: each code has an error of ours, a message and a
 * hint; the server's own words are the detail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "s3_xml.h"

static int check_no_leak(void **state)
{
    (void)state;
    return hl_mem_live() == 0 ? 0 : -1;
}

static const struct hl_http_subject writing = {
    .name = "s3://b/k", .verb = "write", .credentials = true};
static const struct hl_http_subject reading = {
    .name = "s3://b/k", .verb = "read", .credentials = true};

static void codes_are_told_in_our_words(void **state)
{
    static const struct {
        char code[40];
        int status, error;
        const char *words, *hint; /* NULL: none */
    } cases[] = {
        {"NoSuchKey", 404, HAUL_E_REMOTE, "not found", "key"},
        {"NoSuchBucket", 404, HAUL_E_REMOTE, "no such bucket", "--region"},
        {"NoSuchUpload", 404, HAUL_E_LOST, "no longer has the upload",
         "--resume never"},
        {"AccessDenied", 403, HAUL_E_REMOTE, "no permission", "policies"},
        {"InvalidAccessKeyId", 403, HAUL_E_AUTH, "does not know the key",
         "--endpoint"},
        {"SignatureDoesNotMatch", 403, HAUL_E_AUTH, "refuses the signature",
         "secret key"},
        {"ExpiredToken", 400, HAUL_E_AUTH, "expired", "AWS_SESSION_TOKEN"},
        {"RequestTimeTooSkewed", 403, HAUL_E_AUTH, "clocks", "Set the clock"},
        {"AuthorizationHeaderMalformed", 400, HAUL_E_AUTH, "another region",
         "--region"},
        {"SlowDown", 503, HAUL_E_REMOTE_BUSY, "too many requests",
         "--connections 1"},
        {"ServiceUnavailable", 503, HAUL_E_REMOTE_BUSY, "busy", "later"},
        {"RequestTimeout", 400, HAUL_E_REMOTE_BUSY, "waited too long", NULL},
        {"InternalError", 500, HAUL_E_REMOTE_IO, "the server failed", "log"},
        {"BadDigest", 400, HAUL_E_DIGEST, "other bytes", NULL},
        {"XAmzContentSHA256Mismatch", 400, HAUL_E_DIGEST, "other bytes", NULL},
        {"InvalidPart", 400, HAUL_E_LOST, "no longer has a part", "again"},
        {"InvalidPartOrder", 400, HAUL_E_REMOTE, "list of parts", NULL},
        {"EntityTooSmall", 400, HAUL_E_REMOTE, "too small", "5 MiB"},
        {"EntityTooLarge", 400, HAUL_E_REMOTE, "too large", "limit"},
        {"PreconditionFailed", 412, HAUL_E_EXISTS, "exists", "--no-clobber"},
        {"ConditionalRequestConflict", 409, HAUL_E_REMOTE_BUSY, "another write",
         "again"},
        {"QuotaExceeded", 403, HAUL_E_REMOTE_FULL, "quota", "Free"},
        {"PermanentRedirect", 301, HAUL_E_REMOTE, "another place", "--region"},
        {"NotImplemented", 501, HAUL_E_REMOTE, "cannot do this",
         "--no-clobber"},
        /* not known: the status counts, and the server's words */
        {"InvalidRequest", 400, HAUL_E_REMOTE, "does not understand", NULL},
        {"Odd", 403, HAUL_E_REMOTE, "no permission", NULL},
        {"Odd", 503, HAUL_E_REMOTE_BUSY, "the server is busy", "later"},
        {"Odd", 599, HAUL_E_REMOTE_IO, "the server failed", NULL},
        {"Odd", 418, HAUL_E_REMOTE, "the server refuses", NULL},
        {"Odd", 200, HAUL_E_REMOTE, "the server refuses", NULL},
        /* known, in a Complete that began well */
        {"InternalError", 200, HAUL_E_REMOTE_IO, "the server failed", "log"},
    };
    char message[] = "What it\nsays.", id[] = "4442587FB7D0A2F9";

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        char code[sizeof(cases[i].code)];
        struct hl_s3_error from = {
            .code = code, .message = message, .request_id = id};
        struct hl_error e = {0};

        memcpy(code, cases[i].code, sizeof(code));
        if (hl_s3_error(&from, cases[i].status, &writing, &e) !=
                cases[i].error ||
            e.code != cases[i].error || !strstr(e.message, cases[i].words) ||
            (cases[i].hint ? !strstr(e.hint, cases[i].hint) : e.hint[0]))
            fail_msg("%s: %d %s (%s)", code, e.code, e.message, e.hint);
        assert_memory_equal(e.message, "cannot write 's3://b/k': ", 25);
        assert_int_equal(e.proto_status, cases[i].status);
        assert_non_null(strstr(e.detail, "What it"));
    }
}

static void the_detail_says_what_the_server_said(void **state)
{
    char code[] = "SlowDown", message[] = "Reduce\tit.", id[] = "44";
    struct hl_s3_error from = {
        .code = code, .message = message, .request_id = id};
    struct hl_error e = {0};

    (void)state;
    hl_s3_error(&from, 503, &writing, &e);
    assert_string_equal(
        e.detail, "HTTP status 503, SlowDown, request 44: Reduce\\x09it.");
    from.message = NULL;
    from.request_id = NULL;
    hl_err_clear(&e);
    hl_s3_error(&from, 503, &writing, &e);
    assert_string_equal(e.detail, "HTTP status 503, SlowDown");
}

static void the_right_region_is_named(void **state)
{
    char code[] = "AuthorizationHeaderMalformed", region[] = "eu-west-1";
    char moved[] = "PermanentRedirect";
    char endpoint[] = "b.s3-eu-west-1.x.test\r\n";
    struct hl_s3_error from = {
        .code = code, .region = region, .endpoint = endpoint};
    struct hl_error e = {0};

    (void)state;
    assert_int_equal(hl_s3_error(&from, 400, &reading, &e), HAUL_E_AUTH);
    assert_string_equal(e.hint,
                        "The server says that it is 'eu-west-1': --region "
                        "eu-west-1.");
    from.code = moved;
    from.region = NULL;
    hl_err_clear(&e);
    assert_int_equal(hl_s3_error(&from, 301, &reading, &e), HAUL_E_REMOTE);
    assert_non_null(strstr(e.hint, "b.s3-eu-west-1.x.test\\x0d\\x0a'"));
    assert_non_null(strstr(e.hint, "--endpoint"));
}

static void without_a_document_the_status_counts(void **state)
{
    static const struct {
        int status, write, read;
    } cases[] = {
        {301, HAUL_E_REMOTE, HAUL_E_REMOTE},
        {400, HAUL_E_REMOTE, HAUL_E_REMOTE},
        {401, HAUL_E_AUTH, HAUL_E_AUTH},
        {403, HAUL_E_REMOTE, HAUL_E_REMOTE},
        {404, HAUL_E_REMOTE, HAUL_E_REMOTE},
        {409, HAUL_E_REMOTE, HAUL_E_REMOTE},
        {412, HAUL_E_EXISTS, HAUL_E_CHANGED},
        {416, HAUL_E_CHANGED, HAUL_E_CHANGED},
        {429, HAUL_E_REMOTE_BUSY, HAUL_E_REMOTE_BUSY},
        {500, HAUL_E_REMOTE_IO, HAUL_E_REMOTE_IO},
        {503, HAUL_E_REMOTE_BUSY, HAUL_E_REMOTE_BUSY},
        {507, HAUL_E_REMOTE_FULL, HAUL_E_REMOTE_FULL},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        struct hl_error e = {0};
        int status = cases[i].status;

        assert_int_equal(hl_s3_error(NULL, status, &writing, &e),
                         cases[i].write);
        assert_int_equal(e.code, cases[i].write);
        if (status < 429)
            assert_true(e.hint[0]);
        assert_null(strstr(e.hint, ".netrc"));
        assert_int_equal(hl_s3_error(NULL, status, &reading, NULL),
                         cases[i].read);
        /* the first cause stays */
        assert_int_equal(hl_s3_error(NULL, 404, &reading, &e), HAUL_E_REMOTE);
        assert_int_equal(e.proto_status, status);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, check_no_leak)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(codes_are_told_in_our_words),
        TEST(the_detail_says_what_the_server_said),
        TEST(the_right_region_is_named),
        TEST(without_a_document_the_status_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
