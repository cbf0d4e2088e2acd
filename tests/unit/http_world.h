/*
 * What tests of the HTTP client need: a server in a thread of the test that
 * answers what it was told to, and an engine that is a loop and options.
 * Static: one copy in each program.
 */
#ifndef HTTP_WORLD_H
#define HTTP_WORLD_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "http_client.h"

#define SEEN_MAX 32
#define PATIENCE_S 20
#define BIG (16u << 20)

/* ---- The server --------------------------------------------------------- */

enum act {
    ANSWER,      /* text, then the connection ends */
    ANSWER_OPEN, /* text, then nothing more comes */
    DEAF,        /* not even the request is read */
    LATER        /* text, but only after the next one's */
};

struct step {
    enum act act;
    const char *text; /* NULL: nothing */
};

struct server {
    const struct step *steps;
    size_t count;
    int listener, wake[2];
    uint16_t port;
    pthread_t thread;
    int open[SEEN_MAX];
    size_t open_count;
    int later;
    const char *later_text;
    pthread_mutex_t lock;
    /* lock */
    char *seen[SEEN_MAX]; /* requests as they came */
    size_t seen_count;
};

/* Bytes of the body that head announces. */
static size_t body_length(const char *head)
{
    const char *p = strcasestr(head, "\r\nContent-Length:");

    return p ? strtoul(p + 17, NULL, 10) : 0;
}

/* The head and the body behind it; a request of this test fits. */
static char *read_request(int fd)
{
    size_t room = BIG + 65536, len = 0, want = 0;
    char *text = calloc(1, room), *end;

    assert_non_null(text);
    for (;;) {
        ssize_t n = recv(fd, text + len, room - len - 1, 0);

        if (n <= 0)
            break;
        len += (size_t)n;
        end = strstr(text, "\r\n\r\n");
        if (end && !want)
            want = (size_t)(end - text) + 4 + body_length(text);
        if (want && len >= want)
            break;
    }
    return text;
}

