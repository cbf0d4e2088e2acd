/* retry.c: what is tried again, how often, how long and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "retry.h"

#define MS HL_NS_PER_MS
#define S HL_NS_PER_S

static const struct hl_retry_policy policy = {
    .retries = 3, .first_tries = 5, .give_up_ns = 3600 * S};

static bool again(const struct hl_retry_policy *p, struct hl_retry *r, int code,
                  uint64_t now_ns)
{
    struct hl_random random = {42};
    uint64_t at_ns = 0;

    return hl_retry_again(p, r, code, now_ns, &random, &at_ns);
}

static void backoff_doubles_up_to_a_minute(void **state)
{
    static const uint64_t want_ms[] = {250,  500,   1000,  2000,  4000,
                                       8000, 16000, 32000, 60000, 60000};
    uint32_t i;

    (void)state;
    for (i = 0; i < HL_LEN(want_ms); i++)
        assert_int_equal(hl_retry_backoff_ns(i + 1), want_ms[i] * MS);
    assert_int_equal(hl_retry_backoff_ns(0), 250 * MS);
    assert_int_equal(hl_retry_backoff_ns(UINT32_MAX), 60 * S);
}

static void delay_is_spread_over_the_upper_half(void **state)
{
    struct hl_random random = {1};
    uint64_t low = UINT64_MAX, high = 0;
    int i;

    (void)state;
    for (i = 0; i < 2000; i++) {
        struct hl_retry r = {.tries = 2, .since_ns = 7 * S};
        uint64_t at_ns = 0;

        assert_true(hl_retry_again(&policy, &r, HAUL_E_REMOTE_IO, 10 * S,
                                   &random, &at_ns));
        low = hl_min(low, at_ns);
        high = hl_max(high, at_ns);
    }
    /* Third try: one second, so 0.5 to 1 s from now. */
    assert_in_range(low, 10 * S + 500 * MS, 10 * S + 510 * MS);
    assert_in_range(high, 10 * S + 990 * MS, 11 * S);
}

static void never_class_fails_at_once(void **state)
{
    static const int codes[] = {HAUL_E_AUTH, HAUL_E_HOSTKEY, HAUL_E_WRITE,
                                HAUL_E_CANCELED, -12345};
    size_t i;

    (void)state;
    for (i = 0; i < HL_LEN(codes); i++) {
        struct hl_retry r = {.answered = true};

        assert_false(again(&policy, &r, codes[i], S));
    }
}

static void piece_is_tried_again_as_often_as_asked(void **state)
{
    struct hl_retry r = {0};
    uint64_t day = 86400 * S;
    int i;

    (void)state;
    for (i = 1; i <= 3; i++) /* however long it takes */
        assert_true(again(&policy, &r, HAUL_E_PROTO, (uint64_t)i * day));
    assert_false(again(&policy, &r, HAUL_E_PROTO, 4 * day));
    assert_int_equal(r.tries, 4);
}

static void progress_starts_the_count_anew(void **state)
{
    struct hl_retry r = {0};
    int i;

    (void)state;
    for (i = 0; i < 3; i++)
        assert_true(again(&policy, &r, HAUL_E_PROTO, S));
    hl_retry_progress(&r);
    assert_int_equal(r.tries, 0);
    assert_int_equal(r.since_ns, 0);
    for (i = 0; i < 3; i++)
        assert_true(again(&policy, &r, HAUL_E_PROTO, S));
    assert_false(again(&policy, &r, HAUL_E_PROTO, S));
}

static void no_retries_means_none_for_outages_too(void **state)
{
    struct hl_retry_policy none = policy;
    struct hl_retry r = {.answered = true};

    (void)state;
    none.retries = 0;
    assert_false(again(&none, &r, HAUL_E_RESET, S));
    assert_false(again(&none, &r, HAUL_E_REMOTE_IO, S));
}

