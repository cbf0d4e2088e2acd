/*
 * Target of the HTTP driver: the whole object is the body of one PUT or POST.
 *
 * Nothing is acknowledged before the answer (HL_CAP_LATE). The engine thread
 * puts operations into an inbox; everything else happens on the thread of the
 * object's one loop: writes wait in a queue, curl copies from the first of
 * them, and a write goes home when its last byte is copied. What breaks is
 * reported lost as a whole; the next write at offset 0 starts a new request.
 *
 * A body that is one write only is kept until the answer has come, so that it
 * can be sent again at once (a login, a redirect, a connection that had died)
 * whatever the source.
 */
#include "http.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

/* A server may take so many stall times to store what it got. */
#define STORE_STALLS 10

struct hl_http_put {
    struct hl_http_obj *obj;
    struct hl_http_loop *loop;
    struct hl_http_job job, last_job;
    /* Fixed after open. */
    uint64_t size; /* or HL_SIZE_UNKNOWN */
    struct {
        pthread_mutex_t lock;
        struct hl_list inbox; /* hl_op.node; task.fn is what is to be done */
        bool posted;          /* job is on its way */
        bool unstall;
    } locked;
    /* Before the first job, then the loop's thread. */
    struct {
        struct hl_http_request head, put;
        bool has_head, has_put; /* initialized */
        struct hl_op *op;       /* stat or commit that a request answers */
        struct hl_list queue;   /* struct hl_io, op.node: not handed back */
        uint32_t copied;        /* bytes of the first one */
        uint64_t taken;         /* bytes handed back */
        uint64_t next;          /* offset of the next write */
        bool paused;            /* waits for the next write */
        bool complete;          /* curl has all of the body */
        uint64_t complete_ns;
        bool stored, aborted;
        uint64_t stored_size;
        bool sent_whole;        /* an attempt that failed was complete */
        struct hl_error broken; /* why the last attempt failed */
    } net;
};

static struct hl_loop *loop_of(const struct hl_http_put *p)
{
    return p->obj->ep->base.env->loop;
}

static uint64_t store_ns(const struct hl_http_put *p)
{
    return STORE_STALLS * p->obj->ep->stall_ns;
}

static void finish_with(struct hl_http_put *p, struct hl_op *op,
                        const struct hl_error *error)
{
    op->error = *error;
    hl_op_finish(loop_of(p), op, error->code);
}

/* ---- The body, on the loop's thread ------------------------------------- */

static struct hl_io *first_write(const struct hl_http_put *p)
{
    struct hl_node *n = hl_list_first(&p->net.queue);

    return n ? HL_CONTAINER(n, struct hl_io, op.node) : NULL;
}

static void reset(struct hl_http_put *p)
{
    p->net.copied = 0;
    p->net.taken = p->net.next = 0;
    p->net.paused = p->net.complete = false;
}

/* The attempt is over: everything comes home. */
static void fail(struct hl_http_put *p, const struct hl_error *error)
{
    uint64_t taken = p->net.taken;
    struct hl_op *op = p->net.op;
    struct hl_node *n;

    HL_ASSERT(error->code);
    p->net.broken = *error;
    p->net.sent_whole = p->net.sent_whole || p->net.complete;
    p->net.op = NULL;
    /* What was kept is not kept any more: it was sent as a whole, and how
     * often that may be done is counted. */
    if (p->net.complete && !taken && (n = hl_list_pop(&p->net.queue))) {
        taken = HL_CONTAINER(n, struct hl_io, op.node)->len;
        hl_op_finish(loop_of(p), HL_CONTAINER(n, struct hl_op, node), 0);
    }
    reset(p);
    if (taken)
        hl_object_lost(&p->obj->base, 0, taken, &p->net.broken);
    while ((n = hl_list_pop(&p->net.queue)))
        finish_with(p, HL_CONTAINER(n, struct hl_op, node), &p->net.broken);
    if (op)
        finish_with(p, op, &p->net.broken);
}

static void succeed(struct hl_http_put *p)
{
    uint64_t total = p->net.next;
    struct hl_op *op = p->net.op;
    struct hl_node *n;

    p->net.stored = true;
    p->net.stored_size = total;
    p->net.op = NULL;
    reset(p);
    while ((n = hl_list_pop(&p->net.queue)))
        hl_op_finish(loop_of(p), HL_CONTAINER(n, struct hl_op, node), 0);
    if (total)
        hl_object_acked(&p->obj->base, 0, total);
    if (op)
        hl_op_finish(loop_of(p), op, 0);
}

