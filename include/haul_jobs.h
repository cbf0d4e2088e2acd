/*
 * haul_jobs.h - transfers that an earlier run left unfinished.
 *
 * The rules of haul.h hold here too.
 */
#ifndef HAUL_JOBS_H
#define HAUL_JOBS_H

#include "haul.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One remembered transfer. Strings are valid during the call only. */
struct haul_job {
    uint32_t size;
    int64_t id;         /* what haul jobs prints */
    const char *source; /* secrets masked */
    const char *target;
    const char *state; /* "unfinished" "running" "done" */
    const char *error; /* message that ended the last run, or NULL */
    uint64_t bytes;    /* UINT64_MAX: unknown */
    uint64_t acked_bytes;
    int64_t created_s; /* Unix time */
    int64_t updated_s;
    const char *temporary; /* name on the target while unfinished, or NULL */
};

/* Nonzero ends the list. Runs on the caller's thread. */
typedef int haul_job_fn(void *user, const struct haul_job *job);

/* id 0: all, oldest first; otherwise that one, HAUL_E_INVAL when there is
 * none. */
HAUL_API int haul_jobs_list(struct haul_engine *e, int64_t id, haul_job_fn *fn,
                            void *user);

/* Makes a transfer that, started and run, removes what the unfinished
 * transfer left at its target and then its state. With forget set the state
 * goes even when the target cannot be reached (the result is then HAUL_OK
 * with a warning event). HAUL_E_BUSY while a process works on it. Set
 * options for the endpoint (identity, …) before the start. */
HAUL_API HAUL_MUST_CHECK int haul_job_remove_new(struct haul_engine *e,
                                                 int64_t id, int forget,
                                                 struct haul_transfer **out);

#ifdef __cplusplus
}
#endif
#endif /* HAUL_JOBS_H */
