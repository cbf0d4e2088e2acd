/*
 * Opening an item: source, identity, target, and what an earlier run left.
 * Engine thread; every function with a step's name submits one operation, its
 * on_ function takes the answer and goes to the next.
 */
#include <inttypes.h>
#include <string.h>

#include "item.h"

/* First and last bytes of a local source that are part of its identity. */
#define SAMPLE_BYTES (1u << 20)
/* --resume append compares this much before the place where it goes on. */
#define TAIL_BYTES (1u << 20)

static void sample_head(struct hl_item *it);
static void stat_target(struct hl_item *it);
static void decide(struct hl_item *it);

/* ---- Source ------------------------------------------------------------- */

static bool is_local_file(const struct hl_item *it)
{
    return it->identity.inode && (it->source_caps & HL_CAP_SEEK) &&
           it->size != HL_SIZE_UNKNOWN && it->size > 0;
}

static void source_known(struct hl_item *it)
{
    hl_free(it->sample);
    it->sample = NULL;
    /* The target has not answered yet. */
    memset(&it->retry, 0, sizeof(it->retry));
    if (it->t->c.kind == HL_TRANSFER_COPY)
        stat_target(it);
    else
        decide(it);
}

/* The target lost what it had, and the source was closed with it. */
static void source_again(struct hl_item *it)
{
    const struct hl_identity *was = &it->identity;
    const struct hl_identity *is = &it->u.open.identity;
    struct hl_error err = {0};

    if (is->size == was->size && is->mtime_ns == was->mtime_ns &&
        !strcmp(is->validator, was->validator)) {
        it->source_layout = it->u.open.layout;
        it->source_caps = it->source_layout.caps;
        hl_item_open_target(it);
        return;
    }
    hl_err(&err, HAUL_E_CHANGED, 0, "the source '%s' changed during the copy",
           it->t->source_name);
    hl_err_hint(&err, "Copy it again when nobody writes to it.");
    hl_item_fail(it, &err);
}

static void on_source_open(struct hl_op *op)
{
    struct hl_item *it = op->user;

    if (!op->rc)
        it->source_open = true;
    if (!hl_item_home(it, op))
        return;
    if (it->was_open) {
        source_again(it);
        return;
    }
    it->identity = it->u.open.identity;
    it->source_layout = it->u.open.layout;
    it->source_caps = it->source_layout.caps;
    it->offered = NULL;
    if (it->t->c.digest && it->t->c.find_digest && it->identity.offered[0])
        it->offered = it->t->c.find_digest(it->identity.offered);
    it->size = it->identity.size;
    it->retry.answered = true;
    if (is_local_file(it) && it->t->c.kind == HL_TRANSFER_COPY)
        sample_head(it);
    else
        source_known(it);
}

static void open_source(struct hl_item *it)
{
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.open.op, on_source_open, open_source);
    it->u.open.chunk_size = UINT64_C(4) << 20;
    hl_driver_open(it->source, &it->u.open);
}

static void read_sample(struct hl_item *it, uint64_t offset,
                        void (*done)(struct hl_op *op),
                        void (*again)(struct hl_item *it))
{
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.io.op, done, again);
    it->u.io.offset = offset + it->sample_len;
    it->u.io.len = (uint32_t)hl_min(SAMPLE_BYTES, it->size) - it->sample_len;
    it->u.io.run_end = it->u.io.offset + it->u.io.len;
    it->u.io.data = it->sample + it->sample_len;
    hl_driver_read(it->source, &it->u.io);
}

/* A short reading is continued; true when the sample is whole. */
static bool sample_whole(struct hl_item *it, char *hex)
{
    const struct hl_digest *d = it->t->c.identity;
    uint8_t digest[HL_DIGEST_MAX];
    uint32_t want = (uint32_t)hl_min(SAMPLE_BYTES, it->size);

    it->sample_len += it->u.io.done;
    if (it->sample_len < want && it->u.io.done > 0 && !it->u.io.eof)
        return false;
    /* A source that shrank meanwhile is found out by the mover. */
    d->run(it->sample, it->sample_len, digest);
    hl_hex(digest, d->size, hex);
    it->sample_len = 0;
    return true;
}

