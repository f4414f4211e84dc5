/* Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434). A token's keys and values of all heads are up-projections of one latent
 * vector c, beside one rotated key k_rope for all heads:
 *
 *   score(head) = q_nope . (K_up c) + q_rope . k_rope        K_up: [nope, latent] of the head
 *   out(head)   = V_up (sum over tokens of weight * c)        V_up: [v, latent]
 *
 * So the cache holds c and k_rope alone, as one key whose first values are its value; K_up moves to the query's side, q_latent =
 * K_up^T q_nope, V_up behind the sum. All heads share the key, and no token is ever projected up. */
#include <math.h>

#include "models/writer.h"

/* q_nope and q_rope: the rows of a head lie side by side. From the input itself, or from a latent vector of its own. */
static void queries(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct decoder_buffers *f = &w->f;
    int from = f->normed;
    enum decoder_role up = Q;
    int64_t in = c->hidden, head = c->nope_dim + c->rope_dim;
    if (c->q_latent) {
        from = writer_need(w, &f->q_down, "q_down", c->q_latent);
        up = Q_UP;
        in = c->q_latent;
        writer_linear(w, f->normed, writer_bind(w, Q_DOWN, layer, in, c->hidden), writer_bind_bias(w, Q_DOWN_BIAS, c->attention_bias, layer, in), from);
        writer_norm(w, from, writer_bind(w, Q_DOWN_NORM, layer, 1, in), from, 0);
    }
    const struct row_slices nope = {c->heads * head, 0, head, c->nope_dim, (int)c->heads}, rope = {c->heads * head, c->nope_dim, head, c->rope_dim, (int)c->heads};
    const struct weight_name *name = &w->d->names[up];
    writer_experts(w, from, -1, rows_bind(&w->b, name, layer, &nope, in), writer_need(w, &f->q_nope, "q_nope", c->heads * c->nope_dim));
    writer_experts(w, from, -1, rows_bind(&w->b, name, layer, &rope, in), writer_need(w, &f->q_rope, "q_rope", c->heads * c->rope_dim));
    writer_turn(w, f->q_rope, c->heads, c->rope_dim);
}

/* What is cached: the latent vector and the rotated key. */
static void keys(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct decoder_buffers *f = &w->f;
    const struct weight_name *name = &w->d->names[KV_DOWN], *bias = &w->d->names[KV_DOWN_BIAS];
    int64_t total = c->latent + c->rope_dim;
    bool optional = w->b.m->container == MODEL_GGUF, biased = optional || c->attention_bias;
    const struct row_slices latent = {total, 0, 0, c->latent, 1}, rope = {total, c->latent, 0, c->rope_dim, 1};
    writer_linear(w, f->normed, rows_bind(&w->b, name, layer, &latent, c->hidden), biased ? part_bind(&w->b, bias, layer, total, 0, c->latent, optional) : -1,
                  writer_need(w, &f->latent, "latent", c->latent));
    writer_linear(w, f->normed, rows_bind(&w->b, name, layer, &rope, c->hidden),
                  biased ? part_bind(&w->b, bias, layer, total, c->latent, c->rope_dim, optional) : -1, writer_need(w, &f->k_rope, "k_rope", c->rope_dim));
    writer_norm(w, f->latent, writer_bind(w, KV_DOWN_NORM, layer, 1, c->latent), f->latent, 0);
    writer_turn(w, f->k_rope, 1, c->rope_dim);
}

static int key_up(struct writer *w, int layer)
{
    const struct config *c = w->c;
    int64_t head = c->nope_dim + c->v_dim;
    if (w->b.m->container == MODEL_GGUF && binder_has(&w->b, &w->d->names[K_UP], layer))
        return stack_bind(&w->b, &w->d->names[K_UP], layer, (int)c->heads, c->latent, c->nope_dim);
    return rows_bind_transposed(&w->b, &w->d->names[KV_UP], layer, &(struct row_slices){c->heads * head, 0, head, c->nope_dim, (int)c->heads}, c->latent);
}

static int value_up(struct writer *w, int layer)
{
    const struct config *c = w->c;
    int64_t head = c->nope_dim + c->v_dim;
    if (w->b.m->container == MODEL_GGUF && binder_has(&w->b, &w->d->names[V_UP], layer))
        return stack_bind(&w->b, &w->d->names[V_UP], layer, (int)c->heads, c->v_dim, c->latent);
    return rows_bind(&w->b, &w->d->names[KV_UP], layer, &(struct row_slices){c->heads * head, c->nope_dim, head, c->v_dim, (int)c->heads}, c->latent);
}

static void attend(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct decoder_buffers *f = &w->f;
    int64_t key = c->latent + c->rope_dim;
    writer_join(w, f->q_latent, f->q_rope, c->heads, writer_need(w, &f->q, "q", c->heads * key));
    writer_join(w, f->latent, f->k_rope, 1, writer_need(w, &f->k, "k", key));
    struct op *store = program_add(w->p, OP_STORE);
    store->x = f->k;
    store->group = w->group[0];
    store->layer = layer;
    struct op *op = program_add(w->p, OP_ATTEND);
    op->x = f->q;
    op->y = writer_need(w, &f->latent_attended, "latent_attended", c->heads * c->latent);
    op->group = w->group[0];
    op->layer = layer;
    op->heads = (int)c->heads;
    op->head_dim = (int)key;
    op->scale = w->d->attention_scale != 0 ? w->d->attention_scale : (float)(1 / sqrt((double)(c->nope_dim + c->rope_dim)));
}

void latent_attention(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct decoder_buffers *f = &w->f;
    queries(w, layer);
    keys(w, layer);
    writer_experts(w, f->q_nope, -1, key_up(w, layer), writer_need(w, &f->q_latent, "q_latent", c->heads * c->latent));
    attend(w, layer);
    writer_experts(w, f->latent_attended, -1, value_up(w, layer), writer_need(w, &f->attended, "attended", c->heads * c->v_dim));
    writer_linear(w, f->attended, writer_bind(w, O, layer, c->hidden, c->heads * c->v_dim), writer_bind_bias(w, O_BIAS, c->attention_bias, layer, c->hidden), f->update);
}

void latent_open_group(struct writer *w)
{
    const struct config *c = w->c;
    struct state_group g = {.kind = STATE_PAGED, .layers = (int)c->layers, .heads = 1, .k_dim = (int)(c->latent + c->rope_dim), .v_dim = (int)c->latent, .v_in_k = true};
    w->group[0] = program_group(w->p, &g);
}
