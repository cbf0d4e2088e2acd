/* s3.c, s3_request.c, s3_open.c and s3_body.c: where requests go, what of them
 * is signed, what no server of the end-to-end tests can be brought to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "drivers.h"
#include "s3_private.h"

#define PATIENCE_S 20

static struct hl_env world;
static struct hl_opts *opts;
static struct hl_endpoint *endpoint;
static struct hl_object *object;

static void option(int id, const char *value)
{
    struct hl_error err = {0};

    assert_int_equal(hl_opts_set_str(opts, 0, id, value, &err), 0);
}

static void no_warning(const struct hl_env *e, const struct hl_error *warning)
{
    (void)e, (void)warning;
}

static int setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    assert_int_equal(hl_loop_new(false, &world.loop, NULL), 0);
    assert_int_equal(hl_opts_new(&opts), 0);
    world.opts = opts;
    world.warn = no_warning;
    world.library_bytes_max = 1 << 20;
    endpoint = NULL;
    object = NULL;
    setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    setenv("AWS_CONFIG_FILE", "/nonexistent", 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent", 1);
    unsetenv("AWS_SESSION_TOKEN");
    unsetenv("AWS_PROFILE");
    unsetenv("AWS_REGION");
    unsetenv("AWS_DEFAULT_REGION");
    unsetenv("AWS_ENDPOINT_URL");
    unsetenv("AWS_ENDPOINT_URL_S3");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hl_loop_free(world.loop);
    hl_opts_free(opts);
    assert_int_equal(hl_mem_live(), 0);
    return 0;
}

static int try_endpoint(const char *name, struct hl_error *err)
{
    struct hl_url url;
    int rc;

    assert_int_equal(hl_url_parse(name, &url, err), 0);
    rc = hl_driver_s3.endpoint_new(&world, &url, &endpoint, err);
    hl_url_fini(&url);
    return rc;
}

static struct hl_http_obj *make(const char *name, enum hl_role role)
{
    struct hl_error err = {0};
    struct hl_url url;

    assert_int_equal(try_endpoint(name, &err), 0);
    assert_int_equal(hl_url_parse(name, &url, &err), 0);
    assert_int_equal(
        hl_driver_s3.object_new(endpoint, &url, role, &object, &err), 0);
    hl_url_fini(&url);
    return HL_CONTAINER(object, struct hl_http_obj, base);
}

static void unmake(void)
{
    if (object)
        hl_driver_s3.close(object);
    if (endpoint)
        hl_driver_s3.endpoint_free(endpoint);
    object = NULL;
    endpoint = NULL;
}

/* ---- Where it is -------------------------------------------------------- */

