/*
 * Areas are read from text, lines reach the caller's function only when they
 * are wanted, and foreign text in them is escaped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "log.h"

struct seen {
    int lines;
    int level;
    char area[16];
    char line[2048];
};

static void keep_line(void *user, int level, const char *area, const char *line)
{
    struct seen *s = user;

    s->lines++;
    s->level = level;
    strncpy(s->area, area, sizeof(s->area) - 1);
    strncpy(s->line, line, sizeof(s->line) - 1);
}

static uint32_t areas_of(const char *text)
{
    uint32_t bits = 0xdead;

    assert_int_equal(hl_log_parse_areas(text, &bits, NULL), 0);
    return bits;
}

static void areas_are_taken_from_left_to_right(void **state)
{
    (void)state;
    assert_int_equal(areas_of(""), 0);
    assert_int_equal(areas_of("engine"), 1);
    assert_int_equal(areas_of("io,net"), 6);
    assert_int_equal(areas_of("ssh,uring,store,verify"), 8 + 16 + 32 + 64);
    assert_int_equal(areas_of("all"), 127);
    assert_int_equal(areas_of("all,-net"), 127 - 4);
    assert_int_equal(areas_of("-net,all"), 127);
    assert_int_equal(areas_of("io,-all"), 0);
    assert_int_equal(areas_of("io,"), 2);
}

static void an_unknown_area_is_named_and_nothing_changes(void **state)
{
    static const char *const bad[] = {"io,nets", "i",      "IO", "-",
                                      "io,,net", "io net", "-x"};
    struct hl_error e = {0};
    uint32_t bits = 77;

    (void)state;
    assert_int_equal(hl_log_parse_areas("io,nets,net", &bits, &e),
                     HAUL_E_INVAL);
    assert_string_equal(e.message, "unknown log area 'nets'");
    assert_int_not_equal(e.hint[0], '\0');
    for (size_t i = 0; i < HL_LEN(bad); i++)
        assert_int_equal(hl_log_parse_areas(bad[i], &bits, NULL), HAUL_E_INVAL);
    assert_int_equal(bits, 77);
}

static void a_wanted_line_arrives_with_level_and_area(void **state)
{
    struct seen seen = {0};
    struct hl_log log = {keep_line, &seen, HAUL_LOG_TRACE, 127};

    (void)state;
    HL_WARN(&log, HL_AREA_ENGINE, "chunk %d", 5);
    assert_int_equal(seen.lines, 1);
    assert_int_equal(seen.level, HAUL_LOG_WARN);
    assert_string_equal(seen.area, "engine");
    assert_string_equal(seen.line, "chunk 5");
    HL_TRACE(&log, HL_AREA_VERIFY, "x");
    assert_int_equal(seen.level, HAUL_LOG_TRACE);
    assert_string_equal(seen.area, "verify");
    HL_INFO(&log, HL_AREA_SSH, "x");
    assert_int_equal(seen.level, HAUL_LOG_INFO);
    assert_string_equal(seen.area, "ssh");
    assert_int_equal(seen.lines, 3);
}

static void unwanted_lines_are_not_even_formatted(void **state)
{
    struct seen seen = {0};
    struct hl_log log = {keep_line, &seen, HAUL_LOG_INFO, HL_AREA_IO};
    int evaluated = 0;

    (void)state;
    HL_TRACE(&log, HL_AREA_IO, "%d", ++evaluated);
    HL_INFO(&log, HL_AREA_NET, "%d", ++evaluated);
    HL_WARN((struct hl_log *)NULL, HL_AREA_IO, "%d", ++evaluated);
    log.fn = NULL;
    HL_WARN(&log, HL_AREA_IO, "%d", ++evaluated);
    assert_int_equal(evaluated, 0);
    assert_int_equal(seen.lines, 0);
}

static void a_line_is_one_line_and_bounded(void **state)
{
    struct seen seen = {0};
    struct hl_log log = {keep_line, &seen, HAUL_LOG_TRACE, 127};
    char big[3000];

    (void)state;
    HL_WARN(&log, HL_AREA_IO, "name '%s'", "a\nb\033");
    assert_string_equal(seen.line, "name 'a\\x0ab\\x1b'");
    memset(big, 'b', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    HL_WARN(&log, HL_AREA_IO, "%s", big);
    assert_int_equal(strlen(seen.line), 1023);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(areas_are_taken_from_left_to_right),
        cmocka_unit_test(an_unknown_area_is_named_and_nothing_changes),
        cmocka_unit_test(a_wanted_line_arrives_with_level_and_area),
        cmocka_unit_test(unwanted_lines_are_not_even_formatted),
        cmocka_unit_test(a_line_is_one_line_and_bounded),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
