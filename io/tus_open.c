/*
 * Opening an object for tus: what is there of an earlier run, and making what
 * is missing (tus.h). Engine thread.
 *
 *   token ─► look ─┬─ some are there ─────────────────────────┐
 *                  └─ all are gone ─┐                          ▼
 *   no token ───────────────────────┴► cut ► create ► save ► opened
 *
 * The first parts are made here, the others while these are sent (make_ahead()
 * in tus.c), so that neither the first byte nor a part waits for them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tus.h"

/* Of an address that is not known yet: what servers put behind that of the
 * folder. */
#define NAME_GUESS 40u

static void opened(struct hl_tus *t)
{
    hl_http_upload_opened(t->upload, t->failed.code, &t->failed);
}

static void fail_nomem(struct hl_tus *t)
{
    hl_err(&t->failed, HAUL_E_NOMEM, 0, "out of memory");
}

static const struct hl_http_speaks *speaks_of(const struct hl_tus *t)
{
    static const struct hl_http_speaks nothing = {.tus_max = HL_SIZE_UNKNOWN};

    return t->upload->obj->speaks ? t->upload->obj->speaks : &nothing;
}

/* ---- The end ------------------------------------------------------------ */

static void set_layout(struct hl_tus *t)
{
    struct hl_http_upload *u = t->upload;
    struct hl_layout *l = &u->open->layout;
    uint64_t hold = u->open->hold_max;

    l->parts.size = t->part_size;
    l->caps = HL_CAP_ORDERED | HL_CAP_RESUME | HL_CAP_TELLS;
    if (t->alg && !t->unsummed)
        l->caps |= HL_CAP_COMPARES;
    l->streams_max = t->part_size ? hl_http_upload_streams(u) : 1;
    /* A body must fit into what the source can keep until it is confirmed. */
    if (hold < u->bound_max)
        u->bound_max = hl_max(hold / u->chunk_size, 1) * u->chunk_size;
    u->bound = hl_min(u->bound, u->bound_max);
}

static int confirm(struct hl_tus *t)
{
    struct hl_open *o = t->upload->open;

    for (uint32_t i = 0; i < t->count; i++) {
        uint64_t begin = i * t->part_size;

        if (hl_ranges_add(o->confirmed, begin, begin + t->parts[i].offset))
            return HAUL_E_NOMEM;
    }
    return 0;
}

void hl_tus_open_saved(struct hl_tus *t, const struct hl_error *err)
{
    if (err->code)
        t->failed = *err;
    opened(t);
}

/* Nothing is sent before the engine keeps where to. */
static void save_and_end(struct hl_tus *t)
{
    if (!hl_tus_save(t, &t->failed))
        t->saving = true;
    else
        opened(t);
}

/* ---- Cutting ------------------------------------------------------------ */

/* Why the object is one upload; NULL: it need not be. */
static const char *why_single(const struct hl_tus *t)
{
    const struct hl_http_upload *u = t->upload;
    const struct hl_open *o = u->open;

    if (u->size == HL_SIZE_UNKNOWN)
        return "its size is not known";
    if (o->in_order || hl_http_upload_streams(u) < 2)
        return "more were not asked for";
    if (o->hold_max != UINT64_MAX)
        return "the source is read only once";
    if (!(speaks_of(t)->tus & HL_TUS_CONCATENATION))
        return "the server does not join parts";
    return u->size < HL_TUS_PARALLEL_MIN ? "it is small" : NULL;
}

/* Each thing once: open may be tried several times. Takes line. */
static void say(struct hl_tus *t, char *line)
{
    const struct hl_env *env = t->upload->ep->base.env;

    if (line && (!t->said || strcmp(t->said, line) != 0)) {
        env->say(env, line);
        hl_free(t->said);
        t->said = line;
    } else {
        hl_free(line);
    }
}

static void say_cut(struct hl_tus *t, const char *why)
{
    const char *name = t->upload->obj->display;
    char *part = hl_tus_size_text(t->part_size);
    char *sums =
        t->alg ? hl_asprintf("each chunk under a %s checksum", t->alg->name)
               : hl_strdup("without checksums");

    if (!part || !sums)
        say(t, NULL);
    else if (t->part_size)
        say(t, hl_asprintf("'%s' gets %" PRIu32 " parts of %s, to be joined "
                           "at the end, %s",
                           name, t->count, part, sums));
    else
        say(t, hl_asprintf("'%s' gets one upload (%s), %s", name,
                           why ? why : "its addresses are too long", sums));
    hl_free(part);
    hl_free(sums);
}

