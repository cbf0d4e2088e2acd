/*
 * "mem" targets that tell what they have (tells=1), ask to keep notes of parts
 * (notes=1) and forget (forget=): mem.c says what the knobs do. What is to
 * outlive an object stands beside its buffer (hl_membuf_set_side()).
 *
 * Threads: what an object remembers is under a lock, since notes are the
 * engine thread's and bytes the worker's. Queues of writes that wait for a note
 * are the engine thread's.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"
#include "membuf.h"

/* As it stands beside the buffer, then the ranges, then the notes. */
struct side {
    uint64_t ranges, notes, asked, forgot;
};

/* Writes of a part whose note is being kept. */
struct note_wait {
    struct hl_node node;
    uint64_t part;
    struct hl_list writes; /* struct hl_op, node */
};

void hl_mem_memory_init(struct mem_memory *m)
{
    pthread_mutex_init(&m->lock, NULL);
    hl_ranges_init(&m->had);
}

void hl_mem_memory_fini(struct mem_memory *m)
{
    hl_ranges_fini(&m->had);
    hl_free(m->notes);
    pthread_mutex_destroy(&m->lock);
}

/* ---- Beside the buffer -------------------------------------------------- */

static int save_locked(struct mem_object *obj)
{
    struct mem_memory *m = &obj->memory;
    struct side s = {m->had.count, m->note_count, m->asked, m->forgot};
    size_t ranges = m->had.count * sizeof(m->had.r[0]);
    size_t notes = m->note_count * sizeof(m->notes[0]);
    uint8_t *data = hl_malloc(sizeof(s) + ranges + notes);
    int rc = HAUL_E_NOMEM;

    if (data) {
        memcpy(data, &s, sizeof(s));
        if (ranges)
            memcpy(data + sizeof(s), m->had.r, ranges);
        if (notes)
            memcpy(data + sizeof(s) + ranges, m->notes, notes);
        rc = hl_membuf_set_side(obj->work, data, sizeof(s) + ranges + notes);
    }
    hl_free(data);
    return rc;
}

static int load_notes(struct mem_memory *m, const uint8_t *data, size_t count)
{
    m->notes = hl_calloc(count ? count : 1, sizeof(m->notes[0]));
    if (!m->notes)
        return HAUL_E_NOMEM;
    memcpy(m->notes, data, count * sizeof(m->notes[0]));
    m->note_count = m->note_room = count;
    return 0;
}

static int load_locked(struct mem_object *obj)
{
    struct mem_memory *m = &obj->memory;
    size_t len = 0, at = sizeof(struct side);
    uint8_t *data = hl_membuf_side(obj->work, &len);
    struct side s = {0};
    struct hl_range r;
    int rc = 0;

    hl_ranges_clear(&m->had);
    hl_free(m->notes);
    m->notes = NULL;
    m->note_count = m->note_room = 0;
    if (data)
        memcpy(&s, data, sizeof(s));
    m->asked = s.asked;
    m->forgot = s.forgot;
    for (uint64_t i = 0; i < s.ranges && rc == 0; i++, at += sizeof(r)) {
        memcpy(&r, data + at, sizeof(r));
        rc = hl_ranges_add(&m->had, r.begin, r.end);
    }
    if (rc == 0 && s.notes)
        rc = load_notes(m, data + at, s.notes);
    HL_ASSERT(!data || at + s.notes * sizeof(m->notes[0]) == len);
    hl_free(data);
    return rc;
}

/* ---- Notes -------------------------------------------------------------- */

static struct mem_note *find_note(const struct mem_memory *m, uint64_t part)
{
    for (size_t i = 0; i < m->note_count; i++)
        if (m->notes[i].part == part)
            return &m->notes[i];
    return NULL;
}

static bool is_of(const struct mem_note *n, const char *text)
{
    return (n->saved[0] && !strcmp(n->saved, text)) ||
           (n->asked[0] && !strcmp(n->asked, text));
}

/* Every note that was kept must be there, and no other. Of one that was asked
 * for nobody knew whether it was kept before the process ended. */
static int check_notes(struct mem_object *obj, const struct hl_open *op,
                       struct hl_error *err)
{
    const struct mem_memory *m = &obj->memory;
    struct mem_note *n;
    size_t i, k;

    for (i = 0; i < op->note_count; i++) {
        n = find_note(m, op->notes[i].part);
        if (!n || !is_of(n, op->notes[i].text))
            return hl_err(err, HAUL_E_RESUME, 0,
                          "'%s' asked for another note of part %" PRIu64,
                          obj->name, op->notes[i].part);
        snprintf(n->saved, sizeof(n->saved), "%s", op->notes[i].text);
    }
    for (k = 0; k < m->note_count; k++) {
        n = &m->notes[k];
        for (i = 0; i < op->note_count && op->notes[i].part != n->part; i++)
            ;
        if (i == op->note_count && n->saved[0] && !n->gone)
            return hl_err(err, HAUL_E_RESUME, 0,
                          "'%s': the note of part %" PRIu64 " is missing",
                          obj->name, n->part);
    }
    return 0;
}

