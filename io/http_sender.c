/*
 * One stream of an upload: the body of one request after another, made of the
 * writes of a part (http_upload.h).
 *
 * The engine thread starts a body and adds writes; the rest happens on the
 * thread of the sender's loop: curl copies from the first write, and a write
 * goes home when its last byte is copied. A body that is one write only is
 * kept until the answer has come, so that it can be sent again at once (a
 * login, a redirect, a connection that had died) whatever the source.
 */
#include <string.h>
#include <time.h>

#include "http_upload.h"

/* A server may take so many stall times to store what it got: the last body of
 * an object, with which it may store the whole, and another. */
#define STORE_STALLS 10
#define BODY_STALLS 2

struct hl_http_sender {
    struct hl_http_upload *upload;
    struct hl_http_loop *loop;
    struct hl_http_request req; /* the engine thread's between two bodies */
    struct hl_http_job start_job, job, last_job;
    struct hl_task done_task;
    /* Engine thread. */
    struct hl_http_part *part;
    void (*done)(struct hl_http_part *part, struct hl_http_sent *sent);
    struct {
        pthread_mutex_t lock;
        struct hl_list inbox; /* struct hl_io, op.node */
        bool posted;          /* job is on its way */
        bool cancel, unstall;
    } locked;
    /* From start to done the loop's thread. */
    struct {
        struct hl_list queue; /* struct hl_io, op.node: not handed back */
        uint32_t skip;        /* bytes of the body's first write before it */
        uint32_t copied;      /* bytes of the first one, with skip */
        uint64_t left;        /* bytes of the body that curl has not got */
        uint64_t taken;       /* writes handed back */
        bool running, paused, complete;
        uint64_t complete_ns, patience_ns;
        struct hl_http_sent sent;
    } net;
};

static struct hl_loop *loop_of(const struct hl_http_sender *s)
{
    return s->upload->ep->base.env->loop;
}

/* ---- The body, on the loop's thread ------------------------------------- */

static struct hl_io *first_write(const struct hl_http_sender *s)
{
    struct hl_node *n = hl_list_first(&s->net.queue);

    return n ? HL_CONTAINER(n, struct hl_io, op.node) : NULL;
}

static void hand_back(struct hl_http_sender *s, struct hl_io *io)
{
    hl_list_remove(&io->op.node);
    s->net.copied = 0;
    s->net.taken++;
    hl_op_finish(loop_of(s), &io->op, 0);
}

/* n more bytes of the first write went into curl's buffer. */
static void copied(struct hl_http_sender *s, struct hl_io *io, size_t n)
{
    s->net.copied += (uint32_t)n;
    if (s->net.left != HL_SIZE_UNKNOWN)
        s->net.left -= n;
    else if (io->part_end && s->net.copied == io->len)
        s->net.left = 0;
    if (!s->net.left) {
        s->net.complete = true;
        s->net.complete_ns = hl_loop_now(loop_of(s));
    }
    if (s->net.copied == io->len && (!s->net.complete || s->net.taken))
        hand_back(s, io);
}

static size_t body_send(struct hl_http_request *req, uint8_t *buf, size_t cap)
{
    struct hl_http_sender *s = req->user;
    const struct hl_http_protocol *p = s->upload->protocol;
    struct hl_io *io;
    size_t done = 0;

    s->net.paused = false;
    while (done < cap && s->net.left && (io = first_write(s))) {
        const uint8_t *from = io->data + s->net.copied;
        size_t n = hl_min(cap - done, io->len - s->net.copied);

        n = (size_t)hl_min(n, s->net.left);
        memcpy(buf + done, from, n);
        if (p->data)
            p->data(s->part, buf + done, n);
        done += n;
        copied(s, io, n);
    }
    if (done || !s->net.left)
        return done;
    s->net.paused = true;
    return HL_HTTP_PAUSE;
}

/* From the first write, while that is here. */
static bool body_rewind(struct hl_http_request *req)
{
    struct hl_http_sender *s = req->user;

    if (s->net.taken)
        return false;
    s->net.left = req->body_len;
    s->net.copied = s->net.skip;
    s->net.complete = !req->body_len;
    if (s->upload->protocol->data)
        s->upload->protocol->data(s->part, NULL, 0);
    return true;
}

/* ---- The answer --------------------------------------------------------- */

static int collect(struct hl_http_sender *s)
{
    const char *const *want = s->upload->protocol->want;
    struct hl_http_sent *sent = &s->net.sent;
    const char *v = hl_http_request_field(&s->req, "Retry-After");

    sent->status = s->req.answer.status;
    sent->sent = s->req.sent;
    sent->complete = s->net.complete;
    if (v)
        sent->retry_after_ns = hl_http_retry_after_ns(v, (int64_t)time(NULL));
    sent->answer = s->req.answer;
    memset(&s->req.answer, 0, sizeof(s->req.answer));
    for (size_t i = 0; want && want[i]; i++) {
        HL_ASSERT(i < HL_HTTP_GOT_MAX);
        v = hl_http_request_field(&s->req, want[i]);
        sent->got[i] = hl_strdup(v);
        if (v && !sent->got[i])
            return HAUL_E_NOMEM;
    }
    return 0;
}

