/*
 * Which chunk comes next.
 *
 * Nothing here grows with the number of chunks: an open part is a position,
 * what an earlier run has done and what is wanted again are sets of ranges
 * that are searched, never walked. Without parts the whole object is one part
 * that is always open; with run_max it is cut into runs, and a run is
 * open from its first chunk handed out until its last one has been read.
 * Pure; engine thread.
 */
#include "cursor.h"

#include <string.h>

struct cursor {
    uint64_t part;
    uint64_t pos;   /* the part's next new chunk begins here or behind */
    uint64_t taken; /* of a part: everything before */
    uint64_t end;   /* of a run */
    uint32_t out;   /* of a run: chunks in the reader's hands */
};

struct hl_cursors {
    uint64_t size; /* or HL_SIZE_UNKNOWN */
    uint64_t chunk_size;
    struct hl_parts parts; /* of size HL_SIZE_UNKNOWN: one, the object */
    bool chunk_is_part;    /* configured without parts */
    uint64_t run_max;      /* 0: no runs */
    uint64_t ahead;        /* bytes; 0: any number */

    struct hl_ranges done;  /* whole chunks that are not handed out */
    struct hl_ranges again; /* whole chunks that are handed out once more */
    struct cursor *open;
    size_t open_count, open_capacity;
    size_t turn;    /* index into open: whose turn it is */
    uint64_t fresh; /* parts that begin here or behind were never open */
    uint64_t left;  /* bytes behind fresh that no run has yet */
};

static uint64_t part_end(const struct hl_cursors *c, uint64_t part)
{
    uint64_t begin = hl_parts_begin(&c->parts, part);

    HL_ASSERT(begin <= c->size);
    return begin + hl_min(hl_parts_len(&c->parts, part), c->size - begin);
}

/* A new cursor at the end of the row. false: out of memory. */
static bool open_part(struct hl_cursors *c, uint64_t part, uint64_t pos)
{
    if (c->open_count == c->open_capacity) {
        size_t capacity = c->open_capacity * 2;
        struct cursor *open = hl_realloc(c->open, capacity * sizeof(*open));

        if (!open)
            return false;
        c->open = open;
        c->open_capacity = capacity;
    }
    c->open[c->open_count++] =
        (struct cursor){.part = part, .pos = pos, .taken = pos};
    return true;
}

static void close_at(struct hl_cursors *c, size_t i)
{
    HL_ASSERT(i < c->open_count);
    c->open_count--;
    memmove(&c->open[i], &c->open[i + 1],
            (c->open_count - i) * sizeof(c->open[0]));
    if (c->turn > i)
        c->turn--;
}

/* The chunk that holds offset, which is below the size. */
static struct hl_slice chunk_at(const struct hl_cursors *c, uint64_t offset)
{
    struct hl_slice s;

    HL_ASSERT(offset < c->size);
    s.offset = offset - offset % c->chunk_size;
    s.part = c->chunk_is_part ? s.offset / c->chunk_size
                              : hl_parts_index(&c->parts, s.offset);
    s.len = (uint32_t)hl_min(c->chunk_size, c->size - s.offset);
    s.part_end = c->chunk_is_part || s.offset + s.len == part_end(c, s.part);
    s.run_end = s.offset + s.len;
    return s;
}

/* Only chunks that are done as a whole count. */
static int copy_done(struct hl_cursors *c, const struct hl_ranges *done)
{
    struct hl_range r = {0, 0};
    int rc = 0;

    while (!rc && hl_ranges_next(done, r.end, &r) && r.begin < c->size) {
        uint64_t begin = r.begin;
        uint64_t end = r.end - r.end % c->chunk_size;

        if (begin % c->chunk_size) {
            struct hl_slice cut = chunk_at(c, begin);

            begin = cut.offset + cut.len;
        }
        if (r.end >= c->size)
            end = c->size;
        rc = hl_ranges_add(&c->done, begin, end);
    }
    return rc;
}

static bool is_layout(const struct hl_cursors_config *config)
{
    const struct hl_parts *p = &config->parts;
    uint64_t chunk = config->chunk_size;

    if (chunk == 0 || chunk > UINT32_MAX)
        return false;
    if (p->size % chunk && p->size < config->size)
        return false;
    if (p->grow && (!p->size || p->size_max < p->size || p->size_max % p->size))
        return false;
    return !config->run_max || (config->run_max % chunk == 0 && !p->size &&
                                config->size != HL_SIZE_UNKNOWN);
}

int hl_cursors_new(const struct hl_cursors_config *config,
                   const struct hl_ranges *done, struct hl_cursors **out)
{
    struct hl_cursors *c;

    if (!is_layout(config))
        return HAUL_E_INVAL;
    c = hl_malloc(sizeof(*c));
    if (!c)
        return HAUL_E_NOMEM;
    c->size = config->size;
    c->chunk_size = config->chunk_size;
    c->chunk_is_part = config->parts.size == 0;
    c->parts = config->parts;
    if (c->chunk_is_part)
        c->parts = (struct hl_parts){.size = HL_SIZE_UNKNOWN};
    c->run_max = config->run_max;
    hl_ranges_init(&c->done);
    hl_ranges_init(&c->again);
    c->open_capacity = 8;
    c->open = hl_calloc(c->open_capacity, sizeof(c->open[0]));
    if (!c->open || (done && copy_done(c, done))) {
        hl_cursors_free(c);
        return HAUL_E_NOMEM;
    }
    c->left = c->size - hl_min(c->done.bytes, c->size);
    if (c->chunk_is_part && !c->run_max) {
        c->open[c->open_count++] = (struct cursor){0};
        c->fresh = c->size;
    }
    *out = c;
    return 0;
}

