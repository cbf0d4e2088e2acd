/* The mover over a target with parts: which is read when, what is confirmed
 * already, skipped, lost for good. */
#include "mover_world.h"

static void with_parts(struct world *w, uint64_t chunks, uint32_t streams,
                       uint32_t caps)
{
    w->c.layout.parts.size = chunks * CHUNK;
    w->c.layout.streams_max = streams;
    w->c.layout.caps |= caps;
}

static void expect_all(struct world *w)
{
    assert_int_equal(w->rc, 0);
    assert_true(hl_ranges_contains(&w->acked, 0, w->source_size));
    assert_true(hl_ranges_contains(&w->had, 0, w->source_size));
    assert_int_equal(w->stats.acked_bytes, w->source_size);
}

/* ---- Fair parts --------------------------------------------------------- */

/* Four parts of 64 chunks, 10 ms a chunk, one of them twenty times slower,
 * memory for 16 chunks. The fast ones have theirs through in 0.64 s, when they
 * do not wait for the slow one, which takes 12.8 s. */
static void a_slow_part_does_not_hold_up_the_others(void **state)
{
    static struct world w;

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t slow = i % 4;

        world_begin(&w, 4 * 64 * CHUNK, 16);
        with_parts(&w, 64, 4, i & 4 ? HL_CAP_LATE : 0);
        w.streams[slow].ns = 200 * MS;
        w.read_ns = 2 * MS;
        world_start(&w, 4);
        world_run(&w);
        expect_all(&w);
        assert_int_equal(w.open_most, 4);
        for (uint32_t p = 0; p < 4; p++)
            if (p != slow)
                assert_true(w.streams[p].done_ns < HL_NS_PER_S + 700 * MS);
        assert_true(w.finished_ns < HL_NS_PER_S + 12900 * MS);
        world_end(&w);
    }
}

/* 24 parts of 16 chunks, four at once, the first on a slow stream: the others
 * take turns of three and are through when 23 / 3 parts of 160 ms are. The end
 * has no tail: the last parts begin together. */
static void other_parts_come_while_a_slow_one_goes_on(void **state)
{
    uint64_t last = 0;
    static struct world w;

    (void)state;
    world_begin(&w, 24 * 16 * CHUNK, 16);
    with_parts(&w, 16, 4, HL_CAP_LATE);
    w.source.driver = &far_driver;
    w.streams[0].ns = 100 * MS;
    w.read_ns = 3 * MS;
    world_start(&w, 4);
    world_run(&w);
    expect_all(&w);
    for (uint32_t p = 1; p < 24; p++)
        last = hl_max(last, w.streams[p].done_ns);
    /* Eight rounds; each begins with a read. */
    assert_true(last < HL_NS_PER_S + 8 * (160 + 10) * MS);
    assert_true(w.finished_ns < HL_NS_PER_S + 1620 * MS);
    world_end(&w);
}

/* A slow part of 64 chunks breaks when half of it was taken. Nothing of it is
 * read again faster than it goes out: the others have the memory. */
static void a_part_that_breaks_does_not_hold_up_the_others(void **state)
{
    static struct world w;

    (void)state;
    world_begin(&w, 4 * 64 * CHUNK, 16);
    with_parts(&w, 64, 4, HL_CAP_LATE);
    w.source.driver = &far_driver;
    w.read_ns = 2 * MS;
    w.streams[0].ns = 1 * MS; /* up to the break, then no faster than that */
    w.streams[0].break_at = 32 * CHUNK;
    for (uint32_t p = 1; p < 4; p++)
        w.streams[p].ns = 50 * MS;
    world_start(&w, 4);
    while (w.retries == 0)
        hl_loop_step(w.loop, -1);
    w.streams[0].ns = 400 * MS;
    world_run(&w);
    expect_all(&w);
    assert_int_equal(w.retries, 1);
    assert_true(w.stats.resent_bytes >= 30 * CHUNK &&
                w.stats.resent_bytes <= 32 * CHUNK);
    for (uint32_t p = 1; p < 4; p++)
        assert_true(w.streams[p].done_ns < HL_NS_PER_S + 64 * 51 * MS);
    world_end(&w);
}

