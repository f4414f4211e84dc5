/* Post-processors: what stands around a single text. Each wraps what the one before it made. */
#include <string.h>

#include "tokenizers/internal.h"

enum status open_postprocessors(struct opening *o, const struct json *v)
{
    const struct json *list = json_get(v, "processors");
    if (!json_is(list, JSON_ARRAY))
        return error_set(o->err, STATUS_BAD_INPUT, "post_processor Sequence: \"processors\" must be an array, not %s", json_kind_name(list));
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < list->size && !status; i++)
        status = component_open(o, ROLE_POSTPROCESSOR, &list->items[i]);
    return status;
}

/* It changes offsets only, and those are not asked for. */
enum status open_byte_level_processing(struct opening *o, const struct json *v) { return (void)o, (void)v, STATUS_OK; }

/* new ids in front of the present prefix */
static enum status wrap(struct opening *o, struct ids *before, const struct ids *after)
{
    struct tokenizer *t = o->t;
    for (size_t i = 0; i < t->prefix.count; i++)
        ids_add(before, t->prefix.data[i]);
    struct ids swap = t->prefix;
    t->prefix = *before;
    *before = swap;
    for (size_t i = 0; i < after->count; i++)
        ids_add(&t->suffix, after->data[i]);
    return t->prefix.failed || t->suffix.failed ? error_memory(o->err, "a post-processor") : STATUS_OK;
}

/* The ids that a template's special token stands for: post_processor.special_tokens[id].ids */
static enum status add_special(struct opening *o, const struct json *tokens, const struct json *name, struct ids *out)
{
    const struct json *entry = json_is(name, JSON_STRING) ? json_get_sized(tokens, name->text, name->size) : NULL;
    const struct json *ids = json_get(entry, "ids");
    if (!json_is(ids, JSON_ARRAY))
        return error_set(o->err, STATUS_BAD_INPUT, "TemplateProcessing: \"special_tokens\" has no \"ids\" for %s",
                         json_is(name, JSON_STRING) ? QUOTE(name->text, name->size) : "a token without \"id\"");
    for (uint32_t i = 0; i < ids->size; i++) {
        int64_t id;
        if (!json_int(&ids->items[i], &id) || id < 0 || id >= INT32_MAX)
            return error_set(o->err, STATUS_BAD_INPUT, "TemplateProcessing: \"ids\" of %s holds no id", QUOTE(name->text, name->size));
        ids_add(out, (int32_t)id);
    }
    return STATUS_OK;
}

enum status open_template_processing(struct opening *o, const struct json *v)
{
    const struct json *single = json_get(v, "single"), *tokens = json_get(v, "special_tokens");
    if (!json_is(single, JSON_ARRAY))
        return error_set(o->err, STATUS_BAD_INPUT, "TemplateProcessing: \"single\" must be an array, not %s", json_kind_name(single));
    struct ids before = {0}, after = {0};
    int texts = 0;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < single->size && !status; i++) {
        const struct json *special = json_get(&single->items[i], "SpecialToken"), *sequence = json_get(&single->items[i], "Sequence");
        if (special)
            status = add_special(o, tokens, json_get(special, "id"), texts ? &after : &before);
        else if (sequence && ++texts == 1)
            continue;
        else
            status = error_set(o->err, STATUS_BAD_INPUT, "TemplateProcessing: \"single\" must hold special tokens and one Sequence");
    }
    if (!status && texts != 1)
        status = error_set(o->err, STATUS_BAD_INPUT, "TemplateProcessing: \"single\" has no Sequence");
    if (!status)
        status = wrap(o, &before, &after);
    ids_free(&before);
    ids_free(&after);
    return status;
}

/* ["</s>", 2] */
static enum status take_pair(struct opening *o, const struct json *v, const char *component, const char *key, struct ids *out)
{
    const struct json *pair = json_get(v, key);
    int64_t id;
    if (!json_is(pair, JSON_ARRAY) || pair->size != 2 || !json_int(&pair->items[1], &id) || id < 0 || id >= INT32_MAX)
        return error_set(o->err, STATUS_BAD_INPUT, "%s: \"%s\" must be a token and its id", component, key);
    ids_add(out, (int32_t)id);
    return STATUS_OK;
}

static enum status open_pair(struct opening *o, const struct json *v, const char *component)
{
    struct ids before = {0}, after = {0};
    enum status status = take_pair(o, v, component, "cls", &before);
    if (!status)
        status = take_pair(o, v, component, "sep", &after);
    if (!status)
        status = wrap(o, &before, &after);
    ids_free(&before);
    ids_free(&after);
    return status;
}

enum status open_roberta_processing(struct opening *o, const struct json *v) { return open_pair(o, v, "RobertaProcessing"); }
enum status open_bert_processing(struct opening *o, const struct json *v) { return open_pair(o, v, "BertProcessing"); }
