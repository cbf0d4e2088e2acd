/*
 * Uploads without an engine: a protocol that does what a test says, over a real
 * server (http_store.h), and a ledger of every byte that holds each report and
 * each operation against the contract of io.h. Static: one copy in a program.
 */
#ifndef HTTP_UPLOAD_WORLD_H
#define HTTP_UPLOAD_WORLD_H

/* No program needs all of this. */
#pragma GCC diagnostic ignored "-Wunused-function"

#include "http_store.h"

#include "drivers.h"
#include "http_upload.h"

#define KI 1024u
#define PATIENCE_NS (30 * HL_NS_PER_S)
#define WRITES_MAX 8192u

/* ---- The protocol ------------------------------------------------------- */

/* How it behaves; reset by each test. */
struct manners {
    uint32_t caps;
    struct hl_parts parts;
    uint64_t bound; /* 0: none */
    const char *method;
    bool asks;    /* begin() asks the server, else everything begins at 0 */
    bool expects; /* 100-continue */
    bool opens;   /* open() asks the server */
    bool trusts;  /* any answer below 400 is a success */
    const char *foreign; /* bodies go to this origin */
};

static struct manners manners;
static atomic_uint wrong_data; /* what data() saw that was not sent */
static unsigned sent_count;
static struct hl_error sent_error; /* of the last body that failed */

static uint8_t *bytes; /* of the object */

static char *place_of(const struct hl_http_part *part)
{
    return manners.foreign
               ? hl_asprintf("%s/%u", manners.foreign, (unsigned)part->index)
               : hl_asprintf("http://127.0.0.1:%u/%u", (unsigned)store.port,
                             (unsigned)part->index);
}

static void p_opened(struct hl_http_ask *ask)
{
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    hl_http_upload_opened(ask->upload, rc, &err);
}

static void go(struct hl_http_upload *u, struct hl_http_part *part,
               const char *method, char *url,
               void (*done)(struct hl_http_ask *ask))
{
    static const char *const want[] = {"Upload-Offset", NULL};
    struct hl_http_ask *ask = hl_http_ask_new(u, part, done);

    if (!ask) { /* memory is out: only one test gets here */
        hl_free(url);
        if (part)
            hl_http_part_begun(part, HAUL_E_NOMEM, &sent_error);
        return;
    }
    ask->call.method = method;
    ask->call.url = hl_http_ask_keep(ask, url);
    ask->call.want = want;
    ask->call.kept = true;
    hl_http_ask_go(ask);
}

static char *url_of(const char *path)
{
    return hl_asprintf("http://127.0.0.1:%u%s", (unsigned)store.port, path);
}

static void p_open(struct hl_http_upload *u)
{
    u->open->layout.caps = manners.caps;
    u->open->layout.parts = manners.parts;
    u->open->layout.streams_max = 4;
    u->bound = u->bound_max = manners.bound;
    if (manners.opens)
        go(u, NULL, "GET", url_of("/15"), p_opened);
    else
        hl_http_upload_opened(u, 0, NULL);
}

static void p_asked(struct hl_http_ask *ask)
{
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    if (!rc && (!ask->call.got[0] ||
                !hl_http_number(ask->call.got[0], &ask->part->offset)))
        rc = hl_err(&err, HAUL_E_PROTO, 0, "no offset");
    hl_http_part_begun(ask->part, rc, &err);
}

static void p_begin(struct hl_http_upload *u, struct hl_http_part *part)
{
    if (manners.asks) {
        go(u, part, "HEAD", place_of(part), p_asked);
        return;
    }
    part->offset = 0;
    hl_http_part_begun(part, 0, NULL);
}

/* part->own: where the body began, and how much of it was seen. */
struct watch {
    uint64_t from, seen;
};

static int p_send(struct hl_http_upload *u, struct hl_http_part *part,
                  struct hl_http_request *req, uint64_t *len,
                  struct hl_error *err)
{
    struct watch *w = part->own;
    char line[64];

    (void)u, (void)len;
    if (!w)
        w = part->own = hl_malloc(sizeof(*w));
    req->method = manners.method;
    req->url = place_of(part);
    req->foreign = manners.foreign != NULL;
    req->expect = manners.expects;
    snprintf(line, sizeof(line), "Upload-Offset: %" PRIu64, part->offset);
    if (!w || !req->url || hl_http_request_add(req, line) ||
        hl_http_request_add(req, "X-Own: hidden"))
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    w->from = part->begin + part->offset;
    w->seen = 0;
    return 0;
}

