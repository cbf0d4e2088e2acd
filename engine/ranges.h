/* A set of bytes as sorted, disjoint, non-touching ranges [begin, end).
 * Pure; not locked. */
#ifndef HL_RANGES_H
#define HL_RANGES_H

#include "base.h"

struct hl_range {
    uint64_t begin, end;
};
struct hl_ranges {
    struct hl_range *r;
    size_t count, capacity;
    uint64_t bytes; /* sum of the lengths */
};

void hl_ranges_init(struct hl_ranges *s);
void hl_ranges_fini(struct hl_ranges *s);
void hl_ranges_clear(struct hl_ranges *s);

/* Adding what is there and removing what is not are no errors; an empty range
 * (begin >= end) changes nothing. HAUL_E_NOMEM leaves the set unchanged. */
int hl_ranges_add(struct hl_ranges *s, uint64_t begin, uint64_t end);
int hl_ranges_remove(struct hl_ranges *s, uint64_t begin, uint64_t end);

/* Every byte of [begin, end) is in the set; true for an empty range. */
bool hl_ranges_contains(const struct hl_ranges *s, uint64_t begin,
                        uint64_t end);
/* Bytes of [begin, end) that are in the set. */
uint64_t hl_ranges_overlap(const struct hl_ranges *s, uint64_t begin,
                           uint64_t end);
/* End of the prefix [0, mark) without holes; 0 when byte 0 is not there. */
uint64_t hl_ranges_contiguous(const struct hl_ranges *s);
/* First range that ends after from, cut to begin at from; false: none. */
bool hl_ranges_next(const struct hl_ranges *s, uint64_t from,
                    struct hl_range *out);
/* First hole of [0, size) at or after from; false: none. */
bool hl_ranges_next_hole(const struct hl_ranges *s, uint64_t from,
                         uint64_t size, struct hl_range *out);

#endif /* HL_RANGES_H */
