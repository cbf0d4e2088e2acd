/*
 * Control requests (http_client.h) on an endpoint of their own with one loop.
 *
 * A call is made ready on the engine thread, runs on the loop's thread, which
 * writes the results into it, and comes home as a task of the engine's loop.
 * A cancel is a job behind the call's own; a call comes home only when its
 * cancel has been run, so that neither finds the other gone.
 */
#include "http_client.h"

#include <string.h>
#include <strings.h>
#include <time.h>

#include "http.h"
#include "random.h"

#define TIMEOUT_NS (60 * HL_NS_PER_S)
#define ANSWER_MAX ((size_t)1 << 20)
#define ANSWER_ROOM 4096u /* at first */

struct hl_http_client {
    const struct hl_env *env;
    struct hl_http_ep *ep;
    bool borrowed;             /* ep is a driver's */
    struct hl_http_loop *loop; /* from the first call on */
    char *path, *query;        /* of the base; query may be NULL */
    uint32_t out;              /* calls */
};

/* A call that is out; its op.driver_data. */
struct pending {
    struct hl_http_client *client;
    struct hl_http_call *call;
    struct hl_http_job start_job, cancel_job;
    struct hl_task home_task, canceled_task;
    /* Engine thread. */
    bool home, canceling, canceled;
    /* Before the start, then the loop's thread. */
    struct hl_http_request req;
    char *body; /* or NULL: the call's text */
    const char *data;
    size_t len, sent;
    size_t answer_max, room;
    int rc;
};

/* ---- Text --------------------------------------------------------------- */

/* Grows as needed; without memory it stays as it is and says so. */
struct text {
    char *data; /* ends in a NUL; NULL when nothing was added */
    size_t len, room;
    bool failed;
};

static void add(struct text *t, const char *data, size_t len)
{
    if (t->failed)
        return;
    if (t->len + len >= t->room) {
        size_t room = hl_max(t->len + len + 1, 2 * t->room);
        char *more = hl_realloc(t->data, room);

        if (!more) {
            t->failed = true;
            return;
        }
        t->data = more;
        t->room = room;
    }
    memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
}

static void add_text(struct text *t, const char *s)
{
    add(t, s, strlen(s));
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || (c && strchr("-._~", c));
}

/* RFC 3986 2.1 to 2.3; in a form a space is '+' (WHATWG URL 5.1). */
static void add_encoded(struct text *t, const char *s, bool form)
{
    static const char hex[] = "0123456789ABCDEF";

    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        char code[3] = {'%', hex[c >> 4], hex[c & 15]};

        if (is_unreserved(*s))
            add(t, s, 1);
        else if (form && c == ' ')
            add(t, "+", 1);
        else
            add(t, code, sizeof(code));
    }
}

static const char *value_of(const struct hl_http_field *field)
{
    return field->value ? field->value : "";
}

static void add_fields(struct text *t, const struct hl_http_field *fields,
                       size_t count, bool form)
{
    for (size_t i = 0; i < count; i++) {
        if (i)
            add(t, "&", 1);
        add_encoded(t, fields[i].name, form);
        add(t, "=", 1);
        add_encoded(t, value_of(&fields[i]), form);
    }
}

/* ---- multipart/form-data (RFC 7578) ------------------------------------- */

/* Names in quotes, as browsers write them (WHATWG HTML 4.10.21.8). */
static void add_quoted(struct text *t, const char *s)
{
    add(t, "\"", 1);
    for (; *s; s++) {
        if (*s == '"')
            add_text(t, "%22");
        else if (*s == '\r')
            add_text(t, "%0D");
        else if (*s == '\n')
            add_text(t, "%0A");
        else
            add(t, s, 1);
    }
    add(t, "\"", 1);
}

static void add_part(struct text *t, const struct hl_http_field *field,
                     const char *boundary)
{
    add_text(t, "--");
    add_text(t, boundary);
    add_text(t, "\r\nContent-Disposition: form-data; name=");
    add_quoted(t, field->name);
    if (field->filename) {
        add_text(t, "; filename=");
        add_quoted(t, field->filename);
    }
    if (field->type) {
        add_text(t, "\r\nContent-Type: ");
        add_text(t, field->type);
    }
    add_text(t, "\r\n\r\n");
    add_text(t, value_of(field));
    add_text(t, "\r\n");
}

static bool occurs(const struct hl_http_call *call, const char *boundary)
{
    for (size_t i = 0; i < call->field_count; i++)
        if (strstr(value_of(&call->fields[i]), boundary))
            return true;
    return false;
}

