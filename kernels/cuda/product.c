/* Which product does a stage's LINEARs for a sequence: by the sequence's own rows and by shape and format, from a table of classes
 * (products.def). What is chosen depends on nothing else in the batch, so a sequence's bits do not either. */
#include "kernels/cuda/step.h"

/* A number of the table for a class; they are in the order of products.def: all of one kind of bits, then the next. */
static int wanted(const struct tuning *t, int bits, int rows, int outs, int in)
{
    const int list[] = {
#define PRODUCT(bits, rows, outs, in, standard) t->bits##_##rows##_##outs##_##in,
#include "kernels/cuda/products.def"
#undef PRODUCT
    };
    _Static_assert(sizeof list / sizeof *list == 3 * 3 * 2 * 2, "a line for each class");
    return list[((bits * 3 + rows) * 2 + outs) * 2 + in];
}

static int bits_class(enum storage format)
{
    const struct storage_type *t = &storage_types[format];
    int bits = t->block_bytes * 8 / t->block_elements;
    return bits >= 16 ? 0 : bits >= 5 ? 1 : 2;
}

/* Those that go through warpgroups: all LINEARs of the stage, or none. */
static bool hopper_serves(const struct compiled *c, const struct stage *s, int32_t rows)
{
    bool again = s->linears > 1 && s->norm && s->norm->x == s->norm->y; /* the input may be made once for each format, and is gone behind the first */
    for (int i = 0; i < s->linears; i++)
        if (cuda_fast(c, &c->p->weights[s->linear[i]->w]) != FAST_MATRIX)
            return false;
    return c->hopper && !again && rows >= c->tune.hopper_rows && c->p->buffers[s->linear[0]->x].rows == ROWS_ALL;
}

enum product cuda_product(const struct compiled *c, const struct stage *s, int32_t rows)
{
    const struct weight *w = &c->p->weights[s->linear[0]->w];
    bool hopper = hopper_serves(c, s, rows), cublas = cuda_gemm_serves(c, s->linear[0], rows);
    int64_t outs = 0;
    for (int i = 0; i < s->linears; i++)
        outs += c->p->weights[s->linear[i]->w].out;
    if (!hopper && !cublas)
        return PRODUCT_OWN;
    switch (wanted(&c->tune, bits_class(w->format), rows < 512 ? 0 : rows < 2048 ? 1 : 2, outs >= 8192, w->in >= 8192)) {
    case PRODUCT_HOPPER: return hopper ? PRODUCT_HOPPER : PRODUCT_CUBLAS;
    case PRODUCT_CUBLAS: return cublas ? PRODUCT_CUBLAS : PRODUCT_HOPPER;
    default: return PRODUCT_OWN;
    }
}

bool cuda_product_many(const struct compiled *c, int32_t rows)
{
    return (c->gemm.x && rows >= c->gemm.rows) || (c->hopper && rows >= c->tune.hopper_rows);
}
