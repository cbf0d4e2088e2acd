/* ranges.c against a bitmap, and its edges by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "ranges.h"

#define BITS 96

/* The model: byte base + i is in the set when bit[i] is. */
struct model {
    struct hl_ranges set;
    uint64_t base;
    bool bit[BITS];
};

static void check_shape(const struct model *m)
{
    uint64_t bytes = 0;
    size_t i, n = 0;

    assert_true(m->set.count <= m->set.capacity);
    for (i = 0; i < m->set.count; i++) {
        assert_true(m->set.r[i].begin < m->set.r[i].end);
        if (i)
            assert_true(m->set.r[i - 1].end < m->set.r[i].begin);
        bytes += m->set.r[i].end - m->set.r[i].begin;
    }
    for (i = 0; i < BITS; i++)
        n += m->bit[i];
    assert_int_equal(bytes, n);
    assert_int_equal(m->set.bytes, n);
}

static void check_span(const struct model *m, size_t from, size_t to)
{
    uint64_t begin = m->base + from;
    uint64_t end = m->base + to;
    size_t i, n = 0;

    for (i = from; i < to; i++)
        n += m->bit[i];
    assert_int_equal(hl_ranges_overlap(&m->set, begin, end), n);
    assert_int_equal(hl_ranges_contains(&m->set, begin, end),
                     n == (to > from ? to - from : 0));
}

/* First run of bits that are "value", at or after from and before to. */
static bool find_run(const struct model *m, bool value, size_t from, size_t to,
                     struct hl_range *out)
{
    size_t i = from, j;

    while (i < to && m->bit[i] != value)
        i++;
    for (j = i; j < to && m->bit[j] == value;)
        j++;
    *out = (struct hl_range){m->base + i, m->base + j};
    return i < to;
}

static void check_search(const struct model *m, size_t from, size_t size)
{
    struct hl_range want = {0, 0}, got = {0, 0};
    bool found;

    found = find_run(m, true, from, BITS, &want);
    assert_int_equal(hl_ranges_next(&m->set, m->base + from, &got), found);
    if (found)
        assert_memory_equal(&got, &want, sizeof(got));
    found = find_run(m, false, from, size, &want);
    assert_int_equal(
        hl_ranges_next_hole(&m->set, m->base + from, m->base + size, &got),
        found);
    if (found)
        assert_memory_equal(&got, &want, sizeof(got));
}

static void run_model(uint64_t base, uint64_t seed)
{
    struct model m = {.base = base};
    struct hl_random random = {seed};
    int step;

    hl_ranges_init(&m.set);
    for (step = 0; step < 20000; step++) {
        size_t from = hl_random_below(&random, BITS);
        size_t to = hl_random_below(&random, BITS);
        bool add = hl_random_below(&random, 2);
        size_t i;

        if (hl_random_below(&random, 4))
            to = hl_min(from + hl_random_below(&random, 6), BITS - 1);
        if (add)
            assert_int_equal(hl_ranges_add(&m.set, base + from, base + to), 0);
        else
            assert_int_equal(hl_ranges_remove(&m.set, base + from, base + to),
                             0);
        for (i = from; i < to; i++)
            m.bit[i] = add;
        check_shape(&m);
        from = hl_random_below(&random, BITS);
        to = hl_random_below(&random, BITS);
        check_span(&m, from, to);
        check_search(&m, from, to);
        for (i = 0; i < BITS && m.bit[i];)
            i++;
        if (base == 0)
            assert_int_equal(hl_ranges_contiguous(&m.set), i);
    }
    hl_ranges_fini(&m.set);
}

static void random_changes_agree_with_a_bitmap(void **state)
{
    (void)state;
    run_model(0, 1);
    run_model(UINT64_C(400) << 30, 2);
}

/* The last byte that a range can hold is UINT64_MAX - 1. */
static void random_changes_at_the_end_of_the_numbers(void **state)
{
    (void)state;
    run_model(UINT64_MAX - (BITS - 1), 3);
}

