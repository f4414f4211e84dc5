/* The words of kernels/cpu/amx/tiles.h in plain C: AMX's tiles on any processor with AVX-512, so that its kernels are tested, and
 * the error that is measured is that of the processor. What the processor would refuse aborts with words: a configuration that
 * palette 1 does not allow, tiles that are not configured, shapes that do not fit each other. So does a configuration on top of
 * another one: whoever configures has to release.
 *
 * Rounding as Intel's manual has it (volume 2, TDPBF16PS): in each row products of even and of odd k are summed apart, from zero, in
 * fused multiply-adds; then both sums are added, then the result to what the tile held. Nearest even throughout, denormals are zero
 * on both sides, whatever MXCSR says. */
#ifndef TESTS_UNIT_KERNELS_TILES_H
#define TESTS_UNIT_KERNELS_TILES_H

#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TILE_CONFIGURE(config) emulated_configure(config)
#define TILE_RELEASE() emulated_release()
#define TILE_ZERO(tile) emulated_zero(tile)
#define TILE_LOAD(tile, from, stride) emulated_load(tile, from, stride)
#define TILE_STREAM(tile, from, stride) emulated_load(tile, from, stride)
#define TILE_STORE(tile, to, stride) emulated_store(tile, to, stride)
#define TILE_DOT(sum, a, b) emulated_dot(sum, a, b)

#include "kernels/cpu/amx/tiles.h"

struct emulated_tile {
    int rows, row_bytes;
    _Alignas(64) unsigned char data[16][64];
};
static _Thread_local struct emulated_tile emulated_tiles[8];
static _Thread_local int emulated_configured;

static inline void emulated_need(int held, const char *what)
{
    if (held)
        return;
    fprintf(stderr, "emulated AMX: %s\n", what);
    abort();
}

static inline void emulated_configure(const struct tile_config *c)
{
    static const unsigned char none[16];
    emulated_need(!emulated_configured, "configured again without a release");
    emulated_need(c->palette == 1 && c->start_row == 0 && memcmp(c->reserved, none, sizeof c->reserved) == 0, "not palette 1");
    for (int i = 0; i < 16; i++) {
        emulated_need(i < 8 || (!c->rows[i] && !c->row_bytes[i]), "palette 1 has eight tiles");
        emulated_need(c->rows[i] <= 16 && c->row_bytes[i] <= 64 && !c->rows[i] == !c->row_bytes[i], "palette 1 has tiles of up to 16 rows of 64 bytes");
    }
    for (int i = 0; i < 8; i++)
        emulated_tiles[i] = (struct emulated_tile){.rows = c->rows[i], .row_bytes = c->row_bytes[i]};
    emulated_configured = 1;
}

static inline void emulated_release(void)
{
    memset(emulated_tiles, 0, sizeof emulated_tiles);
    emulated_configured = 0;
}

static inline struct emulated_tile *emulated_tile(int tile)
{
    emulated_need(tile >= 0 && tile < 8 && emulated_configured && emulated_tiles[tile].rows, "a tile that is not configured");
    return &emulated_tiles[tile];
}

static inline void emulated_zero(int tile)
{
    struct emulated_tile *t = emulated_tile(tile);
    memset(t->data, 0, sizeof t->data);
}

static inline void emulated_load(int tile, const void *from, int64_t stride)
{
    struct emulated_tile *t = emulated_tile(tile);
    memset(t->data, 0, sizeof t->data);
    for (int r = 0; r < t->rows; r++)
        memcpy(t->data[r], (const unsigned char *)from + r * stride, (size_t)t->row_bytes);
}

static inline void emulated_store(int tile, void *to, int64_t stride)
{
    struct emulated_tile *t = emulated_tile(tile);
    for (int r = 0; r < t->rows; r++)
        memcpy((unsigned char *)to + r * stride, t->data[r], (size_t)t->row_bytes);
}

/* The bfloat16 in the lower or upper half of each word as float32. */
static inline __m512 emulated_halves(__m512i words, int upper)
{
    return _mm512_castsi512_ps(upper ? _mm512_and_si512(words, _mm512_set1_epi32((int)0xFFFF0000)) : _mm512_slli_epi32(words, 16));
}

static inline void emulated_dot(int sum, int a, int b)
{
    struct emulated_tile *c = emulated_tile(sum), *x = emulated_tile(a), *y = emulated_tile(b);
    emulated_need(c != x && c != y && x != y, "a dot product of a tile with itself");
    emulated_need(c->rows == x->rows && c->row_bytes == y->row_bytes && x->row_bytes == 4 * y->rows && c->row_bytes % 4 == 0, "shapes that do not fit");
    unsigned mode = _mm_getcsr();
    _mm_setcsr(_MM_MASK_MASK | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON | _MM_ROUND_NEAREST);
    __asm__ volatile("" ::: "memory"); /* nothing is computed before */
    __mmask16 columns = (__mmask16)((1u << c->row_bytes / 4) - 1);
    for (int m = 0; m < c->rows; m++) {
        __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
        for (int k = 0; k < y->rows; k++) {
            int32_t pair;
            memcpy(&pair, x->data[m] + 4 * k, sizeof pair);
            __m512i w = _mm512_set1_epi32(pair), v = _mm512_load_si512(y->data[k]);
            even = _mm512_fmadd_ps(emulated_halves(w, 0), emulated_halves(v, 0), even);
            odd = _mm512_fmadd_ps(emulated_halves(w, 1), emulated_halves(v, 1), odd);
        }
        __m512 total = _mm512_add_ps(_mm512_load_ps(c->data[m]), _mm512_add_ps(even, odd));
        __asm__ volatile("" : "+v"(total)); /* before MXCSR changes back */
        _mm512_store_ps(c->data[m], _mm512_maskz_mov_ps(columns, total));
    }
    _mm_setcsr(mode);
}

#endif
