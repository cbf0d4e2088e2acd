/* Names of sources and targets: whatever the text, the parts stay inside it,
 * no password is shown, and what was parsed can be copied. */
#include <string.h>

#include "fuzz.h"
#include "url.h"

static void check_copy(const struct hl_url *u)
{
    struct hl_url copy;
    char *value;

    FUZZ_CHECK(hl_url_copy(u, &copy) == 0);
    FUZZ_CHECK(hl_url_same_endpoint(u, &copy));
    FUZZ_CHECK(!strcmp(u->path, copy.path));
    FUZZ_CHECK(hl_url_append(&copy, "name") == 0);
    FUZZ_CHECK(!strcmp(hl_url_basename(&copy), "name"));
    value = hl_url_query(&copy, "size");
    hl_free(value);
    hl_url_fini(&copy);
}

/* The same name with a password that occurs nowhere else. */
static void check_password(const struct hl_url *u)
{
    static const char secret[] = "S3cr3t,S3cr3t";
    struct hl_url copy;
    char *shown;

    if (!u->host)
        return;
    FUZZ_CHECK(hl_url_copy(u, &copy) == 0);
    hl_free(copy.password);
    copy.password = hl_strdup(secret);
    shown = hl_url_display(&copy);
    FUZZ_CHECK(shown && !strstr(shown, secret));
    hl_free(shown);
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
        check_copy(&u);
        check_password(&u);
        hl_url_fini(&u);
    }
    hl_free(text);
    FUZZ_CHECK(hl_mem_live() == 0);
    return 0;
}
