/*
 * Which way to write a server speaks (http_ways.h): one OPTIONS request, and
 * what earlier ones said. Engine thread.
 *
 * tus names itself in Tus-Version. The IETF draft shows in Upload-Limit (up to
 * revision 09), in an Accept-Patch with its media type (from revision 10 on) or
 * in the interop version of the drafts.
 *
 * A fact is one line of words: "at=1763743434 way=tus extensions=creation
 * max=1000", "at=... way=ietf interop=8 post=1 size_min=1", "at=... way=put".
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "http.h"
#include "http_ways.h"

#define BELIEVED_S (24 * 60 * 60)
/* A server that says nothing for so long does not know OPTIONS. */
#define ANSWER_NS (10 * HL_NS_PER_S)
#define ANSWER_MAX (64u << 10)
#define ASKED_MAX 2
#define TEXT_MAX 256

/* In the order of wanted[]. */
enum {
    GOT_TUS_VERSION,
    GOT_TUS_EXTENSION,
    GOT_TUS_MAX,
    GOT_TUS_SUMS,
    GOT_LIMIT,
    GOT_ACCEPT_PATCH,
    GOT_INTEROP,
    GOT_ALLOW
};

static const char *const wanted[] = {"Tus-Version",
                                     "Tus-Extension",
                                     "Tus-Max-Size",
                                     "Tus-Checksum-Algorithm",
                                     "Upload-Limit",
                                     "Accept-Patch",
                                     "Upload-Draft-Interop-Version",
                                     "Allow",
                                     NULL};

/* Some servers of the draft tell their limits only to who speaks it. */
static const struct hl_http_field headers[] = {
    {.name = "Upload-Draft-Interop-Version", .value = "8"}};

static const struct hl_env *env_of(const struct hl_http_obj *obj)
{
    return obj->ep->base.env;
}

/* ---- Facts -------------------------------------------------------------- */

/* "speaks https://h/in/": kind and place, see http_ways.h. */
static char *fact_key(const struct hl_http_obj *obj, const char *kind)
{
    const char *host = strstr(obj->url, "://");
    const char *path = host ? strchr(host + 3, '/') : NULL;
    size_t len = strcspn(obj->url, "?"), n = len;

    if (path && (size_t)(path - obj->url) < len) {
        while (obj->url[n - 1] != '/')
            n--;
        if (n > (size_t)(path - obj->url) + 1)
            len = n;
    }
    return hl_asprintf("%s %.*s", kind, (int)len, obj->url);
}

/* The value of the word "key=value", up to a blank; NULL. */
static const char *find_word(const char *fact, const char *key, size_t *len)
{
    size_t key_len = strlen(key);

    for (const char *s = fact; *s; s += strspn(s, " ")) {
        size_t n = strcspn(s, " ");

        if (n > key_len && !strncmp(s, key, key_len) && s[key_len] == '=') {
            *len = n - key_len - 1;
            return s + key_len + 1;
        }
        s += n;
    }
    return NULL;
}

uint64_t hl_http_fact_number(const char *fact, const char *key,
                             uint64_t fallback)
{
    char text[24];
    uint64_t n;
    size_t len;
    const char *value = find_word(fact, key, &len);

    if (!value || len >= sizeof(text))
        return fallback;
    memcpy(text, value, len);
    text[len] = '\0';
    return hl_http_number(text, &n) ? n : fallback;
}

char *hl_http_fact(const struct hl_http_obj *obj, const char *kind)
{
    const struct hl_env *env = env_of(obj);
    char *key = env->fact ? fact_key(obj, kind) : NULL;
    char *fact = key ? env->fact(env, key) : NULL;
    uint64_t now = (uint64_t)time(NULL), at;

    hl_free(key);
    at = fact ? hl_http_fact_number(fact, "at", UINT64_MAX) : UINT64_MAX;
    /* A clock that was put back is no reason to believe it for longer. */
    if (at > now || now - at >= BELIEVED_S) {
        hl_free(fact);
        return NULL;
    }
    return fact;
}

