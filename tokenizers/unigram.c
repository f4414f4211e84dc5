#include "tokenizers/unigram.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizers/unicode.h"

enum status unigram_start(struct unigram *u, const struct vocabulary *v, struct error *err)
{
    u->vocabulary = v;
    u->unk = -1;
    u->scores = calloc(v->count + 1u, sizeof *u->scores);
    u->kinds = calloc(v->count + 1u, sizeof *u->kinds);
    return u->scores && u->kinds ? STATUS_OK : error_memory(err, "the vocabulary");
}

enum status unigram_finish(struct unigram *u, struct error *err)
{
    const struct vocabulary *v = u->vocabulary;
    struct trie_text *texts = malloc((v->count + 1u) * sizeof *texts);
    size_t count = 0;
    if (!texts)
        return error_memory(err, "the vocabulary");
    for (uint32_t e = 0; e < v->count; e++) {
        size_t size;
        const char *text = vocabulary_entry(v, e, &size);
        if (u->kinds[e] != UNIGRAM_NEVER)
            texts[count++] = (struct trie_text){text, (uint32_t)size, (int32_t)e};
    }
    enum status status = trie_build(&u->trie, texts, count, err);
    free(texts);
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        u->bytes[i] = vocabulary_find(v, name, 6);
    }
    return status;
}

void unigram_free(struct unigram *u)
{
    trie_free(&u->trie);
    free(u->scores);
    free(u->kinds);
    *u = (struct unigram){0};
}

void unigram_work_free(struct unigram_work *w)
{
    free(w->places);
    *w = (struct unigram_work){0};
}

/* A better way to a place? The first of equals stays. SentencePiece compares in double, keeps floats, and adds the unknown score as
 * a float. */
static inline void offer(const struct unigram *u, struct unigram_place *place, double score, uint32_t start, int32_t id)
{
    if (place->id >= 0 && !(score > place->score))
        return;
    *place = (struct unigram_place){u->single ? (double)(float)score : score, start, id};
}

static double score_of(const struct unigram *u, uint32_t entry, size_t length)
{
    if (u->kinds[entry] != UNIGRAM_USER)
        return u->scores[entry];
    return u->single ? (double)((float)length * (float)u->highest) - 0.1 : (double)length * u->highest - 0.1;
}

/* Fills in the places behind `start`, where a character of `size` bytes begins; false without a token for the unknown. */
static bool extend(const struct unigram *u, struct unigram_place *places, const char *piece, size_t start, size_t size, size_t end, uint64_t *steps)
{
    const struct trie *t = &u->trie;
    double here = places[start].score;
    bool known = false;
    uint32_t node = 0;
    for (size_t at = start; at < end && (node = trie_next(t, node, (unsigned char)piece[at])); at++, ++*steps) {
        int32_t entry = t->nodes[node].value;
        if (entry < 0)
            continue;
        offer(u, &places[at + 1], here + score_of(u, (uint32_t)entry, at + 1 - start), (uint32_t)start, u->vocabulary->ids[entry]);
        known |= at + 1 - start == size;
    }
    if (known)
        return true;
    double score = u->single ? (double)((float)here + (float)u->unknown) : here + u->unknown;
    if (u->unk >= 0)
        offer(u, &places[start + size], score, (uint32_t)start, u->unk);
    return u->unk >= 0 || places[start + size].id >= 0;
}

/* An unknown stretch: one id for each of its bytes where the file wants that and has them all, else one for the stretch. */
static void add_unknown(const struct unigram *u, const char *piece, size_t start, size_t end, struct ids *out)
{
    size_t before = out->count;
    bool whole = !u->byte_fallback;
    for (size_t at = start, size; at < end && !whole; at += size) {
        uint32_t c;
        size = text_next(piece + at, end - at, &c);
        for (size_t i = 0; i < (text_is_stray(c) ? 1 : size); i++) {
            int32_t id = u->bytes[text_is_stray(c) ? c & 0xFF : (unsigned char)piece[at + i]];
            whole |= id < 0;
            ids_add(out, id);
        }
    }
    if (!whole)
        return;
    out->count = before;
    ids_add(out, u->unk);
}

/* The places on the best way become a chain from the first to the last: each one's start is then the next one's end. */
static void turn_around(struct unigram_place *places, size_t size)
{
    for (size_t end = size, next = size; end;) {
        size_t start = places[end].start;
        places[end].start = (uint32_t)next;
        next = end;
        end = start;
        if (!end)
            places[0].start = (uint32_t)next;
    }
}

static void add_best(const struct unigram *u, struct unigram_place *places, const char *piece, size_t size, struct ids *out)
{
    turn_around(places, size);
    for (size_t at = 0; at < size;) {
        size_t end = places[at].start;
        if (places[end].id != u->unk) {
            ids_add(out, places[end].id);
        } else {
            while (end < size && places[places[end].start].id == u->unk)
                end = places[end].start;
            add_unknown(u, piece, at, end, out);
        }
        at = end;
    }
}

enum status unigram_room(struct unigram_work *w, size_t size, struct error *err)
{
    if (size < w->capacity)
        return STATUS_OK;
    struct unigram_place *places = realloc(w->places, (size + 1) * sizeof *places);
    if (!places)
        return error_memory(err, "a long piece of text");
    w->places = places;
    w->capacity = size + 1;
    return STATUS_OK;
}

enum status unigram_encode(const struct unigram *u, struct unigram_work *w, const char *piece, size_t size, struct ids *out, struct error *err)
{
    enum status status = unigram_room(w, size, err);
    if (status)
        return status;
    struct unigram_place *places = w->places;
    for (size_t i = 0; i <= size; i++)
        places[i] = (struct unigram_place){.id = -1};
    uint64_t steps = 0;
    for (size_t at = 0, length; at < size; at += length) {
        uint32_t c;
        length = text_next(piece + at, size - at, &c);
        if (at && places[at].id < 0)
            continue; /* a piece ends inside a character here */
        if (!extend(u, places, piece, at, length, size, &steps))
            return error_set(err, STATUS_FAILED, "the text has a character that no piece of the vocabulary has, and the tokenizer names no unk_id");
        if (unigram_endless(steps, size))
            return error_set(err, STATUS_FAILED, "the pieces of the tokenizer take too many steps on this text");
    }
    add_best(u, places, piece, size, out);
    return STATUS_OK;
}