static void end_that_never_answered_fails_after_the_first_tries(void **state)
{
    struct hl_retry r = {0};
    int i;

    (void)state;
    for (i = 0; i < 4; i++)
        assert_true(again(&policy, &r, HAUL_E_CONNECT, S));
    assert_false(again(&policy, &r, HAUL_E_CONNECT, S));
    assert_int_equal(r.tries, 5);
}

static void outage_lasts_until_give_up_and_not_longer(void **state)
{
    struct hl_retry r = {0};
    uint64_t start = 100 * S;
    int i;

    (void)state;
    hl_retry_progress(&r);
    assert_true(r.answered);
    for (i = 0; i < 60; i++)
        assert_true(
            again(&policy, &r, HAUL_E_RESET, start + (uint64_t)i * 60 * S));
    assert_true(again(&policy, &r, HAUL_E_STALLED, start + 3600 * S - 1));
    assert_false(again(&policy, &r, HAUL_E_STALLED, start + 3600 * S));
}

/* A part that is confirmed as a whole: outages are counted like the rest. */
static void a_counted_part_is_tried_as_often_as_asked(void **state)
{
    static const int codes[] = {HAUL_E_RESET, HAUL_E_PROTO, HAUL_E_CONNECT};
    struct hl_random random = {42};
    uint64_t day = 86400 * S, at_ns = 0;
    struct hl_retry r = {0};

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        uint64_t now = (i + 1) * day;

        assert_true(
            hl_retry_counted(&policy, &r, codes[i], now, &random, &at_ns));
        assert_true(at_ns >= now + hl_retry_backoff_ns((uint32_t)i + 1) / 2);
        assert_true(at_ns <= now + hl_retry_backoff_ns((uint32_t)i + 1));
    }
    assert_false(
        hl_retry_counted(&policy, &r, HAUL_E_RESET, 4 * day, &random, &at_ns));
    r.tries = 0;
    assert_false(
        hl_retry_counted(&policy, &r, HAUL_E_REMOTE, 4 * day, &random, &at_ns));
}

static void the_remote_may_ask_for_more_time(void **state)
{
    struct hl_error err = {.retry_after_ns = 7 * S};

    (void)state;
    assert_int_equal(hl_retry_at(12 * S, 10 * S, &err), 17 * S);
    assert_int_equal(hl_retry_at(18 * S, 10 * S, &err), 18 * S);
    err.retry_after_ns = 0;
    assert_int_equal(hl_retry_at(12 * S, 10 * S, &err), 12 * S);
    err.retry_after_ns = UINT64_MAX;
    assert_int_equal(hl_retry_at(12 * S, 10 * S, &err), UINT64_MAX);
}

static void progress_ends_an_outage(void **state)
{
    struct hl_retry r = {.answered = true};

    (void)state;
    assert_true(again(&policy, &r, HAUL_E_RESET, S));
    hl_retry_progress(&r);
    assert_true(again(&policy, &r, HAUL_E_RESET, 10000 * S));
    assert_int_equal(r.since_ns, 10000 * S);
    assert_int_equal(r.tries, 1);
}

static void count_of_tries_does_not_wrap(void **state)
{
    struct hl_retry r = {.tries = UINT32_MAX, .answered = true};

    (void)state;
    assert_true(again(&policy, &r, HAUL_E_RESET, S));
    assert_int_equal(r.tries, UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backoff_doubles_up_to_a_minute),
        cmocka_unit_test(delay_is_spread_over_the_upper_half),
        cmocka_unit_test(never_class_fails_at_once),
        cmocka_unit_test(piece_is_tried_again_as_often_as_asked),
        cmocka_unit_test(progress_starts_the_count_anew),
        cmocka_unit_test(no_retries_means_none_for_outages_too),
        cmocka_unit_test(end_that_never_answered_fails_after_the_first_tries),
        cmocka_unit_test(outage_lasts_until_give_up_and_not_longer),
        cmocka_unit_test(a_counted_part_is_tried_as_often_as_asked),
        cmocka_unit_test(the_remote_may_ask_for_more_time),
        cmocka_unit_test(progress_ends_an_outage),
        cmocka_unit_test(count_of_tries_does_not_wrap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
