/*
 * A source at S3: an object, read in ranges as any other over HTTP
 * (http_source.h), after a look at it, since only the answer to HEAD says its
 * checksum and when it was modified. Engine thread.
 *
 *   open ─► HEAD ─┬─ there ──────────────────────► ranges ─► opened
 *                 └─ refused ─► GET of one byte, whose answer says why
 *
 * A checksum of the whole is offered to the engine where the server says one:
 * sha256, crc64nvme or crc32c of the full object, never one that is composed of
 * those of parts. An ETag that could be an MD5 is taken for one only where the
 * server says that it is (encrypted with its own keys, as Amazon does), and
 * with --verify remote wherever it does not say the contrary.
 */
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

#include "s3_private.h"

enum step { STEP_IDLE, STEP_HEAD, STEP_WHY, STEP_RANGES };

enum {
    GOT_ETAG,
    GOT_DATE,
    GOT_REGION,
    GOT_MTIME,
    GOT_GOOG_MTIME,
    GOT_SSE,
    GOT_SSE_C,
    GOT_TYPE,
    GOT_SHA256,
    GOT_CRC64NVME,
    GOT_CRC32C,
    GOT_COUNT
};

static const char *const want[] = {
    [GOT_ETAG] = "ETag",
    [GOT_DATE] = "Date",
    [GOT_REGION] = "x-amz-bucket-region",
    [GOT_MTIME] = "x-amz-meta-mtime",
    [GOT_GOOG_MTIME] = "x-goog-meta-mtime",
    [GOT_SSE] = "x-amz-server-side-encryption",
    [GOT_SSE_C] = "x-amz-server-side-encryption-customer-algorithm",
    [GOT_TYPE] = "x-amz-checksum-type",
    [GOT_SHA256] = "x-amz-checksum-sha256",
    [GOT_CRC64NVME] = "x-amz-checksum-crc64nvme",
    [GOT_CRC32C] = "x-amz-checksum-crc32c",
    [GOT_COUNT] = NULL,
};

struct hl_s3_source {
    struct hl_s3_obj *obj;
    struct hl_http_client *client;
    enum step step;
    struct hl_http_call call;
    struct hl_open *open; /* the engine's, from open to its end */
    struct hl_open ranges;
    struct hl_op *abort;   /* the engine's */
    struct hl_op aborting; /* of the ranges */
    bool stalled, corrected;
    /* Of the look. */
    char etag[HL_S3_ETAG_MAX];
    int64_t mtime_ns;
    struct hl_identity offered; /* only .offered* */
};

static const struct hl_env *env_of(const struct hl_s3_source *s)
{
    return s->obj->http.ep->base.env;
}

static void ask(struct hl_s3_source *s, enum step step);

/* ---- Checksums ---------------------------------------------------------- */

/* size bytes in base64, and nothing else. */
static bool decode(const char *text, size_t size, uint8_t *out)
{
    size_t len = 4 * ((size + 2) / 3), pad = (3 - size % 3) % 3;
    uint8_t bytes[48];

    if (strlen(text) != len || len / 4 * 3 > sizeof(bytes) ||
        strcspn(text, "=") != len - pad ||
        EVP_DecodeBlock(bytes, (const uint8_t *)text, (int)len) < 0)
        return false;
    memcpy(out, bytes, size);
    return true;
}

static bool offer(struct hl_s3_source *s, const char *name, const char *value)
{
    const struct hl_digest *d = hl_s3_digest(env_of(s), name);
    struct hl_identity *to = &s->offered;

    if (!value || !d || d->size > sizeof(to->offered_digest) ||
        strlen(name) >= sizeof(to->offered) ||
        !decode(value, d->size, to->offered_digest))
        return false;
    memcpy(to->offered, name, strlen(name) + 1);
    return true;
}

static bool asked_for_remote(const struct hl_s3_source *s)
{
    const char *mode = hl_opts_str(env_of(s)->opts, HAUL_OPT_VERIFY);

    return mode && !strcmp(mode, "remote");
}