/* On the loop's thread. */
static void p_data(struct hl_http_part *part, const uint8_t *data, size_t len)
{
    struct watch *w = part->own;

    if (!data)
        w->seen = 0;
    else if (memcmp(data, bytes + w->from + w->seen, len) != 0)
        atomic_fetch_add(&wrong_data, 1);
    w->seen += data ? len : 0;
}

static int p_sent(struct hl_http_upload *u, struct hl_http_part *part,
                  struct hl_http_sent *sent, struct hl_error *err)
{
    int rc = 0;

    (void)u;
    sent_count++;
    if (sent->status == 409)
        rc = hl_err(err, HAUL_E_PROTO, 0, "another offset");
    else if (sent->rc || sent->status >= 400 || !manners.trusts)
        rc = hl_http_sent_refused(part, sent, err);
    if (rc) {
        sent_error = *err;
        return rc;
    }
    part->offset = part->expected;
    if (!strcmp(manners.method, "PATCH") &&
        (!sent->got[0] || !hl_http_number(sent->got[0], &part->offset)))
        return hl_err(err, HAUL_E_PROTO, 0, "no offset");
    return 0;
}

static void p_part_free(struct hl_http_part *part)
{
    hl_free(part->own);
}

static void p_committed(struct hl_http_ask *ask)
{
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    hl_http_upload_committed(ask->upload, rc, &err);
}

static void p_commit(struct hl_http_upload *u)
{
    go(u, NULL, "POST", url_of("/15"), p_committed);
}

static void p_discarded(struct hl_http_ask *ask)
{
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    hl_http_upload_discarded(ask->upload, rc, &err);
}

static void p_discard(struct hl_http_upload *u, const char *token)
{
    (void)token;
    go(u, NULL, "DELETE", url_of("/0"), p_discarded);
}

static const char *const p_want[] = {"Upload-Offset", NULL};

/* whole_parts and chunked are set by tests. */
static struct hl_http_protocol protocol;

static const struct hl_http_protocol protocol_usual = {
    .name = "scripted",
    .want = p_want,
    .open = p_open,
    .begin = p_begin,
    .send = p_send,
    .data = p_data,
    .sent = p_sent,
    .part_free = p_part_free,
    .commit = p_commit,
    .discard = p_discard,
};

/* ---- The ledger --------------------------------------------------------- */

/* In what the loop calls there is no way out for a test but this. */
#define HOLDS(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
            abort();                                                           \
        }                                                                      \
    } while (0)

enum { OUT = 1, TAKEN = 2, ACKED = 4 };

struct write {
    struct hl_io io;
    bool inside; /* its submission has not returned */
    bool home;
};

struct lane {
    uint64_t begin, end, next;
    unsigned out;
    bool broken;
};

static struct hl_env env;
static struct hl_opts *opts;
static struct hl_http_obj *obj;
static uint8_t *ledger;
static uint64_t size, chunk;
static bool pipe_like; /* the target is not told the size */
static struct write *writes;
static unsigned write_count;
static struct lane lanes[THINGS];
static unsigned lane_count, window, breaks, lost_reports;
static uint64_t skipped_bytes, taken_bytes;
static struct hl_error failure; /* that is not tried again */
static bool aborting, quiet;    /* quiet: nothing may come any more */

static struct lane *lane_of(uint64_t offset)
{
    for (unsigned i = 0; i < lane_count; i++)
        if (offset >= lanes[i].begin && offset < lanes[i].end)
            return &lanes[i];
    HOLDS(!"a lane");
    return NULL;
}

/* What the engine would not try again. */
static void note_failure(const struct hl_error *err)
{
    if (failure.code || (err->code != HAUL_E_LOST &&
                         hl_err_retry_class(err->code) != HL_RETRY_NEVER))
        return;
    failure = *err;
}

/* Of the URL's query and of what the protocol adds. */
static void check_words(const struct hl_error *err)
{
    HOLDS(!strstr(err->message, "hidden") && !strstr(err->detail, "hidden") &&
          !strstr(err->hint, "hidden"));
}

static void mend(struct lane *l)
{
    if (!l->broken || l->out || failure.code)
        return;
    l->broken = false;
    for (l->next = l->begin;
         l->next < l->end && (ledger[l->next] & (TAKEN | ACKED));)
        l->next++;
}

