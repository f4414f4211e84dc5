/* Matrices that come to the card for each step that streams (kernels/cuda/stream.c). */
#include "cuda_backend.h"

enum { LAYERS = 5, VOCAB = 37, EXPERTS = 6 };

/* mixture: each network is one of experts, of which all come.
 * The card has all but the networks; streamed, each row has the bits of a card that has them, too. Slots are used again and again, and what
 * is asked of a stream is done late. */
static void check(bool mixture)
{
    const struct tiny_shape shape = {.hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .inner = 96, .layers = LAYERS, .vocab = VOCAB, .format = STORAGE_Q4_0,
                                     .head_format = STORAGE_F16, .bias = !mixture, .experts = mixture ? EXPERTS : 0, .chosen = mixture ? 2 : 0};
    static const int counts[][TINY_SEQUENCES] = {{9, 0, 17, 0}, {12, 9, 0, 0}, {1, 0, 2, 0}};
    static float whole[60 * VOCAB], streamed[60 * VOCAB];
    static int32_t tokens[64];
    struct tiny t;
    struct tiny_run alone, parts;
    struct compile_options o = tiny_options(STORAGE_F16), split = o;
    struct segment list[2 * LAYERS + 1];
    struct compile_sizes sizes[2];
    struct error err = {0};
    int places[128], count = 0, first = 0;
    const struct backend *card = cuda_under_test();
    tiny_build(&t, &shape);
    program_cuts(&t.p, places);
    for (int i = 0; i < 64; i++)
        tokens[i] = i * 7 % VOCAB;
    for (int layer = 0; layer < LAYERS; layer++, first = list[count - 1].end) {
        list[count++] = (struct segment){card, 0, first, places[1 + 2 * layer], 0, 1};
        list[count++] = (struct segment){&backend_reference, 0, places[1 + 2 * layer], places[2 + 2 * layer], 0, 1};
    }
    list[count++] = (struct segment){card, 0, first, t.p.op_count, 0, 1};
    split.segments = list, split.segment_count = count;
    const struct backend *both = backend_split(list, count);
    for (int k = 0; k < 2; k++) {
        split.stream_rows = k ? 9 : 0;
        cr_assert_eq(both->sizes(&t.p, &split, &sizes[k], &err), STATUS_OK, "%s", err.text);
    }
    cr_assert_geq(sizes[1].scratch_bytes, sizes[0].scratch_bytes + 2 * 3 * 64 * 96 / 32 * 18 * (mixture ? EXPERTS : 1), "what comes and goes is not planned for");
    tiny_open(&alone, &t, card, &o);
    tiny_open(&parts, &t, both, &split);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        const int32_t *const from[] = {tokens, tokens + 9, tokens + 30, tokens};
        float *to[2][TINY_SEQUENCES];
        int rows = 0;
        for (int s = 0; s < TINY_SEQUENCES; rows += counts[i][s++])
            to[0][s] = whole + rows * VOCAB, to[1][s] = streamed + rows * VOCAB;
        tiny_step(&alone, &t, t.logits, counts[i], from, to[0]);
        tiny_step(&parts, &t, t.logits, counts[i], from, to[1]);
        if (i < 2)
            cr_assert_arr_eq(streamed, whole, (size_t)(rows * VOCAB) * sizeof *whole, "step %d", (int)i);
        else /* the reference rounds nothing */
            cr_assert_lt(tiny_error(streamed, whole, rows * VOCAB), 2e-2);
    }
    tiny_close(&alone);
    tiny_close(&parts);
    arena_free(&t.arena);
}

Test(cuda, streams) { check(false); }

Test(cuda, streams_experts) { check(true); }
