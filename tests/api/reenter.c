/* From inside an event callback only cancel and stats may be called; the rest
 * gives HAUL_E_REENTER and breaks nothing. */
#include "check.h"

struct seen {
    struct haul_engine *engine;
    int events, done;
};

static int on_event(void *user, const struct haul_event *ev)
{
    struct haul_stats stats = {.size = sizeof(stats)};
    struct haul_transfer *other = NULL;
    struct seen *seen = user;

    seen->events++;
    CHECK(!seen->done);
    CHECK_INT(haul_transfer_stats(ev->transfer, &stats), HAUL_OK);
    CHECK(stats.state >= HAUL_STATE_OPENING);
    CHECK_INT(haul_engine_run(seen->engine), HAUL_E_REENTER);
    CHECK_INT(haul_engine_step(seen->engine, 0), HAUL_E_REENTER);
    CHECK_INT(haul_transfer_start(ev->transfer), HAUL_E_REENTER);
    CHECK_INT(haul_transfer_set_i64(ev->transfer, HAUL_OPT_STREAMS, 2),
              HAUL_E_REENTER);
    CHECK_INT(
        haul_transfer_new(seen->engine, "mem:gen?size=1", "mem:null", &other),
        HAUL_E_REENTER);
    seen->done = ev->type == HAUL_EV_DONE;
    return 0;
}

int main(void)
{
    struct haul_result result = {.size = sizeof(result)};
    struct haul_engine *e = new_engine("reenter");
    struct seen seen = {.engine = e};
    struct haul_transfer *t;

    CHECK_INT(haul_transfer_new(e, "mem:gen?size=20mi&seed=1", "mem:null", &t),
              HAUL_OK);
    CHECK_INT(haul_transfer_set_event_fn(t, on_event, &seen), HAUL_OK);
    CHECK_INT(haul_transfer_start(t), HAUL_OK);
    CHECK_INT(haul_engine_run(e), HAUL_OK);
    CHECK(seen.events > 1 && seen.done);
    CHECK_INT(haul_transfer_result(t, &result), HAUL_OK);
    CHECK_INT(result.code, HAUL_OK);
    CHECK_INT(result.bytes, 20 << 20);
    haul_transfer_free(t);
    haul_engine_free(e);
    return 0;
}
