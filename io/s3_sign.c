/*
 * AWS Signature Version 4 and the encoding that goes with it. Pure, any thread.
 * The canonical request is never put together: it goes piece by piece into its
 * digest, as it holds the session's token.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http_header.h"
#include "s3_sign.h"
#include "stage.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define HASH_SIZE 32
#define DATE_SIZE 17                     /* "20130524T000000Z" and the NUL */
#define DAY_LEN 8                        /* of it */
#define YEAR_MAX_S INT64_C(253402300799) /* the last second of 9999 */

/* ---- Encoding ----------------------------------------------------------- */

static bool is_unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' ||
           c == '~';
}

/* At most 3 characters at out; returns where they end. */
static char *encode_byte(char *out, unsigned char c, bool keep_slash)
{
    static const char hex[] = "0123456789ABCDEF";

    if (is_unreserved(c) || (keep_slash && c == '/')) {
        *out++ = (char)c;
    } else {
        *out++ = '%';
        *out++ = hex[c >> 4];
        *out++ = hex[c & 15];
    }
    return out;
}

static char *encode_text(char *out, const char *text, bool keep_slash)
{
    for (; *text; text++)
        out = encode_byte(out, (unsigned char)*text, keep_slash);
    *out = '\0';
    return out;
}

static char *encode(const char *text, bool keep_slash)
{
    char *out = hl_calloc(3, strlen(text) + 1);

    if (out)
        encode_text(out, text, keep_slash);
    return out;
}

char *hl_s3_encode(const char *text)
{
    return encode(text, false);
}

char *hl_s3_encode_path(const char *path)
{
    return encode(path, true);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What is encoded in any way becomes what is signed: other hex digits, escapes
 * of what needs none, and none where one is needed. A '%' that begins no escape
 * stands for itself. */
static char *encode_again(char *out, const char *text, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '%' && len - i > 2 && hex_value(text[i + 1]) >= 0 &&
            hex_value(text[i + 2]) >= 0) {
            c = (unsigned char)(hex_value(text[i + 1]) << 4 |
                                hex_value(text[i + 2]));
            i += 2;
        }
        out = encode_byte(out, c, false);
    }
    *out = '\0';
    return out;
}

/* ---- Query -------------------------------------------------------------- */

/* Encoded; the text is in the list's room. */
struct param {
    const char *name, *value;
};

struct params {
    struct param *item;
    size_t count;
    char *room, *end;
};

/* For count parameters of so many bytes before they are encoded. */
static bool params_init(struct params *p, size_t count, size_t bytes)
{
    p->count = 0;
    p->item = hl_calloc(count, sizeof(*p->item));
    p->room = p->end = hl_calloc(3, bytes + count);
    return p->item && p->room;
}

static void params_fini(struct params *p)
{
    hl_free(p->item);
    hl_free(p->room);
}

/* Names first: "a=1" stands before "a-b=1", whose '-' is less than '='. */
static int compare_params(const void *left, const void *right)
{
    const struct param *a = left, *b = right;
    int order = strcmp(a->name, b->name);

    return order ? order : strcmp(a->value, b->value);
}

/* In order, with '=' and '&'; NULL when out of memory. */
static char *params_join(struct params *p)
{
    size_t bytes = 1, i;
    char *text, *end;

    if (p->count > 1)
        qsort(p->item, p->count, sizeof(*p->item), compare_params);
    for (i = 0; i < p->count; i++)
        bytes += strlen(p->item[i].name) + strlen(p->item[i].value) + 2;
    text = end = hl_malloc(bytes);
    for (i = 0; text && i < p->count; i++)
        end += snprintf(end, bytes - (size_t)(end - text), "%s%s=%s",
                        i ? "&" : "", p->item[i].name, p->item[i].value);
    return text;
}

char *hl_s3_query(const struct hl_s3_field *pairs, size_t count)
{
    struct params p;
    size_t bytes = 0, i;
    char *text = NULL;

    for (i = 0; i < count; i++)
        if (pairs[i].value)
            bytes += strlen(pairs[i].name) + strlen(pairs[i].value) + 2;
    if (params_init(&p, count, bytes)) {
        for (i = 0; i < count; i++) {
            struct param *item = &p.item[p.count];

            if (!pairs[i].value)
                continue;
            item->name = p.end;
            p.end = encode_text(p.end, pairs[i].name, false) + 1;
            item->value = p.end;
            p.end = encode_text(p.end, pairs[i].value, false) + 1;
            p.count++;
        }
        text = params_join(&p);
    }
    params_fini(&p);
    return text;
}

