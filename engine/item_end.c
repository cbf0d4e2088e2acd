/*
 * Starting an item, and ending it after a failure: everything comes home,
 * what is acknowledged is noted and made durable, an in-place target is cut
 * to its contiguous mark, a temporary one that nobody can continue goes.
 * Engine thread.
 */
#include <string.h>

#include "item.h"

/* The last operations of a failed transfer get this long. */
#define LAST_WORDS_NS (10 * HL_NS_PER_S)

enum end_stage {
    END_HOME, /* operations and mover come back */
    END_SYNC,
    END_SUSPEND, /* or discard */
    END_DONE
};

static void on_aborted(struct hl_op *op)
{
    struct hl_item *it = op->user;

    it->aborting--;
    hl_item_ending(it);
}

static void abort_object(struct hl_item *it, struct hl_object *obj)
{
    struct hl_op *op = &it->aborts[obj->role];

    memset(op, 0, sizeof(*op));
    op->done = on_aborted;
    op->user = it;
    it->aborting++;
    hl_driver_abort(obj, op);
}

/* The end takes too long: the far side does not answer. */
static void on_too_long(struct hl_timer *timer)
{
    struct hl_item *it = HL_CONTAINER(timer, struct hl_item, timer);

    if (it->target && !it->aborting)
        abort_object(it, it->target);
}

static void give_time(struct hl_item *it)
{
    it->timer.fn = on_too_long;
    hl_timer_set(it->t->e->loop, &it->timer,
                 hl_loop_now(it->t->e->loop) + LAST_WORDS_NS);
}

static void on_last_words(struct hl_op *op)
{
    struct hl_item *it = op->user;
    struct hl_error err = {0};

    it->op_out = false;
    if (op->rc)
        HL_INFO(it->t->e->log, HL_AREA_ENGINE, "at the end: %s",
                op->error.message);
    else if (it->discarding && hl_transfer_forget_saved(it->t, &err))
        hl_transfer_warn(it->t, &err);
    hl_item_ending(it);
}

bool hl_item_can_continue(const struct hl_item *it)
{
    return it->acked.bytes > 0 && (it->source_caps & HL_CAP_SEEK) &&
           !it->identity.weak && (it->layout.caps & HL_CAP_RESUME) &&
           it->t->store;
}

static void suspend(struct hl_item *it)
{
    it->discarding = !hl_item_can_continue(it);
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.suspend.op, on_last_words, NULL);
    it->u.suspend.contiguous = hl_ranges_contiguous(&it->acked);
    hl_driver_suspend(it->target, &it->u.suspend);
    give_time(it);
}

/* Nobody could continue: nothing stays behind. */
static void discard(struct hl_item *it)
{
    it->discarding = true;
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.op, on_last_words, NULL);
    hl_driver_discard(it->target, it->token, &it->u.op);
    give_time(it);
}

/* --resume append was not accepted: what stands there is the user's. */
static void leave_alone(struct hl_item *it)
{
    struct hl_error err = {0};

    hl_free_secret(it->token);
    it->token = NULL;
    if (hl_transfer_forget_saved(it->t, &err))
        hl_transfer_warn(it->t, &err);
}

static void last_words(struct hl_item *it)
{
    if (!it->target || it->t->c.kind != HL_TRANSFER_COPY ||
        (!it->target_open && !it->token))
        return;
    /* Of an earlier run, and not found or refused before anything was done to
     * it: with other credentials, or tomorrow, it may go on. */
    if (!it->target_open && (it->resume || (it->t->found && !it->begun)))
        return;
    if (it->append && !it->target_open)
        leave_alone(it);
    else if (it->target_open &&
             (hl_item_can_continue(it) || (it->layout.caps & HL_CAP_IN_PLACE)))
        suspend(it);
    else if (!hl_item_can_continue(it) && it->token && it->t->c.item_count == 1)
        discard(it);
}

