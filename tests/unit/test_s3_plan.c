/* s3_plan.c: how objects are cut, and what the state store keeps of an upload.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "s3_plan.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

static uint64_t part_size(uint64_t size, uint64_t chunk)
{
    struct hl_s3_cut c = {.size = size, .chunk = chunk, .hold_max = UINT64_MAX};
    struct hl_parts parts;
    struct hl_error err = {0};

    assert_int_equal(hl_s3_cut(&c, &parts, &err), 0);
    assert_int_equal(parts.grow, 0);
    return parts.size;
}

/* ---- Parts -------------------------------------------------------------- */

static void known_sizes_have_equal_parts(void **state)
{
    (void)state;
    /* The smallest, 64 parts, the usual, 9,000 parts. */
    assert_int_equal(part_size(1, 4 * MIB), 8 * MIB);
    assert_int_equal(part_size(512 * MIB, 4 * MIB), 8 * MIB);
    assert_int_equal(part_size(2 * GIB, 4 * MIB), 32 * MIB);
    assert_int_equal(part_size(4 * GIB, 4 * MIB), 64 * MIB);
    assert_int_equal(part_size(400 * GIB, 4 * MIB), 64 * MIB);
    assert_int_equal(part_size(562 * GIB, 4 * MIB), 64 * MIB);
    assert_int_equal(part_size(563 * GIB, 4 * MIB), 68 * MIB);
    assert_int_equal(part_size(5 * TIB, 4 * MIB), 584 * MIB);
}

static void parts_are_whole_chunks(void **state)
{
    (void)state;
    assert_int_equal(part_size(2 * GIB, 65536), 32 * MIB);
    assert_int_equal(part_size(2 * GIB, 3000000), 12 * 3000000);
    assert_int_equal(part_size(2 * GIB, GIB), GIB);
    assert_int_equal(part_size(1, 48 * MIB), 48 * MIB);
}

static void no_object_has_too_many_parts(void **state)
{
    const uint64_t chunks[] = {65536, 3000000, 4 * MIB, 100 * MIB + 1};
    struct hl_error err = {0};

    (void)state;
    for (uint64_t size = 1; size < 40 * TIB; size = size * 3 / 2 + 1)
        for (size_t i = 0; i < HL_LEN(chunks); i++) {
            struct hl_parts parts = {.size = part_size(size, chunks[i])};

            assert_true(hl_s3_part_count(&parts, size) <= 9000);
            assert_true(parts.size >= HL_S3_PART_MIN);
            assert_true(parts.size <= HL_S3_PART_MAX);
            assert_int_equal(parts.size % chunks[i], 0);
        }
    struct hl_s3_cut c = {
        .size = 50 * TIB, .chunk = 4 * MIB, .hold_max = UINT64_MAX};
    struct hl_parts parts;

    assert_int_equal(hl_s3_cut(&c, &parts, &err), HAUL_E_INVAL);
    c.size = UINT64_MAX - 1;
    assert_int_equal(hl_s3_cut(&c, &parts, NULL), HAUL_E_INVAL);
}

/* --verify remote: the checksum of a part that is one chunk can go before it.
 */
static void parts_of_one_chunk_on_request(void **state)
{
    struct hl_s3_cut c = {.size = 2 * GIB,
                          .chunk = 8 * MIB,
                          .hold_max = UINT64_MAX,
                          .small = true};
    struct hl_parts parts;

    (void)state;
    assert_int_equal(hl_s3_cut(&c, &parts, NULL), 0);
    assert_int_equal(parts.size, 8 * MIB);
    c.chunk = 4 * MIB; /* S3 takes no such parts */
    assert_int_equal(hl_s3_cut(&c, &parts, NULL), 0);
    assert_int_equal(parts.size, 32 * MIB);
    c.chunk = 8 * MIB;
    c.size = TIB; /* too many */
    assert_int_equal(hl_s3_cut(&c, &parts, NULL), 0);
    assert_true(hl_s3_part_count(&parts, TIB) <= 9000);
}

