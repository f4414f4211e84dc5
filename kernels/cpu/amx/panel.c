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
 * there while they meet all weight tiles of the panel; weights come from the second level with 32 bytes a cycle. The panel is
 * as tall as AMX_PANEL_ROWS so that activations, which exceed the second level, are read only once for so many weights. */
#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/turn.h"

enum { CHUNK = 512, CHUNK_MOST = 640 }; /* a row that is a little longer than a chunk is one */

static int64_t chunk_of(int64_t n) { return n <= CHUNK_MOST ? (n + TILE_DEPTH - 1) / TILE_DEPTH * TILE_DEPTH : CHUNK; }

static size_t total_floats(int64_t n, int32_t rows) { return n <= CHUNK_MOST ? 0 : (size_t)(rows + 31) / 32 * 32 * AMX_PANEL_ROWS; }

size_t amx_panel_bytes(int64_t n, int32_t rows)
{
    return (size_t)AMX_PANEL_ROWS * (size_t)chunk_of(n) * sizeof(uint16_t) + total_floats(n, rows) * sizeof(float) + 64;
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

void amx_pack_tiles(struct input *in, int32_t tile)
{
    uint16_t *to = in->tiles + (int64_t)tile * TILE_ROWS * in->padded;
    for (int64_t k = 0; k < in->n; k += TILE_DEPTH, to += TILE_VALUES) {
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

/* ---- tiles ----------------------------------------------------------------------------------------------------------------- */

/* Two weight tiles times `columns` (1 or 2) activation tiles over `steps` times 32 k, onto what `onto` holds of earlier chunks
 * (NULL: nothing). next_w, next_x: values from the first tile to the second. */
INLINE void run_tiles(int columns, int64_t steps, const uint16_t *w, int64_t next_w, const uint16_t *x, int64_t next_x, const float *onto, float *to)
{
    if (onto) {
        TILE_LOAD(0, onto, TILE_STRIDE);
        TILE_LOAD(2, onto + TILE_FLOATS, TILE_STRIDE);
        if (columns == 2) {
            TILE_LOAD(1, onto + 2 * TILE_FLOATS, TILE_STRIDE);
            TILE_LOAD(3, onto + 3 * TILE_FLOATS, TILE_STRIDE);
        }
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
    for (; steps; steps--, w += TILE_VALUES, x += TILE_VALUES) {
        TILE_LOAD(4, w, TILE_STRIDE);
        TILE_LOAD(6, x, TILE_STRIDE);
        TILE_DOT(0, 4, 6);
        if (columns == 2) {
            TILE_LOAD(7, x + next_x, TILE_STRIDE);
            TILE_DOT(1, 4, 7);
        }
        TILE_LOAD(5, w + next_w, TILE_STRIDE);
        TILE_DOT(2, 5, 6);
        if (columns == 2)
            TILE_DOT(3, 5, 7);
    }
    TILE_STORE(0, to, TILE_STRIDE);
    TILE_STORE(2, to + TILE_FLOATS, TILE_STRIDE);
    if (columns == 2) {
        TILE_STORE(1, to + 2 * TILE_FLOATS, TILE_STRIDE);
        TILE_STORE(3, to + 3 * TILE_FLOATS, TILE_STRIDE);
    }
}

/* A tile of sums [16 weight rows][16 rows] to the rows of y. */
static void store_sums(const float *sums, const struct input *in, int32_t row, __mmask16 columns, float *y, int64_t y_stride)
{
    __m512i v[TILE_ROWS];
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
        v[i] = _mm512_load_si512(sums + i * 16);
    turn_lanes(v);
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
        if (row + i < in->rows)
            _mm512_mask_storeu_epi32(y + in->row[row + i] * y_stride, columns, turned_column(v, i));
}

/* ---- the panel ------------------------------------------------------------------------------------------------------------- */

struct work {
    const struct weight *w;
    int64_t first, end;    /* weight rows */
    int64_t at, count;     /* the chunk */
    int64_t rows;          /* of the panel: end - first in whole pairs of tiles */
    amx_unpack_function *unpack;
    uint16_t *panel;
    float *total;
};

static int64_t tile_steps(const struct work *p) { return (p->count + TILE_DEPTH - 1) / TILE_DEPTH; }

static const unsigned char *weights_at(const struct weight *w, int64_t row, int64_t at)
{
    const struct storage_type *t = &storage_types[w->format];
    return w->data + row * w->row_bytes + at / t->block_elements * t->block_bytes;
}

/* Rows behind the end repeat the last one; what comes of them is not used. */
static void fill_panel(const struct work *p)
{
    for (int64_t r = 0; r < p->rows; r++) {
        int64_t row = p->first + r < p->end ? p->first + r : p->end - 1;
        p->unpack(weights_at(p->w, row, p->at), p->count, p->panel + r / TILE_ROWS * tile_steps(p) * TILE_VALUES + r % TILE_ROWS * TILE_DEPTH);
    }
}

/* While step `step` of `steps` runs: its share of what the next chunk, or the next panel's first, will be unpacked from. */
static void prefetch_next(const struct work *p, int32_t step, int32_t steps)
{
    int64_t first = p->first, at = p->at + p->count;
    if (at >= p->w->in)
        at = 0, first += p->rows;
    int64_t count = p->w->in - at < p->count ? p->w->in - at : p->count;
    for (int64_t r = first + p->rows * step / steps, last = first + p->rows * (step + 1) / steps; r < last && r < p->w->out; r++)
        for (const unsigned char *line = weights_at(p->w, r, at), *end = weights_at(p->w, r, at + count); line < end; line += 64)
            _mm_prefetch((const char *)line, _MM_HINT_T1);
}

/* The panel's chunk times one or two tiles of activation rows, from tile `tile` on. */
INLINE void run_rows(int columns, const struct work *p, const struct input *in, int32_t tile, float *y, int64_t y_stride)
{
    _Alignas(64) float done[4 * TILE_FLOATS];
    const int64_t next = in->padded * TILE_ROWS, steps = tile_steps(p);
    const uint16_t *x = in->tiles + tile * next + p->at * TILE_ROWS;
    const bool last = p->at + p->count >= p->w->in;
    for (int64_t r = 0; r < p->rows; r += 2 * TILE_ROWS) {
        float *total = p->total + (tile / 2 * p->rows + r) * 2 * TILE_ROWS;
        const uint16_t *w = p->panel + r / TILE_ROWS * steps * TILE_VALUES;
        run_tiles(columns, steps, w, steps * TILE_VALUES, x, next, p->at ? total : NULL, last ? done : total);
        if (!last)
            continue;
        for (int i = 0; i < 2; i++) {
            int64_t left = p->end - p->first - r - i * TILE_ROWS;
            __mmask16 there = left >= 16 ? 0xFFFF : left > 0 ? (__mmask16)((1 << left) - 1) : 0;
            for (int c = 0; c < columns; c++)
                store_sums(done + (2 * c + i) * TILE_FLOATS, in, (tile + c) * TILE_ROWS, there, y + p->first + r + i * TILE_ROWS, y_stride);
        }
    }
}

void amx_many(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch)
{
    uint16_t *panel = (uint16_t *)(((uintptr_t)scratch + 63) / 64 * 64);
    int64_t chunk = chunk_of(w->in), pairs = (end - first + 2 * TILE_ROWS - 1) / (2 * TILE_ROWS);
    struct work p = {.w = w, .first = first, .end = end, .rows = pairs * 2 * TILE_ROWS, .unpack = amx_unpack_of(w->format), .panel = panel,
                     .total = (float *)(void *)(panel + AMX_PANEL_ROWS * chunk)};
    const int32_t tiles = (in->rows + TILE_ROWS - 1) / TILE_ROWS;
    TILE_CONFIGURE(&tile_whole);
    for (p.at = 0; p.at < w->in; p.at += p.count) {
        p.count = w->in - p.at < chunk ? w->in - p.at : chunk;
        fill_panel(&p);
        for (int32_t tile = 0; tile < tiles; tile += 2) {
            prefetch_next(&p, tile / 2, (tiles + 1) / 2);
            if (tile + 1 < tiles)
                run_rows(2, &p, in, tile, y, y_stride);
            else
                run_rows(1, &p, in, tile, y, y_stride);
        }
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
