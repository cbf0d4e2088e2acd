/*
 * One SSH connection: connects, then drives its channels until it breaks or
 * the endpoint goes. One thread a connection, and everything here runs on it
 * but hl_sftp_conn_start(), _free() and what says "lock held".
 */
#include "sftp.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <libssh/server.h> /* ssh_send_keepalive() */

#define TICK_NS (100 * HL_NS_PER_MS)
#define KEEPALIVE_NS (15 * HL_NS_PER_S)
#define ACCOUNT_NS (10 * HL_NS_PER_MS)
#define MORE_NS (30 * HL_NS_PER_S) /* after a refused further connection */
/* Polls before the streams are looked at again: libssh reads a few KiB each. */
#define POLL_BURST 64
#define DRAIN_BURST 16
/* What READs ask for beyond what the link holds. */
#define ASK_SLACK (UINT64_C(4) << 20)
#define ASK_FIRST (UINT64_C(12) << 20)
#define ASK_QUEUE_MAX (UINT64_C(10) << 20) /* of what waits at the server */
#define FIRST_RATE UINT64_C(125000000)     /* assumed until it is known */

static uint64_t now_of(const struct hl_sftp_conn *conn)
{
    return hl_loop_now(conn->ep->base.env->loop);
}

void hl_sftp_conn_break(struct hl_sftp_conn *conn, int rc, const char *why)
{
    if (conn->rc)
        return;
    conn->rc = rc;
    hl_err(&conn->error, rc, 0, "'%s': %s", conn->ep->name, why);
    conn->kick = true;
}

uint32_t hl_sftp_up(const struct hl_sftp_ep *ep)
{
    uint32_t i, n = 0;

    for (i = 0; i < HL_SFTP_CONNS_MAX; i++)
        if (ep->conns[i] && ep->conns[i]->state == HL_CONN_UP)
            n++;
    return n;
}

void hl_sftp_wake(struct hl_sftp_conn *conn)
{
    uint64_t one = 1;

    /* Fails only when it is readable already. */
    if (write(conn->wake_fd, &one, sizeof(one)) < 0)
        return;
}

/* ---- Streams ------------------------------------------------------------ */

uint32_t hl_sftp_channels_max(const struct hl_sftp_conn *conn)
{
    uint32_t max = conn->ep->streams_max;

    if (conn->streams_limit)
        max = (uint32_t)hl_min(max, conn->streams_limit);
    return max;
}

/* lock held. Connections are filled one after the other. */
static uint32_t streams_wanted(const struct hl_sftp_conn *conn)
{
    const struct hl_sftp_ep *ep = conn->ep;
    uint32_t i, want = ep->targets_want;

    for (i = 0; i < conn->index; i++) {
        const struct hl_sftp_conn *other = ep->conns[i];

        if (other && other->state == HL_CONN_UP)
            want -= (uint32_t)hl_min(want, hl_sftp_channels_max(other));
    }
    return (uint32_t)hl_max(1, hl_min(want, hl_sftp_channels_max(conn)));
}

/* lock held. */
static bool wants_connection(struct hl_sftp_conn *conn)
{
    struct hl_sftp_ep *ep = conn->ep;
    uint32_t i, channels = 0, count = 0;

    for (i = 0; i < HL_SFTP_CONNS_MAX; i++) {
        const struct hl_sftp_conn *other = ep->conns[i];

        if (!other || other->state == HL_CONN_DOWN)
            continue;
        if (other->state == HL_CONN_CONNECTING)
            return false;
        channels += hl_sftp_channels_max(other);
        count++;
    }
    return (ep->targets_want > channels || ep->sources_want > count) &&
           count < ep->conns_max && conn->now_ns >= ep->more_at_ns &&
           conn->stream_count && !hl_ssh_host_one_login(ep->host);
}

