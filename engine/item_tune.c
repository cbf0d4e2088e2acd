/* How many streams an item's ends get: what was measured goes to tune.h, its
 * answer to the drivers and, for a source with runs, to the mover. */
#include "item.h"

#define STREAMS_MAX 64u

/* What the user says; 0: haul decides. */
static uint32_t fixed_streams(const struct hl_item *it, enum hl_role role)
{
    const struct hl_opts *o = it->t->c.opts;
    int64_t connections = hl_opts_i64(o, HAUL_OPT_CONNECTIONS);
    int64_t streams = hl_opts_i64(o, HAUL_OPT_STREAMS);
    bool runs = role == HL_ROLE_SOURCE && it->source_layout.run_max;

    /* Runs may come from several places and still be written in order. */
    if (hl_opts_i64(o, HAUL_OPT_IN_ORDER) && !runs)
        return 1;
    if (connections <= 0 && streams <= 0)
        return 0;
    return (uint32_t)((connections > 0 ? connections : 1) *
                      (streams > 0 ? streams : 1));
}

static uint32_t first_streams(struct hl_item *it, enum hl_role role,
                              uint64_t rtt_ns)
{
    bool source = role == HL_ROLE_SOURCE;
    uint32_t fixed = fixed_streams(it, role);
    uint32_t most =
        source ? it->source_layout.streams_max : it->layout.streams_max;

    /* The windows of a source without runs are ours and as wide as the link:
     * one stream fills it (DESIGN section 5), more are only for who asks. */
    if (source && !fixed && !it->source_layout.run_max)
        fixed = 1;
    hl_tune_init(&it->tunes[role].tune, fixed, most ? most : STREAMS_MAX);
    return hl_tune_start(&it->tunes[role].tune, rtt_ns);
}

static uint32_t next_streams(struct hl_item *it, enum hl_role role,
                             const struct hl_flow *flow, uint64_t bytes,
                             uint64_t now)
{
    struct hl_item_tune *t = &it->tunes[role];
    uint64_t past = now - t->at_ns, busy;
    struct hl_tune_sample s = {.now_ns = now,
                               .rtt_ns = flow->rtt_ns,
                               .open = flow->streams,
                               .limit = flow->streams_limit};

    /* What is sent again is no longer acknowledged. */
    if (bytes > t->bytes && past)
        s.rate = (uint64_t)((double)(bytes - t->bytes) * 1e9 / (double)past);
    busy = flow->window_ns - t->flow.window_ns;
    if (role == HL_ROLE_SOURCE)
        busy += flow->link_ns - t->flow.link_ns;
    s.window_limited = busy > past * flow->connections / 4;
    return hl_tune_step(&t->tune, &s);
}

static void tune_end(struct hl_item *it, struct hl_object *obj, uint64_t now)
{
    struct hl_item_tune *t = &it->tunes[obj->role];
    bool runs = obj->role == HL_ROLE_SOURCE && it->source_layout.run_max;
    struct hl_mover_stats stats;
    struct hl_flow flow = {0};
    uint64_t bytes;
    uint32_t n;

    if (obj->driver->flow)
        obj->driver->flow(obj->endpoint, &flow);
    hl_item_stats(it, &stats);
    bytes = runs                  ? stats.read_bytes
            : hl_item_is_late(it) ? stats.sent_bytes
                                  : stats.acked_bytes;
    if (!t->on)
        n = first_streams(it, obj->role, flow.rtt_ns);
    else if (now - t->at_ns < hl_max(HL_NS_PER_S / 2, 10 * flow.rtt_ns))
        return;
    else
        n = next_streams(it, obj->role, &flow, bytes, now);
    if (obj->driver->set_streams)
        obj->driver->set_streams(obj, n);
    if (runs) {
        it->runs = n;
        hl_mover_set_runs(it->mover, n);
    }
    t->on = true;
    t->at_ns = now;
    t->bytes = bytes;
    t->flow = flow;
}

static bool can_tune(const struct hl_object *obj, bool open)
{
    return obj && open && obj->driver->set_streams && obj->driver->flow;
}

void hl_item_tune(struct hl_item *it, uint64_t now_ns)
{
    bool copy = it->moving == HL_MOVE_COPY;
    bool target = copy && can_tune(it->target, it->target_open);

    HL_ASSERT(it->mover);
    if (target)
        tune_end(it, it->target, now_ns);
    /* How many runs there are is decided here for any source. */
    if ((it->source_layout.run_max && it->from_source) ||
        (copy && !target && can_tune(it->source, it->source_open)))
        tune_end(it, it->source, now_ns);
}