static void as_many_parts_are_open_as_was_said(void **state)
{
    static const uint32_t asked[] = {0, 1, 3, 5, 100};
    static struct world w;

    (void)state;
    for (size_t i = 0; i < 2 * HL_LEN(asked); i++) {
        uint32_t n = asked[i / 2], most = n > 5 ? 5 : n ? n : 1;

        world_begin(&w, 20 * 4 * CHUNK - 5, 40);
        with_parts(&w, 4, 5, HL_CAP_LATE);
        w.answer_ns = 30 * MS; /* a part that waits for it is open */
        if (i % 2)
            w.c.source_caps = HL_CAP_ORDERED;
        world_start(&w, n);
        assert_int_equal(hl_mover_run_memory(w.m), 3 * most * CHUNK);
        world_run(&w);
        expect_all(&w);
        assert_int_equal(w.open_most, most);
        world_end(&w);
    }
}

/* Growing parts, from a source that seeks and from a pipe of unknown length,
 * whose end is at a part's end or in it; half of the runs with breaks. */
static void growing_parts_get_their_bytes(void **state)
{
    static struct world w;

    (void)state;
    for (uint64_t i = 0; i < 96; i++) {
        uint64_t size = (i / 8 + 1) * CHUNK - (i & 8 ? 11 : 0);
        bool pipe = i & 1;

        world_begin(&w, size, pipe ? 12 : 4);
        with_parts(&w, 2, 4, i & 2 ? HL_CAP_LATE : 0);
        w.c.layout.parts.grow = 2;
        w.c.layout.parts.size_max = 6 * CHUNK;
        if (pipe) {
            w.c.source_caps = HL_CAP_ORDERED;
            w.c.size = HL_SIZE_UNKNOWN;
        }
        for (uint32_t p = 0; p < PARTS_MAX && (i & 4); p++)
            w.streams[p].break_at =
                1 + hl_parts_begin(&w.c.layout.parts, p) + CHUNK;
        world_start(&w, 3);
        world_run(&w);
        expect_all(&w);
        assert_int_equal(w.told, size);
        world_end(&w);
    }
}

/* ---- Confirmed ---------------------------------------------------------- */

static void begin_confirmed(struct world *w, struct hl_ranges *confirmed)
{
    struct hl_range r = {0, 0};

    while (hl_ranges_next(confirmed, r.end, &r)) {
        hl_ranges_add(&w->had, r.begin, r.end);
        hl_ranges_add(&w->acked, r.begin, r.end);
    }
    w->c.confirmed = confirmed;
    world_start(w, 2);
    hl_ranges_fini(confirmed); /* it was copied */
    hl_mover_stats(w->m, &w->stats);
    assert_int_equal(w->stats.acked_bytes, w->acked.bytes);
}

/* The offset that a tus server tells lies in a chunk: what is before is read
 * and digested, the rest sent. */
static void writing_begins_where_the_target_ends(void **state)
{
    static const uint64_t ends[] = {1,         CHUNK - 1,     CHUNK,
                                    CHUNK + 1, 5 * CHUNK / 2, 10 * CHUNK};
    static struct world w;
    struct hl_ranges confirmed;

    (void)state;
    for (size_t i = 0; i < 4 * HL_LEN(ends); i++) {
        uint64_t end = ends[i / 4];

        world_begin(&w, 10 * CHUNK, 8);
        if (i & 1)
            with_parts(&w, 4, 3, 0);
        if (i & 2)
            w.c.layout.caps &= ~(uint32_t)HL_CAP_ORDERED;
        hl_ranges_init(&confirmed);
        hl_ranges_add(&confirmed, 0, end);
        begin_confirmed(&w, &confirmed);
        world_run(&w);
        expect_all(&w);
        assert_int_equal(w.chunks, 10);
        assert_int_equal(w.told, 10 * CHUNK);
        assert_int_equal(w.stats.read_bytes, 10 * CHUNK);
        assert_int_equal(w.stats.sent_bytes, 10 * CHUNK - end);
        assert_int_equal(w.stats.resent_bytes, 0);
        assert_int_equal(w.writes, 10 - end / CHUNK);
        world_end(&w);
    }
}

