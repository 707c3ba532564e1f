/* A disk that keeps nothing but what was flushed; for LD_PRELOAD.

   Of the files in the folder LOSSY_FROM, what a flush brings to the disk is written to files of the same names in the
   folder LOSSY_TO: all that a power cut leaves. While a file LOSSY_FAIL exists, a flush of a write-ahead log removes it
   and fails; as in Linux, what it should have written is then on no list any more, and the next flush succeeds without
   it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    char name[256];
    off_t begin;
    ssize_t size; /* -1: the file was cut at `begin` */
} Change;

static Change *changes;
static size_t count, room;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Set `name` to that of a file in the folder, and return whether it is there. */
static int is_kept(const char *path, char *name) {
    const char *from = getenv("LOSSY_FROM");
    size_t length = from ? strlen(from) : 0;
    if (!length || strncmp(path, from, length) || path[length] != '/' || strchr(path + length + 1, '/')) return 0;
    return snprintf(name, 256, "%s", path + length + 1) < 256;
}

static int is_file(int file, char *name) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return is_kept(path, name);
}

static void note(int file, off_t begin, ssize_t size) {
    Change change = {.begin = begin, .size = size};
    if (!is_file(file, change.name)) return;
    pthread_mutex_lock(&lock);
    if (count == room) changes = realloc(changes, (room = 2 * room + 64) * sizeof *changes);
    changes[count++] = change;
    pthread_mutex_unlock(&lock);
}

/* Write the changes of a file to the disk, or only forget them. */
static void settle(int file, const char *name, int is_written) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("LOSSY_TO"), name);
    int disk = is_written ? open(path, O_RDWR | O_CREAT, 0600) : -1;
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        Change *change = &changes[i];
        if (strcmp(change->name, name)) {
            changes[left++] = *change;
        } else if (is_written && change->size < 0) {
            if (REAL(ftruncate64)(disk, change->begin)) abort();
        } else if (is_written) {
            char *bytes = malloc(change->size);
            ssize_t size = pread64(file, bytes, change->size, change->begin);
            if (size > 0 && REAL(pwrite64)(disk, bytes, size, change->begin) != size) abort();
            free(bytes);
        }
    }
    count = left;
    if (disk >= 0) close(disk);
}

static int flush(int file) {
    char name[256];
    const char *fail = getenv("LOSSY_FAIL");
    if (!is_file(file, name)) return 0;
    size_t length = strlen(name);
    int fails = fail && length > 4 && !strcmp(name + length - 4, "-wal") && !REAL(unlink)(fail);
    pthread_mutex_lock(&lock);
    settle(file, name, !fails);
    pthread_mutex_unlock(&lock);
    if (fails) errno = EIO;
    return fails ? -1 : 0;
}

int fsync(int file) { return flush(file); }
int fdatasync(int file) { return flush(file); }

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t begin) {
    ssize_t written = REAL(pwrite64)(file, bytes, size, begin);
    if (written > 0) note(file, begin, written);
    return written;
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t begin) { return pwrite64(file, bytes, size, begin); }

ssize_t write(int file, const void *bytes, size_t size) {
    off_t begin = lseek(file, 0, SEEK_CUR);
    ssize_t written = REAL(write)(file, bytes, size);
    if (written > 0 && begin >= 0) note(file, begin, written);
    return written;
}

int ftruncate64(int file, off64_t size) {
    int result = REAL(ftruncate64)(file, size);
    if (!result) note(file, size, -1);
    return result;
}

int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

int unlink(const char *path) {
    char name[256], disk[4096];
    int result = REAL(unlink)(path);
    if (!result && is_kept(path, name)) {
        pthread_mutex_lock(&lock);
        settle(-1, name, 0);
        pthread_mutex_unlock(&lock);
        snprintf(disk, sizeof disk, "%s/%s", getenv("LOSSY_TO"), name);
        REAL(unlink)(disk);
    }
    return result;
}
