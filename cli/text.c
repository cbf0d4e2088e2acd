/* Numbers and foreign text as people read them. Any thread. */
#include <stdarg.h>
#include <string.h>

#include "cli.h"

#define WORD_MAX 32

void text_size(char *out, size_t cap, uint64_t bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    double n = (double)bytes / 1000;
    size_t unit = 0;

    if (bytes < 1000) {
        snprintf(out, cap, "%u B", (unsigned)bytes);
        return;
    }
    /* 999.5 and more would be printed with four digits. */
    for (; n >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
        n /= 1000;
    snprintf(out, cap, "%.*f %s",
             n < 9.995   ? 2
             : n < 99.95 ? 1
                         : 0,
             n, units[unit]);
}

void text_duration(char *out, size_t cap, double seconds)
{
    uint64_t s;

    if (seconds < 9.95) {
        snprintf(out, cap, "%.1f s", seconds);
        return;
    }
    s = (uint64_t)(seconds + 0.5);
    if (s < 60)
        snprintf(out, cap, "%u s", (unsigned)s);
    else if (s < 3600)
        snprintf(out, cap, "%u min %u s", (unsigned)(s / 60),
                 (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(out, cap, "%u h %u min", (unsigned)(s / 3600),
                 (unsigned)(s / 60 % 60));
    else
        snprintf(out, cap, "%u d %u h", (unsigned)(s / 86400),
                 (unsigned)(s / 3600 % 24));
}

void text_clock(char *out, size_t cap, double seconds)
{
    unsigned s;

    if (!(seconds < 100 * 86400.0)) {
        snprintf(out, cap, "-");
        return;
    }
    s = (unsigned)(seconds + 0.5);
    if (s < 3600)
        snprintf(out, cap, "%u:%02u", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, cap, "%u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, cap, "%u d %u h", s / 86400, s / 3600 % 24);
}

/* RFC 3629 section 4: no overlong forms, no surrogates, at most U+10FFFF. */
size_t text_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t len = s[0] < 0x80   ? 1
                 : s[0] < 0xc2 ? 0
                 : s[0] < 0xe0 ? 2
                 : s[0] < 0xf0 ? 3
                 : s[0] < 0xf5 ? 4
                               : 0;

    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return len;
}

/* Bytes of the character at s when it may be shown as it is. C1 controls are
 * U+0080 to U+009F: 0xc2 and 0x80 to 0x9f. */
static size_t plain_length(const char *s)
{
    unsigned char c = (unsigned char)*s;
    bool control =
        c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0);

    return control ? 0 : text_utf8(s);
}

void text_escape(char *out, size_t cap, const char *text)
{
    size_t n = 0;

    while (*text) {
        size_t len = plain_length(text), need = len ? len : 4;

        if (n + need >= cap)
            break;
        if (len)
            memcpy(out + n, text, len);
        else
            snprintf(out + n, 5, "\\x%02x", (unsigned char)*text);
        n += need;
        text += len ? len : 1;
    }
    out[n] = '\0';
}

/* Returns the bytes of text that are written: one, or one character. */
static size_t put_character(FILE *out, const char *text)
{
    size_t len = plain_length(text);

    if (len)
        fwrite(text, 1, len, out);
    else
        fprintf(out, "\\x%02x", (unsigned char)*text);
    return len ? len : 1;
}

void text_put(FILE *out, const char *text)
{
    while (*text)
        text += put_character(out, text);
}

void text_put_lines(FILE *out, const char *text, size_t len)
{
    const char *end = text + len;

    while (text < end) {
        fputs("  ", out);
        while (text < end && *text != '\n') {
            /* The two that do no harm in a text. */
            if (*text == '\t' || (*text == '\r' && text[1] == '\n')) {
                fputs(*text == '\t' ? "\t" : "", out);
                text++;
            } else {
                text += put_character(out, text);
            }
        }
        text += text < end;
        putc('\n', out);
    }
}

size_t text_whole(const char *text, size_t len, size_t max)
{
    size_t cut = max;

    if (len <= max)
        return len;
    while (cut > 0 && max - cut < 3 && (text[cut] & 0xc0) == 0x80)
        cut--;
    return cut;
}

void text_cut(char *s, size_t columns)
{
    while (*s && columns--)
        s += text_utf8(s) ? text_utf8(s) : 1;
    *s = '\0';
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

unsigned text_distance(const char *a, const char *b)
{
    unsigned row[WORD_MAX + 1], length = (unsigned)strlen(b);

    if (length > WORD_MAX)
        return WORD_MAX;
    for (unsigned i = 0; i <= length; i++)
        row[i] = i;
    for (; *a; a++) {
        unsigned diagonal = row[0]++;

        for (unsigned i = 1; i <= length; i++) {
            unsigned above = row[i];

            row[i] =
                least(row[i] + 1, row[i - 1] + 1, diagonal + (*a != b[i - 1]));
            diagonal = above;
        }
    }
    return row[length];
}

void text_say(const char *fmt, ...)
{
    char line[4096];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    fputs("haul: ", stderr);
    text_put(stderr, line);
    fputc('\n', stderr);
}

void text_say_error(const struct haul_error *error, bool with_detail)
{
    text_say("%s", error->message && *error->message
                       ? error->message
                       : haul_err_text(error->code));
    if (with_detail && error->detail)
        text_say("detail: %s", error->detail);
    if (error->hint)
        text_say("hint: %s", error->hint);
}
