/* tokenizer.model (SentencePiece's file or tiktoken's ranks) and tekken.json. Input: two bytes, the length of the text (little-endian),
 * the text to encode, the file. Seeds: shared/hostile/tokenizer.model with two NULs in front, where it is at hand. */
#include "tokenizer_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t length = size >= 2 ? data[0] | (size_t)data[1] << 8 : 0;
    struct tokenizer *t;
    struct error err = {0};
    if (size < 2 || length > size - 2)
        return 0;
    const char *text = (const char *)data + 2;
    if (tokenizer_open_bytes(&t, "fuzz", text + length, size - 2 - length, &err))
        return 0;
    use_tokenizer(t, length ? text : "ab \xE2\x96\x81 <s>\xFF", length ? length : 11);
    tokenizer_close(t);
    return 0;
}
