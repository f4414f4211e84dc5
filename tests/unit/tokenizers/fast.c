/* The fast ways against the plain ones: what is remembered, bytes in columns, texts cut at borders, many threads. */
#include "tiny.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "tokenizers/bpe_characters.h"

static uint32_t seed = 99;
static uint32_t below(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

/* A vocabulary of all bytes (as stand-ins) or of some characters, and merges of random neighbours that are there. */
enum { TOKENS = 400 };
struct grown {
    char texts[TOKENS][64];
    int count;
    struct str vocabulary, merges;
    bool mixed; /* merges in any order */
};

static void grow_add(struct grown *g, const char *text)
{
    cr_assert_lt(strlen(text), sizeof g->texts[0]);
    strcpy(g->texts[g->count], text);
    str_add_text(&g->vocabulary, g->count ? ", " : "");
    json_write_string(&g->vocabulary, text, strlen(text));
    str_format(&g->vocabulary, ": %d", g->count++);
}

static void grow_merges(struct grown *g, int first, int bases)
{
    for (int tries = 0; tries < 3000 && g->count < TOKENS; tries++) {
        const char *left = g->texts[first + (int)below((uint32_t)(tries % 3 ? g->count - first : bases))];
        const char *right = g->texts[first + (int)below((uint32_t)(tries % 2 ? g->count - first : bases))];
        char joined[160];
        snprintf(joined, sizeof joined, "%s%s", left, right);
        bool there = strlen(joined) > 60;
        for (int i = 0; i < g->count; i++)
            there |= strcmp(g->texts[i], joined) == 0;
        if (there)
            continue;
        grow_add(g, joined);
        struct str others = g->merges;
        bool in_front = g->mixed && below(2); /* of the merges that its halves come from */
        if (in_front)
            g->merges = (struct str){0};
        str_add_text(&g->merges, g->merges.size ? ", [" : "[");
        json_write_string(&g->merges, left, strlen(left));
        str_add_text(&g->merges, ", ");
        json_write_string(&g->merges, right, strlen(right));
        str_add_char(&g->merges, ']');
        if (in_front && others.size) {
            str_add_text(&g->merges, ", ");
            str_add(&g->merges, others.data, others.size);
            str_free(&others);
        }
    }
}

static struct tokenizer *open_grown(struct grown *g, const char *parts, const char *model)
{
    struct str file = {0};
    str_format(&file, "{%s \"model\": {\"type\": \"BPE\", %s \"vocab\": {%s}, \"merges\": [%s]}}", parts, model, str_text(&g->vocabulary), str_text(&g->merges));
    struct tokenizer *t = tiny_open(str_text(&file));
    str_free(&file);
    str_free(&g->vocabulary);
    str_free(&g->merges);
    return t;
}

/* 0..9 are stand-ins of ten bytes that merge, then the other bytes. */
static struct tokenizer *open_ten_bytes(const char first[10], bool mixed, const char *model)
{
    struct grown g = {.mixed = mixed};
    for (int i = 0; i < 256 + 10; i++) {
        unsigned char byte = (unsigned char)(i < 10 ? first[i] : i - 10);
        char text[5] = {0};
        if (i < 10 || !memchr(first, byte, 10)) {
            text_put(byte_stand_in[byte], text);
            grow_add(&g, text);
        }
    }
    grow_merges(&g, 0, 10);
    return open_grown(&g, "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true},", model);
}

static struct tokenizer *open_bytes(const char *model) { return open_ten_bytes("abcdefgh \n", false, model); }

static void encode(const struct tokenizer *t, const char *text, size_t size, struct ids *out)
{
    struct error err = {0};
    out->count = 0;
    cr_assert_eq(tokenizer_encode(t, text, size, (struct encode_options){0}, out, &err), STATUS_OK, "%s", err.text);
}

/* Without cache, columns and scanned pieces: every piece spelled and given to the model. */
static void encode_plainly(const struct tokenizer *t, const char *text, size_t size, struct ids *out)
{
    struct scratch s = {0};
    struct error err = {0};
    text_enter(text, size, t->keeps_bytes, NULL, &s.cut.text, NULL);
    out->count = 0;
    cr_assert_eq(pretokenize(t, t->pretokenizer_count, &s, &s.cut, &err), STATUS_OK, "%s", err.text);
    for (size_t i = 0; i < s.cut.pieces.count; i++) {
        const struct piece *p = &s.cut.pieces.list[i];
        cr_assert_eq(t->model(t, &s, s.cut.text.data + p->start, p->end - p->start, out, &err), STATUS_OK, "%s", err.text);
    }
    scratch_free(&s);
}

static void compare(const struct tokenizer *t, const char *text, size_t size, struct ids *a, struct ids *b)
{
    encode(t, text, size, a);
    encode_plainly(t, text, size, b);
    cr_assert(a->count == b->count && memcmp(a->data, b->data, a->count * sizeof *a->data) == 0, "\"%.*s\": %zu and %zu ids", (int)size, text, a->count, b->count);
}

static void compare_texts(const struct tokenizer *t, const char *alphabet, size_t letters, int rounds, uint32_t longest)
{
    struct ids a = {0}, b = {0};
    char text[1000];
    for (int round = 0; round < rounds; round++) {
        size_t size = 1 + below(round % 10 ? 40 : longest);
        for (size_t i = 0; i < size; i++)
            text[i] = alphabet[below((uint32_t)letters)];
        compare(t, text, size, &a, &b);
    }
    ids_free(&a);
    ids_free(&b);
}

Test(fast, characters)
{
    static const char bytes[] = "\xE3\xE4\xC3\x81\x82\x83\xA9\xB8 a", lead[] = "\xE3\xE3\xE4\xC3 a", inside[] = "\x81\x82\x83\xA9\xB8";
    uint32_t found = 0, asked = 0; /* characters that begin as one token, and those of them that mind their neighbours */
    struct ids a = {0}, b = {0};
    for (int round = 0; round < 150; round++) {
        struct tokenizer *t = open_ten_bytes(bytes, round % 3 == 0, "");
        int32_t ids[256];
        for (int i = 0; i < 256; i++)
            ids[i] = t->bpe.characters[byte_stand_in[i]];
        struct bpe_characters *c = bpe_characters_make(&t->bpe, ids);
        found += c->count;
        for (uint32_t i = 0; i < c->count; i++)
            asked += (c->list[i].before & c->list[i].behind) != UINT64_MAX;
        free(c);
        for (int k = 0; k < 300; k++) {
            struct str s = {0};
            for (uint32_t n = 1 + below(k % 10 ? 12 : 80); n; n--) {
                char first = lead[below(round % 2 ? 4 : 6)];
                str_add_char(&s, first);
                for (int more = first >= 0 ? 0 : first == '\xC3' ? 1 : 2; more && below(30); more--)
                    str_add_char(&s, inside[below(5)]);
            }
            compare(t, s.data, s.size, &a, &b);
            str_free(&s);
        }
        tokenizer_close(t);
    }
    cr_expect(found > 150 && asked > 50 && asked < found, "%u characters, %u with conditions", found, asked);
    ids_free(&a);
    ids_free(&b);
}

Test(fast, bytes)
{
    struct tokenizer *t = open_bytes("");
    cr_assert(t->bpe.byte_pairs && t->scanned && t->stand_ins);
    compare_texts(t, "abcdefgh \n", 10, 20000, 999);
    compare_texts(t, "ab", 2, 3000, 999); /* pieces of every length, 16, 192 and 256 bytes among them */
    tokenizer_close(t);
    t = open_bytes("\"ignore_merges\": true,");
    compare_texts(t, "abcdefgh \n", 10, 5000, 999);
    tokenizer_close(t);
}

Test(fast, borders)
{
    struct grown g = {0};
    char text[8];
    static const char *const letters[] = {"a", "b", "c", "\xC3\xA9", "\xE4\xB8\xAD", "\xE2\x96\x81"};
    for (int i = 0; i < 256; i++) {
        snprintf(text, sizeof text, "<0x%02X>", i);
        grow_add(&g, text);
    }
    for (int i = 0; i < 6; i++)
        grow_add(&g, letters[i]);
    for (int tries = 0; tries < 40; tries++) { /* few pairs, so that there are borders */
        char joined[16];
        const char *left = letters[below(6)], *right = letters[below(3)];
        snprintf(joined, sizeof joined, "%s%s", left, right);
        bool there = false;
        for (int i = 0; i < g.count; i++)
            there |= strcmp(g.texts[i], joined) == 0;
        if (there || (strcmp(left, "b") == 0 && strcmp(right, "c") == 0))
            continue;
        grow_add(&g, joined);
        str_format(&g.merges, "%s[\"%s\", \"%s\"]", g.merges.size ? ", " : "", left, right);
    }
    struct tokenizer *t = open_grown(&g, "", "\"byte_fallback\": true,");
    cr_assert_not_null(t->borders);
    struct ids a = {0}, b = {0};
    for (int round = 0; round < 20000; round++) {
        struct str s = {0};
        for (uint32_t i = 1 + below(30); i; i--)
            str_add_text(&s, below(10) ? letters[below(6)] : below(2) ? "x" : "\xF0\x9F\x99\x82");
        compare(t, s.data, s.size, &a, &b);
        str_free(&s);
    }
    ids_free(&a);
    ids_free(&b);
    tokenizer_close(t);
}

struct worker {
    const struct tokenizer *t;
    const char *text;
    size_t size;
    struct ids want;
    int wrong;
};

static void *work(void *context)
{
    struct worker *w = context;
    struct ids ids = {0};
    struct error err = {0};
    for (int i = 0; i < 300; i++) {
        ids.count = 0;
        w->wrong += tokenizer_encode(w->t, w->text, w->size, (struct encode_options){0}, &ids, &err) != STATUS_OK;
        w->wrong += ids.count != w->want.count || memcmp(ids.data, w->want.data, ids.count * sizeof *ids.data) != 0;
    }
    ids_free(&ids);
    return NULL;
}

Test(fast, threads)
{
    enum { THREADS = 8, LENGTH = 3000 };
    struct tokenizer *t = open_bytes("");
    char text[THREADS][LENGTH];
    struct worker workers[THREADS] = {{0}};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        for (int k = 0; k < LENGTH; k++)
            text[i][k] = "abcdefgh \n"[below(10)];
        workers[i] = (struct worker){.t = t, .text = text[i], .size = LENGTH};
        encode_plainly(t, text[i], LENGTH, &workers[i].want);
    }
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(workers[i].wrong, 0);
        ids_free(&workers[i].want);
    }
    tokenizer_close(t);
}
