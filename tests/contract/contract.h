/*
 * What the contract suite knows about a driver, and the small engine that it
 * is tried with. A case is one struct contract_case; a driver that writes
 * files under names needs a name and a url only:
 *
 *   { .name = "file", .url = "/tmp/somewhere/" }
 *
 * The environment variable HAUL_CONTRACT_URL ("sftp://joe@127.0.0.1:22/x/")
 * gives one from outside instead of all, for drivers that need a server;
 * HAUL_CONTRACT_IDENTITY and _KNOWN_HOSTS name the files to log in with, and
 * HAUL_CONTRACT_LATE says that it confirms objects as a whole.
 */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "drivers.h"
#include "gen.h"
#include "membuf.h"
#include "ranges.h"
#include "registry.h"

#define CHUNK 65536u
#define SEED 42
#define PATIENCE_S 20
#define NOTES_MAX 64u
#define WRITES_MAX 64u

struct contract_case {
    const char *name;
    const char *url; /* the name is put behind; NULL: endpoint() */
    bool virtual_time;
    bool nameless; /* no names: nothing to stat, clobber, discard */
    bool late;     /* HL_CAP_LATE as a whole: nothing to go on with */
    bool outside;  /* may refuse to write in place */
    bool skips;    /* takes nothing twice, wherever a write begins */
    bool forgets;  /* loses half of 8 chunks with the 8th, once: is asked for
                    * that only */
    /* Instead of a url: endpoint of one object. */
    int (*endpoint)(const struct hl_env *env, const char *name,
                    enum hl_role role, struct hl_endpoint **out,
                    struct hl_error *err);
};

/* One engine: loop, environment, one endpoint. */
struct engine {
    const struct contract_case *c;
    struct hl_env env;
    struct hl_opts *opts;
    struct hl_endpoint *ep;
    pthread_t thread;
    bool submitting;
    int outstanding;
};

/* One open object and what its driver reported. */
struct subject {
    struct engine *e;
    struct hl_object *obj;
    struct hl_url url;
    struct hl_ranges taken, acked;
    struct hl_ranges confirmed; /* as it was opened */
    uint64_t lost;              /* bytes */
    uint64_t skipped;           /* of writes */
    int gone;                   /* reports of HAUL_E_LOST */
    char *token;
    struct hl_note notes[NOTES_MAX]; /* that it asked to keep; texts are ours */
    size_t note_count;
    bool closed_mouth; /* after abort nothing may be reported */
    bool ended;        /* a write with part_end was taken */
    struct hl_layout layout;
    struct hl_identity identity;
};

/* An operation that knows whether it came back. */
struct tracked {
    struct subject *s;
    int returned;
    union {
        struct hl_op op;
        struct hl_stat stat;
        struct hl_open open;
        struct hl_io io;
        struct hl_commit commit;
        struct hl_suspend suspend;
    } u;
};

/* ---- The loop ----------------------------------------------------------- */

static inline void check_call(struct engine *e)
{
    assert_false(e->submitting);
    assert_true(pthread_equal(pthread_self(), e->thread));
}

static inline int no_secret(const struct hl_env *env, const char *what,
                            int echo, char *buf, size_t cap)
{
    (void)env, (void)what, (void)echo, (void)buf, (void)cap;
    return HAUL_E_AUTH;
}

static inline void no_warning(const struct hl_env *env,
                              const struct hl_error *warning)
{
    (void)env, (void)warning;
}

static inline void set_from_env(struct engine *e, int opt, const char *name)
{
    assert_int_equal(hl_opts_set_str(e->opts, 0, opt, getenv(name), NULL), 0);
}

