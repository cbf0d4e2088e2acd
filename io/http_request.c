/*
 * One request on a loop: options of the handle, login, redirects, the end.
 * Loop's thread, but for init.
 *
 *   start ─► try ─► head ─┬─► deliver body ─► done
 *                         ├─► follow: next try, another URL
 *                         ├─► login: next try, with a password
 *                         └─► refuse: the body explains ─► done with an error
 *
 * libcurl 7.88.1 is used as HTTP-RESUME says is safe: HTTP/1.1 only, redirects
 * by our own policy, no sharing of connections between threads.
 */
#include <string.h>
#include <strings.h>
#include <time.h>

#include "http_private.h"

/* All header lines of one try; more is no answer. */
#define HEAD_BYTES_MAX (256u << 10)
/* Of the body of a refusal, for the detail of the error. */
#define REFUSAL_BYTES_MAX (64u << 10)
#define ASKS_MAX 3u

static void try_now(struct hl_http_easy *e);

static const char *name_of(const struct hl_http_request *req)
{
    return req->display ? req->display : req->ep->origin;
}

/* ---- The header --------------------------------------------------------- */

const char *hl_http_request_field(const struct hl_http_request *req,
                                  const char *name)
{
    struct curl_header *h;

    if (!req->easy || curl_easy_header(req->easy->curl, name, 0, CURLH_HEADER,
                                       -1, &h) != CURLHE_OK)
        return NULL;
    return h->value;
}

const char *hl_http_request_interim(const struct hl_http_request *req,
                                    const char *name)
{
    struct curl_header *h;

    if (!req->easy || curl_easy_header(req->easy->curl, name, 0, CURLH_1XX, -1,
                                       &h) != CURLHE_OK)
        return NULL;
    return h->value;
}

static void copy_field(const struct hl_http_request *req, const char *name,
                       char *out, size_t cap)
{
    const char *value = hl_http_request_field(req, name);
    size_t n = value ? hl_min(strlen(value), cap - 1) : 0;

    if (n)
        memcpy(out, value, n);
    out[n] = '\0';
}

static void read_offers(struct hl_http_request *req)
{
    static const char *const names[] = {"Repr-Digest", "Digest", "x-goog-hash",
                                        "x-ms-blob-content-md5", "Content-MD5"};
    bool whole = req->head.status == 200;
    const char *stored =
        hl_http_request_field(req, "x-goog-stored-content-encoding");
    /* Of what is stored compressed Google decompresses the bytes on the way;
     * the digest is of those that are stored. */
    bool other = stored && strcasecmp(stored, "identity");
    struct curl_header *h;

    for (size_t i = 0; i < HL_LEN(names); i++)
        for (size_t n = 0;
             n < 16 && !(other && !strcmp(names[i], "x-goog-hash")) &&
             curl_easy_header(req->easy->curl, names[i], n, CURLH_HEADER, -1,
                              &h) == CURLHE_OK;
             n++)
            hl_http_offer(&req->head.offered, names[i], h->value, whole);
}

static void read_head(struct hl_http_request *req, int status)
{
    struct hl_http_head *head = &req->head;
    const char *v;

    memset(head, 0, sizeof(*head));
    head->status = status;
    head->length = HL_SIZE_UNKNOWN;
    v = hl_http_request_field(req, "Content-Length");
    head->delimited = v && hl_http_number(v, &head->length);
    v = hl_http_request_field(req, "Transfer-Encoding");
    if (v && strcasestr(v, "chunked")) {
        head->delimited = true;
        head->length = HL_SIZE_UNKNOWN; /* RFC 9112 6.3 */
    }
    v = hl_http_request_field(req, "Content-Range");
    head->has_range = v && hl_http_content_range(v, &head->range);
    v = hl_http_request_field(req, "ETag");
    if (!v ||
        !hl_http_etag(v, head->etag, sizeof(head->etag), &head->etag_weak))
        head->etag[0] = '\0';
    v = hl_http_request_field(req, "Last-Modified");
    if (!v || !hl_http_date(v, &head->modified_s))
        head->modified_s = 0;
    v = hl_http_request_field(req, "Date");
    if (!v || !hl_http_date(v, &head->date_s))
        head->date_s = 0;
    copy_field(req, "Content-Encoding", head->encoding, sizeof(head->encoding));
    if (!strcasecmp(head->encoding, "identity"))
        head->encoding[0] = '\0';
    copy_field(req, "Content-Type", head->type, sizeof(head->type));
    read_offers(req);
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 ||
           status == 308;
}

