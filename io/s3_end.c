/*
 * The end of an upload to S3: it is completed, or what is left of one removed;
 * and a look at what stands under the name. Engine thread.
 *
 *   commit ─┬─ no bytes ────► put
 *           └─ complete ─┬─ its answer, checked ──────────► is it all? ─► done
 *                        ├─ no answer: asked again, till one comes
 *                        └─ no such upload, after one was lost ─► look: is it
 *                                                         what was sent? ─►
 * done
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "s3_private.h"

/* A server may copy all parts before it answers. */
#define COMPLETE_NS (3600 * HL_NS_PER_S)
#define MD5_OF_NOTHING "d41d8cd98f00b204e9800998ecf8427e"

static void complete(struct hl_http_upload *u);
static void put_empty(struct hl_http_upload *u);
static void look(struct hl_http_upload *u);
static void stat_again(struct hl_http_upload *u);
static void remove_upload(struct hl_http_upload *u);

static void committed(struct hl_http_upload *u, int rc,
                      const struct hl_error *err)
{
    hl_s3_clear_fields(hl_s3_state(u));
    hl_http_upload_committed(u, rc, err);
}

static void no_memory(struct hl_http_upload *u)
{
    struct hl_error err = {0};

    committed(u, hl_err(&err, HAUL_E_NOMEM, 0, "out of memory"), &err);
}

/* ---- What all parts are together ---------------------------------------- */

bool hl_s3_whole_etag(const struct hl_http_upload *u, uint64_t size,
                      char out[HL_S3_ETAG_MAX])
{
    const struct hl_s3_state *st = hl_s3_state(u);
    uint64_t count = hl_s3_part_count(&st->token.parts, size);
    char hex[2 * HL_S3_MD5 + 1];
    const struct hl_digest *d = hl_s3_digest(hl_s3_env(u), "md5");
    uint8_t *all, md5[HL_S3_MD5];
    bool known = d && count > 0 && count <= st->record_count;

    all = known ? hl_calloc(count, HL_S3_MD5) : NULL;
    known = all;
    for (uint64_t i = 0; i < count && known; i++) {
        known = st->records[i].note.has_md5;
        memcpy(all + i * HL_S3_MD5, st->records[i].note.md5, HL_S3_MD5);
    }
    if (known) {
        d->run(all, count * HL_S3_MD5, md5);
        hl_hex(md5, HL_S3_MD5, hex);
        snprintf(out, HL_S3_ETAG_MAX, "%s-%" PRIu64, hex, count);
    }
    hl_free(all);
    return known;
}

static bool all_compared(const struct hl_http_upload *u)
{
    const struct hl_s3_state *st = hl_s3_state(u);

    for (size_t i = 0; i < st->record_count; i++)
        if (!st->records[i].note.compared)
            return false;
    return true;
}

/* Every part, and no byte more or less. */
static int check_parts(const struct hl_http_upload *u, struct hl_error *err)
{
    const struct hl_s3_state *st = hl_s3_state(u);
    uint64_t bytes = 0;

    for (size_t i = 0; i < st->record_count; i++) {
        if (!st->records[i].there)
            return hl_err(err, HAUL_E_BUG, 0, "part %zu of '%s' is missing",
                          i + 1, u->obj->display);
        bytes += st->records[i].note.size;
    }
    if (bytes == u->commit->size)
        return 0;
    return hl_err(err, HAUL_E_BUG, 0,
                  "'%s' has parts of %" PRIu64 " bytes, not %" PRIu64,
                  u->obj->display, bytes, u->commit->size);
}

static void set_facts(struct hl_http_upload *u, bool size_checked,
                      bool compared)
{
    u->commit->durable = true;
    u->commit->size_checked = size_checked;
    u->commit->compared = compared;
}

/* ---- Is it what was sent? ----------------------------------------------- */

