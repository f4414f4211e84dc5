/* The public model: checkpoint, tokenizer and templates together, shared by counted references. */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/log.h"
#include "runtime/engine/engine.h"
#include "runtime/fetch/fetch.h"

/* Enough to tell checkpoints apart without reading them whole: names, types, shapes, 64 bytes of each tensor; and what the
 * configuration makes of the same weights: angles, time steps, state, norms. */
static bool identify(const struct model *m, const struct tensor_set *set, unsigned char out[32])
{
    const struct program *p = &m->program;
    const struct config *c = &m->config;
    double numbers[] = {c->norm_epsilon, (double)c->window, (double)c->activation, (double)c->heads, (double)c->kv_heads, (double)c->head_dim};
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool good = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) && EVP_DigestUpdate(hash, numbers, sizeof numbers);
    for (int i = 0; i < p->rope_count && good; i++) {
        const struct rope *r = &p->ropes[i];
        double turns[] = {r->dims, r->interleaved, (double)r->magnitude, (double)r->original, r->base, r->factor};
        good = EVP_DigestUpdate(hash, turns, sizeof turns) && EVP_DigestUpdate(hash, r->inverse_frequency, (size_t)r->dims / 2 * sizeof(float));
    }
    for (int i = 0; i < p->scan_count && good; i++) {
        const struct scan *s = &p->scans[i];
        double steps[] = {s->heads, s->key_heads, s->k_dim, s->v_dim, s->tiled, (double)s->dt_least, (double)s->dt_most};
        good = EVP_DigestUpdate(hash, steps, sizeof steps);
    }
    for (int64_t i = 0; i < set->tensor_count && good; i++) {
        const struct tensor *t = &set->tensors[i];
        size_t sample = t->bytes < 64 ? (size_t)t->bytes : 64;
        good = EVP_DigestUpdate(hash, t->name, strlen(t->name) + 1) && EVP_DigestUpdate(hash, &t->type, sizeof t->type) &&
               EVP_DigestUpdate(hash, t->shape, sizeof t->shape) && EVP_DigestUpdate(hash, t->data + t->bytes / 2 - sample / 2, sample);
    }
    good = good && EVP_DigestFinal_ex(hash, out, NULL);
    EVP_MD_CTX_free(hash);
    return good;
}

static enum status open_text(struct ingot_model *m, struct error *err)
{
    struct model *inside = m->model;
    bool gguf = inside->container == MODEL_GGUF;
    enum status status = gguf ? tokenizer_open_gguf(&m->tokenizer, inside->tensors, err) : tokenizer_open(&m->tokenizer, inside->folder, err);
    if (status == STATUS_NOT_FOUND) /* token ids alone are enough for some uses */
        status = STATUS_OK;
    if (status)
        return error_prefix(err, "%s", inside->path), status;
    status = gguf ? chat_source_open_gguf(&m->chat, inside->tensors, m->tokenizer, err) : chat_source_open(&m->chat, inside->folder, err);
    if (status)
        return status;
    m->speech = calloc((size_t)m->chat.count + 1, sizeof *m->speech);
    return m->speech ? STATUS_OK : error_memory(err, "templates");
}

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void collect_end_ids(struct ingot_model *m)
{
    for (int i = 0; i < m->model->end_count; i++)
        m->end_ids[m->end_count++] = m->model->end_ids[i];
    if (m->tokenizer)
        m->end_count += (int)tokenizer_end_ids(m->tokenizer, m->end_ids + m->end_count, 32);
    qsort(m->end_ids, (size_t)m->end_count, sizeof *m->end_ids, compare_ids);
}

bool model_ends_turn(const struct ingot_model *m, int32_t id)
{
    return bsearch(&id, m->end_ids, (size_t)m->end_count, sizeof id, compare_ids) != NULL;
}

