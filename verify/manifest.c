/*
 * Manifests (docs/formats/manifest.md). Any thread. JSON is read and quoted
 * by SQLite's JSON functions on a database in memory: the library is there
 * anyway. What is read may come from anyone; memory is bounded by a few
 * times the size of the file.
 */
#include "manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>
/* Inlined: a state on the stack, which the shared library does not offer. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#define FORMAT_VERSION 1
#define FILE_MAX (UINT64_C(1) << 30)
#define ROOT_SIZE 16

void hl_manifest_fini(struct hl_manifest *m)
{
    hl_free(m->name);
    hl_free(m->chunks);
    memset(m, 0, sizeof(*m));
}

static void put_be64(uint8_t *out, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        out[i] = (uint8_t)v;
}

void hl_manifest_root(const struct hl_manifest *m, uint8_t out[16])
{
    XXH3_state_t state;
    XXH128_canonical_t canonical;
    uint8_t head[16];

    put_be64(head, m->size);
    put_be64(head + 8, m->chunk_size);
    XXH3_INITSTATE(&state);
    (void)XXH3_128bits_reset(&state);
    (void)XXH3_128bits_update(&state, head, sizeof(head));
    if (m->count > 0)
        (void)XXH3_128bits_update(&state, m->chunks,
                                  m->count * m->digest->size);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    memcpy(out, canonical.digest, ROOT_SIZE);
}

static uint64_t chunk_count(uint64_t size, uint64_t chunk_size)
{
    return size / chunk_size + (size % chunk_size != 0);
}

static int no_memory(struct hl_error *err)
{
    return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
}

static int sqlite_failed(sqlite3 *db, struct hl_error *err)
{
    if (!db || sqlite3_errcode(db) == SQLITE_NOMEM)
        return no_memory(err);
    hl_err(err, HAUL_E_BUG, 0, "SQLite cannot work on JSON");
    hl_err_detail(err, "%s", sqlite3_errmsg(db));
    return HAUL_E_BUG;
}

static int open_sqlite(sqlite3 **db, struct hl_error *err)
{
    if (sqlite3_open_v2(":memory:", db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        return sqlite_failed(*db, err);
    return HAUL_OK;
}

/* ---- Writing ------------------------------------------------------------ */

/* Bytes of the UTF-8 sequence at p, 0 when it is none (Unicode 15, table
 * 3-7). p ends in NUL. */
static size_t utf8_length(const unsigned char *p)
{
    unsigned char c = p[0], low = 0x80, high = 0xbf;
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

    if ((c >= 0x80 && c < 0xc2) || c > 0xf4)
        return 0;
    if (c == 0xe0)
        low = 0xa0;
    else if (c == 0xed)
        high = 0x9f;
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < n; i++, low = 0x80, high = 0xbf)
        if (p[i] < low || p[i] > high)
            return 0;
    return n;
}

/* File names are bytes, JSON is UTF-8: other bytes become U+FFFD. */
static char *name_as_utf8(const char *name)
{
    const unsigned char *in = (const unsigned char *)name;
    char *out = hl_malloc(3 * strlen(name) + 1), *to = out;

    while (out && *in) {
        size_t n = utf8_length(in);

        if (n > 0) {
            memcpy(to, in, n);
            to += n;
            in += n;
        } else {
            memcpy(to, "\xef\xbf\xbd", 3);
            to += 3;
            in++;
        }
    }
    return out;
}

/* A JSON string with its quotes. */
static int quote_name(const char *name, char **out, struct hl_error *err)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    char *utf8 = name_as_utf8(name);
    int rc = utf8 ? open_sqlite(&db, err) : no_memory(err);

    *out = NULL;
    if (rc)
        goto out;
    if (sqlite3_prepare_v2(db, "SELECT json_quote(?1)", -1, &q, NULL) !=
            SQLITE_OK ||
        sqlite3_bind_text(q, 1, utf8, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_step(q) != SQLITE_ROW) {
        rc = sqlite_failed(db, err);
        goto out;
    }
    *out = hl_strdup((const char *)sqlite3_column_text(q, 0));
    if (!*out)
        rc = no_memory(err);
out:
    sqlite3_finalize(q);
    sqlite3_close(db);
    hl_free(utf8);
    return rc;
}

