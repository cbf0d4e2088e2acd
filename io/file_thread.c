/*
 * A few threads for calls that block: started one by one as jobs find all of
 * them busy, so that the fsyncs of several small files run side by side.
 * Threads: everything here is under the endpoint's lock.
 */
#include "file.h"
#include "thread.h"

static void *thread_main(void *arg)
{
    struct hl_file_ep *ep = arg;
    struct hl_node *n;

    pthread_mutex_lock(&ep->lock);
    for (;;) {
        n = hl_list_pop(&ep->jobs);
        if (n) {
            pthread_mutex_unlock(&ep->lock);
            hl_file_run(HL_CONTAINER(n, struct hl_file_req, node));
            pthread_mutex_lock(&ep->lock);
            continue;
        }
        if (ep->stop)
            break;
        ep->threads_idle++;
        pthread_cond_wait(&ep->wake, &ep->lock);
        ep->threads_idle--;
    }
    pthread_mutex_unlock(&ep->lock);
    return NULL;
}

static void run_on_loop(struct hl_task *task)
{
    hl_file_run(HL_CONTAINER(task, struct hl_file_req, task));
}

static bool start_one_locked(struct hl_file_ep *ep)
{
    if (ep->on_loop || ep->thread_count == HL_FILE_THREADS)
        return false;
    if (hl_thread_start(&ep->threads[ep->thread_count], "haul-file",
                        thread_main, ep))
        return false;
    ep->thread_count++;
    return true;
}

/* A thread that was woken still counts as idle until it runs. */
static bool all_busy_locked(const struct hl_file_ep *ep)
{
    const struct hl_node *n = hl_list_first(&ep->jobs);
    unsigned queued = 0;

    for (; n && queued < HL_FILE_THREADS; n = hl_list_next(&ep->jobs, n))
        queued++;
    return ep->threads_idle <= queued;
}

void hl_file_job_locked(struct hl_file_ep *ep, struct hl_file_req *r)
{
    if (all_busy_locked(ep) && !start_one_locked(ep) && ep->thread_count == 0) {
        ep->on_loop = true;
        r->task.fn = run_on_loop;
        hl_loop_post(ep->base.env->loop, &r->task);
        return;
    }
    hl_list_append(&ep->jobs, &r->node);
    pthread_cond_signal(&ep->wake);
}

void hl_file_threads_stop(struct hl_file_ep *ep)
{
    unsigned i;

    pthread_mutex_lock(&ep->lock);
    ep->stop = true;
    pthread_cond_broadcast(&ep->wake);
    pthread_mutex_unlock(&ep->lock);
    for (i = 0; i < ep->thread_count; i++)
        pthread_join(ep->threads[i], NULL);
}
