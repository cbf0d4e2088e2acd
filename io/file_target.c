/*
 * Targets: a temporary file beside the final one, renamed at commit, or the
 * final file itself where that cannot be (append, in order, a folder that
 * takes no new files), or a stream (pipe, device, "-").
 *
 * A symbolic link is followed: the file that it points to is replaced, in that
 * file's folder, as cp and rsync --copy-links would write it.
 *
 * The token is the name of the temporary file, or "=" for the final one. It is
 * made durable before that file is created or touched. flock() on the file
 * keeps two hauls from writing it at once.
 *
 * Threads: those of file_thread.c, one at a time per object except sync and
 * writeback.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "file.h"

#define IN_PLACE_TOKEN "="
#define SUFFIX_LEN 19 /* ".haul-12345678.part" */
/* A smaller file gets its blocks as it is written, through the cache. */
#define LARGE_MIN (UINT64_C(4) << 20)
/* So much is given to the disk at once; twice that may wait in memory. */
#define WRITEBACK_BYTES (UINT64_C(32) << 20)

static const char no_memory[] = "out of memory";

/* ---- Names -------------------------------------------------------------- */

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return hl_strdup(".");
    if (slash == path)
        return hl_strdup("/");
    return hl_asprintf("%.*s", (int)(slash - path), path);
}

/* Sets final and folder. st: of the final file; *exists. */
static int resolve(struct hl_file_obj *obj, struct stat *st, bool *exists,
                   struct hl_error *err)
{
    struct stat link;
    char *real;

    *exists = stat(obj->path, st) == 0;
    if (!*exists && errno != ENOENT)
        return hl_file_write_error(err, errno, "write", obj->path);
    if (!*exists && lstat(obj->path, &link) == 0) {
        hl_err(err, HAUL_E_WRITE, 0,
               "'%s' is a symbolic link to a file that does not exist",
               obj->path);
        return hl_err_hint(err, "Remove the link or name the file itself.");
    }
    hl_free(obj->final);
    hl_free(obj->folder);
    real = *exists ? realpath(obj->path, NULL) : NULL;
    obj->final = hl_strdup(real ? real : obj->path);
    free(real); /* realpath() made it */
    obj->folder = obj->final ? folder_of(obj->final) : NULL;
    if (!obj->folder)
        return hl_err(err, HAUL_E_NOMEM, 0, no_memory);
    return 0;
}

static int set_temp(struct hl_file_obj *obj, const char *name,
                    struct hl_error *err)
{
    hl_free(obj->temp);
    obj->temp = hl_asprintf("%s%s%s", obj->folder,
                            strcmp(obj->folder, "/") ? "/" : "", name);
    return obj->temp ? 0 : hl_err(err, HAUL_E_NOMEM, 0, no_memory);
}

/* Cut to NAME_MAX, not inside a UTF-8 character. */
static int name_temp(struct hl_file_obj *obj, const char *id,
                     struct hl_error *err)
{
    const char *name = last_component(obj->final);
    size_t keep = strlen(name), max = NAME_MAX - SUFFIX_LEN - 1;
    char temp[NAME_MAX + 1];

    if (keep > max) {
        keep = max;
        while (keep > 0 && ((unsigned char)name[keep] & 0xc0) == 0x80)
            keep--;
    }
    snprintf(temp, sizeof(temp), ".%.*s.haul-%.8s.part", (int)keep, name, id);
    return set_temp(obj, temp, err);
}

/* From the state store, but a name that leaves the folder is still none. */
static int check_token(const struct hl_file_obj *obj, const char *token,
                       struct hl_error *err)
{
    size_t len = strlen(token);

    if (strcmp(token, IN_PLACE_TOKEN) == 0)
        return 0;
    if (len <= SUFFIX_LEN || len > NAME_MAX || token[0] != '.' ||
        strchr(token, '/') || strcmp(token + len - 5, ".part"))
        return hl_err(err, HAUL_E_RESUME, 0,
                      "the saved temporary name of '%s' is damaged", obj->path);
    return 0;
}

/* ---- Before anything is touched ----------------------------------------- */

