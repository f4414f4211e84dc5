#include "kernels/formats/lattice.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "kernels/formats/grids.h"
#include "kernels/formats/search.h"
#include "kernels/formats/small.h"

enum { LANES = 8, NEAR = 16, RUNGS = 7, UNIT_RUNGS = 9 };
#define TINY 1e-15f /* below: zero in every format, and its inverse would overflow */

/* Eight values at once, summed in one order everywhere (see search.c, also for the clones). */
typedef float lanes __attribute__((vector_size(4 * LANES)));
#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((flatten, target_clones("avx2", "default")))
#else
#define CLONES
#endif

INLINE lanes load(const float *p)
{
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE float sum(lanes l) { return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7])); }

/* ---- codebooks -------------------------------------------------------------------------------------------------------- */

struct book {
    int width, points, levels; /* weights of a point; values that one may have */
    float level[8];
    float (*grid)[LANES];      /* [points], zeros behind the width */
    uint16_t (*near)[NEAR];    /* [levels ^ width]: points by their distance to the rounded values */
};

/* All of them; untouched pages cost nothing. */
enum { ALL_POINTS = 2048 + 256 + 512 + 1024 + 256 + 512, ALL_KEYS = 4 * 6561 + 2 * 4096 };
static float all_grids[ALL_POINTS][LANES];
static uint16_t all_near[ALL_KEYS][NEAR];
static struct book books[LATTICES];

static int keys_of(const struct book *b)
{
    int keys = 1;
    for (int i = 0; i < b->width; i++)
        keys *= b->levels;
    return keys;
}

/* The NEAR points nearest to at, by insertion. */
static void find_near(const struct book *b, const float *at, uint16_t *near)
{
    float distance[NEAR];
    int count = 0;
    for (int p = 0; p < b->points; p++) {
        lanes off = load(b->grid[p]) - load(at);
        float d = sum(off * off);
        if (count == NEAR && d >= distance[NEAR - 1])
            continue;
        int i = count < NEAR ? count++ : NEAR - 1;
        for (; i && distance[i - 1] > d; i--) {
            distance[i] = distance[i - 1];
            near[i] = near[i - 1];
        }
        distance[i] = d;
        near[i] = (uint16_t)p;
    }
}

static void make_book(struct book *b, const void *bytes, int width, int points, int levels, const float *level)
{
    const struct book *before = b > books ? b - 1 : NULL;
    *b = (struct book){.width = width, .points = points, .levels = levels};
    memcpy(b->level, level, (size_t)levels * sizeof *level);
    b->grid = before ? before->grid + before->points : all_grids;
    b->near = before ? before->near + keys_of(before) : all_near;
    for (int i = 0; i < points * width; i++) { /* IQ1's values are eighths above -1 */
        signed char v = ((const signed char *)bytes)[i];
        b->grid[i / width][i % width] = levels == 3 && level[0] < 0 ? (float)v / 8 - 1 : (float)v;
    }
    for (int key = 0; key < keys_of(b); key++) {
        float at[LANES] = {0};
        for (int j = 0, rest = key; j < width; j++, rest /= levels)
            at[j] = level[rest % levels];
        find_near(b, at, b->near[key]);
    }
}

static void make_books(void)
{
    static const float iq1[] = {-1, 0, 1}, iq2[] = {8, 25, 43}, iq3_xxs[] = {4, 12, 20, 28, 36, 44, 52, 62}, iq3_s[] = {1, 3, 5, 7, 9, 11, 13, 15};
    make_book(&books[LATTICE_IQ1], grid_iq1_s, 8, 2048, 3, iq1);
    make_book(&books[LATTICE_IQ2_XXS], grid_iq2_xxs, 8, 256, 3, iq2);
    make_book(&books[LATTICE_IQ2_XS], grid_iq2_xs, 8, 512, 3, iq2);
    make_book(&books[LATTICE_IQ2_S], grid_iq2_s, 8, 1024, 3, iq2);
    make_book(&books[LATTICE_IQ3_XXS], grid_iq3_xxs, 4, 256, 8, iq3_xxs);
    make_book(&books[LATTICE_IQ3_S], grid_iq3_s, 4, 512, 8, iq3_s);
}

/* ---- one sub-block ---------------------------------------------------------------------------------------------------- */

/* Points for y / t and, with them, what the scale's equation needs: sums of w y q and w q q, q what a point and its shift come to. */
struct chosen {
    uint16_t point[8];
    unsigned char down[8];
    float yq, qq;
};

