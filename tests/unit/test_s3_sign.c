/*
 * Signature Version 4 against examples that others published or computed; what
 * is encoded for a URL; clocks.
 *
 *   docs:     "Signature Calculations for the Authorization Header", Amazon S3
 *             API Reference, the examples
 *   suite:    the test suite of Signature Version 4, as Amazon gave it out
 *   botocore: computed by botocore 1.29.27 (S3SigV4Auth)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "s3_sign.h"

#define DOCS_TIME 1369353600     /* 20130524T000000Z */
#define SUITE_TIME 1440938160    /* 20150830T123600Z */
#define BOTOCORE_TIME 1772323199 /* 20260228T235959Z */

#define DOCS_SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SUITE_SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define UNRESERVED                                                             \
    "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define TOKEN                                                                  \
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKW" \
    "HGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4" \
    "IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE" \
    "8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yj" \
    "c8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="

static const struct hl_s3_signer docs = {"AKIAIOSFODNN7EXAMPLE", DOCS_SECRET,
                                         NULL, "us-east-1", "s3"};
static const struct hl_s3_signer suite = {"AKIDEXAMPLE", SUITE_SECRET, NULL,
                                          "us-east-1", "service"};

static int check_no_leak(void **state)
{
    (void)state;
    hl_mem_fail_at(0, false);
    return hl_mem_live() == 0 ? 0 : -1;
}

struct example {
    const char *name, *method, *path, *query;
    struct hl_s3_field headers[4];
    const char *payload; /* NULL: empty */
    const char *names, *signature;
};

static void check_example(const struct hl_s3_signer *who, const char *host,
                          int64_t time_s, const char *day,
                          const struct example *x)
{
    struct hl_s3_request req = {.method = x->method,
                                .host = host,
                                .path = x->path,
                                .query = x->query,
                                .headers = x->headers,
                                .payload =
                                    x->payload ? x->payload : HL_S3_EMPTY,
                                .time_s = time_s};
    struct hl_error e = {0};
    struct hl_s3_signed s;
    char want[512];

    while (req.header_count < HL_LEN(x->headers) &&
           x->headers[req.header_count].name)
        req.header_count++;
    if (hl_s3_sign(who, &req, &s, &e))
        fail_msg("%s: %s", x->name, e.message);
    snprintf(want, sizeof(want),
             "Authorization: AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/"
             "aws4_request, SignedHeaders=%s, Signature=%s",
             who->id, day, who->region, who->service, x->names, x->signature);
    if (strcmp(s.line[0], want) != 0)
        fail_msg("%s: %s", x->name, s.line[0]);
    hl_s3_signed_fini(&s);
    assert_int_equal(s.count, 0);
}

/* ---- Published examples ------------------------------------------------- */

