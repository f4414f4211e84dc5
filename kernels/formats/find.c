#include "kernels/formats/formats.h"
#include "kernels/ops.h"

#define IF_0(name) NULL
#define IF_1(name) name
static const struct format formats[STORAGE_COUNT] = {
#define FORMAT(id, name, encode, round) [STORAGE_##id] = {STORAGE_##id, name##_decode, IF_##encode(name##_encode), IF_##round(name##_round)},
#include "kernels/formats/formats.def"
#undef FORMAT
};

const struct format *format_find(enum storage storage)
{
    return (unsigned)storage < STORAGE_COUNT && formats[storage].decode ? &formats[storage] : NULL;
}

void format_round(enum storage storage, const float *values, unsigned char *bytes, int64_t count)
{
    const struct format *f = format_find(storage);
    if (f->round)
        f->round(values, bytes, count);
    else
        f->encode(values, NULL, bytes, count);
}
