/*
 * One suite that checks the rules of engine/io.h against every driver. How:
 * contract.h plays the engine and asserts, at every answer, what holds
 * always (once, engine thread, not inside submit, acknowledged after taken).
 */
#include "contract_tells.h"

#include <ftw.h>
#include <unistd.h>

#include "callback.h"

/* ---- Tests -------------------------------------------------------------- */

static void every_size_arrives_whole(void **state)
{
    static const uint64_t sizes[] = {
        0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 6 * CHUNK + 13, 32 * CHUNK};
    struct engine *e = start(state);
    size_t i;

    for (i = 0; i < HL_LEN(sizes); i++) {
        NAME(name);
        make_object(e, name, sizes[i]);
        check_object(e, name, SEED, sizes[i]);
    }
    end(e);
}

static void size_of_a_source_is_told_at_open(void **state)
{
    struct engine *e = start(state);
    struct subject s;
    NAME(name);

    make_object(e, name, 3 * CHUNK + 5);
    subject_new(e, &s, name, HL_ROLE_SOURCE);
    assert_int_equal(subject_open(&s, NULL), 0);
    if (s.identity.size != HL_SIZE_UNKNOWN)
        assert_int_equal(s.identity.size, 3 * CHUNK + 5);
    else
        assert_true(s.layout.caps & HL_CAP_ORDERED);
    subject_end(&s);
    end(e);
}

static void reads_at_any_offset_bring_their_bytes(void **state)
{
    static const uint32_t at[][2] = {{0, 1},         {1, 1},
                                     {4095, 2},      {511, 4097},
                                     {CHUNK - 1, 3}, {CHUNK, CHUNK},
                                     {7, 3 * CHUNK}, {4 * CHUNK + 8, 1},
                                     {4 * CHUNK, 9}, {2, 4 * CHUNK + 7}};
    const uint32_t size = 4 * CHUNK + 9;
    struct engine *e = start(state);
    uint8_t *got = malloc(size), *want = malloc(size);
    struct subject s;
    size_t i;
    bool eof;
    NAME(name);

    make_object(e, name, size);
    subject_new(e, &s, name, HL_ROLE_SOURCE);
    assert_int_equal(subject_open(&s, NULL), 0);
    for (i = 0; (s.layout.caps & HL_CAP_SEEK) && i < HL_LEN(at); i++) {
        hl_gen_fill(SEED, false, at[i][0], want, at[i][1]);
        assert_int_equal(read_all(&s, at[i][0], got, at[i][1], &eof), at[i][1]);
        assert_memory_equal(got, want, at[i][1]);
        if (eof)
            assert_int_equal(at[i][0] + at[i][1], size);
    }
    subject_end(&s);
    free(got);
    free(want);
    end(e);
}

static void reads_behind_the_end_say_so(void **state)
{
    struct engine *e = start(state);
    struct subject s;
    uint8_t got[64];
    bool eof;
    NAME(name);

    make_object(e, name, CHUNK + 9);
    subject_new(e, &s, name, HL_ROLE_SOURCE);
    assert_int_equal(subject_open(&s, NULL), 0);
    if (s.layout.caps & HL_CAP_SEEK) {
        assert_int_equal(read_all(&s, CHUNK + 4, got, 64, &eof), 5);
        assert_true(eof);
        assert_int_equal(read_all(&s, CHUNK + 9, got, 64, &eof), 0);
        assert_true(eof);
        assert_int_equal(read_all(&s, 10 * CHUNK, got, 64, &eof), 0);
        assert_true(eof);
    }
    subject_end(&s);
    end(e);
}

static void missing_names_are_told(void **state)
{
    const struct contract_case *c = *state;
    struct engine *e = start(state);
    struct subject s;
    NAME(name);

    if (!c->nameless) {
        assert_false(stat_name(e, name).exists);
        subject_new(e, &s, name, HL_ROLE_SOURCE);
        assert_int_not_equal(subject_open(&s, NULL), 0);
        subject_end(&s);
    }
    end(e);
}

