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
#include "store_db.h"
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
    uint64_t sent;     /* by the last try, for the first time */
    uint64_t resumed;  /* what it found */
    bool already;      /* … which was all of it */
    uint32_t losses;   /* targets that lost what they had, in all tries */
    /* kill -9 before this step of the next transfer; 0 never. What there was
     * then is what the process after it finds. */
    int kill_at;
    bool killed;
    struct hl_membuf_copy *bufs;
    unsigned char *db;
    int64_t db_bytes;
    /* Instead of the driver of targets, which it passes things on to; or
     * NULL. */
    const struct hl_driver *target_driver;
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
    r->losses += error->code == HAUL_E_LOST;
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

static inline char *env_fact(const struct hl_env *env, const char *key)
{
    (void)env;
    (void)key;
    return NULL;
}

static inline void env_keep_fact(const struct hl_env *env, const char *key,
                                 const char *value)
{
    (void)env;
    (void)key;
    (void)value;
}

static inline void env_say(const struct hl_env *env, const char *text)
{
    (void)env;
    (void)text;
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
    if (r->target_driver)
        c.target->driver = r->target_driver;
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

static inline struct hl_store *store_of(struct run *r)
{
    struct hl_store *store;

    assert_int_equal(hl_engine_store(r->engine, &store, NULL), 0);
    return store;
}

/* The process ends here; what it still does is undone by revive(). */
static inline void kill_here(struct run *r)
{
    struct haul_stats s = {.size = sizeof(s)};
    sqlite3_int64 bytes;

    hl_transfer_stats(r->t, &s);
    r->killed = true;
    r->sent = s.sent_bytes - s.resent_bytes;
    r->resumed = s.resumed_bytes;
    r->cancel_at = r->cancel_sent = 0;
    r->bufs = hl_membuf_save();
    assert_non_null(r->bufs);
    r->db = sqlite3_serialize(store_of(r)->db, "main", &bytes, 0);
    assert_non_null(r->db);
    r->db_bytes = bytes;
    hl_transfer_cancel(r->t);
}

/* The next process. */
static inline void revive(struct run *r)
{
    struct hl_engine_config config = {.virtual_time = true,
                                      .seed = pick(r, UINT64_MAX)};

    hl_engine_free(r->engine);
    assert_int_equal(hl_engine_new(&config, &r->engine, NULL), 0);
    assert_int_equal(hl_engine_set_store_path(r->engine, ":memory:"), 0);
    if (r->memory)
        hl_engine_set_memory(r->engine, r->memory);
    assert_int_equal(hl_membuf_restore(r->bufs), 0);
    hl_membuf_copy_free(r->bufs);
    r->bufs = NULL;
    /* SQLite frees it. */
    assert_int_equal(sqlite3_deserialize(store_of(r)->db, "main", r->db,
                                         r->db_bytes, r->db_bytes,
                                         SQLITE_DESERIALIZE_FREEONCLOSE |
                                             SQLITE_DESERIALIZE_RESIZEABLE),
                     SQLITE_OK);
    r->db = NULL;
}

static inline void run_engine(struct run *r)
{
    int steps = 0;

    while (hl_engine_step(r->engine, -1)) {
        if (r->kill_at && steps + 1 == r->kill_at)
            kill_here(r);
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

/* One transfer to its end, or to r->kill_at (then r->killed, and what it
 * returns says nothing). key NULL: nothing saved. Returns its rc; *whole gets
 * the digest when there is one. */
static inline int transfer(struct run *r, const char *source,
                           const char *target, const char *key, char *whole)
{
    struct haul_stats s = {.size = sizeof(s)};
    struct hl_item_config item;
    struct hl_item_result result;

    r->killed = false;
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
    if (!r->killed) {
        r->sent = s.sent_bytes - s.resent_bytes;
        r->resumed = s.resumed_bytes;
    }
    r->already = r->rc == 0 && result.already_there;
    hl_transfer_free(r->t);
    fini_item(&item);
    if (r->killed)
        revive(r);
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
    r->env.fact = env_fact;
    r->env.keep_fact = env_keep_fact;
    r->env.say = env_say;
    r->env.digest = hl_digest_find_offered;
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
    int count = 0;

    assert_int_equal(hl_store_list(store_of(r), count_unfinished, &count, NULL),
                     0);
    return count;
}

static inline void expect_bytes(struct run *r)
{
    char source[160], want[65], got[65];

    r->cancel_at = r->cancel_sent = 0;
    r->kill_at = 0;
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

/* A source with a time of its own, as files have. */
static inline void make_source(struct run *r, uint64_t size)
{
    char source[96];

    snprintf(source, sizeof(source), "mem:gen?size=%llu&seed=%llu",
             (unsigned long long)size, (unsigned long long)r->seed);
    assert_int_equal(transfer(r, source, "mem:buf?id=s", NULL, NULL), 0);
    assert_int_equal(hl_membuf_set("s", INT64_C(1700000000123456789), 0, NULL),
                     0);
    r->size = size;
}

/* Half of it is there, and saved; *work is where. */
static inline void begin_half(struct run *r, const char *target, char *work,
                              size_t cap)
{
    sqlite3_stmt *q;

    begin(r, 7);
    option(r, HAUL_OPT_CHUNK_SIZE, 65536);
    make_source(r, 20 * 65536);
    option(r, HAUL_OPT_RATE_LIMIT, 200000);
    r->cancel_at = 10 * 65536;
    assert_int_equal(transfer(r, "mem:buf?id=s", target, "key", NULL),
                     HAUL_E_CANCELED);
    assert_int_equal(
        hl_opts_set_str(r->opts, 0, HAUL_OPT_RATE_LIMIT, NULL, NULL), 0);
    assert_int_equal(sqlite3_prepare_v2(store_of(r)->db,
                                        "SELECT substr(token, 5) FROM objects"
                                        " WHERE (SELECT count(*) FROM chunks)"
                                        " BETWEEN 9 AND 15",
                                        -1, &q, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    snprintf(work, cap, "%s", sqlite3_column_text(q, 0));
    sqlite3_finalize(q);
    assert_true(hl_membuf_stat(work, NULL));
}

#endif /* SIM_H */
