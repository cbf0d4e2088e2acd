/*
 * The first cause stays, foreign text cannot control a terminal, and the
 * table says exit status and retry class.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base.h"

static void an_error_holds_code_and_message(void **state)
{
    struct hl_error e = {.proto_status = 4};

    (void)state;
    assert_int_equal(hl_err(&e, HAUL_E_PROTO, 0, "reply %d of '%s'", 7, "h"),
                     -504);
    assert_int_equal(e.code, -504);
    assert_int_equal(e.sys_errno, 0);
    assert_int_equal(e.proto_status, 4);
    assert_string_equal(e.message, "reply 7 of 'h'");
    assert_string_equal(e.detail, "");
    assert_string_equal(e.hint, "");
}

static void errno_text_is_appended(void **state)
{
    struct hl_error e = {0};

    (void)state;
    assert_int_equal(hl_err(&e, HAUL_E_READ, ENOENT, "cannot read 'x'"), -203);
    assert_int_equal(e.sys_errno, ENOENT);
    assert_string_equal(e.message,
                        "cannot read 'x': No such file or directory");
}

static void a_long_name_does_not_push_the_cause_out(void **state)
{
    struct hl_error e = {0};
    char name[400];
    const char *cause = ": Permission denied";

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    hl_err(&e, HAUL_E_READ, EACCES, "%s", name);
    assert_int_equal(strlen(e.message), 255);
    assert_string_equal(e.message + 255 - strlen(cause), cause);
    assert_memory_equal(e.message, name, 255 - strlen(cause));
}

static void the_first_cause_wins(void **state)
{
    struct hl_error e = {0};

    (void)state;
    hl_err(&e, HAUL_E_FULL, ENOSPC, "first");
    assert_int_equal(hl_err(&e, HAUL_E_CANCELED, 0, "second"), -701);
    assert_int_equal(e.code, HAUL_E_FULL);
    assert_int_equal(e.sys_errno, ENOSPC);
    assert_string_equal(e.message, "first: No space left on device");
}

static void detail_and_hint_are_added_and_first_stays(void **state)
{
    struct hl_error e = {0};

    (void)state;
    hl_err(&e, HAUL_E_AUTH, 0, "refused");
    assert_int_equal(hl_err_detail(&e, "method %d", 1), -401);
    assert_int_equal(hl_err_hint(&e, "Load the %s.", "key"), -401);
    assert_int_equal(hl_err_detail(&e, "other"), -401);
    assert_int_equal(hl_err_hint(&e, "Other."), -401);
    assert_string_equal(e.detail, "method 1");
    assert_string_equal(e.hint, "Load the key.");
}

static void detail_and_hint_without_an_error_do_nothing(void **state)
{
    struct hl_error e = {0};

    (void)state;
    assert_int_equal(hl_err_detail(&e, "d"), 0);
    assert_int_equal(hl_err_hint(&e, "h"), 0);
    assert_string_equal(e.detail, "");
    assert_string_equal(e.hint, "");
}

static void without_a_place_a_failure_still_fails(void **state)
{
    (void)state;
    assert_int_equal(hl_err(NULL, HAUL_E_NOMEM, 0, "x"), -201);
    assert_true(hl_err_detail(NULL, "x") < 0);
    assert_true(hl_err_hint(NULL, "x") < 0);
}

static void a_cleared_error_takes_a_new_one(void **state)
{
    struct hl_error e = {.attempts = 3};

    (void)state;
    hl_err(&e, HAUL_E_RESET, EPIPE, "old");
    hl_err_hint(&e, "Old.");
    hl_err_clear(&e);
    assert_int_equal(e.code, 0);
    assert_int_equal(e.attempts, 0);
    hl_err(&e, HAUL_E_TLS, 0, "new");
    assert_int_equal(e.code, HAUL_E_TLS);
    assert_int_equal(e.sys_errno, 0);
    assert_string_equal(e.message, "new");
    assert_string_equal(e.hint, "");
}

static void control_characters_in_a_message_are_escaped(void **state)
{
    struct hl_error e = {0};

    (void)state;
    hl_err(&e, HAUL_E_REMOTE, 0, "no '%s'", "a\033[2J\r\nb\x7f\t");
    hl_err_detail(&e, "%s", "\x01");
    hl_err_hint(&e, "%s", "\x02");
    assert_string_equal(e.message, "no 'a\\x1b[2J\\x0d\\x0ab\\x7f\\x09'");
    assert_string_equal(e.detail, "\\x01");
    assert_string_equal(e.hint, "\\x02");
}

/* Left: bytes; right: what RFC 3629 says about them. */
static void only_good_utf8_passes(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"plain ~", "plain ~"},
        {"\xc3\xa4", "\xc3\xa4"},                     /* U+00E4 */
        {"\xe2\x82\xac", "\xe2\x82\xac"},             /* U+20AC */
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},     /* U+1F600 */
        {"\xc2\xa0", "\xc2\xa0"},                     /* U+00A0 */
        {"\xc2\x9b", "\\xc2\\x9b"},                   /* C1: CSI */
        {"\x80", "\\x80"},                            /* stray */
        {"\xc0\x80", "\\xc0\\x80"},                   /* overlong */
        {"\xe0\x9f\xbf", "\\xe0\\x9f\\xbf"},          /* overlong */
        {"\xe0\xa0\x80", "\xe0\xa0\x80"},             /* U+0800 */
        {"\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf"}, /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* surrogate */
        {"\xed\x9f\xbf", "\xed\x9f\xbf"},             /* U+D7FF */
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},     /* U+10FFFF */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* above */
        {"\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80"}, /* above */
        {"\xe2\x82", "\\xe2\\x82"},                   /* cut */
        {"\xe2\x82x", "\\xe2\\x82x"},                 /* cut */
        {"\xc3", "\\xc3"},                            /* cut */
    };
    char out[32];

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        assert_int_equal(hl_escape(out, sizeof(out), cases[i].in),
                         strlen(cases[i].out));
        assert_string_equal(out, cases[i].out);
    }
}

