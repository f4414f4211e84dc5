#include "kernels/reference/reference.h"

/* One channel of one sequence. What was before a sequence is zero. */
static void body(struct reference *r, const struct op *op, int64_t item, int thread)
{
    const struct weight *w = &r->p->weights[op->w];
    const struct batch_sequence *s = &r->batch->sequence[item / w->out];
    int64_t channel = item % w->out, width = w->out, past = w->in - 1;
    const float *read = reference_state(r, op, s, 0);
    float *write = reference_state(r, op, s, 1), *taps = r->row_scratch + thread * r->widest_row;
    const float *x = r->buffer[op->x] + s->first_row * width + channel;
    float *y = r->buffer[op->y] + s->first_row * width + channel;
    double bias = op->b >= 0 ? reference_value(&r->p->weights[op->b], 0, channel) : 0;
    reference_weight_row(w, channel, taps);
    for (int32_t row = 0; row < s->rows; row++) {
        double sum = bias;
        for (int64_t k = 0; k <= past; k++) {
            int64_t from = row + k - past;
            sum += (double)taps[k] * (from >= 0 ? x[from * width] : read ? read[(from + past) * width + channel] : 0);
        }
        y[row * width] = (float)reference_activate(op->activation, sum);
    }
    for (int64_t k = 0; k < past; k++) { /* upwards: what is still read lies above what is written */
        int64_t from = s->rows + k - past;
        write[k * width + channel] = from >= 0 ? x[from * width] : read ? read[(from + past) * width + channel] : 0;
    }
}

void reference_conv(struct reference *r, const struct op *op) { reference_each(r, op, r->batch->sequences * r->p->weights[op->w].out, body); }
