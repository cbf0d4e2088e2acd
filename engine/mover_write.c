/* Writing and acknowledgements. See mover_private.h. */
#include "mover_private.h"

#include <string.h>

/* ---- Acknowledgements --------------------------------------------------- */

static void settle(struct hl_piece *p)
{
    struct hl_mover *m = p->m;
    struct hl_error err;
    uint64_t offset = p->io.offset;

    if (p->state != HL_PIECE_TAKEN || p->resolved < p->io.len)
        return;
    if (hl_ranges_contains(&m->acked, offset, offset + p->io.len)) {
        hl_retry_progress(&m->target.retry);
        m->target.retry.answered = true;
        hl_piece_complete(p);
        return;
    }
    err = p->lost_error;
    hl_piece_failed(p, &m->target, err.code ? err.code : HAUL_E_RESET, &err);
    hl_mover_note_lost(m, offset);
    hl_lane_lost(m, offset);
}

/* Cuts a report at the pieces it touches. */
static void resolve(struct hl_mover *m, uint64_t offset, uint64_t len,
                    const struct hl_error *lost)
{
    /* Nothing behind read_end is out; "all is lost" says UINT64_MAX. */
    uint64_t end = offset + hl_min(len, UINT64_MAX - offset);

    end = hl_min(end, m->read_end);
    while (offset < end && !m->finished) {
        struct hl_piece *p = hl_piece_find(m, offset);
        uint64_t stop = (offset / m->c.chunk_size + 1) * m->c.chunk_size;
        uint32_t n;

        stop = hl_min(stop, end);
        n = (uint32_t)(stop - offset);
        if (p && (p->state == HL_PIECE_WRITING || p->state == HL_PIECE_TAKEN)) {
            if (lost) {
                p->resolved += n;
                p->lost_error = *lost;
            } else {
                /* A second report of the same bytes counts for nothing. */
                p->resolved +=
                    n - (uint32_t)hl_ranges_overlap(&m->acked, offset, stop);
                if (hl_mover_mark_acked(m, offset, stop))
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

    hl_mover_progressed(m);
    if (hl_mover_drops(m))
        hl_late_acked(m, offset, offset + hl_min(len, UINT64_MAX - offset));
    else
        resolve(m, offset, len, NULL);
    hl_mover_pump(m);
}

static void on_lost(void *user, uint64_t offset, uint64_t len,
                    const struct hl_error *error)
{
    struct hl_mover *m = user;

    if (error->code == HAUL_E_LOST)
        hl_mover_fail(m, HAUL_E_LOST, error);
    else if (hl_mover_drops(m))
        hl_late_lost(m, offset, offset + hl_min(len, UINT64_MAX - offset),
                     error);
    else
        resolve(m, offset, len, error);
    hl_mover_pump(m);
}

static void on_token(void *user, const char *token)
{
    struct hl_mover *m = user;

    m->c.events->token(m->c.user, token);
}

static void on_note(void *user, uint64_t part, const char *note)
{
    struct hl_mover *m = user;

    HL_ASSERT(m->c.events->note);
    m->c.events->note(m->c.user, part, note);
}

const struct hl_object_events hl_mover_object_events = {on_acked, on_lost,
                                                        on_token, on_note};

/* ---- Writing ------------------------------------------------------------ */

static void on_written(struct hl_op *op)
{
    struct hl_piece *p = op->user;
    struct hl_mover *m = p->m;

    m->target.out--;
    if (op->rc) {
        struct hl_error err = op->error;
        uint64_t offset = p->io.offset;

        hl_piece_failed(p, &m->target, op->rc, &err);
        hl_lane_home(m, offset, false);
        hl_mover_pump(m);
        return;
    }
    hl_mover_progressed(m);
    m->target.retry.answered = true;
    p->state = HL_PIECE_TAKEN;
    HL_ASSERT(p->io.skipped <= p->io.len);
    m->stats.sent_bytes += p->io.len - p->io.skipped;
    hl_lane_took(m, p->io.offset, p->io.part_end);
    if (hl_mover_drops(m)) {
        hl_late_taken(p);
        hl_mover_pump(m);
        return;
    }
    if (p->sent)
        m->stats.resent_bytes += p->io.len - p->io.skipped;
    p->sent = true;
    hl_lane_home(m, p->io.offset, true);
    hl_mover_note_taken(m, p->io.offset);
    if (hl_mover_can_seek(m) || m->stopping)
        hl_piece_release(p);
    settle(p);
    hl_mover_pump(m);
}

static void submit_write(struct hl_piece *p, uint64_t from)
{
    struct hl_mover *m = p->m;
    uint32_t skip = (uint32_t)(from - p->slice.offset);
    uint64_t begin, end;

    /* What an earlier try got through is written, and reported, again. */
    if (hl_ranges_remove(&m->acked, from, p->slice.offset + p->slice.len)) {
        hl_mover_fail(m, HAUL_E_NOMEM, NULL);
        return;
    }
    hl_list_remove(&p->node);
    p->state = HL_PIECE_WRITING;
    p->resolved = 0;
    p->lost_error.code = 0;
    memset(&p->io, 0, sizeof(p->io));
    p->io.op.done = on_written;
    p->io.op.user = p;
    p->io.offset = from;
    p->io.len = p->slice.len - skip;
    p->io.data = p->buf->data + skip;
    p->io.buf = p->buf;
    p->io.part = p->slice.part;
    p->io.part_end = p->slice.part_end;
    if (m->c.layout.parts.size || hl_mover_is_ordered(m)) {
        p->io.part = hl_mover_part_of(m, from);
        hl_mover_part_bounds(m, p->io.part, &begin, &end);
        p->io.part_end = from + p->io.len == end;
    }
    m->target.out++;
    hl_driver_write(m->c.target, &p->io);
}

/* Whether p ends its part is only known when more has come, or the end. */
static bool may_be_last(const struct hl_piece *p)
{
    const struct hl_mover *m = p->m;
    uint64_t end = p->slice.offset + p->slice.len, begin, part_end;
    bool parts = m->c.layout.parts.size > 0;

    if (m->size != HL_SIZE_UNKNOWN || (!parts && !hl_mover_is_late(m)))
        return false;
    hl_mover_part_bounds(m, hl_mover_part_of(m, p->slice.offset), &begin,
                         &part_end);
    return end >= m->read_end && (!parts || end != part_end);
}

static uint64_t piece_end(const struct hl_piece *p)
{
    return p->slice.offset + p->slice.len;
}

/* The first byte of p that is not acknowledged. */
static uint64_t first_open(const struct hl_piece *p)
{
    struct hl_range hole;

    if (!hl_ranges_next_hole(&p->m->acked, p->slice.offset, piece_end(p),
                             &hole))
        return piece_end(p);
    return hole.begin;
}

/* May p be written now, and from where? */
static bool write_turn(struct hl_piece *p, uint64_t now, uint64_t *from)
{
    struct hl_mover *m = p->m;
    struct hl_lane *l;

    if (may_be_last(p))
        return false;
    if (!hl_mover_is_ordered(m)) {
        *from = first_open(p);
        return true;
    }
    l = hl_lane_enter(m, p->slice.offset);
    if (!l || l->broken)
        return false;
    if (now < l->hold_ns) {
        m->wake_ns = hl_min(m->wake_ns, l->hold_ns);
        return false;
    }
    l->next = hl_lane_next(m, l->part, l->next);
    if (l->next < p->slice.offset || l->next >= p->slice.offset + p->slice.len)
        return false;
    *from = l->next;
    l->next = p->slice.offset + p->slice.len;
    l->outstanding++;
    return true;
}

void hl_mover_pump_writes(struct hl_mover *m)
{
    uint64_t now = hl_mover_now(m), from;
    struct hl_node *n, *next;

    if (now < m->target.hold_ns) {
        if (!hl_list_empty(&m->ready))
            m->wake_ns = hl_min(m->wake_ns, m->target.hold_ns);
        return;
    }
    for (n = hl_list_first(&m->ready); n && !m->stopping; n = next) {
        struct hl_piece *p = HL_CONTAINER(n, struct hl_piece, node);

        if (first_open(p) == piece_end(p)) {
            /* A buffer that goes may pump: from the start. */
            hl_piece_complete(p);
            next = hl_list_first(&m->ready);
            continue;
        }
        next = hl_list_next(&m->ready, n);
        if (p->not_before_ns > now) {
            m->wake_ns = hl_min(m->wake_ns, p->not_before_ns);
            continue;
        }
        if (write_turn(p, now, &from))
            submit_write(p, from);
    }
}
