/* The rows of the state store: what is put is got, also by the next process;
 * it is quick, and what must survive a power cut is flushed. */
#include "store_fixture.h"

#include <sys/syscall.h>

/* SQLite calls these instead of the C library's: counts flushes. */
static int flushes;

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    flushes++;
    return (int)syscall(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    flushes++;
    return (int)syscall(SYS_fsync, fd);
}

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- Transfers ---------------------------------------------------------- */

static void transfer_is_found_by_the_next_process(void **state)
{
    char source[] = "/d/a'\"\n.sql", target[] = "sftp://u@h/\xff";
    char source_url[] = "file:///d/a", target_url[] = "sftp://u@h/";
    struct hl_saved t = {.source = source,
                         .target = target,
                         .source_url = source_url,
                         .target_url = target_url};
    struct hl_saved r;
    struct hl_store *s = open_store(path);
    int64_t before = time(NULL);
    bool found = true;

    (void)state;
    assert_int_equal(hl_store_find(s, "key", &found, &r, NULL), HAUL_OK);
    assert_false(found);
    assert_int_equal(hl_store_create(s, "key", &t, NULL), HAUL_OK);
    hl_store_close(s);
    s = open_store(path);
    assert_int_equal(hl_store_find(s, "key", &found, &r, NULL), HAUL_OK);
    assert_true(found);
    assert_int_equal(r.id, t.id);
    assert_string_equal(r.source, source);
    assert_string_equal(r.target, target);
    assert_string_equal(r.source_url, source_url);
    assert_string_equal(r.target_url, target_url);
    assert_int_equal(r.state, HL_SAVED_UNFINISHED);
    assert_null(r.error);
    assert_null(r.digest);
    assert_in_range(r.created_s, before, time(NULL));
    assert_int_equal(r.updated_s, r.created_s);
    hl_saved_fini(&r);
    assert_int_equal(hl_store_find(s, "KEY", &found, &r, NULL), HAUL_OK);
    assert_false(found);
    hl_store_close(s);
}

static void newest_transfer_of_a_key_is_found(void **state)
{
    struct hl_store *s = open_store(":memory:");
    int64_t a = create(s, "k"), b = create(s, "k"), c = create(s, "other");
    struct hl_saved r;
    bool found;

    (void)state;
    assert_true(a < b && b < c);
    assert_int_equal(hl_store_find(s, "k", &found, &r, NULL), HAUL_OK);
    assert_int_equal(r.id, b);
    hl_saved_fini(&r);
    assert_int_equal(hl_store_forget(s, b, NULL), HAUL_OK);
    assert_int_equal(hl_store_find(s, "k", &found, &r, NULL), HAUL_OK);
    assert_int_equal(r.id, a);
    hl_saved_fini(&r);
    hl_store_close(s);
}

/* An id names temporary files and a lock: never given twice. */
static void ids_are_not_reused(void **state)
{
    struct hl_store *s = open_store(path);
    int64_t a = create(s, "k");

    (void)state;
    assert_int_equal(hl_store_forget(s, a, NULL), HAUL_OK);
    hl_store_close(s);
    s = open_store(path);
    assert_true(create(s, "k") > a);
    hl_store_close(s);
}

