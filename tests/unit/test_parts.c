/* parts.c against a model that lays one part behind the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "parts.h"
#include "random.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* Length of the part behind one of len bytes, the count-th of that length. */
static uint64_t next_len(const struct hl_parts *p, uint64_t len, uint32_t count)
{
    if (!p->grow || count < p->grow)
        return len;
    return len + p->size < p->size_max ? len + p->size : p->size_max;
}

static void check_part(const struct hl_parts *p, uint64_t part, uint64_t begin,
                       uint64_t len)
{
    assert_int_equal(hl_parts_begin(p, part), begin);
    assert_int_equal(hl_parts_len(p, part), len);
    assert_int_equal(hl_parts_index(p, begin), part);
    assert_int_equal(hl_parts_index(p, begin + len / 2), part);
    assert_int_equal(hl_parts_index(p, begin + len - 1), part);
    assert_true(len <= hl_parts_len_max(p));
}

static void parts_lie_one_behind_the_other(void **state)
{
    struct hl_random random = {.state = 1};

    (void)state;
    for (int i = 0; i < 3000; i++) {
        struct hl_parts p = {.size = 1 + hl_random_below(&random, 9)};
        uint64_t begin = 0, len = p.size;
        uint32_t count = 0;

        if (i % 4) {
            p.grow = (uint32_t)(1 + hl_random_below(&random, 5));
            p.size_max = p.size * (1 + hl_random_below(&random, 12));
        }
        assert_int_equal(hl_parts_len_max(&p), i % 4 ? p.size_max : p.size);
        for (uint64_t part = 0; part < 100; part++) {
            uint64_t after;

            check_part(&p, part, begin, len);
            begin += len;
            after = next_len(&p, len, ++count);
            if (count == p.grow)
                count = 0;
            len = after;
        }
    }
}

/* What S3 gets of a pipe: 64 MiB a thousand times, then 128 MiB and so on. The
 * sums are by hand: 1000 * 64 MiB * (1 + 2 + … + n). */
static void parts_of_a_pipe_grow_to_terabytes(void **state)
{
    const struct hl_parts p = {64 * MIB, 1000, 5 * GIB};

    (void)state;
    check_part(&p, 0, 0, 64 * MIB);
    check_part(&p, 999, 999 * 64 * MIB, 64 * MIB);
    check_part(&p, 1000, 64000 * MIB, 128 * MIB);
    check_part(&p, 2000, 64000 * MIB * 3, 192 * MIB);
    /* The 10,000th part ends at 3.36 TiB. */
    check_part(&p, 9999, 64000 * MIB * 55 - 640 * MIB, 640 * MIB);
    check_part(&p, 79000, 64000 * MIB * (79 * 80 / 2), 5 * GIB);
    check_part(&p, 79999, 64000 * MIB * (79 * 80 / 2) + 999 * 5 * GIB, 5 * GIB);
    check_part(&p, 80000, 64000 * MIB * (80 * 81 / 2), 5 * GIB);
    /* From there on they stay: part 1,000,000. */
    check_part(&p, 1000000, 64000 * MIB * (80 * 81 / 2) + 920000 * 5 * GIB,
               5 * GIB);
}

static void parts_that_cannot_grow_stay(void **state)
{
    const struct hl_parts p = {8 * MIB, 3, 8 * MIB};

    (void)state;
    for (uint64_t part = 0; part < 20; part++)
        check_part(&p, part, part * 8 * MIB, 8 * MIB);
}

/* Offsets as far as there are any, and part numbers from a damaged store. */
static void far_away_nothing_overflows(void **state)
{
    const struct hl_parts flat = {64 * MIB, 0, 0};
    const struct hl_parts grows = {64 * MIB, UINT32_MAX, UINT64_C(1) << 60};
    const struct hl_parts object = {UINT64_MAX, 0, 0};
    uint64_t part;

    (void)state;
    part = hl_parts_index(&flat, UINT64_MAX - 1);
    assert_int_equal(part, UINT64_MAX / (64 * MIB));
    assert_int_equal(hl_parts_begin(&flat, part), UINT64_MAX - 64 * MIB + 1);
    assert_int_equal(hl_parts_begin(&flat, part + 1), UINT64_MAX);
    assert_int_equal(hl_parts_begin(&flat, UINT64_MAX), UINT64_MAX);
    assert_int_equal(hl_parts_index(&object, UINT64_MAX - 1), 0);
    assert_int_equal(hl_parts_begin(&object, 1), UINT64_MAX);

    /* 2^32 - 1 parts of 2^26 bytes are 2^58 - 2^26; the lengths 2^26 * n of as
     * many fill 2^64 within the 11th group. */
    part = hl_parts_index(&grows, UINT64_MAX - 1);
    assert_int_equal(part / UINT32_MAX, 10);
    assert_true(hl_parts_begin(&grows, part) <= UINT64_MAX - 1);
    assert_true(UINT64_MAX - 1 - hl_parts_begin(&grows, part) <
                hl_parts_len(&grows, part));
    assert_int_equal(hl_parts_begin(&grows, UINT64_MAX), UINT64_MAX);
    check_part(&grows, UINT32_MAX, UINT32_MAX * (64 * MIB), 128 * MIB);
    assert_int_equal(hl_parts_len(&grows, UINT64_MAX),
                     (UINT64_MAX / UINT32_MAX + 1) * 64 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_lie_one_behind_the_other),
        cmocka_unit_test(parts_of_a_pipe_grow_to_terabytes),
        cmocka_unit_test(parts_that_cannot_grow_stay),
        cmocka_unit_test(far_away_nothing_overflows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
