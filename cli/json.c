/* JSON for output: one object a line, valid whatever the strings hold. */
#include <inttypes.h>
#include <string.h>

#include "cli.h"

/* RFC 8259 section 7. What is not UTF-8 is shown as in messages: \xNN. */
static void put_string(FILE *out, const char *s, size_t bytes)
{
    const char *end = s + bytes;

    putc('"', out);
    while (s < end) {
        unsigned char c = (unsigned char)*s;
        size_t len = text_utf8(s);

        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else if (len == 0)
            fprintf(out, "\\\\x%02x", c);
        else
            fwrite(s, 1, len, out);
        s += len ? len : 1;
    }
    putc('"', out);
}

static void put_key(struct json *j, const char *key)
{
    if (j->more)
        putc(',', j->out);
    j->more = true;
    put_string(j->out, key, strlen(key));
    putc(':', j->out);
}

void json_begin(struct json *j, FILE *out)
{
    j->out = out;
    j->more = false;
    putc('{', out);
}

void json_text(struct json *j, const char *key, const char *value)
{
    json_bytes(j, key, value, value ? strlen(value) : 0);
}

void json_bytes(struct json *j, const char *key, const char *value, size_t len)
{
    put_key(j, key);
    if (value)
        put_string(j->out, value, len);
    else
        fputs("null", j->out);
}

void json_u64(struct json *j, const char *key, uint64_t value)
{
    put_key(j, key);
    if (value == UINT64_MAX)
        fputs("null", j->out);
    else
        fprintf(j->out, "%" PRIu64, value);
}

void json_seconds(struct json *j, const char *key, double value)
{
    put_key(j, key);
    if (value < 0)
        fputs("null", j->out);
    else
        fprintf(j->out, "%.3f", value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    put_key(j, key);
    fputs(value ? "true" : "false", j->out);
}

void json_open(struct json *j, const char *key)
{
    put_key(j, key);
    putc('{', j->out);
    j->more = false;
}

void json_close(struct json *j)
{
    putc('}', j->out);
    j->more = true;
}

void json_end(struct json *j)
{
    fputs("}\n", j->out);
    fflush(j->out);
}
