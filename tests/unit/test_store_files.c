/* The state store as files: permissions, errors that name their cause, locks
 * that exclude and end with the process, and what SIGKILL leaves. */
#include "store_fixture.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

/* ---- Files -------------------------------------------------------------- */

static void expect_mode(const char *suffix, mode_t want)
{
    char p[192];
    struct stat st;

    (void)snprintf(p, sizeof(p), "%s%s", path, suffix);
    assert_int_equal(stat(p, &st), 0);
    assert_int_equal(st.st_mode & 07777, want);
}

static void files_are_private_whatever_the_umask(void **state)
{
    static const mode_t masks[] = {0, 0777};

    (void)state;
    for (size_t i = 0; i < HL_LEN(masks); i++) {
        mode_t old = umask(masks[i]);
        struct hl_store *s;
        struct stat st;
        char p[192];

        (void)snprintf(path, sizeof(path), "%s/%zu/deep/state.db", folder, i);
        s = open_store(path);
        umask(old);
        create(s, "k");
        expect_mode("", 0600);
        expect_mode("-wal", 0600);
        expect_mode("-shm", 0600);
        expect_mode(".lock", 0600);
        (void)snprintf(p, sizeof(p), "%s/%zu/deep", folder, i);
        assert_int_equal(stat(p, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        hl_store_close(s);
    }
}

static void open_to_others_becomes_private(void **state)
{
    (void)state;
    hl_store_close(open_store(path));
    assert_int_equal(chmod(path, 0644), 0);
    hl_store_close(open_store(path));
    expect_mode("", 0600);
}

static void expect_exists(const char *below)
{
    char p[192];

    (void)snprintf(p, sizeof(p), "%s/%s", folder, below);
    assert_int_equal(access(p, F_OK), 0);
}

static void default_path_follows_xdg(void **state)
{
    char p[192];

    (void)state;
    (void)snprintf(p, sizeof(p), "%s/xdg", folder);
    assert_int_equal(setenv("HOME", folder, 1), 0);
    assert_int_equal(setenv("XDG_STATE_HOME", p, 1), 0);
    hl_store_close(open_store(NULL));
    expect_exists("xdg/haul/state.db");
    assert_int_equal(setenv("XDG_STATE_HOME", "relative", 1), 0);
    hl_store_close(open_store(NULL));
    expect_exists(".local/state/haul/state.db");
    assert_int_equal(unsetenv("XDG_STATE_HOME"), 0);
}

static void closing_leaves_one_file_and_the_lock(void **state)
{
    char p[192];
    struct hl_store *s = open_store(path);

    (void)state;
    create(s, "k");
    hl_store_close(s);
    (void)snprintf(p, sizeof(p), "%s-wal", path);
    assert_int_equal(access(p, F_OK), -1);
    hl_store_close(NULL);
}

/* ---- Errors ------------------------------------------------------------- */

static void expect_refused(const char *name, const char *message,
                           const char *hint)
{
    struct hl_store *s;
    struct hl_error err = {0};

    assert_int_equal(hl_store_open(name, NULL, &s, &err), HAUL_E_STORE);
    assert_null(s);
    if (!strstr(err.message, message) || !strstr(err.hint, hint))
        print_error("'%s' '%s' '%s'\n", err.message, err.detail, err.hint);
    assert_non_null(strstr(err.message, message));
    assert_non_null(strstr(err.hint, hint));
}

static void write_at(off_t at, const char *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, at), len);
    assert_int_equal(close(fd), 0);
}

static void what_is_no_database_is_damaged(void **state)
{
    static const char zeros[8192];

    (void)state;
    write_at(0, "hello", 5);
    expect_refused(path, "is damaged", "--state");
    write_at(0, zeros, sizeof(zeros));
    expect_refused(path, "is damaged", "Move the file away");
}

