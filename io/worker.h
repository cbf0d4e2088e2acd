/*
 * One thread that runs tasks in order, for drivers whose work blocks or takes
 * long. In virtual time (and when no thread can be had) the tasks run on the
 * loop instead.
 */
#ifndef HL_WORKER_H
#define HL_WORKER_H

#include "io.h"

struct hl_worker;

/* name: of the thread, at most 15 characters, static. */
int hl_worker_new(const struct hl_env *env, const char *name,
                  struct hl_worker **out, struct hl_error *err);
/* Nothing is queued any more. Joins the thread. Accepts NULL. */
void hl_worker_free(struct hl_worker *w);

/* Engine thread. Starts the thread with the first task; cannot fail. */
void hl_worker_post(struct hl_worker *w, struct hl_task *task);

#endif /* HL_WORKER_H */