static void forgetting_takes_objects_and_chunks(void **state)
{
    struct hl_store *s = open_store(":memory:");
    int64_t a = create(s, "a"), b = create(s, "b");
    struct hl_saved_object o;
    struct hl_error err = {0};
    struct loaded l;
    uint64_t batch;
    bool found;

    (void)state;
    put_object(s, a, 0, 7);
    put_object(s, b, 0, 7);
    put_chunk(s, a, 0, 1, 7);
    put_chunk(s, b, 0, 1, 7);
    assert_int_equal(hl_store_forget(s, a, NULL), HAUL_OK);
    assert_int_equal(hl_store_object_get(s, a, 0, &found, &o, NULL), HAUL_OK);
    assert_false(found);
    load(s, a, 0, &l);
    assert_int_equal(l.count, 0);
    load(s, b, 0, &l);
    assert_int_equal(l.count, 1);
    /* Whoever still works on it is told. */
    assert_int_equal(hl_store_chunks_put(s, a, 0, l.c, 1, &batch, &err),
                     HAUL_E_STORE);
    assert_non_null(strstr(err.message, "is not in the state store"));
    assert_int_equal(hl_store_token_put(s, a, 0, "t", NULL), HAUL_E_STORE);
    assert_int_equal(hl_store_set_error(s, a, "e", NULL), HAUL_E_STORE);
    assert_int_equal(hl_store_durable(s, a, 0, 1, NULL), HAUL_E_STORE);
    assert_int_equal(hl_store_done(s, a, NULL, NULL), HAUL_E_STORE);
    o = get_object(s, b, 0);
    assert_int_equal(hl_store_object_put(s, a, 0, &o, NULL), HAUL_E_STORE);
    hl_saved_object_fini(&o);
    hl_store_close(s);
}

static void error_of_the_last_run_is_kept_until_cleared(void **state)
{
    struct hl_store *s = open_store(":memory:");
    int64_t id = create(s, "k");
    struct hl_saved r;
    bool found;

    (void)state;
    assert_int_equal(hl_store_set_error(s, id, "broken pipe", NULL), HAUL_OK);
    assert_int_equal(hl_store_find(s, "k", &found, &r, NULL), HAUL_OK);
    assert_string_equal(r.error, "broken pipe");
    hl_saved_fini(&r);
    assert_int_equal(hl_store_set_error(s, id, NULL, NULL), HAUL_OK);
    assert_int_equal(hl_store_find(s, "k", &found, &r, NULL), HAUL_OK);
    assert_null(r.error);
    hl_saved_fini(&r);
    hl_store_close(s);
}

static void done_keeps_the_result_and_drops_the_rest(void **state)
{
    struct hl_store *s = open_store(":memory:");
    int64_t id = create(s, "k"), other = create(s, "o");
    struct hl_saved_object o;
    struct hl_saved r;
    struct loaded l;
    bool found;

    (void)state;
    put_object(s, id, 0, 30);
    put_object(s, other, 0, 30);
    put_chunk(s, id, 0, 0, 10);
    put_chunk(s, id, 0, 1, 20);
    put_chunk(s, other, 0, 0, 10);
    assert_int_equal(hl_store_token_put(s, id, 0, "secret", NULL), HAUL_OK);
    assert_int_equal(hl_store_token_put(s, other, 0, "keep", NULL), HAUL_OK);
    assert_int_equal(hl_store_set_error(s, id, "old", NULL), HAUL_OK);
    assert_int_equal(hl_store_done(s, id, "xxh128:00", NULL), HAUL_OK);
    assert_int_equal(hl_store_find(s, "k", &found, &r, NULL), HAUL_OK);
    assert_int_equal(r.state, HL_SAVED_DONE);
    assert_string_equal(r.digest, "xxh128:00");
    assert_null(r.error);
    hl_saved_fini(&r);
    o = get_object(s, id, 0);
    assert_null(o.token);
    assert_int_equal(o.acked_bytes, 30);
    hl_saved_object_fini(&o);
    load(s, id, 0, &l);
    assert_int_equal(l.count, 0);
    o = get_object(s, other, 0);
    assert_string_equal(o.token, "keep");
    assert_int_equal(o.acked_bytes, 10);
    hl_saved_object_fini(&o);
    hl_store_close(s);
}

static void newest_thousand_finished_are_kept(void **state)
{
    struct hl_store *s = open_store(":memory:");
    int64_t unfinished = create(s, "unfinished"), first = create(s, "first");
    int counts[2] = {0};
    struct hl_saved r;
    bool found;

    (void)state;
    assert_true(unfinished < first);
    assert_int_equal(hl_store_done(s, first, NULL, NULL), HAUL_OK);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(hl_store_done(s, create(s, "k"), NULL, NULL), HAUL_OK);
    assert_int_equal(hl_store_list(s, count_row, counts, NULL), HAUL_OK);
    assert_int_equal(counts[HL_SAVED_DONE], 1000);
    assert_int_equal(counts[HL_SAVED_UNFINISHED], 1);
    assert_int_equal(hl_store_find(s, "first", &found, &r, NULL), HAUL_OK);
    assert_false(found);
    hl_store_close(s);
}

