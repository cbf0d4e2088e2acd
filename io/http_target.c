/*
 * Targets of the HTTP driver: which way an object is written, from its scheme,
 * from the token of an earlier run or by asking the server (http_ways.h). All
 * else is the upload's (http_upload.h). Engine thread.
 */
#include <string.h>

#include "http_ways.h"

static struct hl_loop *loop_of(const struct hl_http_obj *obj)
{
    return obj->ep->base.env->loop;
}

/* The upload of obj from here on speaks protocol (NULL: a plain PUT). */
static int take_way(struct hl_http_obj *obj,
                    const struct hl_http_protocol *protocol,
                    struct hl_error *err)
{
    if (!protocol)
        protocol = &hl_http_put;
    if (obj->upload && obj->upload->protocol == protocol)
        return 0;
    hl_http_upload_free(obj->upload);
    obj->upload = NULL;
    return hl_http_upload_new(obj, protocol, err);
}

static void open_way(struct hl_http_obj *obj,
                     const struct hl_http_protocol *protocol,
                     struct hl_open *op)
{
    int rc = take_way(obj, protocol, &op->op.error);

    if (rc)
        hl_op_finish(loop_of(obj), &op->op, rc);
    else
        hl_http_upload_open(obj, op);
}

static void on_discovered(struct hl_op *op)
{
    struct hl_http_discovery *d =
        HL_CONTAINER(op, struct hl_http_discovery, op);
    struct hl_http_obj *obj = d->obj;
    struct hl_open *opening = obj->opening;
    struct hl_op *abort = obj->aborting;
    int rc = op->rc;

    obj->discovery = NULL;
    obj->opening = NULL;
    obj->aborting = NULL;
    if (abort) {
        hl_op_finish(loop_of(obj), &opening->op, HAUL_E_CANCELED);
    } else if (rc) {
        opening->op.error = op->error;
        hl_op_finish(loop_of(obj), &opening->op, rc);
    } else {
        open_way(obj, d->speaks.protocol, opening);
    }
    hl_free(d);
    if (abort)
        hl_op_finish(loop_of(obj), abort, 0);
}

void hl_http_target_open(struct hl_http_obj *obj, struct hl_open *op)
{
    const struct hl_opts *opts = obj->ep->base.env->opts;
    struct hl_http_discovery *d;

    memset(&op->layout, 0, sizeof(op->layout));
    if (obj->way == HL_HTTP_PUT && hl_opts_i64(opts, HAUL_OPT_RANGED)) {
        open_way(obj, &hl_http_ranged, op);
        return;
    }
    if (obj->way == HL_HTTP_PUT || obj->way == HL_HTTP_POST || op->append) {
        open_way(obj, NULL, op);
        return;
    }
    d = hl_malloc(sizeof(*d));
    if (!d) {
        hl_op_finish(loop_of(obj), &op->op, HAUL_E_NOMEM);
        return;
    }
    d->obj = obj;
    d->tus = obj->way == HL_HTTP_TUS;
    d->size = op->size;
    d->token = op->resume ? op->token : NULL;
    d->op.done = on_discovered;
    obj->discovery = d;
    obj->opening = op;
    hl_http_discover(d);
}

void hl_http_target_stat(struct hl_http_obj *obj, struct hl_stat *op)
{
    /* tus: the server gives the name. */
    int rc = take_way(obj, obj->way == HL_HTTP_TUS ? &hl_http_tus : NULL,
                      &op->op.error);

    if (rc)
        hl_op_finish(loop_of(obj), &op->op, rc);
    else
        hl_http_upload_stat(obj, op);
}

void hl_http_target_discard(struct hl_http_obj *obj, const char *token,
                            struct hl_op *op)
{
    const struct hl_http_protocol *protocol = NULL;
    int rc = 0;

    if (token)
        (void)hl_http_way_of(token, &protocol);
    if (token || !obj->upload)
        rc = take_way(obj, protocol, &op->error);
    if (rc)
        hl_op_finish(loop_of(obj), op, rc);
    else
        hl_http_upload_discard(obj, token, op);
}

void hl_http_target_abort(struct hl_http_obj *obj, struct hl_op *op)
{
    if (obj->discovery) {
        obj->aborting = op;
        hl_http_discover_cancel(obj->discovery);
    } else if (obj->upload) {
        hl_http_upload_abort(obj, op);
    } else {
        hl_op_finish(loop_of(obj), op, 0);
    }
}
