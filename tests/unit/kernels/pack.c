/* Packed activations of prompts against plain loops: FORM_APART, which only AVX-512 makes, and the forms of floats on every
 * instruction set that has them. What is multiplied with them is judged in cpu.c and panels.c. */
#include "tiny.h"

#include "kernels/cpu/cpu.h"

static const char *const names[] = {"scalar", "avx2", "avx512-vnni", "amx", "neon", "neon-dotprod", "neon-i8mm"};
static const int32_t row_counts[] = {1, 5, 6, 7, 67};
static const int64_t widths[] = {1, 31, 96, 256, 657, 1280, 2064};

/* What a row of the input is made of. */
enum { PLAIN, OUTLIERS, ZEROS, SMALL, NOT_A_NUMBER, INFINITE, KINDS };

struct packed {
    struct input in;
    float *x;
    int32_t *from;
    unsigned char *memory;
};

static float value(int kind, int64_t i, int64_t n)
{
    float v = tiny_float();
    switch (kind) {
    case OUTLIERS:
        return tiny_random() % 40 ? v : 20 * v;
    case ZEROS:
        return i / 32 % 3 ? v : 0;
    case SMALL:
        return i / 32 % 2 ? v * 1e-35f : v * 1e-18f;
    case NOT_A_NUMBER:
        return i == n / 2 ? NAN : v;
    case INFINITE:
        return i == n - 1 ? -INFINITY : v;
    default:
        return v;
    }
}

static struct packed pack(const struct isa *isa, unsigned forms, int64_t n, int32_t rows)
{
    struct packed p = {.x = malloc((size_t)(rows * n) * sizeof *p.x), .from = malloc((size_t)rows * sizeof *p.from)};
    p.memory = aligned_alloc(64, input_bytes(n, rows, forms));
    memset(p.memory, 0xFF, input_bytes(n, rows, forms)); /* NaN */
    for (int32_t r = 0; r < rows; r++) {
        p.from[r] = rows - 1 - r;
        for (int64_t i = 0; i < n; i++)
            p.x[p.from[r] * n + i] = value((r + r / PACK_ROWS) % KINDS, i, n);
    }
    input_place(&p.in, p.memory, n, rows, forms);
    p.in.from = p.in.row = p.from, p.in.floats = p.x, p.in.float_stride = n;
    for (int32_t tile = 0; tile * PACK_ROWS < rows; tile++)
        isa->pack(&p.in, tile);
    for (int64_t b = 0; b < p.in.padded / 32 && forms & FORM_APART; b++)
        isa->gather(&p.in, b);
    return p;
}

static void drop(struct packed *p) { free(p->x), free(p->from), free(p->memory); }

/* zeros behind the row's end, and in rows behind the last */
static float at(const struct packed *p, int64_t row, int64_t i)
{
    return row < p->in.rows && i < p->in.n ? p->x[p->from[row] * p->in.n + i] : 0;
}

static float largest_of(const struct packed *p, int64_t row, int64_t block)
{
    float most = 0;
    for (int64_t i = 32 * block; i < 32 * block + 32; i++)
        most = isnan(most) || fabsf(at(p, row, i)) <= most ? most : fabsf(at(p, row, i));
    return most;
}

/* Over it a block has 16 bits. */
static double limit_of(const struct packed *p, int64_t row)
{
    double limit = INFINITY;
    for (int round = 0; round < 4; round++) {
        double sum = 0;
        int64_t count = 0;
        for (int64_t b = 0; b < p->in.padded / 32; b++) {
            float v = largest_of(p, row, b);
            if (v > 0 && v <= limit)
                sum += v, count++;
        }
        limit = count ? 1.75 * sum / (double)count : limit;
    }
    return limit;
}

static bool same(float a, float b) { return a == b || (isnan(a) && isnan(b)); }

struct codes {
    int32_t value[32], sum;
    float d, power[2];
};

