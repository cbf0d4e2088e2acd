/*
 * What headers of resumable uploads say: tus 1.0.0 and the structured fields
 * (RFC 9651) of draft-ietf-httpbis-resumable-upload. Pure: no I/O, nothing
 * kept; any thread. Values come from a peer: every function takes any text and
 * answers false, or changes nothing, for what it does not understand.
 */
#ifndef HL_UPLOAD_HEADER_H
#define HL_UPLOAD_HEADER_H

#include "base.h"

/* ---- Structured fields -------------------------------------------------- */

/* An item that is an integer of at most 15 digits, not negative; parameters
 * are read over. Upload-Offset, Upload-Length. */
bool hl_upload_integer(const char *value, uint64_t *out);
/* An item that is a boolean: "?1", "?0". Upload-Complete. */
bool hl_upload_boolean(const char *value, bool *out);

/* Upload-Limit, in bytes; what is not said is HL_SIZE_UNKNOWN for the maxima
 * and 0 for the minima. */
struct hl_upload_limit {
    uint64_t size_max, size_min;
    uint64_t append_max, append_min; /* of the body of one PATCH; the one that
                                      * completes the upload may be shorter */
};
/* Nothing is said. */
void hl_upload_limit_init(struct hl_upload_limit *limit);
/* A dictionary; keys that it does not know are read over. false, and nothing
 * changed: it is none, or a key that it knows has no such integer. */
bool hl_upload_limit(const char *value, struct hl_upload_limit *out);

/* Does a list of media types (Accept-Patch, RFC 5789 3.1) name type, whatever
 * its parameters? Methods of Allow are found in the same way. */
bool hl_upload_lists(const char *value, const char *name);

/* ---- tus ---------------------------------------------------------------- */

enum hl_tus_extension {
    HL_TUS_CREATION = 1 << 0,
    HL_TUS_WITH_UPLOAD = 1 << 1,
    HL_TUS_DEFER_LENGTH = 1 << 2,
    HL_TUS_EXPIRATION = 1 << 3,
    HL_TUS_CHECKSUM = 1 << 4,
    HL_TUS_CHECKSUM_TRAILER = 1 << 5,
    HL_TUS_TERMINATION = 1 << 6,
    HL_TUS_CONCATENATION = 1 << 7,
    HL_TUS_CONCATENATION_UNFINISHED = 1 << 8
};

/* Names of Tus-Checksum-Algorithm that haul can make. */
enum hl_tus_sum {
    HL_TUS_SHA1 = 1 << 0,
    HL_TUS_SHA256 = 1 << 1,
    HL_TUS_SHA512 = 1 << 2,
    HL_TUS_MD5 = 1 << 3,
    HL_TUS_CRC32 = 1 << 4
};

/* Does Tus-Version ("1.0.0,0.2.2") name 1.0.0? */
bool hl_tus_version(const char *value);
/* Tus-Extension, Tus-Checksum-Algorithm: bits; names that are not known are
 * read over. */
uint32_t hl_tus_extensions(const char *value);
uint32_t hl_tus_sums(const char *value);
/* The same as text, "creation,concatenation"; at most cap bytes with the NUL,
 * 256 are enough. */
void hl_tus_extensions_text(uint32_t bits, char *out, size_t cap);
void hl_tus_sums_text(uint32_t bits, char *out, size_t cap);

#endif /* HL_UPLOAD_HEADER_H */
