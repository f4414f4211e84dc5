/* Shared by this folder only: reading configurations, binding weights. */
#ifndef MODELS_PRIVATE_H
#define MODELS_PRIVATE_H

#include "models/model.h"

/* A family writes its program from config and weights. */
typedef enum status family_write(struct model *m, struct error *err);

/* A weight's name in both containers; %d is the layer, a second one the expert: there every expert has a tensor of its own, else all
 * of a layer are one. `base` names get the checkpoint's base-model prefix. hf NULL: the family has no such weight. */
struct weight_name {
    const char *hf, *gguf;
    bool base;
    /* GGUF keeps the rows of rotated heads in another order: pairs are neighbours (2i, 2i+1), not halves of the head. HALF: in
     * config.json's layout it is the first or second half of the rows of each matrix in the tensor */
    enum { ROWS_ALIKE, ROWS_OF_HEADS, ROWS_OF_KV_HEADS, ROWS_FIRST_HALF, ROWS_SECOND_HALF } rows;
};

struct family {
    const char *model_type, *architecture;
    family_write *write;
    const struct weight_name *names;
    const int *name_count;
};
extern const struct family families[];
extern const int family_count;

/* "llama, mistral": for messages. */
const char *family_list(char *out, size_t size);

/* config.json (and generation_config.json beside it) into m->config; sets *family. */
enum status config_read_json(struct model *m, const char *path, const struct family **family, struct error *err);
/* GGUF metadata into m->config. */
enum status config_read_gguf(struct model *m, const struct family **family, struct error *err);
/* What holds for both: divisibility, ranges, defaults that follow from other values. name_of gives the file's own key. */
enum status config_finish(struct model *m, struct error *err);
/* rope_parameters / rope_scaling (+ rope_theta at the top) of config.json; by_default: rope_theta if nobody says one. */
enum status rope_read_json(struct config *c, const struct json *root, struct error *err);
enum status rope_read_gguf(struct model *m, const char *arch, struct error *err);
/* Llama 3's scaling as GGUF has it, one divisor per pair; out: [pairs]. */
void rope_divisors(const struct rope_config *r, int pairs, float *out);
/* The parameters that give these divisors; STATUS_BAD_INPUT if none do that are in use. */
enum status rope_find_llama3(const struct rope_config *r, int pairs, struct rope_config *out, struct error *err);
/* What yarn multiplies cos and sin by: 0.1 m ln(factor) + 1, with m = 1 if nobody says otherwise. */
double rope_mscale(double factor, double m);
/* Adds the model's rope to the program with all scaling applied; returns its index, or -1 with words. */
int rope_add(struct model *m, struct error *err);

enum activation activation_find(const char *name, size_t size); /* ACT_NONE: unknown */

/* ---- mixes ---------------------------------------------------------------------------------------------------------- */

/* The type of a matrix by its GGUF name; columns: of a row, which must hold whole blocks of it. *wanted: what it would be in
 * rows of any length. tied: the embedding is the output too. */
enum storage mix_choose(const struct mix *m, const struct config *config, bool tied, const char *name, int64_t columns, enum storage *wanted);
int mix_number(const struct mix *m);       /* general.file_type */
enum storage mix_type(const struct mix *m); /* of most matrices */

/* ---- binding -------------------------------------------------------------------------------------------------------- */

struct binder {
    struct model *m;
    struct error *err;
    const char *prefix;  /* "model." or "" or "transformer.": found once */
    enum status status;  /* the first failure; later calls do nothing */
};
void binder_init(struct binder *b, struct model *m, const struct weight_name *embedding, struct error *err);
/* The weight's id in the program; shape [out, in] ([n] for a vector: out 1) is checked. -1 after a failure, or when it is
 * absent and optional. */
int weight_bind(struct binder *b, const struct weight_name *name, int layer, int64_t out, int64_t in, bool optional);
/* Experts' matrices [out, in]: a tensor [experts, out, in] (halves: [experts, 2 * out, in]), or one [out, in] for each. */
int stack_bind(struct binder *b, const struct weight_name *name, int layer, int experts, int64_t out, int64_t in);
/* Rows of a matrix [total, in]: `pieces` runs of `out` rows, the first from row `first` on, one every `stride` rows: a stack, or with
 * one piece an ordinary weight. */
struct row_slices {
    int64_t total, first, stride, out;
    int pieces;
};
int rows_bind(struct binder *b, const struct weight_name *name, int layer, const struct row_slices *rows, int64_t in);
/* The same slices, each turned over: [pieces][in, out], in memory of the model's. Plain floats stay what they are, blocks become F32. */
int rows_bind_transposed(struct binder *b, const struct weight_name *name, int layer, const struct row_slices *rows, int64_t in);
/* Values [first, first + n) of a vector of `total`. -1 where it is absent and optional. */
int part_bind(struct binder *b, const struct weight_name *name, int layer, int64_t total, int64_t first, int64_t n, bool optional);
/* Of a vector of `total` values, runs of `out` as the rows of a matrix [pieces, out]. */
int slices_bind(struct binder *b, const struct weight_name *name, int layer, const struct row_slices *values, bool optional);
/* Plain floats in whatever dimensions they are written: [out, in]. */
int flat_bind(struct binder *b, const struct weight_name *name, int layer, int64_t out, int64_t in, bool optional);
/* The same as numbers; false: it is absent (and optional), or a failure. */
bool values_read(struct binder *b, const struct weight_name *name, int layer, int64_t count, float *out, bool optional);
/* A name of the tables with its layer and expert. prefix: of `base` names, for config.json's form; NULL: GGUF's form. */
void weight_spell(const struct weight_name *name, const char *prefix, int layer, int expert, char *out, size_t size);
/* Has every expert a tensor of its own by this name? */
bool weight_per_expert(const struct weight_name *name, bool gguf);
/* The base-model prefix of a folder's names, found by its embedding. */
const char *weight_prefix(const struct model *m, const struct weight_name *embedding);
bool binder_has(struct binder *b, const struct weight_name *name, int layer);
/* GGUF keeps a factor of all values of NAME.weight in NAME.scale (NVFP4), one F32; *tensor NULL and *factor 0: there is none.
 * NAME.input_scale may lie beside it, for kernels that round activations to 4 bits; nothing here reads it. */
enum status weight_factor(const struct tensor_set *set, const char *name, const struct tensor **tensor, float *factor, struct error *err);

#endif
