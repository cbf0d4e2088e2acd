/* Reading and digesting. See mover_private.h. */
#include "mover_private.h"

#include <string.h>

#define PIECES_MAX 8192u
#define LATE_AHEAD 4u
/* Of a part, with a local source: chunks, and bytes in any case. */
#define PART_AHEAD 3u
#define PART_AHEAD_BYTES (4u << 20)

/* The whole digest and the chunk's are taken block by block, so that the
 * second finds the bytes in the cache. */
#define DIGEST_BLOCK (128u * 1024u)

/* ---- Digesting ---------------------------------------------------------- */

/* What the target has of p counts now that p has a digest. */
static int take_confirmed(struct hl_piece *p)
{
    uint64_t at = p->slice.offset, end = at + p->slice.len;
    struct hl_mover *m = p->m;
    struct hl_range r;

    while (hl_ranges_next(&m->confirmed, at, &r) && r.begin < end) {
        at = hl_min(r.end, end);
        if (hl_mover_mark_acked(m, r.begin, at))
            return HAUL_E_NOMEM;
        if (hl_ranges_remove(&m->confirmed, r.begin, at)) {
            hl_mover_fail(m, HAUL_E_NOMEM, NULL);
            return HAUL_E_NOMEM;
        }
    }
    return 0;
}

static void pass_on(struct hl_piece *p)
{
    uint64_t end = p->slice.offset + p->slice.len;
    struct hl_mover *m = p->m;
    int rc = m->c.target ? take_confirmed(p)
                         : hl_mover_mark_acked(m, p->slice.offset, end);

    if (rc == 0 && hl_ranges_contains(&m->acked, p->slice.offset, end))
        hl_piece_complete(p);
    else
        hl_piece_set_ready(p);
}

/* The digests of the whole. */
static void update_whole(struct hl_mover *m, const void *data, size_t len)
{
    m->c.digest->ordered_update(m->whole_state, data, len);
    if (m->offered_state)
        m->c.offered->ordered_update(m->offered_state, data, len);
}

static void run_digest(struct hl_work *work)
{
    struct hl_piece *p = HL_CONTAINER(work, struct hl_piece, work);
    const struct hl_digest *d = p->m->c.digest;
    const uint8_t *data = p->buf->data;
    size_t len = p->slice.len;
    void *state = p->in_lane ? d->ordered_new() : NULL;

    if (!state) {
        d->run(data, len, p->digest);
        if (p->in_lane)
            update_whole(p->m, data, len);
        return;
    }
    for (size_t at = 0; at < len; at += DIGEST_BLOCK) {
        size_t n = hl_min(DIGEST_BLOCK, len - at);

        d->ordered_update(state, data + at, n);
        update_whole(p->m, data + at, n);
    }
    d->ordered_final(state, p->digest);
    d->ordered_free(state);
}

static void start_digest(struct hl_piece *p, bool in_lane);

static void next_in_lane(struct hl_mover *m)
{
    struct hl_node *n = hl_list_first(&m->parked);
    struct hl_piece *p = n ? HL_CONTAINER(n, struct hl_piece, node) : NULL;

    if (!p || p->slice.offset != m->whole_next || m->lane_busy)
        return;
    hl_list_remove(&p->node);
    m->parked_bytes -= p->slice.len;
    start_digest(p, true);
}

void hl_mover_drop_whole(struct hl_mover *m)
{
    struct hl_node *n;

    m->whole = false;
    while ((n = hl_list_pop(&m->parked)))
        start_digest(HL_CONTAINER(n, struct hl_piece, node), false);
    m->parked_bytes = 0;
}

static void on_digested(struct hl_work *work)
{
    struct hl_piece *p = HL_CONTAINER(work, struct hl_piece, work);
    struct hl_mover *m = p->m;

    m->digesting--;
    if (p->in_lane) {
        m->lane_busy = false;
        m->whole_next += p->slice.len;
    }
    hl_late_compare(p);
    if (m->stopping) {
        hl_piece_drop(p);
        hl_mover_pump(m);
        return;
    }
    p->digested = true;
    if (m->whole)
        next_in_lane(m);
    pass_on(p);
    hl_mover_pump(m);
}