struct listed {
    struct {
        int64_t id;
        uint64_t size, acked;
        char token[16];
    } row[8];
    size_t count;
};

static int list_one(void *user, const struct hl_saved *t, uint64_t size,
                    uint64_t acked, const char *token)
{
    struct listed *l = user;

    l->row[l->count].id = t->id;
    l->row[l->count].size = size;
    l->row[l->count].acked = acked;
    (void)snprintf(l->row[l->count].token, 16, "%s", token ? token : "-");
    assert_non_null(t->source);
    return ++l->count == 4 ? 9 : 0;
}

static void list_is_in_order_with_sums(void **state)
{
    struct hl_store *s = open_store(":memory:");
    int64_t a = create(s, "a"), b = create(s, "b"), c = create(s, "c");
    struct listed l = {.count = 0};

    (void)state;
    put_object(s, a, 0, 1000);
    put_object(s, a, 1, UINT64_C(5) << 40);
    put_chunk(s, a, 0, 0, 400);
    put_chunk(s, a, 1, 0, 30);
    put_chunk(s, a, 1, 9, 5);
    assert_int_equal(hl_store_token_put(s, a, 1, "tok", NULL), HAUL_OK);
    put_object(s, b, 0, 1000);
    put_object(s, b, 1, HL_SIZE_UNKNOWN);
    put_chunk(s, b, 1, 3, 77);
    assert_int_equal(hl_store_list(s, list_one, &l, NULL), HAUL_OK);
    assert_int_equal(l.count, 3);
    assert_int_equal(l.row[0].id, a);
    assert_int_equal(l.row[0].size, 1000 + (UINT64_C(5) << 40));
    assert_int_equal(l.row[0].acked, 435);
    assert_string_equal(l.row[0].token, "tok");
    assert_int_equal(l.row[1].id, b);
    assert_int_equal(l.row[1].size, HL_SIZE_UNKNOWN);
    assert_int_equal(l.row[1].acked, 77);
    assert_string_equal(l.row[1].token, "-");
    assert_int_equal(l.row[2].id, c);
    assert_int_equal(l.row[2].size, HL_SIZE_UNKNOWN); /* no object yet */
    assert_int_equal(l.row[2].acked, 0);
    assert_int_equal(hl_store_list(s, list_one, &l, NULL), 9);
    hl_store_close(s);
}

/* ---- Objects and chunks ------------------------------------------------- */

static void object_is_got_as_put(void **state)
{
    char digest[] = "sha256", identity[] = "i\n2", token[] = "t", res[] = "r";
    struct hl_saved_object o = {.size = HL_SIZE_UNKNOWN,
                                .chunk_size = 65536,
                                .digest_name = digest,
                                .identity = identity,
                                .token = token,
                                .result = res,
                                .batch = 99,
                                .durable_batch = 99,
                                .acked_bytes = 99};
    struct hl_store *s = open_store(":memory:");
    int64_t id = create(s, "k");
    struct hl_saved_object r;

    (void)state;
    assert_int_equal(hl_store_object_put(s, id, 4294967295u, &o, NULL),
                     HAUL_OK);
    r = get_object(s, id, 4294967295u);
    assert_true(r.size == HL_SIZE_UNKNOWN);
    assert_int_equal(r.chunk_size, 65536);
    assert_string_equal(r.digest_name, digest);
    assert_string_equal(r.identity, identity);
    assert_string_equal(r.token, token);
    assert_string_equal(r.result, res);
    assert_int_equal(r.batch, 0);
    assert_int_equal(r.durable_batch, 0);
    assert_int_equal(r.acked_bytes, 0);
    hl_saved_object_fini(&r);
    hl_store_close(s);
}

