/*
 * mkdump: writes a file that looks like a database dump, the same bytes for
 * the same size and seed. A tool of the tests and benchmarks.
 *
 *   mkdump SIZE FILE|- [--seed N] [--text-only]
 *
 * Sections of 8 MiB in turn: a table as pg_dump writes it (about 5 : 1 with
 * zstd), then bytes that no compressor makes smaller, as compressed large
 * objects are.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTION_BYTES (8u << 20)
#define ROW_BYTES_MAX 256
#define WORDS(a) (sizeof(a) / sizeof((a)[0]))

static const char header[] =
    "--\n-- PostgreSQL database dump\n--\n\n"
    "-- Dumped from database version 15.8 (Debian 15.8-0+deb12u1)\n"
    "-- Dumped by pg_dump version 15.8 (Debian 15.8-0+deb12u1)\n\n"
    "SET statement_timeout = 0;\nSET lock_timeout = 0;\n"
    "SET idle_in_transaction_session_timeout = 0;\n"
    "SET client_encoding = 'UTF8';\n"
    "SET standard_conforming_strings = on;\n"
    "SELECT pg_catalog.set_config('search_path', '', false);\n"
    "SET check_function_bodies = false;\nSET xmloption = content;\n"
    "SET client_min_messages = warning;\nSET row_security = off;\n\n"
    "SET default_tablespace = '';\n\nSET default_table_access_method = heap;\n"
    "\n";

static const char table_format[] =
    "--\n-- Name: sale_order_%u; Type: TABLE; Schema: public; Owner: odoo\n"
    "--\n\nCREATE TABLE public.sale_order_%u (\n    id integer NOT NULL,\n"
    "    create_date timestamp without time zone,\n"
    "    name character varying,\n    partner character varying,\n"
    "    state character varying,\n    amount_total numeric(12,2),\n"
    "    note text\n);\n\n\nALTER TABLE public.sale_order_%u OWNER TO odoo;\n"
    "\n--\n-- Data for Name: sale_order_%u; Type: TABLE DATA; Schema: public; "
    "Owner: odoo\n--\n\nCOPY public.sale_order_%u (id, create_date, name, "
    "partner, state, amount_total, note) FROM stdin;\n";

static const char *const first_names[] = {
    "Anna",  "Ben",   "Chiara", "David", "Elif", "Farid", "Greta", "Hugo",
    "Ines",  "Jonas", "Katja",  "Luca",  "Mei",  "Nadia", "Omar",  "Petra",
    "Quinn", "Rosa",  "Sven",   "Tuan",  "Uma",  "Viktor"};
static const char *const last_names[] = {
    "Ackermann", "Bianchi", "Chen",   "Dubois", "Eriksen",  "Fischer",
    "Garcia",    "Haddad",  "Ivanov", "Jensen", "Kowalski", "Lefebvre",
    "Moreau",    "Nguyen",  "Okafor", "Petrov", "Rossi",    "Schmidt"};
static const char *const states[] = {"draft", "sent", "sale", "done", "cancel"};
static const char *const notes[] = {
    "\\N",
    "\\N",
    "deliver to the back door",
    "invoice by mail",
    "terms: 30 days net",
    "customer asked for a call before delivery"};

static uint64_t rng[4];

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* xoshiro256+ (Blackman, Vigna): fast, and no pattern a compressor finds. */
static uint64_t random64(void)
{
    uint64_t r = rng[0] + rng[3], t = rng[1] << 17;

    rng[2] ^= rng[0];
    rng[3] ^= rng[1];
    rng[1] ^= rng[2];
    rng[0] ^= rng[3];
    rng[2] ^= t;
    rng[3] = rng[3] << 45 | rng[3] >> 19;
    return r;
}

static char *put_text(char *p, const char *s)
{
    size_t n = strlen(s);

    memcpy(p, s, n);
    return p + n;
}

