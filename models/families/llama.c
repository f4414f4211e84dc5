/* Llama 1-3, TinyLlama, SmolLM2, Mistral: RMS norm, grouped queries, rotary embedding, gated feed-forward; with the switches
 * of their configurations (tied embeddings, biases, head_dim, window). */
#include <math.h>

#include "models/private.h"

enum role { EMBEDDING, OUTPUT_NORM, OUTPUT, ATTN_NORM, Q, K, V, O, Q_BIAS, K_BIAS, V_BIAS, O_BIAS, MLP_NORM, GATE, UP, DOWN, GATE_BIAS, UP_BIAS, DOWN_BIAS };

extern const struct weight_name family_llama_names[];
extern const int family_llama_name_count;
const struct weight_name family_llama_names[] = {
    [EMBEDDING] = {"embed_tokens.weight", "token_embd.weight", true, ROWS_ALIKE},
    [OUTPUT_NORM] = {"norm.weight", "output_norm.weight", true, ROWS_ALIKE},
    [OUTPUT] = {"lm_head.weight", "output.weight", false, ROWS_ALIKE},
    [ATTN_NORM] = {"layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight", true, ROWS_ALIKE},
    [Q] = {"layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q.weight", true, ROWS_OF_HEADS},
    [K] = {"layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight", true, ROWS_OF_KV_HEADS},
    [V] = {"layers.%d.self_attn.v_proj.weight", "blk.%d.attn_v.weight", true, ROWS_ALIKE},
    [O] = {"layers.%d.self_attn.o_proj.weight", "blk.%d.attn_output.weight", true, ROWS_ALIKE},
    [Q_BIAS] = {"layers.%d.self_attn.q_proj.bias", "blk.%d.attn_q.bias", true, ROWS_OF_HEADS},
    [K_BIAS] = {"layers.%d.self_attn.k_proj.bias", "blk.%d.attn_k.bias", true, ROWS_OF_KV_HEADS},
    [V_BIAS] = {"layers.%d.self_attn.v_proj.bias", "blk.%d.attn_v.bias", true, ROWS_ALIKE},
    [O_BIAS] = {"layers.%d.self_attn.o_proj.bias", "blk.%d.attn_output.bias", true, ROWS_ALIKE},
    [MLP_NORM] = {"layers.%d.post_attention_layernorm.weight", "blk.%d.ffn_norm.weight", true, ROWS_ALIKE},
    [GATE] = {"layers.%d.mlp.gate_proj.weight", "blk.%d.ffn_gate.weight", true, ROWS_ALIKE},
    [UP] = {"layers.%d.mlp.up_proj.weight", "blk.%d.ffn_up.weight", true, ROWS_ALIKE},
    [DOWN] = {"layers.%d.mlp.down_proj.weight", "blk.%d.ffn_down.weight", true, ROWS_ALIKE},
    [GATE_BIAS] = {"layers.%d.mlp.gate_proj.bias", "blk.%d.ffn_gate.bias", true, ROWS_ALIKE},
    [UP_BIAS] = {"layers.%d.mlp.up_proj.bias", "blk.%d.ffn_up.bias", true, ROWS_ALIKE},
    [DOWN_BIAS] = {"layers.%d.mlp.down_proj.bias", "blk.%d.ffn_down.bias", true, ROWS_ALIKE},
};
const int family_llama_name_count = sizeof family_llama_names / sizeof *family_llama_names;

static void norm(struct program *p, int x, int w, int y, double epsilon)
{
    struct op *op = program_add(p, OP_NORM);
    op->x = x;
    op->w = w;
    op->y = y;
    op->epsilon = (float)epsilon;
}

static void linear(struct program *p, int x, int w, int b, int y)
{
    struct op *op = program_add(p, OP_LINEAR);
    op->x = x;
    op->w = w;
    op->b = b;
    op->y = y;
}

static void add(struct program *p, int x, int z)
{
    struct op *op = program_add(p, OP_ADD);
    op->x = op->y = x;
    op->z = z;
}

static void turn(struct program *p, int x, int rope, int64_t heads, int64_t head_dim)
{
    struct op *op = program_add(p, OP_ROPE);
    op->x = x;
    op->rope = rope;
    op->heads = (int)heads;
    op->head_dim = (int)head_dim;
}

/* Buffers that all layers share. */
struct buffers {
    int x, normed, q, k, v, attended, update, gate, up; /* [rows, ...] */
};