static void adjust_streams(struct hl_sftp_conn *conn)
{
    struct hl_sftp_ep *ep = conn->ep;
    struct hl_error err = {0};
    uint32_t i, want;

    pthread_mutex_lock(&ep->lock);
    want = streams_wanted(conn);
    if (wants_connection(conn) && hl_sftp_conn_start(ep, &err))
        ep->more_at_ns = conn->now_ns + MORE_NS;
    pthread_mutex_unlock(&ep->lock);
    while (conn->stream_count < want) {
        struct hl_sftp_stream *st = hl_sftp_stream_new(conn);

        if (!st) {
            if (!conn->stream_count)
                hl_sftp_conn_break(conn, HAUL_E_NOMEM, "out of memory");
            break;
        }
        conn->streams[conn->stream_count++] = st;
    }
    for (i = 0; i < conn->stream_count; i++)
        conn->streams[i]->spare = i >= want;
}

/* Its jobs and its requests fail; conn goes on when that makes sense. */
static void bury_stream(struct hl_sftp_conn *conn, uint32_t index)
{
    struct hl_sftp_stream *st = conn->streams[index];
    bool served = st->version_ok,
         refused =
             st->state == HL_ST_DEAD && st->error.code == HAUL_E_REMOTE_BUSY;
    struct hl_node *n;

    conn->streams[index] = conn->streams[--conn->stream_count];
    for (n = hl_list_first(&conn->jobs); n; n = hl_list_next(&conn->jobs, n)) {
        struct hl_sftp_job *job = HL_CONTAINER(n, struct hl_sftp_job, node);

        if (job->st != st || !job->op)
            continue;
        job->error = st->error;
        hl_sftp_job_finish(job, st->error.code);
    }
    if (refused && conn->stream_count) {
        pthread_mutex_lock(&conn->ep->lock);
        conn->streams_limit = conn->stream_count;
        pthread_mutex_unlock(&conn->ep->lock);
        HL_INFO(conn->ep->base.env->log, HL_AREA_SSH,
                "the server takes %u channels a connection",
                conn->stream_count);
    } else if (!served && !conn->rc) {
        conn->rc = st->error.code;
        conn->error = st->error;
    }
    hl_sftp_stream_free(st);
}

static void step_streams(struct hl_sftp_conn *conn)
{
    uint64_t seen = conn->bytes.in_bytes;
    uint32_t i, up = 0;

    for (i = 0; i < conn->stream_count; i++)
        hl_sftp_stream_step(conn->streams[i]);
    for (i = conn->stream_count; i-- > 0;)
        if (conn->streams[i]->state == HL_ST_DEAD)
            bury_stream(conn, i);
    for (i = 0; i < conn->stream_count; i++)
        up += conn->streams[i]->state == HL_ST_READY;
    atomic_store(&conn->streams_up, up);
    conn->setting_up = up < conn->stream_count;
    /* One stream's step may have received another one's answer. */
    conn->kick |= conn->setting_up && conn->bytes.in_bytes != seen;
}

/* ---- Jobs and drains ---------------------------------------------------- */

static struct hl_sftp_stream *stream_for(struct hl_sftp_conn *conn,
                                         const struct hl_sftp_obj *obj)
{
    struct hl_sftp_stream *first = NULL;
    uint32_t i;

    for (i = 0; i < conn->stream_count; i++) {
        struct hl_sftp_stream *st = conn->streams[i];

        if (st->state != HL_ST_READY)
            continue;
        if (hl_sftp_fh_find(st, obj))
            return st;
        if (!first || st->reqs_used < first->reqs_used)
            first = st;
    }
    return first;
}

/* lock held. */
static struct hl_sftp_job *next_job(struct hl_sftp_conn *conn)
{
    struct hl_list *jobs = &conn->ep->jobs;
    struct hl_node *n;

    for (n = hl_list_first(jobs); n; n = hl_list_next(jobs, n)) {
        struct hl_sftp_job *job = HL_CONTAINER(n, struct hl_sftp_job, node);

        if (job->obj->home && job->obj->home != conn)
            continue;
        job->st = stream_for(conn, job->obj);
        if (!job->st)
            return NULL;
        hl_list_remove(n);
        return job;
    }
    return NULL;
}