static void name_shows_only_after_commit(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 2 * CHUNK};
    struct engine *e = start(state);
    struct subject s;
    struct hl_stat st;
    NAME(name);

    if (!c->nameless) {
        make_object(e, name, 3); /* stays until it is replaced */
        subject_new(e, &s, name, HL_ROLE_TARGET);
        assert_int_equal(subject_open(&s, &how), 0);
        write_range(&s, 0, 2 * CHUNK, 2 * CHUNK);
        if (!(s.layout.caps & HL_CAP_IN_PLACE))
            check_object(e, name, SEED, 3);
        assert_int_equal(subject_commit(&s, 2 * CHUNK, false), 0);
        subject_end(&s);
        st = stat_name(e, name);
        assert_true(st.exists);
        assert_int_equal(st.size, 2 * CHUNK);
        assert_int_equal(st.mtime_ns / (int64_t)HL_NS_PER_S, 1700000000);
        assert_int_equal(st.mode & 0777, 0640);
    }
    end(e);
}

static void wrong_size_is_no_success(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 2 * CHUNK};
    struct engine *e = start(state);
    struct subject s;
    NAME(name);

    if (!c->nameless) {
        subject_new(e, &s, name, HL_ROLE_TARGET);
        assert_int_equal(subject_open(&s, &how), 0);
        write_range(&s, 0, CHUNK, 2 * CHUNK);
        assert_int_not_equal(subject_commit(&s, 2 * CHUNK, false), 0);
        subject_end(&s);
        assert_false(stat_name(e, name).exists);
    }
    end(e);
}

static void no_clobber_keeps_what_is_there(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 7, .no_clobber = true, .id = "ff"};
    struct engine *e = start(state);
    struct subject s;
    NAME(name);

    if (!c->nameless) {
        make_object(e, name, 5);
        subject_new(e, &s, name, HL_ROLE_TARGET);
        assert_int_equal(subject_open(&s, &how), HAUL_E_EXISTS);
        subject_end(&s);
        check_object(e, name, SEED, 5);
    }
    end(e);
}

/* The name appears between open and commit. */
static void no_clobber_holds_at_commit(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 7, .no_clobber = true, .id = "ff"};
    struct engine *e = start(state);
    struct subject s;
    NAME(name);

    if (!c->nameless) {
        subject_new(e, &s, name, HL_ROLE_TARGET);
        assert_int_equal(subject_open(&s, &how), 0);
        write_range(&s, 0, 7, 7);
        make_object(e, name, 5);
        assert_int_equal(subject_commit(&s, 7, true), HAUL_E_EXISTS);
        subject_end(&s);
        check_object(e, name, SEED, 5);
    }
    end(e);
}

static int discard(struct engine *e, const char *name, const char *token)
{
    struct subject s;
    struct tracked t;
    int rc;

    subject_new(e, &s, name, HL_ROLE_TARGET);
    tracked_init(&t, &s);
    rc = RUN(&s, &t, hl_driver_discard(s.obj, token, &t.u.op));
    subject_end(&s);
    return rc;
}

static void suspended_target_goes_on_with_its_token(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 6 * CHUNK + 1};
    struct engine *e = start(state);
    struct subject s;
    struct left l;
    NAME(name);

    if (!c->nameless && !c->late) {
        leave_unfinished(e, name, &how, 2 * CHUNK, &l);
        assert_int_equal(open_left(e, &s, name, how, &l), 0);
        assert_false(s.layout.fresh);
        if (!(s.layout.caps & HL_CAP_TELLS)) {
            assert_true(s.layout.existing >= 2 * CHUNK);
            hl_ranges_add(&s.confirmed, 0, 2 * CHUNK);
        }
        write_rest(&s, how.size);
        assert_int_equal(subject_commit(&s, how.size, false), 0);
        subject_end(&s);
        free_left(&l);
        check_object(e, name, SEED, how.size);
    }
    end(e);
}

