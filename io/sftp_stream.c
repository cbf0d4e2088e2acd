/*
 * One SFTP channel: set-up, requests, replies in any order. Runs on its
 * connection's thread; see sftp.h. Received bytes are copied straight into the
 * memory of the read that they answer.
 */
#include "sftp.h"

#include <stdio.h>
#include <string.h>

#define SMALL_ROOM (16U * 1024) /* longer than any small message */
#define ACK_SPAN (UINT64_C(4) << 20)
/* libssh 0.10 channels.c: the window of a new channel, and what it grows to
 * by itself when it falls below the half. */
#define LIBSSH_WINDOW_FIRST 64000U
#define LIBSSH_WINDOW 1280000U
#define WINDOW_SLACK (UINT64_C(2) << 20)
#define WINDOW_MAX (UINT64_C(1) << 30)

static int on_data(ssh_session session, ssh_channel channel, void *data,
                   uint32_t len, int is_stderr, void *user);

static struct hl_loop *loop_of(const struct hl_sftp_stream *st)
{
    return st->conn->ep->base.env->loop;
}

/* ---- Requests ----------------------------------------------------------- */

static bool reqs_grow(struct hl_sftp_stream *st)
{
    uint32_t i, cap = st->reqs_cap ? st->reqs_cap * 2 : 64;
    struct hl_sftp_req *reqs;

    if (cap > HL_SFTP_REQS_MAX)
        return false;
    reqs = hl_realloc(st->reqs, cap * sizeof(*reqs));
    if (!reqs)
        return false;
    for (i = st->reqs_cap; i < cap; i++) {
        reqs[i] = (struct hl_sftp_req){.id = i};
        reqs[i].next_free = i + 1 < cap ? (int32_t)(i + 1) : -1;
    }
    st->reqs_free = (int32_t)st->reqs_cap;
    st->reqs = reqs;
    st->reqs_cap = cap;
    return true;
}

struct hl_sftp_req *hl_sftp_req_new(struct hl_sftp_stream *st,
                                    enum hl_sftp_req_kind kind)
{
    struct hl_sftp_req *req;

    if (st->reqs_free < 0 && !reqs_grow(st))
        return NULL;
    req = &st->reqs[st->reqs_free];
    st->reqs_free = req->next_free;
    /* A count in the upper half: a late reply to an old request that had
     * the same slot is found out. */
    *req = (struct hl_sftp_req){.id = req->id + 0x10000, .kind = kind};
    st->reqs_used++;
    return req;
}

void hl_sftp_req_free(struct hl_sftp_stream *st, struct hl_sftp_req *req)
{
    req->kind = HL_REQ_FREE;
    req->next_free = st->reqs_free;
    st->reqs_free = (int32_t)(req - st->reqs);
    st->reqs_used--;
}

static struct hl_sftp_req *req_find(struct hl_sftp_stream *st, uint32_t id)
{
    uint32_t slot = id & 0xffff;

    if (slot >= st->reqs_cap || st->reqs[slot].id != id ||
        st->reqs[slot].kind == HL_REQ_FREE ||
        st->reqs[slot].kind == HL_REQ_FAILED)
        return NULL;
    return &st->reqs[slot];
}

/* Frees a READ or WRITE whose reply is here. */
static void req_done(struct hl_sftp_stream *st, struct hl_sftp_req *req)
{
    struct hl_sftp_fh *fh = req->fh;

    if (req->kind == HL_REQ_READ)
        st->asked -= req->len;
    hl_sftp_req_free(st, req);
    fh->outstanding--;
    if (!fh->outstanding)
        hl_sftp_fh_idle(fh);
}

static bool small_room(struct hl_sftp_stream *st, size_t room)
{
    size_t cap = st->small_cap ? st->small_cap : 2 * SMALL_ROOM;
    uint8_t *p;

    if (st->small_sent) {
        st->small_len -= st->small_sent;
        memmove(st->small, st->small + st->small_sent, st->small_len);
        st->small_sent = 0;
    }
    while (cap - st->small_len < room)
        cap *= 2;
    if (cap == st->small_cap)
        return true;
    p = hl_realloc(st->small, cap);
    if (!p)
        return false;
    st->small = p;
    st->small_cap = cap;
    return true;
}

