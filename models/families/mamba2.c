/* Mamba 2 (Codestral Mamba and its like): recurrent layers alone, each behind a norm; no attention, no networks. */
#include "models/decoder.h"

extern const struct weight_name family_mamba2_names[];
extern const int family_mamba2_name_count;
const struct weight_name family_mamba2_names[DECODER_ROLES] = {
    [EMBEDDING] = {"embeddings.weight", "token_embd.weight", true, ROWS_ALIKE},
    [OUTPUT_NORM] = {"norm_f.weight", "output_norm.weight", true, ROWS_ALIKE},
    [OUTPUT] = {"lm_head.weight", "output.weight", false, ROWS_ALIKE},
    [ATTN_NORM] = {"layers.%d.norm.weight", "blk.%d.attn_norm.weight", true, ROWS_ALIKE},
    MAMBA2_NAMES("mixer"),
};
const int family_mamba2_name_count = DECODER_ROLES;

enum status family_mamba2(struct model *m, struct error *err)
{
    m->config.nope = true; /* no heads to turn */
    struct decoder d = {.names = family_mamba2_names, .recurrent = MIXER_MAMBA2, .log_decay = m->container != MODEL_GGUF};
    return decoder_write(m, &d, err);
}
