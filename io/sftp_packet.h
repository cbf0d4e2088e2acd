/*
 * Messages of SFTP version 3 (draft-ietf-secsh-filexfer-02, and the
 * extensions of OpenSSH's PROTOCOL, section 4), encoded and decoded. Pure: no
 * I/O, no allocation, any thread. Every length that comes from the wire is
 * checked against the bytes that are there.
 */
#ifndef HL_SFTP_PACKET_H
#define HL_SFTP_PACKET_H

#include "base.h"

enum hl_sftp_type {
    HL_SFTP_INIT = 1,
    HL_SFTP_VERSION = 2,
    HL_SFTP_OPEN = 3,
    HL_SFTP_CLOSE = 4,
    HL_SFTP_READ = 5,
    HL_SFTP_WRITE = 6,
    HL_SFTP_FSTAT = 8,
    HL_SFTP_FSETSTAT = 10,
    HL_SFTP_REMOVE = 13,
    HL_SFTP_STAT = 17,
    HL_SFTP_RENAME = 18,
    HL_SFTP_STATUS = 101,
    HL_SFTP_HANDLE = 102,
    HL_SFTP_DATA = 103,
    HL_SFTP_NAME = 104,
    HL_SFTP_ATTRS = 105,
    HL_SFTP_EXTENDED = 200,
    HL_SFTP_EXTENDED_REPLY = 201
};

enum hl_sftp_status {
    HL_FX_OK = 0,
    HL_FX_EOF = 1,
    HL_FX_NO_SUCH_FILE = 2,
    HL_FX_PERMISSION_DENIED = 3,
    HL_FX_FAILURE = 4,
    HL_FX_BAD_MESSAGE = 5,
    HL_FX_NO_CONNECTION = 6,
    HL_FX_CONNECTION_LOST = 7,
    HL_FX_OP_UNSUPPORTED = 8
};

enum hl_sftp_open_flag {
    HL_FXF_READ = 1,
    HL_FXF_WRITE = 2,
    HL_FXF_CREAT = 8,
    HL_FXF_TRUNC = 16,
    HL_FXF_EXCL = 32
};

enum hl_sftp_attr_flag {
    HL_ATTR_SIZE = 1,
    HL_ATTR_UIDGID = 2,
    HL_ATTR_PERMISSIONS = 4,
    HL_ATTR_ACMODTIME = 8
};

/* A request or reply is never longer (OpenSSH: SFTP_MAX_MSG_LENGTH 256 KiB;
 * its 1 KiB of slack is kept on our side). */
#define HL_SFTP_MESSAGE_MAX (256 * 1024 + 1024)
#define HL_SFTP_HANDLE_MAX 256   /* the draft, section 6.3 */
#define HL_SFTP_IO_MAX 261120    /* largest data of a request: 255 KiB */
#define HL_SFTP_IO_DEFAULT 32768 /* what every server takes */
/* Bytes before the data: of a reply DATA; the most of a request WRITE. */
#define HL_SFTP_DATA_HEAD 13
#define HL_SFTP_WRITE_HEAD (4 + 1 + 4 + 4 + HL_SFTP_HANDLE_MAX + 8 + 4)

struct hl_sftp_attrs {
    uint32_t flags; /* enum hl_sftp_attr_flag: which of these are set */
    uint64_t size;
    uint32_t uid, gid, mode, atime, mtime;
};

/* Bytes inside a message. */
struct hl_sftp_bytes {
    const uint8_t *p;
    size_t len;
};

/* ---- Requests ----------------------------------------------------------- */

/* Where messages are appended. A message that does not fit is not begun:
 * the function returns false and len stays. */
struct hl_sftp_out {
    uint8_t *p;
    size_t cap, len;
};

bool hl_sftp_put_init(struct hl_sftp_out *o);
bool hl_sftp_put_open(struct hl_sftp_out *o, uint32_t id, const char *path,
                      uint32_t open_flags, const struct hl_sftp_attrs *attrs);
/* CLOSE, FSTAT */
bool hl_sftp_put_handle(struct hl_sftp_out *o, enum hl_sftp_type type,
                        uint32_t id, struct hl_sftp_bytes handle);
/* STAT, REMOVE */
bool hl_sftp_put_path(struct hl_sftp_out *o, enum hl_sftp_type type,
                      uint32_t id, const char *path);
bool hl_sftp_put_rename(struct hl_sftp_out *o, uint32_t id, const char *from,
                        const char *to);
bool hl_sftp_put_read(struct hl_sftp_out *o, uint32_t id,
                      struct hl_sftp_bytes handle, uint64_t offset,
                      uint32_t len);
/* Everything of a WRITE but its len bytes of data, which must follow. */
bool hl_sftp_put_write_head(struct hl_sftp_out *o, uint32_t id,
                            struct hl_sftp_bytes handle, uint64_t offset,
                            uint32_t len);
bool hl_sftp_put_fsetstat(struct hl_sftp_out *o, uint32_t id,
                          struct hl_sftp_bytes handle,
                          const struct hl_sftp_attrs *attrs);
/* An extended request with one or two strings (b.p NULL: one). */
bool hl_sftp_put_extended(struct hl_sftp_out *o, uint32_t id, const char *name,
                          struct hl_sftp_bytes a, struct hl_sftp_bytes b);
struct hl_sftp_bytes hl_sftp_text(const char *s);

/* ---- Replies ------------------------------------------------------------ */

/* One reply; pointers go into the message. */
struct hl_sftp_reply {
    uint8_t type;
    uint32_t id;
    uint32_t status;            /* STATUS */
    struct hl_sftp_bytes bytes; /* STATUS: text; HANDLE; DATA; the rest of an
                                 * EXTENDED_REPLY */
    struct hl_sftp_attrs attrs; /* ATTRS */
};

/* message: without its length field. 0 or HAUL_E_PROTO. NAME is accepted and
 * not looked into. */
int hl_sftp_reply_parse(const uint8_t *message, size_t len,
                        struct hl_sftp_reply *out);

/* The first bytes of a message, so that file data can be copied where it
 * belongs without waiting for the rest. */
struct hl_sftp_head {
    uint32_t length; /* of the message without the length field */
    uint8_t type;
    uint32_t id; /* type DATA only, as is data_len */
    uint32_t data_len;
};

/* Looks at len bytes. Returns how many are needed to know (5, for DATA
 * HL_SFTP_DATA_HEAD) when there are fewer, 0 when *out is set, or
 * HAUL_E_PROTO: too short, too long, or data that is not what the message
 * has room for. */
int hl_sftp_head_parse(const uint8_t *p, size_t len, struct hl_sftp_head *out);

/* What the server said about itself. */
struct hl_sftp_server {
    uint32_t version;
    bool posix_rename, hardlink, fsync, statvfs, limits;
};
/* A VERSION message without its length field. HAUL_E_PROTO. */
int hl_sftp_version_parse(const uint8_t *message, size_t len,
                          struct hl_sftp_server *out);

/* Replies of limits@openssh.com; cut to what we can use: 1 KiB to
 * HL_SFTP_IO_MAX. */
struct hl_sftp_limits {
    uint32_t read_max, write_max;
};
int hl_sftp_limits_parse(struct hl_sftp_bytes body, struct hl_sftp_limits *out);
/* Of statvfs@openssh.com: bytes that an ordinary user can still write. */
int hl_sftp_statvfs_parse(struct hl_sftp_bytes body, uint64_t *free_bytes);

#endif /* HL_SFTP_PACKET_H */