void hl_item_ending(struct hl_item *it)
{
    if (it->mover || it->op_out || it->syncing || it->aborting)
        return;
    switch ((enum end_stage)it->end_stage) {
    case END_HOME:
        it->end_stage = END_SYNC;
        hl_saved_flush(it, true);
        /* After an outage the far side would not answer. */
        if (it->code == HAUL_E_CANCELED && it->target_open &&
            hl_item_can_continue(it) && (it->layout.caps & HL_CAP_DURABLE) &&
            it->unsynced_bytes > 0) {
            hl_item_sync(it);
            give_time(it);
            return;
        }
        /* fall through */
    case END_SYNC:
        it->end_stage = END_SUSPEND;
        if (!it->committed)
            last_words(it);
        if (it->op_out)
            return;
        /* fall through */
    case END_SUSPEND:
        it->end_stage = END_DONE;
        /* fall through */
    case END_DONE:
        break;
    }
    hl_timer_cancel(&it->timer);
    it->step = it->committed ? HL_ITEM_DONE : HL_ITEM_FAILED;
    if (it->committed)
        it->code = 0;
    hl_transfer_item_finished(it);
}

void hl_item_stop(struct hl_item *it, int code, const struct hl_error *err)
{
    bool idle = it->step == HL_ITEM_NEW;
    bool out = it->op_out && !it->aborting;
    bool syncing = it->syncing && !it->mover && !it->aborting;

    if (it->step >= HL_ITEM_ENDING)
        return;
    /* What fails because the user ends it (a prompt) may be heard of first. */
    if (atomic_load(&it->t->cancel)) {
        code = HAUL_E_CANCELED;
        err = NULL;
    }
    it->code = code;
    if (err && err->code)
        it->error = *err;
    else
        hl_err(&it->error, code, 0, "%s", haul_err_text(code));
    it->step = HL_ITEM_ENDING;
    hl_timer_cancel(&it->timer);
    if (idle) {
        it->step = HL_ITEM_FAILED;
        hl_transfer_item_finished(it);
        return;
    }
    if (it->mover)
        hl_mover_stop(it->mover, code, &it->error);
    if ((out || syncing) && it->target)
        abort_object(it, it->target);
    if (out && it->source)
        abort_object(it, it->source);
    hl_item_ending(it);
}

/* ---- Start -------------------------------------------------------------- */

static void on_removed(struct hl_op *op)
{
    struct hl_item *it = op->user;
    struct hl_error err = op->error;

    if (op->rc && it->t->c.forget) {
        if (!err.code)
            hl_err(&err, op->rc, 0, "%s", haul_err_text(op->rc));
        hl_transfer_warn(it->t, &err);
        op->rc = 0;
    }
    if (!hl_item_home(it, op))
        return;
    it->step = HL_ITEM_DONE;
    hl_transfer_item_finished(it);
}

static void start_remove(struct hl_item *it)
{
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.op, on_removed, start_remove);
    hl_driver_discard(it->target, it->token, &it->u.op);
}

static int make_objects(struct hl_item *it, struct hl_error *err)
{
    struct hl_transfer_config *c = &it->t->c;
    int rc = 0;

    if (c->source)
        rc = c->source->driver->object_new(c->source, &it->source_url,
                                           HL_ROLE_SOURCE, &it->source, err);
    if (rc == 0 && c->target)
        rc = c->target->driver->object_new(c->target, &it->target_url,
                                           HL_ROLE_TARGET, &it->target, err);
    if (rc == 0 && it->target) {
        it->target->events = &hl_item_object_events;
        it->target->events_user = it;
    }
    return rc;
}

static int load_token(struct hl_item *it, struct hl_error *err)
{
    struct hl_saved_object o = {0};
    bool found = false;
    int rc = hl_store_object_get(it->t->store, it->t->c.remove_id, it->index,
                                 &found, &o, err);

    if (rc == 0 && found && o.token) {
        it->token = hl_strdup(o.token);
        if (!it->token)
            rc = HAUL_E_NOMEM;
    }
    hl_saved_object_fini(&o);
    return rc;
}

void hl_item_start(struct hl_item *it)
{
    struct hl_error err = {0};
    int rc = make_objects(it, &err);

    it->step = HL_ITEM_OPENING;
    if (rc == 0 && it->t->c.kind == HL_TRANSFER_REMOVE)
        rc = load_token(it, &err);
    if (rc) {
        hl_err(&err, rc, 0, "%s", haul_err_text(rc));
        hl_item_fail(it, &err);
        return;
    }
    if (it->t->c.kind != HL_TRANSFER_REMOVE) {
        hl_item_open(it);
    } else if (it->token && it->target) {
        start_remove(it);
    } else {
        it->step = HL_ITEM_DONE;
        hl_transfer_item_finished(it);
    }
}