static void discard_removes_what_was_begun(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 6 * CHUNK};
    struct engine *e = start(state);
    struct subject s;
    struct left l;
    int rc;
    NAME(name);

    if (!c->nameless && !c->late) {
        leave_unfinished(e, name, &how, 2 * CHUNK, &l);
        assert_int_equal(discard(e, name, l.token), 0);
        assert_int_equal(discard(e, name, l.token), 0);
        rc = open_left(e, &s, name, how, &l);
        if (rc) {
            assert_int_equal(rc, HAUL_E_LOST);
        } else {
            assert_true(s.layout.fresh);
            assert_int_equal(s.layout.existing, 0);
            assert_int_equal(s.confirmed.bytes, 0);
        }
        subject_end(&s);
        assert_int_equal(discard(e, name, l.token), 0);
        assert_false(stat_name(e, name).exists);
        free_left(&l);
    }
    end(e);
}

static void in_order_writes_under_the_name_and_is_cut(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 4 * CHUNK, .in_order = true};
    struct engine *e = start(state);
    struct subject s;
    struct tracked t;
    int rc;
    NAME(name);

    if (!c->nameless && !c->late) {
        subject_new(e, &s, name, HL_ROLE_TARGET);
        rc = subject_open(&s, &how);
        if (refuses_place(&s, rc)) {
            subject_end(&s);
            end(e);
            return;
        }
        assert_int_equal(rc, 0);
        assert_true(s.layout.caps & HL_CAP_IN_PLACE);
        assert_true(s.layout.caps & HL_CAP_ORDERED);
        write_range(&s, 0, 3 * CHUNK, how.size);
        tracked_init(&t, &s);
        t.u.suspend.contiguous = 2 * CHUNK;
        assert_int_equal(RUN(&s, &t, hl_driver_suspend(s.obj, &t.u.suspend)),
                         0);
        subject_end(&s);
        check_object(e, name, SEED, 2 * CHUNK);
    }
    end(e);
}

static void append_goes_on_with_a_strange_file(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 4 * CHUNK, .append = true};
    struct engine *e = start(state);
    struct subject s;
    int rc;
    NAME(name);

    if (!c->nameless && !c->late) {
        make_object(e, name, CHUNK);
        subject_new(e, &s, name, HL_ROLE_TARGET);
        rc = subject_open(&s, &how);
        if (refuses_place(&s, rc)) {
            subject_end(&s);
            check_object(e, name, SEED, CHUNK);
            end(e);
            return;
        }
        assert_int_equal(rc, 0);
        assert_int_equal(s.layout.existing, CHUNK);
        assert_true(s.layout.caps & HL_CAP_IN_PLACE);
        write_range(&s, CHUNK, how.size, how.size);
        assert_int_equal(subject_commit(&s, how.size, false), 0);
        subject_end(&s);
        check_object(e, name, SEED, how.size);
    }
    end(e);
}

static void target_reads_back_while_it_is_written(void **state)
{
    struct hl_open how = {.size = 3 * CHUNK};
    struct engine *e = start(state);
    uint8_t *got = malloc(CHUNK), *want = malloc(CHUNK);
    struct subject s;
    bool eof;
    NAME(name);

    subject_new(e, &s, name, HL_ROLE_TARGET);
    assert_int_equal(subject_open(&s, &how), 0);
    write_range(&s, 0, 2 * CHUNK, how.size);
    if (s.layout.caps & HL_CAP_READBACK) {
        hl_gen_fill(SEED, false, CHUNK - 7, want, CHUNK);
        assert_int_equal(read_all(&s, CHUNK - 7, got, CHUNK, &eof), CHUNK);
        assert_memory_equal(got, want, CHUNK);
    }
    subject_end(&s);
    free(got);
    free(want);
    end(e);
}

/* Everything taken before is accounted for when sync answers. */
static void sync_answers_after_acknowledgements(void **state)
{
    struct hl_open how = {.size = 4 * CHUNK};
    struct engine *e = start(state);
    uint8_t *data = calloc(4, CHUNK);
    struct tracked *w[4], t;
    struct subject s;
    int i;
    NAME(name);

    subject_new(e, &s, name, HL_ROLE_TARGET);
    assert_int_equal(subject_open(&s, &how), 0);
    for (i = 0; i < 4; i++)
        w[i] = submit_write(&s, (uint64_t)i * CHUNK, CHUNK, how.size,
                            data + i * CHUNK);
    for (i = 0; i < 4; i++)
        wait_for(e, &w[i]->returned, 1);
    tracked_init(&t, &s);
    if (RUN(&s, &t, hl_driver_sync(s.obj, &t.u.op)) != HAUL_E_NOTSUP) {
        assert_int_equal(t.u.op.rc, 0);
        assert_int_equal(s.acked.bytes, 4 * CHUNK);
    } else {
        assert_false(s.layout.caps & HL_CAP_DURABLE);
    }
    subject_end(&s);
    for (i = 0; i < 4; i++)
        free(w[i]);
    free(data);
    end(e);
}

