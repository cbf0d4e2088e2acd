/* Which drivers this build has. Static; any thread. */
#ifndef HL_REGISTRY_H
#define HL_REGISTRY_H

#include "io.h"

/* Driver of a scheme, or NULL. */
const struct hl_driver *hl_registry_find(const char *scheme);

#endif /* HL_REGISTRY_H */
