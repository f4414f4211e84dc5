/* Words beside those of code.h that only Hopper knows (compute capability 9.0a; PTX ISA: mbarrier, cp.async.bulk.tensor, wgmma): barriers
 * that count bytes, copies of boxes of a matrix, products of four warps together. The emulation has them in
 * tests/unit/kernels/emulated_hopper.h.
 *
 * A box of a tensor map has rows of 128 bytes and lies in shared memory at a multiple of 1024: row r at 128 r, and of its eight pieces
 * of 16 bytes number p lies where p ^ r % 8 would ("128-byte swizzle"), so that eight rows of a column touch all banks. Products read
 * their operands in the same manner. */
#ifndef KERNELS_CUDA_HOPPER_WORDS_H
#define KERNELS_CUDA_HOPPER_WORDS_H

#include "kernels/cuda/code.h"

#ifdef __CUDACC__
#define GRID_X ((int64_t)gridDim.x)
/* Shared memory as the words below are told of it. */
#define SHARED_ADDRESS(p) ((uint32_t)__cvta_generic_to_shared(p))
/* Until all of 128 threads are here that say the same number, 1 to 15. */
#define GROUP_BARRIER(number) asm volatile("bar.sync %0, 128;" ::"r"(number) : "memory")
/* Until all lanes are here; what they wrote before can be read behind it. */
#define WARP_BARRIER() __syncwarp()
/* Registers of a thread from here on, fewer or more than at the start; all warps of the four say so. n: a constant, of 8. */
#define REGISTERS_LESS(n) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n))
#define REGISTERS_MORE(n) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n))

/* A barrier is 8 bytes of shared memory. A phase of it ends when `count` have arrived and all bytes are there that were announced; then
 * the next begins. MBARRIER_WAIT: until the phase has ended whose number is even (0) or odd (1). MBARRIER_EXPECT arrives, too.
 * MBARRIER_READY: what was initialised is seen by copies; a BLOCK_BARRIER goes behind it. */
#define MBARRIER_INIT(barrier, count) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory")
#define MBARRIER_READY() asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory")
#define MBARRIER_ARRIVE(barrier) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory")
#define MBARRIER_EXPECT(barrier, bytes) \
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory")
#define MBARRIER_WAIT(barrier, parity) mbarrier_wait((barrier), (parity))
/* The box of `map` that begins at column x and row y, to shared memory, by one thread; its bytes count for the barrier. What lies outside
 * of the matrix is 0. */
#define TENSOR_LOAD(to, map, x, y, barrier)                                                                                                    \
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(map), \
                 "r"((int)(x)), "r"((int)(y)), "r"(barrier)                                                                                    \
                 : "memory")

/* Four 8 x 8 matrices of 2-byte values from shared memory (ldmatrix.x4): lane l points at row l % 8 of matrix l / 8; lane 4 g + t gets of
 * matrix i in out[i] the values 2t and 2t+1 of row g. */
#define LOAD_MATRICES(out, row) load_matrices((out), (row))

/* c[64][n] += a[64][16] b[16][n], bf16 and float32, by four warps, n 128 or 256, a constant. Warp w has rows 16 w .. 16 w + 15, and there
 * lane 4 g + t has of a what MMA has, and of c in c[4 i ..] what MMA has of columns 8 i .. 8 i + 7. b, and a of WGMMA_SHARED: operands
 * of WGMMA_OPERAND, rows of 64 values as TENSOR_LOAD leaves them, of which 16 from the address on are meant: rows of a, columns of b.
 * add 0: c is not read. They run by themselves: between WGMMA_BEGIN, behind which registers may be theirs, and WGMMA_WAIT, which ends
 * them all, nobody may touch c and a. a is what 16 words of registers hold, of up to four products; NULL with WGMMA_SHARED. */
#define WGMMA_OPERAND(address) ((uint64_t)((address) >> 4 & 0x3FFF) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62)
#define WGMMA_BEGIN(n, c, a) wgmma_begin((a))
#define WGMMA(n, c, a, b, add) wgmma((n), (c), (a), (b), (add))
#define WGMMA_SHARED(n, c, a, b, add) wgmma_shared((n), (c), (a), (b), (add))
#define WGMMA_WAIT(n, c, a) wgmma_wait((n), (c), (a))

