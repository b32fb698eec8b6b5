/* Writes down what a process does to the files of a directory, and what it sends: for tests/crash/images.py.

LD_PRELOAD it with NATSC_SHIM_DIR (an absolute path; what lies below it counts) and NATSC_SHIM_LOG (a file, appended to).
Every call is passed on. The log's order is that of a pessimist: a write is written down before it is made, the end of a
sync after it, and what is sent before anybody else can write anything down. So whatever the log says was sent before a
sync ended was sent before it ended.

A record: kind (1 byte), flags (1), length of the path (2), number of the descriptor or process (4), offset (8), length
of the data (8), path, data. Kinds: P a process starts, C a file is made, M a directory is made, W data is written
(flag 1: the file is open with O_DSYNC or O_SYNC), E that write, which is synced by itself, has ended, T a file gets
another size (offset), F a sync of a file or directory begins, G it has ended well, R a file is renamed (data: its new
path), U removed, S data is sent. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct record {
    uint8_t kind, flags;
    uint16_t path_len;
    uint32_t number;
    uint64_t offset, data_len;
} __attribute__((packed));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char dir[PATH_MAX];
static size_t dir_len;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

static void put(const void *p, size_t n)
{
    while (n) {
        long done = syscall(SYS_write, log_fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            abort(); /* a log with a hole would prove nothing */
        p = (const char *)p + done;
        n -= (size_t)done;
    }
}

/* With the lock held. */
static void note_iov(char kind, int flags, uint32_t number, uint64_t offset, const char *path, const struct iovec *iov,
                     int count, size_t n)
{
    struct record r = {(uint8_t)kind, (uint8_t)flags, (uint16_t)strlen(path), number, offset, n};
    int kept = errno;
    put(&r, sizeof r);
    put(path, r.path_len);
    for (int i = 0; i < count && n; i++) {
        size_t part = iov[i].iov_len < n ? iov[i].iov_len : n;
        put(iov[i].iov_base, part);
        n -= part;
    }
    errno = kept;
}

static void note(char kind, int flags, uint32_t number, uint64_t offset, const char *path, const void *data, size_t n)
{
    struct iovec iov = {(void *)data, n};
    pthread_mutex_lock(&lock);
    note_iov(kind, flags, number, offset, path, &iov, 1, n);
    pthread_mutex_unlock(&lock);
}

static int below(const char *path)
{
    return log_fd >= 0 && strncmp(path, dir, dir_len) == 0 && (path[dir_len] == '/' || path[dir_len] == 0);
}

/* The path of a descriptor, if it is a file or directory that counts. */
static int path_of(int fd, char out[PATH_MAX])
{
    char link[64];
    ssize_t n;
    if (log_fd < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, out, PATH_MAX - 1);
    if (n <= 0)
        return 0;
    out[n] = 0;
    return below(out);
}

/* A path that needn't exist yet, made absolute. */
static int path_at(int at, const char *path, char out[PATH_MAX])
{
    char base[PATH_MAX];
    if (log_fd < 0)
        return 0;
    if (path[0] == '/') {
        base[0] = 0;
    } else if (at == AT_FDCWD) {
        if (!getcwd(base, sizeof base))
            return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t n = readlink(link, base, sizeof base - 1);
        if (n <= 0)
            return 0;
        base[n] = 0;
    }
    if (snprintf(out, PATH_MAX, base[0] ? "%s/%s" : "%s%s", base, path) >= PATH_MAX)
        return 0;
    for (size_t n = strlen(out); n > 1 && out[n - 1] == '/'; n--)
        out[n - 1] = 0;
    return below(out);
}

__attribute__((constructor)) static void start(void)
{
    const char *log_path = getenv("NATSC_SHIM_LOG"), *prefix = getenv("NATSC_SHIM_DIR");
    if (!log_path || !prefix)
        return;
    dir_len = strlen(prefix);
    memcpy(dir, prefix, dir_len + 1);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        abort();
    note('P', 0, (uint32_t)getpid(), 0, "", "", 0);
}

/* Names */

static int open_noted(int at, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    struct stat s;
    int counts = flags & O_CREAT && path_at(at, path, full) && stat(full, &s) != 0;
    if (counts)
        note('C', 0, 0, 0, full, "", 0);
    return (int)syscall(SYS_openat, at, path, flags, mode);
}

