/*
 * Uploads by PUT in ranges: bodies, commit, discarding, the token (ranged.h).
 * Engine thread.
 */
#include "ranged.h"

#include <inttypes.h>
#include <string.h>

/* In the order of wanted[]. */
enum { HL_RANGED_GOT_LENGTH };

static const char *const wanted[] = {"Content-Length", NULL};

/* ---- Asks --------------------------------------------------------------- */

struct hl_http_ask *hl_ranged_ask_new(struct hl_http_upload *u,
                                      const char *method, const char *url,
                                      void (*done)(struct hl_http_ask *ask))
{
    struct hl_http_ask *ask = hl_http_ask_new(u, NULL, done);

    if (!ask)
        return NULL;
    ask->call.method = method;
    ask->call.url = hl_http_ask_keep(ask, hl_strdup(url));
    ask->call.want = wanted;
    ask->call.timeout_ns = u->ep->stall_ns;
    ask->call.kept = true;
    return ask;
}

void hl_ranged_add(struct hl_http_ask *ask, const char *name, const char *value)
{
    struct hl_ranged *own = ask->upload->own;
    struct hl_http_call *call = &ask->call;

    HL_ASSERT(call->header_count < HL_RANGED_FIELDS);
    call->headers = own->fields;
    own->fields[call->header_count++] =
        (struct hl_http_field){.name = name, .value = value};
}

void hl_ranged_add_body(struct hl_http_ask *ask, const char *text, size_t len)
{
    ask->call.body = HL_HTTP_BODY_TEXT;
    ask->call.text = text;
    ask->call.text_len = len;
    if (!hl_http_ep_sets(ask->upload->ep, "Content-Type"))
        ask->call.content_type = "application/octet-stream";
}

bool hl_ranged_is_success(int status)
{
    return status >= 200 && status < 300;
}

bool hl_ranged_told_length(const struct hl_http_call *call, uint64_t *out)
{
    return call->got[HL_RANGED_GOT_LENGTH] &&
           hl_http_number(call->got[HL_RANGED_GOT_LENGTH], out);
}

bool hl_ranged_is_no(int status)
{
    return status == 400 || status == 405 || status == 409 || status == 411 ||
           status == 415 || status == 416 || status == 501;
}

static char *destination(const char *url, uint32_t move)
{
    const char *host = strstr(url, "://");
    int len = (int)strcspn(url, "?"), scheme = (int)(host - url);
    const char *path = strchr(host + 3, '/');

    if (move == HL_RANGED_MOVE_PATH)
        return hl_asprintf("%.*s", len - (int)(path - url), path);
    if (move == HL_RANGED_MOVE_PLAIN)
        return hl_asprintf("http%.*s", len - scheme, host);
    return hl_asprintf("%.*s", len, url);
}

void hl_ranged_add_destination(struct hl_http_ask *ask, const char *url,
                               uint32_t move, bool replace)
{
    hl_ranged_add(ask, "Destination",
                  hl_http_ask_keep(ask, destination(url, move)));
    hl_ranged_add(ask, "Overwrite", replace ? "T" : "F");
}

/* ---- Token and names ---------------------------------------------------- */

void hl_ranged_save_token(const struct hl_http_upload *u)
{
    const struct hl_ranged *own = u->own;
    char *token = hl_asprintf("way=ranged\nurl=%s\n%s", own->url,
                              own->made ? "made=1\n" : "");

    hl_object_token(&u->obj->base, token);
    hl_free_secret(token);
}

int hl_ranged_take_token(struct hl_http_upload *u, const char *token,
                         struct hl_error *err)
{
    struct hl_ranged *own = u->own;
    struct hl_http_place place = {0};
    char *url = hl_http_token_get(token, "url");
    char *made = hl_http_token_get(token, "made");
    int rc = 0;

    if (url)
        rc = hl_http_place_set(&place, u->obj->url, url, err);
    if (!rc && place.foreign)
        rc = hl_err(err, HAUL_E_RESUME, 0, "'%s' was begun on another server",
                    u->obj->display);
    if (!rc && place.url) {
        hl_free_secret(own->url);
        own->url = place.url;
        place.url = NULL;
        own->moves = strcmp(own->url, u->obj->url) != 0;
        own->made = made && !strcmp(made, "1");
    }
    hl_http_place_fini(&place);
    hl_free_secret(url);
    hl_free(made);
    return rc;
}

