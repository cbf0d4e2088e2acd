/* The public functions about transfers that an earlier run left. */
#include <string.h>

#include "lib.h"

struct visit {
    struct haul_engine *e;
    struct hl_store *store;
    int64_t id; /* 0: all */
    bool found;
    haul_job_fn *fn;
    void *user;
};

/* What drivers with a temporary name save: "tmp:PATH", or the hidden name
 * beside a local target. */
static const char *temporary_of(const char *token)
{
    if (token && !strncmp(token, "tmp:", 4))
        return token + 4;
    return token && token[0] == '.' ? token : NULL;
}

static int visit_saved(void *user, const struct hl_saved *s, uint64_t size,
                       uint64_t acked, const char *token)
{
    struct visit *v = user;
    struct haul_job job = {.size = sizeof(job)};
    bool done = s->state == HL_SAVED_DONE;

    if (v->id && s->id != v->id)
        return 0;
    v->found = true;
    job.id = s->id;
    job.source = s->source;
    job.target = s->target;
    job.state = done ? "done" : "unfinished";
    if (!done && hl_store_locked(v->store, s->id))
        job.state = "running";
    job.error = s->error;
    job.bytes = size;
    job.acked_bytes = done ? size : acked;
    job.created_s = s->created_s;
    job.updated_s = s->updated_s;
    job.temporary = done ? NULL : temporary_of(token);
    v->e->in_callback = true;
    v->id = v->fn(v->user, &job) ? -1 : v->id;
    v->e->in_callback = false;
    return v->id == -1;
}

static int list_saved(struct haul_engine *e, int64_t id,
                      hl_store_transfer_fn *fn, struct visit *v)
{
    int rc;

    hl_err_clear(&e->error);
    rc = hl_lib_engine(e, &e->error);
    if (rc == 0)
        rc = hl_engine_store(e->e, &v->store, &e->error);
    if (rc == 0)
        rc = hl_store_list(v->store, fn, v, &e->error);
    if (rc < 0)
        return rc;
    if (id && !v->found) {
        hl_err(&e->error, HAUL_E_INVAL, 0, "there is no job %lld",
               (long long)id);
        return hl_err_hint(&e->error, "See haul jobs list.");
    }
    return 0;
}

int haul_jobs_list(struct haul_engine *e, int64_t id, haul_job_fn *fn,
                   void *user)
{
    struct visit v = {.e = e, .id = id, .fn = fn, .user = user};

    if (e->in_callback)
        return HAUL_E_REENTER;
    return list_saved(e, id, visit_saved, &v);
}

struct pick {
    struct visit visit;
    char *target_url;
    bool done, callback;
};

static int pick_saved(void *user, const struct hl_saved *s, uint64_t size,
                      uint64_t acked, const char *token)
{
    struct visit *v = user;
    struct pick *p = HL_CONTAINER(v, struct pick, visit);

    (void)size;
    (void)acked;
    (void)token;
    if (s->id != v->id)
        return 0;
    v->found = true;
    p->done = s->state == HL_SAVED_DONE;
    /* What the caller's function wrote is the caller's: only the state goes. */
    p->callback = !strncmp(s->target_url, "callback:", 9);
    p->target_url = hl_strdup(s->target_url);
    return 1;
}

int haul_job_remove_new(struct haul_engine *e, int64_t id, int forget,
                        struct haul_transfer **out)
{
    struct pick p = {.visit = {.e = e, .id = id}};
    int rc;

    if (e->in_callback)
        return HAUL_E_REENTER;
    rc = list_saved(e, id, pick_saved, &p.visit);
    if (rc == 0 && !p.done && hl_store_locked(p.visit.store, id)) {
        hl_err(&e->error, HAUL_E_BUSY, 0, "a process works on job %lld",
               (long long)id);
        rc = hl_err_hint(&e->error, "Stop it first (Ctrl-C or SIGTERM).");
    }
    if (rc == 0 && !p.target_url)
        rc = hl_err(&e->error, HAUL_E_NOMEM, 0, "out of memory");
    if (rc == 0)
        rc = hl_lib_transfer_new(e, HL_TRANSFER_REMOVE, NULL,
                                 p.callback ? NULL : p.target_url, out);
    hl_free(p.target_url);
    if (rc)
        return rc;
    (*out)->remove_id = id;
    (*out)->forget = forget != 0;
    return 0;
}
