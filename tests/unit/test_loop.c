/*
 * Tasks run once and in order, timers when they are due, and the loop sleeps
 * exactly as long as there is nothing to do.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop.h"

#define MS HL_NS_PER_MS
#define STEP_LIMIT_MS 10000 /* a hang becomes a failure */

static int open_real(void **state)
{
    struct hl_loop *loop;

    if (hl_loop_new(false, &loop, NULL))
        return -1;
    *state = loop;
    return 0;
}

static int open_virtual(void **state)
{
    struct hl_loop *loop;

    if (hl_loop_new(true, &loop, NULL))
        return -1;
    *state = loop;
    return 0;
}

static int close_loop(void **state)
{
    hl_loop_free(*state);
    return hl_mem_live() == 0 ? 0 : -1;
}

static bool is_readable(const struct hl_loop *loop, int timeout_ms)
{
    struct pollfd p = {.fd = hl_loop_fd(loop), .events = POLLIN};

    return poll(&p, 1, timeout_ms) == 1;
}

/* ---- Tasks and timers that write down that they ran --------------------- */

static char trace[64];

static void note(char name)
{
    size_t n = strlen(trace);

    assert_true(n + 1 < sizeof(trace));
    trace[n] = name;
    trace[n + 1] = '\0';
}

struct item {
    struct hl_task task;
    struct hl_timer timer;
    struct hl_loop *loop;
    char name;
    struct item *other;
    uint64_t ran_at_ns;
};

static void run_item(struct item *it)
{
    note(it->name);
    it->ran_at_ns = hl_loop_now(it->loop);
}

static void task_note(struct hl_task *task)
{
    run_item(HL_CONTAINER(task, struct item, task));
}

static void task_post_again(struct hl_task *task)
{
    struct item *it = HL_CONTAINER(task, struct item, task);

    run_item(it);
    hl_loop_post(it->loop, task);
}

static void task_free(struct hl_task *task)
{
    struct item *it = HL_CONTAINER(task, struct item, task);

    run_item(it);
    hl_free(it);
}

static void timer_note(struct hl_timer *timer)
{
    run_item(HL_CONTAINER(timer, struct item, timer));
}

static void timer_cancel_other(struct hl_timer *timer)
{
    struct item *it = HL_CONTAINER(timer, struct item, timer);

    run_item(it);
    hl_timer_cancel(&it->other->timer);
}

static void timer_set_now(struct hl_timer *timer)
{
    struct item *it = HL_CONTAINER(timer, struct item, timer);

    run_item(it);
    hl_timer_set(it->loop, timer, hl_loop_now(it->loop));
}

static struct item item(struct hl_loop *loop, char name)
{
    trace[0] = '\0';
    return (struct item){.task.fn = task_note,
                         .timer.fn = timer_note,
                         .loop = loop,
                         .name = name};
}

/* ---- Both clocks -------------------------------------------------------- */

static void tasks_run_once_in_order_and_not_inside_post(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a'), b = item(loop, 'b'), c = item(loop, 'c');

    hl_loop_post(loop, &b.task);
    hl_loop_post(loop, &a.task);
    hl_loop_post(loop, &c.task);
    assert_string_equal(trace, "");
    assert_int_equal(hl_loop_step(loop, 0), 3);
    assert_string_equal(trace, "bac");
    assert_int_equal(hl_loop_step(loop, 0), 0);
}

static void a_step_runs_only_what_was_ready_at_entry(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a'), b = item(loop, 'b');

    a.task.fn = task_post_again;
    hl_loop_post(loop, &a.task);
    hl_loop_post(loop, &b.task);
    assert_int_equal(hl_loop_step(loop, STEP_LIMIT_MS), 2);
    assert_string_equal(trace, "ab");
    assert_int_equal(hl_loop_step(loop, STEP_LIMIT_MS), 1);
    assert_string_equal(trace, "aba");
}

static void a_task_may_free_itself(void **state)
{
    struct hl_loop *loop = *state;
    struct item b = item(loop, 'b');

    for (int i = 0; i < 2; i++) {
        struct item *it = hl_malloc(sizeof(*it));

        *it = item(loop, 'f');
        it->task.fn = task_free;
        hl_loop_post(loop, &it->task);
    }
    hl_loop_post(loop, &b.task);
    assert_int_equal(hl_loop_step(loop, 0), 3);
    assert_string_equal(trace, "ffb");
}

