/*
 * Moving and checking an item. Engine thread. item_open.c comes before this,
 * item_commit.c after it, item_end.c is where a failure leads.
 */
#include "item.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bytes that were read back wrong are sent again this often. */
#define CHECK_ROUNDS 3u
/* Opening and committing may take this many stall timeouts without a sign. */
#define STEP_STALLS 10u

static void start_copy(struct hl_item *it);
static void check(struct hl_item *it);

const char *hl_item_verify_mode(const struct hl_item *it)
{
    return hl_opts_str(it->t->c.opts, HAUL_OPT_VERIFY);
}

/* ---- Operations --------------------------------------------------------- */

void hl_item_submit(struct hl_item *it, struct hl_op *op,
                    void (*done)(struct hl_op *op),
                    void (*again)(struct hl_item *it))
{
    HL_ASSERT(!it->op_out);
    op->done = done;
    op->user = it;
    it->again = again;
    it->op_out = true;
    it->op_since_ns = hl_loop_now(it->t->e->loop);
}

void hl_item_fail(struct hl_item *it, const struct hl_error *err)
{
    hl_item_stop(it, err->code ? err->code : HAUL_E_BUG, err);
}

static void on_again(struct hl_timer *timer)
{
    struct hl_item *it = HL_CONTAINER(timer, struct hl_item, timer);

    it->again(it);
}

bool hl_item_home(struct hl_item *it, struct hl_op *op)
{
    struct hl_loop *loop = it->t->e->loop;
    struct hl_error err = op->error;
    uint64_t at;

    it->op_out = false;
    if (it->step == HL_ITEM_ENDING) {
        hl_item_ending(it);
        return false;
    }
    if (op->rc == 0) {
        hl_retry_progress(&it->retry);
        return true;
    }
    if (!err.code)
        hl_err(&err, op->rc, 0, "%s", haul_err_text(op->rc));
    if (op->rc == HAUL_E_LOST && it->target_open) {
        hl_item_lost(it, &err, false);
        return false;
    }
    if (hl_retry_again(&it->t->policy, &it->retry, op->rc, hl_loop_now(loop),
                       &it->t->e->random, &at)) {
        at = hl_retry_at(at, hl_loop_now(loop), &err);
        err.attempts = it->retry.tries;
        it->before.retries++;
        it->t->c.events->retry(it->t->c.user, &err);
        hl_timer_set(loop, &it->timer, at);
        return false;
    }
    hl_item_fail(it, &err);
    return false;
}

static void on_early(void *user, uint64_t offset, uint64_t len)
{
    (void)user;
    (void)offset;
    (void)len;
}

static void on_early_lost(void *user, uint64_t offset, uint64_t len,
                          const struct hl_error *error)
{
    (void)user;
    (void)offset;
    (void)len;
    (void)error;
}

static void on_token(void *user, const char *token)
{
    struct hl_item *it = user;
    struct hl_error err = {0};
    int rc = hl_saved_token(it, token, &err);

    it->target->driver->token_saved(it->target, rc);
    if (rc)
        hl_item_fail(it, &err);
}

static void on_note(void *user, uint64_t part, const char *note)
{
    struct hl_item *it = user;
    const struct hl_driver *d = it->target->driver;
    struct hl_error err = {0};
    int rc = hl_saved_note(it, part, note, &err);

    if (d->note_saved)
        d->note_saved(it->target, part, rc);
    if (rc)
        hl_item_fail(it, &err);
}

const struct hl_object_events hl_item_object_events = {
    .acked = on_early,
    .lost = on_early_lost,
    .token = on_token,
    .note = on_note,
};

/* ---- Moving ------------------------------------------------------------- */

static int changed(struct hl_item *it, const struct hl_slice *slice)
{
    struct hl_error err = {0};

    hl_err(&err, HAUL_E_CHANGED, 0,
           "the source '%s' changed: bytes %" PRIu64 " to %" PRIu64
           " are not those that were sent before",
           it->t->source_name, slice->offset, slice->offset + slice->len);
    hl_err_hint(&err, "Start anew with --resume never, when nobody writes to "
                      "it.");
    hl_item_fail(it, &err);
    return err.code;
}

/* A chunk that was sent before, perhaps by an earlier run, must be the same:
 * the target may have kept some of its bytes. */