/* Chunks that are done are not read; of the second part all is confirmed, of
 * the third the beginning, which counts where the target is not LATE. */
static void what_is_confirmed_and_done_is_neither_read_nor_sent(void **state)
{
    static struct world w;
    struct hl_ranges confirmed, done;

    (void)state;
    for (int late = 0; late < 2; late++) {
        uint64_t want = (late ? 8 : 7) * CHUNK;

        world_begin(&w, 16 * CHUNK - 9, 8);
        with_parts(&w, 4, 3, late ? HL_CAP_LATE : 0);
        hl_ranges_init(&confirmed);
        hl_ranges_init(&done);
        hl_ranges_add(&confirmed, 4 * CHUNK, 9 * CHUNK);
        hl_ranges_add(&confirmed, 12 * CHUNK, 16 * CHUNK - 9);
        hl_ranges_add(&done, 6 * CHUNK, 8 * CHUNK);
        hl_ranges_add(&done, 12 * CHUNK, 16 * CHUNK - 9);
        hl_ranges_add(&w.had, 4 * CHUNK, (late ? 8 : 9) * CHUNK);
        hl_ranges_add(&w.acked, 4 * CHUNK, (late ? 8 : 9) * CHUNK);
        hl_ranges_add(&w.had, 12 * CHUNK, 16 * CHUNK - 9);
        hl_ranges_add(&w.acked, 12 * CHUNK, 16 * CHUNK - 9);
        w.c.confirmed = &confirmed;
        w.c.done = &done;
        world_start(&w, 3);
        hl_ranges_fini(&confirmed);
        hl_ranges_fini(&done);
        hl_mover_stats(w.m, &w.stats);
        assert_int_equal(w.stats.acked_bytes, 16 * CHUNK - 9 - want);
        world_run(&w);
        expect_all(&w);
        assert_int_equal(w.stats.read_bytes, 10 * CHUNK);
        assert_int_equal(w.chunks, 10);
        assert_int_equal(w.stats.sent_bytes, want);
        world_end(&w);
    }
}

/* Everything is there: it is read, and nothing is written. */
static void a_target_that_has_everything_gets_nothing(void **state)
{
    static struct world w;
    struct hl_ranges confirmed;

    (void)state;
    for (int i = 0; i < 6; i++) {
        world_begin(&w, 9 * CHUNK + 1, 4);
        if (i % 3)
            with_parts(&w, 2, 3, i % 3 == 1 ? HL_CAP_LATE : 0);
        else if (i)
            w.c.layout.caps |= HL_CAP_LATE;
        w.c.digest = i & 1 ? w.c.digest : NULL;
        hl_ranges_init(&confirmed);
        hl_ranges_add(&confirmed, 0, UINT64_MAX);
        w.c.confirmed = &confirmed;
        world_start(&w, 3);
        hl_ranges_fini(&confirmed);
        world_run(&w);
        assert_int_equal(w.rc, 0);
        assert_int_equal(w.writes, 0);
        assert_int_equal(w.told, 9 * CHUNK + 1);
        assert_int_equal(w.stats.acked_bytes, 9 * CHUNK + 1);
        assert_int_equal(w.stats.sent_bytes, 0);
        world_end(&w);
    }
}

/* ---- Skipped ------------------------------------------------------------ */

/* A break in the sixth chunk, of which 1000 bytes had arrived, or the first
 * half of what was under way (LATE: after a break of the answer all of it). */
static void what_arrived_in_spite_of_a_break_is_not_sent_again(void **state)
{
    static struct world w;

    (void)state;
    for (int late = 0; late < 2; late++) {
        world_begin(&w, 10 * CHUNK, 8);
        if (late)
            with_parts(&w, 10, 1, HL_CAP_LATE);
        w.streams[0].break_at = 5 * CHUNK;
        w.streams[0].keeps = 1000;
        world_start(&w, 1);
        world_run(&w);
        expect_all(&w);
        assert_int_equal(w.retries, 1);
        /* Not LATE: nothing was taken and not acknowledged. */
        assert_int_equal(w.stats.resent_bytes,
                         w.stats.sent_bytes + 1000 - 10 * CHUNK);
        if (!late)
            assert_int_equal(w.stats.resent_bytes, 0);
        world_end(&w);
    }
}

