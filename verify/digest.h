/* The digest algorithms (stage.h). xxh128 is XXH3-128 in its canonical,
 * big-endian form, as `xxhsum -H2` prints it. */
#ifndef HL_DIGEST_H
#define HL_DIGEST_H

#include "stage.h"

/* "xxh128" or "sha256"; NULL for another name. Static. */
const struct hl_digest *hl_digest_find(const char *name);

/* false unless text is exactly 2 * size hex digits. */
bool hl_unhex(const char *text, uint8_t *out, size_t size);

#endif /* HL_DIGEST_H */
