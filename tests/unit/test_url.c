/*
 * Every form of a name gives its parts, what cannot be understood is refused
 * with nothing left behind, and secrets are shown nowhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "url.h"

static int check_no_leak(void **state)
{
    (void)state;
    hl_mem_fail_at(0, false);
    return hl_mem_live() == 0 ? 0 : -1;
}

struct parts {
    const char *text;
    const char *scheme, *user, *password, *host;
    int port;
    const char *path, *query;
    bool folder;
};

static void check_text(const char *text, const char *got, const char *want)
{
    if (want && got)
        assert_string_equal(got, want);
    else if (want != got)
        fail_msg("%s: '%s' instead of '%s'", text, got ? got : "NULL",
                 want ? want : "NULL");
}

static void check_parts(const struct parts *p, size_t count)
{
    for (size_t i = 0; i < count; i++, p++) {
        struct hl_url u;

        if (hl_url_parse(p->text, &u, NULL))
            fail_msg("refused: %s", p->text);
        check_text(p->text, u.scheme, p->scheme);
        check_text(p->text, u.user, p->user);
        check_text(p->text, u.password, p->password);
        check_text(p->text, u.host, p->host);
        assert_int_equal(u.port, p->port);
        check_text(p->text, u.path, p->path);
        check_text(p->text, u.query, p->query);
        assert_int_equal(u.folder, p->folder);
        hl_url_fini(&u);
    }
}

static void local_names_are_paths(void **state)
{
    static const struct parts cases[] = {
        {"-", "-", 0, 0, 0, 0, "", 0, false},
        {"dump", "file", 0, 0, 0, 0, "dump", 0, false},
        {"/a/b c%41?x", "file", 0, 0, 0, 0, "/a/b c%41?x", 0, false},
        {"dir/", "file", 0, 0, 0, 0, "dir/", 0, true},
        {"./a:b", "file", 0, 0, 0, 0, "./a:b", 0, false},
        {"/x/joe@h:b", "file", 0, 0, 0, 0, "/x/joe@h:b", 0, false},
        {":x", "file", 0, 0, 0, 0, ":x", 0, false},
        {"joe@db1", "file", 0, 0, 0, 0, "joe@db1", 0, false},
        {"[::1]x", "file", 0, 0, 0, 0, "[::1]x", 0, false},
        {"[::1", "file", 0, 0, 0, 0, "[::1", 0, false},
        {"--", "file", 0, 0, 0, 0, "--", 0, false},
        {"~x", "file", 0, 0, 0, 0, "~x", 0, false},
        {"://x/", "file", 0, 0, 0, 0, "://x/", 0, true},
        {"file:///a/b%20c", "file", 0, 0, 0, 0, "/a/b c", 0, false},
        {"FILE://localhost/a?b#c", "file", 0, 0, 0, 0, "/a?b#c", 0, false},
        {"file:///d/", "file", 0, 0, 0, 0, "/d/", 0, true},
    };

    (void)state;
    check_parts(cases, HL_LEN(cases));
}

static void scp_names_are_sftp_below_the_login_folder(void **state)
{
    static const struct parts cases[] = {
        {"db1:x", "sftp", 0, 0, "db1", 0, "x", 0, false},
        {"joe@db1:a/b", "sftp", "joe", 0, "db1", 0, "a/b", 0, false},
        {"joe@db1:/a/b%41?c", "sftp", "joe", 0, "db1", 0, "/a/b%41?c", 0,
         false},
        {"db1:", "sftp", 0, 0, "db1", 0, "", 0, true},
        {"db1:~/x", "sftp", 0, 0, "db1", 0, "x", 0, false},
        {"db1:~", "sftp", 0, 0, "db1", 0, "", 0, true},
        {"db1:~bob/x", "sftp", 0, 0, "db1", 0, "~bob/x", 0, false},
        {"db1:d/", "sftp", 0, 0, "db1", 0, "d/", 0, true},
        {"@db1:x", "sftp", 0, 0, "db1", 0, "x", 0, false},
        {"joe@corp@db1:x", "sftp", "joe@corp", 0, "db1", 0, "x", 0, false},
        {"[::1]:x", "sftp", 0, 0, "::1", 0, "x", 0, false},
        {"joe@[fe80::1%eth0]:/x", "sftp", "joe", 0, "fe80::1%eth0", 0, "/x", 0,
         false},
        {"db1:22:x", "sftp", 0, 0, "db1", 0, "22:x", 0, false},
    };

    (void)state;
    check_parts(cases, HL_LEN(cases));
}

static void urls_are_taken_apart(void **state)
{
    static const struct parts cases[] = {
        {"sftp://h/x", "sftp", 0, 0, "h", 0, "/x", 0, false},
        {"SFTP://joe@db-1.example_x.org:2222/a/b", "sftp", "joe", 0,
         "db-1.example_x.org", 2222, "/a/b", 0, false},
        {"sftp://joe:pw@h:65535/x", "sftp", "joe", "pw", "h", 65535, "/x", 0,
         false},
        {"sftp://jo%40e:p%3Aw%2f@h/", "sftp", "jo@e", "p:w/", "h", 0, "/", 0,
         true},
        {"sftp://joe:a:b@c@h/x", "sftp", "joe", "a:b@c", "h", 0, "/x", 0,
         false},
        {"sftp://:pw@h/x", "sftp", 0, "pw", "h", 0, "/x", 0, false},
        {"sftp://joe:@h/x", "sftp", "joe", "", "h", 0, "/x", 0, false},
        {"sftp://@h/x", "sftp", 0, 0, "h", 0, "/x", 0, false},
        {"sftp://h/~/x", "sftp", 0, 0, "h", 0, "x", 0, false},
        {"sftp://h/%7e/x", "sftp", 0, 0, "h", 0, "x", 0, false},
        {"sftp://h/~//x", "sftp", 0, 0, "h", 0, "x", 0, false},
        {"sftp://h/~", "sftp", 0, 0, "h", 0, "", 0, true},
        {"sftp://h/~bob/x", "sftp", 0, 0, "h", 0, "/~bob/x", 0, false},
        {"sftp://h", "sftp", 0, 0, "h", 0, "", 0, true},
        {"sftp://h:/x", "sftp", 0, 0, "h", 0, "/x", 0, false},
        {"sftp://h/a?b=1", "sftp", 0, 0, "h", 0, "/a?b=1", 0, false},
        {"sftp://h/a%3fb%e2%82%AC", "sftp", 0, 0, "h", 0, "/a?b\xe2\x82\xac", 0,
         false},
        {"sftp://[2001:db8::2]:22/x", "sftp", 0, 0, "2001:db8::2", 22, "/x", 0,
         false},
        {"sftp://m\xc3\xbcller/x", "sftp", 0, 0, "m\xc3\xbcller", 0, "/x", 0,
         false},
        {"https://h", "https", 0, 0, "h", 0, "/", 0, true},
        {"https://h?a=1", "https", 0, 0, "h", 0, "/", "a=1", true},
        {"https://h/p/?a=%41&b", "https", 0, 0, "h", 0, "/p/", "a=%41&b", true},
        {"https://h/~/x?", "https", 0, 0, "h", 0, "/~/x", "", false},
        {"put+https://h/p/", "put+https", 0, 0, "h", 0, "/p/", 0, true},
        {"post+https://h/p/", "post+https", 0, 0, "h", 0, "/p/", 0, false},
        {"tus+https://h/x", "tus+https", 0, 0, "h", 0, "/x", 0, false},
        {"tus+https://h/files/", "tus+https", 0, 0, "h", 0, "/files/", 0,
         false},
    };

    (void)state;
    check_parts(cases, HL_LEN(cases));
}

static void behind_a_bucket_all_is_key(void **state)
{
    static const struct parts cases[] = {
        {"s3://bucket/key", "s3", 0, 0, "bucket", 0, "/key", 0, false},
        {"S3://my.bucket-2/a/b", "s3", 0, 0, "my.bucket-2", 0, "/a/b", 0,
         false},
        {"s3://b", "s3", 0, 0, "b", 0, "/", 0, true},
        {"s3://b/", "s3", 0, 0, "b", 0, "/", 0, true},
        {"s3://b/d/", "s3", 0, 0, "b", 0, "/d/", 0, true},
        {"s3://b//k", "s3", 0, 0, "b", 0, "//k", 0, false},
        {"s3://b/a b+c%20%2B%25%2f", "s3", 0, 0, "b", 0, "/a b+c +%/", 0, true},
        {"s3://b/a?b=1&token=x#c", "s3", 0, 0, "b", 0, "/a?b=1&token=x#c", 0,
         false},
        {"s3://b/joe:pw@h:1/x", "s3", 0, 0, "b", 0, "/joe:pw@h:1/x", 0, false},
        {"s3://b/../\xc3\xbc", "s3", 0, 0, "b", 0, "/../\xc3\xbc", 0, false},
    };

    (void)state;
    check_parts(cases, HL_LEN(cases));
}

static void test_drivers_keep_the_rest_as_it_is(void **state)
{
    static const struct parts cases[] = {
        {"mem:null", "mem", 0, 0, 0, 0, "null", 0, false},
        {"mem:gen?size=4gi&seed=1", "mem", 0, 0, 0, 0, "gen", "size=4gi&seed=1",
         false},
        {"mem:", "mem", 0, 0, 0, 0, "", 0, false},
        {"faulty:sftp://joe@h/%41?lost=3", "faulty", 0, 0, 0, 0,
         "sftp://joe@h/%41", "lost=3", false},
    };

    (void)state;
    check_parts(cases, HL_LEN(cases));
}

static void check_refused(const char *const *bad, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct hl_error e = {0};
        struct hl_url u;

        if (hl_url_parse(bad[i], &u, &e) != HAUL_E_INVAL)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(e.code, HAUL_E_INVAL);
        assert_int_equal(hl_mem_live(), 0);
    }
}

static void what_cannot_be_understood_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "a\nb",
        "a\rb",
        "sftp://h/a\nb",
        /* escapes */
        "sftp://h/%",
        "sftp://h/%4",
        "sftp://h/%4g",
        "sftp://h/%g4",
        "sftp://h/%00",
        "sftp://h/%0a",
        "sftp://h/%0D",
        "sftp://j%00e@h/x",
        "sftp://joe:%zz@h/x",
        "file:///%0a",
        "https://h/%-1",
        /* ports */
        "sftp://h:0/x",
        "sftp://h:65536/x",
        "sftp://h:99999999999/x",
        "sftp://h:2a/x",
        "sftp://h:-1/x",
        "sftp://[::1]22/x",
        "sftp://h:1:2/x",
        "https://h: 1/",
        /* hosts */
        "sftp:///x",
        "sftp://",
        "sftp://joe@/x",
        "sftp://-oProxy/x",
        "sftp://a b/x",
        "sftp://a;b/x",
        "sftp://$(x)/x",
        "sftp://h%41/x",
        "sftp://[::1/x",
        "sftp://[]/x",
        "sftp://[a;b]/x",
        "-h:x",
        "a`b:x",
        "joe@:x",
        "[]:x",
        "a[b@[c]d:e",
        "https://?x",
        /* file URLs */
        "file://host/x",
        "file://",
        "file://x",
    };

    (void)state;
    check_refused(bad, HL_LEN(bad));
}

