/* HTTP headers: the first byte picks a parser, the rest is what a peer sent.
 * What is accepted is in its range, what is not changes nothing, and no secret
 * of a redirect is told. */
#include <string.h>

#include "fuzz.h"
#include "http_header.h"

static void check_number(const char *value)
{
    uint64_t n = 0;

    if (!hl_http_number(value, &n)) {
        FUZZ_CHECK(n == 0);
        return;
    }
    FUZZ_CHECK(n <= INT64_MAX);
    FUZZ_CHECK(strspn(value, "0123456789") == strlen(value));
}

static void check_range(const char *value)
{
    struct hl_http_range r = {7, 7, 7};

    if (!hl_http_content_range(value, &r)) {
        FUZZ_CHECK(r.begin == 7 && r.end == 7 && r.total == 7);
        return;
    }
    FUZZ_CHECK(r.begin <= r.end && r.end <= r.total && r.end <= INT64_MAX);
    FUZZ_CHECK(r.begin < r.end || (r.end == 0 && r.total != HL_SIZE_UNKNOWN));
}

static void check_etag(const char *value)
{
    char out[HL_HTTP_ETAG_MAX] = "";
    bool weak = false;
    size_t len;

    if (!hl_http_etag(value, out, sizeof(out), &weak)) {
        FUZZ_CHECK(!out[0] && !weak);
        return;
    }
    len = strlen(out);
    FUZZ_CHECK(len >= 2 && out[0] == '"' && out[len - 1] == '"');
    FUZZ_CHECK(strcspn(out + 1, "\" \t\r\n") == len - 2);
    FUZZ_CHECK(strstr(value, out));
}

static void check_times(const char *value)
{
    int64_t s = -5;
    uint64_t ns;

    FUZZ_CHECK(hl_http_date(value, &s) ? s >= 0 : s == -5);
    ns = hl_http_retry_after_ns(value, 784111777);
    FUZZ_CHECK(ns <= 3600 * HL_NS_PER_S && ns % HL_NS_PER_S == 0);
    ns = hl_http_retry_after_ns(value, INT64_MAX);
    FUZZ_CHECK(ns <= 3600 * HL_NS_PER_S);
}

static void check_offer(const char *name, const char *value)
{
    static const char *const names[] = {"", "sha256", "sha512", "md5",
                                        "crc32c"};
    static const size_t sizes[] = {0, 32, 64, 16, 4};
    struct hl_identity id = {.size = 42};
    size_t i = 0, k;

    hl_http_offer(&id, name, value, false);
    while (i < HL_LEN(names) && strcmp(names[i], id.offered) != 0)
        i++;
    FUZZ_CHECK(i < HL_LEN(names) && id.size == 42);
    for (k = sizes[i]; k < HL_OFFERED_MAX; k++)
        FUZZ_CHECK(id.offered_digest[k] == 0);
}

static void check_redirect(const char *from, const char *location)
{
    struct hl_error e = {0};
    struct hl_http_hop hop;
    int rc = hl_http_redirect(from, location, &hop, &e);

    FUZZ_CHECK(!rc == !!hop.url && rc == e.code);
    if (!hop.url) {
        FUZZ_CHECK(!hop.same_origin && e.message[0]);
        return;
    }
    FUZZ_CHECK(!strncmp(hop.url, "https://", 8) ||
               (!strncmp(from, "http:", 5) && !strncmp(hop.url, "http://", 7)));
    FUZZ_CHECK(!strchr(hop.url, '#') &&
               strcspn(hop.url, " \r\n\t") == strlen(hop.url));
    /* no user in the authority */
    FUZZ_CHECK(!memchr(strchr(hop.url, ':') + 3, '@',
                       strcspn(strchr(hop.url, ':') + 3, "/?")));
    hl_free(hop.url);
}

static void check_errors(const char *text, int number)
{
    const struct hl_http_subject subject = {text, "read", number % 2, true};
    struct hl_error e = {0};

    FUZZ_CHECK(hl_http_status_error(number * 4, &subject, text, &e) < 0);
    FUZZ_CHECK(e.code && e.message[0]);
    hl_err_clear(&e);
    FUZZ_CHECK(hl_http_curl_error(number % 100 + 1, text, 0, 0, &subject, &e) <
               0);
    hl_err_clear(&e);
    FUZZ_CHECK(hl_http_curl_error(60, text, 0, number % 70, &subject, &e) ==
               HAUL_E_TLS);
}

static void check(uint8_t which, const char *text)
{
    static const char *const fields[] = {"Repr-Digest", "Digest", "x-goog-hash",
                                         "x-ms-blob-content-md5"};

    if (which == 'n')
        check_number(text);
    else if (which == 'r')
        check_range(text);
    else if (which == 'e')
        check_etag(text);
    else if (which == 't')
        check_times(text);
    else if (which >= '0' && which <= '3')
        check_offer(fields[which - '0'], text);
    else if (which == 'l')
        check_redirect("https://h:8443/a/b?c", text);
    else if (which == 'h')
        check_redirect("http://[::1]/", text);
    else
        check_errors(text, which);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size == 0)
        return 0;
    text = hl_malloc(size); /* what follows the first byte, and a NUL */
    FUZZ_CHECK(text);
    memcpy(text, data + 1, size - 1);
    check(data[0], text);
    hl_free(text);
    FUZZ_CHECK(hl_mem_live() == 0);
    return 0;
}
