/*
 * Inside of the S3 driver, which stands on HTTP (http.h, http_upload.h,
 * http_source.h); nobody else includes this.
 *
 *   s3.c           endpoint, objects, the table of slots   engine thread
 *   s3_request.c   signatures; what answers say            see there
 *   s3_open.c      uploads: begun, or found again          engine thread
 *   s3_body.c      the parts of an upload                  engine thread, but
 *                                                          for hl_s3_data()
 *   s3_end.c       the end of an upload, or of what is
 *                  left of one; what stands there          engine thread
 *   s3_source.c    downloads: a look at the object before
 *                  its bytes                               engine thread
 *   s3_plan.h, s3_sign.h, s3_credentials.h, s3_xml.h       pure
 */
#ifndef HL_S3_PRIVATE_H
#define HL_S3_PRIVATE_H

#include "http_upload.h"
#include "s3_credentials.h"
#include "s3_plan.h"
#include "s3_sign.h"
#include "s3_xml.h"
#include "stage.h"

#define HL_S3_HEADERS_MAX 32 /* of a request that makes an object */

/* ---- Endpoint ----------------------------------------------------------- */

/* What stands on a struct hl_http_ep; its authorize_user. */
struct hl_s3_ep {
    /* Fixed after endpoint_new. */
    struct hl_http_ep *http;
    struct hl_s3_config config;
    struct hl_s3_signer who; /* strings of config */
    char *bucket;
    char *root;  /* URL of the bucket, without a '/' at its end */
    bool amazon; /* it is Amazon's service */
    bool equal;  /* it wants all parts of one size */
    /* Fields of --header that say what the object is to be like: only what
     * makes an object may have them. */
    char **creating;
    size_t creating_count;
    /* How far the server's clock is ahead, in seconds; known once it had to be
     * asked. */
    atomic_int_fast64_t clock_s;
    atomic_bool clock_known;
};

static inline struct hl_s3_ep *hl_s3_of(const struct hl_http_ep *ep)
{
    return ep->authorize_user;
}

/* NULL: there is none of that name. */
static inline const struct hl_digest *hl_s3_digest(const struct hl_env *env,
                                                   const char *name)
{
    return env->digest ? env->digest(name) : NULL;
}

struct hl_s3_source;

struct hl_s3_obj {
    struct hl_http_obj http;
    struct hl_s3_source *source; /* role source: from open on */
};

/* ---- Requests and answers: s3_request.c --------------------------------- */

/* hl_http_ep.authorize. */
int hl_s3_authorize(const struct hl_http_request *req,
                    struct curl_slist **headers, struct hl_error *err);

/* The URL of an object with a query; caller frees. NULL: out of memory. */
char *hl_s3_url(const struct hl_http_obj *obj, const struct hl_s3_field *query,
                size_t count);

/* An answer in the form of all that look at one. */
struct hl_s3_answer {
    const struct hl_http_ep *ep;
    const char *display, *verb; /* for messages */
    int status;
    const char *body; /* may be NULL */
    size_t body_len;
    const char *date, *region; /* of the header, or NULL */
    uint64_t retry_after_ns;
    /* out */
    struct hl_s3_document doc; /* hl_s3_answer_fini() */
    bool again; /* the clock was wrong and is corrected: ask again */
};

#define HL_S3_NO_DOCUMENT (-1)

/*
 * What came: 0 when it is a success and doc of the wanted kind (or
 * HL_S3_NO_DOCUMENT: whatever it says), else the error. Complete sends errors
 * with 200.
 */
int hl_s3_read_answer(struct hl_s3_answer *a, int kind, struct hl_error *err);
/* Has the error that came this code? */
bool hl_s3_said(const struct hl_s3_answer *a, const char *code);
void hl_s3_answer_fini(struct hl_s3_answer *a);

/* Fields of answers to what is asked, in call.got. */
enum hl_s3_got {
    HL_S3_GOT_ETAG,
    HL_S3_GOT_LENGTH,
    HL_S3_GOT_MODIFIED,
    HL_S3_GOT_DATE,
    HL_S3_GOT_REGION,
    HL_S3_GOT_MTIME,
    HL_S3_GOT_GOOG_MTIME,
    HL_S3_GOT_SSE,
    HL_S3_GOT_SSE_C,
    HL_S3_GOT_COUNT
};
extern const char *const hl_s3_want[];

/* Are ETags no MD5, by what the header says of encryption? */
bool hl_s3_is_opaque(const char *sse, const char *sse_c);
/* "1700000000.123456789" in nanoseconds; 0: no such time. */
int64_t hl_s3_mtime_ns(const char *text);

/* An ask of an upload about its object. NULL: out of memory. */
struct hl_http_ask *hl_s3_ask(struct hl_http_upload *u,
                              struct hl_http_part *part, const char *method,
                              const struct hl_s3_field *query, size_t count,
                              void (*done)(struct hl_http_ask *ask));
/* The answer to it: as hl_s3_read_answer(), or why none came. */
int hl_s3_answered(const struct hl_http_ask *ask, int kind,
                   struct hl_s3_answer *a, struct hl_error *err);

/* ---- Uploads ------------------------------------------------------------ */

