/* The program of a decoder, layer by layer. */
#include <math.h>
#include <string.h>

#include "models/writer.h"

int writer_bind(struct writer *w, enum decoder_role role, int layer, int64_t out, int64_t in)
{
    return weight_bind(&w->b, &w->d->names[role], layer, out, in, false);
}

int writer_bind_bias(struct writer *w, enum decoder_role role, bool promised, int layer, int64_t n)
{
    bool gguf = w->b.m->container == MODEL_GGUF;
    return gguf || promised ? weight_bind(&w->b, &w->d->names[role], layer, 1, n, gguf) : -1;
}

int writer_need(struct writer *w, int *buffer, const char *name, int64_t width)
{
    if (*buffer < 0)
        *buffer = program_buffer(w->p, name, width, ROWS_ALL);
    return *buffer;
}

void writer_norm(struct writer *w, int x, int weight, int y, int64_t head_dim)
{
    struct op *op = program_add(w->p, OP_NORM);
    op->x = x;
    op->w = weight;
    op->y = y;
    op->head_dim = (int)head_dim;
    op->epsilon = (float)w->c->norm_epsilon;
    op->offset = w->d->norm_offset;
}

void writer_linear(struct writer *w, int x, int weight, int bias, int y)
{
    struct op *op = program_add(w->p, OP_LINEAR);
    op->x = x;
    op->w = weight;
    op->b = bias;
    op->y = y;
}

void writer_add(struct writer *w, int z)
{
    struct op *op = program_add(w->p, OP_ADD);
    op->x = op->y = w->f.x;
    op->z = z;
    op->scale = or_one(w->d->residual_scale);
}

void writer_turn(struct writer *w, int x, int64_t heads, int64_t head_dim)
{
    struct op *op = program_add(w->p, OP_ROPE);
    op->x = x;
    op->rope = w->rope;
    op->heads = (int)heads;
    op->head_dim = (int)head_dim;
}

void writer_gate(struct writer *w, enum activation activation, int x, int z, int y)
{
    struct op *op = program_add(w->p, OP_GATE);
    op->x = x;
    op->z = z;
    op->y = y;
    op->activation = activation;
}

static void gate(struct writer *w, int x, int z) { writer_gate(w, w->c->activation, x, z, x); }

static void combine(struct writer *w, int x, int weights, enum activation activation, int y)
{
    struct op *op = program_add(w->p, OP_COMBINE);
    op->x = x;
    op->z = weights;
    op->y = y;
    op->activation = activation;
}

void writer_join(struct writer *w, int x, int z, int64_t heads, int y)
{
    struct op *op = program_add(w->p, OP_JOIN);
    op->x = x;
    op->z = z;
    op->y = y;
    op->heads = (int)heads;
}

void writer_experts(struct writer *w, int x, int routing, int weight, int y)
{
    struct op *op = program_add(w->p, OP_EXPERTS);
    op->x = x;
    op->z = routing;
    op->w = weight;
    op->y = y;
    op->route = routing < 0 ? -1 : w->route;
}

/* ---- attention ------------------------------------------------------------------------------------------------------ */

static void attend(struct writer *w, int layer)
{
    bool windowed = w->c->window && (!w->c->windowed || w->c->windowed[layer]);
    int place = w->layers[windowed]++;
    struct op *store = program_add(w->p, OP_STORE);
    store->x = w->f.k;
    store->z = w->f.v;
    store->group = w->group[windowed];
    store->layer = place;
    struct op *op = program_add(w->p, OP_ATTEND);
    op->x = w->f.q;
    op->y = w->f.attended;
    op->group = w->group[windowed];
    op->layer = place;
    op->heads = (int)w->c->heads;
    op->head_dim = (int)w->c->head_dim;
    op->scale = w->d->attention_scale != 0 ? w->d->attention_scale : (float)(1 / sqrt((double)w->c->head_dim));
}

