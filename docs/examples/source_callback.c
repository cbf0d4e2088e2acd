/* source_callback FILE TARGET: the program itself is the source; here it hands
 * out what it reads from FILE. It can be read at any offset and has a name, so
 * the copy survives outages and another run continues it. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <haul.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* On a thread of the library, one call at a time. */
static int64_t read_at(void *user, void *buf, size_t len, uint64_t offset)
{
    const int *fd = user;
    ssize_t n = pread(*fd, buf, len, (off_t)offset);

    return n < 0 ? HAUL_E_READ : n;
}

static int copy(const char *name, int fd, uint64_t size, const char *target)
{
    struct haul_error error = {.size = sizeof(error)};
    struct haul_engine *e = NULL;
    struct haul_transfer *t = NULL;

    if (haul_engine_new(&e))
        return HAUL_E_NOMEM;
    if (haul_transfer_new(e, NULL, target, &t)) {
        haul_engine_error(e, &error);
    } else {
        haul_transfer_set_source_fn(t, name, size, read_at, &fd);
        if (haul_transfer_start(t) == 0)
            haul_engine_run(e);
        haul_transfer_error(t, &error);
    }
    if (error.code)
        fprintf(stderr, "%s\n", error.message);
    haul_transfer_free(t);
    haul_engine_free(e);
    return error.code;
}

int main(int argc, char **argv)
{
    struct stat st;
    int fd, rc;

    if (argc != 3)
        return 2;
    fd = open(argv[1], O_RDONLY);
    if (fd < 0 || fstat(fd, &st)) {
        perror(argv[1]);
        return 3;
    }
    rc = copy(argv[1], fd, (uint64_t)st.st_size, argv[2]);
    close(fd);
    return haul_err_exit_status(rc);
}
