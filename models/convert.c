/* From one container to the other: names, types, the order of rotated rows. One tensor at a time, some rows of
 * it in memory; all cores work on them.
 *
 * GGUF's llama turns neighbouring values (2i, 2i+1), transformers turns (i, i + half). The same numbers come out when
 * the rows of Q and K change places inside each head:
 *
 *   row of a head   transformers  0 1 2 3 | 4 5 6 7       GGUF  0 4 | 1 5 | 2 6 | 3 7 */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/files/writer.h"
#include "base/team.h"
#include "models/decoder.h"

enum { RAW_PIECE = 1 << 20, BATCH = 1 << 20 };

struct conversion_step {
    const struct tensor *from; /* NULL: zeros, or `values` */
    const float *values;
    const struct tensor *const *expert; /* [matrices]: `from` and its like, which become one tensor; else NULL */
    int64_t first, rows, of;   /* of each matrix the rows [first, first + rows) of `of`; rows 0: all */
    float factor;              /* of all values, from a tensor of its own that the target has no name for; 0: none */
    int64_t heads;             /* rows change places inside each of so many heads; 0: they stay */
    const float *importance;   /* [matrices, columns]; NULL: all columns alike */
    int64_t matrices;
};

/* ---- which tensors -------------------------------------------------------------------------------------------------- */

struct planning {
    struct conversion *c;
    struct arena *arena;
    const struct mix *mix;
    const struct imatrix *im;
    bool tied;          /* no matrix of its own for the output */
    const char *prefix; /* of the source's names when it is a folder */
    bool *used;         /* [tensors of the source] */
    int64_t capacity;
    struct error *err;
};

static bool is_float(enum storage type) { return type == STORAGE_F32 || type == STORAGE_F16 || type == STORAGE_BF16; }

/* name: in the target. */
static enum status choose_type(const struct planning *p, const struct tensor *from, const char *name, enum storage *out)
{
    struct conversion *c = p->c;
    bool gguf = c->to == MODEL_GGUF, vector = from->dims < 2;
    enum storage wanted = STORAGE_COUNT;
    *out = from->type;
    if (gguf && vector && is_float(from->type))
        *out = STORAGE_F32;
    else if (p->mix && format_find(from->type) && !(gguf && vector))
        *out = gguf ? mix_choose(p->mix, &c->model->config, p->tied, name, from->shape[from->dims - 1], &wanted) : mix_type(p->mix);
    if (wanted != STORAGE_COUNT && wanted != *out && !c->narrow++) {
        c->narrow_example = from;
        c->narrow_wanted = wanted;
    }
    c->again += !is_float(from->type) && from->type != *out && !is_float(*out);
    if (!gguf && !storage_types[*out].safetensors)
        return error_set(p->err, STATUS_USAGE,
                         "tensor %s is stored as %s, which a safetensors file cannot hold: say which type its numbers get with --type f32, f16 or bf16",
                         QUOTE(from->name, strlen(from->name)), storage_types[*out].name);
    if (gguf && storage_types[*out].gguf < 0)
        return error_set(p->err, STATUS_USAGE, "tensor %s is stored as %s, which a GGUF file cannot hold", QUOTE(from->name, strlen(from->name)),
                         storage_types[*out].name);
    return STATUS_OK;
}

/* The imatrix's numbers for a matrix that becomes blocks. */
static enum status find_importance(struct planning *p, const char *name, const struct tensor *t, struct conversion_step *how)
{
    if (!p->im || !how->from || t->dims < 2 || t->type == how->from->type || storage_types[t->type].block_elements == 1)
        return STATUS_OK;
    how->matrices = t->dims > 2 ? t->shape[0] : 1;
    enum status status = imatrix_find(p->im, name, how->matrices, t->shape[t->dims - 1], &how->importance, p->err);
    p->c->unknown += !status && !how->importance;
    return status;
}

