/* Parts, tokens and notes of uploads to S3. See s3_plan.h. */
#include "s3_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "http_header.h"
#include "s3_sign.h"
#include "stage.h"

#define MIB (UINT64_C(1) << 20)
#define PART_USUAL (64 * MIB)
#define PART_SMALL (8 * MIB)
/* Not all that may be: an expected size may be a little too small. */
#define COUNT_WANTED 9000
/* So many at least, of an object that is large enough: with eight connections
 * the last ones under way are one in eight of the time of one. */
#define COUNT_MIN 64
#define GROW 1000

/* ---- Parts -------------------------------------------------------------- */

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static int too_large(uint64_t size, struct hl_error *err)
{
    return hl_err(err, HAUL_E_INVAL, 0,
                  "%" PRIu64 " bytes are more than S3 takes as one object",
                  size);
}

static int no_room(uint64_t part, const struct hl_s3_cut *c,
                   struct hl_error *err)
{
    hl_err(err, HAUL_E_LIMIT, 0,
           "parts of %" PRIu64 " MiB do not fit into the memory",
           (part + MIB - 1) / MIB);
    if (c->expected)
        return hl_err_hint(err, "A pipe is kept until S3 has it: give "
                                "--memory at least twice that, or write it "
                                "to a file first.");
    return hl_err_hint(err, "A pipe is kept until S3 has it: give --memory at "
                            "least 16mi.");
}

/* Of size bytes in all; parts are equal. */
static int cut_equal(const struct hl_s3_cut *c, uint64_t size, uint64_t *part,
                     struct hl_error *err)
{
    uint64_t many = size / COUNT_MIN, n;

    n = hl_min(hl_max(many, PART_SMALL), PART_USUAL);
    if (c->small && c->chunk >= HL_S3_PART_MIN)
        n = c->chunk;
    if (size / COUNT_WANTED >= n)
        n = round_up(size / COUNT_WANTED + 1, MIB);
    n = round_up(n, c->chunk);
    if (n > HL_S3_PART_MAX)
        return too_large(size, err);
    *part = n;
    return 0;
}

/* Of a size that nobody knows: as small as goes at first, since a part begins
 * only when all of it is there. */
static int cut_growing(const struct hl_s3_cut *c, struct hl_parts *out,
                       struct hl_error *err)
{
    /* Two at once: one comes while the other goes. */
    uint64_t most = c->hold_max / 2 / c->chunk * c->chunk;
    uint64_t least = round_up(HL_S3_PART_MIN, c->chunk);

    most = hl_min(most, HL_S3_PART_MAX / c->chunk * c->chunk);
    if (most < least) {
        if (c->hold_max / c->chunk * c->chunk < least)
            return no_room(least, c, err);
        most = least;
    }
    if (c->equal) {
        out->size = most;
        return 0;
    }
    out->size = hl_min(hl_max(c->hold_max / 8, PART_SMALL), PART_USUAL);
    out->size = hl_min(round_up(out->size, c->chunk), most);
    out->grow = GROW;
    out->size_max = most / out->size * out->size;
    return 0;
}

int hl_s3_cut(const struct hl_s3_cut *c, struct hl_parts *out,
              struct hl_error *err)
{
    int rc;

    memset(out, 0, sizeof(*out));
    HL_ASSERT(c->chunk);
    if (c->size != HL_SIZE_UNKNOWN)
        return cut_equal(c, c->size, &out->size, err);
    if (!c->expected)
        return cut_growing(c, out, err);
    rc = cut_equal(c, c->expected, &out->size, err);
    if (rc || out->size <= c->hold_max / 2)
        return rc;
    /* Smaller ones do, where so many may be. */
    out->size = c->hold_max / 2 / c->chunk * c->chunk;
    if (out->size >= HL_S3_PART_MIN && c->expected / out->size < COUNT_WANTED)
        return 0;
    return no_room(round_up(c->expected / COUNT_WANTED + 1, MIB), c, err);
}

uint64_t hl_s3_part_count(const struct hl_parts *parts, uint64_t size)
{
    return size ? hl_parts_index(parts, size - 1) + 1 : 0;
}

uint64_t hl_s3_parts_room(const struct hl_parts *parts)
{
    return hl_parts_begin(parts, HL_S3_PART_COUNT);
}

/* ---- Tokens ------------------------------------------------------------- */

/* So that a number that was changed by hand is noticed. */
static bool make_check(const char *lines, size_t len, char out[17])
{
    char hex[HL_S3_SHA256_HEX];

    if (!hl_s3_sha256(lines, len, hex))
        return false;
    memcpy(out, hex, 16);
    out[16] = '\0';
    return true;
}

char *hl_s3_token_text(const struct hl_s3_token *t)
{
    char check[17], *lines, *text = NULL;

    lines = hl_asprintf("at=%s\nupload=%s\npart=%" PRIu64 "\ngrow=%" PRIu32
                        "\nmost=%" PRIu64 "\netag=%s\n",
                        t->at, t->id, t->parts.size, t->parts.grow,
                        t->parts.size_max, t->opaque ? "opaque" : "md5");
    if (lines && make_check(lines, strlen(lines), check))
        text = hl_asprintf("%scheck=%s\n", lines, check);
    hl_free_secret(lines);
    return text;
}

