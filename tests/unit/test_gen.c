/* The generator of io/gen.h: a pure function of seed and offset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gen.h"

#define SIZE 5000

/* Any piece equals the same piece of the whole. */
static void check_pieces(bool text)
{
    static uint8_t whole[SIZE], piece[SIZE];
    size_t at, len;

    hl_gen_fill(7, text, 1000, whole, SIZE);
    for (at = 0; at < 300; at++) {
        for (len = 0; len < 40; len++) {
            memset(piece, 0xa5, sizeof(piece));
            hl_gen_fill(7, text, 1000 + at, piece, len);
            assert_memory_equal(piece, whole + at, len);
            assert_int_equal(piece[len], 0xa5);
        }
        hl_gen_fill(7, text, 1000 + at, piece, SIZE - at);
        assert_memory_equal(piece, whole + at, SIZE - at);
    }
}

static void pieces_of_random_bytes_fit_together(void **state)
{
    (void)state;
    check_pieces(false);
}

static void pieces_of_text_fit_together(void **state)
{
    (void)state;
    check_pieces(true);
}

static void seeds_and_far_offsets_differ(void **state)
{
    uint8_t a[64], b[64], c[64];

    (void)state;
    hl_gen_fill(1, false, 0, a, sizeof(a));
    hl_gen_fill(2, false, 0, b, sizeof(b));
    hl_gen_fill(1, false, UINT64_C(1) << 40, c, sizeof(c));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_memory_not_equal(a, c, sizeof(a));
}

/* About half the bits are set, and no byte value is rare: 256 values in
 * 1 MiB, 4096 each, six standard deviations are 384. */
static void random_bytes_look_random(void **state)
{
    const size_t size = 1 << 20;
    uint8_t *data = malloc(size);
    size_t histogram[256] = {0}, i;

    (void)state;
    hl_gen_fill(3, false, 0, data, size);
    for (i = 0; i < size; i++)
        histogram[data[i]]++;
    for (i = 0; i < 256; i++)
        assert_in_range(histogram[i], 4096 - 384, 4096 + 384);
    free(data);
}

/* Fields of 12, 7, 26, 7 and 8 characters and eight words of five with what
 * follows each, five tabs: lines of 113 bytes. Ids count from 1. */
static void text_has_lines_with_tabs(void **state)
{
    char text[11 * 113], want[16];
    char *line = text, *end;
    int n, tabs;

    (void)state;
    hl_gen_fill(5, true, 0, (uint8_t *)text, sizeof(text));
    for (n = 1; n <= 11; n++) {
        end = memchr(line, '\n', 200);
        assert_non_null(end);
        assert_int_equal(end + 1 - line, 113);
        for (tabs = 0; line < end; line++)
            tabs += *line == '\t';
        assert_int_equal(tabs, 5);
        snprintf(want, sizeof(want), "%012d\t", n);
        assert_memory_equal(end - 112, want, 13);
        line = end + 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_random_bytes_fit_together),
        cmocka_unit_test(pieces_of_text_fit_together),
        cmocka_unit_test(seeds_and_far_offsets_differ),
        cmocka_unit_test(random_bytes_look_random),
        cmocka_unit_test(text_has_lines_with_tabs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
