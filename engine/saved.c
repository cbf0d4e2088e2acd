/*
 * The item's side of the state store: plan, identity of the source, token and
 * notes, acknowledged chunks. Engine thread. A chunk's row is written after its
 * bytes were acknowledged, never before (DESIGN 7.2).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "item.h"

/* More chunks than this make the digests of a transfer too large to hold. */
#define CHUNKS_MAX (UINT64_C(1) << 18)
#define CHUNK_DEFAULT (UINT64_C(4) << 20)
#define CHUNK_MIN (UINT64_C(64) << 10)

static size_t digest_size(const struct hl_item *it)
{
    return it->t->c.digest ? it->t->c.digest->size : 0;
}

static const char *digest_name(const struct hl_item *it)
{
    return it->t->c.digest ? it->t->c.digest->name : "";
}

/* Is anything kept for this item? */
static bool is_saved(const struct hl_item *it)
{
    return it->t->store && it->t->created;
}

static bool can_seek(const struct hl_item *it)
{
    return it->source_caps & HL_CAP_SEEK;
}

/* ---- Notes -------------------------------------------------------------- */

static struct hl_item_note *find_note(struct hl_item *it, uint64_t part,
                                      size_t *at)
{
    size_t low = 0, high = it->note_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (it->notes[mid].part < part)
            low = mid + 1;
        else
            high = mid;
    }
    *at = low;
    return low < it->note_count && it->notes[low].part == part ? &it->notes[low]
                                                               : NULL;
}

static struct hl_item_note *add_note(struct hl_item *it, uint64_t part)
{
    size_t at, room = it->note_room ? it->note_room * 2 : 16;
    struct hl_item_note *n = find_note(it, part, &at);

    if (n)
        return n;
    if (it->note_count == it->note_room) {
        n = hl_realloc(it->notes, room * sizeof(*n));
        if (!n)
            return NULL;
        it->notes = n;
        it->note_room = room;
    }
    n = &it->notes[at];
    memmove(n + 1, n, (it->note_count - at) * sizeof(*n));
    memset(n, 0, sizeof(*n));
    n->part = part;
    it->note_count++;
    return n;
}

static int load_note(void *user, uint64_t part, const char *text)
{
    char *copy = hl_strdup(text);
    struct hl_item_note *n = copy ? add_note(user, part) : NULL;

    if (!n) {
        hl_free_secret(copy);
        return HAUL_E_NOMEM;
    }
    hl_free_secret(n->text);
    n->text = copy;
    return 0;
}

int hl_saved_note(struct hl_item *it, uint64_t part, const char *note,
                  struct hl_error *err)
{
    size_t at;

    if (load_note(it, part, note))
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    find_note(it, part, &at)->of_this_open = true;
    if (!is_saved(it))
        return 0;
    return hl_store_note_put(it->t->store, it->t->saved.id, it->index, part,
                             note, err);
}

/* In one block: the notes, then their texts. */
int hl_saved_give_notes(struct hl_item *it)
{
    size_t bytes = it->note_count * sizeof(struct hl_note), n;
    char *text;

    HL_ASSERT(!it->given);
    for (size_t i = 0; i < it->note_count; i++)
        bytes += strlen(it->notes[i].text) + 1;
    it->given = bytes ? hl_malloc(bytes) : NULL;
    it->given_bytes = bytes;
    if (bytes && !it->given)
        return HAUL_E_NOMEM;
    text = (char *)(it->given + it->note_count);
    for (size_t i = 0; i < it->note_count; i++) {
        it->notes[i].of_this_open = false;
        it->given[i].part = it->notes[i].part;
        it->given[i].text = text;
        n = strlen(it->notes[i].text) + 1;
        memcpy(text, it->notes[i].text, n);
        text += n;
    }
    return 0;
}

void hl_saved_take_notes(struct hl_item *it)
{
    if (it->given)
        explicit_bzero(it->given, it->given_bytes);
    hl_free(it->given);
    it->given = NULL;
}

/* Forgets those of before this open; the store has none of either. */
static int reset_notes(struct hl_item *it, struct hl_error *err)
{
    size_t kept = 0;
    int rc = 0;

    for (size_t i = 0; i < it->note_count; i++) {
        struct hl_item_note n = it->notes[i];

        if (!n.of_this_open) {
            hl_free_secret(n.text);
            continue;
        }
        it->notes[kept++] = n;
        if (rc == 0 && is_saved(it))
            rc = hl_store_note_put(it->t->store, it->t->saved.id, it->index,
                                   n.part, n.text, err);
    }
    it->note_count = kept;
    return rc;
}

