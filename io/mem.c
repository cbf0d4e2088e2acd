/*
 * Driver "mem": sources and targets without a disk or a network, for tests,
 * benchmarks and the engine's simulator.
 *
 *   mem:gen?size=SIZE&seed=N[&text=1]   source, see gen.h
 *   mem:buf?id=NAME[&size=MAX]          a buffer of this process, membuf.h
 *   mem:null[?digest=1]                 target that forgets
 *
 *   any     rtt_us=N    every operation begins that much later
 *           part=SIZE   parts of that size (made a multiple of the chunk)
 *           grow=N part_max=SIZE  they grow after each N, up to that size
 *           streams=N   layout.streams_max
 *   source  seek=0      must be read in ascending order, once
 *           unknown=1   does not tell its size
 *           runs=SIZE   layout.run_max
 *           weak=1      identity.weak
 *           offer=1     offers its xxh128; 2: a wrong one
 *   target  ordered=1   wants ascending writes within a part
 *           late=1      acknowledges whole parts only, as S3 does; with
 *                       ordered=1 as one request each (HL_CAP_LATE), which
 *                       begins anew when its first byte is written again. One
 *                       request for all (no part=) keeps nothing for later
 *           refuse=1    such a part is refused when it is whole
 *           durable=1   claims to be durable
 *           mute=1      cannot tell its digest
 *           blind=1     cannot be read back
 *           tells=1     tells what it has when it is opened again, at any byte
 *                       (LATE: whole parts), and does not take it twice
 *                       (skipped). Of what is under way at an abort a part
 *                       arrives
 *           notes=1     has a note kept of each part before its first byte;
 *                       opened again it wants those that were kept, no others
 *           forget=SIZE once, when so many bytes were written since it was
 *                       opened, it loses the latter half of what it has
 *                       (HAUL_E_LOST, until it is closed); report=1: says so
 *                       with lost(), not with the write's return
 *           gone=1      what is to be opened again and is not there is LOST
 *           claim=N     tells of N bytes more than it has
 *
 * Threads: one per endpoint (worker.h), in virtual time none. mem:null without
 * digest works on the engine thread: it has nothing to do.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "drivers.h"
#include "gen.h"
#include "mem.h"
#include "membuf.h"
#include "ranges.h"
#include "stage.h"
#include "worker.h"

#define TOKEN_TEMPORARY "tmp:"
#define TOKEN_IN_PLACE "place:"

struct mem_endpoint {
    struct hl_endpoint base;
    struct hl_worker *worker;
};

/* An operation that waits for its round trip. */
struct mem_delay {
    struct hl_node node;
    struct hl_timer timer;
    struct mem_object *obj;
    struct hl_op *op;
};

static struct hl_loop *loop_of(const struct mem_object *obj)
{
    return obj->base.endpoint->env->loop;
}

/* ---- Handing over ------------------------------------------------------- */

static void run_op(struct mem_object *obj, struct hl_op *op)
{
    struct mem_endpoint *ep = (struct mem_endpoint *)obj->base.endpoint;

    if (obj->knobs.kind == MEM_NULL && !obj->knobs.digest)
        op->task.fn(&op->task);
    else
        hl_worker_post(ep->worker, &op->task);
}

static void delay_end(struct mem_delay *d)
{
    struct mem_object *obj = d->obj;
    struct hl_op *op = d->op;

    hl_list_remove(&d->node);
    hl_free(d);
    run_op(obj, op);
}

static void delay_due(struct hl_timer *timer)
{
    delay_end(HL_CONTAINER(timer, struct mem_delay, timer));
}

