/*
 * Base of every file: integers, assertions, memory, errors.
 *
 * HL_ASSERT states what must hold whatever the input; it aborts in debug and
 * test builds and is free in release builds. Input from a peer, a file or a
 * caller is checked with hl_err(), never asserted.
 */
#ifndef HL_BASE_H
#define HL_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "haul.h"

#ifdef HL_DEBUG
#include <assert.h>
#define HL_ASSERT(x) assert(x)
#else
#define HL_ASSERT(x) ((void)sizeof((x) ? 1 : 0))
#endif

#define HL_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define HL_CONTAINER(ptr, type, member)                                        \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define HL_PRINTF(f, a) __attribute__((format(printf, f, a)))

#define HL_SIZE_UNKNOWN UINT64_MAX
#define HL_NS_PER_S UINT64_C(1000000000)
#define HL_NS_PER_MS UINT64_C(1000000)

static inline uint64_t hl_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static inline uint64_t hl_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- Memory: small things; chunk buffers come from pool.h --------------- */

/* Zeroed memory, or NULL. Counted: hl_mem_live() is 0 when all is freed.
 * Any thread. */
void *hl_malloc(size_t size);
void *hl_calloc(size_t count, size_t size);
/* Like realloc; new bytes are not zeroed. */
void *hl_realloc(void *p, size_t size);
char *hl_strdup(const char *s); /* NULL gives NULL */
char *hl_asprintf(const char *fmt, ...) HL_PRINTF(1, 2);
void hl_free(void *p); /* accepts NULL */
/* Overwrites in a way the compiler keeps, then frees. */
void hl_free_secret(char *s);
/* Allocations alive, for tests. */
int64_t hl_mem_live(void);
/* Fail the n-th allocation from now (1 = next) and, with on, all after it;
 * 0 ends. For tests. */
void hl_mem_fail_at(int64_t n, bool and_on);

/* ---- Errors ------------------------------------------------------------- */

/* An error by value; copied freely, owns nothing. */
struct hl_error {
    int code; /* enum haul_err, 0 none */
    int sys_errno;
    int proto_status;
    uint32_t attempts;
    uint64_t retry_after_ns; /* the remote wants no new try before; 0: none */
    char message[256];
    char detail[256]; /* "" none */
    char hint[256];   /* "" none */
};

/*
 * Sets *err (when err is not NULL and holds no error yet: the first cause
 * wins) and returns code, so that "return hl_err(…)" cannot be forgotten.
 * sys_errno 0: none; otherwise its text is appended to the message after
 * ": ". Control characters in the message are shown escaped.
 */
int hl_err(struct hl_error *err, int code, int sys_errno, const char *fmt, ...)
    HL_PRINTF(4, 5);
/* Add to an error that hl_err() set; no effect without one, and the first
 * text stays. Return err->code, so they chain behind hl_err(); HAUL_E_BUG
 * when err is NULL, so that a failure never looks like success. */
int hl_err_detail(struct hl_error *err, const char *fmt, ...) HL_PRINTF(2, 3);
int hl_err_hint(struct hl_error *err, const char *fmt, ...) HL_PRINTF(2, 3);
void hl_err_clear(struct hl_error *err);

enum hl_retry_class { HL_RETRY_NEVER, HL_RETRY_CHUNK, HL_RETRY_LINK };
/* From the table in haul_errors.def; NEVER for unknown codes. */
enum hl_retry_class hl_err_retry_class(int code);

/*
 * Foreign text for people: control characters (C1 too) and what is not UTF-8
 * become \xNN. Writes at most cap bytes with the NUL, never half a character;
 * cap is at least 1. Returns the length.
 */
size_t hl_escape(char *out, size_t cap, const char *text);

#endif /* HL_BASE_H */