static void a_bucket_has_a_name_and_nothing_else(void **state)
{
    static const char *const bad[] = {
        "s3://",    "s3:///k",          "s3://b:80/k",  "s3://id@b/k",
        "s3://b?x", "s3://b#x",         "s3://[::1]/k", "s3://-b/k",
        "s3://b/%", "s3://b/100%.dump", "s3://b/%00",
    };

    (void)state;
    check_refused(bad, HL_LEN(bad));
}

static void messages_say_what_is_wrong_without_secrets(void **state)
{
    struct hl_error e = {0};
    struct hl_url u;

    (void)state;
    hl_url_parse("sftp://joe:geheim@h:x/p", &u, &e);
    assert_string_equal(e.message, "cannot understand 'h:x/p': the port is "
                                   "not a number from 1 to 65535");
    hl_err_clear(&e);
    hl_url_parse("https://h/%?token=geheim", &u, &e);
    assert_string_equal(e.message,
                        "cannot understand 'https://h/%': a percent sign "
                        "starts no allowed escape");
    hl_err_clear(&e);
    hl_url_parse("https://h/%?token=geheim@x", &u, &e);
    assert_null(strstr(e.message, "geheim"));
    hl_err_clear(&e);
    hl_url_parse("s3://AKID:geheim@b/k", &u, &e);
    assert_string_equal(e.message,
                        "cannot understand 'b/k': a bucket's name is letters, "
                        "digits, dots and dashes, without user or port");
    hl_err_clear(&e);
    hl_url_parse("", &u, &e);
    assert_string_equal(e.message, "cannot understand '': it is empty");
}