char *hl_s3_canonical_query(const char *query)
{
    size_t count = 1, len;
    const char *s;
    char *text = NULL;
    struct params p;

    query = query ? query : "";
    for (s = query; *s; s++)
        count += *s == '&';
    if (params_init(&p, count, (size_t)(s - query) + 2 * count)) {
        for (s = query; *s; s += len, s += *s == '&') {
            size_t name_len = strcspn(s, "=&");
            size_t equals = s[name_len] == '=';

            len = strcspn(s, "&");
            if (!len)
                continue;
            p.item[p.count].name = p.end;
            p.end = encode_again(p.end, s, name_len) + 1;
            p.item[p.count++].value = p.end;
            name_len += equals;
            p.end = encode_again(p.end, s + name_len, len - name_len) + 1;
        }
        text = params_join(&p);
    }
    params_fini(&p);
    return text;
}

/* ---- Headers ------------------------------------------------------------ */

struct header {
    char *name; /* lower case */
    const char *value;
    size_t at; /* in the request: the order among equal names */
};

struct headers {
    struct header *item;
    size_t count;
};

static void headers_fini(struct headers *h)
{
    while (h->item && h->count)
        hl_free(h->item[--h->count].name);
    hl_free(h->item);
}

static bool headers_add(struct headers *h, const char *name, const char *value)
{
    struct header *new = &h->item[h->count];
    char *c;

    new->name = hl_strdup(name);
    if (!new->name)
        return false;
    /* Not tolower(): the user's locale has no say. */
    for (c = new->name; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c | 0x20);
    new->value = value ? value : "";
    new->at = h->count++;
    return true;
}

static int compare_headers(const void *left, const void *right)
{
    const struct header *a = left, *b = right;
    int order = strcmp(a->name, b->name);

    return order ? order : (a->at > b->at) - (a->at < b->at);
}

/* All that are signed, in order. */
static bool headers_init(struct headers *h, const struct hl_s3_signer *who,
                         const struct hl_s3_request *req, const char *date)
{
    bool is_s3 = strcmp(who->service, "s3") == 0;
    bool ok;
    size_t i;

    h->count = 0;
    h->item = hl_calloc(req->header_count + 4, sizeof(*h->item));
    ok = h->item && headers_add(h, "host", req->host) &&
         headers_add(h, "x-amz-date", date);
    if (is_s3)
        ok = ok && headers_add(h, "x-amz-content-sha256", req->payload);
    if (who->token)
        ok = ok && headers_add(h, "x-amz-security-token", who->token);
    for (i = 0; i < req->header_count; i++)
        ok = ok && headers_add(h, req->headers[i].name, req->headers[i].value);
    if (ok)
        qsort(h->item, h->count, sizeof(*h->item), compare_headers);
    return ok;
}

static bool is_repeated(const struct headers *h, size_t i)
{
    return i && strcmp(h->item[i - 1].name, h->item[i].name) == 0;
}

/* "host;x-amz-date"; NULL when out of memory. */
static char *signed_names(const struct headers *h)
{
    size_t bytes = 1, i;
    char *text, *end;

    for (i = 0; i < h->count; i++)
        bytes += strlen(h->item[i].name) + 1;
    text = end = hl_malloc(bytes);
    for (i = 0; text && i < h->count; i++)
        if (!is_repeated(h, i))
            end += snprintf(end, bytes - (size_t)(end - text), "%s%s",
                            i ? ";" : "", h->item[i].name);
    return text;
}

/* ---- Signature ---------------------------------------------------------- */

struct digest {
    EVP_MD_CTX *ctx;
    bool ok;
};

static void digest_add(struct digest *d, const char *text, size_t len)
{
    d->ok = d->ok && EVP_DigestUpdate(d->ctx, text, len) == 1;
}

static void digest_text(struct digest *d, const char *text)
{
    digest_add(d, text, strlen(text));
}

/* Without blanks around it, and one where there are several. */
static void digest_value(struct digest *d, const char *value)
{
    size_t len, end;

    value += strspn(value, " \t");
    end = strlen(value);
    while (end && (value[end - 1] == ' ' || value[end - 1] == '\t'))
        end--;
    while (end) {
        const char *blank = memchr(value, ' ', end);

        len = blank ? (size_t)(blank - value) + 1 : end;
        digest_add(d, value, len);
        value += len;
        end -= len;
        while (end && *value == ' ') {
            value++;
            end--;
        }
    }
}

static void digest_headers(struct digest *d, const struct headers *h)
{
    size_t i;

    for (i = 0; i < h->count; i++) {
        if (is_repeated(h, i)) {
            digest_text(d, ",");
        } else {
            digest_text(d, i ? "\n" : "");
            digest_text(d, h->item[i].name);
            digest_text(d, ":");
        }
        digest_value(d, h->item[i].value);
    }
    digest_text(d, "\n");
}

