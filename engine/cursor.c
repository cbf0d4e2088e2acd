/*
 * Which chunk comes next.
 *
 * Nothing here grows with the number of chunks: an open part is a position,
 * what an earlier run has done is a set of ranges that is searched, never
 * walked. With part_size 0 the whole object is one part that is always open.
 * Pure; engine thread.
 */
#include "cursor.h"

#include <string.h>

struct cursor {
    uint64_t part;
    uint64_t pos; /* the part's next new chunk begins here or behind */
};

struct hl_cursors {
    uint64_t size; /* or HL_SIZE_UNKNOWN */
    uint64_t chunk_size;
    uint64_t part_size; /* HL_SIZE_UNKNOWN: one part, the object */
    bool chunk_is_part; /* configured with part_size 0 */

    struct hl_ranges done; /* whole chunks that are not handed out */
    struct cursor *open;
    size_t open_count, open_capacity;
    size_t turn;    /* index into open: whose turn it is */
    uint64_t fresh; /* parts that begin here or behind were never open */
};

static uint64_t part_begin(const struct hl_cursors *c, uint64_t part)
{
    return part * c->part_size;
}

static uint64_t part_end(const struct hl_cursors *c, uint64_t part)
{
    uint64_t begin = part_begin(c, part);

    HL_ASSERT(begin <= c->size);
    return begin + hl_min(c->part_size, c->size - begin);
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
    c->open[c->open_count++] = (struct cursor){part, pos};
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
    s.part = s.offset / (c->chunk_is_part ? c->chunk_size : c->part_size);
    s.len = (uint32_t)hl_min(c->chunk_size, c->size - s.offset);
    s.part_end = c->chunk_is_part || s.offset + s.len == part_end(c, s.part);
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

int hl_cursors_new(const struct hl_cursors_config *config,
                   const struct hl_ranges *done, struct hl_cursors **out)
{
    uint64_t part_size = config->part_size;
    struct hl_cursors *c;

    if (config->chunk_size == 0 || config->chunk_size > UINT32_MAX)
        return HAUL_E_INVAL;
    if (part_size % config->chunk_size && part_size < config->size)
        return HAUL_E_INVAL;
    c = hl_malloc(sizeof(*c));
    if (!c)
        return HAUL_E_NOMEM;
    c->size = config->size;
    c->chunk_size = config->chunk_size;
    c->chunk_is_part = part_size == 0;
    c->part_size = c->chunk_is_part ? HL_SIZE_UNKNOWN : part_size;
    hl_ranges_init(&c->done);
    c->open_capacity = 8;
    c->open = hl_calloc(c->open_capacity, sizeof(c->open[0]));
    if (!c->open || (done && copy_done(c, done))) {
        hl_cursors_free(c);
        return HAUL_E_NOMEM;
    }
    if (c->chunk_is_part) {
        c->open[c->open_count++] = (struct cursor){0, 0};
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
    part = hole.begin / c->part_size;
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

static bool take_turn(struct hl_cursors *c, struct hl_slice *out)
{
    struct hl_range hole;
    size_t i;

    for (i = 0; i < c->open_count; i++) {
        size_t at = (c->turn + i) % c->open_count;

        if (!next_of(c, &c->open[at], &hole))
            continue;
        *out = chunk_at(c, hole.begin);
        HL_ASSERT(out->offset == hole.begin);
        c->open[at].pos = out->offset + out->len;
        c->turn = (at + 1) % c->open_count;
        return true;
    }
    return false;
}

bool hl_cursors_next(struct hl_cursors *c, uint32_t open_max,
                     struct hl_slice *out)
{
    if (c->open_count < open_max)
        open_next(c);
    return take_turn(c, out);
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
    for (i = c->open_count; i-- > 0 && !c->chunk_is_part;)
        if (part_begin(c, c->open[i].part) >= size)
            close_at(c, i);
}

bool hl_cursors_exhausted(const struct hl_cursors *c)
{
    struct hl_range hole;
    size_t i;

    if (c->size == HL_SIZE_UNKNOWN)
        return false;
    for (i = 0; i < c->open_count; i++)
        if (next_of(c, &c->open[i], &hole))
            return false;
    return !hl_ranges_next_hole(&c->done, c->fresh, c->size, &hole);
}
