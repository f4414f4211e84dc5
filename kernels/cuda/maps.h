/* What makes tensor maps is the driver's alone: found at run time, so that nothing is linked with it. Part of card.cu. */
#ifndef KERNELS_CUDA_MAPS_H
#define KERNELS_CUDA_MAPS_H

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime.h>
#include <pthread.h>

static PFN_cuTensorMapEncodeTiled_v12000 maps_function;

static void maps_find(void)
{
    void *found = NULL;
    enum cudaDriverEntryPointQueryResult result;
    if (!cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result) && result == cudaDriverEntryPointSuccess)
        maps_function = (PFN_cuTensorMapEncodeTiled_v12000)found;
    (void)cudaGetLastError(); /* not an error of the next launch */
}

/* NULL: this driver makes none. */
static PFN_cuTensorMapEncodeTiled_v12000 maps_encode(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, maps_find);
    return maps_function;
}

#endif
