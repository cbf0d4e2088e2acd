/* The public functions about transfers. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "callback.h"
#include "lib.h"

/* ---- Events ------------------------------------------------------------- */

static void send_text(struct haul_transfer *t, uint32_t type,
                      const struct hl_error *error, const char *text)
{
    struct haul_stats stats = {.size = sizeof(stats)};
    struct haul_error public = {.size = sizeof(public)};
    struct haul_event ev = {.size = sizeof(ev)};

    if (!t->event_fn)
        return;
    hl_transfer_stats(t->t, &stats);
    ev.type = type;
    ev.transfer = t;
    ev.stats = &stats;
    ev.text = text;
    if (error && error->code) {
        hl_lib_error(error, &public);
        ev.error = &public;
    }
    t->engine->in_callback = true;
    if (t->event_fn(t->event_user, &ev) != 0)
        hl_transfer_cancel(t->t);
    t->engine->in_callback = false;
}

static void send_event(struct haul_transfer *t, uint32_t type,
                       const struct hl_error *error)
{
    send_text(t, type, error, NULL);
}

static void tell_warnings(struct haul_transfer *t)
{
    struct hl_warning *w, *next;

    pthread_mutex_lock(&t->warning_lock);
    w = t->warnings;
    t->warnings = NULL;
    pthread_mutex_unlock(&t->warning_lock);
    for (; w; w = next) {
        next = w->next;
        if (w->note)
            send_text(t, HAUL_EV_NOTE, NULL, w->note);
        else
            send_event(t, HAUL_EV_WARNING, &w->error);
        hl_lib_warning_free(w);
    }
}

static void on_state(void *user)
{
    tell_warnings(user);
    send_event(user, HAUL_EV_STATE, NULL);
}

static void on_progress(void *user)
{
    tell_warnings(user);
    send_event(user, HAUL_EV_PROGRESS, NULL);
}

static void on_saved(void *user)
{
    send_event(user, HAUL_EV_SAVED, NULL);
}

static void on_retry(void *user, const struct hl_error *error)
{
    tell_warnings(user); /* a note often says why */
    send_event(user, HAUL_EV_RETRY, error);
}

static void on_warning(void *user, const struct hl_error *error)
{
    tell_warnings(user);
    send_event(user, HAUL_EV_WARNING, error);
}

static void on_finished(void *user, int rc, const struct hl_error *error)
{
    struct haul_transfer *t = user;

    tell_warnings(t);
    t->finished = true;
    t->error = *error;
    t->error.code = rc;
    send_event(t, HAUL_EV_DONE, &t->error);
}

/* ---- Making ------------------------------------------------------------- */

static int parse_end(struct haul_transfer *t, const char *text,
                     struct hl_url *url, bool *has)
{
    int rc;

    if (!text)
        return 0;
    rc = hl_url_parse(text, url, &t->error);
    if (rc)
        return rc;
    *has = true;
    if (!hl_registry_find(url->scheme)) {
        hl_err(&t->error, HAUL_E_INVAL, 0,
               "'%s:' is no kind of place "
               "that this haul knows",
               url->scheme);
        return hl_err_hint(&t->error, "It has: %s.", haul_features());
    }
    return 0;
}

int hl_lib_transfer_new(struct haul_engine *e, enum hl_transfer_kind kind,
                        const char *source, const char *target,
                        struct haul_transfer **out)
{
    struct haul_transfer *t;
    int rc;

    if (e->in_callback)
        return HAUL_E_REENTER;
    hl_err_clear(&e->error);
    t = hl_malloc(sizeof(*t));
    if (!t)
        return hl_err(&e->error, HAUL_E_NOMEM, 0, "out of memory");
    t->engine = e;
    t->kind = kind;
    pthread_mutex_init(&t->warning_lock, NULL);
    rc = hl_opts_new(&t->opts);
    if (rc == 0)
        rc = parse_end(t, source, &t->source, &t->has_source);
    if (rc == 0)
        rc = parse_end(t, target, &t->target, &t->has_target);
    if (rc) {
        e->error = t->error;
        haul_transfer_free(t);
        return hl_err(&e->error, rc, 0, "%s", haul_err_text(rc));
    }
    *out = t;
    return 0;
}

