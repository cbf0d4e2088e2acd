/*
 * Engine and transfers: who runs, what is known about the whole, the end.
 * Engine thread, except hl_transfer_cancel() and hl_transfer_stats().
 */
#include "transfer.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "item.h"

/* Items of one transfer that are open at once. */
#define ITEMS_OPEN_MAX 16u
#define TICK_NS (100 * HL_NS_PER_MS)
#define SAMPLE_NS (500 * HL_NS_PER_MS)
/* DESIGN 4.10 */
#define MEMORY_START (UINT64_C(64) << 20)
#define MEMORY_MAX (UINT64_C(512) << 20)
#define LIBRARY_MIN (UINT64_C(1) << 20)
/* A first connection that fails is worth a second and a third look (sshd's
 * MaxStartups drops at random), not an evening. */
#define FIRST_TRIES 3u

/* ---- Engine ------------------------------------------------------------- */

static uint64_t physical_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGE_SIZE);

    if (pages <= 0 || size <= 0)
        return MEMORY_MAX * 16;
    return (uint64_t)pages * (uint64_t)size;
}

static uint64_t memory_max(void)
{
    return hl_max(hl_min(MEMORY_MAX, physical_memory() / 16), MEMORY_START / 2);
}

uint64_t hl_engine_library_bytes(const struct hl_engine *e)
{
    uint64_t memory = e->memory ? e->memory : memory_max();

    return hl_max(memory / 8, LIBRARY_MIN);
}

void hl_engine_set_memory(struct hl_engine *e, uint64_t bytes)
{
    e->memory = bytes;
    if (bytes)
        hl_pool_set_limit(e->pool, bytes - hl_engine_library_bytes(e));
    else
        hl_pool_set_limit(e->pool, hl_min(MEMORY_START, memory_max()));
}

int hl_engine_new(const struct hl_engine_config *config, struct hl_engine **out,
                  struct hl_error *err)
{
    struct hl_engine *e = hl_malloc(sizeof(*e));
    int rc;

    if (!e)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    e->log = config->log;
    e->random.state = config->seed;
    e->worker_count = config->workers;
    hl_list_init(&e->transfers);
    rc = hl_loop_new(config->virtual_time, &e->loop, err);
    if (rc == 0)
        rc = hl_pool_new(hl_min(MEMORY_START, memory_max()), &e->pool);
    if (rc == 0)
        rc = hl_workers_new(e->loop, config->workers, &e->workers, err);
    if (rc) {
        hl_engine_free(e);
        return hl_err(err, rc, 0, "%s", haul_err_text(rc));
    }
    *out = e;
    return 0;
}

void hl_engine_free(struct hl_engine *e)
{
    if (!e)
        return;
    HL_ASSERT(hl_list_empty(&e->transfers));
    hl_workers_free(e->workers);
    hl_store_close(e->store);
    if (e->pool)
        hl_pool_free(e->pool);
    if (e->loop)
        hl_loop_free(e->loop);
    hl_free(e->store_path);
    hl_free(e);
}

struct hl_loop *hl_engine_loop(struct hl_engine *e)
{
    return e->loop;
}

int hl_engine_set_store_path(struct hl_engine *e, const char *path)
{
    char *copy = hl_strdup(path);

    if (path && !copy)
        return HAUL_E_NOMEM;
    hl_free(e->store_path);
    e->store_path = copy;
    return 0;
}

int hl_engine_store(struct hl_engine *e, struct hl_store **out,
                    struct hl_error *err)
{
    int rc = 0;

    if (!e->store)
        rc = hl_store_open(e->store_path, e->log, &e->store, err);
    *out = e->store;
    return rc;
}

static void honour_cancels(struct hl_engine *e)
{
    struct hl_node *n, *next;

    for (n = hl_list_first(&e->transfers); n; n = next) {
        struct hl_transfer *t = HL_CONTAINER(n, struct hl_transfer, node);

        next = hl_list_next(&e->transfers, n);
        if (!atomic_load(&t->cancel) || t->ending)
            continue;
        t->ending = true;
        t->code = HAUL_E_CANCELED;
        for (uint32_t i = 0; i < t->next_item; i++)
            hl_item_stop(&t->items[i], HAUL_E_CANCELED, NULL);
    }
}

