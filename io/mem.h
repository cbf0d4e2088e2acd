/* The knobs of driver "mem"; what they mean stands in mem.c. */
#ifndef HL_MEM_H
#define HL_MEM_H

#include <pthread.h>

#include "io.h"
#include "ranges.h"

enum mem_kind { MEM_GEN, MEM_BUF, MEM_NULL };

struct mem_knobs {
    enum mem_kind kind;
    uint64_t size; /* UINT64_MAX: not given */
    uint64_t seed, part, grow, part_max, streams, rtt_ns, runs, forget, claim;
    uint64_t offer; /* 0 to 2 */
    uint64_t text, seek, unknown, weak, ordered, late, durable, digest, refuse,
        mute, blind, tells, notes, report, gone; /* 0, 1 */
};

/* HAUL_E_INVAL; *k is zeroed by the caller. */
int hl_mem_url_parse(const struct hl_url *url, enum hl_role role,
                     struct mem_knobs *k, struct hl_error *err);

/* The note of a part: as it was kept, as it was asked for last. */
struct mem_note {
    uint64_t part;
    char saved[48], asked[48];
    uint64_t gone; /* the part was forgotten */
};

/* What a target has and wants to know again, under lock; beside the buffer
 * stands all but written. */
struct mem_memory {
    pthread_mutex_t lock;
    struct hl_ranges had;
    struct mem_note *notes;
    size_t note_count, note_room;
    uint64_t asked;   /* notes ever */
    uint64_t written; /* bytes, since it was opened */
    bool forgot;
};

struct mem_object {
    struct hl_object base;
    /* Written before the first operation, read by anyone. */
    struct mem_knobs knobs;
    char *name;
    /* Engine thread. */
    struct hl_list delays;
    struct hl_open *waiting; /* for token_saved() */
    struct hl_list note_waits;
    char *discard;       /* name that a discard under way removes */
    atomic_bool aborted; /* set there, read by the worker */
    /* Before the first write by the engine thread, then the worker. */
    char *work; /* buffer that is written */
    bool in_place, fresh, create;
    bool lost; /* it has forgotten something, and says nothing else */
    struct hl_parts cut;
    struct mem_memory memory;
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

/* Is there a buffer that outlives the object? One request that is all or
 * nothing leaves none. */
static inline bool hl_mem_keeps(const struct mem_object *obj)
{
    return obj->base.role == HL_ROLE_TARGET && obj->knobs.kind == MEM_BUF &&
           !(hl_mem_is_late(obj) && obj->knobs.part == 0);
}

/* ---- mem_write.c -------------------------------------------------------- */

void hl_mem_finish(struct mem_object *obj, struct hl_op *op, int rc);
/* First thing in what runs on the worker: which object, and is it worth it? */
bool hl_mem_begin(struct hl_op *op, struct mem_object **obj);
void hl_mem_do_write(struct hl_task *task);

/* ---- mem_tells.c -------------------------------------------------------- */

void hl_mem_memory_init(struct mem_memory *m);
void hl_mem_memory_fini(struct mem_memory *m);

/* Worker. The buffer is there; fresh: it was made for this. Sets confirmed and
 * HL_CAP_TELLS; HAUL_E_RESUME: the notes are not those that were kept. */
int hl_mem_tells_open(struct mem_object *obj, struct hl_open *op, bool fresh);
/* How many bytes from offset on it has already. */
uint32_t hl_mem_tells_had(struct mem_object *obj, uint64_t offset,
                          uint32_t len);
/* It has these from now on; it has nothing behind size. */
int hl_mem_tells_got(struct mem_object *obj, uint64_t begin, uint64_t end);
void hl_mem_tells_cut(struct mem_object *obj, uint64_t size);
/* Has it everything? Forgets what it remembered beside the buffer. */
int hl_mem_tells_commit(struct mem_object *obj, uint64_t size,
                        struct hl_error *err);
/* A write of len bytes comes. true: that was too much, it lost something. */
bool hl_mem_tells_forget(struct mem_object *obj, uint32_t len);

/* Engine thread. May the write begin, or is its part's note kept first? Those
 * that are held come back from hl_mem_note_kept(), in order, with what is to
 * become of them, or from hl_mem_notes_drop(). */
enum mem_hold { MEM_GO, MEM_HELD, MEM_NO_MEMORY };
enum mem_hold hl_mem_note_hold(struct mem_object *obj, struct hl_io *io);
int hl_mem_note_kept(struct mem_object *obj, uint64_t part, int rc,
                     struct hl_list *writes);
void hl_mem_notes_drop(struct mem_object *obj, struct hl_list *writes);

/* ---- mem_part.c: worker ------------------------------------------------- */

/* Notes that op writes to its part, or refuses. */
int hl_mem_part_enter(struct mem_object *obj, struct hl_io *op);
/* op was written and handed back; io is a copy of it. */
void hl_mem_part_written(struct mem_object *obj, const struct hl_io *io);
/* Reports what late=1 held back: acked when code is 0, else lost. */
void hl_mem_parts_settle(struct mem_object *obj, int code);
void hl_mem_parts_free(struct mem_object *obj);

#endif /* HL_MEM_H */
