/*
 * Chunk buffers under one limit.
 *
 * Buffers are mapped one by one and kept when they come back: a fresh mapping
 * costs a page fault per page and loses its huge pages. Out plus cached never
 * exceeds the limit, but for the one buffer that is always granted and for
 * what was out already when the limit fell. Engine thread only.
 */
#include "pool.h"

#include <sys/mman.h>

#define PAGE_BYTES ((size_t)4096)
#define HUGE_BYTES ((size_t)2 << 20)

struct hl_pool {
    uint64_t limit;
    uint64_t used, held;   /* out; out and cached */
    struct hl_list cached; /* last returned first: warm in the cache */
    struct hl_list waiters;
    bool serving; /* a waiter's ready() is running */
};

static struct hl_buf *buf_of(struct hl_node *n)
{
    return HL_CONTAINER(n, struct hl_buf, node);
}

static void unmap(struct hl_pool *p, struct hl_buf *buf)
{
    p->held -= buf->capacity;
    munmap(buf->data, buf->capacity);
    hl_free(buf);
}

static struct hl_buf *map(struct hl_pool *p, size_t capacity)
{
    struct hl_buf *buf = hl_malloc(sizeof(*buf));
    void *data;

    if (!buf)
        return NULL;
    data = mmap(NULL, capacity, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        hl_free(buf);
        return NULL;
    }
    /* Only advice: without it the buffer works as well. */
    if (capacity >= HUGE_BYTES)
        (void)madvise(data, capacity, MADV_HUGEPAGE);
    buf->data = data;
    buf->capacity = capacity;
    p->held += capacity;
    return buf;
}

/* Unmaps cached buffers, the coldest first, until held is at most target. */
static void shrink(struct hl_pool *p, uint64_t target)
{
    while (p->held > target && !hl_list_empty(&p->cached)) {
        struct hl_node *coldest = p->cached.head.prev;

        hl_list_remove(coldest);
        unmap(p, buf_of(coldest));
    }
}

static bool fits(const struct hl_pool *p, size_t capacity)
{
    return p->used == 0 ||
           (p->used <= p->limit && capacity <= p->limit - p->used);
}

/* A cached buffer that is large enough; at most a quarter of it is wasted. */
static struct hl_buf *find_cached(struct hl_pool *p, size_t capacity)
{
    struct hl_node *n;

    for (n = hl_list_first(&p->cached); n; n = hl_list_next(&p->cached, n)) {
        struct hl_buf *buf = buf_of(n);

        if (buf->capacity >= capacity &&
            buf->capacity - buf->capacity / 4 <= capacity) {
            /* held is within the limit while anything is cached. */
            HL_ASSERT(fits(p, buf->capacity));
            hl_list_remove(n);
            return buf;
        }
    }
    return NULL;
}

/* Without regard to those who wait. */
static struct hl_buf *grant(struct hl_pool *p, size_t size)
{
    struct hl_buf *buf;
    size_t capacity;

    HL_ASSERT(size > 0);
    if (size > SIZE_MAX - PAGE_BYTES)
        return NULL;
    capacity = (size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (!fits(p, capacity))
        return NULL;
    buf = find_cached(p, capacity);
    if (!buf) {
        shrink(p, p->limit > capacity ? p->limit - capacity : 0);
        buf = map(p, capacity);
    }
    if (!buf)
        return NULL;
    buf->size = size;
    p->used += buf->capacity;
    return buf;
}

/* ready() may call back into the pool: the flag keeps the stack flat. */
static void serve(struct hl_pool *p)
{
    struct hl_node *n;

    if (p->serving)
        return;
    p->serving = true;
    while ((n = hl_list_first(&p->waiters)) != NULL) {
        struct hl_pool_waiter *w = HL_CONTAINER(n, struct hl_pool_waiter, node);
        struct hl_buf *buf = grant(p, w->size);

        if (!buf)
            break;
        hl_list_remove(n);
        w->ready(w, buf);
    }
    p->serving = false;
}

int hl_pool_new(uint64_t limit_bytes, struct hl_pool **out)
{
    struct hl_pool *p = hl_malloc(sizeof(*p));

    if (!p)
        return HAUL_E_NOMEM;
    p->limit = limit_bytes;
    hl_list_init(&p->cached);
    hl_list_init(&p->waiters);
    *out = p;
    return 0;
}

void hl_pool_free(struct hl_pool *p)
{
    if (!p)
        return;
    HL_ASSERT(p->used == 0);
    HL_ASSERT(hl_list_empty(&p->waiters));
    shrink(p, 0);
    HL_ASSERT(p->held == 0);
    hl_free(p);
}

struct hl_buf *hl_pool_get(struct hl_pool *p, size_t size)
{
    return hl_list_empty(&p->waiters) ? grant(p, size) : NULL;
}

void hl_pool_put(struct hl_pool *p, struct hl_buf *buf)
{
    HL_ASSERT(!hl_node_linked(&buf->node));
    HL_ASSERT(p->used >= buf->capacity);
    p->used -= buf->capacity;
    hl_list_prepend(&p->cached, &buf->node);
    shrink(p, p->limit);
    serve(p);
}

void hl_pool_wait(struct hl_pool *p, struct hl_pool_waiter *w)
{
    HL_ASSERT(w->size > 0 && w->ready);
    hl_list_append(&p->waiters, &w->node);
}

void hl_pool_cancel(struct hl_pool *p, struct hl_pool_waiter *w)
{
    (void)p;
    if (hl_node_linked(&w->node))
        hl_list_remove(&w->node);
}

void hl_pool_set_limit(struct hl_pool *p, uint64_t limit_bytes)
{
    p->limit = limit_bytes;
    shrink(p, limit_bytes);
    serve(p);
}

uint64_t hl_pool_limit(const struct hl_pool *p)
{
    return p->limit;
}

uint64_t hl_pool_used(const struct hl_pool *p)
{
    return p->used;
}

uint64_t hl_pool_held(const struct hl_pool *p)
{
    return p->held;
}