static struct mem_note *make_note_locked(struct mem_memory *m, uint64_t part)
{
    struct mem_note *n = find_note(m, part);

    if (!n && m->note_count == m->note_room) {
        size_t room = m->note_room ? 2 * m->note_room : 8;
        struct mem_note *notes = hl_realloc(m->notes, room * sizeof(*notes));

        if (!notes)
            return NULL;
        m->notes = notes;
        m->note_room = room;
    }
    if (!n) {
        n = &m->notes[m->note_count++];
        memset(n, 0, sizeof(*n));
        n->part = part;
    }
    snprintf(n->asked, sizeof(n->asked), "note %" PRIu64 " of %" PRIu64,
             ++m->asked, part);
    return n;
}

static struct note_wait *find_wait(const struct mem_object *obj, uint64_t part)
{
    for (struct hl_node *n = hl_list_first(&obj->note_waits); n;
         n = hl_list_next(&obj->note_waits, n)) {
        struct note_wait *w = HL_CONTAINER(n, struct note_wait, node);

        if (w->part == part)
            return w;
    }
    return NULL;
}

/* Asks for the note of a part. NULL: out of memory. */
static struct note_wait *ask(struct mem_object *obj, uint64_t part)
{
    struct note_wait *w = hl_malloc(sizeof(*w));
    struct mem_note *n = NULL;

    if (w) {
        pthread_mutex_lock(&obj->memory.lock);
        n = make_note_locked(&obj->memory, part);
        if (n && save_locked(obj))
            n = NULL;
        if (n)
            hl_object_note(&obj->base, part, n->asked);
        pthread_mutex_unlock(&obj->memory.lock);
    }
    if (!n) {
        hl_free(w);
        return NULL;
    }
    w->part = part;
    hl_list_init(&w->writes);
    hl_list_append(&obj->note_waits, &w->node);
    return w;
}

enum mem_hold hl_mem_note_hold(struct mem_object *obj, struct hl_io *io)
{
    uint64_t part = obj->cut.size ? io->part : 0;
    const struct mem_note *n;
    struct note_wait *w;
    bool kept;

    if (!obj->knobs.notes || !hl_mem_keeps(obj))
        return MEM_GO;
    pthread_mutex_lock(&obj->memory.lock);
    n = find_note(&obj->memory, part);
    kept = n && n->saved[0] && !n->gone;
    pthread_mutex_unlock(&obj->memory.lock);
    w = find_wait(obj, part);
    if (!w && kept)
        return MEM_GO;
    if (!w)
        w = ask(obj, part);
    if (!w)
        return MEM_NO_MEMORY;
    hl_list_append(&w->writes, &io->op.node);
    return MEM_HELD;
}

int hl_mem_note_kept(struct mem_object *obj, uint64_t part, int rc,
                     struct hl_list *writes)
{
    struct note_wait *w = find_wait(obj, part);
    struct mem_note *n;
    struct hl_node *at;

    if (!w)
        return rc;
    pthread_mutex_lock(&obj->memory.lock);
    n = find_note(&obj->memory, part);
    if (n && rc == 0) {
        memcpy(n->saved, n->asked, sizeof(n->saved));
        n->gone = false;
        rc = save_locked(obj);
    }
    pthread_mutex_unlock(&obj->memory.lock);
    while ((at = hl_list_pop(&w->writes)))
        hl_list_append(writes, at);
    hl_list_remove(&w->node);
    hl_free(w);
    return rc;
}

void hl_mem_notes_drop(struct mem_object *obj, struct hl_list *writes)
{
    struct hl_node *n, *at;

    while ((n = hl_list_pop(&obj->note_waits))) {
        struct note_wait *w = HL_CONTAINER(n, struct note_wait, node);

        while ((at = hl_list_pop(&w->writes)))
            hl_list_append(writes, at);
        hl_free(w);
    }
}

/* ---- Open --------------------------------------------------------------- */

static int tell_locked(const struct mem_object *obj, struct hl_open *op)
{
    const struct hl_ranges *had = &obj->memory.had;
    struct hl_range r = {0, 0};
    int rc = 0;

    if (!op->resume || !op->confirmed)
        return 0;
    while (rc == 0 && hl_ranges_next(had, r.end, &r))
        rc = hl_ranges_add(op->confirmed, r.begin, r.end);
    if (rc == 0 && obj->knobs.claim)
        rc = hl_ranges_add(op->confirmed, r.end, r.end + obj->knobs.claim);
    return rc;
}