static void replacing_an_object_keeps_batches_and_bytes(void **state)
{
    struct hl_store *s = open_store(":memory:");
    int64_t id = create(s, "k");
    struct hl_saved_object r;

    (void)state;
    put_object(s, id, 0, 100);
    assert_int_equal(put_chunk(s, id, 0, 0, 10), 1);
    assert_int_equal(put_chunk(s, id, 0, 1, 11), 2);
    assert_int_equal(hl_store_durable(s, id, 0, 1, NULL), HAUL_OK);
    assert_int_equal(hl_store_token_put(s, id, 0, "t", NULL), HAUL_OK);
    put_object(s, id, 0, 200);
    r = get_object(s, id, 0);
    assert_int_equal(r.size, 200);
    assert_null(r.token);
    assert_int_equal(r.batch, 2);
    assert_int_equal(r.durable_batch, 1);
    assert_int_equal(r.acked_bytes, 21);
    hl_saved_object_fini(&r);
    hl_store_close(s);
}

static void token_is_replaced_and_removed(void **state)
{
    struct hl_store *s = open_store(":memory:");
    int64_t id = create(s, "k");
    struct hl_saved_object r;

    (void)state;
    put_object(s, id, 0, 100);
    assert_int_equal(hl_store_token_put(s, id, 0, "one", NULL), HAUL_OK);
    assert_int_equal(hl_store_token_put(s, id, 0, "two", NULL), HAUL_OK);
    r = get_object(s, id, 0);
    assert_string_equal(r.token, "two");
    hl_saved_object_fini(&r);
    assert_int_equal(hl_store_token_put(s, id, 0, NULL, NULL), HAUL_OK);
    r = get_object(s, id, 0);
    assert_null(r.token);
    hl_saved_object_fini(&r);
    hl_store_close(s);
}

static void chunks_are_loaded_ascending_as_put(void **state)
{
    static const uint64_t order[] = {5, 0, UINT64_C(1) << 40, 256, 255, 1};
    static const size_t sorted[] = {1, 5, 0, 4, 3, 2};
    struct hl_saved_chunk c[6] = {{0}};
    struct hl_store *s = open_store(":memory:");
    int64_t id = create(s, "k");
    struct loaded l;
    uint64_t batch = 0;

    (void)state;
    put_object(s, id, 0, 100);
    put_object(s, id, 1, 100);
    put_chunk(s, id, 1, 7, 7); /* of another object */
    for (size_t i = 0; i < 6; i++) {
        c[i].index = order[i];
        c[i].len = i == 0 ? UINT32_MAX : (uint32_t)(i + 1);
        c[i].batch = 4711; /* ignored */
    }
    memset(c[1].digest, 0xee, 32);
    memset(c[2].digest, 0xdd, 16);
    c[3].digest[0] = 1; /* zeros inside a digest are part of it */
    c[4].digest[15] = 1;
    c[5].digest[31] = 1;
    assert_int_equal(hl_store_chunks_put(s, id, 0, c, 6, &batch, NULL),
                     HAUL_OK);
    assert_int_equal(batch, 1);
    load(s, id, 0, &l);
    assert_int_equal(l.count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(l.c[i].index, c[sorted[i]].index);
        assert_int_equal(l.c[i].len, c[sorted[i]].len);
        assert_int_equal(l.c[i].batch, 1);
        assert_memory_equal(l.c[i].digest, c[sorted[i]].digest, 32);
    }
    l.count = 0;
    l.stop_at = 2;
    assert_int_equal(hl_store_chunks_load(s, id, 0, load_one, &l, NULL), 77);
    assert_int_equal(l.count, 2);
    hl_store_close(s);
}

