/* upload FILE TARGET: shows how far it is; run again, it continues. */
#include <haul.h>
#include <stdio.h>
static int show(void *user, const struct haul_event *ev)
{
    return fprintf(user, "\r%.1f MB", (double)ev->stats->acked_bytes / 1e6) < 0;
}
int main(int argc, char **argv)
{
    struct haul_error error = {.size = sizeof(error)};
    struct haul_engine *e = NULL;
    struct haul_transfer *t = NULL;
    if (argc != 3 || haul_engine_new(&e))
        return 2;
    if (haul_transfer_new(e, argv[1], argv[2], &t) == 0 &&
        haul_transfer_set_event_fn(t, show, stderr) == 0 &&
        haul_transfer_start(t) == 0)
        haul_engine_run(e);
    t ? haul_transfer_error(t, &error) : haul_engine_error(e, &error);
    fprintf(stderr, "\n%s\n", error.code ? error.message : "done");
    haul_transfer_free(t);
    haul_engine_free(e);
    return haul_err_exit_status(error.code);
}
