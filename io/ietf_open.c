/*
 * Uploads by the IETF draft: what is there, and making what is missing
 * (ietf.h). Engine thread.
 */
#include <inttypes.h>
#include <string.h>

#include "ietf.h"
#include "stage.h"

static void create(struct hl_http_upload *u);

/* ---- The end ------------------------------------------------------------ */

static void fail_open(struct hl_http_upload *u, int rc, struct hl_error *err)
{
    hl_err(err, rc, 0, "%s", haul_err_text(rc));
    hl_http_upload_opened(u, rc, err);
}

static int check_open(const struct hl_http_upload *u, struct hl_error *err)
{
    const struct hl_ietf *own = u->own;
    const char *name = u->obj->display;

    if (u->size != HL_SIZE_UNKNOWN && u->size > own->limit.size_max) {
        hl_err(err, HAUL_E_REMOTE, 0,
               "'%s' takes at most %" PRIu64 " bytes, this has %" PRIu64, name,
               own->limit.size_max, u->size);
        return hl_err_hint(err, "Raise the server's limit, or send less.");
    }
    if (u->size == HL_SIZE_UNKNOWN && own->limit.append_min > u->chunk_size) {
        hl_err(err, HAUL_E_NOTSUP, 0,
               "'%s' takes no less than %" PRIu64 " bytes at once", name,
               own->limit.append_min);
        return hl_err_hint(err, "Use a --chunk-size of at least that.");
    }
    if (own->known && own->offset > u->size)
        return hl_err(err, HAUL_E_RESUME, 0,
                      "'%s' has %" PRIu64 " bytes of an upload of %" PRIu64,
                      name, own->offset, u->size);
    return 0;
}

/* Only what goes out from its first byte on can be digested. */
static int start_hash(struct hl_http_upload *u)
{
    struct hl_ietf *own = u->own;

    if (!own->digest || own->offset || own->hash)
        return 0;
    own->hash = own->digest->ordered_new();
    return own->hash ? 0 : HAUL_E_NOMEM;
}

/* The upload resource is there, its address is kept, its offset known. */
static void finish_open(struct hl_http_upload *u)
{
    const struct hl_ietf *own = u->own;
    struct hl_open *op = u->open;
    struct hl_error err = {0};
    int rc = check_open(u, &err);

    if (!rc && own->offset && op->confirmed)
        rc = hl_ranges_add(op->confirmed, 0, own->offset);
    if (!rc)
        rc = start_hash(u);
    if (rc) {
        fail_open(u, rc, &err);
        return;
    }
    op->layout.caps = HL_CAP_ORDERED | HL_CAP_RESUME | HL_CAP_TELLS;
    if (own->hash)
        op->layout.caps |= HL_CAP_COMPARES;
    op->layout.streams_max = 1;
    op->layout.existing = own->offset;
    hl_http_upload_opened(u, 0, NULL);
}

void hl_ietf_open_saved(struct hl_http_upload *u, int rc)
{
    const struct hl_ietf *own = u->own;
    struct hl_error err = {0};

    if (rc)
        fail_open(u, rc, &err);
    else if (own->known)
        finish_open(u);
    else
        hl_ietf_ask_offset(u, NULL);
}

/* ---- Making the upload resource ----------------------------------------- */

/* The version to try next: the one that the server names, or the one before.
 * false: there is none. */
static bool next_interop(struct hl_ietf *own, const struct hl_http_call *call)
{
    const char *named = call->got[HL_IETF_GOT_INTEROP];
    uint64_t n = 0;

    if (call->status != 400 && call->status != 412)
        return false;
    if (named && hl_upload_integer(named, &n) && n >= HL_HTTP_INTEROP_OLDEST &&
        n < own->interop) {
        own->interop = (uint32_t)n;
        return true;
    }
    if (call->status != 412 || own->interop == HL_HTTP_INTEROP_OLDEST)
        return false;
    own->interop--;
    return true;
}

