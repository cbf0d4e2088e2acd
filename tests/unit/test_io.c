/* Answers and reports of engine/io.c: they keep their order, come from the
 * loop only, and are never dropped when memory is out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "io.h"

enum what { DONE, ACKED, LOST, TOKEN, TOKEN_SAVED, NOTE, NOTE_SAVED };

static struct {
    enum what what;
    uint64_t offset, len;
    int code;
    char text[64];
} seen[64];
static size_t count;

static void note(enum what what, uint64_t offset, uint64_t len, int code,
                 const char *text)
{
    assert_true(count < HL_LEN(seen));
    seen[count].what = what;
    seen[count].offset = offset;
    seen[count].len = len;
    seen[count].code = code;
    strncpy(seen[count].text, text, sizeof(seen[0].text) - 1);
    count++;
}

static void on_acked(void *user, uint64_t offset, uint64_t len)
{
    (void)user;
    note(ACKED, offset, len, 0, "");
}

static void on_lost(void *user, uint64_t offset, uint64_t len,
                    const struct hl_error *error)
{
    (void)user;
    note(LOST, offset, len, error->code, error->message);
}

static void on_token(void *user, const char *token)
{
    (void)user;
    note(TOKEN, 0, 0, 0, token);
}

static void token_saved(struct hl_object *obj, int rc)
{
    (void)obj;
    note(TOKEN_SAVED, 0, 0, rc, "");
}

static void on_note(void *user, uint64_t part, const char *text)
{
    (void)user;
    note(NOTE, part, 0, 0, text);
}

static void note_saved(struct hl_object *obj, uint64_t part, int rc)
{
    (void)obj;
    note(NOTE_SAVED, part, 0, rc, "");
}

static void on_done(struct hl_op *op)
{
    note(DONE, 0, 0, op->rc, op->error.message);
}

static const struct hl_object_events events = {on_acked, on_lost, on_token,
                                               on_note};
static const struct hl_driver driver = {
    .name = "none", .token_saved = token_saved, .note_saved = note_saved};

static struct hl_env env;
static struct hl_endpoint endpoint = {&driver, &env};
static struct hl_object object;

static int setup(void **state)
{
    (void)state;
    memset(seen, 0, sizeof(seen));
    memset(&object, 0, sizeof(object));
    count = 0;
    object.driver = &driver;
    object.endpoint = &endpoint;
    object.role = HL_ROLE_TARGET;
    object.events = &events;
    return hl_loop_new(true, &env.loop, NULL);
}

static int teardown(void **state)
{
    (void)state;
    hl_mem_fail_at(0, false);
    hl_loop_free(env.loop);
    assert_int_equal(hl_mem_live(), 0);
    return 0;
}

static void step(void)
{
    while (hl_loop_step(env.loop, 0))
        ;
}

static void finished_operation_comes_back_from_the_loop(void **state)
{
    struct hl_op op = {.done = on_done};

    (void)state;
    hl_op_finish(env.loop, &op, HAUL_E_RESET);
    assert_int_equal(count, 0);
    step();
    assert_int_equal(count, 1);
    assert_int_equal(seen[0].code, HAUL_E_RESET);
    assert_string_equal(seen[0].text, "connection lost");
}

static void success_carries_no_old_error(void **state)
{
    struct hl_op op = {.done = on_done};

    (void)state;
    hl_err(&op.error, HAUL_E_RESET, 0, "first try");
    hl_op_finish(env.loop, &op, 0);
    step();
    assert_int_equal(op.error.code, 0);
}

static void missing_slots_answer_not_supported(void **state)
{
    struct hl_op op = {.done = on_done};
    struct hl_stat stat = {.op.done = on_done, .exists = true};
    struct hl_suspend suspend = {.op.done = on_done};

    (void)state;
    hl_driver_sync(&object, &op);
    hl_driver_stat(&object, &stat);
    hl_driver_suspend(&object, &suspend);
    assert_int_equal(count, 0);
    step();
    assert_int_equal(count, 3);
    assert_int_equal(seen[0].code, HAUL_E_NOTSUP);
    assert_string_equal(seen[0].text, "'none' cannot sync");
    assert_int_equal(seen[1].code, 0);
    assert_false(stat.exists);
    assert_int_equal(seen[2].code, 0);
}

static void reports_keep_their_order_and_their_text(void **state)
{
    struct hl_op op = {.done = on_done};
    struct hl_error error = {0};

    (void)state;
    hl_err(&error, HAUL_E_REMOTE_IO, 0, "bad block");
    hl_op_finish(env.loop, &op, 0);
    hl_object_acked(&object, 10, 5);
    hl_object_lost(&object, 15, 2, &error);
    hl_object_token(&object, "part-7");
    hl_object_note(&object, 9, "etag");
    assert_int_equal(count, 0);
    step();
    assert_int_equal(count, 5);
    assert_int_equal(seen[0].what, DONE);
    assert_int_equal(seen[1].what, ACKED);
    assert_int_equal(seen[1].offset, 10);
    assert_int_equal(seen[1].len, 5);
    assert_int_equal(seen[2].what, LOST);
    assert_int_equal(seen[2].offset, 15);
    assert_int_equal(seen[2].code, HAUL_E_REMOTE_IO);
    assert_string_equal(seen[2].text, "bad block");
    assert_int_equal(seen[3].what, TOKEN);
    assert_string_equal(seen[3].text, "part-7");
    assert_int_equal(seen[4].what, NOTE);
    assert_int_equal(seen[4].offset, 9);
    assert_string_equal(seen[4].text, "etag");
}

/* As many as there are spares arrive as they are. */
static void reports_survive_without_memory(void **state)
{
    struct hl_error error = {0};
    uint64_t i;
    int round;

    (void)state;
    hl_err(&error, HAUL_E_RESET, 0, "text that needs memory");
    hl_mem_fail_at(1, true);
    for (round = 0; round < 2; round++) { /* spares come back */
        count = 0;
        for (i = 0; i + 3 < HL_OBJECT_SPARES; i++)
            hl_object_acked(&object, i, 1);
        hl_object_lost(&object, 100, 3, &error);
        hl_object_token(&object, "t");
        hl_object_note(&object, 4, "n");
        step();
        assert_int_equal(count, HL_OBJECT_SPARES);
        for (i = 0; i + 3 < HL_OBJECT_SPARES; i++)
            assert_int_equal(seen[i].offset, i);
        assert_int_equal(seen[i].what, LOST);
        assert_int_equal(seen[i].code, HAUL_E_RESET);
        assert_int_equal(seen[i + 1].what, TOKEN_SAVED);
        assert_int_equal(seen[i + 1].code, HAUL_E_NOMEM);
        assert_int_equal(seen[i + 2].what, NOTE_SAVED);
        assert_int_equal(seen[i + 2].offset, 4);
        assert_int_equal(seen[i + 2].code, HAUL_E_NOMEM);
    }
}

static void too_many_reports_without_memory_say_that_all_is_lost(void **state)
{
    uint64_t i;

    (void)state;
    hl_mem_fail_at(1, true);
    for (i = 0; i < 2 * HL_OBJECT_SPARES; i++)
        hl_object_acked(&object, i, 1);
    step();
    assert_int_equal(count, HL_OBJECT_SPARES + 1);
    assert_int_equal(seen[count - 1].what, LOST);
    assert_int_equal(seen[count - 1].offset, 0);
    assert_true(seen[count - 1].len == UINT64_MAX);
    assert_int_equal(seen[count - 1].code, HAUL_E_NOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(finished_operation_comes_back_from_the_loop),
        T(success_carries_no_old_error),
        T(missing_slots_answer_not_supported),
        T(reports_keep_their_order_and_their_text),
        T(reports_survive_without_memory),
        T(too_many_reports_without_memory_say_that_all_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
