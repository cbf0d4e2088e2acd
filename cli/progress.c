/*
 * What a running transfer shows: a bar for people, events for programs, and
 * messages that do not tear them apart.
 *
 * Threads: progress_say(), progress_log() and progress_pause() any thread,
 * the others the main thread. Whoever writes to the terminal holds the lock.
 */
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

#define LINE_MAX_BYTES 1024
#define BAR_MIN_COLUMNS 7
#define WIDE_COLUMNS 90 /* total beside "sent, unconfirmed" */
#define ANSWER_SHOWN 4096
#define COLUMNS_DEFAULT 80

static double seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- The terminal ---- */

static void clear_bar(struct progress *p)
{
    if (!p->painted)
        return;
    fputs("\r\033[K", p->out);
    fflush(p->out);
    p->painted = false;
}

/* Asked at every bar, so that a new size of the window is used at once. */
static size_t columns_of(FILE *out)
{
    struct winsize w;

    if (ioctl(fileno(out), TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        return w.ws_col;
    return COLUMNS_DEFAULT;
}

/* In the background the terminal belongs to somebody else. */
static bool may_paint(const struct progress *p)
{
    int fd = fileno(p->out);

    return !p->paused && (!isatty(fd) || tcgetpgrp(fd) == getpgrp());
}

void progress_say(struct progress *p, const char *text)
{
    pthread_mutex_lock(&p->lock);
    clear_bar(p);
    if (!p->silent)
        text_say("%s", text);
    pthread_mutex_unlock(&p->lock);
}

void progress_log(void *user, int level, const char *area, const char *line)
{
    struct progress *p = user;

    (void)level;
    pthread_mutex_lock(&p->lock);
    clear_bar(p);
    fprintf(stderr, "%9.3f %-6s %s\n", seconds_now() - p->seconds_begin, area,
            line);
    pthread_mutex_unlock(&p->lock);
}

void progress_pause(struct progress *p, bool on)
{
    pthread_mutex_lock(&p->lock);
    clear_bar(p);
    p->paused = on;
    pthread_mutex_unlock(&p->lock);
}

/* ---- The bar ---- */

static const char *state_word(uint32_t state)
{
    static const char *const words[] = {
        "new", "opening", "moving", "checking", "committing", "done", "failed"};

    return state < sizeof(words) / sizeof(words[0]) ? words[state] : "moving";
}

/* Acknowledged bytes and those taken by the driver, not yet confirmed. */
static uint64_t sent_bytes(const struct haul_stats *s)
{
    uint64_t moved = s->acked_bytes - s->resumed_bytes + s->resent_bytes;
    uint64_t sent = s->acked_bytes;

    if (s->sent_bytes > moved)
        sent += s->sent_bytes - moved;
    return sent < s->bytes ? sent : s->bytes;
}

/* What percentage, rate and the time left are about. */
static uint64_t done_bytes(const struct haul_stats *s)
{
    return s->late ? sent_bytes(s) : s->acked_bytes;
}

/* Seconds, negative when they cannot be told. */
static double seconds_left(const struct haul_stats *s)
{
    if (s->bytes == UINT64_MAX || !s->rate)
        return -1;
    return (double)(s->bytes - done_bytes(s)) / (double)s->rate;
}

static void draw_bar(char *out, size_t columns, const struct haul_stats *s)
{
    double unit = s->bytes ? (double)columns / (double)s->bytes : 0;
    size_t acked = s->bytes ? (size_t)((double)s->acked_bytes * unit) : columns;
    size_t sent = s->bytes ? (size_t)((double)sent_bytes(s) * unit) : columns;

    for (size_t i = 0; i < columns; i++)
        out[i] = i < acked ? '=' : i < sent ? '-' : ' ';
    out[columns] = '\0';
}

/* The word at the end: an outage, a state, or what limits the rate. */
static void end_word(const struct progress *p, const struct haul_stats *s,
                     char *out, size_t cap)
{
    if (p->retry_code)
        snprintf(out, cap, "retry %u: %s", p->retry_count,
                 haul_err_text(p->retry_code));
    else if (s->state != HAUL_STATE_MOVING)
        snprintf(out, cap, "%s", state_word(s->state));
    else if (s->limit != HAUL_LIMIT_NONE)
        snprintf(out, cap, "%s", haul_limit_name((int)s->limit));
    else
        *out = '\0';
}

/* Appends as long as the line stays within room. */
static bool add_field(char *line, size_t room, const char *fmt, ...)
    CLI_PRINTF(3, 4);
static bool add_field(char *line, size_t room, const char *fmt, ...)
{
    char field[LINE_MAX_BYTES];
    size_t len = strlen(line);
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(field, sizeof(field), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(field) || len + (size_t)n > room)
        return false;
    memcpy(line + len, field, (size_t)n + 1);
    return true;
}

/* "450 MB/1.00 GB", or what is sent when nothing can be confirmed yet; the
 * total and the word that says so go when there is no room for them. */
static void format_amount(const struct progress *p, const struct haul_stats *s,
                          size_t room, char *out, size_t cap)
{
    char done[16], total[16];

    text_size(done, sizeof(done), done_bytes(s));
    text_size(total, sizeof(total), s->bytes);
    if (!s->late || s->acked_bytes == s->bytes)
        snprintf(out, cap, "%7s/%s", done, total);
    else if (s->bytes != UINT64_MAX && room >= WIDE_COLUMNS)
        snprintf(out, cap, "%7s/%s sent, unconfirmed", done, total);
    else
        snprintf(out, cap, "%7s sent%s", done,
                 p->retry_code ? "" : ", unconfirmed");
}

static void compose_known(const struct progress *p, const struct haul_stats *s,
                          char *line, size_t room)
{
    char amount[64], rate[16], eta[24] = "-", word[80];
    char tail[LINE_MAX_BYTES] = "", bar[LINE_MAX_BYTES];
    unsigned percent = 100;
    size_t used;

    format_amount(p, s, room, amount, sizeof(amount));
    text_size(rate, sizeof(rate), s->rate);
    if (s->rate)
        text_clock(eta, sizeof(eta), seconds_left(s));
    end_word(p, s, word, sizeof(word));
    if (done_bytes(s) < s->bytes)
        percent = (unsigned)((double)done_bytes(s) * 100 / (double)s->bytes);
    add_field(line, room, "%3u%%", percent > 100 ? 100 : percent);
    room -= strlen(line) < room ? strlen(line) : room;
    /* Nothing moves in an outage: its name has the place of the figures. */
    if (add_field(tail, room, "  %s", amount) &&
        (p->retry_code || (add_field(tail, room, "  %7s/s", rate) &&
                           add_field(tail, room, "  ETA %-7s", eta))))
        add_field(tail, room, "  %-10s", word);
    used = strlen(tail);
    if (used + BAR_MIN_COLUMNS + 3 <= room) {
        draw_bar(bar, room - used - 3, s);
        add_field(line, LINE_MAX_BYTES - 1, " [%s]", bar);
    }
    add_field(line, LINE_MAX_BYTES - 1, "%s", tail);
}

static void compose_unknown(const struct progress *p,
                            const struct haul_stats *s, char *line, size_t room)
{
    char amount[64], rate[16], clock[24], word[80];

    if (s->late)
        format_amount(p, s, room, amount, sizeof(amount));
    else
        text_size(amount, sizeof(amount), s->acked_bytes);
    text_size(rate, sizeof(rate), s->rate);
    text_clock(clock, sizeof(clock), (double)s->elapsed_ns / 1e9);
    end_word(p, s, word, sizeof(word));
    if (add_field(line, room, "%7s", amount) &&
        add_field(line, room, "  %7s/s", rate) &&
        add_field(line, room, "  after %-7s", clock))
        add_field(line, room, "  %s", word);
}

static void compose_opening(const struct progress *p,
                            const struct haul_stats *s, char *line, size_t room)
{
    char clock[24], name[LINE_MAX_BYTES - 64];

    text_clock(clock, sizeof(clock), (double)s->elapsed_ns / 1e9);
    if (p->retry_code)
        end_word(p, s, name, sizeof(name));
    else
        text_escape(name, sizeof(name), p->target ? p->target : "");
    snprintf(line, LINE_MAX_BYTES, "opening  %s  %s", clock, name);
    text_cut(line, room);
}

static void paint_bar(struct progress *p, const struct haul_stats *s)
{
    char line[LINE_MAX_BYTES] = "";
    size_t columns, room;

    if (!may_paint(p))
        return;
    /* A full line would wrap, and Ctrl-C adds two characters. */
    columns = columns_of(p->out);
    room = columns < LINE_MAX_BYTES / 2 ? columns : LINE_MAX_BYTES / 2;
    room -= room > 3 ? 3 : room;
    if (s->state <= HAUL_STATE_OPENING)
        compose_opening(p, s, line, room);
    else if (s->bytes == UINT64_MAX)
        compose_unknown(p, s, line, room);
    else
        compose_known(p, s, line, room);
    fprintf(p->out, "\r%s\033[K", line);
    fflush(p->out);
    p->painted = true;
}

/* ---- Events for programs ---- */

static void begin_event(struct json *j, struct progress *p, const char *name)
{
    json_begin(j, p->out);
    json_text(j, "event", name);
}

static void write_progress(struct progress *p, const struct haul_stats *s)
{
    struct pollfd fd = {.fd = fileno(p->out), .events = POLLOUT};
    struct json j;

    /* A reader that is slow must not hold the transfer up; the next one
     * tells it all. */
    if (poll(&fd, 1, 0) != 1 || !(fd.revents & POLLOUT))
        return;
    begin_event(&j, p, "progress");
    json_u64(&j, "bytes", s->bytes);
    json_u64(&j, "acked", s->acked_bytes);
    json_u64(&j, "sent", s->sent_bytes);
    json_bool(&j, "late", s->late);
    json_seconds(&j, "seconds", (double)s->elapsed_ns / 1e9);
    json_u64(&j, "rate", s->rate);
    json_seconds(&j, "eta", seconds_left(s));
    json_u64(&j, "resumed_from", s->resumed_bytes);
    json_u64(&j, "resent", s->resent_bytes);
    json_u64(&j, "retries", s->retries);
    json_u64(&j, "connections", s->connections);
    json_u64(&j, "streams", s->streams);
    json_u64(&j, "memory", s->memory_bytes);
    json_seconds(&j, "rtt", s->rtt_ns ? (double)s->rtt_ns / 1e9 : -1);
    json_text(&j, "limit", haul_limit_name((int)s->limit));
    json_end(&j);
}

static void write_error(struct progress *p, const char *name,
                        const struct haul_error *error)
{
    struct json j;

    begin_event(&j, p, name);
    json_text(&j, "error", error->message);
    json_text(&j, "hint", error->hint);
    json_text(&j, "detail", error->detail);
    json_text(&j, "code", haul_err_name(error->code));
    json_u64(&j, "attempts", error->attempts);
    json_end(&j);
}

/* Of the bytes that this run moved. */
static uint64_t mean_rate(const struct haul_result *r)
{
    double seconds = (double)r->elapsed_ns / 1e9;

    if (seconds <= 0 || r->acked_bytes < r->resumed_from)
        return 0;
    return (uint64_t)((double)(r->acked_bytes - r->resumed_from) / seconds);
}

/* null, or what the remote said to an upload as a whole. */
static void write_answer(struct json *j, const struct haul_result *r)
{
    size_t len = r && r->answer ? (size_t)r->answer_bytes : 0;
    size_t shown = len ? text_whole(r->answer, len, ANSWER_SHOWN) : 0;

    if (!r || (!r->answer_status && !r->answer_location)) {
        json_text(j, "answer", NULL);
        return;
    }
    json_open(j, "answer");
    json_u64(j, "status",
             r->answer_status ? (uint64_t)r->answer_status : UINT64_MAX);
    json_bytes(j, "body", r->answer, shown);
    if (shown < len)
        json_bool(j, "cut", true);
    if (r->answer_location)
        json_text(j, "location", r->answer_location);
    json_close(j);
}

static void write_end(struct progress *p, const struct haul_result *r,
                      const struct haul_error *error, int status)
{
    double seconds = r ? (double)r->elapsed_ns / 1e9 : -1;
    uint64_t none = UINT64_MAX;
    bool done = status == 0;
    struct json j;

    begin_event(&j, p, done ? "done" : "failed");
    json_text(&j, "source",
              r && *r->source && !p->verify ? r->source : p->source);
    json_text(&j, "target", r && *r->target ? r->target : p->target);
    json_u64(&j, "bytes", r ? r->bytes : none);
    json_u64(&j, "acked", r ? r->acked_bytes : none);
    json_seconds(&j, "seconds", seconds);
    json_u64(&j, "rate", r ? mean_rate(r) : none);
    json_u64(&j, "resumed_from", r ? r->resumed_from : none);
    json_u64(&j, "resent", r ? r->resent_bytes : none);
    json_u64(&j, "connections", r ? r->connections : none);
    json_u64(&j, "streams", r ? r->streams : none);
    json_text(&j, "digest", r ? r->digest : NULL);
    json_text(&j, "verified", r ? r->verified : NULL);
    json_text(&j, "limit", r ? haul_limit_name((int)r->limit) : NULL);
    json_u64(&j, "exit", (uint64_t)status);
    json_text(&j, "error", done ? NULL : error->message);
    json_text(&j, "hint", done ? NULL : error->hint);
    json_text(&j, "note", r ? r->note : NULL);
    json_bool(&j, "durable", r && r->durable);
    write_answer(&j, r);
    json_end(&j);
}

/* ---- What happens ---- */

/* Each kind of retry is told once; progress_end() says how often. */
static void note_retry(struct progress *p, const struct haul_error *error)
{
    unsigned i = 0;

    p->retry_code = error->code;
    p->retry_count++;
    while (i < PROGRESS_KINDS_MAX && p->kinds[i].code &&
           p->kinds[i].code != error->code)
        i++;
    if (i == PROGRESS_KINDS_MAX)
        return;
    p->kinds[i].code = error->code;
    if (p->kinds[i].count++ == 0 && p->verbose && !p->silent) {
        clear_bar(p);
        text_say("trying again: %s", error->message);
    }
}

static void tell_warning(struct progress *p, const struct haul_error *error)
{
    if (p->quiet || p->silent)
        return;
    clear_bar(p);
    text_say("warning: %s", error->message);
    if (error->hint)
        text_say("hint: %s", error->hint);
}

/* What was found out and chosen, and why. */
static void tell_note(struct progress *p, const char *text)
{
    struct json j;

    if (p->verbose && !p->silent) {
        clear_bar(p);
        text_say("%s", text);
    }
    if (p->mode != PROGRESS_JSON)
        return;
    begin_event(&j, p, "note");
    json_text(&j, "note", text);
    json_end(&j);
}

static void show_stats(struct progress *p, const struct haul_stats *s,
                       bool state_changed)
{
    struct json j;

    if (p->mode == PROGRESS_BAR) {
        paint_bar(p, s);
    } else if (p->mode == PROGRESS_JSON && state_changed) {
        begin_event(&j, p, "state");
        json_text(&j, "state", state_word(s->state));
        json_end(&j);
    } else if (p->mode == PROGRESS_JSON) {
        write_progress(p, s);
    }
}

void progress_event(struct progress *p, const struct haul_event *ev)
{
    const struct haul_stats *s = ev->stats;
    uint64_t moved = s->late ? s->sent_bytes : s->acked_bytes;
    bool changed = s->state != p->state;

    pthread_mutex_lock(&p->lock);
    if (moved > p->moved || changed)
        p->retry_code = 0;
    p->moved = moved;
    p->late = p->late || s->late; /* not told any more at the end */
    p->resumable = s->resumable;
    p->state = s->state;
    if (ev->type == HAUL_EV_RETRY && ev->error) {
        note_retry(p, ev->error);
        if (p->mode == PROGRESS_JSON)
            write_error(p, "retry", ev->error);
    } else if (ev->type == HAUL_EV_WARNING && ev->error) {
        tell_warning(p, ev->error);
        if (p->mode == PROGRESS_JSON)
            write_error(p, "warning", ev->error);
    } else if (ev->type == HAUL_EV_NOTE && ev->text) {
        tell_note(p, ev->text);
    } else if ((ev->type == HAUL_EV_STATE || ev->type == HAUL_EV_PROGRESS) &&
               s->state < HAUL_STATE_DONE) {
        show_stats(p, s, ev->type == HAUL_EV_STATE);
    }
    pthread_mutex_unlock(&p->lock);
}

bool progress_continues(const struct progress *p)
{
    return p->continues && p->resumable;
}

/* ---- The end ---- */

static void say_names(const struct progress *p, const struct haul_result *r)
{
    if (p->source) {
        text_put(stderr, p->source);
        fputs(" -> ", stderr);
    }
    text_put(stderr, *r->target ? r->target : p->target);
    fputs(p->verify ? "  matches its manifest, " : "  ", stderr);
}

static void say_more(const struct progress *p, const struct haul_result *r)
{
    char line[256] = "", size[16];

    text_size(size, sizeof(size), r->resumed_from);
    if (r->resumed_from && !r->note)
        add_field(line, sizeof(line) - 1, ", continued at %s", size);
    text_size(size, sizeof(size), r->resent_bytes);
    if (r->resent_bytes)
        add_field(line, sizeof(line) - 1, ", %s sent again", size);
    if (p->verbose && r->digest)
        add_field(line, sizeof(line) - 1, ", %s", r->digest);
    if (*line)
        fprintf(stderr, "  %s\n", line + 2);
}

/* What the remote said to an upload as a whole, unless that is no more than
 * that all is well. */
static void say_answer(const struct haul_result *r)
{
    size_t len = r->answer ? (size_t)r->answer_bytes : 0, shown;
    int status = r->answer_status;

    if (r->answer_location) {
        fputs("stored as ", stderr);
        text_put(stderr, r->answer_location);
        fputc('\n', stderr);
    }
    while (len && memchr(" \t\r\n", r->answer[len - 1], 4))
        len--;
    if (!status || (!len && (status == 200 || status == 201 || status == 204)))
        return;
    fprintf(stderr, "answer: %d\n", status);
    shown = len ? text_whole(r->answer, len, ANSWER_SHOWN) : 0;
    text_put_lines(stderr, r->answer, shown);
    if (shown < len)
        fprintf(stderr, "  ... (%zu bytes more)\n", len - shown);
}

static void say_summary(const struct progress *p, const struct haul_result *r)
{
    char size[16], time[32], rate[16];
    double seconds = (double)r->elapsed_ns / 1e9;

    say_names(p, r);
    text_size(size, sizeof(size), r->bytes);
    if (r->note) {
        fprintf(stderr, "%s, ", size);
        text_put(stderr, r->note);
        fputc('\n', stderr);
    } else {
        text_duration(time, sizeof(time), seconds);
        text_size(rate, sizeof(rate), mean_rate(r));
        fprintf(stderr, "%s in %s, %s/s, verified: %s, limit: %s\n", size, time,
                rate, r->verified, haul_limit_name((int)r->limit));
    }
    say_more(p, r);
    say_answer(r);
}

static void say_failure(const struct progress *p, const struct haul_result *r,
                        const struct haul_error *error)
{
    char moved[16], total[16] = "all";
    uint64_t bytes;

    text_say_error(error, p->verbose);
    if (!r)
        return;
    say_answer(r);
    bytes = p->late ? r->sent_bytes - r->resent_bytes : r->acked_bytes;
    if (!p->continues || !bytes || p->verify)
        return;
    text_size(moved, sizeof(moved), bytes);
    if (r->bytes != UINT64_MAX)
        text_size(total, sizeof(total), r->bytes);
    text_say("%s of %s %s%s%s", moved, total,
             p->late ? "sent, unconfirmed" : "confirmed",
             error->retryable ? "; the same command " : "",
             !error->retryable ? ""
             : p->resumable    ? "continues"
                               : "starts again");
}

static void say_retries(const struct progress *p)
{
    for (unsigned i = 0; i < PROGRESS_KINDS_MAX && p->kinds[i].count; i++)
        if (p->kinds[i].count > 1)
            text_say("tried again %u times: %s", p->kinds[i].count,
                     haul_err_text(p->kinds[i].code));
}

int progress_end(struct progress *p, const struct haul_result *r,
                 const struct haul_error *error)
{
    struct haul_error said = *error;
    int status = haul_err_exit_status(error->code);

    if (!said.message || !*said.message)
        said.message = haul_err_text(error->code);
    pthread_mutex_lock(&p->lock);
    clear_bar(p);
    if (!p->silent && p->verbose)
        say_retries(p);
    if (!p->silent && status)
        say_failure(p, r, &said);
    else if (r && p->summary && !p->quiet && p->mode != PROGRESS_JSON)
        say_summary(p, r);
    if (p->mode == PROGRESS_JSON)
        write_end(p, r, &said, status);
    /* Events that nobody reads any more do not make the copy fail. */
    if (p->out)
        clearerr(p->out);
    pthread_mutex_unlock(&p->lock);
    return status;
}

/* ---- Beginning ---- */

static enum progress_mode choose_mode(const struct args *a, int fd)
{
    const char *term = getenv("TERM");

    if (a->progress == PROGRESS_BAR || a->progress == PROGRESS_JSON)
        return a->progress;
    if (a->progress == PROGRESS_NONE || a->quiet)
        return PROGRESS_NONE;
    if (isatty(fd))
        return term && strcmp(term, "dumb") ? PROGRESS_BAR : PROGRESS_NONE;
    return a->progress_fd >= 0 ? PROGRESS_JSON : PROGRESS_NONE;
}

int progress_init(struct progress *p, const struct args *a)
{
    bool to_stdout = a->word_count > 2 && !strcmp(a->words[0], "copy") &&
                     !strcmp(a->words[2], "-");
    int fd = a->progress_fd;

    memset(p, 0, sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    p->quiet = a->quiet;
    p->verbose = a->verbose;
    p->summary = true;
    p->seconds_begin = seconds_now();
    if (fd < 0)
        fd = a->progress == PROGRESS_JSON && !to_stdout ? STDOUT_FILENO
                                                        : STDERR_FILENO;
    p->mode = choose_mode(a, fd);
    p->silent = p->mode == PROGRESS_JSON && fd == STDERR_FILENO;
    if (p->mode == PROGRESS_NONE)
        return 0;
    p->out = fd == STDOUT_FILENO   ? stdout
             : fd == STDERR_FILENO ? stderr
                                   : fdopen(fd, "w");
    if (p->out)
        return 0;
    text_say("cannot write to descriptor '%d'", fd);
    return haul_err_exit_status(HAUL_E_INVAL);
}

void progress_fini(struct progress *p)
{
    if (p->out && p->out != stdout && p->out != stderr)
        fclose(p->out);
    pthread_mutex_destroy(&p->lock);
}

void progress_start(struct progress *p)
{
    struct json j;

    if (p->mode != PROGRESS_JSON)
        return;
    begin_event(&j, p, "start");
    json_text(&j, "source", p->source);
    json_text(&j, "target", p->target);
    json_end(&j);
}
