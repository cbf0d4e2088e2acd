/* The mover: see mover.h. Runs on the engine thread only. */
#include "mover.h"

#include <string.h>

enum piece_state {
    PIECE_NONE,
    PIECE_REDO,      /* in m->redo, to be read again; no buffer */
    PIECE_READING,   /* at the source driver */
    PIECE_PARKED,    /* in m->parked until its turn in the whole digest */
    PIECE_DIGESTING, /* at the workers */
    PIECE_READY,     /* in m->ready, to be written */
    PIECE_WRITING,   /* at the target driver */
    PIECE_TAKEN      /* acknowledgements are outstanding */
};

/* A chunk on its way. */
struct piece {
    struct hl_node node;   /* m->redo, parked or ready; by offset */
    struct hl_node bucket; /* m->buckets, for acknowledgements */
    struct hl_mover *m;
    enum piece_state state;
    struct hl_slice slice;
    struct hl_buf *buf;
    struct hl_io io;
    struct hl_work work;
    struct hl_retry retry;
    uint64_t not_before_ns;
    uint32_t filled;   /* bytes read so far */
    uint32_t resolved; /* bytes of the write reported acked or lost */
    struct hl_error lost_error;
    bool in_lane;  /* this digest run feeds the whole digest too */
    bool digested; /* digest is of an earlier reading of the same bytes */
    bool sent;     /* was taken once already */
    uint8_t digest[HL_DIGEST_MAX], before[HL_DIGEST_MAX];
};

/* Where an ordered part is. */
struct lane {
    struct hl_node node;
    uint64_t part;
    uint64_t next;        /* offset of the next write */
    uint32_t outstanding; /* writes at the driver */
    bool broken;          /* waits for outstanding to come home */
};

/* One end of the way. */
struct end {
    struct hl_object *object;
    struct hl_retry retry;
    uint64_t hold_ns; /* outage: nothing is submitted before */
    uint32_t out;     /* operations at the driver */
    uint64_t wire_bytes;
    struct hl_op abort;
    bool aborting;
};

#define BUCKETS 1024u
#define PIECES_MAX 8192u
/* The whole digest and the chunk's are taken block by block, so that the
 * second finds the bytes in the cache. */
#define DIGEST_BLOCK (128u * 1024u)

struct hl_mover {
    struct hl_mover_config c;
    struct end source, target;
    struct hl_cursors *cursors;
    struct hl_ranges acked;
    struct hl_list redo, parked, ready, lanes;
    struct hl_list buckets[BUCKETS];
    uint32_t pieces, digesting;
    uint64_t size;
    uint64_t read_end; /* of the farthest byte read */
    struct hl_buf *spare;
    struct hl_pool_waiter waiter;
    bool waiting;
    uint64_t wait_since_ns, rate_since_ns;
    struct hl_timer timer, stall_timer;
    uint64_t wake_ns, progress_ns;
    void *whole_state;
    uint64_t whole_next, parked_bytes;
    bool whole, lane_busy, whole_final;
    uint8_t whole_digest[HL_DIGEST_MAX];
    bool stopping, finished;
    int code;
    struct hl_error error;
    struct hl_task finish;
    struct hl_mover_stats stats;
};

static void pump(struct hl_mover *m);
static void fail(struct hl_mover *m, int code, const struct hl_error *err);

static uint64_t now_ns(const struct hl_mover *m)
{
    return hl_loop_now(m->c.loop);
}

static bool can_seek(const struct hl_mover *m)
{
    return m->c.source_caps & HL_CAP_SEEK;
}

static bool is_ordered(const struct hl_mover *m)
{
    return m->c.target && (m->c.layout.caps & HL_CAP_ORDERED);
}

/* ---- Pieces ---------------------------------------------------------------- */

static struct hl_list *bucket_of(struct hl_mover *m, uint64_t offset)
{
    return &m->buckets[(offset / m->c.chunk_size) % BUCKETS];
}

static struct piece *find_piece(struct hl_mover *m, uint64_t offset)
{
    struct hl_list *l = bucket_of(m, offset);

    for (struct hl_node *n = hl_list_first(l); n; n = hl_list_next(l, n)) {
        struct piece *p = HL_CONTAINER(n, struct piece, bucket);

        if (offset >= p->slice.offset &&
            offset - p->slice.offset < p->slice.len)
            return p;
    }
    return NULL;
}

static struct piece *new_piece(struct hl_mover *m, const struct hl_slice *s)
{
    struct piece *p = hl_malloc(sizeof(*p));

    if (!p)
        return NULL;
    p->m = m;
    p->slice = *s;
    hl_list_append(bucket_of(m, s->offset), &p->bucket);
    m->pieces++;
    return p;
}

