/*
 * Streams of driver "faulty": how an ordered part stays broken until the engine
 * comes back, what a LATE target loses then, and whether reads keep what they
 * said about their runs. Engine thread.
 */
#include "faulty.h"

/* ---- Broken parts ------------------------------------------------------- */

bool hl_faulty_is_stream(const struct faulty_op *f)
{
    return (f->obj->caps & HL_CAP_ORDERED) &&
           f->kind == (f->obj->base.role == HL_ROLE_SOURCE ? FAULTY_READ
                                                           : FAULTY_WRITE);
}

static struct faulty_break *find_break(const struct faulty_object *obj,
                                       uint64_t part)
{
    const struct hl_list *l = &obj->breaks;
    struct hl_node *n;

    for (n = hl_list_first(l); n; n = hl_list_next(l, n)) {
        struct faulty_break *b = HL_CONTAINER(n, struct faulty_break, node);

        if (obj->one_part || b->part == part)
            return b;
    }
    return NULL;
}

struct faulty_break *hl_faulty_break(const struct faulty_op *f)
{
    return find_break(f->obj, f->in.io.part);
}

void hl_faulty_break_free(struct faulty_break *b)
{
    hl_list_remove(&b->node);
    hl_free(b);
}

static uint64_t part_begin(const struct faulty_object *obj, uint64_t part)
{
    return obj->one_part ? 0 : hl_parts_begin(&obj->parts, part);
}

/* The connection of a part that is confirmed as a whole is gone. */
static void lose_part(struct faulty_object *obj, uint64_t part)
{
    uint64_t at = part_begin(obj, part);
    uint64_t end = obj->one_part ? UINT64_MAX : part_begin(obj, part + 1);
    struct hl_range r;

    while (hl_ranges_next(&obj->taken, at, &r) && r.begin < end) {
        struct hl_error error = {0};

        at = hl_min(r.end, end);
        hl_err(&error, HAUL_E_RESET, 0, "'faulty' lost a part");
        hl_ranges_remove(&obj->taken, r.begin, at);
        hl_object_lost(&obj->base, r.begin, at - r.begin, &error);
    }
}

static void note(struct faulty_object *obj, uint64_t part, uint64_t offset,
                 struct faulty_plan plan)
{
    struct faulty_break *b = find_break(obj, part);

    if (hl_faulty_is_late(obj)) {
        offset = part_begin(obj, part);
        lose_part(obj, part);
    }
    if (b) {
        b->offset = hl_min(b->offset, offset);
        b->plan = plan;
        return;
    }
    b = hl_malloc(sizeof(*b));
    if (!b)
        return; /* the inner driver will refuse the gap */
    b->part = part;
    b->offset = offset;
    b->plan = plan;
    hl_list_append(&obj->breaks, &b->node);
}

void hl_faulty_note_break(const struct faulty_op *f, struct faulty_plan plan)
{
    plan.len = 0; /* of those that follow nothing arrives */
    note(f->obj, f->in.io.part, f->in.io.offset, plan);
}

bool hl_faulty_is_broken(struct faulty_op *f)
{
    struct faulty_break *b = hl_faulty_break(f);

    if (b && f->in.io.offset > b->offset) {
        f->plan = b->plan;
        return true;
    }
    if (b)
        hl_faulty_break_free(b);
    return false;
}

void hl_faulty_lose_all(struct faulty_object *obj, struct faulty_plan plan)
{
    struct hl_range r;

    while (hl_ranges_next(&obj->taken, 0, &r))
        note(obj, obj->one_part ? 0 : hl_parts_index(&obj->parts, r.begin),
             r.begin, plan);
}

/* ---- What arrives in spite of a break ----------------------------------- */

uint32_t hl_faulty_arrives(const struct faulty_op *f)
{
    struct faulty_object *obj = f->obj;

    if (f->kind != FAULTY_WRITE || !obj->opts.cut ||
        !(obj->caps & HL_CAP_TELLS) || (obj->caps & HL_CAP_LATE) ||
        hl_random_below(&obj->random, FAULTY_RATE_ONE) >= obj->opts.cut)
        return 0;
    return 1 + (uint32_t)hl_random_below(&obj->random, f->in.io.len);
}

bool hl_faulty_is_quiet(struct faulty_object *obj, uint64_t offset,
                        uint64_t len)
{
    if (!len || !hl_ranges_contains(&obj->quiet, offset, offset + len))
        return false;
    hl_ranges_remove(&obj->quiet, offset, offset + len);
    return true;
}

/* ---- Runs --------------------------------------------------------------- */

bool hl_faulty_run_fits(struct faulty_object *obj, const struct hl_io *io)
{
    uint64_t end = io->offset + io->len;
    struct faulty_run *run;
    struct hl_node *n;

    if (io->run_end < end)
        return false;
    for (n = hl_list_first(&obj->runs); n; n = hl_list_next(&obj->runs, n)) {
        run = HL_CONTAINER(n, struct faulty_run, node);
        if (end <= run->next || io->offset >= run->end)
            continue; /* was read before, or is elsewhere */
        if (io->offset != run->next || io->run_end != run->end)
            return false;
        run->next = end;
        if (end == run->end) {
            hl_list_remove(&run->node);
            hl_free(run);
        }
        return true;
    }
    run = io->run_end > end ? hl_malloc(sizeof(*run)) : NULL;
    if (run) {
        run->next = end;
        run->end = io->run_end;
        hl_list_append(&obj->runs, &run->node);
    }
    return true;
}

void hl_faulty_parts_free(struct faulty_object *obj)
{
    struct hl_node *n;

    while ((n = hl_list_first(&obj->breaks)) != NULL)
        hl_faulty_break_free(HL_CONTAINER(n, struct faulty_break, node));
    while ((n = hl_list_pop(&obj->runs)) != NULL)
        hl_free(HL_CONTAINER(n, struct faulty_run, node));
}
