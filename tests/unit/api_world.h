/* What the tests of the public functions share: a folder with a source and a
 * target, an engine with its state there. Static: one copy in each program. */
#ifndef API_WORLD_H
#define API_WORLD_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base.h"
#include "haul_jobs.h"

#define CHUNK 65536u

/* ---- Fixture ------------------------------------------------------------ */

struct world {
    char folder[256], source[300], target[300];
    struct haul_engine *engine;
    uint8_t *bytes; /* of the source */
    size_t size;
};

static void make_engine(struct world *w)
{
    char state[300];

    snprintf(state, sizeof(state), "%s/state/db", w->folder);
    assert_int_equal(haul_engine_new(&w->engine), 0);
    assert_int_equal(haul_engine_set_str(w->engine, HAUL_OPT_STATE, state), 0);
}

static void end_engine(struct world *w)
{
    haul_engine_free(w->engine);
    w->engine = NULL;
    assert_int_equal(hl_mem_live(), 0);
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void make_source(struct world *w, size_t size)
{
    uint32_t x = 12345;

    free(w->bytes);
    w->size = size;
    w->bytes = malloc(size + 1);
    assert_non_null(w->bytes);
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525 + 1013904223;
        w->bytes[i] = (uint8_t)(x >> 24);
    }
    write_file(w->source, w->bytes, size);
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    struct world *w = calloc(1, sizeof(*w));

    snprintf(w->folder, sizeof(w->folder), "%s/haul-api-XXXXXX",
             tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->source, sizeof(w->source), "%s/source", w->folder);
    snprintf(w->target, sizeof(w->target), "%s/target", w->folder);
    make_engine(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char command[300];

    hl_mem_fail_at(0, false);
    haul_engine_free(w->engine);
    snprintf(command, sizeof(command), "rm -rf '%s'", w->folder);
    assert_int_equal(system(command), 0);
    free(w->bytes);
    free(w);
    return 0;
}

static void assert_target(const struct world *w)
{
    uint8_t *got = malloc(w->size + 1);
    FILE *f = fopen(w->target, "rb");

    assert_non_null(f);
    assert_int_equal(fread(got, 1, w->size + 1, f), w->size);
    assert_memory_equal(got, w->bytes, w->size);
    fclose(f);
    free(got);
}

/* Files in the folder but source and target. */
static int others(const struct world *w)
{
    DIR *d = opendir(w->folder);
    struct dirent *e;
    int count = 0;

    assert_non_null(d);
    while ((e = readdir(d)))
        count += strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
                 strcmp(e->d_name, "source") && strcmp(e->d_name, "target") &&
                 strcmp(e->d_name, "state");
    closedir(d);
    return count;
}

static struct haul_transfer *copy_new(struct world *w, const char *source,
                                      const char *target)
{
    struct haul_transfer *t;

    assert_int_equal(haul_transfer_new(w->engine, source, target, &t), 0);
    assert_int_equal(haul_transfer_set_i64(t, HAUL_OPT_CHUNK_SIZE, CHUNK), 0);
    return t;
}

/* Runs and gives the code of the end. */
static int run(struct world *w, struct haul_transfer *t,
               struct haul_result *result)
{
    struct haul_error error = {.size = sizeof(error)};

    memset(result, 0, sizeof(*result));
    result->size = sizeof(*result);
    assert_int_equal(haul_transfer_start(t), 0);
    assert_int_equal(haul_engine_run(w->engine), 0);
    assert_int_equal(haul_transfer_result(t, result), 0);
    assert_int_equal(haul_transfer_error(t, &error), 0);
    assert_int_equal(error.code, result->code);
    if (error.code)
        assert_true(error.message[0] != '\0');
    return result->code;
}

/* ---- Cancel ------------------------------------------------------------- */

struct cancel {
    int events, at; /* cancel at this event; 0 never */
    uint32_t at_state;
    uint64_t at_acked; /* cancel when so much is acknowledged */
    uint64_t saved;    /* acknowledged at the last event */
    int done;
};

static int on_event(void *user, const struct haul_event *ev)
{
    struct cancel *c = user;

    assert_int_equal(c->done, 0);
    c->events++;
    c->done = ev->type == HAUL_EV_DONE;
    c->saved = ev->stats->acked_bytes;
    if (c->at && c->events == c->at)
        haul_transfer_cancel(ev->transfer);
    if (c->at_acked && c->saved >= c->at_acked)
        return 1;
    return c->at_state && ev->type == HAUL_EV_STATE &&
           ev->stats->state == c->at_state;
}

#endif /* API_WORLD_H */
