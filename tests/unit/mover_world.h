/* A mover over a source and a target that do what the test says, in virtual
 * time: the target's parts have speeds of their own, break, answer late, have
 * more than they said, lose what they had. Everything that io.h promises to a
 * target is asserted. */
#ifndef MOVER_WORLD_H
#define MOVER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "digest.h"
#include "gen.h"
#include "mover.h"

#define CHUNK (UINT64_C(64) << 10)
#define MS HL_NS_PER_MS
#define SEED 7
#define PARTS_MAX 64u
#define BYTES_MAX (512 * CHUNK)

/* Of one part of the target, or (0) of the whole object. */
struct stream {
    struct world *w;
    struct hl_timer answer;
    uint64_t ns;       /* for a chunk */
    uint64_t free_ns;  /* when what it has is through */
    uint64_t next;     /* ordered: offset of the next write */
    uint64_t break_at; /* the write of this byte fails, once; 0 never */
    uint64_t keeps;    /* so many bytes of what breaks arrived all the same */
    uint64_t
        late_break_at; /* the same, when all of the write is acknowledged */
    bool open, broken;
    uint64_t opened_ns, done_ns;
};

struct world {
    struct hl_loop *loop;
    struct hl_pool *pool;
    struct hl_workers *workers;
    struct hl_random random;
    struct hl_env env;
    struct hl_endpoint source_ep, target_ep;
    struct hl_object source, target;
    struct hl_mover_config c;
    struct hl_mover *m;
    struct hl_mover_stats stats;

    uint64_t source_size;
    uint64_t read_ns;   /* a read takes that long */
    uint64_t answer_ns; /* LATE: from the last byte of a part to its answer */
    struct stream streams[PARTS_MAX];
    /* What the target has; what it took and did not report; what it said that
     * it has. */
    struct hl_ranges had, taken, acked;
    struct hl_list waits;
    uint32_t open, open_most;
    uint64_t lose_at; /* this byte is answered with HAUL_E_LOST; 0 never */
    bool lose_by_report;
    uint32_t writes, retries, chunks;
    uint64_t told; /* bytes of chunk() */
    uint64_t finished_ns;
    bool finished;
    int rc;
};

/* A write or a read that is under way. */
struct wait {
    struct hl_node node;
    struct hl_timer timer;
    struct world *w;
    struct hl_io *io;
};

static inline struct world *world_of(struct hl_object *obj)
{
    return obj->role == HL_ROLE_SOURCE
               ? HL_CONTAINER(obj, struct world, source)
               : HL_CONTAINER(obj, struct world, target);
}

static inline uint64_t now_of(const struct world *w)
{
    return hl_loop_now(w->loop);
}

static inline struct hl_io *end_wait(struct wait *wait)
{
    struct hl_io *io = wait->io;

    hl_timer_cancel(&wait->timer);
    hl_list_remove(&wait->node);
    free(wait);
    return io;
}

static inline void begin_wait(struct world *w, struct hl_io *io, uint64_t at,
                              void (*fn)(struct hl_timer *timer))
{
    struct wait *wait = calloc(1, sizeof(*wait));

    assert_non_null(wait);
    wait->w = w;
    wait->io = io;
    wait->timer.fn = fn;
    hl_list_append(&w->waits, &wait->node);
    hl_timer_set(w->loop, &wait->timer, at);
}

/* ---- The source --------------------------------------------------------- */

static inline void read_due(struct hl_timer *timer)
{
    struct wait *wait = HL_CONTAINER(timer, struct wait, timer);
    struct world *w = wait->w;
    struct hl_io *io = end_wait(wait);
    uint64_t size = w->source_size;

    io->done =
        io->offset < size ? (uint32_t)hl_min(io->len, size - io->offset) : 0;
    io->eof = io->done < io->len;
    hl_gen_fill(SEED, false, io->offset, io->data, io->done);
    hl_op_finish(w->loop, &io->op, 0);
}

static inline void world_read(struct hl_object *obj, struct hl_io *io)
{
    struct world *w = world_of(obj);

    begin_wait(w, io, now_of(w) + w->read_ns, read_due);
}

/* ---- The target --------------------------------------------------------- */

static inline bool has_parts(const struct world *w)
{
    return w->c.layout.parts.size > 0;
}

static inline uint64_t part_at(const struct world *w, uint64_t offset)
{
    return has_parts(w) ? hl_parts_index(&w->c.layout.parts, offset) : 0;
}