/* Runs fn for op on the worker, a round trip from now. */
static void submit(struct hl_object *base, struct hl_op *op,
                   void (*fn)(struct hl_task *task))
{
    struct mem_object *obj = (struct mem_object *)base;
    struct mem_delay *d = NULL;

    op->driver_data = obj;
    op->task.fn = fn;
    if (obj->knobs.rtt_ns)
        d = hl_malloc(sizeof(*d));
    if (!d) {
        run_op(obj, op);
        return;
    }
    d->obj = obj;
    d->op = op;
    d->timer.fn = delay_due;
    hl_list_append(&obj->delays, &d->node);
    hl_timer_set(loop_of(obj), &d->timer,
                 hl_loop_now(loop_of(obj)) + obj->knobs.rtt_ns);
}

/* ---- Stat and open ------------------------------------------------------ */

static void do_stat(struct hl_task *task)
{
    struct hl_stat *op = HL_CONTAINER(task, struct hl_stat, op.task);
    struct mem_object *obj;
    struct hl_membuf_stat st = {0};

    if (!hl_mem_begin(&op->op, &obj))
        return;
    op->exists = obj->knobs.kind == MEM_GEN;
    if (obj->knobs.kind == MEM_BUF)
        op->exists = hl_membuf_stat(obj->name, &st);
    op->is_folder = false;
    op->size = obj->knobs.kind == MEM_GEN ? obj->knobs.size : st.size;
    op->mtime_ns = st.mtime_ns;
    op->mode = st.mode;
    hl_mem_finish(obj, &op->op, 0);
}

static void mem_stat(struct hl_object *base, struct hl_stat *op)
{
    submit(base, &op->op, do_stat);
}

/* One request that is all or nothing. */
static bool keeps_nothing(const struct mem_object *obj)
{
    return hl_mem_is_late(obj) && obj->knobs.part == 0;
}

static int64_t read_at(struct mem_object *obj, uint64_t offset, uint8_t *data,
                       uint32_t len, struct hl_error *err);

static int offer_digest(struct mem_object *obj, struct hl_identity *id,
                        struct hl_error *err)
{
    XXH128_canonical_t bytes;
    uint8_t block[4096];
    uint64_t at = 0;
    int64_t n;

    XXH3_128bits_reset(obj->xxh);
    for (;;) {
        n = read_at(obj, at, block, sizeof(block), err);
        if (n <= 0)
            break;
        XXH3_128bits_update(obj->xxh, block, (size_t)n);
        at += (uint64_t)n;
    }
    XXH128_canonicalFromHash(&bytes, XXH3_128bits_digest(obj->xxh));
    snprintf(id->offered, sizeof(id->offered), "xxh128");
    memcpy(id->offered_digest, bytes.digest, sizeof(bytes.digest));
    id->offered_digest[0] ^= obj->knobs.offer == 2;
    return (int)n;
}

static int open_source(struct mem_object *obj, struct hl_open *op)
{
    struct hl_identity *id = &op->identity;
    struct hl_membuf_stat st = {0};

    memset(id, 0, sizeof(*id));
    if (obj->knobs.kind == MEM_GEN) {
        st.size = obj->knobs.size;
        snprintf(id->validator, sizeof(id->validator), "seed=%" PRIu64 "%s",
                 obj->knobs.seed, obj->knobs.text ? "t" : "");
    } else if (!hl_membuf_stat(obj->name, &st)) {
        return hl_err(&op->op.error, HAUL_E_READ, 0,
                      "buffer '%s' does not exist", obj->name);
    }
    id->size = obj->knobs.unknown ? HL_SIZE_UNKNOWN : st.size;
    id->mtime_ns = st.mtime_ns;
    id->mode = st.mode;
    id->weak = obj->knobs.weak;
    op->layout.caps = obj->knobs.seek ? HL_CAP_SEEK : HL_CAP_ORDERED;
    op->layout.run_max = obj->knobs.runs;
    return obj->knobs.offer ? offer_digest(obj, id, &op->op.error) : 0;
}

