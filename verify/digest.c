/*
 * XXH3-128 by libxxhash, SHA-256, SHA-512 and MD5 by libcrypto, CRC-32C by the
 * processor or a table, hex. Any thread.
 *
 * On x86-64 the library's own dispatcher picks AVX2 or AVX-512 at run time:
 * 4 MiB in cache at 70 GB/s, against 18 GB/s of the plain entry points (SSE2;
 * 54 with an AVX2 build), and this code stays generic.
 */
#include "digest.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#ifdef __x86_64__
#include <nmmintrin.h>
#endif

#include <openssl/evp.h>
#if defined(__x86_64__) && defined(__has_include)
#if __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif
#endif
#include <xxhash.h>

#include "crc64.h"

static_assert(sizeof(XXH128_canonical_t) == 16, "size of an XXH3-128");

/* ---- XXH3-128 ----------------------------------------------------------- */

static void put_canonical(XXH128_hash_t hash, uint8_t *out)
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, sizeof(canonical.digest));
}

static void xxh128_run(const void *data, size_t len, uint8_t *out)
{
    put_canonical(XXH3_128bits(data, len), out);
}

static void *xxh128_new(void)
{
    XXH3_state_t *state = XXH3_createState(); /* aligned to 64 bytes */

    if (state)
        (void)XXH3_128bits_reset(state);
    return state;
}

static void xxh128_update(void *state, const void *data, size_t len)
{
    (void)XXH3_128bits_update(state, data, len);
}

static void xxh128_final(void *state, uint8_t *out)
{
    put_canonical(XXH3_128bits_digest(state), out);
}

static void xxh128_free(void *state)
{
    (void)XXH3_freeState(state);
}

/* ---- SHA-256, SHA-512, MD5 ---------------------------------------------- */

/* libcrypto can fail (memory, providers, MD5 where FIPS forbids it), a digest
 * cannot. What is left then must never equal another digest: each is another
 * number. */
static void put_failed(uint8_t *out, size_t size)
{
    static atomic_uint_fast64_t failures;
    uint64_t n = atomic_fetch_add(&failures, 1);

    HL_ASSERT(size >= 16);
    memset(out, 0xff, size);
    memcpy(out, &n, sizeof(n));
}

static void evp_run(const EVP_MD *md, const void *data, size_t len,
                    uint8_t *out)
{
    if (EVP_Digest(data, len, out, NULL, md, NULL) != 1)
        put_failed(out, (size_t)EVP_MD_size(md));
}

static void *evp_new(const EVP_MD *md)
{
    EVP_MD_CTX *state = EVP_MD_CTX_new();

    if (state && EVP_DigestInit_ex(state, md, NULL) != 1) {
        EVP_MD_CTX_free(state);
        return NULL;
    }
    return state;
}

static void evp_update(void *state, const void *data, size_t len)
{
    (void)EVP_DigestUpdate(state, data, len);
}

static void evp_final(void *state, uint8_t *out)
{
    if (EVP_DigestFinal_ex(state, out, NULL) != 1)
        put_failed(out, (size_t)EVP_MD_CTX_size(state));
}

static void evp_free(void *state)
{
    EVP_MD_CTX_free(state);
}

