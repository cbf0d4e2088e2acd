/*
 * Child processes: "ssh -G", whose output is collected, and the ProxyCommand,
 * which carries a connection. Called on the thread that connects.
 *
 * A child inherits nothing but what it is given: files above 2 are closed,
 * signals are unblocked (the library's threads block them all) and have their
 * default action.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ssh_private.h"

#define CAPTURE_MAX (256u << 10)
#define LOG_MAX 65536

extern char **environ;

static int spawn(char *const argv[], int in, int out,
                 struct hl_ssh_child *child)
{
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    if (posix_spawn_file_actions_init(&fa))
        return ENOMEM;
    if (posix_spawnattr_init(&attr)) {
        posix_spawn_file_actions_destroy(&fa);
        return ENOMEM;
    }
    rc = posix_spawnattr_setsigmask(&attr, &none);
    if (!rc)
        rc = posix_spawnattr_setsigdefault(&attr, &all);
    if (child->group)
        flags |= POSIX_SPAWN_SETPGROUP;
    if (!rc)
        rc = posix_spawnattr_setflags(&attr, flags);
    if (!rc)
        rc = in >= 0 ? posix_spawn_file_actions_adddup2(&fa, in, 0)
                     : posix_spawn_file_actions_addopen(&fa, 0, "/dev/null",
                                                        O_RDONLY, 0);
    if (!rc)
        rc = posix_spawn_file_actions_adddup2(&fa, out, 1);
    if (!rc)
        rc = posix_spawn_file_actions_adddup2(&fa, child->log_fd, 2);
    if (!rc)
        rc = posix_spawn_file_actions_addclosefrom_np(&fa, 3);
    if (!rc)
        rc = posix_spawnp(&child->pid, argv[0], &fa, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&fa);
    if (rc)
        child->pid = 0;
    return rc;
}

/* A descriptor above 2, so that the child's dup2() to 0, 1, 2 overwrites none
 * that is still needed when the caller has closed its own. */
static int above_stdio(int fd)
{
    int high;

    if (fd < 0 || fd > 2)
        return fd;
    high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    close(fd);
    return high;
}

/* Where a child's standard error goes: memory of a fixed size, so that nobody
 * has to read it and a talkative child cannot fill the machine. */
static int log_new(void)
{
    int fd = above_stdio(
        memfd_create("haul-child", MFD_CLOEXEC | MFD_ALLOW_SEALING));

    if (fd < 0)
        return -1;
    if (ftruncate(fd, LOG_MAX) || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW)) {
        close(fd);
        return -1;
    }
    return fd;
}

void hl_ssh_child_last_line(const struct hl_ssh_child *child, char *buf,
                            size_t cap)
{
    char text[4096];
    off_t at = 0;
    ssize_t n;
    size_t len, start;

    HL_ASSERT(cap > 0);
    buf[0] = '\0';
    if (child->log_fd < 0)
        return;
    /* The log ends at its first NUL; keep the block before it. */
    while ((n = pread(child->log_fd, text, sizeof(text), at)) ==
               (ssize_t)sizeof(text) &&
           text[sizeof(text) - 1])
        at += (off_t)sizeof(text) / 2;
    if (n <= 0)
        return;
    len = strnlen(text, (size_t)n);
    while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    for (start = len; start && text[start - 1] != '\n'; start--)
        ;
    len = hl_min(len - start, cap - 1);
    memcpy(buf, text + start, len);
    buf[len] = '\0';
}

void hl_ssh_child_end(struct hl_ssh_child *child)
{
    struct timespec nap = {0, 10 * (long)HL_NS_PER_MS};
    pid_t pid = child->pid;
    pid_t whom = child->group ? -pid : pid;
    int i, r = 0;

    if (pid > 0) {
        kill(whom, SIGTERM);
        for (i = 0; i < 40; i++) {
            r = waitpid(pid, NULL, WNOHANG);
            if (r == pid || (r < 0 && errno != EINTR))
                break;
            nanosleep(&nap, NULL);
        }
        if (r == 0) {
            kill(whom, SIGKILL);
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        }
        child->pid = 0;
    }
    if (child->log_fd >= 0)
        close(child->log_fd);
    child->log_fd = -1;
}

/* Reads fd to its end. */
static int read_all(int fd, const struct hl_ssh_limit *limit, char **out,
                    struct hl_error *err)
{
    uint64_t deadline = hl_ssh_now() + limit->step_ns;
    char *text = hl_malloc(CAPTURE_MAX);
    size_t len = 0;
    ssize_t n;
    int r;

    if (!text)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    for (;;) {
        r = hl_ssh_poll(fd, POLLIN, limit, deadline);
        if (r <= 0) {
            hl_free(text);
            if (r)
                return hl_err(err, r, 0, "interrupted");
            hl_err(err, HAUL_E_STALLED, 0, "'ssh -G' does not end");
            return hl_err_hint(err, "Look for 'Match exec' in the ssh "
                                    "configuration.");
        }
        n = read(fd, text + len, CAPTURE_MAX - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    text[len] = '\0';
    *out = text;
    return 0;
}

int hl_ssh_child_capture(char *const argv[], const struct hl_ssh_limit *limit,
                         char **out, char *errtext, size_t cap, int *status,
                         struct hl_error *err)
{
    struct hl_ssh_child child = {0, -1, true};
    int fd[2], r, rc;

    *out = NULL;
    *status = -1;
    if (pipe2(fd, O_CLOEXEC))
        return hl_err(err, HAUL_E_NOMEM, errno, "cannot make a pipe");
    fd[0] = above_stdio(fd[0]);
    fd[1] = above_stdio(fd[1]);
    child.log_fd = log_new();
    if (child.log_fd < 0) {
        rc = hl_err(err, HAUL_E_NOMEM, errno, "cannot make a memory file");
        close(fd[1]);
        goto out;
    }
    r = spawn(argv, -1, fd[1], &child);
    close(fd[1]);
    if (r) {
        rc = 0;
        goto out;
    }
    rc = read_all(fd[0], limit, out, err);
    if (!rc) {
        while ((r = waitpid(child.pid, status, 0)) < 0 && errno == EINTR)
            ;
        /* ECHILD: the caller ignores SIGCHLD; the output has to do. */
        if (r < 0)
            *status = 0;
        child.pid = 0;
        hl_ssh_child_last_line(&child, errtext, cap);
    }
out:
    close(fd[0]);
    hl_ssh_child_end(&child);
    return rc;
}

int hl_ssh_child_start(char *const argv[], struct hl_ssh_child *child, int *fd,
                       struct hl_error *err)
{
    int pair[2], r;

    child->pid = 0;
    child->log_fd = -1;
    child->group = false; /* it may ask for a password on the terminal */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return hl_err(err, HAUL_E_CONNECT, errno, "cannot make a socket");
    pair[0] = above_stdio(pair[0]);
    pair[1] = above_stdio(pair[1]);
    child->log_fd = log_new();
    if (child->log_fd < 0)
        r = errno;
    else
        r = spawn(argv, pair[1], pair[1], child);
    close(pair[1]);
    if (!r && fcntl(pair[0], F_SETFL, O_RDWR | O_NONBLOCK))
        r = errno;
    if (r) {
        close(pair[0]);
        hl_ssh_child_end(child);
        return hl_err(err, HAUL_E_CONNECT, r, "cannot run '%s'", argv[0]);
    }
    *fd = pair[0];
    return 0;
}
