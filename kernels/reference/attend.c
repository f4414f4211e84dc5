#include "kernels/reference/reference.h"

#include <math.h>

/* K and V are read as the cache holds them, also those of this very step, so chunking a prompt changes nothing. */
static void body(struct reference *r, const struct op *op, int64_t row, int thread)
{
    const struct state_group *g = &r->p->groups[op->group];
    int32_t batch_row = reference_batch_row(r, op->x, (int32_t)row);
    const struct batch_sequence *s = &r->batch->sequence[r->batch->row[batch_row].sequence];
    int64_t self = s->cached + (batch_row - s->first_row), total = s->cached + s->rows;
    int64_t end = op->mask == MASK_CAUSAL ? self + 1 : total, start = 0;
    if (g->window) {
        start = self + 1 > g->window ? self + 1 - g->window : 0;
        end = end > self + g->window ? self + g->window : end;
    }
    float *scores = r->scores + thread * r->options.max_context;
    enum storage k_type = r->options.k_type, v_type = g->v_in_k ? k_type : r->options.v_type;
    float value[REFERENCE_HEAD_DIM];
    double sum_of[REFERENCE_HEAD_DIM];
    for (int head = 0; head < op->heads; head++) {
        int kv = head / (op->heads / g->heads);
        const float *q = r->buffer[op->x] + (row * op->heads + head) * g->k_dim;
        float *y = r->buffer[op->y] + (row * op->heads + head) * g->v_dim;
        double most = -INFINITY, total_weight = 0;
        for (int64_t t = start; t < end; t++) {
            int32_t block = s->blocks[op->group][t / BLOCK_TOKENS];
            reference_decode(k_type, reference_slot(r, op->group, op->layer, block, (int)(t % BLOCK_TOKENS), kv, false), g->k_dim, value);
            double score = 0;
            for (int i = 0; i < g->k_dim; i++)
                score += (double)q[i] * value[i];
            score *= op->scale;
            if (op->cap > 0)
                score = op->cap * tanh(score / op->cap);
            scores[t - start] = (float)score;
            most = score > most ? score : most;
        }
        for (int i = 0; i < g->v_dim; i++)
            sum_of[i] = 0;
        for (int64_t t = start; t < end; t++) {
            int32_t block = s->blocks[op->group][t / BLOCK_TOKENS];
            double weight = exp(scores[t - start] - most);
            total_weight += weight;
            reference_decode(v_type, reference_slot(r, op->group, op->layer, block, (int)(t % BLOCK_TOKENS), kv, true), g->v_dim, value);
            for (int i = 0; i < g->v_dim; i++)
                sum_of[i] += weight * value[i];
        }
        for (int i = 0; i < g->v_dim; i++)
            y[i] = (float)(sum_of[i] / total_weight);
    }
}

void reference_attend(struct reference *r, const struct op *op) { reference_each(r, op, reference_rows(r, op->x), body); }
