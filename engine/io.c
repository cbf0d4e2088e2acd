/*
 * What every driver uses to answer, and the calls into drivers whose slots may
 * be missing. Any thread where io.h says so; answers always travel through the
 * loop, so that nobody is called back from inside a call of his own.
 */
#include "io.h"

#include <string.h>

enum report { REPORT_ACKED, REPORT_LOST, REPORT_TOKEN, REPORT_NOTE };

/* ---- Operations --------------------------------------------------------- */

static void op_done(struct hl_task *task)
{
    struct hl_op *op = HL_CONTAINER(task, struct hl_op, task);

    op->done(op);
}

void hl_op_finish(struct hl_loop *loop, struct hl_op *op, int rc)
{
    HL_ASSERT(op->done);
    op->rc = rc;
    if (!rc)
        hl_err_clear(&op->error);
    else
        hl_err(&op->error, rc, 0, "%s", haul_err_text(rc));
    op->task.fn = op_done;
    hl_loop_post(loop, &op->task);
}

/* ---- Reports ------------------------------------------------------------ */

/* Tokens and notes may be credentials. */
static void free_data(struct hl_report *r)
{
    if (r->what == REPORT_TOKEN || r->what == REPORT_NOTE)
        hl_free_secret(r->data);
    else
        hl_free(r->data);
    r->data = NULL;
}

static void report_free(struct hl_report *r)
{
    struct hl_object *obj = r->obj;

    free_data(r);
    if (r == &obj->last ||
        (r >= obj->spares && r < obj->spares + HL_OBJECT_SPARES))
        atomic_store(&r->used, false);
    else
        hl_free(r);
}

static void deliver_lost(const struct hl_report *r)
{
    const struct hl_object *obj = r->obj;
    struct hl_error error = {0};

    if (r->data)
        error = *(const struct hl_error *)r->data;
    hl_err(&error, r->code, 0, "%s", haul_err_text(r->code));
    obj->events->lost(obj->events_user, r->offset, r->len, &error);
}

static void deliver_token(const struct hl_report *r)
{
    const struct hl_object *obj = r->obj;

    if (r->data)
        obj->events->token(obj->events_user, r->data);
    else
        obj->driver->token_saved(r->obj, HAUL_E_NOMEM);
}

static void deliver_note(const struct hl_report *r)
{
    const struct hl_object *obj = r->obj;

    if (r->data)
        obj->events->note(obj->events_user, r->offset, r->data);
    else if (obj->driver->note_saved)
        obj->driver->note_saved(r->obj, r->offset, HAUL_E_NOMEM);
}

/* r is free before the call: what is called may close the object or report
 * again. */
static void deliver(struct hl_task *task)
{
    struct hl_report *r = HL_CONTAINER(task, struct hl_report, task);
    const struct hl_object *obj = r->obj;
    struct hl_report copy = {.obj = r->obj,
                             .data = r->data,
                             .offset = r->offset,
                             .len = r->len,
                             .what = r->what,
                             .code = r->code};

    r->data = NULL;
    report_free(r);
    switch ((enum report)copy.what) {
    case REPORT_ACKED:
        obj->events->acked(obj->events_user, copy.offset, copy.len);
        break;
    case REPORT_LOST:
        deliver_lost(&copy);
        break;
    case REPORT_TOKEN:
        deliver_token(&copy);
        break;
    case REPORT_NOTE:
        deliver_note(&copy);
        break;
    }
    free_data(&copy);
}

static struct hl_report *report_new(struct hl_object *obj)
{
    struct hl_report *r = hl_malloc(sizeof(*r));
    size_t i;

    if (r)
        return r;
    for (i = 0; i < HL_OBJECT_SPARES; i++)
        if (!atomic_exchange(&obj->spares[i].used, true))
            return &obj->spares[i];
    return NULL;
}

/* The last resort holds one report and says that all is lost. */
static void report_overflow(struct hl_object *obj)
{
    struct hl_report *r = &obj->last;

    if (atomic_exchange(&r->used, true))
        return; /* on its way: it speaks for this one too */
    r->obj = obj;
    r->what = REPORT_LOST;
    r->offset = 0;
    r->len = UINT64_MAX;
    r->code = HAUL_E_NOMEM;
    r->task.fn = deliver;
    hl_loop_post(obj->endpoint->env->loop, &r->task);
}

