/* The public functions with the caller as source or target, jobs, options,
 * loops, and with memory running out at every place. */
#include <poll.h>

#include "api_world.h"
#include "membuf.h"

/* ---- The caller as an end ----------------------------------------------- */

struct ends {
    const uint8_t *bytes;
    size_t size, step; /* moves at most step bytes at once */
    uint8_t *got;
    size_t got_max;
    int64_t fail; /* returned at fail_at */
    uint64_t fail_at;
};

static int64_t read_bytes(void *user, void *buf, size_t len, uint64_t offset)
{
    struct ends *e = user;
    size_t n = offset < e->size ? e->size - offset : 0;

    if (e->fail && offset >= e->fail_at)
        return e->fail;
    n = n < len ? n : len;
    n = n < e->step ? n : e->step;
    memcpy(buf, e->bytes + offset, n);
    return (int64_t)n;
}

static int64_t write_bytes(void *user, const void *buf, size_t len,
                           uint64_t offset)
{
    struct ends *e = user;

    if (e->fail && offset >= e->fail_at)
        return e->fail;
    len = len < e->step ? len : e->step;
    assert_true(offset + len <= e->size);
    memcpy(e->got + offset, buf, len);
    e->got_max = offset + len > e->got_max ? offset + len : e->got_max;
    return (int64_t)len;
}

static void functions_of_the_caller_move_every_byte(void **state)
{
    static const size_t sizes[] = {0, 1, CHUNK, 3 * CHUNK, 9 * CHUNK + 1};
    struct world *w = *state;
    struct haul_result r;

    for (size_t i = 0; i < HL_LEN(sizes) * 2; i++) {
        size_t size = sizes[i / 2];
        struct ends e = {.size = size, .step = 10007};
        struct haul_transfer *t = copy_new(w, NULL, NULL);

        make_source(w, size);
        e.bytes = w->bytes;
        e.got = calloc(1, size + 1);
        assert_int_equal(haul_transfer_set_source_fn(t, NULL,
                                                     i % 2 ? UINT64_MAX : size,
                                                     read_bytes, &e),
                         0);
        assert_int_equal(haul_transfer_set_target_fn(t, NULL, write_bytes, &e),
                         0);
        assert_int_equal(run(w, t, &r), 0);
        assert_int_equal(r.bytes, size);
        assert_int_equal(e.got_max, size);
        assert_memory_equal(e.got, w->bytes, size);
        haul_transfer_free(t);
        free(e.got);
    }
    end_engine(w);
}

/* Runs with a function that fails; gives the code. */
static int fail_with(struct world *w, bool source, int64_t fail, uint64_t size)
{
    struct ends e = {.bytes = w->bytes,
                     .size = w->size,
                     .step = 10007,
                     .fail = fail,
                     .fail_at = 200000};
    struct haul_transfer *t =
        copy_new(w, source ? NULL : w->source, source ? w->target : NULL);
    struct haul_result r;
    int rc;

    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_RETRIES, 1), 0);
    e.got = calloc(1, w->size);
    if (source)
        haul_transfer_set_source_fn(t, NULL, size, read_bytes, &e);
    else
        haul_transfer_set_target_fn(t, NULL, write_bytes, &e);
    rc = run(w, t, &r);
    assert_null(r.digest);
    haul_transfer_free(t);
    free(e.got);
    return rc;
}

static void an_error_of_the_caller_ends_the_transfer_with_it(void **state)
{
    struct world *w = *state;

    make_source(w, 900001);
    for (int unknown = 0; unknown < 2; unknown++) {
        uint64_t size = unknown ? UINT64_MAX : w->size;

        assert_int_equal(fail_with(w, true, HAUL_E_AUTH, size), HAUL_E_AUTH);
        assert_int_equal(fail_with(w, true, -1, size), HAUL_E_READ);
        assert_int_equal(fail_with(w, true, INT64_MAX, size), HAUL_E_INVAL);
        assert_int_equal(fail_with(w, true, HAUL_E_RESET, UINT64_MAX),
                         HAUL_E_RESET);
    }
    assert_int_equal(fail_with(w, false, HAUL_E_FULL, 0), HAUL_E_FULL);
    assert_int_equal(fail_with(w, false, -1, 0), HAUL_E_WRITE);
    assert_int_equal(access(w->target, F_OK), -1);
    assert_int_equal(others(w), 0);
    /* A source that ends before its size. */
    assert_int_equal(fail_with(w, true, 0, w->size + 1), HAUL_E_CHANGED);
    assert_int_equal(access(w->target, F_OK), -1);
    end_engine(w);
}

