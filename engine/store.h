/*
 * The state store: what must be known after a crash. Engine thread only;
 * calls block for as long as SQLite needs.
 *
 * A transfer is found again by its key (source and target as the user named
 * them, made canonical). Per object it has the plan, the identity of the
 * source, the driver's token and its notes of parts, and a row for each
 * acknowledged chunk with its digest; a chunk is acknowledged if and only if it
 * has a row. Rows carry the number of the batch that wrote them; the object's
 * durable batch says which rows are on stable storage at the target.
 *
 * The interface has one implementation (store_sqlite.c), which tests use with
 * ":memory:". See docs/formats/state-store.md for the tables.
 */
#ifndef HL_STORE_H
#define HL_STORE_H

#include "base.h"
#include "log.h"
#include "ranges.h"
#include "stage.h"

struct hl_store;

/*
 * path NULL: $XDG_STATE_HOME/haul/state.db, else ~/.local/state/haul/state.db;
 * folders are created 0700, the file 0600. Migrates older versions. HAUL_E_
 * STORE with a hint when it is damaged, read-only, newer than this library,
 * on a full disk, or locked by another program for more than ten seconds.
 */
int hl_store_open(const char *path, const struct hl_log *log,
                  struct hl_store **out, struct hl_error *err);
/* Checkpoints and closes; gives back locks. Accepts NULL. */
void hl_store_close(struct hl_store *s);

enum hl_saved_state { HL_SAVED_UNFINISHED = 0, HL_SAVED_DONE = 1 };

/* A transfer as saved. Strings belong to the struct. */
struct hl_saved {
    int64_t id;
    char *source, *target;         /* for people, secrets masked */
    char *source_url, *target_url; /* to open it again, no passwords */
    enum hl_saved_state state;
    char *error;  /* or NULL */
    char *digest; /* of the finished transfer, "xxh128:…", or NULL */
    int64_t created_s, updated_s;
};
void hl_saved_fini(struct hl_saved *t);

/* One object of a transfer as saved. */
struct hl_saved_object {
    uint64_t size; /* or HL_SIZE_UNKNOWN */
    uint64_t chunk_size;
    char *digest_name;      /* of the chunk digests; "" none */
    char *identity;         /* text made by the engine */
    char *token;            /* or NULL */
    char *result;           /* of a finished object: text made by the engine
                             * to recognise the target again; or NULL */
    uint64_t batch;         /* newest batch */
    uint64_t durable_batch; /* rows of batches <= this are durable */
    uint64_t acked_bytes;
};
void hl_saved_object_fini(struct hl_saved_object *o);

/* Finds the newest transfer with this key. *found false: none. Finish with
 * hl_saved_fini(). */
int hl_store_find(struct hl_store *s, const char *key, bool *found,
                  struct hl_saved *out, struct hl_error *err);
/* Makes a new one; source … target_url of t are used. Sets t->id. Durable. */
int hl_store_create(struct hl_store *s, const char *key, struct hl_saved *t,
                    struct hl_error *err);
/* Forgets transfer, objects and chunks. */
int hl_store_forget(struct hl_store *s, int64_t id, struct hl_error *err);
/* The last run ended with this error (NULL: none). */
int hl_store_set_error(struct hl_store *s, int64_t id, const char *message,
                       struct hl_error *err);
/* Marks the transfer done, drops its chunk rows, its token and its notes. Keeps
 * the newest thousand finished transfers. Durable. */
int hl_store_done(struct hl_store *s, int64_t id, const char *digest,
                  struct hl_error *err);

/* Only one process works on a transfer: HAUL_E_BUSY while another lives (a
 * lock that the kernel drops with the process). Two engines in one process
 * exclude each other as well. */
int hl_store_lock(struct hl_store *s, int64_t id, struct hl_error *err);
void hl_store_unlock(struct hl_store *s, int64_t id);
/* Is some process (or engine) at work on it? */
bool hl_store_locked(struct hl_store *s, int64_t id);

