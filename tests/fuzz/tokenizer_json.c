/* tokenizer.json, then the tokenizer that came of it. Input: the file, a NUL, the text to encode. Seeds: the files of
 * tests/unit/tokenizers as text, and shared/hostile/tokenizer.json where it is at hand. */
#include "tokenizer_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t file = zero ? (size_t)(zero - data) : size;
    const char *text = zero ? (const char *)zero + 1 : "some text 123 \xC3\xA9\xFF";
    struct tokenizer *t;
    struct error err = {0};
    if (tokenizer_open_memory(&t, "fuzz", (const char *)data, file, &err))
        return 0;
    use_tokenizer(t, text, zero ? size - file - 1 : strlen(text));
    tokenizer_close(t);
    return 0;
}