static inline void engine_start(struct engine *e, const struct contract_case *c)
{
    memset(e, 0, sizeof(*e));
    e->c = c;
    e->thread = pthread_self();
    assert_int_equal(hl_loop_new(c->virtual_time, &e->env.loop, NULL), 0);
    assert_int_equal(hl_opts_new(&e->opts), 0);
    set_from_env(e, HAUL_OPT_IDENTITY, "HAUL_CONTRACT_IDENTITY");
    set_from_env(e, HAUL_OPT_KNOWN_HOSTS, "HAUL_CONTRACT_KNOWN_HOSTS");
    e->env.opts = e->opts;
    e->env.virtual_time = c->virtual_time;
    e->env.library_bytes_max = 64u << 20;
    e->env.secret = no_secret;
    e->env.warn = no_warning;
    e->env.find = hl_registry_find;
}

static inline void engine_end(struct engine *e)
{
    assert_int_equal(e->outstanding, 0);
    if (e->ep)
        e->ep->driver->endpoint_free(e->ep);
    hl_loop_free(e->env.loop);
    hl_opts_free(e->opts);
}

static inline time_t now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

/* Steps until *value >= want; fails when that cannot happen any more. */
static inline void wait_for(struct engine *e, const int *value, int want)
{
    time_t end = now_s() + PATIENCE_S;

    while (*value < want) {
        if (!hl_loop_step(e->env.loop, 100) && e->env.virtual_time)
            fail_msg("%s: nothing can happen any more", e->c->name);
        if (now_s() > end)
            fail_msg("%s: not done within %d s", e->c->name, PATIENCE_S);
    }
}

/* Steps while something is on its way that nobody waits for. */
static inline void settle(struct engine *e)
{
    int i;

    for (i = 0; i < 20; i++)
        hl_loop_step(e->env.loop, e->env.virtual_time ? 0 : 2);
}

/* ---- Objects ------------------------------------------------------------ */

static inline void on_acked(void *user, uint64_t offset, uint64_t len)
{
    struct subject *s = user;

    check_call(s->e);
    assert_false(s->closed_mouth);
    assert_true(hl_ranges_contains(&s->taken, offset, offset + len));
    assert_int_equal(hl_ranges_overlap(&s->acked, offset, offset + len), 0);
    assert_int_equal(hl_ranges_add(&s->acked, offset, offset + len), 0);
    if (s->layout.caps & HL_CAP_LATE)
        assert_true(s->ended);
}

static inline void on_lost(void *user, uint64_t offset, uint64_t len,
                           const struct hl_error *error)
{
    struct subject *s = user;

    check_call(s->e);
    assert_false(s->closed_mouth);
    assert_int_not_equal(error->code, 0);
    if (error->code == HAUL_E_LOST) {
        s->gone++;
        return;
    }
    assert_true(hl_ranges_contains(&s->taken, offset, offset + len));
    assert_int_equal(hl_ranges_overlap(&s->acked, offset, offset + len), 0);
    hl_ranges_remove(&s->taken, offset, offset + len);
    s->lost += len;
}

static inline void on_token(void *user, const char *token)
{
    struct subject *s = user;

    check_call(s->e);
    assert_false(s->closed_mouth);
    hl_free(s->token);
    s->token = hl_strdup(token);
    if (s->obj->driver->token_saved)
        s->obj->driver->token_saved(s->obj, 0);
}

static inline void free_notes(struct hl_note *notes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hl_free((void *)(uintptr_t)notes[i].text);
}

static inline void on_note(void *user, uint64_t part, const char *note)
{
    struct subject *s = user;
    size_t i;

    check_call(s->e);
    assert_false(s->closed_mouth);
    for (i = 0; i < s->note_count && s->notes[i].part < part; i++)
        ;
    if (i == s->note_count || s->notes[i].part != part) {
        assert_true(s->note_count < NOTES_MAX);
        memmove(&s->notes[i + 1], &s->notes[i],
                (s->note_count - i) * sizeof(s->notes[0]));
        s->note_count++;
    } else {
        free_notes(&s->notes[i], 1);
    }
    s->notes[i].part = part;
    s->notes[i].text = hl_strdup(note);
    assert_non_null(s->notes[i].text);
    if (s->obj->driver->note_saved)
        s->obj->driver->note_saved(s->obj, part, 0);
}

