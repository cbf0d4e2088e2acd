/* What tus uploads say and what is kept of them, as text: expected values are
 * from RFCs, from coreutils or counted by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tus_text.h"
#include "upload_header.h"

#define MI (UINT64_C(1) << 20)

/* ---- Headers ------------------------------------------------------------ */

static void check_metadata(const char *name, const char *expected)
{
    char *got = hl_tus_metadata(name);

    assert_non_null(got);
    assert_string_equal(got, expected);
    hl_free(got);
}

/* printf NAME | base64 */
static void metadata_names_the_file_in_base64(void **state)
{
    (void)state;
    check_metadata("", "filename ");
    check_metadata("a", "filename YQ==");
    check_metadata("sales.dump", "filename c2FsZXMuZHVtcA==");
    check_metadata("\xc3\xbc,= ", "filename w7wsPSA=");
    check_metadata("a\nb", "filename YQpi");
}

static void the_best_checksum_that_both_know_is_taken(void **state)
{
    (void)state;
    assert_null(hl_tus_alg_best(0));
    assert_null(hl_tus_alg_best(HL_TUS_CRC32));
    assert_string_equal(hl_tus_alg_best(HL_TUS_MD5)->name, "md5");
    assert_string_equal(hl_tus_alg_best(HL_TUS_MD5 | HL_TUS_SHA1)->name,
                        "sha1");
    assert_string_equal(
        hl_tus_alg_best(HL_TUS_SHA1 | HL_TUS_CRC32 | HL_TUS_SHA256)->name,
        "sha256");
    assert_string_equal(hl_tus_alg_best(HL_TUS_SHA512 | HL_TUS_SHA1)->name,
                        "sha512");
    assert_ptr_equal(hl_tus_alg_named("sha1"), hl_tus_alg_best(HL_TUS_SHA1));
    assert_null(hl_tus_alg_named("SHA1"));
    assert_null(hl_tus_alg_named("crc32"));
    assert_null(hl_tus_alg_named(""));
}

static void check_sum(uint32_t bit, const char *data, const char *expected)
{
    char *got = hl_tus_checksum(hl_tus_alg_best(bit), (const uint8_t *)data,
                                strlen(data));

    assert_non_null(got);
    assert_string_equal(got, expected);
    hl_free(got);
}

/* printf DATA | openssl dgst -ALGORITHM -binary | base64; the first one is the
 * example of the protocol's text (checksum). */
