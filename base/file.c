#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum status file_read(struct arena *arena, const char *path, size_t limit, char **out, size_t *size, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_BAD_INPUT, "%s: cannot open: %s", path, error_errno(errno));
    struct stat st;
    enum status status = STATUS_OK;
    char *data = NULL;
    size_t done = 0;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        status = error_set(err, STATUS_BAD_INPUT, "%s: not a regular file", path);
    else if ((unsigned long long)st.st_size > limit)
        status = error_set(err, STATUS_BAD_INPUT, "%s: %lld bytes are over the limit of %zu", path, (long long)st.st_size, limit);
    else if (!(data = arena_raw(arena, (size_t)st.st_size + 1)))
        status = error_memory(err, path);
    while (!status && done < (size_t)st.st_size) {
        ssize_t n = read(fd, data + done, (size_t)st.st_size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = error_set(err, STATUS_FAILED, "%s: cannot read: %s", path, error_errno(errno));
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    close(fd);
    if (status)
        return status;
    data[done] = 0;
    *out = data;
    *size = done;
    return STATUS_OK;
}

enum status file_read_all(int fd, size_t limit, struct str *out, struct error *err)
{
    char buffer[1 << 16];
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, STATUS_FAILED, "cannot read standard input: %s", error_errno(errno));
        if (n == 0)
            return out->failed ? error_memory(err, "the input") : STATUS_OK;
        if (out->size + (size_t)n > limit)
            return error_set(err, STATUS_BAD_INPUT, "the input is over the limit of %zu bytes", limit);
        str_add(out, buffer, (size_t)n);
    }
}

static enum status writer_failed(struct file_writer *w, const char *doing, struct error *err)
{
    int cause = errno;
    enum status status = error_set(err, STATUS_FAILED, "%s: cannot %s: %s", w->path, doing, error_errno(cause));
    file_writer_abandon(w);
    return status;
}

enum status file_writer_begin_in_place(struct file_writer *w, const char *path, struct error *err)
{
    *w = (struct file_writer){.fd = -1, .path = strdup(path)};
    if (!w->path)
        return error_memory(err, "a file name");
    w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return w->fd < 0 ? writer_failed(w, "create", err) : STATUS_OK;
}

enum status file_writer_begin(struct file_writer *w, const char *path, struct error *err)
{
    struct stat st;
    if (!stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return file_writer_begin_in_place(w, path, err);
    bool link = !lstat(path, &st) && S_ISLNK(st.st_mode); /* replaced is what it points to */
    *w = (struct file_writer){.fd = -1, .path = link ? realpath(path, NULL) : NULL};
    if (!w->path)
        w->path = strdup(path);
    size_t n = (w->path ? strlen(w->path) : 0) + 16;
    w->temporary = malloc(n);
    if (!w->path || !w->temporary) {
        file_writer_abandon(w);
        return error_memory(err, "a file name");
    }
    snprintf(w->temporary, n, "%s.XXXXXX", w->path);
    w->fd = mkostemp(w->temporary, O_CLOEXEC);
    if (w->fd < 0) {
        w->temporary[0] = 0;
        return writer_failed(w, "create", err);
    }
    mode_t mask = umask(0);
    umask(mask);
    fchmod(w->fd, 0666 & ~mask);
    return STATUS_OK;
}

enum status file_writer_write(struct file_writer *w, const void *data, size_t size, struct error *err)
{
    const char *at = data;
    while (size) {
        ssize_t n = write(w->fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return writer_failed(w, "write", err);
        at += n;
        size -= (size_t)n;
    }
    return STATUS_OK;
}

enum status file_writer_commit(struct file_writer *w, struct error *err)
{
    if (fsync(w->fd) && (w->temporary || errno != EINVAL)) /* pipes and devices know no fsync */
        return writer_failed(w, "write to disk", err);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd))
        return writer_failed(w, "close", err);
    if (w->temporary && rename(w->temporary, w->path))
        return writer_failed(w, "replace", err);
    if (w->temporary)
        w->temporary[0] = 0;
    char *slash = strrchr(w->path, '/'); /* the rename itself reaches the disk with the folder */
    if (slash)
        slash[slash == w->path] = 0;
    int folder = open(slash ? w->path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        fsync(folder);
        close(folder);
    }
    file_writer_abandon(w);
    return STATUS_OK;
}

void file_writer_abandon(struct file_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    if (w->temporary && w->temporary[0])
        unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    *w = (struct file_writer){.fd = -1};
}

enum status file_replace(const char *path, const void *data, size_t size, struct error *err)
{
    struct file_writer w;
    enum status status = file_writer_begin(&w, path, err);
    if (!status)
        status = file_writer_write(&w, data, size, err);
    return status ? status : file_writer_commit(&w, err);
}

enum status file_make_folders(const char *path, struct error *err)
{
    char *copy = strdup(path);
    if (!copy)
        return error_memory(err, "a path");
    enum status status = STATUS_OK;
    for (char *c = copy + 1; !status; c++) {
        bool last = *c == 0;
        if (*c != '/' && !last)
            continue;
        *c = 0;
        if (mkdir(copy, 0700) && errno != EEXIST)
            status = error_set(err, STATUS_FAILED, "%s: cannot create the folder: %s", copy, error_errno(errno));
        if (last)
            break;
        *c = '/';
    }
    free(copy);
    return status;
}

bool file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool file_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *file_join(struct arena *arena, const char *folder, const char *name)
{
    size_t n = strlen(folder);
    return arena_format(arena, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
}

bool file_is_plain_name(const char *name, size_t size)
{
    return size && size < 256 && name[0] != '.' && !memchr(name, '/', size) && !memchr(name, 0, size) && !memchr(name, '\\', size);
}
