/* LINEAR for prompts on Hopper (compute capability 9.0a): y = W x + b by products of warpgroups (wgmma), x and weights of two bytes by
 * tensor copies, weights of other formats decoded in registers, where the product takes them from.
 *
 * A block stays on its multiprocessor and does one tile after another: 128 outputs and 128 or 256 rows. Outputs are the rows of a
 * product, rows of x its columns, so decoded weights never go through shared memory.
 *
 *     warps 0..3, 4..7   consumers: 64 outputs each; while one decodes, the other multiplies
 *     warp 8             x, 64 values of each row at a time, four stages; values of two bytes of weights, too
 *     warps 9, 10        a run (256 values) of 128 rows of planes, as they are, to a slot each: runs take turns, so one is on its way
 *                        while the other is waited for
 *
 * A run in its slot is a row of 256 values (planes.def), so runs.h reads it as it reads any. Lane t of four has 64 values of the run in
 * four groups of 16; stage j of the run is group j of all four. Which k of a product is which value is free as long as x has the same
 * order: x is written "woven" for that (weave.h). Values of two bytes stay in their own order.
 *
 * Order of sums: K from its beginning to its end, 16 values at a time, how those are summed up is the card's affair. So a row's bits
 * depend on nothing but its own values, but they are not those of matrix.h, whose classes would need twice the registers. */
#ifndef KERNELS_CUDA_HOPPER_H
#define KERNELS_CUDA_HOPPER_H

#include "kernels/cuda/hopper_words.h"
#include "kernels/cuda/matrix.h"

/* Numbers of threads and shared memory of a block are in args.h. */
enum {
    HOPPER_GROUP = 128,                                        /* threads of a warpgroup */
    HOPPER_LOADER = HOPPER_GROUPS * HOPPER_GROUP,              /* the thread that asks for boxes */
    HOPPER_FILLERS = HOPPER_LOADER + 32,                       /* the first of those that fill slots: a warp for each */
    HOPPER_STRIDE = 64 + 4,                                    /* of results that wait to be written: no bank is asked twice at once */
    HOPPER_BAND = 8                                            /* tiles of rows that share weights while those are in the second cache */
};

/* Barriers, 8 bytes each: of stages and of slots; those that say "full", then those that say "empty". */
enum { HOPPER_FULL = 0, HOPPER_EMPTY = HOPPER_STAGES, HOPPER_SLOT_FULL = 2 * HOPPER_STAGES, HOPPER_SLOT_EMPTY = 2 * HOPPER_STAGES + HOPPER_SLOTS };

/* Where what lies in shared memory, bytes. */
struct hopper_room {
    unsigned char *stages, *slots;
    float *results; /* [group][32 rows][HOPPER_STRIDE] */
    uint32_t barriers;
    int stage_bytes;
};

KERNEL_CODE struct hopper_room hopper_lay_out(int runs, int rows, float *shared)
{
    unsigned char *base = (unsigned char *)shared;
    struct hopper_room r;
    r.stages = base + (1024 - SHARED_ADDRESS(base) % 1024) % 1024;
    r.stage_bytes = HOPPER_STAGE_BYTES(runs, rows);
    r.slots = r.stages + HOPPER_STAGES * r.stage_bytes;
    r.results = (float *)(void *)(r.slots + (runs ? HOPPER_SLOTS * HOPPER_SLOT_BYTES : 0));
    r.barriers = SHARED_ADDRESS(r.results) + HOPPER_RESULT_BYTES;
    return r;
}

KERNEL_CODE uint32_t hopper_barrier(const struct hopper_room *r, int number) { return r->barriers + 8 * (uint32_t)number; }

/* ---- tiles -------------------------------------------------------------------------------------------------------------------- */

struct hopper_tile {
    int part;         /* where two are gated: of both */
    int64_t out, row; /* the first */
};

