/*
 * The file driver over its slots, on real files: once with io_uring and once
 * with HAUL_NO_URING=1. Expected bytes come from a formula, what the driver
 * left on disk is looked at with plain system calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "drivers.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define NOBODY 65534
#define TMPFS 0x01021994
#define ID "0123456789abcdef"

struct fixture {
    struct hl_env env;
    struct hl_log log;
    struct hl_endpoint *ep;
    char folder[PATH_MAX];
    char logged[512];
    char token[NAME_MAX + 1];
    char temp[PATH_MAX];
    int token_rc;        /* what the store answers */
    bool temp_was_there; /* when the token came */
    bool hold_token;     /* do not answer */
    uint64_t acked;
    unsigned answered;
    int open_fds; /* at the start, as the next */
    int64_t allocations;
};

static struct fixture *fx;

/* ---- Help --------------------------------------------------------------- */

static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i ^ (i >> 8) ^ (i >> 16) ^ (i >> 24));
}

static void fill(uint8_t *data, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = byte_at(offset + i);
}

static bool filled(const uint8_t *data, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != byte_at(offset + i))
            return false;
    return true;
}

static uint8_t *aligned(size_t len)
{
    uint8_t *p = aligned_alloc(4096, (len + 4095) & ~(size_t)4095);

    assert_non_null(p);
    return p;
}

static const char *path_of(const char *name)
{
    static char path[4][PATH_MAX + NAME_MAX + 2];
    static unsigned turn;
    char *p = path[turn++ % 4];

    snprintf(p, sizeof(path[0]), "%s/%s", fx->folder, name);
    return p;
}

static void make_file(const char *name, size_t size)
{
    uint8_t *data = aligned(size + 1);
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

    assert_true(fd >= 0);
    fill(data, 0, size);
    assert_int_equal(write(fd, data, size), size);
    assert_int_equal(fsync(fd), 0);
    close(fd);
    free(data);
}

