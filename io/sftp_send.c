/*
 * What a channel sends: small messages, reads and writes cut into requests.
 * Runs on its connection's thread; see sftp.h.
 *
 * Bytes go into libssh only while it has nothing pending and the server's
 * window is open, so that libssh never queues more than one piece of
 * WRITE_PIECE bytes. A write is taken when its last byte went into libssh.
 */
#include "sftp.h"

#include <string.h>

#define WRITE_PIECE (256U * 1024)
#define SMALL_ENOUGH (64U * 1024) /* READs are cut while less is queued */
#define SCAN_MAX 64 /* queued operations looked at for one that fits */

static struct hl_loop *loop_of(const struct hl_sftp_stream *st)
{
    return st->conn->ep->base.env->loop;
}

/* ---- Taking from the queues --------------------------------------------- */

/* lock held. A stream opens a handle of its own when the object is large, or
 * when nobody has one (its stream died). */
static bool may_open(const struct hl_sftp_obj *obj)
{
    if (obj->drain || !obj->opened)
        return false;
    return !obj->handles || (obj->wide && !obj->in_order);
}

/* lock held. First operation of queue that st has a handle for. *open: an
 * object that st should have a handle of; its count is raised. */
static struct hl_io *queue_take(struct hl_sftp_stream *st,
                                struct hl_list *queue,
                                struct hl_sftp_fh **fh_out,
                                struct hl_sftp_obj **open)
{
    struct hl_node *n, *next;
    uint32_t seen = 0;

    for (n = hl_list_first(queue); n && seen < SCAN_MAX; n = next, seen++) {
        struct hl_io *io = HL_CONTAINER(n, struct hl_io, op.node);
        struct hl_sftp_obj *obj = io->op.driver_data;
        struct hl_sftp_fh *fh = hl_sftp_fh_find(st, obj);

        next = hl_list_next(queue, n);
        if (st->spare && obj->wide && !obj->in_order && obj->handles > 1)
            continue;
        if (fh && fh->state == HL_FH_OPEN && !fh->close_wanted) {
            hl_list_remove(n);
            *fh_out = fh;
            return io;
        }
        if (fh && fh->state == HL_FH_FAILED && !obj->handles) {
            /* Nobody has the file open any more. */
            hl_list_remove(n);
            if (queue == &st->conn->ep->reads)
                st->conn->ep->read_bytes -= io->len;
            io->op.error = fh->error;
            hl_op_finish(loop_of(st), &io->op, fh->error.code);
        }
        if (!fh && !*open && !(st->spare && obj->handles) && may_open(obj)) {
            obj->handles++;
            *open = obj;
        }
    }
    st->conn->hungry = true;
    return NULL;
}

static bool take_write(struct hl_sftp_stream *st)
{
    struct hl_sftp_ep *ep = st->conn->ep;
    struct hl_sftp_obj *open = NULL;

    pthread_mutex_lock(&ep->lock);
    st->io = queue_take(st, &ep->writes, &st->io_fh, &open);
    st->io_next = 0;
    pthread_mutex_unlock(&ep->lock);
    if (open)
        hl_sftp_fh_open(st, open);
    return st->io != NULL;
}

/* Reads are shared out evenly: every connection's stream may take what is
 * there divided by their number. */
static bool take_read(struct hl_sftp_stream *st)
{
    struct hl_sftp_ep *ep = st->conn->ep;
    struct hl_sftp_obj *open = NULL;
    struct hl_sftp_read *rd = NULL;
    struct hl_sftp_fh *fh = NULL;
    struct hl_io *io = NULL;

    pthread_mutex_lock(&ep->lock);
    if (!st->read_bytes ||
        st->read_bytes < ep->read_bytes / hl_max(1, hl_sftp_up(ep)))
        io = queue_take(st, &ep->reads, &fh, &open);
    else
        st->conn->hungry = true;
    pthread_mutex_unlock(&ep->lock);
    if (open)
        hl_sftp_fh_open(st, open);
    if (!io)
        return false;
    rd = hl_malloc(sizeof(*rd));
    if (!rd) {
        pthread_mutex_lock(&ep->lock);
        ep->read_bytes -= io->len;
        pthread_mutex_unlock(&ep->lock);
        hl_op_finish(loop_of(st), &io->op, HAUL_E_NOMEM);
        return true;
    }
    rd->io = io;
    rd->fh = fh;
    rd->end = io->len;
    io->op.driver_data = rd;
    hl_list_append(&st->reads, &io->op.node);
    st->read_bytes += io->len;
    st->uncut += io->len;
    return true;
}

/* ---- Cutting ------------------------------------------------------------ */

