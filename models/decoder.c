/* The program of a decoder, layer by layer. */
#include "models/decoder.h"

#include <math.h>

/* Buffers that all layers share; -1: no layer needed it yet. */
struct buffers {
    int x, normed, q, k, v, attended, update, gate, up;  /* [rows, ...] */
    int scores, routing, expert_gate, expert_up, expert_down; /* [rows, experts], [rows, 2 * chosen], [rows, chosen * ...] */
    int shared_gate, shared_up, shared, shared_score;
};

struct writer {
    struct binder b;
    const struct decoder *d;
    const struct config *c;
    struct program *p;
    struct buffers f;
    int rope, route;
    int group[2], layers[2]; /* of layers that see all, and of those with a window: state groups, and layers in them so far */
};

static float or_one(float scale) { return scale != 0 ? scale : 1; }

static int bind(struct writer *w, enum decoder_role role, int layer, int64_t out, int64_t in)
{
    return weight_bind(&w->b, &w->d->names[role], layer, out, in, false);
}

/* A vector that may be absent: GGUF says so by not having the tensor, config.json by a switch. */
static int bind_bias(struct writer *w, enum decoder_role role, bool promised, int layer, int64_t n)
{
    bool gguf = w->b.m->container == MODEL_GGUF;
    return gguf || promised ? weight_bind(&w->b, &w->d->names[role], layer, 1, n, gguf) : -1;
}

/* A buffer that some layers need. */
static int need(struct writer *w, int *buffer, const char *name, int64_t width)
{
    if (*buffer < 0)
        *buffer = program_buffer(w->p, name, width, ROWS_ALL);
    return *buffer;
}

static void norm(struct writer *w, int x, int weight, int y, int64_t head_dim)
{
    struct op *op = program_add(w->p, OP_NORM);
    op->x = x;
    op->w = weight;
    op->y = y;
    op->head_dim = (int)head_dim;
    op->epsilon = (float)w->c->norm_epsilon;
}

static void linear(struct writer *w, int x, int weight, int bias, int y)
{
    struct op *op = program_add(w->p, OP_LINEAR);
    op->x = x;
    op->w = weight;
    op->b = bias;
    op->y = y;
}

static void add(struct writer *w, int z)
{
    struct op *op = program_add(w->p, OP_ADD);
    op->x = op->y = w->f.x;
    op->z = z;
    op->scale = or_one(w->d->residual_scale);
}

static void turn(struct writer *w, int x, int64_t heads)
{
    struct op *op = program_add(w->p, OP_ROPE);
    op->x = x;
    op->rope = w->rope;
    op->heads = (int)heads;
    op->head_dim = (int)w->c->head_dim;
}

static void gate(struct writer *w, int x, int z)
{
    struct op *op = program_add(w->p, OP_GATE);
    op->x = op->y = x;
    op->z = z;
    op->activation = w->c->activation;
}

