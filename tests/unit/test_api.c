/* The public functions as a program uses them, over memory, files and the
 * caller's own functions; and with memory running out at every place. */
#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base.h"
#include "haul_jobs.h"

#define CHUNK 65536u

/* ---- Fixture --------------------------------------------------------------- */

struct world {
    char folder[256], source[300], target[300];
    struct haul_engine *engine;
    uint8_t *bytes; /* of the source */
    size_t size;
};

static void make_engine(struct world *w)
{
    char state[300];

    snprintf(state, sizeof(state), "%s/state/db", w->folder);
    assert_int_equal(haul_engine_new(&w->engine), 0);
    assert_int_equal(
        haul_engine_set_str(w->engine, HAUL_OPT_STATE, state), 0);
}

static void end_engine(struct world *w)
{
    haul_engine_free(w->engine);
    w->engine = NULL;
    assert_int_equal(hl_mem_live(), 0);
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void make_source(struct world *w, size_t size)
{
    uint32_t x = 12345;

    free(w->bytes);
    w->size = size;
    w->bytes = malloc(size + 1);
    assert_non_null(w->bytes);
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525 + 1013904223;
        w->bytes[i] = (uint8_t)(x >> 24);
    }
    write_file(w->source, w->bytes, size);
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    struct world *w = calloc(1, sizeof(*w));

    snprintf(w->folder, sizeof(w->folder), "%s/haul-api-XXXXXX",
             tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->source, sizeof(w->source), "%s/source", w->folder);
    snprintf(w->target, sizeof(w->target), "%s/target", w->folder);
    make_engine(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char command[300];

    hl_mem_fail_at(0, false);
    haul_engine_free(w->engine);
    snprintf(command, sizeof(command), "rm -rf '%s'", w->folder);
    assert_int_equal(system(command), 0);
    free(w->bytes);
    free(w);
    return 0;
}

static void assert_target(const struct world *w)
{
    uint8_t *got = malloc(w->size + 1);
    FILE *f = fopen(w->target, "rb");

    assert_non_null(f);
    assert_int_equal(fread(got, 1, w->size + 1, f), w->size);
    assert_memory_equal(got, w->bytes, w->size);
    fclose(f);
    free(got);
}

/* Files in the folder but source and target. */
static int others(const struct world *w)
{
    DIR *d = opendir(w->folder);
    struct dirent *e;
    int count = 0;

    assert_non_null(d);
    while ((e = readdir(d)))
        count += strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
                 strcmp(e->d_name, "source") && strcmp(e->d_name, "target") &&
                 strcmp(e->d_name, "state");
    closedir(d);
    return count;
}

static struct haul_transfer *copy_new(struct world *w, const char *source,
                                      const char *target)
{
    struct haul_transfer *t;

    assert_int_equal(haul_transfer_new(w->engine, source, target, &t), 0);
    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_CHUNK_SIZE, CHUNK), 0);
    return t;
}

/* Runs and gives the code of the end. */
static int run(struct world *w, struct haul_transfer *t,
               struct haul_result *result)
{
    struct haul_error error = {.size = sizeof(error)};

    memset(result, 0, sizeof(*result));
    result->size = sizeof(*result);
    assert_int_equal(haul_transfer_start(t), 0);
    assert_int_equal(haul_engine_run(w->engine), 0);
    assert_int_equal(haul_transfer_result(t, result), 0);
    assert_int_equal(haul_transfer_error(t, &error), 0);
    assert_int_equal(error.code, result->code);
    if (error.code)
        assert_true(error.message[0] != '\0');
    return result->code;
}

/* ---- Copies ---------------------------------------------------------------- */

static void a_copy_has_the_bytes_of_its_source(void **state)
{
    static const size_t sizes[] = {0,         1,         CHUNK - 1, CHUNK,
                                   CHUNK + 1, 5 * CHUNK, 1000003};
    struct world *w = *state;
    struct haul_result r;

    for (size_t i = 0; i < HL_LEN(sizes); i++) {
        struct haul_transfer *t;

        make_source(w, sizes[i]);
        t = copy_new(w, w->source, w->target);
        assert_int_equal(run(w, t, &r), 0);
        assert_int_equal(r.bytes, sizes[i]);
        assert_int_equal(r.acked_bytes, sizes[i]);
        assert_string_equal(r.verified, "size");
        assert_string_equal(r.target, w->target);
        haul_transfer_free(t);
        assert_target(w);
        assert_int_equal(others(w), 0);
    }
    end_engine(w);
}