int haul_transfer_new(struct haul_engine *e, const char *source,
                      const char *target, struct haul_transfer **out)
{
    return hl_lib_transfer_new(e, HL_TRANSFER_COPY, source, target, out);
}

int haul_verify_new(struct haul_engine *e, const char *target,
                    const char *manifest, struct haul_transfer **out)
{
    struct haul_transfer *t;
    char *beside = NULL;
    int rc;

    if (e->in_callback)
        return HAUL_E_REENTER;
    hl_err_clear(&e->error);
    if (!target)
        return hl_err(&e->error, HAUL_E_INVAL, 0, "no target given");
    rc = hl_lib_transfer_new(e, HL_TRANSFER_CHECK, target, NULL, &t);

    if (rc)
        return rc;
    if (!manifest && strcmp(t->source.scheme, "file") != 0) {
        hl_err(&e->error, HAUL_E_INVAL, 0, "no manifest given");
        rc = hl_err_hint(&e->error, "Name the manifest of a remote target.");
    }
    if (rc == 0 && !manifest) {
        beside = hl_asprintf("%s.haul.json", t->source.path);
        rc = beside ? 0 : HAUL_E_NOMEM;
    }
    if (rc == 0)
        rc = hl_manifest_read(manifest ? manifest : beside, &t->manifest,
                              &e->error);
    hl_free(beside);
    if (rc) {
        haul_transfer_free(t);
        return hl_err(&e->error, rc, 0, "%s", haul_err_text(rc));
    }
    t->has_manifest = true;
    *out = t;
    return 0;
}

static void run_down(struct haul_transfer *t)
{
    t->event_fn = NULL;
    hl_transfer_cancel(t->t);
    while (!t->finished)
        hl_engine_step(t->engine->e, -1);
}

void haul_transfer_free(struct haul_transfer *t)
{
    if (!t)
        return;
    if (t->started && !t->finished)
        run_down(t);
    hl_transfer_free(t->t);
    t->event_fn = NULL;
    while (t->warnings) {
        struct hl_warning *w = t->warnings;

        t->warnings = w->next;
        hl_lib_warning_free(w);
    }
    pthread_mutex_destroy(&t->warning_lock);
    hl_url_fini(&t->source);
    hl_url_fini(&t->target);
    if (t->has_manifest)
        hl_manifest_fini(&t->manifest);
    hl_opts_free(t->opts);
    hl_free(t->callback_source);
    hl_free(t->callback_target);
    hl_free(t->source_text);
    hl_free(t->target_text);
    hl_free(t->digest_text);
    hl_free(t);
}

static int set_name(char **slot, const char *name)
{
    hl_free(*slot);
    *slot = hl_strdup(name);
    return name && !*slot ? HAUL_E_NOMEM : 0;
}

int haul_transfer_set_source_fn(struct haul_transfer *t, const char *name,
                                uint64_t size, haul_read_fn *fn, void *user)
{
    if (t->engine->in_callback)
        return HAUL_E_REENTER;
    if (t->started || t->has_source || t->kind != HL_TRANSFER_COPY)
        return HAUL_E_STATE;
    t->read_fn = fn;
    t->read_user = user;
    t->read_size = size;
    return set_name(&t->callback_source, name);
}

int haul_transfer_set_target_fn(struct haul_transfer *t, const char *name,
                                haul_write_fn *fn, void *user)
{
    if (t->engine->in_callback)
        return HAUL_E_REENTER;
    if (t->started || t->has_target || t->kind != HL_TRANSFER_COPY)
        return HAUL_E_STATE;
    t->write_fn = fn;
    t->write_user = user;
    return set_name(&t->callback_target, name);
}