static void touching_ranges_become_one(void **state)
{
    struct hl_ranges s;

    (void)state;
    hl_ranges_init(&s);
    assert_int_equal(hl_ranges_add(&s, 0, 10), 0);
    assert_int_equal(hl_ranges_add(&s, 20, 30), 0);
    assert_int_equal(s.count, 2);
    assert_int_equal(hl_ranges_contiguous(&s), 10);
    assert_int_equal(hl_ranges_add(&s, 10, 20), 0);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.bytes, 30);
    assert_int_equal(hl_ranges_contiguous(&s), 30);
    hl_ranges_fini(&s);
}

static void contiguous_mark_needs_byte_zero(void **state)
{
    struct hl_ranges s;

    (void)state;
    hl_ranges_init(&s);
    assert_int_equal(hl_ranges_contiguous(&s), 0);
    assert_int_equal(hl_ranges_add(&s, 1, 10), 0);
    assert_int_equal(hl_ranges_contiguous(&s), 0);
    hl_ranges_fini(&s);
}

static void empty_ranges_change_nothing(void **state)
{
    struct hl_ranges s;

    (void)state;
    hl_ranges_init(&s);
    assert_int_equal(hl_ranges_add(&s, 5, 9), 0);
    assert_int_equal(hl_ranges_add(&s, 20, 20), 0);
    assert_int_equal(hl_ranges_add(&s, 21, 20), 0);
    assert_int_equal(hl_ranges_remove(&s, 7, 7), 0);
    assert_int_equal(hl_ranges_remove(&s, 8, 6), 0);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.bytes, 4);
    assert_true(hl_ranges_contains(&s, 100, 100));
    assert_int_equal(hl_ranges_overlap(&s, 8, 6), 0);
    hl_ranges_fini(&s);
}

static void cleared_set_is_empty_and_usable(void **state)
{
    struct hl_ranges s;
    struct hl_range r;

    (void)state;
    hl_ranges_init(&s);
    assert_int_equal(hl_ranges_add(&s, 5, 9), 0);
    hl_ranges_clear(&s);
    assert_int_equal(s.bytes, 0);
    assert_false(hl_ranges_next(&s, 0, &r));
    assert_int_equal(hl_ranges_add(&s, 1, 2), 0);
    assert_true(hl_ranges_contains(&s, 1, 2));
    hl_ranges_fini(&s);
}

static void out_of_memory_leaves_the_set_unchanged(void **state)
{
    struct hl_ranges s, before;
    struct hl_range copy[64];

    (void)state;
    hl_ranges_init(&s);
    do
        assert_int_equal(hl_ranges_add(&s, s.count * 10, s.count * 10 + 5), 0);
    while (s.count < s.capacity);
    assert_true(s.count <= HL_LEN(copy));
    before = s;
    memcpy(copy, s.r, s.count * sizeof(copy[0]));

    hl_mem_fail_at(1, false);
    assert_int_equal(hl_ranges_add(&s, 7, 8), HAUL_E_NOMEM);
    hl_mem_fail_at(1, false);
    assert_int_equal(hl_ranges_remove(&s, 2, 3), HAUL_E_NOMEM);
    hl_mem_fail_at(0, false);
    assert_memory_equal(&s, &before, sizeof(s));
    assert_memory_equal(s.r, copy, s.count * sizeof(copy[0]));

    assert_int_equal(hl_ranges_remove(&s, 2, 3), 0);
    assert_int_equal(s.bytes, before.bytes - 1);
    hl_ranges_fini(&s);
    assert_int_equal(hl_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_agree_with_a_bitmap),
        cmocka_unit_test(random_changes_at_the_end_of_the_numbers),
        cmocka_unit_test(touching_ranges_become_one),
        cmocka_unit_test(contiguous_mark_needs_byte_zero),
        cmocka_unit_test(empty_ranges_change_nothing),
        cmocka_unit_test(cleared_set_is_empty_and_usable),
        cmocka_unit_test(out_of_memory_leaves_the_set_unchanged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
