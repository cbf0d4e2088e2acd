/* tune.c on a simulated link, and its rules by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tune.h"

#define MS HL_NS_PER_MS
#define S HL_NS_PER_S
#define WINDOW (UINT64_C(2) << 20)
#define START (10 * S)

/*
 * A link of capacity bytes per second and a round trip; each stream has one
 * window on its way at a time. Streams open one after another, three round
 * trips each, and close at once. On a bloated link windows are always full:
 * what the link does not carry waits in front of it.
 */
struct link {
    uint64_t capacity, rtt_ns;
    bool bloated;
    struct hl_tune t;
    uint64_t now_ns, opened_ns;
    uint32_t open, most; /* streams up; most that were ever wanted */
    uint64_t rate;       /* of the last sample */
};

static uint64_t window_rate(const struct link *l, uint64_t streams)
{
    return streams * WINDOW * 1000 / (l->rtt_ns / MS);
}

static uint64_t possible(const struct link *l)
{
    return hl_min(l->capacity, window_rate(l, l->t.streams_max));
}

static void open_streams(struct link *l)
{
    if (l->open > l->t.streams)
        l->open = l->t.streams;
    if (l->open == l->t.streams)
        l->opened_ns = l->now_ns;
    while (l->open < l->t.streams &&
           l->now_ns - l->opened_ns >= 3 * l->rtt_ns) {
        l->opened_ns += 3 * l->rtt_ns;
        l->open++;
    }
}

static void link_sample(struct link *l)
{
    uint64_t period = hl_max(500 * MS, 10 * l->rtt_ns);
    uint64_t end = l->now_ns + period;
    struct hl_tune_sample s = {.rtt_ns = l->rtt_ns};
    uint64_t bytes = 0;

    while (l->now_ns < end) {
        l->now_ns += 10 * MS;
        open_streams(l);
        bytes += hl_min(l->capacity, window_rate(l, l->open)) / 100;
    }
    l->rate = bytes * 1000 / (period / MS);
    s.now_ns = l->now_ns;
    s.rate = l->rate;
    s.open = l->open;
    s.window_limited = l->bloated || window_rate(l, l->open) < l->capacity;
    l->most = (uint32_t)hl_max(l->most, hl_tune_step(&l->t, &s));
}

static void link_init(struct link *l, uint64_t capacity, uint64_t rtt_ms,
                      uint32_t streams_max, bool bloated)
{
    *l = (struct link){
        .capacity = capacity, .rtt_ns = rtt_ms * MS, .bloated = bloated};
    hl_tune_init(&l->t, 0, streams_max);
    l->most = hl_tune_start(&l->t, l->rtt_ns);
}

static void link_run(struct link *l, uint64_t seconds)
{
    uint64_t end = l->now_ns + seconds * S;

    while (l->now_ns < end)
        link_sample(l);
}

static void nine_tenths_of_what_is_possible_are_reached(void **state)
{
    static const uint64_t capacities[] = {1000000,   12500000,  50000000,
                                          125000000, 400000000, 1250000000};
    static const uint32_t maxima[] = {1, 2, 3, 7, 16, 64};
    uint64_t rtt_ms;
    size_t i, j, bloated;

    (void)state;
    for (rtt_ms = 10; rtt_ms <= 250; rtt_ms += 10)
        for (i = 0; i < HL_LEN(capacities); i++)
            for (j = 0; j < HL_LEN(maxima); j++)
                for (bloated = 0; bloated < 2; bloated++) {
                    struct link l;

                    link_init(&l, capacities[i], rtt_ms, maxima[j], bloated);
                    link_run(&l, 90);
                    assert_true(l.rate >= possible(&l) / 10 * 9);
                    assert_true(l.most <= maxima[j]);
                }
}

/* 50 MB/s at 20 ms are half a window: of 64 streams no more than one beyond
 * the first three is ever tried. */
