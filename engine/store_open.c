/*
 * Opening and closing the state store: its path, folders and permissions, the
 * version of its tables, what SQLite's errors mean for a user, and the locks
 * on transfers. Engine thread only. Tables: docs/formats/state-store.md.
 */
#include "store_db.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define APPLICATION_ID 0x6861756c /* "haul" */
#define BUSY_MS 10000
#define MEMORY ":memory:"

/* Step n brings version n to n + 1. A released step is never changed. */
static const char *const migrations[] = {
    "CREATE TABLE transfers ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " key TEXT NOT NULL,"
    " source TEXT NOT NULL,"
    " target TEXT NOT NULL,"
    " source_url TEXT NOT NULL,"
    " target_url TEXT NOT NULL,"
    " state INTEGER NOT NULL DEFAULT 0,"
    " error TEXT,"
    " digest TEXT,"
    " created INTEGER NOT NULL,"
    " updated INTEGER NOT NULL);"
    "CREATE INDEX transfers_key ON transfers (key);"
    "CREATE TABLE objects ("
    " transfer INTEGER NOT NULL REFERENCES transfers ON DELETE CASCADE,"
    " object INTEGER NOT NULL,"
    " size INTEGER,"
    " chunk_size INTEGER NOT NULL,"
    " digest_name TEXT NOT NULL,"
    " identity TEXT NOT NULL,"
    " token TEXT,"
    " result TEXT,"
    " batch INTEGER NOT NULL DEFAULT 0,"
    " durable_batch INTEGER NOT NULL DEFAULT 0,"
    " acked INTEGER NOT NULL DEFAULT 0,"
    " PRIMARY KEY (transfer, object)) WITHOUT ROWID;"
    "CREATE TABLE chunks ("
    " transfer INTEGER NOT NULL,"
    " object INTEGER NOT NULL,"
    " chunk INTEGER NOT NULL,"
    " len INTEGER NOT NULL,"
    " batch INTEGER NOT NULL,"
    " digest BLOB NOT NULL,"
    " PRIMARY KEY (transfer, object, chunk),"
    " FOREIGN KEY (transfer, object) REFERENCES objects ON DELETE CASCADE)"
    " WITHOUT ROWID;"
    "CREATE TABLE facts ("
    " key TEXT PRIMARY KEY,"
    " value TEXT NOT NULL) WITHOUT ROWID;"
    "PRAGMA application_id = 0x6861756c;"
    "PRAGMA user_version = 1;",

    "CREATE TABLE notes ("
    " transfer INTEGER NOT NULL,"
    " object INTEGER NOT NULL,"
    " part INTEGER NOT NULL,"
    " note TEXT NOT NULL,"
    " PRIMARY KEY (transfer, object, part),"
    " FOREIGN KEY (transfer, object) REFERENCES objects ON DELETE CASCADE)"
    " WITHOUT ROWID;"
    "PRAGMA user_version = 2;",
};
#define VERSION ((int)HL_LEN(migrations))

/* ---- Errors ------------------------------------------------------------- */

#define READ_ONLY_HINT                                                         \
    "Make the file and its folder writable for you, or name another file "     \
    "with --state FILE."

static int read_only(const char *path, struct hl_error *err)
{
    hl_err(err, HAUL_E_STORE, 0, "state store '%s' is read-only", path);
    hl_err_hint(err, READ_ONLY_HINT);
    return HAUL_E_STORE;
}

static int disk_full(const char *path, int sys_errno, struct hl_error *err)
{
    hl_err(err, HAUL_E_STORE, sys_errno, "no space left for state store '%s'",
           path);
    hl_err_hint(err, "Free some space there, or name a file on "
                     "another disk with --state FILE.");
    return HAUL_E_STORE;
}

/* A file or folder of the store could not be made or opened. */
static int file_failed(const char *what, const char *path, struct hl_error *err)
{
    int e = errno;

    if (e == ENOSPC || e == EDQUOT)
        return disk_full(path, e, err);
    hl_err(err, HAUL_E_STORE, e, "cannot %s '%s'", what, path);
    if (e == EROFS || e == EACCES || e == EPERM)
        hl_err_hint(err, READ_ONLY_HINT);
    else
        hl_err_hint(err, "Name another file for the state store with --state "
                         "FILE.");
    return HAUL_E_STORE;
}

