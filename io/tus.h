/*
 * Inside of tus 1.0.0 as a way of uploading (http_upload.h). Engine thread.
 *
 *   tus.c       parts: their bodies, what is asked after a break, tokens
 *   tus_open.c  what is there, and making what is missing
 *   tus_end.c   the end: joining parts, a length that comes last; discarding
 *   tus_text.c  headers, parts and tokens as text              pure
 *
 * An object is one upload at the server, or as many as it has parts, each a
 * "partial upload" (concatenation extension), which are joined at the end.
 */
#ifndef HL_TUS_H
#define HL_TUS_H

#include "http_upload.h"
#include "http_ways.h"
#include "tus_text.h"

/* Asked at once, of all that is to be asked; and made at once. */
#define HL_TUS_ASKS 16u
#define HL_TUS_MAKES 8u

/* Fields of answers: indices of got[], for asks and for bodies. */
enum { HL_TUS_GOT_OFFSET, HL_TUS_GOT_LENGTH, HL_TUS_GOT_EXPIRES };

#define HL_TUS_HEADERS 6u

/* One upload at the server. */
struct hl_tus_part {
    struct hl_http_place place; /* url NULL: there is none */
    uint64_t offset;            /* so many bytes it has */
    bool known;        /* the server said so, and nothing was sent since */
    bool careful;      /* it broke: the next body asks before it comes */
    int64_t expires_s; /* 0: not told */
    uint32_t bad_sums, bad_requests; /* answers 460 and 400, in a row */
    bool making;                     /* a request that makes it is out */
    uint32_t saved_in;               /* the token that names it; 0: none */
    struct hl_http_part *waiting;    /* begins when that is saved */
    /* Of the request that makes it. */
    struct hl_http_field headers[HL_TUS_HEADERS];
};

struct hl_tus {
    struct hl_http_upload *upload;
    char *create_url;   /* takes what makes uploads */
    bool at_folder;     /* it is the folder of the object's URL */
    char *metadata;     /* Upload-Metadata */
    char *said;         /* to the user, last */
    bool warned;        /* of an upload that is gone, or may go */
    uint64_t part_size; /* 0: the object is one upload */
    struct hl_tus_part *parts;
    uint32_t count;
    uint64_t cut_size, cut_chunk; /* the parts are of such an object */
    struct hl_http_place final;   /* of all of them; url NULL: not made */
    const struct hl_tus_alg *alg; /* NULL: no checksums */
    bool unsummed;                /* see struct hl_tus_saved */
    bool deferred;                /* the server does not know the length */
    int status;                   /* of the last answer */
    bool went_well;               /* a body of it did, in this run */
    bool no_patch;                /* something on the way stops PATCH */
    int64_t kept_until_s;         /* as the token says; 0: it does not */
    uint32_t tokens_asked, tokens_saved; /* ever */
    uint32_t making, unsaved; /* parts: under way; made since the last token */
    bool make_no_more;        /* ahead of their turn: one failed */
    /* What goes over all parts, several at once: open, commit, discard. */
    uint32_t next, out, found;
    struct hl_error failed;           /* the first failure */
    void (*looked)(struct hl_tus *t); /* all have been asked about */
    bool saving;                      /* open waits for the token */
    /* Of commit and discard. */
    char **urls; /* to be removed */
    uint32_t url_count;
    struct hl_http_field headers[HL_TUS_HEADERS];
    bool asked_to_join; /* and it may have been done */
    struct hl_timer timer;
    uint64_t wait_ns, wait_until_ns;
};

static inline struct hl_tus *hl_tus_of(const struct hl_http_upload *u)
{
    return u->own;
}

/* ---- tus.c -------------------------------------------------------------- */

/* Has the engine keep what is known; token_saved() follows. HAUL_E_NOMEM. */
int hl_tus_save(struct hl_tus *t, struct hl_error *err);
/* Forgets all uploads, without a word to the server. */
void hl_tus_drop_parts(struct hl_tus *t);
/* Does the engine keep a token that names the part? */
bool hl_tus_is_saved(const struct hl_tus *t, uint32_t index);
/* Bytes of a part; HL_SIZE_UNKNOWN for that of a pipe. */
uint64_t hl_tus_part_len(const struct hl_tus *t, uint32_t index);

/* A request about url, with the header that all have. NULL: out of memory. */
struct hl_http_ask *hl_tus_ask(struct hl_tus *t, struct hl_http_part *part,
                               const char *method, const char *url,
                               void (*done)(struct hl_http_ask *ask));
/* The same with a copy of place's URL. */
struct hl_http_ask *hl_tus_ask_at(struct hl_tus *t, struct hl_http_part *part,
                                  const char *method,
                                  const struct hl_http_place *place,
                                  void (*done)(struct hl_http_ask *ask));
/* Adds to headers, which becomes ask's, room for HL_TUS_HEADERS; ask keeps
 * value, which was made for it (NULL: out of memory). */
void hl_tus_add(struct hl_http_ask *ask, struct hl_http_field *headers,
                const char *name, char *value);

/* The POST that makes upload number index, for done(), which has
 * hl_tus_created() read the answer. HAUL_E_NOMEM. */
int hl_tus_create(struct hl_tus *t, uint32_t index,
                  void (*done)(struct hl_http_ask *ask));
/* 0: it is there, without a byte. */
int hl_tus_created(struct hl_tus *t, const struct hl_http_ask *ask,
                   struct hl_error *err);

/* What a HEAD says. */
enum hl_tus_seen { HL_TUS_THERE, HL_TUS_GONE, HL_TUS_FAILED };
struct hl_tus_state {
    uint64_t offset, length; /* HL_SIZE_UNKNOWN: not said */
};
/* FAILED with err set. */
enum hl_tus_seen hl_tus_read_head(const struct hl_http_ask *ask,
                                  struct hl_tus_state *state,
                                  struct hl_error *err);
/* The same of a part, kept in it. */
enum hl_tus_seen hl_tus_read_part(struct hl_tus *t, uint32_t index,
                                  const struct hl_http_ask *ask,
                                  struct hl_error *err);
/* What is wrong with an answer, in tus's words where they differ from those
 * of HTTP. */
int hl_tus_refused(const struct hl_http_ask *ask, struct hl_error *err);

/* ---- tus_open.c --------------------------------------------------------- */

void hl_tus_open(struct hl_http_upload *u);
/* Open waited for the token. */
void hl_tus_open_saved(struct hl_tus *t, const struct hl_error *err);
/* Asks about all parts that have an address, then calls looked: t->failed, or
 * t->found of them are there. */
void hl_tus_look(struct hl_tus *t, void (*looked)(struct hl_tus *t));

/* ---- tus_end.c ---------------------------------------------------------- */

void hl_tus_commit(struct hl_http_upload *u);
void hl_tus_discard(struct hl_http_upload *u, const char *token);
void hl_tus_drop_urls(struct hl_tus *t);
void hl_tus_on_timer(struct hl_timer *timer);

#endif /* HL_TUS_H */
