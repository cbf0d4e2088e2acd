/* pool.c: the limit, the order of those who wait, what is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pool.h"

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)

static struct hl_pool *make(uint64_t limit)
{
    struct hl_pool *p = NULL;

    assert_int_equal(hl_pool_new(limit, &p), 0);
    assert_int_equal(hl_pool_limit(p), limit);
    return p;
}

static struct hl_buf *get(struct hl_pool *p, size_t size)
{
    struct hl_buf *buf = hl_pool_get(p, size);

    assert_non_null(buf);
    assert_int_equal(buf->size, size);
    assert_true(buf->capacity >= size);
    assert_int_equal((uintptr_t)buf->data % PAGE, 0);
    return buf;
}

static void expect(const struct hl_pool *p, uint64_t used, uint64_t held)
{
    assert_int_equal(hl_pool_used(p), used);
    assert_int_equal(hl_pool_held(p), held);
}

static void no_leak(void)
{
    assert_int_equal(hl_mem_live(), 0);
}

/* A waiter that remembers what it got and when. */
struct guest {
    struct hl_pool_waiter w;
    struct hl_pool *pool;
    struct hl_buf *buf;
    int place;         /* 1: was served first; 0: waits */
    bool put_at_once;  /* gives the buffer back from ready() */
    bool saw_refusal;  /* get() from ready() was refused */
    bool tries_to_get; /* calls get() from ready() */
};
static int served;
static int depth, depth_max;

static void on_ready(struct hl_pool_waiter *w, struct hl_buf *buf)
{
    struct guest *g = HL_CONTAINER(w, struct guest, w);

    depth++;
    if (depth > depth_max)
        depth_max = depth;
    g->place = ++served;
    assert_non_null(buf);
    assert_int_equal(buf->size, w->size);
    if (g->tries_to_get)
        g->saw_refusal = hl_pool_get(g->pool, w->size) == NULL;
    if (g->put_at_once)
        hl_pool_put(g->pool, buf);
    else
        g->buf = buf;
    depth--;
}

static void enqueue(struct hl_pool *p, struct guest *g, size_t size)
{
    g->pool = p;
    g->w.size = size;
    g->w.ready = on_ready;
    hl_pool_wait(p, &g->w);
}

static int reset(void **state)
{
    (void)state;
    served = depth = depth_max = 0;
    return 0;
}

static void buffers_are_aligned_and_writable(void **state)
{
    struct hl_pool *p = make(16 * MIB);
    struct hl_buf *small = get(p, 1);
    struct hl_buf *large = get(p, 4 * MIB + 1);

    (void)state;
    assert_int_equal(small->capacity, PAGE);
    assert_int_equal(large->capacity, 4 * MIB + PAGE);
    memset(small->data, 0xa5, small->capacity);
    memset(large->data, 0x5a, large->capacity);
    assert_int_equal(small->data[PAGE - 1], 0xa5);
    expect(p, 4 * MIB + 2 * PAGE, 4 * MIB + 2 * PAGE);
    hl_pool_put(p, small);
    hl_pool_put(p, large);
    expect(p, 0, 4 * MIB + 2 * PAGE);
    hl_pool_free(p);
    hl_pool_free(NULL);
    no_leak();
}

static void returned_buffer_is_used_again(void **state)
{
    struct hl_pool *p = make(8 * MIB);
    struct hl_buf *a = get(p, MIB);
    uint8_t *data = a->data;

    (void)state;
    hl_pool_put(p, a);
    a = get(p, MIB - 100);
    assert_ptr_equal(a->data, data);
    expect(p, MIB, MIB);
    hl_pool_put(p, a);
    hl_pool_free(p);
}

