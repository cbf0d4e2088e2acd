/* The public headers compile alone, as C99 and C11, without warnings, and
 * twice in one file. headers.sh compiles this. */
#include "haul_jobs.h"
#include "haul.h"
#include "haul_jobs.h"

int use(struct haul_engine **e);

int use(struct haul_engine **e)
{
    struct haul_stats stats = {0};
    struct haul_job job = {0};

    stats.size = sizeof(stats);
    job.size = sizeof(job);
    return stats.size && job.size ? haul_engine_new(e) : HAUL_E_INVAL;
}
