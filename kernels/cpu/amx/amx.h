/* Kernels of the AMX table. */
#ifndef KERNELS_CPU_AMX_AMX_H
#define KERNELS_CPU_AMX_AMX_H

#include "kernels/cpu/cpu.h"

/* panel.c: weights of any format that amx_unpack_of() knows times many rows of FORM_TILES, at most AMX_PANEL_ROWS weight rows */
enum { AMX_PANEL_ROWS = 256 };
void amx_many(const struct weight *w, int64_t first, int64_t end, const struct input *in, float *y, int64_t y_stride, void *scratch);
size_t amx_panel_bytes(int64_t n, int32_t rows);
void amx_pack_tiles(struct input *in, int32_t tile, int64_t first, int64_t end);
double amx_peak_bf16(int64_t rounds);

/* attend.c: prompts over a piece of ATTEND_PIECE tokens from `first` on. Forms of the tiles lie side by side, each behind the
 * one before. */
bool amx_attends(const struct attend_tile *a);
void amx_attend(struct attend_tile *const *tiles, int count, int64_t first);
size_t amx_attend_floats(int k_dim, int v_dim); /* scratch */

/* unpack.c: `count` weights of a row as bfloat16, 32 to each tile at to, to + TILE_VALUES ...; zeros behind the last one.
 * Nothing behind the weights is read. */
typedef void amx_unpack_function(const unsigned char *weights, int64_t count, uint16_t *to);
amx_unpack_function *amx_unpack_of(enum storage format); /* NULL: none */

#endif
