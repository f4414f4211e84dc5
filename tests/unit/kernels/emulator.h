/* A device of the CUDA backend (kernels/cuda/interface.h) on the CPU, where kernels run in emulated blocks (emulated_block.h). What traps:
 *   - reads and writes beyond any allocation (a page that faults lies behind each), also by the host: device memory can only be
 *     reached while a kernel or a transfer runs;
 *   - memory that nobody wrote: allocations hold NaN;
 *   - host memory that is reused too early: nothing asked of a stream is done before wait() or reach() asks for it;
 *   - other work than launches asked of a stream that records. */
#ifndef TESTS_UNIT_KERNELS_EMULATOR_H
#define TESTS_UNIT_KERNELS_EMULATOR_H

#include "emulated_block.h"

enum { EMULATED_ALLOCATIONS = 512, EMULATED_WORK = 4096 };

/* ---- the device ----------------------------------------------------------------------------------------------------------- */

struct allocation {
    unsigned char *map, *memory;
    size_t mapped;
};

struct work { /* asked for and not yet done */
    enum { WORK_COPY, WORK_LAUNCH, WORK_GEMM, WORK_MARK } kind;
    void *to;
    const void *from;
    size_t bytes;
    int mark;
    struct cuda_launch launch;
    struct cuda_gemm gemm;
    _Alignas(64) unsigned char args[1024];
};

static struct emulated_device {
    struct allocation allocation[EMULATED_ALLOCATIONS];
    struct work work[EMULATED_WORK];
    int work_count;
    int fail_at;        /* the launch that fails, 1: the next; 0: none */
    size_t limit;       /* of an allocation; 0: none */
    bool recording;
    int work_first;     /* where in `work` the recorded launches begin */
    int replays;        /* asked for */
    bool no_gemm;       /* there is no such library */
    int gemms;          /* asked for */
    bool maps;          /* the driver makes tensor maps, so that Hopper's kernels are used */
    int processors;     /* 0: one */
    int hoppers;        /* launches of Hopper's kernels */
    unsigned slow;      /* microseconds that reach() takes */
} emulated_device;

enum { EMULATED_NO_MEMORY = 2, EMULATED_BAD_LAUNCH = 9 };

static inline const char *emulated_words(int error) { return error == EMULATED_NO_MEMORY ? "out of memory" : "invalid configuration argument"; }

static inline int emulated_versions(struct cuda_versions *out) { return *out = (struct cuda_versions){13000, 13000}, 0; }

static inline int emulated_count(int *devices) { return *devices = 1, 0; }

static inline int emulated_info(int device, struct cuda_info *out)
{
    (void)device;
    *out = (struct cuda_info){.name = "emulated", .major = 8, .processors = emulated_device.processors ? emulated_device.processors : 1, .free_bytes = (uint64_t)1 << 30, .total_bytes = (uint64_t)1 << 30,
                              .bandwidth = 1000000000000};
    return 0;
}

static inline bool emulated_has(int device, enum cuda_kernel kernel) { return (void)device, (unsigned)kernel < CUDA_KERNELS; }

static inline int emulated_allocate(int device, void **out, size_t bytes)
{
    (void)device;
    if (emulated_device.limit && bytes > emulated_device.limit)
        return EMULATED_NO_MEMORY;
    for (int i = 0; i < EMULATED_ALLOCATIONS; i++) {
        struct allocation *a = &emulated_device.allocation[i];
        if (a->map)
            continue;
        *out = a->memory = guarded((bytes + 15) / 16 * 16, &a->map, &a->mapped); /* aligned, as a card's memory is */
        mprotect(a->map, a->mapped - PAGE, PROT_NONE);
        return 0;
    }
    return EMULATED_NO_MEMORY;
}

static inline void emulated_release(int device, void *memory)
{
    (void)device;
    for (int i = 0; memory && i < EMULATED_ALLOCATIONS; i++) {
        struct allocation *a = &emulated_device.allocation[i];
        if (a->map && a->memory == memory) {
            munmap(a->map, a->mapped);
            *a = (struct allocation){0};
            return;
        }
    }
    if (memory)
        emulator_fail("releases what is no allocation");
}

