/* Values of the options of include/haul_options.def. Not locked: written
 * before a transfer starts, read by anyone after. */
#ifndef HL_OPTS_H
#define HL_OPTS_H

#include "base.h"

struct hl_opts;

int hl_opts_new(struct hl_opts **out);
void hl_opts_free(struct hl_opts *o);

/* Text as a user types it, for any type; NULL v resets to the default. Of a
 * LIST each call adds a line, which holds no line break itself. scope: 0 takes
 * every option. HAUL_E_INVAL with a message that names option, value and
 * range. */
int hl_opts_set_str(struct hl_opts *o, int scope, int id, const char *v,
                    struct hl_error *err);
int hl_opts_set_i64(struct hl_opts *o, int scope, int id, int64_t v,
                    struct hl_error *err);

/* Value or default; of a LIST all lines, with '\n' between them. Strings live
 * until the option is set again. */
int64_t hl_opts_i64(const struct hl_opts *o, int id);
const char *hl_opts_str(const struct hl_opts *o, int id);
/* Was it set explicitly? */
bool hl_opts_is_set(const struct hl_opts *o, int id);

/* NULL for an unknown id. */
const struct haul_opt_info *hl_opt_info(int id);

/* "64mi" to bytes: k m g t = 1000^n, ki mi gi ti = 1024^n, upper or lower
 * case, an optional final b, a decimal fraction ("1.5g"). HAUL_E_INVAL. */
int hl_parse_size(const char *text, uint64_t *out);

#endif /* HL_OPTS_H */
