/*
 * Parts of an upload: their writes, their bodies, and what becomes of them
 * when a request breaks (http_upload.h). Engine thread.
 *
 *   write ─► part->writes ─┬─ not ready: begin() ─► begun
 *                          └─ ready: send() ─► sender ─► sent() ─► acked
 */
#include <inttypes.h>
#include <string.h>

#include "http_upload_private.h"

/* Smaller bodies are not tried when a server finds them too large. */
#define BOUND_MIN (64u << 10)

static void kick(struct hl_http_part *part);

/* ---- Parts -------------------------------------------------------------- */

static struct hl_io *io_of(struct hl_node *n)
{
    return n ? HL_CONTAINER(n, struct hl_io, op.node) : NULL;
}

struct hl_http_part *hl_http_part_find(struct hl_http_upload *u, uint64_t index)
{
    for (struct hl_node *n = hl_list_first(&u->parts); n;
         n = hl_list_next(&u->parts, n)) {
        struct hl_http_part *part = HL_CONTAINER(n, struct hl_http_part, node);

        if (part->index == index)
            return part;
    }
    return NULL;
}

struct hl_http_part *hl_http_part_get(struct hl_http_upload *u, uint64_t index)
{
    const struct hl_parts *parts = &u->layout.parts;
    struct hl_http_part *part = hl_http_part_find(u, index);
    uint64_t size;

    if (part)
        return part;
    part = hl_malloc(sizeof(*part));
    if (!part)
        return NULL;
    part->upload = u;
    part->index = index;
    part->begin = parts->size ? hl_parts_begin(parts, index) : 0;
    part->len = HL_SIZE_UNKNOWN;
    if (u->size != HL_SIZE_UNKNOWN) {
        size = parts->size ? hl_parts_len(parts, index) : u->size;
        part->len = hl_min(size, u->size - part->begin);
    }
    part->next = part->begin;
    part->sent_max = part->len;
    hl_list_init(&part->writes);
    hl_list_append(&u->parts, &part->node);
    return part;
}

static void park_sender(struct hl_http_part *part)
{
    struct hl_http_upload *u = part->upload;

    if (!part->sender)
        return;
    if (u->idle_count < HL_LEN(u->idle))
        u->idle[u->idle_count++] = part->sender;
    else
        hl_http_sender_free(part->sender);
    part->sender = NULL;
}

void hl_http_part_free(struct hl_http_part *part)
{
    const struct hl_http_protocol *p = part->upload->protocol;

    HL_ASSERT(hl_list_empty(&part->writes) && part->state == HL_PART_IDLE);
    park_sender(part);
    hl_list_remove(&part->node);
    if (p->part_free)
        p->part_free(part);
    hl_http_place_fini(&part->place);
    hl_http_place_fini(&part->moved);
    hl_free(part);
}

static void report_acked(struct hl_http_part *part, uint64_t end)
{
    if (end <= part->reported)
        return;
    hl_object_acked(&part->upload->obj->base, part->begin + part->reported,
                    end - part->reported);
    part->reported = end;
}

/* Writes that the target has as a whole go home. */
static void finish_confirmed(struct hl_http_part *part)
{
    struct hl_io *io;

    while ((io = io_of(hl_list_first(&part->writes))) &&
           io->offset + io->len <= part->begin + part->offset) {
        hl_list_remove(&io->op.node);
        hl_op_finish(hl_http_upload_loop(part->upload), &io->op, 0);
        report_acked(part, io->offset + io->len - part->begin);
    }
}

/* Everything of the part comes home with the error; taken: where the bytes end
 * that were handed back as taken. */
static void break_part(struct hl_http_part *part, uint64_t taken,
                       const struct hl_error *err)
{
    struct hl_http_upload *u = part->upload;
    uint64_t from = part->begin + part->reported;
    struct hl_node *n;

    HL_ASSERT(err->code);
    part->ready = false;
    part->state = HL_PART_IDLE;
    part->broken = *err;
    part->next = from;
    park_sender(part);
    if (taken > from)
        hl_object_lost(&u->obj->base, from, taken - from, err);
    while ((n = hl_list_pop(&part->writes)))
        hl_http_upload_finish(u, &io_of(n)->op, err->code, err);
}

