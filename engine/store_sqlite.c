/*
 * The rows of the state store (store.h): transfers, objects, acknowledged
 * chunks, notes of parts, facts. Engine thread only.
 *
 * What must survive a power cut is written with synchronous FULL (each commit
 * is flushed), what may be lost with NORMAL: acknowledged chunks, the durable
 * mark, the last error and facts. Both go through one write-ahead log, so
 * that after a power cut there is always a prefix of what was committed. To
 * take a chunk away is FULL: a row that comes back would claim bytes that
 * are not at the target.
 */
#include "store_db.h"

#include <assert.h>
#include <string.h>
#include <time.h>

enum stmt_id {
    Q_FIND,
    Q_CREATE,
    Q_FORGET,
    Q_SET_ERROR,
    Q_TOUCH,
    Q_DONE,
    Q_DONE_OBJECTS,
    Q_DONE_CHUNKS,
    Q_DONE_NOTES,
    Q_DONE_PRUNE,
    Q_OBJECT_PUT,
    Q_OBJECT_GET,
    Q_TOKEN_PUT,
    Q_NOTE_PUT,
    Q_NOTES_LOAD,
    Q_CHUNKS_CLEAR,
    Q_NOTES_CLEAR,
    Q_OBJECT_CLEAR,
    Q_NEXT_BATCH,
    Q_CHUNK_PUT,
    Q_CHUNKS_REMOVE,
    Q_DURABLE,
    Q_CHUNKS_LOAD,
    Q_LIST,
    Q_FACT_PUT,
    Q_FACT_DROP,
    Q_FACT_GET,
    Q_COUNT
};
static_assert(Q_COUNT <= HL_STORE_STMT_MAX, "enlarge hl_store.stmt");

#define SAVED_COLUMNS                                                          \
    "id, source, target, source_url, target_url, state, error, digest, "       \
    "created, updated"

