/*
 * Jobs that make a target last: sync, commit, suspend, and the digest that the
 * server computes. Runs on the thread of the connection that has the stream;
 * see sftp.h.
 */
#include "sftp.h"

#include <ctype.h>
#include <string.h>

static struct hl_commit *commit_of(struct hl_sftp_job *job)
{
    return HL_CONTAINER(job->op, struct hl_commit, op);
}

static bool status_ok(const struct hl_sftp_reply *reply)
{
    return reply->type == HL_SFTP_STATUS && reply->status == HL_FX_OK;
}

static void send_handle(struct hl_sftp_job *job, enum hl_sftp_type type,
                        hl_sftp_reply_fn *fn)
{
    uint32_t id;
    struct hl_sftp_out *o = hl_sftp_job_call(job, fn, &id);

    if (!o)
        return;
    hl_sftp_put_handle(o, type, id, hl_sftp_fh_bytes(job->fh));
    hl_sftp_send(job->st, o);
}

static void send_fsetstat(struct hl_sftp_job *job,
                          const struct hl_sftp_attrs *attrs,
                          hl_sftp_reply_fn *fn)
{
    uint32_t id;
    struct hl_sftp_out *o = hl_sftp_job_call(job, fn, &id);

    if (!o)
        return;
    hl_sftp_put_fsetstat(o, id, hl_sftp_fh_bytes(job->fh), attrs);
    hl_sftp_send(job->st, o);
}

static void send_extended(struct hl_sftp_job *job, const char *name,
                          struct hl_sftp_bytes a, struct hl_sftp_bytes b,
                          hl_sftp_reply_fn *fn)
{
    uint32_t id;
    struct hl_sftp_out *o = hl_sftp_job_call(job, fn, &id);

    if (!o)
        return;
    hl_sftp_put_extended(o, id, name, a, b);
    hl_sftp_send(job->st, o);
}

static void send_fsync(struct hl_sftp_job *job, hl_sftp_reply_fn *fn)
{
    send_extended(job, "fsync@openssh.com", hl_sftp_fh_bytes(job->fh),
                  (struct hl_sftp_bytes){NULL, 0}, fn);
}

/* ---- Sync --------------------------------------------------------------- */

static void sync_done(struct hl_sftp_stream *st, void *ctx,
                      const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (status_ok(reply))
        hl_sftp_job_finish(job, 0);
    else
        hl_sftp_job_finish(job,
                           hl_sftp_status_err(&job->error, reply,
                                              "make durable", job->obj->work));
}

static void sync_has_fh(struct hl_sftp_job *job)
{
    send_fsync(job, sync_done);
}

void hl_sftp_sync_start(struct hl_sftp_job *job)
{
    if (job->st->server.fsync)
        hl_sftp_job_with_fh(job, sync_has_fh);
    else
        hl_sftp_job_finish(job, hl_err(&job->error, HAUL_E_NOTSUP, 0,
                                       "'%s' has no fsync@openssh.com",
                                       job->obj->ep->name));
}

/* ---- Commit: the name --------------------------------------------------- */

static void rename_failed(struct hl_sftp_job *job,
                          const struct hl_sftp_reply *reply)
{
    int rc = hl_sftp_refusal(&job->error, reply, "rename to", job->obj->path);

    if (!job->error.hint[0])
        hl_err_hint(&job->error, "The complete file is '%.180s'.",
                    job->obj->work);
    hl_sftp_job_finish(job, rc);
}

static void send_rename(struct hl_sftp_job *job, hl_sftp_reply_fn *fn)
{
    uint32_t id;
    struct hl_sftp_out *o = hl_sftp_job_call(job, fn, &id);

    if (!o)
        return;
    hl_sftp_put_rename(o, id, job->obj->work, job->obj->path);
    hl_sftp_send(job->st, o);
}

static void renamed_last(struct hl_sftp_stream *st, void *ctx,
                         const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (status_ok(reply))
        hl_sftp_job_finish(job, 0);
    else
        rename_failed(job, reply);
}

static void old_removed(struct hl_sftp_stream *st, void *ctx,
                        const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (status_ok(reply))
        send_rename(job, renamed_last);
    else
        rename_failed(job, reply);
}

