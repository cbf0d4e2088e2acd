/* The options of driver "faulty"; what they mean stands in faulty.c. */
#ifndef HL_FAULTY_H
#define HL_FAULTY_H

#include "io.h"
#include "random.h"
#include "ranges.h"
#include "url.h"

#define FAULTY_RATE_ONE UINT64_C(1000000000000)

enum faulty_kind {
    FAULTY_STAT,
    FAULTY_OPEN,
    FAULTY_READ,
    FAULTY_WRITE,
    FAULTY_SYNC,
    FAULTY_COMMIT,
    FAULTY_SUSPEND,
    FAULTY_DISCARD,
    FAULTY_DIGEST,
    FAULTY_COUNT
};

/* Rates in parts of FAULTY_RATE_ONE. */
struct faulty_options {
    uint64_t seed, after, delay_us, once;
    uint64_t error[FAULTY_COUNT];
    uint64_t shorter, flip, lost, hang, reorder, dup, commit_lost, cut;
};

/* Takes "OPTIONS:INNER" apart. HAUL_E_INVAL. On success the caller finishes
 * inner. */
int hl_faulty_url_parse(const struct hl_url *url, struct faulty_options *o,
                        struct hl_url *inner, struct hl_error *err);

/* ---- Inside of the driver; engine thread -------------------------------- */

struct faulty_object {
    struct hl_object base;
    struct hl_object *inner;
    struct faulty_options opts;
    struct hl_random random;
    uint64_t bytes; /* read and written so far */
    bool spent;     /* once=1 happened */
    bool aborting;
    uint32_t caps;
    bool one_part;          /* ordered as a whole */
    struct hl_parts parts;  /* of a target */
    uint64_t last_ns;       /* ordered: when the latest operation starts */
    struct hl_list delayed; /* struct faulty_op, timer set */
    struct hl_list hung;    /* struct faulty_op */
    struct hl_list breaks;  /* struct faulty_break */
    struct hl_list acks;    /* struct faulty_ack */
    struct hl_list runs;    /* struct faulty_run */
    struct hl_ranges held;  /* acknowledgements that hang */
    struct hl_ranges taken; /* LATE: and neither acknowledged nor lost */
    struct hl_ranges quiet; /* arrived with a write that failed: nobody hears
                             * of it */
    struct hl_op abort_op;
    struct hl_op *abort_outer;
};

/* What will go wrong with an operation. */
struct faulty_plan {
    int code;
    bool hang;
    uint32_t len;  /* short read; 0: all. Of a write that fails: arrives */
    uint64_t flip; /* which bit, modulo those that came; 0: none */
};

struct faulty_op {
    struct hl_node node;
    struct hl_timer timer;
    struct faulty_object *obj;
    struct hl_op *outer;
    enum faulty_kind kind;
    struct faulty_plan plan;
    const char *token;
    union {
        struct hl_op op;
        struct hl_stat stat;
        struct hl_open open;
        struct hl_io io;
        struct hl_commit commit;
        struct hl_suspend suspend;
        struct hl_remote_digest digest;
    } in;
};

/* The engine has said that it goes on reading at next, up to end. */
struct faulty_run {
    struct hl_node node;
    uint64_t next, end;
};

/* The stream of a part is broken behind offset. */
struct faulty_break {
    struct hl_node node;
    uint64_t part, offset;
    struct faulty_plan plan;
};

struct faulty_ack {
    struct hl_node node;
    struct hl_timer timer;
    struct faulty_object *obj;
    uint64_t offset, len;
};

static inline bool hl_faulty_is_late(const struct faulty_object *obj)
{
    return obj->base.role == HL_ROLE_TARGET && (obj->caps & HL_CAP_LATE);
}

/* Does a fault of this rate happen now? */
bool hl_faulty_roll(struct faulty_object *obj, uint64_t rate);
void hl_faulty_lost(struct faulty_object *obj, uint64_t offset, uint64_t len);

/* faulty_part.c: broken parts of ordered objects, and runs. */

bool hl_faulty_is_stream(const struct faulty_op *f);
/* A write fails: does some of it arrive all the same, and how much? */
uint32_t hl_faulty_arrives(const struct faulty_op *f);
/* An acknowledgement of what has so arrived. */
bool hl_faulty_is_quiet(struct faulty_object *obj, uint64_t offset,
                        uint64_t len);
/* The break of f's part, or NULL. */
struct faulty_break *hl_faulty_break(const struct faulty_op *f);
void hl_faulty_break_free(struct faulty_break *b);
/* f does not reach the inner driver; what follows it must not either. */
void hl_faulty_note_break(const struct faulty_op *f, struct faulty_plan plan);
/* A read or write of an ordered object is planned: true when an earlier break
 * has decided. */
bool hl_faulty_is_broken(struct faulty_op *f);
/* LATE: the connections are gone, and with them what was taken. */
void hl_faulty_lose_all(struct faulty_object *obj, struct faulty_plan plan);
/* Does a read keep what earlier ones said about their runs? */
bool hl_faulty_run_fits(struct faulty_object *obj, const struct hl_io *io);
void hl_faulty_parts_free(struct faulty_object *obj);

#endif /* HL_FAULTY_H */
