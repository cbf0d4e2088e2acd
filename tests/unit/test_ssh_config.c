/* ssh_config.c: reading what "ssh -G" of OpenSSH 9.2 prints, and tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "ssh_private.h"

#define MINIMUM "user joe\nhostname 10.0.0.9\nport 2022\n"

static int parse(struct hl_ssh_config *c, const char *text,
                 struct hl_error *err)
{
    memset(c, 0, sizeof(*c));
    c->name = hl_strdup("db");
    return hl_ssh_config_parse(c, text, err);
}

static void nothing_but_the_host_gives_defaults(void **state)
{
    struct hl_ssh_config c;

    (void)state;
    assert_int_equal(
        parse(&c,
              MINIMUM
              "addressfamily any\nidentitiesonly no\n"
              "stricthostkeychecking ask\nconnecttimeout none\n"
              "ciphers chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,"
              "aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com\n",
              NULL),
        0);
    assert_string_equal(c.host, "10.0.0.9");
    assert_string_equal(c.user, "joe");
    assert_int_equal(c.port, 2022);
    assert_null(c.ciphers);
    assert_null(c.proxy_command);
    assert_null(c.proxy_jump);
    assert_null(c.alias);
    assert_int_equal(c.identities.count, 0);
    assert_false(c.identities_only);
    assert_false(c.accept_new);
    assert_int_equal(c.family, AF_UNSPEC);
    assert_int_equal(c.connect_timeout_s, 0);
    hl_ssh_config_fini(&c);
}

static void every_setting_is_read(void **state)
{
    struct hl_ssh_config c;

    (void)state;
    assert_int_equal(
        parse(&c,
              MINIMUM
              "addressfamily inet6\nidentitiesonly yes\nhashknownhosts yes\n"
              "stricthostkeychecking accept-new\nconnecttimeout 7\n"
              "ciphers aes256-ctr\nidentityagent /run/agent\n"
              "identityfile ~/.ssh/my key\nidentityfile /k/%h\n"
              "certificatefile /k/c.pub\nproxyjump u@a:22,b\n"
              "proxycommand nc %h %p\nhostkeyalias cluster\n"
              "globalknownhostsfile /no/g1 /no/g2\n"
              "userknownhostsfile /no/u1\n",
              NULL),
        0);
    assert_int_equal(c.family, AF_INET6);
    assert_true(c.identities_only);
    assert_true(c.hash_names);
    assert_true(c.accept_new);
    assert_int_equal(c.connect_timeout_s, 7);
    assert_string_equal(c.ciphers, "aes256-ctr");
    assert_string_equal(c.agent, "/run/agent");
    assert_int_equal(c.identities.count, 2);
    assert_string_equal(c.identities.item[0], "~/.ssh/my key");
    assert_string_equal(c.identities.item[1], "/k/%h");
    assert_int_equal(c.certificates.count, 1);
    assert_string_equal(c.proxy_jump, "u@a:22,b");
    assert_string_equal(c.proxy_command, "nc %h %p");
    assert_string_equal(c.alias, "cluster");
    assert_int_equal(c.known_global.count, 2);
    assert_string_equal(c.known_global.item[1], "/no/g2");
    assert_int_equal(c.known_user.count, 1);
    hl_ssh_config_fini(&c);
}

static void none_means_none(void **state)
{
    struct hl_ssh_config c;

    (void)state;
    assert_int_equal(parse(&c,
                           MINIMUM "proxycommand none\nidentityfile none\n"
                                   "userknownhostsfile none\n"
                                   "identityagent none\n",
                           NULL),
                     0);
    assert_null(c.proxy_command);
    assert_null(c.agent);
    assert_int_equal(c.identities.count, 0);
    assert_int_equal(c.known_user.count, 0);
    hl_ssh_config_fini(&c);
}

static void more_files_than_the_list_takes_are_dropped(void **state)
{
    static char text[8192] = MINIMUM;
    struct hl_ssh_config c;
    size_t i, len = strlen(text);

    (void)state;
    for (i = 0; i < HL_SSH_LIST_MAX + 5; i++) {
        memcpy(text + len, "identityfile /k\n", 17);
        len += 16;
    }
    assert_int_equal(parse(&c, text, NULL), 0);
    assert_int_equal(c.identities.count, HL_SSH_LIST_MAX);
    hl_ssh_config_fini(&c);
}

static void bad_output_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "user joe\n",
                                      "user joe\nhostname h\nport 0\n",
                                      "user joe\nhostname h\nport 65536\n",
                                      "user joe\nhostname h\nport 22x\n",
                                      "hostname\nuser\nport\n"};
    struct hl_ssh_config c;
    struct hl_error err;
    size_t i;

    (void)state;
    for (i = 0; i < HL_LEN(bad); i++) {
        memset(&err, 0, sizeof(err));
        assert_int_equal(parse(&c, bad[i], &err), HAUL_E_INVAL);
        assert_int_equal(err.code, HAUL_E_INVAL);
        hl_ssh_config_fini(&c);
    }
}

static void expand_to(const char *text, bool file, const char *want)
{
    char name[] = "db", host[] = "10.0.0.9", user[] = "joe";
    struct hl_ssh_config c = {
        .name = name, .host = host, .user = user, .port = 2022};
    char *out = NULL;

    assert_int_equal(hl_ssh_config_expand(&c, text, file, &out, NULL), 0);
    assert_string_equal(out, want);
    hl_free(out);
}

static void tokens_are_replaced(void **state)
{
    (void)state;
    expand_to("", false, "");
    expand_to("nc %h %p", false, "nc 10.0.0.9 2022");
    expand_to("%n-%r-100%%", false, "db-joe-100%");
    expand_to("%k", false, "10.0.0.9"); /* no HostKeyAlias */
    expand_to("%%h", false, "%h");
    expand_to("~/x ${HL_TEST_VALUE}", false, "~/x ${HL_TEST_VALUE}");
}

