/*
 * tus 1.0.0 as a way of uploading: the parts of an object, their bodies, and
 * what is asked after a break. Engine thread.
 *
 * A body is acknowledged by an answer that tells the offset behind it, and by
 * nothing else: @tus/server answers 204 with a smaller one to a PATCH that was
 * disturbed. A HEAD may disturb one, so that nothing is asked while a body is
 * under way (hl_http_part keeps to that).
 */
#include "tus.h"

#include <inttypes.h>
#include <string.h>

#define VERSION "1.0.0"
#define BODY_TYPE "application/offset+octet-stream"
/* So often a body may arrive damaged, and a request not be understood. */
#define BAD_SUMS_MAX 3u
#define BAD_REQUESTS_MAX 2u
/* Parts that are made ahead are named in tokens of so many more. */
#define SAVE_EVERY 16u
/* Uploads live longer when something is sent to them: the token follows when
 * it would be wrong by more than that. */
#define EXPIRY_STEP_S 600

static const char *const want[] = {[HL_TUS_GOT_OFFSET] = "Upload-Offset",
                                   [HL_TUS_GOT_LENGTH] = "Upload-Length",
                                   [HL_TUS_GOT_EXPIRES] = "Upload-Expires",
                                   NULL};

/* ---- What is kept ------------------------------------------------------- */

uint64_t hl_tus_part_len(const struct hl_tus *t, uint32_t index)
{
    uint64_t size = t->upload->size;

    if (!t->part_size)
        return size;
    return hl_min(t->part_size, size - index * t->part_size);
}

void hl_tus_drop_parts(struct hl_tus *t)
{
    for (uint32_t i = 0; i < t->count; i++)
        hl_http_place_fini(&t->parts[i].place);
    hl_free(t->parts);
    hl_http_place_fini(&t->final);
    t->parts = NULL;
    t->count = 0;
    t->part_size = 0;
    t->unsummed = t->deferred = t->asked_to_join = false;
}

/* When the first of them goes; 0: nobody said so. */
static int64_t kept_until(const struct hl_tus *t)
{
    int64_t first = 0;

    for (uint32_t i = 0; i < t->count; i++) {
        int64_t s = t->parts[i].expires_s;

        if (s && (!first || s < first))
            first = s;
    }
    return first;
}

int hl_tus_save(struct hl_tus *t, struct hl_error *err)
{
    char **urls = hl_calloc(t->count, sizeof(*urls));
    struct hl_tus_saved saved = {.part_size = t->part_size,
                                 .create = t->at_folder ? t->create_url : NULL,
                                 .alg = t->alg,
                                 .unsummed = t->unsummed,
                                 .expires_s = kept_until(t),
                                 .urls = urls,
                                 .count = t->count,
                                 .final = t->final.url};
    char *text = NULL;

    for (uint32_t i = 0; i < t->count && urls; i++)
        urls[i] = t->parts[i].place.url;
    if (urls)
        text = hl_tus_token(&saved);
    hl_free(urls);
    if (!text)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    t->kept_until_s = saved.expires_s;
    t->unsaved = 0;
    t->tokens_asked++;
    for (uint32_t i = 0; i < t->count; i++)
        if (t->parts[i].place.url && !t->parts[i].saved_in)
            t->parts[i].saved_in = t->tokens_asked;
    hl_object_token(&t->upload->obj->base, text);
    hl_free_secret(text);
    return 0;
}

bool hl_tus_is_saved(const struct hl_tus *t, uint32_t index)
{
    uint32_t in = t->parts[index].saved_in;

    return in && in <= t->tokens_saved;
}

static void note_expiry(struct hl_tus *t, uint32_t index, const char *value)
{
    int64_t s;

    if (value && hl_http_date(value, &s))
        t->parts[index].expires_s = s;
}

/* ---- Asking ------------------------------------------------------------- */

static const struct hl_http_field plain[] = {
    {.name = "Tus-Resumable", .value = VERSION}};

struct hl_http_ask *hl_tus_ask(struct hl_tus *t, struct hl_http_part *part,
                               const char *method, const char *url,
                               void (*done)(struct hl_http_ask *ask))
{
    struct hl_http_ask *ask = hl_http_ask_new(t->upload, part, done);

    if (!ask)
        return NULL;
    ask->call.method = method;
    ask->call.url = url;
    ask->call.headers = plain;
    ask->call.header_count = HL_LEN(plain);
    ask->call.want = want;
    ask->call.timeout_ns = t->upload->ep->stall_ns;
    return ask;
}