static void release_buffer(struct piece *p)
{
    struct hl_buf *buf = p->buf;

    p->buf = NULL;
    if (buf)
        hl_pool_put(p->m->c.pool, buf);
}

static void drop_piece(struct piece *p)
{
    if (hl_node_linked(&p->node))
        hl_list_remove(&p->node);
    hl_list_remove(&p->bucket);
    p->m->pieces--;
    release_buffer(p);
    hl_free(p);
}

/* Keeps the list in ascending order of offsets; pieces mostly come that way,
 * so the search from the end is short. */
static void insert_piece(struct hl_list *l, struct piece *p)
{
    struct hl_node *n = l->head.prev;

    while (n != &l->head &&
           HL_CONTAINER(n, struct piece, node)->slice.offset >
               p->slice.offset)
        n = n->prev;
    hl_list_insert(n->next, &p->node);
}

static void set_ready(struct piece *p)
{
    p->state = PIECE_READY;
    insert_piece(&p->m->ready, p);
}

/* The bytes are wanted again: from the buffer while it is there. */
static void set_again(struct piece *p)
{
    struct hl_mover *m = p->m;

    if (p->buf && p->filled == p->slice.len) {
        set_ready(p);
        return;
    }
    release_buffer(p);
    p->filled = 0;
    p->state = PIECE_REDO;
    insert_piece(&m->redo, p);
}

static void progressed(struct hl_mover *m)
{
    m->progress_ns = now_ns(m);
}

/* ---- Lanes: ordered parts -------------------------------------------------- */

static struct lane *find_lane(struct hl_mover *m, uint64_t part)
{
    for (struct hl_node *n = hl_list_first(&m->lanes); n;
         n = hl_list_next(&m->lanes, n)) {
        struct lane *l = HL_CONTAINER(n, struct lane, node);

        if (l->part == part)
            return l;
    }
    return NULL;
}

static uint64_t part_of(const struct hl_mover *m, uint64_t offset)
{
    return m->c.layout.part_size ? offset / m->c.layout.part_size : 0;
}

static void part_bounds(const struct hl_mover *m, uint64_t part,
                        uint64_t *begin, uint64_t *end)
{
    uint64_t part_size = m->c.layout.part_size;

    *begin = part * part_size;
    *end = m->size;
    if (part_size && m->size - *begin > part_size)
        *end = *begin + part_size;
}

/* Where writing goes on: the first byte of the part at or after from that is
 * neither confirmed nor in the driver's hands. */
static uint64_t lane_next(struct hl_mover *m, uint64_t part, uint64_t from)
{
    struct hl_range hole;
    uint64_t begin, end;

    part_bounds(m, part, &begin, &end);
    begin = hl_max(begin, from);
    while (hl_ranges_next_hole(&m->acked, begin, end, &hole)) {
        struct piece *p = find_piece(m, hole.begin);

        if (!p || (p->state != PIECE_TAKEN && p->state != PIECE_WRITING))
            return hole.begin;
        begin = p->io.offset + p->io.len;
    }
    return end;
}

static struct lane *get_lane(struct hl_mover *m, uint64_t offset)
{
    uint64_t part = part_of(m, offset);
    struct lane *l = find_lane(m, part);

    if (l)
        return l;
    l = hl_malloc(sizeof(*l));
    if (!l) {
        fail(m, HAUL_E_NOMEM, NULL);
        return NULL;
    }
    l->part = part;
    l->next = lane_next(m, part, 0);
    hl_list_append(&m->lanes, &l->node);
    return l;
}

/* Goes on after a break, once every write of the part is home. */
static void mend_lane(struct hl_mover *m, struct lane *l)
{
    if (!l->broken || l->outstanding)
        return;
    l->broken = false;
    l->next = lane_next(m, l->part, 0);
}

/* A write of the lane at offset came home. */
static void lane_home(struct hl_mover *m, uint64_t offset, bool good)
{
    struct lane *l = is_ordered(m) ? find_lane(m, part_of(m, offset)) : NULL;

    if (!l)
        return;
    HL_ASSERT(l->outstanding > 0);
    l->outstanding--;
    l->broken = l->broken || !good;
    mend_lane(m, l);
}

/* Bytes that were taken at offset are lost. */
static void lane_lost(struct hl_mover *m, uint64_t offset)
{
    struct lane *l = is_ordered(m) ? find_lane(m, part_of(m, offset)) : NULL;

    if (!l)
        return;
    l->broken = true;
    mend_lane(m, l);
}

/* ---- Done pieces ----------------------------------------------------------- */