static void checksums_are_those_of_other_programs(void **state)
{
    (void)state;
    check_sum(HL_TUS_SHA1, "hello world", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=");
    check_sum(HL_TUS_SHA1, "", "sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=");
    check_sum(HL_TUS_MD5, "hello world", "md5 XrY7u+Ae7tCTyyK7j1rNww==");
    check_sum(HL_TUS_SHA256, "hello world",
              "sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=");
    check_sum(HL_TUS_SHA512, "abc",
              "sha512 3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6"
              "PCOj/uu9RU1EI2Q86A4qmslPpUyknw==");
}

static void check_concat(const char *base, const char *const *urls, size_t n,
                         const char *expected)
{
    char *got = hl_tus_concat(base, urls, n);

    assert_non_null(got);
    assert_string_equal(got, expected);
    hl_free(got);
}

static void
parts_are_named_by_path_where_they_are_on_the_same_server(void **state)
{
    static const char *const urls[] = {
        "https://h:1/files/a", "https://h:1/files/b?x=1", "https://h/files/c",
        "https://h:12/d", "http://h:1/e"};
    static const char *const odd[] = {"https://h:1", "https://h:1?x"};

    (void)state;
    check_concat("https://h:1/files/", urls, 1, "final;/files/a");
    check_concat("https://h:1/files/", urls, 5,
                 "final;/files/a /files/b?x=1 https://h/files/c "
                 "https://h:12/d http://h:1/e");
    check_concat("https://h:1", urls, 2, "final;/files/a /files/b?x=1");
    check_concat("https://h:1/", odd, 2, "final;https://h:1 https://h:1?x");
    check_concat("nothing", urls, 1, "final;https://h:1/files/a");
}

/* ---- Addresses ---------------------------------------------------------- */

static void check_folder(const char *url, const char *expected)
{
    char *got = hl_tus_folder(url);

    if (expected) {
        assert_non_null(got);
        assert_string_equal(got, expected);
    } else {
        assert_null(got);
    }
    hl_free(got);
}

static void the_folder_of_an_address_ends_in_a_slash(void **state)
{
    (void)state;
    check_folder("https://h/files/x", "https://h/files/");
    check_folder("https://h/x", "https://h/");
    check_folder("https://h:1/a/b/x?c=/d", "https://h:1/a/b/?c=/d");
    check_folder("https://h/files/", NULL);
    check_folder("https://h/", NULL);
    check_folder("https://h", NULL);
    check_folder("https://h?x/y", NULL);
    check_folder("", NULL);
    check_folder("x/y", NULL);
}

static void check_name(const char *url, const char *expected)
{
    char *got = hl_tus_last_name(url);

    if (expected) {
        assert_non_null(got);
        assert_string_equal(got, expected);
    } else {
        assert_null(got);
    }
    hl_free(got);
}

static void the_last_component_is_a_name(void **state)
{
    (void)state;
    check_name("https://h/files/sales%20%C3%BC.dump?x=/y",
               "sales \xc3\xbc.dump");
    check_name("https://h/x", "x");
    check_name("https://h/files/", NULL);
    check_name("https://h", NULL);
    check_name("", NULL);
}

/* ---- Parts -------------------------------------------------------------- */

static void all_parts_fit_into_a_line_of_8_kib(void **state)
{
    (void)state;
    assert_int_equal(hl_tus_parts_max(20), 64);
    /* 7794 bytes behind "final;": 64 of 121 with their blanks are 7744 */
    assert_int_equal(hl_tus_parts_max(120), 64);
    assert_int_equal(hl_tus_parts_max(121), 63);
    assert_int_equal(hl_tus_parts_max(299), 25);
    assert_int_equal(hl_tus_parts_max(3896), 2);
    assert_int_equal(hl_tus_parts_max(3897), 1);
    assert_int_equal(hl_tus_parts_max(10000), 0);
}

static void check_parts(uint64_t size, uint64_t chunk, uint32_t most,
                        uint64_t part, uint64_t count)
{
    assert_int_equal(hl_tus_part_size(size, chunk, most), part);
    if (part)
        assert_int_equal(hl_tus_part_count(size, part), count);
}

static void objects_are_cut_into_chunks_of_8_mib_or_more(void **state)
{
    (void)state;
    check_parts(32 * MI - 1, 4 * MI, 64, 0, 1); /* small */
    check_parts(32 * MI, 4 * MI, 64, 8 * MI, 4);
    check_parts(32 * MI + 1, 4 * MI, 64, 8 * MI, 5);
    check_parts(512 * MI, 4 * MI, 64, 8 * MI, 64);
    check_parts(512 * MI + 1, 4 * MI, 64, 12 * MI, 43);
    check_parts(2048 * MI, 4 * MI, 64, 32 * MI, 64);
    check_parts(400 * 1024 * MI, 4 * MI, 64, 6400 * MI, 64);
    /* chunks that are larger than parts would be */
    check_parts(64 * MI, 20 * MI, 64, 20 * MI, 4);
    check_parts(64 * MI, 64 * MI, 64, 0, 1);
    check_parts(64 * MI, 1024 * MI, 64, 0, 1);
    check_parts(64 * MI, 3 * MI, 64, 9 * MI, 8);
    /* long addresses */
    check_parts(512 * MI, 4 * MI, 2, 256 * MI, 2);
    check_parts(512 * MI, 4 * MI, 1, 0, 1);
    check_parts(512 * MI, 4 * MI, 0, 0, 1);
    /* unknown, and as large as can be */
    check_parts(HL_SIZE_UNKNOWN, 4 * MI, 64, 0, 1);
    check_parts(0, 4 * MI, 64, 0, 1);
    check_parts(UINT64_C(1) << 62, 4 * MI, 64, UINT64_C(1) << 56, 64);
    assert_int_equal(hl_tus_part_count(0, 8 * MI), 1);
}

static void check_size_text(uint64_t bytes, const char *expected)
{
    char *got = hl_tus_size_text(bytes);

    assert_non_null(got);
    assert_string_equal(got, expected);
    hl_free(got);
}

static void sizes_are_said_in_the_largest_unit_that_is_exact(void **state)
{
    (void)state;
    check_size_text(0, "0 bytes");
    check_size_text(1023, "1023 bytes");
    check_size_text(1024, "1 KiB");
    check_size_text(65 * 1024, "65 KiB");
    check_size_text(8 * MI, "8 MiB");
    check_size_text(8 * MI + 1, "8388609 bytes");
    check_size_text(6400 * MI, "6400 MiB");
    check_size_text(2048 * MI, "2 GiB");
    check_size_text(UINT64_C(5) << 40, "5 TiB");
    check_size_text(UINT64_C(1) << 60, "1048576 TiB");
}

/* ---- Token -------------------------------------------------------------- */

static void check_token(const struct hl_tus_saved *saved, const char *expected)
{
    char *got = hl_tus_token(saved);

    assert_non_null(got);
    assert_string_equal(got, expected);
    hl_free_secret(got);
}

static void a_token_says_what_is_there(void **state)
{
    char a[] = "https://h/a=1", b[] = "https://h/b", *one[] = {a};
    char *three[] = {a, NULL, b};
    struct hl_tus_saved s = {.urls = one, .count = 1};

    (void)state;
    check_token(&s, "way=tus\nurl0=https://h/a=1\n");
    s.urls = three;
    s.count = 3;
    s.part_size = 8388608;
    s.alg = hl_tus_alg_named("sha256");
    s.unsummed = true;
    s.expires_s = 1700000000;
    s.create = b;
    s.final = a;
    check_token(&s, "way=tus\ncreate=https://h/b\npart=8388608\nsum=sha256\n"
                    "unsummed=1\nexpires=1700000000\nurl0=https://h/a=1\n"
                    "url2=https://h/b\nfinal=https://h/a=1\n");
}

static void a_token_is_read_as_it_was_written(void **state)
{
    struct hl_tus_saved s;
    struct hl_error err = {0};

    (void)state;
    assert_int_equal(
        hl_tus_token_read("way=tus\nurl0=https://h/a=1\n", &s, &err), 0);
    assert_int_equal(s.count, 1);
    assert_string_equal(s.urls[0], "https://h/a=1");
    assert_int_equal(s.part_size, 0);
    assert_null(s.alg);
    assert_null(s.final);
    assert_null(s.create);
    assert_false(s.unsummed);
    hl_tus_saved_fini(&s);
    /* what a later version may add is read over */
    assert_int_equal(
        hl_tus_token_read("way=tus\nurl2=y\nnew=1\npart=8\nurl0=x\nsum=md5\n"
                          "unsummed=1\nexpires=5\nfinal=z\ncreate=c\n"
                          "urls=1",
                          &s, &err),
        0);
    assert_int_equal(s.count, 3);
    assert_string_equal(s.urls[0], "x");
    assert_null(s.urls[1]);
    assert_string_equal(s.urls[2], "y");
    assert_int_equal(s.part_size, 8);
    assert_string_equal(s.alg->name, "md5");
    assert_true(s.unsummed);
    assert_int_equal(s.expires_s, 5);
    assert_string_equal(s.final, "z");
    assert_string_equal(s.create, "c");
    hl_tus_saved_fini(&s);
}

static void a_token_that_was_changed_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "way=tus",
        "way=tus\n",
        "way=ietf\nurl0=x\n",
        "url0=x\nway=tus\n",
        "way=tus\nurl0=\n",
        "way=tus\nurl0=x\nurl0=y\n",
        "way=tus\nurl4096=x\npart=1\n",
        "way=tus\nurl18446744073709551615=x\npart=1\n",
        "way=tus\nurl1=x\n", /* several, and no size of parts */
        "way=tus\nurl0=x\npart=0\n",
        "way=tus\nurl0=x\npart=-1\n",
        "way=tus\nurl0=x\npart=8m\n",
        "way=tus\nurl0=x\npart=18446744073709551616\n",
        "way=tus\nurl0=x\nsum=crc64\n",
        "way=tus\nurl0=x\nexpires=soon\n",
        "way=tus\nurl0=x\nexpires=18446744073709551615\n",
        "way=tus\nurl0=x\nfinal=\n",
        "way=tus\nurl0=x\nfinal=a\nfinal=b\n",
        "way=tus\nurl0=x\nrubbish\n",
        "way=tus\n\nurl0=x\n",
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        struct hl_error err = {0};
        struct hl_tus_saved s;

        if (hl_tus_token_read(bad[i], &s, &err) != HAUL_E_RESUME)
            fail_msg("'%s' is taken", bad[i]);
        assert_int_equal(err.code, HAUL_E_RESUME);
        assert_true(err.hint[0] != '\0');
    }
}