/* Every byte of a write is acknowledged, and then it comes back with an error:
 * what was said before stays true, and nothing is left to do. */
static void a_write_that_is_acknowledged_and_fails_is_done(void **state)
{
    static struct world w;

    (void)state;
    for (int i = 0; i < 8; i++) {
        world_begin(&w, 12 * CHUNK, 8);
        if (i & 1)
            with_parts(&w, 4, 2, 0);
        if (i & 2)
            w.c.source_caps = HL_CAP_ORDERED;
        if (i & 4)
            w.c.layout.caps &= ~(uint32_t)HL_CAP_ORDERED;
        w.streams[0].late_break_at = 2 * CHUNK;
        world_start(&w, 2);
        world_run(&w);
        expect_all(&w);
        assert_true(w.retries >= 1);
        assert_int_equal(w.told, 12 * CHUNK);
        assert_int_equal(w.stats.resent_bytes, 0);
        world_end(&w);
    }
}

/* The answer of a whole part is lost, and the server has the part. */
static void a_part_that_the_server_has_is_not_sent_again(void **state)
{
    static struct world w;

    (void)state;
    for (int seeks = 0; seeks < 2; seeks++) {
        world_begin(&w, 12 * CHUNK, 8);
        with_parts(&w, 4, 1, HL_CAP_LATE);
        w.c.source_caps = seeks ? HL_CAP_SEEK : HL_CAP_ORDERED;
        w.answer_ns = 1000 * MS;
        world_start(&w, 1);
        while (w.taken.bytes < 4 * CHUNK)
            hl_loop_step(w.loop, -1);
        break_stream(&w, 0, HAUL_E_RESET);
        hl_ranges_add(&w.had, 0, 4 * CHUNK); /* it came through */
        world_run(&w);
        expect_all(&w);
        assert_int_equal(w.retries, 1);
        assert_int_equal(w.stats.sent_bytes, 12 * CHUNK);
        assert_int_equal(w.stats.resent_bytes, 0);
        world_end(&w);
    }
}

/* ---- Lost for good ------------------------------------------------------ */

/* By a write or by a report, of every kind of target: at once, with no try. */
static void a_target_that_lost_what_it_had_ends_the_mover(void **state)
{
    static struct world w;

    (void)state;
    for (int i = 0; i < 16; i++) {
        world_begin(&w, 20 * CHUNK, 8);
        if (i & 4)
            with_parts(&w, 4, 3, 0);
        if (i & 2)
            w.c.layout.caps |= HL_CAP_LATE;
        if (i & 8)
            w.c.source_caps = HL_CAP_ORDERED;
        w.lose_at = 9 * CHUNK;
        w.lose_by_report = i & 1;
        world_start(&w, 3);
        world_run(&w);
        assert_int_equal(w.rc, HAUL_E_LOST);
        assert_int_equal(w.retries, 0);
        assert_true(w.writes < 20);
        world_end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_part_does_not_hold_up_the_others),
        cmocka_unit_test(other_parts_come_while_a_slow_one_goes_on),
        cmocka_unit_test(a_part_that_breaks_does_not_hold_up_the_others),
        cmocka_unit_test(as_many_parts_are_open_as_was_said),
        cmocka_unit_test(growing_parts_get_their_bytes),
        cmocka_unit_test(writing_begins_where_the_target_ends),
        cmocka_unit_test(what_is_confirmed_and_done_is_neither_read_nor_sent),
        cmocka_unit_test(a_target_that_has_everything_gets_nothing),
        cmocka_unit_test(what_arrived_in_spite_of_a_break_is_not_sent_again),
        cmocka_unit_test(a_write_that_is_acknowledged_and_fails_is_done),
        cmocka_unit_test(a_part_that_the_server_has_is_not_sent_again),
        cmocka_unit_test(a_target_that_lost_what_it_had_ends_the_mover),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
