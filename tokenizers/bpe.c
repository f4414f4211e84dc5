#include "tokenizers/bpe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizers/unicode.h"

/* ---- the table of merges ---------------------------------------------------------------------------------------------- */

/* Is left + right the text? */
static inline bool is_joined(const char *text, size_t size, const struct wanted_text *left, const struct wanted_text *right)
{
    return size == left->size + right->size && same_text(text, left->text, left->size) && same_text(text + left->size, right->text, right->size);
}

static int32_t look_up_joined(const struct bpe *b, const struct wanted_text *left, const struct wanted_text *right)
{
    struct str s = {0};
    str_add(&s, left->text, left->size);
    str_add(&s, right->text, right->size);
    int32_t id = s.failed ? -1 : vocabulary_find(b->vocabulary, s.data, s.size);
    str_free(&s);
    return id;
}

/* The token that left and right make, -1 if there is none. The right half loses its mark as a continuation. Mostly it is the token
 * found last or the one behind it, because files list both in the same order: a comparison instead of a look-up. */
static int32_t joined_id(const struct bpe *b, const struct wanted_text *left, const struct wanted_text *right)
{
    size_t drop = b->prefix.size;
    if (right->size < drop)
        return -1;
    struct wanted_text rest = {right->text + drop, (uint32_t)(right->size - drop), false};
    int32_t last = b->merge_count ? b->merges[b->merge_count - 1].result : -2; /* ids stay below INT32_MAX */
    for (int32_t step = 0; step < 2; step++) {
        size_t n;
        const char *t = vocabulary_text(b->vocabulary, last + step, &n);
        if (t && is_joined(t, n, left, &rest))
            return last + step;
    }
    return look_up_joined(b, left, &rest);
}

static enum status unknown(const struct wanted_text *t, struct error *err)
{
    return error_set(err, STATUS_BAD_INPUT, "merges: the token \"%s\" is not in the vocabulary", QUOTE(t->text, t->size));
}

static struct wanted_text text_of(const struct vocabulary *v, int32_t id)
{
    size_t size = 0;
    const char *text = vocabulary_text(v, id, &size);
    return (struct wanted_text){text, (uint32_t)size, false};
}

/* Results that were not found, or found before the prefix was known, anew from the parts. */
static enum status complete_merges(struct bpe *b, struct error *err)
{
    for (uint32_t i = 0; i < b->merge_count; i++) {
        struct merge *m = &b->merges[i];
        struct wanted_text left, right;
        if (m->result >= 0 && !b->prefix.size)
            continue;
        left = text_of(b->vocabulary, m->left);
        right = text_of(b->vocabulary, m->right);
        m->result = joined_id(b, &left, &right);
        if (m->result < 0)
            return error_set(err, STATUS_BAD_INPUT, "merges: \"%s%s\" is not in the vocabulary", QUOTE(left.text, left.size),
                             QUOTE(right.text, right.size));
    }
    return STATUS_OK;
}

static bool reserve_merges(struct bpe *b, size_t more)
{
    size_t capacity = b->merge_capacity ? b->merge_capacity : 1024;
    while (capacity - b->merge_count < more && capacity < NO_RANK)
        capacity *= 2;
    struct merge *list = capacity < NO_RANK ? realloc(b->merges, capacity * sizeof *list) : NULL;
    if (!list)
        return false;
    b->merges = list;
    b->merge_capacity = (uint32_t)capacity;
    return true;
}

enum status bpe_add_merges(struct bpe *b, const struct wanted_text *halves, size_t merges, struct error *err)
{
    int32_t ids[2 * MERGE_BATCH];
    if (b->merge_capacity - b->merge_count < merges && !reserve_merges(b, merges))
        return error_memory(err, "the merges");
    for (size_t i = 0; i < 2 * merges; i += 2) {
        size_t at = i % (2 * MERGE_BATCH), rest = 2 * merges - i;
        if (!at)
            vocabulary_find_many(b->vocabulary, halves + i, rest < 2 * MERGE_BATCH ? rest : 2 * MERGE_BATCH, ids);
        if (ids[at] < 0 || ids[at + 1] < 0)
            return unknown(&halves[i + (ids[at] >= 0)], err);
        /* a result that is not there yet may still come: the continuation's prefix can stand behind the merges in the file */
        b->merges[b->merge_count] = (struct merge){ids[at], ids[at + 1], joined_id(b, &halves[i], &halves[i + 1])};
        b->merge_count++;
    }
    return STATUS_OK;
}

