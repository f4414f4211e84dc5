/* Blocks of the CUDA backend's kernels on the CPU: their own code, with the words of kernels/cuda/code.h.
 *
 * A block is run by fibers, one for each thread. A fiber runs until it meets a barrier or an exchange between lanes, then the next
 * one of its warp runs; a warp goes on until it has to wait for others, so that what a missing barrier allows does happen.
 * emulator.backwards turns the order of threads and blocks around: then other warps are ahead. What traps:
 *   - threads that wait for others which never come: the process aborts with words;
 *   - shared memory that nobody wrote, and what lies behind it: NaN, and a page that faults;
 *   - copies to shared memory that nobody waits for: they are made when they have to be, from what the source holds by then;
 *   - 16 bytes at another address than a multiple of 16. */
#ifndef TESTS_UNIT_KERNELS_EMULATED_BLOCK_H
#define TESTS_UNIT_KERNELS_EMULATED_BLOCK_H

#include <setjmp.h>
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

enum { FIBER_STACK = 64 << 10, FIBER_COPIES = 96, FIBER_PRODUCTS = 8, PAGE = 4096 };
enum { EMULATED_THREADS = HOPPER_THREADS, EMULATED_WARPS = EMULATED_THREADS / 32, EMULATED_GROUPS = 24, EMULATED_BOXES = 256 };

/* Fibers switch without asking the system, unless a sanitizer wants to know. */
#ifndef EMULATOR_ASAN
#define FIBER_PLACES 1
#endif

/* A product of a warpgroup that was asked for. */
struct group_product {
    int n, add;
    float *c;
    const uint32_t *a; /* NULL: `from`, an operand */
    uint64_t from, b;
};

struct fiber {
    ucontext_t context;
#ifdef FIBER_PLACES
    jmp_buf place;
#endif
    bool started, ended;
    char *stack;
    void *fake_stack;
    int block_barriers, exchanges; /* met so far */
    struct {
        void *to;
        const void *from;
        int group;
    } copy[FIBER_COPIES]; /* under way */
    int copies, groups;
    int waits, met[EMULATED_GROUPS]; /* at other barriers */
    bool begun;
    struct group_product product[FIBER_PRODUCTS];
    int products;
};

/* A box on its way (emulated_hopper.h). */
struct box {
    uint32_t to, barrier;
    const struct tensor_map *map;
    int64_t x, y;
};

/* What a lane shows the others of its warp for one operation of all. */
struct lane {
    uint32_t value;
    const void *a, *b;
    void *c;
};

struct emulator {
    struct fiber fiber[EMULATED_THREADS];
    int threads; /* of the block */
    ucontext_t scheduler;
#ifdef FIBER_PLACES
    jmp_buf place;
#endif
    void *scheduler_fake;
    const void *scheduler_stack;
    size_t scheduler_size;
    int now; /* the fiber that runs */
    int64_t block_x, block_y, grid_x, grid_y;
    int arrived, block_barriers;             /* at the block's barrier; barriers that all have passed */
    int warp_arrived[EMULATED_WARPS], warp_exchanges[EMULATED_WARPS];
    struct lane lane[2][EMULATED_THREADS];   /* in turns */
    int group_arrived[EMULATED_GROUPS], group_met[EMULATED_GROUPS];
    struct box box[EMULATED_BOXES];
    int boxes;
    int round;    /* of all warps */
    bool delayed; /* somebody waits for the next */
    unsigned char *shared;                   /* the end of this array lies before a page that faults */
    size_t shared_bytes;
    void (*body)(const void *args);
    const void *args;
    bool backwards;
};
static struct emulator emulator = {.threads = CUDA_THREADS};

static inline void emulator_fail(const char *what)
{
    fprintf(stderr, "emulated block (%lld, %lld), thread %d: %s\n", (long long)emulator.block_x, (long long)emulator.block_y, emulator.now, what);
    abort();
}