static void expect_file(const char *name, size_t size)
{
    uint8_t *data = aligned(size + 1);
    int fd = open(path_of(name), O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(read(fd, data, size + 1), size);
    assert_true(filled(data, 0, size));
    close(fd);
    free(data);
}

static bool there(const char *name)
{
    struct stat st;

    return lstat(path_of(name), &st) == 0;
}

static void done(struct hl_op *op)
{
    ++*(unsigned *)op->user;
    fx->answered++;
}

/* Until *count is n; ten seconds at most. */
static void wait_for(const unsigned *count, unsigned n)
{
    uint64_t end = hl_loop_now(fx->env.loop) + 10 * HL_NS_PER_S;

    while (*count < n && hl_loop_now(fx->env.loop) < end)
        hl_loop_step(fx->env.loop, 100);
    assert_int_equal(*count, n);
}

#define RUN(op_, call)                                                         \
    do {                                                                       \
        unsigned count_ = 0;                                                   \
        (op_)->done = done;                                                    \
        (op_)->user = &count_;                                                 \
        call;                                                                  \
        assert_int_equal(count_, 0); /* never from inside */                   \
        wait_for(&count_, 1);                                                  \
    } while (0)

static void on_acked(void *user, uint64_t offset, uint64_t len)
{
    (void)user;
    (void)offset;
    fx->acked += len;
}

static void on_lost(void *user, uint64_t offset, uint64_t len,
                    const struct hl_error *error)
{
    (void)user;
    fail_msg("lost %llu+%llu: %s", (unsigned long long)offset,
             (unsigned long long)len, error->message);
}

static void on_token(void *user, const char *token)
{
    struct hl_object *obj = user;

    snprintf(fx->token, sizeof(fx->token), "%s", token);
    fx->temp_was_there = there(token);
    if (!fx->hold_token)
        obj->driver->token_saved(obj, fx->token_rc);
}

static const struct hl_object_events events = {on_acked, on_lost, on_token};

static struct hl_object *object(const char *path, enum hl_role role)
{
    char *copy = strdup(path);
    char scheme_file[] = "file", scheme_dash[] = "-";
    struct hl_url url = {.path = copy};
    struct hl_object *obj = NULL;

    url.scheme = strcmp(path, "-") ? scheme_file : scheme_dash;
    assert_int_equal(hl_driver_file.object_new(fx->ep, &url, role, &obj, NULL),
                     0);
    free(copy);
    obj->events = &events;
    obj->events_user = obj;
    return obj;
}

static void drop(struct hl_object *obj)
{
    struct hl_op op = {0};

    RUN(&op, hl_driver_abort(obj, &op));
    assert_int_equal(op.rc, 0);
    hl_driver_file.close(obj);
}

static struct hl_object *source(const char *name, struct hl_open *o)
{
    struct hl_object *obj = object(path_of(name), HL_ROLE_SOURCE);

    memset(o, 0, sizeof(*o));
    o->chunk_size = 4 * MIB;
    RUN(&o->op, hl_driver_open(obj, o));
    return obj;
}

/* The rest of *o is set. */
static struct hl_object *target(const char *path, struct hl_open *o)
{
    struct hl_object *obj = object(path, HL_ROLE_TARGET);

    fx->acked = 0;
    fx->token[0] = '\0';
    o->chunk_size = 4 * MIB;
    o->id = ID;
    RUN(&o->op, hl_driver_open(obj, o));
    snprintf(fx->temp, sizeof(fx->temp), "%s", path_of(fx->token));
    return obj;
}

static struct hl_io read_at(struct hl_object *obj, uint64_t offset,
                            uint32_t len, uint8_t *data)
{
    struct hl_io io = {.offset = offset, .len = len, .data = data};

    RUN(&io.op, hl_driver_read(obj, &io));
    return io;
}

/* 0 or the error; the bytes of the formula. */
static int write_at(struct hl_object *obj, uint64_t offset, uint32_t len,
                    struct hl_error *err)
{
    struct hl_io io = {.offset = offset, .len = len};

    io.data = aligned(len);
    fill(io.data, offset, len);
    RUN(&io.op, hl_driver_write(obj, &io));
    free(io.data);
    if (err)
        *err = io.op.error;
    return io.op.rc;
}

static struct hl_commit commit(struct hl_object *obj, uint64_t size)
{
    struct hl_commit c = {.size = size};

    RUN(&c.op, hl_driver_commit(obj, &c));
    return c;
}

static void expect_error(const struct hl_op *op, int code, int sys_errno,
                         const char *part)
{
    assert_int_equal(op->rc, code);
    assert_int_equal(op->error.code, code);
    assert_int_equal(op->error.sys_errno, sys_errno);
    assert_non_null(strstr(op->error.message, part));
}

static void on_log(void *user, int level, const char *area, const char *text)
{
    (void)user;
    (void)level;
    (void)area;
    snprintf(fx->logged, sizeof(fx->logged), "%s", text);
}

static int count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* ---- Reading ------------------------------------------------------------ */

#define PIECE (256 * KIB)
#define PIECES 17
#define ODD_SIZE (16 * PIECE + 123)

static void several_reads_in_any_order_bring_the_bytes(void **state)
{
    static struct hl_io io[PIECES];
    uint8_t *data = aligned(PIECES * PIECE);
    struct hl_object *obj;
    struct hl_open o;
    unsigned count = 0;

    (void)state;
    memset(io, 0, sizeof(io));
    make_file("in", ODD_SIZE);
    obj = source("in", &o);
    assert_int_equal(o.op.rc, 0);
    assert_int_equal(o.identity.size, ODD_SIZE);
    assert_true(o.layout.caps & HL_CAP_SEEK);
    for (unsigned i = PIECES; i-- > 0;) {
        io[i].offset = (uint64_t)i * PIECE;
        io[i].len = PIECE;
        io[i].data = data + (size_t)i * PIECE;
        io[i].op.done = done;
        io[i].op.user = &count;
        hl_driver_read(obj, &io[i]);
    }
    wait_for(&count, PIECES);
    for (unsigned i = 0; i < PIECES; i++) {
        assert_int_equal(io[i].op.rc, 0);
        assert_int_equal(io[i].done, i < 16 ? PIECE : 123);
        assert_int_equal(io[i].eof, i == 16);
    }
    assert_true(filled(data, 0, ODD_SIZE));
    assert_int_equal(read_at(obj, ODD_SIZE, 10, data).done, 0);
    free(data);
    drop(obj);
}

static void an_unaligned_place_and_buffer_are_read(void **state)
{
    uint8_t *data = aligned(MIB);
    struct hl_object *obj;
    struct hl_open o;
    struct hl_io io;

    (void)state;
    make_file("in", ODD_SIZE);
    obj = source("in", &o);
    io = read_at(obj, 4095, 70001, data + 1);
    assert_int_equal(io.op.rc, 0);
    assert_int_equal(io.done, 70001);
    assert_true(filled(data + 1, 4095, 70001));
    io = read_at(obj, 8192, 4097, data); /* aligned but for its length */
    assert_int_equal(io.done, 4097);
    assert_true(filled(data, 8192, 4097));
    free(data);
    drop(obj);
}

static void identity_names_size_time_inode_and_mode(void **state)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {1234567890, 123456789}};
    struct hl_object *obj;
    struct hl_open o;
    struct stat st;

    (void)state;
    make_file("in", 5);
    assert_int_equal(chmod(path_of("in"), 0640), 0);
    assert_int_equal(utimensat(AT_FDCWD, path_of("in"), t, 0), 0);
    assert_int_equal(stat(path_of("in"), &st), 0);
    obj = source("in", &o);
    assert_int_equal(o.identity.size, 5);
    assert_int_equal(o.identity.mtime_ns, 1234567890123456789);
    assert_int_equal(o.identity.inode, st.st_ino);
    assert_int_equal(o.identity.device, st.st_dev);
    assert_int_equal(o.identity.mode, 0640);
    drop(obj);
}

