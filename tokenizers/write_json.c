/* A GGUF's vocabulary as tokenizer.json: what the `tokenizers` package reads into the same ids. Byte-level BPE keeps its merges;
 * SentencePiece's scores become the merges that give the same joins, as transformers converts such models. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tokenizers/internal.h"
#include "tokenizers/pre.h"

/* ---- vocabulary ----------------------------------------------------------------------------------------------------- */

static bool is_control(const struct tokenizer *t, int32_t id)
{
    size_t size;
    return !vocabulary_text(&t->vocabulary, id, &size);
}

/* Control tokens behind the last ordinary one stay out: as added tokens they get the ids that follow. */
static void write_vocabulary(const struct tokenizer *t, struct str *out)
{
    int32_t last = t->size - 1;
    while (last >= 0 && is_control(t, last))
        last--;
    bool any = false;
    str_add_text(out, "{");
    for (int32_t id = 0; id <= last; id++) {
        size_t size;
        const char *text = token_text(t, id, &size);
        int32_t first = text ? vocabulary_find(&t->vocabulary, text, size) : -1;
        if (!text)
            continue;
        if (first >= 0 && first != id) {
            log_line(LOG_SAY, "token %" PRId32 " repeats the text of token %" PRId32 "; tokenizer.json leaves it out", id, first);
            continue;
        }
        str_add_text(out, any ? "," : "");
        json_write_string(out, text, size);
        str_format(out, ":%" PRId32, id);
        any = true;
    }
    str_add_char(out, '}');
}

static void write_added(const struct tokenizer *t, struct str *out)
{
    bool any = false;
    str_add_char(out, '[');
    for (size_t i = 0; i < t->added.count; i++) {
        const struct added_token *token = &t->added.tokens[t->added.order[i]];
        size_t size;
        const char *text = vocabulary_entry(&t->added.texts, t->added.order[i], &size);
        str_format(out, "%s{\"id\":%" PRId32 ",\"content\":", any ? "," : "", token->id);
        json_write_string(out, text, size);
        str_format(out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":%s}", token->special ? "true" : "false");
        any = true;
    }
    str_add_char(out, ']');
}

/* ---- merges --------------------------------------------------------------------------------------------------------- */

static void write_pair(struct str *out, bool first, const char *left, size_t left_size, const char *right, size_t right_size)
{
    str_add_text(out, first ? "[" : ",[");
    json_write_string(out, left, left_size);
    str_add_char(out, ',');
    json_write_string(out, right, right_size);
    str_add_char(out, ']');
}

static void write_merges(const struct tokenizer *t, struct str *out)
{
    str_add_char(out, '[');
    for (uint32_t i = 0; i < t->bpe.merge_count; i++) {
        size_t left, right;
        const char *a = vocabulary_text(&t->vocabulary, t->bpe.merges[i].left, &left), *b = vocabulary_text(&t->vocabulary, t->bpe.merges[i].right, &right);
        write_pair(out, i == 0, a, left, b, right);
    }
    str_add_char(out, ']');
}

/* One way to split a piece into two. */
struct split {
    int32_t rank, left, right; /* of the piece; ids */
    uint32_t entry, at;        /* the piece; bytes of its left part */
};

struct splits {
    struct split *list;
    size_t count, capacity;
};

/* Best piece first; then as transformers' generate_merges orders them. */
static int compare_splits(const void *a, const void *b)
{
    const struct split *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->entry != y->entry)
        return x->entry < y->entry ? -1 : 1;
    return x->left != y->left ? (x->left < y->left ? -1 : 1) : (x->right > y->right) - (x->right < y->right);
}

static bool joins(const struct tokenizer *t, uint32_t entry) { return t->bpe.ranks[entry] != NO_RANK && !(t->bpe.unused && t->bpe.unused[entry]); }

