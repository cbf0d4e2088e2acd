/* Processes that end at any moment, targets that tell what they have, and
 * targets that lose it, in virtual time: the next run has the right bytes, and
 * sends no more than it must. */
#include "sim.h"

/* ---- The end of the process --------------------------------------------- */

/* Killed before any step of a copy whose commit is done and not answered: the
 * next run either finds the file in its place and leaves it there, or goes on.
 * Never is there a file that nobody will remove. */
static void a_killed_commit_is_found_done(void **state)
{
    int at = 0, found = 0, killed;
    static struct run r;

    (void)state;
    do {
        struct hl_membuf_stat st;
        bool there;

        begin(&r, 7);
        option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
        make_source(&r, 5 * 65536 + 1);
        r.kill_at = ++at;
        transfer(&r, "mem:buf?id=s",
                 "faulty:delay_us=9000,commit_lost=1,once=1:mem:buf?id=t",
                 "key", NULL);
        killed = r.killed;
        r.kill_at = 0;
        there = hl_membuf_stat("t", &st);
        if (killed) {
            assert_int_equal(
                transfer(&r, "mem:buf?id=s", "mem:buf?id=t", "key", NULL), 0);
            if (there) {
                assert_true(r.already);
                assert_int_equal(r.sent, 0);
                assert_string_equal(r.verified, "size");
                found++;
            }
            assert_int_equal(unfinished(&r), 0);
        }
        assert_int_equal(hl_membuf_count(), 2);
        expect_bytes(&r);
        end(&r);
    } while (killed);
    assert_true(at > 20);
    assert_true(found > 2);
}

/* A file of that name that is none of ours is not taken for the copy. */
static void another_file_is_no_killed_commit(void **state)
{
    static const struct {
        uint64_t size;
        int64_t mtime_ns;
        const char *resume;
    } others[] = {{327681, INT64_C(1600000000000000000), "auto"},
                  {327680, INT64_C(1700000000000000000), "auto"},
                  {327681, INT64_C(1700000000000000000), "never"}};
    uint8_t zeros[4096] = {0};
    static struct run r;

    (void)state;
    for (size_t i = 0; i < HL_LEN(others); i++) {
        begin(&r, 7);
        option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
        make_source(&r, 327681);
        /* All is acknowledged and saved, and the commit does not come. */
        option(&r, HAUL_OPT_GIVE_UP_AFTER, 1);
        assert_int_not_equal(transfer(&r, "mem:buf?id=s",
                                      "faulty:commit_error=1:mem:buf?id=t",
                                      "key", NULL),
                             0);
        assert_int_equal(unfinished(&r), 1);
        hl_membuf_reset();
        make_source(&r, 327681);
        assert_int_equal(hl_membuf_create("t", 0, NULL), 0);
        assert_int_equal(hl_membuf_write("t", others[i].size - sizeof(zeros),
                                         zeros, sizeof(zeros), UINT64_MAX,
                                         NULL),
                         0);
        assert_int_equal(hl_membuf_set("t", others[i].mtime_ns, 0, NULL), 0);
        assert_int_equal(
            hl_opts_set_str(r.opts, 0, HAUL_OPT_RESUME, others[i].resume, NULL),
            0);
        assert_int_equal(
            transfer(&r, "mem:buf?id=s", "mem:buf?id=t", "key", NULL), 0);
        assert_false(r.already);
        assert_int_equal(r.sent, r.size);
        assert_int_equal(hl_membuf_count(), 2);
        expect_bytes(&r);
        end(&r);
    }
}

/* ---- Targets that tell what they have ------------------------------------ */

/* What the runs met, so that none of it is tested by nobody. */
static struct {
    uint32_t kills, losses, resumed, done, late, notes, grown;
} met;

static double rate(struct run *r)
{
    static const double rates[] = {0, 0, 0.005, 0.02, 0.08};

    return rates[pick(r, HL_LEN(rates))];
}

/* One of: a stream as tus has it, several of them, S3's parts, parts that grow,
 * chunks anywhere. */
static void choose_layout(struct run *r, char *out, size_t cap)
{
    uint64_t part = r->chunk * (1 + pick(r, 5));
    bool late = pick(r, 2), parts = late || pick(r, 3), notes;
    bool ordered = parts || pick(r, 2);
    int n = snprintf(out, cap, "&tells=1%s", ordered ? "&ordered=1" : "");

    if (parts)
        n += snprintf(out + n, cap - (size_t)n, "%s&part=%llu&streams=%llu",
                      late ? "&late=1" : "", (unsigned long long)part,
                      (unsigned long long)(1 + pick(r, 5)));
    if (parts && pick(r, 3) == 0)
        n += snprintf(out + n, cap - (size_t)n, "&grow=%llu&part_max=%llu",
                      (unsigned long long)(1 + pick(r, 4)),
                      (unsigned long long)(part * (1 + pick(r, 5))));
    /* One that begins anew by itself has no notes: a process may end before the
     * old ones are forgotten. */
    notes = pick(r, 3) == 0;
    snprintf(out + n, cap - (size_t)n, "%s%s", notes ? "&notes=1" : "",
             notes || pick(r, 3) == 0 ? "&gone=1" : "");
}

