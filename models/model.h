/* What a checkpoint means. The one header of this folder that others include.
 *
 * A model is immutable after opening: configuration, mapped weights, and the program its family wrote. */
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include "base/arena.h"
#include "base/files/tensors.h"
#include "base/json.h"
#include "kernels/ops.h"

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_YARN, ROPE_LLAMA3 };

/* How positions turn into angles; meanings as in transformers' modeling_rope_utils.py. 0: not given. */
struct rope_config {
    enum rope_kind kind;
    double theta, factor;
    double partial;                    /* share of head_dim that turns */
    int64_t dims;                      /* rotated values per head; 0: head_dim * partial */
    bool interleaved;                  /* pairs (2i, 2i+1): how GGUF stores llama */
    double original;                   /* positions the model was trained on before scaling */
    double low, high;                  /* llama3: low_freq_factor, high_freq_factor */
    double beta_fast, beta_slow, attention_factor, mscale, mscale_all_dim; /* yarn */
    bool truncate;                     /* yarn: whole-numbered correction range */
    const struct tensor *factors;      /* GGUF's rope_freqs.weight: divisors of the frequencies; else NULL */
};

/* One meaning per value, whatever file it came from. */
struct config {
    const char *family; /* "llama", "mistral": config.json's model_type or GGUF's architecture */
#define SIZE(field, key, gguf, low, high, standard) int64_t field;
#define REAL(field, key, gguf, standard) double field;
#define SWITCH(field, key, standard) bool field;
#include "models/config.def"
#undef SIZE
#undef REAL
#undef SWITCH
    enum activation activation;
    struct rope_config rope;
    const char *dtype; /* "bfloat16", ... as config.json says; "" if it does not */
};

enum model_container { MODEL_SAFETENSORS, MODEL_GGUF };

struct model {
    struct arena arena;
    char *path;   /* as opened */
    char *folder; /* where tokenizer and configuration files lie; NULL for a lone GGUF */
    enum model_container container;
    struct tensor_set *tensors;
    struct config config;
    struct program program;
    /* Token ids that end an answer: config.json, generation_config.json; GGUF's are the tokenizer's. */
    int32_t end_ids[32];
    int end_count;
    /* generation_config.json's sampling defaults; NAN or -1 where it says nothing. */
    struct sampling_defaults {
        double temperature, top_p, min_p, repetition_penalty;
        int64_t top_k;
        int do_sample; /* -1 not said, 0, 1 */
    } sampling;
    uint64_t weight_bytes; /* of the weights that the program reads */
    uint64_t parameters;
};

/* Opens a folder in Hugging Face layout, a .gguf (any part of a split one), or a .safetensors beside its config.json.
 * Nothing large is copied. Errors name file and key or tensor: STATUS_NOT_FOUND, STATUS_BAD_INPUT, STATUS_NO_ROOM. */
enum status model_open(struct model **out, const char *path, enum mapping_kind kind, struct error *err);
void model_close(struct model *m); /* NULL is fine */

/* Names of the families, for messages and tables: NULL-terminated. */
extern const char *const model_families[];

#endif
