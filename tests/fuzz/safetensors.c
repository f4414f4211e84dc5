/* Any bytes as a safetensors file: an error with words, or tensors that lie inside the file. */
#include <string.h>

#include "base/files/tensors.h"
#include "base/log.h"
#include "memory_file.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char path[64];
    struct tensor_set *set;
    struct error err = {0};
    log_set_level(LOG_QUIET);
    int fd = memory_file(data, size, path);
    if (safetensors_open(&set, path, MAPPING_FILE, &err)) {
        if (!err.text[0])
            abort();
    } else {
        unsigned sum = 0;
        for (int64_t i = 0; i < set->tensor_count; i++)
            if (set->tensors[i].bytes) /* the ends are readable */
                sum += set->tensors[i].data[0] + set->tensors[i].data[set->tensors[i].bytes - 1];
        if (sum == 0xFFFFFFFF)
            abort();
        tensor_set_close(set);
    }
    close(fd);
    return 0;
}
