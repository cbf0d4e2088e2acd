/* Manifests: written byte for byte as documented, roots as xxhsum -H2 gives
 * them for the documented bytes, damaged files refused. The digests of the
 * test chunks are byte i = i * 37 + 11 of one row. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "manifest.h"

static char folder[] = "/tmp/haul-test-manifest-XXXXXX";
static char path[128];

/* size 10,000,000 in chunks of 4 MiB, digests of 16 bytes. */
#define GOOD_HEAD                                                              \
    "{\"haul_manifest\":1,\n"                                                  \
    "\"name\":\"dump.sql\",\n"                                                 \
    "\"size\":10000000,\n"                                                     \
    "\"chunk_size\":4194304,\n"                                                \
    "\"digest\":\"xxh128\",\n"                                                 \
    "\"root\":\"xxh128:39a5267df17856d821700fcc5b5a88f0\",\n"
#define GOOD_CHUNKS                                                            \
    "\"chunks\":[\n"                                                           \
    "\"0b30557a9fc4e90e33587da2c7ec1136\",\n"                                  \
    "\"5b80a5caef14395e83a8cdf2173c6186\",\n"                                  \
    "\"abd0f51a3f6489aed3f81d42678cb1d6\"\n"                                   \
    "]}\n"
#define GOOD GOOD_HEAD "\"whole\":null,\n" GOOD_CHUNKS

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/dump.haul.json", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder); /* fails when a temporary file is left */
}

