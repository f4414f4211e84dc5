#include "kernels/formats/formats.h"
#include "kernels/ops.h"

#define ENCODE_0(name) NULL
#define ENCODE_1(name) name##_encode
static const struct format formats[STORAGE_COUNT] = {
#define FORMAT(id, name, encode) [STORAGE_##id] = {STORAGE_##id, name##_decode, ENCODE_##encode(name)},
#include "kernels/formats/formats.def"
#undef FORMAT
};

const struct format *format_find(enum storage storage)
{
    return (unsigned)storage < STORAGE_COUNT && formats[storage].decode ? &formats[storage] : NULL;
}