static enum status index_merges(struct bpe *b, struct error *err)
{
    size_t n = hash_slots(b->merge_count);
    n = n && n / 4 * 3 > b->merge_count * 2 ? n / 2 : n; /* up to three quarters full */
    int bits = 10;
    while (bits < 32 && (uint64_t)1 << bits < (uint64_t)b->merge_count * 16)
        bits++;
    b->filter_shift = 64 - bits;
    b->filter = calloc(((size_t)1 << bits) / 64, sizeof *b->filter);
    b->pairs = n ? hash_room(n, sizeof *b->pairs) : NULL;
    if (!b->pairs || !b->filter)
        return error_memory(err, "the merges");
    b->mask = n - 1;
    b->seed = hash_seed();
    enum { AHEAD = 16 };
    for (uint32_t rank = 0; rank < b->merge_count; rank++) {
        const struct merge *m = &b->merges[rank], *later = rank + AHEAD < b->merge_count ? m + AHEAD : m;
        __builtin_prefetch(&b->pairs[(size_t)hash_pair((uint32_t)later->left, (uint32_t)later->right, b->seed) & b->mask], 1);
        uint64_t hash = hash_pair((uint32_t)m->left, (uint32_t)m->right, b->seed), bit = hash >> b->filter_shift;
        struct bpe_pair *p = (struct bpe_pair *)bpe_slot(b, m->left, m->right, hash);
        b->filter[bit >> 6] |= (uint64_t)1 << (bit & 63);
        *p = (struct bpe_pair){m->left, m->right, (int32_t)rank + 1, m->result}; /* twice: the last rank counts, as in the package */
    }
    return STATUS_OK;
}

enum status bpe_finish(struct bpe *b, const struct str *unk, struct error *err)
{
    const struct vocabulary *v = b->vocabulary;
    b->unk = -1;
    if (unk && unk->size) {
        b->unk = vocabulary_find(v, unk->data, unk->size);
        if (b->unk < 0)
            return error_set(err, STATUS_BAD_INPUT, "unk_token \"%s\" is not in the vocabulary", QUOTE(unk->data, unk->size));
    }
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        b->bytes[i] = vocabulary_find(v, name, 6);
    }
    for (uint32_t c = 0; c < 512; c++) {
        char text[4];
        b->characters[c] = vocabulary_find(v, text, text_put(c, text));
    }
    if (b->ranks)
        return STATUS_OK;
    enum status status = complete_merges(b, err);
    return status ? status : index_merges(b, err);
}

struct scored {
    float score;
    uint32_t entry;
};

static int compare_scores(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : 0;
}

enum status bpe_rank(struct bpe *b, const float *scores, struct error *err)
{
    uint32_t all = b->vocabulary->count, count = 0;
    struct scored *sorted = calloc(all + 1u, sizeof *sorted);
    b->ranks = calloc(all + 1u, sizeof *b->ranks);
    if (!sorted || !b->ranks) {
        free(sorted);
        return error_memory(err, "the vocabulary");
    }
    for (uint32_t e = 0; e < all; e++) {
        b->ranks[e] = NO_RANK;
        if (!isnan(scores[e]))
            sorted[count++] = (struct scored){scores[e], e};
    }
    qsort(sorted, count, sizeof *sorted, compare_scores);
    int32_t rank = 0;
    for (uint32_t i = 0; i < count; i++) {
        rank += i && sorted[i].score != sorted[i - 1].score;
        b->ranks[sorted[i].entry] = rank;
    }
    free(sorted);
    return STATUS_OK;
}

enum status bpe_set_unused(struct bpe *b, uint32_t entry, struct error *err)
{
    if (!b->unused)
        b->unused = calloc(b->vocabulary->count, sizeof *b->unused);
    if (!b->unused)
        return error_memory(err, "the vocabulary");
    b->unused[entry] = true;
    return STATUS_OK;
}

bool bpe_is_local(const struct bpe *b)
{
    int32_t low = INT32_MAX, high = -1;
    for (int i = 0; i < 256; i++) {
        low = b->bytes[i] < low ? b->bytes[i] : low;
        high = b->bytes[i] > high ? b->bytes[i] : high;
    }
    bool local = b->byte_fallback && low >= 0 && !b->prefix.size && !b->suffix.size;
    for (uint32_t i = 0; i < b->merge_count && local; i++) {
        const struct merge *m = &b->merges[i];
        local = (m->left < low || m->left > high) && (m->right < low || m->right > high);
    }
    return local;
}

