/*
 * The contract between the engine and what reads and writes bytes. The engine
 * owns it, every file of io/ implements it, tests/contract runs one suite
 * against all of them.
 *
 * Threads: every slot of struct hl_driver is called on the engine thread and
 * returns at once. Work happens on threads of the driver's own (named in the
 * driver's file header) or, in virtual time (env->virtual_time), through tasks
 * and timers of env->loop.
 *
 * Operations are handed over. Between the call that takes an operation and
 * its done() the operation and the memory it points to belong to the driver.
 * Each comes back exactly once, on the engine thread, never from inside the
 * call that took it. Failure is op->rc with op->error; results are fields.
 *
 * Taken, acknowledged, lost. A write comes back when the driver needs its
 * buffer no more: taken, nothing else. For every byte of a write that came
 * back with rc 0 the driver later reports acked() or lost(), in ranges of any
 * size, and before it answers a sync, commit or abort that came after it. A
 * write that comes back with rc != 0 is not taken: none of its bytes is
 * reported as acked after that, and what was reported before stays true. When
 * an ordered part breaks, the driver first reports lost what it took and does
 * not have any more, then hands the part's writes back; the engine goes on at
 * the first byte that is neither acknowledged nor taken. A target that is LATE
 * acknowledges only what has been taken, and is told the end of a part
 * (part_end) with the part's last write, whatever the source; an empty object
 * has no write, only a commit.
 *
 * Bytes of a write that the target has already (it says so when it is asked
 * after a break) are acknowledged without being sent; the write says how many
 * (skipped). HAUL_E_LOST from any operation of a target, or with lost():
 * what it confirmed is not there any more. The engine then closes the object
 * and opens the target again with the saved token, as a new run would.
 *
 * A driver never retries and never decides how often: it reports, the engine
 * submits again (retry.h). A driver reconnects when it gets an operation and
 * has no connection.
 */
#ifndef HL_IO_H
#define HL_IO_H

#include <stdatomic.h>

#include "base.h"
#include "log.h"
#include "loop.h"
#include "opts.h"
#include "parts.h"
#include "pool.h"
#include "ranges.h"
#include "url.h"

struct hl_digest;
struct hl_driver;
struct hl_endpoint;
struct hl_object;

/* What every driver gets; lives longer than its endpoints. */
struct hl_env {
    struct hl_loop *loop;
    const struct hl_log *log;
    const struct hl_opts *opts;
    bool virtual_time;
    /* Largest sum of receive windows and queues that libraries may hold. */
    uint64_t library_bytes_max;
    /* The digest of that name (stage.h), static, or NULL. Any thread. */
    const struct hl_digest *(*digest)(const char *name);
    /* What was found out about a place and may be believed later ("speaks
     * tus"). Engine thread. fact: NULL when unknown; hl_free() it. keep_fact:
     * NULL forgets. */
    char *(*fact)(const struct hl_env *env, const char *key);
    void (*keep_fact)(const struct hl_env *env, const char *key,
                      const char *value);
    /* See haul_secret_fn; serialized, may block, not on the engine thread.
     * HAUL_E_AUTH when nobody can be asked. */
    int (*secret)(const struct hl_env *env, const char *what, int echo,
                  char *buf, size_t cap);
    /* Something the user should know ("host key of 'h' added"). Any
     * thread; the text is copied. */
    void (*warn)(const struct hl_env *env, const struct hl_error *warning);
    /* Driver of a scheme, or NULL; for drivers that wrap others. */
    const struct hl_driver *(*find)(const char *scheme);
    /* What was chosen and why ("'h' speaks tus 1.0.0"); for --verbose.
     * Engine thread; the text is copied. */
    void (*say)(const struct hl_env *env, const char *text);
    void *owner; /* of the functions above */
};

/* Base of every operation. */
struct hl_op {
    struct hl_task task; /* driver's, then the loop's */
    int rc;              /* 0 or enum haul_err */
    struct hl_error error;
    void (*done)(struct hl_op *op); /* set before submit; engine thread */
    void *user;                     /* of whoever submitted */
    struct hl_node node;            /* free for the driver's queues */
    void *driver_data;              /* free for the driver */
};

/* Hands op back: any thread, once. rc != 0 wants op->error set (hl_err on
 * &op->error), otherwise the table's text is used. */
void hl_op_finish(struct hl_loop *loop, struct hl_op *op, int rc);

/* ---- Objects ------------------------------------------------------------ */

