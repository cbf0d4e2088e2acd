/*
 * Inside of the SFTP driver; nobody else includes this.
 *
 *   sftp.c         slots, endpoint, objects          engine thread
 *   sftp_conn.c    one SSH connection: its loop      one thread each
 *   sftp_stream.c  one channel: requests, replies    its connection's thread
 *   sftp_send.c    what a channel sends              its connection's thread
 *   sftp_files.c   handles, jobs, stat, discard      its connection's thread
 *   sftp_open.c    the job that opens                its connection's thread
 *   sftp_commit.c  sync, commit, suspend, digest     its connection's thread
 *
 * The engine thread puts jobs and reads and writes into queues of the
 * endpoint; connection threads take them out when one of their streams has
 * room. What is taken belongs to that connection until it is handed back. One
 * mutex an endpoint guards what is marked "lock"; it is never held across a
 * call of libssh or a system call other than waking somebody.
 *
 * A libssh session is touched by its connection's thread only. Callbacks of
 * libssh run inside any of its calls: they work on requests and jobs and
 * append to a stream's queue, but never call libssh.
 */
#ifndef HL_SFTP_H
#define HL_SFTP_H

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <pthread.h>
#include <stdatomic.h>

#include "io.h"
#include "sftp_packet.h"
#include "ssh_session.h"

#define HL_SFTP_CONNS_MAX 64
#define HL_SFTP_STREAMS_MAX 64 /* of a connection */
#define HL_SFTP_REQS_MAX 16384 /* outstanding on a stream */
#define HL_SFTP_PATH_MAX 4096
/* An object is spread over streams when it is larger than this. */
#define HL_SFTP_WIDE (UINT64_C(8) << 20)

/* ---- Objects ------------------------------------------------------------ */

enum hl_sftp_drain {
    HL_DRAIN_NONE,
    HL_DRAIN_CLOSE, /* every stream closes its handle and says how it went */
    HL_DRAIN_ABORT  /* every stream forgets the object */
};
enum hl_sftp_token {
    HL_TOKEN_NONE,
    HL_TOKEN_ASKED,
    HL_TOKEN_SAVED,
    HL_TOKEN_FAILED
};

struct hl_sftp_obj {
    struct hl_object base;
    struct hl_sftp_ep *ep;
    char *path;       /* the name that the user gave; fixed */
    atomic_uint refs; /* the engine's and one a handle and job */

    /* Written by the open job before it comes back, then fixed. */
    char *work;          /* where the bytes are: path or temporary name */
    uint32_t open_flags; /* for the handles of further streams */
    bool in_place, in_order;
    bool wide; /* worth a handle on every stream */
    uint64_t existing;

    /* What the last stat saw; of the job that runs. */
    uint64_t seen_ns;
    bool seen_exists, seen_folder;
    uint64_t seen_room; /* UINT64_MAX unknown */

    /* lock */
    struct hl_node node; /* ep->objects until closed */
    bool opened;
    uint32_t streams;          /* wanted; 0: no say */
    uint32_t handles;          /* open or opening, of all streams */
    struct hl_sftp_conn *home; /* that opened it, while up */
    struct hl_sftp_fh *keep;   /* a drain does not close this one */
    enum hl_sftp_token token;
    enum hl_sftp_drain drain;
    uint64_t drain_left;       /* bit per connection that has to answer */
    struct hl_node drain_node; /* ep->draining */
    struct hl_op *abort_op;
    struct hl_error drain_error; /* of HL_DRAIN_CLOSE */
};

/* An open file of one channel. Its connection's thread. */
enum hl_sftp_fh_state {
    HL_FH_OPENING,
    HL_FH_OPEN,
    HL_FH_CLOSING,
    HL_FH_FAILED
};
struct hl_sftp_fh {
    struct hl_node node; /* st->fhs */
    struct hl_sftp_stream *st;
    struct hl_sftp_obj *obj;
    enum hl_sftp_fh_state state;
    uint32_t outstanding;  /* READ and WRITE without reply */
    bool counted;          /* in obj->handles */
    bool muted;            /* after an abort: reports nothing */
    bool close_wanted;     /* as soon as nothing is outstanding */
    struct hl_error error; /* HL_FH_FAILED */
    uint32_t handle_len;
    uint8_t handle[HL_SFTP_HANDLE_MAX];
};

/* ---- Streams ------------------------------------------------------------ */

/* reply NULL: the stream died before it came. */
typedef void hl_sftp_reply_fn(struct hl_sftp_stream *st, void *ctx,
                              const struct hl_sftp_reply *reply);