/* Everything before the chunks. */
static char *make_head(const struct hl_manifest *m, const char *quoted)
{
    char root[2 * ROOT_SIZE + 1], hex[2 * HL_DIGEST_MAX + 1];
    char whole[128] = "null";
    uint8_t bytes[ROOT_SIZE];

    hl_manifest_root(m, bytes);
    hl_hex(bytes, ROOT_SIZE, root);
    if (m->has_whole) {
        hl_hex(m->whole, m->digest->size, hex);
        (void)snprintf(whole, sizeof(whole), "\"%s:%s\"", m->digest->name, hex);
    }
    return hl_asprintf("{\"haul_manifest\":%d,\n\"name\":%s,\n"
                       "\"size\":%llu,\n\"chunk_size\":%llu,\n"
                       "\"digest\":\"%s\",\n\"root\":\"xxh128:%s\",\n"
                       "\"whole\":%s,\n\"chunks\":[",
                       FORMAT_VERSION, quoted, (unsigned long long)m->size,
                       (unsigned long long)m->chunk_size, m->digest->name, root,
                       whole);
}

/* The whole file, *len bytes. */
static int make_text(const struct hl_manifest *m, char **out, size_t *len,
                     struct hl_error *err)
{
    size_t hex = 2 * m->digest->size;
    char *quoted = NULL, *head = NULL, *to;
    int rc;

    if (m->count > FILE_MAX / (hex + 4) - 1024) {
        hl_err(err, HAUL_E_INVAL, 0, "a manifest of %llu chunks is too large",
               (unsigned long long)m->count);
        hl_err_hint(err, "Use a larger --chunk-size.");
        return HAUL_E_INVAL;
    }
    rc = quote_name(m->name, &quoted, err);
    if (!rc && !(head = make_head(m, quoted)))
        rc = no_memory(err);
    if (!rc && !(*out = hl_malloc(strlen(head) + m->count * (hex + 4) + 5)))
        rc = no_memory(err);
    if (rc)
        goto out;
    to = *out;
    memcpy(to, head, strlen(head));
    to += strlen(head);
    for (uint64_t i = 0; i < m->count; i++) {
        memcpy(to, i ? ",\n\"" : "\n\"", i ? 3 : 2);
        to += i ? 3 : 2;
        hl_hex(m->chunks + i * m->digest->size, m->digest->size, to);
        to += hex;
        *to++ = '"';
    }
    memcpy(to, "\n]}\n", 4);
    *len = (size_t)(to + 4 - *out);
out:
    hl_free(head);
    hl_free(quoted);
    return rc;
}

static int write_failed(const char *path, struct hl_error *err)
{
    int e = errno;
    int code = e == ENOSPC || e == EDQUOT ? HAUL_E_FULL : HAUL_E_WRITE;

    hl_err(err, code, e, "cannot write manifest '%s'", path);
    hl_err_hint(err, "Name another file with --manifest FILE.");
    return code;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* A new file in folder; the name is short, that of the manifest may be as
 * long as a name can be. */
static int open_temporary(const char *folder, char **name)
{
    int fd = -1;

    for (int i = 0; i < 100 && fd < 0; i++) {
        hl_free(*name);
        *name =
            hl_asprintf("%s/.haul-manifest.%ld.%d", folder, (long)getpid(), i);
        if (!*name) {
            errno = ENOMEM;
            return -1;
        }
        fd = open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            return -1;
    }
    return fd;
}

/* The new name must survive a power cut as well. */
static int sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 || fsync(fd) != 0 ? errno : 0;

    if (fd >= 0)
        close(fd);
    errno = e;
    /* Some file systems cannot (fsync(2): EINVAL, EROFS). */
    return e != 0 && e != EINVAL && e != EROFS ? -1 : 0;
}

