/*
 * Named buffers of this process, what "mem:buf" reads and writes: a flat file
 * system in memory. Any thread; one lock inside. They live until
 * hl_membuf_reset().
 */
#ifndef HL_MEMBUF_H
#define HL_MEMBUF_H

#include "base.h"

struct hl_membuf_stat {
    uint64_t size;
    int64_t mtime_ns;
    uint32_t mode;
};

/* An empty buffer; what had the name is gone. */
int hl_membuf_create(const char *name, uint32_t mode, struct hl_error *err);
/* false: does not exist; *out (may be NULL) is zeroed then. */
bool hl_membuf_stat(const char *name, struct hl_membuf_stat *out);
/* Bytes got (fewer at the end), or a negative error. */
int64_t hl_membuf_read(const char *name, uint64_t offset, uint8_t *data,
                       size_t len, struct hl_error *err);
/* Grows up to size_max (HAUL_E_FULL); a hole reads as zeros. */
int hl_membuf_write(const char *name, uint64_t offset, const uint8_t *data,
                    size_t len, uint64_t size_max, struct hl_error *err);
int hl_membuf_truncate(const char *name, uint64_t size, struct hl_error *err);
/* Replaces to unless no_clobber (HAUL_E_EXISTS). */
int hl_membuf_rename(const char *from, const char *to, bool no_clobber,
                     struct hl_error *err);
/* 0: leave. */
int hl_membuf_set(const char *name, int64_t mtime_ns, uint32_t mode,
                  struct hl_error *err);
void hl_membuf_remove(const char *name); /* gone already is no error */
/* A few bytes that somebody wants to keep beside a buffer, instead of earlier
 * ones; they are renamed, saved and removed with it. HAUL_E_NOMEM, HAUL_E_READ
 * (no such buffer). */
int hl_membuf_set_side(const char *name, const void *data, size_t len);
/* A copy (hl_free) and its length; NULL, 0: none. */
void *hl_membuf_side(const char *name, size_t *len);

/* A copy of all buffers, and all of them as they were: simulations end a
 * process so. NULL: out of memory. */
struct hl_membuf_copy;
struct hl_membuf_copy *hl_membuf_save(void);
int hl_membuf_restore(const struct hl_membuf_copy *copy);
void hl_membuf_copy_free(struct hl_membuf_copy *copy); /* accepts NULL */

/* How many buffers there are, and the sum of their sizes. */
size_t hl_membuf_count(void);
uint64_t hl_membuf_bytes(void);
/* Removes all. For tests. */
void hl_membuf_reset(void);

#endif /* HL_MEMBUF_H */
