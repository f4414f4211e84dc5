/* Settings that are measured, not reasoned out (tune.def, products.def). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.h"

static bool set(struct tuning *t, const char *name, size_t size, int value)
{
#define TUNE(setting, standard)                                                   \
    if (size == sizeof #setting - 1 && !memcmp(name, #setting, size)) \
        return t->setting = value, true;
#include "kernels/cuda/tune.def"
#define PRODUCT(bits, rows, outs, in, standard) TUNE(bits##_##rows##_##outs##_##in, standard)
#include "kernels/cuda/products.def"
#undef PRODUCT
#undef TUNE
    return false;
}

/* name=value,name=value */
enum status cuda_tuning(struct tuning *out, struct error *err)
{
    *out = (struct tuning){
#define TUNE(setting, standard) .setting = standard,
#include "kernels/cuda/tune.def"
#define PRODUCT(bits, rows, outs, in, standard) .bits##_##rows##_##outs##_##in = standard,
#include "kernels/cuda/products.def"
#undef PRODUCT
#undef TUNE
    };
    const char *at = getenv("INGOT_CUDA_TUNE");
    while (at && *at) {
        size_t size = strcspn(at, ",");
        const char *equals = memchr(at, '=', size);
        char *end = NULL;
        long value = equals ? strtol(equals + 1, &end, 10) : 0;
        if (!equals || end != at + size || value < 0 || value > 1 << 20 || !set(out, at, (size_t)(equals - at), (int)value))
            return error_set(err, STATUS_USAGE, "INGOT_CUDA_TUNE: %s is no name=value of kernels/cuda/tune.def or products.def", QUOTE(at, size));
        at += size + (at[size] == ',');
    }
    return STATUS_OK;
}
