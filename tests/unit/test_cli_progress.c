/* What a running and an ended transfer shows, of targets that confirm late
 * above all. Method: events by hand into a file, which counts as a terminal of
 * 80 columns. The files under test are included: the command is no library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../cli/json.c"
#include "../../cli/progress.c"
#include "../../cli/text.c"

struct screen {
    struct progress p;
    char text[32768]; /* all of p.out, see shown() */
};

static int setup(void **state)
{
    struct screen *s = calloc(1, sizeof(*s));

    if (!s)
        return -1;
    pthread_mutex_init(&s->p.lock, NULL);
    s->p.out = tmpfile();
    s->p.mode = PROGRESS_BAR;
    s->p.continues = true;
    *state = s;
    return s->p.out ? 0 : -1;
}

static int teardown(void **state)
{
    struct screen *s = *state;

    fclose(s->p.out);
    pthread_mutex_destroy(&s->p.lock);
    free(s);
    return 0;
}

static const char *shown(struct screen *s)
{
    ssize_t n;

    fflush(s->p.out);
    n = pread(fileno(s->p.out), s->text, sizeof(s->text) - 1, 0);
    assert_true(n >= 0);
    s->text[n] = '\0';
    return s->text;
}

static struct haul_stats upload(uint64_t sent)
{
    return (struct haul_stats){.size = sizeof(struct haul_stats),
                               .state = HAUL_STATE_MOVING,
                               .bytes = 1000000000,
                               .sent_bytes = sent,
                               .rate = 95000000,
                               .limit = HAUL_LIMIT_LINK,
                               .late = 1};
}

static void send(struct screen *s, uint32_t type,
                 const struct haul_stats *stats, const struct haul_error *error)
{
    struct haul_event ev = {
        .size = sizeof(ev), .type = type, .stats = stats, .error = error};

    progress_event(&s->p, &ev);
}

/* The last bar, without what moves the cursor. */
static const char *last_bar(struct screen *s)
{
    const char *begin = strrchr(shown(s), '\r');
    char *end;

    assert_non_null(begin);
    end = strstr(begin, "\033[K");
    assert_non_null(end);
    *end = '\0';
    return begin + 1;
}

static void late_bar_is_of_sent_bytes_and_says_so(void **state)
{
    struct screen *s = *state;
    struct haul_stats stats = upload(450000000);

    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    assert_string_equal(last_bar(s),
                        " 45% [---    ]   450 MB sent, unconfirmed  95.0 MB/s  "
                        "ETA 0:06     link      ");
}

static void late_bar_is_like_others_once_all_is_confirmed(void **state)
{
    struct screen *s = *state;
    struct haul_stats stats = upload(1000000000);
    const char *bar;

    stats.acked_bytes = stats.bytes;
    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    bar = last_bar(s);
    assert_non_null(strstr(bar, "100% [==="));
    assert_non_null(strstr(bar, "1.00 GB/1.00 GB"));
    assert_null(strstr(bar, "unconfirmed"));
}

static void late_bar_at_its_longest_fits_80_columns(void **state)
{
    struct screen *s = *state;
    struct haul_stats stats = upload(999499999);
    const char *bar;

    stats.rate = 100000;
    stats.limit = HAUL_LIMIT_CONNECTION;
    stats.bytes = 9999999999;
    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    bar = last_bar(s);
    assert_non_null(strstr(bar, "999 MB sent, unconfirmed"));
    assert_non_null(strstr(bar, "connection"));
    assert_true(strlen(bar) <= 77);
}

/* What was sent before the connection broke is sent again. */
static void late_bar_begins_again_and_shows_the_retry(void **state)
{
    struct screen *s = *state;
    struct haul_error error = {.size = sizeof(error), .code = HAUL_E_RESET};
    struct haul_stats stats = upload(450000000);
    const char *bar;

    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    send(s, HAUL_EV_RETRY, &stats, &error);
    stats.resent_bytes = 450000000;
    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    bar = last_bar(s);
    assert_non_null(strstr(bar, "  0%"));
    assert_non_null(strstr(bar, "0 B sent"));
    assert_non_null(strstr(bar, "retry 1: connection lost"));
    assert_true(strlen(bar) <= 77);
    stats.sent_bytes = 500000000;
    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    bar = last_bar(s);
    assert_non_null(strstr(bar, "  5% "));
    assert_null(strstr(bar, "retry"));
}

