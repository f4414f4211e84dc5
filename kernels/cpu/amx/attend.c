/* Attention of prompts on AMX's tiles, a piece of ATTEND_PIECE tokens at a time: all queries of a stack, 32 at once, meet the
 * piece's keys and values in the tiles' own form, which is made once for the stack.
 *
 *     queries  [query][high, low][k]                                    rows of 16 queries are a tile; low: what high leaves
 *     keys     [16 tokens][k / 32][high, low][16 pairs of k][16 tokens][2]
 *     values   [32 tokens][v / 16][16 pairs of tokens][16 dims][2]
 *     scores   [32 tokens][half of the queries][half of the tokens][16 queries][16 tokens]     float32
 *     weights  [32 tokens][half of the queries][16 queries][32 tokens]
 *
 * Tiles multiply bfloat16. Factors of a score are sums of two of them, 16 bits: q k = qh kh + ql kh + qh kl, what is left out is
 * 2^-16 of the product. Where the cache holds bfloat16 or less, kl is zero and not multiplied. Weights and values are rounded to
 * bfloat16 once, as activations of linear operations are: an error of a score grows with the score, one of a weight or value
 * does not. Logits of SmolLM2 with float weights, relative error against a cache of float32 (1024 tokens):
 *     f16   5.5e-4    with keys rounded once 1.6e-3, queries too 2.0e-3, AVX-512's integers 2.0e-4
 *     bf16  1.6e-3    AVX-512's dot product 2.2e-3
 *     q8_0  6.7e-3    AVX-512's dot product 8.4e-3
 *
 * A piece has one largest score for each query, so nothing is rescaled within it. Queries are independent rows of tiles, a
 * token that a query does not see has the weight 0 in it, so a query gets the same bits in whatever company.
 *
 * Tiles and vectors work at the same time: a dot product is one instruction and 16 cycles, in which vectors do their part.
 *     while the next 32 queries' scores are multiplied     the exponentials of this 32's
 *     while this 32's weights meet the values              the largest of the next 32's scores */
#include <math.h>

#include "kernels/cpu/amx/amx.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/wide/cache.h"

enum {
    AT_ONCE = 32, /* queries */
    COLUMN = 32,  /* tokens */
    COLUMNS = ATTEND_PIECE / COLUMN,
    COLUMN_FLOATS = AT_ONCE * COLUMN, /* scores */
    MOST_ROWS = ATTEND_STACK * ATTEND_QUERIES,
    DIMS_MOST = 256,
};
static const float no_score = -3.0e38f; /* the largest of none */

static int k_steps(int k_dim) { return (k_dim + TILE_DEPTH - 1) / TILE_DEPTH; }
static int v_tiles(int v_dim) { return (v_dim + 15) / 16; }

bool amx_attends(const struct attend_tile *a)
{
    return a->set == SET_MANY && !a->v_in_k && a->k_dim <= DIMS_MOST && a->v_dim <= DIMS_MOST && a->k_type != STORAGE_F32 &&
           a->v_type != STORAGE_F32;
}

/* Memory of a thread. Scores take the place of the last queries': column by column those of the next 32 are stored where
 * weights have just been made of these. */
struct room {
    uint16_t *keys, *values, *weights;
    float *scores, *out, *sums, *most, *wide;
};

static size_t place(struct room *r, float *at, int k_dim, int v_dim)
{
    size_t steps = (size_t)k_steps(k_dim), tiles = (size_t)v_tiles(v_dim), used = 0;
#define TAKE(what, type, floats) r->what = (type *)(void *)(at ? at + used : NULL), used += (floats)
    TAKE(keys, uint16_t, ATTEND_PIECE / BLOCK_TOKENS * steps * TILE_VALUES);
    TAKE(values, uint16_t, COLUMNS * tiles * TILE_VALUES / 2);
    TAKE(scores, float, (COLUMNS * COLUMN_FLOATS));
    TAKE(weights, uint16_t, COLUMNS / 2 * (COLUMN_FLOATS));
    TAKE(out, float, 2 * tiles * TILE_FLOATS);
    TAKE(sums, float, AT_ONCE * 16);
    TAKE(most, float, AT_ONCE * 16);
    TAKE(wide, float,
         2 * BLOCK_TOKENS *
             (attend_form_floats(k_dim) > attend_form_floats(v_dim) ? attend_form_floats(k_dim) : attend_form_floats(v_dim)));
#undef TAKE
    return used;
}