/* ---- The plan ----------------------------------------------------------- */

static int choose_chunk_size(struct hl_item *it, struct hl_error *err)
{
    uint64_t limit = hl_pool_limit(it->t->e->pool);
    int64_t wanted = hl_opts_i64(it->t->c.opts, HAUL_OPT_CHUNK_SIZE);
    uint64_t size = CHUNK_DEFAULT;

    if (wanted > 0) {
        if ((uint64_t)wanted > limit) {
            hl_err(err, HAUL_E_LIMIT, 0,
                   "chunk size %" PRId64 " is above the memory limit", wanted);
            return hl_err_hint(err, "Give --memory at least twice the chunk "
                                    "size.");
        }
        it->chunk_size = (uint64_t)wanted;
        return 0;
    }
    if (it->size != HL_SIZE_UNKNOWN)
        while (it->size / size > CHUNKS_MAX)
            size *= 2;
    /* Fewer than eight buffers would make reading and sending take turns. */
    while (size > CHUNK_MIN && size > limit / 8)
        size /= 2;
    it->chunk_size = size;
    return 0;
}

/* ---- Identity ----------------------------------------------------------- */

static char *identity_text(const struct hl_item *it)
{
    const struct hl_identity *i = &it->identity;

    if (!can_seek(it))
        return hl_strdup("stream");
    return hl_asprintf("size=%" PRIu64 " mtime=%" PRId64
                       " head=%s tail=%s prefix=%" PRIu64 " validator=%s",
                       i->size, i->mtime_ns, it->head, it->tail, it->append_at,
                       i->validator);
}

/* What an earlier --resume append took over without a look. */
static uint64_t identity_prefix(const struct hl_item *it, const char *text)
{
    const char *at = strstr(text, " prefix=");
    uint64_t n = at ? strtoull(at + 8, NULL, 10) : 0;

    return it->size != HL_SIZE_UNKNOWN && n <= it->size ? n : 0;
}

/* Which fact differs, for the message; NULL: none. */
static const char *identity_differs(const char *was, const char *is)
{
    static const char *const facts[] = {"size", "mtime", "head", "tail",
                                        "validator"};
    static const char *const names[] = {"its size", "its modification time",
                                        "its first chunk", "its last chunk",
                                        "its validator"};

    for (size_t i = 0; i < HL_LEN(facts); i++) {
        char key[16];
        const char *a, *b;
        size_t n;

        snprintf(key, sizeof(key), "%s=", facts[i]);
        a = strstr(was, key);
        b = strstr(is, key);
        if (!a || !b)
            return "its kind";
        /* The validator is the last, and may have spaces. */
        n = i + 1 < HL_LEN(facts) ? strcspn(a, " ") : strlen(a);
        if (n != (i + 1 < HL_LEN(facts) ? strcspn(b, " ") : strlen(b)) ||
            memcmp(a, b, n) != 0)
            return names[i];
    }
    return NULL;
}

static int check_identity(const struct hl_item *it, const char *was,
                          struct hl_error *err)
{
    char *is = identity_text(it);
    const char *what = is ? identity_differs(was, is) : NULL;
    int rc = 0;

    if (!is)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (what) {
        hl_err(err, HAUL_E_CHANGED, 0,
               "'%s' changed since the interrupted copy: %s differs",
               it->t->source_name, what);
        rc = hl_err_hint(err, "Start anew with --resume never.");
    }
    hl_free(is);
    return rc;
}

/* ---- Load --------------------------------------------------------------- */

uint8_t *hl_saved_digest_slot(struct hl_item *it, uint64_t index)
{
    size_t size = digest_size(it);
    uint64_t room = it->digest_count;
    uint8_t *d;

    if (index >= room) {
        room = hl_max(index + 1, room * 2);
        if (it->size != HL_SIZE_UNKNOWN)
            /* Not at once for all of it: a server may say any size. */
            room = hl_min(room, hl_max(index, it->size / it->chunk_size) + 1);
        d = hl_realloc(it->digests, room * size);
        if (!d)
            return NULL;
        memset(d + it->digest_count * size, 0,
               (room - it->digest_count) * size);
        it->digests = d;
        it->digest_count = room;
    }
    return it->digests + index * size;
}

struct load {
    struct hl_item *it;
    uint64_t durable;
};

