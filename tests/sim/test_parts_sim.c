/*
 * Targets with parts, several at once, of one size and growing, in virtual time
 * over faulty drivers: from sources that seek and from pipes, with little
 * memory and much. Whatever breaks, the bytes are right and it comes to an end.
 *
 * Each run follows from its seed alone. SIM_RUNS=N sets how many (1000, with
 * HAUL_LONG=1 10000), SIM_SEED=N runs one and prints what it does.
 */
#include "sim.h"

/* What the runs met, so that none of it is tested by nobody. */
static struct {
    uint32_t pipes, late, grown, tells, resent, offered, again, calm;
} met;

struct layout {
    bool pipe, late, ordered, tells;
    bool calm;               /* nothing fails */
    uint64_t part, part_max; /* chunks */
    char text[160];
};

static double rate(struct run *r)
{
    static const double rates[] = {0, 0.01, 0.05, 0.15};

    return rates[pick(r, HL_LEN(rates))];
}

static void choose_layout(struct run *r, struct layout *l)
{
    uint64_t grow = pick(r, 3) ? 0 : 1 + pick(r, 4);
    uint64_t streams = 1 + pick(r, 6);

    memset(l, 0, sizeof(*l));
    l->pipe = pick(r, 2);
    l->late = pick(r, 2);
    l->ordered = l->late || pick(r, 3);
    l->tells = pick(r, 2);
    l->part = l->part_max = 1 + pick(r, 5);
    if (grow)
        l->part_max *= 1 + pick(r, 4);
    snprintf(l->text, sizeof(l->text),
             "&part=%llu&grow=%llu&part_max=%llu&streams=%llu%s%s%s%s%s",
             (unsigned long long)(l->part * r->chunk), (unsigned long long)grow,
             (unsigned long long)(l->part_max * r->chunk),
             (unsigned long long)streams, l->ordered ? "&ordered=1" : "",
             l->late ? "&late=1" : "", l->tells ? "&tells=1" : "",
             l->tells && pick(r, 2) ? "&notes=1" : "",
             pick(r, 2) ? "&blind=1" : "");
    met.grown += grow && l->part_max > l->part;
    met.pipes += l->pipe;
    met.late += l->late;
    met.tells += l->tells;
}

/* A pipe that is lost in the middle of a part has it in the memory. */
static void choose_memory(struct run *r, const struct layout *l)
{
    uint64_t least = l->pipe && l->late ? l->part_max + 2 : 2;

    if (pick(r, 2))
        return;
    least = (least + pick(r, 12)) * r->chunk;
    r->memory = least + hl_max(least / 7 + 1, 1 << 20); /* of libraries */
    hl_engine_set_memory(r->engine, r->memory);
}

static void choose_size(struct run *r)
{
    static const uint64_t chunks[] = {64 << 10, 128 << 10, 256 << 10};

    r->chunk = chunks[pick(r, HL_LEN(chunks))];
    option(r, HAUL_OPT_CHUNK_SIZE, r->chunk);
    option(r, HAUL_OPT_RETRIES, 1000);
    option(r, HAUL_OPT_STALL_TIMEOUT, 5);
    if (pick(r, 2))
        option(r, HAUL_OPT_CONNECTIONS, 1 + pick(r, 8));
    r->size = pick(r, 40) * r->chunk;
    if (pick(r, 3))
        r->size += pick(r, r->chunk);
}

static void choose(struct run *r, struct layout *l)
{
    double reads, breaks, lost;

    choose_size(r);
    choose_layout(r, l);
    choose_memory(r, l);
    reads = l->pipe ? 0 : rate(r);
    /* A part that is confirmed as a whole gets through now and then. */
    breaks = rate(r) / (l->late ? (double)l->part_max : 1);
    lost = l->late || !l->ordered ? rate(r) : 0;
    l->calm = reads + breaks + lost == 0;
    snprintf(r->source, sizeof(r->source),
             "read_error=%.6f,short=%.6f,delay_us=%llu:"
             "mem:gen?size=%llu&seed=%llu%s%s",
             reads, rate(r), (unsigned long long)pick(r, 20000),
             (unsigned long long)r->size, (unsigned long long)r->seed,
             !l->pipe     ? ""
             : pick(r, 4) ? "&seek=0&unknown=1"
                          : "&seek=0",
             pick(r, 4) ? "" : "&offer=1");
    snprintf(r->target, sizeof(r->target),
             "write_error=%.6f,cut=%.6f,lost=%.6f,hang=%.6f,dup=%.6f,"
             "delay_us=%llu:mem:buf?id=t%s",
             breaks, pick(r, 2) ? 0.7 : 0, lost, breaks / 10,
             l->tells ? 0 : rate(r), (unsigned long long)pick(r, 20000),
             l->text);
}

static void one_run(uint64_t seed)
{
    char source[400], target[480];
    struct hl_membuf_stat st;
    static struct run r;
    struct layout l;
    int rc, tries = 0;

    begin(&r, seed);
    choose(&r, &l);
    if (r.verbose)
        printf("size %llu chunk %llu memory %llu\n %s\n %s\n",
               (unsigned long long)r.size, (unsigned long long)r.chunk,
               (unsigned long long)r.memory, r.source, r.target);
    if (!l.pipe && r.size && pick(&r, 3) == 0)
        r.cancel_at = 1 + pick(&r, r.size);
    do {
        uint64_t luck = pick(&r, 1u << 30);

        snprintf(source, sizeof(source), "faulty:seed=%llu,%s",
                 (unsigned long long)luck, r.source);
        snprintf(target, sizeof(target), "faulty:seed=%llu,%s",
                 (unsigned long long)luck + 1, r.target);
        rc = transfer(&r, source, target, "key", NULL);
        if (r.verbose)
            printf(" rc %d %s\n", rc, r.error.message);
        /* Nothing but a cancel ends a copy here. */
        if (rc && rc != HAUL_E_CANCELED)
            break;
        met.again += rc != 0;
    } while (rc && ++tries < 3);
    if (rc)
        fail_msg("seed %llu: rc %d: %s\n %s -> %s", (unsigned long long)seed,
                 rc, r.error.message, r.source, r.target);
    /* 40 chunks, one after the other, in 20 ms each: nobody waits for what
     * only a second's timer would bring. */
    if (l.calm && tries == 0)
        assert_true(hl_loop_now(hl_engine_loop(r.engine)) < 2 * HL_NS_PER_S);
    met.calm += l.calm;
    met.resent += r.resent > 0;
    met.offered += strstr(r.source, "offer=") && !strcmp(r.verified, "remote");
    assert_true(hl_membuf_stat("t", &st));
    assert_int_equal(st.size, r.size);
    assert_int_equal(hl_membuf_count(), 1);
    assert_int_equal(unfinished(&r), 0);
    expect_bytes(&r);
    end(&r);
}

static void parts_bring_every_byte(void **state)
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
    print_message("pipes %u late %u grown %u tells %u resent %u offered %u "
                  "again %u calm %u\n",
                  met.pipes, met.late, met.grown, met.tells, met.resent,
                  met.offered, met.again, met.calm);
    if (count < 1000)
        return;
    assert_true(met.pipes >= count / 3);
    assert_true(met.late >= count / 3);
    assert_true(met.grown >= count / 10);
    assert_true(met.tells >= count / 3);
    assert_true(met.resent >= count / 10);
    assert_true(met.offered >= count / 20);
    assert_true(met.again >= count / 20);
    assert_true(met.calm >= count / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_bring_every_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
