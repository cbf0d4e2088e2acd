/*
 * The parts of an upload to S3: each is the body of one PUT. Its checksums are
 * taken while it is sent and compared with what the server says that it got.
 *
 * Most servers say an MD5 as ETag; some say another thing that looks like one,
 * and none tells which it is. So the first ETag that is the MD5 settles it.
 * Where the first is not, the part is sent again with its MD5 before it: a
 * server that takes that has the right bytes, and its ETags are something else.
 *
 * Engine thread, but for hl_s3_data(), which has the part's sums to itself from
 * hl_s3_send() to hl_s3_sent().
 */
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "s3_private.h"

#define BAD_MAX 3 /* times that checksums of a part may differ */
#define SUM_MAX 32

static const char *const sum_names[HL_S3_SUM_COUNT] = {
    [HL_S3_SUM_MD5] = "md5",       [HL_S3_SUM_CRC64NVME] = "crc64nvme",
    [HL_S3_SUM_CRC32C] = "crc32c", [HL_S3_SUM_SHA256] = "sha256",
    [HL_S3_SUM_XXH128] = "xxh128",
};

/* Fields of an answer; from 0 on those of the sums. */
enum {
    GOT_ETAG = HL_S3_SUM_MD5,
    GOT_SSE = HL_S3_SUM_COUNT,
    GOT_SSE_C,
    GOT_DATE,
    GOT_REGION,
    GOT_COUNT
};

const char *const hl_s3_part_want[] = {
    [GOT_ETAG] = "ETag",
    [HL_S3_SUM_CRC64NVME] = "x-amz-checksum-crc64nvme",
    [HL_S3_SUM_CRC32C] = "x-amz-checksum-crc32c",
    [HL_S3_SUM_SHA256] = "x-amz-checksum-sha256",
    [HL_S3_SUM_XXH128] = "x-amz-checksum-xxhash128",
    [GOT_SSE] = "x-amz-server-side-encryption",
    [GOT_SSE_C] = "x-amz-server-side-encryption-customer-algorithm",
    [GOT_DATE] = "Date",
    [GOT_REGION] = "x-amz-bucket-region",
    [GOT_COUNT] = NULL,
};

/* part->own: the sums of the body under way. */
struct sums {
    const struct hl_env *env;
    const struct hl_digest *digest[HL_S3_SUM_COUNT]; /* NULL: not taken */
    void *state[HL_S3_SUM_COUNT];
    uint8_t value[HL_S3_SUM_COUNT][SUM_MAX];
    uint64_t bytes;
    bool failed; /* memory was out */
    bool final;  /* value is there */
    bool said;   /* the MD5 stood in the header */
};

/* ---- Sums --------------------------------------------------------------- */

static void drop_states(struct sums *s)
{
    for (size_t i = 0; i < HL_S3_SUM_COUNT; i++) {
        if (s->state[i])
            s->digest[i]->ordered_free(s->state[i]);
        s->state[i] = NULL;
    }
}

static void restart(struct sums *s)
{
    drop_states(s);
    s->bytes = 0;
    s->failed = s->final = false;
    for (size_t i = 0; i < HL_S3_SUM_COUNT; i++) {
        if (!s->digest[i])
            continue;
        s->state[i] = s->digest[i]->ordered_new();
        s->failed = s->failed || !s->state[i];
    }
}

static void finish(struct sums *s)
{
    for (size_t i = 0; i < HL_S3_SUM_COUNT && !s->failed; i++)
        if (s->state[i])
            s->digest[i]->ordered_final(s->state[i], s->value[i]);
    s->final = !s->failed;
    drop_states(s);
}

static int start_sums(struct hl_http_upload *u, struct hl_http_part *part)
{
    struct hl_s3_state *st = hl_s3_state(u);
    struct sums *s = part->own;

    if (!s)
        s = part->own = hl_malloc(sizeof(*s));
    if (!s)
        return HAUL_E_NOMEM;
    drop_states(s);
    s->env = hl_s3_env(u);
    s->said = false;
    for (size_t i = 0; i < HL_S3_SUM_COUNT; i++) {
        s->digest[i] = st->sums[i] ? hl_s3_digest(s->env, sum_names[i]) : NULL;
        HL_ASSERT(!s->digest[i] || s->digest[i]->size <= SUM_MAX);
    }
    restart(s);
    return s->failed ? HAUL_E_NOMEM : 0;
}

