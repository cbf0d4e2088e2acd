/*
 * Uploads by PUT in ranges: can the server do it? (ranged.h). Engine thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ranged.h"

static void probe(struct hl_http_upload *u, enum hl_ranged_step step);

/* ---- The probe ---------------------------------------------------------- */

static void fail_probe(struct hl_http_upload *u, const char *why, int status)
{
    struct hl_ranged *own = u->own;
    struct hl_error *err = &own->verdict;

    hl_err(err, HAUL_E_REMOTE, 0, "'%s' cannot be written in ranges: %s",
           u->obj->display, why);
    err->proto_status = status;
    if (status)
        hl_err_detail(err, "HTTP status %d", status);
    hl_err_hint(err, "Leave --ranged out: then it is sent by one PUT.");
    probe(u, HL_RANGED_REMOVE);
}

static void probe_ended(struct hl_http_upload *u)
{
    struct hl_ranged *own = u->own;
    char text[32];

    if (own->verdict.code) {
        hl_http_keep_fact(u->obj, HL_RANGED_FACT, NULL);
        hl_ranged_fail_open(u, own->verdict.code, &own->verdict);
        return;
    }
    own->known = true;
    snprintf(text, sizeof(text), "move=%" PRIu32 " new=%d", own->move,
             own->tells_new);
    hl_http_keep_fact(u->obj, HL_RANGED_FACT, text);
    hl_ranged_probed(u);
}

static bool has_bytes(const struct hl_ranged *own,
                      const struct hl_http_call *call)
{
    return hl_ranged_is_success(call->status) &&
           call->answer_len == HL_RANGED_PROBE_LEN &&
           !memcmp(call->answer, own->bytes, HL_RANGED_PROBE_LEN);
}

/* Of a PUT of a range. A file that is there already is not made. */
static void on_range_put(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ranged *own = u->own;
    const struct hl_http_call *call = &ask->call;
    struct hl_error err = {0};

    if (!call->op.rc && hl_ranged_is_no(call->status)) {
        fail_probe(u, "the server refuses Content-Range", call->status);
    } else if (hl_http_ask_refused(ask, &err)) {
        own->verdict = err;
        probe(u, HL_RANGED_REMOVE);
    } else {
        own->tells_new = own->tells_new && call->status != 201;
        probe(u, own->step + 1);
    }
}

static void on_probe_length(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ranged *own = u->own;
    struct hl_error err = {0};
    uint64_t len;

    if (hl_http_ask_refused(ask, &err)) {
        own->verdict = err;
        probe(u, HL_RANGED_REMOVE);
    } else if (!hl_ranged_told_length(&ask->call, &len)) {
        fail_probe(u, "it does not tell the length of a file", 0);
    } else if (len != HL_RANGED_PROBE_LEN) {
        fail_probe(u, "a range replaces the whole file", 0);
    } else {
        probe(u, HL_RANGED_READ);
    }
}

static void on_probe_read(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ranged *own = u->own;
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);
    bool too_long = ask->call.op.rc == HAUL_E_PROTO;

    if (too_long || (!rc && !has_bytes(own, &ask->call))) {
        fail_probe(u, "what was written in two ranges reads differently", 0);
    } else if (rc == HAUL_E_REMOTE) {
        fail_probe(u, "what was written cannot be read back", ask->call.status);
    } else if (rc) {
        own->verdict = err;
        probe(u, HL_RANGED_REMOVE);
    } else {
        probe(u, HL_RANGED_OTHER);
    }
}

static void on_probe_move(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ranged *own = u->own;

    if (ask->call.op.rc) {
        hl_http_ask_refused(ask, &own->verdict);
        probe(u, HL_RANGED_REMOVE);
    } else if (hl_ranged_is_success(ask->call.status)) {
        probe(u, HL_RANGED_MOVED);
    } else if (own->move < HL_RANGED_MOVE_PATH) {
        own->move++;
        probe(u, HL_RANGED_MOVE);
    } else {
        own->move = HL_RANGED_MOVE_NONE;
        probe(u, HL_RANGED_REMOVE);
    }
}

