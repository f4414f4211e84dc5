/* Text <-> id. Filled once (add ..., index), then read by any thread.
 *
 * The texts lie one after another in one block; entry e is bytes start[e] .. start[e + 1]. Entries are in the order of
 * the file, ids are the file's own and may have gaps of any size: nothing is allocated by id unless ids are dense. */
#ifndef TOKENIZERS_VOCABULARY_H
#define TOKENIZERS_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "tokenizers/hash.h"

/* A slot of the table from texts to entries, which is open-addressed. Most texts have up to 8 bytes and stand in their slot: to find
 * them costs one cache line. */
struct vocabulary_slot {
    uint64_t key;         /* hash_word() of the text; over 8 bytes: its hash */
    uint32_t size, entry; /* bytes; the entry's number + 1, 0: empty */
};

struct vocabulary {
    struct str texts;
    uint32_t *start; /* count + 1 */
    int32_t *ids;
    uint32_t count, capacity;
    struct vocabulary_slot *slots;
    size_t mask;
    uint64_t seed;
    uint32_t *by_id; /* dense: entry + 1 at [id]; sparse: entries in the order of their ids */
    bool dense;
    int32_t size;     /* largest id + 1 */
    uint32_t longest; /* bytes of the longest text */
};

enum status vocabulary_add(struct vocabulary *v, const char *text, size_t size, int32_t id, struct error *err);

/* Before indexing: keeps the first `count` entries, and raises their ids. Ids must not overflow. */
void vocabulary_cut(struct vocabulary *v, uint32_t count, int32_t raise);

/* Builds both directions. twice: what a repeated text or id means: an error that names it, or the first one
 * (GGUF) or the last one (Unigram) counts for the text. */
enum vocabulary_twice { TWICE_REFUSED, TWICE_FIRST, TWICE_LAST };
enum status vocabulary_index(struct vocabulary *v, enum vocabulary_twice twice, struct error *err);
void vocabulary_free(struct vocabulary *v);

/* The entry of a text, -1 if there is none. */
int64_t vocabulary_find_entry(const struct vocabulary *v, const char *text, size_t size);
/* Its id, -1 if there is none. */
int32_t vocabulary_find(const struct vocabulary *v, const char *text, size_t size);
/* The same for many texts: ids[i] is that of texts[i]. They wait for memory together, up to VOCABULARY_MANY at once. */
enum { VOCABULARY_MANY = 64 };
struct wanted_text {
    const char *text;
    uint32_t size;
    bool padded; /* 8 bytes from text on can be read: faster */
};
void vocabulary_find_many(const struct vocabulary *v, const struct wanted_text *texts, size_t count, int32_t *ids);
/* The entry of an id, -1 for a hole. */
int64_t vocabulary_entry_of(const struct vocabulary *v, int32_t id);
/* NULL for a hole. */
const char *vocabulary_text(const struct vocabulary *v, int32_t id, size_t *size);

static inline const char *vocabulary_entry(const struct vocabulary *v, uint32_t entry, size_t *size)
{
    *size = v->start[entry + 1] - v->start[entry];
    return v->texts.data + v->start[entry];
}

#endif
