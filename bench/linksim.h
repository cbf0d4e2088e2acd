/* The link of linksim: options and counters that its two files share. */
#ifndef LINKSIM_H
#define LINKSIM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>
#include <sys/socket.h>

#define MS 1000000LL
#define SECOND 1000000000LL
#define FAR_AWAY INT64_MAX
#define BLOCK_BYTES (64u * 1024)
#define DOWN_COUNT 8

enum { UP = 0, DOWN = 1, DIRS = 2 };

/* Set before link_open(), except the port in .listen, which that fills in. */
struct link_options {
    struct sockaddr_in listen;
    struct sockaddr_storage to;
    socklen_t to_len;
    int64_t rtt_ns;
    double rate, conn_rate;  /* bytes per second, 0: no limit */
    uint64_t inflight_bytes; /* of one connection and direction */
    uint64_t reset_after, stall_after, flip_at; /* UINT64_MAX: never */
    int64_t stall_for_ns;                       /* 0: for good */
    bool each;         /* count for each connection, not over all */
    bool repeat;       /* reset again and again */
    bool counts[DIRS]; /* the directions whose bytes count for faults */
    struct {
        double start, end; /* seconds since link_open() */
    } down[DOWN_COUNT];
    size_t down_count;
};

struct link_counters {
    uint64_t read_bytes[DIRS], delivered_bytes[DIRS];
    uint64_t connections, resets;
    int64_t start_ns;
};

extern struct link_options opt;
extern struct link_counters counters;

/* Prints "linksim: ..." and ends with status 2. */
noreturn void die(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Listens. signal_fd is watched too: on_signal() is called when it can be
 * read. */
void link_open(int signal_fd, void (*on_signal)(void));
/* Moves bytes until link_stop(). */
void link_run(void);
void link_stop(void);
/* Resets all connections now. */
void link_reset(void);
/* Pulls the plug, or puts it back. */
void link_toggle(void);

int64_t clock_now(void);

#endif /* LINKSIM_H */