static void check_part_done(struct hl_mover *m, uint64_t offset)
{
    uint64_t begin, end, part = part_of(m, offset);
    struct lane *l;

    if (!m->c.layout.part_size)
        return;
    part_bounds(m, part, &begin, &end);
    if (!hl_ranges_contains(&m->acked, begin, end))
        return;
    if (can_seek(m))
        hl_cursors_part_done(m->cursors, part);
    l = find_lane(m, part);
    if (l) {
        hl_list_remove(&l->node);
        hl_free(l);
    }
}

static void complete(struct piece *p)
{
    struct hl_mover *m = p->m;
    struct hl_slice slice = p->slice;
    uint8_t digest[HL_DIGEST_MAX];

    memcpy(digest, p->digest, sizeof(digest));
    drop_piece(p);
    check_part_done(m, slice.offset);
    m->c.events->chunk(m->c.user, &slice, m->c.digest ? digest : NULL);
}

static int mark_acked(struct hl_mover *m, uint64_t begin, uint64_t end)
{
    if (hl_ranges_add(&m->acked, begin, end) == 0)
        return 0;
    fail(m, HAUL_E_NOMEM, NULL);
    return HAUL_E_NOMEM;
}

/* ---- Failures -------------------------------------------------------------- */

static void report_retry(struct hl_mover *m, int code,
                         const struct hl_error *err, uint32_t tries)
{
    struct hl_error e = *err;

    if (!e.code)
        hl_err(&e, code, 0, "%s", haul_err_text(code));
    e.attempts = tries;
    m->stats.retries++;
    HL_TRACE(m->c.log, HL_AREA_ENGINE, "retry: %s", e.message);
    m->c.events->retry(m->c.user, &e);
}

/*
 * A read or write of p came back with code. Decides by class: an outage holds
 * the whole end back, anything else that may be repeated holds the piece.
 * The piece is then wanted again, or the mover fails.
 */
static void piece_failed(struct piece *p, struct end *end, int code,
                         const struct hl_error *err)
{
    struct hl_mover *m = p->m;
    uint64_t at = 0, now = now_ns(m);
    bool again = true;

    if (m->stopping) {
        drop_piece(p);
        return;
    }
    if (end == &m->source && !can_seek(m)) {
        again = false;
    } else if (hl_err_retry_class(code) == HL_RETRY_LINK) {
        if (now >= end->hold_ns) {
            again = hl_retry_again(&m->c.policy, &end->retry, code, now,
                                   m->c.random, &at);
            if (again) {
                end->hold_ns = at;
                report_retry(m, code, err, end->retry.tries);
            }
        }
    } else {
        again = hl_retry_again(&m->c.policy, &p->retry, code, now,
                               m->c.random, &at);
        if (again) {
            p->not_before_ns = at;
            report_retry(m, code, err, p->retry.tries);
        }
    }
    if (again) {
        set_again(p);
        return;
    }
    drop_piece(p);
    fail(m, code, err);
}

static void fail(struct hl_mover *m, int code, const struct hl_error *err)
{
    hl_mover_stop(m, code, err);
}

/* ---- Acknowledgements ------------------------------------------------------ */

static void settle(struct piece *p)
{
    struct hl_mover *m = p->m;
    struct hl_error err;
    uint64_t offset = p->io.offset;

    if (p->state != PIECE_TAKEN || p->resolved < p->io.len)
        return;
    if (hl_ranges_contains(&m->acked, offset, offset + p->io.len)) {
        hl_retry_progress(&m->target.retry);
        m->target.retry.answered = true;
        complete(p);
        return;
    }
    err = p->lost_error;
    piece_failed(p, &m->target, err.code ? err.code : HAUL_E_RESET, &err);
    lane_lost(m, offset);
}

/* Cuts a report at the pieces it touches. */
static void resolve(struct hl_mover *m, uint64_t offset, uint64_t len,
                    const struct hl_error *lost)
{
    uint64_t end = offset + len;

    while (offset < end && !m->finished) {
        struct piece *p = find_piece(m, offset);
        uint64_t stop = (offset / m->c.chunk_size + 1) * m->c.chunk_size;
        uint32_t n;

        stop = hl_min(stop, end);
        n = (uint32_t)(stop - offset);
        if (p && (p->state == PIECE_WRITING || p->state == PIECE_TAKEN)) {
            if (lost) {
                p->resolved += n;
                p->lost_error = *lost;
            } else {
                /* A second report of the same bytes counts for nothing. */
                p->resolved +=
                    n - (uint32_t)hl_ranges_overlap(&m->acked, offset, stop);
                if (mark_acked(m, offset, stop))
                    return;
            }
            settle(p);
        }
        offset = stop;
    }
}

static void on_acked(void *user, uint64_t offset, uint64_t len)
{
    struct hl_mover *m = user;

    progressed(m);
    resolve(m, offset, len, NULL);
    pump(m);
}