enum hl_sftp_req_kind {
    HL_REQ_FREE,
    HL_REQ_WRITE,
    HL_REQ_FAILED, /* a WRITE that failed before its hl_io was taken */
    HL_REQ_READ,
    HL_REQ_CALL
};
struct hl_sftp_req {
    uint32_t id; /* slot number, and a count in the upper half */
    enum hl_sftp_req_kind kind;
    int32_t next_free;
    uint32_t len;
    uint64_t offset;
    struct hl_sftp_fh *fh; /* READ, WRITE */
    struct hl_io *io;      /* WRITE: until taken; READ: NULL when aborted */
    uint32_t status;       /* FAILED: enum hl_sftp_status */
    bool full;             /* FAILED: the text said so */
    hl_sftp_reply_fn *fn;  /* CALL */
    void *ctx;
    uint64_t sent_ns; /* CALL */
};

/* A read in work; op.driver_data of its hl_io. */
struct hl_sftp_read {
    struct hl_io *io;
    struct hl_sftp_fh *fh;
    uint32_t next;        /* bytes asked for */
    uint32_t outstanding; /* requests */
    uint32_t end;         /* len, or where the file ended */
    bool eof;
    int rc;
    struct hl_error error;
};

enum hl_sftp_stream_state {
    HL_ST_OPENING,   /* channel asked for */
    HL_ST_SUBSYSTEM, /* channel up; subsystem and INIT are on the way */
    HL_ST_READY,     /* VERSION (and limits) came */
    HL_ST_DEAD       /* to be freed by the connection's loop */
};

struct hl_sftp_stream {
    struct hl_sftp_conn *conn;
    ssh_channel channel;
    struct ssh_channel_callbacks_struct callbacks;
    enum hl_sftp_stream_state state;
    bool subsystem_ok, version_ok, limits_asked;
    bool spare;            /* more than are wanted now: takes nothing new */
    struct hl_error error; /* why it died */
    struct hl_sftp_server server;
    struct hl_sftp_limits limits;
    struct hl_list fhs;

    /* Requests without reply. */
    struct hl_sftp_req *reqs;
    uint32_t reqs_cap, reqs_used;
    int32_t reqs_free;

    /* Sending: small messages go before the next WRITE, never inside one. */
    uint8_t *small;
    size_t small_cap, small_len, small_sent;
    struct hl_sftp_out out; /* of hl_sftp_call() */
    struct hl_io *io;       /* being written; NULL: none */
    struct hl_sftp_fh *io_fh;
    uint32_t io_next; /* bytes of io that are in requests */
    uint8_t head[HL_SFTP_WRITE_HEAD];
    uint32_t head_len, body_len, sent; /* the WRITE that is being sent */
    uint32_t window_seen;              /* largest that the server ever opened */
    const uint8_t *body;
    uint8_t *body_copy; /* after an abort in the middle of a message */

    /* Receiving. */
    uint8_t *rx; /* the beginning of a message */
    size_t rx_cap, rx_len;
    uint32_t data_left;         /* of a DATA reply whose head was seen */
    uint8_t *data_to;           /* NULL: throw away */
    uint32_t data_id, data_len; /* its request; all of its data */
    uint32_t window;      /* as libssh counts it: what the server may send */
    struct hl_list reads; /* hl_io.op.node */
    uint64_t read_bytes;  /* of reads in work */
    uint64_t asked;       /* … in requests without reply */
    uint64_t uncut;       /* … that are in no request yet */

    /* Acknowledged and not yet reported. */
    struct hl_sftp_fh *ack_fh;
    uint64_t ack_begin, ack_end;
};

/* ---- Jobs --------------------------------------------------------------- */

enum hl_sftp_job_kind {
    HL_JOB_STAT,
    HL_JOB_OPEN,
    HL_JOB_SYNC,
    HL_JOB_COMMIT,
    HL_JOB_SUSPEND,
    HL_JOB_DISCARD,
    HL_JOB_DIGEST
};
enum hl_sftp_wait { HL_WAIT_NONE, HL_WAIT_TOKEN, HL_WAIT_DRAIN, HL_WAIT_FH };