/* The nearest of a point's candidates to z = y / t under weights w; q: what was taken. */
INLINE float nearest_point(const struct book *b, lanes z, lanes w, float shift, uint16_t *point, lanes *q)
{
    int key = 0;
    *point = 0;
    *q = (lanes){0};
    for (int j = b->width - 1; j >= 0; j--) {
        int digit = 0;
        for (int k = 1; k < b->levels; k++)
            digit += z[j] - shift > 0.5f * (b->level[k - 1] + b->level[k]);
        key = key * b->levels + digit;
    }
    const uint16_t *near = b->near[key];
    float least = 0;
    for (int i = 0; i < NEAR; i++) {
        lanes g = load(b->grid[near[i]]) + shift, off = z - g;
        float d = sum(w * off * off);
        if (i == 0 || d < least) {
            least = d;
            *point = near[i];
            *q = g;
        }
    }
    return least;
}

/* n values; shifts: the shifts that every point may have, first and last. */
INLINE void choose(const struct book *b, const float *y, const float *w, int n, float t, const float shifts[2], struct chosen *c)
{
    c->yq = c->qq = 0;
    for (int p = 0; p < n / b->width; p++) {
        float yp[LANES] = {0}, wp[LANES] = {0};
        memcpy(yp, y + p * b->width, (size_t)b->width * sizeof *yp);
        memcpy(wp, w + p * b->width, (size_t)b->width * sizeof *wp);
        lanes z = load(yp) / t, q, other;
        uint16_t second;
        float d = nearest_point(b, z, load(wp), shifts[0], &c->point[p], &q);
        c->down[p] = shifts[0] < 0;
        if (shifts[1] != shifts[0] && nearest_point(b, z, load(wp), shifts[1], &second, &other) < d) {
            c->point[p] = second;
            c->down[p] = shifts[1] < 0;
            q = other;
        }
        lanes weighted = load(wp) * q;
        c->yq += sum(weighted * load(yp));
        c->qq += sum(weighted * q);
    }
}

/* How much of the squares of y a scale takes away with these points: 2 t yq - t t qq. */
INLINE float gain(const struct chosen *c, float t) { return t * (2 * c->yq - t * c->qq); }

/* The best scale of a sub-block by itself. */
INLINE float search_sub(const struct book *b, const float *y, const float *w, int n, const float shifts[2], struct chosen *best)
{
    float most = 0, scale = 0, least = -1;
    for (int i = 0; i < n; i++)
        most = fmaxf(most, fabsf(y[i]));
    *best = (struct chosen){0};
    for (int rung = 0; rung < RUNGS + 1 && most > TINY; rung++) { /* the last starts from the best so far */
        struct chosen c;
        float t = rung < RUNGS ? most / b->level[b->levels - 1] * (0.55f + 0.9f / (RUNGS - 1) * (float)rung) : scale;
        if (!(t > TINY))
            break;
        choose(b, y, w, n, t, shifts, &c);
        t = c.qq > 0 ? c.yq / c.qq : 0;
        if (t > 0 && gain(&c, t) > least) {
            least = gain(&c, t);
            *best = c;
            scale = t;
        }
    }
    return scale;
}

/* ---- 256 values ------------------------------------------------------------------------------------------------------- */

struct work {
    const struct book *book;
    enum lattice_side side;
    int sub, count, most;
    float y[SUPER], w[SUPER];
    float scale[16]; /* of each sub-block by itself */
    struct chosen chosen[16];
};

/* Signs apart. Where they must be even, the weight that costs least changes its own. */
INLINE void take_signs(struct work *k, const float *x, unsigned char *signs)
{
    for (int l = 0; l < SUPER / 8; l++) {
        unsigned bits = 0;
        int weakest = 0;
        for (int j = 0; j < 8; j++) {
            int i = 8 * l + j;
            bits |= (unsigned)(x[i] < 0) << j;
            k->y[i] = fabsf(x[i]);
            if (k->w[i] * k->y[i] * k->y[i] < k->w[8 * l + weakest] * k->y[8 * l + weakest] * k->y[8 * l + weakest])
                weakest = j;
        }
        if (k->side == EVEN_SIGNS && __builtin_parity(bits)) {
            bits ^= 1u << weakest;
            k->y[8 * l + weakest] = -k->y[8 * l + weakest];
        }
        signs[l] = (unsigned char)bits;
    }
}

static const float shift_pairs[4][2] = {{0, 0}, {0.125f, 0.125f}, {-0.125f, -0.125f}, {0.125f, -0.125f}};

/* The points of sub-block s at scale t, the better of both shifts where it has one. */
INLINE void choose_at(const struct work *k, int s, float t, struct chosen *c)
{
    const float *y = k->y + s * k->sub, *w = k->w + s * k->sub;
    if (k->side != SHIFT_OF_SUB) {
        choose(k->book, y, w, k->sub, t, shift_pairs[k->side == SHIFT_OF_POINT ? 3 : 0], c);
        return;
    }
    struct chosen other;
    choose(k->book, y, w, k->sub, t, shift_pairs[1], c);
    choose(k->book, y, w, k->sub, t, shift_pairs[2], &other);
    if (gain(&other, t) > gain(c, t))
        *c = other;
}

