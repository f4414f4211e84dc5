/* The roofs of this machine, now: reading memory by the kind of its pages, and dot products by type, with the instruction set
 * that ingot would run (INGOT_ISA names another).
 *
 *   bench_roof [THREADS]        default: one, then all */
#include <stdio.h>
#include <stdlib.h>

#include "base/team.h"
#include "kernels/ops.h"
#include "runtime/ingot.h"

int main(int argc, char **argv)
{
    int all = argc > 1 ? atoi(argv[1]) : team_cores();
    printf("%s\n| threads | mapped file, GB/s | 4 KB pages | huge pages | int8, GOP/s | bf16 | f32 |\n|---|---|---|---|---|---|---|\n", cpu_isa_name());
    for (int threads = argc > 1 ? all : 1; threads <= all; threads = threads < all ? all : all + 1)
        printf("| %d | %.1f | %.1f | %.1f | %.0f | %.0f | %.0f |\n", threads, ingot_read_bandwidth(INGOT_PAGES_FILE, threads) / 1e9,
               ingot_read_bandwidth(INGOT_PAGES_SMALL, threads) / 1e9, ingot_read_bandwidth(INGOT_PAGES_HUGE, threads) / 1e9,
               ingot_dot_peak(INGOT_DOTS_INT8, threads) / 1e9, ingot_dot_peak(INGOT_DOTS_BF16, threads) / 1e9, ingot_dot_peak(INGOT_DOTS_F32, threads) / 1e9);
    return 0;
}