static void fill_info(struct ingot_model *m)
{
    const struct config *c = &m->model->config;
    const struct program *p = &m->model->program;
    uint64_t bytes[STORAGE_COUNT] = {0};
    for (int i = 0; i < p->weight_count; i++)
        bytes[p->weights[i].format] += (uint64_t)(p->weights[i].row_bytes * p->weights[i].out * p->weights[i].experts);
    int most = 0;
    for (int i = 1; i < STORAGE_COUNT; i++)
        if (bytes[i] > bytes[most])
            most = i;
    uint64_t products = 0;
    for (int i = 0; i < p->op_count; i++)
        if ((p->ops[i].kind == OP_LINEAR || p->ops[i].kind == OP_EXPERTS) && p->buffers[p->ops[i].y].rows == ROWS_ALL)
            products += (uint64_t)(p->buffers[p->ops[i].y].width * p->weights[p->ops[i].w].in);
    m->info = (struct ingot_model_info){.path = m->model->path,
                                        .family = c->family,
                                        .dtype = storage_types[most].name,
                                        .vocab = c->vocab,
                                        .context = c->context,
                                        .layers = c->layers,
                                        .hidden = c->hidden,
                                        .heads = c->heads,
                                        .kv_heads = c->kv_heads,
                                        .head_dim = c->head_dim,
                                        .parameters = m->model->parameters,
                                        .weight_bytes = m->model->weight_bytes,
                                        .read_bytes = model_read_bytes(m->model),
                                        .products = products,
                                        .has_tokenizer = m->tokenizer != NULL,
                                        .has_template = m->chat.count > 0};
}

enum ingot_status ingot_find_model(const char *name, bool offline, char *path, size_t size, struct ingot_error *err)
{
    struct arena arena = {0};
    struct ingot_model_options o = {.offline = offline};
    char *found;
    enum status status = fetch_find(&arena, name, &o, &found, inner(err));
    if (!status && strlen(found) >= size)
        status = error_set(inner(err), STATUS_USAGE, "the path of %s is too long", QUOTE(name, strlen(name)));
    if (!status)
        memcpy(path, found, strlen(found) + 1);
    arena_free(&arena);
    return (enum ingot_status)status;
}

static enum status open_all(struct ingot_model *m, const char *name, const struct ingot_model_options *o, struct error *err)
{
    struct arena arena = {0};
    char *path;
    bool quantise = o->quantize && strcasecmp(o->quantize, "none") != 0; /* the blocks are what is read then */
    enum status status = fetch_find(&arena, name, o, &path, err);
    if (!status)
        status = model_open(&m->model, path, o->no_mmap && !quantise ? MAPPING_COPY : MAPPING_FILE, err);
    arena_free(&arena);
    if (!status && !identify(m->model, m->model->tensors, m->identity))
        status = error_memory(err, "the model's identity");
    if (!status && quantise)
        status = model_quantise(m->model, m->identity, o, err);
    if (!status && m->model->quantised && !identify(m->model, m->model->quantised, m->identity))
        status = error_memory(err, "the model's identity");
    const struct tensor_set *read = status ? NULL : m->model->quantised ? m->model->quantised : m->model->tensors;
    for (int i = 0; !status && o->mlock && i < read->file_count; i++)
        status = mapping_lock(read->files[i], err);
    if (!status)
        status = open_text(m, err);
    if (status)
        return status;
    if (m->tokenizer && tokenizer_size(m->tokenizer) > m->model->config.vocab)
        log_line(LOG_VERBOSE, "%s: the tokenizer knows %d ids, the model %lld: those beyond are refused", m->model->path,
                 tokenizer_size(m->tokenizer), (long long)m->model->config.vocab);
    collect_end_ids(m);
    fill_info(m);
    return STATUS_OK;
}

enum ingot_status ingot_model_open(struct ingot_model **out, const char *name, const struct ingot_model_options *options, struct ingot_error *err)
{
    *out = NULL;
    struct ingot_model *m = calloc(1, sizeof *m);
    if (!m)
        return (enum ingot_status)error_memory(inner(err), "a model");
    atomic_store(&m->references, 1);
    pthread_mutex_init(&m->lock, NULL);
    enum status status = open_all(m, name, options ? options : &(struct ingot_model_options){0}, inner(err));
    if (status) {
        ingot_model_close(m);
        return (enum ingot_status)status;
    }
    *out = m;
    return INGOT_OK;
}

struct ingot_model *ingot_model_share(struct ingot_model *m)
{
    atomic_fetch_add(&m->references, 1);
    return m;
}

