/*
 * Options take what the table allows, refuse the rest with a message that
 * names option, value and range, and fall back to their defaults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "opts.h"

static const int ids[] = {
#define X(ID, ...) HAUL_OPT_##ID,
#include "haul_options.def"
#undef X
};

static int open_opts(void **state)
{
    struct hl_opts *o;

    if (hl_opts_new(&o))
        return -1;
    *state = o;
    return 0;
}

static int close_opts(void **state)
{
    hl_opts_free(*state);
    hl_mem_fail_at(0, false);
    return hl_mem_live() == 0 ? 0 : -1;
}

static uint64_t size_of(const char *text)
{
    uint64_t n = 0xbad;

    if (hl_parse_size(text, &n))
        return 0xdead;
    return n;
}

static void sizes_are_read_in_both_kinds_of_units(void **state)
{
    (void)state;
    assert_true(size_of("0") == 0);
    assert_true(size_of("17") == 17);
    assert_true(size_of("17b") == 17);
    assert_true(size_of("1k") == 1000);
    assert_true(size_of("1ki") == 1024);
    assert_true(size_of("2KB") == 2000);
    assert_true(size_of("2KiB") == 2048);
    assert_true(size_of("3m") == 3000000);
    assert_true(size_of("64mi") == 67108864);
    assert_true(size_of("5G") == 5000000000);
    assert_true(size_of("5gi") == 5368709120);
    assert_true(size_of("2t") == 2000000000000);
    assert_true(size_of("2TI") == 2199023255552);
    assert_true(size_of("18446744073709551615") == UINT64_MAX);
}

static void size_fractions_are_exact_and_cut(void **state)
{
    (void)state;
    assert_true(size_of("1.5g") == 1500000000);
    assert_true(size_of("0.5ki") == 512);
    assert_true(size_of("1.0k") == 1000);
    /* 1.3 * 2^30 = 1395864371.2 */
    assert_true(size_of("1.3gi") == 1395864371);
    assert_true(size_of("0.9999999999999999999999k") == 999);
    assert_true(size_of("0.001k") == 1);
    assert_true(size_of("0.0009k") == 0);
}

static void what_is_no_size_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        " 1",
        "1 ",
        "-1",
        "+1",
        "k",
        ".5g",
        "1.g",
        "1.",
        "1.5",
        "1.5b",
        "1x",
        "1kk",
        "1kib2",
        "1bb",
        "1ik",
        "1k.5",
        "1,5g",
        "0x10",
        "1e3",
        "1.5.5k",
        "18446744073709551616",
        "99999999999999999999999",
        "16777216ti",
        "18446744073709551.616k",
    };
    uint64_t n;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++)
        assert_int_equal(hl_parse_size(bad[i], &n), HAUL_E_INVAL);
}

static void the_table_is_walked_to_its_end(void **state)
{
    const struct haul_opt_info *info, *first = haul_opt_next(NULL);
    size_t count = 0;
    int memory = 0;

    (void)state;
    assert_string_equal(first->name, "resume");
    for (info = first; info; info = haul_opt_next(info)) {
        assert_ptr_equal(hl_opt_info(info->id), info);
        assert_true(info->type >= HAUL_OPT_SIZE && info->type <= HAUL_OPT_LIST);
        assert_int_equal(info->argument == NULL, info->type == HAUL_OPT_FLAG);
        memory += strcmp(info->name, "memory") == 0;
        count++;
    }
    assert_int_equal(memory, 1);
    assert_int_equal(count, HL_LEN(ids));
    assert_null(hl_opt_info(0));
    assert_null(hl_opt_info(99999));
}

static void unset_options_have_their_defaults(void **state)
{
    const struct hl_opts *o = *state;

    assert_int_equal(hl_opts_i64(o, HAUL_OPT_RETRIES), 10);
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_STREAMS), -1);
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_FORCE), 0);
    assert_string_equal(hl_opts_str(o, HAUL_OPT_RESUME), "auto");
    assert_null(hl_opts_str(o, HAUL_OPT_IDENTITY));
    assert_string_equal(hl_opts_str(o, HAUL_OPT_ADDRESSING), "auto");
    assert_null(hl_opts_str(o, HAUL_OPT_ENDPOINT));
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_RANGED), 0);
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_EXPECTED_SIZE), -1);
    assert_false(hl_opts_is_set(o, HAUL_OPT_RETRIES));
}