static void the_address_follows_service_and_options(void **state)
{
    static const struct {
        const char *name, *endpoint, *region, *addressing, *url;
    } cases[] = {
        {"s3://bucket/key", NULL, NULL, "auto",
         "https://bucket.s3.us-east-1.amazonaws.com/key"},
        {"s3://bucket/key", NULL, "eu-west-3", "auto",
         "https://bucket.s3.eu-west-3.amazonaws.com/key"},
        {"s3://bucket/key", NULL, "cn-north-1", "auto",
         "https://bucket.s3.cn-north-1.amazonaws.com.cn/key"},
        /* A certificate for '*.' has no dots there, and hosts no capitals. */
        {"s3://my.bucket/key", NULL, NULL, "auto",
         "https://s3.us-east-1.amazonaws.com/my.bucket/key"},
        {"s3://My_Bucket/key", NULL, NULL, "auto",
         "https://s3.us-east-1.amazonaws.com/My_Bucket/key"},
        {"s3://bucket/key", NULL, NULL, "path",
         "https://s3.us-east-1.amazonaws.com/bucket/key"},
        {"s3://my.bucket/key", NULL, NULL, "virtual",
         "https://my.bucket.s3.us-east-1.amazonaws.com/key"},
        {"s3://bucket/key", "https://storage.googleapis.com", NULL, "auto",
         "https://bucket.storage.googleapis.com/key"},
        {"s3://bucket/key", "https://x.r2.cloudflarestorage.com", NULL, "auto",
         "https://x.r2.cloudflarestorage.com/bucket/key"},
        {"s3://bucket/key", "http://127.0.0.1:9000", NULL, "auto",
         "http://127.0.0.1:9000/bucket/key"},
        {"s3://bucket/key", "https://[::1]:9000/", NULL, "auto",
         "https://[::1]:9000/bucket/key"},
        {"s3://bucket/key", "https://minio.lan", NULL, "virtual",
         "https://bucket.minio.lan/key"},
        {"s3://bucket/key", "https://h/s3/", NULL, "auto",
         "https://h/s3/bucket/key"},
        {"s3://bucket/key", "https://h/s3", NULL, "virtual",
         "https://bucket.h/s3/key"},
        {"s3://bucket/a b/c+d%25/../?x#y", "https://h", NULL, "auto",
         "https://h/bucket/a%20b/c%2Bd%25/../%3Fx%23y"},
        {"s3://bucket//k", "https://h", NULL, "auto", "https://h/bucket//k"},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        option(HAUL_OPT_ENDPOINT, cases[i].endpoint);
        option(HAUL_OPT_REGION, cases[i].region);
        option(HAUL_OPT_ADDRESSING, cases[i].addressing);
        assert_string_equal(make(cases[i].name, HL_ROLE_SOURCE)->url,
                            cases[i].url);
        unmake();
    }
}

static void an_endpoint_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {
        "h:9000",          "ftp://h", "https://u@h", "https://u:pass@h",
        "https://h/?pass", "s3://h",  "https://"};
    struct hl_error err;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        memset(&err, 0, sizeof(err));
        option(HAUL_OPT_ENDPOINT, bad[i]);
        assert_int_equal(try_endpoint("s3://b/k", &err), HAUL_E_INVAL);
        assert_null(strstr(err.message, "pass"));
        assert_non_null(strstr(err.hint, "--endpoint"));
    }
}

static void keys_are_wanted(void **state)
{
    struct hl_error err = {0};

    (void)state;
    unsetenv("AWS_SECRET_ACCESS_KEY");
    assert_int_equal(try_endpoint("s3://b/k", &err), HAUL_E_AUTH);
}

static void out_of_memory_leaves_nothing(void **state)
{
    int rc = HAUL_E_NOMEM;

    (void)state;
    option(HAUL_OPT_HEADER, "x-amz-acl: private");
    for (int64_t n = 1; rc; n++) {
        struct hl_error err = {0};
        struct hl_url url;

        assert_true(n < 1000);
        assert_int_equal(hl_url_parse("s3://bucket/key", &url, &err), 0);
        hl_mem_fail_at(n, true);
        rc = hl_driver_s3.endpoint_new(&world, &url, &endpoint, &err);
        if (!rc)
            rc = hl_driver_s3.object_new(endpoint, &url, HL_ROLE_TARGET,
                                         &object, &err);
        hl_mem_fail_at(0, false);
        hl_url_fini(&url);
        assert_true(!rc || rc == HAUL_E_NOMEM);
        unmake();
    }
}

/* ---- What is signed ----------------------------------------------------- */

static const char *find(const struct curl_slist *list, const char *name)
{
    for (; list; list = list->next)
        if (hl_http_is_field(list->data, name))
            return list->data;
    return NULL;
}

static struct curl_slist *authorize(const char *method, const char *url,
                                    const char *const *lines)
{
    struct hl_http_ep *ep = HL_CONTAINER(endpoint, struct hl_http_ep, base);
    struct hl_http_request req = {
        .ep = ep, .method = method, .url = (char *)(uintptr_t)url};
    struct curl_slist *list = NULL;
    struct hl_error err = {0};

    for (; lines && *lines; lines++)
        list = curl_slist_append(list, *lines);
    assert_int_equal(ep->authorize(&req, &list, &err), 0);
    return list;
}

