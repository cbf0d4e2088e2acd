/* The public functions about engines, options and running. */
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib.h"

uint32_t haul_version(void)
{
    return HAUL_VERSION_MAJOR << 16 | HAUL_VERSION_MINOR << 8 |
           HAUL_VERSION_PATCH;
}

const char *haul_features(void)
{
    return "file uring"
#ifdef HL_WITH_SFTP
           " sftp"
#endif
#ifdef HL_WITH_HTTP
           " http"
#endif
#ifdef HL_WITH_S3
           " s3"
#endif
           " mem faulty";
}

const char *haul_limit_name(int limit)
{
    static const char *const names[] = {"none",   "source", "cpu",
                                        "memory", "window", "connection",
                                        "link",   "target", "rate-limit"};

    if (limit < 0 || (size_t)limit >= HL_LEN(names))
        return "none";
    return names[limit];
}

int hl_lib_error(const struct hl_error *err, struct haul_error *out)
{
    struct haul_error full = {0};
    uint32_t size = out->size;

    if (size < sizeof(full.size) + sizeof(full.code))
        return HAUL_E_INVAL;
    size = (uint32_t)hl_min(size, sizeof(full));
    full.size = size;
    full.code = err->code;
    full.sys_errno = err->sys_errno;
    full.proto_status = err->proto_status;
    full.attempts = err->attempts;
    full.retryable = hl_err_retry_class(err->code) != HL_RETRY_NEVER;
    full.message = err->message;
    full.detail = err->detail[0] ? err->detail : NULL;
    full.hint = err->hint[0] ? err->hint : NULL;
    memcpy(out, &full, size);
    return 0;
}

/* ---- Engines ------------------------------------------------------------ */

int haul_engine_new(struct haul_engine **out)
{
    struct haul_engine *e = hl_malloc(sizeof(*e));

    if (!e)
        return HAUL_E_NOMEM;
    pthread_mutex_init(&e->secret_lock, NULL);
    if (hl_opts_new(&e->opts)) {
        haul_engine_free(e);
        return HAUL_E_NOMEM;
    }
    *out = e;
    return 0;
}

void haul_engine_free(struct haul_engine *e)
{
    if (!e)
        return;
    hl_engine_free(e->e);
    hl_opts_free(e->opts);
    pthread_mutex_destroy(&e->secret_lock);
    hl_free(e);
}

int hl_lib_engine(struct haul_engine *e, struct hl_error *err)
{
    struct hl_engine_config config = {.log = &e->log};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const char *state;
    int64_t memory;
    int rc;

    if (e->e)
        return 0;
    config.workers = cores < 1 ? 1 : cores > 8 ? 8 : (uint32_t)cores;
    if (getrandom(&config.seed, sizeof(config.seed), 0) != sizeof(config.seed))
        config.seed = (uint64_t)getpid();
    rc = hl_engine_new(&config, &e->e, err);
    if (rc)
        return rc;
    state = hl_opts_str(e->opts, HAUL_OPT_STATE);
    if (state && hl_engine_set_store_path(e->e, state)) {
        hl_engine_free(e->e);
        e->e = NULL;
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    memory = hl_opts_i64(e->opts, HAUL_OPT_MEMORY);
    if (memory > 0)
        hl_engine_set_memory(e->e, (uint64_t)memory);
    return 0;
}

int haul_engine_error(struct haul_engine *e, struct haul_error *error)
{
    if (e->in_callback)
        return HAUL_E_REENTER;
    return hl_lib_error(&e->error, error);
}

int haul_engine_set_secret_fn(struct haul_engine *e, haul_secret_fn *fn,
                              void *user)
{
    if (e->in_callback)
        return HAUL_E_REENTER;
    e->secret_fn = fn;
    e->secret_user = user;
    return 0;
}

int haul_engine_set_log_fn(struct haul_engine *e, haul_log_fn *fn, void *user,
                           int level, const char *areas)
{
    int rc;

    if (e->in_callback)
        return HAUL_E_REENTER;
    if (areas) {
        hl_err_clear(&e->error);
        rc = hl_log_parse_areas(areas, &e->log.areas, &e->error);
        if (rc)
            return rc;
    }
    e->log.fn = fn;
    e->log.user = user;
    e->log.level = level;
    return 0;
}

/* ---- Options ------------------------------------------------------------ */

static int engine_option(struct haul_engine *e)
{
    if (e->in_callback)
        return HAUL_E_REENTER;
    if (e->e)
        return HAUL_E_STATE;
    hl_err_clear(&e->error);
    return 0;
}

int haul_engine_set_i64(struct haul_engine *e, int opt, int64_t v)
{
    int rc = engine_option(e);

    return rc ? rc
              : hl_opts_set_i64(e->opts, HAUL_OPT_ENGINE, opt, v, &e->error);
}

int haul_engine_set_str(struct haul_engine *e, int opt, const char *v)
{
    int rc = engine_option(e);

    if (rc == 0 && opt == HAUL_OPT_TRACE)
        rc = hl_log_parse_areas(v ? v : "", &e->log.areas, &e->error);
    return rc ? rc
              : hl_opts_set_str(e->opts, HAUL_OPT_ENGINE, opt, v, &e->error);
}

static int transfer_option(struct haul_transfer *t)
{
    if (t->engine->in_callback)
        return HAUL_E_REENTER;
    if (t->started)
        return HAUL_E_STATE;
    hl_err_clear(&t->error);
    return 0;
}

int haul_transfer_set_i64(struct haul_transfer *t, int opt, int64_t v)
{
    int rc = transfer_option(t);

    return rc ? rc
              : hl_opts_set_i64(t->opts, HAUL_OPT_TRANSFER, opt, v, &t->error);
}

int haul_transfer_set_str(struct haul_transfer *t, int opt, const char *v)
{
    int rc = transfer_option(t);

    return rc ? rc
              : hl_opts_set_str(t->opts, HAUL_OPT_TRANSFER, opt, v, &t->error);
}

/* ---- Running ------------------------------------------------------------ */

int haul_engine_step(struct haul_engine *e, int timeout_ms)
{
    if (e->in_callback)
        return HAUL_E_REENTER;
    return e->e ? hl_engine_step(e->e, timeout_ms) : 0;
}

int haul_engine_run(struct haul_engine *e)
{
    int rc;

    do
        rc = haul_engine_step(e, -1);
    while (rc > 0);
    return rc;
}

int haul_engine_fd(struct haul_engine *e)
{
    if (e->in_callback)
        return HAUL_E_REENTER;
    hl_err_clear(&e->error);
    if (hl_lib_engine(e, &e->error))
        return e->error.code;
    return hl_loop_fd(hl_engine_loop(e->e));
}
