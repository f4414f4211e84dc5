/* Weights times many activation rows on AMX's tiles: up to AMX_PANEL_ROWS weight rows are unpacked to bfloat16, CHUNK weights at a
 * time, to a panel in the second-level cache, then pairs of activation tiles run over it.
 *
 * Weights are the tile's rows, activations its columns:
 *     panel        [weight rows / 16][chunk / 32][16 weight rows][32]           a tile is 1 KB in one piece
 *     activations  [rows / 16][padded / 32][16 pairs of k][16 rows][2]          FORM_TILES, packed once for all weights
 *     sums         [rows / 32][weight rows / 32][2 tiles of rows][2 of weight rows][16 weight rows][16 rows], between chunks
 * so weights, unpacked again for every panel, need no transposing; the sums do, 16 x 16 words at a time, when they are done.
 *
 *               x 0    x 1
 *             +------+------+
 *        w 0  |  t0  |  t1  |      for 32 k: four loads (t4, t5: weights; t6, t7: activations) and four dot products, whose
 *        w 1  |  t2  |  t3  |      latency of 52 cycles the four sums hide
 *             +------+------+
 * A dot product takes the tile unit 16 cycles, a load from the first-level cache 8. Activations of a pair, 32 x CHUNK values, stay
 * there while they meet all weight tiles of the panel; weights pass it by, and come from the second level with 32 bytes a cycle of
 * the 48 that it gives. The panel is as tall as AMX_PANEL_ROWS so that activations, which exceed the second level, are read only
 * once for so many weights.
 *
 * There are two panels: between dot products the next chunk is unpacked to the other one (beside()). Measured on Sapphire Rapids, a
 * dot product of a whole operation takes 10 ns of which its own 16 cycles are 5 (docs/performance.md has the rest). */
#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/turn.h"

enum { CHUNK = 512, CHUNK_MOST = 640 }; /* a row that is a little longer than a chunk is one */

static int64_t chunk_of(int64_t n) { return n <= CHUNK_MOST ? (n + TILE_DEPTH - 1) / TILE_DEPTH * TILE_DEPTH : CHUNK; }

static size_t total_floats(int64_t n, int32_t rows) { return n <= CHUNK_MOST ? 0 : (size_t)(rows + 31) / 32 * 32 * AMX_PANEL_ROWS; }

size_t amx_panel_bytes(int64_t n, int32_t rows)
{
    return 2 * (size_t)AMX_PANEL_ROWS * (size_t)chunk_of(n) * sizeof(uint16_t) + total_floats(n, rows) * sizeof(float) + 64;
}

/* ---- activations ------------------------------------------------------------------------------------------------------- */

/* Values [k, k + 32) of a row; zeros behind its end. */
INLINE __m512i narrow_32(const float *x, int64_t left)
{
    if (left >= 32)
        return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
    __mmask32 there = left > 0 ? ~(__mmask32)0 >> (32 - left) : 0;
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(there >> 16), x + 16), _mm512_maskz_loadu_ps((__mmask16)there, x));
}

void amx_pack_tiles(struct input *in, int32_t tile, int64_t first, int64_t end)
{
    uint16_t *to = in->tiles + (tile * in->padded + first) * TILE_ROWS;
    for (int64_t k = first; k < end; k += TILE_DEPTH, to += TILE_VALUES) {
        __m512i v[TILE_ROWS];
        for (int r = 0; r < TILE_ROWS; r++) {
            int32_t row = tile * TILE_ROWS + r;
            v[r] = row < in->rows ? narrow_32(in->floats + in->from[row] * in->float_stride + k, in->n - k) : _mm512_setzero_si512();
        }
        turn_lanes(v);
#pragma GCC unroll 16
        for (int pair = 0; pair < 16; pair++)
            _mm512_store_si512(to + 2 * pair * TILE_ROWS, turned_column(v, pair));
    }
}

/* ---- beside dot products --------------------------------------------------------------------------------------------------- */

struct work {
    const struct weight *w;
    const struct input *in;
    float *y;
    int64_t y_stride;
    int64_t first, end; /* weight rows */
    int64_t rows;       /* of the panel: end - first in whole pairs of tiles */
    amx_unpack_function *unpack;
    float *total;

