/* haul jobs list, show, cancel, forget: transfers of earlier runs. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

struct listing {
    bool all, json, one;
    int64_t id;
    uint64_t count;
    char names[4096]; /* "source -> target" of the last one */
};

static void print_json(const struct haul_job *job)
{
    struct json j;

    json_begin(&j, stdout);
    json_u64(&j, "id", (uint64_t)job->id);
    json_text(&j, "state", job->state);
    json_text(&j, "source", job->source);
    json_text(&j, "target", job->target);
    json_text(&j, "temporary", job->temporary);
    json_u64(&j, "bytes", job->bytes);
    json_u64(&j, "acked", job->acked_bytes);
    json_u64(&j, "created", (uint64_t)job->created_s);
    json_u64(&j, "updated", (uint64_t)job->updated_s);
    json_text(&j, "error", job->error);
    json_end(&j);
}

static void format_age(char *out, size_t cap, int64_t since)
{
    int64_t s = (int64_t)time(NULL) - since;

    if (s < 0)
        s = 0;
    if (s < 120)
        snprintf(out, cap, "%" PRId64 " s", s);
    else if (s < 7200)
        snprintf(out, cap, "%" PRId64 " min", s / 60);
    else if (s < 172800)
        snprintf(out, cap, "%" PRId64 " h", s / 3600);
    else
        snprintf(out, cap, "%" PRId64 " d", s / 86400);
}

static void print_row(const struct listing *l, const struct haul_job *job)
{
    char acked[16], total[16] = "?", age[24];

    if (l->count == 1)
        printf("%4s  %-10s  %-17s  %-7s  %s\n", "ID", "STATE", "CONFIRMED",
               "AGE", "SOURCE -> TARGET");
    text_size(acked, sizeof(acked), job->acked_bytes);
    if (job->bytes != UINT64_MAX)
        text_size(total, sizeof(total), job->bytes);
    format_age(age, sizeof(age), job->updated_s);
    printf("%4" PRId64 "  %-10s  %7s / %-7s  %-7s  ", job->id, job->state,
           acked, total, age);
    text_put(stdout, job->source);
    fputs(" -> ", stdout);
    text_put(stdout, job->target);
    putchar('\n');
}

static void print_line(const char *key, const char *value)
{
    printf("%-10s ", key);
    text_put(stdout, value ? value : "-");
    putchar('\n');
}

static void print_bytes(const char *key, uint64_t bytes)
{
    char size[16];

    if (bytes == UINT64_MAX) {
        print_line(key, "unknown");
        return;
    }
    text_size(size, sizeof(size), bytes);
    printf("%-10s %" PRIu64 " (%s)\n", key, bytes, size);
}

static void print_time(const char *key, int64_t seconds)
{
    time_t t = (time_t)seconds;
    char text[64] = "-";
    struct tm tm;

    if (localtime_r(&t, &tm))
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z", &tm);
    print_line(key, text);
}

static void print_all(const struct haul_job *job)
{
    printf("%-10s %" PRId64 "\n", "id:", job->id);
    print_line("state:", job->state);
    print_line("source:", job->source);
    print_line("target:", job->target);
    print_line("temporary:", job->temporary);
    print_bytes("bytes:", job->bytes);
    print_bytes("confirmed:", job->acked_bytes);
    print_time("created:", job->created_s);
    print_time("updated:", job->updated_s);
    print_line("error:", job->error);
}

static int visit(void *user, const struct haul_job *job)
{
    struct listing *l = user;

    if (!l->one && !l->all && !strcmp(job->state, "done"))
        return 0;
    l->count++;
    if (l->json)
        print_json(job);
    else if (l->one)
        print_all(job);
    else
        print_row(l, job);
    return 0;
}

static int visit_names(void *user, const struct haul_job *job)
{
    struct listing *l = user;

    snprintf(l->names, sizeof(l->names), "%s -> %s", job->source, job->target);
    return 1;
}

static int run_list(struct run *r, struct listing *l)
{
    struct haul_error error = {.size = sizeof(error)};
    int rc = haul_jobs_list(r->engine, l->id, visit, l);

    if (rc) {
        haul_engine_error(r->engine, &error);
        return progress_end(&r->progress, NULL, &error);
    }
    if (!l->count && !l->json)
        puts(l->all ? "no transfers" : "no unfinished transfers");
    return 0;
}

static int run_remove(struct run *r, struct listing *l, bool forget)
{
    int rc = haul_jobs_list(r->engine, l->id, visit_names, l);
    int status;

    if (rc == 0)
        rc = haul_job_remove_new(r->engine, l->id, forget, &r->transfer);
    r->progress.summary = false;
    r->progress.target = l->names;
    status = run_transfer(r, rc);
    if (status == 0 && !r->args->quiet && r->progress.mode != PROGRESS_JSON) {
        printf("%s %" PRId64 ": ", forget ? "forgot" : "canceled", l->id);
        text_put(stdout, l->names);
        putchar('\n');
    }
    return status;
}

static int refuse(const char *message, const char *word)
{
    text_say("jobs: %s '%s'", message, word);
    text_say("hint: Usage: haul jobs list, haul jobs show|cancel|forget ID.");
    return haul_err_exit_status(HAUL_E_INVAL);
}

static int parse_id(const char *word, int64_t *id)
{
    char *end;

    errno = 0;
    *id = strtoll(word, &end, 10);
    return errno || end == word || *end || *id <= 0;
}

int jobs_run(struct args *a)
{
    const char *verb = a->words[1];
    bool list = !strcmp(verb, "list"), show = !strcmp(verb, "show");
    bool forget = !strcmp(verb, "forget");
    struct listing l = {.all = a->all, .json = a->json, .one = show};
    struct run r;
    int status;

    if (!list && !show && !forget && strcmp(verb, "cancel"))
        return refuse("unknown command", verb);
    if (list && a->word_count > 2)
        return refuse("list takes no operand", a->words[2]);
    if (!list && a->word_count < 3)
        return refuse("an ID is missing behind", verb);
    if (!list && parse_id(a->words[2], &l.id))
        return refuse("not the ID of a job:", a->words[2]);
    status = run_begin(&r, a);
    if (status == 0)
        status = list || show ? run_list(&r, &l) : run_remove(&r, &l, forget);
    run_end(&r);
    return status;
}
