/*
 * Bodies and breaks of uploads made of requests (io/http_part.c, http_sender.c)
 * against a real server: what is sent, what is sent again, and what is said of
 * it. The ledger of http_upload_world.h looks at every byte.
 */
#include "http_upload_world.h"

/* ---- Bodies ------------------------------------------------------------- */

static void bodies_are_as_long_as_the_bound(void **state)
{
    (void)state;
    manners.bound = 256 * KI;
    size = 700 * KI;
    open_upload();
    move_all();
    check_stored();
    assert_int_equal(seen_of("HEAD"), 1);
    assert_int_equal(seen_of("PATCH"), 3);
    assert_int_equal(seen_at("PATCH", 1).length, 256 * KI);
    assert_int_equal(seen_at("PATCH", 2).length, 256 * KI);
    assert_int_equal(seen_at("PATCH", 3).length, 188 * KI);
    assert_int_equal(skipped_bytes, 0);
    commit_now();
    assert_int_equal(seen_of("POST"), 1);
    abort_now();
}

static void bound_grows_while_all_goes_well(void **state)
{
    (void)state;
    manners.bound = 64 * KI;
    size = 1024 * KI;
    open_upload();
    obj->upload->bound_max = 256 * KI;
    move_all();
    check_stored();
    assert_int_equal(seen_at("PATCH", 1).length, 64 * KI);
    assert_int_equal(seen_at("PATCH", 2).length, 128 * KI);
    assert_int_equal(seen_at("PATCH", 3).length, 256 * KI);
    assert_int_equal(seen_at("PATCH", 4).length, 256 * KI);
    abort_now();
}

static void bodies_may_end_inside_of_a_chunk(void **state)
{
    (void)state;
    manners.bound = 40 * KI;
    size = 300 * KI;
    window = 2;
    open_upload();
    move_all();
    check_stored();
    assert_int_equal(seen_of("PATCH"), 8);
    assert_int_equal(skipped_bytes, 0);
    abort_now();
}

static void parts_go_at_once_over_senders_of_their_own(void **state)
{
    (void)state;
    manners.parts.size = 128 * KI;
    size = 1000 * KI;
    open_upload();
    move_all();
    check_stored();
    assert_int_equal(seen_of("PATCH"), 8);
    assert_in_range(obj->upload->senders, 1, 8);
    assert_int_equal(obj->upload->idle_count, obj->upload->senders);
    commit_now();
    abort_now();
}

static void parts_share_the_senders_that_are_idle(void **state)
{
    (void)state;
    manners.parts.size = 128 * KI;
    size = 1024 * KI;
    open_upload();
    for (unsigned i = 0; i < lane_count; i++) {
        while (lanes[i].next < lanes[i].end)
            submit_next(&lanes[i]);
        WAIT_UNTIL(ledger[lanes[i].end - 1] & ACKED);
    }
    check_stored();
    assert_int_equal(obj->upload->senders, 1);
    abort_now();
}

static void length_that_is_not_known_goes_as_it_comes(void **state)
{
    (void)state;
    pipe_like = true;
    window = 3;
    size = 500 * KI;
    open_upload();
    move_all();
    check_stored();
    assert_true(seen_of("PATCH") >= 3);
    abort_now();
}

static void whole_parts_wait_until_their_end_is_known(void **state)
{
    (void)state;
    pipe_like = true;
    protocol.whole_parts = true;
    manners = (struct manners){.caps = HL_CAP_ORDERED | HL_CAP_LATE,
                               .method = "PUT",
                               .parts = {.size = 256 * KI}};
    size = 700 * KI;
    open_upload();
    for (int i = 0; i < 3; i++)
        submit_next(&lanes[0]);
    settle();
    assert_int_equal(seen_of("PUT"), 0);
    move_all();
    check_stored();
    assert_int_equal(seen_of("PUT"), 3);
    for (unsigned i = 1; i <= 3; i++) {
        struct seen s = seen_at("PUT", i);

        assert_int_equal(s.length, (s.thing < 2 ? 256 : 188) * KI);
    }
    abort_now();
}

static void body_without_length_ends_with_the_last_write(void **state)
{
    (void)state;
    pipe_like = true;
    protocol.chunked = true;
    manners = (struct manners){
        .caps = HL_CAP_ORDERED | HL_CAP_LATE, .method = "PUT", .expects = true};
    size = 450 * KI;
    window = 2;
    open_upload();
    move_all();
    check_stored();
    assert_int_equal(seen_of("PUT"), 1);
    assert_true(seen_at("PUT", 1).length == HL_SIZE_UNKNOWN);
    commit_now();
    abort_now();
}

