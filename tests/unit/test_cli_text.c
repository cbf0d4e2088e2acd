/* What the command prints: sizes, times, foreign text, JSON. The file under
 * test is included: the command is no library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../cli/json.c"
#include "../../cli/text.c"

static void assert_size(uint64_t bytes, const char *expected)
{
    char out[16];

    text_size(out, sizeof(out), bytes);
    assert_string_equal(out, expected);
}

static void sizes_have_three_digits_and_never_four(void **state)
{
    (void)state;
    assert_size(0, "0 B");
    assert_size(999, "999 B");
    assert_size(1000, "1.00 kB");
    assert_size(9994, "9.99 kB");
    assert_size(9995, "10.0 kB");
    assert_size(99949, "99.9 kB");
    assert_size(99950, "100 kB");
    assert_size(999499, "999 kB");
    assert_size(999500, "1.00 MB");
    assert_size(312000000000, "312 GB");
    assert_size(UINT64_MAX, "18.4 EB");
}

static void assert_times(double seconds, const char *duration,
                         const char *clock)
{
    char out[32];

    text_duration(out, sizeof(out), seconds);
    assert_string_equal(out, duration);
    text_clock(out, sizeof(out), seconds);
    assert_string_equal(out, clock);
}

static void times_carry_into_the_next_unit(void **state)
{
    (void)state;
    assert_times(0, "0.0 s", "0:00");
    assert_times(9.94, "9.9 s", "0:10");
    assert_times(59.4, "59 s", "0:59");
    assert_times(59.6, "1 min 0 s", "1:00");
    assert_times(2823, "47 min 3 s", "47:03");
    assert_times(3599.7, "1 h 0 min", "1:00:00");
    assert_times(86399, "23 h 59 min", "23:59:59");
    assert_times(90000, "1 d 1 h", "1 d 1 h");
    assert_times(1e12, "11574074 d 1 h", "-");
}

static void assert_escaped(const char *text, const char *expected)
{
    char out[64];

    text_escape(out, sizeof(out), text);
    assert_string_equal(out, expected);
}

static void foreign_text_cannot_move_the_cursor(void **state)
{
    (void)state;
    assert_escaped("plain \xc3\xa4 \xf0\x9f\x98\x80", "plain \xc3\xa4 "
                                                      "\xf0\x9f\x98\x80");
    assert_escaped("\033[2J\r\n\x7f", "\\x1b[2J\\x0d\\x0a\\x7f");
    assert_escaped("\xc2\x9b", "\\xc2\\x9b");          /* C1: CSI */
    assert_escaped("\xc3(", "\\xc3(");                 /* cut short */
    assert_escaped("\xc0\xaf", "\\xc0\\xaf");          /* overlong */
    assert_escaped("\xed\xa0\x80", "\\xed\\xa0\\x80"); /* surrogate */
    assert_escaped("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
    assert_escaped("\xc3", "\\xc3");
}

static void escaping_stops_before_half_a_character(void **state)
{
    char out[6];

    (void)state;
    text_escape(out, sizeof(out), "abcd\xc3\xa4");
    assert_string_equal(out, "abcd");
    text_escape(out, sizeof(out), "ab\033");
    assert_string_equal(out, "ab");
}

static void cutting_counts_characters(void **state)
{
    char text[] = "\xc3\xa4\xc3\xb6x";

    (void)state;
    text_cut(text, 5);
    assert_string_equal(text, "\xc3\xa4\xc3\xb6x");
    text_cut(text, 2);
    assert_string_equal(text, "\xc3\xa4\xc3\xb6");
}

static void distance_counts_edits(void **state)
{
    (void)state;
    assert_int_equal(text_distance("", "abc"), 3);
    assert_int_equal(text_distance("abc", ""), 3);
    assert_int_equal(text_distance("memory", "memory"), 0);
    assert_int_equal(text_distance("memroy", "memory"), 2);
    assert_int_equal(text_distance("kitten", "sitting"), 3);
}

static void assert_lines(const char *text, size_t len, const char *expected)
{
    char *shown = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&shown, &size);

    assert_non_null(out);
    text_put_lines(out, text, len);
    fclose(out);
    assert_string_equal(shown, expected);
    free(shown);
}

static void foreign_lines_are_indented_and_escaped(void **state)
{
    (void)state;
    assert_lines("", 0, "");
    assert_lines("a", 1, "  a\n");
    assert_lines("a\r\n\tb\n", 6, "  a\n  \tb\n");
    assert_lines("a\n\nb", 4, "  a\n  \n  b\n");
    assert_lines("a\rb\033[2J", 7, "  a\\x0db\\x1b[2J\n");
    assert_lines("a\0b", 3, "  a\\x00b\n");
    assert_lines("abc", 2, "  ab\n");
}

static void texts_are_cut_between_characters(void **state)
{
    (void)state;
    assert_int_equal(text_whole("abc", 3, 3), 3);
    assert_int_equal(text_whole("abcd", 4, 3), 3);
    assert_int_equal(text_whole("ab\xc3\xa4", 4, 3), 2);
    assert_int_equal(text_whole("ab\xc3\xa4z", 5, 4), 4);
    assert_int_equal(text_whole("a\xf0\x9f\x98\x80", 5, 4), 1);
    assert_int_equal(text_whole("a\xf0\x9f\x98\x80", 5, 2), 1);
}

static void json_is_valid_whatever_a_string_holds(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct json j;

    (void)state;
    assert_non_null(out);
    json_begin(&j, out);
    json_text(&j, "a", "q\" b\\ n\n \x01\x7f \xc3\xa4 \xff");
    json_text(&j, "b", NULL);
    json_u64(&j, "c", UINT64_MAX - 1);
    json_u64(&j, "d", UINT64_MAX);
    json_seconds(&j, "e", 1.5);
    json_seconds(&j, "f", -1);
    json_bool(&j, "g", true);
    json_open(&j, "h");
    json_u64(&j, "i", 1);
    json_bytes(&j, "j", "a\0bc", 3);
    json_close(&j);
    json_bool(&j, "k", false);
    json_end(&j);
    fclose(out);
    assert_string_equal(
        text, "{\"a\":\"q\\\" b\\\\ n\\u000a \\u0001\\u007f \xc3\xa4 "
              "\\\\xff\",\"b\":null,\"c\":18446744073709551614,\"d\":null,"
              "\"e\":1.500,\"f\":null,\"g\":true,\"h\":{\"i\":1,"
              "\"j\":\"a\\u0000b\"},\"k\":false}\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_have_three_digits_and_never_four),
        cmocka_unit_test(times_carry_into_the_next_unit),
        cmocka_unit_test(foreign_text_cannot_move_the_cursor),
        cmocka_unit_test(escaping_stops_before_half_a_character),
        cmocka_unit_test(cutting_counts_characters),
        cmocka_unit_test(distance_counts_edits),
        cmocka_unit_test(foreign_lines_are_indented_and_escaped),
        cmocka_unit_test(texts_are_cut_between_characters),
        cmocka_unit_test(json_is_valid_whatever_a_string_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
