/*
 * A loop: one curl multi on a thread of its own. The thread runs jobs that
 * others posted, lets libcurl work, ends requests that are through or too
 * quiet, and counts where the time went.
 *
 * The queue of jobs is under the loop's lock; everything else is the thread's.
 * Any number of loops; they share the endpoint's DNS answers and TLS sessions
 * (share locks in http.c) and its counters (ep->lock).
 */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#include "http_private.h"
#include "thread.h"

/* Counters and quiet requests are looked at so often. */
#define LOOK_NS (100 * HL_NS_PER_MS)

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * HL_NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- Jobs --------------------------------------------------------------- */

void hl_http_loop_post(struct hl_http_loop *loop, struct hl_http_job *job)
{
    bool first;

    job->next = NULL;
    pthread_mutex_lock(&loop->lock);
    first = !loop->first;
    *loop->last = job;
    loop->last = &job->next;
    pthread_mutex_unlock(&loop->lock);
    if (first)
        curl_multi_wakeup(loop->multi);
}

static void run_jobs(struct hl_http_loop *loop)
{
    struct hl_http_job *job, *next;

    pthread_mutex_lock(&loop->lock);
    job = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    pthread_mutex_unlock(&loop->lock);
    for (; job; job = next) {
        next = job->next;
        job->fn(job);
    }
}

/* ---- Counters ----------------------------------------------------------- */

/* What the kernel knows to have arrived at the other side, for uploads. */
static uint64_t acked_bytes(CURL *curl)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    curl_socket_t fd = CURL_SOCKET_BAD;

    if (curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
        fd == CURL_SOCKET_BAD ||
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
        return 0;
    return info.tcpi_bytes_acked;
}

static void look_at(struct hl_http_easy *e, uint64_t now, uint64_t *wire)
{
    uint64_t moved = e->req->received;

    if (e->req->handler->send) {
        uint64_t acked = acked_bytes(e->curl);

        /* Another connection counts from the start. */
        if (acked < e->acked)
            e->acked = 0;
        *wire += acked - e->acked;
        if (acked > e->acked)
            e->moved_ns = now;
        e->acked = acked;
    }
    *wire += moved - e->told;
    e->told = moved;
    if (e->paused_in || e->paused_out)
        e->moved_ns = now;
}

/* Gives what was counted to the endpoint and ends who is too quiet. */
static void look(struct hl_http_loop *loop, uint64_t now)
{
    struct hl_http_ep *ep = loop->ep;
    uint64_t cpu = thread_cpu_ns(), wire = 0;
    struct hl_node *n, *next;

    for (n = hl_list_first(&loop->running); n;
         n = hl_list_next(&loop->running, n))
        look_at(HL_CONTAINER(n, struct hl_http_easy, node), now, &wire);
    pthread_mutex_lock(&ep->lock);
    ep->flow.wire_bytes += wire;
    ep->flow.starved_ns += loop->starved_ns;
    ep->flow.link_ns += loop->link_ns;
    ep->flow.cpu_ns += cpu - loop->cpu_ns;
    pthread_mutex_unlock(&ep->lock);
    loop->starved_ns = loop->link_ns = 0;
    loop->cpu_ns = cpu;
    loop->looked_ns = now;
    for (n = hl_list_first(&loop->running); n; n = next) {
        next = hl_list_next(&loop->running, n);
        hl_http_easy_check_time(HL_CONTAINER(n, struct hl_http_easy, node),
                                now);
    }
}

/* The thread slept for so long: on whose account? */
static void count_sleep(struct hl_http_loop *loop, uint64_t ns)
{
    for (struct hl_node *n = hl_list_first(&loop->running); n;
         n = hl_list_next(&loop->running, n)) {
        struct hl_http_easy *e = HL_CONTAINER(n, struct hl_http_easy, node);

        if (e->paused_in || e->paused_out)
            loop->starved_ns += ns;
        else
            loop->link_ns += ns;
    }
}

/* ---- The thread --------------------------------------------------------- */

static void end_requests(struct hl_http_loop *loop)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(loop->multi, &left))) {
        struct hl_http_easy *e = NULL;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &e);
        hl_http_easy_ended(e, msg->data.result);
    }
}

static int sleep_ms(const struct hl_http_loop *loop, uint64_t now)
{
    uint64_t at = loop->looked_ns + LOOK_NS;

    if (!loop->running_count)
        return 60000;
    return at > now ? (int)((at - now) / HL_NS_PER_MS) + 1 : 0;
}

static void *loop_main(void *arg)
{
    struct hl_http_loop *loop = arg;
    const struct hl_loop *clock = loop->ep->base.env->loop;
    bool stop = false;

    loop->now_ns = loop->looked_ns = hl_loop_now(clock);
    loop->cpu_ns = thread_cpu_ns();
    while (!stop) {
        uint64_t before;
        int running;

        run_jobs(loop);
        curl_multi_perform(loop->multi, &running);
        end_requests(loop);
        before = loop->now_ns = hl_loop_now(clock);
        if (before - loop->looked_ns >= LOOK_NS)
            look(loop, before);
        pthread_mutex_lock(&loop->lock);
        stop = loop->stop && !loop->first;
        pthread_mutex_unlock(&loop->lock);
        if (stop)
            break;
        curl_multi_poll(loop->multi, NULL, 0, sleep_ms(loop, before), NULL);
        loop->now_ns = hl_loop_now(clock);
        count_sleep(loop, loop->now_ns - before);
    }
    return NULL;
}

/* ---- Life --------------------------------------------------------------- */

static struct hl_http_loop *loop_new(struct hl_http_ep *ep,
                                     struct hl_error *err)
{
    struct hl_http_loop *loop = hl_malloc(sizeof(*loop));
    int rc;

    if (loop) {
        loop->multi = curl_multi_init();
        if (!loop->multi) {
            hl_free(loop);
            loop = NULL;
        }
    }
    if (!loop) {
        hl_err(err, HAUL_E_NOMEM, 0, "out of memory");
        return NULL;
    }
    loop->ep = ep;
    loop->last = &loop->first;
    hl_list_init(&loop->running);
    pthread_mutex_init(&loop->lock, NULL);
    curl_multi_setopt(loop->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS,
                      (long)HL_HTTP_STREAMS_MAX);
    rc = hl_thread_start(&loop->thread, "haul-http", loop_main, loop);
    if (rc) {
        hl_err(err, HAUL_E_NOMEM, rc, "cannot start a thread");
        curl_multi_cleanup(loop->multi);
        pthread_mutex_destroy(&loop->lock);
        hl_free(loop);
        return NULL;
    }
    return loop;
}

struct hl_http_loop *hl_http_loop_get(struct hl_http_ep *ep, uint32_t n,
                                      struct hl_error *err)
{
    uint32_t i = n % ep->loop_max;

    if (!ep->loops[i])
        ep->loops[i] = loop_new(ep, err);
    return ep->loops[i];
}

void hl_http_loop_free(struct hl_http_loop *loop)
{
    if (!loop)
        return;
    pthread_mutex_lock(&loop->lock);
    loop->stop = true;
    pthread_mutex_unlock(&loop->lock);
    curl_multi_wakeup(loop->multi);
    pthread_join(loop->thread, NULL);
    HL_ASSERT(hl_list_empty(&loop->running));
    curl_multi_cleanup(loop->multi);
    pthread_mutex_destroy(&loop->lock);
    hl_free(loop);
}