static void say(int fd, const char *text)
{
    size_t len = text ? strlen(text) : 0;

    while (len) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

static void serve(struct server *s, int fd)
{
    struct step step = {ANSWER, NULL};
    char *request;

    pthread_mutex_lock(&s->lock);
    if (s->seen_count < s->count)
        step = s->steps[s->seen_count];
    pthread_mutex_unlock(&s->lock);
    request = step.act == DEAF ? NULL : read_request(fd);
    pthread_mutex_lock(&s->lock);
    if (s->seen_count < SEEN_MAX)
        s->seen[s->seen_count++] = request;
    else
        free(request);
    pthread_mutex_unlock(&s->lock);
    if (step.act == ANSWER || step.act == ANSWER_OPEN)
        say(fd, step.text);
    if (s->later >= 0) {
        say(s->later, s->later_text);
        close(s->later);
        s->later = -1;
    }
    if (step.act == ANSWER) {
        close(fd);
    } else if (step.act == LATER) {
        s->later = fd;
        s->later_text = step.text;
    } else {
        s->open[s->open_count++] = fd;
    }
}

static void *server_main(void *arg)
{
    struct server *s = arg;

    for (;;) {
        struct pollfd p[2] = {{.fd = s->listener, .events = POLLIN},
                              {.fd = s->wake[0], .events = POLLIN}};
        struct timeval patience = {PATIENCE_S, 0};
        int fd;

        poll(p, 2, -1);
        if (p[1].revents)
            break;
        fd = accept(s->listener, NULL, NULL);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        serve(s, fd);
    }
    return NULL;
}

static void server_start(struct server *s, const struct step *steps,
                         size_t count)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    memset(s, 0, sizeof(*s));
    s->steps = steps;
    s->count = count;
    s->later = -1;
    pthread_mutex_init(&s->lock, NULL);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s->listener >= 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(s->listener, 16), 0);
    assert_int_equal(
        getsockname(s->listener, (struct sockaddr *)&address, &len), 0);
    s->port = ntohs(address.sin_port);
    assert_int_equal(pipe(s->wake), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void server_end(struct server *s)
{
    assert_int_equal(write(s->wake[1], "", 1), 1);
    pthread_join(s->thread, NULL);
    for (size_t i = 0; i < s->seen_count; i++)
        free(s->seen[i]);
    for (size_t i = 0; i < s->open_count; i++)
        close(s->open[i]);
    if (s->later >= 0)
        close(s->later);
    close(s->listener);
    close(s->wake[0]);
    close(s->wake[1]);
    pthread_mutex_destroy(&s->lock);
}

static size_t server_seen(struct server *s)
{
    size_t n;

    pthread_mutex_lock(&s->lock);
    n = s->seen_count;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static const char *body_of(const char *request)
{
    const char *end = strstr(request, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

/* ---- The client --------------------------------------------------------- */

static struct hl_env env;
static struct hl_opts *opts;
static struct server server;
static struct hl_http_client *client;

struct tracked {
    struct hl_http_call call;
    int returned;
    int rc;
};

static void nap(void)
{
    struct timespec t = {0, 2000000};

    nanosleep(&t, NULL);
}

static time_t now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

static void no_warning(const struct hl_env *e, const struct hl_error *warning)
{
    (void)e, (void)warning;
}

static struct hl_http_client *client_of(uint16_t port, const char *rest)
{
    struct hl_http_client *c = NULL;
    struct hl_error err = {0};
    struct hl_url url;
    char text[200];

    snprintf(text, sizeof(text), "http://127.0.0.1:%u%s", port, rest);
    assert_int_equal(hl_url_parse(text, &url, &err), 0);
    assert_int_equal(hl_http_client_new(&env, &url, &c, &err), 0);
    hl_url_fini(&url);
    return c;
}

static int setup(void **state)
{
    (void)state;
    memset(&env, 0, sizeof(env));
    client = NULL;
    assert_int_equal(hl_loop_new(false, &env.loop, NULL), 0);
    assert_int_equal(hl_opts_new(&opts), 0);
    /* Whatever the environment says, the way is direct. */
    assert_int_equal(setenv("no_proxy", "*", 1), 0);
    env.opts = opts;
    env.warn = no_warning;
    env.library_bytes_max = 1 << 20;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hl_mem_fail_at(0, false);
    hl_loop_free(env.loop);
    hl_opts_free(opts);
    assert_int_equal(hl_mem_live(), 0);
    return 0;
}

static void begin(const struct step *steps, size_t count, const char *base)
{
    server_start(&server, steps, count);
    client = client_of(server.port, base);
}

static void end(void)
{
    hl_http_client_free(client);
    server_end(&server);
}

static void on_done(struct hl_op *op)
{
    struct tracked *t = op->user;

    t->returned++;
    t->rc = op->rc;
}

static void submit_to(struct hl_http_client *c, struct tracked *t)
{
    t->call.op.done = on_done;
    t->call.op.user = t;
    hl_http_call(c, &t->call);
    assert_int_equal(t->returned, 0); /* never from inside */
}

static void wait_for(const struct tracked *t)
{
    time_t until = now_s() + PATIENCE_S;

    while (!t->returned) {
        hl_loop_step(env.loop, 100);
        assert_true(now_s() < until);
    }
}

/* What should not come any more has its time to. */
static void settle(void)
{
    for (int i = 0; i < 20; i++) {
        hl_loop_step(env.loop, 0);
        nap();
    }
}

static void run(struct tracked *t)
{
    submit_to(client, t);
    wait_for(t);
    assert_int_equal(t->returned, 1);
}

static void wait_seen(size_t count)
{
    time_t until = now_s() + PATIENCE_S;

    while (server_seen(&server) < count) {
        assert_true(now_s() < until);
        nap();
    }
}

#define OK_TEXT                                                                \
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\n" \
    "ok"
#define BEGIN(base, ...)                                                       \
    static const struct step steps[] = {__VA_ARGS__};                          \
    (void)state;                                                               \
    begin(steps, HL_LEN(steps), base)

#endif /* HTTP_WORLD_H */