static void sample_tail(struct hl_item *it);

static void on_tail(struct hl_op *op)
{
    struct hl_item *it = op->user;

    if (!hl_item_home(it, op))
        return;
    if (sample_whole(it, it->tail))
        source_known(it);
    else
        sample_tail(it);
}

static void sample_tail(struct hl_item *it)
{
    read_sample(it, it->size - hl_min(SAMPLE_BYTES, it->size), on_tail,
                sample_tail);
}

static void on_head(struct hl_op *op)
{
    struct hl_item *it = op->user;

    if (!hl_item_home(it, op))
        return;
    if (sample_whole(it, it->head))
        sample_tail(it);
    else
        sample_head(it);
}

static void sample_head(struct hl_item *it)
{
    struct hl_error err = {0};

    if (!it->sample)
        it->sample = hl_malloc(SAMPLE_BYTES);
    if (!it->sample) {
        hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
        hl_item_fail(it, &err);
        return;
    }
    read_sample(it, 0, on_head, sample_head);
}

/* ---- Target: what is there ---------------------------------------------- */

/* Without folders; NULL: it has none. */
static const char *source_name(const struct hl_item *it)
{
    const struct hl_url *u = &it->source_url;
    const char *name = u->path ? hl_url_basename(u) : "";

    return name[0] && strcmp(name, "-") && strcmp(u->scheme, "-") ? name : NULL;
}

/* The target is a folder: the copy goes into it under the source's name. */
static void into_folder(struct hl_item *it)
{
    const char *name = source_name(it);
    struct hl_error err = {0};
    int rc;

    if (!name) {
        hl_err(&err, HAUL_E_INVAL, 0, "the target '%s' is a folder",
               it->t->target_name);
        hl_err_hint(&err, "This source has no name; give the target one.");
        hl_item_fail(it, &err);
        return;
    }
    it->target->driver->close(it->target);
    it->target = NULL;
    rc = hl_url_append(&it->target_url, name);
    it->in_folder = true;
    if (rc == 0)
        rc = it->t->c.target->driver->object_new(
            it->t->c.target, &it->target_url, HL_ROLE_TARGET, &it->target,
            &err);
    if (rc) {
        hl_err(&err, rc, 0, "%s", haul_err_text(rc));
        hl_item_fail(it, &err);
        return;
    }
    it->target->events = &hl_item_object_events;
    it->target->events_user = it;
    stat_target(it);
}

static void on_stat_target(struct hl_op *op)
{
    struct hl_item *it = op->user;
    struct hl_stat st;
    struct hl_error err = {0};
    bool asked = op->rc != HAUL_E_NOTSUP;

    /* Some servers let nobody stat: then nothing is known, and open says
     * what is wrong. */
    if (op->rc == HAUL_E_REMOTE || op->rc == HAUL_E_NOTSUP)
        op->rc = 0;
    if (!hl_item_home(it, op))
        return;
    it->retry.answered = asked;
    st = it->u.stat;
    it->target_existed = st.exists;
    it->final_fits = it->identity.mtime_ns && hl_saved_fits(it, &st);
    if (st.is_folder && !it->in_folder) {
        into_folder(it);
        return;
    }
    if (st.is_folder) {
        hl_err(&err, HAUL_E_EXISTS, 0, "the target '%s' is a folder",
               hl_url_basename(&it->target_url));
        hl_item_fail(it, &err);
        return;
    }
    if (st.exists && hl_opts_i64(it->t->c.opts, HAUL_OPT_NO_CLOBBER)) {
        hl_err(&err, HAUL_E_EXISTS, 0, "the target '%s' exists",
               it->t->target_name);
        hl_err_hint(&err, "Without --no-clobber it would be replaced.");
        hl_item_fail(it, &err);
        return;
    }
    if (strcmp(hl_opts_str(it->t->c.opts, HAUL_OPT_RESUME), "never") != 0 &&
        hl_saved_is_result(it, &st)) {
        it->already_there = true;
        if (hl_ranges_add(&it->acked, 0, it->size)) {
            hl_item_stop(it, HAUL_E_NOMEM, NULL);
            return;
        }
        it->resumed_bytes = it->size;
        it->step = HL_ITEM_DONE;
        hl_transfer_item_finished(it);
        return;
    }
    decide(it);
}