/* Everything that is not reading and writing. */
struct hl_sftp_job {
    struct hl_node node; /* ep->jobs, then conn->jobs */
    enum hl_sftp_job_kind kind;
    struct hl_sftp_obj *obj;
    struct hl_op *op; /* NULL: handed back already */
    struct hl_sftp_stream *st;
    struct hl_sftp_fh *fh;
    uint32_t pending;   /* replies to come */
    bool others_closed; /* commit: the drain is over */
    enum hl_sftp_wait wait;
    void (*resume)(struct hl_sftp_job *job); /* after wait */
    int rc; /* first failure while replies are pending */
    struct hl_error error;
    char *token; /* discard: what to remove */
    /* open */
    const uint32_t *attempt; /* open flags to try; 0 ends */
    char *try_path;
    bool in_place, fresh;
    void (*next)(struct hl_sftp_job *job); /* when pending is 0 */
    /* commit */
    /* digest */
    ssh_channel exec;
    bool exec_sent;
    char exec_out[160];
    size_t exec_len;
    struct ssh_channel_callbacks_struct exec_callbacks;
};

/* ---- Connections and endpoints ------------------------------------------ */

enum hl_sftp_conn_state {
    HL_CONN_CONNECTING,
    HL_CONN_UP,
    HL_CONN_DOWN /* its thread ends; to be joined */
};

struct hl_sftp_conn {
    struct hl_sftp_ep *ep;
    uint32_t index; /* in ep->conns and drain_left */
    pthread_t thread;
    int wake_fd;
    atomic_bool stop;    /* endpoint_free */
    atomic_bool unstall; /* drop it: nothing moves */

    /* lock */
    enum hl_sftp_conn_state state;
    bool hungry;            /* looked for work and found none */
    uint32_t streams_limit; /* MaxSessions, learned; 0 unknown */

    /* Its thread only. */
    struct hl_ssh *ssh;
    ssh_session session;
    ssh_event event;
    int fd;
    struct hl_list jobs;
    struct hl_sftp_stream *streams[HL_SFTP_STREAMS_MAX];
    uint32_t stream_count, next_stream;
    bool limits_known, kick; /* kick: some job or stream may go on */
    struct hl_sftp_limits limits;
    int rc; /* broken */
    struct hl_error error;
    struct ssh_counter_struct bytes; /* of the socket, kept by libssh */
    uint64_t now_ns, tick_ns;
    uint64_t heard_ns, heard_bytes;       /* last byte from the server */
    uint64_t channel_bytes;               /* received in SFTP channels */
    uint64_t keepalive_bytes;             /* sent in keepalives */
    uint64_t progress_ns, progress_bytes; /* last sign of life */
    uint64_t keepalive_ns;
    bool setting_up;  /* a channel waits for libssh to say it is there */
    bool sending;     /* a stream waits for its window or the socket */
    uint64_t in_seen; /* bytes.in_bytes at the last tick */
    uint64_t in_rate; /* bytes a second: highest, forgotten slowly */
    uint64_t ask_max; /* bytes of READs outstanding on a stream */
    uint64_t pace_ns; /* when in_rate was measured last */
    uint64_t account_ns, account_cpu_ns;
    _Atomic uint64_t *account;     /* which of the times below runs */
    bool whole_messages;           /* never pieces of two alternately */
    struct hl_sftp_stream *sender; /* has a message half sent */
    uint8_t *scratch; /* head and beginning of a WRITE in one packet */

    /* Counters for hl_flow. */
    _Atomic uint32_t streams_up;
    _Atomic uint64_t rtt_ns; /* shortest answer to a small request */
    _Atomic uint64_t wire_bytes, starved_ns, window_ns, link_ns, cpu_ns;
};

struct hl_sftp_ep {
    struct hl_endpoint base;
    struct hl_ssh_host *host;
    char *name; /* of the host, for messages */
    uint32_t conns_max, streams_max;
    uint64_t stall_ns;

    pthread_mutex_t lock;
    /* lock */
    struct hl_list jobs;     /* hl_sftp_job.node */
    struct hl_list reads;    /* hl_io.op.node, in order of submission; */
    struct hl_list writes;   /* op.driver_data is the object */
    struct hl_list objects;  /* hl_sftp_obj.node */
    struct hl_list draining; /* hl_sftp_obj.drain_node */
    struct hl_sftp_conn *conns[HL_SFTP_CONNS_MAX];
    bool closing; /* endpoint_free: no connection any more */
    uint32_t targets_want, sources_want; /* streams */
    uint64_t more_at_ns;                 /* no further connection before */
    uint32_t refused;    /* further connections refused in a row */
    uint64_t read_bytes; /* of reads queued or in work */
    struct hl_flow past; /* of connections that are gone */
};

/* ---- sftp.c ------------------------------------------------------------- */

void hl_sftp_obj_unref(struct hl_sftp_obj *obj);
/* lock held: the drain of obj has nothing left to wait for when the bit of a
 * connection goes; finishes an abort, wakes who waits for closed handles. */
