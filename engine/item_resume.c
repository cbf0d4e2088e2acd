/*
 * What a target has: after open, what an earlier run (or this one, before the
 * target lost it) believed is compared with that. And targets that lost what
 * they had confirmed: HAUL_E_LOST closes them and opens them again. Engine
 * thread.
 */
#include <inttypes.h>
#include <string.h>

#include "item.h"

/* ---- What must not be believed ------------------------------------------ */

static int no_memory(struct hl_error *err)
{
    return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
}

/* A target finishes a part as a whole: what it has of one that is not is sent
 * again. */
static int drop_partial(struct hl_item *it, struct hl_error *err)
{
    struct hl_ranges gone;
    struct hl_range r;
    uint64_t at = 0;
    int rc = 0;

    if (!it->layout.parts.size)
        return 0;
    hl_ranges_init(&gone);
    while (rc == 0 && hl_ranges_next_hole(&it->acked, at, it->size, &r)) {
        r = hl_item_whole_parts(it, r);
        rc = hl_ranges_add(&gone, r.begin, r.end);
        at = r.end;
    }
    rc = rc ? no_memory(err) : hl_saved_lost(it, &gone, err);
    hl_ranges_fini(&gone);
    return rc;
}

/* Chunks that the target cannot have: it is shorter than that. */
static int clip_existing(struct hl_item *it, struct hl_error *err)
{
    struct hl_range r = {it->layout.existing, it->size};
    struct hl_ranges gone = {&r, 1, 1, r.end - r.begin};

    if (r.begin < r.end && hl_saved_lost(it, &gone, err))
        return err->code;
    it->append_at = hl_min(it->append_at, hl_ranges_contiguous(&it->acked));
    return drop_partial(it, err);
}

/* Without sync() nothing is ever called durable; then the newest bytes are
 * what a crash of the target can have taken. */
static int trim_suspects(struct hl_item *it)
{
    struct hl_range r;
    uint64_t at = 0;

    if (it->layout.caps & HL_CAP_DURABLE)
        return 0;
    while (it->suspect.bytes > HL_SYNC_BYTES &&
           hl_ranges_next(&it->suspect, at, &r)) {
        uint64_t over = it->suspect.bytes - HL_SYNC_BYTES;
        uint64_t end = hl_min(r.end, r.begin + over);

        end = end / it->chunk_size * it->chunk_size;
        if (end <= r.begin)
            break;
        if (hl_ranges_remove(&it->suspect, r.begin, end))
            return HAUL_E_NOMEM;
        at = end;
    }
    return 0;
}

/* What cannot be read back, or has no digest to compare with, is sent
 * again. */
static int drop_suspects(struct hl_item *it, struct hl_error *err)
{
    struct hl_ranges gone;
    struct hl_range r;
    uint64_t at = 0;
    int rc = 0;

    if ((it->layout.caps & HL_CAP_READBACK) && it->t->c.digest)
        return 0;
    hl_ranges_init(&gone);
    while (rc == 0 && hl_ranges_next(&it->suspect, at, &r)) {
        r = hl_item_whole_parts(it, r);
        rc = hl_ranges_add(&gone, r.begin, r.end);
        at = r.end;
    }
    rc = rc ? no_memory(err) : hl_saved_lost(it, &gone, err);
    hl_ranges_fini(&gone);
    hl_ranges_clear(&it->suspect);
    return rc;
}

/* ---- Targets that tell --------------------------------------------------- */

static int check_claim(const struct hl_item *it, struct hl_error *err)
{
    const struct hl_ranges *c = &it->confirmed;

    if (c->count == 0 || c->r[c->count - 1].end <= it->size)
        return 0;
    hl_err(err, HAUL_E_PROTO, 0,
           "the target '%s' claims more than was sent: %" PRIu64
           " bytes of %" PRIu64,
           it->t->target_name, c->r[c->count - 1].end, it->size);
    return hl_err_hint(err, "It is not what this copy began; start anew with "
                            "--resume never.");
}

/* Its word counts, for more and for less than was believed; nothing of it is
 * suspect. */
static int believe(struct hl_item *it, struct hl_error *err)
{
    struct hl_ranges gone;
    struct hl_range r;
    uint64_t at = 0;
    int rc = check_claim(it, err);

    if (rc)
        return rc;
    hl_ranges_init(&gone);
    while (rc == 0 && hl_ranges_next_hole(&it->confirmed, at, it->size, &r)) {
        rc = hl_ranges_add(&gone, r.begin, r.end);
        at = r.end;
    }
    rc = rc ? no_memory(err) : hl_saved_lost(it, &gone, err);
    hl_ranges_fini(&gone);
    hl_ranges_clear(&it->suspect);
    it->append_at = hl_min(it->append_at, hl_ranges_contiguous(&it->acked));
    return rc;
}