/* RFC 9110 15.4: a method that changes something is repeated only where the
 * server says that it stays the same; PUT of a whole object stays itself. */
static bool may_follow(const struct hl_http_request *req, int status)
{
    if (!strcmp(req->method, "GET") || !strcmp(req->method, "HEAD"))
        return true;
    if (status == 303)
        return false;
    return status == 307 || status == 308 || !strcmp(req->method, "PUT");
}

static bool may_ask(const struct hl_http_request *req)
{
    struct hl_http_ep *ep = req->ep;
    bool may;

    pthread_mutex_lock(&ep->lock);
    may = !req->foreign && ep->user && ep->base.env->secret &&
          (!ep->password || ep->asked) && ep->asked < ASKS_MAX;
    pthread_mutex_unlock(&ep->lock);
    return may;
}

int hl_http_request_refused(struct hl_http_request *req)
{
    struct hl_http_subject subject;
    const char *v = hl_http_request_field(req, "Retry-After");
    int rc;

    hl_http_request_subject(req, &subject);
    rc = hl_http_status_error(req->head.status, &subject, req->answer.body,
                              &req->error);
    if (v)
        req->error.retry_after_ns =
            hl_http_retry_after_ns(v, (int64_t)time(NULL));
    return rc;
}

static int deliver_head(struct hl_http_easy *e)
{
    struct hl_http_request *req = e->req;
    int rc = req->handler->head ? req->handler->head(req) : 0;

    e->fate = HL_FATE_DELIVER;
    if (!rc)
        return 0;
    e->rc = rc;
    e->fate = HL_FATE_REFUSE;
    return req->head.status >= 400 ? 0 : rc;
}

/* The least time between a question and the first byte of its answer is taken
 * for the round trip: behind a proxy or a simulated link the kernel's is not
 * that of the way. */
static void note_round_trip(struct hl_http_easy *e)
{
    struct hl_http_ep *ep = e->req->ep;
    curl_off_t sent = 0, first = 0;
    uint64_t rtt;

    curl_easy_getinfo(e->curl, CURLINFO_PRETRANSFER_TIME_T, &sent);
    curl_easy_getinfo(e->curl, CURLINFO_STARTTRANSFER_TIME_T, &first);
    if (e->req->handler->send || first <= sent)
        return;
    rtt = (uint64_t)(first - sent) * 1000;
    pthread_mutex_lock(&ep->lock);
    if (!ep->flow.rtt_ns || rtt < ep->flow.rtt_ns)
        ep->flow.rtt_ns = rtt;
    pthread_mutex_unlock(&ep->lock);
}

/* The header of an answer is complete. Nonzero: the request ends. */
static int decide(struct hl_http_easy *e)
{
    struct hl_http_request *req = e->req;
    const char *location;
    long status = 0;

    curl_easy_getinfo(e->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || e->fate != HL_FATE_NONE) /* interim, or a trailer */
        return 0;
    note_round_trip(e);
    read_head(req, (int)status);
    req->answer.status = (int)status;
    location = hl_http_request_field(req, "Location");
    if (is_redirect((int)status) && location && may_follow(req, (int)status)) {
        e->fate = HL_FATE_FOLLOW;
        e->location = hl_strdup(location);
        return e->location ? 0 : HAUL_E_NOMEM;
    }
    if (status == 401 && may_ask(req)) {
        e->fate = HL_FATE_LOGIN;
        return 0;
    }
    /* RFC 9110 10.1.1: repeated without the expectation. Ended at once, since
     * libcurl would begin to do that itself. */
    if (status == 417 && req->expect) {
        req->expect = false;
        e->fate = HL_FATE_UNEXPECT;
        e->cut = true;
        return HAUL_E_RESET;
    }
    return deliver_head(e);
}

