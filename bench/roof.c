#include "bench/roof.h"

#include <stdint.h>

#include "base/clock.h"
#include "base/team.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

struct job {
    const unsigned char *memory;
    size_t bytes;
    volatile int64_t sink[256];
};

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw"))) static int64_t read_wide(const unsigned char *p, const unsigned char *end)
{
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (; p + 256 <= end; p += 256) {
        for (int i = 0; i < 256; i += 64)
            _mm_prefetch((const char *)p + 6144 + i, _MM_HINT_T0);
        a = _mm512_xor_si512(a, _mm512_loadu_si512(p));
        b = _mm512_xor_si512(b, _mm512_loadu_si512(p + 64));
        c = _mm512_xor_si512(c, _mm512_loadu_si512(p + 128));
        d = _mm512_xor_si512(d, _mm512_loadu_si512(p + 192));
    }
    return _mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
}

enum { ROUNDS = 5000000 };

__attribute__((target("avx512f,avx512bw,avx512vnni"))) static int64_t dot_wide(int thread)
{
    __m512i sum[12], x = _mm512_set1_epi8((char)(thread + 1)), y = _mm512_set1_epi8((char)(thread + 2));
#pragma GCC unroll 12 /* every loop over them, or they live in memory */
    for (int i = 0; i < 12; i++)
        sum[i] = _mm512_set1_epi32(i);
    for (int n = 0; n < ROUNDS; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            sum[i] = _mm512_dpbusd_epi32(sum[i], x, y);
        __asm__ volatile("" : "+v"(sum[0]), "+v"(sum[1]), "+v"(sum[2]), "+v"(sum[3]), "+v"(sum[4]), "+v"(sum[5]), "+v"(sum[6]), "+v"(sum[7]),
                         "+v"(sum[8]), "+v"(sum[9]), "+v"(sum[10]), "+v"(sum[11]));
    }
    int64_t total = 0;
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        total += _mm512_reduce_add_epi32(sum[i]);
    return total;
}
#endif

static int64_t read_plain(const unsigned char *p, const unsigned char *end)
{
    uint64_t a = 0, b = 0;
    for (; p + 16 <= end; p += 16) {
        uint64_t u, v;
        __builtin_memcpy(&u, p, 8);
        __builtin_memcpy(&v, p + 8, 8);
        a ^= u, b ^= v;
    }
    return (int64_t)(a ^ b);
}

static int wide(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
#else
    return 0;
#endif
}

static void read_work(void *argument, int thread, int threads)
{
    struct job *j = argument;
    const unsigned char *from = j->memory + j->bytes / (size_t)threads * (size_t)thread, *end = from + j->bytes / (size_t)threads;
#if defined(__x86_64__)
    j->sink[thread] = wide() ? read_wide(from, end) : read_plain(from, end);
#else
    j->sink[thread] = read_plain(from, end);
#endif
}

static void dot_work(void *argument, int thread, int threads)
{
    (void)threads;
    struct job *j = argument;
#if defined(__x86_64__)
    j->sink[thread] = dot_wide(thread);
#else
    j->sink[thread] = 0;
#endif
}

double roof_read(int threads, const unsigned char *memory, size_t bytes)
{
    struct job j = {.memory = memory, .bytes = bytes};
    double from = clock_seconds();
    int rounds = 0;
    for (; rounds == 0 || clock_seconds() - from < 0.1; rounds++)
        team_run(threads, read_work, &j);
    return (double)bytes * rounds / (clock_seconds() - from) / 1e9;
}

double roof_int8(int threads)
{
    if (!wide())
        return 0;
#if defined(__x86_64__)
    struct job j = {0};
    double from = clock_seconds();
    team_run(threads, dot_work, &j);
    return 12.0 * ROUNDS * 128 * threads / (clock_seconds() - from) / 1e9;
#else
    (void)dot_work;
    return 0;
#endif
}
