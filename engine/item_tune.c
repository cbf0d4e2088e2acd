/* How many streams an item's ends get: what was measured goes to tune.h, its
 * answer to the drivers and, for a source with runs or a target with parts, to
 * the mover. */
#include "item.h"

#define STREAMS_MAX 64u
/* Between two parts a stream waits for an answer, also on a short way. */
#define PARTS_FIRST 4u

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
    struct hl_tune *tune = &it->tunes[role].tune;
    uint32_t most =
        source ? it->source_layout.streams_max : it->layout.streams_max;

    /* The windows of a source without runs are ours and as wide as the link:
     * one stream fills it (DESIGN section 5), more are only for who asks. */
    if (source && !fixed && !it->source_layout.run_max)
        fixed = 1;
    most = most ? most : STREAMS_MAX;
    hl_tune_init(tune, fixed, most);
    hl_tune_start(tune, rtt_ns);
    if (!source && !fixed && it->layout.parts.size)
        tune->streams =
            (uint32_t)hl_max(tune->streams, hl_min(PARTS_FIRST, most));
    return tune->streams;
}

/* Does every stream have a connection of its own, whose rate something on the
 * way may limit? Sources are read so, parts are sent so; the channels of a
 * connection share it. */
static bool has_connections(const struct hl_item *it, enum hl_role role)
{
    const struct hl_layout *l = &it->layout;

    return role == HL_ROLE_SOURCE || l->parts.size ||
           (l->streams_max > 1 && (l->caps & (HL_CAP_LATE | HL_CAP_TELLS)));
}

/* Parts that are acknowledged as a whole come in lumps, and so do chunks that
 * connections take in step: the kernels count evenly. */
static uint64_t moved_bytes(const struct hl_item *it, enum hl_role role,
                            const struct hl_flow *flow)
{
    struct hl_mover_stats stats;

    hl_item_stats(it, &stats);
    if (role == HL_ROLE_SOURCE && it->source_layout.run_max)
        return stats.read_bytes;
    if (role == HL_ROLE_TARGET && has_connections(it, role) && flow->wire_bytes)
        return flow->wire_bytes;
    return it->layout.caps & HL_CAP_LATE ? stats.sent_bytes : stats.acked_bytes;
}

static uint32_t next_streams(struct hl_item *it, enum hl_role role,
                             const struct hl_flow *flow, uint64_t bytes,
                             uint64_t now)
{
    struct hl_item_tune *t = &it->tunes[role];
    uint64_t past = now - t->at_ns, busy;
    struct hl_tune_sample s = {.now_ns = now,
                               .rtt_ns = flow->rtt_ns,
                               .open = t->open,
                               .limit = flow->streams_limit};

    /* What is sent again is no longer acknowledged. */
    if (bytes > t->bytes && past)
        s.rate = (uint64_t)((double)(bytes - t->bytes) * 1e9 / (double)past);
    busy = flow->window_ns - t->flow.window_ns;
    if (has_connections(it, role))
        busy += flow->link_ns - t->flow.link_ns;
    s.window_limited = busy > past * flow->connections / 4;
    return hl_tune_step(&t->tune, &s);
}

static void tell_mover(struct hl_item *it)
{
    if (it->runs && it->from_source)
        hl_mover_set_runs(it->mover, it->runs);
    if (it->parts && it->moving == HL_MOVE_COPY)
        hl_mover_set_parts(it->mover, it->parts);
}

static void tune_end(struct hl_item *it, struct hl_object *obj, uint64_t now)
{
    struct hl_item_tune *t = &it->tunes[obj->role];
    bool runs = obj->role == HL_ROLE_SOURCE && it->source_layout.run_max;
    struct hl_flow flow = {0};
    uint64_t bytes;
    uint32_t n;

    if (obj->driver->flow)
        obj->driver->flow(obj->endpoint, &flow);
    bytes = moved_bytes(it, obj->role, &flow);
    t->open = (uint32_t)hl_max(t->open, flow.streams);
    if (!t->on)
        n = first_streams(it, obj->role, flow.rtt_ns);
    else if (!t->told)
        n = t->tune.streams;
    else if (now - t->at_ns < hl_max(HL_NS_PER_S / 2, 10 * flow.rtt_ns))
        return;
    else
        n = next_streams(it, obj->role, &flow, bytes, now);
    if (obj->driver->set_streams)
        obj->driver->set_streams(obj, n);
    if (runs)
        it->runs = n;
    else if (obj->role == HL_ROLE_TARGET && it->layout.parts.size)
        it->parts = n;
    tell_mover(it);
    t->on = t->told = true;
    t->open = 0;
    t->at_ns = now;
    t->bytes = bytes;
    t->flow = flow;
}

/* Of a target whose driver measures nothing. */
static void fix_parts(struct hl_item *it)
{
    uint32_t most = it->layout.streams_max ? it->layout.streams_max : 1;
    uint32_t fixed = fixed_streams(it, HL_ROLE_TARGET);

    it->parts = fixed ? (uint32_t)hl_min(fixed, most) : most;
    tell_mover(it);
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
    else if (copy && it->layout.parts.size && !it->parts)
        fix_parts(it);
    /* How many runs there are is decided here for any source. */
    if ((it->source_layout.run_max && it->from_source) ||
        (copy && !target && can_tune(it->source, it->source_open)))
        tune_end(it, it->source, now_ns);
}

void hl_item_tune_mover(struct hl_item *it, uint64_t now_ns)
{
    bool runs = it->from_source && it->source_layout.run_max && !it->runs;
    bool parts = it->moving == HL_MOVE_COPY && it->layout.parts.size;

    tell_mover(it);
    if (runs || (parts && !it->parts))
        hl_item_tune(it, now_ns);
}