static inline void fiber_leave(void)
{
    struct fiber *f = &emulator.fiber[emulator.now];
#ifdef FIBER_PLACES
    if (!_setjmp(f->place))
        _longjmp(emulator.place, 1);
#else
    __sanitizer_start_switch_fiber(&f->fake_stack, emulator.scheduler_stack, emulator.scheduler_size);
    swapcontext(&f->context, &emulator.scheduler);
    __sanitizer_finish_switch_fiber(f->fake_stack, &emulator.scheduler_stack, &emulator.scheduler_size);
#endif
}

static inline void emulated_barrier(void)
{
    struct fiber *f = &emulator.fiber[emulator.now];
    int mine = ++f->block_barriers;
    if (++emulator.arrived == emulator.threads) {
        emulator.arrived = 0;
        emulator.block_barriers++;
    }
    while (emulator.block_barriers < mine)
        fiber_leave();
}

/* All lanes of the warp show what they bring; the last one does, if there is something to do for all. The lanes' list is returned. */
static inline const struct lane *emulated_meet(struct lane mine, void (*together)(const struct lane *lanes))
{
    int me = emulator.now, warp = me / 32;
    struct fiber *f = &emulator.fiber[me];
    int number = ++f->exchanges;
    struct lane *lanes = &emulator.lane[number & 1][warp * 32];
    lanes[me % 32] = mine;
    if (++emulator.warp_arrived[warp] == 32) {
        if (together)
            together(lanes);
        emulator.warp_arrived[warp] = 0;
        emulator.warp_exchanges[warp]++;
    }
    while (emulator.warp_exchanges[warp] < number)
        fiber_leave();
    return lanes;
}

