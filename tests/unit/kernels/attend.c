/* Attention alone, on every instruction set that this machine has, against the reference: all types of K and V, group and head
 * sizes, windows and caps, pieces and runs, numbers of threads. Both backends are given the same values, which they store with
 * the same rounding, so what is left is the arithmetic. Relative error of all outputs of a step:
 *   float32 arithmetic over any type                                       2e-5
 *   int16 dot, for prompts over half floats: see kernels/cpu/avx512/attend16.c   1e-4
 *   bfloat16 dot: queries and weights have 8 significant bits              4e-3
 *   int8 dot: queries have 7 bits and a sign for every 32 dims              6e-3
 *   int8 dot: weights have 15 bits of the largest of 128 tokens             1e-4
 *   tiles, for prompts over all but float32: weights and values have 8 significant bits, queries and keys 16   3e-3 */
#include "tiny.h"

#include "kernels/cpu/cpu.h"

static const char *const names[] = {"scalar", "avx2", "avx512-vnni", "amx", "neon", "neon-dotprod", "neon-i8mm"};
static const enum storage kvs[] = {STORAGE_F32, STORAGE_F16, STORAGE_BF16, STORAGE_F8_E4M3, STORAGE_Q8_0, STORAGE_Q4_0};
enum { KVS = sizeof kvs / sizeof *kvs, MOST_ROWS = 48 };

struct attention {
    int heads, kv_heads, k_dim, v_dim, window, cached, rows;
    float cap;
    bool v_in_k;
    float sharp; /* not 0: how many times larger scores are */
    float all;  /* not 0: what all queries, keys and values are */
    int poison, poison_from; /* not 0: the row whose query, key and value are NaN, from which of their values on */
};

struct run {
    const struct attention *shape;
    struct arena arena;
    struct program p;
    int y;
    int32_t *table;
    int64_t blocks;
};

static void build(struct run *r, const struct attention *s)
{
    memset(r, 0, sizeof *r);
    r->shape = s;
    struct program *p = &r->p;
    p->arena = &r->arena;
    p->vocab = 1;
    int q = program_buffer(p, "q", s->heads * s->k_dim, ROWS_ALL), k = program_buffer(p, "k", s->kv_heads * s->k_dim, ROWS_ALL);
    int v = program_buffer(p, "v", s->kv_heads * s->v_dim, ROWS_ALL), into[3] = {q, k, v};
    r->y = program_buffer(p, "y", s->heads * s->v_dim, ROWS_ALL);
    struct state_group group = {.kind = STATE_PAGED, .layers = 1, .heads = s->kv_heads, .k_dim = s->k_dim, .v_dim = s->v_dim, .window = s->window, .v_in_k = s->v_in_k};
    int state = program_group(p, &group);
    for (int i = 0; i < 3; i++) {
        struct weight w = tiny_weight("unused", STORAGE_F32, 1, p->buffers[into[i]].width, 1);
        int id = program_weight(p, &w);
        struct op *op = program_add(p, OP_EMBED);
        op->y = into[i], op->w = id;
    }
    struct op *op = program_add(p, OP_STORE);
    op->x = k, op->z = v, op->group = state;
    op->layer = 0;
    op = program_add(p, OP_ATTEND);
    op->x = q, op->y = r->y, op->group = state, op->layer = 0, op->heads = s->heads, op->head_dim = s->k_dim;
    op->scale = (s->sharp != 0 ? s->sharp : 1) * 2 / sqrtf((float)s->k_dim), op->cap = s->cap;
    program_output(p, "y", r->y);
    r->blocks = (s->cached + s->rows) / BLOCK_TOKENS + 1;
    r->table = arena_array(&r->arena, (size_t)r->blocks, sizeof *r->table);
    for (int64_t i = 0; i < r->blocks; i++)
        r->table[i] = (int32_t)(i * (r->blocks % 29 ? 29 : 31) % r->blocks);
}

