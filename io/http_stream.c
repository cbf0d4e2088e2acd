/*
 * One stream of a source over HTTP: the reads that it was given, the range
 * that runs, and the bytes on their way from the one to the other. Runs on its
 * loop's thread but for hl_http_stream_give() and _tell(); see http_source.h.
 * No lock: reads come through an inbox that one thread fills and the other
 * empties, and go back as finished operations.
 */
#include "http_source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void pump(struct hl_http_stream *st);

static const struct hl_env *env_of(const struct hl_http_stream *st)
{
    return st->s->obj->ep->base.env;
}

/* ---- Handing over ------------------------------------------------------- */

static void wake(struct hl_http_stream *st)
{
    if (!atomic_exchange(&st->woken, true))
        hl_http_loop_post(st->req.loop, &st->wake);
}

void hl_http_stream_give(struct hl_http_stream *st, struct hl_io *io)
{
    struct hl_task *task = &io->op.task;
    struct hl_task *newest = atomic_load(&st->inbox);

    io->done = 0;
    io->eof = false;
    atomic_fetch_add(&st->out, 1);
    do {
        task->next = newest;
    } while (!atomic_compare_exchange_weak(&st->inbox, &newest, task));
    wake(st);
}

void hl_http_stream_tell(struct hl_http_stream *st,
                         enum hl_http_command command)
{
    atomic_fetch_or(&st->commands, (unsigned)command);
    wake(st);
}

static void take_inbox(struct hl_http_stream *st)
{
    struct hl_task *t = atomic_exchange(&st->inbox, NULL), *next;
    struct hl_node *last = st->reads.head.prev;

    for (; t; t = next) {
        struct hl_io *io = HL_CONTAINER(t, struct hl_io, op.task);

        next = t->next;
        /* The newest comes first: each goes before the one of this turn. */
        hl_list_insert(last->next, &io->op.node);
    }
}

/* ---- Reads -------------------------------------------------------------- */

static struct hl_io *first_read(const struct hl_http_stream *st)
{
    struct hl_node *n = hl_list_first(&st->reads);

    return n ? HL_CONTAINER(n, struct hl_io, op.node) : NULL;
}

static uint64_t position(const struct hl_io *io)
{
    return io->offset + io->done;
}

static void finish_read(struct hl_http_stream *st, struct hl_io *io, int rc)
{
    hl_list_remove(&io->op.node);
    atomic_fetch_sub(&st->out, 1);
    hl_op_finish(env_of(st)->loop, &io->op, rc);
}

/* Where there are no ranges, what is lost is lost. */
static void hint_single(const struct hl_http_stream *st, struct hl_error *err)
{
    if (st->s->facts.ranges || err->code == HAUL_E_CANCELED)
        return;
    err->hint[0] = '\0';
    hl_err_hint(err, "The server offers no ranges: the next run starts from "
                     "the beginning.");
}

/* All reads come back with rc. keep: one that has bytes already comes back
 * with them instead; the engine asks for the rest. */
static void fail_reads(struct hl_http_stream *st, int rc,
                       const struct hl_error *err, bool keep)
{
    struct hl_error copy = *err;
    struct hl_io *io;

    hint_single(st, &copy);
    while ((io = first_read(st))) {
        if (keep && io->done) {
            finish_read(st, io, 0);
            continue;
        }
        io->done = 0;
        io->op.error = copy;
        finish_read(st, io, rc);
    }
}

static void finish_behind_end(struct hl_http_stream *st)
{
    struct hl_io *io;

    while ((io = first_read(st)) && position(io) >= st->s->facts.size) {
        io->eof = true;
        finish_read(st, io, 0);
    }
}

static void set_ranging(struct hl_http_stream *st, bool ranging)
{
    if (atomic_exchange(&st->ranging, ranging) == ranging)
        return;
    if (ranging)
        atomic_fetch_add(&st->s->ranging, 1);
    else
        atomic_fetch_sub(&st->s->ranging, 1);
}

/* Gives bytes that stand at st->at to the reads that want them; returns how
 * many. */
static size_t fill(struct hl_http_stream *st, const uint8_t *data, size_t len)
{
    struct hl_io *io;
    size_t used = 0;

    while (used < len && (io = first_read(st)) && position(io) == st->at) {
        uint32_t n = (uint32_t)hl_min(len - used, io->len - io->done);

        memcpy(io->data + io->done, data + used, n);
        used += n;
        st->at += n;
        io->done += n;
        /* Whoever hears of the last read may give the stream a new one. */
        if (st->at == st->end)
            set_ranging(st, false);
        if (io->done == io->len)
            finish_read(st, io, 0);
    }
    return used;
}

static void drain_spill(struct hl_http_stream *st)
{
    uint32_t n;

    if (!st->spill_len)
        return;
    n = (uint32_t)fill(st, st->spill + st->spill_at, st->spill_len);
    st->spill_at += n;
    st->spill_len -= n;
}