void bpe_free(struct bpe *b)
{
    free(b->unused);
    free(b->merges);
    free(b->pairs);
    free(b->filter);
    bpe_free_bytes(b);
    free(b->ranks);
    str_free(&b->prefix);
    str_free(&b->suffix);
    *b = (struct bpe){0};
}

void bpe_work_free(struct bpe_work *w)
{
    free(w->symbols);
    free(w->heap);
    free(w->splits);
    *w = (struct bpe_work){0};
}

/* ---- from characters to symbols ----------------------------------------------------------------------------------------- */

static bool add_symbol(struct bpe_work *w, int32_t id, size_t start, size_t end)
{
    if (w->count == w->capacity) {
        size_t capacity = w->capacity ? w->capacity * 2 : 256;
        struct bpe_symbol *symbols = realloc(w->symbols, capacity * sizeof *symbols);
        if (!symbols)
            return false;
        w->symbols = symbols;
        w->capacity = capacity;
    }
    w->symbols[w->count++] = (struct bpe_symbol){.id = id, .start = (uint32_t)start, .end = (uint32_t)end};
    return true;
}

/* The character piece[start, end) with the marks that its place in the word asks for. */
static const char *marked_character(const struct bpe *b, const char *piece, size_t start, size_t end, bool last, struct str *room, size_t *size)
{
    bool prefix = start > 0 && b->prefix.size, suffix = last && b->suffix.size;
    *size = end - start;
    if (!prefix && !suffix)
        return piece + start;
    str_clear(room);
    if (prefix)
        str_add(room, b->prefix.data, b->prefix.size);
    str_add(room, piece + start, end - start);
    if (suffix)
        str_add(room, b->suffix.data, b->suffix.size);
    *size = room->size;
    return str_text(room);
}

/* Byte tokens for a character that is no token itself (its marks included, as in the package); false if one of them is
 * missing. start and end are its place in the piece. */
static bool add_bytes(const struct bpe *b, struct bpe_work *w, const char *text, size_t size, size_t start, size_t end, uint32_t c, bool *failed)
{
    if (text_is_stray(c)) {
        int32_t id = b->bytes[c & 0xFF];
        *failed |= id >= 0 && !add_symbol(w, id, start, end);
        return id >= 0;
    }
    for (size_t i = 0; i < size; i++)
        if (b->bytes[(unsigned char)text[i]] < 0)
            return false;
    bool exact = size == end - start; /* each byte token has its own byte, so that joined texts are never looked up in halves */
    for (size_t i = 0; i < size; i++)
        *failed |= !add_symbol(w, b->bytes[(unsigned char)text[i]], exact ? start + i : start, exact ? start + i + 1 : end);
    return true;
}

static bool add_characters(const struct bpe *b, struct bpe_work *w, const char *piece, size_t size)
{
    bool marks = b->prefix.size || b->suffix.size, failed = false;
    bool waiting = false; /* unknown characters not yet added, from unknown_start */
    size_t unknown_start = 0, unknown_end = 0;
    struct str room = {0};
    for (size_t at = 0, next; at < size && !failed; at = next) {
        uint32_t c;
        next = at + text_next(piece + at, size - at, &c);
        size_t length = next - at;
        const char *text = marks ? marked_character(b, piece, at, next, next == size, &room, &length) : piece + at;
        int32_t id = c < 512 && !marks ? b->characters[c] : vocabulary_find(b->vocabulary, text, length);
        if (id >= 0) {
            failed |= waiting && !add_symbol(w, b->unk, unknown_start, unknown_end);
            waiting = false;
            failed |= !add_symbol(w, id, at, next);
            continue;
        }
        if (b->byte_fallback && add_bytes(b, w, text, length, at, next, c, &failed))
            continue;
        if (b->unk < 0)
            continue; /* nothing stands for it: it vanishes, as in the package */
        if (waiting && !b->fuse_unk)
            failed |= !add_symbol(w, b->unk, unknown_start, unknown_end);
        if (!waiting || !b->fuse_unk)
            unknown_start = at;
        unknown_end = next;
        waiting = true;
    }
    failed |= (waiting && !add_symbol(w, b->unk, unknown_start, unknown_end)) || room.failed;
    str_free(&room);
    return !failed;
}

/* By ranks the text alone decides what joins: every character is one symbol, known or not. */
static bool add_texts(struct bpe_work *w, const char *piece, size_t size)
{
    bool good = true;
    for (size_t at = 0, next; at < size && good; at = next) {
        uint32_t c;
        next = at + text_next(piece + at, size - at, &c);
        good = add_symbol(w, -1, at, next);
    }
    return good;
}

