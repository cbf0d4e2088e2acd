/* rate.c: the limit holds on average; the meter shows what was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random.h"
#include "rate.h"

#define MS HL_NS_PER_MS
#define S HL_NS_PER_S

static void no_limit_lets_everything_pass(void **state)
{
    struct hl_rate r;

    (void)state;
    hl_rate_init(&r, 0, 0);
    assert_int_equal(hl_rate_take(&r, UINT64_MAX, 0), 0);
    assert_int_equal(hl_rate_take(&r, UINT64_MAX, 0), 0);
}

/* 1000 bytes per second, so a quarter of a second is 250 bytes. */
static void debt_is_paid_before_the_next_piece(void **state)
{
    struct hl_rate r;

    (void)state;
    hl_rate_init(&r, 1000, 5 * S);
    assert_int_equal(hl_rate_take(&r, 250, 5 * S), 0);
    assert_int_equal(hl_rate_take(&r, 1000, 5 * S), 0);
    assert_int_equal(hl_rate_take(&r, 1, 5 * S), 6 * S);
    assert_int_equal(hl_rate_take(&r, 1, 6 * S - 1), 6 * S);
    assert_int_equal(hl_rate_take(&r, 500, 6 * S), 0);
    assert_int_equal(hl_rate_take(&r, 1, 6 * S), 6 * S + 500 * MS);
}

static void idle_time_saves_up_a_quarter_of_a_second(void **state)
{
    struct hl_rate r;

    (void)state;
    hl_rate_init(&r, 1000, 0);
    assert_int_equal(hl_rate_take(&r, 250, 0), 0);
    assert_int_equal(hl_rate_take(&r, 350, 100 * S), 0);
    assert_int_equal(hl_rate_take(&r, 1, 100 * S), 100 * S + 100 * MS);
}

/* At one byte per millisecond, asking every 10 us earns a hundredth of a byte
 * each time: rounding must not lose it. */
static void asking_often_loses_nothing(void **state)
{
    struct hl_rate r;
    uint64_t now;

    (void)state;
    hl_rate_init(&r, 1000, 0);
    assert_int_equal(hl_rate_take(&r, 1250, 0), 0);
    for (now = 10000; now < S; now += 10000)
        assert_int_equal(hl_rate_take(&r, 1, now), S);
    assert_int_equal(hl_rate_take(&r, 1, S), 0);
}

static void average_holds_for_pieces_of_any_size(void **state)
{
    struct hl_random random = {3};
    uint64_t rate = 3333333, now = 0, bytes = 0, largest = 0;
    struct hl_rate r;

    (void)state;
    hl_rate_init(&r, rate, 0);
    while (now < 60 * S) {
        uint64_t piece = 1 + hl_random_below(&random, 500000);
        uint64_t at = hl_rate_take(&r, piece, now);

        if (at) {
            assert_true(at > now);
            now = at;
        } else {
            bytes += piece;
            largest = hl_max(largest, piece);
        }
    }
    assert_true(bytes >= 60 * rate);
    assert_true(bytes <= 60 * rate + rate / 4 + 2 * largest);
}

static void fast_limits_and_long_times_do_not_overflow(void **state)
{
    uint64_t tib = UINT64_C(1) << 40;
    struct hl_rate r;

    (void)state;
    hl_rate_init(&r, tib, 0);
    assert_int_equal(hl_rate_take(&r, tib, 0), 0);
    assert_int_equal(hl_rate_take(&r, 1, 0), 750 * MS);
    assert_int_equal(hl_rate_take(&r, tib / 4, UINT64_C(1) << 60), 0);
    assert_int_equal(r.tokens, 0);
    assert_int_equal(hl_rate_take(&r, UINT64_MAX, UINT64_C(1) << 60), 0);
    assert_true(r.tokens < 0);
    assert_true(hl_rate_take(&r, 1, UINT64_C(1) << 60) > UINT64_C(1) << 60);
    hl_rate_init(&r, 1, 0);
    assert_int_equal(hl_rate_take(&r, UINT64_MAX, 0), 0);
    assert_int_equal(hl_rate_take(&r, 1, 0), INT64_MAX);
}

