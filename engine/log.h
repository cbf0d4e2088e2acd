/* Log lines to the caller's function, off by default. Any thread. */
#ifndef HL_LOG_H
#define HL_LOG_H

#include "base.h"

/* One bit an area; hl_log_area_names[] in log.c has the same order. */
enum hl_area {
    HL_AREA_ENGINE = 1 << 0,
    HL_AREA_IO = 1 << 1,
    HL_AREA_NET = 1 << 2,
    HL_AREA_SSH = 1 << 3,
    HL_AREA_URING = 1 << 4,
    HL_AREA_STORE = 1 << 5,
    HL_AREA_VERIFY = 1 << 6
};

struct hl_log {
    haul_log_fn *fn; /* set before threads start */
    void *user;
    int level;
    uint32_t areas; /* enum hl_area bits; 0: off, one branch */
};

/* "all,-net" to bits; HAUL_E_INVAL names the unknown area. */
int hl_log_parse_areas(const char *areas, uint32_t *out, struct hl_error *err);
/* Never give it a secret; URLs go through hl_url_display(). */
void hl_log_write(const struct hl_log *log, int level, enum hl_area area,
                  const char *fmt, ...) HL_PRINTF(4, 5);

#define HL_LOG(log, lvl, area, ...)                                            \
    do {                                                                       \
        const struct hl_log *l_ = (log);                                       \
        if (l_ && l_->fn && l_->level >= (lvl) && (l_->areas & (area)))        \
            hl_log_write(l_, (lvl), (area), __VA_ARGS__);                      \
    } while (0)
#define HL_TRACE(log, area, ...) HL_LOG(log, HAUL_LOG_TRACE, area, __VA_ARGS__)
#define HL_INFO(log, area, ...) HL_LOG(log, HAUL_LOG_INFO, area, __VA_ARGS__)
#define HL_WARN(log, area, ...) HL_LOG(log, HAUL_LOG_WARN, area, __VA_ARGS__)

#endif /* HL_LOG_H */
