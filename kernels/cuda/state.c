/* Paged state: its layout on the device (attend.h draws it) and its canonical form. */
#include <string.h>

#include "kernels/cuda/cuda.h"

/* Kernels read eight values at a time. */
static int padded(enum storage type, int dim)
{
    int block = storage_types[type].block_elements > 8 ? storage_types[type].block_elements : 8;
    return (dim + block - 1) / block * block;
}

static int64_t head_bytes(enum storage type, int dim)
{
    return (int64_t)padded(type, dim) / storage_types[type].block_elements * storage_types[type].block_bytes;
}

void cuda_state_layout(struct compiled *c)
{
    for (int i = 0; i < c->p->group_count; i++) {
        const struct state_group *g = &c->p->groups[i];
        struct device_state *s = &c->state[i];
        if (g->kind == STATE_RECURRENT) {
            c->layer_bytes[i] = g->values * (int64_t)sizeof(float);
        } else {
            int64_t slots = (int64_t)g->heads * BLOCK_TOKENS;
            s->k = (struct device_part){.type = c->options.k_type, .dim = g->k_dim, .head_bytes = head_bytes(c->options.k_type, g->k_dim)};
            s->v = (struct device_part){.type = c->options.v_type, .dim = g->v_dim, .head_bytes = head_bytes(c->options.v_type, g->v_dim)};
            s->v.offset = slots * s->k.head_bytes;
            c->layer_bytes[i] = s->v.offset + slots * s->v.head_bytes;
            if (g->v_in_k) {
                c->layer_bytes[i] = s->v.offset;
                s->v = s->k;
                s->v.dim = g->v_dim;
            }
        }
        s->group = i;
        s->block_bytes = c->block_bytes[i] = g->layers * c->layer_bytes[i];
    }
}

/* One head of one token between its type and float32. */
static void convert(const struct device_part *part, unsigned char *at, float *out, const float *in)
{
    float whole[CUDA_HEAD_DIM + 32] = {0};
    int count = padded((enum storage)part->type, part->dim);
    if (out) {
        format_find((enum storage)part->type)->decode(at, whole, count);
        memcpy(out, whole, (size_t)part->dim * sizeof *out);
    } else {
        memcpy(whole, in, (size_t)part->dim * sizeof *in);
        format_round((enum storage)part->type, whole, at, count);
    }
}

/* A token of the block that lies in transfers->block. */
static void each_head(const struct compiled *c, int group, int first, int count, float *out, const float *in)
{
    const struct state_group *g = &c->p->groups[group];
    for (int slot = first; slot < first + count; slot++)
        for (int value = 0; value < (g->v_in_k ? 1 : 2); value++) {
            const struct device_part *part = value ? &c->state[group].v : &c->state[group].k;
            for (int layer = 0; layer < g->layers; layer++)
                for (int head = 0; head < g->heads; head++) {
                    int64_t at = layer * c->layer_bytes[group] + part->offset + ((int64_t)head * BLOCK_TOKENS + slot) * part->head_bytes;
                    convert(part, c->transfers->block + at, out, in);
                    out ? (out += part->dim) : (in += part->dim);
                }
        }
}

/* With the lock held. */
static enum status transfer(const struct compiled *c, const struct state_memory *state, int group, int32_t block, bool up, struct error *err)
{
    const struct transfers *t = c->transfers;
    unsigned char *at = state->pool[group] + (int64_t)block * c->block_bytes[group];
    size_t bytes = (size_t)c->block_bytes[group];
    int code = up ? c->cuda->upload(t->stream, at, t->block, bytes) : c->cuda->download(t->stream, t->block, at, bytes);
    if (!code)
        code = c->cuda->wait(t->stream);
    return code ? cuda_failed(c, code, err, "%s block %d of the cache", up ? "writing" : "reading", block) : STATUS_OK;
}

enum status cuda_read_state(const struct compiled *c, const struct state_memory *state, int group, int32_t block, int first, int count, float *out,
                            struct error *err)
{
    pthread_mutex_lock(&c->transfers->lock);
    enum status status = transfer(c, state, group, block, false, err);
    if (!status && c->p->groups[group].kind == STATE_RECURRENT)
        memcpy(out, c->transfers->block, (size_t)c->block_bytes[group]);
    else if (!status)
        each_head(c, group, first, count, out, NULL);
    pthread_mutex_unlock(&c->transfers->lock);
    return status;
}

enum status cuda_write_state(const struct compiled *c, struct state_memory *state, int group, int32_t block, int first, int count, const float *in,
                             struct error *err)
{
    enum status status = STATUS_OK;
    pthread_mutex_lock(&c->transfers->lock);
    if (c->p->groups[group].kind == STATE_RECURRENT) {
        memcpy(c->transfers->block, in, (size_t)c->block_bytes[group]);
    } else {
        if (count < BLOCK_TOKENS) /* the block's other tokens stay */
            status = transfer(c, state, group, block, false, err);
        if (!status)
            each_head(c, group, first, count, NULL, in);
    }
    if (!status)
        status = transfer(c, state, group, block, true, err);
    pthread_mutex_unlock(&c->transfers->lock);
    return status;
}

enum status cuda_copy_state(const struct compiled *c, struct state_memory *state, int group, int32_t to, int32_t from, struct error *err)
{
    size_t bytes = (size_t)c->block_bytes[group];
    unsigned char *pool = state->pool[group];
    pthread_mutex_lock(&c->transfers->lock);
    int code = c->cuda->copy(c->transfers->stream, pool + (size_t)to * bytes, pool + (size_t)from * bytes, bytes);
    if (!code)
        code = c->cuda->wait(c->transfers->stream);
    pthread_mutex_unlock(&c->transfers->lock);
    return code ? cuda_failed(c, code, err, "copying a block of %zu bytes of the cache", bytes) : STATUS_OK;
}