/* A RENAME of version 3 fails when the name is taken. The new file is
 * complete and checked, so the old one may go. */
static void renamed(struct hl_sftp_stream *st, void *ctx,
                    const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (status_ok(reply))
        hl_sftp_job_finish(job, 0);
    else
        hl_sftp_job_send_path(job, HL_SFTP_REMOVE, job->obj->path, old_removed);
}

static void posix_renamed(struct hl_sftp_stream *st, void *ctx,
                          const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (status_ok(reply))
        hl_sftp_job_finish(job, 0);
    else
        send_rename(job, renamed);
}

static void temp_removed(struct hl_sftp_stream *st, void *ctx,
                         const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    /* The file stands under its name; that the other one is left is no
     * reason to call it a failure. */
    if (hl_sftp_job_reply(job, reply))
        hl_sftp_job_finish(job, 0);
}

/* no_clobber, and there is no hard link to be had. */
static void name_looked_up(struct hl_sftp_stream *st, void *ctx,
                           const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (reply->type == HL_SFTP_ATTRS)
        hl_sftp_job_finish(job, hl_err(&job->error, HAUL_E_EXISTS, 0,
                                       "'%s' exists", job->obj->path));
    else
        send_rename(job, renamed_last);
}

static void linked(struct hl_sftp_stream *st, void *ctx,
                   const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (status_ok(reply))
        hl_sftp_job_send_path(job, HL_SFTP_REMOVE, job->obj->work,
                              temp_removed);
    else
        hl_sftp_job_send_path(job, HL_SFTP_STAT, job->obj->path,
                              name_looked_up);
}

static void give_name(struct hl_sftp_job *job)
{
    const struct hl_sftp_server *server = &job->st->server;
    struct hl_sftp_bytes work = hl_sftp_text(job->obj->work);
    struct hl_sftp_bytes path = hl_sftp_text(job->obj->path);

    if (job->obj->in_place)
        hl_sftp_job_finish(job, 0);
    else if (commit_of(job)->no_clobber && server->hardlink)
        send_extended(job, "hardlink@openssh.com", work, path, linked);
    else if (commit_of(job)->no_clobber)
        hl_sftp_job_send_path(job, HL_SFTP_STAT, job->obj->path,
                              name_looked_up);
    else if (server->posix_rename)
        send_extended(job, "posix-rename@openssh.com", work, path,
                      posix_renamed);
    else
        send_rename(job, renamed);
}

/* ---- Commit: the content ------------------------------------------------ */

/* All requests for the open handle go out together, and with them the closing
 * of the others, whose writes are all answered: a server has to treat requests
 * about one file in order (the draft, section 6.1). The name is given when all
 * of it has gone well. */
static void commit_step_done(struct hl_sftp_job *job)
{
    if (job->pending || !job->others_closed)
        return;
    if (job->error.code)
        hl_sftp_job_finish(job, job->error.code);
    else
        give_name(job);
}

static void commit_cut(struct hl_sftp_stream *st, void *ctx,
                       const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (!status_ok(reply))
        hl_sftp_status_err(&job->error, reply, "cut", job->obj->work);
    commit_step_done(job);
}

static void commit_stated(struct hl_sftp_stream *st, void *ctx,
                          const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;
    struct hl_commit *op;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    op = commit_of(job);
    op->size_checked =
        reply->type == HL_SFTP_ATTRS && (reply->attrs.flags & HL_ATTR_SIZE);
    if (op->size_checked && reply->attrs.size != op->size)
        hl_err(&job->error, HAUL_E_REMOTE_IO, 0,
               "'%s' has %llu bytes on the server, not %llu", job->obj->work,
               (unsigned long long)reply->attrs.size,
               (unsigned long long)op->size);
    commit_step_done(job);
}

static void commit_attrs_set(struct hl_sftp_stream *st, void *ctx,
                             const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;
    const struct hl_env *env = job->obj->ep->base.env;
    struct hl_error warning = {0};

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (!status_ok(reply) && env->warn) {
        hl_sftp_status_err(&warning, reply, "set mode and time of",
                           job->obj->path);
        env->warn(env, &warning);
    }
    commit_step_done(job);
}