static void stat_target(struct hl_item *it)
{
    if (it->target_url.folder && !it->in_folder) {
        into_folder(it);
        return;
    }
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.stat.op, on_stat_target, stat_target);
    hl_driver_stat(it->target, &it->u.stat);
}

/* ---- What an earlier run left ------------------------------------------- */

static void begin_saved(struct hl_item *it)
{
    struct hl_error err = {0};

    if (hl_saved_begin(it, &err))
        hl_item_fail(it, &err);
    else
        hl_item_open_target(it);
}

/* What cannot be removed, however often one asks, does not keep a copy from
 * beginning anew; without credentials it would not come far either. */
static bool stays_there(int code)
{
    return hl_err_retry_class(code) == HL_RETRY_NEVER
               ? code == HAUL_E_INVAL || code == HAUL_E_NOTSUP ||
                     (code <= -500 && code > -700)
               : code == HAUL_E_PROTO;
}

static void warn_of_rest(struct hl_item *it, struct hl_op *op)
{
    struct hl_error w = {0};

    if (!op->rc || it->step == HL_ITEM_ENDING || !stays_there(op->rc))
        return;
    hl_err(&w, op->rc, 0, "what an earlier run left at '%s' stays there: %s",
           it->t->target_name,
           op->error.code ? op->error.message : haul_err_text(op->rc));
    hl_transfer_warn(it->t, &w);
    op->rc = 0;
}

static void on_discarded(struct hl_op *op)
{
    struct hl_item *it = op->user;
    struct hl_error err = {0};

    warn_of_rest(it, op);
    if (!hl_item_home(it, op))
        return;
    hl_free_secret(it->token);
    it->token = NULL;
    if (hl_transfer_forget_saved(it->t, &err))
        hl_item_fail(it, &err);
    else
        begin_saved(it);
}

/* The rest of a copy that is not continued goes before the new one comes. */
static void discard_old(struct hl_item *it)
{
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.op, on_discarded, discard_old);
    hl_driver_discard(it->target, it->token, &it->u.op);
}

static void check_expected(struct hl_item *it)
{
    const struct hl_transfer_config *c = &it->t->c;
    struct hl_error err = {0};

    it->chunk_size = c->expect_chunk_size;
    if (it->size != HL_SIZE_UNKNOWN && it->size != c->expect_size) {
        hl_err(&err, HAUL_E_DIGEST, 0,
               "'%s' has %" PRIu64 " bytes, the manifest says %" PRIu64,
               it->t->source_name, it->size, c->expect_size);
        hl_item_fail(it, &err);
        return;
    }
    hl_item_move(it); /* of a pipe the size is checked at its end */
}

static void decide(struct hl_item *it)
{
    struct hl_error err = {0};
    const char *mode = hl_opts_str(it->t->c.opts, HAUL_OPT_RESUME);

    if (it->t->c.kind == HL_TRANSFER_CHECK) {
        check_expected(it);
        return;
    }
    if (hl_saved_load(it, &err)) {
        hl_item_fail(it, &err);
        return;
    }
    if (hl_opts_i64(it->t->c.opts, HAUL_OPT_DRY_RUN)) {
        it->dry_run = true;
        it->resumed_bytes = it->acked.bytes;
        it->step = HL_ITEM_DONE;
        hl_transfer_item_finished(it);
        return;
    }
    it->append = !strncmp(mode, "append", 6) && !it->resume;
    if (it->token && !it->resume) {
        discard_old(it);
        return;
    }
    if (!it->resume && it->t->found && hl_transfer_forget_saved(it->t, &err)) {
        hl_item_fail(it, &err);
        return;
    }
    begin_saved(it);
}

/* ---- Target: open ------------------------------------------------------- */

