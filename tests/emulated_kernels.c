/* The kernels in emulated blocks (tests/unit/kernels/emulated_block.h), compiled once for all programs that emulate a card. */
#include "tests/unit/kernels/emulated_block.h"

struct emulator emulator = {.threads = CUDA_THREADS};

/* ---- kernels -------------------------------------------------------------------------------------------------------------- */

#include "kernels/cuda/attend.h"
#include "kernels/cuda/choose.h"
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

/* ---- fibers --------------------------------------------------------------------------------------------------------------- */

#ifdef __x86_64__
__attribute__((noinline, noreturn, no_sanitize("address"))) static void fiber_go(fiber_place *there) { __builtin_longjmp(*there, 1); }

__attribute__((noinline, no_sanitize("address"))) void fiber_switch(fiber_place *here, fiber_place *there, ucontext_t *first)
{
    if (__builtin_setjmp(*here))
        return;
    if (first)
        setcontext(first);
    fiber_go(there); /* not here: a function must not have both */
}
#else
void fiber_switch(fiber_place *here, fiber_place *there, ucontext_t *first) { swapcontext(here, first ? first : there); }
#endif

/* One block after another. */
static void fiber_main(void)
{
    FIBER_SWITCHED(NULL, &emulator.scheduler_stack, &emulator.scheduler_size);
    for (;;) {
        emulator.body(emulator.args);
        emulator.fiber[emulator.now].ended = true;
        fiber_leave();
    }
}

static void fiber_enter(int thread)
{
    struct fiber *f = &emulator.fiber[thread];
    static ucontext_t first; /* on the stack it would cost the sanitizer as much as the switch */
    bool started = f->started;
    emulator.now = thread;
    if (!started) {
        f->started = true;
        f->stack = (char *)malloc(FIBER_STACK);
        getcontext(&first);
        first.uc_stack.ss_sp = f->stack;
        first.uc_stack.ss_size = FIBER_STACK;
        makecontext(&first, fiber_main, 0);
    }
    FIBER_SWITCHES(&emulator.scheduler_fake, f->stack, FIBER_STACK);
    fiber_switch(&emulator.scheduler, &f->place, started ? NULL : &first);
    FIBER_SWITCHED(emulator.scheduler_fake, NULL, NULL);
}

/* ---- a block -------------------------------------------------------------------------------------------------------------- */

static void fiber_reset(struct fiber *f)
{
    f->ended = false;
    f->block_barriers = f->exchanges = f->copies = f->groups = f->waits = f->products = 0;
    f->begun = false;
    memset(f->met, 0, sizeof f->met);
}

/* Every lane goes on as far as it can; false: none could. */
static bool warp_pass(int warp)
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

void emulate_block(void)
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

unsigned char *guarded(size_t bytes, unsigned char **map, size_t *mapped)
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

void emulate(const struct cuda_launch *l)
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