static void body_of_one_write_is_taken_when_it_is_answered(void **state)
{
    (void)state;
    size = 100;
    open_upload();
    move_all();
    check_stored();
    commit_now();
    abort_now();
}

static void empty_object_has_only_a_commit(void **state)
{
    (void)state;
    size = 0;
    open_upload();
    commit_now();
    assert_int_equal(seen_of(NULL), 1);
    abort_now();
}

static void upload_can_be_removed_after_it_was_aborted(void **state)
{
    (void)state;
    open_upload();
    submit_next(&lanes[0]);
    abort_now();
    start_discard();
    WAIT_UNTIL(discard_t.returned);
    assert_int_equal(discard_t.rc, 0);
    assert_int_equal(seen_of("DELETE"), 1);
    abort_now();
}

static void write_that_fits_nowhere_is_a_bug(void **state)
{
    struct write *w;

    (void)state;
    open_upload();
    submit(0, chunk);
    lanes[0].broken = true; /* the ledger waits */
    w = submit(2 * chunk, chunk);
    WAIT_UNTIL(w->home);
    assert_int_equal(w->io.op.rc, HAUL_E_BUG);
    abort_now();
}

/* ---- A body that is sent again at once ---------------------------------- */

static void redirect_once(const struct seen *s, struct reply *r)
{
    if (strcmp(s->method, "PATCH") != 0 || s->n > 1)
        return;
    *r = (struct reply){.status = 307,
                        .read_max = HL_SIZE_UNKNOWN,
                        .drop = true,
                        .offset = HL_SIZE_UNKNOWN,
                        .more = "Location: /1\r\n",
                        .body = "there"};
}

/* Whatever of it was sent: the write is kept. */
static void redirect_is_followed_with_a_body_of_one_write(void **state)
{
    (void)state;
    atomic_store(&store.script, redirect_once);
    size = chunk;
    open_upload();
    move_all();
    assert_int_equal(breaks, 0);
    assert_int_equal(lost_reports, 0);
    assert_int_equal(stored(0), 0);
    assert_int_equal(stored(1), chunk);
    assert_memory_equal(store.things[1].data, bytes, chunk);
    assert_int_equal(atomic_load(&wrong_data), 0);
    abort_now();
}

static void redirect_of_a_longer_body_is_followed_by_the_next(void **state)
{
    (void)state;
    atomic_store(&store.script, redirect_once);
    manners.asks = false;
    open_upload();
    move_all();
    assert_int_equal(sent_error.code, HAUL_E_RESET);
    assert_true(breaks + lost_reports > 0);
    assert_int_equal(stored(0), 0);
    assert_int_equal(stored(1), size);
    assert_memory_equal(store.things[1].data, bytes, size);
    abort_now();
}

static void close_after_head(const struct seen *s, struct reply *r)
{
    if (!strcmp(s->method, "HEAD"))
        r->close = true;
}

static void connection_that_died_costs_a_body_of_one_write_nothing(void **state)
{
    (void)state;
    atomic_store(&store.script, close_after_head);
    size = chunk;
    open_upload();
    move_all();
    check_stored();
    assert_int_equal(breaks, 0);
    abort_now();
}

/* ---- Breaks ------------------------------------------------------------- */

static void cut_early(const struct seen *s, struct reply *r)
{
    if (!strcmp(s->method, "PATCH") && s->n == 1) {
        r->status = 0;
        r->read_max = 150 * KI;
    }
}

static void after_a_cut_only_what_is_missing_is_sent(void **state)
{
    (void)state;
    atomic_store(&store.script, cut_early);
    open_upload();
    move_all();
    check_stored();
    assert_int_equal(seen_of("HEAD"), 2);
    assert_int_equal(seen_of("PATCH"), 2);
    assert_int_equal(seen_at("PATCH", 1).got, 150 * KI);
    assert_int_equal(seen_at("PATCH", 2).offset, 150 * KI);
    assert_int_equal(seen_at("PATCH", 2).got, size - 150 * KI);
    assert_int_equal(sent_error.code, HAUL_E_RESET);
    /* What is told of in the middle of a write is not sent again. */
    assert_true(skipped_bytes > 0 && skipped_bytes <= 150 * KI);
    abort_now();
}

/* The target has all of it, and only the answer was lost. */
static void cut_answer(const struct seen *s, struct reply *r)
{
    if (!strcmp(s->method, "PATCH") && s->n == 1) {
        r->status = 0;
    } else if (!strcmp(s->method, "HEAD")) {
        r->more = "Connection: close\r\n";
        r->close = true;
    }
}