static void examples_of_the_documentation_agree(void **state)
{
    static const struct example examples[] = {
        {"GET object",
         "GET",
         "/test.txt",
         NULL,
         {{"Range", "bytes=0-9"}},
         NULL,
         "host;range;x-amz-content-sha256;x-amz-date",
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
        {"PUT object",
         "PUT",
         "/test$file.text",
         NULL,
         {{"x-amz-storage-class", "REDUCED_REDUNDANCY"},
          {"Date", "Fri, 24 May 2013 00:00:00 GMT"}},
         "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
         "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
        {"GET bucket lifecycle",
         "GET",
         "/",
         "lifecycle",
         {{NULL, NULL}},
         NULL,
         "host;x-amz-content-sha256;x-amz-date",
         "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
        {"list objects",
         "GET",
         "/",
         "prefix=J&max-keys=2",
         {{NULL, NULL}},
         NULL,
         "host;x-amz-content-sha256;x-amz-date",
         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(examples); i++)
        check_example(&docs, "examplebucket.s3.amazonaws.com", DOCS_TIME,
                      "20130524", &examples[i]);
}

#define SUITE(name, method, path, query, names, signature, ...)                \
    {                                                                          \
        name, method, path, query, {__VA_ARGS__}, NULL, names, signature       \
    }

/* Of those where paths are brought into a normal form, the ones where they are
 * not: S3 takes every key as it is. */
static const struct example suite_examples[] = {
    SUITE("get-vanilla", "GET", "/", NULL, "host;x-amz-date",
          "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
          {NULL, NULL}),
    SUITE("post-vanilla", "POST", "/", NULL, "host;x-amz-date",
          "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
          {NULL, NULL}),
    SUITE("get-vanilla-empty-query-key", "GET", "/", "Param1=value1",
          "host;x-amz-date",
          "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
          {NULL, NULL}),
    SUITE("post-vanilla-query", "POST", "/", "Param1=value1", "host;x-amz-date",
          "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
          {NULL, NULL}),
    SUITE("get-vanilla-query-order-key", "GET", "/",
          "Param1=value2&Param1=Value1", "host;x-amz-date",
          "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
          {NULL, NULL}),
    SUITE("get-vanilla-query-order-key-case", "GET", "/",
          "Param2=value2&Param1=value1", "host;x-amz-date",
          "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
          {NULL, NULL}),
    SUITE("get-vanilla-query-order-value", "GET", "/",
          "Param1=value2&Param1=value1", "host;x-amz-date",
          "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
          {NULL, NULL}),
    SUITE("get-vanilla-query-order-encoded", "GET", "/",
          "Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "host;x-amz-date",
          "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
          {NULL, NULL}),
    SUITE("get-vanilla-query-unreserved", "GET", "/", UNRESERVED "=" UNRESERVED,
          "host;x-amz-date",
          "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
          {NULL, NULL}),
    SUITE("get-vanilla-utf8-query", "GET", "/", "\xe1\x88\xb4=bar",
          "host;x-amz-date",
          "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
          {NULL, NULL}),
    SUITE("get-unreserved", "GET", "/" UNRESERVED, NULL, "host;x-amz-date",
          "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
          {NULL, NULL}),
    SUITE("get-utf8", "GET", "/\xe1\x88\xb4", NULL, "host;x-amz-date",
          "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
          {NULL, NULL}),
    SUITE("get-space-unnormalized", "GET", "/example space/", NULL,
          "host;x-amz-date",
          "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
          {NULL, NULL}),
    SUITE("get-slashes-unnormalized", "GET", "//example//", NULL,
          "host;x-amz-date",
          "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5",
          {NULL, NULL}),
    SUITE("get-slash-pointless-dot-unnormalized", "GET", "/./example", NULL,
          "host;x-amz-date",
          "beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff",
          {NULL, NULL}),
    SUITE("get-relative-relative-unnormalized", "GET",
          "/example1/example2/../..", NULL, "host;x-amz-date",
          "dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b",
          {NULL, NULL}),
    SUITE("get-header-key-duplicate", "GET", "/", NULL,
          "host;my-header1;x-amz-date",
          "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
          {"My-Header1", "value2"}, {"My-Header1", "value2"},
          {"My-Header1", "value1"}),
    SUITE("get-header-value-multiline", "GET", "/", NULL,
          "host;my-header1;x-amz-date",
          "ba17b383a53190154eb5fa66a1b836cc297cc0a3d70a5d00705980573d8ff790",
          {"My-Header1", "value1"}, {"My-Header1", "  value2"},
          {"My-Header1", "     value3"}),
    SUITE("get-header-value-order", "GET", "/", NULL,
          "host;my-header1;x-amz-date",
          "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
          {"My-Header1", "value4"}, {"My-Header1", "value1"},
          {"My-Header1", "value3"}, {"My-Header1", "value2"}),
    SUITE("get-header-value-trim", "GET", "/", NULL,
          "host;my-header1;my-header2;x-amz-date",
          "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
          {"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}),
    SUITE("post-header-key-sort", "POST", "/", NULL,
          "host;my-header1;x-amz-date",
          "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
          {"My-Header1", "value1"}),
    SUITE("post-header-value-case", "POST", "/", NULL,
          "host;my-header1;x-amz-date",
          "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
          {"My-Header1", "VALUE1"}),
};

static void examples_of_the_suite_agree(void **state)
{
    static const struct example form = {
        "post-x-www-form-urlencoded",
        "POST",
        "/",
        NULL,
        {{"Content-Type", "application/x-www-form-urlencoded"}},
        "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
        "content-type;host;x-amz-date",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"};

    (void)state;
    for (size_t i = 0; i < HL_LEN(suite_examples); i++)
        check_example(&suite, "example.amazonaws.com", SUITE_TIME, "20150830",
                      &suite_examples[i]);
    check_example(&suite, "example.amazonaws.com", SUITE_TIME, "20150830",
                  &form);
}

static void session_tokens_are_signed(void **state)
{
    static const struct example get = {
        "get-vanilla-with-session-token",
        "GET",
        "/",
        NULL,
        {{NULL, NULL}},
        NULL,
        "host;x-amz-date;x-amz-security-token",
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"};
    static const struct example post = {
        "post-sts-header-before",
        "POST",
        "/",
        NULL,
        {{NULL, NULL}},
        NULL,
        "host;x-amz-date;x-amz-security-token",
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"};
    struct hl_s3_signer who = suite;

    (void)state;
    who.token =
        "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    check_example(&who, "example.amazonaws.com", SUITE_TIME, "20150830", &get);
    who.token = TOKEN;
    check_example(&who, "example.amazonaws.com", SUITE_TIME, "20150830", &post);
}

/* ---- What haul sends, as botocore signs it ------------------------------ */

static void upload_requests_agree_with_botocore(void **state)
{
    static const struct example part = {
        "UploadPart",
        "PUT",
        "/dumps/a b/\xc3\xbc+(c)*'!~x..//y",
        "partNumber=7&uploadId="
        "VXBsb2FkIElEIGZvciA2aWWpbmcncyBteS1tb3ZpZS5tMnRzIHVwbG9hZA",
        {{"Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="}},
        HL_S3_UNSIGNED,
        "content-md5;host;x-amz-content-sha256;x-amz-date",
        "04a005bd8ced66edf0d2ed54435d2e98ec27c6ad2198103c75596fee904796b3"};
    static const struct example create = {
        "CreateMultipartUpload",
        "POST",
        "/bucket/key",
        "uploads=",
        {{"x-amz-checksum-algorithm", "CRC32C"},
         {"Content-Type", "application/octet-stream"}},
        NULL,
        "content-type;host;x-amz-checksum-algorithm;x-amz-content-sha256;"
        "x-amz-date;x-amz-security-token",
        "2b925c930d652b79c61f660cdd79ac7e41ac6052366b88eac8b8d7f53e5e55d1"};
    /* names that begin like others, which is where libcurl 7.88 goes wrong */
    static const struct example copy = {
        "UploadPartCopy",
        "PUT",
        "/bucket/key",
        "uploadId=U&partNumber=1",
        {{"x-amz-copy-source-range", "bytes=0-9"},
         {"x-amz-copy-source", "/b/k"},
         {"x-amz-meta-foo-bar", "2"},
         {"x-amz-meta-foo", "1"}},
        NULL,
        "host;x-amz-content-sha256;x-amz-copy-source;x-amz-copy-source-range;"
        "x-amz-date;x-amz-meta-foo;x-amz-meta-foo-bar",
        "3f7917c31a9f4b09838b3028f00ab9c632abaf5255f5ef0e0e70cbf80c4933e3"};
    struct hl_s3_signer who = docs;

    (void)state;
    who.region = "eu-central-1";
    check_example(&who, "bucket.s3.eu-central-1.amazonaws.com", BOTOCORE_TIME,
                  "20260228", &part);
    who.token = TOKEN;
    check_example(&who, "127.0.0.1:9000", BOTOCORE_TIME, "20260228", &create);
    who = (struct hl_s3_signer){"test:tester", "testing", NULL, "us-east-1",
                                "s3"};
    check_example(&who, "127.0.0.1:9000", BOTOCORE_TIME, "20260228", &copy);
}

static void every_line_to_send_comes_out(void **state)
{
    struct hl_s3_signer who = docs;
    struct hl_s3_request req = {.method = "GET",
                                .host = "h",
                                .path = "/",
                                .payload = HL_S3_UNSIGNED,
                                .time_s = DOCS_TIME};
    struct hl_s3_signed s;

    (void)state;
    assert_int_equal(hl_s3_sign(&who, &req, &s, NULL), 0);
    assert_int_equal(s.count, 3);
    assert_memory_equal(s.line[0], "Authorization: ", 15);
    assert_string_equal(s.line[1], "x-amz-date: 20130524T000000Z");
    assert_string_equal(s.line[2], "x-amz-content-sha256: UNSIGNED-PAYLOAD");
    hl_s3_signed_fini(&s);
    hl_s3_signed_fini(&s);
    who.token = "abc";
    assert_int_equal(hl_s3_sign(&who, &req, &s, NULL), 0);
    assert_int_equal(s.count, 4);
    assert_string_equal(s.line[3], "x-amz-security-token: abc");
    hl_s3_signed_fini(&s);
    assert_int_equal(hl_s3_sign(&suite, &req, &s, NULL), 0);
    assert_int_equal(s.count, 2);
    hl_s3_signed_fini(&s);
}

/* ---- Refused ------------------------------------------------------------ */

static void check_refused(const struct hl_s3_signer *who,
                          const struct hl_s3_request *req)
{
    struct hl_error e = {0};
    struct hl_s3_signed s;

    assert_int_equal(hl_s3_sign(who, req, &s, &e), HAUL_E_INVAL);
    assert_int_equal(e.code, HAUL_E_INVAL);
    assert_int_equal(s.count, 0);
    assert_null(strstr(e.message, DOCS_SECRET));
}

static void what_cannot_stand_in_a_header_is_refused(void **state)
{
    struct hl_s3_field line = {"a", "1\r\nEvil: 2"}, name = {"a b", "1"};
    const struct hl_s3_request good = {.method = "GET",
                                       .host = "h",
                                       .path = "/",
                                       .payload = HL_S3_EMPTY,
                                       .time_s = DOCS_TIME};
    struct hl_s3_request req = good;
    struct hl_s3_signer who = docs;

    (void)state;
    req.header_count = 1;
    req.headers = &line;
    check_refused(&docs, &req);
    req.headers = &name;
    check_refused(&docs, &req);
    req = good;
    req.host = "h\r\nEvil: 2";
    check_refused(&docs, &req);
    req = good;
    req.time_s = -1;
    check_refused(&docs, &req);
    req.time_s = INT64_C(253402300800); /* 10000-01-01 */
    check_refused(&docs, &req);
    who.id = "AK ID";
    check_refused(&who, &good);
    who.id = "";
    check_refused(&who, &good);
    who = docs;
    who.token = "a\nb";
    check_refused(&who, &good);
    who = docs;
    who.region = "us/east";
    check_refused(&who, &good);
    who.region = "";
    check_refused(&who, &good);
}

static void without_memory_nothing_is_left(void **state)
{
    const struct hl_s3_field header = {"Range", "bytes=0-9"};
    const struct hl_s3_request req = {.method = "GET",
                                      .host = "h",
                                      .path = "/a b",
                                      .query = "b=2&a=1",
                                      .headers = &header,
                                      .header_count = 1,
                                      .payload = HL_S3_EMPTY,
                                      .time_s = DOCS_TIME};
    struct hl_s3_signer who = docs;
    int64_t n;
    int rc = HAUL_E_NOMEM;

    (void)state;
    who.token = "abc";
    for (n = 1; rc; n++) {
        struct hl_error e = {0};
        struct hl_s3_signed s;

        assert_true(n < 100);
        hl_mem_fail_at(n, false);
        rc = hl_s3_sign(&who, &req, &s, &e);
        hl_mem_fail_at(0, false);
        if (rc) {
            assert_int_equal(rc, HAUL_E_NOMEM);
            assert_int_equal(e.code, HAUL_E_NOMEM);
            assert_int_equal(s.count, 0);
        }
        hl_s3_signed_fini(&s);
        assert_int_equal(hl_mem_live(), 0);
    }
    assert_true(n > 10);
}

/* ---- Encoding ----------------------------------------------------------- */

static void check_text(char *got, const char *want)
{
    assert_non_null(got);
    assert_string_equal(got, want);
    hl_free(got);
}

static void keys_are_encoded_strictly(void **state)
{
    char byte[2] = "", want[4];
    int c, kept = 0;

    (void)state;
    check_text(hl_s3_encode_path("/test$file.text"), "/test%24file.text");
    check_text(hl_s3_encode_path("/a+b(c)"), "/a%2Bb%28c%29");
    check_text(hl_s3_encode_path("/x/../\xc3\xa4\xff//%41 ?#"),
               "/x/../%C3%A4%FF//%2541%20%3F%23");
    check_text(hl_s3_encode("a/b"), "a%2Fb");
    check_text(hl_s3_encode(""), "");
    for (c = 1; c < 256; c++) {
        byte[0] = (char)c;
        snprintf(want, sizeof(want), "%%%02X", (unsigned)c);
        if (strchr(UNRESERVED, c))
            kept++;
        check_text(hl_s3_encode(byte), strchr(UNRESERVED, c) ? byte : want);
    }
    assert_int_equal(kept, 66);
}

static void queries_are_put_in_order(void **state)
{
    static const struct hl_s3_field pairs[] = {{"uploadId", "a/b+c=="},
                                               {"part-number-marker", NULL},
                                               {"partNumber", "7"},
                                               {"a-b", "1"},
                                               {"a", "2"},
                                               {"prefix", "x y&z"},
                                               {"uploads", ""}};

    (void)state;
    check_text(hl_s3_query(pairs, HL_LEN(pairs)),
               "a=2&a-b=1&partNumber=7&prefix=x%20y%26z&"
               "uploadId=a%2Fb%2Bc%3D%3D&uploads=");
    check_text(hl_s3_query(NULL, 0), "");
    check_text(hl_s3_query(pairs + 1, 1), "");
}

static void encoded_queries_are_made_canonical(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"uploads", "uploads="},
        {"uploads=", "uploads="},
        {"b=2&a=1", "a=1&b=2"},
        {"a-b=1&a=2", "a=2&a-b=1"},
        {"&&b&&a=&", "a=&b="},
        {"a=b=c", "a=b%3Dc"},
        {"=x", "=x"},
        {"k=%2f%7E%41", "k=%2F~A"},
        {"k=a+b c", "k=a%2Bb%20c"},
        {"k=%zz%4&l=%", "k=%25zz%254&l=%25"},
        {"k=%00", "k=%00"},
        {"%61=2&a=1", "a=1&a=2"},
    };

    (void)state;
    check_text(hl_s3_canonical_query(NULL), "");
    for (size_t i = 0; i < HL_LEN(cases); i++)
        check_text(hl_s3_canonical_query(cases[i][0]), cases[i][1]);
}

/* FIPS 180-2, and what sha256sum says of nothing. */
static void bodies_are_digested(void **state)
{
    char hex[HL_S3_SHA256_HEX];

    (void)state;
    assert_true(hl_s3_sha256("abc", 3, hex));
    assert_string_equal(
        hex,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true(hl_s3_sha256("", 0, hex));
    assert_string_equal(hex, HL_S3_EMPTY);
}

/* ---- Clocks ------------------------------------------------------------- */

static void the_servers_clock_is_read(void **state)
{
    int64_t offset = 7;

    (void)state;
    assert_true(hl_s3_clock_offset("Fri, 24 May 2013 00:00:00 GMT",
                                   DOCS_TIME - 3600, &offset));
    assert_int_equal(offset, 3600);
    assert_true(hl_s3_clock_offset("2013-05-24T00:00:00Z", DOCS_TIME, &offset));
    assert_int_equal(offset, 0);
    assert_true(
        hl_s3_clock_offset("2013-05-24T00:00:00.123Z", DOCS_TIME, &offset));
    assert_int_equal(offset, 0);
    assert_true(
        hl_s3_clock_offset("20150830T123600Z", SUITE_TIME + 86400, &offset));
    assert_int_equal(offset, -86400);
}

static void what_is_no_time_changes_nothing(void **state)
{
    static const char *const bad[] = {
        "",
        "soon",
        "2013-05-24",
        "2013-05-24T00:00:00",
        "2013-05-24T00:00:00+03:00",
        "2013-05-24 00:00:00Z!",
        "2013-13-24T00:00:00Z",
        "2013-05-24T25:00:00Z",
        "2013-05-24T00:00:00Zx",
        "13-05-24T00:00:00Z",
    };
    int64_t offset = 7;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++)
        if (hl_s3_clock_offset(bad[i], 0, &offset))
            fail_msg("accepted: %s", bad[i]);
    assert_int_equal(offset, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(examples_of_the_documentation_agree,
                                  check_no_leak),
        cmocka_unit_test_teardown(examples_of_the_suite_agree, check_no_leak),
        cmocka_unit_test_teardown(session_tokens_are_signed, check_no_leak),
        cmocka_unit_test_teardown(upload_requests_agree_with_botocore,
                                  check_no_leak),
        cmocka_unit_test_teardown(every_line_to_send_comes_out, check_no_leak),
        cmocka_unit_test_teardown(what_cannot_stand_in_a_header_is_refused,
                                  check_no_leak),
        cmocka_unit_test_teardown(without_memory_nothing_is_left,
                                  check_no_leak),
        cmocka_unit_test_teardown(keys_are_encoded_strictly, check_no_leak),
        cmocka_unit_test_teardown(queries_are_put_in_order, check_no_leak),
        cmocka_unit_test_teardown(encoded_queries_are_made_canonical,
                                  check_no_leak),
        cmocka_unit_test_teardown(bodies_are_digested, check_no_leak),
        cmocka_unit_test_teardown(the_servers_clock_is_read, check_no_leak),
        cmocka_unit_test_teardown(what_is_no_time_changes_nothing,
                                  check_no_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
