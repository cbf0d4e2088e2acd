/*
 * The whole engine in virtual time over faulty drivers: whatever fails, the
 * target has the right bytes or the transfer says what is wrong.
 *
 * Each run follows from its seed alone. SIM_RUNS=N sets how many (1000, with
 * HAUL_LONG=1 10000),
 * SIM_SEED=N runs one and prints what it does.
 */
#include "sim.h"

/* What the runs met, so that none of it is tested by nobody. */
static struct {
    uint32_t late_resent, late_done, late_pipes, in_runs, offered;
} met;

/* A rate of faults: mostly rare, sometimes none, sometimes many. */
static double rate(struct run *r)
{
    static const double rates[] = {0, 0, 0, 0.001, 0.01, 0.05, 0.2};

    return rates[pick(r, HL_LEN(rates))];
}

/* One for which requests of so many chunks come through now and then. */
static double rate_of_request(struct run *r, uint64_t chunks, bool source_seeks)
{
    static const double rates[] = {0, 0, 0.25, 0.5, 1};
    double most = (source_seeks ? 2.0 : 0.3) / (double)chunks;

    return rates[pick(r, HL_LEN(rates))] * (most < 0.2 ? most : 0.2);
}

static void choose_source(struct run *r, bool seeks)
{
    char more[96] = "&seek=0&unknown=1";

    if (seeks && pick(r, 2)) {
        snprintf(more, sizeof(more), "&runs=%llu&streams=8",
                 (unsigned long long)(1 + pick(r, 20 * r->chunk)));
        option(r, HAUL_OPT_CONNECTIONS, 1 + pick(r, 8));
    } else if (seeks) {
        more[0] = '\0';
    }
    snprintf(r->source, sizeof(r->source),
             "read_error=%g,short=%g,hang=%g,delay_us=%llu,"
             "open_error=%g:mem:gen?size=%llu&seed=%llu%s%s%s",
             seeks ? rate(r) : 0, rate(r), seeks ? rate(r) / 10 : 0,
             (unsigned long long)pick(r, 20000), rate(r),
             (unsigned long long)r->size, (unsigned long long)r->seed, more,
             pick(r, 3) ? "" : "&offer=1", pick(r, 6) ? "" : "&weak=1");
}

static void choose_names(struct run *r, bool source_seeks)
{
    bool upload = pick(r, 4) == 0; /* one request, as a PUT */
    uint64_t parts = upload ? 0 : pick(r, 3), ordered = upload || pick(r, 2);
    bool late = upload || (parts && pick(r, 2));
    /* A part that is confirmed without a request of its own is not lost after
     * that; nor is the middle of a stream lost without what follows. */
    bool request = late && ordered;
    bool whole = !request && (late || ordered);
    uint64_t part = parts ? 1 + pick(r, 6) : r->size / r->chunk + 1;
    double breaks[3];
    char layout[96] = "";

    r->late = request && !parts && r->size > 0;
    if (parts)
        snprintf(layout, sizeof(layout), "&part=%llu&streams=%llu",
                 (unsigned long long)(r->chunk * part),
                 (unsigned long long)(1 + pick(r, 5)));
    choose_source(r, source_seeks);
    for (size_t i = 0; i < HL_LEN(breaks); i++)
        breaks[i] = request ? rate_of_request(r, part, source_seeks) : rate(r);
    snprintf(r->target, sizeof(r->target),
             "write_error=%g,lost=%g,hang=%g,reorder=%g,"
             "dup=%g,commit_error=%g,commit_lost=%g,sync_error=%g,"
             "flip=%g,delay_us=%llu:mem:buf?id=t%s%s%s",
             breaks[0], whole ? 0 : breaks[1],
             late && !request ? 0 : breaks[2] / 10, whole ? 0 : rate(r),
             rate(r), rate(r), 2 * rate(r), rate(r),
             r->readback ? rate(r) / 10 : 0, (unsigned long long)pick(r, 20000),
             layout, ordered ? "&ordered=1" : "", late ? "&late=1" : "");
    /* Cannot be read back. */
    if (request && !parts)
        assert_int_equal(
            hl_opts_set_str(r->opts, 0, HAUL_OPT_VERIFY, NULL, NULL), 0);
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
    if (pick(r, 3) == 0) {
        r->memory = 4u << 20;
        hl_engine_set_memory(r->engine, r->memory);
    }
    choose_names(r, pick(r, 5) != 0);
}

static void one_run(uint64_t seed)
{
    static struct run r;
    struct hl_membuf_stat st;
    char source[400], target[400];
    int rc, tries = 0;

    begin(&r, seed);
    choose(&r);
    if (r.verbose)
        printf("size %llu chunk %llu\n %s\n %s\n", (unsigned long long)r.size,
               (unsigned long long)r.chunk, r.source, r.target);
    if (r.size > 0 && pick(&r, 3) == 0)
        *(r.late ? &r.cancel_sent : &r.cancel_at) = 1 + pick(&r, r.size);
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
        /* What cannot go on is no job that somebody could go on with. */
        if (r.late)
            assert_int_equal(unfinished(&r), 0);
        if (rc == 0)
            break;
        /* Only a commit whose answer got lost leaves the final name. */
        if (hl_membuf_stat("t", &st))
            assert_int_equal(st.size, r.size);
        /* A source that cannot seek cannot be repeated; anything else was
         * cancelled, or met a first contact that failed. */
    } while (++tries < 40);
    met.late_resent += r.late && r.resent;
    met.late_done += r.late && r.stats_late;
    met.late_pipes += r.late && strstr(r.source, "seek=0");
    met.in_runs += strstr(r.source, "runs=") != NULL;
    met.offered +=
        strstr(r.source, "offer=") && rc == 0 && !strcmp(r.verified, "remote");
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
    if (count < 1000)
        return;
    assert_true(met.late_resent >= count / 60);
    assert_true(met.late_done >= count / 25);
    assert_true(met.late_pipes >= count / 50);
    assert_true(met.in_runs >= count / 5);
    assert_true(met.offered >= count / 20);
}

#define MANY 40u

/* Many objects share endpoints; the whole is done when every one is. */
static void many_objects_of_one_transfer_all_arrive(void **state)
{
    struct hl_item_config items[MANY];
    char source[160], target[160];
    struct hl_membuf_stat st;
    static struct run r;
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
