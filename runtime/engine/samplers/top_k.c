/* Keeps the k best: a min-heap of k passes over the vocabulary once, no full sort. */
#include "runtime/engine/engine.h"

static bool worse(struct token_score a, struct token_score b) { return a.score != b.score ? a.score < b.score : a.id > b.id; }

static void sink(struct token_score *heap, int64_t count, int64_t at)
{
    struct token_score v = heap[at];
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && worse(heap[child + 1], heap[child]))
            child++;
        if (!worse(heap[child], v))
            break;
        heap[at] = heap[child];
    }
    heap[at] = v;
}

void sampler_top_k(struct sampler *s, struct candidates *c)
{
    int64_t k = s->options.top_k;
    if (k <= 0)
        return;
    if (k >= c->count) {
        c->lacking |= k > c->count && c->rest > 0;
        c->rest = 0;
        return;
    }
    if (!c->sorted) {
        for (int64_t i = k / 2; i-- > 0;)
            sink(c->list, k, i);
        for (int64_t i = k; i < c->count; i++)
            if (worse(c->list[0], c->list[i])) {
                struct token_score out = c->list[0];
                c->list[0] = c->list[i];
                c->list[i] = out;
                sink(c->list, k, 0);
            }
    }
    c->count = k;
    c->rest = 0;
}