static void named_functions_continue_in_another_process(void **state)
{
    struct world *w = *state;
    struct ends e = {.step = 1 << 20};
    int rc = -1;

    make_source(w, 128 * CHUNK + 7);
    e.bytes = w->bytes;
    e.size = w->size;
    e.got = calloc(1, w->size);
    for (int i = 0; rc && i < 20; i++) {
        struct haul_transfer *t = copy_new(w, NULL, NULL);
        struct cancel c = {.at_acked = i ? 0 : 1};
        struct haul_result r;

        haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 8 << 20);
        haul_transfer_set_source_fn(t, "s", w->size, read_bytes, &e);
        haul_transfer_set_target_fn(t, "t", write_bytes, &e);
        haul_transfer_set_event_fn(t, on_event, &c);
        rc = run(w, t, &r);
        assert_true(rc == 0 || rc == HAUL_E_CANCELED);
        haul_transfer_free(t);
        end_engine(w);
        make_engine(w);
    }
    assert_int_equal(rc, 0);
    assert_memory_equal(e.got, w->bytes, w->size);
    free(e.got);
}

/* ---- Jobs --------------------------------------------------------------- */

struct listing {
    int count;
    int64_t id;
    char state[16];
    uint64_t bytes, acked;
    struct haul_engine *engine;
};

static int on_job(void *user, const struct haul_job *job)
{
    struct listing *l = user;
    struct haul_transfer *t;

    assert_int_equal(haul_jobs_list(l->engine, 0, on_job, l), HAUL_E_REENTER);
    assert_int_equal(haul_job_remove_new(l->engine, job->id, 0, &t),
                     HAUL_E_REENTER);
    l->count++;
    l->id = job->id;
    snprintf(l->state, sizeof(l->state), "%s", job->state);
    l->bytes = job->bytes;
    l->acked = job->acked_bytes;
    return 0;
}

static struct listing list_jobs(struct world *w)
{
    struct listing l = {.engine = w->engine};

    assert_int_equal(haul_jobs_list(w->engine, 0, on_job, &l), 0);
    return l;
}

/* A transfer that is cut as soon as something is saved. */
static void leave_job(struct world *w, struct haul_transfer *t)
{
    struct cancel c = {.at_acked = 1};
    struct haul_result r;

    haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 8 << 20);
    haul_transfer_set_event_fn(t, on_event, &c);
    assert_int_equal(run(w, t, &r), HAUL_E_CANCELED);
    assert_true(r.acked_bytes > 0);
    haul_transfer_free(t);
}

static void remove_job(struct world *w, int64_t id, int forget)
{
    struct haul_transfer *t;
    struct haul_result r;

    assert_int_equal(haul_job_remove_new(w->engine, id, forget, &t), 0);
    assert_int_equal(run(w, t, &r), 0);
    haul_transfer_free(t);
    assert_int_equal(list_jobs(w).count, 0);
}

static void a_job_is_listed_and_removed_with_its_file(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t;
    struct listing l;

    make_source(w, 128 * CHUNK);
    assert_int_equal(list_jobs(w).count, 0);
    leave_job(w, copy_new(w, w->source, w->target));
    assert_int_equal(others(w), 1); /* the temporary file */
    l = list_jobs(w);
    assert_int_equal(l.count, 1);
    assert_string_equal(l.state, "unfinished");
    assert_int_equal(l.bytes, w->size);
    assert_true(l.acked > 0 && l.acked < w->size);
    assert_int_equal(haul_jobs_list(w->engine, l.id + 1, on_job, &l),
                     HAUL_E_INVAL);
    assert_int_equal(haul_job_remove_new(w->engine, l.id + 1, 0, &t),
                     HAUL_E_INVAL);
    remove_job(w, l.id, 0);
    assert_int_equal(others(w), 0);
    end_engine(w);
}

