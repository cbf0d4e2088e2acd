/* Rate limit and rate meter. Pure; no threads. */
#include "rate.h"

#include <math.h>

#define METER_TAU_NS (2 * HL_NS_PER_S)

/* a * b / c, at most INT64_MAX; the product of a rate and a time does not fit
 * into 64 bits. */
static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c, bool round_up)
{
    __extension__ unsigned __int128 x = a;

    x *= b;
    if (round_up)
        x += c - 1;
    x /= c;
    return x > INT64_MAX ? INT64_MAX : (uint64_t)x;
}

void hl_rate_init(struct hl_rate *r, uint64_t bytes_per_s, uint64_t now_ns)
{
    r->bytes_per_s = bytes_per_s;
    r->burst_bytes = hl_min(bytes_per_s / 4, INT64_MAX);
    r->tokens = (int64_t)r->burst_bytes;
    r->at_ns = now_ns;
}

/* Turns the time since at_ns into whole tokens; what is left of it stays for
 * the next call, so that asking often loses nothing. */
static void refill(struct hl_rate *r, uint64_t now_ns)
{
    uint64_t room = r->burst_bytes - (uint64_t)r->tokens;
    uint64_t got;

    if (now_ns <= r->at_ns)
        return;
    got = mul_div(now_ns - r->at_ns, r->bytes_per_s, HL_NS_PER_S, false);
    if (got >= room) {
        r->tokens = (int64_t)r->burst_bytes;
        r->at_ns = now_ns;
        return;
    }
    r->tokens += (int64_t)got;
    r->at_ns += mul_div(got, HL_NS_PER_S, r->bytes_per_s, true);
}

uint64_t hl_rate_take(struct hl_rate *r, uint64_t bytes, uint64_t now_ns)
{
    if (r->bytes_per_s == 0)
        return 0;
    refill(r, now_ns);
    if (r->tokens >= 0) {
        r->tokens -= (int64_t)hl_min(bytes, INT64_MAX);
        return 0;
    }
    return r->at_ns +
           mul_div((uint64_t)-r->tokens, HL_NS_PER_S, r->bytes_per_s, true);
}

void hl_meter_init(struct hl_meter *m, uint64_t now_ns)
{
    *m = (struct hl_meter){.start_ns = now_ns, .at_ns = now_ns};
}

static void fold(struct hl_meter *m, uint64_t now_ns)
{
    double age_s, step_s;

    if (now_ns <= m->at_ns)
        return;
    age_s = (double)(now_ns - m->start_ns) / (double)HL_NS_PER_S;
    step_s = (double)(now_ns - m->at_ns) / (double)HL_NS_PER_S;
    if (now_ns - m->start_ns <= METER_TAU_NS) {
        m->rate = (double)m->total / age_s;
    } else {
        double tau_s = (double)METER_TAU_NS / (double)HL_NS_PER_S;
        double weight = -expm1(-step_s / tau_s);

        m->rate += ((double)m->pending / step_s - m->rate) * weight;
    }
    m->pending = 0;
    m->at_ns = now_ns;
}

void hl_meter_add(struct hl_meter *m, uint64_t bytes, uint64_t now_ns)
{
    m->pending += bytes;
    m->total += bytes;
    fold(m, now_ns);
}

uint64_t hl_meter_rate(struct hl_meter *m, uint64_t now_ns)
{
    fold(m, now_ns);
    return (uint64_t)(m->rate + 0.5);
}
