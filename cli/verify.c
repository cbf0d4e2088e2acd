/* haul verify TARGET [MANIFEST] */
#include "cli.h"

int verify_run(struct args *a)
{
    char *target = a->words[1];
    struct run r;
    int status = run_begin(&r, a);
    int rc;

    if (status == 0) {
        rc = haul_verify_new(r.engine, target, a->words[2], &r.transfer);
        wipe_url(target);
        r.progress.target = target;
        r.progress.verify = true;
        status = run_transfer(&r, rc);
    }
    run_end(&r);
    return status;
}
