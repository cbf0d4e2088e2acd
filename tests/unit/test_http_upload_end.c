/*
 * How uploads made of requests end before their time: abort and stalls in every
 * state, jobs that come too late, no memory. Against a real server; see
 * http_upload_world.h.
 */
#include "http_upload_world.h"

#include <semaphore.h>

#include "http_private.h"

/* ---- Abort -------------------------------------------------------------- */

static const char *held_method;

static void hold(const struct seen *s, struct reply *r)
{
    r->hold = !strcmp(s->method, held_method);
}

static void deaf(const struct seen *s, struct reply *r)
{
    if (strcmp(s->method, "PATCH") != 0)
        return;
    r->read_max = 0;
    r->hold = true;
}

static void hold_all(const char *method)
{
    held_method = method;
    atomic_store(&store.script, hold);
}

/* What was begun can be removed after it. */
static void abort_and_discard(void)
{
    abort_now();
    atomic_store(&store.script, NULL);
    start_discard();
    WAIT_UNTIL(discard_t.returned);
    assert_int_equal(discard_t.rc, 0);
    assert_int_equal(seen_of("DELETE"), 1);
    abort_now();
}

static void check_canceled(void)
{
    for (unsigned i = 0; i < write_count; i++)
        assert_true(writes[i].io.op.rc == HAUL_E_CANCELED ||
                    writes[i].io.op.rc == HAUL_E_REMOTE_IO ||
                    writes[i].io.op.rc == 0);
}

static void abort_while_it_is_opened(void **state)
{
    (void)state;
    manners.opens = true;
    begin_upload();
    hold_all("GET");
    start_open();
    WAIT_UNTIL(held() == 1);
    abort_and_discard();
    assert_int_equal(open_t.returned, 1);
    assert_int_equal(open_t.rc, HAUL_E_CANCELED);
}

static void abort_while_a_part_is_asked_about(void **state)
{
    (void)state;
    open_upload();
    hold_all("HEAD");
    feed_lanes();
    WAIT_UNTIL(held() == 1);
    abort_and_discard();
    check_canceled();
    assert_int_equal(writes[0].io.op.rc, HAUL_E_CANCELED);
}

static void abort_while_a_body_is_sent(void **state)
{
    (void)state;
    size = THING_MAX;
    open_upload();
    atomic_store(&store.script, deaf);
    WAIT_UNTIL((feed_lanes(), held() == 1));
    for (int i = 0; i < 20; i++) {
        feed_lanes();
        step();
    }
    abort_and_discard();
    check_canceled();
}

static void abort_while_a_body_waits_for_writes(void **state)
{
    (void)state;
    open_upload();
    submit_next(&lanes[0]);
    submit_next(&lanes[0]);
    WAIT_UNTIL(stored(0) == 2 * chunk);
    settle();
    abort_and_discard();
    check_canceled();
}

static void abort_while_the_last_answer_is_due(void **state)
{
    (void)state;
    manners.parts.size = 128 * KI;
    open_upload();
    hold_all("PATCH");
    WAIT_UNTIL((feed_lanes(), held() == 4));
    abort_and_discard();
    check_canceled();
}

static void abort_while_the_only_write_is_kept(void **state)
{
    (void)state;
    size = chunk;
    open_upload();
    hold_all("PATCH");
    feed_lanes();
    WAIT_UNTIL(held() == 1);
    abort_and_discard();
    assert_int_equal(writes[0].io.op.rc, HAUL_E_CANCELED);
}

static void abort_while_it_is_committed(void **state)
{
    (void)state;
    open_upload();
    move_all();
    hold_all("POST");
    start_commit();
    WAIT_UNTIL(held() == 1);
    abort_and_discard();
    assert_int_equal(commit_t.returned, 1);
    assert_int_equal(commit_t.rc, HAUL_E_CANCELED);
}

static void abort_while_it_is_removed(void **state)
{
    (void)state;
    open_upload();
    feed_lanes();
    settle();
    abort_now();
    hold_all("DELETE");
    start_discard();
    WAIT_UNTIL(held() == 1);
    abort_now();
    assert_int_equal(discard_t.returned, 1);
    assert_int_equal(discard_t.rc, HAUL_E_CANCELED);
}

static void after_an_abort_everything_comes_back(void **state)
{
    (void)state;
    open_upload();
    abort_now();
    quiet = false;
    lanes[0].broken = true;
    submit(0, chunk);
    WAIT_UNTIL(all_home());
    assert_int_equal(writes[0].io.op.rc, HAUL_E_CANCELED);
    start_commit();
    WAIT_UNTIL(commit_t.returned);
    assert_int_equal(commit_t.rc, HAUL_E_CANCELED);
    start_open();
    WAIT_UNTIL(open_t.returned);
    assert_int_equal(open_t.rc, HAUL_E_CANCELED);
    assert_int_equal(seen_of(NULL), 0);
    quiet = true;
}