static void streams_that_do_not_pay_are_taken_back(void **state)
{
    uint32_t tests = 0, before = 0;
    struct link l;

    (void)state;
    link_init(&l, 50000000, 20, 64, true);
    assert_int_equal(l.t.streams, 3);
    while (l.now_ns < 3600 * S) {
        link_sample(&l);
        tests += before == 0 && l.t.before != 0;
        before = l.t.before;
    }
    assert_int_equal(l.most, 4);
    /* Rests of 10, 20, 40, 80, 160 and then 300 s: 16 tests an hour. */
    assert_in_range(tests, 15, 17);
}

static void link_that_becomes_faster_is_found(void **state)
{
    struct link l;

    (void)state;
    link_init(&l, 20000000, 100, 64, true);
    link_run(&l, 3600);
    l.capacity = 1000000000;
    link_run(&l, 330);
    assert_true(l.rate >= possible(&l) / 10 * 9);
}

static void first_number_fills_250_mb_a_second(void **state)
{
    static const struct {
        uint64_t rtt_ns;
        uint32_t want;
    } cases[] = {
        {0, 1},         {1, 1},          {8388608, 1}, /* one window exactly */
        {8388612, 2},   {10 * MS, 2},    {50 * MS, 6},    {100 * MS, 12},
        {250 * MS, 30}, {1000 * MS, 64}, {UINT64_MAX, 64}};
    struct hl_tune t;
    size_t i;

    (void)state;
    hl_tune_init(&t, 0, 64);
    assert_int_equal(t.streams, 1);
    for (i = 0; i < HL_LEN(cases); i++)
        assert_int_equal(hl_tune_start(&t, cases[i].rtt_ns), cases[i].want);
    hl_tune_init(&t, 0, 0); /* no maximum makes no sense: one */
    assert_int_equal(hl_tune_start(&t, S), 1);
}

static struct hl_tune_sample sample(uint64_t now_ms, uint64_t rate,
                                    uint32_t open)
{
    return (struct hl_tune_sample){.now_ns = START + now_ms * MS,
                                   .rtt_ns = 10 * MS,
                                   .rate = rate,
                                   .open = open,
                                   .window_limited = true};
}

/* A tune with streams that have been up for a while at START. */
static void settle(struct hl_tune *t, uint32_t streams, uint32_t streams_max)
{
    struct hl_tune_sample s = {.now_ns = S, .open = streams};

    hl_tune_init(t, 0, streams_max);
    t->streams = streams;
    assert_int_equal(hl_tune_step(t, &s), streams);
}

static uint32_t step(struct hl_tune *t, uint64_t now_ms, uint64_t rate,
                     uint32_t open)
{
    struct hl_tune_sample s = sample(now_ms, rate, open);

    return hl_tune_step(t, &s);
}

static void number_of_the_user_stays(void **state)
{
    struct hl_tune_sample s = sample(1000, 1000, 5);
    struct hl_tune t;

    (void)state;
    hl_tune_init(&t, 5, 64);
    assert_int_equal(hl_tune_start(&t, 250 * MS), 5);
    assert_int_equal(hl_tune_step(&t, &s), 5);
    s.limit = 3;
    assert_int_equal(hl_tune_step(&t, &s), 3);
    s.limit = 0;
    assert_int_equal(hl_tune_step(&t, &s), 5);
    hl_tune_init(&t, 100, 64);
    assert_int_equal(hl_tune_start(&t, 250 * MS), 64);
}

static void nothing_is_added_without_need(void **state)
{
    struct hl_tune_sample s = sample(1000, 1000, 4);
    struct hl_tune t;

    (void)state;
    settle(&t, 4, 64);
    s.window_limited = false;
    assert_int_equal(hl_tune_step(&t, &s), 4);
    assert_int_equal(step(&t, 2000, 0, 4), 4);    /* nothing moves */
    assert_int_equal(step(&t, 3000, 1000, 3), 4); /* not all are up */
    assert_int_equal(step(&t, 4999, 1000, 4), 4); /* just came up */
    assert_int_equal(step(&t, 5000, 1000, 4), 6);
}

