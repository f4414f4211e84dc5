/* DeepSeek 2 and 3 and what has their shape: latent attention; the first layers plain, then experts beside one that all rows go to.
 * V2 chooses by softmax (within groups by each group's best), V3 by sigmoids and a bias (by the two best). GGUF has both under one
 * architecture. Layers behind the last (multi-token prediction) are not read. */
#include "models/decoder.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

extern const struct weight_name family_deepseek_names[];
extern const int family_deepseek_name_count;
const struct weight_name family_deepseek_names[DECODER_ROLES] = {
    DECODER_NAMES(ROWS_ALIKE, ROWS_ALIKE, "blk.%d.ffn_norm.weight"),
    EXPERT_NAMES("mlp", "gate_proj", "up_proj", "down_proj"),
    [Q_DOWN] = {"layers.%d.self_attn.q_a_proj.weight", "blk.%d.attn_q_a.weight", true, ROWS_ALIKE},
    [Q_DOWN_BIAS] = {"layers.%d.self_attn.q_a_proj.bias", "blk.%d.attn_q_a.bias", true, ROWS_ALIKE},
    [Q_DOWN_NORM] = {"layers.%d.self_attn.q_a_layernorm.weight", "blk.%d.attn_q_a_norm.weight", true, ROWS_ALIKE},
    [Q_UP] = {"layers.%d.self_attn.q_b_proj.weight", "blk.%d.attn_q_b.weight", true, ROWS_ALIKE},
    [KV_DOWN] = {"layers.%d.self_attn.kv_a_proj_with_mqa.weight", "blk.%d.attn_kv_a_mqa.weight", true, ROWS_ALIKE},
    [KV_DOWN_BIAS] = {"layers.%d.self_attn.kv_a_proj_with_mqa.bias", "blk.%d.attn_kv_a_mqa.bias", true, ROWS_ALIKE},
    [KV_DOWN_NORM] = {"layers.%d.self_attn.kv_a_layernorm.weight", "blk.%d.attn_kv_a_norm.weight", true, ROWS_ALIKE},
    [KV_UP] = {"layers.%d.self_attn.kv_b_proj.weight", "blk.%d.attn_kv_b.weight", true, ROWS_ALIKE},
    [K_UP] = {"layers.%d.self_attn.k_b_proj.weight", "blk.%d.attn_k_b.weight", true, ROWS_ALIKE},
    [V_UP] = {"layers.%d.self_attn.v_b_proj.weight", "blk.%d.attn_v_b.weight", true, ROWS_ALIKE},
    [ROUTER_BIAS] = {"layers.%d.mlp.gate.e_score_correction_bias", "blk.%d.exp_probs_b.bias", true, ROWS_ALIKE},
    [SHARED_GATE] = {"layers.%d.mlp.shared_experts.gate_proj.weight", "blk.%d.ffn_gate_shexp.weight", true, ROWS_ALIKE},
    [SHARED_UP] = {"layers.%d.mlp.shared_experts.up_proj.weight", "blk.%d.ffn_up_shexp.weight", true, ROWS_ALIKE},
    [SHARED_DOWN] = {"layers.%d.mlp.shared_experts.down_proj.weight", "blk.%d.ffn_down_shexp.weight", true, ROWS_ALIKE},
};
const int family_deepseek_name_count = DECODER_ROLES;

enum { GATING_SIGMOID = 2 }; /* GGUF's expert_gating_func */

/* What GGUF says with keys of its own. Files whose keys and values are not latent have one head's lengths as attention.key_length and
 * value_length, newer ones those of the latent key there and a head's under names of their own. */
static enum status read_gguf(struct model *m, int64_t *gating, struct error *err)
{
    struct config *c = &m->config;
    int64_t key = 0;
    bool found;
    double log_scale = 0;
    enum status status = meta_int(m->tensors, "deepseek2.attention.key_length_mla", &key, &found, err);
    if (!status && !found)
        status = meta_int(m->tensors, "deepseek2.attention.key_length", &key, NULL, err);
    if (!status)
        status = meta_int(m->tensors, "deepseek2.attention.value_length_mla", &c->v_dim, NULL, err);
    if (!status)
        status = meta_int(m->tensors, "deepseek2.expert_gating_func", gating, NULL, err);
    if (!status)
        status = meta_bool(m->tensors, "deepseek2.expert_weights_norm", &c->norm_chosen, NULL, err);
    if (!status)
        status = meta_float(m->tensors, "deepseek2.rope.scaling.yarn_log_multiplier", &log_scale, NULL, err);
    c->nope_dim = key - c->rope_dim;
    c->rope.mscale = c->rope.mscale_all_dim = log_scale * 10; /* the key is 0.1 of it */
    c->layers -= c->predict_layers < c->layers ? c->predict_layers : 0;
    return status;
}

static enum status check(const struct config *c, struct error *err)
{
    static const struct {
        const char *name;
        size_t at;
    } sizes[] = {{"kv_lora_rank", offsetof(struct config, latent)},
                 {"qk_nope_head_dim (GGUF: attention.key_length_mla less rope.dimension_count)", offsetof(struct config, nope_dim)},
                 {"qk_rope_head_dim (GGUF: rope.dimension_count)", offsetof(struct config, rope_dim)},
                 {"v_head_dim (GGUF: attention.value_length_mla)", offsetof(struct config, v_dim)}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t size;
        memcpy(&size, (const char *)c + sizes[i].at, sizeof size);
        if (size < 1 || size > 1 << 16)
            return error_set(err, STATUS_BAD_INPUT, "%s is %" PRId64 "; 1 to 65536 are possible", sizes[i].name, size);
    }
    return STATUS_OK;
}

static bool has_bias(struct model *m, struct error *err)
{
    struct binder b;
    binder_init(&b, m, &family_deepseek_names[EMBEDDING], err);
    for (int layer = 0; layer < m->config.layers; layer++)
        if (binder_has(&b, &family_deepseek_names[ROUTER_BIAS], layer))
            return true;
    return false;
}

enum status family_deepseek(struct model *m, struct error *err)
{
    struct config *c = &m->config;
    bool gguf = m->container == MODEL_GGUF;
    int64_t gating = 0;
    enum status status = gguf ? read_gguf(m, &gating, err) : STATUS_OK;
    if (status || (status = check(c, err)))
        return status;
    bool v3 = gguf ? gating == GATING_SIGMOID : !strcmp(c->family, "deepseek_v3");
    struct weight_name names[DECODER_ROLES];
    memcpy(names, family_deepseek_names, sizeof names);
    if (gguf ? !has_bias(m, err) : !v3)
        names[ROUTER_BIAS] = (struct weight_name){0};
    struct decoder d = {.names = names, .latent = true, .expert_width = c->expert_width, .shared_width = c->expert_width * c->shared_experts};
    d.route = decoder_route(c, (v3 || gguf) && c->norm_chosen);
    d.route.sigmoid = v3;
    d.route.scale = (float)c->expert_scale;
    if (c->expert_groups > 1) {
        d.route.groups = (int)c->expert_groups;
        d.route.groups_chosen = (int)c->expert_groups_chosen;
        d.route.group_best = v3 ? 2 : 1;
    }
    c->rope.interleaved = gguf || !v3 || c->rope_neighbours;
    c->rope.dims = c->rope_dim;
    double stretch = c->rope.kind != ROPE_DEFAULT && c->rope.mscale_all_dim ? rope_mscale(c->rope.factor, c->rope.mscale_all_dim) : 1;
    d.attention_scale = (float)(stretch * stretch / sqrt((double)(c->nope_dim + c->rope_dim)));
    return decoder_write(m, &d, err);
}
