/*
 * What the files of the command share. The command uses the public headers
 * of libhaul and nothing else of it.
 *
 * Threads: everything runs on the main thread, except that the library calls
 * the log and the secret function on threads of its own; progress.c has the
 * one lock that keeps their lines apart.
 */
#ifndef CLI_H
#define CLI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "haul_jobs.h"

#define CLI_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* ---- text.c: numbers and foreign text for people ---- */

/* "312 GB"; powers of 1000, three digits. */
void text_size(char *out, size_t cap, uint64_t bytes);
/* "47 min 3 s" */
void text_duration(char *out, size_t cap, double seconds);
/* "27:13", for a place that changes while one looks */
void text_clock(char *out, size_t cap, double seconds);
/* Control characters and what is not UTF-8 become \xNN. out may end early,
 * never inside a character; text_put() writes all. */
void text_escape(char *out, size_t cap, const char *text);
void text_put(FILE *out, const char *text);
/* Lines of a foreign text, which holds len bytes and a NUL, each behind two
 * spaces and with a newline. */
void text_put_lines(FILE *out, const char *text, size_t len);
/* At most max of len bytes, without half a character at the end. */
size_t text_whole(const char *text, size_t len, size_t max);
/* Bytes of the UTF-8 character at s, 0 when there is none. */
size_t text_utf8(const char *s);
/* Cuts s behind so many characters. */
void text_cut(char *s, size_t columns);
/* Edits (insert, delete, replace) from a to b. */
unsigned text_distance(const char *a, const char *b);
/* "haul: ..." and a newline on standard error, control characters escaped. */
void text_say(const char *fmt, ...) CLI_PRINTF(1, 2);
/* Message and hint of an error. */
void text_say_error(const struct haul_error *error, bool with_detail);

/* ---- json.c: one object a line, for output only ---- */

struct json {
    FILE *out;
    bool more; /* a comma is due */
};
void json_begin(struct json *j, FILE *out);
/* NULL is null. */
void json_text(struct json *j, const char *key, const char *value);
/* len bytes, and one more that may be looked at. */
void json_bytes(struct json *j, const char *key, const char *value, size_t len);
/* UINT64_MAX is null. */
void json_u64(struct json *j, const char *key, uint64_t value);
/* Negative is null. */
void json_seconds(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);
/* An object inside; its members come in between. */
void json_open(struct json *j, const char *key);
void json_close(struct json *j);
/* Flushes. */
void json_end(struct json *j);

/* ---- args.c: the command line ---- */

/* Options of the command itself, beside those of the library. */
enum cli_option {
    CLI_PROGRESS = 10000,
    CLI_PROGRESS_FD,
    CLI_QUIET,
    CLI_VERBOSE,
    CLI_ALL,
    CLI_JSON,
    CLI_HELP,
    CLI_VERSION
};

enum progress_mode {
    PROGRESS_AUTO,
    PROGRESS_BAR,
    PROGRESS_JSON,
    PROGRESS_NONE
};

#define ARGS_WORDS_MAX 6
#define ARGS_VALUES_MAX 128 /* more than there are options, and lists */

struct args {
    char *words[ARGS_WORDS_MAX]; /* inside argv; [0] is the command */
    int word_count;
    struct {
        const struct haul_opt_info *option;
        char *text;            /* inside argv, or "1" */
    } values[ARGS_VALUES_MAX]; /* of the library, each option once, but a
                                * list as often as it was given */
    int value_count;
    enum progress_mode progress;
    int progress_fd; /* -1: not given */
    bool quiet, verbose, json, all, help, version;
};

/* Every option, those of the library first: start with NULL, ends with
 * NULL. */
const struct haul_opt_info *args_option_next(const struct haul_opt_info *prev);

/* Takes argv apart; its strings stay in use. Nonzero: refused, and said so. */
int args_parse(struct args *a, int argc, char **argv);

/* Is the option one of these groups (separated by spaces)? */
bool args_in_groups(const struct haul_opt_info *option, const char *groups);