static int take_digest(struct hl_item *it, const struct hl_slice *slice,
                       const uint8_t *digest)
{
    static const uint8_t unknown[HL_DIGEST_MAX];
    uint8_t *slot;
    size_t size;

    if (!digest)
        return 0;
    size = it->t->c.digest->size;
    slot = hl_saved_digest_slot(it, slice->offset / it->chunk_size);
    if (!slot)
        return HAUL_E_NOMEM;
    if (it->from_source && memcmp(slot, digest, size) != 0 &&
        memcmp(slot, unknown, size) != 0)
        return changed(it, slice);
    memcpy(slot, digest, size);
    return 0;
}

/* What a LATE target has taken is known here only. */
static int on_taken(void *user, const struct hl_slice *slice,
                    const uint8_t *digest)
{
    return take_digest(user, slice, digest);
}

static const uint8_t *digest_at(void *user, uint64_t offset)
{
    struct hl_item *it = user;
    uint64_t index = offset / it->chunk_size;

    if (!it->t->c.digest || index >= it->digest_count)
        return NULL;
    return hl_saved_digest_slot(it, index);
}

struct hl_range hl_item_whole_parts(const struct hl_item *it, struct hl_range r)
{
    const struct hl_parts *p = &it->layout.parts;
    uint64_t last, begin, len;

    if (!p->size)
        return r;
    last = hl_parts_index(p, r.end - 1);
    begin = hl_parts_begin(p, last);
    len = hl_parts_len(p, last);
    r.begin = hl_parts_begin(p, hl_parts_index(p, r.begin));
    r.end = it->size - begin > len ? begin + len : it->size;
    return r;
}

static void note_bad(struct hl_item *it, const struct hl_slice *slice)
{
    struct hl_range r = {slice->offset, slice->offset + slice->len};

    r = hl_item_whole_parts(it, r);
    if (it->bad_chunks++ == 0 || slice->offset < it->bad_offset)
        it->bad_offset = slice->offset;
    if (hl_ranges_add(&it->bad, r.begin, r.end))
        hl_item_stop(it, HAUL_E_NOMEM, NULL);
}

static void compare_chunk(struct hl_item *it, const struct hl_slice *slice,
                          const uint8_t *digest)
{
    const struct hl_transfer_config *c = &it->t->c;
    uint64_t index = slice->offset / it->chunk_size;
    const uint8_t *want = NULL;

    if (c->kind != HL_TRANSFER_CHECK)
        want = hl_saved_digest_slot(it, index);
    else if (slice->offset < c->expect_size) /* a pipe may be longer */
        want = c->expect + index * c->digest->size;
    if (!want || memcmp(want, digest, c->digest->size) != 0)
        note_bad(it, slice);
}

static void on_chunk(void *user, const struct hl_slice *slice,
                     const uint8_t *digest)
{
    struct hl_item *it = user;
    int rc = 0;

    switch (it->moving) {
    case HL_MOVE_CHECK:
        compare_chunk(it, slice, digest);
        break;
    case HL_MOVE_DIGEST:
        rc = take_digest(it, slice, digest);
        break;
    case HL_MOVE_COPY:
        rc = take_digest(it, slice, digest);
        if (rc == 0)
            rc = hl_ranges_add(&it->acked, slice->offset,
                               slice->offset + slice->len);
        if (rc == 0)
            rc = hl_saved_chunk(it, slice,
                                digest ? digest : digest_at(it, slice->offset));
        it->unsynced_bytes += slice->len;
        break;
    }
    if (rc)
        hl_item_stop(it, rc, NULL);
}

static void on_retry(void *user, const struct hl_error *error)
{
    struct hl_item *it = user;

    it->t->c.events->retry(it->t->c.user, error);
}

static void take_mover(struct hl_item *it)
{
    struct hl_mover_stats s;

    hl_mover_stats(it->mover, &s);
    if (it->from_source) {
        it->before.read_bytes += s.read_bytes;
        it->before.sent_bytes += s.sent_bytes;
        it->before.resent_bytes += s.resent_bytes;
        it->size = s.size;
    }
    it->before.retries += s.retries;
    it->before.rate_wait_ns += s.rate_wait_ns;
    it->before.memory_wait_ns += s.memory_wait_ns;
    if (!it->has_whole && it->moving != HL_MOVE_CHECK)
        it->has_whole = hl_mover_whole(it->mover, it->whole);
    if (!it->has_offered)
        it->has_offered = hl_mover_offered(it->mover, it->offered_digest);
    hl_mover_free(it->mover);
    it->mover = NULL;
    hl_ranges_clear(&it->confirmed);
    if (it->target) {
        it->target->events = &hl_item_object_events;
        it->target->events_user = it;
    }
}

