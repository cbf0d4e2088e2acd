/*
 * Uploads by the IETF draft: what is asked and answered, bodies, the token
 * (ietf.h). Engine thread, but for hl_ietf_hash().
 */
#include "ietf.h"

#include <inttypes.h>
#include <string.h>

#include "stage.h"

const char *const hl_ietf_want[] = {
    "Upload-Offset",     "Upload-Complete",
    "Upload-Incomplete", "Upload-Limit",
    "Location",          "Upload-Draft-Interop-Version",
    "Repr-Digest",       NULL};

/* ---- Fields ------------------------------------------------------------- */

static const char *complete_name(const struct hl_ietf *own)
{
    return own->interop == 3 ? "Upload-Incomplete" : "Upload-Complete";
}

static const char *complete_value(const struct hl_ietf *own, bool complete)
{
    return complete == (own->interop == 3) ? "?0" : "?1";
}

void hl_ietf_add(struct hl_http_ask *ask, const char *name, const char *value)
{
    struct hl_ietf *own = ask->upload->own;
    struct hl_http_call *call = &ask->call;

    HL_ASSERT(call->header_count < HL_IETF_FIELDS);
    call->headers = own->fields;
    own->fields[call->header_count++] =
        (struct hl_http_field){.name = name, .value = value};
}

void hl_ietf_add_number(struct hl_http_ask *ask, const char *name, uint64_t n)
{
    hl_ietf_add(ask, name, hl_http_ask_keep(ask, hl_asprintf("%" PRIu64, n)));
}

void hl_ietf_add_complete(struct hl_http_ask *ask, bool complete)
{
    const struct hl_ietf *own = ask->upload->own;

    hl_ietf_add(ask, complete_name(own), complete_value(own, complete));
}

struct hl_http_ask *hl_ietf_ask_new(struct hl_http_upload *u,
                                    struct hl_http_part *part,
                                    const char *method,
                                    void (*done)(struct hl_http_ask *ask))
{
    const struct hl_ietf *own = u->own;
    struct hl_http_ask *ask = hl_http_ask_new(u, part, done);

    if (!ask)
        return NULL;
    ask->call.method = method;
    ask->call.url = own->place.url;
    ask->call.foreign = own->place.foreign;
    ask->call.want = hl_ietf_want;
    ask->call.timeout_ns = u->ep->stall_ns;
    hl_ietf_add_number(ask, "Upload-Draft-Interop-Version", own->interop);
    return ask;
}

/* ---- Answers ------------------------------------------------------------ */

enum hl_ietf_said hl_ietf_says_complete(char *const *got)
{
    const char *complete = got[HL_IETF_GOT_COMPLETE];
    const char *incomplete = got[HL_IETF_GOT_INCOMPLETE];
    bool b;

    if (complete && hl_upload_boolean(complete, &b))
        return b ? HL_IETF_YES : HL_IETF_NO;
    if (incomplete && hl_upload_boolean(incomplete, &b))
        return b ? HL_IETF_NO : HL_IETF_YES;
    return HL_IETF_UNSAID;
}

void hl_ietf_use_limit(struct hl_http_upload *u)
{
    const struct hl_ietf *own = u->own;

    if (!own->limit.append_max)
        return;
    u->bound = hl_min(u->bound, own->limit.append_max);
    u->bound_max = hl_min(u->bound_max, own->limit.append_max);
}

void hl_ietf_read_limit(struct hl_http_upload *u, char *const *got)
{
    struct hl_ietf *own = u->own;
    const char *limit = got[HL_IETF_GOT_LIMIT];

    if (limit && hl_upload_limit(limit, &own->limit))
        hl_ietf_use_limit(u);
}

bool hl_ietf_is_gone(int status)
{
    return status == 404 || status == 410;
}

int hl_ietf_lost(const struct hl_http_upload *u, struct hl_error *err)
{
    hl_err_clear(err);
    return hl_err(err, HAUL_E_LOST, 0, "'%s' does not know the upload any more",
                  u->obj->display);
}

