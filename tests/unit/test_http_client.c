/*
 * The client for control requests against a server that is told what to say:
 * bodies, queries, limits, redirects, and a cancel in every state of a call.
 */
#include "http_world.h"

/* ---- Questions and answers ---------------------------------------------- */

static void answer_comes_with_status_type_and_body(void **state)
{
    struct tracked t = {.call = {.method = "GET", .path = "/v1/x"}};

    BEGIN("/base/", {ANSWER, OK_TEXT});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.call.status, 200);
    assert_string_equal(t.call.answer, "ok");
    assert_int_equal(t.call.answer_len, 2);
    assert_string_equal(t.call.answer_type, "text/plain");
    assert_null(t.call.location);
    assert_int_equal(t.call.retry_after_ns, 0);
    assert_int_equal(hl_http_call_refused(client, &t.call, NULL), 0);
    assert_memory_equal(server.seen[0], "GET /base/v1/x HTTP/1.1\r\n", 25);
    assert_null(strcasestr(server.seen[0], "\r\nContent-Length:"));
    hl_http_call_fini(&t.call);
    end();
}

static void empty_answer_is_an_empty_text(void **state)
{
    struct tracked t = {.call = {.method = "DELETE"}};

    BEGIN("/x", {ANSWER, "HTTP/1.1 204 No Content\r\n\r\n"});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.call.status, 204);
    assert_string_equal(t.call.answer, "");
    assert_null(t.call.answer_type);
    assert_memory_equal(server.seen[0], "DELETE /x HTTP/1.1\r\n", 20);
    hl_http_call_fini(&t.call);
    end();
}

