/* Row-local operations over LANES floats: norms, activations, adding, rotating. */
#ifndef KERNELS_CPU_WIDE_ROWS_H
#define KERNELS_CPU_WIDE_ROWS_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/wide/lanes.h"

/* sum of (x - mean)^2 */
INLINE float sum_squares(const float *x, int64_t n, float mean)
{
    vf a = v_zero(), b = v_zero(), m = v_set(mean);
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        vf u = v_load(x + i) - m, v = v_load(x + i + LANES) - m;
        a = v_fma(u, u, a);
        b = v_fma(v, v, b);
    }
    float sum = v_sum(a + b);
    for (; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

static void wide_norm(const struct norm_shape *s, const float *x, float *y, int64_t width)
{
    for (int64_t at = 0; at < width; at += s->n, x += s->n, y += s->n) {
        float mean = 0;
        if (s->centred) {
            vf a = v_zero();
            int64_t i = 0;
            for (; i + LANES <= s->n; i += LANES)
                a += v_load(x + i);
            mean = v_sum(a);
            for (; i < s->n; i++)
                mean += x[i];
            mean /= (float)s->n;
        }
        float scale = 1 / sqrtf(sum_squares(x, s->n, mean) / (float)s->n + s->epsilon);
        int64_t i = 0;
        vf m = v_set(mean), by = v_set(scale), plus = v_set(s->offset);
        for (; i + LANES <= s->n; i += LANES) {
            vf v = (v_load(x + i) - m) * by;
            if (s->weight)
                v *= v_load(s->weight + i) + plus;
            v_store(y + i, s->bias ? v + v_load(s->bias + i) : v);
        }
        for (; i < s->n; i++) {
            float v = (x[i] - mean) * scale;
            v = s->weight ? v * (s->weight[i] + s->offset) : v;
            y[i] = s->bias ? v + s->bias[i] : v;
        }
    }
}

static void wide_add(const float *x, const float *z, float scale, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(y + i, v_fma(v_set(scale), v_load(z + i), v_load(x + i)));
    for (; i < n; i++)
        y[i] = fmaf(scale, z[i], x[i]);
}

/* x / (1 + exp(-by x)): x times its sigmoid */
INLINE vf v_swish(vf x, vf by) { return x / (v_set(1.0f) + v_exp(-by * x)); }

INLINE vf v_erf(vf x) /* Abramowitz and Stegun 7.1.28 is too coarse: lane by lane */
{
    float t[LANES];
    v_store(t, x);
    for (int i = 0; i < LANES; i++)
        t[i] = erff(t[i]);
    return v_load(t);
}

INLINE vf v_activate(enum activation a, vf x)
{
    vf zero = v_zero();
    switch (a) {
    case ACT_NONE:
        return x;
    case ACT_SILU:
        return v_swish(x, v_set(1.0f));
    case ACT_GELU:
        return v_set(0.5f) * x * (v_set(1.0f) + v_erf(x * v_set(0.70710678f)));
    case ACT_GELU_TANH:
        return v_set(0.5f) * x * (v_set(1.0f) + v_tanh(v_set(0.79788456f) * v_fma(v_set(0.044715f) * x * x, x, x)));
    case ACT_RELU:
        return v_max(x, zero);
    case ACT_RELU2:
        return v_max(x, zero) * v_max(x, zero);
    case ACT_QUICK_GELU:
        return v_swish(x, v_set(1.702f));
    case ACT_SIGMOID:
        return v_set(1.0f) / (v_set(1.0f) + v_exp(-x));
    case ACT_TANH:
        return v_tanh(x);
    }
    return x;
}

INLINE void activate_all(enum activation a, const float *x, const float *z, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf v = v_activate(a, v_load(x + i));
        v_store(y + i, z ? v * v_load(z + i) : v);
    }
    if (i < n) {
        float t[LANES] = {0};
        memcpy(t, x + i, (size_t)(n - i) * sizeof *t);
        v_store(t, v_activate(a, v_load(t)));
        for (int64_t k = i; k < n; k++)
            y[k] = z ? t[k - i] * z[k] : t[k - i];
    }
}

/* Apart: it needs memory for an array that is aligned, and to set that up would take long beside a few values of the common one. */
static __attribute__((noinline)) void activate_any(enum activation a, const float *x, const float *z, float *y, int64_t n)
{
    activate_all(a, x, z, y, n);
}

static void wide_activate(enum activation a, const float *x, const float *z, float *y, int64_t n)
{
    if (a == ACT_SILU && z && n % LANES == 0) /* the common one with its choices made */
        for (int64_t i = 0; i < n; i += LANES)
            v_store(y + i, v_swish(v_load(x + i), v_set(1.0f)) * v_load(z + i));
    else
        activate_any(a, x, z, y, n);
}

static void wide_rope(float *x, int heads, int head_dim, const float *cosine, const float *sine, int pairs, bool interleaved)
{
    for (int h = 0; h < heads; h++, x += head_dim) {
        int i = 0;
        if (interleaved) {
            for (; i < pairs; i++) {
                float p = x[2 * i], q = x[2 * i + 1];
                x[2 * i] = p * cosine[i] - q * sine[i];
                x[2 * i + 1] = q * cosine[i] + p * sine[i];
            }
            continue;
        }
        for (; i + LANES <= pairs; i += LANES) {
            vf p = v_load(x + i), q = v_load(x + pairs + i), c = v_load(cosine + i), s = v_load(sine + i);
            v_store(x + i, p * c - q * s);
            v_store(x + pairs + i, q * c + p * s);
        }
        for (; i < pairs; i++) {
            float p = x[i], q = x[pairs + i];
            x[i] = p * cosine[i] - q * sine[i];
            x[pairs + i] = q * cosine[i] + p * sine[i];
        }
    }
}

static void wide_narrow(const float *x, uint16_t *y, int64_t n, bool half)
{
    int64_t i = 0;
    if (!half) {
        for (; i < n; i++)
            y[i] = float_to_bf16(x[i]);
        return;
    }
#if defined(__AVX2__)
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    for (; i < n; i++)
        y[i] = float_to_half(x[i]);
}

#endif