/* From 4 to 6 streams the linear gain of 1000 is 500; 20 % of it is 100. */
static void step_is_kept_from_a_fifth_of_the_linear_gain(void **state)
{
    struct hl_tune t;

    (void)state;
    settle(&t, 4, 64);
    assert_int_equal(step(&t, 0, 1000, 4), 6);
    assert_int_equal(step(&t, 1999, 5000, 6), 6); /* too early to judge */
    assert_int_equal(step(&t, 2000, 1100, 6), 9); /* kept, and the next */

    settle(&t, 4, 64);
    assert_int_equal(step(&t, 0, 1000, 4), 6);
    assert_int_equal(step(&t, 2000, 1099, 6), 4);
    assert_int_equal(step(&t, 11999, 1000, 4), 4); /* rests for 10 s */
    assert_int_equal(step(&t, 12000, 1000, 4), 6);
    assert_int_equal(step(&t, 14000, 1000, 6), 4);
    assert_int_equal(step(&t, 33999, 1000, 4), 4); /* for 20 s */
    assert_int_equal(step(&t, 34000, 1000, 4), 6);
    assert_int_equal(step(&t, 36000, 1200, 6), 9); /* pays: rests are short */
    assert_int_equal(step(&t, 38000, 1200, 9), 6);
    assert_int_equal(step(&t, 47999, 1200, 6), 6);
    assert_int_equal(step(&t, 48000, 1200, 6), 9);
}

static void test_begins_when_all_streams_are_up(void **state)
{
    struct hl_tune t;

    (void)state;
    settle(&t, 4, 64);
    assert_int_equal(step(&t, 0, 1000, 4), 6);
    assert_int_equal(step(&t, 5000, 1000, 5), 6);
    assert_int_equal(step(&t, 6000, 1000, 6), 6); /* up for a second */
    assert_int_equal(step(&t, 7000, 1000, 6), 4);
}

static void server_limit_ends_a_test_and_holds(void **state)
{
    struct hl_tune_sample s = sample(1000, 1000, 4);
    struct hl_tune t;

    (void)state;
    settle(&t, 4, 64);
    assert_int_equal(step(&t, 0, 1000, 4), 6);
    s.limit = 4;
    assert_int_equal(hl_tune_step(&t, &s), 4);
    assert_int_equal(t.before, 0);
    s.now_ns = START + 5 * S;
    assert_int_equal(hl_tune_step(&t, &s), 4);
    s.limit = 5;
    assert_int_equal(hl_tune_step(&t, &s), 5);
    s.limit = 100; /* above the maximum: says nothing */
    s.open = 5;
    s.rate = 2000;
    s.now_ns = START + 10 * S;
    assert_int_equal(hl_tune_step(&t, &s), 7);
}

static void one_stream_grows_by_one_and_the_maximum_holds(void **state)
{
    struct hl_tune t;

    (void)state;
    settle(&t, 1, 4);
    assert_int_equal(step(&t, 0, 1000, 1), 2);
    assert_int_equal(step(&t, 2000, 2000, 2), 3);
    assert_int_equal(step(&t, 4000, 3000, 3), 4);
    assert_int_equal(step(&t, 6000, 4000, 4), 4);
    assert_int_equal(step(&t, 99000, 4000, 4), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nine_tenths_of_what_is_possible_are_reached),
        cmocka_unit_test(streams_that_do_not_pay_are_taken_back),
        cmocka_unit_test(link_that_becomes_faster_is_found),
        cmocka_unit_test(first_number_fills_250_mb_a_second),
        cmocka_unit_test(number_of_the_user_stays),
        cmocka_unit_test(nothing_is_added_without_need),
        cmocka_unit_test(step_is_kept_from_a_fifth_of_the_linear_gain),
        cmocka_unit_test(test_begins_when_all_streams_are_up),
        cmocka_unit_test(server_limit_ends_a_test_and_holds),
        cmocka_unit_test(one_stream_grows_by_one_and_the_maximum_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