static void damaged_pages_are_reported_not_used(void **state)
{
    char garbage[4096];
    struct hl_store *s = open_store(path);
    struct hl_error err = {0};
    struct hl_saved r;
    struct stat st;
    bool found;

    (void)state;
    create(s, "k");
    hl_store_close(s);
    memset(garbage, 0xa5, sizeof(garbage));
    assert_int_equal(stat(path, &st), 0);
    for (off_t at = 4096; at < st.st_size; at += 4096)
        write_at(at, garbage, sizeof(garbage));
    s = open_store(path);
    assert_int_equal(hl_store_find(s, "k", &found, &r, &err), HAUL_E_STORE);
    assert_false(found);
    assert_non_null(strstr(err.message, "is damaged"));
    assert_non_null(strstr(err.hint, "--state"));
    hl_store_close(s);
}

static void sql_on_file(const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void impossible_rows_are_damage(void **state)
{
    static const char *const changes[] = {
        "UPDATE chunks SET len = -1",
        "UPDATE chunks SET len = 4294967296",
        "UPDATE chunks SET chunk = -1",
        "UPDATE chunks SET batch = -1",
        "UPDATE chunks SET digest = zeroblob(33)",
    };
    struct hl_error err = {0};
    struct hl_saved_object o;
    struct hl_store *s;
    bool found;

    (void)state;
    for (size_t i = 0; i < HL_LEN(changes); i++) {
        int64_t id;
        struct loaded l = {.count = 0};

        s = open_store(path);
        id = create(s, "k");
        put_object(s, id, 0, 100);
        put_chunk(s, id, 0, 0, 10);
        hl_store_close(s);
        sql_on_file(changes[i]);
        s = open_store(path);
        hl_err_clear(&err);
        assert_int_equal(hl_store_chunks_load(s, id, 0, load_one, &l, &err),
                         HAUL_E_STORE);
        assert_non_null(strstr(err.message, "is damaged"));
        assert_int_equal(l.count, 0);
        hl_store_close(s);
        sql_on_file("UPDATE objects SET size = -5; DELETE FROM chunks");
        s = open_store(path);
        assert_int_equal(hl_store_object_get(s, id, 0, &found, &o, NULL),
                         HAUL_E_STORE);
        assert_false(found);
        hl_store_close(s);
    }
}

static void database_of_another_program_is_left_alone(void **state)
{
    struct stat before, after;
    char p[192];

    (void)state;
    sql_on_file("CREATE TABLE t (x)");
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(stat(path, &before), 0);
    expect_refused(path, "another program", "--state");
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    (void)snprintf(p, sizeof(p), "%s.lock", path);
    assert_int_equal(access(p, F_OK), -1);
}

static void newer_version_is_not_touched(void **state)
{
    (void)state;
    hl_store_close(open_store(path));
    sql_on_file("PRAGMA user_version = 99");
    expect_refused(path, "newer haul", "newer haul");
    sql_on_file("PRAGMA user_version = 2");
    hl_store_close(open_store(path));
}

/* As haul 0.1 made it (docs/formats/state-store.md), with a copy half done. */
static const char version_1[] =
    "PRAGMA journal_mode = WAL;"
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
    "PRAGMA user_version = 1;"
    "INSERT INTO transfers VALUES (7, 'k', '/d/a', 'sftp://h/a', 'file:///d/a',"
    " 'sftp://h/a', 0, 'connection lost', NULL, 1760000000, 1760000060);"
    "INSERT INTO objects VALUES (7, 0, 10000000, 4194304, 'xxh128', 'size=1',"
    " 'tmp:a', NULL, 2, 1, 0);"
    "INSERT INTO chunks VALUES (7, 0, 0, 4194304, 1,"
    " x'000102030405060708090a0b0c0d0e0f');"
    "INSERT INTO chunks VALUES (7, 0, 2, 1611392, 2, x'');"
    "INSERT INTO facts VALUES ('rtt:h', '50');";

static int count_note(void *user, uint64_t part, const char *note)
{
    assert_int_equal(part, 3);
    assert_string_equal(note, "etag");
    ++*(int *)user;
    return 0;
}

static void version_1_goes_on_where_it_was(void **state)
{
    struct hl_saved_object o;
    struct hl_saved t;
    struct hl_store *s;
    struct loaded l;
    char *fact;
    bool found;
    int notes = 0;

    (void)state;
    sql_on_file(version_1);
    s = open_store(path);
    assert_int_equal(hl_store_find(s, "k", &found, &t, NULL), HAUL_OK);
    assert_true(found);
    assert_int_equal(t.id, 7);
    assert_string_equal(t.error, "connection lost");
    assert_int_equal(t.created_s, 1760000000);
    hl_saved_fini(&t);
    o = get_object(s, 7, 0);
    assert_string_equal(o.token, "tmp:a");
    assert_int_equal(o.batch, 2);
    assert_int_equal(o.durable_batch, 1);
    assert_int_equal(o.acked_bytes, 4194304 + 1611392);
    hl_saved_object_fini(&o);
    load(s, 7, 0, &l);
    assert_int_equal(l.count, 2);
    assert_int_equal(l.c[0].digest[15], 15);
    assert_int_equal(l.c[1].index, 2);
    assert_int_equal(hl_store_fact_get(s, "rtt:h", &fact, NULL), HAUL_OK);
    assert_string_equal(fact, "50");
    hl_free(fact);
    /* What version 1 had not. */
    assert_int_equal(hl_store_note_put(s, 7, 0, 3, "etag", NULL), HAUL_OK);
    hl_store_close(s);
    s = open_store(path);
    assert_int_equal(hl_store_notes_load(s, 7, 0, count_note, &notes, NULL),
                     HAUL_OK);
    assert_int_equal(notes, 1);
    hl_store_close(s);
}

static void impossible_paths_are_refused(void **state)
{
    char p[192];

    (void)state;
    expect_refused("", "", "");
    expect_refused(folder, "cannot", "--state");
    write_at(0, "x", 1);
    (void)snprintf(p, sizeof(p), "%s/below/state.db", path);
    expect_refused(p, "cannot create folder", "--state");
}

/* As an ordinary user: root may write everywhere. */
static int open_as_user(void)
{
    struct hl_error err = {0};
    struct hl_store *s;
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(9);
        if (hl_store_open(path, NULL, &s, &err) != HAUL_E_STORE)
            _exit(1);
        if (!strstr(err.message, "read-only") &&
            !strstr(err.message, "Permission denied"))
            _exit(2);
        _exit(strstr(err.hint, "writable") ? 0 : 3);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void read_only_is_said(void **state)
{
    (void)state;
    hl_store_close(open_store(path));
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(folder, 0777), 0); /* the file alone */
    assert_int_equal(open_as_user(), 0);
    assert_int_equal(chmod(folder, 0555), 0); /* the folder too */
    assert_int_equal(open_as_user(), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(chmod(folder, 0555), 0); /* and nothing inside */
    assert_int_equal(open_as_user(), 0);
    assert_int_equal(chmod(folder, 0700), 0);
}

static ssize_t write_full(int fd, const void *data, size_t len, off_t at)
{
    (void)fd;
    (void)data;
    (void)len;
    (void)at;
    errno = ENOSPC;
    return -1;
}

/* NULL: as it was. */
static void replace_write(ssize_t (*fn)(int, const void *, size_t, off_t))
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

    vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)fn);
    vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)fn);
}

