/* All that the backend asks of a device: one table of functions. libingot-cuda.so (card.cu) implements it with the CUDA runtime; the
 * tests implement it on the CPU, where every kernel runs in an emulated block of threads. C and C++. */
#ifndef KERNELS_CUDA_INTERFACE_H
#define KERNELS_CUDA_INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/args.h"

enum cuda_kernel {
#define KERNEL(name) CUDA_##name,
#include "kernels/cuda/kernels.def"
#undef KERNEL
#define ATTEND(name, type, most, blocks) CUDA_attend_##name,
#include "kernels/cuda/attend.def"
#undef ATTEND
#define COLUMNS(columns, tiles, blocks) CUDA_columns_##columns,
#include "kernels/cuda/columns.def"
#undef COLUMNS
#define PROMPT(name, type, half, dim) CUDA_prompt_##name,
#include "kernels/cuda/prompt.def"
#undef PROMPT
#define SCAN(name, kind, size, blocks) CUDA_scan_##name,
#include "kernels/cuda/scan.def"
#undef SCAN
#define FORMAT(id, name, encode, round) CUDA_linear_##name,
#include "kernels/formats/formats.def"
#undef FORMAT
#define FAST(id, name, kind) CUDA_gemv_##name, CUDA_gemv_##name##_many, CUDA_gated_##name, CUDA_gated_##name##_many,
#include "kernels/cuda/fast.def"
#undef FAST
#define MATRIX(name, id, runs, tiles) CUDA_matrix_##name,
#include "kernels/cuda/matrix.def"
#undef MATRIX
#define HOPPER(name, id, runs, rows) CUDA_hopper_##name,
#include "kernels/cuda/hopper.def"
#undef HOPPER
#define EXPERTS(name, id, runs, tiles) CUDA_experts_##name,
#include "kernels/cuda/experts.def"
#undef EXPERTS
    CUDA_KERNELS
};

static inline const char *cuda_kernel_name(enum cuda_kernel kernel)
{
    static const char *const names[CUDA_KERNELS] = { /* in the order of enum cuda_kernel */
#define KERNEL(name) #name,
#include "kernels/cuda/kernels.def"
#undef KERNEL
#define ATTEND(name, type, most, blocks) "attend_" #name,
#include "kernels/cuda/attend.def"
#undef ATTEND
#define COLUMNS(columns, tiles, blocks) "columns_" #columns,
#include "kernels/cuda/columns.def"
#undef COLUMNS
#define PROMPT(name, type, half, dim) "prompt_" #name,
#include "kernels/cuda/prompt.def"
#undef PROMPT
#define SCAN(name, kind, size, blocks) "scan_" #name,
#include "kernels/cuda/scan.def"
#undef SCAN
#define FORMAT(id, name, encode, round) "linear_" #name,
#include "kernels/formats/formats.def"
#undef FORMAT
#define FAST(id, name, kind) "gemv_" #name, "gemv_" #name "_many", "gated_" #name, "gated_" #name "_many",
#include "kernels/cuda/fast.def"
#undef FAST
#define MATRIX(name, id, runs, tiles) "matrix_" #name,
#include "kernels/cuda/matrix.def"
#undef MATRIX
#define HOPPER(name, id, runs, rows) "hopper_" #name,
#include "kernels/cuda/hopper.def"
#undef HOPPER
#define EXPERTS(name, id, runs, tiles) "experts_" #name,
#include "kernels/cuda/experts.def"
#undef EXPERTS
    };
    return names[kernel];
}

/* Threads of a block. */
static inline unsigned cuda_threads(enum cuda_kernel kernel)
{
    switch (kernel) {
#define HOPPER(name, id, runs, rows) case CUDA_hopper_##name:
#include "kernels/cuda/hopper.def"
#undef HOPPER
        return HOPPER_THREADS;
    default: return CUDA_THREADS;
    }
}

struct cuda_info {
    char name[128];
    int major, minor; /* compute capability */
    int processors;   /* streaming multiprocessors */
    uint64_t free_bytes, total_bytes;
    uint64_t bandwidth; /* nominal, of its memory: bytes a second; 0: not told */
};

struct cuda_versions { /* major * 1000 + minor * 10 */
    int driver, runtime;
};

struct cuda_launch {
    enum cuda_kernel kernel;
    unsigned grid_x, grid_y; /* blocks of cuda_threads() */
    size_t shared_bytes;
    const void *args; /* struct NAME_args, copied by the call */
    size_t args_bytes;
    int early; /* may take its place while the kernel before still runs, and waits by itself (GRID_WAIT) */
};

