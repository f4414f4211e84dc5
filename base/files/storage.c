#include "base/files/tensors.h"

const struct storage_type storage_types[STORAGE_COUNT] = {
#define TYPE(id, name, elements, bytes, gguf, safetensors) {name, elements, bytes, gguf, safetensors},
#include "base/files/types.def"
#undef TYPE
};

bool storage_bytes(enum storage type, uint64_t elements, uint64_t *bytes)
{
    const struct storage_type *t = &storage_types[type];
    if (elements % (uint64_t)t->block_elements)
        return false;
    return !__builtin_mul_overflow(elements / (uint64_t)t->block_elements, (uint64_t)t->block_bytes, bytes);
}