static void unknown_sizes_have_parts_that_grow(void **state)
{
    struct hl_s3_cut c = {
        .size = HL_SIZE_UNKNOWN, .chunk = 4 * MIB, .hold_max = GIB};
    struct hl_parts parts;

    (void)state;
    assert_int_equal(hl_s3_cut(&c, &parts, NULL), 0);
    assert_int_equal(parts.size, 64 * MIB);
    assert_int_equal(parts.grow, 1000);
    assert_int_equal(parts.size_max, 512 * MIB);
    assert_int_equal(hl_parts_len(&parts, 0), 64 * MIB);
    assert_int_equal(hl_parts_len(&parts, 1000), 128 * MIB);
    assert_int_equal(hl_parts_len(&parts, 9999), 512 * MIB);
    /* 1000 * (64 + 128 + 192 + ... + 448) + 3000 * 512 MiB */
    assert_true(hl_s3_parts_room(&parts) == UINT64_C(3328000) * MIB);
    c.hold_max = 64 * MIB;
    assert_int_equal(hl_s3_cut(&c, &parts, NULL), 0);
    assert_int_equal(parts.size, 8 * MIB);
    assert_int_equal(parts.size_max, 32 * MIB);
    c.equal = true;
    assert_int_equal(hl_s3_cut(&c, &parts, NULL), 0);
    assert_int_equal(parts.size, 32 * MIB);
    assert_int_equal(parts.grow, 0);
}

static void parts_of_a_pipe_fit_into_the_memory(void **state)
{
    struct hl_s3_cut c = {.size = HL_SIZE_UNKNOWN};
    struct hl_error err = {0};
    struct hl_parts parts;

    (void)state;
    for (c.chunk = 65536; c.chunk <= 32 * MIB; c.chunk *= 2)
        for (c.hold_max = 0; c.hold_max < 200 * MIB; c.hold_max += MIB) {
            hl_err_clear(&err);
            if (hl_s3_cut(&c, &parts, &err)) {
                assert_int_equal(err.code, HAUL_E_LIMIT);
                assert_true(c.hold_max < 8 * MIB || c.hold_max < c.chunk);
                continue;
            }
            assert_true(hl_parts_len_max(&parts) <= c.hold_max);
            assert_true(parts.size >= HL_S3_PART_MIN);
            assert_int_equal(parts.size % c.chunk, 0);
            assert_int_equal(parts.size_max % parts.size, 0);
        }
}

static void an_expected_size_makes_equal_parts(void **state)
{
    struct hl_s3_cut c = {.size = HL_SIZE_UNKNOWN,
                          .expected = 2 * TIB,
                          .chunk = 4 * MIB,
                          .hold_max = GIB};
    struct hl_error err = {0};
    struct hl_parts parts;

    (void)state;
    assert_int_equal(hl_s3_cut(&c, &parts, &err), 0);
    assert_int_equal(parts.grow, 0);
    assert_int_equal(parts.size, 236 * MIB); /* 2 TiB / 9000, in chunks */
    /* A tenth more does not hurt. */
    assert_true(hl_s3_parts_room(&parts) > 2 * TIB / 10 * 11);
    c.hold_max = 128 * MIB;
    assert_int_equal(hl_s3_cut(&c, &parts, &err), HAUL_E_LIMIT);
    assert_non_null(strstr(err.hint, "--memory"));
    /* Smaller parts than for a file where there is less memory. */
    c.expected = 100 * GIB;
    assert_int_equal(hl_s3_cut(&c, &parts, NULL), 0);
    assert_int_equal(parts.size, 64 * MIB);
    c.hold_max = 64 * MIB;
    assert_int_equal(hl_s3_cut(&c, &parts, NULL), 0);
    assert_int_equal(parts.size, 32 * MIB);
}

/* ---- Tokens ------------------------------------------------------------- */

static char *sample(void)
{
    struct hl_s3_token t = {.at = (char[]){"https://h/b"},
                            .id = (char[]){"a=b c&\xc3\xbc"},
                            .parts = {.size = 64 * MIB}};
    char *text = hl_s3_token_text(&t);

    assert_non_null(text);
    return text;
}