int hl_store_damaged(const struct hl_store *s, const char *detail,
                     struct hl_error *err)
{
    hl_err(err, HAUL_E_STORE, 0, "state store '%s' is damaged", s->path);
    hl_err_detail(err, "%s", detail);
    hl_err_hint(err, "Move the file away (unfinished transfers then "
                     "start anew), or name another one with --state "
                     "FILE.");
    return HAUL_E_STORE;
}

static int locked_store(const struct hl_store *s, struct hl_error *err)
{
    hl_err(err, HAUL_E_STORE, 0,
           "state store '%s' is locked by another "
           "program",
           s->path);
    hl_err_hint(err, "Close the program that has it open, or name "
                     "another file with --state FILE.");
    return HAUL_E_STORE;
}

int hl_store_fail(const struct hl_store *s, const char *doing,
                  struct hl_error *err)
{
    int rc = sqlite3_extended_errcode(s->db);
    int e = sqlite3_system_errno(s->db);

    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory in state store");
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return hl_store_damaged(s, sqlite3_errmsg(s->db), err);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return locked_store(s, err);
    case SQLITE_FULL:
        return disk_full(s->path, 0, err);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return read_only(s->path, err);
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
        if (e) {
            errno = e;
            return file_failed("use state store", s->path, err);
        }
        break;
    default:
        break;
    }
    hl_err(err, HAUL_E_STORE, 0, "cannot use state store '%s'", s->path);
    hl_err_detail(err, "%s: %s (SQLite %d)", doing, sqlite3_errmsg(s->db), rc);
    hl_err_hint(err, "Name another file with --state FILE if this "
                     "one is not haul's.");
    return HAUL_E_STORE;
}

int hl_store_exec(struct hl_store *s, const char *sql, struct hl_error *err)
{
    if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return hl_store_fail(s, sql, err);
    return HAUL_OK;
}

/* ---- Path, folders, permissions ----------------------------------------- */

/* XDG base directory specification 0.8: a relative $XDG_STATE_HOME is to be
 * ignored. */
static char *default_path(void)
{
    const char *dir = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    struct passwd pw, *found = NULL;
    char buf[4096];

    if (dir && dir[0] == '/')
        return hl_asprintf("%s/haul/state.db", dir);
    if ((!home || home[0] != '/') &&
        getpwuid_r(geteuid(), &pw, buf, sizeof(buf), &found) == 0 && found)
        home = pw.pw_dir;
    return hl_asprintf("%s/.local/state/haul/state.db", home ? home : "");
}

static int make_folders(const char *path, struct hl_error *err)
{
    char *p = hl_strdup(path), *slash;
    struct stat st;
    int e, rc = HAUL_OK;

    if (!p)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    for (slash = strchr(p + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(p, 0700) == 0) {
            (void)chmod(p, 0700); /* whatever the umask took */
        } else {
            e = errno;
            if (stat(p, &st) != 0 || !S_ISDIR(st.st_mode)) {
                errno = e;
                rc = file_failed("create folder", p, err);
                break;
            }
        }
        *slash = '/';
    }
    hl_free(p);
    return rc;
}

/*
 * Makes an empty file 0600 when there is none. mknod() and not open():
 * closing a descriptor of a database drops the locks that another engine of
 * this process holds on it (fcntl(2), sqlite.org/howtocorrupt.html 2.2).
 */
static int create_private(const char *path, struct hl_error *err)
{
    if (mknod(path, S_IFREG | 0600, 0) == 0) {
        (void)chmod(path, 0600);
        return HAUL_OK;
    }
    return errno == EEXIST ? HAUL_OK : file_failed("create", path, err);
}

/* Tokens can be credentials: a store that others can read becomes 0600. */
static void make_private(const struct hl_store *s)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    struct stat st;

    for (size_t i = 0; i < HL_LEN(suffixes); i++) {
        char *p = hl_asprintf("%s%s", s->path, suffixes[i]);

        if (p && stat(p, &st) == 0 && S_ISREG(st.st_mode) &&
            st.st_uid == geteuid() && (st.st_mode & 077)) {
            HL_WARN(s->log, HL_AREA_STORE, "'%s' was open to others", p);
            (void)chmod(p, 0600);
        }
        hl_free(p);
    }
}

/* ---- Opening ------------------------------------------------------------ */

/* First column of the first row of a query. */
static int query_int(struct hl_store *s, const char *sql, int *out,
                     struct hl_error *err)
{
    sqlite3_stmt *q = NULL;
    int rc = HAUL_OK;

