/*
 * Names of sources and targets, taken apart. Knows the forms, no protocol.
 *
 *   -                               scheme "-"
 *   PATH, file:///PATH              scheme "file"
 *   user@host:path, host:path       scheme "sftp"; a '/' before the first ':'
 *                                   makes it a PATH, as in scp
 *   scheme://[user[:password]@]host[:port]/path[?query]
 *   s3://BUCKET/KEY                 the bucket as host; no user, no port; all
 *                                   behind the bucket is path: "/KEY"
 *   mem:REST, faulty:REST           scheme and the rest as path, query split
 *
 * RFC 3986: percent-encoding is undone in user, password and path of the
 * "://" forms only. A '#' ends an http-like one ("http", "https", "X+http",
 * "X+https"): a fragment is never sent. IPv6 hosts stand in brackets.
 * "sftp://h/~/x" and "h:x" give a path relative to the login folder ("x"),
 * "sftp://h/x" an absolute one ("/x").
 */
#ifndef HL_URL_H
#define HL_URL_H

#include "base.h"

/* raw, and the query of an http-like form, can stand in an HTTP request line:
 * blanks, control characters and what is not ASCII are percent-encoded; escapes
 * and reserved characters are as they were typed. */
struct hl_url {
    char *scheme;   /* lower case, never NULL */
    char *user;     /* or NULL */
    char *password; /* or NULL; wiped by hl_url_fini() */
    char *host;     /* without brackets; NULL for local ones */
    uint16_t port;  /* 0: not given */
    char *path;     /* never NULL, decoded */
    char *query;    /* after '?', raw, or NULL; not for file, sftp and s3 */
    char *raw;      /* of a "://" form but file and sftp: the path as it was
                     * typed, "/" when there is none; of s3 with all but
                     * unreserved characters and '/' encoded; else NULL */
    bool folder;    /* ends in '/'; never with post+ and tus+ */
};

/* HAUL_E_INVAL: NUL or newline inside, empty, bad port, bad escape. Nothing
 * to fini on failure. */
int hl_url_parse(const char *text, struct hl_url *out, struct hl_error *err);
int hl_url_copy(const struct hl_url *u, struct hl_url *out);
void hl_url_fini(struct hl_url *u);

/* For people and logs: no password, nothing of the query that looks like a
 * credential. NULL when out of memory. Caller frees (hl_free). */
char *hl_url_display(const struct hl_url *u);

/* Does a name (of a value in a query, of a header) sound like a credential? */
bool hl_url_secret_name(const char *name);

/* Value of key in a query "a=1&b=2", or NULL. Caller frees. */
char *hl_url_query(const struct hl_url *u, const char *key);

/* Last component of the path; "" when there is none. Inside u->path. */
const char *hl_url_basename(const struct hl_url *u);

/* Appends "/name" (or "name" when the path ends in '/') to the path, and
 * percent-encoded to raw. */
int hl_url_append(struct hl_url *u, const char *name);

/* Same endpoint: scheme, user, host and port are equal. */
bool hl_url_same_endpoint(const struct hl_url *a, const struct hl_url *b);

#endif /* HL_URL_H */
