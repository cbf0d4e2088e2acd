/*
 * Inside of uploads by draft-ietf-httpbis-resumable-upload (http_upload.h),
 * interop versions 3 to 8. Engine thread.
 *
 *   ietf.c       what is asked and answered, bodies, the token
 *   ietf_open.c  what is there, and making what is missing
 *   ietf_end.c   the end: all that was sent becomes the target; discarding
 *
 * The careful way of the draft: an empty request makes the upload resource, its
 * address becomes the token, then bodies of bounded size are appended, one
 * after the other. They all say that more will come; an empty one at commit
 * says that this was all, and its answer is the answer of the target. Only a
 * rest that is too small for the server's min-append-size says so itself.
 *
 *   create ─► token ─► PATCH ?0 ... PATCH ?0 ─► PATCH ?1 (commit)
 *               └─ resume, and after every break: HEAD
 *
 * What differs between the versions: 3 has Upload-Incomplete, the opposite of
 * Upload-Complete. What later ones add (the media type of a PATCH in 6,
 * Upload-Length, Upload-Limit) is no harm to earlier ones, and what they do not
 * say is not asked for.
 *
 * Token: lines "way=ietf", "url=", "interop=", "post=1", and "spent=1" when
 * the target refused what it got: there is nothing to go on with.
 */
#ifndef HL_IETF_H
#define HL_IETF_H

#include "http_ways.h"

/* What a server does with the whole may take as long as with a plain PUT. */
#define HL_IETF_STORE_STALLS 10

#define HL_IETF_FIELDS 8

/* Fields of answers, in the order of hl_ietf_want. */
enum {
    HL_IETF_GOT_OFFSET,
    HL_IETF_GOT_COMPLETE,
    HL_IETF_GOT_INCOMPLETE,
    HL_IETF_GOT_LIMIT,
    HL_IETF_GOT_LOCATION,
    HL_IETF_GOT_INTEROP,
    HL_IETF_GOT_DIGEST
};
extern const char *const hl_ietf_want[];

struct hl_ietf {
    struct hl_http_place place; /* the upload resource; url NULL: none */
    uint32_t interop;
    bool post;       /* it is made by POST */
    bool other;      /* the other method was tried */
    bool made;       /* by the present open */
    bool known;      /* it was asked and nothing was sent since: */
    uint64_t offset; /* so many bytes it has */
    struct hl_upload_limit limit;
    bool last;               /* the body under way says that it is the last */
    bool ending;             /* a request that says so went out */
    bool complete;           /* the target has it all and took it */
    bool told;               /* ... and told how much that is */
    bool spent;              /* ... or refused it */
    struct hl_error refusal; /* to be told when "spent" is kept */
    struct hl_http_field fields[HL_IETF_FIELDS]; /* of the ask under way */
    /* With --verify remote, of an upload that was begun by this object: the
     * digest of what went out, in order, whatever was sent twice. */
    const struct hl_digest *digest; /* sha256; NULL: not wanted */
    void *hash;
    uint64_t hashed;   /* so many bytes are in hash; the sender's thread */
    uint64_t from, at; /* where the body began, and is */
    bool compared;
};

/* ---- Asking: ietf.c ----------------------------------------------------- */

/* A request of the upload resource, with the version. NULL: out of memory. */
struct hl_http_ask *hl_ietf_ask_new(struct hl_http_upload *u,
                                    struct hl_http_part *part,
                                    const char *method,
                                    void (*done)(struct hl_http_ask *ask));
/* value NULL: out of memory, which the ask knows. */
void hl_ietf_add(struct hl_http_ask *ask, const char *name, const char *value);
void hl_ietf_add_number(struct hl_http_ask *ask, const char *name, uint64_t n);
void hl_ietf_add_complete(struct hl_http_ask *ask, bool complete);

/* HEAD, for part, or for what is under way: open or commit. */
void hl_ietf_ask_offset(struct hl_http_upload *u, struct hl_http_part *part);
/* It has not been told; whoever asked gets the error. */
void hl_ietf_offset_failed(struct hl_http_upload *u, struct hl_http_part *part,
                           int rc, struct hl_error *err);

void hl_ietf_save_token(const struct hl_http_upload *u);
int hl_ietf_take_token(struct hl_http_upload *u, const char *token,
                       struct hl_error *err);

/* ---- What answers mean: ietf.c ------------------------------------------ */

enum hl_ietf_said { HL_IETF_UNSAID, HL_IETF_NO, HL_IETF_YES };
/* Does an answer say that the upload is complete? */
enum hl_ietf_said hl_ietf_says_complete(char *const *got);

/* Keeps to the limits from when they are told. */
void hl_ietf_use_limit(struct hl_http_upload *u);
void hl_ietf_read_limit(struct hl_http_upload *u, char *const *got);

bool hl_ietf_is_gone(int status);
int hl_ietf_lost(const struct hl_http_upload *u, struct hl_error *err);
/* What to do about a status that is no success, of which err speaks. */
int hl_ietf_refused(const struct hl_http_upload *u, int status,
                    struct hl_error *err);
/* Is the answer that of the target, which had everything? asked: it was told
 * that this is all. */
bool hl_ietf_is_final(enum hl_ietf_said said, bool asked, int status);
/* The target was given the whole and does not want it: to send it again is of
 * no use. Returns the code. */
int hl_ietf_refused_whole(struct hl_http_upload *u, struct hl_error *err);
/* The answer of the target, for the user; takes body. */
void hl_ietf_keep_answer(struct hl_http_upload *u, int status, char **body,
                         size_t len, const char *location);

/* ---- Steps -------------------------------------------------------------- */

/* ietf_open.c */
void hl_ietf_open(struct hl_http_upload *u);
void hl_ietf_open_saved(struct hl_http_upload *u, int rc);
void hl_ietf_open_offset(struct hl_http_upload *u, enum hl_ietf_said said);
/* There is nothing to go on with. */
void hl_ietf_open_gone(struct hl_http_upload *u);

/* ietf_end.c */
void hl_ietf_commit(struct hl_http_upload *u);
void hl_ietf_commit_offset(struct hl_http_upload *u, enum hl_ietf_said said);
void hl_ietf_discard(struct hl_http_upload *u, const char *token);
/* The protocol's data(). */
void hl_ietf_hash(struct hl_http_part *part, const uint8_t *data, size_t len);
/* With a Repr-Digest of the final answer (or NULL): own->compared, or
 * HAUL_E_DIGEST. */
int hl_ietf_compare(struct hl_http_upload *u, const char *repr_digest,
                    uint64_t size, struct hl_error *err);

#endif /* HL_IETF_H */