/* All that must not be changed on the way, and nothing that proxies may. */
static void everything_that_counts_is_signed(void **state)
{
    static const char *const lines[] = {"x-amz-meta-mtime: 1.5",
                                        "Content-MD5: AAAA",
                                        "Range: bytes=0-1",
                                        "Expect:",
                                        "x-amz-acl;",
                                        "User-Agent: haul",
                                        "Content-Type: a/b",
                                        NULL};
    struct curl_slist *list;
    const char *text;

    (void)state;
    option(HAUL_OPT_ENDPOINT, "https://h:8443");
    make("s3://bucket/key", HL_ROLE_TARGET);
    list = authorize("PUT", "https://h:8443/bucket/key?b=2&a=%20", lines);
    text = find(list, "Authorization");
    assert_non_null(text);
    assert_non_null(strstr(text, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    assert_non_null(strstr(text, "/us-east-1/s3/aws4_request"));
    assert_non_null(strstr(text, "SignedHeaders=content-md5;content-type;host;"
                                 "x-amz-acl;x-amz-content-sha256;x-amz-date;"
                                 "x-amz-meta-mtime"));
    assert_null(strstr(text, "secret"));
    assert_string_equal(find(list, "x-amz-content-sha256"),
                        "x-amz-content-sha256: UNSIGNED-PAYLOAD");
    curl_slist_free_all(list);
    list = authorize("GET", "https://h:8443/bucket/key", NULL);
    assert_string_equal(find(list, "x-amz-content-sha256"),
                        "x-amz-content-sha256: " HL_S3_EMPTY);
    curl_slist_free_all(list);
    unmake();
}

/* The signature is over what libcurl says in Host. */
static void the_host_is_signed_as_it_is_sent(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"https://h/b/k", "https://h:443/b/k", true},
        {"http://h/b/k", "http://h:80/b/k", true},
        {"https://h/b/k", "https://h:80/b/k", false},
        {"https://h/b/k", "https://i/b/k", false},
        {"https://h/b/k", "https://h/b/K", false},
        {"https://h/b/k%2b", "https://h/b/k%2B", true},
        {"https://h/b/k?a=1&b=2", "https://h/b/k?b=2&a=1", true},
        {"https://h/b/k?a=1", "https://h/b/k?a=2", false},
    };
    static const char *const host[] = {"Host: other", NULL};

    (void)state;
    make("s3://bucket/key", HL_ROLE_TARGET);
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        /* Not across the end of a second. */
        for (int tries = 0;; tries++) {
            struct curl_slist *a = authorize("GET", cases[i].a, NULL);
            struct curl_slist *b = authorize("GET", cases[i].b, NULL);
            bool at_once =
                !strcmp(find(a, "x-amz-date"), find(b, "x-amz-date"));
            bool same =
                !strcmp(find(a, "Authorization"), find(b, "Authorization"));

            curl_slist_free_all(a);
            curl_slist_free_all(b);
            if (!at_once && tries < 3)
                continue;
            assert_int_equal(same, cases[i].same);
            break;
        }
    }
    struct curl_slist *mine = authorize("GET", "https://h/b/k", host);
    struct curl_slist *theirs = authorize("GET", "https://other/b/k", NULL);

    if (!strcmp(find(mine, "x-amz-date"), find(theirs, "x-amz-date")))
        assert_string_equal(find(mine, "Authorization"),
                            find(theirs, "Authorization"));
    curl_slist_free_all(mine);
    curl_slist_free_all(theirs);
    unmake();
}

