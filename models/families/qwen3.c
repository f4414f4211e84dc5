/* Qwen 3: llama with norms on the heads of queries and keys, and a window only where use_sliding_window says so; plain or with
 * experts. */
#include "models/decoder.h"

extern const struct weight_name family_qwen3_names[];
extern const int family_qwen3_name_count;
const struct weight_name family_qwen3_names[DECODER_ROLES] = {
    DECODER_NAMES(ROWS_ALIKE, ROWS_ALIKE, "blk.%d.ffn_norm.weight"),
    EXPERT_NAMES("mlp", "gate_proj", "up_proj", "down_proj"),
    [Q_NORM] = {"layers.%d.self_attn.q_norm.weight", "blk.%d.attn_q_norm.weight", true, ROWS_ALIKE},
    [K_NORM] = {"layers.%d.self_attn.k_norm.weight", "blk.%d.attn_k_norm.weight", true, ROWS_ALIKE},
};
const int family_qwen3_name_count = DECODER_ROLES;

enum status family_qwen3(struct model *m, struct error *err)
{
    const struct config *c = &m->config;
    struct decoder d = {.names = family_qwen3_names, .qk_norm = true, .expert_width = c->expert_width};
    if (c->experts) /* GGUF has no key for it */
        d.route = decoder_route(c, c->norm_chosen || m->container == MODEL_GGUF);
    return decoder_write(m, &d, err);
}
