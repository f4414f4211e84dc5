/* A trial passes with every format; cuda_trial.c has what fails. */
#include "tiny.h"

Test(trial, every_format)
{
    struct error err = {0};
    const struct backend *cpu = backend_cpu(&err);
    for (int format = 0; format < STORAGE_COUNT; format++) {
        if (!format_find((enum storage)format) || format == STORAGE_F8_E4M3)
            continue;
        struct tiny_shape s = {.hidden = 256, .heads = 2, .kv_heads = 1, .head_dim = 64, .inner = 256, .layers = 1, .vocab = 10, .format = (enum storage)format};
        struct tiny t;
        tiny_build(&t, &s);
        struct compile_options o = tiny_options(STORAGE_F16);
        cr_assert_eq(backend_trial(cpu, &t.p, &o, &err), STATUS_OK, "%s: %s", storage_types[format].name, err.text);
        arena_free(&t.arena);
    }
}
