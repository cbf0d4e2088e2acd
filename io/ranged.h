/*
 * Inside of uploads as many PUTs of ranges (RFC 9110 14.5) into one file,
 * several at once (http_upload.h). Engine thread.
 *
 *   ranged.c        bodies, commit, discarding, the token
 *   ranged_open.c   the file that is written to
 *   ranged_probe.c  can the server do it?
 *
 * A server that does not know ranges may put the range in the place of the
 * file. So they are used only when the user asks (--ranged), and only after a
 * probe on scratch names beside the target; its outcome is a fact about the
 * folder (http_ways.h): "ranged" with move=N (HL_RANGED_MOVE_*), and new=1 when
 * the answers tell a new file from one that is there.
 *
 *   token ─► probe ─► PUT of nothing ─► token ─► PUT of ranges ─► HEAD ─► MOVE
 *
 * With MOVE the file is written as NAME.haul-ID.part and has its name from
 * commit on; without, it is written in place. What has arrived is known from
 * our own journal only: the size of the file says nothing about holes.
 *
 * Token: lines "way=ranged", "url=" (what is written to), and "made=1" when it
 * is there. The names of the probe are made from url.
 */
#ifndef HL_RANGED_H
#define HL_RANGED_H

#include "http_ways.h"

#define HL_RANGED_FACT "ranged"
/* What a MOVE is told to lead to (RFC 4918 10.3): the URL; with http, for a
 * server that does not know that it is seen under https; the path alone. */
enum {
    HL_RANGED_MOVE_NONE,
    HL_RANGED_MOVE_URL,
    HL_RANGED_MOVE_PLAIN,
    HL_RANGED_MOVE_PATH
};

#define HL_RANGED_PROBE_LEN 16
#define HL_RANGED_STORE_STALLS 10
#define HL_RANGED_FIELDS 4

/* The probe asks these one after the other; what fails leads to the first
 * removal. */
enum hl_ranged_step {
    HL_RANGED_EMPTY, /* PUT of nothing */
    HL_RANGED_LATER, /* the second half, behind the end of the file */
    HL_RANGED_FIRST, /* the first half: the second one has to stay */
    HL_RANGED_LENGTH,
    HL_RANGED_READ,
    HL_RANGED_OTHER, /* a second file, to be replaced by a MOVE of the first */
    HL_RANGED_MOVE,
    HL_RANGED_MOVED, /* the second name has the bytes of the first */
    HL_RANGED_REMOVE,
    HL_RANGED_REMOVE_OTHER,
    HL_RANGED_END
};

struct hl_ranged {
    char *url;  /* what is written to; NULL: not known yet */
    bool made;  /* it is there, by us */
    bool moves; /* url is not the target's */
    /* What the probe said, in this run or an earlier one. */
    bool known, believed;
    uint32_t move; /* HL_RANGED_MOVE_* */
    bool tells_new;
    bool said; /* to the user */
    /* The probe. */
    enum hl_ranged_step step;
    char *probe, *other; /* URLs */
    char bytes[HL_RANGED_PROBE_LEN + 1];
    struct hl_error verdict;
    bool moving; /* a MOVE went out at commit */
    struct hl_http_field fields[HL_RANGED_FIELDS]; /* of the ask under way */
};

/* ---- Asking: ranged.c --------------------------------------------------- */

/* Of url, which is copied. NULL: out of memory. */
struct hl_http_ask *hl_ranged_ask_new(struct hl_http_upload *u,
                                      const char *method, const char *url,
                                      void (*done)(struct hl_http_ask *ask));
/* value NULL: out of memory, which the ask knows. */
void hl_ranged_add(struct hl_http_ask *ask, const char *name,
                   const char *value);
void hl_ranged_add_body(struct hl_http_ask *ask, const char *text, size_t len);
/* Of a MOVE to url. move: HL_RANGED_MOVE_*. */
void hl_ranged_add_destination(struct hl_http_ask *ask, const char *url,
                               uint32_t move, bool replace);
bool hl_ranged_is_success(int status);
/* Answers that say no, and nothing about a login or an outage. */
bool hl_ranged_is_no(int status);
/* The length that an answer to HEAD tells. Of nothing Apache tells none. */
bool hl_ranged_told_length(const struct hl_http_call *call, uint64_t *out);

void hl_ranged_save_token(const struct hl_http_upload *u);
int hl_ranged_take_token(struct hl_http_upload *u, const char *token,
                         struct hl_error *err);
/* own->probe, own->other. */
int hl_ranged_name_probe(struct hl_http_upload *u, struct hl_error *err);

/* ---- Steps -------------------------------------------------------------- */

/* ranged_open.c */
void hl_ranged_open(struct hl_http_upload *u);
void hl_ranged_token_saved(struct hl_http_upload *u, int rc);
void hl_ranged_fail_open(struct hl_http_upload *u, int rc,
                         struct hl_error *err);
/* What the server can is known. */
void hl_ranged_probed(struct hl_http_upload *u);

/* ranged_probe.c: ends with one of the two. */
void hl_ranged_probe(struct hl_http_upload *u);

#endif /* HL_RANGED_H */
