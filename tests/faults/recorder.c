/* Preloaded into a process: records everything that changes files below one folder, in order, with content.
 *
 * RECORDER_FOLDER   the folder, an absolute path without symbolic links
 * RECORDER_LOG      the log to append to, outside of the folder
 * RECORDER_SYNC_US  optional: every fsync and fdatasync takes this much longer, as on a slow disk
 *
 * One event per change, written before the call that made it returns, so that whatever the process says to others
 * comes after the events it rests on. An event: u64 time (CLOCK_MONOTONIC, ns), u32 kind, u32 length of the name, u64
 * offset, u64 length, u64 length of the data behind the name; all in the byte order of the machine; then name and data.
 * Names are relative to the folder. A sync is two events: what was written before the first is durable at the second.
 *
 * A global lock makes the order of the log the order of the changes. What would escape the recorder (copy_file_range,
 * sendfile into the folder, O_TMPFILE, symbolic links, writable shared mappings) is refused or recorded as
 * "unsupported", but for the -shm file of SQLite, which does not outlive a power cut in any meaningful way.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, ZEROS, TRUNCATE, GROW, SYNC_BEGIN, DATASYNC_END, SYNC_END, RENAME, UNLINK, MKDIR, RMDIR,
       LINK, UNSUPPORTED };

struct event {
    uint64_t time_ns;
    uint32_t kind;
    uint32_t name_length;
    uint64_t offset;
    uint64_t length;
    uint64_t data_length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_length;
static int log_fd = -1;
static long sync_us;

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("RECORDER_FOLDER"), *log = getenv("RECORDER_LOG"), *delay = getenv("RECORDER_SYNC_US");
    if (!where || !log) return;
    folder_length = strlen(where);
    if (folder_length + 2 > sizeof folder) return;
    memcpy(folder, where, folder_length + 1);
    sync_us = delay ? atol(delay) : 0;
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) { perror("RECORDER_LOG"); _exit(97); }
    /* High, so that programs which close or expect low descriptors do not meet it. */
    int high = fcntl(log_fd, F_DUPFD_CLOEXEC, 900);
    if (high >= 0) { close(log_fd); log_fd = high; }
}

/* The name below the folder, or NULL. */
static const char *below(const char *path) {
    if (log_fd < 0 || strncmp(path, folder, folder_length) || path[folder_length] != '/') return NULL;
    return path + folder_length + 1;
}

static const char *name_of(int fd, char *path) {
    char link[64];
    if (log_fd < 0) return NULL;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    errno = saved;
    if (length <= 0) return NULL;
    path[length] = 0;
    if (!strcmp(path, folder)) { path[0] = 0; return path; }
    const char *name = below(path);
    if (!name || (strlen(name) > 10 && !strcmp(path + length - 10, " (deleted)"))) return NULL;
    return name;
}

/* The name below the folder of `path` relative to `dir`, whether or not it exists; the folder it is in does. */
static const char *resolve(int dir, const char *path, char *out) {
    char parent[PATH_MAX], base[PATH_MAX];
    if (log_fd < 0 || !path || strlen(path) >= PATH_MAX / 2) return NULL;
    int saved = errno;
    if (path[0] == '/' || dir == AT_FDCWD) snprintf(parent, sizeof parent, "%s", path);
    else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length <= 0) { errno = saved; return NULL; }
        base[length] = 0;
        snprintf(parent, sizeof parent, "%.2000s/%.2000s", base, path);
    }
    size_t end = strlen(parent);
    while (end > 1 && parent[end - 1] == '/') parent[--end] = 0;
    char *slash = strrchr(parent, '/');
    const char *rest = slash ? slash + 1 : parent;
    snprintf(base, sizeof base, "%s", rest);
    if (slash == parent) slash[1] = 0;
    else if (slash) *slash = 0;
    else snprintf(parent, sizeof parent, ".");
    char real[PATH_MAX];
    const char *found = realpath(parent, real);
    errno = saved;
    if (!found) return NULL;
    snprintf(out, PATH_MAX, "%.2000s/%.2000s", real, base);
    return below(out);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Under the lock. A log that cannot be written would make the whole run worthless. */
static void note(uint64_t time_ns, uint32_t kind, const char *name, uint64_t offset, uint64_t length,
                 const void *data, size_t data_length) {
    int saved = errno;
    struct event event = {time_ns, kind, (uint32_t)strlen(name), offset, length, data_length};
    struct iovec parts[3] = {{&event, sizeof event}, {(void *)name, event.name_length}, {(void *)data, data_length}};
    size_t left = sizeof event + event.name_length + data_length;
    ssize_t written = syscall(SYS_writev, log_fd, parts, 3);
    if (written != (ssize_t)left) { fprintf(stderr, "recorder: the log cannot be written\n"); _exit(97); }
    errno = saved;
}