static void put_file(const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static char *get_file(size_t *len)
{
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 1 << 16);

    assert_non_null(f);
    assert_non_null(text);
    *len = fread(text, 1, (1 << 16) - 1, f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void make_manifest(struct hl_manifest *m, const char *name,
                          const char *digest, uint64_t size)
{
    memset(m, 0, sizeof(*m));
    m->name = hl_strdup(name);
    m->size = size;
    m->chunk_size = 4194304;
    m->digest = hl_digest_find(digest);
    m->count = (size + 4194303) / 4194304;
    m->chunks = hl_malloc(m->count * m->digest->size + 1);
    assert_non_null(m->chunks);
    for (size_t i = 0; i < m->count * m->digest->size; i++)
        m->chunks[i] = (uint8_t)(i * 37 + 11);
}

static void expect_root(const char *digest, uint64_t size, const char *want)
{
    struct hl_manifest m;
    uint8_t root[16];
    char hex[33];

    make_manifest(&m, "x", digest, size);
    hl_manifest_root(&m, root);
    hl_hex(root, 16, hex);
    assert_string_equal(hex, want);
    hl_manifest_fini(&m);
}

static void root_equals_xxhsum_of_the_bytes(void **state)
{
    (void)state;
    expect_root("xxh128", 10000000, "39a5267df17856d821700fcc5b5a88f0");
    expect_root("sha256", 10000000, "f51ea8df11fb65f30e99c698ebaea701");
    expect_root("xxh128", 0, "4a667face95d5517559f2ef991a88d60");
    expect_root("xxh128", UINT64_C(102400) * 4194304,
                "63d6766d6039b6365030a28ab2112859");
}

static void written_as_documented(void **state)
{
    struct hl_manifest m;
    char *text;
    size_t len;

    (void)state;
    make_manifest(&m, "dump.sql", "xxh128", 10000000);
    assert_int_equal(hl_manifest_write(&m, path, NULL), HAUL_OK);
    text = get_file(&len);
    assert_string_equal(text, GOOD);
    free(text);
    m.has_whole = true;
    memset(m.whole, 0xab, 16);
    assert_int_equal(hl_manifest_write(&m, path, NULL), HAUL_OK);
    text = get_file(&len);
    assert_string_equal(text, GOOD_HEAD
                        "\"whole\":\"xxh128:"
                        "abababababababababababababababab\",\n" GOOD_CHUNKS);
    free(text);
    hl_manifest_fini(&m);
}

static void written_with_the_mode_of_the_umask(void **state)
{
    struct hl_manifest m;
    struct stat st;
    mode_t old = umask(027);

    (void)state;
    (void)unlink(path);
    make_manifest(&m, "x", "xxh128", 1);
    assert_int_equal(hl_manifest_write(&m, path, NULL), HAUL_OK);
    umask(old);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    hl_manifest_fini(&m);
}

static void expect_round_trip(const char *name, const char *name_read,
                              const char *digest, uint64_t size, bool whole)
{
    struct hl_manifest m, r;
    struct hl_error err = {0};

    make_manifest(&m, name, digest, size);
    m.has_whole = whole;
    if (whole)
        memset(m.whole, 0x5a, m.digest->size);
    assert_int_equal(hl_manifest_write(&m, path, &err), HAUL_OK);
    assert_int_equal(hl_manifest_read(path, &r, &err), HAUL_OK);
    assert_string_equal(r.name, name_read);
    assert_int_equal(r.size, m.size);
    assert_int_equal(r.chunk_size, m.chunk_size);
    assert_ptr_equal(r.digest, m.digest);
    assert_int_equal(r.count, m.count);
    assert_memory_equal(r.chunks, m.chunks, m.count * m.digest->size);
    assert_int_equal(r.has_whole, whole);
    assert_memory_equal(r.whole, m.whole, HL_DIGEST_MAX);
    hl_manifest_fini(&r);
    hl_manifest_fini(&m);
}

static void what_is_written_is_read(void **state)
{
    char longest[256];

    (void)state;
    memset(longest, ',', 255);
    longest[255] = '\0';
    expect_round_trip("dump.sql", "dump.sql", "xxh128", 10000000, true);
    expect_round_trip("dump.sql", "dump.sql", "sha256", 10000000, true);
    expect_round_trip("d", "d", "xxh128", 0, false);
    expect_round_trip("d", "d", "xxh128", 1, false);
    expect_round_trip("d", "d", "xxh128", 4194304, false);
    expect_round_trip("d", "d", "xxh128", 4194305, false);
    expect_round_trip(longest, longest, "xxh128", 1, false);
}

static void any_file_name_survives_json(void **state)
{
    static const char odd[] = "a\"b\\c\n\t\x01\x1f\x7f<script>'{}[],: "
                              "\xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\x9a";

    (void)state;
    expect_round_trip(odd, odd, "xxh128", 1, false);
}

static void bytes_that_are_no_utf8_are_replaced(void **state)
{
#define R "\xef\xbf\xbd"
    (void)state;
    expect_round_trip("a\xff"
                      "b",
                      "a" R "b", "xxh128", 1, false);
    expect_round_trip("\x80", R, "xxh128", 1, false);
    expect_round_trip("\xc3", R, "xxh128", 1, false);       /* cut off */
    expect_round_trip("\xe2\x82", R R, "xxh128", 1, false); /* cut off */
    expect_round_trip("\xc0\xaf", R R, "xxh128", 1, false); /* overlong */
    expect_round_trip("\xe0\x9f\xbf", R R R, "xxh128", 1, false);
    expect_round_trip("\xed\xa0\x80", R R R, "xxh128", 1, false);
    expect_round_trip("\xf0\x8f\xbf\xbf", R R R R, "xxh128", 1, false);
    expect_round_trip("\xf4\x90\x80\x80", R R R R, "xxh128", 1, false);
    expect_round_trip("\xf5\x80\x80\x80", R R R R, "xxh128", 1, false);
    expect_round_trip("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf",
                      "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", "xxh128", 1,
                      false);
#undef R
}

static void expect_read(const char *text, int code)
{
    struct hl_manifest m;
    struct hl_error err = {0};
    int rc;

    put_file(text, strlen(text));
    rc = hl_manifest_read(path, &m, &err);
    if (rc != code)
        print_error("for: %s\nsaid: %s %s\n", text, err.message, err.detail);
    assert_int_equal(rc, code);
    assert_int_equal(err.code, code);
    if (rc) {
        assert_null(m.name);
        assert_null(m.chunks);
    }
    hl_manifest_fini(&m);
}

/* GOOD with one place replaced. */
static void expect_changed(const char *from, const char *to, int code)
{
    char text[2048];
    const char *at = strstr(GOOD, from);

    assert_non_null(at);
    (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - GOOD), GOOD, to,
                   at + strlen(from));
    expect_read(text, code);
}

static void other_layouts_of_the_same_json_are_read(void **state)
{
    (void)state;
    expect_read(GOOD, HAUL_OK);
    expect_changed("{", " \r\n{ \"later\" : [{\"name\":1},null] ,", HAUL_OK);
    expect_changed("\"name\"", "\"na\\u006de\"", HAUL_OK);
    expect_changed("0b30557a", "0B30557A", HAUL_OK);
    expect_read("{\"chunks\":[\"0b30557a9fc4e90e33587da2c7ec1136\","
                "\"5b80a5caef14395e83a8cdf2173c6186\","
                "\"abd0f51a3f6489aed3f81d42678cb1d6\"],\"whole\":null,"
                "\"root\":\"xxh128:39a5267df17856d821700fcc5b5a88f0\","
                "\"digest\":\"xxh128\",\"chunk_size\":4194304,"
                "\"size\":10000000,\"name\":\"dump.sql\","
                "\"haul_manifest\":1}",
                HAUL_OK);
}

static void what_is_no_json_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "null",
        "1",
        "\"haul_manifest\"",
        "[]",
        "{}",
        "{",
        "[1",
        "\xef\xbb\xbf" GOOD,
        GOOD "x",
        GOOD GOOD,
        "PGDMP\x01\x0e",
        "{\"haul_manifest\":1}",
        "{haul_manifest:1}",
        "{\"haul_manifest\":",
    };

    (void)state;
    for (size_t i = 0; i < HL_LEN(texts); i++)
        expect_read(texts[i], HAUL_E_FORMAT);
    put_file(GOOD "\0x", sizeof(GOOD) + 1); /* SQLite would stop there */
    assert_int_equal(hl_manifest_read(path, &(struct hl_manifest){0}, NULL),
                     HAUL_E_FORMAT);
}

