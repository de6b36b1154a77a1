/*
 * Preloaded into h2load, for what it has no option for.
 *
 *   -H @FILE                        reads a header from the first line of a file: h2load takes headers from its command
 *                                   line only, which every process of the machine can read, and one of ours is a
 *                                   credential
 *   H2LOAD_CERTIFICATE, H2LOAD_KEY  files in PEM: a client certificate
 *   --log-file                      is written at the end: a system call for each request would take a quarter of the
 *                                   generator's time
 *
 * Nothing else of h2load changes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef int parser(int, char *const[], const char *, const struct option *, int *);
typedef void *context_maker(const void *);
typedef int certificate_user(void *, const char *);
typedef int key_user(void *, const char *, int);

enum { PEM = 1, MOST_FILES = 1024 };

/* The log: its path, and what was not written yet. */
static char log_path[4096];
static char *log_bytes;
static size_t log_size, log_room;

int getopt_long(int argc, char *const argv[], const char *letters, const struct option *words, int *index)
{
    static char line[16384];
    parser *next = (parser *)dlsym(RTLD_NEXT, "getopt_long");
    int option = next(argc, argv, letters, words, index);

    if (option == 'H' && optarg != NULL && optarg[0] == '@') {
        FILE *file = fopen(optarg + 1, "r");

        if (file == NULL || fgets(line, sizeof line, file) == NULL) {
            perror("the file of a header");
            exit(EXIT_FAILURE);
        }
        fclose(file);
        line[strcspn(line, "\n")] = '\0';
        optarg = line;
    }
    if (option == 0 && index != NULL && optarg != NULL && strcmp(words[*index].name, "log-file") == 0)
        snprintf(log_path, sizeof log_path, "%s", optarg);
    return option;
}

static int is_log(int fd)
{
    /* 0: not known yet. */
    static char known[MOST_FILES];
    struct stat file, log;

    if (fd <= STDERR_FILENO || fd >= MOST_FILES || log_path[0] == '\0')
        return 0;
    if (known[fd] == 0)
        known[fd] = fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && stat(log_path, &log) == 0
            && file.st_dev == log.st_dev && file.st_ino == log.st_ino ? 2 : 1;
    return known[fd] == 2;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    if (!is_log(fd))
        return syscall(SYS_write, fd, bytes, size);
    if (log_size + size > log_room) {
        log_room = 2 * log_room + size + (1 << 20);
        log_bytes = realloc(log_bytes, log_room);
        if (log_bytes == NULL)
            abort();
    }
    memcpy(log_bytes + log_size, bytes, size);
    log_size += size;
    return size;
}

__attribute__((destructor)) static void write_log(void)
{
    int fd = log_size ? open(log_path, O_WRONLY | O_CLOEXEC) : -1;
    size_t done = 0;

    while (fd >= 0 && done < log_size) {
        ssize_t n = syscall(SYS_write, fd, log_bytes + done, log_size - done);

        if (n <= 0)
            break;
        done += n;
    }
}

void *SSL_CTX_new(const void *method)
{
    context_maker *next = (context_maker *)dlsym(RTLD_NEXT, "SSL_CTX_new");
    certificate_user *use_certificate = (certificate_user *)dlsym(RTLD_NEXT, "SSL_CTX_use_certificate_chain_file");
    key_user *use_key = (key_user *)dlsym(RTLD_NEXT, "SSL_CTX_use_PrivateKey_file");
    const char *certificate = getenv("H2LOAD_CERTIFICATE");
    const char *key = getenv("H2LOAD_KEY");
    void *context = next(method);

    if (context != NULL && certificate != NULL && key != NULL
        && (use_certificate(context, certificate) != 1 || use_key(context, key, PEM) != 1)) {
        fputs("the client certificate can't be used\n", stderr);
        exit(EXIT_FAILURE);
    }
    return context;
}