static void values_are_kept_until_reset(void **state)
{
    struct hl_opts *o = *state;

    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_RETRIES, "0", NULL), 0);
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_RETRIES), 0);
    assert_true(hl_opts_is_set(o, HAUL_OPT_RETRIES));
    assert_int_equal(hl_opts_set_i64(o, 0, HAUL_OPT_RETRIES, 7, NULL), 0);
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_RETRIES), 7);
    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_RETRIES, NULL, NULL), 0);
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_RETRIES), 10);
    assert_false(hl_opts_is_set(o, HAUL_OPT_RETRIES));

    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_CIPHER, "a,b", NULL), 0);
    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_CIPHER, "", NULL), 0);
    assert_string_equal(hl_opts_str(o, HAUL_OPT_CIPHER), "");
    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_CIPHER, NULL, NULL), 0);
    assert_null(hl_opts_str(o, HAUL_OPT_CIPHER));

    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_CHUNK_SIZE, "1.5mi", NULL),
                     0);
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_CHUNK_SIZE), 1572864);
    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_FORCE, "1", NULL), 0);
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_FORCE), 1);
    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_IDENTITY, "/k", NULL), 0);
    assert_string_equal(hl_opts_str(o, HAUL_OPT_IDENTITY), "/k");
}

static void a_text_is_copied(void **state)
{
    struct hl_opts *o = *state;
    char text[] = "never";

    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_RESUME, text, NULL), 0);
    memset(text, 'x', 5);
    assert_string_equal(hl_opts_str(o, HAUL_OPT_RESUME), "never");
}

static void each_setting_of_a_list_adds_a_line(void **state)
{
    struct hl_opts *o = *state;
    struct hl_error e = {0};
    const int id = HAUL_OPT_HEADER;

    assert_int_equal(hl_opt_info(id)->type, HAUL_OPT_LIST);
    assert_int_equal(HAUL_OPT_LIST, 8); /* part of the ABI */
    assert_null(hl_opts_str(o, id));
    assert_int_equal(hl_opts_set_str(o, 0, id, "A: 1", NULL), 0);
    assert_string_equal(hl_opts_str(o, id), "A: 1");
    assert_int_equal(hl_opts_set_str(o, 0, id, "", NULL), 0);
    assert_int_equal(hl_opts_set_str(o, 0, id, "@file", NULL), 0);
    assert_string_equal(hl_opts_str(o, id), "A: 1\n\n@file");
    assert_int_equal(hl_opts_set_str(o, 0, id, "B: 2\nC: 3", &e), HAUL_E_INVAL);
    assert_string_equal(e.message, "a line break stands in a value for option "
                                   "'header'");
    assert_int_equal(hl_opts_set_str(o, 0, id, "B: 2\r", NULL), HAUL_E_INVAL);
    assert_int_equal(hl_opts_set_i64(o, 0, id, 1, NULL), HAUL_E_INVAL);
    hl_mem_fail_at(1, false);
    assert_int_equal(hl_opts_set_str(o, 0, id, "D: 4", NULL), HAUL_E_NOMEM);
    assert_string_equal(hl_opts_str(o, id), "A: 1\n\n@file");
    assert_int_equal(hl_opts_set_str(o, 0, id, NULL, NULL), 0);
    assert_null(hl_opts_str(o, id));
    assert_false(hl_opts_is_set(o, id));
    assert_int_equal(hl_opts_set_str(o, 0, id, "E: 5", NULL), 0);
    assert_string_equal(hl_opts_str(o, id), "E: 5");
}