static void head_has_no_body_whatever_the_length_says(void **state)
{
    struct tracked t = {.call = {.method = "HEAD", .answer_max = 10}};

    BEGIN("/x", {ANSWER_OPEN, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.call.answer_len, 0);
    hl_http_call_fini(&t.call);
    end();
}

static void query_is_encoded_behind_that_of_the_base(void **state)
{
    const struct hl_http_field query[] = {{.name = "a b", .value = "c&d=e/ü+"},
                                          {.name = "tilde", .value = "~-._"},
                                          {.name = "none", .value = NULL}};
    struct tracked t = {
        .call = {
            .method = "GET", .path = "v1", .query = query, .query_count = 3}};

    BEGIN("/b?key=1", {ANSWER, OK_TEXT});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_non_null(strstr(server.seen[0],
                           "GET /b/v1?key=1&a%20b=c%26d%3De%2F%C3%BC%2B&"
                           "tilde=~-._&none= HTTP/1.1\r\n"));
    hl_http_call_fini(&t.call);
    end();
}

static void form_is_encoded(void **state)
{
    const struct hl_http_field fields[] = {
        {.name = "user name", .value = "a+b&c=%"}, {.name = "x", .value = ""}};
    struct tracked t = {.call = {.method = "POST",
                                 .body = HL_HTTP_BODY_FORM,
                                 .fields = fields,
                                 .field_count = 2}};

    BEGIN("/", {ANSWER, OK_TEXT});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_string_equal(body_of(server.seen[0]),
                        "user+name=a%2Bb%26c%3D%25&x=");
    assert_non_null(strstr(server.seen[0],
                           "\r\nContent-Type: "
                           "application/x-www-form-urlencoded\r\n"));
    hl_http_call_fini(&t.call);
    end();
}

static void multipart_has_parts_between_its_boundary(void **state)
{
    const struct hl_http_field fields[] = {
        {.name = "na\"me", .value = "line\r\n--x\r\n"},
        {.name = "file",
         .value = "bytes",
         .filename = "a\r\nb.zip",
         .type = "application/zip"}};
    struct tracked t = {.call = {.method = "POST",
                                 .body = HL_HTTP_BODY_MULTIPART,
                                 .fields = fields,
                                 .field_count = 2}};
    char boundary[80] = "", want[1000];
    const char *type;

    BEGIN("/", {ANSWER, OK_TEXT});
    run(&t);
    assert_int_equal(t.rc, 0);
    type = strstr(server.seen[0],
                  "\r\nContent-Type: multipart/form-data; boundary=");
    assert_non_null(type);
    assert_int_equal(
        sscanf(strstr(type, "boundary="), "boundary=%70[^\r]", boundary), 1);
    snprintf(want, sizeof(want),
             "--%s\r\nContent-Disposition: form-data; name=\"na%%22me\"\r\n\r\n"
             "line\r\n--x\r\n\r\n"
             "--%s\r\nContent-Disposition: form-data; name=\"file\"; "
             "filename=\"a%%0D%%0Ab.zip\"\r\nContent-Type: application/zip"
             "\r\n\r\nbytes\r\n--%s--\r\n",
             boundary, boundary, boundary);
    assert_string_equal(body_of(server.seen[0]), want);
    hl_http_call_fini(&t.call);
    end();
}

static void text_goes_as_it_is_with_its_type_and_headers(void **state)
{
    const struct hl_http_field headers[] = {{.name = "X-Key", .value = "k 1"},
                                            {.name = "X-None", .value = ""}};
    struct tracked t = {.call = {.method = "POST",
                                 .body = HL_HTTP_BODY_TEXT,
                                 .text = "{\"a\": \"b&c\"}",
                                 .text_len = 12,
                                 .content_type = "application/json",
                                 .headers = headers,
                                 .header_count = 2}};

    BEGIN("/", {ANSWER, OK_TEXT});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_string_equal(body_of(server.seen[0]), "{\"a\": \"b&c\"}");
    assert_non_null(strstr(server.seen[0], "\r\nContent-Length: 12\r\n"));
    assert_non_null(
        strstr(server.seen[0], "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(server.seen[0], "\r\nX-Key: k 1\r\n"));
    assert_non_null(strstr(server.seen[0], "\r\nX-None:"));
    hl_http_call_fini(&t.call);
    end();
}

static void post_without_a_body_says_so(void **state)
{
    struct tracked t = {.call = {.method = "POST"}};

    BEGIN("/", {ANSWER, OK_TEXT});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_non_null(strstr(server.seen[0], "\r\nContent-Length: 0\r\n"));
    assert_null(strcasestr(server.seen[0], "\r\nExpect:"));
    hl_http_call_fini(&t.call);
    end();
}

/* A line more would be a request of somebody else's. */
static void what_would_be_another_header_is_refused(void **state)
{
    const struct hl_http_field split[] = {{.name = "X", .value = "1\r\nY: 2"}};
    const struct hl_http_field name[] = {{.name = "X: 1\r\nY", .value = "2"}};
    struct tracked a = {.call = {.method = "GET", .path = "/a b"}};
    struct tracked b = {
        .call = {.method = "GET", .headers = split, .header_count = 1}};
    struct tracked c = {
        .call = {.method = "GET", .headers = name, .header_count = 1}};

    BEGIN("/", {ANSWER, OK_TEXT});
    run(&a);
    run(&b);
    run(&c);
    assert_int_equal(a.rc, HAUL_E_INVAL);
    assert_int_equal(b.rc, HAUL_E_INVAL);
    assert_int_equal(c.rc, HAUL_E_INVAL);
    assert_int_equal(server_seen(&server), 0);
    end();
}

static void calls_run_at_the_same_time(void **state)
{
    struct tracked a = {.call = {.method = "GET", .path = "/a"}};
    struct tracked b = {.call = {.method = "GET", .path = "/b"}};

    BEGIN("/", {LATER, OK_TEXT}, {ANSWER, OK_TEXT});
    submit_to(client, &a);
    submit_to(client, &b);
    wait_for(&b);
    wait_for(&a);
    assert_int_equal(a.rc, 0);
    assert_int_equal(b.rc, 0);
    hl_http_call_fini(&a.call);
    hl_http_call_fini(&b.call);
    end();
}

static void user_and_headers_of_the_options_are_sent(void **state)
{
    struct tracked t = {.call = {.method = "GET"}};
    struct hl_url url;
    char text[80];

    (void)state;
    server_start(&server, (const struct step[]){{ANSWER, OK_TEXT}}, 1);
    assert_int_equal(
        hl_opts_set_str(opts, 0, HAUL_OPT_HEADER, "X-Token: t1", NULL), 0);
    snprintf(text, sizeof(text), "http://joe:secret@127.0.0.1:%u/",
             server.port);
    assert_int_equal(hl_url_parse(text, &url, NULL), 0);
    assert_int_equal(hl_http_client_new(&env, &url, &client, NULL), 0);
    hl_url_fini(&url);
    run(&t);
    assert_int_equal(t.rc, 0);
    /* RFC 7617: base64("joe:secret"). */
    assert_non_null(strstr(server.seen[0],
                           "\r\nAuthorization: Basic am9lOnNlY3JldA==\r\n"));
    assert_non_null(strstr(server.seen[0], "\r\nX-Token: t1\r\n"));
    hl_http_call_fini(&t.call);
    end();
}

static void other_schemes_are_refused(void **state)
{
    struct hl_error err = {0};
    struct hl_url url;

    (void)state;
    assert_int_equal(hl_url_parse("sftp://h.example/x", &url, NULL), 0);
    assert_int_equal(hl_http_client_new(&env, &url, &client, &err),
                     HAUL_E_INVAL);
    hl_url_fini(&url);
}

/* ---- What goes wrong ---------------------------------------------------- */

static void refusal_says_what_and_when_again(void **state)
{
    struct tracked t = {.call = {.method = "POST", .path = "/v1/x"}};
    struct hl_error err = {0};

    BEGIN("/", {ANSWER, "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n"
                        "Content-Length: 9\r\n\r\nnot today"});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.call.status, 503);
    assert_string_equal(t.call.answer, "not today");
    assert_true(t.call.retry_after_ns == 7 * HL_NS_PER_S);
    assert_int_equal(hl_http_call_refused(client, &t.call, &err),
                     HAUL_E_REMOTE_BUSY);
    assert_int_equal(err.proto_status, 503);
    assert_true(err.retry_after_ns == 7 * HL_NS_PER_S);
    assert_non_null(strstr(err.message, "/v1/x"));
    assert_non_null(strstr(err.detail, "not today"));
    hl_http_call_fini(&t.call);
    end();
}

static void answer_may_be_as_long_as_the_limit(void **state)
{
    struct tracked t = {.call = {.method = "GET", .answer_max = 10}};

    BEGIN("/", {ANSWER, "HTTP/1.1 200 OK\r\n\r\n0123456789"});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_string_equal(t.call.answer, "0123456789");
    hl_http_call_fini(&t.call);
    end();
}

static void longer_answer_breaks_the_protocol(void **state)
{
    struct tracked told = {.call = {.method = "GET", .answer_max = 10}};
    struct tracked untold = {.call = {.method = "GET", .answer_max = 10}};

    /* The first has not even sent it. */
    BEGIN("/", {ANSWER_OPEN, "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"},
          {ANSWER_OPEN, "HTTP/1.1 200 OK\r\n\r\n01234567890"});
    run(&told);
    assert_int_equal(told.rc, HAUL_E_PROTO);
    assert_null(told.call.answer);
    run(&untold);
    assert_int_equal(untold.rc, HAUL_E_PROTO);
    assert_null(untold.call.answer);
    end();
}

static void cut_answer_is_none(void **state)
{
    struct tracked t = {.call = {.method = "GET"}};
    struct tracked nothing = {.call = {.method = "POST"}};

    BEGIN("/", {ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"},
          {ANSWER, NULL});
    run(&t);
    assert_true(t.rc < 0);
    assert_string_not_equal(t.call.op.error.message, "");
    assert_null(t.call.answer);
    run(&nothing);
    assert_int_equal(nothing.rc, HAUL_E_RESET);
    settle();
    assert_int_equal(server_seen(&server), 2); /* and it is not repeated */
    end();
}

static void encoding_that_nobody_asked_for_is_refused(void **state)
{
    struct tracked t = {.call = {.method = "GET"}};

    BEGIN("/", {ANSWER, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
                        "Content-Length: 2\r\n\r\nxx"});
    run(&t);
    assert_int_equal(t.rc, HAUL_E_PROTO);
    end();
}

static void time_of_a_call_ends(void **state)
{
    struct tracked mute = {
        .call = {.method = "GET", .timeout_ns = 300 * HL_NS_PER_MS}};
    struct tracked slow = mute;
    uint64_t before;

    BEGIN("/", {ANSWER_OPEN, NULL},
          {ANSWER_OPEN, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"});
    before = hl_loop_now(env.loop);
    run(&mute);
    assert_int_equal(mute.rc, HAUL_E_STALLED);
    assert_true(hl_loop_now(env.loop) - before >= 300 * HL_NS_PER_MS);
    assert_true(hl_loop_now(env.loop) - before < 5 * HL_NS_PER_S);
    run(&slow);
    assert_int_equal(slow.rc, HAUL_E_STALLED);
    assert_null(slow.call.answer);
    end();
}

static void nobody_listens(void **state)
{
    struct tracked t = {.call = {.method = "GET"}};
    uint16_t port;

    (void)state;
    server_start(&server, NULL, 0);
    port = server.port;
    server_end(&server);
    client = client_of(port, "/");
    run(&t);
    assert_int_equal(t.rc, HAUL_E_CONNECT);
    hl_http_client_free(client);
}

/* ---- Redirects ---------------------------------------------------------- */

static void get_follows_within_the_origin(void **state)
{
    struct tracked t = {.call = {.method = "GET", .path = "/a"}};

    BEGIN("/",
          {ANSWER, "HTTP/1.1 302 Found\r\nLocation: /b?x=1\r\n"
                   "Content-Length: 5\r\n\r\nmoved"},
          {ANSWER, OK_TEXT});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.call.status, 200);
    assert_string_equal(t.call.answer, "ok");
    assert_null(t.call.location);
    assert_memory_equal(server.seen[1], "GET /b?x=1 HTTP/1.1\r\n", 21);
    hl_http_call_fini(&t.call);
    end();
}

static void post_does_not_follow_what_is_not_repeatable(void **state)
{
    struct tracked t = {.call = {.method = "POST"}};

    BEGIN("/", {ANSWER, "HTTP/1.1 303 See Other\r\nLocation: /made/1\r\n"
                        "Content-Length: 0\r\n\r\n"});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.call.status, 303);
    assert_string_equal(t.call.location, "/made/1");
    settle();
    assert_int_equal(server_seen(&server), 1);
    hl_http_call_fini(&t.call);
    end();
}

static void post_is_sent_again_where_307_says(void **state)
{
    const struct hl_http_field fields[] = {{.name = "a", .value = "1"}};
    struct tracked t = {.call = {.method = "POST",
                                 .body = HL_HTTP_BODY_FORM,
                                 .fields = fields,
                                 .field_count = 1}};

    BEGIN("/",
          {ANSWER, "HTTP/1.1 307 There\r\nLocation: /b\r\n"
                   "Content-Length: 0\r\n\r\n"},
          {ANSWER, OK_TEXT});
    run(&t);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.call.status, 200);
    assert_memory_equal(server.seen[1], "POST /b HTTP/1.1\r\n", 18);
    assert_string_equal(body_of(server.seen[1]), "a=1");
    hl_http_call_fini(&t.call);
    end();
}

static void another_origin_gets_neither_body_nor_credentials(void **state)
{
    const struct hl_http_field headers[] = {
        {.name = "Authorization", .value = "Bearer b1"},
        {.name = "X-Api-Key", .value = "k1"}};
    struct tracked get = {
        .call = {.method = "GET", .headers = headers, .header_count = 2}};
    struct tracked post = {.call = {.method = "POST",
                                    .body = HL_HTTP_BODY_TEXT,
                                    .text = "password",
                                    .text_len = 8}};
    static const struct step answer[] = {{ANSWER, OK_TEXT}, {ANSWER, OK_TEXT}};
    struct server other;
    struct step away[2];
    char text[2][200];

    (void)state;
    server_start(&other, answer, 2);
    for (int i = 0; i < 2; i++) {
        snprintf(text[i], sizeof(text[i]),
                 "HTTP/1.1 307 There\r\nLocation: http://127.0.0.1:%u/\r\n"
                 "Content-Length: 0\r\n\r\n",
                 other.port);
        away[i] = (struct step){ANSWER, text[i]};
    }
    begin(away, 2, "/");
    run(&get);
    assert_int_equal(get.rc, 0);
    assert_int_equal(server_seen(&other), 1);
    assert_non_null(strstr(server.seen[0], "Bearer b1"));
    assert_null(strstr(other.seen[0], "Bearer b1"));
    assert_null(strstr(other.seen[0], "k1"));
    run(&post);
    assert_int_equal(post.rc, HAUL_E_PROTO);
    hl_http_call_fini(&get.call);
    end();
    server_end(&other);
}

static void redirects_without_end_or_sense_are_errors(void **state)
{
    struct tracked scheme = {.call = {.method = "GET"}};
    struct tracked round = {.call = {.method = "GET"}};
    struct step steps[SEEN_MAX] = {
        {ANSWER, "HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/\r\n"
                 "Content-Length: 0\r\n\r\n"}};

    (void)state;
    for (size_t i = 1; i < HL_LEN(steps); i++)
        steps[i] = (struct step){ANSWER, "HTTP/1.1 302 Found\r\nLocation: /\r\n"
                                         "Content-Length: 0\r\n\r\n"};
    begin(steps, HL_LEN(steps), "/");
    run(&scheme);
    assert_true(scheme.rc < 0);
    assert_int_equal(server_seen(&server), 1);
    run(&round);
    assert_true(round.rc < 0);
    assert_true(server_seen(&server) < SEEN_MAX);
    end();
}

/* ---- Cancel ------------------------------------------------------------- */

static void cancel_now(struct tracked *t)
{
    hl_http_call_cancel(client, &t->call);
    assert_int_equal(t->returned, 0); /* never from inside */
    hl_http_call_cancel(client, &t->call);
    wait_for(t);
    settle();
    assert_int_equal(t->returned, 1);
    hl_http_call_cancel(client, &t->call); /* of no use any more */
    settle();
    assert_int_equal(t->returned, 1);
    if (t->rc)
        assert_null(t->call.answer);
    hl_http_call_fini(&t->call);
}

static void cancel_before_it_began(void **state)
{
    struct tracked t = {.call = {.method = "GET"}};

    BEGIN("/", {ANSWER_OPEN, NULL});
    submit_to(client, &t);
    cancel_now(&t);
    assert_int_equal(t.rc, HAUL_E_CANCELED);
    end();
}

static void cancel_while_the_body_is_sent(void **state)
{
    struct tracked t = {
        .call = {.method = "PUT", .body = HL_HTTP_BODY_TEXT, .text_len = BIG}};
    char *big = calloc(1, BIG);

    assert_non_null(big);
    t.call.text = big;
    BEGIN("/", {DEAF, NULL});
    submit_to(client, &t);
    wait_seen(1);
    settle(); /* what the kernel takes is taken now */
    cancel_now(&t);
    assert_int_equal(t.rc, HAUL_E_CANCELED);
    end();
    free(big);
}

static void cancel_while_an_answer_is_awaited(void **state)
{
    struct tracked t = {.call = {.method = "GET"}};

    BEGIN("/", {ANSWER_OPEN, NULL});
    submit_to(client, &t);
    wait_seen(1);
    cancel_now(&t);
    assert_int_equal(t.rc, HAUL_E_CANCELED);
    end();
}

static void cancel_in_the_middle_of_an_answer(void **state)
{
    struct tracked t = {.call = {.method = "GET"}};

    BEGIN("/",
          {ANSWER_OPEN, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"});
    submit_to(client, &t);
    wait_seen(1);
    settle();
    assert_int_equal(t.returned, 0);
    cancel_now(&t);
    assert_int_equal(t.rc, HAUL_E_CANCELED);
    end();
}

/* The answer is there, the engine does not know yet. */
static void cancel_of_what_is_through(void **state)
{
    struct tracked t = {.call = {.method = "GET"}};

    BEGIN("/", {ANSWER, OK_TEXT});
    submit_to(client, &t);
    wait_seen(1);
    for (int i = 0; i < 100; i++)
        nap();
    cancel_now(&t);
    assert_int_equal(t.rc, 0);
    assert_int_equal(t.call.status, 200);
    end();
}

/* At moments that nobody chose. */
static void cancel_at_any_moment(void **state)
{
    static struct tracked all[SEEN_MAX];

    (void)state;
    memset(all, 0, sizeof(all));
    begin(NULL, 0, "/");
    for (size_t i = 0; i < HL_LEN(all); i++) {
        struct timespec pause = {0, (long)(i * 37 % 900) * 1000};

        all[i].call.method = i % 2 ? "GET" : "POST";
        submit_to(client, &all[i]);
        nanosleep(&pause, NULL);
        hl_http_call_cancel(client, &all[i].call);
    }
    for (size_t i = 0; i < HL_LEN(all); i++)
        wait_for(&all[i]);
    settle();
    for (size_t i = 0; i < HL_LEN(all); i++) {
        assert_int_equal(all[i].returned, 1);
        hl_http_call_fini(&all[i].call);
    }
    end();
}

/* ---- Memory ------------------------------------------------------------- */

/* Each allocation of a call fails in turn; it comes back in any case. */
static void call_comes_back_when_memory_is_out(void **state)
{
    const struct hl_http_field fields[] = {{.name = "a", .value = "1"}};
    static struct step steps[SEEN_MAX];
    int failed = 0, rc = HAUL_E_NOMEM;

    (void)state;
    for (size_t i = 0; i < HL_LEN(steps); i++)
        steps[i] = (struct step){ANSWER, OK_TEXT};
    begin(steps, HL_LEN(steps), "/");
    for (int n = 1; n < 60 && rc; n++) {
        struct tracked t = {.call = {.method = "POST",
                                     .body = HL_HTTP_BODY_MULTIPART,
                                     .fields = fields,
                                     .field_count = 1}};

        hl_mem_fail_at(n, false);
        submit_to(client, &t);
        wait_for(&t);
        hl_mem_fail_at(0, false);
        rc = t.rc;
        failed += rc != 0;
        assert_true(rc == 0 || rc == HAUL_E_NOMEM);
        hl_http_call_fini(&t.call);
    }
    assert_int_equal(rc, 0);
    assert_true(failed > 5);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(answer_comes_with_status_type_and_body),
        T(empty_answer_is_an_empty_text),
        T(head_has_no_body_whatever_the_length_says),
        T(query_is_encoded_behind_that_of_the_base),
        T(form_is_encoded),
        T(multipart_has_parts_between_its_boundary),
        T(text_goes_as_it_is_with_its_type_and_headers),
        T(post_without_a_body_says_so),
        T(what_would_be_another_header_is_refused),
        T(calls_run_at_the_same_time),
        T(user_and_headers_of_the_options_are_sent),
        T(other_schemes_are_refused),
        T(refusal_says_what_and_when_again),
        T(answer_may_be_as_long_as_the_limit),
        T(longer_answer_breaks_the_protocol),
        T(cut_answer_is_none),
        T(encoding_that_nobody_asked_for_is_refused),
        T(time_of_a_call_ends),
        T(nobody_listens),
        T(get_follows_within_the_origin),
        T(post_does_not_follow_what_is_not_repeatable),
        T(post_is_sent_again_where_307_says),
        T(another_origin_gets_neither_body_nor_credentials),
        T(redirects_without_end_or_sense_are_errors),
        T(cancel_before_it_began),
        T(cancel_while_the_body_is_sent),
        T(cancel_while_an_answer_is_awaited),
        T(cancel_in_the_middle_of_an_answer),
        T(cancel_of_what_is_through),
        T(cancel_at_any_moment),
        T(call_comes_back_when_memory_is_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