static void a_source_that_cannot_be_read_says_why(void **state)
{
    struct hl_object *obj;
    struct hl_open o;

    (void)state;
    obj = source("missing", &o);
    expect_error(&o.op, HAUL_E_READ, ENOENT, "missing'");
    assert_true(o.op.error.hint[0]);
    drop(obj);
    assert_int_equal(mkdir(path_of("folder"), 0755), 0);
    obj = source("folder", &o);
    expect_error(&o.op, HAUL_E_READ, EISDIR, "folder'");
    assert_non_null(strstr(o.op.error.hint, "tar"));
    drop(obj);
}

static void a_source_without_permission_says_why(void **state)
{
    struct hl_object *obj;
    struct hl_open o;

    (void)state;
    make_file("in", 5);
    assert_int_equal(chmod(path_of("in"), 0), 0);
    if (getuid() == 0)
        assert_int_equal(seteuid(NOBODY), 0);
    obj = source("in", &o);
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    expect_error(&o.op, HAUL_E_READ, EACCES, "in'");
    assert_true(o.op.error.hint[0]);
    drop(obj);
}

static void a_file_cut_while_it_is_read_ends_there(void **state)
{
    uint8_t *data = aligned(MIB);
    struct hl_object *obj;
    struct hl_open o;
    struct hl_io io;

    (void)state;
    make_file("in", 2 * MIB);
    obj = source("in", &o);
    assert_int_equal(read_at(obj, 0, MIB, data).done, MIB);
    assert_int_equal(truncate(path_of("in"), MIB + 5000), 0);
    io = read_at(obj, MIB, MIB, data);
    assert_int_equal(io.op.rc, 0);
    assert_int_equal(io.done, 5000);
    assert_true(io.eof);
    assert_true(filled(data, MIB, 5000));
    free(data);
    drop(obj);
}

