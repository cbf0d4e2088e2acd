/*
 * The file driver: files, pipes, devices and standard input and output.
 *
 * Threads: the slots run on the engine thread and only queue. Up to four
 * threads "haul-file" do what blocks; "haul-ring" reads and writes regular
 * files; each pipe, device or "-" has a "haul-stream". See file.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "drivers.h"
#include "file.h"

static struct hl_file_obj *file_obj(struct hl_object *obj)
{
    return HL_CONTAINER(obj, struct hl_file_obj, base);
}

int hl_file_write_error(struct hl_error *err, int sys_errno, const char *what,
                        const char *path)
{
    bool full = sys_errno == ENOSPC || sys_errno == EDQUOT;
    int code = full ? HAUL_E_FULL : HAUL_E_WRITE;

    hl_err(err, code, sys_errno, "cannot %s '%s'", what, path);
    if (sys_errno == EDQUOT)
        hl_err_hint(err, "Free some of your quota, then run the same command "
                         "again.");
    else if (full)
        hl_err_hint(err, "Free some space, then run the same command again.");
    else if (sys_errno == EFBIG)
        hl_err_hint(err, "The file system or a limit (ulimit -f) allows no "
                         "file of this size.");
    else if (sys_errno == EIO)
        hl_err_hint(err, "The disk or its file system fails; see the kernel "
                         "log (dmesg).");
    return code;
}

/* ---- Requests ----------------------------------------------------------- */

static struct hl_file_req *get_spare_locked(struct hl_file_ep *ep)
{
    struct hl_node *n = hl_list_pop(&ep->spare);

    if (!n)
        return hl_malloc(sizeof(struct hl_file_req));
    memset(HL_CONTAINER(n, struct hl_file_req, node), 0,
           sizeof(struct hl_file_req));
    return HL_CONTAINER(n, struct hl_file_req, node);
}

static void queue_locked(struct hl_file_ep *ep, struct hl_file_req *r)
{
    bool io = r->kind == HL_FILE_READ || r->kind == HL_FILE_WRITE;

    if (io && r->obj->stream)
        hl_file_stream_add_locked(r->obj->stream, r);
    else if (io && ep->ring)
        hl_file_ring_add_locked(ep->ring, r);
    else
        hl_file_job_locked(ep, r);
}

/* token: taken over; for discard. */
static void submit(struct hl_object *base, enum hl_file_kind kind,
                   struct hl_op *op, char *token)
{
    struct hl_file_obj *obj = file_obj(base);
    struct hl_file_ep *ep = hl_file_ep(obj);
    struct hl_file_req *r;

    pthread_mutex_lock(&ep->lock);
    r = get_spare_locked(ep);
    if (r) {
        r->obj = obj;
        r->op = op;
        r->kind = kind;
        r->token = token;
        obj->ops++;
        obj->refs++;
        queue_locked(ep, r);
    }
    pthread_mutex_unlock(&ep->lock);
    if (!r) {
        hl_free(token);
        hl_op_finish(ep->base.env->loop, op, HAUL_E_NOMEM);
    }
}

/* The answer and the acknowledgement go out under the lock, so that whoever
 * finds a write answered also finds it acknowledged: a sync that the engine
 * asks for next must not overtake it. */
static void answer_locked(struct hl_file_obj *obj, struct hl_file_req *r,
                          int rc)
{
    struct hl_loop *loop = obj->base.endpoint->env->loop;
    uint64_t offset = 0, len = 0;

    if (r->kind == HL_FILE_WRITE && rc == 0) {
        offset = hl_file_io(r)->offset;
        len = hl_file_io(r)->len;
    }
    hl_op_finish(loop, r->op, rc);
    if (len > 0) {
        hl_object_acked(&obj->base, offset, len);
        if (r->cached > 0)
            hl_file_written_locked(obj, offset, len);
    }
}

static void close_when_idle_locked(struct hl_file_obj *obj)
{
    if (!obj->closing || obj->refs > 0)
        return;
    obj->closing = false;
    hl_file_job_locked(hl_file_ep(obj), &obj->close_req);
}

void hl_file_end(struct hl_file_req *r, int rc)
{
    struct hl_file_obj *obj = r->obj;
    struct hl_file_ep *ep = hl_file_ep(obj);
    struct hl_op *abort_op;

    pthread_mutex_lock(&ep->lock);
    obj->refs--;
    if (r->op) {
        answer_locked(obj, r, rc);
        hl_free(r->token);
        hl_list_append(&ep->spare, &r->node);
        obj->ops--;
    }
    abort_op = obj->ops == 0 ? obj->abort_op : NULL;
    if (abort_op) {
        obj->abort_op = NULL;
        hl_op_finish(ep->base.env->loop, abort_op, 0);
    }
    close_when_idle_locked(obj);
    pthread_mutex_unlock(&ep->lock);
}

