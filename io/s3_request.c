/*
 * Requests of the S3 driver: each try is signed on its loop's thread, with the
 * server's clock; the rest, what is asked and what answers say, is on the
 * engine thread.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "s3_private.h"

/* Servers allow 15 minutes. A corrected clock is not corrected again for what
 * an answer took to come. */
#define CLOCK_OFF_S 240
#define CLOCK_TRIES 3

/* ---- Signing, on any loop's thread -------------------------------------- */

/* An address of ours, taken apart: what is signed is not encoded. */
struct parts {
    char *host, *path;
    const char *query; /* or NULL; inside of the URL */
};

static char *decode_path(const char *from, size_t len)
{
    char *out = hl_malloc(len + 1);
    size_t n = 0;

    for (size_t i = 0; out && i < len; i++) {
        char hex[3] = {0};

        if (from[i] == '%' && i + 2 < len) {
            memcpy(hex, from + i + 1, 2);
            out[n++] = (char)strtoul(hex, NULL, 16);
            i += 2;
        } else {
            out[n++] = from[i];
        }
    }
    return out;
}

/* As libcurl says it in Host: without the port of the scheme. */
static char *host_header(const char *url, const char *host, size_t len)
{
    const char *usual = !strncmp(url, "https:", 6) ? ":443" : ":80";
    size_t n = strlen(usual);

    if (len > n && !memcmp(host + len - n, usual, n))
        len -= n;
    return hl_asprintf("%.*s", (int)len, host);
}

static int take_apart(const char *url, struct parts *out)
{
    const char *host = strstr(url, "://"), *path;
    size_t len;

    if (!host)
        return HAUL_E_PROTO;
    host += 3;
    len = strcspn(host, "/?#");
    path = host + len;
    out->host = host_header(url, host, len);
    len = strcspn(path, "?#");
    out->path = len ? decode_path(path, len) : hl_strdup("/");
    out->query = path[len] == '?' ? path + len + 1 : NULL;
    return out->host && out->path ? 0 : HAUL_E_NOMEM;
}

static bool is_signed(const char *line)
{
    return !strncasecmp(line, "x-amz-", 6) ||
           hl_http_is_field(line, "Content-MD5") ||
           hl_http_is_field(line, "Content-Type");
}

/* The lines that are signed as names and values, which live in *copies. Of
 * Host the user's wins, as it does in the request. */
static int collect(const struct curl_slist *lines, struct hl_s3_field *fields,
                   size_t *count, char **copies, struct parts *parts)
{
    for (; lines; lines = lines->next) {
        bool host = hl_http_is_field(lines->data, "Host");
        char *copy, *value;

        if (!host && !is_signed(lines->data))
            continue;
        copy = *count < HL_S3_HEADERS_MAX ? hl_strdup(lines->data) : NULL;
        if (!copy)
            return HAUL_E_NOMEM;
        value = copy + strcspn(copy, ":;");
        if (*value)
            *value++ = '\0';
        value += strspn(value, " \t");
        copies[*count] = copy;
        fields[*count] = (struct hl_s3_field){copy, value};
        (*count)++;
        if (!host)
            continue;
        hl_free(parts->host);
        parts->host = hl_strdup(value);
        hl_free(copies[--*count]);
        if (!parts->host)
            return HAUL_E_NOMEM;
    }
    return 0;
}

static int add_lines(const struct hl_s3_signed *s, struct curl_slist **headers)
{
    for (size_t i = 0; i < s->count; i++) {
        struct curl_slist *more = curl_slist_append(*headers, s->line[i]);

        if (!more)
            return HAUL_E_NOMEM;
        *headers = more;
    }
    return 0;
}

static bool has_body(const char *method)
{
    return strcmp(method, "GET") && strcmp(method, "HEAD") &&
           strcmp(method, "DELETE");
}

static int sign(const struct hl_http_request *req, const struct parts *parts,
                const struct hl_s3_field *fields, size_t count,
                struct curl_slist **headers, struct hl_error *err)
{
    const struct hl_s3_ep *s3 = hl_s3_of(req->ep);
    struct hl_s3_request what = {
        .method = req->method,
        .host = parts->host,
        .path = parts->path,
        .query = parts->query,
        .headers = fields,
        .header_count = count,
        .payload = has_body(req->method) ? HL_S3_UNSIGNED : HL_S3_EMPTY,
        .time_s = (int64_t)time(NULL) + atomic_load(&s3->clock_s),
    };
    struct hl_s3_signed lines = {0};
    int rc = hl_s3_sign(&s3->who, &what, &lines, err);

    if (!rc)
        rc = add_lines(&lines, headers);
    hl_s3_signed_fini(&lines);
    return rc;
}