static int refuse_final(const struct hl_file_obj *obj, const struct stat *st,
                        struct hl_error *err)
{
    if (S_ISDIR(st->st_mode)) {
        hl_err(err, HAUL_E_WRITE, EISDIR, "cannot write '%s'", obj->path);
        return hl_err_hint(err, "Add a file name behind the folder.");
    }
    return hl_err(err, HAUL_E_WRITE, 0, "'%s' is a socket", obj->path);
}

static bool folder_refuses(const struct hl_file_obj *obj)
{
    return faccessat(AT_FDCWD, obj->folder, W_OK | X_OK, AT_EACCESS) &&
           (errno == EACCES || errno == EPERM);
}

static bool can_write_final(const struct hl_file_obj *obj)
{
    return faccessat(AT_FDCWD, obj->final, W_OK, AT_EACCESS) == 0;
}

/* Blocks that the file has already are not needed again. */
static int check_space(const struct hl_file_obj *obj, uint64_t size,
                       struct hl_error *err)
{
    struct statvfs fs;
    struct stat st;
    uint64_t have = 0, unused;

    if (size == HL_SIZE_UNKNOWN || statvfs(obj->folder, &fs) ||
        fs.f_blocks == 0)
        return 0;
    if (!stat(obj->temp ? obj->temp : obj->final, &st))
        have = (uint64_t)st.st_blocks * 512;
    unused = (uint64_t)(geteuid() ? fs.f_bavail : fs.f_bfree) * fs.f_frsize;
    if (size <= have || size - have <= unused)
        return 0;
    hl_err(err, HAUL_E_FULL, 0, "no space for '%s' in '%s'",
           last_component(obj->final), obj->folder);
    hl_err_detail(err, "%llu bytes needed, %llu free",
                  (unsigned long long)(size - have),
                  (unsigned long long)unused);
    return hl_err_hint(
        err, "Free %llu MB or name a target on another disk.",
        (unsigned long long)((size - have - unused) / 1000000 + 1));
}

static int open_stream(struct hl_file_obj *obj, const struct stat *st,
                       struct hl_open *o)
{
    struct hl_error *err = &o->op.error;
    int fd = -1;