static void a_job_of_the_callers_functions_can_be_removed(void **state)
{
    struct world *w = *state;
    struct ends e = {.step = 1 << 20};
    struct haul_transfer *t = copy_new(w, NULL, NULL);

    make_source(w, 128 * CHUNK);
    e.bytes = w->bytes;
    e.size = w->size;
    e.got = calloc(1, w->size);
    haul_transfer_set_source_fn(t, "s", w->size, read_bytes, &e);
    haul_transfer_set_target_fn(t, "t", write_bytes, &e);
    leave_job(w, t);
    remove_job(w, list_jobs(w).id, 0);
    free(e.got);
    end_engine(w);
}

/* ---- Options and states ------------------------------------------------- */

static void wrong_options_are_refused_with_a_reason(void **state)
{
    struct haul_error error = {.size = sizeof(error)};
    struct world *w = *state;
    struct haul_transfer *t, *none = NULL;

    t = copy_new(w, "mem:gen?size=1000&seed=1", "mem:null");
    assert_int_equal(haul_transfer_set_i64(t, 4242, 1), HAUL_E_INVAL);
    haul_transfer_error(t, &error);
    assert_int_equal(error.code, HAUL_E_INVAL);
    assert_true(error.message[0] != '\0');
    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_STREAMS, 65),
                     HAUL_E_INVAL);
    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_MEMORY, 64 << 20),
                     HAUL_E_INVAL);
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_VERIFY, "perhaps"),
                     HAUL_E_INVAL);
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_VERIFY, NULL), 0);
    assert_int_equal(haul_engine_set_i64(w->engine, HAUL_OPT_STREAMS, 1),
                     HAUL_E_INVAL);
    haul_engine_error(w->engine, &error);
    assert_int_equal(error.code, HAUL_E_INVAL);
    assert_int_equal(haul_engine_set_str(w->engine, HAUL_OPT_TRACE, "nets"),
                     HAUL_E_INVAL);
    assert_int_equal(haul_engine_set_str(w->engine, HAUL_OPT_TRACE, NULL), 0);
    assert_int_equal(
        haul_transfer_new(w->engine, "gopher://x/", "mem:null", &none),
        HAUL_E_INVAL);
    assert_int_equal(haul_transfer_set_source_fn(t, NULL, 1, read_bytes, w),
                     HAUL_E_STATE);
    haul_transfer_free(t);
    t = copy_new(w, NULL, "mem:null");
    assert_int_equal(haul_transfer_start(t), HAUL_E_INVAL);
    assert_int_equal(haul_transfer_start(t), HAUL_E_INVAL);
    haul_transfer_free(t);
    end_engine(w);
}

static void what_comes_too_late_or_too_early_is_refused(void **state)
{
    struct world *w = *state;
    struct haul_result r = {.size = sizeof(r)};
    struct haul_stats s = {.size = sizeof(s)};
    struct haul_error error = {.size = 4};
    struct haul_transfer *t;

    t = copy_new(w, "mem:gen?size=1000&seed=1", "mem:null");
    assert_int_equal(haul_transfer_result(t, &r), HAUL_E_STATE);
    assert_int_equal(haul_transfer_stats(t, &s), 0);
    assert_int_equal(s.state, HAUL_STATE_NEW);
    assert_int_equal(haul_transfer_error(t, &error), HAUL_E_INVAL);
    assert_int_equal(run(w, t, &r), 0);
    assert_int_equal(haul_transfer_start(t), HAUL_E_STATE);
    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_STREAMS, 1),
                     HAUL_E_STATE);
    assert_int_equal(haul_engine_set_str(w->engine, HAUL_OPT_STATE, "x"),
                     HAUL_E_STATE);
    memset(&s, 0xee, sizeof(s));
    s.size = 8; /* an older program's struct is not overrun */
    assert_int_equal(haul_transfer_stats(t, &s), 0);
    assert_int_equal(s.state, HAUL_STATE_DONE);
    assert_int_equal(s.bytes, UINT64_C(0xeeeeeeeeeeeeeeee));
    haul_transfer_free(t);
}