int haul_transfer_set_event_fn(struct haul_transfer *t, haul_event_fn *fn,
                               void *user)
{
    if (t->engine->in_callback)
        return HAUL_E_REENTER;
    t->event_fn = fn;
    t->event_user = user;
    return 0;
}

/* ---- Names -------------------------------------------------------------- */

/* The same file under the same name, wherever the user stands: absolute, the
 * folder resolved. */
static char *absolute_path(const char *path)
{
    char *copy = hl_strdup(path), *slash, *folder, *text = NULL;
    char resolved[PATH_MAX];

    if (!copy)
        return NULL;
    slash = strrchr(copy, '/');
    if (slash)
        *slash = '\0';
    folder = !slash ? "." : slash == copy ? "/" : copy;
    if (realpath(folder, resolved))
        text = hl_asprintf("%s/%s", strcmp(resolved, "/") ? resolved : "",
                           slash ? slash + 1 : copy);
    else
        text = hl_strdup(path);
    hl_free(copy);
    return text;
}

static char *canonical_name(const struct hl_url *u, bool has,
                            const char *callback)
{
    if (!has)
        return callback ? hl_asprintf("callback:%s", callback) : NULL;
    if (!strcmp(u->scheme, "file"))
        return absolute_path(u->path);
    return hl_url_display(u);
}

/* Does this end outlive the process, so that its state is worth keeping? */
static bool is_lasting(const struct hl_url *u, bool has, const char *callback)
{
    if (!has)
        return callback != NULL;
    return strcmp(u->scheme, "mem") && strcmp(u->scheme, "faulty");
}

/* Both ends' names; *key is NULL when nothing is worth keeping. */
static int make_names(struct haul_transfer *t, char **source, char **target,
                      char **key)
{
    bool lasting = is_lasting(&t->target, t->has_target, t->callback_target) &&
                   (!t->has_target || strcmp(t->target.scheme, "-")) &&
                   (t->has_source || t->callback_source);

    *key = NULL;
    hl_free(*source); /* of a start that failed */
    hl_free(*target);
    *source = canonical_name(&t->source, t->has_source, t->callback_source);
    *target = canonical_name(&t->target, t->has_target, t->callback_target);
    if ((!*source && (t->has_source || t->callback_source)) ||
        (!*target && (t->has_target || t->callback_target)))
        return HAUL_E_NOMEM;
    if (t->kind != HL_TRANSFER_COPY || !lasting || !*source || !*target)
        return 0;
    *key = hl_asprintf("%s\n%s", *source, *target);
    return *key ? 0 : HAUL_E_NOMEM;
}

/* ---- Start -------------------------------------------------------------- */

/* The manifest of a result with digests, but for its name. The digests stay
 * the transfer's. */
static void describe(struct haul_transfer *t, const struct hl_item_result *r,
                     struct hl_manifest *m)
{
    m->size = r->size;
    m->chunk_size = r->chunk_size;
    m->digest = hl_digest_find(hl_opts_str(t->opts, HAUL_OPT_DIGEST));
    m->chunks = (uint8_t *)(uintptr_t)r->digests;
    m->count = r->size / r->chunk_size + (r->size % r->chunk_size != 0);
    m->has_whole = r->whole != NULL;
    if (r->whole)
        memcpy(m->whole, r->whole, m->digest->size);
}

static int end_hook(void *user, struct hl_error *err)
{
    struct haul_transfer *t = user;
    const char *path = hl_opts_str(t->opts, HAUL_OPT_MANIFEST);
    struct hl_item_result r;
    struct hl_manifest m = {0};
    struct hl_error warning = {0};

    hl_transfer_item_result(t->t, 0, &r);
    if (!path || r.dry_run)
        return 0;
    if (!r.digests || !r.target) {
        hl_err(&warning, HAUL_E_STATE, 0, "no manifest written: '%s'", path);
        hl_err_hint(&warning, r.already_there
                                  ? "The copy was there already; copy again "
                                    "with --resume never to get one."
                              : r.unverified_bytes
                                  ? "What was there before has no digests; "
                                    "--verify readback takes them."
                                  : "--verify none takes no digests.");
        send_event(t, HAUL_EV_WARNING, &warning);
        return 0;
    }
    m.name = hl_strdup(hl_url_basename(r.target));
    if (!m.name)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    describe(t, &r, &m);
    hl_manifest_write(&m, path, err);
    hl_free(m.name);
    return err->code;
}

