/* What the programs of tests/sim share: one engine in virtual time over mem:
 * and faulty:, and transfers on it whose every promise is checked. */
#ifndef SIM_H
#define SIM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "digest.h"
#include "drivers.h"
#include "membuf.h"
#include "registry.h"
#include "transfer.h"

/* No run needs more steps than this, however unlucky. */
#define STEPS_MAX 2000000

struct run {
    uint64_t seed;
    struct hl_random random;
    struct hl_engine *engine;
    struct hl_opts *opts;
    struct hl_env env;
    struct hl_transfer *t;
    bool verbose, finished, readback;
    int rc;
    struct hl_error error;
    uint64_t size, chunk, memory; /* memory 0: haul decides */
    bool late;                    /* nothing is confirmed before the end */
    char source[320], target[320];
    uint64_t cancel_at; /* acknowledged bytes; 0 never */
    uint64_t cancel_sent;
    uint32_t stats_late; /* times that the statistics said so */
    uint64_t resent;     /* by all tries */
    const char *verified;
    char warning[256]; /* or retry; the last one */
    uint64_t live_max; /* allocations */
};

static inline uint64_t pick(struct run *r, uint64_t bound)
{
    return hl_random_below(&r->random, bound);
}

static inline void on_state(void *user)
{
    (void)user;
}

static inline void on_progress(void *user)
{
    struct run *r = user;
    struct haul_stats s = {.size = sizeof(s)};

    hl_transfer_stats(r->t, &s);
    r->live_max = hl_max(r->live_max, (uint64_t)hl_mem_live());
    r->stats_late += s.late;
    if (r->memory)
        assert_true(s.memory_bytes <= r->memory);
    /* Nothing is said to be there that is not. */
    if (r->target[0])
        assert_true(s.acked_bytes <= hl_membuf_bytes());
    if (r->late && s.bytes != HL_SIZE_UNKNOWN)
        assert_true(s.acked_bytes == 0 || s.bytes <= hl_membuf_bytes());
    if ((r->cancel_at && s.acked_bytes >= r->cancel_at) ||
        (r->cancel_sent && s.sent_bytes >= r->cancel_sent)) {
        r->cancel_at = r->cancel_sent = 0;
        hl_transfer_cancel(r->t);
    }
}

static inline void on_error(void *user, const struct hl_error *error)
{
    struct run *r = user;

    if (r->verbose)
        printf("  retry or warning: %s\n", error->message);
    assert_true(error->message[0] != '\0');
    snprintf(r->warning, sizeof(r->warning), "%s", error->message);
}

static inline void on_finished(void *user, int rc, const struct hl_error *error)
{
    struct run *r = user;

    assert_false(r->finished);
    r->finished = true;
    r->rc = rc;
    r->error = *error;
    if (rc)
        assert_true(error->message[0] != '\0');
}

static const struct hl_transfer_events events = {
    on_state, on_progress, on_state, on_error, on_error, NULL, on_finished};

static inline void env_warn(const struct hl_env *env, const struct hl_error *w)
{
    (void)env;
    (void)w;
}

/* Starts items on the endpoints of the first; r->t stays. */
static inline void start_items(struct run *r, struct hl_item_config *items,
                               uint32_t count, const char *key)
{
    struct hl_transfer_config c = {0};
    struct hl_error err = {0};

    r->env.loop = hl_engine_loop(r->engine);
    r->finished = false;
    assert_int_equal(
        hl_registry_find(items->source.scheme)
            ->endpoint_new(&r->env, &items->source, &c.source, &err),
        0);
    assert_int_equal(
        hl_registry_find(items->target.scheme)
            ->endpoint_new(&r->env, &items->target, &c.target, &err),
        0);
    c.kind = HL_TRANSFER_COPY;
    c.items = items;
    c.item_count = count;
    c.opts = r->opts;
    c.digest = c.identity = hl_digest_find("xxh128");
    c.find_digest = hl_digest_find;
    c.key = key;
    c.events = &events;
    c.user = r;
    assert_int_equal(hl_transfer_new(r->engine, &c, &r->t, &err), 0);
    hl_transfer_start(r->t);
}

static inline void run_engine(struct run *r)
{
    int steps = 0;

    while (hl_engine_step(r->engine, -1)) {
        if (++steps > STEPS_MAX)
            fail_msg("seed %llu: no end in sight", (unsigned long long)r->seed);
    }
}

