/*
 * What the answers to a source's requests say. The first one opens the source:
 * size, validator, whether there are ranges, the digest that is offered. Every
 * later one must be of the same bytes, and is refused before one of them is
 * used when it is not. Runs on the streams' loops' threads; see http_source.h.
 */
#include "http_source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define RUN_MAX (UINT64_C(64) << 20)
/* RFC 9110 8.8.2.2: a date is strong when it is so much older than the
 * answer. */
#define DATE_STRONG_S 60
/* A stream that was refused as one too many rests so long. */
#define SHY_NS (30 * HL_NS_PER_S)

static const char *name_of(const struct hl_http_stream *st)
{
    return st->s->obj->display;
}

static int broken_answer(struct hl_http_stream *st, const char *how)
{
    return hl_err(&st->req.error, HAUL_E_PROTO, 0, "'%s': the server %s",
                  name_of(st), how);
}

/* ---- Checks that all answers share -------------------------------------- */

/* An answer with a status that brings no bytes of the object. */
static int refused(struct hl_http_stream *st)
{
    if (st->req.head.status >= 300)
        return hl_http_request_refused(&st->req);
    hl_err(&st->req.error, HAUL_E_PROTO, 0, "'%s': the server answers %d",
           name_of(st), st->req.head.status);
    st->req.error.proto_status = st->req.head.status;
    return st->req.error.code;
}

/* Lengths and offsets would be those of the compressed form, which need not be
 * the same twice. */
static int check_encoding(struct hl_http_stream *st)
{
    if (!st->req.head.encoding[0])
        return 0;
    hl_err(&st->req.error, HAUL_E_REMOTE, 0,
           "'%s': the server compresses what it sends (Content-Encoding: %s)",
           name_of(st), st->req.head.encoding);
    return hl_err_hint(&st->req.error,
                       "It was asked for the bytes as they are. Switch its "
                       "compression off for this name.");
}

/* A 206 must be one range, the one that was asked for, and all of it (RFC 9110
 * 15.3.7 lets a server send less; none is known to). */
static int check_range(struct hl_http_stream *st, uint64_t size)
{
    const struct hl_http_head *h = &st->req.head;
    uint64_t end = hl_min(st->end, size);

    if (!strncasecmp(h->type, "multipart/byteranges", 20))
        return broken_answer(st, "answers one range with several");
    if (!h->has_range)
        return broken_answer(st, "does not say which range it sends");
    if (h->range.begin != st->begin || h->range.end != end) {
        hl_err(&st->req.error, HAUL_E_PROTO, 0,
               "'%s': the server sends another range than was asked for",
               name_of(st));
        return hl_err_detail(&st->req.error,
                             "asked for %" PRIu64 " to %" PRIu64
                             ", answered with %" PRIu64 " to %" PRIu64,
                             st->begin, end, h->range.begin, h->range.end);
    }
    if (h->length != HL_SIZE_UNKNOWN && h->length != end - st->begin)
        return broken_answer(st, "sends a range of another length than it "
                                 "says");
    return 0;
}

/* ---- The first answer --------------------------------------------------- */

/* The same try once more in another way, when this answer has ended. */
static int again(struct hl_http_stream *st, bool *how, const char *why)
{
    *how = true;
    return broken_answer(st, why);
}

static int probe_part(struct hl_http_stream *st)
{
    struct hl_http_source *s = st->s;
    const struct hl_http_head *h = &st->req.head;
    int rc;

    if (s->step != HL_HTTP_PROBE_RANGE)
        return broken_answer(st, "sends a range that was not asked for");
    if (h->has_range && h->range.total == HL_SIZE_UNKNOWN &&
        h->range.begin == 0)
        return again(st, &s->again_whole, "does not say how long the whole is");
    rc = check_range(st, h->has_range ? h->range.total : 0);
    if (rc)
        return rc;
    s->facts.size = h->range.total;
    s->facts.ranges = true;
    st->end = h->range.end;
    return 0;
}

/* Some answer with the whole when the range covers it, and have ranges. */
static bool covers_whole(const struct hl_http_stream *st)
{
    const struct hl_http_head *h = &st->req.head;
    const char *units = hl_http_request_field(&st->req, "Accept-Ranges");

    return st->s->step == HL_HTTP_PROBE_RANGE && h->length <= st->end &&
           units && !strcasecmp(units, "bytes");
}

static void warn_undelimited(const struct hl_http_stream *st)
{
    const struct hl_env *env = st->s->obj->ep->base.env;
    struct hl_error warning = {0};

    if (!env->warn)
        return;
    hl_err(&warning, HAUL_E_PROTO, 0,
           "'%s': the server does not say where the answer ends; an early end "
           "could not be noticed",
           name_of(st));
    hl_err_hint(&warning, "Compare the result with a digest from elsewhere.");
    env->warn(env, &warning);
}