struct hl_http_ask *hl_tus_ask_at(struct hl_tus *t, struct hl_http_part *part,
                                  const char *method,
                                  const struct hl_http_place *place,
                                  void (*done)(struct hl_http_ask *ask))
{
    struct hl_http_ask *ask = hl_tus_ask(t, part, method, NULL, done);

    if (!ask)
        return NULL;
    ask->call.url = hl_http_ask_keep(ask, hl_strdup(place->url));
    ask->call.foreign = place->foreign;
    return ask;
}

void hl_tus_add(struct hl_http_ask *ask, struct hl_http_field *headers,
                const char *name, char *value)
{
    size_t n = ask->call.header_count;

    HL_ASSERT(n < HL_TUS_HEADERS);
    if (ask->call.headers == plain)
        headers[0] = plain[0];
    headers[n] = (struct hl_http_field){.name = name, .value = value};
    hl_http_ask_keep(ask, value);
    ask->call.headers = headers;
    ask->call.header_count = n + 1;
}

/* ---- What answers mean -------------------------------------------------- */

/* 0: what it means to HTTP. */
static int status_error(const struct hl_http_upload *u, int status,
                        struct hl_error *err)
{
    const char *name = u->obj->display;
    int rc = 0;

    if (status == 409)
        rc = hl_err(err, HAUL_E_PROTO, 0,
                    "'%s' is not where the upload was to go on", name);
    else if (status == 412)
        rc = hl_err(err, HAUL_E_REMOTE, 0,
                    "'%s' speaks another version of tus than " VERSION, name);
    else if (status == 423)
        rc = hl_err(err, HAUL_E_REMOTE_BUSY, 0,
                    "'%s' is still at work for another request", name);
    if (rc && err) {
        err->proto_status = status;
        hl_err_detail(err, "HTTP status %d", status);
    }
    return rc;
}

int hl_tus_refused(const struct hl_http_ask *ask, struct hl_error *err)
{
    int rc = 0;

    if (!ask->call.op.rc)
        rc = status_error(ask->upload, ask->call.status, err);
    if (rc && err)
        err->retry_after_ns = ask->call.retry_after_ns;
    return rc ? rc : hl_http_ask_refused(ask, err);
}

/* What HEAD may not be answered with: 403 is one of the ways to say that an
 * upload is gone, but not with an offset (tus, core protocol, HEAD). */
static bool is_gone(const struct hl_http_call *call)
{
    return call->status == 404 || call->status == 410 ||
           (call->status == 403 && !call->got[HL_TUS_GOT_OFFSET]);
}

static uint64_t number_of(const char *value)
{
    uint64_t n;

    return value && hl_http_number(value, &n) ? n : HL_SIZE_UNKNOWN;
}

enum hl_tus_seen hl_tus_read_head(const struct hl_http_ask *ask,
                                  struct hl_tus_state *state,
                                  struct hl_error *err)
{
    const struct hl_http_call *call = &ask->call;

    hl_tus_of(ask->upload)->status = call->op.rc ? 0 : call->status;
    if (!call->op.rc && is_gone(call))
        return HL_TUS_GONE;
    if (hl_tus_refused(ask, err))
        return HL_TUS_FAILED;
    state->offset = number_of(call->got[HL_TUS_GOT_OFFSET]);
    state->length = number_of(call->got[HL_TUS_GOT_LENGTH]);
    return HL_TUS_THERE;
}

/* Can that be the upload that was begun? */
static int check_state(const struct hl_tus *t, uint32_t index,
                       const struct hl_tus_state *state, struct hl_error *err)
{
    const char *name = t->upload->obj->display;
    uint64_t len = hl_tus_part_len(t, index);

    if (state->offset == HL_SIZE_UNKNOWN)
        return hl_err(err, HAUL_E_PROTO, 0,
                      "'%s' does not say how many bytes it has", name);
    if (len == HL_SIZE_UNKNOWN ||
        (state->offset <= len &&
         (state->length == HL_SIZE_UNKNOWN || state->length == len)))
        return 0;
    if (state->offset > len)
        hl_err(err, HAUL_E_RESUME, 0,
               "'%s' claims %" PRIu64 " bytes of an upload of %" PRIu64, name,
               state->offset, len);
    else
        hl_err(err, HAUL_E_RESUME, 0,
               "'%s' has an upload of %" PRIu64 " bytes there, not of %" PRIu64,
               name, state->length, len);
    return hl_err_hint(err, "It is not what was begun: start anew with "
                            "--resume never.");
}