static void acked_again_is_newer_and_counts_once(void **state)
{
    struct hl_store *s = open_store(":memory:");
    int64_t id = create(s, "k");
    struct hl_saved_object r;
    struct loaded l;

    (void)state;
    put_object(s, id, 0, 100);
    put_chunk(s, id, 0, 3, 10);
    put_chunk(s, id, 0, 4, 10);
    assert_int_equal(put_chunk(s, id, 0, 3, 10), 3);
    r = get_object(s, id, 0);
    assert_int_equal(r.acked_bytes, 20);
    hl_saved_object_fini(&r);
    load(s, id, 0, &l);
    assert_int_equal(l.count, 2);
    assert_int_equal(l.c[0].batch, 3);
    assert_int_equal(l.c[1].batch, 2);
    hl_store_close(s);
}

static void removed_and_cleared_chunks_are_gone(void **state)
{
    static const struct hl_range gone[] = {{0, 1}, {2, 3}, {4, UINT64_MAX}};
    struct hl_store *s = open_store(":memory:");
    int64_t id = create(s, "k");
    struct hl_saved_object r;
    struct loaded l;

    (void)state;
    put_object(s, id, 0, 100);
    for (uint64_t i = 0; i < 6; i++)
        put_chunk(s, id, 0, i, 10);
    for (int i = 0; i < 2; i++) /* again is no error */
        assert_int_equal(
            hl_store_chunks_remove(s, id, 0, gone, HL_LEN(gone), NULL),
            HAUL_OK);
    load(s, id, 0, &l);
    assert_int_equal(l.count, 2);
    assert_int_equal(l.c[0].index, 1);
    assert_int_equal(l.c[1].index, 3);
    r = get_object(s, id, 0);
    assert_int_equal(r.acked_bytes, 20);
    hl_saved_object_fini(&r);
    assert_int_equal(hl_store_chunks_clear(s, id, 0, NULL), HAUL_OK);
    r = get_object(s, id, 0);
    assert_int_equal(r.acked_bytes, 0);
    assert_int_equal(r.batch, 6); /* numbers go on */
    hl_saved_object_fini(&r);
    assert_int_equal(put_chunk(s, id, 0, 0, 10), 7);
    /* A finished transfer that starts anew counts from nothing. */
    assert_int_equal(hl_store_done(s, id, NULL, NULL), HAUL_OK);
    assert_int_equal(hl_store_chunks_clear(s, id, 0, NULL), HAUL_OK);
    r = get_object(s, id, 0);
    assert_int_equal(r.acked_bytes, 0);
    hl_saved_object_fini(&r);
    hl_store_close(s);
}

struct noted {
    uint64_t part[8];
    char text[8][16];
    size_t count;
};

static int take_note(void *user, uint64_t part, const char *note)
{
    struct noted *n = user;

    n->part[n->count] = part;
    (void)snprintf(n->text[n->count], sizeof(n->text[0]), "%s", note);
    return ++n->count == HL_LEN(n->part) ? 5 : 0;
}

static void load_notes(struct hl_store *s, int64_t id, uint32_t index,
                       struct noted *n)
{
    memset(n, 0, sizeof(*n));
    assert_int_equal(hl_store_notes_load(s, id, index, take_note, n, NULL),
                     HAUL_OK);
}