/* A second reading of the same chunk must give the same bytes. */
static void on_digested_again(struct hl_work *work)
{
    struct hl_piece *p = HL_CONTAINER(work, struct hl_piece, work);
    struct hl_mover *m = p->m;

    if (memcmp(p->before, p->digest, m->c.digest->size) && !m->stopping)
        hl_mover_changed(p);
    on_digested(work);
}

static void start_digest(struct hl_piece *p, bool in_lane)
{
    struct hl_mover *m = p->m;

    p->state = HL_PIECE_DIGESTING;
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

static void digest_piece(struct hl_piece *p)
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
    p->state = HL_PIECE_PARKED;
    hl_piece_insert(&m->parked, p);
    m->parked_bytes += p->slice.len;
    next_in_lane(m);
    /* While the lane is busy the rest waits its turn; when it is not, a piece
     * is missing and the others must not hold all buffers for it. */
    if (!m->lane_busy && !m->keeps_order && !m->in_order &&
        m->parked_bytes > hl_pool_limit(m->c.pool) / 2)
        hl_mover_drop_whole(m);
}

/* ---- Reading ------------------------------------------------------------ */

static void submit_read(struct hl_piece *p);

static int source_ended_early(struct hl_piece *p)
{
    struct hl_mover *m = p->m;
    struct hl_error err = {0};

    hl_err(&err, HAUL_E_CHANGED, 0,
           "the source shrank: it ends at %llu of %llu bytes",
           (unsigned long long)(p->slice.offset + p->filled),
           (unsigned long long)m->size);
    hl_piece_drop(p);
    hl_mover_fail(m, err.code, &err);
    return err.code;
}

/* The read ended at the end of a source of unknown size. Returns false when
 * nothing is left of the piece. */
static bool cut_at_end(struct hl_piece *p)
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
    hl_piece_drop(p);
    return false;
}

/* p is out of the reader's hands; should it come back there, then alone. */
static void leave_run(struct hl_piece *p)
{
    if (p->in_run)
        hl_cursors_run_read(p->m->cursors, p->slice.run_end);
    p->in_run = false;
    p->slice.run_end = p->slice.offset + p->slice.len;
}

static void on_read(struct hl_op *op)
{
    struct hl_piece *p = op->user;
    struct hl_mover *m = p->m;

    m->source.out--;
    if (op->rc || m->stopping) {
        struct hl_error err = op->error;

        leave_run(p);

        /* A failed reading is repeated as a whole: its buffer goes. */
        p->filled = 0;
        hl_piece_failed(p, &m->source, op->rc, &err);
        hl_mover_pump(m);
        return;
    }
    hl_mover_progressed(m);
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
        leave_run(p);
        if (m->c.size != HL_SIZE_UNKNOWN)
            source_ended_early(p);
        else if (cut_at_end(p))
            digest_piece(p);
    } else {
        leave_run(p);
        digest_piece(p);
    }
    hl_mover_pump(m);
}

static void submit_read(struct hl_piece *p)
{
    struct hl_mover *m = p->m;

    p->state = HL_PIECE_READING;
    memset(&p->io, 0, sizeof(p->io));
    p->io.op.done = on_read;
    p->io.op.user = p;
    p->io.offset = p->slice.offset + p->filled;
    p->io.len = p->slice.len - p->filled;
    p->io.data = p->buf->data + p->filled;
    p->io.buf = p->buf;
    p->io.part = p->slice.part;
    p->io.run_end = p->slice.offset + p->slice.len;
    if (p->filled == 0)
        p->io.run_end = hl_max(p->io.run_end, p->slice.run_end);
    m->source.out++;
    hl_driver_read(m->c.source, &p->io);
}

static void on_buffer(struct hl_pool_waiter *w, struct hl_buf *buf)
{
    struct hl_mover *m = HL_CONTAINER(w, struct hl_mover, waiter);

    m->waiting = false;
    m->stats.memory_wait_ns += hl_mover_now(m) - m->wait_since_ns;
    m->spare = buf;
    hl_mover_pump(m);
}