static void queued_tasks_and_set_timers_are_dropped_by_free(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a');

    hl_loop_post(loop, &a.task);
    hl_timer_set(loop, &a.timer, 1);
    hl_loop_free(loop);
    *state = NULL;
    assert_false(hl_node_linked(&a.timer.node));
    assert_string_equal(trace, "");
}

static void a_timer_that_sets_itself_to_now_does_not_keep_the_step(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a');

    a.timer.fn = timer_set_now;
    hl_timer_set(loop, &a.timer, hl_loop_now(loop));
    assert_int_equal(hl_loop_step(loop, STEP_LIMIT_MS), 1);
    assert_int_equal(hl_loop_step(loop, STEP_LIMIT_MS), 1);
    assert_string_equal(trace, "aa");
    hl_timer_cancel(&a.timer);
}

static void a_due_timer_can_be_cancelled_by_another(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a'), b = item(loop, 'b');
    uint64_t now = hl_loop_now(loop);

    a.timer.fn = timer_cancel_other;
    a.other = &b;
    hl_timer_set(loop, &a.timer, now - 2);
    hl_timer_set(loop, &b.timer, now - 1);
    assert_int_equal(hl_loop_step(loop, 0), 1);
    assert_int_equal(hl_loop_step(loop, 0), 0);
    assert_string_equal(trace, "a");
}

/* ---- Virtual clock ------------------------------------------------------ */

static void virtual_time_starts_at_one_second_and_stands(void **state)
{
    assert_int_equal(hl_loop_now(*state), 1000000000);
    assert_int_equal(hl_loop_step(*state, -1), 0);
    hl_loop_wake(*state);
    assert_int_equal(hl_loop_step(*state, -1), 0);
    assert_int_equal(hl_loop_now(*state), 1000000000);
}

static void virtual_time_jumps_from_timer_to_timer(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a'), b = item(loop, 'b'), c = item(loop, 'c'),
                d = item(loop, 'd');
    uint64_t day = 86400 * HL_NS_PER_S;

    hl_timer_set(loop, &c.timer, 3 * day);
    hl_timer_set(loop, &a.timer, day);
    hl_timer_set(loop, &b.timer, 2 * day);
    hl_timer_set(loop, &d.timer, 2 * day);
    assert_int_equal(hl_loop_step(loop, -1), 1);
    assert_true(a.ran_at_ns == day);
    assert_int_equal(hl_loop_step(loop, 0), 2);
    assert_true(b.ran_at_ns == 2 * day);
    assert_int_equal(hl_loop_step(loop, -1), 1);
    assert_true(c.ran_at_ns == 3 * day);
    assert_string_equal(trace, "abdc");
    assert_int_equal(hl_loop_step(loop, -1), 0);
}

static void tasks_come_before_virtual_time_moves(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a'), b = item(loop, 'b');

    hl_timer_set(loop, &a.timer, 2 * HL_NS_PER_S);
    hl_loop_post(loop, &b.task);
    assert_int_equal(hl_loop_step(loop, -1), 1);
    assert_true(hl_loop_now(loop) == HL_NS_PER_S);
    assert_int_equal(hl_loop_step(loop, -1), 1);
    assert_true(hl_loop_now(loop) == 2 * HL_NS_PER_S);
    assert_string_equal(trace, "ba");
}

static void a_moved_timer_runs_at_its_new_time_only(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a'), b = item(loop, 'b');

    hl_timer_set(loop, &a.timer, 2 * HL_NS_PER_S);
    hl_timer_set(loop, &b.timer, 3 * HL_NS_PER_S);
    hl_timer_set(loop, &a.timer, 4 * HL_NS_PER_S);
    while (hl_loop_step(loop, -1))
        ;
    assert_string_equal(trace, "ba");
    assert_true(a.ran_at_ns == 4 * HL_NS_PER_S);
}

static void a_cancelled_timer_does_not_run(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a');

    hl_timer_cancel(&a.timer);
    hl_timer_set(loop, &a.timer, 2 * HL_NS_PER_S);
    hl_timer_cancel(&a.timer);
    hl_timer_cancel(&a.timer);
    assert_int_equal(hl_loop_step(loop, -1), 0);
    assert_true(hl_loop_now(loop) == HL_NS_PER_S);
}

