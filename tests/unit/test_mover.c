/* The mover and the item over a driver that does what the test says, in
 * virtual time. What faults do to bytes is in tests/sim. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cursor.h"
#include "digest.h"
#include "transfer.h"

#define CHUNK (UINT64_C(1) << 20)

/* ---- A driver ----------------------------------------------------------- */

struct fake {
    struct hl_endpoint endpoint;
    struct hl_object object;
    uint64_t size;             /* of the source */
    uint64_t slow_at, slow_ns; /* a read behind that takes so long */
    uint64_t run_max;          /* of the source */
    uint64_t run_ends[64];     /* that reads named, until the first answer */
    uint32_t reads, run_count;
    uint64_t longest;
    bool fail_read; /* the third; comes again alone */
    uint64_t alone; /* offset of that */
    bool ordered, lose_all, hang_sync;
    uint64_t busy_ns; /* the first write is to come again after that */
    uint64_t busy_at_ns, written_at_ns;
    struct hl_timer timer;
    struct hl_op *held; /* comes back with the timer or unstall() */
    uint32_t unstall_calls, syncs, commits;
};

static struct fake *fake_of(struct hl_object *obj)
{
    return HL_CONTAINER(obj, struct fake, object);
}

static void answer(struct fake *f, struct hl_op *op, int rc)
{
    hl_op_finish(f->endpoint.env->loop, op, rc);
}

static void answer_held(struct fake *f, int rc)
{
    struct hl_op *op = f->held;

    f->held = NULL;
    hl_timer_cancel(&f->timer);
    if (op)
        answer(f, op, rc);
}

static void on_timer(struct hl_timer *timer)
{
    answer_held(HL_CONTAINER(timer, struct fake, timer), 0);
}

static int fake_object_new(struct hl_endpoint *ep, const struct hl_url *url,
                           enum hl_role role, struct hl_object **out,
                           struct hl_error *err)
{
    struct fake *f = HL_CONTAINER(ep, struct fake, endpoint);

    (void)url;
    (void)err;
    f->object.driver = ep->driver;
    f->object.endpoint = ep;
    f->object.role = role;
    f->timer.fn = on_timer;
    *out = &f->object;
    return 0;
}

static void fake_close(struct hl_object *obj)
{
    assert_null(fake_of(obj)->held);
}

static void fake_endpoint_free(struct hl_endpoint *ep)
{
    (void)ep;
}

static void fake_stat(struct hl_object *obj, struct hl_stat *op)
{
    struct fake *f = fake_of(obj);

    op->exists = obj->role == HL_ROLE_SOURCE;
    op->size = f->size;
    answer(f, &op->op, 0);
}

static void fake_open(struct hl_object *obj, struct hl_open *op)
{
    struct fake *f = fake_of(obj);

    op->identity.size = f->size;
    op->layout.caps = HL_CAP_SEEK | HL_CAP_DURABLE;
    if (f->ordered)
        op->layout.caps |= HL_CAP_ORDERED;
    op->layout.run_max = f->run_max;
    answer(f, &op->op, 0);
}

/* Notes the runs of the reads that are asked for before one is answered. */
static void note_run(struct fake *f, const struct hl_io *op)
{
    uint32_t i;

    assert_true(op->run_end >= op->offset + op->len);
    if (f->alone && op->offset == f->alone)
        assert_int_equal(op->run_end, op->offset + op->len);
    if (f->reads++ >= 24)
        return;
    for (i = 0; i < f->run_count && f->run_ends[i] != op->run_end; i++)
        ;
    if (i < f->run_count)
        return;
    f->run_ends[f->run_count++] = op->run_end;
    f->longest = hl_max(f->longest, op->run_end - op->offset);
}

static void fake_read(struct hl_object *obj, struct hl_io *op)
{
    struct fake *f = fake_of(obj);

    note_run(f, op);
    if (f->fail_read && f->reads == 3) {
        f->alone = op->offset;
        answer(f, &op->op, HAUL_E_REMOTE_IO);
        return;
    }

    op->done = op->len;
    if (f->slow_ns && op->offset >= f->slow_at && !f->held) {
        f->held = &op->op;
        hl_timer_set(f->endpoint.env->loop, &f->timer,
                     hl_loop_now(f->endpoint.env->loop) + f->slow_ns);
        f->slow_ns = 0;
        return;
    }
    answer(f, &op->op, 0);
}

static void fake_write(struct hl_object *obj, struct hl_io *op)
{
    struct fake *f = fake_of(obj);
    struct hl_error lost = {0};
    uint64_t now = hl_loop_now(f->endpoint.env->loop);

    if (f->busy_ns && !f->busy_at_ns) {
        f->busy_at_ns = now;
        hl_err(&op->op.error, HAUL_E_REMOTE_BUSY, 0, "busy");
        op->op.error.retry_after_ns = f->busy_ns;
        answer(f, &op->op, HAUL_E_REMOTE_BUSY);
        return;
    }
    if (op->offset == 0)
        f->written_at_ns = now;
    answer(f, &op->op, 0);
    if (f->lose_all) {
        hl_err(&lost, HAUL_E_NOMEM, 0, "out of memory");
        hl_object_lost(obj, 0, UINT64_MAX, &lost);
    } else {
        hl_object_acked(obj, op->offset, op->len);
    }
}