int hl_engine_step(struct hl_engine *e, int timeout_ms)
{
    if (hl_list_empty(&e->transfers))
        return 0;
    honour_cancels(e);
    hl_loop_step(e->loop, timeout_ms);
    honour_cancels(e);
    return !hl_list_empty(&e->transfers);
}

/* ---- What is saved ------------------------------------------------------ */

/* The key's own lock number: two runs may both find nothing saved yet. FNV-1a
 * (Fowler, Noll, Vo), with a bit that no row's id has. */
static int64_t key_lock(const char *key)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (; *key; key++)
        h = (h ^ (uint8_t)*key) * UINT64_C(0x100000001b3);
    return (int64_t)((h >> 2) | (UINT64_C(1) << 61));
}

static int lock_saved(struct hl_transfer *t, int64_t id, struct hl_error *err)
{
    int rc = hl_store_lock(t->store, id, err);

    if (rc == HAUL_E_BUSY) {
        hl_err_clear(err);
        hl_err(err, rc, 0, "another haul is copying '%s' to '%s'",
               t->source_name, t->target_name);
        hl_err_hint(err, "Wait for it, or see haul jobs list.");
    }
    return rc;
}

static int find_saved(struct hl_transfer *t, struct hl_error *err)
{
    int rc;

    if (!t->c.key && t->c.kind != HL_TRANSFER_REMOVE)
        return 0;
    rc = hl_engine_store(t->e, &t->store, err);
    if (rc)
        return rc;
    if (t->c.kind == HL_TRANSFER_REMOVE) {
        rc = lock_saved(t, t->c.remove_id, err);
        t->locked = rc == 0;
        return rc;
    }
    rc = lock_saved(t, key_lock(t->key), err);
    if (rc)
        return rc;
    t->locked = true;
    rc = hl_store_find(t->store, t->key, &t->found, &t->saved, err);
    if (rc || !t->found)
        return rc;
    t->was_done = t->saved.state == HL_SAVED_DONE;
    rc = lock_saved(t, t->saved.id, err);
    t->created = rc == 0;
    return rc;
}

int hl_transfer_create_saved(struct hl_transfer *t, struct hl_error *err)
{
    int rc;

    if (!t->store || t->created)
        return 0;
    hl_saved_fini(&t->saved);
    memset(&t->saved, 0, sizeof(t->saved));
    t->saved.source = hl_strdup(t->source_name);
    t->saved.target = hl_strdup(t->target_name);
    t->saved.source_url = hl_strdup(t->save_source);
    t->saved.target_url = hl_strdup(t->save_target);
    if (!t->saved.source || !t->saved.target || !t->saved.source_url ||
        !t->saved.target_url)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    rc = hl_store_create(t->store, t->key, &t->saved, err);
    if (rc == 0)
        rc = lock_saved(t, t->saved.id, err);
    t->created = rc == 0;
    return rc;
}

int hl_transfer_forget_saved(struct hl_transfer *t, struct hl_error *err)
{
    int rc;

    if (!t->store || !t->created)
        return 0;
    rc = hl_store_forget(t->store, t->saved.id, err);
    hl_store_unlock(t->store, t->saved.id);
    t->created = t->found = t->was_done = false;
    return rc;
}

static void unlock_saved(struct hl_transfer *t)
{
    if (t->created)
        hl_store_unlock(t->store, t->saved.id);
    if (t->locked)
        hl_store_unlock(t->store, t->key ? key_lock(t->key) : t->c.remove_id);
    t->created = t->locked = false;
}

/* ---- The end ------------------------------------------------------------ */

static char *saved_digest(struct hl_transfer *t)
{
    const struct hl_item *it = &t->items[0];
    char hex[2 * HL_DIGEST_MAX + 1] = "";

    if (t->c.item_count != 1 || !it->has_whole || !t->c.digest)
        return NULL;
    hl_hex(it->whole, t->c.digest->size, hex);
    return hl_asprintf("%s:%s", t->c.digest->name, hex);
}