/* Does it look as if there were no such protocol here? */
static bool is_unknown(int status)
{
    return status == 400 || status == 404 || status == 405 || status == 412 ||
           status == 415 || status == 501;
}

static void refuse_create(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    if (is_unknown(ask->call.status) && hl_http_disbelieve(u->obj)) {
        hl_err_clear(&err);
        rc = hl_err(&err, HAUL_E_LOST, 0,
                    "'%s' does not take uploads as it did", u->obj->display);
    } else if (ask->call.status == 412 && !u->no_clobber) {
        hl_err_clear(&err);
        hl_err(&err, HAUL_E_REMOTE, 0,
               "'%s' speaks no version of the IETF draft that haul knows",
               u->obj->display);
        rc = hl_err_hint(&err, "Use put+https:// for a plain PUT.");
    }
    fail_open(u, rc, &err);
}

/* 104 counts only with the version that was asked for. */
static bool same_interop(const struct hl_ietf *own,
                         const struct hl_http_call *call)
{
    const char *named = call->got[HL_IETF_GOT_INTEROP];
    uint64_t n;

    return named && hl_upload_integer(named, &n) && n == own->interop;
}

static int take_location(struct hl_http_ask *ask, struct hl_error *err)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ietf *own = u->own;
    const char *location = ask->call.got[HL_IETF_GOT_LOCATION];

    if (location)
        return hl_http_place_set(&own->place, u->obj->url, location, err);
    hl_http_disbelieve(u->obj);
    hl_err(err, HAUL_E_REMOTE, 0, "'%s' made an upload and does not say where",
           u->obj->display);
    err->proto_status = ask->call.status;
    return hl_err_hint(err, "It does not keep to the IETF draft: use "
                            "put+https:// for a plain PUT.");
}

/* What made the upload is what makes the next one. */
static void learn(const struct hl_http_upload *u)
{
    const struct hl_ietf *own = u->own;
    struct hl_http_speaks *speaks = u->obj->speaks;

    if (!speaks || speaks->protocol != &hl_http_ietf ||
        (speaks->interop == own->interop && speaks->post == own->post))
        return;
    speaks->interop = own->interop;
    speaks->post = own->post;
    hl_http_learned(u->obj);
}

/* It was made. What it has is known when the answer came to its end. */
static void created(struct hl_http_ask *ask, bool known)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ietf *own = u->own;
    struct hl_error err = {0};
    int rc = take_location(ask, &err);

    if (rc) {
        fail_open(u, rc, &err);
        return;
    }
    own->known = known;
    own->offset = 0;
    learn(u);
    hl_ietf_save_token(u);
}

static void on_created(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ietf *own = u->own;
    const struct hl_http_call *call = &ask->call;
    bool failed = call->op.rc || call->status >= 500;

    hl_ietf_read_limit(u, call->got);
    if (failed && call->got[HL_IETF_GOT_LOCATION] && same_interop(own, call)) {
        created(ask, false);
    } else if (!call->op.rc && call->status >= 200 && call->status < 300) {
        created(ask, true);
    } else if (!call->op.rc && next_interop(own, call)) {
        create(u);
    } else if ((call->status == 405 || call->status == 501) && !own->other) {
        own->other = true;
        own->post = !own->post;
        create(u);
    } else {
        refuse_create(ask);
    }
}

/* "inline; filename*=UTF-8''NAME" (RFC 6266 4.3, RFC 8187). */
static char *disposition(const char *name)
{
    static const char start[] = "inline; filename*=UTF-8''";
    static const char hex[] = "0123456789ABCDEF";
    char *text = hl_malloc(sizeof(start) + 3 * strlen(name));
    size_t n = sizeof(start) - 1;

    if (!text)
        return NULL;
    memcpy(text, start, n);
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;

        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
            (c >= 'a' && c <= 'z') || strchr("-._~", *name)) {
            text[n++] = *name;
        } else {
            text[n++] = '%';
            text[n++] = hex[c >> 4];
            text[n++] = hex[c & 15];
        }
    }
    return text;
}

