/* An engine with the options of the command line, one transfer on it, and the
 * signals that end it in order. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

/* ---- Signals ---- */

static struct haul_transfer *volatile running;
static volatile sig_atomic_t stopping;
static int stop_pipe[2] = {-1, -1};

/* A closed terminal sends SIGHUP more than once and timeout(1) SIGTERM twice;
 * only a second Ctrl-C is a second wish. */
static void on_signal(int number)
{
    int saved = errno;

    if (stopping && number == SIGINT) {
        secrets_restore();
        signal(SIGINT, SIG_DFL);
        raise(SIGINT);
        return;
    }
    stopping = 1;
    if (running)
        haul_transfer_cancel(running);
    if (write(stop_pipe[1], "", 1) < 0) {
        /* The pipe is full: it is readable. */
    }
    errno = saved;
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction old;

    /* The target may be a pipe; listing jobs ends by SIGPIPE as others do. */
    signal(SIGPIPE, SIG_IGN);
    if (pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) == 0)
        secrets_stop_fd(stop_pipe[0]);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        /* What nohup or the shell ignores stays ignored. */
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &act, NULL);
}

/* ---- Engine ---- */

static void engine_error(struct run *r, struct haul_error *error, int rc)
{
    *error = (struct haul_error){.size = sizeof(*error)};
    if (r->engine)
        haul_engine_error(r->engine, error);
    if (!error->code)
        error->code = rc;
}

/* An error that outlives the next call on its handle. */
struct kept_error {
    struct haul_error error;
    char message[512], detail[512], hint[512];
};

static const char *keep_text(char *out, size_t cap, const char *text)
{
    if (text)
        snprintf(out, cap, "%s", text);
    return text ? out : NULL;
}

static void transfer_error(struct run *r, struct kept_error *k, int rc)
{
    struct haul_error *e = &k->error;

    *e = (struct haul_error){.size = sizeof(*e)};
    haul_transfer_error(r->transfer, e);
    e->message = keep_text(k->message, sizeof(k->message), e->message);
    e->detail = keep_text(k->detail, sizeof(k->detail), e->detail);
    e->hint = keep_text(k->hint, sizeof(k->hint), e->hint);
    if (!e->code)
        e->code = rc;
}

static int set_engine_options(struct run *r)
{
    const struct args *a = r->args;
    bool trace = false;
    int rc = 0;

    for (int i = 0; i < a->value_count && rc == 0; i++) {
        const struct haul_opt_info *o = a->values[i].option;

        if (o->scope != HAUL_OPT_ENGINE)
            continue;
        rc = haul_engine_set_str(r->engine, o->id, a->values[i].text);
        trace = trace || o->id == HAUL_OPT_TRACE;
    }
    if (rc || (!trace && !a->verbose))
        return rc;
    return haul_engine_set_log_fn(r->engine, progress_log, &r->progress,
                                  trace ? HAUL_LOG_TRACE : HAUL_LOG_INFO,
                                  trace ? NULL : "all");
}

int run_begin(struct run *r, const struct args *a)
{
    struct haul_error error;
    int rc;

    memset(r, 0, sizeof(*r));
    r->args = a;
    rc = progress_init(&r->progress, a);
    if (rc)
        return rc;
    rc = haul_engine_new(&r->engine);
    if (rc == 0)
        rc = haul_engine_set_secret_fn(r->engine, secrets_ask, &r->progress);
    if (rc == 0)
        rc = set_engine_options(r);
    if (rc == 0)
        return 0;
    engine_error(r, &error, rc);
    return progress_end(&r->progress, NULL, &error);
}

void run_end(struct run *r)
{
    running = NULL;
    haul_transfer_free(r->transfer);
    haul_engine_free(r->engine);
    progress_fini(&r->progress);
}

/* ---- Transfer ---- */

static void tell_stopping(struct run *r)
{
    static bool told;

    if (!stopping || told)
        return;
    told = true;
    progress_say(&r->progress, progress_continues(&r->progress)
                                   ? "stopping; the same command continues"
                                   : "stopping");
}

static int on_event(void *user, const struct haul_event *ev)
{
    struct run *r = user;

    tell_stopping(r);
    progress_event(&r->progress, ev);
    return 0;
}

static int set_transfer_options(struct run *r)
{
    const struct args *a = r->args;
    int rc = haul_transfer_set_event_fn(r->transfer, on_event, r);

    for (int i = 0; i < a->value_count && rc == 0; i++)
        if (a->values[i].option->scope == HAUL_OPT_TRANSFER)
            rc = haul_transfer_set_str(r->transfer, a->values[i].option->id,
                                       a->values[i].text);
    return rc;
}

static int drive(struct run *r)
{
    int rc;

    running = r->transfer;
    rc = haul_transfer_start(r->transfer);
    if (rc)
        return rc;
    /* A signal that came before the start found nothing to cancel. */
    if (stopping)
        haul_transfer_cancel(r->transfer);
    return haul_engine_run(r->engine);
}

int run_transfer(struct run *r, int rc)
{
    struct haul_result result = {.size = sizeof(result)};
    struct kept_error kept;

    if (rc) {
        engine_error(r, &kept.error, rc);
        return progress_end(&r->progress, NULL, &kept.error);
    }
    catch_signals();
    rc = set_transfer_options(r);
    wipe_options(r->args);
    if (rc == 0) {
        progress_start(&r->progress);
        rc = drive(r);
    }
    tell_stopping(r);
    transfer_error(r, &kept, rc);
    if (rc == 0)
        rc = haul_transfer_result(r->transfer, &result);
    return progress_end(&r->progress, rc ? NULL : &result, &kept.error);
}
