/* Any bytes as a schema, a regex, GBNF or Lark (by the first byte), then, behind a NUL, as a text: nothing but an error or a
 * language may come out, no text is taken that cannot go on, and a copy goes the same way. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizers/tokenizers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status compile(struct grammar **out, int kind, const char *text, size_t size, struct error *err)
{
    struct arena arena = {0};
    struct json schema;
    if (kind == 1)
        return grammar_compile_regex(out, text, size, err);
    if (kind == 2)
        return grammar_compile_gbnf(out, text, size, err);
    if (kind == 3)
        return grammar_compile_lark(out, text, size, err);
    enum status status = json_parse(&arena, text, size, NULL, &schema, err);
    if (!status)
        status = grammar_compile_schema(out, &schema, err);
    arena_free(&arena);
    return status;
}

/* Some byte must be able to follow what is not whole. */
static void check_goes_on(const struct grammar_state *s)
{
    struct error err;
    bool any = grammar_complete(s);
    for (int b = 0; b < 256 && !any; b++) {
        struct grammar_state *copy;
        char byte = (char)b;
        if (grammar_state_copy(&copy, s, &err))
            return;
        enum status status = grammar_accept_bytes(copy, &byte, 1, NULL, &err);
        any = status != STATUS_USAGE; /* or memory ran out */
        grammar_state_close(copy);
    }
    if (!any)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096)
        return 0;
    const char *source = (const char *)data + 1, *text = memchr(source, 0, size - 1);
    size_t length = text ? (size_t)(text - source) : size - 1, rest = text ? size - 2 - length : 0;
    struct grammar *g = NULL;
    struct grammar_state *s;
    struct error err;
    if (compile(&g, data[0] & 3, source, length, &err))
        return 0;
    if (!grammar_state_open(&s, g, &err)) {
        check_goes_on(s);
        grammar_accept_bytes(s, text ? text + 1 : "", rest, NULL, &err);
        check_goes_on(s);
        grammar_state_close(s);
    }
    grammar_close(g);
    return 0;
}