enum hl_tus_seen hl_tus_read_part(struct hl_tus *t, uint32_t index,
                                  const struct hl_http_ask *ask,
                                  struct hl_error *err)
{
    struct hl_tus_part *p = &t->parts[index];
    struct hl_tus_state state;
    enum hl_tus_seen seen = hl_tus_read_head(ask, &state, err);

    p->known = false;
    if (seen == HL_TUS_GONE) {
        hl_http_place_fini(&p->place);
        p->offset = 0;
        p->expires_s = 0;
        p->saved_in = 0;
    }
    if (seen != HL_TUS_THERE)
        return seen;
    if (check_state(t, index, &state, err))
        return HL_TUS_FAILED;
    note_expiry(t, index, ask->call.got[HL_TUS_GOT_EXPIRES]);
    /* Bodies end where chunks end: this one was cut, and what came of it has
     * been compared with nothing. */
    if (t->alg && state.offset % t->upload->chunk_size &&
        state.offset != hl_tus_part_len(t, index))
        t->unsummed = true;
    if (state.length != HL_SIZE_UNKNOWN)
        t->deferred = false;
    p->offset = state.offset;
    p->known = true;
    return HL_TUS_THERE;
}

/* ---- Making an upload --------------------------------------------------- */

int hl_tus_create(struct hl_tus *t, uint32_t index,
                  void (*done)(struct hl_http_ask *ask))
{
    struct hl_tus_part *p = &t->parts[index];
    uint64_t len = hl_tus_part_len(t, index);
    struct hl_http_ask *ask = hl_tus_ask(t, NULL, "POST", t->create_url, done);

    if (!ask)
        return HAUL_E_NOMEM;
    ask->number = index;
    /* Sent twice it makes an upload that stays empty: no harm. */
    ask->call.kept = t->part_size != 0;
    if (len == HL_SIZE_UNKNOWN)
        hl_tus_add(ask, p->headers, "Upload-Defer-Length", hl_strdup("1"));
    else
        hl_tus_add(ask, p->headers, "Upload-Length",
                   hl_asprintf("%" PRIu64, len));
    if (t->part_size)
        hl_tus_add(ask, p->headers, "Upload-Concat", hl_strdup("partial"));
    else if (t->metadata)
        hl_tus_add(ask, p->headers, "Upload-Metadata", hl_strdup(t->metadata));
    hl_http_ask_go(ask);
    return 0;
}

static int too_large(const struct hl_tus *t, const struct hl_http_ask *ask,
                     struct hl_error *err)
{
    const struct hl_http_speaks *speaks = t->upload->obj->speaks;

    hl_err(err, HAUL_E_REMOTE, 0, "'%s' takes no upload of that size",
           t->upload->obj->display);
    err->proto_status = ask->call.status;
    if (speaks && speaks->tus_max != HL_SIZE_UNKNOWN)
        return hl_err_hint(err, "It takes at most %" PRIu64 " bytes.",
                           speaks->tus_max);
    return hl_err_hint(err, "The limit is one of the server, or of a proxy "
                            "before it.");
}

int hl_tus_created(struct hl_tus *t, const struct hl_http_ask *ask,
                   struct hl_error *err)
{
    struct hl_tus_part *p = &t->parts[ask->number];
    const struct hl_http_call *call = &ask->call;
    const char *name = t->upload->obj->display;
    int rc;

