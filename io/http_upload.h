/*
 * Uploads that are made of requests: what S3, tus, the IETF draft and PUT in
 * ranges have in common. Inside of the HTTP drivers.
 *
 *   http_upload.c   the operations of the object             engine thread
 *   http_part.c     its parts: writes, bodies, breaks        engine thread
 *   http_ask.c      control requests, addresses, tokens      engine thread
 *   http_sender.c   one stream: the body of one request      its loop's thread
 *   a protocol      which requests there are, what their     engine thread
 *                   answers mean (s3_*.c, tus.c, ...)
 *
 * The way of a byte: the engine's write waits in its part; when the part is
 * ready to be sent (the target was asked how far it is) it goes with the
 * part's next request to the part's sender, which hands it back when its last
 * byte was copied; when the answer has come, the protocol says how many bytes
 * the target has, and they are acknowledged.
 *
 * After any failure the part is not ready: what was taken and is not confirmed
 * is reported lost, what waits goes back with the error, and the connection is
 * closed. The engine waits and writes again; then the target is asked first
 * (begin), and what it has already is not sent again. No question is asked
 * about a part while a body of it is under way.
 *
 * Everything but the senders is on the engine thread: a protocol needs no
 * lock.
 */
#ifndef HL_HTTP_UPLOAD_H
#define HL_HTTP_UPLOAD_H

#include "http.h"
#include "http_client.h"

struct hl_http_upload;
struct hl_http_sender;

/* An address that a server gave. */
struct hl_http_place {
    char *url;    /* absolute; may be a credential: hl_free_secret() */
    bool foreign; /* of another origin: no credentials go there */
};

/* What a Location in an answer from base means: relative or absolute; never
 * down to http (the same server named with http:// by a proxy that does not
 * know better is read as https). HAUL_E_PROTO, _NOMEM. */
int hl_http_place_set(struct hl_http_place *place, const char *base,
                      const char *location, struct hl_error *err);
void hl_http_place_fini(struct hl_http_place *place);

/* ---- Parts -------------------------------------------------------------- */

struct hl_http_part {
    /* For protocols to read. */
    struct hl_http_upload *upload;
    uint64_t index;
    uint64_t begin; /* its first byte in the object */
    uint64_t len;   /* HL_SIZE_UNKNOWN while the source's end is not known */
    /* Set by begin() and sent(). */
    uint64_t offset; /* so many of its bytes the target has */
    /* The protocol's. */
    struct hl_http_place place;
    void *own; /* freed by protocol->part_free */
    /* http_part.c's own. */
    struct hl_node node;
    enum { HL_PART_IDLE, HL_PART_BEGINNING, HL_PART_SENDING } state;
    bool asked, ready; /* was ever; offset is what the target says now */
    uint64_t reported; /* bytes of it that the engine knows as acknowledged */
    uint64_t sent_max; /* never more was sent, as far as is known */
    uint64_t next;     /* offset in the object of the next write */
    uint64_t expected; /* offset when the body under way has arrived */
    struct hl_list writes; /* struct hl_io, op.node: not at the sender */
    struct hl_http_sender *sender;
    struct hl_error broken;     /* why it broke last */
    struct hl_http_place moved; /* a redirect came when the body had begun */
};

/* The bytes with which the next body begins, in memory, for a checksum in its
 * header: from part->offset on, within one write. Valid inside send(). */
const uint8_t *hl_http_part_data(const struct hl_http_part *part,
                                 uint64_t *len);

/* ---- Protocols ---------------------------------------------------------- */

/* How a body went. */
struct hl_http_sent {
    int rc;                /* 0: an answer came as a whole, whatever it says */
    struct hl_error error; /* of rc */
    int status;            /* also with an rc, when an answer had begun; or 0 */
    uint64_t sent;         /* bytes of the body that the connection took */
    bool complete;         /* all of them */
    char *got[HL_HTTP_GOT_MAX]; /* values of protocol->want; or NULL */
    struct hl_answer answer;
    uint64_t retry_after_ns;
};

struct hl_http_protocol {
    const char *name; /* "tus" */
    /* Fields of answers to bodies that it reads; ends with NULL. */
    const char *const *want;
    /* The body needs its length and cannot begin before all of the part is
     * known and there (an object of unknown length at S3). */
    bool whole_parts;
    /* Where the size is not known the body may have no length. */
    bool chunked;

    /* Makes u->own. HAUL_E_*: object_new fails with it. May be NULL. */
    int (*init)(struct hl_http_upload *u, struct hl_error *err);
    /* Nothing is outstanding. */
    void (*free)(struct hl_http_upload *u);