static void offer_etag(struct hl_s3_source *s, char *const *got)
{
    bool said = got[GOT_SSE] && !strcasecmp(got[GOT_SSE], "AES256");

    if (hl_s3_is_opaque(got[GOT_SSE], got[GOT_SSE_C]) ||
        !(said || asked_for_remote(s)) ||
        !hl_s3_etag_md5(s->etag, s->offered.offered_digest))
        return;
    memcpy(s->offered.offered, "md5", 4);
}

static void take_facts(struct hl_s3_source *s)
{
    char *const *got = s->call.got;
    const char *mtime = got[GOT_MTIME] ? got[GOT_MTIME] : got[GOT_GOOG_MTIME];
    bool full = !got[GOT_TYPE] || !strcasecmp(got[GOT_TYPE], "FULL_OBJECT");

    if (!got[GOT_ETAG] || !hl_s3_etag(got[GOT_ETAG], s->etag))
        return; /* then nothing says that the ranges are of the same bytes */
    s->mtime_ns = hl_s3_mtime_ns(mtime);
    /* What is composed of the checksums of parts ends in '-N'. */
    if (full && (offer(s, "sha256", got[GOT_SHA256]) ||
                 offer(s, "crc64nvme", got[GOT_CRC64NVME]) ||
                 offer(s, "crc32c", got[GOT_CRC32C])))
        return;
    offer_etag(s, got);
}

/* ---- The end of open ---------------------------------------------------- */

static void opened(struct hl_s3_source *s, int rc, const struct hl_error *err)
{
    struct hl_open *op = s->open;

    s->open = NULL;
    s->step = STEP_IDLE;
    if (rc && err)
        op->op.error = *err;
    hl_op_finish(env_of(s)->loop, &op->op, rc);
}

static void on_ranges(struct hl_op *op)
{
    struct hl_s3_source *s = op->user;
    struct hl_identity *id = &s->ranges.identity;
    char etag[HL_S3_ETAG_MAX];

    /* Of the version that was looked at? */
    if (!op->rc && s->etag[0] && hl_s3_etag(id->validator, etag) &&
        !strcmp(etag, s->etag)) {
        if (s->mtime_ns)
            id->mtime_ns = s->mtime_ns;
        if (s->offered.offered[0]) {
            memcpy(id->offered, s->offered.offered, sizeof(id->offered));
            memcpy(id->offered_digest, s->offered.offered_digest,
                   sizeof(id->offered_digest));
        }
    }
    s->open->identity = *id;
    s->open->layout = s->ranges.layout;
    opened(s, op->rc, &op->error);
}

static void open_ranges(struct hl_s3_source *s)
{
    s->step = STEP_RANGES;
    memset(&s->ranges, 0, sizeof(s->ranges));
    s->ranges.op.done = on_ranges;
    s->ranges.op.user = s;
    s->ranges.chunk_size = s->open->chunk_size;
    hl_http_source_open(&s->obj->http, &s->ranges);
}

/* ---- The look ----------------------------------------------------------- */

static void abort_ranges(struct hl_s3_source *s);

/* The call was ended by us. */
static bool was_ended(struct hl_s3_source *s)
{
    struct hl_error err = {0};

    if (s->abort) {
        opened(s, HAUL_E_CANCELED, NULL);
        abort_ranges(s);
        return true;
    }
    if (!s->stalled)
        return false;
    s->stalled = false;
    hl_err(&err, HAUL_E_STALLED, 0, "'%s': nothing came for %u s",
           s->obj->http.display,
           (unsigned)(s->obj->http.ep->stall_ns / HL_NS_PER_S));
    opened(s, err.code, &err);
    return true;
}

static void take_answer(struct hl_s3_source *s, struct hl_s3_answer *a, int rc,
                        const struct hl_error *err)
{
    if (a->again && !s->corrected) {
        s->corrected = true;
        ask(s, s->step);
    } else if (!rc && s->step == STEP_HEAD) {
        take_facts(s);
        open_ranges(s);
    } else if (s->step == STEP_HEAD &&
               hl_err_retry_class(rc) == HL_RETRY_NEVER) {
        ask(s, STEP_WHY);
    } else if (!rc || a->status == 416) {
        open_ranges(s); /* there is something, though HEAD does not say so */
    } else {
        opened(s, rc, err);
    }
}

