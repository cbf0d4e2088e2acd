/* Pieces, ordered parts, failures. See mover_private.h. */
#include "mover_private.h"

#include <string.h>

/* ---- Pieces ------------------------------------------------------------- */

static struct hl_list *bucket_of(struct hl_mover *m, uint64_t offset)
{
    return &m->buckets[(offset / m->c.chunk_size) % HL_MOVER_BUCKETS];
}

struct hl_piece *hl_piece_find(struct hl_mover *m, uint64_t offset)
{
    struct hl_list *l = bucket_of(m, offset);

    for (struct hl_node *n = hl_list_first(l); n; n = hl_list_next(l, n)) {
        struct hl_piece *p = HL_CONTAINER(n, struct hl_piece, bucket);

        if (offset >= p->slice.offset &&
            offset - p->slice.offset < p->slice.len)
            return p;
    }
    return NULL;
}

struct hl_piece *hl_piece_new(struct hl_mover *m, const struct hl_slice *s)
{
    struct hl_piece *p = hl_malloc(sizeof(*p));

    if (!p)
        return NULL;
    p->m = m;
    p->slice = *s;
    hl_list_append(bucket_of(m, s->offset), &p->bucket);
    m->pieces++;
    return p;
}

void hl_piece_release(struct hl_piece *p)
{
    struct hl_buf *buf = p->buf;

    p->buf = NULL;
    if (buf)
        hl_pool_put(p->m->c.pool, buf);
}

void hl_piece_drop(struct hl_piece *p)
{
    if (hl_node_linked(&p->node))
        hl_list_remove(&p->node);
    hl_list_remove(&p->bucket);
    p->m->pieces--;
    hl_piece_release(p);
    hl_free(p);
}

/* Keeps the list in ascending order of offsets; pieces mostly come that way,
 * so the search from the end is short. */
void hl_piece_insert(struct hl_list *l, struct hl_piece *p)
{
    struct hl_node *n = l->head.prev;

    while (n != &l->head &&
           HL_CONTAINER(n, struct hl_piece, node)->slice.offset >
               p->slice.offset)
        n = n->prev;
    hl_list_insert(n->next, &p->node);
}

void hl_piece_set_ready(struct hl_piece *p)
{
    p->state = HL_PIECE_READY;
    hl_piece_insert(&p->m->ready, p);
}

void hl_piece_set_again(struct hl_piece *p)
{
    struct hl_mover *m = p->m;

    if (p->buf && p->filled == p->slice.len) {
        hl_piece_set_ready(p);
        return;
    }
    hl_piece_release(p);
    p->filled = 0;
    p->state = HL_PIECE_REDO;
    hl_piece_insert(&m->redo, p);
}

/* ---- Lanes: ordered parts ----------------------------------------------- */

static struct hl_lane *find_lane(struct hl_mover *m, uint64_t part)
{
    for (struct hl_node *n = hl_list_first(&m->lanes); n;
         n = hl_list_next(&m->lanes, n)) {
        struct hl_lane *l = HL_CONTAINER(n, struct hl_lane, node);

        if (l->part == part)
            return l;
    }
    return NULL;
}

uint64_t hl_mover_part_of(const struct hl_mover *m, uint64_t offset)
{
    const struct hl_parts *parts = &m->c.layout.parts;

    return parts->size ? hl_parts_index(parts, offset) : 0;
}

void hl_mover_part_bounds(const struct hl_mover *m, uint64_t part,
                          uint64_t *begin, uint64_t *end)
{
    const struct hl_parts *parts = &m->c.layout.parts;
    uint64_t len = parts->size ? hl_parts_len(parts, part) : m->size;

    *begin = parts->size ? hl_parts_begin(parts, part) : 0;
    *end = *begin < m->size ? *begin + hl_min(len, m->size - *begin) : m->size;
}

/* The first byte of the part at or after from that is neither done nor taken
 * nor (writing) on its way there. */