/* Algorithms of parts, in the order of the fields of answers to parts. */
enum hl_s3_sum {
    HL_S3_SUM_MD5, /* ETag */
    HL_S3_SUM_CRC64NVME,
    HL_S3_SUM_CRC32C,
    HL_S3_SUM_SHA256,
    HL_S3_SUM_XXH128,
    HL_S3_SUM_COUNT
};

/* What is known of a part in this process. */
struct hl_s3_record {
    struct hl_s3_note note; /* of one that is there, or md5 of what was sent */
    bool there;             /* the server has it, as the note says */
    bool unsure;            /* all of it was sent, and no answer came */
    uint8_t bad;            /* times that checksums differed */
};

/* Are the ETags of parts MD5s of their bytes? */
enum hl_s3_etags { HL_S3_ETAGS_UNKNOWN, HL_S3_ETAGS_MD5, HL_S3_ETAGS_OPAQUE };

/* The protocol's part of an upload. */
struct hl_s3_state {
    struct hl_s3_ep *s3;
    struct hl_s3_token token; /* id NULL: none is begun */
    struct hl_s3_record *records;
    size_t record_count, record_room;
    enum hl_s3_etags etags;
    bool sums[HL_S3_SUM_COUNT]; /* which are computed */
    bool comparing;             /* not with --verify none */
    bool accepted;              /* a body was: no other needs to ask first */
    bool told;                  /* that nothing can be compared */
    bool known_opaque;          /* they were when it was found out last */
    uint32_t clock_tries;       /* of the operation under way */
    uint32_t marker;            /* of the page of parts that is asked for */
    int64_t mtime_ns;           /* of the source; 0 unknown */
    /* Headers of the ask under way. */
    struct hl_http_field fields[HL_S3_HEADERS_MAX];
    size_t field_count;
    char *field_text[2 * HL_S3_HEADERS_MAX];
    size_t text_count;
    /* The end. */
    bool asked_to_complete; /* in this process, without a clear answer */
    bool unconditional;     /* the server knows no If-None-Match */
    bool completed;         /* found out when it was opened */
};

extern const struct hl_http_protocol hl_s3_protocol;

static inline struct hl_s3_state *hl_s3_state(const struct hl_http_upload *u)
{
    return u->own;
}
static inline const struct hl_env *hl_s3_env(const struct hl_http_upload *u)
{
    return u->ep->base.env;
}

/* s3_open.c */
void hl_s3_open(struct hl_http_upload *u);
void hl_s3_token_saved(struct hl_http_upload *u, int rc);
/* The record of a part, made when it is not there; NULL: out of memory. */
struct hl_s3_record *hl_s3_record(struct hl_s3_state *st, uint64_t index);
/* Headers of the request that makes the object, for st->fields. */
int hl_s3_set_creating(struct hl_http_upload *u, struct hl_error *err);
int hl_s3_add_field(struct hl_s3_state *st, const char *name, char *value);
void hl_s3_clear_fields(struct hl_s3_state *st);
/* Nothing is known of an upload. */
void hl_s3_forget(struct hl_s3_state *st);
/* Is the token's upload at this endpoint? HAUL_E_RESUME when not. */
int hl_s3_check_place(const struct hl_http_upload *u, struct hl_error *err);
/* May the operation ask once more, after an answer with again? */
bool hl_s3_may_ask_again(struct hl_s3_state *st, const struct hl_s3_answer *a);

/* s3_body.c */
void hl_s3_begin(struct hl_http_upload *u, struct hl_http_part *part);
int hl_s3_send(struct hl_http_upload *u, struct hl_http_part *part,
               struct hl_http_request *req, uint64_t *len,
               struct hl_error *err);
void hl_s3_data(struct hl_http_part *part, const uint8_t *data, size_t len);
int hl_s3_sent(struct hl_http_upload *u, struct hl_http_part *part,
               struct hl_http_sent *sent, struct hl_error *err);
void hl_s3_part_free(struct hl_http_part *part);
extern const char *const hl_s3_part_want[];
/* Does a listed part hold what the note says? */
bool hl_s3_listed(const struct hl_s3_part *listed, const struct hl_s3_note *n);
/* Which sums are computed of parts from here on. */
void hl_s3_choose_sums(struct hl_http_upload *u);

/* s3_end.c */
void hl_s3_commit(struct hl_http_upload *u);
void hl_s3_discard(struct hl_http_upload *u, const char *token);
void hl_s3_stat(struct hl_http_upload *u);
/* The answer to a HEAD of what should not be there: 0, HAUL_E_EXISTS, or why
 * nobody knows. a is at its end. */
int hl_s3_look_says(const struct hl_http_ask *ask, struct hl_s3_answer *a,
                    struct hl_error *err);
/* The ETag that S3 gives to an object of these parts: MD5 of their MD5s, and
 * how many there are. false: not all MD5s are known. */
bool hl_s3_whole_etag(const struct hl_http_upload *u, uint64_t size,
                      char out[HL_S3_ETAG_MAX]);

/* s3_source.c */
void hl_s3_source_open(struct hl_s3_obj *obj, struct hl_open *op);
void hl_s3_source_abort(struct hl_s3_obj *obj, struct hl_op *op);
void hl_s3_source_unstall(struct hl_s3_obj *obj);
void hl_s3_source_free(struct hl_s3_source *s);

#endif /* HL_S3_PRIVATE_H */