static void ranges_are_inclusive(void **state)
{
    struct hl_opts *o = *state;
    static const struct {
        int id, rc;
        const char *v;
    } cases[] = {
        {HAUL_OPT_STREAMS, 0, "1"},
        {HAUL_OPT_STREAMS, 0, "64"},
        {HAUL_OPT_STREAMS, HAUL_E_INVAL, "0"},
        {HAUL_OPT_STREAMS, HAUL_E_INVAL, "65"},
        {HAUL_OPT_STREAMS, HAUL_E_INVAL, "-1"},
        {HAUL_OPT_STREAMS, HAUL_E_INVAL, "1k"},
        {HAUL_OPT_STREAMS, HAUL_E_INVAL, ""},
        {HAUL_OPT_STREAMS, HAUL_E_INVAL, "99999999999999999999"},
        {HAUL_OPT_CHUNK_SIZE, 0, "64ki"},
        {HAUL_OPT_CHUNK_SIZE, 0, "1gi"},
        {HAUL_OPT_CHUNK_SIZE, HAUL_E_INVAL, "65535"},
        {HAUL_OPT_CHUNK_SIZE, HAUL_E_INVAL, "1073741825"},
        {HAUL_OPT_CHUNK_SIZE, HAUL_E_INVAL, "18446744073709551615"},
        {HAUL_OPT_CHUNK_SIZE, HAUL_E_INVAL, "big"},
        {HAUL_OPT_FORCE, HAUL_E_INVAL, "2"},
        {HAUL_OPT_FORCE, HAUL_E_INVAL, "yes"},
        {HAUL_OPT_STALL_TIMEOUT, 0, "86400"},
        {HAUL_OPT_STALL_TIMEOUT, HAUL_E_INVAL, "86401"},
        {HAUL_OPT_STALL_TIMEOUT, HAUL_E_INVAL, "1m"},
        {HAUL_OPT_EXPECTED_SIZE, 0, "400g"},
        {HAUL_OPT_EXPECTED_SIZE, 0, "1024ti"},
        {HAUL_OPT_EXPECTED_SIZE, HAUL_E_INVAL, "0"},
        {HAUL_OPT_EXPECTED_SIZE, HAUL_E_INVAL, "1025ti"},
    };

    for (size_t i = 0; i < HL_LEN(cases); i++)
        assert_int_equal(hl_opts_set_str(o, 0, cases[i].id, cases[i].v, NULL),
                         cases[i].rc);
    assert_int_equal(hl_opts_set_i64(o, 0, HAUL_OPT_STREAMS, 64, NULL), 0);
    assert_int_equal(hl_opts_set_i64(o, 0, HAUL_OPT_STREAMS, 65, NULL),
                     HAUL_E_INVAL);
    assert_int_equal(hl_opts_set_i64(o, 0, HAUL_OPT_STREAMS, 0, NULL),
                     HAUL_E_INVAL);
    assert_int_equal(hl_opts_i64(o, HAUL_OPT_STREAMS), 64);
}

static void words_are_checked_against_the_list(void **state)
{
    struct hl_opts *o = *state;
    static const struct {
        int id, rc;
        const char *v;
    } cases[] = {
        {HAUL_OPT_VERIFY, 0, "auto"},
        {HAUL_OPT_VERIFY, 0, "remote"},
        {HAUL_OPT_VERIFY, 0, "none"},
        {HAUL_OPT_VERIFY, HAUL_E_INVAL, ""},
        {HAUL_OPT_VERIFY, HAUL_E_INVAL, "aut"},
        {HAUL_OPT_VERIFY, HAUL_E_INVAL, "autos"},
        {HAUL_OPT_VERIFY, HAUL_E_INVAL, "auto|ack"},
        {HAUL_OPT_VERIFY, HAUL_E_INVAL, "auto=1"},
        {HAUL_OPT_VERIFY, HAUL_E_INVAL, "Auto"},
        {HAUL_OPT_RESUME, 0, "append"},
        {HAUL_OPT_RESUME, 0, "append=0"},
        {HAUL_OPT_RESUME, 0, "append=1.5gi"},
        {HAUL_OPT_RESUME, HAUL_E_INVAL, "append="},
        {HAUL_OPT_RESUME, HAUL_E_INVAL, "append=x"},
        {HAUL_OPT_RESUME, HAUL_E_INVAL, "append[=OFFSET]"},
        {HAUL_OPT_RESUME, HAUL_E_INVAL, "append5"},
        {HAUL_OPT_RESUME, HAUL_E_INVAL, "never=5"},
        {HAUL_OPT_HOST_KEY, 0, "accept-new"},
        {HAUL_OPT_HOST_KEY, HAUL_E_INVAL, "off"},
        {HAUL_OPT_ADDRESSING, 0, "virtual"},
        {HAUL_OPT_ADDRESSING, HAUL_E_INVAL, "host"},
    };

    for (size_t i = 0; i < HL_LEN(cases); i++)
        assert_int_equal(hl_opts_set_str(o, 0, cases[i].id, cases[i].v, NULL),
                         cases[i].rc);
    assert_string_equal(hl_opts_str(o, HAUL_OPT_RESUME), "append=1.5gi");
}

