/* Rotary embedding: what the files say, and the frequencies that follow (transformers, modeling_rope_utils.py). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/private.h"

static const struct {
    const char *name;
    enum rope_kind kind;
} kinds[] = {{"default", ROPE_DEFAULT}, {"none", ROPE_DEFAULT}, {"linear", ROPE_LINEAR}, {"dynamic", ROPE_DYNAMIC}, {"yarn", ROPE_YARN}, {"llama3", ROPE_LLAMA3}};

static enum status find_kind(const char *text, size_t size, enum rope_kind *out, struct error *err)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strlen(kinds[i].name) == size && !memcmp(kinds[i].name, text, size)) {
            *out = kinds[i].kind;
            return STATUS_OK;
        }
    return error_set(err, STATUS_BAD_INPUT, "rope type %s is not supported (default, linear, dynamic, yarn, llama3 are)", QUOTE(text, size));
}

static enum status read(const struct json *object, const char *key, double *out, struct error *err)
{
    const struct json *v = json_get(object, key);
    if (!v || v->kind == JSON_NULL)
        return STATUS_OK;
    return json_double(v, out) ? STATUS_OK
                               : error_set(err, STATUS_BAD_INPUT, "%s is %s where a finite number is needed", key,
                                           v->kind == JSON_NUMBER ? QUOTE(v->text, v->size) : json_kind_name(v));
}

static enum status check(const struct rope_config *r, const char *theta, const char *factor, struct error *err)
{
    if (!(r->theta > 0))
        return error_set(err, STATUS_BAD_INPUT, "%s is %g; it must be above 0", theta, r->theta);
    if (!(r->partial > 0 && r->partial <= 1))
        return error_set(err, STATUS_BAD_INPUT, "partial_rotary_factor is %g; it must be above 0 and at most 1", r->partial);
    if (r->kind != ROPE_DEFAULT && !(r->factor > 0))
        return error_set(err, STATUS_BAD_INPUT, "%s of the rope scaling is %g; it must be above 0", factor, r->factor);
    if (r->kind == ROPE_LLAMA3 && !(r->low > 0 && r->high > r->low && r->original > 0))
        return error_set(err, STATUS_BAD_INPUT,
                         "rope type llama3 needs low_freq_factor < high_freq_factor and original_max_position_embeddings, all above 0");
    if (r->original < 0 || r->beta_fast < 0 || r->beta_slow < 0 || r->attention_factor < 0)
        return error_set(err, STATUS_BAD_INPUT, "the rope scaling holds a negative number");
    return STATUS_OK;
}

static bool is_qwen3_next(const char *family) { return !strcmp(family, "qwen3_next") || !strncmp(family, "qwen3_5", 7); }

enum status rope_read_json(struct config *c, const struct json *root, struct error *err)
{
    struct rope_config *r = &c->rope;
    *r = (struct rope_config){.theta = strcmp(c->family, "lfm2") ? 10000 : 1e6, .partial = !strcmp(c->family, "glm4_moe") ? 0.5 : is_qwen3_next(c->family) ? 0.25 : 1, .truncate = true};
    const struct json *scaling = json_get(root, "rope_parameters");
    if (!scaling || scaling->kind == JSON_NULL)
        scaling = json_get(root, "rope_scaling");
    if (scaling && scaling->kind == JSON_NULL)
        scaling = NULL;
    if (scaling && scaling->kind != JSON_OBJECT)
        return error_set(err, STATUS_BAD_INPUT, "rope_scaling is %s where an object is needed", json_kind_name(scaling));
    enum status status;
    if ((status = read(root, "rope_theta", &r->theta, err)) || (status = read(root, "partial_rotary_factor", &r->partial, err)))
        return status;
    const struct json *type = json_get(scaling, "rope_type");
    if (!type)
        type = json_get(scaling, "type");
    if (type && type->kind != JSON_STRING)
        return error_set(err, STATUS_BAD_INPUT, "rope_type is %s where a name is needed", json_kind_name(type));
    if (type && (status = find_kind(type->text, type->size, &r->kind, err)))
        return status;
    const struct {
        const char *key;
        double *value;
    } values[] = {{"rope_theta", &r->theta},
                  {"partial_rotary_factor", &r->partial},
                  {"factor", &r->factor},
                  {"original_max_position_embeddings", &r->original},
                  {"low_freq_factor", &r->low},
                  {"high_freq_factor", &r->high},
                  {"beta_fast", &r->beta_fast},
                  {"beta_slow", &r->beta_slow},
                  {"attention_factor", &r->attention_factor},
                  {"mscale", &r->mscale},
                  {"mscale_all_dim", &r->mscale_all_dim}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if ((status = read(scaling, values[i].key, values[i].value, err)))
            return status;
    const struct json *truncate = json_get(scaling, "truncate");
    if (truncate && !json_bool(truncate, &r->truncate))
        return error_set(err, STATUS_BAD_INPUT, "truncate of the rope scaling is %s where true or false is needed", json_kind_name(truncate));
    if (scaling && r->kind == ROPE_YARN && !r->factor && r->original > 0)
        r->factor = (double)c->context / r->original;
    return check(r, "rope_theta", "factor", err);
}

/* ggml multiplies attn_factor with yarn's own magnitude, transformers' attention_factor stands in its place. */
static enum status read_yarn_gguf(struct model *m, const char *arch, struct error *err)
{
    struct rope_config *r = &m->config.rope;
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.yarn_beta_fast", arch);
    enum status status = meta_float(m->tensors, key, &r->beta_fast, NULL, err);
    snprintf(key, sizeof key, "%s.rope.scaling.yarn_beta_slow", arch);
    if (!status)
        status = meta_float(m->tensors, key, &r->beta_slow, NULL, err);
    r->attention_factor *= rope_mscale(r->factor, 1);
    return status;
}

