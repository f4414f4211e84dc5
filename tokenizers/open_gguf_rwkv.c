/* RWKV's vocabulary inside a GGUF: tokens of bytes, spelled as Python prints them (\n, \xE4), and of all that fit the longest one is
 * taken. */
#include <stdlib.h>
#include <string.h>

#include "tokenizers/gguf_file.h"

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

/* The byte that text[*at] begins, *at moved behind it; -1: it is spelled wrongly. */
static int next_byte(const char *text, uint64_t size, uint64_t *at)
{
    static const char letters[] = "tnr\\'\"", bytes[] = "\t\n\r\\'\"";
    if (text[*at] != '\\')
        return (unsigned char)text[(*at)++];
    if (size - *at < 2)
        return -1;
    char kind = text[*at + 1];
    const char *letter = kind ? strchr(letters, kind) : NULL;
    *at += 2;
    if (letter)
        return (unsigned char)bytes[letter - letters];
    int high = kind == 'x' && size - *at >= 2 ? hex_digit(text[*at]) : -1, low = high < 0 ? -1 : hex_digit(text[*at + 1]);
    *at += 2;
    return low < 0 ? -1 : high * 16 + low;
}

/* A token's bytes under their stand-ins, as byte-level vocabularies have them. */
static enum status add_token(struct gguf_file *f, int64_t id, const char *text, uint64_t size, struct str *room)
{
    str_clear(room);
    for (uint64_t at = 0; at < size;) {
        char stand_in[4];
        int byte = next_byte(text, size, &at);
        if (byte < 0)
            return error_set(f->err, STATUS_BAD_INPUT, "tokenizer.ggml.tokens: entry %lld, \"%s\", has an escape that Python does not print", (long long)id,
                             QUOTE(text, size));
        str_add(room, stand_in, text_put(byte_stand_in[byte], stand_in));
    }
    if (room->failed)
        return error_memory(f->err, "the vocabulary");
    return room->size ? vocabulary_add(&f->t->vocabulary, str_text(room), room->size, (int32_t)id, f->err) : STATUS_OK;
}

static enum status read_tokens(struct gguf_file *f)
{
    struct str room = {0};
    uint64_t at = 0, size;
    enum status status = STATUS_OK;
    for (int64_t id = 0; id < f->count && !status; id++) {
        const char *text = meta_next_string(f->tokens, &at, &size);
        enum token_type type = gguf_type(f, id);
        if (type == CONTROL || type == USER_DEFINED)
            status = added_add(&f->t->added, text, size, (struct added_token){.id = (int32_t)id, .special = type == CONTROL}, f->err);
        else if (type != UNUSED)
            status = add_token(f, id, text, size, &room);
    }
    str_free(&room);
    return status ? status : vocabulary_index(&f->t->vocabulary, TWICE_FIRST, f->err);
}

/* Every text has tokens: each byte is one. */
static enum status check_bytes(const struct gguf_file *f)
{
    for (int i = 0; i < 256; i++) {
        char text[4];
        if (vocabulary_find(&f->t->vocabulary, text, text_put(byte_stand_in[i], text)) < 0)
            return error_set(f->err, STATUS_BAD_INPUT, "no token is the byte 0x%02X alone; all 256 must be there", i);
    }
    return STATUS_OK;
}

enum status gguf_open_rwkv(struct gguf_file *f)
{
    struct tokenizer *t = f->t;
    struct opening o = {.t = t, .err = f->err};
    enum status status = read_tokens(f);
    if (!status)
        status = check_bytes(f);
    if (!status)
        status = greedy_start(&t->words, &t->vocabulary, f->err);
    if (!status)
        status = add_byte_level(&o, false);
    if (!status)
        status = add_byte_level_decoder(&o);
    t->model = model_greedy;
    return status ? status : gguf_read_ends(f, -1, -1, false, false);
}