static void what_is_of_the_object_is_kept_from_other_requests(void **state)
{
    struct hl_http_ep *ep;
    struct hl_s3_ep *s3;

    (void)state;
    option(HAUL_OPT_HEADER, "x-amz-storage-class: GLACIER");
    option(HAUL_OPT_HEADER, "X-Amz-Request-Payer: requester");
    option(HAUL_OPT_HEADER, "content-type: a/b");
    option(HAUL_OPT_HEADER, "X-Trace: 1");
    make("s3://bucket/key", HL_ROLE_TARGET);
    ep = HL_CONTAINER(endpoint, struct hl_http_ep, base);
    s3 = hl_s3_of(ep);
    assert_int_equal(ep->header_count, 2);
    assert_string_equal(ep->headers[0], "X-Amz-Request-Payer: requester");
    assert_string_equal(ep->headers[1], "X-Trace: 1");
    assert_int_equal(s3->creating_count, 2);
    assert_string_equal(s3->creating[0], "x-amz-storage-class: GLACIER");
    assert_string_equal(s3->creating[1], "content-type: a/b");
    unmake();
}

/* ---- Answers ------------------------------------------------------------ */

static void times_are_seconds_with_a_fraction(void **state)
{
    (void)state;
    assert_true(hl_s3_mtime_ns("1700000000") == INT64_C(1700000000000000000));
    assert_true(hl_s3_mtime_ns("1700000000.5") == INT64_C(1700000000500000000));
    assert_true(hl_s3_mtime_ns("1700000000.123456789") ==
                INT64_C(1700000000123456789));
    assert_true(hl_s3_mtime_ns("1700000000.1234567899") ==
                INT64_C(1700000000123456789));
    assert_true(hl_s3_mtime_ns("1.") == INT64_C(1000000000));
    assert_true(hl_s3_mtime_ns(NULL) == 0);
    assert_true(hl_s3_mtime_ns("") == 0);
    assert_true(hl_s3_mtime_ns("-1") == 0);
    assert_true(hl_s3_mtime_ns("1700000000 ") == 0);
    assert_true(hl_s3_mtime_ns("2023-11-14") == 0);
    assert_true(hl_s3_mtime_ns("9999999999") == 0); /* no such time here */
    assert_true(hl_s3_mtime_ns("99999999999999999999") == 0);
}

static int read_answer(int status, const char *date, const char *body,
                       bool *again, struct hl_error *err)
{
    struct hl_s3_answer a = {
        .ep = HL_CONTAINER(endpoint, struct hl_http_ep, base),
        .display = "s3://b/k",
        .verb = "write",
        .status = status,
        .body = body,
        .body_len = body ? strlen(body) : 0,
        .date = date};
    int rc;

    memset(err, 0, sizeof(*err));
    rc = hl_s3_read_answer(&a, HL_S3_COMPLETE, err);
    *again = a.again;
    hl_s3_answer_fini(&a);
    return rc;
}

#define SKEWED "<Error><Code>RequestTimeTooSkewed</Code></Error>"

static void the_clock_is_corrected_once(void **state)
{
    struct hl_s3_ep *s3;
    struct hl_error err;
    bool again;

    (void)state;
    make("s3://bucket/key", HL_ROLE_TARGET);
    s3 = hl_s3_of(HL_CONTAINER(endpoint, struct hl_http_ep, base));
    /* Not by an answer that has no time, or one that is no time. */
    assert_int_equal(read_answer(403, NULL, SKEWED, &again, &err), HAUL_E_AUTH);
    assert_false(again);
    read_answer(403, "soon", SKEWED, &again, &err);
    assert_false(again);
    /* Nor by one that is refused for another reason. */
    read_answer(403, "Mon, 01 Jan 2035 00:00:00 GMT",
                "<Error><Code>AccessDenied</Code></Error>", &again, &err);
    assert_false(again);
    assert_false(atomic_load(&s3->clock_known));
    read_answer(403, "Mon, 01 Jan 2035 00:00:00 GMT", SKEWED, &again, &err);
    assert_true(again);
    assert_true(atomic_load(&s3->clock_s) > 0);
    /* The others that were under way. */
    read_answer(403, "Mon, 01 Jan 2035 00:00:05 GMT", SKEWED, &again, &err);
    assert_true(again);
    read_answer(403, "Tue, 01 Jan 2036 00:00:00 GMT", SKEWED, &again, &err);
    assert_false(again);
    unmake();
}

