/* The digest algorithms (stage.h). xxh128 is XXH3-128 in its canonical,
 * big-endian form, as `xxhsum -H2` prints it. */
#ifndef HL_DIGEST_H
#define HL_DIGEST_H

#include "stage.h"

/* "xxh128" or "sha256": of chunks, of manifests and of --digest. At most
 * HL_DIGEST_MAX bytes. NULL for another name. Static. */
const struct hl_digest *hl_digest_find(const char *name);

/* Those, and what only a remote offers: "sha512" (64 bytes: more than
 * HL_DIGEST_MAX), "md5", "crc32c" (RFC 3720 section 12.1) and "crc64nvme"
 * (crc64.h), both big-endian. Never for a name from a manifest: three of them
 * prove nothing against intent. */
const struct hl_digest *hl_digest_find_offered(const char *name);

/* CRC-32C of data that comes behind data of CRC crc (0: behind none). by_table:
 * not with the processor's instructions, for tests. */
uint32_t hl_crc32c(uint32_t crc, const void *data, size_t len, bool by_table);

/* false unless text is exactly 2 * size hex digits. */
bool hl_unhex(const char *text, uint8_t *out, size_t size);

#endif /* HL_DIGEST_H */