static void check_raw(const char *text, const char *raw, const char *path,
                      const char *query)
{
    struct hl_url u;

    if (hl_url_parse(text, &u, NULL))
        fail_msg("refused: %s", text);
    check_text(text, u.raw, raw);
    check_text(text, u.path, path);
    check_text(text, u.query, query);
    hl_url_fini(&u);
}

static void raw_is_the_path_as_it_was_typed(void **state)
{
    (void)state;
    check_raw("https://h/a%2Fb/%c3%BC;x=1,2&+@:$!*'()~[]", /* as it is */
              "/a%2Fb/%c3%BC;x=1,2&+@:$!*'()~[]",
              "/a/b/\xc3\xbc;x=1,2&+@:$!*'()~[]", NULL);
    check_raw("https://joe:pw@h:1/x?y=%41", "/x", "/x", "y=%41");
    check_raw("https://h", "/", "/", NULL);
    check_raw("https://h?x", "/", "/", "x");
    /* as S3 signs it */
    check_raw("s3://b/k%20y?v/-_.~+(\xc3\xbc)%41",
              "/k%20y%3Fv/-_.~%2B%28%C3%BC%29A", "/k y?v/-_.~+(\xc3\xbc)A",
              NULL);
    check_raw("s3://b", "/", "/", NULL);
    check_raw("https://h/../%2e%2E/", "/../%2e%2E/", "/../../", NULL);
    /* not in the others */
    check_raw("sftp://h/a%20b", NULL, "/a b", NULL);
    check_raw("file:///a%20b", NULL, "/a b", NULL);
    check_raw("h:a%20b", NULL, "a%20b", NULL);
    check_raw("/a%20b", NULL, "/a%20b", NULL);
    check_raw("mem:null?x", NULL, "null", "x");
}