void hl_sftp_drain_answer(struct hl_sftp_obj *obj, uint32_t conn_index);
/* lock held: begin a drain. False: there is nothing to wait for. */
bool hl_sftp_drain_begin(struct hl_sftp_obj *obj, enum hl_sftp_drain kind);
/* lock held: jobs, reads and writes that nobody took; obj NULL: of all. */
void hl_sftp_fail_queued(struct hl_sftp_ep *ep, struct hl_sftp_obj *obj, int rc,
                         const struct hl_error *error);
void hl_sftp_wake(struct hl_sftp_conn *conn);

/* ---- sftp_conn.c -------------------------------------------------------- */

/* lock held. Starts a thread, which connects. */
int hl_sftp_conn_start(struct hl_sftp_ep *ep, struct hl_error *err);
/* Its thread was joined. Accepts NULL. */
void hl_sftp_conn_free(struct hl_sftp_conn *conn);
/* The connection cannot go on; the first reason counts. Safe in callbacks. */
void hl_sftp_conn_break(struct hl_sftp_conn *conn, int rc, const char *why);
/* lock held. Channels that conn takes at most. */
uint32_t hl_sftp_channels_max(const struct hl_sftp_conn *conn);
uint32_t hl_sftp_up(const struct hl_sftp_ep *ep); /* lock held */

/* ---- sftp_stream.c ------------------------------------------------------ */

enum hl_sftp_blocked {
    HL_BLOCKED_IDLE,   /* nothing to send */
    HL_BLOCKED_WINDOW, /* the server's window is shut */
    HL_BLOCKED_LINK    /* libssh or the socket takes nothing */
};

/* What the server calls itself; false: it is not OpenSSH's. */
bool hl_sftp_openssh(const struct hl_sftp_conn *conn, unsigned *major,
                     unsigned *minor);
/* NULL when out of memory. Asks for the channel. */
struct hl_sftp_stream *hl_sftp_stream_new(struct hl_sftp_conn *conn);
/* Everything of it fails with st->error; writes that were taken are lost. */
void hl_sftp_stream_free(struct hl_sftp_stream *st);
/* Set-up: goes on with what the last poll brought. */
void hl_sftp_stream_step(struct hl_sftp_stream *st);
/* Lets the server send as much as was asked for. */
void hl_sftp_stream_grow_window(struct hl_sftp_stream *st);
void hl_sftp_stream_die(struct hl_sftp_stream *st, int rc, const char *why);
/* Reports what was acknowledged. */
void hl_sftp_stream_flush_acks(struct hl_sftp_stream *st);
/* NULL: too many, or out of memory. Slots move when one is added. */
struct hl_sftp_req *hl_sftp_req_new(struct hl_sftp_stream *st,
                                    enum hl_sftp_req_kind kind);
void hl_sftp_req_free(struct hl_sftp_stream *st, struct hl_sftp_req *req);
/* False: no request now. */
bool hl_sftp_ask_read(struct hl_sftp_stream *st, struct hl_sftp_read *rd,
                      uint64_t offset, uint32_t len);
/* Hands the operation back, with rd->error; frees rd. */
void hl_sftp_read_finish(struct hl_sftp_stream *st, struct hl_sftp_read *rd,
                         int rc);

/* A request: returns where to append exactly one message with *id, or NULL
 * (out of memory, too many). fn is called once. */
struct hl_sftp_out *hl_sftp_call(struct hl_sftp_stream *st,
                                 hl_sftp_reply_fn *fn, void *ctx, uint32_t *id);
/* Takes what hl_sftp_call() gave, with the message in it. */
void hl_sftp_send(struct hl_sftp_stream *st, struct hl_sftp_out *o);

/* ---- sftp_send.c -------------------------------------------------------- */

/* Data of one SSH packet: what servers take (CHANNEL_MAX_PACKET), less what
 * libssh keeps for its headers. Size of conn->scratch. */
#define HL_SFTP_SCRATCH 32758U

/* Sends what there is, takes new reads and writes from the endpoint. */
enum hl_sftp_blocked hl_sftp_stream_pump(struct hl_sftp_stream *st);
/* Hands back every read and write of obj as canceled, mutes its requests and
 * closes its handle. */
void hl_sftp_stream_forget(struct hl_sftp_stream *st, struct hl_sftp_obj *obj);

/* ---- sftp_files.c, sftp_open.c, sftp_commit.c --------------------------- */

/* The handle of obj on st, or NULL. */
struct hl_sftp_fh *hl_sftp_fh_find(struct hl_sftp_stream *st,
                                   const struct hl_sftp_obj *obj);
/* Asks for one, for an object that is open and whose count of handles was
 * raised for it already; NULL when out of memory. */