/* A tensor at the end of the list: shape of `like`. */
static enum status add_tensor(struct planning *p, const char *name, const struct tensor *like, const struct conversion_step *how, enum storage type)
{
    struct conversion *c = p->c;
    char *kept = arena_copy(p->arena, name, strlen(name));
    if (!kept || c->count >= p->capacity)
        return error_memory(p->err, "the list of tensors");
    struct tensor *t = &c->tensors[c->count];
    *t = *like;
    t->name = kept;
    t->type = type;
    t->data = NULL;
    uint64_t elements = 1;
    for (int d = 0; d < t->dims; d++)
        elements *= (uint64_t)t->shape[d]; /* checked when the file was opened */
    if (!storage_bytes(type, elements, &t->bytes))
        return error_set(p->err, STATUS_BAD_INPUT, "tensor %s: its size does not fit 64 bits", QUOTE(name, strlen(name)));
    struct conversion_step *step = &c->how[c->count++];
    *step = *how;
    c->bytes += t->bytes;
    return find_importance(p, name, t, step);
}

static const struct tensor *source(const struct planning *p, const struct weight_name *n, int layer, int expert)
{
    const struct model *m = p->c->model;
    char name[200];
    if (!n->hf)
        return NULL;
    weight_spell(n, m->container == MODEL_GGUF ? NULL : p->prefix, layer, expert, name, sizeof name);
    const struct tensor *t = tensor_find(m->tensors, name);
    if (t)
        p->used[t - m->tensors->tensors] = true;
    return t;
}

static bool ends_with(const char *text, const char *tail)
{
    size_t n = strlen(text), k = strlen(tail);
    return n >= k && !strcmp(text + n - k, tail);
}

/* transformers has one switch for all biases of a block: a missing one is zero. */
static bool needs_zeros(const struct planning *p, const struct weight_name *n)
{
    if (p->c->to == MODEL_GGUF || !n->hf || !ends_with(n->hf, ".bias"))
        return false;
    return strstr(n->hf, "self_attn") ? p->c->attention_bias : p->c->mlp_bias;
}

/* What lies in a file but is not read: the copy of a tied embedding, biases that the configuration switches off. */
static bool is_idle(const struct conversion *c, const struct weight_name *n, const struct tensor *from)
{
    if (!from || (!ends_with(n->hf, ".bias") && strcmp(n->gguf, "output.weight")))
        return false;
    for (int i = 0; i < c->model->program.weight_count; i++)
        if (c->model->program.weights[i].name == from->name)
            return false;
    return true;
}

/* The experts' tensors as one: `like` gets the stack's shape. */
static enum status add_experts(struct planning *p, const struct weight_name *n, int layer, struct tensor *like, struct conversion_step *how)
{
    bool gguf = p->c->model->container == MODEL_GGUF, apart = weight_per_expert(n, gguf), half = !gguf && n->rows >= ROWS_FIRST_HALF;
    int64_t experts = p->c->model->config.experts;
    if (!apart && !half)
        return STATUS_OK;
    if (apart) {
        const struct tensor **all = arena_array(p->arena, (size_t)experts + 1, sizeof *all);
        if (!all)
            return error_memory(p->err, "the experts");
        for (int64_t e = 0; e < experts; e++)
            all[e] = source(p, n, layer, (int)e); /* all there and alike: the program has them */
        how->expert = all;
        *like = (struct tensor){.type = like->type, .dims = 3, .shape = {experts, like->shape[0], like->shape[1]}};
    }
    how->of = like->shape[1];
    like->shape[1] /= half ? 2 : 1;
    how->rows = like->shape[1];
    how->first = n->rows == ROWS_SECOND_HALF ? how->rows : 0;
    return STATUS_OK;
}

/* A vector of zeros as long as the weight's bias would be. */
static enum status add_zeros(struct planning *p, const struct weight_name *n, int layer, const char *name)
{
    char weight[200];
    weight_spell(n, NULL, layer, 0, weight, sizeof weight);
    memcpy(weight + strlen(weight) - 4, "weight", 7);
    const struct tensor *like = tensor_find(p->c->model->tensors, weight);
    if (!like)
        return error_set(p->err, STATUS_BAD_INPUT, "tensor %s is missing", weight);
    struct tensor zeros = {.type = p->mix ? mix_type(p->mix) : STORAGE_F32, .dims = 1, .shape = {like->shape[0]}};
    return add_tensor(p, name, &zeros, &(struct conversion_step){.from = NULL}, zeros.type);
}