static struct hl_sftp_out *small_begin(struct hl_sftp_stream *st)
{
    if (st->state == HL_ST_DEAD || !small_room(st, SMALL_ROOM))
        return NULL;
    st->out = (struct hl_sftp_out){st->small + st->small_len, SMALL_ROOM, 0};
    return &st->out;
}

struct hl_sftp_out *hl_sftp_call(struct hl_sftp_stream *st,
                                 hl_sftp_reply_fn *fn, void *ctx, uint32_t *id)
{
    struct hl_sftp_out *o = small_begin(st);
    struct hl_sftp_req *req = o ? hl_sftp_req_new(st, HL_REQ_CALL) : NULL;

    if (!req)
        return NULL;
    req->fn = fn;
    req->ctx = ctx;
    req->sent_ns = hl_loop_now(loop_of(st));
    *id = req->id;
    return o;
}

void hl_sftp_send(struct hl_sftp_stream *st, struct hl_sftp_out *o)
{
    HL_ASSERT(o == &st->out && o->len);
    st->small_len += o->len;
    o->len = 0;
    st->conn->kick = true;
}

/* ---- Life --------------------------------------------------------------- */

struct hl_sftp_stream *hl_sftp_stream_new(struct hl_sftp_conn *conn)
{
    struct hl_sftp_stream *st = hl_malloc(sizeof(*st));

    if (!st)
        return NULL;
    st->conn = conn;
    st->reqs_free = -1;
    st->window = LIBSSH_WINDOW_FIRST;
    st->limits =
        (struct hl_sftp_limits){HL_SFTP_IO_DEFAULT, HL_SFTP_IO_DEFAULT};
    hl_list_init(&st->fhs);
    hl_list_init(&st->reads);
    st->rx_cap = 4096;
    st->rx = hl_malloc(st->rx_cap);
    st->channel = st->rx ? ssh_channel_new(conn->session) : NULL;
    if (!st->channel) {
        hl_free(st->rx);
        hl_free(st);
        return NULL;
    }
    st->callbacks.userdata = st;
    st->callbacks.channel_data_function = on_data;
    ssh_callbacks_init(&st->callbacks);
    ssh_set_channel_callbacks(st->channel, &st->callbacks);
    hl_sftp_stream_step(st);
    return st;
}

void hl_sftp_stream_die(struct hl_sftp_stream *st, int rc, const char *why)
{
    if (st->state == HL_ST_DEAD)
        return;
    st->state = HL_ST_DEAD;
    hl_err(&st->error, rc, 0, "'%s': %s", st->conn->ep->name, why);
    st->conn->kick = true;
}

/* What was sent for op and has no answer is lost; for what the driver still
 * has, the operation itself comes back. */
static void fail_requests(struct hl_sftp_stream *st)
{
    uint32_t i;

    for (i = 0; i < st->reqs_cap; i++) {
        struct hl_sftp_req req = st->reqs[i];

        if (req.kind == HL_REQ_FREE)
            continue;
        hl_sftp_req_free(st, &st->reqs[i]);
        if (req.kind == HL_REQ_CALL)
            req.fn(st, req.ctx, NULL);
        else if (req.kind == HL_REQ_WRITE && !req.io && !req.fh->muted)
            hl_object_lost(&req.fh->obj->base, req.offset, req.len, &st->error);
        if (req.kind == HL_REQ_WRITE || req.kind == HL_REQ_READ)
            req.fh->outstanding--;
    }
}

void hl_sftp_read_finish(struct hl_sftp_stream *st, struct hl_sftp_read *rd,
                         int rc)
{
    struct hl_sftp_ep *ep = st->conn->ep;
    struct hl_io *io = rd->io;

    st->read_bytes -= io->len;
    st->uncut -= io->len - rd->next;
    pthread_mutex_lock(&ep->lock);
    ep->read_bytes -= io->len;
    pthread_mutex_unlock(&ep->lock);
    io->done = rc ? 0 : rd->end;
    io->eof = !rc && rd->eof;
    if (rc)
        io->op.error = rd->error;
    hl_list_remove(&io->op.node);
    io->op.driver_data = NULL;
    hl_free(rd);
    hl_op_finish(loop_of(st), &io->op, rc);
}