static void on_acked(void *user, uint64_t offset, uint64_t len)
{
    struct lane *l = lane_of(offset);

    (void)user;
    HOLDS(!(quiet));
    HOLDS(len > 0 && offset + len <= l->end);
    if (manners.caps & HL_CAP_LATE)
        HOLDS(ledger[l->end - 1] & TAKEN);
    for (uint64_t i = offset; i < offset + len; i++) {
        HOLDS(!(ledger[i] & ACKED));
        HOLDS(ledger[i] & ((manners.caps & HL_CAP_LATE) ? TAKEN : TAKEN | OUT));
        ledger[i] |= ACKED;
    }
}

static void on_lost(void *user, uint64_t offset, uint64_t len,
                    const struct hl_error *error)
{
    struct lane *l = lane_of(offset);

    (void)user;
    HOLDS(!(quiet));
    HOLDS(error->code != 0);
    HOLDS(len > 0 && offset + len <= l->end);
    for (uint64_t i = offset; i < offset + len; i++) {
        HOLDS((ledger[i] & (OUT | TAKEN | ACKED)) == TAKEN);
        ledger[i] = 0;
    }
    lost_reports++;
    l->broken = true;
    check_words(error);
    note_failure(error);
    mend(l);
}

static void on_token(void *user, const char *token)
{
    (void)user, (void)token;
    HOLDS(!"wanted");
}

static void on_note(void *user, uint64_t part, const char *note)
{
    (void)user, (void)part, (void)note;
    HOLDS(!"wanted");
}

static const struct hl_object_events events = {
    .acked = on_acked, .lost = on_lost, .token = on_token, .note = on_note};

/* What the target does not have any more is reported before a write of the part
 * comes back. */
static void check_order(const struct lane *l)
{
    for (uint64_t i = l->begin; i < l->end; i++)
        HOLDS((ledger[i] & (TAKEN | ACKED | OUT)) != TAKEN);
}

static void on_written(struct hl_op *op)
{
    struct write *w = op->user;
    struct lane *l = lane_of(w->io.offset);

    HOLDS(!(w->inside));
    HOLDS(!(w->home));
    HOLDS(!(quiet));
    w->home = true;
    l->out--;
    HOLDS(w->io.skipped <= w->io.len);
    for (uint64_t i = w->io.offset; i < w->io.offset + w->io.len; i++) {
        HOLDS(ledger[i] & OUT);
        ledger[i] &= (uint8_t)~OUT;
        if (!op->rc)
            ledger[i] |= TAKEN;
    }
    if (!op->rc) {
        skipped_bytes += w->io.skipped;
        taken_bytes += w->io.len;
        return;
    }
    HOLDS((op->rc) == op->error.code);
    if (!aborting)
        check_order(l);
    breaks++;
    l->broken = true;
    check_words(&op->error);
    note_failure(&op->error);
    mend(l);
}

static struct write *submit(uint64_t offset, uint64_t len)
{
    struct lane *l = lane_of(offset);
    struct write *w = &writes[write_count++];

    assert_true(write_count < WRITES_MAX);
    assert_true(offset + len <= l->end);
    memset(w, 0, sizeof(*w));
    w->io.op.done = on_written;
    w->io.op.user = w;
    w->io.offset = offset;
    w->io.len = (uint32_t)len;
    w->io.data = bytes + offset;
    w->io.part =
        manners.parts.size ? hl_parts_index(&manners.parts, offset) : 0;
    w->io.part_end =
        offset + len == l->end &&
        (!pipe_like || manners.parts.size || (manners.caps & HL_CAP_LATE));
    for (uint64_t i = offset; i < offset + len; i++) {
        assert_false(ledger[i] & OUT);
        ledger[i] |= OUT;
    }
    l->out++;
    w->inside = true;
    hl_driver_write(&obj->base, &w->io);
    w->inside = false;
    return w;
}

/* The next chunk of the lane. */
static struct write *submit_next(struct lane *l)
{
    uint64_t at = l->next, n = hl_min(chunk - at % chunk, l->end - at);

    l->next += n;
    return submit(at, n);
}

static void feed_lanes(void)
{
    for (unsigned i = 0; i < lane_count; i++) {
        struct lane *l = &lanes[i];

        while (!l->broken && !failure.code && !aborting && l->out < window &&
               l->next < l->end)
            submit_next(l);
    }
}