/* url with more at the end of its path. */
static char *with_suffix(const char *url, const char *suffix)
{
    size_t len = strcspn(url, "?");

    return hl_asprintf("%.*s%s%s", (int)len, url, suffix, url + len);
}
int hl_ranged_name_probe(struct hl_http_upload *u, struct hl_error *err)
{
    struct hl_ranged *own = u->own;

    hl_free_secret(own->probe);
    hl_free_secret(own->other);
    own->probe = with_suffix(own->url, "-probe");
    own->other = with_suffix(own->url, "-probe2");
    return own->probe && own->other
               ? 0
               : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
}

/* ---- Bodies ------------------------------------------------------------- */

/* What a break left of a part is written over. */
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
    const struct hl_ranged *own = u->own;
    uint64_t from = part->begin + part->offset;
    char *line =
        hl_asprintf("Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                    from, from + *len - 1, u->size);
    int rc = line ? hl_http_request_add(req, line) : HAUL_E_NOMEM;

    hl_free(line);
    req->method = "PUT";
    req->url = hl_strdup(own->url);
    if (!req->url)
        rc = HAUL_E_NOMEM;
    if (!rc && !hl_http_ep_sets(u->ep, "Content-Type"))
        rc = hl_http_request_add(req, "Content-Type: application/octet-stream");
    return rc ? hl_err(err, rc, 0, "out of memory") : 0;
}

/* The file that held earlier ranges is not there any more. To go on with what
 * is there now would leave holes. */
static int start_over(struct hl_http_upload *u, struct hl_error *err)
{
    struct hl_ranged *own = u->own;

    own->made = false;
    hl_ranged_save_token(u);
    hl_err_clear(err);
    return hl_err(err, HAUL_E_LOST, 0,
                  "what was written of '%s' is not there any more",
                  u->obj->display);
}

static int sent(struct hl_http_upload *u, struct hl_http_part *part,
                struct hl_http_sent *s, struct hl_error *err)
{
    const struct hl_ranged *own = u->own;
    int rc = hl_http_sent_refused(part, s, err);

    if (rc && !s->rc && hl_ranged_is_no(s->status))
        hl_http_keep_fact(u->obj, HL_RANGED_FACT, NULL);
    if (rc)
        return rc;
    if (s->status == 201 && own->tells_new)
        return start_over(u, err);
    part->offset = part->expected;
    return 0;
}

/* ---- Commit ------------------------------------------------------------- */

static void end_commit(struct hl_http_upload *u, int rc, struct hl_error *err)
{
    if (rc)
        hl_err(err, rc, 0, "%s", haul_err_text(rc));
    hl_http_upload_committed(u, rc, err);
}

static void on_move(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    if (rc && !ask->call.op.rc && hl_ranged_is_no(ask->call.status))
        hl_http_keep_fact(u->obj, HL_RANGED_FACT, NULL);
    u->commit->size_checked = !rc;
    end_commit(u, rc, &err);
}

static void move(struct hl_http_upload *u)
{
    struct hl_ranged *own = u->own;
    struct hl_http_ask *ask = hl_ranged_ask_new(u, "MOVE", own->url, on_move);
    struct hl_error err = {0};

    if (!ask) {
        end_commit(u, HAUL_E_NOMEM, &err);
        return;
    }
    ask->call.kept = false;
    ask->call.timeout_ns = HL_RANGED_STORE_STALLS * u->ep->stall_ns;
    hl_ranged_add_destination(ask, u->obj->url, own->move, !u->no_clobber);
    own->moving = true;
    hl_http_ask_go(ask);
}

static int check_length(struct hl_http_upload *u, struct hl_http_ask *ask,
                        struct hl_error *err)
{
    uint64_t len, size = u->commit->size;
    int rc = hl_http_ask_refused(ask, err);

