/* What Yama refuses (`kernel.yama.ptrace_scope` 1, the default of Ubuntu and Fedora) between processes of one user, on kernels without
 * it: to open another's `mem` and `syscall` below /proc. Loaded by LD_PRELOAD; `sealed.py` refuses the system calls.
 * Not for security: who calls the kernel by himself is not stopped. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_refused(const char *path) {
    if (strncmp(path, "/proc/", 6) != 0)
        return 0;
    char *rest;
    long pid = strtol(path + 6, &rest, 10);
    if (rest == path + 6 || pid == getpid())
        return 0;
    const char *name = strrchr(rest, '/');
    return name && (strcmp(name, "/mem") == 0 || strcmp(name, "/syscall") == 0);
}

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    if (is_refused(path)) {
        errno = EACCES;
        return -1;
    }
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE(flags, mode)                                  \
    mode_t mode = 0;                                       \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list more;                                      \
        va_start(more, flags);                             \
        mode = va_arg(more, mode_t);                       \
        va_end(more);                                      \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_at(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_at(folder, path, flags | O_LARGEFILE, mode);
}
