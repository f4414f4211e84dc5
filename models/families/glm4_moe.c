/* GLM 4.5 and later: the first layers plain, then experts chosen by sigmoids and a bias, within groups, beside one that all rows go
 * to. Layers behind the last (multi-token prediction) are not read. */
#include "models/decoder.h"

extern const struct weight_name family_glm4_moe_names[];
extern const int family_glm4_moe_name_count;
const struct weight_name family_glm4_moe_names[DECODER_ROLES] = {
    DECODER_NAMES(ROWS_ALIKE, ROWS_ALIKE, "blk.%d.post_attention_norm.weight"),
    EXPERT_NAMES("mlp", "gate_proj", "up_proj", "down_proj"),
    [Q_NORM] = {"layers.%d.self_attn.q_norm.weight", "blk.%d.attn_q_norm.weight", true, ROWS_ALIKE},
    [K_NORM] = {"layers.%d.self_attn.k_norm.weight", "blk.%d.attn_k_norm.weight", true, ROWS_ALIKE},
    [ROUTER_BIAS] = {"layers.%d.mlp.gate.e_score_correction_bias", "blk.%d.exp_probs_b.bias", true, ROWS_ALIKE},
    [SHARED_GATE] = {"layers.%d.mlp.shared_experts.gate_proj.weight", "blk.%d.ffn_gate_shexp.weight", true, ROWS_ALIKE},
    [SHARED_UP] = {"layers.%d.mlp.shared_experts.up_proj.weight", "blk.%d.ffn_up_shexp.weight", true, ROWS_ALIKE},
    [SHARED_DOWN] = {"layers.%d.mlp.shared_experts.down_proj.weight", "blk.%d.ffn_down_shexp.weight", true, ROWS_ALIKE},
};
const int family_glm4_moe_name_count = DECODER_ROLES;

enum status family_glm4_moe(struct model *m, struct error *err)
{
    struct config *c = &m->config;
    bool gguf = m->container == MODEL_GGUF;
    struct decoder d = {.names = family_glm4_moe_names, .no_output_bias = true, .expert_width = c->expert_width, .shared_width = c->expert_width * c->shared_experts};
    struct binder b;
    binder_init(&b, m, &family_glm4_moe_names[EMBEDDING], err);
    d.qk_norm = gguf ? binder_has(&b, &family_glm4_moe_names[Q_NORM], 0) : c->qk_norm;
    d.route = decoder_route(c, gguf || c->norm_chosen);
    d.route.sigmoid = true;
    d.route.scale = (float)c->expert_scale;
    if (c->expert_groups > 1) {
        d.route.groups = (int)c->expert_groups;
        d.route.groups_chosen = (int)c->expert_groups_chosen;
        d.route.group_best = 2;
    }
    if (gguf) /* counts the layers that predict further tokens */
        c->layers -= c->predict_layers < c->layers ? c->predict_layers : 0;
    return decoder_write(m, &d, err);
}