size_t amx_attend_floats(int k_dim, int v_dim)
{
    struct room r;
    return k_dim <= DIMS_MOST && v_dim <= DIMS_MOST ? place(&r, NULL, k_dim, v_dim) + 16 : 0;
}

/* ---- forms ------------------------------------------------------------------------------------------------------------- */

/* 16 of a's upper halves and 16 of b's, in turns: bfloat16 of both, cut off. */
INLINE __m512i upper_halves(__m512 a, __m512 b)
{
    return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(_mm512_castps_si512(a), 16), _mm512_castps_si512(b));
}

/* What cutting off leaves. */
INLINE __m512 lower_part(__m512 x)
{
    return _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0xFFFF0000))));
}

/* Nearest even; pairs (a[i], b[i]). */
INLINE __m512i rounded_pairs(__m512 a, __m512 b)
{
    const __m512i turns =
        _mm512_setr_epi32(0x00100000, 0x00110001, 0x00120002, 0x00130003, 0x00140004, 0x00150005, 0x00160006, 0x00170007,
                          0x00180008, 0x00190009, 0x001A000A, 0x001B000B, 0x001C000C, 0x001D000D, 0x001E000E, 0x001F000F);
    return _mm512_permutexvar_epi16(turns, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

/* Scores are logarithms of base 2, but where they are capped first. */
static float score_factor(const struct attend_tile *a) { return a->cap > 0 ? a->scale : a->scale * 1.44269504f; }

static void form_query(const struct attend_tile *a, const float *q, uint16_t *to)
{
    const int padded = k_steps(a->k_dim) * TILE_DEPTH;
    const __m512 factor = _mm512_set1_ps(score_factor(a));
    for (int d = 0; d < padded; d += 32) {
        __m512 x[2], left[2];
        for (int i = 0; i < 2; i++) {
            int there = a->k_dim - d - 16 * i;
            __mmask16 some = there >= 16 ? 0xFFFF : there > 0 ? (__mmask16)((1 << there) - 1) : 0;
            x[i] = _mm512_mul_ps(_mm512_maskz_loadu_ps(some, q + d + 16 * i), factor);
        }
        __m512i high = (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]);
        for (int i = 0; i < 2; i++) {
            __m512i half = _mm512_cvtepu16_epi32(i ? _mm512_extracti64x4_epi64(high, 1) : _mm512_castsi512_si256(high));
            left[i] = _mm512_sub_ps(x[i], _mm512_castsi512_ps(_mm512_slli_epi32(half, 16)));
        }
        _mm512_storeu_si512(to + d, high);
        _mm512_storeu_si512(to + padded + d, (__m512i)_mm512_cvtne2ps_pbh(left[1], left[0]));
    }
}

/* Whether keys have a low part. */
static bool splits(enum storage type) { return type == STORAGE_F16 || type == STORAGE_Q8_0 || type == STORAGE_Q4_0; }

INLINE __m512 key_row(const unsigned char *part, enum storage type, int k_dim, int d)
{
    return d < k_dim ? (__m512)k_vector(part, type, d, 0) : _mm512_setzero_ps();
}

INLINE void form_block_k(const unsigned char *part, enum storage type, bool split, int k_dim, uint16_t *to)
{
    for (int step = 0; step < k_steps(k_dim); step++)
        for (int pair = 0; pair < 16; pair++) {
            int d = step * TILE_DEPTH + 2 * pair;
            __m512 a = key_row(part, type, k_dim, d), b = key_row(part, type, k_dim, d + 1);
            uint16_t *high = to + (size_t)step * (split ? 2 : 1) * TILE_VALUES + 32 * pair;
            _mm512_store_si512(high, upper_halves(a, b));
            if (split)
                _mm512_store_si512(high + TILE_VALUES, type == STORAGE_F16 ? upper_halves(lower_part(a), lower_part(b))
                                                                           : rounded_pairs(lower_part(a), lower_part(b)));
        }
}

static void form_k(const struct attend_tile *a, const unsigned char *part, float *wide, uint16_t *to)
{
    switch (a->k_type) {
    case STORAGE_F16:
        form_block_k(part, STORAGE_F16, true, a->k_dim, to);
        return;
    case STORAGE_BF16: {
        for (int step = 0; step < k_steps(a->k_dim); step++)
            for (int pair = 0; pair < 16; pair++, to += 32) {
                int at = step * 16 + pair;
                _mm512_store_si512(to, 2 * at < a->k_dim ? _mm512_loadu_si512(part + 64 * at) : _mm512_setzero_si512());
            }
        return;
    }
    case STORAGE_F8_E4M3:
        form_block_k(part, STORAGE_F8_E4M3, false, a->k_dim, to);
        return;
    default:
        widen_k(part, a->k_type, a->k_dim, wide);
        form_block_k((const unsigned char *)wide, STORAGE_F32, true, a->k_dim, to);
    }
}

/* Tokens [0, 32) of two blocks' V as [pair][16 dims][2] for each 16 dims; those outside [low, high), of which nothing need be
 * there, become zero. */
INLINE __m512 value_row(const unsigned char *const *part, enum storage type, int pad, int t, int at, int low, int high)
{
    return t >= low && t < high ? (__m512)v_vector(part[t / BLOCK_TOKENS], type, pad, t % BLOCK_TOKENS, at) : _mm512_setzero_ps();
}

INLINE void form_column_v(const unsigned char *const *part, enum storage type, int pad, int tiles, int low, int high,
                          uint16_t *to)
{
    for (int pair = 0; pair < 16; pair++)
        for (int tile = 0; tile < tiles; tile++) {
            __m512 a = value_row(part, type, pad, 2 * pair, 16 * tile, low, high),
                   b = value_row(part, type, pad, 2 * pair + 1, 16 * tile, low, high);
            _mm512_store_si512(to + tile * TILE_VALUES + 32 * pair, rounded_pairs(a, b));
        }
}

static void copy_column_v(const unsigned char *const *part, int pad, int tiles, int low, int high, uint16_t *to)
{
    for (int pair = 0; pair < 16; pair++) {
        uint32_t mask =
            (2 * pair >= low && 2 * pair < high ? 0xFFFF : 0) | (2 * pair + 1 >= low && 2 * pair + 1 < high ? 0xFFFF0000 : 0);
        for (int tile = 0; tile < tiles; tile++) {
            __m512i x = mask ? _mm512_loadu_si512(part[pair / 8] + 4 * (pair % 8 * pad + 16 * tile)) : _mm512_setzero_si512();
            _mm512_store_si512(to + tile * TILE_VALUES + 32 * pair, _mm512_and_si512(x, _mm512_set1_epi32((int)mask)));
        }
    }
}

static void form_v(const struct attend_tile *a, const unsigned char *const *part, int low, int high, float *wide, uint16_t *to)
{
    const int pad = cache_pad(a->v_type, a->v_dim), tiles = v_tiles(a->v_dim), floats = (int)attend_form_floats(a->v_dim);
    const unsigned char *as_floats[2];
    switch (a->v_type) {
    case STORAGE_F16:
        form_column_v(part, STORAGE_F16, pad, tiles, low, high, to);
        return;
    case STORAGE_BF16:
        copy_column_v(part, pad, tiles, low, high, to);
        return;
    case STORAGE_F8_E4M3:
        form_column_v(part, STORAGE_F8_E4M3, pad, tiles, low, high, to);
        return;
    default:
        for (int i = 0; i < 2; i++) {
            as_floats[i] = (const unsigned char *)(wide + i * BLOCK_TOKENS * floats);
            if (part[i])
                widen_v(part[i], a->v_type, pad, wide + i * BLOCK_TOKENS * floats, floats);
        }
        form_column_v(as_floats, STORAGE_F32, floats, tiles, low, high, to);
    }
}

/* ---- the queries that are computed together -------------------------------------------------------------------------------- */

struct row {
    int from, end; /* tokens of the piece that it sees */
    float *out, *most, *sum;
};

/* At most AT_ONCE rows; none: count is 0. */
struct some {
    const struct row *row;
    const uint16_t *queries;
    int count, first, last; /* columns that any of them sees */
    bool whole;             /* all rows see all of those, and scores are as they are */
};

/* K and V of the next piece, asked for from memory a few lines at a time while this piece is worked on: its blocks lie anywhere.
 */
struct next_piece {
    const unsigned char *part[2 * ATTEND_PIECE / BLOCK_TOKENS];
    size_t bytes[2], at; /* of K and of V, in turns */
    int next, parts, share;
};

struct piece {
    struct room room;
    int steps, tiles;
    bool split;
    float cap;
    struct next_piece *ahead;
};

static void ask_next(struct next_piece *a)
{
    for (int lines = a->share; lines && a->next < a->parts; lines--) {
        _mm_prefetch((const char *)a->part[a->next] + a->at, _MM_HINT_T1);
        a->at += 64;
        if (a->at >= a->bytes[a->next % 2])
            a->at = 0, a->next++;
    }
}

/* Relative error below 8e-5, of weights that will be rounded by up to 4e-3. */
INLINE __m512 power_of_2(__m512 x)
{
    __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC), p = _mm512_set1_ps(7.80245226e-2f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.26067155e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9583354e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.99925219e-1f));
    return _mm512_scalef_ps(p, x);
}