static inline void run_items(struct run *r, struct hl_item_config *items,
                             uint32_t count, const char *key)
{
    start_items(r, items, count, key);
    run_engine(r);
    assert_true(r->finished);
}

static inline void parse_item(struct hl_item_config *item, const char *source,
                              const char *target)
{
    struct hl_error err = {0};

    assert_int_equal(hl_url_parse(source, &item->source, &err), 0);
    assert_int_equal(hl_url_parse(target, &item->target, &err), 0);
}

static inline void fini_item(struct hl_item_config *item)
{
    hl_url_fini(&item->source);
    hl_url_fini(&item->target);
}

/* One transfer to its end. key NULL: nothing saved. Returns its rc; *whole
 * gets the digest when there is one. */
static inline int transfer(struct run *r, const char *source,
                           const char *target, const char *key, char *whole)
{
    struct haul_stats s = {.size = sizeof(s)};
    struct hl_item_config item;
    struct hl_item_result result;

    parse_item(&item, source, target);
    run_items(r, &item, 1, key);
    hl_transfer_item_result(r->t, 0, &result);
    hl_transfer_stats(r->t, &s);
    r->resent += s.resent_bytes;
    r->verified = r->rc ? "none" : result.verified;
    if (whole) {
        whole[0] = '\0';
        if (result.whole)
            hl_hex(result.whole, 16, whole);
    }
    hl_transfer_free(r->t);
    fini_item(&item);
    return r->rc;
}

static inline void begin(struct run *r, uint64_t seed)
{
    struct hl_engine_config config = {.virtual_time = true, .seed = seed};
    struct hl_error err = {0};

    memset(r, 0, sizeof(*r));
    r->seed = seed;
    r->random.state = seed;
    r->verbose = getenv("SIM_SEED") != NULL;
    assert_int_equal(hl_engine_new(&config, &r->engine, &err), 0);
    assert_int_equal(hl_engine_set_store_path(r->engine, ":memory:"), 0);
    assert_int_equal(hl_opts_new(&r->opts), 0);
    r->env.opts = r->opts;
    r->env.virtual_time = true;
    r->env.library_bytes_max = 1 << 20;
    r->env.warn = env_warn;
    r->env.find = hl_registry_find;
}

static inline void end(struct run *r)
{
    hl_engine_free(r->engine);
    hl_opts_free(r->opts);
    hl_membuf_reset();
    if (hl_mem_live() != 0)
        fail_msg("seed %llu: %lld allocations left",
                 (unsigned long long)r->seed, (long long)hl_mem_live());
}

static inline void option(struct run *r, int id, uint64_t value)
{
    struct hl_error err = {0};

    assert_int_equal(hl_opts_set_i64(r->opts, 0, id, (int64_t)value, &err), 0);
}

static inline int count_unfinished(void *user, const struct hl_saved *t,
                                   uint64_t size, uint64_t acked,
                                   const char *token)
{
    (void)size;
    (void)acked;
    (void)token;
    *(int *)user += t->state == HL_SAVED_UNFINISHED;
    return 0;
}

/* Rows of the state store. */
static inline int unfinished(struct run *r)
{
    struct hl_store *store;
    int count = 0;

    assert_int_equal(hl_engine_store(r->engine, &store, NULL), 0);
    assert_int_equal(hl_store_list(store, count_unfinished, &count, NULL), 0);
    return count;
}

static inline void expect_bytes(struct run *r)
{
    char source[160], want[65], got[65];

    r->cancel_at = r->cancel_sent = 0;
    r->target[0] = '\0';
    r->late = false;
    assert_int_equal(hl_opts_set_str(r->opts, 0, HAUL_OPT_VERIFY, NULL, NULL),
                     0);
    if (r->size == 0)
        return; /* nothing to compare; that it exists is checked below */
    snprintf(source, sizeof(source), "mem:gen?size=%llu&seed=%llu",
             (unsigned long long)r->size, (unsigned long long)r->seed);
    assert_int_equal(transfer(r, source, "mem:null", NULL, want), 0);
    assert_int_equal(transfer(r, "mem:buf?id=t", "mem:null", NULL, got), 0);
    if (strcmp(want, got) != 0 || !want[0])
        fail_msg("seed %llu: bytes differ (%s, %s): %s",
                 (unsigned long long)r->seed, want, got, r->source);
}

#endif /* SIM_H */