    /* the chunk that is multiplied: weights [at, at + count) of every row */
    const uint16_t *panel;
    int64_t at, count;

    /* the chunk that is unpacked meanwhile, so many units at a time; it has come to weight `done` of the chunk in row `row` */
    struct filling {
        uint16_t *panel;
        int64_t at, count;
        int64_t row, done, units;
    } fill;

    /* the two activation tiles that come next, so many lines of both at a time */
    const char *soon;
    int64_t soon_lines;

    /* the block whose sums are in the tiles: where they go, and what they are if they are whole */
    struct block {
        float *sums; /* NULL: there is none */
        int32_t row; /* first row of activations */
        int64_t r;   /* first weight row of the panel */
    } block;
    bool whole;

    /* whole sums on their way to y: tile `turned` of `tiles` is next */
    struct block turn;
    int turned, tiles;

    _Alignas(64) float whole_sums[4 * TILE_FLOATS];
};

enum { ROWS_AHEAD = 8 };

static int64_t steps_of(int64_t count) { return (count + TILE_DEPTH - 1) / TILE_DEPTH; }

static const unsigned char *weights_at(const struct weight *w, int64_t row, int64_t at)
{
    const struct storage_type *t = &storage_types[w->format];
    return w->data + row * w->row_bytes + at / t->block_elements * t->block_bytes;
}

/* Asks for the weights that are unpacked ROWS_AHEAD rows later, which may be in the next chunk or the next panel. Asked for earlier, a
 * chunk's time before, they left the second-level cache again before their turn. (Inline, since gcc 12 takes a function that does
 * nothing but prefetch for one that does nothing.) */
INLINE void ask_for_rows(const struct work *p)
{
    int64_t row = p->first + p->fill.row + ROWS_AHEAD, at = p->fill.at + p->fill.done;
    if (p->fill.row + ROWS_AHEAD >= p->rows)
        row -= p->rows, at += p->fill.count;
    if (at >= p->w->in)
        row += p->rows, at = p->fill.done;
    if (row >= p->w->out)
        return;
    const unsigned char *line = weights_at(p->w, row, at), *end = weights_at(p->w, row, at + UNIT < p->w->in ? at + UNIT : p->w->in);
    for (; line < end; line += 64)
        _mm_prefetch((const char *)line, _MM_HINT_T1);
}

/* Rows behind the end repeat the last one; what comes of them is not used. */
static void fill(struct work *p, int64_t units)
{
    struct filling *f = &p->fill;
    for (; units && f->row < p->rows; units--) {
        int64_t row = p->first + f->row < p->end ? p->first + f->row : p->end - 1, count = f->count - f->done < UNIT ? f->count - f->done : UNIT;
        uint16_t *tile = f->panel + (f->row / TILE_ROWS * steps_of(f->count) + f->done / TILE_DEPTH) * TILE_VALUES;
        p->unpack(weights_at(p->w, row, f->at + f->done), count, tile + f->row % TILE_ROWS * TILE_DEPTH);
        ask_for_rows(p);
        f->done += count;
        if (f->done == f->count)
            f->done = 0, f->row++;
    }
}

/* A tile of sums [16 weight rows][16 rows] to the rows of y. */
static void turn_tile(struct work *p)
{
    const float *sums = p->turn.sums + p->turned * TILE_FLOATS;
    const int32_t row = p->turn.row + p->turned / 2 * TILE_ROWS, rows = p->in->rows - row;
    const int64_t column = p->first + p->turn.r + p->turned % 2 * TILE_ROWS, columns = p->end - column;
    const __mmask16 there = columns >= 16 ? 0xFFFF : columns > 0 ? (__mmask16)((1 << columns) - 1) : 0;
    __m512i v[TILE_ROWS];
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
        v[i] = _mm512_load_si512(sums + i * 16);
    turn_lanes(v);
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
        if (i < rows)
            _mm512_mask_storeu_epi32(p->y + p->in->row[row + i] * p->y_stride + column, there, turned_column(v, i));
    p->turned++;
}

static void turn_all(struct work *p)
{
    while (p->turned < p->tiles)
        turn_tile(p);
}

