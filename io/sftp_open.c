/*
 * The job that opens an object: what stands there, is there room, which name
 * to write under, what the server allows. Runs on the thread of the connection
 * that has the stream; see sftp.h.
 */
#include "sftp.h"
#include "tune.h"

#include <string.h>

#define RW (HL_FXF_READ | HL_FXF_WRITE)
/* What a stat saw is believed for so long. */
#define SEEN_NS (5 * HL_NS_PER_S)
#define NEW (HL_FXF_CREAT | HL_FXF_EXCL)

/* What is tried in turn until the server agrees. Without READ a target cannot
 * be read back; some upload folders forbid it. The last of TEMP is for our
 * own file of an earlier try. */
static const uint32_t TEMP[] = {NEW | RW, NEW | HL_FXF_WRITE, HL_FXF_TRUNC | RW,
                                0};
static const uint32_t EXISTING[] = {RW, HL_FXF_WRITE, 0};
static const uint32_t APPEND[] = {HL_FXF_CREAT | RW,
                                  HL_FXF_CREAT | HL_FXF_WRITE, 0};
static const uint32_t IN_ORDER[] = {HL_FXF_CREAT | HL_FXF_TRUNC | RW,
                                    HL_FXF_CREAT | HL_FXF_TRUNC | HL_FXF_WRITE,
                                    HL_FXF_TRUNC | HL_FXF_WRITE, HL_FXF_WRITE,
                                    0};

/* ---- Open --------------------------------------------------------------- */

static struct hl_open *open_of(struct hl_sftp_job *job)
{
    return HL_CONTAINER(job->op, struct hl_open, op);
}

static void open_finish(struct hl_sftp_job *job)
{
    struct hl_open *op = open_of(job);
    struct hl_sftp_obj *obj = job->obj;
    struct hl_layout *l = &op->layout;
    bool target = obj->base.role == HL_ROLE_TARGET;
    uint64_t size = target ? op->size : op->identity.size;

    obj->wide = size == HL_SIZE_UNKNOWN || size > HL_SFTP_WIDE;
    obj->existing = l->existing;
    l->caps = HL_CAP_SEEK;
    l->streams_max = obj->ep->conns_max;
    l->fresh = job->fresh;
    if (target) {
        l->caps = HL_CAP_RESUME;
        l->caps |= obj->open_flags & HL_FXF_READ ? HL_CAP_READBACK : 0;
        l->caps |= job->st->server.fsync ? HL_CAP_DURABLE : 0;
        l->caps |= obj->in_place ? HL_CAP_IN_PLACE : 0;
        l->caps |= obj->in_order ? HL_CAP_ORDERED : HL_CAP_SEEK;
        l->streams_max *= obj->ep->streams_max;
    }
    if (obj->in_order)
        l->streams_max = 1;
    pthread_mutex_lock(&obj->ep->lock);
    obj->opened = true;
    obj->home = job->st->conn;
    pthread_mutex_unlock(&obj->ep->lock);
    hl_sftp_job_finish(job, 0);
}

static void open_stated(struct hl_sftp_stream *st, void *ctx,
                        const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;
    const struct hl_sftp_attrs *a;
    struct hl_open *op;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    op = open_of(job);
    if (reply->type != HL_SFTP_ATTRS) {
        hl_sftp_job_finish(job, hl_sftp_refusal(&job->error, reply, "look at",
                                                job->obj->work));
        return;
    }
    a = &reply->attrs;
    if (hl_sftp_is_folder(a)) {
        hl_sftp_job_finish(job, hl_err(&job->error, HAUL_E_REMOTE, 0,
                                       "'%s' is a folder", job->obj->work));
        return;
    }
    op->layout.existing = a->size;
    op->identity.size = a->flags & HL_ATTR_SIZE ? a->size : HL_SIZE_UNKNOWN;
    if (a->flags & HL_ATTR_ACMODTIME)
        op->identity.mtime_ns = (int64_t)a->mtime * (int64_t)HL_NS_PER_S;
    if (a->flags & HL_ATTR_PERMISSIONS)
        op->identity.mode = a->mode & 07777;
    open_finish(job);
}

static void open_next(struct hl_sftp_job *job);
static void open_plan(struct hl_sftp_job *job, bool resume);

/* The handle of a job that nobody waits for any more is closed again. */
static struct hl_sftp_fh *adopt(struct hl_sftp_job *job,
                                const struct hl_sftp_reply *reply)
{
    struct hl_sftp_obj *obj = job->obj;
    struct hl_sftp_fh *fh;

    pthread_mutex_lock(&obj->ep->lock);
    obj->handles++;
    pthread_mutex_unlock(&obj->ep->lock);
    fh = hl_sftp_fh_new(job->st, obj);
    if (!fh) {
        hl_sftp_job_finish(job, HAUL_E_NOMEM);
        return NULL;
    }
    hl_sftp_fh_set(fh, reply);
    if (job->op)
        return fh;
    fh->muted = true;
    hl_sftp_fh_close(fh);
    return NULL;
}