/* Pages of the file in the page cache. */
static size_t pages_cached(const char *name, size_t size)
{
    size_t pages = (size + 4095) / 4096, n = 0;
    unsigned char *in = calloc(pages, 1);
    int fd = open(path_of(name), O_RDONLY);
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

    assert_true(map != MAP_FAILED);
    assert_int_equal(mincore(map, size, in), 0);
    for (size_t i = 0; i < pages; i++)
        n += in[i] & 1;
    munmap(map, size);
    close(fd);
    free(in);
    return n;
}

static void uncache(const char *name)
{
    int fd = open(path_of(name), O_RDONLY);

    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static void reading_leaves_the_page_cache_as_it_was(void **state)
{
    uint8_t *data = aligned(ODD_SIZE + 4096);
    struct hl_object *obj;
    struct hl_open o;
    struct statfs fs;
    int fd;

    (void)state;
    assert_int_equal(statfs(fx->folder, &fs), 0);
    if (fs.f_type == TMPFS) {
        print_message("skipped: %s is a tmpfs\n", fx->folder);
        free(data);
        skip();
    }
    make_file("in", ODD_SIZE);
    uncache("in");
    assert_int_equal(pages_cached("in", ODD_SIZE), 0);
    obj = source("in", &o);
    assert_int_equal(read_at(obj, 0, ODD_SIZE, data).done, ODD_SIZE);
    assert_true(filled(data, 0, ODD_SIZE));
    assert_int_equal(pages_cached("in", ODD_SIZE), 0);

    fd = open(path_of("in"), O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* no read-ahead */
    assert_int_equal(pread(fd, data, 2 * MIB, 0), 2 * MIB);
    close(fd);
    assert_int_equal(pages_cached("in", ODD_SIZE), 2 * MIB / 4096);
    for (uint32_t at = 0; at < 4 * MIB; at += MIB)
        assert_int_equal(read_at(obj, at, MIB, data).done, MIB);
    assert_int_equal(pages_cached("in", ODD_SIZE), 2 * MIB / 4096);
    free(data);
    drop(obj);
}

static void no_locked_memory_is_needed(void **state)
{
    struct rlimit old, none = {0, 0};
    uint8_t *data = aligned(MIB);
    struct hl_object *obj;
    struct hl_open o;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
    none.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    make_file("in", MIB);
    obj = source("in", &o);
    assert_int_equal(read_at(obj, 0, MIB, data).done, MIB);
    assert_true(filled(data, 0, MIB));
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &old), 0);
    free(data);
    drop(obj);
}

static void abort_brings_every_read_back_once(void **state)
{
    enum { N = 200 };
    static struct hl_io io[N];
    uint8_t *data = aligned(N * 64 * KIB);
    struct hl_op op = {.done = done};
    struct hl_object *obj;
    struct hl_open o;
    unsigned count = 0, ended = 0;

    (void)state;
    memset(io, 0, sizeof(io));
    make_file("in", N * 64 * KIB);
    uncache("in");
    obj = source("in", &o);
    for (unsigned i = 0; i < N; i++) {
        io[i].offset = i * 64 * KIB;
        io[i].len = 64 * KIB;
        io[i].data = data + i * 64 * KIB;
        io[i].op.done = done;
        io[i].op.user = &count;
        hl_driver_read(obj, &io[i]);
    }
    op.user = &ended;
    hl_driver_abort(obj, &op);
    wait_for(&ended, 1);
    assert_int_equal(count, N); /* all before the abort */
    for (unsigned i = 0; i < N; i++) {
        assert_true(io[i].op.rc == 0 || io[i].op.rc == HAUL_E_CANCELED);
        if (!io[i].op.rc)
            assert_true(filled(io[i].data, io[i].offset, io[i].len));
    }
    hl_driver_file.close(obj);
    free(data);
}

/* ---- Pipes -------------------------------------------------------------- */

static void *feed(void *arg)
{
    int fd = *(int *)arg;
    uint8_t piece[7000];

    for (uint64_t at = 0; at < 100 * sizeof(piece); at += sizeof(piece)) {
        fill(piece, at, sizeof(piece));
        assert_int_equal(write(fd, piece, sizeof(piece)), sizeof(piece));
        if (at % 10 == 0)
            usleep(1000);
    }
    close(fd);
    return NULL;
}