static char *round_trip(const char *token)
{
    struct hl_tus_saved s;
    char *again;

    if (hl_tus_token_read(token, &s, NULL))
        return NULL;
    again = hl_tus_token(&s);
    hl_tus_saved_fini(&s);
    return again;
}

/* No piece of text is lost when memory is short: it is all or nothing. */
static void out_of_memory_is_said(void **state)
{
    static const char token[] = "way=tus\ncreate=https://h/b\npart=8388608\n"
                                "sum=sha256\nurl0=https://h/a\n"
                                "url2=https://h/b\nfinal=https://h/c\n";
    char *again = NULL;
    int64_t n = 0;

    (void)state;
    do {
        hl_mem_fail_at(++n, false);
        again = round_trip(token);
        hl_mem_fail_at(0, false);
        if (!again)
            assert_int_equal(hl_mem_live(), 0);
    } while (!again && n < 1000);
    assert_true(n > 10);
    assert_non_null(again);
    assert_string_equal(again, token);
    hl_free_secret(again);
    hl_mem_fail_at(1, false);
    assert_null(hl_tus_metadata("a"));
    hl_mem_fail_at(1, false);
    assert_null(hl_tus_checksum(hl_tus_alg_named("md5"), NULL, 0));
    hl_mem_fail_at(0, false);
}

static int nothing_is_left(void **state)
{
    (void)state;
    assert_int_equal(hl_mem_live(), 0);
    return 0;
}

#define TEST(f) cmocka_unit_test_teardown(f, nothing_is_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(metadata_names_the_file_in_base64),
        TEST(the_best_checksum_that_both_know_is_taken),
        TEST(checksums_are_those_of_other_programs),
        TEST(parts_are_named_by_path_where_they_are_on_the_same_server),
        TEST(the_folder_of_an_address_ends_in_a_slash),
        TEST(the_last_component_is_a_name),
        TEST(all_parts_fit_into_a_line_of_8_kib),
        TEST(objects_are_cut_into_chunks_of_8_mib_or_more),
        TEST(sizes_are_said_in_the_largest_unit_that_is_exact),
        TEST(a_token_says_what_is_there),
        TEST(a_token_is_read_as_it_was_written),
        TEST(a_token_that_was_changed_is_refused),
        TEST(out_of_memory_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