static void note_written(uint64_t time_ns, const char *name, off_t offset, const struct iovec *parts, int count,
                         size_t written) {
    for (int index = 0; index < count && written; index++) {
        const char *data = parts[index].iov_base;
        size_t length = parts[index].iov_len < written ? parts[index].iov_len : written;
        if (!length) continue;
        int zeros = data[0] == 0 && !memcmp(data, data + 1, length - 1);
        note(time_ns, zeros ? ZEROS : WRITE, name, (uint64_t)offset, length, data, zeros ? 0 : length);
        offset += (off_t)length;
        written -= length;
    }
}

/* -- writing */

/* `offset` -1: at the position of the descriptor. */
static ssize_t do_write(int fd, const struct iovec *parts, int count, off_t offset) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (!name) return offset < 0 ? syscall(SYS_writev, fd, parts, count)
                                 : syscall(SYS_pwritev, fd, parts, count, (long)offset, 0L);
    pthread_mutex_lock(&lock);
    uint64_t time_ns = now_ns();
    ssize_t written;
    off_t at = offset;
    if (offset < 0) {
        written = syscall(SYS_writev, fd, parts, count);
        at = lseek(fd, 0, SEEK_CUR) - (written > 0 ? written : 0);
    } else {
        written = syscall(SYS_pwritev, fd, parts, count, (long)offset, 0L);
    }
    if (written > 0) note_written(time_ns, name, at, parts, count, (size_t)written);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t write(int fd, const void *data, size_t length) {
    char path[PATH_MAX];
    if (!name_of(fd, path)) return syscall(SYS_write, fd, data, length);
    struct iovec part = {(void *)data, length};
    return do_write(fd, &part, 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int count) { return do_write(fd, parts, count, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    struct iovec part = {(void *)data, length};
    return do_write(fd, &part, 1, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return pwrite(fd, data, length, offset); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return do_write(fd, parts, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return do_write(fd, parts, count, offset);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    (void)flags;
    return do_write(fd, parts, count, offset);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    (void)flags;
    return do_write(fd, parts, count, offset);
}

int ftruncate(int fd, off_t length) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (!name) return (int)syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    uint64_t time_ns = now_ns();
    int result = (int)syscall(SYS_ftruncate, fd, length);
    if (!result) note(time_ns, TRUNCATE, name, 0, (uint64_t)length, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

int truncate(const char *path, off_t length) {
    char out[PATH_MAX];
    const char *name = resolve(AT_FDCWD, path, out);
    if (!name) return (int)syscall(SYS_truncate, path, length);
    pthread_mutex_lock(&lock);
    uint64_t time_ns = now_ns();
    int result = (int)syscall(SYS_truncate, path, length);
    if (!result) note(time_ns, TRUNCATE, name, 0, (uint64_t)length, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int truncate64(const char *path, off64_t length) { return truncate(path, length); }

int fallocate(int fd, int mode, off_t offset, off_t length) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (!name) return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    pthread_mutex_lock(&lock);
    uint64_t time_ns = now_ns();
    int result = (int)syscall(SYS_fallocate, fd, mode, offset, length);
    if (!result) note(time_ns, mode ? UNSUPPORTED : GROW, name, 0, (uint64_t)(offset + length), "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return fallocate(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) {
    int saved = errno;
    int result = fallocate(fd, 0, offset, length) ? errno : 0;
    errno = saved;
    return result;
}
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return posix_fallocate(fd, offset, length); }

/* -- syncing */

static int do_sync(int fd, long call, uint32_t kind) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (!name) return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    uint64_t begun_ns = now_ns();
    note(begun_ns, SYNC_BEGIN, name, 0, 0, "", 0);
    pthread_mutex_unlock(&lock);
    int result = (int)syscall(call, fd);
    if (sync_us) usleep((useconds_t)sync_us);
    pthread_mutex_lock(&lock);
    if (!result) note(now_ns(), kind, name, begun_ns, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int fsync(int fd) { return do_sync(fd, SYS_fsync, SYNC_END); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync, DATASYNC_END); }

/* -- names */

static void note_opened(uint64_t time_ns, int fd, int existed, int flags) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (!name) return;
    if ((flags & O_TMPFILE) == O_TMPFILE) note(time_ns, UNSUPPORTED, name, 0, 0, "O_TMPFILE", 9);
    else if (!existed) note(time_ns, CREATE, name, 0, 0, "", 0);
    else if ((flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY) note(time_ns, TRUNCATE, name, 0, 0, "", 0);
}

static int do_open(int dir, const char *path, int flags, mode_t mode) {
    char out[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE)
        return (int)syscall(SYS_openat, dir, path, flags, mode);
    if (!resolve(dir, path, out)) return (int)syscall(SYS_openat, dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    uint64_t time_ns = now_ns();
    int saved = errno;
    int existed = syscall(SYS_faccessat, dir, path, F_OK) == 0;
    errno = saved;
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0) note_opened(time_ns, fd, existed, flags);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, last); mode = (mode_t)va_arg(more, int); va_end(more); }

int open(const char *path, int flags, ...) { MODE(flags) return do_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return do_open(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return do_open(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return do_open(dir, path, flags, mode); }
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static int do_rename(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char from_path[PATH_MAX], to_path[PATH_MAX];
    const char *from_name = resolve(from_dir, from, from_path), *to_name = resolve(to_dir, to, to_path);
    if (!from_name && !to_name) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    uint64_t time_ns = now_ns();
    int result = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (!result && from_name && to_name && !(flags & ~1u)) note(time_ns, RENAME, from_name, 0, 0, to_name, strlen(to_name));
    else if (!result) note(time_ns, UNSUPPORTED, from_name ? from_name : to_name, 0, 0, "rename", 6);
    pthread_mutex_unlock(&lock);
    return result;
}
int rename(const char *from, const char *to) { return do_rename(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return do_rename(from_dir, from, to_dir, to, 0);
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return do_rename(from_dir, from, to_dir, to, flags);
}

static int do_unlink(int dir, const char *path, int flags) {
    char out[PATH_MAX];
    const char *name = resolve(dir, path, out);
    if (!name) return (int)syscall(SYS_unlinkat, dir, path, flags);
    pthread_mutex_lock(&lock);
    uint64_t time_ns = now_ns();
    int result = (int)syscall(SYS_unlinkat, dir, path, flags);
    if (!result) note(time_ns, flags & AT_REMOVEDIR ? RMDIR : UNLINK, name, 0, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int unlink(const char *path) { return do_unlink(AT_FDCWD, path, 0); }
int unlinkat(int dir, const char *path, int flags) { return do_unlink(dir, path, flags); }
int rmdir(const char *path) { return do_unlink(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode) {
    char out[PATH_MAX];
    const char *name = resolve(dir, path, out);
    if (!name) return (int)syscall(SYS_mkdirat, dir, path, mode);
    pthread_mutex_lock(&lock);
    uint64_t time_ns = now_ns();
    int result = (int)syscall(SYS_mkdirat, dir, path, mode);
    if (!result) note(time_ns, MKDIR, name, 0, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* -- what the recorder cannot follow */

static int unsupported(const char *path, int dir, const char *what) {
    char out[PATH_MAX];
    const char *name = resolve(dir, path, out);
    if (!name) return 0;
    pthread_mutex_lock(&lock);
    note(now_ns(), UNSUPPORTED, name, 0, 0, what, strlen(what));
    pthread_mutex_unlock(&lock);
    return 1;
}
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char from_path[PATH_MAX], to_path[PATH_MAX];
    const char *from_name = resolve(from_dir, from, from_path), *to_name = resolve(to_dir, to, to_path);
    if (!to_name) return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    uint64_t time_ns = now_ns();
    int result = (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    if (!result && from_name && !flags) note(time_ns, LINK, from_name, 0, 0, to_name, strlen(to_name));
    else if (!result) note(time_ns, UNSUPPORTED, to_name, 0, 0, "link", 4);
    pthread_mutex_unlock(&lock);
    return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int symlinkat(const char *target, int dir, const char *path) {
    (void)unsupported(path, dir, "symlink");
    return (int)syscall(SYS_symlinkat, target, dir, path);
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t length, unsigned flags) {
    char path[PATH_MAX];
    if (name_of(to, path)) { errno = ENOSYS; return -1; }
    return syscall(SYS_copy_file_range, from, from_offset, to, to_offset, length, flags);
}
ssize_t sendfile(int to, int from, off_t *offset, size_t length) {
    char path[PATH_MAX];
    if (name_of(to, path)) { errno = EINVAL; return -1; }
    return syscall(SYS_sendfile, to, from, offset, length);
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t length) { return sendfile(to, from, offset, length); }

static void look_at_mapping(int protection, int flags, int fd) {
    char path[PATH_MAX];
    if (fd < 0 || !(flags & MAP_SHARED) || !(protection & PROT_WRITE)) return;
    const char *name = name_of(fd, path);
    if (!name) return;
    size_t length = strlen(name);
    if (length > 4 && !strcmp(name + length - 4, "-shm")) return;
    pthread_mutex_lock(&lock);
    note(now_ns(), UNSUPPORTED, name, 0, 0, "mmap", 4);
    pthread_mutex_unlock(&lock);
}
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    look_at_mapping(protection, flags, fd);
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
    return mmap(address, length, protection, flags, fd, offset);
}
