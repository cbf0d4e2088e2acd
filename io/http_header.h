/*
 * What HTTP headers say, and what a status or a code of libcurl means in our
 * words. Pure: no I/O, nothing kept; any thread. Values come from a peer: every
 * function takes any text and answers false, or changes nothing, for what it
 * does not understand.
 */
#ifndef HL_HTTP_HEADER_H
#define HL_HTTP_HEADER_H

#include "io.h"

/* Longest entity-tag that is used, with its quotes and the NUL. */
#define HL_HTTP_ETAG_MAX 120

/* Content-Length (RFC 9110 8.6), and any other decimal: digits only. */
bool hl_http_number(const char *value, uint64_t *out);

/* Is the header line "Name: value" (or libcurl's "Name;") of that name? */
bool hl_http_is_field(const char *line, const char *name);
/* The same of any name of a list that NULL ends. */
bool hl_http_is_one_of(const char *line, const char *const *names);

struct hl_http_range {
    uint64_t begin,
        end;        /* bytes [begin, end); equal for an unsatisfied range */
    uint64_t total; /* or HL_SIZE_UNKNOWN for '*' */
};
/* Content-Range of unit bytes (RFC 9110 14.4): a range and a total, either of
 * which may be '*'. false also for a range that is not below the total. */
bool hl_http_content_range(const char *value, struct hl_http_range *out);

/* Entity-tag (RFC 9110 8.8.3). out: the tag with its quotes, without W/. */
bool hl_http_etag(const char *value, char *out, size_t cap, bool *weak);

/* HTTP-date (RFC 9110 5.6.7), in all forms that must be accepted; seconds since
 * the epoch. */
bool hl_http_date(const char *value, int64_t *out_s);

/* Such a time in nanoseconds; 0, not known, for a year that they cannot tell.
 */
int64_t hl_http_mtime_ns(int64_t s);

/* Retry-After (RFC 9110 10.2.3), seconds or a date against now_s; 0 when it
 * says nothing, at most an hour. */
uint64_t hl_http_retry_after_ns(const char *value, int64_t now_s);

/*
 * The strongest digest of the whole representation that headers offer, in
 * order: sha256, sha512, md5, crc32c. Each call takes one more field and keeps
 * the better one in identity->offered. Names (any case): Repr-Digest (RFC 9530
 * 3), Digest (RFC 3230), x-goog-hash, x-ms-blob-content-md5, and Content-MD5
 * (RFC 1864), which speaks of the message and counts only with whole true.
 */
void hl_http_offer(struct hl_identity *identity, const char *name,
                   const char *value, bool whole);

/* ---- Redirects ---------------------------------------------------------- */

struct hl_http_hop {
    char *url;        /* absolute, without user and password; hl_free() */
    bool same_origin; /* credentials may follow */
};
/*
 * Where Location leads from the URL of the request (RFC 9110 10.2.2; relative
 * ones are resolved, userinfo is dropped). Refused with an error: from https
 * down to http, any other scheme, what cannot be parsed. Same origin: same
 * host, and same scheme and port or 80 to 443 with http to https.
 */
int hl_http_redirect(const char *from, const char *location,
                     struct hl_http_hop *out, struct hl_error *err);

/* ---- Errors ------------------------------------------------------------- */

/* What is refused, for messages. */
struct hl_http_subject {
    const char *name;                 /* URL for people, secrets masked */
    const char *verb;                 /* "read" or "write" */
    bool proxy;                       /* through one */
    bool credentials;                 /* some were sent */
    const char *cacert, *unix_socket; /* paths, or NULL */
};

/*
 * Fills err for a status that is no success; body may be NULL (a first line of
 * it goes to the detail). Returns the code:
 *   401 AUTH, 407 AUTH, 403 404 405 410 411 413 415 and other 4xx REMOTE,
 *   412 EXISTS, 416 CHANGED, 408 425 429 502 503 504 REMOTE_BUSY, 507
 *   REMOTE_FULL, 501 505 511 and 3xx REMOTE, other 5xx REMOTE_IO.
 * proto_status is set; every code that a user can act on has a hint.
 */
int hl_http_status_error(int status, const struct hl_http_subject *subject,
                         const char *body, struct hl_error *err);

/*
 * Fills err for a CURLcode. text: CURLOPT_ERRORBUFFER or "". connect_status:
 * CURLINFO_HTTP_CONNECTCODE. verify: CURLINFO_SSL_VERIFYRESULT. Certificates:
 * TLS, with the hint for expired, not yet valid, wrong name, self-signed,
 * unknown issuer. A proxy that refuses: 407 AUTH, 403 REMOTE, others CONNECT.
 * A cut connection RESET (in the TLS handshake too), no route CONNECT, a name
 * not found RESOLVE, too slow to connect CONNECT.
 */
int hl_http_curl_error(int curl_code, const char *text, long connect_status,
                       long verify, const struct hl_http_subject *subject,
                       struct hl_error *err);

#endif /* HL_HTTP_HEADER_H */
