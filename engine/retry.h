/*
 * The one place that decides whether something is tried again. Pure: time and
 * randomness are arguments.
 *
 * LINK errors (hl_err_retry_class()) are outages of one end of a transfer:
 * tried again with backoff until give_up_ns pass without a byte of progress.
 * Before the end has ever answered, they fail after first_tries.
 * CHUNK errors are counted per piece: tried again at most "retries" times.
 * Everything else fails at once.
 *
 * Backoff: base 250 ms, doubled each try, at most 60 s, with jitter: the
 * delay is uniform in [half, whole].
 */
#ifndef HL_RETRY_H
#define HL_RETRY_H

#include "base.h"
#include "random.h"

struct hl_retry_policy {
    uint32_t retries;     /* per piece; 0: never try anything again */
    uint32_t first_tries; /* LINK errors before the first answer */
    uint64_t give_up_ns;
};

/* State of one end of a transfer (outages) or of one piece. */
struct hl_retry {
    uint32_t tries;    /* failures since the last progress */
    uint64_t since_ns; /* first failure since the last progress; 0 none */
    bool answered;     /* the end has worked once in this run */
};

/* After a failure with code at now_ns. true: try again at *at_ns. */
bool hl_retry_again(const struct hl_retry_policy *policy, struct hl_retry *r,
                    int code, uint64_t now_ns, struct hl_random *random,
                    uint64_t *at_ns);
/* The same for what is counted whatever went wrong: a part that the target
 * confirms as a whole is tried again at most "retries" times, outages too. */
bool hl_retry_counted(const struct hl_retry_policy *policy, struct hl_retry *r,
                      int code, uint64_t now_ns, struct hl_random *random,
                      uint64_t *at_ns);
/* at_ns, or later when the remote said so with its error. */
uint64_t hl_retry_at(uint64_t at_ns, uint64_t now_ns,
                     const struct hl_error *err);
/* Bytes were acknowledged (or the end answered). */
void hl_retry_progress(struct hl_retry *r);

/* Backoff of the n-th try (1 = first) without jitter, for messages. */
uint64_t hl_retry_backoff_ns(uint32_t tries);

#endif /* HL_RETRY_H */
