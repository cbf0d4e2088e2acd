/*
 * The SFTP driver's slots, endpoints and objects: the engine thread's side.
 * Everything is put into queues of the endpoint for the threads of its
 * connections; see sftp.h.
 */
#include "sftp.h"

#include <string.h>

#include "drivers.h"

#define STREAMS_DEFAULT 8 /* below MaxSessions 10 of a stock sshd */
#define CONNS_DEFAULT 4

static struct hl_sftp_ep *ep_of(struct hl_endpoint *ep)
{
    return HL_CONTAINER(ep, struct hl_sftp_ep, base);
}

static struct hl_sftp_obj *obj_of(struct hl_object *obj)
{
    return HL_CONTAINER(obj, struct hl_sftp_obj, base);
}

static struct hl_loop *loop_of(const struct hl_sftp_ep *ep)
{
    return ep->base.env->loop;
}

/* ---- Endpoints ---------------------------------------------------------- */

static uint32_t option(const struct hl_env *env, int id, uint32_t otherwise)
{
    int64_t v = env->opts ? hl_opts_i64(env->opts, id) : -1;

    return v > 0 ? (uint32_t)hl_min((uint64_t)v, UINT32_MAX) : otherwise;
}

static void endpoint_free(struct hl_endpoint *base)
{
    struct hl_sftp_ep *ep = ep_of(base);
    uint32_t i;

    pthread_mutex_lock(&ep->lock);
    ep->closing = true;
    for (i = 0; i < HL_SFTP_CONNS_MAX; i++) {
        if (!ep->conns[i])
            continue;
        atomic_store(&ep->conns[i]->stop, true);
        hl_sftp_wake(ep->conns[i]);
    }
    pthread_mutex_unlock(&ep->lock);
    /* A thread looks at the other connections until its end. */
    for (i = 0; i < HL_SFTP_CONNS_MAX; i++)
        if (ep->conns[i])
            pthread_join(ep->conns[i]->thread, NULL);
    for (i = 0; i < HL_SFTP_CONNS_MAX; i++)
        hl_sftp_conn_free(ep->conns[i]);
    hl_ssh_host_free(ep->host);
    pthread_mutex_destroy(&ep->lock);
    hl_free(ep->name);
    hl_free(ep);
}

static int endpoint_new(const struct hl_env *env, const struct hl_url *url,
                        struct hl_endpoint **out, struct hl_error *err)
{
    struct hl_sftp_ep *ep;
    int rc;

    if (!url->host || !url->host[0])
        return hl_err(err, HAUL_E_INVAL, 0, "no host in the name");
    ep = hl_malloc(sizeof(*ep));
    if (!ep)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    ep->base.driver = &hl_driver_sftp;
    ep->base.env = env;
    pthread_mutex_init(&ep->lock, NULL);
    hl_list_init(&ep->jobs);
    hl_list_init(&ep->reads);
    hl_list_init(&ep->writes);
    hl_list_init(&ep->objects);
    hl_list_init(&ep->draining);
    ep->conns_max = option(env, HAUL_OPT_CONNECTIONS, CONNS_DEFAULT);
    ep->conns_max = (uint32_t)hl_min(ep->conns_max, HL_SFTP_CONNS_MAX);
    ep->streams_max = option(env, HAUL_OPT_STREAMS, STREAMS_DEFAULT);
    ep->streams_max = (uint32_t)hl_min(ep->streams_max, HL_SFTP_STREAMS_MAX);
    ep->stall_ns = option(env, HAUL_OPT_STALL_TIMEOUT, 60) * HL_NS_PER_S;
    ep->name = hl_strdup(url->host);
    rc = ep->name ? hl_ssh_host_new(env, url, &ep->host, err)
                  : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (rc) {
        endpoint_free(&ep->base);
        return rc;
    }
    *out = &ep->base;
    return 0;
}