static void cut_reads(struct hl_sftp_stream *st)
{
    struct hl_node *n = hl_list_first(&st->reads);

    while (n && st->uncut && st->asked < st->conn->ask_max &&
           st->small_len - st->small_sent < SMALL_ENOUGH) {
        struct hl_io *io = HL_CONTAINER(n, struct hl_io, op.node);
        struct hl_sftp_read *rd = io->op.driver_data;
        uint32_t len =
            (uint32_t)hl_min(st->limits.read_max, io->len - rd->next);

        if (!len) {
            n = hl_list_next(&st->reads, n);
            continue;
        }
        if (!hl_sftp_ask_read(st, rd, io->offset + rd->next, len))
            return;
        rd->next += len;
        st->uncut -= len;
    }
}

/* The next WRITE of st->io. False: no request can be made now. */
static bool begin_write(struct hl_sftp_stream *st)
{
    struct hl_io *io = st->io;
    struct hl_sftp_req *req = hl_sftp_req_new(st, HL_REQ_WRITE);
    struct hl_sftp_out o = {st->head, sizeof(st->head), 0};

    if (!req)
        return false;
    req->fh = st->io_fh;
    req->io = io;
    req->offset = io->offset + st->io_next;
    req->len = (uint32_t)hl_min(st->limits.write_max, io->len - st->io_next);
    hl_sftp_put_write_head(&o, req->id, hl_sftp_fh_bytes(req->fh), req->offset,
                           req->len);
    st->head_len = (uint32_t)o.len;
    st->body = io->data + st->io_next;
    st->body_len = req->len;
    st->sent = 0;
    st->io_next += req->len;
    req->fh->outstanding++;
    return true;
}

/* Every byte of st->io is in libssh. */
static void write_taken(struct hl_sftp_stream *st)
{
    struct hl_io *io = st->io;
    uint32_t i;

    st->io = NULL;
    hl_op_finish(loop_of(st), &io->op, 0);
    for (i = 0; i < st->reqs_cap; i++) {
        struct hl_sftp_req req = st->reqs[i];

        if (req.io != io ||
            (req.kind != HL_REQ_WRITE && req.kind != HL_REQ_FAILED))
            continue;
        st->reqs[i].io = NULL;
        if (req.kind == HL_REQ_FAILED) {
            hl_sftp_req_free(st, &st->reqs[i]);
            hl_sftp_write_lost(st, &req);
        }
    }
}

/* ---- Sending ------------------------------------------------------------ */

/* Bytes that libssh took; 0: none now. */
static uint32_t put_bytes(struct hl_sftp_stream *st, const uint8_t *p,
                          size_t len)
{
    uint32_t n = (uint32_t)hl_min(len, WRITE_PIECE);
    int rc;

    n = (uint32_t)hl_min(n, ssh_channel_window_size(st->channel));
    if (!n)
        return 0;
    rc = ssh_channel_write(st->channel, p, n);
    if (rc < 0) {
        hl_sftp_stream_die(st, HAUL_E_RESET, "connection lost");
        return 0;
    }
    return (uint32_t)rc;
}

/* By way of the scratch buffer: a callback of libssh may append to st->small
 * and move it while libssh still reads (it does before it writes, during a
 * key exchange). */
static bool send_small(struct hl_sftp_stream *st)
{
    size_t len = hl_min(st->small_len - st->small_sent, HL_SFTP_SCRATCH);
    uint32_t n;

    memcpy(st->conn->scratch, st->small + st->small_sent, len);
    n = put_bytes(st, st->conn->scratch, len);
    /* small_sent is 0 again when a callback has moved the queue. */
    st->small_sent += n;
    return n > 0;
}

static bool send_write(struct hl_sftp_stream *st)
{
    uint8_t *scratch = st->conn->scratch;
    uint32_t n;

    if (st->sent < st->head_len) {
        /* Head and data in one full SSH packet. */
        uint32_t head = st->head_len - st->sent;
        uint32_t body = (uint32_t)hl_min(HL_SFTP_SCRATCH - head, st->body_len);

        memcpy(scratch, st->head + st->sent, head);
        memcpy(scratch + head, st->body, body);
        n = put_bytes(st, scratch, head + body);
    } else {
        uint32_t at = st->sent - st->head_len;

        n = put_bytes(st, st->body + at, st->body_len - at);
    }
    st->sent += n;
    if (st->sent < st->head_len + st->body_len)
        return n > 0;
    st->head_len = st->body_len = st->sent = 0;
    hl_free(st->body_copy);
    st->body_copy = NULL;
    if (st->io && st->io_next == st->io->len)
        write_taken(st);
    return true;
}

/*
 * Some servers put the pieces of a message together in one buffer for all
 * channels of a connection (ProFTPD's mod_sftp, curr_buf in fxp.c of 1.3.8):
 * pieces of two messages must not alternate. OpenSSH has a process for each
 * channel and is spared the waiting.
 */