/* ---- The answer --------------------------------------------------------- */

static int on_head(struct hl_http_request *req)
{
    struct hl_http_stream *st = req->user;

    if (st->s->step != HL_HTTP_PROBE_NONE && st->index == 0)
        return hl_http_probe_head(st);
    return hl_http_later_head(st);
}

static size_t break_off(struct hl_http_stream *st)
{
    st->broken = true;
    return HL_HTTP_ABORT;
}

static size_t on_body(struct hl_http_request *req, const uint8_t *data,
                      size_t len)
{
    struct hl_http_stream *st = req->user;
    size_t used;

    HL_ASSERT(len <= HL_HTTP_PIECE);
    if (st->broken)
        return HL_HTTP_ABORT;
    if (len > st->end - st->at - st->spill_len) {
        hl_err(&req->error, HAUL_E_PROTO, 0,
               "'%s': the server sends more than was asked for",
               st->s->obj->display);
        return break_off(st);
    }
    if (st->spill_len)
        return HL_HTTP_PAUSE; /* nobody reads */
    used = fill(st, data, len);
    if (used == len)
        return len;
    if (first_read(st)) {
        /* Reading goes on elsewhere. A request cannot be canceled in here. */
        hl_err(&req->error, HAUL_E_CANCELED, 0, "reading goes on elsewhere");
        st->leaving = true;
        return break_off(st);
    }
    st->spill_at = 0;
    st->spill_len = (uint32_t)(len - used);
    memcpy(st->spill, data + used, st->spill_len);
    return len;
}

int hl_http_stream_ended(struct hl_http_stream *st, struct hl_error *err)
{
    uint64_t got = st->at + st->spill_len;

    if (st->end == HL_SIZE_UNKNOWN)
        st->s->facts.size = st->end = got;
    if (got == st->end)
        return 0;
    return hl_err(err, HAUL_E_RESET, 0,
                  "'%s': the answer ended after %" PRIu64 " of %" PRIu64
                  " bytes",
                  st->s->obj->display, got - st->begin, st->end - st->begin);
}

static void failed(struct hl_http_stream *st, int rc)
{
    bool link = hl_err_retry_class(rc) == HL_RETRY_LINK;

    if (!st->s->facts.ranges && st->at == 0)
        st->spill_len = 0; /* it can still begin again */
    fail_reads(st, rc, &st->req.error, link && st->s->facts.ranges);
}

static void on_done(struct hl_http_request *req, int rc)
{
    struct hl_http_stream *st = req->user;

    set_ranging(st, false);
    if (st->s->step != HL_HTTP_PROBE_NONE && st->index == 0) {
        hl_http_probe_done(st, rc);
        return;
    }
    if (!rc)
        rc = hl_http_stream_ended(st, &req->error);
    if (rc && !st->leaving)
        failed(st, rc);
    else
        pump(st);
}

static const struct hl_http_handler handler = {
    .head = on_head, .body = on_body, .done = on_done};

/* ---- Asking ------------------------------------------------------------- */

/* RFC 9110 14.2 and 13.1.5. The first request has no validator yet. */
static bool set_range(struct hl_http_stream *st)
{
    const struct hl_http_facts *f = &st->s->facts;
    char line[HL_HTTP_ETAG_MAX + 16];
    bool strong = f->etag[0] && !f->etag_weak;

    snprintf(line, sizeof(line), "Range: bytes=%" PRIu64 "-%" PRIu64, st->begin,
             st->end - 1);
    if (hl_http_request_add(&st->req, line))
        return false;
    if (!strong && !f->date[0])
        return true;
    snprintf(line, sizeof(line), "If-Range: %s", strong ? f->etag : f->date);
    return !hl_http_request_add(&st->req, line);
}

static bool set_url(struct hl_http_stream *st)
{
    const struct hl_http_source *s = st->s;
    struct hl_http_request *req = &st->req;

    if (st->back) {
        hl_free_secret(req->url);
        req->url = NULL;
    }
    if (!req->url) {
        bool first = st->back || !s->facts.url;

        req->url = hl_strdup(first ? s->obj->url : s->facts.url);
        req->foreign = !first && s->facts.foreign;
    }
    st->back = false;
    st->direct = req->url && !strcmp(req->url, s->obj->url);
    return req->url;
}

int hl_http_stream_start(struct hl_http_stream *st, uint64_t begin,
                         uint64_t end, bool ranged, struct hl_error *err)
{
    struct hl_http_request *req = &st->req;

    HL_ASSERT(!hl_http_request_running(req));
    HL_ASSERT(begin < end || !ranged);
    st->at = st->begin = begin;
    st->end = end;
    st->spill_len = 0;
    st->broken = st->leaving = false;
    curl_slist_free_all(req->headers);
    req->headers = NULL;
    if (!set_url(st) || (ranged && !set_range(st)))
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    set_ranging(st, true);
    hl_http_request_start(req);
    return 0;
}