/* The last piece of a list, when it is behind offset. */
static struct hl_piece *last_behind(struct hl_list *l, uint64_t offset)
{
    struct hl_node *n = l->head.prev;
    struct hl_piece *p = HL_CONTAINER(n, struct hl_piece, node);

    return n != &l->head && p->slice.offset > offset ? p : NULL;
}

/* Where an order is kept, pieces further on hold buffers while they wait for
 * an earlier one that has none; the last of them gives its buffer up. */
static struct hl_buf *steal_buffer(struct hl_mover *m, uint64_t offset)
{
    struct hl_piece *ready = NULL, *parked = NULL, *p;
    struct hl_buf *buf;

    if (!hl_mover_can_seek(m))
        return NULL;
    if (hl_mover_is_ordered(m))
        ready = last_behind(&m->ready, offset);
    if (m->keeps_order || m->in_order)
        parked = last_behind(&m->parked, offset);
    p = parked && (!ready || parked->slice.offset > ready->slice.offset)
            ? parked
            : ready;
    if (!p)
        return NULL;
    if (p == parked)
        m->parked_bytes -= p->slice.len;
    hl_list_remove(&p->node);
    buf = p->buf;
    p->buf = NULL;
    hl_piece_set_again(p);
    return buf;
}

/* wanted: offset of what is to be read once more, or UINT64_MAX. */
static bool get_buffer(struct hl_mover *m, uint64_t wanted)
{
    if (!m->spare)
        m->spare = hl_pool_get(m->c.pool, m->c.chunk_size);
    if (!m->spare)
        m->spare = steal_buffer(m, wanted);
    if (m->spare)
        return true;
    if (hl_pool_used(m->c.pool) == 0) { /* nobody will give one back */
        hl_mover_fail(m, HAUL_E_NOMEM, NULL);
        return false;
    }
    m->waiter.size = m->c.chunk_size;
    m->waiter.ready = on_buffer;
    m->waiting = true;
    m->wait_since_ns = hl_mover_now(m);
    hl_pool_wait(m->c.pool, &m->waiter);
    return false;
}

/* Where the order goes on, when nobody has that chunk yet; the cursors give it
 * next. UINT64_MAX: it is under way, or no order is kept. */
static uint64_t missing(struct hl_mover *m)
{
    uint64_t offset = UINT64_MAX;

    if (m->whole && (m->keeps_order || m->in_order)) {
        offset = m->whole_next;
    } else if (m->in_order && hl_mover_is_ordered(m)) {
        struct hl_lane *l = hl_lane_get(m, 0);

        offset = l ? hl_lane_next(m, l->part, l->next) : UINT64_MAX;
    }
    return offset < m->size && !hl_piece_find(m, offset) ? offset : UINT64_MAX;
}

void hl_mover_unblock(struct hl_mover *m)
{
    struct hl_node *n = hl_list_first(&m->redo);
    uint64_t wanted;

    if (!m->waiting || m->source.out || m->target.out || m->digesting)
        return;
    if (hl_pool_used(m->c.pool) == 0) {
        hl_mover_fail(m, HAUL_E_NOMEM, NULL);
        return;
    }
    if (!hl_list_empty(&m->parked) && !m->keeps_order && !m->in_order) {
        hl_mover_drop_whole(m);
    } else {
        wanted = hl_min(hl_cursors_again_first(m->cursors), missing(m));
        if (n)
            wanted = hl_min(
                wanted, HL_CONTAINER(n, struct hl_piece, node)->slice.offset);
        m->spare = steal_buffer(m, wanted);
    }
    if (!m->spare)
        return;
    m->waiting = false;
    hl_pool_cancel(m->c.pool, &m->waiter);
    hl_mover_pump(m);
}

/* The first piece to read again that may be read now. */
static struct hl_piece *redo_now(struct hl_mover *m, uint64_t now)
{
    for (struct hl_node *n = hl_list_first(&m->redo); n;
         n = hl_list_next(&m->redo, n)) {
        struct hl_piece *p = HL_CONTAINER(n, struct hl_piece, node);

        if (!hl_cursors_near(m->cursors, p->slice.offset))
            continue;
        if (p->not_before_ns <= now)
            return p;
        m->wake_ns = hl_min(m->wake_ns, p->not_before_ns);
    }
    return NULL;
}