    o->layout.caps = HL_CAP_ORDERED | HL_CAP_IN_PLACE;
    o->layout.fresh = o->resume || o->append;
    if (obj->dash) {
        fd = hl_file_dash(HL_ROLE_TARGET, err);
        if (fd < 0)
            return err->code;
    } else if (!S_ISFIFO(st->st_mode)) {
        fd = open(obj->path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
            return hl_file_write_error(err, errno, "write", obj->path);
    }
    if (fd >= 0 && st && S_ISCHR(st->st_mode) &&
        st->st_rdev == makedev(1, 3)) /* null(4) */
        o->layout.caps |= HL_CAP_NULL;
    return hl_file_stream_new(obj, fd, obj->path, err);
}

/* Decides where writing goes: obj->temp, NULL for the final file. */
static int choose_place(struct hl_file_obj *obj, const struct hl_open *o,
                        bool exists, struct hl_error *err)
{
    bool resume = o->resume && o->token;
    int rc = resume ? check_token(obj, o->token, err) : 0;

    if (rc)
        return rc;
    if (o->append || o->in_order ||
        (resume && strcmp(o->token, IN_PLACE_TOKEN) == 0))
        return 0;
    if (resume)
        return set_temp(obj, o->token, err);
    if (exists && folder_refuses(obj) && can_write_final(obj))
        return 0;
    return name_temp(obj, o->id ? o->id : "00000000", err);
}

/* The token goes to the store first; token_saved() goes on. */
static int ask_for_token(struct hl_file_req *r)
{
    struct hl_file_obj *obj = r->obj;
    struct hl_file_ep *ep = hl_file_ep(obj);
    struct hl_open *o = HL_CONTAINER(r->op, struct hl_open, op);
    const char *token = obj->temp ? last_component(obj->temp) : IN_PLACE_TOKEN;
    bool aborted;

    if (o->resume && o->token && strcmp(o->token, token) == 0) {
        r->saved = true;
        return 0;
    }
    pthread_mutex_lock(&ep->lock);
    aborted = obj->aborted;
    if (!aborted) {
        obj->open_wait = r;
        hl_object_token(&obj->base, token);
    }
    pthread_mutex_unlock(&ep->lock);
    return aborted ? HAUL_E_CANCELED : HL_FILE_WAITS;
}

static int prepare(struct hl_file_req *r)
{
    struct hl_open *o = HL_CONTAINER(r->op, struct hl_open, op);
    struct hl_file_obj *obj = r->obj;
    struct hl_error *err = &o->op.error;
    bool exists, ours;
    struct stat st;
    int rc;

    if (obj->dash)
        return open_stream(obj, NULL, o);
    rc = resolve(obj, &st, &exists, err);
    if (rc)
        return rc;
    if (exists && (S_ISDIR(st.st_mode) || S_ISSOCK(st.st_mode)))
        return refuse_final(obj, &st, err);
    if (exists && !S_ISREG(st.st_mode))
        return open_stream(obj, &st, o);
    /* Begun in place by an earlier run. */
    ours = o->append ||
           (o->resume && o->token && strcmp(o->token, IN_PLACE_TOKEN) == 0);
    if (exists && o->no_clobber && !ours) {
        hl_err(err, HAUL_E_EXISTS, 0, "'%s' exists", obj->path);
        return hl_err_hint(err, "Name another target, or leave --no-clobber "
                                "out to replace it.");
    }
    rc = choose_place(obj, o, exists, err);
    if (!rc)
        rc = check_space(obj, o->size, err);
    return rc ? rc : ask_for_token(r);
}

/* ---- Opening ------------------------------------------------------------ */

/* Somebody else writes it, or has (flock may be missing: NFS). */
static int lock_file(struct hl_file_obj *obj, const char *path,
                     struct hl_error *err)
{
    if (flock(obj->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return 0;
    hl_err(err, HAUL_E_BUSY, 0, "another process writes '%s'", path);
    return hl_err_hint(err, "Wait until it is done, or end it.");
}

/* Write-only is enough, but then nothing can be read back. */
static int open_rw(const char *path, int flags, mode_t mode, bool *readable)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | flags, mode);

