/*
 * Names of sources and targets, taken apart and put together for display.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "url.h"

/* A value in a query that is this long is taken for a credential. */
#define SECRET_VALUE_MIN 16
#define QUERY_KEY_MAX 63

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The message shows neither a password nor a query. */
static int refuse(const char *text, const char *why, struct hl_error *err)
{
    const char *at = strrchr(text, '@');

    /* An '@' behind a '?' may belong to either. */
    if (at)
        text = memchr(text, '?', (size_t)(at - text)) ? "..." : at + 1;
    return hl_err(err, HAUL_E_INVAL, 0, "cannot understand '%.*s': %s",
                  (int)hl_min(strcspn(text, "?"), 128), text, why);
}

static int copy_span(char **out, const char *s, size_t len)
{
    *out = hl_malloc(len + 1);
    if (!*out)
        return HAUL_E_NOMEM;
    memcpy(*out, s, len);
    return 0;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 3986 section 2.1. */
static int decode_span(char **out, const char *s, size_t len)
{
    size_t n = 0;

    if (copy_span(out, s, len))
        return HAUL_E_NOMEM;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];

        if (c == '%') {
            int high = i + 2 < len ? hex_value(s[i + 1]) : -1;
            int low = high < 0 ? -1 : hex_value(s[i + 2]);

            if (low < 0)
                return HAUL_E_INVAL;
            c = (char)(high << 4 | low);
            i += 2;
            if (c == '\0' || c == '\n' || c == '\r')
                return HAUL_E_INVAL;
        }
        (*out)[n++] = c;
    }
    (*out)[n] = '\0';
    return 0;
}

static int decode_part(char **out, const char *s, size_t len, const char *text,
                       struct hl_error *err)
{
    int rc = decode_span(out, s, len);

    if (rc == HAUL_E_INVAL)
        return refuse(text, "a percent sign starts no allowed escape", err);
    return rc;
}

/* Can c stand in an HTTP request line? A blank ends its target (RFC 9112
 * section 3); what is not ASCII is escaped, as browsers do. */
static bool is_printable(unsigned char c)
{
    return c > 0x20 && c < 0x7f;
}

/* RFC 3986 section 3.3: what a component may hold without a second meaning. */
static bool is_unreserved(unsigned char c)
{
    return is_alpha((char)c) || is_digit((char)c) ||
           (c && strchr("-._~", (char)c));
}

/* "/" stays: a name may be several components. */
static bool is_component(unsigned char c)
{
    return is_unreserved(c) || c == '/';
}

static char *put_escape(char *at, unsigned char c)
{
    static const char hex[] = "0123456789ABCDEF";

    *at++ = '%';
    *at++ = hex[c >> 4];
    *at++ = hex[c & 15];
    return at;
}

/* Appends s to at; what does not pass keep() is escaped. Returns the end; at
 * most three times the length is written. */
static char *put_escaped(char *at, const char *s, size_t len,
                         bool (*keep)(unsigned char c))
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];

        if (keep(c))
            *at++ = s[i];
        else
            at = put_escape(at, c);
    }
    return at;
}

static int encode_span(char **out, const char *s, size_t len)
{
    *out = hl_malloc(3 * len + 1);
    if (!*out)
        return HAUL_E_NOMEM;
    put_escaped(*out, s, len, is_printable);
    return 0;
}

/* ---- Parsing ------------------------------------------------------------ */

/* A leading '-' would be an option and a shell character a command when the
 * name reaches a ProxyCommand (CVE-2023-51385). */