INLINE void soften_row(const struct piece *p, const float *most, int column, int i)
{
    const float *s = p->room.scores + column * COLUMN_FLOATS + i / 16 * 2 * TILE_FLOATS + i % 16 * 16;
    float *sum = p->room.sums + 16 * i;
    __m512 m = _mm512_set1_ps(most[i]);
    __m512 a = power_of_2(_mm512_load_ps(s) - m), b = power_of_2(_mm512_load_ps(s + TILE_FLOATS) - m);
    _mm512_store_si512(p->room.weights + column * COLUMN_FLOATS + i * COLUMN, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    _mm512_store_ps(sum, _mm512_load_ps(sum) + (a + b));
}

/* Queries that have their turn while tiles work, `share` after each pair of dot products. */
struct turn {
    int at, end, share;
};

INLINE int shared_out(const struct turn *t, int turns) { return (t->end - t->at + turns - 1) / turns; }

INLINE void soften_some(const struct piece *p, const float *most, int column, struct turn *t)
{
    for (int end = t->at + t->share < t->end ? t->at + t->share : t->end; t->at < end; t->at++)
        soften_row(p, most, column, t->at);
}

/* Scores of a column, beside the weights of the same column of other queries. For each 32 dims
 *     high low        dots of tiles   0 2 (first 16 tokens)     1 3       what the next dots need is loaded as soon as the last
 *     high high                       0 1 (first 16 queries)    2 3       that needed its tile's place have begun
 *     low  high                       0 1                       2 3 */
INLINE void score_column(const struct piece *p, int halves, const uint16_t *queries, int column, const float *most,
                         struct turn turn)
{
    const int stride = p->steps * TILE_DEPTH * 4, parts = p->split ? 2 : 1; /* bytes of a query */
    const uint16_t *k = p->room.keys + (size_t)(column * 2 * p->steps * parts) * TILE_VALUES,
                   *next = k + (size_t)(p->steps * parts) * TILE_VALUES;
    const uint16_t *low = queries + p->steps * TILE_DEPTH;
    turn.share = shared_out(&turn, 2 * p->steps * (parts + 1));
#define OTHERS soften_some(p, most, column, &turn)
    TILE_LOAD(4, queries, stride);
    TILE_STREAM(6, k + (parts - 1) * TILE_VALUES, TILE_STRIDE);
    TILE_STREAM(7, next + (parts - 1) * TILE_VALUES, TILE_STRIDE);
    if (halves == 2)
        TILE_LOAD(5, queries + 8 * stride, stride);
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int step = p->steps; step; step--, low += TILE_DEPTH) {
        if (p->split) {
            TILE_DOT(0, 4, 6);
            if (halves == 2)
                TILE_DOT(2, 5, 6);
            TILE_STREAM(6, k, TILE_STRIDE);
            OTHERS;
            TILE_DOT(1, 4, 7);
            if (halves == 2)
                TILE_DOT(3, 5, 7);
            TILE_STREAM(7, next, TILE_STRIDE);
            OTHERS;
        }
        TILE_DOT(0, 4, 6);
        TILE_DOT(1, 4, 7);
        TILE_LOAD(4, low, stride);
        OTHERS;
        if (halves == 2) {
            TILE_DOT(2, 5, 6);
            TILE_DOT(3, 5, 7);
            TILE_LOAD(5, low + 8 * stride, stride);
        }
        OTHERS;
        queries += TILE_DEPTH, k += parts * TILE_VALUES, next += parts * TILE_VALUES;
        TILE_DOT(0, 4, 6);
        TILE_DOT(1, 4, 7);
        if (step > 1)
            TILE_LOAD(4, queries, stride);
        OTHERS;
        if (halves == 2)
            TILE_DOT(2, 5, 6);
        if (step > 1)
            TILE_STREAM(6, k + (parts - 1) * TILE_VALUES, TILE_STRIDE);
        if (halves == 2)
            TILE_DOT(3, 5, 7);
        if (step > 1) {
            TILE_STREAM(7, next + (parts - 1) * TILE_VALUES, TILE_STRIDE);
            if (halves == 2)
                TILE_LOAD(5, queries + 8 * stride, stride);
        }
        OTHERS;
    }
#undef OTHERS
    float *to = p->room.scores + column * COLUMN_FLOATS;
    TILE_STORE(0, to, TILE_STRIDE);
    TILE_STORE(1, to + TILE_FLOATS, TILE_STRIDE);
    if (halves == 2) {
        TILE_STORE(2, to + 2 * TILE_FLOATS, TILE_STRIDE);
        TILE_STORE(3, to + 3 * TILE_FLOATS, TILE_STRIDE);
    }
}

