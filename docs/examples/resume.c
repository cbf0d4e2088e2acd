/* resume SOURCE TARGET: stops a copy in the middle and continues it with
 * another engine, as another process would. */
#include <haul.h>
#include <inttypes.h>
#include <stdio.h>

/* A result that is not 0 cancels the transfer, in order. */
static int stop_in_the_middle(void *user, const struct haul_event *ev)
{
    const struct haul_stats *s = ev->stats;

    (void)user;
    return s->bytes != UINT64_MAX && s->acked_bytes >= s->bytes / 2;
}

/* The error that ended the copy, 0 when it is done. */
static int copy(const char *source, const char *target, int stop)
{
    struct haul_result result = {.size = sizeof(result)};
    struct haul_error error = {.size = sizeof(error)};
    struct haul_engine *e = NULL;
    struct haul_transfer *t = NULL;

    if (haul_engine_new(&e))
        return HAUL_E_NOMEM;
    if (haul_transfer_new(e, source, target, &t)) {
        haul_engine_error(e, &error);
    } else {
        /* Small chunks and a limit, so that there is a middle. */
        haul_transfer_set_str(t, HAUL_OPT_CHUNK_SIZE, "256ki");
        haul_transfer_set_str(t, HAUL_OPT_RATE_LIMIT, stop ? "8m" : "1g");
        if (stop)
            haul_transfer_set_event_fn(t, stop_in_the_middle, NULL);
        if (haul_transfer_start(t) == 0)
            haul_engine_run(e);
        haul_transfer_error(t, &error);
    }
    if (error.code)
        fprintf(stderr, "%s\n", error.message);
    if (t && haul_transfer_result(t, &result) == 0)
        printf("%" PRIu64 " of %" PRIu64 " bytes, %" PRIu64 " of them before\n",
               result.acked_bytes, result.bytes, result.resumed_from);
    haul_transfer_free(t);
    haul_engine_free(e);
    return error.code;
}

int main(int argc, char **argv)
{
    int rc;

    if (argc != 3)
        return 2;
    rc = copy(argv[1], argv[2], 1);
    if (rc == HAUL_E_CANCELED)
        rc = copy(argv[1], argv[2], 0);
    return haul_err_exit_status(rc);
}
