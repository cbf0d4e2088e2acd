/*
 * The end of an object at a tus server (tus.h): a length that is told last,
 * parts that are joined, uploads that are removed. Engine thread.
 */
#include <inttypes.h>
#include <string.h>

#include "tus.h"

/* A server that joins parts may copy all of them, so slowly at least. */
#define JOIN_BYTES_PER_S (UINT64_C(16) << 20)
#define JOIN_NS_MIN (600 * HL_NS_PER_S)
/* How often it is asked whether it is through. */
#define WAIT_NS_MIN (HL_NS_PER_S / 2)
#define WAIT_NS_MAX (15 * HL_NS_PER_S)

static struct hl_loop *loop_of(const struct hl_tus *t)
{
    return t->upload->ep->base.env->loop;
}

static uint64_t join_ns(const struct hl_tus *t)
{
    uint64_t s = t->upload->size / JOIN_BYTES_PER_S;

    return hl_max(s * HL_NS_PER_S, JOIN_NS_MIN);
}

static void committed(struct hl_tus *t, const struct hl_error *err)
{
    hl_http_upload_committed(t->upload, err->code, err);
}

static void committed_nomem(struct hl_tus *t)
{
    struct hl_error err = {0};

    hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
    committed(t, &err);
}

/* The server gives the name, and nobody else knows it. */
static void tell_where(struct hl_tus *t)
{
    struct hl_answer *a = &t->upload->answer;
    const struct hl_http_place *place =
        t->part_size ? &t->final : &t->parts[0].place;

    if (!a->status)
        a->status = t->status;
    hl_free_secret(a->location);
    a->location = hl_strdup(place->url);
}

static void succeed(struct hl_tus *t)
{
    struct hl_commit *c = t->upload->commit;

    c->size_checked = true;
    c->compared = t->alg && !t->unsummed;
    tell_where(t);
    hl_http_upload_committed(t->upload, 0, NULL);
}

/* ---- One upload --------------------------------------------------------- */

static void tell_length(struct hl_tus *t);

/* The size is the server's own count. */
static void check_single(struct hl_tus *t)
{
    const struct hl_http_upload *u = t->upload;
    uint64_t has = t->parts[0].offset, size = u->commit->size;
    struct hl_error err = {0};

    if (has == size) {
        succeed(t);
        return;
    }
    hl_err(&err, has < size ? HAUL_E_LOST : HAUL_E_DIGEST, 0,
           "'%s' has %" PRIu64 " bytes instead of %" PRIu64, u->obj->display,
           has, size);
    committed(t, &err);
}

static void on_single(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    struct hl_error err = {0};

    switch (hl_tus_read_part(t, 0, ask, &err)) {
    case HL_TUS_THERE:
        if (t->deferred)
            tell_length(t);
        else
            check_single(t);
        break;
    case HL_TUS_GONE:
        hl_err(&err, HAUL_E_LOST, 0, "'%s' no longer has the upload",
               ask->upload->obj->display);
        /* fall through */
    case HL_TUS_FAILED:
        committed(t, &err);
        break;
    }
}

static void on_told(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    const char *offset = ask->call.got[HL_TUS_GOT_OFFSET];
    struct hl_tus_part *p = &t->parts[0];
    struct hl_error err = {0};
    uint64_t n;

    if (hl_tus_refused(ask, &err)) {
        committed(t, &err);
    } else if (!offset || !hl_http_number(offset, &n) ||
               n != ask->upload->commit->size) {
        hl_err(&err, HAUL_E_PROTO, 0,
               "'%s' did not confirm the size of the upload",
               ask->upload->obj->display);
        committed(t, &err);
    } else {
        p->offset = n;
        p->known = true;
        t->deferred = false;
        check_single(t);
    }
}

