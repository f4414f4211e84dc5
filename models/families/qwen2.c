/* Qwen 1.5, 2 and 2.5: llama with biases on queries, keys and values, and a window only where use_sliding_window says so. Their
 * mixtures have an expert that all rows go to, times a sigmoid of its own, and weights that need not sum up to 1. */
#include "models/decoder.h"

extern const struct weight_name family_qwen2_names[];
extern const int family_qwen2_name_count;
const struct weight_name family_qwen2_names[DECODER_ROLES] = {
    DECODER_NAMES(ROWS_ALIKE, ROWS_ALIKE, "blk.%d.ffn_norm.weight"),
    EXPERT_NAMES("mlp", "gate_proj", "up_proj", "down_proj"),
    [SHARED_ROUTER] = {"layers.%d.mlp.shared_expert_gate.weight", "blk.%d.ffn_gate_inp_shexp.weight", true, ROWS_ALIKE},
    [SHARED_GATE] = {"layers.%d.mlp.shared_expert.gate_proj.weight", "blk.%d.ffn_gate_shexp.weight", true, ROWS_ALIKE},
    [SHARED_UP] = {"layers.%d.mlp.shared_expert.up_proj.weight", "blk.%d.ffn_up_shexp.weight", true, ROWS_ALIKE},
    [SHARED_DOWN] = {"layers.%d.mlp.shared_expert.down_proj.weight", "blk.%d.ffn_down_shexp.weight", true, ROWS_ALIKE},
};
const int family_qwen2_name_count = DECODER_ROLES;

enum status family_qwen2(struct model *m, struct error *err)
{
    const struct config *c = &m->config;
    struct decoder d = {.names = family_qwen2_names, .qkv_bias = c->qkv_bias, .no_output_bias = true};
    if (c->experts) { /* GGUF has no key for norm_chosen, and says false by that; older files have none for the shared width */
        d.route = decoder_route(c, c->norm_chosen);
        d.expert_width = c->expert_width;
        d.shared_width = c->shared_width ? c->shared_width : c->intermediate;
    }
    return decoder_write(m, &d, err);
}
