/* A tokenizer that came of a file, used in all ways that must not fail: shared by the targets for tokenizer files. */
#ifndef TESTS_FUZZ_TOKENIZER_FILES_H
#define TESTS_FUZZ_TOKENIZER_FILES_H

#include <stdlib.h>
#include <string.h>

#include "tokenizers/internal.h"

static inline void use_tokenizer(const struct tokenizer *t, const char *text, size_t size)
{
    struct ids ids = {0};
    struct str out = {0};
    struct error err = {0};
    struct detokenizer d;
    tokenizer_encode(t, text, size, (struct encode_options){.add_special = true, .parse_special = true}, &ids, &err);
    size_t count = ids.count;
    tokenizer_encode(t, text, size, (struct encode_options){.add_special = true, .parse_special = true}, &ids, &err);
    if (ids.count != count && (ids.count != 2 * count || memcmp(ids.data, ids.data + count, count * sizeof *ids.data) != 0))
        abort(); /* what is remembered must be what was found */
    detokenizer_init(&d, t, true);
    for (size_t i = 0; i < ids.count; i++)
        if (detokenizer_add(&d, ids.data[i], &out, &err))
            abort(); /* what encode gives, decode must take */
    detokenizer_finish(&d, &out);
    bool *trusted = calloc(size + 1, sizeof *trusted);
    if (trusted)
        tokenizer_encode_marked(t, text, size, trusted, false, &ids, &err);
    free(trusted);
    detokenizer_free(&d);
    str_free(&out);
    ids_free(&ids);
}

#endif