/* A body without a byte, to say that there will be no more. */
static void tell_length(struct hl_tus *t)
{
    uint64_t size = t->upload->commit->size;
    struct hl_tus_part *p = &t->parts[0];
    struct hl_http_ask *ask = hl_tus_ask_at(
        t, NULL, t->no_patch ? "POST" : "PATCH", &p->place, on_told);

    if (!ask) {
        committed_nomem(t);
        return;
    }
    hl_tus_add(ask, t->headers, "Content-Type",
               hl_strdup("application/offset+octet-stream"));
    hl_tus_add(ask, t->headers, "Upload-Offset",
               hl_asprintf("%" PRIu64, p->offset));
    hl_tus_add(ask, t->headers, "Upload-Length", hl_asprintf("%" PRIu64, size));
    if (t->no_patch)
        hl_tus_add(ask, t->headers, "X-HTTP-Method-Override",
                   hl_strdup("PATCH"));
    /* A server may do all its work for an upload before it answers. */
    ask->call.timeout_ns = JOIN_NS_MIN;
    p->known = false;
    hl_http_ask_go(ask);
}

static void commit_single(struct hl_tus *t)
{
    struct hl_tus_part *p = &t->parts[0];
    struct hl_http_ask *ask;

    if (p->known && t->deferred) {
        tell_length(t);
    } else if (p->known) {
        check_single(t);
    } else {
        ask = hl_tus_ask_at(t, NULL, "HEAD", &p->place, on_single);
        if (ask)
            hl_http_ask_go(ask);
        else
            committed_nomem(t);
    }
}

/* ---- Parts that are joined ---------------------------------------------- */

static void look_final(struct hl_tus *t);

/* Not yet joined: it tells no offset before it is through (tus,
 * concatenation). */
static void wait_for_final(struct hl_tus *t)
{
    uint64_t now = hl_loop_now(loop_of(t));
    struct hl_error err = {0};

    if (!t->wait_until_ns)
        t->wait_until_ns = now + join_ns(t);
    if (now >= t->wait_until_ns) {
        hl_err(&err, HAUL_E_REMOTE_BUSY, 0,
               "'%s' has all parts and does not get through with joining them",
               t->upload->obj->display);
        t->wait_until_ns = 0;
        committed(t, &err);
        return;
    }
    t->wait_ns = hl_min(hl_max(2 * t->wait_ns, WAIT_NS_MIN), WAIT_NS_MAX);
    hl_timer_set(loop_of(t), &t->timer, now + t->wait_ns);
}

void hl_tus_on_timer(struct hl_timer *timer)
{
    struct hl_tus *t = HL_CONTAINER(timer, struct hl_tus, timer);

    if (t->upload->commit) /* else it was aborted */
        look_final(t);
}

static void on_final(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    const char *name = ask->upload->obj->display;
    uint64_t size = ask->upload->size;
    struct hl_tus_state state;
    struct hl_error err = {0};

    switch (hl_tus_read_head(ask, &state, &err)) {
    case HL_TUS_THERE:
        break;
    case HL_TUS_GONE:
        hl_err(&err, HAUL_E_REMOTE, 0,
               "'%s' joined the parts, and has nothing where it said", name);
        /* fall through */
    case HL_TUS_FAILED:
        committed(t, &err);
        return;
    }
    if ((state.length != HL_SIZE_UNKNOWN && state.length != size) ||
        (state.offset != HL_SIZE_UNKNOWN && state.offset > size)) {
        hl_err(&err, HAUL_E_DIGEST, 0,
               "'%s' has %" PRIu64 " bytes instead of %" PRIu64, name,
               state.length != HL_SIZE_UNKNOWN ? state.length : state.offset,
               size);
        committed(t, &err);
    } else if (state.offset == size) {
        succeed(t);
    } else {
        wait_for_final(t);
    }
}

static void look_final(struct hl_tus *t)
{
    struct hl_http_ask *ask =
        hl_tus_ask_at(t, NULL, "HEAD", &t->final, on_final);

    if (!ask) {
        committed_nomem(t);
        return;
    }
    ask->call.kept = true;
    hl_http_ask_go(ask);
}