/* Scores of `next` while `now` gets its weights. */
static void score_some(const struct piece *p, const struct some *next, const struct some *now, const float *most)
{
    for (int i = 0; i < now->count; i++)
        _mm512_store_ps(p->room.sums + 16 * i, _mm512_setzero_ps());
    for (int c = 0; c < COLUMNS; c++) {
        ask_next(p->ahead);
        struct turn t = {.end = c >= now->first && c < now->last ? now->count : 0, .share = AT_ONCE};
        if (c < next->first || c >= next->last)
            soften_some(p, most, c, &t);
        else if (next->count > 16)
            score_column(p, 2, next->queries, c, most, t);
        else
            score_column(p, 1, next->queries, c, most, t);
    }
}

/* ---- largest scores and sums -------------------------------------------------------------------------------------------- */

#define REDUCE_16(name, op)                                                                                                      \
    /* Lane i of the result: what the 16 lanes of from[16 * i] give. */                                                          \
    static __m512 name(const float *from)                                                                                        \
    {                                                                                                                            \
        __m512 v[16];                                                                                                            \
        _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) v[i] = _mm512_load_ps(from + 16 * i);                              \
        _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) v[i] =                                                               \
            op(_mm512_shuffle_f32x4(v[i], v[i + 8], 0x44), _mm512_shuffle_f32x4(v[i], v[i + 8], 0xEE));                          \
        _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) v[i] =                                                               \
            op(_mm512_shuffle_f32x4(v[i], v[i + 4], 0x88), _mm512_shuffle_f32x4(v[i], v[i + 4], 0xDD));                          \
        __m512 a = op(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));                                           \
        __m512 b = op(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));                                           \
        __m512 r = op(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));                                             \
        return _mm512_shuffle_f32x4(r, r, 0xD8);                                                                                 \
    }
