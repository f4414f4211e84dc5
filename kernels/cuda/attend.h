/* The cache: writing K and V rounded to their type, and attention over it. A block of 16 tokens holds for each layer
 *   [K: head][slot][bytes of a head], then the same of V,
 * a head's values being whole blocks of the type (Q8_0, Q4_0: groups of 32 filled up with zeros). The rounding is that of
 * kernels/formats/X.c bit for bit, so a cache is the same whoever wrote it. */
#ifndef KERNELS_CUDA_ATTEND_H
#define KERNELS_CUDA_ATTEND_H

#include "kernels/cuda/rows.h"

KERNEL_CODE unsigned char *cache_at(const struct device_batch *b, const struct device_state *s, const struct device_part *part, int32_t sequence,
                                    int64_t slot, int64_t head)
{
    const struct device_sequence *q = &b->sequences[sequence];
    int64_t block = b->blocks[q->tables + s->group * q->stride + slot / SLOTS_PER_BLOCK];
    return s->pool + block * s->block_bytes + part->offset + (head * SLOTS_PER_BLOCK + slot % SLOTS_PER_BLOCK) * part->head_bytes;
}

/* Value i of a head. */
KERNEL_CODE float cache_value(int type, const unsigned char *p, int i)
{
    const unsigned char *b;
    switch (type) {
    case STORAGE_F32:
        return float_of_bits(load_u32(p + 4 * i));
    case STORAGE_F16:
        return load_half(p + 2 * i);
    case STORAGE_BF16:
        return bf16_to_float(load_u16(p + 2 * i));
    case STORAGE_F8_E4M3:
        return e4m3_to_float(p[i]);
    case STORAGE_Q8_0:
        b = p + i / 32 * BYTES_Q8_0;
        return load_half(b) * (float)(signed char)b[2 + i % 32];
    case STORAGE_Q4_0:
        b = p + i / 32 * BYTES_Q4_0;
        return load_half(b) * (float)((b[2 + i % 16] >> (i / 16 % 2 * 4) & 15) - 8);
    }
    return NAN; /* state_storage() knows no other */
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

/* Grid: (rows, heads); a warp for each 32 values. */
KERNEL_CODE void store_body(struct store_args a)
{
    int scaled = a.part.type == STORAGE_Q8_0 || a.part.type == STORAGE_Q4_0;
    const float *x = a.x + (BLOCK * GRID_Y + BLOCK_Y) * a.part.dim;
    unsigned char *p = cache_at(&a.batch, &a.state, &a.part, a.batch.sequence[BLOCK], a.batch.slot[BLOCK], BLOCK_Y);
    for (int first = THREAD / 32 * 32; first < a.part.dim; first += CUDA_THREADS) {
        int i = first + THREAD % 32;
        if (scaled || i < a.part.dim)
            cache_store(a.part.type, i < a.part.dim ? x[i] : 0, i, p);
    }
}

/* ---- ATTEND --------------------------------------------------------------------------------------------------------------- */

/* Tokens [start, end) that a row sees. */
KERNEL_CODE void attend_range(const struct attend_args *a, int64_t self, int64_t total, int64_t *start, int64_t *end)
{
    *start = 0;
    *end = a->full ? total : self + 1;
    if (a->window) {
        *start = self + 1 > a->window ? self + 1 - a->window : 0;
        *end = *end > self + a->window ? self + a->window : *end;
    }
}

/* q . k over a warp, the same bits in every lane */
KERNEL_CODE float attend_score(const struct attend_args *a, const float *q, const unsigned char *k)
{
    float score = 0;
    for (int i = THREAD % 32; i < a->state.k.dim; i += 32)
        score = fmaf(q[i], cache_value(a->state.k.type, k, i), score);
    score = warp_sum(score) * a->scale;
    return a->cap > 0 ? a->cap * tanhf(score / a->cap) : score;
}

/* Grid: (rows, heads). Tiles of ATTEND_TILE tokens: a warp for each score, then a thread for each value of the output. The
 * running sums are brought down when a tile has a larger score. Tiles begin at the row's first token, so how its sequence was cut
 * into steps does not show. Shared: attend_shared_floats(). */
KERNEL_CODE void attend_body(struct attend_args a)
{
    SHARED_FLOATS(scores);       /* [ATTEND_TILE] */
    float *q = scores + ATTEND_TILE; /* [k_dim] */
    float *sums = q + a.state.k.dim; /* [v_dim]: thread t has values t, t + CUDA_THREADS, ... */
    int64_t item = BLOCK * a.heads + BLOCK_Y, kv = BLOCK_Y / (a.heads / a.kv_heads), start, end;
    int32_t row = batch_row(&a.batch, a.only_wanted, BLOCK), sequence = a.batch.sequence[row];
    int v_dim = a.state.v.dim;
    for (int i = THREAD; i < a.state.k.dim; i += CUDA_THREADS)
        q[i] = a.q[item * a.state.k.dim + i];
    for (int i = THREAD; i < v_dim; i += CUDA_THREADS)
        sums[i] = 0;
    BLOCK_BARRIER();
    attend_range(&a, a.batch.slot[row], a.batch.sequences[sequence].total, &start, &end);
    float most = -INFINITY, total = 0;
    for (int64_t first = start; first < end; first += ATTEND_TILE) {
        int count = end - first < ATTEND_TILE ? (int)(end - first) : ATTEND_TILE;
        for (int t = THREAD / 32; t < count; t += CUDA_WARPS) {
            float score = attend_score(&a, q, cache_at(&a.batch, &a.state, &a.state.k, sequence, first + t, kv));
            if (THREAD % 32 == 0)
                scores[t] = score;
        }
        BLOCK_BARRIER();
        float before = most;
        for (int t = 0; t < count; t++)
            most = fmaxf(most, scores[t]);
        float down = before == most ? 1 : expf(before - most);
        total *= down;
        for (int i = THREAD; i < v_dim; i += CUDA_THREADS)
            sums[i] *= down;
        for (int t = 0; t < count; t++) {
            float weight = expf(scores[t] - most);
            const unsigned char *v = cache_at(&a.batch, &a.state, &a.state.v, sequence, first + t, kv);
            total += weight;
            for (int i = THREAD; i < v_dim; i += CUDA_THREADS)
                sums[i] = fmaf(weight, cache_value(a.state.v.type, v, i), sums[i]);
        }
        BLOCK_BARRIER(); /* scores are written again */
    }
    for (int i = THREAD; i < v_dim; i += CUDA_THREADS)
        a.y[item * v_dim + i] = sums[i] / total;
}

#endif