static inline uint32_t emulated_exchange(uint32_t value, int lanes)
{
    return emulated_meet((struct lane){.value = value}, NULL)[emulator.now % 32 ^ lanes].value;
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
#define GRID_GO() ((void)0)
#define GRID_WAIT() ((void)0)
#define PREFETCH(p) ((void)(p))
#define FMA_PAIR(a, b, c) emulated_fma_pair((a), (b), (c))
#define BF16_PAIR(low, high) (float_to_bf16(low) | (uint32_t)float_to_bf16(high) << 16)
#define HALF_PAIR(low, high) (float_to_half(low) | (uint32_t)float_to_half(high) << 16)
#define ADD_HALVES(a, b) emulated_halves((a), (b), 0)
#define MUL_HALVES(a, b) emulated_halves((a), (b), 1)
#define TURN_PAIRS(word) emulated_turn(word)
#define EXP_FAST(x) expf(x)
#define MMA(c, a, b) emulated_mma((c), (a), (b), 0)
#define MMA_HALF(c, a, b) emulated_mma((c), (a), (b), 1)
#define LOAD_TURNED(out, row) emulated_load_turned((out), (row))
#define COPY_ASYNC(to, from) emulated_copy_async((to), (from))
#define COPY_GROUP() emulated_copy_group()
#define COPY_WAIT(n) emulated_copy_wait(n)
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

/* Rounded once: a double holds the product and, but for a last bit that is made to say "more", the sum. */
static inline uint16_t emulated_fma_bf16(uint16_t a, uint16_t b, uint16_t c)
{
    double exact = fma((double)bf16_to_float(a), (double)bf16_to_float(b), (double)bf16_to_float(c));
    float value = (float)exact;
    uint32_t bits = bits_of_float(value);
    if ((double)value != exact && isfinite(value)) { /* to odd */
        if (fabs((double)value) > fabs(exact))
            bits--;
        bits |= 1;
    }
    return float_to_bf16(float_of_bits(bits));
}

static inline uint32_t emulated_fma_pair(uint32_t a, uint32_t b, uint32_t c)
{
    return emulated_fma_bf16((uint16_t)a, (uint16_t)b, (uint16_t)c) |
           (uint32_t)emulated_fma_bf16((uint16_t)(a >> 16), (uint16_t)(b >> 16), (uint16_t)(c >> 16)) << 16;
}

/* Sums and products of two f16 are exact as doubles; products as floats, too. */
static inline uint16_t emulated_half_op(uint16_t a, uint16_t b, int multiply)
{
    double x = half_to_float(a), y = half_to_float(b), exact = multiply ? x * y : x + y;
    float value = (float)exact;
    uint32_t bits = bits_of_float(value);
    if ((double)value != exact && isfinite(value)) { /* to odd: it is rounded once more */
        if (fabs((double)value) > fabs(exact))
            bits--;
        bits |= 1;
    }
    return float_to_half(float_of_bits(bits));
}

static inline uint32_t emulated_halves(uint32_t a, uint32_t b, int multiply)
{
    return emulated_half_op((uint16_t)a, (uint16_t)b, multiply) | (uint32_t)emulated_half_op((uint16_t)(a >> 16), (uint16_t)(b >> 16), multiply) << 16;
}

/* Row g of the matrix: lanes 4 g .. 4 g + 3. */
static inline uint32_t emulated_turn(uint32_t word)
{
    const struct lane *lanes = emulated_meet((struct lane){.value = word}, NULL);
    int g = emulator.now % 32 / 4, t = emulator.now % 4;
    uint32_t first = lanes[8 * t + g / 2].value, second = lanes[8 * t + 4 + g / 2].value;
    return (first >> (g % 2 * 16) & 0xFFFF) | (second >> (g % 2 * 16) & 0xFFFF) << 16;
}

static inline float emulated_half_of(const struct lane *l, const void *words, int word, int high)
{
    uint16_t bits = (uint16_t)(((const uint32_t *)words)[word] >> (16 * high));
    return l->value ? half_to_float(bits) : bf16_to_float(bits);
}

/* The products of a warp, from the fragments of all its lanes. */
static inline void emulated_product(const struct lane *lanes)
{
    float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 8; i++) {
            int g = l / 4, k = 2 * (l % 4) + i % 2 + (i >= 4 ? 8 : 0);
            a[g + i / 2 % 2 * 8][k] = emulated_half_of(&lanes[l], lanes[l].a, i / 2, i % 2);
            if (i / 2 % 2 == 0)
                b[k][g] = emulated_half_of(&lanes[l], lanes[l].b, i / 4, i % 2);
        }
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            int m = l / 4 + i / 2 * 8, n = 2 * (l % 4) + i % 2;
            double sum = 0;
            for (int k = 0; k < 16; k++)
                sum += (double)a[m][k] * (double)b[k][n];
            ((float *)lanes[l].c)[i] += (float)sum;
        }
}

static inline void emulated_mma(float *c, const uint32_t *a, const uint32_t *b, uint32_t half)
{
    emulated_meet((struct lane){.value = half, .a = a, .b = b, .c = c}, emulated_product);
}

static inline void emulated_turned_loads(const struct lane *lanes)
{
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            const uint16_t *first = (const uint16_t *)lanes[8 * i + 2 * (l % 4)].a, *second = (const uint16_t *)lanes[8 * i + 2 * (l % 4) + 1].a;
            ((uint32_t *)lanes[l].c)[i] = first[l / 4] | (uint32_t)second[l / 4] << 16;
        }
}

static inline void emulated_load_turned(uint32_t *out, const void *row)
{
    emulated_aligned(row);
    emulated_meet((struct lane){.a = row, .c = out}, emulated_turned_loads);
}

static inline void emulated_copy_async(void *to, const void *from)
{
    struct fiber *f = &emulator.fiber[emulator.now];
    emulated_aligned(to), emulated_aligned(from);
    if (f->copies == FIBER_COPIES)
        emulator_fail("more copies under way than the emulation has room for");
    f->copy[f->copies].to = to, f->copy[f->copies].from = from, f->copy[f->copies++].group = f->groups;
}

static inline void emulated_copy_group(void) { emulator.fiber[emulator.now].groups++; }