int hl_mem_tells_open(struct mem_object *obj, struct hl_open *op, bool fresh)
{
    struct mem_memory *m = &obj->memory;
    int rc = 0;

    if (!hl_mem_keeps(obj) || (!obj->knobs.tells && !obj->knobs.notes))
        return 0;
    pthread_mutex_lock(&m->lock);
    rc = load_locked(obj);
    /* What stood there before it was appended to. */
    if (rc == 0 && op->append && !fresh)
        rc = hl_ranges_add(&m->had, 0, op->layout.existing);
    if (rc == 0 && op->resume && !fresh && obj->knobs.notes)
        rc = check_notes(obj, op, &op->op.error);
    if (rc == 0 && obj->knobs.tells && !fresh)
        rc = tell_locked(obj, op);
    if (rc == 0)
        rc = save_locked(obj);
    pthread_mutex_unlock(&m->lock);
    if (obj->knobs.tells)
        op->layout.caps |= HL_CAP_TELLS;
    return rc ? hl_err(&op->op.error, rc, 0, "%s", haul_err_text(rc)) : 0;
}

/* ---- Bytes -------------------------------------------------------------- */

uint32_t hl_mem_tells_had(struct mem_object *obj, uint64_t offset, uint32_t len)
{
    struct hl_range r;
    uint32_t n = 0;

    if (!obj->knobs.tells || !hl_mem_keeps(obj))
        return 0;
    pthread_mutex_lock(&obj->memory.lock);
    if (hl_ranges_next(&obj->memory.had, offset, &r) && r.begin == offset)
        n = (uint32_t)hl_min(len, r.end - offset);
    pthread_mutex_unlock(&obj->memory.lock);
    return n;
}

int hl_mem_tells_got(struct mem_object *obj, uint64_t begin, uint64_t end)
{
    int rc;

    if (!obj->knobs.tells || !hl_mem_keeps(obj))
        return 0;
    pthread_mutex_lock(&obj->memory.lock);
    rc = hl_ranges_add(&obj->memory.had, begin, end);
    if (rc == 0)
        rc = save_locked(obj);
    pthread_mutex_unlock(&obj->memory.lock);
    return rc;
}

void hl_mem_tells_cut(struct mem_object *obj, uint64_t size)
{
    if (!obj->knobs.tells || !hl_mem_keeps(obj))
        return;
    pthread_mutex_lock(&obj->memory.lock);
    hl_ranges_remove(&obj->memory.had, size, UINT64_MAX); /* from the end */
    save_locked(obj);
    pthread_mutex_unlock(&obj->memory.lock);
}

int hl_mem_tells_commit(struct mem_object *obj, uint64_t size,
                        struct hl_error *err)
{
    struct hl_range hole;

    if (obj->knobs.tells &&
        hl_ranges_next_hole(&obj->memory.had, 0, size, &hole))
        return hl_err(err, HAUL_E_DIGEST, 0,
                      "'%s' never got bytes %" PRIu64 " to %" PRIu64, obj->name,
                      hole.begin, hole.end);
    return hl_membuf_set_side(obj->work, NULL, 0);
}

/* ---- Forgetting --------------------------------------------------------- */

/* Where the latter half of what it has begins; with parts that are confirmed as
 * a whole, a part. */
static uint64_t half_of(const struct mem_object *obj)
{
    const struct hl_ranges *had = &obj->memory.had;
    uint64_t left = had->bytes / 2;
    struct hl_range r = {0, 0};

    while (hl_ranges_next(had, r.end, &r) && r.end - r.begin < left)
        left -= r.end - r.begin;
    r.begin += left;
    if (hl_mem_is_late(obj) && obj->cut.size)
        return hl_parts_begin(&obj->cut, hl_parts_index(&obj->cut, r.begin));
    return r.begin;
}

static void forget_locked(struct mem_object *obj)
{
    static const uint8_t zeros[4096];
    struct mem_memory *m = &obj->memory;
    uint64_t half = half_of(obj), at = half;
    struct hl_range r;

    while (hl_ranges_next(&m->had, at, &r))
        for (at = r.begin; at < r.end; at += hl_min(4096, r.end - at))
            hl_membuf_write(obj->work, at, zeros,
                            (size_t)hl_min(4096, r.end - at), UINT64_MAX, NULL);
    hl_ranges_remove(&m->had, half, UINT64_MAX); /* from the end */
    for (size_t i = 0; i < m->note_count; i++)
        if (!obj->cut.size ||
            hl_parts_begin(&obj->cut, m->notes[i].part) >= half)
            m->notes[i].gone = true;
    m->forgot = true;
    save_locked(obj);
}

bool hl_mem_tells_forget(struct mem_object *obj, uint32_t len)
{
    bool forgets;

    if (!obj->knobs.forget || !obj->knobs.tells || !hl_mem_keeps(obj))
        return false;
    pthread_mutex_lock(&obj->memory.lock);
    obj->memory.written += len;
    forgets = !obj->memory.forgot && obj->memory.written >= obj->knobs.forget;
    if (forgets)
        forget_locked(obj);
    pthread_mutex_unlock(&obj->memory.lock);
    return forgets;
}
