/* A library for LD_PRELOAD: one call of the system that changes a file below a folder fails, or kills the process.
 *
 * arm(folder, nth, action, log) begins to count. The nth call fails with the error number `action`; or, if `action` is
 * negative, the process gets the signal -action, and a write writes half of its bytes first. Each call is written to
 * `log` as a line "operation path". nth = 0 only logs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[PATH_MAX];
static int action, log_to = -1;
static long nth, seen;

void arm(const char *path, long at, int what, const char *log)
{
    snprintf(folder, sizeof folder, "%s/", path);
    nth = at;
    action = what;
    seen = 0;
    log_to = (int) syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static void absolute(int at, const char *path, char *full)
{
    char base[PATH_MAX] = "", link[64];
    if (path[0] != '/') {
        if (at == AT_FDCWD) {
            if (getcwd(base, sizeof base) == NULL) base[0] = 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            ssize_t size = readlink(link, base, sizeof base - 1);
            base[size > 0 ? size : 0] = 0;
        }
        snprintf(full, 2 * PATH_MAX, "%s/%s", base, path);
    } else {
        snprintf(full, 2 * PATH_MAX, "%s", path);
    }
}

static int hit(const char *operation, const char *path)
{
    char line[2 * PATH_MAX + 64];
    if (log_to < 0 || strncmp(path, folder, strlen(folder)) != 0) return 0;
    int size = snprintf(line, sizeof line, "%s %s\n", operation, path + strlen(folder));
    syscall(SYS_write, log_to, line, (size_t) size);
    return ++seen == nth;
}

static int hit_at(const char *operation, int at, const char *path)
{
    char full[2 * PATH_MAX];
    int before = errno;
    absolute(at, path, full);
    errno = before;
    return hit(operation, full);
}

static int hit_descriptor(const char *operation, int descriptor)
{
    char link[64], path[PATH_MAX];
    int before = errno;
    if (log_to < 0 || descriptor == log_to) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = before;
    if (size <= 0) return 0;
    path[size] = 0;
    return hit(operation, path);
}

static int fail(void)
{
    if (action < 0) {
        kill(getpid(), -action);
        pause();
    }
    errno = action;
    return -1;
}

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                                                          \
    int name(const char *path, int flags, ...)                                                    \
    {                                                                                             \
        va_list more;                                                                             \
        va_start(more, flags);                                                                    \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;                               \
        va_end(more);                                                                             \
        if ((flags & (O_WRONLY | O_RDWR)) && hit_at("open", AT_FDCWD, path)) return fail();       \
        return NEXT(name)(path, flags, mode);                                                     \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                              \
    int name(int at, const char *path, int flags, ...)                                            \
    {                                                                                             \
        va_list more;                                                                             \
        va_start(more, flags);                                                                    \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0;                               \
        va_end(more);                                                                             \
        if ((flags & (O_WRONLY | O_RDWR)) && hit_at("open", at, path)) return fail();             \
        return NEXT(name)(at, path, flags, mode);                                                 \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void *data, size_t size)
{
    if (hit_descriptor("write", descriptor)) {
        if (action < 0) syscall(SYS_write, descriptor, data, size / 2);
        return fail();
    }
    return NEXT(write)(descriptor, data, size);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset)
{
    if (hit_descriptor("write", descriptor)) return fail();
    return NEXT(pwrite64)(descriptor, data, size, offset);
}

int fsync(int descriptor)
{
    if (hit_descriptor("fsync", descriptor)) return fail();
    return NEXT(fsync)(descriptor);
}

int close(int descriptor)
{
    /* The file is closed all the same, as by a real close that reports an error. */
    int writes = log_to >= 0 ? (fcntl(descriptor, F_GETFL) & (O_WRONLY | O_RDWR)) : 0;
    if (writes > 0 && hit_descriptor("close", descriptor)) {
        NEXT(close)(descriptor);
        return fail();
    }
    return NEXT(close)(descriptor);
}

int rename(const char *from, const char *to)
{
    if (hit_at("rename", AT_FDCWD, to)) return fail();
    return NEXT(rename)(from, to);
}

int unlink(const char *path)
{
    if (hit_at("unlink", AT_FDCWD, path)) return fail();
    return NEXT(unlink)(path);
}

int unlinkat(int at, const char *path, int flags)
{
    if (hit_at("unlink", at, path)) return fail();
    return NEXT(unlinkat)(at, path, flags);
}

int rmdir(const char *path)
{
    if (hit_at("rmdir", AT_FDCWD, path)) return fail();
    return NEXT(rmdir)(path);
}

int mkdir(const char *path, mode_t mode)
{
    if (hit_at("mkdir", AT_FDCWD, path)) return fail();
    return NEXT(mkdir)(path, mode);
}
