/*
 * One read or write of a regular file: which way it goes and what came of it.
 *
 * The page cache stays as it was found. A range that is cached is read from
 * there, one that is not with O_DIRECT; where that cannot be, through the
 * cache, and dropped again. Writes are O_DIRECT where they are aligned: half
 * the processor time or less, and nothing is left for the fsync of commit.
 * Whether a range is cached is asked for each read
 * (cachestat, Linux 6.5), or for a few pages of it (mincore), which tells the
 * truth only to who may write the file (Linux 5.2); who may not is served with
 * O_DIRECT. Threads: the one that has the request.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file.h"

/* linux/mman.h; not in the headers of every distribution that we build on. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
struct cachestat_range_abi {
    uint64_t off, len;
};
struct cachestat_abi {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

#define MINCORE_SAMPLES 8

enum cached { CACHED_NONE, CACHED_SOME, CACHED_ALL };

static int call_cachestat(int fd, uint64_t offset, uint64_t len,
                          struct cachestat_abi *out)
{
    struct cachestat_range_abi range = {offset, len};

    return (int)syscall(SYS_cachestat, fd, &range, out, 0);
}

/* can_do_mincore() in mm/mincore.c: others see everything as cached. */
static bool mincore_is_true(int fd)
{
    char self[64];
    struct stat st;

    if (fstat(fd, &st))
        return false;
    if (st.st_uid == geteuid() || geteuid() == 0)
        return true;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    return faccessat(AT_FDCWD, self, W_OK, AT_EACCESS) == 0;
}

void hl_file_probe_init(struct hl_file_obj *obj, uint64_t size)
{
    struct cachestat_abi stat;

    obj->probe = HL_FILE_NO_PROBE;
    if (!call_cachestat(obj->fd, 0, HL_FILE_ALIGN, &stat)) {
        obj->probe = HL_FILE_CACHESTAT;
        return;
    }
    if (size == 0 || size > SIZE_MAX / 2 || !mincore_is_true(obj->fd))
        return;
    obj->map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, obj->fd, 0);
    if (obj->map == MAP_FAILED) {
        obj->map = NULL;
        return;
    }
    obj->map_len = (size_t)size;
    obj->probe = HL_FILE_MINCORE;
}

void hl_file_probe_fini(struct hl_file_obj *obj)
{
    if (obj->map)
        munmap(obj->map, obj->map_len);
    obj->map = NULL;
}

static enum cached ask_cachestat(const struct hl_file_obj *obj, uint64_t offset,
                                 uint64_t len)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t pages = (offset + len - 1) / page - offset / page + 1;
    struct cachestat_abi stat;

    if (call_cachestat(obj->fd, offset, len, &stat))
        return CACHED_SOME;
    if (stat.cached == 0)
        return CACHED_NONE;
    return stat.cached >= pages ? CACHED_ALL : CACHED_SOME;
}

static enum cached ask_mincore(const struct hl_file_obj *obj, uint64_t offset,
                               uint64_t len)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t step = hl_max(len / MINCORE_SAMPLES, page);
    unsigned asked = 0, found = 0;
    unsigned char in;
    uint64_t at;

    for (at = offset; at < offset + len && at < obj->map_len; at += step) {
        if (mincore((char *)obj->map + at / page * page, 1, &in))
            return CACHED_SOME;
        asked++;
        found += in & 1;
    }
    if (found == 0)
        return CACHED_NONE;
    return found == asked ? CACHED_ALL : CACHED_SOME;
}

static enum cached ask_cached(const struct hl_file_obj *obj, uint64_t offset,
                              uint64_t len)
{
    switch (obj->probe) {
    case HL_FILE_CACHESTAT:
        return ask_cachestat(obj, offset, len);
    case HL_FILE_MINCORE:
        return ask_mincore(obj, offset, len);
    case HL_FILE_NO_PROBE:
        break;
    }
    return CACHED_SOME; /* unknown: nothing of it is dropped */
}

/* How much of the rest O_DIRECT can move; 0 none. A read at the end of a file
 * is rounded up, when the buffer has room, so that the tail need not go
 * through the cache. */
static uint32_t direct_size(const struct hl_file_req *r)
{
    const struct hl_io *io = hl_file_io(r);
    const uint8_t *at = io->data + io->done;
    uint32_t left = io->len - io->done;
    uint32_t up = (left + HL_FILE_ALIGN - 1) & ~(HL_FILE_ALIGN - 1);

    if (r->obj->direct_fd < 0 || atomic_load(&r->obj->direct_off))
        return 0;
    if ((io->offset + io->done) % HL_FILE_ALIGN ||
        (uintptr_t)at % HL_FILE_ALIGN)
        return 0;
    if (r->kind == HL_FILE_READ && up >= left && io->buf &&
        at >= io->buf->data &&
        (size_t)(at - io->buf->data) + up <= io->buf->capacity)
        return up;
    return left & ~(HL_FILE_ALIGN - 1);
}

