/* The roofs of this machine's card: a copy within its memory, and a product of bf16 matrices by cuBLAS. Compiled and run by
 * scripts/gpu-check; prints "name value unit" lines.
 *   gpu_roof [LIBCUBLAS]      the library's path; without one the product is left out */
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void must(cudaError_t error, const char *what)
{
    if (error) {
        fprintf(stderr, "gpu_roof: %s: %s\n", what, cudaGetErrorString(error));
        exit(1);
    }
}

static __global__ void copy(uint4 *to, const uint4 *from, size_t count)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)
        to[i] = from[i];
}

/* Values as a product of activations and weights has them: cards are faster on zeros. */
static __global__ void fill(__nv_bfloat16 *to, size_t count)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x) {
        unsigned h = (unsigned)i * 2654435761u;
        h ^= h >> 15;
        h *= 2246822519u;
        to[i] = __float2bfloat16((float)(h >> 8) / (1 << 23) - 1);
    }
}

/* The best of ten, in seconds. */
template <typename F> static double best(F run)
{
    cudaEvent_t begin, end;
    float least = 1e30f, ms;
    must(cudaEventCreate(&begin), "an event");
    must(cudaEventCreate(&end), "an event");
    for (int i = 0; i < 12; i++) {
        must(cudaEventRecord(begin), "an event");
        run();
        must(cudaGetLastError(), "a launch");
        must(cudaEventRecord(end), "an event");
        must(cudaEventSynchronize(end), "a run");
        must(cudaEventElapsedTime(&ms, begin, end), "a time");
        least = i >= 2 && ms < least ? ms : least;
    }
    return least / 1e3;
}

/* cublasGemmEx as cublas_api.h declares it; the handle is a pointer, enumerations are ints. */
typedef int create_function(void **handle);
typedef int product_function(void *handle, int transpose_a, int transpose_b, int m, int n, int k, const void *alpha, const void *a, int a_type, int lda,
                             const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc, int compute, int algorithm);

static void product(const char *path)
{
    enum { N = 8192, BF16 = 14 /* CUDA_R_16BF */, COMPUTE_32F = 68, TRANSPOSED = 1 };
    void *library = dlopen(path, RTLD_NOW), *handle;
    create_function *create = library ? (create_function *)dlsym(library, "cublasCreate_v2") : NULL;
    product_function *gemm = library ? (product_function *)dlsym(library, "cublasGemmEx") : NULL;
    if (!create || !gemm || create(&handle)) {
        fprintf(stderr, "gpu_roof: %s: %s\n", path, library ? "cublasCreate failed" : dlerror());
        exit(1);
    }
    __nv_bfloat16 *m[3];
    for (int i = 0; i < 3; i++) {
        must(cudaMalloc(&m[i], sizeof(*m[i]) * N * N), "a matrix");
        fill<<<1024, 256>>>(m[i], (size_t)N * N);
    }
    const float one = 1, zero = 0;
    int failed = 0;
    double s = best([&] {
        failed |= gemm(handle, TRANSPOSED, 0, N, N, N, &one, m[0], BF16, N, m[1], BF16, N, &zero, m[2], BF16, N, COMPUTE_32F, -1);
    });
    if (failed)
        fprintf(stderr, "gpu_roof: cublasGemmEx failed\n"), exit(1);
    printf("gemm_bf16_%d %.1f TFLOP/s\n", (int)N, 2.0 * N * N * N / s / 1e12);
}

int main(int argc, char **argv)
{
    const size_t bytes = (size_t)2 << 30;
    uint4 *a, *b;
    must(cudaMalloc(&a, bytes), "2 GiB");
    must(cudaMalloc(&b, bytes), "2 GiB");
    must(cudaMemset(a, 1, bytes), "2 GiB");
    double s = best([&] { copy<<<4096, 512>>>(b, a, bytes / sizeof *a); });
    printf("copy_read_and_write %.1f GB/s\n", 2.0 * (double)bytes / s / 1e9);
    if (argc > 1)
        product(argv[1]);
    return 0;
}
