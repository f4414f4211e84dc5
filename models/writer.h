/* Private to decoder.c and the files that write one kind of layer each: the state of writing a decoder's program, and its common
 * operations. Failures are remembered in the binder. */
#ifndef MODELS_WRITER_H
#define MODELS_WRITER_H

#include "models/decoder.h"

/* Buffers that layers share; -1: no layer needed it yet. */
struct decoder_buffers {
    int x, normed, update; /* [rows, hidden] */
    int q, k, v, attended; /* [rows, heads * head_dim], k and v [rows, kv_heads * head_dim] */
    int gate, up;          /* [rows, intermediate] */
    int scores, routing, expert_gate, expert_up, expert_down; /* [rows, experts], [rows, 2 * chosen], [rows, chosen * ...] */
    int shared_gate, shared_up, shared, shared_score;
    /* latent attention; widths: see latent.c */
    int q_down, q_nope, q_rope, q_latent, latent, k_rope, latent_attended;
    int q_gate; /* [rows, heads * head_dim] */
    /* recurrent layers; widths: see recurrent.c */
    int mix_q, mix_k, mix_qk, mix_v, mix_in, mix_conv, mix_gate, mix_dt, mix_beta, mix_steps, mix_out;
};

struct writer {
    struct binder b;
    const struct decoder *d;
    const struct config *c;
    struct program *p;
    struct decoder_buffers f;
    int rope, route;
    int group[2], layers[2]; /* of layers that see all, and of those with a window: state groups, and layers in them so far */
    int recurrent_group, recurrent_layers, scan;
};

static inline float or_one(float scale) { return scale != 0 ? scale : 1; }

int writer_bind(struct writer *w, enum decoder_role role, int layer, int64_t out, int64_t in);
/* A vector that may be absent: GGUF says so by not having the tensor, config.json by a switch. */
int writer_bind_bias(struct writer *w, enum decoder_role role, bool promised, int layer, int64_t n);
/* A buffer that some layers need. */
int writer_need(struct writer *w, int *buffer, const char *name, int64_t width);

void writer_norm(struct writer *w, int x, int weight, int y, int64_t head_dim);
void writer_linear(struct writer *w, int x, int weight, int bias, int y);
void writer_add(struct writer *w, int z); /* to x, the residual */
/* y = act(x) * z */
void writer_gate(struct writer *w, enum activation activation, int x, int z, int y);
void writer_turn(struct writer *w, int x, int64_t heads, int64_t head_dim);
/* y = x and z one behind the other, for each of `heads` pieces of a row */
void writer_join(struct writer *w, int x, int z, int64_t heads, int y);
/* y[slot] = W x, all slots by routing, or (-1) slot i by the i-th matrix. */
void writer_experts(struct writer *w, int x, int routing, int weight, int y);

/* ---- kinds of layers -------------------------------------------------------------------------------------------------- */

/* Multi-head latent attention of normed, into update. */
void latent_attention(struct writer *w, int layer);
void latent_open_group(struct writer *w);
/* A recurrent layer of normed, into update. */
bool is_recurrent(struct writer *w, int layer);
void recurrent_mixer(struct writer *w, int layer);
void recurrent_open_group(struct writer *w, int layers); /* STATUS_BAD_INPUT by the binder: sizes that do not fit each other */

#endif