    t->status = call->op.rc ? 0 : call->status;
    if (!call->op.rc && call->status == 413)
        return too_large(t, ask, err);
    rc = hl_tus_refused(ask, err);
    if (rc)
        return rc;
    if (call->status != 201 || !call->location) {
        hl_err(err, HAUL_E_PROTO, 0,
               "'%s' answered %d%s when an upload was to be made", name,
               call->status, call->location ? "" : " without an address");
        err->proto_status = call->status;
        return hl_err_hint(err, "It does not speak tus at this address.");
    }
    rc = hl_http_place_set(&p->place, t->create_url, call->location, err);
    if (rc)
        return rc;
    p->offset = 0;
    p->known = true;
    p->careful = false;
    p->bad_sums = p->bad_requests = 0;
    p->expires_s = 0;
    p->saved_in = 0;
    note_expiry(t, (uint32_t)ask->number, call->got[HL_TUS_GOT_EXPIRES]);
    if (hl_tus_part_len(t, (uint32_t)ask->number) == HL_SIZE_UNKNOWN)
        t->deferred = true;
    return 0;
}

/* ---- Getting a part ready ----------------------------------------------- */

static void begun(struct hl_tus *t, struct hl_http_part *part)
{
    part->offset = t->parts[part->index].offset;
    hl_http_part_begun(part, 0, NULL);
}

/* Its bytes go when what is known of it now is kept. */
static void begin_when_saved(struct hl_tus *t, struct hl_http_part *part)
{
    struct hl_tus_part *p = &t->parts[part->index];
    struct hl_error err = {0};
    int rc = hl_tus_save(t, &err);

    if (rc) {
        hl_http_part_begun(part, rc, &err);
        return;
    }
    p->saved_in = t->tokens_asked;
    p->waiting = part;
}

static void make_ahead(struct hl_tus *t);

static void on_made(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    struct hl_tus_part *p = &t->parts[ask->number];
    struct hl_http_part *part = p->waiting;
    struct hl_error err = {0};
    int rc = hl_tus_created(t, ask, &err);

    p->making = false;
    p->waiting = NULL;
    t->making--;
    t->unsaved += rc == 0;
    t->make_no_more = t->make_no_more || rc;
    make_ahead(t);
    if (part && rc)
        hl_http_part_begun(part, rc, &err);
    else if (part)
        begin_when_saved(t, part);
    else if (t->unsaved >= SAVE_EVERY || (t->unsaved && !t->making))
        hl_tus_save(t, NULL); /* or when its turn comes */
}

static int make(struct hl_tus *t, uint32_t index)
{
    int rc = hl_tus_create(t, index, on_made);

    t->parts[index].making = rc == 0;
    t->making += rc == 0;
    return rc;
}

/* While others are sent, so that none has to wait when its turn comes. Only
 * from begin() on: what is out then comes home before the object is closed. */
static void make_ahead(struct hl_tus *t)
{
    for (uint32_t i = 0; i < t->count && t->making < HL_TUS_MAKES; i++) {
        const struct hl_tus_part *p = &t->parts[i];

        if (t->make_no_more)
            return;
        if (!p->place.url && !p->making)
            t->make_no_more = make(t, i) != 0;
    }
}

static void on_asked(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    struct hl_http_part *part = ask->part;
    bool unsummed = t->unsummed;
    struct hl_error err = {0};

    switch (hl_tus_read_part(t, (uint32_t)part->index, ask, &err)) {
    case HL_TUS_THERE:
        if (t->unsummed != unsummed)
            begin_when_saved(t, part);
        else
            begun(t, part);
        break;
    case HL_TUS_GONE:
        hl_err(&err, HAUL_E_LOST, 0, "'%s' no longer has the upload",
               ask->upload->obj->display);
        /* fall through */
    case HL_TUS_FAILED:
        hl_http_part_begun(part, err.code, &err);
        break;
    }
}

static int ask_about(struct hl_tus *t, struct hl_http_part *part)
{
    struct hl_tus_part *p = &t->parts[part->index];
    struct hl_http_ask *ask =
        hl_tus_ask_at(t, part, "HEAD", &p->place, on_asked);

    if (!ask)
        return HAUL_E_NOMEM;
    p->careful = true;
    ask->call.kept = true;
    hl_http_ask_go(ask);
    return 0;
}

static void begin(struct hl_http_upload *u, struct hl_http_part *part)
{
    struct hl_tus *t = hl_tus_of(u);
    uint32_t index = (uint32_t)part->index;
    struct hl_tus_part *p = &t->parts[index];
    struct hl_error err = {0};
    int rc = 0;

    HL_ASSERT(index < t->count);
    make_ahead(t);
    if (!p->place.url) {
        if (!p->making)
            rc = make(t, index);
        p->waiting = rc ? NULL : part;
    } else if (!p->saved_in) {
        begin_when_saved(t, part);
    } else if (!hl_tus_is_saved(t, index)) {
        p->waiting = part;
    } else if (p->known) {
        begun(t, part);
    } else {
        rc = ask_about(t, part);
    }
    if (rc) {
        hl_err(&err, rc, 0, "out of memory");
        hl_http_part_begun(part, rc, &err);
    }
}

