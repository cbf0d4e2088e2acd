/*
 * Where uploads made of requests go: other origins, addresses that servers
 * give, the way that is found out. Against a real server; see
 * http_upload_world.h.
 */
#include "http_upload_world.h"

#include "http_ways.h"

/* ---- Other origins ------------------------------------------------------ */

static void set_header(const char *line)
{
    assert_int_equal(hl_opts_set_str(opts, 0, HAUL_OPT_HEADER, line, NULL), 0);
}

static void no_credentials_go_to_another_origin(void **state)
{
    char foreign[64];
    struct seen s;

    (void)state;
    set_header("X-Secret: hush");
    snprintf(foreign, sizeof(foreign), "http://localhost:%u",
             (unsigned)store.port);
    open_upload();
    move_all();
    s = seen_at("PATCH", 1);
    assert_non_null(strstr(s.head, "X-Secret: hush"));
    assert_non_null(strstr(s.head, "X-Own: hidden"));
    abort_now();
    manners.foreign = foreign;
    manners.asks = false;
    store_put(0, bytes, 0);
    open_upload();
    move_all();
    check_stored();
    s = seen_at("PATCH", 2);
    assert_non_null(strstr(s.head, "Host: localhost"));
    assert_non_null(strstr(s.head, "Upload-Offset: 0"));
    assert_null(strstr(s.head, "hush"));
    assert_null(strstr(s.head, "hidden"));
    abort_now();
}

static void redirect_abroad(const struct seen *s, struct reply *r)
{
    static char more[80];

    if (strstr(s->head, "Host: localhost"))
        return;
    snprintf(more, sizeof(more), "Location: http://localhost:%u/1\r\n",
             (unsigned)store.port);
    r->status = 307;
    r->drop = true;
    r->more = more;
}

/* Also where the redirect came too late, and the next body follows it. */
static void redirect_to_another_origin_takes_none_along(void **state)
{
    (void)state;
    set_header("X-Secret: hush");
    manners.asks = false;
    open_upload();
    atomic_store(&store.script, redirect_abroad);
    move_all();
    assert_int_equal(sent_error.code, HAUL_E_RESET);
    assert_int_equal(stored(1), size);
    for (unsigned i = 1; i <= seen_of("PATCH"); i++) {
        struct seen s = seen_at("PATCH", i);
        bool abroad = strstr(s.head, "Host: localhost");

        assert_int_equal(!strstr(s.head, "hush"), abroad);
        assert_int_equal(!strstr(s.head, "hidden"), abroad);
    }
    abort_now();
}

struct called {
    struct hl_http_call call;
    struct tracked t;
};

static void call(struct hl_http_client *c, struct called *x)
{
    track(&x->t, &x->call.op);
    hl_http_call(c, &x->call);
    x->t.inside = false;
    WAIT_UNTIL(x->t.returned);
}

static void calls_go_to_an_address_that_a_server_gave(void **state)
{
    static const char *const want[] = {"Upload-Offset", "Server", NULL};
    struct called x = {.call = {.method = "POST", .want = want}};
    struct hl_http_client *c = NULL;
    unsigned before;
    struct seen s;
    char *url;

    (void)state;
    set_header("X-Secret: hush");
    begin_upload();
    assert_int_equal(hl_http_client_on(obj->ep, &c), 0);
    url = hl_asprintf("http://localhost:%u/3?t=1", (unsigned)store.port);
    x.call.url = url;
    x.call.foreign = true;
    x.call.body = HL_HTTP_BODY_TEXT;
    x.call.text = "body";
    x.call.text_len = 4;
    call(c, &x);
    assert_int_equal(x.t.rc, 0);
    assert_int_equal(x.call.status, 204);
    assert_null(x.call.got[0]);
    s = seen_at("POST", 1);
    assert_string_equal(s.path, "/3?t=1");
    assert_int_equal(s.got, 4);
    assert_null(strstr(s.head, "hush"));
    hl_http_call_fini(&x.call);
    /* Of the endpoint's own, on a connection that is kept. */
    x = (struct called){.call = {.method = "HEAD", .want = want}};
    x.call.kept = true;
    before = store.connections;
    for (int i = 0; i < 3; i++) {
        store_put(0, bytes, 5);
        call(c, &x);
        assert_int_equal(x.t.rc, 0);
        assert_string_equal(x.call.got[0], "5");
        hl_http_call_fini(&x.call);
        assert_null(x.call.got[0]);
    }
    assert_int_equal(store.connections - before, 1);
    s = seen_at("HEAD", 1);
    assert_non_null(strstr(s.head, "X-Secret: hush"));
    hl_free(url);
    hl_http_client_free(c);
    quiet = true;
}