static inline int emulated_pin(int device, void **out, size_t bytes) { return (void)device, (*out = malloc(bytes)) ? 0 : EMULATED_NO_MEMORY; }

static inline void emulated_unpin(int device, void *memory) { (void)device, free(memory); }

static inline int emulated_open(int device, struct cuda_stream **out)
{
    (void)device;
    *out = (struct cuda_stream *)(void *)&emulated_device;
    return 0;
}

/* Every allocation, or the one that holds an address. */
static inline void emulated_protect(const void *address, int protection)
{
    for (int i = 0; i < EMULATED_ALLOCATIONS; i++) {
        const struct allocation *a = &emulated_device.allocation[i];
        if (a->map && (!address || ((const unsigned char *)address >= a->map && (const unsigned char *)address < a->map + a->mapped)))
            mprotect(a->map, a->mapped - PAGE, protection);
    }
}

static inline void emulated_transfer(const struct work *w)
{
    emulated_protect(w->to, PROT_READ | PROT_WRITE), emulated_protect(w->from, PROT_READ | PROT_WRITE);
    memcpy(w->to, w->from, w->bytes);
    emulated_protect(w->to, PROT_NONE), emulated_protect(w->from, PROT_NONE);
}

/* The library's product; its order of sums is its own affair. */
static inline void emulate_gemm(const struct cuda_gemm *g)
{
    for (int64_t row = 0; row < g->rows; row++)
        for (int64_t out = 0; out < g->out; out++) {
            float sum = 0;
            for (int64_t i = g->in; i-- > 0;)
                sum += bf16_to_float(g->w[out * g->in + i]) * bf16_to_float(g->x[row * g->in + i]);
            float *y = &g->y[row * g->y_stride + out];
            *y = g->add ? *y + sum : sum;
        }
}

static inline void emulated_work(const struct work *w)
{
    struct cuda_launch l = w->launch;
    l.args = w->args;
    emulated_protect(NULL, PROT_READ | PROT_WRITE);
    if (w->kind == WORK_LAUNCH)
        emulate(&l);
    else
        emulate_gemm(&w->gemm);
    emulated_protect(NULL, PROT_NONE);
}

/* Does the first `count` things that were asked for. */
static inline void emulated_do(int count)
{
    struct emulated_device *d = &emulated_device;
    for (int i = 0; i < count; i++)
        if (d->work[i].kind == WORK_COPY)
            emulated_transfer(&d->work[i]);
        else if (d->work[i].kind != WORK_MARK)
            emulated_work(&d->work[i]);
    memmove(d->work, d->work + count, (size_t)(d->work_count - count) * sizeof *d->work);
    d->work_count -= count;
}

/* A card has no work for a stream that records but launches. */
static inline void emulated_not_recording(void)
{
    if (emulated_device.recording)
        emulator_fail("something else than a launch is asked of a stream that records");
}

static inline int emulated_wait(struct cuda_stream *s) 
{
    (void)s;
    emulated_not_recording();
    return emulated_do(emulated_device.work_count), 0;
}

static inline void emulated_close(struct cuda_stream *s) { emulated_wait(s); }

static inline struct work *emulated_ask(int kind)
{
    if (emulated_device.work_count == EMULATED_WORK)
        emulator_fail("the queue is full");
    if (kind != WORK_LAUNCH)
        emulated_not_recording();
    struct work *w = &emulated_device.work[emulated_device.work_count++];
    w->kind = kind;
    return w;
}

struct cuda_graph {
    int count;
    struct work work[];
};

static inline int emulated_record(struct cuda_stream *s)
{
    (void)s;
    emulated_device.recording = true;
    return emulated_device.work_first = emulated_device.work_count, 0;
}

