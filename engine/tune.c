/* How many streams. Pure; no threads. */
#include "tune.h"

#include <string.h>

#define START_RATE UINT64_C(250000000)   /* bytes per second */
#define WINDOW_BYTES (UINT64_C(2) << 20) /* of a stock sshd */
#define REST_MIN_NS (10 * HL_NS_PER_S)
#define REST_MAX_NS (300 * HL_NS_PER_S)
#define REST_FOREVER UINT64_MAX /* the user has decided */
/* A rate counts when its streams have worked for so long: congestion windows
 * grow for some round trips, and the sample must lie behind the last opening.
 */
#define SETTLE_MIN_NS (2 * HL_NS_PER_S)
#define SETTLE_ROUND_TRIPS 20

void hl_tune_init(struct hl_tune *t, uint32_t fixed, uint32_t streams_max)
{
    memset(t, 0, sizeof(*t));
    t->streams_max = streams_max ? streams_max : 1;
    t->streams = fixed ? (uint32_t)hl_min(fixed, t->streams_max) : 1;
    t->rest_until_ns = fixed ? REST_FOREVER : 0;
    t->rest_ns = REST_MIN_NS;
}

uint32_t hl_tune_start(struct hl_tune *t, uint64_t rtt_ns)
{
    uint64_t bytes = rtt_ns / (HL_NS_PER_S / START_RATE);
    uint64_t streams = bytes / WINDOW_BYTES + (bytes % WINDOW_BYTES != 0);

    if (t->rest_until_ns != REST_FOREVER)
        t->streams = (uint32_t)hl_min(hl_max(streams, 1), t->streams_max);
    return t->streams;
}

/* The step under test has paid: the rate rose by 20 % of what it would have
 * risen by if every stream carried the same. */
static bool step_paid(const struct hl_tune *t, uint64_t rate)
{
    double linear = (double)t->rate_before * (double)(t->streams - t->before) /
                    (double)t->before;

    return (double)rate >= (double)t->rate_before + 0.2 * linear;
}

static void judge(struct hl_tune *t, const struct hl_tune_sample *s)
{
    if (step_paid(t, s->rate)) {
        t->rest_ns = REST_MIN_NS;
    } else {
        t->streams = t->before;
        t->rest_until_ns = s->now_ns + t->rest_ns;
        t->rest_ns = hl_min(t->rest_ns * 2, REST_MAX_NS);
    }
    t->before = 0;
}

uint32_t hl_tune_step(struct hl_tune *t, const struct hl_tune_sample *s)
{
    uint64_t settle_ns = hl_max(SETTLE_MIN_NS, s->rtt_ns * SETTLE_ROUND_TRIPS);
    uint32_t most = t->streams_max;

    if (s->limit && s->limit < most)
        most = s->limit;
    if (t->rest_until_ns == REST_FOREVER)
        return (uint32_t)hl_min(t->streams, most);
    if (t->streams > most)
        t->streams = most;
    if (t->before >= t->streams)
        t->before = 0; /* the server has ended the test */
    if (s->open < t->streams || t->step_ns == 0)
        t->step_ns = s->now_ns;
    if (s->now_ns - t->step_ns < settle_ns)
        return t->streams; /* the rate is not yet that of these streams */
    if (t->before)
        judge(t, s);
    if (s->window_limited && s->rate > 0 && t->streams < most &&
        s->now_ns >= t->rest_until_ns) {
        t->before = t->streams;
        t->rate_before = s->rate;
        t->step_ns = s->now_ns;
        t->streams +=
            (uint32_t)hl_min(hl_max(t->streams / 2, 1), most - t->streams);
    }
    return t->streams;
}
