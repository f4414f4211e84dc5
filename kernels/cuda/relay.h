/* Blocks as they are stored -> rows of planes (planes.def), once, when a weight arrives on the device: a thread for each byte. */
#ifndef KERNELS_CUDA_RELAY_H
#define KERNELS_CUDA_RELAY_H

#include "kernels/cuda/code.h"

KERNEL_CODE void relay_body(struct relay_args a)
{
    int64_t i = BLOCK * CUDA_THREADS + THREAD;
    if (i >= a.blocks * a.block_bytes)
        return;
    int64_t block = a.first + i / a.block_bytes, row = block / a.row_blocks, k = block % a.row_blocks;
    int at = (int)(i % a.block_bytes);
    UNROLL for (int p = 0; p < 4; p++) {
        const struct device_plane *plane = &a.plane[p];
        if (p < a.planes && at >= plane->offset && at < plane->offset + plane->bytes)
            a.to[row * a.row_bytes + plane->start + k * plane->bytes + at - plane->offset] = a.from[i];
    }
}

#endif