static void attention(struct binder *b, const struct buffers *f, int layer, int rope, int group)
{
    const struct config *c = &b->m->config;
    struct program *p = &b->m->program;
    int64_t q_out = c->heads * c->head_dim, kv_out = c->kv_heads * c->head_dim;
    /* GGUF says "no bias" by not having the tensor, config.json by a switch */
    bool gguf = b->m->container == MODEL_GGUF, bias = gguf || c->attention_bias;
#define BIAS(role, n) (bias ? weight_bind(b, &family_llama_names[role], layer, 1, n, gguf) : -1)
    norm(p, f->x, weight_bind(b, &family_llama_names[ATTN_NORM], layer, 1, c->hidden, false), f->normed, c->norm_epsilon);
    linear(p, f->normed, weight_bind(b, &family_llama_names[Q], layer, q_out, c->hidden, false), BIAS(Q_BIAS, q_out), f->q);   /* [rows, heads * head_dim] */
    linear(p, f->normed, weight_bind(b, &family_llama_names[K], layer, kv_out, c->hidden, false), BIAS(K_BIAS, kv_out), f->k); /* [rows, kv_heads * head_dim] */
    linear(p, f->normed, weight_bind(b, &family_llama_names[V], layer, kv_out, c->hidden, false), BIAS(V_BIAS, kv_out), f->v);
    turn(p, f->q, rope, c->heads, c->head_dim);
    turn(p, f->k, rope, c->kv_heads, c->head_dim);
    struct op *store = program_add(p, OP_STORE);
    store->x = f->k;
    store->z = f->v;
    store->group = group;
    store->layer = layer;
    struct op *attend = program_add(p, OP_ATTEND);
    attend->x = f->q;
    attend->y = f->attended;
    attend->group = group;
    attend->layer = layer;
    attend->heads = (int)c->heads;
    attend->head_dim = (int)c->head_dim;
    attend->scale = (float)(1 / sqrt((double)c->head_dim));
    linear(p, f->attended, weight_bind(b, &family_llama_names[O], layer, c->hidden, q_out, false), BIAS(O_BIAS, c->hidden), f->update);
    add(p, f->x, f->update);
#undef BIAS
}

static void feed_forward(struct binder *b, const struct buffers *f, int layer)
{
    const struct config *c = &b->m->config;
    struct program *p = &b->m->program;
    bool gguf = b->m->container == MODEL_GGUF, bias = gguf || c->mlp_bias;
#define BIAS(role, n) (bias ? weight_bind(b, &family_llama_names[role], layer, 1, n, gguf) : -1)
    norm(p, f->x, weight_bind(b, &family_llama_names[MLP_NORM], layer, 1, c->hidden, false), f->normed, c->norm_epsilon);
    linear(p, f->normed, weight_bind(b, &family_llama_names[GATE], layer, c->intermediate, c->hidden, false), BIAS(GATE_BIAS, c->intermediate), f->gate);
    linear(p, f->normed, weight_bind(b, &family_llama_names[UP], layer, c->intermediate, c->hidden, false), BIAS(UP_BIAS, c->intermediate), f->up);
    struct op *gate = program_add(p, OP_GATE);
    gate->x = gate->y = f->gate;
    gate->z = f->up;
    gate->activation = c->activation;
    linear(p, f->gate, weight_bind(b, &family_llama_names[DOWN], layer, c->hidden, c->intermediate, false), BIAS(DOWN_BIAS, c->hidden), f->update);
    add(p, f->x, f->update);
#undef BIAS
}

/* Final norm and logits, only for rows that somebody asked for. */
static void head(struct binder *b, const struct buffers *f, int embedding)
{
    const struct config *c = &b->m->config;
    struct program *p = &b->m->program;
    int chosen = program_buffer(p, "chosen", c->hidden, ROWS_WANTED), last = program_buffer(p, "last", c->hidden, ROWS_WANTED);
    int logits = program_buffer(p, "logits", c->vocab, ROWS_WANTED);
    struct op *select = program_add(p, OP_SELECT);
    select->x = f->x;
    select->y = chosen;
    norm(p, chosen, weight_bind(b, &family_llama_names[OUTPUT_NORM], 0, 1, c->hidden, false), last, c->norm_epsilon);
    /* a file that ties its embeddings may still hold the copy; the embedding is what counts then */
    linear(p, last, c->tied ? embedding : weight_bind(b, &family_llama_names[OUTPUT], 0, c->vocab, c->hidden, false), -1, logits);
    program_output(p, "logits", logits);
    program_output(p, "hidden", last);
}

enum status family_llama(struct model *m, struct error *err)
{
    const struct config *c = &m->config;
    struct program *p = &m->program;
    struct binder b;
    binder_init(&b, m, &family_llama_names[EMBEDDING], err);
    p->vocab = c->vocab;
    int64_t q_out = c->heads * c->head_dim, kv_out = c->kv_heads * c->head_dim;
    struct buffers f = {
        program_buffer(p, "x", c->hidden, ROWS_ALL),        program_buffer(p, "normed", c->hidden, ROWS_ALL),
        program_buffer(p, "q", q_out, ROWS_ALL),            program_buffer(p, "k", kv_out, ROWS_ALL),
        program_buffer(p, "v", kv_out, ROWS_ALL),           program_buffer(p, "attended", q_out, ROWS_ALL),
        program_buffer(p, "update", c->hidden, ROWS_ALL),   program_buffer(p, "gate", c->intermediate, ROWS_ALL),
        program_buffer(p, "up", c->intermediate, ROWS_ALL),
    };
    int rope = rope_add(m, err);
    if (rope < 0)
        return err ? err->status : STATUS_BAD_INPUT;
    struct state_group paged = {.kind = STATE_PAGED,
                                .layers = (int)c->layers,
                                .heads = (int)c->kv_heads,
                                .k_dim = (int)c->head_dim,
                                .v_dim = (int)c->head_dim,
                                .window = c->window > INT32_MAX ? 0 : (int)c->window};
    int group = program_group(p, &paged);
    int embedding = weight_bind(&b, &family_llama_names[EMBEDDING], 0, c->vocab, c->hidden, false);
    struct op *embed = program_add(p, OP_EMBED);
    embed->w = embedding;
    embed->y = f.x;
    for (int layer = 0; layer < c->layers && !b.status; layer++) {
        attention(&b, &f, layer, rope, group);
        feed_forward(&b, &f, layer);
    }
    head(&b, &f, embedding);
    return b.status;
}
