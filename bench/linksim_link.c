/*
 * The link of linksim.
 *
 * Model, for each direction: bytes are read from the sender at the rate of
 * the link (token bucket, quanta of at most 1 ms, connections in turn), wait
 * half a round trip, and are written to the receiver. What the link does not
 * take stays in the sender's socket, as it would in reality; what the receiver
 * does not take stays here, up to --inflight per connection, which stands for
 * the TCP window. A new connection pays the round trip of its handshake: its
 * first bytes arrive one and a half round trips after it was accepted.
 *
 * "up" is from the client to the target, "down" the way back. Faults count
 * delivered bytes. One thread, edge-triggered epoll.
 */
#include "linksim.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES_MIN 1500u /* one packet: the smallest quantum */
#define CATCH_UP (50 * MS)   /* how late this program may be, for free */
#define SLOT (MS / 10)       /* arrivals this close share a block */
#define IOV_COUNT 16
#define CREDIT_BYTES (4 * BLOCK_BYTES)
#define READS_PER_ROUND 64

enum { CLIENT = 0, TARGET = 1 };

struct block {
    struct block *next;
    int64_t due_ns;
    uint32_t head, tail;
    unsigned char data[BLOCK_BYTES];
};

/* Tokens are bytes that may be read now; negative after a read that took
 * more, so that the mean is exact. */
struct bucket {
    double rate; /* bytes per second, 0: no limit */
    double tokens;
    int64_t filled_ns;
};

/* One direction of one connection, from side "dir" to the other side. */
struct flow {
    struct block *first, *last;
    uint64_t queued_bytes;
    uint64_t turn; /* bytes read, see next_in_turn() */
    struct bucket bucket;
    int64_t end_due_ns; /* when the end of the stream arrives */
    bool ended;         /* nothing more to read */
    bool abort;         /* the end is a reset */
    bool shut;          /* the end was passed on */
};

struct conn;
struct side {
    struct conn *conn;
    int fd; /* -1: not yet, or no more */
    bool readable, writable;
};

struct conn {
    struct conn *next;
    struct side side[2];
    struct flow flow[DIRS];
    int64_t read_at_ns;    /* when the handshake is over for the client */
    int64_t connect_at_ns; /* when it is over for the target */
    uint64_t counted_bytes;
    int64_t stalled_until_ns; /* 0: moves */
    bool dead;
};

struct link_options opt = {.reset_after = UINT64_MAX,
                           .stall_after = UINT64_MAX,
                           .flip_at = UINT64_MAX,
                           .counts = {true, true}};
struct link_counters counters;

static struct {
    int epoll, listener, signal_fd;
    void (*on_signal)(void);
    int64_t now_ns;
    struct conn *conns;
    uint64_t turn[DIRS]; /* of the flow that was read last */
    struct block *spare;
    struct bucket bucket[DIRS];
    uint64_t counted_bytes;
    uint64_t next_reset;
    bool stall_done, flip_done, unplugged, quit;
} sim;

static void *must(void *p)
{
    if (!p)
        die("out of memory");
    return p;
}

int64_t clock_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * SECOND + ts.tv_nsec;
}

/* ---- Buckets ------------------------------------------------------------ */

static double bucket_burst(const struct bucket *b, int64_t ns)
{
    double burst = b->rate * (double)ns / SECOND;

    return burst > READ_BYTES_MIN ? burst : READ_BYTES_MIN;
}

static void bucket_fill(struct bucket *b)
{
    double most;

    if (b->rate == 0)
        return;
    b->tokens += b->rate * (double)(sim.now_ns - b->filled_ns) / SECOND;
    b->filled_ns = sim.now_ns;
    most = bucket_burst(b, CATCH_UP);
    if (b->tokens > most)
        b->tokens = most;
}

/* The sender had nothing more: what a link does not carry now is lost. */
static void bucket_idle(struct bucket *b)
{
    double most = bucket_burst(b, MS);

    if (b->tokens > most)
        b->tokens = most;
}

static bool bucket_empty(const struct bucket *b)
{
    return b->rate != 0 && b->tokens <= 0;
}

