/* A source over HTTP against a scripted server: which ranges are asked for,
 * whose bytes are used, and what becomes of every wrong answer. */
#ifdef HL_WITH_HTTP

#include "http_source.h"
#include "http_source_world.h"

/* ---- Opening ------------------------------------------------------------ */

static void opens_with_the_first_range(void **state)
{
    struct world *w = *state;

    assert_int_equal(open_source(w), 0);
    assert_int_equal(w->open.identity.size, SIZE);
    assert_string_equal(w->open.identity.validator, "\"one\"");
    assert_int_equal(w->open.identity.mtime_ns,
                     INT64_C(1767225600) * INT64_C(1000000000));
    assert_false(w->open.identity.weak);
    assert_int_equal(w->open.layout.caps, HL_CAP_SEEK);
    assert_int_equal(w->open.layout.run_max, UINT64_C(64) << 20);
    assert_string_equal(ask_at(1).range, "bytes=0-131071");
    assert_string_equal(ask_at(1).if_range, "");
    read_well(w, 0, CHUNK, SIZE);
    assert_int_equal(asked(), 1);
}

static void says_no_range(const struct ask *a, struct reply *r)
{
    if (a->ranged)
        *r = (struct reply){.status = 416,
                            .more = "Content-Range: bytes */0\r\n"};
}

static void an_object_may_be_empty(void **state)
{
    struct world *w = *state;
    struct reading r;

    server.script = says_no_range;
    assert_int_equal(open_source(w), 0);
    assert_int_equal(w->open.identity.size, 0);
    start_read(w, &r, 0, 10, 10);
    end_read(&r, 0);
    assert_int_equal(r.io.done, 0);
    assert_true(r.io.eof);
}

static void hides_total(const struct ask *a, struct reply *r)
{
    if (a->ranged)
        r->total = TOLD;
}

static void asks_for_the_whole_when_the_total_is_hidden(void **state)
{
    struct world *w = *state;

    server.script = hides_total;
    assert_int_equal(open_source(w), 0);
    assert_int_equal(asked(), 2);
    assert_false(ask_at(2).ranged);
    assert_int_equal(w->open.layout.caps, 0);
    assert_int_equal(w->open.identity.size, SIZE);
    read_well(w, 0, CHUNK, CHUNK);
}

static void dates_only(const struct ask *a, struct reply *r)
{
    (void)a;
    r->etag = "W/\"one\"";
}

static void an_old_date_is_a_validator(void **state)
{
    struct world *w = *state;

    server.script = dates_only;
    assert_int_equal(open_source(w), 0);
    assert_string_equal(w->open.identity.validator, "@1767225600");
    assert_false(w->open.identity.weak);
    read_well(w, 4 * CHUNK, CHUNK, 5 * CHUNK);
    assert_string_equal(ask_at(2).if_range, "Thu, 01 Jan 2026 00:00:00 GMT");
}

static void young(const struct ask *a, struct reply *r)
{
    (void)a;
    r->etag = "W/\"one\"";
    r->more = "Date: Thu, 01 Jan 2026 00:00:59 GMT\r\n";
}

static void a_young_date_is_none(void **state)
{
    struct world *w = *state;

    server.script = young;
    assert_int_equal(open_source(w), 0);
    assert_string_equal(w->open.identity.validator, "");
    assert_true(w->open.identity.weak);
    read_well(w, 4 * CHUNK, CHUNK, 5 * CHUNK);
    assert_string_equal(ask_at(2).if_range, "");
}

/* ---- Wrong answers ------------------------------------------------------ */

/* The answers from this one on are wrong, in this way. */
static atomic_uint wrong_from;
static atomic_int wrong_how;

static void wrong_kind(int how, struct reply *r)
{
    switch (how) {
    case 0: /* not from where it was asked for; no length tells */
        r->begin++;
        r->from++;
        r->len--;
        r->chunked = true;
        break;
    case 1: /* not to where, though more is there */
        r->end--;
        r->len--;
        r->chunked = true;
        break;
    case 2: /* not said which */
        r->end = r->begin;
        break;
    case 3:
        r->more = "Content-Type: multipart/byteranges; boundary=x\r\n";
        break;
    case 4:
        r->length = r->len + 1;
        break;
    case 5:
        r->more = "Content-Encoding: gzip\r\n";
        break;
    case 6:
        r->status = 404;
        break;
    case 7:
        r->status = 503;
        r->more = "Retry-After: 7\r\n";
        break;
    case 8:
        r->status = 204;
        r->len = r->length = 0;
        break;
    default:
        fail();
    }
}

