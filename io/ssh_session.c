/*
 * An SSH connection from its URL to the login: the order of the steps, the
 * waiting, the handshake. Called on the thread that connects; libssh's session
 * stays on it. Connections of one host take turns until a login has succeeded,
 * so that a person is asked once; after that they run side by side.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ssh_private.h"

/* ---- Waiting ------------------------------------------------------------ */

/* One poll() of at most 100 ms: > 0 when fd is ready, 0 when not yet. */
static int poll_once(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd pfd = {.fd = fd, .events = events};
    uint64_t now = hl_ssh_now();
    uint64_t ms = HL_SSH_POLL_MS;

    if (deadline_ns > now)
        ms = hl_min(ms, (deadline_ns - now) / HL_NS_PER_MS + 1);
    else
        ms = 0;
    return poll(&pfd, 1, (int)ms) > 0;
}

int hl_ssh_poll(int fd, short events, const struct hl_ssh_limit *limit,
                uint64_t deadline_ns)
{
    for (;;) {
        if (hl_ssh_stopped(limit))
            return HAUL_E_CANCELED;
        if (poll_once(fd, events, deadline_ns))
            return 1;
        if (hl_ssh_now() >= deadline_ns)
            return 0;
    }
}

int hl_ssh_turn(ssh_session session, int fd, const struct hl_ssh_limit *limit,
                uint64_t deadline_ns)
{
    short events = POLLIN;

    if (hl_ssh_stopped(limit))
        return HAUL_E_CANCELED;
    if (hl_ssh_now() >= deadline_ns)
        return 0;
    if (ssh_get_poll_flags(session) & SSH_WRITE_PENDING)
        events |= POLLOUT;
    (void)poll_once(fd, events, deadline_ns);
    return 1;
}

/* ---- Hosts -------------------------------------------------------------- */

int hl_ssh_host_new(const struct hl_env *env, const struct hl_url *url,
                    struct hl_ssh_host **out, struct hl_error *err)
{
    struct hl_ssh_host *host;

