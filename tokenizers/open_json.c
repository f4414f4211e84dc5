/* tokenizer.json. The vocabulary and the merges, nearly all of the file, are read without a tree. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tokenizers/internal.h"

enum { LARGE_VOCAB = 1, LARGE_MERGES };

struct reading {
    struct tokenizer *t;
    bool in_model, vocab, in_merges; /* seen */
    bool indexed;                 /* the vocabulary is complete */
    bool vocab_list;              /* an array: Unigram's form */
    struct merge_queue merges;
    struct scores scores;
};

/* ---- the large parts --------------------------------------------------------------------------------------------------- */

static bool is_key(const char *key, size_t size, const char *name) { return size == strlen(name) && memcmp(key, name, size) == 0; }

static int large(void *context, int depth, const char *key, size_t size)
{
    struct reading *r = context;
    if (depth == 1)
        r->in_model = is_key(key, size, "model");
    if (depth != 2 || !r->in_model)
        return 0;
    return is_key(key, size, "vocab") ? LARGE_VOCAB : is_key(key, size, "merges") ? LARGE_MERGES : 0;
}

/* A score as the package's JSON reader (serde_json without float_roundtrip) has it: up to one unit in the last place beside the
 * nearest double, which decides between ways of equal sums. v is a number of valid JSON. */
static double read_score(const struct json *v)
{
    uint64_t digits = 0;
    int exponent = 0, power = 0;
    bool fraction = false, full = false, down = false;
    const char *at = v->text + (v->text[0] == '-'), *end = v->text + v->size;
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        unsigned digit = (unsigned)(*at - '0');
        fraction |= *at == '.';
        if (*at == '.' || (full && fraction))
            continue;
        full |= digits > (UINT64_MAX - digit) / 10;
        digits = full ? digits : digits * 10 + digit;
        exponent += full ? !fraction : -fraction;
    }
    for (at += at < end; at < end && power < 10000; at++) {
        down |= *at == '-';
        power = *at >= '0' && *at <= '9' ? power * 10 + (*at - '0') : power;
    }
    exponent += down ? -power : power;
    double value = (double)digits;
    for (; exponent < -308 && value != 0; exponent += 308)
        value /= 1e308;
    char text[16];
    snprintf(text, sizeof text, "1e%d", exponent < 0 ? (exponent < -308 ? 308 : -exponent) : exponent > 308 ? 308 : exponent);
    value = exponent < 0 ? value / strtod(text, NULL) : value * strtod(text, NULL);
    return v->text[0] == '-' ? -value : value;
}

/* ["piece", score], the next id */
static enum status scored_child(struct reading *r, const struct json *v, struct error *err)
{
    struct scores *s = &r->scores;
    double score;
    if (r->t->vocabulary.count != s->count || s->count >= INT32_MAX || v->kind != JSON_ARRAY || v->size != 2 ||
        v->items[0].kind != JSON_STRING || !json_double(&v->items[1], &score))
        return error_set(err, STATUS_BAD_INPUT, "model: vocab: entry %zu must be [\"piece\", score]", s->count);
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 1024;
        double *list = realloc(s->list, capacity * sizeof *list);
        if (!list)
            return error_memory(err, "the vocabulary");
        s->list = list;
        s->capacity = capacity;
    }
    s->list[s->count] = read_score(&v->items[1]);
    return vocabulary_add(&r->t->vocabulary, v->items[0].text, v->items[0].size, (int32_t)s->count++, err);
}

static enum status vocab_child(struct reading *r, const struct json_member *m, struct error *err)
{
    int64_t id;
    r->vocab_list |= !m->key;
    if (r->vocab_list)
        return scored_child(r, &m->value, err);
    if (!json_int(&m->value, &id) || id < 0 || id >= INT32_MAX)
        return error_set(err, STATUS_BAD_INPUT, "model: vocab: the id of \"%s\" is not a whole number of 0 to %d", QUOTE(m->key, m->key_size),
                         INT32_MAX - 1);
    return vocabulary_add(&r->t->vocabulary, m->key, m->key_size, (int32_t)id, err);
}

