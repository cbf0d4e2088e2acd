/*
 * A filter between libssh and the user's agent (draft-miller-ssh-agent).
 *
 * libssh 0.10 offers every key that an agent has, in the agent's order, and
 * waits for it without end. Here it sees one key at a time, which makes
 * IdentitiesOnly and the order of OpenSSH possible, and a signature is waited
 * for only as long as the limit says.
 *
 * Threads: one, from the first hl_ssh_agent_show() to hl_ssh_agent_close(),
 * because libssh blocks while it waits. It owns the agent's socket then; only
 * the number of the key shown is shared.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ssh_private.h"
#include "thread.h"

#define MESSAGE_MAX (256u << 10)
#define KEYS_MAX 64
#define BLOB_MAX (16u << 10)
/* A person may have to confirm or touch. */
#define SIGN_NS (30 * HL_NS_PER_S)

enum {
    AGENT_FAILURE = 5,
    AGENTC_REQUEST_IDENTITIES = 11,
    AGENT_IDENTITIES_ANSWER = 12
};

struct message {
    uint8_t *data;
    uint32_t len;
};

struct hl_ssh_agent {
    struct hl_ssh_limit limit;
    int fd;   /* to the agent */
    int pair; /* to libssh; -1 before the thread runs */
    pthread_t thread;
    atomic_size_t shown;
    size_t count;
    struct {
        struct message blob;
        char *text; /* base64 */
        ssh_key pub;
    } key[KEYS_MAX];
};

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static void put_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

/* ---- Messages: 4 bytes of length, then as many -------------------------- */

