/* What a checkpoint means. The one header of this folder that others include.
 *
 * A model is immutable after opening: configuration, mapped weights, and the program its family wrote. */
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include "base/arena.h"
#include "base/files/tensors.h"
#include "base/json.h"
#include "base/str.h"
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
    double dt_least, dt_most; /* bounds of a state space layer's time steps */
    bool nope;                /* attention knows no positions */
    const bool *windowed; /* [layers]: which of them see `window` tokens only; NULL: all do where there is a window */
    struct rope_config rope;
    const char *dtype; /* "bfloat16", ... as config.json says; "" if it does not */
};

enum model_container { MODEL_SAFETENSORS, MODEL_GGUF };

struct family;

struct model {
    struct arena arena;
    char *path;   /* as opened */
    char *folder; /* where tokenizer and configuration files lie; NULL for a lone GGUF */
    enum model_container container;
    struct tensor_set *tensors;
    struct tensor_set *quantised; /* what the program reads instead of some of them (model_use); else NULL */
    const struct family *family; /* private to models/ */
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
uint64_t model_read_bytes(const struct model *m); /* of weight_bytes, what one token reads: of experts, the chosen ones */
/* The path of a file of it that shrank while in use; NULL: none did. */
const char *model_lost(const struct model *m);

/* The program reads matrices of these names and shapes from now on (all experts of a layer, or none): a conversion's tensors, as planned (no data: only sizes can be
 * asked for then) or as written and opened again. weight_bytes follows. */
enum status model_use(struct model *m, const struct tensor *tensors, int64_t count, struct error *err);

/* ---- conversion ----------------------------------------------------------------------------------------------------- */

/* Types of a whole file: one for most matrices, others where models/mixes.def says so ("q4_k_m"). */
struct mix;
const struct mix *mix_find(const char *name); /* any case; NULL: there is none */
const char *mix_list(char *out, size_t size);  /* "f32, f16, ...": for messages */
const char *mix_name(const struct mix *m);
bool mix_quantises(const struct mix *m);      /* blocks, not plain floats */

/* How much each column of a matrix counts, from llama.cpp's imatrix files: sums of squares of what it was multiplied with. */
struct imatrix;
/* Either form: the GGUF one and the older .dat. STATUS_BAD_INPUT, STATUS_NOT_FOUND. */
enum status imatrix_open(struct imatrix **out, const char *path, struct error *err);
void imatrix_close(struct imatrix *im); /* NULL is fine */
/* [matrices, columns] of a tensor by its GGUF name (matrices: experts, or 1); NULL if the file has nothing for it.
 * STATUS_BAD_INPUT: it has something of another shape. */
enum status imatrix_find(const struct imatrix *im, const char *name, int64_t matrices, int64_t columns, const float **out, struct error *err);

/* A checkpoint on its way into another container or type: which tensors are written, in order, and how each is made. */
struct conversion {
    const struct model *model;
    enum model_container to;
    struct tensor *tensors;      /* as they are written; data NULL */
    struct conversion_step *how; /* private to models/ */
    int64_t count;
    uint64_t bytes;              /* of all tensors */
    enum storage most;           /* the type of most bytes */
    const struct mix *mix;       /* NULL: types stay */
    /* what a person should know: matrices whose rows are too short for their type (an example of them), such as are quantised
     * already and are quantised again, such that the imatrix has no word about */
    int64_t narrow, again, unknown;
    const struct tensor *narrow_example;
    enum storage narrow_wanted;
    bool attention_bias, mlp_bias;
    struct rope_config rope;     /* in the words of the target */
};

/* mix: of matrices, or NULL: as they are. Vectors are F32 in a GGUF file, the mix's type in a folder. im: for quantising, may be NULL.
 * Everything lives in arena and borrows from m and im. STATUS_USAGE: a tensor's type needs one to be named, or the target cannot hold
 * the mix; STATUS_BAD_INPUT: something of this model has no place in the target, named. */
enum status conversion_plan(struct conversion *c, struct arena *arena, const struct model *m, enum model_container to, const struct mix *mix,
                            const struct imatrix *im, struct error *err);

/* The matrices that become blocks when the program of m shall run quantised, under the names that m has them by. STATUS_BAD_INPUT:
 * there are none; STATUS_USAGE: they are blocks already. */
enum status conversion_plan_quantised(struct conversion *c, struct arena *arena, const struct model *m, const struct mix *mix, struct error *err);

/* Called with the bytes written so far; false stops (STATUS_INTERRUPTED). */
typedef bool conversion_watch(void *context, uint64_t done, uint64_t total);
struct tensor_writer;
/* Streams all tensors into a writer that was begun with c->tensors. The writer is gone after a failure, not committed else. */
enum status conversion_write(const struct conversion *c, struct tensor_writer *w, conversion_watch *watch, void *context, struct error *err);

/* Token ids that go into configuration files; -1: none. */
struct conversion_ids {
    int32_t bos, eos, pad;
    const int32_t *ends; /* all that end an answer */
    int end_count;
};
/* config.json and generation_config.json of the target, when source and target are not both folders (then: only the type in
 * the text of the old one changes). */
enum status conversion_config(const struct conversion *c, const struct conversion_ids *ids, struct str *out, struct error *err);
void conversion_generation(const struct conversion *c, const struct conversion_ids *ids, struct str *out);
/* GGUF metadata: the model's part of it; of a GGUF source all keys, tokenizer included. name: general.name of a folder's model. */
struct gguf_keys;
enum status conversion_keys(const struct conversion *c, const char *name, struct gguf_keys *keys, struct error *err);

/* Names of the families, for messages and tables: NULL-terminated. */
extern const char *const model_families[];

#endif
