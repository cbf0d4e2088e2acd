/*
 * What HTTP headers say, and what a status or a code of libcurl means in our
 * words. Pure, any thread. Dates and URLs are libcurl's to read, base64 is
 * libcrypto's; everything else is checked here character by character, as it
 * comes from a peer.
 */
#include <curl/curl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http_header.h"
#include "url.h"

#define RETRY_AFTER_MAX_S 3600
#define DATE_MAX 63        /* bytes; the longest of RFC 9110 5.6.7 has 33 */
#define LOCATION_MAX 16384 /* bytes; RFC 9110 4.1 wants 8000 or more */

/* ---- Numbers, ranges, tags, dates --------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* A piece of a field's value. */
struct span {
    const char *p;
    size_t len;
};

/* Without the white space around it, which is none of it (RFC 9110 5.6.3). */
static struct span trim(struct span s)
{
    while (s.len && is_space(s.p[0])) {
        s.p++;
        s.len--;
    }
    while (s.len && is_space(s.p[s.len - 1]))
        s.len--;
    return s;
}

static struct span trim_text(const char *text)
{
    return trim((struct span){text, strlen(text)});
}

/* The part before the first c, which is taken off with it. */
static struct span cut(struct span *s, char c)
{
    const char *at = s->len ? memchr(s->p, c, s->len) : NULL;
    struct span head = {s->p, at ? (size_t)(at - s->p) : s->len};
    size_t gone = head.len + (at != NULL);

    s->p += gone;
    s->len -= gone;
    return head;
}

static bool equals(struct span s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.p, word, s.len) == 0;
}

/* Digits only. Not above INT64_MAX: no file is larger, and sums of two do not
 * overflow. */
static bool span_number(struct span s, uint64_t *out)
{
    uint64_t n = 0;
    size_t i;

    for (i = 0; i < s.len; i++)
        if (!is_digit(s.p[i]) || __builtin_mul_overflow(n, UINT64_C(10), &n) ||
            __builtin_add_overflow(n, (uint64_t)(s.p[i] - '0'), &n))
            return false;
    if (!s.len || n > INT64_MAX)
        return false;
    *out = n;
    return true;
}

bool hl_http_is_field(const char *line, const char *name)
{
    size_t len = strlen(name);

    return !strncasecmp(line, name, len) &&
           (line[len] == ':' || line[len] == ';');
}

bool hl_http_is_one_of(const char *line, const char *const *names)
{
    for (; *names; names++)
        if (hl_http_is_field(line, *names))
            return true;
    return false;
}

bool hl_http_number(const char *value, uint64_t *out)
{
    return span_number((struct span){value, strlen(value)}, out);
}

bool hl_http_content_range(const char *value, struct hl_http_range *out)
{
    struct hl_http_range r = {.total = HL_SIZE_UNKNOWN};
    struct span total = trim_text(value);
    struct span unit = cut(&total, ' '), range = cut(&total, '/'), first;
    bool known = !equals(total, "*");
    uint64_t last;

    if (!equals(unit, "bytes") || (known && !span_number(total, &r.total)))
        return false;
    if (!equals(range, "*")) {
        first = cut(&range, '-');
        if (!span_number(first, &r.begin) || !span_number(range, &last) ||
            r.begin > last || last >= hl_min(r.total, INT64_MAX))
            return false;
        r.end = last + 1;
    } else if (!known) {
        return false;
    }
    *out = r;
    return true;
}

bool hl_http_etag(const char *value, char *out, size_t cap, bool *weak)
{
    struct span s = trim_text(value);
    bool is_weak = s.len > 2 && memcmp(s.p, "W/", 2) == 0;
    size_t i;

    if (is_weak) {
        s.p += 2;
        s.len -= 2;
    }
    if (s.len < 2 || s.len >= cap || s.p[0] != '"' || s.p[s.len - 1] != '"')
        return false;
    for (i = 1; i < s.len - 1; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c <= 0x20 || c == 0x7f || c == '"')
            return false;
    }
    memcpy(out, s.p, s.len);
    out[s.len] = '\0';
    *weak = is_weak;
    return true;
}

bool hl_http_date(const char *value, int64_t *out_s)
{
    time_t t = -1;

    /* The reader of libcurl knows the three forms and more. */
    if (strnlen(value, DATE_MAX + 1) <= DATE_MAX)
        t = curl_getdate(value, NULL);
    if (t < 0)
        return false;
    *out_s = t;
    return true;
}

int64_t hl_http_mtime_ns(int64_t s)
{
    if (s < 0 || s > INT64_MAX / (int64_t)HL_NS_PER_S)
        return 0;
    return s * (int64_t)HL_NS_PER_S;
}

uint64_t hl_http_retry_after_ns(const char *value, int64_t now_s)
{
    struct span s = trim_text(value);
    uint64_t seconds = 0;
    int64_t date;
    size_t digits = 0;

    while (digits < s.len && is_digit(s.p[digits]))
        digits++;
    if (digits && digits == s.len) {
        if (!span_number(s, &seconds))
            seconds = RETRY_AFTER_MAX_S; /* a number too large to read */
    } else if (hl_http_date(value, &date) && date > now_s) {
        seconds = (uint64_t)date - (uint64_t)now_s;
    }
    return hl_min(seconds, RETRY_AFTER_MAX_S) * HL_NS_PER_S;
}

