/* One program run by several backends or devices: its operations cut into segments, and a segment's matrices shared out over ranks.
 * The parts are programs themselves, with SEND, RECEIVE and REDUCE where they meet; no backend knows more of a split than these. */
#ifndef KERNELS_SPLIT_H
#define KERNELS_SPLIT_H

#include "kernels/ops.h"

/* Operations [first, end) of the whole program, on a device. compile_options.segments lists them in order; those of several ranks
 * have the same operations and stand side by side, ranks ascending. */
struct segment {
    const struct backend *backend;
    int device;
    int first, end;
    int rank, ranks; /* 0 of 1: alone */
};

/* Runs compile_options.segments. Arithmetic is that of the backends; ranks sum up in their order. */
extern const struct backend backend_split;

/* Where a program can be cut between two operations with one buffer of all rows to hand over: places[i] is the number of
 * operations before it, ascending; [op_count] are enough. Returns how many. */
int program_cuts(const struct program *p, int *places);
/* Bytes of the weights that the operations [first, end) read; each counts once. */
uint64_t program_weight_bytes(const struct program *p, int first, int end);
/* Layers of a group that the operations [first, end) store; *start: the first of them. */
int program_layers(const struct program *p, int group, int first, int end, int *start);

/* Operations [first, end) of p as a program: what they read of earlier ones is received, what later ones read is sent. Lists are
 * the arena's; weights are views of the same bytes. */
enum status program_segment(struct program *out, const struct program *p, int first, int end, struct arena *arena, struct error *err);

/* What one of several ranks does of p: heads and the inner widths of the network are shared out, so each reads 1 / ranks of most
 * matrices; where results have to be whole again stands a REDUCE. Outputs may be narrowed too: rank r then has the r-th slice.
 * STATUS_USAGE: nothing of it can be shared out that way. */
enum status program_shard(struct program *out, const struct program *p, int rank, int ranks, struct arena *arena, struct error *err);

#endif