    /* Finds out what is there and sets up what is missing: u->open->token,
     * ->notes; sets u->open->layout, adds to ->confirmed; ends, now or later,
     * with hl_http_upload_opened(). */
    void (*open)(struct hl_http_upload *u);
    /* Gets a part ready: makes it at the target or asks how far it is; sets
     * part->offset; ends with hl_http_part_begun(). Called before the first
     * body of a part in this process and after every break. */
    void (*begin)(struct hl_http_upload *u, struct hl_http_part *part);
    /* The body that begins at part->offset: sets req's method, url, foreign,
     * headers, expect, once (all else is set). *len: in, how many bytes can be
     * sent (bounded, see u->bound); out, how many will be (not 0 unless it
     * was). An error ends the part with it. */
    int (*send)(struct hl_http_upload *u, struct hl_http_part *part,
                struct hl_http_request *req, uint64_t *len,
                struct hl_error *err);
    /* The bytes as they go out, in order, on the sender's thread, between
     * send() and sent(); data NULL: the body begins again from its start. NULL:
     * nobody wants them. */
    void (*data)(struct hl_http_part *part, const uint8_t *data, size_t len);
    /* The answer: sets part->offset. 0: the target has all that was sent
     * (part->expected), which counts only when all was sent; else the error,
     * the part is then asked about again before the next body. HAUL_E_LOST: see
     * io.h. */
    int (*sent)(struct hl_http_upload *u, struct hl_http_part *part,
                struct hl_http_sent *sent, struct hl_error *err);
    void (*part_free)(struct hl_http_part *part);

    /* u->commit: everything is confirmed. Ends with
     * hl_http_upload_committed(). */
    void (*commit)(struct hl_http_upload *u);
    /* Removes what token (may be NULL) names; open need not have been called.
     * Ends with hl_http_upload_discarded(). */
    void (*discard)(struct hl_http_upload *u, const char *token);
    /* Ends with hl_http_upload_statted(). NULL: nothing is known
     * (HAUL_E_NOTSUP). */
    void (*stat)(struct hl_http_upload *u);
    /* NULL: it asked for none. */
    void (*token_saved)(struct hl_http_upload *u, int rc);
    void (*note_saved)(struct hl_http_upload *u, struct hl_http_part *part,
                       int rc);
};

/* Sizes of bodies that may be cut anywhere, in bytes: docs/decisions/0007. */
#define HL_HTTP_BOUND_START (64u << 20)
#define HL_HTTP_BOUND_MAX (1u << 30)

struct hl_http_upload {
    struct hl_http_obj *obj; /* its url and display */
    struct hl_http_ep *ep;
    const struct hl_http_protocol *protocol;
    void *own; /* the protocol's */
    /* The operation under way; one at a time. */
    struct hl_open *open;
    struct hl_commit *commit;
    struct hl_op *discard;
    struct hl_stat *stat;
    /* Fixed after open. */
    uint64_t size, chunk_size;
    bool no_clobber;
    struct hl_layout layout;
    /* A body has at most so many bytes; 0: the rest of its part. Doubled by
     * what goes well, up to bound_max; a protocol may set both. */
    uint64_t bound, bound_max;
    struct hl_answer answer; /* shown to the user; the protocol's to set */
    /* http_upload.c's own. */
    struct hl_http_client *client;
    struct hl_list parts, asks;
    struct hl_http_sender *idle[HL_HTTP_STREAMS_MAX];
    uint32_t idle_count, senders; /* without a part; ever made */
    bool aborted;
    struct hl_op *abort;
};

/* ---- For protocols ------------------------------------------------------ */

/* rc 0, or an error with the operation's error set by the caller: err may be
 * NULL when rc is 0. */
void hl_http_upload_opened(struct hl_http_upload *u, int rc,
                           const struct hl_error *err);
void hl_http_upload_committed(struct hl_http_upload *u, int rc,
                              const struct hl_error *err);
void hl_http_upload_discarded(struct hl_http_upload *u, int rc,
                              const struct hl_error *err);
void hl_http_upload_statted(struct hl_http_upload *u, int rc,
                            const struct hl_error *err);
void hl_http_part_begun(struct hl_http_part *part, int rc,
                        const struct hl_error *err);

/* A control request of an upload, on the endpoint's connections. */
struct hl_http_ask {
    struct hl_http_call call; /* filled by the protocol; call.op is not */
    struct hl_http_upload *upload;
    struct hl_http_part *part; /* or NULL; it lives as long as the ask */
    /* The answer is in call (call.op.rc, .op.error, .status, ...). Never
     * called when the upload was aborted meanwhile. */
    void (*done)(struct hl_http_ask *ask);
    uint64_t number; /* free for the protocol */
    /* http_ask.c's own. */
    struct hl_node node;
    char *kept[8];
    uint32_t kept_count;
    bool failed;  /* a text could not be made */
    bool stalled; /* ended by hl_http_upload_unstall() */
};

