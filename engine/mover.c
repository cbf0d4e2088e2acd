/* The mover's life: start, stalls, stop, end. See mover.h. */
#include "mover_private.h"

#include <string.h>

/* ---- Start, stop, finish ------------------------------------------------ */

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
        if (m->offered_state) {
            m->c.offered->ordered_final(m->offered_state, m->offered_digest);
            m->offered_final = true;
        }
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
        hl_piece_drop(HL_CONTAINER(n, struct hl_piece, node));
    if (m->source.out || m->target.out || m->digesting || m->source.aborting ||
        m->target.aborting)
        return;
    for (uint32_t i = 0; i < HL_MOVER_BUCKETS; i++)
        while ((n = hl_list_first(&m->buckets[i])))
            hl_piece_drop(HL_CONTAINER(n, struct hl_piece, bucket));
    finish(m);
}

static void on_aborted(struct hl_op *op)
{
    struct hl_mover_end *end = HL_CONTAINER(op, struct hl_mover_end, abort);
    struct hl_mover *m = op->user;

    end->aborting = false;
    hl_mover_pump(m);
}

static void abort_end(struct hl_mover *m, struct hl_mover_end *end)
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
    hl_mover_pump(HL_CONTAINER(timer, struct hl_mover, timer));
}

void hl_mover_pump(struct hl_mover *m)
{
    if (m->finished)
        return;
    if (m->stopping) {
        check_home(m);
        return;
    }
    m->wake_ns = UINT64_MAX;
    hl_mover_pump_writes(m);
    if (!m->stopping)
        hl_mover_pump_reads(m);
    if (m->stopping) {
        check_home(m);
        return;
    }
    if (m->pieces == 0 && m->taken.bytes == 0 &&
        hl_cursors_exhausted(m->cursors) && m->size != HL_SIZE_UNKNOWN) {
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

void hl_mover_fail(struct hl_mover *m, int code, const struct hl_error *err)
{
    hl_mover_stop(m, code, err);
}

/* ---- Stalls ------------------------------------------------------------- */

static bool wire_moved(struct hl_mover_end *end)
{
    struct hl_flow flow = {0};
    uint64_t before = end->wire_bytes;

    if (!end->object || !end->object->driver->flow)
        return false;
    end->object->driver->flow(end->object->endpoint, &flow);
    end->wire_bytes = flow.wire_bytes;
    return flow.wire_bytes > before;
}

static void unstall_end(struct hl_mover_end *end)
{
    if (end->object && end->object->driver->unstall)
        end->object->driver->unstall(end->object);
}

/* Does the target owe acknowledgements? A target that waits for a slow source
 * must not lose its connections. */
static bool has_taken(struct hl_mover *m)
{
    if (hl_mover_is_late(m))
        return hl_late_owes(m);
    for (uint32_t i = 0; i < HL_MOVER_BUCKETS; i++)
        for (struct hl_node *n = hl_list_first(&m->buckets[i]); n;
             n = hl_list_next(&m->buckets[i], n))
            if (HL_CONTAINER(n, struct hl_piece, bucket)->state ==
                HL_PIECE_TAKEN)
                return true;
    return false;
}

static void on_stall_timer(struct hl_timer *timer)
{
    struct hl_mover *m = HL_CONTAINER(timer, struct hl_mover, stall_timer);
    bool moved = wire_moved(&m->source);
    uint64_t now = hl_mover_now(m);

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
    hl_mover_unblock(m);
}

/* ---- Life --------------------------------------------------------------- */

/* Runs are for what can be read anywhere and is not cut into parts. */
static void choose_runs(struct hl_mover *m, struct hl_cursors_config *cc)
{
    uint64_t chunk = m->c.chunk_size;

    m->runs = 1;
    if (!hl_mover_can_seek(m) || m->c.run_max == 0 ||
        m->size == HL_SIZE_UNKNOWN || m->c.layout.parts.size)
        return;
    m->in_runs = true;
    m->in_order = hl_mover_is_ordered(m) || m->c.offered;
    cc->run_max = hl_max(m->c.run_max - m->c.run_max % chunk, chunk);
    if (m->in_order)
        cc->run_max = hl_min(cc->run_max, 2 * chunk);
}

static int copy_done(struct hl_mover *m, const struct hl_ranges *done)
{
    struct hl_range r = {0, 0};
    int rc = 0;

    while (done && rc == 0 && hl_ranges_next(done, r.end, &r))
        rc = hl_ranges_add(&m->acked, r.begin, r.end);
    return rc;
}

/* Nothing counts of a part that is confirmed as a whole before all of it. */
static int keep_whole_parts(struct hl_mover *m)
{
    uint64_t begin, end, at = 0;
    struct hl_range r;
    int rc = 0;

    while (rc == 0 && hl_ranges_next(&m->confirmed, at, &r)) {
        hl_mover_part_bounds(m, hl_mover_part_of(m, r.begin), &begin, &end);
        if (!hl_ranges_contains(&m->confirmed, begin, end))
            rc = hl_ranges_remove(&m->confirmed, begin, end);
        at = end;
    }
    return rc;
}

static int copy_confirmed(struct hl_mover *m, const struct hl_ranges *confirmed,
                          const struct hl_ranges *done)
{
    struct hl_range r = {0, 0};
    int rc = 0;

    while (confirmed && rc == 0 && hl_ranges_next(confirmed, r.end, &r))
        rc = hl_ranges_add(&m->confirmed, r.begin, hl_min(r.end, m->size));
    if (rc == 0 && hl_mover_is_late(m))
        rc = keep_whole_parts(m);
    r.end = 0;
    while (done && rc == 0 && hl_ranges_next(done, r.end, &r))
        rc = hl_ranges_remove(&m->confirmed, r.begin, r.end);
    return rc;
}

static int start_whole(struct hl_mover *m, const struct hl_ranges *done)
{
    const struct hl_mover_config *c = &m->c;

    if (!c->digest || !c->whole || (done && done->bytes)) {
        m->c.offered = NULL;
        return 0;
    }
    m->whole_state = c->digest->ordered_new();
    m->whole = m->whole_state != NULL;
    if (!c->offered)
        return 0;
    HL_ASSERT(c->offered->size <= HL_OFFERED_MAX);
    m->offered_state = c->offered->ordered_new();
    m->keeps_order = true;
    return m->whole && m->offered_state ? 0 : HAUL_E_NOMEM;
}

int hl_mover_new(const struct hl_mover_config *config, struct hl_mover **out,
                 struct hl_error *err)
{
    struct hl_mover *m = hl_malloc(sizeof(*m));
    struct hl_cursors_config cc = {.size = config->size,
                                   .chunk_size = config->chunk_size,
                                   .parts = config->layout.parts};
    int rc;

    if (!m)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    m->c = *config;
    m->c.done = m->c.confirmed = NULL;
    m->size = config->size;
    m->source.object = config->source;
    m->target.object = config->target;
    /* They were opened; a late target may not have been asked anything. */
    m->source.retry.answered = true;
    m->target.retry.answered = !(config->layout.caps & HL_CAP_LATE);
    HL_ASSERT(!hl_mover_is_late(m) || hl_mover_is_ordered(m));
    hl_ranges_init(&m->acked);
    hl_ranges_init(&m->confirmed);
    hl_ranges_init(&m->taken);
    hl_ranges_init(&m->once);
    hl_list_init(&m->redo);
    hl_list_init(&m->parked);
    hl_list_init(&m->ready);
    hl_list_init(&m->lanes);
    for (uint32_t i = 0; i < HL_MOVER_BUCKETS; i++)
        hl_list_init(&m->buckets[i]);
    /* What cannot seek is read from begin to end, whatever the parts. */
    if (!hl_mover_can_seek(m))
        memset(&cc.parts, 0, sizeof(cc.parts));
    m->parts = 1;
    rc = start_whole(m, config->done);
    choose_runs(m, &cc);
    if (rc == 0)
        rc = hl_cursors_new(&cc, config->done, &m->cursors);
    if (rc == 0)
        rc = copy_done(m, config->done);
    if (rc == 0 && config->target)
        rc = copy_confirmed(m, config->confirmed, config->done);
    if (rc) {
        hl_mover_free(m);
        return hl_err(err, rc, 0, "%s", haul_err_text(rc));
    }
    if (config->target) {
        config->target->events = &hl_mover_object_events;
        config->target->events_user = m;
    }
    m->timer.fn = on_timer;
    m->stall_timer.fn = on_stall_timer;
    m->progress_ns = hl_mover_now(m);
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
        hl_free(HL_CONTAINER(n, struct hl_lane, node));
    if (m->whole_state)
        m->c.digest->ordered_free(m->whole_state);
    if (m->offered_state)
        m->c.offered->ordered_free(m->offered_state);
    hl_cursors_free(m->cursors);
    hl_ranges_fini(&m->acked);
    hl_ranges_fini(&m->confirmed);
    hl_ranges_fini(&m->taken);
    hl_ranges_fini(&m->once);
    hl_free(m);
}

void hl_mover_stats(const struct hl_mover *m, struct hl_mover_stats *out)
{
    *out = m->stats;
    out->size = m->size;
    out->acked_bytes = m->acked.bytes + m->confirmed.bytes;
    out->reading = m->source.out;
    out->writing = m->target.out;
    out->idle_writes = 0;
    for (struct hl_node *n = hl_list_first(&m->ready); n;
         n = hl_list_next(&m->ready, n))
        out->idle_writes++;
}

bool hl_mover_whole(const struct hl_mover *m, uint8_t *out)
{
    if (m->whole_final)
        memcpy(out, m->whole_digest, m->c.digest->size);
    return m->whole_final;
}

bool hl_mover_offered(const struct hl_mover *m, uint8_t *out)
{
    if (m->offered_final)
        memcpy(out, m->offered_digest, m->c.offered->size);
    return m->offered_final;
}

/* ---- Runs and parts ----------------------------------------------------- */

void hl_mover_set_runs(struct hl_mover *m, uint32_t runs)
{
    if (m->finished || !m->in_runs || m->runs == runs)
        return;
    m->runs = runs ? runs : 1;
    if (m->runs > 1 && !m->in_order && m->whole &&
        m->size > hl_pool_limit(m->c.pool) / 2)
        hl_mover_drop_whole(m);
    hl_timer_set(m->c.loop, &m->timer, hl_mover_now(m));
}

void hl_mover_set_parts(struct hl_mover *m, uint32_t n)
{
    uint32_t most = m->c.layout.streams_max;

    if (most && n > most)
        n = most;
    n = n ? n : 1;
    if (m->finished || !m->c.layout.parts.size || m->parts == n)
        return;
    m->parts = n;
    /* They are read side by side: the digest of the whole would hold all but
     * the first back until that is through. */
    if (n > 1 && m->whole && hl_mover_can_seek(m) && !m->keeps_order &&
        m->size > hl_parts_len(&m->c.layout.parts, 0))
        hl_mover_drop_whole(m);
    hl_timer_set(m->c.loop, &m->timer, hl_mover_now(m));
}

uint64_t hl_mover_run_memory(const struct hl_mover *m)
{
    /* In order: twice the chunks of all runs, so that the next are read while
     * the target writes. */
    uint64_t chunks = m->in_order ? 4 : 3;

    if (m->in_runs)
        return chunks * m->runs * m->c.chunk_size;
    return m->c.layout.parts.size ? chunks * m->parts * m->c.chunk_size : 0;
}
