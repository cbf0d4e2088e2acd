/* Rate limit: a token bucket that may go into debt for one piece, so that
 * pieces of any size pass and the average holds. Pure; time is an argument. */
#ifndef HL_RATE_H
#define HL_RATE_H

#include "base.h"

struct hl_rate {
    uint64_t bytes_per_s; /* 0: no limit */
    uint64_t burst_bytes; /* most that idle time saves up */
    int64_t tokens;       /* may be negative */
    uint64_t at_ns;       /* when tokens was true */
};

/* burst: a quarter of a second. */
void hl_rate_init(struct hl_rate *r, uint64_t bytes_per_s, uint64_t now_ns);
/* 0: bytes may pass now and are charged; otherwise the time (ns, absolute) at
 * which to ask again, nothing charged. */
uint64_t hl_rate_take(struct hl_rate *r, uint64_t bytes, uint64_t now_ns);

/* Bytes per second over the last seconds, for display and decisions: an
 * exponential average with a time constant of two seconds, exact while
 * younger than that. */
struct hl_meter {
    uint64_t start_ns, at_ns;
    uint64_t pending, total;
    double rate;
};
void hl_meter_init(struct hl_meter *m, uint64_t now_ns);
void hl_meter_add(struct hl_meter *m, uint64_t bytes, uint64_t now_ns);
uint64_t hl_meter_rate(struct hl_meter *m, uint64_t now_ns);

#endif /* HL_RATE_H */
