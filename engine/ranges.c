/*
 * A set of bytes as a sorted array of ranges.
 *
 * A transfer has few ranges (what is in flight, and the holes of an earlier
 * run), so an array with binary search beats any tree. Pure; no threads.
 */
#include "ranges.h"

#include <string.h>

void hl_ranges_init(struct hl_ranges *s)
{
    memset(s, 0, sizeof(*s));
}

void hl_ranges_fini(struct hl_ranges *s)
{
    hl_free(s->r);
    hl_ranges_init(s);
}

void hl_ranges_clear(struct hl_ranges *s)
{
    s->count = 0;
    s->bytes = 0;
}

/* Index of the first range that ends after x; count when there is none. */
static size_t first_after(const struct hl_ranges *s, uint64_t x)
{
    size_t low = 0;
    size_t high = s->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (s->r[mid].end > x)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static int insert_at(struct hl_ranges *s, size_t i, uint64_t begin,
                     uint64_t end)
{
    HL_ASSERT(i <= s->count);
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 8;
        struct hl_range *r = hl_realloc(s->r, capacity * sizeof(*r));

        if (!r)
            return HAUL_E_NOMEM;
        s->r = r;
        s->capacity = capacity;
    }
    memmove(&s->r[i + 1], &s->r[i], (s->count - i) * sizeof(s->r[0]));
    s->r[i] = (struct hl_range){begin, end};
    s->count++;
    return 0;
}

/* Takes the ranges [from, to) out of the array. */
static void erase(struct hl_ranges *s, size_t from, size_t to)
{
    HL_ASSERT(from <= to && to <= s->count);
    memmove(&s->r[from], &s->r[to], (s->count - to) * sizeof(s->r[0]));
    s->count -= to - from;
}

int hl_ranges_add(struct hl_ranges *s, uint64_t begin, uint64_t end)
{
    size_t first, last;

    if (begin >= end)
        return 0;
    /* A range that ends exactly at begin touches and is merged. */
    first = begin ? first_after(s, begin - 1) : 0;
    if (first == s->count || s->r[first].begin > end) {
        int rc = insert_at(s, first, begin, end);

        if (!rc)
            s->bytes += end - begin;
        return rc;
    }
    begin = hl_min(begin, s->r[first].begin);
    for (last = first; last < s->count && s->r[last].begin <= end; last++) {
        s->bytes -= s->r[last].end - s->r[last].begin;
        end = hl_max(end, s->r[last].end);
    }
    s->r[first] = (struct hl_range){begin, end};
    s->bytes += end - begin;
    erase(s, first + 1, last);
    return 0;
}

int hl_ranges_remove(struct hl_ranges *s, uint64_t begin, uint64_t end)
{
    size_t first, last;

    if (begin >= end)
        return 0;
    first = first_after(s, begin);
    if (first == s->count || s->r[first].begin >= end)
        return 0;
    if (s->r[first].begin < begin && s->r[first].end > end) {
        int rc = insert_at(s, first + 1, end, s->r[first].end);

        if (rc)
            return rc;
        s->r[first].end = begin;
        s->bytes -= end - begin;
        return 0;
    }
    if (s->r[first].begin < begin) {
        s->bytes -= s->r[first].end - begin;
        s->r[first].end = begin;
        first++;
    }
    for (last = first; last < s->count && s->r[last].end <= end; last++)
        s->bytes -= s->r[last].end - s->r[last].begin;
    if (last < s->count && s->r[last].begin < end) {
        s->bytes -= end - s->r[last].begin;
        s->r[last].begin = end;
    }
    erase(s, first, last);
    return 0;
}

bool hl_ranges_contains(const struct hl_ranges *s, uint64_t begin, uint64_t end)
{
    size_t i;

    if (begin >= end)
        return true;
    i = first_after(s, begin);
    return i < s->count && s->r[i].begin <= begin && s->r[i].end >= end;
}

uint64_t hl_ranges_overlap(const struct hl_ranges *s, uint64_t begin,
                           uint64_t end)
{
    uint64_t bytes = 0;
    size_t i;

    if (begin >= end)
        return 0;
    for (i = first_after(s, begin); i < s->count && s->r[i].begin < end; i++)
        bytes += hl_min(s->r[i].end, end) - hl_max(s->r[i].begin, begin);
    return bytes;
}

uint64_t hl_ranges_contiguous(const struct hl_ranges *s)
{
    return s->count && s->r[0].begin == 0 ? s->r[0].end : 0;
}

bool hl_ranges_next(const struct hl_ranges *s, uint64_t from,
                    struct hl_range *out)
{
    size_t i = first_after(s, from);

    if (i == s->count)
        return false;
    out->begin = hl_max(s->r[i].begin, from);
    out->end = s->r[i].end;
    return true;
}

bool hl_ranges_next_hole(const struct hl_ranges *s, uint64_t from,
                         uint64_t size, struct hl_range *out)
{
    size_t i = first_after(s, from);

    if (i < s->count && s->r[i].begin <= from)
        from = s->r[i++].end; /* ranges do not touch: a hole begins here */
    if (from >= size)
        return false;
    out->begin = from;
    out->end = i < s->count ? hl_min(s->r[i].begin, size) : size;
    return true;
}
