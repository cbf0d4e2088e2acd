/*
 * Pipes, devices and "-": one ascending stream in a thread of its own, which
 * waits in poll() and can be interrupted there.
 *
 * The descriptors 0 and 1 are shared with other processes, so O_NONBLOCK is
 * never set on them. A pipe is opened once more through /proc, which gives a
 * description of our own; a socket is used with MSG_DONTWAIT; the rest is
 * written in pieces that the kernel takes after POLLOUT (pipe(7): PIPE_BUF).
 *
 * Threads: one per stream, "haul-stream". The queue is under the endpoint's
 * lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file.h"
#include "thread.h"

/* A pipe of 64 KiB costs a switch of threads for each 64 KiB. */
#define PIPE_BYTES (1 << 20)
#define FIFO_OPEN_POLL_MS 20

struct hl_file_stream {
    struct hl_file_obj *obj;
    pthread_t thread;
    int wake_fd; /* readable: look at the queue or stop */
    struct {
        int fd; /* -1: open path with the first write */
        const char *path;
        /* DISK: also /dev/null and the like, which never make one wait */
        enum { STREAM_OTHER, STREAM_PIPE, STREAM_SOCKET, STREAM_DISK } type;
        bool own;        /* O_NONBLOCK is set */
        uint64_t offset; /* of the next byte */
        bool eof;
    } stream_only;
    struct {
        struct hl_list queue;
        bool interrupted, stop;
    } locked;
};

int hl_file_dash(enum hl_role role, struct hl_error *err)
{
    int number = role == HL_ROLE_SOURCE ? STDIN_FILENO : STDOUT_FILENO;
    int fd = fcntl(number, F_DUPFD_CLOEXEC, 3);

    if (fd < 0)
        hl_err(err, role == HL_ROLE_SOURCE ? HAUL_E_READ : HAUL_E_WRITE, errno,
               "cannot use standard %s",
               role == HL_ROLE_SOURCE ? "input" : "output");
    return fd;
}

