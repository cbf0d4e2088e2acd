/*
 * Uploads to S3: a new one is begun, or one of an earlier run is found again.
 * Engine thread.
 *
 *   open ─┬─ no token ─────────────────► create ─► token ─► opened
 *         └─ list parts ─┬─ some, or none ────────────────► opened
 *                        └─ no such upload ─┬─ the object is there, as the
 *                                           │  notes say ─► opened, all is done
 *                                           └─► lost, and opened anew
 *
 * A part that the server lists counts when it is the one that the note of an
 * earlier run tells of; any other is sent again, over it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "s3_private.h"

#define PAGE "1000" /* parts of one answer, the most there are */

static void create(struct hl_http_upload *u);
static void look_before(struct hl_http_upload *u);
static void list(struct hl_http_upload *u);

/* ---- State -------------------------------------------------------------- */

static int init(struct hl_http_upload *u, struct hl_error *err)
{
    struct hl_s3_state *st = hl_malloc(sizeof(*st));

    if (!st)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    st->s3 = hl_s3_of(u->ep);
    u->own = st;
    return 0;
}

void hl_s3_clear_fields(struct hl_s3_state *st)
{
    for (size_t i = 0; i < st->text_count; i++)
        hl_free_secret(st->field_text[i]);
    st->text_count = st->field_count = 0;
}

void hl_s3_forget(struct hl_s3_state *st)
{
    hl_s3_token_fini(&st->token);
    hl_free(st->records);
    st->records = NULL;
    st->record_count = st->record_room = 0;
    st->etags = HL_S3_ETAGS_UNKNOWN;
    st->asked_to_complete = st->completed = false;
}

static void free_state(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);

    if (!st)
        return;
    hl_s3_forget(st);
    hl_s3_clear_fields(st);
    hl_free(st);
}

struct hl_s3_record *hl_s3_record(struct hl_s3_state *st, uint64_t index)
{
    size_t room = st->record_room;
    struct hl_s3_record *more;

    HL_ASSERT(index < HL_S3_PART_COUNT);
    if (index >= room) {
        room = (size_t)hl_min(hl_max(2 * room, index + 16), HL_S3_PART_COUNT);
        more = hl_realloc(st->records, room * sizeof(*more));
        if (!more)
            return NULL;
        memset(more + st->record_room, 0,
               (room - st->record_room) * sizeof(*more));
        st->records = more;
        st->record_room = room;
    }
    st->record_count = hl_max(st->record_count, (size_t)index + 1);
    return &st->records[index];
}

static void fail(struct hl_http_upload *u, int rc, const struct hl_error *err)
{
    hl_s3_clear_fields(hl_s3_state(u));
    hl_http_upload_opened(u, rc, err);
}

static void no_memory(struct hl_http_upload *u)
{
    struct hl_error err = {0};

    fail(u, hl_err(&err, HAUL_E_NOMEM, 0, "out of memory"), &err);
}

/* ---- The layout --------------------------------------------------------- */

/* For --verbose: how it goes. */
static void tell_parts(struct hl_http_upload *u)
{
    const struct hl_s3_state *st = hl_s3_state(u);
    const struct hl_env *env = hl_s3_env(u);
    uint64_t mib = st->token.parts.size >> 20;
    size_t there = 0;
    char *text;

    if (!env->say || !st->token.id)
        return;
    for (size_t i = 0; i < st->record_count; i++)
        there += st->records[i].there;
    if (u->size == HL_SIZE_UNKNOWN)
        text = hl_asprintf("'%s' goes in parts of %" PRIu64 " MiB%s",
                           u->obj->display, mib,
                           st->token.parts.grow ? " that grow" : "");
    else
        text = hl_asprintf("'%s' goes in %" PRIu64 " parts of %" PRIu64
                           " MiB, of which %zu are there",
                           u->obj->display,
                           hl_s3_part_count(&st->token.parts, u->size), mib,
                           there);
    if (text)
        env->say(env, text);
    hl_free(text);
}

static void opened(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_layout *l = &u->open->layout;

    l->parts = st->token.parts;
    l->caps = HL_CAP_ORDERED | HL_CAP_LATE | HL_CAP_RESUME | HL_CAP_TELLS |
              HL_CAP_COMPARES;
    l->streams_max = hl_http_upload_streams(u);
    l->existing = u->open->confirmed ? u->open->confirmed->bytes : 0;
    hl_s3_choose_sums(u);
    hl_s3_clear_fields(st);
    tell_parts(u);
    hl_http_upload_opened(u, 0, NULL);
}