static void interim_and_cut(const struct seen *s, struct reply *r)
{
    (void)s;
    r->interim = true;
    r->status = 0;
}

/* An interim answer counts also when nothing follows it. */
static void fields_of_an_interim_answer_are_kept(void **state)
{
    static const char *const want[] = {"Upload-Offset", NULL};
    struct called x = {.call = {.method = "PUT", .want = want}};
    struct hl_http_client *c = NULL;

    (void)state;
    begin_upload();
    atomic_store(&store.script, interim_and_cut);
    assert_int_equal(hl_http_client_on(obj->ep, &c), 0);
    call(c, &x);
    assert_int_equal(x.t.rc, HAUL_E_RESET);
    assert_non_null(x.call.got[0]);
    assert_string_equal(x.call.got[0], "7");
    hl_http_call_fini(&x.call);
    hl_http_client_free(c);
    quiet = true;
}

static void address_of_a_server_is_not_shown(void **state)
{
    struct called x = {
        .call = {.method = "GET", .url = "http://127.0.0.1:1/a b/hush?hush"}};
    struct hl_http_client *c = NULL;

    (void)state;
    begin_upload();
    assert_int_equal(hl_http_client_on(obj->ep, &c), 0);
    call(c, &x);
    assert_int_equal(x.t.rc, HAUL_E_PROTO);
    assert_null(strstr(x.t.error.message, "hush"));
    assert_null(strstr(x.t.error.detail, "hush"));
    hl_http_call_fini(&x.call);
    hl_http_client_free(c);
    quiet = true;
}

static void places_are_where_the_server_says(void **state)
{
    static const struct {
        const char *base, *location, *url;
        bool foreign;
    } good[] = {
        {"https://h/in/", "https://h/x", "https://h/x", false},
        {"https://h/in/", "/x?t=1", "https://h/x?t=1", false},
        {"https://h/in/", "x", "https://h/in/x", false},
        {"https://h/in/", "http://h/x", "https://h/x", false},
        {"https://h:8443/in/", "http://h:8443/x", "https://h:8443/x", false},
        {"https://h/in/", "https://u:p@h/x", "https://h/x", false},
        {"https://h/in/", "https://k/x", "https://k/x", true},
        {"https://h/in/", "https://h:8443/x", "https://h:8443/x", true},
        {"http://h/in/", "http://h:8080/x", "http://h:8080/x", true},
    };
    static const char *const bad[] = {"http://k/x", "http://h:8080/x",
                                      "ftp://h/x",  "file:///x",
                                      "http://",    ""};
    struct hl_http_place place = {NULL};
    struct hl_error err = {0};

    (void)state;
    for (size_t i = 0; i < HL_LEN(good); i++) {
        assert_int_equal(
            hl_http_place_set(&place, good[i].base, good[i].location, &err), 0);
        assert_string_equal(place.url, good[i].url);
        assert_int_equal(place.foreign, good[i].foreign);
    }
    for (size_t i = 0; i < HL_LEN(bad); i++) {
        hl_err_clear(&err);
        assert_true(hl_http_place_set(&place, "https://h/in/", bad[i], &err) <
                    0);
        assert_string_equal(place.url, "http://h:8080/x"); /* as it was */
    }
    hl_http_place_fini(&place);
    assert_null(place.url);
}

