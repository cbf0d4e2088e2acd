/*
 * An item: one object of a transfer, from the first look at its source to its
 * commit. Private to engine/.
 *
 *   stat target ─► open source ─► identity ─► what was saved ─► open target
 *   ─► move (mover.h) ─► check what may have been lost ─► source unchanged?
 *   ─► commit
 *
 * Every step is asynchronous; a step that fails with an outage is repeated
 * with backoff. A target that lost what it had (HAUL_E_LOST) is closed and
 * opened again. item.c has the steps, item_resume.c what a target has,
 * item_tune.c how many streams there are, saved.c what goes to the state store.
 */
#ifndef HL_ITEM_H
#define HL_ITEM_H

#include <pthread.h>
#include <stdatomic.h>

#include "limit.h"
#include "mover.h"
#include "transfer.h"
#include "tune.h"

/* Sizes of DESIGN sections 4.10 and 7. */
#define HL_SAVE_BYTES (8u << 20)
#define HL_SAVE_NS HL_NS_PER_S
#define HL_SAVE_PAUSE_NS (50 * HL_NS_PER_MS)
#define HL_SYNC_BYTES (UINT64_C(1) << 30)

enum hl_item_step {
    HL_ITEM_NEW,
    HL_ITEM_OPENING,
    HL_ITEM_MOVING,
    HL_ITEM_CHECKING,
    HL_ITEM_COMMITTING,
    HL_ITEM_ENDING, /* after a failure: everything comes home */
    HL_ITEM_DONE,
    HL_ITEM_FAILED
};

/* How many streams one end gets. */
struct hl_item_tune {
    struct hl_tune tune;
    bool on, told; /* tune works; its number is the object's */
    uint32_t open; /* the most streams that were up since the last sample: some
                    * are between two requests */
    uint64_t at_ns, bytes; /* of the last sample */
    struct hl_flow flow;
};

/* What the target asked to keep about a part. */
struct hl_item_note {
    uint64_t part;
    char *text; /* may be a credential */
    bool of_this_open;
};

struct hl_item {
    struct hl_transfer *t;
    uint32_t index;
    enum hl_item_step step;
    struct hl_url source_url, target_url;
    struct hl_object *source, *target;
    bool source_open, target_open, target_existed;
    bool was_open;   /* the target was, once in this run */
    bool final_fits; /* the final name has the source's size and time */
    struct hl_identity identity;
    char head[2 * HL_DIGEST_MAX + 1], tail[2 * HL_DIGEST_MAX + 1];
    uint32_t source_caps;
    struct hl_layout layout, source_layout;
    uint64_t size, chunk_size;
    char id[17]; /* for temporary names */
    char *token;
    struct hl_item_note *notes; /* by part */
    size_t note_count, note_room;
    struct hl_note *given; /* the copy that open has */
    size_t given_bytes;
    bool in_folder; /* target_url got the source's name appended */
    bool resume, append;
    bool begun;           /* what the store has of it is of this run */
    uint64_t append_at;   /* bytes taken as they are, whole chunks */
    uint64_t append_tail; /* where the target ended: its tail is compared */

    /* The operation of the step under way. */
    union {
        struct hl_op op;
        struct hl_open open;
        struct hl_stat stat;
        struct hl_io io;
        struct hl_commit commit;
        struct hl_suspend suspend;
        struct hl_remote_digest remote;
    } u;
    void (*again)(struct hl_item *it); /* repeats the step */
    struct hl_timer timer;
    struct hl_retry retry;
    uint8_t *sample; /* bytes read for the identity */
    uint32_t sample_len;
    bool op_out;
    uint64_t op_since_ns;

    struct hl_mover *mover;
    enum { HL_MOVE_COPY, HL_MOVE_CHECK, HL_MOVE_DIGEST } moving;
    bool from_source; /* the mover reads the source, not the target */
    struct hl_mover_stats before; /* of movers that are through */
    struct hl_item_tune tunes[2]; /* by role */
    uint32_t runs;                /* of the source; 0: not known yet */
    uint32_t parts;               /* of the target at once; 0 as well */
    struct hl_retry lost_retry;
    uint64_t lost_most; /* bytes that were there when it lost them */
    uint64_t reopen_ns;

