/*
 * What the protocols of uploads share (http_upload.h): addresses that servers
 * give, tokens, control requests. Engine thread.
 */
#include <string.h>

#include "http_upload_private.h"

/* ---- Places and tokens -------------------------------------------------- */

/* Has url, of http, the authority of base, of https? A proxy in front may not
 * tell the server that it speaks TLS. */
static bool same_but_plain(const char *base, const char *url)
{
    size_t n;

    if (strncmp(base, "https://", 8) != 0 || strncmp(url, "http://", 7) != 0)
        return false;
    n = strcspn(base + 8, "/?#");
    return n == strcspn(url + 7, "/?#") && !strncmp(base + 8, url + 7, n);
}

int hl_http_place_set(struct hl_http_place *place, const char *base,
                      const char *location, struct hl_error *err)
{
    struct hl_http_hop hop = {0};
    char *secure = NULL;
    int rc;

    if (same_but_plain(base, location)) {
        secure = hl_asprintf("https://%s", location + strlen("http://"));
        if (!secure)
            return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    rc = hl_http_redirect(base, secure ? secure : location, &hop, err);
    hl_free_secret(secure);
    if (rc)
        return rc;
    hl_free_secret(place->url);
    place->url = hop.url;
    place->foreign = !hop.same_origin;
    return 0;
}

void hl_http_place_fini(struct hl_http_place *place)
{
    hl_free_secret(place->url);
    place->url = NULL;
    place->foreign = false;
}

char *hl_http_token_get(const char *token, const char *key)
{
    size_t n = strlen(key);

    for (const char *at = token; at && *at; at += strcspn(at, "\n")) {
        at += strspn(at, "\n");
        if (!strncmp(at, key, n) && at[n] == '=')
            return hl_asprintf("%.*s", (int)strcspn(at + n + 1, "\n"),
                               at + n + 1);
    }
    return NULL;
}

/* ---- Asks --------------------------------------------------------------- */

struct hl_http_ask *hl_http_ask_new(struct hl_http_upload *u,
                                    struct hl_http_part *part,
                                    void (*done)(struct hl_http_ask *ask))
{
    struct hl_http_ask *ask = hl_malloc(sizeof(*ask));

    if (!ask)
        return NULL;
    ask->upload = u;
    ask->part = part;
    ask->done = done;
    return ask;
}

char *hl_http_ask_keep(struct hl_http_ask *ask, char *text)
{
    HL_ASSERT(ask->kept_count < HL_LEN(ask->kept));
    if (!text)
        ask->failed = true;
    else
        ask->kept[ask->kept_count++] = text;
    return text;
}

void hl_http_ask_free(struct hl_http_ask *ask)
{
    if (!ask)
        return;
    if (hl_node_linked(&ask->node))
        hl_list_remove(&ask->node);
    hl_http_call_fini(&ask->call);
    for (uint32_t i = 0; i < ask->kept_count; i++)
        hl_free_secret(ask->kept[i]);
    hl_free(ask);
}

static void on_answered(struct hl_op *op)
{
    struct hl_http_ask *ask = op->user;
    struct hl_http_upload *u = ask->upload;

    hl_list_remove(&ask->node);
    if (ask->stalled && op->rc == HAUL_E_CANCELED) {
        hl_err_clear(&op->error);
        op->rc = hl_err(&op->error, HAUL_E_STALLED, 0, "'%s' does not answer",
                        u->obj->display);
    }
    if (!u->aborted)
        ask->done(ask);
    hl_http_ask_free(ask);
    hl_http_upload_check_quiet(u);
}

void hl_http_ask_go(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_op *op = &ask->call.op;

    memset(op, 0, sizeof(*op));
    op->done = on_answered;
    op->user = ask;
    hl_list_append(&u->asks, &ask->node);
    if (ask->failed)
        hl_op_finish(hl_http_upload_loop(u), op, HAUL_E_NOMEM);
    else
        hl_http_call(u->client, &ask->call);
}

void hl_http_ask_unstall(struct hl_http_ask *ask)
{
    ask->stalled = true;
    hl_http_call_cancel(ask->upload->client, &ask->call);
}

static int refused(const struct hl_http_upload *u, const char *method,
                   int status, const char *body, uint64_t retry_after_ns,
                   struct hl_error *err)
{
    bool get = !strcmp(method, "GET") || !strcmp(method, "HEAD");
    struct hl_http_subject subject = {.name = u->obj->display,
                                      .verb = get ? "read" : "write",
                                      .proxy = u->ep->proxy != NULL,
                                      .credentials = u->ep->user != NULL ||
                                                     u->ep->authorize != NULL};
    int rc = hl_http_status_error(status, &subject, body, err);

    err->retry_after_ns = retry_after_ns;
    return rc;
}

int hl_http_ask_refused(const struct hl_http_ask *ask, struct hl_error *err)
{
    const struct hl_http_call *call = &ask->call;

    if (call->op.rc) {
        *err = call->op.error;
        return hl_err(err, call->op.rc, 0, "%s", haul_err_text(call->op.rc));
    }
    if (call->status >= 200 && call->status < 300)
        return 0;
    return refused(ask->upload, call->method, call->status, call->answer,
                   call->retry_after_ns, err);
}

int hl_http_sent_refused(const struct hl_http_part *part,
                         const struct hl_http_sent *sent, struct hl_error *err)
{
    if (sent->rc) {
        *err = sent->error;
        return hl_err(err, sent->rc, 0, "%s", haul_err_text(sent->rc));
    }
    if (sent->status >= 200 && sent->status < 300)
        return 0;
    return refused(part->upload, "PUT", sent->status, sent->answer.body,
                   sent->retry_after_ns, err);
}