static void many_timers_run_sorted(void **state)
{
    static struct item many[500];
    struct hl_loop *loop = *state;
    uint64_t last = 0;
    int ran = 0, n;

    for (size_t i = 0; i < HL_LEN(many); i++) {
        many[i] = item(loop, 'x');
        many[i].timer.fn = timer_note;
        /* 7919 is prime to 500: every time from 0 to 499 comes once. */
        hl_timer_set(loop, &many[i].timer,
                     2 * HL_NS_PER_S + i * 7919 % HL_LEN(many));
    }
    while ((n = hl_loop_step(loop, -1))) {
        assert_int_equal(n, 1);
        assert_true(hl_loop_now(loop) > last);
        last = hl_loop_now(loop);
        trace[0] = '\0';
        ran++;
    }
    assert_int_equal(ran, 500);
    assert_true(last == 2 * HL_NS_PER_S + 499);
}

/* ---- Real clock --------------------------------------------------------- */

static void a_timer_runs_after_its_time_not_before(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a');
    uint64_t at = hl_loop_now(loop) + 30 * MS;

    hl_timer_set(loop, &a.timer, at);
    assert_int_equal(hl_loop_step(loop, 0), 0);
    assert_int_equal(hl_loop_step(loop, STEP_LIMIT_MS), 1);
    assert_true(a.ran_at_ns >= at);
    assert_true(a.ran_at_ns < at + 5000 * MS);
}

static void a_step_waits_as_long_as_it_may(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a');
    uint64_t before = hl_loop_now(loop);

    hl_timer_set(loop, &a.timer, before + 3600 * HL_NS_PER_S);
    assert_int_equal(hl_loop_step(loop, 0), 0);
    assert_true(hl_loop_now(loop) < before + 5000 * MS);
    before = hl_loop_now(loop);
    assert_int_equal(hl_loop_step(loop, 40), 0);
    assert_true(hl_loop_now(loop) >= before + 39 * MS);
    hl_timer_cancel(&a.timer);
}

static void the_fd_is_readable_when_there_is_something_to_do(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a'), b = item(loop, 'b');

    assert_false(is_readable(loop, 0));
    hl_loop_post(loop, &a.task);
    assert_true(is_readable(loop, 0));
    assert_int_equal(hl_loop_step(loop, 0), 1);
    assert_false(is_readable(loop, 0));

    hl_timer_set(loop, &b.timer, hl_loop_now(loop) + 20 * MS);
    assert_false(is_readable(loop, 0));
    assert_true(is_readable(loop, STEP_LIMIT_MS));
    assert_int_equal(hl_loop_step(loop, 0), 1);
    assert_false(is_readable(loop, 0));
    assert_string_equal(trace, "ab");
}

static void the_fd_stays_readable_while_work_is_left(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a');

    a.task.fn = task_post_again;
    hl_loop_post(loop, &a.task);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(hl_loop_step(loop, 0), 1);
        assert_true(is_readable(loop, 0));
    }
}

static void a_cancelled_timer_leaves_the_fd_quiet(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a'), b = item(loop, 'b');

    hl_timer_set(loop, &a.timer, hl_loop_now(loop) + 10 * MS);
    hl_timer_set(loop, &b.timer, hl_loop_now(loop) + 3600 * HL_NS_PER_S);
    hl_timer_cancel(&a.timer);
    is_readable(loop, 50);
    assert_int_equal(hl_loop_step(loop, 0), 0);
    assert_false(is_readable(loop, 30));
    hl_timer_cancel(&b.timer);
    assert_int_equal(hl_loop_step(loop, 0), 0);
    assert_false(is_readable(loop, 0));
}

static void a_timer_at_zero_is_due(void **state)
{
    struct hl_loop *loop = *state;
    struct item a = item(loop, 'a'), b = item(loop, 'b');

    hl_timer_set(loop, &b.timer, UINT64_MAX - 1);
    hl_timer_set(loop, &a.timer, 0);
    assert_true(is_readable(loop, STEP_LIMIT_MS));
    assert_int_equal(hl_loop_step(loop, -1), 1);
    assert_string_equal(trace, "a");
    assert_false(is_readable(loop, 0));
    hl_timer_cancel(&b.timer);
}