int hl_ietf_refused(const struct hl_http_upload *u, int status,
                    struct hl_error *err)
{
    if (hl_ietf_is_gone(status))
        return hl_ietf_lost(u, err);
    if (status == 409) {
        hl_err_clear(err);
        hl_err(err, HAUL_E_PROTO, 0,
               "'%s' is at another place of the upload than was said",
               u->obj->display);
    } else if (status == 423) {
        hl_err_clear(err);
        hl_err(err, HAUL_E_REMOTE_BUSY, 0,
               "'%s' has not ended an earlier request yet", u->obj->display);
    }
    return err->code;
}

/* Statuses of an answer that say nothing about the whole, whatever was sent. */
static bool is_about_request(int status)
{
    static const int statuses[] = {401, 403, 404, 407, 408, 409, 410,
                                   412, 413, 415, 423, 425, 429};

    for (size_t i = 0; i < HL_LEN(statuses); i++)
        if (status == statuses[i])
            return true;
    return false;
}

bool hl_ietf_is_final(enum hl_ietf_said said, bool asked, int status)
{
    if (said != HL_IETF_UNSAID)
        return said == HL_IETF_YES;
    if (!asked || status >= 500 || is_about_request(status))
        return false;
    return status < 300 || status >= 400;
}

int hl_ietf_refused_whole(struct hl_http_upload *u, struct hl_error *err)
{
    struct hl_ietf *own = u->own;

    own->spent = true;
    if (hl_err_retry_class(err->code) != HL_RETRY_NEVER)
        err->code = HAUL_E_REMOTE;
    return err->code;
}

void hl_ietf_keep_answer(struct hl_http_upload *u, int status, char **body,
                         size_t len, const char *location)
{
    const struct hl_ietf *own = u->own;
    struct hl_answer *a = &u->answer;
    struct hl_http_place place = {0};
    struct hl_error ignored = {0};

    hl_free(a->body);
    hl_free_secret(a->location);
    a->status = status;
    a->body = *body;
    a->body_len = len;
    a->location = NULL;
    *body = NULL;
    /* Some name the upload resource once more. */
    if (location &&
        !hl_http_place_set(&place, u->obj->url, location, &ignored) &&
        strcmp(place.url, u->obj->url) != 0 &&
        strcmp(place.url, own->place.url) != 0) {
        a->location = place.url;
        place.url = NULL;
    }
    hl_http_place_fini(&place);
}

/* ---- Token -------------------------------------------------------------- */

void hl_ietf_save_token(const struct hl_http_upload *u)
{
    const struct hl_ietf *own = u->own;
    char *token = hl_asprintf(
        "way=ietf\nurl=%s\ninterop=%" PRIu32 "\npost=%d\n%s", own->place.url,
        own->interop, own->post, own->spent ? "spent=1\n" : "");

    hl_object_token(&u->obj->base, token);
    hl_free_secret(token);
}

static bool token_flag(const char *token, const char *key)
{
    char *value = hl_http_token_get(token, key);
    bool set = value && !strcmp(value, "1");

    hl_free_secret(value);
    return set;
}

int hl_ietf_take_token(struct hl_http_upload *u, const char *token,
                       struct hl_error *err)
{
    struct hl_ietf *own = u->own;
    char *url = hl_http_token_get(token, "url");
    char *interop = hl_http_token_get(token, "interop");
    uint64_t n;
    int rc = 0;

    if (url)
        rc = hl_http_place_set(&own->place, u->obj->url, url, err);
    if (interop && hl_http_number(interop, &n) && n >= HL_HTTP_INTEROP_OLDEST &&
        n <= HL_HTTP_INTEROP_NEWEST)
        own->interop = (uint32_t)n;
    own->post = token_flag(token, "post");
    own->spent = token_flag(token, "spent");
    hl_free_secret(url);
    hl_free(interop);
    return rc;
}

static void token_saved(struct hl_http_upload *u, int rc)
{
    const struct hl_ietf *own = u->own;
    struct hl_error err = own->refusal;

    if (u->commit && own->spent)
        hl_http_upload_committed(u, err.code, &err);
    else if (u->open)
        hl_ietf_open_saved(u, rc);
}

/* ---- Asking for the offset ---------------------------------------------- */

