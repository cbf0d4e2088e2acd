/*
 * An upload made of requests: the operations of the object (http_upload.h).
 * Engine thread.
 */
#include "http_upload_private.h"

#include <inttypes.h>
#include <string.h>

void hl_http_upload_finish(struct hl_http_upload *u, struct hl_op *op, int rc,
                           const struct hl_error *err)
{
    if (rc && err && err != &op->error)
        op->error = *err;
    hl_op_finish(hl_http_upload_loop(u), op, rc);
}

uint32_t hl_http_upload_streams(const struct hl_http_upload *u)
{
    const struct hl_opts *o = u->ep->base.env->opts;
    int64_t n = hl_opts_i64(o, HAUL_OPT_CONNECTIONS);

    if (hl_opts_i64(o, HAUL_OPT_IN_ORDER))
        return 1;
    return n > 0 ? (uint32_t)hl_min((uint64_t)n, HL_HTTP_STREAMS_MAX)
                 : HL_HTTP_STREAMS_MAX;
}

/* ---- Ends of operations ------------------------------------------------- */

static int layout_fits(const struct hl_http_upload *u)
{
    const struct hl_parts *parts = &u->layout.parts;

    return parts->size % u->chunk_size == 0 &&
           (!parts->grow || parts->size_max % u->chunk_size == 0);
}

void hl_http_upload_opened(struct hl_http_upload *u, int rc,
                           const struct hl_error *err)
{
    struct hl_open *op = u->open;

    HL_ASSERT(op);
    u->open = NULL;
    u->layout = op->layout;
    HL_ASSERT(rc || layout_fits(u));
    hl_http_upload_finish(u, &op->op, rc, err);
}

void hl_http_upload_committed(struct hl_http_upload *u, int rc,
                              const struct hl_error *err)
{
    struct hl_commit *op = u->commit;

    HL_ASSERT(op);
    u->commit = NULL;
    hl_http_upload_finish(u, &op->op, rc, err);
}

void hl_http_upload_discarded(struct hl_http_upload *u, int rc,
                              const struct hl_error *err)
{
    struct hl_op *op = u->discard;

    HL_ASSERT(op);
    u->discard = NULL;
    hl_http_upload_finish(u, op, rc, err);
}

void hl_http_upload_statted(struct hl_http_upload *u, int rc,
                            const struct hl_error *err)
{
    struct hl_stat *op = u->stat;

    HL_ASSERT(op);
    u->stat = NULL;
    hl_http_upload_finish(u, &op->op, rc, err);
}

/* ---- Slots -------------------------------------------------------------- */

static bool end_if_aborted(struct hl_http_upload *u, struct hl_op *op)
{
    if (u->aborted)
        hl_op_finish(hl_http_upload_loop(u), op, HAUL_E_CANCELED);
    return u->aborted;
}

void hl_http_upload_stat(struct hl_http_obj *obj, struct hl_stat *op)
{
    struct hl_http_upload *u = obj->upload;

    op->exists = op->is_folder = false;
    op->size = HL_SIZE_UNKNOWN;
    op->mtime_ns = 0;
    op->mode = 0;
    if (end_if_aborted(u, &op->op))
        return;
    u->stat = op;
    if (u->protocol->stat)
        u->protocol->stat(u);
    else
        hl_http_upload_statted(u, HAUL_E_NOTSUP, NULL);
}

void hl_http_upload_open(struct hl_http_obj *obj, struct hl_open *op)
{
    struct hl_http_upload *u = obj->upload;
    struct hl_error err = {0};

    memset(&op->layout, 0, sizeof(op->layout));
    if (end_if_aborted(u, &op->op))
        return;
    u->open = op;
    u->no_clobber = op->no_clobber;
    u->size = op->size;
    u->chunk_size = op->chunk_size;
    u->bound = HL_HTTP_BOUND_START;
    u->bound_max = HL_HTTP_BOUND_MAX;
    if (op->append) {
        hl_err(&err, HAUL_E_NOTSUP, 0, "cannot append to '%s'", obj->display);
        hl_err_hint(&err, "Use --resume auto or --resume never.");
        hl_http_upload_opened(u, err.code, &err);
        return;
    }
    u->protocol->open(u);
}

void hl_http_upload_write(struct hl_http_obj *obj, struct hl_io *io)
{
    struct hl_http_upload *u = obj->upload;
    struct hl_http_part *part;

    io->skipped = 0;
    if (end_if_aborted(u, &io->op))
        return;
    part = hl_http_part_get(u, u->layout.parts.size ? io->part : 0);
    if (part)
        hl_http_part_write(part, io);
    else
        hl_op_finish(hl_http_upload_loop(u), &io->op, HAUL_E_NOMEM);
}

void hl_http_upload_commit(struct hl_http_obj *obj, struct hl_commit *op)
{
    struct hl_http_upload *u = obj->upload;

    op->durable = op->size_checked = op->compared = false;
    if (end_if_aborted(u, &op->op))
        return;
    u->commit = op;
    u->protocol->commit(u);
}

void hl_http_upload_discard(struct hl_http_obj *obj, const char *token,
                            struct hl_op *op)
{
    struct hl_http_upload *u = obj->upload;