static bool rate_allows(struct hl_mover *m, uint64_t now)
{
    uint64_t at = m->c.rate ? hl_rate_take(m->c.rate, m->c.chunk_size, now) : 0;

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

/* A local source is always ahead of a late target: what is read shortly before
 * it is sent is still in the processor's cache then, which is worth a tenth of
 * the time (docs/decisions/0006). */
static uint32_t pieces_max(const struct hl_mover *m)
{
    bool local = !m->c.source->driver->flow;

    return local && hl_mover_drops(m) && !m->c.layout.parts.size ? LATE_AHEAD
                                                                 : PIECES_MAX;
}

/* How many chunks of a part may be on their way to the target: its share of
 * the memory, but not more of a local source than are needed. */
static uint32_t part_ahead(const struct hl_mover *m)
{
    uint64_t chunk = m->c.chunk_size;
    uint64_t share = hl_pool_limit(m->c.pool) / chunk / hl_mover_parts_open(m);

    if (!m->c.source->driver->flow)
        share = hl_min(share, hl_max(PART_AHEAD, PART_AHEAD_BYTES / chunk));
    return (uint32_t)hl_max(hl_min(share, PIECES_MAX), 2);
}

/* How many parts or runs may be open. */
static uint32_t open_max(const struct hl_mover *m)
{
    uint64_t limit = hl_pool_limit(m->c.pool), fit;

    if (!m->in_runs)
        return hl_mover_parts_open(m);
    /* In order all of them must fit, with room for what is written; else each
     * must have its turn. */
    fit = (m->in_order ? limit / 4 * 3 : limit) / (2 * m->c.chunk_size);
    return fit > m->runs ? m->runs : (uint32_t)hl_max(fit, 1);
}

/* Does something that the cursors have go before p? */
static bool goes_behind(struct hl_mover *m, const struct hl_piece *p)
{
    return hl_min(hl_cursors_again_first(m->cursors), missing(m)) <
           p->slice.offset;
}

static struct hl_piece *next_piece(struct hl_mover *m)
{
    bool again = hl_cursors_again_first(m->cursors) != UINT64_MAX;
    struct hl_piece *p;
    struct hl_slice slice;

    if (!hl_cursors_next(m->cursors, open_max(m), &slice))
        return NULL;
    p = hl_piece_new(m, &slice);
    if (!p)
        hl_mover_fail(m, HAUL_E_NOMEM, NULL);
    else
        p->in_run = m->in_runs && !again;
    return p;
}

/* Starts one more read. false: none can be started now. */
static bool start_read(struct hl_mover *m)
{
    uint64_t now = hl_mover_now(m), again;
    struct hl_piece *p = redo_now(m, now);
    bool ready = hl_cursors_ready(m->cursors, open_max(m));

    if (now < m->source.hold_ns) {
        if (p || !hl_cursors_exhausted(m->cursors))
            m->wake_ns = hl_min(m->wake_ns, m->source.hold_ns);
        return false;
    }
    if (p && ready && goes_behind(m, p))
        p = NULL;
    again = p ? p->slice.offset : hl_cursors_again_first(m->cursors);
    if (!p && (!ready || (m->pieces >= pieces_max(m) && again == UINT64_MAX)))
        return false;
    if (!get_buffer(m, again) || !rate_allows(m, now))
        return false;
    if (p)
        hl_list_remove(&p->node);
    else
        p = next_piece(m);
    if (!p)
        return false;
    p->buf = m->spare;
    m->spare = NULL;
    submit_read(p);
    return true;
}

void hl_mover_pump_reads(struct hl_mover *m)
{
    hl_cursors_set_ahead(m->cursors, part_ahead(m));
    while (!m->waiting && start_read(m))
        ;
    if (m->spare) {
        struct hl_buf *buf = m->spare;

        m->spare = NULL;
        hl_pool_put(m->c.pool, buf);
    }
}
