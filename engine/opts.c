/*
 * Values of the options in haul_options.def, checked when they are set.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "opts.h"

static const struct haul_opt_info infos[] = {
#define X(ID, id_, name_, type_, scope_, min_, max_, dflt_, text_, argument_,  \
          group_, help_)                                                       \
    {                                                                          \
        .name = (name_),                                                       \
        .argument = (argument_),                                               \
        .group = (group_),                                                     \
        .help = (help_),                                                       \
        .dflt_text = (text_),                                                  \
        .min = (min_),                                                         \
        .max = (max_),                                                         \
        .dflt = (dflt_),                                                       \
        .id = (id_),                                                           \
        .type = HAUL_OPT_##type_,                                              \
        .scope = HAUL_OPT_##scope_,                                            \
    },
#include "haul_options.def"
#undef X
};

struct value {
    bool is_set;
    int64_t number;
    char *text;
};

struct hl_opts {
    struct value values[HL_LEN(infos)];
};

const struct haul_opt_info *haul_opt_next(const struct haul_opt_info *prev)
{
    if (!prev)
        return infos;
    return prev + 1 < infos + HL_LEN(infos) ? prev + 1 : NULL;
}

const struct haul_opt_info *hl_opt_info(int id)
{
    for (size_t i = 0; i < HL_LEN(infos); i++)
        if (infos[i].id == id)
            return &infos[i];
    return NULL;
}

static bool is_number(const struct haul_opt_info *info)
{
    return info->type <= HAUL_OPT_FLAG;
}

int hl_opts_new(struct hl_opts **out)
{
    *out = hl_malloc(sizeof(**out));
    return *out ? 0 : HAUL_E_NOMEM;
}

void hl_opts_free(struct hl_opts *o)
{
    if (!o)
        return;
    for (size_t i = 0; i < HL_LEN(infos); i++)
        hl_free_secret(o->values[i].text);
    hl_free(o);
}

/* ---- Numbers as text ---------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits only at *s, which is moved behind them. */
static int parse_digits(const char **s, uint64_t *out)
{
    uint64_t n = 0;

    if (!is_digit(**s))
        return HAUL_E_INVAL;
    for (; is_digit(**s); (*s)++)
        if (__builtin_mul_overflow(n, UINT64_C(10), &n) ||
            __builtin_add_overflow(n, (uint64_t)(**s - '0'), &n))
            return HAUL_E_INVAL;
    *out = n;
    return 0;
}

static bool skip_letter(const char **s, char lower)
{
    if ((**s | 0x20) != lower)
        return false;
    (*s)++;
    return true;
}

/* "k", "ki", "kib", "" … to the number of bytes; 0 when it is no unit. */
static uint64_t parse_unit(const char *s)
{
    static const char letters[] = "kmgt";
    uint64_t unit = 1;

    for (unsigned i = 0; letters[i]; i++) {
        if (!skip_letter(&s, letters[i]))
            continue;
        if (skip_letter(&s, 'i')) {
            unit = UINT64_C(1) << 10 * (i + 1);
        } else {
            for (unsigned k = 0; k <= i; k++)
                unit *= 1000;
        }
        break;
    }
    skip_letter(&s, 'b');
    return *s ? 0 : unit;
}

int hl_parse_size(const char *text, uint64_t *out)
{
    const char *s = text, *point = NULL;
    uint64_t whole, unit, part = 0;

    if (parse_digits(&s, &whole))
        return HAUL_E_INVAL;
    if (*s == '.') {
        point = s++;
        if (!is_digit(*s))
            return HAUL_E_INVAL;
        while (is_digit(*s))
            s++;
    }
    unit = parse_unit(s);
    if (unit == 0 || (point && unit == 1))
        return HAUL_E_INVAL;
    /* From the last digit on; dropping the remainder at every step gives the
     * same as dropping it once. */
    if (point)
        while (--s > point)
            part = ((uint64_t)(*s - '0') * unit + part) / 10;
    if (__builtin_mul_overflow(whole, unit, &whole) ||
        __builtin_add_overflow(whole, part, out))
        return HAUL_E_INVAL;
    return 0;
}

/* ---- Setting ------------------------------------------------------------ */

static int find_to_set(struct hl_opts *o, int scope, int id,
                       const struct haul_opt_info **info, struct value **value,
                       struct hl_error *err)
{
    *info = hl_opt_info(id);
    if (!*info)
        return hl_err(err, HAUL_E_INVAL, 0, "unknown option '%d'", id);
    if (scope && (*info)->scope != scope)
        return hl_err(
            err, HAUL_E_INVAL, 0, "option '%s' is one of %s", (*info)->name,
            (*info)->scope == HAUL_OPT_ENGINE ? "the engine" : "a transfer");
    *value = &o->values[*info - infos];
    return 0;
}

