/* A device of the CUDA backend (kernels/cuda/interface.h) on the CPU: the kernels' own code, in emulated blocks of threads.
 *
 * A block is run by fibers, one for each thread. A fiber runs until it meets a barrier or an exchange between lanes, then the next
 * one of its warp runs; a warp goes on until it has to wait for others, so that what a missing barrier allows does happen.
 * emulator.backwards turns the order of threads and blocks around: then other warps are ahead. What traps:
 *   - reads and writes beyond any allocation (a page that faults lies behind each), also by the host: device memory can only be
 *     reached while a kernel or a transfer runs;
 *   - threads that wait for others which never come: the process aborts with words;
 *   - memory that nobody wrote: allocations and shared memory hold NaN;
 *   - host memory that is reused too early: nothing asked of a stream is done before wait() or reach() asks for it. */
#ifndef TESTS_UNIT_KERNELS_EMULATOR_H
#define TESTS_UNIT_KERNELS_EMULATOR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "kernels/ops.h"
#include "kernels/cuda/interface.h"

#ifdef __SANITIZE_ADDRESS__
#define EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATOR_ASAN 1
#endif
#endif
#ifdef EMULATOR_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum { FIBER_STACK = 64 << 10, EMULATED_SHARED = 64 << 10, EMULATED_ALLOCATIONS = 512, EMULATED_WORK = 4096, PAGE = 4096 };

struct fiber {
    ucontext_t context;
    char *stack;
    void *fake_stack;
    bool ended;
    int block_barriers, exchanges; /* met so far */
};

struct emulator {
    struct fiber fiber[CUDA_THREADS];
    ucontext_t scheduler;
    void *scheduler_fake;
    const void *scheduler_stack;
    size_t scheduler_size;
    int now; /* the fiber that runs */
    int64_t block_x, block_y, grid_y;
    int arrived, block_barriers;             /* at the block's barrier; barriers that all have passed */
    int warp_arrived[CUDA_WARPS], warp_exchanges[CUDA_WARPS];
    uint32_t lane[2][CUDA_THREADS];          /* what lanes show each other, in turns */
    unsigned char *shared;                   /* the end of this array lies before a page that faults */
    size_t shared_bytes;
    void (*body)(const void *args);
    const void *args;
    bool backwards;
};
static struct emulator emulator;

static inline void emulator_fail(const char *what)
{
    fprintf(stderr, "emulated block (%lld, %lld), thread %d: %s\n", (long long)emulator.block_x, (long long)emulator.block_y, emulator.now, what);
    abort();
}

static inline void fiber_leave(bool for_ever)
{
    struct fiber *f = &emulator.fiber[emulator.now];
#ifdef EMULATOR_ASAN
    __sanitizer_start_switch_fiber(for_ever ? NULL : &f->fake_stack, emulator.scheduler_stack, emulator.scheduler_size);
#endif
    (void)for_ever;
    swapcontext(&f->context, &emulator.scheduler);
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(f->fake_stack, NULL, NULL);
#endif
}

static inline void emulated_barrier(void)
{
    struct fiber *f = &emulator.fiber[emulator.now];
    int mine = ++f->block_barriers;
    if (++emulator.arrived == CUDA_THREADS) {
        emulator.arrived = 0;
        emulator.block_barriers++;
    }
    while (emulator.block_barriers < mine)
        fiber_leave(false);
}

static inline uint32_t emulated_exchange(uint32_t value, int lanes)
{
    int me = emulator.now, warp = me / 32;
    struct fiber *f = &emulator.fiber[me];
    int mine = ++f->exchanges;
    emulator.lane[mine & 1][me] = value;
    if (++emulator.warp_arrived[warp] == 32) {
        emulator.warp_arrived[warp] = 0;
        emulator.warp_exchanges[warp]++;
    }
    while (emulator.warp_exchanges[warp] < mine)
        fiber_leave(false);
    return emulator.lane[mine & 1][warp * 32 + ((me % 32) ^ lanes)];
}

static inline float emulated_float(float value, int lanes)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits = emulated_exchange(bits, lanes);
    memcpy(&value, &bits, 4);
    return value;
}

/* The words of kernels/cuda/code.h. */
#define KERNEL_CODE static inline
#define KERNEL_TABLE static const
#define UNROLL
#define THREAD (emulator.now)
#define BLOCK (emulator.block_x)
#define BLOCK_Y (emulator.block_y)
#define GRID_Y (emulator.grid_y)
#define SHARED_FLOATS(name) float *name = (float *)(void *)emulator.shared
#define BLOCK_BARRIER() emulated_barrier()
#define FENCE() ((void)0)
#define UNROLL_BY(n)
#define WORDS(p) emulated_words16(p)
#define WORDS_ONCE(p) emulated_words16(p)
#define STORE_WORDS(p, value) emulated_store_words((p), (value))
#define DOT4(a, b, c) emulated_dot4((a), (b), (c))
#define CHOOSE_BYTES(a, b, select) emulated_bytes((a), (b), (select))
#define HALF_FLOAT(bits) half_to_float(bits)
#define LANE_FLOAT(value, lanes) emulated_float((value), (lanes))
#define LANE_INT(value, lanes) ((int)emulated_exchange((uint32_t)(value), (lanes)))
#define ATOMIC_ADD(address, value) __atomic_fetch_add((address), (value), __ATOMIC_RELAXED)
#include "kernels/cuda/code.h"