/* ---- merging ------------------------------------------------------------------------------------------------------------- */

static void join_by_merges(const struct bpe *b, struct bpe_symbol *left, const struct bpe_symbol *right)
{
    const struct bpe_pair *p = bpe_find_pair(b, left->id, right->id);
    left->rank = p ? p->rank - 1 : NO_RANK;
    left->result = p ? p->result : -1;
}

static void join_by_rank(const struct bpe *b, struct bpe_work *w, const char *piece, struct bpe_symbol *left, const struct bpe_symbol *right)
{
    int64_t entry = vocabulary_find_entry(b->vocabulary, piece + left->start, right->end - left->start);
    left->result = (int32_t)entry;
    left->rank = entry >= 0 && b->ranks[entry] >= 0 ? b->ranks[entry] : NO_RANK;
    if (w->splits && left->rank != NO_RANK)
        w->splits[entry] = left->end - left->start;
}

static inline void join(const struct bpe *b, struct bpe_work *w, const char *piece, struct bpe_symbol *left, const struct bpe_symbol *right)
{
    if (b->ranks)
        join_by_rank(b, w, piece, left, right);
    else
        join_by_merges(b, left, right);
}

/* Few symbols: the lowest rank is searched anew each time, the rest moves up. */
static size_t merge_short(const struct bpe *b, struct bpe_work *w, const char *piece)
{
    struct bpe_symbol *s = w->symbols;
    size_t n = w->count;
    for (size_t i = 0; i + 1 < n; i++)
        join(b, w, piece, &s[i], &s[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (s[i].rank < s[best].rank)
                best = i;
        if (s[best].rank == NO_RANK)
            break;
        s[best].id = s[best].result;
        s[best].end = s[best + 1].end;
        n--;
        memmove(&s[best + 1], &s[best + 2], (n - best - 1) * sizeof *s);
        if (best + 1 < n)
            join(b, w, piece, &s[best], &s[best + 1]);
        if (best)
            join(b, w, piece, &s[best - 1], &s[best]);
    }
    return n;
}

static void sift_down(uint64_t *heap, size_t count, size_t at)
{
    uint64_t v = heap[at];
    for (size_t c; (c = 2 * at + 1) < count; at = c) {
        if (c + 1 < count && heap[c + 1] < heap[c])
            c++;
        if (heap[c] >= v)
            break;
        heap[at] = heap[c];
    }
    heap[at] = v;
}

static void sift_up(uint64_t *heap, size_t at)
{
    uint64_t v = heap[at];
    for (; at && heap[(at - 1) / 2] > v; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = v;
}

/* Each merge takes one symbol away and offers at most two new pairs: three entries per symbol are enough. */
static bool reserve_heap(struct bpe_work *w, size_t count)
{
    if (count <= w->heap_capacity)
        return true;
    uint64_t *heap = realloc(w->heap, count * sizeof *heap);
    if (!heap)
        return false;
    w->heap = heap;
    w->heap_capacity = count;
    return true;
}

static void offer(struct bpe_work *w, uint32_t symbol)
{
    int32_t rank = w->symbols[symbol].rank;
    if (rank == NO_RANK)
        return;
    w->heap[w->heap_count] = (uint64_t)(uint32_t)rank << 32 | symbol;
    sift_up(w->heap, w->heap_count++);
}

/* Many symbols: a linked list, and a heap of pairs by rank and place. An entry is stale when its symbol's rank is not
 * the entry's any more; symbols that were joined away have NO_RANK. */
static bool merge_long(const struct bpe *b, struct bpe_work *w, const char *piece)
{
    const uint32_t END = UINT32_MAX;
    struct bpe_symbol *s = w->symbols;
    uint32_t n = (uint32_t)w->count;
    if (!reserve_heap(w, w->count * 3))
        return false;
    w->heap_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        s[i].previous = i ? i - 1 : END;
        s[i].next = i + 1 < n ? i + 1 : END;
        s[i].rank = NO_RANK;
        if (i + 1 < n)
            join(b, w, piece, &s[i], &s[i + 1]);
        if (s[i].rank != NO_RANK)
            w->heap[w->heap_count++] = (uint64_t)(uint32_t)s[i].rank << 32 | i;
    }
    for (size_t i = w->heap_count / 2; i-- > 0;)
        sift_down(w->heap, w->heap_count, i);
    while (w->heap_count) {
        uint64_t top = w->heap[0];
        w->heap[0] = w->heap[--w->heap_count];
        if (w->heap_count)
            sift_down(w->heap, w->heap_count, 0);
        uint32_t i = (uint32_t)top;
        if (s[i].rank != (int32_t)(top >> 32))
            continue;
        uint32_t right = s[i].next, after = s[right].next, before = s[i].previous;
        s[i].id = s[i].result;
        s[i].end = s[right].end;
        s[i].next = after;
        s[i].rank = s[right].rank = NO_RANK;
        if (after != END) {
            s[after].previous = i;
            join(b, w, piece, &s[i], &s[after]);
            offer(w, i);
        }
        if (before != END) {
            join(b, w, piece, &s[before], &s[i]);
            offer(w, before);
        }
    }
    size_t kept = 0;
    for (uint32_t i = 0; i != END && i < n; i = s[i].next)
        s[kept++] = s[i];
    w->count = kept;
    return true;
}

/* ---- from symbols to ids --------------------------------------------------------------------------------------------------- */

/* The ids of a text that the ranks have left as one symbol. *unknown: it ends with an unknown character, which takes the next one in. */
static void add_ids(const struct bpe *b, const struct bpe_work *w, const char *text, size_t size, bool *unknown, struct ids *out)
{
    int64_t entry = vocabulary_find_entry(b->vocabulary, text, size);
    uint32_t left = entry >= 0 && b->unused && b->unused[entry] ? w->splits[entry] : 0, c;
    if (left && left < size) {
        add_ids(b, w, text, left, unknown, out);
        add_ids(b, w, text + left, size - left, unknown, out);
        return;
    }
    bool known = entry >= 0;
    if (!known && b->byte_fallback) {
        size_t before = out->count;
        text_next(text, size, &c);
        known = true;
        for (size_t i = 0; i < (text_is_stray(c) ? 1 : size); i++) {
            int32_t id = b->bytes[text_is_stray(c) ? c & 0xFF : (unsigned char)text[i]];
            known &= id >= 0;
            ids_add(out, id);
        }
        out->count = known ? out->count : before;
    } else if (known) {
        ids_add(out, b->vocabulary->ids[entry]);
    }
    if (!known && b->unk >= 0 && !(*unknown && b->fuse_unk))
        ids_add(out, b->unk);
    *unknown = !known;
}

static enum status out_of_memory(struct error *err) { return error_memory(err, "a long piece of text"); }

static bool merge(const struct bpe *b, struct bpe_work *w, const char *piece)
{
    enum { SHORT = 24 };
    if (w->count > SHORT)
        return merge_long(b, w, piece);
    w->count = merge_short(b, w, piece);
    return true;
}

static enum status encode_by_rank(const struct bpe *b, struct bpe_work *w, const char *piece, size_t size, struct ids *out, struct error *err)
{
    bool unknown = false;
    if (b->unused && !w->splits)
        w->splits = calloc(b->vocabulary->count, sizeof *w->splits);
    if ((b->unused && !w->splits) || !add_texts(w, piece, size) || !merge(b, w, piece))
        return out_of_memory(err);
    for (size_t i = 0; i < w->count; i++)
        add_ids(b, w, piece + w->symbols[i].start, w->symbols[i].end - w->symbols[i].start, &unknown, out);
    return STATUS_OK;
}

/* A piece that is a token as a whole, where that goes before merging; -1: it is not. */
static int32_t whole(const struct bpe *b, const char *piece, size_t size)
{
    if (!b->ignore_merges && !b->ranks)
        return -1;
    int64_t entry = vocabulary_find_entry(b->vocabulary, piece, size);
    return entry >= 0 && (b->ignore_merges || b->ranks[entry] == WHOLE_RANK) ? b->vocabulary->ids[entry] : -1;
}

enum status bpe_encode(const struct bpe *b, struct bpe_work *w, const char *piece, size_t size, struct ids *out, struct error *err)
{
    int32_t id = whole(b, piece, size);
    if (id >= 0) {
        ids_add(out, id);
        return STATUS_OK;
    }
    w->count = 0;
    if (b->ranks)
        return encode_by_rank(b, w, piece, size, out, err);
    if (!add_characters(b, w, piece, size) || !merge(b, w, piece))
        return out_of_memory(err);
    for (size_t i = 0; i < w->count; i++)
        ids_add(out, w->symbols[i].id);
    return STATUS_OK;
}