static void probe_whole(struct hl_http_stream *st)
{
    struct hl_http_facts *f = &st->s->facts;

    f->ranges = covers_whole(st);
    f->size = st->end = st->req.head.length;
    if (!st->req.head.delimited)
        warn_undelimited(st);
}

static void note_validator(struct hl_http_stream *st)
{
    const struct hl_http_head *h = &st->req.head;
    struct hl_http_facts *f = &st->s->facts;
    const char *date = hl_http_request_field(&st->req, "Last-Modified");

    memcpy(f->etag, h->etag, sizeof(f->etag));
    f->etag_weak = h->etag_weak;
    f->modified_s = h->modified_s;
    /* Servers compare it as text (RFC 9110 13.1.5): it goes back as it came. */
    if (date && h->modified_s && h->date_s &&
        h->date_s - h->modified_s >= DATE_STRONG_S &&
        strlen(date) < sizeof(f->date))
        memcpy(f->date, date, strlen(date) + 1);
}

static void tell_identity(struct hl_http_source *s)
{
    const struct hl_http_facts *f = &s->facts;
    struct hl_identity *id = &s->open->identity;

    id->size = f->size;
    id->mtime_ns = hl_http_mtime_ns(f->modified_s);
    if (f->etag[0] && !f->etag_weak)
        snprintf(id->validator, sizeof(id->validator), "%s", f->etag);
    else if (f->date[0])
        snprintf(id->validator, sizeof(id->validator), "@%" PRId64,
                 f->modified_s);
    id->weak = !id->validator[0];
}

static void tell_layout(struct hl_http_source *s)
{
    const struct hl_env *env = s->obj->ep->base.env;
    int64_t connections = hl_opts_i64(env->opts, HAUL_OPT_CONNECTIONS);
    struct hl_layout *l = &s->open->layout;
    uint64_t chunk = s->open->chunk_size, most;

    s->streams_max = 1;
    if (s->facts.ranges) {
        most = hl_min(env->library_bytes_max / HL_HTTP_STREAM_BYTES,
                      HL_HTTP_STREAMS_MAX);
        if (connections > 0)
            most = hl_min(most, (uint64_t)connections);
        s->streams_max = (uint32_t)hl_max(most, 1);
        l->caps = HL_CAP_SEEK;
        l->run_max = hl_max(RUN_MAX / chunk, 1) * chunk;
    }
    l->streams_max = s->streams_max;
}

static void finish_open(struct hl_http_source *s, int rc,
                        const struct hl_error *err)
{
    struct hl_open *op = s->open;

    if (rc)
        op->op.error = *err;
    else
        tell_layout(s);
    s->open = NULL;
    s->step = HL_HTTP_PROBE_NONE;
    hl_op_finish(s->obj->ep->base.env->loop, &op->op, rc);
}

/* A digest is asked for only when the user wants it checked: the server may
 * have to read everything for it. */
static bool want_digest(const struct hl_http_source *s)
{
    const struct hl_opts *opts = s->obj->ep->base.env->opts;
    const char *mode = hl_opts_str(opts, HAUL_OPT_VERIFY);

    return mode && !strcmp(mode, "remote") && !s->open->identity.offered[0] &&
           s->facts.size;
}

static void take_offer(struct hl_identity *to, const struct hl_identity *from)
{
    memcpy(to->offered, from->offered, sizeof(to->offered));
    memcpy(to->offered_digest, from->offered_digest,
           sizeof(to->offered_digest));
}

int hl_http_probe_head(struct hl_http_stream *st)
{
    struct hl_http_source *s = st->s;
    const struct hl_http_head *h = &st->req.head;
    int rc = 0;

    if (h->status == 416 && s->step == HL_HTTP_PROBE_RANGE)
        return again(st,
                     h->has_range && h->range.total == 0 ? &s->empty
                                                         : &s->again_whole,
                     "has no first bytes");
    if (h->status != 200 && h->status != 206)
        return refused(st);
    rc = check_encoding(st);
    if (!rc && h->status == 206)
        rc = probe_part(st);
    else if (!rc)
        probe_whole(st);
    if (rc)
        return rc;
    s->facts.url = hl_strdup(st->req.url);
    s->facts.foreign = st->req.foreign;
    if (!s->facts.url)
        return hl_err(&st->req.error, HAUL_E_NOMEM, 0, "out of memory");
    note_validator(st);
    tell_identity(s);
    take_offer(&s->open->identity, &h->offered);
    if (want_digest(s)) {
        /* Not from inside a callback. */
        s->step = HL_HTTP_PROBE_ASK;
        hl_http_stream_tell(st, HL_HTTP_ASK);
    } else {
        finish_open(s, 0, NULL);
    }
    return 0;
}

