/* tokenizer.model: SentencePiece's own file (google/sentencepiece, sentencepiece_model.proto). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tokenizers/internal.h"
#include "tokenizers/protobuf.h"

enum piece_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum model_type { UNIGRAM = 1, BPE, WORD, CHAR };

struct model_file {
    struct tokenizer *t;
    struct error *err;
    uint8_t *types; /* by id, enum piece_type */
    float *scores;  /* by id */
    uint32_t count, capacity;
    int32_t unk;
    bool byte_fallback;
    enum model_type model;
    struct piece_rules rules;
    struct str bos, eos, unk_surface;
};

/* ---- reading ------------------------------------------------------------------------------------------------------------- */

static enum status broken(struct model_file *f, const char *what)
{
    return error_set(f->err, STATUS_BAD_INPUT, "%s is no message of SentencePiece's ModelProto, or it was cut short", what);
}

static enum status add_piece(struct model_file *f, const char *text, size_t size, float score, uint64_t type)
{
    enum { LONGEST = 8000 }; /* SentencePiece's own limit, bytes */
    uint32_t id = f->count;
    if (!size || size >= LONGEST || memchr(text, 0, size) || !utf8_is_valid(text, size))
        return error_set(f->err, STATUS_BAD_INPUT, "piece %u, \"%s\", must be UTF-8 of 1 to %d bytes without NUL", id, QUOTE(text, size), LONGEST - 1);
    if (type < NORMAL || type > BYTE)
        return error_set(f->err, STATUS_BAD_INPUT, "piece %u, \"%s\": its type is %llu, which is unknown", id, QUOTE(text, size), (unsigned long long)type);
    if (id == f->capacity) {
        uint32_t capacity = f->capacity ? f->capacity * 2 : 1024;
        uint8_t *types = realloc(f->types, capacity);
        f->types = types ? types : f->types;
        float *scores = realloc(f->scores, capacity * sizeof *scores);
        f->scores = scores ? scores : f->scores;
        if (!types || !scores)
            return error_memory(f->err, "the pieces");
        f->capacity = capacity;
    }
    f->types[f->count] = (uint8_t)type;
    f->scores[f->count++] = score;
    if (type == UNKNOWN && f->unk >= 0)
        return error_set(f->err, STATUS_BAD_INPUT, "there are two unknown pieces, %d and %u", f->unk, id);
    if (type == UNKNOWN)
        f->unk = (int32_t)id;
    return vocabulary_add(&f->t->vocabulary, text, size, (int32_t)id, f->err);
}

static enum status read_piece(struct model_file *f, const struct protobuf_field *message)
{
    struct protobuf p = protobuf_open(message->data, message->size);
    struct protobuf_field field;
    const char *text = "";
    size_t size = 0;
    float score = 0;
    uint64_t type = NORMAL;
    while (protobuf_next(&p, &field)) {
        if (field.number == 1 && field.data) {
            text = field.data;
            size = field.size;
        } else if (field.number == 2) {
            score = protobuf_float(&field);
        } else if (field.number == 3) {
            type = field.value;
        }
    }
    return p.broken ? broken(f, "a piece") : add_piece(f, text, size, score, type);
}

static void take_text_field(const struct protobuf_field *field, struct str *out)
{
    str_clear(out);
    str_add(out, field->data ? field->data : "", field->size);
}

static enum status read_trainer(struct model_file *f, const struct protobuf_field *message)
{
    struct protobuf p = protobuf_open(message->data, message->size);
    struct protobuf_field field;
    while (protobuf_next(&p, &field)) {
        switch (field.number) {
        case 3:
            f->model = field.value > CHAR ? 0 : (enum model_type)field.value;
            break;
        case 24:
            f->rules.suffix = field.value;
            break;
        case 35:
            f->byte_fallback = field.value;
            break;
        case 44:
            take_text_field(&field, &f->unk_surface);
            break;
        case 46:
            take_text_field(&field, &f->bos);
            break;
        case 47:
            take_text_field(&field, &f->eos);
            break;
        }
    }
    return p.broken ? broken(f, "trainer_spec") : STATUS_OK;
}

