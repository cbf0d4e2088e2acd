/*
 * Allocations are zeroed and counted, and fail exactly where a test asked.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base.h"

static int check_no_leak(void **state)
{
    (void)state;
    hl_mem_fail_at(0, false);
    return hl_mem_live() == 0 ? 0 : -1;
}

static void memory_is_zeroed(void **state)
{
    static const char zeros[4096];
    char *a = hl_malloc(sizeof(zeros)), *b = hl_calloc(16, 256);

    (void)state;
    assert_memory_equal(a, zeros, sizeof(zeros));
    assert_memory_equal(b, zeros, sizeof(zeros));
    hl_free(a);
    hl_free(b);
}

static void every_way_to_allocate_is_counted_once(void **state)
{
    void *p[6];

    (void)state;
    assert_int_equal(hl_mem_live(), 0);
    p[0] = hl_malloc(1);
    p[1] = hl_calloc(2, 3);
    p[2] = hl_realloc(NULL, 4);
    p[3] = hl_strdup("x");
    p[4] = hl_asprintf("%d", 5);
    p[5] = hl_strdup("secret");
    assert_int_equal(hl_mem_live(), 6);
    p[2] = hl_realloc(p[2], 100000);
    assert_int_equal(hl_mem_live(), 6);
    for (int i = 0; i < 5; i++)
        hl_free(p[i]);
    assert_int_equal(hl_mem_live(), 1);
    hl_free_secret(p[5]);
    assert_int_equal(hl_mem_live(), 0);
}

static void size_zero_is_no_failure(void **state)
{
    void *p[4] = {hl_malloc(0), hl_calloc(0, 8), hl_calloc(8, 0),
                  hl_realloc(NULL, 0)};

    (void)state;
    p[3] = hl_realloc(p[3], 0);
    for (int i = 0; i < 4; i++) {
        assert_non_null(p[i]);
        hl_free(p[i]);
    }
}

static void a_product_that_overflows_fails(void **state)
{
    (void)state;
    assert_null(hl_calloc(SIZE_MAX / 2, 3));
    assert_int_equal(hl_mem_live(), 0);
}

static void realloc_keeps_the_content(void **state)
{
    char *s = hl_strdup("0123456789");

    (void)state;
    s = hl_realloc(s, 1000000);
    assert_string_equal(s, "0123456789");
    s = hl_realloc(s, 4);
    assert_memory_equal(s, "0123", 4);
    hl_free(s);
}

static void texts_are_copied_and_formatted(void **state)
{
    char *a = hl_strdup("dump"), *b = hl_asprintf("%s-%03d", "part", 7);

    (void)state;
    assert_string_equal(a, "dump");
    assert_string_equal(b, "part-007");
    hl_free(a);
    hl_free(b);
}

static void null_is_accepted(void **state)
{
    (void)state;
    hl_free(NULL);
    hl_free_secret(NULL);
    assert_null(hl_strdup(NULL));
    assert_int_equal(hl_mem_live(), 0);
}

static void only_the_nth_allocation_fails(void **state)
{
    void *a, *b, *c;

    (void)state;
    hl_mem_fail_at(2, false);
    a = hl_malloc(1);
    b = hl_malloc(1);
    c = hl_malloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    assert_int_equal(hl_mem_live(), 2);
    hl_free(a);
    hl_free(c);
}

static void all_from_the_nth_on_fail_until_it_is_ended(void **state)
{
    char *a, *kept;

    (void)state;
    a = hl_strdup("kept");
    hl_mem_fail_at(1, true);
    kept = hl_realloc(a, 100);
    assert_null(kept);
    assert_null(hl_malloc(1));
    assert_null(hl_calloc(1, 1));
    assert_null(hl_strdup("x"));
    assert_null(hl_asprintf("x"));
    assert_string_equal(a, "kept");
    hl_mem_fail_at(0, false);
    hl_free(hl_realloc(a, 100));
    assert_int_equal(hl_mem_live(), 0);
}

static void *allocate_much(void *failed)
{
    intptr_t n = 0;

    (void)failed;
    for (int i = 0; i < 50000; i++) {
        void *p = hl_malloc(8);

        n += p == NULL;
        hl_free(p);
    }
    return (void *)n;
}

static void one_of_many_threads_fails_once(void **state)
{
    pthread_t t[4];
    intptr_t failed = 0;

    (void)state;
    hl_mem_fail_at(100000, false);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, allocate_much, NULL), 0);
    for (int i = 0; i < 4; i++) {
        void *n;

        pthread_join(t[i], &n);
        failed += (intptr_t)n;
    }
    assert_int_equal(failed, 1);
    assert_int_equal(hl_mem_live(), 0);
}

#define TEST(f) cmocka_unit_test_teardown(f, check_no_leak)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(memory_is_zeroed),
        TEST(every_way_to_allocate_is_counted_once),
        TEST(size_zero_is_no_failure),
        TEST(a_product_that_overflows_fails),
        TEST(realloc_keeps_the_content),
        TEST(texts_are_copied_and_formatted),
        TEST(null_is_accepted),
        TEST(only_the_nth_allocation_fails),
        TEST(all_from_the_nth_on_fail_until_it_is_ended),
        TEST(one_of_many_threads_fails_once),
    };

    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
