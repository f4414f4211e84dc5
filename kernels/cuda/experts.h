/* Experts: choosing them, putting rows in their order, products with the chosen ones' matrices, sums of what they made. Nothing asks the
 * host: how many rows each expert has is only known here, so grids are as large as they may have to be and what is too much ends at
 * once.
 *
 * The products are LINEAR's by matrix units (matrix.h), with each tile's rows and matrices found in a list, so a row's bits depend
 * on nothing but its own values there too. */
#ifndef KERNELS_CUDA_EXPERTS_H
#define KERNELS_CUDA_EXPERTS_H

#include "kernels/cuda/matrix.h"
#include "kernels/cuda/read.h"

/* ---- choosing: the arithmetic of kernels/route.c ---------------------------------------------------------------------------------- */

KERNEL_CODE float ordered(float v) { return isnan(v) ? -INFINITY : v; }

/* How many of count values come before value i: larger ones, and equal ones of lower number. open: [count / size] groups that count;
 * NULL: all do. */
KERNEL_CODE int rank_of(const float *values, int i, int count, const float *open, int size)
{
    int rank = 0;
    for (int k = 0; k < count; k++)
        rank += (!open || open[k / size] != 0) && (values[k] > values[i] || (values[k] == values[i] && k < i));
    return rank;
}

/* The sum of a group's largest values, the largest first. */
KERNEL_CODE float group_sum(const float *values, int size, int count)
{
    float sum = 0;
    for (int place = 0; place < count; place++)
        for (int i = 0; i < size; i++)
            if (rank_of(values, i, size, 0, 1) == place)
                sum += values[i];
    return ordered(sum);
}

/* Probabilities of all experts, and what they are chosen by. */
KERNEL_CODE void route_values(const struct route_args *a, const float *scores, float *room, float *probability, float *value)
{
    float most = -INFINITY, sum = 0;
    for (int i = THREAD; i < a->experts; i += CUDA_THREADS)
        most = fmaxf(most, scores[i]);
    most = block_most(most, room);
    for (int i = THREAD; i < a->experts; i += CUDA_THREADS) {
        probability[i] = a->sigmoid ? 1 / (1 + expf(-scores[i])) : expf(scores[i] - most);
        sum += probability[i];
    }
    sum = block_sum(sum, room);
    for (int i = THREAD; i < a->experts; i += CUDA_THREADS) {
        if (!a->sigmoid)
            probability[i] /= sum;
        value[i] = ordered(a->bias ? probability[i] + a->bias[i] : probability[i]);
    }
    BLOCK_BARRIER();
}

/* A block for each row. */
KERNEL_CODE void route_body(struct route_args a)
{
    SHARED_FLOATS(room);
    float *probability = room + CUDA_WARPS, *value = probability + a.experts, *sums = value + a.experts, *open = sums + a.groups;
    float *y = a.y + BLOCK * 2 * a.chosen;
    int size = a.experts / a.groups;
    route_values(&a, a.scores + BLOCK * a.experts, room, probability, value);
    if (a.groups > 1) {
        for (int g = THREAD; g < a.groups; g += CUDA_THREADS)
            sums[g] = group_sum(value + g * size, size, a.group_best);
        BLOCK_BARRIER();
        for (int g = THREAD; g < a.groups; g += CUDA_THREADS)
            open[g] = rank_of(sums, g, a.groups, 0, 1) < a.groups_chosen;
        BLOCK_BARRIER();
    }
    for (int i = THREAD; i < a.experts; i += CUDA_THREADS) {
        const float *closed = a.groups > 1 ? open : 0;
        int rank = closed && closed[i / size] == 0 ? a.chosen : rank_of(value, i, a.experts, closed, size);
        if (rank < a.chosen) {
            y[rank] = (float)i;
            y[a.chosen + rank] = probability[i];
        }
    }
    BLOCK_BARRIER();
    float sum = 0;
    for (int i = 0; a.normalised && i < a.chosen; i++)
        sum += probability[(int)y[i]];
    float scale = a.normalised ? a.scale / fmaxf(sum, 1e-20f) : a.scale;
    for (int i = THREAD; i < a.chosen; i += CUDA_THREADS)
        y[a.chosen + i] = probability[(int)y[i]] * scale;
}

/* What ROUTE wrote. A card that computes wrong must show as wrong numbers, not as a fault. */
KERNEL_CODE int expert_of(const float *routing, int64_t slot, int chosen, int experts)
{
    float id = routing[slot / chosen * 2 * chosen + slot % chosen];
    return id >= 0 && id < (float)experts ? (int)id : 0;
}

