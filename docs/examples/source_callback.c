/* source_callback TARGET: the program itself is the source, without a file in
 * between. It can be read at any offset, so the copy survives outages; with a
 * name it could be continued by another process. */
#include <haul.h>
#include <stdio.h>

#define LINE "one line of a table\n"
#define LINE_SIZE (sizeof(LINE) - 1)
#define LINES 1000000

/* On a thread of the library, one call at a time. */
static int64_t read_lines(void *user, void *buf, size_t len, uint64_t offset)
{
    uint64_t size = (uint64_t)LINES * LINE_SIZE;
    char *out = buf;
    size_t i;

    (void)user;
    for (i = 0; i < len && offset + i < size; i++)
        out[i] = LINE[(offset + i) % LINE_SIZE];
    return (int64_t)i;
}

int main(int argc, char **argv)
{
    struct haul_error error = {.size = sizeof(error)};
    struct haul_engine *e = NULL;
    struct haul_transfer *t = NULL;

    if (argc != 2 || haul_engine_new(&e))
        return 2;
    if (haul_transfer_new(e, NULL, argv[1], &t)) {
        haul_engine_error(e, &error);
    } else {
        haul_transfer_set_source_fn(t, NULL, (uint64_t)LINES * LINE_SIZE,
                                    read_lines, NULL);
        if (haul_transfer_start(t) == 0)
            haul_engine_run(e);
        haul_transfer_error(t, &error);
    }
    if (error.code)
        fprintf(stderr, "%s\n", error.message);
    haul_transfer_free(t);
    haul_engine_free(e);
    return haul_err_exit_status(error.code);
}