static void on_lost(void *user, uint64_t offset, uint64_t len,
                    const struct hl_error *error)
{
    struct hl_mover *m = user;

    resolve(m, offset, len, error);
    pump(m);
}

static void on_token(void *user, const char *token)
{
    struct hl_mover *m = user;

    m->c.events->token(m->c.user, token);
}

static const struct hl_object_events object_events = {on_acked, on_lost,
                                                      on_token};

/* ---- Writing --------------------------------------------------------------- */

static void on_written(struct hl_op *op)
{
    struct piece *p = op->user;
    struct hl_mover *m = p->m;

    m->target.out--;
    if (op->rc) {
        struct hl_error err = op->error;
        uint64_t offset = p->io.offset;

        piece_failed(p, &m->target, op->rc, &err);
        lane_home(m, offset, false);
        pump(m);
        return;
    }
    progressed(m);
    m->target.retry.answered = true;
    p->state = PIECE_TAKEN;
    lane_home(m, p->io.offset, true);
    p->sent = true;
    m->stats.sent_bytes += p->io.len;
    if (can_seek(m) || m->stopping)
        release_buffer(p);
    settle(p);
    pump(m);
}

static void submit_write(struct piece *p, uint64_t from)
{
    struct hl_mover *m = p->m;
    uint32_t skip = (uint32_t)(from - p->slice.offset);
    uint64_t begin, end;

    hl_list_remove(&p->node);
    p->state = PIECE_WRITING;
    p->resolved = 0;
    p->lost_error.code = 0;
    /* What an earlier try got through is written, and reported, again. */
    if (hl_ranges_remove(&m->acked, from, p->slice.offset + p->slice.len))
        fail(m, HAUL_E_NOMEM, NULL);
    memset(&p->io, 0, sizeof(p->io));
    p->io.op.done = on_written;
    p->io.op.user = p;
    p->io.offset = from;
    p->io.len = p->slice.len - skip;
    p->io.data = p->buf->data + skip;
    p->io.buf = p->buf;
    p->io.part = p->slice.part;
    p->io.part_end = p->slice.part_end;
    if (m->c.layout.part_size || is_ordered(m)) {
        p->io.part = part_of(m, from);
        part_bounds(m, p->io.part, &begin, &end);
        p->io.part_end = from + p->io.len == end;
    }
    if (p->sent)
        m->stats.resent_bytes += p->io.len;
    m->target.out++;
    hl_driver_write(m->c.target, &p->io);
}

/* May p be written now, and from where? */
static bool write_turn(struct piece *p, uint64_t *from)
{
    struct hl_mover *m = p->m;
    struct lane *l;

    *from = p->slice.offset;
    /* Whether it ends its part is only known when more has come, or the
     * end. */
    if (m->c.layout.part_size && m->size == HL_SIZE_UNKNOWN &&
        p->slice.offset + p->slice.len >= m->read_end)
        return false;
    if (!is_ordered(m))
        return true;
    l = get_lane(m, p->slice.offset);
    if (!l || l->broken)
        return false;
    l->next = lane_next(m, l->part, l->next);
    if (l->next < p->slice.offset ||
        l->next >= p->slice.offset + p->slice.len)
        return false;
    *from = l->next;
    l->next = p->slice.offset + p->slice.len;
    l->outstanding++;
    return true;
}

static void pump_writes(struct hl_mover *m)
{
    uint64_t now = now_ns(m), from;
    struct hl_node *n, *next;

    if (now < m->target.hold_ns) {
        if (!hl_list_empty(&m->ready))
            m->wake_ns = hl_min(m->wake_ns, m->target.hold_ns);
        return;
    }
    for (n = hl_list_first(&m->ready); n && !m->stopping; n = next) {
        struct piece *p = HL_CONTAINER(n, struct piece, node);

        next = hl_list_next(&m->ready, n);
        if (p->not_before_ns > now) {
            m->wake_ns = hl_min(m->wake_ns, p->not_before_ns);
            continue;
        }
        if (write_turn(p, &from))
            submit_write(p, from);
    }
}

/* ---- Digesting ------------------------------------------------------------- */

static void pass_on(struct piece *p)
{
    if (p->m->c.target) {
        set_ready(p);
        return;
    }
    if (mark_acked(p->m, p->slice.offset, p->slice.offset + p->slice.len))
        return;
    complete(p);
}

