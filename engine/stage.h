/*
 * Stages: what happens to a chunk between source and target. Implemented in
 * verify/ and compress/, listed in lib/.
 *
 * A chunk transform or watcher (run) is called on any worker thread, any
 * chunk, any order, two chunks at once; it must touch nothing but its
 * arguments. An ordered watcher (observe) is called for one chunk at a time
 * in ascending order and only while every chunk came in one run from offset
 * 0; on one thread at a time, not always the same.
 */
#ifndef HL_STAGE_H
#define HL_STAGE_H

#include "base.h"

#define HL_DIGEST_MAX 32 /* bytes: SHA-256 */

/* A digest algorithm. */
struct hl_digest {
    const char *name; /* "xxh128" */
    size_t size;      /* bytes of a digest, canonical (big-endian) */
    void (*run)(const void *data, size_t len, uint8_t *out);
    /* Whole object, in order: update after init, any number of times. */
    void *(*ordered_new)(void); /* NULL: out of memory */
    void (*ordered_update)(void *state, const void *data, size_t len);
    void (*ordered_final)(void *state, uint8_t *out);
    void (*ordered_free)(void *state);
};

/* size bytes to 2 * size hex digits and a NUL. */
void hl_hex(const uint8_t *bytes, size_t size, char *out);

#endif /* HL_STAGE_H */