/* The first write has been copied as a whole. */
static void take(struct hl_http_put *p, struct hl_io *io)
{
    if (io->part_end) {
        p->net.complete = true;
        p->net.complete_ns = hl_loop_now(loop_of(p));
        if (!p->net.taken)
            return; /* the only one: kept until the answer */
    }
    hl_list_remove(&io->op.node);
    p->net.copied = 0;
    p->net.taken += io->len;
    hl_op_finish(loop_of(p), &io->op, 0);
}

static size_t put_send(struct hl_http_request *req, uint8_t *buf, size_t cap)
{
    struct hl_http_put *p = req->user;
    struct hl_io *io;
    size_t done = 0;

    while (done < cap && !p->net.complete && (io = first_write(p))) {
        size_t n = hl_min(cap - done, io->len - p->net.copied);

        memcpy(buf + done, io->data + p->net.copied, n);
        done += n;
        p->net.copied += (uint32_t)n;
        if (p->net.copied == io->len)
            take(p, io);
    }
    if (done || p->net.complete)
        return done;
    p->net.paused = true;
    return HL_HTTP_PAUSE;
}

static bool put_rewind(struct hl_http_request *req)
{
    struct hl_http_put *p = req->user;

    if (p->net.taken)
        return false;
    p->net.copied = 0;
    p->net.paused = false;
    p->net.complete = !first_write(p); /* an empty body */
    return true;
}

/* ---- The answer --------------------------------------------------------- */

/* 303 leads from a POST to what it made (RFC 9110 15.4.4): it was taken. */
static bool is_success(const struct hl_http_request *req)
{
    const struct hl_http_put *p = req->user;
    int status = req->head.status;

    return (status >= 200 && status < 300) || (status == 303 && p->obj->post);
}

/* A server that has not read everything cannot have stored it. */
static int put_head(struct hl_http_request *req)
{
    const struct hl_http_put *p = req->user;

    if (!is_success(req) || p->net.complete)
        return 0;
    hl_err(&req->error, HAUL_E_PROTO, 0,
           "'%s' answered %d before it had everything", p->obj->display,
           req->head.status);
    req->error.proto_status = req->head.status;
    return HAUL_E_PROTO;
}

static void put_done(struct hl_http_request *req, int rc)
{
    struct hl_http_put *p = req->user;

    /* A server that refuses may cut the connection while we still send, or
     * in the middle of its explanation. */
    if (rc && req->answer.status >= 400 && req->answer.status != 417 &&
        hl_err_retry_class(rc) == HL_RETRY_LINK) {
        hl_err_clear(&req->error);
        rc = 0;
    }
    if (!rc && !is_success(req))
        rc = hl_http_request_refused(req);
    if (rc == HAUL_E_EXISTS && p->net.sent_whole) {
        req->error.hint[0] = '\0';
        hl_err_hint(&req->error, "An earlier try of this copy may have stored "
                                 "it: look at it, or copy without "
                                 "--no-clobber.");
    }
    HL_ASSERT(rc || p->net.complete);
    if (rc)
        fail(p, &req->error);
    else
        succeed(p);
}

static const struct hl_http_handler put_handler = {
    .head = put_head,
    .send = put_send,
    .rewind = put_rewind,
    .done = put_done,
};

/* ---- Stat --------------------------------------------------------------- */

/* What the server does not tell is found out by the condition of the PUT. */
static void head_done(struct hl_http_request *req, int rc)
{
    struct hl_http_put *p = req->user;
    struct hl_stat *op = HL_CONTAINER(p->net.op, struct hl_stat, op);

    p->net.op = NULL;
    if (rc) {
        finish_with(p, &op->op, &req->error);
        return;
    }
    op->exists = req->head.status >= 200 && req->head.status < 300;
    if (op->exists) {
        op->size = req->head.length;
        op->mtime_ns = hl_http_mtime_ns(req->head.modified_s);
    }
    hl_op_finish(loop_of(p), &op->op, 0);
}

static const struct hl_http_handler head_handler = {.done = head_done};

