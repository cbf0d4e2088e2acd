/* Writes of a "mem" target. Runs where mem.c does its work, usually on the
 * worker. */
#include <xxhash.h>

#include "mem.h"
#include "membuf.h"

void hl_mem_finish(struct mem_object *obj, struct hl_op *op, int rc)
{
    hl_op_finish(obj->base.endpoint->env->loop, op, rc);
}

bool hl_mem_begin(struct hl_op *op, struct mem_object **obj)
{
    *obj = op->driver_data;
    if (!atomic_load(&(*obj)->aborted) && !(*obj)->lost)
        return true;
    hl_mem_finish(*obj, op, (*obj)->lost ? HAUL_E_LOST : HAUL_E_CANCELED);
    return false;
}

/* ---- Bytes -------------------------------------------------------------- */

static int write_buf(struct mem_object *obj, struct hl_io *op)
{
    uint64_t offset = op->offset;
    uint32_t len = op->len, had = hl_mem_tells_had(obj, offset, len);
    int rc = 0;

    op->skipped = had;
    if (had < len)
        rc = hl_membuf_write(obj->work, offset + had, op->data + had, len - had,
                             obj->knobs.size, &op->op.error);
    if (!rc && !hl_mem_is_late(obj))
        rc = hl_mem_tells_got(obj, offset, offset + len);
    return rc;
}

/* The connection is cut in the middle of a write. */
static void write_some(struct mem_object *obj, const struct hl_io *op)
{
    struct hl_io some = *op;

    some.len /= 3;
    some.part_end = false;
    if (obj->lost || !obj->knobs.tells || !hl_mem_keeps(obj) ||
        hl_mem_is_late(obj) || !some.len || hl_mem_part_enter(obj, &some))
        return;
    write_buf(obj, &some);
}

static void forget(struct mem_object *obj, struct hl_io *op)
{
    struct hl_error error = {0};
    uint64_t offset = op->offset, len = op->len;
    int code = hl_err(&error, HAUL_E_LOST, 0, "'%s' lost some of what it had",
                      obj->name);

    obj->lost = true;
    if (!obj->knobs.report) {
        op->op.error = error;
        hl_mem_finish(obj, &op->op, code);
        return;
    }
    hl_mem_finish(obj, &op->op, 0);
    hl_object_lost(&obj->base, offset, len, &error);
}

void hl_mem_do_write(struct hl_task *task)
{
    struct hl_io *op = HL_CONTAINER(task, struct hl_io, op.task), copy;
    struct mem_object *obj = op->op.driver_data;
    int rc;

    op->skipped = 0;
    if (atomic_load(&obj->aborted))
        write_some(obj, op);
    if (!hl_mem_begin(&op->op, &obj))
        return;
    if (hl_mem_tells_forget(obj, op->len)) {
        forget(obj, op);
        return;
    }
    rc = hl_mem_part_enter(obj, op);
    if (!rc && obj->knobs.kind == MEM_BUF)
        rc = write_buf(obj, op);
    if (hl_mem_is_late(obj) && op->offset == 0) { /* all of it again */
        obj->next = 0;
        XXH3_128bits_reset(obj->xxh);
    }
    if (!rc && obj->knobs.digest && op->offset == obj->next)
        XXH3_128bits_update(obj->xxh, op->data, op->len);
    obj->next = op->offset == obj->next ? op->offset + op->len : UINT64_MAX;
    copy = *op;
    hl_mem_finish(obj, &op->op, rc);
    if (!rc)
        hl_mem_part_written(obj, &copy);
}
