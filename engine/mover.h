/*
 * The mover: one object's bytes from source to target, or (without a target)
 * through the digest only. This is the way every byte takes:
 *
 *   cursors ─► buffer ─► source.read ─► digest ─► place in order ─►
 *   target.write ─► taken ─► acknowledged ─► chunk()
 *
 * A piece is a chunk on that way. It keeps its buffer until it is taken, or,
 * when the source cannot seek, until it is acknowledged; what is lost or
 * fails goes back to where it can be repeated. Engine thread only.
 *
 * A target that is LATE may take a terabyte before it acknowledges a byte: of
 * what it took nothing stays but ranges here and the digest there, and what is
 * lost is read again. A break after bytes of a part were taken is one try of
 * that part, whatever broke; one before is as for every other target. When the
 * whole object is one part and the source cannot seek, nothing is kept, and
 * the first loss is the end. (With smaller parts the buffers stay.)
 *
 * A source with runs (run_max) is read in several places at once, unless a
 * target or a digest needs the order: then the runs are two chunks long and so
 * few that all fit into the memory.
 *
 * A target with parts gets several of them at once (hl_mover_set_parts()). Each
 * is read only so far ahead of what was taken of it that none comes to hold
 * every buffer: a fast one goes on while a slow one waits. What cannot be read
 * anywhere is written to several parts when it has come that far.
 *
 * Bytes that the target has already (confirmed) are read and digested where
 * nobody has their digest (done), and not written.
 */
#ifndef HL_MOVER_H
#define HL_MOVER_H

#include "cursor.h"
#include "io.h"
#include "pool.h"
#include "rate.h"
#include "retry.h"
#include "stage.h"
#include "workers.h"

struct hl_mover;

struct hl_mover_events {
    /* Every byte of the chunk is acknowledged (without a target: read).
     * digest is NULL when none is taken, or taken() has had it. */
    void (*chunk)(void *user, const struct hl_slice *slice,
                  const uint8_t *digest);
    /* A LATE target has taken the chunk, perhaps not for the first time. An
     * error ends the mover. NULL: nobody wants the digests. */
    int (*taken)(void *user, const struct hl_slice *slice,
                 const uint8_t *digest);
    /* What taken() was given for the chunk at offset, or NULL. Bytes that are
     * sent again must have it. */
    const uint8_t *(*digest)(void *user, uint64_t offset);
    /* Something failed and is tried again. */
    void (*retry)(void *user, const struct hl_error *error);
    /* The target asks to keep a token. */
    void (*token)(void *user, const char *token);
    /* Once: everything is moved (rc 0), failed, or hl_mover_stop() is
     * through. Nothing is outstanding. The mover may be freed here. rc is
     * HAUL_E_LOST as soon as the target says so: what it confirmed is to be
     * asked anew. */
    void (*finished)(void *user, int rc, const struct hl_error *error);
    /* The target asks to keep a note of a part. */
    void (*note)(void *user, uint64_t part, const char *note);
};

struct hl_mover_config {
    struct hl_loop *loop;
    struct hl_pool *pool;
    struct hl_workers *workers;
    struct hl_random *random;
    const struct hl_log *log;
    struct hl_object *source; /* open, for reading */
    struct hl_object *target; /* open, or NULL */
    uint64_t size;            /* or HL_SIZE_UNKNOWN */
    uint64_t chunk_size;
    uint32_t source_caps;         /* enum hl_cap */
    uint64_t run_max;             /* of the source's layout */
    struct hl_layout layout;      /* of the target */
    const struct hl_ranges *done; /* not to be moved; copied */
    /* Bytes that the target has, at any byte; of a LATE one only whole parts
     * count. NULL: none; copied. */
    const struct hl_ranges *confirmed;
    const struct hl_digest *digest; /* NULL: none */
    bool whole; /* also the digest of the whole, if it can be */
    /* A second digest of the whole, for which the order is kept; NULL: none.
     * Needs digest and whole; nothing may be done already. */
    const struct hl_digest *offered;
    struct hl_retry_policy policy;
    struct hl_rate *rate; /* shared by the movers of a transfer */
    uint64_t stall_ns;
    const struct hl_mover_events *events;
    void *user;
};

/* Cumulative, and what is out now. */
struct hl_mover_stats {
    uint64_t size; /* HL_SIZE_UNKNOWN until the source ended */
    uint64_t read_bytes, sent_bytes;
    uint64_t acked_bytes;  /* and confirmed ones */
    uint64_t resent_bytes; /* of sent_bytes, that were taken before */
    uint32_t retries;
    uint64_t rate_wait_ns;     /* held back by the rate limit */
    uint64_t memory_wait_ns;   /* waiting for a buffer */
    uint32_t reading, writing; /* operations out at source and target */
    uint32_t idle_writes;      /* pieces ready that wait for their turn */
};

/* Starts at once; finished() never runs from inside this call. */
int hl_mover_new(const struct hl_mover_config *config, struct hl_mover **out,
                 struct hl_error *err);
/* After finished(), or before the loop has run. */
void hl_mover_free(struct hl_mover *m);

/* Brings every operation home, then finished(code). */
void hl_mover_stop(struct hl_mover *m, int code, const struct hl_error *error);

void hl_mover_stats(const struct hl_mover *m, struct hl_mover_stats *out);

/* How many runs of the source are open at once (1 until said). Several long
 * ones cost the digest of the whole, unless the object fits into memory. */
void hl_mover_set_runs(struct hl_mover *m, uint32_t runs);
/* How many parts of the target may be open at once, their answers included: 1
 * (until said) to layout.streams_max. Several cost the digest of the whole,
 * unless the source offers one. */
void hl_mover_set_parts(struct hl_mover *m, uint32_t n);
/* Bytes of buffers that so many runs or parts can use; 0: there are none. */
uint64_t hl_mover_run_memory(const struct hl_mover *m);

/* Digest of the whole object, when it was read in order in this run. */
bool hl_mover_whole(const struct hl_mover *m, uint8_t *out);
/* The second one; out has room for HL_OFFERED_MAX. */
bool hl_mover_offered(const struct hl_mover *m, uint8_t *out);

#endif /* HL_MOVER_H */