static int unfit(struct hl_error *err, const char *why)
{
    hl_err(err, HAUL_E_RESUME, 0,
           "the saved state of the upload does not fit: %s", why);
    return hl_err_hint(err, "Start anew with --resume never.");
}

/* The value of key, which stands once at most; NULL: it is not there, or out
 * of memory. */
static char *value_of(const char *text, const char *key)
{
    size_t n = strlen(key);

    for (const char *at = text; *at;) {
        size_t len = strcspn(at, "\n");

        if (!strncmp(at, key, n) && at[n] == '=')
            return hl_asprintf("%.*s", (int)(len - n - 1), at + n + 1);
        at += len + (at[len] == '\n');
    }
    return NULL;
}

static bool number_of(const char *text, const char *key, uint64_t *out)
{
    char *value = value_of(text, key);
    bool ok = value && hl_http_number(value, out);

    hl_free(value);
    return ok;
}

static bool is_whole(const char *text)
{
    const char *last = strstr(text, "\ncheck=");
    char check[17];

    return last && strlen(last) == 7 + 16 + 1 && last[23] == '\n' &&
           make_check(text, (size_t)(last + 1 - text), check) &&
           !memcmp(last + 7, check, 16);
}

static bool parts_good(const struct hl_parts *p, uint64_t chunk)
{
    if (p->size < HL_S3_PART_MIN || p->size > HL_S3_PART_MAX ||
        (chunk && p->size % chunk))
        return false;
    return !p->grow ||
           (p->size_max >= p->size && p->size_max <= HL_S3_PART_MAX &&
            p->size_max % p->size == 0);
}

static int read_parts(const char *text, uint64_t size, uint64_t chunk,
                      struct hl_parts *out, struct hl_error *err)
{
    uint64_t grow = 0;

    if (!number_of(text, "part", &out->size) ||
        !number_of(text, "grow", &grow) ||
        !number_of(text, "most", &out->size_max) || grow > HL_S3_PART_COUNT)
        return unfit(err, "no part size");
    out->grow = (uint32_t)grow;
    if (!parts_good(out, chunk))
        return unfit(err, "an impossible part size");
    if (size != HL_SIZE_UNKNOWN && size > hl_s3_parts_room(out))
        return unfit(err, "more than 10,000 parts");
    return 0;
}

int hl_s3_token_read(const char *text, uint64_t size, uint64_t chunk,
                     struct hl_s3_token *out, struct hl_error *err)
{
    char *etag;
    int rc;

    memset(out, 0, sizeof(*out));
    if (!is_whole(text))
        return unfit(err, "it is incomplete or was changed");
    rc = read_parts(text, size, chunk, &out->parts, err);
    if (rc)
        return rc;
    out->at = value_of(text, "at");
    out->id = value_of(text, "upload");
    etag = value_of(text, "etag");
    if (out->at && out->id && etag && out->id[0])
        out->opaque = !strcmp(etag, "opaque");
    else
        rc = unfit(err, "it names no upload");
    hl_free(etag);
    if (rc)
        hl_s3_token_fini(out);
    return rc;
}

void hl_s3_token_fini(struct hl_s3_token *t)
{
    hl_free(t->at);
    hl_free_secret(t->id);
    memset(t, 0, sizeof(*t));
}

/* ---- ETags -------------------------------------------------------------- */

bool hl_s3_etag(const char *value, char out[HL_S3_ETAG_MAX])
{
    size_t len;

    if (!value || !strncmp(value, "W/", 2))
        return false;
    len = strlen(value);
    if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
        value++;
        len -= 2;
    }
    if (!len || len >= HL_S3_ETAG_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (value[i] <= 0x20 || value[i] >= 0x7f || value[i] == '"')
            return false;
    memcpy(out, value, len);
    out[len] = '\0';
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hl_s3_etag_md5(const char *etag, uint8_t out[HL_S3_MD5])
{
    if (strlen(etag) != 2 * HL_S3_MD5)
        return false;
    for (size_t i = 0; i < HL_S3_MD5; i++) {
        int high = hex_value(etag[2 * i]), low = hex_value(etag[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* ---- Notes -------------------------------------------------------------- */

char *hl_s3_note_text(const struct hl_s3_note *n)
{
    char md5[2 * HL_S3_MD5 + 1] = "";

    if (n->has_md5)
        hl_hex(n->md5, HL_S3_MD5, md5);
    return hl_asprintf("size=%" PRIu64 "\netag=%s\nmd5=%s\ncompared=%d\n",
                       n->size, n->etag, md5, n->compared);
}

bool hl_s3_note_read(const char *text, struct hl_s3_note *out)
{
    char *etag = value_of(text, "etag"), *md5 = value_of(text, "md5");
    uint64_t compared = 0;
    bool ok;

    memset(out, 0, sizeof(*out));
    ok = number_of(text, "size", &out->size) &&
         number_of(text, "compared", &compared) && etag && md5 &&
         hl_s3_etag(etag, out->etag);
    if (ok && md5[0]) {
        out->has_md5 = hl_s3_etag_md5(md5, out->md5);
        ok = out->has_md5;
    }
    out->compared = compared == 1;
    hl_free(etag);
    hl_free(md5);
    return ok;
}
