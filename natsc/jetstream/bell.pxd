# What the storage worker's thread needs of the operating system: bells (file descriptors that wake up who waits), the
# clock, mutexes, the thread itself.

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <poll.h>
    #include <pthread.h>
    #include <signal.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    #include <time.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/eventfd.h>
    #endif

    static int bell_open(int fd[2]) {
    #ifdef __linux__
        fd[0] = fd[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return fd[0] < 0 ? errno : 0;
    #else
        if (pipe(fd))
            return errno;
        for (int i = 0; i < 2; i++) {
            fcntl(fd[i], F_SETFD, FD_CLOEXEC);
            fcntl(fd[i], F_SETFL, O_NONBLOCK);
        }
        return 0;
    #endif
    }
    static void bell_close(int fd[2]) {
        if (fd[0] >= 0)
            close(fd[0]);
        if (fd[1] >= 0 && fd[1] != fd[0])
            close(fd[1]);
        fd[0] = fd[1] = -1;
    }
    /* A full pipe or counter is rung already. */
    static void bell_ring(int fd[2]) {
        uint64_t one = 1;
        while (write(fd[1], &one, 8) < 0 && errno == EINTR) {}
    }
    static void bell_clear(int fd[2]) {
        char buf[512];
        ssize_t n;
        do
            n = read(fd[0], buf, sizeof buf);
        while ((n < 0 && errno == EINTR) || n == sizeof buf);
    }
    static void bell_wait(int fd[2], int timeout_ms) {
        struct pollfd p = {fd[0], POLLIN, 0};
        poll(&p, 1, timeout_ms);
    }
    static uint64_t monotonic_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    static void *mutex_new(void) {
        pthread_mutex_t *m = malloc(sizeof *m);
        if (m && pthread_mutex_init(m, NULL)) {
            free(m);
            return NULL;
        }
        return m;
    }
    static void mutex_free(void *m) {
        if (m) {
            pthread_mutex_destroy(m);
            free(m);
        }
    }
    /* A thread that gets no signals: those are for the loop. But its own faults are its own. */
    static int thread_start(unsigned long *thread, void *(*run)(void *), void *arg) {
        pthread_t t;
        sigset_t all, old;
        int rc;
        sigfillset(&all);
        sigdelset(&all, SIGBUS);
        sigdelset(&all, SIGSEGV);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        rc = pthread_create(&t, NULL, run, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        *thread = (unsigned long)t;
        return rc;
    }
    static void thread_join(unsigned long thread) { pthread_join((pthread_t)thread, NULL); }
    """
    int bell_open(int*) noexcept nogil
    void bell_close(int*) noexcept nogil
    void bell_ring(int*) noexcept nogil
    void bell_clear(int*) noexcept nogil
    void bell_wait(int*, int) noexcept nogil
    uint64_t monotonic_ns() noexcept nogil
    void* mutex_new() noexcept nogil
    void mutex_free(void*) noexcept nogil
    int thread_start(unsigned long*, void* (*)(void*) noexcept nogil, void*) noexcept nogil
    void thread_join(unsigned long) noexcept nogil

cdef extern from "pthread.h" nogil:
    int pthread_mutex_lock(void*)
    int pthread_mutex_unlock(void*)