/* --resume append: what is there counts, as far as the user says. */
static int accept_existing(struct hl_item *it, struct hl_error *err)
{
    const char *mode = hl_opts_str(it->t->c.opts, HAUL_OPT_RESUME);
    uint64_t at = it->layout.existing;

    if (mode[6] == '=' && hl_parse_size(mode + 7, &at))
        return hl_err(err, HAUL_E_INVAL, 0, "'%s' is no size", mode + 7);
    if (at > it->layout.existing ||
        (it->size != HL_SIZE_UNKNOWN && at > it->size)) {
        hl_err(err, HAUL_E_RESUME, 0,
               "cannot append at %" PRIu64 ": the target has %" PRIu64
               " bytes, the source %" PRIu64,
               at, it->layout.existing, it->size);
        return hl_err_hint(err, "The target does not look like a prefix of "
                                "this source.");
    }
    it->append_tail = at;
    it->append_at = at / it->chunk_size * it->chunk_size;
    if (at == it->size)
        it->append_at = at;
    return hl_ranges_add(&it->acked, 0, it->append_at);
}

/* ---- --resume append: is what stands there a prefix? -------------------- */

/* What stands there is the user's and stays as it is. */
static void refuse_append(struct hl_item *it, const struct hl_error *err)
{
    hl_ranges_clear(&it->acked);
    hl_item_fail(it, err);
}

static void start_moving(struct hl_item *it)
{
    struct hl_error err = {0};

    if (hl_item_count_resumed(it)) {
        hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
        hl_item_fail(it, &err);
        return;
    }
    it->was_open = true;
    hl_item_move(it);
}

static void appended(struct hl_item *it)
{
    struct hl_error err = {0};

    /* The next run need not send the prefix either. */
    if (hl_saved_begin(it, &err)) {
        refuse_append(it, &err);
        return;
    }
    it->target_open = true;
    start_moving(it);
}

/* The target's tail stays in the second half of the sample, the source's goes
 * to the first. */
static void compare_tails(struct hl_item *it)
{
    uint32_t len = (uint32_t)hl_min(TAIL_BYTES, it->append_tail);
    bool same = !memcmp(it->sample, it->sample + TAIL_BYTES, len);
    struct hl_error err = {0};

    hl_free(it->sample);
    it->sample = NULL;
    if (same) {
        appended(it);
        return;
    }
    hl_err(&err, HAUL_E_RESUME, 0,
           "the last bytes of the target '%s' are not those of the source",
           it->t->target_name);
    hl_err_hint(&err, "It is no prefix of this source; copy it anew with "
                      "--resume never.");
    refuse_append(it, &err);
}

static void read_tail(struct hl_item *it, struct hl_object *from, uint8_t *data,
                      void (*done)(struct hl_op *op),
                      void (*again)(struct hl_item *it))
{
    uint32_t len = (uint32_t)hl_min(TAIL_BYTES, it->append_tail);

    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.io.op, done, again);
    it->u.io.offset = it->append_tail - len + it->sample_len;
    it->u.io.len = len - it->sample_len;
    it->u.io.run_end = it->u.io.offset + it->u.io.len;
    it->u.io.data = data + it->sample_len;
    hl_driver_read(from, &it->u.io);
}

static bool tail_whole(struct hl_item *it)
{
    uint32_t len = (uint32_t)hl_min(TAIL_BYTES, it->append_tail);

    it->sample_len += it->u.io.done;
    if (it->sample_len < len && it->u.io.done > 0)
        return false;
    it->sample_len = 0;
    return true;
}

static void source_tail(struct hl_item *it);

static void on_source_tail(struct hl_op *op)
{
    struct hl_item *it = op->user;

    if (!hl_item_home(it, op))
        return;
    if (tail_whole(it))
        compare_tails(it);
    else
        source_tail(it);
}

static void source_tail(struct hl_item *it)
{
    read_tail(it, it->source, it->sample, on_source_tail, source_tail);
}

static void target_tail(struct hl_item *it);

static void on_target_tail(struct hl_op *op)
{
    struct hl_item *it = op->user;

    if (!hl_item_home(it, op))
        return;
    if (tail_whole(it))
        source_tail(it);
    else
        target_tail(it);
}

