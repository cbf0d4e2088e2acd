/*
 * The ways to write an object over HTTP, and how the one that a server speaks
 * is found out. Inside of the HTTP drivers. Engine thread.
 *
 *   scheme         way                                  asks OPTIONS
 *   https://       tus, the IETF draft or a plain PUT,  yes
 *                  in this order
 *   tus+https://   tus                                  yes, for what it can
 *   put+https://   a plain PUT; with --ranged in        no
 *                  ranges, after a probe
 *   post+https://  a plain POST                         no
 *
 * What was found out is a fact about the folder of the URL ("https://h/in/",
 * of "https://h/x" the URL itself, without a query) and is believed for a day.
 * An upload that goes on has its way in its token, as a line "way=tus"
 * (tus, ietf, ranged); nothing is asked then.
 */
#ifndef HL_HTTP_WAYS_H
#define HL_HTTP_WAYS_H

#include "http_upload.h"
#include "upload_header.h"

extern const struct hl_http_protocol hl_http_tus;
extern const struct hl_http_protocol hl_http_ietf;
extern const struct hl_http_protocol hl_http_ranged;

/* Versions of the IETF draft: the newest and the oldest that haul speaks. */
#define HL_HTTP_INTEROP_NEWEST 8
#define HL_HTTP_INTEROP_OLDEST 3

/* What a server said that it can. */
struct hl_http_speaks {
    const struct hl_http_protocol *protocol;
    /* tus */
    uint32_t tus;      /* enum hl_tus_extension */
    uint32_t tus_sums; /* enum hl_tus_sum; 0 without HL_TUS_CHECKSUM */
    uint64_t tus_max;  /* bytes of an upload; HL_SIZE_UNKNOWN: not said */
    /* IETF */
    uint32_t interop; /* which version; 0: it did not say */
    bool post;        /* uploads are begun by POST, not by PUT */
    struct hl_upload_limit limit;
    bool believed; /* found out by an earlier run */
    bool said;     /* to the user */
};

/* An operation like those of io.h; filled by the caller, which keeps it until
 * op.done. It comes back with 0 and speaks, or with an error: no answer, a
 * login that is refused, no tus at tus+https://. A server that answers in any
 * other way takes a plain PUT. */
struct hl_http_discovery {
    struct hl_op op;
    struct hl_http_obj *obj;
    bool tus;          /* tus+https:// */
    uint64_t size;     /* to come, or HL_SIZE_UNKNOWN */
    const char *token; /* of an earlier run, or NULL; for the call only */
    struct hl_http_speaks speaks; /* out; a copy stays as obj->speaks */
    /* http_discover.c's own. */
    struct hl_http_client *client;
    struct hl_http_call call;
    unsigned asked;
    bool fixed, canceled;
};

/* Never comes back from inside. Says what was found (env->say). */
void hl_http_discover(struct hl_http_discovery *d);
/* It comes back soon, with HAUL_E_CANCELED unless it was through. */
void hl_http_discover_cancel(struct hl_http_discovery *d);

/* The way that a token fixes. false: it has no line "way=", or one that nobody
 * knows. */
bool hl_http_way_of(const char *token, const struct hl_http_protocol **out);

/* obj->speaks is what is found out about the place from now on. */
void hl_http_learned(const struct hl_http_obj *obj);

/*
 * The server answers as if what is believed of it were not so: forgets it.
 * true: it was found out by an earlier run, so that to ask again may help; who
 * has nothing there yet then ends with HAUL_E_LOST, and the engine opens the
 * object again.
 */
bool hl_http_disbelieve(struct hl_http_obj *obj);

/* A fact of that kind ("speaks") about the place of obj, if it is not older
 * than a day; hl_free(). NULL: not known. */
char *hl_http_fact(const struct hl_http_obj *obj, const char *kind);
/* text NULL: forgets it. */
void hl_http_keep_fact(const struct hl_http_obj *obj, const char *kind,
                       const char *text);
/* The value of a word "key=value" of a fact, as a number; otherwise fallback.
 */
uint64_t hl_http_fact_number(const char *fact, const char *key,
                             uint64_t fallback);

#endif /* HL_HTTP_WAYS_H */
