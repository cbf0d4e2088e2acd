/*
 * haul.h - move very large files between disks, SFTP and HTTP servers and S3,
 * several streams at once, so that an interrupted transfer continues and every
 * byte is checked.
 *
 * Life of a transfer
 *   haul_engine_new()       one per process is enough
 *   haul_transfer_new()     one per source -> target pair
 *   haul_transfer_set_*()   options; every one has a default
 *   haul_transfer_start()   returns at once
 *   haul_engine_run()       drives all transfers, calls back, returns when
 *                           none is left
 *   haul_transfer_result()  what happened
 *   haul_transfer_free(), haul_engine_free()
 *
 * Rules that hold for every function in this file
 *   - "int" results are 0 or a negative enum haul_err. Nothing is printed,
 *     thrown, or kept in thread-local state.
 *   - Sizes and offsets are bytes, times are what their name says.
 *   - Strings passed in are copied. Strings handed out belong to the handle
 *     and stay valid until the next call on that handle.
 *   - Every *_free() accepts NULL.
 *   - An engine and its transfers belong to one thread at a time, except
 *     haul_transfer_cancel() and haul_transfer_stats(), which any thread may
 *     call at any time. haul_transfer_cancel() may also be called from a
 *     signal handler.
 *   - The library starts threads of its own, with all signals blocked. It
 *     calls back on the thread that runs the engine, except haul_read_fn,
 *     haul_write_fn, haul_secret_fn and haul_log_fn, which say so.
 */
#ifndef HAUL_H
#define HAUL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HAUL_API __attribute__((visibility("default")))
#define HAUL_MUST_CHECK __attribute__((warn_unused_result))
#else
#define HAUL_API
#define HAUL_MUST_CHECK
#endif

#define HAUL_VERSION_MAJOR 0
#define HAUL_VERSION_MINOR 1
#define HAUL_VERSION_PATCH 0

/* Version of the library in use, as 0xMMmmpp. */
HAUL_API uint32_t haul_version(void);

/* Space-separated names of the drivers in this build, e.g. "file sftp". */
HAUL_API const char *haul_features(void);

/* ---- Errors ------------------------------------------------------------ */

enum haul_err {
    HAUL_OK = 0,
#define X(name, code, exit_status, retry, text) HAUL_E_##name = (code),
#include "haul_errors.def"
#undef X
};

/* "HAUL_E_STALLED" and "nothing moved within the stall timeout"; never NULL,
 * an unknown code gives "HAUL_E_UNKNOWN". Static strings. */
HAUL_API const char *haul_err_name(int err);
HAUL_API const char *haul_err_text(int err);

/* The exit status of the haul command for this error: 0 for HAUL_OK, 1 for an
 * unknown code. */
HAUL_API int haul_err_exit_status(int err);

/* What failed first. The caller sets .size = sizeof(struct haul_error); the
 * library fills no more than that many bytes. */
struct haul_error {
    uint32_t size;
    int32_t code;         /* enum haul_err */
    int32_t sys_errno;    /* 0 when there is none */
    int32_t proto_status; /* HTTP status or SFTP SSH_FX_*, 0 when none */
    uint32_t attempts;    /* how often the failing piece was tried */
    uint32_t retryable;   /* 1: running again may help */
    const char *message;  /* one line, lower case, no full stop */
    const char *detail;   /* or NULL; the failed call and its numbers */
    const char *hint;     /* or NULL; what the user can do, a sentence */
};

/* ---- Handles ----------------------------------------------------------- */

struct haul_engine;   /* threads, buffers, connections, the state store */
struct haul_transfer; /* one source -> target copy, or one verification */

/* HAUL_E_NOMEM is the only failure; files are touched at the first start. */
HAUL_API HAUL_MUST_CHECK int haul_engine_new(struct haul_engine **out);

/* Joins the threads. Every transfer must be freed before, which ends those
 * that still run as haul_transfer_cancel() does. */
HAUL_API void haul_engine_free(struct haul_engine *e);

