/* cursor.c against a model that marks every chunk, and its edges by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cursor.h"
#include "random.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static struct hl_cursors *make(uint64_t size, uint64_t chunk, uint64_t part,
                               const struct hl_ranges *done)
{
    struct hl_cursors_config config = {
        .size = size, .chunk_size = chunk, .parts.size = part};
    struct hl_cursors *c = NULL;

    assert_int_equal(hl_cursors_new(&config, done, &c), 0);
    return c;
}

static void expect(struct hl_cursors *c, uint32_t open_max, uint64_t offset,
                   uint32_t len, uint64_t part, bool part_end)
{
    struct hl_slice s;

    assert_true(hl_cursors_next(c, open_max, &s));
    assert_int_equal(s.offset, offset);
    assert_int_equal(s.len, len);
    assert_int_equal(s.part, part);
    assert_int_equal(s.part_end, part_end);
}

static void expect_none(struct hl_cursors *c, uint32_t open_max)
{
    struct hl_slice s;

    assert_false(hl_cursors_next(c, open_max, &s));
}

/* ---- The model ---------------------------------------------------------- */

#define CHUNKS 48

struct model {
    struct hl_cursors *c;
    struct hl_random random;
    uint64_t size, chunk, part; /* part in chunks, 0: none */
    uint32_t grow;
    uint64_t part_max;
    uint32_t open_max;
    size_t count;
    size_t part_at[CHUNKS + 1]; /* by chunk */
    bool owed[CHUNKS];          /* is to be handed out */
    bool open[CHUNKS];          /* by part */
};

static uint64_t pick(struct model *m, uint64_t below)
{
    return hl_random_below(&m->random, below);
}

static size_t part_of(const struct model *m, size_t chunk)
{
    return m->part_at[chunk];
}

static size_t count_true(const bool *b, size_t n)
{
    size_t i, sum = 0;

    for (i = 0; i < n; i++)
        sum += b[i];
    return sum;
}

static bool part_owes(const struct model *m, size_t part)
{
    size_t i;

    for (i = 0; i < m->count; i++)
        if (part_of(m, i) == part && m->owed[i])
            return true;
    return false;
}

/* One part behind the other, in chunks. */
static void model_parts(struct model *m)
{
    uint64_t len = m->part ? m->part : 1, left = len;
    size_t part = 0;

    for (size_t i = 0; i <= CHUNKS; i++) {
        if (left == 0) {
            part++;
            if (m->grow && part % m->grow == 0)
                len = hl_min(len + m->part, m->part_max);
            left = len;
        }
        m->part_at[i] = part;
        left--;
    }
}

static void model_init(struct model *m, uint64_t seed)
{
    struct hl_cursors_config config;
    struct hl_ranges done;
    int i;

    memset(m, 0, sizeof(*m));
    m->random.state = seed;
    m->chunk = 1 + pick(m, 7);
    m->size = pick(m, m->chunk * CHUNKS);
    m->part = pick(m, 3) ? 1 + pick(m, 5) : 0;
    m->grow = m->part ? (uint32_t)pick(m, 4) : 0;
    m->part_max = m->part * (1 + pick(m, 4));
    model_parts(m);
    m->open_max = (uint32_t)(1 + pick(m, 12));
    m->count = (m->size + m->chunk - 1) / m->chunk;
    hl_ranges_init(&done);
    for (i = (int)pick(m, 5); i > 0; i--) {
        uint64_t begin = pick(m, m->size + 1);

        assert_int_equal(
            hl_ranges_add(&done, begin, begin + pick(m, m->size + 9)), 0);
        if (m->size)
            assert_int_equal(
                hl_ranges_remove(&done, pick(m, m->size), pick(m, m->size)), 0);
    }
    for (i = 0; i < (int)m->count; i++)
        m->owed[i] =
            !hl_ranges_contains(&done, (uint64_t)i * m->chunk,
                                hl_min((uint64_t)(i + 1) * m->chunk, m->size));
    config = (struct hl_cursors_config){
        .size = m->size,
        .chunk_size = m->chunk,
        .parts = {m->part * m->chunk, m->grow, m->part_max * m->chunk}};
    assert_int_equal(hl_cursors_new(&config, &done, &m->c), 0);
    hl_ranges_fini(&done);
}

