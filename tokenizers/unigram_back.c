#include "tokenizers/unicode.h"
#include "tokenizers/unigram.h"

/* What a character costs as bytes: more than nearly every piece. (llama.cpp's llm_tokenizer_plamo2 and the model's own tokenizer.) */
enum { COST_OF_BYTES = 10000000 };

/* The cheapest way from `at`, where a character of `size` bytes begins, to the end. A place's start is where its piece ends. */
static struct unigram_place cheapest(const struct unigram *u, const struct unigram_place *places, const char *piece, size_t at, size_t size, size_t end,
                                     uint64_t *steps)
{
    struct unigram_place best = {places[at + size].score + COST_OF_BYTES, (uint32_t)(at + size), -1};
    uint32_t node = 0;
    for (size_t i = at; i < end && (node = trie_next(&u->trie, node, (unsigned char)piece[i])); i++, ++*steps) {
        int32_t entry = u->trie.nodes[node].value;
        double score = entry < 0 ? 0 : places[i + 1].score - u->scores[entry];
        if (entry >= 0 && score <= best.score) /* pieces come from short to long, and the bytes of a character first */
            best = (struct unigram_place){score, (uint32_t)(i + 1), u->vocabulary->ids[entry]};
    }
    return best;
}

static void add_bytes(const struct unigram *u, const char *text, size_t size, struct ids *out)
{
    uint32_t c;
    text_next(text, size, &c);
    if (text_is_stray(c))
        ids_add(out, u->bytes[c & 0xFF]);
    for (size_t i = 0; i < size && !text_is_stray(c); i++)
        ids_add(out, u->bytes[(unsigned char)text[i]]);
}

enum status unigram_encode_back(const struct unigram *u, struct unigram_work *w, const char *piece, size_t size, struct ids *out, struct error *err)
{
    enum status status = unigram_room(w, size, err);
    if (status)
        return status;
    struct unigram_place *places = w->places;
    uint64_t steps = 0;
    places[size] = (struct unigram_place){.id = -1};
    for (size_t behind = size, at; behind; behind = at) {
        at = text_before(piece, behind);
        places[at] = cheapest(u, places, piece, at, behind - at, size, &steps);
        if (unigram_endless(steps, size))
            return error_set(err, STATUS_FAILED, "the pieces of the tokenizer take too many steps on this text");
    }
    for (size_t at = 0; at < size; at = places[at].start) {
        if (places[at].id >= 0)
            ids_add(out, places[at].id);
        else
            add_bytes(u, piece + at, places[at].start - at, out);
    }
    return STATUS_OK;
}
