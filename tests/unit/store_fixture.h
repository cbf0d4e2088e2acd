/* What the tests of the state store share: a folder for each test, rows with
 * values that do not matter. */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "store_db.h"

static char folder[64], path[128];

static inline int setup(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/haul-test-store-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/state.db", folder);
    return 0;
}

static inline int remove_one(const char *p, const struct stat *st, int type,
                             struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(p);
}

static inline int teardown(void **state)
{
    int rc = nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);

    (void)state;
    if (hl_mem_live() == 0)
        return rc;
    print_error("%lld allocations are left\n", (long long)hl_mem_live());
    return -1;
}

static inline struct hl_store *open_store(const char *name)
{
    struct hl_store *s = NULL;
    struct hl_error err = {0};

    if (hl_store_open(name, NULL, &s, &err) != HAUL_OK)
        print_error("%s (%s)\n", err.message, err.detail);
    assert_non_null(s);
    return s;
}

static inline int64_t create(struct hl_store *s, const char *key)
{
    char source[] = "/d/a.sql", target[] = "sftp://u@h/a", url[] = "file:///d";
    struct hl_saved t = {.source = source,
                         .target = target,
                         .source_url = url,
                         .target_url = target};

    assert_int_equal(hl_store_create(s, key, &t, NULL), HAUL_OK);
    assert_true(t.id > 0);
    return t.id;
}

static inline void put_object(struct hl_store *s, int64_t id, uint32_t index,
                              uint64_t size)
{
    char digest[] = "xxh128", identity[] = "size=7";
    struct hl_saved_object o = {.size = size,
                                .chunk_size = 4194304,
                                .digest_name = digest,
                                .identity = identity};

    assert_int_equal(hl_store_object_put(s, id, index, &o, NULL), HAUL_OK);
}

static inline struct hl_saved_object get_object(struct hl_store *s, int64_t id,
                                                uint32_t index)
{
    struct hl_saved_object o;
    bool found;

    assert_int_equal(hl_store_object_get(s, id, index, &found, &o, NULL),
                     HAUL_OK);
    assert_true(found);
    return o;
}

static inline uint64_t put_chunk(struct hl_store *s, int64_t id, uint32_t index,
                                 uint64_t chunk, uint32_t len)
{
    struct hl_saved_chunk c = {.index = chunk, .len = len};
    uint64_t batch = 0;

    memset(c.digest, (int)(chunk + 1) & 0xff, 16);
    assert_int_equal(hl_store_chunks_put(s, id, index, &c, 1, &batch, NULL),
                     HAUL_OK);
    return batch;
}

struct loaded {
    struct hl_saved_chunk c[16];
    size_t count;
    int stop_at; /* return 77 at this one */
};

static inline int load_one(void *user, const struct hl_saved_chunk *c)
{
    struct loaded *l = user;

    assert_true(l->count < HL_LEN(l->c));
    l->c[l->count++] = *c;
    return l->stop_at && l->count == (size_t)l->stop_at ? 77 : 0;
}

static inline void load(struct hl_store *s, int64_t id, uint32_t index,
                        struct loaded *l)
{
    memset(l, 0, sizeof(*l));
    assert_int_equal(hl_store_chunks_load(s, id, index, load_one, l, NULL),
                     HAUL_OK);
}

/* Counts transfers by state. */
static inline int count_row(void *user, const struct hl_saved *t, uint64_t size,
                            uint64_t acked, const char *token)
{
    int *counts = user;

    (void)size;
    (void)acked;
    (void)token;
    counts[t->state]++;
    return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif /* STORE_FIXTURE_H */
