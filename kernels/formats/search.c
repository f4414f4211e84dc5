#include "kernels/formats/search.h"

#include <math.h>
#include <string.h>

#include "kernels/formats/small.h"

/* Eight values at once, in whatever vectors the processor has. Written out because the compiler may not reorder a float sum by
 * itself; every machine adds in the same order. */
enum { LANES = 8 };
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
#define INLINE static inline __attribute__((always_inline))

INLINE lanes load(const float *p)
{
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE lanes pick(mask m, lanes yes, lanes no) { return (lanes)(((mask)yes & m) | ((mask)no & ~m)); }

INLINE float sum(lanes l) { return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7])); }

/* The whole search compiled twice on x86-64; the lanes keep the order of sums, so both give the same bits. Sanitizers cannot
 * start a program that picks functions while it is linked. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((flatten, target_clones("avx2", "default")))
#else
#define CLONES
#endif

#define TINY 1e-15f /* below: zero in every format, and its inverse would overflow */

/* codes with what finding the nearest needs ready: a code of the table is its first value plus the gaps whose middles lie below. */
struct grid {
    float low, high, unit;
    bool table;
    float middle[15], gap[15];
};

static inline struct grid make_grid(struct codes c)
{
    struct grid g = {.low = c.low, .high = c.high, .unit = c.table ? 8 : 1, .table = c.table};
    for (int k = 0; k < 15 && c.table; k++) {
        g.middle[k] = 0.5f * (float)(c.table[k] + c.table[k + 1]);
        g.gap[k] = (float)(c.table[k + 1] - c.table[k]);
    }
    return g;
}

INLINE lanes on_grid(lanes v, const struct grid *g)
{
    if (g->table) {
        lanes code = (lanes){0} + g->low;
        for (int k = 0; k < 15; k++)
            code += (lanes)((mask)(v > g->middle[k]) & (mask)((lanes){0} + g->gap[k]));
        return code;
    }
    v = pick(v < g->low, (lanes){0} + g->low, v);
    v = pick(v > g->high, (lanes){0} + g->high, v);
    return (v + 0x1.8p23f) - 0x1.8p23f; /* the last bit of such a sum is 1: rounded to a whole number */
}

/* Codes of n values: those nearest to (x - offset) * by. */
INLINE void find_codes(const float *x, int n, float offset, float by, const struct grid *g, float *code)
{
    for (int at = 0; at < n; at += LANES) {
        lanes q = on_grid((load(x + at) - offset) * by, g);
        memcpy(code + at, &q, sizeof q);
    }
}

/* A line through values at the end of what a half holds may start beyond it. */
static float round_to_half(float v) { return half_to_float(float_to_half(v < -65504 ? -65504 : v > 65504 ? 65504 : v)); }

INLINE float inverse(float v) { return v != 0 ? 1 / v : 0; }