static bool is_host(const char *s, size_t len, bool brackets)
{
    if (len == 0 || s[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        bool ok = is_alpha(s[i]) || is_digit(s[i]) || (s[i] & 0x80) ||
                  memchr("._-", s[i], 3) ||
                  (brackets && (s[i] == ':' || s[i] == '%'));

        if (!ok)
            return false;
    }
    return true;
}

/* The host at s, which ends at end or at a ':'; *rest is behind it. */
static int parse_host(const char *s, const char *end, const char **rest,
                      const char *text, struct hl_url *out,
                      struct hl_error *err)
{
    bool brackets = s < end && *s == '[';
    const char *stop;

    s += brackets;
    stop = memchr(s, brackets ? ']' : ':', (size_t)(end - s));
    if (!stop && brackets)
        return refuse(text, "a bracket is not closed", err);
    if (!stop)
        stop = end;
    if (!is_host(s, (size_t)(stop - s), brackets))
        return refuse(text, "the host name is missing or not allowed", err);
    *rest = stop + brackets;
    return copy_span(&out->host, s, (size_t)(stop - s));
}

static int parse_port(const char *s, const char *end, const char *text,
                      struct hl_url *out, struct hl_error *err)
{
    unsigned port = 0;
    bool good = true;

    if (s == end)
        return 0;
    good = *s++ == ':';
    if (good && s == end) /* RFC 3986 section 3.2.3: may be empty */
        return 0;
    for (; good && s < end; s++) {
        port = port * 10 + (unsigned)(*s - '0');
        good = is_digit(*s) && port <= UINT16_MAX;
    }
    if (!good || port == 0)
        return refuse(text, "the port is not a number from 1 to 65535", err);
    out->port = (uint16_t)port;
    return 0;
}

/* [user[:password]@]host[:port] from s to end. */
static int parse_authority(const char *s, const char *end, const char *text,
                           struct hl_url *out, struct hl_error *err)
{
    const char *at = memrchr(s, '@', (size_t)(end - s));
    const char *rest;
    int rc;

    if (at) {
        const char *colon = memchr(s, ':', (size_t)(at - s));
        const char *user_end = colon ? colon : at;

        if (user_end > s) {
            rc = decode_part(&out->user, s, (size_t)(user_end - s), text, err);
            if (rc)
                return rc;
        }
        if (colon) {
            rc = decode_part(&out->password, colon + 1,
                             (size_t)(at - colon - 1), text, err);
            if (rc)
                return rc;
        }
        s = at + 1;
    }
    rc = parse_host(s, end, &rest, text, out, err);
    return rc ? rc : parse_port(rest, end, text, out, err);
}

/* Makes "/~/x" and "~/x" of SFTP names "x": below the login folder. */
static void strip_login_folder(char *path)
{
    const char *s = path + (*path == '/');

    if (s[0] != '~' || (s[1] && s[1] != '/'))
        return;
    s += 1 + strspn(s + 1, "/");
    memmove(path, s, strlen(s) + 1);
}

static int parse_file_url(const char *s, const char *text, struct hl_url *out,
                          struct hl_error *err)
{
    /* RFC 8089 section 2: the host is empty or "localhost". */
    if (strncasecmp(s, "localhost/", 10) == 0)
        s += 9;
    if (*s != '/')
        return refuse(text, "a file URL is file:///PATH", err);
    return decode_part(&out->path, s, strlen(s), text, err);
}

/* "https", and what stands on it: "put+https". */
static bool is_http(const char *scheme)
{
    const char *plus = strrchr(scheme, '+');

    scheme = plus ? plus + 1 : scheme;
    return strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0;
}

/* Path and query, from s to end. */
static int parse_path(const char *s, const char *end, const char *text,
                      struct hl_url *out, struct hl_error *err)
{
    const char *mark = memchr(s, '?', (size_t)(end - s));
    size_t len = (size_t)((mark ? mark : end) - s);
    int rc = 0;

    if (mark && is_http(out->scheme))
        rc = encode_span(&out->query, mark + 1, (size_t)(end - mark - 1));
    else if (mark)
        rc = copy_span(&out->query, mark + 1, (size_t)(end - mark - 1));
    if (rc)
        return rc;
    if (len == 0) { /* RFC 3986 section 6.2.3: no path is "/" */
        s = "/";
        len = 1;
    }
    rc = encode_span(&out->raw, s, len);
    return rc ? rc : decode_part(&out->path, s, len, text, err);
}

/* Keys hold any character, '?' and '#' too: what follows the bucket is one. */
static int parse_s3(const char *s, const char *text, struct hl_url *out,
                    struct hl_error *err)
{
    size_t len = strcspn(s, "/"), path_len;
    const char *path = s[len] ? s + len : "/";
    int rc;

    if (!is_host(s, len, false))
        return refuse(text,
                      "a bucket's name is letters, digits, dots and dashes, "
                      "without user or port",
                      err);
    path_len = strlen(path);
    rc = decode_part(&out->path, path, path_len, text, err);
    if (rc == 0)
        rc = copy_span(&out->host, s, len);
    if (rc)
        return rc;
    path_len = strlen(out->path);
    out->raw = hl_malloc(3 * path_len + 1);
    if (!out->raw)
        return HAUL_E_NOMEM;
    put_escaped(out->raw, out->path, path_len, is_component);
    return 0;
}

static int parse_url(const char *text, size_t scheme_len, struct hl_url *out,
                     struct hl_error *err)
{
    const char *s = text + scheme_len + 3;
    const char *end = s + strlen(s), *path;
    bool sftp;
    int rc = copy_span(&out->scheme, text, scheme_len);

    if (rc)
        return rc;
    for (char *c = out->scheme; *c; c++)
        if (is_alpha(*c))
            *c |= 0x20;
    if (strcmp(out->scheme, "file") == 0)
        return parse_file_url(s, text, out, err);
    if (strcmp(out->scheme, "s3") == 0)
        return parse_s3(s, text, out, err);
    sftp = strcmp(out->scheme, "sftp") == 0;

    /* RFC 3986 section 3.5: a fragment is never sent. */
    if (is_http(out->scheme))
        end = s + strcspn(s, "#");
    path = s + hl_min(strcspn(s, sftp ? "/" : "/?"), (size_t)(end - s));
    rc = parse_authority(s, path, text, out, err);
    if (rc)
        return rc;
    if (!sftp)
        return parse_path(path, end, text, out, err);
    /* No path is the login folder, as in scp. */
    rc = decode_part(&out->path, path, (size_t)(end - path), text, err);
    if (rc == 0)
        strip_login_folder(out->path);
    return rc;
}

static int parse_opaque(const char *text, struct hl_url *out)
{
    const char *colon = strchr(text, ':');
    const char *mark = colon + strcspn(colon, "?");

    if (copy_span(&out->scheme, text, (size_t)(colon - text)) ||
        copy_span(&out->path, colon + 1, (size_t)(mark - colon - 1)))
        return HAUL_E_NOMEM;
    return *mark ? copy_span(&out->query, mark + 1, strlen(mark + 1)) : 0;
}

/* user@host:path; colon is the one before the path. */
static int parse_scp(const char *text, const char *colon, struct hl_url *out,
                     struct hl_error *err)
{
    const char *at = memrchr(text, '@', (size_t)(colon - text));
    const char *host = at ? at + 1 : text;
    const char *rest;
    int rc;

    if (copy_span(&out->scheme, "sftp", 4) ||
        copy_span(&out->path, colon + 1, strlen(colon + 1)))
        return HAUL_E_NOMEM;
    strip_login_folder(out->path);
    if (at && at > text && copy_span(&out->user, text, (size_t)(at - text)))
        return HAUL_E_NOMEM;
    rc = parse_host(host, colon, &rest, text, out, err);
    if (rc == 0 && rest != colon)
        rc = refuse(text, "after the bracket comes no colon", err);
    return rc;
}

/* The ':' of user@host:path, or NULL when it is a path. */
static const char *find_scp_colon(const char *text)
{
    const char *s = text + strcspn(text, ":/[");
    bool at_host = s == text || s[-1] == '@';

    if (*s == '[' && at_host) {
        s += strcspn(s, "]/");
        return s[0] == ']' && s[1] == ':' ? s + 1 : NULL;
    }
    s += strcspn(s, ":/");
    return *s == ':' && s > text ? s : NULL;
}

/* Bytes of the scheme before "://", or 0. */
static size_t scheme_bytes(const char *text)
{
    size_t n = 0;

    if (is_alpha(text[0]))
        while (is_alpha(text[n]) || is_digit(text[n]) ||
               (text[n] && strchr("+-.", text[n])))
            n++;
    return strncmp(text + n, "://", 3) == 0 ? n : 0;
}

static int parse_form(const char *text, struct hl_url *out,
                      struct hl_error *err)
{
    size_t scheme_len = scheme_bytes(text);
    const char *colon;

    if (strcmp(text, "-") == 0)
        return copy_span(&out->scheme, text, 1) ? HAUL_E_NOMEM
                                                : copy_span(&out->path, "", 0);
    if (strncmp(text, "mem:", 4) == 0 || strncmp(text, "faulty:", 7) == 0)
        return parse_opaque(text, out);
    if (scheme_len)
        return parse_url(text, scheme_len, out, err);
    colon = find_scp_colon(text);
    if (colon)
        return parse_scp(text, colon, out, err);
    return copy_span(&out->scheme, "file", 4)
               ? HAUL_E_NOMEM
               : copy_span(&out->path, text, strlen(text));
}

static void set_folder(struct hl_url *u)
{
    size_t len = strlen(u->path);

    /* What is posted to gives the name. */
    if (strncmp(u->scheme, "post+", 5) == 0 ||
        strncmp(u->scheme, "tus+", 4) == 0)
        u->folder = false;
    else if (len)
        u->folder = u->path[len - 1] == '/';
    else
        u->folder = strcmp(u->scheme, "sftp") == 0;
}

int hl_url_parse(const char *text, struct hl_url *out, struct hl_error *err)
{
    int rc;

    memset(out, 0, sizeof(*out));
    if (!*text)
        return refuse(text, "it is empty", err);
    if (strpbrk(text, "\r\n"))
        return refuse(text, "there is a line break inside", err);
    rc = parse_form(text, out, err);
    if (rc) {
        hl_url_fini(out);
        if (rc == HAUL_E_NOMEM)
            hl_err(err, rc, 0, "out of memory");
        return rc;
    }
    set_folder(out);
    return 0;
}

static int copy_text(char **out, const char *s)
{
    return s ? copy_span(out, s, strlen(s)) : 0;
}

int hl_url_copy(const struct hl_url *u, struct hl_url *out)
{
    memset(out, 0, sizeof(*out));
    out->port = u->port;
    out->folder = u->folder;
    if (copy_text(&out->scheme, u->scheme) || copy_text(&out->user, u->user) ||
        copy_text(&out->password, u->password) ||
        copy_text(&out->host, u->host) || copy_text(&out->path, u->path) ||
        copy_text(&out->query, u->query) || copy_text(&out->raw, u->raw)) {
        hl_url_fini(out);
        return HAUL_E_NOMEM;
    }
    return 0;
}

void hl_url_fini(struct hl_url *u)
{
    hl_free(u->scheme);
    hl_free(u->user);
    hl_free_secret(u->password);
    hl_free(u->host);
    hl_free(u->path);
    hl_free(u->query);
    hl_free(u->raw);
    memset(u, 0, sizeof(*u));
}

/* ---- Display ------------------------------------------------------------ */

/* Grows from a block that is large enough, see hl_url_display(). */
static char *put_span(char *at, const char *s, size_t len)
{
    memcpy(at, s, len);
    return at + len;
}

static char *put_text(char *at, const char *s)
{
    return put_span(at, s, strlen(s));
}

/* Escapes what the parser would not read back as it is. */
static char *put_encoded(char *at, const char *s, const char *special)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c < 0x20 || c == 0x7f || strchr(special, c))
            at = put_escape(at, c);
        else
            *at++ = *s;
    }
    return at;
}