static void every_outage_has_its_name_in_80_columns(void **state)
{
    static const int outages[] = {HAUL_E_STALLED,     HAUL_E_RESET,
                                  HAUL_E_CONNECT,     HAUL_E_RESOLVE,
                                  HAUL_E_REMOTE_BUSY, HAUL_E_PROTO};
    struct screen *s = *state;

    for (size_t i = 0; i < 2 * sizeof(outages) / sizeof(outages[0]); i++) {
        struct haul_error error = {.size = sizeof(error),
                                   .code = outages[i / 2]};
        struct haul_stats stats = upload(999499999);
        const char *bar;

        stats.late = i % 2;
        stats.resumed_bytes = stats.acked_bytes = stats.late ? 0 : 999499999;
        send(s, HAUL_EV_RETRY, &stats, &error);
        send(s, HAUL_EV_PROGRESS, &stats, NULL);
        bar = last_bar(s);
        assert_non_null(strstr(bar, haul_err_text(error.code)));
        assert_true(strlen(bar) <= 77);
    }
}

static void late_bar_without_a_size_says_sent(void **state)
{
    struct screen *s = *state;
    struct haul_stats stats = upload(450000000);

    stats.bytes = UINT64_MAX;
    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    assert_string_equal(last_bar(s), " 450 MB sent, unconfirmed  95.0 MB/s  "
                                     "after 0:00     link");
}

static void bar_of_other_targets_is_of_acknowledged_bytes(void **state)
{
    struct screen *s = *state;
    struct haul_stats stats = upload(450000000);
    const char *bar;

    stats.late = 0;
    stats.acked_bytes = 400000000;
    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    bar = last_bar(s);
    assert_non_null(strstr(bar, " 40% "));
    assert_non_null(strstr(bar, " 400 MB/1.00 GB  95.0 MB/s  ETA 0:06 "));
    assert_null(strstr(bar, "unconfirmed"));
}

static void only_what_is_resumable_continues(void **state)
{
    struct screen *s = *state;
    struct haul_stats stats = upload(1);

    assert_false(progress_continues(&s->p)); /* nobody knows yet */
    stats.resumable = 1;
    send(s, HAUL_EV_STATE, &stats, NULL);
    assert_true(progress_continues(&s->p));
    stats.resumable = 0;
    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    assert_false(progress_continues(&s->p));
    stats.resumable = 1;
    stats.state = HAUL_STATE_FAILED;
    send(s, HAUL_EV_DONE, &stats, NULL);
    assert_true(progress_continues(&s->p));
    s->p.continues = false; /* a pipe */
    assert_false(progress_continues(&s->p));
}

static void events_tell_late_and_the_time_left_of_sent_bytes(void **state)
{
    struct screen *s = *state;
    struct haul_stats stats = upload(50000000);

    s->p.mode = PROGRESS_JSON;
    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    assert_non_null(strstr(shown(s), "\"late\":true"));
    assert_non_null(strstr(s->text, "\"eta\":10.000"));
    assert_non_null(strstr(s->text, "\"acked\":0,\"sent\":50000000"));
    stats.late = 0;
    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    assert_non_null(strstr(shown(s), "\"late\":false"));
    /* of acknowledged ones: none */
    assert_non_null(strstr(s->text, "\"eta\":10.526"));
}

static void end_with(struct screen *s, int status, const char *body,
                     uint64_t bytes)
{
    struct haul_result r = {.size = sizeof(r),
                            .source = "a",
                            .target = "b",
                            .verified = "size",
                            .answer_status = status,
                            .answer = body,
                            .answer_bytes = bytes};

    write_end(&s->p, &r, &(struct haul_error){.code = 0}, 0);
}