static void wake_ends_the_next_wait(void **state)
{
    struct hl_loop *loop = *state;

    hl_loop_wake(loop);
    hl_loop_wake(loop);
    assert_true(is_readable(loop, 0));
    assert_int_equal(hl_loop_step(loop, -1), 0);
    assert_false(is_readable(loop, 0));
}

static struct hl_loop *signal_loop;

static void wake_from_signal(int sig)
{
    (void)sig;
    hl_loop_wake(signal_loop);
}

static void wake_works_from_a_signal_handler(void **state)
{
    struct sigaction action = {.sa_handler = wake_from_signal}, old;
    struct itimerval after = {.it_value = {.tv_usec = 20000}};

    signal_loop = *state;
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &after, NULL);
    assert_int_equal(hl_loop_step(signal_loop, -1), 0);
    raise(SIGALRM);
    assert_int_equal(hl_loop_step(signal_loop, -1), 0);
    sigaction(SIGALRM, &old, NULL);
}

/* ---- Threads ------------------------------------------------------------ */

#define THREADS 4
#define POSTS 20000

struct post {
    struct hl_task task;
    int thread, number;
};

struct poster {
    pthread_t thread;
    struct hl_loop *loop;
    struct post *posts;
};

static int next_number[THREADS];

static void check_number(struct hl_task *task)
{
    struct post *p = HL_CONTAINER(task, struct post, task);

    assert_int_equal(p->number, next_number[p->thread]);
    next_number[p->thread]++;
}

static void *post_many(void *arg)
{
    struct poster *p = arg;

    for (int i = 0; i < POSTS; i++) {
        hl_loop_post(p->loop, &p->posts[i].task);
        if (i % 1000 == 999) /* let the loop fall asleep now and then */
            usleep(1000);
    }
    return NULL;
}

static void posts_of_threads_arrive_in_order_and_none_is_lost(void **state)
{
    struct hl_loop *loop = *state;
    struct poster posters[THREADS];
    int ran = 0;

    memset(next_number, 0, sizeof(next_number));
    for (int t = 0; t < THREADS; t++) {
        posters[t].loop = loop;
        posters[t].posts = hl_calloc(POSTS, sizeof(struct post));
        for (int i = 0; i < POSTS; i++)
            posters[t].posts[i] = (struct post){
                .task.fn = check_number, .thread = t, .number = i};
        assert_int_equal(
            pthread_create(&posters[t].thread, NULL, post_many, &posters[t]),
            0);
    }
    /* A lost wake shows as a step that ends at its limit. */
    while (ran < THREADS * POSTS) {
        uint64_t before = hl_loop_now(loop);

        ran += hl_loop_step(loop, STEP_LIMIT_MS);
        assert_true(hl_loop_now(loop) < before + STEP_LIMIT_MS * MS);
    }
    for (int t = 0; t < THREADS; t++) {
        pthread_join(posters[t].thread, NULL);
        assert_int_equal(next_number[t], POSTS);
        hl_free(posters[t].posts);
    }
}

static void foreign_poll_misses_no_post(void **state)
{
    struct hl_loop *loop = *state;
    struct poster poster = {.loop = loop};
    int ran = 0;

    memset(next_number, 0, sizeof(next_number));
    poster.posts = hl_calloc(POSTS, sizeof(struct post));
    for (int i = 0; i < POSTS; i++)
        poster.posts[i] = (struct post){.task.fn = check_number, .number = i};
    assert_int_equal(pthread_create(&poster.thread, NULL, post_many, &poster),
                     0);
    while (ran < POSTS) {
        assert_true(is_readable(loop, STEP_LIMIT_MS));
        ran += hl_loop_step(loop, 0);
    }
    pthread_join(poster.thread, NULL);
    hl_free(poster.posts);
}

#define ROUNDS 100000

struct ping {
    struct hl_task task;
    struct hl_loop *loop;
    _Atomic int ran;
};

static void count_ping(struct hl_task *task)
{
    HL_CONTAINER(task, struct ping, task)->ran++;
}

/* Posts shortly after the last task has run, each time a little later, to
 * meet the loop at every point of its way to sleep. */
static void *post_when_run(void *arg)
{
    struct ping *p = arg;

    for (int i = 0; i < ROUNDS; i++) {
        while (p->ran < i)
            sched_yield();
        for (volatile int spin = 0; spin < i % 1000; spin++)
            ;
        hl_loop_post(p->loop, &p->task);
    }
    return NULL;
}

