/* SFTP version 3 messages: see sftp_packet.h. */
#include "sftp_packet.h"

#include <string.h>

/* ---- Encoding ----------------------------------------------------------- */

/* A message being written; fits says that everything did so far. */
struct writer {
    struct hl_sftp_out *o;
    size_t start;
    bool fits;
};

static void put_raw(struct writer *w, const void *p, size_t len)
{
    struct hl_sftp_out *o = w->o;

    if (!w->fits || len > o->cap - o->len) {
        w->fits = false;
        return;
    }
    if (len)
        memcpy(o->p + o->len, p, len);
    o->len += len;
}

static void store_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static void put_u32(struct writer *w, uint32_t v)
{
    uint8_t b[4];

    store_u32(b, v);
    put_raw(w, b, sizeof(b));
}

static void put_u64(struct writer *w, uint64_t v)
{
    put_u32(w, (uint32_t)(v >> 32));
    put_u32(w, (uint32_t)v);
}

static void put_bytes(struct writer *w, struct hl_sftp_bytes b)
{
    if (b.len > HL_SFTP_MESSAGE_MAX) {
        w->fits = false;
        return;
    }
    put_u32(w, (uint32_t)b.len);
    put_raw(w, b.p, b.len);
}

struct hl_sftp_bytes hl_sftp_text(const char *s)
{
    return (struct hl_sftp_bytes){(const uint8_t *)s, strlen(s)};
}

static void put_attrs(struct writer *w, const struct hl_sftp_attrs *a)
{
    put_u32(w, a->flags);
    if (a->flags & HL_ATTR_SIZE)
        put_u64(w, a->size);
    if (a->flags & HL_ATTR_UIDGID) {
        put_u32(w, a->uid);
        put_u32(w, a->gid);
    }
    if (a->flags & HL_ATTR_PERMISSIONS)
        put_u32(w, a->mode);
    if (a->flags & HL_ATTR_ACMODTIME) {
        put_u32(w, a->atime);
        put_u32(w, a->mtime);
    }
}

static struct writer begin(struct hl_sftp_out *o, enum hl_sftp_type type,
                           uint32_t id)
{
    struct writer w = {o, o->len, true};
    uint8_t t = (uint8_t)type;

    put_u32(&w, 0);
    put_raw(&w, &t, 1);
    put_u32(&w, id);
    return w;
}

/* extra: bytes that the caller sends after the message. */
static bool end(struct writer *w, uint32_t extra)
{
    struct hl_sftp_out *o = w->o;

    if (!w->fits) {
        o->len = w->start;
        return false;
    }
    store_u32(o->p + w->start, (uint32_t)(o->len - w->start - 4) + extra);
    return true;
}

bool hl_sftp_put_init(struct hl_sftp_out *o)
{
    /* INIT has the version where the others have their id. */
    struct writer w = begin(o, HL_SFTP_INIT, 3);

    return end(&w, 0);
}

bool hl_sftp_put_open(struct hl_sftp_out *o, uint32_t id, const char *path,
                      uint32_t open_flags, const struct hl_sftp_attrs *attrs)
{
    struct writer w = begin(o, HL_SFTP_OPEN, id);

    put_bytes(&w, hl_sftp_text(path));
    put_u32(&w, open_flags);
    put_attrs(&w, attrs);
    return end(&w, 0);
}

bool hl_sftp_put_handle(struct hl_sftp_out *o, enum hl_sftp_type type,
                        uint32_t id, struct hl_sftp_bytes handle)
{
    struct writer w = begin(o, type, id);

    put_bytes(&w, handle);
    return end(&w, 0);
}

bool hl_sftp_put_path(struct hl_sftp_out *o, enum hl_sftp_type type,
                      uint32_t id, const char *path)
{
    return hl_sftp_put_handle(o, type, id, hl_sftp_text(path));
}

bool hl_sftp_put_rename(struct hl_sftp_out *o, uint32_t id, const char *from,
                        const char *to)
{
    struct writer w = begin(o, HL_SFTP_RENAME, id);

    put_bytes(&w, hl_sftp_text(from));
    put_bytes(&w, hl_sftp_text(to));
    return end(&w, 0);
}