/* All items are committed: note it. */
static int conclude(struct hl_transfer *t, struct hl_error *err)
{
    struct hl_error warning = {0};
    char *digest;
    int rc = 0;

    if (t->c.kind == HL_TRANSFER_REMOVE)
        return hl_store_forget(t->store, t->c.remove_id, err);
    if (t->c.events->end)
        rc = t->c.events->end(t->c.user, err);
    if (!t->created || t->was_done || t->items[0].dry_run)
        return rc;
    /* The copy is whole and in its place, whatever became of the hook; if
     * only the note of it fails, that is no failure. */
    if (!(t->items[0].source_caps & HL_CAP_SEEK)) {
        /* A pipe cannot be copied again: nothing to recognise later. */
        if (hl_transfer_forget_saved(t, &warning))
            hl_transfer_warn(t, &warning);
        return rc;
    }
    digest = saved_digest(t);
    if (hl_store_done(t->store, t->saved.id, digest, &warning))
        hl_transfer_warn(t, &warning);
    hl_free(digest);
    return rc;
}

static void refresh(struct hl_transfer *t, uint64_t now);

/* A cancel that came when everything was committed came too late. */
static bool all_done(const struct hl_transfer *t)
{
    for (uint32_t i = 0; i < t->c.item_count; i++)
        if (t->items[i].step != HL_ITEM_DONE)
            return false;
    return true;
}

/* Nothing at the target has a name that another run could use. */
static bool leaves_nothing(const struct hl_transfer *t)
{
    for (uint32_t i = 0; i < t->c.item_count; i++)
        if (!t->items[i].begun || t->items[i].token)
            return false;
    return t->c.kind == HL_TRANSFER_COPY;
}

static void finish(struct hl_transfer *t)
{
    struct hl_error ignored = {0};

    hl_timer_cancel(&t->timer);
    if (t->code == HAUL_E_CANCELED && all_done(t)) {
        t->code = 0;
        hl_err_clear(&t->error);
    }
    if (!t->code)
        t->code = conclude(t, &t->error);
    if (t->code && !t->error.code)
        hl_err(&t->error, t->code, 0, "%s", haul_err_text(t->code));
    if (t->created && t->code && leaves_nothing(t))
        hl_transfer_forget_saved(t, &ignored);
    if (t->created && t->code)
        hl_store_set_error(t->store, t->saved.id, t->error.message, &ignored);
    unlock_saved(t);
    t->end_ns = hl_loop_now(t->e->loop);
    refresh(t, t->end_ns);
    hl_transfer_set_state(t, t->code ? HAUL_STATE_FAILED : HAUL_STATE_DONE);
    hl_list_remove(&t->node);
    t->finished = true;
    t->c.events->finished(t->c.user, t->code, &t->error);
}

/* Starts what may start, or ends the transfer when nothing is left. */
static void advance(struct hl_task *task)
{
    struct hl_transfer *t = HL_CONTAINER(task, struct hl_transfer, task);

    t->posted = false;
    while (!t->ending && t->next_item < t->c.item_count &&
           t->running < ITEMS_OPEN_MAX) {
        t->running++;
        hl_item_start(&t->items[t->next_item++]);
    }
    if (t->running == 0 && !t->posted)
        finish(t);
}

static void post_advance(struct hl_transfer *t)
{
    if (t->posted)
        return;
    t->posted = true;
    t->task.fn = advance;
    hl_loop_post(t->e->loop, &t->task);
}

void hl_transfer_item_finished(struct hl_item *it)
{
    struct hl_transfer *t = it->t;

    t->running--;
    post_advance(t);
    if (!it->code || t->code)
        return;
    t->code = it->code;
    t->error = it->error;
    t->ending = true;
    for (uint32_t i = 0; i < t->next_item; i++)
        hl_item_stop(&t->items[i], HAUL_E_CANCELED, NULL);
}

/* ---- What the user sees ------------------------------------------------- */

void hl_transfer_set_state(struct hl_transfer *t, uint32_t state)
{
    if (atomic_exchange(&t->state, state) == state)
        return;
    pthread_mutex_lock(&t->lock);
    t->snapshot.state = state;
    pthread_mutex_unlock(&t->lock);
    t->c.events->state(t->c.user);
}

void hl_transfer_warn(struct hl_transfer *t, const struct hl_error *error)
{
    t->c.events->warning(t->c.user, error);
}