static int replace_file(const char *path, const char *data, size_t len,
                        struct hl_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = hl_strdup(slash ? path : "."), *temporary = NULL;
    int fd, rc = HAUL_OK;

    if (!folder)
        return no_memory(err);
    if (slash)
        folder[slash == path ? 1 : slash - path] = '\0';
    fd = open_temporary(folder, &temporary);
    if (fd < 0) {
        rc = write_failed(path, err);
        goto out;
    }
    if (write_all(fd, data, len) != 0 || fsync(fd) != 0)
        rc = write_failed(path, err);
    if (close(fd) != 0 && !rc)
        rc = write_failed(path, err);
    if (!rc && rename(temporary, path) != 0)
        rc = write_failed(path, err);
    if (rc)
        (void)unlink(temporary);
    else if (sync_folder(folder) != 0)
        rc = write_failed(path, err);
out:
    hl_free(temporary);
    hl_free(folder);
    return rc;
}

int hl_manifest_write(const struct hl_manifest *m, const char *path,
                      struct hl_error *err)
{
    char *text = NULL;
    size_t len = 0;
    int rc;

    HL_ASSERT(m->chunk_size > 0);
    HL_ASSERT(m->count == chunk_count(m->size, m->chunk_size));
    rc = make_text(m, &text, &len, err);
    if (!rc)
        rc = replace_file(path, text, len, err);
    hl_free(text);
    return rc;
}

/* ---- Reading ------------------------------------------------------------ */

struct reader {
    const char *path;
    sqlite3 *db;
    char *text;
    size_t len;
    struct hl_manifest *m;
    uint8_t root[ROOT_SIZE];
    char *whole; /* as in the file, or NULL */
    struct hl_error *err;
};

static int damaged(struct reader *r, const char *why)
{
    hl_err(r->err, HAUL_E_FORMAT, 0, "'%s' is not a manifest or damaged",
           r->path);
    hl_err_detail(r->err, "%s", why);
    return HAUL_E_FORMAT;
}

static int too_large(struct reader *r)
{
    return hl_err(r->err, HAUL_E_FORMAT, 0,
                  "'%s' is larger than a manifest can be", r->path);
}

static int read_text(struct reader *r)
{
    int fd = open(r->path, O_RDONLY | O_CLOEXEC), rc = HAUL_OK;
    size_t capacity = 0;
    ssize_t n = 1;
    char *p;

    if (fd < 0)
        return hl_err(r->err, HAUL_E_READ, errno, "cannot read manifest '%s'",
                      r->path);
    while (!rc && n != 0) {
        if (r->len == capacity) {
            capacity = capacity ? 2 * capacity : 1 << 16;
            p = hl_realloc(r->text, capacity);
            if (!p) {
                rc = no_memory(r->err);
                break;
            }
            r->text = p;
        }
        n = read(fd, r->text + r->len, capacity - r->len);
        if (n > 0)
            r->len += (size_t)n;
        if (n < 0 && errno != EINTR)
            rc = hl_err(r->err, HAUL_E_READ, errno, "cannot read manifest '%s'",
                        r->path);
        if (r->len > FILE_MAX)
            rc = too_large(r);
    }
    close(fd);
    return rc;
}

/*
 * SQLite keeps 16 bytes and more for each JSON value, which a file full of
 * "[[[" would turn into a multiple of its size. A manifest has one comma a
 * digest, and commas in its name.
 */
static int check_density(struct reader *r)
{
    size_t marks = 0;

    if (r->len == 0 || memchr(r->text, '\0', r->len))
        return damaged(r, "empty, or a zero byte inside");
    for (size_t i = 0; i < r->len; i++) {
        char c = r->text[i];

        marks += (c == ',') + (c == '[') + (c == '{') + (c == ':');
    }
    if (marks > r->len / (2 * ROOT_SIZE) + 4096)
        return damaged(r, "too many values");
    return HAUL_OK;
}

/* A statement over the text as ?1; no row means damaged. */
static int query(struct reader *r, const char *sql, sqlite3_stmt **q)
{
    int rc;

    if (sqlite3_prepare_v2(r->db, sql, -1, q, NULL) != SQLITE_OK)
        return sqlite_failed(r->db, r->err);
    rc =
        sqlite3_bind_text64(*q, 1, r->text, r->len, SQLITE_STATIC, SQLITE_UTF8);
    if (rc == SQLITE_TOOBIG)
        return too_large(r);
    return rc == SQLITE_OK ? HAUL_OK : sqlite_failed(r->db, r->err);
}

