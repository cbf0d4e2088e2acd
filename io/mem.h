/* The knobs of driver "mem"; what they mean stands in mem.c. */
#ifndef HL_MEM_H
#define HL_MEM_H

#include "io.h"
#include "ranges.h"

enum mem_kind { MEM_GEN, MEM_BUF, MEM_NULL };

struct mem_knobs {
    enum mem_kind kind;
    uint64_t size; /* UINT64_MAX: not given */
    uint64_t seed, part, streams, rtt_ns, runs;
    uint64_t offer; /* 0 to 2 */
    uint64_t text, seek, unknown, weak, ordered, late, durable, digest, refuse,
        mute; /* 0, 1 */
};

/* HAUL_E_INVAL; *k is zeroed by the caller. */
int hl_mem_url_parse(const struct hl_url *url, enum hl_role role,
                     struct mem_knobs *k, struct hl_error *err);

struct mem_object {
    struct hl_object base;
    /* Written before the first operation, read by anyone. */
    struct mem_knobs knobs;
    char *name;
    /* Engine thread. */
    struct hl_list delays;
    struct hl_open *waiting; /* for token_saved() */
    char *discard;           /* name that a discard under way removes */
    atomic_bool aborted;     /* set there, read by the worker */
    /* Before the first write by the engine thread, then the worker. */
    char *work; /* buffer that is written */
    bool in_place, fresh, create;
    uint64_t part_size;
    struct hl_list parts;
    struct hl_ranges taken; /* late: not acknowledged yet */
    struct hl_ranges whole; /* late: parts acknowledged; what is written to
                             * them again is so at once */
    uint64_t next;          /* seek=0, digest=1: where we are */
    void *xxh;              /* XXH3_state_t */
    struct hl_answer answer;
};

/* Does it acknowledge parts as a whole, and is it told their order? That is
 * HL_CAP_LATE. */
static inline bool hl_mem_is_late(const struct mem_object *obj)
{
    return obj->base.role == HL_ROLE_TARGET && obj->knobs.late &&
           obj->knobs.ordered;
}

/* ---- mem_part.c: worker ------------------------------------------------- */

/* Notes that op writes to its part, or refuses. */
int hl_mem_part_enter(struct mem_object *obj, struct hl_io *op);
/* op was written and handed back; io is a copy of it. */
void hl_mem_part_written(struct mem_object *obj, const struct hl_io *io);
/* Reports what late=1 held back: acked when code is 0, else lost. */
void hl_mem_parts_settle(struct mem_object *obj, int code);
void hl_mem_parts_free(struct mem_object *obj);

#endif /* HL_MEM_H */
