/* What the programs of tests/api share. They see the public headers only. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "haul.h"

#define CHECK(x)                                                               \
    do {                                                                       \
        if (!(x)) {                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);            \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

/* For a value that has to be seen when it is wrong. */
#define CHECK_INT(a, b)                                                        \
    do {                                                                       \
        long long a_ = (a), b_ = (b);                                          \
                                                                               \
        if (a_ != b_) {                                                        \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__,         \
                    __LINE__, #a, a_, b_);                                     \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

/* An engine with its state store in the test's folder. */
static inline struct haul_engine *new_engine(const char *name)
{
    const char *folder = getenv("TMPDIR");
    struct haul_engine *e;
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s.db", folder ? folder : "/tmp", name);
    CHECK_INT(haul_engine_new(&e), HAUL_OK);
    CHECK_INT(haul_engine_set_str(e, HAUL_OPT_STATE, path), HAUL_OK);
    return e;
}

#endif /* CHECK_H */
