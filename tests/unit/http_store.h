/*
 * A server that keeps what is uploaded, in threads of a test: a script may let
 * it refuse, cut, wait or lie at any request. Static: one copy in a program.
 *
 *   HEAD  /N            Upload-Offset: how much there is of thing N
 *   PATCH /N            appends from Upload-Offset on, 409 from elsewhere
 *   PUT, POST /N        the whole of it
 *   anything else       nothing, and succeeds
 */
#ifndef HTTP_STORE_H
#define HTTP_STORE_H

#include <arpa/inet.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base.h"

#define THINGS 16u
#define THING_MAX (4u << 20)
#define SEEN_MAX 4096u
#define CONNECTIONS_MAX 4096u

/* What came. */
struct seen {
    char method[8], path[32];
    char head[1024];
    unsigned n;      /* of this method so far, from 1 */
    unsigned thing;  /* N */
    uint64_t offset; /* Upload-Offset; 0 */
    uint64_t length; /* of its body; HL_SIZE_UNKNOWN: in chunks */
    uint64_t got;    /* bytes of the body that were read; when it is over */
};

/* What becomes of it; set before its body is read. */
struct reply {
    int status;        /* 0: the connection is cut */
    uint64_t read_max; /* bytes of the body that are read before */
    bool drop;         /* what is read is not kept */
    bool hold;         /* the answer waits until the gate is open */
    bool interim;      /* 103 with an Upload-Offset of 7 comes first */
    bool close;        /* the connection ends behind it */
    uint64_t offset;   /* Upload-Offset; HL_SIZE_UNKNOWN: none */
    const char *more;  /* lines with CR LF */
    const char *body;
};

typedef void (*store_script)(const struct seen *seen, struct reply *reply);

struct store {
    int fd;
    uint16_t port;
    _Atomic(store_script) script;
    pthread_t acceptor, threads[CONNECTIONS_MAX];
    pthread_mutex_t lock; /* of the rest */
    pthread_cond_t changed;
    bool open, ending; /* the gate */
    unsigned held;     /* answers that wait at it */
    struct {
        uint8_t *data;
        uint64_t len;
    } things[THINGS];
    struct seen *seen;
    unsigned seen_count, connections;
    int fds[CONNECTIONS_MAX];
};

static struct store store;

/* ---- The body ----------------------------------------------------------- */

struct line {
    int fd;
    uint8_t data[65536];
    size_t at, len;
};