static void a_copy_that_is_done_is_recognised(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t;
    struct haul_result r;
    char first[80];

    make_source(w, 300000);
    t = copy_new(w, w->source, w->target);
    assert_int_equal(run(w, t, &r), 0);
    assert_null(r.note);
    snprintf(first, sizeof(first), "%s", r.digest);
    haul_transfer_free(t);
    t = copy_new(w, w->source, w->target);
    assert_int_equal(run(w, t, &r), 0);
    assert_string_equal(r.note, "already there, verified");
    assert_string_equal(r.digest, first);
    assert_int_equal(r.sent_bytes, 0);
    haul_transfer_free(t);
    make_source(w, 300001);
    t = copy_new(w, w->source, w->target);
    assert_int_equal(run(w, t, &r), 0);
    assert_null(r.note);
    haul_transfer_free(t);
    assert_target(w);
}

static void verify_finds_one_flipped_bit(void **state)
{
    struct world *w = *state;
    struct haul_error error = {.size = sizeof(error)};
    struct haul_transfer *t;
    struct haul_result r;
    char manifest[320];

    make_source(w, 300000);
    snprintf(manifest, sizeof(manifest), "%s.haul.json", w->target);
    t = copy_new(w, w->source, w->target);
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_MANIFEST, manifest),
                     0);
    assert_int_equal(run(w, t, &r), 0);
    haul_transfer_free(t);

    assert_int_equal(haul_verify_new(w->engine, w->target, NULL, &t), 0);
    assert_int_equal(run(w, t, &r), 0);
    assert_string_equal(r.verified, "readback");
    assert_int_equal(r.acked_bytes, 300000);
    haul_transfer_free(t);

    w->bytes[200000] ^= 1;
    write_file(w->target, w->bytes, w->size);
    assert_int_equal(haul_verify_new(w->engine, w->target, manifest, &t), 0);
    assert_int_equal(run(w, t, &r), HAUL_E_DIGEST);
    haul_transfer_error(t, &error);
    assert_non_null(strstr(error.message, "196608")); /* 3 * CHUNK */
    haul_transfer_free(t);

    assert_int_equal(haul_verify_new(w->engine, w->source, NULL, &t),
                     HAUL_E_READ);
    assert_int_equal(haul_verify_new(w->engine, NULL, NULL, &t),
                     HAUL_E_INVAL);
}

/* A pipe's size is known at its end only. */
static void verify_of_a_pipe_finds_bytes_behind_the_end(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t;
    struct haul_result r;
    char manifest[320], command[700], fifo[320];

    make_source(w, 4 * CHUNK);
    snprintf(manifest, sizeof(manifest), "%s/m.json", w->folder);
    snprintf(fifo, sizeof(fifo), "%s/fifo", w->folder);
    t = copy_new(w, w->source, w->target);
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_MANIFEST, manifest),
                     0);
    assert_int_equal(run(w, t, &r), 0);
    haul_transfer_free(t);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    for (int extra = -1; extra <= 1; extra++) {
        snprintf(command, sizeof(command),
                 "{ head -c %d '%s'; printf '%s'; } >'%s' &",
                 (int)w->size + (extra < 0 ? -1 : 0), w->source,
                 extra > 0 ? "x" : "", fifo);
        assert_int_equal(system(command), 0);
        assert_int_equal(haul_verify_new(w->engine, fifo, manifest, &t), 0);
        assert_int_equal(run(w, t, &r), extra ? HAUL_E_DIGEST : 0);
        haul_transfer_free(t);
    }
}

/* ---- Cancel and continue --------------------------------------------------- */

struct cancel {
    int events, at; /* cancel at this event; 0 never */
    uint32_t at_state;
    uint64_t saved; /* acknowledged bytes of the last event */
    int done;
};

static int on_event(void *user, const struct haul_event *ev)
{
    struct cancel *c = user;

    assert_int_equal(c->done, 0);
    c->events++;
    c->done = ev->type == HAUL_EV_DONE;
    c->saved = ev->stats->acked_bytes;
    if (c->at && c->events == c->at)
        haul_transfer_cancel(ev->transfer);
    return c->at_state && ev->type == HAUL_EV_STATE &&
           ev->stats->state == c->at_state;
}

static int cut_copy(struct world *w, struct cancel *c, const char *verify,
                    struct haul_result *r)
{
    struct haul_transfer *t = copy_new(w, w->source, w->target);
    int rc;

    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_VERIFY, verify), 0);
    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 8 << 20),
                     0);
    assert_int_equal(haul_transfer_set_event_fn(t, on_event, c), 0);
    rc = run(w, t, r);
    assert_int_equal(c->done, 1);
    haul_transfer_free(t);
    return rc;
}

