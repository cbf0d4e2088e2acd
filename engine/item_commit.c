/*
 * The end of an item's way: is the source still the same, does the remote see
 * the same digest, commit; and sync while it moves. Engine thread.
 */
#include "item.h"

#include <string.h>

static void commit(struct hl_item *it);
static void remote(struct hl_item *it);

static void on_source_stat(struct hl_op *op)
{
    struct hl_item *it = op->user;
    const struct hl_identity *was = &it->identity;
    struct hl_error err = {0};
    const char *what = NULL;

    if (op->rc == HAUL_E_NOTSUP) {
        op->rc = 0;
        it->u.stat.exists = true;
        it->u.stat.size = was->size;
        it->u.stat.mtime_ns = was->mtime_ns;
    }
    if (!hl_item_home(it, op))
        return;
    if (!it->u.stat.exists)
        what = "it is gone";
    else if (it->u.stat.size != was->size)
        what = "its size differs";
    else if (was->mtime_ns && it->u.stat.mtime_ns != was->mtime_ns)
        what = "its modification time differs";
    if (what) {
        hl_err(&err, HAUL_E_CHANGED, 0,
               "the source '%s' changed during the copy: %s",
               it->t->source_name, what);
        hl_err_hint(&err, "Copy it again when nobody writes to it.");
        hl_item_fail(it, &err);
        return;
    }
    remote(it);
}

void hl_item_commit(struct hl_item *it)
{
    it->step = HL_ITEM_COMMITTING;
    hl_transfer_set_state(it->t, HAUL_STATE_COMMITTING);
    if (!(it->source_caps & HL_CAP_SEEK)) {
        remote(it);
        return;
    }
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.stat.op, on_source_stat, hl_item_commit);
    hl_driver_stat(it->source, &it->u.stat);
}

static void on_remote(struct hl_op *op)
{
    struct hl_item *it = op->user;
    struct hl_error err = {0};
    char hex[2 * HL_DIGEST_MAX + 1];

    if (!hl_item_home(it, op))
        return;
    hl_hex(it->whole, it->t->c.digest->size, hex);
    if (strcmp(hex, it->u.remote.hex) != 0) {
        hl_err(&err, HAUL_E_DIGEST, 0,
               "the remote's %s of '%s' differs from what was sent",
               it->t->c.digest->name, it->t->target_name);
        hl_err_hint(&err, "Copy it again with --resume never.");
        hl_item_fail(it, &err);
        return;
    }
    it->remote_checked = true;
    commit(it);
}

/* The digest that the source's server offers against that of the bytes. */
static int compare_offered(struct hl_item *it, struct hl_error *err)
{
    size_t size = it->offered ? it->offered->size : 0;
    char want[2 * HL_OFFERED_MAX + 1], got[2 * HL_OFFERED_MAX + 1];

    if (!it->has_offered)
        return 0;
    it->offered_checked = true;
    if (memcmp(it->identity.offered_digest, it->offered_digest, size) == 0)
        return 0;
    /* Half of a long one tells two apart, and leaves room for the name. */
    size = hl_min(size, HL_DIGEST_MAX);
    hl_hex(it->identity.offered_digest, size, want);
    hl_hex(it->offered_digest, size, got);
    hl_err(err, HAUL_E_DIGEST, 0,
           "the server says %s %s of '%s', the bytes received have %s",
           it->offered->name, want, it->t->source_name, got);
    return hl_err_hint(err, "Copy it again with --resume never; when that "
                            "does not help, the server is wrong.");
}

static bool asked_for_remote(const struct hl_item *it)
{
    return strcmp(hl_item_verify_mode(it), "remote") == 0 && it->t->c.digest;
}

static void remote(struct hl_item *it)
{
    struct hl_error err = {0};

    compare_offered(it, &err);
    if (!err.code && asked_for_remote(it) && !it->remote_able &&
        !it->offered_checked && !(it->layout.caps & HL_CAP_COMPARES))
        hl_err(&err, HAUL_E_NOTSUP, 0,
               "'%s' was not read in order: its digest cannot be compared",
               it->t->source_name);
    if (err.code) {
        hl_item_fail(it, &err);
        return;
    }
    if (!asked_for_remote(it) || it->remote_checked || !it->has_whole ||
        !it->remote_able) {
        commit(it);
        return;
    }
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.remote.op, on_remote, remote);
    it->u.remote.algorithm = it->t->c.digest->name;
    hl_driver_remote_digest(it->target, &it->u.remote);
}

/* ---- Commit ------------------------------------------------------------- */