static int reenter(void *user, const struct haul_event *ev)
{
    struct haul_error error = {.size = sizeof(error)};
    struct haul_result r = {.size = sizeof(r)};
    struct world *w = user;
    struct haul_transfer *t = ev->transfer, *other;

    assert_int_equal(haul_engine_fd(w->engine), HAUL_E_REENTER);
    assert_int_equal(haul_engine_error(w->engine, &error), HAUL_E_REENTER);
    assert_int_equal(haul_transfer_error(t, &error), HAUL_E_REENTER);
    assert_int_equal(haul_transfer_result(t, &r), HAUL_E_REENTER);
    assert_int_equal(haul_verify_new(w->engine, "x", "y", &other),
                     HAUL_E_REENTER);
    assert_int_equal(haul_jobs_list(w->engine, 0, on_job, NULL),
                     HAUL_E_REENTER);
    return 0;
}

static void callbacks_may_not_call_back(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t;
    struct haul_result r;

    t = copy_new(w, "mem:gen?size=1000&seed=1", "mem:null");
    haul_transfer_set_event_fn(t, reenter, w);
    assert_int_equal(run(w, t, &r), 0);
    haul_transfer_free(t);
}

/* ---- Loops -------------------------------------------------------------- */

static void a_foreign_loop_can_drive_it(void **state)
{
    struct world *w = *state;
    struct haul_result r = {.size = sizeof(r)};
    struct haul_transfer *t;
    struct pollfd p;
    int more, polls = 0;

    make_source(w, 2 << 20);
    t = copy_new(w, w->source, w->target);
    haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 8 << 20);
    assert_int_equal(haul_transfer_start(t), 0);
    p = (struct pollfd){.fd = haul_engine_fd(w->engine), .events = POLLIN};
    assert_true(p.fd >= 0);
    while ((more = haul_engine_step(w->engine, 0)) > 0) {
        /* Nothing may be forgotten: it tells within a tick. */
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_true(++polls < 100000);
    }
    assert_int_equal(more, 0);
    assert_int_equal(haul_transfer_result(t, &r), 0);
    assert_int_equal(r.code, 0);
    haul_transfer_free(t);
    assert_target(w);
}

static void two_engines_in_one_thread_do_not_meet(void **state)
{
    struct world *w = *state, other = *w;
    struct haul_result r = {.size = sizeof(r)};
    struct haul_transfer *a, *b;
    int more;

    make_source(w, 1 << 20);
    make_engine(&other);
    a = copy_new(w, w->source, w->target);
    b = copy_new(&other, w->source, w->target);
    assert_int_equal(haul_transfer_start(a), 0);
    /* The same transfer: only one of them works on it. */
    assert_int_equal(haul_transfer_start(b), 0);
    do {
        more = haul_engine_step(w->engine, 1);
        more += haul_engine_step(other.engine, 1);
    } while (more);
    assert_int_equal(haul_transfer_result(b, &r), 0);
    assert_int_equal(r.code, HAUL_E_BUSY);
    assert_int_equal(haul_transfer_result(a, &r), 0);
    assert_int_equal(r.code, 0);
    haul_transfer_free(a);
    haul_transfer_free(b);
    haul_engine_free(other.engine);
    assert_target(w);
    end_engine(w);
}

/* ---- Targets that confirm late ------------------------------------------ */

static int count_late(void *user, const struct haul_event *ev)
{
    uint32_t *count = user;

    count[0] += ev->stats->late;
    count[1] += ev->type == HAUL_EV_WARNING &&
                strstr(ev->error->message, "confirms nothing before its end");
    if (ev->stats->late && ev->stats->sent_bytes)
        count[2] += ev->stats->acked_bytes == 0;
    return 0;
}

static void a_late_target_tells_what_the_remote_said(void **state)
{
    static const char *const targets[] = {
        "mem:buf?id=late&late=1&ordered=1",
        "mem:buf?id=late&late=1&ordered=1&refuse=1", "mem:buf?id=late"};
    static const int statuses[] = {201, 413, 0};
    struct world *w = *state;

    for (size_t i = 0; i < HL_LEN(targets); i++) {
        struct haul_transfer *t =
            copy_new(w, "mem:gen?size=3mi&seed=1", targets[i]);
        uint32_t count[3] = {0};
        struct haul_result r;

        haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 8 << 20);
        haul_transfer_set_event_fn(t, count_late, count);
        assert_int_equal(run(w, t, &r), i == 1 ? HAUL_E_REMOTE : 0);
        assert_int_equal(r.answer_status, statuses[i]);
        if (i == 2) {
            assert_null(r.answer);
        } else {
            assert_string_equal(r.answer, i ? "too large\n" : "stored\n");
            assert_int_equal(r.answer_bytes, strlen(r.answer));
        }
        assert_int_equal(count[0] > 0, i < 2);
        assert_int_equal(count[1], i < 2);
        assert_int_equal(count[2] > 0, i < 2);
        haul_transfer_free(t);
    }
    hl_membuf_reset();
    end_engine(w);
}

