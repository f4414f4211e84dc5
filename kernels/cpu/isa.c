/* Which instruction set runs. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
#define HAS(feature) __builtin_cpu_supports(#feature)
#define CPU_INIT() __builtin_cpu_init()
#elif defined(__aarch64__)
#include <sys/auxv.h>
#define HWCAP(feature) ((getauxval(AT_HWCAP) & HWCAP_##feature) != 0)
#define HWCAP2(feature) ((getauxval(AT_HWCAP2) & HWCAP2_##feature) != 0)
#endif
#ifndef CPU_INIT
#define CPU_INIT() ((void)0)
#endif

/* Names that INGOT_ISA may hold on any machine, weakest first. One without a table of its own means the next weaker one. */
static const char *const known[] = {"scalar", "neon", "neon-dotprod", "neon-i8mm", "avx2", "avx512", "avx512-vnni", "amx"};
enum { KNOWN = sizeof known / sizeof *known };

static int rank(const char *name)
{
    for (int i = 0; i < KNOWN; i++)
        if (strcmp(known[i], name) == 0)
            return i;
    return -1;
}

const struct isa *isa_best(struct error *err)
{
    const char *limit = getenv("INGOT_ISA");
    int most = limit && *limit ? rank(limit) : KNOWN;
    if (most < 0) {
        error_set(err, STATUS_USAGE, "INGOT_ISA is %s; known are scalar, neon, neon-dotprod, neon-i8mm, avx2, avx512, avx512-vnni, amx", QUOTE(limit, strlen(limit)));
        return NULL;
    }
    CPU_INIT();
    const struct isa *best = NULL;
#define ISA(id, name, check)            \
    if (rank(name) <= most && (check))  \
        best = &isa_##id;
#include "kernels/cpu/isa.def"
#undef ISA
    if (!best)
        error_set(err, STATUS_DEVICE, "this processor has none of the instruction sets that the program was built for");
    return best;
}

const struct isa *isa_find(const char *wanted)
{
    CPU_INIT();
#define ISA(id, name, check)                      \
    if (strcmp(name, wanted) == 0 && (check))     \
        return &isa_##id;
#include "kernels/cpu/isa.def"
#undef ISA
    return NULL;
}

const char *cpu_isa_name(void)
{
    const struct isa *isa = isa_best(NULL);
    return isa ? isa->name : "none";
}

const char *cpu_isa_refused(void)
{
    const char *why = NULL;
#if defined(__x86_64__)
    const char *limit = getenv("INGOT_ISA");
    if (!limit || !*limit || strcmp(limit, "amx") == 0)
        amx_usable(&why);
#endif
    return why;
}
