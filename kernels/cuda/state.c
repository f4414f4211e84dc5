/* Paged state: its layout on the device (place.h draws it) and its canonical form. */
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/place.h"

/* K or V with heads of so many values, from `offset` on in a layer of a block. */
static struct device_part part_of(enum storage type, int dim, int64_t offset)
{
    int unit = cache_scaled(type) ? 32 : 8, filled = (dim + unit - 1) / unit * unit;
    int64_t bytes = (int64_t)BLOCK_TOKENS * (filled / 8 * cache_eight(type) + (cache_scaled(type) ? filled / 32 * 2 : 0));
    return (struct device_part){.type = type, .dim = dim, .filled = filled, .offset = offset, .head_bytes = bytes};
}

void cuda_state_layout(struct compiled *c)
{
    for (int i = 0; i < c->p->group_count; i++) {
        const struct state_group *g = &c->p->groups[i];
        struct device_state *s = &c->state[i];
        if (g->kind == STATE_RECURRENT) {
            c->layer_bytes[i] = g->values * (int64_t)sizeof(float);
        } else {
            s->k = part_of(c->options.k_type, g->k_dim, 0);
            s->v = part_of(c->options.v_type, g->v_dim, g->heads * s->k.head_bytes);
            c->layer_bytes[i] = s->v.offset + g->heads * s->v.head_bytes;
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

/* A code of Q8_0 or Q4_0 on the device; the four bits of Q4_0 are those of the format. */
static int code_at(const struct device_part *part, const unsigned char *head, int slot, int i)
{
    const unsigned char *p = head + cache_place(part->type, part->filled, slot, i);
    return part->type == STORAGE_Q8_0 ? (signed char)p[i % 8] : (p[cache_bits(i) / 8] >> cache_bits(i) % 8 & 15) - 8;
}

static void read_head(const struct device_part *part, const unsigned char *head, int slot, float *out)
{
    const struct format *format = format_find((enum storage)part->type);
    float eight[8], d = 0;
    for (int i = 0; i < part->dim; i++) {
        if (!cache_scaled(part->type)) {
            if (i % 8 == 0)
                format->decode(head + cache_place(part->type, part->filled, slot, i), eight, 8);
            out[i] = eight[i % 8];
            continue;
        }
        if (i % 32 == 0)
            format_find(STORAGE_F16)->decode(head + cache_scale(part->type, part->filled, slot, i), &d, 1);
        out[i] = d * (float)code_at(part, head, slot, i);
    }
}

/* A block of 32 values of Q8_0 or Q4_0, its scale in front, to its places. */
static void spread_block(const struct device_part *part, const unsigned char *block, unsigned char *head, int slot, int first)
{
    memcpy(head + cache_scale(part->type, part->filled, slot, first), block, 2);
    for (int i = first; i < first + 32; i++) {
        unsigned char *p = head + cache_place(part->type, part->filled, slot, i);
        int bits = cache_bits(i), code = i % 32 < 16 ? block[2 + i % 16] & 15 : block[2 + i % 16] >> 4;
        if (part->type == STORAGE_Q8_0)
            p[i % 8] = block[2 + i % 32];
        else
            p[bits / 8] = (unsigned char)((p[bits / 8] & ~(15 << bits % 8)) | code << bits % 8);
    }
}

static void write_head(const struct device_part *part, unsigned char *head, int slot, const float *in)
{
    int unit = cache_scaled(part->type) ? 32 : 8;
    for (int first = 0; first < part->filled; first += unit) {
        float values[32] = {0};
        unsigned char block[64];
        int count = part->dim - first < unit ? part->dim - first : unit;
        memcpy(values, in + first, (size_t)count * sizeof *values);
        format_round((enum storage)part->type, values, block, unit);
        if (unit == 32)
            spread_block(part, block, head, slot, first);
        else
            memcpy(head + cache_place(part->type, part->filled, slot, first), block, (size_t)cache_eight(part->type));
    }
}

/* Tokens of the block that lies in transfers->block. */
static void each_head(const struct compiled *c, int group, int first, int count, float *out, const float *in)
{
    const struct state_group *g = &c->p->groups[group];
    for (int slot = first; slot < first + count; slot++)
        for (int value = 0; value < (g->v_in_k ? 1 : 2); value++) {
            const struct device_part *part = value ? &c->state[group].v : &c->state[group].k;
            for (int layer = 0; layer < g->layers; layer++)
                for (int head = 0; head < g->heads; head++) {
                    unsigned char *at = c->transfers->block + layer * c->layer_bytes[group] + part->offset + head * part->head_bytes;
                    if (out)
                        read_head(part, at, slot, out), out += part->dim;
                    else
                        write_head(part, at, slot, in), in += part->dim;
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