static size_t on_header(char *line, size_t size, size_t count, void *user)
{
    struct hl_http_easy *e = user;
    size_t len = size * count;
    int rc = 0;

    e->moved_ns = e->loop->now_ns;
    e->head_bytes += len;
    if (e->head_bytes > HEAD_BYTES_MAX)
        rc = hl_err(&e->req->error, HAUL_E_PROTO, 0,
                    "'%s': the header of the server's answer has no end",
                    name_of(e->req));
    else if (len <= 2 && (line[0] == '\r' || line[0] == '\n'))
        rc = decide(e);
    if (!rc)
        return len;
    e->rc = rc;
    return 0;
}

/* ---- Bodies ------------------------------------------------------------- */

/* Of what is not delivered: the first bytes are kept. */
static bool keep_answer(struct hl_http_easy *e, const char *data, size_t len,
                        size_t max)
{
    struct hl_answer *a = &e->req->answer;
    size_t n = hl_min(len, max - a->body_len);
    char *body;

    if (!n)
        return true;
    /* Grows by a half at least, so that many small pieces stay cheap. */
    if (a->body_len + n >= e->answer_room) {
        size_t room = hl_max(a->body_len + n, a->body_len * 3 / 2) + 1;

        body = hl_realloc(a->body, room);
        if (!body)
            return false;
        a->body = body;
        e->answer_room = room;
    }
    memcpy(a->body + a->body_len, data, n);
    a->body_len += n;
    a->body[a->body_len] = '\0';
    return true;
}

static size_t swallow(struct hl_http_easy *e, const char *data, size_t len)
{
    bool refuse = e->fate == HL_FATE_REFUSE;
    bool deliver = e->fate == HL_FATE_DELIVER;
    size_t max = refuse ? REFUSAL_BYTES_MAX : HL_ANSWER_MAX;

    e->swallowed += len;
    if ((refuse || deliver) && !keep_answer(e, data, len, max)) {
        e->rc = HAUL_E_NOMEM;
        return 0;
    }
    /* What leads elsewhere may be long; the connection is not worth it. */
    if (!deliver && e->swallowed > REFUSAL_BYTES_MAX) {
        e->cut = true;
        return 0;
    }
    return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct hl_http_easy *e = user;
    struct hl_http_request *req = e->req;
    size_t len = size * count, n;

    e->moved_ns = e->loop->now_ns;
    if (e->rc && e->fate != HL_FATE_REFUSE)
        return 0;
    if (e->fate != HL_FATE_DELIVER || !req->handler->body)
        return swallow(e, data, len);
    n = req->handler->body(req, (const uint8_t *)data, len);
    if (n == HL_HTTP_PAUSE) {
        e->paused_in = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (n == HL_HTTP_ABORT) {
        e->rc = req->error.code ? req->error.code : HAUL_E_BUG;
        return 0;
    }
    req->received += len;
    return len;
}

static size_t on_send(char *buf, size_t size, size_t count, void *user)
{
    struct hl_http_easy *e = user;
    struct hl_http_request *req = e->req;
    size_t n = req->handler->send(req, (uint8_t *)buf, size * count);

    e->moved_ns = e->loop->now_ns;
    if (n == HL_HTTP_PAUSE) {
        e->paused_out = true;
        return CURL_READFUNC_PAUSE;
    }
    if (n == HL_HTTP_ABORT) {
        e->rc = req->error.code ? req->error.code : HAUL_E_BUG;
        return CURL_READFUNC_ABORT;
    }
    req->sent += n;
    return n;
}

static bool rewind_body(struct hl_http_request *req)
{
    if (!req->handler->send || !req->sent)
        return true;
    if (!req->handler->rewind || !req->handler->rewind(req))
        return false;
    req->sent = 0;
    return true;
}

static int on_seek(void *user, curl_off_t offset, int origin)
{
    struct hl_http_easy *e = user;

    if (offset != 0 || origin != SEEK_SET || !rewind_body(e->req))
        return CURL_SEEKFUNC_FAIL;
    return CURL_SEEKFUNC_OK;
}

static int set_options(struct hl_http_easy *e)
{
    CURL *c = e->curl;

    curl_easy_reset(c);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, e);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, e);
    if (e->req->handler->send) {
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_send);
        curl_easy_setopt(c, CURLOPT_READDATA, e);
        curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(c, CURLOPT_SEEKDATA, e);
    }
    return hl_http_easy_set_options(e);
}