/* ---- Operations, on the loop's thread ----------------------------------- */

static bool begin(struct hl_task *task, struct hl_http_put **p)
{
    struct hl_op *op = HL_CONTAINER(task, struct hl_op, task);

    *p = op->driver_data;
    if (!(*p)->net.aborted)
        return true;
    hl_op_finish(loop_of(*p), op, HAUL_E_CANCELED);
    return false;
}

static void run_stat(struct hl_task *task)
{
    struct hl_http_put *p;

    if (!begin(task, &p))
        return;
    HL_ASSERT(!p->net.op);
    p->net.op = HL_CONTAINER(task, struct hl_op, task);
    hl_http_request_start(&p->net.head);
}

static bool fits(const struct hl_http_put *p, const struct hl_io *io)
{
    uint64_t end = io->offset + io->len;

    if (p->size == HL_SIZE_UNKNOWN)
        return true;
    return end <= p->size && io->part_end == (end == p->size);
}

/* A write that was on its way when the attempt broke belongs to no other. */
static void run_write(struct hl_task *task)
{
    struct hl_io *io = HL_CONTAINER(task, struct hl_io, op.task);
    struct hl_http_put *p;

    if (!begin(task, &p))
        return;
    if (io->offset == p->net.next && fits(p, io)) {
        p->net.next += io->len;
        hl_list_append(&p->net.queue, &io->op.node);
        return;
    }
    if (io->offset != p->net.next && p->net.broken.code) {
        finish_with(p, &io->op, &p->net.broken);
        return;
    }
    hl_op_finish(loop_of(p), &io->op,
                 hl_err(&io->op.error, HAUL_E_BUG, 0,
                        "a write at %" PRIu64 " does not fit into '%s'",
                        io->offset, p->obj->display));
}

static void run_commit(struct hl_task *task)
{
    struct hl_commit *op = HL_CONTAINER(task, struct hl_commit, op.task);
    struct hl_http_put *p;

    if (!begin(task, &p))
        return;
    if (p->net.stored && p->net.stored_size == op->size) {
        hl_op_finish(loop_of(p), &op->op, 0);
        return;
    }
    if (op->size || hl_http_request_running(&p->net.put)) {
        hl_op_finish(loop_of(p), &op->op,
                     hl_err(&op->op.error, HAUL_E_BUG, 0,
                            "'%s' is not written yet", p->obj->display));
        return;
    }
    p->net.op = &op->op;
    p->net.complete = true;
    p->net.complete_ns = hl_loop_now(loop_of(p));
    p->net.put.body_len = 0;
    p->net.put.expect = false; /* RFC 9110 10.1.1: not without a body */
    hl_http_request_start(&p->net.put);
}

static bool is_running(const struct hl_http_put *p)
{
    return hl_http_request_running(&p->net.head) ||
           hl_http_request_running(&p->net.put);
}

static void cancel_requests(struct hl_http_put *p)
{
    hl_http_request_cancel(&p->net.head);
    hl_http_request_cancel(&p->net.put);
}

static void run_abort(struct hl_task *task)
{
    struct hl_op *op = HL_CONTAINER(task, struct hl_op, task);
    struct hl_http_put *p = op->driver_data;
    struct hl_error error = {0};

    p->net.aborted = true;
    cancel_requests(p);
    hl_err(&error, HAUL_E_CANCELED, 0, "%s", haul_err_text(HAUL_E_CANCELED));
    fail(p, &error);
    hl_op_finish(loop_of(p), op, 0);
}

/* A request that waits for the source does not hang. */
static void run_unstall(struct hl_http_put *p)
{
    struct hl_error error = {0};

    if (!is_running(p) || p->net.paused)
        return;
    if (p->net.complete &&
        hl_loop_now(loop_of(p)) - p->net.complete_ns < store_ns(p))
        return;
    cancel_requests(p);
    hl_err(&error, HAUL_E_STALLED, 0, "'%s' takes nothing and says nothing",
           p->obj->display);
    fail(p, &error);
}

/* Each try begins where the user said: what a redirect of an earlier one led
 * to may be gone. Only a redirect that came too late is followed now. */