static void standard_input_is_read_full_and_left_alone(void **state)
{
    uint8_t *data = aligned(MIB);
    int saved = dup(0), pipe_fd[2], flags;
    struct hl_open o = {0};
    struct hl_object *obj;
    struct hl_io io;
    pthread_t thread;

    (void)state;
    assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
    dup2(pipe_fd[0], 0);
    close(pipe_fd[0]);
    flags = fcntl(0, F_GETFL);
    assert_int_equal(pthread_create(&thread, NULL, feed, &pipe_fd[1]), 0);
    obj = object("-", HL_ROLE_SOURCE);
    RUN(&o.op, hl_driver_open(obj, &o));
    assert_int_equal(o.identity.size, HL_SIZE_UNKNOWN);
    assert_true(o.layout.caps & HL_CAP_ORDERED);
    assert_false(o.layout.caps & HL_CAP_SEEK);
    io = read_at(obj, 0, 500000, data);
    assert_int_equal(io.done, 500000);
    assert_false(io.eof);
    io = read_at(obj, 500000, 500000, data + 500000);
    assert_int_equal(io.done, 200000);
    assert_true(io.eof);
    assert_true(filled(data, 0, 700000));
    assert_int_equal(read_at(obj, 700000, 1, data).op.rc, 0);
    assert_int_equal(fcntl(0, F_GETFL), flags);
    pthread_join(thread, NULL);
    drop(obj);
    dup2(saved, 0);
    close(saved);
    free(data);
}

static void a_fifo_that_nobody_writes_can_be_aborted(void **state)
{
    struct hl_op op = {.done = done};
    struct hl_io io = {.len = 10, .op.done = done};
    unsigned count = 0, ended = 0;
    uint8_t data[10];
    struct hl_object *obj;
    struct hl_open o;

    (void)state;
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    obj = source("fifo", &o);
    assert_int_equal(o.op.rc, 0);
    io.data = data;
    io.op.user = &count;
    hl_driver_read(obj, &io);
    hl_loop_step(fx->env.loop, 50);
    assert_int_equal(count, 0);
    op.user = &ended;
    hl_driver_abort(obj, &op);
    wait_for(&ended, 1);
    assert_int_equal(count, 1);
    assert_int_equal(io.op.rc, HAUL_E_CANCELED);
    hl_driver_file.close(obj);
}

static void *drain(void *arg)
{
    int fd = open(arg, O_RDONLY);
    uint8_t *data = aligned(MIB);
    size_t got = 0;
    ssize_t n;

    assert_true(fd >= 0);
    while ((n = read(fd, data + got, MIB - got)) > 0)
        got += (size_t)n;
    assert_true(filled(data, 0, got));
    free(data);
    close(fd);
    return (void *)got;
}

static void a_fifo_target_waits_for_its_reader(void **state)
{
    struct hl_open o = {.size = HL_SIZE_UNKNOWN};
    char path[PATH_MAX];
    struct hl_object *obj;
    pthread_t thread;
    void *got;

    (void)state;
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    obj = target(path_of("fifo"), &o);
    assert_int_equal(o.op.rc, 0);
    assert_true(o.layout.caps & HL_CAP_IN_PLACE);
    assert_true(o.layout.caps & HL_CAP_ORDERED);
    snprintf(path, sizeof(path), "%s", path_of("fifo"));
    assert_int_equal(pthread_create(&thread, NULL, drain, path), 0);
    assert_int_equal(write_at(obj, 0, 300000, NULL), 0);
    assert_int_equal(write_at(obj, 300000, 200000, NULL), 0);
    assert_int_equal(commit(obj, 500000).op.rc, 0);
    assert_int_equal(fx->acked, 500000);
    drop(obj);
    pthread_join(thread, &got);
    assert_int_equal((size_t)got, 500000);
}

#include "test_file_target.h"