/* The tile's number `number`; 0: there is none. Blocks that work at the same time share weights, and a band of rows of x. */
KERNEL_CODE int hopper_find(const struct gemv_args *g, int rows, int64_t number, struct hopper_tile *tile)
{
    int64_t tall = (g->rows + rows - 1) / rows, band = number / (HOPPER_BAND * g->blocks), rest = number % (HOPPER_BAND * g->blocks);
    if (number >= tall * g->blocks)
        return 0;
    int64_t height = tall - band * HOPPER_BAND < HOPPER_BAND ? tall - band * HOPPER_BAND : HOPPER_BAND;
    tile->row = (band * HOPPER_BAND + rest % height) * rows;
    int64_t out = rest / height;
    tile->part = 0;
    if (!g->gated)
        for (int64_t tiles; out >= (tiles = (g->part[tile->part].out + HOPPER_OUTS - 1) / HOPPER_OUTS); tile->part++)
            out -= tiles;
    tile->out = out * (g->gated ? HOPPER_OUTS / 2 : HOPPER_OUTS);
    return 1;
}

/* Row `row` of the tile's 128 rows of weights. Where two are gated, eight of one and eight of the other: then a lane, whose outputs of a
 * product are eight apart, has both sums of an output. */
KERNEL_CODE const unsigned char *hopper_row(const struct gemv_args *g, const struct hopper_tile *tile, int row)
{
    if (g->gated)
        return matrix_weights(&g->part[row / 8 % 2], tile->out + row / 16 * 8 + row % 8);
    return matrix_weights(&g->part[tile->part], tile->out + row);
}

/* ---- those that load ------------------------------------------------------------------------------------------------------------ */

/* Boxes of x and, of two bytes a value, of weights, whose maps have boxes of eight rows where two are gated. */
KERNEL_CODE void hopper_load(int runs, int rows, const struct hopper_args *a, const struct hopper_room *r)
{
    const struct gemv_args *g = &a->g;
    struct hopper_tile tile;
    uint32_t parity = 1; /* of the phase before the first, which counts as ended */
    int boxes = g->gated ? HOPPER_OUTS / 8 : 1;
    GRID_WAIT();
    for (int64_t number = BLOCK; hopper_find(g, rows, number, &tile); number += GRID_X)
        for (int64_t run = 0; run * MATRIX_RUN < g->padded; run++, parity ^= 1)
            for (int j = 0; j < HOPPER_STAGES; j++) {
                uint32_t full = hopper_barrier(r, HOPPER_FULL + j), to = SHARED_ADDRESS(r->stages) + (uint32_t)(j * r->stage_bytes);
                int64_t k = run * MATRIX_RUN + j * HOPPER_DEPTH;
                MBARRIER_WAIT(hopper_barrier(r, HOPPER_EMPTY + j), parity);
                MBARRIER_EXPECT(full, r->stage_bytes);
                TENSOR_LOAD(to, &a->x, k, tile.row, full);
                for (int i = 0; !runs && i < boxes; i++) {
                    uint32_t box = to + (uint32_t)(rows * HOPPER_DEPTH * 2 + i * (HOPPER_OUTS / boxes) * HOPPER_DEPTH * 2);
                    TENSOR_LOAD(box, &a->weight[g->gated ? i % 2 : tile.part], k, tile.out + i / 2 * 8, full);
                }
            }
}

KERNEL_CODE int block_values(int format)
{
    switch (format) {
#define TYPE(id, name, elements, bytes, gguf, safetensors) \
    case STORAGE_##id:                                     \
        return elements;
#include "base/files/types.def"
#undef TYPE
    }
    return 1;
}

/* Bytes of plane p of a block; of formats that lie as they are stored, the block. */
KERNEL_CODE int plane_bytes(int format, int p)
{
    switch (format) {
#define PLANE(offset, bytes) bytes
#define PLANES(id, count, ...)             \
    case STORAGE_##id: {                   \
        const int bytes[4] = {__VA_ARGS__}; \
        return bytes[p];                   \
    }
#include "kernels/cuda/planes.def"
#undef PLANES
#undef PLANE
    case STORAGE_Q4_K: /* as they are stored */
        return p ? 0 : BYTES_Q4_K;
    case STORAGE_Q5_K:
        return p ? 0 : BYTES_Q5_K;
    }
    return 0;
}

/* Run `run` of the tile's 128 rows to a slot, as rows of 256 values, by a warp: two lanes a row, 32 bytes side by side. What lies behind a
 * row's end is left out. */
