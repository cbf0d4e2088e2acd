/* Digests against vectors of xxhsum -H2 0.8.1, sha256sum and of the standards;
 * hex. The data is
 * byte i = i * 131 + (i >> 8) * 7 + 5; the lengths touch each code path of
 * XXH3 (0-3, 4-8, 9-16, 17-128, 129-240, more, more than a block). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "digest.h"

#define DATA_SIZE (4u << 20)

static const struct {
    size_t len;
    const char *xxh128, *sha256;
} vectors[] = {
    {0, "99aa06d3014798d86001c324468d497f",
     "e3b0c44298fc1c149afbf4c8996fb924"
     "27ae41e4649b934ca495991b7852b855"},
    {1, "e1325e21416bcdb2929e358d27ae3ee2",
     "e77b9a9ae9e30b0dbdb6f510a264ef9d"
     "e781501d7b6b92ae89eb059c5ab743db"},
    {3, "6314f6269026169330069c90b99182f2",
     "d92e9c8d6444b08457c02020fd2b25db"
     "933f08012767e51cf8818bdaf1371b50"},
    {4, "1c0809605e05a2b1bee8c76c7e70385d",
     "8d38f74eee5e4a3e8da8066602147492"
     "7934d17e54d28c96212a855f3899164a"},
    {8, "f638c7d0289261a59dab33761e888bdc",
     "92de7b45f9dbfb102437a78cf7d56766"
     "be7e4d33a9063e65932c9a585fdca34c"},
    {9, "be5e2367d8076a4e80315196bcceb453",
     "88854e41f2199f3b00f09baa224fe3e7"
     "d4bc9241a2a75d0cec26100a1c27fd80"},
    {16, "b7c9f9df6d6bd8b075750de25ef8b2ce",
     "3a7603f42bcd529525361d0f98af1ff4"
     "bad3b6825e13f98c4126653f8e1e8ba2"},
    {17, "d633e30463db164a1210b42b2844b708",
     "b4ea2a77e90ffa9bd117fc6703f203b0"
     "3ff5b49a9020a565ba760747be162939"},
    {128, "1f89463d95789d07684810c47dfc23b1",
     "d941b7e9ad66fb47d0c0b8507e56efc1"
     "79ae6c42249057c251da4ccdb9f9a3b1"},
    {129, "817e37e4199c924846def383441ebd8f",
     "3ea2bb22010cdef70edb0a7d9347c98f"
     "0a9be655e152f9f34e01ea8187ee7081"},
    {240, "472680b6185360fad31a321f96c08b75",
     "ea0f7889b4be05b36b34125d59f35c2f"
     "19ca15d5d3eb15e501c62775ce77f61e"},
    {241, "5e38c3db94be612d8bd3aa0d9f127af5",
     "e6cedeb6d4607866536de62a8f57ec2a"
     "d9ec5a87d3855c0eab3da78e659648c6"},
    {1024, "bd3b2335a50f9e323fa1d4d42c21189e",
     "e9688cc53e92e721e3df5d36c510aa93"
     "a3ee3a70ad811e0a0d4c60a55059b222"},
    {1025, "a4b856a83e68e5a6c3b964f69630a13c",
     "b6d3f4bf03afb24f8311bea37bb069d4"
     "83b604baa478e9da0a6e4c33745fe368"},
    {65543, "bac0eaee107beab30b91c873b648e063",
     "391bea04f27fa593a909ee7625cb1858"
     "e9bf949777100c491b5df287722833dd"},
    {4194304, "43d5267030bf3677bb806b570c2c2dfd",
     "9fceef332810c5e84ae64b550fa63f23"
     "adac3f4b9f2d35da3a1289c8b280f418"},
};

static uint8_t *data;

static int setup(void **state)
{
    (void)state;
    data = malloc(DATA_SIZE);
    if (!data)
        return -1;
    for (size_t i = 0; i < DATA_SIZE; i++)
        data[i] = (uint8_t)(i * 131 + (i >> 8) * 7 + 5);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(data);
    return 0;
}

static void expect_hex(const struct hl_digest *d, const uint8_t *out,
                       const char *want)
{
    char hex[2 * 64 + 1];

    hl_hex(out, d->size, hex);
    assert_string_equal(hex, want);
}

static const char *wanted(size_t i, const struct hl_digest *d)
{
    return strcmp(d->name, "xxh128") == 0 ? vectors[i].xxh128
                                          : vectors[i].sha256;
}

static void one_shot_equals_the_tools(const char *name, size_t size)
{
    const struct hl_digest *d = hl_digest_find(name);
    uint8_t out[HL_DIGEST_MAX];

    assert_non_null(d);
    assert_string_equal(d->name, name);
    assert_int_equal(d->size, size);
    for (size_t i = 0; i < HL_LEN(vectors); i++) {
        d->run(data, vectors[i].len, out);
        expect_hex(d, out, wanted(i, d));
    }
}

static void xxh128_equals_xxhsum(void **state)
{
    (void)state;
    one_shot_equals_the_tools("xxh128", 16);
}

static void sha256_equals_sha256sum(void **state)
{
    (void)state;
    one_shot_equals_the_tools("sha256", 32);
}

struct known {
    const char *name, *text, *hex;
};

static const struct known known[] = {
    /* FIPS 180-4, examples of NIST */
    {"sha256", "abc",
     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"sha512", "abc",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
     "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
    {"sha512",
     "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
     "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
     "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909"},
    /* RFC 1321 A.5 */
    {"md5", "", "d41d8cd98f00b204e9800998ecf8427e"},
    {"md5", "a", "0cc175b9c0f1b6a831c399e269772661"},
    {"md5", "message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
    {"md5", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
     "d174ab98d277d9f5a5611c2c9f419d9f"},
    /* the check value of catalogues, and IANA's example of Digest */
    {"crc32c", "123456789", "e3069283"},
    {"crc32c", "dog", "0a72a4df"},
    {"crc32c", "", "00000000"},
};

static void offered_digests_equal_the_vectors_of_their_standards(void **state)
{
    uint8_t out[64];

    (void)state;
    for (size_t i = 0; i < HL_LEN(known); i++) {
        const struct hl_digest *d = hl_digest_find_offered(known[i].name);

        assert_non_null(d);
        assert_string_equal(d->name, known[i].name);
        assert_int_equal(2 * d->size, strlen(known[i].hex));
        d->run(known[i].text, strlen(known[i].text), out);
        expect_hex(d, out, known[i].hex);
    }
}

/* RFC 3720 B.4, which writes the bytes in the order of the wire: the last one
 * first. */
static void crc32c_equals_the_vectors_of_iscsi(void **state)
{
    static const uint8_t read_pdu[48] = {
        0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
        0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
    const struct hl_digest *d = hl_digest_find_offered("crc32c");
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32], out[4];

    (void)state;
    memset(ones, 0xff, sizeof(ones));
    for (uint8_t i = 0; i < 32; i++) {
        up[i] = i;
        down[i] = (uint8_t)(31 - i);
    }
    d->run(zeros, 32, out);
    expect_hex(d, out, "8a9136aa");
    d->run(ones, 32, out);
    expect_hex(d, out, "62a8ab43");
    d->run(up, 32, out);
    expect_hex(d, out, "46dd794e");
    d->run(down, 32, out);
    expect_hex(d, out, "113fdb5c");
    d->run(read_pdu, sizeof(read_pdu), out);
    expect_hex(d, out, "d9963a56");
}

/* On a processor without SSE4.2 both are the table. */
static void crc32c_of_table_and_processor_are_equal(void **state)
{
    static const size_t lens[] = {0, 1, 7, 8, 9, 15, 16, 255, 4096, 65543};

    (void)state;
    assert_int_equal(hl_crc32c(0, "123456789", 9, true), 0xe3069283);
    for (size_t i = 0; i < HL_LEN(lens); i++)
        for (size_t at = 0; at < 16; at++)
            assert_int_equal(
                hl_crc32c((uint32_t)at, data + at, lens[i], true),
                hl_crc32c((uint32_t)at, data + at, lens[i], false));
}

/* Pieces of 1, 2, 3, … bytes give the digest of the whole. */
static void check_ordered(const struct hl_digest *d, const uint8_t *from,
                          size_t size, const char *want)
{
    void *s = d->ordered_new();
    size_t at = 0, piece = 1;
    uint8_t out[64];

    assert_non_null(s);
    while (at < size) {
        size_t len = (size_t)hl_min(piece++, size - at);

        d->ordered_update(s, from + at, len);
        at += len;
    }
    d->ordered_final(s, out);
    d->ordered_free(s);
    expect_hex(d, out, want);
}

static void ordered_equals_one_shot(void **state)
{
    static const char *const names[] = {"xxh128", "sha256", "sha512", "md5",
                                        "crc32c"};
    char hex[2 * 64 + 1];
    uint8_t out[64];

    (void)state;
    for (size_t i = 0; i < HL_LEN(known); i++)
        check_ordered(hl_digest_find_offered(known[i].name),
                      (const uint8_t *)known[i].text, strlen(known[i].text),
                      known[i].hex);
    for (size_t n = 0; n < HL_LEN(names); n++)
        for (size_t i = 0; i < HL_LEN(vectors); i++) {
            const struct hl_digest *d = hl_digest_find_offered(names[n]);

            d->run(data, vectors[i].len, out);
            hl_hex(out, d->size, hex);
            check_ordered(d, data, vectors[i].len, n < 2 ? wanted(i, d) : hex);
        }
}

static void run_writes_no_more_than_its_size(void **state)
{
    static const char *const names[] = {"xxh128", "sha256", "sha512", "md5",
                                        "crc32c"};
    uint8_t out[80];

    (void)state;
    for (size_t n = 0; n < HL_LEN(names); n++) {
        const struct hl_digest *d = hl_digest_find_offered(names[n]);

        memset(out, 0xa5, sizeof(out));
        d->run("x", 1, out);
        for (size_t i = d->size; i < sizeof(out); i++)
            assert_int_equal(out[i], 0xa5);
    }
}

/* A manifest that names one of 64 bytes must not get it. */
static void only_own_digests_may_be_asked_for(void **state)
{
    (void)state;
    assert_ptr_equal(hl_digest_find("xxh128"),
                     hl_digest_find_offered("xxh128"));
    assert_ptr_equal(hl_digest_find("sha256"),
                     hl_digest_find_offered("sha256"));
    assert_null(hl_digest_find("sha512"));
    assert_null(hl_digest_find("md5"));
    assert_null(hl_digest_find("crc32c"));
    assert_null(hl_digest_find_offered("sha1"));
    assert_null(hl_digest_find_offered(""));
}

static void unknown_names_are_not_found(void **state)
{
    (void)state;
    assert_null(hl_digest_find(""));
    assert_null(hl_digest_find("xxh12"));
    assert_null(hl_digest_find("xxh1288"));
    assert_null(hl_digest_find("SHA256"));
}

static void hex_is_lower_case_and_ended(void **state)
{
    const uint8_t bytes[] = {0x00, 0x9a, 0xff, 0x10};
    char out[10];

    (void)state;
    memset(out, '!', sizeof(out));
    hl_hex(bytes, 4, out);
    assert_string_equal(out, "009aff10");
    assert_int_equal(out[9], '!');
    hl_hex(bytes, 0, out);
    assert_string_equal(out, "");
}

static void unhex_takes_exactly_the_digits(void **state)
{
    const uint8_t want[] = {0x00, 0x9a, 0xff};
    uint8_t out[4] = {1, 1, 1, 0x77};

    (void)state;
    assert_true(hl_unhex("009aFf", out, 3));
    assert_memory_equal(out, want, 3);
    assert_int_equal(out[3], 0x77);
    assert_true(hl_unhex("", out, 0));
    assert_false(hl_unhex("009aF", out, 3));
    assert_false(hl_unhex("009aFf0", out, 3));
    assert_false(hl_unhex("", out, 3));
    assert_false(hl_unhex("0", out, 1));
    assert_false(hl_unhex("0g", out, 1));
    assert_false(hl_unhex("g0", out, 1));
    assert_false(hl_unhex("/0", out, 1));
    assert_false(hl_unhex(":0", out, 1));
    assert_false(hl_unhex("@0", out, 1));
    assert_false(hl_unhex("G0", out, 1));
    assert_false(hl_unhex("`0", out, 1));
    assert_false(hl_unhex("\xff\xff", out, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xxh128_equals_xxhsum),
        cmocka_unit_test(sha256_equals_sha256sum),
        cmocka_unit_test(offered_digests_equal_the_vectors_of_their_standards),
        cmocka_unit_test(crc32c_equals_the_vectors_of_iscsi),
        cmocka_unit_test(crc32c_of_table_and_processor_are_equal),
        cmocka_unit_test(ordered_equals_one_shot),
        cmocka_unit_test(run_writes_no_more_than_its_size),
        cmocka_unit_test(only_own_digests_may_be_asked_for),
        cmocka_unit_test(unknown_names_are_not_found),
        cmocka_unit_test(hex_is_lower_case_and_ended),
        cmocka_unit_test(unhex_takes_exactly_the_digits),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
