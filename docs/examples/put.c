/* put FILE TARGET: uploads by PUT (https://host/name) and prints what the
 * server answered. Other targets give no answer. */
#include <ctype.h>
#include <haul.h>
#include <stdio.h>

static int show(void *user, const struct haul_event *ev)
{
    const struct haul_stats *s = ev->stats;

    /* Such a server confirms nothing before it has everything. */
    fprintf(user, "\r%.1f MB %s",
            (double)(s->late ? s->sent_bytes : s->acked_bytes) / 1e6,
            s->late ? "sent, unconfirmed" : "confirmed");
    return 0;
}

/* Of a body that may hold anything, up to 4 KiB that are harmless. */
static void print_answer(const struct haul_result *r)
{
    if (r->answer_status)
        printf("answer: %d\n", r->answer_status);
    for (uint64_t i = 0; i < r->answer_bytes && i < 4096; i++) {
        unsigned char c = (unsigned char)r->answer[i];

        putchar(isprint(c) || c == '\n' ? c : '?');
    }
}

int main(int argc, char **argv)
{
    struct haul_result result = {.size = sizeof(result)};
    struct haul_error error = {.size = sizeof(error)};
    struct haul_engine *e = NULL;
    struct haul_transfer *t = NULL;

    if (argc != 3 || haul_engine_new(&e))
        return 2;
    if (haul_transfer_new(e, argv[1], argv[2], &t)) {
        haul_engine_error(e, &error);
    } else {
        haul_transfer_set_event_fn(t, show, stderr);
        if (haul_transfer_start(t) == 0)
            haul_engine_run(e);
        haul_transfer_error(t, &error);
    }
    fprintf(stderr, "\n%s\n", error.code ? error.message : "done");
    if (t && haul_transfer_result(t, &result) == 0)
        print_answer(&result);
    haul_transfer_free(t);
    haul_engine_free(e);
    return haul_err_exit_status(error.code);
}