static void on_final_stat(struct hl_op *op)
{
    struct hl_item *it = op->user;
    const struct hl_stat *st = &it->u.stat;
    int64_t second = (int64_t)HL_NS_PER_S;
    bool ours;

    if (op->rc == HAUL_E_NOTSUP)
        op->rc = 0; /* nothing is known: it does not exist */
    if (!hl_item_home(it, op))
        return;
    /* It has the time that the commit gave it; a source without a time: it
     * was not there before. */
    if (it->identity.mtime_ns)
        ours = st->mtime_ns / second == it->identity.mtime_ns / second;
    else
        ours = !it->target_existed;
    if (st->exists && st->size == it->size && ours) {
        it->durable = it->layout.caps & HL_CAP_DURABLE;
        it->size_checked = true;
        it->step = HL_ITEM_DONE;
        hl_transfer_item_finished(it);
        return;
    }
    if (it->commit_error.code == HAUL_E_LOST)
        hl_item_lost(it, &it->commit_error, false);
    else
        hl_item_fail(it, &it->commit_error);
}

/* The answer to an earlier commit was lost with the connection, and now there
 * is nothing to commit: was it done then? */
static void look_at_final(struct hl_item *it)
{
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.stat.op, on_final_stat, look_at_final);
    hl_driver_stat(it->target, &it->u.stat);
}

/* It stands there, and nobody has compared it as the user asked. Nothing is
 * left to be undone. */
static void not_compared(struct hl_item *it)
{
    it->code = hl_err(&it->error, HAUL_E_NOTSUP, 0,
                      "'%s' compared nothing: it cannot be verified as asked",
                      it->t->target_name);
    hl_err_hint(&it->error, "It is in its place; --verify auto says what it "
                            "is worth.");
    it->step = HL_ITEM_FAILED;
    hl_transfer_item_finished(it);
}

static void on_committed(struct hl_op *op)
{
    struct hl_item *it = op->user;

    if (op->rc && it->step != HL_ITEM_ENDING) {
        bool cut = hl_err_retry_class(op->rc) == HL_RETRY_LINK;

        if (!cut && it->commit_cut) {
            it->commit_error = op->error;
            hl_err(&it->commit_error, op->rc, 0, "%s", haul_err_text(op->rc));
            it->op_out = false;
            look_at_final(it);
            return;
        }
        it->commit_cut = cut;
    }
    if (!op->rc) {
        it->committed = true; /* a cancel came too late */
        it->durable = it->u.commit.durable;
        it->size_checked = it->u.commit.size_checked;
        it->remote_checked = it->remote_checked || it->u.commit.compared;
    }
    if (!hl_item_home(it, op))
        return;
    if (asked_for_remote(it) && (it->layout.caps & HL_CAP_COMPARES) &&
        !it->remote_checked && !it->offered_checked) {
        not_compared(it);
        return;
    }
    it->step = HL_ITEM_DONE;
    hl_transfer_item_finished(it);
}

static void commit(struct hl_item *it)
{
    if (it->syncing) {
        it->commit_waits = true;
        it->op_since_ns = hl_loop_now(it->t->e->loop);
        return;
    }
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.commit.op, on_committed, commit);
    it->u.commit.size = it->size;
    it->u.commit.mtime_ns = it->identity.mtime_ns;
    it->u.commit.mode = it->identity.mode;
    it->u.commit.no_clobber = hl_opts_i64(it->t->c.opts, HAUL_OPT_NO_CLOBBER);
    hl_driver_commit(it->target, &it->u.commit);
}

/* The target has just said that it lost what it had. */
static void sync_lost(struct hl_item *it, const struct hl_error *err)
{
    if (it->mover) {
        hl_mover_stop(it->mover, HAUL_E_LOST, err);
    } else if (it->commit_waits) {
        hl_item_lost(it, err, false);
    } /* else the step under way will hear of it */
}

static void on_synced(struct hl_op *op)
{
    struct hl_item *it = op->user;
    struct hl_error err = op->error;

    it->syncing = false;
    if (op->rc == 0) {
        hl_saved_synced(it);
    } else if (op->rc == HAUL_E_NOTSUP) {
        it->layout.caps &= ~(uint32_t)HL_CAP_DURABLE;
    }
    if (it->step == HL_ITEM_ENDING) {
        hl_item_ending(it);
    } else if (op->rc == HAUL_E_LOST && it->target_open) {
        hl_err(&err, HAUL_E_LOST, 0, "%s", haul_err_text(HAUL_E_LOST));
        sync_lost(it, &err);
    } else if (it->commit_waits) {
        it->commit_waits = false;
        commit(it);
    }
}

/* Makes what is acknowledged and noted durable; other work goes on. */
void hl_item_sync(struct hl_item *it)
{
    hl_saved_flush(it, true);
    it->syncing = true;
    it->syncing_batch = it->batch;
    it->unsynced_bytes = 0;
    memset(&it->sync, 0, sizeof(it->sync));
    it->sync.done = on_synced;
    it->sync.user = it;
    hl_driver_sync(it->target, &it->sync);
}
