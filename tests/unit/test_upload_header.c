/*
 * What headers of resumable uploads say: the forms of RFC 9651 and of tus are
 * read, what is none changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "upload_header.h"

/* ---- Items -------------------------------------------------------------- */

static void an_integer_is_digits_with_parameters_at_most(void **state)
{
    static const struct {
        const char *value;
        uint64_t n;
    } good[] = {
        {"0", 0},
        {"-0", 0},
        {"  42  ", 42},
        {"007", 7},
        {"999999999999999", 999999999999999},
        {"5;a", 5},
        {"5; a=?0;b=\"x\\\"\\\\y\"; *c.d-e_f=tok/en:!;g=:aGk=:;h=-1.5;"
         "i=@-7;j=%\"f%c3%bc\"",
         5},
    };
    static const char *const bad[] = {
        "",
        " ",
        "-",
        "-1",
        "+1",
        "1.0",
        "1.",
        "1e3",
        "0x10",
        "1 2",
        "1,2",
        "1\t",
        "\t1",
        "1;",
        "1;A=1",
        "1;a=",
        "1;a=\"x",
        "1;a=\"\\x\"",
        "1;a=\"\\",
        "1;a=\"\n\"",
        "1;a=:a b:",
        "1;a=:a",
        "1;a=?2",
        "1;a=@1.5",
        "1;a=@",
        "1;a=%x",
        "1;a=1.2345",
        "1;a=1234567890123.0",
        "1;a=(1)",
        "1000000000000000",
        "18446744073709551615",
        "99999999999999999999999999",
        "\"1\"",
        ":MQ==:",
        "?1",
        "(1)",
        "@1",
        "1\xc3\xa4",
    };
    uint64_t n = 77;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        if (hl_upload_integer(bad[i], &n))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(n, 77);
    }
    for (size_t i = 0; i < HL_LEN(good); i++) {
        if (!hl_upload_integer(good[i].value, &n))
            fail_msg("refused: %s", good[i].value);
        assert_int_equal(n, good[i].n);
    }
}

static void a_boolean_is_a_question(void **state)
{
    static const char *const bad[] = {"",  "?",    "?2", "?10",    "?1 x", "1",
                                      "0", "true", "?t", "\"?1\"", "?1,?1"};
    bool b = false;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        b = i % 2;
        if (hl_upload_boolean(bad[i], &b))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(b, i % 2);
    }
    assert_true(hl_upload_boolean("?1", &b));
    assert_true(b);
    assert_true(hl_upload_boolean(" ?0 ", &b));
    assert_false(b);
    assert_true(hl_upload_boolean("?1;why=\"x\"", &b));
    assert_true(b);
}

/* ---- Upload-Limit ------------------------------------------------------- */

static void check_limit(const char *value, uint64_t max, uint64_t min,
                        uint64_t append_max, uint64_t append_min)
{
    struct hl_upload_limit l = {1, 2, 3, 4};

    if (!hl_upload_limit(value, &l))
        fail_msg("refused: %s", value);
    assert_int_equal(l.size_max, max);
    assert_int_equal(l.size_min, min);
    assert_int_equal(l.append_max, append_max);
    assert_int_equal(l.append_min, append_min);
}

static void limits_are_a_dictionary(void **state)
{
    const uint64_t none = HL_SIZE_UNKNOWN;

    (void)state;
    check_limit("", none, 0, none, 0);
    check_limit("min-size=0", none, 0, none, 0);
    check_limit("max-size=1234567890", 1234567890, 0, none, 0);
    check_limit("max-size=100, min-size=1,max-append-size=50\t,\t"
                "min-append-size=5",
                100, 1, 50, 5);
    /* the last of two counts; others and parameters are read over */
    check_limit("max-size=1, max-size=2;x=3", 2, 0, none, 0);
    check_limit("max-age=3600, x, y;a=1, z=(1 \"b\" c;d=?0);e, *=tok, "
                "u=(), max-size=7, w=:YQ==:, v=1.5",
                7, 0, none, 0);
    /* a longer and a shorter key are others */
    check_limit("max-sizes=1, max-siz=2, max-size.x=3", none, 0, none, 0);
}

