/*
 * Driver "faulty": any other driver, with faults, for tests.
 *
 *   faulty:OPTIONS:INNER     OPTIONS is "key=value,…", may be empty
 *
 *   seed=N         of the random numbers that decide everything
 *   read_error=P write_error=P open_error=P commit_error=P sync_error=P
 *                  the operation fails with RESET, REMOTE_IO or REMOTE_BUSY
 *   commit_lost=P  the commit is done, its answer is lost with the connection
 *   cut=P          a write that fails has arrived at its beginning, which only
 *                  the inner driver knows (of targets that tell, not LATE)
 *   short=P        a read brings less (not of ordered sources)
 *   flip=P         a read brings one wrong bit
 *   lost=P         an acknowledgement, or a piece of it, becomes a loss
 *   hang=P         an operation or (not of ordered streams) an acknowledgement
 *                  waits for unstall()
 *   reorder=P      acknowledgements come in two halves, late, the second first
 *   dup=P          an acknowledgement comes twice
 *   delay_us=N     operations start up to that much later
 *   after=SIZE     no fault before so many bytes were read or written
 *   once=1         one fault, then none
 *
 * P is a probability such as 0.01. With the same seed and the same calls the
 * same happens. Ordered objects keep their order: behind a write that failed,
 * the rest of the part fails as it would on a broken connection, until the
 * engine comes back to the place. Of a LATE target all that was taken of the
 * part is lost then, and the place is its beginning. A read that is not where
 * an earlier one's run_end said that reads would go on fails with BUG.
 *
 * Threads: none; everything is on the engine thread. What the inner driver
 * answers is passed on at once, which keeps its order; what is made up here
 * goes through the loop.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "drivers.h"
#include "faulty.h"
#include "random.h"
#include "ranges.h"

static const size_t kind_size[FAULTY_COUNT] = {
    sizeof(struct hl_stat),         sizeof(struct hl_open),
    sizeof(struct hl_io),           sizeof(struct hl_io),
    sizeof(struct hl_op),           sizeof(struct hl_commit),
    sizeof(struct hl_suspend),      sizeof(struct hl_op),
    sizeof(struct hl_remote_digest)};

struct inner_endpoint {
    struct hl_node node;
    struct hl_url url;
    struct hl_endpoint *ep;
};

struct faulty_endpoint {
    struct hl_endpoint base;
    struct hl_list inner;
};

static struct hl_loop *loop_of(const struct faulty_object *obj)
{
    return obj->base.endpoint->env->loop;
}

/* ---- Decisions ---------------------------------------------------------- */

bool hl_faulty_roll(struct faulty_object *obj, uint64_t rate)
{
    if (!rate || obj->bytes < obj->opts.after ||
        (obj->opts.once && obj->spent) ||
        hl_random_below(&obj->random, FAULTY_RATE_ONE) >= rate)
        return false;
    obj->spent = true;
    return true;
}

static int pick_code(struct faulty_object *obj)
{
    static const int codes[] = {HAUL_E_RESET, HAUL_E_REMOTE_IO,
                                HAUL_E_REMOTE_BUSY};

    return codes[hl_random_below(&obj->random, HL_LEN(codes))];
}

static bool may_hang(enum faulty_kind kind)
{
    return kind == FAULTY_OPEN || kind == FAULTY_READ || kind == FAULTY_WRITE ||
           kind == FAULTY_SYNC || kind == FAULTY_COMMIT;
}