static bool fill(struct line *l)
{
    ssize_t n;

    if (l->at < l->len)
        return true;
    n = recv(l->fd, l->data, sizeof(l->data), 0);
    l->at = 0;
    l->len = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static bool store_say(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool read_text(struct line *l, char *out, size_t cap, const char *end)
{
    size_t len = 0, tail = strlen(end);

    while (len + 1 < cap && fill(l)) {
        out[len++] = (char)l->data[l->at++];
        out[len] = '\0';
        if (len >= tail && !strcmp(out + len - tail, end))
            return true;
    }
    return false;
}

/* At once as it comes, so that a cut leaves what had come; only behind what is
 * there. */
static void keep(struct seen *s, const uint8_t *data, size_t len, bool drop)
{
    uint64_t at = s->offset + s->got;

    pthread_mutex_lock(&store.lock);
    if (!drop && at == store.things[s->thing].len && at + len <= THING_MAX) {
        memcpy(store.things[s->thing].data + at, data, len);
        store.things[s->thing].len += len;
    }
    s->got += len;
    pthread_mutex_unlock(&store.lock);
}

static bool read_bytes(struct line *l, struct seen *s, uint64_t len, bool drop)
{
    while (len) {
        size_t n;

        if (!fill(l))
            return false;
        n = (size_t)hl_min(l->len - l->at, len);
        keep(s, l->data + l->at, n, drop);
        l->at += n;
        len -= n;
    }
    return true;
}

/* true: all of the body is read. */
static bool read_body(struct line *l, struct seen *s, const struct reply *r)
{
    char size[32];
    uint64_t n;

    if (s->length != HL_SIZE_UNKNOWN)
        return read_bytes(l, s, hl_min(s->length, r->read_max), r->drop) &&
               s->length <= r->read_max;
    while (s->got < r->read_max) {
        if (!read_text(l, size, sizeof(size), "\r\n"))
            return false;
        n = strtoull(size, NULL, 16);
        if (!read_bytes(l, s, n, r->drop) ||
            !read_text(l, size, sizeof(size), "\r\n"))
            return false;
        if (!n)
            return true;
    }
    return false;
}

/* ---- One request -------------------------------------------------------- */

static const char *field_of(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);

    return at ? at + strlen(name) : NULL;
}

static void note_seen(struct seen *s)
{
    const char *v;

    sscanf(s->head, "%7s %31s", s->method, s->path);
    s->thing = (unsigned)strtoul(s->path + 1, NULL, 10) % THINGS;
    v = field_of(s->head, "\r\nUpload-Offset: ");
    s->offset = v ? strtoull(v, NULL, 10) : 0;
    v = field_of(s->head, "\r\nContent-Length: ");
    s->length = v ? strtoull(v, NULL, 10) : 0;
    if (field_of(s->head, "\r\nTransfer-Encoding: chunked"))
        s->length = HL_SIZE_UNKNOWN;
    pthread_mutex_lock(&store.lock);
    s->n = 1;
    for (unsigned i = 0; i < store.seen_count; i++)
        s->n += !strcmp(store.seen[i].method, s->method);
    if (store.seen_count < SEEN_MAX)
        store.seen[store.seen_count++] = *s;
    pthread_mutex_unlock(&store.lock);
}

/* How much came is known at its end. */
static void note_got(const struct seen *s)
{
    pthread_mutex_lock(&store.lock);
    for (unsigned i = 0; i < store.seen_count; i++)
        if (store.seen[i].n == s->n && !strcmp(store.seen[i].method, s->method))
            store.seen[i].got = s->got;
    pthread_mutex_unlock(&store.lock);
}

static void default_reply(const struct seen *s, struct reply *r)
{
    bool patch = !strcmp(s->method, "PATCH");
    bool whole = !strcmp(s->method, "PUT") || !strcmp(s->method, "POST");

    *r = (struct reply){.status = 204,
                        .read_max = HL_SIZE_UNKNOWN,
                        .drop = !patch && !whole,
                        .offset = HL_SIZE_UNKNOWN,
                        .more = "",
                        .body = ""};
    pthread_mutex_lock(&store.lock);
    if (!strcmp(s->method, "HEAD"))
        r->offset = store.things[s->thing].len;
    if (patch && s->offset != store.things[s->thing].len) {
        r->status = 409;
        r->drop = true;
    }
    if (whole)
        store.things[s->thing].len = 0;
    pthread_mutex_unlock(&store.lock);
}

/* false: the server ends. */
static bool wait_gate(void)
{
    bool ok;

    pthread_mutex_lock(&store.lock);
    store.held++;
    pthread_cond_broadcast(&store.changed);
    while (!store.open && !store.ending)
        pthread_cond_wait(&store.changed, &store.lock);
    store.held--;
    ok = !store.ending;
    pthread_mutex_unlock(&store.lock);
    return ok;
}

static bool send_reply(int fd, const struct seen *s, const struct reply *r)
{
    const char *interim = "HTTP/1.1 103 Early\r\nUpload-Offset: 7\r\n\r\n";
    char head[1024], told[64] = "", length[64] = "";

    if (r->interim && !store_say(fd, interim, strlen(interim)))
        return false;
    if (!r->status)
        return false;
    if (r->offset != HL_SIZE_UNKNOWN)
        snprintf(told, sizeof(told), "Upload-Offset: %" PRIu64 "\r\n",
                 r->offset);
    if (r->status != 204)
        snprintf(length, sizeof(length), "Content-Length: %zu\r\n",
                 strlen(r->body));
    snprintf(head, sizeof(head), "HTTP/1.1 %d Stored\r\n%s%s%s\r\n%s",
             r->status, told, length, r->more,
             strcmp(s->method, "HEAD") != 0 ? r->body : "");
    return store_say(fd, head, strlen(head));
}

/* false: the connection ends. */
static bool store_answer(struct line *l)
{
    struct seen s = {.got = 0};
    store_script script;
    struct reply r;
    bool whole;

    if (!read_text(l, s.head, sizeof(s.head), "\r\n\r\n"))
        return false;
    note_seen(&s);
    default_reply(&s, &r);
    script = atomic_load(&store.script); /* that of now */
    if (script)
        script(&s, &r);
    if (field_of(s.head, "\r\nExpect: 100-continue") && r.read_max &&
        !store_say(l->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25))
        return false;
    whole = read_body(l, &s, &r);
    note_got(&s);
    if ((!whole && r.read_max == HL_SIZE_UNKNOWN) || (r.hold && !wait_gate()))
        return false;
    pthread_mutex_lock(&store.lock);
    if (!strcmp(s.method, "PATCH") && r.status == 204 &&
        r.offset == HL_SIZE_UNKNOWN)
        r.offset = store.things[s.thing].len;
    pthread_mutex_unlock(&store.lock);
    return send_reply(l->fd, &s, &r) && whole && !r.close;
}

/* ---- Life --------------------------------------------------------------- */

static void *store_serve(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg;
    struct line *l = calloc(1, sizeof(*l));
    char rest[4096];

    if (!l)
        abort();
    pthread_mutex_lock(&store.lock);
    l->fd = store.fds[i];
    pthread_mutex_unlock(&store.lock);
    while (store_answer(l))
        ;
    /* What was said is lost when it is closed with bytes that came. */
    shutdown(l->fd, SHUT_WR);
    while (recv(l->fd, rest, sizeof(rest), 0) > 0)
        ;
    pthread_mutex_lock(&store.lock);
    close(l->fd);
    store.fds[i] = -1;
    pthread_mutex_unlock(&store.lock);
    free(l);
    return NULL;
}

static void *store_accept(void *arg)
{
    int fd;

    (void)arg;
    while ((fd = accept4(store.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        unsigned i;

        pthread_mutex_lock(&store.lock);
        i = store.connections;
        if (i == CONNECTIONS_MAX || store.ending) {
            close(fd);
        } else {
            store.fds[i] = fd;
            if (pthread_create(&store.threads[i], NULL, store_serve,
                               (void *)(uintptr_t)i))
                abort();
            store.connections++;
        }
        pthread_mutex_unlock(&store.lock);
    }
    return NULL;
}

static void store_start(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);

    memset(&store, 0, sizeof(store));
    pthread_mutex_init(&store.lock, NULL);
    pthread_cond_init(&store.changed, NULL);
    store.seen = calloc(SEEN_MAX, sizeof(*store.seen));
    assert_non_null(store.seen);
    for (unsigned i = 0; i < THINGS; i++) {
        store.things[i].data = malloc(THING_MAX);
        assert_non_null(store.things[i].data);
    }
    store.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(store.fd >= 0);
    assert_int_equal(bind(store.fd, (struct sockaddr *)(void *)&at, sizeof(at)),
                     0);
    assert_int_equal(listen(store.fd, 64), 0);
    assert_int_equal(
        getsockname(store.fd, (struct sockaddr *)(void *)&at, &len), 0);
    store.port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&store.acceptor, NULL, store_accept, NULL),
                     0);
}