bool hl_sftp_put_read(struct hl_sftp_out *o, uint32_t id,
                      struct hl_sftp_bytes handle, uint64_t offset,
                      uint32_t len)
{
    struct writer w = begin(o, HL_SFTP_READ, id);

    put_bytes(&w, handle);
    put_u64(&w, offset);
    put_u32(&w, len);
    return end(&w, 0);
}

bool hl_sftp_put_write_head(struct hl_sftp_out *o, uint32_t id,
                            struct hl_sftp_bytes handle, uint64_t offset,
                            uint32_t len)
{
    struct writer w = begin(o, HL_SFTP_WRITE, id);

    put_bytes(&w, handle);
    put_u64(&w, offset);
    put_u32(&w, len);
    return end(&w, len);
}

bool hl_sftp_put_fsetstat(struct hl_sftp_out *o, uint32_t id,
                          struct hl_sftp_bytes handle,
                          const struct hl_sftp_attrs *attrs)
{
    struct writer w = begin(o, HL_SFTP_FSETSTAT, id);

    put_bytes(&w, handle);
    put_attrs(&w, attrs);
    return end(&w, 0);
}

bool hl_sftp_put_extended(struct hl_sftp_out *o, uint32_t id, const char *name,
                          struct hl_sftp_bytes a, struct hl_sftp_bytes b)
{
    struct writer w = begin(o, HL_SFTP_EXTENDED, id);

    put_bytes(&w, hl_sftp_text(name));
    put_bytes(&w, a);
    if (b.p)
        put_bytes(&w, b);
    return end(&w, 0);
}

/* ---- Decoding ----------------------------------------------------------- */

struct reader {
    const uint8_t *p;
    size_t left;
    bool bad;
};

static const uint8_t *take(struct reader *r, size_t len)
{
    const uint8_t *p = r->p;

    if (r->bad || len > r->left) {
        r->bad = true;
        return NULL;
    }
    r->p += len;
    r->left -= len;
    return p;
}

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static uint8_t get_u8(struct reader *r)
{
    const uint8_t *p = take(r, 1);

    return p ? *p : 0;
}

static uint32_t get_u32(struct reader *r)
{
    const uint8_t *p = take(r, 4);

    return p ? load_u32(p) : 0;
}

static uint64_t get_u64(struct reader *r)
{
    uint64_t high = get_u32(r);

    return high << 32 | get_u32(r);
}

static struct hl_sftp_bytes get_bytes(struct reader *r)
{
    size_t len = get_u32(r);
    const uint8_t *p = take(r, len);

    return (struct hl_sftp_bytes){p, p ? len : 0};
}

static struct hl_sftp_attrs get_attrs(struct reader *r)
{
    struct hl_sftp_attrs a = {.flags = get_u32(r)};

    if (a.flags & HL_ATTR_SIZE)
        a.size = get_u64(r);
    if (a.flags & HL_ATTR_UIDGID) {
        a.uid = get_u32(r);
        a.gid = get_u32(r);
    }
    if (a.flags & HL_ATTR_PERMISSIONS)
        a.mode = get_u32(r);
    if (a.flags & HL_ATTR_ACMODTIME) {
        a.atime = get_u32(r);
        a.mtime = get_u32(r);
    }
    /* Extended pairs at the end are of no use to us. */
    return a;
}

int hl_sftp_reply_parse(const uint8_t *message, size_t len,
                        struct hl_sftp_reply *out)
{
    struct reader r = {message, len, false};

    *out = (struct hl_sftp_reply){.type = get_u8(&r)};
    out->id = get_u32(&r);
    switch (out->type) {
    case HL_SFTP_STATUS:
        out->status = get_u32(&r);
        /* Some servers leave the text out. */
        if (r.left)
            out->bytes = get_bytes(&r);
        break;
    case HL_SFTP_HANDLE:
        out->bytes = get_bytes(&r);
        if (!out->bytes.len || out->bytes.len > HL_SFTP_HANDLE_MAX)
            r.bad = true;
        break;
    case HL_SFTP_DATA:
        out->bytes = get_bytes(&r);
        break;
    case HL_SFTP_ATTRS:
        out->attrs = get_attrs(&r);
        break;
    case HL_SFTP_NAME:
    case HL_SFTP_EXTENDED_REPLY:
        out->bytes = (struct hl_sftp_bytes){r.p, r.left};
        break;
    default:
        r.bad = true;
    }
    return r.bad ? HAUL_E_PROTO : 0;
}