/*
 * Source and target: a path, "-" (standard input or output),
 * "user@host:path", "sftp://user@host:port/path" (absolute),
 * "sftp://host/~/path" (below the login folder), "s3://bucket/key",
 * "https://host/path" (a target is asked whether uploads can continue there,
 * else it is one PUT), targets "tus+https://", "put+https://" (one PUT) and
 * "post+https://" (one POST), these four also with "http",
 * "mem:gen?size=4gi&seed=1" (generated source) and "mem:null" (a target that
 * digests and forgets).
 * NULL: the caller is that end, see haul_transfer_set_source_fn().
 * Nothing is opened yet; HAUL_E_INVAL when a name cannot be understood.
 */
HAUL_API HAUL_MUST_CHECK int haul_transfer_new(struct haul_engine *e,
                                               const char *source,
                                               const char *target,
                                               struct haul_transfer **out);

/* A transfer that reads TARGET again and compares it with a manifest. NULL
 * takes NAME.haul.json beside a local TARGET. HAUL_E_DIGEST when bytes
 * differ; the message names the first range. */
HAUL_API HAUL_MUST_CHECK int haul_verify_new(struct haul_engine *e,
                                             const char *target,
                                             const char *manifest,
                                             struct haul_transfer **out);

HAUL_API void haul_transfer_free(struct haul_transfer *t);

/* ---- Options ----------------------------------------------------------- */

enum haul_opt {
#define X(ID, id, ...) HAUL_OPT_##ID = (id),
#include "haul_options.def"
#undef X
};

enum haul_opt_type {
    HAUL_OPT_SIZE = 1,    /* bytes; as text with k m g t, ki mi gi ti */
    HAUL_OPT_COUNT = 2,   /* a number */
    HAUL_OPT_SECONDS = 3, /* a number of seconds */
    HAUL_OPT_FLAG = 4,    /* 0 or 1 */
    HAUL_OPT_WORD = 5,    /* one of the words in .argument */
    HAUL_OPT_TEXT = 6,
    HAUL_OPT_FILE = 7, /* a path */
    HAUL_OPT_LIST = 8  /* text; each setting adds a line */
};

enum haul_opt_scope { HAUL_OPT_ENGINE = 1, HAUL_OPT_TRANSFER = 2 };

/* Describes one option; the command, the man page, the shell completion and
 * language bindings are made from it. */
struct haul_opt_info {
    const char *name;      /* "chunk-size", also the command's --chunk-size */
    const char *argument;  /* "SIZE", "auto|never|…", NULL for a flag */
    const char *group;     /* "transfer" "speed" "patience" "SSH" "HTTP"
                            * "talk" */
    const char *help;      /* a few words */
    const char *dflt_text; /* default of a text option, or NULL */
    int64_t min, max;      /* of a number */
    int64_t dflt;          /* of a number; -1: haul decides */
    uint16_t id;           /* enum haul_opt */
    uint16_t type;         /* enum haul_opt_type */
    uint16_t scope;        /* enum haul_opt_scope */
};

/* Iterates: start with NULL, ends with NULL. */
HAUL_API const struct haul_opt_info *
haul_opt_next(const struct haul_opt_info *prev);

/*
 * Set an option by its number (enum haul_opt) before start. _str() accepts
 * every option as text ("64mi", "1"); _i64() numbers and flags only.
 * HAUL_E_INVAL: unknown, out of range, or of the other scope;
 * haul_engine_error() or haul_transfer_error() then say what is wrong.
 */
HAUL_API int haul_engine_set_i64(struct haul_engine *e, int opt, int64_t v);
HAUL_API int haul_engine_set_str(struct haul_engine *e, int opt, const char *v);
HAUL_API int haul_transfer_set_i64(struct haul_transfer *t, int opt, int64_t v);
HAUL_API int haul_transfer_set_str(struct haul_transfer *t, int opt,
                                   const char *v);

/*
 * Asked for a password, passphrase or one-time code each time one is needed:
 * writes a NUL-terminated secret of at most cap bytes to buf and returns 0, or
 * nonzero to refuse. "what" is a line to show ("password for joe@db1").
 * echo is 1 when the answer may be shown while it is typed. Runs on a thread
 * of the library, never two at once per engine, and may block. The library
 * wipes its copies and never logs them.
 */