static void full_disk_is_said_and_survived(void **state)
{
    struct hl_store *s = open_store(path);
    int64_t id = create(s, "k");
    struct hl_saved_chunk c = {.index = 1, .len = 5};
    struct hl_error err = {0};
    struct loaded l;
    uint64_t batch = 0;
    int rc;

    (void)state;
    put_object(s, id, 0, 100);
    put_chunk(s, id, 0, 0, 10);
    replace_write(write_full);
    rc = hl_store_chunks_put(s, id, 0, &c, 1, &batch, &err);
    replace_write(NULL);
    assert_int_equal(rc, HAUL_E_STORE);
    assert_non_null(strstr(err.message, "no space left"));
    assert_non_null(strstr(err.hint, "Free some space"));
    assert_int_equal(batch, 0);
    load(s, id, 0, &l);
    assert_int_equal(l.count, 1);
    assert_int_equal(hl_store_chunks_put(s, id, 0, &c, 1, &batch, NULL),
                     HAUL_OK);
    assert_int_equal(batch, 2);
    hl_store_close(s);
}

static void locked_by_another_program_is_said(void **state)
{
    struct hl_store *s = open_store(path);
    int64_t id = create(s, "k");
    struct hl_error err = {0};
    struct hl_saved r;
    sqlite3 *db;
    bool found;

    (void)state;
    sqlite3_busy_timeout(s->db, 50); /* instead of ten seconds */
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(hl_store_set_error(s, id, "x", &err), HAUL_E_STORE);
    assert_non_null(strstr(err.message, "locked by another program"));
    assert_non_null(strstr(err.hint, "--state"));
    assert_int_equal(hl_store_find(s, "k", &found, &r, NULL), HAUL_OK);
    assert_true(found); /* readers are not disturbed */
    hl_saved_fini(&r);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(hl_store_set_error(s, id, "x", NULL), HAUL_OK);
    hl_store_close(s);
}