static int cut(struct hl_http_upload *u, struct hl_error *err)
{
    const struct hl_open *op = u->open;
    const struct hl_opts *opts = hl_s3_env(u)->opts;
    const char *verify = hl_opts_str(opts, HAUL_OPT_VERIFY);
    int64_t expected = hl_opts_i64(opts, HAUL_OPT_EXPECTED_SIZE);
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_s3_cut c = {
        .size = op->size,
        .expected = expected > 0 ? (uint64_t)expected : 0,
        .chunk = op->chunk_size,
        .hold_max = op->hold_max,
        .equal = st->s3->equal,
        /* The checksum of a single chunk is known before it is sent. */
        .small = verify && !strcmp(verify, "remote"),
    };

    return hl_s3_cut(&c, &st->token.parts, err);
}

/* ---- A new upload ------------------------------------------------------- */

int hl_s3_add_field(struct hl_s3_state *st, const char *name, char *value)
{
    if (!value || st->field_count == HL_LEN(st->fields)) {
        hl_free_secret(value);
        return HAUL_E_NOMEM;
    }
    st->field_text[st->text_count++] = value;
    st->fields[st->field_count++] =
        (struct hl_http_field){.name = name, .value = value};
    return 0;
}

/* A line of --header; the name is kept before the value. */
static int add_line(struct hl_s3_state *st, const char *line)
{
    size_t n = strcspn(line, ":");
    char *copy = hl_strdup(line);
    const char *value = line + n + (line[n] == ':');
    int rc;

    value += strspn(value, " \t");
    if (!copy || st->text_count + 2 > HL_LEN(st->field_text)) {
        hl_free_secret(copy);
        return HAUL_E_NOMEM;
    }
    copy[n] = '\0';
    st->field_text[st->text_count++] = copy;
    rc = hl_s3_add_field(st, copy, hl_strdup(value));
    return rc;
}

static bool user_sets(const struct hl_s3_ep *s3, const char *name)
{
    for (size_t i = 0; i < s3->creating_count; i++)
        if (hl_http_is_field(s3->creating[i], name))
            return true;
    return false;
}

int hl_s3_set_creating(struct hl_http_upload *u, struct hl_error *err)
{
    struct hl_s3_state *st = hl_s3_state(u);
    const struct hl_s3_ep *s3 = st->s3;
    int64_t ns = st->mtime_ns, second = (int64_t)HL_NS_PER_S;
    int rc = 0;

    hl_s3_clear_fields(st);
    for (size_t i = 0; i < s3->creating_count && !rc; i++)
        rc = add_line(st, s3->creating[i]);
    if (!rc && !user_sets(s3, "Content-Type"))
        rc = hl_s3_add_field(st, "Content-Type",
                             hl_strdup("application/octet-stream"));
    if (!rc && ns > 0 && !user_sets(s3, "x-amz-meta-mtime"))
        rc = hl_s3_add_field(
            st, "x-amz-meta-mtime",
            hl_asprintf("%" PRId64 ".%09" PRId64, ns / second, ns % second));
    return rc ? hl_err(err, rc, 0, "out of memory") : 0;
}

/* What can stand in a line of the token and is not endless. */
static bool is_id(const char *id)
{
    for (const char *c = id; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return id[0] && strlen(id) <= 2048;
}

static int take_id(struct hl_http_upload *u, const char *id,
                   struct hl_error *err)
{
    struct hl_s3_state *st = hl_s3_state(u);

    if (!is_id(id))
        return hl_err(err, HAUL_E_PROTO, 0,
                      "'%s': the server gives an upload id that none can be",
                      u->obj->display);
    st->token.id = hl_strdup(id);
    st->token.at = hl_strdup(st->s3->root);
    if (!st->token.id || !st->token.at)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    return 0;
}

static void on_created(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_INITIATE, &a, &err);
    bool again = hl_s3_may_ask_again(st, &a);
    char *text = NULL;

    if (!rc)
        rc = take_id(u, a.doc.upload_id, &err);
    hl_s3_answer_fini(&a);
    if (again) {
        create(u);
        return;
    }
    if (!rc) {
        st->token.opaque = hl_s3_is_opaque(ask->call.got[HL_S3_GOT_SSE],
                                           ask->call.got[HL_S3_GOT_SSE_C]);
        text = hl_s3_token_text(&st->token);
        rc = text ? 0 : hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
    }
    if (rc)
        fail(u, rc, &err);
    else
        hl_object_token(&u->obj->base, text); /* goes on when it is durable */
    hl_free_secret(text);
}

void hl_s3_token_saved(struct hl_http_upload *u, int rc)
{
    struct hl_error err = {0};

    if (!u->open)
        return;
    if (rc)
        fail(u, hl_err(&err, rc, 0, "the upload id cannot be kept"), &err);
    else
        opened(u);
}