/* y[rows, out] = x w^T, with float32 sums, added to what y holds if `add`; the next row of y is y_stride values on. */
struct cuda_gemm {
    const uint16_t *w, *x; /* bf16: [out, in], [rows, in] */
    float *y;
    int64_t out, rows, in, y_stride;
    int add;
};
enum { CUDA_GEMM_WORKSPACE = 32 << 20 }; /* bytes that a stream's first gemm takes */

/* A matrix of 2-byte values and the boxes that tensor copies take of it: 64 values (128 bytes) of box_rows rows. */
struct cuda_boxes {
    const void *base;      /* at a multiple of 16 */
    int64_t width, rows;
    int64_t row_bytes;     /* a multiple of 16 */
    int box_rows;          /* up to 256 */
};

struct cuda_graph;  /* launches that were recorded */
struct cuda_group;  /* cards that sum up together; a rank for each */
struct cuda_stream; /* work that is done in the order in which it was asked for */

enum { CUDA_MARKS = 8 };

/* What program and library agree on: it changes with the list of kernels and with what they are handed, so that a library left
 * behind by another build is refused. */
enum {
    CUDA_ARGS_BYTES = (int)(sizeof(struct linear_args) + sizeof(struct hopper_args) + sizeof(struct attend_args) + sizeof(struct scan_args)
#define KERNEL(name) +sizeof(struct name##_args)
#include "kernels/cuda/kernels.def"
#undef KERNEL
                            ),
    CUDA_INTERFACE = 7 << 24 | CUDA_KERNELS << 14 | CUDA_ARGS_BYTES
};

/* Functions return 0 or a number that words() explains. What goes wrong on the device shows in a later call. Every function can
 * be called from any thread; of one stream by one thread at a time. */
struct cuda_interface {
    int version; /* CUDA_INTERFACE of whoever built it */
    int no_memory; /* what allocate and pin return when there is none left */
    const char *(*words)(int error);
    int (*versions)(struct cuda_versions *out); /* driver 0: none is installed */
    int (*count)(int *devices);
    int (*info)(int device, struct cuda_info *out);
    bool (*has)(int device, enum cuda_kernel kernel); /* the kernel can run there: the library holds code for this device */
    int (*allocate)(int device, void **out, size_t bytes);
    void (*release)(int device, void *memory); /* NULL is fine, here and below */
    int (*pin)(int device, void **out, size_t bytes); /* memory of the host that transfers read and write directly */
    void (*unpin)(int device, void *memory);
    int (*open)(int device, struct cuda_stream **out);
    void (*close)(struct cuda_stream *s);
    /* Asked for only: done when wait() or reach() says so. Host memory is pinned. */
    int (*upload)(struct cuda_stream *s, void *to, const void *from, size_t bytes);
    int (*download)(struct cuda_stream *s, void *to, const void *from, size_t bytes);
    int (*copy)(struct cuda_stream *s, void *to, const void *from, size_t bytes); /* within the device */
    int (*launch)(struct cuda_stream *s, const struct cuda_launch *l);
    int (*record)(struct cuda_stream *s); /* launches are kept from here on, not done; nothing else may be asked for */
    int (*recorded)(struct cuda_stream *s, struct cuda_graph **out); /* up to here; also behind a launch that failed */
    int (*replay)(struct cuda_stream *s, const struct cuda_graph *g);
    void (*drop)(int device, struct cuda_graph *g); /* not while it may run */
    const char *(*gemm_library)(void); /* what gemm() uses, for words; NULL: there is none, and gemm() fails */
    int (*gemm)(struct cuda_stream *s, const struct cuda_gemm *g);
    bool (*maps)(void); /* the driver makes tensor maps; else map() fails */
    int (*map)(struct tensor_map *out, const struct cuda_boxes *of);
    /* x[count] of every rank becomes the sum of all, once each of them has asked for it. */
    const char *(*group_library)(void); /* what sums up; NULL: there is none, and groups cannot be opened */
    int (*group_open)(const int *devices, int count, struct cuda_group **out); /* each device once */
    void (*group_close)(struct cuda_group *g);
    void (*group_abort)(struct cuda_group *g); /* what was asked of it ends, wrongly; then it can only be closed */
    int (*sum)(struct cuda_stream *s, struct cuda_group *g, int rank, float *x, size_t count);
    int (*mark)(struct cuda_stream *s, int mark);  /* below CUDA_MARKS */
    int (*reach)(struct cuda_stream *s, int mark); /* waits until all is done that was asked for before the mark */
    int (*wait)(struct cuda_stream *s);            /* until all is done */
};

/* The one symbol of libingot-cuda.so, named in library.c. */
#define CUDA_SYMBOL "ingot_cuda_interface"
typedef const struct cuda_interface *cuda_interface_function(void);

#endif
