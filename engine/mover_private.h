/*
 * Inside of the mover; see mover.h for what it is for.
 *
 *   mover.c        start, stop, stalls, end
 *   mover_read.c   buffers, reading, digesting
 *   mover_write.c  writing, acknowledgements
 *   mover_late.c   targets that acknowledge a part as a whole
 *   mover_piece.c  pieces, ordered parts, what happens after a failure
 */
#ifndef HL_MOVER_PRIVATE_H
#define HL_MOVER_PRIVATE_H

#include "mover.h"

enum hl_piece_state {
    HL_PIECE_NONE,
    HL_PIECE_REDO,      /* in m->redo, to be read again; no buffer */
    HL_PIECE_READING,   /* at the source driver */
    HL_PIECE_PARKED,    /* in m->parked until its turn in the whole digest */
    HL_PIECE_DIGESTING, /* at the workers */
    HL_PIECE_READY,     /* in m->ready, to be written */
    HL_PIECE_WRITING,   /* at the target driver */
    HL_PIECE_TAKEN      /* acknowledgements are outstanding */
};

/* A chunk on its way. */
struct hl_piece {
    struct hl_node node;   /* m->redo, parked or ready; by offset */
    struct hl_node bucket; /* m->buckets, for acknowledgements */
    struct hl_mover *m;
    enum hl_piece_state state;
    struct hl_slice slice;
    struct hl_buf *buf;
    struct hl_io io;
    struct hl_work work;
    struct hl_retry retry;
    uint64_t not_before_ns;
    uint32_t filled;   /* bytes read so far */
    uint32_t resolved; /* bytes of the write reported acked or lost */
    struct hl_error lost_error;
    bool in_lane;  /* this digest run feeds the whole digest too */
    bool digested; /* digest is of an earlier reading of the same bytes */
    bool sent;     /* was taken once already */
    bool in_run;   /* is being read as the next of slice.run_end's run */
    uint8_t digest[HL_DIGEST_MAX], before[HL_DIGEST_MAX];
};

/* Where an ordered part is. */
struct hl_lane {
    struct hl_node node;
    uint64_t part;
    uint64_t next;        /* offset of the next write */
    uint32_t outstanding; /* writes at the driver */
    bool broken;          /* waits for outstanding to come home */
    /* Of a LATE target. */
    bool took;        /* something, since it broke last */
    bool ended;       /* all of it, and the answer is due */
    uint64_t hold_ns; /* nothing is written before */
    struct hl_retry retry;
};

/* One end of the way. */
struct hl_mover_end {
    struct hl_object *object;
    struct hl_retry retry;
    uint64_t hold_ns; /* outage: nothing is submitted before */
    uint32_t out;     /* operations at the driver */
    uint64_t wire_bytes;
    struct hl_op abort;
    bool aborting;
};

#define HL_MOVER_BUCKETS 1024u
struct hl_mover {
    struct hl_mover_config c;
    struct hl_mover_end source, target;
    struct hl_cursors *cursors;
    struct hl_ranges acked;
    struct hl_ranges confirmed; /* and not acked: their chunks come yet */
    /* Of a LATE target whose pieces are dropped: taken and not acknowledged;
     * taken ever. */
    struct hl_ranges taken, once;
    struct hl_list redo, parked, ready, lanes;
    struct hl_list buckets[HL_MOVER_BUCKETS];
    uint32_t pieces, digesting;
    uint64_t size;
    uint64_t read_end; /* of the farthest byte read */
    struct hl_buf *spare;
    struct hl_pool_waiter waiter;
    bool waiting;
    uint64_t wait_since_ns, rate_since_ns;
    struct hl_timer timer, stall_timer;
    uint64_t wake_ns, progress_ns;
    void *whole_state;
    uint64_t whole_next, parked_bytes;
    bool whole, lane_busy, whole_final;
    uint8_t whole_digest[HL_DIGEST_MAX];
    void *offered_state; /* fed with whole_state */
    bool offered_final;
    uint8_t offered_digest[HL_OFFERED_MAX];
    bool in_runs;     /* the source is read in runs … */
    bool in_order;    /* … that are short */
    bool keeps_order; /* the order is worth reading something twice */
    uint32_t runs;
    uint32_t parts;     /* that may be open */
    uint64_t next_part; /* of a pipe: these and the following were never open */
    bool stopping, finished;
    int code;
    struct hl_error error;
    struct hl_task finish;
    struct hl_mover_stats stats;
};

static inline uint64_t hl_mover_now(const struct hl_mover *m)
{
    return hl_loop_now(m->c.loop);
}

static inline bool hl_mover_can_seek(const struct hl_mover *m)
{
    return m->c.source_caps & HL_CAP_SEEK;
}

static inline bool hl_mover_is_ordered(const struct hl_mover *m)
{
    return m->c.target && (m->c.layout.caps & HL_CAP_ORDERED);
}

static inline bool hl_mover_is_late(const struct hl_mover *m)
{
    return m->c.target && (m->c.layout.caps & HL_CAP_LATE);
}

/* Pieces go when they were taken. */
static inline bool hl_mover_drops(const struct hl_mover *m)
{
    return hl_mover_is_late(m) &&
           (hl_mover_can_seek(m) || m->c.layout.parts.size == 0);
}

