/* A scripted HTTP server in threads of a test: each request is answered as a
 * function of the test says, right or wrong. Static: one copy in each
 * program. */
#ifndef HTTP_SCRIPT_H
#define HTTP_SCRIPT_H

#include <arpa/inet.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base.h"

#define ASKS_MAX 256u
#define CONNECTIONS_MAX 256u
#define TOLD HL_SIZE_UNKNOWN

/* What the client asked. */
struct ask {
    unsigned n; /* 1: the first */
    char method[8], path[64], range[64], if_range[128], want[64];
    bool ranged;
    uint64_t begin, end; /* of the range */
};

/* What it gets. */
struct reply {
    int status;
    uint64_t begin, end, total;  /* Content-Range with 206; total TOLD: '*' */
    const char *etag, *modified; /* NULL: none */
    const char *more;            /* lines with CR LF, or "" */
    uint64_t from, len;          /* bytes of the data that are the body */
    uint64_t length;             /* Content-Length; TOLD: none */
    bool chunked;
    bool cut;  /* the connection is closed after it */
    bool hang; /* nothing follows until the client goes */
};

typedef void (*script_fn)(const struct ask *ask, struct reply *reply);

struct server {
    int fd;
    uint16_t port;
    const uint8_t *data;
    uint64_t size;
    /* NULL: right answers. */
    _Atomic(script_fn) script;
    pthread_t acceptor, threads[CONNECTIONS_MAX];
    pthread_mutex_t lock; /* of the rest */
    struct ask asks[ASKS_MAX];
    unsigned ask_count, connections;
};

static struct server server;

/* ---- One connection ----------------------------------------------------- */

static bool send_all(int fd, const void *data, size_t len)
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

static bool read_head(int fd, char *head, size_t cap)
{
    size_t len = 0;

    while (len + 1 < cap && recv(fd, head + len, 1, 0) == 1) {
        head[++len] = '\0';
        if (len >= 4 && !memcmp(head + len - 4, "\r\n\r\n", 4))
            return true;
    }
    return false;
}

static void copy_field(const char *head, const char *name, char *out,
                       size_t cap)
{
    const char *at = strstr(head, name);

    out[0] = '\0';
    if (!at)
        return;
    at += strlen(name);
    snprintf(out, cap, "%.*s", (int)strcspn(at, "\r"), at);
}

static void note_ask(const char *head, struct ask *a)
{
    memset(a, 0, sizeof(*a));
    sscanf(head, "%7s %63s", a->method, a->path);
    copy_field(head, "\r\nRange: ", a->range, sizeof(a->range));
    copy_field(head, "\r\nIf-Range: ", a->if_range, sizeof(a->if_range));
    copy_field(head, "\r\nWant-Repr-Digest: ", a->want, sizeof(a->want));
    a->ranged =
        sscanf(a->range, "bytes=%" SCNu64 "-%" SCNu64, &a->begin, &a->end) == 2;
    a->end = a->ranged ? hl_min(a->end + 1, server.size) : server.size;
    pthread_mutex_lock(&server.lock);
    a->n = server.ask_count + 1;
    if (server.ask_count < ASKS_MAX)
        server.asks[server.ask_count++] = *a;
    pthread_mutex_unlock(&server.lock);
}

static size_t format_head(const struct reply *r, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, "HTTP/1.1 %d Scripted\r\n%s",
                                r->status, r->more);

    if (r->status == 206 && r->end > r->begin)
        n += (size_t)snprintf(out + n, cap - n,
                              "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/",
                              r->begin, r->end - 1);
    if (r->status == 206 && r->end > r->begin)
        n += r->total == TOLD ? (size_t)snprintf(out + n, cap - n, "*\r\n")
                              : (size_t)snprintf(out + n, cap - n,
                                                 "%" PRIu64 "\r\n", r->total);
    if (r->etag)
        n += (size_t)snprintf(out + n, cap - n, "ETag: %s\r\n", r->etag);
    if (r->modified)
        n += (size_t)snprintf(out + n, cap - n, "Last-Modified: %s\r\n",
                              r->modified);
    if (r->chunked)
        n += (size_t)snprintf(out + n, cap - n,
                              "Transfer-Encoding: chunked\r\n");
    else if (r->length != TOLD)
        n += (size_t)snprintf(out + n, cap - n,
                              "Content-Length: %" PRIu64 "\r\n", r->length);
    n += (size_t)snprintf(out + n, cap - n, "\r\n");
    return n;
}

