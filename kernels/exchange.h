/* Where the parts of a split program hand each other rows: the host's memory. Parts that run one after the other use its slots;
 * ranks, which run at the same time, meet here to sum up. */
#ifndef KERNELS_EXCHANGE_H
#define KERNELS_EXCHANGE_H

#include <pthread.h>

#include "base/arena.h"
#include "kernels/ops.h"

struct exchange {
    struct arena arena; /* of the lists and what they hold */
    float **rows;   /* [buffer of the program] -> [bound on its rows, width]; NULL: it does not cross */
    int ranks;      /* 1: nobody to meet */
    int *device;    /* [rank] */
    /* A faster way to sum up, which a backend has opened for all ranks. Broken, it is used no more. */
    struct exchange_group {
        void *handle; /* NULL: there is none */
        const void *owner;
        void (*abort)(struct exchange_group *g), (*close)(struct exchange_group *g);
    } group;
    float **partial; /* [rank] -> [values]: what REDUCE sums up */
    /* of the meeting, under lock */
    pthread_mutex_t lock;
    pthread_cond_t all_here;
    int here;
    long meetings;
    bool broken; /* a rank gave up: nobody waits for it */
};

/* crosses: [buffer]; values: of the largest buffer that ranks sum up. */
enum status exchange_open(struct exchange **out, const struct program *p, const struct compile_options *o, const bool *crosses, int ranks, int64_t values,
                          struct error *err);
void exchange_close(struct exchange *x); /* NULL is fine */

/* Returns when all ranks are here; false: one gave up. What they wrote before can be read behind it. */
bool exchange_meet(struct exchange *x);
void exchange_break(struct exchange *x); /* this rank gives up; until exchange_mend() nobody meets any more, and the group is gone */
void exchange_mend(struct exchange *x);  /* no rank runs */

/* x = the sum over all ranks, in the order of the ranks, the same bits for each. Every rank calls it; partial[rank] holds its part.
 * false: one gave up. */
bool exchange_sum(struct exchange *x, float *out, int64_t count);

#endif