void hl_http_keep_fact(const struct hl_http_obj *obj, const char *kind,
                       const char *text)
{
    const struct hl_env *env = env_of(obj);
    char *key = env->keep_fact ? fact_key(obj, kind) : NULL;
    char *fact =
        text ? hl_asprintf("at=%lld %s", (long long)time(NULL), text) : NULL;

    /* Without memory it is asked again. */
    if (key && (fact || !text))
        env->keep_fact(env, key, fact);
    hl_free(fact);
    hl_free(key);
}

/* ---- What is known, as a fact ------------------------------------------- */

static void speaks_init(struct hl_http_speaks *s)
{
    memset(s, 0, sizeof(*s));
    s->protocol = &hl_http_put;
    s->tus_max = HL_SIZE_UNKNOWN;
    hl_upload_limit_init(&s->limit);
}

static const struct {
    const char *name;
    const struct hl_http_protocol *protocol;
} ways[] = {
    {"put", &hl_http_put},
    {"tus", &hl_http_tus},
    {"ietf", &hl_http_ietf},
    {"ranged", &hl_http_ranged},
};

static bool find_way(const char *name, size_t len,
                     const struct hl_http_protocol **out)
{
    for (size_t i = 0; i < HL_LEN(ways); i++)
        if (len == strlen(ways[i].name) && !memcmp(name, ways[i].name, len)) {
            *out = ways[i].protocol;
            return true;
        }
    return false;
}

bool hl_http_way_of(const char *token, const struct hl_http_protocol **out)
{
    char *way = token ? hl_http_token_get(token, "way") : NULL;
    bool known = way && find_way(way, strlen(way), out);

    hl_free(way);
    return known;
}

/* A copy of a word, "" when it is not there or too long. */
static void copy_word(const char *fact, const char *key, char *out, size_t cap)
{
    size_t len;
    const char *value = find_word(fact, key, &len);

    snprintf(out, cap, "%.*s", value && len < cap ? (int)len : 0,
             value ? value : "");
}

static bool speaks_parse(const char *fact, struct hl_http_speaks *s)
{
    char text[TEXT_MAX];
    size_t len;
    const char *way = find_word(fact, "way", &len);

    speaks_init(s);
    if (!way || !find_way(way, len, &s->protocol))
        return false;
    copy_word(fact, "extensions", text, sizeof(text));
    s->tus = hl_tus_extensions(text);
    copy_word(fact, "sums", text, sizeof(text));
    s->tus_sums = hl_tus_sums(text);
    s->tus_max = hl_http_fact_number(fact, "max", HL_SIZE_UNKNOWN);
    s->interop = (uint32_t)hl_http_fact_number(fact, "interop", 0);
    s->post = hl_http_fact_number(fact, "post", 0);
    s->limit.size_max = hl_http_fact_number(fact, "size_max", HL_SIZE_UNKNOWN);
    s->limit.size_min = hl_http_fact_number(fact, "size_min", 0);
    s->limit.append_max =
        hl_http_fact_number(fact, "append_max", HL_SIZE_UNKNOWN);
    s->limit.append_min = hl_http_fact_number(fact, "append_min", 0);
    return true;
}

/* " KEY=N", or nothing for what is not said. */
static size_t put_word(char *out, size_t cap, const char *key, uint64_t n,
                       uint64_t none)
{
    if (n == none || !cap)
        return 0;
    return (size_t)snprintf(out, cap, " %s=%" PRIu64, key, n);
}

