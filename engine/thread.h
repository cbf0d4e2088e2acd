/* Threads of the library: with every signal blocked, since signals belong to
 * the caller's threads. */
#ifndef HL_THREAD_H
#define HL_THREAD_H

#include <pthread.h>

#include "base.h"

/* name: at most 15 bytes, shown by ps and debuggers. Returns 0 or an errno. */
int hl_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *),
                    void *arg);

#endif /* HL_THREAD_H */
