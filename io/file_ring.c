/*
 * The ring thread: reads and writes of regular files, many in flight.
 *
 * Reads with O_DIRECT run in the block layer. What goes through the page
 * cache would be copied by the thread that submits; with more than one in
 * flight it is given to the kernel's workers (IOSQE_ASYNC). Buffers are not
 * registered: docs/decisions/0002-file-driver.md.
 *
 * Threads: one, "haul-ring"; it alone touches the ring (SINGLE_ISSUER). The
 * queue is under the endpoint's lock.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "file.h"
#include "thread.h"

#define IN_FLIGHT_MAX 128u
#define RING_ENTRIES 256u
/* More of them than processors do not copy faster. */
#define WORKERS_MIN 2
#define WORKERS_MAX 8

struct hl_file_ring {
    struct hl_file_ep *ep;
    pthread_t thread;
    int wake_fd;
    struct {
        struct io_uring ring;
        uint64_t wake_value; /* where the wake-up call is read to */
        unsigned in_flight;
    } ring_only;
    struct {
        struct hl_list queue;
        bool sleeping, stop;
        bool known; /* start-up is over, with start_errno */
        int start_errno;
    } locked;
};

void hl_file_take(struct hl_list *list, const struct hl_file_obj *obj,
                  struct hl_list *out)
{
    struct hl_node *n = hl_list_first(list), *next;

    for (; n; n = next) {
        struct hl_file_req *r = HL_CONTAINER(n, struct hl_file_req, node);

        next = hl_list_next(list, n);
        if (r->obj != obj || !r->op)
            continue;
        hl_list_remove(n);
        hl_list_append(out, n);
    }
}

void hl_file_ring_take_locked(struct hl_file_ring *ring,
                              const struct hl_file_obj *obj,
                              struct hl_list *out)
{
    hl_file_take(&ring->locked.queue, obj, out);
}

static void wake_locked(struct hl_file_ring *ring)
{
    static const uint64_t one = 1;
    ssize_t n;

    if (!ring->locked.sleeping)
        return;
    ring->locked.sleeping = false;
    n = write(ring->wake_fd, &one, sizeof(one)); /* an eventfd takes it */
    (void)n;
}

void hl_file_ring_add_locked(struct hl_file_ring *ring, struct hl_file_req *r)
{
    hl_list_append(&ring->locked.queue, &r->node);
    wake_locked(ring);
}

/* ---- The thread --------------------------------------------------------- */

static int setup(struct hl_file_ring *ring)
{
    struct io_uring *u = &ring->ring_only.ring;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned workers[2] = {WORKERS_MIN, 0};
    int rc;

    rc = io_uring_queue_init(RING_ENTRIES, u,
                             IORING_SETUP_SINGLE_ISSUER |
                                 IORING_SETUP_COOP_TASKRUN);
    if (rc == -EINVAL) /* before Linux 6.0 */
        rc = io_uring_queue_init(RING_ENTRIES, u, 0);
    if (rc)
        return -rc;
    if (processors > WORKERS_MIN)
        workers[0] = (unsigned)hl_min((uint64_t)processors, WORKERS_MAX);
    /* Linux 5.15; without it there are more workers than needed. */
    io_uring_register_iowq_max_workers(u, workers);
    return 0;
}

static void arm_wake(struct hl_file_ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring_only.ring);

    HL_ASSERT(sqe);
    io_uring_prep_read(sqe, ring->wake_fd, &ring->ring_only.wake_value,
                       sizeof(ring->ring_only.wake_value), 0);
    io_uring_sqe_set_data(sqe, NULL);
}

/* The submission queue is larger than what may be in flight. */
static void start_step(struct hl_file_ring *ring, struct hl_file_req *r,
                       bool several)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring_only.ring);
    struct hl_io *io = hl_file_io(r);
    uint8_t *data = io->data + io->done;
    uint64_t at = io->offset + io->done;
    int fd;

    HL_ASSERT(sqe);
    hl_file_plan(r);
    fd = r->direct ? r->obj->direct_fd : r->obj->fd;
    if (r->kind == HL_FILE_WRITE)
        io_uring_prep_write(sqe, fd, data, r->size, at);
    else
        io_uring_prep_read(sqe, fd, data, r->size, at);
    if (r->again || (!r->direct && several))
        sqe->flags |= IOSQE_ASYNC;
    io_uring_sqe_set_data(sqe, r);
    ring->ring_only.in_flight++;
}

static void start_queued(struct hl_file_ring *ring)
{
    struct hl_file_ep *ep = ring->ep;
    struct hl_node *n;
    bool more;

    while (ring->ring_only.in_flight < IN_FLIGHT_MAX) {
        pthread_mutex_lock(&ep->lock);
        n = hl_list_pop(&ring->locked.queue);
        more = !hl_list_empty(&ring->locked.queue);
        pthread_mutex_unlock(&ep->lock);
        if (!n)
            return;
        start_step(ring, HL_CONTAINER(n, struct hl_file_req, node),
                   more || ring->ring_only.in_flight > 0);
    }
}

static void complete(struct hl_file_ring *ring, struct hl_file_req *r, int res)
{
    int rc;

    ring->ring_only.in_flight--;
    if (hl_file_step(r, res, &rc))
        start_step(ring, r, ring->ring_only.in_flight > 0);
    else
        hl_file_end(r, rc);
}

