/*
 * Passwords from the terminal, whatever standard input and output are.
 *
 * secrets_ask() runs on a thread of the library, one call at a time, with all
 * signals blocked; the main thread takes Ctrl-C and makes stop_fd readable.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cli.h"

static int stop_fd = -1;

/* Read by the signal handler; "changed" is set after the others. */
static struct termios before;
static int terminal = -1;
static atomic_bool changed;

void secrets_stop_fd(int fd)
{
    stop_fd = fd;
}

/* Twice at once (a second Ctrl-C while the prompt ends) does no harm; that
 * the one who comes second finds nothing to do and ends haul would. */
void secrets_restore(void)
{
    if (!atomic_load(&changed))
        return;
    tcsetattr(terminal, TCSANOW, &before);
    atomic_store(&changed, false);
}

static int hide_input(int fd, bool echo)
{
    struct termios t;

    if (tcgetattr(fd, &before))
        return -1;
    t = before;
    t.c_lflag |= ICANON | ISIG | ECHONL;
    if (!echo)
        t.c_lflag &= ~(tcflag_t)ECHO;
    /* Ctrl-Z would leave the shell without echo. */
    t.c_cc[VSUSP] = _POSIX_VDISABLE;
    terminal = fd;
    atomic_store(&changed, true);
    return tcsetattr(fd, TCSAFLUSH, &t);
}

/* Waits for a line; -1 when haul is to stop. */
static int wait_line(int fd)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN},
                           {.fd = stop_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return -1;
    return fds[1].revents || !(fds[0].revents & POLLIN) ? -1 : 0;
}

/* One line without its end; nonzero when there is none or it is too long. */
static int read_line(int fd, char *buf, size_t cap)
{
    ssize_t n;

    if (wait_line(fd))
        return -1;
    n = read(fd, buf, cap);
    if (n <= 0 || buf[n - 1] != '\n')
        return -1;
    buf[n - 1] = '\0';
    return 0;
}

static void write_text(int fd, const char *text)
{
    size_t len = strlen(text);

    while (len) {
        ssize_t n = write(fd, text, len);

        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

int secrets_ask(void *user, const char *what, int echo, char *buf, size_t cap)
{
    struct progress *p = user;
    char prompt[512];
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int rc = -1;

    if (fd < 0)
        return -1;
    progress_pause(p, true);
    text_escape(prompt, sizeof(prompt), what);
    if (hide_input(fd, echo) == 0) {
        write_text(fd, prompt);
        if (*prompt && !strchr(" :?", prompt[strlen(prompt) - 1]))
            write_text(fd, ": ");
        rc = read_line(fd, buf, cap);
        if (rc) {
            explicit_bzero(buf, cap);
            write_text(fd, "\n");
        }
    }
    secrets_restore();
    progress_pause(p, false);
    close(fd);
    return rc;
}
