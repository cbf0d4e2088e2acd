/*
 * What the files ssh_*.c share; nobody else includes it.
 *
 *   ssh_session.c  hosts, the steps of a connection, handshake
 *   ssh_config.c   what ssh_config(5) says about a host
 *   ssh_tcp.c      names and addresses to a connected socket
 *   ssh_child.c    child processes: "ssh -G", ProxyCommand
 *   ssh_hostkey.c  known_hosts
 *   ssh_auth.c     logging in: keys, passwords, questions
 *   ssh_agent.c    a filter between libssh and the user's agent
 */
#ifndef HL_SSH_PRIVATE_H
#define HL_SSH_PRIVATE_H

#include <pthread.h>
#include <sys/types.h>
#include <time.h>

#include "ssh_session.h"

#define HL_SSH_POLL_MS 100 /* *stop is looked at this often */
#define HL_SSH_SECRET_MAX 1024
#define HL_SSH_LIST_MAX 64 /* files of one kind */

static inline uint64_t hl_ssh_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * HL_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* How long a step may take, and who may end it early. */
struct hl_ssh_limit {
    const atomic_bool *stop;
    uint64_t step_ns;
};

static inline bool hl_ssh_stopped(const struct hl_ssh_limit *limit)
{
    return limit->stop && atomic_load(limit->stop);
}

/*
 * Waits until fd has one of events, at most to deadline_ns. 1: it has,
 * 0: the deadline has passed, HAUL_E_CANCELED: *stop.
 */
int hl_ssh_poll(int fd, short events, const struct hl_ssh_limit *limit,
                uint64_t deadline_ns);
/* The same for a libssh call that said SSH_AGAIN, but returns after at most
 * 100 ms in any case; 1 go on, otherwise as above. */
int hl_ssh_turn(ssh_session session, int fd, const struct hl_ssh_limit *limit,
                uint64_t deadline_ns);

/* ---- ssh_config.c ------------------------------------------------------- */

struct hl_ssh_list {
    char *item[HL_SSH_LIST_MAX];
    size_t count;
};

struct hl_ssh_config {
    char *name;          /* as typed: %n */
    char *host;          /* HostName: %h */
    char *user;          /* %r */
    uint16_t port;       /* %p */
    char *alias;         /* HostKeyAlias or NULL: %k */
    char *ciphers;       /* NULL: not set by the user */
    char *proxy_jump;    /* or NULL */
    char *proxy_command; /* or NULL */
    char *agent;         /* socket, or NULL: no agent */
    char *file;          /* for "ssh -F", or NULL */
    struct hl_ssh_list identities, certificates;
    struct hl_ssh_list known_user, known_global;
    bool identities_only;
    bool identities_explicit;   /* --identity */
    bool accept_new;            /* StrictHostKeyChecking accept-new, no, off */
    bool hash_names;            /* HashKnownHosts */
    int family;                 /* AF_UNSPEC, AF_INET, AF_INET6 */
    uint32_t connect_timeout_s; /* 0: not set */
};

void hl_ssh_config_fini(struct hl_ssh_config *c);
/* Asks the user's OpenSSH; see docs/decisions/0001. On failure *out needs no
 * fini. */
int hl_ssh_config_resolve(const struct hl_env *env, const struct hl_url *url,
                          const struct hl_ssh_limit *limit,
                          struct hl_ssh_config *out, struct hl_error *err);

/* Reads the output of "ssh -G" into c, which holds name. Pure. Files keep
 * "~" and tokens. */
int hl_ssh_config_parse(struct hl_ssh_config *c, const char *text,
                        struct hl_error *err);
/* Replaces the tokens of ssh_config(5) by c's values, and with files a
 * leading "~" and ${NAME}. Unknown ones are HAUL_E_INVAL. Pure but for the
 * environment. Caller frees. */
int hl_ssh_config_expand(const struct hl_ssh_config *c, const char *text,
                         bool file, char **out, struct hl_error *err);
/* May value stand in a shell command as it is? */
bool hl_ssh_config_shell_safe(const char *value);

/* ---- ssh_child.c -------------------------------------------------------- */

struct hl_ssh_child {
    pid_t pid;  /* 0: none */
    int log_fd; /* what it wrote to its standard error; -1 none */
    bool group; /* it leads a process group, which ends with it */
};

/* Runs argv (found in PATH) and collects its standard output (caller frees)
 * and error. *status as of waitpid(), or -1 when it could not be started
 * (which is no error). */
int hl_ssh_child_capture(char *const argv[], const struct hl_ssh_limit *limit,
                         char **out, char *errtext, size_t cap, int *status,
                         struct hl_error *err);
/* Runs argv with a socket as its standard input and output. *fd is the other
 * end: close-on-exec, non-blocking. */
int hl_ssh_child_start(char *const argv[], struct hl_ssh_child *child, int *fd,
                       struct hl_error *err);
/* Last line it wrote to its standard error, or "". */
void hl_ssh_child_last_line(const struct hl_ssh_child *child, char *buf,
                            size_t cap);
/* Ends and reaps it, within half a second. */
void hl_ssh_child_end(struct hl_ssh_child *child);