static void forget_facts(struct hl_http_source *s)
{
    hl_free_secret(s->facts.url); /* may be a signed link */
    s->facts = (struct hl_http_facts){.size = HL_SIZE_UNKNOWN};
    s->again_whole = s->empty = false;
}

static void ask_first(struct hl_http_stream *st, enum hl_http_probe how)
{
    struct hl_http_source *s = st->s;
    bool ranged = how == HL_HTTP_PROBE_RANGE;
    struct hl_error err = {0};
    int rc;

    forget_facts(s);
    s->step = how;
    rc = hl_http_stream_start(
        st, 0, ranged ? 2 * s->open->chunk_size : HL_SIZE_UNKNOWN, ranged,
        &err);
    if (rc)
        finish_open(s, rc, &err);
}

void hl_http_probe_start(struct hl_http_stream *st)
{
    struct hl_open *op = st->s->open;

    op->layout = (struct hl_layout){0};
    op->identity = (struct hl_identity){.size = HL_SIZE_UNKNOWN};
    hl_http_request_cancel(&st->req);
    st->back = true;
    ask_first(st, HL_HTTP_PROBE_RANGE);
}

void hl_http_probe_done(struct hl_http_stream *st, int rc)
{
    struct hl_http_source *s = st->s;
    struct hl_error *err = &st->req.error;

    if (s->step == HL_HTTP_PROBE_ASK) {
        /* The first read finds out what is missing. */
        if (rc || hl_http_stream_ended(st, err))
            st->spill_len = 0;
    } else if (s->again_whole) {
        ask_first(st, HL_HTTP_PROBE_WHOLE);
    } else if (s->empty) {
        s->facts.size = 0;
        s->facts.ranges = true;
        st->at = st->end = 0;
        tell_identity(s);
        finish_open(s, 0, NULL);
    } else {
        rc = rc ? rc : broken_answer(st, "gives no answer");
        finish_open(s, rc, err);
    }
}

/* ---- The digest --------------------------------------------------------- */

/* A HEAD speaks of the whole, like a 200 (RFC 9110 9.3.2). */
static bool same_whole(const struct hl_http_source *s,
                       const struct hl_http_head *h)
{
    const struct hl_http_facts *f = &s->facts;

    if (h->status != 200 || h->encoding[0])
        return false;
    if (h->length != f->size && h->length != HL_SIZE_UNKNOWN)
        return false;
    return !strcmp(h->etag, f->etag) && h->modified_s == f->modified_s;
}

/* What cannot be asked is not offered; the engine says so. */
static void on_asked(struct hl_http_request *req, int rc)
{
    struct hl_http_source *s = req->user;

    if (!rc && same_whole(s, &req->head))
        take_offer(&s->open->identity, &req->head.offered);
    finish_open(s, 0, NULL);
}

static const struct hl_http_handler ask_handler = {.done = on_asked};

/* No clock runs: the server may read for as long as the engine waits. */
void hl_http_probe_ask(struct hl_http_stream *st)
{
    struct hl_http_source *s = st->s;
    struct hl_http_request *req = &s->ask;
    struct hl_http_ep *ep = s->obj->ep;

    if (s->step != HL_HTTP_PROBE_ASK)
        return;
    hl_http_request_fini(req);
    if (!hl_http_request_init(req, ep, st->req.loop)) {
        req->handler = &ask_handler;
        req->user = s;
        req->method = "HEAD";
        req->display = s->obj->display;
        req->url = hl_strdup(s->facts.url);
        req->foreign = s->facts.foreign;
        req->headers = curl_slist_append(
            NULL, "Want-Repr-Digest: sha-256=10, sha-512=3, md5=1");
    }
    if (req->url && req->headers)
        hl_http_request_start(req);
    else
        finish_open(s, 0, NULL);
}

bool hl_http_probe_drop(struct hl_http_stream *st, int rc,
                        const struct hl_error *err)
{
    struct hl_http_source *s = st->s;
    bool digest = rc == HAUL_E_STALLED && s->step == HL_HTTP_PROBE_ASK;

    hl_http_request_cancel(&s->ask);
    if (digest)
        HL_WARN(s->obj->ep->base.env->log, HL_AREA_NET,
                "no answer when asked for the digest");
    finish_open(s, digest ? 0 : rc, err);
    return !digest;
}

/* ---- Later answers ------------------------------------------------------ */

