/*
 * linksim: a TCP proxy on the loopback interface that behaves like a link
 * with a delay, a rate and faults. A tool of the tests and benchmarks; knows
 * nothing of haul. This file: options, signals, statistics.
 */
#include "linksim.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char *stats_path, *port_path;
static int signals;

noreturn void die(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("linksim: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

static void stats_print(FILE *out)
{
    double seconds = (double)(clock_now() - counters.start_ns) / SECOND;
    struct rusage ru;
    double cpu;

    getrusage(RUSAGE_SELF, &ru);
    cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
          (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    fprintf(out,
            "{\"up\":%llu,\"down\":%llu,\"up_delivered\":%llu,"
            "\"down_delivered\":%llu,\"connections\":%llu,\"resets\":%llu,"
            "\"seconds\":%.3f,\"cpu_seconds\":%.3f}\n",
            (unsigned long long)counters.read_bytes[UP],
            (unsigned long long)counters.read_bytes[DOWN],
            (unsigned long long)counters.delivered_bytes[UP],
            (unsigned long long)counters.delivered_bytes[DOWN],
            (unsigned long long)counters.connections,
            (unsigned long long)counters.resets, seconds, cpu);
}

/* Readers see the old file or the new one, never half of one. */
static void file_replace(const char *path, void (*print)(FILE *))
{
    char tmp[4096];
    FILE *f;

    if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp))
        die("name too long: '%s'", path);
    f = fopen(tmp, "w");
    if (!f)
        die("cannot write '%s': %s", tmp, strerror(errno));
    print(f);
    if (fclose(f) != 0 || rename(tmp, path) < 0)
        die("cannot write '%s': %s", path, strerror(errno));
}

static void port_print(FILE *out)
{
    fprintf(out, "%d\n", ntohs(opt.listen.sin_port));
}

static void signal_handle(void)
{
    struct signalfd_siginfo si;

    while (read(signals, &si, sizeof(si)) == sizeof(si)) {
        if (si.ssi_signo == SIGUSR1)
            link_reset();
        else if (si.ssi_signo == SIGUSR2)
            link_toggle();
        else if (si.ssi_signo != SIGHUP)
            link_stop();
        if (si.ssi_signo == SIGHUP && stats_path)
            file_replace(stats_path, stats_print);
    }
}

/* ---- Options ------------------------------------------------------------ */

static uint64_t parse_size(const char *text)
{
    static const char letters[] = "kmgt";
    char *end;
    double v = strtod(text, &end);
    const char *unit;

    if (end == text || v < 0)
        die("not a size: '%s'", text);
    if (*end && (unit = strchr(letters, *end | 0x20)) != NULL) {
        double base = (end[1] | 0x20) == 'i' ? 1024 : 1000;

        for (long i = 0; i <= unit - letters; i++)
            v *= base;
        end += base > 1000 ? 2 : 1;
    }
    if (*end && strcasecmp(end, "b") != 0)
        die("not a size: '%s'", text);
    return (uint64_t)v;
}

static double parse_number(const char *text)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end || v < 0)
        die("not a number: '%s'", text);
    return v;
}

static void parse_address(char *text, bool passive)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_family = passive ? AF_INET : AF_UNSPEC};
    char *colon = strrchr(text, ':');
    const char *host = "127.0.0.1", *port = text;
    struct addrinfo *found;

    if (colon) {
        *colon = '\0';
        host = text;
        port = colon + 1;
    }
    if (getaddrinfo(host, port, &hints, &found) != 0)
        die("cannot resolve '%s' port '%s'", host, port);
    if (passive) {
        memcpy(&opt.listen, found->ai_addr, sizeof(opt.listen));
    } else {
        memcpy(&opt.to, found->ai_addr, found->ai_addrlen);
        opt.to_len = found->ai_addrlen;
    }
    freeaddrinfo(found);
}

static void parse_down(const char *text)
{
    double start, end;

    if (sscanf(text, "%lf,%lf", &start, &end) != 2 || end <= start ||
        opt.down_count == DOWN_COUNT)
        die("--down wants START,END in seconds, not '%s'", text);
    opt.down[opt.down_count].start = start;
    opt.down[opt.down_count++].end = end;
}

