/* Names of sources and targets: whatever the text, the parts stay inside it,
 * no password is shown, and what was parsed can be copied. */
#include <string.h>

#include "fuzz.h"
#include "url.h"

/* Nothing in it ends a request line. */
static void check_raw(const struct hl_url *u)
{
    FUZZ_CHECK(u->raw[0]);
    for (const char *s = u->raw; *s; s++)
        FUZZ_CHECK(*s > 0x20 && *s < 0x7f);
    FUZZ_CHECK(strcmp(u->scheme, "s3") != 0 ||
               (!u->user && !u->password && !u->query && !u->port &&
                !strpbrk(u->raw, "?#+")));
    if (strcmp(u->scheme, "https") != 0 && strcmp(u->scheme, "put+http") != 0)
        return;
    FUZZ_CHECK(!strchr(u->raw, '#'));
    for (const char *s = u->query; s && *s; s++)
        FUZZ_CHECK(*s > 0x20 && *s < 0x7f);
}

static void check_copy(const struct hl_url *u)
{
    struct hl_url copy;
    char *value;

    FUZZ_CHECK(hl_url_copy(u, &copy) == 0);
    FUZZ_CHECK(hl_url_same_endpoint(u, &copy));
    FUZZ_CHECK(!strcmp(u->path, copy.path));
    FUZZ_CHECK(hl_url_append(&copy, "name") == 0);
    FUZZ_CHECK(!strcmp(hl_url_basename(&copy), "name"));
    FUZZ_CHECK(!copy.raw == !u->raw);
    if (copy.raw)
        FUZZ_CHECK(strlen(copy.raw) >= strlen(u->raw) + strlen("name"));
    value = hl_url_query(&copy, "size");
    hl_free(value);
    hl_url_fini(&copy);
}

/* The same name with another password shows the same text. */
static void check_password(const struct hl_url *u)
{
    struct hl_url copy;
    char *shown, *again;

    if (!u->host)
        return;
    FUZZ_CHECK(hl_url_copy(u, &copy) == 0);
    hl_free_secret(copy.password);
    copy.password = hl_strdup("S3cr3t,S3cr3t");
    shown = hl_url_display(u);
    again = hl_url_display(&copy);
    FUZZ_CHECK(shown && again && !strcmp(shown, again));
    hl_free(shown);
    hl_free(again);
    hl_url_fini(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = hl_malloc(size + 1);
    struct hl_error err = {0};
    struct hl_url u;
    int rc;

    FUZZ_CHECK(text);
    memcpy(text, data, size);
    rc = hl_url_parse(text, &u, &err);
    FUZZ_CHECK(rc == 0 || (rc == HAUL_E_INVAL && err.message[0]));
    if (rc == 0) {
        FUZZ_CHECK(u.scheme && u.path);
        FUZZ_CHECK(strlen(u.path) <= size + 1);
        if (u.raw)
            check_raw(&u);
        check_copy(&u);
        check_password(&u);
        hl_url_fini(&u);
    }
    hl_free(text);
    FUZZ_CHECK(hl_mem_live() == 0);
    return 0;
}