static int open_target(struct mem_object *obj, struct hl_open *op)
{
    struct hl_layout *layout = &op->layout;
    struct hl_membuf_stat st = {0};
    int rc;

    layout->caps = HL_CAP_SEEK | (obj->knobs.ordered ? HL_CAP_ORDERED : 0) |
                   (obj->knobs.durable ? HL_CAP_DURABLE : 0) |
                   (hl_mem_is_late(obj) ? HL_CAP_LATE : 0);
    if (obj->knobs.kind == MEM_NULL) {
        layout->caps |= HL_CAP_NULL;
        return 0;
    }
    if (!keeps_nothing(obj))
        layout->caps |= (obj->knobs.blind ? 0 : HL_CAP_READBACK) |
                        HL_CAP_RESUME | (obj->in_place ? HL_CAP_IN_PLACE : 0);
    if (op->no_clobber && !op->resume && !op->append &&
        hl_membuf_stat(obj->name, NULL))
        return hl_err(&op->op.error, HAUL_E_EXISTS, 0, "'%s' exists",
                      obj->name);
    layout->fresh = obj->fresh;
    if (!obj->create && hl_membuf_stat(obj->work, &st)) {
        layout->existing = st.size;
        return hl_mem_tells_open(obj, op, false);
    }
    if (op->resume && op->token && obj->knobs.gone)
        return hl_err(&op->op.error, HAUL_E_LOST, 0, "'%s' is not there",
                      obj->name);
    rc = hl_membuf_create(obj->work, op->mode, &op->op.error);
    if (!rc && (op->resume || op->append))
        layout->fresh = true;
    return rc ? rc : hl_mem_tells_open(obj, op, true);
}

/* As the knobs say, in whole chunks. */
static struct hl_parts cut_of(const struct mem_object *obj, uint64_t chunk)
{
    struct hl_parts p = {(obj->knobs.part + chunk - 1) / chunk * chunk, 0, 0};

    if (!p.size || !obj->knobs.grow)
        return p;
    p.grow = (uint32_t)obj->knobs.grow;
    p.size_max = hl_max(obj->knobs.part_max / p.size, 1) * p.size;
    return p;
}

static void do_open(struct hl_task *task)
{
    struct hl_open *op = HL_CONTAINER(task, struct hl_open, op.task);
    struct mem_object *obj;
    uint64_t chunk = hl_max(op->chunk_size, 1);
    int rc;

    if (!hl_mem_begin(&op->op, &obj))
        return;
    memset(&op->layout, 0, sizeof(op->layout));
    obj->cut = op->layout.parts = cut_of(obj, chunk);
    op->layout.streams_max = (uint32_t)obj->knobs.streams;
    if (obj->base.role == HL_ROLE_SOURCE)
        rc = open_source(obj, op);
    else
        rc = open_target(obj, op);
    if (!rc && obj->knobs.digest)
        XXH3_128bits_reset(obj->xxh);
    hl_mem_finish(obj, &op->op, rc);
}

/* The buffer that token names, inside token; NULL: not one of ours. */
static const char *token_name(const struct mem_object *obj, const char *token)
{
    size_t n = strlen(obj->name);
    const char *name;

    if (!strncmp(token, TOKEN_IN_PLACE, strlen(TOKEN_IN_PLACE))) {
        name = token + strlen(TOKEN_IN_PLACE);
        return strcmp(name, obj->name) ? NULL : name;
    }
    if (strncmp(token, TOKEN_TEMPORARY, strlen(TOKEN_TEMPORARY)))
        return NULL;
    name = token + strlen(TOKEN_TEMPORARY);
    return strncmp(name, obj->name, n) || name[n] != '.' ? NULL : name;
}