/* Where the bytes end that are not in part->writes. */
static uint64_t taken_end(const struct hl_http_part *part)
{
    struct hl_io *io = io_of(hl_list_first(&part->writes));

    return io ? io->offset : part->next;
}

static void fail_part(struct hl_http_part *part, const struct hl_error *err)
{
    break_part(part, taken_end(part), err);
}

/* ---- Getting a part ready ----------------------------------------------- */

/* What the target says against what is known. */
static int check_offset(struct hl_http_part *part, struct hl_error *err)
{
    const char *name = part->upload->obj->display;

    if (part->offset < part->reported)
        return hl_err(err, HAUL_E_LOST, 0,
                      "'%s' has %" PRIu64 " bytes of a part of which it had "
                      "confirmed %" PRIu64,
                      name, part->offset, part->reported);
    if (part->offset <= part->sent_max)
        return 0;
    hl_err(err, HAUL_E_RESUME, 0,
           "'%s' claims %" PRIu64 " bytes of a part, not more than %" PRIu64
           " were sent",
           name, part->offset, part->sent_max);
    return hl_err_hint(err, "Somebody else writes there, or the server is "
                            "wrong: start anew with --resume never.");
}

/* Of bytes that are there already nothing is sent. */
static void note_skipped(struct hl_http_part *part, struct hl_io *io)
{
    uint64_t there = part->begin + part->offset;

    if (there > io->offset)
        io->skipped = (uint32_t)hl_min(there - io->offset, io->len);
}

void hl_http_part_begun(struct hl_http_part *part, int rc,
                        const struct hl_error *err)
{
    struct hl_error why = {0};

    HL_ASSERT(part->state == HL_PART_BEGINNING);
    part->state = HL_PART_IDLE;
    if (rc)
        why = *err;
    else
        rc = check_offset(part, &why);
    if (rc) {
        hl_err(&why, rc, 0, "%s", haul_err_text(rc));
        fail_part(part, &why);
        return;
    }
    part->ready = true;
    /* What this run sent may arrive after the question; nobody knows what an
     * earlier one sent. */
    if (!part->asked)
        part->sent_max = part->offset;
    part->asked = true;
    for (struct hl_node *n = hl_list_first(&part->writes); n;
         n = hl_list_next(&part->writes, n))
        note_skipped(part, io_of(n));
    kick(part);
}

/* ---- Sending ------------------------------------------------------------ */

const uint8_t *hl_http_part_data(const struct hl_http_part *part, uint64_t *len)
{
    struct hl_io *io = io_of(hl_list_first(&part->writes));
    uint64_t skip;

    HL_ASSERT(io && part->begin + part->offset >= io->offset);
    skip = part->begin + part->offset - io->offset;
    *len = io->len - skip;
    return io->data + skip;
}

static uint64_t queued_end(const struct hl_http_part *part)
{
    struct hl_node *n = part->writes.head.prev;
    const struct hl_io *io = HL_CONTAINER(n, struct hl_io, op.node);

    return n == &part->writes.head ? part->begin + part->offset
                                   : io->offset + io->len;
}

/* How many bytes the next body may have; 0: it cannot begin yet. */
static uint64_t sendable(const struct hl_http_part *part)
{
    const struct hl_http_upload *u = part->upload;
    uint64_t there = part->begin + part->offset, queued, end;

    queued = queued_end(part) - there;
    if (u->size != HL_SIZE_UNKNOWN) {
        end = part->len - part->offset;
    } else if (u->protocol->chunked) {
        return queued ? HL_SIZE_UNKNOWN : 0;
    } else if (u->protocol->whole_parts) {
        /* Its length is known with its last write. */
        end = part->len == HL_SIZE_UNKNOWN ? 0 : part->len - part->offset;
    } else {
        end = queued; /* what comes after that, if anything, is not known */
    }
    if (!queued || !u->bound || end <= u->bound)
        return queued ? end : 0;
    /* Bodies end where chunks end, so that few begin inside of one. */
    end = there + u->bound;
    if (u->bound >= u->chunk_size)
        end = end / u->chunk_size * u->chunk_size;
    return end > there ? end - there : u->bound;
}