static const char usage[] =
    "usage: linksim --listen [127.0.0.1:]PORT|0 --to HOST:PORT [options]\n"
    "  --rtt MS            round trip, half of it each way\n"
    "  --rate SIZE         bytes/s each way, shared by all connections\n"
    "  --conn-rate SIZE    bytes/s each way of one connection\n"
    "  --inflight SIZE     bytes under way of one connection, each way\n"
    "                      (2 x rate x rtt)\n"
    "  --reset-after SIZE  reset all connections after so many bytes\n"
    "  --repeat            ... and again after as many\n"
    "  --stall-after SIZE  the present connections fall silent\n"
    "  --stall-for SECONDS ... and go on after this\n"
    "  --flip-at SIZE      flip a bit of this byte\n"
    "  --each              count for each connection, not over all\n"
    "  --dir up|down       count these bytes only, not both ways\n"
    "  --down S,E          frozen and refusing from second S to E\n"
    "  --stats FILE        write counters as JSON at the end\n"
    "  --port-file FILE    write the port once it listens\n"
    "signals: USR1 resets all connections, USR2 pulls the plug and puts it\n"
    "back, HUP writes the statistics, TERM writes and prints them and ends\n";

static void option_set(int c)
{
    switch (c) {
    case 'l':
        parse_address(optarg, true);
        break;
    case 't':
        parse_address(optarg, false);
        break;
    case 'd':
        opt.rtt_ns = (int64_t)(parse_number(optarg) * MS);
        break;
    case 'r':
        opt.rate = (double)parse_size(optarg);
        break;
    case 'c':
        opt.conn_rate = (double)parse_size(optarg);
        break;
    case 'i':
        opt.inflight_bytes = parse_size(optarg);
        break;
    case 'R':
        opt.reset_after = parse_size(optarg);
        break;
    case 'S':
        opt.stall_after = parse_size(optarg);
        break;
    case 'F':
        opt.stall_for_ns = (int64_t)(parse_number(optarg) * SECOND);
        break;
    case 'f':
        opt.flip_at = parse_size(optarg);
        break;
    case 'e':
        opt.each = true;
        break;
    case 'n':
        opt.repeat = true;
        break;
    case 'w':
        opt.counts[UP] = strcmp(optarg, "down") != 0;
        opt.counts[DOWN] = strcmp(optarg, "up") != 0;
        break;
    case 'D':
        parse_down(optarg);
        break;
    case 's':
        stats_path = optarg;
        break;
    case 'p':
        port_path = optarg;
        break;
    case 'h':
        fputs(usage, stdout);
        exit(0);
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static void options_parse(int argc, char **argv)
{
    static const struct option table[] = {
        {"listen", 1, NULL, 'l'},      {"to", 1, NULL, 't'},
        {"rtt", 1, NULL, 'd'},         {"rate", 1, NULL, 'r'},
        {"conn-rate", 1, NULL, 'c'},   {"inflight", 1, NULL, 'i'},
        {"reset-after", 1, NULL, 'R'}, {"stall-after", 1, NULL, 'S'},
        {"stall-for", 1, NULL, 'F'},   {"flip-at", 1, NULL, 'f'},
        {"each", 0, NULL, 'e'},        {"repeat", 0, NULL, 'n'},
        {"dir", 1, NULL, 'w'},         {"down", 1, NULL, 'D'},
        {"stats", 1, NULL, 's'},       {"port-file", 1, NULL, 'p'},
        {"help", 0, NULL, 'h'},        {NULL, 0, NULL, 0}};
    double rate;
    int c;

    while ((c = getopt_long(argc, argv, "h", table, NULL)) != -1)
        option_set(c);
    if (optind != argc || opt.listen.sin_family == 0 || opt.to_len == 0)
        option_set('?');
    rate = opt.rate != 0 ? opt.rate : opt.conn_rate;
    if (opt.inflight_bytes == 0)
        opt.inflight_bytes = (uint64_t)(2 * rate * (double)opt.rtt_ns / SECOND);
    if (opt.inflight_bytes < 4 * 1024 * 1024 && rate == 0)
        opt.inflight_bytes = opt.rtt_ns ? 64u << 20 : 4u << 20;
    if (opt.inflight_bytes < BLOCK_BYTES)
        opt.inflight_bytes = BLOCK_BYTES;
}

static void signals_open(void)
{
    static const int wanted[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (signals < 0)
        die("signalfd: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    options_parse(argc, argv);
    prctl(PR_SET_TIMERSLACK, 1);
    signals_open();
    link_open(signals, signal_handle);
    if (port_path)
        file_replace(port_path, port_print);
    link_run();
    stats_print(stdout);
    if (stats_path)
        file_replace(stats_path, stats_print);
    return 0;
}