/* No more than were there at entry, so that new requests get their turn. */
static void reap(struct hl_file_ring *ring)
{
    struct io_uring *u = &ring->ring_only.ring;
    unsigned ready = io_uring_cq_ready(u);
    struct io_uring_cqe *cqe;
    struct hl_file_req *r;
    int res;

    while (ready-- > 0 && !io_uring_peek_cqe(u, &cqe)) {
        r = io_uring_cqe_get_data(cqe);
        res = cqe->res;
        io_uring_cqe_seen(u, cqe);
        if (r)
            complete(ring, r, res);
        else
            arm_wake(ring);
    }
}

/* False: told to stop and nothing is left. */
static bool may_sleep(struct hl_file_ring *ring, unsigned *wait)
{
    struct hl_file_ep *ep = ring->ep;
    bool empty, stop;

    pthread_mutex_lock(&ep->lock);
    empty = hl_list_empty(&ring->locked.queue) ||
            ring->ring_only.in_flight == IN_FLIGHT_MAX;
    stop = ring->locked.stop && empty && ring->ring_only.in_flight == 0;
    ring->locked.sleeping = empty;
    pthread_mutex_unlock(&ep->lock);
    *wait = empty ? 1 : 0;
    return !stop;
}

static void started(struct hl_file_ring *ring, int sys_errno)
{
    pthread_mutex_lock(&ring->ep->lock);
    ring->locked.known = true;
    ring->locked.start_errno = sys_errno;
    pthread_cond_broadcast(&ring->ep->ring_known);
    pthread_mutex_unlock(&ring->ep->lock);
}

static void *ring_main(void *arg)
{
    struct hl_file_ring *ring = arg;
    int rc = setup(ring);
    unsigned wait;

    started(ring, rc);
    if (rc)
        return NULL;
    arm_wake(ring);
    while (may_sleep(ring, &wait)) {
        start_queued(ring);
        rc = io_uring_submit_and_wait(&ring->ring_only.ring, wait);
        /* EINTR, EAGAIN and EBUSY pass: completions make room. */
        HL_ASSERT(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
        reap(ring);
    }
    io_uring_queue_exit(&ring->ring_only.ring);
    return NULL;
}

/* ---- Start and end ------------------------------------------------------ */

static const char *why_refused(int sys_errno)
{
    switch (sys_errno) {
    case EPERM:
    case EACCES:
        return "forbidden by kernel.io_uring_disabled or a seccomp filter";
    case ENOSYS:
        return "not in this kernel";
    case ENOMEM:
        return "over the limit of locked memory (ulimit -l)";
    case EMFILE:
    case ENFILE:
        return "too many open files";
    case ECANCELED:
        return "HAUL_NO_URING is set";
    default:
        return strerrordesc_np(sys_errno);
    }
}

static int start(struct hl_file_ep *ep, struct hl_file_ring **out)
{
    const char *off = getenv("HAUL_NO_URING");
    struct hl_file_ring *ring;
    int rc;

    if (off && strcmp(off, "1") == 0)
        return ECANCELED;
    ring = hl_malloc(sizeof(*ring));
    if (!ring)
        return ENOMEM;
    ring->ep = ep;
    hl_list_init(&ring->locked.queue);
    ring->wake_fd = eventfd(0, EFD_CLOEXEC);
    rc = ring->wake_fd < 0 ? errno : 0;
    if (!rc)
        rc = hl_thread_start(&ring->thread, "haul-ring", ring_main, ring);
    if (rc)
        goto out;
    pthread_mutex_lock(&ep->lock);
    while (!ring->locked.known)
        pthread_cond_wait(&ep->ring_known, &ep->lock);
    rc = ring->locked.start_errno;
    pthread_mutex_unlock(&ep->lock);
    if (!rc) {
        *out = ring;
        return 0;
    }
    pthread_join(ring->thread, NULL);
out:
    if (ring->wake_fd >= 0)
        close(ring->wake_fd);
    hl_free(ring);
    return rc;
}

void hl_file_ring_need(struct hl_file_ep *ep)
{
    struct hl_file_ring *ring = NULL;
    int rc;

    if (ep->base.env->virtual_time)
        return;
    pthread_mutex_lock(&ep->lock);
    while (ep->ring_state == HL_RING_STARTING)
        pthread_cond_wait(&ep->ring_known, &ep->lock);
    if (ep->ring_state == HL_RING_KNOWN) {
        pthread_mutex_unlock(&ep->lock);
        return;
    }
    ep->ring_state = HL_RING_STARTING;
    pthread_mutex_unlock(&ep->lock);
    rc = start(ep, &ring);
    if (rc)
        HL_INFO(ep->base.env->log, HL_AREA_URING,
                "io_uring refused (%s): reading and writing with threads",
                why_refused(rc));
    pthread_mutex_lock(&ep->lock);
    ep->ring = ring;
    ep->ring_state = HL_RING_KNOWN;
    pthread_cond_broadcast(&ep->ring_known);
    pthread_mutex_unlock(&ep->lock);
}

void hl_file_ring_free(struct hl_file_ring *ring)
{
    if (!ring)
        return;
    pthread_mutex_lock(&ring->ep->lock);
    ring->locked.stop = true;
    ring->locked.sleeping = true; /* it may be: wake it in any case */
    wake_locked(ring);
    pthread_mutex_unlock(&ring->ep->lock);
    pthread_join(ring->thread, NULL);
    close(ring->wake_fd);
    hl_free(ring);
}