INLINE void search_subs(struct work *k)
{
    for (int s = 0; s < k->count; s++) {
        const float *y = k->y + s * k->sub, *w = k->w + s * k->sub;
        struct chosen other;
        k->scale[s] = search_sub(k->book, y, w, k->sub, shift_pairs[k->side == SHIFT_OF_SUB ? 1 : k->side == SHIFT_OF_POINT ? 3 : 0], &k->chosen[s]);
        if (k->side != SHIFT_OF_SUB)
            continue;
        float t = search_sub(k->book, y, w, k->sub, shift_pairs[2], &other);
        if (gain(&other, t) > gain(&k->chosen[s], k->scale[s])) {
            k->chosen[s] = other;
            k->scale[s] = t;
        }
    }
}

/* The small scale nearest to t, and the best unit for given small scales. */
INLINE int small_scale(const struct work *k, float t, float unit)
{
    int s = (int)lrintf((t / unit - 1) / 2);
    return s < 0 ? 0 : s > k->most ? k->most : s;
}
INLINE float best_unit(const struct work *k, const unsigned char *scale)
{
    float top = 0, bottom = 0;
    for (int s = 0; s < k->count; s++) {
        float m = (float)(2 * scale[s] + 1);
        top += m * k->chosen[s].yq;
        bottom += m * m * k->chosen[s].qq;
    }
    return bottom > 0 && top > 0 ? top / bottom : 0;
}

INLINE float search_unit(const struct work *k, unsigned char *scale)
{
    float most = 0, unit = 0, best = -1;
    for (int s = 0; s < k->count; s++)
        most = fmaxf(most, k->scale[s]);
    for (int rung = 0; rung < UNIT_RUNGS && most > TINY; rung++) {
        float u = most / (float)(2 * k->most + 1) * (0.88f + 0.03f * (float)rung), all = 0;
        unsigned char small[16];
        for (int s = 0; s < k->count; s++)
            small[s] = (unsigned char)small_scale(k, k->scale[s], u);
        u = best_unit(k, small);
        for (int s = 0; s < k->count; s++)
            all += gain(&k->chosen[s], u * (float)(2 * small[s] + 1));
        if (u > 0 && all > best) {
            best = all;
            unit = u;
            memcpy(scale, small, 16);
        }
    }
    return unit;
}

/* With the unit as it is stored: points once more, each sub-block with its scale or one of those around it. */
INLINE void settle(struct work *k, float unit, int around, unsigned char *scale)
{
    for (int s = 0; s < k->count; s++) {
        struct chosen best;
        float most = -INFINITY;
        int from = scale[s] > around ? scale[s] - around : 0, to = scale[s] + around < k->most ? scale[s] + around : k->most;
        for (int small = from; small <= to; small++) {
            struct chosen c;
            float t = unit * (float)(2 * small + 1);
            choose_at(k, s, t, &c);
            if (gain(&c, t) > most) {
                most = gain(&c, t);
                best = c;
                scale[s] = (unsigned char)small;
            }
        }
        k->chosen[s] = best;
    }
}

static float stored(float d)
{
    unsigned char half[2];
    store_half(d, half);
    return load_half(half);
}

CLONES static void search_super(struct work *k, const float *x, float per_unit, struct lattice_fit *out)
{
    if (k->side <= EVEN_SIGNS)
        take_signs(k, x, out->signs);
    else
        memcpy(k->y, x, sizeof k->y);
    search_subs(k);
    float unit = search_unit(k, out->scale);
    for (int again = 0; again < 2 && unit > 0; again++) {
        unit = stored(unit * per_unit) / per_unit;
        if (unit > 0)
            settle(k, unit, !again, out->scale);
        float better = best_unit(k, out->scale);
        unit = better > 0 ? better : unit;
    }
    out->d = stored(unit * per_unit);
}

void lattice_search(const float *x, const float *importance, enum lattice which, enum lattice_side side, int sub, int most, float per_unit,
                    struct lattice_fit *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_books);
    struct work k = {.book = &books[which], .side = side, .sub = sub, .count = SUPER / sub, .most = most};
    *out = (struct lattice_fit){0};
    search_weights(x, importance, SUPER, k.w);
    search_super(&k, x, per_unit, out);
    int each = sub / k.book->width;
    for (int s = 0; s < k.count; s++)
        for (int p = 0; p < each; p++) {
            out->point[s * each + p] = k.chosen[s].point[p];
            if (k.book->width == 8)
                out->down[s * each + p] = k.chosen[s].down[p];
        }
}
