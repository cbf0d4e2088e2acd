/* The options of driver "faulty"; what they mean stands in faulty.c. */
#ifndef HL_FAULTY_H
#define HL_FAULTY_H

#include "url.h"

#define FAULTY_RATE_ONE UINT64_C(1000000000000)

enum faulty_kind {
    FAULTY_STAT,
    FAULTY_OPEN,
    FAULTY_READ,
    FAULTY_WRITE,
    FAULTY_SYNC,
    FAULTY_COMMIT,
    FAULTY_SUSPEND,
    FAULTY_DISCARD,
    FAULTY_DIGEST,
    FAULTY_COUNT
};

/* Rates in parts of FAULTY_RATE_ONE. */
struct faulty_options {
    uint64_t seed, after, delay_us, once;
    uint64_t error[FAULTY_COUNT];
    uint64_t shorter, flip, lost, hang, reorder, dup, commit_lost;
};

/* Takes "OPTIONS:INNER" apart. HAUL_E_INVAL. On success the caller finishes
 * inner. */
int hl_faulty_url_parse(const struct hl_url *url, struct faulty_options *o,
                        struct hl_url *inner, struct hl_error *err);

#endif /* HL_FAULTY_H */