static void flow(struct hl_endpoint *base, struct hl_flow *out)
{
    struct hl_sftp_ep *ep = ep_of(base);
    uint32_t i;

    pthread_mutex_lock(&ep->lock);
    *out = ep->past;
    for (i = 0; i < HL_SFTP_CONNS_MAX; i++) {
        struct hl_sftp_conn *conn = ep->conns[i];
        uint64_t rtt;

        if (!conn || conn->state != HL_CONN_UP)
            continue;
        out->connections++;
        out->streams += atomic_load(&conn->streams_up);
        out->streams_limit += hl_sftp_channels_max(conn);
        out->wire_bytes += atomic_load(&conn->wire_bytes);
        out->starved_ns += atomic_load(&conn->starved_ns);
        out->window_ns += atomic_load(&conn->window_ns);
        out->link_ns += atomic_load(&conn->link_ns);
        out->cpu_ns += atomic_load(&conn->cpu_ns);
        rtt = atomic_load(&conn->rtt_ns);
        if (rtt && (!out->rtt_ns || rtt < out->rtt_ns))
            out->rtt_ns = rtt;
    }
    /* What these connections take is no limit while others can be opened. */
    if (out->connections < ep->conns_max && !ep->refused &&
        !hl_ssh_host_one_login(ep->host))
        out->streams_limit = 0;
    pthread_mutex_unlock(&ep->lock);
}

/* lock held. Wakes connections: all of them, or those that found nothing to
 * do. False: there is none, not even on its way. */
static bool wake_some(struct hl_sftp_ep *ep, bool all)
{
    bool any = false;
    uint32_t i;

    for (i = 0; i < HL_SFTP_CONNS_MAX; i++) {
        struct hl_sftp_conn *conn = ep->conns[i];

        if (!conn || conn->state == HL_CONN_DOWN)
            continue;
        any = true;
        if (conn->state != HL_CONN_UP || (!all && !conn->hungry))
            continue;
        conn->hungry = false;
        hl_sftp_wake(conn);
    }
    return any;
}

/* lock held. Makes sure that somebody comes for what was queued: jobs are for
 * certain connections, reads and writes for whoever has room. */
static void announce(struct hl_sftp_ep *ep, bool job)
{
    struct hl_error err = {0};

    if (!wake_some(ep, job) && hl_sftp_conn_start(ep, &err))
        hl_sftp_fail_queued(ep, NULL, err.code, &err);
}

static void fail_ios(struct hl_sftp_ep *ep, struct hl_list *queue,
                     const struct hl_sftp_obj *obj, int rc,
                     const struct hl_error *error)
{
    struct hl_node *n, *next;

    for (n = hl_list_first(queue); n; n = next) {
        struct hl_io *io = HL_CONTAINER(n, struct hl_io, op.node);

        next = hl_list_next(queue, n);
        if (obj && io->op.driver_data != obj)
            continue;
        hl_list_remove(n);
        if (queue == &ep->reads)
            ep->read_bytes -= io->len;
        if (error)
            io->op.error = *error;
        hl_op_finish(loop_of(ep), &io->op, rc);
    }
}

void hl_sftp_fail_queued(struct hl_sftp_ep *ep, struct hl_sftp_obj *obj, int rc,
                         const struct hl_error *error)
{
    struct hl_node *n, *next;

    for (n = hl_list_first(&ep->jobs); n; n = next) {
        struct hl_sftp_job *job = HL_CONTAINER(n, struct hl_sftp_job, node);

        next = hl_list_next(&ep->jobs, n);
        if (obj && job->obj != obj)
            continue;
        hl_list_remove(n);
        if (error)
            job->error = *error;
        job->st = NULL;
        hl_sftp_job_finish(job, rc);
        hl_sftp_job_free(job);
    }
    fail_ios(ep, &ep->reads, obj, rc, error);
    fail_ios(ep, &ep->writes, obj, rc, error);
}

/* ---- Drains ------------------------------------------------------------- */

static void drain_end(struct hl_sftp_obj *obj)
{
    hl_list_remove(&obj->drain_node);
    obj->drain = HL_DRAIN_NONE;
    hl_sftp_obj_unref(obj);
}

bool hl_sftp_drain_begin(struct hl_sftp_obj *obj, enum hl_sftp_drain kind)
{
    struct hl_sftp_ep *ep = obj->ep;
    uint32_t i;

    obj->drain_left = 0;
    for (i = 0; i < HL_SFTP_CONNS_MAX; i++) {
        if (!ep->conns[i] || ep->conns[i]->state != HL_CONN_UP)
            continue;
        obj->drain_left |= UINT64_C(1) << i;
        hl_sftp_wake(ep->conns[i]);
    }
    /* The list has a reference: handles may go before every connection has
     * answered. */
    if (!hl_node_linked(&obj->drain_node)) {
        hl_list_append(&ep->draining, &obj->drain_node);
        atomic_fetch_add(&obj->refs, 1);
    }
    obj->drain = kind;
    if (obj->drain_left)
        return true;
    drain_end(obj);
    return false;
}