/* SHA-256 of the canonical request, in hex. */
static int digest_request(const struct hl_s3_request *req,
                          const struct headers *h, const char *names,
                          char hex[HL_S3_SHA256_HEX], struct hl_error *err)
{
    struct digest d = {EVP_MD_CTX_new(), true};
    char *path = hl_s3_encode_path(req->path);
    char *query = hl_s3_canonical_query(req->query);
    uint8_t hash[HASH_SIZE];
    int rc = 0;

    if (!path || !query || !d.ctx) {
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    } else {
        d.ok = EVP_DigestInit_ex(d.ctx, EVP_sha256(), NULL) == 1;
        digest_text(&d, req->method);
        digest_text(&d, "\n");
        digest_text(&d, path);
        digest_text(&d, "\n");
        digest_text(&d, query);
        digest_text(&d, "\n");
        digest_headers(&d, h);
        digest_text(&d, "\n");
        digest_text(&d, names);
        digest_text(&d, "\n");
        digest_text(&d, req->payload);
        if (!d.ok || EVP_DigestFinal_ex(d.ctx, hash, NULL) != 1)
            rc = hl_err(err, HAUL_E_BUG, 0, "libcrypto cannot do SHA-256");
        else
            hl_hex(hash, HASH_SIZE, hex);
    }
    EVP_MD_CTX_free(d.ctx);
    hl_free(path);
    hl_free(query);
    return rc;
}

bool hl_s3_sha256(const void *data, size_t len, char out[HL_S3_SHA256_HEX])
{
    uint8_t hash[HASH_SIZE];

    if (EVP_Digest(data, len, hash, NULL, EVP_sha256(), NULL) != 1)
        return false;
    hl_hex(hash, HASH_SIZE, out);
    return true;
}

/* The key of the next step: HMAC of text under the key of this one, in place.
 */
static bool derive(uint8_t key[HASH_SIZE], const char *text, size_t len)
{
    uint8_t next[HASH_SIZE];
    bool ok = HMAC(EVP_sha256(), key, HASH_SIZE, (const uint8_t *)text, len,
                   next, NULL) != NULL;

    memcpy(key, next, HASH_SIZE);
    explicit_bzero(next, sizeof(next));
    return ok;
}

/* Signature of the text, in hex. date: its day makes the key. */
static int sign_text(const struct hl_s3_signer *who, const char *date,
                     const char *text, char hex[HL_S3_SHA256_HEX],
                     struct hl_error *err)
{
    char *secret = hl_asprintf("AWS4%s", who->secret);
    uint8_t key[HASH_SIZE];
    int rc = 0;

    if (!secret)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (!HMAC(EVP_sha256(), secret, (int)strlen(secret), (const uint8_t *)date,
              DAY_LEN, key, NULL) ||
        !derive(key, who->region, strlen(who->region)) ||
        !derive(key, who->service, strlen(who->service)) ||
        !derive(key, "aws4_request", strlen("aws4_request")) ||
        !derive(key, text, strlen(text)))
        rc = hl_err(err, HAUL_E_BUG, 0, "libcrypto cannot do HMAC-SHA256");
    else
        hl_hex(key, HASH_SIZE, hex);
    explicit_bzero(key, sizeof(key));
    hl_free_secret(secret);
    return rc;
}

/* ---- Lines -------------------------------------------------------------- */

/* Printable; blanks or not. */
static bool is_clean(const char *text, bool blanks)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < 0x20 ? c != '\t' || !blanks : c == 0x7f)
            return false;
        if ((c == ' ' || c == ',') && !blanks)
            return false;
    }
    return true;
}

static int check(const struct hl_s3_signer *who,
                 const struct hl_s3_request *req, struct hl_error *err)
{
    size_t i;

    HL_ASSERT(req->path[0] == '/');
    if (!*who->id || !is_clean(who->id, false) || strlen(who->id) > INT16_MAX ||
        strlen(who->secret) > INT16_MAX)
        return hl_err(err, HAUL_E_INVAL, 0,
                      "the access key cannot stand in a header");
    if (who->token && !is_clean(who->token, false))
        return hl_err(err, HAUL_E_INVAL, 0,
                      "the session token cannot stand in a header");
    if (!*who->region || !is_clean(who->region, false) ||
        strchr(who->region, '/'))
        return hl_err(err, HAUL_E_INVAL, 0, "'%s' is no region", who->region);
    if (req->time_s < 0 || req->time_s > YEAR_MAX_S)
        return hl_err(err, HAUL_E_INVAL, 0,
                      "the clock of this machine cannot be right");
    for (i = 0; i < req->header_count; i++)
        if (!is_clean(req->headers[i].name, false) ||
            !is_clean(req->headers[i].value ? req->headers[i].value : "", true))
            return hl_err(err, HAUL_E_INVAL, 0,
                          "the value of header '%s' cannot be sent",
                          req->headers[i].name);
    if (!is_clean(req->host, false) || !is_clean(req->payload, false))
        return hl_err(err, HAUL_E_INVAL, 0, "'%s' is no host name", req->host);
    return 0;
}