static void combine(struct writer *w, int x, int weights, enum activation activation, int y)
{
    struct op *op = program_add(w->p, OP_COMBINE);
    op->x = x;
    op->z = weights;
    op->y = y;
    op->activation = activation;
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

static void attention(struct writer *w, int layer)
{
    const struct config *c = w->c;
    const struct buffers *f = &w->f;
    int64_t q_out = c->heads * c->head_dim, kv_out = c->kv_heads * c->head_dim;
    bool bias = w->d->qkv_bias || c->attention_bias, output_bias = c->attention_bias && !w->d->no_output_bias;
    norm(w, f->x, bind(w, ATTN_NORM, layer, 1, c->hidden), f->normed, 0);
    linear(w, f->normed, bind(w, Q, layer, q_out, c->hidden), bind_bias(w, Q_BIAS, bias, layer, q_out), f->q);    /* [rows, heads * head_dim] */
    linear(w, f->normed, bind(w, K, layer, kv_out, c->hidden), bind_bias(w, K_BIAS, bias, layer, kv_out), f->k); /* [rows, kv_heads * head_dim] */
    linear(w, f->normed, bind(w, V, layer, kv_out, c->hidden), bind_bias(w, V_BIAS, bias, layer, kv_out), f->v);
    if (w->d->qk_norm) {
        norm(w, f->q, bind(w, Q_NORM, layer, 1, c->head_dim), f->q, c->head_dim);
        norm(w, f->k, bind(w, K_NORM, layer, 1, c->head_dim), f->k, c->head_dim);
    }
    turn(w, f->q, c->heads);
    turn(w, f->k, c->kv_heads);
    attend(w, layer);
    linear(w, f->attended, bind(w, O, layer, c->hidden, q_out), bind_bias(w, O_BIAS, output_bias, layer, c->hidden), f->update);
    add(w, f->update);
}

/* ---- feed-forward networks ------------------------------------------------------------------------------------------ */

static void network(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct buffers *f = &w->f;
    need(w, &f->gate, "gate", c->intermediate);
    need(w, &f->up, "up", c->intermediate);
    linear(w, f->normed, bind(w, GATE, layer, c->intermediate, c->hidden), bind_bias(w, GATE_BIAS, c->mlp_bias, layer, c->intermediate), f->gate);
    linear(w, f->normed, bind(w, UP, layer, c->intermediate, c->hidden), bind_bias(w, UP_BIAS, c->mlp_bias, layer, c->intermediate), f->up);
    gate(w, f->gate, f->up);
    linear(w, f->gate, bind(w, DOWN, layer, c->hidden, c->intermediate), bind_bias(w, DOWN_BIAS, c->mlp_bias, layer, c->hidden), f->update);
    add(w, f->update);
}

static int bind_experts(struct writer *w, enum decoder_role role, int layer)
{
    const struct weight_name *n = &w->d->names[role], *stacked = n + (EXPERTS_GATE - EXPERT_GATE);
    int64_t hidden = w->c->hidden, width = w->d->expert_width;
    bool down = role == EXPERT_DOWN;
    return stack_bind(&w->b, !n->hf || binder_has(&w->b, stacked, layer) ? stacked : n, layer, w->d->route.experts, down ? hidden : width, down ? width : hidden);
}

static void experts(struct writer *w, int x, int weight, int y)
{
    struct op *op = program_add(w->p, OP_EXPERTS);
    op->x = x;
    op->z = w->f.routing;
    op->w = weight;
    op->y = y;
    op->route = w->route;
}

/* The expert that all rows go to. */
static void shared_expert(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct buffers *f = &w->f;
    int64_t width = w->d->shared_width;
    need(w, &f->shared_gate, "shared_gate", width);
    need(w, &f->shared_up, "shared_up", width);
    need(w, &f->shared, "shared", c->hidden);
    bool scored = w->d->names[SHARED_ROUTER].hf != NULL;
    linear(w, f->normed, bind(w, SHARED_GATE, layer, width, c->hidden), -1, f->shared_gate);
    linear(w, f->normed, bind(w, SHARED_UP, layer, width, c->hidden), -1, f->shared_up);
    gate(w, f->shared_gate, f->shared_up);
    linear(w, f->shared_gate, bind(w, SHARED_DOWN, layer, c->hidden, width), -1, f->shared);
    if (scored) {
        linear(w, f->normed, bind(w, SHARED_ROUTER, layer, 1, c->hidden), -1, need(w, &f->shared_score, "shared_score", 1));
        combine(w, f->shared, f->shared_score, ACT_SIGMOID, f->shared);
    }
    add(w, f->shared);
}

static void mixture(struct writer *w, int layer)
{
    struct buffers *f = &w->f;
    const struct expert_route *r = &w->d->route;
    linear(w, f->normed, bind(w, ROUTER, layer, r->experts, w->c->hidden), -1, need(w, &f->scores, "scores", r->experts));
    struct op *route = program_add(w->p, OP_ROUTE);
    route->x = f->scores;
    route->y = need(w, &f->routing, "routing", 2 * r->chosen);
    route->route = w->route;
    route->b = w->d->names[ROUTER_BIAS].hf ? bind(w, ROUTER_BIAS, layer, 1, r->experts) : -1;
    experts(w, f->normed, bind_experts(w, EXPERT_GATE, layer), need(w, &f->expert_gate, "expert_gate", r->chosen * w->d->expert_width));
    experts(w, f->normed, bind_experts(w, EXPERT_UP, layer), need(w, &f->expert_up, "expert_up", r->chosen * w->d->expert_width));
    gate(w, f->expert_gate, f->expert_up);
    experts(w, f->expert_gate, bind_experts(w, EXPERT_DOWN, layer), need(w, &f->expert_down, "expert_down", r->chosen * w->c->hidden));
    combine(w, f->expert_down, f->routing, ACT_NONE, f->update);
    add(w, f->update);
    if (w->d->shared_width)
        shared_expert(w, layer);
}

static void feed_forward(struct writer *w, int layer)
{
    norm(w, w->f.x, bind(w, MLP_NORM, layer, 1, w->c->hidden), w->f.normed, 0);
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
    norm(w, chosen, bind(w, OUTPUT_NORM, 0, 1, c->hidden), last, 0);
    /* a file that ties its embeddings may still hold the copy; the embedding is what counts then */
    linear(w, last, c->tied ? embedding : bind(w, OUTPUT, 0, c->vocab, c->hidden), -1, logits);
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
    int layers[2] = {0, 0};
    for (int i = 0; i < c->layers; i++)
        layers[c->window && (!c->windowed || c->windowed[i])]++;
    for (int windowed = 0; windowed < 2; windowed++) {
        struct state_group g = {.kind = STATE_PAGED, .layers = layers[windowed], .heads = (int)c->kv_heads, .k_dim = (int)c->head_dim, .v_dim = (int)c->head_dim,
                                .window = !windowed || c->window > INT32_MAX ? 0 : (int)c->window};
        w->group[windowed] = layers[windowed] ? program_group(w->p, &g) : -1;
    }
}

static void open_buffers(struct writer *w)
{
    const struct config *c = w->c;
    struct program *p = w->p;
    int64_t q_out = c->heads * c->head_dim, kv_out = c->kv_heads * c->head_dim;
    w->f = (struct buffers){
        program_buffer(p, "x", c->hidden, ROWS_ALL), program_buffer(p, "normed", c->hidden, ROWS_ALL),   program_buffer(p, "q", q_out, ROWS_ALL),
        program_buffer(p, "k", kv_out, ROWS_ALL),    program_buffer(p, "v", kv_out, ROWS_ALL),           program_buffer(p, "attended", q_out, ROWS_ALL),
        program_buffer(p, "update", c->hidden, ROWS_ALL), -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
}

enum status decoder_write(struct model *m, const struct decoder *d, struct error *err)
{
    struct writer w = {.d = d, .c = &m->config, .p = &m->program};
    binder_init(&w.b, m, &d->names[EMBEDDING], err);
    w.p->vocab = w.c->vocab;
    open_buffers(&w);
    if ((w.rope = rope_add(m, err)) < 0)
        return err ? err->status : STATUS_BAD_INPUT;
    w.route = d->route.experts ? program_route(w.p, &d->route) : -1;
    open_groups(&w);
    int embedding = bind(&w, EMBEDDING, 0, w.c->vocab, w.c->hidden);
    struct op *embed = program_add(w.p, OP_EMBED);
    embed->w = embedding;
    embed->y = w.f.x;
    embed->scale = or_one(d->embedding_scale);
    for (int layer = 0; layer < w.c->layers && !w.b.status; layer++) {
        attention(&w, layer);
        feed_forward(&w, layer);
    }
    head(&w, embedding);
    return w.b.status;
}

struct expert_route decoder_route(const struct config *c, bool normalised)
{
    return (struct expert_route){.experts = (int)c->experts, .chosen = (int)c->experts_chosen, .normalised = normalised, .scale = 1, .groups = 1};
}