/* Decides where to write. *token: to be kept first, or NULL. */
static int choose_work(struct mem_object *obj, struct hl_open *op, char **token)
{
    const char *name = NULL;

    hl_free(obj->work); /* of an open that failed */
    obj->work = NULL;
    obj->create = obj->in_place = false;
    if (op->resume && op->token) {
        name = token_name(obj, op->token);
        if (!name)
            return hl_err(&op->op.error, HAUL_E_RESUME, 0,
                          "'%s' was not begun here", obj->name);
        obj->work = hl_strdup(name);
        obj->in_place = !strcmp(name, obj->name);
    } else if (keeps_nothing(obj)) {
        if (op->append)
            return hl_err(&op->op.error, HAUL_E_NOTSUP, 0,
                          "'%s' cannot be appended to", obj->name);
        obj->create = true;
        obj->work = hl_asprintf("%s.haul-%s", obj->name, op->id ? op->id : "0");
    } else if (op->append || op->in_order) {
        obj->in_place = true;
        obj->create = !op->append;
        obj->work = hl_strdup(obj->name);
        if (obj->create)
            *token = hl_asprintf(TOKEN_IN_PLACE "%s", obj->name);
    } else {
        obj->create = true;
        obj->work = hl_asprintf("%s.haul-%s", obj->name, op->id ? op->id : "0");
        *token = hl_asprintf(TOKEN_TEMPORARY "%s", obj->work);
    }
    obj->knobs.ordered |= op->in_order;
    obj->fresh = op->resume && obj->create;
    if (!obj->work || (obj->create && !*token && !keeps_nothing(obj)))
        return hl_err(&op->op.error, HAUL_E_NOMEM, 0, "out of memory");
    return 0;
}

static void mem_open(struct hl_object *base, struct hl_open *op)
{
    struct mem_object *obj = (struct mem_object *)base;
    char *token = NULL;
    int rc = 0;

    if (obj->knobs.kind == MEM_BUF && base->role == HL_ROLE_TARGET)
        rc = choose_work(obj, op, &token);
    if (rc) {
        hl_mem_finish(obj, &op->op, rc);
    } else if (token) {
        obj->waiting = op;
        hl_object_token(base, token);
    } else {
        submit(base, &op->op, do_open);
    }
    hl_free(token);
}

static void mem_token_saved(struct hl_object *base, int rc)
{
    struct mem_object *obj = (struct mem_object *)base;
    struct hl_open *op = obj->waiting;

    obj->waiting = NULL;
    if (op && rc)
        hl_mem_finish(obj, &op->op, rc);
    else if (op)
        submit(base, &op->op, do_open);
}

/* ---- Bytes -------------------------------------------------------------- */

static int64_t read_at(struct mem_object *obj, uint64_t offset, uint8_t *data,
                       uint32_t len, struct hl_error *err)
{
    const char *name = obj->work ? obj->work : obj->name;
    uint64_t size = obj->knobs.size, n;

    if (obj->knobs.kind == MEM_BUF)
        return hl_membuf_read(name, offset, data, len, err);
    if (obj->knobs.kind == MEM_NULL)
        return hl_err(err, HAUL_E_NOTSUP, 0, "'mem:null' cannot be read");
    n = offset < size ? hl_min(len, size - offset) : 0;
    hl_gen_fill(obj->knobs.seed, obj->knobs.text, offset, data, n);
    return (int64_t)n;
}

static void do_read(struct hl_task *task)
{
    struct hl_io *op = HL_CONTAINER(task, struct hl_io, op.task);
    struct mem_object *obj;
    int64_t n;

    if (!hl_mem_begin(&op->op, &obj))
        return;
    op->done = 0;
    op->eof = false;
    if (!obj->knobs.seek && obj->base.role == HL_ROLE_SOURCE &&
        op->offset != obj->next && obj->next < obj->knobs.size) {
        hl_mem_finish(obj, &op->op,
                      hl_err(&op->op.error, HAUL_E_NOTSUP, 0,
                             "'%s' cannot be read at %" PRIu64, obj->name,
                             op->offset));
        return;
    }
    n = read_at(obj, op->offset, op->data, op->len, &op->op.error);
    if (n >= 0) {
        op->done = (uint32_t)n;
        op->eof = op->done < op->len;
        obj->next = op->offset + op->done;
    }
    hl_mem_finish(obj, &op->op, n < 0 ? (int)n : 0);
}

