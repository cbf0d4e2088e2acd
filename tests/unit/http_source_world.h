/* A source over HTTP at a scripted server, for tests: open, read, compare.
 * Static: one copy in each program. */
#ifndef HTTP_SOURCE_WORLD_H
#define HTTP_SOURCE_WORLD_H

#include "drivers.h"
#include "http_script.h"

#define CHUNK 65536u
#define SIZE (20u * CHUNK + 777u)

struct world {
    struct hl_env env;
    struct hl_opts *opts;
    struct hl_endpoint *ep;
    struct hl_object *obj;
    struct hl_open open;
    bool opened;
    uint8_t *data;
    unsigned finished; /* operations, to see their order */
    atomic_uint warnings;
};

struct reading {
    struct world *w;
    struct hl_io io;
    uint8_t *bytes;
    unsigned order; /* 0: out */
};

/* ---- Fixture ------------------------------------------------------------ */

static void on_warn(const struct hl_env *env, const struct hl_error *warning)
{
    struct world *w = env->owner;

    /* One is about http:// as such. */
    if (warning->code == HAUL_E_PROTO)
        atomic_fetch_add(&w->warnings, 1);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct hl_error err = {0};
    uint32_t x = 1;

    w->data = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        x = x * 1664525 + 1013904223;
        w->data[i] = (uint8_t)(x >> 24);
    }
    server_start(w->data, SIZE);
    assert_int_equal(hl_opts_new(&w->opts), 0);
    assert_int_equal(hl_loop_new(false, &w->env.loop, &err), 0);
    w->env.opts = w->opts;
    w->env.library_bytes_max = 16 << 20;
    w->env.warn = on_warn;
    w->env.owner = w;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    if (w->obj)
        w->obj->driver->close(w->obj);
    if (w->ep)
        w->ep->driver->endpoint_free(w->ep);
    server_stop();
    hl_loop_free(w->env.loop);
    hl_opts_free(w->opts);
    free(w->data);
    free(w);
    return hl_mem_live() == 0 ? 0 : -1;
}

static void make_object(struct world *w)
{
    struct hl_error err = {0};
    struct hl_url url;
    char text[64];

    snprintf(text, sizeof(text), "http://127.0.0.1:%u/data",
             (unsigned)server.port);
    assert_int_equal(hl_url_parse(text, &url, &err), 0);
    assert_int_equal(hl_driver_http.endpoint_new(&w->env, &url, &w->ep, &err),
                     0);
    assert_int_equal(
        hl_driver_http.object_new(w->ep, &url, HL_ROLE_SOURCE, &w->obj, &err),
        0);
    hl_url_fini(&url);
}

static void step(struct world *w, bool (*until)(const void *what),
                 const void *what)
{
    uint64_t end = hl_loop_now(w->env.loop) + 20 * HL_NS_PER_S;

    while (!until(what)) {
        assert_true(hl_loop_now(w->env.loop) < end);
        hl_loop_step(w->env.loop, 100);
    }
}

static bool is_open(const void *what)
{
    return ((const struct world *)what)->opened;
}

static void on_open(struct hl_op *op)
{
    ((struct world *)op->user)->opened = true;
}

static void start_open(struct world *w)
{
    if (!w->obj)
        make_object(w);
    memset(&w->open, 0, sizeof(w->open));
    w->opened = false;
    w->open.op.done = on_open;
    w->open.op.user = w;
    w->open.chunk_size = CHUNK;
    hl_driver_open(w->obj, &w->open);
    assert_false(w->opened);
}

static int open_source(struct world *w)
{
    start_open(w);
    step(w, is_open, w);
    return w->open.op.rc;
}

static void on_read(struct hl_op *op)
{
    struct reading *r = op->user;

    assert_int_equal(r->order, 0);
    r->order = ++r->w->finished;
}

static bool is_home(const void *what)
{
    return ((const struct reading *)what)->order;
}

static void start_read(struct world *w, struct reading *r, uint64_t offset,
                       uint32_t len, uint64_t run_end)
{
    memset(r, 0, sizeof(*r));
    r->w = w;
    r->bytes = calloc(1, len);
    r->io.op.done = on_read;
    r->io.op.user = r;
    r->io.offset = offset;
    r->io.len = len;
    r->io.run_end = run_end;
    r->io.data = r->bytes;
    hl_driver_read(w->obj, &r->io);
}

static void end_read(struct reading *r, int rc)
{
    step(r->w, is_home, r);
    assert_int_equal(r->io.op.rc, rc);
    if (!rc)
        assert_memory_equal(r->bytes, r->w->data + r->io.offset, r->io.done);
    free(r->bytes);
    r->bytes = NULL;
}

/* All of it, in one. */
static void read_well(struct world *w, uint64_t offset, uint32_t len,
                      uint64_t run_end)
{
    struct reading r;

    start_read(w, &r, offset, len, run_end);
    end_read(&r, 0);
    assert_int_equal(r.io.done, len);
}

static int read_badly(struct world *w, uint64_t offset, uint32_t len,
                      struct hl_error *err)
{
    struct reading r;

    start_read(w, &r, offset, len, offset + len);
    step(w, is_home, &r);
    free(r.bytes);
    assert_int_equal(r.io.done, 0);
    *err = r.io.op.error;
    return r.io.op.rc;
}

static void assert_asked(unsigned n, uint64_t begin, uint64_t end)
{
    struct ask a = ask_at(n);

    assert_true(a.ranged);
    assert_int_equal(a.begin, begin);
    assert_int_equal(a.end, end);
}

#endif /* HTTP_SOURCE_WORLD_H */
