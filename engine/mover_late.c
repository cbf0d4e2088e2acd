/*
 * Targets that acknowledge a part as a whole (HL_CAP_LATE). Nothing grows with
 * the chunks that were taken but two sets of ranges, which stay short since a
 * part is written in ascending order. See mover_private.h.
 */
#include "mover_private.h"

#include <string.h>

/* ---- Breaks ------------------------------------------------------------- */

/* An outage before anything was taken, as of any other target. */
static bool outage_again(struct hl_mover *m, int code,
                         const struct hl_error *err, uint64_t now)
{
    struct hl_mover_end *end = &m->target;
    uint64_t at = 0;

    if (now < end->hold_ns)
        return true;
    if (!hl_retry_again(&m->c.policy, &end->retry, code, now, m->c.random, &at))
        return false;
    end->hold_ns = hl_retry_at(at, now, err);
    hl_mover_report_retry(m, code, err, end->retry.tries);
    return true;
}

/* The first report of a break decides for all of it: until its writes are home
 * and the pause is over nothing is submitted that could break again. Fails the
 * mover when the part is not to be tried again. */
static void note_break(struct hl_mover *m, struct hl_lane *l, int code,
                       const struct hl_error *err)
{
    uint64_t now = hl_mover_now(m), at = 0;
    /* The connection was there: what it had got of it is lost. */
    bool took = l->took || (code != HAUL_E_RESOLVE && code != HAUL_E_CONNECT);
    bool again;

    if (m->stopping)
        return;
    if (hl_err_retry_class(code) == HL_RETRY_NEVER) {
        hl_mover_fail(m, code, err);
        return;
    }
    if (l->broken || now < l->hold_ns)
        return;
    l->took = l->ended = false;
    if (!took && hl_err_retry_class(code) == HL_RETRY_LINK) {
        again = outage_again(m, code, err, now);
    } else {
        again = hl_retry_counted(&m->c.policy, &l->retry, code, now,
                                 m->c.random, &at);
        l->hold_ns = hl_retry_at(at, now, err);
        if (again)
            hl_mover_report_retry(m, code, err, l->retry.tries);
    }
    if (!again)
        hl_mover_fail(m, code, err);
}

void hl_late_failed(struct hl_piece *p, int code, const struct hl_error *err)
{
    struct hl_mover *m = p->m;
    struct hl_lane *l = hl_lane_get(m, p->slice.offset);

    if (l)
        note_break(m, l, code, err);
    if (m->stopping)
        hl_piece_drop(p);
    else
        hl_piece_set_again(p);
}

/* ---- Taken -------------------------------------------------------------- */

void hl_late_taken(struct hl_piece *p)
{
    struct hl_mover *m = p->m;
    uint64_t offset = p->io.offset, end = offset + p->io.len;
    uint64_t before = hl_ranges_overlap(&m->once, offset, end);
    int rc = hl_ranges_add(&m->taken, offset, end);

    m->stats.resent_bytes += before - hl_min(before, p->io.skipped);

    if (rc == 0)
        rc = hl_ranges_add(&m->once, offset, end);
    if (rc == 0 && m->c.digest && m->c.events->taken)
        rc = m->c.events->taken(m->c.user, &p->slice, p->digest);
    hl_mover_note_taken(m, offset);
    hl_piece_drop(p);
    if (rc)
        hl_mover_fail(m, rc, NULL);
    /* How often is counted by the part; this end works. */
    hl_retry_progress(&m->target.retry);
    hl_lane_home(m, offset, true);
}

bool hl_late_owes(const struct hl_mover *m)
{
    for (struct hl_node *n = hl_list_first(&m->lanes); n;
         n = hl_list_next(&m->lanes, n))
        if (HL_CONTAINER(n, struct hl_lane, node)->ended)
            return true;
    return false;
}

void hl_late_compare(struct hl_piece *p)
{
    struct hl_mover *m = p->m;
    uint64_t offset = p->slice.offset;
    const uint8_t *sent = NULL;

    if (!hl_mover_drops(m) || m->stopping || !m->c.events->digest)
        return;
    if (hl_ranges_contains(&m->once, offset, offset + p->slice.len))
        sent = m->c.events->digest(m->c.user, offset);
    if (sent && memcmp(sent, p->digest, m->c.digest->size) != 0)
        hl_mover_changed(p);
}

/* ---- Acknowledged and lost ---------------------------------------------- */

/* The chunks of r that are now acknowledged as a whole. */
static void tell_chunks(struct hl_mover *m, struct hl_range r)
{
    struct hl_slice s = {.part_end = true};

    for (s.offset = r.begin - r.begin % m->c.chunk_size; s.offset < r.end;
         s.offset += m->c.chunk_size) {
        s.len = (uint32_t)hl_min(m->c.chunk_size, m->size - s.offset);
        s.part = s.offset / m->c.chunk_size;
        s.run_end = s.offset + s.len;
        if (hl_ranges_contains(&m->acked, s.offset, s.run_end))
            m->c.events->chunk(m->c.user, &s, NULL);
    }
}

void hl_late_acked(struct hl_mover *m, uint64_t offset, uint64_t end)
{
    struct hl_range r;

    while (hl_ranges_next(&m->taken, offset, &r) && r.begin < end) {
        r.end = hl_min(r.end, end);
        if (hl_ranges_remove(&m->taken, r.begin, r.end)) {
            hl_mover_fail(m, HAUL_E_NOMEM, NULL);
            return;
        }
        if (hl_mover_mark_acked(m, r.begin, r.end))
            return;
        tell_chunks(m, r);
        hl_mover_parts_done(m, r.begin, r.end);
        offset = r.end;
    }
    hl_retry_progress(&m->target.retry);
}

/* Nothing was kept of what is lost, and the source is past it. */
static void fail_for_good(struct hl_mover *m, const struct hl_error *err)
{
    struct hl_error e = {0};

    hl_err(&e, err->code, 0,
           "the source cannot be read again, and what was sent of it is lost: "
           "%s",
           err->message);
    if (err->detail[0])
        hl_err_detail(&e, "%s", err->detail);
    hl_err_hint(&e, "Write it to a file first, and copy that.");
    e.sys_errno = err->sys_errno;
    e.proto_status = err->proto_status;
    hl_mover_fail(m, e.code, &e);
}

void hl_late_lost(struct hl_mover *m, uint64_t offset, uint64_t end,
                  const struct hl_error *err)
{
    struct hl_range r;
    int rc = 0;

    if (m->stopping)
        return;
    if (hl_err_retry_class(err->code) == HL_RETRY_NEVER) {
        hl_mover_fail(m, err->code, err);
        return;
    }
    while (!m->stopping && hl_ranges_next(&m->taken, offset, &r) &&
           r.begin < end) {
        uint64_t part = hl_mover_part_of(m, r.begin), first, last;
        struct hl_lane *l = hl_lane_get(m, r.begin);

        if (!l)
            return;
        if (!hl_mover_can_seek(m)) {
            fail_for_good(m, err);
            return;
        }
        hl_mover_part_bounds(m, part, &first, &last);
        r.end = hl_min(hl_min(r.end, end), last);
        rc = hl_ranges_remove(&m->taken, r.begin, r.end);
        if (rc == 0)
            rc = hl_cursors_again(m->cursors, r.begin, r.end);
        if (rc) {
            hl_mover_fail(m, rc, NULL);
            return;
        }
        hl_mover_note_lost(m, r.begin);
        note_break(m, l, err->code, err);
        hl_lane_lost(m, r.begin);
        offset = r.end;
    }
}
