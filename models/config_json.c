/* config.json and generation_config.json. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "models/private.h"

enum { CONFIG_LIMIT = 16 << 20, REQUIRED = -1 };

/* The first of several keys ("this|or this") that the object has, or else the first of all; key: [KEY_ROOM]. */
enum { KEY_ROOM = 64 };
static const struct json *find_key(const struct json *root, const char *keys, char *key)
{
    const struct json *v = NULL;
    *key = 0;
    for (const char *at = keys; !v && at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        snprintf(key, KEY_ROOM, "%.*s", (int)strcspn(at, "|"), at);
        v = json_get(root, key);
    }
    if (!v && keys)
        snprintf(key, KEY_ROOM, "%.*s", (int)strcspn(keys, "|"), keys);
    return v;
}

/* A size; null counts as absent where there is a default. */
static enum status read_size(const struct json *root, const char *keys, int64_t low, int64_t high, int64_t standard, int64_t *out,
                             struct error *err)
{
    char key[KEY_ROOM];
    const struct json *v = find_key(root, keys, key);
    if (json_is_text(v, "auto") && standard != REQUIRED) /* as if it were not there */
        v = NULL;
    if (!v && standard == REQUIRED)
        return error_set(err, STATUS_BAD_INPUT, "%s is missing", key);
    if (!v || (v->kind == JSON_NULL && standard != REQUIRED)) {
        *out = standard;
        return STATUS_OK;
    }
    if (!json_int(v, out))
        return error_set(err, STATUS_BAD_INPUT, "%s is %s where a whole number is needed", key,
                         v->kind == JSON_NUMBER ? QUOTE(v->text, v->size) : json_kind_name(v));
    if (*out == 0 && standard == 0 && low > 0 && strcmp(key, "sliding_window") == 0)
        return STATUS_OK; /* written by some converters for "none" */
    if (*out < low || *out > high)
        return error_set(err, STATUS_BAD_INPUT, "%s is %" PRId64 "; %" PRId64 " to %" PRId64 " are possible", key, *out, low, high);
    return STATUS_OK;
}

static enum status read_real(const struct json *root, const char *keys, double standard, double *out, struct error *err)
{
    char key[KEY_ROOM];
    const struct json *v = find_key(root, keys, key);
    *out = standard;
    if (!v || v->kind == JSON_NULL)
        return STATUS_OK;
    if (!json_double(v, out))
        return error_set(err, STATUS_BAD_INPUT, "%s is %s where a finite number is needed", key,
                         v->kind == JSON_NUMBER ? QUOTE(v->text, v->size) : json_kind_name(v));
    return STATUS_OK;
}

static enum status read_switch(const struct json *root, const char *keys, bool standard, bool *out, struct error *err)
{
    char key[KEY_ROOM];
    const struct json *v = find_key(root, keys, key);
    *out = standard;
    if (!v || v->kind == JSON_NULL)
        return STATUS_OK;
    return json_bool(v, out) ? STATUS_OK : error_set(err, STATUS_BAD_INPUT, "%s is %s where true or false is needed", key, json_kind_name(v));
}