static void create(struct hl_http_upload *u)
{
    static const struct hl_s3_field query[] = {{"uploads", ""}};
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_error err = {0};
    struct hl_http_ask *ask;
    int rc = hl_s3_set_creating(u, &err);

    if (rc) {
        fail(u, rc, &err);
        return;
    }
    ask = hl_s3_ask(u, NULL, "POST", query, 1, on_created);
    if (!ask) {
        no_memory(u);
        return;
    }
    ask->call.headers = st->fields;
    ask->call.header_count = st->field_count;
    hl_http_ask_go(ask);
}

static void begin_anew(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_error err = {0};
    int rc;

    hl_s3_forget(st);
    if (u->size == 0) {
        opened(u); /* it is put as a whole, at the end */
        return;
    }
    rc = cut(u, &err);
    if (rc)
        fail(u, rc, &err);
    else
        create(u);
}

/* ---- Is the name free? -------------------------------------------------- */

static void on_free_name(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_look_says(ask, &a, &err);

    if (hl_s3_may_ask_again(hl_s3_state(u), &a))
        look_before(u);
    else if (rc)
        fail(u, rc, &err);
    else
        begin_anew(u);
}

static void look_before(struct hl_http_upload *u)
{
    struct hl_http_ask *ask;

    ask = hl_s3_ask(u, NULL, "HEAD", NULL, 0, on_free_name);
    if (ask)
        hl_http_ask_go(ask);
    else
        no_memory(u);
}

/* ---- One of an earlier run ---------------------------------------------- */

int hl_s3_check_place(const struct hl_http_upload *u, struct hl_error *err)
{
    const struct hl_s3_state *st = hl_s3_state(u);

    if (!strcmp(st->token.at, st->s3->root))
        return 0;
    hl_err(err, HAUL_E_RESUME, 0, "the upload of '%s' was begun at '%s'",
           u->obj->display, st->token.at);
    return hl_err_hint(err, "Give the same --endpoint, --region and "
                            "--addressing, or --resume never.");
}

static int read_notes(struct hl_http_upload *u, struct hl_error *err)
{
    const struct hl_open *op = u->open;
    struct hl_s3_state *st = hl_s3_state(u);
    uint64_t count = hl_s3_part_count(&st->token.parts, u->size);

    for (size_t i = 0; i < op->note_count; i++) {
        struct hl_s3_record *r;
        struct hl_s3_note n;

        if (op->notes[i].part >= count ||
            !hl_s3_note_read(op->notes[i].text, &n))
            continue; /* that part is sent again */
        r = hl_s3_record(st, op->notes[i].part);
        if (!r)
            return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
        r->note = n;
    }
    return 0;
}

/* The engine forgets what it had, and opens again. */
static void gone(struct hl_http_upload *u)
{
    struct hl_error err = {0};

    hl_err(&err, HAUL_E_LOST, 0,
           "the server no longer has the upload of '%s' that was begun",
           u->obj->display);
    hl_err_hint(&err, "Somebody aborted it, or a rule of the bucket removes "
                      "unfinished uploads after a while.");
    fail(u, err.code, &err);
}

static bool add_confirmed(struct hl_http_upload *u, uint64_t begin,
                          uint64_t end)
{
    return !u->open->confirmed ||
           hl_ranges_add(u->open->confirmed, begin, end) == 0;
}

/* The upload was completed by an earlier run that did not hear of it. */
static bool is_ours(struct hl_http_upload *u, const struct hl_http_ask *ask)
{
    const char *const *got = (const char *const *)ask->call.got;
    char want[HL_S3_ETAG_MAX], etag[HL_S3_ETAG_MAX];
    uint64_t size;

    return got[HL_S3_GOT_LENGTH] &&
           hl_http_number(got[HL_S3_GOT_LENGTH], &size) && size == u->size &&
           hl_s3_etag(got[HL_S3_GOT_ETAG], etag) &&
           hl_s3_whole_etag(u, size, want) && !strcmp(etag, want);
}

static void on_looked(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_NO_DOCUMENT, &a, &err);

    hl_s3_answer_fini(&a);
    if (hl_err_retry_class(rc) != HL_RETRY_NEVER && rc) {
        fail(u, rc, &err);
        return;
    }
    if (!rc && is_ours(u, ask)) {
        st->completed = true;
        if (add_confirmed(u, 0, u->size))
            opened(u);
        else
            no_memory(u);
        return;
    }
    gone(u);
}