typedef int haul_secret_fn(void *user, const char *what, int echo, char *buf,
                           size_t cap);
HAUL_API int haul_engine_set_secret_fn(struct haul_engine *e,
                                       haul_secret_fn *fn, void *user);

/*
 * The caller as source or target (name NULL in haul_transfer_new()). Called
 * on one thread of the library, one call at a time, which may block. Each
 * moves up to len bytes at offset and returns how many (0 at the end of the
 * source), or a negative enum haul_err. size is UINT64_MAX when the source
 * does not know it; such a source is read once, in ascending order, and
 * cannot be repeated. name identifies it for messages and resume; NULL: the
 * transfer cannot be resumed by another process.
 */
typedef int64_t haul_read_fn(void *user, void *buf, size_t len,
                             uint64_t offset);
typedef int64_t haul_write_fn(void *user, const void *buf, size_t len,
                              uint64_t offset);
HAUL_API int haul_transfer_set_source_fn(struct haul_transfer *t,
                                         const char *name, uint64_t size,
                                         haul_read_fn *fn, void *user);
HAUL_API int haul_transfer_set_target_fn(struct haul_transfer *t,
                                         const char *name, haul_write_fn *fn,
                                         void *user);

/* ---- Running ----------------------------------------------------------- */

enum haul_state {
    HAUL_STATE_NEW = 0,
    HAUL_STATE_OPENING = 1,
    HAUL_STATE_MOVING = 2,
    HAUL_STATE_CHECKING = 3, /* reading back what may have been lost */
    HAUL_STATE_COMMITTING = 4,
    HAUL_STATE_DONE = 5,
    HAUL_STATE_FAILED = 6
};

/* What holds the transfer back; haul_limit_name() gives the word. */
enum haul_limit {
    HAUL_LIMIT_NONE = 0,
    HAUL_LIMIT_SOURCE = 1,
    HAUL_LIMIT_CPU = 2,
    HAUL_LIMIT_MEMORY = 3,
    HAUL_LIMIT_WINDOW = 4,
    HAUL_LIMIT_CONNECTION = 5,
    HAUL_LIMIT_LINK = 6,
    HAUL_LIMIT_TARGET = 7,
    HAUL_LIMIT_RATE = 8
};
HAUL_API const char *haul_limit_name(int limit);

/* A snapshot. The caller sets .size. */
struct haul_stats {
    uint32_t size;
    uint32_t state;         /* enum haul_state */
    uint64_t bytes;         /* of the source; UINT64_MAX while unknown */
    uint64_t read_bytes;    /* read from the source in this run */
    uint64_t sent_bytes;    /* taken by the target driver in this run */
    uint64_t acked_bytes;   /* confirmed by the target, earlier runs too */
    uint64_t resumed_bytes; /* confirmed by earlier runs */
    uint64_t resent_bytes;  /* sent more than once in this run */
    uint64_t elapsed_ns;    /* since start */
    uint64_t rate;          /* acknowledged bytes per second, lately; sent
                             * ones where late is 1 */
    uint64_t rtt_ns;        /* round trip of the link, 0 unknown */
    uint64_t memory_bytes;  /* held in buffers */
    uint32_t limit;         /* enum haul_limit, lately */
    uint32_t connections;
    uint32_t streams;
    uint32_t retries;
    uint32_t late;      /* 1: the target confirms everything at its end only */
    uint32_t resumable; /* 1: interrupted now, the same copy would continue */
};

/* What a finished transfer did. The caller sets .size. */
struct haul_result {
    uint32_t size;
    int32_t code;         /* enum haul_err, HAUL_OK */
    const char *source;   /* as given, secrets masked */
    const char *target;   /* the final name, secrets masked */
    const char *digest;   /* "xxh128:HEX" of the whole, or "root:HEX" when
                           * it was not read in order in one run; NULL */
    const char *verified; /* "none" "ack" "size" "remote" "readback" */
    const char *note;     /* "already there, verified", or NULL */
    uint64_t bytes;       /* of the object */
    uint64_t acked_bytes;
    uint64_t resumed_from; /* acknowledged by earlier runs */
    uint64_t resent_bytes;
    uint64_t sent_bytes; /* in this run */
    uint64_t elapsed_ns;
    uint32_t connections, streams; /* the most at once */
    uint32_t limit;                /* enum haul_limit over the whole run */
    uint32_t durable;              /* 1: the target confirmed stable storage */
    int32_t answer_status;         /* HTTP status of the answer to an upload
                                    * that is answered as a whole; 0: none */
    const char *answer;            /* the body of that and a NUL, or NULL */
    uint64_t answer_bytes;         /* of it, at most 1 MiB */
    const char *answer_location;   /* where the server keeps what was uploaded,
                                    * when that is not the target's name: a URL
                                    * that may be a secret; or NULL */
};

