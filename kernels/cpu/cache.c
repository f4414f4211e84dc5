/* How K and V lie in a block of the cache; drawn in cpu.h. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/formats/small.h"

enum { GROUP = 32 }; /* values with one scale */

static bool scaled(enum storage type) { return storage_types[type].block_elements == GROUP; }

/* Bytes of codes in a group of Q8_0 or Q4_0. */
static int code_bytes(enum storage type) { return storage_types[type].block_bytes - 2; }

int cache_pad(enum storage type, int dim)
{
    int to = scaled(type) ? GROUP : 16;
    return (dim + to - 1) / to * to;
}

/* Bytes that one token has before the scales. */
static int token_bytes(enum storage type, int pad) { return scaled(type) ? pad / GROUP * code_bytes(type) : pad * storage_types[type].block_bytes; }

size_t cache_part_bytes(enum storage type, int dim)
{
    int pad = cache_pad(type, dim);
    size_t bytes = (size_t)token_bytes(type, pad) * BLOCK_TOKENS + (scaled(type) ? (size_t)pad / GROUP * BLOCK_TOKENS * 2 : 0);
    return (bytes + 63) / 64 * 64;
}

/* Where value i (byte i where there are scales) of a token stands, counted in values (bytes). */
static int64_t place(enum storage type, bool key, int wide, int slot, int i)
{
    int together = scaled(type) ? 4 : type == STORAGE_BF16 ? 2 : 1;
    if (key)
        return ((int64_t)(i / together) * BLOCK_TOKENS + slot) * together + i % together;
    return ((int64_t)(slot / together) * wide + i) * together + slot % together;
}

static void write_scaled(enum storage type, bool key, int pad, int slot, const unsigned char *groups, unsigned char *part)
{
    int each = code_bytes(type), bytes = token_bytes(type, pad);
    unsigned char *scales = part + bytes * BLOCK_TOKENS;
    for (int g = 0; g < pad / GROUP; g++, groups += storage_types[type].block_bytes) {
        memcpy(scales + (g * BLOCK_TOKENS + slot) * 2, groups, 2);
        for (int i = 0; i < each; i += 4) {
            uint32_t four = load_u32(groups + 2 + i);
            if (key) {
                four ^= type == STORAGE_Q8_0 ? 0x80808080u : 0;
                memcpy(part + place(type, true, bytes, slot, g * each + i), &four, 4);
            } else {
                unsigned char *to = part + place(type, false, bytes, slot, g * each + i);
                to[0] = (unsigned char)four, to[4] = (unsigned char)(four >> 8), to[8] = (unsigned char)(four >> 16), to[12] = (unsigned char)(four >> 24);
            }
        }
    }
}

static void read_scaled(enum storage type, bool key, int pad, int slot, const unsigned char *part, unsigned char *groups)
{
    int each = code_bytes(type), bytes = token_bytes(type, pad);
    const unsigned char *scales = part + bytes * BLOCK_TOKENS;
    for (int g = 0; g < pad / GROUP; g++, groups += storage_types[type].block_bytes) {
        memcpy(groups, scales + (g * BLOCK_TOKENS + slot) * 2, 2);
        for (int i = 0; i < each; i++)
            groups[2 + i] = (unsigned char)(part[place(type, key, bytes, slot, g * each + i)] ^ (key && type == STORAGE_Q8_0 ? 0x80 : 0));
    }
}

/* Pieces of `each` bytes, a constant where it is called. */
static inline void spread(const unsigned char *from, int count, size_t each, unsigned char *to, size_t stride)
{
    for (int i = 0; i < count; i++)
        memcpy(to + (size_t)i * stride, from + (size_t)i * each, each);
}

void cache_write(enum storage type, bool key, int dim, int slot, const float *values, unsigned char *part,
                 void (*narrow)(const float *x, uint16_t *y, int64_t n, bool half))
{
    int pad = cache_pad(type, dim);
    float whole[HEAD_DIM_MOST];
    if (pad > dim) {
        memcpy(whole, values, (size_t)dim * sizeof *whole);
        memset(whole + dim, 0, (size_t)(pad - dim) * sizeof *whole);
        values = whole;
    }
    unsigned char encoded[HEAD_DIM_MOST * 4];
    if (scaled(type)) {
        format_round(type, values, encoded, pad);
        write_scaled(type, key, pad, slot, encoded, part);
        return;
    }
    size_t size = (size_t)storage_types[type].block_bytes;
    if (size == 2)
        narrow(values, (uint16_t *)(void *)encoded, pad, type == STORAGE_F16);
    else
        format_round(type, values, encoded, pad);
    if (!key && type != STORAGE_BF16) {
        memcpy(part + (size_t)(slot * pad) * size, encoded, (size_t)pad * size);
        return;
    }
    /* what lies side by side, and how far apart the next is */
    size_t each = key && type == STORAGE_BF16 ? 4 : size, stride = key ? BLOCK_TOKENS * each : 2 * size;
    unsigned char *to = part + (size_t)place(type, key, pad, slot, 0) * size;
    int count = (int)((size_t)pad * size / each);
    if (each == 2)
        spread(encoded, count, 2, to, stride);
    else if (each == 4)
        spread(encoded, count, 4, to, stride);
    else
        spread(encoded, count, 1, to, stride);
}

void cache_read(enum storage type, bool key, int dim, int slot, const unsigned char *part, float *values)
{
    int pad = cache_pad(type, dim);
    float whole[HEAD_DIM_MOST];
    unsigned char encoded[HEAD_DIM_MOST * 4];
    size_t size = (size_t)storage_types[type].block_bytes;
    if (scaled(type))
        read_scaled(type, key, pad, slot, part, encoded);
    else
        for (int i = 0; i < pad; i++)
            memcpy(encoded + (size_t)i * size, part + (size_t)place(type, key, pad, slot, i) * size, size);
    format_find(type)->decode(encoded, whole, pad);
    memcpy(values, whole, (size_t)dim * sizeof *values);
}

void cache_cut_v(enum storage type, int dim, int tokens, const unsigned char *part, unsigned char *to)
{
    int pad = cache_pad(type, dim), bytes = token_bytes(type, pad), together = scaled(type) ? 4 : type == STORAGE_BF16 ? 2 : 1;
    size_t row = (size_t)(bytes * together), whole = (size_t)(tokens / together) * row;
    memset(to + whole, 0, cache_part_bytes(type, dim) - whole);
    memcpy(to, part, whole);
    if (tokens % together) { /* of every 32 bits, those of the tokens that are there */
        uint32_t mask = (1u << (32 / together * (tokens % together))) - 1;
        for (size_t i = 0; i < row; i += 4) {
            uint32_t some = load_u32(part + whole + i) & mask;
            memcpy(to + whole + i, &some, 4);
        }
    }
    for (int g = 0; scaled(type) && g < pad / GROUP; g++)
        memcpy(to + bytes * BLOCK_TOKENS + g * BLOCK_TOKENS * 2, part + bytes * BLOCK_TOKENS + g * BLOCK_TOKENS * 2, (size_t)tokens * 2);
}