void hl_s3_data(struct hl_http_part *part, const uint8_t *data, size_t len)
{
    struct sums *s = part->own;

    if (!data) {
        restart(s);
        return;
    }
    s->bytes += len;
    for (size_t i = 0; i < HL_S3_SUM_COUNT; i++)
        if (s->state[i])
            s->digest[i]->ordered_update(s->state[i], data, len);
}

void hl_s3_part_free(struct hl_http_part *part)
{
    struct sums *s = part->own;

    if (s)
        drop_states(s);
    hl_free(s);
    part->own = NULL;
}

static char *fact_key(const struct hl_s3_ep *s3)
{
    return hl_asprintf("s3 etag %s", s3->root);
}

void hl_s3_choose_sums(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);
    const struct hl_env *env = hl_s3_env(u);
    const char *verify = hl_opts_str(env->opts, HAUL_OPT_VERIFY);
    char *key = fact_key(st->s3), *fact = NULL;

    memset(st->sums, 0, sizeof(st->sums));
    if (key && env->fact)
        fact = env->fact(env, key);
    st->known_opaque = fact && !strcmp(fact, "opaque");
    hl_free(key);
    hl_free(fact);
    if (st->token.opaque)
        st->etags = HL_S3_ETAGS_OPAQUE;
    st->comparing =
        (!verify || strcmp(verify, "none")) && hl_s3_digest(env, "md5");
    if (!st->comparing)
        return;
    st->sums[HL_S3_SUM_MD5] = st->etags != HL_S3_ETAGS_OPAQUE;
    /* Amazon answers with this one when nobody named another. */
    st->sums[HL_S3_SUM_CRC64NVME] = st->s3->amazon && !st->sums[HL_S3_SUM_MD5];
}

/* What this server's ETags are is now known. */
static void settle(struct hl_http_upload *u, enum hl_s3_etags etags)
{
    struct hl_s3_state *st = hl_s3_state(u);
    const struct hl_env *env = hl_s3_env(u);
    bool opaque = etags == HL_S3_ETAGS_OPAQUE;
    char *key;

    if (st->etags == etags)
        return;
    st->etags = etags;
    if (opaque == st->known_opaque || st->token.opaque)
        return;
    key = fact_key(st->s3);
    if (key && env->keep_fact)
        env->keep_fact(env, key, opaque ? "opaque" : NULL);
    hl_free(key);
}

/* ---- Before a body ------------------------------------------------------ */

static void begun(struct hl_http_part *part, uint64_t offset)
{
    part->offset = offset;
    hl_http_part_begun(part, 0, NULL);
}

static void keep_note(struct hl_http_part *part, struct hl_s3_record *r)
{
    char *text = hl_s3_note_text(&r->note);

    r->there = true;
    r->unsure = false;
    r->bad = 0;
    /* Without its note the next run sends the part again. */
    if (text)
        hl_object_note(&part->upload->obj->base, part->index, text);
    hl_free(text);
}

bool hl_s3_listed(const struct hl_s3_part *listed, const struct hl_s3_note *n)
{
    char etag[HL_S3_ETAG_MAX];

    return listed->size == n->size && hl_s3_etag(listed->etag, etag) &&
           !strcmp(etag, n->etag);
}

/* The answer to all of it was lost: is it there all the same? */
static bool arrived(const struct hl_s3_document *doc,
                    const struct hl_http_part *part, struct hl_s3_note *n)
{
    const struct hl_s3_part *p = doc->part_count ? &doc->parts[0] : NULL;
    uint8_t md5[HL_S3_MD5];

    return p && p->number == part->index + 1 && p->size == n->size &&
           hl_s3_etag(p->etag, n->etag) && hl_s3_etag_md5(n->etag, md5) &&
           !memcmp(md5, n->md5, sizeof(md5));
}