/* Rows of the matrix by heads: the query's, the gate's. */
static void gated_queries(struct writer *w, int layer, bool bias)
{
    const struct config *c = w->c;
    bool gguf = w->b.m->container == MODEL_GGUF;
    writer_need(w, &w->f.q_gate, "q_gate", c->heads * c->head_dim);
    for (int gates = 0; gates < 2; gates++) {
        struct row_slices r = {2 * c->heads * c->head_dim, gates * c->head_dim, 2 * c->head_dim, c->head_dim, (int)c->heads};
        writer_experts(w, w->f.normed, -1, rows_bind(&w->b, &w->d->names[Q], layer, &r, c->hidden), gates ? w->f.q_gate : w->f.q);
        w->p->ops[w->p->op_count - 1].b = gguf || bias ? slices_bind(&w->b, &w->d->names[Q_BIAS], layer, &r, gguf) : -1;
    }
}

static void attention(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct decoder_buffers *f = &w->f;
    int64_t q_out = c->heads * c->head_dim, kv_out = c->kv_heads * c->head_dim;
    bool bias = w->d->qkv_bias || c->attention_bias, output_bias = c->attention_bias && !w->d->no_output_bias;
    writer_need(w, &f->q, "q", q_out);
    writer_need(w, &f->k, "k", kv_out);
    writer_need(w, &f->v, "v", kv_out);
    writer_need(w, &f->attended, "attended", q_out);
    if (w->d->gated)
        gated_queries(w, layer, bias);
    else
        writer_linear(w, f->normed, writer_bind(w, Q, layer, q_out, c->hidden), writer_bind_bias(w, Q_BIAS, bias, layer, q_out), f->q); /* [rows, heads * head_dim] */
    writer_linear(w, f->normed, writer_bind(w, K, layer, kv_out, c->hidden), writer_bind_bias(w, K_BIAS, bias, layer, kv_out), f->k); /* [rows, kv_heads * head_dim] */
    writer_linear(w, f->normed, writer_bind(w, V, layer, kv_out, c->hidden), writer_bind_bias(w, V_BIAS, bias, layer, kv_out), f->v);
    if (w->d->qk_norm) {
        writer_norm(w, f->q, writer_bind(w, Q_NORM, layer, 1, c->head_dim), f->q, c->head_dim);
        writer_norm(w, f->k, writer_bind(w, K_NORM, layer, 1, c->head_dim), f->k, c->head_dim);
    }
    if (!c->nope) {
        writer_turn(w, f->q, c->heads, c->head_dim);
        writer_turn(w, f->k, c->kv_heads, c->head_dim);
    }
    attend(w, layer);
    if (w->d->gated)
        writer_gate(w, ACT_SIGMOID, f->q_gate, f->attended, f->attended);
    writer_linear(w, f->attended, writer_bind(w, O, layer, c->hidden, q_out), writer_bind_bias(w, O_BIAS, output_bias, layer, c->hidden), f->update);
}

/* What mixes tokens, between its norm and the residual. */
static void mixer(struct writer *w, int layer)
{
    writer_norm(w, w->f.x, writer_bind(w, ATTN_NORM, layer, 1, w->c->hidden), w->f.normed, 0);
    if (w->d->latent)
        latent_attention(w, layer);
    else if (is_recurrent(w, layer))
        recurrent_mixer(w, layer);
    else
        attention(w, layer);
    writer_add(w, w->f.update);
}

/* ---- feed-forward networks ------------------------------------------------------------------------------------------ */

static void network(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct decoder_buffers *f = &w->f;
    writer_need(w, &f->gate, "gate", c->intermediate);
    writer_need(w, &f->up, "up", c->intermediate);
    writer_linear(w, f->normed, writer_bind(w, GATE, layer, c->intermediate, c->hidden), writer_bind_bias(w, GATE_BIAS, c->mlp_bias, layer, c->intermediate), f->gate);
    writer_linear(w, f->normed, writer_bind(w, UP, layer, c->intermediate, c->hidden), writer_bind_bias(w, UP_BIAS, c->mlp_bias, layer, c->intermediate), f->up);
    gate(w, f->gate, f->up);
    writer_linear(w, f->gate, writer_bind(w, DOWN, layer, c->hidden, c->intermediate), writer_bind_bias(w, DOWN_BIAS, c->mlp_bias, layer, c->hidden), f->update);
    writer_add(w, f->update);
}