static enum status add_weight(struct planning *p, const struct weight_name *n, int layer)
{
    struct conversion *c = p->c;
    const struct tensor *from = source(p, n, layer, 0), *factor = NULL;
    char name[200];
    if (is_idle(c, n, from) || (!from && !needs_zeros(p, n)))
        return STATUS_OK;
    weight_spell(n, c->to == MODEL_GGUF ? NULL : "model.", layer, 0, name, sizeof name);
    if (!from)
        return add_zeros(p, n, layer, name);
    struct tensor like = *from;
    enum storage type;
    struct conversion_step how = {.from = from};
    enum status status = choose_type(p, from, name, &type);
    if (!status)
        status = add_experts(p, n, layer, &like, &how);
    if (!status && c->model->container == MODEL_GGUF)
        status = weight_factor(c->model->tensors, from->name, &factor, &how.factor, p->err);
    if (factor)
        p->used[factor - c->model->tensors->tensors] = true;
    if (c->model->container != c->to)
        how.heads = n->rows == ROWS_OF_HEADS ? c->model->config.heads : n->rows == ROWS_OF_KV_HEADS ? c->model->config.kv_heads : 0;
    return status ? status : add_tensor(p, name, &like, &how, type);
}

/* Layers behind the last predict further tokens; no program has them yet, in either container. */
static bool predicts(const struct config *c, const char *name)
{
    const char *layer = strstr(name, "layers.");
    return c->predict_layers && layer && strtoll(layer + strlen("layers."), NULL, 10) >= c->layers;
}

/* Nothing may be lost without a word. */
static enum status check_all_used(const struct planning *p)
{
    const struct tensor_set *set = p->c->model->tensors;
    for (int64_t i = 0; i < set->tensor_count; i++) {
        const char *name = set->tensors[i].name;
        bool derived = ends_with(name, "rotary_emb.inv_freq") || !strcmp(name, "rope_freqs.weight") || /* follow from the configuration */
                       ends_with(name, ".input_scale") || /* for activations of 4 bits */
                       predicts(&p->c->model->config, name);
        if (!p->used[i] && !derived)
            return error_set(p->err, STATUS_BAD_INPUT, "tensor %s has no name in the other format", QUOTE(name, strlen(name)));
    }
    return STATUS_OK;
}

static bool per_layer(const struct weight_name *n) { return n->hf && strstr(n->hf, "%d"); }

/* Same container: every tensor with its name. */
static enum status plan_same(struct planning *p)
{
    const struct tensor_set *set = p->c->model->tensors;
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < set->tensor_count && !status; i++) {
        enum storage type;
        if (!(status = choose_type(p, &set->tensors[i], set->tensors[i].name, &type)))
            status = add_tensor(p, set->tensors[i].name, &set->tensors[i], &(struct conversion_step){.from = &set->tensors[i]}, type);
    }
    return status;
}

static enum status plan_other(struct planning *p)
{
    struct conversion *c = p->c;
    const struct weight_name *names = c->model->family->names;
    int count = *c->model->family->name_count;
    enum status status = STATUS_OK;
    if (c->to == MODEL_SAFETENSORS) { /* the switches of config.json follow from what is there */
        for (int64_t i = 0; i < c->model->tensors->tensor_count; i++) {
            const char *name = c->model->tensors->tensors[i].name;
            c->attention_bias |= ends_with(name, ".bias") && strstr(name, ".attn_");
            c->mlp_bias |= ends_with(name, ".bias") && strstr(name, ".ffn_");
        }
    }
    for (int i = 0; i < count && !status; i++)
        if (!per_layer(&names[i]))
            status = add_weight(p, &names[i], 0);
    for (int layer = 0; layer < c->model->config.layers && !status; layer++)
        for (int i = 0; i < count && !status; i++)
            if (per_layer(&names[i]))
                status = add_weight(p, &names[i], layer);
    return status ? status : check_all_used(p);
}

