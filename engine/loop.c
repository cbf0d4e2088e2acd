/*
 * The engine thread's loop: a queue of tasks that any thread appends to, a
 * sorted list of timers, and one epoll descriptor that is readable when there
 * is something to do.
 *
 * The queue is under a lock held for a few pointer writes. A post writes the
 * eventfd only while the loop sleeps or is away (the caller may be in its own
 * poll); while it runs it looks at the queue again before it leaves.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"

#define VIRTUAL_START_NS HL_NS_PER_S
#define NEVER_NS UINT64_MAX

struct hl_loop {
    struct {
        bool virtual_clock;
        int epoll_fd, event_fd, timer_fd; /* -1 with a virtual clock */
    } fixed;
    struct {
        struct hl_list timers; /* by at_ns, equal ones as they were set */
        uint64_t now_ns;       /* virtual clock */
        uint64_t armed_ns;     /* what timer_fd is set to, or NEVER_NS */
        bool running;
    } engine_only;
    struct {
        pthread_mutex_t lock;
        struct hl_task *head, **tail; /* under lock */
        /* The loop will look at the queue without being told. */
        atomic_bool told;
    } shared;
};

static struct hl_timer *first_timer(const struct hl_loop *loop)
{
    struct hl_node *n = hl_list_first(&loop->engine_only.timers);

    return n ? HL_CONTAINER(n, struct hl_timer, node) : NULL;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static int open_fds(struct hl_loop *loop)
{
    struct epoll_event ev = {.events = EPOLLIN};

    loop->fixed.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->fixed.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->fixed.timer_fd =
        timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->fixed.epoll_fd < 0 || loop->fixed.event_fd < 0 ||
        loop->fixed.timer_fd < 0)
        return -1;
    if (epoll_ctl(loop->fixed.epoll_fd, EPOLL_CTL_ADD, loop->fixed.event_fd,
                  &ev))
        return -1;
    return epoll_ctl(loop->fixed.epoll_fd, EPOLL_CTL_ADD, loop->fixed.timer_fd,
                     &ev);
}

int hl_loop_new(bool virtual_clock, struct hl_loop **out, struct hl_error *err)
{
    struct hl_loop *loop = hl_malloc(sizeof(*loop));

    if (!loop)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    loop->fixed.virtual_clock = virtual_clock;
    loop->fixed.epoll_fd = -1;
    loop->fixed.event_fd = -1;
    loop->fixed.timer_fd = -1;
    hl_list_init(&loop->engine_only.timers);
    loop->engine_only.now_ns = VIRTUAL_START_NS;
    loop->engine_only.armed_ns = NEVER_NS;
    loop->shared.tail = &loop->shared.head;
    pthread_mutex_init(&loop->shared.lock, NULL);
    if (!virtual_clock && open_fds(loop)) {
        hl_err(err, HAUL_E_NOMEM, errno, "cannot create the event loop");
        hl_loop_free(loop);
        return HAUL_E_NOMEM;
    }
    *out = loop;
    return 0;
}

void hl_loop_free(struct hl_loop *loop)
{
    if (!loop)
        return;
    HL_ASSERT(!loop->engine_only.running);
    /* A cancel that comes later must not touch the freed list. */
    while (hl_list_pop(&loop->engine_only.timers))
        ;
    close_fd(loop->fixed.epoll_fd);
    close_fd(loop->fixed.event_fd);
    close_fd(loop->fixed.timer_fd);
    pthread_mutex_destroy(&loop->shared.lock);
    hl_free(loop);
}

uint64_t hl_loop_now(const struct hl_loop *loop)
{
    struct timespec ts;

    if (loop->fixed.virtual_clock)
        return loop->engine_only.now_ns;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * HL_NS_PER_S + (uint64_t)ts.tv_nsec;
}

void hl_loop_wake(struct hl_loop *loop)
{
    static const uint64_t one = 1;
    int saved = errno; /* of the code that a signal handler interrupts */
    ssize_t n;

    if (loop->fixed.virtual_clock)
        return;
    /* The only failure is EAGAIN, when it is readable anyway. */
    n = write(loop->fixed.event_fd, &one, sizeof(one));
    (void)n;
    errno = saved;
}

void hl_loop_post(struct hl_loop *loop, struct hl_task *task)
{
    HL_ASSERT(task->fn);
    task->next = NULL;
    pthread_mutex_lock(&loop->shared.lock);
    *loop->shared.tail = task;
    loop->shared.tail = &task->next;
    pthread_mutex_unlock(&loop->shared.lock);
    if (!atomic_exchange(&loop->shared.told, true))
        hl_loop_wake(loop);
}

static struct hl_task *take_tasks(struct hl_loop *loop)
{
    struct hl_task *head;

    pthread_mutex_lock(&loop->shared.lock);
    head = loop->shared.head;
    loop->shared.head = NULL;
    loop->shared.tail = &loop->shared.head;
    pthread_mutex_unlock(&loop->shared.lock);
    return head;
}