/* ?1 is the transfer, ?2 the object wherever a statement has them. */
static const char *const sql[Q_COUNT] = {
    [Q_FIND] = "SELECT " SAVED_COLUMNS " FROM transfers WHERE key = ?1"
               " ORDER BY id DESC LIMIT 1",
    [Q_CREATE] = "INSERT INTO transfers (key, source, target, source_url,"
                 " target_url, created, updated)"
                 " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
    [Q_FORGET] = "DELETE FROM transfers WHERE id = ?1",
    [Q_SET_ERROR] = "UPDATE transfers SET error = ?2, updated = ?3"
                    " WHERE id = ?1",
    [Q_TOUCH] = "UPDATE transfers SET updated = ?2 WHERE id = ?1",
    [Q_DONE] = "UPDATE transfers SET state = 1, error = NULL, digest = ?2,"
               " updated = ?3 WHERE id = ?1",
    [Q_DONE_OBJECTS] =
        "UPDATE objects SET token = NULL, acked = acked +"
        " (SELECT coalesce(sum(len), 0) FROM chunks c WHERE"
        " c.transfer = objects.transfer AND c.object = objects.object)"
        " WHERE transfer = ?1",
    [Q_DONE_CHUNKS] = "DELETE FROM chunks WHERE transfer = ?1",
    [Q_DONE_NOTES] = "DELETE FROM notes WHERE transfer = ?1",
    [Q_DONE_PRUNE] =
        "DELETE FROM transfers WHERE id IN (SELECT id FROM transfers"
        " WHERE state = 1 AND id <> ?1 ORDER BY updated DESC, id DESC"
        " LIMIT -1 OFFSET 999)",
    [Q_OBJECT_PUT] =
        "INSERT INTO objects (transfer, object, size, chunk_size,"
        " digest_name, identity, token, result)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        " ON CONFLICT DO UPDATE SET size = ?3, chunk_size = ?4,"
        " digest_name = ?5, identity = ?6, token = ?7, result = ?8",
    [Q_OBJECT_GET] =
        "SELECT size, chunk_size, digest_name, identity, token, result,"
        " batch, durable_batch, acked + (SELECT coalesce(sum(len), 0)"
        " FROM chunks WHERE transfer = ?1 AND object = ?2)"
        " FROM objects WHERE transfer = ?1 AND object = ?2",
    [Q_TOKEN_PUT] = "UPDATE objects SET token = ?3"
                    " WHERE transfer = ?1 AND object = ?2",
    [Q_NOTE_PUT] = "INSERT OR REPLACE INTO notes (transfer, object, part,"
                   " note) VALUES (?1, ?2, ?3, ?4)",
    [Q_NOTES_LOAD] = "SELECT part, note FROM notes"
                     " WHERE transfer = ?1 AND object = ?2 ORDER BY part",
    [Q_CHUNKS_CLEAR] = "DELETE FROM chunks"
                       " WHERE transfer = ?1 AND object = ?2",
    [Q_NOTES_CLEAR] = "DELETE FROM notes"
                      " WHERE transfer = ?1 AND object = ?2",
    [Q_OBJECT_CLEAR] = "UPDATE objects SET acked = 0"
                       " WHERE transfer = ?1 AND object = ?2",
    [Q_NEXT_BATCH] = "UPDATE objects SET batch = batch + 1"
                     " WHERE transfer = ?1 AND object = ?2 RETURNING batch",
    [Q_CHUNK_PUT] = "INSERT OR REPLACE INTO chunks (transfer, object, chunk,"
                    " len, batch, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [Q_CHUNKS_REMOVE] = "DELETE FROM chunks WHERE transfer = ?1 AND"
                        " object = ?2 AND chunk >= ?3 AND chunk < ?4",
    [Q_DURABLE] = "UPDATE objects SET"
                  " durable_batch = max(durable_batch, min(batch, ?3))"
                  " WHERE transfer = ?1 AND object = ?2",
    [Q_CHUNKS_LOAD] = "SELECT chunk, len, batch, digest FROM chunks"
                      " WHERE transfer = ?1 AND object = ?2 ORDER BY chunk",
    [Q_LIST] =
        "SELECT " SAVED_COLUMNS ","
        " (SELECT CASE WHEN count(*) > 0 AND count(*) = count(size)"
        " THEN sum(size) END FROM objects WHERE transfer = id),"
        " (SELECT coalesce(sum(acked), 0) FROM objects WHERE transfer = id)"
        " + (SELECT coalesce(sum(len), 0) FROM chunks WHERE transfer = id),"
        " (SELECT token FROM objects WHERE transfer = id"
        " AND token IS NOT NULL ORDER BY object LIMIT 1)"
        " FROM transfers ORDER BY id",
    [Q_FACT_PUT] = "INSERT OR REPLACE INTO facts (key, value)"
                   " VALUES (?1, ?2)",
    [Q_FACT_DROP] = "DELETE FROM facts WHERE key = ?1",
    [Q_FACT_GET] = "SELECT value FROM facts WHERE key = ?1",
};

/* ---- Statements --------------------------------------------------------- */

static int use(struct hl_store *s, enum stmt_id id, sqlite3_stmt **out,
               struct hl_error *err)
{
    *out = NULL;
    if (!s->stmt[id] &&
        sqlite3_prepare_v3(s->db, sql[id], -1, SQLITE_PREPARE_PERSISTENT,
                           &s->stmt[id], NULL) != SQLITE_OK)
        return hl_store_fail(s, sql[id], err);
    *out = s->stmt[id];
    return HAUL_OK;
}

/* A statement about a transfer (?1) and one of its objects (?2). */
static int use_object(struct hl_store *s, enum stmt_id which, int64_t id,
                      uint32_t index, sqlite3_stmt **out, struct hl_error *err)
{
    int rc = use(s, which, out, err);

    if (!rc) {
        sqlite3_bind_int64(*out, 1, id);
        sqlite3_bind_int64(*out, 2, index);
    }
    return rc;
}

/* The text must live until the statement is reset. */
static void bind_text(sqlite3_stmt *q, int at, const char *text)
{
    sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
}