static int bad_to_copy(struct hl_item *it, struct hl_error *err)
{
    it->before.resent_bytes += it->bad.bytes;
    return hl_saved_lost(it, &it->bad, err);
}

static void differs(struct hl_item *it)
{
    struct hl_error err = {0};

    hl_err(&err, HAUL_E_DIGEST, 0,
           "'%s' differs: %" PRIu64 " chunk%s of %" PRIu64
           " bytes, the first at offset %" PRIu64,
           it->t->c.kind == HL_TRANSFER_CHECK ? it->t->source_name
                                              : it->t->target_name,
           it->bad_chunks, it->bad_chunks == 1 ? "" : "s", it->chunk_size,
           it->bad_offset);
    hl_err_hint(&err, "Copy it again with --resume never.");
    hl_item_fail(it, &err);
}

/* A check is through: what differs is sent again, a few times. */
static void checked(struct hl_item *it)
{
    struct hl_error err = {0};

    if (it->t->c.kind == HL_TRANSFER_CHECK && it->bad.bytes == 0 &&
        it->size != it->t->c.expect_size) {
        hl_err(&err, HAUL_E_DIGEST, 0,
               "'%s' has %" PRIu64 " bytes, the manifest says %" PRIu64,
               it->t->source_name, it->size, it->t->c.expect_size);
        hl_item_fail(it, &err);
        return;
    }
    if (it->bad.bytes == 0) {
        hl_ranges_clear(&it->suspect);
        if (it->t->c.kind == HL_TRANSFER_CHECK) {
            it->step = HL_ITEM_DONE;
            hl_transfer_item_finished(it);
        } else {
            check(it);
        }
        return;
    }
    if (it->t->c.kind == HL_TRANSFER_CHECK ||
        it->check_rounds++ >= CHECK_ROUNDS) {
        differs(it);
        return;
    }
    HL_WARN(it->t->e->log, HL_AREA_VERIFY,
            "%" PRIu64 " bytes at the target differ, sent again",
            it->bad.bytes);
    if (bad_to_copy(it, &err)) {
        hl_item_fail(it, &err);
        return;
    }
    start_copy(it);
}

static void on_finished(void *user, int rc, const struct hl_error *error)
{
    struct hl_item *it = user;
    struct hl_error err = *error;

    take_mover(it);
    if (it->step == HL_ITEM_ENDING) {
        hl_item_ending(it);
        return;
    }
    if (rc == HAUL_E_LOST && it->target) {
        /* The mover has aborted its ends. */
        if (it->from_source)
            it->source_open = false;
        hl_item_lost(it, &err, it->moving == HL_MOVE_COPY || !it->from_source);
        return;
    }
    if (rc) {
        hl_item_stop(it, rc, &err);
        return;
    }
    switch (it->moving) {
    case HL_MOVE_COPY:
        hl_saved_flush(it, true);
        check(it);
        break;
    case HL_MOVE_CHECK:
        checked(it);
        break;
    case HL_MOVE_DIGEST:
        check(it);
        break;
    }
}

static const struct hl_mover_events mover_events = {
    .chunk = on_chunk,
    .taken = on_taken,
    .digest = digest_at,
    .retry = on_retry,
    .token = on_token,
    .note = on_note,
    .finished = on_finished,
};