/* Google's, for one. */
static void tell_other_etag(struct hl_http_upload *u)
{
    const struct hl_env *env = hl_s3_env(u);
    char *text;

    if (!env->say)
        return;
    text =
        hl_asprintf("'%s': the ETag of the whole is not made of those of its "
                    "parts; each part was compared when it was sent",
                    u->obj->display);
    if (text)
        env->say(env, text);
    hl_free(text);
}

/* The ETag of the whole: true when it is that of what was sent. */
static bool is_whole(struct hl_http_upload *u, const char *value, bool *known)
{
    char want[HL_S3_ETAG_MAX], etag[HL_S3_ETAG_MAX];

    *known = hl_s3_state(u)->etags == HL_S3_ETAGS_MD5 &&
             hl_s3_whole_etag(u, u->commit->size, want);
    return *known && hl_s3_etag(value, etag) && !strcmp(etag, want);
}

static int other_size(struct hl_http_upload *u, const char *length,
                      struct hl_error *err)
{
    hl_err(err, HAUL_E_REMOTE_IO, 0,
           "'%s' has %s bytes at the server, not "
           "%" PRIu64,
           u->obj->display, length, u->commit->size);
    return hl_err_hint(err, "Look who else writes there, and copy it again "
                            "with --resume never.");
}

/* There is no upload any more, and what stands there is not its result: all of
 * it is lost. */
static int lost(struct hl_http_upload *u, struct hl_error *err)
{
    hl_err_clear(err);
    hl_err(err, HAUL_E_LOST, 0,
           "the server no longer has the upload of '%s', and not its result "
           "either",
           u->obj->display);
    return hl_err_hint(err, "Somebody aborted it, or a rule of the bucket "
                            "removes unfinished uploads.");
}

static int judge(struct hl_http_upload *u, const struct hl_http_ask *ask,
                 struct hl_error *err)
{
    struct hl_s3_state *st = hl_s3_state(u);
    const char *length = ask->call.got[HL_S3_GOT_LENGTH];
    uint64_t size = HL_SIZE_UNKNOWN;
    bool known, whole = is_whole(u, ask->call.got[HL_S3_GOT_ETAG], &known);
    /* After Complete has said so it can only be ours. */
    bool sure = !st->asked_to_complete;

    if (length && hl_http_number(length, &size) && size != u->commit->size)
        return sure ? other_size(u, length, err) : lost(u, err);
    if (!sure && known && !whole)
        return lost(u, err);
    if (!sure && !known)
        return hl_err(err, HAUL_E_REMOTE_IO, 0,
                      "'%s': whether it was completed cannot be found out",
                      u->obj->display);
    if (known && !whole)
        tell_other_etag(u);
    set_facts(u, size != HL_SIZE_UNKNOWN || whole, all_compared(u));
    return 0;
}

/* Some servers take a moment until they show what they have. */
static int not_there(struct hl_http_upload *u, struct hl_error *err)
{
    hl_err_clear(err);
    return hl_err(err, HAUL_E_REMOTE_IO, 0,
                  "'%s' was completed and is not there", u->obj->display);
}

static void on_looked(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_NO_DOCUMENT, &a, &err);

    hl_s3_answer_fini(&a);
    if (hl_s3_may_ask_again(st, &a)) {
        look(u);
        return;
    }
    if (!rc)
        rc = judge(u, ask, &err);
    else if (a.status == 404 && st->asked_to_complete)
        rc = lost(u, &err);
    else if (a.status == 404)
        rc = not_there(u, &err);
    else if (!st->asked_to_complete && a.status == 403) {
        /* Who may only write is not told what stands there. */
        set_facts(u, false, all_compared(u));
        rc = 0;
    }
    committed(u, rc, &err);
}

static void look(struct hl_http_upload *u)
{
    struct hl_http_ask *ask;

    ask = hl_s3_ask(u, NULL, "HEAD", NULL, 0, on_looked);
    if (ask)
        hl_http_ask_go(ask);
    else
        no_memory(u);
}

