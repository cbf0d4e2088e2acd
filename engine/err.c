/*
 * Errors by value and the table of codes in haul_errors.def.
 *
 * Any thread; nothing is kept.
 */
#include <stdio.h>
#include <string.h>

#include "base.h"

/* What a message may hold before it is cut to the field. Longer than the
 * fields, so that the cut never depends on this. */
#define RAW_MAX 512

struct code {
    int code;
    int exit_status;
    enum hl_retry_class retry;
    const char *name;
    const char *text;
};

static const struct code codes[] = {
    {HAUL_OK, 0, HL_RETRY_NEVER, "HAUL_OK", "done"},
#define X(name, code, exit_status, retry, text)                                \
    {code, exit_status, HL_RETRY_##retry, "HAUL_E_" #name, text},
#include "haul_errors.def"
#undef X
};

static const struct code unknown = {0, 1, HL_RETRY_NEVER, "HAUL_E_UNKNOWN",
                                    "unknown error"};

static const struct code *find_code(int code)
{
    for (size_t i = 0; i < HL_LEN(codes); i++)
        if (codes[i].code == code)
            return &codes[i];
    return &unknown;
}

const char *haul_err_name(int err)
{
    return find_code(err)->name;
}

const char *haul_err_text(int err)
{
    return find_code(err)->text;
}

int haul_err_exit_status(int err)
{
    return find_code(err)->exit_status;
}

enum hl_retry_class hl_err_retry_class(int code)
{
    return find_code(code)->retry;
}

/* Bytes of the printable character at s, 0 when it must be escaped: control
 * characters and what RFC 3629 section 4 does not allow. The NUL at the end
 * stops every look ahead. */
static size_t char_bytes(const unsigned char *s)
{
    unsigned char first_min = 0x80, first_max = 0xbf;
    size_t n;

    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] == 0xc2 || s[0] == 0xe0)
        first_min = 0xa0; /* below: C1 controls, overlong */
    else if (s[0] == 0xf0)
        first_min = 0x90; /* overlong */
    else if (s[0] == 0xed)
        first_max = 0x9f; /* surrogates */
    else if (s[0] == 0xf4)
        first_max = 0x8f; /* above U+10FFFF */
    if (s[1] < first_min || s[1] > first_max)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

size_t hl_escape(char *out, size_t cap, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *s = (const unsigned char *)text;
    size_t len = 0;

    HL_ASSERT(cap > 0);
    while (*s) {
        size_t n = char_bytes(s);

        if (len + (n ? n : 4) >= cap)
            break;
        if (n) {
            memcpy(out + len, s, n);
            len += n;
            s += n;
        } else {
            out[len++] = '\\';
            out[len++] = 'x';
            out[len++] = hex[*s >> 4];
            out[len++] = hex[*s & 15];
            s++;
        }
    }
    out[len] = '\0';
    return len;
}

static void format_field(char *out, size_t cap, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));

static void format_field(char *out, size_t cap, const char *fmt, va_list args)
{
    char raw[RAW_MAX] = "";

    vsnprintf(raw, sizeof(raw), fmt, args);
    hl_escape(out, cap, raw);
}

int hl_err(struct hl_error *err, int code, int sys_errno, const char *fmt, ...)
{
    char cause[96] = "", buf[96];
    size_t len;
    va_list args;

    HL_ASSERT(code < 0);
    if (!err || err->code)
        return code;
    if (sys_errno)
        snprintf(cause, sizeof(cause), ": %s",
                 strerror_r(sys_errno, buf, sizeof(buf)));
    err->code = code;
    err->sys_errno = sys_errno;
    err->detail[0] = err->hint[0] = '\0';
    /* A long name must not push the cause out of the message. */
    va_start(args, fmt);
    format_field(err->message, sizeof(err->message) - strlen(cause), fmt, args);
    va_end(args);
    len = strlen(err->message);
    memcpy(err->message + len, cause, strlen(cause) + 1);
    return code;
}

int hl_err_detail(struct hl_error *err, const char *fmt, ...)
{
    va_list args;

    if (!err)
        return HAUL_E_BUG;
    if (err->code && !err->detail[0]) {
        va_start(args, fmt);
        format_field(err->detail, sizeof(err->detail), fmt, args);
        va_end(args);
    }
    return err->code;
}

int hl_err_hint(struct hl_error *err, const char *fmt, ...)
{
    va_list args;

    if (!err)
        return HAUL_E_BUG;
    if (err->code && !err->hint[0]) {
        va_start(args, fmt);
        format_field(err->hint, sizeof(err->hint), fmt, args);
        va_end(args);
    }
    return err->code;
}

void hl_err_clear(struct hl_error *err)
{
    memset(err, 0, sizeof(*err));
}