static void start_put(struct hl_http_put *p)
{
    struct hl_http_request *req = &p->net.put;
    char *url = req->moved || !strcmp(req->url, p->obj->url)
                    ? NULL
                    : hl_strdup(p->obj->url);

    if (url) {
        hl_free_secret(req->url);
        req->url = url;
        req->foreign = false;
    }
    hl_http_request_start(req);
}

/* There may be something to send. */
static void advance(struct hl_http_put *p)
{
    if (hl_list_empty(&p->net.queue))
        return;
    if (!hl_http_request_running(&p->net.put)) {
        p->net.stored = false;
        start_put(p);
    } else if (p->net.paused) {
        p->net.paused = false;
        hl_http_request_resume(&p->net.put);
    }
}

static void run_inbox(struct hl_http_job *job)
{
    struct hl_http_put *p = HL_CONTAINER(job, struct hl_http_put, job);
    struct hl_list inbox;
    struct hl_node *n;
    bool unstall;

    hl_list_init(&inbox);
    pthread_mutex_lock(&p->locked.lock);
    while ((n = hl_list_pop(&p->locked.inbox)))
        hl_list_append(&inbox, n);
    unstall = p->locked.unstall;
    p->locked.unstall = p->locked.posted = false;
    pthread_mutex_unlock(&p->locked.lock);
    while ((n = hl_list_pop(&inbox))) {
        struct hl_op *op = HL_CONTAINER(n, struct hl_op, node);

        op->task.fn(&op->task);
    }
    if (unstall)
        run_unstall(p);
    advance(p);
}

/* ---- From the engine thread --------------------------------------------- */

/* op NULL: unstall. */
static void submit(struct hl_http_put *p, struct hl_op *op,
                   void (*fn)(struct hl_task *task))
{
    bool post;

    pthread_mutex_lock(&p->locked.lock);
    if (op) {
        op->driver_data = p;
        op->task.fn = fn;
        hl_list_append(&p->locked.inbox, &op->node);
    } else {
        p->locked.unstall = true;
    }
    post = !p->locked.posted;
    p->locked.posted = true;
    pthread_mutex_unlock(&p->locked.lock);
    if (post)
        hl_http_loop_post(p->loop, &p->job);
}

/* obj->put with a loop; made by the first who needs it. */
static int get_put(struct hl_http_obj *obj, struct hl_http_put **out,
                   struct hl_error *err)
{
    struct hl_http_put *p = obj->put;

    if (!p) {
        p = hl_malloc(sizeof(*p));
        if (!p)
            return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
        p->obj = obj;
        p->job.fn = run_inbox;
        pthread_mutex_init(&p->locked.lock, NULL);
        hl_list_init(&p->locked.inbox);
        hl_list_init(&p->net.queue);
        obj->put = p;
    }
    *out = p;
    if (!p->loop)
        p->loop = hl_http_loop_get(obj->ep, 0, err);
    return p->loop ? 0 : err->code;
}

/* The user's --header wins. */
static bool user_sets(const struct hl_http_ep *ep, const char *name)
{
    for (size_t i = 0; i < ep->header_count; i++)
        if (hl_http_is_field(ep->headers[i], name))
            return true;
    return false;
}

static int make_request(struct hl_http_put *p, struct hl_http_request *req,
                        const struct hl_http_handler *handler,
                        const char *method)
{
    int rc = hl_http_request_init(req, p->obj->ep, p->loop);

    if (rc)
        return rc;
    req->handler = handler;
    req->user = p;
    req->method = method;
    req->display = p->obj->display;
    req->url = hl_strdup(p->obj->url);
    return req->url ? 0 : HAUL_E_NOMEM;
}

static int make_head(struct hl_http_put *p, struct hl_error *err)
{
    int rc;

    if (p->net.has_head)
        return 0;
    rc = make_request(p, &p->net.head, &head_handler, "HEAD");
    if (rc) {
        hl_http_request_fini(&p->net.head);
        return hl_err(err, rc, 0, "%s", haul_err_text(rc));
    }
    p->net.head.quiet_ns = p->obj->ep->stall_ns;
    p->net.has_head = true;
    return 0;
}

static int make_put(struct hl_http_put *p, const struct hl_open *op,
                    struct hl_error *err)
{
    struct hl_http_request *req = &p->net.put;
    int rc;