/* Nothing is confirmed before the last byte was taken; then everything is. */
static void late_target_confirms_at_its_end(void **state)
{
    struct hl_open how = {.size = 5 * CHUNK + 9};
    const struct contract_case *c = *state;
    struct engine *e = start(state);
    struct subject s;
    NAME(name);

    if (c->late) {
        subject_new(e, &s, name, HL_ROLE_TARGET);
        assert_int_equal(subject_open(&s, &how), 0);
        assert_true(is_late(&s));
        assert_true(s.layout.caps & HL_CAP_ORDERED);
        assert_false(s.layout.caps & HL_CAP_RESUME);
        write_range(&s, 0, 5 * CHUNK, how.size);
        settle(e);
        assert_int_equal(s.acked.bytes, 0);
        write_range(&s, 5 * CHUNK, how.size, how.size);
        assert_int_equal(s.acked.bytes, how.size);
        assert_int_equal(subject_commit(&s, how.size, false), 0);
        assert_non_null(s.obj->driver->answer);
        assert_int_equal(s.obj->driver->answer(s.obj)->status / 100, 2);
        subject_end(&s);
        check_object(e, name, SEED, how.size);
    }
    end(e);
}

static void two_objects_share_an_endpoint(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how[2] = {{.size = 3 * CHUNK, .id = "aa"},
                             {.size = 2 * CHUNK + 1, .id = "bb"}};
    struct engine *e = start(state);
    struct subject s[2];
    int i;
    NAME(one);
    NAME(two);

    if (c->url) {
        subject_new(e, &s[0], one, HL_ROLE_TARGET);
        subject_new(e, &s[1], two, HL_ROLE_TARGET);
        for (i = 0; i < 2; i++)
            assert_int_equal(subject_open(&s[i], &how[i]), 0);
        for (i = 0; i < 2; i++)
            write_range(&s[i], 0, CHUNK, how[i].size);
        subject_end(&s[1]); /* what is left of it disturbs nobody */
        write_range(&s[0], CHUNK, how[0].size, how[0].size);
        assert_int_equal(subject_commit(&s[0], how[0].size, false), 0);
        subject_end(&s[0]);
        check_object(e, one, SEED, how[0].size);
    }
    end(e);
}

/* ---- Abort -------------------------------------------------------------- */

static void abort_before_open(void **state)
{
    struct engine *e = start(state);
    struct subject s;
    NAME(name);

    subject_new(e, &s, name, HL_ROLE_TARGET);
    subject_free(&s); /* never opened: needs none */
    subject_new(e, &s, name, HL_ROLE_TARGET);
    subject_end(&s);
    end(e);
}

/* Aborts after some steps of the loop, which is at another place each time. */
static void abort_while_opening(void **state)
{
    struct engine *e = start(state);
    struct subject s;
    struct tracked t;
    int steps, i;
    NAME(name);

    for (steps = 0; steps < 6; steps++) {
        subject_new(e, &s, name, HL_ROLE_TARGET);
        tracked_init(&t, &s);
        t.u.open.chunk_size = CHUNK;
        t.u.open.size = CHUNK;
        t.u.open.id = "cc";
        hl_driver_open(s.obj, &t.u.open);
        for (i = 0; i < steps; i++)
            hl_loop_step(e->env.loop, 1);
        subject_abort(&s);
        assert_int_equal(t.returned, 1);
        assert_true(!t.u.op.rc || t.u.op.rc == HAUL_E_CANCELED);
        subject_free(&s);
    }
    end(e);
}