static bool others_turn(const struct hl_sftp_stream *st)
{
    const struct hl_sftp_conn *conn = st->conn;

    return conn->whole_messages && conn->sender && conn->sender != st;
}

/* A message that would be stuck half way keeps the other channels waiting. A
 * window that never was that large will not be. */
static bool no_room(struct hl_sftp_stream *st)
{
    uint32_t window = ssh_channel_window_size(st->channel);
    uint32_t len = st->head_len + st->body_len;

    st->window_seen = (uint32_t)hl_max(st->window_seen, window);
    return !window || (st->conn->whole_messages && st->head_len && !st->sent &&
                       window < len && st->window_seen >= len);
}

static bool send_some(struct hl_sftp_stream *st)
{
    bool any = st->head_len ? send_write(st) : send_small(st);

    if (any)
        st->conn->sender =
            st->sent || st->small_len > st->small_sent ? st : NULL;
    return any;
}

enum hl_sftp_blocked hl_sftp_stream_pump(struct hl_sftp_stream *st)
{
    while (st->state != HL_ST_DEAD && st->state != HL_ST_OPENING) {
        bool small;

        if (ssh_get_status(st->conn->session) & SSH_WRITE_PENDING)
            return HL_BLOCKED_LINK;
        if (others_turn(st))
            return HL_BLOCKED_WINDOW;
        cut_reads(st);
        small = st->small_len > st->small_sent;
        if (!st->head_len && !small) {
            if (st->state != HL_ST_READY)
                return HL_BLOCKED_IDLE;
            if (take_read(st))
                continue;
            if (!st->io && !take_write(st)) {
                if (st->small_len > st->small_sent)
                    continue; /* an OPEN */
                return HL_BLOCKED_IDLE;
            }
            if (!begin_write(st))
                return HL_BLOCKED_WINDOW;
        }
        if (no_room(st))
            return HL_BLOCKED_WINDOW;
        if (!send_some(st))
            return HL_BLOCKED_LINK;
    }
    return HL_BLOCKED_IDLE;
}

/* ---- Abort -------------------------------------------------------------- */

/* The buffer goes back, but a message that is half sent must be completed:
 * its rest is copied. */
static void forget_write(struct hl_sftp_stream *st)
{
    struct hl_io *io = st->io;

    if (st->head_len) {
        st->body_copy = hl_malloc(st->body_len);
        if (st->body_copy) {
            memcpy(st->body_copy, st->body, st->body_len);
            st->body = st->body_copy;
        } else {
            hl_sftp_stream_die(st, HAUL_E_NOMEM, "out of memory");
            st->head_len = st->body_len = 0;
        }
    }
    st->io = NULL;
    hl_op_finish(loop_of(st), &io->op, HAUL_E_CANCELED);
}

/* What was taken and has no answer yet is lost. */
static void forget_requests(struct hl_sftp_stream *st, struct hl_sftp_fh *fh)
{
    struct hl_error error = {0};
    uint32_t i;

    hl_err(&error, HAUL_E_CANCELED, 0, "interrupted");
    for (i = 0; i < st->reqs_cap; i++) {
        struct hl_sftp_req *req = &st->reqs[i];

        if (req->kind == HL_REQ_CALL)
            hl_sftp_write_forget(req, fh);
        if (req->kind == HL_REQ_FREE || req->fh != fh)
            continue;
        if (req->kind == HL_REQ_WRITE && !req->io)
            hl_object_lost(&fh->obj->base, req->offset, req->len, &error);
        if (req->kind == HL_REQ_READ && st->data_left && st->data_id == req->id)
            st->data_to = NULL;
        req->io = NULL;
        if (req->kind == HL_REQ_FAILED)
            hl_sftp_req_free(st, req);
    }
}

void hl_sftp_stream_forget(struct hl_sftp_stream *st, struct hl_sftp_obj *obj)
{
    struct hl_sftp_fh *fh = hl_sftp_fh_find(st, obj);
    struct hl_node *n, *next;

    if (!fh)
        return;
    if (st->ack_fh == fh)
        hl_sftp_stream_flush_acks(st);
    fh->muted = true;
    if (st->io && st->io_fh == fh)
        forget_write(st);
    forget_requests(st, fh);
    for (n = hl_list_first(&st->reads); n; n = next) {
        struct hl_io *io = HL_CONTAINER(n, struct hl_io, op.node);
        struct hl_sftp_read *rd = io->op.driver_data;

        next = hl_list_next(&st->reads, n);
        if (rd->fh == fh)
            hl_sftp_read_finish(st, rd, HAUL_E_CANCELED);
    }
    hl_sftp_fh_close(fh);
}
