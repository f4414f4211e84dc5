/* libingot-cuda.so: kernels for the device, and the device itself behind interface.h. */
#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/attend.h"
#include "kernels/cuda/choose.h"
#include "kernels/cuda/chunks.h"
#include "kernels/cuda/columns.h"
#include "kernels/cuda/cublas.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/interface.h"
#include "kernels/cuda/gemv.h"
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/maps.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/nccl.h"
#include "kernels/cuda/prompt.h"
#include "kernels/cuda/relay.h"
#include "kernels/cuda/unpack.h"

/* Every kernel lets the next one in at once, and waits before it reads what others wrote; LINEAR asks for weights in between (gemv.h,
 * matrix.h). blocks of a multiprocessor: so many registers are left that none are spilled, 65536 / (CUDA_THREADS * blocks). */
#define ENTRY(name, blocks, args, ...)                                                                        \
    static __global__ void __launch_bounds__(CUDA_THREADS, blocks) name(const __grid_constant__ struct args a) \
    {                                                                                                         \
        GRID_GO();                                                                                            \
        __VA_ARGS__;                                                                                          \
    }
#define KERNEL(name) ENTRY(kernel_##name, 5, name##_args, GRID_WAIT(); name##_body(a))
#include "kernels/cuda/kernels.def"
#undef KERNEL
#define ATTEND(name, type, most, blocks) ENTRY(attend_##name, blocks, attend_args, GRID_WAIT(); attend_body(type, most, a))
#include "kernels/cuda/attend.def"
#undef ATTEND
#define COLUMNS(columns, tiles, blocks) ENTRY(columns_##columns, blocks, attend_args, GRID_WAIT(); columns_body(tiles, &a))
#include "kernels/cuda/columns.def"
#undef COLUMNS
#define PROMPT(name, type, half, dim) ENTRY(prompt_##name, 2, attend_args, GRID_WAIT(); prompt_body(type, half, dim, &a))
#include "kernels/cuda/prompt.def"
#undef PROMPT
#define SCAN(name, kind, size, blocks) ENTRY(scan_##name, blocks, scan_args, GRID_WAIT(); scan_##kind##_body(size, &a))
#include "kernels/cuda/scan.def"
#undef SCAN
#define FORMAT(id, name, encode, round) ENTRY(linear_##name, 1, linear_args, GRID_WAIT(); linear_body(STORAGE_##id, a))
#include "kernels/formats/formats.def"
#undef FORMAT
#define MATRIX(name, id, runs, tiles) \
    ENTRY(matrix_##name, tiles > MATRIX_FEW_TILES || (tiles == 2 && !runs) ? 2 : 3, gemv_args, matrix_body(STORAGE_##id, runs, tiles, &a))
#include "kernels/cuda/matrix.def"
#undef MATRIX
/* With three blocks Q6_K's spilled a register on 10.0, which takes 194; cards before it take fewer than three leave. */
#define EXPERTS(name, id, runs, tiles)                                                                                                   \
    ENTRY(experts_##name, tiles > MATRIX_FEW_TILES || STORAGE_##id == STORAGE_Q6_K ? 2 : 3, experts_matrix_args, experts_matrix_body(STORAGE_##id, runs, tiles, &a))
#include "kernels/cuda/experts.def"
#undef EXPERTS

/* Elsewhere empty, and for no more than a warp, so that has() tells. */
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER(name, id, runs, rows)                                                                                                         \
    static __global__ void __launch_bounds__(HOPPER_THREADS, 1) hopper_##name(const __grid_constant__ struct hopper_args a)                  \
    {                                                                                                                                        \
        GRID_GO();                                                                                                                           \
        hopper_body(STORAGE_##id, runs, rows, &a);                                                                                           \
    }
#else
#define HOPPER(name, id, runs, rows) \
    static __global__ void __launch_bounds__(32, 1) hopper_##name(const __grid_constant__ struct hopper_args) {}
#endif
#include "kernels/cuda/hopper.def"
#undef HOPPER

enum { RUNS = 1, PLAIN = 0, FLOATS = 0 };
#define GEMV(name, id, kind, rows, gated) ENTRY(name, rows > 1 ? 3 : gated ? 6 : 7, gemv_args, gemv_body(STORAGE_##id, kind, rows, gated, a))
#define FAST(id, name, kind)                       \
    GEMV(gemv_##name, id, kind, 1, 0)              \
    GEMV(gemv_##name##_many, id, kind, GEMV_ROWS, 0) \
    GEMV(gated_##name, id, kind, 1, 1)             \
    GEMV(gated_##name##_many, id, kind, GEMV_ROWS, 1)
#include "kernels/cuda/fast.def"
#undef FAST
#undef GEMV

static const void *const kernels[CUDA_KERNELS] = { /* in the order of enum cuda_kernel */
#define KERNEL(name) (const void *)kernel_##name,
#include "kernels/cuda/kernels.def"
#undef KERNEL
#define ATTEND(name, type, most, blocks) (const void *)attend_##name,
#include "kernels/cuda/attend.def"
#undef ATTEND
#define COLUMNS(columns, tiles, blocks) (const void *)columns_##columns,
#include "kernels/cuda/columns.def"
#undef COLUMNS
#define PROMPT(name, type, half, dim) (const void *)prompt_##name,
#include "kernels/cuda/prompt.def"
#undef PROMPT
#define SCAN(name, kind, size, blocks) (const void *)scan_##name,
#include "kernels/cuda/scan.def"
#undef SCAN
#define FORMAT(id, name, encode, round) (const void *)linear_##name,
#include "kernels/formats/formats.def"
#undef FORMAT
#define FAST(id, name, kind) (const void *)gemv_##name, (const void *)gemv_##name##_many, (const void *)gated_##name, (const void *)gated_##name##_many,
#include "kernels/cuda/fast.def"
#undef FAST
#define MATRIX(name, id, runs, tiles) (const void *)matrix_##name,
#include "kernels/cuda/matrix.def"
#undef MATRIX
#define HOPPER(name, id, runs, rows) (const void *)hopper_##name,
#include "kernels/cuda/hopper.def"
#undef HOPPER
#define EXPERTS(name, id, runs, tiles) (const void *)experts_##name,
#include "kernels/cuda/experts.def"
#undef EXPERTS
};

struct cuda_stream {
    int device;
    bool early; /* the card knows programmatic dependent launch */
    cudaStream_t stream;
    cudaEvent_t mark[CUDA_MARKS];
    void *cublas, *workspace; /* from the first gemm on */
};

static const char *error_words(int error)
{
    if (error >= NCCL_CODES)
        return nccl_library() ? nccl.words(error - NCCL_CODES) : "NCCL";
    return error >= CUBLAS_CODES ? cublas_words(error - CUBLAS_CODES) : cudaGetErrorString((cudaError_t)error);
}

static int versions(struct cuda_versions *out)
{
    cudaError_t error = cudaDriverGetVersion(&out->driver);
    return error ? error : cudaRuntimeGetVersion(&out->runtime);
}

static int count(int *devices) { return cudaGetDeviceCount(devices); }

/* Two transfers a clock on all kinds of memory that cards have, as the driver counts clocks (kHz). */
static uint64_t bandwidth(int device)
{
    int clock, bits;
    if (cudaDeviceGetAttribute(&clock, cudaDevAttrMemoryClockRate, device) || cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, device))
        return 0;
    return (uint64_t)clock * 1000 * 2 * (uint64_t)bits / 8;
}

static int info(int device, struct cuda_info *out)
{
    struct cudaDeviceProp p;
    size_t free_bytes, total_bytes;
    cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (!error)
        error = cudaSetDevice(device);
    if (!error)
        error = cudaMemGetInfo(&free_bytes, &total_bytes);
    if (error)
        return error;
    memset(out, 0, sizeof *out);
    memcpy(out->name, p.name, strnlen(p.name, sizeof out->name - 1));
    out->major = p.major;
    out->minor = p.minor;
    out->processors = p.multiProcessorCount;
    out->free_bytes = free_bytes;
    out->total_bytes = total_bytes;
    out->bandwidth = bandwidth(device);
    return 0;
}

/* Asking loads the kernel: one that was compiled for other cards, or for more threads than this one gives it, says so here. */
static bool has(int device, enum cuda_kernel kernel)
{
    struct cudaFuncAttributes a;
    cudaError_t error = cudaSetDevice(device);
    if (!error)
        error = cudaFuncGetAttributes(&a, kernels[kernel]);
    (void)cudaGetLastError(); /* not an error of the next launch */
    return !error && a.maxThreadsPerBlock >= (int)cuda_threads(kernel);
}

static int allocate(int device, void **out, size_t bytes)
{
    cudaError_t error = cudaSetDevice(device);
    if (!error && (error = cudaMalloc(out, bytes)) == cudaErrorMemoryAllocation)
        (void)cudaGetLastError(); /* not an error of the next launch */
    return error;
}

static void release(int device, void *memory)
{
    if (memory && !cudaSetDevice(device))
        (void)cudaFree(memory);
}

static int pin(int device, void **out, size_t bytes)
{
    cudaError_t error = cudaSetDevice(device);
    if (!error && (error = cudaMallocHost(out, bytes)) == cudaErrorMemoryAllocation)
        (void)cudaGetLastError();
    return error;
}

static void unpin(int device, void *memory)
{
    if (memory && !cudaSetDevice(device))
        (void)cudaFreeHost(memory);
}

static void close_stream(struct cuda_stream *s)
{
    (void)cudaSetDevice(s->device);
    if (s->stream) {
        (void)cudaStreamSynchronize(s->stream);
        if (s->cublas)
            (void)cublas_library()->destroy(s->cublas);
        (void)cudaFree(s->workspace);
        (void)cudaStreamDestroy(s->stream);
    }
    for (int i = 0; i < CUDA_MARKS; i++)
        if (s->mark[i])
            (void)cudaEventDestroy(s->mark[i]);
    free(s);
}

static int open_stream(int device, struct cuda_stream **out)
{
    struct cuda_stream *s = (struct cuda_stream *)calloc(1, sizeof *s);
    if (!s)
        return cudaErrorMemoryAllocation;
    s->device = device;
    int major = 0;
    cudaError_t error = cudaSetDevice(device);
    if (!error)
        error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    s->early = major >= 9;
    if (!error)
        error = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    for (int i = 0; i < CUDA_MARKS && !error; i++)
        error = cudaEventCreateWithFlags(&s->mark[i], cudaEventDisableTiming);
    if (error) {
        close_stream(s);
        return error;
    }
    *out = s;
    return 0;
}

static int transfer(struct cuda_stream *s, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    cudaError_t error = cudaSetDevice(s->device);
    return error || !bytes ? error : cudaMemcpyAsync(to, from, bytes, kind, s->stream);
}

static int upload(struct cuda_stream *s, void *to, const void *from, size_t bytes) { return transfer(s, to, from, bytes, cudaMemcpyHostToDevice); }

static int download(struct cuda_stream *s, void *to, const void *from, size_t bytes) { return transfer(s, to, from, bytes, cudaMemcpyDeviceToHost); }

static int copy(struct cuda_stream *s, void *to, const void *from, size_t bytes) { return transfer(s, to, from, bytes, cudaMemcpyDeviceToDevice); }

enum { SHARED_UNASKED = 48 << 10 }; /* bytes that a block has without being asked for */

static int launch(struct cuda_stream *s, const struct cuda_launch *l)
{
    void *args[] = {(void *)l->args};
    cudaError_t error = cudaSetDevice(s->device);
    if (!error && l->shared_bytes > SHARED_UNASKED)
        error = cudaFuncSetAttribute(kernels[l->kernel], cudaFuncAttributeMaxDynamicSharedMemorySize, (int)l->shared_bytes);
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(l->grid_x, l->grid_y);
    config.blockDim = dim3(cuda_threads(l->kernel));
    config.dynamicSmemBytes = l->shared_bytes;
    config.stream = s->stream;
    config.attrs = &early;
    config.numAttrs = l->early && s->early;
    return error ? error : cudaLaunchKernelExC(&config, kernels[l->kernel], args);
}

static int record(struct cuda_stream *s)
{
    cudaError_t error = cudaSetDevice(s->device);
    return error ? error : cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal);
}

static int recorded(struct cuda_stream *s, struct cuda_graph **out)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    cudaError_t error = cudaStreamEndCapture(s->stream, &graph);
    if (!error)
        error = cudaGraphInstantiate(&ready, graph, 0);
    if (graph)
        (void)cudaGraphDestroy(graph);
    *out = (struct cuda_graph *)ready;
    return error;
}

static int replay(struct cuda_stream *s, const struct cuda_graph *g)
{
    cudaError_t error = cudaSetDevice(s->device);
    return error ? error : cudaGraphLaunch((cudaGraphExec_t)g, s->stream);
}

static void drop(int device, struct cuda_graph *g)
{
    if (g && !cudaSetDevice(device))
        (void)cudaGraphExecDestroy((cudaGraphExec_t)g);
}

static const char *gemm_library(void) { return cublas_library() ? cublas_library()->path : NULL; }

static int cublas_code(int status) { return !status ? 0 : status == CUBLAS_ALLOC_FAILED ? cudaErrorMemoryAllocation : CUBLAS_CODES + status; }

/* A workspace of our own: sums then have one order, whatever else the card does. */
static int gemm_open(struct cuda_stream *s, const struct cublas *library)
{
    int code = allocate(s->device, &s->workspace, CUDA_GEMM_WORKSPACE), status = 0;
    if (code || (status = library->create(&s->cublas)))
        return code ? code : cublas_code(status);
    status = library->set_stream(s->cublas, s->stream); /* which takes the workspace away */
    return cublas_code(status ? status : library->set_workspace(s->cublas, s->workspace, CUDA_GEMM_WORKSPACE));
}

static int gemm(struct cuda_stream *s, const struct cuda_gemm *g)
{
    enum { PLAIN = 0, TRANSPOSED = 1, F32 = 0 /* CUDA_R_32F */, BF16 = 14 /* CUDA_R_16BF */, COMPUTE_F32 = 68, BEST = -1 };
    const struct cublas *library = cublas_library();
    const float one = 1, add = g->add ? 1 : 0;
    cudaError_t error = cudaSetDevice(s->device);
    if (error || !library)
        return error ? error : cudaErrorNotSupported;
    int code = s->cublas ? 0 : gemm_open(s, library);
    /* columns first: y^T [out, rows] = w [out, in] x^T [in, rows] */
    return code ? code : cublas_code(library->product(s->cublas, TRANSPOSED, PLAIN, (int)g->out, (int)g->rows, (int)g->in, &one, g->w, BF16, (int)g->in, g->x,
                                                      BF16, (int)g->in, &add, g->y, F32, (int)g->y_stride, COMPUTE_F32, BEST));
}

static bool maps(void) { return maps_encode() != NULL; }

static int map(struct tensor_map *out, const struct cuda_boxes *of)
{
    const cuuint64_t size[2] = {(cuuint64_t)of->width, (cuuint64_t)of->rows}, stride[1] = {(cuuint64_t)of->row_bytes};
    const cuuint32_t box[2] = {HOPPER_DEPTH, (cuuint32_t)of->box_rows}, step[2] = {1, 1};
    if (!maps())
        return cudaErrorNotSupported;
    CUresult result = maps_encode()((CUtensorMap *)out, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)of->base, size, stride, box, step,
                                    CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                    CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS ? 0 : cudaErrorInvalidValue;
}

/* ---- several cards -------------------------------------------------------------------------------------------------------- */

enum { GROUP_MOST = 16 };

struct cuda_group {
    int count, device[GROUP_MOST];
    void *communicator[GROUP_MOST]; /* NULL once it is aborted */
};

static const char *group_library(void) { return nccl_library() ? nccl_library()->path : NULL; }

static void group_end(struct cuda_group *g, int (*end)(void *communicator))
{
    for (int i = 0; i < g->count; i++)
        if (g->communicator[i] && !cudaSetDevice(g->device[i])) {
            (void)end(g->communicator[i]);
            g->communicator[i] = NULL;
        }
}

static void group_abort(struct cuda_group *g) { group_end(g, nccl.abort); }

static void group_close(struct cuda_group *g)
{
    if (g)
        group_end(g, nccl.destroy);
    free(g);
}

static int group_open(const int *devices, int count, struct cuda_group **out)
{
    struct cuda_group *g = (struct cuda_group *)calloc(1, sizeof *g);
    if (!g || !nccl_library() || count > GROUP_MOST) {
        free(g);
        return cudaErrorNotSupported;
    }
    memcpy(g->device, devices, (size_t)count * sizeof *devices);
    int result = nccl.init_all(g->communicator, count, devices);
    if (result) {
        free(g);
        return NCCL_CODES + result;
    }
    g->count = count;
    *out = g;
    return 0;
}

static int sum(struct cuda_stream *s, struct cuda_group *g, int rank, float *x, size_t values)
{
    cudaError_t error = cudaSetDevice(s->device);
    void *communicator = g->communicator[rank];
    if (error || !communicator)
        return error ? error : cudaErrorNotSupported;
    int result = nccl.all_reduce(x, x, values, NCCL_FLOAT32, NCCL_SUM, communicator, s->stream);
    return result ? NCCL_CODES + result : 0;
}

static int mark(struct cuda_stream *s, int number)
{
    cudaError_t error = cudaSetDevice(s->device);
    return error ? error : cudaEventRecord(s->mark[number], s->stream);
}

static int reach(struct cuda_stream *s, int number)
{
    cudaError_t error = cudaSetDevice(s->device);
    return error ? error : cudaEventSynchronize(s->mark[number]);
}

static int wait(struct cuda_stream *s)
{
    cudaError_t error = cudaSetDevice(s->device);
    return error ? error : cudaStreamSynchronize(s->stream);
}

extern "C" __attribute__((visibility("default"))) const struct cuda_interface *ingot_cuda_interface(void)
{
    static const struct cuda_interface interface = {
        CUDA_INTERFACE, cudaErrorMemoryAllocation, error_words, versions, count, info, has, allocate, release, pin, unpin, open_stream, close_stream, upload, download, copy,
        launch, record, recorded, replay, drop, gemm_library, gemm, maps, map, group_library, group_open, group_close, group_abort, sum, mark, reach, wait,
    };
    return &interface;
}