/* While a dot product has the tile unit for 16 cycles, all the rest of the processor has little to do: this. In small pieces, since
 * it looks ahead by about 500 operations and the next dot products must be among them. */
static void beside(struct work *p, const float *next_sums)
{
    if (p->turned < p->tiles)
        turn_tile(p);
    fill(p, p->fill.units);
    const char *other = p->soon + p->in->padded * TILE_ROWS * (int64_t)sizeof(uint16_t);
    for (int64_t i = 0; i < p->soon_lines; i++) {
        _mm_prefetch(p->soon + i * 64, _MM_HINT_T1);
        _mm_prefetch(other + i * 64, _MM_HINT_T1);
    }
    p->soon += p->soon_lines * 64;
    if (next_sums)
        for (int i = 0; i < 16; i++)
            _mm_prefetch((const char *)(next_sums + i * 16), _MM_HINT_T0);
}

/* ---- tiles ----------------------------------------------------------------------------------------------------------------- */

enum { SLOT = 4 }; /* steps from one beside() to the next */

/* The sums of the block before leave a tile, this block's from earlier chunks come. */
#define CHANGE(tile, place)                                              \
    do {                                                                 \
        if (before)                                                      \
            TILE_STORE(tile, before + place * TILE_FLOATS, TILE_STRIDE); \
        if (onto)                                                        \
            TILE_STREAM(tile, onto + place * TILE_FLOATS, TILE_STRIDE);  \
        else                                                             \
            TILE_ZERO(tile);                                             \
    } while (0)

/* Two weight tiles times `columns` (1 or 2) activation tiles over the chunk, onto what `onto` holds of earlier ones (NULL: nothing).
 * Their sums stay in the tiles; those of the block before go to `before` (NULL: there is none), tile by tile between the first dot
 * products, so that these need not wait for all of them. */
INLINE void run_block(int columns, struct work *p, const uint16_t *w, const uint16_t *x, const float *onto, float *before)
{
    const int64_t steps = steps_of(p->count), next_w = steps * TILE_VALUES, next_x = p->in->padded * TILE_ROWS;
    TILE_STREAM(4, w, TILE_STRIDE);
    TILE_LOAD(6, x, TILE_STRIDE);
    CHANGE(0, 0);
    TILE_DOT(0, 4, 6);
    if (columns == 2) {
        TILE_LOAD(7, x + next_x, TILE_STRIDE);
        CHANGE(1, 2);
        TILE_DOT(1, 4, 7);
    }
    TILE_STREAM(5, w + next_w, TILE_STRIDE);
    CHANGE(2, 1);
    TILE_DOT(2, 5, 6);
    if (columns == 2) {
        CHANGE(3, 3);
        TILE_DOT(3, 5, 7);
    }
    for (int64_t step = 1, stop; step < steps;) {
        stop = step + SLOT < steps ? step + SLOT : steps;
        const float *next_sums = onto && step < 4 * SLOT ? onto + (4 + step / SLOT) * TILE_FLOATS : NULL;
        for (; step < stop; step++) {
            w += TILE_VALUES, x += TILE_VALUES;
            TILE_STREAM(4, w, TILE_STRIDE);
            TILE_LOAD(6, x, TILE_STRIDE);
            TILE_DOT(0, 4, 6);
            if (columns == 2) {
                TILE_LOAD(7, x + next_x, TILE_STRIDE);
                TILE_DOT(1, 4, 7);
            }
            TILE_STREAM(5, w + next_w, TILE_STRIDE);
            TILE_DOT(2, 5, 6);
            if (columns == 2)
                TILE_DOT(3, 5, 7);
        }
        beside(p, next_sums);
    }
    turn_all(p);
}

/* The last block's sums leave the tiles, with nothing to hide it. */
INLINE void leave(int columns, struct work *p)
{
    float *to = p->block.sums;
    TILE_STORE(0, to, TILE_STRIDE);
    TILE_STORE(2, to + TILE_FLOATS, TILE_STRIDE);
    if (columns == 2) {
        TILE_STORE(1, to + 2 * TILE_FLOATS, TILE_STRIDE);
        TILE_STORE(3, to + 3 * TILE_FLOATS, TILE_STRIDE);
    }
    if (p->whole) {
        p->turn = p->block, p->turned = 0, p->tiles = 2 * columns;
        turn_all(p);
    }
    p->block.sums = NULL;
}

