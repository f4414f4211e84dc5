/* cuBLAS where it is found at run time: its functions are declared here, so neither building nor running needs it. Part of card.cu. */
#ifndef KERNELS_CUDA_CUBLAS_H
#define KERNELS_CUDA_CUBLAS_H

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

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

static bool cublas_take(const char *path)
{
    static const struct {
        const char *name;
        size_t at;
    } functions[] = {{"cublasCreate_v2", offsetof(struct cublas, create)},
                     {"cublasDestroy_v2", offsetof(struct cublas, destroy)},
                     {"cublasSetStream_v2", offsetof(struct cublas, set_stream)},
                     {"cublasSetWorkspace_v2", offsetof(struct cublas, set_workspace)},
                     {"cublasGemmEx", offsetof(struct cublas, product)}};
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    for (size_t i = 0; i < sizeof functions / sizeof *functions && library; i++) {
        void *symbol = dlsym(library, functions[i].name);
        memcpy((char *)&cublas + functions[i].at, &symbol, sizeof symbol);
        if (!symbol)
            return false;
    }
    if (library)
        snprintf(cublas.path, sizeof cublas.path, "%s", path);
    return library != NULL;
}

static bool cublas_take_any(const char *folder, const char *below)
{
    char pattern[400];
    glob_t found;
    bool taken = false;
    if (!folder)
        return false;
    snprintf(pattern, sizeof pattern, "%s/%s/libcublas.so.%d", folder, below, CUDART_VERSION / 1000);
    if (!glob(pattern, 0, NULL, &found)) {
        for (size_t i = 0; i < found.gl_pathc && !taken; i++)
            taken = cublas_take(found.gl_pathv[i]);
        globfree(&found);
    }
    return taken;
}

/* Where the loader looks, in the toolkit, in the Python package of that name. */
static void cublas_find(void)
{
    static const char packages[] = "lib/python3*/*-packages/nvidia/*/lib";
    char name[40];
    snprintf(name, sizeof name, "libcublas.so.%d", CUDART_VERSION / 1000);
    (void)(cublas_take(name) || cublas_take_any(getenv("CUDA_HOME"), "lib64") || cublas_take_any("/usr/local/cuda", "lib64") ||
           cublas_take_any(getenv("VIRTUAL_ENV"), packages) || cublas_take_any(getenv("HOME"), ".local/lib/python3*/site-packages/nvidia/*/lib") ||
           cublas_take_any("/usr/local", packages) || cublas_take_any("/usr", packages));
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