/* Above INT64_MAX there is no file; a mark may say "everything". */
static void bind_u64(sqlite3_stmt *q, int at, uint64_t v)
{
    sqlite3_bind_int64(q, at, (int64_t)hl_min(v, INT64_MAX));
}

/* One step. *row says whether there is one; without a row, or on failure, the
 * statement is reset. */
static int step(struct hl_store *s, sqlite3_stmt *q, bool *row,
                struct hl_error *err)
{
    int rc = sqlite3_step(q);

    *row = rc == SQLITE_ROW;
    if (*row)
        return HAUL_OK;
    rc = rc == SQLITE_DONE ? HAUL_OK : hl_store_fail(s, sqlite3_sql(q), err);
    sqlite3_reset(q);
    return rc;
}

/* Runs a statement that gives no rows. */
static int run(struct hl_store *s, sqlite3_stmt *q, struct hl_error *err)
{
    bool row;

    return step(s, q, &row, err);
}

static int gone(int64_t id, struct hl_error *err)
{
    hl_err(err, HAUL_E_STORE, 0, "transfer %lld is not in the state store",
           (long long)id);
    hl_err_hint(err, "It was forgotten meanwhile. Start the copy "
                     "again.");
    return HAUL_E_STORE;
}

/* Like run(), for an UPDATE that must meet a row. */
static int run_update(struct hl_store *s, sqlite3_stmt *q, int64_t id,
                      struct hl_error *err)
{
    int rc = run(s, q, err);

    if (!rc && sqlite3_changes(s->db) == 0)
        rc = gone(id, err);
    return rc;
}

/* The transfer was worked on just now. */
static int touch(struct hl_store *s, int64_t id, struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use(s, Q_TOUCH, &q, err);

    if (rc)
        return rc;
    sqlite3_bind_int64(q, 1, id);
    sqlite3_bind_int64(q, 2, time(NULL));
    return run_update(s, q, id, err);
}

/* ---- Transactions ------------------------------------------------------- */

enum sync { SYNC_NORMAL, SYNC_FULL };

static int begin(struct hl_store *s, enum sync sync, struct hl_error *err)
{
    bool full = sync == SYNC_FULL;
    int rc = HAUL_OK;

    if (s->sync_full != full)
        rc = hl_store_exec(s,
                           full ? "PRAGMA synchronous = FULL"
                                : "PRAGMA synchronous = NORMAL",
                           err);
    if (rc)
        return rc;
    s->sync_full = full;
    /* Takes the write lock now: a COMMIT never waits for another process. */
    return hl_store_exec(s, "BEGIN IMMEDIATE", err);
}

