/* Layers that remember by a state of fixed size instead of a cache:
 *   Mamba 2 (arXiv:2405.21060)         [gate | x B C | dt] = W h;  x B C = act(conv);  norm(scan * silu(gate)), by groups;  W_out
 *   gated delta net (arXiv:2412.06464) q k v = act(conv(W h));  norm(scan) * silu(W_gate h), head by head;  W_out
 *   short convolution (LFM2)           [b | c | x] = W h;  c * conv(b * x);  W_out
 * A scan reads q, k, v from what the convolution made: [x = v | B = k | C = q] or [q | k | v]. */
#include <inttypes.h>
#include <math.h>

#include "models/writer.h"

struct mix_shape {
    int64_t inner, keys; /* values of all heads; of all key heads */
    int64_t width;       /* channels of the convolution */
    int64_t rows;        /* value heads of a key head */
};

static struct mix_shape shape_of(const struct writer *w)
{
    const struct config *c = w->c;
    if (w->d->recurrent == MIXER_SHORT_CONV)
        return (struct mix_shape){.width = c->hidden};
    struct mix_shape s = {c->scan_heads * c->scan_v_dim, c->scan_groups * c->scan_k_dim, 0, c->scan_heads / c->scan_groups};
    s.width = s.inner + 2 * s.keys;
    return s;
}

/* Its weights tell, in either container. */
bool is_recurrent(struct writer *w, int layer) { return w->d->recurrent != MIXER_NONE && binder_has(&w->b, &w->d->names[MIX_CONV], layer); }

static void add_scan(struct writer *w, const struct mix_shape *s)
{
    const struct config *c = w->c;
    bool delta = w->d->recurrent == MIXER_DELTA;
    struct scan scan = {.heads = (int)c->scan_heads, .key_heads = (int)c->scan_groups, .k_dim = (int)c->scan_k_dim, .v_dim = (int)c->scan_v_dim,
                        .q = delta ? 0 : s->inner + s->keys, .k = delta ? s->keys : s->inner, .v = delta ? 2 * s->keys : 0,
                        .tiled = w->d->tiled, .delta = delta, .normalised = delta, .dt_least = delta ? 0 : (float)c->dt_least,
                        .dt_most = delta ? INFINITY : (float)c->dt_most};
    w->scan = program_scan(w->p, &scan);
}

void recurrent_open_group(struct writer *w, int layers)
{
    enum { MOST = 1 << 28 }; /* values of a layer */
    const struct config *c = w->c;
    bool scans = w->d->recurrent != MIXER_SHORT_CONV;
    const char *wrong = !c->taps                                                              ? "the convolution's taps are missing"
                        : scans && (!c->scan_heads || !c->scan_groups || !c->scan_k_dim || !c->scan_v_dim) ? "a number of heads, or a size of them, is missing"
                        : scans && c->scan_heads % c->scan_groups                             ? "the key heads (groups) do not divide the heads"
                        : scans && c->scan_heads * c->scan_v_dim > MOST / c->scan_k_dim       ? "they would remember absurdly much"
                                                                                              : NULL;
    if (wrong) {
        w->b.status = error_set(w->b.err, STATUS_BAD_INPUT, "%s: recurrent layers: %s", w->b.m->path, wrong);
        return;
    }
    struct mix_shape s = shape_of(w);
    struct state_group g = {.kind = STATE_RECURRENT, .layers = layers, .values = (c->taps - 1) * s.width + (scans ? s.inner * c->scan_k_dim : 0)};
    w->recurrent_group = program_group(w->p, &g);
    if (scans)
        add_scan(w, &s);
}

/* ---- operations with state ------------------------------------------------------------------------------------------- */

static void conv(struct writer *w, int layer, int64_t width, enum activation activation)
{
    bool gguf = w->b.m->container == MODEL_GGUF, biased = w->d->names[MIX_CONV_BIAS].hf && (gguf || w->c->conv_bias);
    struct op *op = program_add(w->p, OP_CONV);
    op->x = w->f.mix_in;
    op->y = writer_need(w, &w->f.mix_conv, "mix_conv", width);
    op->w = flat_bind(&w->b, &w->d->names[MIX_CONV], layer, width, w->c->taps, false);
    op->b = biased ? flat_bind(&w->b, &w->d->names[MIX_CONV_BIAS], layer, 1, width, gguf) : -1;
    op->activation = activation;
    op->group = w->recurrent_group;
    op->layer = w->recurrent_layers;
}