static inline void hl_mover_progressed(struct hl_mover *m)
{
    m->progress_ns = hl_mover_now(m);
}

/* ---- mover.c ------------------------------------------------------------ */

/* Starts whatever can start; ends the mover when nothing is left. */
void hl_mover_pump(struct hl_mover *m);
/* hl_mover_stop() with the table's text when err is NULL. */
void hl_mover_fail(struct hl_mover *m, int code, const struct hl_error *err);

/* ---- mover_read.c ------------------------------------------------------- */

void hl_mover_pump_reads(struct hl_mover *m);
/* Gives the whole digests up. */
void hl_mover_drop_whole(struct hl_mover *m);
/* Waits for a buffer with nothing under way: gives up or takes back what its
 * own pieces hold, since the other movers may wait for that. Now and then. */
void hl_mover_unblock(struct hl_mover *m);

/* ---- mover_write.c ------------------------------------------------------ */

extern const struct hl_object_events hl_mover_object_events;
void hl_mover_pump_writes(struct hl_mover *m);

/* ---- mover_late.c ------------------------------------------------------- */

/* The write of p came home; p is gone after it. */
void hl_late_taken(struct hl_piece *p);
/* Reports about bytes of pieces that are gone. */
void hl_late_acked(struct hl_mover *m, uint64_t offset, uint64_t end);
void hl_late_lost(struct hl_mover *m, uint64_t offset, uint64_t end,
                  const struct hl_error *err);
/* A write of p failed, or what it took is lost: hl_piece_failed(). */
void hl_late_failed(struct hl_piece *p, int code, const struct hl_error *err);
/* Is every byte of a part taken, and its answer due? */
bool hl_late_owes(const struct hl_mover *m);
/* p is read and digested: were these the bytes when they were sent before?
 * Fails the mover when not. */
void hl_late_compare(struct hl_piece *p);

/* ---- mover_piece.c ------------------------------------------------------ */

/* The piece that holds offset, or NULL. */
struct hl_piece *hl_piece_find(struct hl_mover *m, uint64_t offset);
struct hl_piece *hl_piece_new(struct hl_mover *m, const struct hl_slice *s);
/* Gives the buffer back; another mover may get it from inside this call. */
void hl_piece_release(struct hl_piece *p);
void hl_piece_drop(struct hl_piece *p);
/* Into a list of pieces, by offset. */
void hl_piece_insert(struct hl_list *l, struct hl_piece *p);
void hl_piece_set_ready(struct hl_piece *p);
/* The bytes are wanted again: from the buffer while it is there. */
void hl_piece_set_again(struct hl_piece *p);
/* Every byte is acknowledged: tells so and frees p. */
void hl_piece_complete(struct hl_piece *p);
/* A read or write of p came back with code. Decides by class: an outage holds
 * the whole end back, anything else that may be repeated holds the piece. The
 * piece is then wanted again, or the mover fails. p may be gone after it. */
void hl_piece_failed(struct hl_piece *p, struct hl_mover_end *end, int code,
                     const struct hl_error *err);
/* Tells that something failed and is tried again. */
void hl_mover_report_retry(struct hl_mover *m, int code,
                           const struct hl_error *err, uint32_t tries);
/* The source has other bytes at p than before. */
void hl_mover_changed(struct hl_piece *p);
/* The parts of [begin, end) may be through. */
void hl_mover_parts_done(struct hl_mover *m, uint64_t begin, uint64_t end);
/* Fails the mover when there is no memory, and returns the error. */
int hl_mover_mark_acked(struct hl_mover *m, uint64_t begin, uint64_t end);
/* Something at offset was taken or is done; it was, and is lost. Moves how far
 * its part may be read. */
void hl_mover_note_taken(struct hl_mover *m, uint64_t offset);
void hl_mover_note_lost(struct hl_mover *m, uint64_t offset);
/* How many parts may be open now. */
uint32_t hl_mover_parts_open(const struct hl_mover *m);

/* Ordered parts. */
uint64_t hl_mover_part_of(const struct hl_mover *m, uint64_t offset);
void hl_mover_part_bounds(const struct hl_mover *m, uint64_t part,
                          uint64_t *begin, uint64_t *end);
/* Fails the mover and returns NULL when there is no memory. */
struct hl_lane *hl_lane_get(struct hl_mover *m, uint64_t offset);
/* The same before a write. NULL also: its part may not be opened yet. */
struct hl_lane *hl_lane_enter(struct hl_mover *m, uint64_t offset);
/* Where writing goes on: the first byte of the part at or after from that is
 * neither confirmed nor in the driver's hands. */
uint64_t hl_lane_next(struct hl_mover *m, uint64_t part, uint64_t from);
/* The lane's write at offset was taken; part_end: with it the part. */
void hl_lane_took(struct hl_mover *m, uint64_t offset, bool part_end);
/* A write of the lane at offset came home. */
void hl_lane_home(struct hl_mover *m, uint64_t offset, bool good);
/* Bytes that were taken at offset are lost. */
void hl_lane_lost(struct hl_mover *m, uint64_t offset);

#endif /* HL_MOVER_PRIVATE_H */