KERNEL_CODE void hopper_fill(int format, const struct gemv_args *g, const struct hopper_tile *tile, int64_t run, unsigned char *slot)
{
    int odd = THREAD % 2, whole = (run + 1) * MATRIX_RUN <= g->in;
    UNROLL_BY(1) for (int row = THREAD % 32 / 2; row < HOPPER_OUTS; row += 16) {
        const unsigned char *from = hopper_row(g, tile, row);
        unsigned char *to = slot + row * HOPPER_ROW_BYTES;
        UNROLL for (int p = 0; p < 4; p++) {
            int bytes = plane_bytes(format, p) * (MATRIX_RUN / block_values(format)), words = bytes / 16, halves = bytes % 16 / 2;
            int64_t size = g->in / block_values(format) * plane_bytes(format, p), begin = run * bytes; /* of the plane in its row; of the run in it */
            UNROLL for (int i = 0; i < words; i += 2)
                if (i + odd < words && (whole || begin + 16 * (i + odd) < size))
                    COPY_ASYNC(to + 16 * (i + odd), from + begin + 16 * (i + odd));
            UNROLL for (int i = 8 * words; i < 8 * words + halves; i += 2)
                if (i + odd < 8 * words + halves && (whole || begin + 2 * (i + odd) < size))
                    ((uint16_t *)(void *)to)[i + odd] = ((const uint16_t *)(const void *)(from + begin))[i + odd];
            to += plane_end(bytes);
            from += plane_end(size);
        }
    }
}

/* Every run whose turn is the slot's. Weights do not wait for the kernel before. */
KERNEL_CODE void hopper_fill_all(int format, int rows, const struct gemv_args *g, const struct hopper_room *r, int slot)
{
    struct hopper_tile tile;
    uint32_t parity = 1;
    int turn = 0;
    for (int64_t number = BLOCK; hopper_find(g, rows, number, &tile); number += GRID_X)
        for (int64_t run = 0; run * MATRIX_RUN < g->padded; run++, turn = turn + 1 < HOPPER_SLOTS ? turn + 1 : 0) {
            if (turn != slot)
                continue;
            MBARRIER_WAIT(hopper_barrier(r, HOPPER_SLOT_EMPTY + slot), parity);
            hopper_fill(format, g, &tile, run, r->slots + slot * HOPPER_SLOT_BYTES);
            COPY_GROUP();
            COPY_WAIT(0);
            WARP_BARRIER();
            if (THREAD % 32 == 0)
                MBARRIER_ARRIVE(hopper_barrier(r, HOPPER_SLOT_FULL + slot));
            parity ^= 1;
        }
}

/* ---- those that multiply -------------------------------------------------------------------------------------------------------- */

/* The lane's weights of stage j, in the order of four products of 16: of a run in its slot, of which `left` values are the row's. */
KERNEL_CODE void hopper_codes(int format, const unsigned char *slot, int j, int64_t left, uint32_t *a)
{
    int t = THREAD % 4;
    const unsigned char *low = slot + (THREAD / 32 * 16 + THREAD % 32 / 4) * HOPPER_ROW_BYTES;
    struct matrix_row w[2];
    read_codes_from(format, 1, low, MATRIX_RUN, t, &w[0].codes);
    read_codes_from(format, 1, low + 8 * HOPPER_ROW_BYTES, MATRIX_RUN, t, &w[1].codes);
    UNROLL for (int half = 0; half < 2; half++) {
        uint32_t v[2][4];
        matrix_values(format, 1, &w[0], 2 * j + half, v[0]);
        matrix_values(format, 1, &w[1], 2 * j + half, v[1]);
        UNROLL for (int i = 0; i < 8; i++)
            a[8 * half + i] = v[i % 2][i / 4 * 2 + i / 2 % 2];
    }
    if (run_group(format, t, j) >= left)
        UNROLL for (int i = 0; i < 16; i++)
            a[i] = 0;
}

/* The same of values of two bytes, from the box of weights. */
KERNEL_CODE void hopper_halves(const unsigned char *box, uint32_t *a)
{
    int lane = THREAD % 32, row = THREAD / 32 * 16 + lane % 16;
    UNROLL for (int k = 0; k < 4; k++) {
        LOAD_MATRICES(a + 4 * k, box + row * HOPPER_DEPTH * 2 + ((2 * k + lane / 16) ^ row % 8) * 16);
        UNROLL for (int i = 0; i < 4; i++)
            a[4 * k + i] = half_pair_bf16(a[4 * k + i]);
    }
}