/* The table's functions have no argument that names the algorithm. */
#define EVP_DIGEST(name)                                                       \
    static void name##_run(const void *data, size_t len, uint8_t *out)         \
    {                                                                          \
        evp_run(EVP_##name(), data, len, out);                                 \
    }                                                                          \
    static void *name##_new(void)                                              \
    {                                                                          \
        return evp_new(EVP_##name());                                          \
    }

EVP_DIGEST(sha256)
EVP_DIGEST(sha512)
EVP_DIGEST(md5)

/* ---- CRC-32C ------------------------------------------------------------ */

/* RFC 3720 section 12.1, bits reflected. */
#define CRC32C_POLYNOMIAL UINT32_C(0x82f63b78)

static uint32_t crc32c_table[8][256];

/* crc32c_table[k][n]: byte n with k bytes of zero behind it. */
static void crc32c_make_table(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;

        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
        crc32c_table[0][n] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t n = 0; n < 256; n++) {
            uint32_t crc = crc32c_table[k - 1][n];

            crc32c_table[k][n] = crc >> 8 ^ crc32c_table[0][crc & 0xff];
        }
}

/* Eight bytes a step. */
static uint32_t crc32c_by_table(uint32_t crc, const uint8_t *s, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, crc32c_make_table);
    for (; len >= 8; len -= 8, s += 8) {
        uint32_t next = 0;

        for (int i = 0; i < 4; i++) {
            next ^= crc32c_table[7 - i][s[i] ^ (crc & 0xff)];
            next ^= crc32c_table[3 - i][s[4 + i]];
            crc >>= 8;
        }
        crc = next;
    }
    while (len--)
        crc = crc >> 8 ^ crc32c_table[0][*s++ ^ (crc & 0xff)];
    return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t
crc32c_by_sse42(uint32_t crc, const uint8_t *s, size_t len)
{
    uint64_t wide = crc, word;

    for (; len >= sizeof(word); len -= sizeof(word), s += sizeof(word)) {
        memcpy(&word, s, sizeof(word));
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    while (len--)
        crc = _mm_crc32_u8(crc, *s++);
    return crc;
}
#endif

uint32_t hl_crc32c(uint32_t crc, const void *data, size_t len, bool by_table)
{
#ifdef __x86_64__
    if (!by_table && __builtin_cpu_supports("sse4.2"))
        return ~crc32c_by_sse42(~crc, data, len);
#endif
    (void)by_table;
    return ~crc32c_by_table(~crc, data, len);
}

static void put_crc(uint32_t crc, uint8_t *out)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(crc >> (24 - 8 * i));
}

static void crc32c_run(const void *data, size_t len, uint8_t *out)
{
    put_crc(hl_crc32c(0, data, len, false), out);
}

static void *crc32c_new(void)
{
    return hl_malloc(sizeof(uint32_t)); /* of no bytes: 0 */
}

static void crc32c_update(void *state, const void *data, size_t len)
{
    uint32_t *crc = state;

    *crc = hl_crc32c(*crc, data, len, false);
}

static void crc32c_final(void *state, uint8_t *out)
{
    const uint32_t *crc = state;

    put_crc(*crc, out);
}

/* ---- By name ------------------------------------------------------------ */

/* The ones that haul makes itself stand first. */
#define OWN_DIGESTS 2

static const struct hl_digest digests[] = {
    {"xxh128", 16, xxh128_run, xxh128_new, xxh128_update, xxh128_final,
     xxh128_free},
    {"sha256", 32, sha256_run, sha256_new, evp_update, evp_final, evp_free},
    {"sha512", 64, sha512_run, sha512_new, evp_update, evp_final, evp_free},
    {"md5", 16, md5_run, md5_new, evp_update, evp_final, evp_free},
    {"crc32c", 4, crc32c_run, crc32c_new, crc32c_update, crc32c_final, hl_free},
    {"crc64nvme", HL_CRC64_SIZE, hl_crc64_run, hl_crc64_new, hl_crc64_update,
     hl_crc64_final, hl_free},
};

static const struct hl_digest *find(const char *name, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(digests[i].name, name) == 0)
            return &digests[i];
    return NULL;
}

const struct hl_digest *hl_digest_find(const char *name)
{
    const struct hl_digest *d = find(name, OWN_DIGESTS);

    HL_ASSERT(!d || d->size <= HL_DIGEST_MAX);
    return d;
}

const struct hl_digest *hl_digest_find_offered(const char *name)
{
    return find(name, HL_LEN(digests));
}

/* ---- Hex ---------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hl_unhex(const char *text, uint8_t *out, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        int high = hex_value(text[2 * i]);
        int low = high < 0 ? -1 : hex_value(text[2 * i + 1]);

        if (low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * size] == '\0';
}