static void abort_while_writing(void **state)
{
    struct hl_open how = {.size = 64 * CHUNK, .id = "dd"};
    struct engine *e = start(state);
    uint8_t *data = calloc(8, CHUNK);
    struct tracked *w[8];
    struct subject s;
    int steps, i;
    NAME(name);

    for (steps = 0; steps < 8; steps++) {
        subject_new(e, &s, name, HL_ROLE_TARGET);
        assert_int_equal(subject_open(&s, &how), 0);
        for (i = 0; i < 8; i++)
            w[i] = submit_write(&s, (uint64_t)i * CHUNK, CHUNK, how.size,
                                data + i * CHUNK);
        for (i = 0; i < steps; i++)
            hl_loop_step(e->env.loop, 1);
        subject_abort(&s);
        for (i = 0; i < 8; i++) {
            assert_int_equal(w[i]->returned, 1);
            assert_true(!w[i]->u.op.rc || w[i]->u.op.rc == HAUL_E_CANCELED);
            free(w[i]);
        }
        /* Lost ranges left taken: the rest is acknowledged. */
        assert_int_equal(s.taken.bytes, s.acked.bytes);
        subject_free(&s);
    }
    free(data);
    end(e);
}

static void abort_while_reading(void **state)
{
    struct engine *e = start(state);
    uint8_t *data = malloc(8 * CHUNK);
    struct tracked *r = calloc(8, sizeof(*r));
    struct subject s;
    int steps, i;
    NAME(name);

    assert_non_null(r);
    make_object(e, name, 8 * CHUNK);
    for (steps = 0; steps < 6; steps++) {
        subject_new(e, &s, name, HL_ROLE_SOURCE);
        assert_int_equal(subject_open(&s, NULL), 0);
        for (i = 0; i < 8; i++) {
            tracked_init(&r[i], &s);
            r[i].u.io.offset = (uint64_t)i * CHUNK;
            r[i].u.io.len = CHUNK;
            r[i].u.io.run_end = r[i].u.io.offset + CHUNK;
            r[i].u.io.data = data + i * CHUNK;
            hl_driver_read(s.obj, &r[i].u.io);
        }
        for (i = 0; i < steps; i++)
            hl_loop_step(e->env.loop, 1);
        subject_abort(&s);
        for (i = 0; i < 8; i++) {
            assert_int_equal(r[i].returned, 1);
            assert_true(!r[i].u.op.rc || r[i].u.op.rc == HAUL_E_CANCELED);
        }
        subject_free(&s);
    }
    free(data);
    free(r);
    end(e);
}

static void abort_while_committing(void **state)
{
    const struct contract_case *c = *state;
    struct hl_open how = {.size = 2 * CHUNK, .id = "ee"};
    struct engine *e = start(state);
    struct subject s;
    struct tracked t;
    NAME(name);

    subject_new(e, &s, name, HL_ROLE_TARGET);
    assert_int_equal(subject_open(&s, &how), 0);
    write_range(&s, 0, how.size, how.size);
    tracked_init(&t, &s);
    t.u.commit.size = how.size;
    hl_driver_commit(s.obj, &t.u.commit);
    subject_abort(&s);
    assert_int_equal(t.returned, 1);
    subject_free(&s);
    /* Either it happened or it did not; what was said is true. */
    if (!c->nameless && !t.u.op.rc)
        check_object(e, name, SEED, how.size);
    end(e);
}

/* ---- Cases -------------------------------------------------------------- */

/* The caller's functions of the callback cases keep their bytes in membuf.h;
 * short on purpose, as callers are. */
static char callback_name[64];

static int64_t read_some(void *user, void *buf, size_t len, uint64_t offset)
{
    (void)user;
    return hl_membuf_read(callback_name, offset, buf, hl_min(len, 10007), NULL);
}

static int64_t write_some(void *user, const void *buf, size_t len,
                          uint64_t offset)
{
    int64_t n = (int64_t)hl_min(len, 9001);
    int rc = hl_membuf_write(callback_name, offset, buf, (size_t)n, UINT64_MAX,
                             NULL);

    (void)user;
    return rc ? rc : n;
}

static int callback_open(const struct hl_env *env, const char *name,
                         enum hl_role role, bool sized,
                         struct hl_endpoint **out, struct hl_error *err)
{
    struct hl_membuf_stat st;