/* ---- The end ------------------------------------------------------------ */

void hl_http_request_subject(const struct hl_http_request *req,
                             struct hl_http_subject *out)
{
    bool get = !strcmp(req->method, "GET") || !strcmp(req->method, "HEAD");

    out->name = name_of(req);
    out->verb = get ? "read" : "write";
    out->proxy = req->ep->proxy;
    out->credentials = req->easy && req->easy->sent_secret;
    out->cacert = req->ep->cacert;
    out->unix_socket = req->foreign ? NULL : req->ep->unix_socket;
}

static void take_down(struct hl_http_easy *e)
{
    if (!e->running)
        return;
    e->running = false;
    hl_list_remove(&e->node);
    e->loop->running_count--;
    curl_multi_remove_handle(e->loop->multi, e->curl);
    e->loop->looked_ns = 0; /* the counters go out soon */
}

static void deliver(struct hl_http_easy *e, int rc)
{
    struct hl_http_request *req = e->req;

    hl_free_secret(e->location);
    e->location = NULL;
    if (rc)
        hl_err(&req->error, rc, 0, "%s", haul_err_text(rc));
    req->handler->done(req, rc);
}

/* The next try goes where the answer says. */
static void follow(struct hl_http_easy *e)
{
    struct hl_http_request *req = e->req;
    struct hl_http_hop hop = {0};
    int rc;

    if (e->hops++ >= HL_HTTP_HOPS_MAX) {
        deliver(e, hl_err(&req->error, HAUL_E_REMOTE, 0,
                          "'%s' leads from one redirect to the next "
                          "without end",
                          name_of(req)));
        return;
    }
    rc = hl_http_redirect(req->url, e->location, &hop, &req->error);
    if (rc) {
        deliver(e, rc);
        return;
    }
    hl_free_secret(req->url);
    req->url = hop.url;
    req->foreign = req->foreign || !hop.same_origin;
    HL_TRACE(req->ep->base.env->log, HL_AREA_NET, "redirect %d to %s origin",
             req->answer.status, hop.same_origin ? "the same" : "another");
    if (!rewind_body(req)) {
        req->moved = true;
        rc = hl_err(&req->error, HAUL_E_RESET, 0,
                    "'%s' is somewhere else: the server redirected when the "
                    "upload had begun",
                    name_of(req));
        deliver(e, rc);
        return;
    }
    try_now(e);
}

/* For so long a person thought; no server was slow. */
static void stop_clocks(struct hl_http_easy *asking, uint64_t ns)
{
    struct hl_list *running = &asking->loop->running;

    asking->start_ns += ns;
    for (struct hl_node *n = hl_list_first(running); n;
         n = hl_list_next(running, n)) {
        struct hl_http_easy *e = HL_CONTAINER(n, struct hl_http_easy, node);

        e->start_ns += ns;
        e->moved_ns += ns;
    }
}

