/*
 * Files of the server: handles, and the jobs that stat and discard.
 * Runs on the thread of the connection that has the stream; see sftp.h.
 *
 * A job is a chain of reply functions. Its operation is handed back by
 * hl_sftp_job_finish(); what comes after that for the job is thrown away.
 */
#include "sftp.h"

#include <string.h>
#include <sys/stat.h>

static struct hl_loop *loop_of(const struct hl_sftp_obj *obj)
{
    return obj->ep->base.env->loop;
}

/* ---- Status ------------------------------------------------------------- */

bool hl_sftp_says_full(const struct hl_sftp_reply *reply)
{
    static const char *const words[] = {"space", "quota", "Quota", "full"};
    size_t i;

    if (reply->type != HL_SFTP_STATUS || !reply->bytes.len)
        return false;
    for (i = 0; i < HL_LEN(words); i++)
        if (memmem(reply->bytes.p, reply->bytes.len, words[i],
                   strlen(words[i])))
            return true;
    return false;
}

int hl_sftp_status_err(struct hl_error *err, const struct hl_sftp_reply *reply,
                       const char *what, const char *path)
{
    int rc = HAUL_E_REMOTE_IO;
    const char *why = "the server failed", *hint = NULL;

    if (reply->type != HL_SFTP_STATUS || reply->status == HL_FX_OK)
        return hl_err(err, HAUL_E_PROTO, 0,
                      "cannot %s '%s': unexpected SFTP reply", what, path);
    if (reply->status == HL_FX_NO_SUCH_FILE) {
        rc = HAUL_E_REMOTE;
        why = "no such file or folder";
        hint = "Check the path on the server.";
    } else if (reply->status == HL_FX_PERMISSION_DENIED) {
        rc = HAUL_E_REMOTE;
        why = "permission denied";
        hint = "Check who may do this on the server.";
    } else if (reply->status == HL_FX_OP_UNSUPPORTED) {
        rc = HAUL_E_NOTSUP;
        why = "the server does not support it";
    } else if (hl_sftp_says_full(reply)) {
        rc = HAUL_E_REMOTE_FULL;
        why = "no space left on the server";
        hint = "Free some space there and run the same command again.";
    }
    rc = hl_err(err, rc, 0, "cannot %s '%s': %s", what, path, why);
    if (err && !err->proto_status)
        err->proto_status = (int)reply->status;
    if (reply->bytes.len)
        hl_err_detail(err, "SSH_FX status %u: %.*s", reply->status,
                      (int)hl_min(reply->bytes.len, 200),
                      (const char *)reply->bytes.p);
    else
        hl_err_detail(err, "SSH_FX status %u", reply->status);
    if (hint)
        hl_err_hint(err, "%s", hint);
    return rc;
}

int hl_sftp_refusal(struct hl_error *err, const struct hl_sftp_reply *reply,
                    const char *what, const char *path)
{
    int rc = hl_sftp_status_err(err, reply, what, path);

    if (rc == HAUL_E_REMOTE_IO || rc == HAUL_E_NOTSUP)
        rc = err->code = HAUL_E_REMOTE;
    return rc;
}

/* ---- Writes that failed ------------------------------------------------- */

struct lost {
    struct hl_sftp_fh *fh;
    uint64_t offset;
    uint32_t len;
    struct hl_error error;
};

static void lost_report(struct hl_sftp_stream *st, void *ctx,
                        const struct hl_sftp_reply *reply)
{
    struct lost *lost = ctx;
    struct hl_sftp_fh *fh = lost->fh;
    uint64_t room;

    if (reply && reply->type == HL_SFTP_EXTENDED_REPLY &&
        !hl_sftp_statvfs_parse(reply->bytes, &room) &&
        room < lost->len + (UINT64_C(1) << 20)) {
        lost->error = (struct hl_error){.proto_status = HL_FX_FAILURE};
        hl_err(&lost->error, HAUL_E_REMOTE_FULL, 0,
               "cannot write '%s': no space left on the server", fh->obj->work);
        hl_err_hint(&lost->error, "Free some space there and run the same "
                                  "command again.");
    }
    if (!fh->muted)
        hl_object_lost(&fh->obj->base, lost->offset, lost->len, &lost->error);
    hl_free(lost);
    fh->outstanding--;
    if (st->state != HL_ST_DEAD && !fh->outstanding)
        hl_sftp_fh_idle(fh);
}