enum status rope_read_gguf(struct model *m, const char *arch, struct error *err)
{
    struct rope_config *r = &m->config.rope;
    *r = (struct rope_config){.theta = 10000, .partial = 1, .truncate = true};
    if (!m->config.heads) /* nothing turns; config_finish() tells who may have none */
        return STATUS_OK;
    char theta[128], factor[128], key[128];
    snprintf(theta, sizeof theta, "%s.rope.freq_base", arch);
    snprintf(factor, sizeof factor, "%s.rope.scaling.factor", arch);
    enum status status = meta_float(m->tensors, theta, &r->theta, NULL, err);
    if (!status)
        status = meta_float(m->tensors, factor, &r->factor, NULL, err);
    snprintf(key, sizeof key, "%s.rope.scaling.original_context_length", arch);
    if (!status)
        status = meta_float(m->tensors, key, &r->original, NULL, err);
    snprintf(key, sizeof key, "%s.rope.scaling.attn_factor", arch);
    if (!status)
        status = meta_float(m->tensors, key, &r->attention_factor, NULL, err);
    bool found = false;
    snprintf(key, sizeof key, "%s.rope.dimension_count", arch);
    if (!status)
        status = meta_int(m->tensors, key, &r->dims, &found, err);
    if (status)
        return status;
    int64_t head_dim = m->config.head_dim ? m->config.head_dim : m->config.hidden / m->config.heads;
    if (found && (r->dims < 2 || r->dims % 2 || r->dims > head_dim))
        return error_set(err, STATUS_BAD_INPUT, "%s is %" PRId64 "; it must be even and at most %" PRId64 ", the values of a head", key, r->dims, head_dim);
    const char *type = NULL;
    uint64_t size = 0;
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    if ((status = meta_string(m->tensors, key, &type, &size, &found, err)))
        return status;
    if (found && (status = find_kind(type, size, &r->kind, err)))
        return status;
    if (r->kind == ROPE_YARN && (status = read_yarn_gguf(m, arch, err)))
        return status;
    r->factors = tensor_find(m->tensors, "rope_freqs.weight");
    return check(r, theta, factor, err);
}

/* ---- frequencies ---------------------------------------------------------------------------------------------------- */

static double llama3_scaled(const struct rope_config *r, double f)
{
    double wave = 2 * M_PI / f, smooth = (r->original / wave - r->low) / (r->high - r->low);
    return wave > r->original / r->low ? f / r->factor : wave < r->original / r->high ? f : (1 - smooth) * f / r->factor + smooth * f;
}

static void scale_llama3(const struct rope_config *r, float *frequency, int pairs)
{
    for (int i = 0; i < pairs; i++)
        frequency[i] = (float)llama3_scaled(r, (double)frequency[i]);
}

static double pair_frequency(const struct rope_config *r, int i, int pairs) { return (double)(float)(1.0 / pow(r->theta, (double)i / pairs)); }

void rope_divisors(const struct rope_config *r, int pairs, float *out)
{
    for (int i = 0; i < pairs; i++)
        out[i] = (float)(pair_frequency(r, i, pairs) / llama3_scaled(r, pair_frequency(r, i, pairs)));
}

/* The file holds the result only. Factor is the divisor of the longest waves; low 1 and high 4 are what every published
 * checkpoint has (a common multiple of all three would mean the same), and the trained length is a power of two. */