static void free_speech(struct ingot_model *m)
{
    for (int i = 0; m->speech && i < m->chat.count; i++) {
        chat_free(m->speech[i].template);
        dialect_choice_free(&m->speech[i].dialect);
        call_notation_free(&m->speech[i].calls);
    }
    free(m->speech);
}

void ingot_model_close(struct ingot_model *m)
{
    if (!m || atomic_fetch_sub(&m->references, 1) > 1)
        return;
    free_speech(m);
    chat_source_close(&m->chat);
    grammar_vocabulary_close(m->vocabulary);
    tokenizer_close(m->tokenizer);
    model_close(m->model);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void ingot_model_info(const struct ingot_model *m, struct ingot_model_info *out) { *out = m->info; }

enum ingot_status ingot_tokenize(const struct ingot_model *m, const char *text, size_t size, bool add_special, bool parse_special,
                                 int32_t **ids, size_t *count, struct ingot_error *err)
{
    if (!m->tokenizer)
        return (enum ingot_status)error_set(inner(err), STATUS_USAGE, "%s has no tokenizer; give token ids (--tokens)", m->info.path);
    struct ids list = {*ids, *count, *count, false};
    struct encode_options options = {add_special, parse_special};
    enum status status = tokenizer_encode(m->tokenizer, text, size, options, &list, inner(err));
    *ids = list.data;
    *count = list.count;
    return (enum ingot_status)status;
}

enum status model_vocabulary(struct ingot_model *m, const struct grammar_vocabulary **out, struct error *err)
{
    *out = NULL;
    if (!m->tokenizer)
        return error_set(err, STATUS_USAGE, "%s has no tokenizer, which a grammar needs", m->info.path);
    pthread_mutex_lock(&m->lock);
    enum status status = m->vocabulary ? STATUS_OK
                                       : grammar_vocabulary_open(&m->vocabulary, m->tokenizer, m->end_ids, (size_t)m->end_count, err);
    *out = m->vocabulary;
    pthread_mutex_unlock(&m->lock);
    return status;
}

static enum status prepare_speech(const struct ingot_model *m, const struct chat_named *named, struct speech *s, struct error *err)
{
    enum status status = chat_compile(&s->template, named->name, named->text, named->size, err);
    if (status)
        return status;
    chat_probe(s->template, &m->chat, &s->can);
    status = dialect_detect(&s->dialect, &m->chat, named, m->tokenizer, err);
    if (!status && (status = call_notation_find(&s->calls, s->dialect.dialect, s->template, &m->chat, err)))
        dialect_choice_free(&s->dialect);
    if (status) {
        chat_free(s->template);
        s->template = NULL;
    }
    return status;
}

enum status model_speech(struct ingot_model *m, const char *template_name, bool has_tools, const struct speech **out, struct error *err)
{
    if (!m->chat.count)
        return error_set(err, STATUS_USAGE, "%s has no chat template; name one with --template FILE, or use --raw", m->info.path);
    const struct chat_named *named = chat_choose(&m->chat, template_name, has_tools, err);
    if (!named)
        return STATUS_NOT_FOUND;
    struct speech *slot = &m->speech[named - m->chat.templates];
    pthread_mutex_lock(&m->lock);
    enum status status = slot->template ? STATUS_OK : prepare_speech(m, named, slot, err);
    pthread_mutex_unlock(&m->lock);
    *out = slot;
    return status;
}

enum ingot_status ingot_model_use_template(struct ingot_model *m, const char *path, struct ingot_error *err)
{
    struct chat_source *c = &m->chat;
    struct chat_named *one = arena_alloc(&c->arena, sizeof *one);
    struct speech *speech = calloc(1, sizeof *speech);
    char *text;
    enum status status = one && speech ? file_read(&c->arena, path, 16 << 20, &text, &one->size, inner(err)) : error_memory(inner(err), "a template");
    if (!status) {
        one->name = arena_copy(&c->arena, path, strlen(path));
        one->text = text;
        status = one->name ? prepare_speech(m, one, speech, inner(err)) : error_memory(inner(err), "a template");
    }
    if (status) {
        free(speech);
        return (enum ingot_status)status;
    }
    free_speech(m);
    m->speech = speech;
    c->templates = one;
    c->count = 1;
    m->info.has_template = true;
    return INGOT_OK;
}
