/* Secrets leave the command line and the rest of it stays. The file under test
 * is included: the command is no library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../cli/wipe.c"

#define TEXT_MAX 160

/* text becomes expected, and nothing is left behind its end. */
static void assert_url(const char *text, const char *expected)
{
    char url[TEXT_MAX] = "";

    assert_true(strlen(text) < sizeof(url));
    memcpy(url, text, strlen(text));
    wipe_url(url);
    assert_string_equal(url, expected);
    for (size_t i = strlen(url); i < sizeof(url); i++)
        assert_int_equal(url[i], '\0');
}

static void passwords_leave_urls(void **state)
{
    (void)state;
    assert_url("https://joe:s3cret@db1:8443/a?b=1",
               "https://joe@db1:8443/a?b=1");
    assert_url("put+https://joe:@db1/a", "put+https://joe@db1/a");
    assert_url("sftp://joe:s3?cret@db1/a", "sftp://joe@db1/a");
    assert_url("sftp://joe:s3@cret@db1/a", "sftp://joe@db1/a");
    assert_url("faulty:sftp://joe:s3cret@db1/a", "faulty:sftp://joe@db1/a");
    assert_url("tus+https://joe:s3cret@db1/a/", "tus+https://joe@db1/a/");
    assert_url("s3://AKID:s3cret@b/a", "s3://AKID@b/a"); /* refused later */
}

static void names_without_a_password_stay(void **state)
{
    (void)state;
    assert_url("dump:1@x", "dump:1@x");
    assert_url("joe@db1:dump", "joe@db1:dump");
    assert_url("https://db1?a:b@c", "https://db1?a:b@c");
    assert_url("https://db1:8443/a:b@c", "https://db1:8443/a:b@c");
    assert_url("mem:gen?size=1000000000000000000",
               "mem:gen?size=1000000000000000000");
    assert_url("sftp://db1/a?key=xyz", "sftp://db1/a?key=xyz");
    assert_url("file:///a?key=xyz", "file:///a?key=xyz");
    assert_url("s3://b/a?key=xyz", "s3://b/a?key=xyz");
    assert_url("S3://b/a?0123456789abcdef", "S3://b/a?0123456789abcdef");
    assert_url("SFTP://db1/a?key=xyz", "SFTP://db1/a?key=xyz");
}

static void credentials_leave_queries(void **state)
{
    (void)state;
    assert_url("https://db1/a?part=1&sig=abcd&x=2",
               "https://db1/a?part=1&sig=***&x=2");
    assert_url("https://db1/a?X-Amz-Signature=0123456789abcdef0123",
               "https://db1/a?X-Amz-Signature=***");
    assert_url("https://db1/a?q=0123456789abcdef&0123456789abcdef",
               "https://db1/a?q=***&***");
    assert_url("https://db1/a?key=x&token=&a", "https://db1/a?key=*&token=&a");
    assert_url("https://db1/a?", "https://db1/a?");
}

static void assert_option(int id, const char *text, const char *expected)
{
    const struct haul_opt_info option = {.id = (uint16_t)id};
    char value[TEXT_MAX] = "";
    struct args a = {.value_count = 1};

    assert_true(strlen(text) < sizeof(value));
    memcpy(value, text, strlen(text));
    a.values[0].option = &option;
    a.values[0].text = value;
    wipe_options(&a);
    assert_string_equal(value, expected);
    for (size_t i = strlen(value); i < sizeof(value); i++)
        assert_int_equal(value[i], '\0');
}

static void secret_headers_lose_their_values(void **state)
{
    (void)state;
    assert_option(HAUL_OPT_HEADER, "Authorization: Bearer xyz",
                  "Authorization:");
    assert_option(HAUL_OPT_HEADER, "proxy-authorization:xyz",
                  "proxy-authorization:");
    assert_option(HAUL_OPT_HEADER, "Cookie: a=b", "Cookie:");
    assert_option(HAUL_OPT_HEADER, "X-Api-Key: xyz", "X-Api-Key:");
    assert_option(HAUL_OPT_HEADER, "My-Token: xyz", "My-Token:");
    assert_option(HAUL_OPT_HEADER, "My-SECRET: xyz", "My-SECRET:");
}

static void other_headers_stay(void **state)
{
    (void)state;
    assert_option(HAUL_OPT_HEADER, "X-Note: no token: none",
                  "X-Note: no token: none");
    assert_option(HAUL_OPT_HEADER, "@/etc/auth:token", "@/etc/auth:token");
    assert_option(HAUL_OPT_IDENTITY, "secret:file", "secret:file");
}

static void passwords_leave_proxies(void **state)
{
    (void)state;
    assert_option(HAUL_OPT_PROXY, "http://joe:s3cret@p:3128",
                  "http://joe@p:3128");
    assert_option(HAUL_OPT_PROXY, "joe:s3cret@p:3128", "joe@p:3128");
    assert_option(HAUL_OPT_PROXY, "http://p:3128", "http://p:3128");
}

static void passwords_leave_endpoints(void **state)
{
    (void)state;
    assert_option(HAUL_OPT_ENDPOINT, "https://joe:s3cret@s3.example",
                  "https://joe@s3.example");
    assert_option(HAUL_OPT_ENDPOINT, "https://s3.example:9000/a:b@c",
                  "https://s3.example:9000/a:b@c");
    assert_option(HAUL_OPT_CREDENTIALS, "a:b@c", "a:b@c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passwords_leave_urls),
        cmocka_unit_test(names_without_a_password_stay),
        cmocka_unit_test(credentials_leave_queries),
        cmocka_unit_test(secret_headers_lose_their_values),
        cmocka_unit_test(other_headers_stay),
        cmocka_unit_test(passwords_leave_proxies),
        cmocka_unit_test(passwords_leave_endpoints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