static int refuse_range(const struct haul_opt_info *info, const char *v,
                        struct hl_error *err)
{
    return hl_err(
        err, HAUL_E_INVAL, 0,
        "'%s' for option '%s' is not a %s from %" PRId64 " to %" PRId64, v,
        info->name, info->type == HAUL_OPT_SIZE ? "size" : "number", info->min,
        info->max);
}

static bool in_range(const struct haul_opt_info *info, int64_t n)
{
    return n >= info->min && n <= info->max;
}

static int set_number(const struct haul_opt_info *info, struct value *value,
                      const char *v, struct hl_error *err)
{
    const char *s = v;
    uint64_t n;
    int rc;

    if (info->type == HAUL_OPT_SIZE) {
        rc = hl_parse_size(v, &n);
    } else {
        rc = parse_digits(&s, &n);
        if (*s)
            rc = HAUL_E_INVAL;
    }
    if (rc || n > INT64_MAX || !in_range(info, (int64_t)n))
        return refuse_range(info, v, err);
    value->number = (int64_t)n;
    value->is_set = true;
    return 0;
}

/* Is v the word at "word", which is as long as len? "append[=OFFSET]" stands
 * for "append" and "append=SIZE". */
static bool matches_word(const char *word, size_t len, const char *v)
{
    size_t name = strcspn(word, "[|");
    uint64_t size;

    if (strncmp(word, v, name) != 0)
        return false;
    if (!v[name])
        return true;
    return name < len && v[name] == '=' && !hl_parse_size(v + name + 1, &size);
}

static bool is_one_of(const char *words, const char *v)
{
    for (;;) {
        size_t len = strcspn(words, "|");

        if (matches_word(words, len, v))
            return true;
        if (!words[len])
            return false;
        words += len + 1;
    }
}

static int set_text(const struct haul_opt_info *info, struct value *value,
                    const char *v, struct hl_error *err)
{
    bool more = info->type == HAUL_OPT_LIST && value->is_set;
    char *copy;

    if (info->type == HAUL_OPT_WORD && !is_one_of(info->argument, v))
        return hl_err(err, HAUL_E_INVAL, 0,
                      "'%s' for option '%s' is not one of %s", v, info->name,
                      info->argument);
    if (info->type == HAUL_OPT_FILE && !*v)
        return hl_err(err, HAUL_E_INVAL, 0, "option '%s' needs a file name",
                      info->name);
    /* A line that is two would be another setting. */
    if (info->type == HAUL_OPT_LIST && strpbrk(v, "\r\n"))
        return hl_err(err, HAUL_E_INVAL, 0,
                      "a line break stands in a value for option '%s'",
                      info->name);
    copy = more ? hl_asprintf("%s\n%s", value->text, v) : hl_strdup(v);
    if (!copy)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    hl_free_secret(value->text); /* a header may hold a token */
    value->text = copy;
    value->is_set = true;
    return 0;
}

int hl_opts_set_str(struct hl_opts *o, int scope, int id, const char *v,
                    struct hl_error *err)
{
    const struct haul_opt_info *info;
    struct value *value;
    int rc = find_to_set(o, scope, id, &info, &value, err);

    if (rc)
        return rc;
    if (!v) {
        hl_free_secret(value->text);
        *value = (struct value){0};
        return 0;
    }
    return is_number(info) ? set_number(info, value, v, err)
                           : set_text(info, value, v, err);
}

int hl_opts_set_i64(struct hl_opts *o, int scope, int id, int64_t v,
                    struct hl_error *err)
{
    const struct haul_opt_info *info;
    struct value *value;
    int rc = find_to_set(o, scope, id, &info, &value, err);

    if (rc)
        return rc;
    if (!is_number(info))
        return hl_err(err, HAUL_E_INVAL, 0, "option '%s' takes no number",
                      info->name);
    if (!in_range(info, v)) {
        char text[24];

        snprintf(text, sizeof(text), "%" PRId64, v);
        return refuse_range(info, text, err);
    }
    value->number = v;
    value->is_set = true;
    return 0;
}

/* ---- Reading ------------------------------------------------------------ */

int64_t hl_opts_i64(const struct hl_opts *o, int id)
{
    const struct haul_opt_info *info = hl_opt_info(id);
    const struct value *value;

    HL_ASSERT(info && is_number(info));
    value = &o->values[info - infos];
    return value->is_set ? value->number : info->dflt;
}

const char *hl_opts_str(const struct hl_opts *o, int id)
{
    const struct haul_opt_info *info = hl_opt_info(id);
    const struct value *value;

    HL_ASSERT(info && !is_number(info));
    value = &o->values[info - infos];
    return value->is_set ? value->text : info->dflt_text;
}

bool hl_opts_is_set(const struct hl_opts *o, int id)
{
    const struct haul_opt_info *info = hl_opt_info(id);

    HL_ASSERT(info);
    return o->values[info - infos].is_set;
}