static void open_gate(bool open)
{
    pthread_mutex_lock(&store.lock);
    store.open = open;
    pthread_cond_broadcast(&store.changed);
    pthread_mutex_unlock(&store.lock);
}

static void store_stop(void)
{
    pthread_mutex_lock(&store.lock);
    store.ending = true;
    pthread_cond_broadcast(&store.changed);
    for (unsigned i = 0; i < store.connections; i++)
        if (store.fds[i] >= 0)
            shutdown(store.fds[i], SHUT_RDWR);
    pthread_mutex_unlock(&store.lock);
    shutdown(store.fd, SHUT_RDWR);
    pthread_join(store.acceptor, NULL);
    for (unsigned i = 0; i < store.connections; i++)
        pthread_join(store.threads[i], NULL);
    close(store.fd);
    for (unsigned i = 0; i < THINGS; i++)
        free(store.things[i].data);
    free(store.seen);
    pthread_cond_destroy(&store.changed);
    pthread_mutex_destroy(&store.lock);
}

/* ---- What happened ------------------------------------------------------ */

/* Requests of that method; NULL: of all. */
static unsigned seen_of(const char *method)
{
    unsigned n = 0;

    pthread_mutex_lock(&store.lock);
    for (unsigned i = 0; i < store.seen_count; i++)
        n += !method || !strcmp(store.seen[i].method, method);
    pthread_mutex_unlock(&store.lock);
    return n;
}

/* The n-th of that method, from 1. */
static struct seen seen_at(const char *method, unsigned n)
{
    struct seen s = {.n = 0};

    pthread_mutex_lock(&store.lock);
    for (unsigned i = 0; i < store.seen_count; i++)
        if (store.seen[i].n == n && !strcmp(store.seen[i].method, method))
            s = store.seen[i];
    pthread_mutex_unlock(&store.lock);
    assert_int_equal(s.n, n);
    return s;
}

static unsigned held(void)
{
    unsigned n;

    pthread_mutex_lock(&store.lock);
    n = store.held;
    pthread_mutex_unlock(&store.lock);
    return n;
}

static uint64_t stored(unsigned thing)
{
    uint64_t n;

    pthread_mutex_lock(&store.lock);
    n = store.things[thing].len;
    pthread_mutex_unlock(&store.lock);
    return n;
}

static void store_put(unsigned thing, const uint8_t *data, uint64_t len)
{
    pthread_mutex_lock(&store.lock);
    memcpy(store.things[thing].data, data, len);
    store.things[thing].len = len;
    pthread_mutex_unlock(&store.lock);
}

#endif /* HTTP_STORE_H */
