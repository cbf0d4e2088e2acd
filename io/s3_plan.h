/*
 * How an upload to S3 is cut into parts, and what is kept of it in the state
 * store: the token of the upload and the note of each part. Pure: no I/O; any
 * thread. What comes from the store is checked as if a stranger had written it.
 */
#ifndef HL_S3_PLAN_H
#define HL_S3_PLAN_H

#include "parts.h"

/* "Amazon S3 multipart upload limits", S3 User Guide. The last part may be
 * smaller. */
#define HL_S3_PART_MIN (UINT64_C(5) << 20)
#define HL_S3_PART_MAX (UINT64_C(5) << 30)
/* Of one upload; also HL_S3_PARTS_MAX of s3_xml.h, which knows the engine not.
 */
#define HL_S3_PART_COUNT UINT64_C(10000)

/* ---- Parts -------------------------------------------------------------- */

struct hl_s3_cut {
    uint64_t size;     /* or HL_SIZE_UNKNOWN */
    uint64_t expected; /* of an unknown size, what the user expects; or 0 */
    uint64_t chunk;    /* parts are multiples of it */
    /* So many bytes at most can be kept until they are acknowledged. */
    uint64_t hold_max;
    bool equal; /* the server wants all parts of one size */
    bool small; /* parts of a single chunk, where so many parts may be */
};

/*
 * The parts of an object. Of one whose size is known or expected: at least 64
 * of them where each can have 8 MiB, so that many connections end together;
 * else 64 MiB each, more when there would be more than 9,000. Of another they
 * grow, a thousand of each size.
 *
 * HAUL_E_INVAL for an object beyond the limits of S3, HAUL_E_LIMIT for parts
 * that hold_max cannot keep; the hint names the option.
 */
int hl_s3_cut(const struct hl_s3_cut *c, struct hl_parts *out,
              struct hl_error *err);

/* How many parts size bytes have. */
uint64_t hl_s3_part_count(const struct hl_parts *parts, uint64_t size);
/* How many bytes HL_S3_PART_COUNT parts have. */
uint64_t hl_s3_parts_room(const struct hl_parts *parts);

/* ---- Tokens ------------------------------------------------------------- */

struct hl_s3_token {
    char *at; /* URL of the bucket */
    char *id; /* of the upload */
    struct hl_parts parts;
    bool opaque; /* ETags are no MD5 here */
};

/* NULL: out of memory. hl_free_secret(): who has the id can do nothing without
 * keys, but it is nobody's business. */
char *hl_s3_token_text(const struct hl_s3_token *t);
/* HAUL_E_RESUME with a hint for what is not whole, was changed or does not fit
 * size (or HL_SIZE_UNKNOWN) and chunk (0: any); HAUL_E_NOMEM. On failure out is
 * empty. */
int hl_s3_token_read(const char *text, uint64_t size, uint64_t chunk,
                     struct hl_s3_token *out, struct hl_error *err);
void hl_s3_token_fini(struct hl_s3_token *t);

/* ---- Notes -------------------------------------------------------------- */

#define HL_S3_ETAG_MAX 200 /* bytes, with the NUL; longer ones are not used */
#define HL_S3_MD5 16

/* What is known of a part that the server has. */
struct hl_s3_note {
    uint64_t size;
    char etag[HL_S3_ETAG_MAX]; /* without quotes */
    bool has_md5;
    uint8_t md5[HL_S3_MD5]; /* of the bytes as they were sent */
    bool compared;          /* the server's checksum of it was ours */
};

char *hl_s3_note_text(const struct hl_s3_note *n); /* NULL: out of memory */
/* false: it is no note. */
bool hl_s3_note_read(const char *text, struct hl_s3_note *out);

/* The value of an ETag header without its quotes. false: weak, too long, empty,
 * or what cannot stand in a line. */
bool hl_s3_etag(const char *value, char out[HL_S3_ETAG_MAX]);
/* Is the ETag an MD5 in hex (of anything)? */
bool hl_s3_etag_md5(const char *etag, uint8_t out[HL_S3_MD5]);

#endif /* HL_S3_PLAN_H */