/* Reads the source, or (to check it) the target. */
static void start_mover(struct hl_item *it, int moving, bool from_source,
                        const struct hl_ranges *done, bool whole)
{
    struct hl_transfer *t = it->t;
    struct hl_mover_config c = {
        .loop = t->e->loop,
        .pool = t->e->pool,
        .workers = t->e->workers,
        .random = &t->e->random,
        .log = t->e->log,
        .source = from_source ? it->source : it->target,
        .target = moving == HL_MOVE_COPY ? it->target : NULL,
        .size = it->size,
        .chunk_size = it->chunk_size,
        .source_caps = from_source ? it->source_caps : HL_CAP_SEEK,
        .run_max = from_source ? it->source_layout.run_max : 0,
        .layout = it->layout,
        .done = done,
        .confirmed = moving == HL_MOVE_COPY ? &it->confirmed : NULL,
        .digest = t->c.digest,
        .whole = whole,
        .offered = whole && !it->has_offered ? it->offered : NULL,
        .policy = t->policy,
        .rate = &t->rate,
        .stall_ns = t->stall_ns,
        .events = &mover_events,
        .user = it,
    };
    struct hl_error err = {0};

    if (moving != HL_MOVE_COPY)
        memset(&c.layout, 0, sizeof(c.layout));
    it->moving = moving;
    it->from_source = from_source;
    if (hl_mover_new(&c, &it->mover, &err)) {
        hl_item_fail(it, &err);
        return;
    }
    hl_item_tune_mover(it, hl_loop_now(t->e->loop));
}

static void start_copy(struct hl_item *it)
{
    it->step = HL_ITEM_MOVING;
    hl_transfer_set_state(it->t, HAUL_STATE_MOVING);
    start_mover(it, HL_MOVE_COPY, true, &it->acked, true);
}

void hl_item_move(struct hl_item *it)
{
    if (it->t->c.kind == HL_TRANSFER_COPY) {
        start_copy(it);
        return;
    }
    it->step = HL_ITEM_CHECKING;
    hl_transfer_set_state(it->t, HAUL_STATE_CHECKING);
    start_mover(it, HL_MOVE_CHECK, true, NULL, false);
}

/* ---- Checking ----------------------------------------------------------- */

/* Everything but wanted, as the mover wants it. */
static int complement(const struct hl_ranges *wanted, uint64_t size,
                      struct hl_ranges *out)
{
    struct hl_range hole;
    uint64_t at = 0;
    int rc = 0;

    while (rc == 0 && hl_ranges_next_hole(wanted, at, size, &hole)) {
        rc = hl_ranges_add(out, hole.begin, hole.end);
        at = hole.end;
    }
    return rc;
}

static void start_over(struct hl_item *it, int moving, bool from_source,
                       const struct hl_ranges *wanted)
{
    struct hl_ranges done;

    hl_ranges_init(&done);
    hl_ranges_clear(&it->bad);
    it->step = HL_ITEM_CHECKING;
    hl_transfer_set_state(it->t, HAUL_STATE_CHECKING);
    if (wanted && complement(wanted, it->size, &done))
        hl_item_stop(it, HAUL_E_NOMEM, NULL);
    else
        start_mover(it, moving, from_source, &done, moving == HL_MOVE_DIGEST);
    hl_ranges_fini(&done);
}

/* The digest of the whole is missing that a remote's is to be compared with:
 * of the source for the target's, of either for the source's own. */
static bool read_for_digest(struct hl_item *it)
{
    bool seeks = it->source_caps & HL_CAP_SEEK;
    bool readback = it->layout.caps & HL_CAP_READBACK;

    if (!it->remote_able && (it->layout.caps & HL_CAP_COMPARES))
        return false;
    if (it->remote_able
            ? it->has_whole || !seeks
            : !it->offered || it->has_offered || (!seeks && !readback))
        return false;
    start_over(it, HL_MOVE_DIGEST, it->remote_able || !readback, NULL);
    return true;
}

/* Everything is acknowledged. What else was asked for? */
static void check(struct hl_item *it)
{
    const char *mode = hl_item_verify_mode(it);
    bool readback = !strcmp(mode, "readback") && !it->readback_done;

    if (it->bad.bytes) {
        /* Only what was sent again is checked again. */
        struct hl_ranges bad = it->bad;

        hl_ranges_init(&it->bad);
        start_over(it, HL_MOVE_CHECK, false, &bad);
        hl_ranges_fini(&bad);
        return;
    }
    if (it->append_at && readback && it->moving == HL_MOVE_COPY) {
        /* The prefix has no digests yet. */
        struct hl_ranges prefix;

        hl_ranges_init(&prefix);
        if (hl_ranges_add(&prefix, 0, it->append_at))
            hl_item_stop(it, HAUL_E_NOMEM, NULL);
        else
            start_over(it, HL_MOVE_DIGEST, true, &prefix);
        hl_ranges_fini(&prefix);
        return;
    }
    if (readback) {
        it->readback_done = true;
        hl_ranges_clear(&it->suspect);
        start_over(it, HL_MOVE_CHECK, false, NULL);
        return;
    }
    if (it->suspect.bytes) {
        struct hl_ranges suspect = it->suspect;

        hl_ranges_init(&it->suspect);
        start_over(it, HL_MOVE_CHECK, false, &suspect);
        hl_ranges_fini(&suspect);
        return;
    }
    if (!strcmp(mode, "remote") && it->moving != HL_MOVE_DIGEST &&
        read_for_digest(it))
        return;
    hl_item_commit(it);
}

