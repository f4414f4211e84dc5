/* Which instruction set runs. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
#define HAS(feature) __builtin_cpu_supports(#feature)
#elif defined(__aarch64__)
#include <sys/auxv.h>
#define HWCAP(feature) ((getauxval(AT_HWCAP) & HWCAP_##feature) != 0)
#define HWCAP2(feature) ((getauxval(AT_HWCAP2) & HWCAP2_##feature) != 0)
#endif

struct candidate {
    const char *name;
    const struct isa *isa;
    bool usable;
};

enum { ISA_MOST = 8 };

static int candidates(struct candidate out[ISA_MOST])
{
    int count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
#define ISA(id, name, check) out[count++] = (struct candidate){name, &isa_##id, (check)};
#include "kernels/cpu/isa.def"
#undef ISA
    return count;
}

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
    struct candidate c[ISA_MOST];
    const struct isa *best = NULL;
    for (int i = 0, count = candidates(c); i < count; i++)
        if (c[i].usable && rank(c[i].name) <= most)
            best = c[i].isa;
    if (!best)
        error_set(err, STATUS_DEVICE, "this processor has none of the instruction sets that the program was built for");
    return best;
}

const struct isa *isa_find(const char *name)
{
    struct candidate c[ISA_MOST];
    for (int i = 0, count = candidates(c); i < count; i++)
        if (c[i].usable && strcmp(c[i].name, name) == 0)
            return c[i].isa;
    return NULL;
}

const char *cpu_isa_name(void)
{
    const struct isa *isa = isa_best(NULL);
    return isa ? isa->name : "none";
}
