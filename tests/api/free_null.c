/* Every free function accepts NULL; what was made and never started can be
 * freed; functions that only tell something need no handle. */
#include "check.h"

int main(void)
{
    struct haul_engine *e = NULL;
    struct haul_transfer *t = NULL;

    haul_engine_free(NULL);
    haul_transfer_free(NULL);

    CHECK(haul_version() == (HAUL_VERSION_MAJOR << 16 |
                             HAUL_VERSION_MINOR << 8 | HAUL_VERSION_PATCH));
    CHECK(strstr(haul_features(), "file"));
    CHECK(!strcmp(haul_err_name(HAUL_E_STALLED), "HAUL_E_STALLED"));
    CHECK(!strcmp(haul_err_name(-12345), "HAUL_E_UNKNOWN"));
    CHECK(haul_err_text(-12345));
    CHECK_INT(haul_err_exit_status(HAUL_OK), 0);
    CHECK_INT(haul_err_exit_status(-12345), 1);

    CHECK_INT(haul_engine_new(&e), HAUL_OK);
    haul_engine_free(e);

    e = new_engine("free");
    CHECK_INT(haul_transfer_new(e, "mem:gen?size=1mi&seed=1", "mem:null", &t),
              HAUL_OK);
    haul_transfer_free(t);
    haul_engine_free(e);
    return 0;
}