static int get_sender(struct hl_http_part *part, struct hl_error *err)
{
    struct hl_http_upload *u = part->upload;
    int rc;

    if (part->sender)
        return 0;
    if (u->idle_count) {
        part->sender = u->idle[--u->idle_count];
        return 0;
    }
    rc = hl_http_sender_new(u, u->senders, &part->sender, err);
    u->senders += rc == 0;
    return rc;
}

/* Writes of the body under way go to the sender. */
static void feed(struct hl_http_part *part)
{
    struct hl_io *io;

    while ((io = io_of(hl_list_first(&part->writes))) &&
           io->offset - part->begin < part->expected) {
        hl_list_remove(&io->op.node);
        hl_http_sender_write(part->sender, io);
    }
}

/* Too large for the server: smaller ones may go. The refusal of a body that was
 * long under way does not make them larger again. */
static bool make_smaller(struct hl_http_upload *u, uint64_t len)
{
    if (!u->bound || len / 4 < BOUND_MIN)
        return false;
    u->bound = u->bound_max = hl_min(u->bound, len / 4);
    return true;
}

static void went_well(struct hl_http_part *part)
{
    struct hl_http_upload *u = part->upload;

    if (u->bound)
        u->bound = hl_min(2 * u->bound, hl_max(u->bound_max, u->bound));
    hl_err_clear(&part->broken);
    finish_confirmed(part);
    report_acked(part, part->offset);
    if (part->offset == part->len && hl_list_empty(&part->writes)) {
        hl_http_part_free(part);
        return;
    }
    kick(part);
}

/* The only write of a body was kept; it was sent as a whole, and that it is
 * sent again is to be counted. A plain PUT keeps it, for the pipe that has it
 * no more. */
static void finish_sent(struct hl_http_part *part)
{
    const struct hl_http_upload *u = part->upload;
    struct hl_io *io = io_of(hl_list_first(&part->writes));

    if (!io || io->offset + io->len > part->begin + part->expected ||
        ((u->layout.caps & HL_CAP_LATE) && !u->layout.parts.size))
        return;
    hl_list_remove(&io->op.node);
    hl_op_finish(hl_http_upload_loop(u), &io->op, 0);
}

static void on_sent(struct hl_http_part *part, struct hl_http_sent *sent)
{
    struct hl_http_upload *u = part->upload;
    uint64_t before = part->offset, len = part->expected - before;
    struct hl_error err = {0};
    struct hl_list rest;
    struct hl_node *n;
    int rc;

    HL_ASSERT(part->state == HL_PART_SENDING);
    part->state = HL_PART_IDLE;
    hl_list_init(&rest);
    hl_http_sender_rest(part->sender, &rest);
    while (!hl_list_empty(&rest)) {
        n = rest.head.prev;
        hl_list_remove(n);
        hl_list_prepend(&part->writes, n);
    }
    if (u->aborted) {
        hl_err(&err, HAUL_E_CANCELED, 0, "%s", haul_err_text(HAUL_E_CANCELED));
        fail_part(part, &err);
        hl_http_upload_check_quiet(u);
        return;
    }
    hl_http_sender_moved(part->sender, &part->moved);
    if (part->expected == HL_SIZE_UNKNOWN)
        part->expected = part->len; /* known when all was sent */
    rc = u->protocol->sent(u, part, sent, &err);
    /* Whatever the protocol makes of it: nothing is lost. */
    if (!rc && !sent->complete)
        rc = hl_err(&err, HAUL_E_PROTO, 0,
                    "'%s' answered %d before it had everything",
                    u->obj->display, sent->status);
    if (!rc && part->offset != part->expected)
        rc = hl_err(&err, HAUL_E_PROTO, 0,
                    "'%s' has %" PRIu64 " bytes of a part of which %" PRIu64
                    " were sent",
                    u->obj->display, part->offset, part->expected);
    if (!rc) {
        went_well(part);
        return;
    }
    hl_err(&err, rc, 0, "%s", haul_err_text(rc));
    part->offset = before;
    if (sent->complete)
        finish_sent(part);
    if (sent->status == 413 && make_smaller(u, len)) {
        hl_err_clear(&err);
        hl_err(&err, HAUL_E_PROTO, 0,
               "'%s' takes no body of %" PRIu64 " bytes, smaller ones are "
               "tried",
               u->obj->display, len);
    }
    fail_part(part, &err);
}