/* RFC 2046 5.1.1: at most 70 bytes, in none of the parts. */
static char *make_boundary(const struct pending *s)
{
    struct hl_random random = {hl_loop_now(s->client->env->loop) ^
                               (uint64_t)(uintptr_t)s};
    char *boundary;

    do {
        unsigned long long a = hl_random_next(&random);
        unsigned long long b = hl_random_next(&random);

        boundary = hl_asprintf("haul-%016llx%016llx", a, b);
        if (!boundary || !occurs(s->call, boundary))
            return boundary;
        hl_free(boundary);
    } while (true);
}

/* ---- Making a request, on the engine thread ----------------------------- */

/* Nothing that ends a line: of headers and of parts. */
static bool is_line(const char *s)
{
    for (; *s; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
            return false;
    return true;
}

/* RFC 9110 5.6.2. */
static bool is_token(const char *s)
{
    size_t n = 0;

    for (; s[n]; n++)
        if (s[n] <= 0x20 || s[n] == 0x7f || strchr("()<>@,;:\\\"/[]?={}", s[n]))
            return false;
    return n > 0;
}

/* What is encoded has neither blanks nor control characters. */
static bool is_path(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s <= 0x20 || *s == 0x7f || *s == '#')
            return false;
    return true;
}

static int check(const struct hl_http_call *call, struct hl_error *err)
{
    if (call->url && !is_path(call->url))
        return hl_err(err, HAUL_E_PROTO, 0, "what a server gave is no address");
    if (call->path && !is_path(call->path))
        return hl_err(err, HAUL_E_INVAL, 0, "the path '%s' is not encoded",
                      call->path);
    for (size_t i = 0; i < call->header_count; i++)
        if (!is_token(call->headers[i].name) ||
            !is_line(value_of(&call->headers[i])))
            return hl_err(err, HAUL_E_INVAL, 0, "'%s' is no header",
                          call->headers[i].name);
    for (size_t i = 0; i < call->field_count; i++)
        if (call->fields[i].type && !is_line(call->fields[i].type))
            return hl_err(err, HAUL_E_INVAL, 0, "'%s' has no proper type",
                          call->fields[i].name);
    if (call->content_type && !is_line(call->content_type))
        return hl_err(err, HAUL_E_INVAL, 0, "no proper type of content");
    return 0;
}

static char *make_url(const struct hl_http_client *c,
                      const struct hl_http_call *call)
{
    size_t len = strlen(c->path);
    struct text t = {0};

    add_text(&t, call->url ? call->url : c->ep->origin);
    if (call->url) {
        len = 0;
    } else if (call->path) {
        while (len && c->path[len - 1] == '/')
            len--;
        add(&t, c->path, len);
        if (call->path[0] != '/')
            add(&t, "/", 1);
        add_text(&t, call->path);
    } else {
        add_text(&t, len ? c->path : "/");
    }
    if (c->query && !call->url) {
        add(&t, !t.failed && strchr(t.data, '?') ? "&" : "?", 1);
        add_text(&t, c->query);
    }
    if (call->query_count) {
        add(&t, !t.failed && strchr(t.data, '?') ? "&" : "?", 1);
        add_fields(&t, call->query, call->query_count, false);
    }
    if (t.failed)
        hl_free_secret(t.data);
    return t.failed ? NULL : t.data;
}

static int add_header(struct pending *s, const char *name, const char *value)
{
    /* libcurl(3): "Name;" is a header without a value. */
    char *line = value[0] ? hl_asprintf("%s: %s", name, value)
                          : hl_asprintf("%s;", name);
    int rc = line ? hl_http_request_add(&s->req, line) : HAUL_E_NOMEM;

    hl_free_secret(line);
    return rc;
}

static bool caller_sets(const struct hl_http_call *call, const char *name)
{
    for (size_t i = 0; i < call->header_count; i++)
        if (!strcasecmp(call->headers[i].name, name))
            return true;
    return false;
}

static int make_form(struct pending *s, const char **type)
{
    struct text t = {0};

    add_fields(&t, s->call->fields, s->call->field_count, true);
    s->body = t.data;
    s->data = t.data;
    s->len = t.len;
    *type = "application/x-www-form-urlencoded";
    return t.failed ? HAUL_E_NOMEM : 0;
}

static int make_multipart(struct pending *s, char **type)
{
    char *boundary = make_boundary(s);
    struct text t = {.failed = !boundary};

    for (size_t i = 0; i < s->call->field_count && boundary; i++)
        add_part(&t, &s->call->fields[i], boundary);
    if (boundary) {
        add_text(&t, "--");
        add_text(&t, boundary);
        add_text(&t, "--\r\n");
        *type = hl_asprintf("multipart/form-data; boundary=%s", boundary);
    }
    hl_free(boundary);
    s->body = t.data;
    s->data = t.data;
    s->len = t.len;
    return t.failed || !*type ? HAUL_E_NOMEM : 0;
}

