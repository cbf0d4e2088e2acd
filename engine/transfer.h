/*
 * Engine and transfers, as lib/ uses them.
 *
 * A transfer has one or more items; an item is one object on its way from
 * source to target (item.h). Engine thread only, except where said.
 */
#ifndef HL_TRANSFER_H
#define HL_TRANSFER_H

#include "io.h"
#include "random.h"
#include "stage.h"
#include "store.h"
#include "workers.h"

struct hl_engine;
struct hl_transfer;

struct hl_engine_config {
    bool virtual_time;
    uint32_t workers;         /* threads; 0: inline (virtual time) */
    uint64_t seed;            /* of jitter and temporary names */
    const struct hl_log *log; /* lives longer than the engine */
};
int hl_engine_new(const struct hl_engine_config *config, struct hl_engine **out,
                  struct hl_error *err);
/* Every transfer must be freed. Accepts NULL. */
void hl_engine_free(struct hl_engine *e);

struct hl_loop *hl_engine_loop(struct hl_engine *e);
/* Hard limit in bytes; 0: haul decides (DESIGN 4.10). */
void hl_engine_set_memory(struct hl_engine *e, uint64_t bytes);
/* What libraries (receive windows, queues) may use of it. */
uint64_t hl_engine_library_bytes(const struct hl_engine *e);
/* Where the store is; opened when a transfer needs it. */
int hl_engine_set_store_path(struct hl_engine *e, const char *path);
int hl_engine_store(struct hl_engine *e, struct hl_store **out,
                    struct hl_error *err);
/* 1 while a started transfer is not finished, else 0. */
int hl_engine_step(struct hl_engine *e, int timeout_ms);

enum hl_transfer_kind {
    HL_TRANSFER_COPY,
    HL_TRANSFER_CHECK, /* source against digests; no target */
    HL_TRANSFER_REMOVE /* what an unfinished copy left at the target */
};

struct hl_transfer_events {
    void (*state)(void *user);
    void (*progress)(void *user); /* at most ten a second */
    void (*saved)(void *user);
    void (*retry)(void *user, const struct hl_error *error);
    void (*warning)(void *user, const struct hl_error *error);
    /* The end hook (manifest), when every object is committed. Its error is the
     * transfer's; the copy stays done in the store. */
    int (*end)(void *user, struct hl_error *err);
    /* Last call. */
    void (*finished)(void *user, int rc, const struct hl_error *error);
};

/* One object: URLs of both ends, on the transfer's endpoints. */
struct hl_item_config {
    struct hl_url source, target; /* copied */
};

struct hl_transfer_config {
    enum hl_transfer_kind kind;
    /* Owned by the transfer from here on, even when start fails; either may
     * be NULL where the kind has no such end. */
    struct hl_endpoint *source, *target;
    const struct hl_item_config *items;
    uint32_t item_count;
    const struct hl_opts *opts;       /* lives longer */
    const struct hl_digest *digest;   /* of chunks; NULL: none */
    const struct hl_digest *identity; /* of first and last chunk; not NULL */
    /* By name, for what remotes offer; NULL result: unknown. */
    const struct hl_digest *(*find_digest)(const char *name);
    const char *key; /* NULL: no state is kept */
    /* For the state store; masked, without passwords. */
    const char *source_name, *target_name, *source_url, *target_url;
    /* CHECK */
    uint64_t expect_size, expect_chunk_size;
    const uint8_t *expect; /* chunk digests; lives longer */
    /* REMOVE */
    int64_t remove_id;
    bool forget;
    const struct hl_transfer_events *events;
    void *user;
};

int hl_transfer_new(struct hl_engine *e,
                    const struct hl_transfer_config *config,
                    struct hl_transfer **out, struct hl_error *err);
void hl_transfer_start(struct hl_transfer *t);
/* Only before start or after finished(). Accepts NULL. */
void hl_transfer_free(struct hl_transfer *t);
/* Any thread, signal handlers. */
void hl_transfer_cancel(struct hl_transfer *t);
/* Any thread. Fills at most out->size bytes. */
void hl_transfer_stats(struct hl_transfer *t, struct haul_stats *out);

/* What an object became; valid from end() on. */
struct hl_item_result {
    uint64_t size, chunk_size;
    const uint8_t *digests;      /* one a chunk, or NULL: not all are known */
    const uint8_t *whole;        /* or NULL */
    const char *verified;        /* "none" "ack" "size" "remote" "readback" */
    const struct hl_url *target; /* the final name */
    bool durable, already_there, dry_run;
    uint64_t unverified_bytes;       /* of --resume append */
    uint64_t bad_chunks, bad_offset; /* CHECK: chunks that differ, first */
    const struct hl_answer *answer;  /* or NULL */
};
void hl_transfer_item_result(struct hl_transfer *t, uint32_t index,
                             struct hl_item_result *out);
/* Most connections and streams at once, limit over the whole run. */
void hl_transfer_peaks(struct hl_transfer *t, uint32_t *connections,
                       uint32_t *streams, uint32_t *limit);
/* Digest of a finished transfer that was found as done in the store. */
const char *hl_transfer_saved_digest(struct hl_transfer *t);

#endif /* HL_TRANSFER_H */