static void check_slice(const struct model *m, const struct hl_slice *s)
{
    uint64_t end = hl_min(s->offset + m->chunk, m->size);
    size_t part = part_of(m, s->offset / m->chunk);

    assert_int_equal(s->offset % m->chunk, 0);
    assert_true(s->offset < m->size);
    assert_int_equal(s->len, end - s->offset);
    assert_int_equal(s->part, part);
    assert_int_equal(s->part_end,
                     end == m->size ||
                         part_of(m, s->offset / m->chunk + 1) != part);
}

static void model_next(struct model *m)
{
    size_t i, chunk, part;
    struct hl_slice s;

    if (!hl_cursors_next(m->c, m->open_max, &s)) {
        /* Nothing owed that may go now. */
        assert_true(m->part != 0 || !count_true(m->owed, m->count));
        for (i = 0; i < m->count; i++)
            if (m->owed[i])
                assert_true(!m->open[part_of(m, i)] &&
                            count_true(m->open, m->count) >= m->open_max);
        return;
    }
    check_slice(m, &s);
    chunk = s.offset / m->chunk;
    part = part_of(m, chunk);
    assert_true(m->owed[chunk]);
    /* Ascending within a part. */
    for (i = 0; i < chunk; i++)
        assert_false(m->owed[i] && (m->part == 0 || part_of(m, i) == part));
    if (m->part && !m->open[part]) {
        m->open[part] = true;
        assert_true(count_true(m->open, m->count) <= m->open_max);
    }
    m->owed[chunk] = false;
}

static void model_finish_parts(struct model *m)
{
    size_t part;

    for (part = 0; part < m->count; part++)
        if (pick(m, 2) && m->open[part] && !part_owes(m, part)) {
            hl_cursors_part_done(m->c, part);
            m->open[part] = false;
        }
}

static void every_chunk_that_is_not_done_comes_once(void **state)
{
    uint64_t seed;

    (void)state;
    for (seed = 0; seed < 3000; seed++) {
        struct model m;
        int steps = 0;

        model_init(&m, seed);
        while (count_true(m.owed, m.count)) {
            assert_true(steps++ < 5000);
            assert_false(hl_cursors_exhausted(m.c));
            model_next(&m);
            if (pick(&m, 3) == 0)
                model_finish_parts(&m);
        }
        assert_true(hl_cursors_exhausted(m.c));
        expect_none(m.c, UINT32_MAX);
        hl_cursors_free(m.c);
    }
    assert_int_equal(hl_mem_live(), 0);
}

/* ---- By hand ------------------------------------------------------------ */

static void parts_take_turns_and_wait_for_a_free_place(void **state)
{
    struct hl_cursors *c = make(22, 4, 8, NULL);

    (void)state;
    expect_none(c, 0);
    expect(c, 2, 0, 4, 0, false);
    expect(c, 2, 8, 4, 1, false);
    expect(c, 2, 4, 4, 0, true);
    expect(c, 2, 12, 4, 1, true);
    expect_none(c, 2);
    assert_false(hl_cursors_exhausted(c));
    hl_cursors_part_done(c, 2); /* never open: no effect */
    expect_none(c, 2);
    hl_cursors_part_done(c, 0);
    expect(c, 2, 16, 4, 2, false);
    expect(c, 2, 20, 2, 2, true);
    assert_true(hl_cursors_exhausted(c));
    hl_cursors_free(c);
}

/* The second of four parts was last, so that the third is next, though the
 * first closes in between. */
static void part_that_closes_takes_no_turn_from_others(void **state)
{
    struct hl_ranges done;
    struct hl_cursors *c;

    (void)state;
    hl_ranges_init(&done);
    assert_int_equal(hl_ranges_add(&done, 4, 12), 0);
    c = make(48, 4, 12, &done);
    expect(c, 4, 0, 4, 0, false);
    expect(c, 4, 12, 4, 1, false);
    expect(c, 4, 24, 4, 2, false);
    expect(c, 4, 36, 4, 3, false);
    expect(c, 4, 16, 4, 1, false);
    hl_cursors_part_done(c, 0);
    expect(c, 4, 28, 4, 2, false);
    expect(c, 4, 40, 4, 3, false);
    expect(c, 4, 20, 4, 1, true);
    hl_cursors_free(c);
    hl_ranges_fini(&done);
}

