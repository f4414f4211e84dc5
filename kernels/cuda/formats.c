/* Which kernels there are for a format: the first of each kind. */
#include "kernels/cuda/cuda.h"

const struct format_kernels cuda_format_kernels[STORAGE_COUNT] = {
#define FORMAT(id, name, encode, round) [STORAGE_##id].plain = CUDA_linear_##name,
#include "kernels/formats/formats.def"
#undef FORMAT
#define MATRIX_UNITS(id, name) \
    [STORAGE_##id].matrix = CUDA_matrix_##name##_8, [STORAGE_##id].hopper = CUDA_hopper_##name##_128, [STORAGE_##id].experts = CUDA_experts_##name##_8,
#define RUNS(id, name) [STORAGE_##id].fast = FAST_BYTES, MATRIX_UNITS(id, name)
#define PLAIN(id, name) [STORAGE_##id].fast = FAST_MATRIX, MATRIX_UNITS(id, name)
#define FLOATS(id, name) [STORAGE_##id].fast = FAST_FLOATS,
#define FAST(id, name, kind) [STORAGE_##id].gemv = CUDA_gemv_##name, kind(id, name)
#include "kernels/cuda/fast.def"
#undef FAST
#undef FLOATS
#undef PLAIN
#undef RUNS
#undef MATRIX_UNITS
};