static const struct hl_transfer_events transfer_events = {
    on_state,   on_progress, on_saved,    on_retry,
    on_warning, end_hook,    on_finished,
};

static int new_endpoint(struct haul_transfer *t, const struct hl_url *url,
                        struct hl_endpoint **out)
{
    const struct hl_driver *d = hl_registry_find(url->scheme);

    HL_ASSERT(d);
    return d->endpoint_new(&t->env, url, out, &t->error);
}

static int new_target(struct haul_transfer *t, struct hl_endpoint **out)
{
    int rc = new_endpoint(t, &t->target, out);

    if (rc == 0 || t->kind != HL_TRANSFER_REMOVE || !t->forget)
        return rc;
    /* The state goes, whatever the target wants to be asked with. */
    hl_lib_warn(t, &t->error);
    hl_err_clear(&t->error);
    *out = NULL;
    return 0;
}

static int make_endpoints(struct haul_transfer *t, struct hl_transfer_config *c)
{
    int rc = 0;

    if (t->has_source)
        rc = new_endpoint(t, &t->source, &c->source);
    else if (t->read_fn)
        rc = hl_callback_source_new(&t->env, t->callback_source, t->read_size,
                                    t->read_fn, t->read_user, &c->source,
                                    &t->error);
    else if (t->kind == HL_TRANSFER_COPY)
        rc = hl_err(&t->error, HAUL_E_INVAL, 0, "there is no source");
    if (rc)
        return rc;
    if (t->has_target)
        rc = new_target(t, &c->target);
    else if (t->write_fn)
        rc = hl_callback_target_new(&t->env, t->callback_target, t->write_fn,
                                    t->write_user, &c->target, &t->error);
    else if (t->kind == HL_TRANSFER_COPY)
        rc = hl_err(&t->error, HAUL_E_INVAL, 0, "there is no target");
    return rc;
}

static int configure(struct haul_transfer *t, struct hl_transfer_config *c)
{
    bool none = !strcmp(hl_opts_str(t->opts, HAUL_OPT_VERIFY), "none");

    hl_lib_env(t);
    c->kind = t->kind;
    c->item_count = 1;
    c->opts = t->opts;
    c->identity = hl_digest_find("xxh128");
    c->digest =
        none ? NULL : hl_digest_find(hl_opts_str(t->opts, HAUL_OPT_DIGEST));
    c->find_digest = hl_digest_find_offered;
    c->remove_id = t->remove_id;
    c->forget = t->forget;
    c->events = &transfer_events;
    c->user = t;
    if (t->kind == HL_TRANSFER_CHECK) {
        c->digest = t->manifest.digest;
        c->expect = t->manifest.chunks;
        c->expect_size = t->manifest.size;
        c->expect_chunk_size = t->manifest.chunk_size;
    }
    return make_endpoints(t, c);
}

static void warn_of(struct haul_transfer *t, const char *what, const char *hint)
{
    struct hl_error w = {0};

    hl_err(&w, HAUL_E_AUTH, 0, "%s can be seen by others on this machine",
           what);
    hl_err_hint(&w, "%s", hint);
    hl_lib_warn(t, &w);
}

/* Is one of the headers, one a line, a credential? "@FILE" names a place. The
 * words are those of cli/wipe.c. */
