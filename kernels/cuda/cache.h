/* The cache: writing K and V rounded to their type, and reading them back. A block of 16 tokens holds for each layer
 *   [K: head][slot][bytes of a head], then the same of V,
 * a head's values being filled up with zeros to a multiple of 8 (Q8_0, Q4_0: of 32). The rounding is that of
 * kernels/formats/X.c bit for bit, so a cache is the same whoever wrote it. */
#ifndef KERNELS_CUDA_CACHE_H
#define KERNELS_CUDA_CACHE_H

#include "kernels/cuda/rows.h"

KERNEL_CODE unsigned char *cache_at(const struct device_batch *b, const struct device_state *s, const struct device_part *part, int32_t sequence,
                                    int64_t slot, int64_t head)
{
    const struct device_sequence *q = &b->sequences[sequence];
    int64_t block = b->blocks[q->tables + s->group * q->stride + slot / SLOTS_PER_BLOCK];
    return s->pool + block * s->block_bytes + part->offset + (head * SLOTS_PER_BLOCK + slot % SLOTS_PER_BLOCK) * part->head_bytes;
}

/* The eight signed codes of q times d. */
KERNEL_CODE void cache_codes(float d, uint32_t low, uint32_t high, float *v)
{
    UNROLL for (int j = 0; j < 4; j++) {
        v[j] = d * (float)(signed char)(low >> (8 * j));
        v[4 + j] = d * (float)(signed char)(high >> (8 * j));
    }
}

/* Values i .. i + 7 of a head, i a multiple of 8. */
KERNEL_CODE void cache_run(int type, const unsigned char *p, int i, float *v)
{
    if (type == STORAGE_F32) {
        struct words low = WORDS(p + 4 * i), high = WORDS(p + 4 * i + 16);
        UNROLL for (int j = 0; j < 4; j++) {
            v[j] = float_of_bits(low.w[j]);
            v[4 + j] = float_of_bits(high.w[j]);
        }
    } else if (type == STORAGE_F8_E4M3) {
        uint64_t codes = *(const uint64_t *)(const void *)(p + i);
        UNROLL for (int j = 0; j < RUN_VALUES; j++)
            v[j] = e4m3_to_float((unsigned char)(codes >> (8 * j)));
    } else if (type == STORAGE_Q8_0 || type == STORAGE_Q4_0) { /* groups of 34 and 18 bytes */
        const uint16_t *b = (const uint16_t *)(const void *)(p + i / 32 * (type == STORAGE_Q8_0 ? BYTES_Q8_0 : BYTES_Q4_0));
        const uint16_t *codes = b + 1 + (type == STORAGE_Q8_0 ? i % 32 : i % 16) / 2;
        uint32_t low = codes[0] | (uint32_t)codes[1] << 16, high = codes[2] | (uint32_t)codes[3] << 16;
        if (type == STORAGE_Q4_0) { /* to a byte each, 8 less: a byte's upper half is its sign */
            int shift = i / 16 % 2 * 4;
            low = ((low >> shift & 0x0F0F0F0F) ^ 0x08080808) * 16;
            high = ((high >> shift & 0x0F0F0F0F) ^ 0x08080808) * 16;
        }
        float d = HALF_FLOAT(b[0]);
        cache_codes(type == STORAGE_Q4_0 ? d * 0.0625f : d, low, high, v);
    } else {
        struct words pairs = WORDS(p + 2 * i);
        UNROLL for (int j = 0; j < RUN_VALUES; j++) {
            uint16_t bits = (uint16_t)(pairs.w[j / 2] >> (16 * (j % 2)));
            v[j] = type == STORAGE_F16 ? HALF_FLOAT(bits) : bf16_to_float(bits);
        }
    }
}

/* ---- STORE ---------------------------------------------------------------------------------------------------------------- */

/* f8_e4m3_encode() */
KERNEL_CODE unsigned char e4m3_of(float value)
{
    uint32_t bits = bits_of_float(value), size = bits & 0x7FFFFFFF, code;
    if (size >= 0x7F800000)
        code = 0x7F;
    else if (size < 0x3C800000)
        code = bits_of_float(float_of_bits(size) + 0x1p14f) - 0x46800000;
    else
        code = ((size + 0x7FFFF + (size >> 20 & 1)) >> 20) - (120 << 3);
    if (size < 0x7F800000 && code > 0x7E)
        code = 0x7E;
    return (unsigned char)(code | (bits >> 24 & 0x80));
}

