/* NCCL where it is found at run time: sums over several cards. Part of card.cu. */
#ifndef KERNELS_CUDA_NCCL_H
#define KERNELS_CUDA_NCCL_H

#include "kernels/cuda/find.h"

/* As nccl.h has them; a communicator is a pointer, enumerations are ints. */
struct nccl {
    int (*init_all)(void **communicators, int count, const int *devices);
    int (*all_reduce)(const void *from, void *to, size_t count, int type, int operation, void *communicator, cudaStream_t stream);
    int (*destroy)(void *communicator);
    int (*abort)(void *communicator);
    const char *(*words)(int result);
    char path[400];
};

enum { NCCL_FLOAT32 = 7, NCCL_SUM = 0, NCCL_CODES = 1 << 21 /* beside the runtime's and cuBLAS's codes */ };

static struct nccl nccl;

static void nccl_find(void)
{
    static const struct found_function functions[] = {{"ncclCommInitAll", offsetof(struct nccl, init_all)},
                                                      {"ncclAllReduce", offsetof(struct nccl, all_reduce)},
                                                      {"ncclCommDestroy", offsetof(struct nccl, destroy)},
                                                      {"ncclCommAbort", offsetof(struct nccl, abort)},
                                                      {"ncclGetErrorString", offsetof(struct nccl, words)}};
    found_take("libnccl.so.2", functions, sizeof functions / sizeof *functions, &nccl, nccl.path, sizeof nccl.path);
}

/* NULL: it is nowhere. */
static const struct nccl *nccl_library(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, nccl_find);
    return *nccl.path ? &nccl : NULL;
}

#endif
