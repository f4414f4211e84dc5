/* The words of a configuration in both containers: config.json, generation_config.json, GGUF metadata. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/files/writer.h"
#include "models/private.h"

static const char *dtype_name(enum storage type) { return type == STORAGE_F16 ? "float16" : type == STORAGE_BF16 ? "bfloat16" : "float32"; }

/* ---- config.json ---------------------------------------------------------------------------------------------------- */

/* Numbers of GGUF are float32: the shortest text that reads back as the same one (1e-05, not 9.999999747378752e-06). */
static void add_real(struct str *out, const char *key, double value)
{
    char text[40];
    for (int precision = 6; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (precision < 10 ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value)
            break;
    }
    str_format(out, "  \"%s\": %s%s,\n", key, text, strpbrk(text, ".e") ? "" : ".0");
}

static void add_size(struct str *out, const char *key, int64_t value) { str_format(out, "  \"%s\": %" PRId64 ",\n", key, value); }

static void add_id(struct str *out, const char *key, int32_t id)
{
    if (id < 0)
        str_format(out, "  \"%s\": null,\n", key); /* an absent key would mean the class's default */
    else
        add_size(out, key, id);
}

static void add_ends(struct str *out, const struct conversion_ids *ids)
{
    if (ids->end_count < 2) {
        add_id(out, "eos_token_id", ids->end_count ? ids->ends[0] : ids->eos);
        return;
    }
    str_add_text(out, "  \"eos_token_id\": [");
    for (int i = 0; i < ids->end_count; i++)
        str_format(out, "%s%" PRId32, i ? ", " : "", ids->ends[i]);
    str_add_text(out, "],\n");
}

static void end_object(struct str *out)
{
    if (out->size >= 2 && !out->failed)
        out->size -= 2; /* the last comma and newline */
    str_add_text(out, "\n}\n");
}

static void add_rope(struct str *out, const struct conversion *c)
{
    static const char *const names[] = {[ROPE_LINEAR] = "linear", [ROPE_DYNAMIC] = "dynamic", [ROPE_YARN] = "yarn", [ROPE_LLAMA3] = "llama3"};
    const struct rope_config *r = &c->rope;
    add_real(out, "rope_theta", r->theta);
    if (r->kind == ROPE_DEFAULT) {
        str_add_text(out, "  \"rope_scaling\": null,\n");
        return;
    }
    str_format(out, "  \"rope_scaling\": {\n    \"rope_type\": \"%s\",\n", names[r->kind]);
    add_real(out, "factor", r->factor);
    if (r->kind == ROPE_LLAMA3) {
        add_real(out, "low_freq_factor", r->low);
        add_real(out, "high_freq_factor", r->high);
    }
    if (r->kind == ROPE_YARN) {
        if (r->beta_fast > 0)
            add_real(out, "beta_fast", r->beta_fast);
        if (r->beta_slow > 0)
            add_real(out, "beta_slow", r->beta_slow);
        if (r->attention_factor > 0)
            add_real(out, "attention_factor", r->attention_factor);
    }
    if (r->kind == ROPE_LLAMA3 || r->kind == ROPE_YARN)
        add_size(out, "original_max_position_embeddings", (int64_t)(r->original ? r->original : (double)c->model->config.context));
    out->size -= 2;
    str_add_text(out, "\n  },\n");
}

static void new_config(const struct conversion *c, const struct conversion_ids *ids, struct str *out)
{
    const struct config *config = &c->model->config;
    bool mistral = config->window > 0; /* LlamaConfig knows no window */
    /* linear and dynamic scaling stretch what config.json calls max_position_embeddings; yarn names the trained length beside it */
    bool stretched = (c->rope.kind == ROPE_LINEAR || c->rope.kind == ROPE_DYNAMIC) && c->rope.original > 0;
    str_format(out, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n", mistral ? "MistralForCausalLM" : "LlamaForCausalLM",
               mistral ? "mistral" : "llama");
    add_size(out, "vocab_size", config->vocab);
    add_size(out, "hidden_size", config->hidden);
    add_size(out, "intermediate_size", config->intermediate);
    add_size(out, "num_hidden_layers", config->layers);
    add_size(out, "num_attention_heads", config->heads);
    add_size(out, "num_key_value_heads", config->kv_heads);
    add_size(out, "head_dim", config->head_dim);
    add_size(out, "max_position_embeddings", stretched ? (int64_t)c->rope.original : config->context);
    str_add_text(out, "  \"hidden_act\": \"silu\",\n");
    add_real(out, "rms_norm_eps", config->norm_epsilon);
    add_rope(out, c);
    if (mistral) {
        add_size(out, "sliding_window", config->window);
    } else {
        str_format(out, "  \"attention_bias\": %s,\n  \"mlp_bias\": %s,\n", c->attention_bias ? "true" : "false", c->mlp_bias ? "true" : "false");
    }
    str_format(out, "  \"tie_word_embeddings\": %s,\n", config->tied ? "true" : "false");
    add_id(out, "bos_token_id", ids->bos);
    add_ends(out, ids);
    add_id(out, "pad_token_id", ids->pad);
    str_format(out, "  \"torch_dtype\": \"%s\",\n", dtype_name(c->most));
    end_object(out);
}