/* group_most() of the values that a warp's lanes hold */
KERNEL_CODE float warp_magnitude(float value)
{
    int most = warp_most_int((int)(bits_of_float(value) & 0x7FFFFFFF));
    return float_of_bits(most < 0x7F800000 ? (uint32_t)most : 0x7FC00000);
}

/* q8_0_round() of one group, a value in each lane */
KERNEL_CODE void store_q8_0(float value, int lane, unsigned char *b)
{
    float d = warp_magnitude(value) / 127;
    if (lane == 0)
        store_half(d, b);
    b[2 + lane] = d > 0x1p-26f ? (unsigned char)(int)nearest(value * (1 / d)) : 0;
}

/* q4_0_round() */
KERNEL_CODE void store_q4_0(float value, int lane, unsigned char *b)
{
    float most = warp_magnitude(value);
    int positive = warp_most_int(value == most);
    float d = positive ? most / -8 : most / 8;
    int code = 8;
    if (most > 0x1p-22f) {
        int q = (int)nearest(value * (1 / d)) + 8;
        code = q > 15 ? 15 : q;
    }
    int above = LANE_INT(code, 16);
    if (lane == 0)
        store_half(d, b);
    if (lane < 16)
        b[2 + lane] = (unsigned char)(code | above << 4);
}

/* Value i of a head to its place; with a scale, 32 lanes at once do a group. */
KERNEL_CODE void cache_store(int type, float value, int i, unsigned char *p)
{
    switch (type) {
    case STORAGE_F32:
        memcpy(p + 4 * i, &value, 4);
        break;
    case STORAGE_F16:
        store_u16(p + 2 * i, float_to_half(value));
        break;
    case STORAGE_BF16:
        store_u16(p + 2 * i, float_to_bf16(value));
        break;
    case STORAGE_F8_E4M3:
        p[i] = e4m3_of(value);
        break;
    case STORAGE_Q8_0:
        store_q8_0(value, i % 32, p + i / 32 * BYTES_Q8_0);
        break;
    case STORAGE_Q4_0:
        store_q4_0(value, i % 32, p + i / 32 * BYTES_Q4_0);
        break;
    }
}

/* A head's values x[dim] by a block, a warp for each 32. */
KERNEL_CODE void cache_head(const struct device_part *part, const float *x, unsigned char *p)
{
    int scaled = part->type == STORAGE_Q8_0 || part->type == STORAGE_Q4_0, filled = scaled ? (part->dim + 31) / 32 * 32 : (part->dim + 7) / 8 * 8;
    for (int i = THREAD; i < filled; i += CUDA_THREADS)
        cache_store(part->type, i < part->dim ? x[i] : 0, i, p);
}

/* Grid: (rows, heads). */
KERNEL_CODE void store_body(struct store_args a)
{
    cache_head(&a.part, a.x + (BLOCK * GRID_Y + BLOCK_Y) * a.part.dim,
               cache_at(&a.batch, &a.state, &a.part, a.batch.sequence[BLOCK], a.batch.slot[BLOCK], BLOCK_Y));
}

/* NORM, ROPE and STORE of q, k and v: a block for each head of a row; the same arithmetic as one after another. Grid: (rows, heads of
 * all three). Shared: CUDA_WARPS floats, then a head. */
KERNEL_CODE void turn_body(struct turn_args a)
{
    SHARED_FLOATS(room);
    float *values = room + CUDA_WARPS;
    int before_k = a.part[0].heads, before_v = before_k + a.part[1].heads, which = (BLOCK_Y >= before_k) + (BLOCK_Y >= before_v);
    int64_t head = BLOCK_Y - (which == 0 ? 0 : which == 1 ? before_k : before_v);
    const struct turn_part chosen = which == 0 ? a.part[0] : which == 1 ? a.part[1] : a.part[2], *t = &chosen; /* an index would need memory */
    float *x = t->x + (BLOCK * t->heads + head) * t->dim;
    if (t->norm.n)
        norm_group(&t->norm, x, values, room);
    else
        for (int i = THREAD; i < t->dim; i += CUDA_THREADS)
            values[i] = x[i];
    BLOCK_BARRIER();
    for (int pair = THREAD; pair < t->rope.pairs; pair += CUDA_THREADS)
        rope_pair(&t->rope, values, pair, t->rope.table + BLOCK * t->rope.stride);
    BLOCK_BARRIER();
    for (int i = THREAD; t->kept && i < t->dim; i += CUDA_THREADS)
        x[i] = values[i];
    const struct device_part part = which == 1 ? a.state.k : a.state.v;
    if (which)
        cache_head(&part, values, cache_at(&a.batch, &a.state, &part, a.batch.sequence[BLOCK], a.batch.slot[BLOCK], head));
}

#endif