static void files_take_variables(void **state)
{
    (void)state;
    assert_int_equal(setenv("HL_TEST_VALUE", "%h", 1), 0);
    expand_to("/a/${HL_TEST_VALUE}/%r", true, "/a/%h/joe");
    expand_to("/a/${HL_TEST_UNSET}", true, "/a/${HL_TEST_UNSET}");
    expand_to("/a/${", true, "/a/${");
    expand_to("/a/~/b", true, "/a/~/b");
    expand_to("~joe/b", true, "~joe/b");
}

static void an_unknown_token_is_named(void **state)
{
    static const char *const bad[] = {"a %Z", "a %"};
    struct hl_ssh_config c = {0};
    struct hl_error err;
    char *out = NULL;
    size_t i;

    (void)state;
    for (i = 0; i < HL_LEN(bad); i++) {
        memset(&err, 0, sizeof(err));
        assert_int_equal(hl_ssh_config_expand(&c, bad[i], false, &out, &err),
                         HAUL_E_INVAL);
        assert_non_null(strstr(err.message, bad[i]));
    }
}

static void shell_characters_are_not_safe(void **state)
{
    static const char *const bad[] = {"a b",  "a;b",  "$x",  "`x`", "a'b",
                                      "a\"b", "a\\b", "a|b", "a&b", "a>b",
                                      "a\nb", "-x",   "a*",  "~x"};
    size_t i;

    (void)state;
    for (i = 0; i < HL_LEN(bad); i++)
        assert_false(hl_ssh_config_shell_safe(bad[i]));
    assert_true(hl_ssh_config_shell_safe("db-1.example.org"));
    assert_true(hl_ssh_config_shell_safe("fe80::1%eth0"));
    assert_true(hl_ssh_config_shell_safe("joe@corp_x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_but_the_host_gives_defaults),
        cmocka_unit_test(every_setting_is_read),
        cmocka_unit_test(none_means_none),
        cmocka_unit_test(more_files_than_the_list_takes_are_dropped),
        cmocka_unit_test(bad_output_is_refused),
        cmocka_unit_test(tokens_are_replaced),
        cmocka_unit_test(files_take_variables),
        cmocka_unit_test(an_unknown_token_is_named),
        cmocka_unit_test(shell_characters_are_not_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
