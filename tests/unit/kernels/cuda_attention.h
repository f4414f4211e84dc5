/* One STORE and ATTEND on a backend, with a cache that holds tokens before. */
#ifndef TESTS_UNIT_KERNELS_CUDA_ATTENTION_H
#define TESTS_UNIT_KERNELS_CUDA_ATTENTION_H

#include "cuda_backend.h"

struct attention {
    int heads, kv_heads, k_dim, v_dim, window, cached, rows;
    int cut; /* rows of a step at most; 0: all in one */
    float cap;
    bool v_in_k, full, turned; /* turned: q and k are normed and roped before */
};
enum { ATTEND_MOST_ROWS = 90, ATTEND_MOST_BLOCKS = 64 };

/* Stores `rows` tokens behind `cached` ones and attends. state: all of them, as they can be read back. */
static inline void attend(const struct backend *b, const struct attention *s, enum storage k_type, enum storage v_type, const float *values, float *out, float *state)
{
    struct arena arena = {0};
    struct program p = {.arena = &arena, .vocab = 1};
    tiny_seed = 88172645463325252u; /* norms are the same each time */
    int q = program_buffer(&p, "q", s->heads * s->k_dim, ROWS_ALL), k = program_buffer(&p, "k", s->kv_heads * s->k_dim, ROWS_ALL);
    int v = program_buffer(&p, "v", s->kv_heads * s->v_dim, ROWS_ALL), into[3] = {q, k, v}, y = program_buffer(&p, "y", s->heads * s->v_dim, ROWS_ALL);
    struct state_group group = {.kind = STATE_PAGED, .layers = 2, .heads = s->kv_heads, .k_dim = s->k_dim, .v_dim = s->v_dim, .window = s->window,
                                .v_in_k = s->v_in_k};
    program_group(&p, &group);
    for (int i = 0; i < 3; i++) {
        struct weight w = tiny_weight("unused", STORAGE_F32, 1, p.buffers[into[i]].width, 1);
        struct op *op = program_add(&p, OP_EMBED);
        op->y = into[i], op->w = program_weight(&p, &w);
    }
    struct op *op;
    static float inverse[8] = {1, 0.5f, 0.25f, 0.1f, 0.05f, 0.02f, 0.01f, 0.005f};
    struct rope rope = {.dims = 16, .interleaved = s->cap > 0, .inverse_frequency = inverse, .magnitude = 1};
    int turn = s->turned ? program_rope(&p, &rope) : -1;
    for (int i = 0; i < 2 && s->turned; i++) {
        op = program_add(&p, OP_NORM);
        op->x = op->y = into[i], op->head_dim = s->k_dim, op->epsilon = 1e-6f, op->centred = s->cap > 0, op->w = tiny_vector(&p, "norm", s->k_dim, 1);
        op = program_add(&p, OP_ROPE);
        op->x = into[i], op->heads = i ? s->kv_heads : s->heads, op->head_dim = s->k_dim, op->rope = turn;
    }
    op = program_add(&p, OP_STORE);
    op->x = k, op->z = v, op->group = 0, op->layer = 1;
    op = program_add(&p, OP_ATTEND);
    op->x = q, op->y = y, op->group = 0, op->layer = 1, op->heads = s->heads, op->head_dim = s->k_dim;
    op->scale = 1 / sqrtf((float)s->k_dim), op->cap = s->cap, op->mask = s->full ? MASK_FULL : MASK_CAUSAL;
    program_output(&p, "y", y);
    struct compile_options o = tiny_options(k_type);
    o.v_type = v_type;
    o.max_rows = o.max_wanted = s->rows; /* buffers end behind the last row */
    o.max_context = ATTEND_MOST_BLOCKS * BLOCK_TOKENS;
    struct compiled *c;
    struct error err = {0};
    cr_assert_eq(b->compile(&c, &p, &o, &err), STATUS_OK, "%s", err.text);
    struct state_memory memory = tiny_state(b, &p, &o, ATTEND_MOST_BLOCKS);
    int wide = (s->heads + s->kv_heads) * (s->k_dim + s->v_dim), per_token = 2 * s->kv_heads * (s->k_dim + (s->v_in_k ? 0 : s->v_dim));
    int32_t table[ATTEND_MOST_BLOCKS];
    for (int i = 0; i < ATTEND_MOST_BLOCKS; i++) /* blocks that no row sees may be gone */
        table[i] = s->window && (i + 1) * BLOCK_TOKENS <= s->cached + 1 - s->window ? -1 : i * 7 % ATTEND_MOST_BLOCKS;
    for (int t = 0; t < s->cached; t++) {
        int32_t block = table[t / BLOCK_TOKENS], slot = t % BLOCK_TOKENS;
        const float *token = values + t % 13 * 29;
        if (block >= 0)
            cr_assert_eq(b->write_state(c, &memory, 0, block, slot, 1, token, &err), STATUS_OK, "%s", err.text);
    }
    struct batch_row row[ATTEND_MOST_ROWS];
    int32_t wanted[ATTEND_MOST_ROWS];
    const int32_t *const blocks[1] = {table};
    for (int at = 0, rows; at < s->rows; at += rows) {
        rows = s->cut && s->cut < s->rows - at ? s->cut : s->rows - at;
        for (int i = 0; i < rows; i++)
            row[i] = (struct batch_row){-1, values + (at + i) * wide, s->cached + at + i, 0}, wanted[i] = i;
        struct batch_sequence sequence = {.rows = rows, .cached = s->cached + at, .blocks = blocks, .adapter = -1};
        struct batch batch = {.rows = rows, .sequences = 1, .wanted = rows, .row = row, .sequence = &sequence, .wanted_rows = wanted};
        const float *result;
        cr_assert_eq(b->step(c, &batch, &memory, y, &result, &err), STATUS_OK, "%s", err.text);
        memcpy(out + at * s->heads * s->v_dim, result, (size_t)(rows * s->heads * s->v_dim) * sizeof *out);
    }
    for (int i = 0; i < s->rows; i++) {
        int32_t t = s->cached + i, block = table[t / BLOCK_TOKENS], slot = t % BLOCK_TOKENS;
        cr_assert_eq(b->read_state(c, &memory, 0, block, slot, 1, state + i * per_token, &err), STATUS_OK, "%s", err.text);
        memset(state + i * per_token, 0, (size_t)(s->kv_heads * s->k_dim) * sizeof *state); /* layer 0 was not stored */
        if (!s->v_in_k)
            memset(state + i * per_token + 2 * s->kv_heads * s->k_dim, 0, (size_t)(s->kv_heads * s->v_dim) * sizeof *state);
    }
    b->free(c);
    b->state_close(&o, &memory);
    arena_free(&arena);
}

#endif