/* Sets the body and its type. */
static int make_body(struct pending *s)
{
    const struct hl_http_call *call = s->call;
    const char *type = NULL;
    char *made = NULL;
    int rc = 0;

    switch (call->body) {
    case HL_HTTP_BODY_NONE:
        return 0;
    case HL_HTTP_BODY_FORM:
        rc = make_form(s, &type);
        break;
    case HL_HTTP_BODY_MULTIPART:
        rc = make_multipart(s, &made);
        type = made;
        break;
    case HL_HTTP_BODY_TEXT:
        s->data = call->text;
        s->len = call->text_len;
        type = call->content_type;
        break;
    }
    if (!rc && type && !caller_sets(call, "Content-Type"))
        rc = add_header(s, "Content-Type", type);
    hl_free(made);
    return rc;
}

/* ---- The request, on the loop's thread ---------------------------------- */

/* A body may hold what logs in; it is for the server that was named. */
static size_t call_send(struct hl_http_request *req, uint8_t *buf, size_t cap)
{
    struct pending *s = req->user;
    size_t n = hl_min(cap, s->len - s->sent);

    if (req->foreign && !s->call->foreign) {
        hl_err(&req->error, HAUL_E_PROTO, 0,
               "'%s' wants the request to be sent to another server",
               req->ep->origin);
        return HL_HTTP_ABORT;
    }
    if (n)
        memcpy(buf, s->data + s->sent, n);
    s->sent += n;
    return n;
}

static bool call_rewind(struct hl_http_request *req)
{
    struct pending *s = req->user;

    s->sent = 0;
    return true;
}

static int too_long(struct hl_http_request *req)
{
    const struct pending *s = req->user;

    return hl_err(&req->error, HAUL_E_PROTO, 0,
                  "the answer of '%s' is longer than %zu bytes",
                  req->ep->origin, s->answer_max);
}

static int call_head(struct hl_http_request *req)
{
    const struct pending *s = req->user;

    if (req->head.encoding[0])
        return hl_err(&req->error, HAUL_E_PROTO, 0,
                      "'%s' sends '%s', which nobody asked for",
                      req->ep->origin, req->head.encoding);
    if (strcmp(req->method, "HEAD") && req->head.length != HL_SIZE_UNKNOWN &&
        req->head.length > s->answer_max)
        return too_long(req);
    return 0;
}

static int grow(struct pending *s, size_t len)
{
    size_t room = hl_max(len + 1, hl_max(ANSWER_ROOM, 2 * s->room));
    char *more;

    if (len < s->room)
        return 0;
    more = hl_realloc(s->call->answer, hl_min(room, s->answer_max + 1));
    if (!more)
        return HAUL_E_NOMEM;
    s->room = hl_min(room, s->answer_max + 1);
    s->call->answer = more;
    return 0;
}

static size_t call_body(struct hl_http_request *req, const uint8_t *data,
                        size_t len)
{
    struct pending *s = req->user;
    struct hl_http_call *call = s->call;

    if (len > s->answer_max - call->answer_len) {
        too_long(req);
        return HL_HTTP_ABORT;
    }
    if (grow(s, call->answer_len + len)) {
        hl_err(&req->error, HAUL_E_NOMEM, 0, "out of memory");
        return HL_HTTP_ABORT;
    }
    memcpy(call->answer + call->answer_len, data, len);
    call->answer_len += len;
    call->answer[call->answer_len] = '\0';
    return len;
}

/* Also of an answer that did not come to its end. */
static int collect_fields(struct pending *s)
{
    struct hl_http_call *call = s->call;

    for (size_t i = 0; call->want && call->want[i]; i++) {
        const char *v = hl_http_request_field(&s->req, call->want[i]);

        HL_ASSERT(i < HL_HTTP_GOT_MAX);
        if (!v)
            v = hl_http_request_interim(&s->req, call->want[i]);
        call->got[i] = hl_strdup(v);
        if (v && !call->got[i])
            return HAUL_E_NOMEM;
    }
    return 0;
}