static void resume_with_a_part_of_a_chunk_sends_the_whole_chunk(void **state)
{
    struct hl_ranges done;
    struct hl_cursors *c;

    (void)state;
    hl_ranges_init(&done);
    assert_int_equal(hl_ranges_add(&done, 1, 9), 0);
    assert_int_equal(hl_ranges_add(&done, 13, 99), 0);
    c = make(18, 4, 0, &done);
    expect(c, 1, 0, 4, 0, true);
    expect(c, 1, 8, 4, 2, true);
    expect(c, 1, 12, 4, 3, true);
    expect_none(c, 1); /* 16 to 18 is done up to the end */
    assert_true(hl_cursors_exhausted(c));
    hl_cursors_free(c);
    hl_ranges_fini(&done);
}

static void nothing_to_do_is_exhausted_at_once(void **state)
{
    struct hl_cursors *c = make(0, 4, 0, NULL);
    struct hl_ranges done;

    (void)state;
    assert_true(hl_cursors_exhausted(c));
    expect_none(c, 1);
    hl_cursors_free(c);

    hl_ranges_init(&done);
    assert_int_equal(hl_ranges_add(&done, 0, 10), 0);
    c = make(10, 4, 8, &done);
    assert_true(hl_cursors_exhausted(c));
    expect_none(c, 1);
    hl_cursors_free(c);
    hl_ranges_fini(&done);
    hl_cursors_free(NULL);
}

static void unknown_size_goes_on_until_the_source_ends(void **state)
{
    struct hl_cursors *c = make(HL_SIZE_UNKNOWN, 4, 0, NULL);

    (void)state;
    expect(c, 1, 0, 4, 0, true);
    expect(c, 1, 4, 4, 1, true);
    expect(c, 1, 8, 4, 2, true);
    expect(c, 1, 12, 4, 3, true);
    assert_false(hl_cursors_exhausted(c));
    hl_cursors_part_done(c, 0); /* no notion of open parts: no effect */
    hl_cursors_set_size(c, 18);
    hl_cursors_set_size(c, 20); /* the first end holds */
    expect(c, 1, 16, 2, 4, true);
    expect_none(c, 1);
    assert_true(hl_cursors_exhausted(c));
    hl_cursors_free(c);
}

static void unknown_size_in_one_part(void **state)
{
    struct hl_cursors *c = make(HL_SIZE_UNKNOWN, 4, HL_SIZE_UNKNOWN, NULL);

    (void)state;
    expect(c, 3, 0, 4, 0, false);
    expect(c, 3, 4, 4, 0, false);
    hl_cursors_set_size(c, 11);
    expect(c, 3, 8, 3, 0, true);
    assert_true(hl_cursors_exhausted(c));
    hl_cursors_free(c);
}

static void parts_behind_the_end_of_the_source_close(void **state)
{
    struct hl_cursors *c = make(HL_SIZE_UNKNOWN, 4, 8, NULL);

    (void)state;
    expect(c, 3, 0, 4, 0, false);
    expect(c, 3, 8, 4, 1, false);
    expect(c, 3, 16, 4, 2, false);
    hl_cursors_set_size(c, 6);
    expect(c, 1, 4, 2, 0, true);
    assert_true(hl_cursors_exhausted(c));
    hl_cursors_free(c);
}

/* ---- Again -------------------------------------------------------------- */