static inline void emulated_copy_wait(int latest)
{
    struct fiber *f = &emulator.fiber[emulator.now];
    int kept = 0;
    for (int i = 0; i < f->copies; i++)
        if (f->copy[i].group < f->groups - latest)
            memcpy(f->copy[i].to, f->copy[i].from, 16);
        else
            f->copy[kept++] = f->copy[i];
    f->copies = kept;
}

#include "emulated_hopper.h"

#include "kernels/cuda/attend.h"
#include "kernels/cuda/choose.h"
#include "kernels/cuda/chunks.h"
#include "kernels/cuda/columns.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/gemv.h"
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/prompt.h"
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
#define COLUMNS(columns, tiles, blocks) \
    static void emulate_columns_##columns(const void *args) { columns_body(tiles, (const struct attend_args *)args); }
#include "kernels/cuda/columns.def"
#undef COLUMNS
#define PROMPT(name, type, half, dim) \
    static void emulate_prompt_##name(const void *args) { prompt_body(type, half, dim, (const struct attend_args *)args); }
#include "kernels/cuda/prompt.def"
#undef PROMPT
#define SCAN(name, kind, size, blocks) \
    static void emulate_scan_##name(const void *args) { scan_##kind##_body(size, (const struct scan_args *)args); }
#include "kernels/cuda/scan.def"
#undef SCAN
#define FORMAT(id, name, encode, round) \
    static void emulate_linear_##name(const void *args) { linear_body(STORAGE_##id, *(const struct linear_args *)args); }
#include "kernels/formats/formats.def"
#undef FORMAT

#define MATRIX(name, id, runs, tiles) \
    static void emulate_matrix_##name(const void *args) { matrix_body(STORAGE_##id, runs, tiles, (const struct gemv_args *)args); }
#include "kernels/cuda/matrix.def"
#undef MATRIX
#define HOPPER(name, id, runs, rows) \
    static void emulate_hopper_##name(const void *args) { hopper_body(STORAGE_##id, runs, rows, (const struct hopper_args *)args); }
#include "kernels/cuda/hopper.def"
#undef HOPPER

#define EXPERTS(name, id, runs, tiles) \
    static void emulate_experts_##name(const void *args) { experts_matrix_body(STORAGE_##id, runs, tiles, (const struct experts_matrix_args *)args); }
#include "kernels/cuda/experts.def"
#undef EXPERTS