/* A target that does not tell may have lost anything. */
static int suspect_all(struct hl_item *it, struct hl_error *err)
{
    struct hl_range r = {0, 0};

    while (hl_ranges_next(&it->acked, r.end, &r))
        if (hl_ranges_add(&it->suspect, r.begin, r.end))
            return no_memory(err);
    return 0;
}

int hl_item_reconcile(struct hl_item *it, bool resumed, struct hl_error *err)
{
    int rc = 0;

    if (it->layout.fresh || !resumed) {
        hl_ranges_clear(&it->confirmed);
        return it->layout.fresh || it->was_open ? hl_saved_reset(it, err) : 0;
    }
    if (it->layout.caps & HL_CAP_TELLS)
        return believe(it, err);
    hl_ranges_clear(&it->confirmed);
    if (it->was_open)
        rc = suspect_all(it, err);
    if (rc == 0)
        rc = clip_existing(it, err);
    if (rc == 0)
        rc = trim_suspects(it);
    return rc ? rc : drop_suspects(it, err);
}

/* ---- What counts as resumed, and as sent again --------------------------- */

/* Takes out of s what is not in other. */
static int keep_only(struct hl_ranges *s, const struct hl_ranges *other)
{
    struct hl_range hole;
    uint64_t at = 0;
    int rc = 0;

    while (rc == 0 && hl_ranges_next_hole(other, at, UINT64_MAX, &hole)) {
        rc = hl_ranges_remove(s, hole.begin, hole.end);
        at = hole.end;
    }
    return rc;
}

int hl_item_count_resumed(struct hl_item *it)
{
    const struct hl_ranges *there =
        it->confirmed.bytes > it->acked.bytes ? &it->confirmed : &it->acked;
    struct hl_range r = {0, 0};
    int rc = 0;

    if (!it->was_open) {
        while (rc == 0 && hl_ranges_next(there, r.end, &r))
            rc = hl_ranges_add(&it->earlier, r.begin, r.end);
    } else {
        rc = keep_only(&it->earlier, there);
        /* Whatever was sent in this run and is not there is sent again. */
        it->before.resent_bytes =
            it->before.sent_bytes -
            hl_min(there->bytes - it->earlier.bytes, it->before.sent_bytes);
    }
    it->resumed_bytes = it->earlier.bytes;
    return rc;
}

/* ---- A commit whose answer nobody heard ---------------------------------- */

bool hl_item_was_committed(const struct hl_item *it)
{
    return it->resume && !it->was_open && it->final_fits &&
           (it->source_caps & HL_CAP_SEEK) && !it->identity.weak &&
           !(it->layout.caps & HL_CAP_IN_PLACE) &&
           hl_ranges_contains(&it->acked, 0, it->size);
}

static void there(struct hl_item *it)
{
    it->already_there = true;
    it->resumed_bytes = it->size;
    it->step = HL_ITEM_DONE;
    hl_transfer_item_finished(it);
}

static void discard_new(struct hl_item *it);

static void on_new_discarded(struct hl_op *op)
{
    struct hl_item *it = op->user;

    /* The copy is whole and in its place, whatever else is left over. */
    if (op->rc && hl_err_retry_class(op->rc) == HL_RETRY_NEVER &&
        it->step != HL_ITEM_ENDING) {
        struct hl_error w = op->error;

        hl_err(&w, op->rc, 0, "%s", haul_err_text(op->rc));
        hl_transfer_warn(it->t, &w);
        op->rc = 0;
    }
    if (!hl_item_home(it, op))
        return;
    it->target_open = false;
    there(it);
}

/* What this run's open has made. */
static void discard_new(struct hl_item *it)
{
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.op, on_new_discarded, discard_new);
    hl_driver_discard(it->target, it->token, &it->u.op);
}

void hl_item_committed_before(struct hl_item *it)
{
    if (it->target_open)
        discard_new(it);
    else
        there(it);
}

/* ---- Lost: close and open again ------------------------------------------ */

static int renew(struct hl_item *it, enum hl_role role, struct hl_error *err)
{
    struct hl_transfer_config *c = &it->t->c;
    bool source = role == HL_ROLE_SOURCE;
    struct hl_endpoint *ep = source ? c->source : c->target;
    struct hl_object **obj = source ? &it->source : &it->target;
    int rc;

    (*obj)->driver->close(*obj);
    *obj = NULL;
    rc = ep->driver->object_new(ep, source ? &it->source_url : &it->target_url,
                                role, obj, err);
    if (rc == 0 && !source) {
        it->target->events = &hl_item_object_events;
        it->target->events_user = it;
    }
    it->tunes[role].told = false;
    return rc;
}