    /* Acknowledged chunks. */
    uint8_t *digests;
    uint64_t digest_count; /* room in digests, chunks */
    struct hl_ranges acked, suspect, bad;
    struct hl_ranges confirmed; /* by a target that TELLS, until they moved */
    struct hl_ranges earlier;   /* there when this run began, and still */
    struct hl_saved_chunk *pending;
    size_t pending_count, pending_room;
    uint64_t pending_bytes, pending_ns, saved_ns;
    uint64_t batch, unsynced_bytes;
    bool store_failed;            /* warned once */
    struct hl_op sync, aborts[2]; /* by role */
    bool syncing, commit_waits, commit_cut, committed, discarding;
    struct hl_error commit_error;
    uint32_t aborting;
    uint64_t syncing_batch;
    uint64_t resumed_bytes;

    bool remote_able; /* the target can tell its digest */
    bool remote_checked, readback_done;
    /* The digest that the source's server offers: its algorithm or NULL, what
     * the bytes really have, whether the two were compared. */
    const struct hl_digest *offered;
    bool has_offered, offered_checked;
    uint8_t offered_digest[HL_OFFERED_MAX];
    uint32_t check_rounds;
    uint32_t end_stage; /* of HL_ITEM_ENDING, see item_end.c */
    bool size_checked, durable, already_there, dry_run;
    bool has_whole;
    uint8_t whole[HL_DIGEST_MAX];
    uint64_t bad_chunks, bad_offset;

    int code;
    struct hl_error error;
};

/* ---- Steps, shared by the item_*.c files ------------------- */

/* Clears it->u and makes op (a member of it) ready; again repeats the step
 * after an outage. */
void hl_item_submit(struct hl_item *it, struct hl_op *op,
                    void (*done)(struct hl_op *op),
                    void (*again)(struct hl_item *it));
/* First thing in every done(): false when the step must not go on (it failed
 * and is repeated or ends the item). */
bool hl_item_home(struct hl_item *it, struct hl_op *op);
/* A step that cannot be repeated failed. */
void hl_item_fail(struct hl_item *it, const struct hl_error *err);
/* The opening is through: item.c takes over. */
void hl_item_move(struct hl_item *it);
void hl_item_open(struct hl_item *it); /* item_open.c */
void hl_item_open_target(struct hl_item *it);
void hl_item_commit(struct hl_item *it); /* item_commit.c */
const char *hl_item_verify_mode(const struct hl_item *it);
void hl_item_ending(struct hl_item *it); /* item_end.c */
void hl_item_sync(struct hl_item *it);
/* Would another run go on with what this one has reached? item_end.c */
bool hl_item_can_continue(const struct hl_item *it);
/* What is repeated where bytes of r turn out wrong: the parts that hold
 * them, since a target finishes parts as a whole. */
struct hl_range hl_item_whole_parts(const struct hl_item *it,
                                    struct hl_range r);
/* Events of the target while no mover has it. */
extern const struct hl_object_events hl_item_object_events;

/* Nothing is acknowledged before the end of the object. */
static inline bool hl_item_is_late(const struct hl_item *it)
{
    return (it->layout.caps & HL_CAP_LATE) && it->layout.parts.size == 0;
}

/* ---- item_resume.c ------------------------------------------------------ */

/* The target is open, resumed: asked to go on with something. Takes back what
 * it has not, from the ranges and from the store. */
int hl_item_reconcile(struct hl_item *it, bool resumed, struct hl_error *err);
/* What is there is known: counts it. HAUL_E_NOMEM. */
int hl_item_count_resumed(struct hl_item *it);
/* Open found nothing to go on with. Is that because an earlier run committed it
 * and did not live to hear so? Then _committed_before() ends the item. */
bool hl_item_was_committed(const struct hl_item *it);
void hl_item_committed_before(struct hl_item *it);
/* The target lost what it had: opens it again (and the source, if it is not
 * open), or fails. aborted: a mover has aborted the target. */
void hl_item_lost(struct hl_item *it, const struct hl_error *err, bool aborted);
/* Open came back with that: what the token names is gone. */
void hl_item_open_lost(struct hl_item *it, const struct hl_error *err);

/* ---- item_tune.c -------------------------------------------------------- */

/* Sets the number of streams (and runs, and parts), now and then, while a mover
 * is there. */
void hl_item_tune(struct hl_item *it, uint64_t now_ns);
/* A mover has come: it gets the present numbers. */
void hl_item_tune_mover(struct hl_item *it, uint64_t now_ns);

/* ---- item.c ------------------------------------------------------------- */
int hl_item_init(struct hl_item *it, struct hl_transfer *t, uint32_t index,
                 const struct hl_item_config *config, struct hl_error *err);
void hl_item_fini(struct hl_item *it);
void hl_item_start(struct hl_item *it);
/* First cause wins; ends with hl_transfer_item_finished(). */
void hl_item_stop(struct hl_item *it, int code, const struct hl_error *err);
void hl_item_tick(struct hl_item *it, uint64_t now_ns);
void hl_item_stats(const struct hl_item *it, struct hl_mover_stats *out);