/* ---- Sources ------------------------------------------------------------ */

static int open_error(const struct hl_file_obj *obj, struct hl_error *err,
                      int sys_errno)
{
    hl_err(err, HAUL_E_READ, sys_errno, "cannot read '%s'", obj->path);
    if (sys_errno == EACCES || sys_errno == EPERM)
        hl_err_hint(err, "Ask its owner for permission, or run haul as a user "
                         "who may read it.");
    else if (sys_errno == ENOENT || sys_errno == ENOTDIR)
        hl_err_hint(err, "Check the path; it is relative to the current "
                         "folder unless it begins with '/'.");
    return HAUL_E_READ;
}

static int refuse_type(const struct hl_file_obj *obj, const struct stat *st,
                       struct hl_error *err)
{
    if (S_ISDIR(st->st_mode)) {
        hl_err(err, HAUL_E_READ, EISDIR, "cannot read '%s'", obj->path);
        return hl_err_hint(err, "Name a file in it, or pack it: "
                                "tar cf - FOLDER | haul copy - TARGET.");
    }
    return hl_err(err, HAUL_E_READ, 0, "'%s' is a socket", obj->path);
}

static void identify(const struct stat *st, struct hl_identity *id)
{
    id->size = (uint64_t)st->st_size;
    id->mtime_ns = (int64_t)st->st_mtim.tv_sec * (int64_t)HL_NS_PER_S +
                   st->st_mtim.tv_nsec;
    id->device = st->st_dev;
    id->inode = st->st_ino;
    id->mode = st->st_mode & 0777;
}

/* A regular file or a block device: O_NONBLOCK was for FIFOs only, and makes
 * io_uring answer EAGAIN instead of waiting. */
static int open_seekable(struct hl_file_obj *obj, const struct stat *st,
                         struct hl_open *o)
{
    struct hl_error *err = &o->op.error;
    off_t end = st->st_size;