/* Stage j of a run: sums += the group's 64 outputs times `rows` rows of x. */
KERNEL_CODE void hopper_stage(int format, int runs, int rows, const struct hopper_room *r, int j, uint32_t parity, const unsigned char *slot, int64_t left,
                              int add, float *sums)
{
    unsigned char *stage = r->stages + j * r->stage_bytes, *box = stage + rows * HOPPER_DEPTH * 2;
    uint32_t x = SHARED_ADDRESS(stage), group = SHARED_ADDRESS(box) + (uint32_t)(THREAD / HOPPER_GROUP * 64 * HOPPER_DEPTH * 2), a[16];
    if (runs)
        hopper_codes(format, slot, j, left, a); /* while x may still be on its way, and the other group multiplies */
    MBARRIER_WAIT(hopper_barrier(r, HOPPER_FULL + j), parity);
    if (format == STORAGE_F16)
        hopper_halves(box, a);
    WGMMA_BEGIN(rows, sums, format == STORAGE_BF16 ? (uint32_t *)0 : a);
    UNROLL for (int k = 0; k < 4; k++)
        if (format == STORAGE_BF16)
            WGMMA_SHARED(rows, sums, WGMMA_OPERAND(group + 32 * (uint32_t)k), WGMMA_OPERAND(x + 32 * (uint32_t)k), add || k);
        else
            WGMMA(rows, sums, a + 4 * k, WGMMA_OPERAND(x + 32 * (uint32_t)k), add || k);
    WGMMA_WAIT(rows, sums, format == STORAGE_BF16 ? (uint32_t *)0 : a);
    WARP_BARRIER();
    if (THREAD % 32 == 0)
        MBARRIER_ARRIVE(hopper_barrier(r, HOPPER_EMPTY + j));
}

/* One output's results in a thread: what is done with them, and where they go; rows are `step` from each other. */
struct hopper_output {
    float factor[2], bias[2]; /* of the output, and of the one whose gate it is */
    int64_t at, stride;       /* values of y */
    int step, left;           /* rows from the thread's first one on */
};

KERNEL_CODE struct hopper_output hopper_output_at(const struct gemv_args *g, const struct gemv_part *p, int64_t out, int64_t row, int step)
{
    struct hopper_output o;
    UNROLL for (int i = 0; i < 2; i++) {
        const struct gemv_part *part = i ? &g->part[0] : p;
        o.factor[i] = part->factor != 0 ? part->factor : 1;
        o.bias[i] = part->bias && out < p->out ? part->bias[out] : 0;
    }
    o.at = row * p->out + out, o.stride = step * p->out;
    o.step = step, o.left = out < p->out ? (int)(g->rows - row) : 0;
    return o;
}

/* 32 rows from number `first` on, as matrix_finish; results in rows of HOPPER_STRIDE. Four at a time, so that what they are added to comes
 * at the same time. */
KERNEL_CODE void hopper_finish(const struct gemv_args *g, float *to, const struct hopper_output *o, int first, const float *results)
{
    int64_t at = o->at + first / o->step * o->stride;
    if (g->gated) {
        UNROLL_BY(1) for (int i = 0; i < 32 && first + i < o->left; i += o->step, at += o->stride, results += o->step * HOPPER_STRIDE) {
            float y = results[8] * o->factor[0] + o->bias[0];
            to[at] = y = activate(g->activation, results[0] * o->factor[1] + o->bias[1]) * y;
            if (g->handed)
                g->handed[at] = float_to_bf16(y);
        }
        return;
    }
    UNROLL_BY(1) for (int i = 0; i < 32 && first + i < o->left; i += 4 * o->step, at += 4 * o->stride, results += 4 * o->step * HOPPER_STRIDE) {
        float add[4];
        UNROLL for (int k = 0; k < 4; k++)
            add[k] = g->add && first + i + k * o->step < o->left ? g->add[at + k * o->stride] : 0;
        UNROLL for (int k = 0; k < 4; k++) {
            float y = results[k * o->step * HOPPER_STRIDE] * o->factor[0] + o->bias[0];
            if (first + i + k * o->step < o->left)
                to[at + k * o->stride] = g->add ? add[k] + g->scale * y : y;
        }
    }
}

