/* Tiny models for tests, written to a temporary folder in Hugging Face layout: weights drawn from seeds (the same numbers as
 * tests/golden/make_expected.py draws), a byte-level tokenizer of 256 bytes and two special tokens, a ChatML template. */
#ifndef TESTS_TINY_MODEL_H
#define TESTS_TINY_MODEL_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "base/utf8.h"

struct tiny {
    const char *name, *extra; /* extra: members of config.json */
    int hidden, inter, layers, heads, kv, head_dim, vocab, positions;
    bool tied, bias, mlp_bias;
    const char *block;  /* of the experts, in names; NULL: none */
    int experts, width; /* of each: inner values */
    int shared;         /* inner values of an expert that all rows go to, with a score of its own; 0: none */
    bool qk_norm;
    int plain_layers;   /* without experts */
    bool stacked;       /* the experts of a layer in two tensors */
    int mamba_layers;   /* the first ones are Mamba 2 as Granite 4 has it: 4 heads of 12 values, 2 groups, a state of 10 */
};

#define TINY(name, kv, head_dim, positions, tied, biases, extra) {name, extra, 48, 80, 2, 4, kv, head_dim, 300, positions, tied, biases, biases, NULL, 0, 0, 0, false, 0, false, 0}
static const struct tiny tiny_models[] = {
    TINY("plain", 2, 12, 64, true, false, ""),
    TINY("llama3", 2, 12, 64, true, false, ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
                                           "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32}"),
    TINY("bias", 4, 16, 64, false, true, ", \"attention_bias\": true, \"mlp_bias\": true, \"hidden_act\": \"gelu\""),
    TINY("linear", 2, 12, 64, true, false, ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}"),
    TINY("dynamic", 2, 12, 16, true, false, ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4.0}"),
    TINY("yarn", 1, 12, 64, true, false, ", \"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000.0, \"factor\": 4.0, "
                                         "\"original_max_position_embeddings\": 64}"),
    TINY("window", 2, 12, 64, true, false, ", \"model_type\": \"mistral\", \"sliding_window\": 7"),
    {"mixtral", ", \"model_type\": \"mixtral\", \"num_local_experts\": 5, \"num_experts_per_tok\": 2", 48, 32, 2, 4, 2, 12, 300, 64, false, false, false,
     "block_sparse_moe", 5, 32, 0, false, 0, false, 0},
    {"qwen2_moe", ", \"model_type\": \"qwen2_moe\", \"num_experts\": 6, \"num_experts_per_tok\": 3, \"moe_intermediate_size\": 24, \"shared_expert_intermediate_size\": 40, "
                  "\"norm_topk_prob\": false, \"use_sliding_window\": true, \"sliding_window\": 7, \"max_window_layers\": 9, \"layer_types\": [\"full_attention\", \"sliding_attention\"]",
     48, 80, 2, 4, 2, 12, 300, 64, false, true, false, "mlp", 6, 24, 40, false, 0, false, 0},
    {"qwen3_moe", ", \"model_type\": \"qwen3_moe\", \"num_experts\": 8, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 24, \"norm_topk_prob\": true, "
                  "\"mlp_only_layers\": [0]",
     48, 80, 2, 4, 2, 12, 300, 64, true, false, false, "mlp", 8, 24, 0, true, 1, true, 0},
    {"hybrid", ", \"model_type\": \"granitemoehybrid\", \"num_local_experts\": 0, \"shared_intermediate_size\": 80, \"mamba_n_heads\": 4, \"mamba_d_head\": 12, "
               "\"mamba_n_groups\": 2, \"mamba_d_state\": 10, \"mamba_expand\": 1, \"time_step_limit\": [0.001, Infinity], \"attention_multiplier\": 0.3, "
               "\"eos_token_id\": 257",
     48, 80, 3, 4, 2, 12, 300, 64, true, false, false, NULL, 0, 0, 0, false, 0, false, 2},
};
enum { TINY_MODELS = sizeof tiny_models / sizeof *tiny_models };
static const char tiny_template[] = "{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{% endfor %}"
                                    "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}";