static void report(struct hl_object *obj, const struct hl_report *what)
{
    struct hl_report *r = report_new(obj);

    if (!r) {
        struct hl_report dropped = *what;

        report_overflow(obj);
        free_data(&dropped);
        return;
    }
    r->obj = obj;
    r->data = what->data;
    r->offset = what->offset;
    r->len = what->len;
    r->what = what->what;
    r->code = what->code;
    r->task.fn = deliver;
    hl_loop_post(obj->endpoint->env->loop, &r->task);
}

void hl_object_acked(struct hl_object *obj, uint64_t offset, uint64_t len)
{
    struct hl_report r = {.what = REPORT_ACKED, .offset = offset, .len = len};

    report(obj, &r);
}

/* Without memory for the text the code remains. */
void hl_object_lost(struct hl_object *obj, uint64_t offset, uint64_t len,
                    const struct hl_error *error)
{
    struct hl_report r = {
        .what = REPORT_LOST, .offset = offset, .len = len, .code = error->code};
    struct hl_error *copy = hl_malloc(sizeof(*copy));

    HL_ASSERT(error->code);
    if (copy)
        *copy = *error;
    r.data = copy;
    report(obj, &r);
}

void hl_object_token(struct hl_object *obj, const char *token)
{
    struct hl_report r = {.what = REPORT_TOKEN, .data = hl_strdup(token)};

    report(obj, &r);
}

void hl_object_note(struct hl_object *obj, uint64_t part, const char *note)
{
    struct hl_report r = {
        .what = REPORT_NOTE, .offset = part, .data = hl_strdup(note)};

    report(obj, &r);
}

/* ---- Slots that may be missing ------------------------------------------ */

static void not_supported(struct hl_object *obj, struct hl_op *op,
                          const char *what)
{
    int rc = hl_err(&op->error, HAUL_E_NOTSUP, 0, "'%s' cannot %s",
                    obj->driver->name, what);

    hl_op_finish(obj->endpoint->env->loop, op, rc);
}

/* hl_err() keeps the first cause; a repeated operation must forget its. */
static void forget(struct hl_op *op)
{
    op->rc = 0;
    hl_err_clear(&op->error);
}

void hl_driver_stat(struct hl_object *obj, struct hl_stat *op)
{
    forget(&op->op);
    if (obj->driver->stat) {
        obj->driver->stat(obj, op);
        return;
    }
    op->exists = false;
    hl_op_finish(obj->endpoint->env->loop, &op->op, 0);
}

void hl_driver_open(struct hl_object *obj, struct hl_open *op)
{
    forget(&op->op);
    if (obj->driver->open)
        obj->driver->open(obj, op);
    else
        not_supported(obj, &op->op, "open");
}

void hl_driver_read(struct hl_object *obj, struct hl_io *op)
{
    forget(&op->op);
    HL_ASSERT(op->len > 0);
    if (obj->driver->read)
        obj->driver->read(obj, op);
    else
        not_supported(obj, &op->op, "read");
}

void hl_driver_write(struct hl_object *obj, struct hl_io *op)
{
    forget(&op->op);
    HL_ASSERT(op->len > 0);
    HL_ASSERT(obj->role == HL_ROLE_TARGET);
    if (obj->driver->write)
        obj->driver->write(obj, op);
    else
        not_supported(obj, &op->op, "write");
}

void hl_driver_sync(struct hl_object *obj, struct hl_op *op)
{
    forget(op);
    if (obj->driver->sync)
        obj->driver->sync(obj, op);
    else
        not_supported(obj, op, "sync");
}

void hl_driver_commit(struct hl_object *obj, struct hl_commit *op)
{
    forget(&op->op);
    if (obj->driver->commit)
        obj->driver->commit(obj, op);
    else
        not_supported(obj, &op->op, "commit");
}

void hl_driver_suspend(struct hl_object *obj, struct hl_suspend *op)
{
    forget(&op->op);
    if (obj->driver->suspend)
        obj->driver->suspend(obj, op);
    else
        hl_op_finish(obj->endpoint->env->loop, &op->op, 0);
}

void hl_driver_discard(struct hl_object *obj, const char *token,
                       struct hl_op *op)
{
    forget(op);
    if (obj->driver->discard)
        obj->driver->discard(obj, token, op);
    else
        not_supported(obj, op, "discard");
}

void hl_driver_remote_digest(struct hl_object *obj, struct hl_remote_digest *op)
{
    forget(&op->op);
    if (obj->driver->remote_digest)
        obj->driver->remote_digest(obj, op);
    else
        not_supported(obj, &op->op, "compute a digest");
}

void hl_driver_abort(struct hl_object *obj, struct hl_op *op)
{
    HL_ASSERT(obj->driver->abort);
    forget(op);
    obj->driver->abort(obj, op);
}