static void notes_come_by_part_and_go_with_the_chunks(void **state)
{
    struct hl_store *s = open_store(path);
    int64_t id = create(s, "k"), other = create(s, "o");
    struct hl_error err = {0};
    struct noted n;

    (void)state;
    put_object(s, id, 0, 100);
    put_object(s, id, 1, 100);
    put_object(s, other, 0, 100);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(hl_store_note_put(s, id, 0, 10, "ten", NULL), 0);
        assert_int_equal(hl_store_note_put(s, id, 0, 2, "two", NULL), 0);
        assert_int_equal(hl_store_note_put(s, id, 0, 10, "TEN", NULL), 0);
        assert_int_equal(hl_store_note_put(s, id, 1, 0, "", NULL), 0);
        assert_int_equal(hl_store_note_put(s, other, 0, 7, "o", NULL), 0);
        hl_store_close(s);
        s = open_store(path);
        load_notes(s, id, 0, &n);
        assert_int_equal(n.count, 2);
        assert_int_equal(n.part[0], 2);
        assert_string_equal(n.text[0], "two");
        assert_int_equal(n.part[1], 10);
        assert_string_equal(n.text[1], "TEN");
        if (i == 0)
            assert_int_equal(hl_store_chunks_clear(s, id, 0, NULL), 0);
        else
            assert_int_equal(hl_store_done(s, id, NULL, NULL), 0);
        load_notes(s, id, 0, &n);
        assert_int_equal(n.count, 0);
        load_notes(s, id, 1, &n);
        assert_int_equal(n.count, i == 0);
    }
    load_notes(s, other, 0, &n);
    assert_int_equal(n.count, 1);
    assert_int_equal(hl_store_forget(s, other, NULL), 0);
    load_notes(s, other, 0, &n);
    assert_int_equal(n.count, 0);
    assert_int_equal(hl_store_note_put(s, other, 0, 7, "o", &err),
                     HAUL_E_STORE);
    assert_non_null(strstr(err.message, "is not in the state store"));
    hl_store_close(s);
}

/* A mark beyond the newest batch must not cover batches to come. */
static void durable_mark_only_rises_and_not_into_the_future(void **state)
{
    static const struct {
        uint64_t mark, want;
    } steps[] = {{2, 2}, {1, 2}, {UINT64_MAX, 3}, {0, 3}};
    struct hl_store *s = open_store(":memory:");
    int64_t id = create(s, "k");

    (void)state;
    put_object(s, id, 0, 100);
    for (uint64_t i = 0; i < 3; i++)
        put_chunk(s, id, 0, i, 10);
    for (size_t i = 0; i < HL_LEN(steps); i++) {
        struct hl_saved_object r;

        assert_int_equal(hl_store_durable(s, id, 0, steps[i].mark, NULL),
                         HAUL_OK);
        r = get_object(s, id, 0);
        assert_int_equal(r.durable_batch, steps[i].want);
        hl_saved_object_fini(&r);
    }
    hl_store_close(s);
}

static void facts_are_replaced_and_unknown_is_null(void **state)
{
    struct hl_store *s = open_store(path);
    char *value;

    (void)state;
    assert_int_equal(hl_store_fact_get(s, "rtt:h", &value, NULL), HAUL_OK);
    assert_null(value);
    assert_int_equal(hl_store_fact_put(s, "rtt:h", "1", NULL), HAUL_OK);
    assert_int_equal(hl_store_fact_put(s, "rtt:h", "", NULL), HAUL_OK);
    hl_store_close(s);
    s = open_store(path);
    assert_int_equal(hl_store_fact_get(s, "rtt:h", &value, NULL), HAUL_OK);
    assert_string_equal(value, "");
    hl_free(value);
    assert_int_equal(hl_store_fact_put(s, "rtt:h", NULL, NULL), HAUL_OK);
    assert_int_equal(hl_store_fact_get(s, "rtt:h", &value, NULL), HAUL_OK);
    assert_null(value);
    hl_store_close(s);
}

/* ---- Speed -------------------------------------------------------------- */

static int count_chunk(void *user, const struct hl_saved_chunk *c)
{
    (void)c;
    ++*(uint64_t *)user;
    return 0;
}