static void wrong_bytes(int how, struct reply *r)
{
    switch (how) {
    case 9:
        r->etag = "\"two\"";
        break;
    case 10: /* the same text, but weak */
        r->etag = "W/\"one\"";
        break;
    case 11:
        r->total++;
        break;
    case 12:
        r->status = 416;
        r->more = "Content-Range: bytes */5\r\n";
        break;
    case 13: /* the whole of another */
        r->status = 200;
        r->etag = "\"two\"";
        break;
    case 14: /* the whole of the same */
        r->status = 200;
        r->from = 0;
        r->len = r->length = SIZE;
        break;
    case 15: /* too much of it */
        r->chunked = true;
        r->len++;
        break;
    case 16: /* nothing of it */
        r->chunked = true;
        r->len = 0;
        break;
    case 17: /* cut before the first byte */
        r->len = 0;
        r->cut = true;
        break;
    case 18:
        r->etag = NULL;
        break;
    default:
        wrong_kind(how, r);
    }
}

static void wrong(const struct ask *a, struct reply *r)
{
    if (a->n >= wrong_from)
        wrong_bytes(wrong_how, r);
}

static const struct {
    int first, later; /* code of the first answer, of a later one; 0: fine */
} wrongs[] = {
    {HAUL_E_PROTO, HAUL_E_PROTO},
    {HAUL_E_PROTO, HAUL_E_PROTO},
    {HAUL_E_PROTO, HAUL_E_PROTO},
    {HAUL_E_PROTO, HAUL_E_PROTO},
    {HAUL_E_PROTO, HAUL_E_PROTO},
    {HAUL_E_REMOTE, HAUL_E_REMOTE},
    {HAUL_E_REMOTE, HAUL_E_REMOTE},
    {HAUL_E_REMOTE_BUSY, HAUL_E_REMOTE_BUSY},
    {HAUL_E_PROTO, HAUL_E_PROTO},
    {0, HAUL_E_CHANGED},
    {0, HAUL_E_CHANGED},
    {0, HAUL_E_CHANGED},
    {HAUL_E_CHANGED, HAUL_E_CHANGED},
    {0, HAUL_E_CHANGED},
    {0, HAUL_E_PROTO},
    {0, HAUL_E_PROTO},
    {0, HAUL_E_RESET},
    {0, HAUL_E_RESET},
    {0, HAUL_E_CHANGED},
};

static void wrong_first_answers_do_not_open(void **state)
{
    struct world *w = *state;

    server.script = wrong;
    wrong_from = 1;
    for (size_t i = 0; i < HL_LEN(wrongs); i++) {
        int want = wrongs[i].first;

        if (!want)
            continue;
        wrong_how = (int)i;
        if (open_source(w) != want)
            fail_msg("case %zu: %d, %s", i, w->open.op.rc,
                     w->open.op.error.message);
        if (i == 7)
            assert_int_equal(w->open.op.error.retry_after_ns, 7 * HL_NS_PER_S);
    }
    wrong_from = UINT32_MAX;
    assert_int_equal(open_source(w), 0);
    read_well(w, 0, CHUNK, SIZE);
}

static void nothing_of_a_wrong_answer_is_used(void **state)
{
    struct world *w = *state;
    struct hl_error err;

    server.script = wrong;
    wrong_from = UINT32_MAX;
    assert_int_equal(open_source(w), 0);
    read_well(w, 0, 2 * CHUNK, 2 * CHUNK);
    for (size_t i = 0; i < HL_LEN(wrongs); i++) {
        int rc;

        wrong_how = (int)i;
        wrong_from = asked() + 1;
        /* A length that one piece holds: all that is too much is seen before
         * any of it is used. */
        rc = read_badly(w, 3 * CHUNK, 5000, &err);
        if (rc != wrongs[i].later)
            fail_msg("case %zu: %d, %s", i, rc, err.message);
        if (i == 7)
            assert_int_equal(err.retry_after_ns, 7 * HL_NS_PER_S);
        if (i == 14)
            assert_non_null(strstr(err.message, "with the whole"));
        wrong_from = UINT32_MAX;
        read_well(w, 3 * CHUNK, 5000, 3 * CHUNK + 5000);
    }
}