static char *put_number(char *p, uint64_t v, int digits)
{
    char tmp[20];
    int n = 0;

    do {
        tmp[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0 || n < digits);
    while (n > 0)
        *p++ = tmp[--n];
    return p;
}

static char *put_row(char *p, uint64_t id)
{
    uint64_t r = random64();
    unsigned day = (unsigned)(id / 4096 % 28) + 1;
    unsigned month = (unsigned)(id / 114688 % 12) + 1;

    p = put_number(p, id, 1);
    p = put_text(p, "\t2024-");
    p = put_number(p, month, 2);
    *p++ = '-';
    p = put_number(p, day, 2);
    *p++ = ' ';
    p = put_number(p, id / 171 % 24, 2);
    *p++ = ':';
    p = put_number(p, (r & 0xff) % 60, 2);
    *p++ = ':';
    p = put_number(p, (r >> 8 & 0xff) % 60, 2);
    *p++ = '.';
    p = put_number(p, (r >> 16 & 0xfffff) % 1000000, 6);
    p = put_text(p, "\tS");
    p = put_number(p, id, 8);
    *p++ = '\t';
    p = put_text(p, first_names[(r >> 36 & 0xff) % WORDS(first_names)]);
    *p++ = ' ';
    p = put_text(p, last_names[(r >> 44 & 0xff) % WORDS(last_names)]);
    *p++ = '\t';
    p = put_text(p, states[(r >> 52 & 0xf) % WORDS(states)]);
    *p++ = '\t';
    p = put_number(p, (r >> 20 & 0x3fff), 1);
    *p++ = '.';
    p = put_number(p, (r >> 3 & 0x7f) % 100, 2);
    *p++ = '\t';
    p = put_text(p, notes[(r >> 56 & 0xff) % WORDS(notes)]);
    *p++ = '\n';
    return p;
}

/* Fills exactly len bytes (at least 4 KiB) with one table. */
static void fill_text(char *buf, size_t len, unsigned table)
{
    static uint64_t id;
    char *p = buf, *end = buf + len - 4 - 1;

    if (table == 0)
        p = put_text(p, header);
    p += snprintf(p, (size_t)(end - p), table_format, table, table, table,
                  table, table);
    while (end - p > 2 * ROW_BYTES_MAX)
        p = put_row(p, ++id);
    p = put_text(p, "\\.\n\n");
    end = buf + len - 1;
    p = put_text(p, "--");
    while (p < end)
        *p++ = '-';
    *p = '\n';
}

static void fill_random(char *buf, size_t len)
{
    size_t i = 0;
    uint64_t r;

    for (; i + sizeof(r) <= len; i += sizeof(r)) {
        r = random64();
        memcpy(buf + i, &r, sizeof(r));
    }
    r = random64();
    memcpy(buf + i, &r, len - i);
}

static int fail(const char *what, const char *name)
{
    fprintf(stderr, "mkdump: %s '%s': %s\n", what, name, strerror(errno));
    return 1;
}

static bool write_all(int fd, const char *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, buf, len);

        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            buf += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static int write_dump(int fd, const char *name, uint64_t size, bool text_only)
{
    char *buf = malloc(SECTION_BYTES);

    if (!buf)
        return fail("cannot write", name);
    for (unsigned section = 0; size > 0; section++) {
        size_t len = size < SECTION_BYTES ? (size_t)size : SECTION_BYTES;

        if (len >= 4096 && (text_only || section % 2 == 0))
            fill_text(buf, len, section / (text_only ? 1 : 2));
        else
            fill_random(buf, len);
        if (!write_all(fd, buf, len)) {
            free(buf);
            return fail("cannot write", name);
        }
        size -= len;
    }
    free(buf);
    return 0;
}

static bool parse_size(const char *text, uint64_t *out)
{
    static const char letters[] = "kmgt";
    char *end;
    double v = strtod(text, &end);
    const char *unit;

    if (end == text || v < 0)
        return false;
    if (*end && (unit = strchr(letters, *end | 0x20)) != NULL) {
        double base = (end[1] | 0x20) == 'i' ? 1024 : 1000;

        for (long i = 0; i <= unit - letters; i++)
            v *= base;
        end += base > 1000 ? 2 : 1;
    }
    *out = (uint64_t)v;
    return *end == '\0';
}

int main(int argc, char **argv)
{
    static const struct option table[] = {{"seed", 1, NULL, 's'},
                                          {"text-only", 0, NULL, 't'},
                                          {NULL, 0, NULL, 0}};
    uint64_t size, seed = 1;
    bool text_only = false;
    int c, fd = STDOUT_FILENO, rc;

    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (c == 's')
            seed = strtoull(optarg, NULL, 10);
        else if (c == 't')
            text_only = true;
        else
            return 2;
    }
    if (argc - optind != 2 || !parse_size(argv[optind], &size)) {
        fputs("usage: mkdump SIZE FILE|- [--seed N] [--text-only]\n", stderr);
        return 2;
    }
    for (int i = 0; i < 4; i++)
        rng[i] = splitmix(&seed);
    if (strcmp(argv[optind + 1], "-") != 0)
        fd = open(argv[optind + 1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                  0644);
    if (fd < 0)
        return fail("cannot write", argv[optind + 1]);
    rc = write_dump(fd, argv[optind + 1], size, text_only);
    if (rc == 0 && fd != STDOUT_FILENO && close(fd) < 0)
        rc = fail("cannot write", argv[optind + 1]);
    return rc;
}
