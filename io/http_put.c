/*
 * A plain PUT or POST as an upload (http_upload.h): the whole object is one
 * part and the body of one request. It cannot be continued, and nothing is
 * known before the answer (HL_CAP_LATE): what breaks is sent from its start.
 */
#include <string.h>

#include "http_ways.h"

/* A server may take so many stall times to store what it got. */
#define STORE_STALLS 10

struct put {
    bool sent_whole; /* a try that failed was complete */
};

static bool is_post(const struct hl_http_upload *u)
{
    return u->obj->way == HL_HTTP_POST;
}

static int init(struct hl_http_upload *u, struct hl_error *err)
{
    u->own = hl_malloc(sizeof(struct put));
    return u->own ? 0 : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
}

static void free_own(struct hl_http_upload *u)
{
    hl_free(u->own);
}

/* What the server said last, for the user. */
static void set_answer(struct hl_http_upload *u, int status, char **body,
                       size_t len)
{
    hl_free(u->answer.body);
    u->answer.status = status;
    u->answer.body = *body;
    u->answer.body_len = len;
    *body = NULL;
}

/* ---- Stat --------------------------------------------------------------- */

/* What the server does not tell is found out by the condition of the PUT. */
static void on_head(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_stat *op = u->stat;
    int64_t modified = 0;

    if (ask->call.op.rc) {
        hl_http_upload_statted(u, ask->call.op.rc, &ask->call.op.error);
        return;
    }
    op->exists = ask->call.status >= 200 && ask->call.status < 300;
    if (op->exists && ask->call.got[0] &&
        !hl_http_number(ask->call.got[0], &op->size))
        op->size = HL_SIZE_UNKNOWN;
    if (op->exists && ask->call.got[1] &&
        hl_http_date(ask->call.got[1], &modified))
        op->mtime_ns = hl_http_mtime_ns(modified);
    hl_http_upload_statted(u, 0, NULL);
}

static void stat_target(struct hl_http_upload *u)
{
    static const char *const want[] = {"Content-Length", "Last-Modified", NULL};
    struct hl_http_ask *ask;
    struct hl_error err = {0};

    /* It is replaced, whatever it is; nobody was asked. */
    if (!hl_opts_i64(u->ep->base.env->opts, HAUL_OPT_NO_CLOBBER)) {
        hl_http_upload_statted(u, HAUL_E_NOTSUP, NULL);
        return;
    }
    ask = hl_http_ask_new(u, NULL, on_head);
    if (!ask) {
        hl_http_upload_statted(u, HAUL_E_NOMEM, &err);
        return;
    }
    ask->call.method = "HEAD";
    ask->call.url = u->obj->url;
    ask->call.want = want;
    ask->call.kept = true;
    hl_http_ask_go(ask);
}

/* ---- Sending ------------------------------------------------------------ */

static void open_target(struct hl_http_upload *u)
{
    struct hl_layout *layout = &u->open->layout;

    u->bound = 0;
    layout->caps = HL_CAP_ORDERED | HL_CAP_LATE;
    layout->streams_max = 1;
    layout->fresh = u->open->resume;
    hl_http_upload_opened(u, 0, NULL);
}

static void begin(struct hl_http_upload *u, struct hl_http_part *part)
{
    (void)u;
    part->offset = 0;
    hl_http_part_begun(part, 0, NULL);
}

static int start_body(struct hl_http_upload *u, struct hl_http_part *part,
                      struct hl_http_request *req, uint64_t *len,
                      struct hl_error *err)
{
    int rc = 0;

    (void)part;
    (void)len;
    req->method = is_post(u) ? "POST" : "PUT";
    req->url = hl_strdup(u->obj->url);
    if (!req->url)
        rc = HAUL_E_NOMEM;
    if (!rc && !hl_http_ep_sets(u->ep, "Content-Type"))
        rc = hl_http_request_add(req, "Content-Type: application/octet-stream");
    if (!rc && u->no_clobber)
        rc = hl_http_request_add(req, "If-None-Match: *"); /* RFC 9110 13.1.2 */
    /* A refusal, a login or a redirect costs nothing when it comes first. */
    req->expect = true;
    req->once = is_post(u);
    return rc ? hl_err(err, rc, 0, "out of memory") : 0;
}