static void run_digest(struct hl_work *work)
{
    struct piece *p = HL_CONTAINER(work, struct piece, work);
    const struct hl_digest *d = p->m->c.digest;
    const uint8_t *data = p->buf->data;
    size_t len = p->slice.len;
    void *state = p->in_lane ? d->ordered_new() : NULL;

    if (!state) {
        d->run(data, len, p->digest);
        if (p->in_lane)
            d->ordered_update(p->m->whole_state, data, len);
        return;
    }
    for (size_t at = 0; at < len; at += DIGEST_BLOCK) {
        size_t n = hl_min(DIGEST_BLOCK, len - at);

        d->ordered_update(state, data + at, n);
        d->ordered_update(p->m->whole_state, data + at, n);
    }
    d->ordered_final(state, p->digest);
    d->ordered_free(state);
}

static void start_digest(struct piece *p, bool in_lane);

static void next_in_lane(struct hl_mover *m)
{
    struct hl_node *n = hl_list_first(&m->parked);
    struct piece *p = n ? HL_CONTAINER(n, struct piece, node) : NULL;

    if (!p || p->slice.offset != m->whole_next || m->lane_busy)
        return;
    hl_list_remove(&p->node);
    m->parked_bytes -= p->slice.len;
    start_digest(p, true);
}

/* Gives the whole digest up: the order cannot be kept at this memory. */
static void drop_whole(struct hl_mover *m)
{
    struct hl_node *n;

    m->whole = false;
    while ((n = hl_list_pop(&m->parked)))
        start_digest(HL_CONTAINER(n, struct piece, node), false);
    m->parked_bytes = 0;
}

static void on_digested(struct hl_work *work)
{
    struct piece *p = HL_CONTAINER(work, struct piece, work);
    struct hl_mover *m = p->m;

    m->digesting--;
    if (p->in_lane) {
        m->lane_busy = false;
        m->whole_next += p->slice.len;
    }
    if (m->stopping) {
        drop_piece(p);
        pump(m);
        return;
    }
    p->digested = true;
    if (m->whole)
        next_in_lane(m);
    pass_on(p);
    pump(m);
}

/* A second reading of the same chunk must give the same bytes. */
static void on_digested_again(struct hl_work *work)
{
    struct piece *p = HL_CONTAINER(work, struct piece, work);
    struct hl_mover *m = p->m;

    if (memcmp(p->before, p->digest, m->c.digest->size) && !m->stopping) {
        struct hl_error err = {0};

        hl_err(&err, HAUL_E_CHANGED, 0,
               "the source changed: bytes %llu to %llu differ from what was "
               "read before",
               (unsigned long long)p->slice.offset,
               (unsigned long long)(p->slice.offset + p->slice.len));
        fail(m, err.code, &err);
    }
    on_digested(work);
}

static void start_digest(struct piece *p, bool in_lane)
{
    struct hl_mover *m = p->m;

    p->state = PIECE_DIGESTING;
    p->in_lane = in_lane;
    if (in_lane)
        m->lane_busy = true;
    p->work.run = run_digest;
    p->work.done = on_digested;
    if (p->digested) {
        memcpy(p->before, p->digest, HL_DIGEST_MAX);
        p->work.done = on_digested_again;
    }
    m->digesting++;
    hl_workers_submit(m->c.workers, &p->work);
}

static void digest_piece(struct piece *p)
{
    struct hl_mover *m = p->m;

    if (!m->c.digest) {
        pass_on(p);
        return;
    }
    if (!m->whole || p->slice.offset < m->whole_next) {
        start_digest(p, false);
        return;
    }
    p->state = PIECE_PARKED;
    insert_piece(&m->parked, p);
    m->parked_bytes += p->slice.len;
    next_in_lane(m);
    /* While the lane is busy the rest waits its turn; when it is not, a piece
     * is missing and the others must not hold all buffers for it. */
    if (!m->lane_busy && m->parked_bytes > hl_pool_limit(m->c.pool) / 2)
        drop_whole(m);
}

/* ---- Reading --------------------------------------------------------------- */

static void submit_read(struct piece *p);

static int source_ended_early(struct piece *p)
{
    struct hl_mover *m = p->m;
    struct hl_error err = {0};

    hl_err(&err, HAUL_E_CHANGED, 0,
           "the source shrank: it ends at %llu of %llu bytes",
           (unsigned long long)(p->slice.offset + p->filled),
           (unsigned long long)m->size);
    drop_piece(p);
    fail(m, err.code, &err);
    return err.code;
}

/* The read ended at the end of a source of unknown size. Returns false when
 * nothing is left of the piece. */
static bool cut_at_end(struct piece *p)
{
    struct hl_mover *m = p->m;
    uint64_t end = p->slice.offset + p->filled;

    if (m->size == HL_SIZE_UNKNOWN || end < m->size) {
        m->size = end;
        hl_cursors_set_size(m->cursors, end);
    }
    p->slice.len = p->filled;
    p->slice.part_end = true;
    if (p->filled)
        return true;
    drop_piece(p);
    return false;
}