static inline uint64_t tiny_next(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Header and data of a safetensors file while it grows. */
struct tiny_weights {
    struct str header, data;
    int count;
};

static inline void tiny_add_stack(struct tiny_weights *w, const char *name, int matrices, int rows, int columns, double scale, double base)
{
    uint64_t seed = 1000 + (uint64_t)w->count;
    size_t begin = w->data.size, n = (size_t)(matrices ? matrices : 1) * (size_t)(rows ? rows : 1) * (size_t)columns;
    for (size_t i = 0; i < n; i++) {
        float v = (float)(base + scale * ((double)(tiny_next(&seed) >> 40) / (1 << 24) * 2 - 1));
        str_add(&w->data, &v, sizeof v);
    }
    str_format(&w->header, "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [", w->count++ ? ", " : "{", name);
    if (matrices)
        str_format(&w->header, "%d, ", matrices);
    if (rows)
        str_format(&w->header, "%d, ", rows);
    str_format(&w->header, "%d], \"data_offsets\": [%zu, %zu]}", columns, begin, w->data.size);
}

static inline void tiny_add(struct tiny_weights *w, const char *name, int rows, int columns, double scale, double base)
{
    tiny_add_stack(w, name, 0, rows, columns, scale, base);
}

#define NAME(...) (snprintf(name, sizeof name, "model.layers.%d.", layer), snprintf(name + strlen(name), sizeof name - strlen(name), __VA_ARGS__), name)
static inline void tiny_experts(struct tiny_weights *w, const struct tiny *t, int layer)
{
    bool mixtral = strcmp(t->block, "mlp") != 0;
    static const char *const usual[] = {"gate_proj", "up_proj", "down_proj"}, *const short_ones[] = {"w1", "w3", "w2"};
    char name[120];
    tiny_add(w, NAME("%s.gate.weight", t->block), t->experts, t->hidden, 1, 0);
    for (int e = 0; e < t->experts && !t->stacked; e++)
        for (int i = 0; i < 3; i++)
            tiny_add(w, NAME("%s.experts.%d.%s.weight", t->block, e, (mixtral ? short_ones : usual)[i]), i == 2 ? t->hidden : t->width, i == 2 ? t->width : t->hidden, 0.3, 0);
    if (t->stacked) {
        tiny_add_stack(w, NAME("%s.experts.gate_up_proj", t->block), t->experts, 2 * t->width, t->hidden, 0.3, 0);
        tiny_add_stack(w, NAME("%s.experts.down_proj", t->block), t->experts, t->hidden, t->width, 0.3, 0);
    }
    if (t->shared) {
        tiny_add(w, NAME("mlp.shared_expert_gate.weight"), 1, t->hidden, 1, 0);
        for (int i = 0; i < 3; i++)
            tiny_add(w, NAME("mlp.shared_expert.%s.weight", usual[i]), i == 2 ? t->hidden : t->shared, i == 2 ? t->shared : t->hidden, 0.3, 0);
    }
}

static inline void tiny_mamba(struct tiny_weights *w, const struct tiny *t, int layer)
{
    enum { HEADS = 4, STATE = 2 * 10, TAPS = 4 };
    int mix = t->hidden + 2 * STATE;
    char name[120];
    tiny_add(w, NAME("mamba.in_proj.weight"), t->hidden + mix + HEADS, t->hidden, 0.3, 0);
    tiny_add_stack(w, NAME("mamba.conv1d.weight"), mix, 1, TAPS, 0.5, 0);
    tiny_add(w, NAME("mamba.conv1d.bias"), 0, mix, 0.2, 0);
    tiny_add(w, NAME("mamba.A_log"), 0, HEADS, 1, 0);
    tiny_add(w, NAME("mamba.dt_bias"), 0, HEADS, 1, -1);
    tiny_add(w, NAME("mamba.D"), 0, HEADS, 0.5, 1);
    tiny_add(w, NAME("mamba.norm.weight"), 0, t->hidden, 0.3, 1);
    tiny_add(w, NAME("mamba.out_proj.weight"), t->hidden, t->hidden, 0.3, 0);
}

static inline void tiny_layer(struct tiny_weights *w, const struct tiny *t, int layer)
{
    static const char *const qkvo[] = {"q", "k", "v", "o"}, *const mlp[] = {"gate", "up", "down"};
    int q = t->heads * t->head_dim, kv = t->kv * t->head_dim;
    int out[] = {q, kv, kv, t->hidden}, in[] = {t->hidden, t->hidden, t->hidden, q};
    int mlp_out[] = {t->inter, t->inter, t->hidden}, mlp_in[] = {t->hidden, t->hidden, t->inter};
    char name[120];
    tiny_add(w, NAME("input_layernorm.weight"), 0, t->hidden, 0.3, 1);
    if (layer < t->mamba_layers)
        tiny_mamba(w, t, layer);
    for (int i = 0; i < 4 && layer >= t->mamba_layers; i++)
        tiny_add(w, NAME("self_attn.%s_proj.weight", qkvo[i]), out[i], in[i], i < 2 ? 0.4 : 0.3, 0);
    for (int i = 0; i < (t->shared ? 3 : 4) && t->bias; i++) /* qwen's output has none */
        tiny_add(w, NAME("self_attn.%s_proj.bias", qkvo[i]), 0, out[i], 0.5, 0);
    for (int i = 0; i < 2 && t->qk_norm; i++)
        tiny_add(w, NAME("self_attn.%s_norm.weight", qkvo[i]), 0, t->head_dim, 0.3, 1);
    tiny_add(w, NAME("post_attention_layernorm.weight"), 0, t->hidden, 0.3, 1);
    if (t->block && layer >= t->plain_layers) {
        tiny_experts(w, t, layer);
        return;
    }
    if (t->mamba_layers) {
        tiny_add(w, NAME("shared_mlp.input_linear.weight"), 2 * t->inter, t->hidden, 0.3, 0);
        tiny_add(w, NAME("shared_mlp.output_linear.weight"), t->hidden, t->inter, 0.3, 0);
        return;
    }
    for (int i = 0; i < 3; i++)
        tiny_add(w, NAME("mlp.%s_proj.weight", mlp[i]), mlp_out[i], mlp_in[i], 0.3, 0);
    for (int i = 0; i < 3 && t->mlp_bias; i++)
        tiny_add(w, NAME("mlp.%s_proj.bias", mlp[i]), 0, mlp_out[i], 0.5, 0);
}
#undef NAME

static inline void tiny_write(const char *folder, const char *name, const void *data, size_t size)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        abort();
}

