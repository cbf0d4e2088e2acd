/* SFTP replies: whatever a server sends, what comes out lies inside the
 * message, and limits stay inside what we use. */
#include <string.h>

#include "fuzz.h"
#include "sftp_packet.h"

static void check_inside(struct hl_sftp_bytes b, const uint8_t *data,
                         size_t size)
{
    if (b.len == 0)
        return;
    FUZZ_CHECK(b.p >= data && b.len <= size);
    FUZZ_CHECK((size_t)(b.p - data) <= size - b.len);
}

static void check_extended(struct hl_sftp_bytes body)
{
    struct hl_sftp_limits limits;
    uint64_t room;

    if (hl_sftp_limits_parse(body, &limits) == 0) {
        FUZZ_CHECK(limits.read_max >= 1024);
        FUZZ_CHECK(limits.read_max <= HL_SFTP_IO_MAX);
        FUZZ_CHECK(limits.write_max >= 1024);
        FUZZ_CHECK(limits.write_max <= HL_SFTP_IO_MAX);
    }
    if (hl_sftp_statvfs_parse(body, &room) == 0)
        FUZZ_CHECK(body.len >= 40);
}

static void check_reply(const uint8_t *data, size_t size)
{
    struct hl_sftp_reply reply;

    if (hl_sftp_reply_parse(data, size, &reply))
        return;
    FUZZ_CHECK(size >= 5);
    FUZZ_CHECK(reply.type == data[0]);
    check_inside(reply.bytes, data, size);
    if (reply.type == HL_SFTP_HANDLE)
        FUZZ_CHECK(reply.bytes.len && reply.bytes.len <= HL_SFTP_HANDLE_MAX);
    if (reply.type == HL_SFTP_EXTENDED_REPLY)
        check_extended(reply.bytes);
}

static void check_head(const uint8_t *data, size_t size)
{
    struct hl_sftp_head head;
    int rc = hl_sftp_head_parse(data, size, &head);

    FUZZ_CHECK(rc == HAUL_E_PROTO || rc == 0 || (size_t)rc > size);
    if (rc)
        return;
    FUZZ_CHECK(head.length >= 5 && head.length <= HL_SFTP_MESSAGE_MAX);
    if (head.type == HL_SFTP_DATA)
        FUZZ_CHECK(head.data_len == head.length - 9);
}

/* Every shorter beginning is a possible state of the receive buffer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hl_sftp_server server;
    size_t n;

    for (n = 0; n <= size && n <= HL_SFTP_DATA_HEAD; n++)
        check_head(data, n);
    check_reply(data, size);
    if (hl_sftp_version_parse(data, size, &server) == 0)
        FUZZ_CHECK(size >= 5 && data[0] == HL_SFTP_VERSION);
    return 0;
}