static void every_truncation_is_refused(void **state)
{
    struct hl_manifest m;

    (void)state;
    /* Without the last newline it is still whole. */
    for (size_t len = 0; len < strlen(GOOD) - 1; len++) {
        put_file(GOOD, len);
        assert_int_equal(hl_manifest_read(path, &m, NULL), HAUL_E_FORMAT);
    }
}

/* A changed byte is refused, or it changed neither size, chunk size nor
 * digests (a letter's case, a space, the name). */
static void no_flipped_byte_changes_a_digest(void **state)
{
    struct hl_manifest good, m;
    char text[sizeof(GOOD)];
    size_t refused = 0;

    (void)state;
    make_manifest(&good, "dump.sql", "xxh128", 10000000);
    for (size_t i = 0; i < 8 * strlen(GOOD); i++) {
        memcpy(text, GOOD, sizeof(text));
        text[i / 8] = (char)(text[i / 8] ^ 1 << i % 8);
        put_file(text, strlen(GOOD));
        if (hl_manifest_read(path, &m, NULL) != HAUL_OK) {
            refused++;
            continue;
        }
        assert_int_equal(m.size, good.size);
        assert_int_equal(m.chunk_size, good.chunk_size);
        assert_int_equal(m.count, good.count);
        assert_memory_equal(m.chunks, good.chunks, 48);
        hl_manifest_fini(&m);
    }
    assert_true(refused > 6 * strlen(GOOD));
    hl_manifest_fini(&good);
}

