/* CRC-64/NVME. The values are those of the standard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "crc64.h"

/* NVM Express NVM Command Set Specification 1.0c, figure 104 ("64b CRC Test
 * Cases for 4 KiB Logical Block with no Metadata"), and the check value of the
 * catalogue of parametrised CRC algorithms. */
static void crc64_equals_the_vectors_of_nvme(void **state)
{
    static uint8_t block[4096];

    (void)state;
    assert_true(hl_crc64nvme(0, "123456789", 9) ==
                UINT64_C(0xae8b14860a799888));
    assert_true(hl_crc64nvme(0, "", 0) == 0);
    assert_true(hl_crc64nvme(0, block, sizeof(block)) ==
                UINT64_C(0x6482d367eb22b64e));
    memset(block, 0xff, sizeof(block));
    assert_true(hl_crc64nvme(0, block, sizeof(block)) ==
                UINT64_C(0xc0ddba7302eca3ac));
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (uint8_t)i;
    assert_true(hl_crc64nvme(0, block, sizeof(block)) ==
                UINT64_C(0x3e729f5f6750449c));
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (uint8_t)(0xff - i);
    assert_true(hl_crc64nvme(0, block, sizeof(block)) ==
                UINT64_C(0x9a2df64b8e9e517e));
}

/* Bit by bit, as the polynomial says. */
static uint64_t slow(const uint8_t *data, size_t len)
{
    uint64_t crc = UINT64_MAX;

    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ UINT64_C(0x9a6c9329ac4bc9b5) : crc >> 1;
    }
    return ~crc;
}

static void any_cut_and_any_address_give_the_same(void **state)
{
    uint8_t data[300], out[HL_CRC64_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 37 + i / 7);
    for (size_t at = 0; at < 9; at++)
        for (size_t len = 0; len < 40; len++)
            assert_true(hl_crc64nvme(0, data + at, len) ==
                        slow(data + at, len));
    for (size_t cut = 0; cut <= sizeof(data); cut++) {
        void *crc = hl_crc64_new();
        uint64_t want = slow(data, sizeof(data));

        hl_crc64_update(crc, data, cut);
        hl_crc64_update(crc, data + cut, sizeof(data) - cut);
        hl_crc64_final(crc, out);
        hl_free(crc);
        for (int i = 0; i < HL_CRC64_SIZE; i++)
            assert_int_equal(out[i], (uint8_t)(want >> (56 - 8 * i)));
    }
    hl_crc64_run("123456789", 9, out);
    assert_memory_equal(out, "\xae\x8b\x14\x86\x0a\x79\x98\x88", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc64_equals_the_vectors_of_nvme),
        cmocka_unit_test(any_cut_and_any_address_give_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