static int check_json(struct reader *r)
{
    sqlite3_stmt *q = NULL;
    int rc = query(r, "SELECT json_valid(?1) AND json_type(?1) = 'object'", &q);

    if (!rc && sqlite3_step(q) != SQLITE_ROW)
        rc = sqlite3_errcode(r->db) == SQLITE_NOMEM
                 ? no_memory(r->err)
                 : damaged(r, sqlite3_errmsg(r->db));
    if (!rc && sqlite3_column_int(q, 0) != 1)
        rc = damaged(r, "not a JSON object");
    sqlite3_finalize(q);
    return rc;
}

/* "xxh128:HEX" to bytes. */
static bool read_digest(const char *text, const struct hl_digest *digest,
                        uint8_t *out)
{
    size_t n = strlen(digest->name);

    return strncmp(text, digest->name, n) == 0 && text[n] == ':' &&
           hl_unhex(text + n + 1, out, digest->size);
}

enum field {
    F_VERSION,
    F_NAME,
    F_SIZE,
    F_CHUNK_SIZE,
    F_DIGEST,
    F_ROOT,
    F_WHOLE,
    F_CHUNKS,
    F_COUNT
};
static const struct {
    const char *key, *type;
} fields[F_COUNT] = {
    [F_VERSION] = {"haul_manifest", "integer"},
    [F_NAME] = {"name", "text"},
    [F_SIZE] = {"size", "integer"},
    [F_CHUNK_SIZE] = {"chunk_size", "integer"},
    [F_DIGEST] = {"digest", "text"},
    [F_ROOT] = {"root", "text"},
    [F_WHOLE] = {"whole", "text"}, /* or null */
    [F_CHUNKS] = {"chunks", "array"},
};

static int read_version(struct reader *r, int64_t version)
{
    if (version < 1)
        return damaged(r, "format version");
    if (version > FORMAT_VERSION) {
        hl_err(r->err, HAUL_E_FORMAT, 0,
               "manifest '%s' was written by a newer haul", r->path);
        hl_err_detail(r->err, "its format is %lld, this haul knows %d",
                      (long long)version, FORMAT_VERSION);
        hl_err_hint(r->err, "Use the newer haul to check it.");
        return HAUL_E_FORMAT;
    }
    return HAUL_OK;
}

