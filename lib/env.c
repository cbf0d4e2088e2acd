/* What drivers get from their transfer: warnings and notes on their way to the
 * user, secrets, facts from the state store. */
#include "lib.h"

/* Nobody is called from inside a driver. */
static void add_warning(struct haul_transfer *t, struct hl_warning *w)
{
    struct hl_warning **last;

    pthread_mutex_lock(&t->warning_lock);
    for (last = &t->warnings; *last; last = &(*last)->next)
        ;
    *last = w;
    pthread_mutex_unlock(&t->warning_lock);
}

void hl_lib_warn(struct haul_transfer *t, const struct hl_error *warning)
{
    struct hl_warning *w = hl_malloc(sizeof(*w));

    if (!w)
        return;
    w->error = *warning;
    add_warning(t, w);
}

/* From any thread of a driver. */
static void env_warn(const struct hl_env *env, const struct hl_error *warning)
{
    hl_lib_warn(env->owner, warning);
}

static void env_say(const struct hl_env *env, const char *text)
{
    struct hl_warning *w = hl_malloc(sizeof(*w));
    char line[1024];

    hl_escape(line, sizeof(line), text);
    if (w)
        w->note = hl_strdup(line);
    if (w && w->note)
        add_warning(env->owner, w);
    else
        hl_lib_warning_free(w);
}

/* NULL: this transfer keeps no state. */
static struct hl_store *fact_store(const struct hl_env *env)
{
    struct haul_transfer *t = env->owner;
    struct hl_store *store = NULL;

    if (t->keeps_state)
        hl_engine_store(t->engine->e, &store, NULL);
    return store;
}

static char *env_fact(const struct hl_env *env, const char *key)
{
    struct hl_store *store = fact_store(env);
    char *value = NULL;

    if (store)
        hl_store_fact_get(store, key, &value, NULL);
    return value;
}

/* Without it the same is found out again. */
static void env_keep_fact(const struct hl_env *env, const char *key,
                          const char *value)
{
    struct hl_store *store = fact_store(env);
    struct hl_error err = {0};

    if (store && hl_store_fact_put(store, key, value, &err))
        HL_INFO(env->log, HL_AREA_STORE, "a fact is not kept: %s", err.message);
}

static int env_secret(const struct hl_env *env, const char *what, int echo,
                      char *buf, size_t cap)
{
    struct haul_engine *e = ((struct haul_transfer *)env->owner)->engine;
    int rc = HAUL_E_AUTH;

    if (!e->secret_fn)
        return rc;
    pthread_mutex_lock(&e->secret_lock);
    if (e->secret_fn(e->secret_user, what, echo, buf, cap) == 0)
        rc = 0;
    pthread_mutex_unlock(&e->secret_lock);
    return rc;
}

void hl_lib_warning_free(struct hl_warning *w)
{
    if (w)
        hl_free(w->note);
    hl_free(w);
}

void hl_lib_env(struct haul_transfer *t)
{
    t->env.loop = hl_engine_loop(t->engine->e);
    t->env.log = &t->engine->log;
    t->env.opts = t->opts;
    t->env.library_bytes_max = hl_engine_library_bytes(t->engine->e);
    t->env.secret = env_secret;
    t->env.warn = env_warn;
    t->env.find = hl_registry_find;
    t->env.fact = env_fact;
    t->env.keep_fact = env_keep_fact;
    t->env.say = env_say;
    t->env.digest = hl_digest_find_offered;
    t->env.owner = t;
}
