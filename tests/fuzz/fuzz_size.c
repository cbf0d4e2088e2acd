/* Sizes and values of options as text: accepted values are in range, refused
 * ones say why and leave the old value. */
#include <string.h>

#include "fuzz.h"
#include "opts.h"

static bool is_number(const struct haul_opt_info *o)
{
    return o->type == HAUL_OPT_SIZE || o->type == HAUL_OPT_COUNT ||
           o->type == HAUL_OPT_SECONDS || o->type == HAUL_OPT_FLAG;
}

static void check_option(const struct haul_opt_info *o, const char *text)
{
    struct hl_error err = {0};
    struct hl_opts *opts;
    int rc;

    FUZZ_CHECK(hl_opts_new(&opts) == 0);
    rc = hl_opts_set_str(opts, 0, o->id, text, &err);
    FUZZ_CHECK(rc == 0 || (rc == HAUL_E_INVAL && err.message[0]));
    FUZZ_CHECK(hl_opts_is_set(opts, o->id) == (rc == 0));
    if (is_number(o)) {
        int64_t v = hl_opts_i64(opts, o->id);

        FUZZ_CHECK(rc ? v == o->dflt : v >= o->min && v <= o->max);
    } else if (rc == 0) {
        FUZZ_CHECK(!strcmp(hl_opts_str(opts, o->id), text));
    }
    hl_opts_free(opts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct haul_opt_info *o = NULL;
    char *text = hl_malloc(size + 1);
    uint64_t value = 0;
    int rc;

    FUZZ_CHECK(text);
    memcpy(text, data, size);
    rc = hl_parse_size(text, &value);
    FUZZ_CHECK(rc == 0 || rc == HAUL_E_INVAL);
    while ((o = haul_opt_next(o)))
        check_option(o, text);
    hl_free(text);
    FUZZ_CHECK(hl_mem_live() == 0);
    return 0;
}