/* What the target has no words for. */
static enum status check_words(const struct planning *p)
{
    struct conversion *c = p->c;
    const struct config *config = &c->model->config;
    const struct rope_config *r = &config->rope;
    if (c->model->container == c->to)
        return STATUS_OK;
    if (c->to == MODEL_SAFETENSORS && (strcmp(config->family, "llama") || config->experts))
        return error_set(p->err, STATUS_BAD_INPUT, "a folder is written of models of architecture llama without experts alone so far, not of %s", config->family);
    if (c->to == MODEL_GGUF && (c->model->family->architecture ? strcmp(c->model->family->architecture, "llama") != 0 : config->experts > 0) && config->window)
        return error_set(p->err, STATUS_BAD_INPUT, "a sliding window has no key in GGUF files of this architecture: other programs would see all tokens");
    bool parts = c->model->family->architecture && (!strcmp(c->model->family->architecture, "glm4moe") || config->latent); /* rope.dimension_count counts there */
    if (!parts && (config->head_dim % 2 || (r->dims && r->dims != config->head_dim) || r->partial < 1))
        return error_set(p->err, STATUS_BAD_INPUT, "only a part of each head is rotated; files of this architecture always rotate whole heads");
    if (c->to == MODEL_SAFETENSORS) {
        if (r->factors && r->kind != ROPE_DEFAULT)
            return error_set(p->err, STATUS_BAD_INPUT, "rope_freqs.weight and a rope scaling type at once; config.json has no words for both");
        if (config->window && (c->attention_bias || c->mlp_bias))
            return error_set(p->err, STATUS_BAD_INPUT, "a sliding window and biases at once; neither LlamaConfig nor MistralConfig has words for both");
        return r->factors ? rope_find_llama3(r, (int)(config->head_dim / 2), &c->rope, p->err) : STATUS_OK;
    }
    if (config->activation != ACT_SILU)
        return error_set(p->err, STATUS_BAD_INPUT, "hidden_act is not silu, and a GGUF file of this architecture has no key for it: other programs would compute silu");
    if (r->kind == ROPE_DYNAMIC)
        return error_set(p->err, STATUS_BAD_INPUT, "rope type dynamic has no name in GGUF");
    if (r->kind == ROPE_YARN && !r->truncate)
        return error_set(p->err, STATUS_BAD_INPUT, "yarn with truncate: false has no key in GGUF");
    return STATUS_OK;
}

static enum status add_divisors(struct planning *p)
{
    const struct config *config = &p->c->model->config;
    int pairs = (int)(config->head_dim / 2);
    float *values = arena_array(p->arena, (size_t)pairs, sizeof *values);
    if (!values)
        return error_memory(p->err, "rope");
    rope_divisors(&config->rope, pairs, values);
    struct tensor like = {.type = STORAGE_F32, .dims = 1, .shape = {pairs}};
    return add_tensor(p, "rope_freqs.weight", &like, &(struct conversion_step){.values = values}, STORAGE_F32);
}

static enum status begin(struct planning *p, struct conversion *c, struct arena *arena, const struct model *m, enum model_container to,
                         const struct mix *mix, const struct imatrix *im, struct error *err)
{
    int64_t roles = *m->family->name_count * (m->config.layers + 1), most = m->tensors->tensor_count;
    *p = (struct planning){.c = c, .arena = arena, .mix = mix, .im = im, .capacity = (roles > most ? roles : most) + 1, .tied = m->config.tied, .err = err};
    *c = (struct conversion){.model = m, .to = to, .mix = mix, .rope = m->config.rope, .attention_bias = m->config.attention_bias, .mlp_bias = m->config.mlp_bias};
    c->tensors = arena_array(arena, (size_t)p->capacity, sizeof *c->tensors);
    c->how = arena_array(arena, (size_t)p->capacity, sizeof *c->how);
    p->used = arena_array(arena, (size_t)most + 1, sizeof *p->used);
    p->prefix = weight_prefix(m, &m->family->names[0]);
    return c->tensors && c->how && p->used ? STATUS_OK : error_memory(err, "the list of tensors");
}