static void what_arrived_before_a_lost_answer_is_skipped(void **state)
{
    (void)state;
    atomic_store(&store.script, cut_answer);
    open_upload();
    move_all();
    check_stored();
    assert_int_equal(seen_of("PATCH"), 1);
    /* It was taken twice and sent once. */
    assert_int_equal(taken_bytes - skipped_bytes, size);
    abort_now();
}

static void the_only_write_that_was_sent_counts_as_sent(void **state)
{
    (void)state;
    atomic_store(&store.script, cut_answer);
    size = chunk;
    open_upload();
    move_all();
    check_stored();
    assert_int_equal(taken_bytes, 2 * size);
    assert_int_equal(skipped_bytes, size);
    assert_int_equal(lost_reports, 1);
    assert_int_equal(breaks, 0);
    abort_now();
}

static void resumed_part_begins_where_the_target_is(void **state)
{
    (void)state;
    open_upload();
    store_put(0, bytes, 200 * KI);
    memset(ledger, ACKED, 200 * KI);
    lanes[0].next = 200 * KI;
    move_all();
    check_stored();
    assert_int_equal(seen_at("PATCH", 1).offset, 200 * KI);
    abort_now();
}

static void target_may_have_more_than_it_had_confirmed(void **state)
{
    (void)state;
    open_upload();
    store_put(0, bytes, 200 * KI);
    memset(ledger, ACKED, 100 * KI);
    lanes[0].next = 100 * KI;
    move_all();
    check_stored();
    assert_int_equal(skipped_bytes, 100 * KI);
    assert_int_equal(seen_at("PATCH", 1).offset, 200 * KI);
    abort_now();
}

static void target_that_has_less_than_it_confirmed_has_lost_it(void **state)
{
    (void)state;
    open_upload();
    store_put(0, bytes, 100 * KI);
    memset(ledger, ACKED, 200 * KI);
    lanes[0].next = 200 * KI;
    move_all();
    assert_int_equal(failure.code, HAUL_E_LOST);
    assert_int_equal(seen_of("PATCH"), 0);
    abort_now();
}

static void target_that_claims_what_was_never_sent_is_not_believed(void **state)
{
    (void)state;
    size = 512 * KI;
    open_upload();
    store_put(0, bytes, size + 1);
    move_all();
    assert_int_equal(failure.code, HAUL_E_RESUME);
    abort_now();
}

/* The first body of three chunks is cut; the server goes on reading what is in
 * its buffers after it was asked. */
static void late_bytes(const struct seen *s, struct reply *r)
{
    if (!strcmp(s->method, "PATCH") && s->n == 1) {
        r->status = 0;
        r->read_max = 10 * KI;
    } else if (!strcmp(s->method, "PATCH") && s->n == 2) {
        store_put(0, bytes, 3 * chunk);
        r->status = 409;
        r->drop = true;
    }
}

static void bytes_that_arrive_after_the_question_are_ours(void **state)
{
    (void)state;
    atomic_store(&store.script, late_bytes);
    pipe_like = true;
    size = 3 * chunk;
    open_upload();
    for (int i = 0; i < 3; i++)
        submit_next(&lanes[0]);
    WAIT_UNTIL(lanes[0].out == 0);
    window = 1; /* bodies of one chunk: no more than that is sent */
    move_all();
    assert_int_equal(failure.code, 0);
    check_stored();
    abort_now();
}

static bool is_too_large(const struct seen *s, uint64_t most)
{
    return !strcmp(s->method, "PATCH") && s->length > most;
}

static void small_only(const struct seen *s, struct reply *r)
{
    if (is_too_large(s, 300 * KI)) {
        r->status = 413;
        r->read_max = 0;
        r->body = "too much";
    }
}

static void too_large_bodies_become_smaller(void **state)
{
    (void)state;
    atomic_store(&store.script, small_only);
    manners.bound = 4096 * KI;
    size = 3000 * KI;
    window = 8;
    open_upload();
    move_all();
    check_stored();
    /* 3000, 750, 187 KiB and what ends with a chunk. */
    assert_int_equal(seen_at("PATCH", 1).length, 3000 * KI);
    assert_true(seen_at("PATCH", 2).length <= 750 * KI);
    assert_true(seen_at("PATCH", 3).length <= 188 * KI);
    assert_int_equal(failure.code, 0);
    abort_now();
}

