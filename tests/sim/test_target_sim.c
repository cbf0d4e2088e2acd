/* What the engine makes of what targets say, in virtual time over "mem:" with
 * some operations of our own: they lose what they had, compare, fail to open
 * or to remove, and want more streams. */
#include "sim.h"

/* ---- Drivers of our own: what cannot be had from "mem" --------------------
 */

static struct hl_driver own;
static struct {
    uint64_t hold_max, opened, committed;
    uint32_t streams, first_streams, most_streams;
    uint32_t caps; /* it says that it has these too */
    void (*open_done)(struct hl_op *op);
    int open, discard, commit; /* what they come back with */
    int syncs;
    bool compared;
    uint64_t link_ns, window_ns, at_ns;
} seen;

static int own_object_new(struct hl_endpoint *ep, const struct hl_url *url,
                          enum hl_role role, struct hl_object **out,
                          struct hl_error *err)
{
    int rc = hl_driver_mem.object_new(ep, url, role, out, err);

    if (rc == 0)
        (*out)->driver = &own;
    return rc;
}

static void own_opened(struct hl_op *op)
{
    struct hl_open *o = HL_CONTAINER(op, struct hl_open, op);

    o->layout.caps |= seen.caps;
    op->done = seen.open_done;
    op->done(op);
}

static void own_open(struct hl_object *obj, struct hl_open *op)
{
    seen.hold_max = op->hold_max;
    seen.opened++;
    if (seen.open) {
        hl_op_finish(obj->endpoint->env->loop, &op->op, seen.open);
        return;
    }
    seen.open_done = op->op.done;
    op->op.done = own_opened;
    hl_driver_mem.open(obj, op);
}

static void own_commit(struct hl_object *obj, struct hl_commit *op)
{
    seen.committed++;
    if (seen.commit) {
        hl_op_finish(obj->endpoint->env->loop, &op->op, seen.commit);
        return;
    }
    op->compared = seen.compared;
    hl_driver_mem.commit(obj, op);
}

static void own_discard(struct hl_object *obj, const char *token,
                        struct hl_op *op)
{
    if (seen.discard)
        hl_op_finish(obj->endpoint->env->loop, op, seen.discard);
    else
        hl_driver_mem.discard(obj, token, op);
}

static void use_own(struct run *r)
{
    memset(&seen, 0, sizeof(seen));
    own = hl_driver_mem;
    own.object_new = own_object_new;
    own.open = own_open;
    own.commit = own_commit;
    own.discard = own_discard;
    r->target_driver = &own;
}

static void begin_own(struct run *r)
{
    begin(r, 7);
    option(r, HAUL_OPT_CHUNK_SIZE, 65536);
    use_own(r);
}

/* It is opened again as often as --retries says, not for ever, and what it has
 * is not sent again. */
static void a_target_that_always_loses_it_ends(void **state)
{
    static struct run r;

    (void)state;
    for (uint64_t retries = 0; retries < 4; retries++) {
        begin_own(&r);
        option(&r, HAUL_OPT_RETRIES, retries);
        seen.commit = HAUL_E_LOST;
        assert_int_equal(transfer(&r, "mem:gen?size=1m&seed=7",
                                  "mem:buf?id=t&tells=1&ordered=1", "key",
                                  NULL),
                         HAUL_E_LOST);
        assert_int_equal(seen.opened, 1 + retries);
        assert_int_equal(seen.committed, 1 + retries);
        assert_int_equal(r.losses, retries);
        assert_int_equal(r.sent, 1000000);
        assert_int_equal(r.resent, 0);
        end(&r);
    }
}

static void own_sync(struct hl_object *obj, struct hl_op *op)
{
    hl_op_finish(obj->endpoint->env->loop, op, seen.syncs++ ? 0 : HAUL_E_LOST);
}

/* It is heard of while the bytes move. This one keeps nothing. */
static void a_loss_that_a_sync_finds_is_no_less_one(void **state)
{
    static struct run r;

    (void)state;
    begin_own(&r);
    own.sync = own_sync;
    option(&r, HAUL_OPT_CHUNK_SIZE, 4 << 20);
    option(&r, HAUL_OPT_RATE_LIMIT, 200000000);
    assert_int_equal(transfer(&r, "mem:gen?size=1100mi&seed=7",
                              "mem:null?durable=1", NULL, NULL),
                     0);
    assert_int_equal(seen.opened, 2);
    assert_int_equal(r.losses, 1);
    assert_int_equal(r.sent, UINT64_C(1100) << 20);
    assert_true(r.resent >= 1 << 30);
    end(&r);
}

