/* Where parts begin. See parts.h. */
#include "parts.h"

/* Of group g, the parts g * grow up to (g + 1) * grow, which are as long as
 * each other. */
static uint64_t group_len(const struct hl_parts *p, uint64_t g)
{
    uint64_t last = p->size_max / p->size;

    HL_ASSERT(last > 0);
    return g >= last ? p->size_max : (g + 1) * p->size;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    return a && b > UINT64_MAX / a ? UINT64_MAX : a * b;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t hl_parts_index(const struct hl_parts *p, uint64_t offset)
{
    uint64_t g = 0, len;

    HL_ASSERT(p->size);
    if (!p->grow)
        return offset / p->size;
    /* Groups are few: at most size_max / size before the lengths stay. */
    for (;; g++) {
        len = group_len(p, g);
        if (len == p->size_max || offset / len < p->grow)
            return g * p->grow + offset / len;
        offset -= len * p->grow;
    }
}

uint64_t hl_parts_len(const struct hl_parts *p, uint64_t part)
{
    HL_ASSERT(p->size);
    return p->grow ? group_len(p, part / p->grow) : p->size;
}

uint64_t hl_parts_begin(const struct hl_parts *p, uint64_t part)
{
    uint64_t at = 0, g = 0;

    HL_ASSERT(p->size);
    if (!p->grow)
        return times(part, p->size);
    for (; part >= p->grow && group_len(p, g) != p->size_max; g++) {
        at = plus(at, times(p->grow, group_len(p, g)));
        part -= p->grow;
    }
    return plus(at, times(part, group_len(p, g)));
}

uint64_t hl_parts_len_max(const struct hl_parts *p)
{
    return p->grow ? p->size_max : p->size;
}
