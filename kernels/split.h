/* Private to kernels: making the parts of a split program (ops.h). They are programs themselves, with SEND, RECEIVE and REDUCE where
 * they meet; no backend knows more of a split than these. */
#ifndef KERNELS_SPLIT_H
#define KERNELS_SPLIT_H

#include "kernels/ops.h"

/* Layers of a group that the operations [first, end) store; *start: the first of them. */
int program_layers_from(const struct program *p, int group, int first, int end, int *start);

/* Operations [first, end) of p as a program: what they read of earlier ones is received, what later ones read is sent. Lists are
 * the arena's; weights are views of the same bytes. */
enum status program_segment(struct program *out, const struct program *p, int first, int end, struct arena *arena, struct error *err);

/* What one of several ranks does of p: heads and the inner widths of the network are shared out, so each reads 1 / ranks of most
 * matrices; where results have to be whole again stands a REDUCE. Outputs may be narrowed too: rank r then has the r-th slice.
 * STATUS_USAGE: nothing of it can be shared out that way. */
enum status program_shard(struct program *out, const struct program *p, int rank, int ranks, struct arena *arena, struct error *err);

#endif