static bool all_acked(void)
{
    for (uint64_t i = 0; i < size; i++)
        if (!(ledger[i] & ACKED))
            return false;
    return true;
}

static bool all_home(void)
{
    for (unsigned i = 0; i < write_count; i++)
        if (!writes[i].home)
            return false;
    return true;
}

/* ---- Running it --------------------------------------------------------- */

static void step(void)
{
    hl_loop_step(env.loop, 2);
}

#define WAIT_UNTIL(condition)                                                  \
    do {                                                                       \
        uint64_t end_ns = hl_loop_now(env.loop) + PATIENCE_NS;                 \
        while (!(condition)) {                                                 \
            assert_true(hl_loop_now(env.loop) < end_ns);                       \
            step();                                                            \
        }                                                                      \
    } while (0)

/* Until all is acknowledged or something is not tried again. */
static void move_all(void)
{
    uint64_t end_ns = hl_loop_now(env.loop) + PATIENCE_NS;

    while (!failure.code && !all_acked()) {
        assert_true(hl_loop_now(env.loop) < end_ns);
        feed_lanes();
        step();
    }
}

struct tracked {
    struct hl_op *op;
    unsigned returned;
    bool inside;
    int rc;
    struct hl_error error;
};

static void on_tracked(struct hl_op *op)
{
    struct tracked *t = op->user;

    HOLDS(!(t->inside));
    HOLDS(!(quiet));
    t->returned++;
    t->rc = op->rc;
    t->error = op->error;
}

static void track(struct tracked *t, struct hl_op *op)
{
    *t = (struct tracked){.op = op, .inside = true};
    op->done = on_tracked;
    op->user = t;
}

static struct hl_open opening;
static struct hl_commit committing;
static struct hl_op discarding, aborting_op;
static struct tracked open_t, commit_t, discard_t, abort_t;

static void start_open(void)
{
    memset(&opening, 0, sizeof(opening));
    opening.size = pipe_like ? HL_SIZE_UNKNOWN : size;
    opening.chunk_size = chunk;
    opening.hold_max = UINT64_MAX;
    track(&open_t, &opening.op);
    hl_http_upload_open(obj, &opening);
    open_t.inside = false;
}

static void start_commit(void)
{
    memset(&committing, 0, sizeof(committing));
    committing.size = size;
    track(&commit_t, &committing.op);
    hl_driver_commit(&obj->base, &committing);
    commit_t.inside = false;
}

static void start_discard(void)
{
    memset(&discarding, 0, sizeof(discarding));
    quiet = false;
    track(&discard_t, &discarding);
    hl_driver_discard(&obj->base, NULL, &discarding);
    discard_t.inside = false;
}

static void start_abort(void)
{
    memset(&aborting_op, 0, sizeof(aborting_op));
    aborting = true;
    track(&abort_t, &aborting_op);
    hl_driver_abort(&obj->base, &aborting_op);
    abort_t.inside = false;
}

static void settle(void)
{
    for (int i = 0; i < 15; i++)
        step();
}

/* It comes soon, with everything home, and nothing after it. */
static void finish_abort(void)
{
    uint64_t begin = hl_loop_now(env.loop);

    WAIT_UNTIL(abort_t.returned);
    assert_int_equal(abort_t.rc, 0);
    assert_true(hl_loop_now(env.loop) - begin < 5 * HL_NS_PER_S);
    assert_true(all_home());
    quiet = true;
    settle();
    assert_int_equal(abort_t.returned, 1);
}

static void abort_now(void)
{
    start_abort();
    finish_abort();
}

static void commit_now(void)
{
    start_commit();
    WAIT_UNTIL(commit_t.returned);
    assert_int_equal(commit_t.rc, 0);
    assert_true(all_home());
}

/* ---- Life --------------------------------------------------------------- */

static void no_warning(const struct hl_env *e, const struct hl_error *warning)
{
    (void)e, (void)warning;
}

static char *no_fact(const struct hl_env *e, const char *key)
{
    (void)e, (void)key;
    return NULL;
}

static void forget_fact(const struct hl_env *e, const char *key,
                        const char *value)
{
    (void)e, (void)key, (void)value;
}

static void say_nothing(const struct hl_env *e, const char *text)
{
    (void)e, (void)text;
}