static uint64_t first_left(struct hl_mover *m, uint64_t part, uint64_t from,
                           bool writing)
{
    struct hl_range hole;
    uint64_t begin, end;

    hl_mover_part_bounds(m, part, &begin, &end);
    begin = hl_max(begin, from);
    while (hl_ranges_next_hole(&m->acked, begin, end, &hole)) {
        struct hl_piece *p;
        struct hl_range taken;

        if (hl_ranges_next(&m->taken, hole.begin, &taken) &&
            taken.begin == hole.begin) {
            begin = taken.end;
            continue;
        }
        p = hl_piece_find(m, hole.begin);
        if (!p || (p->state != HL_PIECE_TAKEN &&
                   (!writing || p->state != HL_PIECE_WRITING)))
            return hole.begin;
        begin = p->io.offset + p->io.len;
    }
    return end;
}

uint64_t hl_lane_next(struct hl_mover *m, uint64_t part, uint64_t from)
{
    return first_left(m, part, from, true);
}

struct hl_lane *hl_lane_get(struct hl_mover *m, uint64_t offset)
{
    uint64_t part = hl_mover_part_of(m, offset);
    struct hl_lane *l = find_lane(m, part);

    if (l)
        return l;
    l = hl_malloc(sizeof(*l));
    if (!l) {
        hl_mover_fail(m, HAUL_E_NOMEM, NULL);
        return NULL;
    }
    l->part = part;
    l->next = hl_lane_next(m, part, 0);
    hl_list_append(&m->lanes, &l->node);
    return l;
}

/* A pipe opens parts in their order: the first that is open can always go on,
 * since all of it before has been read. */
static bool may_open(struct hl_mover *m, uint64_t part)
{
    uint64_t begin, end;
    uint32_t open = 0;

    for (; m->next_part < part; m->next_part++) {
        hl_mover_part_bounds(m, m->next_part, &begin, &end);
        if (!hl_ranges_contains(&m->acked, begin, end))
            return false;
    }
    for (struct hl_node *n = hl_list_first(&m->lanes); n;
         n = hl_list_next(&m->lanes, n))
        open++;
    return open < hl_mover_parts_open(m);
}

struct hl_lane *hl_lane_enter(struct hl_mover *m, uint64_t offset)
{
    uint64_t part = hl_mover_part_of(m, offset);
    struct hl_lane *l = find_lane(m, part);

    /* What can be read anywhere is read of open parts only. */
    if (l || !m->c.layout.parts.size || hl_mover_can_seek(m))
        return l ? l : hl_lane_get(m, offset);
    if (!may_open(m, part))
        return NULL;
    m->next_part = hl_max(m->next_part, part + 1);
    return hl_lane_get(m, offset);
}

/* Goes on after a break, once every write of the part is home. */
static void mend_lane(struct hl_mover *m, struct hl_lane *l)
{
    if (!l->broken || l->outstanding)
        return;
    l->broken = false;
    l->next = hl_lane_next(m, l->part, 0);
}

static struct hl_lane *lane_at(struct hl_mover *m, uint64_t offset)
{
    if (!hl_mover_is_ordered(m))
        return NULL;
    return find_lane(m, hl_mover_part_of(m, offset));
}

void hl_lane_took(struct hl_mover *m, uint64_t offset, bool part_end)
{
    struct hl_lane *l = lane_at(m, offset);

    if (!l)
        return;
    l->took = true;
    l->ended = l->ended || (part_end && hl_mover_is_late(m));
}

void hl_lane_home(struct hl_mover *m, uint64_t offset, bool good)
{
    struct hl_lane *l = lane_at(m, offset);

    if (!l)
        return;
    HL_ASSERT(l->outstanding > 0);
    l->outstanding--;
    l->broken = l->broken || !good;
    mend_lane(m, l);
}

void hl_lane_lost(struct hl_mover *m, uint64_t offset)
{
    struct hl_lane *l = lane_at(m, offset);

    if (!l)
        return;
    l->broken = true;
    mend_lane(m, l);
}

/* ---- Open parts --------------------------------------------------------- */

uint32_t hl_mover_parts_open(const struct hl_mover *m)
{
    bool room = hl_pool_limit(m->c.pool) / m->c.chunk_size >= 4;

    /* Where an order is kept more would only hold memory. */
    if (m->whole && m->keeps_order && m->parts > 1)
        return room ? 2 : 1;
    return m->parts;
}

static void move_taken(struct hl_mover *m, uint64_t offset, bool lost)
{
    uint64_t part, from;

    if (!m->c.layout.parts.size || !hl_mover_can_seek(m))
        return;
    part = hl_mover_part_of(m, offset);
    from = hl_cursors_taken(m->cursors, part);
    if (from == UINT64_MAX)
        return;
    if (lost)
        from = hl_min(from, offset);
    hl_cursors_set_taken(m->cursors, part, first_left(m, part, from, false));
}