static int make_parts(struct hl_tus *t, uint64_t part_size)
{
    struct hl_http_upload *u = t->upload;
    uint64_t count = part_size ? hl_tus_part_count(u->size, part_size) : 1;

    hl_tus_drop_parts(t);
    t->parts = hl_calloc(count, sizeof(*t->parts));
    if (!t->parts)
        return hl_err(&t->failed, HAUL_E_NOMEM, 0, "out of memory");
    t->count = (uint32_t)count;
    t->part_size = part_size;
    t->cut_size = u->size;
    t->cut_chunk = u->chunk_size;
    return 0;
}

static int cut(struct hl_tus *t, size_t url_len)
{
    const struct hl_http_upload *u = t->upload;
    const struct hl_http_speaks *speaks = speaks_of(t);
    const char *why = why_single(t);
    uint64_t part_size = 0;

    if (!why)
        part_size =
            hl_tus_part_size(u->size, u->chunk_size, hl_tus_parts_max(url_len));
    if (make_parts(t, part_size))
        return t->failed.code;
    t->alg = speaks->tus & HL_TUS_CHECKSUM ? hl_tus_alg_best(speaks->tus_sums)
                                           : NULL;
    say_cut(t, why);
    return 0;
}

/* What the server would refuse is refused before anything is made there. */
static int check_size(struct hl_tus *t)
{
    const struct hl_http_upload *u = t->upload;
    const struct hl_http_speaks *speaks = speaks_of(t);
    const char *name = u->obj->display;

    if (u->size != HL_SIZE_UNKNOWN && u->size > speaks->tus_max) {
        hl_err(&t->failed, HAUL_E_REMOTE, 0,
               "'%s' takes no upload of %" PRIu64 " bytes", name, u->size);
        return hl_err_hint(&t->failed, "It takes at most %" PRIu64 " bytes.",
                           speaks->tus_max);
    }
    if (u->size != HL_SIZE_UNKNOWN || (speaks->tus & HL_TUS_DEFER_LENGTH))
        return 0;
    hl_err(&t->failed, HAUL_E_NOTSUP, 0,
           "'%s' wants to know the size before the first byte", name);
    return hl_err_hint(&t->failed, "Write it to a file first and send that: "
                                   "the server does not have tus's "
                                   "creation-defer-length.");
}

/* tus+https:// names what makes uploads and no file; otherwise the user may
 * have given the file a name of its own behind the folder. */
static int name_it(struct hl_tus *t)
{
    const struct hl_http_upload *u = t->upload;
    const char *source = u->open->name;
    char *name = NULL;

    if (t->at_folder || (!source && u->obj->way != HL_HTTP_TUS))
        name = hl_tus_last_name(u->obj->url);
    if (!name && source)
        name = hl_strdup(source);
    hl_free(t->metadata);
    t->metadata = name ? hl_tus_metadata(name) : NULL;
    hl_free(name);
    if (t->metadata || !source)
        return 0;
    return hl_err(&t->failed, HAUL_E_NOMEM, 0, "out of memory");
}

/* ---- Creating ----------------------------------------------------------- */

static void create_first(struct hl_tus *t);

static void create_rest(struct hl_tus *t);

static void on_created(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    struct hl_error err = {0};

    t->out--;
    if (hl_tus_created(t, ask, &err) && !t->failed.code)
        t->failed = err;
    create_rest(t);
}

static void create_rest(struct hl_tus *t)
{
    uint32_t first = (uint32_t)hl_min(t->count, HL_TUS_MAKES);

    for (; t->next < first && !t->failed.code; t->next++) {
        if (t->parts[t->next].place.url)
            continue;
        if (hl_tus_create(t, t->next, on_created))
            fail_nomem(t);
        else
            t->out++;
    }
    if (t->out)
        return;
    if (t->failed.code) {
        opened(t);
        return;
    }
    set_layout(t);
    save_and_end(t);
}

static void on_first_dropped(struct hl_http_ask *ask)
{
    create_first(hl_tus_of(ask->upload));
}

/* The addresses of so many parts are too long to be named in one header:
 * fewer, and the one that was made is in the way. */
static void cut_again(struct hl_tus *t, size_t url_len)
{
    struct hl_http_ask *ask =
        hl_tus_ask_at(t, NULL, "DELETE", &t->parts[0].place, on_first_dropped);

    if (!ask)
        fail_nomem(t);
    if (ask && !cut(t, url_len)) {
        hl_http_ask_go(ask);
        return;
    }
    hl_http_ask_free(ask);
    opened(t);
}

/* The name of the source was put behind the address of uploads, where it has
 * no place: the folder is what takes them. */