static void a_token_comes_back(void **state)
{
    struct hl_s3_token t = {.at = (char[]){"https://h/b"},
                            .id = (char[]){"id"},
                            .parts = {.size = 16 * MIB,
                                      .grow = 1000,
                                      .size_max = 64 * MIB},
                            .opaque = true},
                       back;
    char *text = hl_s3_token_text(&t);
    struct hl_error err = {0};

    (void)state;
    assert_int_equal(
        hl_s3_token_read(text, HL_SIZE_UNKNOWN, 4 * MIB, &back, &err), 0);
    assert_string_equal(back.at, "https://h/b");
    assert_string_equal(back.id, "id");
    assert_int_equal(back.parts.size, 16 * MIB);
    assert_int_equal(back.parts.grow, 1000);
    assert_int_equal(back.parts.size_max, 64 * MIB);
    assert_true(back.opaque);
    hl_s3_token_fini(&back);
    hl_free_secret(text);
    text = sample();
    assert_int_equal(hl_s3_token_read(text, GIB, 0, &back, &err), 0);
    assert_string_equal(back.id, "a=b c&\xc3\xbc");
    assert_false(back.opaque);
    hl_s3_token_fini(&back);
    hl_free_secret(text);
}

static void check_refused(const char *text, uint64_t size, uint64_t chunk)
{
    struct hl_error err = {0};
    struct hl_s3_token t;

    assert_int_equal(hl_s3_token_read(text, size, chunk, &t, &err),
                     HAUL_E_RESUME);
    assert_non_null(strstr(err.hint, "--resume never"));
    assert_null(t.id);
    assert_null(t.at);
}

/* Every single byte, and every end. */
static void a_token_that_was_changed_is_refused(void **state)
{
    char *text = sample();
    size_t len = strlen(text);

    (void)state;
    for (size_t i = 0; i < len; i++) {
        char was = text[i];

        text[i] = (char)(was == '7' ? '8' : '7');
        check_refused(text, HL_SIZE_UNKNOWN, 0);
        text[i] = '\0';
        check_refused(text, HL_SIZE_UNKNOWN, 0);
        text[i] = was;
    }
    check_refused("", 1, 0);
    check_refused("\n\n", 1, 0);
    check_refused("\ncheck=0123456789abcdef\n", 1, 0);
    hl_free_secret(text);
}

/* With a proper check, which is no secret. */
static void a_token_that_cannot_be_is_refused(void **state)
{
    static const struct hl_parts parts[] = {
        {.size = 0},
        {.size = HL_S3_PART_MIN - 1},
        {.size = HL_S3_PART_MAX + 1},
        {.size = 8 * MIB, .grow = 1, .size_max = 7 * MIB},
        {.size = 8 * MIB, .grow = 1, .size_max = 12 * MIB},
        {.size = 8 * MIB, .grow = 1, .size_max = 8 * GIB},
        {.size = 8 * MIB, .grow = 1},
        {.size = 8 * MIB, .grow = 10001, .size_max = 16 * MIB},
    };
    struct hl_s3_token t = {.at = (char[]){"u"}, .id = (char[]){"i"}};
    char *text;

    (void)state;
    for (size_t i = 0; i < HL_LEN(parts); i++) {
        t.parts = parts[i];
        text = hl_s3_token_text(&t);
        check_refused(text, HL_SIZE_UNKNOWN, 0);
        hl_free_secret(text);
    }
    t.parts = (struct hl_parts){.size = 6 * MIB};
    text = hl_s3_token_text(&t);
    check_refused(text, HL_SIZE_UNKNOWN, 4 * MIB);
    check_refused(text, 60001 * MIB, 0);
    hl_free_secret(text);
    t.id = (char[]){""};
    text = hl_s3_token_text(&t);
    check_refused(text, HL_SIZE_UNKNOWN, 0);
    hl_free_secret(text);
}

/* ---- Notes and ETags ---------------------------------------------------- */

