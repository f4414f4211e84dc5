/* IQ4_NL: 32 weights in 18 bytes: f16 d | 16 bytes as in Q4_0; a nibble is an index into 16 values. w = d * value. */
#include "kernels/formats/formats.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

static const signed char table[16] = IQ4_VALUES;

void iq4_nl_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 32, bytes += 18, values += 32) {
        float d = load_half(bytes);
        for (int j = 0; j < 16; j++) {
            values[j] = d * (float)table[bytes[2 + j] & 15];
            values[j + 16] = d * (float)table[bytes[2 + j] >> 4];
        }
    }
}

void iq4_nl_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    for (int64_t at = 0; at < count; at += 32, bytes += 18) {
        float code[32];
        unsigned char q[32];
        store_half(search_scale(values + at, importance ? importance + at : NULL, 32, (struct codes){-127, 113, table}, code), bytes);
        for (int j = 0; j < 32; j++)
            q[j] = table_index(table, (signed char)code[j]);
        store_nibbles(q, q + 16, 16, bytes + 2);
    }
}