/* How far the queue goes on from its first read, said for the last. */
static uint64_t queue_end(const struct hl_http_stream *st)
{
    uint64_t at = first_read(st)->offset, end = at;

    for (struct hl_node *n = hl_list_first(&st->reads); n;
         n = hl_list_next(&st->reads, n)) {
        const struct hl_io *io = HL_CONTAINER(n, struct hl_io, op.node);

        if (io->offset != at)
            break;
        at += io->len;
        end = hl_max(at, io->run_end);
    }
    return hl_min(end, st->s->facts.size);
}

/* Nothing runs, and the first read wants bytes. */
static void start_next(struct hl_http_stream *st)
{
    const struct hl_http_facts *f = &st->s->facts;
    uint64_t begin = position(first_read(st));
    struct hl_error err = {0};
    int rc;

    if (f->ranges)
        rc = hl_http_stream_start(st, begin, queue_end(st), true, &err);
    else if (begin == 0)
        rc = hl_http_stream_start(st, 0, f->size, false, &err);
    else
        rc = hl_err(&err, HAUL_E_RESET, 0, "'%s': the answer is gone",
                    st->s->obj->display);
    if (rc)
        fail_reads(st, rc, &err, false);
}

static void cancel(struct hl_http_stream *st)
{
    hl_http_request_cancel(&st->req);
    set_ranging(st, false);
    st->spill_len = 0;
}

/* Starts or resumes what the first read needs. Not from inside a callback,
 * but for done(). */
static void pump(struct hl_http_stream *st)
{
    const struct hl_io *io;

    if (st->s->step != HL_HTTP_PROBE_NONE && st->index == 0)
        return;
    drain_spill(st);
    finish_behind_end(st);
    io = first_read(st);
    if (!io)
        return;
    if (position(io) != st->at || st->spill_len)
        cancel(st);
    if (hl_http_request_running(&st->req))
        hl_http_request_resume(&st->req);
    else
        start_next(st);
}

/* ---- Commands ----------------------------------------------------------- */

static void give_back(struct hl_http_stream *st, int rc)
{
    const struct hl_http_obj *obj = st->s->obj;
    struct hl_error err = {0};

    if (rc == HAUL_E_STALLED)
        hl_err(&err, rc, 0, "'%s': nothing came for %" PRIu64 " s",
               obj->display, obj->ep->stall_ns / HL_NS_PER_S);
    else
        hl_err(&err, rc, 0, "%s", haul_err_text(rc));
    if (st->index == 0 && st->s->step != HL_HTTP_PROBE_NONE) {
        if (hl_http_probe_drop(st, rc, &err))
            cancel(st);
        return;
    }
    /* A paused answer does not hang. */
    if (rc == HAUL_E_STALLED && hl_list_empty(&st->reads))
        return;
    cancel(st);
    fail_reads(st, rc, &err, false);
}

static void on_wake(struct hl_http_job *job)
{
    struct hl_http_stream *st = HL_CONTAINER(job, struct hl_http_stream, wake);
    struct hl_http_source *s = st->s;
    unsigned commands;

    atomic_store(&st->woken, false);
    commands = atomic_exchange(&st->commands, 0);
    take_inbox(st);
    if (commands & HL_HTTP_OPEN)
        hl_http_probe_start(st);
    if (commands & HL_HTTP_ASK)
        hl_http_probe_ask(st);
    if (commands & HL_HTTP_CANCEL)
        give_back(st, HAUL_E_CANCELED);
    else if (commands & HL_HTTP_UNSTALL)
        give_back(st, HAUL_E_STALLED);
    pump(st);
    if ((commands & HL_HTTP_CANCEL) && atomic_fetch_sub(&s->aborting, 1) == 1)
        hl_op_finish(env_of(st)->loop, s->abort, 0);
}

/* ---- Life --------------------------------------------------------------- */

int hl_http_stream_init(struct hl_http_stream *st, struct hl_http_source *s,
                        uint32_t index, struct hl_http_loop *loop)
{
    struct hl_http_ep *ep = s->obj->ep;

    st->s = s;
    st->index = index;
    st->wake.fn = on_wake;
    hl_list_init(&st->reads);
    if (hl_http_request_init(&st->req, ep, loop))
        return HAUL_E_NOMEM;
    st->req.handler = &handler;
    st->req.user = st;
    st->req.method = "GET";
    st->req.display = s->obj->display;
    st->req.quiet_ns = ep->stall_ns;
    return 0;
}

void hl_http_stream_fini(struct hl_http_stream *st)
{
    HL_ASSERT(hl_list_empty(&st->reads));
    cancel(st);
    hl_http_request_fini(&st->req);
}
