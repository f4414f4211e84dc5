/* Qwen 3 Next and Qwen 3.5: gated delta nets, every few layers attention with gates on its heads; norms have weights that 1 is added to
 * (in GGUF it is in them). Next has experts, and projections key head by key head; 3.5 has either kind of network, and in GGUF its
 * value heads in another order. */
#include "models/decoder.h"

#define QWEN3_NEXT_NAMES                                                                                                             \
    DECODER_NAMES(ROWS_ALIKE, ROWS_ALIKE, "blk.%d.post_attention_norm.weight"),                                                      \
    EXPERT_NAMES("mlp", "gate_proj", "up_proj", "down_proj"),                                                                        \
    [Q_NORM] = {"layers.%d.self_attn.q_norm.weight", "blk.%d.attn_q_norm.weight", true, ROWS_ALIKE},                                 \
    [K_NORM] = {"layers.%d.self_attn.k_norm.weight", "blk.%d.attn_k_norm.weight", true, ROWS_ALIKE},                                 \
    [SHARED_ROUTER] = {"layers.%d.mlp.shared_expert_gate.weight", "blk.%d.ffn_gate_inp_shexp.weight", true, ROWS_ALIKE},             \
    [SHARED_GATE] = {"layers.%d.mlp.shared_expert.gate_proj.weight", "blk.%d.ffn_gate_shexp.weight", true, ROWS_ALIKE},              \
    [SHARED_UP] = {"layers.%d.mlp.shared_expert.up_proj.weight", "blk.%d.ffn_up_shexp.weight", true, ROWS_ALIKE},                    \
    [SHARED_DOWN] = {"layers.%d.mlp.shared_expert.down_proj.weight", "blk.%d.ffn_down_shexp.weight", true, ROWS_ALIKE},              \
    [MIX_IN] = {"layers.%d.linear_attn.in_proj_qkv.weight", "blk.%d.attn_qkv.weight", true, ROWS_ALIKE},                             \
    [MIX_GATE] = {"layers.%d.linear_attn.in_proj_z.weight", "blk.%d.attn_gate.weight", true, ROWS_ALIKE},                            \
    [MIX_CONV] = {"layers.%d.linear_attn.conv1d.weight", "blk.%d.ssm_conv1d.weight", true, ROWS_ALIKE},                              \
    [MIX_DECAY] = {"layers.%d.linear_attn.A_log", "blk.%d.ssm_a", true, ROWS_ALIKE},                                                 \
    [MIX_DT_BIAS] = {"layers.%d.linear_attn.dt_bias", "blk.%d.ssm_dt.bias", true, ROWS_ALIKE},                                       \
    [MIX_NORM] = {"layers.%d.linear_attn.norm.weight", "blk.%d.ssm_norm.weight", true, ROWS_ALIKE},                                  \
    [MIX_OUT] = {"layers.%d.linear_attn.out_proj.weight", "blk.%d.ssm_out.weight", true, ROWS_ALIKE}

extern const struct weight_name family_qwen3_next_names[], family_qwen3_5_names[];
extern const int family_qwen3_next_name_count, family_qwen3_5_name_count;
const struct weight_name family_qwen3_next_names[DECODER_ROLES] = {
    QWEN3_NEXT_NAMES,
    [MIX_GROUPED] = {"layers.%d.linear_attn.in_proj_qkvz.weight", "blk.%d.ssm_in.weight", true, ROWS_ALIKE},
    [MIX_GATES] = {"layers.%d.linear_attn.in_proj_ba.weight", "blk.%d.ssm_ba.weight", true, ROWS_ALIKE},
};
const struct weight_name family_qwen3_5_names[DECODER_ROLES] = {
    QWEN3_NEXT_NAMES,
    [MIX_DT] = {"layers.%d.linear_attn.in_proj_a.weight", "blk.%d.ssm_alpha.weight", true, ROWS_ALIKE},
    [MIX_BETA] = {"layers.%d.linear_attn.in_proj_b.weight", "blk.%d.ssm_beta.weight", true, ROWS_ALIKE},
};
const int family_qwen3_next_name_count = DECODER_ROLES, family_qwen3_5_name_count = DECODER_ROLES;

static enum status write_both(struct model *m, const struct weight_name *names, bool tiled, struct error *err)
{
    struct config *c = &m->config;
    bool gguf = m->container == MODEL_GGUF;
    struct decoder d = {.names = names, .recurrent = MIXER_DELTA, .gated = true, .qk_norm = true, .log_decay = !gguf, .norm_offset = gguf ? 0 : 1, .tiled = gguf && tiled};
    if (gguf) /* counts the layers that predict further tokens */
        c->layers -= c->predict_layers < c->layers ? c->predict_layers : 0;
    if (c->experts) { /* GGUF has no key for norm_chosen */
        d.route = decoder_route(c, c->norm_chosen || gguf);
        d.expert_width = c->expert_width;
        d.shared_width = c->shared_width;
    }
    return decoder_write(m, &d, err);
}

enum status family_qwen3_next(struct model *m, struct error *err);
enum status family_qwen3_next(struct model *m, struct error *err) { return write_both(m, family_qwen3_next_names, false, err); }
enum status family_qwen3_5(struct model *m, struct error *err);
enum status family_qwen3_5(struct model *m, struct error *err) { return write_both(m, family_qwen3_5_names, true, err); }