enum status conversion_plan(struct conversion *c, struct arena *arena, const struct model *m, enum model_container to, const struct mix *mix,
                            const struct imatrix *im, struct error *err)
{
    if (to == MODEL_SAFETENSORS && mix && mix_quantises(mix))
        return error_set(err, STATUS_USAGE, "%s: a safetensors file cannot hold blocks of %s; write a GGUF file (--to gguf), or take f32, f16 or bf16",
                         mix_name(mix), storage_types[mix_type(mix)].name);
    if (m->container != to && m->family->names[MIX_CONV].hf)
        return error_set(err, STATUS_BAD_INPUT, "%s: models with recurrent layers are not written into the other container yet; their own takes other types", m->path);
    struct planning p;
    enum status status = begin(&p, c, arena, m, to, mix, im, err);
    if (status)
        return status;
    status = m->container == to ? plan_same(&p) : plan_other(&p);
    if (!status)
        status = check_words(&p);
    if (!status && m->container != to && to == MODEL_GGUF && m->config.rope.kind == ROPE_LLAMA3)
        status = add_divisors(&p);
    uint64_t bytes[STORAGE_COUNT] = {0};
    for (int64_t i = 0; i < c->count; i++)
        bytes[c->tensors[i].type] += c->tensors[i].bytes;
    for (int i = 0; i < STORAGE_COUNT; i++)
        if (bytes[i] > bytes[c->most])
            c->most = (enum storage)i;
    if (status)
        error_prefix(err, "%s", m->path);
    return status;
}

static enum status add_quantised(struct planning *p, const struct weight_name *n, int layer, int expert)
{
    const struct model *m = p->c->model;
    char name[200];
    enum storage type;
    if (!n->hf)
        return STATUS_OK;
    weight_spell(n, m->container == MODEL_GGUF ? NULL : p->prefix, layer, expert, name, sizeof name);
    const struct tensor *from = tensor_find(m->tensors, name);
    bool *used = from ? &p->used[from - m->tensors->tensors] : NULL; /* one tensor may have several roles */
    if (!from || from->dims < 2 || *used || is_idle(p->c, n, from))
        return STATUS_OK;
    *used = true;
    weight_spell(n, NULL, layer, expert, name, sizeof name);
    enum status status = choose_type(p, from, name, &type);
    if (status || storage_types[type].block_elements == 1)
        return status; /* stays what it is */
    if (!is_float(from->type))
        return error_set(p->err, STATUS_USAGE, "%s is quantised already (%s is %s): quantise the original checkpoint, or leave --quantize out",
                         p->c->model->path, QUOTE(from->name, strlen(from->name)), storage_types[from->type].name);
    return add_tensor(p, from->name, from, &(struct conversion_step){.from = from}, type);
}

enum status conversion_plan_quantised(struct conversion *c, struct arena *arena, const struct model *m, const struct mix *mix, struct error *err)
{
    struct planning p;
    const struct weight_name *names = m->family->names;
    enum status status = begin(&p, c, arena, m, MODEL_GGUF, mix, NULL, err);
    for (int i = 0; i < *m->family->name_count && !status; i++)
        for (int layer = 0; layer < (per_layer(&names[i]) ? m->config.layers : 1) && !status; layer++)
            for (int e = 0; e < (weight_per_expert(&names[i], m->container == MODEL_GGUF) ? m->config.experts : 1) && !status; e++)
                status = add_quantised(&p, &names[i], layer, e);
    if (!status && !c->count)
        status = error_set(err, STATUS_BAD_INPUT, "%s: no matrix of it can be quantised", m->path);
    return status;
}