    *readable = fd >= 0;
    if (fd < 0 && errno == EACCES)
        fd = open(path, O_WRONLY | O_CLOEXEC | flags, mode);
    return fd;
}

static mode_t creation_mode(const struct hl_open *o)
{
    return (mode_t)(o->mode ? o->mode & 0777 : 0666) | S_IRUSR | S_IWUSR;
}

/* The final file, as it stands or emptied. */
static int open_in_place(struct hl_file_obj *obj, struct hl_open *o, bool keep)
{
    struct hl_error *err = &o->op.error;
    bool readable, is_new = access(obj->final, F_OK) != 0;
    struct stat st;
    int rc;

    obj->fd = open_rw(obj->final, O_CREAT, creation_mode(o), &readable);
    if (obj->fd < 0)
        return hl_file_write_error(err, errno, "write", obj->path);
    rc = lock_file(obj, obj->final, err);
    if (rc)
        return rc;
    if ((!keep && ftruncate(obj->fd, 0)) || fstat(obj->fd, &st))
        return hl_file_write_error(err, errno, "write", obj->path);
    o->layout.existing = (uint64_t)st.st_size;
    o->layout.fresh = (o->resume || o->append) && (is_new || !keep);
    o->layout.caps |= HL_CAP_IN_PLACE;
    if (o->in_order)
        o->layout.caps |= HL_CAP_ORDERED;
    if (readable)
        o->layout.caps |= HL_CAP_READBACK;
    return 0;
}

/* False: it is not there. */
static bool open_left_temp(struct hl_file_obj *obj, struct hl_open *o, int *rc)
{
    struct hl_error *err = &o->op.error;
    struct stat st;

    obj->fd = open(obj->temp, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (obj->fd < 0 && errno == ENOENT)
        return false;
    if (obj->fd < 0 || fstat(obj->fd, &st)) {
        *rc = hl_file_write_error(err, errno, "go on with", obj->temp);
        return true;
    }
    *rc = lock_file(obj, obj->temp, err);
    o->layout.existing = (uint64_t)st.st_size;
    o->layout.caps |= HL_CAP_READBACK;
    return true;
}

/* 0, an error, or -1 with errno when the folder does not let us. */
static int create_temp(struct hl_file_obj *obj, struct hl_open *o)
{
    struct hl_error *err = &o->op.error;
    bool ours = false;
    int rc;

    obj->fd = open(obj->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                   creation_mode(o));
    if (obj->fd < 0 && errno == EEXIST) {
        /* Left by a run of this very transfer: the name has its id. */
        obj->fd = open(obj->temp, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        ours = true;
    }
    if (obj->fd < 0 && (errno == EACCES || errno == EPERM))
        return -1;
    if (obj->fd < 0)
        return hl_file_write_error(err, errno, "create", obj->temp);
    rc = lock_file(obj, obj->temp, err);
    if (!rc && ours && ftruncate(obj->fd, 0))
        rc = hl_file_write_error(err, errno, "empty", obj->temp);
    o->layout.caps |= HL_CAP_READBACK;
    return rc;
}

static bool is_large(const struct hl_open *o)
{
    return o->size >= LARGE_MIN; /* HL_SIZE_UNKNOWN too */
}

/* A file system in memory: what is set aside is written at once, a page at a
 * time, and there is no layout to gain. */
static bool in_memory(const struct hl_file_obj *obj)
{
    struct statfs fs;

    return fstatfs(obj->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* KEEP_SIZE: the size of the file still says how far it was written. */
static int preallocate(struct hl_file_obj *obj, struct hl_open *o)
{
    int rc;

    if (o->size == HL_SIZE_UNKNOWN || !is_large(o) || in_memory(obj))
        return 0;
    do
        rc = fallocate(obj->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)o->size);
    while (rc && errno == EINTR);
    if (rc && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return hl_file_write_error(&o->op.error, errno, "make room for",
                                   obj->path);
    return 0; /* EOPNOTSUPP and the like: blocks come with the writes */
}

static int open_place(struct hl_file_obj *obj, struct hl_open *o)
{
    bool resume = o->resume && o->token;
    int rc;

    if (!obj->temp)
        return open_in_place(obj, o, o->append || resume);
    if (resume && open_left_temp(obj, o, &rc))
        return rc;
    o->layout.fresh = o->resume;
    return create_temp(obj, o);
}

/* Both may fail: then everything goes through the cache, or is written back
 * when the kernel likes. */
static void open_more(struct hl_file_obj *obj, const struct hl_open *o)
{
    const char *path = obj->temp ? obj->temp : obj->final;

    /* An error of the disk is told once to each open file: those that the
     * early writeback hears must not be missing from fsync's. */
    obj->flush_fd = open(path, O_WRONLY | O_CLOEXEC);
    if (!(o->layout.caps & HL_CAP_READBACK))
        return;
    hl_file_probe_init(obj, 0);
    obj->direct_fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

static int open_saved(struct hl_file_req *r)
{
    struct hl_open *o = HL_CONTAINER(r->op, struct hl_open, op);
    struct hl_file_obj *obj = r->obj;
    struct hl_error *err = &o->op.error;
    bool is_new;
    int rc;

    o->layout.caps = HL_CAP_DURABLE | HL_CAP_RESUME;
    rc = open_place(obj, o);
    if (rc == -1 && can_write_final(obj)) {
        hl_free(obj->temp);
        obj->temp = NULL;
        r->saved = false; /* the other token first */
        return ask_for_token(r);
    }
    if (rc == -1)
        rc = hl_file_write_error(err, errno, "create", obj->temp);
    if (rc)
        return rc;
    is_new = obj->temp && o->layout.existing == 0;
    rc = preallocate(obj, o);
    if (rc) {
        if (is_new)
            unlink(obj->temp);
        return rc;
    }
    if (is_large(o))
        open_more(obj, o);
    hl_file_ring_need(hl_file_ep(obj));
    return 0;
}

int hl_file_target_open(struct hl_file_req *r)
{
    int rc = r->saved ? 0 : prepare(r);

    if (rc || r->obj->stream)
        return rc;
    return open_saved(r);
}

/* ---- Early writeback ---------------------------------------------------- */

/*
 * sync_file_range(2): without it gigabytes of dirty pages wait for the fsync
 * of commit. What is on the disk leaves the cache, as it was not in it before.
 */
static void flush_window(struct hl_file_obj *obj,
                         const struct hl_file_window *w, bool wait)
{
    unsigned flags = SYNC_FILE_RANGE_WRITE;

    if (w->bytes == 0 || obj->flush_fd < 0)
        return;
    if (wait)
        flags |= SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
    sync_file_range(obj->flush_fd, (off_t)w->lo, (off_t)(w->hi - w->lo), flags);
    if (wait)
        posix_fadvise(obj->flush_fd, (off_t)w->lo, (off_t)(w->hi - w->lo),
                      POSIX_FADV_DONTNEED);
}

void hl_file_writeback(struct hl_file_obj *obj)
{
    struct hl_file_ep *ep = hl_file_ep(obj);
    struct hl_file_window now;

    pthread_mutex_lock(&ep->lock);
    now = obj->written;
    memset(&obj->written, 0, sizeof(obj->written));
    pthread_mutex_unlock(&ep->lock);
    flush_window(obj, &now, false);
    flush_window(obj, &obj->flushing, true);
    obj->flushing = now;
    pthread_mutex_lock(&ep->lock);
    obj->writeback_busy = false;
    pthread_mutex_unlock(&ep->lock);
}

void hl_file_written_locked(struct hl_file_obj *obj, uint64_t offset,
                            uint64_t len)
{
    struct hl_file_window *w = &obj->written;

    w->lo = w->bytes ? hl_min(w->lo, offset) : offset;
    w->hi = hl_max(w->hi, offset + len);
    w->bytes += len;
    if (w->bytes < WRITEBACK_BYTES || obj->writeback_busy)
        return;
    obj->writeback_busy = true;
    obj->refs++;
    hl_file_job_locked(hl_file_ep(obj), &obj->writeback_req);
}

/* ---- Sync, commit, leaving ---------------------------------------------- */

static int flush_file(struct hl_file_obj *obj, bool with_times,
                      struct hl_error *err)
{
    if (with_times ? fsync(obj->fd) : fdatasync(obj->fd))
        return hl_file_write_error(err, errno, "sync", obj->path);
    return 0;
}

int hl_file_target_sync(struct hl_file_obj *obj, struct hl_error *err)
{
    bool durable;

    if (obj->stream)
        return hl_file_stream_sync(obj->stream, &durable, err);
    return flush_file(obj, false, err);
}

static int check_size(const struct hl_file_obj *obj, struct hl_commit *c)
{
    struct hl_error *err = &c->op.error;
    struct stat st;

    if (fstat(obj->fd, &st))
        return hl_file_write_error(err, errno, "look at", obj->path);
    if ((uint64_t)st.st_size != c->size)
        return hl_err(err, HAUL_E_WRITE, 0,
                      "'%s' has %llu bytes instead of %llu", obj->path,
                      (unsigned long long)st.st_size,
                      (unsigned long long)c->size);
    c->size_checked = true;
    return 0;
}

/* Some file systems have no modes or owners, and a file that is written in
 * place may belong to somebody else. */
static bool unimportant(int sys_errno)
{
    return sys_errno == EPERM || sys_errno == EOPNOTSUPP || sys_errno == ENOSYS;
}

static int set_attributes(const struct hl_file_obj *obj, struct hl_commit *c)
{
    const struct hl_log *log = obj->base.endpoint->env->log;
    struct hl_error *err = &c->op.error;
    int64_t ns = (int64_t)HL_NS_PER_S;
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {0}};

    if (c->mode && fchmod(obj->fd, (mode_t)(c->mode & 0777))) {
        if (!unimportant(errno))
            return hl_file_write_error(err, errno, "set the mode of",
                                       obj->path);
        HL_WARN(log, HL_AREA_IO, "the mode of '%s' cannot be set", obj->path);
    }
    t[1].tv_sec = (time_t)(c->mtime_ns / ns);
    t[1].tv_nsec = (long)(c->mtime_ns % ns);
    if (t[1].tv_nsec < 0) { /* before 1970 */
        t[1].tv_sec--;
        t[1].tv_nsec += (long)ns;
    }
    if (c->mtime_ns && futimens(obj->fd, t)) {
        if (!unimportant(errno))
            return hl_file_write_error(err, errno, "set the time of",
                                       obj->path);
        HL_WARN(log, HL_AREA_IO, "the time of '%s' cannot be set", obj->path);
    }
    return 0;
}

/* link() is the other call that refuses an existing name; for file systems
 * where renameat2(2) has no flags (EINVAL). */
static int rename_noreplace(const char *from, const char *to)
{
    if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (link(from, to))
        return -1;
    unlink(from);
    return 0;
}

static int rename_temp(struct hl_file_obj *obj, const struct hl_commit *c,
                       struct hl_error *err)
{
    int rc;

    if (!c->no_clobber)
        rc = rename(obj->temp, obj->final);
    else
        rc = rename_noreplace(obj->temp, obj->final);
    if (!rc)
        return 0;
    if (errno == EEXIST) {
        hl_err(err, HAUL_E_EXISTS, 0, "'%s' exists", obj->path);
        return hl_err_hint(err,
                           "It came during the transfer; the bytes are "
                           "in '%s'.",
                           obj->temp);
    }
    hl_file_write_error(err, errno, "rename the temporary file to", obj->path);
    hl_err_hint(err, "The bytes are complete in '%s'.", obj->temp);
    return err->code;
}

/* Some file systems cannot sync a folder (EINVAL) and need not. */
static int sync_folder(const struct hl_file_obj *obj, bool *durable,
                       struct hl_error *err)
{
    int fd = open(obj->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd), sys_errno = errno;

    if (fd >= 0)
        close(fd);
    *durable = rc == 0;
    if (rc == 0 || sys_errno == EINVAL || sys_errno == EACCES ||
        sys_errno == EOPNOTSUPP)
        return 0;
    return hl_file_write_error(err, sys_errno, "sync the folder", obj->folder);
}

int hl_file_target_commit(struct hl_file_obj *obj, struct hl_commit *c)
{
    struct hl_error *err = &c->op.error;
    int rc;

    if (obj->stream)
        return hl_file_stream_sync(obj->stream, &c->durable, err);
    rc = check_size(obj, c);
    if (!rc)
        rc = set_attributes(obj, c);
    if (!rc)
        rc = flush_file(obj, true, err);
    if (!rc && obj->temp && !obj->committed) {
        rc = rename_temp(obj, c, err);
        obj->committed = rc == 0; /* a commit again only syncs */
    }
    if (!rc && obj->temp && c->size >= WRITEBACK_BYTES)
        posix_fadvise(obj->fd, 0, 0, POSIX_FADV_DONTNEED);
    return rc ? rc : sync_folder(obj, &c->durable, err);
}

int hl_file_target_suspend(struct hl_file_obj *obj, struct hl_suspend *s)
{
    struct hl_error *err = &s->op.error;
    struct stat st;

    if (obj->stream || obj->fd < 0)
        return 0;
    if (!obj->temp) {
        if (fstat(obj->fd, &st) || ((uint64_t)st.st_size > s->contiguous &&
                                    ftruncate(obj->fd, (off_t)s->contiguous)))
            return hl_file_write_error(err, errno, "cut", obj->path);
    }
    return flush_file(obj, false, err);
}

/* A file that was written in place stays: it may have been there before. */
int hl_file_target_discard(struct hl_file_obj *obj, const char *token,
                           struct hl_error *err)
{
    struct stat st;
    bool exists;
    int rc;

    if (!token || obj->dash || strcmp(token, IN_PLACE_TOKEN) == 0)
        return 0;
    rc = check_token(obj, token, err);
    if (!rc && !obj->folder)
        rc = resolve(obj, &st, &exists, err);
    if (!rc)
        rc = set_temp(obj, token, err);
    if (!rc && unlink(obj->temp) && errno != ENOENT)
        rc = hl_file_write_error(err, errno, "remove", obj->temp);
    return rc;
}