void search_weights(const float *x, const float *importance, int n, float *weights)
{
    float squares = 0, total = 0;
    for (int i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (int i = 0; i < n; i++)
        total += weights[i] = importance ? importance[i] * sqrtf(2 * squares / (float)n + x[i] * x[i]) : 1;
    float scale = total > 0 && total < INFINITY ? (float)n / total : 0; /* mean 1: squares of sums stay far from overflow */
    for (int i = 0; i < n; i++)
        weights[i] = scale > 0 ? weights[i] * scale : 1;
}

/* ---- x ~ scale * code ----------------------------------------------------------------------------------------------- */

struct fit {
    float scale, offset;
    float curvature; /* of the error as a function of the scale */
    float gain;      /* what the error is less than with all codes 0 */
};

/* The best scale for the codes that are nearest at 1 / inverse. */
INLINE struct fit solve_scale(const float *x, const float *w, int n, const struct grid *c, float by)
{
    lanes xq = {0}, qq = {0};
    for (int at = 0; at < n; at += LANES) {
        lanes v = load(x + at), q = on_grid(v * by, c), wq = load(w + at) * q;
        xq += wq * v;
        qq += wq * q;
    }
    float a = sum(xq), b = sum(qq);
    return b > 0 ? (struct fit){.scale = a / b, .curvature = b, .gain = a * (a / b)} : (struct fit){0};
}

/* A rung of the ladder is where the value of largest size falls: from one code inside the end to one and a half beyond it, in
 * steps of an eighth, for either end. */
static struct fit fit_scale(const float *x, const float *w, int n, const struct grid *c)
{
    const float ends[2] = {c->low, c->high};
    float largest = 0;
    struct fit best = {0};
    for (int i = 0; i < n; i++)
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    if (fabsf(largest) < TINY)
        return best;
    for (int e = 0; e < 2; e++)
        for (int step = -8; step <= 12 && ends[e] != 0; step++) {
            float at = ends[e] + (ends[e] < 0 ? -c->unit : c->unit) * (float)step / 8;
            struct fit f = at * ends[e] > 0 ? solve_scale(x, w, n, c, at / largest) : best;
            best = f.gain > best.gain ? f : best;
        }
    for (int turn = 0; turn < 4; turn++) {
        struct fit f = solve_scale(x, w, n, c, inverse(best.scale));
        if (!(f.gain > best.gain))
            break;
        best = f;
    }
    return best;
}

CLONES float search_scale(const float *x, const float *importance, int n, struct codes codes, float *code)
{
    const struct grid g = make_grid(codes);
    float w[32];
    search_weights(x, importance, n, w);
    float scale = round_to_half(fit_scale(x, w, n, &g).scale);
    find_codes(x, n, 0, inverse(scale), &g, code);
    return scale;
}

/* ---- x ~ scale * code + offset -------------------------------------------------------------------------------------- */

/* The best line for the codes that are nearest to (x - from) * by. below: the offset must not be positive. Sums are of y = x - from. */
INLINE struct fit solve_line(const float *x, const float *w, int n, float high, bool below, float from, float by)
{
    const struct grid c = {.high = high};
    lanes s = {0}, y1 = {0}, q1 = {0}, qq = {0}, yq = {0};
    for (int at = 0; at < n; at += LANES) {
        lanes y = load(x + at) - from, weight = load(w + at), q = on_grid(y * by, &c), wq = weight * q;
        s += weight;
        y1 += weight * y;
        q1 += wq;
        qq += wq * q;
        yq += wq * y;
    }
    float S = sum(s), Y = sum(y1), Q = sum(q1), QQ = sum(qq), YQ = sum(yq), D = S * QQ - Q * Q;
    if (!(QQ > 0))
        return (struct fit){0};
    struct fit f = {.curvature = QQ};
    float o = D > 1e-6f * S * QQ ? (QQ * Y - Q * YQ) / D : 0;
    if (below && from + o > 0)
        o = -from;
    f.scale = (YQ - o * Q) / QQ;
    f.offset = from + o;
    f.gain = 2 * (f.scale * YQ + o * Y - f.scale * o * Q) - f.scale * f.scale * QQ - o * o * S;
    return f;
}

static float line_error(const float *x, const float *w, int n, float high, float scale, float offset)
{
    const struct grid c = {.high = high};
    lanes errors = {0};
    for (int at = 0; at < n; at += LANES) {
        lanes y = load(x + at) - offset, e = y - scale * on_grid(y * inverse(scale), &c);
        errors += load(w + at) * e * e;
    }
    return sum(errors);
}

static struct fit fit_line(const float *x, const float *w, int n, float high, bool below)
{
    float low = x[0], top = x[0];
    for (int i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        top = x[i] > top ? x[i] : top;
    }
    low = below && low > 0 ? 0 : low;
    struct fit best = {.offset = low};
    if (top - low < TINY)
        return best;
    for (int step = -10; step <= 10; step++) {
        struct fit f = solve_line(x, w, n, high, below, low, (high + 0.1f * (float)step) / (top - low));
        best = f.gain > best.gain ? f : best;
    }
    float error = line_error(x, w, n, high, best.scale, best.offset);
    for (int turn = 0; turn < 4; turn++) {
        struct fit f = solve_line(x, w, n, high, below, best.offset, inverse(best.scale));
        float now = line_error(x, w, n, high, f.scale, f.offset);
        if (!(now < error))
            break;
        best = f;
        error = now;
    }
    return best;
}

CLONES void search_line(const float *x, const float *importance, int n, float high, float *scale, float *offset, float *code)
{
    const struct grid g = {.high = high};
    float w[32];
    search_weights(x, importance, n, w);
    struct fit f = fit_line(x, w, n, high, false);
    *scale = round_to_half(f.scale);
    *offset = round_to_half(f.offset);
    find_codes(x, n, *offset, inverse(*scale), &g, code);
}

/* ---- super-blocks --------------------------------------------------------------------------------------------------- */

enum { ROUNDS = 2 };

/* Integers for n <= 16 scales, and their common factor; integers: [16]. */
static float fit_integers(const float *scales, const float *curvature, int n, const struct grid *c, float *integers)
{
    float x[16] = {0}, w[16] = {0}, most = 0;
    for (int i = 0; i < n; i++)
        most = curvature[i] > most ? curvature[i] : most;
    for (int i = 0; i < n; i++) {
        x[i] = scales[i];
        w[i] = most > 0 ? curvature[i] / most : 1;
    }
    float d = round_to_half(fit_scale(x, w, 16, c).scale);
    find_codes(x, 16, 0, inverse(d), c, integers);
    return d;
}

struct line_state {
    float d, dmin, scale[16], min[16], error;
};

static float line_errors(const float *x, const float *w, int sub, float high, const struct line_state *s)
{
    float error = 0;
    for (int i = 0; i < SUPER / sub; i++)
        error += line_error(x + i * sub, w + i * sub, sub, high, s->d * s->scale[i], -s->dmin * s->min[i]);
    return error;
}

/* Every sub-block's integers move by one where that lowers its error. */
static void move_line(const float *x, const float *w, int sub, float high, float most, struct line_state *s)
{
    for (int i = 0; i < SUPER / sub; i++) {
        float scale = s->scale[i], min = s->min[i], best = INFINITY;
        for (float a = scale - 1; a <= scale + 1; a++)
            for (float b = min - 1; b <= min + 1; b++) {
                if (a < 0 || a > most || b < 0 || b > most)
                    continue;
                float error = line_error(x + i * sub, w + i * sub, sub, high, s->d * a, -s->dmin * b);
                if (error < best) {
                    best = error;
                    s->scale[i] = a;
                    s->min[i] = b;
                }
            }
    }
}

/* d and dmin for the integers and codes that are there. */
static void solve_line_factors(const float *x, const float *w, int sub, float high, struct line_state *s)
{
    const struct grid c = {.high = high};
    float aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int i = 0; i < SUPER / sub; i++) {
        float scale = s->scale[i], min = s->min[i];
        lanes qq = {0}, q1 = {0}, xq = {0}, x1 = {0}, w1 = {0};
        for (int at = i * sub; at < (i + 1) * sub; at += LANES) {
            lanes v = load(x + at), weight = load(w + at), q = on_grid((v + s->dmin * min) * inverse(s->d * scale), &c);
            qq += weight * q * q;
            q1 += weight * q;
            xq += weight * v * q;
            x1 += weight * v;
            w1 += weight;
        }
        aa += scale * scale * sum(qq);
        ab += scale * min * sum(q1);
        bb += min * min * sum(w1);
        xa += scale * sum(xq);
        xb += min * sum(x1);
    }
    float D = aa * bb - ab * ab;
    if (D > 1e-6f * aa * bb) {
        s->d = (xa * bb - xb * ab) / D;
        s->dmin = (xa * ab - xb * aa) / D;
    } else if (aa > 0) {
        s->d = (xa + s->dmin * ab) / aa;
    }
    s->d = round_to_half(s->d > 0 ? s->d : 0);
    s->dmin = round_to_half(s->dmin > 0 ? s->dmin : 0);
}