/* Nothing that a request line cannot hold, however it was typed. */
static void raw_is_escaped_where_it_must_be(void **state)
{
    (void)state;
    check_raw("https://h/a b\tc\x7f", "/a%20b%09c%7F", "/a b\tc\x7f", NULL);
    check_raw("https://h/\xc3\xbc\xff%20", "/%C3%BC%FF%20", "/\xc3\xbc\xff ",
              NULL);
    check_raw("https://h/x?q=a b&\xc3\xbc=%20", "/x", "/x",
              "q=a%20b&%C3%BC=%20");
    check_raw("mem:x?a b", NULL, "x", "a b");
}

static void a_fragment_is_dropped_where_http_is_spoken(void **state)
{
    (void)state;
    check_raw("https://h/a#b?c", "/a", "/a", NULL);
    check_raw("http://h/a?b=1#c", "/a", "/a", "b=1");
    check_raw("put+https://h/a#", "/a", "/a", NULL);
    check_raw("post+http://h#x/y", "/", "/", NULL);
    check_raw("tus+https://h/%23#x", "/%23", "/#", NULL);
    check_raw("HTTPS://h?#", "/", "/", "");
    check_raw("s3://bucket/a#b", "/a%23b", "/a#b", NULL);
    check_raw("sftp://h/a#b", NULL, "/a#b", NULL);
    check_raw("/a#b", NULL, "/a#b", NULL);
    check_raw("h:a#b", NULL, "a#b", NULL);
}