static void new_object(const char *prefix)
{
    struct hl_endpoint *ep = obj ? obj->base.endpoint : NULL;
    struct hl_object *made = NULL;
    struct hl_error err = {0};
    struct hl_url url;
    char text[200];

    snprintf(text, sizeof(text),
             "%s"
             "http://127.0.0.1:%u/in/dump?key=hidden",
             prefix, (unsigned)store.port);
    assert_int_equal(hl_url_parse(text, &url, &err), 0);
    if (!ep)
        assert_int_equal(hl_driver_http.endpoint_new(&env, &url, &ep, &err), 0);
    if (obj)
        hl_driver_http.close(&obj->base);
    assert_int_equal(
        hl_driver_http.object_new(ep, &url, HL_ROLE_TARGET, &made, &err), 0);
    hl_url_fini(&url);
    obj = HL_CONTAINER(made, struct hl_http_obj, base);
    obj->base.events = &events;
}

static int setup(void **state)
{
    (void)state;
    memset(&env, 0, sizeof(env));
    manners = (struct manners){
        .caps = HL_CAP_ORDERED, .method = "PATCH", .asks = true};
    protocol = protocol_usual;
    size = 512 * KI;
    chunk = 64 * KI;
    window = 4;
    pipe_like = false;
    obj = NULL;
    assert_int_equal(hl_loop_new(false, &env.loop, NULL), 0);
    assert_int_equal(hl_opts_new(&opts), 0);
    assert_int_equal(setenv("no_proxy", "*", 1), 0);
    env.opts = opts;
    env.warn = no_warning;
    env.fact = no_fact;
    env.keep_fact = forget_fact;
    env.say = say_nothing;
    env.library_bytes_max = 1 << 20;
    bytes = malloc(THING_MAX);
    ledger = calloc(1, THING_MAX);
    writes = calloc(WRITES_MAX, sizeof(*writes));
    assert_true(bytes && ledger && writes);
    for (uint64_t i = 0, x = 88172645463325252u; i < THING_MAX; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        bytes[i] = (uint8_t)x;
    }
    store_start();
    return 0;
}

static void cut_lanes(void)
{
    uint64_t len = hl_max(manners.parts.size ? manners.parts.size : size, 1);

    lane_count = (unsigned)((size + len - 1) / len);
    assert_true(lane_count <= THINGS);
    for (unsigned i = 0; i < lane_count; i++)
        lanes[i] = (struct lane){.begin = i * len,
                                 .next = i * len,
                                 .end = hl_min((i + 1) * len, size)};
}

/* An object whose way is the protocol, with an empty ledger. */
static void begin_upload(void)
{
    struct hl_error err = {0};

    write_count = breaks = lost_reports = sent_count = 0;
    skipped_bytes = taken_bytes = 0;
    memset(&failure, 0, sizeof(failure));
    memset(&sent_error, 0, sizeof(sent_error));
    memset(ledger, 0, THING_MAX);
    aborting = quiet = false;
    atomic_store(&wrong_data, 0);
    cut_lanes();
    new_object("put+");
    assert_int_equal(hl_http_upload_new(obj, &protocol, &err), 0);
}

static void open_upload(void)
{
    begin_upload();
    start_open();
    WAIT_UNTIL(open_t.returned);
    assert_int_equal(open_t.rc, 0);
}

/* Everything is there, byte for byte. */
static void check_stored(void)
{
    assert_true(all_acked());
    for (unsigned i = 0; i < lane_count; i++) {
        assert_int_equal(stored(i), lanes[i].end - lanes[i].begin);
        assert_memory_equal(store.things[i].data, bytes + lanes[i].begin,
                            stored(i));
    }
    assert_int_equal(atomic_load(&wrong_data), 0);
}

static int teardown(void **state)
{
    struct hl_endpoint *ep = obj ? obj->base.endpoint : NULL;

    (void)state;
    hl_mem_fail_at(0, false);
    atomic_store(&store.script, NULL);
    if (obj && obj->upload && !quiet) { /* the test failed */
        start_abort();
        WAIT_UNTIL(abort_t.returned);
    }
    if (obj)
        hl_driver_http.close(&obj->base);
    if (ep)
        hl_driver_http.endpoint_free(ep);
    store_stop();
    hl_loop_free(env.loop);
    hl_opts_free(opts);
    free(bytes);
    free(ledger);
    free(writes);
    assert_int_equal(hl_mem_live(), 0);
    return 0;
}

#endif /* HTTP_UPLOAD_WORLD_H */