static void tiny_only(const struct seen *s, struct reply *r)
{
    if (is_too_large(s, 0)) {
        r->status = 413;
        r->read_max = 0;
    }
}

static void server_that_takes_no_body_at_all_is_given_up(void **state)
{
    (void)state;
    atomic_store(&store.script, tiny_only);
    manners.bound = 4096 * KI;
    size = 3000 * KI;
    open_upload();
    move_all();
    assert_int_equal(failure.code, HAUL_E_REMOTE);
    assert_int_equal(failure.proto_status, 413);
    assert_true(seen_of("PATCH") <= 5);
    abort_now();
}

/* The first body of thing 1 is refused when that of thing 0 has long made the
 * bound smaller. */
static void slow_refusal(const struct seen *s, struct reply *r)
{
    if (is_too_large(s, 100 * KI)) {
        r->status = 413;
        r->read_max = 0;
        r->hold = s->thing == 1;
    }
}

static void late_refusal_does_not_make_bodies_larger_again(void **state)
{
    unsigned refused = 0;

    (void)state;
    atomic_store(&store.script, slow_refusal);
    manners.bound = 2048 * KI;
    manners.parts.size = 1536 * KI;
    size = 3072 * KI;
    open_upload();
    submit_next(&lanes[1]);
    WAIT_UNTIL(held() == 1);
    WAIT_UNTIL((feed_lanes(), ledger[lanes[0].end - 1] & ACKED));
    assert_int_equal(obj->upload->bound, 96 * KI);
    open_gate(true);
    move_all();
    check_stored();
    /* 1536 and 384 KiB of thing 0, 1536 of thing 1. */
    for (unsigned i = 1; i <= seen_of("PATCH"); i++)
        refused += seen_at("PATCH", i).length > 100 * KI;
    assert_int_equal(refused, 3);
    abort_now();
}

static void busy(const struct seen *s, struct reply *r)
{
    if (!strcmp(s->method, "PATCH") && s->n == 1) {
        r->status = 503;
        r->read_max = 0;
        r->more = "Retry-After: 7\r\n";
        r->body = "come again";
    }
}

static void when_to_come_again_is_kept(void **state)
{
    (void)state;
    atomic_store(&store.script, busy);
    open_upload();
    move_all();
    check_stored();
    assert_int_equal(sent_error.code, HAUL_E_REMOTE_BUSY);
    assert_int_equal(sent_error.proto_status, 503);
    assert_int_equal(sent_error.retry_after_ns, 7 * HL_NS_PER_S);
    abort_now();
}

static void busy_head(const struct seen *s, struct reply *r)
{
    if (!strcmp(s->method, "HEAD") && s->n == 1) {
        r->status = 503;
        r->more = "Retry-After: 9\r\n";
    }
}

static void a_question_keeps_when_to_come_again_too(void **state)
{
    struct write *w;

    (void)state;
    atomic_store(&store.script, busy_head);
    open_upload();
    w = submit_next(&lanes[0]);
    WAIT_UNTIL(w->home);
    assert_int_equal(w->io.op.rc, HAUL_E_REMOTE_BUSY);
    assert_int_equal(w->io.op.error.retry_after_ns, 9 * HL_NS_PER_S);
    move_all();
    check_stored();
    abort_now();
}

/* ---- Answers that come too early ---------------------------------------- */

static int early_status;

static void early(const struct seen *s, struct reply *r)
{
    if (strcmp(s->method, "POST") != 0 || s->n > 1)
        return;
    r->status = early_status;
    r->read_max = chunk;
    r->offset = size;
    r->more = "Location: /elsewhere\r\n";
}

/* It cannot have stored what it did not read. */
static void no_success_before_everything_was_sent(void **state)
{
    static const int statuses[] = {200, 204, 303};

    (void)state;
    atomic_store(&store.script, early);
    manners.trusts = true;
    manners.asks = false;
    manners.method = "POST";
    size = 2048 * KI;
    for (size_t i = 0; i < HL_LEN(statuses); i++) {
        early_status = statuses[i];
        open_upload();
        submit_next(&lanes[0]);
        submit_next(&lanes[0]);
        WAIT_UNTIL(sent_count == 1);
        settle();
        for (uint64_t at = 0; at < size; at++)
            assert_false(ledger[at] & ACKED);
        assert_true(breaks + lost_reports > 0);
        move_all();
        check_stored();
        abort_now();
        store_put(0, bytes, 0);
        pthread_mutex_lock(&store.lock);
        store.seen_count = 0;
        pthread_mutex_unlock(&store.lock);
    }
}