REDUCE_16(most_of, _mm512_max_ps)
REDUCE_16(sum_of, _mm512_add_ps)

/* Scores of tokens that the row does not see become -infinity, and capped ones what they are capped to. */
static void correct_scores(const struct piece *p, const struct row *r, int column, float *s)
{
    for (int half = 0; half < 2; half++, s += TILE_FLOATS) {
        int from = r->from - column * COLUMN - 16 * half, end = r->end - column * COLUMN - 16 * half;
        uint32_t seen = (end <= 0    ? 0
                         : end >= 16 ? 0xFFFF
                                     : (1u << end) - 1) &
                        (from >= 16  ? 0
                         : from <= 0 ? 0xFFFF
                                     : 0xFFFFu << from);
        vf x = v_load(s);
        if (p->cap > 0)
            x = v_set(p->cap * 1.44269504f) * v_tanh(x / v_set(p->cap));
        _mm512_store_ps(s, _mm512_mask_blend_ps((__mmask16)seen, _mm512_set1_ps(-INFINITY), (__m512)x));
    }
}

/* The 16 lanes' largest of a row's scores. NaN is passed over, the sums keep it. */
INLINE void find_most(const struct piece *p, const struct some *n, int i)
{
    const struct row *r = n->row + i;
    __m512 a = _mm512_set1_ps(-INFINITY), b = a;
    float *s = p->room.scores + n->first * COLUMN_FLOATS + i / 16 * 2 * TILE_FLOATS + i % 16 * 16;
    for (int c = n->first; c < n->last; c++, s += COLUMN_FLOATS) {
        if (!n->whole && (p->cap > 0 || r->from > c * COLUMN || r->end < (c + 1) * COLUMN))
            correct_scores(p, r, c, s);
        a = _mm512_max_ps(_mm512_load_ps(s), a);
        b = _mm512_max_ps(_mm512_load_ps(s + TILE_FLOATS), b);
    }
    _mm512_store_ps(p->room.most + 16 * i, _mm512_max_ps(a, b));
}