/* ---- Runs --------------------------------------------------------------- */

static void a_run_is_one_request(void **state)
{
    struct world *w = *state;
    uint64_t end = 12 * CHUNK;

    assert_int_equal(open_source(w), 0);
    for (uint64_t at = 0; at < end; at += CHUNK)
        read_well(w, at, CHUNK, end);
    assert_int_equal(asked(), 2);
    assert_asked(2, 2 * CHUNK, end);
    assert_string_equal(ask_at(2).if_range, "\"one\"");
    read_well(w, end, SIZE - 12 * CHUNK, UINT64_MAX);
    assert_int_equal(asked(), 3);
    assert_asked(3, end, SIZE);
    assert_int_equal(server.connections, 1);
}

static void reads_of_odd_lengths_share_an_answer(void **state)
{
    struct world *w = *state;
    static struct reading r[40];
    uint64_t at = 0;

    assert_int_equal(open_source(w), 0);
    for (size_t i = 0; i < HL_LEN(r); i++) {
        uint32_t len = (uint32_t)(1 + i * 797 % 33333);

        start_read(w, &r[i], at, len, SIZE);
        at += len;
        if (i % 7 == 6) /* now and then nobody reads */
            step(w, is_home, &r[i]);
    }
    assert_true(at < SIZE);
    for (size_t i = 0; i < HL_LEN(r); i++) {
        end_read(&r[i], 0);
        assert_int_equal(r[i].io.done, r[i].io.len);
    }
    assert_in_range(asked(), 1, 2);
}

static void runs_go_over_streams(void **state)
{
    struct world *w = *state;
    static struct reading r[4][3];

    assert_int_equal(open_source(w), 0);
    w->obj->driver->set_streams(w->obj, 4);
    for (unsigned c = 0; c < 3; c++)
        for (unsigned i = 0; i < 4; i++)
            start_read(w, &r[i][c], (5 * i + c) * CHUNK, CHUNK,
                       (5 * i + 5) * CHUNK);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned c = 0; c < 3; c++) {
            end_read(&r[i][c], 0);
            assert_int_equal(r[i][c].io.done, CHUNK);
        }
    assert_int_equal(server.connections, 4);
    /* Three runs, and the first in two: what opened, and the rest. */
    assert_int_equal(asked(), 5);
}

static void one_stream_goes_where_it_is_told(void **state)
{
    struct world *w = *state;
    struct reading r[3];

    assert_int_equal(open_source(w), 0);
    w->obj->driver->set_streams(w->obj, 1);
    start_read(w, &r[0], 10 * CHUNK, CHUNK, SIZE);
    start_read(w, &r[1], 4 * CHUNK + 5, CHUNK, SIZE);
    start_read(w, &r[2], 10 * CHUNK, CHUNK, 11 * CHUNK);
    for (size_t i = 0; i < HL_LEN(r); i++) {
        end_read(&r[i], 0);
        assert_int_equal(r[i].io.done, CHUNK);
    }
    assert_asked(asked(), 10 * CHUNK, 11 * CHUNK);
}

static void cut_in_the_middle(const struct ask *a, struct reply *r)
{
    if (a->n == 2) {
        r->len = CHUNK + CHUNK / 2;
        r->cut = true;
    }
}

static void what_came_before_a_cut_counts(void **state)
{
    struct world *w = *state;
    struct reading r[3];

    server.script = cut_in_the_middle;
    assert_int_equal(open_source(w), 0);
    w->obj->driver->set_streams(w->obj, 1);
    for (unsigned i = 0; i < 3; i++)
        start_read(w, &r[i], (4 + i) * CHUNK, CHUNK, 7 * CHUNK);
    end_read(&r[0], 0);
    assert_int_equal(r[0].io.done, CHUNK);
    end_read(&r[1], 0);
    assert_int_equal(r[1].io.done, CHUNK / 2);
    assert_false(r[1].io.eof);
    end_read(&r[2], HAUL_E_RESET);
    assert_true(r[1].order < r[2].order);
    read_well(w, 5 * CHUNK + CHUNK / 2, CHUNK / 2, 6 * CHUNK);
}