/* ---- the order of experts --------------------------------------------------------------------------------------------------------- */

/* Counts slots of each expert, or writes them where they belong, in their own order. at: [experts]. */
KERNEL_CODE void group_pass(const struct group_args *a, int *seen, int *at, int writes)
{
    int slots = a->rows * a->chosen;
    for (int first = 0; first < slots; first += CUDA_THREADS) {
        int slot = first + THREAD, count = slots - first < CUDA_THREADS ? slots - first : CUDA_THREADS;
        BLOCK_BARRIER(); /* seen may still be read */
        if (slot < slots)
            seen[THREAD] = expert_of(a->routing, slot, a->chosen, a->experts);
        BLOCK_BARRIER();
        for (int e = THREAD; e < a->experts; e += CUDA_THREADS)
            for (int i = 0; i < count; i++)
                if (seen[i] == e) {
                    if (writes)
                        a->order[at[e]] = first + i;
                    at[e]++;
                }
    }
    BLOCK_BARRIER();
}

/* One block. */
KERNEL_CODE void group_body(struct group_args a)
{
    SHARED_FLOATS(room);
    int *seen = (int *)(void *)room, *at = seen + CUDA_THREADS, *count = at + a.experts;
    for (int e = THREAD; e < a.experts; e += CUDA_THREADS)
        count[e] = 0;
    group_pass(&a, seen, count, 0);
    if (THREAD == 0) {
        int first = 0, tiles = 0;
        for (int e = 0; e < a.experts; e++) {
            at[e] = first;
            for (int done = 0; done < count[e]; done += a.tile_rows, tiles++) {
                int32_t *tile = a.tiles + 1 + 3 * tiles;
                tile[0] = e;
                tile[1] = first + done;
                tile[2] = count[e] - done < a.tile_rows ? count[e] - done : a.tile_rows;
            }
            first += count[e];
        }
        a.tiles[0] = tiles;
    }
    BLOCK_BARRIER();
    group_pass(&a, seen, at, 1);
}

/* A block for each place in the order. */
KERNEL_CODE void gather_body(struct gather_args a)
{
    const float *x = a.x + (int64_t)(a.order[BLOCK] / a.slots) * a.n;
    for (int64_t at = (int64_t)THREAD * 8; at < a.padded; at += CUDA_THREADS * 8) {
        float v[8];
        struct words out;
        UNROLL for (int i = 0; i < 8; i++)
            v[i] = at + i < a.n ? x[at + i] : 0;
        UNROLL for (int i = 0; i < 4; i++)
            out.w[i] = BF16_PAIR(v[2 * i], v[2 * i + 1]);
        STORE_WORDS(a.y + BLOCK * a.padded + at, out);
    }
}

/* ---- products --------------------------------------------------------------------------------------------------------------------- */

/* From stored bytes, of any format: a warp for each output of a slot. Grid: (outputs / CUDA_WARPS rounded up, slots). */
KERNEL_CODE void experts_body(struct experts_args a)
{
    int64_t out = BLOCK * CUDA_WARPS + THREAD / 32, slot = BLOCK_Y, row = slot / a.chosen;
    if (out >= a.out)
        return; /* the whole warp */
    int expert = expert_of(a.routing, slot, a.chosen, a.experts);
    const unsigned char *weights = a.weight + expert * a.stack + out * a.row_bytes;
    const float *x = a.x + (a.own ? slot : row) * a.in;
    float sum = 0;
    for (int64_t at = (int64_t)(THREAD % 32) * RUN_VALUES; at < a.in; at += 32 * RUN_VALUES) {
        float v[RUN_VALUES];
        read_run(a.format, a.grids, weights, at, a.in, v);
        UNROLL for (int j = 0; j < RUN_VALUES; j++)
            if (at + j < a.in)
                sum = fmaf(v[j], x[at + j], sum);
    }
    sum = warp_sum(sum);
    if (a.factor != 0)
        sum *= a.factor;
    if (THREAD % 32 == 0)
        a.y[slot * a.out + out] = a.bias ? sum + a.bias[expert * a.out + out] : sum;
}

/* A part's matrix of one expert. */
KERNEL_CODE struct gemv_part experts_part(const struct experts_matrix_args *e, int i, int64_t expert)
{
    struct gemv_part p = e->g.part[i];
    p.weight += expert * e->stack[i];
    p.bias = p.bias ? p.bias + expert * p.out : 0;
    return p;
}