static void mem_read(struct hl_object *base, struct hl_io *op)
{
    submit(base, &op->op, do_read);
}

static void mem_write(struct hl_object *base, struct hl_io *op)
{
    struct mem_object *obj = (struct mem_object *)base;
    enum mem_hold hold = hl_mem_note_hold(obj, op);

    if (hold == MEM_NO_MEMORY)
        hl_mem_finish(obj, &op->op, HAUL_E_NOMEM);
    else if (hold == MEM_GO)
        submit(base, &op->op, hl_mem_do_write);
}

static void mem_note_saved(struct hl_object *base, uint64_t part, int rc)
{
    struct mem_object *obj = (struct mem_object *)base;
    struct hl_list writes;
    struct hl_node *n;

    hl_list_init(&writes);
    rc = hl_mem_note_kept(obj, part, rc, &writes);
    while ((n = hl_list_pop(&writes))) {
        struct hl_op *op = HL_CONTAINER(n, struct hl_op, node);

        if (rc)
            hl_mem_finish(obj, op, rc);
        else
            submit(base, op, hl_mem_do_write);
    }
}

/* ---- The end ------------------------------------------------------------ */

static void do_sync(struct hl_task *task)
{
    struct hl_op *op = HL_CONTAINER(task, struct hl_op, task);
    struct mem_object *obj;

    if (!hl_mem_begin(op, &obj))
        return;
    if (hl_mem_is_late(obj)) {
        hl_mem_finish(obj, op, HAUL_E_NOTSUP);
        return;
    }
    hl_mem_parts_settle(obj, 0);
    hl_mem_finish(obj, op, 0);
}

static void mem_sync(struct hl_object *base, struct hl_op *op)
{
    submit(base, op, do_sync);
}

static int commit_buf(struct mem_object *obj, struct hl_commit *op)
{
    struct hl_error *err = &op->op.error;
    struct hl_membuf_stat st;
    int rc;

    if (!obj->work || !hl_membuf_stat(obj->work, &st))
        return hl_err(err, HAUL_E_REMOTE, 0, "'%s' is committed or gone",
                      obj->name);
    if (st.size != op->size)
        return hl_err(err, HAUL_E_DIGEST, 0,
                      "'%s' has %" PRIu64 " bytes instead of %" PRIu64,
                      obj->name, st.size, op->size);
    rc = hl_mem_tells_commit(obj, op->size, err);
    if (!rc)
        rc = hl_membuf_set(obj->work, op->mtime_ns, op->mode, err);
    if (!rc && !obj->in_place)
        rc = hl_membuf_rename(obj->work, obj->name, op->no_clobber, err);
    if (rc)
        return rc;
    op->size_checked = true;
    hl_free(obj->work);
    obj->work = NULL;
    return 0;
}

static void do_commit(struct hl_task *task)
{
    struct hl_commit *op = HL_CONTAINER(task, struct hl_commit, op.task);
    struct mem_object *obj;
    int rc = 0;

    if (!hl_mem_begin(&op->op, &obj))
        return;
    hl_mem_parts_settle(obj, hl_mem_is_late(obj) ? HAUL_E_PROTO : 0);
    op->size_checked = false;
    if (obj->knobs.kind == MEM_BUF)
        rc = commit_buf(obj, op);
    op->durable = !rc && obj->knobs.durable;
    hl_mem_finish(obj, &op->op, rc);
}

static void mem_commit(struct hl_object *base, struct hl_commit *op)
{
    submit(base, &op->op, do_commit);
}

static void do_suspend(struct hl_task *task)
{
    struct hl_suspend *op = HL_CONTAINER(task, struct hl_suspend, op.task);
    struct mem_object *obj;
    int rc = 0;

    if (!hl_mem_begin(&op->op, &obj))
        return;
    hl_mem_parts_settle(obj, hl_mem_is_late(obj) ? HAUL_E_CANCELED : 0);
    if (obj->work && obj->in_place) {
        hl_mem_tells_cut(obj, op->contiguous);
        rc = hl_membuf_truncate(obj->work, op->contiguous, &op->op.error);
    }
    hl_mem_finish(obj, &op->op, rc);
}