/* Each body begins where the protocol says: what a redirect of an earlier one
 * led to may be gone. Only a redirect that came too late is followed now. */
static void use_moved(struct hl_http_part *part, struct hl_http_request *req)
{
    if (!part->moved.url)
        return;
    hl_free_secret(req->url);
    req->url = part->moved.url;
    req->foreign = part->moved.foreign;
    part->moved.url = NULL;
}

static void start_body(struct hl_http_part *part, uint64_t len)
{
    struct hl_http_upload *u = part->upload;
    uint64_t there = part->begin + part->offset;
    struct hl_http_request *req;
    struct hl_error err = {0};
    int rc = get_sender(part, &err);

    if (!rc) {
        req = hl_http_sender_request(part->sender);
        rc = u->protocol->send(u, part, req, &len, &err);
    }
    if (rc) {
        hl_err(&err, rc, 0, "%s", haul_err_text(rc));
        fail_part(part, &err);
        return;
    }
    HL_ASSERT(len);
    use_moved(part, req);
    req->body_len = len;
    part->state = HL_PART_SENDING;
    part->expected =
        len == HL_SIZE_UNKNOWN ? HL_SIZE_UNKNOWN : part->offset + len;
    part->sent_max = hl_max(part->sent_max, part->expected);
    hl_http_sender_start(
        part->sender, part,
        (uint32_t)(there - io_of(hl_list_first(&part->writes))->offset),
        on_sent);
    feed(part);
}

/* Does what can be done for the part now. */
static void kick(struct hl_http_part *part)
{
    struct hl_http_upload *u = part->upload;
    uint64_t len;

    if (part->state == HL_PART_SENDING) {
        feed(part);
        return;
    }
    if (part->state == HL_PART_BEGINNING || hl_list_empty(&part->writes))
        return;
    if (!part->ready) {
        part->state = HL_PART_BEGINNING;
        u->protocol->begin(u, part);
        return;
    }
    finish_confirmed(part);
    if (part->offset == part->len && hl_list_empty(&part->writes)) {
        hl_http_part_free(part);
        return;
    }
    len = sendable(part);
    if (len)
        start_body(part, len);
}

/* ---- Writes ------------------------------------------------------------- */

static void refuse_write(struct hl_http_part *part, struct hl_io *io)
{
    struct hl_http_upload *u = part->upload;

    /* It was on its way when the part broke. */
    if (part->broken.code) {
        hl_http_upload_finish(u, &io->op, part->broken.code, &part->broken);
        return;
    }
    hl_op_finish(hl_http_upload_loop(u), &io->op,
                 hl_err(&io->op.error, HAUL_E_BUG, 0,
                        "a write at %" PRIu64 " does not fit into '%s'",
                        io->offset, u->obj->display));
}

void hl_http_part_write(struct hl_http_part *part, struct hl_io *io)
{
    /* What an earlier run left is where the first write begins. */
    if (!part->ready && !part->broken.code && hl_list_empty(&part->writes) &&
        part->state == HL_PART_IDLE && io->offset >= part->begin) {
        part->next = io->offset;
        part->reported = io->offset - part->begin;
    }
    if (io->offset != part->next ||
        (part->len != HL_SIZE_UNKNOWN &&
         io->offset + io->len > part->begin + part->len)) {
        refuse_write(part, io);
        return;
    }
    part->next += io->len;
    if (io->part_end)
        part->len = part->next - part->begin;
    if (part->ready && part->state == HL_PART_IDLE)
        note_skipped(part, io);
    hl_list_append(&part->writes, &io->op.node);
    kick(part);
}

void hl_http_part_abort(struct hl_http_part *part)
{
    struct hl_error err = {0};

    if (part->state == HL_PART_SENDING) {
        hl_http_sender_cancel(part->sender);
        return;
    }
    hl_err(&err, HAUL_E_CANCELED, 0, "%s", haul_err_text(HAUL_E_CANCELED));
    fail_part(part, &err);
}
