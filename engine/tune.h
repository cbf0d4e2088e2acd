/*
 * How many streams. A pure function over what was measured: no clock, no I/O.
 *
 * The first number follows from the round trip: enough 2 MiB windows (the
 * window of a stock sshd) to carry START_RATE (250 MB/s) at that round trip,
 * between 1 and streams_max. Then, while the target's windows hold the
 * transfer back (window_limited), streams are added by half of what is there
 * (at least one) and kept while the rate rises by 20 % of the linear gain;
 * otherwise the last step is taken back and tuning rests for rest_ns (doubled
 * each time, from 10 s to 5 min), so that a link that becomes faster is found
 * again.
 */
#ifndef HL_TUNE_H
#define HL_TUNE_H

#include "base.h"

struct hl_tune {
    uint32_t streams;     /* wanted now */
    uint32_t streams_max; /* never more */
    uint32_t before;      /* before the step under test; 0: none */
    uint64_t rate_before;
    uint64_t step_ns; /* since when all wanted streams are up; 0 never
                       * sampled */
    uint64_t rest_until_ns, rest_ns;
};

struct hl_tune_sample {
    uint64_t now_ns;
    uint64_t rtt_ns;     /* 0 unknown */
    uint64_t rate;       /* acknowledged bytes per second since the last
                          * sample */
    uint32_t open;       /* streams that really are up */
    uint32_t limit;      /* the server takes no more than this; 0 unknown */
    bool window_limited; /* streams wait for the peer's window */
};

/* fixed: the user's number, 0 when haul decides. */
void hl_tune_init(struct hl_tune *t, uint32_t fixed, uint32_t streams_max);
/* The first number, once the round trip is known. */
uint32_t hl_tune_start(struct hl_tune *t, uint64_t rtt_ns);
/* Every sample of at least max(0.5 s, 10 round trips). Returns streams. */
uint32_t hl_tune_step(struct hl_tune *t, const struct hl_tune_sample *s);

#endif /* HL_TUNE_H */