/* Refuses options that are of none of the groups. */
int args_check_groups(const struct args *a, const char *command,
                      const char *groups);

/* ---- wipe.c: secrets leave the command line ---- */

/* A password, and what looks like a credential in a query; inside argv. */
void wipe_url(char *url);
/* The values of --header, --proxy and --endpoint that hold a secret. */
void wipe_options(const struct args *a);

/* ---- The commands, each in a file of its own ---- */

struct command {
    const char *name;
    const char *operands;       /* "SOURCE TARGET" */
    const char *about;          /* one line; NULL: hidden */
    const char *more;           /* for its --help */
    const char *groups;         /* of options that it takes */
    int words_min, words_max;   /* operands */
    int (*run)(struct args *a); /* returns the exit status */
};
/* Ends with a NULL name. */
extern const struct command cli_commands[];

int copy_run(struct args *a);
int verify_run(struct args *a);
int jobs_run(struct args *a);
int completion_run(struct args *a);

/* ---- help.c ---- */

void help_all(FILE *out);
void help_command(FILE *out, const struct command *c);

/* ---- secrets.c: passwords from the terminal ---- */

/* A haul_secret_fn; user is a struct progress. */
int secrets_ask(void *user, const char *what, int echo, char *buf, size_t cap);
/* A prompt that waits is given up when this descriptor becomes readable. */
void secrets_stop_fd(int fd);
/* Gives the terminal its echo back. For signal handlers. */
void secrets_restore(void);

/* ---- progress.c: the bar, the events, the summary ---- */

#define PROGRESS_KINDS_MAX 16

struct progress {
    /* Set by the command before progress_start(). */
    const char *source, *target; /* as typed, without password, or NULL */
    bool verify;                 /* target is compared with a manifest */
    bool continues;              /* the same command continues, if the target
                                  * can */
    bool summary;                /* say what was done at the end */

    /* The rest belongs to progress.c. */
    enum progress_mode mode; /* never AUTO */
    FILE *out;               /* of bar or events */
    bool quiet, verbose;
    bool silent;          /* the events are on standard error */
    pthread_mutex_t lock; /* the terminal and the two after it */
    bool painted;
    bool paused;
    uint32_t state;
    bool late;      /* the target confirms everything at its end only; stays
                     * so once it was told */
    bool resumable; /* interrupted now, the same command would continue */
    uint64_t moved; /* seen last: acknowledged, or sent when late */
    int retry_code; /* since that last grew, 0 none */
    uint32_t retry_count;
    struct {
        int code;
        uint32_t count;
    } kinds[PROGRESS_KINDS_MAX]; /* of retries, for --verbose */
    double seconds_begin;
};

int progress_init(struct progress *p, const struct args *a);
void progress_fini(struct progress *p);
void progress_start(struct progress *p);
void progress_event(struct progress *p, const struct haul_event *ev);
/* The end: summary or error, and the last event. r is NULL when the transfer
 * never started. Returns the exit status. */
int progress_end(struct progress *p, const struct haul_result *r,
                 const struct haul_error *error);
/* A line between the bars. Any thread. */
void progress_say(struct progress *p, const char *text);
/* Does the same command go on where this one was? False while that is not
 * known yet. Main thread. */
bool progress_continues(const struct progress *p);
/* A haul_log_fn; user is a struct progress. */
void progress_log(void *user, int level, const char *area, const char *line);
/* Keeps the bar away while the terminal is used for something else. */
void progress_pause(struct progress *p, bool on);

/* ---- run.c: an engine, one transfer, signals ---- */

struct run {
    const struct args *args;
    struct haul_engine *engine;
    struct haul_transfer *transfer;
    struct progress progress;
};

/* Makes the engine with its options. Returns 0 or an exit status, having said
 * why. Finish with run_end() in both cases. */
int run_begin(struct run *r, const struct args *a);
/* Sets the options of r->transfer and drives it to its end; rc is what its
 * making returned. Returns the exit status. */
int run_transfer(struct run *r, int rc);
void run_end(struct run *r);

#endif /* CLI_H */