static enum status read_normalizer(struct model_file *f, const struct protobuf_field *message, bool back)
{
    struct protobuf p = protobuf_open(message->data, message->size);
    struct protobuf_field field;
    while (protobuf_next(&p, &field)) {
        if (back && field.number == 2 && field.size)
            return error_set(f->err, STATUS_BAD_INPUT, "denormalizer_spec: respelling text behind the pieces is not supported");
        if (back)
            continue;
        switch (field.number) {
        case 2:
            f->rules.map = field.data;
            f->rules.map_size = field.size;
            break;
        case 3:
            f->rules.prefix = field.value;
            break;
        case 4:
            f->rules.extra = field.value;
            break;
        case 5:
            f->rules.escape = field.value;
            break;
        }
    }
    return p.broken ? broken(f, back ? "denormalizer_spec" : "normalizer_spec") : STATUS_OK;
}

static enum status read_file(struct model_file *f, const char *data, size_t size)
{
    struct protobuf p = protobuf_open(data, size);
    struct protobuf_field field;
    enum status status = STATUS_OK;
    while (!status && protobuf_next(&p, &field)) {
        if (field.number <= 5 && !field.data)
            return broken(f, "the file");
        if (field.number == 1)
            status = read_piece(f, &field);
        else if (field.number == 2)
            status = read_trainer(f, &field);
        else if (field.number == 3 || field.number == 5)
            status = read_normalizer(f, &field, field.number == 5);
    }
    if (!status && p.broken)
        status = broken(f, "the file");
    if (!status && f->unk < 0)
        status = error_set(f->err, STATUS_BAD_INPUT, "no piece is the unknown one (type UNKNOWN), and unk must be there");
    return status;
}

/* ---- building -------------------------------------------------------------------------------------------------------------- */

static enum status check_bytes(struct model_file *f)
{
    bool found[256] = {false};
    for (uint32_t id = 0; id < f->count; id++) {
        size_t size;
        const char *text = vocabulary_entry(&f->t->vocabulary, id, &size);
        int byte = f->types[id] == BYTE ? byte_token(text, size) : -1;
        if (f->types[id] == BYTE && (byte < 0 || !f->byte_fallback))
            return error_set(f->err, STATUS_BAD_INPUT, "piece %u, \"%s\", is a byte piece, %s", id, QUOTE(text, size),
                             byte < 0 ? "but names no byte" : "but byte_fallback is off");
        if (byte >= 0)
            found[byte] = true;
    }
    for (int i = 0; i < 256 && f->byte_fallback; i++)
        if (!found[i])
            return error_set(f->err, STATUS_BAD_INPUT, "byte_fallback is on, but there is no piece <0x%02X>", i);
    return STATUS_OK;
}

/* Control pieces and the unknown one: special. Their ids also carry what the file calls bos and eos. */
static enum status add_special(struct model_file *f)
{
    struct tokenizer *t = f->t;
    enum status status = STATUS_OK;
    for (uint32_t id = 0; id < f->count && !status; id++) {
        size_t size;
        const char *text = vocabulary_entry(&t->vocabulary, id, &size);
        if (f->types[id] != CONTROL && f->types[id] != UNKNOWN)
            continue;
        status = added_add(&t->added, text, size, (struct added_token){.id = (int32_t)id, .special = true}, f->err);
        if (f->types[id] == CONTROL && size == f->bos.size && memcmp(text, f->bos.data, size) == 0)
            t->bos = (int32_t)id;
        if (f->types[id] == CONTROL && size == f->eos.size && memcmp(text, f->eos.data, size) == 0)
            t->eos = (int32_t)id;
    }
    if (!status && t->bos >= 0)
        ids_add(&t->prefix, t->bos);
    return status;
}

