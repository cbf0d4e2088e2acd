/* ssh_hostkey.c: known_hosts as sshd(8) describes it. The hashed name was made
 * by "ssh-keygen -H" of OpenSSH 9.2 from "[db.example]:2022". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ssh_private.h"

#define HASHED "|1|sos0A+aAI6LLH1FJoEYQHL+gsH0=|dy+GoImXEBO5UXGIgecTMt58Yd0="

static void patterns_match_like_sshd_8(void **state)
{
    (void)state;
    assert_true(hl_ssh_known_match("db", "db"));
    assert_true(hl_ssh_known_match("DB", "db"));
    assert_true(hl_ssh_known_match("a,db,c", "db"));
    assert_true(hl_ssh_known_match("*.example", "db.example"));
    assert_true(hl_ssh_known_match("d?", "db"));
    assert_true(hl_ssh_known_match("*a*b*c", "xxaxbxbxc"));
    assert_true(hl_ssh_known_match("[db]:2022", "[db]:2022"));
    assert_false(hl_ssh_known_match("db", "db2"));
    assert_false(hl_ssh_known_match("db2", "db"));
    assert_false(hl_ssh_known_match("d?", "d"));
    assert_false(hl_ssh_known_match("*.example", "example"));
    assert_false(hl_ssh_known_match("", "db"));
    assert_false(hl_ssh_known_match(",", "db"));
    assert_false(hl_ssh_known_match("[db]:22", "db"));
}

static void a_negated_pattern_wins(void **state)
{
    (void)state;
    assert_false(hl_ssh_known_match("*,!db", "db"));
    assert_false(hl_ssh_known_match("!db,*", "db"));
    assert_true(hl_ssh_known_match("*,!db", "other"));
    assert_false(hl_ssh_known_match("!db", "other"));
}

static void hashed_names_match(void **state)
{
    (void)state;
    assert_true(hl_ssh_known_match(HASHED, "[db.example]:2022"));
    assert_false(hl_ssh_known_match(HASHED, "[db.example]:2023"));
    assert_false(hl_ssh_known_match("|1|", "db"));
    assert_false(hl_ssh_known_match("|1||", "db"));
    assert_false(hl_ssh_known_match("|1|AAAA|AAAA", "db"));
    assert_false(hl_ssh_known_match("|1|sos0A+aAI6LLH1FJoEYQHL+gsH0=|", "db"));
}

/* What the text of a known_hosts file says about key KEY of "db". */
static enum hl_ssh_known find(const char *text, unsigned *line)
{
    char path[] = "/tmp/hl_known_XXXXXX";
    struct hl_ssh_list list = {.item = {path}, .count = 1};
    const struct hl_ssh_list *lists[] = {&list};
    struct hl_ssh_known_hit hit;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    assert_int_equal(
        hl_ssh_known_find(lists, 1, "db", "ssh-ed25519", "KEY", &hit, NULL), 0);
    unlink(path);
    hl_free(hit.key64);
    if (line)
        *line = hit.line;
    return hit.known;
}

static void one_line_that_fits_is_enough(void **state)
{
    unsigned line;

    (void)state;
    assert_int_equal(find("", NULL), HL_SSH_KNOWN_NO);
    assert_int_equal(find("other ssh-ed25519 KEY\n", NULL), HL_SSH_KNOWN_NO);
    assert_int_equal(find("#db ssh-ed25519 KEY\n", NULL), HL_SSH_KNOWN_NO);
    assert_int_equal(find("db ssh-ed25519\n", NULL), HL_SSH_KNOWN_NO);
    assert_int_equal(find("db ssh-ed25519 KEY", NULL), HL_SSH_KNOWN_OK);
    assert_int_equal(find("\n# x\n \tdb\tssh-ed25519  KEY me@here\n", &line),
                     HL_SSH_KNOWN_OK);
    assert_int_equal(line, 3);
    assert_int_equal(find("db ssh-ed25519 OLD\ndb ssh-ed25519 KEY\n", &line),
                     HL_SSH_KNOWN_OK);
    assert_int_equal(line, 2);
}

static void a_key_of_the_same_type_means_changed(void **state)
{
    unsigned line;

    (void)state;
    assert_int_equal(find("db ssh-rsa A\ndb ssh-ed25519 OLD\n", &line),
                     HL_SSH_KNOWN_CHANGED);
    assert_int_equal(line, 2);
    assert_int_equal(find("db ssh-rsa A\n", NULL), HL_SSH_KNOWN_OTHER);
    assert_int_equal(find("db ssh-ed25519 KEYS\n", NULL), HL_SSH_KNOWN_CHANGED);
}

static void revoked_beats_everything(void **state)
{
    (void)state;
    assert_int_equal(find("@revoked * ssh-ed25519 KEY\n"
                          "db ssh-ed25519 KEY\n",
                          NULL),
                     HL_SSH_KNOWN_REVOKED);
    assert_int_equal(find("db ssh-ed25519 KEY\n"
                          "@revoked * ssh-ed25519 KEY\n",
                          NULL),
                     HL_SSH_KNOWN_REVOKED);
    /* Another revoked key says nothing about this one. */
    assert_int_equal(find("@revoked * ssh-ed25519 OLD\n", NULL),
                     HL_SSH_KNOWN_NO);
    assert_int_equal(find("@revoked other ssh-ed25519 KEY\n", NULL),
                     HL_SSH_KNOWN_NO);
}

static void an_authority_is_no_host_key(void **state)
{
    (void)state;
    assert_int_equal(find("@cert-authority * ssh-ed25519 KEY\n", NULL),
                     HL_SSH_KNOWN_NO);
    assert_int_equal(find("@unheard-of * ssh-ed25519 KEY\n", NULL),
                     HL_SSH_KNOWN_NO);
}

static void a_missing_file_knows_nobody(void **state)
{
    char path[] = "/nonexistent/known_hosts";
    struct hl_ssh_list list = {.item = {path}, .count = 1};
    const struct hl_ssh_list *lists[] = {&list};
    struct hl_ssh_known_hit hit;

    (void)state;
    assert_int_equal(
        hl_ssh_known_find(lists, 1, "db", "ssh-ed25519", "KEY", &hit, NULL), 0);
    assert_int_equal(hit.known, HL_SSH_KNOWN_NO);
}

static void the_known_type_is_asked_for_first(void **state)
{
    char path[] = "/tmp/hl_known_XXXXXX", host[] = "db";
    struct hl_ssh_config c = {.host = host, .port = 2022};
    const char *text = "[db]:2022 ssh-rsa A\ndb ecdsa-sha2-nistp256 B\n";
    int fd = mkstemp(path);
    char *order;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    c.known_user.item[0] = path;
    c.known_user.count = 1;
    order = hl_ssh_hostkey_order(&c);
    unlink(path);
    assert_string_equal(order, "rsa-sha2-512,rsa-sha2-256,ssh-ed25519,"
                               "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
                               "ecdsa-sha2-nistp521");
    hl_free(order);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_like_sshd_8),
        cmocka_unit_test(a_negated_pattern_wins),
        cmocka_unit_test(hashed_names_match),
        cmocka_unit_test(one_line_that_fits_is_enough),
        cmocka_unit_test(a_key_of_the_same_type_means_changed),
        cmocka_unit_test(revoked_beats_everything),
        cmocka_unit_test(an_authority_is_no_host_key),
        cmocka_unit_test(a_missing_file_knows_nobody),
        cmocka_unit_test(the_known_type_is_asked_for_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
