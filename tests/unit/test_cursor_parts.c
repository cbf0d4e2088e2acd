/* cursor.c: how far parts are read ahead, and which goes on; by hand, and in a
 * model of parts that are written at different speeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cursor.h"
#include "random.h"

static struct hl_cursors *make(uint64_t size, uint64_t chunk,
                               struct hl_parts parts,
                               const struct hl_ranges *done)
{
    struct hl_cursors_config config = {
        .size = size, .chunk_size = chunk, .parts = parts};
    struct hl_cursors *c = NULL;

    assert_int_equal(hl_cursors_new(&config, done, &c), 0);
    return c;
}

static void expect(struct hl_cursors *c, uint32_t open_max, uint64_t offset)
{
    struct hl_slice s;

    assert_true(hl_cursors_ready(c, open_max));
    assert_true(hl_cursors_next(c, open_max, &s));
    assert_int_equal(s.offset, offset);
}

static void expect_none(struct hl_cursors *c, uint32_t open_max)
{
    struct hl_slice s;

    assert_false(hl_cursors_ready(c, open_max));
    assert_false(hl_cursors_next(c, open_max, &s));
}

/* ---- By hand ------------------------------------------------------------ */

static void a_part_is_not_read_further_than_it_may(void **state)
{
    struct hl_cursors *c = make(400, 10, (struct hl_parts){.size = 100}, NULL);

    (void)state;
    hl_cursors_set_ahead(c, 2);
    expect(c, 2, 0);
    expect(c, 2, 100);
    expect(c, 2, 10);
    expect(c, 2, 110);
    expect_none(c, 2);
    /* Of a chunk that is taken in part the rest counts. */
    hl_cursors_set_taken(c, 1, 105);
    expect(c, 2, 120);
    expect_none(c, 2);
    hl_cursors_set_taken(c, 1, 110);
    expect_none(c, 2);
    hl_cursors_set_taken(c, 1, 130);
    expect(c, 2, 130);
    expect(c, 2, 140);
    expect_none(c, 2);
    assert_int_equal(hl_cursors_taken(c, 0), 0);
    assert_int_equal(hl_cursors_taken(c, 1), 130);
    assert_int_equal(hl_cursors_taken(c, 2), UINT64_MAX); /* not open */
    hl_cursors_set_taken(c, 2, 250);
    assert_int_equal(hl_cursors_taken(c, 2), UINT64_MAX);
    hl_cursors_set_ahead(c, 0); /* any number */
    expect(c, 2, 20);
    expect(c, 2, 150);
    hl_cursors_free(c);
}

/* Of three parts the one with the least on its way goes first, so that memory
 * which becomes free does not go to who has enough. */
static void the_part_that_is_least_ahead_goes_first(void **state)
{
    struct hl_cursors *c = make(300, 10, (struct hl_parts){.size = 100}, NULL);

    (void)state;
    hl_cursors_set_ahead(c, 4);
    for (uint64_t i = 0; i < 6; i++)
        expect(c, 3, i % 3 * 100 + i / 3 * 10);
    hl_cursors_set_taken(c, 1, 120); /* 0, 10 | none | 200, 210 */
    expect(c, 3, 120);
    expect(c, 3, 130);
    expect(c, 3, 220); /* its turn among equals */
    hl_cursors_set_taken(c, 0, 20);
    expect(c, 3, 20);
    expect(c, 3, 30);
    hl_cursors_free(c);
}

/* What was done by an earlier run is not on its way. */
static void a_part_begins_where_it_has_something_to_do(void **state)
{
    struct hl_ranges done;
    struct hl_cursors *c;

    (void)state;
    hl_ranges_init(&done);
    assert_int_equal(hl_ranges_add(&done, 0, 70), 0);
    c = make(200, 10, (struct hl_parts){.size = 100}, &done);
    hl_cursors_set_ahead(c, 2);
    expect(c, 1, 70);
    assert_int_equal(hl_cursors_taken(c, 0), 70);
    expect(c, 1, 80);
    expect_none(c, 1);
    hl_cursors_set_taken(c, 0, 80);
    expect(c, 1, 90);
    hl_cursors_free(c);
    hl_ranges_fini(&done);
}

/* A part of ten chunks breaks when eight were taken: they come again, but not
 * all at once, and not instead of what the other part may have. */