static void a_note_comes_back(void **state)
{
    struct hl_s3_note n = {.size = 5 * GIB, .etag = "x-y", .compared = true};
    struct hl_s3_note back;
    char *text = hl_s3_note_text(&n);

    (void)state;
    assert_true(hl_s3_note_read(text, &back));
    assert_int_equal(back.size, 5 * GIB);
    assert_string_equal(back.etag, "x-y");
    assert_false(back.has_md5);
    assert_true(back.compared);
    hl_free(text);
    n.has_md5 = true;
    n.compared = false;
    memset(n.md5, 0xa5, sizeof(n.md5));
    text = hl_s3_note_text(&n);
    assert_true(hl_s3_note_read(text, &back));
    assert_true(back.has_md5);
    assert_memory_equal(back.md5, n.md5, sizeof(n.md5));
    assert_false(back.compared);
    hl_free(text);
}

static void what_is_no_note_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "size=1",
        "size=1\netag=\nmd5=\ncompared=1\n",
        "size=-1\netag=a\nmd5=\ncompared=1\n",
        "size=99999999999999999999\netag=a\nmd5=\ncompared=1\n",
        "size=1\netag=a b\nmd5=\ncompared=1\n",
        "size=1\netag=a\nmd5=0\ncompared=1\n",
        "size=1\netag=a\nmd5=zz345678901234567890123456789012\ncompared=1\n",
        "size=1\netag=a\ncompared=1\n",
        "size=1\netag=a\nmd5=\n",
        "size=1\netag=\x01\nmd5=\ncompared=1\n",
    };
    struct hl_s3_note n;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++)
        assert_false(hl_s3_note_read(bad[i], &n));
    assert_true(hl_s3_note_read("size=1\netag=a\nmd5=\ncompared=2\n", &n));
    assert_false(n.compared);
}

static void etags_are_taken_without_their_quotes(void **state)
{
    char out[HL_S3_ETAG_MAX], longest[HL_S3_ETAG_MAX + 1];
    uint8_t md5[HL_S3_MD5];

    (void)state;
    assert_true(hl_s3_etag("\"abc-2\"", out));
    assert_string_equal(out, "abc-2");
    assert_true(hl_s3_etag("abc", out));
    assert_string_equal(out, "abc");
    assert_false(hl_s3_etag(NULL, out));
    assert_false(hl_s3_etag("", out));
    assert_false(hl_s3_etag("\"\"", out));
    assert_false(hl_s3_etag("\"", out));
    assert_false(hl_s3_etag("W/\"abc\"", out));
    assert_false(hl_s3_etag("a\"b", out));
    assert_false(hl_s3_etag("a\nb", out));
    memset(longest, 'a', sizeof(longest));
    longest[HL_S3_ETAG_MAX] = '\0';
    assert_false(hl_s3_etag(longest, out));
    longest[HL_S3_ETAG_MAX - 1] = '\0';
    assert_true(hl_s3_etag(longest, out));
    assert_true(hl_s3_etag_md5("00112233445566778899AABBccddeeff", md5));
    assert_memory_equal(md5,
                        "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc"
                        "\xdd\xee\xff",
                        16);
    assert_false(hl_s3_etag_md5("00112233445566778899aabbccddeef", md5));
    assert_false(hl_s3_etag_md5("00112233445566778899aabbccddeeff-1", md5));
    assert_false(hl_s3_etag_md5("g0112233445566778899aabbccddeeff", md5));
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(known_sizes_have_equal_parts),
        TEST(parts_are_whole_chunks),
        TEST(no_object_has_too_many_parts),
        TEST(parts_of_one_chunk_on_request),
        TEST(unknown_sizes_have_parts_that_grow),
        TEST(parts_of_a_pipe_fit_into_the_memory),
        TEST(an_expected_size_makes_equal_parts),
        TEST(a_token_comes_back),
        TEST(a_token_that_was_changed_is_refused),
        TEST(a_token_that_cannot_be_is_refused),
        TEST(a_note_comes_back),
        TEST(what_is_no_note_is_refused),
        TEST(etags_are_taken_without_their_quotes),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);

    return rc || hl_mem_live() ? 1 : 0;
}