static void speaks_text(const struct hl_http_speaks *s, char *out, size_t cap)
{
    const struct hl_upload_limit *l = &s->limit;
    char extensions[TEXT_MAX], sums[TEXT_MAX];
    size_t n;

    if (s->protocol == &hl_http_put) {
        snprintf(out, cap, "way=put");
    } else if (s->protocol == &hl_http_tus) {
        hl_tus_extensions_text(s->tus, extensions, sizeof(extensions));
        hl_tus_sums_text(s->tus_sums, sums, sizeof(sums));
        n = (size_t)snprintf(out, cap, "way=tus extensions=%s sums=%s",
                             extensions, sums);
        put_word(out + n, cap - n, "max", s->tus_max, HL_SIZE_UNKNOWN);
    } else {
        n = (size_t)snprintf(out, cap, "way=ietf");
        n += put_word(out + n, cap - n, "interop", s->interop, 0);
        n += put_word(out + n, cap - n, "post", s->post, 0);
        n += put_word(out + n, cap - n, "size_max", l->size_max,
                      HL_SIZE_UNKNOWN);
        n += put_word(out + n, cap - n, "size_min", l->size_min, 0);
        n += put_word(out + n, cap - n, "append_max", l->append_max,
                      HL_SIZE_UNKNOWN);
        put_word(out + n, cap - n, "append_min", l->append_min, 0);
    }
}

void hl_http_learned(const struct hl_http_obj *obj)
{
    char text[2 * TEXT_MAX + 64];

    if (!obj->speaks)
        return;
    speaks_text(obj->speaks, text, sizeof(text));
    hl_http_keep_fact(obj, "speaks", text);
}

bool hl_http_disbelieve(struct hl_http_obj *obj)
{
    bool believed = obj->speaks && obj->speaks->believed;

    hl_http_keep_fact(obj, "speaks", NULL);
    if (obj->speaks)
        obj->speaks->believed = false;
    return believed;
}

/* ---- Saying it ---------------------------------------------------------- */

static char *way_words(const struct hl_http_speaks *s)
{
    char extensions[TEXT_MAX], sums[TEXT_MAX];

    if (s->protocol == &hl_http_put)
        return hl_strdup("takes a plain PUT: it cannot be continued");
    if (s->protocol == &hl_http_ietf)
        return hl_asprintf("speaks the IETF draft of resumable uploads "
                           "(interop version %" PRIu32 ")",
                           s->interop ? s->interop : HL_HTTP_INTEROP_NEWEST);
    hl_tus_extensions_text(s->tus, extensions, sizeof(extensions));
    hl_tus_sums_text(s->tus_sums, sums, sizeof(sums));
    return hl_asprintf("speaks tus 1.0.0 (%s%s%s)", extensions,
                       sums[0] ? ": " : "", sums);
}

/* Why it is not used for this object; "" when it is. */
static const char *why_not(const struct hl_http_discovery *d)
{
    const struct hl_http_speaks *s = d->obj->speaks;

    if (s->protocol == d->speaks.protocol)
        return "";
    if (s->protocol == &hl_http_ietf)
        return ", but not for so little: a plain PUT";
    if (!(s->tus & HL_TUS_CREATION))
        return ", but makes no uploads: a plain PUT";
    return ", but has to know the size: a plain PUT, which cannot be continued";
}

static void say(const struct hl_http_discovery *d)
{
    const struct hl_env *env = env_of(d->obj);
    char *words = way_words(d->obj->speaks), *line = NULL;

    if (words)
        line = hl_asprintf("'%s' %s%s%s", d->obj->display, words,
                           d->speaks.believed ? " (from an earlier run)" : "",
                           why_not(d));
    if (line && env->say)
        env->say(env, line);
    hl_free(line);
    hl_free(words);
}

/* ---- The end ------------------------------------------------------------ */

static void finish(struct hl_http_discovery *d, int rc)
{
    const struct hl_http_obj *obj = d->obj;

    hl_http_call_fini(&d->call);
    hl_http_client_free(d->client);
    d->client = NULL;
    hl_op_finish(env_of(obj)->loop, &d->op, rc);
}

