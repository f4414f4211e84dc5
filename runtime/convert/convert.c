/* A checkpoint into another container or type: weights and configuration (models/), tokenizer and templates (tokenizers/).
 *
 * A GGUF file is written beside its target's name and renamed; a folder is filled under a temporary name and renamed when
 * it is complete. Whatever fails, the target is not there. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/files/writer.h"
#include "base/log.h"
#include "runtime/engine/engine.h"

enum { COPY_LIMIT = 256 << 20 };

struct converting {
    struct ingot_model *m;
    const char *name; /* SRC as given */
    char *target;
    const struct ingot_convert_options *o;
    struct imatrix *im;
    struct conversion c;
    struct arena arena;
    struct error *err;
};

/* ---- options -------------------------------------------------------------------------------------------------------- */

static enum status choose_mix(const struct ingot_convert_options *o, const struct mix **out, struct error *err)
{
    char known[400];
    *out = o->type ? mix_find(o->type) : NULL;
    if (o->type && !*out)
        return error_set(err, STATUS_USAGE, "--type: there is no %s; known are %s", QUOTE(o->type, strlen(o->type)), mix_list(known, sizeof known));
    if (o->imatrix && !(*out && mix_quantises(*out)))
        return error_set(err, STATUS_USAGE, "--imatrix says which columns count when weights are quantised; --type %s does not quantise",
                         *out ? mix_name(*out) : "(none)");
    return STATUS_OK;
}

static enum status choose_container(const struct ingot_convert_options *o, const char *target, enum model_container *out, struct error *err)
{
    size_t n = strlen(target);
    *out = n > 5 && !strcasecmp(target + n - 5, ".gguf") ? MODEL_GGUF : MODEL_SAFETENSORS;
    if (!o->to)
        return STATUS_OK;
    if (strcmp(o->to, "gguf") && strcmp(o->to, "safetensors"))
        return error_set(err, STATUS_USAGE, "--to %s: safetensors and gguf can be written", QUOTE(o->to, strlen(o->to)));
    *out = strcmp(o->to, "gguf") ? MODEL_SAFETENSORS : MODEL_GGUF;
    return STATUS_OK;
}

static bool is_empty_folder(const char *path)
{
    DIR *folder = opendir(path);
    int entries = 0;
    while (folder && entries < 3 && readdir(folder))
        entries++;
    if (folder)
        closedir(folder);
    return folder && entries == 2; /* . and .. */
}

/* Nothing that exists is replaced: a checkpoint takes long to get back. */
static enum status check_target(const char *target, enum model_container to, struct error *err)
{
    struct stat st;
    if (stat(target, &st))
        return errno == ENOENT ? STATUS_OK : error_set(err, STATUS_FAILED, "%s: cannot be looked at: %s", target, error_errno(errno));
    bool empty = to == MODEL_GGUF ? S_ISREG(st.st_mode) && st.st_size == 0 : S_ISDIR(st.st_mode) && is_empty_folder(target);
    return empty ? STATUS_OK : error_set(err, STATUS_USAGE, "%s exists already; remove it first or name another target", target);
}

/* ---- what both need --------------------------------------------------------------------------------------------------- */

static bool watch(void *context, uint64_t done, uint64_t total)
{
    const struct ingot_convert_options *o = context;
    return !o->progress || o->progress(o->progress_context, done, total);
}

static enum status write_tensors(struct converting *x, struct tensor_writer *w)
{
    enum status status = conversion_write(&x->c, w, watch, (void *)x->o, x->err);
    return status ? status : tensor_writer_commit(w, x->err);
}

/* ---- GGUF ----------------------------------------------------------------------------------------------------------- */

static enum status add_text_keys(struct converting *x, struct gguf_keys *keys)
{
    const struct ingot_model *m = x->m;
    const char *folder = m->model->folder;
    char *lone = file_join(&x->arena, folder, "tokenizer.model");
    if (!m->tokenizer && lone && file_exists(lone))
        return error_set(x->err, STATUS_BAD_INPUT, "%s: cannot be read yet; transformers writes a tokenizer.json from it (AutoTokenizer, save_pretrained)", lone);
    if (!m->tokenizer)
        log_line(LOG_SAY, "%s has no tokenizer.json: the GGUF file gets no vocabulary", folder);
    enum status status = STATUS_OK;
    if (m->tokenizer)
        status = tokenizer_write_gguf(m->tokenizer, folder, &m->chat, m->model->config.vocab, m->model->end_ids, m->model->end_count, keys, x->err);
    if (!status)
        chat_source_write_gguf(&m->chat, keys);
    return status;
}

