/*
 * Where keys, region and endpoint of S3 come from: what is named wins over what
 * is set, and that over what is found. What a file says never stands in an
 * error.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "s3_credentials.h"

/* ---- A home and an environment of its own ------------------------------- */

static char home[256];
static const char *env[24]; /* name, value; NULL ends */

static void path_of(const char *name, char *out, size_t cap)
{
    snprintf(out, cap, "%s/.aws/%s", home, name);
}

static void write_bytes(const char *name, const char *data, size_t len)
{
    char path[512];
    FILE *f;

    path_of(name, path, sizeof(path));
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void write_file(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static const char *get_env(void *user, const char *name)
{
    const char *const *e = user;

    if (strcmp(name, "HOME") == 0)
        return home;
    for (; e && *e; e += 2)
        if (strcmp(e[0], name) == 0)
            return e[1];
    return NULL;
}

static int make_home(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char path[512];

    (void)state;
    memset(env, 0, sizeof(env));
    snprintf(home, sizeof(home), "%s/haul-s3-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(home))
        return -1;
    snprintf(path, sizeof(path), "%s/.aws", home);
    return mkdir(path, 0700);
}

static int remove_home(void **state)
{
    static const char *const names[] = {"credentials", "config", "other"};
    char path[512];

    (void)state;
    hl_mem_fail_at(0, false);
    for (size_t i = 0; i < HL_LEN(names); i++) {
        path_of(names[i], path, sizeof(path));
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/.aws", home);
    if (rmdir(path) || rmdir(home))
        return -1;
    return hl_mem_live() == 0 ? 0 : -1;
}

static void set_env(const char *name, const char *value)
{
    size_t i = 0;

    while (env[i])
        i += 2;
    assert_true(i + 2 < HL_LEN(env));
    env[i] = name;
    env[i + 1] = value;
}

static const struct hl_s3_asked nothing;

static void load(const struct hl_s3_asked *asked, struct hl_s3_config *c)
{
    struct hl_error e = {0};

    if (hl_s3_config_load(asked, get_env, env, c, &e))
        fail_msg("%s (%s)", e.message, e.detail);
}

static void check_keys(const struct hl_s3_asked *asked, const char *id,
                       const char *secret, const char *token)
{
    struct hl_s3_config c;

    load(asked, &c);
    assert_string_equal(c.id, id);
    assert_string_equal(c.secret, secret);
    if (token)
        assert_string_equal(c.token, token);
    else
        assert_null(c.token);
    assert_non_null(c.from);
    hl_s3_config_fini(&c);
    hl_s3_config_fini(&c);
}

/* Fails with the code; the message has the words. */
static void check_failure(const struct hl_s3_asked *asked, int code,
                          const char *words, struct hl_error *e)
{
    struct hl_s3_config c;
    static const struct hl_s3_config none;

    memset(e, 0, sizeof(*e));
    assert_int_equal(hl_s3_config_load(asked, get_env, env, &c, e), code);
    assert_int_equal(e->code, code);
    if (!strstr(e->message, words))
        fail_msg("message: %s", e->message);
    assert_null(strstr(e->message, "HUSH"));
    assert_null(strstr(e->detail, "HUSH"));
    assert_null(strstr(e->hint, "HUSH"));
    assert_memory_equal(&c, &none, sizeof(c));
}

/* ---- Keys --------------------------------------------------------------- */

static void keys_come_from_the_environment(void **state)
{
    (void)state;
    write_file("credentials", "[default]\naws_access_key_id = F\n"
                              "aws_secret_access_key = HUSHF\n");
    set_env("AWS_ACCESS_KEY_ID", "E");
    set_env("AWS_SECRET_ACCESS_KEY", "HUSHE");
    check_keys(&nothing, "E", "HUSHE", NULL);
    set_env("AWS_SESSION_TOKEN", "T");
    check_keys(&nothing, "E", "HUSHE", "T");
    /* AWS_PROFILE is an environment too; the option is more. */
    set_env("AWS_PROFILE", "default");
    check_keys(&nothing, "E", "HUSHE", "T");
    check_keys(&(struct hl_s3_asked){.profile = "default"}, "F", "HUSHF", NULL);
}

static void keys_come_from_a_profile(void **state)
{
    (void)state;
    write_file("credentials", "[default]\n"
                              "aws_access_key_id = D\n"
                              "aws_secret_access_key = HUSHD\n"
                              "[other]\n"
                              "aws_access_key_id = O\n"
                              "aws_secret_access_key = HUSHO\n"
                              "aws_session_token = TO\n");
    check_keys(&nothing, "D", "HUSHD", NULL);
    check_keys(&(struct hl_s3_asked){.profile = "other"}, "O", "HUSHO", "TO");
    set_env("AWS_PROFILE", "other");
    check_keys(&nothing, "O", "HUSHO", "TO");
    check_keys(&(struct hl_s3_asked){.profile = "default"}, "D", "HUSHD", NULL);
}

static void the_named_file_wins(void **state)
{
    char path[512];
    struct hl_s3_asked asked = {.credentials = path};

    (void)state;
    path_of("other", path, sizeof(path));
    write_file("credentials", "[default]\naws_access_key_id = F\n"
                              "aws_secret_access_key = HUSHF\n");
    write_file("other", "[default]\naws_access_key_id = X\n"
                        "aws_secret_access_key = HUSHX\n"
                        "[p]\naws_access_key_id = P\n"
                        "aws_secret_access_key = HUSHP\n");
    set_env("AWS_ACCESS_KEY_ID", "E");
    set_env("AWS_SECRET_ACCESS_KEY", "HUSHE");
    check_keys(&asked, "X", "HUSHX", NULL);
    asked.profile = "p";
    check_keys(&asked, "P", "HUSHP", NULL);
}

static void the_variable_names_the_file(void **state)
{
    char path[512];

    (void)state;
    path_of("other", path, sizeof(path));
    write_file("credentials", "[default]\naws_access_key_id = F\n"
                              "aws_secret_access_key = HUSHF\n");
    write_file("other", "[default]\naws_access_key_id = X\n"
                        "aws_secret_access_key = HUSHX\n");
    set_env("AWS_SHARED_CREDENTIALS_FILE", path);
    check_keys(&nothing, "X", "HUSHX", NULL);
}

static void an_empty_variable_is_not_set(void **state)
{
    (void)state;
    write_file("credentials", "[default]\naws_access_key_id = F\n"
                              "aws_secret_access_key = HUSHF\n");
    set_env("AWS_ACCESS_KEY_ID", "");
    set_env("AWS_SECRET_ACCESS_KEY", "");
    set_env("AWS_PROFILE", "");
    set_env("AWS_SHARED_CREDENTIALS_FILE", "");
    check_keys(&(struct hl_s3_asked){"", "", "", ""}, "F", "HUSHF", NULL);
}

/* ---- The format --------------------------------------------------------- */

static void files_are_read_as_people_write_them(void **state)
{
    (void)state;
    write_file("credentials",
               "\xef\xbb\xbf# a comment\r\n"
               "; another\r\n"
               "\r\n"
               "stray = before any profile\r\n"
               "[ default ] # the usual one\r\n"
               "  aws_access_key_id=ONE   \r\n"
               "  # indented\r\n"
               "  aws_secret_access_key  =  wJalr=XU#t/+ ; mine\r\n"
               "s3 =\r\n"
               "  aws_access_key_id = NESTED\r\n"
               "  region = nested\r\n"
               "unknown = value\r\n"
               "  that goes on\r\n"
               "[other]\r\n"
               "aws_access_key_id = TWO\r\n"
               "[default]\r\n"
               "aws_session_token = THREE");
    check_keys(&nothing, "ONE", "wJalr=XU#t/+", "THREE");
}

static void the_last_of_several_counts(void **state)
{
    (void)state;
    write_file("credentials", "[default]\naws_access_key_id = A\n"
                              "aws_secret_access_key = HUSHA\n"
                              "aws_access_key_id = B\n");
    check_keys(&nothing, "B", "HUSHA", NULL);
}

/* It is not sent, so it may be anything. */
static void secrets_may_have_blanks_and_commas(void **state)
{
    (void)state;
    set_env("AWS_ACCESS_KEY_ID", "test:tester");
    set_env("AWS_SECRET_ACCESS_KEY", "HUSH, of\xc3\xa4 \"mine\"");
    check_keys(&nothing, "test:tester", "HUSH, of\xc3\xa4 \"mine\"", NULL);
}

static void lines_that_say_nothing_are_named(void **state)
{
    static const char *const bad[] = {"HUSH", "[default", "[", "= HUSH",
                                      "[default] HUSH"};
    char text[256];
    struct hl_error e;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        snprintf(text, sizeof(text), "[x]\n\n%s\n[default]\n", bad[i]);
        write_file("credentials", text);
        check_failure(&nothing, HAUL_E_AUTH, "line 3 of '", &e);
        assert_true(e.hint[0]);
    }
}

static void keys_that_cannot_be_sent_are_refused(void **state)
{
    static const char *const bad[] = {"\"HUSH\"", "HU SH", "HUSH,", "\x7f",
                                      "\xc3\xa4"};
    char text[256];
    struct hl_error e;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        snprintf(text, sizeof(text),
                 "[default]\naws_access_key_id = %s\n"
                 "aws_secret_access_key = HUSH\n",
                 bad[i]);
        write_file("credentials", text);
        check_failure(&nothing, HAUL_E_AUTH, "aws_access_key_id", &e);
        assert_non_null(strstr(e.hint, "quotes"));
        assert_non_null(strstr(e.detail, "profile 'default'"));
    }
    set_env("AWS_ACCESS_KEY_ID", "A");
    set_env("AWS_SECRET_ACCESS_KEY", "HUSH\n");
    check_failure(&nothing, HAUL_E_AUTH, "AWS_SECRET_ACCESS_KEY", &e);
}

static void what_is_no_such_file_is_refused(void **state)
{
    static char large[HL_S3_FILE_MAX + 1];
    struct hl_error e;

    (void)state;
    write_bytes("credentials", "[default]\n\0HUSH", 15);
    check_failure(&nothing, HAUL_E_AUTH, "is no file of profiles", &e);
    memset(large, '\n', sizeof(large));
    write_bytes("credentials", large, sizeof(large));
    check_failure(&nothing, HAUL_E_AUTH, "is no file of profiles", &e);
    /* One byte less is allowed, and holds nothing. */
    write_bytes("credentials", large, sizeof(large) - 1);
    check_failure(&nothing, HAUL_E_AUTH, "there are no S3 keys", &e);
    write_file("credentials", "");
    check_failure(&nothing, HAUL_E_AUTH, "there are no S3 keys", &e);
}

/* ---- No keys ------------------------------------------------------------ */

static void without_keys_the_hint_names_the_ways(void **state)
{
    struct hl_error e;

    (void)state;
    check_failure(&nothing, HAUL_E_AUTH, "there are no S3 keys", &e);
    assert_non_null(strstr(e.hint, "AWS_ACCESS_KEY_ID"));
    assert_non_null(strstr(e.hint, "AWS_SECRET_ACCESS_KEY"));
    assert_non_null(strstr(e.hint, "~/.aws/credentials"));
    assert_non_null(strstr(e.hint, "--credentials"));
    assert_true(strlen(e.hint) < sizeof(e.hint) - 1);
}

static void half_a_pair_is_an_error(void **state)
{
    struct hl_error e;

    (void)state;
    write_file("credentials", "[default]\naws_access_key_id = F\n"
                              "aws_secret_access_key = HUSHF\n"
                              "[half]\naws_secret_access_key = HUSHH\n");
    check_failure(&(struct hl_s3_asked){.profile = "half"}, HAUL_E_AUTH,
                  "has aws_secret_access_key and not aws_access_key_id", &e);
    assert_non_null(strstr(e.detail, "profile 'half'"));
    set_env("AWS_ACCESS_KEY_ID", "E");
    check_failure(&nothing, HAUL_E_AUTH,
                  "has AWS_ACCESS_KEY_ID and not AWS_SECRET_ACCESS_KEY", &e);
}

static void a_named_profile_has_to_be_there(void **state)
{
    struct hl_error e;

    (void)state;
    write_file("credentials", "[sso]\nsso_session = x\n");
    check_failure(&(struct hl_s3_asked){.profile = "nil"}, HAUL_E_AUTH,
                  "there is no profile 'nil'", &e);
    assert_non_null(strstr(e.hint, "AWS_PROFILE"));
    check_failure(&(struct hl_s3_asked){.profile = "sso"}, HAUL_E_AUTH,
                  "profile 'sso' in '", &e);
    assert_non_null(strstr(e.hint, "export-credentials"));
    assert_true(strlen(e.hint) < sizeof(e.hint) - 1);
    set_env("AWS_PROFILE", "nil");
    check_failure(&nothing, HAUL_E_AUTH, "there is no profile 'nil'", &e);
    assert_true(strlen(e.hint) < sizeof(e.hint) - 1);
}

static void a_named_file_has_to_be_there(void **state)
{
    char path[512];
    struct hl_s3_asked asked = {.credentials = path};
    struct hl_error e;

    (void)state;
    path_of("missing", path, sizeof(path));
    check_failure(&asked, HAUL_E_READ, "cannot read '", &e);
    asked.credentials = home;
    check_failure(&asked, HAUL_E_READ, "Is a directory", &e);
    /* A variable that leads nowhere is how others are told to have none. */
    set_env("AWS_SHARED_CREDENTIALS_FILE", path);
    check_failure(&nothing, HAUL_E_AUTH, "there are no S3 keys", &e);
}

/* ---- Region and endpoint ------------------------------------------------ */

static void check_place(const struct hl_s3_asked *asked, const char *region,
                        bool known, const char *endpoint)
{
    struct hl_s3_config c;

    load(asked, &c);
    assert_string_equal(c.region, region);
    assert_int_equal(c.region_known, known);
    if (endpoint)
        assert_string_equal(c.endpoint, endpoint);
    else
        assert_null(c.endpoint);
    hl_s3_config_fini(&c);
}

static void the_place_is_looked_for_in_order(void **state)
{
    struct hl_s3_asked asked = {0};

    (void)state;
    set_env("AWS_ACCESS_KEY_ID", "E");
    set_env("AWS_SECRET_ACCESS_KEY", "HUSHE");
    check_place(&asked, "us-east-1", false, NULL);
    write_file("config", "[default]\nregion = eu-west-1\n"
                         "endpoint_url = https://config.test\n"
                         "[profile p]\nregion = eu-west-2\n"
                         "[profile \"q r\"]\nregion = eu-west-3\n"
                         "[s]\nregion = eu-west-4\n");
    check_place(&asked, "eu-west-1", true, "https://config.test");
    set_env("AWS_DEFAULT_REGION", "eu-north-1");
    check_place(&asked, "eu-north-1", true, "https://config.test");
    set_env("AWS_REGION", "eu-south-1");
    check_place(&asked, "eu-south-1", true, "https://config.test");
    set_env("AWS_ENDPOINT_URL", "https://any.test");
    check_place(&asked, "eu-south-1", true, "https://any.test");
    set_env("AWS_ENDPOINT_URL_S3", "https://s3.test");
    check_place(&asked, "eu-south-1", true, "https://s3.test");
    asked.region = "auto";
    asked.endpoint = "http://127.0.0.1:9000";
    check_place(&asked, "auto", true, "http://127.0.0.1:9000");
}

static void sections_of_the_settings_are_called_profile(void **state)
{
    (void)state;
    set_env("AWS_ACCESS_KEY_ID", "E");
    set_env("AWS_SECRET_ACCESS_KEY", "HUSHE");
    write_file("config", "[profile p]\nregion = eu-west-2\n"
                         "[profile \"q r\"]\nregion = eu-west-3\n"
                         "[s]\nregion = eu-west-4\n"
                         "[profile default]\nregion = eu-west-5\n");
    check_place(&nothing, "eu-west-5", true, NULL);
    set_env("AWS_PROFILE", "p");
    check_place(&nothing, "eu-west-2", true, NULL);
    env[5] = "q r";
    check_place(&nothing, "eu-west-3", true, NULL);
    env[5] = "s";
    check_place(&nothing, "us-east-1", false, NULL);
}

static void the_settings_may_be_elsewhere(void **state)
{
    char path[512];
    struct hl_error e;

    (void)state;
    set_env("AWS_ACCESS_KEY_ID", "E");
    set_env("AWS_SECRET_ACCESS_KEY", "HUSHE");
    path_of("other", path, sizeof(path));
    write_file("other", "[default]\nregion = eu-west-1\n");
    write_file("config", "[default]\nregion = eu-west-2\n");
    set_env("AWS_CONFIG_FILE", path);
    check_place(&nothing, "eu-west-1", true, NULL);
    /* What cannot be read is an error where it was named, ... */
    env[5] = home;
    check_failure(&nothing, HAUL_E_READ, "cannot read '", &e);
    /* ... or not asked for: nobody needs it. */
    check_place(&(struct hl_s3_asked){.region = "r", .endpoint = "e"}, "r",
                true, "e");
    /* In ~/.aws it is as good as not there. */
    env[4] = NULL;
    path_of("config", path, sizeof(path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    check_place(&nothing, "us-east-1", false, NULL);
    assert_int_equal(rmdir(path), 0);
    write_file("config", "HUSH");
    check_failure(&nothing, HAUL_E_AUTH, "line 1 of '", &e);
}

static void a_region_is_a_word(void **state)
{
    static const char *const bad[] = {
        "us/east",
        "us east",
        "us.east",
        "a\nb",
        "\xc3\xa4",
        "a123456789012345678901234567890123456789012345678901234567890123"};
    struct hl_error e;

    (void)state;
    set_env("AWS_ACCESS_KEY_ID", "E");
    set_env("AWS_SECRET_ACCESS_KEY", "HUSHE");
    for (size_t i = 0; i < HL_LEN(bad); i++)
        check_failure(&(struct hl_s3_asked){.region = bad[i]}, HAUL_E_INVAL,
                      "is no region", &e);
}

/* ---- Memory ------------------------------------------------------------- */

static void check_without_memory(void)
{
    int rc = HAUL_E_NOMEM;
    int64_t n;

    for (n = 1; rc; n++) {
        struct hl_error e = {0};
        struct hl_s3_config c;

        assert_true(n < 100);
        hl_mem_fail_at(n, false);
        rc = hl_s3_config_load(&nothing, get_env, env, &c, &e);
        hl_mem_fail_at(0, false);
        if (rc) {
            assert_int_equal(rc, HAUL_E_NOMEM);
            assert_int_equal(e.code, HAUL_E_NOMEM);
        }
        hl_s3_config_fini(&c);
        assert_int_equal(hl_mem_live(), 0);
    }
    assert_true(n > 8);
}

static void without_memory_nothing_is_left(void **state)
{
    (void)state;
    write_file("credentials", "[default]\naws_access_key_id = F\n"
                              "aws_secret_access_key = HUSHF\n"
                              "aws_session_token = T\n");
    write_file("config", "[default]\nregion = eu-west-1\n"
                         "endpoint_url = https://config.test\n");
    check_without_memory();
    set_env("AWS_ACCESS_KEY_ID", "E");
    set_env("AWS_SECRET_ACCESS_KEY", "HUSHE");
    set_env("AWS_SESSION_TOKEN", "T");
    check_without_memory();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_home, remove_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_come_from_the_environment),
        TEST(keys_come_from_a_profile),
        TEST(the_named_file_wins),
        TEST(the_variable_names_the_file),
        TEST(an_empty_variable_is_not_set),
        TEST(files_are_read_as_people_write_them),
        TEST(the_last_of_several_counts),
        TEST(secrets_may_have_blanks_and_commas),
        TEST(lines_that_say_nothing_are_named),
        TEST(keys_that_cannot_be_sent_are_refused),
        TEST(what_is_no_such_file_is_refused),
        TEST(without_keys_the_hint_names_the_ways),
        TEST(half_a_pair_is_an_error),
        TEST(a_named_profile_has_to_be_there),
        TEST(a_named_file_has_to_be_there),
        TEST(the_place_is_looked_for_in_order),
        TEST(sections_of_the_settings_are_called_profile),
        TEST(the_settings_may_be_elsewhere),
        TEST(a_region_is_a_word),
        TEST(without_memory_nothing_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