struct hl_sftp_fh *hl_sftp_fh_open(struct hl_sftp_stream *st,
                                   struct hl_sftp_obj *obj);
/* With a handle that the server gave, or (OPENING) without. */
struct hl_sftp_fh *hl_sftp_fh_new(struct hl_sftp_stream *st,
                                  struct hl_sftp_obj *obj);
/* The server's answer HANDLE to an OPEN. */
void hl_sftp_fh_set(struct hl_sftp_fh *fh, const struct hl_sftp_reply *reply);
/* Sends CLOSE as soon as nothing is outstanding; fh is freed when the answer
 * is there. */
void hl_sftp_fh_close(struct hl_sftp_fh *fh);
/* A request came back: sends the CLOSE that waits for it. */
void hl_sftp_fh_idle(struct hl_sftp_fh *fh);
/* lock not held. */
void hl_sftp_fh_free(struct hl_sftp_fh *fh);
struct hl_sftp_bytes hl_sftp_fh_bytes(const struct hl_sftp_fh *fh);

struct hl_sftp_job *hl_sftp_job_new(struct hl_sftp_obj *obj,
                                    enum hl_sftp_job_kind kind,
                                    struct hl_op *op);
void hl_sftp_job_free(struct hl_sftp_job *job);
/* On its connection's thread; job->st is set. */
void hl_sftp_job_start(struct hl_sftp_job *job);
/* Hands the operation back, with job->error; the job itself lives until its
 * replies are in and its connection's loop finds it. Twice is no error. */
void hl_sftp_job_finish(struct hl_sftp_job *job, int rc);
/* A call of a job: counts the reply. NULL: the job has failed. */
struct hl_sftp_out *hl_sftp_job_call(struct hl_sftp_job *job,
                                     hl_sftp_reply_fn *fn, uint32_t *id);
/* First line of every reply function of a job: false when the job is over. */
bool hl_sftp_job_reply(struct hl_sftp_job *job,
                       const struct hl_sftp_reply *reply);
/* Jobs that wait for a token, a drain or a handle go on; those that are over
 * are freed. */
void hl_sftp_jobs_kick(struct hl_sftp_conn *conn);

/* Fills err from a STATUS: code, message, hint. Returns the error code. */
int hl_sftp_status_err(struct hl_error *err, const struct hl_sftp_reply *reply,
                       const char *what, const char *path);
/* The same where trying again is of no use: open, rename, remove. */
int hl_sftp_refusal(struct hl_error *err, const struct hl_sftp_reply *reply,
                    const char *what, const char *path);
bool hl_sftp_is_folder(const struct hl_sftp_attrs *a);
/* The server's text says that there is no room. */
bool hl_sftp_says_full(const struct hl_sftp_reply *reply);
/* The WRITE of req failed with req->status: finds out whether the disk is
 * full, then reports its range lost. */
void hl_sftp_write_lost(struct hl_sftp_stream *st,
                        const struct hl_sftp_req *req);
/* An abort does not wait for that: if req asks about a write to fh, its range
 * is reported lost now. */
void hl_sftp_write_forget(const struct hl_sftp_req *req,
                          const struct hl_sftp_fh *fh);

/* Asks for the free bytes of the target's folder, where the server tells.
 * false: the job has failed. */
bool hl_sftp_job_ask_room(struct hl_sftp_job *job, hl_sftp_reply_fn *fn);
/* A call with STAT or REMOVE. */
void hl_sftp_job_send_path(struct hl_sftp_job *job, enum hl_sftp_type type,
                           const char *path, hl_sftp_reply_fn *fn);
void hl_sftp_open_start(struct hl_sftp_job *job);
void hl_sftp_sync_start(struct hl_sftp_job *job);
void hl_sftp_commit_start(struct hl_sftp_job *job);
void hl_sftp_suspend_start(struct hl_sftp_job *job);
void hl_sftp_digest_start(struct hl_sftp_job *job);
/* The exec channel of a digest: goes on with what the last poll brought. */
void hl_sftp_digest_step(struct hl_sftp_job *job);
/* The handle of job's object on its stream, opened when there is none;
 * resume is called when it is there. */
void hl_sftp_job_with_fh(struct hl_sftp_job *job,
                         void (*resume)(struct hl_sftp_job *job));
/* All handles of the object closed, then resume; job->rc tells. */
void hl_sftp_job_drain(struct hl_sftp_job *job,
                       void (*resume)(struct hl_sftp_job *job));

/* sftp.c; lock held: sums up what the objects want. */
void hl_sftp_count_streams(struct hl_sftp_ep *ep);

#endif /* HL_SFTP_H */