static void what_is_wanted_again_comes_first_and_in_order(void **state)
{
    struct hl_cursors *c = make(22, 4, 0, NULL);

    (void)state;
    assert_int_equal(hl_cursors_again_first(c), UINT64_MAX);
    for (uint64_t at = 0; at < 16; at += 4)
        expect(c, 1, at, 4, at / 4, true);
    assert_int_equal(hl_cursors_again(c, 9, 10), 0);
    assert_int_equal(hl_cursors_again(c, 0, 4), 0);
    assert_int_equal(hl_cursors_again(c, 3, 3), 0); /* nothing */
    assert_int_equal(hl_cursors_again_first(c), 0);
    expect(c, 1, 0, 4, 0, true);
    assert_int_equal(hl_cursors_again_first(c), 8);
    expect(c, 0, 8, 4, 2, true);
    expect(c, 1, 16, 4, 4, true);
    expect(c, 1, 20, 2, 5, true);
    assert_true(hl_cursors_exhausted(c));
    assert_int_equal(hl_cursors_again(c, 21, UINT64_MAX), 0);
    assert_false(hl_cursors_exhausted(c));
    assert_true(hl_cursors_ready(c, 1));
    expect(c, 1, 20, 2, 5, true);
    assert_true(hl_cursors_exhausted(c));
    assert_false(hl_cursors_ready(c, 1));
    hl_cursors_free(c);
}

static void nothing_behind_the_end_is_wanted_again(void **state)
{
    struct hl_cursors *c = make(HL_SIZE_UNKNOWN, 4, 0, NULL);

    (void)state;
    for (uint64_t at = 0; at < 24; at += 4)
        expect(c, 1, at, 4, at / 4, true);
    assert_int_equal(hl_cursors_again(c, 8, 24), 0);
    hl_cursors_set_size(c, 14);
    expect(c, 1, 8, 4, 2, true);
    expect(c, 1, 12, 2, 3, true);
    assert_true(hl_cursors_exhausted(c));
    hl_cursors_free(c);
}

/* ---- Runs --------------------------------------------------------------- */

#define RUNS 6u

struct runs {
    struct hl_cursors *c;
    struct hl_random random;
    uint64_t size, chunk, run_max, left;
    uint32_t open_max;
    bool owed[CHUNKS];
    size_t count;
    struct {
        uint64_t next, end;
        uint32_t out;
    } run[RUNS + 1];
    size_t runs;
};

static void runs_init(struct runs *m, uint64_t seed)
{
    struct hl_cursors_config config;
    struct hl_ranges done;

    memset(m, 0, sizeof(*m));
    m->random.state = seed;
    m->chunk = 1 + hl_random_below(&m->random, 7);
    m->size = hl_random_below(&m->random, m->chunk * CHUNKS);
    m->run_max = m->chunk * (1 + hl_random_below(&m->random, 9));
    m->open_max = (uint32_t)(1 + hl_random_below(&m->random, RUNS));
    m->count = (m->size + m->chunk - 1) / m->chunk;
    hl_ranges_init(&done);
    for (uint64_t i = hl_random_below(&m->random, 3); i > 0; i--) {
        uint64_t begin = hl_random_below(&m->random, m->size + 1);

        assert_int_equal(
            hl_ranges_add(&done, begin,
                          begin + hl_random_below(&m->random, m->size + 9)),
            0);
    }
    for (size_t i = 0; i < m->count; i++) {
        uint64_t end = hl_min((i + 1) * m->chunk, m->size);

        m->owed[i] = !hl_ranges_contains(&done, i * m->chunk, end);
        m->left += m->owed[i] ? end - i * m->chunk : 0;
    }
    config = (struct hl_cursors_config){m->size, m->chunk, m->run_max};
    assert_int_equal(hl_cursors_new(&config, &done, &m->c), 0);
    hl_ranges_fini(&done);
}

/* A slice goes on where its run is, or begins one; the run with the fewest
 * chunks out goes first. */
static void runs_take(struct runs *m, const struct hl_slice *s)
{
    uint64_t most = hl_max(m->left / (2 * m->open_max), 2 * m->chunk);
    uint32_t fewest = HL_RUN_AHEAD;
    size_t i;

    for (i = 0; i < m->runs && m->run[i].end != s->run_end; i++)
        ;
    if (i == m->runs) {
        assert_true(m->runs < m->open_max);
        m->runs++;
        m->run[i].next = s->offset;
        m->run[i].end = s->run_end;
        m->run[i].out = 0;
        assert_true(s->run_end - s->offset <= hl_min(most, m->run_max));
        m->left -= s->run_end - s->offset;
    }
    assert_int_equal(s->offset, m->run[i].next);
    for (size_t k = 0; k < m->runs; k++)
        if (m->run[k].next < m->run[k].end && m->run[k].out < fewest)
            fewest = m->run[k].out;
    assert_int_equal(m->run[i].out, fewest);
    assert_true(m->run[i].out < HL_RUN_AHEAD);
    m->run[i].next += s->len;
    m->run[i].out++;
    assert_true(m->owed[s->offset / m->chunk]);
    m->owed[s->offset / m->chunk] = false;
}

