/*
 * Log areas by name, and lines to the caller's function.
 *
 * Any thread; struct hl_log is written before threads start.
 */
#include <stdio.h>
#include <string.h>

#include "log.h"

#define LINE_MAX_BYTES 1024

static const char *const hl_log_area_names[] = {
    "engine", "io", "net", "ssh", "uring", "store", "verify",
};
#define AREAS_ALL ((UINT32_C(1) << HL_LEN(hl_log_area_names)) - 1)

_Static_assert(HL_AREA_VERIFY == 1 << (HL_LEN(hl_log_area_names) - 1),
               "hl_log_area_names has one name for each area");

static bool word_is(const char *word, size_t len, const char *name)
{
    return strlen(name) == len && memcmp(word, name, len) == 0;
}

/* Bits of one area, 0 when there is none of that name. */
static uint32_t find_area(const char *word, size_t len)
{
    if (word_is(word, len, "all"))
        return AREAS_ALL;
    for (size_t i = 0; i < HL_LEN(hl_log_area_names); i++)
        if (word_is(word, len, hl_log_area_names[i]))
            return UINT32_C(1) << i;
    return 0;
}

int hl_log_parse_areas(const char *areas, uint32_t *out, struct hl_error *err)
{
    uint32_t bits = 0;

    for (const char *s = areas; *s;) {
        bool minus = *s == '-';
        const char *word = s + minus;
        size_t len = strcspn(word, ",");
        uint32_t found = find_area(word, len);

        if (!found) {
            hl_err(err, HAUL_E_INVAL, 0, "unknown log area '%.*s'",
                   (int)hl_min(len, 64), word);
            hl_err_hint(err, "Areas are all, engine, io, net, ssh, uring, "
                             "store and verify, separated by commas; a minus "
                             "takes one out.");
            return HAUL_E_INVAL;
        }
        bits = minus ? bits & ~found : bits | found;
        s = word + len;
        if (*s == ',')
            s++;
    }
    *out = bits;
    return 0;
}

void hl_log_write(const struct hl_log *log, int level, enum hl_area area,
                  const char *fmt, ...)
{
    char raw[LINE_MAX_BYTES] = "", line[LINE_MAX_BYTES];
    size_t i = 0;
    va_list args;

    HL_ASSERT(log->fn);
    while (i + 1 < HL_LEN(hl_log_area_names) && !((unsigned)area & 1u << i))
        i++;
    va_start(args, fmt);
    vsnprintf(raw, sizeof(raw), fmt, args);
    va_end(args);
    hl_escape(line, sizeof(line), raw);
    log->fn(log->user, level, hl_log_area_names[i], line);
}
