/*
 * What tus 1.0.0 wants to be said, and what haul keeps of an upload. Pure: no
 * I/O, nothing kept; any thread. What peers say is read by upload_header.h.
 */
#ifndef HL_TUS_TEXT_H
#define HL_TUS_TEXT_H

#include "base.h"

/* ---- Headers ------------------------------------------------------------ */

/* Upload-Metadata that names the file; NULL: out of memory. */
char *hl_tus_metadata(const char *filename);

/* A checksum that haul can make. */
struct hl_tus_alg {
    const char *name; /* as tus calls it: "sha256" */
    uint32_t bit;     /* enum hl_tus_sum */
};
/* The best of bits (enum hl_tus_sum), or NULL; by its name, or NULL. */
const struct hl_tus_alg *hl_tus_alg_best(uint32_t bits);
const struct hl_tus_alg *hl_tus_alg_named(const char *name);
/* Upload-Checksum of a body; NULL: out of memory. */
char *hl_tus_checksum(const struct hl_tus_alg *alg, const uint8_t *data,
                      size_t len);

/* Upload-Concat of the upload that is made of others: URLs on the origin of
 * base as absolute paths, others as they are. NULL: out of memory. */
char *hl_tus_concat(const char *base, const char *const *urls, size_t count);

/* ---- Addresses ---------------------------------------------------------- */

/* The folder of an absolute URL, with its query: "https://h/a/b?c" gives
 * "https://h/a/?c". NULL: it ends in '/', or out of memory. */
char *hl_tus_folder(const char *url);
/* The last component of its path, decoded, or NULL. */
char *hl_tus_last_name(const char *url);

/* ---- Parts -------------------------------------------------------------- */

#define HL_TUS_PARTS_MAX 64u
#define HL_TUS_PART_MIN (UINT64_C(8) << 20)
/* Smaller objects are one upload. */
#define HL_TUS_PARALLEL_MIN (UINT64_C(32) << 20)

/* So many parts can be named in one header that proxies take, when the
 * address of one has url_len bytes; at most HL_TUS_PARTS_MAX. */
uint32_t hl_tus_parts_max(size_t url_len);
/* Bytes of each part but the last, a multiple of chunk_size, so that there are
 * at most parts_max. 0: the object is better sent as one. */
uint64_t hl_tus_part_size(uint64_t size, uint64_t chunk_size,
                          uint32_t parts_max);
uint64_t hl_tus_part_count(uint64_t size, uint64_t part_size);
/* For people, and exact: "8 MiB", "65 KiB", "7 bytes". NULL: out of memory. */
char *hl_tus_size_text(uint64_t bytes);

/* ---- Token -------------------------------------------------------------- */

/* What goes on in a later run. Lines "key=value"; way=tus is the first. */
struct hl_tus_saved {
    char *create;       /* takes what makes parts, unless it is the object's
                         * own address; or NULL */
    uint64_t part_size; /* 0: one upload */
    const struct hl_tus_alg *alg; /* every body goes under it; NULL: none */
    bool unsummed;                /* some bytes came without, all the same */
    int64_t expires_s; /* of the upload that goes first; 0: not told */
    char **urls;       /* of the parts; NULL: has none yet */
    size_t count;
    char *final; /* of all of them together; NULL: not made yet */
};

/* NULL: out of memory. */
char *hl_tus_token(const struct hl_tus_saved *saved);
/* HAUL_E_RESUME: that is no token of ours, or one that was changed; HAUL_E_
 * NOMEM. Nothing to fini on failure. */
int hl_tus_token_read(const char *token, struct hl_tus_saved *out,
                      struct hl_error *err);
void hl_tus_saved_fini(struct hl_tus_saved *saved);

#endif /* HL_TUS_TEXT_H */
