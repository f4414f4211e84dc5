/* Private to models: decoders whose layers are norm, attention, norm, feed-forward network (one, or experts). A family says by a struct
 * decoder how its layers are; what its checkpoint calls them stands in its table of names. */
#ifndef MODELS_DECODER_H
#define MODELS_DECODER_H

#include "models/private.h"

enum decoder_role {
    EMBEDDING, OUTPUT_NORM, OUTPUT,
    ATTN_NORM, Q, K, V, O, Q_BIAS, K_BIAS, V_BIAS, O_BIAS, Q_NORM, K_NORM,
    MLP_NORM, GATE, UP, DOWN, GATE_BIAS, UP_BIAS, DOWN_BIAS,
    ROUTER, ROUTER_BIAS,             /* scores of experts; what is added for choosing */
    EXPERT_GATE, EXPERT_UP, EXPERT_DOWN,
    EXPERTS_GATE, EXPERTS_UP, EXPERTS_DOWN, /* the same where config.json's layout, too, has one tensor for all experts, gate and up as one */
    Q_DOWN, Q_DOWN_NORM, Q_UP, KV_DOWN, KV_DOWN_NORM, KV_UP, Q_DOWN_BIAS, KV_DOWN_BIAS, /* latent attention */
    K_UP, V_UP,                      /* the two parts of KV_UP where GGUF has them apart: [heads][latent, nope] and [heads][v, latent] */
    SHARED_ROUTER, SHARED_GATE, SHARED_UP, SHARED_DOWN, /* an expert that all rows go to, times a sigmoid of its own score where there is one */
    MIX_IN, MIX_GATE, MIX_DT, MIX_BETA, MIX_GROUPED, MIX_GATES, /* recurrent layers, see recurrent.c: projections; by key heads all of one, time steps and betas of one */
    MIX_BIAS, MIX_CONV, MIX_CONV_BIAS, MIX_DECAY, MIX_DT_BIAS, MIX_SKIP, MIX_NORM, MIX_OUT, MIX_OUT_BIAS,
    DECODER_ROLES
};

/* Names that nearly all families share, less and less of them. rows, kv_rows: of Q and K, see struct weight_name. mlp_norm: GGUF's. */
#define DECODER_NAMES(rows_, kv_rows_, mlp_norm)                                              \
    BLOCK_NAMES(rows_, kv_rows_, mlp_norm),                                                   \
    [GATE] = {"layers.%d.mlp.gate_proj.weight", "blk.%d.ffn_gate.weight", true, ROWS_ALIKE},  \
    [UP] = {"layers.%d.mlp.up_proj.weight", "blk.%d.ffn_up.weight", true, ROWS_ALIKE},        \
    [DOWN] = {"layers.%d.mlp.down_proj.weight", "blk.%d.ffn_down.weight", true, ROWS_ALIKE},  \
    [GATE_BIAS] = {"layers.%d.mlp.gate_proj.bias", "blk.%d.ffn_gate.bias", true, ROWS_ALIKE}, \
    [UP_BIAS] = {"layers.%d.mlp.up_proj.bias", "blk.%d.ffn_up.bias", true, ROWS_ALIKE},       \
    [DOWN_BIAS] = {"layers.%d.mlp.down_proj.bias", "blk.%d.ffn_down.bias", true, ROWS_ALIKE}
#define BLOCK_NAMES(rows_, kv_rows_, mlp_norm)                                                       \
    HEAD_NAMES(rows_, kv_rows_),                                                                     \
    [OUTPUT_NORM] = {"norm.weight", "output_norm.weight", true, ROWS_ALIKE},                         \
    [ATTN_NORM] = {"layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight", true, ROWS_ALIKE}, \
    [O] = {"layers.%d.self_attn.o_proj.weight", "blk.%d.attn_output.weight", true, ROWS_ALIKE},      \
    [O_BIAS] = {"layers.%d.self_attn.o_proj.bias", "blk.%d.attn_output.bias", true, ROWS_ALIKE},     \
    [MLP_NORM] = {"layers.%d.post_attention_layernorm.weight", mlp_norm, true, ROWS_ALIKE}
#define HEAD_NAMES(rows_, kv_rows_)                                                        \
    [EMBEDDING] = {"embed_tokens.weight", "token_embd.weight", true, ROWS_ALIKE},          \
    [OUTPUT] = {"lm_head.weight", "output.weight", false, ROWS_ALIKE},                     \
    [Q] = {"layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q.weight", true, rows_},      \
    [K] = {"layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight", true, kv_rows_},   \
    [V] = {"layers.%d.self_attn.v_proj.weight", "blk.%d.attn_v.weight", true, ROWS_ALIKE}, \
    [Q_BIAS] = {"layers.%d.self_attn.q_proj.bias", "blk.%d.attn_q.bias", true, rows_},     \
    [K_BIAS] = {"layers.%d.self_attn.k_proj.bias", "blk.%d.attn_k.bias", true, kv_rows_},  \
    [V_BIAS] = {"layers.%d.self_attn.v_proj.bias", "blk.%d.attn_v.bias", true, ROWS_ALIKE}