static enum status merges_child(struct reading *r, const struct json *v, struct error *err)
{
    struct wanted_text left, right;
    if (v->kind == JSON_STRING) {
        if (v->size >= 8 && memcmp(v->text, "#version", 8) == 0)
            return STATUS_OK;
        const char *blank = memchr(v->text, ' ', v->size);
        if (!blank || memchr(blank + 1, ' ', v->size - (size_t)(blank + 1 - v->text)))
            return error_set(err, STATUS_BAD_INPUT, "model: merges: merge %zu, \"%s\", must have two parts", r->merges.count, QUOTE(v->text, v->size));
        left = (struct wanted_text){v->text, (uint32_t)(blank - v->text), false};
        right = (struct wanted_text){blank + 1, v->size - left.size - 1, false};
    } else if (v->kind == JSON_ARRAY && v->size == 2 && v->items[0].kind == JSON_STRING && v->items[1].kind == JSON_STRING) {
        left = (struct wanted_text){v->items[0].text, v->items[0].size, false};
        right = (struct wanted_text){v->items[1].text, v->items[1].size, false};
    } else {
        return error_set(err, STATUS_BAD_INPUT, "model: merges: merge %zu must be \"a b\" or [\"a\", \"b\"]", r->merges.count);
    }
    return queue_add(&r->merges, left, right, err);
}

static enum status child(void *context, int which, const struct json_member *m, struct error *err)
{
    struct reading *r = context;
    if (which == LARGE_VOCAB) {
        if (r->indexed)
            return error_set(err, STATUS_BAD_INPUT, "model: \"vocab\" occurs twice");
        r->vocab = true;
        return vocab_child(r, m, err);
    }
    enum status status = STATUS_OK;
    if (!r->in_merges && r->vocab && !r->vocab_list) {
        status = vocabulary_index(&r->t->vocabulary, TWICE_REFUSED, err);
        r->indexed = !status;
        if (!status)
            queue_open(&r->merges);
    }
    r->in_merges = true;
    return status ? status : merges_child(r, &m->value, err);
}

/* ---- added tokens ----------------------------------------------------------------------------------------------------------- */

struct wanted {
    const struct json *v, *content;
    uint32_t index;
    bool again; /* the same text came before */
};

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *x = *(const struct wanted *const *)a, *y = *(const struct wanted *const *)b;
    uint32_t n = x->content->size < y->content->size ? x->content->size : y->content->size;
    int order = n ? memcmp(x->content->text, y->content->text, n) : 0;
    if (order || x->content->size != y->content->size)
        return order ? order : x->content->size < y->content->size ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static enum status check_added(struct opening *o, const struct json *v, struct wanted *w)
{
    int64_t id;
    w->v = v;
    w->content = json_get(v, "content");
    if (!json_is(w->content, JSON_STRING))
        return error_set(o->err, STATUS_BAD_INPUT, "added_tokens: entry %u: \"content\" must be a string, not %s", w->index, json_kind_name(w->content));
    if (!json_int(json_get(v, "id"), &id) || id < 0 || id >= INT32_MAX)
        return error_set(o->err, STATUS_BAD_INPUT, "added_tokens: \"id\" of \"%s\" must be a whole number of 0 to %d",
                         QUOTE(w->content->text, w->content->size), INT32_MAX - 1);
    return STATUS_OK;
}

/* The id is the model's if it knows the text, else the next one behind all ids so far: the package ignores the file's
 * number. A file that means another one is worth a warning. */
static enum status add_added(struct opening *o, const struct wanted *w, int32_t *next)
{
    struct tokenizer *t = o->t;
    int64_t named = -1;
    struct added_token token = {.id = vocabulary_find(&t->vocabulary, w->content->text, w->content->size)};
    token.normalized = true; /* the package's default for a token that is not special */
    if (!take_bool(o, w->v, "added_tokens", "special", &token.special))
        return STATUS_BAD_INPUT;
    token.normalized = !token.special;
    if (!take_bool(o, w->v, "added_tokens", "normalized", &token.normalized) || !take_bool(o, w->v, "added_tokens", "lstrip", &token.lstrip) ||
        !take_bool(o, w->v, "added_tokens", "rstrip", &token.rstrip) || !take_bool(o, w->v, "added_tokens", "single_word", &token.single_word))
        return STATUS_BAD_INPUT;
    if (token.id < 0) {
        if (*next == INT32_MAX)
            return error_set(o->err, STATUS_BAD_INPUT, "added_tokens: there is no id left for \"%s\"", QUOTE(w->content->text, w->content->size));
        token.id = (*next)++;
    } else if (token.id >= *next) {
        *next = token.id + 1;
    }
    json_int(json_get(w->v, "id"), &named);
    if (named != token.id)
        log_line(LOG_VERBOSE, "tokenizer: the added token \"%s\" is numbered %lld in the file, but gets the id %d",
                 QUOTE(w->content->text, w->content->size), (long long)named, token.id);
    return added_add(&t->added, w->content->text, w->content->size, token, o->err);
}