INLINE void find_some(const struct piece *p, const struct some *n, struct turn *t)
{
    for (int end = t->at + t->share < t->end ? t->at + t->share : t->end; t->at < end; t->at++)
        find_most(p, n, t->at);
}

/* Weights times V, `wide` (1 or 2) tiles of dims from tile `tile` on. */
INLINE void weigh_tiles(const struct piece *p, int halves, int wide, const struct some *now, int tile, const struct some *next,
                        struct turn *t)
{
    const uint16_t *w = p->room.weights + now->first * COLUMN_FLOATS,
                   *v = p->room.values + (size_t)(now->first * p->tiles + tile) * TILE_VALUES;
#define LOAD_WEIGHTS                                                                                                             \
    TILE_LOAD(4, w, TILE_STRIDE);                                                                                                \
    if (halves == 2)                                                                                                             \
    TILE_LOAD(5, w + TILE_VALUES, TILE_STRIDE)
    TILE_STREAM(6, v, TILE_STRIDE);
    if (wide == 2)
        TILE_STREAM(7, v + TILE_VALUES, TILE_STRIDE);
    LOAD_WEIGHTS;
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int c = now->last - now->first; c; c--) {
        w += COLUMN_FLOATS, v += p->tiles * TILE_VALUES;
        TILE_DOT(0, 4, 6);
        if (halves == 2)
            TILE_DOT(2, 5, 6);
        if (c > 1)
            TILE_STREAM(6, v, TILE_STRIDE);
        find_some(p, next, t);
        if (wide == 2) {
            TILE_DOT(1, 4, 7);
            if (halves == 2)
                TILE_DOT(3, 5, 7);
            if (c > 1)
                TILE_STREAM(7, v + TILE_VALUES, TILE_STRIDE);
        }
        if (c > 1) {
            LOAD_WEIGHTS;
        }
    }
#undef LOAD_WEIGHTS
    float *to = p->room.out + tile * TILE_FLOATS, *second = to + p->tiles * TILE_FLOATS;
    TILE_STORE(0, to, TILE_STRIDE);
    if (wide == 2)
        TILE_STORE(1, to + TILE_FLOATS, TILE_STRIDE);
    if (halves == 2) {
        TILE_STORE(2, second, TILE_STRIDE);
        if (wide == 2)
            TILE_STORE(3, second + TILE_FLOATS, TILE_STRIDE);
    }
}

/* Weights of `now` times V, while the largest scores of `next` are found. */
static void weigh_some(const struct piece *p, const struct some *now, const struct some *next)
{
    struct turn t = {.end = next->count};
    int turns = (p->tiles + 1) / 2 * (now->last - now->first);
    if (turns && now->count)
        t.share = shared_out(&t, turns);
    for (int tile = 0; tile < p->tiles && now->last > now->first; tile += 2) {
        bool one = tile + 1 == p->tiles;
        if (now->count > 16 && !one)
            weigh_tiles(p, 2, 2, now, tile, next, &t);
        else if (now->count > 16)
            weigh_tiles(p, 2, 1, now, tile, next, &t);
        else if (!one)
            weigh_tiles(p, 1, 2, now, tile, next, &t);
        else
            weigh_tiles(p, 1, 1, now, tile, next, &t);
    }
    t.share = AT_ONCE;
    find_some(p, next, &t);
}