static atomic_bool too_many;

static void takes_two(const struct ask *a, struct reply *r)
{
    if (a->begin == 10 * CHUNK && too_many) {
        r->status = 503;
        r->len = r->length = 0;
    } else if (a->begin == 5 * CHUNK) {
        r->len = CHUNK; /* and no more for now */
        r->hang = true;
    }
}

static void a_stream_too_many_rests(void **state)
{
    struct world *w = *state;
    struct hl_http_source *source;
    struct hl_flow flow;
    struct reading r;

    server.script = takes_two;
    too_many = true;
    assert_int_equal(open_source(w), 0);
    source = HL_CONTAINER(w->obj, struct hl_http_obj, base)->source;
    w->obj->driver->set_streams(w->obj, 2);
    read_well(w, 0, CHUNK, 2 * CHUNK); /* stream 0 keeps its answer */
    read_well(w, 5 * CHUNK, CHUNK, 9 * CHUNK);
    w->obj->driver->set_streams(w->obj, 3);
    start_read(w, &r, 10 * CHUNK, CHUNK, 11 * CHUNK);
    end_read(&r, HAUL_E_REMOTE_BUSY);
    too_many = false;
    w->obj->driver->flow(w->ep, &flow);
    assert_int_equal(flow.streams_limit, 2);
    assert_int_equal(source->streams[2]->next, 11 * CHUNK);
    /* Others take what comes now. */
    read_well(w, 10 * CHUNK, CHUNK, 11 * CHUNK);
    read_well(w, 14 * CHUNK, CHUNK, 15 * CHUNK);
    assert_int_equal(source->stream_count, 3);
    assert_int_equal(source->streams[2]->next, 11 * CHUNK);
}

/* ---- Without ranges ----------------------------------------------------- */

static atomic_bool no_length, cut_short;

static void whole_only(const struct ask *a, struct reply *r)
{
    (void)a;
    r->status = 200;
    r->from = 0;
    r->len = r->length = SIZE;
    r->chunked = false;
    if (no_length)
        r->length = TOLD;
    if (cut_short) {
        r->len = 3 * CHUNK + 5;
        r->cut = true;
    }
}

static void the_whole_is_one_stream(void **state)
{
    struct world *w = *state;
    struct reading r[3];

    server.script = whole_only;
    no_length = cut_short = false;
    assert_int_equal(open_source(w), 0);
    assert_int_equal(w->open.layout.caps, 0);
    assert_int_equal(w->open.layout.streams_max, 1);
    assert_int_equal(w->open.layout.run_max, 0);
    assert_int_equal(w->open.identity.size, SIZE);
    for (uint64_t at = 0; at + CHUNK <= SIZE; at += CHUNK)
        read_well(w, at, CHUNK, at + CHUNK);
    start_read(w, &r[0], SIZE / CHUNK * CHUNK, CHUNK, SIZE);
    start_read(w, &r[1], SIZE / CHUNK * CHUNK + CHUNK, CHUNK, SIZE);
    end_read(&r[0], 0);
    assert_int_equal(r[0].io.done, SIZE % CHUNK);
    assert_true(r[0].io.eof);
    end_read(&r[1], 0);
    assert_int_equal(r[1].io.done, 0);
    assert_true(r[1].io.eof);
    assert_int_equal(asked(), 1);
    assert_int_equal(atomic_load(&w->warnings), 0);
}

static void an_end_that_is_not_told_is_warned_of(void **state)
{
    struct world *w = *state;
    struct reading r;

    server.script = whole_only;
    no_length = true;
    cut_short = false;
    assert_int_equal(open_source(w), 0);
    assert_true(w->open.identity.size == HL_SIZE_UNKNOWN);
    assert_int_equal(atomic_load(&w->warnings), 1);
    start_read(w, &r, 0, SIZE + 1, SIZE + 1);
    end_read(&r, 0);
    assert_int_equal(r.io.done, SIZE);
    assert_true(r.io.eof);
}