/* Without a look back: jobs of it are on their way when it is closed. */
static void abort_and_close_at_any_moment(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 80; i++) {
        uint64_t until;

        manners.bound = i % 3 ? 0 : 100 * KI;
        manners.parts.size = i % 2 ? 128 * KI : 0;
        size = i % 7 ? 1024 * KI : 10;
        for (unsigned k = 0; k < THINGS; k++)
            store_put(k, bytes, 0);
        begin_upload();
        start_open();
        until = hl_loop_now(env.loop) + i * HL_NS_PER_MS / 8;
        while (hl_loop_now(env.loop) < until) {
            if (open_t.returned)
                feed_lanes();
            hl_loop_step(env.loop, 0);
        }
        if (i % 5 == 0)
            hl_driver_http.unstall(&obj->base);
        start_abort();
        WAIT_UNTIL(abort_t.returned);
        assert_true(all_home());
        assert_true(open_t.returned);
        quiet = true;
    }
}

/* ---- Stalls ------------------------------------------------------------- */

static void set_stall(int64_t seconds)
{
    assert_int_equal(
        hl_opts_set_i64(opts, 0, HAUL_OPT_STALL_TIMEOUT, seconds, NULL), 0);
}

static void unstall(void)
{
    hl_driver_http.unstall(&obj->base);
}

static void question_about_a_part_does_not_hang(void **state)
{
    (void)state;
    open_upload();
    hold_all("HEAD");
    feed_lanes();
    WAIT_UNTIL(held() == 1);
    unstall();
    WAIT_UNTIL(all_home());
    assert_int_equal(writes[0].io.op.rc, HAUL_E_STALLED);
    atomic_store(&store.script, NULL);
    move_all();
    check_stored();
    abort_now();
}

static void server_that_takes_nothing_is_left(void **state)
{
    unsigned before = 0;

    (void)state;
    size = THING_MAX;
    open_upload();
    atomic_store(&store.script, deaf);
    WAIT_UNTIL((feed_lanes(), held() == 1));
    /* Until the buffers on the way are full. */
    for (int quiet_steps = 0; quiet_steps < 50;) {
        feed_lanes();
        step();
        quiet_steps = write_count == before ? quiet_steps + 1 : 0;
        before = write_count;
    }
    unstall();
    WAIT_UNTIL(lost_reports > 0);
    WAIT_UNTIL(all_home());
    assert_int_equal(sent_error.code, HAUL_E_STALLED);
    atomic_store(&store.script, NULL);
    move_all();
    check_stored();
    abort_now();
}

static void body_that_waits_for_the_source_is_no_stall(void **state)
{
    (void)state;
    open_upload();
    submit_next(&lanes[0]);
    submit_next(&lanes[0]);
    WAIT_UNTIL(stored(0) == 2 * chunk);
    settle();
    unstall();
    settle();
    move_all();
    check_stored();
    assert_int_equal(breaks + lost_reports, 0);
    abort_now();
}

static void server_may_take_its_time_to_store(void **state)
{
    (void)state;
    open_upload();
    hold_all("PATCH");
    WAIT_UNTIL((feed_lanes(), held() == 1));
    unstall();
    settle();
    open_gate(true);
    move_all();
    check_stored();
    assert_int_equal(breaks + lost_reports, 0);
    open_gate(false);
    hold_all("POST");
    start_commit();
    WAIT_UNTIL(held() == 1);
    unstall();
    settle();
    assert_int_equal(commit_t.returned, 0);
    open_gate(true);
    WAIT_UNTIL(commit_t.returned);
    assert_int_equal(commit_t.rc, 0);
    abort_now();
}

static void but_not_for_ever(void **state)
{
    uint64_t begin;

    (void)state;
    set_stall(1);
    size = chunk;
    open_upload();
    hold_all("PATCH");
    feed_lanes();
    WAIT_UNTIL(held() == 1);
    begin = hl_loop_now(env.loop);
    WAIT_UNTIL(sent_count == 1);
    assert_int_equal(sent_error.code, HAUL_E_STALLED);
    assert_in_range(hl_loop_now(env.loop) - begin, 9 * HL_NS_PER_S,
                    14 * HL_NS_PER_S);
    abort_now();
}

/* ---- Jobs that come too late -------------------------------------------- */

/* Keeps the loop's thread from its work. */
struct blocker {
    struct hl_http_job job;
    sem_t reached, go;
    uint32_t running;
};

static void run_blocker(struct hl_http_job *job)
{
    struct blocker *b = HL_CONTAINER(job, struct blocker, job);

    b->running = obj->ep->loops[0]->running_count;
    sem_post(&b->reached);
    sem_wait(&b->go);
}

static void block(struct blocker *b)
{
    hl_http_loop_post(obj->ep->loops[0], &b->job);
    sem_wait(&b->reached);
}

static void unblock(struct blocker *b)
{
    sem_post(&b->go);
}

/* When every request of the loop is over, and the engine's thread knows nothing
 * of it yet. */