static void open_got(struct hl_sftp_job *job, const struct hl_sftp_reply *reply)
{
    struct hl_sftp_obj *obj = job->obj;
    uint32_t flags = job->attempt ? *job->attempt : HL_FXF_READ, id;
    struct hl_sftp_out *o;

    job->error = (struct hl_error){0};
    job->fh = adopt(job, reply);
    if (!job->fh)
        return;
    hl_free(obj->work);
    obj->work = job->try_path;
    job->try_path = NULL;
    obj->open_flags = flags & RW;
    obj->in_place = job->in_place;
    if (flags & (HL_FXF_EXCL | HL_FXF_TRUNC)) {
        open_finish(job); /* it is empty */
        return;
    }
    o = hl_sftp_job_call(job, open_stated, &id);
    if (!o)
        return;
    hl_sftp_put_handle(o, HL_SFTP_FSTAT, id, hl_sftp_fh_bytes(job->fh));
    hl_sftp_send(job->st, o);
}

static void open_replied(struct hl_sftp_stream *st, void *ctx,
                         const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;
    bool missing, existing;

    (void)st;
    if (!hl_sftp_job_reply(job, reply)) {
        if (reply && reply->type == HL_SFTP_HANDLE)
            adopt(job, reply);
        return;
    }
    if (reply->type == HL_SFTP_HANDLE) {
        open_got(job, reply);
        return;
    }
    missing =
        reply->type == HL_SFTP_STATUS && reply->status == HL_FX_NO_SUCH_FILE;
    existing = job->attempt && !(*job->attempt & HL_FXF_CREAT);
    hl_sftp_refusal(
        &job->error, reply, job->attempt && !existing ? "create" : "open",
        job->in_place || !job->attempt ? job->try_path : job->obj->path);
    if (!job->attempt) {
        hl_sftp_job_finish(job, job->error.code);
    } else if (missing && existing && job->attempt == EXISTING &&
               (open_of(job)->resume || open_of(job)->append) && !job->fresh) {
        job->fresh = true;
        job->error = (struct hl_error){0};
        open_plan(job, false);
    } else {
        job->attempt++;
        /* A missing folder does not appear by trying again. */
        if (missing && !existing)
            while (*job->attempt)
                job->attempt++;
        open_next(job);
    }
}

static void open_try(struct hl_sftp_job *job)
{
    struct hl_sftp_attrs attrs = {0};
    uint32_t flags = job->attempt ? *job->attempt : HL_FXF_READ, id;
    struct hl_sftp_out *o = hl_sftp_job_call(job, open_replied, &id);

    if (!o)
        return;
    if ((flags & HL_FXF_CREAT) && open_of(job)->mode) {
        attrs.flags = HL_ATTR_PERMISSIONS;
        /* We have to write it, on several handles; the mode asked for is
         * set at commit. */
        attrs.mode = (open_of(job)->mode & 07777) | 0600;
    }
    hl_sftp_put_open(o, id, job->try_path, flags, &attrs);
    hl_sftp_send(job->st, o);
}

static void token_answered(struct hl_sftp_job *job)
{
    bool saved;

    pthread_mutex_lock(&job->obj->ep->lock);
    saved = job->obj->token == HL_TOKEN_SAVED;
    pthread_mutex_unlock(&job->obj->ep->lock);
    if (saved)
        open_try(job);
    else
        hl_sftp_job_finish(job, hl_err(&job->error, HAUL_E_STORE, 0,
                                       "cannot keep the name of '%s'",
                                       job->try_path));
}

/* The name is made durable before anything with it is created or changed. */
static void ask_token(struct hl_sftp_job *job)
{
    char *token =
        hl_asprintf("%s:%s", job->in_place ? "inplace" : "tmp", job->try_path);

    if (!token) {
        hl_sftp_job_finish(job, HAUL_E_NOMEM);
        return;
    }
    pthread_mutex_lock(&job->obj->ep->lock);
    job->obj->token = HL_TOKEN_ASKED;
    pthread_mutex_unlock(&job->obj->ep->lock);
    job->wait = HL_WAIT_TOKEN;
    job->resume = token_answered;
    hl_object_token(&job->obj->base, token);
    hl_free(token);
}

/* ".NAME.haul-ID.part" beside the target; names end at 255 bytes. */
static char *temp_name(const char *path, const char *id)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    return hl_asprintf("%.*s.%.200s.haul-%.8s.part", (int)(name - path), path,
                       name, id ? id : "0");
}

static void set_try(struct hl_sftp_job *job, bool in_place,
                    const uint32_t *attempts, char *path)
{
    job->in_place = in_place;
    job->attempt = attempts;
    hl_free(job->try_path);
    job->try_path = path;
}

/* The list of attempts is at its next entry, or at its end. */
static void open_next(struct hl_sftp_job *job)
{
    if (*job->attempt) {
        open_try(job);
        return;
    }
    if (job->in_place) {
        hl_sftp_job_finish(job, job->error.code);
        return;
    }
    /* Nothing may be created here. Some servers let one fixed file be
     * written and nothing else. */
    set_try(job, true, EXISTING, hl_strdup(job->obj->path));
    if (job->try_path)
        ask_token(job);
    else
        hl_sftp_job_finish(job, HAUL_E_NOMEM);
}

