/*
 * Inside of a source over HTTP; nobody else includes this.
 *
 *   http_source.c   the slots: which stream gets which read   engine thread
 *   http_stream.c   one stream: queue, ranges, data           its loop's thread
 *   http_probe.c    what answers say: the first one, which
 *                   opens the source, and every later one     the same
 *
 * A stream is one request after the other on one loop. Reads come to it
 * through its inbox, wait in the order in which they came, and are filled from
 * the running answer. An answer that nobody reads from is paused; up to one
 * piece of it waits in the spill.
 *
 *   first read ─┬─ the answer stands there ─► filled from it
 *               └─ else ─► the answer is ended, a range from there to where
 *                          the queue is said to go on is asked for
 *
 * Without ranges (the server answered with the whole) there is one stream and
 * one answer.
 */
#ifndef HL_HTTP_SOURCE_H
#define HL_HTTP_SOURCE_H

#include "http.h"

#define HL_HTTP_PIECE (16u << 10) /* libcurl gives no more at once */
/* Memory of a stream beside the engine's buffers. */
#define HL_HTTP_STREAM_BYTES ((uint64_t)HL_HTTP_RECEIVE_BUFFER + HL_HTTP_PIECE)

/* What a stream's thread is told besides reads; bits. */
enum hl_http_command {
    HL_HTTP_OPEN = 1 << 0,    /* s->open waits */
    HL_HTTP_ASK = 1 << 1,     /* the digest is to be asked for */
    HL_HTTP_UNSTALL = 1 << 2, /* give everything back: stalled */
    HL_HTTP_CANCEL = 1 << 3   /* give everything back, then s->abort */
};

struct hl_http_stream {
    struct hl_http_source *s;
    uint32_t index;
    /* Engine thread. */
    uint64_t next;    /* where the reads that it got end */
    uint64_t run_end; /* more of them are said to come up to here */
    /* Shared. */
    atomic_uint out;          /* reads that it has; down before they finish */
    atomic_bool ranging;      /* an answer is owed to it */
    atomic_uint_fast64_t shy; /* refused as too many: no use before; 0 */
    _Atomic(struct hl_task *) inbox; /* reads, the newest first */
    atomic_uint commands;
    atomic_bool woken;             /* wake is on its way */
    struct hl_http_job wake, last; /* last: http_source.c, to end it */
    struct hl_http_farewell *farewell;
    /* Its loop's thread. */
    struct hl_http_request req; /* url NULL: that of the source */
    struct hl_list reads;       /* hl_io.op.node */
    uint64_t at;         /* offset of the next byte to give out: spill first */
    uint64_t begin, end; /* asked for; end HL_SIZE_UNKNOWN: as it comes */
    bool direct;         /* this try began at the URL that the user gave */
    bool back;           /* the next one shall */
    bool broken;         /* nothing more of this answer is taken … */
    bool leaving;        /* … since reading goes on elsewhere */
    uint32_t spill_at, spill_len; /* spill_len bytes from spill_at on */
    uint8_t spill[HL_HTTP_PIECE];
};

enum hl_http_probe {
    HL_HTTP_PROBE_NONE,  /* open has come back, or has not been called */
    HL_HTTP_PROBE_RANGE, /* the first bytes were asked for */
    HL_HTTP_PROBE_WHOLE, /* all were asked for */
    HL_HTTP_PROBE_ASK    /* the answer is there; the digest is asked for */
};

/* What the first answer said. */
struct hl_http_facts {
    uint64_t size; /* HL_SIZE_UNKNOWN: until the answer has ended */
    bool ranges;
    char etag[HL_HTTP_ETAG_MAX]; /* or "" */
    bool etag_weak;
    int64_t modified_s; /* 0: none */
    char date[64];      /* Last-Modified as it came, where it is a validator */
    char *url;          /* where it came from in the end */
    bool foreign;       /* see hl_http_request */
};

struct hl_http_source {
    struct hl_http_obj *obj;
    /* Engine thread. */
    struct hl_http_stream *streams[HL_HTTP_STREAMS_MAX];
    uint32_t stream_count;
    uint32_t wanted; /* 0: as many as may be */
    /* Of stream 0's thread from HL_HTTP_OPEN on until open comes back. */
    struct hl_open *open;
    enum hl_http_probe step;
    struct hl_http_request ask;
    bool again_whole, empty; /* what follows the answer that just ended */
    /* Written by stream 0's thread before open comes back; then fixed, but for
     * a size that was unknown: only stream 0's thread looks at that. */
    struct hl_http_facts facts;
    uint32_t streams_max;
    /* Shared. */
    atomic_uint ranging;          /* streams that an answer is owed to */
    atomic_uint_fast64_t limited; /* that too many were refused holds until */
    atomic_uint aborting;         /* streams that have not answered an abort */
    struct hl_op *abort;          /* before them, then of the last */
};

/* ---- http_stream.c ------------------------------------------------------ */

/* Engine thread, before the stream gets anything. 0 or HAUL_E_NOMEM. */
int hl_http_stream_init(struct hl_http_stream *st, struct hl_http_source *s,
                        uint32_t index, struct hl_http_loop *loop);
/* Its loop's thread, last. */
void hl_http_stream_fini(struct hl_http_stream *st);
/* Hands a read over; engine thread. */
void hl_http_stream_give(struct hl_http_stream *st, struct hl_io *io);
/* Any thread. */
void hl_http_stream_tell(struct hl_http_stream *st,
                         enum hl_http_command command);

/* Its loop's thread, the rest too. Asks for [begin, end), or for all with
 * ranged false; nothing is running. */
int hl_http_stream_start(struct hl_http_stream *st, uint64_t begin,
                         uint64_t end, bool ranged, struct hl_error *err);
/* The answer came as a whole: was it all? RESET when not. */
int hl_http_stream_ended(struct hl_http_stream *st, struct hl_error *err);

/* ---- http_probe.c ------------------------------------------------------- */

/* Begins s->open. */
void hl_http_probe_start(struct hl_http_stream *st);
/* The header of the first answer; as hl_http_handler.head. */
int hl_http_probe_head(struct hl_http_stream *st);
/* The first request ended before open came back. */
void hl_http_probe_done(struct hl_http_stream *st, int rc);
/* HL_HTTP_ASK. */
void hl_http_probe_ask(struct hl_http_stream *st);
/* Ends open with rc; with HAUL_E_STALLED while the digest is asked for, open
 * goes well without it (false: the first request goes on). */
bool hl_http_probe_drop(struct hl_http_stream *st, int rc,
                        const struct hl_error *err);
/* The header of a later answer; as hl_http_handler.head. */
int hl_http_later_head(struct hl_http_stream *st);

#endif /* HL_HTTP_SOURCE_H */
