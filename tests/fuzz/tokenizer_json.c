/* tokenizer.json, then the tokenizer that came of it. Input: the file, a NUL, the text to encode. Seeds: the files of
 * tests/unit/tokenizers as text, and shared/hostile/tokenizer.json where it is at hand. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t file = zero ? (size_t)(zero - data) : size;
    const char *text = zero ? (const char *)zero + 1 : "some text 123 \xC3\xA9\xFF";
    size_t text_size = zero ? size - file - 1 : strlen(text);
    struct tokenizer *t;
    struct error err = {0};
    if (tokenizer_open_memory(&t, "fuzz", (const char *)data, file, &err))
        return 0;
    struct ids ids = {0};
    struct str out = {0};
    struct detokenizer d;
    tokenizer_encode(t, text, text_size, (struct encode_options){.add_special = true, .parse_special = true}, &ids, &err);
    detokenizer_init(&d, t, true);
    for (size_t i = 0; i < ids.count; i++)
        if (detokenizer_add(&d, ids.data[i], &out, &err))
            abort(); /* what encode gives, decode must take */
    detokenizer_finish(&d, &out);
    bool *trusted = calloc(text_size + 1, sizeof *trusted);
    if (trusted)
        tokenizer_encode_marked(t, text, text_size, trusted, false, &ids, &err);
    free(trusted);
    detokenizer_free(&d);
    str_free(&out);
    ids_free(&ids);
    tokenizer_close(t);
    return 0;
}