/* Copies what the caller gets; HAUL_E_NOMEM. */
static int collect(struct pending *s)
{
    struct hl_http_call *call = s->call;
    const char *location = hl_http_request_field(&s->req, "Location");
    const char *wait = hl_http_request_field(&s->req, "Retry-After");

    if (grow(s, call->answer_len))
        return HAUL_E_NOMEM;
    call->answer[call->answer_len] = '\0';
    call->status = s->req.head.status;
    if (wait)
        call->retry_after_ns =
            hl_http_retry_after_ns(wait, (int64_t)time(NULL));
    call->location = hl_strdup(location);
    if (s->req.head.type[0])
        call->answer_type = hl_strdup(s->req.head.type);
    if ((location && !call->location) ||
        (s->req.head.type[0] && !call->answer_type))
        return HAUL_E_NOMEM;
    return 0;
}

/* The request is over; s may be gone on return. */
static void send_home(struct pending *s, int rc)
{
    s->rc = rc;
    if (rc)
        s->call->op.error = s->req.error;
    hl_http_request_fini(&s->req);
    hl_loop_post(s->client->env->loop, &s->home_task);
}

static void call_done(struct hl_http_request *req, int rc)
{
    struct pending *s = req->user;
    int fields = collect_fields(s);

    if (!rc)
        rc = fields ? fields : collect(s);
    send_home(s, rc);
}

static const struct hl_http_handler plain_handler = {
    .head = call_head,
    .body = call_body,
    .done = call_done,
};
static const struct hl_http_handler body_handler = {
    .head = call_head,
    .body = call_body,
    .send = call_send,
    .rewind = call_rewind,
    .done = call_done,
};

static void run_start(struct hl_http_job *job)
{
    hl_http_request_start(&HL_CONTAINER(job, struct pending, start_job)->req);
}

static void run_cancel(struct hl_http_job *job)
{
    struct pending *s = HL_CONTAINER(job, struct pending, cancel_job);

    if (hl_http_request_running(&s->req)) {
        hl_http_request_cancel(&s->req);
        hl_err_clear(&s->req.error);
        send_home(s, HAUL_E_CANCELED);
    }
    hl_loop_post(s->client->env->loop, &s->canceled_task);
}

/* ---- Home, on the engine thread ----------------------------------------- */

static void pending_free(struct pending *s)
{
    if (!s)
        return;
    hl_http_request_fini(&s->req);
    hl_free_secret(s->body);
    hl_free(s);
}

static void drop_answer(struct hl_http_call *call)
{
    if (call->answer)
        explicit_bzero(call->answer, call->answer_len);
    hl_free(call->answer);
    hl_free(call->answer_type);
    hl_free_secret(call->location);
    call->answer = call->answer_type = call->location = NULL;
    call->answer_len = 0;
}

static void check_home(struct pending *s)
{
    struct hl_http_client *c = s->client;
    struct hl_http_call *call = s->call;
    int rc = s->rc;

    if (!s->home || (s->canceling && !s->canceled))
        return;
    c->out--;
    call->op.driver_data = NULL;
    pending_free(s);
    if (rc)
        drop_answer(call);
    hl_op_finish(c->env->loop, &call->op, rc);
}

static void on_home(struct hl_task *task)
{
    struct pending *s = HL_CONTAINER(task, struct pending, home_task);

    s->home = true;
    check_home(s);
}

static void on_canceled(struct hl_task *task)
{
    struct pending *s = HL_CONTAINER(task, struct pending, canceled_task);

    s->canceled = true;
    check_home(s);
}

/* RFC 9110 8.6: what could have a body says that it has none. */
static bool has_body(const struct hl_http_call *call)
{
    return call->body != HL_HTTP_BODY_NONE || !strcmp(call->method, "POST") ||
           !strcmp(call->method, "PUT") || !strcmp(call->method, "PATCH");
}

static int make_request(struct pending *s, struct hl_error *err)
{
    const struct hl_http_call *call = s->call;
    struct hl_http_client *c = s->client;
    struct hl_http_request *req = &s->req;
    int rc = check(call, err);

    if (!rc && !c->loop) {
        c->loop = hl_http_loop_get(c->ep, 0, err);
        rc = c->loop ? 0 : err->code;
    }
    if (!rc)
        rc = hl_http_request_init(req, c->ep, c->loop);
    if (rc)
        return rc;
    req->user = s;
    req->handler = has_body(call) ? &body_handler : &plain_handler;
    req->method = call->method;
    req->timeout_ns = call->timeout_ns ? call->timeout_ns : TIMEOUT_NS;
    req->url = make_url(c, call);
    if (!req->url)
        return HAUL_E_NOMEM;
    req->foreign = call->foreign;
    req->once = !call->kept;
    rc = call->kept ? 0 : add_header(s, "Connection", "close");
    for (size_t i = 0; i < call->header_count && !rc; i++)
        rc = add_header(s, call->headers[i].name, value_of(&call->headers[i]));
    if (!rc)
        rc = make_body(s);
    req->body_len = s->len;
    return rc;
}