/* A chunk of a megabyte must not sit on a buffer of eight. */
static void cached_buffer_of_another_size_is_not_wasted(void **state)
{
    struct hl_pool *p = make(9 * MIB);
    struct hl_buf *big = get(p, 8 * MIB);
    struct hl_buf *small, *more;

    (void)state;
    hl_pool_put(p, big);
    small = get(p, MIB);
    expect(p, MIB, 9 * MIB);
    /* No room for another one beside the cached: that one goes. */
    more = get(p, MIB);
    expect(p, 2 * MIB, 2 * MIB);
    hl_pool_put(p, small);
    big = get(p, 4 * MIB); /* the cached one is too small */
    expect(p, 5 * MIB, 6 * MIB);
    hl_pool_put(p, more);
    hl_pool_put(p, big);
    hl_pool_free(p);
    no_leak();
}

/* A compressed chunk needs a little more than a plain one: they may share. */
static void slightly_larger_cached_buffer_is_used(void **state)
{
    struct hl_pool *p = make(8 * MIB);
    struct hl_buf *a = get(p, 4 * MIB);
    uint8_t *data = a->data;

    (void)state;
    hl_pool_put(p, a);
    a = get(p, 3 * MIB); /* a quarter is wasted: just allowed */
    assert_ptr_equal(a->data, data);
    expect(p, 4 * MIB, 4 * MIB);
    hl_pool_put(p, a);
    a = get(p, 3 * MIB - PAGE);
    assert_ptr_not_equal(a->data, data);
    expect(p, 3 * MIB - PAGE, 7 * MIB - PAGE);
    hl_pool_put(p, a);
    hl_pool_free(p);
    no_leak();
}

static void limit_holds_and_is_counted_in_capacity(void **state)
{
    struct hl_pool *p = make(2 * PAGE);
    struct hl_buf *a = get(p, 1);
    struct hl_buf *b = get(p, PAGE);

    (void)state;
    assert_null(hl_pool_get(p, 1));
    hl_pool_put(p, a);
    assert_null(hl_pool_get(p, PAGE + 1));
    a = get(p, 1);
    hl_pool_put(p, a);
    hl_pool_put(p, b);
    hl_pool_free(p);
}

static void one_buffer_is_granted_whatever_its_size(void **state)
{
    struct hl_pool *p = make(2 * PAGE);
    struct hl_buf *a = get(p, PAGE);

    (void)state;
    hl_pool_put(p, a); /* cached, in the way */
    a = get(p, 3 * MIB);
    expect(p, 3 * MIB, 3 * MIB);
    assert_null(hl_pool_get(p, 1));
    hl_pool_put(p, a); /* above the limit: not kept */
    expect(p, 0, 0);
    hl_pool_free(p);
}

static void waiters_are_served_in_order_of_arrival(void **state)
{
    struct hl_pool *p = make(4 * PAGE);
    struct hl_buf *a = get(p, 3 * PAGE);
    struct hl_buf *b = get(p, PAGE);
    struct guest large = {0}, small = {0};

    (void)state;
    enqueue(p, &large, 2 * PAGE);
    enqueue(p, &small, PAGE);
    hl_pool_put(p, b); /* room for the second, but the first is first */
    assert_int_equal(served, 0);
    assert_null(hl_pool_get(p, PAGE)); /* nor for one who did not wait */
    hl_pool_put(p, a);
    assert_int_equal(large.place, 1);
    assert_int_equal(small.place, 2);
    expect(p, 3 * PAGE, 3 * PAGE);
    hl_pool_put(p, large.buf);
    hl_pool_put(p, small.buf);
    hl_pool_free(p);
    no_leak();
}

static void canceled_waiter_is_not_called(void **state)
{
    struct hl_pool *p = make(PAGE);
    struct hl_buf *a = get(p, PAGE);
    struct guest first = {0}, second = {0};

    (void)state;
    enqueue(p, &first, PAGE);
    enqueue(p, &second, PAGE);
    hl_pool_cancel(p, &first.w);
    hl_pool_cancel(p, &first.w); /* again: no effect */
    hl_pool_put(p, a);
    assert_int_equal(first.place, 0);
    assert_int_equal(second.place, 1);
    hl_pool_put(p, second.buf);
    hl_pool_free(p);
}