/* ---- Digests ------------------------------------------------------------ */

/* The strongest first. */
enum rank { RANK_SHA256, RANK_SHA512, RANK_MD5, RANK_CRC32C, RANK_NONE };

static const struct {
    const char *name, *field_name;
    size_t size;
} algorithms[] = {
    [RANK_SHA256] = {"sha256", "sha-256", 32},
    [RANK_SHA512] = {"sha512", "sha-512", HL_OFFERED_MAX},
    [RANK_MD5] = {"md5", "md5", 16},
    [RANK_CRC32C] = {"crc32c", "crc32c", 4},
};

static unsigned offered_rank(const struct hl_identity *identity)
{
    unsigned rank = RANK_SHA256;

    while (rank < RANK_NONE &&
           strcmp(identity->offered, algorithms[rank].name) != 0)
        rank++;
    return rank;
}

static bool is_base64(char c)
{
    return is_alpha(c) || is_digit(c) || c == '+' || c == '/';
}

/* Exactly size bytes (of at most HL_OFFERED_MAX); the '=' at the end may be
 * missing (RFC 8941 4.2.7). */
static bool decode_base64(struct span s, uint8_t *out, size_t size)
{
    char text[HL_OFFERED_MAX / 3 * 4 + 8];
    uint8_t bytes[sizeof(text) / 4 * 3];
    size_t len = (size * 4 + 2) / 3, padded = (size + 2) / 3 * 4, i;

    if (s.len != len && s.len != padded)
        return false;
    for (i = 0; i < s.len; i++)
        if (i < len ? !is_base64(s.p[i]) : s.p[i] != '=')
            return false;
    memset(text, '=', padded);
    memcpy(text, s.p, s.len);
    if (EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)padded) < 0)
        return false;
    memcpy(out, bytes, size);
    return true;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* CRC32c in Digest: one to eight hex digits (IANA's registry of RFC 3230). */
static bool decode_crc(struct span s, uint8_t *out)
{
    uint32_t crc = 0;
    size_t i;

    if (s.len < 1 || s.len > 8)
        return false;
    for (i = 0; i < s.len; i++) {
        int v = hex_value(s.p[i]);

        if (v < 0)
            return false;
        crc = crc << 4 | (uint32_t)v;
    }
    for (i = 0; i < 4; i++)
        out[i] = (uint8_t)(crc >> (24 - 8 * i));
    return true;
}

enum form { FORM_PLAIN, FORM_DIGEST, FORM_STRUCTURED };

/* One digest; replaces one of the same strength. */
static void take_digest(struct hl_identity *identity, unsigned rank,
                        enum form form, struct span value)
{
    uint8_t digest[HL_OFFERED_MAX] = {0};
    bool good;

    if (form == FORM_STRUCTURED) {
        value = trim(cut(&value, ';')); /* parameters say nothing here */
        if (value.len < 2 || value.p[0] != ':' || value.p[value.len - 1] != ':')
            return;
        value.p++;
        value.len -= 2;
    }
    good = form == FORM_DIGEST && rank == RANK_CRC32C
               ? decode_crc(value, digest)
               : decode_base64(value, digest, algorithms[rank].size);
    if (!good)
        return;
    snprintf(identity->offered, sizeof(identity->offered), "%s",
             algorithms[rank].name);
    memcpy(identity->offered_digest, digest, sizeof(digest));
}

/* "name=value, name=value". An algorithm that stands twice: the last one, as
 * RFC 8941 4.2.2 says of dictionaries. */
static void take_list(struct hl_identity *identity, const char *value,
                      enum form form)
{
    struct span rest = trim_text(value);
    unsigned before = offered_rank(identity), i;

    while (rest.len) {
        struct span digest = cut(&rest, ',');
        struct span name = trim(cut(&digest, '='));

        for (i = 0; i < before && i <= offered_rank(identity); i++)
            if (equals(name, algorithms[i].field_name))
                take_digest(identity, i, form, trim(digest));
    }
}

void hl_http_offer(struct hl_identity *identity, const char *name,
                   const char *value, bool whole)
{
    if (strcasecmp(name, "Repr-Digest") == 0)
        take_list(identity, value, FORM_STRUCTURED);
    else if (strcasecmp(name, "Digest") == 0)
        take_list(identity, value, FORM_DIGEST);
    else if (strcasecmp(name, "x-goog-hash") == 0)
        take_list(identity, value, FORM_PLAIN);
    else if (offered_rank(identity) > RANK_MD5 &&
             (strcasecmp(name, "x-ms-blob-content-md5") == 0 ||
              (whole && strcasecmp(name, "Content-MD5") == 0)))
        take_digest(identity, RANK_MD5, FORM_PLAIN, trim_text(value));
}

/* ---- Redirects ---------------------------------------------------------- */

/* A place for messages, without its secrets: of a URL what hl_url_display()
 * shows, of a path what stands before a query, of anything else nothing. */
static void show_place(const char *text, char *out, size_t cap)
{
    size_t scheme = strspn(text, "abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    bool is_url = strncmp(text + scheme, "://", 3) == 0;
    struct hl_url url;
    char *shown = NULL;

    if (is_url && hl_url_parse(text, &url, NULL) == 0) {
        shown = hl_url_display(&url);
        hl_url_fini(&url);
    } else if (text[0] == '/' && text[1] != '/') {
        shown =
            hl_asprintf("%.*s", (int)hl_min(strcspn(text, "?#"), cap), text);
    }
    hl_escape(out, cap, shown ? shown : "...");
    hl_free(shown);
}

static int refuse_redirect(const char *from, const char *location, int code,
                           const char *why, struct hl_error *err)
{
    char a[100], b[100];

    show_place(from, a, sizeof(a));
    show_place(location, b, sizeof(b));
    return hl_err(err, code, 0, "'%s' leads to '%s', %s", a, b, why);
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = NULL, *y = NULL;
    CURLUcode rx = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT);
    CURLUcode ry = curl_url_get(b, part, &y, CURLU_DEFAULT_PORT);
    bool same = x && y ? strcasecmp(x, y) == 0 : !x && !y && rx == ry;

    curl_free(x);
    curl_free(y);
    return same;
}

static bool part_is(CURLU *u, CURLUPart part, const char *word)
{
    char *text = NULL;
    bool is = !curl_url_get(u, part, &text, CURLU_DEFAULT_PORT) && text &&
              strcasecmp(text, word) == 0;

    curl_free(text);
    return is;
}

static bool same_origin(CURLU *from, CURLU *to)
{
    if (!same_part(from, to, CURLUPART_HOST) ||
        !same_part(from, to, CURLUPART_ZONEID))
        return false;
    if (same_part(from, to, CURLUPART_SCHEME))
        return same_part(from, to, CURLUPART_PORT);
    return part_is(from, CURLUPART_SCHEME, "http") &&
           part_is(from, CURLUPART_PORT, "80") &&
           part_is(to, CURLUPART_SCHEME, "https") &&
           part_is(to, CURLUPART_PORT, "443");
}

/* Makes to, which holds the request's URL, the place that location names. */
static int resolve(CURLU *to, const char *from, const char *location,
                   struct hl_error *err)
{
    unsigned flags =
        CURLU_URLENCODE | CURLU_ALLOW_SPACE | CURLU_NON_SUPPORT_SCHEME;
    CURLUcode rc = CURLUE_MALFORMED_INPUT;

    if (*location && strnlen(location, LOCATION_MAX + 1) <= LOCATION_MAX)
        rc = curl_url_set(to, CURLUPART_URL, location, flags);
    if (rc == CURLUE_OUT_OF_MEMORY)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (rc == CURLUE_OK && !part_is(to, CURLUPART_SCHEME, "https") &&
        !part_is(to, CURLUPART_SCHEME, "http"))
        return refuse_redirect(from, location, HAUL_E_REMOTE,
                               "which is no HTTP address", err);
    if (rc != CURLUE_OK || curl_url_set(to, CURLUPART_USER, NULL, 0) ||
        curl_url_set(to, CURLUPART_PASSWORD, NULL, 0) ||
        curl_url_set(to, CURLUPART_OPTIONS, NULL, 0) ||
        curl_url_set(to, CURLUPART_FRAGMENT, NULL, 0))
        return refuse_redirect(from, location, HAUL_E_PROTO,
                               "which cannot be understood", err);
    return 0;
}

static int follow(CURLU *base, CURLU *to, const char *from,
                  const char *location, struct hl_http_hop *out,
                  struct hl_error *err)
{
    char *url = NULL;
    int rc = resolve(to, from, location, err);

    if (rc)
        return rc;
    if (part_is(base, CURLUPART_SCHEME, "https") &&
        part_is(to, CURLUPART_SCHEME, "http")) {
        rc = refuse_redirect(from, location, HAUL_E_REMOTE,
                             "where nothing protects the bytes", err);
        hl_err_hint(err, "From https haul never goes down to http: use the "
                         "https address of that place.");
        return rc;
    }
    if (curl_url_get(to, CURLUPART_URL, &url, 0))
        return refuse_redirect(from, location, HAUL_E_PROTO,
                               "which cannot be understood", err);
    out->url = hl_strdup(url);
    curl_free(url);
    if (!out->url)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    out->same_origin = same_origin(base, to);
    return 0;
}

int hl_http_redirect(const char *from, const char *location,
                     struct hl_http_hop *out, struct hl_error *err)
{
    CURLU *base = curl_url(), *to = NULL;
    int rc = HAUL_E_INVAL;

    *out = (struct hl_http_hop){0};
    if (base && !curl_url_set(base, CURLUPART_URL, from, 0))
        to = curl_url_dup(base);
    if (to)
        rc = follow(base, to, from, location, out, err);
    else
        hl_err(err, rc, 0, "a redirect cannot be followed");
    curl_url_cleanup(to);
    curl_url_cleanup(base);
    return rc;
}