static void give_results(const struct piece *p, const struct some *now, const float *most)
{
    _Alignas(64) float sum[AT_ONCE];
    for (int at = 0; at < now->count; at += 16)
        _mm512_store_ps(sum + at, sum_of(p->room.sums + 16 * at));
    for (int i = 0; i < now->count; i++) {
        const struct row *r = now->row + i;
        const float *out = p->room.out + i / 16 * p->tiles * TILE_FLOATS + i % 16 * 16;
        bool any = r->from < r->end;
        *r->most = any && most[i] > no_score ? most[i] * 0.693147181f : no_score;
        *r->sum = any ? sum[i] : 0;
        for (int tile = 0; tile < p->tiles; tile++)
            _mm512_storeu_ps(r->out + 16 * tile, _mm512_maskz_load_ps(any ? 0xFFFF : 0, out + tile * TILE_FLOATS));
        if (p->tiles % 2) /* out is a multiple of 32 dims wide */
            _mm512_storeu_ps(r->out + 16 * p->tiles, _mm512_setzero_ps());
    }
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

static int within_piece(int64_t token) { return token < 0 ? 0 : token > ATTEND_PIECE ? ATTEND_PIECE : (int)token; }

/* Queries come from far. */
static void ask_for_query(const struct attend_tile *a, int i)
{
    for (int d = 0; d < a->k_dim; d += 16)
        _mm_prefetch((const char *)(a->q[i] + d), _MM_HINT_T0);
}

static void form_tile(struct attend_tile *a, const struct attend_tile *next)
{
    enum { AHEAD = 8 };
    size_t stride = attend_form_floats(a->k_dim);
    for (int i = 0; i < a->queries && !a->formed; i++) {
        int there = i + AHEAD;
        if (there < a->queries)
            ask_for_query(a, there);
        else if (next && !next->formed && there - a->queries < next->queries)
            ask_for_query(next, there - a->queries);
        form_query(a, a->q[i], (uint16_t *)(void *)(a->form + (size_t)i * stride));
    }
    a->formed = true;
}

/* Rows of the queries, in the order of their forms, which lie side by side. */
static int list_rows(struct attend_tile *const *tiles, int count, int64_t first, struct row *rows)
{
    int n = 0;
    for (int t = 0; t < count; t++) {
        struct attend_tile *a = tiles[t];
        form_tile(a, t + 1 < count ? tiles[t + 1] : NULL);
        for (int i = 0; i < a->queries; i++)
            rows[n++] = (struct row){.from = within_piece(a->start[i] - first),
                                     .end = within_piece(a->end[i] - first),
                                     .out = a->out + i * a->out_stride,
                                     .most = a->most + i,
                                     .sum = a->sum + i};
    }
    return n;
}

static struct some some_of(const struct piece *p, const struct row *rows, int count, int at, const float *form)
{
    int left = count > at ? count - at : 0;
    struct some s = {.row = rows + at, .count = left < AT_ONCE ? left : AT_ONCE};
    s.queries = (const uint16_t *)(const void *)form + (size_t)at * (size_t)p->steps * 2 * TILE_DEPTH;
    int low = ATTEND_PIECE, high = 0, begun = 0, open = ATTEND_PIECE;
    for (int i = 0; i < s.count; i++) {
        low = s.row[i].from < low ? s.row[i].from : low;
        high = s.row[i].end > high ? s.row[i].end : high;
        begun = s.row[i].from > begun ? s.row[i].from : begun;
        open = s.row[i].end < open ? s.row[i].end : open;
    }
    if (low < high)
        s.first = low / COLUMN, s.last = (high + COLUMN - 1) / COLUMN;
    s.whole = p->cap <= 0 && begun <= s.first * COLUMN && open >= s.last * COLUMN;
    return s;
}

static const unsigned char *block_at(const struct attend_tile *a, int64_t token)
{
    return a->pool + (uint64_t)a->blocks[token / BLOCK_TOKENS] * a->block_bytes;
}

/* The blocks that any row sees of tokens from `first` on. */
static struct next_piece look_ahead(struct attend_tile *const *tiles, int count, int64_t first, int turns)
{
    const struct attend_tile *any = tiles[0];
    struct next_piece a = {.bytes = {cache_part_bytes(any->k_type, any->k_dim), cache_part_bytes(any->v_type, any->v_dim)}};
    int64_t low = INT64_MAX, high = 0;
    for (int t = 0; t < count; t++) { /* rows of tiles follow one another */
        const struct attend_tile *tile = tiles[t];
        low = tile->start[0] < low ? tile->start[0] : low;
        high = tile->end[tile->queries - 1] > high ? tile->end[tile->queries - 1] : high;
    }
    for (int64_t token = first; token < first + ATTEND_PIECE && token < high; token += BLOCK_TOKENS)
        if (token + BLOCK_TOKENS > low) {
            const unsigned char *block = block_at(any, token);
            a.part[a.parts++] = block + any->k_offset;
            a.part[a.parts++] = block + any->v_offset;
        }
    a.share = (int)((size_t)(a.parts / 2) * (a.bytes[0] + a.bytes[1]) / 64) / turns + 1;
    return a;
}

/* Forms of the tokens of the piece at `first` that any row sees. */
static void form_tokens(const struct attend_tile *a, struct piece *p, int64_t first, int low, int high)
{
    size_t block = (size_t)(p->steps * (p->split ? 2 : 1)) * TILE_VALUES;
    for (int c = low / COLUMN; c * COLUMN < high; c++) {
        const unsigned char *part[2] = {NULL, NULL};
        for (int i = 0; i < 2; i++) {
            int token = c * COLUMN + i * BLOCK_TOKENS;
            if (token + BLOCK_TOKENS <= low || token >= high) /* may be gone, may not exist */
                continue;
            const unsigned char *at = block_at(a, first + token);
            form_k(a, at + a->k_offset, p->room.wide, p->room.keys + (size_t)(2 * c + i) * block);
            part[i] = at + a->v_offset;
        }
        form_v(a, part, low - c * COLUMN, high - c * COLUMN, p->room.wide, p->room.values + (size_t)(c * p->tiles) * TILE_VALUES);
    }
}

static __attribute__((noinline)) void attend_piece(struct attend_tile *const *tiles, int count, int64_t first)
{
    const struct attend_tile *a = tiles[0];
    struct piece p = {.steps = k_steps(a->k_dim), .tiles = v_tiles(a->v_dim), .split = splits(a->k_type), .cap = a->cap};
    struct row rows[MOST_ROWS];
    place(&p.room, (float *)(((uintptr_t)a->scratch + 63) / 64 * 64), a->k_dim, a->v_dim);
    int n = list_rows(tiles, count, first, rows), low = ATTEND_PIECE, high = 0;
    for (int i = 0; i < n; i++) {
        low = rows[i].from < low ? rows[i].from : low;
        high = rows[i].end > high ? rows[i].end : high;
    }
    TILE_CONFIGURE(&tile_whole);
    form_tokens(a, &p, first, low, high);
    struct next_piece ahead = look_ahead(tiles, count, first + ATTEND_PIECE, (n + AT_ONCE - 1) / AT_ONCE * COLUMNS);
    p.ahead = &ahead;
    _Alignas(64) float most[AT_ONCE] = {0};
    struct some now = {.count = 0}, next;
    for (int at = 0; at < n + AT_ONCE; at += AT_ONCE, now = next) {
        next = some_of(&p, rows, n, at, a->form);
        score_some(&p, &next, &now, most);
        weigh_some(&p, &now, &next);
        give_results(&p, &now, most);
        for (int half = 0; 16 * half < next.count; half++)
            _mm512_store_ps(most + 16 * half, _mm512_max_ps(most_of(p.room.most + 256 * half), _mm512_set1_ps(no_score)));
    }
    TILE_RELEASE();
}

void amx_attend(struct attend_tile *const *tiles, int count, int64_t first)
{
    /* weights that are too small become zero: as denormal numbers each would take the time of hundred others */
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | _MM_FLUSH_ZERO_ON);
    attend_piece(tiles, count, first);
    _mm_setcsr(mode);
}