static void check_display(const char *text, const char *want)
{
    struct hl_url u;
    char *got;

    assert_int_equal(hl_url_parse(text, &u, NULL), 0);
    got = hl_url_display(&u);
    assert_non_null(got);
    assert_string_equal(got, want);
    hl_free(got);
    hl_url_fini(&u);
}

static void display_reads_back_as_the_same_name(void **state)
{
    (void)state;
    check_display("-", "-");
    check_display("/a/b:c%41", "/a/b:c%41");
    check_display("file:///a%20b", "/a b");
    check_display("joe@db1:x", "sftp://joe@db1/~/x");
    check_display("db1:", "sftp://db1/~/");
    check_display("db1:/x y?", "sftp://db1/x y?");
    check_display("sftp://jo%40e@[::1]:2222/a%25%0bb%7f",
                  "sftp://jo%40e@[::1]:2222/a%25%0Bb%7F");
    check_display("https://h:65535/a%3fb?x=1&y", "https://h:65535/a%3Fb?x=1&y");
    check_display("https://h/a%2fb c#d", "https://h/a/b c");
    check_display("s3://b/a b+%25?x=0123456789abcdef#%0b",
                  "s3://b/a b+%25?x=0123456789abcdef#%0B");
    check_display("mem:gen?size=4gi&seed=1", "mem:gen?size=4gi&seed=1");
    check_display("mem:null", "mem:null");
}

#define DIGITS_60 "012345678901234567890123456789012345678901234567890123456789"

static void display_shows_no_credential(void **state)
{
    (void)state;
    check_display("sftp://joe:geheim@h/x", "sftp://joe@h/x");
    check_display("sftp://:geheim@h/x", "sftp://h/x");
    check_display("faulty:sftp://joe:ge@h:m@h/x?lost=3",
                  "faulty:sftp://joe@h/x?lost=3");
    check_display("faulty:sftp://joe@h/x", "faulty:sftp://joe@h/x");
    check_display("faulty:mem:x@y", "faulty:mem:x@y");
    check_display("https://h/x?a=1&token=k&b=2",
                  "https://h/x?a=1&token=***&b=2");
    check_display("https://h/?X-Amz-Signature=ab",
                  "https://h/?X-Amz-Signature=***");
    check_display("https://h/?AWSAccessKeyId=A&Expires=17",
                  "https://h/?AWSAccessKeyId=***&Expires=17");
    check_display("https://h/?id=0123456789abcdef", "https://h/?id=***");
    check_display("https://h/?id=0123456789abcde",
                  "https://h/?id=0123456789abcde");
    check_display("https://h/?0123456789abcdef&b=", "https://h/?***&b=");
    /* A key of 63 bytes is looked at, a longer one is taken for a secret. */
    check_display("https://h/?" DIGITS_60 "123=x",
                  "https://h/?" DIGITS_60 "123=x");
    check_display("https://h/?" DIGITS_60 "1234=x",
                  "https://h/?" DIGITS_60 "1234=***");
    check_display("https://h/?&=&a=b=c", "https://h/?&=&a=b=c");
}

