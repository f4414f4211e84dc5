/* Whether AMX can be used. Apart from its kernels, whose folder is compiled for processors that have it. */
#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* asm/prctl.h and the number of the state component that holds the tiles (Linux, Documentation/arch/x86/xstate.rst) */
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
/* of leaf 7's edx (Intel's manual, volume 2, CPUID); gcc 12 has no names for them in __builtin_cpu_supports */
enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };

bool amx_usable(const char **why)
{
    unsigned a, b, c, d;
    bool there = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_TILE) && (d & AMX_BF16);
    /* Refused where the kernel is older than 5.16, where a filter of system calls lets none of these through, and where a thread's
     * stack for signals is too small for the tiles. */
    bool granted = there && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    if (why)
        *why = there && !granted ? "the processor has AMX, but the kernel refuses the use of its tiles (arch_prctl; it needs Linux 5.16)" : NULL;
    return granted;
}
#endif
