/* Any bytes as a template, and, behind a NUL, any JSON as its variables: nothing but an error or a text may come out. */
#include <stdint.h>
#include <string.h>

#include "tokenizers/tokenizers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *second = size ? memchr(text, 0, size) : NULL;
    size_t first = second ? (size_t)(second - text) : size;
    static const char plain[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"l\": [3, 1.5, \"a\", null, {}], \"n\": 5}";
    struct arena arena = {0};
    struct json context = {.kind = JSON_OBJECT};
    if (!second || json_parse(&arena, second + 1, size - first - 1, NULL, &context, NULL) || context.kind != JSON_OBJECT)
        if (json_parse(&arena, plain, sizeof plain - 1, NULL, &context, NULL))
            return 0;
    struct chat_limits limits = {.steps = 100000, .output = 1 << 20, .memory = 8 << 20, .depth = 50};
    struct chat_template *t = NULL;
    struct chat_text out = {0};
    struct error err;
    if (!chat_compile(&t, "fuzz", text, first, &err))
        chat_render(t, &context, "2026-01-02T03:04:05", &limits, &out, &err);
    chat_text_free(&out);
    chat_free(t);
    arena_free(&arena);
    return 0;
}