static void choose_telling(struct run *r)
{
    static const uint64_t chunks[] = {64 << 10, 128 << 10, 256 << 10};
    char layout[160];
    bool anywhere;

    r->chunk = chunks[pick(r, HL_LEN(chunks))];
    option(r, HAUL_OPT_CHUNK_SIZE, r->chunk);
    option(r, HAUL_OPT_RETRIES, 12);
    option(r, HAUL_OPT_STALL_TIMEOUT, 5);
    make_source(r, pick(r, 4) ? pick(r, 3u << 20) : r->chunk * pick(r, 9));
    if (pick(r, 3) == 0) {
        r->memory = 4u << 20;
        hl_engine_set_memory(r->engine, r->memory);
    }
    choose_layout(r, layout, sizeof(layout));
    snprintf(r->source, sizeof(r->source),
             "read_error=%g,delay_us=%llu,open_error=%g:mem:buf?id=s%s",
             rate(r), (unsigned long long)pick(r, 20000), rate(r),
             pick(r, 3) ? "" : "&runs=300k&streams=4");
    /* The middle of a stream is not lost without what follows. */
    anywhere = strstr(layout, "late") || !strstr(layout, "ordered");
    snprintf(
        r->target, sizeof(r->target),
        "write_error=%g,cut=%g,lost=%g,hang=%g,commit_error=%g,commit_lost=%g,"
        "delay_us=%llu:mem:buf?id=t%s",
        rate(r), rate(r), anywhere ? rate(r) : 0, anywhere ? rate(r) / 10 : 0,
        rate(r), rate(r), (unsigned long long)pick(r, 20000), layout);
}

/* Errors that a run may end with: the next one goes on. */
static bool may_end_with(int rc)
{
    return rc == HAUL_E_RESET || rc == HAUL_E_REMOTE_IO ||
           rc == HAUL_E_REMOTE_BUSY || rc == HAUL_E_STALLED ||
           rc == HAUL_E_LOST || rc == HAUL_E_CANCELED;
}

#define TRIES 30

/* *again: something may have to be sent again. */
static int one_try(struct run *r, int try, bool *again)
{
    bool calm = try > TRIES / 2; /* then it must come to an end */
    uint64_t luck = pick(r, 1u << 30);
    char source[400], target[480], forget[64] = "";

    if (!calm && pick(r, 3) == 0)
        snprintf(forget, sizeof(forget), "&forget=%llu&report=%llu",
                 (unsigned long long)(1 + pick(r, r->size + 1)),
                 (unsigned long long)pick(r, 2));
    /* Killed between the commit and its note, and again between the open that
     * finds out and the note of that. */
    *again = *again || forget[0] || hl_membuf_stat("t", NULL);
    snprintf(source, sizeof(source), "faulty:seed=%llu,%s",
             (unsigned long long)luck, r->source);
    snprintf(target, sizeof(target), "faulty:seed=%llu,%s%s",
             (unsigned long long)luck + 1, r->target, forget);
    r->kill_at = !calm && pick(r, 2) ? 1 + (int)pick(r, 150) : 0;
    r->cancel_at =
        !calm && r->size && pick(r, 4) == 0 ? 1 + pick(r, r->size) : 0;
    transfer(r, source, target, "key", NULL);
    if (r->verbose)
        printf(" %s: %s %d %s, resumed %llu, sent %llu\n", forget,
               r->killed ? "killed" : "ended", r->rc, r->error.message,
               (unsigned long long)r->resumed, (unsigned long long)r->sent);
    return r->killed ? HAUL_E_CANCELED : r->rc;
}

