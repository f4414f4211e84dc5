/* Where the cache has what, on the device and for the host that reads and writes it. A block of 16 tokens holds for each layer
 *   [K: head][what follows], then the same of V
 * with a head's values filled up with zeros to a multiple of 8 (Q8_0, Q4_0: of 32). They lie in units of 16 bytes: eight values of as many
 * neighbouring tokens as have room,
 *   [token / together][value / 8][token % together][8 values]      together: 1 of two bytes a value, 2 of one, 4 of half a byte
 * (F32: 32 bytes, one token), so that every type is read 16 bytes at a time, K by token and V by value. Behind them scales as f16,
 *   [value / 32][token].
 * Q4_0: values 2k and 2k + 1 of eight are bits 4k.. and 4k + 16.. of four bytes: two are one mask away from a pair of f16.
 * C and C++. */
#ifndef KERNELS_CUDA_PLACE_H
#define KERNELS_CUDA_PLACE_H

#include <stdint.h>

#include "kernels/cuda/args.h"

#ifdef __CUDACC__ /* which has the enum storage of its own */
#include "kernels/cuda/code.h"
#define PLACE_CODE __host__ __device__ static inline
#else
#include "kernels/ops.h"
#define PLACE_CODE static inline
#endif

PLACE_CODE int cache_scaled(int type) { return type == STORAGE_Q8_0 || type == STORAGE_Q4_0; }

/* Bytes of eight values of a token; tokens of a unit. */
PLACE_CODE int cache_eight(int type) { return type == STORAGE_F32 ? 32 : type == STORAGE_Q4_0 ? 4 : type == STORAGE_Q8_0 || type == STORAGE_F8_E4M3 ? 8 : 16; }

PLACE_CODE int cache_together(int type) { return cache_eight(type) < 16 ? 16 / cache_eight(type) : 1; }

/* From a head's first byte in a block to the eight values that value i of a slot is of; filled: values of a head. */
PLACE_CODE int cache_place(int type, int filled, int slot, int i)
{
    int eight = cache_eight(type), together = cache_together(type);
    return (slot / together * (filled / 8) + i / 8) * (eight * together) + slot % together * eight;
}

/* And to the scale of value i. */
PLACE_CODE int cache_scale(int type, int filled, int slot, int i) { return SLOTS_PER_BLOCK * filled / 8 * cache_eight(type) + (i / 32 * SLOTS_PER_BLOCK + slot) * 2; }

/* Where in its four bytes one of eight values of Q4_0 begins: bits. */
PLACE_CODE int cache_bits(int i) { return i % 8 / 2 * 4 + i % 2 * 16; }

#endif
