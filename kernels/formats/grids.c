#include "kernels/formats/grids.h"

#define GRID(name, points, weights, base, step, ...) static const uint64_t set_##name[] = {__VA_ARGS__};
#include "kernels/formats/grids.def"
#undef GRID

uint64_t grid_iq1_s[2048], grid_iq2_xxs[256], grid_iq2_xs[512], grid_iq2_s[1024];
uint32_t grid_iq3_xxs[256], grid_iq3_s[512];
unsigned char plane_iq1_s[2][2048], plane_iq2_xxs[2][256], plane_iq2_xs[2][512], plane_iq2_s[2][1024], plane_iq3_xxs[2][256], plane_iq3_s[2][512];

static const signed char value_iq1_s[] = {-1, 0, 1}, value_iq2[] = {8, 25, 43}, value_iq3_xxs[] = {4, 12, 20, 28, 36, 44, 52, 62},
                         value_iq3_s[] = {1, 3, 5, 7, 9, 11, 13, 15};
#define value_iq2_xxs value_iq2
#define value_iq2_xs value_iq2
#define value_iq2_s value_iq2

static void expand(const uint64_t *set, int words, int points, int weights, int base, int step, const signed char *value, void *grid,
                   unsigned char *plane)
{
    unsigned char *to = grid;
    int point = 0, width = weights == 8 ? 2 : 4;
    for (int i = 0; i < 64 * words && point < points; i++) {
        if (!(set[i / 64] >> i % 64 & 1))
            continue;
        for (int j = 0, rest = i * step; j < weights; j++, rest /= base) {
            *to++ = (unsigned char)value[rest % base];
            plane[2 * j / weights * points + point] |= (unsigned char)(rest % base << width * (j % (weights / 2)));
        }
        point++;
    }
}

__attribute__((constructor)) static void expand_grids(void)
{
#define GRID(name, points, weights, base, step, ...) \
    expand(set_##name, sizeof set_##name / 8, points, weights, base, step, value_##name, grid_##name, plane_##name[0]);
#include "kernels/formats/grids.def"
#undef GRID
}