/* One that does not tell is read back, or gets all of it again. */
static void a_target_that_loses_it_and_does_not_tell(void **state)
{
    static struct run r;

    (void)state;
    for (int blind = 0; blind < 2; blind++) {
        begin_own(&r);
        option(&r, HAUL_OPT_RETRIES, 1);
        seen.commit = HAUL_E_LOST;
        assert_int_equal(
            transfer(&r, "mem:gen?size=1m&seed=7",
                     blind ? "mem:buf?id=t&blind=1" : "mem:buf?id=t", "key",
                     NULL),
            HAUL_E_LOST);
        assert_int_equal(seen.committed, 2);
        assert_int_equal(r.resent, blind ? 1000000 : 0);
        end(&r);
    }
}

static void what_the_target_compared_is_verified(void **state)
{
    static struct run r;

    (void)state;
    for (int compared = 0; compared < 2; compared++) {
        begin_own(&r);
        seen.compared = compared;
        assert_int_equal(
            transfer(&r, "mem:gen?size=1m&seed=7", "mem:buf?id=t", NULL, NULL),
            0);
        assert_string_equal(r.verified, compared ? "remote" : "size");
        end(&r);
    }
}

/* What cannot be removed does not keep a copy from beginning anew. */
static void an_old_upload_that_cannot_be_removed_stays(void **state)
{
    static const struct {
        int discard, want;
    } cases[] = {{HAUL_E_RESUME, 0},
                 {HAUL_E_PROTO, 0},
                 {HAUL_E_REMOTE, 0},
                 {HAUL_E_AUTH, HAUL_E_AUTH},
                 {HAUL_E_NOMEM, HAUL_E_NOMEM}};
    char work[80];
    static struct run r;

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        begin_half(&r, "mem:buf?id=t&tells=1", work, sizeof(work));
        use_own(&r);
        seen.discard = cases[i].discard;
        assert_int_equal(
            hl_opts_set_str(r.opts, 0, HAUL_OPT_RESUME, "never", NULL), 0);
        assert_int_equal(
            transfer(&r, "mem:buf?id=s", "mem:buf?id=t&tells=1", "key", NULL),
            cases[i].want);
        assert_true(hl_membuf_stat(work, NULL));
        assert_int_equal(unfinished(&r), cases[i].want != 0);
        if (cases[i].want == 0)
            assert_non_null(strstr(r.warning, "stays there"));
        end(&r);
    }
}

/* What an earlier run left stays when it cannot be opened now. */
static void an_open_that_fails_leaves_what_was_begun(void **state)
{
    char work[80];
    static struct run r;

    (void)state;
    begin_half(&r, "mem:buf?id=t&tells=1", work, sizeof(work));
    use_own(&r);
    seen.open = HAUL_E_REMOTE;
    assert_int_equal(
        transfer(&r, "mem:buf?id=s", "mem:buf?id=t&tells=1", "key", NULL),
        HAUL_E_REMOTE);
    assert_true(hl_membuf_stat(work, NULL));
    assert_int_equal(unfinished(&r), 1);
    seen.open = 0;
    assert_int_equal(
        transfer(&r, "mem:buf?id=s", "mem:buf?id=t&tells=1", "key", NULL), 0);
    assert_true(r.resumed > 0);
    assert_int_equal(r.resumed + r.sent, r.size);
    expect_bytes(&r);
    end(&r);
}