    *out = 0;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK ||
        sqlite3_step(q) != SQLITE_ROW)
        rc = hl_store_fail(s, sql, err);
    else
        *out = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return rc;
}

/* Is it ours, and which version? 0: an empty database. Runs in a transaction:
 * the answers must be of one moment, others may just be making the tables. */
static int identify(struct hl_store *s, int *version, struct hl_error *err)
{
    int id, tables, rc;

    rc = query_int(s, "PRAGMA application_id", &id, err);
    if (!rc)
        rc = query_int(s, "PRAGMA user_version", version, err);
    if (!rc)
        rc = query_int(s, "SELECT count(*) FROM sqlite_master", &tables, err);
    if (rc)
        return rc;
    if (id != APPLICATION_ID && (id != 0 || *version != 0 || tables != 0)) {
        hl_err(err, HAUL_E_STORE, 0, "'%s' is a database of another program",
               s->path);
        hl_err_hint(err, "Name another file with --state FILE.");
        return HAUL_E_STORE;
    }
    if (*version > VERSION) {
        hl_err(err, HAUL_E_STORE, 0,
               "state store '%s' was written by a "
               "newer haul",
               s->path);
        hl_err_detail(err, "its version is %d, this haul knows %d", *version,
                      VERSION);
        hl_err_hint(err, "Use the newer haul, or name another file "
                         "with --state FILE.");
        return HAUL_E_STORE;
    }
    return HAUL_OK;
}

/* Switching to WAL fails at once, without the busy handler, while another
 * process reads or switches (sqlite.org/wal.html section 9). */
static int use_wal(struct hl_store *s, struct hl_error *err)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    int rc = SQLITE_OK;

    for (int ms = 0; ms < BUSY_MS; ms += 10) {
        rc = sqlite3_exec(s->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (rc != SQLITE_BUSY)
            break;
        nanosleep(&pause, NULL);
    }
    return rc == SQLITE_OK ? HAUL_OK : hl_store_fail(s, "use WAL", err);
}