/* A card faults where these are not aligned. */
static inline void emulated_aligned(const void *p)
{
    if ((uintptr_t)p % 16)
        emulator_fail("16 bytes at an address that is no multiple of 16");
}

static inline struct words emulated_words16(const void *p)
{
    struct words v;
    emulated_aligned(p);
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void emulated_store_words(void *p, struct words v)
{
    emulated_aligned(p);
    memcpy(p, &v, sizeof v);
}

static inline int emulated_dot4(uint32_t a, uint32_t b, int c)
{
    for (int i = 0; i < 4; i++)
        c += (signed char)(a >> (8 * i)) * (signed char)(b >> (8 * i));
    return c;
}

static inline uint32_t emulated_bytes(uint32_t a, uint32_t b, uint32_t select)
{
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++)
        out |= (uint32_t)(both >> (8 * (select >> (4 * i) & 7)) & 255) << (8 * i);
    return out;
}

#include "kernels/cuda/attend.h"
#include "kernels/cuda/choose.h"
#include "kernels/cuda/gemv.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/relay.h"
#include "kernels/cuda/unpack.h"

#define KERNEL(name) \
    static void emulate_##name(const void *args) { name##_body(*(const struct name##_args *)args); }
#include "kernels/cuda/kernels.def"
#undef KERNEL
#define ATTEND(name, type, most, blocks) \
    static void emulate_attend_##name(const void *args) { attend_body(type, most, *(const struct attend_args *)args); }
#include "kernels/cuda/attend.def"
#undef ATTEND
#define FORMAT(id, name, encode, round) \
    static void emulate_linear_##name(const void *args) { linear_body(STORAGE_##id, *(const struct linear_args *)args); }
#include "kernels/formats/formats.def"
#undef FORMAT

enum { RUNS = 1, PLAIN = 0 };
#define GEMV(name, id, kind, rows, gated) \
    static void emulate_##name(const void *args) { gemv_body(STORAGE_##id, kind, rows, gated, *(const struct gemv_args *)args); }