bool hl_url_secret_name(const char *name)
{
    static const char *const words[] = {"token", "secret", "pass",
                                        "pwd",   "key",    "sig",
                                        "cred",  "auth",   "session"};

    for (size_t i = 0; i < HL_LEN(words); i++)
        if (strcasestr(name, words[i]))
            return true;
    return false;
}

static bool is_secret(const char *key, size_t key_len, size_t value_len)
{
    char name[QUERY_KEY_MAX + 1];

    if (value_len == 0)
        return key_len >= SECRET_VALUE_MIN;
    if (value_len >= SECRET_VALUE_MIN || key_len > QUERY_KEY_MAX)
        return true;
    put_span(name, key, key_len)[0] = '\0';
    return hl_url_secret_name(name);
}

static char *put_query(char *at, const char *query)
{
    const char *s = query;

    for (;;) {
        size_t len = strcspn(s, "&");
        size_t key = hl_min(strcspn(s, "="), len);
        size_t value = len > key ? len - key - 1 : 0;

        if (!is_secret(s, key, value))
            at = put_span(at, s, len);
        else if (value)
            at = put_text(put_span(at, s, key + 1), "***");
        else
            at = put_text(at, "***");
        s += len;
        if (!*s)
            return at;
        *at++ = *s++;
    }
}