static int migrate(struct hl_store *s, struct hl_error *err)
{
    int version, rc;

    rc = hl_store_exec(s, "BEGIN IMMEDIATE", err);
    if (rc)
        return rc;
    rc = identify(s, &version, err); /* another process may have been first */
    while (!rc && version < VERSION) {
        HL_INFO(s->log, HL_AREA_STORE, "'%s': version %d to %d", s->path,
                version, version + 1);
        rc = hl_store_exec(s, migrations[version++], err);
    }
    if (!rc)
        rc = hl_store_exec(s, "COMMIT", err);
    if (rc)
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

static int open_database(struct hl_store *s, struct hl_error *err)
{
    const char *resolved;
    int version, rc;

    /* The connection exists even when this fails, and has the error. */
    if (sqlite3_open_v2(s->path, &s->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        return s->db ? hl_store_fail(s, "open", err)
                     : hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, BUSY_MS);
    resolved = sqlite3_db_filename(s->db, "main");
    if (resolved && resolved[0]) {
        hl_free(s->path);
        s->path = hl_strdup(resolved);
        if (!s->path)
            return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    rc = hl_store_exec(s, "BEGIN", err);
    if (!rc)
        rc = identify(s, &version, err);
    if (!rc)
        rc = hl_store_exec(s, "COMMIT", err);
    if (rc)
        return rc;
    if (sqlite3_db_readonly(s->db, "main") == 1)
        return read_only(s->path, err);
    make_private(s);
    rc = use_wal(s, err);
    if (rc)
        return rc;
    s->sync_full = true;
    rc = hl_store_exec(s,
                       "PRAGMA synchronous = FULL;"
                       "PRAGMA foreign_keys = ON;"
                       "PRAGMA trusted_schema = OFF;"
                       "PRAGMA secure_delete = FAST",
                       err);
    if (!rc && version < VERSION)
        rc = migrate(s, err);
    return rc;
}

static int open_lock_file(struct hl_store *s, struct hl_error *err)
{
    char *p = hl_asprintf("%s.lock", s->path);
    int rc;

    if (!p)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    rc = create_private(p, err);
    if (!rc) {
        s->lock_fd = open(p, O_RDWR | O_CLOEXEC);
        if (s->lock_fd < 0)
            rc = file_failed("open", p, err);
    }
    hl_free(p);
    return rc;
}

int hl_store_open(const char *path, const struct hl_log *log,
                  struct hl_store **out, struct hl_error *err)
{
    struct hl_store *s;
    bool memory = path && strcmp(path, MEMORY) == 0;
    int rc = HAUL_OK;

    *out = NULL;
    /* SQLite makes a temporary database of an empty name. */
    if (path && !path[0])
        return hl_err(err, HAUL_E_STORE, 0, "the state store has no name");
    s = hl_malloc(sizeof(*s));
    if (!s)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    s->log = log;
    s->lock_fd = -1;
    s->path = path ? hl_strdup(path) : default_path();
    if (!s->path)
        rc = hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    if (!rc && !memory)
        rc = make_folders(s->path, err);
    if (!rc && !memory)
        rc = create_private(s->path, err);
    if (!rc)
        rc = open_database(s, err);
    if (!rc && !memory)
        rc = open_lock_file(s, err);
    if (rc) {
        hl_store_close(s);
        return rc;
    }
    HL_TRACE(log, HL_AREA_STORE, "opened '%s'", s->path);
    *out = s;
    return HAUL_OK;
}

void hl_store_close(struct hl_store *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < HL_LEN(s->stmt); i++)
        sqlite3_finalize(s->stmt[i]);
    if (s->db) {
        (void)sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE,
                                        NULL, NULL);
        sqlite3_close(s->db);
    }
    if (s->lock_fd >= 0)
        close(s->lock_fd); /* drops the locks */
    hl_free(s->held);
    hl_free(s->path);
    hl_free(s);
}

/* ---- Locks -------------------------------------------------------------- */

/*
 * Byte id of "<path>.lock", locked for this open file description (Linux
 * 3.15): the kernel drops it with the process, and two stores of one process
 * exclude each other. A store in memory is visible to itself only, so there
 * the list of held ids is all.
 */
static int set_lock(const struct hl_store *s, int cmd, short type, int64_t id,
                    struct flock *fl)
{
    memset(fl, 0, sizeof(*fl));
    fl->l_type = type;
    fl->l_whence = SEEK_SET;
    fl->l_start = id;
    fl->l_len = 1;
    return fcntl(s->lock_fd, cmd, fl);
}

static bool is_held(const struct hl_store *s, int64_t id, size_t *at)
{
    for (size_t i = 0; i < s->held_count; i++) {
        if (s->held[i] == id) {
            *at = i;
            return true;
        }
    }
    return false;
}

static int busy_transfer(struct hl_error *err)
{
    hl_err(err, HAUL_E_BUSY, 0, "another haul works on this transfer");
    hl_err_hint(err, "Wait until it ends, or stop it; then start this "
                     "again.");
    return HAUL_E_BUSY;
}

int hl_store_lock(struct hl_store *s, int64_t id, struct hl_error *err)
{
    struct flock fl;
    int64_t *held;
    size_t at;

    HL_ASSERT(id > 0);
    if (is_held(s, id, &at))
        return busy_transfer(err);
    held = hl_realloc(s->held, (s->held_count + 1) * sizeof(*held));
    if (!held)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    s->held = held;
    if (s->lock_fd >= 0 && set_lock(s, F_OFD_SETLK, F_WRLCK, id, &fl) != 0) {
        if (errno == EAGAIN || errno == EACCES)
            return busy_transfer(err);
        hl_err(err, HAUL_E_STORE, errno, "cannot lock '%s.lock'", s->path);
        hl_err_hint(err, "Name a file on a disk that knows locks with "
                         "--state FILE.");
        return HAUL_E_STORE;
    }
    s->held[s->held_count++] = id;
    return HAUL_OK;
}

void hl_store_unlock(struct hl_store *s, int64_t id)
{
    struct flock fl;
    size_t at;

    if (!is_held(s, id, &at))
        return;
    if (s->lock_fd >= 0)
        (void)set_lock(s, F_OFD_SETLK, F_UNLCK, id, &fl);
    s->held[at] = s->held[--s->held_count];
}

bool hl_store_locked(struct hl_store *s, int64_t id)
{
    struct flock fl;
    size_t at;

    if (is_held(s, id, &at))
        return true;
    return s->lock_fd >= 0 && set_lock(s, F_OFD_GETLK, F_WRLCK, id, &fl) == 0 &&
           fl.l_type != F_UNLCK;
}
