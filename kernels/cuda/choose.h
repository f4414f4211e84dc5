/* The best values of a row and the weight of all (kernels/choice.h), in three passes over the logits: the best score, weights and a
 * histogram below it, the list down to the bin that fills it. No pass stores scores: each makes them again from the logits. */
#ifndef KERNELS_CUDA_CHOOSE_H
#define KERNELS_CUDA_CHOOSE_H

#include "kernels/cuda/code.h"

KERNEL_CODE int choose_count(const struct choose_args *a)
{
    int64_t rest = a->vocab - BLOCK * CHOOSE_SLICE;
    return rest < CHOOSE_SLICE ? (int)rest : CHOOSE_SLICE;
}

/* The scores of this block's slice; thread t owns values t, t + CUDA_THREADS ... */
KERNEL_CODE void choose_scores(const struct choose_args *a, const float *logits, int count, float *score)
{
    const struct choose_row *row = &a->rows[BLOCK_Y];
    int64_t first = BLOCK * CHOOSE_SLICE;
    for (int i = THREAD; i < count; i += CUDA_THREADS)
        score[i] = logits[i] == logits[i] ? logits[i] : -INFINITY;
    BLOCK_BARRIER();
    for (int i = THREAD; i < row->edits; i += CUDA_THREADS) {
        const struct score_edit *e = &a->edits[row->first_edit + i];
        if (e->id >= first && e->id < first + count)
            score[e->id - first] = choice_edited(score[e->id - first], e);
    }
    BLOCK_BARRIER();
    for (int i = THREAD; i < count; i += CUDA_THREADS) {
        int64_t word = (first + i) / 32;
        if (row->first_word >= 0 && !(word < row->words && (a->allowed[row->first_word + word] >> (first + i) % 32 & 1)))
            score[i] = -INFINITY;
        score[i] /= row->temperature;
    }
}

KERNEL_CODE void choose_most(const struct choose_args *a, const float *logits, int count, int64_t slices, float *shared)
{
    float best = -INFINITY, most = -INFINITY;
    for (int i = THREAD; i < count; i += CUDA_THREADS) {
        best = fmaxf(best, shared[i]);
        most = fmaxf(most, logits[i]);
    }
    best = block_most(best, shared + CHOOSE_ROOM_AT);
    most = block_most(most, shared + CHOOSE_ROOM_AT);
    if (THREAD == 0) {
        a->slices[(BLOCK_Y * slices + BLOCK) * 2] = best;
        a->slices[(BLOCK_Y * slices + BLOCK) * 2 + 1] = most;
    }
    if (BLOCK == 0) { /* for the next pass */
        for (int i = THREAD; i < CHOICE_BINS; i += CUDA_THREADS)
            a->bins[BLOCK_Y * CHOICE_BINS + i] = 0;
        if (THREAD == 0)
            a->found[BLOCK_Y].count = 0, a->found[BLOCK_Y].norm = a->found[BLOCK_Y].total = 0;
    }
}

KERNEL_CODE void choose_weigh(const struct choose_args *a, const float *logits, int count, int64_t slices, float *shared)
{
    struct choose_found *found = &a->found[BLOCK_Y];
    unsigned *bins = (unsigned *)(void *)(shared + CHOOSE_BINS_AT);
    unsigned long long *sums = (unsigned long long *)(void *)(shared + CHOOSE_SUMS_AT), norm = 0, total = 0;
    float best = -INFINITY, most = -INFINITY;
    for (int64_t i = THREAD; i < slices; i += CUDA_THREADS) {
        best = fmaxf(best, a->slices[(BLOCK_Y * slices + i) * 2]);
        most = fmaxf(most, a->slices[(BLOCK_Y * slices + i) * 2 + 1]);
    }
    best = block_most(best, shared + CHOOSE_ROOM_AT);
    most = block_most(most, shared + CHOOSE_ROOM_AT);
    for (int i = THREAD; i < CHOICE_BINS; i += CUDA_THREADS)
        bins[i] = 0;
    if (THREAD < 2)
        sums[THREAD] = 0;
    BLOCK_BARRIER();
    for (int i = THREAD; i < count; i += CUDA_THREADS) {
        int bin = choice_bin(shared[i], best);
        norm += choice_weight(logits[i], most);
        total += choice_weight(shared[i], best);
        if (bin < CHOICE_BINS)
            ATOMIC_ADD(&bins[bin], 1u);
    }
    ATOMIC_ADD(&sums[0], norm);
    ATOMIC_ADD(&sums[1], total);
    BLOCK_BARRIER();
    for (int i = THREAD; i < CHOICE_BINS; i += CUDA_THREADS)
        if (bins[i])
            ATOMIC_ADD(&a->bins[BLOCK_Y * CHOICE_BINS + i], bins[i]);
    if (THREAD == 0) {
        ATOMIC_ADD(&found->norm, sums[0]);
        ATOMIC_ADD(&found->total, sums[1]);
    }
    if (THREAD == 0 && BLOCK == 0)
        found->best = best, found->most = most;
}

/* The last bin of the list: with those before it, it holds as many as were asked for. */
KERNEL_CODE int choose_last_bin(const struct choose_args *a, float *shared)
{
    enum { EACH = CHOICE_BINS / CUDA_THREADS };
    const unsigned *bins = a->bins + BLOCK_Y * CHOICE_BINS;
    unsigned *sums = (unsigned *)(void *)(shared + CHOOSE_ROOM_AT), sum = 0, before = 0;
    for (int i = 0; i < EACH; i++)
        sum += bins[THREAD * EACH + i];
    sums[THREAD] = sum;
    BLOCK_BARRIER();
    int group = 0;
    while (group < CUDA_THREADS - 1 && before + sums[group] < (unsigned)a->rows[BLOCK_Y].best)
        before += sums[group++];
    int bin = group * EACH;
    while (bin < CHOICE_BINS - 1 && (before += bins[bin]) < (unsigned)a->rows[BLOCK_Y].best)
        bin++;
    return bin;
}

KERNEL_CODE void choose_list(const struct choose_args *a, const float *logits, int count, float *shared)
{
    struct choose_found *found = &a->found[BLOCK_Y];
    int last = choose_last_bin(a, shared);
    for (int i = THREAD; i < count; i += CUDA_THREADS) {
        if (choice_bin(shared[i], found->best) > last)
            continue;
        unsigned at = ATOMIC_ADD(&found->count, 1u); /* too many: the host sees it by the count */
        if (at < (unsigned)a->room) {
            struct token_score *to = &a->list[BLOCK_Y * a->room + at];
            to->id = (int32_t)(BLOCK * CHOOSE_SLICE + i);
            to->score = shared[i];
            a->listed_logits[BLOCK_Y * a->room + at] = logits[i];
        }
    }
}

KERNEL_CODE void choose_body(struct choose_args a)
{
    SHARED_FLOATS(shared);
    const float *logits = a.logits + a.rows[BLOCK_Y].row * a.vocab + BLOCK * CHOOSE_SLICE;
    int count = choose_count(&a);
    int64_t slices = (a.vocab + CHOOSE_SLICE - 1) / CHOOSE_SLICE;
    choose_scores(&a, logits, count, shared);
    if (a.pass == CHOOSE_MOST)
        choose_most(&a, logits, count, slices, shared);
    else if (a.pass == CHOOSE_WEIGH)
        choose_weigh(&a, logits, count, slices, shared);
    else
        choose_list(&a, logits, count, shared);
}

#endif