/* ---- their bytes ---------------------------------------------------------------------------------------------------- */

struct writing {
    const struct conversion *c;
    struct tensor_writer *w;
    conversion_watch *watch;
    void *context;
    uint64_t done, told;
    struct error *err;
};

static enum status put(struct writing *x, const void *data, size_t size)
{
    enum status status = tensor_writer_add(x->w, data, size, x->err);
    x->done += size;
    if (!status && (x->done - x->told >= RAW_PIECE || x->done == x->c->bytes)) {
        x->told = x->done;
        if (x->watch && !x->watch(x->context, x->done, x->c->bytes)) {
            tensor_writer_abandon(x->w);
            status = error_set(x->err, STATUS_INTERRUPTED, "interrupted; nothing was written");
        }
    }
    return status;
}

static enum status put_raw(struct writing *x, const unsigned char *data, uint64_t size)
{
    enum status status = STATUS_OK;
    for (uint64_t at = 0; at < size && !status; at += RAW_PIECE)
        status = put(x, data + at, size - at < RAW_PIECE ? (size_t)(size - at) : RAW_PIECE);
    return status;
}

static enum status put_zeros(struct writing *x, uint64_t size)
{
    static const unsigned char zeros[4096];
    enum status status = STATUS_OK;
    for (uint64_t at = 0; at < size && !status; at += sizeof zeros)
        status = put(x, zeros, size - at < sizeof zeros ? (size_t)(size - at) : sizeof zeros);
    return status;
}

/* The row of the source that becomes row `row` of the target. */
static int64_t source_row(const struct conversion *c, int64_t row, int64_t rows, int64_t heads)
{
    if (!heads)
        return row;
    int64_t dim = rows / heads, half = dim / 2, first = row / dim * dim, i = row % dim;
    return first + (c->to == MODEL_GGUF ? i % 2 * half + i / 2 : i % half * 2 + i / half);
}

/* A batch of rows on its way through all cores: decoded, looked at, encoded. */
struct rows {
    const struct conversion *c;
    const struct tensor *from, *to;
    const struct conversion_step *how;
    int64_t columns, rows, first, count; /* of the tensor; of the batch */
    uint64_t in_bytes, out_bytes;        /* of a row */
    float *values;                       /* [threads, columns] */
    unsigned char *bytes;                /* [count, out_bytes] */
    double limit;                        /* what the type can hold */
    atomic_int_fast64_t refused;         /* a row with a value that it cannot; -1: none */
};

static const unsigned char *row_source(const struct rows *b, int64_t row)
{
    const struct conversion_step *how = b->how;
    if (how->rows) {
        int64_t matrix = row / how->rows, at = how->first + row % how->rows;
        return how->expert ? how->expert[matrix]->data + (uint64_t)at * b->in_bytes : b->from->data + (uint64_t)(matrix * how->of + at) * b->in_bytes;
    }
    return b->from->data + (uint64_t)source_row(b->c, row, b->rows, b->how->heads) * b->in_bytes;
}

static bool fits(const struct rows *b, float v) { return fabsf(v) < b->limit || (!isfinite(v) && storage_types[b->to->type].block_elements == 1); }

static void convert_rows(void *argument, int thread, int threads)
{
    struct rows *b = argument;
    const struct format *in = format_find(b->from->type), *out = format_find(b->to->type);
    float *values = b->values + thread * b->columns;
    for (int64_t i = thread; i < b->count; i += threads) {
        int64_t row = b->first + i;
        unsigned char *bytes = b->bytes + (uint64_t)i * b->out_bytes;
        if (b->from->type == b->to->type && b->how->factor == 0) {
            memcpy(bytes, row_source(b, row), (size_t)b->out_bytes);
            continue;
        }
        in->decode(row_source(b, row), values, b->columns);
        for (int64_t k = 0; b->how->factor != 0 && k < b->columns; k++)
            values[k] *= b->how->factor;
        bool good = true;
        for (int64_t k = 0; k < b->columns; k++)
            good &= fits(b, values[k]);
        const float *importance = b->how->importance;
        if (importance && b->how->matrices > 1)
            importance += row / (b->rows / b->how->matrices) * b->columns;
        if (good)
            out->encode(values, importance, bytes, b->columns);
        else
            atomic_store(&b->refused, row);
    }
}