static inline uint64_t part_begin(const struct world *w, uint64_t part)
{
    return has_parts(w) ? hl_parts_begin(&w->c.layout.parts, part) : 0;
}

static inline bool is_late(const struct world *w)
{
    return w->c.layout.caps & HL_CAP_LATE;
}

static inline void report_acked(struct world *w, uint64_t begin, uint64_t end)
{
    assert_int_equal(hl_ranges_overlap(&w->acked, begin, end), 0);
    assert_int_equal(hl_ranges_add(&w->acked, begin, end), 0);
    hl_object_acked(&w->target, begin, end - begin);
}

static inline void close_stream(struct world *w, struct stream *s)
{
    assert_true(s->open);
    s->open = false;
    w->open--;
    s->done_ns = now_of(w);
}

static inline uint64_t part_end(const struct world *w, uint64_t part)
{
    return has_parts(w) ? hl_min(part_begin(w, part + 1), w->source_size)
                        : w->source_size;
}

static inline void fail_write(struct world *w, struct hl_io *io, int code)
{
    hl_err(&io->op.error, code, 0, "it broke");
    hl_op_finish(w->loop, &io->op, code);
}

/* Everything of a part is lost that was taken and not acknowledged, and its
 * writes come back; of the first some may have arrived. */
static inline void break_stream(struct world *w, uint64_t part, int code)
{
    struct stream *s = &w->streams[part];
    uint64_t at = part_begin(w, part), end = part_end(w, part);
    struct hl_error err = {0};
    struct hl_node *n, *next;
    struct hl_range r;

    hl_err(&err, code, 0, "it broke");
    while (hl_ranges_next(&w->taken, at, &r) && r.begin < end) {
        at = hl_min(r.end, end);
        hl_ranges_remove(&w->taken, r.begin, at);
        hl_ranges_remove(&w->had, r.begin, at);
        hl_object_lost(&w->target, r.begin, at - r.begin, &err);
    }
    for (n = hl_list_first(&w->waits); n; n = next) {
        struct wait *wait = HL_CONTAINER(n, struct wait, node);

        next = hl_list_next(&w->waits, n);
        if (wait->timer.fn == read_due || part_at(w, wait->io->offset) != part)
            continue;
        at = wait->io->offset;
        hl_ranges_add(&w->had, at, at + hl_min(s->keeps, wait->io->len));
        s->keeps = 0;
        fail_write(w, end_wait(wait), code);
    }
    hl_timer_cancel(&s->answer);
    s->free_ns = 0;
    s->broken = true;
}

/* The answer of a part that is confirmed as a whole. */
static inline void answer_due(struct hl_timer *timer)
{
    struct stream *s = HL_CONTAINER(timer, struct stream, answer);
    uint64_t part = (uint64_t)(s - s->w->streams);
    uint64_t begin = part_begin(s->w, part), end = part_end(s->w, part);

    assert_true(hl_ranges_contains(&s->w->taken, begin, end));
    hl_ranges_remove(&s->w->taken, begin, end);
    report_acked(s->w, begin, end);
    close_stream(s->w, s);
}

static inline void check_bytes(const struct hl_io *io)
{
    static uint8_t want[CHUNK];

    assert_true(io->len <= CHUNK);
    hl_gen_fill(SEED, false, io->offset, want, io->len);
    assert_memory_equal(io->data, want, io->len);
}

/* What the target had already of a write's first bytes. */
static inline uint32_t had_of(const struct world *w, const struct hl_io *io)
{
    struct hl_range r;

    if (!hl_ranges_next(&w->had, io->offset, &r) || r.begin > io->offset)
        return 0;
    return (uint32_t)hl_min(io->len, r.end - io->offset);
}

static inline void write_due(struct hl_timer *timer)
{
    struct wait *wait = HL_CONTAINER(timer, struct wait, timer);
    struct world *w = wait->w;
    struct hl_io *io = end_wait(wait);
    uint64_t offset = io->offset, end = offset + io->len;
    uint64_t part = part_at(w, offset);
    struct stream *s = &w->streams[part];
    bool last = end == part_end(w, part);

    io->skipped = had_of(w, io);
    assert_int_equal(hl_ranges_add(&w->had, offset, end), 0);
    if (s->late_break_at && s->late_break_at >= offset &&
        s->late_break_at < end) {
        s->late_break_at = 0;
        report_acked(w, offset, end);
        s->broken = true;
        fail_write(w, io, HAUL_E_REMOTE_IO);
        return;
    }
    hl_op_finish(w->loop, &io->op, 0);
    if (is_late(w)) {
        assert_int_equal(hl_ranges_add(&w->taken, offset, end), 0);
        if (last)
            hl_timer_set(w->loop, &s->answer, now_of(w) + w->answer_ns);
        return;
    }
    report_acked(w, offset, end);
    if (hl_ranges_contains(&w->acked, part_begin(w, part), part_end(w, part)))
        close_stream(w, s);
}

