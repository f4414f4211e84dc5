/* Granite 4: Granite's factors, layers of Mamba 2 and a few of attention (mostly without positions), experts beside one that all rows
 * go to; without experts that one is the network. */
#include "models/decoder.h"

extern const struct weight_name family_granite_hybrid_names[];
extern const int family_granite_hybrid_name_count;
const struct weight_name family_granite_hybrid_names[DECODER_ROLES] = {
    BLOCK_NAMES(ROWS_OF_HEADS, ROWS_OF_KV_HEADS, "blk.%d.ffn_norm.weight"),
    MAMBA2_NAMES("mamba"),
    [GATE] = {"layers.%d.shared_mlp.input_linear.weight", "blk.%d.ffn_gate.weight", true, ROWS_FIRST_HALF},
    [UP] = {"layers.%d.shared_mlp.input_linear.weight", "blk.%d.ffn_up.weight", true, ROWS_SECOND_HALF},
    [DOWN] = {"layers.%d.shared_mlp.output_linear.weight", "blk.%d.ffn_down.weight", true, ROWS_ALIKE},
    [ROUTER] = {"layers.%d.block_sparse_moe.router.layer.weight", "blk.%d.ffn_gate_inp.weight", true, ROWS_ALIKE},
    STACK_NAMES("block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight"),
    [SHARED_GATE] = {"layers.%d.shared_mlp.input_linear.weight", "blk.%d.ffn_gate_shexp.weight", true, ROWS_FIRST_HALF},
    [SHARED_UP] = {"layers.%d.shared_mlp.input_linear.weight", "blk.%d.ffn_up_shexp.weight", true, ROWS_SECOND_HALF},
    [SHARED_DOWN] = {"layers.%d.shared_mlp.output_linear.weight", "blk.%d.ffn_down_shexp.weight", true, ROWS_ALIKE},
};
const int family_granite_hybrid_name_count = DECODER_ROLES;

enum status family_granite_hybrid(struct model *m, struct error *err)
{
    const struct config *c = &m->config;
    struct decoder d = {.names = family_granite_hybrid_names,
                        .recurrent = MIXER_MAMBA2,
                        .log_decay = m->container != MODEL_GGUF,
                        .embedding_scale = (float)c->embedding_scale,
                        .attention_scale = (float)c->attention_scale,
                        .residual_scale = (float)c->residual_scale,
                        .logits_scale = (float)(1 / c->logits_scale),
                        .route = decoder_route(c, true),
                        .expert_width = c->intermediate,
                        .shared_width = c->shared_width};
    return decoder_write(m, &d, err);
}