/* Can this object go that way? */
static bool fits(const struct hl_http_discovery *d)
{
    const struct hl_http_speaks *s = &d->speaks;

    if (d->tus || d->fixed || s->protocol == &hl_http_put)
        return true;
    if (s->protocol == &hl_http_ietf)
        return s->limit.size_min == 0 ||
               (d->size != HL_SIZE_UNKNOWN && d->size >= s->limit.size_min);
    return (s->tus & HL_TUS_CREATION) &&
           (d->size != HL_SIZE_UNKNOWN || (s->tus & HL_TUS_DEFER_LENGTH));
}

/* What was found out is kept; what cannot be used for this object is left.
 * obj->speaks is there: this cannot fail. */
static void decide(struct hl_http_discovery *d, bool keep)
{
    struct hl_http_speaks *s = d->obj->speaks;
    bool said = s->said && s->protocol == d->speaks.protocol;

    *s = d->speaks;
    s->said = true;
    if (keep)
        hl_http_learned(d->obj);
    if (!fits(d))
        d->speaks.protocol = &hl_http_put;
    /* Opens are repeated. */
    if (!d->fixed && !said)
        say(d);
    finish(d, 0);
}

/* ---- The answer --------------------------------------------------------- */

static bool is_tus(const struct hl_http_call *call)
{
    char *const *got = call->got;

    return got[GOT_TUS_VERSION] && hl_tus_version(got[GOT_TUS_VERSION]);
}

static void read_tus(struct hl_http_discovery *d)
{
    char *const *got = d->call.got;
    struct hl_http_speaks *s = &d->speaks;

    s->protocol = &hl_http_tus;
    s->tus =
        hl_tus_extensions(got[GOT_TUS_EXTENSION] ? got[GOT_TUS_EXTENSION] : "");
    /* The specification wants sha1 of who has the extension. */
    if (s->tus & HL_TUS_CHECKSUM)
        s->tus_sums =
            hl_tus_sums(got[GOT_TUS_SUMS] ? got[GOT_TUS_SUMS] : "sha1");
    if (got[GOT_TUS_MAX])
        hl_http_number(got[GOT_TUS_MAX], &s->tus_max);
}

static bool is_ietf(const struct hl_http_call *call)
{
    char *const *got = call->got;

    return got[GOT_LIMIT] || got[GOT_INTEROP] ||
           (got[GOT_ACCEPT_PATCH] &&
            hl_upload_lists(got[GOT_ACCEPT_PATCH],
                            "application/partial-upload"));
}

static void read_ietf(struct hl_http_discovery *d)
{
    char *const *got = d->call.got;
    struct hl_http_speaks *s = &d->speaks;
    uint64_t interop;

    s->protocol = &hl_http_ietf;
    if (got[GOT_LIMIT])
        hl_upload_limit(got[GOT_LIMIT], &s->limit);
    if (got[GOT_INTEROP] && hl_upload_integer(got[GOT_INTEROP], &interop) &&
        interop >= HL_HTTP_INTEROP_OLDEST && interop <= HL_HTTP_INTEROP_NEWEST)
        s->interop = (uint32_t)interop;
    s->post = got[GOT_ALLOW] && hl_upload_lists(got[GOT_ALLOW], "POST") &&
              !hl_upload_lists(got[GOT_ALLOW], "PUT");
}

static int no_tus(struct hl_http_discovery *d)
{
    struct hl_error *err = &d->op.error;

    hl_err(err, HAUL_E_REMOTE, 0, "'%s' does not speak tus 1.0.0",
           d->obj->display);
    err->proto_status = d->call.status;
    hl_err_detail(err, "OPTIONS was answered %d without Tus-Version: 1.0.0",
                  d->call.status);
    return hl_err_hint(err, "Check the address: it is the one where uploads "
                            "are created ('/files/'). Or leave tus+ out.");
}

static void ask(struct hl_http_discovery *d);

/* Statuses that say nothing about what the server can; the rest means that it
 * does not know OPTIONS, or not this place. */
static bool is_passing(int status)
{
    return status == 401 || status == 407 || status == 408 || status == 425 ||
           status == 429 || status == 502 || status == 503 || status == 504;
}