static void target_tail(struct hl_item *it)
{
    read_tail(it, it->target, it->sample + TAIL_BYTES, on_target_tail,
              target_tail);
}

static void check_tails(struct hl_item *it)
{
    struct hl_error err = {0};

    if (!it->append_tail || !(it->layout.caps & HL_CAP_READBACK) ||
        !(it->source_caps & HL_CAP_SEEK)) {
        appended(it);
        return;
    }
    it->sample = hl_calloc(2, TAIL_BYTES);
    if (it->sample) {
        target_tail(it);
        return;
    }
    hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
    hl_item_fail(it, &err);
}

/* ---- The target is open ------------------------------------------------- */

/* Who sends a terabyte should know what a break costs. */
static void warn_of_late(struct hl_item *it)
{
    int64_t tries = hl_opts_i64(it->t->c.opts, HAUL_OPT_RETRIES);
    struct hl_error w = {0};

    if (!hl_item_is_late(it) || it->size == 0)
        return;
    hl_err(&w, HAUL_E_NOTSUP, 0, "'%s' confirms nothing before its end",
           it->t->target_name);
    if (!(it->source_caps & HL_CAP_SEEK))
        hl_err_hint(&w, "The source cannot be read again: after an "
                        "interruption there is no retry.");
    else if (tries == 0)
        hl_err_hint(&w, "With --retries 0 an interruption is the end.");
    else
        hl_err_hint(&w,
                    "An interruption sends everything again, at most %" PRId64
                    " time%s (--retries).",
                    tries, tries == 1 ? "" : "s");
    hl_transfer_warn(it->t, &w);
}

/* Is there room for what must be held at once, until the target confirms it or
 * the end is known? */
static int check_room(struct hl_item *it, struct hl_error *err)
{
    bool late = it->layout.caps & HL_CAP_LATE;
    uint64_t part = hl_parts_len_max(&it->layout.parts), want = 0;

    if (it->source_caps & HL_CAP_SEEK)
        return 0;
    /* It was promised that so much can be kept (hold_max). */
    if (it->layout.caps & HL_CAP_TELLS)
        hl_transfer_room(it->t, hl_transfer_room_max(it->t));
    if (late && part)
        want = hl_min(part, it->size);
    if (it->size == HL_SIZE_UNKNOWN && (late || part))
        want += want ? it->chunk_size : 2 * it->chunk_size;
    if (want == 0 || hl_transfer_room(it->t, want))
        return 0;
    hl_err(err, HAUL_E_LIMIT, 0,
           "the source cannot be read again, and %" PRIu64
           " bytes of it do not fit into the memory",
           want);
    return hl_err_hint(err, "Give --memory more than that, or write it to a "
                            "file first.");
}

/* What a part may keep: the pool without a chunk that is read and one that is
 * on its way. */
static uint64_t hold_max(const struct hl_item *it)
{
    uint64_t room = hl_transfer_room_max(it->t), chunk = it->chunk_size;

    if (it->source_caps & HL_CAP_SEEK)
        return UINT64_MAX;
    return room > 2 * chunk ? (room - 2 * chunk) / chunk * chunk : 0;
}

/* What cannot be done as asked is said before the first byte moves. */
static int check_target(struct hl_item *it, struct hl_error *err)
{
    if (strcmp(hl_item_verify_mode(it), "readback") != 0 ||
        (it->layout.caps & HL_CAP_READBACK))
        return check_room(it, err);
    hl_err(err, HAUL_E_NOTSUP, 0, "the target '%s' cannot be read back",
           it->t->target_name);
    return hl_err_hint(err, "Leave --verify out; a manifest (--manifest FILE) "
                            "compares it later, where it can be read.");
}

static void opened(struct hl_item *it)
{
    struct hl_error err = {0};

    if (check_target(it, &err)) {
        hl_item_fail(it, &err);
        return;
    }
    if (!it->was_open)
        warn_of_late(it);
    if (it->append)
        check_tails(it);
    else
        start_moving(it);
}

