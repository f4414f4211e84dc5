/* The few words that kernels are written in. nvcc makes CUDA of them; elsewhere the bodies run as plain C in an emulated block of
 * threads (tests/unit/kernels/emulated_block.h), which defines the same words before it includes a kernel. So the code that runs on a
 * card is the code that was tested. Common subset of C and C++. */
#ifndef KERNELS_CUDA_CODE_H
#define KERNELS_CUDA_CODE_H

#include <math.h>

#include "kernels/cuda/args.h"
#include "kernels/formats/fp4.h"
#include "kernels/formats/small.h"

#ifdef __CUDACC__
#define KERNEL_CODE __device__ static __forceinline__
#define KERNEL_TABLE __device__ static const
#define UNROLL _Pragma("unroll")
#define UNROLL_BY(n) _Pragma(CODE_TEXT(unroll n))
#define CODE_TEXT(text) #text
#define THREAD ((int)threadIdx.x)
#define BLOCK ((int64_t)blockIdx.x)
#define BLOCK_Y ((int64_t)blockIdx.y)
#define GRID_Y ((int64_t)gridDim.y)
/* Floats that the threads of a block share, at a multiple of 16 bytes; a kernel has one such array, of a size given at its launch. */
#define SHARED_FLOATS(name) extern __shared__ __align__(16) float name[]
/* Until all threads of the block are here. What they wrote before can be read behind it. */
#define BLOCK_BARRIER() __syncthreads()
/* What this thread wrote before it is seen by all blocks before what it writes behind. */
#define FENCE() __threadfence()
/* The value of the lane whose number differs by the bits of `lanes`; all 32 lanes of a warp take part. */
#define LANE_FLOAT(value, lanes) __shfl_xor_sync(0xFFFFFFFFu, (value), (lanes))
#define LANE_INT(value, lanes) __shfl_xor_sync(0xFFFFFFFFu, (value), (lanes))
/* Sixteen bytes at a multiple of 16. WORDS_ONCE: of weights, which nobody reads again soon, past the first cache. */
#define WORDS(p) words_of(*(const uint4 *)(const void *)(p))
#define WORDS_ONCE(p) words_of(__ldcs((const uint4 *)(const void *)(p)))
#define STORE_WORDS(p, value) (*(uint4 *)(void *)(p) = make_uint4((value).w[0], (value).w[1], (value).w[2], (value).w[3]))
/* The same, and one instruction even where another path stores single values, with which the compiler would make it one. */
#define STORE_WORDS_WHOLE(p, value) __stcg((uint4 *)(void *)(p), make_uint4((value).w[0], (value).w[1], (value).w[2], (value).w[3]))
/* c plus the products of four signed bytes each */
#define DOT4(a, b, c) __dp4a((int)(a), (int)(b), (c))
/* Four of the eight bytes of a and b: nibble i of `select` says which one byte i is. */
#define CHOOSE_BYTES(a, b, select) __byte_perm((a), (b), (select))
#define HALF_FLOAT(bits) half_bits_float(bits)
/* Adds to an unsigned int or unsigned long long that others add to at the same time; what it was before. */
#define ATOMIC_ADD(address, value) atomicAdd((address), (value))
/* Programmatic dependent launch. GRID_GO: the next kernel of the stream may take what room there is from now on. GRID_WAIT: until all
 * that was asked for before has been done; only weights may be touched earlier. PREFETCH: the 128 bytes that hold p, to the second cache;
 * harmless wherever p points. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define GRID_GO() asm volatile("griddepcontrol.launch_dependents;" ::: "memory")
#define GRID_WAIT() asm volatile("griddepcontrol.wait;" ::: "memory")
#else
#define GRID_GO() ((void)0)
#define GRID_WAIT() ((void)0)
#endif
#define PREFETCH(p) asm volatile("prefetch.global.L2 [%0];" ::"l"(p))
/* Two bf16 of each word: a * b + c, rounded once; two floats to a word of two bf16, the first in its lower half. */
#define FMA_PAIR(a, b, c) bf16_pair_fma((a), (b), (c))
#define BF16_PAIR(low, high) bf16_pair((low), (high))
#define HALF_PAIR(low, high) half_pair((low), (high))
/* Two f16 of each word, rounded once each; two e4m3 of the lower half as f16, where cards do that. */
#define ADD_HALVES(a, b) halves_add((a), (b))
#define MUL_HALVES(a, b) halves_multiply((a), (b))
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
#define E4M3_PAIR(bytes) e4m3_halves(bytes)
#endif
/* e^x, a few units in the last place off */
#define EXP_FAST(x) __expf(x)
/* Matrix units, all 32 lanes of a warp: c[16][8] += a[16][16] b[16][8], bf16 and float32 (mma.sync.m16n8k16). Lane l = 4 g + t has
 *   a[0]: (g, 2t 2t+1), a[1]: (g+8, ..), a[2]: (g, 2t+8 2t+9), a[3]: (g+8, ..)    two values of a row to a word
 *   b[0]: (2t 2t+1, g), b[1]: (2t+8 2t+9, g)                                      two values of a column
 *   c[0] c[1]: (g, 2t 2t+1), c[2] c[3]: (g+8, ..)
 * Which k is meant is the caller's affair as long as a and b mean the same. */