/* The id of a piece, -1 for what never joins. entry_of: [id] -> entry + 1. */
static int32_t find_part(const struct tokenizer *t, const uint32_t *entry_of, const char *text, size_t size)
{
    int32_t id = vocabulary_find(&t->vocabulary, text, size);
    return id < 0 || !entry_of[id] || !joins(t, entry_of[id] - 1) ? -1 : id;
}

static bool add_splits(const struct tokenizer *t, const uint32_t *entry_of, uint32_t entry, struct splits *s)
{
    size_t size;
    const char *text = vocabulary_entry(&t->vocabulary, entry, &size);
    for (size_t at = 1; at < size; at++) {
        if (((unsigned char)text[at] & 0xC0) == 0x80)
            continue;
        int32_t left = find_part(t, entry_of, text, at), right = left < 0 ? -1 : find_part(t, entry_of, text + at, size - at);
        if (right < 0)
            continue;
        if (s->count == s->capacity) {
            size_t capacity = s->capacity ? s->capacity * 2 : 1 << 16;
            struct split *list = realloc(s->list, capacity * sizeof *list);
            if (!list)
                return false;
            s->list = list;
            s->capacity = capacity;
        }
        s->list[s->count++] = (struct split){t->bpe.ranks[entry], left, right, entry, (uint32_t)at};
    }
    return true;
}

static enum status write_scored_merges(const struct tokenizer *t, struct str *out, struct error *err)
{
    const struct vocabulary *v = &t->vocabulary;
    uint32_t *entry_of = calloc((size_t)v->size + 1, sizeof *entry_of);
    struct splits s = {0};
    bool good = entry_of != NULL;
    for (uint32_t e = 0; good && e < v->count; e++)
        entry_of[v->ids[e]] = e + 1;
    for (uint32_t e = 0; good && e < v->count; e++)
        good = !joins(t, e) || add_splits(t, entry_of, e, &s);
    if (good && s.count)
        qsort(s.list, s.count, sizeof *s.list, compare_splits);
    str_add_char(out, '[');
    for (size_t i = 0; good && i < s.count; i++) {
        size_t size;
        const char *text = vocabulary_entry(v, s.list[i].entry, &size);
        write_pair(out, i == 0, text, s.list[i].at, text + s.list[i].at, size - s.list[i].at);
    }
    str_add_char(out, ']');
    free(s.list);
    free(entry_of);
    return good ? STATUS_OK : error_memory(err, "the merges");
}

/* ---- what stands around a text --------------------------------------------------------------------------------------- */

static void write_piece(struct str *out, const struct tokenizer *t, int32_t id)
{
    size_t size = 0;
    const char *text = token_text(t, id, &size);
    str_add_text(out, "{\"SpecialToken\":{\"id\":");
    json_write_string(out, text ? text : "", size);
    str_add_text(out, ",\"type_id\":0}}");
}

static void write_template(struct str *out, const struct tokenizer *t, const char *texts)
{
    str_add_char(out, '[');
    for (size_t i = 0; i < t->prefix.count; i++) {
        write_piece(out, t, t->prefix.data[i]);
        str_add_char(out, ',');
    }
    str_add_text(out, texts);
    for (size_t i = 0; i < t->suffix.count; i++) {
        str_add_char(out, ',');
        write_piece(out, t, t->suffix.data[i]);
    }
    str_add_char(out, ']');
}

static void write_postprocessor(struct str *out, const struct tokenizer *t)
{
    if (!t->prefix.count && !t->suffix.count) {
        str_add_text(out, "null");
        return;
    }
    str_add_text(out, "{\"type\":\"TemplateProcessing\",\"single\":");
    write_template(out, t, "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}");
    str_add_text(out, ",\"pair\":");
    write_template(out, t, "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}");
    str_add_text(out, ",\"special_tokens\":{");
    int32_t written = -1;
    for (size_t i = 0; i < t->prefix.count + t->suffix.count; i++) {
        int32_t id = i < t->prefix.count ? t->prefix.data[i] : t->suffix.data[i - t->prefix.count];
        size_t size = 0;
        const char *text = token_text(t, id, &size);
        if (!text || id == written) /* GGUF knows one in front and one behind, perhaps the same */
            continue;
        str_add_text(out, written >= 0 ? "," : "");
        json_write_string(out, text, size);
        str_add_text(out, ":{\"id\":");
        json_write_string(out, text, size);
        str_format(out, ",\"ids\":[%" PRId32 "],\"tokens\":[", id);
        json_write_string(out, text, size);
        str_add_text(out, "]}");
        written = id;
    }
    str_add_text(out, "}}");
}

