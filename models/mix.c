/* Which matrix gets which type: models/mixes.def read. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "models/private.h"

enum whose { OTHER, VALUE, DOWN, ATTENTION, OUTPUT, EMBEDDING, QUERY };
enum where { ALL, EIGHTH, SIXTEENTH, TWO, FOUR, SPREAD, SHARED };

#define Q2_K STORAGE_Q2_K
#define Q3_K STORAGE_Q3_K
#define Q4_K STORAGE_Q4_K
#define Q5_K STORAGE_Q5_K
#define Q6_K STORAGE_Q6_K
#define IQ2_XXS STORAGE_IQ2_XXS
#define IQ2_S STORAGE_IQ2_S
#define IQ3_XXS STORAGE_IQ3_XXS
#define IQ3_S STORAGE_IQ3_S

struct mix {
    const char *name;
    int number;
    enum storage type, output;
    struct rule {
        enum whose whose;
        enum where where;
        enum storage type;
    } rules[8]; /* ends with OTHER */
};

static const struct mix mixes[] = {
#define MIX(name, number, type, output, ...) {name, number, STORAGE_##type, STORAGE_##output, {__VA_ARGS__}},
#define ALIAS(name, mix)
#define NARROW(type, instead)
#include "models/mixes.def"
#undef MIX
#undef ALIAS
#undef NARROW
};
enum { COUNT = sizeof mixes / sizeof *mixes };

static const struct {
    const char *name, *mix;
} aliases[] = {
#define MIX(name, number, type, output, ...)
#define ALIAS(name, mix) {name, mix},
#define NARROW(type, instead)
#include "models/mixes.def"
#undef MIX
#undef ALIAS
#undef NARROW
};

static enum storage narrower(enum storage type)
{
    switch (type) {
#define MIX(name, number, type, output, ...)
#define ALIAS(name, mix)
#define NARROW(type, instead) case STORAGE_##type: return STORAGE_##instead;
#include "models/mixes.def"
#undef MIX
#undef ALIAS
#undef NARROW
    default: return type;
    }
}

const struct mix *mix_find(const char *name)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcasecmp(name, aliases[i].name))
            name = aliases[i].mix;
    for (int i = 0; i < COUNT; i++)
        if (!strcasecmp(name, mixes[i].name))
            return &mixes[i];
    return NULL;
}

const char *mix_list(char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < COUNT && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", mixes[i].name);
    return out;
}

const char *mix_name(const struct mix *m) { return m->name; }
int mix_number(const struct mix *m) { return m->number; }
enum storage mix_type(const struct mix *m) { return m->type; }
bool mix_quantises(const struct mix *m) { return storage_types[m->type].block_elements > 1; }

static enum whose find_whose(const char *part, bool tied)
{
    static const struct {
        const char *name;
        enum whose whose;
    } known[] = {{"attn_v.weight", VALUE}, {"attn_qkv.weight", VALUE}, {"attn_kv_b.weight", VALUE}, {"ffn_down", DOWN}, {"attn_output.weight", ATTENTION}, {"output.weight", OUTPUT},
                 {"attn_q.weight", QUERY}, {"attn_k.weight", QUERY}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(part, known[i].name, strlen(known[i].name)))
            return known[i].whose;
    return strcmp(part, "token_embd.weight") ? OTHER : tied ? OUTPUT : EMBEDDING;
}

static bool is_there(enum where where, int layer, int layers, int64_t queries_per_value)
{
    switch (where) {
    case ALL: return true;
    case EIGHTH: return layer < layers / 8;
    case SIXTEENTH: return layer < layers / 16;
    case TWO: return layer < 2;
    case FOUR: return layer < 4;
    case SPREAD: return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
    case SHARED: return queries_per_value >= 4;
    }
    return false;
}

/* Small or delicate matrices that stay floats: what chooses experts, positions, convolutions, and what is no weight (a scan's decay). */
static bool stays_float(const char *part)
{
    static const char *const parts[] = {"_norm", "ffn_gate_inp", "position_embd", "token_types", "ssm_conv1d", "shortconv.conv."};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(part, parts[i]))
            return true;
    return !strstr(part, ".weight");
}

enum storage mix_choose(const struct mix *m, const struct config *config, bool tied, const char *name, int64_t columns, enum storage *wanted)
{
    int layer = 0, skip = 0;
    if (sscanf(name, "blk.%d.%n", &layer, &skip) == 1)
        name += skip;
    enum storage type = m->type;
    if (mix_quantises(m) && stays_float(name))
        return *wanted = STORAGE_F32;
    enum whose whose = find_whose(name, tied);
    if (whose == OUTPUT)
        type = m->output;
    for (const struct rule *r = m->rules; r->whose; r++)
        if (r->whose == whose && is_there(r->where, layer, (int)config->layers, config->heads / (config->kv_heads ? config->kv_heads : 1))) {
            type = r->type;
            break;
        }
    *wanted = type;
    if (columns % storage_types[type].block_elements)
        type = narrower(type);
    return columns % storage_types[type].block_elements ? STORAGE_F16 : type;
}