static enum status build_unigram(struct model_file *f)
{
    struct unigram *u = &f->t->unigram;
    enum status status = unigram_start(u, &f->t->vocabulary, f->err);
    double lowest = INFINITY;
    u->highest = -INFINITY;
    for (uint32_t id = 0; id < f->count && !status; id++) {
        u->scores[id] = isnan(f->scores[id]) ? -INFINITY : f->scores[id];
        u->kinds[id] = f->types[id] == NORMAL ? UNIGRAM_NORMAL : f->types[id] == USER_DEFINED ? UNIGRAM_USER : UNIGRAM_NEVER;
        if (f->types[id] == NORMAL && u->scores[id] < lowest)
            lowest = u->scores[id];
        if (f->types[id] == NORMAL && u->scores[id] > u->highest)
            u->highest = u->scores[id];
    }
    u->unknown = (float)lowest - 10.0f;
    u->single = true;
    u->unk = f->unk;
    u->byte_fallback = f->byte_fallback;
    f->t->model = model_unigram;
    return status;
}

static enum status build_bpe(struct model_file *f, struct opening *o, const struct trie_text *user, size_t users)
{
    struct bpe *b = &f->t->bpe;
    b->vocabulary = &f->t->vocabulary;
    b->byte_fallback = f->byte_fallback;
    b->fuse_unk = true;
    for (uint32_t id = 0; id < f->count; id++)
        if (f->model == CHAR || (f->types[id] != NORMAL && f->types[id] != UNUSED))
            f->scores[id] = NAN;
    enum status status = bpe_rank(b, f->scores, f->err);
    for (uint32_t id = 0; id < f->count && !status; id++) {
        if (f->types[id] == USER_DEFINED)
            b->ranks[id] = WHOLE_RANK;
        if (f->types[id] == UNUSED && f->model == BPE)
            status = bpe_set_unused(b, id, f->err);
    }
    if (!status)
        status = bpe_finish(b, NULL, f->err);
    if (!status && users)
        status = add_user_split(o, user, users);
    b->unk = f->unk;
    f->t->model = model_bpe;
    return status;
}

static enum status build(struct model_file *f)
{
    struct tokenizer *t = f->t;
    struct opening o = {.t = t, .err = f->err};
    enum status status = vocabulary_index(&t->vocabulary, TWICE_REFUSED, f->err);
    struct trie_text *user = malloc((f->count + 1u) * sizeof *user);
    size_t users = 0;
    if (!status && !user)
        status = error_memory(f->err, "the pieces");
    for (uint32_t id = 0; id < f->count && !status; id++) {
        size_t size;
        const char *text = vocabulary_entry(&t->vocabulary, id, &size);
        if (f->types[id] == USER_DEFINED)
            user[users++] = (struct trie_text){text, (uint32_t)size, (int32_t)id};
    }
    if (!status)
        status = check_bytes(f);
    if (!status)
        status = add_special(f);
    if (!status)
        status = add_pieces_normalizer(&o, &f->rules, user, users);
    if (!status && f->model == UNIGRAM)
        status = build_unigram(f);
    else if (!status && (f->model == BPE || f->model == CHAR))
        status = build_bpe(f, &o, user, users);
    else if (!status)
        status = error_set(f->err, STATUS_BAD_INPUT, "trainer_spec: model_type %s is not supported; UNIGRAM, BPE and CHAR are",
                           f->model == WORD ? "WORD" : "is unknown, which");
    free(user);
    t->keeps_bytes = f->byte_fallback;
    if (!status)
        status = add_pieces_decoder(&o, &f->rules, f->unk, str_text(&f->unk_surface), f->unk_surface.size);
    return status;
}

enum status open_sentencepiece(struct tokenizer *t, const char *data, size_t size, struct error *err)
{
    struct model_file f = {.t = t, .err = err, .unk = -1, .model = UNIGRAM, .rules = {.prefix = true, .extra = true, .escape = true}};
    str_add_text(&f.bos, "<s>");
    str_add_text(&f.eos, "</s>");
    str_add_text(&f.unk_surface, " \xE2\x81\x87 "); /* U+2047 */
    enum status status = read_file(&f, data, size);
    if (!status && (f.bos.failed || f.eos.failed || f.unk_surface.failed))
        status = error_memory(err, "the pieces");
    if (!status)
        status = build(&f);
    free(f.types);
    free(f.scores);
    str_free(&f.bos);
    str_free(&f.eos);
    str_free(&f.unk_surface);
    return status;
}