static void success_of_complete_is_in_its_body(void **state)
{
    static const struct {
        int status;
        const char *body;
        int rc;
    } cases[] = {
        {200,
         "<CompleteMultipartUploadResult><ETag>\"x-1\"</ETag>"
         "</CompleteMultipartUploadResult>",
         0},
        {200, "\n \n<Error><Code>InternalError</Code></Error>",
         HAUL_E_REMOTE_IO},
        {200, "<Error><Code>NoSuchUpload</Code></Error>", HAUL_E_LOST},
        {200, "", HAUL_E_PROTO},
        {200, NULL, HAUL_E_PROTO},
        {200, "<html><title>Hello</title></html>", HAUL_E_PROTO},
        {404, "<html><title>Hello</title></html>", HAUL_E_REMOTE},
        {404, "<Error><Code>NoSuchUpload</Code></Error>", HAUL_E_LOST},
        {503, NULL, HAUL_E_REMOTE_BUSY},
        {400, "<Error><Code>InvalidPart</Code></Error>", HAUL_E_LOST},
        /* A document of success with a status that is none. */
        {500,
         "<CompleteMultipartUploadResult><ETag>\"x-1\"</ETag>"
         "</CompleteMultipartUploadResult>",
         HAUL_E_REMOTE_IO},
    };
    struct hl_error err;
    bool again;

    (void)state;
    make("s3://bucket/key", HL_ROLE_TARGET);
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        assert_int_equal(
            read_answer(cases[i].status, NULL, cases[i].body, &again, &err),
            cases[i].rc);
        assert_int_equal(err.code, cases[i].rc);
        assert_false(again);
    }
    unmake();
}

/* ---- Parts -------------------------------------------------------------- */

static void on_write(struct hl_op *op)
{
    int *returned = op->user;

    (*returned)++;
}

/* A pipe that nobody said the size of. */
static void the_part_that_is_one_too_many_is_refused(void **state)
{
    static uint8_t data[16];
    struct hl_http_obj *obj = make("s3://bucket/key", HL_ROLE_TARGET);
    struct hl_http_upload *u = obj->upload;
    struct hl_io io = {.len = sizeof(data), .data = data};
    int returned = 0;
    time_t until = time(NULL) + PATIENCE_S;

    (void)state;
    u->size = HL_SIZE_UNKNOWN;
    u->chunk_size = sizeof(data);
    u->layout.parts.size = HL_S3_PART_MIN;
    io.part = HL_S3_PART_COUNT;
    io.offset = HL_S3_PART_COUNT * HL_S3_PART_MIN;
    io.op.done = on_write;
    io.op.user = &returned;
    hl_driver_s3.write(object, &io);
    while (!returned && time(NULL) < until)
        hl_loop_step(world.loop, 100);
    assert_int_equal(returned, 1);
    assert_int_equal(io.op.rc, HAUL_E_INVAL);
    assert_non_null(strstr(io.op.error.hint, "--expected-size"));
    unmake();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_address_follows_service_and_options),
        TEST(an_endpoint_that_is_none_is_refused),
        TEST(keys_are_wanted),
        TEST(out_of_memory_leaves_nothing),
        TEST(everything_that_counts_is_signed),
        TEST(the_host_is_signed_as_it_is_sent),
        TEST(what_is_of_the_object_is_kept_from_other_requests),
        TEST(times_are_seconds_with_a_fraction),
        TEST(the_clock_is_corrected_once),
        TEST(success_of_complete_is_in_its_body),
        TEST(the_part_that_is_one_too_many_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
