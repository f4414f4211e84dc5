/* Constrained output: bench_grammar TOKENIZER CASES.jsonl [-v]
 *
 * CASES: lines {"schema": ..., "valid": ["text", ...]}. Each schema is compiled afresh and each text walked token by token, with a
 * mask before every token, as decoding does. Prints one line of CSV: microseconds to compile, to the first mask, and per
 * mask (mean, median, 99th percentile, most), and milliseconds to open the vocabulary. Times are the thread's own, so that the
 * most is a mask's and not a pause that others on the machine made. -v: a line per schema on stderr. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "tokenizers/tokenizers.h"

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct times {
    double *list;
    size_t count, capacity;
};

static void add_time(struct times *t, double seconds)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 1024;
        t->list = realloc(t->list, t->capacity * sizeof *t->list);
        if (!t->list)
            exit(1);
    }
    t->list[t->count++] = seconds * 1e6;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(struct times *t)
{
    double sum = 0;
    for (size_t i = 0; i < t->count; i++)
        sum += t->list[i];
    qsort(t->list, t->count, sizeof *t->list, compare_doubles);
    if (t->count)
        printf(",%.1f,%.1f,%.1f,%.1f", sum / (double)t->count, t->list[t->count / 2], t->list[t->count * 99 / 100], t->list[t->count - 1]);
    free(t->list);
}

struct run {
    struct tokenizer *tokenizer;
    struct grammar_vocabulary *vocabulary;
    uint32_t *bits;
    struct times compile, first, mask, accept;
    size_t schemas, refused, wrong;
};

/* One text, as a model would write it. False: a token of it was not allowed. */
static bool walk(struct run *r, struct grammar *g, const struct json *text, bool *first, struct error *err)
{
    struct ids ids = {0};
    struct grammar_state *state;
    bool fits = true;
    if (tokenizer_encode(r->tokenizer, text->text, text->size, (struct encode_options){false, false}, &ids, err) || grammar_state_open(&state, g, err))
        return false;
    for (size_t i = 0; i <= ids.count && fits; i++) {
        double start = thread_seconds();
        fits = !grammar_mask(state, r->vocabulary, r->bits, err);
        double middle = thread_seconds();
        add_time(*first ? &r->first : &r->mask, middle - start);
        *first = false;
        if (i == ids.count || !fits)
            break;
        int32_t id = ids.data[i];
        bool allowed = r->bits[id >> 5] >> (id & 31) & 1;
        fits = !grammar_accept_token(state, r->vocabulary, id, err) && allowed;
        add_time(&r->accept, thread_seconds() - middle);
    }
    fits = fits && grammar_complete(state);
    grammar_state_close(state);
    ids_free(&ids);
    return fits;
}

static void run_case(struct run *r, const char *line, size_t size, size_t number, bool verbose)
{
    struct arena arena = {0};
    struct json root;
    struct error err = {0};
    struct grammar *g;
    bool first = true;
    if (json_parse(&arena, line, size, NULL, &root, &err))
        exit(1);
    const struct json *valid = json_get(&root, "valid");
    double start = thread_seconds();
    enum status status = grammar_compile_schema(&g, json_get(&root, "schema"), &err);
    double took = thread_seconds() - start;
    r->schemas++;
    if (status) {
        r->refused++;
        fprintf(stderr, "%zu: %s\n", number, err.text);
    } else {
        add_time(&r->compile, took);
        size_t before = r->mask.count;
        for (uint32_t i = 0; valid && i < valid->size; i++)
            if (!walk(r, g, &valid->items[i], &first, &err)) {
                r->wrong++;
                fprintf(stderr, "%zu, text %u: %s\n", number, i, err.text);
            }
        double sum = 0, most = 0;
        for (size_t i = before; i < r->mask.count; i++) {
            sum += r->mask.list[i];
            most = r->mask.list[i] > most ? r->mask.list[i] : most;
        }
        if (verbose && r->mask.count > before)
            fprintf(stderr, "%zu: compile %.0f us, masks %zu, mean %.1f us, most %.0f us\n", number, took * 1e6, r->mask.count - before,
                    sum / (double)(r->mask.count - before), most);
        grammar_close(g);
    }
    arena_free(&arena);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    struct arena arena = {0};
    struct run r = {0};
    char *text;
    size_t size;
    int32_t ends[64];
    if (argc < 3) {
        fprintf(stderr, "usage: bench_grammar TOKENIZER CASES.jsonl [-v]\n");
        return 2;
    }
    if (tokenizer_open(&r.tokenizer, argv[1], &err) || file_read(&arena, argv[2], 1u << 30, &text, &size, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    size_t end_count = tokenizer_end_ids(r.tokenizer, ends, 64);
    double start = thread_seconds();
    if (grammar_vocabulary_open(&r.vocabulary, r.tokenizer, ends, end_count, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    double opened = thread_seconds() - start;
    if (!(r.bits = calloc(grammar_vocabulary_words(r.vocabulary), sizeof *r.bits)))
        return 1;
    for (size_t at = 0, number = 1; at < size; number++) {
        char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        if (length)
            run_case(&r, text + at, length, number, argc > 3);
        at += length + 1;
    }
    printf("program,schemas,refused,wrong,masks,vocabulary_ms");
    static const char *const what[] = {"compile", "first", "mask", "accept"};
    for (int i = 0; i < 4; i++)
        printf(",%s_mean_us,%s_p50_us,%s_p99_us,%s_max_us", what[i], what[i], what[i], what[i]);
    printf("\ningot,%zu,%zu,%zu,%zu,%.1f", r.schemas, r.refused, r.wrong, r.mask.count + r.first.count, opened * 1e3);
    print_times(&r.compile);
    print_times(&r.first);
    print_times(&r.mask);
    print_times(&r.accept);
    printf("\n");
    grammar_vocabulary_close(r.vocabulary);
    tokenizer_close(r.tokenizer);
    free(r.bits);
    arena_free(&arena);
    return r.wrong != 0;
}
