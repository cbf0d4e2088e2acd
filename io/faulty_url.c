/* Reads "OPTIONS:INNER" of a faulty url. Pure. */
#include "faulty.h"

#include <stdio.h>
#include <string.h>

#include "opts.h"

static int parse_rate(const char *value, uint64_t *out)
{
    char text[32];
    uint64_t v;

    snprintf(text, sizeof(text), "%st", value);
    if (hl_parse_size(text, &v) || v > FAULTY_RATE_ONE)
        return HAUL_E_INVAL;
    *out = v;
    return 0;
}

static int parse_option(struct faulty_options *o, const char *key,
                        const char *value)
{
    const struct {
        const char *key;
        uint64_t *value;
        bool rate;
    } keys[] = {
        {"seed", &o->seed, false},
        {"after", &o->after, false},
        {"delay_us", &o->delay_us, false},
        {"once", &o->once, false},
        {"read_error", &o->error[FAULTY_READ], true},
        {"write_error", &o->error[FAULTY_WRITE], true},
        {"open_error", &o->error[FAULTY_OPEN], true},
        {"commit_error", &o->error[FAULTY_COMMIT], true},
        {"sync_error", &o->error[FAULTY_SYNC], true},
        {"short", &o->shorter, true},
        {"flip", &o->flip, true},
        {"lost", &o->lost, true},
        {"hang", &o->hang, true},
        {"reorder", &o->reorder, true},
        {"dup", &o->dup, true},
        {"commit_lost", &o->commit_lost, true},
        {"cut", &o->cut, true},
    };
    size_t i;

    for (i = 0; i < HL_LEN(keys); i++) {
        if (strcmp(key, keys[i].key))
            continue;
        return keys[i].rate ? parse_rate(value, keys[i].value)
                            : hl_parse_size(value, keys[i].value);
    }
    return HAUL_E_INVAL;
}

/* text is cut up. */
static int parse_options(struct faulty_options *o, char *text,
                         struct hl_error *err)
{
    char *item, *value;

    while ((item = strsep(&text, ",")) != NULL) {
        if (!*item)
            continue;
        value = strchr(item, '=');
        if (value)
            *value++ = '\0';
        if (!value || parse_option(o, item, value))
            return hl_err(err, HAUL_E_INVAL, 0,
                          "'faulty:': cannot understand '%s'", item);
    }
    if (o->delay_us > UINT64_C(3600000000))
        return hl_err(err, HAUL_E_INVAL, 0, "'faulty:': 'delay_us' is long");
    return 0;
}

int hl_faulty_url_parse(const struct hl_url *url, struct faulty_options *o,
                        struct hl_url *inner, struct hl_error *err)
{
    char *text = hl_asprintf("%s%s%s", url->path, url->query ? "?" : "",
                             url->query ? url->query : "");
    char *colon = text ? strchr(text, ':') : NULL;
    int rc;

    memset(o, 0, sizeof(*o));
    if (!text) {
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    } else if (!colon) {
        rc = hl_err(err, HAUL_E_INVAL, 0, "'faulty:' wraps nothing");
    } else {
        *colon = '\0';
        rc = parse_options(o, text, err);
        if (!rc)
            rc = hl_url_parse(colon + 1, inner, err);
    }
    hl_free(text);
    return rc;
}