enum { RUNS = 1, PLAIN = 0, FLOATS = 0 };
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
#define COLUMNS(columns, tiles, blocks) [CUDA_columns_##columns] = emulate_columns_##columns,
#include "kernels/cuda/columns.def"
#undef COLUMNS
#define PROMPT(name, type, half, dim) [CUDA_prompt_##name] = emulate_prompt_##name,
#include "kernels/cuda/prompt.def"
#undef PROMPT
#define SCAN(name, kind, size, blocks) [CUDA_scan_##name] = emulate_scan_##name,
#include "kernels/cuda/scan.def"
#undef SCAN
#define FORMAT(id, name, encode, round) [CUDA_linear_##name] = emulate_linear_##name,
#include "kernels/formats/formats.def"
#undef FORMAT
#define FAST(id, name, kind)                                                              \
    [CUDA_gemv_##name] = emulate_gemv_##name, [CUDA_gemv_##name##_many] = emulate_gemv_##name##_many, \
    [CUDA_gated_##name] = emulate_gated_##name, [CUDA_gated_##name##_many] = emulate_gated_##name##_many,
#include "kernels/cuda/fast.def"
#undef FAST
#define MATRIX(name, id, runs, tiles) [CUDA_matrix_##name] = emulate_matrix_##name,
#include "kernels/cuda/matrix.def"
#undef MATRIX
#define HOPPER(name, id, runs, rows) [CUDA_hopper_##name] = emulate_hopper_##name,
#include "kernels/cuda/hopper.def"
#undef HOPPER
#define EXPERTS(name, id, runs, tiles) [CUDA_experts_##name] = emulate_experts_##name,
#include "kernels/cuda/experts.def"
#undef EXPERTS
};

/* ---- a block -------------------------------------------------------------------------------------------------------------- */

/* One block after another. */
static inline void fiber_main(void)
{
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(NULL, &emulator.scheduler_stack, &emulator.scheduler_size);
#endif
    for (;;) {
        emulator.body(emulator.args);
        emulator.fiber[emulator.now].ended = true;
        fiber_leave();
    }
}

static inline void fiber_start(struct fiber *f)
{
    f->started = true;
    f->stack = (char *)malloc(FIBER_STACK);
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = FIBER_STACK;
    makecontext(&f->context, fiber_main, 0);
}

static inline void fiber_enter(int thread)
{
    struct fiber *f = &emulator.fiber[thread];
    emulator.now = thread;
    bool started = f->started;
    if (!started)
        fiber_start(f);
#ifdef FIBER_PLACES
    if (_setjmp(emulator.place))
        return;
    if (started)
        _longjmp(f->place, 1);
    setcontext(&f->context);
#else
    __sanitizer_start_switch_fiber(&emulator.scheduler_fake, f->stack, FIBER_STACK);
    swapcontext(&emulator.scheduler, &f->context);
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
    if (whole >= (4 << 20))
        (void)madvise(*map, whole, MADV_HUGEPAGE); /* or it takes most of the tests' time */
    memset(*map, 0xFF, whole);
    mprotect(*map + whole, PAGE, PROT_NONE);
    return *map + whole - bytes;
}

static inline void fiber_reset(struct fiber *f)
{
    f->ended = false;
    f->block_barriers = f->exchanges = f->copies = f->groups = f->waits = f->products = 0;
    f->begun = false;
    memset(f->met, 0, sizeof f->met);
}

/* Every lane goes on as far as it can; false: none could. */
static inline bool warp_pass(int warp)
{
    bool moved = false;
    for (int i = 0; i < 32; i++) {
        int thread = warp * 32 + (emulator.backwards ? 31 - i : i);
        struct fiber *f = &emulator.fiber[thread];
        int met = f->block_barriers + f->exchanges + f->waits;
        if (f->ended)
            continue;
        fiber_enter(thread);
        moved |= f->ended || f->block_barriers + f->exchanges + f->waits != met;
    }
    return moved;
}

static inline void emulate_block(void)
{
    memset(emulator.shared, 0xFF, emulator.shared_bytes);
    emulator.arrived = emulator.block_barriers = 0;
    memset(emulator.warp_arrived, 0, sizeof emulator.warp_arrived);
    memset(emulator.warp_exchanges, 0, sizeof emulator.warp_exchanges);
    memset(emulator.group_arrived, 0, sizeof emulator.group_arrived);
    memset(emulator.group_met, 0, sizeof emulator.group_met);
    emulator.boxes = 0;
    int warps = emulator.threads / 32;
    for (int i = 0; i < emulator.threads; i++)
        fiber_reset(&emulator.fiber[i]);
    for (bool done = false; !done;) {
        bool moved = false;
        done = true;
        emulator.round++;
        emulator.delayed = false;
        for (int i = 0; i < warps; i++) {
            int warp = emulator.backwards ? warps - 1 - i : i;
            while (warp_pass(warp))
                moved = true;
            for (int lane = 0; lane < 32; lane++)
                done &= emulator.fiber[warp * 32 + lane].ended;
        }
        if (!done && !moved && !emulator.delayed)
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
    emulator.threads = (int)cuda_threads(l->kernel);
    emulator.grid_x = l->grid_x;
    emulator.grid_y = l->grid_y;
    int64_t count = (int64_t)l->grid_x * l->grid_y;
    for (int64_t i = 0; i < count; i++) {
        int64_t block = emulator.backwards ? count - 1 - i : i;
        emulator.block_x = block % l->grid_x;
        emulator.block_y = block / l->grid_x;
        emulate_block();
    }
    munmap(map, mapped);
    emulator.threads = CUDA_THREADS;
}

#endif