static void what_is_no_such_dictionary_changes_nothing(void **state)
{
    static const char *const bad[] = {
        "max-size=",
        "max-size=a",
        "max-size",
        "max-size=?1",
        "max-size=-1",
        "max-size=1.5",
        "max-size=\"1\"",
        "max-size=(1)",
        "min-append-size=x",
        "max-size=1,",
        "max-size=1,,min-size=1",
        ",max-size=1",
        "max-size=1 min-size=1",
        "max-size =1",
        "max-size= 1",
        "Max-Size=1",
        "1",
        "x=(1 2",
        "x=(1,2)",
        "x=(1\t2)",
        "x=(1\"a\")",
        "x=((1))",
        "max-size=1; ",
        "max-size=1000000000000000",
        "\xff",
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        struct hl_upload_limit l = {1, 2, 3, 4};

        if (hl_upload_limit(bad[i], &l))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(l.size_max, 1);
        assert_int_equal(l.size_min, 2);
        assert_int_equal(l.append_max, 3);
        assert_int_equal(l.append_min, 4);
    }
}

/* ---- Lists -------------------------------------------------------------- */

static void lists_name_whole_words(void **state)
{
    (void)state;
    assert_true(hl_upload_lists("POST", "POST"));
    assert_true(hl_upload_lists("GET, HEAD ,\tPOST", "POST"));
    assert_true(hl_upload_lists(",,a/b ; q=\"x\" ,c/d", "a/b"));
    assert_true(hl_upload_lists("*/*, Application/Partial-Upload;x=1",
                                "application/partial-upload"));
    assert_false(hl_upload_lists("", "POST"));
    assert_false(hl_upload_lists(" , ,", "POST"));
    assert_false(hl_upload_lists("POSTS, POS, X-POST", "POST"));
    assert_false(
        hl_upload_lists("application/*", "application/partial-upload"));
    assert_false(hl_upload_lists("GET;POST", "POST"));
}

static void tus_names_its_versions_and_extensions(void **state)
{
    (void)state;
    assert_true(hl_tus_version("1.0.0"));
    assert_true(hl_tus_version("1.1.0, 1.0.0,0.2.2"));
    assert_false(hl_tus_version("1.0.01"));
    assert_false(hl_tus_version("0.2.2"));
    assert_false(hl_tus_version(""));
    /* tusd's line */
    assert_int_equal(hl_tus_extensions("creation,creation-with-upload,"
                                       "termination,concatenation,"
                                       "creation-defer-length"),
                     HL_TUS_CREATION | HL_TUS_WITH_UPLOAD | HL_TUS_TERMINATION |
                         HL_TUS_CONCATENATION | HL_TUS_DEFER_LENGTH);
    assert_int_equal(hl_tus_extensions("checksum-trailer, "
                                       "concatenation-unfinished, x,"
                                       "Expiration"),
                     HL_TUS_CHECKSUM_TRAILER | HL_TUS_CONCATENATION_UNFINISHED |
                         HL_TUS_EXPIRATION);
    assert_int_equal(hl_tus_extensions("creationx,xchecksum"), 0);
    assert_int_equal(hl_tus_sums("sha1,md5,crc32c"), HL_TUS_SHA1 | HL_TUS_MD5);
    assert_int_equal(hl_tus_sums("sha512,sha256,crc32,blake3"),
                     HL_TUS_SHA512 | HL_TUS_SHA256 | HL_TUS_CRC32);
}

static void what_is_kept_as_text_is_read_back(void **state)
{
    char text[256], small[10];

    (void)state;
    for (uint32_t bits = 0; bits < 1u << 9; bits++) {
        hl_tus_extensions_text(bits, text, sizeof(text));
        assert_int_equal(hl_tus_extensions(text), bits);
    }
    for (uint32_t bits = 0; bits < 1u << 5; bits++) {
        hl_tus_sums_text(bits, text, sizeof(text));
        assert_int_equal(hl_tus_sums(text), bits);
    }
    hl_tus_extensions_text(HL_TUS_CREATION | HL_TUS_CONCATENATION, text,
                           sizeof(text));
    assert_string_equal(text, "creation,concatenation");
    hl_tus_extensions_text(UINT32_MAX, small, sizeof(small));
    assert_string_equal(small, "creation,");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_integer_is_digits_with_parameters_at_most),
        cmocka_unit_test(a_boolean_is_a_question),
        cmocka_unit_test(limits_are_a_dictionary),
        cmocka_unit_test(what_is_no_such_dictionary_changes_nothing),
        cmocka_unit_test(lists_name_whole_words),
        cmocka_unit_test(tus_names_its_versions_and_extensions),
        cmocka_unit_test(what_is_kept_as_text_is_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