/* Results of 32 rows at a time through shared memory, so that neighbours write what lies side by side. */
KERNEL_CODE void hopper_write(int rows, const struct gemv_args *g, const struct hopper_tile *tile, float *results, const float *sums)
{
    int group = THREAD / HOPPER_GROUP, me = THREAD % HOPPER_GROUP, lane = THREAD % 32, wide = g->gated ? 32 : 64, out = me % wide, row = me / wide;
    float *room = results + group * 32 * HOPPER_STRIDE, *mine = room + me / 32 * 16 + lane / 4 + lane % 4 * 2 * HOPPER_STRIDE;
    const float *from = room + row * HOPPER_STRIDE + (g->gated ? out / 8 * 16 + out % 8 : out);
    const struct gemv_part *p = &g->part[tile->part + g->gated];
    struct hopper_output o = hopper_output_at(g, p, tile->out + group * wide + out, tile->row + row, HOPPER_GROUP / wide);
    UNROLL for (int first = 0; first < rows; first += 32) {
        GROUP_BARRIER(1 + group); /* the room may still be read */
        UNROLL for (int n = 0; n < 4; n++)
            UNROLL for (int i = 0; i < 4; i++)
                mine[(8 * n + i % 2) * HOPPER_STRIDE + i / 2 * 8] = sums[(first / 8 + n) * 4 + i];
        GROUP_BARRIER(1 + group);
        hopper_finish(g, p->y, &o, first, from);
    }
}

KERNEL_CODE void hopper_multiply(int format, int runs, int rows, const struct gemv_args *g, const struct hopper_room *r)
{
    struct hopper_tile tile;
    uint32_t parity = 0, slot_parity = 0;
    int slot = 0;
    GRID_WAIT(); /* before what others have written is read or overwritten */
    for (int64_t number = BLOCK; hopper_find(g, rows, number, &tile); number += GRID_X) {
        float sums[HOPPER_ROWS / 2];
        for (int64_t run = 0; run * MATRIX_RUN < g->padded; run++, parity ^= 1) {
            const unsigned char *codes = r->slots + slot * HOPPER_SLOT_BYTES;
            if (runs)
                MBARRIER_WAIT(hopper_barrier(r, HOPPER_SLOT_FULL + slot), slot_parity);
            UNROLL for (int j = 0; j < HOPPER_STAGES; j++)
                hopper_stage(format, runs, rows, r, j, parity, codes, g->in - run * MATRIX_RUN, run > 0 || j, sums);
            if (runs && THREAD % 32 == 0) /* all lanes have met behind their last reading */
                MBARRIER_ARRIVE(hopper_barrier(r, HOPPER_SLOT_EMPTY + slot));
            slot = slot + 1 < HOPPER_SLOTS ? slot + 1 : 0;
            slot_parity ^= slot == 0;
        }
        hopper_write(rows, g, &tile, r->results, sums);
    }
}

/* Grid: so many blocks as multiprocessors, or as there are tiles; HOPPER_THREADS, HOPPER_SHARED(runs, rows) bytes. rows: of a tile, 128 or
 * 256. g.blocks: tiles of outputs of all parts. format, runs, rows: constants. */
KERNEL_CODE void hopper_body(int format, int runs, int rows, const struct hopper_args *a)
{
    SHARED_FLOATS(shared);
    struct hopper_room r = hopper_lay_out(runs, rows, shared);
    if (THREAD == 0) {
        for (int i = 0; i < HOPPER_STAGES; i++) {
            MBARRIER_INIT(hopper_barrier(&r, HOPPER_FULL + i), 1);
            MBARRIER_INIT(hopper_barrier(&r, HOPPER_EMPTY + i), HOPPER_LOADER / 32); /* of each warp a lane */
        }
        for (int i = 0; i < HOPPER_SLOTS; i++) {
            MBARRIER_INIT(hopper_barrier(&r, HOPPER_SLOT_FULL + i), 1);
            MBARRIER_INIT(hopper_barrier(&r, HOPPER_SLOT_EMPTY + i), HOPPER_LOADER / 32);
        }
        MBARRIER_READY();
    }
    BLOCK_BARRIER();
    if (THREAD >= HOPPER_LOADER) {
        REGISTERS_LESS(56);
        if (THREAD == HOPPER_LOADER)
            hopper_load(runs, rows, a, &r);
        else if (runs && THREAD >= HOPPER_FILLERS && THREAD < HOPPER_FILLERS + 32 * HOPPER_SLOTS)
            hopper_fill_all(format, rows, &a->g, &r, (THREAD - HOPPER_FILLERS) / 32);
    } else {
        REGISTERS_MORE(224);
        hopper_multiply(format, runs, rows, &a->g, &r);
    }
}

#endif