static void last_event_has_the_answer_and_cuts_it(void **state)
{
    struct screen *s = *state;
    char body[5001];
    const char *cut;

    end_with(s, 201, "{\"id\": 5}\n", 10);
    assert_non_null(strstr(shown(s), "\"answer\":{\"status\":201,\"body\":"
                                     "\"{\\\"id\\\": 5}\\u000a\"}}\n"));
    end_with(s, 204, NULL, 0);
    assert_non_null(strstr(shown(s), "\"answer\":{\"status\":204,"
                                     "\"body\":null}}\n"));
    end_with(s, 0, NULL, 0);
    assert_non_null(strstr(shown(s), "\"answer\":null}\n"));
    memset(body, 'x', 5000);
    body[5000] = '\0';
    end_with(s, 500, body, 5000);
    cut = strstr(shown(s), "\"body\":\"x");
    assert_non_null(cut);
    cut += strlen("\"body\":\"");
    assert_int_equal(strspn(cut, "x"), 4096);
    assert_string_equal(cut + 4096, "\",\"cut\":true}}\n");
}

static void last_event_tells_where_an_upload_is(void **state)
{
    struct screen *s = *state;
    struct haul_result r = {.size = sizeof(r),
                            .source = "a",
                            .target = "b",
                            .verified = "size",
                            .answer_status = 204,
                            .answer_location = "https://h/f\033/1?x=\"2\""};

    write_end(&s->p, &r, &(struct haul_error){.code = 0}, 0);
    assert_non_null(strstr(shown(s), "\"answer\":{\"status\":204,\"body\":null,"
                                     "\"location\":\"https://h/f\\u001b/1?x="
                                     "\\\"2\\\"\"}}\n"));
    r.answer_status = 0;
    write_end(&s->p, &r, &(struct haul_error){.code = 0}, 0);
    assert_non_null(strstr(shown(s), "\"answer\":{\"status\":null,"));
}

static void note(struct screen *s, const char *text)
{
    struct haul_stats stats = upload(1);
    struct haul_event ev = {.size = sizeof(ev),
                            .type = HAUL_EV_NOTE,
                            .stats = &stats,
                            .text = text};

    progress_event(&s->p, &ev);
}

/* The same; out gets what it wrote to standard error. */
static void note_to_stderr(struct screen *s, const char *text, char *out,
                           size_t cap)
{
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    ssize_t n;

    assert_true(file && saved >= 0);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    note(s, text);
    fflush(stderr);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    n = pread(fileno(file), out, cap - 1, 0);
    assert_true(n >= 0);
    out[n] = '\0';
    fclose(file);
}

static void a_note_is_for_verbose_and_tears_no_bar(void **state)
{
    struct screen *s = *state;
    struct haul_stats stats = upload(450000000);
    char said[256];

    send(s, HAUL_EV_PROGRESS, &stats, NULL);
    note_to_stderr(s, "'h' speaks tus", said, sizeof(said));
    assert_string_equal(said, "");
    assert_true(s->p.painted);
    s->p.verbose = true;
    note_to_stderr(s, "'h\033' speaks tus", said, sizeof(said));
    assert_string_equal(said, "haul: 'h\\x1b' speaks tus\n");
    assert_false(s->p.painted);
    s->p.silent = true; /* events are on standard error */
    note_to_stderr(s, "'h' speaks tus", said, sizeof(said));
    assert_string_equal(said, "");
}

static void a_note_is_an_event_without_verbose_too(void **state)
{
    struct screen *s = *state;

    s->p.mode = PROGRESS_JSON;
    note(s, "\"h\" speaks\033 tus");
    assert_string_equal(shown(s), "{\"event\":\"note\",\"note\":"
                                  "\"\\\"h\\\" speaks\\u001b tus\"}\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(late_bar_is_of_sent_bytes_and_says_so),
        TEST(late_bar_is_like_others_once_all_is_confirmed),
        TEST(late_bar_at_its_longest_fits_80_columns),
        TEST(late_bar_begins_again_and_shows_the_retry),
        TEST(every_outage_has_its_name_in_80_columns),
        TEST(late_bar_without_a_size_says_sent),
        TEST(bar_of_other_targets_is_of_acknowledged_bytes),
        TEST(only_what_is_resumable_continues),
        TEST(events_tell_late_and_the_time_left_of_sent_bytes),
        TEST(last_event_has_the_answer_and_cuts_it),
        TEST(last_event_tells_where_an_upload_is),
        TEST(a_note_is_for_verbose_and_tears_no_bar),
        TEST(a_note_is_an_event_without_verbose_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
