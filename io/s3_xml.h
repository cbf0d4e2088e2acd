/*
 * The XML of S3: what servers answer, and the one document that is sent. And
 * what the codes of its errors mean in our words (s3_error.c). Pure: no I/O,
 * nothing kept; any thread.
 *
 * Everything here comes from a peer. libxml2 parses, without DTD, entities of
 * its own or any access to files or network; a document with a DOCTYPE is
 * refused. Namespaces are ignored: servers differ.
 */
#ifndef HL_S3_XML_H
#define HL_S3_XML_H

#include "http_header.h"

#define HL_S3_PARTS_MAX 10000 /* of an upload; also uploads of one page */
#define HL_S3_TEXT_MAX 4096   /* bytes of one string */
#define HL_S3_DEPTH_MAX 8
#define HL_S3_CHECKSUMS_MAX 6 /* of one part or object; more are ignored */

/* What the document is, after its root element. */
enum hl_s3_kind {
    HL_S3_ERROR,    /* Error */
    HL_S3_INITIATE, /* InitiateMultipartUploadResult */
    HL_S3_PARTS,    /* ListPartsResult */
    HL_S3_UPLOADS,  /* ListMultipartUploadsResult */
    HL_S3_COMPLETE  /* CompleteMultipartUploadResult */
};

/* ChecksumNAME: name is "CRC32C", "SHA256", "CRC64NVME", "XXHASH128"..., as in
 * x-amz-checksum-algorithm; value is base64, not looked into. */
struct hl_s3_checksum {
    char name[16];
    char *value;
};

struct hl_s3_checksums {
    struct hl_s3_checksum item[HL_S3_CHECKSUMS_MAX];
    size_t count;
};

struct hl_s3_part {
    uint32_t number; /* 1 to HL_S3_PARTS_MAX */
    uint64_t size;
    char *etag; /* never NULL; with quotes or without, as it came */
    struct hl_s3_checksums checksums;
};

struct hl_s3_upload {
    char *key, *id; /* never NULL */
};

/* What an Error says; NULL what it does not. */
struct hl_s3_error {
    char *code;    /* never NULL; "" when the server gave none */
    char *message; /* for people; or NULL, as the rest */
    char *request_id;
    char *region;      /* the right one */
    char *endpoint;    /* of PermanentRedirect, TemporaryRedirect */
    char *server_time; /* for hl_s3_clock_offset() */
};

/* Members of kinds that it is not are zero. */
struct hl_s3_document {
    enum hl_s3_kind kind;
    /* HL_S3_INITIATE */
    char *upload_id; /* never NULL, never "" */
    /* HL_S3_PARTS */
    struct hl_s3_part *parts; /* ascending, no number twice */
    size_t part_count;
    uint32_t next_part; /* part-number-marker of the next page, 0: the last
                         * one; not below the last number here. The caller
                         * checks that it grows from page to page */
    char *checksum_algorithm; /* ChecksumAlgorithm, or NULL */
    /* HL_S3_UPLOADS */
    struct hl_s3_upload *uploads;
    size_t upload_count;
    char *next_key, *next_upload_id; /* key-marker and upload-id-marker of the
                                      * next page; next_key NULL: the last */
    /* HL_S3_COMPLETE */
    char *etag; /* never NULL; "" when the server gave none */
    struct hl_s3_checksums checksums;
    /* HL_S3_PARTS, HL_S3_COMPLETE */
    char *checksum_type; /* "COMPOSITE", "FULL_OBJECT" or NULL */
    /* HL_S3_ERROR */
    struct hl_s3_error error;
};

/*
 * Parses an answer. 0: out is of the wanted kind or HL_S3_ERROR, whatever the
 * status of the answer was: Complete sends errors with 200, and white space
 * before them. HAUL_E_PROTO, with a message that says what came, for anything
 * else: another document, HTML, something cut or empty, a DOCTYPE, a number or
 * string beyond the limits, what must be there and is not. HAUL_E_NOMEM. On
 * failure out is empty.
 */
int hl_s3_xml_read(const char *data, size_t len, enum hl_s3_kind want,
                   struct hl_s3_document *out, struct hl_error *err);
/* Twice is allowed. */
void hl_s3_document_fini(struct hl_s3_document *doc);

/* First value of that name, or NULL. */
const char *hl_s3_checksum(const struct hl_s3_checksums *c, const char *name);

/* Equal but for the quotes around them. */
bool hl_s3_etag_equal(const char *a, const char *b);

/*
 * The body of CompleteMultipartUpload: number and ETag of each part, and its
 * checksums where it has some. parts are ascending, 1 to HL_S3_PARTS_MAX of
 * them, sizes do not matter. HAUL_E_BUG when they are not, HAUL_E_PROTO when an
 * ETag or checksum cannot stand in XML, HAUL_E_NOMEM. Caller frees (hl_free).
 */
int hl_s3_xml_complete(const struct hl_s3_part *parts, size_t count, char **out,
                       struct hl_error *err);

/*
 * Fills err for an answer that is no success; returns the code. error NULL:
 * there was no document (HEAD, or it could not be understood), only a status. A
 * code of S3 says more than the status; one that is not known counts as its
 * status, and as HAUL_E_REMOTE when the status is a success.
 *   NoSuchUpload InvalidPart LOST; InvalidAccessKeyId SignatureDoesNotMatch
 *   ExpiredToken RequestTimeTooSkewed AuthorizationHeaderMalformed... AUTH;
 *   AccessDenied NoSuchBucket NoSuchKey NotImplemented... REMOTE;
 *   SlowDown ServiceUnavailable RequestTimeout... REMOTE_BUSY; InternalError
 *   REMOTE_IO; BadDigest XAmzContentSHA256Mismatch... DIGEST; QuotaExceeded
 *   REMOTE_FULL; PreconditionFailed EXISTS for a write, else CHANGED.
 */
int hl_s3_error(const struct hl_s3_error *error, int status,
                const struct hl_http_subject *subject, struct hl_error *err);

#endif /* HL_S3_XML_H */
