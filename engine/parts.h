/*
 * How an object is cut into parts: what a target finishes on its own (an S3
 * part, one tus upload of several). Pure.
 *
 * Parts are of one size, or grow: of the first `grow` parts each has `size`
 * bytes, of the next `grow` each has 2 * size, then 3 * size and so on up to
 * size_max. That is for objects of unknown length at targets that count parts.
 * The last part is what is left. Everybody who asks where a part begins asks
 * here, so that a table of sizes (parts of compressed frames, DESIGN 4.8) can
 * take the place of the rule.
 */
#ifndef HL_PARTS_H
#define HL_PARTS_H

#include "base.h"

struct hl_parts {
    uint64_t size;     /* 0: there are no parts but the chunks, or (ORDERED)
                        * the whole object */
    uint32_t grow;     /* 0: they do not */
    uint64_t size_max; /* with grow: at least size, a multiple of it */
};

/* Of the part that holds offset; size > 0 in all of them. */
uint64_t hl_parts_index(const struct hl_parts *p, uint64_t offset);
/* Its first byte (UINT64_MAX when it is farther than any byte can be), and its
 * length were the object long enough. */
uint64_t hl_parts_begin(const struct hl_parts *p, uint64_t part);
uint64_t hl_parts_len(const struct hl_parts *p, uint64_t part);
/* The longest there is. */
uint64_t hl_parts_len_max(const struct hl_parts *p);

#endif /* HL_PARTS_H */
