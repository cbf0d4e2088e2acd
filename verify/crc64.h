/* CRC-64/NVME, what Amazon S3 computes of every object unless another checksum
 * is asked for (NVM Express NVM Command Set Specification 1.0, 5.2.1.3.4). One
 * that only a remote offers: see digest.h. */
#ifndef HL_CRC64_H
#define HL_CRC64_H

#include "stage.h"

#define HL_CRC64_SIZE 8

/* Of data that comes behind data of CRC crc (0: behind none). */
uint64_t hl_crc64nvme(uint64_t crc, const void *data, size_t len);

/* For the table of digest.c; big-endian. */
void hl_crc64_run(const void *data, size_t len, uint8_t *out);
void *hl_crc64_new(void);
void hl_crc64_update(void *state, const void *data, size_t len);
void hl_crc64_final(void *state, uint8_t *out);

#endif /* HL_CRC64_H */