void hl_sftp_drain_answer(struct hl_sftp_obj *obj, uint32_t conn_index)
{
    struct hl_sftp_ep *ep = obj->ep;
    struct hl_op *op = obj->abort_op;

    obj->drain_left &= ~(UINT64_C(1) << conn_index);
    if (obj->drain_left)
        return;
    obj->abort_op = NULL;
    if (op)
        hl_op_finish(loop_of(ep), op, 0);
    drain_end(obj);
    wake_some(ep, true);
}

/* ---- Objects ------------------------------------------------------------ */

void hl_sftp_obj_unref(struct hl_sftp_obj *obj)
{
    if (atomic_fetch_sub(&obj->refs, 1) > 1)
        return;
    hl_free(obj->path);
    hl_free(obj->work);
    hl_free(obj);
}

static int object_new(struct hl_endpoint *base, const struct hl_url *url,
                      enum hl_role role, struct hl_object **out,
                      struct hl_error *err)
{
    struct hl_sftp_ep *ep = ep_of(base);
    struct hl_sftp_obj *obj;

    if (strlen(url->path) > HL_SFTP_PATH_MAX)
        return hl_err(err, HAUL_E_INVAL, 0, "path is longer than %d bytes",
                      HL_SFTP_PATH_MAX);
    obj = hl_malloc(sizeof(*obj));
    if (!obj)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    obj->base.driver = &hl_driver_sftp;
    obj->base.endpoint = base;
    obj->base.role = role;
    obj->ep = ep;
    atomic_init(&obj->refs, 1);
    obj->path = hl_strdup(url->path[0] ? url->path : ".");
    obj->work = hl_strdup(obj->path);
    if (!obj->path || !obj->work) {
        hl_sftp_obj_unref(obj);
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    pthread_mutex_lock(&ep->lock);
    hl_list_append(&ep->objects, &obj->node);
    pthread_mutex_unlock(&ep->lock);
    *out = &obj->base;
    return 0;
}

void hl_sftp_count_streams(struct hl_sftp_ep *ep)
{
    struct hl_node *n;

    ep->targets_want = ep->sources_want = 0;
    for (n = hl_list_first(&ep->objects); n;
         n = hl_list_next(&ep->objects, n)) {
        struct hl_sftp_obj *obj = HL_CONTAINER(n, struct hl_sftp_obj, node);
        uint32_t *want = obj->base.role == HL_ROLE_TARGET ? &ep->targets_want
                                                          : &ep->sources_want;

        *want = (uint32_t)hl_max(*want, obj->streams);
    }
}

static void set_streams(struct hl_object *base, uint32_t streams)
{
    struct hl_sftp_obj *obj = obj_of(base);
    struct hl_sftp_ep *ep = obj->ep;

    pthread_mutex_lock(&ep->lock);
    obj->streams = streams;
    hl_sftp_count_streams(ep);
    wake_some(ep, true);
    pthread_mutex_unlock(&ep->lock);
}

/* The handles that are left (of a source, say) are closed by their threads,
 * which hold references. */
static void close_object(struct hl_object *base)
{
    struct hl_sftp_obj *obj = obj_of(base);
    struct hl_sftp_ep *ep = obj->ep;

    pthread_mutex_lock(&ep->lock);
    hl_list_remove(&obj->node);
    obj->opened = false;
    obj->home = NULL;
    hl_sftp_count_streams(ep);
    if (obj->handles)
        hl_sftp_drain_begin(obj, HL_DRAIN_ABORT);
    pthread_mutex_unlock(&ep->lock);
    hl_sftp_obj_unref(obj);
}

/* ---- Operations --------------------------------------------------------- */

static void submit_job(struct hl_object *base, enum hl_sftp_job_kind kind,
                       struct hl_op *op, const char *token)
{
    struct hl_sftp_obj *obj = obj_of(base);
    struct hl_sftp_ep *ep = obj->ep;
    struct hl_sftp_job *job = hl_sftp_job_new(obj, kind, op);