static enum status refuse_row(struct rows *b, struct error *err)
{
    int64_t row = atomic_load(&b->refused), k = 0;
    format_find(b->from->type)->decode(row_source(b, row), b->values, b->columns);
    while (k < b->columns - 1 && fits(b, b->values[k]))
        k++;
    const char *name = QUOTE(b->from->name, strlen(b->from->name));
    if (!isfinite(b->values[k]))
        return error_set(err, STATUS_FAILED, "tensor %s holds %g in row %" PRId64 ": such weights cannot be quantised; is the checkpoint damaged?", name,
                         (double)b->values[k], row);
    return error_set(err, STATUS_FAILED, "tensor %s holds %g, beyond what %s can hold; take --type bf16 or f32", name, (double)b->values[k],
                     b->to->type == STORAGE_F16 ? "f16" : storage_types[b->to->type].name);
}

static enum status put_rows(struct writing *x, const struct tensor *t, const struct conversion_step *how)
{
    bool single = t->dims < 2 && how->heads; /* a bias: its values are the rows */
    bool plain = storage_types[t->type].block_elements == 1 && t->type != STORAGE_F16;
    struct rows b = {.c = x->c, .from = how->from, .to = t, .how = how, .columns = single || !t->dims ? 1 : t->shape[t->dims - 1]};
    b.limit = plain ? INFINITY : 65520;
    atomic_store(&b.refused, -1);
    if (!b.columns || !storage_bytes(b.from->type, (uint64_t)b.columns, &b.in_bytes) || !storage_bytes(t->type, (uint64_t)b.columns, &b.out_bytes))
        return error_set(x->err, STATUS_BAD_INPUT, "tensor %s: rows are no whole number of blocks", QUOTE(b.from->name, strlen(b.from->name)));
    b.rows = (int64_t)(t->bytes / b.out_bytes);
    int threads = team_cores();
    int64_t batch = (int64_t)(BATCH / b.out_bytes);
    batch = batch < threads ? threads : batch;
    b.values = malloc((size_t)threads * (size_t)b.columns * sizeof *b.values);
    b.bytes = malloc((size_t)(batch < b.rows ? batch : b.rows) * (size_t)b.out_bytes);
    enum status status = b.values && b.bytes ? STATUS_OK : error_memory(x->err, "some rows");
    for (; b.first < b.rows && !status; b.first += b.count) {
        b.count = b.rows - b.first < batch ? b.rows - b.first : batch;
        team_run(threads, convert_rows, &b);
        status = atomic_load(&b.refused) >= 0 ? refuse_row(&b, x->err) : put(x, b.bytes, (size_t)((uint64_t)b.count * b.out_bytes));
    }
    free(b.values);
    free(b.bytes);
    return status;
}

enum status conversion_write(const struct conversion *c, struct tensor_writer *w, conversion_watch *watch, void *context, struct error *err)
{
    struct writing x = {.c = c, .w = w, .watch = watch, .context = context, .err = err};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < c->count && !status; i++) {
        const struct tensor *t = &c->tensors[i];
        const struct conversion_step *how = &c->how[i];
        if (how->values)
            status = put(&x, how->values, (size_t)t->bytes);
        else if (!how->from)
            status = put_zeros(&x, t->bytes);
        else if (how->from->type == t->type && !how->heads && !how->rows && how->factor == 0)
            status = put_raw(&x, how->from->data, t->bytes);
        else
            status = put_rows(&x, t, how);
        const char *lost = status ? NULL : tensor_set_lost(c->model->tensors);
        if (lost)
            status = error_set(err, STATUS_FAILED, "%s: the file became shorter while it was read", lost);
    }
    if (status)
        tensor_writer_abandon(w);
    return status;
}