static inline bool loses(struct world *w, struct hl_io *io)
{
    struct hl_error err = {0};

    if (!w->lose_at || w->lose_at < io->offset ||
        w->lose_at >= io->offset + io->len)
        return false;
    w->lose_at = 0;
    hl_err(&err, HAUL_E_LOST, 0, "it is gone");
    if (w->lose_by_report) {
        hl_object_lost(&w->target, 0, io->offset, &err);
        return false;
    }
    w->streams[part_at(w, io->offset)].broken = true;
    io->op.error = err;
    hl_op_finish(w->loop, &io->op, HAUL_E_LOST);
    return true;
}

/* Where a broken part goes on. */
static inline uint64_t restart_at(const struct world *w, uint64_t part)
{
    uint64_t begin = part_begin(w, part);
    struct hl_range hole;

    if (is_late(w))
        return begin;
    assert_true(
        hl_ranges_next_hole(&w->acked, begin, part_end(w, part), &hole));
    return hole.begin;
}

/* false: the part is broken, and the engine does not know it yet. */
static inline bool enter_stream(struct world *w, struct stream *s,
                                const struct hl_io *io)
{
    if (s->broken && io->offset != restart_at(w, io->part))
        return false;
    if (!s->open) {
        s->open = true;
        s->opened_ns = now_of(w);
        w->open++;
        w->open_most = (uint32_t)hl_max(w->open_most, w->open);
        s->broken = true;
    }
    if (s->broken)
        s->next = restart_at(w, io->part);
    s->broken = false;
    if (w->c.layout.caps & HL_CAP_ORDERED)
        assert_int_equal(io->offset, s->next);
    s->next = io->offset + io->len;
    return true;
}

static inline void world_write(struct hl_object *obj, struct hl_io *io)
{
    struct world *w = world_of(obj);
    uint64_t part = part_at(w, io->offset), end = io->offset + io->len;
    struct stream *s = &w->streams[part];

    w->writes++;
    check_bytes(io);
    assert_true(part < PARTS_MAX);
    if (has_parts(w) || (w->c.layout.caps & HL_CAP_ORDERED))
        assert_int_equal(io->part, part);
    assert_true(end <= part_end(w, part));
    if (w->c.layout.caps & HL_CAP_ORDERED)
        assert_int_equal(io->part_end, end == part_end(w, part));
    if (loses(w, io))
        return;
    if (!enter_stream(w, s, io)) {
        fail_write(w, io, HAUL_E_RESET);
        return;
    }
    s->free_ns = hl_max(s->free_ns, now_of(w)) + s->ns * io->len / CHUNK;
    begin_wait(w, io, s->free_ns, write_due);
    if (s->break_at && s->break_at >= io->offset && s->break_at < end) {
        s->break_at = 0;
        break_stream(w, part, HAUL_E_RESET);
    }
}

/* ---- Both --------------------------------------------------------------- */

static inline void world_abort(struct hl_object *obj, struct hl_op *op)
{
    struct world *w = world_of(obj);
    struct hl_node *n, *next;

    for (n = hl_list_first(&w->waits); n; n = next) {
        struct wait *wait = HL_CONTAINER(n, struct wait, node);
        bool read = wait->timer.fn == read_due;
        struct hl_io *io;

        next = hl_list_next(&w->waits, n);
        if (read != (obj->role == HL_ROLE_SOURCE))
            continue;
        io = end_wait(wait);
        hl_op_finish(w->loop, &io->op, HAUL_E_CANCELED);
    }
    for (uint32_t i = 0; i < PARTS_MAX && obj->role == HL_ROLE_TARGET; i++)
        hl_timer_cancel(&w->streams[i].answer);
    hl_op_finish(w->loop, op, 0);
}

static inline void world_flow(struct hl_endpoint *ep, struct hl_flow *out)
{
    (void)ep;
    memset(out, 0, sizeof(*out));
}

static const struct hl_driver world_driver = {
    .name = "world",
    .read = world_read,
    .write = world_write,
    .abort = world_abort,
};