static void on_asked(struct hl_http_ask *ask)
{
    struct hl_http_part *part = ask->part;
    struct hl_http_upload *u = ask->upload;
    struct hl_s3_record *r = hl_s3_record(hl_s3_state(u), part->index);
    struct hl_s3_answer a;
    struct hl_error err = {0};
    int rc = hl_s3_answered(ask, HL_S3_PARTS, &a, &err);

    if (rc && a.again)
        rc = 0; /* the body may go, with the right time */
    else if (!rc && arrived(&a.doc, part, &r->note)) {
        r->note.compared = true;
        keep_note(part, r);
    }
    r->unsure = false;
    hl_s3_answer_fini(&a);
    if (rc)
        hl_http_part_begun(part, rc, &err);
    else
        begun(part, r->there ? r->note.size : 0);
}

static bool ask_about(struct hl_http_upload *u, struct hl_http_part *part)
{
    char marker[24];
    const struct hl_s3_field query[] = {
        {"max-parts", "1"},
        {"part-number-marker", marker},
        {"uploadId", hl_s3_state(u)->token.id},
    };
    struct hl_http_ask *ask;

    snprintf(marker, sizeof(marker), "%" PRIu64, part->index);
    ask = hl_s3_ask(u, part, "GET", query, HL_LEN(query), on_asked);
    if (ask)
        hl_http_ask_go(ask);
    return ask;
}

static int too_many(const struct hl_http_upload *u, struct hl_error *err)
{
    hl_err(err, HAUL_E_INVAL, 0,
           "'%s' gets too long: S3 takes %" PRIu64 " parts, and they are full",
           u->obj->display, HL_S3_PART_COUNT);
    return hl_err_hint(err, "Say with --expected-size about how long it will "
                            "be, so that the parts are large enough.");
}

void hl_s3_begin(struct hl_http_upload *u, struct hl_http_part *part)
{
    struct hl_error err = {0};
    struct hl_s3_record *r;

    if (part->index >= HL_S3_PART_COUNT) {
        hl_http_part_begun(part, too_many(u, &err), &err);
        return;
    }
    r = hl_s3_record(hl_s3_state(u), part->index);
    if (!r) {
        hl_err(&err, HAUL_E_NOMEM, 0, "out of memory");
        hl_http_part_begun(part, err.code, &err);
    } else if (r->there) {
        begun(part, r->note.size);
    } else if (!r->unsure || !r->note.has_md5 || !ask_about(u, part)) {
        begun(part, 0);
    }
}

/* ---- The body ----------------------------------------------------------- */

static int add_md5(struct hl_http_request *req, const uint8_t md5[HL_S3_MD5])
{
    unsigned char text[4 * ((HL_S3_MD5 + 2) / 3) + 1];
    char line[sizeof(text) + 16];

    EVP_EncodeBlock(text, md5, HL_S3_MD5);
    snprintf(line, sizeof(line), "Content-MD5: %s", (const char *)text);
    return hl_http_request_add(req, line);
}

/* The server is to check before it takes the part: when it looked wrong once,
 * and on request where all of it is in memory. */
static int say_md5(struct hl_http_upload *u, struct hl_http_part *part,
                   struct hl_http_request *req, uint64_t len)
{
    struct hl_s3_state *st = hl_s3_state(u);
    const struct hl_s3_record *r = &st->records[part->index];
    const char *verify = hl_opts_str(hl_s3_env(u)->opts, HAUL_OPT_VERIFY);
    struct sums *s = part->own;
    uint8_t md5[HL_S3_MD5];
    const uint8_t *data;
    uint64_t have;

    if (r->bad && r->note.has_md5 && r->note.size == len) {
        s->said = true;
        return add_md5(req, r->note.md5);
    }
    if (!verify || strcmp(verify, "remote"))
        return 0;
    data = hl_http_part_data(part, &have);
    if (have < len || !s->digest[HL_S3_SUM_MD5])
        return 0;
    s->digest[HL_S3_SUM_MD5]->run(data, (size_t)len, md5);
    s->said = true;
    return add_md5(req, md5);
}