static int bind_experts(struct writer *w, enum decoder_role role, int layer)
{
    const struct weight_name *n = &w->d->names[role], *stacked = n + (EXPERTS_GATE - EXPERT_GATE);
    int64_t hidden = w->c->hidden, width = w->d->expert_width;
    bool down = role == EXPERT_DOWN;
    return stack_bind(&w->b, !n->hf || binder_has(&w->b, stacked, layer) ? stacked : n, layer, w->d->route.experts, down ? hidden : width, down ? width : hidden);
}

/* The expert that all rows go to. */
static void shared_expert(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct decoder_buffers *f = &w->f;
    int64_t width = w->d->shared_width;
    writer_need(w, &f->shared_gate, "shared_gate", width);
    writer_need(w, &f->shared_up, "shared_up", width);
    writer_need(w, &f->shared, "shared", c->hidden);
    bool scored = w->d->names[SHARED_ROUTER].hf != NULL;
    writer_linear(w, f->normed, writer_bind(w, SHARED_GATE, layer, width, c->hidden), -1, f->shared_gate);
    writer_linear(w, f->normed, writer_bind(w, SHARED_UP, layer, width, c->hidden), -1, f->shared_up);
    gate(w, f->shared_gate, f->shared_up);
    writer_linear(w, f->shared_gate, writer_bind(w, SHARED_DOWN, layer, c->hidden, width), -1, f->shared);
    if (scored) {
        writer_linear(w, f->normed, writer_bind(w, SHARED_ROUTER, layer, 1, c->hidden), -1, writer_need(w, &f->shared_score, "shared_score", 1));
        combine(w, f->shared, f->shared_score, ACT_SIGMOID, f->shared);
    }
    writer_add(w, f->shared);
}

static void mixture(struct writer *w, int layer)
{
    struct decoder_buffers *f = &w->f;
    const struct expert_route *r = &w->d->route;
    writer_linear(w, f->normed, writer_bind(w, ROUTER, layer, r->experts, w->c->hidden), -1, writer_need(w, &f->scores, "scores", r->experts));
    struct op *route = program_add(w->p, OP_ROUTE);
    route->x = f->scores;
    route->y = writer_need(w, &f->routing, "routing", 2 * r->chosen);
    route->route = w->route;
    route->b = w->d->names[ROUTER_BIAS].hf ? writer_bind(w, ROUTER_BIAS, layer, 1, r->experts) : -1;
    writer_experts(w, f->normed, f->routing, bind_experts(w, EXPERT_GATE, layer), writer_need(w, &f->expert_gate, "expert_gate", r->chosen * w->d->expert_width));
    writer_experts(w, f->normed, f->routing, bind_experts(w, EXPERT_UP, layer), writer_need(w, &f->expert_up, "expert_up", r->chosen * w->d->expert_width));
    gate(w, f->expert_gate, f->expert_up);
    writer_experts(w, f->expert_gate, f->routing, bind_experts(w, EXPERT_DOWN, layer), writer_need(w, &f->expert_down, "expert_down", r->chosen * w->c->hidden));
    combine(w, f->expert_down, f->routing, ACT_NONE, f->update);
    writer_add(w, f->update);
    if (w->d->shared_width)
        shared_expert(w, layer);
}