static const struct hl_object_events subject_events = {
    .acked = on_acked, .lost = on_lost, .token = on_token, .note = on_note};

static inline void subject_url(struct subject *s, const char *name)
{
    char text[512];

    snprintf(text, sizeof(text), "%s%s", s->e->c->url, name);
    assert_int_equal(hl_url_parse(text, &s->url, NULL), 0);
}

/* The endpoint of a nameless case has one object. */
static inline void subject_new(struct engine *e, struct subject *s,
                               const char *name, enum hl_role role)
{
    struct hl_error err = {0};
    const struct hl_driver *d;
    int rc = 0;

    memset(s, 0, sizeof(*s));
    s->e = e;
    hl_ranges_init(&s->taken);
    hl_ranges_init(&s->acked);
    hl_ranges_init(&s->confirmed);
    if (e->c->url)
        subject_url(s, name);
    if (e->ep && !e->c->url) {
        e->ep->driver->endpoint_free(e->ep);
        e->ep = NULL;
    }
    if (!e->ep && e->c->url) {
        d = hl_registry_find(s->url.scheme);
        assert_non_null(d);
        rc = d->endpoint_new(&e->env, &s->url, &e->ep, &err);
    } else if (!e->ep) {
        rc = e->c->endpoint(&e->env, name, role, &e->ep, &err);
    }
    if (!rc)
        rc = e->ep->driver->object_new(e->ep, e->c->url ? &s->url : NULL, role,
                                       &s->obj, &err);
    if (rc)
        fail_msg("%s: %s", e->c->name, err.message);
    s->obj->events = &subject_events;
    s->obj->events_user = s;
}

/* ---- Operations --------------------------------------------------------- */

static inline void tracked_done(struct hl_op *op)
{
    struct tracked *t = op->user;

    check_call(t->s->e);
    assert_int_equal(t->returned, 0);
    assert_true(op->rc <= 0);
    assert_int_equal(op->rc, op->error.code);
    t->returned++;
    t->s->e->outstanding--;
}

static inline void write_done(struct hl_op *op)
{
    struct tracked *t = op->user;
    const struct hl_io *io = &t->u.io;

    tracked_done(op);
    if (op->rc)
        return;
    assert_true(io->skipped <= io->len);
    t->s->skipped += io->skipped;
    assert_int_equal(
        hl_ranges_add(&t->s->taken, io->offset, io->offset + io->len), 0);
    t->s->ended = t->s->ended || io->part_end;
}

static inline struct tracked *tracked_init(struct tracked *t, struct subject *s)
{
    memset(t, 0, sizeof(*t));
    t->s = s;
    t->u.op.done = tracked_done;
    t->u.op.user = t;
    s->e->outstanding++;
    return t;
}

/* Hands over, waits, gives the result. */
#define RUN(s, t, call) ((s)->e->submitting = true, (call), tracked_wait(s, t))

static inline int tracked_wait(struct subject *s, struct tracked *t)
{
    s->e->submitting = false;
    wait_for(s->e, &t->returned, 1);
    return t->u.op.rc;
}

static inline void subject_abort(struct subject *s)
{
    struct tracked t;

    tracked_init(&t, s);
    assert_int_equal(RUN(s, &t, hl_driver_abort(s->obj, &t.u.op)), 0);
    s->closed_mouth = true;
    settle(s->e);
}

static inline void subject_free(struct subject *s)
{
    s->obj->driver->close(s->obj);
    hl_ranges_fini(&s->taken);
    hl_ranges_fini(&s->acked);
    hl_ranges_fini(&s->confirmed);
    free_notes(s->notes, s->note_count);
    hl_free(s->token);
    hl_url_fini(&s->url);
}

/* Abort and close, as the engine always does. */
static inline void subject_end(struct subject *s)
{
    subject_abort(s);
    subject_free(s);
}