static void what_was_lost_is_read_again_no_faster_than_before(void **state)
{
    struct hl_cursors *c = make(200, 10, (struct hl_parts){.size = 100}, NULL);

    (void)state;
    hl_cursors_set_ahead(c, 2);
    for (uint64_t at = 0; at < 100; at += 10) {
        hl_cursors_set_taken(c, 0, at);
        expect(c, 1, at);
    }
    assert_int_equal(hl_cursors_again(c, 0, 80), 0);
    hl_cursors_set_taken(c, 0, 0);
    assert_true(hl_cursors_near(c, 10));
    assert_false(hl_cursors_near(c, 20));
    assert_int_equal(hl_cursors_again_first(c), 0);
    expect(c, 2, 0);
    expect(c, 2, 10);
    assert_int_equal(hl_cursors_again_first(c), UINT64_MAX);
    assert_false(hl_cursors_exhausted(c));
    expect(c, 2, 100);
    expect(c, 2, 110);
    expect_none(c, 2);
    hl_cursors_set_taken(c, 0, 10);
    expect(c, 2, 20);
    /* Lost in another part too: its own first chunk is near. */
    assert_int_equal(hl_cursors_again(c, 100, 110), 0);
    assert_int_equal(hl_cursors_again_first(c), 100);
    expect(c, 2, 100);
    hl_cursors_free(c);
}

/* Lost ranges of two parts touch, and the first part must wait. Without the
 * memory to cut the second part's chunk out, the first comes all the same. */
static void what_is_near_is_found_behind_what_is_not(void **state)
{
    struct hl_cursors *c = make(400, 10, (struct hl_parts){.size = 200}, NULL);
    struct hl_slice s;

    (void)state;
    for (int memory = 1; memory >= 0; memory--) {
        for (uint64_t i = 0; i < 40 && memory; i++)
            expect(c, 2, i % 2 * 200 + i / 2 * 10);
        for (uint64_t at = 20; at <= 140;
             at += 20) /* seven, for eight is room */
            assert_int_equal(hl_cursors_again(c, at, at + 10), 0);
        assert_int_equal(hl_cursors_again(c, 180, 260), 0);
        hl_cursors_set_ahead(c, 1);
        assert_int_equal(hl_cursors_again_first(c), 200);
        hl_mem_fail_at(memory ? 0 : 1, true);
        assert_true(hl_cursors_next(c, 2, &s));
        hl_mem_fail_at(0, false);
        assert_int_equal(s.offset, memory ? 200 : 20);
        if (memory) {
            hl_cursors_free(c);
            c = make(400, 10, (struct hl_parts){.size = 200}, NULL);
            expect(c, 2, 0);
            expect(c, 2, 200);
        }
    }
    hl_cursors_free(c);
    assert_int_equal(hl_mem_live(), 0);
}

static void growing_parts_are_open_side_by_side(void **state)
{
    struct hl_cursors *c =
        make(HL_SIZE_UNKNOWN, 10, (struct hl_parts){20, 2, 40}, NULL);
    struct hl_slice s;

    (void)state;
    for (uint64_t at = 0; at < 40; at += 10)
        expect(c, 1 + (uint32_t)(at / 20), at); /* two of 20 */
    hl_cursors_set_ahead(c, 3);
    expect(c, 3, 40);
    expect(c, 4, 80);
    hl_cursors_part_done(c, 0);
    hl_cursors_part_done(c, 1);
    expect(c, 2, 50);
    expect(c, 2, 90);
    expect(c, 2, 60);
    hl_cursors_set_size(c, 105);
    expect(c, 2, 100);
    hl_cursors_set_taken(c, 2, 60);
    assert_true(hl_cursors_next(c, 2, &s));
    assert_int_equal(s.offset, 70);
    assert_int_equal(s.part, 2);
    assert_true(s.part_end);
    assert_true(hl_cursors_exhausted(c));
    hl_cursors_free(c);
}

static void bad_growth_is_refused(void **state)
{
    static const struct hl_parts bad[] = {
        {0, 2, 100}, {20, 2, 0}, {20, 2, 10}, {20, 2, 50}, {25, 2, 50}};
    struct hl_cursors_config config = {.size = 1000, .chunk_size = 10};
    struct hl_cursors *c = NULL;

    (void)state;
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        config.parts = bad[i];
        assert_int_equal(hl_cursors_new(&config, NULL, &c), HAUL_E_INVAL);
    }
}

/* ---- Parts that are written in order, and break ------------------------- */

#define PARTS 12u
#define PART 8u /* chunks of one byte */

enum chunk { NEW, OUT, TAKEN, LOST };