/* What is replaced in GOOD, by what. */
static const char *const wrong[][2] = {
    {"\"haul_manifest\":1", "\"haul_manifest\":0"},
    {"\"haul_manifest\":1", "\"haul_manifest\":-1"},
    {"\"haul_manifest\":1", "\"haul_manifest\":\"1\""},
    {"\"haul_manifest\":1", "\"haul_manifest\":1.0"},
    {"\"haul_manifest\":1", "\"haul_manifest\":null"},
    {"\"haul_manifest\":1,", ""},
    {"\"haul_manifest\":1,", "\"haul_manifest\":1,\"haul_manifest\":1,"},
    {"\"name\":\"dump.sql\",\n", ""},
    {"\"dump.sql\"", "\"\""},
    {"\"dump.sql\"", "\".\""},
    {"\"dump.sql\"", "\"..\""},
    {"\"dump.sql\"", "\"/etc/passwd\""},
    {"\"dump.sql\"", "\"..\\u002fx\""},
    {"\"dump.sql\"", "7"},
    {"\"dump.sql\"", "[\"dump.sql\"]"},
    {"\"size\":10000000,\n", ""},
    {":10000000", ":-10000000"},
    {":10000000", ":10000001"}, /* the root has the size */
    {":10000000", ":1"},
    {":10000000", ":12582913"}, /* four chunks */
    {":10000000", ":10000000.5"},
    {":10000000", ":1e7"},
    {":10000000", ":\"10000000\""},
    {":10000000", ":9223372036854775807"},
    {":10000000", ":9223372036854775808"},
    {":10000000", ":18446744073709551616"},
    {":10000000", ":99999999999999999999999999"},
    {"\"chunk_size\":4194304,\n", ""},
    {":4194304", ":0"},
    {":4194304", ":-4194304"},
    {":4194304", ":1"},
    {":4194304", ":4194305"}, /* the root has the chunk size */
    {":4194304", ":9223372036854775807"},
    {"\"digest\":\"xxh128\",\n", ""},
    {"\"digest\":\"xxh128\"", "\"digest\":\"md5\""},
    {"\"digest\":\"xxh128\"", "\"digest\":\"sha256\""},
    {"\"digest\":\"xxh128\"", "\"digest\":1"},
    {"xxh128:39a5", "xxh128:39a4"},
    {"xxh128:39a5", "sha256:39a5"},
    {"xxh128:39a5", "39a5"},
    {"xxh128:39a5", "xxh128:9a5"},
    {"xxh128:39a5", "xxh128:039a5"},
    {"xxh128:39a5", "xxh128:39g5"},
    {"\"whole\":null,\n", ""},
    {"\"whole\":null", "\"whole\":0"},
    {"\"whole\":null", "\"whole\":false"},
    {"\"whole\":null", "\"whole\":\"\""},
    {"\"whole\":null", "\"whole\":\"xxh128:\""},
    {"\"whole\":null", "\"whole\":\"0b30557a9fc4e90e33587da2c7ec1136\""},
    {"\"whole\":null", "\"whole\":\"sha256:0b30557a9fc4e90e33587da2c7ec1136\""},
    {"\"chunks\":[", "\"blocks\":["},
    {"\"chunks\":[", "\"chunks\":[],\"chunks\":["},
    {"\"chunks\":[", "\"chunks\":[\"\","},
    {"\"chunks\":[", "\"chunks\":[null,"},
    {"\"chunks\":[", "\"chunks\":[\"0b30557a9fc4e90e33587da2c7ec1136\","},
    {"\"0b30557a9fc4e90e33587da2c7ec1136\",", ""},
    {"\"0b30557a9fc4e90e33587da2c7ec1136\"", "null"},
    {"\"0b30557a9fc4e90e33587da2c7ec1136\"", "{}"},
    {"\"0b30557a9fc4e90e33587da2c7ec1136\"",
     "[\"0b30557a9fc4e90e33587da2c7ec1136\"]"},
    {"0b30557a", "1b30557a"},
    {"0b30557a", "b30557a"},
    {"0b30557a", "00b30557a"},
    {"0b30557a", "xb30557a"},
    {"abd0f51a3f6489aed3f81d42678cb1d6\"\n]",
     "abd0f51a3f6489aed3f81d42678cb1d6\",\n]"},
};

static void wrong_values_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < HL_LEN(wrong); i++)
        expect_changed(wrong[i][0], wrong[i][1], HAUL_E_FORMAT);
}