/* ---- the panel ------------------------------------------------------------------------------------------------------------- */

/* The panel's chunk times one or two tiles of activation rows, from tile `tile` on. */
INLINE void run_rows(int columns, struct work *p, int32_t tile)
{
    const uint16_t *x = p->in->tiles + (tile * p->in->padded + p->at) * TILE_ROWS, *w = p->panel;
    for (int64_t r = 0; r < p->rows; r += 2 * TILE_ROWS, w += 2 * steps_of(p->count) * TILE_VALUES) {
        float *total = p->total + (tile / 2 * p->rows + r) * 2 * TILE_ROWS;
        if (p->whole && p->block.sums)
            p->turn = p->block, p->turned = 0, p->tiles = 2 * columns;
        run_block(columns, p, w, x, p->at ? total : NULL, p->block.sums);
        p->block = (struct block){p->whole ? p->whole_sums : total, tile * TILE_ROWS, r};
    }
}

static void run_chunk(struct work *p)
{
    const int32_t tiles = (p->in->rows + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t slots = p->rows / (2 * TILE_ROWS) * ((steps_of(p->count) - 1 + SLOT - 1) / SLOT), lines = steps_of(p->count) * TILE_ROWS;
    const int64_t units = p->rows * ((p->fill.count + UNIT - 1) / UNIT), all = slots * ((tiles + 1) / 2);
    p->fill.units = all ? (units + all - 1) / all : 0;
    p->soon_lines = slots ? (lines + slots - 1) / slots : 0;
    for (int32_t tile = 0; tile < tiles; tile += 2) {
        int64_t next = tile + 2 < tiles ? (tile + 2) * p->in->padded + p->at : p->at + p->count;
        p->soon = (const char *)(p->in->tiles + next * TILE_ROWS);
        if (tile + 1 < tiles) {
            run_rows(2, p, tile);
            continue;
        }
        if (p->block.sums)
            leave(2, p);
        run_rows(1, p, tile);
    }
    if (tiles % 2)
        leave(1, p);
    else
        leave(2, p);
}

void amx_many(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    uint16_t *panel = (uint16_t *)(((uintptr_t)scratch + 63) / 64 * 64);
    const int64_t chunk = chunk_of(w->in), pairs = (end - first + 2 * TILE_ROWS - 1) / (2 * TILE_ROWS);
    struct work p = {.w = w, .in = in, .y = y, .y_stride = y_stride, .first = first, .end = end, .rows = pairs * 2 * TILE_ROWS,
                     .unpack = amx_unpack_of(w->format), .total = (float *)(void *)(panel + 2 * AMX_PANEL_ROWS * chunk),
                     .fill = {.panel = panel, .count = w->in < chunk ? w->in : chunk}};
    fill(&p, INT64_MAX);
    TILE_CONFIGURE(&tile_whole);
    for (int64_t left = w->in; left; left -= p.count) {
        p.panel = p.fill.panel, p.at = p.fill.at, p.count = p.fill.count, p.whole = p.count == left;
        p.fill.at += p.count;
        if (!p.whole) {
            p.fill.row = 0;
            p.fill.count = left - p.count < chunk ? left - p.count : chunk;
            p.fill.panel = p.panel == panel ? panel + AMX_PANEL_ROWS * chunk : panel;
        }
        run_chunk(&p);
        fill(&p, INT64_MAX);
    }
    TILE_RELEASE();
}

double amx_peak_bf16(int64_t rounds)
{
    TILE_CONFIGURE(&tile_whole); /* makes all tiles zero */
    for (int64_t i = 0; i < rounds; i++) {
        TILE_DOT(0, 4, 6);
        TILE_DOT(1, 4, 7);
        TILE_DOT(2, 5, 6);
        TILE_DOT(3, 5, 7);
    }
    TILE_RELEASE();
    return 4.0 * 2 * TILE_FLOATS * TILE_DEPTH * (double)rounds;
}