static void feed_forward(struct writer *w, int layer)
{
    if (!w->d->names[MLP_NORM].hf) /* its layers have none */
        return;
    writer_norm(w, w->f.x, writer_bind(w, MLP_NORM, layer, 1, w->c->hidden), w->f.normed, 0);
    if (w->d->route.experts && binder_has(&w->b, &w->d->names[ROUTER], layer))
        mixture(w, layer);
    else
        network(w, layer);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

/* Final norm and logits, only for rows that somebody asked for. */
static void head(struct writer *w, int embedding)
{
    const struct config *c = w->c;
    struct program *p = w->p;
    int chosen = program_buffer(p, "chosen", c->hidden, ROWS_WANTED), last = program_buffer(p, "last", c->hidden, ROWS_WANTED);
    int logits = program_buffer(p, "logits", c->vocab, ROWS_WANTED);
    struct op *select = program_add(p, OP_SELECT);
    select->x = w->f.x;
    select->y = chosen;
    writer_norm(w, chosen, writer_bind(w, OUTPUT_NORM, 0, 1, c->hidden), last, 0);
    /* a file that ties its embeddings may still hold the copy; the embedding is what counts then */
    writer_linear(w, last, c->tied ? embedding : writer_bind(w, OUTPUT, 0, c->vocab, c->hidden), -1, logits);
    if (w->d->logits_scale != 0 && w->d->logits_scale != 1) {
        struct op *scale = program_add(p, OP_SCALE);
        scale->x = scale->y = logits;
        scale->scale = w->d->logits_scale;
    }
    program_output(p, "logits", logits);
    program_output(p, "hidden", last);
}

static void open_groups(struct writer *w)
{
    const struct config *c = w->c;
    int layers[2] = {0, 0}, recurrent = 0;
    if (w->d->latent) {
        latent_open_group(w);
        return;
    }
    for (int i = 0; i < c->layers; i++)
        if (is_recurrent(w, i))
            recurrent++;
        else
            layers[c->window && (!c->windowed || c->windowed[i])]++;
    if (recurrent)
        recurrent_open_group(w, recurrent);
    for (int windowed = 0; windowed < 2; windowed++) {
        struct state_group g = {.kind = STATE_PAGED, .layers = layers[windowed], .heads = (int)c->kv_heads, .k_dim = (int)c->head_dim, .v_dim = (int)c->head_dim,
                                .window = !windowed || c->window > INT32_MAX ? 0 : (int)c->window};
        w->group[windowed] = layers[windowed] ? program_group(w->p, &g) : -1;
    }
}

enum status decoder_write(struct model *m, const struct decoder *d, struct error *err)
{
    struct writer w = {.d = d, .c = &m->config, .p = &m->program};
    binder_init(&w.b, m, &d->names[EMBEDDING], err);
    w.p->vocab = w.c->vocab;
    memset(&w.f, 0xff, sizeof w.f); /* -1 */
    writer_need(&w, &w.f.x, "x", w.c->hidden);
    writer_need(&w, &w.f.normed, "normed", w.c->hidden);
    writer_need(&w, &w.f.update, "update", w.c->hidden);
    w.rope = -1;
    if (!w.c->nope && (w.rope = rope_add(m, err)) < 0)
        return err ? err->status : STATUS_BAD_INPUT;
    w.route = d->route.experts ? program_route(w.p, &d->route) : -1;
    open_groups(&w);
    int embedding = writer_bind(&w, EMBEDDING, 0, w.c->vocab, w.c->hidden);
    struct op *embed = program_add(w.p, OP_EMBED);
    embed->w = embedding;
    embed->y = w.f.x;
    embed->scale = or_one(d->embedding_scale);
    for (int layer = 0; layer < w.c->layers && !w.b.status; layer++) {
        mixer(&w, layer);
        feed_forward(&w, layer);
    }
    head(&w, embedding);
    return w.b.status;
}

struct expert_route decoder_route(const struct config *c, bool normalised)
{
    return (struct expert_route){.experts = (int)c->experts, .chosen = (int)c->experts_chosen, .normalised = normalised, .scale = 1, .groups = 1};
}
