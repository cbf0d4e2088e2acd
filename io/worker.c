/* See worker.h. The queue is the only thing that two threads touch. */
#include "worker.h"
#include "thread.h"

#include <pthread.h>

struct hl_worker {
    const struct hl_env *env;
    const char *name;
    bool on_loop; /* engine thread only, as the next */
    bool started;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake;
    struct hl_task *first, **last;
    bool stop;
};

int hl_worker_new(const struct hl_env *env, const char *name,
                  struct hl_worker **out, struct hl_error *err)
{
    struct hl_worker *w = hl_malloc(sizeof(*w));

    if (!w)
        return hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
    w->env = env;
    w->name = name;
    w->on_loop = env->virtual_time;
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    *out = w;
    return 0;
}

static void *worker_main(void *arg)
{
    struct hl_worker *w = arg;
    struct hl_task *task;

    pthread_mutex_lock(&w->lock);
    while (w->first || !w->stop) {
        task = w->first;
        if (!task) {
            pthread_cond_wait(&w->wake, &w->lock);
            continue;
        }
        w->first = task->next;
        if (!w->first)
            w->last = &w->first;
        pthread_mutex_unlock(&w->lock);
        task->fn(task);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static bool start_thread(struct hl_worker *w)
{
    return hl_thread_start(&w->thread, w->name, worker_main, w) == 0;
}

void hl_worker_post(struct hl_worker *w, struct hl_task *task)
{
    if (!w->on_loop && !w->started) {
        w->started = start_thread(w);
        w->on_loop = !w->started;
    }
    if (w->on_loop) {
        hl_loop_post(w->env->loop, task);
        return;
    }
    task->next = NULL;
    pthread_mutex_lock(&w->lock);
    *w->last = task;
    w->last = &task->next;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

void hl_worker_free(struct hl_worker *w)
{
    if (!w)
        return;
    if (w->started) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    hl_free(w);
}