void hl_sftp_stream_free(struct hl_sftp_stream *st)
{
    struct hl_node *n;

    hl_sftp_stream_die(st, HAUL_E_RESET, "connection lost");
    if (st->conn->sender == st)
        st->conn->sender = NULL;
    hl_sftp_stream_flush_acks(st);
    fail_requests(st);
    while ((n = hl_list_first(&st->reads))) {
        struct hl_io *io = HL_CONTAINER(n, struct hl_io, op.node);
        struct hl_sftp_read *rd = io->op.driver_data;

        rd->error = st->error;
        hl_sftp_read_finish(st, rd, st->error.code);
    }
    if (st->io) {
        st->io->op.error = st->error;
        hl_op_finish(loop_of(st), &st->io->op, st->error.code);
    }
    while ((n = hl_list_first(&st->fhs)))
        hl_sftp_fh_free(HL_CONTAINER(n, struct hl_sftp_fh, node));
    ssh_remove_channel_callbacks(st->channel, &st->callbacks);
    ssh_channel_free(st->channel);
    hl_free(st->body_copy);
    hl_free(st->small);
    hl_free(st->reqs);
    hl_free(st->rx);
    hl_free(st);
}

/* ---- Set-up ------------------------------------------------------------- */

static void got_limits(struct hl_sftp_stream *st, void *ctx,
                       const struct hl_sftp_reply *reply)
{
    struct hl_sftp_conn *conn = st->conn;

    (void)ctx;
    if (!reply)
        return;
    if (reply->type != HL_SFTP_EXTENDED_REPLY ||
        hl_sftp_limits_parse(reply->bytes, &st->limits))
        st->limits =
            (struct hl_sftp_limits){HL_SFTP_IO_DEFAULT, HL_SFTP_IO_DEFAULT};
    conn->limits = st->limits;
    conn->limits_known = true;
    conn->kick = true;
}

static void send_limits(struct hl_sftp_stream *st)
{
    uint32_t id;
    struct hl_sftp_out *o;

    /* No string follows the name: the message ends there. */
    o = hl_sftp_call(st, got_limits, NULL, &id);
    if (o && hl_sftp_put_path(o, HL_SFTP_EXTENDED, id, "limits@openssh.com"))
        hl_sftp_send(st, o);
    else
        hl_sftp_stream_die(st, HAUL_E_NOMEM, "out of memory");
}

static void ask_limits(struct hl_sftp_stream *st)
{
    struct hl_sftp_conn *conn = st->conn;

    if (!st->server.limits) {
        conn->limits = st->limits;
        conn->limits_known = true;
    }
    if (conn->limits_known) {
        st->limits = conn->limits;
        return;
    }
    send_limits(st);
}

bool hl_sftp_openssh(const struct hl_sftp_conn *conn, unsigned *major,
                     unsigned *minor)
{
    static const char name[] = "SSH-2.0-OpenSSH_";
    const char *server = hl_ssh_server(conn->ssh);

    return !strncmp(server, name, sizeof(name) - 1) &&
           sscanf(server + sizeof(name) - 1, "%2u.%2u", major, minor) == 2;
}

/* OpenSSH has limits@openssh.com since 8.5; others may take offence at what
 * they did not offer. */
static bool knows_limits(const struct hl_sftp_conn *conn)
{
    unsigned major, minor;

    return hl_sftp_openssh(conn, &major, &minor) &&
           (major > 8 || (major == 8 && minor >= 5));
}

/* Messages that need no VERSION go out with the request for the subsystem:
 * the server reads them in order. It saves a round trip. */
static void begin_subsystem(struct hl_sftp_stream *st)
{
    struct hl_sftp_ep *ep = st->conn->ep;
    struct hl_sftp_out *o = small_begin(st);
    struct hl_sftp_obj *only = NULL;
    struct hl_node *n;

    if (!o || !hl_sftp_put_init(o)) {
        hl_sftp_stream_die(st, HAUL_E_NOMEM, "out of memory");
        return;
    }
    hl_sftp_send(st, o);
    if (!st->conn->limits_known && knows_limits(st->conn)) {
        st->limits_asked = true;
        send_limits(st);
    }
    pthread_mutex_lock(&ep->lock);
    n = hl_list_first(&ep->objects);
    if (n && !hl_list_next(&ep->objects, n))
        only = HL_CONTAINER(n, struct hl_sftp_obj, node);
    if (only && only->opened && only->wide && !only->in_order && !only->drain)
        only->handles++;
    else
        only = NULL;
    pthread_mutex_unlock(&ep->lock);
    if (only)
        hl_sftp_fh_open(st, only);
}

