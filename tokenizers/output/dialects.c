/* The table of dialects. */
#include "tokenizers/output/output.h"

#define DIALECT(name, ...)
#define TAGS(name, ...) static const struct tag_words tags_##name = {__VA_ARGS__};
#include "tokenizers/dialects.def"
#undef DIALECT
#undef TAGS

#define DIALECT(id, ...) {.name = #id, __VA_ARGS__},
#define TAGS(name, ...)
static const struct dialect dialects[] = {
#include "tokenizers/dialects.def"
};

const struct dialect *dialect_at(size_t index) { return index < sizeof dialects / sizeof *dialects ? &dialects[index] : NULL; }

const struct dialect *dialect_find(const char *name, size_t size)
{
    const struct dialect *d;
    for (size_t i = 0; (d = dialect_at(i)); i++)
        if (strlen(d->name) == size && !memcmp(d->name, name, size))
            return d;
    return NULL;
}

const char *dialect_name(const struct dialect *d) { return d->name; }

bool dialect_reasoning(const struct dialect *d, size_t index, const char **open, const char **close)
{
    if (index >= MAX_THINK || !d->think[index].open)
        return false;
    *open = d->think[index].open;
    *close = d->think[index].close;
    return true;
}

bool dialect_has_channels(const struct dialect *d) { return d->harmony; }
