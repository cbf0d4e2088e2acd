/*
 * Cursors: which chunk comes next. Pure; engine thread.
 *
 * An object is cut into parts (parts.h; the last is shorter), a part into
 * chunks of chunk_size; a chunk never straddles parts. One cursor per open
 * part hands out its chunks in ascending order, each once: what was handed out
 * and is lost is the caller's to do again. Without parts a chunk is its own
 * part and there is one cursor.
 *
 * So that a slow part does not come to hold every buffer, a part is read only
 * so far ahead of what has been taken of it (hl_cursors_set_ahead()); the part
 * that is least ahead goes first.
 *
 * With run_max a cursor has a run: consecutive chunks of at most run_max bytes,
 * fewer towards the end (what is left over twice open_max, at least two
 * chunks), so that all end at about the same time. The run with the fewest
 * chunks in the reader's hands goes on first, none with more than
 * HL_RUN_AHEAD.
 *
 * Size unknown (HL_SIZE_UNKNOWN): chunks are handed out without end until
 * hl_cursors_set_size().
 */
#ifndef HL_CURSOR_H
#define HL_CURSOR_H

#include "parts.h"
#include "ranges.h"

struct hl_cursors; /* opaque */

struct hl_cursors_config {
    uint64_t size;         /* or HL_SIZE_UNKNOWN */
    uint64_t chunk_size;   /* > 0 */
    uint64_t run_max;      /* 0, or a multiple of chunk_size; needs a size and
                            * no parts */
    struct hl_parts parts; /* sizes are multiples of chunk_size */
};

struct hl_slice {
    uint64_t offset;
    uint32_t len;     /* > 0 */
    uint64_t part;    /* index of the part; of the chunk without parts */
    bool part_end;    /* ends its part */
    uint64_t run_end; /* where its run ends; its own end without runs */
};

#define HL_RUN_AHEAD 2u

/* done: bytes that need not be handed out (may be NULL). A chunk that is only
 * partly in it is handed out whole. */
int hl_cursors_new(const struct hl_cursors_config *config,
                   const struct hl_ranges *done, struct hl_cursors **out);
void hl_cursors_free(struct hl_cursors *c);

/* Next chunk, with at most open_max parts open at once (a part is open from
 * its first chunk handed out until hl_cursors_part_done(); ignored without
 * parts). Of parts that are as far ahead as each other each has its turn.
 * false: nothing to hand out now. */
bool hl_cursors_next(struct hl_cursors *c, uint32_t open_max,
                     struct hl_slice *out);

/* Every byte of the part is acknowledged. */
void hl_cursors_part_done(struct hl_cursors *c, uint64_t part);

/* Of an open part no chunk is handed out, not even once more, that begins so
 * many chunks or more behind the first byte that has not been taken. 0 (at
 * first): any chunk is. */
void hl_cursors_set_ahead(struct hl_cursors *c, uint32_t chunks);
/* Everything of an open part before offset has been taken; when something is
 * lost that is less than before. */
void hl_cursors_set_taken(struct hl_cursors *c, uint64_t part, uint64_t offset);
/* As set, at first where the part's first new chunk begins. UINT64_MAX: the
 * part is not open. */
uint64_t hl_cursors_taken(const struct hl_cursors *c, uint64_t part);
/* May the chunk at offset be read now, as far as that goes? */
bool hl_cursors_near(const struct hl_cursors *c, uint64_t offset);

/* With run_max: a chunk of the run that ends at run_end has been read. */
void hl_cursors_run_read(struct hl_cursors *c, uint64_t run_end);

/* Hands the chunks of [begin, end) out once more, in ascending order and
 * before anything else. HAUL_E_NOMEM. */
int hl_cursors_again(struct hl_cursors *c, uint64_t begin, uint64_t end);
/* Offset of the first chunk that waits for that and may be read now, or
 * UINT64_MAX. */
uint64_t hl_cursors_again_first(const struct hl_cursors *c);

/* The source ended; chunks at or after size are not handed out any more. */
void hl_cursors_set_size(struct hl_cursors *c, uint64_t size);

/* Would hl_cursors_next() hand one out? */
bool hl_cursors_ready(const struct hl_cursors *c, uint32_t open_max);

/* Nothing is left to hand out (with size known). */
bool hl_cursors_exhausted(const struct hl_cursors *c);

#endif /* HL_CURSOR_H */