    if (p->net.has_put)
        return 0;
    p->size = op->size;
    rc = make_request(p, req, &put_handler, p->obj->post ? "POST" : "PUT");
    if (!rc && !user_sets(p->obj->ep, "Content-Type"))
        rc = hl_http_request_add(req, "Content-Type: application/octet-stream");
    if (!rc && op->no_clobber)
        rc = hl_http_request_add(req, "If-None-Match: *"); /* RFC 9110 13.1.2 */
    if (rc) {
        hl_http_request_fini(req);
        return hl_err(err, rc, 0, "%s", haul_err_text(rc));
    }
    req->body_len = op->size;
    /* A refusal, a login or a redirect costs nothing when it comes first. */
    req->expect = true;
    req->once = p->obj->post;
    req->quiet_ns = store_ns(p);
    p->net.has_put = true;
    return 0;
}

void hl_http_put_stat(struct hl_http_obj *obj, struct hl_stat *op)
{
    const struct hl_env *env = obj->ep->base.env;
    struct hl_http_put *p;
    int rc;

    op->exists = op->is_folder = false;
    op->size = HL_SIZE_UNKNOWN;
    op->mtime_ns = 0;
    op->mode = 0;
    /* It is replaced, whatever it is. */
    if (!hl_opts_i64(env->opts, HAUL_OPT_NO_CLOBBER)) {
        hl_op_finish(env->loop, &op->op, 0);
        return;
    }
    rc = get_put(obj, &p, &op->op.error);
    if (!rc)
        rc = make_head(p, &op->op.error);
    if (rc)
        hl_op_finish(env->loop, &op->op, rc);
    else
        submit(p, &op->op, run_stat);
}

void hl_http_put_open(struct hl_http_obj *obj, struct hl_open *op)
{
    struct hl_http_put *p;
    int rc;

    memset(&op->layout, 0, sizeof(op->layout));
    if (op->append) {
        hl_err(&op->op.error, HAUL_E_NOTSUP, 0,
               "cannot append to '%s': it is sent as a whole", obj->display);
        rc = hl_err_hint(&op->op.error, "Use --resume never.");
    } else {
        rc = get_put(obj, &p, &op->op.error);
        if (!rc)
            rc = make_put(p, op, &op->op.error);
    }
    op->layout.caps = HL_CAP_ORDERED | HL_CAP_LATE;
    op->layout.streams_max = 1;
    op->layout.fresh = op->resume;
    hl_op_finish(obj->ep->base.env->loop, &op->op, rc);
}

void hl_http_put_write(struct hl_http_obj *obj, struct hl_io *op)
{
    submit(obj->put, &op->op, run_write);
}

void hl_http_put_commit(struct hl_http_obj *obj, struct hl_commit *op)
{
    op->durable = op->size_checked = false; /* nobody says so */
    submit(obj->put, &op->op, run_commit);
}

void hl_http_put_abort(struct hl_http_obj *obj, struct hl_op *op)
{
    if (obj->put && obj->put->loop)
        submit(obj->put, op, run_abort);
    else
        hl_op_finish(obj->ep->base.env->loop, op, 0);
}

void hl_http_put_unstall(struct hl_http_obj *obj)
{
    if (obj->put && obj->put->loop)
        submit(obj->put, NULL, NULL);
}

const struct hl_answer *hl_http_put_answer(struct hl_http_obj *obj)
{
    if (!obj->put || !obj->put->net.put.answer.status)
        return NULL;
    return &obj->put->net.put.answer;
}

/* ---- End ---------------------------------------------------------------- */

static void destroy(struct hl_http_put *p)
{
    if (p->net.has_head)
        hl_http_request_fini(&p->net.head);
    if (p->net.has_put)
        hl_http_request_fini(&p->net.put);
    pthread_mutex_destroy(&p->locked.lock);
    hl_free(p);
}

static void run_last(struct hl_http_job *job)
{
    destroy(HL_CONTAINER(job, struct hl_http_put, last_job));
}

/* Requests end on their loop's thread, behind what was posted before; nobody
 * waits for that but who joins the thread. */
void hl_http_put_free(struct hl_http_put *p)
{
    if (!p)
        return;
    if (!p->loop) {
        destroy(p);
        return;
    }
    p->last_job.fn = run_last;
    hl_http_loop_post(p->loop, &p->last_job);
}