void hl_file_plan(struct hl_file_req *r)
{
    const struct hl_io *io = hl_file_io(r);
    enum cached cached = CACHED_SOME;

    r->size = io->len - io->done;
    r->direct = r->drop = false;
    if (r->kind == HL_FILE_READ)
        cached = ask_cached(r->obj, io->offset + io->done, r->size);
    if (cached == CACHED_ALL)
        return;
    if (direct_size(r)) {
        r->size = direct_size(r);
        r->direct = true;
    } else {
        r->drop = cached == CACHED_NONE;
    }
}

/* Whole pages: none of those that the range touches was cached. */
static void drop_pages(int fd, uint64_t offset, uint64_t len)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t lo = offset / page * page;
    uint64_t hi = (offset + len + page - 1) / page * page;

    posix_fadvise(fd, (off_t)lo, (off_t)(hi - lo), POSIX_FADV_DONTNEED);
}

static int read_error(const struct hl_file_req *r, int sys_errno)
{
    struct hl_error *err = &r->op->error;
    const struct hl_io *io = hl_file_io(r);

    hl_err(err, HAUL_E_READ, sys_errno, "cannot read '%s'", r->obj->path);
    hl_err_detail(err, "read of %u bytes at %llu", (unsigned)r->size,
                  (unsigned long long)(io->offset + io->done));
    if (sys_errno == EIO)
        hl_err_hint(err, "The disk or its file system fails; see the kernel "
                         "log (dmesg).");
    return HAUL_E_READ;
}

static int write_error(const struct hl_file_req *r, int sys_errno)
{
    struct hl_error *err = &r->op->error;
    const struct hl_io *io = hl_file_io(r);
    int rc = hl_file_write_error(err, sys_errno, "write", r->obj->path);

    hl_err_detail(err, "write of %u bytes at %llu", (unsigned)r->size,
                  (unsigned long long)(io->offset + io->done));
    return rc;
}

/* O_DIRECT may be refused at run time: by alignment (EINVAL), by a file system
 * that converts the file meanwhile. */
static bool retry_other_way(struct hl_file_req *r, int sys_errno)
{
    if (sys_errno == EINTR)
        return true;
    if (sys_errno == EAGAIN && !r->again) {
        r->again = true;
        return true;
    }
    if (r->direct && (sys_errno == EINVAL || sys_errno == EOPNOTSUPP)) {
        atomic_store(&r->obj->direct_off, true);
        return true;
    }
    return false;
}

bool hl_file_step(struct hl_file_req *r, int64_t res, int *rc)
{
    struct hl_io *io = hl_file_io(r);
    uint32_t left = io->len - io->done;

    *rc = 0;
    if (res < 0) {
        if (retry_other_way(r, (int)-res))
            return true;
        *rc = r->kind == HL_FILE_READ ? read_error(r, (int)-res)
                                      : write_error(r, (int)-res);
        return false;
    }
    HL_ASSERT(res <= (int64_t)r->size);
    if (r->kind == HL_FILE_READ && r->drop && res > 0)
        drop_pages(r->obj->fd, io->offset + io->done, (uint64_t)res);
    if (res == 0 && r->kind == HL_FILE_READ) {
        io->eof = true;
        return false;
    }
    if (res == 0) {
        *rc = write_error(r, EIO);
        return false;
    }
    if (r->kind == HL_FILE_WRITE && !r->direct)
        r->cached += (uint32_t)res;
    io->done += (uint32_t)hl_min((uint64_t)res, left);
    return io->done < io->len;
}

int hl_file_transfer(struct hl_file_req *r)
{
    struct hl_io *io = hl_file_io(r);
    ssize_t n;
    int rc, fd;

    do {
        off_t at = (off_t)(io->offset + io->done);
        uint8_t *data = io->data + io->done;

        hl_file_plan(r);
        fd = r->direct ? r->obj->direct_fd : r->obj->fd;
        if (r->kind == HL_FILE_WRITE)
            n = pwrite(fd, data, r->size, at);
        else
            n = pread(fd, data, r->size, at);
    } while (hl_file_step(r, n < 0 ? -errno : n, &rc));
    return rc;
}