static void sum_items(const struct hl_transfer *t, struct hl_mover_stats *out,
                      uint64_t *resumed)
{
    memset(out, 0, sizeof(*out));
    *resumed = 0;
    for (uint32_t i = 0; i < t->c.item_count; i++) {
        struct hl_mover_stats s;

        hl_item_stats(&t->items[i], &s);
        if (t->items[i].step == HL_ITEM_NEW ||
            (t->items[i].step == HL_ITEM_OPENING && s.size == 0))
            s.size = HL_SIZE_UNKNOWN;
        if (s.size == HL_SIZE_UNKNOWN || out->size == HL_SIZE_UNKNOWN)
            out->size = HL_SIZE_UNKNOWN;
        else
            out->size += s.size;
        out->read_bytes += s.read_bytes;
        out->sent_bytes += s.sent_bytes;
        out->acked_bytes += s.acked_bytes;
        out->resent_bytes += s.resent_bytes;
        out->retries += s.retries;
        out->rate_wait_ns += s.rate_wait_ns;
        out->memory_wait_ns += s.memory_wait_ns;
        out->reading += s.reading;
        out->writing += s.writing;
        *resumed += t->items[i].resumed_bytes;
    }
}

static void get_flow(struct hl_endpoint *ep, struct hl_flow *out)
{
    memset(out, 0, sizeof(*out));
    if (ep && ep->driver->flow)
        ep->driver->flow(ep, out);
}

static void subtract_flow(struct hl_flow *d, const struct hl_flow *now,
                          const struct hl_flow *before)
{
    *d = *now;
    d->starved_ns -= before->starved_ns;
    d->window_ns -= before->window_ns;
    d->link_ns -= before->link_ns;
    d->cpu_ns -= before->cpu_ns;
}

static void sample_limit(struct hl_transfer *t, uint64_t now,
                         const struct hl_mover_stats *sum,
                         const struct hl_flow *source,
                         const struct hl_flow *target)
{
    struct hl_limit_sample s = {.interval_ns = now - t->sampled_ns};
    uint64_t cpu = hl_workers_busy_ns(t->e->workers);

    if (s.interval_ns < SAMPLE_NS)
        return;
    s.rate_wait_ns = sum->rate_wait_ns - t->sampled.rate_wait_ns;
    s.memory_wait_ns = sum->memory_wait_ns - t->sampled.memory_wait_ns;
    s.source_flows = source->connections > 0;
    s.target_flows = target->connections > 0;
    subtract_flow(&s.source, source, &t->sampled_source);
    subtract_flow(&s.target, target, &t->sampled_target);
    s.reading = sum->reading;
    s.writing = sum->writing;
    s.cpu_ns = cpu - t->sampled_cpu_ns;
    s.workers = t->e->worker_count;
    t->limit = hl_limit(&s);
    t->limit_ns[t->limit] += s.interval_ns;
    t->sampled = *sum;
    t->sampled_source = *source;
    t->sampled_target = *target;
    t->sampled_cpu_ns = cpu;
    t->sampled_ns = now;
}

uint64_t hl_transfer_room_max(const struct hl_transfer *t)
{
    return t->e->memory ? hl_pool_limit(t->e->pool)
                        : hl_max(hl_pool_limit(t->e->pool), memory_max());
}

bool hl_transfer_room(struct hl_transfer *t, uint64_t bytes)
{
    struct hl_pool *pool = t->e->pool;

    if (!t->e->memory && bytes > hl_pool_limit(pool))
        hl_pool_set_limit(pool, hl_min(bytes, memory_max()));
    return bytes <= hl_pool_limit(pool);
}

/* DESIGN 4.10: twice the measured rate x round trip, and room for the runs of
 * the sources. */
static void size_memory(struct hl_transfer *t, uint64_t rate, uint64_t rtt_ns)
{
    uint64_t want, runs = 0;

    if (t->e->memory)
        return;
    for (uint32_t i = 0; i < t->c.item_count; i++)
        if (t->items[i].mover)
            runs += hl_mover_run_memory(t->items[i].mover);
    want = (uint64_t)(2.0 * (double)rate * (double)rtt_ns / 1e9);
    want = hl_max(want, runs);
    want = hl_min(hl_max(want, MEMORY_START), memory_max());
    if (want > hl_pool_limit(t->e->pool))
        hl_pool_set_limit(t->e->pool, want);
}

/* Is something moving that confirms everything at its end? */
static bool is_late(const struct hl_transfer *t)
{
    for (uint32_t i = 0; i < t->c.item_count; i++)
        if (t->items[i].step == HL_ITEM_MOVING && hl_item_is_late(&t->items[i]))
            return true;
    return false;
}