/* There is no such upload. */
static void look(struct hl_http_upload *u)
{
    char etag[HL_S3_ETAG_MAX];
    struct hl_http_ask *ask;

    if (!hl_s3_whole_etag(u, u->size, etag)) {
        gone(u);
        return;
    }
    ask = hl_s3_ask(u, NULL, "HEAD", NULL, 0, on_looked);
    if (ask)
        hl_http_ask_go(ask);
    else
        no_memory(u);
}

static int too_many(struct hl_http_upload *u, struct hl_error *err)
{
    hl_err(err, HAUL_E_RESUME, 0,
           "'%s': the server has parts behind the end of the object",
           u->obj->display);
    return hl_err_hint(err, "Somebody else writes there, or the server is "
                            "wrong: start anew with --resume never.");
}

static int take_listed(struct hl_http_upload *u, const struct hl_s3_part *p,
                       struct hl_error *err)
{
    struct hl_s3_state *st = hl_s3_state(u);
    const struct hl_parts *parts = &st->token.parts;
    uint64_t index = p->number - 1, begin, len;
    struct hl_s3_record *r;

    if (index >= hl_s3_part_count(parts, u->size))
        return too_many(u, err);
    begin = hl_parts_begin(parts, index);
    len = hl_min(hl_parts_len(parts, index), u->size - begin);
    r = hl_s3_record(st, index);
    if (!r)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (r->note.size != len || !hl_s3_listed(p, &r->note))
        return 0;
    r->there = true;
    if (!add_confirmed(u, begin, begin + len))
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    return 0;
}

static int take_page(struct hl_http_upload *u, const struct hl_s3_document *doc,
                     struct hl_error *err)
{
    struct hl_s3_state *st = hl_s3_state(u);
    int rc = 0;

    for (size_t i = 0; i < doc->part_count && !rc; i++) {
        if (doc->parts[i].number <= st->marker)
            return hl_err(err, HAUL_E_PROTO, 0,
                          "'%s': the server lists parts twice",
                          u->obj->display);
        rc = take_listed(u, &doc->parts[i], err);
    }
    if (!rc && doc->next_part && doc->next_part <= st->marker)
        rc = hl_err(err, HAUL_E_PROTO, 0,
                    "'%s': the server's list of parts has no end",
                    u->obj->display);
    st->marker = doc->next_part;
    return rc;
}

static void on_listed(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_PARTS, &a, &err);
    bool again = hl_s3_may_ask_again(st, &a);
    bool ended = rc && hl_s3_said(&a, "NoSuchUpload");

    if (!rc)
        rc = take_page(u, &a.doc, &err);
    hl_s3_answer_fini(&a);
    if (ended)
        look(u);
    else if (again || (!rc && st->marker))
        list(u);
    else if (rc)
        fail(u, rc, &err);
    else
        opened(u);
}

static void list(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);
    char marker[16];
    const struct hl_s3_field query[] = {
        {"max-parts", PAGE},
        {"part-number-marker", st->marker ? marker : NULL},
        {"uploadId", st->token.id},
    };
    struct hl_http_ask *ask;

    snprintf(marker, sizeof(marker), "%" PRIu32, st->marker);
    ask = hl_s3_ask(u, NULL, "GET", query, HL_LEN(query), on_listed);
    if (!ask) {
        no_memory(u);
        return;
    }
    /* A thousand parts with their checksums. */
    ask->call.answer_max = (size_t)4 << 20;
    hl_http_ask_go(ask);
}

static void find_again(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_error err = {0};
    int rc;

    hl_s3_forget(st);
    rc = hl_s3_token_read(u->open->token, u->size, u->chunk_size, &st->token,
                          &err);
    if (!rc)
        rc = hl_s3_check_place(u, &err);
    if (!rc)
        rc = read_notes(u, &err);
    if (rc) {
        fail(u, rc, &err);
        return;
    }
    st->marker = 0;
    list(u);
}

void hl_s3_open(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);

    u->bound = 0; /* a part is one body */
    st->clock_tries = 0;
    st->mtime_ns = u->open->mtime_ns;
    if (u->open->resume && u->open->token)
        find_again(u);
    else if (u->open->no_clobber)
        look_before(u);
    else
        begin_anew(u);
}

/* ---- The protocol ------------------------------------------------------- */

const struct hl_http_protocol hl_s3_protocol = {
    .name = "s3",
    .want = hl_s3_part_want,
    .whole_parts = true,
    .init = init,
    .free = free_state,
    .open = hl_s3_open,
    .begin = hl_s3_begin,
    .send = hl_s3_send,
    .data = hl_s3_data,
    .sent = hl_s3_sent,
    .part_free = hl_s3_part_free,
    .commit = hl_s3_commit,
    .discard = hl_s3_discard,
    .stat = hl_s3_stat,
    .token_saved = hl_s3_token_saved,
};