enum hl_role { HL_ROLE_SOURCE, HL_ROLE_TARGET };

/* The first member of every driver's own struct. */
struct hl_endpoint {
    const struct hl_driver *driver;
    const struct hl_env *env;
};

/* What a target tells the engine, on the engine thread. */
struct hl_object_events {
    void (*acked)(void *user, uint64_t offset, uint64_t len);
    void (*lost)(void *user, uint64_t offset, uint64_t len,
                 const struct hl_error *error);
    /* Keep token durably, then call driver->token_saved(). */
    void (*token)(void *user, const char *token);
    /* Keep note durably as the target's note of this part, instead of an
     * earlier one, then call driver->note_saved(). */
    void (*note)(void *user, uint64_t part, const char *note);
};

/* A report on its way to the engine thread; io.c's own. */
struct hl_report {
    struct hl_task task;
    struct hl_object *obj;
    void *data; /* struct hl_error or token, or NULL */
    uint64_t offset, len;
    int what, code;
    atomic_bool used; /* of a spare one */
};

#define HL_OBJECT_SPARES 8

/* Zeroed by the driver (hl_malloc), then driver, endpoint and role set. */
struct hl_object {
    const struct hl_driver *driver;
    struct hl_endpoint *endpoint;
    enum hl_role role;
    /* Set by the engine before open. */
    const struct hl_object_events *events;
    void *events_user;
    /* io.c's own: reports for when memory is out. */
    struct hl_report spares[HL_OBJECT_SPARES];
    struct hl_report last;
};

/* For drivers, any thread: post what struct hl_object_events says, behind
 * everything that the calling thread has posted before. None is dropped: when
 * memory is out and the spares of the object are on their way too, reports
 * become one lost(0, UINT64_MAX) with HAUL_E_NOMEM, which nobody retries; a
 * token or note that cannot be kept becomes token_saved(HAUL_E_NOMEM) or
 * note_saved(HAUL_E_NOMEM). */
void hl_object_acked(struct hl_object *obj, uint64_t offset, uint64_t len);
void hl_object_lost(struct hl_object *obj, uint64_t offset, uint64_t len,
                    const struct hl_error *error);
void hl_object_token(struct hl_object *obj, const char *token);
void hl_object_note(struct hl_object *obj, uint64_t part, const char *note);

#define HL_OFFERED_MAX 64 /* bytes: SHA-512 */

/* What identifies the bytes of a source across runs. */
struct hl_identity {
    uint64_t size;          /* or HL_SIZE_UNKNOWN */
    int64_t mtime_ns;       /* 0 unknown */
    uint64_t device, inode; /* hints only; 0 unknown */
    uint32_t mode;          /* permission bits; 0 unknown */
    char validator[128];    /* strong validator of a remote source, or "" */
    /* Nothing here proves in a later run that the bytes are the same: an
     * interrupted copy starts again. */
    bool weak;
    /* What the remote says that the digest of the whole is: the name of an
     * algorithm ("sha256" "sha512" "md5" "crc32c") or "", and its value. */
    char offered[12];
    uint8_t offered_digest[HL_OFFERED_MAX];
};

enum hl_cap {
    HL_CAP_SEEK = 1 << 0,     /* reads at any offset, again and again */
    HL_CAP_ORDERED = 1 << 1,  /* operations must come in ascending order
                               * within a part; part_size 0 then means that
                               * the whole object is one part */
    HL_CAP_READBACK = 1 << 2, /* read() works on the target while it is
                               * written */
    HL_CAP_DURABLE = 1 << 3,  /* sync() and commit() reach stable storage */
    HL_CAP_RESUME = 1 << 4,   /* what is acknowledged outlives the process */
    HL_CAP_IN_PLACE = 1 << 5, /* written under its final name */
    HL_CAP_NULL = 1 << 6,     /* keeps nothing: no state is worth saving */
    HL_CAP_LATE = 1 << 7,     /* with ORDERED: nothing of a part is
                               * acknowledged before its last byte was taken
                               * (part_end); then all of it, or all of it is
                               * lost */
    HL_CAP_TELLS = 1 << 8,    /* open with resume says what is there
                               * (confirmed); nothing else is believed */
    HL_CAP_COMPARES = 1 << 9  /* commit may say that the target has compared
                               * every byte (compared) */
};

/* What a target asked to keep about a part. May be a credential. */
struct hl_note {
    uint64_t part;
    const char *text;
};

