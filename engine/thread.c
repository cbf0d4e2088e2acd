/* See thread.h. */
#include "thread.h"

#include <signal.h>

int hl_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *),
                    void *arg)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!rc)
        pthread_setname_np(*thread, name);
    return rc;
}