enum haul_event_type {
    HAUL_EV_STATE = 1,
    HAUL_EV_PROGRESS = 2, /* at most ten a second */
    HAUL_EV_SAVED = 3,    /* acknowledged ranges are in the state store */
    HAUL_EV_RETRY = 4,    /* error: what failed and is tried again */
    HAUL_EV_WARNING = 5,  /* error: what the user should know */
    HAUL_EV_DONE = 6,     /* last event, always sent; error NULL: success */
    HAUL_EV_NOTE = 7      /* text: what was found out and chosen, and why */
};

struct haul_event {
    uint32_t size;
    uint32_t type; /* enum haul_event_type; ignore unknown ones */
    struct haul_transfer *transfer;
    const struct haul_stats *stats; /* always */
    const struct haul_error *error; /* RETRY, WARNING, DONE; or NULL */
    const char *text;               /* NOTE: a line, no secret; or NULL */
};

/* Runs inside haul_engine_run()/_step() on the caller's thread, never two at
 * once, never with a lock held. A nonzero result cancels the transfer. Only
 * haul_transfer_cancel() and haul_transfer_stats() may be called from it;
 * other calls return HAUL_E_REENTER. */
typedef int haul_event_fn(void *user, const struct haul_event *ev);
HAUL_API int haul_transfer_set_event_fn(struct haul_transfer *t,
                                        haul_event_fn *fn, void *user);

/* Returns at once; what goes wrong later is in haul_transfer_error(). */
HAUL_API int haul_transfer_start(struct haul_transfer *t);

/* Stops in order: what is acknowledged stays and is saved, the same transfer
 * made and started again continues. The transfer ends with HAUL_E_CANCELED,
 * unless everything was committed already. Before the start: it ends as soon
 * as it is started. */
HAUL_API void haul_transfer_cancel(struct haul_transfer *t);

/* Returns 0 when no started transfer is left, whatever became of them. */
HAUL_API int haul_engine_run(struct haul_engine *e);

/* For an existing event loop: poll this descriptor for reading, then call
 * haul_engine_step() with 0, which does not block. Returns 1 while a started
 * transfer is left, 0 when none is, or a negative error. timeout_ms -1 waits
 * for the next event. */
HAUL_API int haul_engine_fd(struct haul_engine *e);
HAUL_API int haul_engine_step(struct haul_engine *e, int timeout_ms);

HAUL_API int haul_transfer_stats(struct haul_transfer *t,
                                 struct haul_stats *stats);
HAUL_API int haul_transfer_result(struct haul_transfer *t,
                                  struct haul_result *result);

/* Fills the first cause of the failure; .code is HAUL_OK when there is none. */
HAUL_API int haul_transfer_error(struct haul_transfer *t,
                                 struct haul_error *error);
HAUL_API int haul_engine_error(struct haul_engine *e, struct haul_error *error);

/* ---- Logging ----------------------------------------------------------- */

enum haul_log { HAUL_LOG_WARN = 1, HAUL_LOG_INFO = 2, HAUL_LOG_TRACE = 3 };

/* May be called from any thread of the library, two at once. areas: "all",
 * "io,net", "all,-net"; NULL keeps the present set. Never holds a secret. */
typedef void haul_log_fn(void *user, int level, const char *area,
                         const char *line);
HAUL_API int haul_engine_set_log_fn(struct haul_engine *e, haul_log_fn *fn,
                                    void *user, int level, const char *areas);

#ifdef __cplusplus
}
#endif
#endif /* HAUL_H */
