/* What the shared cache holds, and taking things out of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "runtime/fetch/private.h"

/* Bytes and files below a folder; links are not followed, so blobs count once. */
static void measure(struct arena *arena, const char *folder, uint64_t *bytes, int *files, int depth)
{
    DIR *dir = depth < 16 ? opendir(folder) : NULL;
    for (struct dirent *d; dir && (d = readdir(dir));) {
        struct stat st;
        char *path = strcmp(d->d_name, ".") && strcmp(d->d_name, "..") ? file_join(arena, folder, d->d_name) : NULL;
        if (!path || lstat(path, &st))
            continue;
        if (S_ISDIR(st.st_mode))
            measure(arena, path, bytes, files, depth + 1);
        else if (S_ISREG(st.st_mode)) {
            *bytes += (uint64_t)st.st_size;
            ++*files;
        }
    }
    if (dir)
        closedir(dir);
}

/* models--org--name -> org/name */
static bool repository_name(const char *folder, char *out, size_t size)
{
    if (strncmp(folder, "models--", 8) != 0)
        return false;
    const char *split = strstr(folder + 8, "--");
    return split && snprintf(out, size, "%.*s/%s", (int)(split - folder - 8), folder + 8, split + 2) < (int)size;
}

enum ingot_status ingot_cache_list(void (*each)(void *context, const struct ingot_cached *model), void *context, struct ingot_error *err)
{
    struct arena arena = {0};
    char *root = cache_root(&arena);
    DIR *dir = root ? opendir(root) : NULL;
    if (root && !dir && errno != ENOENT) {
        enum status status = error_set((struct error *)err, STATUS_FAILED, "%s: cannot read the cache: %s", root, error_errno(errno));
        arena_free(&arena);
        return (enum ingot_status)status;
    }
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char name[512];
        struct ingot_cached model = {.name = name};
        if (!repository_name(d->d_name, name, sizeof name) || !(model.path = file_join(&arena, root, d->d_name)))
            continue;
        measure(&arena, model.path, &model.bytes, &model.files, 0);
        each(context, &model);
    }
    if (dir)
        closedir(dir);
    arena_free(&arena);
    return INGOT_OK;
}

/* Removes a folder's content below a directory handle: links are removed, never followed. */
static bool remove_below(int parent, const char *name, int depth)
{
    int fd = depth < 16 ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    bool good = dir != NULL;
    for (struct dirent *d; good && (d = readdir(dir));) {
        struct stat st;
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        if (fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW))
            good = false;
        else if (S_ISDIR(st.st_mode))
            good = remove_below(fd, d->d_name, depth + 1);
        else
            good = unlinkat(fd, d->d_name, 0) == 0;
    }
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    return good && unlinkat(parent, name, AT_REMOVEDIR) == 0;
}

enum ingot_status ingot_cache_remove(const char *name, struct ingot_error *err)
{
    struct arena arena = {0};
    char *folder = cache_repository(&arena, name);
    enum status status = STATUS_OK;
    if (!folder || !file_is_folder(folder))
        status = error_set((struct error *)err, STATUS_NOT_FOUND, "%s is not in the cache (%s); `ingot list` shows what is", QUOTE(name, strlen(name)),
                           cache_root(&arena));
    else if (!remove_below(AT_FDCWD, folder, 0))
        status = error_set((struct error *)err, STATUS_FAILED, "%s: cannot remove it whole: %s", folder, error_errno(errno));
    arena_free(&arena);
    return (enum ingot_status)status;
}