static void token_saved(struct hl_http_upload *u, int rc)
{
    struct hl_tus *t = hl_tus_of(u);
    struct hl_error err = {0};

    t->tokens_saved++;
    if (rc)
        hl_err(&err, rc, 0, "cannot keep what names the upload at '%s'",
               u->obj->display);
    if (t->saving && (rc || t->tokens_saved == t->tokens_asked)) {
        t->saving = false;
        hl_tus_open_saved(t, &err);
    }
    for (uint32_t i = 0; i < t->count; i++) {
        struct hl_http_part *part = t->parts[i].waiting;

        if (!part || !hl_tus_is_saved(t, i))
            continue;
        t->parts[i].waiting = NULL;
        if (rc)
            hl_http_part_begun(part, rc, &err);
        else
            begun(t, part);
    }
}

/* ---- Bodies ------------------------------------------------------------- */

/* Takes line; NULL: out of memory. */
static int add(struct hl_http_request *req, char *line)
{
    int rc = line ? hl_http_request_add(req, line) : HAUL_E_NOMEM;

    hl_free(line);
    return rc;
}

static int add_headers(const struct hl_tus *t, const struct hl_http_part *part,
                       struct hl_http_request *req, uint64_t len)
{
    uint64_t n;
    char *sum;
    int rc = hl_http_request_add(req, "Tus-Resumable: " VERSION);

    if (!rc)
        rc = hl_http_request_add(req, "Content-Type: " BODY_TYPE);
    if (!rc)
        rc = add(req, hl_asprintf("Upload-Offset: %" PRIu64, part->offset));
    if (!rc && t->no_patch)
        rc = hl_http_request_add(req, "X-HTTP-Method-Override: PATCH");
    if (rc || !t->alg)
        return rc;
    sum = hl_tus_checksum(t->alg, hl_http_part_data(part, &n), len);
    rc = sum ? add(req, hl_asprintf("Upload-Checksum: %s", sum)) : HAUL_E_NOMEM;
    hl_free(sum);
    return rc;
}

static int send_body(struct hl_http_upload *u, struct hl_http_part *part,
                     struct hl_http_request *req, uint64_t *len,
                     struct hl_error *err)
{
    struct hl_tus *t = hl_tus_of(u);
    struct hl_tus_part *p = &t->parts[part->index];
    uint64_t there;

    if (t->alg) {
        hl_http_part_data(part, &there);
        *len = hl_min(*len, there);
    }
    req->method = t->no_patch ? "POST" : "PATCH";
    req->url = hl_strdup(p->place.url);
    req->foreign = p->place.foreign;
    req->expect = p->careful || !t->went_well;
    if (!req->url || add_headers(t, part, req, *len))
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    p->known = false;
    return 0;
}

/* The last thing that the server said to bytes, for the user. */
static void keep_answer(struct hl_http_upload *u, struct hl_http_sent *sent)
{
    hl_free(u->answer.body);
    hl_free_secret(u->answer.location);
    u->answer = sent->answer;
    u->answer.status = sent->status;
    memset(&sent->answer, 0, sizeof(sent->answer));
}

static int bad_sum(const struct hl_http_upload *u, struct hl_tus_part *p,
                   struct hl_error *err)
{
    int code = ++p->bad_sums < BAD_SUMS_MAX ? HAUL_E_PROTO : HAUL_E_DIGEST;

    hl_err(err, code, 0, "'%s' got other bytes than were sent%s",
           u->obj->display, code == HAUL_E_DIGEST ? ", again and again" : "");
    err->proto_status = 460;
    if (code == HAUL_E_DIGEST)
        hl_err_hint(err, "Something between here and the server changes "
                         "them, or its memory is bad.");
    hl_err_detail(err, "HTTP status 460");
    return code;
}

/* What PATCH means by its statuses, where HTTP or HEAD mean something else; 0:
 * nothing. */
static int patch_error(struct hl_tus *t, struct hl_tus_part *p, int status,
                       struct hl_error *err)
{
    const char *name = t->upload->obj->display;
    int rc = 0;