static bool move_all(int fd, uint8_t *data, size_t len, bool out,
                     const struct hl_ssh_limit *limit, uint64_t deadline_ns)
{
    ssize_t n;

    while (len) {
        if (hl_ssh_poll(fd, out ? POLLOUT : POLLIN, limit, deadline_ns) <= 0)
            return false;
        n = out ? send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT)
                : recv(fd, data, len, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static bool message_read(int fd, struct message *m,
                         const struct hl_ssh_limit *limit, uint64_t deadline_ns)
{
    uint8_t head[4];

    m->data = NULL;
    if (!move_all(fd, head, 4, false, limit, deadline_ns))
        return false;
    m->len = get_u32(head);
    if (m->len < 1 || m->len > MESSAGE_MAX)
        return false;
    m->data = hl_malloc(m->len);
    if (m->data && move_all(fd, m->data, m->len, false, limit, deadline_ns))
        return true;
    hl_free(m->data);
    m->data = NULL;
    return false;
}

static bool message_write(int fd, const struct message *m,
                          const struct hl_ssh_limit *limit,
                          uint64_t deadline_ns)
{
    uint8_t head[4];

    put_u32(head, m->len);
    return move_all(fd, head, 4, true, limit, deadline_ns) &&
           move_all(fd, m->data, m->len, true, limit, deadline_ns);
}

static bool ask_agent(struct hl_ssh_agent *a, const struct message *request,
                      struct message *reply, uint64_t deadline_ns)
{
    reply->data = NULL;
    return message_write(a->fd, request, &a->limit, deadline_ns) &&
           message_read(a->fd, reply, &a->limit, deadline_ns);
}

/* ---- The thread --------------------------------------------------------- */

/* The answer to REQUEST_IDENTITIES with the one key shown. */
static bool answer_shown(struct hl_ssh_agent *a, struct message *reply)
{
    size_t i = atomic_load(&a->shown);
    const struct message *blob = &a->key[i].blob;

    reply->len = 1 + 4 + 4 + blob->len + 4;
    reply->data = hl_malloc(reply->len); /* zeroed: an empty comment */
    if (!reply->data)
        return false;
    reply->data[0] = AGENT_IDENTITIES_ANSWER;
    put_u32(reply->data + 1, 1);
    put_u32(reply->data + 5, blob->len);
    memcpy(reply->data + 9, blob->data, blob->len);
    return true;
}

static void *serve(void *arg)
{
    struct hl_ssh_agent *a = arg;
    struct message request, reply;
    uint8_t failure = AGENT_FAILURE;
    struct message refusal = {&failure, 1};
    uint64_t deadline;
    bool ok = true;

    while (ok && message_read(a->pair, &request, &a->limit, UINT64_MAX)) {
        deadline = hl_ssh_now() + hl_max(a->limit.step_ns, SIGN_NS);
        ok = request.data[0] == AGENTC_REQUEST_IDENTITIES
                 ? answer_shown(a, &reply)
                 : ask_agent(a, &request, &reply, deadline);
        hl_free(request.data);
        ok = message_write(a->pair, ok ? &reply : &refusal, &a->limit,
                           hl_ssh_now() + HL_NS_PER_S) &&
             ok;
        hl_free(reply.data);
    }
    /* libssh reads the end instead of waiting for an answer. */
    shutdown(a->pair, SHUT_RDWR);
    return NULL;
}

int hl_ssh_agent_show(struct hl_ssh_agent *a, ssh_session session, size_t index,
                      struct hl_error *err)
{
    int pair[2], rc;

    HL_ASSERT(index < a->count);
    atomic_store(&a->shown, index);
    if (a->pair >= 0)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return hl_err(err, HAUL_E_NOMEM, errno, "cannot make a socket");
    a->pair = pair[0];
    rc = hl_thread_start(&a->thread, "haul-agent", serve, a);
    if (rc) {
        close(pair[0]);
        close(pair[1]);
        a->pair = -1;
        return hl_err(err, HAUL_E_NOMEM, rc, "cannot start a thread");
    }
    /* The session closes pair[1] when it is freed. */
    ssh_set_agent_socket(session, pair[1]);
    return 0;
}

/* ---- Opening ------------------------------------------------------------ */

/* One key of the answer; false when the message ends too early. Kinds that
 * libssh does not know are left out. */
static bool add_key(struct hl_ssh_agent *a, const uint8_t **p, uint32_t *left)
{
    char type[64];
    const uint8_t *blob;
    uint32_t len, n;
    struct message copy;
    ssh_key pub = NULL;
    char *text;

    if (*left < 4 || (len = get_u32(*p)) > *left - 4)
        return false;
    blob = *p + 4;
    *p += 4 + len;
    *left -= 4 + len;
    if (*left < 4 || (n = get_u32(*p)) > *left - 4)
        return false;
    *p += 4 + n; /* the comment */
    *left -= 4 + n;
    if (len < 4 || len > BLOB_MAX || a->count == KEYS_MAX)
        return true;
    n = get_u32(blob);
    if (n > len - 4 || n >= sizeof(type))
        return true;
    memcpy(type, blob + 4, n);
    type[n] = '\0';
    copy.len = len;
    copy.data = hl_malloc(len);
    text = hl_malloc(((size_t)len + 2) / 3 * 4 + 1);
    if (text)
        EVP_EncodeBlock((uint8_t *)text, blob, (int)len);
    if (!copy.data || !text ||
        ssh_pki_import_pubkey_base64(text, ssh_key_type_from_name(type),
                                     &pub) != SSH_OK) {
        hl_free(copy.data);
        hl_free(text);
        return true;
    }
    memcpy(copy.data, blob, len);
    a->key[a->count].blob = copy;
    a->key[a->count].pub = pub;
    a->key[a->count++].text = text;
    return true;
}

static bool read_keys(struct hl_ssh_agent *a)
{
    uint8_t type = AGENTC_REQUEST_IDENTITIES;
    struct message request = {&type, 1}, reply;
    const uint8_t *p;
    uint32_t left, count;
    bool ok;

    ok = ask_agent(a, &request, &reply, hl_ssh_now() + a->limit.step_ns) &&
         reply.len >= 5 && reply.data[0] == AGENT_IDENTITIES_ANSWER;
    if (ok) {
        count = get_u32(reply.data + 1);
        p = reply.data + 5;
        left = reply.len - 5;
        while (count-- && add_key(a, &p, &left))
            ;
    }
    hl_free(reply.data);
    return ok;
}

int hl_ssh_agent_open(const char *path, const struct hl_ssh_limit *limit,
                      struct hl_ssh_agent **out, struct hl_error *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct hl_ssh_agent *a;

    *out = NULL;
    if (strlen(path) >= sizeof(sun.sun_path))
        return 0;
    memcpy(sun.sun_path, path, strlen(path));
    a = hl_malloc(sizeof(*a));
    if (!a)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    a->limit = *limit;
    a->pair = -1;
    a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (a->fd >= 0 &&
        !connect(a->fd, (const struct sockaddr *)&sun, sizeof(sun)) &&
        read_keys(a))
        *out = a;
    else
        hl_ssh_agent_close(a);
    return 0;
}

void hl_ssh_agent_close(struct hl_ssh_agent *a)
{
    size_t i;

    if (!a)
        return;
    if (a->pair >= 0) {
        shutdown(a->pair, SHUT_RDWR);
        pthread_join(a->thread, NULL);
        close(a->pair);
    }
    if (a->fd >= 0)
        close(a->fd);
    for (i = 0; i < a->count; i++) {
        hl_free(a->key[i].blob.data);
        hl_free(a->key[i].text);
        ssh_key_free(a->key[i].pub);
    }
    hl_free(a);
}

size_t hl_ssh_agent_count(const struct hl_ssh_agent *a)
{
    return a ? a->count : 0;
}

const char *hl_ssh_agent_key64(const struct hl_ssh_agent *a, size_t index)
{
    HL_ASSERT(index < a->count);
    return a->key[index].text;
}

ssh_key hl_ssh_agent_key(const struct hl_ssh_agent *a, size_t index)
{
    HL_ASSERT(index < a->count);
    return a->key[index].pub;
}