/* Asks for the password, on this loop's thread: its other requests wait. */
static void ask(struct hl_http_easy *e)
{
    struct hl_http_request *req = e->req;
    struct hl_http_ep *ep = req->ep;
    const struct hl_env *env = ep->base.env;
    char secret[512] = "", *copy = NULL, *what;
    uint64_t asked_ns = hl_loop_now(env->loop);
    int rc;

    what = hl_asprintf("password for %s at %s", ep->user, ep->origin);
    rc =
        what ? env->secret(env, what, 0, secret, sizeof(secret)) : HAUL_E_NOMEM;
    hl_free(what);
    stop_clocks(e, hl_loop_now(env->loop) - asked_ns);
    if (!rc) {
        copy = hl_strdup(secret);
        rc = copy ? 0 : HAUL_E_NOMEM;
    }
    explicit_bzero(secret, sizeof(secret));
    pthread_mutex_lock(&ep->lock);
    ep->asked = rc ? ASKS_MAX : ep->asked + 1;
    if (copy) {
        hl_free_secret(ep->password);
        ep->password = copy;
    }
    pthread_mutex_unlock(&ep->lock);
    if (rc || !rewind_body(req)) {
        hl_http_request_refused(req);
        deliver(e, req->error.code);
        return;
    }
    try_now(e);
}

/* A kept connection that the server had closed: libcurl notices most of them,
 * not all (7.88, #10646). */
static bool was_stale(struct hl_http_easy *e, CURLcode code)
{
    long connects = 1;

    if (e->fresh || e->fate != HL_FATE_NONE || e->head_bytes ||
        (code != CURLE_RECV_ERROR && code != CURLE_SEND_ERROR &&
         code != CURLE_GOT_NOTHING && code != CURLE_SEND_FAIL_REWIND))
        return false;
    curl_easy_getinfo(e->curl, CURLINFO_NUM_CONNECTS, &connects);
    return connects == 0 && rewind_body(e->req);
}

static int map_error(struct hl_http_easy *e, CURLcode code)
{
    struct hl_http_subject subject;
    long status = 0, verify = 0;

    /* "Unsupported proxy syntax in 'http://user:password@...'" */
    if (strstr(e->text, "Unsupported proxy"))
        e->text[0] = '\0';
    curl_easy_getinfo(e->curl, CURLINFO_HTTP_CONNECTCODE, &status);
    curl_easy_getinfo(e->curl, CURLINFO_SSL_VERIFYRESULT, &verify);
    hl_http_request_subject(e->req, &subject);
    return hl_http_curl_error(code, e->text, status, verify, &subject,
                              &e->req->error);
}

static void add_detail(struct hl_http_request *req)
{
    struct hl_http_subject subject;
    struct hl_error err = {0};

    if (!req->answer.body || req->error.detail[0])
        return;
    hl_http_request_subject(req, &subject);
    hl_http_status_error(req->head.status, &subject, req->answer.body, &err);
    if (err.detail[0])
        hl_err_detail(&req->error, "%s", err.detail);
}

void hl_http_easy_ended(struct hl_http_easy *e, CURLcode code)
{
    take_down(e);
    if (e->fate == HL_FATE_FOLLOW && (!code || e->cut)) {
        follow(e);
    } else if (e->fate == HL_FATE_LOGIN && (!code || e->cut)) {
        ask(e);
    } else if (e->fate == HL_FATE_UNEXPECT && rewind_body(e->req)) {
        try_now(e);
    } else if (e->rc) {
        if (e->fate == HL_FATE_REFUSE)
            add_detail(e->req);
        deliver(e, e->rc);
    } else if (!code) {
        deliver(e, 0);
    } else if (was_stale(e, code)) {
        e->fresh = true;
        try_now(e);
    } else {
        deliver(e, map_error(e, code));
    }
}

void hl_http_easy_check_time(struct hl_http_easy *e, uint64_t now)
{
    struct hl_http_request *req = e->req;
    int rc = e->fate == HL_FATE_REFUSE ? 0 : e->rc;

    if (!rc && req->quiet_ns && now - e->moved_ns > req->quiet_ns)
        rc = hl_err(&req->error, HAUL_E_STALLED, 0,
                    "'%s': nothing came for %llu s", name_of(req),
                    (unsigned long long)(req->quiet_ns / HL_NS_PER_S));
    if (!rc && req->timeout_ns && now - e->start_ns > req->timeout_ns)
        rc = hl_err(&req->error, HAUL_E_STALLED, 0,
                    "'%s': no whole answer within %llu s", name_of(req),
                    (unsigned long long)(req->timeout_ns / HL_NS_PER_S));
    if (!rc)
        return;
    take_down(e);
    deliver(e, e->rc ? e->rc : rc);
}

