/*
 * The caller as source or target: haul_read_fn and haul_write_fn of haul.h
 * behind the contract of io.h. The functions run on one thread per endpoint,
 * one call at a time (in virtual time on the loop). A call cannot be
 * interrupted: abort and endpoint_free wait for the one that runs.
 *
 * An endpoint has one object at a time, of its own role; object_new() ignores
 * its url, which may be NULL.
 */
#ifndef HL_CALLBACK_H
#define HL_CALLBACK_H

#include "io.h"

/* name: for messages and resume, copied, or NULL. size HL_SIZE_UNKNOWN: read
 * once, in ascending order. */
int hl_callback_source_new(const struct hl_env *env, const char *name,
                           uint64_t size, haul_read_fn *fn, void *user,
                           struct hl_endpoint **out, struct hl_error *err);
/* A target with a name is believed to keep what it took across processes. */
int hl_callback_target_new(const struct hl_env *env, const char *name,
                           haul_write_fn *fn, void *user,
                           struct hl_endpoint **out, struct hl_error *err);

#endif /* HL_CALLBACK_H */