/* "faulty:sftp://joe:password@host/x" wraps a name with a password. */
static char *put_opaque(char *at, const char *path)
{
    const char *inner = strstr(path, "://");
    const char *end = inner ? strrchr(inner, '@') : NULL;
    const char *colon =
        end ? memchr(inner + 3, ':', (size_t)(end - inner - 3)) : NULL;

    if (!colon)
        return put_text(at, path);
    return put_text(put_span(at, path, (size_t)(colon - path)), end);
}

static char *put_authority(char *at, const struct hl_url *u)
{
    bool brackets = strchr(u->host, ':');

    at = put_text(at, "://");
    if (u->user) {
        at = put_encoded(at, u->user, "%@:/?");
        *at++ = '@';
    }
    if (brackets)
        *at++ = '[';
    at = put_text(at, u->host);
    if (brackets)
        *at++ = ']';
    if (u->port)
        at += snprintf(at, sizeof(":65535"), ":%u", (unsigned)u->port);
    return at;
}

static size_t text_bytes(const char *s)
{
    return s ? strlen(s) : 0;
}

static bool has_query(const char *scheme)
{
    return strcmp(scheme, "sftp") != 0 && strcmp(scheme, "s3") != 0;
}

char *hl_url_display(const struct hl_url *u)
{
    /* An escape makes three bytes of one; a mask is not longer than that. */
    size_t cap =
        3 * (text_bytes(u->scheme) + text_bytes(u->user) + text_bytes(u->host) +
             text_bytes(u->path) + text_bytes(u->query)) +
        sizeof("://@[]:65535/~/?");
    char *text, *at;

    if (strcmp(u->scheme, "-") == 0 || strcmp(u->scheme, "file") == 0)
        return hl_strdup(u->scheme[0] == '-' ? "-" : u->path);
    text = at = hl_malloc(cap);
    if (!text)
        return NULL;
    at = put_text(at, u->scheme);
    if (u->host) {
        at = put_authority(at, u);
        if (u->path[0] != '/')
            at = put_text(at, "/~/");
        at = put_encoded(at, u->path, has_query(u->scheme) ? "%?" : "%");
    } else {
        *at++ = ':';
        at = put_opaque(at, u->path);
    }
    if (u->query) {
        *at++ = '?';
        at = put_query(at, u->query);
    }
    *at = '\0';
    HL_ASSERT((size_t)(at - text) < cap);
    return text;
}