int hl_s3_send(struct hl_http_upload *u, struct hl_http_part *part,
               struct hl_http_request *req, uint64_t *len, struct hl_error *err)
{
    struct hl_s3_state *st = hl_s3_state(u);
    char number[24];
    const struct hl_s3_field query[] = {
        {"partNumber", number},
        {"uploadId", st->token.id},
    };
    int rc = start_sums(u, part);

    HL_ASSERT(part->offset == 0);
    snprintf(number, sizeof(number), "%" PRIu64, part->index + 1);
    req->method = "PUT";
    req->url = hl_s3_url(u->obj, query, HL_LEN(query));
    /* What would be refused is refused before it was sent. */
    req->expect = !st->accepted || part->broken.code;
    if (!rc && !req->url)
        rc = HAUL_E_NOMEM;
    if (!rc)
        rc = say_md5(u, part, req, *len);
    return rc ? hl_err(err, rc, 0, "out of memory") : 0;
}

/* ---- The answer --------------------------------------------------------- */

static int differs(const struct hl_http_part *part, const char *sum,
                   struct hl_error *err)
{
    hl_err(err, HAUL_E_DIGEST, 0,
           "the server's %s of part %" PRIu64 " of '%s' differs from that of "
           "what was sent",
           sum, part->index + 1, part->upload->obj->display);
    return hl_err_hint(err, "Something on the way or at the server changes "
                            "bytes: find out what before you try again.");
}

/* Sums that the server echoes: 1 when one of them is ours, 0 when there is
 * none to compare, or the error. */
static int compare_echoes(const struct hl_http_part *part,
                          const struct hl_http_sent *sent, struct hl_error *err)
{
    const struct sums *s = part->own;
    unsigned char text[4 * ((SUM_MAX + 2) / 3) + 1];
    int equal = 0;

    for (int i = HL_S3_SUM_MD5 + 1; i < HL_S3_SUM_COUNT; i++) {
        if (!s->final || !s->digest[i] || !sent->got[i])
            continue;
        EVP_EncodeBlock(text, s->value[i], (int)s->digest[i]->size);
        if (strcmp((const char *)text, sent->got[i]))
            return differs(part, sum_names[i], err);
        equal = 1;
    }
    return equal;
}

/* Of the parts to come, what this server echoes: one is enough. */
static void watch_echoes(struct hl_http_upload *u,
                         const struct hl_http_sent *sent)
{
    struct hl_s3_state *st = hl_s3_state(u);
    bool found = false;

    st->sums[HL_S3_SUM_MD5] = false;
    for (int i = HL_S3_SUM_MD5 + 1; i < HL_S3_SUM_COUNT; i++) {
        st->sums[i] =
            !found && sent->got[i] && hl_s3_digest(hl_s3_env(u), sum_names[i]);
        found = found || st->sums[i];
    }
}

static void tell_opaque(struct hl_http_upload *u)
{
    struct hl_s3_state *st = hl_s3_state(u);
    const struct hl_env *env = hl_s3_env(u);
    char *text;

    if (st->told || !env->say)
        return;
    st->told = true;
    text = hl_asprintf("'%s': the server says no MD5 of what it got "
                       "(encryption with KMS, or another kind of ETag); parts "
                       "are compared by the checksums that it echoes, if any",
                       u->obj->display);
    if (text)
        env->say(env, text);
    hl_free(text);
}

/* Sets r->note.compared from ETag and echoes. */
static int compare(struct hl_http_part *part, const struct hl_http_sent *sent,
                   struct hl_s3_record *r, struct hl_error *err)
{
    struct hl_http_upload *u = part->upload;
    struct hl_s3_state *st = hl_s3_state(u);
    const struct sums *s = part->own;
    uint8_t md5[HL_S3_MD5];
    bool plain = hl_s3_etag_md5(r->note.etag, md5) &&
                 !hl_s3_is_opaque(sent->got[GOT_SSE], sent->got[GOT_SSE_C]);
    int echoed;