static void make_plan(struct faulty_object *obj, struct faulty_op *f)
{
    struct faulty_plan *p = &f->plan;

    if (f->kind == FAULTY_READ || f->kind == FAULTY_WRITE)
        obj->bytes += f->in.io.len;
    if (hl_faulty_roll(obj, obj->opts.error[f->kind])) {
        p->code = pick_code(obj);
        p->len = hl_faulty_arrives(f);
        return;
    }
    /* An acknowledgement that hangs holds up what has to wait for it. */
    if ((f->kind == FAULTY_SYNC || f->kind == FAULTY_COMMIT) && obj->held.count)
        p->hang = true;
    else if (may_hang(f->kind))
        p->hang = hl_faulty_roll(obj, obj->opts.hang);
    if (p->hang || f->kind != FAULTY_READ)
        return;
    if (!(obj->caps & HL_CAP_ORDERED) && f->in.io.len > 1 &&
        hl_faulty_roll(obj, obj->opts.shorter))
        p->len = 1 + (uint32_t)hl_random_below(&obj->random, f->in.io.len - 1);
    if (hl_faulty_roll(obj, obj->opts.flip))
        p->flip = hl_random_next(&obj->random) | 1;
}

static void plan_stream(struct faulty_object *obj, struct faulty_op *f)
{
    if (hl_faulty_is_broken(f))
        return;
    make_plan(obj, f);
    if (f->plan.code || f->plan.hang)
        hl_faulty_note_break(f, f->plan);
}

/* ---- Operations --------------------------------------------------------- */

static void fail(struct faulty_op *f, int code)
{
    static const char *const names[FAULTY_COUNT] = {
        "stat",   "open",    "read",    "write", "sync",
        "commit", "suspend", "discard", "digest"};
    struct hl_op *outer = f->outer;

    hl_err(&outer->error, code, 0, "'faulty' %s: %s", names[f->kind],
           haul_err_text(code));
    hl_op_finish(loop_of(f->obj), outer, code);
    hl_free(f);
}

/* Copies everything but the base. */
static void copy_op(struct hl_op *to, const struct hl_op *from,
                    enum faulty_kind kind)
{
    memcpy((char *)to + sizeof(*to), (const char *)from + sizeof(*from),
           kind_size[kind] - sizeof(*to));
}

static void flush_acks(struct faulty_object *obj);

/* On a connection that is broken by now nothing arrives any more. */
static void late_written(struct faulty_op *f, struct hl_op *op)
{
    struct hl_io *io = &f->in.io;

    if (op->rc)
        return;
    if (hl_faulty_break(f) ||
        hl_ranges_add(&f->obj->taken, io->offset, io->offset + io->len))
        op->rc = hl_err(&op->error,
                        f->obj->aborting ? HAUL_E_CANCELED : HAUL_E_RESET, 0,
                        "'faulty' lost the connection");
}

/* Some of a write that fails is there, or not even that. */
static void arrived(struct faulty_op *f, const struct hl_op *op)
{
    struct faulty_object *obj = f->obj;
    const struct hl_io *io = &f->in.io;
    int code = op->rc ? op->rc : f->plan.code;

    if (!op->rc && hl_ranges_add(&obj->quiet, io->offset, io->offset + io->len))
        code = HAUL_E_NOMEM;
    fail(f, code);
}