static void clock_that_stands_or_jumps_back_earns_nothing(void **state)
{
    struct hl_rate r;

    (void)state;
    hl_rate_init(&r, 1000, 10 * S);
    assert_int_equal(hl_rate_take(&r, 1250, 10 * S), 0);
    assert_int_equal(hl_rate_take(&r, 1, 9 * S), 11 * S);
    assert_int_equal(hl_rate_take(&r, 1, 10 * S), 11 * S);
}

static void young_meter_is_exact(void **state)
{
    struct hl_meter m;

    (void)state;
    hl_meter_init(&m, 7 * S);
    assert_int_equal(hl_meter_rate(&m, 7 * S), 0);
    hl_meter_add(&m, 1000, 7 * S);
    assert_int_equal(hl_meter_rate(&m, 7 * S + 500 * MS), 2000);
    hl_meter_add(&m, 500, 8 * S);
    assert_int_equal(hl_meter_rate(&m, 8 * S), 1500);
    assert_int_equal(hl_meter_rate(&m, 9 * S), 750);
}

static void steady_rate_is_shown_as_it_is(void **state)
{
    struct hl_meter m;
    uint64_t now;

    (void)state;
    hl_meter_init(&m, 0);
    for (now = 40 * MS; now <= 30 * S; now += 40 * MS) {
        hl_meter_add(&m, 4000000, now);
        assert_in_range(hl_meter_rate(&m, now), 99999999, 100000001);
    }
}

/* 100 MB/s, then nothing: after one time constant a factor of e. */
static void silence_fades_with_two_seconds(void **state)
{
    struct hl_meter m;
    uint64_t now;

    (void)state;
    hl_meter_init(&m, 0);
    for (now = 100 * MS; now <= 10 * S; now += 100 * MS)
        hl_meter_add(&m, 10000000, now);
    assert_in_range(hl_meter_rate(&m, 12 * S), 36780000, 36800000);
    /* Asking in between changes nothing: exp(-2) of 100 MB/s. */
    assert_in_range(hl_meter_rate(&m, 13 * S), 22300000, 22320000);
    assert_in_range(hl_meter_rate(&m, 14 * S), 13530000, 13540000);
    assert_int_equal(hl_meter_rate(&m, 300 * S), 0);
}

/* 0 at first, then 100 MB/s: 1 - 1/e of it after one time constant. */
static void new_rate_shows_after_two_seconds(void **state)
{
    struct hl_meter m;
    uint64_t now;

    (void)state;
    hl_meter_init(&m, 0);
    assert_int_equal(hl_meter_rate(&m, 10 * S), 0);
    for (now = 10 * S + 100 * MS; now <= 12 * S; now += 100 * MS)
        hl_meter_add(&m, 10000000, now);
    assert_in_range(hl_meter_rate(&m, 12 * S), 63200000, 63220000);
}

static void two_adds_in_one_instant_both_count(void **state)
{
    struct hl_meter m;

    (void)state;
    hl_meter_init(&m, 0);
    assert_int_equal(hl_meter_rate(&m, 10 * S), 0);
    hl_meter_add(&m, 1000000, 10 * S);
    hl_meter_add(&m, 1000000, 10 * S);
    /* 2 MB over 2 s at a weight of 1 - 1/e. */
    assert_in_range(hl_meter_rate(&m, 12 * S), 632100, 632130);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit_lets_everything_pass),
        cmocka_unit_test(debt_is_paid_before_the_next_piece),
        cmocka_unit_test(idle_time_saves_up_a_quarter_of_a_second),
        cmocka_unit_test(asking_often_loses_nothing),
        cmocka_unit_test(average_holds_for_pieces_of_any_size),
        cmocka_unit_test(fast_limits_and_long_times_do_not_overflow),
        cmocka_unit_test(clock_that_stands_or_jumps_back_earns_nothing),
        cmocka_unit_test(young_meter_is_exact),
        cmocka_unit_test(steady_rate_is_shown_as_it_is),
        cmocka_unit_test(silence_fades_with_two_seconds),
        cmocka_unit_test(new_rate_shows_after_two_seconds),
        cmocka_unit_test(two_adds_in_one_instant_both_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
