/* See membuf.h. Names are looked up each time: there are few. */
#include "membuf.h"

#include <pthread.h>
#include <string.h>

#include "list.h"

struct membuf {
    struct hl_node node;
    char *name;
    uint8_t *data;
    uint64_t capacity;
    struct hl_membuf_stat stat;
    void *side;
    size_t side_len;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct hl_list bufs; /* under lock, as the next */
static int64_t changes;     /* stands in for a clock in mtime_ns */

static struct membuf *find_locked(const char *name)
{
    struct hl_node *n;

    if (!bufs.head.next)
        hl_list_init(&bufs);
    for (n = hl_list_first(&bufs); n; n = hl_list_next(&bufs, n)) {
        struct membuf *b = HL_CONTAINER(n, struct membuf, node);

        if (!strcmp(b->name, name))
            return b;
    }
    return NULL;
}

static struct membuf *need_locked(const char *name, struct hl_error *err)
{
    struct membuf *b = find_locked(name);

    if (!b)
        hl_err(err, HAUL_E_READ, 0, "buffer '%s' does not exist", name);
    return b;
}

static void free_locked(struct membuf *b)
{
    hl_list_remove(&b->node);
    hl_free(b->name);
    hl_free(b->data);
    hl_free(b->side);
    hl_free(b);
}

int hl_membuf_create(const char *name, uint32_t mode, struct hl_error *err)
{
    struct membuf *b, *old;

    b = hl_malloc(sizeof(*b));
    if (b)
        b->name = hl_strdup(name);
    if (!b || !b->name) {
        hl_free(b);
        return hl_err(err, HAUL_E_NOMEM, 0, "cannot create '%s'", name);
    }
    b->stat.mode = mode;
    pthread_mutex_lock(&lock);
    old = find_locked(name);
    if (old)
        free_locked(old);
    b->stat.mtime_ns = ++changes;
    hl_list_append(&bufs, &b->node);
    pthread_mutex_unlock(&lock);
    return 0;
}

bool hl_membuf_stat(const char *name, struct hl_membuf_stat *out)
{
    struct hl_membuf_stat none = {0};
    struct membuf *b;

    pthread_mutex_lock(&lock);
    b = find_locked(name);
    if (out)
        *out = b ? b->stat : none;
    pthread_mutex_unlock(&lock);
    return b != NULL;
}

int64_t hl_membuf_read(const char *name, uint64_t offset, uint8_t *data,
                       size_t len, struct hl_error *err)
{
    struct membuf *b;
    int64_t got = HAUL_E_READ;

    pthread_mutex_lock(&lock);
    b = need_locked(name, err);
    if (b) {
        got = 0;
        if (offset < b->stat.size)
            got = (int64_t)hl_min(len, b->stat.size - offset);
        if (got)
            memcpy(data, b->data + offset, (size_t)got);
    }
    pthread_mutex_unlock(&lock);
    return got;
}

static int resize_locked(struct membuf *b, uint64_t size, struct hl_error *err)
{
    uint64_t capacity = hl_max(size, 2 * b->capacity);
    uint8_t *data;

    if (size > b->capacity) {
        data = hl_realloc(b->data, capacity);
        if (!data)
            return hl_err(err, HAUL_E_NOMEM, 0, "cannot grow '%s'", b->name);
        b->data = data;
        b->capacity = capacity;
    }
    if (size > b->stat.size)
        memset(b->data + b->stat.size, 0, size - b->stat.size);
    b->stat.size = size;
    b->stat.mtime_ns = ++changes;
    return 0;
}

int hl_membuf_write(const char *name, uint64_t offset, const uint8_t *data,
                    size_t len, uint64_t size_max, struct hl_error *err)
{
    struct membuf *b;
    int rc = 0;

    if (offset > size_max || len > size_max - offset)
        return hl_err(err, HAUL_E_FULL, 0, "buffer '%s' is full", name);
    pthread_mutex_lock(&lock);
    b = need_locked(name, err);
    if (!b)
        rc = HAUL_E_READ;
    else
        rc = resize_locked(b, hl_max(b->stat.size, offset + len), err);
    if (!rc && len)
        memcpy(b->data + offset, data, len);
    pthread_mutex_unlock(&lock);
    return rc;
}

int hl_membuf_truncate(const char *name, uint64_t size, struct hl_error *err)
{
    struct membuf *b;
    int rc;

    pthread_mutex_lock(&lock);
    b = need_locked(name, err);
    rc = b ? resize_locked(b, size, err) : HAUL_E_READ;
    pthread_mutex_unlock(&lock);
    return rc;
}

static int rename_locked(const char *from, const char *to, bool no_clobber,
                         struct hl_error *err)
{
    struct membuf *b = need_locked(from, err), *old = find_locked(to);
    char *name;

    if (!b)
        return HAUL_E_READ;
    if (old == b)
        return 0;
    if (old && no_clobber)
        return hl_err(err, HAUL_E_EXISTS, 0, "'%s' exists", to);
    name = hl_strdup(to);
    if (!name)
        return hl_err(err, HAUL_E_NOMEM, 0, "cannot rename '%s'", from);
    if (old)
        free_locked(old);
    hl_free(b->name);
    b->name = name;
    return 0;
}

int hl_membuf_rename(const char *from, const char *to, bool no_clobber,
                     struct hl_error *err)
{
    int rc;

