/*
 * Inside the file driver: what its parts share. Only io/file*.c include it.
 *
 *   file.c         slots, requests, opening sources
 *   file_target.c  opening, committing and leaving targets
 *   file_io.c      one read or write: by which way, and what came of it
 *   file_ring.c    the ring thread: reads and writes of regular files
 *   file_thread.c  a few threads for calls that block (open, fsync, rename),
 *                  and for reads and writes where io_uring is refused
 *   file_stream.c  one thread per pipe, device or "-"
 *
 * A request belongs to the queue or thread that has it. What several threads
 * touch is under the endpoint's lock; it is held for list work and for handing
 * answers to the loop, never while a file is touched.
 */
#ifndef HL_FILE_H
#define HL_FILE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "io.h"
#include "list.h"

#define HL_FILE_THREADS 4
/* O_DIRECT works with this everywhere (logical blocks are 512 or 4096). */
#define HL_FILE_ALIGN 4096u
/* What a run function returns when the request waits for something else. */
#define HL_FILE_WAITS 1

struct hl_file_ring;
struct hl_file_stream;

enum hl_file_kind {
    HL_FILE_OPEN,
    HL_FILE_READ,
    HL_FILE_WRITE,
    HL_FILE_STAT,
    HL_FILE_SYNC,
    HL_FILE_COMMIT,
    HL_FILE_SUSPEND,
    HL_FILE_DISCARD,
    HL_FILE_WRITEBACK, /* the driver's own, as the next */
    HL_FILE_CLOSE
};

struct hl_file_obj;

struct hl_file_req {
    struct hl_node node;
    struct hl_task task; /* where there are no threads */
    struct hl_file_obj *obj;
    struct hl_op *op; /* NULL: the driver's own */
    enum hl_file_kind kind;
    char *token; /* discard */
    /* Reads and writes: the step under way. */
    uint32_t size;   /* bytes asked for in it */
    uint32_t cached; /* bytes written through the page cache, of all steps */
    bool direct;     /* through direct_fd */
    bool drop;       /* nothing of it was cached before */
    bool again;      /* the ring was told EAGAIN: let a worker wait */
    bool saved;      /* open: the token is durable */
};

/* How residency is found out. */
enum hl_file_probe { HL_FILE_NO_PROBE, HL_FILE_CACHESTAT, HL_FILE_MINCORE };

struct hl_file_ep {
    struct hl_endpoint base;
    struct hl_file_ring *ring; /* fixed once ring_state says so */
    pthread_mutex_t lock;      /* of what follows */
    pthread_cond_t wake;       /* jobs came */
    pthread_cond_t ring_known;
    enum { HL_RING_NEW, HL_RING_STARTING, HL_RING_KNOWN } ring_state;
    struct hl_list jobs;  /* for the threads */
    struct hl_list spare; /* requests to use again */
    pthread_t threads[HL_FILE_THREADS];
    unsigned thread_count, threads_idle;
    bool on_loop; /* there are no threads: jobs run on the loop */
    bool stop;
};

/* Bytes written and not yet sent to the disk, as [lo, hi). */
struct hl_file_window {
    uint64_t lo, hi, bytes;
};

struct hl_file_obj {
    struct hl_object base;
    char *path;
    bool dash; /* scheme "-" */
    /* Set by open. */
    int fd, direct_fd;             /* -1 none */
    struct hl_file_stream *stream; /* pipe, device, "-": instead of fd */
    enum hl_file_probe probe;
    void *map; /* never touched: for mincore */
    size_t map_len;
    /* O_DIRECT was refused at run time; any thread. */
    atomic_bool direct_off;
    /* Target, set by open. */
    char *final, *folder, *temp; /* paths; temp NULL: in place */
    int flush_fd; /* for early writeback: its errors are not fd's */
    bool committed;
    /* Under the endpoint's lock. */
    unsigned ops;  /* of the engine's, not answered */
    unsigned refs; /* and of our own */
    bool aborted, closing;
    struct hl_op *abort_op;
    struct hl_file_req *open_wait; /* for token_saved() */
    struct hl_file_req close_req, writeback_req;
    bool writeback_busy;
    struct hl_file_window written;
    struct hl_file_window flushing; /* the writeback job's */
};

