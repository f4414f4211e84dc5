/* The few words that kernels on AMX's tiles are written in. With AMX they are its instructions; tests define the same words in
 * plain C (tests/unit/kernels/tiles.h) before they include a kernel. So the code that runs on such a processor is the code that
 * was tested. Tiles are numbered 0 to 7, the number being a literal. */
#ifndef KERNELS_CPU_AMX_TILES_H
#define KERNELS_CPU_AMX_TILES_H

#include "kernels/cpu/cpu.h"

/* What LDTILECFG reads (Intel's manual, volume 1, 18.3): palette 1, for each tile its rows and the bytes of a row. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct tile_config) == 64, "what the instruction reads");

/* bfloat16 [16 rows][32], or pairs of them [16][16][2], or float [16][16] */
enum { TILE_DEPTH = 32, TILE_VALUES = TILE_ROWS * TILE_DEPTH, TILE_FLOATS = TILE_ROWS * 16, TILE_STRIDE = 64 };

/* All eight tiles whole. */
static const struct tile_config tile_whole __attribute__((aligned(64), unused)) = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS},
};

#ifndef TILE_LOAD
#include <immintrin.h>
/* gcc does not know that a tile's load reads memory: what was stored before must not wait. */
#define TILE_FENCE __asm__ volatile("" ::: "memory")
#define TILE_CONFIGURE(config) _tile_loadconfig(config)
#define TILE_RELEASE() _tile_release() /* a thread without tiles has less to save */
#define TILE_ZERO(tile) _tile_zero(tile)
#define TILE_LOAD(tile, from, stride)       \
    do {                                    \
        TILE_FENCE;                         \
        _tile_loadd(tile, from, stride);    \
    } while (0)
/* The same for what is used once: it stays out of the first-level cache. */
#define TILE_STREAM(tile, from, stride)     \
    do {                                    \
        TILE_FENCE;                         \
        _tile_stream_loadd(tile, from, stride); \
    } while (0)
#define TILE_STORE(tile, to, stride)        \
    do {                                    \
        _tile_stored(tile, to, stride);     \
        TILE_FENCE;                         \
    } while (0)
/* sum [16][16] += a [16][32] . b [16 pairs of k][16][2]: see tests/unit/kernels/tiles.h for the rounding */
#define TILE_DOT(sum, a, b) _tile_dpbf16ps(sum, a, b)
#endif

#endif