void hl_sftp_write_forget(const struct hl_sftp_req *req,
                          const struct hl_sftp_fh *fh)
{
    const struct lost *lost = req->ctx;

    if (req->fn == lost_report && lost->fh == fh)
        hl_object_lost(&fh->obj->base, lost->offset, lost->len, &lost->error);
}

void hl_sftp_write_lost(struct hl_sftp_stream *st,
                        const struct hl_sftp_req *req)
{
    struct hl_sftp_reply reply = {.type = HL_SFTP_STATUS,
                                  .status = req->status};
    struct lost copy = {req->fh, req->offset, req->len, {0}};
    struct lost *lost;
    struct hl_sftp_out *o = NULL;
    uint32_t id;

    if (req->full)
        reply.bytes = hl_sftp_text("no space");
    hl_sftp_status_err(&copy.error, &reply, "write", req->fh->obj->work);
    lost = hl_malloc(sizeof(*lost));
    if (lost)
        *lost = copy;
    if (lost && copy.error.code == HAUL_E_REMOTE_IO && st->server.statvfs)
        o = hl_sftp_call(st, lost_report, lost, &id);
    if (o) {
        copy.fh->outstanding++;
        hl_sftp_put_extended(o, id, "statvfs@openssh.com",
                             hl_sftp_text(copy.fh->obj->work),
                             (struct hl_sftp_bytes){NULL, 0});
        hl_sftp_send(st, o);
        return;
    }
    hl_free(lost);
    hl_object_lost(&copy.fh->obj->base, copy.offset, copy.len, &copy.error);
}

/* ---- Handles ------------------------------------------------------------ */

struct hl_sftp_fh *hl_sftp_fh_find(struct hl_sftp_stream *st,
                                   const struct hl_sftp_obj *obj)
{
    struct hl_node *n;

    for (n = hl_list_first(&st->fhs); n; n = hl_list_next(&st->fhs, n)) {
        struct hl_sftp_fh *fh = HL_CONTAINER(n, struct hl_sftp_fh, node);

        /* A muted one is of the object's life before an abort. */
        if (fh->obj == obj && !fh->muted)
            return fh;
    }
    return NULL;
}

struct hl_sftp_bytes hl_sftp_fh_bytes(const struct hl_sftp_fh *fh)
{
    return (struct hl_sftp_bytes){fh->handle, fh->handle_len};
}

static void uncount(struct hl_sftp_fh *fh)
{
    pthread_mutex_lock(&fh->obj->ep->lock);
    if (fh->counted)
        fh->obj->handles--;
    fh->counted = false;
    if (fh->obj->keep == fh)
        fh->obj->keep = NULL;
    pthread_mutex_unlock(&fh->obj->ep->lock);
}

struct hl_sftp_fh *hl_sftp_fh_new(struct hl_sftp_stream *st,
                                  struct hl_sftp_obj *obj)
{
    struct hl_sftp_fh *fh = hl_malloc(sizeof(*fh));

    if (!fh) {
        pthread_mutex_lock(&obj->ep->lock);
        obj->handles--;
        pthread_mutex_unlock(&obj->ep->lock);
        return NULL;
    }
    fh->st = st;
    fh->obj = obj;
    fh->counted = true;
    atomic_fetch_add(&obj->refs, 1);
    hl_list_append(&st->fhs, &fh->node);
    return fh;
}

void hl_sftp_fh_free(struct hl_sftp_fh *fh)
{
    if (fh->st->ack_fh == fh)
        hl_sftp_stream_flush_acks(fh->st);
    uncount(fh);
    hl_list_remove(&fh->node);
    fh->st->conn->kick = true;
    hl_sftp_obj_unref(fh->obj);
    hl_free(fh);
}

void hl_sftp_fh_set(struct hl_sftp_fh *fh, const struct hl_sftp_reply *reply)
{
    fh->state = HL_FH_OPEN;
    fh->handle_len = (uint32_t)reply->bytes.len; /* checked when parsed */
    memcpy(fh->handle, reply->bytes.p, reply->bytes.len);
    fh->st->conn->kick = true;
}

static void fh_opened(struct hl_sftp_stream *st, void *ctx,
                      const struct hl_sftp_reply *reply)
{
    struct hl_sftp_fh *fh = ctx;

    (void)st;
    if (!reply)
        return; /* the dying stream frees its handles */
    if (reply->type == HL_SFTP_HANDLE) {
        hl_sftp_fh_set(fh, reply);
        hl_sftp_fh_idle(fh);
        return;
    }
    hl_sftp_refusal(&fh->error, reply, "open", fh->obj->work);
    fh->state = HL_FH_FAILED;
    uncount(fh);
    st->conn->kick = true;
    if (fh->close_wanted)
        hl_sftp_fh_free(fh);
}