__device__ static __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity)
{
    uint32_t ended = 0;
    while (!ended)
        asm volatile("{\n .reg .pred p;\n mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(ended)
                     : "r"(barrier), "r"(parity)
                     : "memory");
}

__device__ static __forceinline__ void load_matrices(uint32_t *out, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* Operands of inline assembly: ten numbers, eight registers. */
#define TEN(n) "%" #n "0, %" #n "1, %" #n "2, %" #n "3, %" #n "4, %" #n "5, %" #n "6, %" #n "7, %" #n "8, %" #n "9, "
#define EIGHT(c, i) "+f"((c)[i]), "+f"((c)[i + 1]), "+f"((c)[i + 2]), "+f"((c)[i + 3]), "+f"((c)[i + 4]), "+f"((c)[i + 5]), "+f"((c)[i + 6]), "+f"((c)[i + 7])
#define SUMS_64(c) EIGHT(c, 0), EIGHT(c, 8), EIGHT(c, 16), EIGHT(c, 24), EIGHT(c, 32), EIGHT(c, 40), EIGHT(c, 48), EIGHT(c, 56)
#define SUMS_128(c) SUMS_64(c), SUMS_64((c) + 64)
#define NUMBERS_64 "{" TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) "%60, %61, %62, %63}"
#define NUMBERS_128 "{" TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) TEN(11) "%120, %121, %122, %123, %124, %125, %126, %127}"
#define WORDS_16(a)                                                                                                                        \
    "+r"((a)[0]), "+r"((a)[1]), "+r"((a)[2]), "+r"((a)[3]), "+r"((a)[4]), "+r"((a)[5]), "+r"((a)[6]), "+r"((a)[7]), "+r"((a)[8]), "+r"((a)[9]), \
        "+r"((a)[10]), "+r"((a)[11]), "+r"((a)[12]), "+r"((a)[13]), "+r"((a)[14]), "+r"((a)[15])

/* The compiler is told that the words are used up to here, and were made before. */
__device__ static __forceinline__ void wgmma_begin(uint32_t *a)
{
    if (a)
        asm volatile("wgmma.fence.sync.aligned;" : WORDS_16(a) : : "memory");
    else
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ static __forceinline__ void wgmma(int n, float *c, const uint32_t *a, uint64_t b, int add)
{
    if (n == 256)
        asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %133, 0;\n wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " NUMBERS_128
                     ", {%128, %129, %130, %131}, %132, p, 1, 1, 0;\n}"
                     : SUMS_128(c)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    else
        asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %69, 0;\n wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " NUMBERS_64
                     ", {%64, %65, %66, %67}, %68, p, 1, 1, 0;\n}"
                     : SUMS_64(c)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

__device__ static __forceinline__ void wgmma_shared(int n, float *c, uint64_t a, uint64_t b, int add)
{
    if (n == 256)
        asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %130, 0;\n wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " NUMBERS_128
                     ", %128, %129, p, 1, 1, 0, 0;\n}"
                     : SUMS_128(c)
                     : "l"(a), "l"(b), "r"(add));
    else
        asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %66, 0;\n wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " NUMBERS_64
                     ", %64, %65, p, 1, 1, 0, 0;\n}"
                     : SUMS_64(c)
                     : "l"(a), "l"(b), "r"(add));
}

__device__ static __forceinline__ void wgmma_wait(int n, float *c, uint32_t *a)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    if (n == 256)
        asm volatile("wgmma.wait_group.sync.aligned 0;" : SUMS_128(c) : : "memory");
    else
        asm volatile("wgmma.wait_group.sync.aligned 0;" : SUMS_64(c) : : "memory");
    if (a)
        asm volatile("" : WORDS_16(a) : : "memory");
}
#undef TEN
#undef EIGHT
#undef SUMS_64
#undef SUMS_128
#undef NUMBERS_64
#undef NUMBERS_128
#undef WORDS_16
#endif

#endif