#define MODE(flags)                                    \
    mode_t mode = 0;                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {             \
        va_list args;                                  \
        va_start(args, flags);                         \
        mode = va_arg(args, mode_t);                   \
        va_end(args);                                  \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_noted(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_noted(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_noted(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_noted(at, path, flags, mode); }

int mkdir(const char *path, mode_t mode)
{
    char full[PATH_MAX];
    int rc = REAL(mkdir)(path, mode);
    if (rc == 0 && path_at(AT_FDCWD, path, full))
        note('M', 0, 0, 0, full, "", 0);
    return rc;
}

int rename(const char *from, const char *to)
{
    char a[PATH_MAX], b[PATH_MAX];
    if (path_at(AT_FDCWD, from, a) && path_at(AT_FDCWD, to, b))
        note('R', 0, 0, 0, a, b, strlen(b));
    return REAL(rename)(from, to);
}

int unlink(const char *path)
{
    char full[PATH_MAX];
    if (path_at(AT_FDCWD, path, full))
        note('U', 0, 0, 0, full, "", 0);
    return REAL(unlink)(path);
}

/* Files */

static ssize_t write_noted(int fd, const struct iovec *iov, int count, off_t offset, int positioned)
{
    char path[PATH_MAX];
    struct stat s;
    size_t n = 0;
    ssize_t done;
    int dsync;
    uint64_t at;
    for (int i = 0; i < count; i++)
        n += iov[i].iov_len;
    if (log_fd >= 0 && fstat(fd, &s) == 0 && S_ISSOCK(s.st_mode)) {
        pthread_mutex_lock(&lock);
        done = REAL(writev)(fd, iov, count);
        if (done > 0)
            note_iov('S', 0, (uint32_t)fd, 0, "", iov, count, (size_t)done);
        pthread_mutex_unlock(&lock);
        return done;
    }
    if (!path_of(fd, path))
        return positioned ? REAL(pwritev)(fd, iov, count, offset) : REAL(writev)(fd, iov, count);
    dsync = (fcntl(fd, F_GETFL) & (O_DSYNC | O_SYNC)) != 0;
    at = positioned ? (uint64_t)offset : (uint64_t)lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    pthread_mutex_lock(&lock);
    note_iov('W', dsync, (uint32_t)fd, at, path, iov, count, n);
    pthread_mutex_unlock(&lock);
    done = positioned ? REAL(pwritev)(fd, iov, count, offset) : REAL(writev)(fd, iov, count);
    if (done != (ssize_t)n)
        abort(); /* not on the disks these tests use */
    if (dsync)
        note('E', 0, (uint32_t)fd, at, path, "", 0);
    return done;
}

static ssize_t write_one(int fd, const void *p, size_t n, off_t offset, int positioned)
{
    struct iovec iov = {(void *)p, n};
    return write_noted(fd, &iov, 1, offset, positioned);
}

ssize_t write(int fd, const void *p, size_t n) { return write_one(fd, p, n, 0, 0); }
ssize_t pwrite(int fd, const void *p, size_t n, off_t offset) { return write_one(fd, p, n, offset, 1); }
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t offset) { return write_one(fd, p, n, offset, 1); }
ssize_t writev(int fd, const struct iovec *iov, int count)
{
    return write_noted(fd, iov, count, 0, 0);
}
ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t at) { return write_noted(fd, iov, count, at, 1); }
ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t at) { return write_noted(fd, iov, count, at, 1); }

static void size_noted(int fd, off_t size)
{
    char path[PATH_MAX];
    if (path_of(fd, path))
        note('T', 0, (uint32_t)fd, (uint64_t)size, path, "", 0);
}

int ftruncate(int fd, off_t size)
{
    size_noted(fd, size);
    return REAL(ftruncate)(fd, size);
}
int ftruncate64(int fd, off64_t size)
{
    size_noted(fd, size);
    return REAL(ftruncate64)(fd, size);
}

static int sync_noted(int fd, int (*sync)(int))
{
    char path[PATH_MAX];
    int rc;
    if (!path_of(fd, path))
        return sync(fd);
    note('F', 0, (uint32_t)fd, 0, path, "", 0);
    rc = sync(fd);
    if (rc == 0)
        note('G', 0, (uint32_t)fd, 0, path, "", 0);
    return rc;
}

int fsync(int fd) { return sync_noted(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_noted(fd, REAL(fdatasync)); }

/* Sockets */

ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t len)
{
    struct iovec iov = {(void *)p, n};
    ssize_t done;
    if (log_fd < 0)
        return REAL(sendto)(fd, p, n, flags, to, len);
    pthread_mutex_lock(&lock);
    done = REAL(sendto)(fd, p, n, flags, to, len);
    if (done > 0)
        note_iov('S', 0, (uint32_t)fd, 0, "", &iov, 1, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t send(int fd, const void *p, size_t n, int flags) { return sendto(fd, p, n, flags, NULL, 0); }

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t done;
    if (log_fd < 0)
        return REAL(sendmsg)(fd, msg, flags);
    pthread_mutex_lock(&lock);
    done = REAL(sendmsg)(fd, msg, flags);
    if (done > 0)
        note_iov('S', 0, (uint32_t)fd, 0, "", msg->msg_iov, (int)msg->msg_iovlen, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}