/* For tests of what not every protocol can do. */
static inline bool refuses_place(const struct subject *s, int rc)
{
    return (s->e->c->outside && rc == HAUL_E_NOTSUP) ||
           (s->layout.caps & HL_CAP_LATE);
}

/* how: fields of struct hl_open to begin with, or NULL. */
static inline int subject_open(struct subject *s, const struct hl_open *how)
{
    struct tracked t;
    struct hl_op base;
    int rc;

    tracked_init(&t, s);
    base = t.u.op;
    if (how)
        t.u.open = *how;
    t.u.op = base;
    t.u.open.chunk_size = CHUNK;
    t.u.open.hold_max = UINT64_MAX;
    t.u.open.confirmed = &s->confirmed;
    if (!t.u.open.id)
        t.u.open.id = "0123456789abcdef";
    rc = RUN(s, &t, hl_driver_open(s->obj, &t.u.open));
    s->layout = t.u.open.layout;
    s->identity = t.u.open.identity;
    return rc;
}

static inline bool is_late(const struct subject *s)
{
    return (s->layout.caps & HL_CAP_LATE) && !s->layout.parts.size;
}

/* The part that holds offset, as cursor.h says; of a LATE object without parts
 * all of it. */
static inline uint64_t part_at(const struct subject *s, uint64_t offset,
                               uint64_t size, uint64_t *begin, uint64_t *end)
{
    const struct hl_parts chunks = {.size = CHUNK}, *p = &s->layout.parts;
    uint64_t part;

    p = p->size ? p : &chunks;
    part = hl_parts_index(p, offset);
    *begin = hl_parts_begin(p, part);
    *end = hl_min(hl_parts_begin(p, part + 1), size);
    if (!is_late(s))
        return part;
    *begin = 0;
    *end = size;
    return 0;
}

static inline struct tracked *submit_write(struct subject *s, uint64_t offset,
                                           uint32_t len, uint64_t size,
                                           uint8_t *data)
{
    struct tracked *t = malloc(sizeof(*t));
    uint64_t begin, end;

    assert_non_null(t);
    tracked_init(t, s);
    t->u.op.done = write_done;
    t->u.io.offset = offset;
    t->u.io.len = len;
    t->u.io.data = data;
    t->u.io.part = part_at(s, offset, size, &begin, &end);
    t->u.io.part_end = offset + len == end;
    s->e->submitting = true;
    hl_driver_write(s->obj, &t->u.io);
    s->e->submitting = false;
    return t;
}

/* Is everything acknowledged that was taken, and can be: of a LATE target,
 * parts that were taken as a whole? */
static inline bool is_acked(const struct subject *s, uint64_t size)
{
    uint64_t at = 0, begin, end;
    struct hl_range r;

    while (hl_ranges_next(&s->taken, at, &r)) {
        part_at(s, r.begin, size, &begin, &end);
        at = r.end;
        if (s->layout.caps & HL_CAP_LATE) {
            at = end;
            if (!hl_ranges_contains(&s->taken, begin, end))
                continue;
            r = (struct hl_range){begin, end};
        }
        if (!hl_ranges_contains(&s->acked, r.begin, r.end))
            return false;
    }
    return true;
}

static inline void wait_acked(struct subject *s, uint64_t size)
{
    time_t end = now_s() + PATIENCE_S;

    while (!is_acked(s, size)) {
        if (!hl_loop_step(s->e->env.loop, 100) && s->e->env.virtual_time)
            fail_msg("%s: %llu bytes of %llu acknowledged", s->e->c->name,
                     (unsigned long long)s->acked.bytes,
                     (unsigned long long)s->taken.bytes);
        if (now_s() > end)
            fail_msg("%s: no acknowledgement within %d s", s->e->c->name,
                     PATIENCE_S);
    }
}

/* Hands over [begin, end) of the generated bytes in chunks (and what is left of
 * one), all at once, from the last to the first unless the driver wants order.
 * Returns how many; data and t have room. */
