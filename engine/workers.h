/*
 * Threads that run stages. With count 0 (virtual time) work runs on the
 * engine thread, from the loop.
 */
#ifndef HL_WORKERS_H
#define HL_WORKERS_H

#include "loop.h"

struct hl_workers;

/* Belongs to the workers from submit until done is called. */
struct hl_work {
    struct hl_node node;
    struct hl_task task;
    struct hl_workers *workers;
    void (*run)(struct hl_work *w);  /* worker thread */
    void (*done)(struct hl_work *w); /* engine thread; may free it */
};

int hl_workers_new(struct hl_loop *loop, uint32_t count,
                   struct hl_workers **out, struct hl_error *err);
/* Nothing may be outstanding. Joins. Accepts NULL. */
void hl_workers_free(struct hl_workers *w);
/* Engine thread. done never runs from inside this call. */
void hl_workers_submit(struct hl_workers *w, struct hl_work *work);
/* Thread time spent in run(), summed. Any thread. */
uint64_t hl_workers_busy_ns(const struct hl_workers *w);

#endif /* HL_WORKERS_H */