/* --verify remote takes that too; it is known only when the copy is there. */
static void what_was_not_compared_as_asked_is_an_error(void **state)
{
    struct hl_membuf_stat st;
    static struct run r;

    (void)state;
    for (int i = 0; i < 4; i++) {
        bool able = i & 2; /* tells its digest, and need not compare */

        begin_own(&r);
        seen.caps = HL_CAP_COMPARES;
        seen.compared = i & 1;
        assert_int_equal(
            hl_opts_set_str(r.opts, 0, HAUL_OPT_VERIFY, "remote", NULL), 0);
        assert_int_equal(transfer(&r, "mem:gen?size=1m&seed=7",
                                  able ? "mem:buf?id=t" : "mem:buf?id=t&mute=1",
                                  "key", NULL),
                         able || seen.compared ? 0 : HAUL_E_NOTSUP);
        if (r.rc == 0)
            assert_string_equal(r.verified, "remote");
        else
            assert_non_null(strstr(r.error.message, "compared nothing"));
        assert_true(hl_membuf_stat("t", &st));
        assert_int_equal(st.size, 1000000);
        end(&r);
    }
}

/* An eighth, at least 1 MiB, is for libraries, and two chunks are on their way:
 * of 3000000 bytes 1951424 are left, 29 chunks and some. */
static void a_pipe_says_how_much_of_it_can_be_kept(void **state)
{
    static const struct {
        const char *source;
        uint64_t memory, want;
    } cases[] = {
        {"mem:gen?size=1m&seed=7&seek=0&unknown=1", 16 << 20,
         (14 << 20) - 2 * 65536},
        {"mem:gen?size=1m&seed=7&seek=0", 3000000, 27 * 65536},
        {"mem:gen?size=1m&seed=7", 16 << 20, UINT64_MAX},
    };
    static struct run r;

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        begin_own(&r);
        hl_engine_set_memory(r.engine, cases[i].memory);
        assert_int_equal(
            transfer(&r, cases[i].source, "mem:buf?id=t", NULL, NULL), 0);
        assert_true(seen.hold_max == cases[i].want);
        end(&r);
    }
}

/* ---- How many streams ---------------------------------------------------- */

static void own_set_streams(struct hl_object *obj, uint32_t streams)
{
    (void)obj;
    if (!seen.first_streams)
        seen.first_streams = streams;
    seen.streams = streams;
    seen.most_streams = (uint32_t)hl_max(seen.most_streams, streams);
}

/* Every connection is held back by the link alone. */
static void own_flow(struct hl_endpoint *ep, struct hl_flow *out)
{
    uint64_t now = hl_loop_now(ep->env->loop);

    memset(out, 0, sizeof(*out));
    seen.link_ns += (now - seen.at_ns) * seen.streams;
    seen.at_ns = now;
    out->connections = out->streams = seen.streams;
    out->link_ns = seen.link_ns;
}

/* Connections may be limited one by one, the channels of one are not. */
static void parts_get_more_streams_while_the_link_is_busy(void **state)
{
    static const struct {
        const char *target;
        uint32_t first;
        bool more;
    } cases[] = {
        {"mem:buf?id=t&tells=1&ordered=1&late=1&part=256ki&streams=40", 4,
         true},
        {"mem:buf?id=t&tells=1&ordered=1&part=256ki&streams=40", 4, true},
        {"mem:buf?id=t&tells=1&ordered=1&part=256ki&streams=3", 3, false},
        {"mem:buf?id=t&streams=40", 1, false},
    };
    static struct run r;

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        begin_own(&r);
        own.set_streams = own_set_streams;
        own.flow = own_flow;
        option(&r, HAUL_OPT_RATE_LIMIT, 1000000);
        assert_int_equal(transfer(&r, "mem:gen?size=12m&seed=7",
                                  cases[i].target, NULL, NULL),
                         0);
        assert_int_equal(seen.first_streams, cases[i].first);
        assert_int_equal(seen.most_streams > cases[i].first, cases[i].more);
        end(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_that_always_loses_it_ends),
        cmocka_unit_test(a_loss_that_a_sync_finds_is_no_less_one),
        cmocka_unit_test(a_target_that_loses_it_and_does_not_tell),
        cmocka_unit_test(what_the_target_compared_is_verified),
        cmocka_unit_test(an_old_upload_that_cannot_be_removed_stays),
        cmocka_unit_test(an_open_that_fails_leaves_what_was_begun),
        cmocka_unit_test(what_was_not_compared_as_asked_is_an_error),
        cmocka_unit_test(a_pipe_says_how_much_of_it_can_be_kept),
        cmocka_unit_test(parts_get_more_streams_while_the_link_is_busy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