static void fake_sync(struct hl_object *obj, struct hl_op *op)
{
    struct fake *f = fake_of(obj);

    f->syncs++;
    if (f->hang_sync)
        f->held = op;
    else
        answer(f, op, 0);
}

static void fake_commit(struct hl_object *obj, struct hl_commit *op)
{
    fake_of(obj)->commits++;
    answer(fake_of(obj), &op->op, 0);
}

static void fake_unstall(struct hl_object *obj)
{
    fake_of(obj)->unstall_calls++;
    answer_held(fake_of(obj), HAUL_E_STALLED);
}

static void fake_abort(struct hl_object *obj, struct hl_op *op)
{
    answer_held(fake_of(obj), HAUL_E_CANCELED);
    answer(fake_of(obj), op, 0);
}

static const char *const no_schemes[] = {NULL};

static const struct hl_driver driver = {
    .name = "fake",
    .schemes = no_schemes,
    .endpoint_free = fake_endpoint_free,
    .object_new = fake_object_new,
    .close = fake_close,
    .stat = fake_stat,
    .open = fake_open,
    .read = fake_read,
    .write = fake_write,
    .sync = fake_sync,
    .commit = fake_commit,
    .unstall = fake_unstall,
    .abort = fake_abort,
};

/* ---- A transfer over it ------------------------------------------------- */

struct world {
    struct hl_engine *engine;
    struct hl_opts *opts;
    struct hl_env env;
    struct fake source, target;
    struct hl_transfer *t;
    bool finished;
    int rc;
};

static void on_note(void *user)
{
    (void)user;
}

static void on_error(void *user, const struct hl_error *error)
{
    (void)user;
    assert_true(error->code != 0);
}

static void on_finished(void *user, int rc, const struct hl_error *error)
{
    struct world *w = user;

    (void)error;
    w->finished = true;
    w->rc = rc;
}

static const struct hl_transfer_events events = {
    on_note, on_note, on_note, on_error, on_error, NULL, on_finished};

static void begin(struct world *w, uint64_t size)
{
    struct hl_engine_config config = {.virtual_time = true, .seed = 1};

    memset(w, 0, sizeof(*w));
    assert_int_equal(hl_engine_new(&config, &w->engine, NULL), 0);
    assert_int_equal(hl_opts_new(&w->opts), 0);
    assert_int_equal(
        hl_opts_set_i64(w->opts, 0, HAUL_OPT_CHUNK_SIZE, CHUNK, NULL), 0);
    w->env.loop = hl_engine_loop(w->engine);
    w->env.opts = w->opts;
    w->env.virtual_time = true;
    w->source.endpoint = w->target.endpoint =
        (struct hl_endpoint){&driver, &w->env};
    w->source.size = size;
}

static void start(struct world *w)
{
    struct hl_item_config item;
    struct hl_transfer_config c = {
        .kind = HL_TRANSFER_COPY,
        .source = &w->source.endpoint,
        .target = &w->target.endpoint,
        .items = &item,
        .item_count = 1,
        .opts = w->opts,
        .identity = hl_digest_find("xxh128"),
        .events = &events,
        .user = w,
    };

    memset(&item, 0, sizeof(item));
    assert_int_equal(hl_url_parse("mem:gen?size=1", &item.source, NULL), 0);
    assert_int_equal(hl_url_parse("mem:null", &item.target, NULL), 0);
    assert_int_equal(hl_transfer_new(w->engine, &c, &w->t, NULL), 0);
    hl_url_fini(&item.source);
    hl_url_fini(&item.target);
    hl_transfer_start(w->t);
}

/* Steps until *until is not zero, or to the end. */
static void steps(struct world *w, const uint32_t *until)
{
    int count = 0;

    alarm(30); /* a loop inside a step is found as well */
    while (hl_engine_step(w->engine, -1) && !(until && *until))
        assert_true(++count < 1000000);
    alarm(0);
}

static void end(struct world *w)
{
    assert_true(w->finished);
    hl_transfer_free(w->t);
    hl_engine_free(w->engine);
    hl_opts_free(w->opts);
    assert_int_equal(hl_mem_live(), 0);
}

/* ---- Tests -------------------------------------------------------------- */

/* io.h: when memory is out, reports become one lost(0, UINT64_MAX). */
static void all_lost_ends_the_transfer_at_once(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 3 * CHUNK + 1);
    w.target.lose_all = true;
    start(&w);
    steps(&w, NULL);
    assert_int_equal(w.rc, HAUL_E_NOMEM);
    end(&w);
}