static void a_post_while_the_loop_falls_asleep_wakes_it(void **state)
{
    struct hl_loop *loop = *state;
    struct ping ping = {.task.fn = count_ping, .loop = loop};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, post_when_run, &ping), 0);
    while (ping.ran < ROUNDS) {
        uint64_t before = hl_loop_now(loop);

        hl_loop_step(loop, STEP_LIMIT_MS);
        assert_true(hl_loop_now(loop) < before + STEP_LIMIT_MS * MS);
    }
    pthread_join(thread, NULL);
}

/* ---- Failures ----------------------------------------------------------- */

static void no_memory_and_no_descriptors_are_errors(void **state)
{
    struct rlimit old, few;
    struct hl_error e = {0};
    struct hl_loop *loop;
    int fd = dup(0);

    (void)state;
    hl_mem_fail_at(1, false);
    assert_int_equal(hl_loop_new(false, &loop, &e), HAUL_E_NOMEM);
    hl_mem_fail_at(0, false);

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    close(fd);
    /* Room for none, one and two of the three descriptors. */
    for (rlim_t room = 0; room < 3; room++) {
        int rc;

        few = old;
        few.rlim_cur = (rlim_t)fd + room;
        hl_err_clear(&e);
        setrlimit(RLIMIT_NOFILE, &few);
        rc = hl_loop_new(false, &loop, &e);
        setrlimit(RLIMIT_NOFILE, &old);
        assert_int_equal(rc, HAUL_E_NOMEM);
        assert_int_equal(e.sys_errno, EMFILE);
        assert_string_equal(e.message, "cannot create the event loop: "
                                       "Too many open files");
    }
    assert_int_equal(hl_mem_live(), 0);
    fd = dup(0);
    assert_true(fd >= 0);
    close(fd);
    hl_loop_free(NULL);
}

#define REAL(f)                                                                \
    {                                                                          \
#f, f, open_real, close_loop, NULL                                     \
    }
#define VIRTUAL(f)                                                             \
    {                                                                          \
#f " (virtual)", f, open_virtual, close_loop, NULL                     \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        REAL(tasks_run_once_in_order_and_not_inside_post),
        VIRTUAL(tasks_run_once_in_order_and_not_inside_post),
        REAL(a_step_runs_only_what_was_ready_at_entry),
        VIRTUAL(a_step_runs_only_what_was_ready_at_entry),
        REAL(a_task_may_free_itself),
        VIRTUAL(a_task_may_free_itself),
        REAL(queued_tasks_and_set_timers_are_dropped_by_free),
        VIRTUAL(queued_tasks_and_set_timers_are_dropped_by_free),
        REAL(a_timer_that_sets_itself_to_now_does_not_keep_the_step),
        VIRTUAL(a_timer_that_sets_itself_to_now_does_not_keep_the_step),
        REAL(a_due_timer_can_be_cancelled_by_another),
        VIRTUAL(a_due_timer_can_be_cancelled_by_another),
        VIRTUAL(virtual_time_starts_at_one_second_and_stands),
        VIRTUAL(virtual_time_jumps_from_timer_to_timer),
        VIRTUAL(tasks_come_before_virtual_time_moves),
        VIRTUAL(a_moved_timer_runs_at_its_new_time_only),
        VIRTUAL(a_cancelled_timer_does_not_run),
        VIRTUAL(many_timers_run_sorted),
        REAL(a_timer_runs_after_its_time_not_before),
        REAL(a_step_waits_as_long_as_it_may),
        REAL(the_fd_is_readable_when_there_is_something_to_do),
        REAL(the_fd_stays_readable_while_work_is_left),
        REAL(a_cancelled_timer_leaves_the_fd_quiet),
        REAL(a_timer_at_zero_is_due),
        REAL(wake_ends_the_next_wait),
        REAL(wake_works_from_a_signal_handler),
        REAL(posts_of_threads_arrive_in_order_and_none_is_lost),
        REAL(foreign_poll_misses_no_post),
        REAL(a_post_while_the_loop_falls_asleep_wakes_it),
        cmocka_unit_test(no_memory_and_no_descriptors_are_errors),
    };

    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