static void on_read(struct hl_op *op)
{
    struct piece *p = op->user;
    struct hl_mover *m = p->m;

    m->source.out--;
    if (op->rc || m->stopping) {
        struct hl_error err = op->error;

        /* A failed reading is repeated as a whole: its buffer goes. */
        p->filled = 0;
        piece_failed(p, &m->source, op->rc, &err);
        pump(m);
        return;
    }
    progressed(m);
    HL_ASSERT(p->io.done <= p->io.len);
    m->source.retry.answered = true;
    hl_retry_progress(&m->source.retry);
    p->filled += p->io.done;
    m->read_end = hl_max(m->read_end, p->slice.offset + p->filled);
    m->stats.read_bytes += p->io.done;
    if (p->filled < p->slice.len) {
        bool end = p->io.eof || p->io.done == 0;

        if (!end) {
            submit_read(p);
            return;
        }
        if (m->c.size != HL_SIZE_UNKNOWN)
            source_ended_early(p);
        else if (cut_at_end(p))
            digest_piece(p);
    } else {
        digest_piece(p);
    }
    pump(m);
}

static void submit_read(struct piece *p)
{
    struct hl_mover *m = p->m;

    p->state = PIECE_READING;
    memset(&p->io, 0, sizeof(p->io));
    p->io.op.done = on_read;
    p->io.op.user = p;
    p->io.offset = p->slice.offset + p->filled;
    p->io.len = p->slice.len - p->filled;
    p->io.data = p->buf->data + p->filled;
    p->io.buf = p->buf;
    p->io.part = p->slice.part;
    m->source.out++;
    hl_driver_read(m->c.source, &p->io);
}

static void on_buffer(struct hl_pool_waiter *w, struct hl_buf *buf)
{
    struct hl_mover *m = HL_CONTAINER(w, struct hl_mover, waiter);

    m->waiting = false;
    m->stats.memory_wait_ns += now_ns(m) - m->wait_since_ns;
    m->spare = buf;
    pump(m);
}

/* In ordered parts pieces further on hold buffers while they wait for an
 * earlier one that has none; the last of them gives its buffer up. */
static struct hl_buf *steal_buffer(struct hl_mover *m, const struct piece *p)
{
    struct hl_node *n = m->ready.head.prev;
    struct piece *last;
    struct hl_buf *buf;

    if (!is_ordered(m) || !can_seek(m) || n == &m->ready.head)
        return NULL;
    last = HL_CONTAINER(n, struct piece, node);
    if (last->slice.offset <= p->slice.offset)
        return NULL;
    hl_list_remove(&last->node);
    buf = last->buf;
    last->buf = NULL;
    set_again(last);
    return buf;
}

static bool get_buffer(struct hl_mover *m, const struct piece *redo)
{
    if (!m->spare)
        m->spare = hl_pool_get(m->c.pool, m->c.chunk_size);
    if (!m->spare && redo)
        m->spare = steal_buffer(m, redo);
    if (m->spare)
        return true;
    m->waiter.size = m->c.chunk_size;
    m->waiter.ready = on_buffer;
    m->waiting = true;
    m->wait_since_ns = now_ns(m);
    hl_pool_wait(m->c.pool, &m->waiter);
    return false;
}

/* The first piece to read again that may be read now. */
static struct piece *redo_now(struct hl_mover *m, uint64_t now)
{
    for (struct hl_node *n = hl_list_first(&m->redo); n;
         n = hl_list_next(&m->redo, n)) {
        struct piece *p = HL_CONTAINER(n, struct piece, node);

        if (p->not_before_ns <= now)
            return p;
        m->wake_ns = hl_min(m->wake_ns, p->not_before_ns);
    }
    return NULL;
}

static bool rate_allows(struct hl_mover *m, uint64_t now)
{
    uint64_t at =
        m->c.rate ? hl_rate_take(m->c.rate, m->c.chunk_size, now) : 0;

    if (!at) {
        if (m->rate_since_ns)
            m->stats.rate_wait_ns += now - m->rate_since_ns;
        m->rate_since_ns = 0;
        return true;
    }
    if (!m->rate_since_ns)
        m->rate_since_ns = now;
    m->wake_ns = hl_min(m->wake_ns, at);
    return false;
}