static void on_answer(struct hl_op *op)
{
    struct hl_s3_source *s = op->user;
    struct hl_http_call *call = &s->call;
    struct hl_s3_answer a = {.ep = s->obj->http.ep,
                             .display = s->obj->http.display,
                             .verb = "read",
                             .status = call->status,
                             .body = call->answer,
                             .body_len = call->answer_len,
                             .date = call->got[GOT_DATE],
                             .region = call->got[GOT_REGION],
                             .retry_after_ns = call->retry_after_ns};
    struct hl_error err = op->error;
    int rc = op->rc;

    if (!rc)
        rc = hl_s3_read_answer(&a, HL_S3_NO_DOCUMENT, &err);
    if (!was_ended(s))
        take_answer(s, &a, rc, &err);
    hl_s3_answer_fini(&a);
}

static void ask(struct hl_s3_source *s, enum step step)
{
    static const struct hl_http_field head[] = {
        {.name = "x-amz-checksum-mode", .value = "ENABLED"}};
    static const struct hl_http_field one[] = {
        {.name = "Range", .value = "bytes=0-0"}};
    struct hl_http_call *call = &s->call;

    hl_http_call_fini(call);
    memset(call, 0, sizeof(*call));
    s->step = step;
    call->op.done = on_answer;
    call->op.user = s;
    call->method = step == STEP_HEAD ? "HEAD" : "GET";
    call->url = s->obj->http.url;
    call->kept = true;
    call->headers = step == STEP_HEAD ? head : one;
    call->header_count = 1;
    call->want = want;
    hl_http_call(s->client, call);
}

/* ---- Slots -------------------------------------------------------------- */

static int source_new(struct hl_s3_obj *obj)
{
    struct hl_s3_source *s = hl_malloc(sizeof(*s));

    if (!s)
        return HAUL_E_NOMEM;
    s->obj = obj;
    if (hl_http_client_on(obj->http.ep, &s->client)) {
        hl_free(s);
        return HAUL_E_NOMEM;
    }
    obj->source = s;
    return 0;
}

void hl_s3_source_open(struct hl_s3_obj *obj, struct hl_open *op)
{
    struct hl_s3_source *s;

    if (!obj->source && source_new(obj)) {
        hl_op_finish(obj->http.ep->base.env->loop, &op->op, HAUL_E_NOMEM);
        return;
    }
    s = obj->source;
    s->open = op;
    s->stalled = s->corrected = false;
    s->etag[0] = '\0';
    s->mtime_ns = 0;
    memset(&s->offered, 0, sizeof(s->offered));
    ask(s, STEP_HEAD);
}

static void on_aborted(struct hl_op *op)
{
    struct hl_s3_source *s = op->user;
    struct hl_op *abort = s->abort;

    s->abort = NULL;
    hl_op_finish(env_of(s)->loop, abort, 0);
}

static void abort_ranges(struct hl_s3_source *s)
{
    memset(&s->aborting, 0, sizeof(s->aborting));
    s->aborting.done = on_aborted;
    s->aborting.user = s;
    hl_http_source_abort(&s->obj->http, &s->aborting);
}

void hl_s3_source_abort(struct hl_s3_obj *obj, struct hl_op *op)
{
    struct hl_s3_source *s = obj->source;

    if (!s) {
        hl_op_finish(obj->http.ep->base.env->loop, op, 0);
        return;
    }
    s->abort = op;
    if (s->step == STEP_HEAD || s->step == STEP_WHY)
        hl_http_call_cancel(s->client, &s->call);
    else
        abort_ranges(s);
}

void hl_s3_source_unstall(struct hl_s3_obj *obj)
{
    struct hl_s3_source *s = obj->source;

    if (s && (s->step == STEP_HEAD || s->step == STEP_WHY)) {
        s->stalled = true;
        hl_http_call_cancel(s->client, &s->call);
    } else {
        hl_http_source_unstall(&obj->http);
    }
}

void hl_s3_source_free(struct hl_s3_source *s)
{
    if (!s)
        return;
    hl_http_call_fini(&s->call);
    hl_http_client_free(s->client);
    hl_free(s);
}
