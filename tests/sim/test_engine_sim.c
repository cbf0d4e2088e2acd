/*
 * The whole engine in virtual time over faulty drivers: whatever fails, the
 * target has the right bytes or the transfer says what is wrong.
 *
 * Each run follows from its seed alone. SIM_RUNS=N sets how many (1000, with
 * HAUL_LONG=1 10000),
 * SIM_SEED=N runs one and prints what it does.
 */
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
    uint64_t size, chunk;
    char source[256], target[256];
    uint64_t cancel_at; /* acknowledged bytes; 0 never */
    uint64_t acked_before;
};

static uint64_t pick(struct run *r, uint64_t bound)
{
    return hl_random_below(&r->random, bound);
}

static void on_state(void *user)
{
    (void)user;
}

static void on_progress(void *user)
{
    struct run *r = user;
    struct haul_stats s = {.size = sizeof(s)};

    hl_transfer_stats(r->t, &s);
    if (r->cancel_at && s.acked_bytes >= r->cancel_at) {
        r->cancel_at = 0;
        hl_transfer_cancel(r->t);
    }
}

static void on_error(void *user, const struct hl_error *error)
{
    struct run *r = user;

    if (r->verbose)
        printf("  retry or warning: %s\n", error->message);
    assert_true(error->message[0] != '\0');
}

static void on_finished(void *user, int rc, const struct hl_error *error)
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

static void env_warn(const struct hl_env *env, const struct hl_error *w)
{
    (void)env;
    (void)w;
}

/* Starts items on the endpoints of the first; r->t stays. */
static void start_items(struct run *r, struct hl_item_config *items,
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
    c.key = key;
    c.events = &events;
    c.user = r;
    assert_int_equal(hl_transfer_new(r->engine, &c, &r->t, &err), 0);
    hl_transfer_start(r->t);
}

static void run_engine(struct run *r)
{
    int steps = 0;

    while (hl_engine_step(r->engine, -1)) {
        if (++steps > STEPS_MAX)
            fail_msg("seed %llu: no end in sight", (unsigned long long)r->seed);
    }
}

static void run_items(struct run *r, struct hl_item_config *items,
                      uint32_t count, const char *key)
{
    start_items(r, items, count, key);
    run_engine(r);
    assert_true(r->finished);
}

static void parse_item(struct hl_item_config *item, const char *source,
                       const char *target)
{
    struct hl_error err = {0};

    assert_int_equal(hl_url_parse(source, &item->source, &err), 0);
    assert_int_equal(hl_url_parse(target, &item->target, &err), 0);
}

static void fini_item(struct hl_item_config *item)
{
    hl_url_fini(&item->source);
    hl_url_fini(&item->target);
}

/* One transfer to its end. key NULL: nothing saved. Returns its rc; *whole
 * gets the digest when there is one. */
static int transfer(struct run *r, const char *source, const char *target,
                    const char *key, char *whole)
{
    struct hl_item_config item;
    struct hl_item_result result;

    parse_item(&item, source, target);
    run_items(r, &item, 1, key);
    hl_transfer_item_result(r->t, 0, &result);
    if (whole) {
        whole[0] = '\0';
        if (result.whole)
            hl_hex(result.whole, 16, whole);
    }
    hl_transfer_free(r->t);
    fini_item(&item);
    return r->rc;
}

static void begin(struct run *r, uint64_t seed)
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

static void end(struct run *r)
{
    hl_engine_free(r->engine);
    hl_opts_free(r->opts);
    hl_membuf_reset();
    if (hl_mem_live() != 0)
        fail_msg("seed %llu: %lld allocations left",
                 (unsigned long long)r->seed, (long long)hl_mem_live());
}

static void option(struct run *r, int id, uint64_t value)
{
    struct hl_error err = {0};

    assert_int_equal(hl_opts_set_i64(r->opts, 0, id, (int64_t)value, &err), 0);
}

/* A rate of faults: mostly rare, sometimes none, sometimes many. */
static double rate(struct run *r)
{
    static const double rates[] = {0, 0, 0, 0.001, 0.01, 0.05, 0.2};

    return rates[pick(r, HL_LEN(rates))];
}

