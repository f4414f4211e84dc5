/* Private to kernels: making the parts of a split program (ops.h). They are programs themselves, with SEND, RECEIVE and REDUCE where
 * they meet; no backend knows more of a split than these. */
#ifndef KERNELS_SPLIT_H
#define KERNELS_SPLIT_H

#include "kernels/ops.h"

/* Parts: a device, or a rank of several that share matrices, with all segments that it has. part: [segment]; ranks of one segment
 * are neighbours. Returns how many parts there are. */
bool split_same_part(const struct segment *a, const struct segment *b);
int split_parts(const struct segment *segments, int count, int *part);

/* Operations [first, end) of the whole program that a part (or `ranks` of them, from `part` on, at the same time) does before
 * another goes on. */
struct stretch {
    int first, end;
    int part, ranks;
    bool *receives, *sends; /* [buffer]: before it, behind it */
};

struct division {
    const struct program *p;
    struct stretch *stretch; /* [stretches], in the order in which they run */
    int stretches, parts;
};

/* Lists are the arena's. */
enum status program_divide(struct division *d, const struct program *p, const struct segment *segments, int count, struct arena *arena, struct error *err);

/* All that a part does, as a program: `begins` marks its stretches. With `streamed` also what streams of other parts, in its place. layers: [group] -> the layers that it has, in its own order.
 * Lists are the arena's; weights are views of the same bytes. */
enum status program_part(struct program *out, int *layers[8], const struct division *d, int part, bool streamed, struct arena *arena, struct error *err);

/* What one of several ranks does of p: heads and the inner widths of the network are shared out, so each reads 1 / ranks of most
 * matrices; where results have to be whole again stands a REDUCE. Outputs may be narrowed too: rank r then has the r-th slice.
 * STATUS_USAGE: nothing of it can be shared out that way. */
enum status program_shard(struct program *out, const struct program *p, int rank, int ranks, struct arena *arena, struct error *err);

#endif