/* A dump that pauses for minutes must not cost the target its connections. */
static void a_target_without_work_is_not_stalled(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 40 * CHUNK);
    w.source.slow_at = 10 * CHUNK;
    w.source.slow_ns = 59 * HL_NS_PER_S;
    start(&w);
    steps(&w, NULL);
    assert_int_equal(w.rc, 0);
    assert_int_equal(w.target.unstall_calls + w.source.unstall_calls, 0);
    end(&w);

    begin(&w, 40 * CHUNK);
    w.source.slow_at = 10 * CHUNK;
    w.source.slow_ns = 200 * HL_NS_PER_S;
    start(&w);
    steps(&w, NULL);
    assert_int_equal(w.rc, 0); /* read again */
    assert_int_equal(w.source.unstall_calls, 1);
    assert_int_equal(w.target.unstall_calls, 0);
    end(&w);
}

#define SYNCED (UINT64_C(1) << 30)

static void a_commit_that_waits_for_a_dead_sync_goes_on(void **state)
{
    struct world w;

    (void)state;
    begin(&w, SYNCED + 100 * CHUNK);
    w.target.hang_sync = true;
    assert_int_equal(
        hl_opts_set_i64(w.opts, 0, HAUL_OPT_RATE_LIMIT, 512 << 20, NULL), 0);
    start(&w);
    steps(&w, NULL);
    assert_int_equal(w.rc, 0);
    assert_int_equal(w.target.syncs, 1);
    assert_int_equal(w.target.unstall_calls, 1);
    assert_int_equal(w.target.commits, 1);
    end(&w);
}

static void a_cancel_while_commit_waits_for_a_sync_ends(void **state)
{
    struct haul_stats s = {.size = sizeof(s)};
    struct world w;

    (void)state;
    begin(&w, SYNCED + 100 * CHUNK);
    w.target.hang_sync = true;
    assert_int_equal(
        hl_opts_set_i64(w.opts, 0, HAUL_OPT_RATE_LIMIT, 512 << 20, NULL), 0);
    start(&w);
    steps(&w, &w.target.syncs);
    do {
        assert_int_equal(hl_engine_step(w.engine, -1), 1);
        hl_transfer_stats(w.t, &s);
    } while (s.state != HAUL_STATE_COMMITTING);
    for (int i = 0; i < 50; i++) /* the source is looked at first */
        assert_int_equal(hl_engine_step(w.engine, -1), 1);
    hl_transfer_cancel(w.t);
    steps(&w, NULL);
    assert_int_equal(w.rc, HAUL_E_CANCELED);
    assert_int_equal(w.target.commits + w.target.unstall_calls, 0);
    end(&w);
}

static void a_cancel_behind_the_commit_comes_too_late(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 3 * CHUNK);
    start(&w);
    steps(&w, &w.target.commits);
    hl_transfer_cancel(w.t);
    steps(&w, NULL);
    assert_int_equal(w.rc, 0);
    end(&w);
}

/* Four runs at once: long ones, or two chunks each when the target wants the
 * order. What is read again is read alone. */
static void a_source_with_runs_is_read_in_several_places(void **state)
{
    struct world w;

    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        begin(&w, 400 * CHUNK);
        w.source.run_max = 20 * CHUNK;
        w.source.fail_read = true;
        w.target.ordered = ordered;
        assert_int_equal(
            hl_opts_set_i64(w.opts, 0, HAUL_OPT_CONNECTIONS, 4, NULL), 0);
        start(&w);
        steps(&w, &w.source.reads); /* those that are asked for at once */
        assert_int_equal(w.source.reads, 4 * (ordered ? 2u : HL_RUN_AHEAD));
        assert_int_equal(w.source.run_count, 4);
        assert_int_equal(w.source.longest, (ordered ? 2 : 20) * CHUNK);
        steps(&w, NULL);
        assert_int_equal(w.rc, 0);
        assert_true(w.source.alone > 0);
        end(&w);
    }
}

static void a_target_is_left_alone_as_long_as_it_asks(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 3 * CHUNK);
    w.target.busy_ns = 45 * HL_NS_PER_S;
    start(&w);
    steps(&w, NULL);
    assert_int_equal(w.rc, 0);
    assert_true(w.target.written_at_ns >=
                w.target.busy_at_ns + 45 * HL_NS_PER_S);
    assert_true(w.target.written_at_ns <
                w.target.busy_at_ns + 46 * HL_NS_PER_S);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_lost_ends_the_transfer_at_once),
        cmocka_unit_test(a_target_without_work_is_not_stalled),
        cmocka_unit_test(a_source_with_runs_is_read_in_several_places),
        cmocka_unit_test(a_target_is_left_alone_as_long_as_it_asks),
        cmocka_unit_test(a_commit_that_waits_for_a_dead_sync_goes_on),
        cmocka_unit_test(a_cancel_while_commit_waits_for_a_sync_ends),
        cmocka_unit_test(a_cancel_behind_the_commit_comes_too_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
