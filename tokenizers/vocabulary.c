#include "tokenizers/vocabulary.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <stdatomic.h>

uint64_t hash_seed(void)
{
    static _Atomic uint64_t seed;
    uint64_t s = atomic_load(&seed);
    if (!s) {
        uint64_t none = 0;
        if (getrandom(&s, sizeof s, GRND_NONBLOCK) != (ssize_t)sizeof s)
            s = (uintptr_t)&s;
        s |= 1;
        if (!atomic_compare_exchange_strong(&seed, &none, s))
            s = none;
    }
    return s;
}

void *hash_room(size_t count, size_t size)
{
    enum { HUGE = 2 << 20 };
    if (size && count > SIZE_MAX / 2 / size)
        return NULL;
    size_t bytes = count * size;
    if (bytes < HUGE)
        return calloc(count, size);
    void *room = aligned_alloc(HUGE, (bytes + HUGE - 1) / HUGE * HUGE);
    if (!room)
        return NULL;
    madvise(room, bytes, MADV_HUGEPAGE);
    return memset(room, 0, bytes);
}

static bool grow(struct vocabulary *v)
{
    uint32_t capacity = v->capacity ? v->capacity * 2 : 1024;
    uint32_t *start = realloc(v->start, (capacity + 1u) * sizeof *start);
    if (start)
        v->start = start;
    int32_t *ids = realloc(v->ids, capacity * sizeof *ids);
    if (ids)
        v->ids = ids;
    if (!start || !ids)
        return false;
    v->capacity = capacity;
    return true;
}

enum status vocabulary_add(struct vocabulary *v, const char *text, size_t size, int32_t id, struct error *err)
{
    if (v->count >= UINT32_MAX / 8 || v->texts.size + size > UINT32_MAX / 2)
        return error_set(err, STATUS_NO_ROOM, "the vocabulary is over the limit of 2 GiB of text");
    if (v->count == v->capacity && !grow(v))
        return error_memory(err, "the vocabulary");
    str_add(&v->texts, text, size);
    if (v->texts.failed)
        return error_memory(err, "the vocabulary");
    v->ids[v->count] = id;
    v->start[v->count++] = (uint32_t)(v->texts.size - size);
    v->start[v->count] = (uint32_t)v->texts.size;
    if (id >= v->size)
        v->size = id + 1;
    if (size > v->longest)
        v->longest = (uint32_t)size;
    return STATUS_OK;
}

void vocabulary_cut(struct vocabulary *v, uint32_t count, int32_t raise)
{
    v->size = 0;
    v->longest = 0;
    v->count = count;
    v->texts.size = count ? v->start[count] : 0;
    for (uint32_t e = 0; e < count; e++) {
        v->ids[e] += raise;
        v->size = v->ids[e] >= v->size ? v->ids[e] + 1 : v->size;
        v->longest = v->start[e + 1] - v->start[e] > v->longest ? v->start[e + 1] - v->start[e] : v->longest;
    }
}

struct key {
    uint64_t hash, key; /* as in the slot */
};

/* padded: 8 bytes from text on can be read. */
static inline struct key key_of(const struct vocabulary *v, const char *text, size_t size, bool padded)
{
    uint64_t word = size > 8 ? 0 : padded ? hash_padded_word(text, size) : hash_word(text, size);
    uint64_t hash = hash_with_word(text, size, word, v->seed);
    return (struct key){hash, size <= 8 ? word : hash};
}

/* The slot that holds the text, or the empty one where it belongs. */
static inline struct vocabulary_slot *slot_of(const struct vocabulary *v, const char *text, size_t size, struct key k)
{
    for (size_t i = (size_t)k.hash & v->mask;; i = (i + 1) & v->mask) {
        struct vocabulary_slot *s = &v->slots[i];
        if (!s->entry || (s->key == k.key && s->size == size && (size <= 8 || same_text(v->texts.data + v->start[s->entry - 1], text, size))))
            return s;
    }
}

static enum status index_texts(struct vocabulary *v, enum vocabulary_twice twice, struct error *err)
{
    enum { AHEAD = 16 };
    size_t n = hash_slots(v->count);
    struct key keys[AHEAD]; /* of the entries whose slots are on their way */
    v->seed = hash_seed();
    v->slots = n ? hash_room(n, sizeof *v->slots) : NULL;
    if (!v->slots)
        return error_memory(err, "the vocabulary");
    v->mask = n - 1;
    for (uint32_t next = 0; next < v->count + AHEAD; next++) {
        size_t size;
        if (next >= AHEAD) {
            uint32_t e = next - AHEAD;
            const char *text = vocabulary_entry(v, e, &size);
            struct vocabulary_slot *s = slot_of(v, text, size, keys[e % AHEAD]);
            if (!s->entry || twice == TWICE_LAST)
                *s = (struct vocabulary_slot){keys[e % AHEAD].key, (uint32_t)size, e + 1};
            else if (twice == TWICE_REFUSED)
                return error_set(err, STATUS_BAD_INPUT, "vocab: \"%s\" occurs twice", QUOTE(text, size));
        }
        if (next < v->count) {
            const char *text = vocabulary_entry(v, next, &size);
            keys[next % AHEAD] = key_of(v, text, size, v->texts.capacity - v->start[next] >= 8);
            __builtin_prefetch(&v->slots[(size_t)keys[next % AHEAD].hash & v->mask], 1);
        }
    }
    return STATUS_OK;
}