/* ---- Complete ----------------------------------------------------------- */

static void warn_unconditional(struct hl_http_upload *u)
{
    const struct hl_env *env = hl_s3_env(u);
    struct hl_error w = {0};

    if (!env->warn)
        return;
    hl_err(&w, HAUL_E_NOTSUP, 0,
           "the server of '%s' cannot refuse to replace an object",
           u->obj->display);
    hl_err_hint(&w, "haul looked before; what somebody writes there at the "
                    "same moment would be replaced.");
    env->warn(env, &w);
}

static void go_on(struct hl_http_upload *u)
{
    if (u->commit->size)
        complete(u);
    else
        put_empty(u);
}

int hl_s3_look_says(const struct hl_http_ask *ask, struct hl_s3_answer *a,
                    struct hl_error *err)
{
    const char *name = ask->upload->obj->display;
    int rc = hl_s3_answered(ask, HL_S3_NO_DOCUMENT, a, err);

    hl_s3_answer_fini(a);
    if (rc) /* who may not list gets 403 for what is not there */
        return a->status == 404 || (a->status == 403 && !a->again) ? 0 : rc;
    hl_err(err, HAUL_E_EXISTS, 0, "the target '%s' exists", name);
    return hl_err_hint(err, "Without --no-clobber it would be replaced.");
}

static void on_free_name(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_look_says(ask, &a, &err);

    if (rc)
        committed(u, rc, &err);
    else
        go_on(u);
}

/* Not every server knows If-None-Match, and some do not say so: what can be
 * done is a look at the last moment. */
static void look_before(struct hl_http_upload *u)
{
    struct hl_http_ask *ask;

    ask = hl_s3_ask(u, NULL, "HEAD", NULL, 0, on_free_name);
    if (ask)
        hl_http_ask_go(ask);
    else
        no_memory(u);
}

static void go_unconditionally(struct hl_http_upload *u)
{
    hl_s3_state(u)->unconditional = true;
    warn_unconditional(u);
    go_on(u);
}

static bool is_conditional(const struct hl_http_upload *u)
{
    return u->commit->no_clobber && !hl_s3_state(u)->unconditional;
}

static void completed(struct hl_http_upload *u, const char *etag)
{
    struct hl_s3_state *st = hl_s3_state(u);
    bool known, whole = is_whole(u, etag, &known);

    st->asked_to_complete = false;
    st->completed = true;
    if (!whole) {
        look(u); /* at the size, at least */
        return;
    }
    set_facts(u, true, all_compared(u));
    committed(u, 0, NULL);
}

static void on_completed(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_state *st = hl_s3_state(u);
    bool before = st->asked_to_complete;
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_COMPLETE, &a, &err);
    bool unclear;

    /* Without a clear no it may have been done. */
    unclear = rc && rc != HAUL_E_LOST &&
              (!a.doc.error.code || hl_err_retry_class(rc) != HL_RETRY_NEVER);
    st->asked_to_complete = before || unclear;
    if (hl_s3_may_ask_again(st, &a))
        complete(u);
    else if (!rc)
        completed(u, a.doc.etag);
    else if (is_conditional(u) && hl_s3_said(&a, "NotImplemented"))
        go_unconditionally(u);
    else if (before && (rc == HAUL_E_LOST || rc == HAUL_E_EXISTS))
        look(u);
    else
        committed(u, rc, &err);
    hl_s3_answer_fini(&a);
}

/* The list of parts, in XML. */
static int list_parts(struct hl_http_upload *u, char **out,
                      struct hl_error *err)
{
    const struct hl_s3_state *st = hl_s3_state(u);
    struct hl_s3_part *parts = hl_calloc(st->record_count, sizeof(*parts));
    int rc;

