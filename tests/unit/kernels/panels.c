/* The kernels for many rows alone, on every instruction set that this machine has, each of their buffers before a page that faults.
 * Where weight rows are cut into panels must not show in a result. What the results are worth is judged in cpu.c. */
#include "tiny.h"

#include "kernels/cpu/cpu.h"

static const char *const names[] = {"scalar", "avx2", "avx512-vnni", "amx", "neon", "neon-dotprod", "neon-i8mm"};
enum { PAGE = 4096 };

struct guarded {
    unsigned char *map, *data; /* data: whole cache lines that end where the last page begins */
    size_t bytes;
};

static struct guarded guarded(size_t bytes)
{
    struct guarded g = {.bytes = (bytes + 2 * PAGE - 1) / PAGE * PAGE};
    g.map = mmap(NULL, g.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(g.map != MAP_FAILED);
    mprotect(g.map + g.bytes - PAGE, PAGE, PROT_NONE);
    g.data = g.map + g.bytes - PAGE - (bytes + 63) / 64 * 64;
    memset(g.map, 0xFF, g.bytes - PAGE); /* NaN, and no row's number */
    return g;
}

static void release(struct guarded *g) { munmap(g->map, g->bytes); }

static void prepare(const struct isa *isa, struct input *in)
{
    for (int32_t i = 0; i < in->rows; i++)
        isa->quantise(in, i);
    for (int32_t i = 0; i < in->rows && in->forms & FORMS_PACKED; i += PACK_ROWS)
        isa->pack(in, i / PACK_ROWS);
    for (int64_t b = 0; b < in->padded / 32 && in->forms & FORM_APART; b++)
        isa->gather(in, b);
    for (int32_t i = 0; i < in->rows && in->forms & FORM_TILES; i += TILE_ROWS)
        isa->pack_tiles(in, i / TILE_ROWS, 0, in->n);
}

static void check(const struct isa *isa, enum storage format, int64_t out, int64_t n, int32_t rows)
{
    const struct linear_kernel *kernel = isa->linear(format);
    tiny_seed = 88172645463325252u + (uint64_t)format * 1009 + (uint64_t)rows;
    struct weight w = tiny_weight("w", format, out, n, 1);
    struct guarded floats = guarded((size_t)(rows * n) * sizeof(float)), order = guarded((size_t)rows * sizeof(int32_t)),
                   memory = guarded(input_bytes(n, rows, kernel->many_forms)), scratch = guarded(kernel->scratch_bytes(n, rows)),
                   y = guarded((size_t)(rows * out) * sizeof(float)), again = guarded((size_t)(rows * out) * sizeof(float));
    int32_t *row = (int32_t *)(void *)(order.data + (64 - (size_t)rows * sizeof *row % 64) % 64); /* not one number behind them */
    for (int32_t i = 0; i < rows; i++)
        row[i] = rows - 1 - i;
    float *x = (float *)(void *)floats.data;
    for (int64_t i = 0; i < rows * n; i++)
        x[i] = tiny_float();
    struct input in;
    input_place(&in, memory.data, n, rows, kernel->many_forms);
    in.from = in.row = row, in.floats = x, in.float_stride = n;
    prepare(isa, &in);
    int64_t panel = kernel->panel_rows ? kernel->panel_rows : PANEL_ROWS;
    for (int64_t first = 0; first < out; first += panel)
        kernel->many(&w, first, first + panel < out ? first + panel : out, &in, (float *)(void *)y.data, out, scratch.data);
    for (int64_t first = 0; first < out; first += PANEL_ROWS)
        kernel->many(&w, first, first + PANEL_ROWS < out ? first + PANEL_ROWS : out, &in, (float *)(void *)again.data, out, scratch.data);
    cr_assert_eq(memcmp(y.data, again.data, (size_t)(rows * out) * sizeof(float)), 0, "%s, %s [%d, %d], %d rows: panels show", isa->name,
                 storage_types[format].name, (int)out, (int)n, (int)rows);
    const float *result = (const float *)(const void *)y.data;
    for (int64_t i = 0; i < rows * out; i++)
        cr_assert(!isnan(result[i]), "%s, %s [%d, %d], %d rows: %d is no number", isa->name, storage_types[format].name, (int)out, (int)n, (int)rows, (int)i);
    release(&floats), release(&order), release(&memory), release(&scratch), release(&y), release(&again);
}

Test(panels, stay_inside_their_buffers)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!tiny_isa(names[i]))
            continue;
        const struct isa *isa = isa_find(names[i]);
        for (int format = 0; format < STORAGE_COUNT; format++) {
            if (!isa->linear((enum storage)format))
                continue;
            static const int32_t rows[] = {1, 6, 16, 17, 33, 67};
            for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
                int block = storage_types[format].block_elements;
                check(isa, (enum storage)format, 33, block < 96 && 96 % block == 0 ? 96 : 256, rows[r]);
                check(isa, (enum storage)format, 300, 1280, rows[r]);
                if (block == 1)
                    check(isa, (enum storage)format, 17, 657, rows[r]);
            }
        }
    }
}