static bool use_folder(struct hl_tus *t, int status)
{
    const struct hl_http_obj *obj = t->upload->obj;
    char *folder;

    if ((status != 404 && status != 405) || obj->way == HL_HTTP_TUS ||
        t->at_folder)
        return false;
    folder = hl_tus_folder(obj->url);
    if (!folder)
        return false;
    hl_free_secret(t->create_url);
    t->create_url = folder;
    t->at_folder = true;
    name_it(t);
    return true;
}

static bool says_not_tus(int status)
{
    return status == 404 || status == 405 || status == 412 || status == 501;
}

static void on_first(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    int status = ask->call.op.rc ? 0 : ask->call.status;
    size_t len;

    if (use_folder(t, status)) {
        if (t->failed.code)
            opened(t);
        else
            create_first(t);
        return;
    }
    if (hl_tus_created(t, ask, &t->failed)) {
        if (says_not_tus(status) && hl_http_disbelieve(t->upload->obj))
            t->failed.code = HAUL_E_LOST;
        opened(t);
        return;
    }
    len = strlen(t->parts[0].place.url);
    if (t->part_size && t->count > hl_tus_parts_max(len)) {
        cut_again(t, len);
        return;
    }
    t->next = 1;
    create_rest(t);
}

static void create_first(struct hl_tus *t)
{
    if (!hl_tus_create(t, 0, on_first))
        return;
    fail_nomem(t);
    opened(t);
}

static void start(struct hl_tus *t)
{
    const struct hl_http_upload *u = t->upload;

    if (check_size(t) || name_it(t)) {
        opened(t);
        return;
    }
    /* What an open that failed has made already is used. */
    if (t->count && t->parts[0].place.url && t->cut_size == u->size &&
        t->cut_chunk == u->chunk_size) {
        t->next = 1;
        create_rest(t);
        return;
    }
    if (cut(t, strlen(t->create_url) + NAME_GUESS))
        opened(t);
    else
        create_first(t);
}

/* ---- Looking ------------------------------------------------------------ */

static void look_next(struct hl_tus *t);

static void on_looked(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    struct hl_error err = {0};

    t->out--;
    switch (hl_tus_read_part(t, (uint32_t)ask->number, ask, &err)) {
    case HL_TUS_THERE:
        t->found++;
        break;
    case HL_TUS_GONE:
        break;
    case HL_TUS_FAILED:
        if (!t->failed.code)
            t->failed = err;
        break;
    }
    look_next(t);
}

static void look_next(struct hl_tus *t)
{
    for (; t->next < t->count && t->out < HL_TUS_ASKS && !t->failed.code;
         t->next++) {
        struct hl_tus_part *p = &t->parts[t->next];
        struct hl_http_ask *ask;

        if (!p->place.url)
            continue;
        ask = hl_tus_ask_at(t, NULL, "HEAD", &p->place, on_looked);
        if (!ask) {
            fail_nomem(t);
            break;
        }
        ask->number = t->next;
        ask->call.kept = true;
        t->out++;
        hl_http_ask_go(ask);
    }
    if (!t->out)
        t->looked(t);
}

void hl_tus_look(struct hl_tus *t, void (*looked)(struct hl_tus *t))
{
    hl_err_clear(&t->failed);
    t->next = t->out = t->found = 0;
    t->looked = looked;
    look_next(t);
}

/* ---- What an earlier run left ------------------------------------------- */

/* When the server said that it would be gone, if that is past. */
static bool is_past(const struct hl_tus *t, char *out, size_t cap)
{
    time_t until = (time_t)t->kept_until_s;
    struct tm tm;

    out[0] = '\0';
    if (!t->kept_until_s || until > time(NULL) || !gmtime_r(&until, &tm))
        return false;
    return strftime(out, cap, "%Y-%m-%d %H:%M:%S UTC", &tm) != 0;
}

static void warn_of_expiry(struct hl_tus *t, bool gone)
{
    const struct hl_http_upload *u = t->upload;
    const struct hl_env *env = u->ep->base.env;
    struct hl_error w = {0};
    char until[40];
    bool past = is_past(t, until, sizeof(until));

    if ((!gone && !past) || t->warned)
        return;
    t->warned = true;
    if (gone)
        hl_err(&w, HAUL_E_LOST, 0,
               "'%s' no longer has the unfinished upload: it begins anew",
               u->obj->display);
    else
        hl_err(&w, HAUL_E_LOST, 0,
               "'%s' may remove the unfinished upload at any time",
               u->obj->display);
    if (past)
        hl_err_hint(&w, "It was to be kept until %s.", until);
    env->warn(env, &w);
}

static uint64_t bytes_there(const struct hl_tus *t)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < t->count; i++)
        sum += t->parts[i].offset;
    return sum;
}