static void refresh(struct hl_transfer *t, uint64_t now)
{
    struct hl_mover_stats sum;
    struct hl_flow source, target;
    struct haul_stats *s = &t->snapshot;
    uint64_t resumed, rate, progress;

    sum_items(t, &sum, &resumed);
    get_flow(t->c.source, &source);
    get_flow(t->c.target, &target);
    t->late = is_late(t);
    progress = t->late ? sum.sent_bytes
                       : sum.acked_bytes - hl_min(resumed, sum.acked_bytes);
    if (progress > t->metered) {
        hl_meter_add(&t->meter, progress - t->metered, now);
        t->metered = progress;
    }
    rate = hl_meter_rate(&t->meter, now);
    sample_limit(t, now, &sum, &source, &target);
    size_memory(t, rate, hl_max(source.rtt_ns, target.rtt_ns));
    pthread_mutex_lock(&t->lock);
    s->bytes = sum.size;
    s->read_bytes = sum.read_bytes;
    s->sent_bytes = sum.sent_bytes;
    s->acked_bytes = sum.acked_bytes;
    s->resumed_bytes = resumed;
    s->resent_bytes = sum.resent_bytes;
    s->elapsed_ns = (t->end_ns ? t->end_ns : now) - t->start_ns;
    s->rate = rate;
    s->rtt_ns = hl_max(source.rtt_ns, target.rtt_ns);
    s->memory_bytes = hl_pool_held(t->e->pool);
    s->limit = t->limit;
    s->connections = source.connections + target.connections;
    s->streams = source.streams + target.streams;
    s->retries = sum.retries;
    s->late = t->late;
    s->resumable = t->c.item_count == 1 && hl_item_can_continue(&t->items[0]);
    if (s->connections > t->peak_connections)
        t->peak_connections = s->connections;
    if (s->streams > t->peak_streams)
        t->peak_streams = s->streams;
    pthread_mutex_unlock(&t->lock);
}

static void on_tick(struct hl_timer *timer)
{
    struct hl_transfer *t = HL_CONTAINER(timer, struct hl_transfer, timer);
    uint64_t now = hl_loop_now(t->e->loop);

    for (uint32_t i = 0; i < t->next_item; i++)
        hl_item_tick(&t->items[i], now);
    refresh(t, now);
    t->c.events->progress(t->c.user);
    hl_timer_set(t->e->loop, &t->timer, now + TICK_NS);
}

void hl_transfer_stats(struct hl_transfer *t, struct haul_stats *out)
{
    uint32_t size = (uint32_t)hl_min(out->size, sizeof(*out));

    pthread_mutex_lock(&t->lock);
    memcpy(out, &t->snapshot, size);
    pthread_mutex_unlock(&t->lock);
    out->size = size;
}

void hl_transfer_peaks(struct hl_transfer *t, uint32_t *connections,
                       uint32_t *streams, uint32_t *limit)
{
    uint64_t most = 0;

    *connections = t->peak_connections;
    *streams = t->peak_streams;
    *limit = t->limit;
    for (uint32_t i = 0; i < HL_LEN(t->limit_ns); i++)
        if (t->limit_ns[i] > most) {
            most = t->limit_ns[i];
            *limit = i;
        }
}

void hl_transfer_item_result(struct hl_transfer *t, uint32_t index,
                             struct hl_item_result *out)
{
    const struct hl_item *it = &t->items[index];
    /* Was what --resume append took over read after all? */
    bool read = it->readback_done || it->has_whole;

    memset(out, 0, sizeof(*out));
    out->size = it->size;
    out->chunk_size = it->chunk_size;
    out->digests =
        t->c.digest && (read || !it->append_at) && it->step == HL_ITEM_DONE
            ? it->digests
            : NULL;
    out->whole = it->has_whole ? it->whole : NULL;
    out->target = &it->target_url;
    out->durable = it->durable;
    out->already_there = it->already_there;
    out->dry_run = it->dry_run;
    out->unverified_bytes =
        it->readback_done || it->remote_checked || it->offered_checked
            ? 0
            : it->append_at;
    if (it->target && it->target->driver->answer)
        out->answer = it->target->driver->answer(it->target);
    out->bad_chunks = it->bad_chunks;
    out->bad_offset = it->bad_offset;
    if (!t->c.digest)
        out->verified = "none";
    else if (it->readback_done || t->c.kind == HL_TRANSFER_CHECK)
        out->verified = "readback";
    else if (it->remote_checked || it->offered_checked)
        out->verified = "remote";
    else
        out->verified = it->size_checked || it->already_there ? "size" : "ack";
}