static void a_cut_never_halves_a_character(void **state)
{
    char out[8];

    (void)state;
    memset(out, 'x', sizeof(out));
    assert_int_equal(hl_escape(out, 1, "abc"), 0);
    assert_string_equal(out, "");
    assert_int_equal(hl_escape(out, 4, "abc"), 3);
    assert_string_equal(out, "abc");
    assert_int_equal(hl_escape(out, 4, "ab\xc3\xa4"), 2);
    assert_string_equal(out, "ab");
    assert_int_equal(hl_escape(out, 5, "ab\xc3\xa4"), 4);
    assert_string_equal(out, "ab\xc3\xa4");
    assert_int_equal(hl_escape(out, 5, "a\n"), 1);
    assert_string_equal(out, "a");
    assert_int_equal(hl_escape(out, 6, "a\n"), 5);
    assert_string_equal(out, "a\\x0a");
}

static void names_texts_and_exit_statuses_follow_the_table(void **state)
{
    (void)state;
    assert_string_equal(haul_err_name(HAUL_OK), "HAUL_OK");
    assert_int_equal(haul_err_exit_status(HAUL_OK), 0);
    assert_string_equal(haul_err_name(-303), "HAUL_E_STALLED");
    assert_string_equal(haul_err_text(-303),
                        "nothing moved within the stall timeout");
    assert_int_equal(haul_err_exit_status(-303), 4);
    assert_int_equal(haul_err_exit_status(-101), 2);
    assert_int_equal(haul_err_exit_status(-203), 3);
    assert_int_equal(haul_err_exit_status(-402), 5);
    assert_int_equal(haul_err_exit_status(-502), 6);
    assert_int_equal(haul_err_exit_status(-601), 7);
    assert_int_equal(haul_err_exit_status(-205), 8);
    assert_int_equal(haul_err_exit_status(-801), 9);
    assert_int_equal(haul_err_exit_status(-701), 130);
}

static void an_unknown_code_is_internal(void **state)
{
    (void)state;
    assert_string_equal(haul_err_name(-1), "HAUL_E_UNKNOWN");
    assert_string_equal(haul_err_name(5), "HAUL_E_UNKNOWN");
    assert_non_null(haul_err_text(-1));
    assert_int_equal(haul_err_exit_status(-1), 1);
    assert_int_equal(hl_err_retry_class(-1), HL_RETRY_NEVER);
}

static void retry_classes_follow_the_table(void **state)
{
    (void)state;
    assert_int_equal(hl_err_retry_class(HAUL_E_AUTH), HL_RETRY_NEVER);
    assert_int_equal(hl_err_retry_class(HAUL_E_REMOTE_IO), HL_RETRY_CHUNK);
    assert_int_equal(hl_err_retry_class(HAUL_E_RESET), HL_RETRY_LINK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_holds_code_and_message),
        cmocka_unit_test(errno_text_is_appended),
        cmocka_unit_test(a_long_name_does_not_push_the_cause_out),
        cmocka_unit_test(the_first_cause_wins),
        cmocka_unit_test(detail_and_hint_are_added_and_first_stays),
        cmocka_unit_test(detail_and_hint_without_an_error_do_nothing),
        cmocka_unit_test(without_a_place_a_failure_still_fails),
        cmocka_unit_test(a_cleared_error_takes_a_new_one),
        cmocka_unit_test(control_characters_in_a_message_are_escaped),
        cmocka_unit_test(only_good_utf8_passes),
        cmocka_unit_test(a_cut_never_halves_a_character),
        cmocka_unit_test(names_texts_and_exit_statuses_follow_the_table),
        cmocka_unit_test(an_unknown_code_is_internal),
        cmocka_unit_test(retry_classes_follow_the_table),
    };

    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