/* What the server said to the object as a whole. */
static void keep_answer(struct hl_tus *t, struct hl_http_ask *ask)
{
    struct hl_answer *a = &t->upload->answer;

    hl_free(a->body);
    a->body = NULL;
    a->body_len = 0;
    a->status = ask->call.status;
    if (!ask->call.answer_len)
        return;
    a->body = ask->call.answer;
    a->body_len = ask->call.answer_len;
    ask->call.answer = NULL;
    ask->call.answer_len = 0;
}

/* Statuses that say that it never will. */
static bool is_refusal(int status)
{
    return status >= 400 && status != 401 && status != 407 && status != 408 &&
           status != 409 && status != 423 && status != 425 && status != 429 &&
           (status < 500 || status == 501);
}

static void on_joined(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    const struct hl_http_call *call = &ask->call;
    const char *name = ask->upload->obj->display;
    struct hl_error err = {0};

    if (!call->op.rc && call->status == 201 && call->location &&
        !hl_http_place_set(&t->final, t->create_url, call->location, &err)) {
        t->asked_to_join = false;
        keep_answer(t, ask);
        /* Without it the next run joins them once more. */
        hl_tus_save(t, NULL);
        look_final(t);
        return;
    }
    if (!call->op.rc && is_refusal(call->status)) {
        hl_err(&err, HAUL_E_REMOTE, 0, "'%s' does not join the parts", name);
        err.proto_status = call->status;
        hl_err_detail(&err, "HTTP status %d", call->status);
        hl_err_hint(&err, "Send it as one upload: --connections 1 --resume "
                          "never.");
        keep_answer(t, ask);
    } else if (!call->op.rc && call->status >= 200 && call->status < 300) {
        hl_err(&err, HAUL_E_PROTO, 0,
               "'%s' answered %d%s when the parts were to be joined", name,
               call->status, call->location ? "" : " without an address");
    } else {
        hl_tus_refused(ask, &err);
    }
    committed(t, &err);
}

static void join(struct hl_tus *t)
{
    const char **urls = hl_calloc(t->count, sizeof(*urls));
    struct hl_http_ask *ask =
        hl_tus_ask(t, NULL, "POST", t->create_url, on_joined);

    if (!urls || !ask) {
        hl_free(urls);
        hl_http_ask_free(ask);
        committed_nomem(t);
        return;
    }
    for (uint32_t i = 0; i < t->count; i++)
        urls[i] = t->parts[i].place.url;
    hl_tus_add(ask, t->headers, "Upload-Concat",
               hl_tus_concat(t->create_url, urls, t->count));
    if (t->metadata)
        hl_tus_add(ask, t->headers, "Upload-Metadata", hl_strdup(t->metadata));
    hl_free(urls);
    ask->call.timeout_ns = join_ns(t);
    t->asked_to_join = true;
    hl_http_ask_go(ask);
}

/* The answer to an earlier try was lost. Whether it was done nobody says, but
 * as long as all parts are there it can be done again. */
static void on_parts_looked(struct hl_tus *t)
{
    const char *name = t->upload->obj->display;
    struct hl_error err = {0};

    if (t->failed.code) {
        committed(t, &t->failed);
        return;
    }
    for (uint32_t i = 0; i < t->count && !err.code; i++) {
        const struct hl_tus_part *p = &t->parts[i];

        if (!p->place.url)
            hl_err(&err, HAUL_E_REMOTE, 0,
                   "'%s' was asked to join the parts and gave no answer; now "
                   "parts are gone",
                   name);
        else if (p->offset != hl_tus_part_len(t, i))
            hl_err(&err, HAUL_E_LOST, 0,
                   "'%s' no longer has all bytes of a part", name);
    }
    if (err.code == HAUL_E_REMOTE)
        hl_err_hint(&err, "Look whether it is there: it may have been joined. "
                          "Otherwise send it again with --resume never.");
    if (err.code)
        committed(t, &err);
    else
        join(t);
}