int hl_s3_authorize(const struct hl_http_request *req,
                    struct curl_slist **headers, struct hl_error *err)
{
    struct hl_s3_field fields[HL_S3_HEADERS_MAX];
    char *copies[HL_S3_HEADERS_MAX];
    struct parts parts = {0};
    size_t count = 0;
    int rc = take_apart(req->url, &parts);

    if (!rc)
        rc = collect(*headers, fields, &count, copies, &parts);
    if (!rc)
        rc = sign(req, &parts, fields, count, headers, err);
    for (size_t i = 0; i < count; i++)
        hl_free_secret(copies[i]);
    hl_free(parts.host);
    hl_free(parts.path);
    return rc ? hl_err(err, rc, 0, "%s", haul_err_text(rc)) : 0;
}

/* ---- The clock ---------------------------------------------------------- */

static void warn_of_clock(const struct hl_http_ep *ep, int64_t offset_s)
{
    const struct hl_env *env = ep->base.env;
    struct hl_error w = {0};

    hl_err(&w, HAUL_E_AUTH, 0,
           "the clock of this machine is %" PRId64 " s %s that of '%s'",
           offset_s < 0 ? -offset_s : offset_s,
           offset_s < 0 ? "ahead of" : "behind", ep->origin);
    hl_err_hint(&w, "The server's is used for this copy. Set the clock of this "
                    "machine.");
    if (env->warn)
        env->warn(env, &w);
}

/* The server refused a time (sure: it said so): true when the reason is gone,
 * because the clock was corrected now or while the request was under way. */
static bool correct_clock(const struct hl_http_ep *ep, const char *date,
                          bool sure)
{
    struct hl_s3_ep *s3 = hl_s3_of(ep);
    int64_t offset = 0, known = atomic_load(&s3->clock_s);

    if (!date || !hl_s3_clock_offset(date, (int64_t)time(NULL), &offset))
        return false;
    if (offset - known > -CLOCK_OFF_S && offset - known < CLOCK_OFF_S)
        return sure && atomic_load(&s3->clock_known);
    if (atomic_exchange(&s3->clock_known, true))
        return false;
    atomic_store(&s3->clock_s, offset);
    warn_of_clock(ep, offset);
    return true;
}

bool hl_s3_may_ask_again(struct hl_s3_state *st, const struct hl_s3_answer *a)
{
    return a->again && st->clock_tries++ < CLOCK_TRIES;
}

/* ---- Answers ------------------------------------------------------------ */

bool hl_s3_said(const struct hl_s3_answer *a, const char *code)
{
    return a->doc.kind == HL_S3_ERROR && a->doc.error.code &&
           !strcmp(a->doc.error.code, code);
}

void hl_s3_answer_fini(struct hl_s3_answer *a)
{
    hl_s3_document_fini(&a->doc);
}

/* A 403 to HEAD has no body that could say so. */
static void check_clock(struct hl_s3_answer *a, bool documented)
{
    const char *server_time = documented && a->doc.error.server_time
                                  ? a->doc.error.server_time
                                  : a->date;

    if (documented && !hl_s3_said(a, "RequestTimeTooSkewed") &&
        !hl_s3_said(a, "RequestExpired"))
        return;
    if (documented || a->status == 403)
        a->again = correct_clock(a->ep, server_time, documented);
}

/* The region that a header tells, where the body does not, or there is none. */
static int wrong_region(const struct hl_s3_answer *a,
                        const struct hl_http_subject *subject,
                        struct hl_error *err)
{
    char code[] = "PermanentRedirect", *region;
    struct hl_s3_error e = {.code = code};
    int rc;

    region = hl_strdup(a->region);
    e.region = region;
    rc = hl_s3_error(&e, a->status, subject, err);
    hl_free(region);
    return rc;
}

static int refused(struct hl_s3_answer *a, bool documented,
                   struct hl_error *err)
{
    const struct hl_s3_ep *s3 = hl_s3_of(a->ep);
    struct hl_http_subject subject = {.name = a->display,
                                      .verb = a->verb,
                                      .proxy = a->ep->proxy != NULL,
                                      .credentials = true};
    bool elsewhere = a->region && strcmp(a->region, s3->config.region) &&
                     (a->status == 301 || a->status == 307 || a->status == 400);
    int rc;

    check_clock(a, documented);
    if (elsewhere && !(documented && a->doc.error.region))
        rc = wrong_region(a, &subject, err);
    else if (documented)
        rc = hl_s3_error(&a->doc.error, a->status, &subject, err);
    else if (a->body && a->body_len) /* of a proxy, or something else */
        rc = hl_http_status_error(a->status, &subject, a->body, err);
    else
        rc = hl_s3_error(NULL, a->status, &subject, err);
    err->retry_after_ns = a->retry_after_ns;
    return rc;
}