static bool runs_read_one(struct runs *m)
{
    size_t i = m->runs ? hl_random_below(&m->random, m->runs) : 0;

    if (!m->runs || !m->run[i].out)
        return false;
    hl_cursors_run_read(m->c, m->run[i].end);
    if (--m->run[i].out == 0 && m->run[i].next == m->run[i].end)
        m->run[i] = m->run[--m->runs];
    return true;
}

static void runs_bring_every_chunk_once_and_go_on_fairly(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        struct hl_slice s;
        struct runs m;
        int steps = 0;

        runs_init(&m, seed);
        while (count_true(m.owed, m.count)) {
            bool ready = hl_cursors_ready(m.c, m.open_max);

            assert_true(++steps < 5000);
            assert_false(hl_cursors_exhausted(m.c));
            assert_int_equal(hl_cursors_next(m.c, m.open_max, &s), ready);
            if (ready)
                runs_take(&m, &s);
            while (!ready && !runs_read_one(&m))
                ;
            if (hl_random_below(&m.random, 2))
                runs_read_one(&m);
        }
        assert_true(hl_cursors_exhausted(m.c));
        hl_cursors_free(m.c);
    }
    assert_int_equal(hl_mem_live(), 0);
}

static struct hl_cursors *make_runs(uint64_t size, uint64_t chunk, uint64_t run)
{
    struct hl_cursors_config config = {size, chunk, run};
    struct hl_cursors *c = NULL;

    assert_int_equal(hl_cursors_new(&config, NULL, &c), 0);
    return c;
}

/* Where the next run begins, with every chunk of it read at once. */
static uint64_t whole_run(struct hl_cursors *c, uint32_t open_max,
                          uint64_t *begin)
{
    struct hl_slice s;

    assert_true(hl_cursors_next(c, open_max, &s));
    *begin = s.offset;
    for (;;) {
        hl_cursors_run_read(c, s.run_end);
        if (s.offset + s.len == s.run_end)
            return s.run_end - *begin;
        assert_true(hl_cursors_next(c, 0, &s)); /* no other run */
    }
}

/* 400 chunks over four runs: half of what is left by four each time. */
static void runs_become_shorter_towards_the_end(void **state)
{
    static const uint64_t want[] = {50, 43, 38, 33, 29, 25, 22, 20, 17, 15};
    struct hl_cursors *c = make_runs(400, 1, 1000);
    uint64_t begin, last = 50, sum = 0;

    (void)state;
    for (size_t i = 0; !hl_cursors_exhausted(c); i++) {
        uint64_t len = whole_run(c, 4, &begin);

        assert_int_equal(begin, sum);
        if (i < HL_LEN(want))
            assert_int_equal(len, want[i]);
        assert_true(len <= last);
        assert_true(len >= 2 || sum + len == 400);
        last = len;
        sum += len;
    }
    assert_int_equal(sum, 400);
    hl_cursors_free(c);
    c = make_runs(400, 1, 10); /* never longer than asked for */
    assert_int_equal(whole_run(c, 4, &begin), 10);
    hl_cursors_free(c);
}

/* Two long runs: while memory is short each has its turn, else no run is more
 * than HL_RUN_AHEAD ahead. Short runs: the first goes on. */