/* Commits, or rolls back when rc says that something failed. */
static int end(struct hl_store *s, int rc, struct hl_error *err)
{
    if (!rc)
        rc = hl_store_exec(s, "COMMIT", err);
    if (rc && !sqlite3_get_autocommit(s->db))
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* ---- Rows to structs ---------------------------------------------------- */

void hl_saved_fini(struct hl_saved *t)
{
    hl_free(t->source);
    hl_free(t->target);
    hl_free(t->source_url);
    hl_free(t->target_url);
    hl_free(t->error);
    hl_free(t->digest);
    memset(t, 0, sizeof(*t));
}

void hl_saved_object_fini(struct hl_saved_object *o)
{
    hl_free(o->digest_name);
    hl_free(o->identity);
    hl_free_secret(o->token);
    hl_free(o->result);
    memset(o, 0, sizeof(*o));
}

/* *out becomes a copy, or NULL for NULL. */
static int copy_text(const struct hl_store *s, sqlite3_stmt *q, int col,
                     char **out, struct hl_error *err)
{
    const unsigned char *text;

    *out = NULL;
    if (sqlite3_column_type(q, col) == SQLITE_NULL)
        return HAUL_OK;
    text = sqlite3_column_text(q, col);
    if (!text)
        return hl_store_fail(s, "read text", err);
    *out = hl_strdup((const char *)text);
    return *out ? HAUL_OK : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
}

/* The columns SAVED_COLUMNS. On failure there is nothing to finish. */
static int read_saved(const struct hl_store *s, sqlite3_stmt *q,
                      struct hl_saved *t, struct hl_error *err)
{
    struct {
        int col;
        char **out;
        bool required;
    } texts[] = {
        {1, &t->source, true},     {2, &t->target, true},
        {3, &t->source_url, true}, {4, &t->target_url, true},
        {6, &t->error, false},     {7, &t->digest, false},
    };
    int rc = HAUL_OK;

    memset(t, 0, sizeof(*t));
    t->id = sqlite3_column_int64(q, 0);
    t->state = sqlite3_column_int(q, 5) == HL_SAVED_DONE ? HL_SAVED_DONE
                                                         : HL_SAVED_UNFINISHED;
    t->created_s = sqlite3_column_int64(q, 8);
    t->updated_s = sqlite3_column_int64(q, 9);
    for (size_t i = 0; !rc && i < HL_LEN(texts); i++) {
        rc = copy_text(s, q, texts[i].col, texts[i].out, err);
        if (!rc && texts[i].required && !*texts[i].out)
            rc = hl_store_damaged(s, "a transfer without a name", err);
    }
    if (rc)
        hl_saved_fini(t);
    return rc;
}

static int read_object(const struct hl_store *s, sqlite3_stmt *q,
                       struct hl_saved_object *o, struct hl_error *err)
{
    const int64_t numbers[] = {
        sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1),
        sqlite3_column_int64(q, 6), sqlite3_column_int64(q, 7),
        sqlite3_column_int64(q, 8),
    };
    int rc;

    memset(o, 0, sizeof(*o));
    for (size_t i = 0; i < HL_LEN(numbers); i++)
        if (numbers[i] < 0)
            return hl_store_damaged(s, "a negative number of an object", err);
    o->size = sqlite3_column_type(q, 0) == SQLITE_NULL ? HL_SIZE_UNKNOWN
                                                       : (uint64_t)numbers[0];
    o->chunk_size = (uint64_t)numbers[1];
    o->batch = (uint64_t)numbers[2];
    o->durable_batch = (uint64_t)numbers[3];
    o->acked_bytes = (uint64_t)numbers[4];
    rc = copy_text(s, q, 2, &o->digest_name, err);
    if (!rc)
        rc = copy_text(s, q, 3, &o->identity, err);
    if (!rc)
        rc = copy_text(s, q, 4, &o->token, err);
    if (!rc)
        rc = copy_text(s, q, 5, &o->result, err);
    if (!rc && (!o->digest_name || !o->identity))
        rc = hl_store_damaged(s, "an object without its identity", err);
    if (rc)
        hl_saved_object_fini(o);
    return rc;
}

/* ---- Transfers ---------------------------------------------------------- */

int hl_store_find(struct hl_store *s, const char *key, bool *found,
                  struct hl_saved *out, struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use(s, Q_FIND, &q, err);

    *found = false;
    if (rc)
        return rc;
    bind_text(q, 1, key);
    rc = step(s, q, found, err);
    if (rc || !*found)
        return rc;
    rc = read_saved(s, q, out, err);
    sqlite3_reset(q);
    *found = !rc;
    return rc;
}

int hl_store_create(struct hl_store *s, const char *key, struct hl_saved *t,
                    struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use(s, Q_CREATE, &q, err);

    if (!rc)
        rc = begin(s, SYNC_FULL, err);
    if (rc)
        return rc;
    bind_text(q, 1, key);
    bind_text(q, 2, t->source);
    bind_text(q, 3, t->target);
    bind_text(q, 4, t->source_url);
    bind_text(q, 5, t->target_url);
    sqlite3_bind_int64(q, 6, time(NULL));
    rc = run(s, q, err);
    if (!rc)
        t->id = sqlite3_last_insert_rowid(s->db);
    return end(s, rc, err);
}