static void messages_name_option_value_and_range(void **state)
{
    struct hl_opts *o = *state;
    struct hl_error e = {0};

    hl_opts_set_str(o, 0, HAUL_OPT_CHUNK_SIZE, "1k", &e);
    assert_string_equal(e.message, "'1k' for option 'chunk-size' is not a "
                                   "size from 65536 to 1073741824");
    hl_err_clear(&e);
    hl_opts_set_i64(o, 0, HAUL_OPT_STREAMS, -5, &e);
    assert_string_equal(e.message, "'-5' for option 'streams' is not a number "
                                   "from 1 to 64");
    hl_err_clear(&e);
    hl_opts_set_str(o, 0, HAUL_OPT_DIGEST, "md5", &e);
    assert_string_equal(e.message, "'md5' for option 'digest' is not one of "
                                   "xxh128|sha256");
    hl_err_clear(&e);
    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_STATE, "", &e),
                     HAUL_E_INVAL);
    assert_string_equal(e.message, "option 'state' needs a file name");
    hl_err_clear(&e);
    assert_int_equal(hl_opts_set_i64(o, 0, HAUL_OPT_RESUME, 1, &e),
                     HAUL_E_INVAL);
    assert_string_equal(e.message, "option 'resume' takes no number");
}

static void options_of_the_other_scope_are_refused(void **state)
{
    struct hl_opts *o = *state;
    struct hl_error e = {0};

    assert_int_equal(
        hl_opts_set_i64(o, HAUL_OPT_TRANSFER, HAUL_OPT_MEMORY, 1 << 26, &e),
        HAUL_E_INVAL);
    assert_string_equal(e.message, "option 'memory' is one of the engine");
    hl_err_clear(&e);
    assert_int_equal(
        hl_opts_set_str(o, HAUL_OPT_ENGINE, HAUL_OPT_RESUME, "never", &e),
        HAUL_E_INVAL);
    assert_string_equal(e.message, "option 'resume' is one of a transfer");
    assert_false(hl_opts_is_set(o, HAUL_OPT_RESUME));
    assert_int_equal(
        hl_opts_set_i64(o, HAUL_OPT_ENGINE, HAUL_OPT_MEMORY, 1 << 26, NULL), 0);
    assert_int_equal(
        hl_opts_set_str(o, HAUL_OPT_TRANSFER, HAUL_OPT_RESUME, "never", NULL),
        0);
}

static void an_unknown_option_is_refused(void **state)
{
    struct hl_error e = {0};

    assert_int_equal(hl_opts_set_str(*state, 0, 12345, "1", &e), HAUL_E_INVAL);
    assert_string_equal(e.message, "unknown option '12345'");
    assert_int_equal(hl_opts_set_i64(*state, 0, -1, 1, NULL), HAUL_E_INVAL);
}

static void out_of_memory_keeps_the_old_value(void **state)
{
    struct hl_opts *o = *state, *none;

    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_CIPHER, "a", NULL), 0);
    hl_mem_fail_at(1, true);
    assert_int_equal(hl_opts_set_str(o, 0, HAUL_OPT_CIPHER, "b", NULL),
                     HAUL_E_NOMEM);
    assert_int_equal(hl_opts_new(&none), HAUL_E_NOMEM);
    assert_null(none);
    assert_string_equal(hl_opts_str(o, HAUL_OPT_CIPHER), "a");
    hl_opts_free(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_opts, close_opts)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sizes_are_read_in_both_kinds_of_units),
        TEST(size_fractions_are_exact_and_cut),
        TEST(what_is_no_size_is_refused),
        TEST(the_table_is_walked_to_its_end),
        TEST(unset_options_have_their_defaults),
        TEST(values_are_kept_until_reset),
        TEST(a_text_is_copied),
        TEST(each_setting_of_a_list_adds_a_line),
        TEST(ranges_are_inclusive),
        TEST(words_are_checked_against_the_list),
        TEST(messages_name_option_value_and_range),
        TEST(options_of_the_other_scope_are_refused),
        TEST(an_unknown_option_is_refused),
        TEST(out_of_memory_keeps_the_old_value),
    };

    return cmocka_run_group_tests_name("opts", tests, NULL, NULL);
}