    if (!parts)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    for (size_t i = 0; i < st->record_count; i++) {
        parts[i].number = (uint32_t)i + 1;
        parts[i].size = st->records[i].note.size;
        parts[i].etag = st->records[i].note.etag;
    }
    rc = hl_s3_xml_complete(parts, st->record_count, out, err);
    hl_free(parts);
    return rc;
}

static void complete(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);
    const struct hl_s3_field query[] = {{"uploadId", st->token.id}};
    struct hl_error err = {0};
    struct hl_http_ask *ask;
    char *xml = NULL;
    int rc = list_parts(u, &xml, &err);

    hl_s3_clear_fields(st);
    /* Others refuse what they do not know. */
    if (!rc && st->s3->amazon)
        rc = hl_s3_add_field(st, "x-amz-mp-object-size",
                             hl_asprintf("%" PRIu64, u->commit->size));
    if (!rc && is_conditional(u))
        rc = hl_s3_add_field(st, "If-None-Match", hl_strdup("*"));
    ask = rc ? NULL : hl_s3_ask(u, NULL, "POST", query, 1, on_completed);
    if (!ask) {
        hl_free(xml);
        hl_err(&err, rc ? rc : HAUL_E_NOMEM, 0, "out of memory");
        committed(u, err.code, &err);
        return;
    }
    ask->call.body = HL_HTTP_BODY_TEXT;
    ask->call.text = hl_http_ask_keep(ask, xml);
    ask->call.text_len = strlen(xml);
    ask->call.content_type = "application/xml";
    ask->call.headers = st->fields;
    ask->call.header_count = st->field_count;
    ask->call.timeout_ns = COMPLETE_NS;
    hl_http_ask_go(ask);
}

/* ---- No bytes ----------------------------------------------------------- */

static void on_put(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_state *st = hl_s3_state(u);
    char etag[HL_S3_ETAG_MAX];
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_NO_DOCUMENT, &a, &err);
    bool unknown = is_conditional(u) && rc && a.status == 501;

    hl_s3_answer_fini(&a);
    if (hl_s3_may_ask_again(st, &a)) {
        put_empty(u);
        return;
    }
    if (unknown) {
        go_unconditionally(u);
        return;
    }
    if (!rc)
        set_facts(u, true,
                  hl_s3_etag(ask->call.got[HL_S3_GOT_ETAG], etag) &&
                      !strcmp(etag, MD5_OF_NOTHING));
    committed(u, rc, &err);
}

static void put_empty(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_error err = {0};
    struct hl_http_ask *ask;
    int rc = hl_s3_set_creating(u, &err);

    if (!rc && is_conditional(u))
        rc = hl_s3_add_field(st, "If-None-Match", hl_strdup("*"));
    ask = rc ? NULL : hl_s3_ask(u, NULL, "PUT", NULL, 0, on_put);
    if (!ask) {
        no_memory(u);
        return;
    }
    ask->call.headers = st->fields;
    ask->call.header_count = st->field_count;
    hl_http_ask_go(ask);
}

/* A pipe that was empty: the upload that waits for parts can have none. */
static void on_emptied(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_NO_DOCUMENT, &a, &err);

    hl_s3_answer_fini(&a);
    if (rc && hl_err_retry_class(rc) != HL_RETRY_NEVER && a.status != 404) {
        committed(u, rc, &err);
        return;
    }
    hl_s3_forget(hl_s3_state(u));
    hl_s3_commit(u);
}

static struct hl_http_ask *ask_to_remove(struct hl_http_upload *u,
                                         void (*done)(struct hl_http_ask *ask))
{
    const struct hl_s3_field query[] = {{"uploadId", hl_s3_state(u)->token.id}};

    return hl_s3_ask(u, NULL, "DELETE", query, 1, done);
}