/* saved.c: the item's side of the state store. Without a store they succeed
 * and do nothing. */
/* Decides how the item goes on: 0 and it->resume, it->chunk_size, acked,
 * suspect, digests, token, notes; or an error (HAUL_E_CHANGED, _RESUME,
 * _STORE). */
int hl_saved_load(struct hl_item *it, struct hl_error *err);
/* Writes plan and identity. */
int hl_saved_begin(struct hl_item *it, struct hl_error *err);
/* NULL: what it named is gone. */
int hl_saved_token(struct hl_item *it, const char *token, struct hl_error *err);
int hl_saved_note(struct hl_item *it, uint64_t part, const char *note,
                  struct hl_error *err);
/* A copy of the notes in it->given, which open may read while others come. */
int hl_saved_give_notes(struct hl_item *it);
void hl_saved_take_notes(struct hl_item *it);
/* Nothing of what was acknowledged is there any more, and no part that a note
 * from before this open is about. */
int hl_saved_reset(struct hl_item *it, struct hl_error *err);
int hl_saved_chunk(struct hl_item *it, const struct hl_slice *slice,
                   const uint8_t *digest);
void hl_saved_flush(struct hl_item *it, bool now);
/* The chunks that hold these bytes are not acknowledged (any more). A row that
 * stayed would be believed by the next run: an error. */
int hl_saved_lost(struct hl_item *it, const struct hl_ranges *gone,
                  struct hl_error *err);
void hl_saved_synced(struct hl_item *it);
/* Room for the digest of chunk index; NULL: out of memory. */
uint8_t *hl_saved_digest_slot(struct hl_item *it, uint64_t index);
/* Has the final name the size and the time of the source? */
bool hl_saved_fits(const struct hl_item *it, const struct hl_stat *st);
/* Does the target still stand as the finished transfer left it? */
bool hl_saved_is_result(struct hl_item *it, const struct hl_stat *st);

/* ---- transfer.c --------------------------------------------------------- */

struct hl_engine {
    struct hl_loop *loop;
    struct hl_pool *pool;
    struct hl_workers *workers;
    uint32_t worker_count;
    const struct hl_log *log;
    struct hl_random random;
    struct hl_list transfers; /* started, not finished */
    uint64_t memory;          /* as set; 0: haul decides */
    char *store_path;
    struct hl_store *store;
};

struct hl_transfer {
    struct hl_node node;
    struct hl_engine *e;
    struct hl_transfer_config c;
    char *key, *source_name, *target_name, *save_source, *save_target;
    struct hl_item *items;
    uint32_t next_item, running;
    struct hl_store *store; /* NULL: nothing is saved */
    struct hl_saved saved;
    bool found, locked, created;
    bool was_done; /* the store has it as finished */
    struct hl_rate rate;
    struct hl_meter meter;
    struct hl_retry_policy policy;
    uint64_t stall_ns, start_ns, end_ns;
    struct hl_timer timer;
    uint64_t metered, sampled_ns;
    struct hl_mover_stats sampled;
    struct hl_flow sampled_source, sampled_target;
    uint64_t sampled_cpu_ns;
    uint64_t limit_ns[HAUL_LIMIT_RATE + 1];
    uint32_t limit, peak_connections, peak_streams;
    bool started, ending, finished, posted;
    int code;
    struct hl_error error;
    struct hl_task task;
    bool late; /* the rate is that of sent bytes */
    atomic_bool cancel;
    _Atomic uint32_t state; /* enum haul_state */
    pthread_mutex_t lock;   /* snapshot */
    struct haul_stats snapshot;
};

/* Is there room for so many bytes of buffers? Without --memory there is made
 * some. */
bool hl_transfer_room(struct hl_transfer *t, uint64_t bytes);
/* The most there can be. */
uint64_t hl_transfer_room_max(const struct hl_transfer *t);
void hl_transfer_item_finished(struct hl_item *it);
void hl_transfer_set_state(struct hl_transfer *t, uint32_t state);
/* Makes the row in the store, if it is not there; HAUL_E_STORE, _BUSY. */
int hl_transfer_create_saved(struct hl_transfer *t, struct hl_error *err);
/* Drops what was saved: the next create makes a new row. */
int hl_transfer_forget_saved(struct hl_transfer *t, struct hl_error *err);
void hl_transfer_warn(struct hl_transfer *t, const struct hl_error *error);

#endif /* HL_ITEM_H */
