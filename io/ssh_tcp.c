/*
 * From a host name to a connected socket: every address of either family in
 * turn, each with a bounded time. Called on the thread that connects; the
 * resolver, which cannot be interrupted, gets a thread of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ssh_private.h"
#include "thread.h"

#define ADDRESS_S 20 /* for one address when there are more */

/* Shared by the resolver thread and the one that waits for it; the last one
 * frees. */
struct lookup {
    atomic_int refs;
    int event_fd;
    int family;
    int rc;
    int sys_errno;
    struct addrinfo *list;
    char port[8];
    char host[];
};

static void lookup_unref(struct lookup *l)
{
    if (atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    if (l->list)
        freeaddrinfo(l->list);
    close(l->event_fd);
    hl_free(l);
}

static void lookup_do(struct lookup *l, int flags)
{
    struct addrinfo hints = {0};

    hints.ai_family = l->family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | flags;
    l->rc = getaddrinfo(l->host, l->port, &hints, &l->list);
    l->sys_errno = l->rc == EAI_SYSTEM ? errno : 0;
    if (l->rc)
        l->list = NULL;
}

static void *lookup_thread(void *arg)
{
    struct lookup *l = arg;

    lookup_do(l, 0);
    (void)eventfd_write(l->event_fd, 1);
    lookup_unref(l);
    return NULL;
}

static int lookup_start(struct lookup *l)
{
    pthread_t thread;
    int rc;

    atomic_fetch_add(&l->refs, 1);
    rc = hl_thread_start(&thread, "haul-lookup", lookup_thread, l);
    if (rc)
        atomic_fetch_sub(&l->refs, 1);
    else
        pthread_detach(thread);
    return rc;
}

static int lookup_wait(struct lookup *l, const struct hl_ssh_limit *limit,
                       struct hl_error *err)
{
    int r;

    r = hl_ssh_poll(l->event_fd, POLLIN, limit, hl_ssh_now() + limit->step_ns);
    if (r < 0)
        return hl_err(err, r, 0, "interrupted");
    if (r == 0) {
        hl_err(err, HAUL_E_STALLED, 0, "no answer from the resolver for '%s'",
               l->host);
        return hl_err_hint(err, "Check the name servers of this machine.");
    }
    if (!l->rc)
        return 0;
    hl_err(err, HAUL_E_RESOLVE, l->sys_errno, "cannot find host '%s': %s",
           l->host, l->rc == EAI_SYSTEM ? "system error" : gai_strerror(l->rc));
    return hl_err_hint(err, "Check the spelling of the host name and the name "
                            "servers of this machine.");
}

/* *out holds the addresses; lookup_unref() it. */
static int resolve(const struct hl_ssh_config *config,
                   const struct hl_ssh_limit *limit, struct lookup **out,
                   struct hl_error *err)
{
    size_t len = strlen(config->host) + 1;
    struct lookup *l;
    int rc;

    if (len > NI_MAXHOST)
        return hl_err(err, HAUL_E_RESOLVE, 0, "host name '%s' is too long",
                      config->host);
    l = hl_malloc(sizeof(*l) + len);
    if (!l)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    atomic_init(&l->refs, 1);
    l->family = config->family;
    memcpy(l->host, config->host, len);
    snprintf(l->port, sizeof(l->port), "%u", config->port);
    l->event_fd = eventfd(0, EFD_CLOEXEC);
    if (l->event_fd < 0) {
        rc = hl_err(err, HAUL_E_NOMEM, errno, "cannot make an eventfd");
        hl_free(l);
        return rc;
    }
    lookup_do(l, AI_NUMERICHOST);
    if (l->rc) {
        rc = lookup_start(l);
        if (rc)
            rc = hl_err(err, HAUL_E_NOMEM, rc, "cannot start a thread");
        else
            rc = lookup_wait(l, limit, err);
        if (rc) {
            lookup_unref(l);
            return rc;
        }
    }
    *out = l;
    return 0;
}

static void tune(int fd)
{
    int on = 1, idle_s = 30, interval_s = 10, probes = 6;

    /* Failure of these costs speed or patience, not bytes. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s,
                     sizeof(interval_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

/* A socket, or -errno, or HAUL_E_CANCELED (which is below every errno). */
static int connect_one(const struct addrinfo *ai,
                       const struct hl_ssh_limit *limit, uint64_t time_ns)
{
    socklen_t len = sizeof(int);
    int fd, r, e = 0;

    fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                ai->ai_protocol);
    if (fd < 0)
        return -errno;
    tune(fd);
    if (connect(fd, ai->ai_addr, ai->ai_addrlen)) {
        if (errno != EINPROGRESS) {
            e = errno;
            goto fail;
        }
        r = hl_ssh_poll(fd, POLLOUT, limit, hl_ssh_now() + time_ns);
        if (r < 0) {
            close(fd);
            return r;
        }
        if (r == 0)
            e = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len))
            e = errno;
        if (e)
            goto fail;
    }
    return fd;
fail:
    close(fd);
    return -e;
}

static int refused(const struct hl_ssh_config *config, int e,
                   struct hl_error *err)
{
    hl_err(err, e == ETIMEDOUT ? HAUL_E_STALLED : HAUL_E_CONNECT, e,
           "cannot connect to '%s' port %u", config->host, config->port);
    if (e == ECONNREFUSED)
        return hl_err_hint(err, "Nothing listens there: check host and port, "
                                "and that sshd runs.");
    if (e == ETIMEDOUT)
        return hl_err_hint(err, "No answer: check host, port and the "
                                "firewalls in between.");
    return hl_err_hint(err, "Check host, port and the network of this "
                            "machine.");
}

int hl_ssh_tcp_connect(const struct hl_env *env,
                       const struct hl_ssh_config *config,
                       const struct hl_ssh_limit *limit, int *fd,
                       struct hl_error *err)
{
    struct lookup *l = NULL;
    const struct addrinfo *ai;
    uint64_t time_ns = limit->step_ns;
    char text[NI_MAXHOST];
    int rc, r = -EHOSTUNREACH;

    rc = resolve(config, limit, &l, err);
    if (rc)
        return rc;
    if (config->connect_timeout_s)
        time_ns = hl_min(time_ns, config->connect_timeout_s * HL_NS_PER_S);
    else if (l->list->ai_next)
        time_ns = hl_min(time_ns, ADDRESS_S * HL_NS_PER_S);
    for (ai = l->list; ai; ai = ai->ai_next) {
        if (getnameinfo(ai->ai_addr, ai->ai_addrlen, text, sizeof(text), NULL,
                        0, NI_NUMERICHOST))
            text[0] = '\0';
        r = connect_one(ai, limit, time_ns);
        HL_TRACE(env->log, HL_AREA_SSH, "connect %s port %u: %s", text,
                 config->port,
                 r >= 0                 ? "up"
                 : r == HAUL_E_CANCELED ? "stop"
                                        : strerror(-r));
        if (r >= 0 || r == HAUL_E_CANCELED)
            break;
    }
    lookup_unref(l);
    if (r >= 0) {
        *fd = r;
        return 0;
    }
    return r == HAUL_E_CANCELED ? hl_err(err, r, 0, "interrupted")
                                : refused(config, -r, err);
}
