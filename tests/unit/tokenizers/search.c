/* The automaton and the merge loops against their plain versions, on random input. */
#include "tiny.h"

#include <stdlib.h>

static uint32_t seed = 12345;
static uint32_t below(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

/* Every start from the left, there the longest pattern. */
static bool plain_find(char patterns[][8], int count, const char *text, size_t size, size_t from, int32_t *pattern, size_t *start, size_t *end)
{
    for (size_t at = from; at < size; at++) {
        size_t best = 0;
        for (int i = 0; i < count; i++) {
            size_t n = strlen(patterns[i]);
            if (n > best && n <= size - at && memcmp(text + at, patterns[i], n) == 0) {
                best = n;
                *pattern = i;
            }
        }
        if (best) {
            *start = at;
            *end = at + best;
            return true;
        }
    }
    return false;
}

Test(automaton, leftmost_longest)
{
    for (int round = 0; round < 500; round++) {
        char patterns[8][8], text[40];
        struct automaton_text texts[8];
        int count = 1 + (int)below(8);
        for (int i = 0; i < count; i++) {
            size_t n = below(6);
            for (size_t k = 0; k < n; k++)
                patterns[i][k] = "ab"[below(2)];
            patterns[i][n] = 0;
            texts[i] = (struct automaton_text){patterns[i], n, i};
        }
        for (size_t k = 0; k < sizeof text; k++)
            text[k] = "abc"[below(round % 2 ? 2 : 3)];
        struct automaton a;
        struct error err = {0};
        cr_assert_eq(automaton_build(&a, texts, (size_t)count, &err), STATUS_OK);
        uint64_t steps = 0;
        for (size_t from = 0; from <= sizeof text; from++) {
            int32_t p = -1, q = -1;
            size_t s0 = 0, s1 = 0, e0 = 0, e1 = 0;
            bool want = plain_find(patterns, count, text, sizeof text, from, &p, &s0, &e0);
            bool got = automaton_find(&a, text, sizeof text, from, &q, &s1, &e1, &steps);
            cr_assert_eq(want, got);
            if (want)
                cr_assert(s0 == s1 && e0 == e1 && p == q);
        }
        automaton_free(&a);
    }
}

/* A random vocabulary over three letters whose merges join what is there already. */
static struct tokenizer *random_bpe(void)
{
    static char names[60][40];
    int count = 3;
    struct str vocab = {0}, merges = {0}, json = {0};
    strcpy(names[0], "a");
    strcpy(names[1], "b");
    strcpy(names[2], "c");
    while (count < 40) {
        char joined[80];
        int left = (int)below((uint32_t)count), right = (int)below((uint32_t)count), i = 0;
        snprintf(joined, sizeof joined, "%s%s", names[left], names[right]);
        for (i = 0; i < count && strcmp(names[i], joined) != 0; i++)
            ;
        if (strlen(joined) >= sizeof names[0] || (i < count && below(4)))
            continue;
        str_format(&merges, "%s\"%s %s\"", merges.size ? ", " : "", names[left], names[right]);
        if (i == count)
            strcpy(names[count++], joined);
    }
    for (int i = 0; i < count; i++)
        str_format(&vocab, "%s\"%s\": %d", i ? ", " : "", names[i], i);
    str_format(&json, "{\"model\": {\"type\": \"BPE\", \"vocab\": {%s}, \"merges\": [%s]}}", vocab.data, merges.data);
    struct tokenizer *t = tiny_open(json.data);
    str_free(&vocab);
    str_free(&merges);
    str_free(&json);
    return t;
}

/* The definition: the pair of the lowest rank, the leftmost one, until there is none. */
static size_t plain_merge(const struct bpe *b, int32_t *ids, size_t n)
{
    for (;;) {
        uint32_t best = b->merge_count;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (uint32_t r = b->merge_count; r-- > 0;) /* of two equal pairs the later rank counts */
                if (b->merges[r].left == ids[i] && b->merges[r].right == ids[i + 1]) {
                    if (r < best) {
                        best = r;
                        at = i;
                    }
                    break;
                }
        if (best == b->merge_count)
            return n;
        ids[at] = b->merges[best].result;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

Test(bpe, heap_and_scan_agree_with_the_definition)
{
    for (int round = 0; round < 60; round++) {
        struct tokenizer *t = random_bpe();
        for (int k = 0; k < 20; k++) {
            char text[200];
            int32_t want[200];
            size_t n = 1 + below(k % 2 ? 20 : 199);
            for (size_t i = 0; i < n; i++) {
                text[i] = "abc"[below(3)];
                want[i] = text[i] - 'a';
            }
            struct ids got = {0};
            struct error err = {0};
            size_t count = plain_merge(&t->bpe, want, n);
            cr_assert_eq(tokenizer_encode(t, text, n, (struct encode_options){0}, &got, &err), STATUS_OK);
            cr_assert_eq(got.count, count);
            cr_assert_eq(memcmp(got.data, want, count * sizeof *want), 0);
            ids_free(&got);
        }
        tokenizer_close(t);
    }
}

Test(vocabulary, finds_texts_and_ids)
{
    struct vocabulary v = {0};
    struct error err = {0};
    char text[32];
    for (int i = 0; i < 5000; i++) {
        int n = snprintf(text, sizeof text, "token-%d-%.*s", i, i % 9, "xxxxxxxxx");
        cr_assert_eq(vocabulary_add(&v, text, (size_t)n, i * 3, &err), STATUS_OK);
    }
    cr_assert_eq(vocabulary_index(&v, TWICE_REFUSED, &err), STATUS_OK);
    for (int i = 0; i < 5000; i++) {
        int n = snprintf(text, sizeof text, "token-%d-%.*s", i, i % 9, "xxxxxxxxx");
        size_t size;
        cr_assert_eq(vocabulary_find(&v, text, (size_t)n), i * 3);
        const char *back = vocabulary_text(&v, i * 3, &size);
        cr_assert(back && size == (size_t)n && memcmp(back, text, size) == 0);
        cr_assert_null(vocabulary_text(&v, i * 3 + 1, &size));
    }
    cr_expect_eq(vocabulary_find(&v, "token", 5), -1);
    cr_expect_eq(vocabulary_find(&v, "", 0), -1);
    vocabulary_free(&v);
}
