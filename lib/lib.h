/* What the files of lib/ share: the handles behind the public header. */
#ifndef HL_LIB_H
#define HL_LIB_H

#include <pthread.h>
#include <stdatomic.h>

#include "haul_jobs.h"
#include "manifest.h"
#include "transfer.h"

struct haul_engine {
    struct hl_engine *e; /* made by the first start */
    struct hl_log log;
    struct hl_opts *opts;
    struct hl_error error;
    bool in_callback;
    pthread_mutex_t secret_lock; /* serializes secret_fn */
    haul_secret_fn *secret_fn;
    void *secret_user;
};

/* A warning from a thread of a driver, or a note, until it can be told. */
struct hl_warning {
    struct hl_warning *next;
    struct hl_error error;
    char *note; /* or NULL: a warning */
};

struct haul_transfer {
    struct haul_engine *engine;
    enum hl_transfer_kind kind;
    struct hl_url source, target;
    bool has_source, has_target;             /* false: the caller or nobody */
    char *callback_source, *callback_target; /* names or NULL */
    haul_read_fn *read_fn;
    haul_write_fn *write_fn;
    void *read_user, *write_user;
    uint64_t read_size;
    struct hl_opts *opts;
    struct hl_env env;
    struct hl_transfer *_Atomic t; /* any thread may ask for it */
    atomic_bool cancel;            /* before there is a t */
    bool started, finished;
    haul_event_fn *event_fn;
    void *event_user;
    struct hl_error error;
    struct hl_manifest manifest; /* of a verification */
    bool has_manifest;
    int64_t remove_id;
    bool forget;
    bool keeps_state; /* the state store is there for it */
    pthread_mutex_t warning_lock;
    struct hl_warning *warnings;
    /* Strings handed out. */
    char *source_text, *target_text, *digest_text;
    char note[160];
};

/* lib/registry.c: the one table of drivers. */
const struct hl_driver *hl_registry_find(const char *scheme);

/* lib/env.c: fills t->env; the engine is there. */
void hl_lib_env(struct haul_transfer *t);
/* Any thread; told at the next chance. */
void hl_lib_warn(struct haul_transfer *t, const struct hl_error *warning);
void hl_lib_warning_free(struct hl_warning *w);

/* Fills at most out->size bytes of the public form of err. */
int hl_lib_error(const struct hl_error *err, struct haul_error *out);

/* Makes the engine behind e, once. */
int hl_lib_engine(struct haul_engine *e, struct hl_error *err);

/* A transfer of kind with its options; names may be NULL. */
int hl_lib_transfer_new(struct haul_engine *e, enum hl_transfer_kind kind,
                        const char *source, const char *target,
                        struct haul_transfer **out);

#endif /* HL_LIB_H */