/* The root fits the number that this one would be cut to. */
static void numbers_are_not_cut_to_fit(void **state)
{
    (void)state;
#define HUGE_CHUNKS(n)                                                         \
    "{\"haul_manifest\":1,\"name\":\"n\",\"size\":1,\"chunk_size\":" n         \
    ",\"digest\":\"xxh128\",\"root\":\"xxh128:"                                \
    "0b976f4b638c85daa201524efe0c97ba\",\"whole\":null,\"chunks\":["           \
    "\"00000000000000000000000000000000\"]}"
    expect_read(HUGE_CHUNKS("9223372036854775807"), HAUL_OK);
    expect_read(HUGE_CHUNKS("9223372036854775808"), HAUL_E_FORMAT);
#undef HUGE_CHUNKS
}

static void swapped_chunks_are_refused(void **state)
{
    (void)state;
    expect_changed("\"0b30557a9fc4e90e33587da2c7ec1136\",\n"
                   "\"5b80a5caef14395e83a8cdf2173c6186\"",
                   "\"5b80a5caef14395e83a8cdf2173c6186\",\n"
                   "\"0b30557a9fc4e90e33587da2c7ec1136\"",
                   HAUL_E_FORMAT);
}

static void newer_format_says_so(void **state)
{
    struct hl_manifest m;
    struct hl_error err = {0};

    (void)state;
    put_file("{\"haul_manifest\":2,\"chunks\":7}", 30);
    assert_int_equal(hl_manifest_read(path, &m, &err), HAUL_E_FORMAT);
    assert_non_null(strstr(err.message, "newer haul"));
    assert_non_null(strstr(err.hint, "newer haul"));
}

/* 16 MiB of '[' or of "0," must not become a multiple of that in memory. */
static void bombs_are_refused_before_they_are_parsed(void **state)
{
    static const char *const heads[] = {"{\"haul_manifest\":1,\"chunks\":[",
                                        "[", "{\"a\":"};
    const size_t size = 16u << 20;
    char *text = malloc(size);
    struct hl_manifest m;
    struct hl_error err = {0};

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < HL_LEN(heads); i++) {
        for (size_t at = 0; at < size; at++)
            text[at] = i == 1 ? '[' : at % 2 ? ',' : '0';
        memcpy(text, heads[i], strlen(heads[i]));
        put_file(text, size);
        hl_err_clear(&err);
        assert_int_equal(hl_manifest_read(path, &m, &err), HAUL_E_FORMAT);
        assert_string_equal(err.detail, "too many values");
    }
    free(text);
}

static void more_than_a_gibibyte_is_refused(void **state)
{
    struct hl_manifest m;
    struct hl_error err = {0};

    (void)state;
    put_file("{", 1);
    assert_int_equal(truncate(path, (1 << 30) + 1), 0);
    assert_int_equal(hl_manifest_read(path, &m, &err), HAUL_E_FORMAT);
    assert_non_null(strstr(err.message, "larger"));
}

static void what_cannot_be_read_is_a_read_error(void **state)
{
    struct hl_manifest m;
    struct hl_error err = {0};

    (void)state;
    (void)unlink(path);
    assert_int_equal(hl_manifest_read(path, &m, &err), HAUL_E_READ);
    assert_int_equal(err.sys_errno, ENOENT);
    hl_err_clear(&err);
    assert_int_equal(hl_manifest_read(folder, &m, &err), HAUL_E_READ);
    assert_int_equal(err.sys_errno, EISDIR);
}

