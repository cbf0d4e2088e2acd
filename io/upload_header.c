/*
 * What headers of resumable uploads say (upload_header.h). Pure, any thread.
 * The reader of structured fields follows the algorithms of RFC 9651 4.2 and
 * keeps only integers and booleans.
 */
#include "upload_header.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* RFC 9651 3.3.1. */
#define INTEGER_DIGITS 15
#define FRACTION_DIGITS 3

/* ---- Structured fields -------------------------------------------------- */

enum kind { KIND_INTEGER, KIND_BOOLEAN, KIND_OTHER };

struct item {
    enum kind kind;
    int64_t number; /* of an integer; of a boolean 0 or 1 */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_alpha(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z');
}

/* RFC 9110 5.6.2. */
static bool is_tchar(char c)
{
    return is_digit(c) || is_alpha(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_spaces(const char *s)
{
    while (*s == ' ')
        s++;
    return s;
}

static const char *skip_blanks(const char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    return s;
}

/* The readers return what follows, or NULL. */

static const char *read_number(const char *s, struct item *out)
{
    bool minus = *s == '-';
    int digits = 0, fraction = 0;

    s += minus;
    for (; is_digit(*s); s++) {
        if (++digits > INTEGER_DIGITS)
            return NULL;
        out->number = out->number * 10 + (*s - '0');
    }
    if (!digits)
        return NULL;
    out->kind = KIND_INTEGER;
    if (minus)
        out->number = -out->number;
    if (*s != '.')
        return s;
    out->kind = KIND_OTHER;
    for (s++; is_digit(*s); s++)
        fraction++;
    return fraction && fraction <= FRACTION_DIGITS &&
                   digits <= INTEGER_DIGITS - FRACTION_DIGITS
               ? s
               : NULL;
}

/* escapes: of a string, not of a display string, where '%' has its own. */
static const char *read_quoted(const char *s, bool escapes)
{
    for (s++; *s != '"'; s++) {
        if (*s < 0x20 || *s > 0x7e)
            return NULL;
        if (escapes && *s == '\\' && s[1] != '"' && s[1] != '\\')
            return NULL;
        s += escapes && *s == '\\';
    }
    return s + 1;
}

static const char *read_token(const char *s)
{
    while (is_tchar(*s) || *s == ':' || *s == '/')
        s++;
    return s;
}

static const char *read_bytes(const char *s)
{
    for (s++; *s != ':'; s++)
        if (!is_alpha(*s) && !is_digit(*s) && (!*s || !strchr("+/=", *s)))
            return NULL;
    return s + 1;
}

static const char *read_bare(const char *s, struct item *out)
{
    out->kind = KIND_OTHER;
    out->number = 0;
    if (*s == '-' || is_digit(*s))
        return read_number(s, out);
    if (*s == '"')
        return read_quoted(s, true);
    if (*s == '*' || is_alpha(*s))
        return read_token(s);
    if (*s == ':')
        return read_bytes(s);
    if (*s == '%' && s[1] == '"')
        return read_quoted(s + 1, false);
    if (*s == '?' && (s[1] == '0' || s[1] == '1')) {
        out->kind = KIND_BOOLEAN;
        out->number = s[1] - '0';
        return s + 2;
    }
    if (*s == '@') {
        s = read_number(s + 1, out);
        if (out->kind != KIND_INTEGER)
            s = NULL;
        out->kind = KIND_OTHER;
        return s;
    }
    return NULL;
}

static const char *read_key(const char *s)
{
    if (!is_lower(*s) && *s != '*')
        return NULL;
    while (is_lower(*s) || is_digit(*s) || (*s && strchr("_-.*", *s)))
        s++;
    return s;
}

/* Read over: no field here has any that says something. */
static const char *read_parameters(const char *s)
{
    struct item value;

    while (s && *s == ';') {
        s = read_key(skip_spaces(s + 1));
        if (s && *s == '=')
            s = read_bare(s + 1, &value);
    }
    return s;
}

static const char *read_item(const char *s, struct item *out)
{
    s = read_bare(s, out);
    return s ? read_parameters(s) : NULL;
}

static const char *read_inner_list(const char *s)
{
    struct item item;

    for (s = skip_spaces(s + 1); *s != ')'; s = skip_spaces(s)) {
        s = read_item(s, &item);
        if (!s || (*s != ' ' && *s != ')'))
            return NULL;
    }
    return read_parameters(s + 1);
}

/* "=VALUE", or nothing: true. */
static const char *read_member(const char *s, struct item *out)
{
    out->kind = KIND_BOOLEAN;
    out->number = 1;
    if (*s != '=')
        return read_parameters(s);
    if (s[1] != '(')
        return read_item(s + 1, out);
    out->kind = KIND_OTHER;
    return read_inner_list(s + 1);
}

/* A whole field that is one item. */
static bool is_item(const char *value, enum kind kind, struct item *out)
{
    const char *s = read_item(skip_spaces(value), out);

    return s && !*skip_spaces(s) && out->kind == kind;
}

bool hl_upload_integer(const char *value, uint64_t *out)
{
    struct item item;

    if (!is_item(value, KIND_INTEGER, &item) || item.number < 0)
        return false;
    *out = (uint64_t)item.number;
    return true;
}

bool hl_upload_boolean(const char *value, bool *out)
{
    struct item item;

    if (!is_item(value, KIND_BOOLEAN, &item))
        return false;
    *out = item.number;
    return true;
}

/* ---- Upload-Limit ------------------------------------------------------- */

void hl_upload_limit_init(struct hl_upload_limit *limit)
{
    limit->size_max = limit->append_max = HL_SIZE_UNKNOWN;
    limit->size_min = limit->append_min = 0;
}

static bool take_limit(struct hl_upload_limit *limit, const char *key,
                       size_t len, const struct item *item)
{
    const struct {
        const char *key;
        uint64_t *value;
    } known[] = {
        {"max-size", &limit->size_max},
        {"min-size", &limit->size_min},
        {"max-append-size", &limit->append_max},
        {"min-append-size", &limit->append_min},
    };

    for (size_t i = 0; i < HL_LEN(known); i++) {
        if (len != strlen(known[i].key) || memcmp(key, known[i].key, len) != 0)
            continue;
        if (item->kind != KIND_INTEGER || item->number < 0)
            return false;
        *known[i].value = (uint64_t)item->number;
    }
    return true;
}

bool hl_upload_limit(const char *value, struct hl_upload_limit *out)
{
    const char *s = skip_spaces(value), *key;
    struct hl_upload_limit limit;
    struct item item;
    size_t len;

    hl_upload_limit_init(&limit);
    while (*s) {
        key = s;
        s = read_key(s);
        if (!s)
            return false;
        len = (size_t)(s - key);
        s = read_member(s, &item);
        if (!s || !take_limit(&limit, key, len, &item))
            return false;
        s = skip_blanks(s);
        if (!*s)
            break;
        if (*s != ',')
            return false;
        s = skip_blanks(s + 1);
        if (!*s)
            return false; /* RFC 9651 4.2.2: no comma at the end */
    }
    *out = limit;
    return true;
}

/* ---- Lists of names ----------------------------------------------------- */

/* The next name of a list with commas, without blanks and parameters; NULL at
 * the end. *s stands behind it. */
static const char *next_name(const char **s, size_t *len)
{
    const char *name, *end;

    *s += strspn(*s, " \t,");
    if (!**s)
        return NULL;
    name = *s;
    *s += strcspn(*s, ",");
    end = name + hl_min(strcspn(name, ";"), (size_t)(*s - name));
    while (end > name && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *len = (size_t)(end - name);
    return name;
}

static bool is_name(const char *s, size_t len, const char *name)
{
    return len == strlen(name) && strncasecmp(s, name, len) == 0;
}

bool hl_upload_lists(const char *value, const char *name)
{
    const char *s;
    size_t len;

    while ((s = next_name(&value, &len)))
        if (is_name(s, len, name))
            return true;
    return false;
}

/* ---- tus ---------------------------------------------------------------- */

struct name {
    const char *name;
    uint32_t bit;
};

static const struct name extensions[] = {
    {"creation", HL_TUS_CREATION},
    {"creation-with-upload", HL_TUS_WITH_UPLOAD},
    {"creation-defer-length", HL_TUS_DEFER_LENGTH},
    {"expiration", HL_TUS_EXPIRATION},
    {"checksum", HL_TUS_CHECKSUM},
    {"checksum-trailer", HL_TUS_CHECKSUM_TRAILER},
    {"termination", HL_TUS_TERMINATION},
    {"concatenation", HL_TUS_CONCATENATION},
    {"concatenation-unfinished", HL_TUS_CONCATENATION_UNFINISHED},
    {NULL, 0}};

static const struct name sums[] = {
    {"sha1", HL_TUS_SHA1}, {"sha256", HL_TUS_SHA256}, {"sha512", HL_TUS_SHA512},
    {"md5", HL_TUS_MD5},   {"crc32", HL_TUS_CRC32},   {NULL, 0}};

bool hl_tus_version(const char *value)
{
    return hl_upload_lists(value, "1.0.0");
}

static uint32_t bits_of(const char *value, const struct name *names)
{
    uint32_t bits = 0;

    for (; names->name; names++)
        if (hl_upload_lists(value, names->name))
            bits |= names->bit;
    return bits;
}

static void text_of(uint32_t bits, const struct name *names, char *out,
                    size_t cap)
{
    size_t len = 0;

    out[0] = '\0';
    for (; names->name && len < cap; names++)
        if (bits & names->bit)
            len += (size_t)snprintf(out + len, cap - len, "%s%s",
                                    len ? "," : "", names->name);
}

uint32_t hl_tus_extensions(const char *value)
{
    return bits_of(value, extensions);
}

uint32_t hl_tus_sums(const char *value)
{
    return bits_of(value, sums);
}

void hl_tus_extensions_text(uint32_t bits, char *out, size_t cap)
{
    text_of(bits, extensions, out, cap);
}

void hl_tus_sums_text(uint32_t bits, char *out, size_t cap)
{
    text_of(bits, sums, out, cap);
}