static void every_failed_allocation_is_reported(void **state)
{
    struct hl_store *s = NULL;
    struct hl_saved_object o;
    struct hl_saved r;
    int64_t id;
    bool found = false;
    int rc = HAUL_E_NOMEM;

    (void)state;
    for (int64_t n = 1; rc; n++) {
        hl_mem_fail_at(n, false);
        rc = hl_store_open(path, NULL, &s, NULL);
        hl_mem_fail_at(0, false);
        assert_true(rc == HAUL_OK || rc == HAUL_E_NOMEM);
        assert_true(n < 100);
    }
    id = create(s, "k");
    put_object(s, id, 0, 1);
    rc = HAUL_E_NOMEM;
    for (int64_t n = 1; rc; n++) {
        hl_mem_fail_at(n, false);
        rc = hl_store_find(s, "k", &found, &r, NULL);
        hl_mem_fail_at(0, false);
        assert_true(rc == HAUL_OK ? found : rc == HAUL_E_NOMEM && !found);
    }
    hl_saved_fini(&r);
    rc = HAUL_E_NOMEM;
    for (int64_t n = 1; rc; n++) {
        hl_mem_fail_at(n, false);
        rc = hl_store_object_get(s, id, 0, &found, &o, NULL);
        hl_mem_fail_at(0, false);
        assert_true(rc == HAUL_OK ? found : rc == HAUL_E_NOMEM && !found);
    }
    hl_saved_object_fini(&o);
    hl_mem_fail_at(1, false);
    assert_int_equal(hl_store_lock(s, id, NULL), HAUL_E_NOMEM);
    hl_mem_fail_at(0, false);
    assert_false(hl_store_locked(s, id));
    hl_store_close(s);
}

/* ---- Locks -------------------------------------------------------------- */

static void expect_locking(struct hl_store *a, struct hl_store *b)
{
    struct hl_error err = {0};

    assert_false(hl_store_locked(a, 5));
    assert_int_equal(hl_store_lock(a, 5, NULL), HAUL_OK);
    assert_int_equal(hl_store_lock(b, 5, &err), HAUL_E_BUSY);
    assert_int_equal(err.code, HAUL_E_BUSY);
    assert_true(err.hint[0]);
    assert_int_equal(hl_store_lock(b, 6, NULL), HAUL_OK);
    assert_true(hl_store_locked(a, 5));
    assert_true(hl_store_locked(b, 5));
    assert_true(hl_store_locked(a, 6));
    assert_false(hl_store_locked(a, 7));
    hl_store_unlock(a, 7); /* not held: nothing happens */
    hl_store_unlock(a, 5);
    assert_false(hl_store_locked(b, 5));
    assert_true(hl_store_locked(b, 6));
    assert_int_equal(hl_store_lock(b, 5, NULL), HAUL_OK);
    hl_store_unlock(b, 5);
    hl_store_unlock(b, 6);
    assert_false(hl_store_locked(a, 6));
}

