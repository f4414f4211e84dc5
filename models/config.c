/* What holds for a configuration whatever file it came from. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "models/private.h"

enum activation activation_find(const char *name, size_t size)
{
    /* transformers' ACT2FN names */
    static const struct {
        const char *name;
        enum activation activation;
    } known[] = {{"silu", ACT_SILU},           {"swish", ACT_SILU},        {"gelu", ACT_GELU},
                 {"gelu_new", ACT_GELU_TANH},  {"gelu_fast", ACT_GELU_TANH}, {"gelu_pytorch_tanh", ACT_GELU_TANH},
                 {"relu", ACT_RELU},           {"relu2", ACT_RELU2},       {"quick_gelu", ACT_QUICK_GELU},
                 {"sigmoid", ACT_SIGMOID},     {"tanh", ACT_TANH}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == size && !memcmp(known[i].name, name, size))
            return known[i].activation;
    return ACT_NONE;
}

enum status config_finish(struct model *m, struct error *err)
{
    struct config *c = &m->config;
    bool json = m->container == MODEL_SAFETENSORS;
    const char *heads = json ? "num_attention_heads" : "head_count", *kv = json ? "num_key_value_heads" : "head_count_kv";
    bool attends = strcmp(c->family, "mamba2") != 0;
    if (attends && (!c->heads || !c->intermediate))
        return error_set(err, STATUS_BAD_INPUT, "%s is missing", c->heads ? json ? "intermediate_size" : "feed_forward_length" : heads);
    if (!c->kv_heads)
        c->kv_heads = c->heads;
    if (c->latent)
        c->head_dim = c->rope_dim; /* what turns; latent.c knows the rest */
    if (attends && !c->head_dim) {
        if (c->hidden % c->heads)
            return error_set(err, STATUS_BAD_INPUT, "%s: %" PRId64 " heads do not divide a hidden size of %" PRId64, heads, c->heads, c->hidden);
        c->head_dim = c->hidden / c->heads;
    }
    if (!c->scan_v_dim && c->scan_heads)
        c->scan_v_dim = c->scan_inner / c->scan_heads;
    if (attends && c->heads % c->kv_heads)
        return error_set(err, STATUS_BAD_INPUT, "%s: %" PRId64 " kv heads do not divide %" PRId64 " heads", kv, c->kv_heads, c->heads);
    if (c->heads * c->head_dim > 1 << 24)
        return error_set(err, STATUS_BAD_INPUT, "%s times head_dim is absurdly large (%" PRId64 ")", heads, c->heads * c->head_dim);
    if (!(c->norm_epsilon >= 0 && c->norm_epsilon < 1))
        return error_set(err, STATUS_BAD_INPUT, "%s is %g; 0 to 1 are possible", json ? "rms_norm_eps" : "layer_norm_rms_epsilon", c->norm_epsilon);
    if (!(c->logits_scale > 0))
        return error_set(err, STATUS_BAD_INPUT, "%s is %g; it must be above 0", json ? "logits_scaling" : "logit_scale", c->logits_scale);
    if (!c->expert_width)
        c->expert_width = c->intermediate;
    if (c->experts && (c->experts_chosen < 1 || c->experts_chosen > c->experts))
        return error_set(err, STATUS_BAD_INPUT, "%s is %" PRId64 " of %" PRId64 " experts", json ? "num_experts_per_tok" : "expert_used_count", c->experts_chosen,
                         c->experts);
    int64_t groups = c->experts && c->expert_groups > 1 ? c->expert_groups : 0, best = c->expert_groups_chosen;
    if (groups && (c->experts % groups || best < 1 || best > groups || c->experts_chosen > c->experts / groups * best))
        return error_set(err, STATUS_BAD_INPUT, "%s is %" PRId64 " and %s %" PRId64 ": that fits neither %" PRId64 " experts nor %" PRId64 " chosen ones",
                         json ? "n_group" : "expert_group_count", groups, json ? "topk_group" : "expert_group_used_count", best, c->experts, c->experts_chosen);
    /* scaling stretches the positions that the model can use (as other engines read these files) */
    const struct rope_config *r = &c->rope;
    double stretched = r->kind == ROPE_LINEAR || r->kind == ROPE_DYNAMIC ? (double)c->context * r->factor
                       : r->kind == ROPE_YARN && r->original             ? r->original * r->factor
                                                                         : 0;
    if (json && stretched > (double)c->context && stretched < 1e12) {
        /* dynamic scaling needs the trained length; it is what rope_add reads from `original` */
        c->rope.original = c->rope.original ? c->rope.original : (double)c->context;
        c->context = (int64_t)stretched;
    }
    return STATUS_OK;
}
