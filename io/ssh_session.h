/*
 * An SSH connection the way its users have it: ssh_config, known_hosts, agent,
 * keys, passwords, one-time codes, ProxyJump and ProxyCommand. Knows nothing
 * of SFTP. Made of libssh, which must be touched by one thread per session.
 *
 * struct hl_ssh_host is shared by the connections of an endpoint and locked
 * inside; struct hl_ssh belongs to the thread that connected it.
 */
#ifndef HL_SSH_SESSION_H
#define HL_SSH_SESSION_H

#include <libssh/libssh.h>
#include <stdatomic.h>

#include "io.h"

struct hl_ssh_host; /* who and how: settings, secrets typed so far */
struct hl_ssh;      /* one logged-in connection */

/* No I/O; url and options of env are kept. The configuration is resolved by
 * the first hl_ssh_connect(). */
int hl_ssh_host_new(const struct hl_env *env, const struct hl_url *url,
                    struct hl_ssh_host **out, struct hl_error *err);
/* Wipes secrets. Accepts NULL. */
void hl_ssh_host_free(struct hl_ssh_host *host);

/*
 * Resolves, connects, checks the host key, logs in. Blocks the calling thread
 * (a thread of the driver) for at most the stall timeout a step; returns soon
 * with HAUL_E_CANCELED when *stop becomes true. Errors: HAUL_E_RESOLVE,
 * _CONNECT, _RESET (also when the server drops us before the banner, as
 * MaxStartups does), _STALLED, _HOSTKEY, _AUTH, _PROTO.
 *
 * Secrets are asked once per host and reused by later connections, except
 * one-time codes: see hl_ssh_host_one_login().
 */
int hl_ssh_connect(struct hl_ssh_host *host, const atomic_bool *stop,
                   struct hl_ssh **out, struct hl_error *err);
/* Closes at once. Accepts NULL. */
void hl_ssh_free(struct hl_ssh *ssh);

/* The session, in non-blocking mode, and its socket (which may be a pipe to a
 * ProxyCommand). They belong to ssh. */
ssh_session hl_ssh_session(struct hl_ssh *ssh);
int hl_ssh_fd(struct hl_ssh *ssh);
/* Round trip seen in the handshake, ns. */
uint64_t hl_ssh_rtt_ns(const struct hl_ssh *ssh);
/* "SSH-2.0-OpenSSH_9.2p1 …"; never NULL. */
const char *hl_ssh_server(const struct hl_ssh *ssh);

/* The login took an answer that works only once (keyboard-interactive with
 * anything but the password): a second connection would ask again, so use
 * channels instead. */
bool hl_ssh_host_one_login(struct hl_ssh_host *host);

#endif /* HL_SSH_SESSION_H */