static bool has_secret_header(const char *s)
{
    char name[64];

    for (; s && *s; s += *s == '\n') {
        snprintf(name, sizeof(name), "%.*s", (int)hl_min(strcspn(s, ":\n"), 63),
                 s);
        if (*s != '@' &&
            (hl_url_secret_name(name) || strcasestr(name, "cookie")))
            return true;
        s += strcspn(s, "\n");
    }
    return false;
}

static bool has_password(const char *proxy)
{
    const char *login = proxy ? strstr(proxy, "://") : NULL, *at;
    size_t len;

    login = login ? login + 3 : proxy;
    len = login ? strcspn(login, "/?") : 0;
    at = len ? memrchr(login, '@', len) : NULL;
    return at && memchr(login, ':', (size_t)(at - login));
}

static void warn_of_passwords(struct haul_transfer *t)
{
    if (t->source.password || t->target.password)
        warn_of(t, "the password in the URL",
                "Use a key, an agent or ~/.netrc, or let haul ask.");
    if (has_secret_header(hl_opts_str(t->opts, HAUL_OPT_HEADER)))
        warn_of(t, "the credential in --header",
                "Put the line into a file of your own: --header @FILE.");
    if (has_password(hl_opts_str(t->opts, HAUL_OPT_PROXY)))
        warn_of(t, "the password in --proxy",
                "Put the proxy into the variable https_proxy instead.");
    if (has_password(hl_opts_str(t->opts, HAUL_OPT_ENDPOINT)))
        warn_of(t, "the password in --endpoint",
                "Take it out; keys are given with --credentials.");
}

int haul_transfer_start(struct haul_transfer *t)
{
    struct hl_transfer_config c = {0};
    struct hl_item_config item;
    struct hl_transfer *inner = NULL;
    char *key = NULL;
    int rc;

    if (t->engine->in_callback)
        return HAUL_E_REENTER;
    if (t->started)
        return HAUL_E_STATE;
    hl_err_clear(&t->error);
    rc = hl_lib_engine(t->engine, &t->error);
    if (rc == 0)
        rc = make_names(t, &t->source_text, &t->target_text, &key);
    t->keeps_state = key || t->kind == HL_TRANSFER_REMOVE;
    if (rc == 0)
        rc = configure(t, &c);
    if (rc == 0) {
        item.source = t->source;
        item.target = t->target;
        c.items = &item;
        c.key = key;
        c.source_name = c.source_url = t->source_text;
        c.target_name = c.target_url = t->target_text;
        rc = hl_transfer_new(t->engine->e, &c, &inner, &t->error);
    } else {
        if (c.source)
            c.source->driver->endpoint_free(c.source);
        if (c.target)
            c.target->driver->endpoint_free(c.target);
    }
    hl_free(key);
    if (rc)
        return hl_err(&t->error, rc, 0, "%s", haul_err_text(rc));
    t->started = true;
    t->t = inner;
    if (t->cancel)
        hl_transfer_cancel(inner);
    warn_of_passwords(t);
    hl_transfer_start(inner);
    return 0;
}

void haul_transfer_cancel(struct haul_transfer *t)
{
    struct hl_transfer *inner;

    t->cancel = true;
    inner = t->t;
    if (inner)
        hl_transfer_cancel(inner);
}

/* ---- What happened ------------------------------------------------------ */

int haul_transfer_stats(struct haul_transfer *t, struct haul_stats *stats)
{
    uint32_t size = stats->size;

    if (size < sizeof(size))
        return HAUL_E_INVAL;
    if (t->t) {
        hl_transfer_stats(t->t, stats);
        return 0;
    }
    memset(stats, 0, hl_min(size, sizeof(*stats)));
    stats->size = size;
    return 0;
}

int haul_transfer_error(struct haul_transfer *t, struct haul_error *error)
{
    if (t->engine->in_callback)
        return HAUL_E_REENTER;
    return hl_lib_error(&t->error, error);
}

