/* Shared by this folder only: reading configurations, binding weights. */
#ifndef MODELS_PRIVATE_H
#define MODELS_PRIVATE_H

#include "models/model.h"

/* A family writes its program from config and weights. */
typedef enum status family_write(struct model *m, struct error *err);

struct family {
    const char *model_type, *architecture;
    family_write *write;
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
/* Adds the model's rope to the program with all scaling applied; returns its index, or -1 with words. */
int rope_add(struct model *m, struct error *err);

enum activation activation_find(const char *name, size_t size); /* ACT_NONE: unknown */

/* ---- binding -------------------------------------------------------------------------------------------------------- */

/* A weight's name in both containers; %d is the layer. `base` names get the checkpoint's base-model prefix. */
struct weight_name {
    const char *hf, *gguf;
    bool base;
};

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
bool binder_has(struct binder *b, const struct weight_name *name, int layer);

#endif