static void on_probe_moved(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ranged *own = u->own;

    if (ask->call.op.rc)
        hl_http_ask_refused(ask, &own->verdict);
    else if (!has_bytes(own, &ask->call))
        own->move = HL_RANGED_MOVE_NONE;
    probe(u, HL_RANGED_REMOVE);
}

/* Of the steps whose outcome changes nothing. */
static void on_probe_step(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    const struct hl_ranged *own = u->own;

    probe(u, own->step + 1);
}

static void on_probe_empty(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    if (rc)
        hl_ranged_fail_open(u, rc, &err);
    else
        probe(u, HL_RANGED_LATER);
}

/* What each step asks; the place of the first is own->probe unless other says
 * so. */
static const struct {
    const char *method;
    bool other;
    bool body;         /* also an empty one */
    const char *range; /* NULL: none */
    size_t from, len;  /* of the bytes */
    void (*done)(struct hl_http_ask *ask);
} steps[HL_RANGED_END] = {
    [HL_RANGED_EMPTY] = {"PUT", false, true, NULL, 0, 0, on_probe_empty},
    [HL_RANGED_LATER] = {"PUT", false, true, "bytes 8-15/16", 8, 8,
                         on_range_put},
    [HL_RANGED_FIRST] = {"PUT", false, true, "bytes 0-7/16", 0, 8,
                         on_range_put},
    [HL_RANGED_LENGTH] = {"HEAD", false, false, NULL, 0, 0, on_probe_length},
    [HL_RANGED_READ] = {"GET", false, false, NULL, 0, 0, on_probe_read},
    [HL_RANGED_OTHER] = {"PUT", true, true, NULL, 0, 0, on_probe_step},
    [HL_RANGED_MOVE] = {"MOVE", false, false, NULL, 0, 0, on_probe_move},
    [HL_RANGED_MOVED] = {"GET", true, false, NULL, 0, 0, on_probe_moved},
    [HL_RANGED_REMOVE] = {"DELETE", false, false, NULL, 0, 0, on_probe_step},
    [HL_RANGED_REMOVE_OTHER] = {"DELETE", true, false, NULL, 0, 0,
                                on_probe_step},
};

static void probe(struct hl_http_upload *u, enum hl_ranged_step step)
{
    struct hl_ranged *own = u->own;
    struct hl_error err = {0};
    struct hl_http_ask *ask;

    if (step == HL_RANGED_END) {
        probe_ended(u);
        return;
    }
    own->step = step;
    if (step == HL_RANGED_MOVE && own->move == HL_RANGED_MOVE_NONE)
        own->move = HL_RANGED_MOVE_URL;
    ask = hl_ranged_ask_new(u, steps[step].method,
                            steps[step].other ? own->other : own->probe,
                            steps[step].done);
    if (!ask) {
        hl_ranged_fail_open(u, HAUL_E_NOMEM, &err);
        return;
    }
    if (steps[step].body)
        hl_ranged_add_body(ask, own->bytes + steps[step].from, steps[step].len);
    if (steps[step].range)
        hl_ranged_add(ask, "Content-Range", steps[step].range);
    if (step == HL_RANGED_MOVE)
        hl_ranged_add_destination(ask, own->other, own->move, true);
    /* What a second one finds is not there any more. */
    ask->call.kept = strcmp(steps[step].method, "MOVE") != 0;
    if (!strcmp(steps[step].method, "GET")) {
        hl_ranged_add(ask, "Cache-Control", "no-cache");
        ask->call.answer_max = 4 * HL_RANGED_PROBE_LEN;
    }
    hl_http_ask_go(ask);
}

void hl_ranged_probe(struct hl_http_upload *u)
{
    struct hl_ranged *own = u->own;
    struct hl_error err = {0};

    hl_err_clear(&own->verdict);
    own->move = HL_RANGED_MOVE_NONE;
    own->tells_new = true;
    snprintf(own->bytes, sizeof(own->bytes), "%.8sVUTSRQPO", u->open->id);
    if (hl_ranged_name_probe(u, &err))
        hl_ranged_fail_open(u, err.code, &err);
    else
        probe(u, HL_RANGED_EMPTY);
}