static void telling(uint64_t seed)
{
    struct hl_membuf_stat st;
    static struct run r;
    uint64_t sent = 0;
    bool late, exact, again = false;
    int rc, tries = 0;

    begin(&r, seed);
    choose_telling(&r);
    if (r.verbose)
        printf("size %llu chunk %llu\n %s\n %s\n", (unsigned long long)r.size,
               (unsigned long long)r.chunk, r.source, r.target);
    late = strstr(r.target, "late=1");
    exact = strstr(r.target, "cut=0,");
    do {
        rc = one_try(&r, tries, &again);
        sent += r.sent;
        met.kills += r.killed;
        met.resumed += r.resumed > 0;
        if (rc && !may_end_with(rc))
            fail_msg("seed %llu: rc %d: %s", (unsigned long long)seed, rc,
                     r.error.message);
    } while (rc && ++tries < TRIES);
    if (rc)
        fail_msg("seed %llu: no end: rc %d: %s\n %s -> %s",
                 (unsigned long long)seed, rc, r.error.message, r.source,
                 r.target);
    /* What is there is not sent again, by no run. */
    if (!late && !again && sent > r.size)
        fail_msg("seed %llu: sent %llu of %llu", (unsigned long long)seed,
                 (unsigned long long)sent, (unsigned long long)r.size);
    /* The numbers of the last run add up. What a broken write left there is
     * in none. */
    if (r.resumed + r.sent > r.size ||
        (exact && !r.losses && r.resumed + r.sent < r.size))
        fail_msg("seed %llu: %llu resumed, %llu sent of %llu",
                 (unsigned long long)seed, (unsigned long long)r.resumed,
                 (unsigned long long)r.sent, (unsigned long long)r.size);
    met.losses += r.losses > 0;
    met.late += late;
    met.notes += strstr(r.target, "notes") != NULL;
    met.grown += strstr(r.target, "grow") != NULL;
    assert_true(hl_membuf_stat("t", &st));
    assert_int_equal(st.size, r.size);
    assert_int_equal(hl_membuf_count(), 2); /* the source, and no rest */
    assert_int_equal(unfinished(&r), 0);
    expect_bytes(&r);
    end(&r);
}

static void what_a_target_tells_is_believed_and_nothing_else(void **state)
{
    const char *runs = getenv("SIM_RUNS"), *seed = getenv("SIM_SEED");
    uint64_t count = getenv("HAUL_LONG") ? 10000 : 1000;

    (void)state;
    if (runs)
        count = strtoull(runs, NULL, 10);
    if (seed) {
        telling(strtoull(seed, NULL, 10));
        return;
    }
    for (uint64_t i = 1; i <= count; i++)
        telling(i);
    if (count < 1000)
        return;
    print_message("kills %u losses %u resumed %u late %u notes %u grown %u\n",
                  met.kills, met.losses, met.resumed, met.late, met.notes,
                  met.grown);
    assert_true(met.kills >= count / 4);
}

/* ---- Targets that lose it, one by one ------------------------------------ */