int hl_sftp_head_parse(const uint8_t *p, size_t len, struct hl_sftp_head *out)
{
    if (len < 5)
        return 5;
    *out = (struct hl_sftp_head){.length = load_u32(p), .type = p[4]};
    if (out->length < 5 || out->length > HL_SFTP_MESSAGE_MAX)
        return HAUL_E_PROTO;
    if (out->type != HL_SFTP_DATA)
        return 0;
    if (out->length < HL_SFTP_DATA_HEAD - 4)
        return HAUL_E_PROTO;
    if (len < HL_SFTP_DATA_HEAD)
        return HL_SFTP_DATA_HEAD;
    out->id = load_u32(p + 5);
    out->data_len = load_u32(p + 9);
    if (out->data_len != out->length - (HL_SFTP_DATA_HEAD - 4))
        return HAUL_E_PROTO;
    return 0;
}

static bool equals(struct hl_sftp_bytes b, const char *text)
{
    return b.len == strlen(text) && memcmp(b.p, text, b.len) == 0;
}

int hl_sftp_version_parse(const uint8_t *message, size_t len,
                          struct hl_sftp_server *out)
{
    struct reader r = {message, len, false};
    uint8_t type = get_u8(&r);

    *out = (struct hl_sftp_server){.version = get_u32(&r)};
    while (!r.bad && r.left) {
        struct hl_sftp_bytes name = get_bytes(&r);
        struct hl_sftp_bytes data = get_bytes(&r);

        if (r.bad)
            break;
        /* Their data is a version; all of them are "1" or "2" with the same
         * request. */
        (void)data;
        if (equals(name, "posix-rename@openssh.com"))
            out->posix_rename = true;
        else if (equals(name, "hardlink@openssh.com"))
            out->hardlink = true;
        else if (equals(name, "fsync@openssh.com"))
            out->fsync = true;
        else if (equals(name, "statvfs@openssh.com"))
            out->statvfs = true;
        else if (equals(name, "limits@openssh.com"))
            out->limits = true;
    }
    return r.bad || type != HL_SFTP_VERSION ? HAUL_E_PROTO : 0;
}

/* 0 means that the server states no limit. */
static uint32_t usable(uint64_t stated)
{
    if (!stated)
        return HL_SFTP_IO_DEFAULT;
    return (uint32_t)hl_max(1024, hl_min(stated, HL_SFTP_IO_MAX));
}

int hl_sftp_limits_parse(struct hl_sftp_bytes body, struct hl_sftp_limits *out)
{
    struct reader r = {body.p, body.len, false};
    uint64_t message_max = get_u64(&r);

    out->read_max = usable(get_u64(&r));
    out->write_max = usable(get_u64(&r));
    if (r.bad)
        return HAUL_E_PROTO;
    if (message_max) {
        uint64_t room = usable(message_max > 1024 ? message_max - 1024 : 1);

        out->read_max = (uint32_t)hl_min(out->read_max, room);
        out->write_max = (uint32_t)hl_min(out->write_max, room);
    }
    return 0;
}

int hl_sftp_statvfs_parse(struct hl_sftp_bytes body, uint64_t *free_bytes)
{
    struct reader r = {body.p, body.len, false};
    uint64_t block_size, available;

    (void)get_u64(&r); /* f_bsize */
    block_size = get_u64(&r);
    (void)get_u64(&r); /* f_blocks */
    (void)get_u64(&r); /* f_bfree */
    available = get_u64(&r);
    if (r.bad)
        return HAUL_E_PROTO;
    if (__builtin_mul_overflow(block_size, available, free_bytes))
        *free_bytes = UINT64_MAX;
    return 0;
}