    if (!st->comparing)
        return 0;
    echoed = compare_echoes(part, sent, err);
    if (echoed < 0)
        return echoed;
    r->note.compared = echoed;
    if (plain && r->note.has_md5 && !memcmp(md5, r->note.md5, sizeof(md5))) {
        r->note.compared = true;
        settle(u, HL_S3_ETAGS_MD5);
        return 0;
    }
    /* It looks like an MD5 and nothing tells that it is none. */
    if (plain && !echoed && st->etags != HL_S3_ETAGS_OPAQUE &&
        (st->etags == HL_S3_ETAGS_MD5 || !(s->said || st->known_opaque)))
        return differs(part, "MD5", err);
    settle(u, HL_S3_ETAGS_OPAQUE);
    watch_echoes(u, sent);
    if (!r->note.compared)
        tell_opaque(u);
    return 0;
}

static int take_part(struct hl_http_part *part, const struct hl_http_sent *sent,
                     struct hl_s3_record *r, struct hl_error *err)
{
    struct hl_http_upload *u = part->upload;
    int rc;

    r->note.compared = false;
    if (!hl_s3_etag(sent->got[GOT_ETAG], r->note.etag))
        return hl_err(err, HAUL_E_PROTO, 0,
                      "'%s': the server confirms a part without an ETag",
                      u->obj->display);
    rc = compare(part, sent, r, err);
    if (rc)
        return rc;
    hl_s3_state(u)->accepted = true;
    part->offset = part->expected;
    keep_note(part, r);
    return 0;
}

static int refused(struct hl_http_part *part, const struct hl_http_sent *sent,
                   struct hl_error *err)
{
    struct hl_http_upload *u = part->upload;
    struct hl_s3_answer a = {
        .ep = u->ep,
        .display = u->obj->display,
        .verb = "write",
        .status = sent->status,
        .body = sent->answer.body,
        .body_len = sent->answer.body_len,
        .date = sent->got[GOT_DATE],
        .region = sent->got[GOT_REGION],
        .retry_after_ns = sent->retry_after_ns,
    };
    int rc = hl_s3_read_answer(&a, HL_S3_NO_DOCUMENT, err);

    if (a.again) {
        hl_err_clear(err);
        rc = hl_err(err, HAUL_E_REMOTE_BUSY, 0,
                    "'%s': the time of a request was wrong, and is corrected",
                    u->obj->display);
    }
    hl_s3_answer_fini(&a);
    return rc;
}

/* Which bytes were sent, for the next try. false: not all of the part. */
static bool note_sent(const struct hl_http_part *part, struct hl_s3_record *r)
{
    struct sums *s = part->own;

    if (s->bytes != part->expected - part->offset)
        return false;
    finish(s);
    memset(&r->note, 0, sizeof(r->note));
    r->note.size = s->bytes;
    r->note.has_md5 = s->final && s->digest[HL_S3_SUM_MD5];
    if (r->note.has_md5)
        memcpy(r->note.md5, s->value[HL_S3_SUM_MD5], HL_S3_MD5);
    return true;
}

int hl_s3_sent(struct hl_http_upload *u, struct hl_http_part *part,
               struct hl_http_sent *sent, struct hl_error *err)
{
    struct hl_s3_record *r = hl_s3_record(hl_s3_state(u), part->index);
    bool failed = ((struct sums *)part->own)->failed;
    bool whole = note_sent(part, r);
    int rc;

    r->unsure = whole && (sent->rc || sent->status >= 500);
    if (sent->rc)
        return hl_http_sent_refused(part, sent, err);
    if (sent->status < 200 || sent->status >= 300)
        rc = refused(part, sent, err);
    else if (failed)
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else
        rc = take_part(part, sent, r, err);
    /* Not endlessly: what changes bytes once may do so again. */
    if (rc == HAUL_E_DIGEST && ++r->bad < BAD_MAX)
        rc = err->code = HAUL_E_PROTO;
    return rc;
}