void hl_cursors_free(struct hl_cursors *c)
{
    if (!c)
        return;
    hl_ranges_fini(&c->done);
    hl_ranges_fini(&c->again);
    hl_free(c->open);
    hl_free(c);
}

/* Opens the next part that has something to do and makes it its turn. Out of
 * memory for more cursors: those that are open must do. */
static void open_next(struct hl_cursors *c)
{
    struct hl_range hole;
    uint64_t part;

    if (!hl_ranges_next_hole(&c->done, c->fresh, c->size, &hole))
        return;
    part = hl_parts_index(&c->parts, hole.begin);
    if (!open_part(c, part, hole.begin))
        return;
    c->fresh = part_end(c, part);
    c->turn = c->open_count - 1;
}

static bool next_of(const struct hl_cursors *c, const struct cursor *cur,
                    struct hl_range *hole)
{
    return hl_ranges_next_hole(&c->done, cur->pos, part_end(c, cur->part),
                               hole);
}

static struct cursor *find_open(const struct hl_cursors *c, uint64_t part)
{
    for (size_t i = 0; i < c->open_count && !c->chunk_is_part; i++)
        if (c->open[i].part == part)
            return &c->open[i];
    return NULL;
}

static bool is_near(const struct hl_cursors *c, const struct cursor *cur,
                    uint64_t offset)
{
    return !c->ahead || c->chunk_is_part || offset < cur->taken ||
           offset - cur->taken < c->ahead;
}

/* The part that is least ahead goes on; of equals, the one whose turn it is. */
static bool take_turn(struct hl_cursors *c, struct hl_slice *out)
{
    uint64_t ahead, least = UINT64_MAX;
    struct hl_range hole;
    size_t i, best = 0;

    for (i = 0; i < c->open_count; i++) {
        size_t at = (c->turn + i) % c->open_count;
        const struct cursor *cur = &c->open[at];

        if (!next_of(c, cur, &hole) || !is_near(c, cur, hole.begin))
            continue;
        ahead = hole.begin - hl_min(hole.begin, cur->taken);
        if (ahead >= least)
            continue;
        least = ahead;
        best = at;
    }
    if (least == UINT64_MAX)
        return false;
    next_of(c, &c->open[best], &hole);
    *out = chunk_at(c, hole.begin);
    HL_ASSERT(out->offset == hole.begin);
    c->open[best].pos = out->offset + out->len;
    c->turn = (best + 1) % c->open_count;
    return true;
}

void hl_cursors_set_ahead(struct hl_cursors *c, uint32_t chunks)
{
    c->ahead = chunks * c->chunk_size;
}

void hl_cursors_set_taken(struct hl_cursors *c, uint64_t part, uint64_t offset)
{
    struct cursor *cur = find_open(c, part);

    if (cur)
        cur->taken = offset;
}

uint64_t hl_cursors_taken(const struct hl_cursors *c, uint64_t part)
{
    const struct cursor *cur = find_open(c, part);

    return cur ? cur->taken : UINT64_MAX;
}

bool hl_cursors_near(const struct hl_cursors *c, uint64_t offset)
{
    const struct cursor *cur = NULL;

    if (!c->chunk_is_part)
        cur = find_open(c, hl_parts_index(&c->parts, offset));
    return !cur || is_near(c, cur, offset);
}

/* ---- Runs --------------------------------------------------------------- */

/* Bytes of a run that begins with left bytes to go. */
static uint64_t run_bytes(const struct hl_cursors *c, uint32_t open_max)
{
    uint64_t bytes = c->left / (UINT64_C(2) * open_max);

    bytes -= bytes % c->chunk_size;
    return hl_min(hl_max(bytes, 2 * c->chunk_size), c->run_max);
}

/* Opens the next run. Out of memory for more: those that are open must do. */
static void open_run(struct hl_cursors *c, uint32_t open_max)
{
    struct hl_range hole;
    uint64_t end;

    if (!hl_ranges_next_hole(&c->done, c->fresh, c->size, &hole) ||
        !open_part(c, 0, hole.begin))
        return;
    end = hole.begin + hl_min(run_bytes(c, open_max), hole.end - hole.begin);
    c->open[c->open_count - 1].end = end;
    c->left -= end - hole.begin;
    c->fresh = end;
}

/* Has the run a chunk that may be handed out now? */
static bool run_ready(const struct cursor *run)
{
    return run->pos < run->end && run->out < HL_RUN_AHEAD;
}

/* The run whose turn it is: the one with the fewest chunks out. Of equals,
 * long ones take turns, so that no connection rests while memory is short;
 * short ones are read for their order, and the first goes on. */
