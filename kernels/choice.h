/* Choosing a token where the logits are: instead of a row, its best values and the weight of all come to the host, and the sampler
 * (runtime/engine/sampler.c) goes on with its own code. Weights are whole numbers, so that their sums have no order, and what both
 * sides compute lies here: a choice made from the best values is the one that would have been made from the row. C and C++. */
#ifndef KERNELS_CHOICE_H
#define KERNELS_CHOICE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/formats/small.h"

enum {
    CHOICE_UNIT = 40,   /* a weight counts units of 2^-40 of the best one's; 2^24 of them fit 64 bits */
    CHOICE_SPAN = 28,   /* e^-28 is the least that rounds to a unit */
    CHOICE_BINS = 896,  /* of the span: how finely the end of a list is found */
    CHOICE_BEST = 480,  /* at most asked for */
    CHOICE_ROOM = 2 * CHOICE_BEST + 64,
};

/* What changes the score of one token before it is compared: penalties, then a bias. */
struct score_edit {
    int32_t id;
    float repeat;      /* divides positive scores, multiplies others */
    float minus, bias;
};

struct token_score {
    int32_t id;
    float score; /* edited, divided by the temperature */
};

struct row_choice {
    int32_t wanted;                 /* which of the step's wanted rows */
    int32_t best;                   /* so many are asked for, 1 .. CHOICE_BEST */
    float temperature;              /* divides the scores; positive */
    const struct score_edit *edits; /* [edit_count], each id at most once */
    int32_t edit_count;
    const uint32_t *allowed;        /* bits of the ids that may be chosen, [allowed_words], others may not; NULL: all may */
    size_t allowed_words;
    /* The answer; lists are the backend's, until its next step. */
    float most;                     /* the largest logit; what is no number does not count */
    uint64_t norm;                  /* sum of choice_weight(logit, most) */
    uint64_t total;                 /* sum of choice_weight(score, best score) over what may be chosen */
    int32_t count;                  /* listed, in any order: all that have a weight, or at least `best` of them, and then nothing as good
                                     * was left out. 0: more than choice_room(), or too many edits; the row tells */
    struct token_score *list;
    float *logits;                  /* [count]: of the candidates, unedited */
};

DEVICE static inline float choice_edited(float score, const struct score_edit *e)
{
    score = score > 0 ? score / e->repeat : score * e->repeat;
    score -= e->minus;
    return score + e->bias;
}

/* e^(score - best) in units. Our own exponential: libraries differ in the last bit. */
DEVICE static inline uint64_t choice_weight(float score, float best)
{
    double x = (double)score - (double)best;
    if (!(x > -CHOICE_SPAN)) /* NaN too */
        return 0;
    double n = floor(x * 1.4426950408889634 + 0.5), r = x - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10; /* ln 2 in two parts */
    const double series[] = {1 / 39916800.0, 1 / 3628800.0, 1 / 362880.0, 1 / 40320.0, 1 / 5040.0, 1 / 720.0, 1 / 120.0, 1 / 24.0, 1 / 6.0, 1 / 2.0, 1, 1};
    double sum = 1 / 479001600.0; /* Taylor's, from r^12 / 12! on; |r| < 0.35 */
    for (int i = 0; i < 12; i++)
        sum = sum * r + series[i];
    uint64_t bits = (uint64_t)((int)n + CHOICE_UNIT + 1023) << 52; /* of 2^(n + CHOICE_UNIT) */
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return (uint64_t)(int64_t)(sum * scale + 0.5);
}

/* How long a list may get that is asked to hold `best`: some more, for those that lie close to its end. */
DEVICE static inline int32_t choice_room(int32_t best) { return 2 * best + CHOICE_ROOM - 2 * CHOICE_BEST; }

/* Which part of the span a score lies in, 0: the best; CHOICE_BINS: it has no weight. */
DEVICE static inline int choice_bin(float score, float best)
{
    double below = (double)best - (double)score;
    return below < CHOICE_SPAN ? (int)(below * (CHOICE_BINS / CHOICE_SPAN)) : CHOICE_BINS;
}

#endif
