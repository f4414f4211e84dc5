/* Finding the CUDA part: a shared object beside the program, so that one program serves machines with and without a driver. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/cuda.h"

static const char file_name[] = "libingot-cuda.so";

/* Beside the program, where `make install` puts libraries, where the loader looks. It stays loaded: the runtime inside cannot be
 * taken out of a process again. */
static void *open_library(void)
{
    static const char *const places[] = {"", "../lib/", "../lib64/"};
    char path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 64);
    char *slash = size > 0 ? memrchr(path, '/', (size_t)size) : NULL;
    for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
        snprintf(slash + 1, sizeof path - (size_t)(slash + 1 - path), "%s%s", places[i], file_name);
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (library)
            return library;
    }
    return dlopen(file_name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

static bool driver_there(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver)
        dlclose(driver);
    return driver;
}

static enum status check_device(const struct cuda_interface *cuda, int device, struct cuda_info *info, struct error *err)
{
    struct cuda_versions v = {0};
    int count = 0, code = cuda->versions(&v);
    if (code)
        return error_set(err, STATUS_DEVICE, "cuda: %s", cuda->words(code));
    if (!v.driver)
        return error_set(err, STATUS_DEVICE, "cuda: libcuda.so.1 is there, but no driver answers: is its kernel module loaded?");
    if (v.driver / 1000 < v.runtime / 1000)
        return error_set(err, STATUS_DEVICE, "cuda: the NVIDIA driver is made for CUDA %d.%d, and %s needs %d.0: install a newer driver", v.driver / 1000,
                         v.driver % 1000 / 10, file_name, v.runtime / 1000);
    code = cuda->count(&count);
    if (code || count < 1)
        return error_set(err, STATUS_DEVICE, "cuda: the driver (CUDA %d.%d) shows no device: %s", v.driver / 1000, v.driver % 1000 / 10,
                         code ? cuda->words(code) : "there is none, or CUDA_VISIBLE_DEVICES hides it");
    if (device >= count)
        return error_set(err, STATUS_DEVICE, "cuda:%d: there are devices 0 to %d", device, count - 1);
    if ((code = cuda->info(device, info)))
        return error_set(err, STATUS_DEVICE, "cuda:%d: %s", device, cuda->words(code));
    if (info->major < 8)
        return error_set(err, STATUS_DEVICE, "cuda:%d: %s has compute capability %d.%d; 8.0 or more is needed", device, QUOTE(info->name, strlen(info->name)),
                         info->major, info->minor);
    return STATUS_OK;
}

enum status cuda_open_library(const struct cuda_interface **out, struct error *err)
{
    if (!driver_there())
        return error_set(err, STATUS_DEVICE, "cuda: there is no NVIDIA driver (libcuda.so.1 is not installed)");
    void *library = open_library();
    if (!library) {
        const char *why = dlerror();
        return error_set(err, STATUS_DEVICE, "cuda: the driver is there, but %s is not (%s): build ingot where nvcc is, and keep the file beside the program",
                         file_name, why ? QUOTE(why, strlen(why)) : "");
    }
    cuda_interface_function *function;
    void *symbol = dlsym(library, CUDA_SYMBOL);
    memcpy(&function, &symbol, sizeof function); /* ISO C has no cast between the two */
    const struct cuda_interface *cuda = symbol ? function() : NULL;
    if (!cuda || cuda->version != CUDA_INTERFACE)
        return error_set(err, STATUS_DEVICE, "cuda: %s is not of this build of ingot: build both anew, or put its own beside the program", file_name);
    *out = cuda;
    return STATUS_OK;
}

enum status cuda_library(const struct cuda_interface **out, int device, struct cuda_info *info, struct error *err)
{
    enum status status = cuda_open_library(out, err);
    return status ? status : check_device(*out, device, info, err);
}