static void two_transfers_of_one_engine_exclude_each_other(void **state)
{
    struct hl_store *s = open_store(path), *m = open_store(":memory:");

    (void)state;
    expect_locking(s, s);
    expect_locking(m, m);
    hl_store_close(s);
    hl_store_close(m);
}

static void two_engines_of_one_process_exclude_each_other(void **state)
{
    struct hl_store *a = open_store(path), *b = open_store(path);

    (void)state;
    expect_locking(a, b);
    assert_int_equal(hl_store_lock(a, 1, NULL), HAUL_OK);
    hl_store_close(a); /* gives it back */
    assert_false(hl_store_locked(b, 1));
    hl_store_close(b);
}

/* The name of a symbolic link leads to the same locks. */
static void another_name_of_the_store_is_the_same_store(void **state)
{
    char p[192];
    struct hl_store *a = open_store(path), *b;

    (void)state;
    (void)snprintf(p, sizeof(p), "%s/link.db", folder);
    assert_int_equal(symlink(path, p), 0);
    b = open_store(p);
    expect_locking(a, b);
    hl_store_close(a);
    hl_store_close(b);
}

/* A child that locks id, says so, and waits to be killed. */
static pid_t start_holder(int64_t id)
{
    int fds[2];
    char byte = 0;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct hl_store *s;

        if (hl_store_open(path, NULL, &s, NULL) != HAUL_OK ||
            hl_store_lock(s, id, NULL) != HAUL_OK || write(fds[1], "l", 1) < 0)
            _exit(1);
        for (;;)
            pause();
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    close(fds[0]);
    return pid;
}