static void an_early_end_says_what_it_means(void **state)
{
    struct world *w = *state;
    struct hl_error err;
    struct reading r;

    server.script = whole_only;
    no_length = false;
    cut_short = true;
    assert_int_equal(open_source(w), 0);
    read_well(w, 0, 3 * CHUNK, 3 * CHUNK);
    start_read(w, &r, 3 * CHUNK, CHUNK, 4 * CHUNK);
    end_read(&r, HAUL_E_RESET);
    assert_non_null(strstr(r.io.op.error.hint, "no ranges"));
    assert_int_equal(read_badly(w, 3 * CHUNK, CHUNK, &err), HAUL_E_RESET);
    assert_int_equal(asked(), 1);
}

static void small_and_whole(const struct ask *a, struct reply *r)
{
    (void)a;
    r->more = "Accept-Ranges: bytes\r\n";
    r->status = 200;
    r->from = 0;
    r->len = r->length = 1000;
}

/* Some servers answer with the whole when the range covers it. */
static void a_small_whole_may_have_ranges(void **state)
{
    struct world *w = *state;

    server.script = small_and_whole;
    assert_int_equal(open_source(w), 0);
    assert_int_equal(w->open.identity.size, 1000);
    assert_int_equal(w->open.layout.caps, HL_CAP_SEEK);
    read_well(w, 0, 1000, 1000);
    read_well(w, 0, 1000, 1000);
    assert_int_equal(asked(), 2);
}

/* ---- Redirects and digests ---------------------------------------------- */

static void signed_link(const struct ask *a, struct reply *r)
{
    static const char to[] = "Location: /signed\r\n";

    if (!strcmp(a->path, "/data")) {
        r->status = 302;
        r->more = to;
        r->len = r->length = 0;
    } else if (a->n == 3) {
        r->status = 403;
        r->len = r->length = 0;
    }
}

static void an_expired_link_is_asked_for_again(void **state)
{
    struct world *w = *state;
    struct hl_error err;

    server.script = signed_link;
    assert_int_equal(open_source(w), 0);
    w->obj->driver->set_streams(w->obj, 1);
    read_well(w, 0, 2 * CHUNK, 2 * CHUNK);
    assert_int_equal(read_badly(w, 4 * CHUNK, CHUNK, &err), HAUL_E_RESET);
    assert_string_equal(ask_at(3).path, "/signed");
    read_well(w, 4 * CHUNK, CHUNK, 5 * CHUNK);
    assert_string_equal(ask_at(4).path, "/data");
    assert_string_equal(ask_at(5).path, "/signed");
    assert_int_equal(asked(), 5);
}

static void has_digest(const struct ask *a, struct reply *r)
{
    if (a->want[0])
        r->more = "Repr-Digest: sha-256="
                  ":AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:\r\n";
}

static void a_digest_is_asked_for_when_it_is_wanted(void **state)
{
    struct world *w = *state;
    struct hl_error err = {0};

    server.script = has_digest;
    assert_int_equal(open_source(w), 0);
    assert_string_equal(w->open.identity.offered, "");
    assert_int_equal(asked(), 1);
    assert_int_equal(
        hl_opts_set_str(w->opts, 0, HAUL_OPT_VERIFY, "remote", &err), 0);
    assert_int_equal(open_source(w), 0);
    assert_string_equal(w->open.identity.offered, "sha256");
    assert_int_equal(w->open.identity.offered_digest[31], 31);
    assert_string_equal(ask_at(3).method, "HEAD");
    assert_false(ask_at(3).ranged);
    read_well(w, 0, 4 * CHUNK, 4 * CHUNK);
}

/* ---- Coming home -------------------------------------------------------- */

static void hangs(const struct ask *a, struct reply *r)
{
    if (a->n > 1 || !a->ranged) {
        r->len = 1000;
        r->hang = true;
    }
}

static void silent(const struct ask *a, struct reply *r)
{
    (void)a;
    r->status = 0;
    r->hang = true;
}

static void on_abort(struct hl_op *op)
{
    struct reading *r = op->user;

    r->order = ++r->w->finished;
}

static void abort_source(struct world *w, struct reading *r)
{
    memset(r, 0, sizeof(*r));
    r->w = w;
    r->io.op.done = on_abort;
    r->io.op.user = r;
    hl_driver_abort(w->obj, &r->io.op);
    step(w, is_home, r);
    assert_int_equal(r->io.op.rc, 0);
}

