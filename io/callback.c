/* Driver "callback", see callback.h. Everything but abort and close happens
 * on the worker, so that answers keep the order of the questions. */
#include "callback.h"

#include <inttypes.h>
#include <string.h>

#include "drivers.h"
#include "worker.h"

struct callback_endpoint {
    struct hl_endpoint base;
    struct hl_worker *worker;
    char *name;
    bool named;
    enum hl_role role;
    uint64_t size;
    haul_read_fn *read;
    haul_write_fn *write;
    void *user;
};

struct callback_object {
    struct hl_object base;
    atomic_bool aborted; /* set on the engine thread */
    uint64_t next;       /* worker: where an ordered source is */
    bool ended;          /* worker: … and nothing comes any more */
};

static struct callback_endpoint *endpoint_of(const struct callback_object *obj)
{
    return (struct callback_endpoint *)obj->base.endpoint;
}

static void submit(struct hl_object *base, struct hl_op *op,
                   void (*fn)(struct hl_task *task))
{
    op->driver_data = base;
    op->task.fn = fn;
    hl_worker_post(endpoint_of((struct callback_object *)base)->worker,
                   &op->task);
}

static void finish(struct callback_object *obj, struct hl_op *op, int rc)
{
    hl_op_finish(obj->base.endpoint->env->loop, op, rc);
}

static bool begin(struct hl_op *op, struct callback_object **obj)
{
    *obj = op->driver_data;
    if (!atomic_load(&(*obj)->aborted))
        return true;
    finish(*obj, op, HAUL_E_CANCELED);
    return false;
}

/* What the caller's function returned, or an error when it is none of what
 * haul.h allows. */
static int64_t checked(const struct callback_object *obj, int64_t n, size_t len,
                       int dflt, struct hl_error *err)
{
    const char *name = endpoint_of(obj)->name;

    if (n >= 0 && (uint64_t)n <= len)
        return n;
    if (n > 0)
        return hl_err(err, HAUL_E_INVAL, 0,
                      "the function of '%s' moved more than it was asked to",
                      name);
    if (n < -999 || n > -100)
        n = dflt;
    return hl_err(err, (int)n, 0, "the function of '%s' failed: %s", name,
                  haul_err_text((int)n));
}

/* ---- Source ------------------------------------------------------------- */

static int64_t fill(struct callback_object *obj, struct hl_io *op)
{
    struct callback_endpoint *ep = endpoint_of(obj);
    uint32_t want = op->len;
    int64_t n;

    if (ep->size != HL_SIZE_UNKNOWN)
        want = op->offset >= ep->size
                   ? 0
                   : (uint32_t)hl_min(want, ep->size - op->offset);
    while (op->done < want) {
        if (atomic_load(&obj->aborted))
            return HAUL_E_CANCELED;
        n = ep->read(ep->user, op->data + op->done, want - op->done,
                     op->offset + op->done);
        n = checked(obj, n, want - op->done, HAUL_E_READ, &op->op.error);
        if (n <= 0)
            return n;
        op->done += (uint32_t)n;
    }
    return 0;
}

static void do_read(struct hl_task *task)
{
    struct hl_io *op = HL_CONTAINER(task, struct hl_io, op.task);
    struct callback_object *obj;
    int rc;

    if (!begin(&op->op, &obj))
        return;
    op->done = 0;
    op->eof = false;
    if (obj->ended && op->offset > obj->next) {
        op->eof = true; /* asked ahead, before the end was known */
        finish(obj, &op->op, 0);
        return;
    }
    if (endpoint_of(obj)->size == HL_SIZE_UNKNOWN && op->offset != obj->next) {
        finish(obj, &op->op,
               hl_err(&op->op.error, HAUL_E_NOTSUP, 0,
                      "'%s' cannot be read at %" PRIu64, endpoint_of(obj)->name,
                      op->offset));
        return;
    }
    rc = (int)fill(obj, op);
    op->eof = !rc && op->done < op->len;
    obj->ended = op->eof && endpoint_of(obj)->size == HL_SIZE_UNKNOWN;
    obj->next = op->offset + op->done;
    finish(obj, &op->op, rc);
}

