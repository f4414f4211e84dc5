/* Steps that are alike are recorded once and then replayed: one call instead of hundreds of launches. A class of steps has so many
 * rows, sequences and wanted rows, rows of a sequence and pieces of a cache up to a power of two, one output and one pool; its batch lies at the same
 * addresses each time, so that only the bytes in it change. A class is recorded when it comes a second time, and the one that was
 * used longest ago makes room. INGOT_CUDA_GRAPHS=0: never. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.h"

void cuda_graph_plan(struct compiled *c)
{
    const char *asked = getenv("INGOT_CUDA_GRAPHS");
    c->graphs.off = asked && !strcmp(asked, "0");
    for (int i = 0; i < c->p->op_count; i++) /* these need the host in the middle of a step */
        c->graphs.off |= c->p->ops[i].kind == OP_SEND || c->p->ops[i].kind == OP_RECEIVE || c->p->ops[i].kind == OP_REDUCE;
}

bool cuda_graph_serves(const struct compiled *c)
{
    for (int i = 0; i < c->batch->sequences; i++)
        if (cuda_product_many(c, c->batch->sequence[i].rows) || cuda_prompt(c, c->batch->sequence[i].rows) ||
            cuda_scan_many(c, c->batch->sequence[i].rows)) /* depends on each one's rows */
            return false;
    return !c->graphs.off && c->batch->rows <= c->tune.graph_rows;
}

struct graph *cuda_graph_find(struct compiled *c, int output)
{
    struct graph_class class;
    memset(&class, 0, sizeof class); /* compared as bytes */
    class.rows = c->batch->rows, class.sequences = c->batch->sequences, class.wanted = c->batch->wanted;
    class.output = output, class.tokens = c->longest, class.most_rows = c->most_rows;
    memcpy(class.pool, c->memory->pool, sizeof class.pool);
    struct graph *oldest = &c->graphs.list[0];
    c->graphs.steps++;
    for (int i = 0; i < CUDA_GRAPHS; i++) {
        struct graph *g = &c->graphs.list[i];
        if (g->used && !memcmp(&g->class, &class, sizeof class)) {
            g->used = c->graphs.steps;
            return g;
        }
        oldest = g->used < oldest->used ? g : oldest;
    }
    c->cuda->drop(c->options.device, oldest->graph);
    *oldest = (struct graph){.class = class, .used = c->graphs.steps};
    memcpy(&oldest->class, &class, sizeof class);
    return NULL;
}

void cuda_graph_close(struct compiled *c)
{
    for (int i = 0; i < CUDA_GRAPHS; i++)
        c->cuda->drop(c->options.device, c->graphs.list[i].graph);
}
