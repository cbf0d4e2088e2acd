/*
 * Headers, addresses, parts and tokens of tus uploads (tus_text.h). Pure, any
 * thread.
 */
#include "tus_text.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "http_header.h"
#include "upload_header.h"
#include "url.h"

/* Of the header with all addresses: nginx takes lines of 8 KiB
 * (large_client_header_buffers), Apache of 8190 bytes (LimitRequestFieldSize).
 */
#define CONCAT_MAX 7800u
#define CONCAT_WORD "final;"
/* A token that names more parts was not written by haul. */
#define SAVED_PARTS_MAX 4096u

/* ---- Headers ------------------------------------------------------------ */

static char *encode64(const char *prefix, const uint8_t *data, size_t len)
{
    size_t at = strlen(prefix);
    char *out = hl_malloc(at + 4 * ((len + 2) / 3) + 1);

    if (!out)
        return NULL;
    memcpy(out, prefix, at);
    EVP_EncodeBlock((unsigned char *)out + at, data, (int)len);
    return out;
}

char *hl_tus_metadata(const char *filename)
{
    return encode64("filename ", (const uint8_t *)filename, strlen(filename));
}

/* The best one first: strong, and fast on processors that know it. The names
 * are those of OpenSSL too. */
static const struct hl_tus_alg algs[] = {{"sha256", HL_TUS_SHA256},
                                         {"sha512", HL_TUS_SHA512},
                                         {"sha1", HL_TUS_SHA1},
                                         {"md5", HL_TUS_MD5}};

const struct hl_tus_alg *hl_tus_alg_best(uint32_t bits)
{
    for (size_t i = 0; i < HL_LEN(algs); i++)
        if (bits & algs[i].bit)
            return &algs[i];
    return NULL;
}

const struct hl_tus_alg *hl_tus_alg_named(const char *name)
{
    for (size_t i = 0; i < HL_LEN(algs); i++)
        if (!strcmp(name, algs[i].name))
            return &algs[i];
    return NULL;
}

char *hl_tus_checksum(const struct hl_tus_alg *alg, const uint8_t *data,
                      size_t len)
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    char prefix[16];
    size_t size = 0;

    snprintf(prefix, sizeof(prefix), "%s ", alg->name);
    if (!EVP_Q_digest(NULL, alg->name, NULL, data, len, sum, &size))
        return NULL;
    return encode64(prefix, sum, size);
}

/* Bytes of "https://host:port" in an absolute URL. */
static size_t origin_len(const char *url)
{
    const char *s = strstr(url, "://");

    return s ? (size_t)(s + 3 - url) + strcspn(s + 3, "/?#") : 0;
}

static const char *short_url(const char *base, const char *url)
{
    size_t n = origin_len(base);

    if (n && n == origin_len(url) && !strncmp(base, url, n) && url[n] == '/')
        return url + n;
    return url;
}

char *hl_tus_concat(const char *base, const char *const *urls, size_t count)
{
    size_t len = sizeof(CONCAT_WORD), at = strlen(CONCAT_WORD);
    char *out;

    for (size_t i = 0; i < count; i++)
        len += strlen(short_url(base, urls[i])) + 1;
    out = hl_malloc(len);
    if (!out)
        return NULL;
    memcpy(out, CONCAT_WORD, at);
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(out + at, len - at, "%s%s", i ? " " : "",
                               short_url(base, urls[i]));
    HL_ASSERT(at < len);
    return out;
}

/* ---- Addresses ---------------------------------------------------------- */

char *hl_tus_folder(const char *url)
{
    size_t host = origin_len(url), path = strcspn(url, "?#"), end = path;

    while (end > host && url[end - 1] != '/')
        end--;
    if (!host || end == host || end == path)
        return NULL;
    return hl_asprintf("%.*s%s", (int)end, url, url + path);
}

char *hl_tus_last_name(const char *url)
{
    struct hl_url u;
    char *name = NULL;

    if (hl_url_parse(url, &u, NULL))
        return NULL;
    if (hl_url_basename(&u)[0])
        name = hl_strdup(hl_url_basename(&u));
    hl_url_fini(&u);
    return name;
}

/* ---- Parts -------------------------------------------------------------- */

uint32_t hl_tus_parts_max(size_t url_len)
{
    size_t room = CONCAT_MAX - strlen(CONCAT_WORD);

    return (uint32_t)hl_min(HL_TUS_PARTS_MAX, room / (url_len + 1));
}

uint64_t hl_tus_part_size(uint64_t size, uint64_t chunk_size,
                          uint32_t parts_max)
{
    uint64_t part;

    if (size == HL_SIZE_UNKNOWN || size < HL_TUS_PARALLEL_MIN || parts_max < 2)
        return 0;
    part = hl_max(HL_TUS_PART_MIN, (size - 1) / parts_max + 1);
    part = ((part - 1) / chunk_size + 1) * chunk_size;
    return part < size ? part : 0;
}

uint64_t hl_tus_part_count(uint64_t size, uint64_t part_size)
{
    return size ? (size - 1) / part_size + 1 : 1;
}

