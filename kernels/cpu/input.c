/* Where the forms of a prepared input lie in one piece of memory. */
#include "kernels/cpu/cpu.h"

static size_t take(size_t *at, size_t bytes)
{
    size_t here = *at;
    *at += (bytes + 63) / 64 * 64;
    return here;
}

/* Also computes only the size (memory NULL). */
static size_t place(struct input *in, unsigned char *memory, int64_t n, int32_t rows, unsigned forms)
{
    size_t at = 0, padded = (size_t)((n + UNIT - 1) / UNIT * UNIT), r = (size_t)rows;
    size_t tiles = (r + PACK_ROWS - 1) / PACK_ROWS, packed = tiles * PACK_ROWS;
    *in = (struct input){.n = n, .padded = (int64_t)padded, .rows = rows, .forms = forms};
#define PLACE(form, member, bytes)                                \
    if (forms & (form)) {                                         \
        size_t offset = take(&at, (bytes));                       \
        in->member = memory ? (void *)(memory + offset) : NULL;   \
    }
    PLACE(FORM_INT8 | FORM_NIBBLE | FORM_TURNED, q, r * padded)
    PLACE(FORM_NIBBLE, nibble, r * padded / UNIT * sizeof(struct nibbles))
    PLACE(FORM_TURNED, turned, r * padded / UNIT * sizeof(struct turned))
    PLACE(FORM_INT16, q16, r * padded * sizeof(int16_t))
    PLACE(FORM_INT8 | FORM_NIBBLE | FORM_TURNED | FORM_INT16, d, r * padded / 32 * sizeof(float))
    PLACE(FORM_INT8 | FORM_NIBBLE | FORM_TURNED | FORM_INT16, s, r * padded / 32 * sizeof(float))
    PLACE(FORM_INT8 | FORM_NIBBLE | FORM_TURNED, d16, r * padded / 16 * sizeof(float))
    PLACE(FORM_INT8 | FORM_NIBBLE | FORM_TURNED | FORM_INT16, s16, r * padded / 16 * sizeof(float))
    PLACE(FORM_PACKED8 | FORM_APART, p8, packed * padded)
    PLACE(FORM_PACKED8, p8_high, packed * padded)
    PLACE(FORM_PACKED8 | FORM_APART, wide, tiles * padded / 32)
    PLACE(FORM_APART, pe, packed * padded / 16 * sizeof(float))
    PLACE(FORM_APART, high, packed * padded)
    PLACE(FORM_APART, high_list, packed * padded)
    PLACE(FORM_APART, high_list_d, packed * padded / 32 * sizeof(float))
    PLACE(FORM_APART, high_first, tiles * padded / 32 * sizeof(int32_t))
    PLACE(FORM_APART, high_rows, padded / 32 * sizeof(int32_t))
    PLACE(FORM_APART, high_row, packed * padded / 32 * sizeof(int32_t))
    PLACE(FORM_APART, high_d, packed * padded / 32 * sizeof(float))
    PLACE(FORM_PAIRS, pairs, packed * padded * sizeof(int16_t))
    PLACE(FORM_APART, sums, packed * padded / 64 * sizeof(uint32_t))
    PLACE(FORM_PACKED8 | FORM_PAIRS | FORM_APART, pd, packed * padded / 32 * sizeof(float))
    PLACE(FORM_PACKED8 | FORM_PAIRS, ps, packed * padded / 32 * sizeof(float))
    PLACE(FORM_PACKED8 | FORM_PAIRS, ps16, packed * padded / 16 * sizeof(float))
    PLACE(FORM_PACKED16, p16, packed * padded * sizeof(uint16_t))
    PLACE(FORM_PACKED32, p32, packed * padded * sizeof(float))
    PLACE(FORM_TILES, tiles, (r + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS * padded * sizeof(uint16_t))
#undef PLACE
    return at;
}

size_t input_bytes(int64_t n, int32_t rows, unsigned forms)
{
    struct input in;
    return place(&in, NULL, n, rows, forms);
}

void input_place(struct input *in, unsigned char *memory, int64_t n, int32_t rows, unsigned forms)
{
    place(in, memory, n, rows, forms);
}