/* The rows before `cut` in one step, the others in a second one. */
static void compute_cut(const struct run *r, const struct backend *backend, enum storage k_type, enum storage v_type, int threads, int cut, float *out)
{
    const struct attention *s = r->shape;
    struct compile_options o = {.threads = threads, .max_rows = MOST_ROWS, .max_wanted = MOST_ROWS, .max_sequences = 1, .max_context = s->cached + s->rows,
                                .k_type = k_type, .v_type = v_type};
    struct compile_sizes sizes;
    struct compiled *c;
    struct error err = {0};
    cr_assert_eq(backend->sizes(&r->p, &o, &sizes, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(backend->compile(&c, &r->p, &o, &err), STATUS_OK, "%s", err.text);
    size_t bytes = (sizes.block_bytes[0] * (size_t)r->blocks + 63) / 64 * 64;
    struct state_memory state = {.pool = {aligned_alloc(64, bytes)}};
    memset(state.pool[0], 0xFF, bytes); /* NaN everywhere: what was never stored must not be used */
    int values = s->kv_heads * (s->k_dim + (s->v_in_k ? 0 : s->v_dim)), wide = (s->heads + s->kv_heads) * (s->k_dim + s->v_dim);
    float *token = malloc((size_t)values * sizeof *token), *embeddings = malloc((size_t)(s->rows * wide) * sizeof *embeddings);
    tiny_seed = 88172645463325252u + (uint64_t)s->heads * 1009 + (uint64_t)s->cached;
    int32_t *table = malloc((size_t)r->blocks * sizeof *table);
    for (int64_t i = 0; i < r->blocks; i++) /* blocks that no row sees may be gone */
        table[i] = s->window && (i + 1) * BLOCK_TOKENS <= s->cached + 1 - s->window ? -1 : r->table[i];
    for (int t = 0; t < s->cached; t++) {
        for (int i = 0; i < values; i++)
            token[i] = s->all != 0 ? s->all : tiny_float() * (i % 37 == 5 ? 4.0f : 1.0f);
        if (table[t / BLOCK_TOKENS] >= 0)
            backend->write_state(c, &state, 0, table[t / BLOCK_TOKENS], t % BLOCK_TOKENS, 1, token, NULL);
    }
    for (int i = 0; i < s->rows * wide; i++)
        embeddings[i] = s->poison && i / wide == s->poison && i % wide >= s->poison_from ? NAN : s->all != 0 ? s->all : tiny_float();
    struct batch_row row[MOST_ROWS];
    int32_t wanted[MOST_ROWS];
    for (int i = 0; i < s->rows; i++) {
        row[i] = (struct batch_row){-1, embeddings + i * wide, s->cached + i, 0};
        wanted[i] = i;
    }
    const int32_t *blocks[1] = {table};
    for (int from = 0, end; from < s->rows; from = end) {
        end = from < cut ? cut : s->rows;
        struct batch_sequence q = {.rows = end - from, .cached = s->cached + from, .blocks = blocks, .adapter = -1};
        struct batch b = {.rows = q.rows, .sequences = 1, .wanted = q.rows, .row = row + from, .sequence = &q, .wanted_rows = wanted};
        const float *result;
        cr_assert_eq(backend->step(c, &b, &state, r->y, &result, &err), STATUS_OK, "%s", err.text);
        int64_t wide_out = s->heads * s->v_dim;
        memcpy(out + from * wide_out, result, (size_t)(q.rows * wide_out) * sizeof *out);
    }
    backend->free(c);
    free(state.pool[0]), free(token), free(embeddings), free(table);
}

static void compute(const struct run *r, const struct backend *backend, enum storage k_type, enum storage v_type, int threads, float *out)
{
    compute_cut(r, backend, k_type, v_type, threads, 0, out);
}

static double bound(const struct attention *s, enum storage k_type, enum storage v_type, const char *isa)
{
    if (s->sharp != 0)
        return 5e-3;
    if (strcmp(isa, "avx512-vnni") && strcmp(isa, "amx"))
        return 2e-5;
    if (!strcmp(isa, "amx") && s->rows >= MANY_FROM && !s->v_in_k && k_type != STORAGE_F32 && v_type != STORAGE_F32)
        return 3e-3;
    bool k_scaled = k_type == STORAGE_Q8_0 || k_type == STORAGE_Q4_0, v_scaled = v_type == STORAGE_Q8_0 || v_type == STORAGE_Q4_0;
    bool half = k_type == STORAGE_F16 || v_type == STORAGE_F16;
    return k_scaled ? 6e-3 : k_type == STORAGE_BF16 || v_type == STORAGE_BF16 ? 4e-3 : v_scaled || (half && s->rows >= MANY_FROM && !s->v_in_k) ? 1e-4 : 2e-5;
}

static void check(const struct attention *s, enum storage k_type, enum storage v_type)
{
    int64_t count = (int64_t)s->rows * s->heads * s->v_dim;
    size_t size = (size_t)count * sizeof(float);
    float *expected = malloc(size), *got = malloc(size), *again = malloc(size);
    struct run r;
    build(&r, s);
    compute(&r, &backend_reference, k_type, v_type, 2, expected);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        if (!tiny_isa(names[n]))
            continue;
        setenv("INGOT_ISA", names[n], 1);
        compute(&r, backend_cpu(NULL), k_type, v_type, 1, got);
        double error = tiny_error(got, expected, count);
        cr_assert_lt(error, bound(s, k_type, v_type, names[n]), "%s, KV %s,%s, %d heads over %d of %d and %d, window %d, cap %g, %d rows behind %d: %g", names[n],
                     storage_types[k_type].name, storage_types[v_type].name, s->heads, s->kv_heads, s->k_dim, s->v_dim, s->window, (double)s->cap, s->rows,
                     s->cached, error);
        for (int threads = 2; threads <= 5; threads += 3) {
            compute(&r, backend_cpu(NULL), k_type, v_type, threads, again);
            cr_assert_eq(memcmp(got, again, size), 0, "%s, KV %s,%s, %d rows behind %d: %d threads differ from one", names[n], storage_types[k_type].name,
                         storage_types[v_type].name, s->rows, s->cached, threads);
        }
    }
    free(expected), free(got), free(again);
    arena_free(&r.arena);
}

Test(attend, types_and_shapes)
{
    static const struct attention shapes[] = {
        {.heads = 9, .kv_heads = 3, .k_dim = 64, .v_dim = 64, .cached = 300, .rows = 1},
        {.heads = 4, .kv_heads = 4, .k_dim = 24, .v_dim = 40, .cached = 37, .rows = 1},
        {.heads = 8, .kv_heads = 1, .k_dim = 128, .v_dim = 128, .cached = 129, .rows = 3, .cap = 5},
        {.heads = 14, .kv_heads = 2, .k_dim = 80, .v_dim = 80, .window = 50, .cached = 200, .rows = 17},
        {.heads = 30, .kv_heads = 1, .k_dim = 33, .v_dim = 7, .cached = 5, .rows = 2},
        {.heads = 5, .kv_heads = 1, .k_dim = 64, .v_dim = 96, .cached = 0, .rows = 40},
        {.heads = 4, .kv_heads = 1, .k_dim = 72, .v_dim = 48, .v_in_k = true, .cached = 45, .rows = 5},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < KVS; k++) {
            check(&shapes[i], kvs[k], kvs[k]);
            if (!shapes[i].v_in_k)
                check(&shapes[i], kvs[k], kvs[(k + 1 + (int)i) % KVS]);
        }
}

/* Prompts: the head sizes of models, groups of all sizes, tiles of queries that are half full or hold several groups. */
Test(attend, prompts)
{
    static const struct attention shapes[] = {
        {.heads = 8, .kv_heads = 1, .k_dim = 64, .v_dim = 64, .cached = 250, .rows = 48},
        {.heads = 2, .kv_heads = 2, .k_dim = 80, .v_dim = 80, .cached = 500, .rows = 47},
        {.heads = 4, .kv_heads = 2, .k_dim = 96, .v_dim = 96, .window = 300, .cached = 700, .rows = 31},
        {.heads = 6, .kv_heads = 2, .k_dim = 128, .v_dim = 128, .cached = 255, .rows = 33, .cap = 3},
        {.heads = 5, .kv_heads = 1, .k_dim = 192, .v_dim = 128, .cached = 129, .rows = 12},
        {.heads = 12, .kv_heads = 2, .k_dim = 256, .v_dim = 256, .window = 20, .cached = 600, .rows = 48, .cap = 8},
        {.heads = 7, .kv_heads = 1, .k_dim = 16, .v_dim = 33, .cached = 31, .rows = 6},
        {.heads = 17, .kv_heads = 1, .k_dim = 31, .v_dim = 200, .cached = 16, .rows = 19},
        {.heads = 2, .kv_heads = 1, .k_dim = 257, .v_dim = 64, .cached = 60, .rows = 9},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < KVS; k++)
            for (int v = 0; v < KVS; v += k == v ? KVS : (int)(1 + (i + (size_t)k) % 3)) /* every K, some V, their own when it is met */
                check(&shapes[i], kvs[k], kvs[v]);
}

/* An error of a score is one of a weight, and grows with the score: half floats have to be multiplied as they are. */
Test(attend, large_scores)
{
    static const struct attention shapes[] = {
        {.heads = 8, .kv_heads = 2, .k_dim = 64, .v_dim = 64, .cached = 300, .rows = 40, .sharp = 40},
        {.heads = 3, .kv_heads = 1, .k_dim = 80, .v_dim = 80, .cached = 300, .rows = 40, .sharp = 40},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check(&shapes[i], STORAGE_F16, STORAGE_F16);
}

/* Several pieces, and more than one run, with and without a window that begins inside one. */
Test(attend, pieces_and_runs)
{
    static const struct attention shapes[] = {
        {.heads = 3, .kv_heads = 1, .k_dim = 32, .v_dim = 32, .cached = 1200, .rows = 1},
        {.heads = 2, .kv_heads = 1, .k_dim = 32, .v_dim = 32, .cached = 4500, .rows = 1},
        {.heads = 4, .kv_heads = 2, .k_dim = 16, .v_dim = 16, .cached = 8324, .rows = 7, .window = 5000},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < KVS; k += 2) {
            check(&shapes[i], kvs[k], kvs[k]);
            check(&shapes[i], STORAGE_Q8_0, kvs[k]);
        }
}

/* However a prompt is cut, and however many threads share it, a row gets the same bits. */
Test(attend, cuts)
{
    static const struct attention shapes[] = {
        {.heads = 32, .kv_heads = 4, .k_dim = 64, .v_dim = 64, .cached = 0, .rows = 48},
        {.heads = 4, .kv_heads = 1, .k_dim = 128, .v_dim = 80, .cached = 243, .rows = 45},
        {.heads = 6, .kv_heads = 2, .k_dim = 40, .v_dim = 56, .cached = 4090, .rows = 31, .window = 70},
    };
    static const int cuts[] = {6, 7, 16, 24};
    float *whole = malloc(MOST_ROWS * 32 * 128 * sizeof *whole), *again = malloc(MOST_ROWS * 32 * 128 * sizeof *again);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            if (!tiny_isa(names[n]))
                continue;
            setenv("INGOT_ISA", names[n], 1);
            const struct attention *s = &shapes[i];
            struct run r;
            build(&r, s);
            for (int k = 0; k < KVS; k++) {
                compute(&r, backend_cpu(NULL), kvs[k], kvs[k], 1, whole);
                for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
                    compute_cut(&r, backend_cpu(NULL), kvs[k], kvs[k], c % 2 ? 1 : 5, cuts[c], again);
                    cr_assert_eq(memcmp(whole, again, (size_t)(s->rows * s->heads * s->v_dim) * sizeof *whole), 0, "%s, KV %s, %d rows behind %d, cut at %d", names[n],
                                 storage_types[kvs[k]].name, s->rows, s->cached, cuts[c]);
                }
            }
            arena_free(&r.arena);
        }
    free(whole), free(again);
}

