/* One file of a Hub repository at one commit. */
#include <stdlib.h>
#include <string.h>

#include "runtime/fetch/private.h"

enum status hub_fetch(struct arena *arena, const char *repository, const char *commit, const char *file, const char *sha256, const char *path,
                      const struct ingot_model_options *options, struct error *err)
{
    const char *endpoint = getenv("HF_ENDPOINT");
    if (!endpoint || !*endpoint)
        endpoint = "https://huggingface.co";
    size_t n = strlen(endpoint);
    while (n && endpoint[n - 1] == '/')
        n--;
    struct http_request r = {.token = hub_token(arena), .what = file, .options = options};
    r.url = arena_format(arena, "%.*s/%s/resolve/%s/%s", (int)n, endpoint, repository, commit, file);
    return r.url ? http_file(&r, path, sha256, err) : error_memory(err, "an address");
}