/* NULL: out of memory. */
struct hl_http_ask *hl_http_ask_new(struct hl_http_upload *u,
                                    struct hl_http_part *part,
                                    void (*done)(struct hl_http_ask *ask));
/* text (may be NULL: out of memory) lives as long as ask and is wiped with it;
 * returns it. */
char *hl_http_ask_keep(struct hl_http_ask *ask, char *text);
/* Sends it; ask is freed after done(). An ask whose kept text could not be
 * made comes back with HAUL_E_NOMEM. */
void hl_http_ask_go(struct hl_http_ask *ask);
/* Never sent. */
void hl_http_ask_free(struct hl_http_ask *ask);
/* 0, or what is wrong with the answer (no answer, or a status that is no
 * success), in err, with Retry-After. */
int hl_http_ask_refused(const struct hl_http_ask *ask, struct hl_error *err);
/* The same for a body's answer. */
int hl_http_sent_refused(const struct hl_http_part *part,
                         const struct hl_http_sent *sent, struct hl_error *err);

/* Tokens are lines "key=value". The value of key, which the caller frees
 * (hl_free_secret), or NULL. */
char *hl_http_token_get(const char *token, const char *key);

/* How many parts may be under way at once, by --connections; at least 1. */
uint32_t hl_http_upload_streams(const struct hl_http_upload *u);

/* PUT or POST of the whole. */
extern const struct hl_http_protocol hl_http_put;

/* ---- The slots of a target, for the tables of drivers ------------------- */

/* obj->upload; the protocol is known. */
int hl_http_upload_new(struct hl_http_obj *obj,
                       const struct hl_http_protocol *protocol,
                       struct hl_error *err);
void hl_http_upload_free(struct hl_http_upload *u);
void hl_http_upload_stat(struct hl_http_obj *obj, struct hl_stat *op);
void hl_http_upload_open(struct hl_http_obj *obj, struct hl_open *op);
void hl_http_upload_write(struct hl_http_obj *obj, struct hl_io *op);
void hl_http_upload_commit(struct hl_http_obj *obj, struct hl_commit *op);
void hl_http_upload_discard(struct hl_http_obj *obj, const char *token,
                            struct hl_op *op);
void hl_http_upload_token_saved(struct hl_http_obj *obj, int rc);
void hl_http_upload_note_saved(struct hl_http_obj *obj, uint64_t part, int rc);
void hl_http_upload_abort(struct hl_http_obj *obj, struct hl_op *op);
void hl_http_upload_unstall(struct hl_http_obj *obj);
const struct hl_answer *hl_http_upload_answer(struct hl_http_obj *obj);

/* ---- Senders: http_sender.c --------------------------------------------- */

/* Engine thread, all of them. */
int hl_http_sender_new(struct hl_http_upload *u, uint32_t n,
                       struct hl_http_sender **out, struct hl_error *err);
/* No body is under way. */
void hl_http_sender_free(struct hl_http_sender *s);
/* The request, to be filled before _start(). */
struct hl_http_request *hl_http_sender_request(struct hl_http_sender *s);
/* Sends a body of req->body_len bytes for part. The first skip bytes of the
 * first write that comes do not belong to it. done() is called on the engine
 * thread when it is over. */
void hl_http_sender_start(struct hl_http_sender *s, struct hl_http_part *part,
                          uint32_t skip,
                          void (*done)(struct hl_http_part *part,
                                       struct hl_http_sent *sent));
/* A write of the body under way. */
void hl_http_sender_write(struct hl_http_sender *s, struct hl_io *io);
/* Inside done(): the writes that have not been handed back, in order: those
 * that did not go out as a whole, and the only one of a body. */
void hl_http_sender_rest(struct hl_http_sender *s, struct hl_list *out);
/* Inside done(): where a redirect that came too late leads; out is left alone
 * when there was none. */
void hl_http_sender_moved(struct hl_http_sender *s, struct hl_http_place *out);
/* The body under way ends with code (HAUL_E_CANCELED), soon. */
void hl_http_sender_cancel(struct hl_http_sender *s);
/* Ends it with HAUL_E_STALLED unless it waits for writes, or for an answer
 * that may take its time. */
void hl_http_sender_unstall(struct hl_http_sender *s);

#endif /* HL_HTTP_UPLOAD_H */
