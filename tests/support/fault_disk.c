/*
 * A disk that tells what it was asked, and that fails when it is told to.
 *
 * Preloaded into a process that writes a state folder, it stands before the calls by which LMDB writes and syncs
 * data.mdb. Each is appended to the file that SESSAUTH_DISK_JOURNAL names, once it has succeeded: a letter, an
 * offset and a length of 8 bytes each, and what was written. W is a write that a power loss may take back until
 * the next S, a sync; D a write that was durable when it returned. While the file that SESSAUTH_DISK_FAILS names
 * is there, syncs and durable writes fail with EIO and are not done.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

static int is_data(int fd)
{
    char link[64], path[4096];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return 0;
    path[n] = '\0';
    return n > 9 && strcmp(path + n - 9, "/data.mdb") == 0;
}

static int is_durable(int fd)
{
    return (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
}

static int fails(void)
{
    const char *file = getenv("SESSAUTH_DISK_FAILS");

    return file != NULL && access(file, F_OK) == 0;
}

static void tell(char letter, int64_t offset, const void *bytes, int64_t n)
{
    const char *file = getenv("SESSAUTH_DISK_JOURNAL");
    char head[17];
    struct iovec parts[2] = {{head, sizeof head}, {(void *) bytes, (size_t) n}};
    int fd;

    if (file == NULL)
        return;
    head[0] = letter;
    memcpy(head + 1, &offset, 8);
    memcpy(head + 9, &n, 8);
    pthread_mutex_lock(&lock);
    fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || NEXT(writev)(fd, parts, 2) != (ssize_t) (sizeof head + n))
        abort();
    close(fd);
    pthread_mutex_unlock(&lock);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
    int durable;
    ssize_t done;

    if (!is_data(fd))
        return NEXT(pwrite)(fd, bytes, n, offset);
    durable = is_durable(fd);
    if (durable && fails()) {
        errno = EIO;
        return -1;
    }
    done = NEXT(pwrite)(fd, bytes, n, offset);
    if (done > 0)
        tell(durable ? 'D' : 'W', offset, bytes, done);
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset)
{
    return pwrite(fd, bytes, n, offset);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    struct iovec part = {(void *) bytes, n};

    return is_data(fd) ? writev(fd, &part, 1) : NEXT(write)(fd, bytes, n);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    off_t offset;
    ssize_t total = 0, done;
    int i;

    if (!is_data(fd))
        return NEXT(writev)(fd, parts, count);
    offset = lseek(fd, 0, SEEK_CUR);
    for (i = 0; i < count; i++) {
        done = pwrite(fd, parts[i].iov_base, parts[i].iov_len, offset + total);
        if (done < 0)
            return total ? total : done;
        total += done;
    }
    lseek(fd, offset + total, SEEK_SET);
    return total;
}

static int synced(int fd, int (*sync)(int))
{
    int result;

    if (!is_data(fd))
        return sync(fd);
    if (fails()) {
        errno = EIO;
        return -1;
    }
    result = sync(fd);
    if (result == 0)
        tell('S', 0, NULL, 0);
    return result;
}

int fsync(int fd)
{
    return synced(fd, NEXT(fsync));
}

int fdatasync(int fd)
{
    return synced(fd, NEXT(fdatasync));
}