/* When a quantum can be read again. */
static int64_t bucket_due(const struct bucket *b)
{
    double missing = bucket_burst(b, MS) - b->tokens;

    if (!bucket_empty(b))
        return sim.now_ns;
    return sim.now_ns + (int64_t)(missing / b->rate * SECOND);
}

static size_t bucket_quantum(const struct bucket *b)
{
    double quantum = bucket_burst(b, MS);

    return b->rate == 0 || quantum > BLOCK_BYTES ? BLOCK_BYTES
                                                 : (size_t)quantum;
}

/* ---- Connections -------------------------------------------------------- */

static void block_free(struct block *b)
{
    b->next = sim.spare;
    sim.spare = b;
}

static struct block *block_new(void)
{
    struct block *b = sim.spare;

    if (b)
        sim.spare = b->next;
    else
        b = must(malloc(sizeof(*b)));
    b->next = NULL;
    b->head = b->tail = 0;
    return b;
}

static void flow_drop(struct flow *f)
{
    while (f->first) {
        struct block *b = f->first;

        f->first = b->next;
        block_free(b);
    }
    f->last = NULL;
    f->queued_bytes = 0;
}

static void watch(struct side *s)
{
    struct epoll_event ev = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
    int one = 1;

    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (epoll_ctl(sim.epoll, EPOLL_CTL_ADD, s->fd, &ev) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void side_close(struct side *s, bool reset)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    if (s->fd < 0)
        return;
    if (reset)
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(s->fd);
    s->fd = -1;
}

/* The struct stays until conns_sweep(), events may still point to it. */
static void conn_close(struct conn *c, bool reset)
{
    if (c->dead)
        return;
    c->dead = true;
    for (int i = 0; i < 2; i++) {
        side_close(&c->side[i], reset);
        flow_drop(&c->flow[i]);
    }
    if (reset)
        counters.resets++;
}

void link_reset(void)
{
    for (struct conn *c = sim.conns; c; c = c->next)
        conn_close(c, true);
}

static void conn_new(int fd)
{
    struct conn *c = must(calloc(1, sizeof(*c)));

    for (int i = 0; i < 2; i++) {
        c->side[i].conn = c;
        c->side[i].fd = -1;
        c->flow[i].bucket.rate = opt.conn_rate;
        c->flow[i].bucket.filled_ns = sim.now_ns;
    }
    c->side[CLIENT].fd = fd;
    c->read_at_ns = sim.now_ns + opt.rtt_ns;
    c->connect_at_ns = c->read_at_ns + opt.rtt_ns / 2;
    c->next = sim.conns;
    sim.conns = c;
    counters.connections++;
    watch(&c->side[CLIENT]);
}

static void conn_connect(struct conn *c)
{
    struct side *s = &c->side[TARGET];

    s->fd =
        socket(opt.to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        die("socket: %s", strerror(errno));
    if (connect(s->fd, (struct sockaddr *)&opt.to, opt.to_len) < 0 &&
        errno != EINPROGRESS) {
        conn_close(c, true);
        return;
    }
    watch(s);
}

/* One side is gone: its last bytes still arrive at the other, nothing is left
 * to tell it. */
static void side_broken(struct conn *c, int side)
{
    struct flow *from = &c->flow[side], *to = &c->flow[!side];

    if (c->side[!side].fd < 0 || from->shut) {
        conn_close(c, true);
        return;
    }
    side_close(&c->side[side], true);
    if (!from->ended)
        from->end_due_ns = sim.now_ns + opt.rtt_ns / 2;
    from->ended = from->abort = true;
    flow_drop(to);
    to->ended = to->shut = true;
}

static void conns_sweep(void)
{
    struct conn **link = &sim.conns;

    while (*link) {
        struct conn *c = *link;

        if (c->dead) {
            *link = c->next;
            free(c);
        } else {
            link = &c->next;
        }
    }
}

/* ---- Listener ----------------------------------------------------------- */

static void listener_open(void)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &sim.listener};
    socklen_t len = sizeof(opt.listen);
    int one = 1;

    sim.listener =
        socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sim.listener < 0)
        die("socket: %s", strerror(errno));
    setsockopt(sim.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(sim.listener, (struct sockaddr *)&opt.listen, len) < 0 ||
        listen(sim.listener, 128) < 0)
        die("cannot listen on port %d: %s", ntohs(opt.listen.sin_port),
            strerror(errno));
    getsockname(sim.listener, (struct sockaddr *)&opt.listen, &len);
    if (epoll_ctl(sim.epoll, EPOLL_CTL_ADD, sim.listener, &ev) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void listener_accept(void)
{
    int fd;

    if (sim.listener < 0)
        return;
    while ((fd = accept4(sim.listener, NULL, NULL,
                         SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        conn_new(fd);
}

static int64_t since_start(double seconds)
{
    return counters.start_ns + (int64_t)(seconds * SECOND);
}

/* Is the link down now? Says in *change_ns when that changes next. */
static bool link_down(int64_t *change_ns)
{
    bool down = sim.unplugged;

    for (size_t i = 0; i < opt.down_count; i++) {
        int64_t start = since_start(opt.down[i].start);
        int64_t end = since_start(opt.down[i].end);
        int64_t next = sim.now_ns < start ? start : end;

        if (sim.now_ns >= start && sim.now_ns < end)
            down = true;
        if (sim.now_ns < end && next < *change_ns)
            *change_ns = next;
    }
    if (down && sim.listener >= 0) {
        close(sim.listener);
        sim.listener = -1;
    } else if (!down && sim.listener < 0) {
        listener_open();
    }
    return down;
}

/* ---- Moving bytes ------------------------------------------------------- */

static bool flow_can_read(const struct conn *c, int dir)
{
    const struct flow *f = &c->flow[dir];

    return !c->dead && !c->stalled_until_ns && !f->ended &&
           c->side[dir].fd >= 0 && c->side[dir].readable &&
           f->queued_bytes < opt.inflight_bytes &&
           (dir == DOWN || sim.now_ns >= c->read_at_ns);
}

/* Takes at most one quantum from the sender into the delay line. */
static void flow_read(struct conn *c, int dir)
{
    struct flow *f = &c->flow[dir];
    struct block *b = f->last;
    int64_t due = sim.now_ns + opt.rtt_ns / 2;
    size_t want = bucket_quantum(&sim.bucket[dir]);
    size_t own = bucket_quantum(&f->bucket);
    ssize_t n;

    if (own < want)
        want = own;
    if (!b || b->tail + want > BLOCK_BYTES || due - b->due_ns > SLOT) {
        b = block_new();
        b->due_ns = due;
    }
    n = read(c->side[dir].fd, b->data + b->tail, want);
    if (n > 0) {
        if (b != f->last) {
            *(f->last ? &f->last->next : &f->first) = b;
            f->last = b;
        }
        b->tail += (uint32_t)n;
        f->queued_bytes += (uint64_t)n;
        f->turn += (uint64_t)n;
        f->bucket.tokens -= (double)n;
        sim.bucket[dir].tokens -= (double)n;
        counters.read_bytes[dir] += (uint64_t)n;
        return;
    }
    if (b != f->last)
        block_free(b);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        c->side[dir].readable = errno == EINTR;
        bucket_idle(&f->bucket);
    } else if (n < 0) {
        side_broken(c, dir);
    } else {
        f->ended = true;
        f->end_due_ns = due;
    }
}

/* The connection that may be read and got the fewest bytes so far. One that
 * was silent for a while is treated as if it had got nearly as many as the
 * others, or it would have the link for itself. */
static struct conn *next_in_turn(int dir)
{
    uint64_t now = sim.turn[dir];
    uint64_t floor = now > CREDIT_BYTES ? now - CREDIT_BYTES : 0;
    struct conn *best = NULL;

    for (struct conn *c = sim.conns; c; c = c->next) {
        if (!flow_can_read(c, dir))
            continue;
        bucket_fill(&c->flow[dir].bucket);
        if (bucket_empty(&c->flow[dir].bucket))
            continue;
        if (c->flow[dir].turn < floor)
            c->flow[dir].turn = floor;
        if (!best || c->flow[dir].turn < best->flow[dir].turn)
            best = c;
    }
    if (best)
        sim.turn[dir] = best->flow[dir].turn;
    return best;
}

/* Reads from the senders in turn, one quantum each, while there are tokens. */
static void read_all(int dir)
{
    struct bucket *b = &sim.bucket[dir];
    struct conn *c;

    bucket_fill(b);
    for (int reads = 0; reads < READS_PER_ROUND; reads++) {
        if (bucket_empty(b))
            return;
        c = next_in_turn(dir);
        if (!c) {
            bucket_idle(b);
            return;
        }
        flow_read(c, dir);
    }
}

/* How many bytes may be delivered before the next fault. */
static uint64_t until_fault(const struct conn *c, int dir)
{
    uint64_t count = opt.each ? c->counted_bytes : sim.counted_bytes;
    uint64_t stall = opt.stall_after, left = UINT64_MAX;

    if (!opt.counts[dir])
        return left;
    if (sim.next_reset > count)
        left = sim.next_reset - count;
    if (stall > count && stall - count < left)
        left = stall - count;
    return left;
}

static void flip_maybe(struct conn *c, int dir, struct iovec *iov, int count)
{
    uint64_t at = opt.each ? c->counted_bytes : sim.counted_bytes;

    if (sim.flip_done || !opt.counts[dir])
        return;
    for (int i = 0; i < count; i++) {
        if (opt.flip_at >= at && opt.flip_at - at < iov[i].iov_len) {
            ((unsigned char *)iov[i].iov_base)[opt.flip_at - at] ^= 1;
            sim.flip_done = !opt.each;
        }
        at += iov[i].iov_len;
    }
}

/* Called after n bytes were delivered, never past the point of a fault. */
static void faults_maybe(struct conn *c, int dir, uint64_t n)
{
    uint64_t count;

    if (!opt.counts[dir])
        return;
    c->counted_bytes += n;
    sim.counted_bytes += n;
    count = opt.each ? c->counted_bytes : sim.counted_bytes;
    if (count == opt.stall_after && !sim.stall_done) {
        int64_t until =
            opt.stall_for_ns ? sim.now_ns + opt.stall_for_ns : FAR_AWAY;

        sim.stall_done = !opt.each;
        c->stalled_until_ns = until;
        for (struct conn *o = sim.conns; o && !opt.each; o = o->next)
            o->stalled_until_ns = until;
    }
    if (count != sim.next_reset)
        return;
    if (opt.each) {
        conn_close(c, true);
        return;
    }
    sim.next_reset = opt.repeat ? count + opt.reset_after : UINT64_MAX;
    link_reset();
}

static void flow_consume(struct flow *f, size_t n)
{
    f->queued_bytes -= n;
    while (n > 0) {
        struct block *b = f->first;
        size_t part = b->tail - b->head;

        if (part > n) {
            b->head += (uint32_t)n;
            return;
        }
        n -= part;
        f->first = b->next;
        if (!f->first)
            f->last = NULL;
        block_free(b);
    }
}

/* Passes on what is due. */
static void flow_write(struct conn *c, int dir)
{
    struct flow *f = &c->flow[dir];
    struct side *to = &c->side[!dir];

    while (!c->dead && !c->stalled_until_ns && to->writable && f->first &&
           f->first->due_ns <= sim.now_ns) {
        uint64_t left = until_fault(c, dir);
        struct iovec iov[IOV_COUNT];
        int count = 0;
        ssize_t n;

        for (struct block *b = f->first;
             b && count < IOV_COUNT && left > 0 && b->due_ns <= sim.now_ns;
             b = b->next) {
            size_t len = b->tail - b->head;

            iov[count].iov_base = b->data + b->head;
            iov[count].iov_len = len < left ? len : (size_t)left;
            left -= iov[count++].iov_len;
        }
        flip_maybe(c, dir, iov, count);
        n = writev(to->fd, iov, count);
        if (n < 0) {
            to->writable = false;
            if (errno != EAGAIN && errno != EINTR)
                side_broken(c, !dir);
            return;
        }
        flow_consume(f, (size_t)n);
        counters.delivered_bytes[dir] += (uint64_t)n;
        faults_maybe(c, dir, (uint64_t)n);
    }
    if (c->dead || c->stalled_until_ns || f->first || !f->ended || f->shut ||
        f->end_due_ns > sim.now_ns || to->fd < 0)
        return;
    f->shut = true;
    if (f->abort)
        conn_close(c, true);
    else
        shutdown(to->fd, SHUT_WR);
    if (c->flow[!dir].shut)
        conn_close(c, false);
}

static void sooner(int64_t *next, int64_t when)
{
    if (when < *next)
        *next = when;
}

static int64_t flow_next(const struct conn *c, int dir)
{
    const struct flow *f = &c->flow[dir];
    const struct side *to = &c->side[!dir];
    int64_t next = FAR_AWAY, read_at;

    if (flow_can_read(c, dir)) {
        read_at = bucket_due(&sim.bucket[dir]);
        if (bucket_due(&f->bucket) > read_at)
            read_at = bucket_due(&f->bucket);
        sooner(&next, read_at);
    }
    if (f->first && to->fd >= 0 && to->writable)
        sooner(&next, f->first->due_ns);
    if (!f->first && f->ended && !f->shut && to->fd >= 0)
        sooner(&next, f->end_due_ns);
    return next;
}

/* One round over everything. Returns when the next one is due. */
static int64_t move(void)
{
    int64_t next = FAR_AWAY;

    if (link_down(&next))
        return next;
    for (struct conn *c = sim.conns; c; c = c->next) {
        if (sim.now_ns >= c->stalled_until_ns)
            c->stalled_until_ns = 0;
        else
            sooner(&next, c->stalled_until_ns);
    }
    read_all(UP);
    read_all(DOWN);
    for (struct conn *c = sim.conns; c; c = c->next) {
        if (!c->dead && sim.now_ns >= c->connect_at_ns) {
            c->connect_at_ns = FAR_AWAY;
            conn_connect(c);
        }
        flow_write(c, UP);
        flow_write(c, DOWN);
    }
    conns_sweep();
    for (struct conn *c = sim.conns; c; c = c->next) {
        if (c->connect_at_ns != FAR_AWAY)
            sooner(&next, c->connect_at_ns);
        if (sim.now_ns < c->read_at_ns)
            sooner(&next, c->read_at_ns);
        if (c->stalled_until_ns)
            continue;
        sooner(&next, flow_next(c, UP));
        sooner(&next, flow_next(c, DOWN));
    }
    return next;
}

/* ---- Events ------------------------------------------------------------- */

static void event_handle(const struct epoll_event *ev)
{
    struct side *s = ev->data.ptr;
    int err = 0;
    socklen_t len = sizeof(err);

    if (ev->data.ptr == &sim.listener) {
        listener_accept();
    } else if (ev->data.ptr == &sim.signal_fd) {
        sim.on_signal();
    } else if (s->fd >= 0) {
        if (ev->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            s->readable = true;
        if (ev->events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
            s->writable = true;
        if (ev->events & EPOLLERR &&
            getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err)
            side_broken(s->conn, s == &s->conn->side[TARGET]);
    }
}

void link_run(void)
{
    struct epoll_event events[64];
    int64_t next = FAR_AWAY;

    while (!sim.quit) {
        int64_t wait = next > sim.now_ns ? next - sim.now_ns : 0;
        struct timespec ts = {.tv_sec = wait / SECOND,
                              .tv_nsec = wait % SECOND};
        int n = epoll_pwait2(sim.epoll, events, 64,
                             next == FAR_AWAY ? NULL : &ts, NULL);

        if (n < 0 && errno != EINTR)
            die("epoll_pwait2: %s", strerror(errno));
        sim.now_ns = clock_now();
        for (int i = 0; i < n; i++)
            event_handle(&events[i]);
        next = move();
    }
}

void link_stop(void)
{
    sim.quit = true;
}

void link_toggle(void)
{
    sim.unplugged = !sim.unplugged;
}

void link_open(int signal_fd, void (*on_signal)(void))
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &sim.signal_fd};

    sim.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (sim.epoll < 0)
        die("epoll_create1: %s", strerror(errno));
    sim.signal_fd = signal_fd;
    sim.on_signal = on_signal;
    if (epoll_ctl(sim.epoll, EPOLL_CTL_ADD, signal_fd, &ev) < 0)
        die("epoll_ctl: %s", strerror(errno));
    sim.now_ns = counters.start_ns = clock_now();
    sim.next_reset = opt.reset_after;
    for (int i = 0; i < DIRS; i++) {
        sim.bucket[i].rate = opt.rate;
        sim.bucket[i].filled_ns = sim.now_ns;
    }
    listener_open();
}
