/*
 * Small allocations: zeroed, counted, and failing on demand for tests.
 *
 * Any thread; the only shared state are atomic counters.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

enum fail_mode { FAIL_OFF, FAIL_ONCE, FAIL_ON };

static _Atomic int64_t live;
static _Atomic int fail_mode;
static _Atomic int64_t fail_left; /* 1: the next allocation fails */

static bool must_fail(void)
{
    int mode = atomic_load_explicit(&fail_mode, memory_order_acquire);
    int64_t left;

    if (mode == FAIL_OFF)
        return false;
    left = atomic_fetch_sub(&fail_left, 1);
    return left == 1 || (left < 1 && mode == FAIL_ON);
}

static void *count(void *p)
{
    if (p)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void *hl_malloc(size_t size)
{
    return hl_calloc(1, size);
}

void *hl_calloc(size_t count_of, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count_of, size, &bytes) || must_fail())
        return NULL;
    /* calloc(0) may give NULL, which here means failure only. */
    return count(calloc(1, bytes ? bytes : 1));
}

void *hl_realloc(void *p, size_t size)
{
    if (must_fail())
        return NULL;
    if (size == 0)
        size = 1;
    return p ? realloc(p, size) : count(malloc(size));
}

char *hl_strdup(const char *s)
{
    if (!s || must_fail())
        return NULL;
    return count(strdup(s));
}

char *hl_asprintf(const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int rc;

    if (must_fail())
        return NULL;
    va_start(args, fmt);
    rc = vasprintf(&text, fmt, args);
    va_end(args);
    return rc < 0 ? NULL : count(text);
}

void hl_free(void *p)
{
    if (!p)
        return;
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(p);
}

void hl_free_secret(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    hl_free(s);
}

int64_t hl_mem_live(void)
{
    return atomic_load(&live);
}

void hl_mem_fail_at(int64_t n, bool and_on)
{
    atomic_store(&fail_mode, FAIL_OFF);
    atomic_store(&fail_left, n);
    if (n > 0)
        atomic_store(&fail_mode, and_on ? FAIL_ON : FAIL_ONCE);
}