/* ---- Life --------------------------------------------------------------- */

static void check_step_stall(struct hl_item *it, uint64_t now)
{
    if ((!it->op_out && !it->commit_waits) ||
        now - it->op_since_ns < STEP_STALLS * it->t->stall_ns)
        return;
    it->op_since_ns = now;
    if (it->source && it->source->driver->unstall)
        it->source->driver->unstall(it->source);
    if (it->target && it->target->driver->unstall)
        it->target->driver->unstall(it->target);
}

void hl_item_tick(struct hl_item *it, uint64_t now_ns)
{
    if (it->step == HL_ITEM_NEW || it->step >= HL_ITEM_DONE)
        return;
    check_step_stall(it, now_ns);
    hl_saved_flush(it, false);
    if (it->mover)
        hl_item_tune(it, now_ns);
    if (it->step != HL_ITEM_MOVING || !it->mover)
        return;
    if ((it->layout.caps & HL_CAP_DURABLE) && !it->syncing &&
        it->unsynced_bytes >= HL_SYNC_BYTES)
        hl_item_sync(it);
}

void hl_item_stats(const struct hl_item *it, struct hl_mover_stats *out)
{
    struct hl_mover_stats now = {0};

    *out = it->before;
    out->size = it->size;
    out->acked_bytes = it->acked.bytes;
    if (!it->mover)
        return;
    hl_mover_stats(it->mover, &now);
    out->retries += now.retries;
    out->rate_wait_ns += now.rate_wait_ns;
    out->memory_wait_ns += now.memory_wait_ns;
    out->reading = now.reading;
    out->writing = now.writing + now.idle_writes;
    if (!it->from_source)
        return;
    out->read_bytes += now.read_bytes;
    out->sent_bytes += now.sent_bytes;
    out->resent_bytes += now.resent_bytes;
    out->size = now.size;
    if (it->moving == HL_MOVE_COPY || !it->target)
        out->acked_bytes = now.acked_bytes;
}

int hl_item_init(struct hl_item *it, struct hl_transfer *t, uint32_t index,
                 const struct hl_item_config *config, struct hl_error *err)
{
    int rc = 0;

    it->t = t;
    it->index = index;
    it->timer.fn = on_again;
    hl_ranges_init(&it->acked);
    hl_ranges_init(&it->suspect);
    hl_ranges_init(&it->bad);
    hl_ranges_init(&it->confirmed);
    hl_ranges_init(&it->earlier);
    if (t->c.source)
        rc = hl_url_copy(&config->source, &it->source_url);
    if (rc == 0 && t->c.target)
        rc = hl_url_copy(&config->target, &it->target_url);
    if (rc)
        return hl_err(err, rc, 0, "out of memory");
    snprintf(it->id, sizeof(it->id), "%016" PRIx64,
             hl_random_next(&t->e->random));
    return 0;
}

void hl_item_fini(struct hl_item *it)
{
    HL_ASSERT(!it->mover && !it->op_out);
    hl_timer_cancel(&it->timer);
    if (it->source)
        it->source->driver->close(it->source);
    if (it->target)
        it->target->driver->close(it->target);
    hl_url_fini(&it->source_url);
    hl_url_fini(&it->target_url);
    hl_ranges_fini(&it->acked);
    hl_ranges_fini(&it->suspect);
    hl_ranges_fini(&it->bad);
    hl_ranges_fini(&it->confirmed);
    hl_ranges_fini(&it->earlier);
    for (size_t i = 0; i < it->note_count; i++)
        hl_free_secret(it->notes[i].text);
    hl_free(it->notes);
    hl_saved_take_notes(it);
    hl_free_secret(it->token);
    hl_free(it->sample);
    hl_free(it->digests);
    hl_free(it->pending);
}
