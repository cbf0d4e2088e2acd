/*
 * The manifest: the digests of an object as a file that anyone can check
 * later (NAME.haul.json; DESIGN section 2; docs/formats/manifest.md).
 *
 *   {"haul_manifest":1,"name":…,"size":…,"chunk_size":…,"digest":"xxh128",
 *    "root":"xxh128:HEX","whole":"xxh128:HEX" or null,"chunks":["HEX",…]}
 *
 * root = XXH3-128 over size and chunk size (8 bytes each, big-endian) and the
 * chunk digests in order.
 */
#ifndef HL_MANIFEST_H
#define HL_MANIFEST_H

#include "digest.h"

struct hl_manifest {
    char *name; /* base name of the object */
    uint64_t size, chunk_size;
    const struct hl_digest *digest;
    uint8_t *chunks; /* count * digest->size bytes */
    uint64_t count;  /* ceil(size / chunk_size) */
    bool has_whole;
    uint8_t whole[HL_DIGEST_MAX];
};
void hl_manifest_fini(struct hl_manifest *m);

/* Computes the root into out (16 bytes: always XXH3-128). */
void hl_manifest_root(const struct hl_manifest *m, uint8_t out[16]);

/* Writes to a temporary name beside path, fsyncs, renames. */
int hl_manifest_write(const struct hl_manifest *m, const char *path,
                      struct hl_error *err);
/* HAUL_E_FORMAT: not a manifest, newer format, root does not fit, counts do
 * not fit, larger than 1 GiB. HAUL_E_READ. Finish with fini. */
int hl_manifest_read(const char *path, struct hl_manifest *out,
                     struct hl_error *err);

#endif /* HL_MANIFEST_H */
