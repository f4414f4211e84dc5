/* Llama 1-3, TinyLlama, SmolLM2, Mistral: RMS norm, grouped queries, rotary embedding, gated feed-forward; with the switches
 * of their configurations (tied embeddings, biases, head_dim, window). Mixtral: the same with experts; GGUF calls it llama. */
#include "models/decoder.h"

extern const struct weight_name family_llama_names[];
extern const int family_llama_name_count;
const struct weight_name family_llama_names[DECODER_ROLES] = {
    DECODER_NAMES(ROWS_OF_HEADS, ROWS_OF_KV_HEADS, "blk.%d.ffn_norm.weight"),
    EXPERT_NAMES("block_sparse_moe", "w1", "w3", "w2"),
};
const int family_llama_name_count = DECODER_ROLES;

enum status family_llama(struct model *m, struct error *err)
{
    const struct config *c = &m->config;
    struct decoder d = {.names = family_llama_names, .route = decoder_route(c, true), .expert_width = c->intermediate};
    return decoder_write(m, &d, err);
}
