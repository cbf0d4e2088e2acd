/* Worker threads: one queue, one lock, held for a few instructions only. */
#include "workers.h"
#include "thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

struct hl_workers {
    struct hl_loop *loop;
    pthread_mutex_t lock; /* queue, stop */
    pthread_cond_t wake;
    struct hl_list queue;
    bool stop;
    uint32_t count;
    _Atomic uint64_t busy_ns;
    pthread_t threads[];
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * HL_NS_PER_S + (uint64_t)t.tv_nsec;
}

static void finish_work(struct hl_task *task)
{
    struct hl_work *work = HL_CONTAINER(task, struct hl_work, task);

    work->done(work);
}

static void run_inline(struct hl_task *task)
{
    struct hl_work *work = HL_CONTAINER(task, struct hl_work, task);

    work->run(work);
    work->done(work);
}

static void *worker_main(void *arg)
{
    struct hl_workers *w = arg;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        struct hl_node *n = hl_list_pop(&w->queue);
        struct hl_work *work;
        uint64_t begin;

        if (!n && w->stop)
            break;
        if (!n) {
            pthread_cond_wait(&w->wake, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        work = HL_CONTAINER(n, struct hl_work, node);
        begin = now_ns();
        work->run(work);
        atomic_fetch_add_explicit(&w->busy_ns, now_ns() - begin,
                                  memory_order_relaxed);
        work->task.fn = finish_work;
        hl_loop_post(w->loop, &work->task);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int hl_workers_new(struct hl_loop *loop, uint32_t count,
                   struct hl_workers **out, struct hl_error *err)
{
    struct hl_workers *w =
        hl_malloc(sizeof(*w) + count * sizeof(w->threads[0]));
    int rc = 0;

    if (!w)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    w->loop = loop;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    hl_list_init(&w->queue);
    while (w->count < count && rc == 0) {
        rc = hl_thread_start(&w->threads[w->count], "haul-worker", worker_main,
                             w);
        if (rc == 0)
            w->count++;
    }
    if (rc) {
        hl_workers_free(w);
        return hl_err(err, HAUL_E_NOMEM, rc, "cannot start a thread");
    }
    *out = w;
    return 0;
}

void hl_workers_free(struct hl_workers *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    HL_ASSERT(hl_list_empty(&w->queue));
    w->stop = true;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->lock);
    for (uint32_t i = 0; i < w->count; i++)
        pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    hl_free(w);
}

void hl_workers_submit(struct hl_workers *w, struct hl_work *work)
{
    work->workers = w;
    if (w->count == 0) {
        work->task.fn = run_inline;
        hl_loop_post(w->loop, &work->task);
        return;
    }
    pthread_mutex_lock(&w->lock);
    hl_list_append(&w->queue, &work->node);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

uint64_t hl_workers_busy_ns(const struct hl_workers *w)
{
    return atomic_load_explicit(&w->busy_ns, memory_order_relaxed);
}