/* Defaults of DeepseekV2Config and DeepseekV3Config; q_lora_rank null means none. */
static enum status read_deepseek(struct config *c, const struct json *root, struct error *err)
{
    bool v3 = !strcmp(c->family, "deepseek_v3");
    const struct {
        const char *key;
        int64_t *value, standard;
    } sizes[] = {{"kv_lora_rank", &c->latent, 512},          {"q_lora_rank", &c->q_latent, 1536},  {"qk_nope_head_dim", &c->nope_dim, 128},
                 {"qk_rope_head_dim", &c->rope_dim, 64},     {"v_head_dim", &c->v_dim, 128},       {"n_shared_experts", &c->shared_experts, v3 ? 1 : 2},
                 {"n_group", &c->expert_groups, v3 ? 8 : 0}, {"topk_group", &c->expert_groups_chosen, v3 ? 4 : 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!json_get(root, sizes[i].key))
            *sizes[i].value = sizes[i].standard;
    if (v3 && !json_get(root, "norm_topk_prob"))
        c->norm_chosen = true;
    if (v3 && !json_get(root, "routed_scaling_factor"))
        c->expert_scale = 2.5;
    const struct json *method = json_get(root, "topk_method");
    if (v3 || json_is_text(method, "group_limited_greedy"))
        return STATUS_OK;
    c->expert_groups = 0;
    if (!method || method->kind == JSON_NULL || json_is_text(method, "greedy"))
        return STATUS_OK;
    return error_set(err, STATUS_BAD_INPUT, "topk_method is %s; greedy and group_limited_greedy are possible",
                     json_is(method, JSON_STRING) ? QUOTE(method->text, method->size) : json_kind_name(method));
}

/* A bound of time steps: Infinity as Python writes it, or as {"__float__": "Infinity"}. */
static bool read_bound(const struct json *v, double *out)
{
    if (json_is(v, JSON_OBJECT))
        v = json_get(v, "__float__");
    if (json_is_text(v, "Infinity") || (json_is(v, JSON_NUMBER) && v->size == 8 && !memcmp(v->text, "Infinity", 8)))
        *out = INFINITY;
    else
        return json_double(v, out);
    return true;
}

/* Families with recurrent layers: defaults of their configuration classes where they are not everybody's. */
static const struct recurrent_defaults {
    const char *family;
    int64_t taps, heads, groups, k_dim, v_dim, context; /* 0: everybody's */
    double epsilon;
    bool conv_bias, tied;
} recurrent_defaults[] = {
    {"mamba2", 4, 128, 8, 128, 64, 1 << 20, 1e-5, true, false},
    {"granitemoehybrid", 4, 128, 1, 256, 0, 0, 0, true, false},
    {"qwen3_next", 4, 32, 16, 128, 128, 32768, 0, false, false},
    {"qwen3_5", 4, 32, 16, 128, 128, 32768, 0, false, false},
    {"lfm2", 3, 0, 0, 0, 0, 128000, 1e-5, false, true},
};

static const struct recurrent_defaults *find_recurrent(const char *family)
{
    for (size_t i = 0; i < sizeof recurrent_defaults / sizeof *recurrent_defaults; i++) /* qwen3_5's have suffixes */
        if (!strncmp(family, recurrent_defaults[i].family, strlen(recurrent_defaults[i].family)))
            return &recurrent_defaults[i];
    return NULL;
}

static bool lacks(const struct json *root, const char *keys)
{
    char key[KEY_ROOM];
    return !find_key(root, keys, key);
}

static enum status read_recurrent(struct config *c, const struct json *root, const struct recurrent_defaults *d, struct error *err)
{
    c->taps = c->taps ? c->taps : d->taps;
    c->scan_heads = c->scan_heads ? c->scan_heads : d->heads;
    c->scan_groups = c->scan_groups ? c->scan_groups : d->groups;
    c->scan_k_dim = c->scan_k_dim ? c->scan_k_dim : d->k_dim;
    c->context = d->context && lacks(root, "max_position_embeddings") ? d->context : c->context;
    c->norm_epsilon = d->epsilon && lacks(root, "rms_norm_eps|layer_norm_epsilon|norm_eps") ? d->epsilon : c->norm_epsilon;
    c->conv_bias = lacks(root, "use_conv_bias|mamba_conv_bias|conv_bias") ? d->conv_bias : c->conv_bias;
    c->tied = lacks(root, "tie_embedding|tie_word_embeddings") ? d->tied : c->tied;
    if (!strcmp(c->family, "mamba2")) { /* its heads are no others */
        c->scan_v_dim = c->head_dim;
        c->head_dim = 0;
    }
    c->scan_v_dim = c->scan_v_dim ? c->scan_v_dim : d->v_dim ? d->v_dim : c->scan_heads ? c->hidden * c->scan_expand / c->scan_heads : 0;
    c->dt_most = INFINITY;
    const struct json *limit = json_get(root, "time_step_limit"), *items = json_is(limit, JSON_ARRAY) && limit->size == 2 ? limit->items : NULL;
    bool given = limit && limit->kind != JSON_NULL;
    if (given && (!items || !read_bound(&items[0], &c->dt_least) || !read_bound(&items[1], &c->dt_most) || c->dt_least > c->dt_most))
        return error_set(err, STATUS_BAD_INPUT, "time_step_limit: a least and a most number are needed");
    const struct json *positions = json_get(root, "position_embedding_type");
    bool granite = !strncmp(c->family, "granite", 7), turns = json_is_text(positions, "rope");
    if (granite && positions && positions->kind != JSON_NULL && !turns && !json_is_text(positions, "nope"))
        return error_set(err, STATUS_BAD_INPUT, "position_embedding_type is %s; rope and nope are possible",
                         json_is(positions, JSON_STRING) ? QUOTE(positions->text, positions->size) : json_kind_name(positions));
    c->nope = granite && !turns;
    return STATUS_OK;
}

/* Defaults of Qwen3NextConfig, Qwen3_5TextConfig and their like, GraniteMoeHybridConfig and Lfm2Config that are nobody else's. */
static enum status read_hybrid(struct config *c, const struct json *root, struct error *err)
{
    bool next = !strcmp(c->family, "qwen3_next"), experts = next || !strncmp(c->family, "qwen3_5_moe", 11);
    if (!strncmp(c->family, "qwen3_", 6)) {
        c->head_dim = c->head_dim ? c->head_dim : 256;
        c->norm_chosen = experts && (c->norm_chosen || lacks(root, "norm_topk_prob"));
        c->experts = experts && lacks(root, "num_experts") ? next ? 512 : 256 : c->experts;
        c->experts_chosen = experts && lacks(root, "num_experts_per_tok") ? next ? 10 : 8 : c->experts_chosen;
        c->expert_width = experts && !c->expert_width ? 512 : c->expert_width;
        c->shared_width = experts && lacks(root, "shared_expert_intermediate_size") ? 512 : c->shared_width;
        c->intermediate = c->intermediate ? c->intermediate : next ? 5632 : 12288;
    } else if (!strcmp(c->family, "granitemoehybrid")) {
        c->experts = lacks(root, "num_local_experts") ? 8 : c->experts;
        c->experts_chosen = lacks(root, "num_experts_per_tok") ? 2 : c->experts_chosen;
        c->shared_width = lacks(root, "shared_intermediate_size") ? 1024 : c->shared_width;
        c->intermediate = c->experts ? c->intermediate : c->shared_width;
    } else if (!strcmp(c->family, "lfm2")) {
        bool adjusted = true;
        double factor = 1;
        int64_t multiple = 256;
        enum status status = read_switch(root, "block_auto_adjust_ff_dim", true, &adjusted, err);
        if (status || (status = read_real(root, "block_ffn_dim_multiplier", 1, &factor, err)) ||
            (status = read_size(root, "block_multiple_of", 1, 1 << 24, 256, &multiple, err)))
            return status;
        const struct json *none = json_get(root, "block_ffn_dim_multiplier");
        c->intermediate = adjusted ? 2 * c->intermediate / 3 : c->intermediate;
        if (adjusted && !json_is(none, JSON_NULL)) {
            double wide = factor * (double)c->intermediate;
            if (!(wide >= 1 && wide <= 1 << 24))
                return error_set(err, STATUS_BAD_INPUT, "block_ffn_dim_multiplier is %g, which gives no possible width", factor);
            c->intermediate = ((int64_t)wide + multiple - 1) / multiple * multiple;
        }
    }
    return STATUS_OK;
}

static enum status read_values(struct config *c, const struct json *root, struct error *err)
{
    enum status status;
#define SIZE(field, key, gguf, low, high, standard)                                       \
    if ((status = read_size(root, key, low, high, standard, &c->field, err))) \
        return status;
#define REAL(field, key, gguf, standard)                                \
    if ((status = read_real(root, key, standard, &c->field, err))) \
        return status;
#define SWITCH(field, key, standard)                                      \
    if ((status = read_switch(root, key, standard, &c->field, err))) \
        return status;
#include "models/config.def"
#undef SIZE
#undef REAL
#undef SWITCH
    if (!c->vocab)
        return error_set(err, STATUS_BAD_INPUT, "vocab_size is missing");
    /* classes' own defaults hold where keys are absent; null means none */
    bool qwen = !strncmp(c->family, "qwen", 4);
    if (!strcmp(c->family, "mistral") && !json_get(root, "sliding_window"))
        c->window = 4096;
    if (qwen && !json_get(root, "use_sliding_window"))
        c->use_window = false;
    if (qwen && !json_get(root, "max_window_layers"))
        c->full_layers = 28;
    if (!c->use_window)
        c->window = 0;
    if (!strcmp(c->family, "glm4_moe") && !json_get(root, "norm_topk_prob"))
        c->norm_chosen = true;
    if (!strncmp(c->family, "granite", 7) && c->attention_scale == 0)
        c->attention_scale = 1;
    const struct recurrent_defaults *recurrent = find_recurrent(c->family);
    if (recurrent && ((status = read_recurrent(c, root, recurrent, err)) || (status = read_hybrid(c, root, err))))
        return status;
    return strncmp(c->family, "deepseek_v", 10) ? STATUS_OK : read_deepseek(c, root, err);
}

/* Which layers have a window where layer_types does not say it, by the classes of transformers. */
static bool slides_by_default(const struct config *c, int64_t layer)
{
    if (!strcmp(c->family, "qwen2_moe"))
        return layer % 2 == 0 && layer < c->full_layers;
    return !strcmp(c->family, "qwen3_moe") || layer >= c->full_layers;
}

/* Which layers have a window: layer_types says it one by one, or else the family. */
static enum status read_windows(struct model *m, const struct json *root, struct error *err)
{
    struct config *c = &m->config;
    const struct json *types = json_get(root, "layer_types");
    bool recurrent = find_recurrent(c->family) != NULL; /* which layers are shows by their weights */
    bool *windowed = c->window ? arena_array(&m->arena, (size_t)c->layers, sizeof *windowed) : NULL;
    if (c->window && !windowed)
        return error_memory(err, "the layers");
    if (types && types->kind != JSON_NULL && (types->kind != JSON_ARRAY || types->size != (uint64_t)c->layers))
        return error_set(err, STATUS_BAD_INPUT, "layer_types is no list of %" PRId64 " layers", c->layers);
    for (int64_t i = 0; i < c->layers; i++) {
        const struct json *type = json_is(types, JSON_ARRAY) ? &types->items[i] : NULL;
        bool slides = json_is_text(type, "sliding_attention");
        bool recurs = recurrent && (json_is_text(type, "linear_attention") || json_is_text(type, "mamba") || json_is_text(type, "conv") || json_is_text(type, "attention"));
        if (type && !slides && !recurs && !json_is_text(type, "full_attention"))
            return error_set(err, STATUS_BAD_INPUT, "layer_types: %s is not supported", json_is(type, JSON_STRING) ? QUOTE(type->text, type->size) : json_kind_name(type));
        if (slides && !c->window)
            return error_set(err, STATUS_BAD_INPUT, "layer_types names sliding_attention, but there is no sliding_window");
        if (windowed)
            windowed[i] = type ? slides : slides_by_default(c, i);
    }
    c->windowed = windowed;
    return STATUS_OK;
}

static enum status read_activation(struct config *c, const struct json *root, struct error *err)
{
    const struct json *v = json_get(root, "hidden_act");
    if (!v)
        v = json_get(root, "hidden_activation");
    c->activation = !v ? ACT_SILU : v->kind == JSON_STRING ? activation_find(v->text, v->size) : ACT_NONE;
    if (c->activation == ACT_NONE)
        return error_set(err, STATUS_BAD_INPUT, "hidden_act: %s is no known activation",
                         v->kind == JSON_STRING ? QUOTE(v->text, v->size) : json_kind_name(v));
    return STATUS_OK;
}

/* What would change the numbers if it were ignored. */
static enum status refuse_unsupported(const struct json *root, struct error *err)
{
    const struct json *q = json_get(root, "quantization_config");
    if (!q || q->kind == JSON_NULL)
        return STATUS_OK;
    const struct json *method = json_get(q, "quant_method");
    return error_set(err, STATUS_BAD_INPUT, "quantization_config: quant_method %s is not supported; take an unquantised folder or a GGUF file",
                     json_is(method, JSON_STRING) ? QUOTE(method->text, method->size) : "(not named)");
}

static enum status find_family(struct model *m, const struct json *root, const struct family **out, struct error *err)
{
    const struct json *type = json_get(root, "model_type");
    if (!json_is(type, JSON_STRING))
        return error_set(err, STATUS_BAD_INPUT, "model_type is %s where a name is needed", json_kind_name(type));
    *out = NULL;
    for (int i = 0; i < family_count; i++)
        if (families[i].model_type && json_is_text(type, families[i].model_type))
            *out = &families[i];
    char known[512];
    if (!*out && json_get(root, "auto_map"))
        return error_set(err, STATUS_BAD_INPUT,
                         "model_type %s brings its own program (auto_map), and code from a checkpoint is never run; built in are %s",
                         QUOTE(type->text, type->size), family_list(known, sizeof known));
    if (!*out)
        return error_set(err, STATUS_BAD_INPUT, "model_type %s is not supported; built in are %s", QUOTE(type->text, type->size),
                         family_list(known, sizeof known));
    m->config.family = (*out)->model_type;
    return STATUS_OK;
}

/* eos_token_id: a number or a list. Ids outside the vocabulary are passed over with a warning. */
static void add_end_ids(struct model *m, const struct json *v)
{
    uint32_t count = json_is(v, JSON_ARRAY) ? v->size : v != NULL;
    const struct json *items = json_is(v, JSON_ARRAY) ? v->items : v;
    for (uint32_t i = 0; i < count; i++) {
        int64_t id;
        if (!json_int(&items[i], &id))
            continue;
        if (id < 0 || id >= m->config.vocab) {
            log_line(LOG_WARN, "%s: eos_token_id %" PRId64 " lies outside the vocabulary and is ignored", m->path, id);
            continue;
        }
        bool known = false;
        for (int k = 0; k < m->end_count; k++)
            known |= m->end_ids[k] == id;
        if (!known && m->end_count < (int)(sizeof m->end_ids / sizeof *m->end_ids))
            m->end_ids[m->end_count++] = (int32_t)id;
    }
}

static enum status load_json(struct arena *arena, const char *path, struct json *root, struct error *err)
{
    char *text;
    size_t size;
    enum status status = file_read(arena, path, CONFIG_LIMIT, &text, &size, err);
    if (status)
        return status;
    struct json_options options = {.depth = 64, .unique = true, .infinite = true};
    if ((status = json_parse(arena, text, size, &options, root, err)))
        return error_prefix(err, "%s", path), status;
    if (root->kind != JSON_OBJECT)
        return error_set(err, STATUS_BAD_INPUT, "%s: holds %s where an object is needed", path, json_kind_name(root));
    return STATUS_OK;
}

/* Sampling defaults are advice: a value out of range is passed over with a warning. */
static void read_default(const struct json *root, const char *key, double low, double high, double *out, const char *path)
{
    const struct json *v = json_get(root, key);
    double value;
    if (!v || v->kind == JSON_NULL)
        return;
    if (!json_double(v, &value) || value < low || value > high)
        log_line(LOG_WARN, "%s: %s is out of range and is ignored", path, key);
    else
        *out = value;
}

static enum status read_generation(struct model *m, struct error *err)
{
    m->sampling = (struct sampling_defaults){NAN, NAN, NAN, NAN, -1, -1};
    char *path = file_join(&m->arena, m->folder, "generation_config.json");
    if (!path)
        return error_memory(err, "a path");
    if (!file_exists(path))
        return STATUS_OK;
    struct json root;
    enum status status = load_json(&m->arena, path, &root, err);
    if (status)
        return status;
    struct sampling_defaults *d = &m->sampling;
    double top_k = -1;
    bool sample;
    read_default(&root, "temperature", 0, 100, &d->temperature, path);
    read_default(&root, "top_p", 0, 1, &d->top_p, path);
    read_default(&root, "min_p", 0, 1, &d->min_p, path);
    read_default(&root, "repetition_penalty", 0.01, 100, &d->repetition_penalty, path);
    read_default(&root, "top_k", 0, 1e9, &top_k, path);
    d->top_k = (int64_t)top_k;
    if (json_bool(json_get(&root, "do_sample"), &sample))
        d->do_sample = sample;
    add_end_ids(m, json_get(&root, "eos_token_id"));
    return STATUS_OK;
}

enum status config_read_json(struct model *m, const char *path, const struct family **family, struct error *err)
{
    struct json root;
    enum status status = load_json(&m->arena, path, &root, err);
    if (status)
        return status;
    struct config *c = &m->config;
    if ((status = find_family(m, &root, family, err)) || (status = refuse_unsupported(&root, err)))
        return error_prefix(err, "%s", path), status;
    /* a model that also sees has its language part's values in an object of their own */
    bool tied = false;
    const struct json *text = json_get(&root, "text_config");
    text = json_is(text, JSON_OBJECT) && !strncmp(c->family, "qwen3_5", 7) ? text : &root;
    if (text != &root && lacks(text, "tie_word_embeddings") && (status = read_switch(&root, "tie_word_embeddings", false, &tied, err)))
        return error_prefix(err, "%s", path), status;
    if ((status = read_values(c, text, err)) || (status = read_windows(m, text, err)) ||
        (status = read_activation(c, text, err)) || (status = rope_read_json(c, text, err)) || (status = config_finish(m, err)))
        return error_prefix(err, "%s", path), status;
    c->tied |= tied;
    const struct json *dtype = json_get(&root, "dtype");
    if (!json_is(dtype, JSON_STRING))
        dtype = json_get(&root, "torch_dtype");
    c->dtype = json_is(dtype, JSON_STRING) ? json_copy(&m->arena, dtype) : "";
    add_end_ids(m, json_get(&root, "eos_token_id"));
    if (text != &root)
        add_end_ids(m, json_get(text, "eos_token_id"));
    return read_generation(m, err);
}