static char *digest_text(struct haul_transfer *t,
                         const struct hl_item_result *r)
{
    const struct hl_digest *d =
        hl_digest_find(hl_opts_str(t->opts, HAUL_OPT_DIGEST));
    char hex[2 * HL_DIGEST_MAX + 1];
    struct hl_manifest m = {0};
    uint8_t root[16];

    if (hl_transfer_saved_digest(t->t))
        return hl_strdup(hl_transfer_saved_digest(t->t));
    if (r->whole) {
        hl_hex(r->whole, d->size, hex);
        return hl_asprintf("%s:%s", d->name, hex);
    }
    if (!r->digests || r->size == HL_SIZE_UNKNOWN || !r->chunk_size)
        return NULL;
    describe(t, r, &m);
    hl_manifest_root(&m, root);
    hl_hex(root, sizeof(root), hex);
    return hl_asprintf("root:%s", hex);
}

static const char *make_note(struct haul_transfer *t,
                             const struct hl_item_result *r,
                             const struct haul_stats *s)
{
    if (r->already_there && !r->unverified_bytes)
        return "already there, verified";
    if (r->dry_run && s->resumed_bytes)
        snprintf(t->note, sizeof(t->note),
                 "dry run: would continue at %llu of %llu bytes",
                 (unsigned long long)s->resumed_bytes,
                 (unsigned long long)r->size);
    else if (r->dry_run)
        snprintf(t->note, sizeof(t->note), "dry run: would copy %llu bytes",
                 (unsigned long long)r->size);
    else if (r->unverified_bytes)
        snprintf(t->note, sizeof(t->note),
                 "the first %llu bytes were there before and are unverified",
                 (unsigned long long)r->unverified_bytes);
    else
        return NULL;
    return t->note;
}

static char *target_name(struct haul_transfer *t,
                         const struct hl_item_result *r)
{
    if (t->has_target && r->target && r->target->path)
        return canonical_name(r->target, true, NULL);
    return hl_strdup(t->target_text);
}

int haul_transfer_result(struct haul_transfer *t, struct haul_result *result)
{
    struct haul_result full = {0};
    struct haul_stats s = {.size = sizeof(s)};
    struct hl_item_result r = {0};
    uint32_t size = (uint32_t)hl_min(result->size, sizeof(full));
    char *target;
    bool all; /* were there before, or have been compared */

    if (result->size < sizeof(full.size) + sizeof(full.code))
        return HAUL_E_INVAL;
    if (t->engine->in_callback)
        return HAUL_E_REENTER;
    if (!t->t || !t->finished)
        return HAUL_E_STATE;
    haul_transfer_stats(t, &s);
    hl_transfer_item_result(t->t, 0, &r);
    hl_free(t->digest_text);
    t->digest_text = t->error.code ? NULL : digest_text(t, &r);
    target = target_name(t, &r);
    hl_free(t->target_text);
    t->target_text = target;
    full.size = size;
    full.code = t->error.code;
    full.source = t->source_text ? t->source_text : "";
    full.target = t->target_text ? t->target_text : "";
    full.digest = t->digest_text;
    full.verified = full.code ? "none" : r.verified;
    full.note = full.code ? NULL : make_note(t, &r, &s);
    full.bytes = r.size;
    all = !full.code && (t->kind == HL_TRANSFER_CHECK || r.already_there);
    full.acked_bytes = all ? r.size : s.acked_bytes;
    full.resumed_from = r.already_there ? r.size : s.resumed_bytes;
    full.resent_bytes = s.resent_bytes;
    full.sent_bytes = s.sent_bytes;
    full.elapsed_ns = s.elapsed_ns;
    full.durable = r.durable;
    if (r.answer) {
        full.answer_status = r.answer->status;
        full.answer = r.answer->body;
        full.answer_bytes = r.answer->body ? r.answer->body_len : 0;
        full.answer_location = r.answer->location;
    }
    hl_transfer_peaks(t->t, &full.connections, &full.streams, &full.limit);
    memcpy(result, &full, size);
    return 0;
}