/* Starts one more read. false: none can be started now. */
static bool start_read(struct hl_mover *m)
{
    uint64_t now = now_ns(m);
    struct piece *p = redo_now(m, now);
    struct hl_slice slice;

    if (now < m->source.hold_ns) {
        if (p || !hl_cursors_exhausted(m->cursors))
            m->wake_ns = hl_min(m->wake_ns, m->source.hold_ns);
        return false;
    }
    if (!p && (hl_cursors_exhausted(m->cursors) || m->pieces >= PIECES_MAX))
        return false;
    if (!get_buffer(m, p) || !rate_allows(m, now))
        return false;
    if (p) {
        hl_list_remove(&p->node);
    } else {
        uint32_t open_max = m->c.layout.streams_max;

        if (!hl_cursors_next(m->cursors, open_max ? open_max : 1, &slice))
            return false;
        p = new_piece(m, &slice);
        if (!p) {
            fail(m, HAUL_E_NOMEM, NULL);
            return false;
        }
    }
    p->buf = m->spare;
    m->spare = NULL;
    submit_read(p);
    return true;
}

static void pump_reads(struct hl_mover *m)
{
    while (!m->waiting && start_read(m))
        ;
    if (m->spare) {
        struct hl_buf *buf = m->spare;

        m->spare = NULL;
        hl_pool_put(m->c.pool, buf);
    }
}

/* ---- Start, stop, finish --------------------------------------------------- */

static void run_finished(struct hl_task *task)
{
    struct hl_mover *m = HL_CONTAINER(task, struct hl_mover, finish);

    m->c.events->finished(m->c.user, m->code, &m->error);
}

static void finish(struct hl_mover *m)
{
    HL_ASSERT(!m->finished && m->pieces == 0);
    m->finished = true;
    hl_timer_cancel(&m->timer);
    hl_timer_cancel(&m->stall_timer);
    if (m->whole_state && m->whole && !m->code && m->whole_next == m->size) {
        m->c.digest->ordered_final(m->whole_state, m->whole_digest);
        m->whole_final = true;
    }
    m->finish.fn = run_finished;
    hl_loop_post(m->c.loop, &m->finish);
}

/* Stopping: what is at home goes; what is out comes back by the aborts. */
static void check_home(struct hl_mover *m)
{
    struct hl_node *n;

    while ((n = hl_list_first(&m->redo)) || (n = hl_list_first(&m->ready)) ||
           (n = hl_list_first(&m->parked)))
        drop_piece(HL_CONTAINER(n, struct piece, node));
    if (m->source.out || m->target.out || m->digesting ||
        m->source.aborting || m->target.aborting)
        return;
    for (uint32_t i = 0; i < BUCKETS; i++)
        while ((n = hl_list_first(&m->buckets[i])))
            drop_piece(HL_CONTAINER(n, struct piece, bucket));
    finish(m);
}

static void on_aborted(struct hl_op *op)
{
    struct end *end = HL_CONTAINER(op, struct end, abort);
    struct hl_mover *m = op->user;

    end->aborting = false;
    pump(m);
}

static void abort_end(struct hl_mover *m, struct end *end)
{
    if (!end->object)
        return;
    memset(&end->abort, 0, sizeof(end->abort));
    end->abort.done = on_aborted;
    end->abort.user = m;
    end->aborting = true;
    hl_driver_abort(end->object, &end->abort);
}

void hl_mover_stop(struct hl_mover *m, int code, const struct hl_error *error)
{
    if (m->stopping || m->finished)
        return;
    m->stopping = true;
    m->code = code;
    if (error && error->code)
        m->error = *error;
    else
        hl_err(&m->error, code, 0, "%s", haul_err_text(code));
    if (m->waiting) {
        m->waiting = false;
        hl_pool_cancel(m->c.pool, &m->waiter);
    }
    abort_end(m, &m->source);
    abort_end(m, &m->target);
}

static void on_timer(struct hl_timer *timer)
{
    pump(HL_CONTAINER(timer, struct hl_mover, timer));
}

static void pump(struct hl_mover *m)
{
    if (m->finished)
        return;
    if (m->stopping) {
        check_home(m);
        return;
    }
    m->wake_ns = UINT64_MAX;
    pump_writes(m);
    pump_reads(m);
    if (m->stopping) {
        check_home(m);
        return;
    }
    if (m->pieces == 0 && hl_cursors_exhausted(m->cursors) &&
        m->size != HL_SIZE_UNKNOWN) {
        if (m->waiting) {
            m->waiting = false;
            hl_pool_cancel(m->c.pool, &m->waiter);
        }
        finish(m);
        return;
    }
    if (m->wake_ns != UINT64_MAX)
        hl_timer_set(m->c.loop, &m->timer, m->wake_ns);
}

/* ---- Stalls ---------------------------------------------------------------- */

static bool wire_moved(struct end *end)
{
    struct hl_flow flow = {0};
    uint64_t before = end->wire_bytes;

    if (!end->object || !end->object->driver->flow)
        return false;
    end->object->driver->flow(end->object->endpoint, &flow);
    end->wire_bytes = flow.wire_bytes;
    return flow.wire_bytes > before;
}

