/* The public functions as a program uses them: copies, verifications, and what
 * happens when they are cut at any point. */
#include "api_world.h"

/* ---- Copies ------------------------------------------------------------- */

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
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_MANIFEST, manifest), 0);
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
    assert_int_equal(haul_verify_new(w->engine, NULL, NULL, &t), HAUL_E_INVAL);
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
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_MANIFEST, manifest), 0);
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

/* ---- Cancel and continue ------------------------------------------------ */

static int cut_copy(struct world *w, struct cancel *c, const char *verify,
                    struct haul_result *r)
{
    struct haul_transfer *t = copy_new(w, w->source, w->target);
    int rc;

    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_VERIFY, verify), 0);
    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 8 << 20), 0);
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
        assert_true(r.resumed_from <= c->saved);
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
    static const uint32_t states[] = {HAUL_STATE_OPENING, HAUL_STATE_MOVING,
                                      HAUL_STATE_CHECKING,
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
    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_RATE_LIMIT, 1 << 20), 0);
    assert_int_equal(haul_transfer_start(t), 0);
    for (int i = 0; i < 30; i++)
        assert_int_equal(haul_engine_step(w->engine, 10), 1);
    haul_transfer_free(t);
    assert_int_equal(run(w, other, &r), 0);
    haul_transfer_free(other);
    end_engine(w);
}

/* ---- --resume append ---------------------------------------------------- */

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
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_MANIFEST, manifest), 0);
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
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_VERIFY, "readback"), 0);
    assert_int_equal(haul_transfer_set_str(t, HAUL_OPT_MANIFEST, manifest), 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        TEST(a_copy_has_the_bytes_of_its_source),
        TEST(a_copy_that_is_done_is_recognised),
        TEST(verify_finds_one_flipped_bit),
        TEST(verify_of_a_pipe_finds_bytes_behind_the_end),
        TEST(cut_at_every_event_it_continues),
        TEST(cut_in_every_state_it_continues),
        TEST(cancel_before_start_is_not_forgotten),
        TEST(freeing_a_running_transfer_ends_it),
        TEST(append_says_what_it_did_not_read),
        TEST(append_with_readback_covers_the_prefix),
        TEST(append_never_cuts_what_was_there),
        TEST(append_to_something_else_leaves_it_alone),
#undef TEST
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