/* index: 0-based object of the transfer. put inserts or replaces everything
 * but batch numbers and acked_bytes; durable. */
int hl_store_object_put(struct hl_store *s, int64_t id, uint32_t index,
                        const struct hl_saved_object *o, struct hl_error *err);
int hl_store_object_get(struct hl_store *s, int64_t id, uint32_t index,
                        bool *found, struct hl_saved_object *out,
                        struct hl_error *err);
/* Durable before it returns (DESIGN 4.6). NULL: there is none any more. */
int hl_store_token_put(struct hl_store *s, int64_t id, uint32_t index,
                       const char *token, struct hl_error *err);
/* The target's note of a part, instead of an earlier one. Durable before it
 * returns. */
int hl_store_note_put(struct hl_store *s, int64_t id, uint32_t index,
                      uint64_t part, const char *note, struct hl_error *err);
/* Ascending; otherwise as hl_store_chunks_load(). */
typedef int hl_store_note_fn(void *user, uint64_t part, const char *note);
int hl_store_notes_load(struct hl_store *s, int64_t id, uint32_t index,
                        hl_store_note_fn *fn, void *user, struct hl_error *err);
/* Forgets the object's chunks and notes (it starts anew). */
int hl_store_chunks_clear(struct hl_store *s, int64_t id, uint32_t index,
                          struct hl_error *err);

/* An acknowledged chunk. */
struct hl_saved_chunk {
    uint64_t index; /* offset / chunk size */
    uint32_t len;   /* bytes; shorter than the chunk size at the end only */
    uint64_t batch; /* out of _load; ignored by _put */
    uint8_t digest[HL_DIGEST_MAX]; /* zero when there is none */
};
/* Adds rows in one transaction under a new batch number, which is returned in
 * *batch. Survives a crash of the process; the newest batches may be lost
 * with the machine's power, which is safe. */
int hl_store_chunks_put(struct hl_store *s, int64_t id, uint32_t index,
                        const struct hl_saved_chunk *chunks, size_t count,
                        uint64_t *batch, struct hl_error *err);
/* The chunks of these ranges (of indices, not of bytes) turned out not to be at
 * the target. All go, or none. */
int hl_store_chunks_remove(struct hl_store *s, int64_t id, uint32_t index,
                           const struct hl_range *chunks, size_t count,
                           struct hl_error *err);
/* Every batch <= batch is on stable storage at the target. */
int hl_store_durable(struct hl_store *s, int64_t id, uint32_t index,
                     uint64_t batch, struct hl_error *err);
/* Ascending; a nonzero result of fn ends it and is returned. fn may use the
 * store, but not call this same function again. */
typedef int hl_store_chunk_fn(void *user, const struct hl_saved_chunk *chunk);
int hl_store_chunks_load(struct hl_store *s, int64_t id, uint32_t index,
                         hl_store_chunk_fn *fn, void *user,
                         struct hl_error *err);

/* All transfers, oldest first; t is valid during the call. acked and size are
 * summed over the objects (HL_SIZE_UNKNOWN when one is, or there is none);
 * token is the first that an object has. fn as above. */
typedef int hl_store_transfer_fn(void *user, const struct hl_saved *t,
                                 uint64_t size, uint64_t acked,
                                 const char *token);
int hl_store_list(struct hl_store *s, hl_store_transfer_fn *fn, void *user,
                  struct hl_error *err);

/* The hosts and other facts that are found once: a small key-value table.
 * value NULL: it is forgotten. */
int hl_store_fact_put(struct hl_store *s, const char *key, const char *value,
                      struct hl_error *err);
/* *value NULL when unknown; caller frees (hl_free). */
int hl_store_fact_get(struct hl_store *s, const char *key, char **value,
                      struct hl_error *err);

#endif /* HL_STORE_H */