static void open_plan(struct hl_sftp_job *job, bool resume)
{
    const struct hl_open *op = open_of(job);
    const char *path = job->obj->path;
    const char *token = resume ? op->token : NULL;

    if (token && strncmp(token, "tmp:", 4) == 0 && token[4])
        set_try(job, false, EXISTING, hl_strdup(token + 4));
    else if (token)
        set_try(job, true, EXISTING, hl_strdup(path));
    else if (op->append)
        set_try(job, true, job->fresh ? APPEND : EXISTING, hl_strdup(path));
    else if (job->obj->in_order)
        set_try(job, true, IN_ORDER, hl_strdup(path));
    else
        set_try(job, false, TEMP, temp_name(path, op->id));
    if (!job->try_path)
        hl_sftp_job_finish(job, HAUL_E_NOMEM);
    else if (token)
        open_try(job);
    else
        ask_token(job);
}

static void open_checked(struct hl_sftp_job *job)
{
    const struct hl_open *op = open_of(job);

    if (job->pending)
        return;
    if (job->error.code)
        hl_sftp_job_finish(job, job->error.code);
    else
        open_plan(job, op->resume && op->token);
}

/* What stands under the final name, when something does. Whatever else is
 * wrong with it: opening will tell. */
static void check_final(struct hl_sftp_job *job, bool folder)
{
    const char *path = job->obj->path;

    if (folder)
        hl_err(&job->error, HAUL_E_REMOTE, 0, "'%s' is a folder", path);
    else if (open_of(job)->no_clobber)
        hl_err(&job->error, HAUL_E_EXISTS, 0, "'%s' exists", path);
}

/* Only where all of it comes now. */
static bool needs_room(struct hl_sftp_job *job)
{
    const struct hl_open *op = open_of(job);

    return op->size != HL_SIZE_UNKNOWN && !op->resume && !op->append &&
           !job->obj->in_order;
}

static void check_room(struct hl_sftp_job *job, uint64_t room)
{
    uint64_t size = open_of(job)->size;

    if (room >= size || job->error.code)
        return;
    hl_err(&job->error, HAUL_E_REMOTE_FULL, 0,
           "no room for '%s' on the server: %llu bytes needed, %llu free",
           job->obj->path, (unsigned long long)size, (unsigned long long)room);
    hl_err_hint(&job->error, "Free some space there and run the same "
                             "command again.");
}

static void open_final_stated(struct hl_sftp_stream *st, void *ctx,
                              const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (reply->type == HL_SFTP_ATTRS)
        check_final(job, hl_sftp_is_folder(&reply->attrs));
    open_checked(job);
}

static void open_room_known(struct hl_sftp_stream *st, void *ctx,
                            const struct hl_sftp_reply *reply)
{
    struct hl_sftp_job *job = ctx;
    uint64_t room;

    (void)st;
    if (!hl_sftp_job_reply(job, reply))
        return;
    if (reply->type == HL_SFTP_EXTENDED_REPLY &&
        !hl_sftp_statvfs_parse(reply->bytes, &room))
        check_room(job, room);
    open_checked(job);
}

/* A large target gets its channels while its name is being made: their set-up
 * takes as many round trips. The engine corrects the number later. */
static void want_streams(struct hl_sftp_job *job)
{
    struct hl_sftp_obj *obj = job->obj;
    struct hl_tune tune;

    if (open_of(job)->size <= HL_SFTP_WIDE || obj->in_order)
        return;
    hl_tune_init(&tune, 0, obj->ep->streams_max * obj->ep->conns_max);
    pthread_mutex_lock(&obj->ep->lock);
    if (!obj->streams)
        obj->streams =
            hl_tune_start(&tune, atomic_load(&job->st->conn->rtt_ns));
    hl_sftp_count_streams(obj->ep);
    pthread_mutex_unlock(&obj->ep->lock);
    job->st->conn->kick = true;
}

void hl_sftp_open_start(struct hl_sftp_job *job)
{
    struct hl_open *op = open_of(job);
    struct hl_sftp_obj *obj = job->obj;

    op->layout = (struct hl_layout){0};
    op->identity = (struct hl_identity){.size = HL_SIZE_UNKNOWN};
    if (obj->base.role == HL_ROLE_SOURCE) {
        job->try_path = hl_strdup(obj->path);
        if (job->try_path)
            open_try(job);
        else
            hl_sftp_job_finish(job, HAUL_E_NOMEM);
        return;
    }
    obj->in_order = op->in_order;
    want_streams(job);
    if (obj->seen_ns && job->st->conn->now_ns - obj->seen_ns < SEEN_NS) {
        /* The engine has just looked. */
        if (obj->seen_exists)
            check_final(job, obj->seen_folder);
        if (needs_room(job))
            check_room(job, obj->seen_room);
        open_checked(job);
        return;
    }
    if (needs_room(job) && !hl_sftp_job_ask_room(job, open_room_known))
        return;
    hl_sftp_job_send_path(job, HL_SFTP_STAT, obj->path, open_final_stated);
}
