/*
 * Uploads by PUT in ranges: the file that is written to (ranged.h). Engine
 * thread.
 */
#include <inttypes.h>
#include <string.h>

#include "ranged.h"

#define PART_MAX (64u << 20)
#define PARTS_WANTED 16 /* of a small object, so that there are streams */
#define NAME_SHOWN 200  /* bytes of a name in the name of its part */

static void make(struct hl_http_upload *u);

/* ---- Open: the end ------------------------------------------------------ */

void hl_ranged_fail_open(struct hl_http_upload *u, int rc, struct hl_error *err)
{
    hl_err(err, rc, 0, "%s", haul_err_text(rc));
    hl_http_upload_opened(u, rc, err);
}

static void no_memory(struct hl_http_upload *u)
{
    struct hl_error err = {0};

    hl_ranged_fail_open(u, HAUL_E_NOMEM, &err);
}

static uint64_t part_size(const struct hl_http_upload *u)
{
    uint64_t chunk = u->chunk_size;
    uint64_t want = (u->size + PARTS_WANTED - 1) / PARTS_WANTED;

    want = hl_max(hl_min(want, PART_MAX), 1);
    return (want + chunk - 1) / chunk * chunk;
}

static void finish_open(struct hl_http_upload *u, uint64_t existing)
{
    const struct hl_ranged *own = u->own;
    struct hl_layout *layout = &u->open->layout;

    layout->parts.size = part_size(u);
    layout->caps = HL_CAP_ORDERED | HL_CAP_LATE | HL_CAP_RESUME;
    if (!own->moves)
        layout->caps |= HL_CAP_IN_PLACE;
    layout->streams_max = u->open->in_order ? 1 : hl_http_upload_streams(u);
    layout->existing = existing;
    u->bound = 0;
    hl_http_upload_opened(u, 0, NULL);
}

/* ---- Open: the file ----------------------------------------------------- */

static void on_made(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ranged *own = u->own;
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    if (rc) {
        hl_ranged_fail_open(u, rc, &err);
        return;
    }
    own->made = true;
    hl_ranged_save_token(u);
}

static void on_found(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ranged *own = u->own;
    const struct hl_http_call *call = &ask->call;
    struct hl_error err = {0};
    uint64_t len = 0;
    int rc;

    if (!call->op.rc && (call->status == 404 || call->status == 410)) {
        own->made = false;
        hl_ranged_fail_open(u,
                            hl_err(&err, HAUL_E_LOST, 0,
                                   "what was written of '%s' is not there any "
                                   "more",
                                   u->obj->display),
                            &err);
        return;
    }
    rc = hl_http_ask_refused(ask, &err);
    if (!rc && !hl_ranged_told_length(call, &len))
        len = 0;
    if (rc)
        hl_ranged_fail_open(u, rc, &err);
    else
        finish_open(u, len);
}

/* The file to write to, empty. */
static void make(struct hl_http_upload *u)
{
    struct hl_ranged *own = u->own;
    struct hl_http_ask *ask = hl_ranged_ask_new(u, "PUT", own->url, on_made);

    u->open->layout.fresh = u->open->resume;
    if (!ask) {
        no_memory(u);
        return;
    }
    hl_ranged_add_body(ask, "", 0);
    if (!own->moves && u->no_clobber)
        hl_ranged_add(ask, "If-None-Match", "*");
    hl_http_ask_go(ask);
}

static void look(struct hl_http_upload *u)
{
    const struct hl_ranged *own = u->own;
    struct hl_http_ask *ask = hl_ranged_ask_new(u, "HEAD", own->url, on_found);

    if (ask)
        hl_http_ask_go(ask);
    else
        no_memory(u);
}

/* The file gets its name from the start. */
static void write_in_place(struct hl_http_upload *u)
{
    struct hl_ranged *own = u->own;
    struct hl_error err = {0};
    char *url = hl_strdup(u->obj->url);

    if (own->made) {
        hl_free_secret(url);
        hl_err(&err, HAUL_E_RESUME, 0,
               "'%s' knows no MOVE any more: what was written cannot get its "
               "name",
               u->obj->display);
        hl_err_hint(&err, "Copy it again with --resume never.");
        hl_ranged_fail_open(u, err.code, &err);
    } else if (!url) {
        no_memory(u);
    } else {
        hl_free_secret(own->url);
        own->url = url;
        own->moves = false;
        hl_ranged_save_token(u);
    }
}

