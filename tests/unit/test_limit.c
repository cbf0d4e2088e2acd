/* The word for what holds a transfer back. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "limit.h"

static struct hl_limit_sample second(void)
{
    return (struct hl_limit_sample){.interval_ns = HL_NS_PER_S};
}

static void nothing_measured_is_no_limit(void **state)
{
    struct hl_limit_sample s = second();

    (void)state;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_NONE);
    s.rate_wait_ns = HL_NS_PER_S;
    s.interval_ns = 0;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_NONE);
}

static void the_rate_limit_counts_when_it_held_half_the_time(void **state)
{
    struct hl_limit_sample s = second();

    (void)state;
    s.reading = 1;
    s.rate_wait_ns = HL_NS_PER_S / 2;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_SOURCE);
    s.rate_wait_ns++;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_RATE);
    /* Before everything else: the user asked for it. */
    s.workers = 1;
    s.cpu_ns = HL_NS_PER_S;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_RATE);
}

static void
workers_are_the_limit_when_four_fifths_of_them_are_busy(void **state)
{
    struct hl_limit_sample s = second();

    (void)state;
    s.target_flows = true;
    s.target.link_ns = HL_NS_PER_S;
    s.workers = 4;
    s.cpu_ns = 3200 * HL_NS_PER_MS;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_LINK);
    s.cpu_ns++;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_CPU);
    s.workers = 0; /* inline: their time is not known */
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_LINK);
}

static void a_target_connection_says_where_its_time_went(void **state)
{
    struct hl_limit_sample s = second();

    (void)state;
    s.target_flows = s.source_flows = true;
    s.source.link_ns = HL_NS_PER_S; /* the target has the word */
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_NONE);
    s.target.starved_ns = 10;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_SOURCE);
    s.target.window_ns = 10; /* not more */
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_SOURCE);
    s.target.window_ns = 11;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_WINDOW);
    s.target.link_ns = 12;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_LINK);
    s.target.cpu_ns = 13;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_CPU);
}

static void a_local_target_that_keeps_the_buffers_is_the_limit(void **state)
{
    struct hl_limit_sample s = second();

    (void)state;
    s.reading = 1;
    s.writing = 2;
    s.memory_wait_ns = HL_NS_PER_S / 2;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_SOURCE);
    s.memory_wait_ns++;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_TARGET);
    s.reading = 2;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_SOURCE);
    s.reading = s.writing = 0;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_NONE);
}

static void
a_source_connection_without_work_waits_for_memory_or_nothing(void **state)
{
    struct hl_limit_sample s = second();

    (void)state;
    s.source_flows = true;
    s.reading = 1;
    s.source.starved_ns = 10;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_NONE);
    s.memory_wait_ns = HL_NS_PER_S;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_MEMORY);
    s.source.link_ns = 11;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_LINK);
    s.source.starved_ns = s.source.link_ns = 0;
    assert_int_equal(hl_limit(&s), HAUL_LIMIT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_measured_is_no_limit),
        cmocka_unit_test(the_rate_limit_counts_when_it_held_half_the_time),
        cmocka_unit_test(
            workers_are_the_limit_when_four_fifths_of_them_are_busy),
        cmocka_unit_test(a_target_connection_says_where_its_time_went),
        cmocka_unit_test(a_local_target_that_keeps_the_buffers_is_the_limit),
        cmocka_unit_test(
            a_source_connection_without_work_waits_for_memory_or_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