static bool has_tasks(struct hl_loop *loop)
{
    bool some;

    pthread_mutex_lock(&loop->shared.lock);
    some = loop->shared.head != NULL;
    pthread_mutex_unlock(&loop->shared.lock);
    return some;
}

/* Sets timer_fd to the first timer. A cancelled timer may leave it set too
 * early; the step that it causes sets it right. */
static void arm_timer_fd(struct hl_loop *loop)
{
    const struct hl_timer *first = first_timer(loop);
    uint64_t at_ns = first ? hl_max(first->at_ns, 1) : NEVER_NS;
    struct itimerspec spec = {0};

    if (loop->fixed.virtual_clock || at_ns == loop->engine_only.armed_ns)
        return;
    if (at_ns != NEVER_NS) {
        spec.it_value.tv_sec = (time_t)(at_ns / HL_NS_PER_S);
        spec.it_value.tv_nsec = (long)(at_ns % HL_NS_PER_S);
    }
    timerfd_settime(loop->fixed.timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    loop->engine_only.armed_ns = at_ns;
}

void hl_timer_set(struct hl_loop *loop, struct hl_timer *timer, uint64_t at_ns)
{
    struct hl_node *after = &loop->engine_only.timers.head;

    HL_ASSERT(timer->fn);
    hl_timer_cancel(timer);
    timer->at_ns = at_ns;
    while (after->prev != &loop->engine_only.timers.head &&
           HL_CONTAINER(after->prev, struct hl_timer, node)->at_ns > at_ns)
        after = after->prev;
    hl_list_insert(after, &timer->node);
    if (!loop->engine_only.running)
        arm_timer_fd(loop);
}

void hl_timer_cancel(struct hl_timer *timer)
{
    if (hl_node_linked(&timer->node))
        hl_list_remove(&timer->node);
}

static int run_tasks(struct hl_loop *loop)
{
    struct hl_task *next;
    int ran = 0;

    for (struct hl_task *t = take_tasks(loop); t; t = next) {
        next = t->next; /* fn may free or post it */
        t->fn(t);
        ran++;
    }
    return ran;
}

/* The due ones are set apart first: a function may cancel or move any timer,
 * and one that it sets to now runs in the next step. */
static int run_timers(struct hl_loop *loop)
{
    uint64_t now_ns = hl_loop_now(loop);
    struct hl_timer *t;
    struct hl_node *n;
    struct hl_list due;
    int ran = 0;

    hl_list_init(&due);
    while ((t = first_timer(loop)) && t->at_ns <= now_ns) {
        hl_list_remove(&t->node);
        hl_list_append(&due, &t->node);
    }
    while ((n = hl_list_pop(&due))) {
        t = HL_CONTAINER(n, struct hl_timer, node);
        t->fn(t);
        ran++;
    }
    return ran;
}

static int run_ready(struct hl_loop *loop)
{
    int ran = run_tasks(loop);

    return ran + run_timers(loop);
}

/* From here on posts need not tell. True when somebody called wake. */
static bool begin_run(struct hl_loop *loop)
{
    uint64_t told;

    atomic_store(&loop->shared.told, true);
    return read(loop->fixed.event_fd, &told, sizeof(told)) > 0;
}

/* From here on posts tell; true when a task came before that. */
static bool end_run(struct hl_loop *loop)
{
    arm_timer_fd(loop);
    atomic_store(&loop->shared.told, false);
    return has_tasks(loop);
}

static int step_virtual(struct hl_loop *loop)
{
    const struct hl_timer *first;
    int ran = run_ready(loop);

    if (ran == 0 && (first = first_timer(loop))) {
        loop->engine_only.now_ns = first->at_ns; /* not due: in the future */
        ran = run_timers(loop);
    }
    return ran;
}

static int step_real(struct hl_loop *loop, int timeout_ms)
{
    struct epoll_event ev;
    bool woken = begin_run(loop);
    int ran = run_ready(loop);

    if (ran == 0 && !woken && timeout_ms != 0) {
        /* EINTR counts as a wake: the caller may want to look at a flag that
         * its signal handler set. */
        if (!end_run(loop))
            epoll_wait(loop->fixed.epoll_fd, &ev, 1, timeout_ms);
        begin_run(loop);
        ran = run_ready(loop);
    }
    if (end_run(loop) && !atomic_exchange(&loop->shared.told, true))
        hl_loop_wake(loop);
    return ran;
}

int hl_loop_step(struct hl_loop *loop, int timeout_ms)
{
    int ran;

    HL_ASSERT(!loop->engine_only.running);
    loop->engine_only.running = true;
    ran = loop->fixed.virtual_clock ? step_virtual(loop)
                                    : step_real(loop, timeout_ms);
    loop->engine_only.running = false;
    return ran;
}

int hl_loop_fd(const struct hl_loop *loop)
{
    return loop->fixed.epoll_fd;
}