    switch (status) {
    case 404:
    case 410:
        rc = hl_err(err, HAUL_E_LOST, 0, "'%s' no longer has the upload", name);
        break;
    case 460:
        return bad_sum(t->upload, p, err);
    case 400:
        /* Also what a PATCH ends with that another request came between. */
        if (++p->bad_requests < BAD_REQUESTS_MAX)
            rc = hl_err(err, HAUL_E_PROTO, 0,
                        "'%s' gave up a part of the upload", name);
        break;
    case 405:
    case 501:
        if (t->no_patch)
            break;
        t->no_patch = true;
        rc = hl_err(err, HAUL_E_PROTO, 0,
                    "'%s' takes no PATCH, POST in its place is tried", name);
        break;
    default:
        return status_error(t->upload, status, err);
    }
    if (rc) {
        err->proto_status = status;
        hl_err_detail(err, "HTTP status %d", status);
    }
    return rc;
}

/* The offset that a success tells. */
static int read_offset(struct hl_http_part *part,
                       const struct hl_http_sent *sent, struct hl_error *err)
{
    uint64_t offset = number_of(sent->got[HL_TUS_GOT_OFFSET]);

    /* 204 is right; the application may have put another word in its place
     * when the upload ended. */
    if (offset == HL_SIZE_UNKNOWN) {
        hl_err(err, HAUL_E_PROTO, 0,
               "'%s' answered %d without saying how many bytes it has",
               part->upload->obj->display, sent->status);
        err->proto_status = sent->status;
        return err->code;
    }
    part->offset = offset;
    return 0;
}

static int judge(struct hl_http_part *part, const struct hl_http_sent *sent,
                 struct hl_error *err)
{
    struct hl_tus *t = hl_tus_of(part->upload);
    int rc = 0;

    if (!sent->rc)
        rc = patch_error(t, &t->parts[part->index], sent->status, err);
    if (rc && err)
        err->retry_after_ns = sent->retry_after_ns;
    if (!rc)
        rc = hl_http_sent_refused(part, sent, err);
    return rc ? rc : read_offset(part, sent, err);
}

static int on_sent(struct hl_http_upload *u, struct hl_http_part *part,
                   struct hl_http_sent *sent, struct hl_error *err)
{
    struct hl_tus *t = hl_tus_of(u);
    struct hl_tus_part *p = &t->parts[part->index];
    int rc = judge(part, sent, err);

    if (sent->status)
        keep_answer(u, sent);
    if (rc || part->offset != part->expected)
        return rc;
    p->offset = part->offset;
    p->known = true;
    p->careful = false;
    t->went_well = true;
    p->bad_sums = p->bad_requests = 0;
    note_expiry(t, (uint32_t)part->index, sent->got[HL_TUS_GOT_EXPIRES]);
    /* It is only for a message: no harm when it cannot be kept. */
    if (kept_until(t) > t->kept_until_s + EXPIRY_STEP_S)
        hl_tus_save(t, NULL);
    return 0;
}

/* ---- Life --------------------------------------------------------------- */

static int init(struct hl_http_upload *u, struct hl_error *err)
{
    struct hl_tus *t = hl_malloc(sizeof(*t));

    if (!t)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    u->own = t;
    t->upload = u;
    t->tokens_asked = t->tokens_saved = 1; /* that of an earlier run */
    t->timer.fn = hl_tus_on_timer;
    t->create_url = hl_strdup(u->obj->url);
    return t->create_url ? 0 : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
}

static void destroy(struct hl_http_upload *u)
{
    struct hl_tus *t = hl_tus_of(u);

    if (!t)
        return;
    hl_timer_cancel(&t->timer);
    hl_tus_drop_parts(t);
    hl_tus_drop_urls(t);
    hl_free_secret(t->create_url);
    hl_free(t->metadata);
    hl_free(t->said);
    hl_free(t);
    u->own = NULL;
}

const struct hl_http_protocol hl_http_tus = {
    .name = "tus",
    .want = want,
    .init = init,
    .free = destroy,
    .open = hl_tus_open,
    .begin = begin,
    .send = send_body,
    .sent = on_sent,
    .commit = hl_tus_commit,
    .discard = hl_tus_discard,
    .token_saved = token_saved,
};