/* A name and nothing that leads into another folder. */
static bool is_base_name(const char *name)
{
    return name && name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static int read_field(struct reader *r, enum field field, const char *text,
                      int64_t number)
{
    struct hl_manifest *m = r->m;

    switch (field) {
    case F_VERSION:
        return read_version(r, number);
    case F_NAME:
        if (!is_base_name(text))
            return damaged(r, "name");
        m->name = hl_strdup(text);
        return m->name ? HAUL_OK : no_memory(r->err);
    case F_SIZE:
        m->size = (uint64_t)number;
        return number >= 0 ? HAUL_OK : damaged(r, "size");
    case F_CHUNK_SIZE:
        m->chunk_size = (uint64_t)number;
        return number > 0 ? HAUL_OK : damaged(r, "chunk size");
    case F_DIGEST:
        m->digest = text ? hl_digest_find(text) : NULL;
        return m->digest ? HAUL_OK : damaged(r, "unknown digest");
    case F_ROOT:
        return text && read_digest(text, hl_digest_find("xxh128"), r->root)
                   ? HAUL_OK
                   : damaged(r, "root");
    case F_WHOLE:
        r->whole = hl_strdup(text);
        return r->whole || !text ? HAUL_OK : no_memory(r->err);
    case F_CHUNKS:
    case F_COUNT:
        break;
    }
    return HAUL_OK;
}

/* One row of json_each: key, type, atom. */
static int read_row(struct reader *r, sqlite3_stmt *q, bool seen[F_COUNT])
{
    const char *key = (const char *)sqlite3_column_text(q, 0);
    const char *type = (const char *)sqlite3_column_text(q, 1);
    const char *text;
    size_t f = 0;

    while (f < F_COUNT && key && strcmp(fields[f].key, key) != 0)
        f++;
    if (!key || !type || f == F_COUNT)
        return HAUL_OK; /* a later haul may add keys */
    if (seen[f])
        return damaged(r, "a key is there twice");
    seen[f] = true;
    if (strcmp(type, fields[f].type) != 0 &&
        !(f == F_WHOLE && strcmp(type, "null") == 0))
        return damaged(r, "a value of another type");
    if (strcmp(type, "integer") == 0) {
        if (sqlite3_column_type(q, 2) != SQLITE_INTEGER)
            return damaged(r, "a number that is too large");
        return read_field(r, (enum field)f, NULL, sqlite3_column_int64(q, 2));
    }
    text = (const char *)sqlite3_column_text(q, 2);
    return read_field(r, (enum field)f, text, 0);
}

static int read_fields(struct reader *r)
{
    bool seen[F_COUNT] = {false};
    sqlite3_stmt *q = NULL;
    int step = SQLITE_ROW;
    int rc = query(r, "SELECT key, type, atom FROM json_each(?1)", &q);

    while (!rc && (step = sqlite3_step(q)) == SQLITE_ROW)
        rc = read_row(r, q, seen);
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(r->db, r->err);
    for (size_t f = 0; !rc && f < F_COUNT; f++)
        if (!seen[f])
            rc = damaged(r, "a key is missing");
    sqlite3_finalize(q);
    return rc;
}

static int read_chunks(struct reader *r)
{
    struct hl_manifest *m = r->m;
    sqlite3_stmt *q = NULL;
    uint64_t i = 0;
    int step = SQLITE_ROW;
    int rc;

    m->count = chunk_count(m->size, m->chunk_size);
    if (m->count > r->len / (2 * m->digest->size))
        return damaged(r, "fewer digests than chunks");
    m->chunks = hl_malloc(m->count * m->digest->size + 1);
    if (!m->chunks)
        return no_memory(r->err);
    rc = query(r, "SELECT atom, key FROM json_each(?1, '$.chunks')", &q);
    while (!rc && (step = sqlite3_step(q)) == SQLITE_ROW) {
        const char *hex = (const char *)sqlite3_column_text(q, 0);

        HL_ASSERT(sqlite3_column_int64(q, 1) == (int64_t)i);
        if (i == m->count)
            rc = damaged(r, "more digests than chunks");
        else if (!hex || !hl_unhex(hex, m->chunks + i * m->digest->size,
                                   m->digest->size))
            rc = damaged(r, "a digest of a chunk");
        i++;
    }
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(r->db, r->err);
    if (!rc && i != m->count)
        rc = damaged(r, "fewer digests than chunks");
    sqlite3_finalize(q);
    return rc;
}

static int check_root(struct reader *r)
{
    struct hl_manifest *m = r->m;
    uint8_t root[ROOT_SIZE];

    m->has_whole = r->whole != NULL;
    if (r->whole && !read_digest(r->whole, m->digest, m->whole))
        return damaged(r, "digest of the whole");
    hl_manifest_root(m, root);
    return memcmp(root, r->root, ROOT_SIZE) == 0
               ? HAUL_OK
               : damaged(r, "the root does not fit the digests");
}

int hl_manifest_read(const char *path, struct hl_manifest *out,
                     struct hl_error *err)
{
    struct reader r = {.path = path, .m = out, .err = err};
    int rc;

    memset(out, 0, sizeof(*out));
    rc = read_text(&r);
    if (!rc)
        rc = check_density(&r);
    if (!rc)
        rc = open_sqlite(&r.db, err);
    if (!rc)
        rc = check_json(&r);
    if (!rc)
        rc = read_fields(&r);
    if (!rc)
        rc = read_chunks(&r);
    if (!rc)
        rc = check_root(&r);
    sqlite3_close(r.db);
    hl_free(r.whole);
    hl_free(r.text);
    if (rc)
        hl_manifest_fini(out);
    return rc;
}