    if (rc)
        return rc;
    if (!hl_ranged_told_length(&ask->call, &len) && !size)
        return 0;
    if (!hl_ranged_told_length(&ask->call, &len))
        return hl_err(err, HAUL_E_PROTO, 0, "'%s' does not tell its length",
                      u->obj->display);
    if (len == size)
        return 0;
    hl_err(err, HAUL_E_REMOTE, 0,
           "'%s' has %" PRIu64 " bytes, %" PRIu64 " were written",
           u->obj->display, len, size);
    return hl_err_hint(err, "Nobody else may write there; copy it again with "
                            "--resume never.");
}

/* The answer to a MOVE was lost: it may have been done. */
static void on_final_length(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_error err = {0};
    int rc = check_length(u, ask, &err);

    u->commit->size_checked = !rc;
    end_commit(u, rc, &err);
}

static void ask_length(struct hl_http_upload *u, const char *url,
                       void (*done)(struct hl_http_ask *ask))
{
    struct hl_http_ask *ask = hl_ranged_ask_new(u, "HEAD", url, done);
    struct hl_error err = {0};

    if (ask)
        hl_http_ask_go(ask);
    else
        end_commit(u, HAUL_E_NOMEM, &err);
}

static void on_length(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ranged *own = u->own;
    struct hl_error err = {0};
    bool gone = !ask->call.op.rc &&
                (ask->call.status == 404 || ask->call.status == 410);
    int rc;

    if (gone && own->moving) {
        ask_length(u, u->obj->url, on_final_length);
        return;
    }
    rc = gone ? start_over(u, &err) : check_length(u, ask, &err);
    u->commit->size_checked = !rc;
    if (rc || !own->moves)
        end_commit(u, rc, &err);
    else
        move(u);
}

/* A server may take a body that is shorter than its range (Apache does): the
 * length of the file is what tells. */
static void commit(struct hl_http_upload *u)
{
    const struct hl_ranged *own = u->own;

    ask_length(u, own->url, on_length);
}

/* ---- Discard ------------------------------------------------------------ */

static void discard_next(struct hl_http_upload *u, uint64_t n);

static void on_discarded(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    int status = ask->call.status;
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    if (rc && (ask->call.op.rc || (status != 404 && status != 410)))
        hl_http_upload_discarded(u, rc, &err);
    else
        discard_next(u, ask->number + 1);
}

/* The file first, then what a probe left. A target that is written in place
 * and was not begun is the user's. */
static void discard_next(struct hl_http_upload *u, uint64_t n)
{
    const struct hl_ranged *own = u->own;
    const char *const urls[] = {own->url, own->probe, own->other};
    struct hl_http_ask *ask;
    struct hl_error err = {0};

    if (n == 0 && !own->moves && !own->made)
        n = 1;
    if (n == HL_LEN(urls)) {
        hl_http_upload_discarded(u, 0, NULL);
        return;
    }
    ask = hl_ranged_ask_new(u, "DELETE", urls[n], on_discarded);
    if (!ask) {
        hl_http_upload_discarded(u, HAUL_E_NOMEM, &err);
        return;
    }
    ask->number = n;
    hl_http_ask_go(ask);
}

static void discard(struct hl_http_upload *u, const char *token)
{
    struct hl_ranged *own = u->own;
    struct hl_error err = {0};
    int rc = token ? hl_ranged_take_token(u, token, &err) : 0;

    if (!rc && own->url)
        rc = hl_ranged_name_probe(u, &err);
    if (rc || !own->url)
        hl_http_upload_discarded(u, rc, &err);
    else
        discard_next(u, 0);
}

/* ---- Life --------------------------------------------------------------- */

static int init(struct hl_http_upload *u, struct hl_error *err)
{
    u->own = hl_malloc(sizeof(struct hl_ranged));
    return u->own ? 0 : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
}

static void free_own(struct hl_http_upload *u)
{
    struct hl_ranged *own = u->own;

    if (own) {
        hl_free_secret(own->url);
        hl_free_secret(own->probe);
        hl_free_secret(own->other);
    }
    hl_free(own);
}

const struct hl_http_protocol hl_http_ranged = {
    .name = "ranged",
    .init = init,
    .free = free_own,
    .open = hl_ranged_open,
    .begin = begin,
    .send = start_body,
    .sent = sent,
    .commit = commit,
    .discard = discard,
    .token_saved = hl_ranged_token_saved,
};