CLONES void search_super_line(const float *x, const float *importance, int sub, int high, int most_scale, struct super_line *out)
{
    const int subs = SUPER / sub;
    const struct grid integers = {.high = (float)most_scale}, g = {.high = (float)high};
    float w[SUPER], scale[16] = {0}, min[16] = {0}, curvature[16] = {0}, share[16] = {0};
    search_weights(x, importance, SUPER, w);
    for (int i = 0; i < subs; i++) {
        struct fit f = fit_line(x + i * sub, w + i * sub, sub, (float)high, true);
        scale[i] = f.scale;
        min[i] = -f.offset;
        curvature[i] = f.curvature;
        share[i] = 0;
        for (int j = 0; j < sub; j++)
            share[i] += w[i * sub + j];
    }
    struct line_state s = {0}, best;
    s.d = fit_integers(scale, curvature, subs, &integers, s.scale);
    s.dmin = fit_integers(min, share, subs, &integers, s.min);
    best = s;
    best.error = line_errors(x, w, sub, (float)high, &s);
    for (int round = 0; round < ROUNDS; round++) {
        move_line(x, w, sub, (float)high, integers.high, &s);
        solve_line_factors(x, w, sub, (float)high, &s);
        s.error = line_errors(x, w, sub, (float)high, &s);
        if (!(s.error < best.error))
            break;
        best = s;
    }
    out->d = best.d;
    out->dmin = best.dmin;
    for (int i = 0; i < subs; i++) {
        out->scale[i] = (unsigned char)best.scale[i];
        out->min[i] = (unsigned char)best.min[i];
    }
    float code[SUPER];
    for (int i = 0; i < subs; i++)
        find_codes(x + i * sub, sub, -best.dmin * best.min[i], inverse(best.d * best.scale[i]), &g, code + i * sub);
    for (int i = 0; i < SUPER; i++)
        out->code[i] = (unsigned char)code[i];
}