static void take_jobs(struct hl_sftp_conn *conn)
{
    struct hl_sftp_job *job;

    do {
        pthread_mutex_lock(&conn->ep->lock);
        job = next_job(conn);
        pthread_mutex_unlock(&conn->ep->lock);
        if (job) {
            hl_list_append(&conn->jobs, &job->node);
            hl_sftp_job_start(job);
        }
    } while (job);
}

/* Every stream closes its handle of obj but keep. True: all are closed. */
static bool drain_close(struct hl_sftp_conn *conn, struct hl_sftp_obj *obj,
                        const struct hl_sftp_fh *keep)
{
    uint32_t i;
    bool left = false;

    for (i = 0; i < conn->stream_count; i++) {
        struct hl_sftp_fh *fh = hl_sftp_fh_find(conn->streams[i], obj);

        if (fh && fh != keep)
            hl_sftp_fh_close(fh);
        fh = hl_sftp_fh_find(conn->streams[i], obj);
        left |= fh && fh != keep;
    }
    return !left;
}

static void drain_abort(struct hl_sftp_conn *conn, struct hl_sftp_obj *obj)
{
    struct hl_node *n;
    uint32_t i;

    for (i = 0; i < conn->stream_count; i++)
        hl_sftp_stream_forget(conn->streams[i], obj);
    for (n = hl_list_first(&conn->jobs); n; n = hl_list_next(&conn->jobs, n)) {
        struct hl_sftp_job *job = HL_CONTAINER(n, struct hl_sftp_job, node);

        if (job->obj != obj || !job->op)
            continue;
        job->error = (struct hl_error){0};
        hl_sftp_job_finish(job, HAUL_E_CANCELED);
    }
}

static void answer_drains(struct hl_sftp_conn *conn)
{
    struct hl_sftp_ep *ep = conn->ep;
    struct {
        struct hl_sftp_obj *obj;
        enum hl_sftp_drain kind;
        struct hl_sftp_fh *keep;
    } todo[DRAIN_BURST];
    uint64_t bit = UINT64_C(1) << conn->index;
    struct hl_node *n;
    uint32_t i, count = 0;

    pthread_mutex_lock(&ep->lock);
    for (n = hl_list_first(&ep->draining); n && count < DRAIN_BURST;
         n = hl_list_next(&ep->draining, n)) {
        struct hl_sftp_obj *obj =
            HL_CONTAINER(n, struct hl_sftp_obj, drain_node);

        if (!(obj->drain_left & bit))
            continue;
        atomic_fetch_add(&obj->refs, 1);
        todo[count].obj = obj;
        todo[count].kind = obj->drain;
        todo[count++].keep = obj->keep;
    }
    pthread_mutex_unlock(&ep->lock);
    for (i = 0; i < count; i++) {
        struct hl_sftp_obj *obj = todo[i].obj;
        bool done = true;

        if (todo[i].kind == HL_DRAIN_ABORT)
            drain_abort(conn, obj);
        else
            done = drain_close(conn, obj, todo[i].keep);
        pthread_mutex_lock(&ep->lock);
        if (done && obj->drain == todo[i].kind && (obj->drain_left & bit))
            hl_sftp_drain_answer(obj, conn->index);
        pthread_mutex_unlock(&ep->lock);
        hl_sftp_obj_unref(obj);
    }
    /* The rest of a long list with the next turn. */
    conn->kick |= count == DRAIN_BURST;
}

/* ---- Where the time goes ------------------------------------------------ */