static void thousand_waiters_do_not_pile_up_on_the_stack(void **state)
{
    static struct guest guests[1000];
    struct hl_pool *p = make(PAGE);
    struct hl_buf *a = get(p, PAGE);
    int i;

    (void)state;
    for (i = 0; i < 1000; i++) {
        guests[i].put_at_once = true;
        guests[i].tries_to_get = i < 999;
        enqueue(p, &guests[i], PAGE);
    }
    hl_pool_put(p, a);
    for (i = 0; i < 1000; i++) {
        assert_int_equal(guests[i].place, i + 1);
        assert_int_equal(guests[i].saw_refusal, i < 999);
    }
    assert_int_equal(depth_max, 1);
    expect(p, 0, PAGE);
    hl_pool_free(p);
}

static void
lower_limit_frees_cached_buffers_first_and_others_later(void **state)
{
    struct hl_pool *p = make(4 * MIB);
    struct hl_buf *buf[4];
    int i;

    (void)state;
    for (i = 0; i < 4; i++)
        buf[i] = get(p, MIB);
    hl_pool_put(p, buf[0]);
    hl_pool_set_limit(p, 3 * MIB);
    expect(p, 3 * MIB, 3 * MIB);
    hl_pool_set_limit(p, MIB);
    expect(p, 3 * MIB, 3 * MIB); /* in use: nothing can be done yet */
    assert_null(hl_pool_get(p, PAGE));
    hl_pool_put(p, buf[1]);
    expect(p, 2 * MIB, 2 * MIB);
    hl_pool_put(p, buf[2]);
    expect(p, MIB, MIB);
    hl_pool_put(p, buf[3]);
    expect(p, 0, MIB);
    hl_pool_free(p);
    no_leak();
}

static void higher_limit_serves_waiters(void **state)
{
    struct hl_pool *p = make(PAGE);
    struct hl_buf *a = get(p, PAGE);
    struct guest g[3] = {0};
    int i;

    (void)state;
    for (i = 0; i < 3; i++)
        enqueue(p, &g[i], PAGE);
    hl_pool_set_limit(p, 3 * PAGE);
    assert_int_equal(served, 2);
    assert_int_equal(g[1].place, 2);
    hl_pool_put(p, a);
    assert_int_equal(g[2].place, 3);
    for (i = 0; i < 3; i++)
        hl_pool_put(p, g[i].buf);
    hl_pool_free(p);
}

static void out_of_memory_gives_null_and_counts_nothing(void **state)
{
    struct hl_pool *p = NULL;

    (void)state;
    hl_mem_fail_at(1, false);
    assert_int_equal(hl_pool_new(1, &p), HAUL_E_NOMEM);
    p = make(UINT64_MAX);
    hl_mem_fail_at(1, false);
    assert_null(hl_pool_get(p, PAGE));
    hl_mem_fail_at(0, false);
    assert_null(hl_pool_get(p, SIZE_MAX));     /* does not round up */
    assert_null(hl_pool_get(p, SIZE_MAX / 2)); /* mmap refuses */
    expect(p, 0, 0);
    hl_pool_free(p);
    no_leak();
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(buffers_are_aligned_and_writable),
        TEST(returned_buffer_is_used_again),
        TEST(cached_buffer_of_another_size_is_not_wasted),
        TEST(slightly_larger_cached_buffer_is_used),
        TEST(limit_holds_and_is_counted_in_capacity),
        TEST(one_buffer_is_granted_whatever_its_size),
        TEST(waiters_are_served_in_order_of_arrival),
        TEST(canceled_waiter_is_not_called),
        TEST(thousand_waiters_do_not_pile_up_on_the_stack),
        TEST(lower_limit_frees_cached_buffers_first_and_others_later),
        TEST(higher_limit_serves_waiters),
        TEST(out_of_memory_gives_null_and_counts_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