void hl_s3_commit(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_error err = {0};
    struct hl_http_ask *ask;
    int rc = u->commit->size && !st->completed ? check_parts(u, &err) : 0;

    st->clock_tries = 0;
    if (rc) {
        committed(u, rc, &err);
    } else if (u->commit->size && st->completed) {
        look(u); /* by an earlier run, or before the look at it failed */
    } else if (!u->commit->size && st->token.id) {
        ask = ask_to_remove(u, on_emptied);
        if (ask)
            hl_http_ask_go(ask);
        else
            no_memory(u);
    } else if (u->commit->no_clobber && !st->asked_to_complete) {
        look_before(u);
    } else {
        go_on(u);
    }
}

/* ---- Discard ------------------------------------------------------------ */

static void on_removed(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_NO_DOCUMENT, &a, &err);
    bool gone = rc && (a.status == 404 || hl_s3_said(&a, "NoSuchUpload"));

    hl_s3_answer_fini(&a);
    if (hl_s3_may_ask_again(hl_s3_state(u), &a)) {
        remove_upload(u);
        return;
    }
    if (!rc || gone)
        hl_s3_forget(hl_s3_state(u));
    hl_http_upload_discarded(u, gone ? 0 : rc, &err);
}

static void remove_upload(struct hl_http_upload *u)
{
    struct hl_http_ask *ask = ask_to_remove(u, on_removed);

    if (ask)
        hl_http_ask_go(ask);
    else
        hl_http_upload_discarded(u, HAUL_E_NOMEM, NULL);
}

void hl_s3_discard(struct hl_http_upload *u, const char *token)
{
    struct hl_s3_state *st = hl_s3_state(u);
    struct hl_error err = {0};
    int rc;

    st->clock_tries = 0;
    hl_s3_forget(st);
    rc = token ? hl_s3_token_read(token, HL_SIZE_UNKNOWN, 0, &st->token, &err)
               : 0;
    if (!rc && st->token.id)
        rc = hl_s3_check_place(u, &err);
    if (rc || !st->token.id)
        hl_http_upload_discarded(u, rc, &err);
    else
        remove_upload(u);
}

/* ---- What stands there -------------------------------------------------- */

static void take_stat(struct hl_stat *op, char *const *got)
{
    const char *text =
        got[HL_S3_GOT_MTIME] ? got[HL_S3_GOT_MTIME] : got[HL_S3_GOT_GOOG_MTIME];
    int64_t s = 0;

    op->exists = true;
    if (!got[HL_S3_GOT_LENGTH] ||
        !hl_http_number(got[HL_S3_GOT_LENGTH], &op->size))
        op->size = HL_SIZE_UNKNOWN;
    op->mtime_ns = hl_s3_mtime_ns(text);
    if (!op->mtime_ns && got[HL_S3_GOT_MODIFIED] &&
        hl_http_date(got[HL_S3_GOT_MODIFIED], &s))
        op->mtime_ns = hl_http_mtime_ns(s);
}

/* The answer to HEAD has no body that could say what is wrong; what is asked
 * next does. */
static void on_stat(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_NO_DOCUMENT, &a, &err);

    hl_s3_answer_fini(&a);
    if (hl_s3_may_ask_again(hl_s3_state(u), &a)) {
        stat_again(u);
        return;
    }
    if (!rc)
        take_stat(u->stat, ask->call.got);
    else if (a.status == 404)
        rc = 0;
    else if (a.status >= 400 && a.status < 500 &&
             hl_err_retry_class(rc) == HL_RETRY_NEVER)
        rc = err.code = HAUL_E_REMOTE;
    hl_http_upload_statted(u, rc, &err);
}

static void stat_again(struct hl_http_upload *u)
{
    struct hl_http_ask *ask;
    struct hl_error err = {0};

    ask = hl_s3_ask(u, NULL, "HEAD", NULL, 0, on_stat);
    if (ask) {
        hl_http_ask_go(ask);
        return;
    }
    hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
    hl_http_upload_statted(u, err.code, &err);
}

void hl_s3_stat(struct hl_http_upload *u)
{
    hl_s3_state(u)->clock_tries = 0;
    stat_again(u);
}