static uint64_t thread_cpu_ns(void)
{
    struct timespec ts = {0};

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * HL_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* The time since the last call: what the thread ran is work, the rest was
 * spent waiting for what conn->account says. */
static void account(struct hl_sftp_conn *conn, _Atomic uint64_t *next)
{
    uint64_t wall = conn->now_ns - conn->account_ns, cpu, worked;

    if (next == conn->account && wall < ACCOUNT_NS)
        return;
    cpu = thread_cpu_ns();
    worked = hl_min(wall, cpu - conn->account_cpu_ns);
    atomic_fetch_add(&conn->cpu_ns, worked);
    if (conn->account)
        atomic_fetch_add(conn->account, wall - worked);
    conn->account = next;
    conn->account_ns = conn->now_ns;
    conn->account_cpu_ns = cpu;
}

/* Sends what can be sent; says what conn waits for then. */
static _Atomic uint64_t *pump_streams(struct hl_sftp_conn *conn)
{
    _Atomic uint64_t *wait = &conn->starved_ns;
    uint32_t i, n = conn->stream_count;
    bool window = false, link = false, reading = false;

    for (i = 0; i < n; i++) {
        struct hl_sftp_stream *st = conn->streams[(conn->next_stream + i) % n];
        enum hl_sftp_blocked blocked = hl_sftp_stream_pump(st);

        window |= blocked == HL_BLOCKED_WINDOW;
        link |= blocked == HL_BLOCKED_LINK;
        hl_sftp_stream_grow_window(st);
        reading |= st->read_bytes > 0;
    }
    conn->next_stream++;
    conn->sending = window || link;
    if (link || reading)
        wait = &conn->link_ns;
    else if (window)
        wait = &conn->window_ns;
    return wait;
}

static bool writable(const struct hl_sftp_conn *conn)
{
    return !(ssh_get_status(conn->session) & SSH_WRITE_PENDING);
}

/* ---- Signs of life ------------------------------------------------------ */

/* Bytes that the other end's kernel has; what went into a pipe otherwise. */
static uint64_t sample_wire(struct hl_sftp_conn *conn)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    if (getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) ||
        len < offsetof(struct tcp_info, tcpi_bytes_received)) {
        atomic_store(&conn->wire_bytes,
                     conn->bytes.out_bytes + conn->bytes.in_bytes);
        return conn->bytes.out_bytes;
    }
    atomic_store(&conn->wire_bytes,
                 info.tcpi_bytes_acked + conn->bytes.in_bytes);
    return info.tcpi_bytes_acked;
}

static bool outstanding(const struct hl_sftp_conn *conn, bool *data)
{
    uint32_t i;
    bool any = false;

    *data = false;
    for (i = 0; i < conn->stream_count; i++) {
        const struct hl_sftp_stream *st = conn->streams[i];

        any |= st->reqs_used || st->head_len || st->state != HL_ST_READY ||
               st->small_len > st->small_sent;
        *data |= st->head_len || st->io || st->ack_fh;
    }
    return any || !hl_list_empty(&conn->jobs);
}

/* libssh 0.10 sends nothing when the answer to the one before has come but was
 * not collected; the call collects it (ssh_global_request() in channels.c). */
static void send_keepalive(struct hl_sftp_conn *conn)
{
    uint64_t before = conn->bytes.out_bytes;

    ssh_send_keepalive(conn->session);
    if (conn->bytes.out_bytes == before && writable(conn))
        ssh_send_keepalive(conn->session);
    conn->keepalive_bytes += conn->bytes.out_bytes - before;
}

/*
 * While data is sent the kernel's acknowledgements count, but for those of
 * keepalives, which a stopped server's kernel gives too. Otherwise only what
 * the server says does; and that its SSH answers keepalives is enough only
 * while it works on a job: a commit may take minutes, a READ or WRITE that is
 * never answered must not.
 */
static void check_alive(struct hl_sftp_conn *conn)
{
    uint64_t stall = conn->ep->stall_ns, progress;
    uint64_t acked = sample_wire(conn) - conn->keepalive_bytes;
    bool data, waiting = outstanding(conn, &data);
    bool patient = conn->setting_up || !hl_list_empty(&conn->jobs);

    if (conn->bytes.in_bytes != conn->heard_bytes) {
        conn->heard_bytes = conn->bytes.in_bytes;
        conn->heard_ns = conn->now_ns;
        conn->keepalive_ns = 0;
    }
    progress = (patient ? conn->heard_bytes : conn->channel_bytes) +
               (data || conn->sending ? acked : 0);
    waiting |= conn->keepalive_ns != 0;
    if (!waiting || progress > conn->progress_bytes)
        conn->progress_ns = conn->now_ns;
    conn->progress_bytes = progress;
    if (waiting && conn->now_ns - conn->progress_ns >= stall)
        hl_sftp_conn_break(conn, HAUL_E_STALLED,
                           "nothing moved within the stall timeout");
    if (conn->keepalive_ns || conn->rc || !writable(conn) ||
        conn->now_ns - conn->heard_ns < hl_min(KEEPALIVE_NS, stall / 3))
        return;
    conn->keepalive_ns = conn->now_ns;
    send_keepalive(conn);
}