#define MMA(c, a, b) mma_bf16((c), (a), (b))
#define MMA_HALF(c, a, b) mma_half((c), (a), (b)) /* of f16 */
/* Four 8 x 8 matrices of 2-byte values from shared memory, turned (ldmatrix.x4.trans): lane l points at row l % 8 of matrix l / 8, 16
 * bytes; lane 4 g + t gets of matrix i in out[i] the values of column g in rows 2t and 2t+1. */
#define LOAD_TURNED(out, row) load_turned((out), (row))
/* An 8 x 8 matrix of 2-byte values in registers, turned (movmatrix): lane 4 g + t brings two of row g, columns 2t and 2t+1, and gets those of
 * column g in rows 2t and 2t+1. All lanes of the warp take part. */
#define TURN_PAIRS(word) turn_pairs(word)
/* Sixteen bytes to shared memory, some time before COPY_WAIT(n), which leaves at most the n latest groups of this thread's copies under
 * way; COPY_GROUP ends a group. Other threads see them behind a barrier. n is a constant. */
#define COPY_ASYNC(to, from) copy_async((to), (from))
#define COPY_GROUP() asm volatile("cp.async.commit_group;" ::: "memory")
#define COPY_WAIT(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")
#endif

struct words {
    uint32_t w[4];
};
#ifdef __CUDACC__
__device__ static inline struct words words_of(uint4 v)
{
    struct words out = {{v.x, v.y, v.z, v.w}};
    return out;
}
__device__ static inline float half_bits_float(uint16_t bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
/* One instruction that makes a word. */
#define WORD_OF(name, parameters, instruction, ...)           \
    __device__ static inline uint32_t name parameters         \
    {                                                         \
        uint32_t out;                                         \
        asm(instruction ";" : "=r"(out) : __VA_ARGS__);       \
        return out;                                           \
    }
WORD_OF(bf16_pair_fma, (uint32_t a, uint32_t b, uint32_t c), "fma.rn.bf16x2 %0, %1, %2, %3", "r"(a), "r"(b), "r"(c))
WORD_OF(bf16_pair, (float low, float high), "cvt.rn.bf16x2.f32 %0, %1, %2", "f"(high), "f"(low))
WORD_OF(half_pair, (float low, float high), "cvt.rn.f16x2.f32 %0, %1, %2", "f"(high), "f"(low))
WORD_OF(halves_add, (uint32_t a, uint32_t b), "add.rn.f16x2 %0, %1, %2", "r"(a), "r"(b))
WORD_OF(halves_multiply, (uint32_t a, uint32_t b), "mul.rn.f16x2 %0, %1, %2", "r"(a), "r"(b))
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
WORD_OF(e4m3_halves, (uint32_t bytes), "cvt.rn.f16x2.e4m3x2 %0, %1", "h"((uint16_t)bytes))
#endif
#undef WORD_OF
__device__ static inline uint32_t turn_pairs(uint32_t word)
{
    uint32_t out;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(word));
    return out;
}
#define MMA_OF(name, type)                                                                                                                      \
    __device__ static inline void name(float *c, const uint32_t *a, const uint32_t *b)                                                          \
    {                                                                                                                                           \
        asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                                                    \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                                                \
    }
MMA_OF(mma_bf16, "bf16")
MMA_OF(mma_half, "f16")
#undef MMA_OF
__device__ static inline void load_turned(uint32_t *out, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}
__device__ static inline void copy_async(void *to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}
#endif

#ifdef __CUDACC__ /* ops.h has these for C */
enum storage {
#define TYPE(id, name, elements, bytes, gguf, safetensors) STORAGE_##id,
#include "base/files/types.def"
#undef TYPE
};
enum activation {
#define ACTIVATION(name) ACT_##name,
#include "kernels/activations.def"
#undef ACTIVATION
};
#endif
enum { /* of a block: values, bytes */
#define TYPE(id, name, elements, bytes, gguf, safetensors) ELEMENTS_##id = elements, BYTES_##id = bytes,
#include "base/files/types.def"
#undef TYPE
};

/* Sums and largest values of a warp, the same bits in every lane. */
KERNEL_CODE float warp_sum(float v)
{
    for (int lanes = 16; lanes; lanes /= 2)
        v += LANE_FLOAT(v, lanes);
    return v;
}

KERNEL_CODE float warp_most(float v)
{
    for (int lanes = 16; lanes; lanes /= 2)
        v = fmaxf(v, LANE_FLOAT(v, lanes));
    return v;
}

KERNEL_CODE int warp_most_int(int v)
{
    for (int lanes = 16; lanes; lanes /= 2) {
        int other = LANE_INT(v, lanes);
        v = other > v ? other : v;
    }
    return v;
}

/* The largest value of a block, the same in every thread; room: CUDA_WARPS shared floats. */
KERNEL_CODE float block_most(float v, float *room)
{
    v = warp_most(v);
    BLOCK_BARRIER(); /* room may still be read */
    if (THREAD % 32 == 0)
        room[THREAD / 32] = v;
    BLOCK_BARRIER();
    for (int i = 0; i < CUDA_WARPS; i++)
        v = fmaxf(v, room[i]);
    return v;
}

/* The sum over a block, the same bits in every thread; room: CUDA_WARPS shared floats. */
KERNEL_CODE float block_sum(float v, float *room)
{
    v = warp_sum(v);
    BLOCK_BARRIER(); /* room may still be read from the sum before */
    if (THREAD % 32 == 0)
        room[THREAD / 32] = v;
    BLOCK_BARRIER();
    float sum = 0;
    for (int i = 0; i < CUDA_WARPS; i++)
        sum += room[i];
    return sum;
}

#endif
