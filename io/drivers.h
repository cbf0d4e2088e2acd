/* The drivers of io/; lib/registry.c lists them. */
#ifndef HL_DRIVERS_H
#define HL_DRIVERS_H

#include "io.h"

extern const struct hl_driver hl_driver_file;
extern const struct hl_driver hl_driver_sftp; /* with HL_WITH_SFTP */
extern const struct hl_driver hl_driver_http; /* with HL_WITH_HTTP */
extern const struct hl_driver hl_driver_s3;   /* with HL_WITH_S3 */
extern const struct hl_driver hl_driver_mem;
extern const struct hl_driver hl_driver_faulty;
extern const struct hl_driver hl_driver_callback;

#endif /* HL_DRIVERS_H */
