/* What the HTTP driver needs of the engine, in virtual time over "mem:" and
 * "faulty:": targets that confirm as a whole, digests that a server offers,
 * sources without a validator. */
#include "sim.h"

/* ---- Late targets ------------------------------------------------------- */

/* Nothing of what a late target took stays in memory but ranges and digests,
 * also when all of it has to be sent again. */
static void a_late_object_of_many_chunks_takes_no_memory(void **state)
{
    const uint64_t chunk = 64 << 10, chunks = 20000;
    char source[160], target[160];
    static struct run r;

    (void)state;
    for (int offset = 0; offset < 2; offset++) {
        begin(&r, 99);
        option(&r, HAUL_OPT_CHUNK_SIZE, chunk);
        hl_engine_set_memory(r.engine, 8 << 20);
        r.memory = 8 << 20;
        r.late = true;
        snprintf(source, sizeof(source), "mem:gen?size=%llu&seed=1&runs=%d",
                 (unsigned long long)(chunk * chunks), offset ? 1 << 20 : 0);
        /* Breaks once, almost at the end. */
        snprintf(target, sizeof(target),
                 "faulty:seed=4,write_error=0.01,once=1,after=%llu,"
                 "delay_us=3:mem:null?late=1&ordered=1",
                 (unsigned long long)(chunk * (chunks - 500)));
        if (offset)
            option(&r, HAUL_OPT_CONNECTIONS, 5);
        assert_int_equal(transfer(&r, source, target, NULL, NULL), 0);
        assert_true(r.resent > chunk * (chunks - 600));
        assert_true(r.stats_late > 0);
        /* A piece is an allocation or two, and a buffer. */
        assert_true(r.live_max < 1200);
        end(&r);
    }
}

/* The connection dies before its first byte, in the middle, at the last one,
 * and instead of an answer: everything is sent again, in order. */
static void a_break_anywhere_sends_everything_again(void **state)
{
    char target[160];
    static struct run r;

    (void)state;
    for (uint64_t chunk = 1; chunk <= 22; chunk++) {
        bool answer = chunk == 22;

        begin(&r, 7);
        r.size = 20 * 65536 + 5;
        option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
        option(&r, HAUL_OPT_RATE_LIMIT, 200000); /* one after another */
        snprintf(target, sizeof(target),
                 "faulty:%s=1,once=1,after=%llu:"
                 "mem:buf?id=t&late=1&ordered=1",
                 answer ? "lost" : "write_error",
                 (unsigned long long)hl_min(chunk * 65536, r.size));
        snprintf(r.source, sizeof(r.source), "mem:gen?size=%llu&seed=7",
                 (unsigned long long)r.size);
        assert_int_equal(transfer(&r, r.source, target, NULL, NULL), 0);
        assert_int_equal(r.resent, answer ? r.size : (chunk - 1) * 65536);
        expect_bytes(&r);
        end(&r);
    }
}

static void a_late_part_is_tried_as_often_as_asked(void **state)
{
    static struct run r;

    (void)state;
    for (int retries = 0; retries < 4; retries++) {
        begin(&r, 7);
        option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
        option(&r, HAUL_OPT_RETRIES, (uint64_t)retries);
        /* Every answer is lost, mostly with an outage. */
        assert_int_not_equal(transfer(&r, "mem:gen?size=1000000&seed=7",
                                      "faulty:lost=1:mem:buf?id=t&late=1&"
                                      "ordered=1",
                                      "key", NULL),
                             0);
        assert_int_equal(r.resent, (uint64_t)retries * 1000000);
        assert_int_equal(unfinished(&r), 0);
        end(&r);
    }
}

/* What the server said is told, whatever it was. */
static void an_answer_is_part_of_the_result(void **state)
{
    struct hl_item_config item;
    struct hl_item_result result;
    static struct run r;

    (void)state;
    for (int refuse = 0; refuse < 2; refuse++) {
        begin(&r, 7);
        option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
        parse_item(&item, "mem:gen?size=200000&seed=7",
                   refuse ? "faulty::mem:buf?id=t&late=1&ordered=1&refuse=1"
                          : "faulty::mem:buf?id=t&late=1&ordered=1");
        run_items(&r, &item, 1, NULL);
        assert_int_equal(r.rc, refuse ? HAUL_E_REMOTE : 0);
        hl_transfer_item_result(r.t, 0, &result);
        assert_int_equal(result.answer->status, refuse ? 413 : 201);
        assert_string_equal(result.answer->body,
                            refuse ? "too large\n" : "stored\n");
        hl_transfer_free(r.t);
        fini_item(&item);
        end(&r);
    }
}

static void a_pipe_whose_bytes_are_lost_says_so(void **state)
{
    static struct run r;

    (void)state;
    begin(&r, 7);
    option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
    assert_int_not_equal(
        transfer(&r, "mem:gen?size=1000000&seed=7&seek=0&unknown=1",
                 "faulty:write_error=1,after=300000,once=1:"
                 "mem:buf?id=t&late=1&ordered=1",
                 "key", NULL),
        0);
    assert_non_null(strstr(r.error.message, "cannot be read again"));
    assert_non_null(strstr(r.error.hint, "file first"));
    assert_int_equal(unfinished(&r), 0);
    assert_int_equal(hl_membuf_count(), 0);
    end(&r);
}