    if (fcntl(obj->fd, F_SETFL, 0))
        return open_error(obj, err, errno);
    if (S_ISBLK(st->st_mode))
        end = lseek(obj->fd, 0, SEEK_END);
    if (end < 0)
        return open_error(obj, err, errno);
    identify(st, &o->identity);
    o->identity.size = (uint64_t)end;
    o->layout.caps = HL_CAP_SEEK;
    /* Refused by some file systems (EINVAL): then everything is cached. */
    obj->direct_fd = open(obj->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (obj->direct_fd >= 0) {
        struct stat direct;

        /* Somebody may have put another file there. */
        if (fstat(obj->direct_fd, &direct) || direct.st_ino != st->st_ino ||
            direct.st_dev != st->st_dev) {
            close(obj->direct_fd);
            obj->direct_fd = -1;
        }
    }
    /* With O_DIRECT at hand what is read through the cache needs no
     * read-ahead, which would bring pages that nobody had. */
    posix_fadvise(obj->fd, 0, 0,
                  obj->direct_fd >= 0 ? POSIX_FADV_RANDOM
                                      : POSIX_FADV_SEQUENTIAL);
    hl_file_probe_init(obj, o->identity.size);
    hl_file_ring_need(hl_file_ep(obj));
    return 0;
}

static int open_stream(struct hl_file_obj *obj, int fd, struct hl_open *o)
{
    o->identity.size = HL_SIZE_UNKNOWN;
    o->layout.caps = HL_CAP_ORDERED;
    return hl_file_stream_new(obj, fd, NULL, &o->op.error);
}

static int open_source(struct hl_file_obj *obj, struct hl_open *o)
{
    struct hl_error *err = &o->op.error;
    struct stat st;
    int fd;

    if (obj->dash) {
        fd = hl_file_dash(HL_ROLE_SOURCE, err);
        return fd < 0 ? err->code : open_stream(obj, fd, o);
    }
    fd = open(obj->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        open_error(obj, err, errno);
        if (fd >= 0)
            close(fd);
        return HAUL_E_READ;
    }
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
        return open_stream(obj, fd, o);
    obj->fd = fd; /* closed with the object */
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return refuse_type(obj, &st, err);
    return open_seekable(obj, &st, o);
}

/* ---- What the threads do ------------------------------------------------ */

static int do_open(struct hl_file_req *r)
{
    struct hl_open *o = HL_CONTAINER(r->op, struct hl_open, op);

    if (r->obj->base.role == HL_ROLE_TARGET)
        return hl_file_target_open(r);
    return open_source(r->obj, o);
}

static int do_stat(struct hl_file_obj *obj, struct hl_stat *s)
{
    struct hl_identity id;
    struct stat st;

    s->exists = s->is_folder = false;
    if (obj->dash)
        return 0;
    if (stat(obj->path, &st)) {
        if (errno == ENOENT || errno == ENOTDIR)
            return 0;
        return hl_err(&s->op.error,
                      obj->base.role == HL_ROLE_SOURCE ? HAUL_E_READ
                                                       : HAUL_E_WRITE,
                      errno, "cannot look at '%s'", obj->path);
    }
    identify(&st, &id);
    s->exists = true;
    s->is_folder = S_ISDIR(st.st_mode);
    s->size = id.size;
    s->mtime_ns = id.mtime_ns;
    s->mode = id.mode;
    return 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* What was written is durable or can be discarded: close() has nothing to
 * say. */
static void free_object(struct hl_file_obj *obj)
{
    hl_file_stream_free(obj->stream);
    hl_file_probe_fini(obj);
    close_fd(&obj->fd);
    close_fd(&obj->direct_fd);
    close_fd(&obj->flush_fd);
    hl_free(obj->path);
    hl_free(obj->final);
    hl_free(obj->folder);
    hl_free(obj->temp);
    hl_free(obj);
}

static int run(struct hl_file_req *r)
{
    struct hl_file_obj *obj = r->obj;

    switch (r->kind) {
    case HL_FILE_OPEN:
        return do_open(r);
    case HL_FILE_READ:
    case HL_FILE_WRITE:
        return hl_file_transfer(r);
    case HL_FILE_STAT:
        return do_stat(obj, HL_CONTAINER(r->op, struct hl_stat, op));
    case HL_FILE_SYNC:
        return hl_file_target_sync(obj, &r->op->error);
    case HL_FILE_COMMIT:
        return hl_file_target_commit(obj,
                                     HL_CONTAINER(r->op, struct hl_commit, op));
    case HL_FILE_SUSPEND:
        return hl_file_target_suspend(
            obj, HL_CONTAINER(r->op, struct hl_suspend, op));
    case HL_FILE_DISCARD:
        return hl_file_target_discard(obj, r->token, &r->op->error);
    case HL_FILE_WRITEBACK:
        hl_file_writeback(obj);
        return 0;
    case HL_FILE_CLOSE:
        break;
    }
    HL_ASSERT(false);
    return HAUL_E_BUG;
}

void hl_file_run(struct hl_file_req *r)
{
    int rc;

    if (r->kind == HL_FILE_CLOSE) {
        free_object(r->obj);
        return;
    }
    rc = run(r);
    if (rc != HL_FILE_WAITS)
        hl_file_end(r, rc);
}

/* ---- Slots -------------------------------------------------------------- */

static int endpoint_new(const struct hl_env *env, const struct hl_url *url,
                        struct hl_endpoint **out, struct hl_error *err)
{
    struct hl_file_ep *ep = hl_malloc(sizeof(*ep));

    (void)url;
    if (!ep)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    ep->base.driver = &hl_driver_file;
    ep->base.env = env;
    ep->on_loop = env->virtual_time;
    pthread_mutex_init(&ep->lock, NULL);
    pthread_cond_init(&ep->wake, NULL);
    pthread_cond_init(&ep->ring_known, NULL);
    hl_list_init(&ep->jobs);
    hl_list_init(&ep->spare);
    *out = &ep->base;
    return 0;
}

static void endpoint_free(struct hl_endpoint *base)
{
    struct hl_file_ep *ep = HL_CONTAINER(base, struct hl_file_ep, base);
    struct hl_node *n;

    hl_file_threads_stop(ep);
    hl_file_ring_free(ep->ring);
    while ((n = hl_list_pop(&ep->spare)))
        hl_free(HL_CONTAINER(n, struct hl_file_req, node));
    pthread_cond_destroy(&ep->ring_known);
    pthread_cond_destroy(&ep->wake);
    pthread_mutex_destroy(&ep->lock);
    hl_free(ep);
}

static int object_new(struct hl_endpoint *base, const struct hl_url *url,
                      enum hl_role role, struct hl_object **out,
                      struct hl_error *err)
{
    struct hl_file_obj *obj = hl_malloc(sizeof(*obj));

    if (obj)
        obj->path = hl_strdup(url->path);
    if (!obj || !obj->path) {
        hl_free(obj);
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    obj->base.driver = &hl_driver_file;
    obj->base.endpoint = base;
    obj->base.role = role;
    obj->dash = strcmp(url->scheme, "-") == 0;
    obj->fd = obj->direct_fd = obj->flush_fd = -1;
    obj->close_req.obj = obj->writeback_req.obj = obj;
    obj->close_req.kind = HL_FILE_CLOSE;
    obj->writeback_req.kind = HL_FILE_WRITEBACK;
    *out = &obj->base;
    return 0;
}

static void file_close(struct hl_object *base)
{
    struct hl_file_obj *obj = file_obj(base);
    struct hl_file_ep *ep = hl_file_ep(obj);
    bool here;

    /* At once: the next object may want to go on with the same file. */
    if (base->role == HL_ROLE_TARGET && obj->fd >= 0)
        flock(obj->fd, LOCK_UN);
    pthread_mutex_lock(&ep->lock);
    /* Nobody may run the loop again. */
    here = ep->on_loop && obj->refs == 0;
    obj->closing = !here;
    close_when_idle_locked(obj);
    pthread_mutex_unlock(&ep->lock);
    if (here)
        free_object(obj);
}

static void file_stat(struct hl_object *obj, struct hl_stat *op)
{
    submit(obj, HL_FILE_STAT, &op->op, NULL);
}

static void file_open(struct hl_object *obj, struct hl_open *op)
{
    memset(&op->identity, 0, sizeof(op->identity));
    memset(&op->layout, 0, sizeof(op->layout));
    submit(obj, HL_FILE_OPEN, &op->op, NULL);
}

static void file_read(struct hl_object *obj, struct hl_io *op)
{
    op->done = 0;
    op->eof = false;
    submit(obj, HL_FILE_READ, &op->op, NULL);
}

static void file_write(struct hl_object *obj, struct hl_io *op)
{
    op->done = 0;
    submit(obj, HL_FILE_WRITE, &op->op, NULL);
}

static void file_sync(struct hl_object *obj, struct hl_op *op)
{
    submit(obj, HL_FILE_SYNC, op, NULL);
}

static void file_commit(struct hl_object *obj, struct hl_commit *op)
{
    op->durable = op->size_checked = false;
    submit(obj, HL_FILE_COMMIT, &op->op, NULL);
}

static void file_suspend(struct hl_object *obj, struct hl_suspend *op)
{
    submit(obj, HL_FILE_SUSPEND, &op->op, NULL);
}

static void file_discard(struct hl_object *obj, const char *token,
                         struct hl_op *op)
{
    char *copy = hl_strdup(token);

    if (token && !copy)
        hl_op_finish(obj->endpoint->env->loop, op, HAUL_E_NOMEM);
    else
        submit(obj, HL_FILE_DISCARD, op, copy);
}

static void file_token_saved(struct hl_object *base, int rc)
{
    struct hl_file_obj *obj = file_obj(base);
    struct hl_file_ep *ep = hl_file_ep(obj);
    struct hl_file_req *r;

    pthread_mutex_lock(&ep->lock);
    r = obj->open_wait;
    obj->open_wait = NULL;
    if (r && !rc) {
        r->saved = true;
        hl_file_job_locked(ep, r);
    }
    pthread_mutex_unlock(&ep->lock);
    if (r && rc) {
        hl_err(&r->op->error, rc, 0,
               "cannot remember the temporary file of '%s'", obj->path);
        hl_file_end(r, rc);
    }
}

/* What is queued comes back at once; what a disk works on comes back as it
 * is. A stream that waits is interrupted. */
static void file_abort(struct hl_object *base, struct hl_op *op)
{
    struct hl_file_obj *obj = file_obj(base);
    struct hl_file_ep *ep = hl_file_ep(obj);
    struct hl_list canceled;
    struct hl_node *n;
    bool idle;

    hl_list_init(&canceled);
    pthread_mutex_lock(&ep->lock);
    obj->aborted = true;
    hl_file_take(&ep->jobs, obj, &canceled);
    if (ep->ring)
        hl_file_ring_take_locked(ep->ring, obj, &canceled);
    if (obj->stream)
        hl_file_stream_abort_locked(obj->stream, &canceled);
    if (obj->open_wait)
        hl_list_append(&canceled, &obj->open_wait->node);
    obj->open_wait = NULL;
    idle = obj->ops == 0;
    if (!idle)
        obj->abort_op = op;
    pthread_mutex_unlock(&ep->lock);
    while ((n = hl_list_pop(&canceled)))
        hl_file_end(HL_CONTAINER(n, struct hl_file_req, node), HAUL_E_CANCELED);
    if (idle)
        hl_op_finish(ep->base.env->loop, op, 0);
}

static const char *const schemes[] = {"file", "-", NULL};

const struct hl_driver hl_driver_file = {
    .name = "file",
    .schemes = schemes,
    .endpoint_new = endpoint_new,
    .endpoint_free = endpoint_free,
    .object_new = object_new,
    .close = file_close,
    .stat = file_stat,
    .open = file_open,
    .read = file_read,
    .write = file_write,
    .sync = file_sync,
    .commit = file_commit,
    .suspend = file_suspend,
    .discard = file_discard,
    .token_saved = file_token_saved,
    .abort = file_abort,
};