static void block_when_over(struct blocker *b)
{
    uint64_t end_ns = hl_loop_now(env.loop) + PATIENCE_NS;

    b->job.fn = run_blocker;
    sem_init(&b->reached, 0, 0);
    sem_init(&b->go, 0, 0);
    for (block(b); b->running; block(b)) {
        assert_true(hl_loop_now(env.loop) < end_ns);
        unblock(b);
        usleep(2000);
    }
}

static void refuse_first(const struct seen *s, struct reply *r)
{
    if (!strcmp(s->method, "PUT") && s->n == 1) {
        r->status = 500;
        r->read_max = 0;
    }
}

/* A body is over, its end on the way to the engine's thread; a write comes for
 * it, it breaks, the next one is started: all before the loop's thread goes on,
 * with the job that told of the write first. */
static void break_behind_a_job(struct blocker *b)
{
    manners.asks = false;
    manners.expects = true;
    manners.method = "PUT";
    size = THING_MAX;
    open_upload();
    atomic_store(&store.script, refuse_first);
    submit_next(&lanes[0]);
    block_when_over(b);
    submit_next(&lanes[0]);
    WAIT_UNTIL(lanes[0].out == 0 && !lanes[0].broken);
    assert_int_equal(lanes[0].next, 0);
    assert_int_equal(sent_count, 1);
    submit_next(&lanes[0]);
}

static void cancel_reaches_a_body_behind_the_job_of_another(void **state)
{
    struct blocker b;

    (void)state;
    break_behind_a_job(&b);
    start_abort();
    unblock(&b);
    finish_abort();
    check_canceled();
}

static void stall_reaches_a_body_behind_the_job_of_another(void **state)
{
    struct blocker b;

    (void)state;
    break_behind_a_job(&b);
    unstall();
    unblock(&b);
    WAIT_UNTIL(sent_count == 2);
    assert_int_equal(sent_error.code, HAUL_E_STALLED);
    abort_now();
}

static void stall_of_one_body_does_not_end_the_next(void **state)
{
    struct blocker b;

    (void)state;
    manners.asks = false;
    manners.expects = true;
    manners.method = "PUT";
    open_upload();
    atomic_store(&store.script, refuse_first);
    submit_next(&lanes[0]);
    block_when_over(&b);
    unstall();
    WAIT_UNTIL(lanes[0].out == 0 && !lanes[0].broken);
    submit_next(&lanes[0]);
    unblock(&b);
    move_all();
    check_stored();
    assert_int_equal(sent_count, 2);
    abort_now();
}

static void write_between_two_bodies_goes_with_the_next(void **state)
{
    struct blocker b;

    (void)state;
    manners.bound = 2 * chunk;
    open_upload();
    submit_next(&lanes[0]);
    submit_next(&lanes[0]);
    WAIT_UNTIL(stored(0) == 2 * chunk);
    block_when_over(&b);
    submit_next(&lanes[0]);
    submit_next(&lanes[0]);
    unblock(&b);
    move_all();
    check_stored();
    assert_int_equal(seen_of("PATCH"), 4);
    assert_int_equal(breaks + lost_reports, 0);
    abort_now();
}

/* ---- Memory ------------------------------------------------------------- */

/* One allocation fails, each in its turn: nothing hangs, everything comes back,
 * nothing stays. */
static void memory_that_is_out_ends_it_in_order(void **state)
{
    unsigned failed = 0, whole = 0;

    (void)state;
    manners.parts.size = 128 * KI;
    size = 300 * KI;
    for (int64_t n = 1; n < 200 && whole < 3; n++) {
        for (unsigned k = 0; k < THINGS; k++)
            store_put(k, bytes, 0);
        open_upload();
        hl_mem_fail_at(n, false);
        move_all();
        hl_mem_fail_at(0, false);
        failed += failure.code != 0;
        assert_true(!failure.code || failure.code == HAUL_E_NOMEM);
        whole = breaks || lost_reports || failure.code ? 0 : whole + 1;
        if (!failure.code) {
            check_stored();
            commit_now();
        }
        abort_now();
    }
    assert_true(failed > 10);
    assert_int_equal(whole, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(abort_while_it_is_opened),
        T(abort_while_a_part_is_asked_about),
        T(abort_while_a_body_is_sent),
        T(abort_while_a_body_waits_for_writes),
        T(abort_while_the_last_answer_is_due),
        T(abort_while_the_only_write_is_kept),
        T(abort_while_it_is_committed),
        T(abort_while_it_is_removed),
        T(after_an_abort_everything_comes_back),
        T(abort_and_close_at_any_moment),
        T(question_about_a_part_does_not_hang),
        T(server_that_takes_nothing_is_left),
        T(body_that_waits_for_the_source_is_no_stall),
        T(server_may_take_its_time_to_store),
        T(but_not_for_ever),
        T(cancel_reaches_a_body_behind_the_job_of_another),
        T(stall_reaches_a_body_behind_the_job_of_another),
        T(stall_of_one_body_does_not_end_the_next),
        T(write_between_two_bodies_goes_with_the_next),
        T(memory_that_is_out_ends_it_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