    if (!url->host || !*url->host)
        return hl_err(err, HAUL_E_INVAL, 0, "the URL names no host");
    if (url->host[0] == '-' || (url->user && url->user[0] == '-'))
        return hl_err(err, HAUL_E_INVAL, 0,
                      "host and user must not begin with '-'");
    host = hl_malloc(sizeof(*host));
    if (!host)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (hl_url_copy(url, &host->fixed.url)) {
        hl_free(host);
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    host->fixed.env = env;
    pthread_mutex_init(&host->lock.mutex, NULL);
    pthread_cond_init(&host->lock.changed, NULL);
    atomic_init(&host->one_login, false);
    *out = host;
    return 0;
}

void hl_ssh_host_free(struct hl_ssh_host *host)
{
    size_t i;

    if (!host)
        return;
    for (i = 0; i < host->lock.secret_count; i++) {
        hl_free(host->lock.secret[i].what);
        hl_free_secret(host->lock.secret[i].value);
    }
    pthread_cond_destroy(&host->lock.changed);
    pthread_mutex_destroy(&host->lock.mutex);
    hl_ssh_config_fini(&host->fixed.config);
    hl_url_fini(&host->fixed.url);
    hl_free(host);
}

bool hl_ssh_host_one_login(struct hl_ssh_host *host)
{
    return atomic_load(&host->one_login);
}

bool hl_ssh_recall(struct hl_ssh_host *host, const char *what, char *buf,
                   size_t cap)
{
    bool found = false;
    size_t i;

    pthread_mutex_lock(&host->lock.mutex);
    for (i = 0; i < host->lock.secret_count && !found; i++) {
        if (strcmp(host->lock.secret[i].what, what))
            continue;
        snprintf(buf, cap, "%s", host->lock.secret[i].value);
        found = true;
    }
    pthread_mutex_unlock(&host->lock.mutex);
    return found;
}

static void forget_locked(struct hl_ssh_host *host, const char *what)
{
    size_t i, last;

    for (i = 0; i < host->lock.secret_count; i++) {
        if (strcmp(host->lock.secret[i].what, what))
            continue;
        hl_free(host->lock.secret[i].what);
        hl_free_secret(host->lock.secret[i].value);
        last = --host->lock.secret_count;
        host->lock.secret[i] = host->lock.secret[last];
        return;
    }
}

void hl_ssh_remember(struct hl_ssh_host *host, const char *what,
                     const char *value)
{
    struct hl_ssh_secret secret = {hl_strdup(what), hl_strdup(value)};

    pthread_mutex_lock(&host->lock.mutex);
    forget_locked(host, what);
    if (secret.what && secret.value &&
        host->lock.secret_count < HL_LEN(host->lock.secret)) {
        host->lock.secret[host->lock.secret_count++] = secret;
        secret.what = secret.value = NULL;
    }
    pthread_mutex_unlock(&host->lock.mutex);
    hl_free(secret.what);
    if (secret.value)
        hl_free_secret(secret.value);
}

int hl_ssh_ask(struct hl_ssh_host *host, const char *what, bool echo, char *buf,
               size_t cap)
{
    const struct hl_env *env = host->fixed.env;
    int rc;

    if (!env->secret)
        return HAUL_E_AUTH;
    HL_TRACE(env->log, HL_AREA_SSH, "asking: %s", what);
    rc = env->secret(env, what, echo ? 1 : 0, buf, cap);
    if (rc)
        explicit_bzero(buf, cap);
    return !rc || rc == HAUL_E_CANCELED ? rc : HAUL_E_AUTH;
}

/* Waits for its turn: alone until a login has succeeded. */
static int gate_enter(struct hl_ssh_host *host,
                      const struct hl_ssh_limit *limit)
{
    struct timespec ts;
    int rc = 0;

    pthread_mutex_lock(&host->lock.mutex);
    while (!host->lock.logged_in && host->lock.busy && !rc) {
        clock_gettime(CLOCK_REALTIME, &ts);
        ts.tv_nsec += HL_SSH_POLL_MS * (long)HL_NS_PER_MS;
        if (ts.tv_nsec >= (long)HL_NS_PER_S) {
            ts.tv_nsec -= (long)HL_NS_PER_S;
            ts.tv_sec++;
        }
        pthread_cond_timedwait(&host->lock.changed, &host->lock.mutex, &ts);
        if (hl_ssh_stopped(limit))
            rc = HAUL_E_CANCELED;
    }
    if (!rc && !host->lock.logged_in)
        host->lock.busy = true;
    pthread_mutex_unlock(&host->lock.mutex);
    return rc;
}

static void gate_leave(struct hl_ssh_host *host, bool success)
{
    pthread_mutex_lock(&host->lock.mutex);
    host->lock.busy = false;
    host->lock.logged_in = host->lock.logged_in || success;
    pthread_cond_broadcast(&host->lock.changed);
    pthread_mutex_unlock(&host->lock.mutex);
}

/* ---- Getting a socket --------------------------------------------------- */

#define PROXY_SHELL "trap '' INT QUIT; exec "

/*
 * The jump host is the business of the user's ssh, which knows the same
 * configuration. The shell is there because an interrupt from the terminal
 * must not take the connection away before haul has stopped in order.
 */
static int start_jump(struct hl_ssh *s, int *fd, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;
    char sh[] = "/bin/sh", minus_c[] = "-c", script[] = PROXY_SHELL "\"$@\"";
    char ssh[] = "ssh", f[] = "-F", j[] = "-J", w[] = "-W", end[] = "--";
    char batch[] = "-oBatchMode=yes";
    char *argv[16], *to, *last = NULL, *rest, *comma;
    size_t n = 0;
    int rc;

    to = hl_asprintf("[%s]:%u", c->host, c->port);
    rest = hl_strdup(c->proxy_jump);
    comma = rest ? strrchr(rest, ',') : NULL;
    if (comma)
        *comma = '\0';
    if (rest)
        last = comma ? comma + 1 : rest;
    if (last)
        last = hl_asprintf("%s%s", strncmp(last, "ssh://", 6) ? "ssh://" : "",
                           last);
    argv[n++] = sh;
    argv[n++] = minus_c;
    argv[n++] = script;
    argv[n++] = ssh;
    argv[n++] = ssh;
    if (c->file) {
        argv[n++] = f;
        argv[n++] = c->file;
    }
    if (!s->env->secret)
        argv[n++] = batch;
    if (comma) {
        argv[n++] = j;
        argv[n++] = rest;
    }
    argv[n++] = w;
    argv[n++] = to;
    argv[n++] = end;
    argv[n++] = last;
    argv[n] = NULL;
    HL_ASSERT(n < HL_LEN(argv));
    if (!to || !last)
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else
        rc = hl_ssh_child_start(argv, &s->proxy, fd, err);
    HL_TRACE(s->env->log, HL_AREA_SSH, "jump over '%s' to %s: pid %d",
             c->proxy_jump, to ? to : "", (int)s->proxy.pid);
    hl_free(to);
    hl_free(rest);
    hl_free(last);
    return rc;
}

static int start_proxy_command(struct hl_ssh *s, int *fd, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;
    char sh[] = "/bin/sh", minus_c[] = "-c";
    char *argv[] = {sh, minus_c, NULL, NULL};
    char *command = NULL;
    int rc;

    if (!hl_ssh_config_shell_safe(c->host) ||
        !hl_ssh_config_shell_safe(c->name) ||
        !hl_ssh_config_shell_safe(c->user) ||
        (c->alias && !hl_ssh_config_shell_safe(c->alias)))
        return hl_err(err, HAUL_E_INVAL, 0,
                      "user '%s' or host '%s' has characters that must not "
                      "stand in a ProxyCommand",
                      c->user, c->host);
    rc = hl_ssh_config_expand(c, c->proxy_command, false, &command, err);
    if (rc)
        return rc;
    argv[2] = hl_asprintf(PROXY_SHELL "%s", command);
    if (!argv[2])
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else
        rc = hl_ssh_child_start(argv, &s->proxy, fd, err);
    HL_TRACE(s->env->log, HL_AREA_SSH, "proxy command: pid %d",
             (int)s->proxy.pid);
    hl_free(argv[2]);
    hl_free(command);
    return rc;
}

/* *fd goes to libssh, which closes it. */
static int get_socket(struct hl_ssh *s, int *fd, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;
    int rc;

    if (c->proxy_command)
        rc = start_proxy_command(s, fd, err);
    else if (c->proxy_jump)
        rc = start_jump(s, fd, err);
    else
        rc = hl_ssh_tcp_connect(s->env, c, &s->limit, fd, err);
    if (rc)
        return rc;
    s->fd = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    if (s->fd >= 0)
        return 0;
    rc = hl_err(err, HAUL_E_CONNECT, errno, "cannot duplicate a socket");
    close(*fd);
    return rc;
}

/* ---- Handshake ---------------------------------------------------------- */

static const char *ciphers(const struct hl_ssh *s)
{
    const char *wanted = hl_opts_str(s->env->opts, HAUL_OPT_CIPHER);

    if (wanted && *wanted)
        return wanted;
    if (s->host->fixed.config.ciphers)
        return s->host->fixed.config.ciphers;
#if defined(__x86_64__) || defined(__i386__)
    if (!__builtin_cpu_supports("aes"))
        return NULL;
#elif !defined(__aarch64__)
    return NULL;
#endif
    return "aes128-gcm@openssh.com,aes256-gcm@openssh.com,"
           "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr";
}

static bool set(ssh_session session, enum ssh_options_e option,
                const void *value)
{
    return ssh_options_set(session, option, value) == SSH_OK;
}

static int set_ciphers(struct hl_ssh *s, struct hl_error *err)
{
    const char *list = ciphers(s);

    if (!list || (set(s->session, SSH_OPTIONS_CIPHERS_C_S, list) &&
                  set(s->session, SSH_OPTIONS_CIPHERS_S_C, list)))
        return 0;
    hl_err(err, HAUL_E_INVAL, 0, "no usable cipher in '%s'", list);
    return hl_err_hint(err, "Known are aes128-gcm@openssh.com, "
                            "aes256-gcm@openssh.com, aes128-ctr, aes192-ctr, "
                            "aes256-ctr, chacha20-poly1305@openssh.com.");
}

/* libssh's own reading of files is kept out: it would read ~/.ssh/config and
 * its Port would win (libssh 0.10.6, ssh_connect()). */
static int set_options(struct hl_ssh *s, int fd, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;
    unsigned port = c->port;
    int off = 0;
    char *order = hl_ssh_hostkey_order(c);
    bool ok;

    ok = order && set(s->session, SSH_OPTIONS_PROCESS_CONFIG, &off) &&
         set(s->session, SSH_OPTIONS_HOST, c->host) &&
         set(s->session, SSH_OPTIONS_PORT, &port) &&
         set(s->session, SSH_OPTIONS_USER, c->user) &&
         set(s->session, SSH_OPTIONS_KNOWNHOSTS, "/dev/null") &&
         set(s->session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null") &&
         set(s->session, SSH_OPTIONS_HOSTKEYS, order) &&
         set(s->session, SSH_OPTIONS_FD, &fd);
    hl_free(order);
    if (!ok)
        return hl_err(err, HAUL_E_INVAL, 0, "libssh refuses '%s@%s': %s",
                      c->user, c->host, ssh_get_error(s->session));
    ssh_set_blocking(s->session, 0);
    return set_ciphers(s, err);
}

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/* The ProxyCommand is gone, or said something worth more than "closed". */
static int proxy_failed(struct hl_ssh *s, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;
    char line[200];
    int code = HAUL_E_CONNECT;

    hl_ssh_child_last_line(&s->proxy, line, sizeof(line));
    if (has(line, "Permission denied"))
        code = HAUL_E_AUTH;
    else if (has(line, "Host key verification failed"))
        code = HAUL_E_HOSTKEY;
    else if (has(line, "Could not resolve"))
        code = HAUL_E_RESOLVE;
    hl_err(err, code, 0, "no way to '%s' through '%s': %s", c->host,
           c->proxy_command ? c->proxy_command : c->proxy_jump,
           line[0] ? line : "the proxy closed the connection");
    return hl_err_hint(err,
                       "'ssh %s' takes the same way: make that work "
                       "first.",
                       c->name);
}

static int not_ssh(struct hl_ssh *s, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;

    /* sshd.c: drop_connection() and PerSourcePenalties say these. */
    if (has(s->greeting, "MaxStartups") ||
        has(s->greeting, "Not allowed at this time")) {
        hl_err(err, HAUL_E_RESET, 0, "'%s' port %u refuses more logins: %s",
               c->host, c->port, s->greeting);
        return hl_err_hint(err, "sshd limits logins in progress: try fewer "
                                "--connections, or raise MaxStartups there.");
    }
    hl_err(err, HAUL_E_PROTO, 0, "'%s' port %u does not speak SSH: %s", c->host,
           c->port, s->greeting);
    return hl_err_hint(err, "Check the port.");
}

static bool says_closed(const char *text)
{
    return has(text, "ocket") || has(text, "EOF") || has(text, "eset") ||
           has(text, "isconnect") || has(text, "DISCONNECT") ||
           has(text, "closed") || !*text;
}

static int handshake_failed(struct hl_ssh *s, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;
    const char *text = ssh_get_error(s->session);

    if (!s->greeting[0] && s->proxy.pid > 0)
        return proxy_failed(s, err);
    if (s->greeting[0] && strncmp(s->greeting, "SSH-", 4))
        return not_ssh(s, err);
    if (has(text, "no match for method")) {
        hl_err(err, HAUL_E_PROTO, 0, "no common algorithm with '%s': %s",
               c->host, text);
        return hl_err_hint(err, "Check --cipher, Ciphers in the ssh "
                                "configuration, and what the server allows.");
    }
    if (!says_closed(text))
        return hl_err(err, HAUL_E_PROTO, 0, "handshake with '%s' failed: %s",
                      c->host, text);
    hl_err(err, HAUL_E_RESET, 0, "'%s' port %u closed the connection %s",
           c->host, c->port,
           s->greeting[0] ? "during the handshake" : "before it said anything");
    hl_err_detail(err, "%s", text);
    return hl_err_hint(err, "sshd does so when too many logins are in "
                            "progress (MaxStartups), or when it blocks this "
                            "address.");
}

int hl_ssh_failed(struct hl_ssh *s, struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;
    const char *text = ssh_get_error(s->session);

    if (has(text, "Too many authentication failures")) {
        hl_err(err, HAUL_E_AUTH, 0,
               "'%s' ended the login as '%s': too many keys were refused",
               c->host, c->user);
        return hl_err_hint(err, "Name the right key with --identity FILE: "
                                "then only that one is offered.");
    }
    hl_err(err, HAUL_E_RESET, 0, "'%s' closed the connection during the login",
           c->host);
    return hl_err_detail(err, "%s", text);
}

/* Keeps the first line of what the server says, for messages; libssh reads it
 * after. */
static void peek_greeting(struct hl_ssh *s)
{
    ssize_t n = recv(s->fd, s->greeting, sizeof(s->greeting) - 1,
                     MSG_PEEK | MSG_DONTWAIT);

    s->greeting[n > 0 ? n : 0] = '\0';
    s->greeting[strcspn(s->greeting, "\r\n")] = '\0';
}

static int stalled(struct hl_ssh *s, int r, const char *when,
                   struct hl_error *err)
{
    const struct hl_ssh_config *c = &s->host->fixed.config;

    if (r)
        return hl_err(err, r, 0, "interrupted");
    hl_err(err, HAUL_E_STALLED, 0, "'%s' port %u says nothing %s", c->host,
           c->port, when);
    return hl_err_hint(err, "Check that an SSH server listens on that port, "
                            "or raise --stall-timeout.");
}

static int handshake(struct hl_ssh *s, struct hl_error *err)
{
    uint64_t deadline = hl_ssh_now() + s->limit.step_ns;
    bool greeted = false;
    int r, rc;
    char *p;

    while ((rc = ssh_connect(s->session)) == SSH_AGAIN) {
        r = hl_ssh_turn(s->session, s->fd, &s->limit, deadline);
        if (r <= 0)
            return stalled(s, r,
                           greeted ? "during the key exchange"
                                   : "after it was connected",
                           err);
        if (!s->greeting[0])
            peek_greeting(s);
        if (!greeted && ssh_get_serverbanner(s->session)) {
            greeted = true;
            deadline = hl_ssh_now() + s->limit.step_ns;
        }
    }
    if (rc != SSH_OK)
        return handshake_failed(s, err);
    snprintf(s->server, sizeof(s->server), "%s",
             ssh_get_serverbanner(s->session));
    for (p = s->server; *p; p++)
        if (*p < ' ' || *p > '~') /* RFC 4253 section 4.2 */
            *p = '?';
    HL_TRACE(s->env->log, HL_AREA_SSH, "%s: kex %s, cipher %s", s->server,
             ssh_get_kex_algo(s->session), ssh_get_cipher_out(s->session));
    return 0;
}

/* ---- Connecting --------------------------------------------------------- */

void hl_ssh_saw_answer(struct hl_ssh *s, uint64_t start_ns)
{
    uint64_t ns = hl_ssh_now() - start_ns;

    if (!s->rtt_ns || ns < s->rtt_ns)
        s->rtt_ns = ns;
}

static int resolve_once(struct hl_ssh *s, struct hl_error *err)
{
    struct hl_ssh_host *host = s->host;
    int rc;

    /* Only the holder of the gate comes here before the first login. */
    if (host->lock.resolved)
        return 0;
    rc = hl_ssh_config_resolve(s->env, &host->fixed.url, &s->limit,
                               &host->fixed.config, err);
    host->lock.resolved = rc == 0;
    return rc;
}

static int connect_steps(struct hl_ssh *s, struct hl_error *err)
{
    uint64_t start = hl_ssh_now();
    int fd, flags, rc;

    rc = resolve_once(s, err);
    if (rc)
        return rc;
    rc = get_socket(s, &fd, err);
    if (rc)
        return rc;
    s->session = ssh_new();
    if (!s->session) {
        close(fd);
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    rc = set_options(s, fd, err);
    if (rc) {
        close(fd); /* libssh takes it in ssh_connect() only */
        return rc;
    }
    rc = handshake(s, err);
    if (!rc)
        rc = hl_ssh_hostkey_check(s, err);
    if (!rc)
        rc = hl_ssh_auth(s, err);
    if (rc)
        return rc;
    /* libssh 0.10 makes the socket blocking once it is connected. */
    flags = fcntl(s->fd, F_GETFL);
    if (flags < 0 || fcntl(s->fd, F_SETFL, flags | O_NONBLOCK))
        return hl_err(err, HAUL_E_CONNECT, errno, "cannot set a socket up");
    HL_TRACE(s->env->log, HL_AREA_SSH,
             "logged in after %llu ms, round trip %llu us",
             (unsigned long long)((hl_ssh_now() - start) / HL_NS_PER_MS),
             (unsigned long long)(s->rtt_ns / 1000));
    return 0;
}

int hl_ssh_connect(struct hl_ssh_host *host, const atomic_bool *stop,
                   struct hl_ssh **out, struct hl_error *err)
{
    struct hl_ssh *s = hl_malloc(sizeof(*s));
    int64_t stall_s;
    int rc;

    if (!s)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    s->host = host;
    s->env = host->fixed.env;
    s->fd = s->proxy.log_fd = -1;
    stall_s = hl_opts_i64(s->env->opts, HAUL_OPT_STALL_TIMEOUT);
    s->limit.stop = stop;
    s->limit.step_ns = (uint64_t)(stall_s > 0 ? stall_s : 60) * HL_NS_PER_S;
    rc = gate_enter(host, &s->limit);
    if (rc) {
        hl_ssh_free(s);
        return hl_err(err, rc, 0, "interrupted");
    }
    rc = connect_steps(s, err);
    gate_leave(host, rc == 0);
    if (rc) {
        hl_ssh_free(s);
        return rc;
    }
    s->host = NULL;
    s->limit.stop = NULL;
    *out = s;
    return 0;
}

void hl_ssh_free(struct hl_ssh *s)
{
    if (!s)
        return;
    if (s->session) {
        ssh_disconnect(s->session);
        ssh_free(s->session);
    }
    if (s->fd >= 0)
        close(s->fd);
    hl_ssh_child_end(&s->proxy);
    hl_free(s);
}

ssh_session hl_ssh_session(struct hl_ssh *s)
{
    return s->session;
}

int hl_ssh_fd(struct hl_ssh *s)
{
    return s->fd;
}

uint64_t hl_ssh_rtt_ns(const struct hl_ssh *s)
{
    return s->rtt_ns;
}

const char *hl_ssh_server(const struct hl_ssh *s)
{
    return s->server;
}