static int compare_ids(const void *a, const void *b, void *ids)
{
    const int32_t *id = ids;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return id[x] != id[y] ? (id[x] < id[y] ? -1 : 1) : x < y ? -1 : x > y;
}

static enum status id_twice(const struct vocabulary *v, uint32_t a, uint32_t b, struct error *err)
{
    size_t na, nb;
    const char *x = vocabulary_entry(v, a, &na), *y = vocabulary_entry(v, b, &nb);
    return error_set(err, STATUS_BAD_INPUT, "vocab: \"%s\" and \"%s\" have the same id %d", QUOTE(x, na), QUOTE(y, nb), v->ids[a]);
}

static enum status index_ids(struct vocabulary *v, enum vocabulary_twice twice, struct error *err)
{
    v->dense = (uint64_t)v->size <= (uint64_t)v->count * 4 + 1024;
    v->by_id = calloc(v->dense ? (size_t)v->size + 1 : v->count, sizeof *v->by_id);
    if (!v->by_id)
        return error_memory(err, "the vocabulary");
    for (uint32_t e = 0; e < v->count && v->dense; e++) {
        if (v->by_id[v->ids[e]] && twice == TWICE_REFUSED)
            return id_twice(v, v->by_id[v->ids[e]] - 1, e, err);
        if (!v->by_id[v->ids[e]])
            v->by_id[v->ids[e]] = e + 1;
    }
    if (v->dense)
        return STATUS_OK;
    for (uint32_t e = 0; e < v->count; e++)
        v->by_id[e] = e;
    qsort_r(v->by_id, v->count, sizeof *v->by_id, compare_ids, v->ids);
    for (uint32_t i = 1; i < v->count && twice == TWICE_REFUSED; i++)
        if (v->ids[v->by_id[i]] == v->ids[v->by_id[i - 1]])
            return id_twice(v, v->by_id[i - 1], v->by_id[i], err);
    return STATUS_OK;
}

enum status vocabulary_index(struct vocabulary *v, enum vocabulary_twice twice, struct error *err)
{
    if (!v->capacity && !grow(v)) /* an empty vocabulary is one too */
        return error_memory(err, "the vocabulary");
    if (!v->count)
        v->start[0] = 0;
    enum status status = index_texts(v, twice, err);
    return status ? status : index_ids(v, twice, err);
}

void vocabulary_free(struct vocabulary *v)
{
    str_free(&v->texts);
    free(v->start);
    free(v->ids);
    free(v->slots);
    free(v->by_id);
    *v = (struct vocabulary){0};
}

int64_t vocabulary_find_entry(const struct vocabulary *v, const char *text, size_t size)
{
    if (size > v->longest)
        return -1;
    return (int64_t)slot_of(v, text, size, key_of(v, text, size, false))->entry - 1;
}

int32_t vocabulary_find(const struct vocabulary *v, const char *text, size_t size)
{
    int64_t entry = vocabulary_find_entry(v, text, size);
    return entry < 0 ? -1 : v->ids[entry];
}

void vocabulary_find_many(const struct vocabulary *v, const struct wanted_text *texts, size_t count, int32_t *ids)
{
    struct key keys[VOCABULARY_MANY];
    for (size_t begin = 0, end; begin < count; begin = end) {
        end = count - begin > VOCABULARY_MANY ? begin + VOCABULARY_MANY : count;
        for (size_t i = begin; i < end; i++) {
            keys[i - begin] = key_of(v, texts[i].text, texts[i].size, texts[i].padded);
            __builtin_prefetch(&v->slots[(size_t)keys[i - begin].hash & v->mask]);
        }
        for (size_t i = begin; i < end; i++) { /* mostly the slot is the one */
            uint32_t entry = v->slots[(size_t)keys[i - begin].hash & v->mask].entry;
            __builtin_prefetch(&v->ids[entry ? entry - 1 : 0]);
            __builtin_prefetch(&v->start[entry ? entry - 1 : 0]);
        }
        for (size_t i = begin; i < end; i++) {
            uint32_t entry = slot_of(v, texts[i].text, texts[i].size, keys[i - begin])->entry;
            ids[i] = entry ? v->ids[entry - 1] : -1;
        }
    }
}

int64_t vocabulary_entry_of(const struct vocabulary *v, int32_t id)
{
    if (id < 0 || id >= v->size)
        return -1;
    if (v->dense)
        return (int64_t)v->by_id[id] - 1;
    uint32_t low = 0, high = v->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (v->ids[v->by_id[middle]] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->count && v->ids[v->by_id[low]] == id ? (int64_t)v->by_id[low] : -1;
}

const char *vocabulary_text(const struct vocabulary *v, int32_t id, size_t *size)
{
    int64_t entry = vocabulary_entry_of(v, id);
    return entry < 0 ? NULL : vocabulary_entry(v, (uint32_t)entry, size);
}