/* Decay, bias and skip of each head, in memory of the model's. */
static int scan_parameters(struct writer *w, int layer)
{
    int64_t heads = w->c->scan_heads;
    float *made = arena_array(&w->b.m->arena, (size_t)(3 * heads), sizeof *made); /* zeros */
    if (!made) {
        w->b.status = error_memory(w->b.err, "a scan's parameters");
        return -1;
    }
    values_read(&w->b, &w->d->names[MIX_DECAY], layer, heads, made, false);
    for (int64_t i = 0; w->d->log_decay && i < heads; i++)
        made[i] = -expf(made[i]);
    values_read(&w->b, &w->d->names[MIX_DT_BIAS], layer, heads, made + heads, false);
    values_read(&w->b, &w->d->names[MIX_SKIP], layer, heads, made + 2 * heads, false);
    struct weight weight = {.name = "decay, bias and skip", .format = STORAGE_F32, .out = 3, .in = heads, .data = (const unsigned char *)made,
                            .row_bytes = heads * (int64_t)sizeof *made, .experts = 1, .shard_axis = -1, .owner = WEIGHT_DERIVED};
    w->b.m->weight_bytes += (uint64_t)(3 * heads) * sizeof *made;
    w->b.m->parameters += (uint64_t)((w->d->names[MIX_SKIP].hf ? 3 : 2) * heads);
    return program_weight(w->p, &weight);
}

static void scan(struct writer *w, int layer, const struct mix_shape *s, float scale)
{
    int weight = scan_parameters(w, layer);
    struct op *op = program_add(w->p, OP_SCAN);
    op->x = w->f.mix_conv;
    op->z = w->f.mix_steps;
    op->y = writer_need(w, &w->f.mix_out, "mix_out", s->inner);
    op->w = weight;
    op->scan = w->scan;
    op->scale = scale;
    op->group = w->recurrent_group;
    op->layer = w->recurrent_layers;
    op->at = (w->c->taps - 1) * s->width;
}

/* By a weight of its own, which no offset is added to. */
static void own_norm(struct writer *w, int layer, int64_t values, int64_t head_dim)
{
    writer_norm(w, w->f.mix_out, flat_bind(&w->b, &w->d->names[MIX_NORM], layer, 1, values, false), w->f.mix_out, head_dim);
    w->p->ops[w->p->op_count - 1].offset = 0;
}

static void output(struct writer *w, int layer, int x, int64_t inner)
{
    const struct config *c = w->c;
    bool gguf = w->b.m->container == MODEL_GGUF, biased = w->d->names[MIX_OUT_BIAS].hf && (gguf || c->mixer_bias);
    int bias = biased ? weight_bind(&w->b, &w->d->names[MIX_OUT_BIAS], layer, 1, c->hidden, gguf) : -1;
    writer_linear(w, x, writer_bind(w, MIX_OUT, layer, c->hidden, inner), bias, w->f.update);
}

/* ---- kinds ------------------------------------------------------------------------------------------------------------ */

/* Rows [first, first + out) of `total` of the one projection. */
static void project(struct writer *w, int layer, int64_t total, int64_t first, int64_t out, int y)
{
    bool gguf = w->b.m->container == MODEL_GGUF, biased = w->d->names[MIX_BIAS].hf && (gguf || w->c->mixer_bias);
    struct row_slices rows = {total, first, out, out, 1};
    int weight = rows_bind(&w->b, &w->d->names[MIX_IN], layer, &rows, w->c->hidden);
    writer_linear(w, w->f.normed, weight, biased ? part_bind(&w->b, &w->d->names[MIX_BIAS], layer, total, first, out, gguf) : -1, y);
}

static void mamba2(struct writer *w, int layer)
{
    const struct config *c = w->c;
    struct mix_shape s = shape_of(w);
    struct decoder_buffers *f = &w->f;
    int64_t total = s.inner + s.width + c->scan_heads;
    project(w, layer, total, 0, s.inner, writer_need(w, &f->mix_gate, "mix_gate", s.inner));
    project(w, layer, total, s.inner, s.width, writer_need(w, &f->mix_in, "mix_in", s.width));
    project(w, layer, total, s.inner + s.width, c->scan_heads, writer_need(w, &f->mix_steps, "mix_steps", c->scan_heads));
    conv(w, layer, s.width, c->activation);
    scan(w, layer, &s, 1);
    writer_gate(w, ACT_SILU, f->mix_gate, f->mix_out, f->mix_out);
    own_norm(w, layer, s.inner, c->scan_groups > 1 ? s.inner / c->scan_groups : 0);
    output(w, layer, f->mix_out, s.inner);
}

/* Runs of `out` rows of a matrix of `each` rows for each key head. */
static void by_key_heads(struct writer *w, enum decoder_role role, int layer, int64_t each, int64_t first, int64_t out, int y)
{
    struct row_slices rows = {each * w->c->scan_groups, first, each, out, (int)w->c->scan_groups};
    writer_experts(w, w->f.normed, -1, rows_bind(&w->b, &w->d->names[role], layer, &rows, w->c->hidden), y);
}