static void looked(struct hl_tus *t)
{
    struct hl_open *o = t->upload->open;
    bool unsummed = t->unsummed;

    if (t->failed.code) {
        opened(t);
        return;
    }
    warn_of_expiry(t, !t->found);
    if (!t->found) {
        o->layout.fresh = true;
        hl_tus_drop_parts(t);
        start(t);
        return;
    }
    set_layout(t);
    say(t, hl_asprintf("'%s' has %" PRIu64 " bytes of an earlier run",
                       t->upload->obj->display, bytes_there(t)));
    if (confirm(t)) {
        fail_nomem(t);
        opened(t);
    } else if (unsummed) {
        save_and_end(t);
    } else {
        opened(t);
    }
}

/* The parts were joined already, and the run ended before it was told. */
static void on_final(struct hl_http_ask *ask)
{
    struct hl_tus *t = hl_tus_of(ask->upload);
    struct hl_tus_state state;
    bool there = false;

    switch (hl_tus_read_head(ask, &state, &t->failed)) {
    case HL_TUS_THERE:
        there =
            state.length == HL_SIZE_UNKNOWN || state.length == t->upload->size;
        break;
    case HL_TUS_GONE:
        break;
    case HL_TUS_FAILED:
        opened(t);
        return;
    }
    if (!there) {
        hl_http_place_fini(&t->final);
        hl_tus_look(t, looked);
        return;
    }
    for (uint32_t i = 0; i < t->count; i++) {
        t->parts[i].offset = hl_tus_part_len(t, i);
        t->parts[i].known = true;
    }
    set_layout(t);
    if (confirm(t))
        fail_nomem(t);
    opened(t);
}

/* ---- Token -------------------------------------------------------------- */

static int set_place(struct hl_tus *t, struct hl_http_place *place,
                     const char *url)
{
    return url ? hl_http_place_set(place, t->upload->obj->url, url, &t->failed)
               : 0;
}

static int refuse_token(struct hl_tus *t)
{
    hl_err(&t->failed, HAUL_E_RESUME, 0,
           "what is kept of the upload to '%s' does not fit the source",
           t->upload->obj->display);
    return hl_err_hint(&t->failed, "Start anew with --resume never.");
}

static int take_saved(struct hl_tus *t, const struct hl_tus_saved *saved)
{
    struct hl_http_upload *u = t->upload;
    char *create;

    if (saved->part_size &&
        (u->size == HL_SIZE_UNKNOWN || saved->part_size % u->chunk_size ||
         hl_tus_part_count(u->size, saved->part_size) > HL_TUS_PARTS_MAX))
        return refuse_token(t);
    if (make_parts(t, saved->part_size))
        return t->failed.code;
    if (saved->count > t->count)
        return refuse_token(t);
    for (uint32_t i = 0; i < saved->count; i++)
        if (set_place(t, &t->parts[i].place, saved->urls[i]))
            return t->failed.code;
    for (uint32_t i = 0; i < t->count; i++)
        t->parts[i].saved_in = t->parts[i].place.url ? t->tokens_saved : 0;
    create = hl_strdup(saved->create);
    if (saved->create && !create)
        return hl_err(&t->failed, HAUL_E_NOMEM, 0, "out of memory");
    if (create) {
        hl_free_secret(t->create_url);
        t->create_url = create;
        t->at_folder = true;
    }
    t->alg = saved->alg;
    t->unsummed = saved->unsummed;
    t->kept_until_s = saved->expires_s;
    if (name_it(t))
        return t->failed.code;
    return set_place(t, &t->final, saved->final);
}

static void go_on(struct hl_tus *t)
{
    struct hl_tus_saved saved;
    struct hl_http_ask *ask = NULL;

    if (!hl_tus_token_read(t->upload->open->token, &saved, &t->failed)) {
        take_saved(t, &saved);
        hl_tus_saved_fini(&saved);
    }
    if (!t->failed.code && !t->final.url) {
        hl_tus_look(t, looked);
        return;
    }
    if (!t->failed.code) {
        ask = hl_tus_ask_at(t, NULL, "HEAD", &t->final, on_final);
        if (!ask)
            fail_nomem(t);
    }
    if (ask)
        hl_http_ask_go(ask);
    else
        opened(t);
}

void hl_tus_open(struct hl_http_upload *u)
{
    struct hl_tus *t = hl_tus_of(u);

    t->next = t->out = t->found = 0;
    t->saving = false;
    t->make_no_more = false;
    hl_err_clear(&t->failed);
    if (u->open->resume && u->open->token)
        go_on(t);
    else
        start(t);
}