static void over(struct hl_http_sender *s, int rc)
{
    int got = collect(s);

    if (!rc && got)
        rc = hl_err(&s->req.error, got, 0, "out of memory");
    s->net.sent.rc = rc;
    s->net.sent.error = s->req.error;
    s->net.running = false;
    hl_loop_post(loop_of(s), &s->done_task);
}

/* 303 leads from a POST to what it made (RFC 9110 15.4.4). */
static bool is_success(const struct hl_http_request *req)
{
    int status = req->head.status;

    return (status >= 200 && status < 300) ||
           (status == 303 && !strcmp(req->method, "POST"));
}

/* A server that has not read everything cannot have stored it. */
static int body_head(struct hl_http_request *req)
{
    const struct hl_http_sender *s = req->user;
    int status = req->head.status;

    if (!is_success(req) || s->net.complete)
        return 0;
    hl_err(&req->error, HAUL_E_PROTO, 0,
           "'%s' answered %d before it had everything", req->display, status);
    req->error.proto_status = status;
    return HAUL_E_PROTO;
}

static void body_done(struct hl_http_request *req, int rc)
{
    struct hl_http_sender *s = req->user;

    /* A server that refuses may cut the connection while we still send, or
     * in the middle of its explanation. */
    if (rc && req->answer.status >= 400 && req->answer.status != 417 &&
        hl_err_retry_class(rc) == HL_RETRY_LINK) {
        hl_err_clear(&req->error);
        rc = 0;
    }
    over(s, rc);
}

static const struct hl_http_handler handler = {
    .head = body_head,
    .send = body_send,
    .rewind = body_rewind,
    .done = body_done,
};

/* ---- Jobs, on the loop's thread ----------------------------------------- */

static void take_inbox(struct hl_http_sender *s)
{
    struct hl_node *n;

    while (s->net.running && (n = hl_list_pop(&s->locked.inbox)))
        hl_list_append(&s->net.queue, n);
}

static void end_with(struct hl_http_sender *s, int code, const char *text)
{
    hl_http_request_cancel(&s->req);
    hl_err_clear(&s->req.error);
    hl_err(&s->req.error, code, 0, "'%s' %s", s->req.display, text);
    over(s, code);
}

static void run_unstall(struct hl_http_sender *s)
{
    uint64_t waits = hl_loop_now(loop_of(s)) - s->net.complete_ns;

    if (s->net.paused)
        return;
    if (s->net.complete && waits < s->net.patience_ns)
        return;
    end_with(s, HAUL_E_STALLED, "takes nothing and says nothing");
}

/* What the engine thread has for the body under way. */
static void obey(struct hl_http_sender *s)
{
    bool cancel, unstall;

    pthread_mutex_lock(&s->locked.lock);
    cancel = s->locked.cancel;
    unstall = s->locked.unstall;
    s->locked.cancel = s->locked.unstall = false;
    take_inbox(s);
    pthread_mutex_unlock(&s->locked.lock);
    if (cancel) {
        end_with(s, HAUL_E_CANCELED, "is not written any further");
        return;
    }
    if (unstall) {
        run_unstall(s);
        if (!s->net.running)
            return;
    }
    if (s->net.paused && first_write(s)) {
        s->net.paused = false;
        hl_http_request_resume(&s->req);
    }
}

/* What comes between two bodies is not for the one that is over: the start of
 * the next one takes it, or drops it. */
static void run_inbox(struct hl_http_job *job)
{
    struct hl_http_sender *s = HL_CONTAINER(job, struct hl_http_sender, job);

    pthread_mutex_lock(&s->locked.lock);
    s->locked.posted = false;
    pthread_mutex_unlock(&s->locked.lock);
    if (s->net.running)
        obey(s);
}

static void run_start(struct hl_http_job *job)
{
    struct hl_http_sender *s =
        HL_CONTAINER(job, struct hl_http_sender, start_job);

    s->net.running = true;
    hl_http_request_start(&s->req);
    obey(s);
}

/* ---- From the engine thread --------------------------------------------- */

/* The lock is held. */
static void post(struct hl_http_sender *s)
{
    if (s->locked.posted)
        return;
    s->locked.posted = true;
    hl_http_loop_post(s->loop, &s->job);
}

static void drop_sent(struct hl_http_sent *sent)
{
    for (size_t i = 0; i < HL_LEN(sent->got); i++)
        hl_free_secret(sent->got[i]);
    hl_free(sent->answer.body);
    memset(sent, 0, sizeof(*sent));
}