static void kill_and_wait(pid_t pid)
{
    int status;

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void process_excludes_process_until_it_is_killed(void **state)
{
    pid_t pid = start_holder(3);
    struct hl_store *s = open_store(path);

    (void)state;
    assert_true(hl_store_locked(s, 3));
    assert_int_equal(hl_store_lock(s, 3, NULL), HAUL_E_BUSY);
    assert_false(hl_store_locked(s, 4));
    kill_and_wait(pid);
    assert_false(hl_store_locked(s, 3));
    assert_int_equal(hl_store_lock(s, 3, NULL), HAUL_OK);
    hl_store_close(s);
}

/* ---- Processes ---------------------------------------------------------- */

#define PER_BATCH 3

/* Writes batches until it is killed and tells each number after its commit. */
static void write_batches(int fd, int64_t id)
{
    struct hl_store *s;
    struct hl_saved_chunk c[PER_BATCH] = {{0}};
    struct hl_saved_object o;
    uint64_t batch;
    bool found;

    if (hl_store_open(path, NULL, &s, NULL) != HAUL_OK ||
        hl_store_object_get(s, id, 0, &found, &o, NULL) != HAUL_OK)
        _exit(1);
    for (batch = o.batch;;) {
        for (uint64_t i = 0; i < PER_BATCH; i++) {
            c[i].index = batch * PER_BATCH + i;
            c[i].len = 10;
            memset(c[i].digest, (int)c[i].index & 0xff, 16);
        }
        if (hl_store_chunks_put(s, id, 0, c, PER_BATCH, &batch, NULL) !=
            HAUL_OK)
            _exit(2);
        if (write(fd, &batch, sizeof(batch)) != sizeof(batch))
            _exit(3);
    }
}

/* Chunks 0, 1, 2, … in batches of three, nothing left out. */
static int check_prefix(void *user, const struct hl_saved_chunk *c)
{
    uint64_t *next = user;

    assert_int_equal(c->index, *next);
    assert_int_equal(c->batch, *next / PER_BATCH + 1);
    assert_int_equal(c->len, 10);
    assert_int_equal(c->digest[7], *next & 0xff);
    ++*next;
    return 0;
}

static void killed_writer_leaves_a_prefix_of_whole_batches(void **state)
{
    struct hl_store *s = open_store(path);
    int64_t id = create(s, "k");
    struct hl_saved_object o;
    uint64_t told = 0, next;

    (void)state;
    put_object(s, id, 0, 100);
    hl_store_close(s);
    for (int round = 0; round < 12; round++) {
        int fds[2];
        uint64_t batch;
        pid_t pid;

        assert_int_equal(pipe(fds), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(fds[0]);
            write_batches(fds[1], id);
        }
        close(fds[1]);
        assert_int_equal(read(fds[0], &batch, sizeof(batch)), sizeof(batch));
        usleep((useconds_t)(round * 1700));
        kill_and_wait(pid);
        do
            told = batch;
        while (read(fds[0], &batch, sizeof(batch)) == sizeof(batch));
        close(fds[0]);
        s = open_store(path);
        next = 0;
        assert_int_equal(
            hl_store_chunks_load(s, id, 0, check_prefix, &next, NULL), HAUL_OK);
        o = get_object(s, id, 0);
        assert_int_equal(next, o.batch * PER_BATCH);
        assert_int_equal(o.acked_bytes, next * 10);
        /* What was told is there, and at most the one it could not tell. */
        assert_in_range(o.batch, told, told + 1);
        hl_saved_object_fini(&o);
        hl_store_close(s);
    }
    assert_true(told >= 12);
}

/* Eight processes that wait at a gate, then make the file, the tables and
 * rows at the same time. */
static void start_together(const char *name)
{
    pid_t pids[8];
    int gate[2], status;
    char byte;

    assert_int_equal(pipe(gate), 0);
    for (size_t i = 0; i < HL_LEN(pids); i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            char n[] = "n";
            struct hl_saved t = {
                .source = n, .target = n, .source_url = n, .target_url = n};
            struct hl_store *s;

            close(gate[1]);
            (void)!read(gate[0], &byte, 1); /* until it is closed */
            for (int k = 0; k < 3; k++) {
                if (hl_store_open(name, NULL, &s, NULL) != HAUL_OK)
                    _exit(1);
                if (hl_store_create(s, "k", &t, NULL) != HAUL_OK)
                    _exit(2);
                hl_store_close(s);
            }
            _exit(0);
        }
    }
    close(gate[0]);
    close(gate[1]);
    for (size_t i = 0; i < HL_LEN(pids); i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static void many_processes_start_at_once(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        int counts[2] = {0};
        struct hl_store *s;

        (void)snprintf(path, sizeof(path), "%s/%d/s.db", folder, round);
        start_together(path);
        s = open_store(path);
        assert_int_equal(hl_store_list(s, count_row, counts, NULL), HAUL_OK);
        assert_int_equal(counts[HL_SAVED_UNFINISHED], 24);
        hl_store_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(files_are_private_whatever_the_umask),
        T(open_to_others_becomes_private),
        T(default_path_follows_xdg),
        T(closing_leaves_one_file_and_the_lock),
        T(what_is_no_database_is_damaged),
        T(damaged_pages_are_reported_not_used),
        T(impossible_rows_are_damage),
        T(database_of_another_program_is_left_alone),
        T(newer_version_is_not_touched),
        T(version_1_goes_on_where_it_was),
        T(impossible_paths_are_refused),
        T(read_only_is_said),
        T(full_disk_is_said_and_survived),
        T(locked_by_another_program_is_said),
        T(every_failed_allocation_is_reported),
        T(two_transfers_of_one_engine_exclude_each_other),
        T(two_engines_of_one_process_exclude_each_other),
        T(another_name_of_the_store_is_the_same_store),
        T(process_excludes_process_until_it_is_killed),
        T(killed_writer_leaves_a_prefix_of_whole_batches),
        T(many_processes_start_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