void hl_tus_commit(struct hl_http_upload *u)
{
    struct hl_tus *t = hl_tus_of(u);

    HL_ASSERT(!t->making);
    t->wait_ns = 0;
    if (!t->part_size)
        commit_single(t);
    else if (t->final.url)
        look_final(t);
    else if (t->asked_to_join)
        hl_tus_look(t, on_parts_looked);
    else
        join(t);
}

/* ---- Discard ------------------------------------------------------------ */

void hl_tus_drop_urls(struct hl_tus *t)
{
    for (uint32_t i = 0; i < t->url_count; i++)
        hl_free_secret(t->urls[i]);
    hl_free(t->urls);
    t->urls = NULL;
    t->url_count = 0;
}

/* There is room for it. */
static int remember(struct hl_tus *t, const char *url)
{
    for (uint32_t i = 0; url && i < t->url_count; i++)
        if (!strcmp(t->urls[i], url))
            return 0;
    if (!url)
        return 0;
    t->urls[t->url_count] = hl_strdup(url);
    if (!t->urls[t->url_count])
        return HAUL_E_NOMEM;
    t->url_count++;
    return 0;
}

/* What the token names, and what this run has made. */
static int remember_all(struct hl_tus *t, const struct hl_tus_saved *saved)
{
    int rc;

    hl_tus_drop_urls(t);
    t->urls = hl_calloc(saved->count + t->count + 2, sizeof(*t->urls));
    rc = t->urls ? 0 : HAUL_E_NOMEM;
    for (uint32_t i = 0; i < saved->count && !rc; i++)
        rc = remember(t, saved->urls[i]);
    for (uint32_t i = 0; i < t->count && !rc; i++)
        rc = remember(t, t->parts[i].place.url);
    if (!rc)
        rc = remember(t, saved->final);
    return rc ? rc : remember(t, t->final.url);
}

/* A server that removes nothing says so, or that there is nothing. */
static bool is_trouble(int status)
{
    return status == 401 || status == 407 || status == 408 || status == 423 ||
           status == 425 || status == 429 || (status >= 500 && status != 501);
}

static void discard_next(struct hl_tus *t);

static void on_discarded(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);

    t->out--;
    if ((ask->call.op.rc || is_trouble(ask->call.status)) && !t->failed.code)
        hl_tus_refused(ask, &t->failed);
    discard_next(t);
}

static int discard_one(struct hl_tus *t, const char *url)
{
    struct hl_http_place place = {0};
    struct hl_http_ask *ask = NULL;
    struct hl_error err = {0};
    int rc = hl_http_place_set(&place, t->upload->obj->url, url, &err);

    if (!rc) {
        ask = hl_tus_ask_at(t, NULL, "DELETE", &place, on_discarded);
        rc = ask ? 0 : hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
    }
    if (ask) {
        ask->call.kept = true;
        t->out++;
        hl_http_ask_go(ask);
    }
    hl_http_place_fini(&place);
    if (rc && !t->failed.code)
        t->failed = err;
    return rc;
}

static void discard_next(struct hl_tus *t)
{
    while (t->next < t->url_count && t->out < HL_TUS_ASKS)
        if (discard_one(t, t->urls[t->next++]))
            break;
    if (t->out)
        return;
    hl_tus_drop_urls(t);
    hl_tus_drop_parts(t);
    hl_http_upload_discarded(t->upload, t->failed.code, &t->failed);
}

void hl_tus_discard(struct hl_http_upload *u, const char *token)
{
    struct hl_tus *t = hl_tus_of(u);
    struct hl_tus_saved saved = {0};
    int rc = 0;

    t->next = t->out = t->making = 0;
    t->saving = false;
    hl_err_clear(&t->failed);
    hl_timer_cancel(&t->timer);
    for (uint32_t i = 0; i < t->count; i++)
        t->parts[i].waiting = NULL;
    if (token)
        rc = hl_tus_token_read(token, &saved, &t->failed);
    if (!rc && remember_all(t, &saved))
        hl_err(&t->failed, HAUL_E_NOMEM, 0, "out of memory");
    hl_tus_saved_fini(&saved);
    discard_next(t);
}