/* ---- ssh_tcp.c ---------------------------------------------------------- */

/* A connected, non-blocking, close-on-exec socket to config's host. */
int hl_ssh_tcp_connect(const struct hl_env *env,
                       const struct hl_ssh_config *config,
                       const struct hl_ssh_limit *limit, int *fd,
                       struct hl_error *err);

/* ---- ssh_session.c ------------------------------------------------------ */

struct hl_ssh_secret {
    char *what; /* the question */
    char *value;
};

struct hl_ssh_host {
    /* Written before the first login ended, read by anyone after. */
    struct {
        const struct hl_env *env;
        struct hl_url url;
        struct hl_ssh_config config;
    } fixed;
    struct {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        bool resolved;  /* fixed.config is filled */
        bool busy;      /* somebody is at the first login */
        bool logged_in; /* a login succeeded: secrets are known */
        struct hl_ssh_secret secret[16];
        size_t secret_count;
    } lock;
    atomic_bool one_login;
};

struct hl_ssh {
    struct hl_ssh_host *host; /* only within hl_ssh_connect() */
    const struct hl_env *env;
    struct hl_ssh_limit limit; /* only within hl_ssh_connect() */
    ssh_session session;
    int fd; /* a duplicate of the one libssh has and may close */
    struct hl_ssh_child proxy;
    uint64_t rtt_ns;
    char server[128];
    char greeting[128]; /* first bytes from the server */
};

/* One request has been answered since start_ns: maybe the shortest round
 * trip. */
void hl_ssh_saw_answer(struct hl_ssh *s, uint64_t start_ns);
/* Sets err from libssh's after a call failed. */
int hl_ssh_failed(struct hl_ssh *s, struct hl_error *err);

/* Copies the remembered answer to buf. */
bool hl_ssh_recall(struct hl_ssh_host *host, const char *what, char *buf,
                   size_t cap);
/* value NULL: forget. */
void hl_ssh_remember(struct hl_ssh_host *host, const char *what,
                     const char *value);
/* Asks the user; not remembered. HAUL_E_AUTH: nobody answers. */
int hl_ssh_ask(struct hl_ssh_host *host, const char *what, bool echo, char *buf,
               size_t cap);

/* ---- ssh_hostkey.c ------------------------------------------------------ */

/* "ssh-ed25519,…" with the kinds that known_hosts has for the host first.
 * Caller frees; NULL without memory. */
char *hl_ssh_hostkey_order(const struct hl_ssh_config *config);
int hl_ssh_hostkey_check(struct hl_ssh *s, struct hl_error *err);

enum hl_ssh_known {
    HL_SSH_KNOWN_NO, /* nothing about this host */
    HL_SSH_KNOWN_OK,
    HL_SSH_KNOWN_OTHER, /* keys of other types only */
    HL_SSH_KNOWN_CHANGED,
    HL_SSH_KNOWN_REVOKED
};

struct hl_ssh_known_hit {
    enum hl_ssh_known known;
    char file[256]; /* where the line stands that decided */
    unsigned line;
    char *key64;    /* key of that line; caller frees */
    bool authority; /* a @cert-authority line was met */
};

/* What files say about key64 (type "ssh-ed25519", …) under name. */
int hl_ssh_known_find(const struct hl_ssh_list *const lists[], size_t count,
                      const char *name, const char *type, const char *key64,
                      struct hl_ssh_known_hit *hit, struct hl_error *err);
/* Does a field of known_hosts (patterns or hashed) name the host? Pure. */
bool hl_ssh_known_match(const char *field, const char *name);

/* ---- ssh_agent.c -------------------------------------------------------- */

struct hl_ssh_agent;

/* Asks the agent at path for its keys; when it does not answer *out is NULL
 * and 0 is returned. Starts no thread yet. */
int hl_ssh_agent_open(const char *path, const struct hl_ssh_limit *limit,
                      struct hl_ssh_agent **out, struct hl_error *err);
void hl_ssh_agent_close(struct hl_ssh_agent *a);
/* NULL has none. */
size_t hl_ssh_agent_count(const struct hl_ssh_agent *a);
/* Public key in base64, as in a .pub file. */
const char *hl_ssh_agent_key64(const struct hl_ssh_agent *a, size_t index);
/* The same, parsed; belongs to a. */
ssh_key hl_ssh_agent_key(const struct hl_ssh_agent *a, size_t index);
/* From now on libssh's agent calls on session see this key only. */
int hl_ssh_agent_show(struct hl_ssh_agent *a, ssh_session session, size_t index,
                      struct hl_error *err);

/* ---- ssh_auth.c --------------------------------------------------------- */

int hl_ssh_auth(struct hl_ssh *s, struct hl_error *err);

/* ---- ssh_key.c; the caller frees with ssh_key_free() -------------------- */

/* From FILE.pub, or from FILE itself: the OpenSSH format has the public key in
 * clear. NULL when neither tells. */
ssh_key hl_ssh_key_public(const char *path);
ssh_key hl_ssh_key_certificate(const char *path);
/* The private key, if it can be had without asking anybody; or NULL. */
ssh_key hl_ssh_key_plain(const char *path);

#endif /* HL_SSH_PRIVATE_H */
