/* See limit.h. */
#include "limit.h"

/* An end that is a connection says itself where its time went. */
static enum haul_limit limit_of_flow(const struct hl_flow *f,
                                     enum haul_limit starved)
{
    uint64_t most = f->starved_ns;
    enum haul_limit limit = starved;

    if (f->window_ns > most) {
        most = f->window_ns;
        limit = HAUL_LIMIT_WINDOW;
    }
    if (f->link_ns > most) {
        most = f->link_ns;
        limit = HAUL_LIMIT_LINK;
    }
    if (f->cpu_ns > most) {
        most = f->cpu_ns;
        limit = HAUL_LIMIT_CPU;
    }
    return most ? limit : HAUL_LIMIT_NONE;
}

enum haul_limit hl_limit(const struct hl_limit_sample *s)
{
    if (!s->interval_ns)
        return HAUL_LIMIT_NONE;
    if (s->rate_wait_ns > s->interval_ns / 2)
        return HAUL_LIMIT_RATE;
    if (s->workers && s->cpu_ns > s->interval_ns * s->workers * 4 / 5)
        return HAUL_LIMIT_CPU;
    if (s->target_flows)
        return limit_of_flow(&s->target, HAUL_LIMIT_SOURCE);
    /* A local target that holds the buffers is slower than the source. */
    if (s->writing > s->reading && s->memory_wait_ns > s->interval_ns / 2)
        return HAUL_LIMIT_TARGET;
    if (s->source_flows)
        return limit_of_flow(&s->source, s->memory_wait_ns > s->interval_ns / 2
                                             ? HAUL_LIMIT_MEMORY
                                             : HAUL_LIMIT_NONE);
    return s->reading ? HAUL_LIMIT_SOURCE : HAUL_LIMIT_NONE;
}