enum status rope_find_llama3(const struct rope_config *r, int pairs, struct rope_config *out, struct error *err)
{
    const struct tensor *t = r->factors;
    float divisor[1024], made[1024];
    if (t->type != STORAGE_F32 || t->dims != 1 || t->shape[0] != pairs || pairs > 1024)
        return error_set(err, STATUS_BAD_INPUT, "rope_freqs.weight: %d values of F32 are needed", pairs);
    memcpy(divisor, t->data, (size_t)pairs * sizeof *divisor);
    double longest = round((double)divisor[pairs - 1] * 1e4) / 1e4;
    for (int power = 13, i = 0; i < 22; power = 4 + i++) { /* 8192 first, then 16 to 2^24 */
        *out = *r;
        out->kind = ROPE_LLAMA3;
        out->factors = NULL;
        out->factor = longest;
        out->low = 1;
        out->high = 4;
        out->original = ldexp(1, power);
        if (!(longest > 0))
            break;
        rope_divisors(out, pairs, made);
        int same = 0;
        while (same < pairs && fabs((double)(made[same] - divisor[same])) <= 2e-5 * (double)made[same])
            same++;
        if (same == pairs)
            return STATUS_OK;
    }
    return error_set(err, STATUS_BAD_INPUT,
                     "rope_freqs.weight holds divisors that are not Llama 3's scaling; config.json has no words for others (longrope is not supported yet)");
}

static double correction_dim(double rotations, double dims, double theta, double original)
{
    return dims * log(original / (rotations * 2 * M_PI)) / (2 * log(theta));
}

double rope_mscale(double factor, double m) { return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1; }

static void scale_yarn(const struct rope_config *r, float *frequency, int dims, double original, float *magnitude)
{
    double low = correction_dim(r->beta_fast ? r->beta_fast : 32, dims, r->theta, original);
    double high = correction_dim(r->beta_slow ? r->beta_slow : 1, dims, r->theta, original);
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, dims - 1);
    if (low == high)
        high += 0.001;
    for (int i = 0; i < dims / 2; i++) {
        double ramp = fmin(fmax((i - low) / (high - low), 0), 1), f = (double)frequency[i];
        frequency[i] = (float)(f / r->factor * ramp + f * (1 - ramp));
    }
    *magnitude = (float)(r->attention_factor                ? r->attention_factor
                         : r->mscale && r->mscale_all_dim ? rope_mscale(r->factor, r->mscale) / rope_mscale(r->factor, r->mscale_all_dim)
                                                            : rope_mscale(r->factor, 1));
}

/* GGUF gives Llama 3's scaling as divisors, one per pair. */
static enum status divide(const struct tensor *factors, float *frequency, int pairs, struct error *err)
{
    if (factors->type != STORAGE_F32 || factors->dims != 1 || factors->shape[0] != pairs)
        return error_set(err, STATUS_BAD_INPUT, "rope_freqs.weight: %d values of F32 are needed", pairs);
    for (int i = 0; i < pairs; i++) {
        float divisor;
        memcpy(&divisor, factors->data + (size_t)i * 4, 4);
        if (!(divisor > 0) || !isfinite(divisor))
            return error_set(err, STATUS_BAD_INPUT, "rope_freqs.weight: value %d is not above 0", i);
        frequency[i] /= divisor;
    }
    return STATUS_OK;
}

int rope_add(struct model *m, struct error *err)
{
    const struct config *c = &m->config;
    const struct rope_config *r = &c->rope;
    int dims = (int)(r->dims ? r->dims : (int64_t)((double)c->head_dim * r->partial)), pairs = dims / 2;
    if (dims < 2 || dims % 2)
        return error_set(err, STATUS_BAD_INPUT, "head_dim: %d rotated values per head; pairs need an even number", dims), -1;
    float *frequency = arena_array(&m->arena, (size_t)pairs, sizeof *frequency);
    if (!frequency)
        return error_memory(err, "rope"), -1;
    for (int i = 0; i < pairs; i++)
        frequency[i] = (float)(1.0 / pow(r->theta, (double)(2 * i) / dims));
    struct rope rope = {.dims = dims, .interleaved = r->interleaved, .inverse_frequency = frequency, .magnitude = 1};
    double original = r->original ? r->original : (double)c->context;
    if (r->factors && divide(r->factors, frequency, pairs, err))
        return -1;
    switch (r->kind) {
    case ROPE_DEFAULT:
        break;
    case ROPE_LINEAR:
        for (int i = 0; i < pairs; i++)
            frequency[i] = (float)((double)frequency[i] / r->factor);
        break;
    case ROPE_DYNAMIC:
        rope.original = (int64_t)original;
        rope.base = r->theta;
        rope.factor = r->factor;
        break;
    case ROPE_YARN:
        scale_yarn(r, frequency, dims, original, &rope.magnitude);
        break;
    case ROPE_LLAMA3:
        scale_llama3(r, frequency, pairs);
        break;
    }
    return program_rope(&m->program, &rope);
}
