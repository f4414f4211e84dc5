/* Granite 3: llama with factors on embeddings, attention, residuals and logits; plain or with experts. */
#include "models/decoder.h"

extern const struct weight_name family_granite_names[];
extern const int family_granite_name_count;
const struct weight_name family_granite_names[DECODER_ROLES] = {
    DECODER_NAMES(ROWS_OF_HEADS, ROWS_OF_KV_HEADS, "blk.%d.ffn_norm.weight"),
    [ROUTER] = {"layers.%d.block_sparse_moe.router.layer.weight", "blk.%d.ffn_gate_inp.weight", true, ROWS_ALIKE},
    STACK_NAMES("block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight"),
};
const int family_granite_name_count = DECODER_ROLES;

enum status family_granite(struct model *m, struct error *err)
{
    const struct config *c = &m->config;
    struct decoder d = {.names = family_granite_names,
                        .embedding_scale = (float)c->embedding_scale,
                        .attention_scale = (float)c->attention_scale,
                        .residual_scale = (float)c->residual_scale,
                        .logits_scale = (float)(1 / c->logits_scale),
                        .route = decoder_route(c, true),
                        .expert_width = c->intermediate};
    return decoder_write(m, &d, err);
}