    snprintf(callback_name, sizeof(callback_name), "%s", name);
    if (!hl_membuf_stat(name, &st) && hl_membuf_create(name, 0, err))
        return HAUL_E_NOMEM;
    if (role == HL_ROLE_TARGET)
        return hl_callback_target_new(env, name, write_some, NULL, out, err);
    return hl_callback_source_new(env, name, sized ? st.size : HL_SIZE_UNKNOWN,
                                  read_some, NULL, out, err);
}

static int callback_sized(const struct hl_env *env, const char *name,
                          enum hl_role role, struct hl_endpoint **out,
                          struct hl_error *err)
{
    return callback_open(env, name, role, true, out, err);
}

static int callback_pipe(const struct hl_env *env, const char *name,
                         enum hl_role role, struct hl_endpoint **out,
                         struct hl_error *err)
{
    return callback_open(env, name, role, false, out, err);
}

static char file_url[128], folder[64];

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static const struct contract_case cases[] = {
    {.name = "mem", .url = "mem:buf?id="},
    {.name = "mem virtual", .url = "mem:buf?id=", .virtual_time = true},
    {.name = "mem slow virtual",
     .url = "mem:buf?rtt_us=20000&id=",
     .virtual_time = true},
    {.name = "mem slow", .url = "mem:buf?rtt_us=300&id="},
    {.name = "mem parts", .url = "mem:buf?part=128ki&ordered=1&id="},
    {.name = "mem late virtual",
     .url = "mem:buf?part=64ki&late=1&id=",
     .virtual_time = true},
    {.name = "mem late parts", .url = "mem:buf?part=64ki&late=1&ordered=1&id="},
    {.name = "mem late whole",
     .url = "mem:buf?late=1&ordered=1&id=",
     .late = true},
    {.name = "mem late whole slow virtual",
     .url = "mem:buf?late=1&ordered=1&rtt_us=3000&id=",
     .late = true,
     .virtual_time = true},
    {.name = "faulty late whole virtual",
     .url = "faulty:seed=5,delay_us=900:mem:buf?late=1&ordered=1&id=",
     .late = true,
     .virtual_time = true},
    {.name = "mem growing parts",
     .url = "mem:buf?part=64ki&grow=3&part_max=256ki&ordered=1&id="},
    {.name = "mem tells",
     .url = "mem:buf?tells=1&ordered=1&id=",
     .skips = true},
    {.name = "mem tells anywhere",
     .url = "mem:buf?tells=1&notes=1&gone=1&blind=1&id=",
     .skips = true},
    {.name = "mem tells virtual",
     .url = "mem:buf?tells=1&ordered=1&notes=1&rtt_us=700&id=",
     .skips = true,
     .virtual_time = true},
    {.name = "mem tells growing parts",
     .url = "mem:buf?tells=1&ordered=1&notes=1&part=64ki&grow=2&part_max=192ki&"
            "id=",
     .skips = true},
    {.name = "mem tells late parts",
     .url = "mem:buf?tells=1&ordered=1&late=1&notes=1&part=128ki&gone=1&id=",
     .skips = true},
    {.name = "mem forgets",
     .url = "mem:buf?tells=1&ordered=1&notes=1&part=192ki&forget=512ki&id=",
     .forgets = true},
    {.name = "mem forgets and reports virtual",
     .url = "mem:buf?tells=1&ordered=1&forget=512ki&report=1&id=",
     .forgets = true,
     .virtual_time = true},
    {.name = "mem forgets late parts",
     .url = "mem:buf?tells=1&ordered=1&late=1&part=128ki&forget=512ki&notes=1&"
            "id=",
     .forgets = true},
    {.name = "faulty tells virtual",
     .url = "faulty:seed=7,delay_us=900:"
            "mem:buf?tells=1&ordered=1&notes=1&part=128ki&id=",
     .skips = true,
     .virtual_time = true},
    {.name = "faulty forgets late parts virtual",
     .url = "faulty:seed=8,delay_us=900:mem:buf?tells=1&ordered=1&late=1&"
            "part=128ki&forget=512ki&report=1&id=",
     .forgets = true,
     .virtual_time = true},
    {.name = "mem runs", .url = "mem:buf?runs=1mi&streams=4&id="},
    {.name = "mem stream", .url = "mem:buf?seek=0&unknown=1&id="},
    {.name = "faulty", .url = "faulty::mem:buf?id="},
    {.name = "faulty virtual",
     .url = "faulty::mem:buf?id=",
     .virtual_time = true},
    {.name = "faulty delays virtual",
     .url = "faulty:seed=3,delay_us=9000,reorder=0.5:mem:buf?id=",
     .virtual_time = true},
    {.name = "faulty delays",
     .url = "faulty:seed=4,delay_us=500,short=0.3:mem:buf?id="},
    {.name = "faulty stream virtual",
     .url = "faulty:delay_us=900:mem:buf?seek=0&unknown=1&ordered=1&id=",
     .virtual_time = true},
    {.name = "callback", .endpoint = callback_sized, .nameless = true},
    {.name = "callback pipe", .endpoint = callback_pipe, .nameless = true},
    {.name = "callback virtual",
     .endpoint = callback_sized,
     .nameless = true,
     .virtual_time = true},
    {.name = "file", .url = file_url},
};