    if (job && token)
        job->token = hl_strdup(token);
    if (!job || (token && !job->token)) {
        if (job) {
            job->op = NULL;
            hl_sftp_job_free(job);
        }
        hl_op_finish(loop_of(ep), op, HAUL_E_NOMEM);
        return;
    }
    pthread_mutex_lock(&ep->lock);
    hl_list_append(&ep->jobs, &job->node);
    announce(ep, true);
    pthread_mutex_unlock(&ep->lock);
}

static void stat_object(struct hl_object *obj, struct hl_stat *op)
{
    submit_job(obj, HL_JOB_STAT, &op->op, NULL);
}

static void open_object(struct hl_object *obj, struct hl_open *op)
{
    submit_job(obj, HL_JOB_OPEN, &op->op, NULL);
}

static void sync_object(struct hl_object *obj, struct hl_op *op)
{
    submit_job(obj, HL_JOB_SYNC, op, NULL);
}

static void commit_object(struct hl_object *obj, struct hl_commit *op)
{
    submit_job(obj, HL_JOB_COMMIT, &op->op, NULL);
}

static void suspend_object(struct hl_object *obj, struct hl_suspend *op)
{
    submit_job(obj, HL_JOB_SUSPEND, &op->op, NULL);
}

static void discard_object(struct hl_object *obj, const char *token,
                           struct hl_op *op)
{
    submit_job(obj, HL_JOB_DISCARD, op, token);
}

static void digest_object(struct hl_object *obj, struct hl_remote_digest *op)
{
    submit_job(obj, HL_JOB_DIGEST, &op->op, NULL);
}

static void submit_io(struct hl_object *base, struct hl_io *op,
                      struct hl_list *queue)
{
    struct hl_sftp_obj *obj = obj_of(base);
    struct hl_sftp_ep *ep = obj->ep;

    op->done = 0;
    op->eof = false;
    op->op.driver_data = obj;
    pthread_mutex_lock(&ep->lock);
    hl_list_append(queue, &op->op.node);
    if (queue == &ep->reads)
        ep->read_bytes += op->len;
    announce(ep, false);
    pthread_mutex_unlock(&ep->lock);
}

static void read_object(struct hl_object *obj, struct hl_io *op)
{
    submit_io(obj, op, &obj_of(obj)->ep->reads);
}

static void write_object(struct hl_object *obj, struct hl_io *op)
{
    submit_io(obj, op, &obj_of(obj)->ep->writes);
}

static void token_saved(struct hl_object *base, int rc)
{
    struct hl_sftp_obj *obj = obj_of(base);

    pthread_mutex_lock(&obj->ep->lock);
    if (obj->token == HL_TOKEN_ASKED)
        obj->token = rc ? HL_TOKEN_FAILED : HL_TOKEN_SAVED;
    wake_some(obj->ep, true);
    pthread_mutex_unlock(&obj->ep->lock);
}

static void abort_object(struct hl_object *base, struct hl_op *op)
{
    struct hl_sftp_obj *obj = obj_of(base);
    struct hl_sftp_ep *ep = obj->ep;

    pthread_mutex_lock(&ep->lock);
    hl_sftp_fail_queued(ep, obj, HAUL_E_CANCELED, NULL);
    obj->opened = false;
    obj->home = NULL;
    obj->token = HL_TOKEN_NONE;
    obj->abort_op = op;
    if (!hl_sftp_drain_begin(obj, HL_DRAIN_ABORT)) {
        obj->abort_op = NULL;
        hl_op_finish(loop_of(ep), op, 0);
    }
    pthread_mutex_unlock(&ep->lock);
}

static void unstall(struct hl_object *base)
{
    struct hl_sftp_ep *ep = obj_of(base)->ep;
    uint32_t i;

    pthread_mutex_lock(&ep->lock);
    for (i = 0; i < HL_SFTP_CONNS_MAX; i++) {
        if (!ep->conns[i] || ep->conns[i]->state != HL_CONN_UP)
            continue;
        atomic_store(&ep->conns[i]->unstall, true);
        hl_sftp_wake(ep->conns[i]);
    }
    pthread_mutex_unlock(&ep->lock);
}

static const char *const schemes[] = {"sftp", NULL};

const struct hl_driver hl_driver_sftp = {
    .name = "sftp",
    .schemes = schemes,
    .endpoint_new = endpoint_new,
    .endpoint_free = endpoint_free,
    .object_new = object_new,
    .close = close_object,
    .stat = stat_object,
    .open = open_object,
    .read = read_object,
    .write = write_object,
    .sync = sync_object,
    .commit = commit_object,
    .suspend = suspend_object,
    .discard = discard_object,
    .remote_digest = digest_object,
    .token_saved = token_saved,
    .abort = abort_object,
    .unstall = unstall,
    .set_streams = set_streams,
    .flow = flow,
};