static inline void tiny_write_weights(const char *folder, const struct tiny *t)
{
    struct tiny_weights w = {0};
    tiny_add(&w, "model.embed_tokens.weight", t->vocab, t->hidden, 1, 0);
    for (int i = 0; i < t->layers; i++)
        tiny_layer(&w, t, i);
    tiny_add(&w, "model.norm.weight", 0, t->hidden, 0.3, 1);
    if (!t->tied)
        tiny_add(&w, "lm_head.weight", t->vocab, t->hidden, 0.4, 0);
    str_add_char(&w.header, '}');
    uint64_t length = w.header.size;
    struct str file = {0};
    str_add(&file, &length, 8);
    str_add(&file, w.header.data, w.header.size);
    str_add(&file, w.data.data, w.data.size);
    tiny_write(folder, "model.safetensors", file.data, file.size);
    str_free(&file);
    str_free(&w.header);
    str_free(&w.data);
}

/* GPT-2's printable stand-in for a byte. */
static inline uint32_t tiny_stand_in(int byte)
{
    uint32_t other = 256;
    for (int b = 0; b < 256; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte)
            return plain ? (uint32_t)b : other;
        other += !plain;
    }
    return 0;
}

static inline void tiny_write_tokenizer(const char *folder)
{
    struct str s = {0};
    char c[4];
    str_add_text(&s, "{\"added_tokens\": [{\"id\": 256, \"content\": \"<|im_start|>\", \"special\": true, \"normalized\": false}, "
                     "{\"id\": 257, \"content\": \"<|im_end|>\", \"special\": true, \"normalized\": false}], \"normalizer\": null, "
                     "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}, \"post_processor\": null, "
                     "\"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"merges\": [\"h e\", \"l l\"], \"vocab\": {");
    for (int b = 0; b < 256; b++) {
        size_t n = utf8_encode(tiny_stand_in(b), c);
        str_format(&s, "\"%s%.*s\": %d, ", c[0] == '"' || c[0] == '\\' ? "\\" : "", (int)n, c, b);
    }
    str_add_text(&s, "\"<|im_start|>\": 256, \"<|im_end|>\": 257, \"he\": 258, \"ll\": 259}}}");
    tiny_write(folder, "tokenizer.json", s.data, s.size);
    str_clear(&s);
    str_format(&s, "{\"eos_token\": \"<|im_end|>\", \"chat_template\": \"%s\"}", tiny_template);
    tiny_write(folder, "tokenizer_config.json", s.data, s.size);
    str_free(&s);
}

static inline const struct tiny *tiny_find(const char *name)
{
    for (int i = 0; i < TINY_MODELS; i++)
        if (!strcmp(tiny_models[i].name, name))
            return &tiny_models[i];
    abort();
}

/* Writes the model into a fresh temporary folder and returns its path (free() it; tiny_remove() removes the folder). */
static inline char *tiny_make(const char *name)
{
    const struct tiny *t = tiny_find(name);
    const char *base = getenv("TMPDIR");
    char *folder = malloc(600);
    snprintf(folder, 600, "%s/ingot-tiny-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder))
        abort();
    struct str s = {0};
    str_format(&s, "{%s\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
                   "\"head_dim\": %d, \"vocab_size\": %d, \"max_position_embeddings\": %d, \"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": %s, \"torch_dtype\": \"float32\"%s}",
               strstr(t->extra, "model_type") ? "" : "\"model_type\": \"llama\", ", t->hidden, t->inter, t->layers, t->heads, t->kv, t->head_dim, t->vocab,
               t->positions, t->tied ? "true" : "false", t->extra);
    tiny_write(folder, "config.json", s.data, s.size);
    str_free(&s);
    tiny_write_weights(folder, t);
    tiny_write_tokenizer(folder);
    return folder;
}

static inline void tiny_remove(char *folder)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "session", "generation_config.json"};
    char path[700];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
    free(folder);
}

#endif
