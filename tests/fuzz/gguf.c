/* Any bytes as a GGUF model: metadata, tensors, configuration, program, vocabulary. */
#include <string.h>

#include "base/log.h"
#include "memory_file.h"
#include "models/model.h"
#include "tokenizers/tokenizers.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char path[64];
    struct error err = {0};
    struct tensor_set *set;
    struct model *model;
    struct tokenizer *tokenizer = NULL;
    log_set_level(LOG_QUIET);
    int fd = memory_file(data, size, path);
    if (gguf_open(&set, path, MAPPING_FILE, &err)) {
        if (!err.text[0])
            abort();
    } else {
        if (!tokenizer_open_gguf(&tokenizer, set, &err)) {
            struct ids ids = {0};
            tokenizer_encode(tokenizer, "the hen hears", 13, (struct encode_options){true, true}, &ids, &err);
            ids_free(&ids);
        }
        tokenizer_close(tokenizer);
        tensor_set_close(set);
        if (model_open(&model, path, MAPPING_FILE, &err) == STATUS_OK)
            model_close(model);
        else if (!err.text[0])
            abort();
    }
    close(fd);
    return 0;
}
