/*
 * Where the keys, the region and the endpoint of S3 come from. Reads small
 * files of the user and no network; may block; any thread.
 *
 *   keys      the file of --credentials; unless a profile is named by option:
 *             AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; the
 *             profile in AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials
 *   profile   option, AWS_PROFILE, "default"
 *   region    option, AWS_REGION, AWS_DEFAULT_REGION, the profile in
 *             AWS_CONFIG_FILE or ~/.aws/config, "us-east-1"
 *   endpoint  option, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, endpoint_url of
 *             the profile in the same file, none
 *
 * A variable that is empty is not set. The formats are those of "Configuration
 * and credential file settings", AWS CLI User Guide, without roles,
 * credential_process and single sign-on.
 */
#ifndef HL_S3_CREDENTIALS_H
#define HL_S3_CREDENTIALS_H

#include "base.h"

/* Largest file that is read, in bytes. */
#define HL_S3_FILE_MAX (1u << 20)

/* Options; NULL or "": not given. */
struct hl_s3_asked {
    const char *credentials; /* path */
    const char *profile, *region, *endpoint;
};

/* Value of a variable, or NULL; it lives until the configuration is loaded. */
typedef const char *hl_s3_getenv_fn(void *user, const char *name);

struct hl_s3_config {
    char *id, *secret;
    char *token;       /* or NULL */
    char *region;      /* never NULL */
    char *endpoint;    /* as it was given, not checked; NULL: Amazon's */
    char *from;        /* for people: where the keys were found */
    bool region_known; /* somebody named it; else it is the default */
};

/*
 * Fills out, all or nothing. get_env NULL: getenv(). HAUL_E_AUTH when there are
 * no keys (the hint names the ways), when a profile that was named does not
 * exist or has no keys, for half a pair, for keys that cannot stand in a
 * header and for a file that cannot be understood; HAUL_E_READ when a file is
 * there, or was named by option, and cannot be read; HAUL_E_INVAL for a region
 * that is none; HAUL_E_NOMEM.
 */
int hl_s3_config_load(const struct hl_s3_asked *asked, hl_s3_getenv_fn *get_env,
                      void *user, struct hl_s3_config *out,
                      struct hl_error *err);
/* Wipes and frees; twice is allowed. */
void hl_s3_config_fini(struct hl_s3_config *c);

#endif /* HL_S3_CREDENTIALS_H */