/* block: "mlp", or what else config.json's layout calls it; gate, up, down: of one expert. */
#define EXPERT_NAMES(block, gate, up, down)                                                                                     \
    [ROUTER] = {"layers.%d." block ".gate.weight", "blk.%d.ffn_gate_inp.weight", true, ROWS_ALIKE},                              \
    [EXPERT_GATE] = {"layers.%d." block ".experts.%d." gate ".weight", "blk.%d.ffn_gate_exps.weight", true, ROWS_ALIKE},          \
    [EXPERT_UP] = {"layers.%d." block ".experts.%d." up ".weight", "blk.%d.ffn_up_exps.weight", true, ROWS_ALIKE},                \
    [EXPERT_DOWN] = {"layers.%d." block ".experts.%d." down ".weight", "blk.%d.ffn_down_exps.weight", true, ROWS_ALIKE},          \
    STACK_NAMES("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
#define STACK_NAMES(gate_up, down)                                                                                              \
    [EXPERTS_GATE] = {"layers.%d." gate_up, "blk.%d.ffn_gate_exps.weight", true, ROWS_FIRST_HALF},                                \
    [EXPERTS_UP] = {"layers.%d." gate_up, "blk.%d.ffn_up_exps.weight", true, ROWS_SECOND_HALF},                                   \
    [EXPERTS_DOWN] = {"layers.%d." down, "blk.%d.ffn_down_exps.weight", true, ROWS_ALIKE}

/* block: what config.json's layout calls a layer's Mamba 2. */
#define MAMBA2_NAMES(block)                                                                                    \
    [MIX_IN] = {"layers.%d." block ".in_proj.weight", "blk.%d.ssm_in.weight", true, ROWS_ALIKE},                \
    [MIX_BIAS] = {"layers.%d." block ".in_proj.bias", "blk.%d.ssm_in.bias", true, ROWS_ALIKE},                  \
    [MIX_CONV] = {"layers.%d." block ".conv1d.weight", "blk.%d.ssm_conv1d.weight", true, ROWS_ALIKE},           \
    [MIX_CONV_BIAS] = {"layers.%d." block ".conv1d.bias", "blk.%d.ssm_conv1d.bias", true, ROWS_ALIKE},          \
    [MIX_DECAY] = {"layers.%d." block ".A_log", "blk.%d.ssm_a", true, ROWS_ALIKE},                              \
    [MIX_DT_BIAS] = {"layers.%d." block ".dt_bias", "blk.%d.ssm_dt.bias", true, ROWS_ALIKE},                    \
    [MIX_SKIP] = {"layers.%d." block ".D", "blk.%d.ssm_d", true, ROWS_ALIKE},                                   \
    [MIX_NORM] = {"layers.%d." block ".norm.weight", "blk.%d.ssm_norm.weight", true, ROWS_ALIKE},               \
    [MIX_OUT] = {"layers.%d." block ".out_proj.weight", "blk.%d.ssm_out.weight", true, ROWS_ALIKE},             \
    [MIX_OUT_BIAS] = {"layers.%d." block ".out_proj.bias", "blk.%d.ssm_out.bias", true, ROWS_ALIKE}

struct decoder {
    const struct weight_name *names; /* [DECODER_ROLES]; roles that the family lacks are empty */
    bool qkv_bias;         /* queries, keys and values have biases in config.json's layout, whatever its switches say */
    bool no_output_bias;   /* attention's output has none, whatever they say */
    bool latent;           /* attention over a latent vector: see latent.c */
    bool gated;            /* queries come with gates, head by head, whose sigmoids the heads' results are multiplied by */
    enum { MIXER_NONE, MIXER_MAMBA2, MIXER_DELTA, MIXER_SHORT_CONV } recurrent; /* what layers with a MIX_CONV are */
    bool log_decay;        /* MIX_DECAY holds logarithms of what GGUF has as it is used */
    bool tiled;            /* value heads go by key heads h % key_heads */
    float norm_offset;     /* of the norms' weights, a recurrent layer's own excepted */
    bool qk_norm;          /* each head of queries and keys is normalised */
    float embedding_scale, attention_scale, residual_scale, logits_scale; /* 0: 1, for attention 1 / sqrt(head_dim) */
    struct expert_route route;    /* experts 0: none. Layers without a router have a plain network */
    int64_t expert_width, shared_width; /* inner values of an expert; 0: there is no shared one */
};

/* The route of a mixture of experts as configurations have it: softmax, no groups. */
struct expert_route decoder_route(const struct config *c, bool normalised);

/* Binds all weights and writes the program. */
enum status decoder_write(struct model *m, const struct decoder *d, struct error *err);

#endif
