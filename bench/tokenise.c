/* Text to ids on one thread: megabytes a second of the thread's own time, and how long opening takes.
 *
 *   bench_tokenise TOKENIZER TEXT ...          a path as `ingot tokenize` takes it; texts are files
 *
 * Prints CSV rows "by,tokenizer,text,mode,value,tokens": open (milliseconds by the clock, best of 9), first (the whole text by a tokenizer that has
 * seen nothing), whole (best of 9), parts (4,000 bytes each, best of 9), short (32 bytes each, best of 9), bytes a microsecond. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/files/tensors.h"
#include "tokenizers/tokenizers.h"

enum { RUNS = 9 };

static double own_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct tokenizer *open(const char *path)
{
    struct tokenizer *t = NULL;
    struct tensor_set *set;
    struct error err = {0};
    if (!gguf_is(path)) {
        tokenizer_open(&t, path, &err);
    } else if (!gguf_open(&set, path, MAPPING_FILE, &err)) {
        tokenizer_open_gguf(&t, set, &err);
        tensor_set_close(set);
    }
    if (!t) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return t;
}

/* Seconds for the whole text, in parts of about so many bytes, cut at characters; 0: all at once. */
static double run(const struct tokenizer *t, const char *text, size_t size, size_t part, size_t *tokens)
{
    struct ids ids = {0};
    struct error err = {0};
    double start = own_seconds();
    *tokens = 0;
    for (size_t at = 0, end; at < size; at = end) {
        end = part && size - at > part ? at + part : size;
        while (end < size && ((unsigned char)text[end] & 0xC0) == 0x80)
            end++;
        ids.count = 0;
        if (tokenizer_encode(t, text + at, end - at, (struct encode_options){0}, &ids, &err)) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
        *tokens += ids.count;
    }
    double seconds = own_seconds() - start;
    ids_free(&ids);
    return seconds;
}

static void print(const char *path, const char *text, const char *mode, double value, size_t tokens)
{
    printf("ingot,%s,%s,%s,%.2f,%zu\n", path, text, mode, value, tokens);
    fflush(stdout);
}

static void measure(const char *path, const char *name, const char *text, size_t size)
{
    static const struct {
        const char *name;
        size_t part;
    } modes[] = {{"whole", 0}, {"parts", 4000}, {"short", 32}};
    struct tokenizer *t = open(path);
    size_t tokens;
    double first = run(t, text, size, 0, &tokens);
    print(path, name, "first", (double)size / first * 1e-6, tokens);
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        double best = 1e9;
        for (int i = 0; i < RUNS; i++) {
            double seconds = run(t, text, size, modes[m].part, &tokens);
            best = seconds < best ? seconds : best;
        }
        print(path, name, modes[m].name, (double)size / best * 1e-6, tokens);
    }
    tokenizer_close(t);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "bench_tokenise TOKENIZER TEXT ...\n");
        return 2;
    }
    double best = 1e9;
    for (int i = 0; i < RUNS; i++) {
        int64_t start = clock_ns(); /* two threads may work on it */
        struct tokenizer *t = open(argv[1]);
        double seconds = (double)(clock_ns() - start) * 1e-9;
        best = seconds < best ? seconds : best;
        tokenizer_close(t);
    }
    print(argv[1], "", "open", best * 1e3, 0);
    for (int i = 2; i < argc; i++) {
        struct arena arena = {0};
        struct error err = {0};
        char *text;
        size_t size;
        if (file_read(&arena, argv[i], 1 << 30, &text, &size, &err)) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        const char *slash = strrchr(argv[i], '/');
        measure(argv[1], slash ? slash + 1 : argv[i], text, size);
        arena_free(&arena);
    }
    return 0;
}
