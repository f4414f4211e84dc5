#include "runtime/fetch/fetch.h"

#include <string.h>
#include <unistd.h>

enum status fetch_find(struct arena *arena, const char *name, const struct ingot_model_options *options, char **path, struct error *err)
{
    (void)options;
    *path = arena_copy(arena, name, strlen(name));
    if (!*path)
        return error_memory(err, "a path");
    if (access(name, F_OK) == 0)
        return STATUS_OK;
    return error_set(err, STATUS_NOT_FOUND, "%s: no such file or folder; fetching from the Hub is not supported yet", QUOTE(name, strlen(name)));
}