/* 303 leads from a POST to what it made (RFC 9110 15.4.4): it was taken. */
static int refused(const struct hl_http_upload *u, int status)
{
    return (status < 200 || status >= 300) && (status != 303 || !is_post(u));
}

static void explain_exists(struct hl_http_upload *u, struct hl_error *err)
{
    const struct put *own = u->own;

    if (err->code != HAUL_E_EXISTS || !own->sent_whole)
        return;
    err->hint[0] = '\0';
    hl_err_hint(err, "An earlier try of this copy may have stored it: look "
                     "at it, or copy without --no-clobber.");
}

/* That the server takes a plain PUT was found out by an earlier run, and is
 * not so any more: it is asked again. */
static void forget_wrong(struct hl_http_upload *u, const struct hl_http_sent *s,
                         struct hl_error *err)
{
    bool wrong = s->status == 404 || s->status == 405 || s->status == 415 ||
                 s->status == 501;

    if (wrong && u->obj->speaks && hl_http_disbelieve(u->obj))
        err->code = HAUL_E_LOST;
}

static int sent(struct hl_http_upload *u, struct hl_http_part *part,
                struct hl_http_sent *s, struct hl_error *err)
{
    struct put *own = u->own;
    int rc = 0;

    if (s->rc || refused(u, s->status))
        rc = hl_http_sent_refused(part, s, err);
    if (s->status)
        set_answer(u, s->status, &s->answer.body, s->answer.body_len);
    if (rc) {
        explain_exists(u, err);
        forget_wrong(u, s, err);
        own->sent_whole = own->sent_whole || s->complete;
        return err->code;
    }
    part->offset = part->expected;
    return 0;
}

/* ---- Commit ------------------------------------------------------------- */

static void on_empty(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_http_call *call = &ask->call;
    struct hl_error err = {0};
    int rc = 0;

    if (call->op.rc || refused(u, call->status))
        rc = hl_http_ask_refused(ask, &err);
    if (call->status)
        set_answer(u, call->status, &call->answer, call->answer_len);
    hl_http_upload_committed(u, rc, &err);
}

/* An empty object has no write. */
static void put_empty(struct hl_http_upload *u)
{
    static const struct hl_http_field once = {.name = "If-None-Match",
                                              .value = "*"};
    struct hl_http_ask *ask = hl_http_ask_new(u, NULL, on_empty);
    struct hl_error err = {0};

    if (!ask) {
        hl_http_upload_committed(u, HAUL_E_NOMEM, &err);
        return;
    }
    ask->call.method = is_post(u) ? "POST" : "PUT";
    ask->call.url = u->obj->url;
    ask->call.body = HL_HTTP_BODY_TEXT;
    ask->call.text = "";
    if (!hl_http_ep_sets(u->ep, "Content-Type"))
        ask->call.content_type = "application/octet-stream";
    ask->call.headers = &once;
    ask->call.header_count = u->no_clobber;
    ask->call.answer_max = HL_ANSWER_MAX;
    ask->call.timeout_ns = STORE_STALLS * u->ep->stall_ns;
    hl_http_ask_go(ask);
}

static void commit(struct hl_http_upload *u)
{
    if (u->commit->size)
        hl_http_upload_committed(u, 0, NULL);
    else
        put_empty(u);
}

static void discard(struct hl_http_upload *u, const char *token)
{
    (void)token;
    hl_http_upload_discarded(u, 0, NULL);
}

const struct hl_http_protocol hl_http_put = {
    .name = "put",
    .chunked = true,
    .init = init,
    .free = free_own,
    .stat = stat_target,
    .open = open_target,
    .begin = begin,
    .send = start_body,
    .sent = sent,
    .commit = commit,
    .discard = discard,
};
