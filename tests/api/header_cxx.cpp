// The public headers compile alone, as C++11 and later, without warnings;
// names have C linkage. headers.sh compiles this.
#include "haul.h"
#include "haul_jobs.h"

static int on_event(void *, const haul_event *event)
{
    return event->type == HAUL_EV_DONE;
}

int use(haul_transfer *transfer)
{
    haul_event_fn *fn = on_event;

    if (haul_transfer_set_event_fn(transfer, fn, nullptr) != HAUL_OK)
        return HAUL_E_INVAL;
    return haul_transfer_set_i64(transfer, HAUL_OPT_STREAMS, 4);
}