/* As matrix_few: one, two are the tile's matrices. Parts are told apart without an index, which would put them into memory. */
KERNEL_CODE void experts_few(int format, int runs, int tiles, const struct gemv_args *a, struct gemv_part one, struct gemv_part two)
{
    SHARED_FLOATS(room);
    int lane = THREAD % 32, i = THREAD / 32;
    float sum[MATRIX_TILES], gate[MATRIX_TILES];
    UNROLL for (int n = 0; n < tiles; n++)
        sum[n] = 0;
    UNROLL for (int k = 0; k < 2; k++) {
        if (k > a->gated)
            break;
        matrix_all(format, runs, tiles, a, k ? &two : &one, BLOCK * 16, 0, room, lane, sum, gate);
    }
    struct gemv_part last = a->gated ? two : one;
    UNROLL for (int n = 0; n < tiles; n++)
        matrix_finish(a, &last, BLOCK * 16 + lane / 4 + i / 2 * 8, 8 * n + 2 * (lane % 4) + i % 2, sum[n], gate[n]);
}

/* As matrix_many, all classes in one block. */
KERNEL_CODE void experts_many(int format, int runs, int tiles, const struct gemv_args *a, struct gemv_part one, struct gemv_part two)
{
    SHARED_FLOATS(room);
    int warp = THREAD / 32, lane = THREAD % 32, second = a->gated && warp >= CUDA_WARPS / 2;
    int64_t first = BLOCK * (a->gated ? CUDA_WARPS / 2 : CUDA_WARPS) * 16; /* output of the block */
    struct gemv_part mine = second ? two : one, last = a->gated ? two : one;
    float total[MATRIX_TILES][4];
    matrix_sums(format, runs, tiles, a, &mine, first + (a->gated ? warp % (CUDA_WARPS / 2) : warp) * 16, 0, 0, MATRIX_CLASSES, room, total);
    float *to = room + warp * 16 + lane / 4 + lane % 4 * 2 * MATRIX_STRIDE;
    BLOCK_BARRIER(); /* the last stage may still be read */
    UNROLL for (int n = 0; n < tiles; n++)
        UNROLL for (int i = 0; i < 4; i++)
            to[(8 * n + i % 2) * MATRIX_STRIDE + i / 2 * 8] = total[n][i];
    BLOCK_BARRIER();
    int wide = a->gated ? MATRIX_WIDE / 2 : MATRIX_WIDE, out = THREAD % wide, upper = MATRIX_WIDE - wide;
    UNROLL_BY(1) for (int row = THREAD / wide; row < 8 * tiles; row += CUDA_THREADS / wide)
        matrix_finish(a, &last, first + out, row, room[row * MATRIX_STRIDE + out + upper], room[row * MATRIX_STRIDE + out]);
}

/* By matrix units. Grid: (as matrix.h has it for one expert's rows, tiles there may be at most). */
KERNEL_CODE void experts_matrix_body(int format, int runs, int tiles, const struct experts_matrix_args *e)
{
    GRID_WAIT();
    if (BLOCK_Y >= e->tiles[0])
        return; /* the whole block */
    const int32_t *tile = e->tiles + 1 + 3 * BLOCK_Y;
    int64_t expert = tile[0], first = tile[1];
    struct gemv_args a = e->g;
    a.narrow += first * a.padded;
    a.to += first;
    a.handed = a.handed ? a.handed + first * a.part[0].out : 0;
    a.rows = tile[2];
    a.part[0] = experts_part(e, 0, expert);
    struct gemv_part two = a.gated ? experts_part(e, 1, expert) : a.part[0];
    if (tiles <= MATRIX_FEW_TILES)
        experts_few(format, runs, tiles, &a, a.part[0], two);
    else
        experts_many(format, runs, tiles, &a, a.part[0], two);
}

/* ---- sums ------------------------------------------------------------------------------------------------------------------------- */

KERNEL_CODE void combine_body(struct combine_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i >= a.count)
        return;
    int64_t row = i / a.n, at = i % a.n;
    const float *weights = a.weights + (row + 1) * a.stride - a.slots, *x = a.x + row * a.slots * a.n + at;
    float sum = 0;
    for (int s = 0; s < a.slots; s++)
        sum = fmaf(activate(a.activation, weights[s]), x[s * a.n], sum);
    a.y[i] = a.add ? a.add[i] + a.scale * sum : sum;
}

#endif
