/* Two engines in two threads of one process share nothing: each copies its
 * own data, and a third thread asks both for their figures meanwhile. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "check.h"

#define SIZE (48 << 20)

struct job {
    pthread_t thread;
    const char *name;
    int seed;
    struct haul_engine *engine;
    struct haul_transfer *transfer;
    char digest[80];
};

static void begin(struct job *job)
{
    const char *folder = getenv("TMPDIR");
    char source[80], target[4096];

    snprintf(source, sizeof(source), "mem:gen?size=%d&seed=%d", SIZE,
             job->seed);
    snprintf(target, sizeof(target), "%s/%s", folder ? folder : "/tmp",
             job->name);
    unlink(target);
    job->engine = new_engine(job->name);
    CHECK_INT(haul_transfer_new(job->engine, source, target, &job->transfer),
              HAUL_OK);
    CHECK_INT(haul_transfer_set_str(job->transfer, HAUL_OPT_VERIFY, "readback"),
              HAUL_OK);
    CHECK_INT(haul_transfer_start(job->transfer), HAUL_OK);
}

static void *run(void *user)
{
    struct haul_result result = {.size = sizeof(result)};
    struct job *job = user;

    CHECK_INT(haul_engine_run(job->engine), HAUL_OK);
    CHECK_INT(haul_transfer_result(job->transfer, &result), HAUL_OK);
    CHECK_INT(result.code, HAUL_OK);
    CHECK_INT(result.acked_bytes, SIZE);
    CHECK(!strcmp(result.verified, "readback"));
    CHECK(result.digest && strlen(result.digest) < sizeof(job->digest));
    memcpy(job->digest, result.digest, strlen(result.digest) + 1);
    return NULL;
}

static void watch(struct job *jobs, int count, const atomic_int *left)
{
    while (atomic_load(left) > 0) {
        for (int i = 0; i < count; i++) {
            struct haul_stats stats = {.size = sizeof(stats)};

            CHECK_INT(haul_transfer_stats(jobs[i].transfer, &stats), HAUL_OK);
            CHECK(stats.acked_bytes <= SIZE);
        }
        usleep(1000);
    }
}

static atomic_int left = 2;

static void *run_and_count(void *user)
{
    run(user);
    atomic_fetch_sub(&left, 1);
    return NULL;
}

int main(void)
{
    struct job jobs[2] = {{.name = "one", .seed = 1},
                          {.name = "two", .seed = 2}};

    for (int i = 0; i < 2; i++)
        begin(&jobs[i]);
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_create(&jobs[i].thread, NULL, run_and_count, &jobs[i]));
    watch(jobs, 2, &left);
    for (int i = 0; i < 2; i++) {
        CHECK(!pthread_join(jobs[i].thread, NULL));
        haul_transfer_free(jobs[i].transfer);
        haul_engine_free(jobs[i].engine);
    }
    CHECK(strcmp(jobs[0].digest, jobs[1].digest));
    return 0;
}