static void abort_brings_all_home_first(void **state)
{
    struct world *w = *state;
    struct reading r[6], end;

    server.script = hangs;
    assert_int_equal(open_source(w), 0);
    for (unsigned i = 0; i < HL_LEN(r); i++)
        start_read(w, &r[i], (2 + 3 * i) * CHUNK, CHUNK, (3 + 3 * i) * CHUNK);
    abort_source(w, &end);
    for (unsigned i = 0; i < HL_LEN(r); i++) {
        assert_true(r[i].order && r[i].order < end.order);
        end_read(&r[i], HAUL_E_CANCELED);
    }
}

static void open_can_be_aborted(void **state)
{
    struct world *w = *state;
    struct reading end;

    make_object(w);
    abort_source(w, &end); /* before anything began */
    server.script = silent;
    start_open(w);
    abort_source(w, &end);
    assert_true(w->opened);
    assert_int_equal(w->open.op.rc, HAUL_E_CANCELED);
    server.script = NULL;
    assert_int_equal(open_source(w), 0);
    read_well(w, 0, CHUNK, SIZE);
}

static bool has_asked_two(const void *what)
{
    (void)what;
    return asked() >= 2;
}

static void unstall_gives_back_what_hangs(void **state)
{
    struct world *w = *state;
    struct reading r[2];

    server.script = hangs;
    assert_int_equal(open_source(w), 0);
    w->obj->driver->set_streams(w->obj, 1);
    start_read(w, &r[0], 4 * CHUNK, CHUNK, 6 * CHUNK);
    start_read(w, &r[1], 5 * CHUNK, CHUNK, 6 * CHUNK);
    step(w, has_asked_two, NULL);
    w->obj->driver->unstall(w->obj);
    end_read(&r[0], HAUL_E_STALLED);
    end_read(&r[1], HAUL_E_STALLED);
    server.script = NULL;
    read_well(w, 4 * CHUNK, 2 * CHUNK, 6 * CHUNK);
    server.script = silent;
    start_open(w);
    w->obj->driver->unstall(w->obj);
    step(w, is_open, w);
    assert_int_equal(w->open.op.rc, HAUL_E_STALLED);
}

static void silent_head(const struct ask *a, struct reply *r)
{
    if (!strcmp(a->method, "HEAD"))
        silent(a, r);
}

static void a_digest_that_never_comes_is_not_waited_for(void **state)
{
    struct world *w = *state;
    struct hl_error err = {0};

    server.script = silent_head;
    assert_int_equal(
        hl_opts_set_str(w->opts, 0, HAUL_OPT_VERIFY, "remote", &err), 0);
    start_open(w);
    step(w, has_asked_two, NULL);
    assert_false(w->opened);
    w->obj->driver->unstall(w->obj);
    step(w, is_open, w);
    assert_int_equal(w->open.op.rc, 0);
    assert_string_equal(w->open.identity.offered, "");
    read_well(w, 0, 2 * CHUNK, 2 * CHUNK);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(opens_with_the_first_range),
        CASE(an_object_may_be_empty),
        CASE(asks_for_the_whole_when_the_total_is_hidden),
        CASE(an_old_date_is_a_validator),
        CASE(a_young_date_is_none),
        CASE(wrong_first_answers_do_not_open),
        CASE(nothing_of_a_wrong_answer_is_used),
        CASE(a_run_is_one_request),
        CASE(reads_of_odd_lengths_share_an_answer),
        CASE(runs_go_over_streams),
        CASE(one_stream_goes_where_it_is_told),
        CASE(what_came_before_a_cut_counts),
        CASE(a_stream_too_many_rests),
        CASE(the_whole_is_one_stream),
        CASE(an_end_that_is_not_told_is_warned_of),
        CASE(an_early_end_says_what_it_means),
        CASE(a_small_whole_may_have_ranges),
        CASE(an_expired_link_is_asked_for_again),
        CASE(a_digest_is_asked_for_when_it_is_wanted),
        CASE(abort_brings_all_home_first),
        CASE(open_can_be_aborted),
        CASE(unstall_gives_back_what_hangs),
        CASE(a_digest_that_never_comes_is_not_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    return 77; /* built without HTTP */
}

#endif