/* ---- both kinds ----------------------------------------------------------------------------------------------------- */

static enum status write_bytes_kind(const struct tokenizer *t, const struct tensor_set *set, struct str *out, struct error *err)
{
    const char *name = "default";
    uint64_t size = strlen(name);
    struct str normalizer = {0}, pretokenizer = {0};
    enum status status = meta_string(set, "tokenizer.ggml.pre", &name, &size, NULL, err);
    if (!status)
        status = pre_write(name, (size_t)size, &normalizer, &pretokenizer, err);
    if (!status) {
        str_format(out, ",\"normalizer\":%s,\"pre_tokenizer\":", str_text(&normalizer));
        str_add(out, str_text(&pretokenizer), pretokenizer.size);
        str_add_text(out, ",\"post_processor\":");
        write_postprocessor(out, t);
        str_add_text(out, ",\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},"
                          "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                          "\"fuse_unk\":false,\"byte_fallback\":false,");
        str_format(out, "\"ignore_merges\":%s,\"vocab\":", t->bpe.ignore_merges ? "true" : "false");
        write_vocabulary(t, out);
        str_add_text(out, ",\"merges\":");
        write_merges(t, out);
        out->failed |= normalizer.failed || pretokenizer.failed;
    }
    str_free(&normalizer);
    str_free(&pretokenizer);
    return status;
}

static enum status write_pieces_kind(const struct tokenizer *t, const struct tensor_set *set, struct str *out, struct error *err)
{
    bool prefix = true;
    enum status status = meta_bool(set, "tokenizer.ggml.add_space_prefix", &prefix, NULL, err);
    if (status)
        return status;
    size_t size = 0;
    const char *unk = t->bpe.unk >= 0 ? token_text(t, t->bpe.unk, &size) : NULL;
    str_format(out, ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]}"
                    ",\"pre_tokenizer\":null,\"post_processor\":",
               prefix ? "{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"}," : "");
    write_postprocessor(out, t);
    str_format(out, ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},"
                    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":",
               prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}" : "");
    if (unk)
        json_write_string(out, unk, size);
    else
        str_add_text(out, "null");
    str_add_text(out, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":true,\"ignore_merges\":false,\"vocab\":");
    write_vocabulary(t, out);
    str_add_text(out, ",\"merges\":");
    return write_scored_merges(t, out, err);
}

enum status tokenizer_write_json(const struct tokenizer *t, const struct tensor_set *set, struct str *out, struct error *err)
{
    if (!t->bpe.ranks && t->bpe.byte_fallback)
        return error_set(err, STATUS_BAD_INPUT, "tokenizer.json cannot be written yet for a vocabulary of tokenizer.ggml.model \"gemma4\"");
    if (t->unigram.scores || t->words.vocabulary)
        return error_set(err, STATUS_BAD_INPUT, "tokenizer.json cannot be written yet for a vocabulary of %s",
                         t->unigram.scores ? "SentencePiece's Unigram" : t->words.tokens.count ? "RWKV's bytes" : "BERT's words");
    str_add_text(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":");
    write_added(t, out);
    enum status status = t->bpe.ranks ? write_pieces_kind(t, set, out, err) : write_bytes_kind(t, set, out, err);
    str_add_text(out, "}}\n");
    return !status && out->failed ? error_memory(err, "tokenizer.json") : status;
}
