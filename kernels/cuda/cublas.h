/* cuBLAS where it is found at run time: its functions are declared here, so neither building nor running needs it. Part of card.cu. */
#ifndef KERNELS_CUDA_CUBLAS_H
#define KERNELS_CUDA_CUBLAS_H

#include "kernels/cuda/find.h"

/* As cublas_api.h has them; a handle is a pointer, enumerations are ints. */
struct cublas {
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, cudaStream_t stream);
    int (*set_workspace)(void *handle, void *workspace, size_t bytes);
    int (*product)(void *handle, int transpose_a, int transpose_b, int m, int n, int k, const void *alpha, const void *a, int a_type, int lda,
                   const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc, int compute, int algorithm);
    char path[400];
};

enum { CUBLAS_ALLOC_FAILED = 3, CUBLAS_CODES = 1 << 20 /* beside the runtime's codes */ };

static struct cublas cublas;

static void cublas_find(void)
{
    static const struct found_function functions[] = {{"cublasCreate_v2", offsetof(struct cublas, create)},
                                                      {"cublasDestroy_v2", offsetof(struct cublas, destroy)},
                                                      {"cublasSetStream_v2", offsetof(struct cublas, set_stream)},
                                                      {"cublasSetWorkspace_v2", offsetof(struct cublas, set_workspace)},
                                                      {"cublasGemmEx", offsetof(struct cublas, product)}};
    char file[40];
    snprintf(file, sizeof file, "libcublas.so.%d", CUDART_VERSION / 1000);
    found_take(file, functions, sizeof functions / sizeof *functions, &cublas, cublas.path, sizeof cublas.path);
}

/* NULL: it is nowhere. */
static const struct cublas *cublas_library(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, cublas_find);
    return *cublas.path ? &cublas : NULL;
}

static const char *cublas_words(int status)
{
    static const char *const names[] = {"cuBLAS", "cuBLAS: not initialised", NULL, "cuBLAS: no memory", NULL, NULL, NULL, "cuBLAS: invalid value",
                                        "cuBLAS: not made for this card", NULL, NULL, "cuBLAS: mapping failed", NULL, "cuBLAS: execution failed",
                                        "cuBLAS: internal error", "cuBLAS: not supported"};
    return status >= 0 && status < (int)(sizeof names / sizeof *names) && names[status] ? names[status] : names[0];
}

#endif
