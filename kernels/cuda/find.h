/* Libraries that are used where they are found at run time. Part of card.cu. */
#ifndef KERNELS_CUDA_FIND_H
#define KERNELS_CUDA_FIND_H

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A function of the library and where its address goes. */
struct found_function {
    const char *name;
    size_t at; /* in the table of functions */
};

static bool found_open(const char *path, const struct found_function *functions, size_t count, void *table)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    for (size_t i = 0; i < count && library; i++) {
        void *symbol = dlsym(library, functions[i].name);
        memcpy((char *)table + functions[i].at, &symbol, sizeof symbol);
        if (!symbol)
            return false;
    }
    return library != NULL;
}

/* The first file of that name, where the loader looks, in the toolkit, in the Python package, that has all functions. path: what was
 * taken, "" if nothing was. */
static void found_take(const char *file, const struct found_function *functions, size_t count, void *table, char *path, size_t size)
{
    static const char packages[] = "lib/python3*/*-packages/nvidia/*/lib";
    const struct {
        const char *folder, *below;
    } places[] = {{getenv("CUDA_HOME"), "lib64"}, {"/usr/local/cuda", "lib64"}, {getenv("VIRTUAL_ENV"), packages},
                  {getenv("HOME"), ".local/lib/python3*/site-packages/nvidia/*/lib"}, {"/usr/local", packages}, {"/usr", packages}};
    bool taken = found_open(file, functions, count, table);
    snprintf(path, size, "%s", taken ? file : "");
    for (size_t i = 0; i < sizeof places / sizeof *places && !taken; i++) {
        char pattern[400];
        glob_t found;
        snprintf(pattern, sizeof pattern, "%s/%s/%s", places[i].folder ? places[i].folder : "/nowhere", places[i].below, file);
        if (glob(pattern, 0, NULL, &found))
            continue;
        for (size_t k = 0; k < found.gl_pathc && !taken; k++)
            if ((taken = found_open(found.gl_pathv[k], functions, count, table)))
                snprintf(path, size, "%s", found.gl_pathv[k]);
        globfree(&found);
    }
}

#endif
