/*
 * Uploads by the IETF draft: the end, digests, discarding (ietf.h). Engine
 * thread, but for hl_ietf_hash().
 */
#include <inttypes.h>
#include <string.h>

#include "ietf.h"
#include "stage.h"

/* ---- Digests ------------------------------------------------------------ */

/* What is sent again after a break is in it already. */
void hl_ietf_hash(struct hl_http_part *part, const uint8_t *data, size_t len)
{
    struct hl_ietf *own = part->upload->own;
    uint64_t skip;

    if (!own->hash)
        return;
    if (!data) {
        own->at = own->from;
        return;
    }
    skip = hl_min(own->hashed - hl_min(own->at, own->hashed), len);
    if (own->at + skip == own->hashed && skip < len) {
        own->digest->ordered_update(own->hash, data + skip, len - skip);
        own->hashed += len - skip;
    }
    own->at += len;
}

int hl_ietf_compare(struct hl_http_upload *u, const char *repr_digest,
                    uint64_t size, struct hl_error *err)
{
    struct hl_ietf *own = u->own;
    struct hl_identity told = {0};
    uint8_t sent[HL_OFFERED_MAX];

    if (!own->hash || own->hashed != size || !repr_digest)
        return 0;
    hl_http_offer(&told, "Repr-Digest", repr_digest, false);
    if (strcmp(told.offered, own->digest->name) != 0)
        return 0;
    own->digest->ordered_final(own->hash, sent);
    own->digest->ordered_free(own->hash);
    own->hash = NULL;
    own->compared = !memcmp(sent, told.offered_digest, own->digest->size);
    if (own->compared)
        return 0;
    hl_err(err, HAUL_E_DIGEST, 0,
           "the %s that '%s' has differs from that of what was sent",
           own->digest->name, u->obj->display);
    return hl_err_hint(err, "Copy it again; when that does not help, the "
                            "server or its disk is broken.");
}

/* ---- Commit ------------------------------------------------------------- */

static void commit_complete(struct hl_http_upload *u)
{
    const struct hl_ietf *own = u->own;

    u->commit->size_checked = own->told;
    u->commit->compared = own->compared;
    hl_http_upload_committed(u, 0, NULL);
}

/* The upload is not complete, or nobody knows. */
static void not_ended(struct hl_http_ask *ask, int rc, struct hl_error *err)
{
    struct hl_http_upload *u = ask->upload;

    if (!rc)
        rc =
            hl_err(err, HAUL_E_PROTO, 0,
                   "'%s' was told the end and waits for more", u->obj->display);
    else if (!ask->call.op.rc)
        rc = hl_ietf_refused(u, ask->call.status, err);
    hl_http_upload_committed(u, rc, err);
}

static void on_ended(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    struct hl_ietf *own = u->own;
    struct hl_http_call *call = &ask->call;
    enum hl_ietf_said said = hl_ietf_says_complete(call->got);
    bool taken = call->status == 303 && own->post; /* RFC 9110 15.4.4 */
    struct hl_error err = {0};
    int rc = taken ? 0 : hl_http_ask_refused(ask, &err);

    if (call->op.rc ||
        !hl_ietf_is_final(said, true, taken ? 200 : call->status)) {
        not_ended(ask, rc, &err);
        return;
    }
    if (!rc)
        rc = hl_ietf_compare(u, call->got[HL_IETF_GOT_DIGEST], u->commit->size,
                             &err);
    hl_ietf_keep_answer(u, call->status, &call->answer, call->answer_len,
                        call->got[HL_IETF_GOT_LOCATION]);
    if (rc) {
        hl_ietf_refused_whole(u, &err);
        own->refusal = err;
        hl_ietf_save_token(u);
        return;
    }
    own->complete = true;
    own->told = said == HL_IETF_YES;
    commit_complete(u);
}

static void send_end(struct hl_http_upload *u)
{
    struct hl_ietf *own = u->own;
    struct hl_http_ask *ask = hl_ietf_ask_new(u, NULL, "PATCH", on_ended);
    struct hl_error err = {0};

    if (!ask) {
        hl_http_upload_committed(u, HAUL_E_NOMEM, &err);
        return;
    }
    own->ending = true;
    hl_ietf_add(ask, "Content-Type", "application/partial-upload");
    hl_ietf_add_number(ask, "Upload-Offset", u->commit->size);
    hl_ietf_add_complete(ask, true);
    if (own->digest)
        hl_ietf_add(ask, "Want-Repr-Digest", "sha-256=10");
    ask->call.answer_max = HL_ANSWER_MAX;
    ask->call.timeout_ns = HL_IETF_STORE_STALLS * u->ep->stall_ns;
    hl_http_ask_go(ask);
}

static void say_lost_answer(const struct hl_http_upload *u)
{
    const struct hl_env *env = u->ep->base.env;
    char *line = hl_asprintf("the answer of '%s' was lost; it says that it has "
                             "all of it",
                             u->obj->display);

    if (line && env->say)
        env->say(env, line);
    hl_free(line);
}

/* The answer to the end was lost. */
void hl_ietf_commit_offset(struct hl_http_upload *u, enum hl_ietf_said said)
{
    struct hl_ietf *own = u->own;
    struct hl_error err = {0};

    own->known = false;
    if (own->offset != u->commit->size) {
        hl_ietf_offset_failed(u, NULL, hl_ietf_lost(u, &err), &err);
    } else if (said != HL_IETF_YES) {
        send_end(u);
    } else {
        own->complete = own->told = true;
        say_lost_answer(u);
        commit_complete(u);
    }
}

void hl_ietf_commit(struct hl_http_upload *u)
{
    const struct hl_ietf *own = u->own;

    if (own->complete)
        commit_complete(u);
    else if (own->ending)
        hl_ietf_ask_offset(u, NULL);
    else
        send_end(u);
}

/* ---- Discard ------------------------------------------------------------ */

/* Servers need not know DELETE: what they keep expires. */
static void on_removed(struct hl_http_ask *ask)
{
    struct hl_http_upload *u = ask->upload;
    int status = ask->call.status;
    struct hl_error err = {0};
    int rc = hl_http_ask_refused(ask, &err);

    if (!ask->call.op.rc &&
        (hl_ietf_is_gone(status) || status == 405 || status == 501))
        rc = 0;
    hl_http_upload_discarded(u, rc, &err);
}

void hl_ietf_discard(struct hl_http_upload *u, const char *token)
{
    const struct hl_ietf *own = u->own;
    struct hl_error err = {0};
    struct hl_http_ask *ask;
    int rc = token ? hl_ietf_take_token(u, token, &err) : 0;

    if (rc || !own->place.url) {
        hl_http_upload_discarded(u, rc, &err);
        return;
    }
    ask = hl_ietf_ask_new(u, NULL, "DELETE", on_removed);
    if (ask)
        hl_http_ask_go(ask);
    else
        hl_http_upload_discarded(u, HAUL_E_NOMEM, &err);
}