struct hl_sftp_fh *hl_sftp_fh_open(struct hl_sftp_stream *st,
                                   struct hl_sftp_obj *obj)
{
    static const struct hl_sftp_attrs none = {0};
    struct hl_sftp_fh *fh = hl_sftp_fh_new(st, obj);
    struct hl_sftp_out *o;
    uint32_t id;

    if (!fh)
        return NULL;
    o = hl_sftp_call(st, fh_opened, fh, &id);
    if (!o) {
        hl_sftp_fh_free(fh);
        return NULL;
    }
    hl_sftp_put_open(o, id, obj->work, obj->open_flags, &none);
    hl_sftp_send(st, o);
    return fh;
}

static void fh_closed(struct hl_sftp_stream *st, void *ctx,
                      const struct hl_sftp_reply *reply)
{
    struct hl_sftp_fh *fh = ctx;
    struct hl_sftp_obj *obj = fh->obj;

    (void)st;
    if (!reply)
        return;
    if (!fh->muted &&
        (reply->type != HL_SFTP_STATUS || reply->status != HL_FX_OK)) {
        struct hl_error error = {0};

        hl_sftp_status_err(&error, reply, "close", obj->work);
        pthread_mutex_lock(&obj->ep->lock);
        if (!obj->drain_error.code)
            obj->drain_error = error;
        pthread_mutex_unlock(&obj->ep->lock);
    }
    hl_sftp_fh_free(fh);
}

void hl_sftp_fh_idle(struct hl_sftp_fh *fh)
{
    struct hl_sftp_out *o;
    uint32_t id;

    if (!fh->close_wanted || fh->state != HL_FH_OPEN || fh->outstanding)
        return;
    fh->state = HL_FH_CLOSING;
    o = hl_sftp_call(fh->st, fh_closed, fh, &id);
    if (!o) {
        hl_sftp_stream_die(fh->st, HAUL_E_NOMEM, "out of memory");
        return;
    }
    hl_sftp_put_handle(o, HL_SFTP_CLOSE, id, hl_sftp_fh_bytes(fh));
    hl_sftp_send(fh->st, o);
}

void hl_sftp_fh_close(struct hl_sftp_fh *fh)
{
    fh->close_wanted = true;
    if (fh->state == HL_FH_FAILED)
        hl_sftp_fh_free(fh);
    else
        hl_sftp_fh_idle(fh);
}

/* ---- Jobs --------------------------------------------------------------- */

struct hl_sftp_job *hl_sftp_job_new(struct hl_sftp_obj *obj,
                                    enum hl_sftp_job_kind kind,
                                    struct hl_op *op)
{
    struct hl_sftp_job *job = hl_malloc(sizeof(*job));

    if (!job)
        return NULL;
    job->kind = kind;
    job->obj = obj;
    job->op = op;
    atomic_fetch_add(&obj->refs, 1);
    return job;
}

void hl_sftp_job_free(struct hl_sftp_job *job)
{
    HL_ASSERT(!job->op && !job->pending);
    if (job->exec) {
        ssh_remove_channel_callbacks(job->exec, &job->exec_callbacks);
        ssh_channel_free(job->exec);
    }
    hl_sftp_obj_unref(job->obj);
    hl_free(job->try_path);
    hl_free(job->token);
    hl_free(job);
}

void hl_sftp_job_finish(struct hl_sftp_job *job, int rc)
{
    struct hl_op *op = job->op;

    if (!op)
        return;
    job->op = NULL;
    job->wait = HL_WAIT_NONE;
    if (job->st)
        job->st->conn->kick = true;
    if (rc)
        op->error = job->error;
    hl_op_finish(loop_of(job->obj), op, rc);
}

struct hl_sftp_out *hl_sftp_job_call(struct hl_sftp_job *job,
                                     hl_sftp_reply_fn *fn, uint32_t *id)
{
    struct hl_sftp_out *o = hl_sftp_call(job->st, fn, job, id);

    if (o) {
        job->pending++;
        return o;
    }
    hl_sftp_job_finish(job, job->st->state == HL_ST_DEAD ? HAUL_E_RESET
                                                         : HAUL_E_NOMEM);
    return NULL;
}