int hl_store_forget(struct hl_store *s, int64_t id, struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use(s, Q_FORGET, &q, err);

    if (!rc)
        rc = begin(s, SYNC_FULL, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(q, 1, id);
    return end(s, run(s, q, err), err);
}

int hl_store_set_error(struct hl_store *s, int64_t id, const char *message,
                       struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use(s, Q_SET_ERROR, &q, err);

    if (!rc)
        rc = begin(s, SYNC_NORMAL, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(q, 1, id);
    bind_text(q, 2, message);
    sqlite3_bind_int64(q, 3, time(NULL));
    return end(s, run_update(s, q, id, err), err);
}

static int mark_done(struct hl_store *s, int64_t id, const char *digest,
                     struct hl_error *err)
{
    static const enum stmt_id rest[] = {Q_DONE_OBJECTS, Q_DONE_CHUNKS,
                                        Q_DONE_NOTES, Q_DONE_PRUNE};
    sqlite3_stmt *q;
    int rc = use(s, Q_DONE, &q, err);

    if (rc)
        return rc;
    sqlite3_bind_int64(q, 1, id);
    bind_text(q, 2, digest);
    sqlite3_bind_int64(q, 3, time(NULL));
    rc = run_update(s, q, id, err);
    for (size_t i = 0; !rc && i < HL_LEN(rest); i++) {
        rc = use(s, rest[i], &q, err);
        if (!rc) {
            sqlite3_bind_int64(q, 1, id);
            rc = run(s, q, err);
        }
    }
    return rc;
}

int hl_store_done(struct hl_store *s, int64_t id, const char *digest,
                  struct hl_error *err)
{
    int rc = begin(s, SYNC_FULL, err);

    return rc ? rc : end(s, mark_done(s, id, digest, err), err);
}

int hl_store_list(struct hl_store *s, hl_store_transfer_fn *fn, void *user,
                  struct hl_error *err)
{
    struct hl_saved t;
    sqlite3_stmt *q;
    bool row;
    int rc = use(s, Q_LIST, &q, err);

    if (rc)
        return rc;
    while ((rc = step(s, q, &row, err)) == HAUL_OK && row) {
        rc = read_saved(s, q, &t, err);
        if (!rc) {
            uint64_t size = sqlite3_column_type(q, 10) == SQLITE_NULL
                                ? HL_SIZE_UNKNOWN
                                : (uint64_t)sqlite3_column_int64(q, 10);

            rc = fn(user, &t, size, (uint64_t)sqlite3_column_int64(q, 11),
                    (const char *)sqlite3_column_text(q, 12));
            hl_saved_fini(&t);
        }
        if (rc)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

/* ---- Objects ------------------------------------------------------------ */

int hl_store_object_put(struct hl_store *s, int64_t id, uint32_t index,
                        const struct hl_saved_object *o, struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use_object(s, Q_OBJECT_PUT, id, index, &q, err);

    if (!rc)
        rc = begin(s, SYNC_FULL, err);
    if (rc)
        return rc;
    if (o->size == HL_SIZE_UNKNOWN)
        sqlite3_bind_null(q, 3);
    else
        bind_u64(q, 3, o->size);
    bind_u64(q, 4, o->chunk_size);
    bind_text(q, 5, o->digest_name);
    bind_text(q, 6, o->identity);
    bind_text(q, 7, o->token);
    bind_text(q, 8, o->result);
    rc = touch(s, id, err);
    if (!rc)
        rc = run(s, q, err);
    return end(s, rc, err);
}

int hl_store_object_get(struct hl_store *s, int64_t id, uint32_t index,
                        bool *found, struct hl_saved_object *out,
                        struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use_object(s, Q_OBJECT_GET, id, index, &q, err);

    *found = false;
    if (!rc)
        rc = step(s, q, found, err);
    if (rc || !*found)
        return rc;
    rc = read_object(s, q, out, err);
    sqlite3_reset(q);
    *found = !rc;
    return rc;
}

int hl_store_token_put(struct hl_store *s, int64_t id, uint32_t index,
                       const char *token, struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use_object(s, Q_TOKEN_PUT, id, index, &q, err);

    if (!rc)
        rc = begin(s, SYNC_FULL, err);
    if (rc)
        return rc;
    bind_text(q, 3, token);
    return end(s, run_update(s, q, id, err), err);
}

/* ---- Notes -------------------------------------------------------------- */

int hl_store_note_put(struct hl_store *s, int64_t id, uint32_t index,
                      uint64_t part, const char *note, struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use_object(s, Q_NOTE_PUT, id, index, &q, err);

    if (!rc)
        rc = begin(s, SYNC_FULL, err);
    if (rc)
        return rc;
    bind_u64(q, 3, part);
    bind_text(q, 4, note);
    /* Says so when the transfer was forgotten. */
    rc = touch(s, id, err);
    if (!rc)
        rc = run(s, q, err);
    return end(s, rc, err);
}

int hl_store_notes_load(struct hl_store *s, int64_t id, uint32_t index,
                        hl_store_note_fn *fn, void *user, struct hl_error *err)
{
    sqlite3_stmt *q;
    bool row;
    int rc = use_object(s, Q_NOTES_LOAD, id, index, &q, err);

    if (rc)
        return rc;
    while ((rc = step(s, q, &row, err)) == HAUL_OK && row) {
        int64_t part = sqlite3_column_int64(q, 0);
        const char *note = (const char *)sqlite3_column_text(q, 1);

        if (part < 0 || !note)
            rc = hl_store_damaged(s, "a note that cannot be", err);
        else
            rc = fn(user, (uint64_t)part, note);
        if (rc)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

/* ---- Chunks ------------------------------------------------------------- */

int hl_store_chunks_clear(struct hl_store *s, int64_t id, uint32_t index,
                          struct hl_error *err)
{
    static const enum stmt_id all[] = {Q_CHUNKS_CLEAR, Q_NOTES_CLEAR,
                                       Q_OBJECT_CLEAR};
    int rc = begin(s, SYNC_FULL, err);

    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < HL_LEN(all); i++) {
        sqlite3_stmt *q;

        rc = use_object(s, all[i], id, index, &q, err);
        if (!rc)
            rc = run(s, q, err);
    }
    return end(s, rc, err);
}

/* 0, 16 or 32 bytes: a digest as it is, without the zeros that fill it up. */
static int digest_size(const uint8_t digest[HL_DIGEST_MAX])
{
    static const uint8_t zero[HL_DIGEST_MAX];

    if (memcmp(digest + 16, zero, 16) != 0)
        return 32;
    return memcmp(digest, zero, 16) != 0 ? 16 : 0;
}

static int next_batch(struct hl_store *s, int64_t id, uint32_t index,
                      uint64_t *batch, struct hl_error *err)
{
    sqlite3_stmt *q;
    bool row = false;
    int rc = use_object(s, Q_NEXT_BATCH, id, index, &q, err);

    if (!rc)
        rc = step(s, q, &row, err);
    if (rc)
        return rc;
    if (!row)
        return gone(id, err);
    *batch = (uint64_t)sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return touch(s, id, err);
}

static int add_chunks(struct hl_store *s, int64_t id, uint32_t index,
                      const struct hl_saved_chunk *chunks, size_t count,
                      uint64_t batch, struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use_object(s, Q_CHUNK_PUT, id, index, &q, err);

    for (size_t i = 0; !rc && i < count; i++) {
        const struct hl_saved_chunk *c = &chunks[i];

        bind_u64(q, 3, c->index);
        sqlite3_bind_int64(q, 4, c->len);
        bind_u64(q, 5, batch);
        sqlite3_bind_blob(q, 6, c->digest, digest_size(c->digest),
                          SQLITE_STATIC);
        rc = run(s, q, err);
    }
    return rc;
}

int hl_store_chunks_put(struct hl_store *s, int64_t id, uint32_t index,
                        const struct hl_saved_chunk *chunks, size_t count,
                        uint64_t *batch, struct hl_error *err)
{
    uint64_t number = 0;
    int rc = begin(s, SYNC_NORMAL, err);

    if (rc)
        return rc;
    rc = next_batch(s, id, index, &number, err);
    if (!rc)
        rc = add_chunks(s, id, index, chunks, count, number, err);
    rc = end(s, rc, err);
    if (!rc)
        *batch = number;
    return rc;
}

int hl_store_chunks_remove(struct hl_store *s, int64_t id, uint32_t index,
                           const struct hl_range *chunks, size_t count,
                           struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use_object(s, Q_CHUNKS_REMOVE, id, index, &q, err);

    if (!rc)
        rc = begin(s, SYNC_FULL, err);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < count; i++) {
        bind_u64(q, 3, chunks[i].begin);
        bind_u64(q, 4, chunks[i].end);
        rc = run(s, q, err);
    }
    return end(s, rc, err);
}

int hl_store_durable(struct hl_store *s, int64_t id, uint32_t index,
                     uint64_t batch, struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use_object(s, Q_DURABLE, id, index, &q, err);

    if (!rc)
        rc = begin(s, SYNC_NORMAL, err);
    if (rc)
        return rc;
    bind_u64(q, 3, batch);
    return end(s, run_update(s, q, id, err), err);
}

static int read_chunk(const struct hl_store *s, sqlite3_stmt *q,
                      struct hl_saved_chunk *c, struct hl_error *err)
{
    int64_t index = sqlite3_column_int64(q, 0);
    int64_t len = sqlite3_column_int64(q, 1);
    int64_t batch = sqlite3_column_int64(q, 2);
    const void *digest = sqlite3_column_blob(q, 3);
    int size = sqlite3_column_bytes(q, 3);

    if (index < 0 || len < 0 || len > UINT32_MAX || batch < 0 ||
        size > HL_DIGEST_MAX)
        return hl_store_damaged(s, "a chunk that cannot be", err);
    memset(c, 0, sizeof(*c));
    c->index = (uint64_t)index;
    c->len = (uint32_t)len;
    c->batch = (uint64_t)batch;
    if (digest && size > 0)
        memcpy(c->digest, digest, (size_t)size);
    return HAUL_OK;
}

int hl_store_chunks_load(struct hl_store *s, int64_t id, uint32_t index,
                         hl_store_chunk_fn *fn, void *user,
                         struct hl_error *err)
{
    struct hl_saved_chunk c;
    sqlite3_stmt *q;
    bool row;
    int rc = use_object(s, Q_CHUNKS_LOAD, id, index, &q, err);

    if (rc)
        return rc;
    while ((rc = step(s, q, &row, err)) == HAUL_OK && row) {
        rc = read_chunk(s, q, &c, err);
        if (!rc)
            rc = fn(user, &c);
        if (rc)
            break;
    }
    sqlite3_reset(q);
    return rc;
}

/* ---- Facts -------------------------------------------------------------- */

int hl_store_fact_put(struct hl_store *s, const char *key, const char *value,
                      struct hl_error *err)
{
    sqlite3_stmt *q;
    int rc = use(s, value ? Q_FACT_PUT : Q_FACT_DROP, &q, err);

    if (!rc)
        rc = begin(s, SYNC_NORMAL, err);
    if (rc)
        return rc;
    bind_text(q, 1, key);
    if (value)
        bind_text(q, 2, value);
    return end(s, run(s, q, err), err);
}

int hl_store_fact_get(struct hl_store *s, const char *key, char **value,
                      struct hl_error *err)
{
    sqlite3_stmt *q;
    bool row;
    int rc = use(s, Q_FACT_GET, &q, err);

    *value = NULL;
    if (rc)
        return rc;
    bind_text(q, 1, key);
    rc = step(s, q, &row, err);
    if (rc || !row)
        return rc;
    rc = copy_text(s, q, 0, value, err);
    sqlite3_reset(q);
    return rc;
}
