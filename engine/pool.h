/*
 * Chunk buffers under one limit in bytes, for all transfers of an engine.
 *
 * Waiters are served in the order in which they came. A holder never waits
 * for a second buffer. Buffers are page aligned and long-lived (huge pages
 * advised); when the limit falls they are given back as they return. Engine
 * thread only; the memory itself is used by whoever holds the buffer.
 */
#ifndef HL_POOL_H
#define HL_POOL_H

#include "base.h"
#include "list.h"

struct hl_pool;

struct hl_buf {
    struct hl_node node;
    uint8_t *data;   /* page aligned */
    size_t size;     /* as asked for */
    size_t capacity; /* counted against the limit */
};

struct hl_pool_waiter {
    struct hl_node node;
    size_t size;
    /* Called from hl_pool_put() or _set_limit(); owns buf from then on. */
    void (*ready)(struct hl_pool_waiter *w, struct hl_buf *buf);
};

int hl_pool_new(uint64_t limit_bytes, struct hl_pool **out);
/* Every buffer must be back and nobody waiting. */
void hl_pool_free(struct hl_pool *p);

/* A buffer now, or NULL (limit reached, somebody waits already, or out of
 * memory). One buffer is always granted when none is out, whatever its size,
 * so that progress is possible: NULL while hl_pool_used() is 0 means out of
 * memory, and waiting would be in vain. */
struct hl_buf *hl_pool_get(struct hl_pool *p, size_t size);
void hl_pool_put(struct hl_pool *p, struct hl_buf *buf);

/* Be called when a buffer is free; w->size and w->ready are set. */
void hl_pool_wait(struct hl_pool *p, struct hl_pool_waiter *w);
void hl_pool_cancel(struct hl_pool *p, struct hl_pool_waiter *w);

void hl_pool_set_limit(struct hl_pool *p, uint64_t limit_bytes);
uint64_t hl_pool_limit(const struct hl_pool *p);
/* Bytes of buffers out, and of all memory held (out and cached). */
uint64_t hl_pool_used(const struct hl_pool *p);
uint64_t hl_pool_held(const struct hl_pool *p);

#endif /* HL_POOL_H */
