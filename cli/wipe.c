/*
 * Takes secrets out of the command line, once the library has copied them:
 * ps and /proc show them no more, and what is left may be shown in messages.
 * Others could read them before; the library warns of that.
 */
#include <string.h>
#include <strings.h>

#include "cli.h"

/* A value in a query that is this long is taken for a credential. */
#define SECRET_VALUE_MIN 16

static bool is_secret_name(const char *name, size_t len)
{
    static const char *const words[] = {"token",   "secret", "pass", "pwd",
                                        "key",     "sig",    "cred", "auth",
                                        "session", "cookie"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const char *found = strcasestr(name, words[i]);

        if (found && found + strlen(words[i]) <= name + len)
            return true;
    }
    return false;
}

/* Removes what is between the two, which are inside one string. */
static void remove_span(char *begin, char *end)
{
    size_t gone = (size_t)(end - begin), rest = strlen(end);

    memmove(begin, end, rest);
    explicit_bzero(begin + rest, gone);
}

/* login is behind "://", or is a proxy without it. */
static void wipe_login(char *login, const char *ends)
{
    char *end = login + strcspn(login, ends);
    char *at = memrchr(login, '@', (size_t)(end - login));
    char *colon = at ? memchr(login, ':', (size_t)(at - login)) : NULL;

    if (colon)
        remove_span(colon, at);
}

/* A signed URL: "?X-Amz-Signature=0a1b...&part=1". */
static void wipe_query(char *s)
{
    for (;;) {
        size_t len = strcspn(s, "&"), key = strcspn(s, "=");
        char *value = key < len ? s + key + 1 : s;
        size_t value_len = (size_t)(s + len - value);
        bool secret = value_len >= SECRET_VALUE_MIN ||
                      (key < len && value_len && is_secret_name(s, key));

        if (secret) {
            size_t stars = value_len < 3 ? value_len : 3;

            remove_span(value + stars, value + value_len);
            memset(value, '*', stars);
            len = (size_t)(value - s) + stars;
        }
        s += len;
        if (!*s)
            return;
        s++;
    }
}

static bool ends_in(const char *url, const char *end, const char *scheme)
{
    size_t len = (size_t)(end - url), want = strlen(scheme);

    return len >= want && !strncasecmp(end - want, scheme, want);
}

/* What stands behind a '?' is a part of the path in the others. */
static bool has_query(const char *url, const char *scheme_end)
{
    return !ends_in(url, scheme_end, "sftp") &&
           !ends_in(url, scheme_end, "file") && !ends_in(url, scheme_end, "s3");
}

void wipe_url(char *url)
{
    char *scheme_end = strstr(url, "://"), *query;

    if (!scheme_end)
        return;
    if (!has_query(url, scheme_end)) {
        wipe_login(scheme_end + 3, "/");
        return;
    }
    wipe_login(scheme_end + 3, "/?");
    query = strchr(scheme_end, '?');
    if (query)
        wipe_query(query + 1);
}

/* "NAME: VALUE"; "@FILE" names a place, no secret. */
static void wipe_header(char *line)
{
    char *colon = strchr(line, ':');

    if (*line != '@' && colon && is_secret_name(line, (size_t)(colon - line)))
        explicit_bzero(colon + 1, strlen(colon + 1));
}

void wipe_options(const struct args *a)
{
    for (int i = 0; i < a->value_count; i++) {
        char *text = a->values[i].text, *scheme_end = strstr(text, "://");
        int id = a->values[i].option->id;

        if (id == HAUL_OPT_HEADER)
            wipe_header(text);
        else if (id == HAUL_OPT_PROXY || id == HAUL_OPT_ENDPOINT)
            wipe_login(scheme_end ? scheme_end + 3 : text, "/?");
    }
}