/* The old text with another type in it; whatever else it says stays. */
static enum status old_config(const struct conversion *c, struct str *out, struct error *err)
{
    struct arena arena = {0};
    struct json root;
    char *text, *path = file_join(&arena, c->model->folder, "config.json");
    size_t size;
    bool named = false;
    enum status status = path ? file_read(&arena, path, 16 << 20, &text, &size, err) : error_memory(err, "a path");
    if (!status)
        status = json_parse(&arena, text, size, &(struct json_options){.infinite = true}, &root, err);
    for (uint32_t i = 0; !status && i < root.size; i++) {
        const struct json_member *m = &root.members[i];
        bool dtype = (m->key_size == 5 && !memcmp(m->key, "dtype", 5)) || (m->key_size == 11 && !memcmp(m->key, "torch_dtype", 11));
        str_add_text(out, i ? ",\n  " : "{\n  ");
        json_write_string(out, m->key, m->key_size);
        str_add_text(out, ": ");
        if (dtype)
            str_format(out, "\"%s\"", dtype_name(c->most));
        else
            json_write(out, &m->value);
        named |= dtype;
    }
    if (!status && !named)
        str_format(out, ",\n  \"torch_dtype\": \"%s\"", dtype_name(c->most));
    str_add_text(out, "\n}\n");
    arena_free(&arena);
    return status;
}

enum status conversion_config(const struct conversion *c, const struct conversion_ids *ids, struct str *out, struct error *err)
{
    enum status status = STATUS_OK;
    if (c->model->container == MODEL_SAFETENSORS)
        status = old_config(c, out, err);
    else
        new_config(c, ids, out);
    return !status && out->failed ? error_memory(err, "config.json") : status;
}

void conversion_generation(const struct conversion *c, const struct conversion_ids *ids, struct str *out)
{
    (void)c;
    str_add_text(out, "{\n");
    add_id(out, "bos_token_id", ids->bos);
    add_ends(out, ids);
    add_id(out, "pad_token_id", ids->pad);
    end_object(out);
}

/* ---- GGUF metadata -------------------------------------------------------------------------------------------------- */

/* Keys of an architecture. */
struct keys {
    struct gguf_keys *k;
    const char *arch;
};

static const char *key_of(const struct keys *k, const char *suffix, char out[128])
{
    snprintf(out, 128, "%s.%s", k->arch, suffix);
    return out;
}

static void key_u32(const struct keys *k, const char *suffix, int64_t value)
{
    char key[128];
    gguf_key_int(k->k, key_of(k, suffix, key), value > UINT32_MAX ? META_U64 : META_U32, value);
}

static void key_f32(const struct keys *k, const char *suffix, double value)
{
    char key[128];
    gguf_key_float(k->k, key_of(k, suffix, key), (float)value);
}

static void add_rope_keys(const struct conversion *c, const struct keys *k)
{
    const struct rope_config *r = &c->model->config.rope;
    char key[128];
    key_u32(k, "rope.dimension_count", r->dims ? r->dims : (int64_t)((double)c->model->config.head_dim * r->partial));
    key_f32(k, "rope.freq_base", r->theta);
    if (r->kind != ROPE_LINEAR && r->kind != ROPE_YARN) /* llama3: a tensor */
        return;
    const char *name = r->kind == ROPE_LINEAR ? "linear" : "yarn";
    gguf_key_string(k->k, key_of(k, "rope.scaling.type", key), name, strlen(name));
    key_f32(k, "rope.scaling.factor", r->factor);
    key_u32(k, "rope.scaling.original_context_length", (int64_t)(r->original ? r->original : (double)c->model->config.context));
    if (r->kind != ROPE_YARN)
        return;
    if (r->beta_fast > 0)
        key_f32(k, "rope.scaling.yarn_beta_fast", r->beta_fast);
    if (r->beta_slow > 0)
        key_f32(k, "rope.scaling.yarn_beta_slow", r->beta_slow);
    double usual = rope_mscale(r->factor, 1);
    if (c->model->config.latent && r->mscale > 0 && r->mscale == r->mscale_all_dim)
        return; /* its magnitude is 1, and the key above says what it means for scores */
    double said = r->attention_factor > 0               ? r->attention_factor
                  : r->mscale > 0 && r->mscale_all_dim > 0 ? rope_mscale(r->factor, r->mscale) / rope_mscale(r->factor, r->mscale_all_dim)
                                                           : usual;
    if (fabs(said - usual) > 1e-6 * usual)
        key_f32(k, "rope.scaling.attn_factor", said / usual);
}

/* llama.cpp's LLAMA_FTYPE, and the version of the block layouts. */
static void add_file_type(const struct conversion *c, struct gguf_keys *k)
{
    int number = c->mix ? mix_number(c->mix) : c->most == STORAGE_F32 ? 0 : c->most == STORAGE_BF16 ? 32 : 1;
    gguf_key_int(k, "general.file_type", META_U32, number);
    if (c->mix && mix_quantises(c->mix))
        gguf_key_int(k, "general.quantization_version", META_U32, 2);
}