static void callback_read(struct hl_object *base, struct hl_io *op)
{
    if (base->role == HL_ROLE_SOURCE)
        submit(base, &op->op, do_read);
    else
        finish((struct callback_object *)base, &op->op, HAUL_E_NOTSUP);
}

/* ---- Target ------------------------------------------------------------- */

static int drain(struct callback_object *obj, struct hl_io *op)
{
    struct callback_endpoint *ep = endpoint_of(obj);
    uint32_t at = 0;
    int64_t n;

    while (at < op->len) {
        if (atomic_load(&obj->aborted))
            return HAUL_E_CANCELED;
        n = ep->write(ep->user, op->data + at, op->len - at, op->offset + at);
        n = checked(obj, n, op->len - at, HAUL_E_WRITE, &op->op.error);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return hl_err(&op->op.error, HAUL_E_WRITE, 0,
                          "the function of '%s' takes nothing", ep->name);
        at += (uint32_t)n;
    }
    return 0;
}

static void do_write(struct hl_task *task)
{
    struct hl_io *op = HL_CONTAINER(task, struct hl_io, op.task);
    struct callback_object *obj;
    uint64_t offset = op->offset;
    uint32_t len = op->len;
    int rc;

    if (!begin(&op->op, &obj))
        return;
    rc = drain(obj, op);
    finish(obj, &op->op, rc);
    if (!rc)
        hl_object_acked(&obj->base, offset, len);
}

static void callback_write(struct hl_object *base, struct hl_io *op)
{
    submit(base, &op->op, do_write);
}

static void do_commit(struct hl_task *task)
{
    struct hl_commit *op = HL_CONTAINER(task, struct hl_commit, op.task);
    struct callback_object *obj;

    if (!begin(&op->op, &obj))
        return;
    op->durable = false;
    op->size_checked = false;
    finish(obj, &op->op, 0);
}

static void callback_commit(struct hl_object *base, struct hl_commit *op)
{
    submit(base, &op->op, do_commit);
}

/* What the caller wrote is the caller's. */
static void callback_discard(struct hl_object *base, const char *token,
                             struct hl_op *op)
{
    (void)token;
    finish((struct callback_object *)base, op, 0);
}

static void callback_token_saved(struct hl_object *base, int rc)
{
    (void)base;
    (void)rc; /* the engine fails by itself */
}

/* ---- Both --------------------------------------------------------------- */

static void do_stat(struct hl_task *task)
{
    struct hl_stat *op = HL_CONTAINER(task, struct hl_stat, op.task);
    struct callback_object *obj;

    if (!begin(&op->op, &obj))
        return;
    op->exists = obj->base.role == HL_ROLE_SOURCE;
    op->is_folder = false;
    op->size = endpoint_of(obj)->size;
    op->mtime_ns = 0;
    op->mode = 0;
    finish(obj, &op->op, 0);
}

static void callback_stat(struct hl_object *base, struct hl_stat *op)
{
    submit(base, &op->op, do_stat);
}

static void open_target(const struct callback_endpoint *ep, struct hl_open *op)
{
    op->layout.caps = HL_CAP_SEEK | HL_CAP_IN_PLACE;
    if (ep->named)
        op->layout.caps |= HL_CAP_RESUME;
    if (op->in_order)
        op->layout.caps |= HL_CAP_ORDERED;
    op->layout.fresh = op->resume && !ep->named;
    if (op->resume && ep->named && op->size != HL_SIZE_UNKNOWN)
        op->layout.existing = op->size;
}

static void do_open(struct hl_task *task)
{
    struct hl_open *op = HL_CONTAINER(task, struct hl_open, op.task);
    struct callback_object *obj;
    struct callback_endpoint *ep;

    if (!begin(&op->op, &obj))
        return;
    ep = endpoint_of(obj);
    memset(&op->layout, 0, sizeof(op->layout));
    memset(&op->identity, 0, sizeof(op->identity));
    op->layout.streams_max = 1;
    op->identity.size = ep->size;
    /* Nothing to remember but that it was begun. */
    if (ep->role == HL_ROLE_TARGET && ep->named && !op->resume)
        hl_object_token(&obj->base, "callback");
    if (ep->role == HL_ROLE_TARGET)
        open_target(ep, op);
    else
        op->layout.caps =
            ep->size == HL_SIZE_UNKNOWN ? HL_CAP_ORDERED : HL_CAP_SEEK;
    finish(obj, &op->op, 0);
}

