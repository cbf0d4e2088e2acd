/* The one table of drivers. A driver with no schemes (callback) is not found
 * by name. */
#include "registry.h"

#include <string.h>

#include "drivers.h"

static const struct hl_driver *const drivers[] = {
    &hl_driver_file,
#ifdef HL_WITH_SFTP
    &hl_driver_sftp,
#endif
#ifdef HL_WITH_HTTP
    &hl_driver_http,
#endif
#ifdef HL_WITH_S3
    &hl_driver_s3,
#endif
    &hl_driver_mem,  &hl_driver_faulty,
};

const struct hl_driver *hl_registry_find(const char *scheme)
{
    const char *const *s;
    size_t i;

    for (i = 0; i < HL_LEN(drivers); i++)
        for (s = drivers[i]->schemes; *s; s++)
            if (!strcmp(*s, scheme))
                return drivers[i];
    return NULL;
}