static void on_done(struct hl_task *task)
{
    struct hl_http_sender *s =
        HL_CONTAINER(task, struct hl_http_sender, done_task);
    struct hl_http_part *part = s->part;
    struct hl_http_sent sent = s->net.sent;

    memset(&s->net.sent, 0, sizeof(s->net.sent));
    s->done(part, &sent);
    drop_sent(&sent);
}

struct hl_http_request *hl_http_sender_request(struct hl_http_sender *s)
{
    hl_http_request_clear(&s->req);
    hl_free_secret(s->req.url);
    s->req.url = NULL;
    s->req.foreign = s->req.expect = s->req.once = false;
    return &s->req;
}

static uint64_t patience(const struct hl_http_sender *s,
                         const struct hl_http_part *part)
{
    const struct hl_http_upload *u = s->upload;
    bool last =
        u->size == HL_SIZE_UNKNOWN || part->begin + part->expected == u->size;

    return (last ? STORE_STALLS : BODY_STALLS) * u->ep->stall_ns;
}

void hl_http_sender_start(struct hl_http_sender *s, struct hl_http_part *part,
                          uint32_t skip,
                          void (*done)(struct hl_http_part *part,
                                       struct hl_http_sent *sent))
{
    s->part = part;
    s->done = done;
    s->net.skip = skip;
    s->net.copied = skip;
    s->net.left = s->req.body_len;
    s->net.taken = 0;
    s->net.paused = false;
    s->net.complete = !s->req.body_len;
    s->net.complete_ns = hl_loop_now(loop_of(s));
    s->net.patience_ns = patience(s, part);
    s->req.quiet_ns = s->net.patience_ns;
    pthread_mutex_lock(&s->locked.lock);
    s->locked.cancel = s->locked.unstall = false; /* of the body before */
    pthread_mutex_unlock(&s->locked.lock);
    hl_http_loop_post(s->loop, &s->start_job);
}

void hl_http_sender_write(struct hl_http_sender *s, struct hl_io *io)
{
    pthread_mutex_lock(&s->locked.lock);
    hl_list_append(&s->locked.inbox, &io->op.node);
    post(s);
    pthread_mutex_unlock(&s->locked.lock);
}

void hl_http_sender_rest(struct hl_http_sender *s, struct hl_list *out)
{
    struct hl_node *n;

    while ((n = hl_list_pop(&s->net.queue)))
        hl_list_append(out, n);
    pthread_mutex_lock(&s->locked.lock);
    while ((n = hl_list_pop(&s->locked.inbox)))
        hl_list_append(out, n);
    pthread_mutex_unlock(&s->locked.lock);
}

void hl_http_sender_moved(struct hl_http_sender *s, struct hl_http_place *out)
{
    if (!s->req.moved)
        return;
    hl_http_place_fini(out);
    out->url = s->req.url;
    out->foreign = s->req.foreign;
    s->req.url = NULL;
}

void hl_http_sender_cancel(struct hl_http_sender *s)
{
    pthread_mutex_lock(&s->locked.lock);
    s->locked.cancel = true;
    post(s);
    pthread_mutex_unlock(&s->locked.lock);
}

void hl_http_sender_unstall(struct hl_http_sender *s)
{
    pthread_mutex_lock(&s->locked.lock);
    s->locked.unstall = true;
    post(s);
    pthread_mutex_unlock(&s->locked.lock);
}

/* ---- Life --------------------------------------------------------------- */

int hl_http_sender_new(struct hl_http_upload *u, uint32_t n,
                       struct hl_http_sender **out, struct hl_error *err)
{
    struct hl_http_sender *s = hl_malloc(sizeof(*s));

    if (!s)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    s->upload = u;
    s->loop = hl_http_loop_get(u->ep, n, err);
    if (!s->loop) {
        hl_free(s);
        return err->code;
    }
    if (hl_http_request_init(&s->req, u->ep, s->loop)) {
        hl_http_request_fini(&s->req);
        hl_free(s);
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    s->req.handler = &handler;
    s->req.user = s;
    s->req.display = u->obj->display;
    s->start_job.fn = run_start;
    s->job.fn = run_inbox;
    s->done_task.fn = on_done;
    pthread_mutex_init(&s->locked.lock, NULL);
    hl_list_init(&s->locked.inbox);
    hl_list_init(&s->net.queue);
    *out = s;
    return 0;
}

static void destroy(struct hl_http_sender *s)
{
    hl_http_request_fini(&s->req);
    pthread_mutex_destroy(&s->locked.lock);
    hl_free(s);
}

static void run_last(struct hl_http_job *job)
{
    destroy(HL_CONTAINER(job, struct hl_http_sender, last_job));
}

void hl_http_sender_free(struct hl_http_sender *s)
{
    if (!s)
        return;
    s->last_job.fn = run_last;
    hl_http_loop_post(s->loop, &s->last_job);
}