static bool send_body(int fd, const struct reply *r)
{
    const uint8_t *data = server.data + r->from;
    char size[32];

    if (!r->chunked)
        return send_all(fd, data, r->len);
    snprintf(size, sizeof(size), "%" PRIx64 "\r\n", r->len);
    return send_all(fd, size, strlen(size)) && send_all(fd, data, r->len) &&
           send_all(fd, "\r\n0\r\n\r\n", 7);
}

static void answer_right(const struct ask *a, struct reply *r)
{
    *r = (struct reply){.status = a->ranged ? 206 : 200,
                        .begin = a->begin,
                        .end = a->end,
                        .total = server.size,
                        .etag = "\"one\"",
                        .modified = "Thu, 01 Jan 2026 00:00:00 GMT",
                        .more = "Date: Fri, 02 Jan 2026 00:00:00 GMT\r\n",
                        .from = a->begin,
                        .len = a->end - a->begin,
                        .length = a->end - a->begin};
}

static bool answer(int fd)
{
    char head[4096] = "";
    script_fn script;
    struct reply r;
    struct ask a;
    char c;

    if (!read_head(fd, head, sizeof(head)))
        return false;
    note_ask(head, &a);
    answer_right(&a, &r);
    script = atomic_load(&server.script);
    if (script)
        script(&a, &r);
    if (r.status) {
        size_t n = format_head(&r, head, sizeof(head));

        if (!send_all(fd, head, n))
            return false;
        if (strcmp(a.method, "HEAD") != 0 && !send_body(fd, &r))
            return false;
    }
    if (r.hang)
        while (recv(fd, &c, 1, 0) == 1)
            ;
    return !r.hang && !r.cut && (r.chunked || r.length != TOLD);
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;

    while (answer(fd))
        ;
    shutdown(fd, SHUT_RDWR);
    close(fd);
    return NULL;
}

/* ---- Life --------------------------------------------------------------- */

static void *accept_all(void *arg)
{
    int fd;

    (void)arg;
    while ((fd = accept(server.fd, NULL, NULL)) >= 0) {
        pthread_mutex_lock(&server.lock);
        if (server.connections == CONNECTIONS_MAX ||
            pthread_create(&server.threads[server.connections], NULL, serve,
                           (void *)(intptr_t)fd))
            close(fd);
        else
            server.connections++;
        pthread_mutex_unlock(&server.lock);
    }
    return NULL;
}

static void server_start(const uint8_t *data, uint64_t size)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);

    memset(&server, 0, sizeof(server));
    server.data = data;
    server.size = size;
    pthread_mutex_init(&server.lock, NULL);
    server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server.fd >= 0);
    assert_int_equal(
        bind(server.fd, (struct sockaddr *)(void *)&at, sizeof(at)), 0);
    assert_int_equal(listen(server.fd, 64), 0);
    assert_int_equal(
        getsockname(server.fd, (struct sockaddr *)(void *)&at, &len), 0);
    server.port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&server.acceptor, NULL, accept_all, NULL),
                     0);
}

/* Every client has closed its connections. */
static void server_stop(void)
{
    shutdown(server.fd, SHUT_RDWR);
    pthread_join(server.acceptor, NULL);
    for (unsigned i = 0; i < server.connections; i++)
        pthread_join(server.threads[i], NULL);
    close(server.fd);
    pthread_mutex_destroy(&server.lock);
}

static unsigned asked(void)
{
    unsigned n;

    pthread_mutex_lock(&server.lock);
    n = server.ask_count;
    pthread_mutex_unlock(&server.lock);
    return n;
}

/* The n-th request, from 1. */
static struct ask ask_at(unsigned n)
{
    struct ask a;

    pthread_mutex_lock(&server.lock);
    assert_in_range(n, 1, server.ask_count);
    a = server.asks[n - 1];
    pthread_mutex_unlock(&server.lock);
    return a;
}

#endif /* HTTP_SCRIPT_H */