/* Whatever was cut: one more run makes it whole, from where it was. */
static void continue_copy(struct world *w, int rc, const struct cancel *c)
{
    struct cancel none = {0};
    struct haul_result r;

    end_engine(w);
    make_engine(w);
    assert_true(rc == 0 || rc == HAUL_E_CANCELED);
    assert_int_equal(cut_copy(w, &none, "auto", &r), 0);
    assert_target(w);
    assert_int_equal(others(w), 0);
    assert_int_equal(r.acked_bytes, w->size);
    if (rc == 0)
        assert_string_equal(r.note, "already there, verified");
    else
        assert_true(r.resumed_from <= c->saved + 0);
    unlink(w->target);
    end_engine(w);
    make_engine(w);
}

static void forget_all(struct world *w)
{
    char command[320];

    end_engine(w);
    snprintf(command, sizeof(command), "rm -rf '%s/state'", w->folder);
    assert_int_equal(system(command), 0);
    make_engine(w);
}

static void cut_at_every_event_it_continues(void **state)
{
    struct world *w = *state;
    struct haul_result r;
    int rc = -1, resumed = 0;

    make_source(w, (5 << 19) + 77); /* 2.5 MiB: 0.06 s at the limit */
    for (int at = 1; rc != 0 || at < 4; at++) {
        struct cancel c = {.at = at};

        assert_true(at < 100);
        rc = cut_copy(w, &c, "auto", &r);
        assert_true(rc == 0 || c.events >= at);
        resumed += rc && r.acked_bytes > 0;
        continue_copy(w, rc, &c);
        forget_all(w);
    }
    assert_true(resumed > 0);
}

static void cut_in_every_state_it_continues(void **state)
{
    static const uint32_t states[] = {
        HAUL_STATE_OPENING, HAUL_STATE_MOVING, HAUL_STATE_CHECKING,
        HAUL_STATE_COMMITTING};
    struct world *w = *state;
    struct haul_result r;

    make_source(w, 20 * CHUNK + 5);
    for (size_t i = 0; i < HL_LEN(states); i++) {
        struct cancel c = {.at_state = states[i]};
        int rc = cut_copy(w, &c, "readback", &r);

        /* A commit that was under way may have come through. */
        if (states[i] != HAUL_STATE_COMMITTING)
            assert_int_equal(rc, HAUL_E_CANCELED);
        continue_copy(w, rc, &c);
        forget_all(w);
    }
}

static void cancel_before_start_is_not_forgotten(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t;
    struct haul_result r;

    make_source(w, 300000);
    t = copy_new(w, w->source, w->target);
    haul_transfer_cancel(t);
    assert_int_equal(run(w, t, &r), HAUL_E_CANCELED);
    haul_transfer_free(t);
    assert_int_equal(access(w->target, F_OK), -1);
    assert_int_equal(others(w), 0);
}

static void freeing_a_running_transfer_ends_it(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t, *other;
    struct haul_result r;

    make_source(w, 8 << 20);
    t = copy_new(w, w->source, w->target);
    other = copy_new(w, "mem:gen?size=1mi&seed=2", "mem:null");
    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 1 << 20),
                     0);
    assert_int_equal(haul_transfer_start(t), 0);
    for (int i = 0; i < 30; i++)
        assert_int_equal(haul_engine_step(w->engine, 10), 1);
    haul_transfer_free(t);
    assert_int_equal(run(w, other, &r), 0);
    haul_transfer_free(other);
    end_engine(w);
}

/* ---- --resume append ------------------------------------------------------- */

static uint64_t target_size(const struct world *w)
{
    struct stat st;

    assert_int_equal(stat(w->target, &st), 0);
    return (uint64_t)st.st_size;
}

static struct haul_transfer *append_new(struct world *w)
{
    struct haul_transfer *t = copy_new(w, w->source, w->target);

    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_RESUME, "append"), 0);
    return t;
}

static void append_says_what_it_did_not_read(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t;
    struct haul_result r;
    char manifest[320];

    make_source(w, 10 * CHUNK + 9);
    snprintf(manifest, sizeof(manifest), "%s/m.json", w->folder);
    write_file(w->target, w->bytes, 4 * CHUNK + 100);
    t = append_new(w);
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_MANIFEST, manifest),
                     0);
    assert_int_equal(run(w, t, &r), 0);
    assert_int_equal(r.resumed_from, 4 * CHUNK);
    assert_non_null(strstr(r.note, "unverified"));
    /* The prefix has no digests: no root, no manifest of zeros. */
    assert_null(r.digest);
    assert_int_equal(access(manifest, F_OK), -1);
    haul_transfer_free(t);
    assert_target(w);
}

