/* CRC-64/NVME by tables, eight bytes a step. See crc64.h. Any thread. */
#include "crc64.h"

#include <pthread.h>
#include <string.h>

/* 0xad93d23594c93659 with its bits reflected. */
#define POLYNOMIAL UINT64_C(0x9a6c9329ac4bc9b5)

/* table[k][n]: byte n with k bytes of zero behind it. */
static uint64_t table[8][256];

static void make_table(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint64_t crc = n;

        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        table[0][n] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t n = 0; n < 256; n++) {
            uint64_t crc = table[k - 1][n];

            table[k][n] = crc >> 8 ^ table[0][crc & 0xff];
        }
}

uint64_t hl_crc64nvme(uint64_t crc, const void *data, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const uint8_t *s = data;

    (void)pthread_once(&once, make_table);
    crc = ~crc;
    for (; len >= 8; len -= 8, s += 8) {
        uint64_t next = 0;

        for (int i = 0; i < 8; i++) {
            next ^= table[7 - i][s[i] ^ (crc & 0xff)];
            crc >>= 8;
        }
        crc = next;
    }
    while (len--)
        crc = crc >> 8 ^ table[0][*s++ ^ (crc & 0xff)];
    return ~crc;
}

static void put(uint64_t crc, uint8_t *out)
{
    for (int i = 0; i < HL_CRC64_SIZE; i++)
        out[i] = (uint8_t)(crc >> (56 - 8 * i));
}

void hl_crc64_run(const void *data, size_t len, uint8_t *out)
{
    put(hl_crc64nvme(0, data, len), out);
}

void *hl_crc64_new(void)
{
    return hl_malloc(sizeof(uint64_t)); /* of no bytes: 0 */
}

void hl_crc64_update(void *state, const void *data, size_t len)
{
    uint64_t *crc = state;

    *crc = hl_crc64nvme(*crc, data, len);
}

void hl_crc64_final(void *state, uint8_t *out)
{
    const uint64_t *crc = state;

    put(*crc, out);
}
