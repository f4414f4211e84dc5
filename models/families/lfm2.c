/* LFM2: layers of short convolutions, and a few of attention with norms on the heads of queries and keys. */
#include "models/decoder.h"

extern const struct weight_name family_lfm2_names[];
extern const int family_lfm2_name_count;
const struct weight_name family_lfm2_names[DECODER_ROLES] = {
    HEAD_NAMES(ROWS_ALIKE, ROWS_ALIKE),
    [OUTPUT_NORM] = {"embedding_norm.weight", "token_embd_norm.weight", true, ROWS_ALIKE},
    [ATTN_NORM] = {"layers.%d.operator_norm.weight", "blk.%d.attn_norm.weight", true, ROWS_ALIKE},
    [O] = {"layers.%d.self_attn.out_proj.weight", "blk.%d.attn_output.weight", true, ROWS_ALIKE},
    [Q_NORM] = {"layers.%d.self_attn.q_layernorm.weight", "blk.%d.attn_q_norm.weight", true, ROWS_ALIKE},
    [K_NORM] = {"layers.%d.self_attn.k_layernorm.weight", "blk.%d.attn_k_norm.weight", true, ROWS_ALIKE},
    [MLP_NORM] = {"layers.%d.ffn_norm.weight", "blk.%d.ffn_norm.weight", true, ROWS_ALIKE},
    [GATE] = {"layers.%d.feed_forward.w1.weight", "blk.%d.ffn_gate.weight", true, ROWS_ALIKE},
    [UP] = {"layers.%d.feed_forward.w3.weight", "blk.%d.ffn_up.weight", true, ROWS_ALIKE},
    [DOWN] = {"layers.%d.feed_forward.w2.weight", "blk.%d.ffn_down.weight", true, ROWS_ALIKE},
    [MIX_IN] = {"layers.%d.conv.in_proj.weight", "blk.%d.shortconv.in_proj.weight", true, ROWS_ALIKE},
    [MIX_BIAS] = {"layers.%d.conv.in_proj.bias", "blk.%d.shortconv.in_proj.bias", true, ROWS_ALIKE},
    [MIX_CONV] = {"layers.%d.conv.conv.weight", "blk.%d.shortconv.conv.weight", true, ROWS_ALIKE},
    [MIX_CONV_BIAS] = {"layers.%d.conv.conv.bias", "blk.%d.shortconv.conv.bias", true, ROWS_ALIKE},
    [MIX_OUT] = {"layers.%d.conv.out_proj.weight", "blk.%d.shortconv.out_proj.weight", true, ROWS_ALIKE},
    [MIX_OUT_BIAS] = {"layers.%d.conv.out_proj.bias", "blk.%d.shortconv.out_proj.bias", true, ROWS_ALIKE},
};
const int family_lfm2_name_count = DECODER_ROLES;

enum status family_lfm2(struct model *m, struct error *err)
{
    struct decoder d = {.names = family_lfm2_names, .recurrent = MIXER_SHORT_CONV, .qk_norm = true};
    return decoder_write(m, &d, err);
}