#define TEST(f)                                                                \
    {                                                                          \
#f, f, NULL, NULL, NULL                                                \
    }

static const struct CMUnitTest tests[] = {
    TEST(every_size_arrives_whole),
    TEST(size_of_a_source_is_told_at_open),
    TEST(reads_at_any_offset_bring_their_bytes),
    TEST(reads_behind_the_end_say_so),
    TEST(missing_names_are_told),
    TEST(name_shows_only_after_commit),
    TEST(wrong_size_is_no_success),
    TEST(no_clobber_keeps_what_is_there),
    TEST(no_clobber_holds_at_commit),
    TEST(suspended_target_goes_on_with_its_token),
    TEST(discard_removes_what_was_begun),
    TEST(in_order_writes_under_the_name_and_is_cut),
    TEST(append_goes_on_with_a_strange_file),
    TEST(target_reads_back_while_it_is_written),
    TEST(sync_answers_after_acknowledgements),
    TEST(late_target_confirms_at_its_end),
    TEST(told_is_what_was_acknowledged),
    TEST(what_is_there_is_not_taken_twice),
    TEST(notes_that_were_kept_are_wanted_again),
    TEST(what_was_forgotten_is_told),
    TEST(two_objects_share_an_endpoint),
    TEST(abort_before_open),
    TEST(abort_while_opening),
    TEST(abort_while_writing),
    TEST(abort_while_reading),
    TEST(abort_while_committing),
};

static int run_case(const struct contract_case *c)
{
    struct CMUnitTest copy[HL_LEN(tests)];
    char names[HL_LEN(tests)][128];
    struct contract_case state = *c;
    size_t i, count = 0;

    for (i = 0; i < HL_LEN(tests); i++) {
        if (c->forgets && tests[i].test_func != what_was_forgotten_is_told)
            continue;
        snprintf(names[i], sizeof(names[i]), "%s: %s", c->name, tests[i].name);
        copy[count] = tests[i];
        copy[count].name = names[i];
        copy[count++].initial_state = &state;
    }
    return _cmocka_run_group_tests(c->name, copy, count, NULL, NULL);
}

/* With an argument: that case only. */
int main(int argc, char **argv)
{
    struct contract_case outside = {.name = "outside",
                                    .url = getenv("HAUL_CONTRACT_URL"),
                                    .outside = true,
                                    .late = getenv("HAUL_CONTRACT_LATE")};
    const char *tmp = getenv("TMPDIR");
    int failed = 0;
    size_t i;

    snprintf(folder, sizeof(folder), "%s/haul-contract-XXXXXX",
             tmp && strlen(tmp) < 30 ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return 99;
    snprintf(file_url, sizeof(file_url), "%s/", folder);
    if (outside.url)
        failed = run_case(&outside);
    for (i = 0; !outside.url && i < HL_LEN(cases); i++)
        if (argc < 2 || !strcmp(argv[1], cases[i].name))
            failed += run_case(&cases[i]);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return failed != 0;
}