/* A block as the scale, a sum of two powers of two, wants it. */
static struct codes codes_of(const struct packed *p, int64_t row, int64_t block, bool wide)
{
    struct codes c = {{0}, 0, 0, {0, 0}};
    float largest = largest_of(p, row, block), least = largest > 1e-30f ? largest * (wide ? 1.0f / (127 * 256) : 1.0f / 127) : 0;
    if (!(largest < INFINITY)) {
        c.d = NAN;
        return c;
    }
    c.power[0] = least > 0 ? ldexpf(1, ilogbf(least)) : 0;
    float rest = least - c.power[0];
    c.power[1] = rest > 0 ? ldexpf(1, ilogbf(rest)) : 0;
    c.power[1] *= rest > c.power[1] ? 2 : 1;
    c.d = c.power[0] + c.power[1];
    float inverse = c.d > 0 ? 1 / c.d : 0;
    for (int i = 0; i < 32; i++) {
        c.value[i] = (int32_t)lrint((double)at(p, row, 32 * block + i) * inverse);
        c.sum += c.value[i];
    }
    return c;
}

static float exponent(float power) { return power > 0 ? (float)ilogbf(power) : -INFINITY; }

/* The low bytes, scales and sums of one row's block. */
static void check_block(const struct packed *p, int64_t row, int64_t b, const struct codes *c)
{
    const struct input *in = &p->in;
    int64_t r = row % PACK_ROWS, block = row / PACK_ROWS * (in->padded / 32) + b;
    int64_t place = chunk_place(in, APART_CHUNK, (int32_t)(row / PACK_ROWS), 32 * b);
    const float *e = in->pe + place / 16 * PACK_ROWS + r;
    float sum = bf16_to_float((uint16_t)(in->sums[place / 64 * PACK_ROWS + r] >> (b % 2 ? 16 : 0)));
    cr_assert(same(in->pd[block * PACK_ROWS + r], c->d), "[%d, %d], row %d, block %d: scale %g instead of %g", (int)in->rows,
              (int)in->n, (int)row, (int)b, in->pd[block * PACK_ROWS + r], c->d);
    if (isnan(c->d)) {
        cr_assert(isnan(e[0]) && isnan(e[PACK_ROWS]) && isnan(sum));
        return;
    }
    cr_assert(e[0] == exponent(c->power[0]) && e[PACK_ROWS] == exponent(c->power[1]), "exponents %g, %g of %g", e[0],
              e[PACK_ROWS], c->d);
    for (int i = 0; i < 32; i++)
        cr_assert_eq(in->p8[place * PACK_ROWS + i / 4 * 4 * PACK_ROWS + r * 4 + i % 4], (uint8_t)(c->value[i] + 128),
                     "[%d, %d], row %d, block %d, value %d", (int)in->rows, (int)in->n, (int)row, (int)b, i);
    float exact = c->d * (float)c->sum;
    cr_assert(fabsf(sum - exact) <= fabsf(exact) / 256, "[%d, %d], row %d, block %d: sum", (int)in->rows, (int)in->n, (int)row,
              (int)b);
}

/* High bytes of the next row in a block; place counts them. */
static void check_high(const struct packed *p, int64_t row, int64_t b, const struct codes *c, int32_t place)
{
    const struct input *in = &p->in;
    int64_t packed = (in->rows + PACK_ROWS - 1) / PACK_ROWS * PACK_ROWS, here = b * packed + place;
    cr_assert_lt(place, in->high_rows[b]);
    cr_assert_eq(in->high_row[here], row);
    cr_assert(in->high_d[here] == 256 * c->d);
    const uint8_t *bytes = in->high + (b * packed + place / PACK_ROWS * PACK_ROWS) * 32 + place % PACK_ROWS * 4;
    for (int i = 0; i < 32; i++) /* value = 256 high + low, low of -128 to 127 */
        cr_assert_eq(bytes[i / 4 * 4 * PACK_ROWS + i % 4], (uint8_t)((c->value[i] + 128 + 256 * 128) / 256),
                     "row %d, block %d, value %d", (int)row, (int)b, i);
}