static void step_subsystem(struct hl_sftp_stream *st)
{
    int rc;

    if (!st->subsystem_ok) {
        rc = ssh_channel_request_sftp(st->channel);
        if (rc == SSH_ERROR) {
            hl_sftp_stream_die(st, HAUL_E_REMOTE, "the server offers no SFTP");
            hl_err_hint(&st->error, "Ask for SFTP access, or check that the "
                                    "server has 'Subsystem sftp'.");
            return;
        }
        st->subsystem_ok = rc == SSH_OK;
    }
    if (st->version_ok && !st->limits_asked) {
        st->limits_asked = true;
        ask_limits(st);
    }
    if (st->subsystem_ok && st->version_ok && st->conn->limits_known &&
        st->state == HL_ST_SUBSYSTEM) {
        st->limits = st->conn->limits;
        st->state = HL_ST_READY;
        st->conn->kick = true;
        HL_TRACE(st->conn->ep->base.env->log, HL_AREA_SSH,
                 "stream up, requests of %u", st->limits.write_max);
    }
}

void hl_sftp_stream_step(struct hl_sftp_stream *st)
{
    if (st->state == HL_ST_OPENING) {
        int rc = ssh_channel_open_session(st->channel);

        if (rc == SSH_ERROR)
            hl_sftp_stream_die(st, HAUL_E_REMOTE_BUSY,
                               "the server opens no further channel");
        if (rc != SSH_OK)
            return;
        st->state = HL_ST_SUBSYSTEM;
        begin_subsystem(st);
    }
    if (st->state == HL_ST_SUBSYSTEM)
        step_subsystem(st);
    if (st->state != HL_ST_DEAD && st->state != HL_ST_OPENING &&
        (ssh_channel_is_closed(st->channel) || ssh_channel_is_eof(st->channel)))
        hl_sftp_stream_die(st, HAUL_E_RESET, "the server closed a channel");
}

/* ---- Acknowledgements --------------------------------------------------- */

void hl_sftp_stream_flush_acks(struct hl_sftp_stream *st)
{
    if (st->ack_fh && !st->ack_fh->muted)
        hl_object_acked(&st->ack_fh->obj->base, st->ack_begin,
                        st->ack_end - st->ack_begin);
    st->ack_fh = NULL;
}

static void ack(struct hl_sftp_stream *st, const struct hl_sftp_req *req)
{
    uint64_t end = req->offset + req->len;

    if (st->ack_fh == req->fh && st->ack_end == req->offset) {
        st->ack_end = end;
    } else {
        hl_sftp_stream_flush_acks(st);
        st->ack_fh = req->fh;
        st->ack_begin = req->offset;
        st->ack_end = end;
    }
    if (st->ack_end - st->ack_begin >= ACK_SPAN || req->fh->outstanding == 1)
        hl_sftp_stream_flush_acks(st);
}

/* ---- Receiving ---------------------------------------------------------- */

static void break_proto(struct hl_sftp_stream *st, const char *why)
{
    hl_sftp_conn_break(st->conn, HAUL_E_PROTO, why);
    hl_sftp_stream_die(st, HAUL_E_PROTO, why);
}

static struct hl_sftp_read *read_of(const struct hl_sftp_req *req)
{
    return req->io ? req->io->op.driver_data : NULL;
}

bool hl_sftp_ask_read(struct hl_sftp_stream *st, struct hl_sftp_read *rd,
                      uint64_t offset, uint32_t len)
{
    struct hl_sftp_out *o = small_begin(st);
    struct hl_sftp_req *req = o ? hl_sftp_req_new(st, HL_REQ_READ) : NULL;

    if (!req)
        return false;
    req->fh = rd->fh;
    req->io = rd->io;
    req->offset = offset;
    req->len = len;
    hl_sftp_put_read(o, req->id, hl_sftp_fh_bytes(rd->fh), offset, len);
    hl_sftp_send(st, o);
    st->asked += len;
    rd->outstanding++;
    rd->fh->outstanding++;
    return true;
}

