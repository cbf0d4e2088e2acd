/*
 * The generator of gen.h. Random bytes are splitmix64 used as a counter mode
 * (word n is the mix of seed and n), in the byte order of the machine; text
 * has lines of one length, so that any offset is found by a division.
 */
#include "gen.h"

#include <string.h>

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

static inline uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void fill_random(uint64_t base, uint64_t offset, uint8_t *data,
                        size_t len)
{
    uint64_t z = base + (offset / 8) * GOLDEN, v;
    size_t skip = offset % 8, n;

    if (skip) {
        v = mix(z);
        n = hl_min(8 - skip, len);
        memcpy(data, (const uint8_t *)&v + skip, n);
        z += GOLDEN;
        data += n;
        len -= n;
    }
    for (; len >= 8; len -= 8, data += 8, z += GOLDEN) {
        v = mix(z);
        memcpy(data, &v, 8);
    }
    v = mix(z);
    memcpy(data, &v, len);
}

/* id, account, time, state, amount, five-letter words, tabs between. */
#define WORDS 8
#define LINE (12 + 1 + 7 + 1 + 26 + 1 + 7 + 1 + 8 + 1 + WORDS * 6)

static char *put_number(char *p, uint64_t v, int digits)
{
    int i;

    for (i = digits - 1; i >= 0; i--, v /= 10)
        p[i] = (char)('0' + v % 10);
    return p + digits;
}

static char *put_text(char *p, const char *text)
{
    size_t n = strlen(text);

    memcpy(p, text, n);
    return p + n;
}

static char *put_time(char *p, uint64_t n)
{
    p = put_text(p, "2024-");
    p = put_number(p, 1 + n / 2592000 % 12, 2);
    p = put_text(p, "-");
    p = put_number(p, 1 + n / 86400 % 28, 2);
    p = put_text(p, " ");
    p = put_number(p, n / 3600 % 24, 2);
    p = put_text(p, ":");
    p = put_number(p, n / 60 % 60, 2);
    p = put_text(p, ":");
    p = put_number(p, n % 60, 2);
    p = put_text(p, ".");
    return put_number(p, mix(n) % 1000000, 6);
}

static void make_line(uint64_t base, uint64_t n, char *line)
{
    static const char states[4][8] = {"pending", "shipped", "waiting",
                                      "invoice"};
    static const char words[16][6] = {
        "table", "green", "motor", "paper", "light", "house", "water", "metal",
        "small", "large", "white", "black", "round", "cable", "panel", "frame"};
    uint64_t r = mix(base + n * GOLDEN);
    char *p = put_number(line, n + 1, 12);
    int i;

    p = put_text(p, "\t");
    p = put_number(p, r % 50000, 7);
    p = put_text(p, "\t");
    p = put_time(p, n);
    p = put_text(p, "\t");
    p = put_text(p, states[r >> 62]);
    p = put_text(p, "\t");
    p = put_number(p, (r >> 8) % 10000, 5);
    p = put_text(p, ".");
    p = put_number(p, (r >> 24) % 100, 2);
    p = put_text(p, "\t");
    for (i = 0; i < WORDS; i++) {
        p = put_text(p, words[(r >> (28 + 4 * i)) % 16]);
        *p++ = i + 1 < WORDS ? ' ' : '\n';
    }
    HL_ASSERT(p == line + LINE);
}

static void fill_text(uint64_t base, uint64_t offset, uint8_t *data, size_t len)
{
    uint64_t n = offset / LINE;
    size_t skip = offset % LINE, part;
    char line[LINE];

    while (len) {
        make_line(base, n++, line);
        part = hl_min(LINE - skip, len);
        memcpy(data, line + skip, part);
        data += part;
        len -= part;
        skip = 0;
    }
}

void hl_gen_fill(uint64_t seed, bool text, uint64_t offset, uint8_t *data,
                 size_t len)
{
    uint64_t base = mix(seed + GOLDEN);

    if (text)
        fill_text(base, offset, data, len);
    else
        fill_random(base, offset, data, len);
}