static size_t files_in_folder(void)
{
    DIR *d = opendir(folder);
    size_t n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void failed_write_leaves_the_old_and_nothing_else(void **state)
{
    struct hl_manifest m;
    struct hl_error err = {0};
    char bad[256];

    (void)state;
    make_manifest(&m, "x", "xxh128", 1);
    put_file(GOOD, strlen(GOOD));
    assert_int_equal(hl_manifest_write(&m, folder, &err), HAUL_E_WRITE);
    hl_err_clear(&err);
    (void)snprintf(bad, sizeof(bad), "%s/none/x.json", folder);
    assert_int_equal(hl_manifest_write(&m, bad, &err), HAUL_E_WRITE);
    assert_int_equal(err.sys_errno, ENOENT);
    hl_err_clear(&err);
    /* A folder in the way: the rename fails after the file was written. */
    (void)snprintf(bad, sizeof(bad), "%s/way", folder);
    assert_int_equal(mkdir(bad, 0700), 0);
    assert_int_equal(hl_manifest_write(&m, bad, &err), HAUL_E_WRITE);
    assert_int_equal(rmdir(bad), 0);
    assert_int_equal(files_in_folder(), 1);
    expect_read(GOOD, HAUL_OK);
    hl_manifest_fini(&m);
}

/* The folder of a name without a slash is the present one. */
static void bare_name_is_written_here(void **state)
{
    struct hl_manifest m;
    char before[4096];
    struct stat st;

    (void)state;
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(folder), 0);
    make_manifest(&m, "x", "xxh128", 1);
    (void)unlink("dump.haul.json");
    assert_int_equal(hl_manifest_write(&m, "dump.haul.json", NULL), HAUL_OK);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(stat(path, &st), 0);
    hl_manifest_fini(&m);
}

static void longest_name_leaves_room_for_the_temporary(void **state)
{
    struct hl_manifest m;
    char name[512];

    (void)state;
    (void)snprintf(name, sizeof(name), "%s/%0255d", folder, 7);
    make_manifest(&m, "x", "xxh128", 1);
    assert_int_equal(hl_manifest_write(&m, name, NULL), HAUL_OK);
    assert_int_equal(unlink(name), 0);
    hl_manifest_fini(&m);
}

/* 400 GiB in chunks of 4 MiB: well below a second. */
static void four_hundred_gibibytes_are_quick(void **state)
{
    struct timespec a, b;
    double seconds;

    (void)state;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    expect_round_trip("d", "d", "xxh128", UINT64_C(400) << 30, false);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    seconds =
        (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    print_message("write and read: %.3f s\n", seconds);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(seconds < 1.0);
#endif
}

static void every_failed_allocation_is_reported(void **state)
{
    struct hl_manifest m, r;
    int rc = HAUL_E_NOMEM;

    (void)state;
    make_manifest(&m, "x", "xxh128", 10000000);
    m.has_whole = true;
    for (int64_t n = 1; rc; n++) {
        hl_mem_fail_at(n, false);
        rc = hl_manifest_write(&m, path, NULL);
        hl_mem_fail_at(0, false);
        assert_true(rc == HAUL_OK || rc == HAUL_E_NOMEM || rc == HAUL_E_WRITE);
        assert_true(n < 100);
    }
    rc = HAUL_E_NOMEM;
    for (int64_t n = 1; rc; n++) {
        hl_mem_fail_at(n, false);
        rc = hl_manifest_read(path, &r, NULL);
        hl_mem_fail_at(0, false);
        assert_true(rc == HAUL_OK || rc == HAUL_E_NOMEM);
        assert_true(n < 100);
    }
    hl_manifest_fini(&r);
    hl_manifest_fini(&m);
}

static void nothing_stays_allocated(void **state)
{
    (void)state;
    assert_int_equal(hl_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(root_equals_xxhsum_of_the_bytes),
        cmocka_unit_test(written_as_documented),
        cmocka_unit_test(written_with_the_mode_of_the_umask),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(any_file_name_survives_json),
        cmocka_unit_test(bytes_that_are_no_utf8_are_replaced),
        cmocka_unit_test(other_layouts_of_the_same_json_are_read),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(no_flipped_byte_changes_a_digest),
        cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(numbers_are_not_cut_to_fit),
        cmocka_unit_test(swapped_chunks_are_refused),
        cmocka_unit_test(newer_format_says_so),
        cmocka_unit_test(bombs_are_refused_before_they_are_parsed),
        cmocka_unit_test(more_than_a_gibibyte_is_refused),
        cmocka_unit_test(what_cannot_be_read_is_a_read_error),
        cmocka_unit_test(failed_write_leaves_the_old_and_nothing_else),
        cmocka_unit_test(bare_name_is_written_here),
        cmocka_unit_test(longest_name_leaves_room_for_the_temporary),
        cmocka_unit_test(four_hundred_gibibytes_are_quick),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(nothing_stays_allocated),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