static inline struct hl_file_ep *hl_file_ep(const struct hl_file_obj *obj)
{
    return HL_CONTAINER(obj->base.endpoint, struct hl_file_ep, base);
}
static inline struct hl_io *hl_file_io(const struct hl_file_req *r)
{
    return HL_CONTAINER(r->op, struct hl_io, op);
}

/* ---- file.c ------------------------------------------------------------- */

/* Does what r wants; a thread of the pool. */
void hl_file_run(struct hl_file_req *r);
/* Answers r and gives it back. Any thread, lock not held. */
void hl_file_end(struct hl_file_req *r, int rc);
/* HAUL_E_FULL for ENOSPC and EDQUOT, else HAUL_E_WRITE; what: "write". */
int hl_file_write_error(struct hl_error *err, int sys_errno, const char *what,
                        const char *path);

/* ---- file_io.c ---------------------------------------------------------- */

/* How residency of fd can be asked; sets obj->probe. */
void hl_file_probe_init(struct hl_file_obj *obj, uint64_t size);
void hl_file_probe_fini(struct hl_file_obj *obj);
/* Chooses the next step of a read or write: size, direct, drop. */
void hl_file_plan(struct hl_file_req *r);
/* What the step brought (bytes or -errno). True: there is more to do, plan
 * again. False: the request is complete with *rc. */
bool hl_file_step(struct hl_file_req *r, int64_t res, int *rc);
/* A whole read or write with pread and pwrite. */
int hl_file_transfer(struct hl_file_req *r);

/* ---- file_thread.c ------------------------------------------------------ */

/* Lock held. Hands r to a thread; cannot fail. */
void hl_file_job_locked(struct hl_file_ep *ep, struct hl_file_req *r);
/* Runs what is queued, joins the threads. */
void hl_file_threads_stop(struct hl_file_ep *ep);

/* ---- file_ring.c -------------------------------------------------------- */

/* Starts the ring thread at the first call; ep->ring stays NULL when io_uring
 * is refused. A thread of the pool. */
void hl_file_ring_need(struct hl_file_ep *ep);
/* Lock held. */
void hl_file_ring_add_locked(struct hl_file_ring *ring, struct hl_file_req *r);
/* Lock held: moves the queued requests of obj to out. */
void hl_file_ring_take_locked(struct hl_file_ring *ring,
                              const struct hl_file_obj *obj,
                              struct hl_list *out);
void hl_file_ring_free(struct hl_file_ring *ring);
/* Moves those requests of obj in list that have an operation to out. */
void hl_file_take(struct hl_list *list, const struct hl_file_obj *obj,
                  struct hl_list *out);

/* ---- file_stream.c ------------------------------------------------------ */

/* Takes fd over (-1: a FIFO at path that is opened for writing with the first
 * write). Starts the thread. */
int hl_file_stream_new(struct hl_file_obj *obj, int fd, const char *path,
                       struct hl_error *err);
/* Lock held. */
void hl_file_stream_add_locked(struct hl_file_stream *s, struct hl_file_req *r);
/* Lock held: moves what is queued to out and interrupts what waits. */
void hl_file_stream_abort_locked(struct hl_file_stream *s, struct hl_list *out);
/* What fd is written to can be made durable: does it. */
int hl_file_stream_sync(struct hl_file_stream *s, bool *durable,
                        struct hl_error *err);
/* Joins the thread. Accepts NULL. */
void hl_file_stream_free(struct hl_file_stream *s);
/* The descriptor behind "-" as one of our own, without touching its flags. */
int hl_file_dash(enum hl_role role, struct hl_error *err);

/* ---- file_target.c ------------------------------------------------------ */

/* 0, an error, or HL_FILE_WAITS for the token. */
int hl_file_target_open(struct hl_file_req *r);
int hl_file_target_sync(struct hl_file_obj *obj, struct hl_error *err);
int hl_file_target_commit(struct hl_file_obj *obj, struct hl_commit *c);
int hl_file_target_suspend(struct hl_file_obj *obj, struct hl_suspend *s);
int hl_file_target_discard(struct hl_file_obj *obj, const char *token,
                           struct hl_error *err);
/* Lock held: bytes went to the page cache; starts the writeback job when it is
 * time. */
void hl_file_written_locked(struct hl_file_obj *obj, uint64_t offset,
                            uint64_t len);
void hl_file_writeback(struct hl_file_obj *obj);

#endif /* HL_FILE_H */
