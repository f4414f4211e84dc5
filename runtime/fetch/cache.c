/* The cache that huggingface_hub and other tools share:
 *
 *   ROOT/models--ORG--NAME/blobs/ETAG             content, once     (ETAG of a large file is its sha256)
 *                         /snapshots/COMMIT/FILE  -> ../../blobs/ETAG
 *                         /refs/main              the commit's id
 *   ROOT/.locks/models--ORG--NAME/ETAG.lock       held (flock) while a blob is written */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "runtime/fetch/private.h"

/* HF_HOME, else XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface; services run without HOME, as huggingface_hub they then
 * ask the user database. */
static char *hub_home(struct arena *arena)
{
    const char *v = getenv("HF_HOME");
    if (v && *v)
        return arena_copy(arena, v, strlen(v));
    if ((v = getenv("XDG_CACHE_HOME")) && *v)
        return arena_format(arena, "%s/huggingface", v);
    if ((v = getenv("HOME")) && *v)
        return arena_format(arena, "%s/.cache/huggingface", v);
    struct passwd user, *found = NULL;
    char text[4096];
    if (getpwuid_r(getuid(), &user, text, sizeof text, &found) || !found)
        return arena_copy(arena, ".cache/huggingface", 18);
    return arena_format(arena, "%s/.cache/huggingface", user.pw_dir);
}

char *cache_root(struct arena *arena)
{
    const char *v = getenv("HF_HUB_CACHE");
    if (v && *v)
        return arena_copy(arena, v, strlen(v));
    char *home = hub_home(arena);
    return home ? arena_format(arena, "%s/hub", home) : NULL;
}

enum ingot_status ingot_cache_folder(char *path, size_t size, struct ingot_error *err)
{
    struct arena arena = {0};
    char *root = cache_root(&arena);
    enum status status = !root                  ? error_memory((struct error *)err, "a path")
                         : strlen(root) >= size ? error_set((struct error *)err, STATUS_USAGE, "the path of the cache is too long")
                                                : STATUS_OK;
    if (!status)
        memcpy(path, root, strlen(root) + 1);
    arena_free(&arena);
    return (enum ingot_status)status;
}

/* models--ORG--NAME; NULL if the repository's name is no such name. */
static char *folder_name(struct arena *arena, const char *repository)
{
    char *name = arena_format(arena, "models--%s", repository), *slash = name ? strchr(name, '/') : NULL;
    if (!slash || strchr(slash + 1, '/') || strstr(repository, "..") || strstr(repository, "--"))
        return NULL;
    return arena_format(arena, "%.*s--%s", (int)(slash - name), name, slash + 1);
}

char *cache_repository(struct arena *arena, const char *repository)
{
    char *root = cache_root(arena), *name = folder_name(arena, repository);
    return root && name ? arena_format(arena, "%s/%s", root, name) : NULL;
}

char *cache_file(struct arena *arena, const char *repository, const char *commit, const char *file)
{
    char *folder = cache_repository(arena, repository);
    char *path = folder ? arena_format(arena, "%s/snapshots/%s/%s", folder, commit, file) : NULL;
    return path && file_exists(path) ? path : NULL;
}

enum status cache_link(struct arena *arena, const char *repository, const char *commit, const char *file, const char *etag, struct error *err)
{
    char *folder = cache_repository(arena, repository);
    char *snapshot = folder ? arena_format(arena, "%s/snapshots/%s", folder, commit) : NULL;
    char *refs = folder ? arena_format(arena, "%s/refs", folder) : NULL, *main_ref = refs ? arena_format(arena, "%s/main", refs) : NULL;
    char *path = snapshot ? arena_format(arena, "%s/%s", snapshot, file) : NULL, *to = arena_format(arena, "../../blobs/%s", etag);
    char *fresh = path ? arena_format(arena, "%s.%d", path, (int)getpid()) : NULL;
    if (!main_ref || !fresh || !to)
        return error_memory(err, "a path");
    enum status status = file_make_folders(snapshot, err);
    if (!status)
        status = file_make_folders(refs, err);
    if (status)
        return status;
    unlink(fresh); /* of a process that was killed here and had our number */
    if (symlink(to, fresh) || rename(fresh, path))
        return error_set(err, STATUS_FAILED, "%s: cannot create the link: %s", path, error_errno(errno));
    return file_exists(main_ref) ? STATUS_OK : file_replace(main_ref, commit, strlen(commit), err);
}

enum status cache_lock(struct arena *arena, const char *repository, const char *etag, int *fd, struct error *err)
{
    char *root = cache_root(arena), *name = folder_name(arena, repository);
    char *folder = root && name ? arena_format(arena, "%s/.locks/%s", root, name) : NULL;
    char *path = folder ? arena_format(arena, "%s/%s.lock", folder, etag) : NULL;
    if (!path)
        return error_memory(err, "a path");
    enum status status = file_make_folders(folder, err);
    if (status)
        return status;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (*fd < 0)
        return error_set(err, STATUS_FAILED, "%s: cannot create the lock: %s", path, error_errno(errno));
    bool said = false;
    for (int how = LOCK_EX | LOCK_NB; flock(*fd, how);) {
        int cause = errno;
        if (cause == EWOULDBLOCK && !said)
            log_line(LOG_SAY, "another process is fetching the same file; waiting for it");
        said |= cause == EWOULDBLOCK;
        how = LOCK_EX;
        if (cause != EINTR && cause != EWOULDBLOCK) {
            close(*fd);
            *fd = -1;
            return error_set(err, STATUS_FAILED, "%s: cannot lock: %s", path, error_errno(cause));
        }
    }
    return STATUS_OK;
}

const char *hub_token(struct arena *arena)
{
    const char *v = getenv("HF_TOKEN");
    if (v && *v)
        return v;
    char *home = hub_home(arena), *text;
    char *path = (v = getenv("HF_TOKEN_PATH")) && *v ? arena_copy(arena, v, strlen(v)) : home ? arena_format(arena, "%s/token", home) : NULL;
    size_t size;
    if (!path || file_read(arena, path, 4096, &text, &size, NULL))
        return NULL;
    text[strcspn(text, "\r\n \t")] = 0;
    return *text ? text : NULL;
}

bool hub_offline(const struct ingot_model_options *options)
{
    const char *v = getenv("HF_HUB_OFFLINE");
    return (options && options->offline) || (v && *v && strcmp(v, "0") && strcasecmp(v, "false") && strcasecmp(v, "no") && strcasecmp(v, "off"));
}