static int load_chunk(void *user, const struct hl_saved_chunk *chunk)
{
    struct load *l = user;
    struct hl_item *it = l->it;
    uint64_t begin = chunk->index * it->chunk_size;
    uint64_t want;
    int rc;

    /* A row that does not fit the plan is not believed. */
    if (chunk->index > it->size / it->chunk_size || begin >= it->size)
        return HAUL_E_FORMAT;
    want = hl_min(it->chunk_size, it->size - begin);
    if (chunk->len != want)
        return HAUL_E_FORMAT;
    rc = hl_ranges_add(&it->acked, begin, begin + want);
    if (rc == 0 && chunk->batch > l->durable)
        rc = hl_ranges_add(&it->suspect, begin, begin + want);
    if (rc == 0 && digest_size(it)) {
        uint8_t *slot = hl_saved_digest_slot(it, chunk->index);

        if (!slot)
            return HAUL_E_NOMEM;
        memcpy(slot, chunk->digest, digest_size(it));
    }
    return rc;
}

static int load_chunks(struct hl_item *it, uint64_t durable,
                       struct hl_error *err)
{
    struct load l = {it, durable};
    int rc = hl_store_chunks_load(it->t->store, it->t->saved.id, it->index,
                                  load_chunk, &l, err);

    if (rc == HAUL_E_FORMAT) {
        hl_err_clear(err);
        hl_err(err, HAUL_E_RESUME, 0,
               "the saved state of '%s' does not fit its plan",
               it->t->source_name);
        hl_err_hint(err, "Start anew with --resume never.");
        rc = HAUL_E_RESUME;
    } else if (rc == HAUL_E_NOMEM) {
        hl_err(err, rc, 0, "out of memory");
    }
    return rc;
}

/* The stored plan wins; an explicit option against it is an error. */
static int check_plan(struct hl_item *it, const struct hl_saved_object *o,
                      struct hl_error *err)
{
    const struct hl_opts *opts = it->t->c.opts;
    int64_t chunk = hl_opts_i64(opts, HAUL_OPT_CHUNK_SIZE);

    if (hl_opts_is_set(opts, HAUL_OPT_CHUNK_SIZE) && chunk > 0 &&
        (uint64_t)chunk != o->chunk_size)
        hl_err(err, HAUL_E_RESUME, 0,
               "the interrupted copy has chunks of %" PRIu64
               " bytes, not %" PRId64,
               o->chunk_size, chunk);
    else if (strcmp(digest_name(it), o->digest_name) != 0)
        hl_err(err, HAUL_E_RESUME, 0,
               "the interrupted copy has digests '%s', not '%s'",
               o->digest_name[0] ? o->digest_name : "none",
               digest_name(it)[0] ? digest_name(it) : "none");
    else if (o->chunk_size < 1 || o->chunk_size > UINT32_MAX)
        hl_err(err, HAUL_E_RESUME, 0, "the saved chunk size is impossible");
    else
        return 0;
    return hl_err_hint(err, "Leave the option out, or start anew with "
                            "--resume never.");
}

static int load_object(struct hl_item *it, const struct hl_saved_object *o,
                       struct hl_error *err)
{
    int rc = check_plan(it, o, err);

    if (rc == 0)
        rc = check_identity(it, o->identity, err);
    if (rc)
        return rc;
    if (o->chunk_size > hl_pool_limit(it->t->e->pool)) {
        hl_err(err, HAUL_E_LIMIT, 0,
               "the interrupted copy has chunks of %" PRIu64
               " bytes, above the memory limit",
               o->chunk_size);
        return hl_err_hint(err, "Give --memory at least twice that.");
    }
    it->chunk_size = o->chunk_size;
    it->batch = o->batch;
    it->resume = true;
    it->append_at = identity_prefix(it, o->identity);
    if (hl_ranges_add(&it->acked, 0, it->append_at))
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    rc = hl_store_notes_load(it->t->store, it->t->saved.id, it->index,
                             load_note, it, err);
    if (rc)
        return hl_err(err, rc, 0, "%s", haul_err_text(rc));
    return load_chunks(it, o->durable_batch, err);
}

/* An interrupted copy is there and cannot be continued: begins anew, or fails
 * when the user will have nothing else. */
static int start_anew(struct hl_item *it, bool required, struct hl_error *err)
{
    const char *name = it->t->source_name;
    const char *then = required ? "the copy cannot be continued"
                                : "the copy starts from the beginning";
    struct hl_error why = {0};

    if (!can_seek(it))
        hl_err(&why, HAUL_E_RESUME, 0,
               "'%s' cannot be read from the middle any more: %s", name, then);
    else
        hl_err(&why, HAUL_E_RESUME, 0,
               "the server gives no strong validator for '%s': %s", name, then);
    if (required) {
        *err = why;
        return why.code;
    }
    hl_transfer_warn(it->t, &why);
    return 0;
}