static void mem_suspend(struct hl_object *base, struct hl_suspend *op)
{
    submit(base, &op->op, do_suspend);
}

static void do_discard(struct hl_task *task)
{
    struct hl_op *op = HL_CONTAINER(task, struct hl_op, task);
    struct mem_object *obj;

    if (!hl_mem_begin(op, &obj))
        return;
    hl_membuf_remove(obj->discard);
    hl_mem_finish(obj, op, 0);
}

static void mem_discard(struct hl_object *base, const char *token,
                        struct hl_op *op)
{
    struct mem_object *obj = (struct mem_object *)base;
    const char *name = token ? token_name(obj, token) : NULL;

    if (!name) {
        hl_mem_finish(obj, op, 0);
        return;
    }
    hl_free(obj->discard);
    obj->discard = hl_strdup(name);
    if (!obj->discard)
        hl_mem_finish(obj, op, HAUL_E_NOMEM);
    else
        submit(base, op, do_discard);
}

static int digest_buf(struct mem_object *obj, struct hl_error *err)
{
    const char *name = obj->work ? obj->work : obj->name;
    uint8_t block[4096];
    uint64_t at = 0;
    int64_t n;

    XXH3_128bits_reset(obj->xxh);
    for (;;) {
        n = hl_membuf_read(name, at, block, sizeof(block), err);
        if (n <= 0)
            return (int)n;
        XXH3_128bits_update(obj->xxh, block, (size_t)n);
        at += (uint64_t)n;
    }
}

static void do_remote_digest(struct hl_task *task)
{
    struct hl_remote_digest *op =
        HL_CONTAINER(task, struct hl_remote_digest, op.task);
    struct mem_object *obj;
    XXH128_canonical_t bytes;
    int rc;

    if (!hl_mem_begin(&op->op, &obj))
        return;
    if (strcmp(op->algorithm, "xxh128") || obj->knobs.kind == MEM_GEN ||
        obj->knobs.mute ||
        (obj->knobs.kind == MEM_NULL &&
         (!obj->knobs.digest || obj->next == UINT64_MAX))) {
        hl_mem_finish(obj, &op->op, HAUL_E_NOTSUP);
        return;
    }
    rc = obj->knobs.kind == MEM_BUF ? digest_buf(obj, &op->op.error) : 0;
    XXH128_canonicalFromHash(&bytes, XXH3_128bits_digest(obj->xxh));
    hl_hex(bytes.digest, sizeof(bytes.digest), op->hex);
    hl_mem_finish(obj, &op->op, rc);
}

static void mem_remote_digest(struct hl_object *base,
                              struct hl_remote_digest *op)
{
    submit(base, &op->op, do_remote_digest);
}

static void do_abort(struct hl_task *task)
{
    struct hl_op *op = HL_CONTAINER(task, struct hl_op, task);
    struct mem_object *obj = op->driver_data;

    hl_mem_parts_settle(obj, HAUL_E_CANCELED);
    hl_mem_finish(obj, op, 0);
}

/* Everything that waits goes to the worker at once, the abort behind it. */
static void mem_abort(struct hl_object *base, struct hl_op *op)
{
    struct mem_object *obj = (struct mem_object *)base;
    struct hl_open *waiting = obj->waiting;
    struct hl_list writes;
    struct hl_node *n;

    hl_list_init(&writes);
    hl_mem_notes_drop(obj, &writes);
    while ((n = hl_list_pop(&writes)))
        hl_mem_finish(obj, HL_CONTAINER(n, struct hl_op, node),
                      HAUL_E_CANCELED);
    atomic_store(&obj->aborted, true);
    obj->waiting = NULL;
    if (waiting)
        hl_mem_finish(obj, &waiting->op, HAUL_E_CANCELED);
    while ((n = hl_list_first(&obj->delays)) != NULL) {
        struct mem_delay *d = HL_CONTAINER(n, struct mem_delay, node);

        hl_timer_cancel(&d->timer);
        delay_end(d);
    }
    op->driver_data = obj;
    op->task.fn = do_abort;
    run_op(obj, op);
}