/* Takes line. */
static bool add_line(struct hl_s3_signed *out, char *line)
{
    if (!line)
        return false;
    out->line[out->count++] = line;
    return true;
}

static int make_lines(const struct hl_s3_signer *who,
                      const struct hl_s3_request *req, const char *date,
                      const char *names, const char *signature,
                      struct hl_s3_signed *out)
{
    bool ok =
        add_line(out, hl_asprintf("Authorization: " ALGORITHM
                                  " Credential=%s/%.*s/%s/%s/aws4_request, "
                                  "SignedHeaders=%s, Signature=%s",
                                  who->id, DAY_LEN, date, who->region,
                                  who->service, names, signature));

    ok = ok && add_line(out, hl_asprintf("x-amz-date: %s", date));
    if (strcmp(who->service, "s3") == 0)
        ok = ok && add_line(out, hl_asprintf("x-amz-content-sha256: %s",
                                             req->payload));
    if (who->token)
        ok = ok &&
             add_line(out, hl_asprintf("x-amz-security-token: %s", who->token));
    return ok ? 0 : HAUL_E_NOMEM;
}

void hl_s3_signed_fini(struct hl_s3_signed *s)
{
    while (s->count)
        hl_free_secret(s->line[--s->count]);
    memset(s, 0, sizeof(*s));
}

int hl_s3_sign(const struct hl_s3_signer *who, const struct hl_s3_request *req,
               struct hl_s3_signed *out, struct hl_error *err)
{
    time_t when = (time_t)req->time_s;
    char date[DATE_SIZE], hex[HL_S3_SHA256_HEX], *names = NULL, *text = NULL;
    struct headers h = {0};
    struct tm tm;
    int rc;

    memset(out, 0, sizeof(*out));
    rc = check(who, req, err);
    if (rc)
        return rc;
    if (!gmtime_r(&when, &tm) ||
        strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &tm) != DATE_SIZE - 1)
        return hl_err(err, HAUL_E_BUG, 0, "the date cannot be written");
    if (headers_init(&h, who, req, date))
        names = signed_names(&h);
    if (!names)
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    else
        rc = digest_request(req, &h, names, hex, err);
    if (!rc) {
        text = hl_asprintf(ALGORITHM "\n%s\n%.*s/%s/%s/aws4_request\n%s", date,
                           DAY_LEN, date, who->region, who->service, hex);
        rc = text ? sign_text(who, date, text, hex, err)
                  : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    if (!rc && make_lines(who, req, date, names, hex, out)) {
        hl_s3_signed_fini(out);
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    headers_fini(&h);
    hl_free(names);
    hl_free(text);
    return rc;
}

/* ---- Clock -------------------------------------------------------------- */

/* "2009-10-28T22:32:00Z", with a fraction or without '-' and ':' (ISO 8601), as
 * libcurl's reader takes it: "20091028 22:32:00 GMT". */
static bool is_iso(const char *date, char out[22])
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    char digits[15] = "";
    size_t count = 0, i;

    for (i = 0; form[i]; i++) {
        bool digit = *date >= '0' && *date <= '9';

        if (form[i] == 'd' ? !digit : *date != form[i]) {
            if (form[i] == 'd' || form[i] == 'T')
                return false;
            continue; /* the short form */
        }
        if (digit)
            digits[count++] = *date;
        date++;
    }
    if (*date == '.')
        date += 1 + strspn(date + 1, "0123456789");
    if (strcmp(date, "Z") != 0)
        return false;
    snprintf(out, 22, "%.8s %.2s:%.2s:%.2s GMT", digits, digits + 8,
             digits + 10, digits + 12);
    return true;
}

bool hl_s3_clock_offset(const char *date, int64_t now_s, int64_t *offset_s)
{
    char text[22];
    int64_t server_s;

    if (!hl_http_date(is_iso(date, text) ? text : date, &server_s))
        return false;
    *offset_s = server_s - now_s;
    return true;
}