/* ---- Out of memory ------------------------------------------------------ */

/* Everything from the engine to its end; HAUL_OK or the first error. */
static int whole_life(const char *source, const char *target, const char *state)
{
    struct haul_result r = {.size = sizeof(r)};
    struct haul_engine *e;
    struct haul_transfer *t;
    int rc = haul_engine_new(&e);

    if (rc)
        return rc;
    rc = haul_engine_set_str(e, HAUL_OPT_STATE, state);
    if (rc == 0)
        rc = haul_transfer_new(e, source, target, &t);
    if (rc) {
        haul_engine_free(e);
        return rc;
    }
    rc = haul_transfer_set_i64(t, HAUL_OPT_CHUNK_SIZE, CHUNK);
    if (rc == 0)
        rc = haul_transfer_start(t);
    if (rc == 0)
        rc = haul_engine_run(e);
    if (rc == 0 && haul_transfer_result(t, &r) == 0)
        rc = r.code;
    haul_transfer_free(t);
    haul_engine_free(e);
    return rc;
}

/* Lives once with the n-th allocation failing, and with all behind it. */
static int starve_at(struct world *w, const char *source, const char *target,
                     int64_t n, bool and_on)
{
    char path[300];
    int rc;

    snprintf(path, sizeof(path), "%s/state/db", w->folder);
    unlink(path); /* what was done is not recognised */
    alarm(20);    /* a copy that hangs is found */
    hl_mem_fail_at(n, and_on);
    rc = whole_life(source, target, path);
    hl_mem_fail_at(0, false);
    alarm(0);
    /* hl_url_query() cannot say that memory is out: "no size". */
    if (rc == HAUL_E_INVAL && !strncmp(source, "mem:", 4))
        rc = HAUL_E_NOMEM;
    if (rc != 0 && rc != HAUL_E_NOMEM)
        fail_msg("allocation %d: %s", (int)n, haul_err_name(rc));
    if (hl_mem_live() != 0)
        fail_msg("allocation %d: %d left", (int)n, (int)hl_mem_live());
    return rc;
}

static void starve(struct world *w, const char *source, const char *target)
{
    int64_t needed = 1;

    while (starve_at(w, source, target, needed, true))
        assert_true(++needed < 3000);
    /* Threads make it a few more or less each time. */
    for (int64_t n = 1; n < needed + 20; n++)
        starve_at(w, source, target, n, false);
    assert_true(needed > 50);
}

static void without_memory_it_fails_in_order(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t;
    struct haul_result r;

    end_engine(w);
    make_source(w, 3 * CHUNK + 1);
    starve(w, "mem:gen?size=200000&seed=1", "mem:null");
    starve(w, w->source, w->target);
    make_engine(w);
    t = copy_new(w, w->source, w->target);
    assert_int_equal(run(w, t, &r), 0);
    haul_transfer_free(t);
    assert_target(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        TEST(a_late_target_tells_what_the_remote_said),
        TEST(functions_of_the_caller_move_every_byte),
        TEST(an_error_of_the_caller_ends_the_transfer_with_it),
        TEST(named_functions_continue_in_another_process),
        TEST(a_job_is_listed_and_removed_with_its_file),
        TEST(a_job_of_the_callers_functions_can_be_removed),
        TEST(wrong_options_are_refused_with_a_reason),
        TEST(what_comes_too_late_or_too_early_is_refused),
        TEST(callbacks_may_not_call_back),
        TEST(a_foreign_loop_can_drive_it),
        TEST(two_engines_in_one_thread_do_not_meet),
        TEST(without_memory_it_fails_in_order),
#undef TEST
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