static void create(struct hl_http_upload *u)
{
    const struct hl_ietf *own = u->own;
    const struct hl_open *op = u->open;
    struct hl_http_ask *ask =
        hl_ietf_ask_new(u, NULL, own->post ? "POST" : "PUT", on_created);
    struct hl_error err = {0};

    if (!ask) {
        fail_open(u, HAUL_E_NOMEM, &err);
        return;
    }
    ask->call.url = u->obj->url;
    ask->call.foreign = false;
    hl_ietf_add_complete(ask, false);
    if (u->size != HL_SIZE_UNKNOWN)
        hl_ietf_add_number(ask, "Upload-Length", u->size);
    if (!hl_http_ep_sets(u->ep, "Content-Type"))
        hl_ietf_add(ask, "Content-Type", "application/octet-stream");
    if (u->no_clobber)
        hl_ietf_add(ask, "If-None-Match", "*");
    if (own->post && op->name && !hl_http_ep_sets(u->ep, "Content-Disposition"))
        hl_ietf_add(ask, "Content-Disposition",
                    hl_http_ask_keep(ask, disposition(op->name)));
    if (own->digest)
        hl_ietf_add(ask, "Want-Repr-Digest", "sha-256=10");
    hl_http_ask_go(ask);
}

/* ---- Open --------------------------------------------------------------- */

/* What cannot be gone on with is left to the server, which forgets it. */
static void begin_anew(struct hl_http_upload *u)
{
    struct hl_ietf *own = u->own;

    hl_http_place_fini(&own->place);
    own->spent = own->ending = own->complete = own->told = false;
    own->made = true;
    u->open->layout.fresh = u->open->resume;
    create(u);
}

static void on_old_removed(struct hl_http_ask *ask)
{
    begin_anew(ask->upload);
}

static void remove_old(struct hl_http_upload *u)
{
    struct hl_http_ask *ask =
        hl_ietf_ask_new(u, NULL, "DELETE", on_old_removed);

    if (ask)
        hl_http_ask_go(ask);
    else
        begin_anew(u);
}

void hl_ietf_open_gone(struct hl_http_upload *u)
{
    struct hl_ietf *own = u->own;
    struct hl_error err = {0};

    if (own->made) {
        hl_http_place_fini(&own->place);
        hl_err(&err, HAUL_E_PROTO, 0,
               "'%s' does not know the upload it just made", u->obj->display);
        fail_open(u, err.code, &err);
    } else if (u->open->resume) {
        fail_open(u, hl_ietf_lost(u, &err), &err);
    } else {
        begin_anew(u);
    }
}

/* Has it the whole, as a server that is through with it says? A size that was
 * not known proves nothing. */
void hl_ietf_open_offset(struct hl_http_upload *u, enum hl_ietf_said said)
{
    struct hl_ietf *own = u->own;

    own->complete = own->told = said == HL_IETF_YES && own->offset == u->size;
    if (said == HL_IETF_YES && !own->complete)
        hl_ietf_open_gone(u);
    else
        finish_open(u);
}

void hl_ietf_open(struct hl_http_upload *u)
{
    struct hl_ietf *own = u->own;
    const struct hl_open *op = u->open;
    uint64_t hold = hl_max(op->hold_max, op->chunk_size);
    struct hl_error err = {0};
    int rc = 0;

    /* A source that cannot be read again gives no more than can be kept. */
    u->bound = hl_min(u->bound, hold);
    u->bound_max = hl_min(u->bound_max, hold);
    hl_ietf_use_limit(u);
    own->known = own->made = false;
    if (op->resume && op->token && !own->place.url)
        rc = hl_ietf_take_token(u, op->token, &err);
    if (!rc)
        rc = check_open(u, &err);
    if (rc)
        fail_open(u, rc, &err);
    else if (own->place.url && own->spent)
        remove_old(u);
    else if (own->place.url)
        hl_ietf_ask_offset(u, NULL);
    else
        begin_anew(u);
}
