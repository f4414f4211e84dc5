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
#define FIBER_SWITCHES(mine, stack, size) __sanitizer_start_switch_fiber((mine), (stack), (size))
#define FIBER_SWITCHED(mine, stack, size) __sanitizer_finish_switch_fiber((mine), (stack), (size))
#else
#define FIBER_SWITCHES(mine, stack, size) ((void)0)
#define FIBER_SWITCHED(mine, stack, size) ((void)0)
#endif

enum { FIBER_STACK = 64 << 10, FIBER_COPIES = 96, FIBER_PRODUCTS = 8, PAGE = 4096 };
enum { EMULATED_THREADS = HOPPER_THREADS, EMULATED_WARPS = EMULATED_THREADS / 32, EMULATED_GROUPS = 24, EMULATED_BOXES = 256 };

/* Where a fiber or the scheduler goes on. ucontext.h asks the system for the signal mask at every switch, the address sanitizer clears the
 * shadow of the whole stack at every swapcontext() and longjmp(): four fifths of the tests' time. The compiler's own words do neither. */
#ifdef __x86_64__
typedef void *fiber_place[5];
#else
typedef ucontext_t fiber_place;
#endif

/* Leaves for `there`, or for a context that has not run yet; returns when somebody leaves for `here`. */
void fiber_switch(fiber_place *here, fiber_place *there, ucontext_t *first);

/* A product of a warpgroup that was asked for. */
struct group_product {
    int n, add;
    float *c;
    const uint32_t *a; /* NULL: `from`, an operand */
    uint64_t from, b;
};

struct fiber {
    fiber_place place;
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
    fiber_place scheduler;
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
extern struct emulator emulator;

static inline void emulator_fail(const char *what)
{
    fprintf(stderr, "emulated block (%lld, %lld), thread %d: %s\n", (long long)emulator.block_x, (long long)emulator.block_y, emulator.now, what);
    abort();
}

static inline void fiber_leave(void)
{
    struct fiber *f = &emulator.fiber[emulator.now];
    FIBER_SWITCHES(&f->fake_stack, emulator.scheduler_stack, emulator.scheduler_size);
    fiber_switch(&f->place, &emulator.scheduler, NULL);
    FIBER_SWITCHED(f->fake_stack, &emulator.scheduler_stack, &emulator.scheduler_size);
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
#define STORE_WORDS_WHOLE(p, value) emulated_store_words((p), (value))
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

/* Runs emulator.body in every thread of a block. */
void emulate_block(void);

/* Runs a kernel. */
void emulate(const struct cuda_launch *l);

/* Memory whose end lies before a page that faults; every byte 0xFF, so every float NaN. To be unmapped: *mapped bytes at *map. */
unsigned char *guarded(size_t bytes, unsigned char **map, size_t *mapped);

#endif