/* Keys along the query, values and weights all alike: sums of products of integers are as large as they can become. */
Test(attend, largest_sums)
{
    static const struct attention shapes[] = {
        {.heads = 4, .kv_heads = 1, .k_dim = 64, .v_dim = 64, .cached = 100, .rows = 40, .all = 1.9990234f},
        {.heads = 3, .kv_heads = 1, .k_dim = 128, .v_dim = 48, .cached = 256, .rows = 24, .all = -0.017578125f},
        {.heads = 2, .kv_heads = 2, .k_dim = 16, .v_dim = 16, .cached = 0, .rows = 30, .all = 3e4f},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < KVS; k++)
            if (kvs[k] != STORAGE_F8_E4M3 || shapes[i].all < 448)
                check(&shapes[i], kvs[k], kvs[k]);
}

/* NaN is seen by whoever sees its row. Queries, keys and values begin alike, so what is behind the first two is in values only. */
Test(attend, nan_stays)
{
    static const struct attention shapes[] = {
        {.heads = 4, .kv_heads = 2, .k_dim = 64, .v_dim = 64, .cached = 20, .rows = 40, .poison = 20},
        {.heads = 2, .kv_heads = 2, .k_dim = 32, .v_dim = 64, .cached = 20, .rows = 40, .poison = 20, .poison_from = 64},
    };
    float *got = malloc(MOST_ROWS * 256 * sizeof *got);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int k = 0; k < 6 && tiny_isa(names[n]); k++) { /* F32, F16, BF16 with both shapes */
            const struct attention *s = &shapes[k / 3];
            struct run r;
            build(&r, s);
            setenv("INGOT_ISA", names[n], 1);
            compute(&r, backend_cpu(NULL), kvs[k % 3], kvs[k % 3], 1, got);
            for (int row = 0; row < s->rows; row++)
                for (int head = 0; head < s->heads; head++) {
                    bool seen = row >= s->poison && (!s->poison_from || head == s->heads - 1);
                    cr_assert(!seen || isnan(got[(row * s->heads + head) * s->v_dim]), "%s, KV %s, row %d, head %d", names[n], storage_types[kvs[k % 3]].name, row, head);
                }
            arena_free(&r.arena);
        }
    free(got);
}