/* ---- Parts -------------------------------------------------------------- */

char *hl_url_query(const struct hl_url *u, const char *key)
{
    size_t key_len = strlen(key);
    char *value;

    for (const char *s = u->query; s && *s;) {
        size_t len = strcspn(s, "&");

        if (strncmp(s, key, key_len) == 0 && key_len <= len) {
            const char *v = s + key_len;
            const char *end = s + len;

            if (v == end || *v == '=') {
                v += v < end;
                return copy_span(&value, v, (size_t)(end - v)) ? NULL : value;
            }
        }
        s += len;
        s += *s == '&';
    }
    return NULL;
}

const char *hl_url_basename(const struct hl_url *u)
{
    const char *slash = strrchr(u->path, '/');

    return slash ? slash + 1 : u->path;
}

/* raw, "/" unless there is one, and name. */
static char *append_raw(const char *raw, const char *name)
{
    size_t len = strlen(raw), name_len = strlen(name);
    char *out = hl_malloc(len + 3 * name_len + sizeof("/"));
    char *at;

    if (!out)
        return NULL;
    at = put_span(out, raw, len);
    if (len == 0 || raw[len - 1] != '/')
        *at++ = '/';
    put_escaped(at, name, name_len, is_component);
    return out;
}

int hl_url_append(struct hl_url *u, const char *name)
{
    size_t len = strlen(u->path);
    bool joined = len == 0 || u->path[len - 1] == '/';
    char *path = hl_asprintf("%s%s%s", u->path, joined ? "" : "/", name);
    char *raw = path && u->raw ? append_raw(u->raw, name) : NULL;

    if (!path || (u->raw && !raw)) {
        hl_free(path);
        return HAUL_E_NOMEM;
    }
    hl_free(u->path);
    hl_free(u->raw);
    u->path = path;
    u->raw = raw;
    set_folder(u);
    return 0;
}

static bool same_text(const char *a, const char *b,
                      int (*compare)(const char *, const char *))
{
    return a && b ? compare(a, b) == 0 : a == b;
}

bool hl_url_same_endpoint(const struct hl_url *a, const struct hl_url *b)
{
    /* RFC 3986 section 3.2.2: host names have no case. */
    return same_text(a->scheme, b->scheme, strcmp) &&
           same_text(a->user, b->user, strcmp) &&
           same_text(a->host, b->host, strcasecmp) && a->port == b->port;
}