void hl_ietf_offset_failed(struct hl_http_upload *u, struct hl_http_part *part,
                           int rc, struct hl_error *err)
{
    hl_err(err, rc, 0, "%s", haul_err_text(rc));
    if (part)
        hl_http_part_begun(part, rc, err);
    else if (u->open)
        hl_http_upload_opened(u, rc, err);
    else
        hl_http_upload_committed(u, rc, err);
}

static void offset_for_part(struct hl_http_upload *u, struct hl_http_part *part,
                            enum hl_ietf_said said)
{
    struct hl_ietf *own = u->own;
    struct hl_error err = {0};

    own->known = false;
    if (said == HL_IETF_YES && own->offset != part->len) {
        hl_err(&err, HAUL_E_LOST, 0,
               "'%s' calls an upload complete of which %" PRIu64
               " bytes are there",
               u->obj->display, own->offset);
        hl_ietf_offset_failed(u, part, err.code, &err);
        return;
    }
    own->complete = own->told = said == HL_IETF_YES;
    part->offset = own->offset;
    hl_http_part_begun(part, 0, NULL);
}

static void on_offset(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ietf *own = u->own;
    const struct hl_http_call *call = &ask->call;
    enum hl_ietf_said said = hl_ietf_says_complete(call->got);
    const char *offset = call->got[HL_IETF_GOT_OFFSET];
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    if (!call->op.rc && hl_ietf_is_gone(call->status)) {
        if (u->open)
            hl_ietf_open_gone(u);
        else
            hl_ietf_offset_failed(u, ask->part, hl_ietf_lost(u, &err), &err);
        return;
    }
    if (!rc && (!offset || !hl_upload_integer(offset, &own->offset)))
        rc = hl_err(&err, HAUL_E_PROTO, 0,
                    "'%s' does not say how much of the upload it has",
                    u->obj->display);
    if (rc) {
        hl_ietf_offset_failed(u, ask->part, rc, &err);
        return;
    }
    hl_ietf_read_limit(u, call->got);
    own->known = true;
    if (ask->part)
        offset_for_part(u, ask->part, said);
    else if (u->open)
        hl_ietf_open_offset(u, said);
    else
        hl_ietf_commit_offset(u, said);
}

void hl_ietf_ask_offset(struct hl_http_upload *u, struct hl_http_part *part)
{
    struct hl_http_ask *ask = hl_ietf_ask_new(u, part, "HEAD", on_offset);
    struct hl_error err = {0};

    if (!ask) {
        hl_ietf_offset_failed(u, part, HAUL_E_NOMEM, &err);
        return;
    }
    ask->call.kept = true;
    hl_http_ask_go(ask);
}

/* ---- Bodies ------------------------------------------------------------- */

static void begin(struct hl_http_upload *u, struct hl_http_part *part)
{
    struct hl_ietf *own = u->own;

    if (!own->known) {
        hl_ietf_ask_offset(u, part);
        return;
    }
    own->known = false;
    part->offset = own->offset;
    hl_http_part_begun(part, 0, NULL);
}

static int add_line(struct hl_http_request *req, const char *name,
                    const char *value)
{
    char *line = value ? hl_asprintf("%s: %s", name, value) : NULL;
    int rc = line ? hl_http_request_add(req, line) : HAUL_E_NOMEM;

    hl_free(line);
    return rc;
}

static int add_line_number(struct hl_http_request *req, const char *name,
                           uint64_t n)
{
    char *value = hl_asprintf("%" PRIu64, n);
    int rc = add_line(req, name, value);

    hl_free(value);
    return rc;
}

static int start_body(struct hl_http_upload *u, struct hl_http_part *part,
                      struct hl_http_request *req, uint64_t *len,
                      struct hl_error *err)
{
    struct hl_ietf *own = u->own;
    uint64_t rest = part->len - part->offset; /* large when it is not known */
    int rc;

    /* Only the last one may be smaller, and has to say that it is the last. */
    if (u->size != HL_SIZE_UNKNOWN && *len < own->limit.append_min)
        *len = hl_min(rest, own->limit.append_min);
    own->last = *len == rest && *len < own->limit.append_min;
    own->ending = own->ending || own->last;
    own->from = own->at = part->offset;
    req->method = "PATCH";
    req->url = hl_strdup(own->place.url);
    req->foreign = own->place.foreign;
    rc = req->url ? 0 : HAUL_E_NOMEM;
    if (!rc)
        rc = add_line(req, "Content-Type", "application/partial-upload");
    if (!rc)
        rc = add_line_number(req, "Upload-Draft-Interop-Version", own->interop);
    if (!rc)
        rc = add_line_number(req, "Upload-Offset", part->offset);
    if (!rc)
        rc = add_line(req, complete_name(own), complete_value(own, own->last));
    return rc ? hl_err(err, rc, 0, "out of memory") : 0;
}