static inline size_t submit_range(struct subject *s, uint64_t begin,
                                  uint64_t end, uint64_t size, uint8_t *data,
                                  struct tracked **t)
{
    uint64_t first = begin / CHUNK;
    size_t i, n = (size_t)((end + CHUNK - 1) / CHUNK - first);

    assert_true(n <= WRITES_MAX);
    hl_gen_fill(SEED, false, begin, data, (size_t)(end - begin));
    for (i = 0; i < n; i++) {
        size_t at = s->layout.caps & HL_CAP_ORDERED ? i : n - 1 - i;
        uint64_t from = hl_max(begin, (first + at) * CHUNK);
        uint64_t to = hl_min(end, (first + at + 1) * CHUNK);

        t[i] = submit_write(s, from, (uint32_t)(to - from), size,
                            data + (from - begin));
    }
    return n;
}

/* The same, and waits until it is acknowledged, or taken when that is all that
 * can be had. */
static inline void write_range(struct subject *s, uint64_t begin, uint64_t end,
                               uint64_t size)
{
    struct tracked *t[WRITES_MAX];
    uint8_t *data = NULL;
    size_t i, n;

    if (begin == end)
        return;
    assert_int_equal(
        posix_memalign((void **)&data, 4096, (WRITES_MAX + 1) * CHUNK), 0);
    n = submit_range(s, begin, end, size, data, t);
    for (i = 0; i < n; i++) {
        wait_for(s->e, &t[i]->returned, 1);
        if (t[i]->u.op.rc)
            fail_msg("%s: %s", s->e->c->name, t[i]->u.op.error.message);
        free(t[i]);
    }
    free(data);
    wait_acked(s, size);
}

/* Everything that it did not say to have. */
static inline void write_rest(struct subject *s, uint64_t size)
{
    struct hl_range hole;
    uint64_t at = 0;

    while (hl_ranges_next_hole(&s->confirmed, at, size, &hole)) {
        write_range(s, hole.begin, hole.end, size);
        at = hole.end;
    }
}

static inline int subject_commit(struct subject *s, uint64_t size,
                                 bool no_clobber)
{
    struct tracked t;

    tracked_init(&t, s);
    t.u.commit.size = size;
    t.u.commit.mtime_ns = 1700000000 * (int64_t)HL_NS_PER_S;
    t.u.commit.mode = 0640;
    t.u.commit.no_clobber = no_clobber;
    return RUN(s, &t, hl_driver_commit(s->obj, &t.u.commit));
}

/* A committed target of size generated bytes. */
static inline void make_object(struct engine *e, const char *name,
                               uint64_t size)
{
    struct hl_open how = {.size = size};
    struct subject s;

    subject_new(e, &s, name, HL_ROLE_TARGET);
    assert_int_equal(subject_open(&s, &how), 0);
    write_range(&s, 0, size, size);
    assert_int_equal(subject_commit(&s, size, false), 0);
    subject_end(&s);
}

/* What stands under a name. */
static inline struct hl_stat stat_name(struct engine *e, const char *name)
{
    struct subject s;
    struct tracked t;

    subject_new(e, &s, name, HL_ROLE_TARGET);
    tracked_init(&t, &s);
    assert_int_equal(RUN(&s, &t, hl_driver_stat(s.obj, &t.u.stat)), 0);
    subject_end(&s);
    return t.u.stat;
}

/* Reads until len bytes or the end, however short the reads are. Returns
 * bytes got, or an error. */
static inline int64_t read_all(struct subject *s, uint64_t offset,
                               uint8_t *data, uint32_t len, bool *eof)
{
    uint32_t got = 0;
    struct tracked t;
    int rc;

    *eof = false;
    while (got < len && !*eof) {
        tracked_init(&t, s);
        t.u.io.offset = offset + got;
        t.u.io.len = len - got;
        t.u.io.run_end = offset + len;
        t.u.io.data = data + got;
        rc = RUN(s, &t, hl_driver_read(s->obj, &t.u.io));
        if (rc)
            return rc;
        assert_true(t.u.io.done <= len - got);
        assert_true(t.u.io.done > 0 || t.u.io.eof);
        got += t.u.io.done;
        *eof = t.u.io.eof;
    }
    return got;
}