static void say(struct hl_http_upload *u)
{
    const struct hl_env *env = u->ep->base.env;
    struct hl_ranged *own = u->own;
    char *line;

    if (own->said || !env->say)
        return;
    own->said = true;
    line = hl_asprintf("'%s' takes ranges by PUT%s%s", u->obj->display,
                       own->move ? ", then MOVE: several at once"
                                 : ", but knows no MOVE: written in place, "
                                   "several at once",
                       own->believed ? " (from an earlier run)" : "");
    if (line)
        env->say(env, line);
    hl_free(line);
}

/* Where the file is written follows from it, unless an earlier run has
 * begun. */
void hl_ranged_probed(struct hl_http_upload *u)
{
    const struct hl_ranged *own = u->own;

    say(u);
    if (own->moves && own->move == HL_RANGED_MOVE_NONE)
        write_in_place(u);
    else if (own->made)
        look(u);
    else
        make(u);
}

/* ---- Open --------------------------------------------------------------- */

static size_t path_len(const struct hl_http_upload *u)
{
    return strcspn(u->obj->url, "?");
}

/* The target's URL with ".haul-ID.part" and the suffix behind a name that is
 * cut where it gets too long, and not inside of an escape. */
static char *beside(const struct hl_http_upload *u, const char *id)
{
    const char *url = u->obj->url, *query = url + path_len(u);
    size_t end = path_len(u), name = end;

    while (url[name - 1] != '/')
        name--;
    if (end - name > NAME_SHOWN) {
        end = name + NAME_SHOWN;
        if (url[end - 1] == '%')
            end -= 1;
        else if (url[end - 2] == '%')
            end -= 2;
    }
    return hl_asprintf("%.*s.haul-%.8s.part%s", (int)end, url, id, query);
}

/* Goes on with what the server can: from an earlier run, or by a probe. */
static void use_fact(struct hl_http_upload *u)
{
    struct hl_ranged *own = u->own;
    uint64_t move;
    char *fact = own->known ? NULL : hl_http_fact(u->obj, HL_RANGED_FACT);

    if (fact) {
        move = hl_http_fact_number(fact, "move", UINT64_MAX);
        own->tells_new = hl_http_fact_number(fact, "new", 0);
        own->known = own->believed = move <= HL_RANGED_MOVE_PATH;
        own->move = own->known ? (uint32_t)move : HL_RANGED_MOVE_NONE;
        hl_free(fact);
    }
    if (own->known)
        hl_ranged_probed(u);
    else
        hl_ranged_probe(u);
}

void hl_ranged_token_saved(struct hl_http_upload *u, int rc)
{
    struct hl_ranged *own = u->own;
    struct hl_error err = {0};

    if (!u->open)
        return;
    if (rc)
        hl_ranged_fail_open(u, rc, &err);
    else if (own->made)
        finish_open(u, 0);
    else
        use_fact(u);
}

static int check_source(const struct hl_http_upload *u, struct hl_error *err)
{
    if (u->size != HL_SIZE_UNKNOWN)
        return 0;
    hl_err(err, HAUL_E_NOTSUP, 0,
           "'%s' cannot be written in ranges: the size of the source is not "
           "known",
           u->obj->display);
    return hl_err_hint(err, "Leave --ranged out, or write it to a file first.");
}

void hl_ranged_open(struct hl_http_upload *u)
{
    struct hl_ranged *own = u->own;
    struct hl_open *op = u->open;
    struct hl_error err = {0};
    int rc = check_source(u, &err);

    if (!rc && op->resume && op->token && !own->url)
        rc = hl_ranged_take_token(u, op->token, &err);
    if (!rc && !own->url) {
        own->url = beside(u, op->id);
        own->moves = true;
        rc = own->url ? 0 : hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
    }
    if (rc)
        hl_ranged_fail_open(u, rc, &err);
    else if (!own->made)
        hl_ranged_save_token(u);
    else
        use_fact(u);
}
