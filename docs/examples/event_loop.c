/* event_loop SOURCE TARGET: haul inside a program that has a poll() loop of
 * its own; here the loop also watches standard input, a line cancels. */
#include <errno.h>
#include <haul.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* 0 when no transfer is left, or a negative error. */
static int loop(struct haul_engine *e, struct haul_transfer *t)
{
    struct pollfd fds[] = {{.fd = haul_engine_fd(e), .events = POLLIN},
                           {.fd = STDIN_FILENO, .events = POLLIN}};
    char line[256];
    int rc;

    /* Once before the first poll: the start is work already. */
    while ((rc = haul_engine_step(e, 0)) > 0) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return HAUL_E_STATE;
        if (fds[1].revents && read(STDIN_FILENO, line, sizeof(line)) > 0)
            haul_transfer_cancel(t);
        else if (fds[1].revents)
            fds[1].fd = -1; /* the end of standard input is no line */
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct haul_error error = {.size = sizeof(error)};
    struct haul_engine *e = NULL;
    struct haul_transfer *t = NULL;

    if (argc != 3 || haul_engine_new(&e))
        return 2;
    if (haul_transfer_new(e, argv[1], argv[2], &t)) {
        haul_engine_error(e, &error);
    } else {
        if (haul_transfer_start(t) == 0)
            loop(e, t);
        haul_transfer_error(t, &error);
    }
    if (error.code)
        fprintf(stderr, "%s\n", error.message);
    haul_transfer_free(t);
    haul_engine_free(e);
    return haul_err_exit_status(error.code);
}
