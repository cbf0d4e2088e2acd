/* Which drivers this build has. Static; any thread. */
#ifndef HL_REGISTRY_H
#define HL_REGISTRY_H

#include "io.h"

/* Driver of a scheme, or NULL. */
const struct hl_driver *hl_registry_find(const char *scheme);

/* Drivers in order, index from 0; NULL behind the last. */
const struct hl_driver *hl_registry_at(size_t index);

#endif /* HL_REGISTRY_H */