static inline int emulated_recorded(struct cuda_stream *s, struct cuda_graph **out)
{
    struct emulated_device *d = &emulated_device;
    (void)s;
    int count = d->work_count - d->work_first;
    *out = (struct cuda_graph *)aligned_alloc(_Alignof(struct cuda_graph), sizeof **out + (size_t)count * sizeof *d->work);
    (*out)->count = count;
    memcpy((*out)->work, d->work + d->work_first, (size_t)count * sizeof *d->work);
    d->work_count = d->work_first;
    return d->recording = false, 0;
}

static inline int emulated_replay(struct cuda_stream *s, const struct cuda_graph *g)
{
    (void)s;
    emulated_device.replays++;
    for (int i = 0; i < g->count; i++)
        *emulated_ask(WORK_LAUNCH) = g->work[i];
    return 0;
}

static inline void emulated_drop(int device, struct cuda_graph *g) { (void)device, free(g); }

static inline int emulated_copy(struct cuda_stream *s, void *to, const void *from, size_t bytes)
{
    (void)s;
    struct work *w = emulated_ask(WORK_COPY);
    w->to = to, w->from = from, w->bytes = bytes;
    return 0;
}

static inline int emulated_launch(struct cuda_stream *s, const struct cuda_launch *l)
{
    (void)s;
    if (emulated_device.fail_at && --emulated_device.fail_at == 0)
        return EMULATED_BAD_LAUNCH;
    size_t shared = cuda_threads(l->kernel) == HOPPER_THREADS ? 227 << 10 : 99 << 10; /* Hopper has more, for its own kernels */
    if (!l->grid_x || !l->grid_y || l->grid_y > 65535 || l->shared_bytes > shared || l->args_bytes > sizeof(((struct work *)0)->args))
        return EMULATED_BAD_LAUNCH; /* as a card has it */
    struct work *w = emulated_ask(WORK_LAUNCH);
    w->launch = *l;
    emulated_device.hoppers += cuda_threads(l->kernel) == HOPPER_THREADS;
    memcpy(w->args, l->args, l->args_bytes);
    return 0;
}

static inline const char *emulated_gemm_library(void) { return emulated_device.no_gemm ? NULL : "an emulated library"; }

static inline int emulated_gemm(struct cuda_stream *s, const struct cuda_gemm *g)
{
    (void)s;
    emulated_ask(WORK_GEMM)->gemm = *g;
    emulated_device.gemms++;
    return 0;
}

static inline bool emulated_maps(void) { return emulated_device.maps; }

static inline int emulated_mark(struct cuda_stream *s, int mark) { return (void)s, emulated_ask(WORK_MARK)->mark = mark, 0; }

static inline int emulated_reach(struct cuda_stream *s, int mark)
{
    (void)s;
    usleep(emulated_device.slow);
    for (int i = emulated_device.work_count - 1; i >= 0; i--)
        if (emulated_device.work[i].kind == WORK_MARK && emulated_device.work[i].mark == mark) {
            emulated_do(i + 1);
            break;
        }
    return 0;
}

static inline const char *emulated_no_group(void) { return NULL; } /* there is one device */

static const struct cuda_interface emulated_interface = {
    .version = CUDA_INTERFACE,
    .no_memory = EMULATED_NO_MEMORY,
    .words = emulated_words,
    .versions = emulated_versions,
    .count = emulated_count,
    .info = emulated_info,
    .has = emulated_has,
    .allocate = emulated_allocate,
    .release = emulated_release,
    .pin = emulated_pin,
    .unpin = emulated_unpin,
    .open = emulated_open,
    .close = emulated_close,
    .upload = emulated_copy,
    .download = emulated_copy,
    .copy = emulated_copy,
    .launch = emulated_launch,
    .record = emulated_record,
    .recorded = emulated_recorded,
    .replay = emulated_replay,
    .drop = emulated_drop,
    .gemm_library = emulated_gemm_library,
    .gemm = emulated_gemm,
    .maps = emulated_maps,
    .map = emulated_map,
    .group_library = emulated_no_group,
    .mark = emulated_mark,
    .reach = emulated_reach,
    .wait = emulated_wait,
};

#endif