/* ---- Life --------------------------------------------------------------- */

/* Connections that carry bodies; between its requests one is kept. */
static void count(struct hl_http_easy *e, bool up)
{
    struct hl_http_ep *ep = e->req->ep;
    bool bulk = e->req->handler->body || e->req->handler->send;

    if (e->counted == up || (up && !bulk))
        return;
    e->counted = up;
    pthread_mutex_lock(&ep->lock);
    ep->flow.connections += up ? 1 : -1u;
    ep->flow.streams = ep->flow.connections;
    pthread_mutex_unlock(&ep->lock);
}

/* A failure here waits for the next look at the clock, since done() never
 * comes from inside start. */
static void try_now(struct hl_http_easy *e)
{
    struct hl_http_request *req = e->req;

    e->fate = HL_FATE_NONE;
    e->rc = 0;
    e->head_bytes = e->swallowed = 0;
    e->cut = e->paused_in = e->paused_out = false;
    e->acked = 0;
    e->text[0] = '\0';
    hl_free_secret(e->location);
    e->location = NULL;
    hl_free(req->answer.body);
    memset(&req->answer, 0, sizeof(req->answer));
    e->answer_room = 0;
    e->moved_ns = hl_loop_now(req->ep->base.env->loop);
    e->rc = set_options(e);
    if (!e->rc && curl_multi_add_handle(e->loop->multi, e->curl) != CURLM_OK)
        e->rc = HAUL_E_NOMEM;
    if (e->rc)
        e->loop->looked_ns = 0;
    e->running = true;
    hl_list_append(&e->loop->running, &e->node);
    e->loop->running_count++;
}

int hl_http_request_init(struct hl_http_request *req, struct hl_http_ep *ep,
                         struct hl_http_loop *loop)
{
    struct hl_http_easy *e = hl_malloc(sizeof(*e));

    memset(req, 0, sizeof(*req));
    if (!e)
        return HAUL_E_NOMEM;
    e->curl = curl_easy_init();
    if (!e->curl) {
        hl_free(e);
        return HAUL_E_NOMEM;
    }
    e->req = req;
    e->loop = loop;
    req->ep = ep;
    req->loop = loop;
    req->easy = e;
    return 0;
}

void hl_http_request_fini(struct hl_http_request *req)
{
    struct hl_http_easy *e = req->easy;

    if (e) {
        HL_ASSERT(!e->running);
        if (e->counted)
            count(e, false);
        curl_easy_cleanup(e->curl);
        curl_slist_free_all(e->headers);
        hl_free_secret(e->location);
        hl_free(e);
    }
    curl_slist_free_all(req->headers);
    hl_free_secret(req->url);
    hl_free(req->answer.body);
    memset(req, 0, sizeof(*req));
}

void hl_http_request_start(struct hl_http_request *req)
{
    struct hl_http_easy *e = req->easy;

    HL_ASSERT(!e->running);
    hl_err_clear(&req->error);
    req->moved = false;
    req->sent = req->received = 0;
    e->told = 0;
    e->hops = 0;
    e->fresh = false;
    e->start_ns = hl_loop_now(req->ep->base.env->loop);
    count(e, true);
    try_now(e);
}

bool hl_http_request_running(const struct hl_http_request *req)
{
    return req->easy && req->easy->running;
}

void hl_http_request_resume(struct hl_http_request *req)
{
    struct hl_http_easy *e = req->easy;

    if (!e->running || (!e->paused_in && !e->paused_out))
        return;
    e->paused_in = e->paused_out = false;
    e->moved_ns = e->loop->now_ns;
    /* An error of a callback in here may go no further than this. */
    if (curl_easy_pause(e->curl, CURLPAUSE_CONT) != CURLE_OK) {
        if (!e->rc)
            e->rc = HAUL_E_RESET;
        e->loop->looked_ns = 0;
    }
}

void hl_http_request_cancel(struct hl_http_request *req)
{
    if (req->easy)
        take_down(req->easy);
}
