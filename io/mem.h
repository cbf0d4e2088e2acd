/* The knobs of driver "mem"; what they mean stands in mem.c. */
#ifndef HL_MEM_H
#define HL_MEM_H

#include "io.h"

enum mem_kind { MEM_GEN, MEM_BUF, MEM_NULL };

struct mem_knobs {
    enum mem_kind kind;
    uint64_t size; /* UINT64_MAX: not given */
    uint64_t seed, part, streams, rtt_ns;
    uint64_t text, seek, unknown, ordered, late, durable, digest; /* 0, 1 */
};

/* HAUL_E_INVAL; *k is zeroed by the caller. */
int hl_mem_url_parse(const struct hl_url *url, enum hl_role role,
                     struct mem_knobs *k, struct hl_error *err);

#endif /* HL_MEM_H */