int hl_s3_read_answer(struct hl_s3_answer *a, int kind, struct hl_error *err)
{
    enum hl_s3_kind want =
        kind == HL_S3_NO_DOCUMENT ? HL_S3_ERROR : (enum hl_s3_kind)kind;
    bool success = a->status >= 200 && a->status < 300;
    struct hl_error why = {0};
    int rc;

    memset(&a->doc, 0, sizeof(a->doc));
    a->again = false;
    if (success && kind == HL_S3_NO_DOCUMENT)
        return 0;
    rc = hl_s3_xml_read(a->body ? a->body : "", a->body_len, want, &a->doc,
                        &why);
    if (rc == HAUL_E_NOMEM || (rc && success)) {
        *err = why;
        return rc;
    }
    if (!rc && a->doc.kind != HL_S3_ERROR && success)
        return 0;
    return refused(a, !rc && a->doc.kind == HL_S3_ERROR, err);
}

/* ---- Asks --------------------------------------------------------------- */

const char *const hl_s3_want[] = {
    [HL_S3_GOT_ETAG] = "ETag",
    [HL_S3_GOT_LENGTH] = "Content-Length",
    [HL_S3_GOT_MODIFIED] = "Last-Modified",
    [HL_S3_GOT_DATE] = "Date",
    [HL_S3_GOT_REGION] = "x-amz-bucket-region",
    [HL_S3_GOT_MTIME] = "x-amz-meta-mtime",
    [HL_S3_GOT_GOOG_MTIME] = "x-goog-meta-mtime",
    [HL_S3_GOT_SSE] = "x-amz-server-side-encryption",
    [HL_S3_GOT_SSE_C] = "x-amz-server-side-encryption-customer-algorithm",
    [HL_S3_GOT_COUNT] = NULL,
};

bool hl_s3_is_opaque(const char *sse, const char *sse_c)
{
    return sse_c || (sse && strcasecmp(sse, "AES256"));
}

/* As rclone and others keep it: seconds with a fraction. */
int64_t hl_s3_mtime_ns(const char *text)
{
    uint64_t s = 0, ns = 0, unit = HL_NS_PER_S / 10;
    size_t n = text ? strspn(text, "0123456789") : 0;

    if (!n || n > 10)
        return 0;
    for (size_t i = 0; i < n; i++)
        s = s * 10 + (uint64_t)(text[i] - '0');
    if (s > INT64_MAX / HL_NS_PER_S - 1)
        return 0;
    text += n;
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++, unit /= 10)
            ns += (uint64_t)(*text - '0') * unit;
    return *text ? 0 : (int64_t)(s * HL_NS_PER_S + ns);
}

char *hl_s3_url(const struct hl_http_obj *obj, const struct hl_s3_field *query,
                size_t count)
{
    char *text = hl_s3_query(query, count), *url;

    url =
        text ? hl_asprintf("%s%s%s", obj->url, text[0] ? "?" : "", text) : NULL;
    hl_free_secret(text);
    return url;
}

struct hl_http_ask *hl_s3_ask(struct hl_http_upload *u,
                              struct hl_http_part *part, const char *method,
                              const struct hl_s3_field *query, size_t count,
                              void (*done)(struct hl_http_ask *ask))
{
    struct hl_http_ask *ask = hl_http_ask_new(u, part, done);

    if (!ask)
        return NULL;
    ask->call.method = method;
    ask->call.url = hl_http_ask_keep(ask, hl_s3_url(u->obj, query, count));
    ask->call.want = hl_s3_want;
    /* What is lost on a dead connection is asked again by libcurl; twice is no
     * harm but where an upload is begun. */
    ask->call.kept = strcmp(method, "POST") != 0;
    return ask;
}

int hl_s3_answered(const struct hl_http_ask *ask, int kind,
                   struct hl_s3_answer *a, struct hl_error *err)
{
    const struct hl_http_call *call = &ask->call;
    bool get = !strcmp(call->method, "GET") || !strcmp(call->method, "HEAD");

    memset(a, 0, sizeof(*a));
    if (call->op.rc)
        return hl_http_ask_refused(ask, err);
    a->ep = ask->upload->ep;
    a->display = ask->upload->obj->display;
    a->verb = get ? "read" : "write";
    a->status = call->status;
    a->body = call->answer;
    a->body_len = call->answer_len;
    a->date = call->got[HL_S3_GOT_DATE];
    a->region = call->got[HL_S3_GOT_REGION];
    a->retry_after_ns = call->retry_after_ns;
    return hl_s3_read_answer(a, kind, err);
}