/* What has not been taken yet is still there. */
static void a_pipe_survives_an_outage_before_its_first_byte(void **state)
{
    static struct run r;

    (void)state;
    begin(&r, 7);
    r.size = 10 * 65536;
    option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
    assert_int_equal(
        transfer(&r, "mem:gen?size=640ki&seed=7&seek=0&unknown=1",
                 "faulty:write_error=1,once=1:mem:buf?id=t&late=1&ordered=1",
                 NULL, NULL),
        0);
    expect_bytes(&r);
    end(&r);
}

/* The server says what the digest is: right, wrong, of a copy that was
 * interrupted, and of bytes that come in any order. */
static void an_offered_digest_is_compared(void **state)
{
    static const char *const targets[] = {"mem:buf?id=t",
                                          "mem:buf?id=t&ordered=1",
                                          "mem:buf?id=t&ordered=1&late=1"};
    struct hl_membuf_stat st;
    char source[160];
    static struct run r;

    (void)state;
    for (size_t i = 0; i < 4 * HL_LEN(targets); i++) {
        int offer = i & 1 ? 2 : 1;

        begin(&r, 7);
        option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
        option(&r, HAUL_OPT_CONNECTIONS, 4);
        hl_engine_set_memory(r.engine, 4 << 20);
        snprintf(source, sizeof(source),
                 "faulty:delay_us=20000,read_error=0.02:"
                 "mem:gen?size=20000000&seed=7&offer=%d%s",
                 offer, i & 2 ? "&runs=1mi" : "");
        transfer(&r, source, targets[i / 4], NULL, NULL);
        if (offer == 1) {
            assert_int_equal(r.rc, 0);
            assert_string_equal(r.verified, "remote");
        } else {
            assert_int_equal(r.rc, HAUL_E_DIGEST);
            assert_non_null(strstr(r.error.message, "the server says xxh128 "));
            assert_false(hl_membuf_stat("t", &st));
        }
        end(&r);
    }
}

/* --verify remote of a copy that was interrupted reads the target back. */
static void a_resumed_copy_is_compared_when_asked(void **state)
{
    static const char source[] =
        "faulty:delay_us=9000:mem:gen?size=20000000&seed=7&offer=";
    char name[160];
    static struct run r;

    (void)state;
    for (int offer = 1; offer <= 2; offer++) {
        begin(&r, 7);
        option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
        option(&r, HAUL_OPT_RATE_LIMIT, 20000000);
        r.cancel_at = 5000000;
        snprintf(name, sizeof(name), "%s%d", source, offer);
        assert_int_equal(
            transfer(&r, name, "faulty:delay_us=9000:mem:buf?id=t", "k", NULL),
            HAUL_E_CANCELED);
        assert_int_equal(
            hl_opts_set_str(r.opts, 0, HAUL_OPT_VERIFY, "remote", NULL), 0);
        /* This target cannot tell its digest. */
        assert_int_equal(transfer(&r, name,
                                  "faulty:delay_us=9000:mem:buf?id=t&mute=1",
                                  "k", NULL),
                         offer == 1 ? 0 : HAUL_E_DIGEST);
        if (offer == 1)
            assert_string_equal(r.verified, "remote");
        end(&r);
    }
}

static void a_weak_source_is_copied_from_its_beginning(void **state)
{
    const char source[] =
        "faulty:delay_us=9000:mem:gen?size=20000000&seed=7&weak=1";
    static struct run r;

    (void)state;
    begin(&r, 7);
    option(&r, HAUL_OPT_CHUNK_SIZE, 65536);
    option(&r, HAUL_OPT_RATE_LIMIT, 20000000);
    r.cancel_at = 5000000;
    assert_int_equal(transfer(&r, source, "mem:buf?id=t", "k", NULL),
                     HAUL_E_CANCELED);
    assert_int_equal(
        hl_opts_set_str(r.opts, 0, HAUL_OPT_RESUME, "require", NULL), 0);
    assert_int_equal(transfer(&r, source, "mem:buf?id=t", "k", NULL),
                     HAUL_E_RESUME);
    assert_non_null(strstr(r.error.message, "no strong validator"));
    assert_int_equal(hl_opts_set_str(r.opts, 0, HAUL_OPT_RESUME, NULL, NULL),
                     0);
    assert_int_equal(transfer(&r, source, "mem:buf?id=t", "k", NULL), 0);
    assert_non_null(strstr(r.warning, "starts from the beginning"));
    assert_int_equal(hl_membuf_count(), 1);
    end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_object_of_many_chunks_takes_no_memory),
        cmocka_unit_test(a_break_anywhere_sends_everything_again),
        cmocka_unit_test(a_late_part_is_tried_as_often_as_asked),
        cmocka_unit_test(an_answer_is_part_of_the_result),
        cmocka_unit_test(a_pipe_whose_bytes_are_lost_says_so),
        cmocka_unit_test(a_pipe_survives_an_outage_before_its_first_byte),
        cmocka_unit_test(an_offered_digest_is_compared),
        cmocka_unit_test(a_resumed_copy_is_compared_when_asked),
        cmocka_unit_test(a_weak_source_is_copied_from_its_beginning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