const char *hl_transfer_saved_digest(struct hl_transfer *t)
{
    return t->was_done ? t->saved.digest : NULL;
}

/* ---- Life --------------------------------------------------------------- */

static int copy_names(struct hl_transfer *t)
{
    const struct hl_transfer_config *c = &t->c;

    t->key = hl_strdup(c->key);
    t->source_name = hl_strdup(c->source_name ? c->source_name : "");
    t->target_name = hl_strdup(c->target_name ? c->target_name : "");
    t->save_source = hl_strdup(c->source_url ? c->source_url : "");
    t->save_target = hl_strdup(c->target_url ? c->target_url : "");
    return (c->key && !t->key) || !t->source_name || !t->target_name ||
                   !t->save_source || !t->save_target
               ? HAUL_E_NOMEM
               : 0;
}

static void free_endpoints(const struct hl_transfer_config *c)
{
    if (c->source)
        c->source->driver->endpoint_free(c->source);
    if (c->target && c->target != c->source)
        c->target->driver->endpoint_free(c->target);
}

static void read_options(struct hl_transfer *t)
{
    const struct hl_opts *o = t->c.opts;
    int64_t rate = hl_opts_i64(o, HAUL_OPT_RATE_LIMIT);
    uint64_t now = hl_loop_now(t->e->loop);

    t->policy.retries = (uint32_t)hl_opts_i64(o, HAUL_OPT_RETRIES);
    t->policy.first_tries = FIRST_TRIES;
    t->policy.give_up_ns =
        (uint64_t)hl_opts_i64(o, HAUL_OPT_GIVE_UP_AFTER) * HL_NS_PER_S;
    t->stall_ns =
        (uint64_t)hl_opts_i64(o, HAUL_OPT_STALL_TIMEOUT) * HL_NS_PER_S;
    hl_rate_init(&t->rate, rate > 0 ? (uint64_t)rate : 0, now);
    hl_meter_init(&t->meter, now);
}

int hl_transfer_new(struct hl_engine *e,
                    const struct hl_transfer_config *config,
                    struct hl_transfer **out, struct hl_error *err)
{
    struct hl_transfer *t = hl_malloc(sizeof(*t));
    int rc;

    if (!t) {
        free_endpoints(config);
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    }
    HL_ASSERT(!config->digest || config->digest->size <= HL_DIGEST_MAX);
    pthread_mutex_init(&t->lock, NULL);
    t->e = e;
    t->c = *config;
    t->timer.fn = on_tick;
    t->snapshot.bytes = HL_SIZE_UNKNOWN;
    t->items = hl_calloc(config->item_count, sizeof(*t->items));
    rc = t->items ? copy_names(t) : HAUL_E_NOMEM;
    for (uint32_t i = 0; i < config->item_count && rc == 0; i++)
        rc = hl_item_init(&t->items[i], t, i, &config->items[i], err);
    if (rc) {
        hl_transfer_free(t);
        return hl_err(err, rc, 0, "%s", haul_err_text(rc));
    }
    *out = t;
    return 0;
}

void hl_transfer_start(struct hl_transfer *t)
{
    HL_ASSERT(!t->started);
    t->started = true;
    t->start_ns = t->sampled_ns = hl_loop_now(t->e->loop);
    read_options(t);
    hl_list_append(&t->e->transfers, &t->node);
    hl_transfer_set_state(t, HAUL_STATE_OPENING);
    t->code = find_saved(t, &t->error);
    t->ending = t->code != 0;
    hl_timer_set(t->e->loop, &t->timer, t->start_ns);
    post_advance(t);
}

void hl_transfer_free(struct hl_transfer *t)
{
    if (!t)
        return;
    HL_ASSERT(!t->started || t->finished);
    for (uint32_t i = 0; t->items && i < t->c.item_count; i++)
        if (t->items[i].t)
            hl_item_fini(&t->items[i]);
    free_endpoints(&t->c);
    hl_saved_fini(&t->saved);
    hl_free(t->items);
    hl_free(t->key);
    hl_free(t->source_name);
    hl_free(t->target_name);
    hl_free(t->save_source);
    hl_free(t->save_target);
    pthread_mutex_destroy(&t->lock);
    hl_free(t);
}

void hl_transfer_cancel(struct hl_transfer *t)
{
    atomic_store(&t->cancel, true);
    hl_loop_wake(t->e->loop);
}
