/* Headers of resumable uploads: the first byte picks a parser, the rest is what
 * a peer sent. What is accepted is in its range, what is not changes nothing,
 * and what is kept as text is read back. */
#include <string.h>

#include "fuzz.h"
#include "upload_header.h"

#define INTEGER_MAX UINT64_C(999999999999999) /* RFC 9651 3.3.1 */

static void check_integer(const char *value)
{
    uint64_t n = 7;

    if (!hl_upload_integer(value, &n))
        FUZZ_CHECK(n == 7);
    else
        FUZZ_CHECK(n <= INTEGER_MAX && strpbrk(value, "0123456789"));
}

static void check_boolean(const char *value)
{
    bool b = false;

    if (hl_upload_boolean(value, &b))
        FUZZ_CHECK(value[strspn(value, " ")] == '?');
    else
        FUZZ_CHECK(!b);
}

static void check_limit(const char *value)
{
    struct hl_upload_limit l = {7, 7, 7, 7};

    if (!hl_upload_limit(value, &l)) {
        FUZZ_CHECK(l.size_max == 7 && l.size_min == 7);
        FUZZ_CHECK(l.append_max == 7 && l.append_min == 7);
        return;
    }
    FUZZ_CHECK(l.size_max <= INTEGER_MAX || l.size_max == HL_SIZE_UNKNOWN);
    FUZZ_CHECK(l.append_max <= INTEGER_MAX || l.append_max == HL_SIZE_UNKNOWN);
    FUZZ_CHECK(l.size_min <= INTEGER_MAX && l.append_min <= INTEGER_MAX);
}

static void check_lists(const char *value)
{
    char text[256];
    uint32_t bits = hl_tus_extensions(value);

    hl_tus_extensions_text(bits, text, sizeof(text));
    FUZZ_CHECK(hl_tus_extensions(text) == bits);
    bits = hl_tus_sums(value);
    hl_tus_sums_text(bits, text, sizeof(text));
    FUZZ_CHECK(hl_tus_sums(text) == bits);
    FUZZ_CHECK(!hl_tus_version(value) || strstr(value, "1.0.0"));
    FUZZ_CHECK(!hl_upload_lists(value, "PUT") || strlen(value) >= 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size == 0)
        return 0;
    text = hl_malloc(size); /* what follows the first byte, and a NUL */
    FUZZ_CHECK(text);
    memcpy(text, data + 1, size - 1);
    switch (data[0]) {
    case 'i':
        check_integer(text);
        break;
    case 'b':
        check_boolean(text);
        break;
    case 'l':
        check_limit(text);
        break;
    default:
        check_lists(text);
    }
    hl_free(text);
    FUZZ_CHECK(hl_mem_live() == 0);
    return 0;
}