static void hundred_thousand_chunks_are_quick(void **state)
{
    struct hl_store *s = open_store(path);
    int64_t id = create(s, "k");
    struct hl_saved_chunk c[2] = {{.len = 4194304}, {.len = 4194304}};
    uint64_t batch, count = 0;
    double at[4];

    (void)state;
    put_object(s, id, 0, UINT64_C(400) << 30);
    at[0] = cpu_seconds();
    for (uint64_t i = 0; i < 100000; i += 2) {
        c[0].index = i;
        c[1].index = i + 1;
        for (size_t j = 0; j < 16; j++)
            c[0].digest[j] = c[1].digest[j] = (uint8_t)(i * 7919 + j * 31);
        assert_int_equal(hl_store_chunks_put(s, id, 0, c, 2, &batch, NULL),
                         HAUL_OK);
    }
    at[1] = cpu_seconds();
    assert_int_equal(hl_store_chunks_load(s, id, 0, count_chunk, &count, NULL),
                     HAUL_OK);
    at[2] = cpu_seconds();
    assert_int_equal(count, 100000);
    assert_int_equal(hl_store_done(s, id, NULL, NULL), HAUL_OK);
    at[3] = cpu_seconds();
    print_message("batch of 2: %.1f us, load: %.1f ms, done: %.1f ms\n",
                  (at[1] - at[0]) / 50000 * 1e6, (at[2] - at[1]) * 1e3,
                  (at[3] - at[2]) * 1e3);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(at[2] - at[1] < 0.2);
    assert_true(at[1] - at[0] < 15.0);
#endif
    hl_store_close(s);
}

/* What a power cut must not take is flushed, what it may take is not. */
static void only_what_must_last_is_flushed(void **state)
{
    const struct hl_range first = {0, 1};
    struct hl_store *s = open_store(path);
    struct hl_saved_object o;
    int64_t id;

    (void)state;
#define EXPECT_FLUSH(yes, call)                                                \
    do {                                                                       \
        flushes = 0;                                                           \
        (void)(call);                                                          \
        assert_int_equal(flushes > 0, yes);                                    \
    } while (0)
    EXPECT_FLUSH(1, id = create(s, "k"));
    EXPECT_FLUSH(1, put_object(s, id, 0, 100));
    EXPECT_FLUSH(0, put_chunk(s, id, 0, 0, 10));
    EXPECT_FLUSH(0, put_chunk(s, id, 0, 1, 10));
    EXPECT_FLUSH(0, hl_store_durable(s, id, 0, 1, NULL));
    EXPECT_FLUSH(1, hl_store_token_put(s, id, 0, "t", NULL));
    EXPECT_FLUSH(0, put_chunk(s, id, 0, 2, 10));
    EXPECT_FLUSH(1, hl_store_chunks_remove(s, id, 0, &first, 1, NULL));
    EXPECT_FLUSH(0, put_chunk(s, id, 0, 3, 10));
    EXPECT_FLUSH(1, hl_store_note_put(s, id, 0, 1, "note", NULL));
    EXPECT_FLUSH(0, hl_store_set_error(s, id, "e", NULL));
    EXPECT_FLUSH(0, hl_store_fact_put(s, "k", "v", NULL));
    EXPECT_FLUSH(1, hl_store_chunks_clear(s, id, 0, NULL));
    EXPECT_FLUSH(0, put_chunk(s, id, 0, 2, 10));
    EXPECT_FLUSH(1, hl_store_done(s, id, NULL, NULL));
    o = get_object(s, id, 0);
    hl_saved_object_fini(&o);
    EXPECT_FLUSH(1, hl_store_forget(s, id, NULL));
#undef EXPECT_FLUSH
    hl_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(transfer_is_found_by_the_next_process),
        T(newest_transfer_of_a_key_is_found),
        T(ids_are_not_reused),
        T(forgetting_takes_objects_and_chunks),
        T(error_of_the_last_run_is_kept_until_cleared),
        T(done_keeps_the_result_and_drops_the_rest),
        T(newest_thousand_finished_are_kept),
        T(list_is_in_order_with_sums),
        T(object_is_got_as_put),
        T(replacing_an_object_keeps_batches_and_bytes),
        T(token_is_replaced_and_removed),
        T(chunks_are_loaded_ascending_as_put),
        T(acked_again_is_newer_and_counts_once),
        T(removed_and_cleared_chunks_are_gone),
        T(notes_come_by_part_and_go_with_the_chunks),
        T(durable_mark_only_rises_and_not_into_the_future),
        T(facts_are_replaced_and_unknown_is_null),
        T(hundred_thousand_chunks_are_quick),
        T(only_what_must_last_is_flushed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