/* As a network: as much may be read ahead as fits. */
static const struct hl_driver far_driver = {
    .name = "far",
    .read = world_read,
    .write = world_write,
    .abort = world_abort,
    .flow = world_flow,
};

/* ---- The mover ---------------------------------------------------------- */

static inline void on_chunk(void *user, const struct hl_slice *s,
                            const uint8_t *digest)
{
    struct world *w = user;

    (void)digest;
    w->chunks++;
    w->told += s->len;
}

static inline int on_taken(void *user, const struct hl_slice *s,
                           const uint8_t *digest)
{
    (void)user, (void)s, (void)digest;
    return 0;
}

static inline const uint8_t *no_digest(void *user, uint64_t offset)
{
    (void)user, (void)offset;
    return NULL;
}

static inline void on_retry(void *user, const struct hl_error *err)
{
    struct world *w = user;

    assert_int_not_equal(err->code, HAUL_E_LOST);
    w->retries++;
}

static inline void on_token(void *user, const char *token)
{
    (void)user, (void)token;
}

static inline void on_note(void *user, uint64_t part, const char *note)
{
    (void)user, (void)part, (void)note;
}

static inline void on_finished(void *user, int rc, const struct hl_error *err)
{
    struct world *w = user;

    if (rc)
        assert_int_equal(rc, err->code);
    w->finished = true;
    w->finished_ns = now_of(w);
    w->rc = rc;
}

static const struct hl_mover_events world_events = {
    .chunk = on_chunk,
    .taken = on_taken,
    .digest = no_digest,
    .retry = on_retry,
    .token = on_token,
    .note = on_note,
    .finished = on_finished,
};

/* memory: chunks. */
static inline void world_begin(struct world *w, uint64_t size, uint64_t memory)
{
    memset(w, 0, sizeof(*w));
    w->random.state = 1;
    assert_int_equal(hl_loop_new(true, &w->loop, NULL), 0);
    assert_int_equal(hl_pool_new(memory * CHUNK, &w->pool), 0);
    assert_int_equal(hl_workers_new(w->loop, 0, &w->workers, NULL), 0);
    w->env.loop = w->loop;
    w->source_size = size;
    w->source_ep.env = w->target_ep.env = &w->env;
    w->source = (struct hl_object){.driver = &world_driver,
                                   .endpoint = &w->source_ep,
                                   .role = HL_ROLE_SOURCE};
    w->target = (struct hl_object){.driver = &world_driver,
                                   .endpoint = &w->target_ep,
                                   .role = HL_ROLE_TARGET};
    hl_list_init(&w->waits);
    hl_ranges_init(&w->had);
    hl_ranges_init(&w->taken);
    hl_ranges_init(&w->acked);
    for (uint32_t i = 0; i < PARTS_MAX; i++)
        w->streams[i] =
            (struct stream){.w = w, .ns = 10 * MS, .answer.fn = answer_due};
    w->c = (struct hl_mover_config){
        .loop = w->loop,
        .pool = w->pool,
        .workers = w->workers,
        .random = &w->random,
        .source = &w->source,
        .target = &w->target,
        .size = size,
        .chunk_size = CHUNK,
        .source_caps = HL_CAP_SEEK,
        .layout.caps = HL_CAP_SEEK | HL_CAP_ORDERED,
        .digest = hl_digest_find("xxh128"),
        .policy = {.retries = 10, .first_tries = 4, .give_up_ns = 600000 * MS},
        .stall_ns = 600000 * MS,
        .events = &world_events,
        .user = w,
    };
}

static inline void world_start(struct world *w, uint32_t parts)
{
    assert_int_equal(hl_mover_new(&w->c, &w->m, NULL), 0);
    hl_mover_set_parts(w->m, parts);
}

static inline void world_run(struct world *w)
{
    int steps = 0;

    alarm(30); /* a loop inside a step is found as well */
    while (!w->finished) {
        assert_true(++steps < 1000000);
        hl_loop_step(w->loop, -1);
    }
    alarm(0);
    hl_mover_stats(w->m, &w->stats);
}

static inline void world_end(struct world *w)
{
    hl_mover_free(w->m);
    assert_true(hl_list_empty(&w->waits));
    assert_int_equal(hl_pool_used(w->pool), 0);
    hl_ranges_fini(&w->had);
    hl_ranges_fini(&w->taken);
    hl_ranges_fini(&w->acked);
    hl_workers_free(w->workers);
    hl_pool_free(w->pool);
    hl_loop_free(w->loop);
    assert_int_equal(hl_mem_live(), 0);
}

#endif /* MOVER_WORLD_H */