    /* Also after an abort: what was begun is to go. */
    u->aborted = false;
    u->discard = op;
    u->protocol->discard(u, token);
}

void hl_http_upload_token_saved(struct hl_http_obj *obj, int rc)
{
    struct hl_http_upload *u = obj->upload;

    if (u->protocol->token_saved && !u->aborted)
        u->protocol->token_saved(u, rc);
}

void hl_http_upload_note_saved(struct hl_http_obj *obj, uint64_t index, int rc)
{
    struct hl_http_upload *u = obj->upload;
    struct hl_http_part *part = hl_http_part_find(u, index);

    if (u->protocol->note_saved && part && !u->aborted)
        u->protocol->note_saved(u, part, rc);
}

const struct hl_answer *hl_http_upload_answer(struct hl_http_obj *obj)
{
    const struct hl_http_upload *u = obj->upload;

    return u && u->answer.status ? &u->answer : NULL;
}

/* Other questions than those about parts have clocks of their own, and may have
 * a reason to take long. */
void hl_http_upload_unstall(struct hl_http_obj *obj)
{
    struct hl_http_upload *u = obj->upload;
    struct hl_node *n;

    if (!u) /* it is not even known which way it goes */
        return;
    for (n = hl_list_first(&u->asks); n; n = hl_list_next(&u->asks, n)) {
        struct hl_http_ask *ask = HL_CONTAINER(n, struct hl_http_ask, node);

        if (ask->part)
            hl_http_ask_unstall(ask);
    }
    for (n = hl_list_first(&u->parts); n; n = hl_list_next(&u->parts, n)) {
        struct hl_http_part *part = HL_CONTAINER(n, struct hl_http_part, node);

        if (part->state == HL_PART_SENDING)
            hl_http_sender_unstall(part->sender);
    }
}

/* ---- Abort -------------------------------------------------------------- */

static void cancel_op(struct hl_http_upload *u, struct hl_op *op)
{
    if (op)
        hl_op_finish(hl_http_upload_loop(u), op, HAUL_E_CANCELED);
}

/* The abort is through when nothing is under way any more. */
void hl_http_upload_check_quiet(struct hl_http_upload *u)
{
    struct hl_op *op = u->abort;

    if (!op || !hl_list_empty(&u->asks))
        return;
    for (struct hl_node *n = hl_list_first(&u->parts); n;
         n = hl_list_next(&u->parts, n))
        if (HL_CONTAINER(n, struct hl_http_part, node)->state ==
            HL_PART_SENDING)
            return;
    u->abort = NULL;
    hl_op_finish(hl_http_upload_loop(u), op, 0);
}

void hl_http_upload_abort(struct hl_http_obj *obj, struct hl_op *op)
{
    struct hl_http_upload *u = obj->upload;
    struct hl_node *n;

    HL_ASSERT(!u->abort);
    u->aborted = true;
    u->abort = op;
    for (n = hl_list_first(&u->asks); n; n = hl_list_next(&u->asks, n))
        hl_http_call_cancel(u->client,
                            &HL_CONTAINER(n, struct hl_http_ask, node)->call);
    for (n = hl_list_first(&u->parts); n; n = hl_list_next(&u->parts, n))
        hl_http_part_abort(HL_CONTAINER(n, struct hl_http_part, node));
    cancel_op(u, u->open ? &u->open->op : NULL);
    cancel_op(u, u->commit ? &u->commit->op : NULL);
    cancel_op(u, u->discard);
    cancel_op(u, u->stat ? &u->stat->op : NULL);
    u->open = NULL;
    u->commit = NULL;
    u->discard = NULL;
    u->stat = NULL;
    hl_http_upload_check_quiet(u);
}

/* ---- Life --------------------------------------------------------------- */

int hl_http_upload_new(struct hl_http_obj *obj,
                       const struct hl_http_protocol *protocol,
                       struct hl_error *err)
{
    struct hl_http_upload *u = hl_malloc(sizeof(*u));
    int rc;

    if (!u)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    u->obj = obj;
    u->ep = obj->ep;
    u->protocol = protocol;
    hl_list_init(&u->parts);
    hl_list_init(&u->asks);
    rc = hl_http_client_on(u->ep, &u->client);
    if (rc)
        hl_err(err, rc, 0, "out of memory");
    else if (protocol->init)
        rc = protocol->init(u, err);
    if (rc) {
        hl_http_upload_free(u);
        return rc;
    }
    obj->upload = u;
    return 0;
}

void hl_http_upload_free(struct hl_http_upload *u)
{
    struct hl_node *n;

    if (!u)
        return;
    HL_ASSERT(hl_list_empty(&u->asks));
    while ((n = hl_list_first(&u->parts)))
        hl_http_part_free(HL_CONTAINER(n, struct hl_http_part, node));
    while (u->idle_count)
        hl_http_sender_free(u->idle[--u->idle_count]);
    if (u->protocol->free)
        u->protocol->free(u);
    hl_http_client_free(u->client);
    hl_free(u->answer.body);
    hl_free_secret(u->answer.location);
    hl_free(u);
}