/* The inner driver answered. */
static void inner_done(struct hl_op *op)
{
    struct faulty_op *f = op->user;
    struct hl_op *outer = f->outer;
    struct hl_io *io = &f->in.io;
    uint64_t bit;

    if (f->kind == FAULTY_WRITE && f->plan.code) {
        arrived(f, op);
        return;
    }
    if (f->kind == FAULTY_READ && f->plan.flip && !op->rc && io->done) {
        bit = (f->plan.flip >> 1) % (UINT64_C(8) * io->done);
        io->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    if (f->kind == FAULTY_READ)
        io->len = HL_CONTAINER(outer, struct hl_io, op)->len;
    if (f->kind == FAULTY_SYNC || f->kind == FAULTY_COMMIT ||
        f->kind == FAULTY_SUSPEND)
        flush_acks(f->obj);
    if (f->kind == FAULTY_OPEN && !op->rc) {
        f->obj->caps = f->in.open.layout.caps;
        f->obj->one_part = f->obj->base.role == HL_ROLE_SOURCE ||
                           !f->in.open.layout.parts.size;
        f->obj->parts = f->in.open.layout.parts;
    }
    if (f->kind == FAULTY_WRITE && hl_faulty_is_late(f->obj))
        late_written(f, op);
    copy_op(outer, op, f->kind);
    outer->rc = op->rc;
    outer->error = op->error;
    if (f->kind == FAULTY_COMMIT && !op->rc &&
        hl_faulty_roll(f->obj, f->obj->opts.commit_lost))
        outer->rc = hl_err(&outer->error, HAUL_E_RESET, 0,
                           "'faulty' lost the answer to the commit");
    hl_free(f);
    outer->done(outer);
}

static void send_inner(struct faulty_op *f)
{
    struct hl_object *inner = f->obj->inner;

    switch (f->kind) {
    case FAULTY_STAT:
        hl_driver_stat(inner, &f->in.stat);
        break;
    case FAULTY_OPEN:
        hl_driver_open(inner, &f->in.open);
        break;
    case FAULTY_READ:
        hl_driver_read(inner, &f->in.io);
        break;
    case FAULTY_WRITE:
        hl_driver_write(inner, &f->in.io);
        break;
    case FAULTY_SYNC:
        hl_driver_sync(inner, &f->in.op);
        break;
    case FAULTY_COMMIT:
        hl_driver_commit(inner, &f->in.commit);
        break;
    case FAULTY_SUSPEND:
        hl_driver_suspend(inner, &f->in.suspend);
        break;
    case FAULTY_DISCARD:
        hl_driver_discard(inner, f->token, &f->in.op);
        break;
    case FAULTY_DIGEST:
    case FAULTY_COUNT:
        hl_driver_remote_digest(inner, &f->in.digest);
        break;
    }
}

static void launch(struct faulty_op *f)
{
    if (f->plan.code && !f->plan.len) {
        fail(f, f->plan.code);
        return;
    }
    if (f->plan.hang) {
        hl_list_append(&f->obj->hung, &f->node);
        return;
    }
    f->in.op.done = inner_done;
    f->in.op.user = f;
    if (f->plan.len)
        f->in.io.len = f->plan.len;
    if (f->plan.code)
        f->in.io.part_end = false;
    send_inner(f);
}

static void launch_due(struct hl_timer *timer)
{
    struct faulty_op *f = HL_CONTAINER(timer, struct faulty_op, timer);

    hl_list_remove(&f->node);
    launch(f);
}

static void submit(struct hl_object *base, enum faulty_kind kind,
                   struct hl_op *op, const char *token)
{
    struct faulty_object *obj = (struct faulty_object *)base;
    struct faulty_op *f = hl_malloc(sizeof(*f));
    uint64_t at;

    if (!f) {
        hl_op_finish(loop_of(obj), op, HAUL_E_NOMEM);
        return;
    }
    f->obj = obj;
    f->outer = op;
    f->kind = kind;
    f->token = token;
    f->timer.fn = launch_due;
    copy_op(&f->in.op, op, kind);
    if (kind == FAULTY_READ && !hl_faulty_run_fits(obj, &f->in.io))
        f->plan.code = HAUL_E_BUG;
    else if (hl_faulty_is_stream(f))
        plan_stream(obj, f);
    else
        make_plan(obj, f);
    if (!obj->opts.delay_us) {
        launch(f);
        return;
    }
    at = hl_loop_now(loop_of(obj)) +
         1000 * hl_random_below(&obj->random, obj->opts.delay_us + 1);
    if (hl_faulty_is_stream(f))
        at = obj->last_ns = hl_max(at, obj->last_ns + 1);
    hl_list_append(&obj->delayed, &f->node);
    hl_timer_set(loop_of(obj), &f->timer, at);
}

static void faulty_stat(struct hl_object *base, struct hl_stat *op)
{
    submit(base, FAULTY_STAT, &op->op, NULL);
}

static void faulty_read(struct hl_object *base, struct hl_io *op)
{
    submit(base, FAULTY_READ, &op->op, NULL);
}

static void faulty_write(struct hl_object *base, struct hl_io *op)
{
    submit(base, FAULTY_WRITE, &op->op, NULL);
}

static void faulty_sync(struct hl_object *base, struct hl_op *op)
{
    submit(base, FAULTY_SYNC, op, NULL);
}

static void faulty_commit(struct hl_object *base, struct hl_commit *op)
{
    submit(base, FAULTY_COMMIT, &op->op, NULL);
}

static void faulty_suspend(struct hl_object *base, struct hl_suspend *op)
{
    submit(base, FAULTY_SUSPEND, &op->op, NULL);
}

static void faulty_discard(struct hl_object *base, const char *token,
                           struct hl_op *op)
{
    submit(base, FAULTY_DISCARD, op, token);
}

static void faulty_remote_digest(struct hl_object *base,
                                 struct hl_remote_digest *op)
{
    submit(base, FAULTY_DIGEST, &op->op, NULL);
}

/* ---- What the inner target reports -------------------------------------- */

static void tell_acked(struct faulty_object *obj, uint64_t offset, uint64_t len)
{
    if (len)
        obj->base.events->acked(obj->base.events_user, offset, len);
}

void hl_faulty_lost(struct faulty_object *obj, uint64_t offset, uint64_t len)
{
    struct hl_error error = {0};

    hl_err(&error, pick_code(obj), 0, "'faulty' lost %" PRIu64 " bytes", len);
    if (len)
        obj->base.events->lost(obj->base.events_user, offset, len, &error);
}

static void free_ack(struct faulty_ack *a)
{
    hl_timer_cancel(&a->timer);
    hl_list_remove(&a->node);
    hl_free(a);
}

static void ack_due(struct hl_timer *timer)
{
    struct faulty_ack *a = HL_CONTAINER(timer, struct faulty_ack, timer);
    struct faulty_object *obj = a->obj;
    uint64_t offset = a->offset, len = a->len;

    free_ack(a);
    tell_acked(obj, offset, len);
}

static void ack_late(struct faulty_object *obj, uint64_t offset, uint64_t len)
{
    struct faulty_ack *a = len ? hl_malloc(sizeof(*a)) : NULL;

    if (!a) {
        tell_acked(obj, offset, len);
        return;
    }
    a->obj = obj;
    a->offset = offset;
    a->len = len;
    a->timer.fn = ack_due;
    hl_list_append(&obj->acks, &a->node);
    hl_timer_set(
        loop_of(obj), &a->timer,
        hl_loop_now(loop_of(obj)) +
            1000 * hl_random_below(&obj->random, obj->opts.delay_us + 1000));
}

static void flush_acks(struct faulty_object *obj)
{
    struct hl_node *n;

    while ((n = hl_list_first(&obj->acks)) != NULL) {
        struct faulty_ack *a = HL_CONTAINER(n, struct faulty_ack, node);

        ack_due(&a->timer);
    }
}

static void on_acked(void *user, uint64_t offset, uint64_t len)
{
    struct faulty_object *obj = user;
    /* The middle of a stream is not lost without what follows. */
    bool stream = (obj->caps & HL_CAP_ORDERED) && !hl_faulty_is_late(obj);
    uint64_t cut;

    if (hl_faulty_is_quiet(obj, offset, len))
        return;
    if (hl_faulty_is_late(obj)) {
        if (!hl_ranges_contains(&obj->taken, offset, offset + len))
            return; /* lost by now */
        hl_ranges_remove(&obj->taken, offset, offset + len);
    }
    if (obj->aborting) {
        tell_acked(obj, offset, len);
    } else if (hl_faulty_roll(obj, obj->opts.lost)) {
        cut = hl_faulty_is_late(obj) || hl_random_below(&obj->random, 2)
                  ? 0
                  : hl_random_below(&obj->random, len);
        tell_acked(obj, offset, cut);
        hl_faulty_lost(obj, offset + cut, len - cut);
    } else if (!stream && hl_faulty_roll(obj, obj->opts.hang)) {
        if (hl_ranges_add(&obj->held, offset, offset + len))
            hl_faulty_lost(obj, offset, len);
    } else if (hl_faulty_roll(obj, obj->opts.reorder)) {
        cut = hl_random_below(&obj->random, len);
        tell_acked(obj, offset + cut, len - cut);
        ack_late(obj, offset, cut);
    } else {
        if (hl_faulty_roll(obj, obj->opts.dup))
            tell_acked(obj, offset, len);
        tell_acked(obj, offset, len);
    }
}

static void on_lost(void *user, uint64_t offset, uint64_t len,
                    const struct hl_error *error)
{
    struct faulty_object *obj = user;
    uint64_t end = offset + hl_min(len, UINT64_MAX - offset);
    struct hl_range r;

    if (!hl_faulty_is_late(obj) || error->code == HAUL_E_LOST) {
        obj->base.events->lost(obj->base.events_user, offset, len, error);
        return;
    }
    /* Of some nobody knows but the inner driver. */
    while (hl_ranges_next(&obj->taken, offset, &r) && r.begin < end) {
        offset = hl_min(r.end, end);
        hl_ranges_remove(&obj->taken, r.begin, offset);
        obj->base.events->lost(obj->base.events_user, r.begin, offset - r.begin,
                               error);
    }
}

static void on_token(void *user, const char *token)
{
    struct faulty_object *obj = user;

    obj->base.events->token(obj->base.events_user, token);
}

static void on_note(void *user, uint64_t part, const char *note)
{
    struct faulty_object *obj = user;

    obj->base.events->note(obj->base.events_user, part, note);
}

static const struct hl_object_events faulty_events = {
    .acked = on_acked,
    .lost = on_lost,
    .token = on_token,
    .note = on_note,
};

static void faulty_open(struct hl_object *base, struct hl_open *op)
{
    struct faulty_object *obj = (struct faulty_object *)base;

    obj->inner->events = &faulty_events;
    obj->inner->events_user = obj;
    submit(base, FAULTY_OPEN, &op->op, NULL);
}

static void faulty_token_saved(struct hl_object *base, int rc)
{
    struct hl_object *inner = ((struct faulty_object *)base)->inner;

    if (inner->driver->token_saved)
        inner->driver->token_saved(inner, rc);
}

static void faulty_note_saved(struct hl_object *base, uint64_t part, int rc)
{
    struct hl_object *inner = ((struct faulty_object *)base)->inner;

    if (inner->driver->note_saved)
        inner->driver->note_saved(inner, part, rc);
}

/* ---- Abort and unstall -------------------------------------------------- */

/* Hands back everything that is held here. */
static void drop_held(struct faulty_object *obj, int code)
{
    struct faulty_plan plan = {.code = code};
    struct hl_error error = {0};
    struct faulty_op *f;
    struct hl_node *n;
    size_t i;

    hl_err(&error, code, 0, "%s", haul_err_text(code));
    while ((n = hl_list_pop(&obj->hung)) != NULL)
        fail(HL_CONTAINER(n, struct faulty_op, node), code);
    while ((n = hl_list_pop(&obj->delayed)) != NULL) {
        f = HL_CONTAINER(n, struct faulty_op, node);
        hl_timer_cancel(&f->timer);
        if (hl_faulty_is_stream(f))
            hl_faulty_note_break(f, plan);
        fail(f, code);
    }
    for (n = hl_list_first(&obj->breaks); n; n = hl_list_next(&obj->breaks, n))
        HL_CONTAINER(n, struct faulty_break, node)->plan = plan;
    for (i = 0; i < obj->held.count; i++)
        hl_object_lost(&obj->base, obj->held.r[i].begin,
                       obj->held.r[i].end - obj->held.r[i].begin, &error);
    hl_ranges_clear(&obj->held);
}

static void faulty_unstall(struct hl_object *base)
{
    struct faulty_object *obj = (struct faulty_object *)base;

    drop_held(obj, HAUL_E_STALLED);
    if (hl_faulty_is_late(obj))
        hl_faulty_lose_all(obj, (struct faulty_plan){.code = HAUL_E_STALLED});
    if (obj->inner->driver->unstall)
        obj->inner->driver->unstall(obj->inner);
}

static void abort_done(struct hl_op *op)
{
    struct faulty_object *obj = op->user;
    struct hl_op *outer = obj->abort_outer;

    outer->rc = 0;
    outer->done(outer);
}

static void faulty_abort(struct hl_object *base, struct hl_op *op)
{
    struct faulty_object *obj = (struct faulty_object *)base;
    struct hl_node *n;

    obj->aborting = true;
    while ((n = hl_list_first(&obj->acks)) != NULL) {
        struct faulty_ack *a = HL_CONTAINER(n, struct faulty_ack, node);

        hl_object_acked(base, a->offset, a->len);
        free_ack(a);
    }
    drop_held(obj, HAUL_E_CANCELED);
    obj->abort_outer = op;
    obj->abort_op.done = abort_done;
    obj->abort_op.user = obj;
    hl_driver_abort(obj->inner, &obj->abort_op);
}

static const struct hl_answer *faulty_answer(struct hl_object *base)
{
    struct hl_object *inner = ((struct faulty_object *)base)->inner;

    return inner->driver->answer ? inner->driver->answer(inner) : NULL;
}

static void faulty_set_streams(struct hl_object *base, uint32_t streams)
{
    struct hl_object *inner = ((struct faulty_object *)base)->inner;

    if (inner->driver->set_streams)
        inner->driver->set_streams(inner, streams);
}

/* Of the first inner endpoint: tests have one. */
static void faulty_flow(struct hl_endpoint *base, struct hl_flow *out)
{
    struct faulty_endpoint *ep = (struct faulty_endpoint *)base;
    struct hl_node *n = hl_list_first(&ep->inner);
    struct hl_endpoint *inner;

    memset(out, 0, sizeof(*out));
    if (!n)
        return;
    inner = HL_CONTAINER(n, struct inner_endpoint, node)->ep;
    if (inner->driver->flow)
        inner->driver->flow(inner, out);
}

/* ---- Endpoints and objects ---------------------------------------------- */

static int inner_endpoint(struct faulty_endpoint *ep, struct hl_url *url,
                          struct hl_endpoint **out, struct hl_error *err)
{
    const struct hl_env *env = ep->base.env;
    const struct hl_driver *driver = env->find(url->scheme);
    struct inner_endpoint *in;
    struct hl_node *n;
    int rc;

    for (n = hl_list_first(&ep->inner); n; n = hl_list_next(&ep->inner, n)) {
        in = HL_CONTAINER(n, struct inner_endpoint, node);
        *out = in->ep;
        if (hl_url_same_endpoint(&in->url, url))
            return 0;
    }
    if (!driver)
        return hl_err(err, HAUL_E_NOTSUP, 0, "no driver for '%s'", url->scheme);
    in = hl_malloc(sizeof(*in));
    if (!in)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    rc = hl_url_copy(url, &in->url);
    if (!rc) {
        rc = driver->endpoint_new(env, url, &in->ep, err);
        if (rc)
            hl_url_fini(&in->url);
    }
    if (rc) {
        hl_free(in);
        return hl_err(err, rc, 0, "%s", haul_err_text(rc));
    }
    hl_list_append(&ep->inner, &in->node);
    *out = in->ep;
    return 0;
}

static int faulty_endpoint_new(const struct hl_env *env,
                               const struct hl_url *url,
                               struct hl_endpoint **out, struct hl_error *err)
{
    struct faulty_endpoint *ep;
    struct faulty_options opts;
    struct hl_url inner;
    int rc = hl_faulty_url_parse(url, &opts, &inner, err);

    if (rc)
        return rc;
    hl_url_fini(&inner);
    ep = hl_malloc(sizeof(*ep));
    if (!ep)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    ep->base.driver = &hl_driver_faulty;
    ep->base.env = env;
    hl_list_init(&ep->inner);
    *out = &ep->base;
    return 0;
}

static void faulty_endpoint_free(struct hl_endpoint *base)
{
    struct faulty_endpoint *ep = (struct faulty_endpoint *)base;
    struct inner_endpoint *in;
    struct hl_node *n;

    while ((n = hl_list_pop(&ep->inner)) != NULL) {
        in = HL_CONTAINER(n, struct inner_endpoint, node);
        in->ep->driver->endpoint_free(in->ep);
        hl_url_fini(&in->url);
        hl_free(in);
    }
    hl_free(ep);
}

static int faulty_object_new(struct hl_endpoint *base, const struct hl_url *url,
                             enum hl_role role, struct hl_object **out,
                             struct hl_error *err)
{
    struct faulty_object *obj = hl_malloc(sizeof(*obj));
    struct hl_endpoint *ep = NULL;
    struct hl_url inner;
    int rc;

    if (!obj)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    rc = hl_faulty_url_parse(url, &obj->opts, &inner, err);
    if (!rc) {
        rc = inner_endpoint((struct faulty_endpoint *)base, &inner, &ep, err);
        if (!rc)
            rc = ep->driver->object_new(ep, &inner, role, &obj->inner, err);
        hl_url_fini(&inner);
    }
    if (rc) {
        hl_free(obj);
        return rc;
    }
    obj->base.driver = &hl_driver_faulty;
    obj->base.endpoint = base;
    obj->base.role = role;
    obj->random.state = obj->opts.seed;
    hl_list_init(&obj->delayed);
    hl_list_init(&obj->hung);
    hl_list_init(&obj->breaks);
    hl_list_init(&obj->acks);
    hl_list_init(&obj->runs);
    hl_ranges_init(&obj->held);
    hl_ranges_init(&obj->taken);
    hl_ranges_init(&obj->quiet);
    *out = &obj->base;
    return 0;
}

static void faulty_close(struct hl_object *base)
{
    struct faulty_object *obj = (struct faulty_object *)base;

    HL_ASSERT(hl_list_empty(&obj->delayed));
    HL_ASSERT(hl_list_empty(&obj->hung));
    HL_ASSERT(hl_list_empty(&obj->acks));
    obj->inner->driver->close(obj->inner);
    hl_faulty_parts_free(obj);
    hl_ranges_fini(&obj->held);
    hl_ranges_fini(&obj->taken);
    hl_ranges_fini(&obj->quiet);
    hl_free(obj);
}

static const char *const faulty_schemes[] = {"faulty", NULL};

const struct hl_driver hl_driver_faulty = {
    .name = "faulty",
    .schemes = faulty_schemes,
    .endpoint_new = faulty_endpoint_new,
    .endpoint_free = faulty_endpoint_free,
    .object_new = faulty_object_new,
    .close = faulty_close,
    .stat = faulty_stat,
    .open = faulty_open,
    .read = faulty_read,
    .write = faulty_write,
    .sync = faulty_sync,
    .commit = faulty_commit,
    .suspend = faulty_suspend,
    .discard = faulty_discard,
    .remote_digest = faulty_remote_digest,
    .token_saved = faulty_token_saved,
    .note_saved = faulty_note_saved,
    .abort = faulty_abort,
    .unstall = faulty_unstall,
    .set_streams = faulty_set_streams,
    .answer = faulty_answer,
    .flow = faulty_flow,
};
