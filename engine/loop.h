/*
 * The engine thread's loop: tasks handed over from any thread, timers, one
 * clock. Everything in engine/ except workers.c runs on the thread that calls
 * hl_loop_step().
 *
 * With a virtual clock there is no waiting: when no task is ready the clock
 * jumps to the next timer. Then everything must run on one thread.
 */
#ifndef HL_LOOP_H
#define HL_LOOP_H

#include "base.h"
#include "list.h"

struct hl_loop;

/* One piece of work to run on the engine thread. Embedded in what it is
 * about; belongs to the loop from hl_loop_post() until fn is called. fn may
 * free it. */
struct hl_task {
    struct hl_task *next;
    void (*fn)(struct hl_task *task);
};

struct hl_timer {
    struct hl_node node;
    uint64_t at_ns;
    void (*fn)(struct hl_timer *timer);
};

/* virtual_clock: see above; time then starts at 1 s. */
int hl_loop_new(bool virtual_clock, struct hl_loop **out, struct hl_error *err);
/* Tasks still queued are dropped without a call. Every thread that posts has
 * ended. */
void hl_loop_free(struct hl_loop *loop);

/* Monotonic nanoseconds. Any thread (virtual: the one thread). */
uint64_t hl_loop_now(const struct hl_loop *loop);

/* Runs task->fn once on the engine thread, never from inside this call. Any
 * thread; from one thread in order. */
void hl_loop_post(struct hl_loop *loop, struct hl_task *task);

/* Wakes hl_loop_step(). Any thread, and safe in a signal handler. */
void hl_loop_wake(struct hl_loop *loop);

/* Engine thread only. A timer that is set is moved; cancel of one that is not
 * set does nothing. fn runs once, after at_ns. */
void hl_timer_set(struct hl_loop *loop, struct hl_timer *timer, uint64_t at_ns);
void hl_timer_cancel(struct hl_timer *timer);

/*
 * Runs the tasks that were ready at entry and the timers that are due; waits
 * for the first up to timeout_ms (-1: without end, 0: not at all).
 * Returns how many ran. Virtual: 0 means that nothing can ever happen again.
 */
int hl_loop_step(struct hl_loop *loop, int timeout_ms);

/* Readable when hl_loop_step() has something to do (timers included). */
int hl_loop_fd(const struct hl_loop *loop);

#endif /* HL_LOOP_H */