static struct cursor *next_run(struct hl_cursors *c)
{
    bool short_runs = c->run_max <= 2 * c->chunk_size;
    struct cursor *best = NULL;
    size_t i, at, best_at = 0;

    for (i = 0; i < c->open_count; i++) {
        at = short_runs ? i : (c->turn + i) % c->open_count;
        if (!run_ready(&c->open[at]) || (best && c->open[at].out >= best->out))
            continue;
        best = &c->open[at];
        best_at = at;
    }
    if (best)
        c->turn = (best_at + 1) % c->open_count;
    return best;
}

static bool take_of_run(struct hl_cursors *c, uint32_t open_max,
                        struct hl_slice *out)
{
    struct cursor *run;

    if (c->open_count < open_max)
        open_run(c, open_max);
    run = next_run(c);
    if (!run)
        return false;
    *out = chunk_at(c, run->pos);
    out->run_end = run->end;
    run->pos = out->offset + out->len;
    run->out++;
    return true;
}

void hl_cursors_run_read(struct hl_cursors *c, uint64_t run_end)
{
    size_t i;

    for (i = 0; i < c->open_count && c->run_max; i++) {
        struct cursor *run = &c->open[i];

        if (run->end != run_end)
            continue;
        HL_ASSERT(run->out > 0);
        run->out--;
        if (run->out == 0 && run->pos == run->end)
            close_at(c, i);
        return;
    }
}

/* ---- Again -------------------------------------------------------------- */

int hl_cursors_again(struct hl_cursors *c, uint64_t begin, uint64_t end)
{
    end = hl_min(end, c->size);
    if (begin >= end)
        return 0;
    begin -= begin % c->chunk_size;
    if (end % c->chunk_size)
        end = hl_min(c->size, (end / c->chunk_size + 1) * c->chunk_size);
    return hl_ranges_add(&c->again, begin, end);
}

uint64_t hl_cursors_again_first(const struct hl_cursors *c)
{
    for (size_t i = 0; i < c->again.count; i++) {
        uint64_t at = c->again.r[i].begin;

        while (at < c->again.r[i].end) {
            if (hl_cursors_near(c, at))
                return at;
            at = part_end(c, hl_parts_index(&c->parts, at));
        }
    }
    return UINT64_MAX;
}

/* Not from the front of a range it needs memory; without, the first goes. */
static void take_again(struct hl_cursors *c, uint64_t offset,
                       struct hl_slice *out)
{
    *out = chunk_at(c, offset);
    if (!hl_ranges_remove(&c->again, out->offset, out->offset + out->len))
        return;
    *out = chunk_at(c, c->again.r[0].begin);
    (void)hl_ranges_remove(&c->again, out->offset, out->offset + out->len);
}

/* ---- Which one ---------------------------------------------------------- */

bool hl_cursors_next(struct hl_cursors *c, uint32_t open_max,
                     struct hl_slice *out)
{
    uint64_t again = hl_cursors_again_first(c);

    if (again != UINT64_MAX) {
        take_again(c, again, out);
        return true;
    }
    if (c->run_max)
        return take_of_run(c, open_max, out);
    if (c->open_count < open_max)
        open_next(c);
    return take_turn(c, out);
}

bool hl_cursors_ready(const struct hl_cursors *c, uint32_t open_max)
{
    struct hl_range hole;
    size_t i;

    if (hl_cursors_again_first(c) != UINT64_MAX)
        return true;
    for (i = 0; i < c->open_count; i++) {
        const struct cursor *cur = &c->open[i];

        if (c->run_max ? run_ready(cur)
                       : next_of(c, cur, &hole) && is_near(c, cur, hole.begin))
            return true;
    }
    return c->open_count < open_max &&
           hl_ranges_next_hole(&c->done, c->fresh, c->size, &hole);
}

void hl_cursors_part_done(struct hl_cursors *c, uint64_t part)
{
    size_t i;

    for (i = 0; i < c->open_count && !c->chunk_is_part; i++)
        if (c->open[i].part == part) {
            close_at(c, i);
            return;
        }
}

void hl_cursors_set_size(struct hl_cursors *c, uint64_t size)
{
    size_t i;

    if (size >= c->size)
        return;
    c->size = size;
    /* Cuts the end of the last range, or takes whole ones: needs no memory. */
    (void)hl_ranges_remove(&c->again, size, HL_SIZE_UNKNOWN);
    for (i = c->open_count; i-- > 0 && !c->chunk_is_part;)
        if (hl_parts_begin(&c->parts, c->open[i].part) >= size)
            close_at(c, i);
}

bool hl_cursors_exhausted(const struct hl_cursors *c)
{
    struct hl_range hole;
    size_t i;

    if (c->size == HL_SIZE_UNKNOWN || c->again.count)
        return false;
    for (i = 0; i < c->open_count; i++)
        if (c->run_max ? c->open[i].pos < c->open[i].end
                       : next_of(c, &c->open[i], &hole))
            return false;
    return !hl_ranges_next_hole(&c->done, c->fresh, c->size, &hole);
}