static const char *short_name(struct converting *x)
{
    size_t n = strlen(x->name);
    while (n && x->name[n - 1] == '/')
        n--;
    size_t first = n;
    while (first && x->name[first - 1] != '/')
        first--;
    const char *name = arena_copy(&x->arena, x->name + first, n - first);
    return name && *name && strcmp(name, ".") ? name : "model";
}

static enum status write_gguf(struct converting *x)
{
    struct gguf_keys keys = {0};
    struct tensor_writer w = {.file.fd = -1};
    enum status status = conversion_keys(&x->c, short_name(x), &keys, x->err);
    if (!status && x->m->model->container != MODEL_GGUF)
        status = add_text_keys(x, &keys);
    if (!status)
        status = gguf_begin(&w, x->target, &keys, x->c.tensors, x->c.count, x->err);
    str_free(&keys.bytes);
    return status ? status : write_tensors(x, &w);
}

/* ---- folders -------------------------------------------------------------------------------------------------------- */

static enum status put_file(struct converting *x, const char *folder, const char *name, const struct str *text)
{
    char *path = file_join(&x->arena, folder, name);
    return path && !text->failed ? file_replace(path, text->data, text->size, x->err) : error_memory(x->err, name);
}

static enum status copy_file(struct converting *x, const char *from, const char *to, const char *name)
{
    struct arena arena = {0};
    char *source = file_join(&arena, from, name), *target = file_join(&arena, to, name), *text;
    size_t size;
    enum status status = source && target ? STATUS_OK : error_memory(x->err, name);
    if (!status && file_exists(source) && !(status = file_read(&arena, source, COPY_LIMIT, &text, &size, x->err)))
        status = file_replace(target, text, size, x->err);
    arena_free(&arena);
    return status;
}

/* What lies beside the weights and does not depend on their type. */
static enum status copy_others(struct converting *x, const char *folder)
{
    static const char *const names[] = {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                                        "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"};
    const char *from = x->m->model->folder;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && !status; i++)
        status = copy_file(x, from, folder, names[i]);
    char *more = file_join(&x->arena, from, "additional_chat_templates"), *into = file_join(&x->arena, folder, "additional_chat_templates");
    DIR *list = !status && more && into ? opendir(more) : NULL;
    if (list)
        status = file_make_folders(into, x->err);
    for (struct dirent *e; list && !status && (e = readdir(list));)
        if (file_is_plain_name(e->d_name, strlen(e->d_name)))
            status = copy_file(x, more, into, e->d_name);
    if (list)
        closedir(list);
    return status;
}

static enum status write_text_files(struct converting *x, const char *folder)
{
    const struct ingot_model *m = x->m;
    struct str json = {0}, config = {0};
    enum status status = STATUS_OK;
    if (m->tokenizer) {
        chat_source_write_json(&m->chat, m->model->config.context, tokenizer_adds_bos(m->tokenizer), &config);
        status = tokenizer_write_json(m->tokenizer, m->model->tensors, &json, x->err);
        if (!status)
            status = put_file(x, folder, "tokenizer.json", &json);
        if (!status)
            status = put_file(x, folder, "tokenizer_config.json", &config);
    } else {
        log_line(LOG_SAY, "%s holds no vocabulary: the folder gets no tokenizer", m->model->path);
    }
    str_free(&json);
    str_free(&config);
    return status;
}

static enum status write_configuration(struct converting *x, const char *folder)
{
    const struct ingot_model *m = x->m;
    int64_t pad = -1;
    meta_int(m->model->tensors, "tokenizer.ggml.padding_token_id", &pad, NULL, NULL);
    struct conversion_ids ids = {.bos = m->tokenizer ? tokenizer_bos(m->tokenizer) : -1,
                                 .eos = m->tokenizer ? tokenizer_eos(m->tokenizer) : -1,
                                 .pad = pad >= 0 && pad < m->model->config.vocab ? (int32_t)pad : -1,
                                 .ends = m->end_ids,
                                 .end_count = m->end_count};
    struct str config = {0}, generation = {0};
    enum status status = conversion_config(&x->c, &ids, &config, x->err);
    if (!status)
        status = put_file(x, folder, "config.json", &config);
    if (!status && m->model->container == MODEL_SAFETENSORS) {
        status = copy_others(x, folder);
    } else if (!status) {
        conversion_generation(&x->c, &ids, &generation);
        status = put_file(x, folder, "generation_config.json", &generation);
        if (!status)
            status = write_text_files(x, folder);
    }
    str_free(&config);
    str_free(&generation);
    return status;
}

