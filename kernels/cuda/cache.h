/* The cache: writing K and V rounded to their type, and reading them back; place.h draws how they lie. The rounding is that of
 * kernels/formats/X.c bit for bit, so a cache is the same whoever wrote it. */
#ifndef KERNELS_CUDA_CACHE_H
#define KERNELS_CUDA_CACHE_H

#include "kernels/cuda/place.h"
#include "kernels/cuda/rows.h"

/* The head in the block that has the slot. */
KERNEL_CODE unsigned char *cache_at(const struct device_batch *b, const struct device_state *s, const struct device_part *part, int32_t sequence,
                                    int64_t slot, int64_t head)
{
    const struct device_sequence *q = &b->sequences[sequence];
    int64_t block = b->blocks[q->tables + s->group * q->stride + slot / SLOTS_PER_BLOCK];
    return s->pool + block * s->block_bytes + part->offset + head * part->head_bytes;
}

/* Values i .. i + 7 of a slot of the head, i a multiple of 8. */
KERNEL_CODE void cache_run(int type, int filled, const unsigned char *head, int slot, int i, float *v)
{
    const unsigned char *p = head + cache_place(type, filled, slot, i);
    if (type == STORAGE_F32) {
        struct words low = WORDS(p), high = WORDS(p + 16);
        UNROLL for (int j = 0; j < 4; j++) {
            v[j] = float_of_bits(low.w[j]);
            v[4 + j] = float_of_bits(high.w[j]);
        }
    } else if (type == STORAGE_F8_E4M3 || type == STORAGE_Q8_0) {
        uint64_t codes = *(const uint64_t *)(const void *)p;
        float d = type == STORAGE_Q8_0 ? HALF_FLOAT(*(const uint16_t *)(const void *)(head + cache_scale(type, filled, slot, i))) : 1;
        UNROLL for (int j = 0; j < RUN_VALUES; j++) {
            unsigned char code = (unsigned char)(codes >> (8 * j));
            v[j] = type == STORAGE_Q8_0 ? d * (float)(signed char)code : e4m3_to_float(code);
        }
    } else if (type == STORAGE_Q4_0) {
        uint32_t codes = *(const uint32_t *)(const void *)p;
        float d = HALF_FLOAT(*(const uint16_t *)(const void *)(head + cache_scale(type, filled, slot, i)));
        UNROLL for (int j = 0; j < RUN_VALUES; j++)
            v[j] = d * (float)((int)(codes >> cache_bits(j) & 15) - 8);
    } else {
        struct words pairs = WORDS(p);
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
KERNEL_CODE unsigned char store_q8_0(float value, float *scale)
{
    float d = *scale = warp_magnitude(value) / 127;
    return d > 0x1p-26f ? (unsigned char)(int)nearest(value * (1 / d)) : 0;
}

/* q4_0_round(); lanes get a byte of two codes, half of them the same one as others */
KERNEL_CODE unsigned char store_q4_0(float value, float *scale)
{
    float most = warp_magnitude(value);
    int positive = warp_most_int(value == most);
    float d = *scale = positive ? most / -8 : most / 8;
    int code = 8;
    if (most > 0x1p-22f) {
        int q = (int)nearest(value * (1 / d)) + 8;
        code = q > 15 ? 15 : q;
    }
    int other = LANE_INT(code, 2); /* the next four bits, or those before: see cache_bits() */
    return (unsigned char)(THREAD & 2 ? code << 4 | other : code | other << 4);
}

/* Value i of a slot to its place in the head; with a scale, 32 lanes at once do a group. */
KERNEL_CODE void cache_store(const struct device_part *part, float value, int i, unsigned char *head, int slot)
{
    unsigned char *p = head + cache_place(part->type, part->filled, slot, i), byte;
    float d = 0;
    switch (part->type) {
    case STORAGE_F32:
        memcpy(p + i % 8 * 4, &value, 4);
        break;
    case STORAGE_F16:
        store_u16(p + i % 8 * 2, float_to_half(value));
        break;
    case STORAGE_BF16:
        store_u16(p + i % 8 * 2, float_to_bf16(value));
        break;
    case STORAGE_F8_E4M3:
        p[i % 8] = e4m3_of(value);
        break;
    case STORAGE_Q8_0:
        p[i % 8] = store_q8_0(value, &d);
        break;
    case STORAGE_Q4_0:
        byte = store_q4_0(value, &d);
        if (!(i & 2))
            p[cache_bits(i) / 8] = byte;
        break;
    }
    if (cache_scaled(part->type) && i % 32 == 0)
        store_half(d, head + cache_scale(part->type, part->filled, slot, i));
}

/* A head's values x[dim] by a block, a warp for each 32. */
KERNEL_CODE void cache_head(const struct device_part *part, const float *x, unsigned char *head, int slot)
{
    for (int i = THREAD; i < part->filled; i += CUDA_THREADS)
        cache_store(part, i < part->dim ? x[i] : 0, i, head, slot);
}

/* Grid: (rows, heads). */
KERNEL_CODE void store_body(struct store_args a)
{
    cache_head(&a.part, a.x + (BLOCK * GRID_Y + BLOCK_Y) * a.part.dim,
               cache_at(&a.batch, &a.state, &a.part, a.batch.sequence[BLOCK], a.batch.slot[BLOCK], BLOCK_Y), (int)(a.batch.slot[BLOCK] % SLOTS_PER_BLOCK));
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
        norm_group(&t->norm, x, values, (unsigned)head, room);
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
        cache_head(&part, values, cache_at(&a.batch, &a.state, &part, a.batch.sequence[BLOCK], a.batch.slot[BLOCK], head),
                   (int)(a.batch.slot[BLOCK] % SLOTS_PER_BLOCK));
}

#endif