static void choose_names(struct run *r, bool source_seeks)
{
    uint64_t parts = pick(r, 3), ordered = pick(r, 2);
    /* A part that is acknowledged as a whole is not lost after that. */
    bool late = parts && pick(r, 2);
    /* Nor is the middle of a stream lost without what follows. */
    bool whole = late || ordered;
    char layout[96] = "";

    if (parts)
        snprintf(layout, sizeof(layout), "&part=%llu&streams=%llu%s",
                 (unsigned long long)(r->chunk * (1 + pick(r, 6))),
                 (unsigned long long)(1 + pick(r, 5)), late ? "&late=1" : "");
    snprintf(r->source, sizeof(r->source),
             "read_error=%g,short=%g,hang=%g,delay_us=%llu,"
             "open_error=%g:mem:gen?size=%llu&seed=%llu%s",
             source_seeks ? rate(r) : 0, rate(r),
             source_seeks ? rate(r) / 10 : 0,
             (unsigned long long)pick(r, 20000), rate(r),
             (unsigned long long)r->size, (unsigned long long)r->seed,
             source_seeks ? "" : "&seek=0&unknown=1");
    snprintf(r->target, sizeof(r->target),
             "write_error=%g,lost=%g,hang=%g,reorder=%g,"
             "dup=%g,commit_error=%g,commit_lost=%g,sync_error=%g,"
             "flip=%g,delay_us=%llu:mem:buf?id=t%s%s",
             rate(r), whole ? 0 : rate(r), late ? 0 : rate(r) / 10,
             whole ? 0 : rate(r), rate(r), rate(r), 2 * rate(r), rate(r),
             r->readback ? rate(r) / 10 : 0, (unsigned long long)pick(r, 20000),
             layout, ordered ? "&ordered=1" : "");
}

static void choose(struct run *r)
{
    static const uint64_t chunks[] = {64 << 10, 128 << 10, 256 << 10};

    r->chunk = chunks[pick(r, HL_LEN(chunks))];
    switch (pick(r, 4)) {
    case 0:
        r->size = pick(r, 3);
        break;
    case 1:
        r->size = r->chunk * pick(r, 5) + pick(r, 3) - 1;
        if (r->size > 1u << 30)
            r->size = 0;
        break;
    default:
        r->size = pick(r, 4u << 20);
        break;
    }
    option(r, HAUL_OPT_CHUNK_SIZE, r->chunk);
    /* Rates of 20 % want more patience than the default. */
    option(r, HAUL_OPT_RETRIES, 1000);
    option(r, HAUL_OPT_STALL_TIMEOUT, 5);
    if (pick(r, 4) == 0)
        option(r, HAUL_OPT_RATE_LIMIT, (1 << 20) + pick(r, 64u << 20));
    r->readback = pick(r, 4) == 0;
    if (r->readback)
        assert_int_equal(
            hl_opts_set_str(r->opts, 0, HAUL_OPT_VERIFY, "readback", NULL), 0);
    if (pick(r, 3) == 0)
        hl_engine_set_memory(r->engine, (8u << 20));
    choose_names(r, pick(r, 5) != 0);
}

static void expect_bytes(struct run *r)
{
    char plain[160], want[65], got[65];

    r->cancel_at = 0;
    assert_int_equal(hl_opts_set_str(r->opts, 0, HAUL_OPT_VERIFY, NULL, NULL),
                     0);
    if (r->size == 0)
        return; /* nothing to compare; that it exists is checked below */
    snprintf(plain, sizeof(plain), "mem:gen?size=%llu&seed=%llu",
             (unsigned long long)r->size, (unsigned long long)r->seed);
    assert_int_equal(transfer(r, plain, "mem:null", NULL, want), 0);
    assert_int_equal(transfer(r, "mem:buf?id=t", "mem:null", NULL, got), 0);
    if (strcmp(want, got) != 0 || !want[0])
        fail_msg("seed %llu: bytes differ (%s, %s): %s -> %s",
                 (unsigned long long)r->seed, want, got, r->source, r->target);
}

static void one_run(uint64_t seed)
{
    struct run r;
    struct hl_membuf_stat st;
    char source[320], target[320];
    int rc, tries = 0;

    begin(&r, seed);
    choose(&r);
    if (r.verbose)
        printf("size %llu chunk %llu\n %s\n %s\n", (unsigned long long)r.size,
               (unsigned long long)r.chunk, r.source, r.target);
    if (r.size > 0 && pick(&r, 3) == 0)
        r.cancel_at = 1 + pick(&r, r.size);
    do {
        uint64_t luck = pick(&r, 1u << 30);

        /* Every try has other luck: real networks do not repeat theirs. */
        snprintf(source, sizeof(source), "faulty:seed=%llu,%s",
                 (unsigned long long)luck, r.source);
        snprintf(target, sizeof(target), "faulty:seed=%llu,%s",
                 (unsigned long long)luck + 1, r.target);
        rc = transfer(&r, source, target, "key", NULL);
        if (r.verbose)
            printf(" rc %d %s\n", rc, r.error.message);
        if (rc == 0)
            break;
        /* Only a commit whose answer got lost leaves the final name. */
        if (hl_membuf_stat("t", &st))
            assert_int_equal(st.size, r.size);
        /* A source that cannot seek cannot be repeated; anything else was
         * cancelled, or met a first contact that failed. */
    } while (++tries < 40);
    if (rc)
        fail_msg("seed %llu: %d tries, rc %d: %s\n %s -> %s",
                 (unsigned long long)seed, tries, rc, r.error.message, r.source,
                 r.target);
    assert_true(hl_membuf_stat("t", &st));
    assert_int_equal(st.size, r.size);
    assert_int_equal(hl_membuf_count(), 1); /* no temporary left */
    expect_bytes(&r);
    end(&r);
}

