/* Which formats lie in planes on the device, and how (planes.def). */
#include "kernels/cuda/cuda.h"

static const struct {
    int planes;
    struct device_plane plane[4];
} layouts[STORAGE_COUNT] = {
#define PLANE(offset, bytes) {offset, bytes, 0}
#define PLANES(id, count, ...) [STORAGE_##id] = {count, {__VA_ARGS__}},
#include "kernels/cuda/planes.def"
#undef PLANES
#undef PLANE
};

static int64_t row_blocks(const struct weight *w) { return w->in / storage_types[w->format].block_elements; }

int64_t cuda_row_bytes(const struct compiled *c, const struct weight *w)
{
    struct relay_args a;
    return cuda_relay(c, w, &a) ? a.row_bytes : row_blocks(w) * storage_types[w->format].block_bytes;
}

bool cuda_relay(const struct compiled *c, const struct weight *w, struct relay_args *out)
{
    *out = (struct relay_args){.row_blocks = row_blocks(w), .block_bytes = storage_types[w->format].block_bytes, .planes = layouts[w->format].planes};
    if (c->plain || !out->planes)
        return false;
    for (int i = 0; i < out->planes; i++) {
        out->plane[i] = layouts[w->format].plane[i];
        out->plane[i].start = out->row_bytes;
        out->row_bytes += (out->row_blocks * out->plane[i].bytes + 15) / 16 * 16;
    }
    return true;
}
