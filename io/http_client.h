/*
 * Control requests: small questions to a web service, asked and answered
 * through the engine's loop. For services; the bytes of dumps go another way.
 *
 *   hl_http_client_new(env, "https://host/base", ...)
 *   hl_http_call(client, &call)     comes back through call.op.done
 *
 * A client has one thread, whose calls run at the same time. It sends what the
 * options say (--header, --proxy, certificates), follows redirects by the
 * driver's policy (GET and HEAD only; other methods on 307 and 308), and never
 * repeats a call: whether that is safe is known to who calls. Engine thread,
 * but for the work itself.
 */
#ifndef HL_HTTP_CLIENT_H
#define HL_HTTP_CLIENT_H

#include "io.h"

struct hl_http_client; /* opaque */
struct hl_http_ep;     /* http.h; the drivers' own */

/* base: http:// or https://, kept by copy; env lives longer. No I/O. */
int hl_http_client_new(const struct hl_env *env, const struct hl_url *base,
                       struct hl_http_client **out, struct hl_error *err);
/* On an endpoint of the driver, which lives longer; its thread is that of the
 * endpoint's first stream. */
int hl_http_client_on(struct hl_http_ep *ep, struct hl_http_client **out);
/* No call is out. Joins the thread; returns within a second. Accepts NULL. */
void hl_http_client_free(struct hl_http_client *c);

struct hl_http_field {
    const char *name, *value;
    const char *filename; /* multipart: sent as a file of this name; or NULL */
    const char *type;     /* multipart: its Content-Type; or NULL */
};

#define HL_HTTP_GOT_MAX 12

enum hl_http_body {
    HL_HTTP_BODY_NONE,
    HL_HTTP_BODY_FORM,      /* fields as application/x-www-form-urlencoded */
    HL_HTTP_BODY_MULTIPART, /* fields as multipart/form-data (RFC 7578) */
    HL_HTTP_BODY_TEXT       /* text as it is, of content_type (JSON, XML) */
};

struct hl_http_call {
    struct hl_op op; /* rc 0: an answer came, whatever its status */
    /* in; all memory is the caller's and stays until done */
    const char *method; /* a literal, "GET" */
    const char *path; /* below the base, encoded, "/v1/x"; or NULL: the base */
    const char *url;  /* absolute, instead of base and path; or NULL */
    bool foreign;     /* url is of another origin: no credentials go there */
    bool kept;        /* may use a connection that was kept, and may so be sent
                       * twice */
    const struct hl_http_field *query, *headers, *fields; /* values raw */
    size_t query_count, header_count, field_count;
    enum hl_http_body body;
    const char *text;
    size_t text_len;
    const char *content_type;
    uint64_t timeout_ns;     /* of the whole; 0: a minute */
    size_t answer_max;       /* a longer body is HAUL_E_PROTO; 0: 1 MiB */
    const char *const *want; /* names of fields to be copied into got; ends with
                              * NULL; at most HL_HTTP_GOT_MAX */
    /* out; freed by hl_http_call_fini() */
    int status;
    char *answer; /* the body and a NUL, never NULL when rc is 0 */
    size_t answer_len;
    char *answer_type; /* Content-Type, or NULL */
    uint64_t retry_after_ns;
    char *location;             /* of an answer that is not followed, or NULL */
    char *got[HL_HTTP_GOT_MAX]; /* values of the fields of want, also those that
                                 * only an interim answer (1xx) had, also of a
                                 * call that failed after it; or NULL */
};

/* Takes call over until done, which comes on the engine thread, never from
 * inside this. */
void hl_http_call(struct hl_http_client *c, struct hl_http_call *call);
/* It comes back soon, with HAUL_E_CANCELED unless it was through. */
void hl_http_call_cancel(struct hl_http_client *c, struct hl_http_call *call);
/* Frees the results. */
void hl_http_call_fini(struct hl_http_call *call);
/* The error of a status that is no success (http_header.h), for a call that
 * came back. */
int hl_http_call_refused(const struct hl_http_client *c,
                         const struct hl_http_call *call, struct hl_error *err);

#endif /* HL_HTTP_CLIENT_H */
