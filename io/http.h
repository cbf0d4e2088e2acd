/*
 * Inside of the HTTP driver; nobody else includes this.
 *
 *   http.c          endpoint, objects, the table of slots    engine thread
 *   http_loop.c     a curl multi                             a thread each
 *   http_request.c  one request: login, redirects, the end   its loop's thread
 *   http_options.c  what libcurl is told                     its loop's thread
 *   http_source.c   a download: runs on streams              see there
 *   http_target.c   which way an object is written           engine thread
 *   http_put.c      an upload as one PUT or POST             see there
 *   http_upload.c   an upload made of requests (http_upload.h)
 *   http_client.c   control requests (http_client.h)
 *   http_header.c   what headers say                         pure
 *   http_error.c    what statuses and codes of libcurl mean  pure
 *
 * A multi, its handles and its requests are touched by its loop's thread only
 * (libcurl-thread(3)). The engine thread hands jobs over with
 * hl_http_loop_post() and gets answers as tasks and finished operations, so
 * that neither takes a lock that the other holds for long. DNS answers and TLS
 * sessions are shared by all loops of an endpoint, connections are not (they
 * must not be with libcurl 7.88: KNOWN_BUGS 11.11).
 */
#ifndef HL_HTTP_H
#define HL_HTTP_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http_header.h"
#include "io.h"

#define HL_HTTP_LOOPS_MAX 16
#define HL_HTTP_STREAMS_MAX 64
#define HL_HTTP_HOPS_MAX 10

/* Sizes of libcurl's buffers, in bytes: docs/decisions/0006. */
#define HL_HTTP_UPLOAD_BUFFER (256L << 10)
#define HL_HTTP_RECEIVE_BUFFER (256L << 10)

struct hl_http_request;

/* ---- Endpoint ----------------------------------------------------------- */

enum { HL_HTTP_LOCKS = 8 }; /* more than CURL_LOCK_DATA_LAST */

struct hl_http_ep {
    struct hl_endpoint base;
    /* Fixed after endpoint_new. */
    char *origin; /* "https://host:port", of the URL the user gave; for
                   * messages too */
    bool tls;
    char *user;
    char *cacert, *cert, *key, *proxy, *unix_socket;
    char **headers; /* "Name: value" of --header */
    size_t header_count;
    uint32_t loop_max;
    uint64_t stall_ns;
    /* Adds to headers what proves who asks (a signature over method, url and
     * time), for each try of a request that is not foreign. A loop's thread;
     * NULL: none. The context is the driver's that stands on this. */
    int (*authorize)(const struct hl_http_request *req,
                     struct curl_slist **headers, struct hl_error *err);
    void *authorize_user;
    CURLSH *share;
    pthread_mutex_t share_locks[HL_HTTP_LOCKS];
    /* lock */
    pthread_mutex_t lock;
    char *password;      /* as given, or as asked for */
    uint32_t asked;      /* how often */
    struct hl_flow flow; /* the sum; loops add to it */
    /* Engine thread. */
    struct hl_http_loop *loops[HL_HTTP_LOOPS_MAX];
};

/* ---- Loops: http_loop.c ------------------------------------------------- */

/* Work for a loop's thread; belongs to it until fn is called, which may free
 * it. */
struct hl_http_job {
    struct hl_http_job *next;
    void (*fn)(struct hl_http_job *job);
};

struct hl_http_loop;

/* Engine thread. The loop to use for the n-th stream: loops are made until
 * there are loop_max, then shared in turn. NULL with err set. */
struct hl_http_loop *hl_http_loop_get(struct hl_http_ep *ep, uint32_t n,
                                      struct hl_error *err);
/* Joins the thread. No request of it is under way. Accepts NULL. */
void hl_http_loop_free(struct hl_http_loop *loop);
/* Any thread; from one thread in order. */
void hl_http_loop_post(struct hl_http_loop *loop, struct hl_http_job *job);

/* ---- Requests: http_request.c ------------------------------------------- */

/* Results of callbacks. */
#define HL_HTTP_PAUSE ((size_t)-1)
#define HL_HTTP_ABORT ((size_t)-2)

struct hl_http_request;

/* On the loop's thread. A slot may be NULL. */
struct hl_http_handler {
    /* The header of the last answer is complete: not of an interim answer, of
     * one that is followed or of one that leads to a login. An error code
     * (with req->error set) ends the request with it. */
    int (*head)(struct hl_http_request *req);
    /* A piece of the body, at most 16 KiB. HL_HTTP_PAUSE: the same piece comes
     * again after hl_http_request_resume(). HL_HTTP_ABORT: ends the request
     * with req->error. Any other result: it was taken. NULL: up to
     * HL_ANSWER_MAX bytes go to req->answer, the rest nowhere. */
    size_t (*body)(struct hl_http_request *req, const uint8_t *data,
                   size_t len);
    /* Up to cap bytes of the request's body; 0 is its end. HL_HTTP_PAUSE,
     * HL_HTTP_ABORT as above. NULL: there is none. */
    size_t (*send)(struct hl_http_request *req, uint8_t *buf, size_t cap);
    /* Can the body be sent from its start again? Then it will be. */
    bool (*rewind)(struct hl_http_request *req);
    /* Once, last. rc 0: the answer came as a whole, whatever its status; else
     * an error with req->error. req may be started again or freed here. */
    void (*done)(struct hl_http_request *req, int rc);
};

/* What the header of the last answer said; loop's thread, from head() to the
 * next start. */
