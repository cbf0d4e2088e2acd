/*
 * AWS Signature Version 4 in headers, as S3 wants it, and the encoding of names
 * that goes with it. Pure: no I/O, nothing kept; any thread.
 *
 *   "Signature Version 4 signing process", AWS General Reference;
 *   "Authenticating Requests: Using the Authorization Header", S3 API
 *
 * What is signed must be what is sent, byte by byte: the URL of a request is
 * made with hl_s3_encode_path() and hl_s3_query(), and goes out as it is
 * (CURLOPT_PATH_AS_IS: S3 keys may hold "..").
 */
#ifndef HL_S3_SIGN_H
#define HL_S3_SIGN_H

#include "base.h"

/* Payload hash of a body that is not signed; over TLS only. */
#define HL_S3_UNSIGNED "UNSIGNED-PAYLOAD"
/* Of an empty body: its SHA-256. */
#define HL_S3_EMPTY                                                            \
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

#define HL_S3_SHA256_HEX 65 /* bytes, with the NUL */

/* Who signs, the same for many requests. */
struct hl_s3_signer {
    const char *id, *secret; /* access key */
    const char *token;       /* of a session, or NULL */
    const char *region;
    const char *service; /* "s3" */
};

struct hl_s3_field {
    const char *name, *value;
};

struct hl_s3_request {
    const char *method;
    const char *host;  /* as the Host header says it: the port too, unless it is
                        * the one of the scheme */
    const char *path;  /* not encoded; begins with '/' */
    const char *query; /* encoded, in any order, or NULL */
    /* What is signed besides host and x-amz-*: all that must not be changed on
     * the way. Values may be NULL, as "". Neither the lines that come out here
     * nor Host are among them. */
    const struct hl_s3_field *headers;
    size_t header_count;
    const char *payload; /* HL_S3_UNSIGNED, HL_S3_EMPTY or SHA-256 in hex */
    int64_t time_s;      /* since the epoch, in the server's time */
};

#define HL_S3_LINES_MAX 4

/* "Name: value", ready to be sent. The first is Authorization, which is a
 * secret for 15 minutes; then x-amz-date, for service "s3"
 * x-amz-content-sha256, with a token x-amz-security-token. */
struct hl_s3_signed {
    char *line[HL_S3_LINES_MAX];
    size_t count;
};

/*
 * HAUL_E_NOMEM, HAUL_E_INVAL for what cannot stand in a header (a control
 * character, a blank in id or region) or a year behind 9999, HAUL_E_BUG when
 * libcrypto fails. On failure out is empty. Intermediate keys are wiped.
 */
int hl_s3_sign(const struct hl_s3_signer *who, const struct hl_s3_request *req,
               struct hl_s3_signed *out, struct hl_error *err);
/* Wipes and frees. */
void hl_s3_signed_fini(struct hl_s3_signed *s);

/* Any bytes as they stand in a URL: all but A-Z a-z 0-9 - _ . ~ becomes %XX.
 * NULL when out of memory. Caller frees (hl_free), as below. */
char *hl_s3_encode(const char *text);
/* The same with '/' kept. */
char *hl_s3_encode_path(const char *path);

/* "a=1&b=2" of names and values that are not encoded, in the order that is
 * signed. A value that is NULL leaves its name out; "" gives "uploads=". */
char *hl_s3_query(const struct hl_s3_field *pairs, size_t count);
/* The same of a query that is encoded already, in any order and any way; '+' is
 * taken for itself. NULL is "". */
char *hl_s3_canonical_query(const char *query);

/* SHA-256 of a small body in hex. false when libcrypto fails. */
bool hl_s3_sha256(const void *data, size_t len, char out[HL_S3_SHA256_HEX]);

/* How far the server's clock is ahead of now_s, in seconds: of a Date header,
 * or ServerTime in the error ("2009-10-28T22:32:00Z"). false, and nothing
 * changed, when it is no time. */
bool hl_s3_clock_offset(const char *date, int64_t now_s, int64_t *offset_s);

#endif /* HL_S3_SIGN_H */
