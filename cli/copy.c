/* haul copy SOURCE TARGET */
#include <string.h>

#include "cli.h"

int copy_run(struct args *a)
{
    char *source = a->words[1], *target = a->words[2];
    struct run r;
    int status = run_begin(&r, a);
    int rc;

    if (status == 0) {
        rc = haul_transfer_new(r.engine, source, target, &r.transfer);
        wipe_url(source);
        wipe_url(target);
        r.progress.source = source;
        r.progress.target = target;
        r.progress.continues = strcmp(source, "-") && strcmp(target, "-");
        status = run_transfer(&r, rc);
    }
    run_end(&r);
    return status;
}