struct world {
    struct hl_cursors *c;
    struct hl_random random;
    uint32_t ahead, open_max, breaks;
    enum chunk chunk[PARTS * PART];
    bool open[PARTS], done[PARTS];
};

/* The first chunk of the part that is not taken. */
static uint32_t first_left(const struct world *w, uint32_t part)
{
    uint32_t i = part * PART;

    while (i < (part + 1) * PART && w->chunk[i] == TAKEN)
        i++;
    return i;
}

static void hand_out(struct world *w, const struct hl_slice *s)
{
    uint32_t i = (uint32_t)s->offset, part = i / PART, open = 0;
    bool again = w->chunk[i] == LOST;

    assert_int_equal(s->part, part);
    assert_true(w->chunk[i] == NEW || again);
    assert_true(i < first_left(w, part) + w->ahead);
    for (uint32_t k = part * PART; k < i; k++) /* ascending */
        assert_true(w->chunk[k] == OUT || w->chunk[k] == TAKEN);
    /* Of new ones, no other open part is less ahead and could go on. */
    for (uint32_t p = 0; p < PARTS && !again; p++)
        for (uint32_t k = first_left(w, p); w->open[p] && k < (p + 1) * PART;
             k++)
            if (w->chunk[k] == NEW && k < first_left(w, p) + w->ahead)
                assert_true(k - first_left(w, p) >= i - first_left(w, part));
    w->chunk[i] = OUT;
    w->open[part] = true;
    for (uint32_t p = 0; p < PARTS; p++)
        open += w->open[p];
    assert_true(open <= w->open_max);
}

/* The target takes a chunk of a part, breaks and has none of it, or answers
 * that it has all. false: it can do nothing. */
static bool write_one(struct world *w, uint32_t part)
{
    uint32_t i = first_left(w, part), first = part * PART;

    if (!w->open[part])
        return false;
    if (i > first && hl_random_below(&w->random, 12) == 0) {
        assert_int_equal(hl_cursors_again(w->c, first, i), 0);
        hl_cursors_set_taken(w->c, part, first);
        while (i > first)
            w->chunk[--i] = LOST;
        w->breaks++;
        return true;
    }
    if (i == first + PART) {
        hl_cursors_part_done(w->c, part);
        w->open[part] = false;
        w->done[part] = true;
        return true;
    }
    if (w->chunk[i] != OUT)
        return false;
    w->chunk[i] = TAKEN;
    hl_cursors_set_taken(w->c, part, first_left(w, part));
    return true;
}

static bool is_over(const struct world *w)
{
    for (uint32_t p = 0; p < PARTS; p++)
        if (!w->done[p])
            return false;
    return true;
}

/* Whatever breaks where: a chunk can be handed out or one can be taken. */
static void parts_that_break_all_come_to_an_end(void **state)
{
    uint32_t breaks = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct world w = {.random.state = seed};
        struct hl_slice s;
        int steps = 0;

        w.ahead = (uint32_t)(1 + hl_random_below(&w.random, 5));
        w.open_max = (uint32_t)(1 + hl_random_below(&w.random, 5));
        w.c = make(PARTS * PART, 1, (struct hl_parts){.size = PART}, NULL);
        hl_cursors_set_ahead(w.c, w.ahead);
        while (!is_over(&w)) {
            bool ready = hl_cursors_ready(w.c, w.open_max), wrote = false;
            uint32_t p = (uint32_t)hl_random_below(&w.random, PARTS);

            assert_true(++steps < 20000);
            if (ready && hl_random_below(&w.random, 2)) {
                assert_true(hl_cursors_next(w.c, w.open_max, &s));
                hand_out(&w, &s);
                continue;
            }
            for (uint32_t k = 0; k < PARTS && !wrote; k++)
                wrote = write_one(&w, (p + k) % PARTS);
            assert_true(wrote || ready);
        }
        assert_true(hl_cursors_exhausted(w.c));
        breaks += w.breaks;
        hl_cursors_free(w.c);
    }
    assert_true(breaks > 10000);
    assert_int_equal(hl_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_is_not_read_further_than_it_may),
        cmocka_unit_test(the_part_that_is_least_ahead_goes_first),
        cmocka_unit_test(a_part_begins_where_it_has_something_to_do),
        cmocka_unit_test(what_was_lost_is_read_again_no_faster_than_before),
        cmocka_unit_test(what_is_near_is_found_behind_what_is_not),
        cmocka_unit_test(growing_parts_are_open_side_by_side),
        cmocka_unit_test(bad_growth_is_refused),
        cmocka_unit_test(parts_that_break_all_come_to_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
