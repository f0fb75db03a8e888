// A host on which the clock is wrong, or no thread can be started, as a library that is loaded before the others.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

// Seconds that the wall clock is said to have, once they stand in a file.
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    const char *path = getenv("TEST_CLOCK_FILE");
    if (result == 0 && clock == CLOCK_REALTIME && path) {
        char seconds[32] = "";
        int file = open(path, O_RDONLY);
        if (file >= 0) {
            if (read(file, seconds, sizeof seconds - 1) > 0) time->tv_sec = atoll(seconds);
            close(file);
        }
    }
    return result;
}

// From the moment that notifications of files are asked for.
static int no_threads;

int inotify_init1(int flags) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "inotify_init1");
    if (getenv("TEST_NO_THREADS_AFTER_INOTIFY")) no_threads = 1;
    return real(flags);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real) real = dlsym(RTLD_NEXT, "pthread_create");
    const char *file = getenv("TEST_NO_THREADS_FILE");
    if (no_threads || (file && access(file, F_OK) == 0)) return EAGAIN;
    return real(thread, attributes, start, argument);
}