/* Replaces a pipe's descriptor by one with flags of our own. */
static void own_pipe(struct hl_file_stream *s)
{
    int mode = s->obj->base.role == HL_ROLE_SOURCE ? O_RDONLY : O_WRONLY;
    char name[64];
    int fd;

    /* Best effort: /proc/sys/fs/pipe-max-size may be less. */
    fcntl(s->stream_only.fd, F_SETPIPE_SZ, PIPE_BYTES);
    if (s->stream_only.own)
        return;
    snprintf(name, sizeof(name), "/proc/self/fd/%d", s->stream_only.fd);
    fd = open(name, mode | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    close(s->stream_only.fd);
    s->stream_only.fd = fd;
    s->stream_only.own = true;
}

static void look_at_fd(struct hl_file_stream *s)
{
    int fl = s->stream_only.fd < 0 ? -1 : fcntl(s->stream_only.fd, F_GETFL);
    struct stat st;

    if (fl < 0 || fstat(s->stream_only.fd, &st))
        return;
    s->stream_only.own = (fl & O_NONBLOCK) != 0;
    if (S_ISFIFO(st.st_mode)) {
        s->stream_only.type = STREAM_PIPE;
        own_pipe(s);
    } else if (S_ISSOCK(st.st_mode)) {
        s->stream_only.type = STREAM_SOCKET;
    } else if (!isatty(s->stream_only.fd)) {
        s->stream_only.type = STREAM_DISK;
    }
}

/* ---- The thread --------------------------------------------------------- */

static bool interrupted(struct hl_file_stream *s)
{
    struct hl_file_ep *ep = hl_file_ep(s->obj);
    bool yes;

    pthread_mutex_lock(&ep->lock);
    yes = s->locked.interrupted || s->locked.stop;
    pthread_mutex_unlock(&ep->lock);
    return yes;
}

static void clear_wake(struct hl_file_stream *s)
{
    uint64_t value;
    ssize_t n = read(s->wake_fd, &value, sizeof(value));

    (void)n; /* non-blocking: nothing there is fine too */
}

/* Until fd is ready. HAUL_E_CANCELED when interrupted. */
static int wait_ready(struct hl_file_stream *s, short events, int timeout_ms)
{
    struct pollfd p[2] = {{.fd = s->stream_only.fd, .events = events},
                          {.fd = s->wake_fd, .events = POLLIN}};

    for (;;) {
        if (interrupted(s))
            return HAUL_E_CANCELED;
        if (poll(p, 2, timeout_ms) < 0 && errno != EINTR)
            return 0; /* the call that follows says what is wrong */
        if (p[1].revents)
            clear_wake(s);
        if (p[0].revents || timeout_ms >= 0)
            return 0;
    }
}

/* fifo(7): ENXIO until somebody reads. */
static int open_fifo(struct hl_file_stream *s, struct hl_error *err)
{
    int rc;

    while (s->stream_only.fd < 0) {
        s->stream_only.fd =
            open(s->stream_only.path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (s->stream_only.fd >= 0)
            break;
        if (errno != ENXIO && errno != EINTR)
            return hl_err(err, HAUL_E_WRITE, errno, "cannot open '%s'",
                          s->stream_only.path);
        rc = wait_ready(s, 0, FIFO_OPEN_POLL_MS);
        if (rc)
            return rc;
    }
    look_at_fd(s);
    return 0;
}

static ssize_t get(const struct hl_file_stream *s, uint8_t *data, size_t len)
{
    if (s->stream_only.type == STREAM_SOCKET)
        return recv(s->stream_only.fd, data, len, MSG_DONTWAIT);
    return read(s->stream_only.fd, data, len);
}

static ssize_t put(const struct hl_file_stream *s, const uint8_t *data,
                   size_t len)
{
    if (s->stream_only.type == STREAM_SOCKET)
        return send(s->stream_only.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (!s->stream_only.own && s->stream_only.type != STREAM_DISK)
        len = hl_min(len, PIPE_BUF);
    return write(s->stream_only.fd, data, len);
}

static bool passing(int sys_errno)
{
    return sys_errno == EINTR || sys_errno == EAGAIN;
}

static int stream_read(struct hl_file_stream *s, struct hl_io *io)
{
    struct hl_error *err = &io->op.error;
    ssize_t n;
    int rc;

    if (io->offset > s->stream_only.offset && s->stream_only.eof) {
        io->eof = true; /* asked ahead, before the end was known */
        return 0;
    }
    if (io->offset != s->stream_only.offset)
        return hl_err(err, HAUL_E_READ, ESPIPE,
                      "cannot read '%s' at another place", s->obj->path);
    while (io->done < io->len && !s->stream_only.eof) {
        rc = wait_ready(s, POLLIN, -1);
        if (rc)
            return rc;
        n = get(s, io->data + io->done, io->len - io->done);
        if (n < 0 && passing(errno))
            continue;
        if (n < 0)
            return hl_err(err, HAUL_E_READ, errno, "cannot read '%s'",
                          s->obj->path);
        s->stream_only.eof = n == 0;
        io->done += (uint32_t)n;
        s->stream_only.offset += (uint64_t)n;
    }
    io->eof = io->done < io->len;
    return 0;
}

static int stream_write(struct hl_file_stream *s, struct hl_io *io)
{
    struct hl_error *err = &io->op.error;
    ssize_t n;
    int rc = open_fifo(s, err);

    if (rc)
        return rc;
    if (io->offset != s->stream_only.offset)
        return hl_err(err, HAUL_E_WRITE, ESPIPE,
                      "cannot write '%s' at another place", s->obj->path);
    while (io->done < io->len) {
        rc = wait_ready(s, POLLOUT, -1);
        if (rc)
            return rc;
        n = put(s, io->data + io->done, io->len - io->done);
        if (n < 0 && passing(errno))
            continue;
        if (n < 0)
            return hl_file_write_error(err, errno, "write", s->obj->path);
        io->done += (uint32_t)n;
        s->stream_only.offset += (uint64_t)n;
    }
    return 0;
}

/* The next request, or NULL when it is time to stop. */
static struct hl_file_req *next_request(struct hl_file_stream *s)
{
    struct hl_file_ep *ep = hl_file_ep(s->obj);
    struct pollfd p = {.fd = s->wake_fd, .events = POLLIN};
    struct hl_node *n;
    bool stop;

    for (;;) {
        pthread_mutex_lock(&ep->lock);
        n = hl_list_pop(&s->locked.queue);
        stop = s->locked.stop;
        pthread_mutex_unlock(&ep->lock);
        if (n)
            return HL_CONTAINER(n, struct hl_file_req, node);
        if (stop)
            return NULL;
        poll(&p, 1, -1);
        clear_wake(s);
    }
}

static void *stream_main(void *arg)
{
    struct hl_file_stream *s = arg;
    struct hl_file_req *r;
    int rc;

    while ((r = next_request(s))) {
        if (r->kind == HL_FILE_READ)
            rc = stream_read(s, hl_file_io(r));
        else
            rc = stream_write(s, hl_file_io(r));
        hl_file_end(r, rc);
    }
    return NULL;
}

/* ---- From other threads ------------------------------------------------- */

static void wake(struct hl_file_stream *s)
{
    static const uint64_t one = 1;
    ssize_t n = write(s->wake_fd, &one, sizeof(one));

    (void)n; /* EAGAIN: it is readable anyway */
}

int hl_file_stream_new(struct hl_file_obj *obj, int fd, const char *path,
                       struct hl_error *err)
{
    bool real = !obj->base.endpoint->env->virtual_time;
    struct hl_file_stream *s = real ? hl_malloc(sizeof(*s)) : NULL;
    int rc;

    if (!s) {
        if (fd >= 0)
            close(fd);
        return hl_err(err, real ? HAUL_E_NOMEM : HAUL_E_NOTSUP, 0, "%s",
                      real ? "out of memory" : "no pipes in virtual time");
    }
    s->obj = obj;
    s->stream_only.fd = fd;
    s->stream_only.path = path;
    hl_list_init(&s->locked.queue);
    look_at_fd(s);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = s->wake_fd < 0 ? errno : 0;
    if (!rc)
        rc = hl_thread_start(&s->thread, "haul-stream", stream_main, s);
    if (!rc) {
        pthread_mutex_lock(&hl_file_ep(obj)->lock);
        obj->stream = s;
        pthread_mutex_unlock(&hl_file_ep(obj)->lock);
        return 0;
    }
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    if (s->stream_only.fd >= 0)
        close(s->stream_only.fd);
    hl_free(s);
    return hl_err(err, HAUL_E_NOMEM, rc, "cannot start a thread for '%s'",
                  obj->path);
}

void hl_file_stream_add_locked(struct hl_file_stream *s, struct hl_file_req *r)
{
    hl_list_append(&s->locked.queue, &r->node);
    wake(s);
}

void hl_file_stream_abort_locked(struct hl_file_stream *s, struct hl_list *out)
{
    hl_file_take(&s->locked.queue, s->obj, out);
    s->locked.interrupted = true;
    wake(s);
}

/* No write is under way: the engine has all acknowledgements. */
int hl_file_stream_sync(struct hl_file_stream *s, bool *durable,
                        struct hl_error *err)
{
    *durable = false;
    if (s->stream_only.type != STREAM_DISK)
        return 0;
    if (!fsync(s->stream_only.fd))
        *durable = true;
    else if (errno != EROFS && errno != EINVAL) /* fsync(2): not for these */
        return hl_file_write_error(err, errno, "sync", s->obj->path);
    return 0;
}

void hl_file_stream_free(struct hl_file_stream *s)
{
    struct hl_file_ep *ep;

    if (!s)
        return;
    ep = hl_file_ep(s->obj);
    pthread_mutex_lock(&ep->lock);
    s->locked.stop = true;
    wake(s);
    pthread_mutex_unlock(&ep->lock);
    pthread_join(s->thread, NULL);
    close(s->wake_fd);
    if (s->stream_only.fd >= 0)
        close(s->stream_only.fd);
    hl_free(s);
}
