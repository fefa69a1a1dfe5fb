/* Stands between the tool and the C library, and fails as told what is done to one file.
 *
 * SHIM_FILE  how that file's path ends
 * SHIM       short: a write takes 7 bytes at most; interrupted: every other write is;
 *            write=N: from the N-th on, half of a write is taken and then none (EIO);
 *            sync=N: from the N-th on, bringing it to the disk fails (EIO);
 *            stuck: write=1, and it cannot be cut back either
 *            unlockable: there are no locks (ENOLCK);
 *            clock: the time of day steps by two hours, back and forth, whatever the file
 * SHIM_LOG   a file that gets a line for each call: write, sync, cut, lock, clock */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int writes, syncs, looks;

static int ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static int is_the_file(int fd)
{
    const char *end = getenv("SHIM_FILE");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!end || length < 0)
        return 0;
    path[length] = 0;
    return ends_with(path, end);
}

static const char *mode(void)
{
    const char *mode = getenv("SHIM");
    return mode ? mode : "";
}

/* N of "name=N"; 0 if that is not the mode. */
static int from(const char *name)
{
    size_t length = strlen(name);
    return strncmp(mode(), name, length) == 0 && mode()[length] == '=' ? atoi(mode() + length + 1) : 0;
}

static ssize_t real_write(int fd, const void *bytes, size_t count)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return real(fd, bytes, count);
}

static void note(const char *line)
{
    const char *path = getenv("SHIM_LOG");
    int log = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (log >= 0) {
        real_write(log, line, strlen(line));
        close(log);
    }
}

static int fail(void)
{
    errno = EIO;
    return -1;
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    if (!is_the_file(fd))
        return real_write(fd, bytes, count);
    note("write\n");
    int number = __sync_add_and_fetch(&writes, 1);
    int first = strcmp(mode(), "stuck") == 0 ? 1 : from("write");
    if (strcmp(mode(), "interrupted") == 0 && number % 2) {
        errno = EINTR;
        return -1;
    }
    if (strcmp(mode(), "short") == 0 && count > 7)
        count = 7;
    if (first && number > first)
        return fail();
    if (first && number == first)
        count /= 2;
    return real_write(fd, bytes, count);
}

static int sync_or_fail(int fd, const char *name)
{
    if (is_the_file(fd)) {
        note("sync\n");
        int number = __sync_add_and_fetch(&syncs, 1);
        if (from("sync") && number >= from("sync"))
            return fail();
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd) { return sync_or_fail(fd, "fsync"); }

int fdatasync(int fd) { return sync_or_fail(fd, "fdatasync"); }

int ftruncate64(int fd, off64_t length)
{
    if (is_the_file(fd)) {
        note("cut\n");
        if (strcmp(mode(), "stuck") == 0)
            return fail();
    }
    return ((int (*)(int, off64_t))dlsym(RTLD_NEXT, "ftruncate64"))(fd, length);
}

int flock(int fd, int operation)
{
    if (strcmp(mode(), "unlockable") == 0 && is_the_file(fd)) {
        note("lock\n");
        errno = ENOLCK;
        return -1;
    }
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, operation);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = real(clock, time);
    if (outcome == 0 && clock == CLOCK_REALTIME && strcmp(mode(), "clock") == 0) {
        note("clock\n");
        time->tv_sec += __sync_add_and_fetch(&looks, 1) % 2 ? 3600 : -3600;
    }
    return outcome;
}
