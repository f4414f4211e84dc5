/* The plain twin of every backend's choose(): what devices are judged by. */
#include <stdbool.h>

#include "kernels/ops.h"

static bool may(const struct row_choice *c, int64_t id)
{
    size_t word = (size_t)id / 32;
    return !c->allowed || (word < c->allowed_words && (c->allowed[word] >> id % 32 & 1));
}

static void score(const struct row_choice *c, const float *row, int64_t vocab, float *scores)
{
    for (int64_t i = 0; i < vocab; i++)
        scores[i] = isnan(row[i]) ? -INFINITY : row[i];
    for (int32_t i = 0; i < c->edit_count; i++)
        scores[c->edits[i].id] = choice_edited(scores[c->edits[i].id], &c->edits[i]);
    for (int64_t i = 0; i < vocab; i++)
        scores[i] = (may(c, i) ? scores[i] : -INFINITY) / c->temperature;
}

void choice_make(struct row_choice *c, const float *row, int64_t vocab, float *scores, struct token_score list[CHOICE_ROOM], float logits[CHOICE_ROOM])
{
    float best = -INFINITY;
    score(c, row, vocab, scores);
    c->most = -INFINITY, c->norm = c->total = 0, c->count = 0, c->list = list, c->logits = logits;
    for (int64_t i = 0; i < vocab; i++)
        c->most = fmaxf(c->most, row[i]), best = fmaxf(best, scores[i]);
    int64_t bins[CHOICE_BINS + 1] = {0}, last = 0, sum;
    for (int64_t i = 0; i < vocab; i++) {
        c->norm += choice_weight(row[i], c->most);
        c->total += choice_weight(scores[i], best);
        bins[choice_bin(scores[i], best)]++;
    }
    for (sum = bins[0]; sum < c->best && last < CHOICE_BINS - 1;)
        sum += bins[++last];
    for (int64_t i = 0; i < vocab && sum <= choice_room(c->best); i++)
        if (choice_bin(scores[i], best) <= last) {
            logits[c->count] = row[i];
            list[c->count++] = (struct token_score){(int32_t)i, scores[i]};
        }
}
