/* What holds a transfer back, from where the time of an interval went. A pure
 * function; the words are those of enum haul_limit. */
#ifndef HL_LIMIT_H
#define HL_LIMIT_H

#include "io.h"

struct hl_limit_sample {
    uint64_t interval_ns;
    uint64_t rate_wait_ns;           /* held by the rate limit */
    uint64_t memory_wait_ns;         /* a reader waited for a buffer */
    struct hl_flow source, target;   /* differences over the interval */
    bool source_flows, target_flows; /* the ends that are connections */
    uint32_t reading, writing;       /* operations out now */
    uint64_t cpu_ns;                 /* of the workers */
    uint32_t workers;
};

enum haul_limit hl_limit(const struct hl_limit_sample *s);

#endif /* HL_LIMIT_H */