static void runs_take_turns(void **state)
{
    struct hl_cursors *c = make_runs(64, 1, 16);
    struct hl_slice s;
    uint64_t i;

    (void)state;
    for (i = 0; i < 2 * HL_RUN_AHEAD; i++) {
        assert_true(hl_cursors_next(c, 2, &s));
        assert_int_equal(s.offset, i % 2 * 16 + i / 2);
        assert_int_equal(s.run_end, i % 2 ? 28 : 16);
    }
    assert_false(hl_cursors_ready(c, 2));
    expect_none(c, 2);
    hl_cursors_run_read(c, 28);
    assert_true(hl_cursors_next(c, 2, &s));
    assert_int_equal(s.offset, 16 + HL_RUN_AHEAD);
    hl_cursors_run_read(c, 12345); /* no such run: no effect */
    for (i = 0; i < HL_RUN_AHEAD; i++) {
        hl_cursors_run_read(c, 16);
        hl_cursors_run_read(c, 28);
    }
    for (i = 0; i < 6; i++) { /* all read: one after the other */
        assert_true(hl_cursors_next(c, 2, &s));
        hl_cursors_run_read(c, s.run_end);
        assert_int_equal(s.run_end, i % 2 ? 28 : 16);
    }
    hl_cursors_free(c);

    c = make_runs(64, 1, 2);
    for (i = 0; i < 3; i++) {
        assert_true(hl_cursors_next(c, 3, &s));
        assert_int_equal(s.offset, 2 * i);
    }
    hl_cursors_run_read(c, 4);
    hl_cursors_run_read(c, 2);
    assert_true(hl_cursors_next(c, 3, &s));
    assert_int_equal(s.offset, 1);
    hl_cursors_free(c);
}

static void bad_layouts_are_refused(void **state)
{
    struct hl_cursors_config config = {.size = 100};
    struct hl_cursors *c = NULL;

    (void)state;
    assert_int_equal(hl_cursors_new(&config, NULL, &c), HAUL_E_INVAL);
    config.chunk_size = UINT64_C(1) << 32;
    assert_int_equal(hl_cursors_new(&config, NULL, &c), HAUL_E_INVAL);
    config.chunk_size = 4;
    config.parts.size = 10;
    assert_int_equal(hl_cursors_new(&config, NULL, &c), HAUL_E_INVAL);
    config.parts.size = 101; /* one part: any size will do */
    assert_int_equal(hl_cursors_new(&config, NULL, &c), 0);
    hl_cursors_free(c);
    config.run_max = 8; /* and parts */
    assert_int_equal(hl_cursors_new(&config, NULL, &c), HAUL_E_INVAL);
    config.parts.size = 0;
    config.run_max = 9;
    assert_int_equal(hl_cursors_new(&config, NULL, &c), HAUL_E_INVAL);
    config.run_max = 8;
    config.size = HL_SIZE_UNKNOWN;
    assert_int_equal(hl_cursors_new(&config, NULL, &c), HAUL_E_INVAL);
}

static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* 400 GiB in runs, every second chunk done. */
static void runs_over_many_holes_are_fast(void **state)
{
    struct hl_cursors_config config = {400 * GIB, MIB, 64 * MIB};
    struct hl_ranges done;
    struct hl_cursors *c;
    struct hl_slice s;
    uint64_t bytes = 0;
    double start;

    (void)state;
    hl_ranges_init(&done);
    for (uint64_t i = 0; i < 400 * GIB; i += 2 * MIB)
        assert_int_equal(hl_ranges_add(&done, i, i + MIB), 0);
    start = cpu_s();
    assert_int_equal(hl_cursors_new(&config, &done, &c), 0);
    while (!hl_cursors_exhausted(c)) {
        assert_true(hl_cursors_next(c, 8, &s));
        bytes += s.len;
        hl_cursors_run_read(c, s.run_end);
    }
    assert_int_equal(bytes, 200 * GIB);
    assert_true(cpu_s() - start < 3.0);
    hl_cursors_free(c);
    hl_ranges_fini(&done);
}

/* Every second of 409,600 chunks is done. A walk over them at each call would
 * take minutes. */