static void token_has_lines_with_keys(void **state)
{
    static const struct {
        const char *token, *key, *value;
    } cases[] = {
        {"way=tus\nurl=https://h/?a=b\n", "way", "tus"},
        {"way=tus\nurl=https://h/?a=b\n", "url", "https://h/?a=b"},
        {"\n\nurl=x", "url", "x"},
        {"url=", "url", ""},
        {"xurl=1\nurlx=2", "url", NULL},
        {"url", "url", NULL},
        {"", "url", NULL},
        {NULL, "url", NULL},
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(cases); i++) {
        char *value = hl_http_token_get(cases[i].token, cases[i].key);

        if (cases[i].value)
            assert_string_equal(value, cases[i].value);
        else
            assert_null(value);
        hl_free(value);
    }
}

/* ---- The way ------------------------------------------------------------ */

static const char *options_fields;

static void speak(const struct seen *s, struct reply *r)
{
    if (strcmp(s->method, "OPTIONS") != 0)
        return;
    r->status = 200;
    r->more = options_fields;
    r->hold = !options_fields[0];
}

static void start_way(const char *fields, uint64_t bytes_to_come)
{
    aborting = quiet = false;
    write_count = 0;
    cut_lanes();
    new_object("");
    options_fields = fields;
    atomic_store(&store.script, speak);
    memset(&opening, 0, sizeof(opening));
    opening.size = bytes_to_come;
    opening.chunk_size = chunk;
    opening.hold_max = UINT64_MAX;
    track(&open_t, &opening.op);
    hl_driver_open(&obj->base, &opening);
    open_t.inside = false;
}

#define TUS                                                                    \
    "Tus-Resumable: 1.0.0\r\nTus-Version: 1.0.0\r\nTus-Extension: "            \
    "creation\r\n"

static void way_fits_the_size(void **state)
{
    (void)state;
    /* tus without a length that is told later is not for pipes. */
    start_way(TUS, HL_SIZE_UNKNOWN);
    WAIT_UNTIL(open_t.returned);
    assert_int_equal(open_t.rc, 0);
    assert_ptr_equal(obj->upload->protocol, &hl_http_put);
    abort_now();
    start_way(TUS, 5000);
    WAIT_UNTIL(seen_of("POST") == 1);
    assert_ptr_equal(obj->upload->protocol, &hl_http_tus);
    abort_now();
    start_way("Upload-Limit: min-size=4000\r\n", 5000);
    WAIT_UNTIL(seen_of("PUT") == 1);
    assert_ptr_equal(obj->upload->protocol, &hl_http_ietf);
    abort_now();
    start_way("Upload-Limit: min-size=6000\r\n", 5000);
    WAIT_UNTIL(open_t.returned);
    assert_ptr_equal(obj->upload->protocol, &hl_http_put);
    abort_now();
}

static void abort_and_stall_while_the_way_is_found_out(void **state)
{
    (void)state;
    start_way("", 5000);
    WAIT_UNTIL(held() == 1);
    hl_driver_http.unstall(&obj->base);
    settle();
    assert_int_equal(open_t.returned, 0);
    abort_now();
    assert_int_equal(open_t.returned, 1);
    assert_int_equal(open_t.rc, HAUL_E_CANCELED);
    assert_int_equal(open_t.error.code, HAUL_E_CANCELED);
    atomic_store(&store.script, NULL);
    start_discard();
    WAIT_UNTIL(discard_t.returned);
    assert_int_equal(discard_t.rc, 0);
    abort_now();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(no_credentials_go_to_another_origin),
        T(redirect_to_another_origin_takes_none_along),
        T(calls_go_to_an_address_that_a_server_gave),
        T(fields_of_an_interim_answer_are_kept),
        T(address_of_a_server_is_not_shown),
        T(places_are_where_the_server_says),
        T(token_has_lines_with_keys),
        T(way_fits_the_size),
        T(abort_and_stall_while_the_way_is_found_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