static void on_probed(struct hl_op *op)
{
    struct hl_item *it = op->user;

    it->remote_able = op->rc == 0;
    /* The source's server says what it should be, or the target compares. */
    if (op->rc == HAUL_E_NOTSUP &&
        (it->offered || (it->layout.caps & HL_CAP_COMPARES)))
        op->rc = 0;
    if (op->rc == HAUL_E_NOTSUP)
        hl_err_hint(&op->error, "Use --verify readback, or leave it out.");
    if (hl_item_home(it, op))
        opened(it);
}

/* What cannot be verified as asked is said before the first byte moves. */
static void probe_remote(struct hl_item *it)
{
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &it->u.remote.op, on_probed, probe_remote);
    it->u.remote.algorithm = it->t->c.digest->name;
    it->u.remote.probe = true;
    hl_driver_remote_digest(it->target, &it->u.remote);
}

/* Parts are made of chunks. */
static int check_layout(const struct hl_item *it, struct hl_error *err)
{
    const struct hl_parts *p = &it->layout.parts;
    uint64_t chunk = it->chunk_size;

    if (p->size % chunk == 0 &&
        (!p->grow ||
         (p->size && p->size_max >= p->size && p->size_max % p->size == 0)))
        return 0;
    return hl_err(err, HAUL_E_INVAL, 0,
                  "the chunk size does not divide the part size %" PRIu64,
                  p->size);
}

static void on_target_open(struct hl_op *op)
{
    struct hl_item *it = op->user;
    bool resumed = it->u.open.resume;
    struct hl_error err = {0};
    int rc;

    hl_saved_take_notes(it);
    /* Until it is accepted nothing is done to what is appended to. */
    if (!op->rc)
        it->target_open = !it->append;
    if (op->rc == HAUL_E_LOST && resumed && it->step != HL_ITEM_ENDING) {
        it->op_out = false;
        err = op->error;
        hl_item_open_lost(it, &err);
        return;
    }
    if (!hl_item_home(it, op))
        return;
    it->layout = it->u.open.layout;
    it->retry.answered = true;
    if (it->layout.fresh && hl_item_was_committed(it)) {
        hl_item_committed_before(it);
        return;
    }
    rc = check_layout(it, &err);
    if (rc == 0 && it->append && !it->layout.fresh)
        rc = accept_existing(it, &err);
    else if (rc == 0)
        rc = hl_item_reconcile(it, resumed, &err);
    if (rc) {
        hl_err(&err, rc, 0, "%s", haul_err_text(rc));
        if (it->append)
            refuse_append(it, &err);
        else
            hl_item_fail(it, &err);
        return;
    }
    if (!strcmp(hl_item_verify_mode(it), "remote") && it->t->c.digest &&
        !it->was_open)
        probe_remote(it);
    else
        opened(it);
}

void hl_item_open_target(struct hl_item *it)
{
    struct hl_open *o = &it->u.open;
    struct hl_error err = {0};

    if (hl_saved_give_notes(it)) {
        hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
        hl_item_fail(it, &err);
        return;
    }
    hl_ranges_clear(&it->confirmed);
    memset(&it->u, 0, sizeof(it->u));
    hl_item_submit(it, &o->op, on_target_open, hl_item_open_target);
    o->size = it->size;
    o->chunk_size = it->chunk_size;
    o->id = it->id;
    /* An open that was cut off may have made the file already. */
    o->name = source_name(it);
    o->mtime_ns = it->identity.mtime_ns;
    o->token = it->token;
    o->resume = it->token != NULL;
    o->notes = it->given;
    o->note_count = it->given ? it->note_count : 0;
    o->hold_max = hold_max(it);
    o->append = it->append;
    o->no_clobber = hl_opts_i64(it->t->c.opts, HAUL_OPT_NO_CLOBBER);
    o->in_order = hl_opts_i64(it->t->c.opts, HAUL_OPT_IN_ORDER);
    o->mode = it->identity.mode;
    o->confirmed = &it->confirmed;
    hl_driver_open(it->target, o);
}

void hl_item_open(struct hl_item *it)
{
    open_source(it);
}