/* What open tells. */
struct hl_layout {
    struct hl_parts parts; /* sizes are multiples of the chunk size */
    uint32_t caps;         /* enum hl_cap */
    uint32_t streams_max;  /* 0: no such notion */
    /* source: 0, or it likes to read runs of consecutive chunks of at most so
     * many bytes, several runs at once (streams_max) */
    uint64_t run_max;
    uint64_t existing; /* target: bytes found where writing goes on (size of
                        * the temporary or in-place file); 0 when new */
    bool fresh;        /* target: resume was asked and nothing was found */
};

struct hl_open {
    struct hl_op op;
    /* in; valid until done */
    uint64_t size; /* target: size to come, or HL_SIZE_UNKNOWN */
    uint64_t chunk_size;
    const char *id;    /* target: unique, [0-9a-f], for temporary names */
    const char *name;  /* target: the source's, without folders; or NULL */
    const char *token; /* target: as saved by an earlier run, or NULL */
    bool resume;       /* target: go on with what token names */
    const struct hl_note *notes; /* target, resume: of earlier runs, by part */
    size_t note_count;
    /* target: so many bytes at most can be kept until they are acknowledged;
     * UINT64_MAX when the source can be read again */
    uint64_t hold_max;
    bool append;      /* target: go on with what stands under the final
                       * name, whoever began it; in place */
    bool no_clobber;  /* target: HAUL_E_EXISTS when the name is taken */
    bool in_order;    /* target: one ascending stream, in place */
    uint32_t mode;    /* target: permission bits to create with; 0 any */
    int64_t mtime_ns; /* target: the source's; 0 unknown */
    /* out */
    struct hl_identity identity; /* source */
    struct hl_layout layout;
    /* target that TELLS, resume: what it has, at any byte; the engine's, empty
     * before */
    struct hl_ranges *confirmed;
};

/* One chunk (or less) to read or write. */
struct hl_io {
    struct hl_op op;
    uint64_t offset;
    uint32_t len; /* bytes wanted; > 0 */
    uint8_t *data;
    struct hl_buf *buf; /* that holds data, or NULL */
    uint64_t part;      /* write: see cursor.h */
    bool part_end;
    uint64_t run_end; /* read: more reads will come that go on from this one
                       * without a gap up to here; at least its own end */
    /* out, read: bytes got. Less than len only at the end of the source, or
     * when the driver could not get more at once (the engine asks for the
     * rest; ordered sources fill up unless they end). 0 with eof set: the
     * end; a read behind the end of an ordered source gives that too, since
     * the engine asks ahead. */
    uint32_t done;
    bool eof;
    /* out, write: so many of its bytes the target had already */
    uint32_t skipped;
};

struct hl_stat {
    struct hl_op op;
    /* out; of the final name */
    bool exists, is_folder;
    uint64_t size;
    int64_t mtime_ns;
    uint32_t mode;
};

struct hl_commit {
    struct hl_op op;
    /* in */
    uint64_t size;    /* must be the size of the target */
    int64_t mtime_ns; /* 0: leave */
    uint32_t mode;    /* 0: leave */
    bool no_clobber;
    /* out */
    bool durable, size_checked;
    bool compared; /* the target's own checksum of every byte is that of what
                    * was sent */
};

struct hl_suspend {
    struct hl_op op;
    uint64_t contiguous; /* in: an in-place target is cut to this */
};

/* Digest of the whole target as the remote computes it: of the bytes that are
 * there, committed or not. */
struct hl_remote_digest {
    struct hl_op op;
    const char *algorithm; /* in: "xxh128", "sha256" */
    bool probe;            /* in: only find out whether it can be done */
    char hex[65];          /* out */
};

#define HL_ANSWER_MAX (1u << 20)

/* What the remote said to what was sent to it as a whole. */
struct hl_answer {
    int status; /* of the protocol; 0: none came */
    char *body; /* at most HL_ANSWER_MAX bytes and a NUL, or NULL */
    size_t body_len;
    char *location; /* where the server keeps it, when that is not the URL that
                     * was named; for the user, who may keep it to himself; or
                     * NULL */
};

/* A snapshot of where an endpoint's time went; everything cumulative but the
 * first four. */
struct hl_flow {
    uint32_t connections, streams; /* up now */
    uint32_t streams_limit;        /* the peer takes no more; 0 unknown */
    uint64_t rtt_ns;               /* 0 unknown */
    uint64_t wire_bytes; /* the kernel's acknowledged or received bytes */
    uint64_t starved_ns; /* connection time without anything to do */
    uint64_t window_ns;  /* … with data, but no stream had window */
    uint64_t link_ns;    /* … with data, but the socket took none or
                          * (downloads) brought none */
    uint64_t cpu_ns;     /* … working */
};

