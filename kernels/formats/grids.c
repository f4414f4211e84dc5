#include "kernels/formats/grids.h"

#define GRID(name, points, weights, base, step, ...) static const uint64_t set_##name[] = {__VA_ARGS__};
#include "kernels/formats/grids.def"
#undef GRID

uint64_t grid_iq1_s[2048], grid_iq2_xxs[256], grid_iq2_xs[512], grid_iq2_s[1024];
uint32_t grid_iq3_xxs[256], grid_iq3_s[512];
uint16_t digits_iq2_xxs[256], digits_iq2_xs[512];
unsigned char plane_iq1_s[2][2048], plane_iq2_s[2][1024], plane_iq3_xxs[2][256], plane_iq3_s[2][512];
unsigned char steps_iq1_s[3][128];

static const signed char value_iq1_s[] = {0, 8, 16}, value_iq2[] = {8, 25, 43}, value_iq3_xxs[] = {4, 12, 20, 28, 36, 44, 52, 62},
                         value_iq3_s[] = {1, 3, 5, 7, 9, 11, 13, 15};
#define value_iq2_xxs value_iq2
#define value_iq2_xs value_iq2
#define value_iq2_s value_iq2

/* Where the digits of a point go: words, or bytes in two planes. */
struct digits {
    uint16_t *words;
    unsigned char *planes;
};
#define WORDS(name) {digits_##name, 0}
#define PLANES(name) {0, plane_##name[0]}
static const struct digits to_iq1_s = PLANES(iq1_s), to_iq2_xxs = WORDS(iq2_xxs), to_iq2_xs = WORDS(iq2_xs), to_iq2_s = PLANES(iq2_s),
                           to_iq3_xxs = PLANES(iq3_xxs), to_iq3_s = PLANES(iq3_s);

static void expand(const uint64_t *set, int words, int points, int weights, int base, int step, const signed char *value, unsigned char *grid,
                   struct digits digits)
{
    int point = 0;
    for (int i = 0; i < 64 * words && point < points; i++) {
        if (!(set[i / 64] >> i % 64 & 1))
            continue;
        int all = 0;
        for (int j = 0, rest = i * step; j < weights; j++, rest /= base) {
            *grid++ = (unsigned char)value[rest % base];
            all |= rest % base << 16 / weights * j;
        }
        if (digits.words)
            digits.words[point] = (uint16_t)all;
        else
            digits.planes[point] = (unsigned char)all, digits.planes[points + point] = (unsigned char)(all >> 8);
        point++;
    }
}

__attribute__((constructor)) static void expand_grids(void)
{
#define GRID(name, points, weights, base, step, ...) \
    expand(set_##name, sizeof set_##name / 8, points, weights, base, step, value_##name, (unsigned char *)grid_##name, to_##name);
#include "kernels/formats/grids.def"
#undef GRID
    for (int i = 0; i < 2048; i++) {
        const unsigned char *upper = plane_iq1_s[1];
        steps_iq1_s[0][i / 16] = upper[i / 16 * 16];
        steps_iq1_s[1][i / 16] = upper[i];
        steps_iq1_s[2][i / 16] = (unsigned char)(steps_iq1_s[2][i / 16] + (upper[i] == upper[i / 16 * 16]));
    }
}