static void resume_of_400_gib_full_of_holes_is_fast(void **state)
{
    struct hl_ranges done;
    struct hl_cursors *c;
    struct hl_slice s;
    uint64_t i, bytes = 0;
    double start;

    (void)state;
    hl_ranges_init(&done);
    for (i = 0; i < 400 * GIB; i += 2 * MIB)
        assert_int_equal(hl_ranges_add(&done, i, i + MIB), 0);
    start = cpu_s();
    c = make(400 * GIB, MIB, 64 * MIB, &done);
    while (!hl_cursors_exhausted(c)) {
        assert_true(hl_cursors_next(c, 8, &s));
        assert_int_equal(s.offset % (2 * MIB), MIB);
        bytes += s.len;
        if (s.part_end)
            hl_cursors_part_done(c, s.part);
    }
    assert_int_equal(bytes, 200 * GIB);
    assert_true(cpu_s() - start < 3.0);
    hl_cursors_free(c);
    hl_ranges_fini(&done);
}

static void resume_at_399_gib_begins_there(void **state)
{
    struct hl_ranges done;
    struct hl_cursors *c;

    (void)state;
    hl_ranges_init(&done);
    assert_int_equal(hl_ranges_add(&done, 0, 399 * GIB), 0);
    c = make(400 * GIB + 1, 4 * MIB, 0, &done);
    expect(c, 1, 399 * GIB, 4 * MIB, 399 * 256, true);
    hl_cursors_free(c);
    c = make(400 * GIB + 1, 4 * MIB, GIB, &done);
    expect(c, 2, 399 * GIB, 4 * MIB, 399, false);
    expect(c, 2, 400 * GIB, 1, 400, true);
    hl_cursors_free(c);
    hl_ranges_fini(&done);
}

static void new_without_memory_fails_and_leaks_nothing(void **state)
{
    struct hl_cursors_config config = {
        .size = 100, .chunk_size = 4, .parts.size = 8};
    struct hl_cursors *c = NULL;
    struct hl_ranges done;
    int n;

    (void)state;
    hl_ranges_init(&done);
    assert_int_equal(hl_ranges_add(&done, 0, 4), 0);
    for (n = 1; n <= 3; n++) {
        hl_mem_fail_at(n, false);
        assert_int_equal(hl_cursors_new(&config, &done, &c), HAUL_E_NOMEM);
    }
    hl_mem_fail_at(0, false);
    assert_null(c);
    hl_ranges_fini(&done);
    assert_int_equal(hl_mem_live(), 0);
}

static void without_memory_open_parts_go_on(void **state)
{
    struct hl_cursors *c = make(1000, 4, 8, NULL);
    uint64_t i;

    (void)state;
    for (i = 0; i < 8; i++) /* places for eight are there from the start */
        expect(c, 100, i * 8, 4, i, false);
    hl_mem_fail_at(1, true);
    for (i = 0; i < 8; i++)
        expect(c, 100, i * 8 + 4, 4, i, true);
    expect_none(c, 100);
    hl_mem_fail_at(0, false);
    expect(c, 100, 64, 4, 8, false);
    hl_cursors_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_chunk_that_is_not_done_comes_once),
        cmocka_unit_test(parts_take_turns_and_wait_for_a_free_place),
        cmocka_unit_test(part_that_closes_takes_no_turn_from_others),
        cmocka_unit_test(resume_with_a_part_of_a_chunk_sends_the_whole_chunk),
        cmocka_unit_test(nothing_to_do_is_exhausted_at_once),
        cmocka_unit_test(unknown_size_goes_on_until_the_source_ends),
        cmocka_unit_test(unknown_size_in_one_part),
        cmocka_unit_test(parts_behind_the_end_of_the_source_close),
        cmocka_unit_test(what_is_wanted_again_comes_first_and_in_order),
        cmocka_unit_test(nothing_behind_the_end_is_wanted_again),
        cmocka_unit_test(runs_bring_every_chunk_once_and_go_on_fairly),
        cmocka_unit_test(runs_become_shorter_towards_the_end),
        cmocka_unit_test(runs_take_turns),
        cmocka_unit_test(bad_layouts_are_refused),
        cmocka_unit_test(resume_of_400_gib_full_of_holes_is_fast),
        cmocka_unit_test(runs_over_many_holes_are_fast),
        cmocka_unit_test(resume_at_399_gib_begins_there),
        cmocka_unit_test(new_without_memory_fails_and_leaks_nothing),
        cmocka_unit_test(without_memory_open_parts_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