static enum status open_added(struct opening *o, const struct json *list)
{
    if (!list || list->kind == JSON_NULL)
        return STATUS_OK;
    if (list->kind != JSON_ARRAY)
        return error_set(o->err, STATUS_BAD_INPUT, "\"added_tokens\" must be an array, not %s", json_kind_name(list));
    struct wanted *wanted = calloc(list->size + 1u, sizeof *wanted), **sorted = calloc(list->size + 1u, sizeof *sorted);
    enum status status = wanted && sorted ? STATUS_OK : error_memory(o->err, "the added tokens");
    for (uint32_t i = 0; i < list->size && !status; i++) {
        wanted[i].index = i;
        sorted[i] = &wanted[i];
        status = check_added(o, &list->items[i], &wanted[i]);
    }
    if (!status && list->size)
        qsort(sorted, list->size, sizeof *sorted, compare_wanted);
    for (uint32_t i = 1; i < list->size && !status; i++) {
        const struct json *a = sorted[i - 1]->content, *b = sorted[i]->content;
        sorted[i]->again = a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
    }
    int32_t next = (int32_t)o->t->vocabulary.count;
    for (uint32_t i = 0; i < list->size && !status; i++)
        if (!wanted[i].again && wanted[i].content->size)
            status = add_added(o, &wanted[i], &next);
    free(wanted);
    free(sorted);
    return status;
}

/* ---- the file ----------------------------------------------------------------------------------------------------------------- */

static enum status open_parts(struct tokenizer *t, struct reading *r, const struct json *root, struct error *err)
{
    struct opening o = {.t = t, .merges = &r->merges, .scores = &r->scores, .err = err};
    if (!json_is(root, JSON_OBJECT))
        return error_set(err, STATUS_BAD_INPUT, "a tokenizer must be a JSON object, not %s", json_kind_name(root));
    if (!json_get(root, "model"))
        return error_set(err, STATUS_BAD_INPUT, "\"model\" is missing");
    enum status status = component_open(&o, ROLE_MODEL, json_get(root, "model"));
    if (!status)
        status = component_open(&o, ROLE_NORMALIZER, json_get(root, "normalizer"));
    if (!status)
        status = component_open(&o, ROLE_PRETOKENIZER, json_get(root, "pre_tokenizer"));
    if (!status)
        status = component_open(&o, ROLE_POSTPROCESSOR, json_get(root, "post_processor"));
    if (!status)
        status = component_open(&o, ROLE_DECODER, json_get(root, "decoder"));
    if (!status)
        status = open_added(&o, json_get(root, "added_tokens"));
    return status;
}

/* That the text is not UTF-8 is said before what is wrong with its contents. */
static enum status check_text(const char *text, size_t size, enum status status, struct error *err)
{
    struct error bytes;
    if (!json_check(text, size, &bytes))
        return status;
    *err = bytes;
    return STATUS_BAD_INPUT;
}

enum status open_tokenizer_json(struct tokenizer *t, const char *text, size_t size, struct error *err)
{
    struct reading r = {.t = t};
    struct json_options options = {.unique = true, .unchecked = true, .large = large, .child = child, .context = &r};
    struct arena arena = {0};
    struct json root;
    t->bpe.vocabulary = &t->vocabulary;
    queue_start(&r.merges, &t->bpe, text, size);
    enum status status = json_parse(&arena, text, size, &options, &root, err);
    if (status || !queue_rest_is_valid(&r.merges))
        status = check_text(text, size, status, err);
    if (!status) {
        status = open_parts(t, &r, &root, err);
        if (!queue_found_all(&r.merges))
            status = check_text(text, size, status, err);
    }
    queue_end(&r.merges);
    arena_free(&arena);
    free(r.scores.list);
    return status;
}