static void open_again(struct hl_item *it)
{
    if (it->source_open)
        hl_item_open_target(it);
    else
        hl_item_open(it);
}

/* Nothing of the old objects is outstanding. */
static void renew_objects(struct hl_item *it)
{
    struct hl_error err = {0};
    int rc = renew(it, HL_ROLE_TARGET, &err);

    if (rc == 0 && !it->source_open)
        rc = renew(it, HL_ROLE_SOURCE, &err);
    if (rc) {
        hl_err(&err, rc, 0, "%s", haul_err_text(rc));
        hl_item_fail(it, &err);
        return;
    }
    it->again = open_again;
    hl_timer_set(it->t->e->loop, &it->timer, it->reopen_ns);
}

static void on_old_aborted(struct hl_op *op)
{
    struct hl_item *it = op->user;

    it->aborting--;
    if (it->step == HL_ITEM_ENDING)
        hl_item_ending(it);
    else
        renew_objects(it);
}

/* Everything that was known of the open target is over. */
static void reopen(struct hl_item *it, bool aborted)
{
    struct hl_op *op = &it->aborts[HL_ROLE_TARGET];

    it->step = HL_ITEM_OPENING;
    it->target_open = false;
    it->commit_cut = it->commit_waits = it->readback_done = false;
    it->remote_checked = false;
    it->unsynced_bytes = 0;
    hl_ranges_clear(&it->confirmed);
    hl_ranges_clear(&it->suspect);
    hl_ranges_clear(&it->bad);
    hl_transfer_set_state(it->t, HAUL_STATE_OPENING);
    if (aborted) {
        renew_objects(it);
        return;
    }
    memset(op, 0, sizeof(*op));
    op->done = on_old_aborted;
    op->user = it;
    it->aborting++;
    hl_driver_abort(it->target, op);
}

static void report(struct hl_item *it, const struct hl_error *err,
                   uint32_t tries)
{
    struct hl_error e = *err;

    hl_err(&e, HAUL_E_LOST, 0, "%s", haul_err_text(HAUL_E_LOST));
    e.attempts = tries;
    it->before.retries++;
    it->t->c.events->retry(it->t->c.user, &e);
}

static void fail_lost(struct hl_item *it, const struct hl_error *err)
{
    struct hl_error e = *err;

    hl_err(&e, HAUL_E_LOST, 0, "%s", haul_err_text(HAUL_E_LOST));
    if (!(it->source_caps & HL_CAP_SEEK))
        hl_err_hint(&e, "The source cannot be read again: write it to a file "
                        "first, and copy that.");
    hl_item_fail(it, &e);
}

void hl_item_lost(struct hl_item *it, const struct hl_error *err, bool aborted)
{
    struct hl_transfer *t = it->t;
    uint64_t now = hl_loop_now(t->e->loop), at = 0;

    /* Going round and round is no progress: only more than ever before is. */
    if (it->acked.bytes > it->lost_most) {
        it->lost_most = it->acked.bytes;
        hl_retry_progress(&it->lost_retry);
    }
    if (!(it->source_caps & HL_CAP_SEEK) || it->append ||
        t->c.kind != HL_TRANSFER_COPY ||
        !hl_retry_again(&t->policy, &it->lost_retry, HAUL_E_LOST, now,
                        &t->e->random, &at)) {
        fail_lost(it, err);
        return;
    }
    report(it, err, it->lost_retry.tries);
    it->reopen_ns = hl_retry_at(at, now, err);
    reopen(it, aborted);
}

void hl_item_open_lost(struct hl_item *it, const struct hl_error *err)
{
    uint64_t now = hl_loop_now(it->t->e->loop);
    struct hl_error e = {0};

    if (hl_item_was_committed(it)) {
        hl_item_committed_before(it);
        return;
    }
    if (!it->was_open &&
        !strcmp(hl_opts_str(it->t->c.opts, HAUL_OPT_RESUME), "require")) {
        hl_err(&e, HAUL_E_RESUME, 0,
               "the target no longer has what was sent of '%s'",
               it->t->source_name);
        hl_err_hint(&e, "Start anew with --resume never.");
        hl_item_fail(it, &e);
        return;
    }
    if (hl_saved_reset(it, &e) || hl_saved_token(it, NULL, &e)) {
        hl_item_fail(it, &e);
        return;
    }
    it->resume = false;
    report(it, err, 1);
    it->reopen_ns = hl_retry_at(now + hl_retry_backoff_ns(1), now, err);
    reopen(it, false);
}