static int rows(struct run *r, const char *table)
{
    char text[64];
    sqlite3_stmt *q;
    int n;

    snprintf(text, sizeof(text), "SELECT count(*) FROM %s", table);
    assert_int_equal(sqlite3_prepare_v2(store_of(r)->db, text, -1, &q, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    n = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return n;
}

/* Between two runs somebody removed it. Whether the target says so or begins
 * anew by itself: nothing of what was saved is believed, by no run. */
static void what_is_gone_when_it_is_opened_is_sent_again(void **state)
{
    static const char *const targets[] = {
        "mem:buf?id=t&tells=1&ordered=1&notes=1&gone=1",
        "mem:buf?id=t&tells=1&ordered=1&notes=1",
        "mem:buf?id=t&tells=1&ordered=1&late=1&part=64ki&notes=1&gone=1",
        "mem:buf?id=t&gone=1&tells=1", "mem:buf?id=t"};
    char work[80];
    static struct run r;

    (void)state;
    for (size_t i = 0; i < HL_LEN(targets); i++) {
        begin_half(&r, targets[i], work, sizeof(work));
        assert_int_equal(rows(&r, "notes") > 0,
                         strstr(targets[i], "notes") != NULL);
        hl_membuf_remove(work);
        option(&r, HAUL_OPT_RETRIES, 0); /* it is no retry */
        /* Opened, and killed when the first bytes came. */
        r.kill_at = 12;
        transfer(&r, "mem:buf?id=s", targets[i], "key", NULL);
        assert_true(r.killed);
        assert_int_equal(rows(&r, "chunks"), 0);
        r.kill_at = 0;
        assert_int_equal(transfer(&r, "mem:buf?id=s", targets[i], "key", NULL),
                         0);
        assert_int_equal(r.losses, strstr(targets[i], "gone") != NULL);
        assert_true(r.resumed < 5 * 65536); /* of the killed one */
        assert_int_equal(r.resumed + r.sent, r.size);
        assert_int_equal(hl_membuf_count(), 2);
        assert_int_equal(rows(&r, "notes"), 0);
        expect_bytes(&r);
        end(&r);
    }
}

static void resume_require_does_not_begin_anew(void **state)
{
    const char target[] = "mem:buf?id=t&tells=1&ordered=1&gone=1";
    char work[80];
    static struct run r;

    (void)state;
    begin_half(&r, target, work, sizeof(work));
    hl_membuf_remove(work);
    assert_int_equal(
        hl_opts_set_str(r.opts, 0, HAUL_OPT_RESUME, "require", NULL), 0);
    assert_int_equal(transfer(&r, "mem:buf?id=s", target, "key", NULL),
                     HAUL_E_RESUME);
    assert_non_null(strstr(r.error.message, "no longer has"));
    assert_non_null(strstr(r.error.hint, "--resume never"));
    end(&r);
}

static void a_target_that_claims_too_much_is_refused(void **state)
{
    char work[80];
    static struct run r;

    (void)state;
    begin_half(&r, "mem:buf?id=t&tells=1&ordered=1", work, sizeof(work));
    assert_int_equal(transfer(&r, "mem:buf?id=s",
                              "mem:buf?id=t&tells=1&ordered=1&claim=20m", "key",
                              NULL),
                     HAUL_E_PROTO);
    assert_non_null(strstr(r.error.message, "claims more than was sent"));
    assert_non_null(strstr(r.error.hint, "--resume never"));
    assert_int_equal(hl_opts_set_str(r.opts, 0, HAUL_OPT_RESUME, "never", NULL),
                     0);
    assert_int_equal(transfer(&r, "mem:buf?id=s",
                              "mem:buf?id=t&tells=1&ordered=1&claim=20m", "key",
                              NULL),
                     0);
    assert_int_equal(r.sent, r.size);
    expect_bytes(&r);
    end(&r);
}

/* A chunk of which the target has a part must be the same when it is sent
 * again, although nobody saw a change. */
static void a_source_that_changed_in_silence_is_found_out(void **state)
{
    const char target[] = "mem:buf?id=t&tells=1&ordered=1";
    uint8_t other[] = "other";
    char work[80];
    static struct run r;

    (void)state;
    begin_half(&r, target, work, sizeof(work));
    assert_int_equal(
        hl_membuf_write("s", 5000, other, sizeof(other), UINT64_MAX, NULL), 0);
    assert_int_equal(hl_membuf_set("s", INT64_C(1700000000123456789), 0, NULL),
                     0);
    hl_membuf_remove(work);
    assert_int_equal(transfer(&r, "mem:buf?id=s", target, "key", NULL),
                     HAUL_E_CHANGED);
    assert_non_null(strstr(r.error.message, "bytes 0 to 65536"));
    end(&r);
}

/* Without a state store the notes are the item's alone. */
static void notes_are_given_again_without_a_store(void **state)
{
    static struct run r;

    (void)state;
    for (uint64_t forget = 1; forget < 20 * 65536; forget += 99999) {
        char target[160];

        begin(&r, 7);
        option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
        make_source(&r, 20 * 65536);
        snprintf(target, sizeof(target),
                 "mem:buf?id=t&tells=1&ordered=1&notes=1&part=256ki&streams=3&"
                 "forget=%llu&report=1",
                 (unsigned long long)forget);
        assert_int_equal(transfer(&r, "mem:buf?id=s", target, NULL, NULL), 0);
        assert_int_equal(r.losses, 1);
        assert_true(r.resent < 12 * 65536);
        expect_bytes(&r);
        end(&r);
    }
}

static void a_pipe_whose_target_lost_it_says_so(void **state)
{
    static struct run r;

    (void)state;
    begin(&r, 7);
    option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
    assert_int_equal(transfer(&r, "mem:gen?size=1m&seed=7&seek=0&unknown=1",
                              "mem:buf?id=t&tells=1&ordered=1&forget=500k",
                              "key", NULL),
                     HAUL_E_LOST);
    assert_non_null(strstr(r.error.message, "lost some of what it had"));
    assert_non_null(strstr(r.error.hint, "write it to a file first"));
    end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_commit_is_found_done),
        cmocka_unit_test(another_file_is_no_killed_commit),
        cmocka_unit_test(what_a_target_tells_is_believed_and_nothing_else),
        cmocka_unit_test(what_is_gone_when_it_is_opened_is_sent_again),
        cmocka_unit_test(resume_require_does_not_begin_anew),
        cmocka_unit_test(a_target_that_claims_too_much_is_refused),
        cmocka_unit_test(a_source_that_changed_in_silence_is_found_out),
        cmocka_unit_test(notes_are_given_again_without_a_store),
        cmocka_unit_test(a_pipe_whose_target_lost_it_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