struct hl_http_head {
    int status;
    uint64_t length; /* of the body; HL_SIZE_UNKNOWN */
    bool has_range;
    struct hl_http_range range;
    char etag[HL_HTTP_ETAG_MAX]; /* with quotes, or "" */
    bool etag_weak;
    int64_t modified_s, date_s; /* 0: none */
    char encoding[32];          /* Content-Encoding other than identity */
    char type[80];              /* Content-Type */
    bool delimited;             /* the body's end is told (length or chunks) */
    struct hl_identity offered; /* only .offered* */
};

struct hl_http_request {
    /* Set before start; kept by done(). */
    struct hl_http_ep *ep;
    struct hl_http_loop *loop;
    const struct hl_http_handler *handler;
    void *user;
    const char *method;         /* a literal */
    const char *display;        /* for messages; NULL: the endpoint's */
    char *url;                  /* absolute, no userinfo; wiped and freed with
                                 * the request. A redirect that was followed
                                 * puts the new one here */
    bool foreign;               /* url is of another origin than the endpoint:
                                 * no credentials go there */
    struct curl_slist *headers; /* "Name: value", of this request only; freed
                                 * with it */
    uint64_t body_len;          /* of send(); HL_SIZE_UNKNOWN: chunked */
    bool expect;                /* ask before the body is sent */
    bool once;                  /* not on a kept connection: when that is dead,
                                 * libcurl sends again, whatever the method */
    uint64_t quiet_ns;          /* HAUL_E_STALLED when nothing moves for so
                                 * long while not paused; 0: never */
    uint64_t timeout_ns;        /* of the whole; 0: none */
    /* Results. */
    struct hl_http_head head;
    struct hl_answer answer; /* its body when handler->body is NULL */
    struct hl_error error;
    bool moved; /* HAUL_E_RESET: a redirect came when the body had begun; url is
                 * where it leads */
    uint64_t sent, received; /* bytes of bodies, by this start */
    /* http_request.c's own. */
    struct hl_http_easy *easy;
};

/* Zeroed, with the request's fields set. Any thread. */
int hl_http_request_init(struct hl_http_request *req, struct hl_http_ep *ep,
                         struct hl_http_loop *loop);
/* Not under way; any thread, in the end the loop's own: a kept connection is
 * its multi's. */
void hl_http_request_fini(struct hl_http_request *req);

/* Adds "Name: value" to headers, by copy. 0 or HAUL_E_NOMEM. */
int hl_http_request_add(struct hl_http_request *req, const char *line);

/* Loop's thread, the rest too. done() is called in any case, never from inside
 * start. */
void hl_http_request_start(struct hl_http_request *req);
bool hl_http_request_running(const struct hl_http_request *req);
/* Goes on after HL_HTTP_PAUSE; may call body() or send() from inside. Not from
 * inside a callback. */
void hl_http_request_resume(struct hl_http_request *req);
/* Ends it without done(); the connection is closed when an answer was under
 * way. Not from inside a callback. */
void hl_http_request_cancel(struct hl_http_request *req);
/* Field of the last answer, or NULL; valid until the next start. */
const char *hl_http_request_field(const struct hl_http_request *req,
                                  const char *name);
/* The same of an interim answer (1xx). */
const char *hl_http_request_interim(const struct hl_http_request *req,
                                    const char *name);
/* Drops the headers that were added. Not under way. */
void hl_http_request_clear(struct hl_http_request *req);
/* req->error from an answer that is no success; returns the code. */
int hl_http_request_refused(struct hl_http_request *req);

/* ---- Objects ------------------------------------------------------------ */

/* What the scheme says. */
enum hl_http_way {
    HL_HTTP_ANY, /* as the server can */
    HL_HTTP_PUT,
    HL_HTTP_POST,
    HL_HTTP_TUS
};

struct hl_http_obj {
    struct hl_object base;
    struct hl_http_ep *ep;
    char *url;     /* absolute, encoded, no userinfo */
    char *display; /* for messages */
    enum hl_http_way way;
    struct hl_http_source *source; /* role source: from open on */
    struct hl_http_upload *upload; /* role target: once its way is known */
    struct hl_http_speaks *speaks; /* http_ways.h: found out; or NULL */
    struct hl_http_discovery *discovery; /* under way, or NULL */
    struct hl_open *opening;             /* waits for it */
    struct hl_op *aborting;              /* waits for its end */
};

/* http_source.c: slots of a source. */
void hl_http_source_open(struct hl_http_obj *obj, struct hl_open *op);
void hl_http_source_read(struct hl_http_obj *obj, struct hl_io *op);
void hl_http_source_abort(struct hl_http_obj *obj, struct hl_op *op);
void hl_http_source_unstall(struct hl_http_obj *obj);
void hl_http_source_set_streams(struct hl_http_obj *obj, uint32_t streams);
/* Nothing is outstanding. Accepts NULL. */
void hl_http_source_free(struct hl_http_source *s);

/* http_target.c: the slots of a target that are not its upload's alone. */
void hl_http_target_stat(struct hl_http_obj *obj, struct hl_stat *op);
void hl_http_target_open(struct hl_http_obj *obj, struct hl_open *op);
void hl_http_target_discard(struct hl_http_obj *obj, const char *token,
                            struct hl_op *op);
void hl_http_target_abort(struct hl_http_obj *obj, struct hl_op *op);

/* http.c. Without I/O; NULL with err set. For drivers and clients on HTTP. */
struct hl_http_ep *hl_http_ep_new(const struct hl_env *env,
                                  const struct hl_url *url,
                                  struct hl_error *err);
void hl_http_ep_free(struct hl_http_ep *ep);
/* Does the user set this field with --header? Then that wins over haul's. Any
 * thread. */
bool hl_http_ep_sets(const struct hl_http_ep *ep, const char *name);

#endif /* HL_HTTP_H */