enum { GATING_SOFTMAX = 1, GATING_SIGMOID = 2 };

/* How experts are chosen, where an architecture has words for it. */
static void add_route_keys(const struct conversion *c, const struct keys *k)
{
    const struct config *config = &c->model->config;
    const struct expert_route *r = c->model->program.routes;
    if (strcmp(k->arch, "glm4moe") && strcmp(k->arch, "deepseek2"))
        return;
    key_u32(k, "leading_dense_block_count", config->plain_layers);
    key_u32(k, "expert_shared_count", config->shared_experts);
    key_f32(k, "expert_weights_scale", (double)r->scale);
    key_u32(k, "expert_gating_func", r->sigmoid ? GATING_SIGMOID : GATING_SOFTMAX);
    char key[128];
    gguf_key_int(k->k, key_of(k, "expert_weights_norm", key), META_BOOL, r->normalised);
    if (r->groups > 1) {
        key_u32(k, "expert_group_count", r->groups);
        key_u32(k, "expert_group_used_count", r->groups_chosen);
    }
}

static void add_expert_keys(const struct conversion *c, const struct keys *k)
{
    const struct config *config = &c->model->config;
    if (!config->experts)
        return;
    key_u32(k, "expert_count", config->experts);
    key_u32(k, "expert_used_count", config->experts_chosen);
    if (config->expert_width != config->intermediate || (strcmp(k->arch, "llama") && strncmp(k->arch, "granite", 7))) /* which know one width */
        key_u32(k, "expert_feed_forward_length", config->expert_width);
    if (config->shared_width)
        key_u32(k, "expert_shared_feed_forward_length", config->shared_width);
    add_route_keys(c, k);
}

/* Heads as they are behind their up-projections; the file keeps both of these as one matrix, and so nothing of the latent key's lengths. */
static void add_head_keys(const struct conversion *c, const struct keys *k)
{
    const struct config *config = &c->model->config;
    key_u32(k, "attention.head_count", config->heads);
    key_u32(k, "attention.head_count_kv", config->latent ? config->heads : config->kv_heads);
    key_u32(k, "attention.key_length", config->latent ? config->nope_dim + config->rope_dim : config->head_dim);
    key_u32(k, "attention.value_length", config->latent ? config->v_dim : config->head_dim);
    if (config->latent)
        key_u32(k, "attention.kv_lora_rank", config->latent);
    if (config->q_latent)
        key_u32(k, "attention.q_lora_rank", config->q_latent);
    if (config->latent && config->rope.mscale_all_dim > 0)
        key_f32(k, "rope.scaling.yarn_log_multiplier", 0.1 * config->rope.mscale_all_dim);
}

static void add_scale_keys(const struct conversion *c, const struct keys *k)
{
    const struct config *config = &c->model->config;
    if (strncmp(config->family, "granite", 7)) /* the others have no such factors */
        return;
    key_f32(k, "embedding_scale", config->embedding_scale);
    key_f32(k, "attention.scale", config->attention_scale);
    key_f32(k, "residual_scale", config->residual_scale);
    key_f32(k, "logit_scale", config->logits_scale);
}

static void new_keys(const struct conversion *c, const char *name, struct gguf_keys *out)
{
    const struct config *config = &c->model->config;
    const struct keys keys = {out, c->model->family->architecture ? c->model->family->architecture : "llama"}, *k = &keys;
    gguf_key_string(out, "general.architecture", k->arch, strlen(k->arch));
    gguf_key_string(out, "general.type", "model", 5);
    gguf_key_string(out, "general.name", name, strlen(name));
    add_file_type(c, out);
    key_u32(k, "vocab_size", config->vocab);
    key_u32(k, "context_length", config->context);
    key_u32(k, "embedding_length", config->hidden);
    key_u32(k, "block_count", config->layers);
    key_u32(k, "feed_forward_length", config->intermediate);
    add_head_keys(c, k);
    key_f32(k, "attention.layer_norm_rms_epsilon", config->norm_epsilon);
    if (config->window)
        key_u32(k, "attention.sliding_window", config->window);
    add_expert_keys(c, k);
    add_scale_keys(c, k);
    add_rope_keys(c, k);
}

static void old_keys(const struct conversion *c, struct gguf_keys *k)
{
    const struct tensor_set *set = c->model->tensors;
    for (int64_t i = 0; i < set->meta_count; i++) {
        const char *key = set->metas[i].key;
        if (!strncmp(key, "split.", 6) || !strcmp(key, "general.alignment") || (c->mix && !strcmp(key, "general.quantization_version")))
            continue; /* one file comes out, aligned to the standard 32 bytes */
        if (c->mix && !strcmp(key, "general.file_type"))
            add_file_type(c, k);
        else
            gguf_key_copy(k, &set->metas[i]);
    }
}

enum status conversion_keys(const struct conversion *c, const char *name, struct gguf_keys *keys, struct error *err)
{
    if (c->model->container == MODEL_GGUF)
        old_keys(c, keys);
    else
        new_keys(c, name, keys);
    return keys->bytes.failed ? error_memory(err, "the metadata") : STATUS_OK;
}
