/* The suite's tests of targets that tell what they have (HL_CAP_TELLS) and ask
 * to keep notes. */
#ifndef CONTRACT_TELLS_H
#define CONTRACT_TELLS_H

#include "contract.h"

/* The process ends while two chunks are under way, at any moment of that. */
static inline void leave_in_the_middle(struct engine *e, const char *name,
                                       const struct hl_open *how, int steps,
                                       struct left *l)
{
    uint8_t *data = malloc(2 * CHUNK);
    struct tracked *t[2];
    struct subject s;

    subject_new(e, &s, name, HL_ROLE_TARGET);
    assert_int_equal(subject_open(&s, how), 0);
    write_range(&s, 0, 3 * CHUNK, how->size);
    submit_range(&s, 3 * CHUNK, 5 * CHUNK, how->size, data, t);
    for (int i = 0; i < steps; i++)
        hl_loop_step(e->env.loop, 1);
    subject_abort(&s);
    keep_left(l, &s);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(t[i]->returned, 1);
        free(t[i]);
    }
    subject_free(&s);
    free(data);
}

/* Nothing less than was acknowledged, nothing that was not sent. */
static void told_is_what_was_acknowledged(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 6 * CHUNK + 1};
    struct engine *e = start(state);
    struct hl_range r = {0, 0};
    struct subject s;
    struct left l;

    for (int steps = 0; steps < 8 && !c->nameless && !c->late; steps++) {
        NAME(name);
        leave_in_the_middle(e, name, &how, steps, &l);
        assert_int_equal(open_left(e, &s, name, how, &l), 0);
        if (!(s.layout.caps & HL_CAP_TELLS)) {
            assert_int_equal(s.confirmed.bytes, 0);
            subject_end(&s);
            free_left(&l);
            break;
        }
        assert_true(s.layout.caps & HL_CAP_RESUME);
        while (hl_ranges_next(&l.acked, r.end, &r))
            assert_true(hl_ranges_contains(&s.confirmed, r.begin, r.end));
        r.end = 0;
        assert_int_equal(hl_ranges_overlap(&s.confirmed, 5 * CHUNK, UINT64_MAX),
                         0);
        write_rest(&s, how.size);
        assert_int_equal(subject_commit(&s, how.size, false), 0);
        subject_end(&s);
        free_left(&l);
        check_object(e, name, SEED, how.size);
    }
    end(e);
}

static void what_is_there_is_not_taken_twice(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 6 * CHUNK + 1};
    struct engine *e = start(state);
    struct subject s;
    struct left l;
    NAME(name);

    if (c->skips) {
        leave_in_the_middle(e, name, &how, 2, &l);
        assert_int_equal(open_left(e, &s, name, how, &l), 0);
        assert_true(s.confirmed.bytes >= 2 * CHUNK);
        write_range(&s, 0, how.size, how.size);
        assert_int_equal(s.skipped, s.confirmed.bytes);
        assert_int_equal(s.acked.bytes, how.size);
        assert_int_equal(subject_commit(&s, how.size, false), 0);
        subject_end(&s);
        free_left(&l);
        check_object(e, name, SEED, how.size);
    }
    end(e);
}

/* Those that were kept, each as it was, or nothing is done. */
static void notes_that_were_kept_are_wanted_again(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 6 * CHUNK + 1};
    struct engine *e = start(state);
    struct left l, some;
    struct subject s;
    NAME(name);

    if (c->skips) {
        leave_in_the_middle(e, name, &how, 0, &l);
        if (l.note_count) {
            const char *text = l.notes[0].text;

            l.notes[0].text = "another one";
            assert_int_equal(open_left(e, &s, name, how, &l), HAUL_E_RESUME);
            subject_end(&s);
            l.notes[0].text = text;
            some = l; /* without the first */
            some.note_count--;
            memmove(some.notes, l.notes + 1,
                    some.note_count * sizeof(l.notes[0]));
            assert_int_equal(open_left(e, &s, name, how, &some), HAUL_E_RESUME);
            subject_end(&s);
        }
        assert_int_equal(open_left(e, &s, name, how, &l), 0);
        write_rest(&s, how.size);
        /* Nobody asks for that of a part that is there. */
        for (size_t i = 0; i < s.note_count; i++)
            assert_false(hl_ranges_contains(
                &s.confirmed, hl_parts_begin(&s.layout.parts, s.notes[i].part),
                hl_parts_begin(&s.layout.parts, s.notes[i].part) + 1));
        assert_int_equal(subject_commit(&s, how.size, false), 0);
        subject_end(&s);
        free_left(&l);
        check_object(e, name, SEED, how.size);
    }
    end(e);
}

/* One write after the other, until one finds that something is gone. */
static inline void write_until_lost(struct subject *s, uint64_t size)
{
    uint8_t *data = malloc(CHUNK);
    struct tracked *t, c;

    for (uint64_t at = 0; at < 8 * CHUNK; at += CHUNK) {
        hl_gen_fill(SEED, false, at, data, CHUNK);
        t = submit_write(s, at, CHUNK, size, data);
        wait_for(s->e, &t->returned, 1);
        if (at < 7 * CHUNK)
            assert_int_equal(t->u.op.rc, 0);
        else if (t->u.op.rc)
            assert_int_equal(t->u.op.rc, HAUL_E_LOST);
        else
            wait_for(s->e, &s->gone, 1);
        free(t);
    }
    free(data);
    tracked_init(&c, s); /* and it stays so */
    c.u.commit.size = size;
    assert_int_equal(RUN(s, &c, hl_driver_commit(s->obj, &c.u.commit)),
                     HAUL_E_LOST);
}

static void what_was_forgotten_is_told(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 10 * CHUNK + 3};
    struct engine *e = start(state);
    struct subject s;
    struct left l;
    NAME(name);

    if (c->forgets) {
        subject_new(e, &s, name, HL_ROLE_TARGET);
        assert_int_equal(subject_open(&s, &how), 0);
        write_until_lost(&s, how.size);
        subject_abort(&s);
        keep_left(&l, &s);
        subject_free(&s);
        assert_int_equal(open_left(e, &s, name, how, &l), 0);
        assert_in_range(s.confirmed.bytes, 2 * CHUNK, 5 * CHUNK);
        assert_true(s.confirmed.bytes < l.acked.bytes);
        write_rest(&s, how.size); /* it forgets once */
        assert_int_equal(s.gone, 0);
        assert_int_equal(subject_commit(&s, how.size, false), 0);
        subject_end(&s);
        free_left(&l);
        check_object(e, name, SEED, how.size);
    }
    end(e);
}

#endif /* CONTRACT_TELLS_H */