static void faults_never_change_the_bytes(void **state)
{
    const char *runs = getenv("SIM_RUNS"), *seed = getenv("SIM_SEED");
    uint64_t count = getenv("HAUL_LONG") ? 10000 : 1000;

    (void)state;
    if (runs)
        count = strtoull(runs, NULL, 10);
    if (seed) {
        one_run(strtoull(seed, NULL, 10));
        return;
    }
    for (uint64_t i = 1; i <= count; i++)
        one_run(i);
}

#define MANY 40u

/* Many objects share endpoints; the whole is done when every one is. */
static void many_objects_of_one_transfer_all_arrive(void **state)
{
    struct hl_item_config items[MANY];
    char source[160], target[160];
    struct hl_membuf_stat st;
    struct run r;
    int tries = 0;

    (void)state;
    begin(&r, 4711);
    option(&r, HAUL_OPT_CHUNK_SIZE, 64 << 10);
    option(&r, HAUL_OPT_RETRIES, 1000);
    do {
        for (uint32_t i = 0; i < MANY; i++) {
            snprintf(source, sizeof(source),
                     "faulty:seed=%u,read_error=0.05,delay_us=9000:"
                     "mem:gen?size=%u&seed=%u",
                     i + 100u * (uint32_t)tries, i * 12345u, i);
            snprintf(target, sizeof(target),
                     "faulty:seed=%u,write_error=0.05,lost=0.05,"
                     "delay_us=9000:mem:buf?id=t%u",
                     i + 100u * (uint32_t)tries, i);
            parse_item(&items[i], source, target);
        }
        /* Cut once in the middle: what is done stays done. */
        r.cancel_at = tries == 0 ? 3000000 : 0;
        run_items(&r, items, MANY, "many");
        if (tries == 0)
            assert_int_equal(r.rc, HAUL_E_CANCELED);
        hl_transfer_free(r.t);
        for (uint32_t i = 0; i < MANY; i++)
            fini_item(&items[i]);
    } while (r.rc && ++tries < 3);
    assert_int_equal(r.rc, 0);
    assert_int_equal(hl_membuf_count(), MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        char want[65], got[65];

        snprintf(target, sizeof(target), "t%u", i);
        assert_true(hl_membuf_stat(target, &st));
        assert_int_equal(st.size, i * 12345u);
        if (!i)
            continue;
        snprintf(source, sizeof(source), "mem:gen?size=%u&seed=%u", i * 12345u,
                 i);
        snprintf(target, sizeof(target), "mem:buf?id=t%u", i);
        assert_int_equal(transfer(&r, source, "mem:null", NULL, want), 0);
        assert_int_equal(transfer(&r, target, "mem:null", NULL, got), 0);
        assert_string_equal(want, got);
        assert_true(want[0] != '\0');
    }
    end(&r);
}

#define CROWD 5u

/* Each may hold buffers that another one needs, and none may wait for ever. */
static void crowd(uint64_t seed)
{
    struct hl_item_config items[CROWD];
    static struct run r[CROWD];
    struct run all;
    char source[200], target[200];

    begin(&all, seed);
    option(&all, HAUL_OPT_CHUNK_SIZE, 1 << 20);
    option(&all, HAUL_OPT_RETRIES, 1000);
    option(&all, HAUL_OPT_STALL_TIMEOUT, 5);
    hl_engine_set_memory(all.engine, 8 << 20);
    for (uint32_t i = 0; i < CROWD; i++) {
        r[i] = all;
        snprintf(source, sizeof(source),
                 "faulty:seed=%llu,read_error=0.3,delay_us=20000:"
                 "mem:gen?size=30000000&seed=%u",
                 (unsigned long long)pick(&all, 1u << 30), i);
        snprintf(target, sizeof(target),
                 "faulty:seed=%llu,write_error=0.1,delay_us=%u:"
                 "mem:null?digest=1%s",
                 (unsigned long long)pick(&all, 1u << 30), 5000 * i,
                 pick(&all, 2) ? "&ordered=1" : "");
        parse_item(&items[i], source, target);
        start_items(&r[i], &items[i], 1, NULL);
    }
    run_engine(&all);
    for (uint32_t i = 0; i < CROWD; i++) {
        assert_true(r[i].finished);
        if (r[i].rc)
            fail_msg("seed %llu: rc %d %s", (unsigned long long)seed, r[i].rc,
                     r[i].error.message);
        hl_transfer_free(r[i].t);
        fini_item(&items[i]);
    }
    end(&all);
}

static void transfers_that_share_little_memory_all_end(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++)
        crowd(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_never_change_the_bytes),
        cmocka_unit_test(many_objects_of_one_transfer_all_arrive),
        cmocka_unit_test(transfers_that_share_little_memory_all_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