/*
 * READs outstanding: rate times round trip, a quarter more so that a faster
 * link is found, and some slack. Not all that is queued: sshd takes as many
 * replies from its sftp-server as the window allows, and when that buffer is
 * full (CHAN_INPUT_MAX, 16 MiB) it moves all of it for each packet: measured
 * 3 MB/s instead of 125 with 64 MiB outstanding at 50 ms.
 */
static void pace_reads(struct hl_sftp_conn *conn)
{
    uint64_t rtt = atomic_load(&conn->rtt_ns);
    uint64_t past = conn->now_ns - conn->pace_ns;
    uint64_t bytes = conn->bytes.in_bytes - conn->in_seen;
    uint64_t rate, way;

    /* Over shorter times bursts look like a faster link. */
    if (past < hl_max(TICK_NS, 2 * rtt))
        return;
    rate = (uint64_t)((double)bytes * 1e9 / (double)past);
    conn->in_seen = conn->bytes.in_bytes;
    conn->pace_ns = conn->now_ns;
    if (bytes < ASK_SLACK / 4)
        return; /* nothing to measure a rate by */
    conn->in_rate = hl_max(hl_min(rate, conn->in_rate + conn->in_rate / 4),
                           conn->in_rate - conn->in_rate / 16);
    way = (uint64_t)((double)conn->in_rate * 1e-9 * (double)rtt);
    conn->ask_max = way + hl_min(ASK_SLACK + way / 4, ASK_QUEUE_MAX);
}

static void tick(struct hl_sftp_conn *conn)
{
    uint32_t i;

    conn->now_ns = now_of(conn);
    if (conn->now_ns - conn->tick_ns < TICK_NS)
        return;
    pace_reads(conn);
    conn->tick_ns = conn->now_ns;
    conn->kick = true;
    for (i = 0; i < conn->stream_count; i++)
        hl_sftp_stream_flush_acks(conn->streams[i]);
    check_alive(conn);
    if (atomic_load(&conn->unstall))
        hl_sftp_conn_break(conn, HAUL_E_STALLED,
                           "nothing moved within the stall timeout");
    if (!ssh_is_connected(conn->session))
        hl_sftp_conn_break(conn, HAUL_E_RESET, "connection lost");
}

/* ---- The loop ----------------------------------------------------------- */

static int on_wake(socket_t fd, int revents, void *user)
{
    struct hl_sftp_conn *conn = user;
    uint64_t n;

    (void)revents;
    if (read(fd, &n, sizeof(n)) == sizeof(n))
        conn->kick = true;
    return 0;
}

static void poll_events(struct hl_sftp_conn *conn)
{
    bool data;
    int i, rc, timeout = outstanding(conn, &data) ? 100 : 1000;

    if (conn->kick)
        timeout = 0;
    for (i = 0; i < POLL_BURST; i++) {
        rc = ssh_event_dopoll(conn->event, i ? 0 : timeout);
        if (rc == SSH_ERROR) {
            hl_sftp_conn_break(conn, HAUL_E_RESET, "connection lost");
            hl_err_detail(&conn->error, "%s", ssh_get_error(conn->session));
        }
        if (rc < 0 || conn->rc)
            return;
        conn->kick |= conn->setting_up;
        if (conn->kick || (conn->sending && writable(conn)))
            return;
    }
}

static void run(struct hl_sftp_conn *conn)
{
    conn->kick = true;
    while (!atomic_load(&conn->stop) && !conn->rc) {
        if (conn->kick) {
            conn->kick = false;
            answer_drains(conn);
            adjust_streams(conn);
            step_streams(conn);
            take_jobs(conn);
            hl_sftp_jobs_kick(conn);
        }
        account(conn, pump_streams(conn));
        poll_events(conn);
        tick(conn);
    }
}

