/* TQ1_0: 256 weights in 54 bytes: 48 bytes of five digits of base 3 | 4 bytes of four | f16 d.
 * A byte is ceil(n * 256 / 243) of the five-digit number n (four digits: a zero behind them), so that multiplying by 3 moves the
 * next digit, highest first, above the byte: digit k is (byte * 3^k mod 256) * 3 >> 8.
 * Digits of bytes 0-31: weights 32k + j; of bytes 32-47: 160 + 16k + j; of bytes 48-51: 240 + 4k + j. w = d * (digit - 1).
 * Source: ggml-common.h, ggml-quants.c. */
#include "kernels/formats/formats.h"
#include "kernels/formats/small.h"
#include "kernels/formats/ternary.h"

static const struct run {
    int byte, bytes, digits, weight;
} runs[] = {{0, 32, 5, 0}, {32, 16, 5, 160}, {48, 4, 4, 240}};

void tq1_0_decode(const unsigned char *bytes, float *values, int64_t count)
{
    for (; count > 0; count -= 256, bytes += 54, values += 256) {
        float d = load_half(bytes + 52);
        for (const struct run *r = runs; r < runs + 3; r++)
            for (int j = 0; j < r->bytes; j++) {
                unsigned char rest = bytes[r->byte + j];
                for (int k = 0; k < r->digits; k++, rest = (unsigned char)(rest * 3))
                    values[r->weight + r->bytes * k + j] = d * (float)((rest * 3 >> 8) - 1);
            }
    }
}

void tq1_0_encode(const float *values, const float *importance, unsigned char *bytes, int64_t count)
{
    (void)importance; /* its codes leave no choice worth a search */
    for (; count > 0; count -= 256, bytes += 54, values += 256) {
        signed char code[256];
        store_u16(bytes + 52, ternary(values, 256, 1, code));
        for (const struct run *r = runs; r < runs + 3; r++)
            for (int j = 0; j < r->bytes; j++) {
                int number = 0;
                for (int k = 0; k < 5; k++)
                    number = 3 * number + (k < r->digits ? code[r->weight + r->bytes * k + j] + 1 : 0);
                bytes[r->byte + j] = (unsigned char)((number * 256 + 242) / 243);
            }
    }
}