static void commit_synced(struct hl_sftp_stream *st, void *ctx,
                          const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    commit_of(job)->durable = status_ok(reply);
    if (!status_ok(reply) && !(reply->type == HL_SFTP_STATUS &&
                               reply->status == HL_FX_OP_UNSUPPORTED))
        hl_sftp_status_err(&job->error, reply, "make durable", job->obj->work);
    commit_step_done(job);
}

static void commit_closed(struct hl_sftp_stream *st, void *ctx,
                          const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (reply) {
        hl_sftp_fh_free(job->fh);
        job->fh = NULL;
    }
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (!status_ok(reply))
        hl_sftp_status_err(&job->error, reply, "close", job->obj->work);
    commit_step_done(job);
}

static void send_attrs(struct hl_sftp_job *job)
{
    const struct hl_commit *op = commit_of(job);
    struct hl_sftp_attrs attrs = {0};
    int64_t seconds = op->mtime_ns / (int64_t)HL_NS_PER_S;

    if (op->mode) {
        attrs.flags |= HL_ATTR_PERMISSIONS;
        attrs.mode = op->mode & 07777;
    }
    if (op->mtime_ns && seconds >= 0 && seconds <= UINT32_MAX) {
        attrs.flags |= HL_ATTR_ACMODTIME;
        attrs.atime = attrs.mtime = (uint32_t)seconds;
    }
    if (attrs.flags)
        send_fsetstat(job, &attrs, commit_attrs_set);
}

static void commit_drained(struct hl_sftp_job *job)
{
    job->others_closed = true;
    if (job->rc)
        hl_sftp_job_finish(job, job->rc);
    else
        commit_step_done(job);
}

static void send_content(struct hl_sftp_job *job)
{
    const struct hl_commit *op = commit_of(job);
    struct hl_sftp_attrs cut = {.flags = HL_ATTR_SIZE, .size = op->size};

    /* What was there before may have been longer. */
    if (job->obj->existing > op->size)
        send_fsetstat(job, &cut, commit_cut);
    if (job->op)
        send_handle(job, HL_SFTP_FSTAT, commit_stated);
    if (job->op)
        send_attrs(job);
    if (job->op && job->st->server.fsync)
        send_fsync(job, commit_synced);
    if (!job->op)
        return;
    job->fh->state = HL_FH_CLOSING;
    send_handle(job, HL_SFTP_CLOSE, commit_closed);
}

static void commit_has_fh(struct hl_sftp_job *job)
{
    pthread_mutex_lock(&job->obj->ep->lock);
    job->obj->keep = job->fh;
    pthread_mutex_unlock(&job->obj->ep->lock);
    send_content(job);
    if (job->op)
        hl_sftp_job_drain(job, commit_drained);
}

void hl_sftp_commit_start(struct hl_sftp_job *job)
{
    commit_of(job)->durable = commit_of(job)->size_checked = false;
    hl_sftp_job_with_fh(job, commit_has_fh);
}

/* ---- Suspend ------------------------------------------------------------ */

static void suspended(struct hl_sftp_job *job)
{
    hl_sftp_job_finish(job, job->rc);
}

static void suspend_cut(struct hl_sftp_stream *st, void *ctx,
                        const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (status_ok(reply))
        hl_sftp_job_drain(job, suspended);
    else
        hl_sftp_job_finish(
            job, hl_sftp_status_err(&job->error, reply, "cut", job->obj->work));
}

static void suspend_has_fh(struct hl_sftp_job *job)
{
    const struct hl_suspend *op = HL_CONTAINER(job->op, struct hl_suspend, op);
    struct hl_sftp_attrs cut = {.flags = HL_ATTR_SIZE, .size = op->contiguous};

    send_fsetstat(job, &cut, suspend_cut);
}

/* A file under its final name is left without holes, so that whoever goes on
 * from its size (sftp put -a) goes on from the right place. */
void hl_sftp_suspend_start(struct hl_sftp_job *job)
{
    if (job->obj->in_place)
        hl_sftp_job_with_fh(job, suspend_has_fh);
    else
        hl_sftp_job_drain(job, suspended);
}

/* ---- Digest ------------------------------------------------------------- */