    pthread_mutex_lock(&lock);
    rc = rename_locked(from, to, no_clobber, err);
    pthread_mutex_unlock(&lock);
    return rc;
}

int hl_membuf_set(const char *name, int64_t mtime_ns, uint32_t mode,
                  struct hl_error *err)
{
    struct membuf *b;

    pthread_mutex_lock(&lock);
    b = need_locked(name, err);
    if (b && mtime_ns)
        b->stat.mtime_ns = mtime_ns;
    if (b && mode)
        b->stat.mode = mode;
    pthread_mutex_unlock(&lock);
    return b ? 0 : HAUL_E_READ;
}

void hl_membuf_remove(const char *name)
{
    struct membuf *b;

    pthread_mutex_lock(&lock);
    b = find_locked(name);
    if (b)
        free_locked(b);
    pthread_mutex_unlock(&lock);
}

/* ---- Beside a buffer ----------------------------------------------------- */

static int set_side_locked(struct membuf *b, const void *data, size_t len)
{
    void *side = len ? hl_malloc(len) : NULL;

    if (len && !side)
        return HAUL_E_NOMEM;
    if (len)
        memcpy(side, data, len);
    hl_free(b->side);
    b->side = side;
    b->side_len = len;
    return 0;
}

int hl_membuf_set_side(const char *name, const void *data, size_t len)
{
    struct membuf *b;
    int rc;

    pthread_mutex_lock(&lock);
    b = find_locked(name);
    rc = b ? set_side_locked(b, data, len) : HAUL_E_READ;
    pthread_mutex_unlock(&lock);
    return rc;
}

void *hl_membuf_side(const char *name, size_t *len)
{
    struct membuf *b;
    void *copy = NULL;

    pthread_mutex_lock(&lock);
    b = find_locked(name);
    if (b && b->side_len)
        copy = hl_malloc(b->side_len);
    if (copy)
        memcpy(copy, b->side, b->side_len);
    *len = copy ? b->side_len : 0;
    pthread_mutex_unlock(&lock);
    return copy;
}

/* ---- Copies of all --------------------------------------------------------
 */

struct hl_membuf_copy {
    struct hl_list bufs;
};

static void free_list(struct hl_list *l)
{
    while (hl_list_first(l))
        free_locked(HL_CONTAINER(hl_list_first(l), struct membuf, node));
}

static int copy_list(const struct hl_list *from, struct hl_list *to)
{
    for (struct hl_node *n = hl_list_first(from); n;
         n = hl_list_next(from, n)) {
        const struct membuf *b = HL_CONTAINER(n, struct membuf, node);
        struct membuf *c = hl_malloc(sizeof(*c));

        if (!c)
            return HAUL_E_NOMEM;
        hl_list_append(to, &c->node);
        c->stat = b->stat;
        c->capacity = b->stat.size;
        c->name = hl_strdup(b->name);
        c->data = b->stat.size ? hl_malloc(b->stat.size) : NULL;
        if (!c->name || (b->stat.size && !c->data) ||
            set_side_locked(c, b->side, b->side_len))
            return HAUL_E_NOMEM;
        if (c->data)
            memcpy(c->data, b->data, b->stat.size);
    }
    return 0;
}

struct hl_membuf_copy *hl_membuf_save(void)
{
    struct hl_membuf_copy *copy = hl_malloc(sizeof(*copy));
    int rc;

    if (!copy)
        return NULL;
    hl_list_init(&copy->bufs);
    pthread_mutex_lock(&lock);
    find_locked("");
    rc = copy_list(&bufs, &copy->bufs);
    pthread_mutex_unlock(&lock);
    if (rc == 0)
        return copy;
    hl_membuf_copy_free(copy);
    return NULL;
}

int hl_membuf_restore(const struct hl_membuf_copy *copy)
{
    int rc;

    pthread_mutex_lock(&lock);
    find_locked("");
    free_list(&bufs);
    rc = copy_list(&copy->bufs, &bufs);
    pthread_mutex_unlock(&lock);
    return rc;
}

void hl_membuf_copy_free(struct hl_membuf_copy *copy)
{
    if (copy)
        free_list(&copy->bufs);
    hl_free(copy);
}

/* ---- For tests ---------------------------------------------------------- */

size_t hl_membuf_count(void)
{
    struct hl_node *n;
    size_t count = 0;

    pthread_mutex_lock(&lock);
    find_locked("");
    for (n = hl_list_first(&bufs); n; n = hl_list_next(&bufs, n))
        count++;
    pthread_mutex_unlock(&lock);
    return count;
}

uint64_t hl_membuf_bytes(void)
{
    struct hl_node *n;
    uint64_t bytes = 0;

    pthread_mutex_lock(&lock);
    find_locked("");
    for (n = hl_list_first(&bufs); n; n = hl_list_next(&bufs, n))
        bytes += HL_CONTAINER(n, struct membuf, node)->stat.size;
    pthread_mutex_unlock(&lock);
    return bytes;
}

void hl_membuf_reset(void)
{
    pthread_mutex_lock(&lock);
    find_locked("");
    free_list(&bufs);
    pthread_mutex_unlock(&lock);
}