#define FAST(id, name, kind)                       \
    GEMV(gemv_##name, id, kind, 1, 0)              \
    GEMV(gemv_##name##_many, id, kind, GEMV_ROWS, 0) \
    GEMV(gated_##name, id, kind, 1, 1)             \
    GEMV(gated_##name##_many, id, kind, GEMV_ROWS, 1)
#include "kernels/cuda/fast.def"
#undef FAST
#undef GEMV

static void (*const emulated[CUDA_KERNELS])(const void *) = {
#define KERNEL(name) [CUDA_##name] = emulate_##name,
#include "kernels/cuda/kernels.def"
#undef KERNEL
#define ATTEND(name, type, most, blocks) [CUDA_attend_##name] = emulate_attend_##name,
#include "kernels/cuda/attend.def"
#undef ATTEND
#define FORMAT(id, name, encode, round) [CUDA_linear_##name] = emulate_linear_##name,
#include "kernels/formats/formats.def"
#undef FORMAT
#define FAST(id, name, kind)                                                              \
    [CUDA_gemv_##name] = emulate_gemv_##name, [CUDA_gemv_##name##_many] = emulate_gemv_##name##_many, \
    [CUDA_gated_##name] = emulate_gated_##name, [CUDA_gated_##name##_many] = emulate_gated_##name##_many,
#include "kernels/cuda/fast.def"
#undef FAST
};

/* ---- a block -------------------------------------------------------------------------------------------------------------- */

static inline void fiber_main(void)
{
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(NULL, &emulator.scheduler_stack, &emulator.scheduler_size);
#endif
    emulator.body(emulator.args);
    emulator.fiber[emulator.now].ended = true;
    fiber_leave(true);
}

static inline void fiber_enter(int thread)
{
    struct fiber *f = &emulator.fiber[thread];
    emulator.now = thread;
#ifdef EMULATOR_ASAN
    __sanitizer_start_switch_fiber(&emulator.scheduler_fake, f->stack, FIBER_STACK);
#endif
    swapcontext(&emulator.scheduler, &f->context);
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(emulator.scheduler_fake, NULL, NULL);
#endif
}

/* Memory whose end lies before a page that faults; every byte 0xFF, so every float NaN. */
static inline unsigned char *guarded(size_t bytes, unsigned char **map, size_t *mapped)
{
    size_t whole = (bytes + PAGE - 1) / PAGE * PAGE;
    *mapped = whole + PAGE;
    *map = (unsigned char *)mmap(NULL, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*map == MAP_FAILED)
        emulator_fail("no memory");
    memset(*map, 0xFF, whole);
    mprotect(*map + whole, PAGE, PROT_NONE);
    return *map + whole - bytes;
}

static inline void fiber_reset(struct fiber *f)
{
    if (!f->stack)
        f->stack = (char *)malloc(FIBER_STACK);
    f->ended = false;
    f->block_barriers = f->exchanges = 0;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = FIBER_STACK;
    makecontext(&f->context, fiber_main, 0);
}

/* Every lane goes on as far as it can; false: none could. */
static inline bool warp_pass(int warp)
{
    bool moved = false;
    for (int i = 0; i < 32; i++) {
        int thread = warp * 32 + (emulator.backwards ? 31 - i : i);
        struct fiber *f = &emulator.fiber[thread];
        int met = f->block_barriers + f->exchanges;
        if (f->ended)
            continue;
        fiber_enter(thread);
        moved |= f->ended || f->block_barriers + f->exchanges != met;
    }
    return moved;
}

static inline void emulate_block(void)
{
    memset(emulator.shared, 0xFF, emulator.shared_bytes);
    emulator.arrived = emulator.block_barriers = 0;
    memset(emulator.warp_arrived, 0, sizeof emulator.warp_arrived);
    memset(emulator.warp_exchanges, 0, sizeof emulator.warp_exchanges);
    for (int i = 0; i < CUDA_THREADS; i++)
        fiber_reset(&emulator.fiber[i]);
    for (bool done = false; !done;) {
        bool moved = false;
        done = true;
        for (int i = 0; i < CUDA_WARPS; i++) {
            int warp = emulator.backwards ? CUDA_WARPS - 1 - i : i;
            while (warp_pass(warp))
                moved = true;
            for (int lane = 0; lane < 32; lane++)
                done &= emulator.fiber[warp * 32 + lane].ended;
        }
        if (!done && !moved)
            emulator_fail("waits for threads that ended or wait elsewhere");
    }
}

static inline void emulate(const struct cuda_launch *l)
{
    unsigned char *map;
    size_t mapped;
    emulator.shared_bytes = l->shared_bytes;
    emulator.shared = guarded(l->shared_bytes, &map, &mapped);
    emulator.body = emulated[l->kernel];
    emulator.args = l->args;
    emulator.grid_y = l->grid_y;
    int64_t count = (int64_t)l->grid_x * l->grid_y;
    for (int64_t i = 0; i < count; i++) {
        int64_t block = emulator.backwards ? count - 1 - i : i;
        emulator.block_x = block % l->grid_x;
        emulator.block_y = block / l->grid_x;
        emulate_block();
    }
    munmap(map, mapped);
}

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
    _Alignas(16) unsigned char args[1024];
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
    unsigned slow;      /* microseconds that reach() takes */
} emulated_device;

enum { EMULATED_NO_MEMORY = 2, EMULATED_BAD_LAUNCH = 9 };

static inline const char *emulated_words(int error) { return error == EMULATED_NO_MEMORY ? "out of memory" : "invalid configuration argument"; }

static inline int emulated_versions(struct cuda_versions *out) { return *out = (struct cuda_versions){13000, 13000}, 0; }

static inline int emulated_count(int *devices) { return *devices = 1, 0; }

static inline int emulated_info(int device, struct cuda_info *out)
{
    (void)device;
    *out = (struct cuda_info){.name = "emulated", .major = 8, .processors = 1, .free_bytes = (uint64_t)1 << 30, .total_bytes = (uint64_t)1 << 30,
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

static inline void emulated_protect(int protection)
{
    for (int i = 0; i < EMULATED_ALLOCATIONS; i++)
        if (emulated_device.allocation[i].map)
            mprotect(emulated_device.allocation[i].map, emulated_device.allocation[i].mapped - PAGE, protection);
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

/* Does the first `count` things that were asked for. */
static inline void emulated_do(int count)
{
    struct emulated_device *d = &emulated_device;
    emulated_protect(PROT_READ | PROT_WRITE);
    for (int i = 0; i < count; i++) {
        struct work *w = &d->work[i];
        if (w->kind == WORK_COPY)
            memcpy(w->to, w->from, w->bytes);
        else if (w->kind == WORK_LAUNCH)
            w->launch.args = w->args, emulate(&w->launch);
        else if (w->kind == WORK_GEMM)
            emulate_gemm(&w->gemm);
    }
    emulated_protect(PROT_NONE);
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
    *out = (struct cuda_graph *)malloc(sizeof **out + (size_t)count * sizeof *d->work);
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
    if (!l->grid_x || !l->grid_y || l->grid_y > 65535 || l->shared_bytes > 48 << 10 || l->args_bytes > sizeof(((struct work *)0)->args))
        return EMULATED_BAD_LAUNCH; /* as a card has it */
    struct work *w = emulated_ask(WORK_LAUNCH);
    w->launch = *l;
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
    .group_library = emulated_no_group,
    .mark = emulated_mark,
    .reach = emulated_reach,
    .wait = emulated_wait,
};

#endif