static int exec_data(ssh_session session, ssh_channel channel, void *data,
                     uint32_t len, int is_stderr, void *user)
{
    struct hl_sftp_job *job = user;
    size_t n = hl_min(len, sizeof(job->exec_out) - 1 - job->exec_len);

    (void)session;
    (void)channel;
    if (!is_stderr && n) {
        memcpy(job->exec_out + job->exec_len, data, n);
        job->exec_len += n;
    }
    job->st->conn->kick = true;
    return (int)len;
}

static void no_digest(struct hl_sftp_job *job)
{
    hl_sftp_job_finish(job, hl_err(&job->error, HAUL_E_NOTSUP, 0,
                                   "'%s' computes no digest of files",
                                   job->obj->ep->name));
}

/* "'" becomes "'\''" (POSIX shell, 2.2.2). */
static char *shell_command(const char *program, const char *path)
{
    char *quoted = hl_malloc(strlen(path) * 4 + 1), *command, *p = quoted;

    if (!quoted)
        return NULL;
    for (; *path; path++) {
        if (*path == '\'') {
            memcpy(p, "'\\''", 4);
            p += 4;
        } else {
            *p++ = *path;
        }
    }
    command = hl_asprintf("%s -- '%s'", program, quoted);
    hl_free(quoted);
    return command;
}

/* "DIGEST  NAME"; a backslash stands before it when NAME is escaped. */
static void parse_digest(struct hl_sftp_job *job)
{
    struct hl_remote_digest *op =
        HL_CONTAINER(job->op, struct hl_remote_digest, op);
    size_t i, want = strcmp(op->algorithm, "sha256") == 0 ? 64 : 32;
    const char *p = job->exec_out;

    if (*p == '\\')
        p++;
    for (i = 0; i < want && isxdigit((unsigned char)p[i]); i++)
        op->hex[i] = (char)tolower((unsigned char)p[i]);
    op->hex[i] = '\0';
    if (i == want && p[i] == ' ')
        hl_sftp_job_finish(job, 0);
    else
        no_digest(job);
}

static int exec_request(struct hl_sftp_job *job)
{
    const struct hl_remote_digest *op =
        HL_CONTAINER(job->op, struct hl_remote_digest, op);
    bool sha = strcmp(op->algorithm, "sha256") == 0;
    const char *path = job->obj->work ? job->obj->work : job->obj->path;
    char *command = shell_command(sha ? "sha256sum" : "xxh128sum",
                                  op->probe ? "/dev/null" : path);
    int rc = command ? ssh_channel_request_exec(job->exec, command) : SSH_ERROR;

    hl_free(command);
    return rc;
}

void hl_sftp_digest_step(struct hl_sftp_job *job)
{
    int rc = SSH_OK;

    if (!job->exec_sent) {
        if (!ssh_channel_is_open(job->exec))
            rc = ssh_channel_open_session(job->exec);
        if (rc == SSH_OK)
            rc = exec_request(job);
        if (rc == SSH_OK) {
            job->exec_sent = true;
            /* A forced command (internal-sftp) ends when it reads this. */
            rc = ssh_channel_send_eof(job->exec);
        }
    }
    if (rc == SSH_ERROR)
        no_digest(job);
    else if (job->exec_sent && (ssh_channel_is_eof(job->exec) ||
                                ssh_channel_is_closed(job->exec)))
        parse_digest(job);
}

void hl_sftp_digest_start(struct hl_sftp_job *job)
{
    const struct hl_remote_digest *op =
        HL_CONTAINER(job->op, struct hl_remote_digest, op);

    if (strcmp(op->algorithm, "sha256") && strcmp(op->algorithm, "xxh128")) {
        no_digest(job);
        return;
    }
    job->exec = ssh_channel_new(job->st->conn->session);
    if (!job->exec) {
        hl_sftp_job_finish(job, HAUL_E_NOMEM);
        return;
    }
    job->exec_callbacks.userdata = job;
    job->exec_callbacks.channel_data_function = exec_data;
    ssh_callbacks_init(&job->exec_callbacks);
    ssh_set_channel_callbacks(job->exec, &job->exec_callbacks);
    hl_sftp_digest_step(job);
}