void hl_http_call(struct hl_http_client *c, struct hl_http_call *call)
{
    struct pending *s = hl_malloc(sizeof(*s));
    int rc = HAUL_E_NOMEM;

    call->status = 0;
    call->answer = call->answer_type = call->location = NULL;
    call->answer_len = 0;
    memset(call->got, 0, sizeof(call->got));
    call->retry_after_ns = 0;
    call->op.driver_data = NULL;
    call->op.rc = 0;
    hl_err_clear(&call->op.error);
    if (s) {
        s->client = c;
        s->call = call;
        s->start_job.fn = run_start;
        s->cancel_job.fn = run_cancel;
        s->home_task.fn = on_home;
        s->canceled_task.fn = on_canceled;
        s->answer_max = call->answer_max ? call->answer_max : ANSWER_MAX;
        rc = make_request(s, &call->op.error);
    }
    if (rc) {
        pending_free(s);
        hl_op_finish(c->env->loop, &call->op, rc);
        return;
    }
    call->op.driver_data = s;
    c->out++;
    hl_http_loop_post(c->loop, &s->start_job);
}

void hl_http_call_cancel(struct hl_http_client *c, struct hl_http_call *call)
{
    struct pending *s = call->op.driver_data;

    if (!s || s->canceling)
        return;
    HL_ASSERT(s->client == c);
    s->canceling = true;
    hl_http_loop_post(c->loop, &s->cancel_job);
}

void hl_http_call_fini(struct hl_http_call *call)
{
    drop_answer(call);
    for (size_t i = 0; i < HL_LEN(call->got); i++) {
        hl_free_secret(call->got[i]);
        call->got[i] = NULL;
    }
}

int hl_http_call_refused(const struct hl_http_client *c,
                         const struct hl_http_call *call, struct hl_error *err)
{
    bool get = !strcmp(call->method, "GET") || !strcmp(call->method, "HEAD");
    struct hl_http_subject subject = {.verb = get ? "read" : "write",
                                      .proxy = c->ep->proxy != NULL,
                                      .credentials = c->ep->user != NULL ||
                                                     c->ep->authorize != NULL};
    char *name;
    int rc;

    if (call->op.rc) {
        *err = call->op.error;
        return call->op.rc;
    }
    if (call->status >= 200 && call->status < 300)
        return 0;
    name = hl_asprintf("%s%.*s", c->ep->origin,
                       (int)(call->path ? strcspn(call->path, "?") : 0),
                       call->path ? call->path : "");
    subject.name = name ? name : c->ep->origin;
    rc = hl_http_status_error(call->status, &subject, call->answer, err);
    hl_free(name);
    if (err)
        err->retry_after_ns = call->retry_after_ns;
    return rc;
}

/* ---- Clients ------------------------------------------------------------ */

int hl_http_client_on(struct hl_http_ep *ep, struct hl_http_client **out)
{
    struct hl_http_client *c = hl_malloc(sizeof(*c));

    if (!c)
        return HAUL_E_NOMEM;
    c->env = ep->base.env;
    c->ep = ep;
    c->borrowed = true;
    c->path = hl_strdup("/");
    if (!c->path) {
        hl_http_client_free(c);
        return HAUL_E_NOMEM;
    }
    *out = c;
    return 0;
}

int hl_http_client_new(const struct hl_env *env, const struct hl_url *base,
                       struct hl_http_client **out, struct hl_error *err)
{
    struct hl_error error = {0};
    struct hl_http_client *c;

    if (!err)
        err = &error;
    if ((strcmp(base->scheme, "http") && strcmp(base->scheme, "https")) ||
        !base->host)
        return hl_err(err, HAUL_E_INVAL, 0, "'%s:' is no web address",
                      base->scheme);
    c = hl_malloc(sizeof(*c));
    if (!c)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    c->env = env;
    c->path = hl_strdup(base->raw ? base->raw : "/");
    c->query = hl_strdup(base->query);
    if (!c->path || (base->query && !c->query))
        hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else
        c->ep = hl_http_ep_new(env, base, err);
    if (!c->ep) {
        hl_http_client_free(c);
        return err->code;
    }
    *out = c;
    return 0;
}

void hl_http_client_free(struct hl_http_client *c)
{
    if (!c)
        return;
    HL_ASSERT(!c->out);
    if (!c->borrowed)
        hl_http_ep_free(c->ep);
    hl_free(c->path);
    hl_free_secret(c->query);
    hl_free(c);
}
