/* A library to preload: calls on the store's data file fail as a control file says, which may change at any time.
 *
 * NATSC_FAIL names that file. Its text: the name of a call (write, fdatasync, read), an errno, how many calls of the
 * name are let through first. Every call on the data file adds a line to the file of the same name with ".calls".
 * NATSC_FAIL_FILE is the end of another file's path, instead of /data.mdb. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int let_through;

static int fails(int fd, const char *call) {
    static __thread int busy;
    char link[64], path[4096], wanted[32];
    const char *control = getenv("NATSC_FAIL"), *file_name = getenv("NATSC_FAIL_FILE");
    FILE *file;
    ssize_t n;
    int code = 0, after = 0, got = 0;
    if (busy || !control)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (!file_name)
        file_name = "/data.mdb";
    if (n < (ssize_t)strlen(file_name) || memcmp(path + n - strlen(file_name), file_name, strlen(file_name)) != 0)
        return 0;
    busy = 1;
    file = fopen(control, "r");
    if (file) {
        got = fscanf(file, "%31s %d %d", wanted, &code, &after);
        fclose(file);
    }
    if (got < 3 || strcmp(wanted, call) != 0)
        code = 0;
    else if (let_through < after)
        let_through++, code = 0;
    snprintf(path, sizeof path, "%s.calls", control);
    file = fopen(path, "a");
    if (file) {
        fprintf(file, "%s %d\n", call, code);
        fclose(file);
    }
    busy = 0;
    errno = code;
    return code != 0;
}

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *p, size_t n) {
    return fails(fd, "write") ? -1 : NEXT(ssize_t (*)(int, const void *, size_t), "write")(fd, p, n);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at) {
    return fails(fd, "write") ? -1 : NEXT(ssize_t (*)(int, const void *, size_t, off_t), "pwrite")(fd, p, n, at);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off_t at) {
    return fails(fd, "write") ? -1 : NEXT(ssize_t (*)(int, const void *, size_t, off_t), "pwrite64")(fd, p, n, at);
}
ssize_t writev(int fd, const struct iovec *v, int n) {
    return fails(fd, "write") ? -1 : NEXT(ssize_t (*)(int, const struct iovec *, int), "writev")(fd, v, n);
}
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) {
    return fails(fd, "write") ? -1 : NEXT(ssize_t (*)(int, const struct iovec *, int, off_t), "pwritev")(fd, v, n, at);
}
int fdatasync(int fd) { return fails(fd, "fdatasync") ? -1 : NEXT(int (*)(int), "fdatasync")(fd); }
int fsync(int fd) { return fails(fd, "fdatasync") ? -1 : NEXT(int (*)(int), "fsync")(fd); }
