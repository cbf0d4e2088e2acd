/*
 * Runs a fuzz target over a corpus without a fuzzer: every file of the folders
 * given, as it is, cut after every byte, and with every byte changed in three
 * ways. Long files are changed at a thousand places. Threads: none.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define FILE_MAX (1u << 20)
#define PLACES 1000

static unsigned long runs;

/* A copy of its own size, so that a sanitizer sees a read behind the end. */
static void run(const unsigned char *data, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1);

    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    runs++;
}

static void run_changed(unsigned char *data, size_t size)
{
    static const unsigned char change[] = {0x01, 0x80, 0xff};
    size_t step = size / PLACES + 1;

    for (size_t at = 0; at < size; at += step) {
        unsigned char was = data[at];

        run(data, at);
        for (size_t i = 0; i < sizeof(change); i++) {
            data[at] = was ^ change[i];
            run(data, size);
        }
        data[at] = was;
    }
}

static int run_file(const char *folder, const char *name)
{
    static unsigned char data[FILE_MAX];
    char path[4096];
    size_t size;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    size = fread(data, 1, sizeof(data), f);
    fclose(f);
    run(data, size);
    run_changed(data, size);
    return 0;
}

int main(int argc, char **argv)
{
    int rc = 0;

    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        struct dirent *e;
        unsigned long before = runs;

        if (!d) {
            perror(argv[i]);
            return 1;
        }
        while ((e = readdir(d)))
            if (e->d_name[0] != '.')
                rc |= run_file(argv[i], e->d_name);
        closedir(d);
        printf("%s: %lu inputs\n", argv[i], runs - before);
    }
    if (!runs)
        fprintf(stderr, "no input: a corpus is a folder of files\n");
    return rc || !runs;
}