/* Only what this file has put there. */
static void remove_folder(struct converting *x, const char *folder)
{
    char *inner_folder = file_join(&x->arena, folder, "additional_chat_templates");
    const char *folders[] = {inner_folder, folder};
    for (int i = 0; i < 2; i++) {
        DIR *list = folders[i] ? opendir(folders[i]) : NULL;
        for (struct dirent *e; list && (e = readdir(list));)
            if (e->d_type != DT_DIR)
                unlinkat(dirfd(list), e->d_name, 0);
        if (list)
            closedir(list);
        if (folders[i])
            rmdir(folders[i]);
    }
}

static enum status write_folder(struct converting *x)
{
    char *folder = arena_format(&x->arena, "%s.XXXXXX", x->target), *weights = NULL;
    struct tensor_writer w = {.file.fd = -1};
    if (!folder)
        return error_memory(x->err, "a path");
    if (!mkdtemp(folder))
        return error_set(x->err, STATUS_FAILED, "%s: cannot create the folder: %s", x->target, error_errno(errno));
    mode_t mask = umask(0);
    umask(mask);
    chmod(folder, 0777 & ~mask);
    enum status status = write_configuration(x, folder);
    if (!status && !(weights = file_join(&x->arena, folder, "model.safetensors")))
        status = error_memory(x->err, "a path");
    if (!status)
        status = safetensors_begin(&w, weights, x->c.tensors, x->c.count, x->err);
    if (!status)
        status = write_tensors(x, &w);
    if (!status && rename(folder, x->target))
        status = error_set(x->err, STATUS_FAILED, "%s: cannot take its name: %s", x->target, error_errno(errno));
    if (status)
        remove_folder(x, folder);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

/* What became other than the type's name says. */
static void say(const struct conversion *c)
{
    if (c->narrow) {
        const struct tensor *t = c->narrow_example;
        log_line(LOG_SAY, "%lld matrices have rows that are no whole number of %s's blocks and became a type of smaller ones (%s: %lld columns)",
                 (long long)c->narrow, storage_types[c->narrow_wanted].name, QUOTE(t->name, strlen(t->name)), (long long)t->shape[t->dims - 1]);
    }
    if (c->again)
        log_line(LOG_SAY, "%lld matrices are quantised already: they lose a second time; better start from the original checkpoint", (long long)c->again);
    if (c->unknown)
        log_line(LOG_SAY, "the imatrix holds nothing about %lld matrices: their columns count alike", (long long)c->unknown);
}

static enum status convert(struct converting *x)
{
    const struct mix *mix = NULL;
    enum model_container to;
    size_t n = strlen(x->target);
    while (n > 1 && x->target[n - 1] == '/')
        x->target[--n] = 0;
    enum status status = n ? choose_mix(x->o, &mix, x->err) : error_set(x->err, STATUS_USAGE, "the target needs a name");
    if (!status)
        status = choose_container(x->o, x->target, &to, x->err);
    if (!status && !x->o->to && mix && mix_quantises(mix) && to == MODEL_SAFETENSORS)
        status = error_set(x->err, STATUS_USAGE, "--type %s makes a GGUF file: give it a name that ends in .gguf, or say --to gguf", mix_name(mix));
    if (!status)
        status = check_target(x->target, to, x->err);
    if (!status)
        status = (enum status)ingot_model_open(&x->m, x->name, &x->o->model, (struct ingot_error *)x->err);
    if (!status && x->o->imatrix)
        status = imatrix_open(&x->im, x->o->imatrix, x->err);
    if (!status)
        status = conversion_plan(&x->c, &x->arena, x->m->model, to, mix, x->im, x->err);
    if (!status && !watch((void *)x->o, 0, x->c.bytes))
        status = error_set(x->err, STATUS_INTERRUPTED, "interrupted; nothing was written");
    if (!status)
        say(&x->c);
    if (!status)
        status = to == MODEL_GGUF ? write_gguf(x) : write_folder(x);
    return status;
}

enum ingot_status ingot_convert(const char *name, const char *target, const struct ingot_convert_options *options, struct ingot_error *err)
{
    struct converting x = {.name = name, .o = options ? options : &(struct ingot_convert_options){0}, .err = inner(err)};
    x.target = arena_copy(&x.arena, target, strlen(target));
    enum status status = x.target ? convert(&x) : error_memory(x.err, "a path");
    ingot_model_close(x.m);
    imatrix_close(x.im);
    arena_free(&x.arena);
    return (enum ingot_status)status;
}