/* ---- Drivers ------------------------------------------------------------ */

/* A slot that is NULL gives HAUL_E_NOTSUP (hl_driver_* in io.c) unless its
 * comment says otherwise. */
struct hl_driver {
    const char *name;
    const char *const *schemes; /* NULL-terminated */

    /* No I/O: checks url and options. url is copied. */
    int (*endpoint_new)(const struct hl_env *env, const struct hl_url *url,
                        struct hl_endpoint **out, struct hl_error *err);
    /* All objects are closed. Joins threads; returns within a second. */
    void (*endpoint_free)(struct hl_endpoint *ep);

    /* No I/O. url has the same endpoint as ep. */
    int (*object_new)(struct hl_endpoint *ep, const struct hl_url *url,
                      enum hl_role role, struct hl_object **out,
                      struct hl_error *err);
    /* Cannot fail. Nothing is outstanding (after abort, or never opened). */
    void (*close)(struct hl_object *obj);

    /* Before open, or instead of it. A name that does not exist is no error.
     * NULL: it does not exist. */
    void (*stat)(struct hl_object *obj, struct hl_stat *op);
    void (*open)(struct hl_object *obj, struct hl_open *op);
    void (*read)(struct hl_object *obj, struct hl_io *op);
    void (*write)(struct hl_object *obj, struct hl_io *op);
    /* Everything acknowledged before this call is durable when it comes
     * back. Other operations go on meanwhile. */
    void (*sync)(struct hl_object *obj, struct hl_op *op);
    /* Durable, size checked, mode and mtime set, visible under its name. The
     * only place where success is claimed. Everything is acknowledged. */
    void (*commit)(struct hl_object *obj, struct hl_commit *op);
    /* An orderly stop: what stays can be resumed. Nothing outstanding.
     * NULL: nothing to do. */
    void (*suspend)(struct hl_object *obj, struct hl_suspend *op);
    /* Removes what an unfinished target left (what token names; open need not
     * have been called). Gone already is no error. */
    void (*discard)(struct hl_object *obj, const char *token, struct hl_op *op);
    void (*remote_digest)(struct hl_object *obj, struct hl_remote_digest *op);

    /* The token that the object asked to keep is durable (rc 0) or not; the
     * note of a part likewise (NULL: nobody waits for it). */
    void (*token_saved)(struct hl_object *obj, int rc);
    void (*note_saved)(struct hl_object *obj, uint64_t part, int rc);

    /* Every operation of the object comes back soon (HAUL_E_CANCELED unless
     * it was ready), then op; after that the object reports nothing more.
     * Connections stay for other objects. Never fails. Required. */
    void (*abort)(struct hl_object *obj, struct hl_op *op);
    /* Nothing has moved for the stall timeout: drop what may hang; every
     * operation of the object comes back soon with HAUL_E_STALLED, what was
     * taken and not acknowledged is reported lost. NULL: cannot hang. */
    void (*unstall)(struct hl_object *obj);

    /* How many streams the engine wants on this object. NULL: one. */
    void (*set_streams)(struct hl_object *obj, uint32_t streams);
    /* Valid until the object is closed; nothing is outstanding. NULL, or gives
     * NULL: none. */
    const struct hl_answer *(*answer)(struct hl_object *obj);
    /* NULL: all zero. */
    void (*flow)(struct hl_endpoint *ep, struct hl_flow *out);
};

/* Call the slot, or hand op back with HAUL_E_NOTSUP when it is NULL. */
void hl_driver_stat(struct hl_object *obj, struct hl_stat *op);
void hl_driver_open(struct hl_object *obj, struct hl_open *op);
void hl_driver_read(struct hl_object *obj, struct hl_io *op);
void hl_driver_write(struct hl_object *obj, struct hl_io *op);
void hl_driver_sync(struct hl_object *obj, struct hl_op *op);
void hl_driver_commit(struct hl_object *obj, struct hl_commit *op);
void hl_driver_suspend(struct hl_object *obj, struct hl_suspend *op);
void hl_driver_discard(struct hl_object *obj, const char *token,
                       struct hl_op *op);
void hl_driver_remote_digest(struct hl_object *obj,
                             struct hl_remote_digest *op);
void hl_driver_abort(struct hl_object *obj, struct hl_op *op);

#endif /* HL_IO_H */