bool hl_sftp_job_reply(struct hl_sftp_job *job,
                       const struct hl_sftp_reply *reply)
{
    job->pending--;
    job->st->conn->kick = true;
    if (!reply && job->op) {
        if (!job->error.code)
            job->error = job->st->error;
        hl_sftp_job_finish(job, job->error.code);
    }
    return job->op != NULL;
}

static bool wait_over(struct hl_sftp_job *job)
{
    struct hl_sftp_obj *obj = job->obj;
    bool over = false;

    pthread_mutex_lock(&obj->ep->lock);
    if (job->wait == HL_WAIT_TOKEN)
        over = obj->token == HL_TOKEN_SAVED || obj->token == HL_TOKEN_FAILED;
    else if (job->wait == HL_WAIT_DRAIN)
        over = obj->drain == HL_DRAIN_NONE;
    pthread_mutex_unlock(&obj->ep->lock);
    if (job->wait == HL_WAIT_FH)
        over = job->fh->state == HL_FH_OPEN || job->fh->state == HL_FH_FAILED;
    return over;
}

void hl_sftp_jobs_kick(struct hl_sftp_conn *conn)
{
    struct hl_node *n, *next;

    for (n = hl_list_first(&conn->jobs); n; n = next) {
        struct hl_sftp_job *job = HL_CONTAINER(n, struct hl_sftp_job, node);

        next = hl_list_next(&conn->jobs, n);
        if (job->op && job->wait && wait_over(job)) {
            job->wait = HL_WAIT_NONE;
            job->resume(job);
        }
        if (job->op && job->exec) {
            hl_sftp_digest_step(job);
            conn->setting_up = true;
        }
        if (!job->op && !job->pending) {
            hl_list_remove(n);
            hl_sftp_job_free(job);
        }
    }
}

static void fh_ready(struct hl_sftp_job *job)
{
    if (job->fh->state == HL_FH_FAILED) {
        job->error = job->fh->error;
        hl_sftp_job_finish(job, job->error.code);
        return;
    }
    job->next(job);
}

void hl_sftp_job_with_fh(struct hl_sftp_job *job,
                         void (*resume)(struct hl_sftp_job *job))
{
    struct hl_sftp_obj *obj = job->obj;

    job->fh = hl_sftp_fh_find(job->st, obj);
    if (job->fh && job->fh->state == HL_FH_FAILED) {
        hl_sftp_fh_free(job->fh);
        job->fh = NULL;
    }
    if (!job->fh) {
        pthread_mutex_lock(&obj->ep->lock);
        obj->handles++;
        pthread_mutex_unlock(&obj->ep->lock);
        job->fh = hl_sftp_fh_open(job->st, obj);
    }
    if (!job->fh) {
        hl_sftp_job_finish(job, HAUL_E_NOMEM);
        return;
    }
    job->next = resume;
    job->resume = fh_ready;
    job->wait = HL_WAIT_FH;
    if (job->fh->state != HL_FH_OPENING) {
        job->wait = HL_WAIT_NONE;
        fh_ready(job);
    }
}

static void drained(struct hl_sftp_job *job)
{
    pthread_mutex_lock(&job->obj->ep->lock);
    if (job->obj->drain_error.code)
        job->error = job->obj->drain_error;
    pthread_mutex_unlock(&job->obj->ep->lock);
    job->rc = job->error.code;
    job->next(job);
}

void hl_sftp_job_drain(struct hl_sftp_job *job,
                       void (*resume)(struct hl_sftp_job *job))
{
    struct hl_sftp_obj *obj = job->obj;
    bool wait;

    job->next = resume;
    job->resume = drained;
    pthread_mutex_lock(&obj->ep->lock);
    obj->drain_error = (struct hl_error){0};
    wait = obj->handles > (obj->keep ? 1 : 0) &&
           hl_sftp_drain_begin(obj, HL_DRAIN_CLOSE);
    pthread_mutex_unlock(&obj->ep->lock);
    job->wait = wait ? HL_WAIT_DRAIN : HL_WAIT_NONE;
    if (!wait)
        drained(job);
}

/* ---- Stat and discard --------------------------------------------------- */

bool hl_sftp_is_folder(const struct hl_sftp_attrs *a)
{
    return (a->flags & HL_ATTR_PERMISSIONS) && S_ISDIR(a->mode);
}

/* Both answers are here. */
static void stat_over(struct hl_sftp_job *job)
{
    if (!job->pending)
        hl_sftp_job_finish(job, job->error.code);
}

