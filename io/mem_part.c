/*
 * Parts of a "mem" target, and when it acknowledges them: mem.c says what the
 * knobs do. Runs where mem.c does its work, usually on the worker.
 */
#include <inttypes.h>
#include <string.h>

#include "mem.h"

/* A part that is being written. */
struct mem_part {
    struct hl_node node;
    uint64_t index;
    uint64_t next; /* ordered: end of what was written; 0 nothing yet */
    uint64_t end;  /* 0: not known yet */
    bool flushed;  /* late: a sync went by; what comes is acked at once */
};

/* Is nothing of a part acknowledged before all of it was written? */
static bool by_part(const struct mem_object *obj)
{
    return obj->knobs.late && (obj->cut.size || obj->knobs.ordered);
}

static struct mem_part *part_get(struct mem_object *obj, uint64_t index)
{
    struct mem_part *p;
    struct hl_node *n;

    for (n = hl_list_first(&obj->parts); n; n = hl_list_next(&obj->parts, n)) {
        p = HL_CONTAINER(n, struct mem_part, node);
        if (p->index == index)
            return p;
    }
    p = hl_malloc(sizeof(*p));
    if (!p)
        return NULL;
    p->index = index;
    hl_list_append(&obj->parts, &p->node);
    return p;
}

static void part_free(struct mem_part *p)
{
    hl_list_remove(&p->node);
    hl_free(p);
}

static uint64_t part_index(const struct mem_object *obj, const struct hl_io *io)
{
    return obj->cut.size ? io->part : 0;
}

static uint64_t part_begin(const struct mem_object *obj, uint64_t index)
{
    return obj->cut.size ? hl_parts_begin(&obj->cut, index) : 0;
}

/* A request begins, for the first time or again: what was written is gone. */
static int begin_request(struct mem_object *obj, struct mem_part *p,
                         const struct hl_io *op)
{
    uint64_t begin = part_begin(obj, p->index);

    if (op->offset != begin)
        return 0;
    p->next = op->offset;
    p->end = 0;
    return hl_ranges_remove(
        &obj->taken, begin,
        obj->cut.size ? begin + hl_parts_len(&obj->cut, p->index) : UINT64_MAX);
}

/* Going back is allowed, a gap is not; in a request neither is. */
int hl_mem_part_enter(struct mem_object *obj, struct hl_io *op)
{
    struct mem_part *p;

    if (!obj->knobs.ordered && !by_part(obj))
        return 0;
    p = part_get(obj, part_index(obj, op));
    if (!p || (hl_mem_is_late(obj) && begin_request(obj, p, op)))
        return hl_err(&op->op.error, HAUL_E_NOMEM, 0, "out of memory");
    if (hl_mem_is_late(obj)
            ? op->offset != p->next
            : obj->knobs.ordered && p->next && op->offset > p->next)
        return hl_err(&op->op.error, HAUL_E_INVAL, 0,
                      "write at %" PRIu64 " of '%s' leaves a gap", op->offset,
                      obj->name);
    p->next = hl_max(p->next, op->offset + op->len);
    if (op->part_end)
        p->end = op->offset + op->len;
    return 0;
}

/* Every byte of the part is there. */
static void part_whole(struct mem_object *obj, struct mem_part *p)
{
    static char stored[] = "stored\n", refused[] = "too large\n";
    uint64_t first = part_begin(obj, p->index), len = p->end - first;
    bool refuse = obj->knobs.refuse && hl_mem_is_late(obj);
    struct hl_error error = {0};

    obj->answer.status = refuse ? 413 : 201;
    obj->answer.body = refuse ? refused : stored;
    obj->answer.body_len = strlen(obj->answer.body);
    if (!hl_mem_is_late(obj) && hl_ranges_add(&obj->whole, first, p->end))
        p->flushed = true;
    if (refuse) {
        hl_err(&error, HAUL_E_REMOTE, 0, "'%s' is too large", obj->name);
        hl_object_lost(&obj->base, first, len, &error);
    } else if (hl_mem_is_late(obj) && hl_mem_tells_got(obj, first, p->end)) {
        hl_err(&error, HAUL_E_NOMEM, 0, "out of memory");
        hl_object_lost(&obj->base, first, len, &error);
    } else {
        hl_object_acked(&obj->base, first, len);
    }
    hl_ranges_remove(&obj->taken, first, p->end);
    if (!p->flushed)
        part_free(p);
}

void hl_mem_part_written(struct mem_object *obj, const struct hl_io *io)
{
    struct hl_error error = {0};
    struct mem_part *p;

    if (!obj->knobs.ordered && !by_part(obj)) {
        hl_object_acked(&obj->base, io->offset, io->len);
        return;
    }
    p = part_get(obj, part_index(obj, io));
    HL_ASSERT(p); /* hl_mem_part_enter() made it */
    if (!by_part(obj) || p->flushed ||
        hl_ranges_contains(&obj->whole, io->offset, io->offset + io->len)) {
        hl_object_acked(&obj->base, io->offset, io->len);
        if (io->part_end && !obj->knobs.late)
            part_free(p);
        return;
    }
    if (hl_ranges_add(&obj->taken, io->offset, io->offset + io->len)) {
        hl_err(&error, HAUL_E_NOMEM, 0, "out of memory");
        hl_object_lost(&obj->base, io->offset, io->len, &error);
        return;
    }
    if (p->end &&
        hl_ranges_contains(&obj->taken, part_begin(obj, p->index), p->end))
        part_whole(obj, p);
}

void hl_mem_parts_free(struct mem_object *obj)
{
    while (hl_list_first(&obj->parts))
        part_free(
            HL_CONTAINER(hl_list_first(&obj->parts), struct mem_part, node));
}

void hl_mem_parts_settle(struct mem_object *obj, int code)
{
    struct hl_error error = {0};
    struct hl_node *n;
    size_t i;

    if (code)
        hl_err(&error, code, 0, "%s", haul_err_text(code));
    for (i = 0; i < obj->taken.count; i++) {
        const struct hl_range *r = &obj->taken.r[i];

        if (code)
            hl_object_lost(&obj->base, r->begin, r->end - r->begin, &error);
        else
            hl_object_acked(&obj->base, r->begin, r->end - r->begin);
    }
    hl_ranges_clear(&obj->taken);
    for (n = hl_list_first(&obj->parts); n; n = hl_list_next(&obj->parts, n))
        HL_CONTAINER(n, struct mem_part, node)->flushed = true;
}