void hl_mover_note_taken(struct hl_mover *m, uint64_t offset)
{
    move_taken(m, offset, false);
}

void hl_mover_note_lost(struct hl_mover *m, uint64_t offset)
{
    move_taken(m, offset, true);
}

/* ---- Done pieces -------------------------------------------------------- */

static void check_part_done(struct hl_mover *m, uint64_t part)
{
    uint64_t begin, end;
    struct hl_lane *l;

    hl_mover_part_bounds(m, part, &begin, &end);
    if (!hl_ranges_contains(&m->acked, begin, end))
        return;
    if (hl_mover_can_seek(m))
        hl_cursors_part_done(m->cursors, part);
    l = find_lane(m, part);
    if (l) {
        hl_list_remove(&l->node);
        hl_free(l);
    }
}

void hl_mover_parts_done(struct hl_mover *m, uint64_t begin, uint64_t end)
{
    uint64_t last = hl_mover_part_of(m, end - 1);

    HL_ASSERT(begin < end);
    if (!m->c.layout.parts.size)
        return;
    for (uint64_t part = hl_mover_part_of(m, begin); part <= last; part++)
        check_part_done(m, part);
}

void hl_piece_complete(struct hl_piece *p)
{
    struct hl_mover *m = p->m;
    struct hl_slice slice = p->slice;
    uint8_t digest[HL_DIGEST_MAX];

    memcpy(digest, p->digest, sizeof(digest));
    hl_mover_note_taken(m, slice.offset);
    hl_piece_drop(p);
    hl_mover_parts_done(m, slice.offset, slice.offset + slice.len);
    m->c.events->chunk(m->c.user, &slice, m->c.digest ? digest : NULL);
}

int hl_mover_mark_acked(struct hl_mover *m, uint64_t begin, uint64_t end)
{
    if (hl_ranges_add(&m->acked, begin, end) == 0)
        return 0;
    hl_mover_fail(m, HAUL_E_NOMEM, NULL);
    return HAUL_E_NOMEM;
}

/* ---- Failures ----------------------------------------------------------- */

void hl_mover_changed(struct hl_piece *p)
{
    struct hl_error err = {0};

    hl_err(&err, HAUL_E_CHANGED, 0,
           "the source changed: bytes %llu to %llu differ from what was "
           "read before",
           (unsigned long long)p->slice.offset,
           (unsigned long long)(p->slice.offset + p->slice.len));
    hl_mover_fail(p->m, err.code, &err);
}

void hl_mover_report_retry(struct hl_mover *m, int code,
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

void hl_piece_failed(struct hl_piece *p, struct hl_mover_end *end, int code,
                     const struct hl_error *err)
{
    struct hl_mover *m = p->m;
    uint64_t at = 0, now = hl_mover_now(m);
    bool again = true;

    if (m->stopping) {
        hl_piece_drop(p);
        return;
    }
    if (code == HAUL_E_LOST && end->object->role == HL_ROLE_TARGET) {
        hl_piece_drop(p);
        hl_mover_fail(m, code, err);
        return;
    }
    if (end == &m->target && hl_mover_is_late(m)) {
        hl_late_failed(p, code, err);
        return;
    }
    if (end == &m->source && !hl_mover_can_seek(m)) {
        again = false;
    } else if (hl_err_retry_class(code) == HL_RETRY_LINK) {
        if (now >= end->hold_ns) {
            again = hl_retry_again(&m->c.policy, &end->retry, code, now,
                                   m->c.random, &at);
            if (again) {
                end->hold_ns = hl_retry_at(at, now, err);
                hl_mover_report_retry(m, code, err, end->retry.tries);
            }
        }
    } else {
        again = hl_retry_again(&m->c.policy, &p->retry, code, now, m->c.random,
                               &at);
        if (again) {
            p->not_before_ns = hl_retry_at(at, now, err);
            hl_mover_report_retry(m, code, err, p->retry.tries);
        }
    }
    if (again) {
        hl_piece_set_again(p);
        return;
    }
    hl_piece_drop(p);
    hl_mover_fail(m, code, err);
}
