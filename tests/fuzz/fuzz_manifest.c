/* Manifests: damaged ones are refused, accepted ones are consistent and come
 * back the same after they were written again. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "manifest.h"

/* The input as a file that needs no disk. */
static int make_file(const uint8_t *data, size_t size, char *path, size_t cap)
{
    int fd = memfd_create("manifest", MFD_CLOEXEC);

    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(write(fd, data, size) == (ssize_t)size);
    snprintf(path, cap, "/proc/self/fd/%d", fd);
    return fd;
}

/* What is not UTF-8 in a name is not written as it was read. */
static bool is_ascii(const char *s)
{
    while (*s > 0)
        s++;
    return !*s;
}

static void check_again(const struct hl_manifest *m)
{
    const char *folder = getenv("TMPDIR");
    uint8_t root[16], root_again[16];
    struct hl_error err = {0};
    struct hl_manifest again;
    char path[4096];

    snprintf(path, sizeof(path), "%s/fuzz-%ld.json", folder ? folder : "/tmp",
             (long)getpid());
    FUZZ_CHECK(hl_manifest_write(m, path, &err) == 0);
    FUZZ_CHECK(hl_manifest_read(path, &again, &err) == 0);
    FUZZ_CHECK(unlink(path) == 0);
    FUZZ_CHECK(again.size == m->size && again.count == m->count);
    FUZZ_CHECK(again.has_whole == m->has_whole);
    FUZZ_CHECK(!is_ascii(m->name) || !strcmp(again.name, m->name));
    hl_manifest_root(m, root);
    hl_manifest_root(&again, root_again);
    FUZZ_CHECK(!memcmp(root, root_again, sizeof(root)));
    hl_manifest_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hl_error err = {0};
    struct hl_manifest m;
    char path[64];
    int fd = make_file(data, size, path, sizeof(path));
    int rc = hl_manifest_read(path, &m, &err);

    FUZZ_CHECK(close(fd) == 0);
    FUZZ_CHECK(rc == 0 || (rc == HAUL_E_FORMAT && err.message[0]));
    if (rc == 0) {
        FUZZ_CHECK(m.chunk_size > 0 && m.digest && m.name);
        FUZZ_CHECK(m.count ==
                   m.size / m.chunk_size + (m.size % m.chunk_size != 0));
        check_again(&m);
        hl_manifest_fini(&m);
    }
    FUZZ_CHECK(hl_mem_live() == 0);
    return 0;
}