static void stat_done(struct hl_sftp_stream *st, void *ctx,
                      const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;
    struct hl_sftp_obj *obj = job->obj;
    struct hl_stat *op;

    if (!hl_sftp_job_reply(job, reply))
        return;
    op = HL_CONTAINER(job->op, struct hl_stat, op);
    op->exists = reply->type == HL_SFTP_ATTRS;
    if (op->exists) {
        op->is_folder = hl_sftp_is_folder(&reply->attrs);
        op->size = reply->attrs.size;
        op->mtime_ns = (int64_t)reply->attrs.mtime * (int64_t)HL_NS_PER_S;
        op->mode = reply->attrs.mode & 07777;
    } else if (reply->type != HL_SFTP_STATUS ||
               reply->status != HL_FX_NO_SUCH_FILE) {
        hl_sftp_refusal(&job->error, reply, "look at", obj->path);
    }
    if (!job->error.code) {
        obj->seen_ns = st->conn->now_ns;
        obj->seen_exists = op->exists;
        obj->seen_folder = op->is_folder;
    }
    stat_over(job);
}

static void stat_room_known(struct hl_sftp_stream *st, void *ctx,
                            const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (reply->type != HL_SFTP_EXTENDED_REPLY ||
        hl_sftp_statvfs_parse(reply->bytes, &job->obj->seen_room))
        job->obj->seen_room = UINT64_MAX;
    stat_over(job);
}

bool hl_sftp_job_ask_room(struct hl_sftp_job *job, hl_sftp_reply_fn *fn)
{
    const char *path = job->obj->path, *slash = strrchr(path, '/');
    struct hl_sftp_bytes folder = hl_sftp_text(slash ? path : ".");
    struct hl_sftp_out *o;
    uint32_t id;

    if (!job->st->server.statvfs)
        return true;
    if (slash)
        folder.len = (size_t)hl_max(1, (uint64_t)(slash - path));
    o = hl_sftp_job_call(job, fn, &id);
    if (!o)
        return false;
    hl_sftp_put_extended(o, id, "statvfs@openssh.com", folder,
                         (struct hl_sftp_bytes){NULL, 0});
    hl_sftp_send(job->st, o);
    return true;
}

/* The room is asked for in the same round trip: open will want it. */
static void stat_start(struct hl_sftp_job *job)
{
    job->obj->seen_room = UINT64_MAX;
    if (job->obj->base.role == HL_ROLE_TARGET &&
        !hl_sftp_job_ask_room(job, stat_room_known))
        return;
    hl_sftp_job_send_path(job, HL_SFTP_STAT, job->obj->path, stat_done);
}

void hl_sftp_job_send_path(struct hl_sftp_job *job, enum hl_sftp_type type,
                           const char *path, hl_sftp_reply_fn *fn)
{
    uint32_t id;
    struct hl_sftp_out *o = hl_sftp_job_call(job, fn, &id);

    if (!o)
        return;
    hl_sftp_put_path(o, type, id, path);
    hl_sftp_send(job->st, o);
}

static void discard_done(struct hl_sftp_stream *st, void *ctx,
                         const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (reply->type == HL_SFTP_STATUS &&
        (reply->status == HL_FX_OK || reply->status == HL_FX_NO_SUCH_FILE))
        hl_sftp_job_finish(job, 0);
    else
        hl_sftp_job_finish(
            job, hl_sftp_refusal(&job->error, reply, "remove", job->token + 4));
}

/* A file that was written in place was there before, or has the name that
 * the user wanted: it stays. */
static void discard_drained(struct hl_sftp_job *job)
{
    job->error = (struct hl_error){0};
    if (job->token && strncmp(job->token, "tmp:", 4) == 0)
        hl_sftp_job_send_path(job, HL_SFTP_REMOVE, job->token + 4,
                              discard_done);
    else
        hl_sftp_job_finish(job, 0);
}

void hl_sftp_job_start(struct hl_sftp_job *job)
{
    switch (job->kind) {
    case HL_JOB_STAT:
        stat_start(job);
        break;
    case HL_JOB_OPEN:
        hl_sftp_open_start(job);
        break;
    case HL_JOB_DISCARD:
        hl_sftp_job_drain(job, discard_drained);
        break;
    case HL_JOB_SYNC:
        hl_sftp_sync_start(job);
        break;
    case HL_JOB_COMMIT:
        hl_sftp_commit_start(job);
        break;
    case HL_JOB_SUSPEND:
        hl_sftp_suspend_start(job);
        break;
    case HL_JOB_DIGEST:
        hl_sftp_digest_start(job);
        break;
    }
}