/* A signed address may be good for one method only. */
static bool has_login(const struct hl_http_ep *ep)
{
    for (size_t i = 0; i < ep->header_count; i++)
        if (hl_http_is_field(ep->headers[i], "Authorization"))
            return true;
    return ep->user;
}

/* No answer, or none that keeps to the rules. Twice nothing but silence: it is
 * OPTIONS that the server does not like. */
static void on_failed(struct hl_http_discovery *d)
{
    int rc = d->call.op.rc;
    bool silence = rc == HAUL_E_STALLED || rc == HAUL_E_RESET;

    if (silence && !d->canceled && d->asked < ASKED_MAX) {
        ask(d);
    } else if ((silence || rc == HAUL_E_PROTO) && !d->canceled && !d->tus) {
        decide(d, false);
    } else {
        d->op.error = d->call.op.error;
        finish(d, rc);
    }
}

static void on_answer(struct hl_op *op)
{
    struct hl_http_discovery *d = op->user;
    int status = d->call.status;
    bool good = status >= 200 && status < 300;

    if (op->rc) {
        on_failed(d);
        return;
    }
    if (status == 401 && !d->tus && !has_login(d->obj->ep)) {
        decide(d, false);
        return;
    }
    if (is_passing(status)) {
        finish(d, hl_http_call_refused(d->client, &d->call, &d->op.error));
        return;
    }
    if (good && is_tus(&d->call))
        read_tus(d);
    else if (good && is_ietf(&d->call) && !d->tus)
        read_ietf(d);
    if (d->tus && d->speaks.protocol != &hl_http_tus)
        finish(d, no_tus(d));
    else
        decide(d, good || (status >= 400 && status < 500) || status == 501);
}

static void ask(struct hl_http_discovery *d)
{
    struct hl_http_call *call = &d->call;

    hl_http_call_fini(call);
    memset(call, 0, sizeof(*call));
    call->op.done = on_answer;
    call->op.user = d;
    call->method = "OPTIONS";
    call->url = d->obj->url;
    call->headers = headers;
    call->header_count = HL_LEN(headers);
    call->want = wanted;
    call->answer_max = ANSWER_MAX;
    call->timeout_ns = hl_min(ANSWER_NS, d->obj->ep->stall_ns);
    d->asked++;
    hl_http_call(d->client, call);
}

/* ---- The question ------------------------------------------------------- */

/* What an earlier run found out: true when nothing is to be asked. */
static bool believe(struct hl_http_discovery *d)
{
    const struct hl_http_protocol *way = NULL;
    char *fact = hl_http_fact(d->obj, "speaks");
    bool known = fact && speaks_parse(fact, &d->speaks);

    hl_free(fact);
    d->fixed = hl_http_way_of(d->token, &way);
    if (!d->fixed && d->tus)
        way = &hl_http_tus;
    if (!known || (way && d->speaks.protocol != way))
        speaks_init(&d->speaks);
    else
        d->speaks.believed = true;
    if (d->fixed)
        d->speaks.protocol = way;
    return d->fixed || d->speaks.believed;
}

void hl_http_discover(struct hl_http_discovery *d)
{
    struct hl_http_obj *obj = d->obj;
    int rc = 0;

    d->client = NULL;
    memset(&d->call, 0, sizeof(d->call));
    d->asked = 0;
    d->canceled = false;
    speaks_init(&d->speaks);
    if (!obj->speaks)
        obj->speaks = hl_malloc(sizeof(*obj->speaks));
    if (!obj->speaks) {
        finish(d, HAUL_E_NOMEM);
    } else if (believe(d)) {
        decide(d, false);
    } else {
        rc = hl_http_client_on(obj->ep, &d->client);
        if (rc)
            finish(d, rc);
        else
            ask(d);
    }
}

void hl_http_discover_cancel(struct hl_http_discovery *d)
{
    d->canceled = true;
    if (d->client)
        hl_http_call_cancel(d->client, &d->call);
}