char *hl_tus_size_text(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;

    while (bytes && bytes % 1024 == 0 && i + 1 < HL_LEN(units)) {
        bytes /= 1024;
        i++;
    }
    return hl_asprintf("%" PRIu64 " %s", bytes, units[i]);
}

/* ---- Token -------------------------------------------------------------- */

/* Appends a line; *text NULL: memory is out. */
static void add_line(char **text, char *line)
{
    char *longer = *text && line ? hl_asprintf("%s%s\n", *text, line) : NULL;

    hl_free_secret(*text);
    hl_free_secret(line);
    *text = longer;
}

char *hl_tus_token(const struct hl_tus_saved *saved)
{
    char *text = hl_strdup("way=tus\n");

    if (saved->create)
        add_line(&text, hl_asprintf("create=%s", saved->create));
    if (saved->part_size)
        add_line(&text, hl_asprintf("part=%" PRIu64, saved->part_size));
    if (saved->alg)
        add_line(&text, hl_asprintf("sum=%s", saved->alg->name));
    if (saved->unsummed)
        add_line(&text, hl_strdup("unsummed=1"));
    if (saved->expires_s > 0)
        add_line(&text, hl_asprintf("expires=%" PRId64, saved->expires_s));
    for (size_t i = 0; i < saved->count; i++)
        if (saved->urls[i])
            add_line(&text, hl_asprintf("url%zu=%s", i, saved->urls[i]));
    if (saved->final)
        add_line(&text, hl_asprintf("final=%s", saved->final));
    return text;
}

static int no_token(struct hl_error *err)
{
    hl_err(err, HAUL_E_RESUME, 0,
           "what is kept of the unfinished upload is not what was written");
    return hl_err_hint(err, "Start anew with --resume never.");
}

static int add_url(struct hl_tus_saved *s, uint64_t index, const char *url,
                   struct hl_error *err)
{
    char **urls, *copy;

    if (index >= SAVED_PARTS_MAX || !*url ||
        (index < s->count && s->urls[index]))
        return no_token(err);
    if (index >= s->count) {
        urls = hl_realloc(s->urls, (index + 1) * sizeof(*urls));
        if (!urls)
            return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
        memset(urls + s->count, 0, (index + 1 - s->count) * sizeof(*urls));
        s->urls = urls;
        s->count = index + 1;
    }
    copy = hl_strdup(url);
    if (!copy)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    s->urls[index] = copy;
    return 0;
}

static int set_text(char **out, const char *value, struct hl_error *err)
{
    if (*out || !*value)
        return no_token(err);
    *out = hl_strdup(value);
    return *out ? 0 : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
}

/* Keys that nobody knows may be those of a later version. */
static int read_line(struct hl_tus_saved *s, char *key, const char *value,
                     struct hl_error *err)
{
    uint64_t n;

    if (!strcmp(key, "part")) {
        if (!hl_http_number(value, &s->part_size) || !s->part_size)
            return no_token(err);
    } else if (!strcmp(key, "sum")) {
        s->alg = hl_tus_alg_named(value);
        if (!s->alg)
            return no_token(err);
    } else if (!strcmp(key, "unsummed")) {
        s->unsummed = true;
    } else if (!strcmp(key, "expires")) {
        if (!hl_http_number(value, &n) || n > INT64_MAX)
            return no_token(err);
        s->expires_s = (int64_t)n;
    } else if (!strcmp(key, "final")) {
        return set_text(&s->final, value, err);
    } else if (!strcmp(key, "create")) {
        return set_text(&s->create, value, err);
    } else if (!strncmp(key, "url", 3) && hl_http_number(key + 3, &n)) {
        return add_url(s, n, value, err);
    }
    return 0;
}

static int read_lines(struct hl_tus_saved *s, char *text, struct hl_error *err)
{
    char *at = text;

    while (*at) {
        char *line = at, *eq;
        size_t len = strcspn(at, "\n");

        at += len + (at[len] == '\n');
        line[len] = '\0';
        eq = strchr(line, '=');
        if (!eq)
            return no_token(err);
        *eq = '\0';
        if (read_line(s, line, eq + 1, err))
            return err->code;
    }
    return s->count && (s->part_size || s->count == 1) ? 0 : no_token(err);
}

int hl_tus_token_read(const char *token, struct hl_tus_saved *out,
                      struct hl_error *err)
{
    struct hl_error error = {0};
    char *copy = hl_strdup(token);
    int rc;

    memset(out, 0, sizeof(*out));
    if (!copy)
        rc = hl_err(&error, HAUL_E_NOMEM, 0, "out of memory");
    else if (strncmp(token, "way=tus\n", 8) != 0)
        rc = no_token(&error);
    else
        rc = read_lines(out, copy, &error);
    hl_free_secret(copy);
    if (rc)
        hl_tus_saved_fini(out);
    if (rc && err && !err->code)
        *err = error;
    return rc;
}

void hl_tus_saved_fini(struct hl_tus_saved *saved)
{
    for (size_t i = 0; i < saved->count; i++)
        hl_free_secret(saved->urls[i]);
    hl_free(saved->urls);
    hl_free_secret(saved->final);
    hl_free_secret(saved->create);
    memset(saved, 0, sizeof(*saved));
}