static int set_up(struct hl_sftp_conn *conn)
{
    unsigned major, minor;
    int flags;

    conn->session = hl_ssh_session(conn->ssh);
    conn->fd = hl_ssh_fd(conn->ssh);
    atomic_store(&conn->rtt_ns, hl_ssh_rtt_ns(conn->ssh)
                                    ? hl_ssh_rtt_ns(conn->ssh)
                                    : HL_NS_PER_S);
    conn->in_rate = FIRST_RATE;
    conn->whole_messages = !hl_sftp_openssh(conn, &major, &minor);
    conn->scratch = hl_malloc(HL_SFTP_SCRATCH);
    conn->event = ssh_event_new();
    if (!conn->scratch || !conn->event)
        return hl_err(&conn->error, HAUL_E_NOMEM, 0, "out of memory");
    /* libssh makes the socket blocking again when it is connected, and then
     * its send() waits (socket.c of 0.10). */
    flags = fcntl(conn->fd, F_GETFL);
    if (flags < 0 || fcntl(conn->fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return hl_err(&conn->error, HAUL_E_BUG, errno, "cannot set up '%s'",
                      conn->ep->name);
    ssh_set_blocking(conn->session, 0);
    ssh_set_counters(conn->session, &conn->bytes, NULL);
    if (ssh_event_add_session(conn->event, conn->session) ||
        ssh_event_add_fd(conn->event, conn->wake_fd, POLLIN, on_wake, conn))
        return hl_err(&conn->error, HAUL_E_NOMEM, 0, "cannot poll '%s'",
                      conn->ep->name);
    conn->now_ns = conn->tick_ns = conn->account_ns = now_of(conn);
    conn->pace_ns = conn->now_ns;
    conn->ask_max = ASK_FIRST;
    conn->heard_ns = conn->progress_ns = conn->now_ns;
    conn->account_cpu_ns = thread_cpu_ns();
    pthread_mutex_lock(&conn->ep->lock);
    conn->state = HL_CONN_UP;
    conn->ep->refused = 0;
    pthread_mutex_unlock(&conn->ep->lock);
    return 0;
}

static void tear_down(struct hl_sftp_conn *conn)
{
    struct hl_node *n;

    if (!conn->error.code)
        hl_err(&conn->error, conn->rc ? conn->rc : HAUL_E_CANCELED, 0,
               "connection closed");
    while (conn->stream_count) {
        struct hl_sftp_stream *st = conn->streams[conn->stream_count - 1];

        if (st->state != HL_ST_DEAD) {
            st->state = HL_ST_DEAD;
            st->error = conn->error;
        }
        bury_stream(conn, conn->stream_count - 1);
    }
    for (n = hl_list_first(&conn->jobs); n; n = hl_list_next(&conn->jobs, n)) {
        struct hl_sftp_job *job = HL_CONTAINER(n, struct hl_sftp_job, node);

        job->st = NULL;
        if (!job->op)
            continue;
        job->error = conn->error;
        hl_sftp_job_finish(job, conn->error.code);
    }
    hl_sftp_jobs_kick(conn); /* frees them */
    if (conn->event) {
        ssh_event_remove_fd(conn->event, conn->wake_fd);
        if (conn->session)
            ssh_event_remove_session(conn->event, conn->session);
        ssh_event_free(conn->event);
    }
    hl_free(conn->scratch);
    hl_ssh_free(conn->ssh);
    conn->ssh = NULL;
}

static void add_flow(struct hl_flow *sum, struct hl_sftp_conn *conn)
{
    sum->wire_bytes += atomic_load(&conn->wire_bytes);
    sum->starved_ns += atomic_load(&conn->starved_ns);
    sum->window_ns += atomic_load(&conn->window_ns);
    sum->link_ns += atomic_load(&conn->link_ns);
    sum->cpu_ns += atomic_load(&conn->cpu_ns);
}

/* What nobody else can do fails with the reason; a further connection that
 * was refused is only noted. */
static void resign(struct hl_sftp_conn *conn)
{
    struct hl_sftp_ep *ep = conn->ep;
    bool was_up = conn->state == HL_CONN_UP, alone = true;
    struct hl_node *n, *next;
    uint32_t i;

    conn->state = HL_CONN_DOWN;
    add_flow(&ep->past, conn);
    for (n = hl_list_first(&ep->objects); n;
         n = hl_list_next(&ep->objects, n)) {
        struct hl_sftp_obj *obj = HL_CONTAINER(n, struct hl_sftp_obj, node);

        if (obj->home == conn)
            obj->home = NULL;
    }
    for (n = hl_list_first(&ep->draining); n; n = next) {
        struct hl_sftp_obj *obj =
            HL_CONTAINER(n, struct hl_sftp_obj, drain_node);

        next = hl_list_next(&ep->draining, n);
        if (obj->drain_left & (UINT64_C(1) << conn->index))
            hl_sftp_drain_answer(obj, conn->index);
    }
    for (i = 0; i < HL_SFTP_CONNS_MAX; i++) {
        struct hl_sftp_conn *other = ep->conns[i];

        if (!other || other->state == HL_CONN_DOWN)
            continue;
        alone = false;
        if (other->state == HL_CONN_UP)
            hl_sftp_wake(other);
    }
    if (alone) {
        hl_sftp_fail_queued(ep, NULL, conn->error.code, &conn->error);
    } else if (!was_up) {
        ep->refused++;
        ep->more_at_ns = now_of(conn) + (MORE_NS << hl_min(ep->refused - 1, 4));
        HL_INFO(ep->base.env->log, HL_AREA_SSH,
                "no further connection to '%s': %s", ep->name,
                conn->error.message);
    }
}

static void *conn_main(void *arg)
{
    struct hl_sftp_conn *conn = arg;
    struct hl_sftp_ep *ep = conn->ep;

    conn->rc = hl_ssh_connect(ep->host, &conn->stop, &conn->ssh, &conn->error);
    if (conn->rc && !conn->error.code)
        hl_err(&conn->error, conn->rc, 0, "cannot connect to '%s'", ep->name);
    if (!conn->rc)
        conn->rc = set_up(conn);
    if (!conn->rc)
        run(conn);
    HL_INFO(ep->base.env->log, HL_AREA_SSH, "connection %u to '%s' ends: %s",
            conn->index, ep->name, conn->rc ? conn->error.message : "idle");
    tear_down(conn);
    pthread_mutex_lock(&ep->lock);
    resign(conn);
    pthread_mutex_unlock(&ep->lock);
    return NULL;
}

int hl_sftp_conn_start(struct hl_sftp_ep *ep, struct hl_error *err)
{
    struct hl_sftp_conn *conn = NULL;
    uint32_t i;
    int rc;

    for (i = 0; i < HL_SFTP_CONNS_MAX; i++)
        if (!ep->conns[i] || ep->conns[i]->state == HL_CONN_DOWN)
            break;
    if (i == HL_SFTP_CONNS_MAX || ep->closing)
        return hl_err(err, HAUL_E_BUG, 0, "too many connections");
    if (ep->conns[i]) {
        /* It has given the lock back for the last time. */
        pthread_join(ep->conns[i]->thread, NULL);
        hl_sftp_conn_free(ep->conns[i]);
        ep->conns[i] = NULL;
    }
    conn = hl_malloc(sizeof(*conn));
    if (!conn)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    conn->ep = ep;
    conn->index = i;
    hl_list_init(&conn->jobs);
    conn->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = conn->wake_fd < 0 ? errno : 0;
    if (!rc)
        rc = hl_thread_start(&conn->thread, "haul-ssh", conn_main, conn);
    if (rc) {
        if (conn->wake_fd >= 0)
            close(conn->wake_fd);
        hl_free(conn);
        return hl_err(err, HAUL_E_NOMEM, rc, "cannot start a thread");
    }
    ep->conns[i] = conn;
    return 0;
}

void hl_sftp_conn_free(struct hl_sftp_conn *conn)
{
    if (!conn)
        return;
    close(conn->wake_fd);
    hl_free(conn);
}