static void callback_open(struct hl_object *base, struct hl_open *op)
{
    submit(base, &op->op, do_open);
}

static void do_abort(struct hl_task *task)
{
    struct hl_op *op = HL_CONTAINER(task, struct hl_op, task);

    finish(op->driver_data, op, 0);
}

static void callback_abort(struct hl_object *base, struct hl_op *op)
{
    atomic_store(&((struct callback_object *)base)->aborted, true);
    submit(base, op, do_abort);
}

static int callback_object_new(struct hl_endpoint *base,
                               const struct hl_url *url, enum hl_role role,
                               struct hl_object **out, struct hl_error *err)
{
    struct callback_endpoint *ep = (struct callback_endpoint *)base;
    struct callback_object *obj;

    (void)url;
    if (role != ep->role)
        return hl_err(err, HAUL_E_INVAL, 0, "'%s' is no %s", ep->name,
                      role == HL_ROLE_SOURCE ? "source" : "target");
    obj = hl_malloc(sizeof(*obj));
    if (!obj)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    obj->base.driver = &hl_driver_callback;
    obj->base.endpoint = base;
    obj->base.role = role;
    *out = &obj->base;
    return 0;
}

static void callback_close(struct hl_object *base)
{
    hl_free(base);
}

static int callback_endpoint_new(const struct hl_env *env,
                                 const struct hl_url *url,
                                 struct hl_endpoint **out, struct hl_error *err)
{
    (void)env;
    (void)url;
    (void)out;
    return hl_err(err, HAUL_E_NOTSUP, 0, "a callback has no name to open");
}

static void callback_endpoint_free(struct hl_endpoint *base)
{
    struct callback_endpoint *ep = (struct callback_endpoint *)base;

    hl_worker_free(ep->worker);
    hl_free(ep->name);
    hl_free(ep);
}

static int endpoint_new(const struct hl_env *env, const char *name,
                        struct callback_endpoint **out, struct hl_error *err)
{
    struct callback_endpoint *ep = hl_malloc(sizeof(*ep));
    int rc;

    if (!ep)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    ep->base.driver = &hl_driver_callback;
    ep->base.env = env;
    ep->named = name != NULL;
    ep->name = hl_strdup(name ? name : "caller");
    if (!ep->name)
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else
        rc = hl_worker_new(env, "haul-callback", &ep->worker, err);
    if (rc)
        callback_endpoint_free(&ep->base);
    else
        *out = ep;
    return rc;
}

int hl_callback_source_new(const struct hl_env *env, const char *name,
                           uint64_t size, haul_read_fn *fn, void *user,
                           struct hl_endpoint **out, struct hl_error *err)
{
    struct callback_endpoint *ep;
    int rc = endpoint_new(env, name, &ep, err);

    if (rc)
        return rc;
    ep->role = HL_ROLE_SOURCE;
    ep->size = size;
    ep->read = fn;
    ep->user = user;
    *out = &ep->base;
    return 0;
}

int hl_callback_target_new(const struct hl_env *env, const char *name,
                           haul_write_fn *fn, void *user,
                           struct hl_endpoint **out, struct hl_error *err)
{
    struct callback_endpoint *ep;
    int rc = endpoint_new(env, name, &ep, err);

    if (rc)
        return rc;
    ep->role = HL_ROLE_TARGET;
    ep->size = HL_SIZE_UNKNOWN;
    ep->write = fn;
    ep->user = user;
    *out = &ep->base;
    return 0;
}

static const char *const callback_schemes[] = {NULL};

const struct hl_driver hl_driver_callback = {
    .name = "callback",
    .schemes = callback_schemes,
    .endpoint_new = callback_endpoint_new,
    .endpoint_free = callback_endpoint_free,
    .object_new = callback_object_new,
    .close = callback_close,
    .stat = callback_stat,
    .open = callback_open,
    .read = callback_read,
    .write = callback_write,
    .commit = callback_commit,
    .discard = callback_discard,
    .token_saved = callback_token_saved,
    .abort = callback_abort,
};