static int final_body(struct hl_http_upload *u, struct hl_http_part *part,
                      struct hl_http_sent *s, struct hl_error *err)
{
    struct hl_ietf *own = u->own;

    if (!hl_http_sent_refused(part, s, err)) {
        if (part->expected != part->len)
            return hl_err(err, HAUL_E_PROTO, 0,
                          "'%s' calls an upload complete of which %" PRIu64
                          " bytes were sent",
                          u->obj->display, part->expected);
        hl_ietf_compare(u, s->got[HL_IETF_GOT_DIGEST], part->expected, err);
    }
    hl_ietf_keep_answer(u, s->status, &s->answer.body, s->answer.body_len,
                        s->got[HL_IETF_GOT_LOCATION]);
    if (err->code) {
        hl_ietf_refused_whole(u, err);
        hl_ietf_save_token(u);
        return err->code;
    }
    own->complete = true;
    own->told = hl_ietf_says_complete(s->got) == HL_IETF_YES;
    part->offset = part->expected;
    return 0;
}

static int sent(struct hl_http_upload *u, struct hl_http_part *part,
                struct hl_http_sent *s, struct hl_error *err)
{
    const struct hl_ietf *own = u->own;
    const char *offset = s->got[HL_IETF_GOT_OFFSET];
    uint64_t told;
    int rc;

    hl_ietf_read_limit(u, s->got);
    if (!s->rc &&
        hl_ietf_is_final(hl_ietf_says_complete(s->got), own->last, s->status))
        return final_body(u, part, s, err);
    rc = hl_http_sent_refused(part, s, err);
    if (rc)
        return s->rc ? rc : hl_ietf_refused(u, s->status, err);
    if (offset &&
        (!hl_upload_integer(offset, &told) || told != part->expected)) {
        hl_err(err, HAUL_E_PROTO, 0,
               "'%s' has not all of %" PRIu64 " bytes that were sent",
               u->obj->display, part->expected);
        return hl_err_detail(err, "Upload-Offset: %s", offset);
    }
    part->offset = part->expected;
    return 0;
}

/* ---- Life --------------------------------------------------------------- */

/* The server computes it over all there is, so only who asks for that gets
 * it. */
static const struct hl_digest *wanted_digest(const struct hl_env *env)
{
    const char *mode = hl_opts_str(env->opts, HAUL_OPT_VERIFY);

    return env->digest && !strcmp(mode, "remote") ? env->digest("sha256")
                                                  : NULL;
}

static int init(struct hl_http_upload *u, struct hl_error *err)
{
    const struct hl_http_speaks *speaks = u->obj->speaks;
    struct hl_ietf *own = hl_malloc(sizeof(*own));

    if (!own)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    u->own = own;
    own->interop = HL_HTTP_INTEROP_NEWEST;
    own->digest = wanted_digest(u->ep->base.env);
    hl_upload_limit_init(&own->limit);
    if (speaks && speaks->protocol == &hl_http_ietf) {
        own->limit = speaks->limit;
        own->post = speaks->post;
        if (speaks->interop)
            own->interop = speaks->interop;
    }
    return 0;
}

static void free_own(struct hl_http_upload *u)
{
    struct hl_ietf *own = u->own;

    if (!own)
        return;
    hl_http_place_fini(&own->place);
    if (own->hash)
        own->digest->ordered_free(own->hash);
    hl_free(own);
}

const struct hl_http_protocol hl_http_ietf = {
    .name = "ietf",
    .want = hl_ietf_want,
    .init = init,
    .free = free_own,
    .open = hl_ietf_open,
    .begin = begin,
    .send = start_body,
    .data = hl_ietf_hash,
    .sent = sent,
    .commit = hl_ietf_commit,
    .discard = hl_ietf_discard,
    .token_saved = token_saved,
};