static void append_with_readback_covers_the_prefix(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t;
    struct haul_result r;
    char manifest[320];

    make_source(w, 10 * CHUNK + 9);
    snprintf(manifest, sizeof(manifest), "%s/m.json", w->folder);
    write_file(w->target, w->bytes, 4 * CHUNK + 100);
    w->bytes[CHUNK + 5] ^= 1; /* too far back for the comparison of tails */
    t = append_new(w);
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_VERIFY, "readback"),
                     0);
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_MANIFEST, manifest),
                     0);
    assert_int_equal(run(w, t, &r), 0);
    assert_null(r.note);
    assert_non_null(r.digest);
    haul_transfer_free(t);
    w->bytes[CHUNK + 5] ^= 1;
    assert_target(w);
    assert_int_equal(haul_verify_new(w->engine, w->target, manifest, &t), 0);
    assert_int_equal(run(w, t, &r), 0);
    haul_transfer_free(t);
}

/* Whenever it is cut, what stood there stays, and is not sent again. */
static void append_never_cuts_what_was_there(void **state)
{
    const uint64_t stood = 20 * CHUNK + 100;
    struct world *w = *state;
    struct haul_result r;
    int rc = -1;

    make_source(w, 60 * CHUNK + 9);
    for (int at = 1; rc != 0; at++) {
        assert_true(at < 100);
        write_file(w->target, w->bytes, stood);
        for (int again = 0; again < 2; again++) {
            struct haul_transfer *t = append_new(w);
            struct cancel c = {.at = at};

            assert_int_equal(
                haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 8 << 20), 0);
            haul_transfer_set_event_fn(t, on_event, &c);
            rc = run(w, t, &r);
            haul_transfer_free(t);
            assert_true(target_size(w) >= 20 * CHUNK);
            if (rc == 0)
                break;
        }
        if (rc) {
            struct haul_transfer *t = append_new(w);

            assert_int_equal(run(w, t, &r), 0);
            assert_true(r.resumed_from >= 20 * CHUNK);
            haul_transfer_free(t);
        }
        assert_target(w);
        forget_all(w);
    }
}

static void append_to_something_else_leaves_it_alone(void **state)
{
    struct world *w = *state;
    struct haul_transfer *t;
    struct haul_result r;

    make_source(w, 10 * CHUNK);
    w->bytes[3 * CHUNK + 1] ^= 1;
    write_file(w->target, w->bytes, 4 * CHUNK + 100);
    w->bytes[3 * CHUNK + 1] ^= 1;
    for (int i = 0; i < 2; i++) {
        t = append_new(w);
        assert_int_equal(run(w, t, &r), HAUL_E_RESUME);
        haul_transfer_free(t);
        assert_int_equal(target_size(w), 4 * CHUNK + 100);
    }
}

/* ---- The caller as an end -------------------------------------------------- */

struct ends {
    const uint8_t *bytes;
    size_t size, step; /* moves at most step bytes at once */
    uint8_t *got;
    size_t got_max;
    int64_t fail;      /* returned at fail_at */
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
        assert_int_equal(haul_transfer_set_source_fn(
                             t, NULL, i % 2 ? UINT64_MAX : size, read_bytes,
                             &e),
                         0);
        assert_int_equal(
            haul_transfer_set_target_fn(t, NULL, write_bytes, &e), 0);
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
static int fail_with(struct world *w, bool source, int64_t fail,
                     uint64_t size)
{
    struct ends e = {.bytes = w->bytes, .size = w->size, .step = 10007,
                     .fail = fail, .fail_at = 200000};
    struct haul_transfer *t = copy_new(w, source ? NULL : w->source,
                                       source ? w->target : NULL);
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
    uint64_t resumed = 0;
    int rc = -1;

    make_source(w, 60 * CHUNK + 7);
    e.bytes = w->bytes;
    e.size = w->size;
    e.got = calloc(1, w->size);
    for (int i = 0; rc && i < 20; i++) {
        struct haul_transfer *t = copy_new(w, NULL, NULL);
        struct cancel c = {.at = i ? 0 : 6};
        struct haul_result r;

        haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 8 << 20);
        haul_transfer_set_source_fn(t, "s", w->size, read_bytes, &e);
        haul_transfer_set_target_fn(t, "t", write_bytes, &e);
        haul_transfer_set_event_fn(t, on_event, &c);
        rc = run(w, t, &r);
        assert_true(rc == 0 || rc == HAUL_E_CANCELED);
        resumed = r.resumed_from;
        haul_transfer_free(t);
        end_engine(w);
        make_engine(w);
    }
    assert_int_equal(rc, 0);
    assert_true(resumed > 0);
    assert_memory_equal(e.got, w->bytes, w->size);
    free(e.got);
}