static void queries_are_looked_up_by_whole_keys(void **state)
{
    struct hl_url u;
    char *v;

    (void)state;
    assert_int_equal(
        hl_url_parse("mem:gen?size=4gi&seed=a=b&flag&empty=&sizes=2&size=9", &u,
                     NULL),
        0);
    v = hl_url_query(&u, "size");
    assert_string_equal(v, "4gi");
    hl_free(v);
    v = hl_url_query(&u, "seed");
    assert_string_equal(v, "a=b");
    hl_free(v);
    v = hl_url_query(&u, "flag");
    assert_string_equal(v, "");
    hl_free(v);
    v = hl_url_query(&u, "empty");
    assert_string_equal(v, "");
    hl_free(v);
    v = hl_url_query(&u, "sizes");
    assert_string_equal(v, "2");
    hl_free(v);
    assert_null(hl_url_query(&u, "siz"));
    assert_null(hl_url_query(&u, "flag&empty"));
    assert_null(hl_url_query(&u, "none"));
    hl_mem_fail_at(1, false);
    assert_null(hl_url_query(&u, "size"));
    hl_url_fini(&u);
    assert_int_equal(hl_url_parse("mem:gen", &u, NULL), 0);
    assert_null(hl_url_query(&u, "size"));
    hl_url_fini(&u);
}

static void check_append(const char *text, const char *name, const char *path,
                         const char *raw, bool folder)
{
    struct hl_url u;

    assert_int_equal(hl_url_parse(text, &u, NULL), 0);
    assert_int_equal(hl_url_append(&u, name), 0);
    assert_string_equal(u.path, path);
    check_text(text, u.raw, raw);
    assert_int_equal(u.folder, folder);
    hl_url_fini(&u);
}

static void a_name_is_appended_with_one_slash(void **state)
{
    (void)state;
    check_append("/a", "x", "/a/x", NULL, false);
    check_append("/a/", "x", "/a/x", NULL, false);
    check_append("/", "x", "/x", NULL, false);
    check_append("h:", "x", "x", NULL, false); /* not "/x" */
    check_append("h:a", "x/", "a/x/", NULL, true);
    check_append("https://h", "x", "/x", "/x", false);
    check_append("https://h/a%2Fb?q", "x y%\xc3\xbc?#&+",
                 "/a/b/x y%\xc3\xbc?#&+", "/a%2Fb/x%20y%25%C3%BC%3F%23%26%2B",
                 false);
    check_append("put+https://h/d/", "a/b-._~1", "/d/a/b-._~1", "/d/a/b-._~1",
                 false);
    check_append("https://h/d/", "e/", "/d/e/", "/d/e/", true);
    check_append("s3://b", "x y", "/x y", "/x%20y", false);
    check_append("s3://b/d/", "a+?", "/d/a+?", "/d/a%2B%3F", false);
    /* a path that ends in an escaped slash */
    check_append("https://h/d%2F", "e", "/d/e", "/d%2F/e", false);
}

static void check_basename(const char *text, const char *want)
{
    struct hl_url u;

    assert_int_equal(hl_url_parse(text, &u, NULL), 0);
    assert_string_equal(hl_url_basename(&u), want);
    hl_url_fini(&u);
}

static void basename_is_the_last_component(void **state)
{
    (void)state;
    check_basename("/a/b.dump", "b.dump");
    check_basename("b.dump", "b.dump");
    check_basename("/a/", "");
    check_basename("h:", "");
    check_basename("-", "");
    check_basename("https://h/a/b?c=/d", "b");
    check_basename("s3://b/a/b?c", "b?c");
}

static bool same(const char *a, const char *b)
{
    struct hl_url ua, ub;
    bool is;

    assert_int_equal(hl_url_parse(a, &ua, NULL), 0);
    assert_int_equal(hl_url_parse(b, &ub, NULL), 0);
    is = hl_url_same_endpoint(&ua, &ub);
    hl_url_fini(&ua);
    hl_url_fini(&ub);
    return is;
}