/* ---- Random ------------------------------------------------------------- */

static _Atomic uint64_t dice;

static unsigned roll(unsigned n)
{
    uint64_t x = atomic_fetch_add(&dice, 0x9e3779b97f4a7c15u);

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (unsigned)((x ^ (x >> 31)) >> 33) % n;
}

static void anything(const struct seen *s, struct reply *r)
{
    static const int statuses[] = {500, 502, 503, 409, 200, 0, 0, 0};

    if (r->status == 409 || roll(3))
        return;
    r->status = statuses[roll(HL_LEN(statuses))];
    r->read_max = roll(2) ? roll(400) * KI : HL_SIZE_UNKNOWN;
    r->close = roll(2);
    if (!strcmp(s->method, "HEAD") && r->status && r->status < 500)
        r->status = 503;
}

/* Parts that go on where the target is, parts that are sent as a whole, or one
 * body of unknown length. */
static void random_manners(void)
{
    unsigned kind = roll(4);

    chunk = (16u << roll(3)) * KI;
    /* A whole part may have to wait at the target. */
    window = kind == 2 ? 16 : 1 + roll(6);
    pipe_like = roll(2) || kind == 3;
    manners = (struct manners){.caps = HL_CAP_ORDERED, .method = "PATCH"};
    protocol = protocol_usual;
    if (kind < 2) {
        manners.asks = true;
        manners.bound = roll(3) ? (32 + roll(512)) * KI : 0;
    } else {
        manners.method = "PUT";
        manners.caps |= HL_CAP_LATE;
        manners.expects = roll(2);
        protocol.whole_parts = kind == 2;
        protocol.chunked = kind == 3;
    }
    if (kind == 2 || (kind < 2 && roll(2)))
        manners.parts.size = 256 * KI;
    size = manners.parts.size ? (700 + roll(1500)) * KI : 1 + roll(1500 * KI);
}

static void random_upload(unsigned seed)
{
    atomic_store(&dice, seed);
    random_manners();
    atomic_store(&store.script, anything);
    for (unsigned i = 0; i < THINGS; i++)
        store_put(i, bytes, 0);
    open_upload();
    move_all();
    assert_int_equal(failure.code, 0);
    atomic_store(&store.script, NULL);
    check_stored();
    abort_now();
}

static void whatever_the_server_does_the_bytes_are_right(void **state)
{
    const char *text = getenv("SEED"), *many = getenv("SEEDS");
    unsigned first = text ? (unsigned)strtoul(text, NULL, 10) : 1;
    unsigned count = many ? (unsigned)strtoul(many, NULL, 10) : 25;

    (void)state;
    for (unsigned i = 0; i < count; i++) {
        print_message("SEED=%u\n", first + i);
        random_upload(first + i);
        atomic_store(&store.script, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(bodies_are_as_long_as_the_bound),
        T(bound_grows_while_all_goes_well),
        T(bodies_may_end_inside_of_a_chunk),
        T(parts_go_at_once_over_senders_of_their_own),
        T(parts_share_the_senders_that_are_idle),
        T(length_that_is_not_known_goes_as_it_comes),
        T(whole_parts_wait_until_their_end_is_known),
        T(body_without_length_ends_with_the_last_write),
        T(body_of_one_write_is_taken_when_it_is_answered),
        T(empty_object_has_only_a_commit),
        T(upload_can_be_removed_after_it_was_aborted),
        T(write_that_fits_nowhere_is_a_bug),
        T(redirect_is_followed_with_a_body_of_one_write),
        T(redirect_of_a_longer_body_is_followed_by_the_next),
        T(connection_that_died_costs_a_body_of_one_write_nothing),
        T(after_a_cut_only_what_is_missing_is_sent),
        T(what_arrived_before_a_lost_answer_is_skipped),
        T(the_only_write_that_was_sent_counts_as_sent),
        T(resumed_part_begins_where_the_target_is),
        T(target_may_have_more_than_it_had_confirmed),
        T(target_that_has_less_than_it_confirmed_has_lost_it),
        T(target_that_claims_what_was_never_sent_is_not_believed),
        T(bytes_that_arrive_after_the_question_are_ours),
        T(too_large_bodies_become_smaller),
        T(server_that_takes_no_body_at_all_is_given_up),
        T(late_refusal_does_not_make_bodies_larger_again),
        T(when_to_come_again_is_kept),
        T(a_question_keeps_when_to_come_again_too),
        T(no_success_before_everything_was_sent),
        T(whatever_the_server_does_the_bytes_are_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