static const struct hl_answer *mem_answer(struct hl_object *base)
{
    return &((struct mem_object *)base)->answer;
}

/* ---- Endpoints and objects ---------------------------------------------- */

static int mem_endpoint_new(const struct hl_env *env, const struct hl_url *url,
                            struct hl_endpoint **out, struct hl_error *err)
{
    struct mem_endpoint *ep = hl_malloc(sizeof(*ep));
    int rc;

    (void)url;
    if (!ep)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    ep->base.driver = &hl_driver_mem;
    ep->base.env = env;
    rc = hl_worker_new(env, "haul-mem", &ep->worker, err);
    if (rc)
        hl_free(ep);
    else
        *out = &ep->base;
    return rc;
}

static void mem_endpoint_free(struct hl_endpoint *base)
{
    struct mem_endpoint *ep = (struct mem_endpoint *)base;

    hl_worker_free(ep->worker);
    hl_free(ep);
}

static void mem_close(struct hl_object *base)
{
    struct mem_object *obj = (struct mem_object *)base;

    HL_ASSERT(hl_list_empty(&obj->delays));
    HL_ASSERT(obj->taken.count == 0);
    if (obj->work && keeps_nothing(obj))
        hl_membuf_remove(obj->work);
    hl_mem_parts_free(obj);
    HL_ASSERT(hl_list_empty(&obj->note_waits));
    hl_mem_memory_fini(&obj->memory);
    hl_ranges_fini(&obj->taken);
    hl_ranges_fini(&obj->whole);
    XXH3_freeState(obj->xxh);
    hl_free(obj->name);
    hl_free(obj->work);
    hl_free(obj->discard);
    hl_free(obj);
}

static int mem_object_new(struct hl_endpoint *ep, const struct hl_url *url,
                          enum hl_role role, struct hl_object **out,
                          struct hl_error *err)
{
    struct mem_object *obj = hl_malloc(sizeof(*obj));
    int rc;

    if (!obj)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    obj->base.driver = &hl_driver_mem;
    obj->base.endpoint = ep;
    obj->base.role = role;
    hl_list_init(&obj->delays);
    hl_list_init(&obj->parts);
    hl_list_init(&obj->note_waits);
    hl_mem_memory_init(&obj->memory);
    hl_ranges_init(&obj->taken);
    hl_ranges_init(&obj->whole);
    obj->name = hl_url_query(url, "id");
    obj->xxh = XXH3_createState();
    rc = hl_mem_url_parse(url, role, &obj->knobs, err);
    if (!rc && !obj->name)
        obj->name = hl_strdup(url->path);
    if (!rc && (!obj->name || !obj->xxh))
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (rc)
        mem_close(&obj->base);
    else
        *out = &obj->base;
    return rc;
}

static const char *const mem_schemes[] = {"mem", NULL};

const struct hl_driver hl_driver_mem = {
    .name = "mem",
    .schemes = mem_schemes,
    .endpoint_new = mem_endpoint_new,
    .endpoint_free = mem_endpoint_free,
    .object_new = mem_object_new,
    .close = mem_close,
    .stat = mem_stat,
    .open = mem_open,
    .read = mem_read,
    .write = mem_write,
    .sync = mem_sync,
    .commit = mem_commit,
    .suspend = mem_suspend,
    .discard = mem_discard,
    .remote_digest = mem_remote_digest,
    .token_saved = mem_token_saved,
    .note_saved = mem_note_saved,
    .abort = mem_abort,
    .answer = mem_answer,
};