/* What differs from the first answer, or NULL. */
static const char *differs(const struct hl_http_facts *f,
                           const struct hl_http_head *h, uint64_t total)
{
    bool strong = f->etag[0] && !f->etag_weak;

    if (total != f->size)
        return "its size differs";
    /* Of weak tags the text must do; a server may have stopped giving one. */
    if (strong && (h->etag_weak || strcmp(h->etag, f->etag) != 0))
        return "its ETag differs";
    if (f->etag_weak && h->etag[0] && strcmp(h->etag, f->etag) != 0)
        return "its ETag differs";
    if (!strong && f->modified_s && h->modified_s &&
        f->modified_s != h->modified_s)
        return "its date differs";
    return NULL;
}

static int changed(struct hl_http_stream *st, const char *what)
{
    hl_err(&st->req.error, HAUL_E_CHANGED, 0,
           "the source '%s' changed during the copy: %s", name_of(st), what);
    return hl_err_hint(&st->req.error,
                       "Copy it again when nobody writes to it.");
}

/* The whole where a range was asked for: If-Range did not hold, or the server
 * takes no ranges here. */
static int whole_for_range(struct hl_http_stream *st)
{
    const struct hl_http_facts *f = &st->s->facts;
    const struct hl_http_head *h = &st->req.head;
    uint64_t total = h->length == HL_SIZE_UNKNOWN ? f->size : h->length;
    const char *what = differs(f, h, total);

    if (what)
        return changed(st, what);
    if (st->begin == 0 && st->end == f->size)
        return 0;
    broken_answer(st, "answers a range with the whole");
    return hl_err_hint(&st->req.error,
                       "It did before; different servers may answer under "
                       "this name.");
}

static int later_part(struct hl_http_stream *st)
{
    const struct hl_http_head *h = &st->req.head;
    const char *what;

    if (!h->has_range || h->range.total == HL_SIZE_UNKNOWN)
        return broken_answer(st, "does not say which range it sends");
    what = differs(&st->s->facts, h, h->range.total);
    if (what)
        return changed(st, what);
    return check_range(st, h->range.total);
}

static int later_whole(struct hl_http_stream *st)
{
    const struct hl_http_facts *f = &st->s->facts;
    const struct hl_http_head *h = &st->req.head;
    const char *what = differs(f, h, h->length);

    if (h->status != 200)
        return broken_answer(st, "sends a range that was not asked for");
    return what ? changed(st, what) : 0;
}

/* Links that a server redirects to may be good for a while only. */
static int link_expired(struct hl_http_stream *st)
{
    st->back = true;
    return hl_err(&st->req.error, HAUL_E_RESET, 0,
                  "'%s': where the server had redirected to, the answer is %d "
                  "now",
                  name_of(st), st->req.head.status);
}

static void tell_limit(const struct hl_http_stream *st, uint32_t limit)
{
    struct hl_http_ep *ep = st->s->obj->ep;

    pthread_mutex_lock(&ep->lock);
    ep->flow.streams_limit = limit;
    pthread_mutex_unlock(&ep->lock);
}

/* One connection too many is no reason to try just that one again and again
 * while the others work; the engine hears how many those are. When all were
 * refused for a while, the last of them says so: after a rest it is forgotten
 * with the first answer. */
static int refused_later(struct hl_http_stream *st)
{
    struct hl_http_source *s = st->s;
    uint32_t others = atomic_load(&s->ranging) - 1;
    uint64_t until;
    int rc = refused(st);

    if (rc != HAUL_E_REMOTE_BUSY || others == 0)
        return rc;
    until = hl_loop_now(s->obj->ep->base.env->loop) +
            hl_max(SHY_NS, st->req.error.retry_after_ns);
    atomic_store(&st->shy, until);
    atomic_store(&s->limited, until);
    tell_limit(st, others);
    return rc;
}

static void accepted(struct hl_http_stream *st)
{
    struct hl_http_source *s = st->s;
    uint64_t until = atomic_load(&s->limited);

    atomic_store(&st->shy, 0);
    if (!until || hl_loop_now(s->obj->ep->base.env->loop) < until)
        return;
    atomic_store(&s->limited, 0);
    tell_limit(st, 0);
}

int hl_http_later_head(struct hl_http_stream *st)
{
    const struct hl_http_head *h = &st->req.head;
    bool ranges = st->s->facts.ranges;
    int rc;

    if (h->status == 416 && ranges)
        return changed(st, "it became shorter");
    /* 400: the signed links of some stores. */
    if (!st->direct &&
        (h->status == 400 || h->status == 401 || h->status == 403 ||
         h->status == 404 || h->status == 410))
        return link_expired(st);
    if (h->status != 200 && h->status != 206)
        return refused_later(st);
    rc = check_encoding(st);
    if (rc)
        return rc;
    accepted(st);
    if (!ranges)
        return later_whole(st);
    return h->status == 206 ? later_part(st) : whole_for_range(st);
}