/* One request of rd is answered. */
static void read_progress(struct hl_sftp_stream *st, struct hl_sftp_read *rd)
{
    rd->outstanding--;
    if ((rd->rc || rd->eof) && rd->next < rd->io->len) {
        st->uncut -= rd->io->len - rd->next;
        rd->next = rd->io->len;
    }
    if (!rd->outstanding && rd->next == rd->io->len)
        hl_sftp_read_finish(st, rd, rd->rc);
}

static void got_data(struct hl_sftp_stream *st)
{
    struct hl_sftp_req *slot = req_find(st, st->data_id);
    struct hl_sftp_req req = *slot;
    struct hl_sftp_read *rd = read_of(&req);

    if (rd && st->data_len < req.len && !rd->rc &&
        !hl_sftp_ask_read(st, rd, req.offset + st->data_len,
                          req.len - st->data_len))
        rd->rc = hl_err(&rd->error, HAUL_E_NOMEM, 0, "out of memory");
    /* hl_sftp_ask_read() may have moved the slots. */
    slot = req_find(st, st->data_id);
    req_done(st, slot);
    if (rd)
        read_progress(st, rd);
}

static void read_status(struct hl_sftp_stream *st, struct hl_sftp_req *slot,
                        const struct hl_sftp_reply *reply)
{
    struct hl_sftp_req req = *slot;
    struct hl_sftp_read *rd = read_of(&req);

    req_done(st, slot);
    if (!rd)
        return;
    if (reply->status == HL_FX_EOF) {
        rd->eof = true;
        rd->end = (uint32_t)hl_min(rd->end, req.offset - rd->io->offset);
    } else {
        rd->rc =
            hl_sftp_status_err(&rd->error, reply, "read", rd->fh->obj->work);
    }
    read_progress(st, rd);
}

static void write_status(struct hl_sftp_stream *st, struct hl_sftp_req *req,
                         const struct hl_sftp_reply *reply)
{
    if (reply->status == HL_FX_OK) {
        if (!req->fh->muted)
            ack(st, req);
        req_done(st, req);
        return;
    }
    req->status = reply->status;
    req->full = hl_sftp_says_full(reply);
    if (req->io) {
        /* Reported as soon as the operation is taken. */
        req->kind = HL_REQ_FAILED;
        req->fh->outstanding--;
        return;
    }
    if (!req->fh->muted)
        hl_sftp_write_lost(st, req);
    /* hl_sftp_write_lost() may have moved the slots. */
    req_done(st, req_find(st, reply->id));
}

static void got_reply(struct hl_sftp_stream *st, const uint8_t *message,
                      size_t len)
{
    struct hl_sftp_reply reply;
    struct hl_sftp_req *req;
    struct hl_sftp_req copy;

    if (!st->version_ok) {
        if (hl_sftp_version_parse(message, len, &st->server))
            break_proto(st, "the server does not speak SFTP");
        else if (st->server.version < 3)
            break_proto(st, "the server's SFTP is older than version 3");
        st->version_ok = true;
        st->conn->kick = true;
        return;
    }
    if (hl_sftp_reply_parse(message, len, &reply)) {
        break_proto(st, "malformed SFTP reply");
        return;
    }
    req = req_find(st, reply.id);
    if (!req) {
        break_proto(st, "SFTP reply to no request");
        return;
    }
    if (req->kind == HL_REQ_CALL) {
        uint64_t took = hl_loop_now(loop_of(st)) - req->sent_ns;

        if (took < atomic_load(&st->conn->rtt_ns))
            atomic_store(&st->conn->rtt_ns, took);
        copy = *req;
        hl_sftp_req_free(st, req);
        copy.fn(st, copy.ctx, &reply);
        return;
    }
    if (reply.type != HL_SFTP_STATUS)
        break_proto(st, "SFTP reply of the wrong type");
    else if (req->kind == HL_REQ_READ && reply.status == HL_FX_OK)
        break_proto(st, "SFTP read answered without data");
    else if (req->kind == HL_REQ_READ)
        read_status(st, req, &reply);
    else
        write_status(st, req, &reply);
}