static void delta_inputs(struct writer *w, int layer, const struct mix_shape *s)
{
    const struct config *c = w->c;
    struct decoder_buffers *f = &w->f;
    int64_t k = c->scan_k_dim, v = s->rows * c->scan_v_dim, each = 2 * k + 2 * v;
    writer_need(w, &f->mix_in, "mix_in", s->width);
    writer_need(w, &f->mix_gate, "mix_gate", s->inner);
    if (!binder_has(&w->b, &w->d->names[MIX_GROUPED], layer)) {
        writer_linear(w, f->normed, writer_bind(w, MIX_IN, layer, s->width, c->hidden), -1, f->mix_in);
        writer_linear(w, f->normed, writer_bind(w, MIX_GATE, layer, s->inner, c->hidden), -1, f->mix_gate);
        return;
    }
    by_key_heads(w, MIX_GROUPED, layer, each, 0, k, writer_need(w, &f->mix_q, "mix_q", s->keys));
    by_key_heads(w, MIX_GROUPED, layer, each, k, k, writer_need(w, &f->mix_k, "mix_k", s->keys));
    by_key_heads(w, MIX_GROUPED, layer, each, 2 * k, v, writer_need(w, &f->mix_v, "mix_v", s->inner));
    by_key_heads(w, MIX_GROUPED, layer, each, 2 * k + v, v, f->mix_gate);
    writer_join(w, f->mix_q, f->mix_k, 1, writer_need(w, &f->mix_qk, "mix_qk", 2 * s->keys));
    writer_join(w, f->mix_qk, f->mix_v, 1, f->mix_in);
}

/* Time steps, then betas. */
static void delta_steps(struct writer *w, int layer, const struct mix_shape *s)
{
    int64_t heads = w->c->scan_heads;
    struct decoder_buffers *f = &w->f;
    writer_need(w, &f->mix_dt, "mix_dt", heads);
    writer_need(w, &f->mix_beta, "mix_beta", heads);
    if (binder_has(&w->b, &w->d->names[MIX_GATES], layer)) {
        by_key_heads(w, MIX_GATES, layer, 2 * s->rows, 0, s->rows, f->mix_beta);
        by_key_heads(w, MIX_GATES, layer, 2 * s->rows, s->rows, s->rows, f->mix_dt);
    } else {
        writer_linear(w, f->normed, writer_bind(w, MIX_DT, layer, heads, w->c->hidden), -1, f->mix_dt);
        writer_linear(w, f->normed, writer_bind(w, MIX_BETA, layer, heads, w->c->hidden), -1, f->mix_beta);
    }
    writer_join(w, f->mix_dt, f->mix_beta, 1, writer_need(w, &f->mix_steps, "mix_steps", 2 * heads));
}

static void delta_net(struct writer *w, int layer)
{
    struct mix_shape s = shape_of(w);
    struct decoder_buffers *f = &w->f;
    delta_inputs(w, layer, &s);
    delta_steps(w, layer, &s);
    conv(w, layer, s.width, w->c->activation);
    scan(w, layer, &s, (float)(1 / sqrt((double)w->c->scan_k_dim)));
    own_norm(w, layer, w->c->scan_v_dim, w->c->scan_v_dim);
    writer_gate(w, ACT_SILU, f->mix_gate, f->mix_out, f->mix_out);
    output(w, layer, f->mix_out, s.inner);
}

static void short_conv(struct writer *w, int layer)
{
    int64_t n = w->c->hidden;
    struct decoder_buffers *f = &w->f;
    project(w, layer, 3 * n, 0, n, writer_need(w, &f->mix_q, "mix_b", n));
    project(w, layer, 3 * n, n, n, writer_need(w, &f->mix_gate, "mix_c", n));
    project(w, layer, 3 * n, 2 * n, n, writer_need(w, &f->mix_v, "mix_x", n));
    writer_gate(w, ACT_NONE, f->mix_q, f->mix_v, writer_need(w, &f->mix_in, "mix_in", n));
    conv(w, layer, n, ACT_NONE);
    writer_gate(w, ACT_NONE, f->mix_gate, f->mix_conv, f->mix_conv);
    output(w, layer, f->mix_conv, n);
}

void recurrent_mixer(struct writer *w, int layer)
{
    if (w->d->recurrent == MIXER_MAMBA2)
        mamba2(w, layer);
    else if (w->d->recurrent == MIXER_DELTA)
        delta_net(w, layer);
    else
        short_conv(w, layer);
    w->recurrent_layers++;
}