static float scale_error(const float *x, const float *w, int n, const struct grid *c, float scale)
{
    lanes errors = {0};
    for (int at = 0; at < n; at += LANES) {
        lanes v = load(x + at), e = v - scale * on_grid(v * inverse(scale), c);
        errors += load(w + at) * e * e;
    }
    return sum(errors);
}

CLONES void search_super_scale(const float *x, const float *importance, int sub, struct codes scales, struct codes codes, struct super_scale *out)
{
    const int subs = SUPER / sub;
    const struct grid integers = make_grid(scales), g = make_grid(codes);
    float w[SUPER], scale[16] = {0}, curvature[16] = {0}, integer[16] = {0}, best[16] = {0}, least = INFINITY;
    search_weights(x, importance, SUPER, w);
    for (int i = 0; i < subs; i++) {
        struct fit f = fit_scale(x + i * sub, w + i * sub, sub, &g);
        scale[i] = f.scale;
        curvature[i] = f.curvature;
    }
    float d = fit_integers(scale, curvature, subs, &integers, integer);
    for (int round = 0; round <= ROUNDS; round++) {
        float error = 0, xa = 0, aa = 0;
        for (int i = 0; i < subs; i++) {
            const float *xs = x + i * sub, *ws = w + i * sub;
            float here = integer[i], lowest = INFINITY;
            for (float a = here - (round > 0); a <= here + (round > 0); a++) {
                float e = a < scales.low || a > scales.high ? INFINITY : scale_error(xs, ws, sub, &g, d * a);
                if (e < lowest) {
                    lowest = e;
                    integer[i] = a;
                }
            }
            error += lowest;
            struct fit f = solve_scale(xs, ws, sub, &g, inverse(d * integer[i]));
            xa += f.scale * f.curvature * integer[i];
            aa += f.curvature * integer[i] * integer[i];
        }
        if (!(error < least))
            break;
        least = error;
        out->d = d;
        memcpy(best, integer, sizeof best);
        d = aa > 0 ? round_to_half(xa / aa) : d;
    }
    for (int i = 0; i < subs; i++)
        out->scale[i] = (signed char)best[i];
    float code[SUPER];
    for (int i = 0; i < subs; i++)
        find_codes(x + i * sub, sub, 0, inverse(out->d * best[i]), &g, code + i * sub);
    for (int i = 0; i < SUPER; i++)
        out->code[i] = (signed char)code[i];
}