static void unstall_end(struct end *end)
{
    if (end->object && end->object->driver->unstall)
        end->object->driver->unstall(end->object);
}

static bool has_taken(struct hl_mover *m)
{
    return m->pieces > 0 && m->target.object != NULL;
}

static void on_stall_timer(struct hl_timer *timer)
{
    struct hl_mover *m = HL_CONTAINER(timer, struct hl_mover, stall_timer);
    bool moved = wire_moved(&m->source);
    uint64_t now = now_ns(m);

    moved = wire_moved(&m->target) || moved;
    if (moved || now < m->source.hold_ns || now < m->target.hold_ns)
        m->progress_ns = now;
    if ((m->source.out || m->target.out || has_taken(m)) &&
        now - m->progress_ns >= m->c.stall_ns) {
        HL_INFO(m->c.log, HL_AREA_ENGINE, "nothing moved for %llu s",
                (unsigned long long)(m->c.stall_ns / HL_NS_PER_S));
        m->progress_ns = now;
        if (m->source.out)
            unstall_end(&m->source);
        if (m->target.out || has_taken(m))
            unstall_end(&m->target);
    }
    hl_timer_set(m->c.loop, &m->stall_timer, now + HL_NS_PER_S);
}

/* ---- Life ------------------------------------------------------------------ */

int hl_mover_new(const struct hl_mover_config *config, struct hl_mover **out,
                 struct hl_error *err)
{
    struct hl_mover *m = hl_malloc(sizeof(*m));
    struct hl_cursors_config cc = {config->size, config->chunk_size,
                                   config->layout.part_size, false};
    bool seeks = config->source_caps & HL_CAP_SEEK;
    int rc;

    if (!m)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    m->c = *config;
    m->c.done = NULL;
    m->size = config->size;
    m->source.object = config->source;
    m->target.object = config->target;
    m->source.retry.answered = m->target.retry.answered = true; /* opened */
    hl_ranges_init(&m->acked);
    hl_list_init(&m->redo);
    hl_list_init(&m->parked);
    hl_list_init(&m->ready);
    hl_list_init(&m->lanes);
    for (uint32_t i = 0; i < BUCKETS; i++)
        hl_list_init(&m->buckets[i]);
    /* What cannot seek is read from begin to end, whatever the parts. */
    if (!seeks)
        cc.part_size = 0;
    rc = hl_cursors_new(&cc, config->done, &m->cursors);
    for (uint64_t at = 0; config->done && rc == 0;) {
        struct hl_range r;

        if (!hl_ranges_next(config->done, at, &r))
            break;
        rc = hl_ranges_add(&m->acked, r.begin, r.end);
        at = r.end;
    }
    if (rc == 0 && config->digest && config->whole &&
        (!config->done || config->done->bytes == 0)) {
        m->whole_state = config->digest->ordered_new();
        m->whole = m->whole_state != NULL;
    }
    if (rc) {
        hl_mover_free(m);
        return hl_err(err, rc, 0, "%s", haul_err_text(rc));
    }
    if (config->target) {
        config->target->events = &object_events;
        config->target->events_user = m;
    }
    m->timer.fn = on_timer;
    m->stall_timer.fn = on_stall_timer;
    m->progress_ns = now_ns(m);
    hl_timer_set(m->c.loop, &m->stall_timer, m->progress_ns + HL_NS_PER_S);
    hl_timer_set(m->c.loop, &m->timer, m->progress_ns);
    *out = m;
    return 0;
}

void hl_mover_free(struct hl_mover *m)
{
    struct hl_node *n;

    if (!m)
        return;
    hl_timer_cancel(&m->timer);
    hl_timer_cancel(&m->stall_timer);
    while ((n = hl_list_pop(&m->lanes)))
        hl_free(HL_CONTAINER(n, struct lane, node));
    if (m->whole_state)
        m->c.digest->ordered_free(m->whole_state);
    hl_cursors_free(m->cursors);
    hl_ranges_fini(&m->acked);
    hl_free(m);
}

void hl_mover_stats(const struct hl_mover *m, struct hl_mover_stats *out)
{
    *out = m->stats;
    out->size = m->size;
    out->acked_bytes = m->acked.bytes;
    out->reading = m->source.out;
    out->writing = m->target.out;
    out->idle_writes = 0;
    for (struct hl_node *n = hl_list_first(&m->ready); n;
         n = hl_list_next(&m->ready, n))
        out->idle_writes++;
}

const struct hl_ranges *hl_mover_acked(const struct hl_mover *m)
{
    return &m->acked;
}

bool hl_mover_whole(const struct hl_mover *m, uint8_t *out)
{
    if (m->whole_final)
        memcpy(out, m->whole_digest, m->c.digest->size);
    return m->whole_final;
}