static void begin_data(struct hl_sftp_stream *st,
                       const struct hl_sftp_head *head)
{
    struct hl_sftp_req *req = req_find(st, head->id);

    if (!st->version_ok || !req || req->kind != HL_REQ_READ ||
        !head->data_len || head->data_len > req->len) {
        break_proto(st, "SFTP data that nobody asked for");
        return;
    }
    st->rx_len = 0;
    st->data_id = head->id;
    st->data_len = st->data_left = head->data_len;
    st->data_to =
        req->io ? req->io->data + (req->offset - req->io->offset) : NULL;
}

static bool rx_room(struct hl_sftp_stream *st, size_t total)
{
    uint8_t *p;

    if (total <= st->rx_cap)
        return true;
    p = hl_realloc(st->rx, total); /* <= HL_SFTP_MESSAGE_MAX + 4 */
    if (!p) {
        hl_sftp_conn_break(st->conn, HAUL_E_NOMEM, "out of memory");
        hl_sftp_stream_die(st, HAUL_E_NOMEM, "out of memory");
        return false;
    }
    st->rx = p;
    st->rx_cap = total;
    return true;
}

/* Everything but file data. Returns how many bytes it took. */
static size_t receive_message(struct hl_sftp_stream *st, const uint8_t *p,
                              size_t len)
{
    struct hl_sftp_head head;
    int need = hl_sftp_head_parse(st->rx, st->rx_len, &head);
    size_t total;

    if (need < 0) {
        break_proto(st, "SFTP message of an impossible length");
        return len;
    }
    if (!need && head.type == HL_SFTP_DATA) {
        begin_data(st, &head);
        return 0;
    }
    total = need ? (size_t)need : (size_t)head.length + 4;
    if (!rx_room(st, total))
        return len;
    len = hl_min(len, total - st->rx_len);
    memcpy(st->rx + st->rx_len, p, len);
    st->rx_len += len;
    if (!need && st->rx_len == total) {
        st->rx_len = 0;
        got_reply(st, st->rx + 4, head.length);
    }
    return len;
}

static size_t receive_data(struct hl_sftp_stream *st, const uint8_t *p,
                           size_t len)
{
    len = hl_min(len, st->data_left);
    if (st->data_to) {
        memcpy(st->data_to, p, len);
        st->data_to += len;
    }
    st->data_left -= (uint32_t)len;
    if (!st->data_left)
        got_data(st);
    return len;
}

/* Takes everything: what libssh kept would be copied again, and the trick in
 * hl_sftp_stream_grow_window() needs its buffer empty. */
static int on_data(ssh_session session, ssh_channel channel, void *data,
                   uint32_t len, int is_stderr, void *user)
{
    struct hl_sftp_stream *st = user;
    const uint8_t *p = data;
    size_t left = len;

    (void)session;
    (void)channel;
    st->conn->channel_bytes += len;
    st->window = st->window > len ? st->window - len : 0;
    if (st->window < LIBSSH_WINDOW / 2)
        st->window = LIBSSH_WINDOW;
    while (!is_stderr && left && st->state != HL_ST_DEAD) {
        size_t n = st->data_left ? receive_data(st, p, left)
                                 : receive_message(st, p, left);

        p += n;
        left -= n;
    }
    return (int)len;
}

void hl_sftp_stream_grow_window(struct hl_sftp_stream *st)
{
    uint64_t cap = st->conn->ep->base.env->library_bytes_max;
    /* What is asked for bounds what comes; the window must never do so, or
     * the rate that is measured, and what is asked for next, would shrink. */
    uint64_t want = 2 * st->conn->ask_max + WINDOW_SLACK;
    int rc;

    if (!st->read_bytes || st->state != HL_ST_READY)
        return;
    if (cap)
        want = hl_max(LIBSSH_WINDOW, hl_min(want, cap));
    want = hl_min(want, WINDOW_MAX);
    if (st->window >= want - want / 4)
        return;
    /* libssh 0.10 grows the window to what a read with a timeout asks for
     * (grow_window() in channels.c), and nothing else does. There is nothing
     * to read: on_data() takes everything. */
    st->window = (uint32_t)want;
    rc = ssh_channel_read_timeout(st->channel, st->conn->scratch,
                                  (uint32_t)want, 0, 0);
    if (rc > 0)
        break_proto(st, "bytes were left in a channel");
    else if (rc == SSH_ERROR)
        hl_sftp_stream_die(st, HAUL_E_RESET, "the server closed a channel");
}