/* Decides about what an earlier run left. */
static int load_found(struct hl_item *it, const struct hl_saved_object *o,
                      const char *mode, struct hl_error *err)
{
    if (o->token) {
        it->token = hl_strdup(o->token);
        if (!it->token)
            return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    if (strcmp(mode, "never") == 0 || !o->token)
        return 0;
    if (can_seek(it) && !it->identity.weak)
        return load_object(it, o, err);
    /* Of a stream nobody expects it. */
    if (o->acked_bytes == 0 || strcmp(o->identity, "stream") == 0)
        return 0;
    return start_anew(it, strcmp(mode, "require") == 0, err);
}

int hl_saved_load(struct hl_item *it, struct hl_error *err)
{
    struct hl_transfer *t = it->t;
    const char *mode = hl_opts_str(t->c.opts, HAUL_OPT_RESUME);
    struct hl_saved_object o = {0};
    bool found = false;
    int rc = choose_chunk_size(it, err);

    if (rc)
        return rc;
    if (t->store && t->found && !t->was_done)
        rc = hl_store_object_get(t->store, t->saved.id, it->index, &found, &o,
                                 err);
    if (rc)
        return rc;
    if (found)
        rc = load_found(it, &o, mode, err);
    hl_saved_object_fini(&o);
    if (rc == 0 && !it->resume && strcmp(mode, "require") == 0) {
        hl_err(err, HAUL_E_RESUME, 0, "no interrupted copy of '%s' is known",
               t->source_name);
        rc = hl_err_hint(err, "See haul jobs list; --resume append goes on "
                              "from the size of the target.");
    }
    return rc;
}

/* ---- Write -------------------------------------------------------------- */

int hl_saved_begin(struct hl_item *it, struct hl_error *err)
{
    struct hl_transfer *t = it->t;
    struct hl_saved_object o = {0};
    int rc;

    if (!t->store)
        return 0;
    rc = hl_transfer_create_saved(t, err);
    if (rc)
        return rc;
    o.size = it->size;
    o.chunk_size = it->chunk_size;
    o.identity = identity_text(it);
    o.digest_name = hl_strdup(digest_name(it));
    o.token = hl_strdup(it->token);
    if (!o.identity || !o.digest_name || (it->token && !o.token))
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else
        rc = hl_store_object_put(t->store, t->saved.id, it->index, &o, err);
    it->begun = it->begun || rc == 0;
    hl_saved_object_fini(&o);
    return rc;
}

int hl_saved_token(struct hl_item *it, const char *token, struct hl_error *err)
{
    char *copy = hl_strdup(token);

    if (token && !copy)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    hl_free_secret(it->token);
    it->token = copy;
    if (!is_saved(it))
        return 0;
    return hl_store_token_put(it->t->store, it->t->saved.id, it->index, token,
                              err);
}

int hl_saved_reset(struct hl_item *it, struct hl_error *err)
{
    hl_ranges_clear(&it->acked);
    hl_ranges_clear(&it->suspect);
    it->pending_count = 0;
    it->pending_bytes = 0;
    if (is_saved(it)) {
        if (it->append_at) {
            it->append_at = 0;
            if (hl_saved_begin(it, err))
                return err->code;
        }
        if (hl_store_chunks_clear(it->t->store, it->t->saved.id, it->index,
                                  err))
            return err->code;
    }
    return reset_notes(it, err);
}

int hl_saved_chunk(struct hl_item *it, const struct hl_slice *slice,
                   const uint8_t *digest)
{
    struct hl_saved_chunk *c;

    if (!is_saved(it) || !(it->layout.caps & HL_CAP_RESUME))
        return 0;
    if (it->pending_count == it->pending_room) {
        size_t room = it->pending_room ? it->pending_room * 2 : 64;

        c = hl_realloc(it->pending, room * sizeof(*c));
        if (!c)
            return HAUL_E_NOMEM;
        it->pending = c;
        it->pending_room = room;
    }
    c = &it->pending[it->pending_count++];
    memset(c, 0, sizeof(*c));
    c->index = slice->offset / it->chunk_size;
    c->len = slice->len;
    if (digest)
        memcpy(c->digest, digest, digest_size(it));
    if (it->pending_bytes == 0)
        it->pending_ns = hl_loop_now(it->t->e->loop);
    it->pending_bytes += slice->len;
    hl_saved_flush(it, false);
    return 0;
}

/* The bytes are safe, only the note of them is not: go on, say so once, and
 * keep the rows for the next try. */
static void flush_failed(struct hl_item *it, const struct hl_error *err)
{
    struct hl_error warning = *err;

    if (it->store_failed)
        return;
    it->store_failed = true;
    hl_err_hint(&warning, "The copy goes on; were it interrupted now, it "
                          "would repeat what could not be noted.");
    hl_transfer_warn(it->t, &warning);
}

void hl_saved_flush(struct hl_item *it, bool now)
{
    uint64_t t = hl_loop_now(it->t->e->loop);
    struct hl_error err = {0};

    if (!it->pending_count || !is_saved(it))
        return;
    if (!now && (t - it->saved_ns < HL_SAVE_PAUSE_NS ||
                 (it->pending_bytes < HL_SAVE_BYTES &&
                  t - it->pending_ns < HL_SAVE_NS)))
        return;
    it->saved_ns = t;
    if (hl_store_chunks_put(it->t->store, it->t->saved.id, it->index,
                            it->pending, it->pending_count, &it->batch, &err)) {
        flush_failed(it, &err);
        return;
    }
    it->store_failed = false;
    it->pending_count = 0;
    it->pending_bytes = 0;
    it->t->c.events->saved(it->t->c.user);
}

/* Rows that were not written yet. */
static void drop_pending(struct hl_item *it, const struct hl_ranges *chunks)
{
    size_t kept = 0;

    for (size_t i = 0; i < it->pending_count; i++) {
        uint64_t index = it->pending[i].index;

        if (!hl_ranges_contains(chunks, index, index + 1))
            it->pending[kept++] = it->pending[i];
    }
    it->pending_count = kept;
}

/* The chunks that hold bytes of r and are acknowledged: no others have rows. */
static int take_back(struct hl_item *it, struct hl_range r,
                     struct hl_ranges *chunks)
{
    uint64_t chunk = it->chunk_size, first, end;
    int rc;

    r.end = hl_min(r.end, it->size);
    if (r.begin >= r.end)
        return 0;
    first = r.begin / chunk;
    end = (r.end - 1) / chunk + 1;
    r.begin = first * chunk;
    r.end = end > it->size / chunk ? it->size : end * chunk;
    if (!hl_ranges_overlap(&it->acked, r.begin, r.end))
        return 0;
    rc = hl_ranges_add(chunks, first, end);
    if (rc == 0)
        rc = hl_ranges_remove(&it->acked, r.begin, r.end);
    return rc ? rc : hl_ranges_remove(&it->suspect, r.begin, r.end);
}

int hl_saved_lost(struct hl_item *it, const struct hl_ranges *gone,
                  struct hl_error *err)
{
    struct hl_ranges chunks;
    int rc = 0;

    hl_ranges_init(&chunks);
    for (size_t i = 0; i < gone->count && rc == 0; i++)
        rc = take_back(it, gone->r[i], &chunks);
    if (rc) {
        hl_err(err, rc, 0, "out of memory");
    } else if (chunks.count) {
        drop_pending(it, &chunks);
        if (is_saved(it))
            rc = hl_store_chunks_remove(it->t->store, it->t->saved.id,
                                        it->index, chunks.r, chunks.count, err);
    }
    hl_ranges_fini(&chunks);
    return rc;
}

void hl_saved_synced(struct hl_item *it)
{
    struct hl_error err = {0};

    if (is_saved(it) && hl_store_durable(it->t->store, it->t->saved.id,
                                         it->index, it->syncing_batch, &err))
        flush_failed(it, &err);
}

/* SFTP has whole seconds only (draft-ietf-secsh-filexfer-02, 5). */
bool hl_saved_fits(const struct hl_item *it, const struct hl_stat *st)
{
    const int64_t second = (int64_t)HL_NS_PER_S;

    return st->exists && st->size == it->size &&
           st->mtime_ns / second == it->identity.mtime_ns / second;
}

bool hl_saved_is_result(struct hl_item *it, const struct hl_stat *st)
{
    struct hl_saved_object o = {0};
    struct hl_error err = {0};
    bool found = false, same = false;

    if (!it->t->store || !it->t->was_done || !st->exists || !can_seek(it) ||
        it->identity.weak ||
        hl_store_object_get(it->t->store, it->t->saved.id, it->index, &found,
                            &o, &err) ||
        !found)
        return false;
    same = check_identity(it, o.identity, &err) == 0 && hl_saved_fits(it, st);
    if (same)
        it->append_at = identity_prefix(it, o.identity);
    hl_saved_object_fini(&o);
    return same;
}
