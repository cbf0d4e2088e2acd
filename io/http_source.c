/*
 * A source over HTTP: the slots, and which stream reads what. Engine thread;
 * the bytes move on the threads of the streams' loops. See http_source.h.
 */
#include "http_source.h"

#include <string.h>

static struct hl_loop *loop_of(const struct hl_http_source *s)
{
    return s->obj->ep->base.env->loop;
}

/* ---- Streams ------------------------------------------------------------ */

static struct hl_http_stream *add_stream(struct hl_http_source *s,
                                         struct hl_error *err)
{
    uint32_t i = s->stream_count;
    struct hl_http_loop *loop = hl_http_loop_get(s->obj->ep, i, err);
    struct hl_http_stream *st = loop ? hl_malloc(sizeof(*st)) : NULL;

    if (st && hl_http_stream_init(st, s, i, loop)) {
        hl_free(st);
        st = NULL;
    }
    if (!st) {
        hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
        return NULL;
    }
    s->streams[s->stream_count++] = st;
    return st;
}

/* For a read that goes on nowhere; lower is better. */
enum rank {
    RANK_FREE,   /* nothing to do */
    RANK_LEFT,   /* no read, but an answer that is being given up for this */
    RANK_ENDING, /* its run ends with what it has */
    RANK_BUSY,   /* its run goes on, though it may have no read now */
    RANK_SHY,    /* was refused as one too many */
    RANK_NONE
};

static enum rank rank_of(const struct hl_http_stream *st, uint64_t now)
{
    if (atomic_load(&st->shy) > now)
        return RANK_SHY;
    if (atomic_load(&st->out) == 0 && !atomic_load(&st->ranging))
        return RANK_FREE;
    if (st->next < st->run_end)
        return RANK_BUSY;
    return atomic_load(&st->out) ? RANK_ENDING : RANK_LEFT;
}

static struct hl_http_stream *pick(struct hl_http_source *s, uint64_t offset,
                                   struct hl_error *err)
{
    uint64_t now = hl_loop_now(loop_of(s));
    uint32_t wanted = s->wanted ? (uint32_t)hl_min(s->wanted, s->streams_max)
                                : s->streams_max;
    struct hl_http_stream *best = NULL, *more;
    enum rank best_rank = RANK_NONE;

    for (uint32_t i = 0; i < s->stream_count; i++) {
        struct hl_http_stream *st = s->streams[i];
        enum rank rank = rank_of(st, now);

        /* The next run may begin where one ends: it is for who is free. */
        if (st->next == offset && offset < st->run_end && rank != RANK_SHY)
            return st;
        if (i >= wanted || rank > best_rank)
            continue;
        if (rank == best_rank &&
            atomic_load(&st->out) >= atomic_load(&best->out))
            continue;
        best = st;
        best_rank = rank;
    }
    if (best_rank == RANK_FREE || s->stream_count >= wanted)
        return best;
    more = add_stream(s, err);
    if (!more && best)
        hl_err_clear(err);
    return more ? more : best;
}

/* ---- Slots -------------------------------------------------------------- */

static struct hl_http_source *source_new(struct hl_http_obj *obj,
                                         struct hl_error *err)
{
    struct hl_http_source *s = hl_malloc(sizeof(*s));

    if (!s) {
        hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
        return NULL;
    }
    s->obj = obj;
    if (!add_stream(s, err)) {
        hl_free(s);
        return NULL;
    }
    return s;
}

void hl_http_source_open(struct hl_http_obj *obj, struct hl_open *op)
{
    struct hl_http_source *s = obj->source;

    if (!s)
        s = obj->source = source_new(obj, &op->op.error);
    if (!s) {
        hl_op_finish(obj->ep->base.env->loop, &op->op, op->op.error.code);
        return;
    }
    /* The first read is expected where the first answer begins, and is for
     * the stream that has it (http_probe.c asks for so much). */
    s->streams[0]->next = 0;
    s->streams[0]->run_end = 2 * op->chunk_size;
    s->open = op;
    hl_http_stream_tell(s->streams[0], HL_HTTP_OPEN);
}

void hl_http_source_read(struct hl_http_obj *obj, struct hl_io *op)
{
    struct hl_http_source *s = obj->source;
    struct hl_http_stream *st = pick(s, op->offset, &op->op.error);

    if (!st) {
        hl_op_finish(loop_of(s), &op->op, op->op.error.code);
        return;
    }
    st->next = op->offset + op->len;
    st->run_end = op->run_end;
    hl_http_stream_give(st, op);
}

void hl_http_source_abort(struct hl_http_obj *obj, struct hl_op *op)
{
    struct hl_http_source *s = obj->source;

    if (!s) {
        hl_op_finish(obj->ep->base.env->loop, op, 0);
        return;
    }
    s->abort = op;
    atomic_store(&s->aborting, s->stream_count);
    for (uint32_t i = 0; i < s->stream_count; i++)
        hl_http_stream_tell(s->streams[i], HL_HTTP_CANCEL);
}

void hl_http_source_unstall(struct hl_http_obj *obj)
{
    struct hl_http_source *s = obj->source;

    for (uint32_t i = 0; s && i < s->stream_count; i++)
        hl_http_stream_tell(s->streams[i], HL_HTTP_UNSTALL);
}

void hl_http_source_set_streams(struct hl_http_obj *obj, uint32_t streams)
{
    if (obj->source)
        obj->source->wanted = streams;
}

/* ---- The end ------------------------------------------------------------ */

/* Whoever frees a source waits for its streams here. */
struct hl_http_farewell {
    pthread_mutex_t lock;
    pthread_cond_t gone;
    uint32_t left; /* lock */
};

static void on_last(struct hl_http_job *job)
{
    struct hl_http_stream *st = HL_CONTAINER(job, struct hl_http_stream, last);
    struct hl_http_farewell *f = st->farewell;

    if (st->index == 0) {
        hl_http_request_cancel(&st->s->ask);
        hl_http_request_fini(&st->s->ask);
    }
    hl_http_stream_fini(st);
    pthread_mutex_lock(&f->lock);
    f->left--;
    pthread_cond_signal(&f->gone);
    pthread_mutex_unlock(&f->lock);
}

void hl_http_source_free(struct hl_http_source *s)
{
    struct hl_http_farewell f = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                 .gone = PTHREAD_COND_INITIALIZER};

    if (!s)
        return;
    f.left = s->stream_count;
    for (uint32_t i = 0; i < s->stream_count; i++) {
        struct hl_http_stream *st = s->streams[i];

        st->farewell = &f;
        st->last.fn = on_last;
        hl_http_loop_post(st->req.loop, &st->last);
    }
    pthread_mutex_lock(&f.lock);
    while (f.left)
        pthread_cond_wait(&f.gone, &f.lock);
    pthread_mutex_unlock(&f.lock);
    pthread_mutex_destroy(&f.lock);
    pthread_cond_destroy(&f.gone);
    for (uint32_t i = 0; i < s->stream_count; i++)
        hl_free(s->streams[i]);
    hl_free_secret(s->facts.url); /* may be a signed link */
    hl_free(s);
}