static void endpoints_are_scheme_user_host_and_port(void **state)
{
    (void)state;
    assert_true(same("sftp://joe@h:1/x", "sftp://joe@H:1/y"));
    assert_true(same("joe@h:x", "sftp://joe:pw@h/y"));
    assert_true(same("/a", "b"));
    assert_false(same("sftp://joe@h/x", "sftp://bob@h/x"));
    assert_false(same("sftp://joe@h/x", "sftp://h/x"));
    assert_false(same("sftp://h/x", "sftp://g/x"));
    assert_false(same("sftp://h:1/x", "sftp://h:2/x"));
    assert_false(same("sftp://h/x", "https://h/x"));
    assert_false(same("/x", "-"));
}

static void a_copy_is_complete_and_its_own(void **state)
{
    struct hl_url a, b;

    (void)state;
    assert_int_equal(hl_url_parse("https://joe:pw@h:8/p/?q=1", &a, NULL), 0);
    assert_int_equal(hl_url_copy(&a, &b), 0);
    hl_url_fini(&a);
    assert_string_equal(b.scheme, "https");
    assert_string_equal(b.user, "joe");
    assert_string_equal(b.password, "pw");
    assert_string_equal(b.host, "h");
    assert_int_equal(b.port, 8);
    assert_string_equal(b.path, "/p/");
    assert_string_equal(b.query, "q=1");
    assert_string_equal(b.raw, "/p/");
    assert_true(b.folder);
    hl_url_fini(&b);
    hl_url_fini(&b); /* is empty now */
}

static void every_failed_allocation_leaves_nothing(void **state)
{
    static const char *const texts[] = {"https://joe:pw@h/p?q",
                                        "joe@h:p",
                                        "mem:a?b",
                                        "/p",
                                        "-",
                                        "https://h",
                                        "file:///x",
                                        "sftp://h/x",
                                        "s3://b/k"};
    struct hl_error e = {0};
    struct hl_url u, v;
    int rc;

    (void)state;
    for (size_t i = 0; i < HL_LEN(texts); i++) {
        for (int n = 1;; n++) {
            hl_mem_fail_at(n, false);
            hl_err_clear(&e);
            rc = hl_url_parse(texts[i], &u, &e);
            if (rc == 0)
                break;
            assert_int_equal(rc, HAUL_E_NOMEM);
            assert_int_equal(e.code, HAUL_E_NOMEM);
            assert_int_equal(hl_mem_live(), 0);
            assert_true(n < 10);
        }
        for (int n = 1; hl_mem_fail_at(n, false), hl_url_copy(&u, &v); n++)
            assert_true(n < 10);
        hl_url_fini(&v);
        hl_mem_fail_at(1, false);
        assert_null(hl_url_display(&u));
        for (int n = 1; n <= (u.raw ? 2 : 1); n++) {
            hl_mem_fail_at(n, false);
            assert_int_equal(hl_url_append(&u, "new"), HAUL_E_NOMEM);
            assert_null(strstr(u.path, "new"));
        }
        hl_mem_fail_at(0, false);
        hl_url_fini(&u);
    }
}

#define TEST(f) cmocka_unit_test_teardown(f, check_no_leak)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(local_names_are_paths),
        TEST(scp_names_are_sftp_below_the_login_folder),
        TEST(urls_are_taken_apart),
        TEST(behind_a_bucket_all_is_key),
        TEST(test_drivers_keep_the_rest_as_it_is),
        TEST(what_cannot_be_understood_is_refused),
        TEST(a_bucket_has_a_name_and_nothing_else),
        TEST(messages_say_what_is_wrong_without_secrets),
        TEST(raw_is_the_path_as_it_was_typed),
        TEST(raw_is_escaped_where_it_must_be),
        TEST(a_fragment_is_dropped_where_http_is_spoken),
        TEST(display_reads_back_as_the_same_name),
        TEST(display_shows_no_credential),
        TEST(queries_are_looked_up_by_whole_keys),
        TEST(a_name_is_appended_with_one_slash),
        TEST(basename_is_the_last_component),
        TEST(endpoints_are_scheme_user_host_and_port),
        TEST(a_copy_is_complete_and_its_own),
        TEST(every_failed_allocation_leaves_nothing),
    };

    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