/* Returns how many blocks are wide. */
static int check_apart(const struct packed *p)
{
    const struct input *in = &p->in;
    int64_t blocks = in->padded / 32, packed = (in->rows + PACK_ROWS - 1) / PACK_ROWS * PACK_ROWS;
    int wide_blocks = 0;
    for (int64_t b = 0; b < blocks; b++) {
        int32_t place = 0;
        for (int64_t row = 0; row < packed; row++) {
            double limit = limit_of(p, row), largest = largest_of(p, row, b);
            bool wide = in->wide[row / PACK_ROWS * blocks + b] >> row % PACK_ROWS & 1;
            if (!(fabs(largest - limit) <= 1e-5 * limit)) /* or both are right */
                cr_assert_eq(wide, largest > limit, "[%d, %d], row %d, block %d: %g over %g", (int)in->rows, (int)in->n, (int)row,
                             (int)b, largest, limit);
            struct codes c = codes_of(p, row, b, wide);
            check_block(p, row, b, &c);
            if (wide)
                check_high(p, row, b, &c, place++);
        }
        wide_blocks += place;
        cr_assert_eq(in->high_rows[b], place);
        for (; place % PACK_ROWS; place++)
            cr_assert(in->high_row[b * packed + place] == packed && in->high_d[b * packed + place] == 0);
    }
    return wide_blocks;
}

Test(pack, bytes_apart)
{
    if (!tiny_isa("avx512-vnni"))
        return;
    int wide = 0;
    for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            struct packed p = pack(isa_find("avx512-vnni"), FORM_APART, widths[w], row_counts[r]);
            wide += check_apart(&p);
            drop(&p);
        }
    cr_assert_gt(wide, 1000);
}

/* A row's bytes do not depend on the rows beside it. */
Test(pack, rows_alone)
{
    if (!tiny_isa("avx512-vnni"))
        return;
    const struct isa *isa = isa_find("avx512-vnni");
    struct packed p = pack(isa, FORM_APART, 1280, 17);
    for (int32_t row = 0; row < 17; row++) {
        struct packed alone = p;
        alone.memory = aligned_alloc(64, input_bytes(1280, 1, FORM_APART));
        input_place(&alone.in, alone.memory, 1280, 1, FORM_APART);
        alone.in.from = p.from + row, alone.in.row = p.from, alone.in.floats = p.x, alone.in.float_stride = 1280;
        isa->pack(&alone.in, 0);
        for (int64_t i = 0; i < 1280; i++)
            cr_assert_eq(
                alone.in.p8[i / 4 * 4 * PACK_ROWS + i % 4],
                p.in.p8[chunk_place(&p.in, APART_CHUNK, row / PACK_ROWS, i / 4 * 4) * PACK_ROWS + row % PACK_ROWS * 4 + i % 4]);
        free(alone.memory);
    }
    drop(&p);
}

static void check_floats(const struct packed *p)
{
    const struct input *in = &p->in;
    for (int64_t row = 0; row < (in->rows + PACK_ROWS - 1) / PACK_ROWS * PACK_ROWS; row++)
        for (int64_t i = 0; i < in->padded; i++) {
            float x = at(p, row, i);
            int64_t tile = row / PACK_ROWS * in->padded, r = row % PACK_ROWS;
            if (in->forms & FORM_PACKED32)
                cr_assert(same(in->p32[(tile + i) * PACK_ROWS + r], x), "[%d, %d], row %d, value %d", (int)in->rows, (int)in->n,
                          (int)row, (int)i);
            if (!(in->forms & FORM_PACKED16))
                continue;
            uint16_t bits =
                in->p16[chunk_place(in, PACKED16_CHUNK, (int32_t)(row / PACK_ROWS), i / 2 * 2) * PACK_ROWS + 2 * r + i % 2];
            float rounded =
                fabsf(x) < 1.17549435e-38f ? copysignf(0, x) : bf16_to_float(float_to_bf16(x)); /* dot products drop those, too */
            cr_assert(same(bf16_to_float(bits), rounded), "[%d, %d], row %d, value %d: %g instead of %g", (int)in->rows,
                      (int)in->n, (int)row, (int)i, bf16_to_float(bits), rounded);
        }
}

Test(pack, floats)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!tiny_isa(names[i]))
            continue;
        const struct isa *isa = isa_find(names[i]);
        unsigned forms =
            (isa->linear(STORAGE_F32)->many_forms | isa->linear(STORAGE_BF16)->many_forms) & (FORM_PACKED32 | FORM_PACKED16);
        for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++)
            for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
                struct packed p = pack(isa, forms, widths[w], row_counts[r]);
                check_floats(&p);
                drop(&p);
            }
    }
}