/* The object under name is size generated bytes of seed, no more, no less. */
static inline void check_object(struct engine *e, const char *name,
                                uint64_t seed, uint64_t size)
{
    uint32_t room = (uint32_t)size + 100;
    uint8_t *got, *want;
    struct subject s;
    bool eof;

    subject_new(e, &s, name, HL_ROLE_SOURCE);
    assert_int_equal(subject_open(&s, NULL), 0);
    assert_true(posix_memalign((void **)&got, 4096, room) == 0);
    want = malloc(room);
    assert_non_null(want);
    hl_gen_fill(seed, false, 0, want, size);
    assert_int_equal(read_all(&s, 0, got, room, &eof), size);
    assert_true(eof);
    assert_memory_equal(got, want, size);
    free(got);
    free(want);
    subject_end(&s);
}

/* ---- Tests -------------------------------------------------------------- */

static struct engine engine;
static int64_t live_before;

static inline struct engine *start(void **state)
{
    live_before = hl_mem_live();
    engine_start(&engine, *state);
    return &engine;
}

static inline void end(struct engine *e)
{
    engine_end(e);
    hl_membuf_reset();
    assert_int_equal(hl_mem_live(), live_before);
}

/* As another process. */
static inline void forget_endpoint(struct engine *e)
{
    e->ep->driver->endpoint_free(e->ep);
    e->ep = NULL;
}

/* Names that this run has not used, in one case's folder. */
static inline const char *fresh_name(void)
{
    static char name[64];
    static int count;

    snprintf(name, sizeof(name), "o%d-%d", (int)getpid(), ++count);
    return name;
}

#define NAME(var)                                                              \
    char var[64];                                                              \
    snprintf(var, sizeof(var), "%s", fresh_name())

/* What the state store would have of a target that was left. */
struct left {
    char *token;
    struct hl_note notes[NOTES_MAX];
    size_t note_count;
    struct hl_ranges acked;
};

/* Takes it out of s. */
static inline void keep_left(struct left *l, struct subject *s)
{
    memset(l, 0, sizeof(*l));
    l->token = s->token;
    l->note_count = s->note_count;
    l->acked = s->acked;
    memcpy(l->notes, s->notes, sizeof(l->notes));
    s->token = NULL;
    s->note_count = 0;
    hl_ranges_init(&s->acked);
}

static inline void free_left(struct left *l)
{
    free_notes(l->notes, l->note_count);
    hl_ranges_fini(&l->acked);
    hl_free(l->token);
}

/* Begins name, writes [0, written) and lets it go in order. */
static inline void leave_unfinished(struct engine *e, const char *name,
                                    const struct hl_open *how, uint64_t written,
                                    struct left *l)
{
    struct subject s;
    struct tracked t;

    subject_new(e, &s, name, HL_ROLE_TARGET);
    assert_int_equal(subject_open(&s, how), 0);
    write_range(&s, 0, written, how->size);
    tracked_init(&t, &s);
    t.u.suspend.contiguous = written;
    assert_int_equal(RUN(&s, &t, hl_driver_suspend(s.obj, &t.u.suspend)), 0);
    subject_abort(&s);
    keep_left(l, &s);
    subject_free(&s);
}

/* Opens what was left, as another process. */
static inline int open_left(struct engine *e, struct subject *s,
                            const char *name, struct hl_open how,
                            const struct left *l)
{
    if (e->ep && e->c->url)
        forget_endpoint(e);
    how.resume = true;
    how.token = l->token;
    how.notes = l->notes;
    how.note_count = l->note_count;
    subject_new(e, s, name, HL_ROLE_TARGET);
    return subject_open(s, &how);
}

#endif /* CONTRACT_H */
