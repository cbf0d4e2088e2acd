/* The one place that decides about trying again. Pure; no threads. */
#include "retry.h"

#define BACKOFF_FIRST_NS (250 * HL_NS_PER_MS)
#define BACKOFF_MAX_NS (60 * HL_NS_PER_S)

uint64_t hl_retry_backoff_ns(uint32_t tries)
{
    uint64_t ns = BACKOFF_FIRST_NS;
    uint32_t i;

    for (i = 1; i < tries && ns < BACKOFF_MAX_NS; i++)
        ns *= 2;
    return hl_min(ns, BACKOFF_MAX_NS);
}

static bool may_try(const struct hl_retry_policy *policy,
                    const struct hl_retry *r, int code, uint64_t now_ns)
{
    enum hl_retry_class class = hl_err_retry_class(code);

    if (policy->retries == 0)
        return false;
    if (class == HL_RETRY_CHUNK)
        return r->tries <= policy->retries;
    if (class != HL_RETRY_LINK)
        return false;
    if (!r->answered && r->tries >= policy->first_tries)
        return false;
    return now_ns - r->since_ns < policy->give_up_ns;
}

static void count(struct hl_retry *r, uint64_t now_ns)
{
    HL_ASSERT(now_ns >= r->since_ns);
    if (r->since_ns == 0)
        r->since_ns = now_ns;
    if (r->tries < UINT32_MAX)
        r->tries++;
}

static uint64_t next_try(const struct hl_retry *r, uint64_t now_ns,
                         struct hl_random *random)
{
    uint64_t whole = hl_retry_backoff_ns(r->tries);

    return now_ns + whole / 2 + hl_random_below(random, whole / 2 + 1);
}

bool hl_retry_again(const struct hl_retry_policy *policy, struct hl_retry *r,
                    int code, uint64_t now_ns, struct hl_random *random,
                    uint64_t *at_ns)
{
    count(r, now_ns);
    if (!may_try(policy, r, code, now_ns))
        return false;
    *at_ns = next_try(r, now_ns, random);
    return true;
}

bool hl_retry_counted(const struct hl_retry_policy *policy, struct hl_retry *r,
                      int code, uint64_t now_ns, struct hl_random *random,
                      uint64_t *at_ns)
{
    count(r, now_ns);
    if (hl_err_retry_class(code) == HL_RETRY_NEVER ||
        r->tries > policy->retries)
        return false;
    *at_ns = next_try(r, now_ns, random);
    return true;
}

uint64_t hl_retry_at(uint64_t at_ns, uint64_t now_ns,
                     const struct hl_error *err)
{
    uint64_t wait = hl_min(err->retry_after_ns, UINT64_MAX - now_ns);

    return hl_max(at_ns, now_ns + wait);
}

void hl_retry_progress(struct hl_retry *r)
{
    r->tries = 0;
    r->since_ns = 0;
    r->answered = true;
}
