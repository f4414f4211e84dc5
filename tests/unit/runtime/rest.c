/* State at rest: what an ended request left behind saves work, and is never seen in what comes out. */
#include <criterion/criterion.h>

#include "runtime/engine/engine.h"
#include "tests/tiny_model.h"

enum { VOCAB = 300, CONTEXT = 1200 };

struct fixture {
    char *folder;
    struct ingot_model *model;
    struct ingot_engine *engine;
};

static struct fixture start(const char *name, int parallel, bool deterministic)
{
    struct fixture f = {.folder = tiny_make(name)};
    struct ingot_error err;
    const struct ingot_engine_options o = {.threads = 2, .parallel = parallel, .context = CONTEXT, .deterministic = deterministic};
    cr_assert_eq(ingot_model_open(&f.model, f.folder, NULL, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(ingot_engine_open(&f.engine, f.model, &o, &err), INGOT_OK, "%s", err.text);
    return f;
}

static void stop(struct fixture *f)
{
    ingot_engine_close(f->engine);
    ingot_model_close(f->model);
    tiny_remove(f->folder);
}

/* Ids of a text that agrees with text 0 up to `same`. */
static const int32_t *text(int number, size_t same)
{
    static int32_t ids[CONTEXT];
    for (size_t i = 0; i < CONTEXT; i++)
        ids[i] = (int32_t)((i * i * 7 + i * 31 + (i < same ? 0 : (size_t)number * 13)) % 256);
    return ids;
}

static void keep_row(void *context, size_t position, const float *logits)
{
    (void)position;
    memcpy(context, logits, VOCAB * sizeof *logits);
}

struct answer {
    float logits[VOCAB]; /* of the prompt's last row */
    int32_t tokens[8];
    size_t reused;
};

static struct answer ask(struct fixture *f, uint64_t owner, const int32_t *ids, size_t count)
{
    struct answer a = {.reused = 9999};
    struct ingot_session *s;
    struct ingot_request *r;
    struct ingot_request_options o;
    struct ingot_error err;
    struct ingot_event e;
    int n = 0;
    cr_assert_eq(ingot_session_begin(&s, f->engine, owner, ids, count, &err), INGOT_OK, "%s", err.text);
    ingot_request_defaults(f->model, &o);
    o.sampling.temperature = 0;
    o.max_tokens = 8;
    o.ignore_end = o.rest = o.last_row = true;
    o.row = keep_row, o.row_context = a.logits;
    cr_assert_eq(ingot_request_start(&r, s, &o, &err), INGOT_OK, "%s", err.text);
    while (ingot_request_next(r, -1, &e)) {
        cr_assert(e.kind != INGOT_EVENT_ERROR, "%s", e.error->text);
        if (e.kind == INGOT_EVENT_TOKEN)
            a.tokens[n++] = e.token;
        a.reused = e.reused_tokens;
    }
    cr_assert_eq(n, 8);
    ingot_request_free(r);
    ingot_session_close(s);
    return a;
}

static void check_same(const struct answer *a, const struct answer *b, const char *what)
{
    cr_assert_eq(memcmp(a->logits, b->logits, sizeof a->logits), 0, "%s: other logits", what);
    cr_assert_eq(memcmp(a->tokens, b->tokens, sizeof a->tokens), 0, "%s: other tokens", what);
}

Test(rest, is_gone_on_with_and_never_seen)
{
    static const char *const models[] = {"plain", "window", "qwen3_moe"};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (int deterministic = 0; deterministic < 2; deterministic++) {
            struct fixture f = start(models[m], 8, deterministic), fresh = start(models[m], 1, deterministic);
            static const struct {
                size_t same, count, reused[2]; /* of 700 tokens: in whole pieces, and to the token */
            } asked[] = {{600, 900, {512, 600}}, {512, 512, {256, 511}}, {700, 720, {512, 700}}, {20, 400, {0, 20}}, {10, 300, {0, 0}}};
            ask(&f, 1, text(0, 0), 700);
            for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
                const int32_t *ids = text((int)i + 1, asked[i].same);
                struct answer expected = ask(&fresh, 100 + i, ids, asked[i].count), got = ask(&f, 1, ids, asked[i].count), other = ask(&f, 200 + i, ids, asked[i].count);
                cr_assert_eq(expected.reused, 0);
                cr_assert_eq(got.reused, asked[i].reused[deterministic], "%s: of %zu that are the same, %zu were reused", models[m], asked[i].same, got.reused);
                cr_assert_eq(other.reused, 0, "another's was reused");
                check_same(&got, &expected, models[m]);
                check_same(&other, &expected, models[m]);
            }
            stop(&f);
            stop(&fresh);
        }
}

/* Recurrent layers go on from where they kept their state: from the first piece's end at least. */
Test(rest, of_recurrent_layers)
{
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        struct fixture f = start("hybrid", 4, deterministic), fresh = start("hybrid", 1, deterministic);
        ask(&f, 1, text(0, 0), 900);
        for (int i = 1; i < 4; i++) {
            const int32_t *ids = text(i, 800);
            struct answer expected = ask(&fresh, (uint64_t)(100 + i), ids, 1000), got = ask(&f, 1, ids, 1000);
            cr_assert(got.reused >= PIECE && got.reused <= 800, "%zu", got.reused);
            check_same(&got, &expected, "hybrid");
        }
        stop(&f);
        stop(&fresh);
    }
}

/* A conversation: each prompt is the last one, its answer, and more. */
Test(rest, grows_with_a_conversation)
{
    struct fixture f = start("plain", 1, false);
    int32_t ids[CONTEXT];
    size_t count = 300, reused = 0;
    memcpy(ids, text(0, 0), sizeof ids);
    for (int turn = 0; turn < 5; turn++) {
        struct answer a = ask(&f, 0, ids, count);
        cr_assert_eq(a.reused, reused, "turn %d: %zu", turn, a.reused);
        reused = count / PIECE * PIECE;
        memcpy(ids + count, a.tokens, sizeof a.tokens);
        count += 150;
    }
    cr_assert_eq(f.engine->resting_count, 1, "what a longer text begins with is kept once");
    stop(&f);
}

Test(rest, gives_way)
{
    struct fixture f = start("plain", 1, false);
    ask(&f, 1, text(0, 0), 1100);
    cr_assert_eq(ask(&f, 1, text(0, 0), 1100).reused, 1024);
    cr_assert_eq(ask(&f, 2, text(1, 0), 1100).reused, 0); /* there is room for one */
    cr_assert_eq(ask(&f, 2, text(1, 0), 1100).reused, 1024);
    cr_assert_eq(ask(&f, 1, text(0, 0), 1100).reused, 0);
    struct ingot_session *s; /* one that takes blocks without having been admitted, as loading does */
    struct ingot_error err;
    cr_assert_eq(ingot_session_open(&s, f.engine, &err), INGOT_OK);
    pthread_mutex_lock(&f.engine->lock);
    cr_assert_eq(session_reserve(s, 1100, (struct error *)&err), STATUS_OK, "%s", err.text);
    cr_assert_eq(f.engine->resting_count, 0);
    pthread_mutex_unlock(&f.engine->lock);
    ingot_session_close(s);
    stop(&f);
}

/* Two go on with the same, at the same time. */
Test(rest, is_shared)
{
    struct fixture f = start("plain", 4, false);
    ask(&f, 1, text(0, 0), 800);
    struct ingot_session *s[2];
    struct ingot_request *r[2];
    struct ingot_request_options o;
    struct ingot_error err;
    struct ingot_event e;
    ingot_request_defaults(f.model, &o);
    o.sampling.temperature = 0;
    o.max_tokens = 8;
    o.ignore_end = o.rest = true;
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(ingot_session_begin(&s[i], f.engine, 1, text(i + 1, 790), 1000, &err), INGOT_OK, "%s", err.text);
        cr_assert_eq(ingot_request_start(&r[i], s[i], &o, &err), INGOT_OK, "%s", err.text);
    }
    for (int i = 0; i < 2; i++) {
        while (ingot_request_next(r[i], -1, &e))
            cr_assert(e.kind != INGOT_EVENT_ERROR, "%s", e.error->text);
        cr_assert_eq(e.reused_tokens, 768);
        ingot_request_free(r[i]);
        ingot_session_close(s[i]);
    }
    const struct pool *p = &f.engine->pool; /* blocks of both, the first 48 in common */
    cr_assert_eq(p->blocks[0] - p->free_count[0], 48, "%d blocks at rest", p->blocks[0] - p->free_count[0]);
    stop(&f);
}

/* ---- on the shelf: the CPU's backend with one of its own, whose moves happen as late as they may ---- */

enum { MOVES = 4096 };
struct shelf {
    unsigned char *memory;
    size_t bytes; /* of a block */
    struct {
        unsigned char *to, *from;
    } move[MOVES];
    int moves, moved;
};

static size_t block_bytes; /* of the one group */

static enum status open_shelf(struct shelf **out, const struct compiled *c, const int32_t *places, struct error *err)
{
    (void)c, (void)err;
    *out = calloc(1, sizeof **out);
    **out = (struct shelf){.memory = calloc((size_t)places[0], block_bytes), .bytes = block_bytes};
    return STATUS_OK;
}

static enum status move_block(struct shelf *s, const struct state_memory *state, int group, int32_t block, int32_t place, bool away, struct error *err)
{
    unsigned char *here = state->pool[group] + (size_t)block * s->bytes, *there = s->memory + (size_t)place * s->bytes;
    (void)err;
    cr_assert_lt(s->moves, MOVES);
    s->move[s->moves].to = away ? there : here;
    s->move[s->moves++].from = away ? here : there;
    return STATUS_OK;
}

static enum status wait_for_moves(struct shelf *s, struct error *err)
{
    (void)err;
    for (int i = 0; i < s->moves; i++)
        memcpy(s->move[i].to, s->move[i].from, s->bytes);
    s->moved += s->moves;
    s->moves = 0;
    return STATUS_OK;
}

static void close_shelf(struct shelf *s)
{
    free(s->memory);
    free(s);
}

static void put_up_shelf(struct fixture *f, struct backend *b, int places)
{
    struct compile_sizes sizes;
    struct error err;
    *b = *f->engine->backend;
    b->shelf_open = open_shelf, b->shelf_move = move_block, b->shelf_wait = wait_for_moves, b->shelf_close = close_shelf;
    f->engine->backend = b;
    cr_assert_eq(b->sizes(&f->model->model->program, &f->engine->compile, &sizes, &err), STATUS_OK);
    block_bytes = (size_t)sizes.block_bytes[0];
    cr_assert_eq(shelf_start(f->engine, block_bytes * (size_t)places, &err), STATUS_OK, "%s", err.text);
}

Test(rest, comes_back_from_the_shelf)
{
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        struct fixture f = start("plain", 1, deterministic), fresh = start("plain", 1, deterministic);
        struct backend b;
        put_up_shelf(&f, &b, 600);
        ask(&f, 1, text(0, 0), 1100);
        for (int i = 1; i < 4; i++) { /* there is room for one in the pool, and for all of them in both */
            struct answer expected = ask(&fresh, (uint64_t)(100 + i), text(i, 0), 1100), got = ask(&f, 1, text(i, 0), 1100);
            cr_assert_eq(got.reused, 0);
            check_same(&got, &expected, "a new one");
        }
        for (int round = 0; round < 3; round++)
            for (int i = 0; i < 4; i++) {
                struct answer expected = ask(&fresh, (uint64_t)(200 + 10 * round + i), text(i, 0), 1105), got = ask(&f, 1, text(i, 0), 1105);
                cr_assert_eq(got.reused, deterministic ? (round ? 1104 : 1100) : 1024, "round %d, text %d: %zu", round, i, got.reused);
                check_same(&got, &expected, "one that came back");
            }
        cr_assert_eq(ask(&f, 2, text(0, 0), 1100).reused, 0, "another's was reused");
        stop(&f);
        stop(&fresh);
    }
}

/* A text that grows leaves its places to the longer one; what has no place goes. */
Test(rest, the_shelf_is_bounded)
{
    struct fixture f = start("plain", 1, false);
    struct backend b;
    put_up_shelf(&f, &b, 100);
    ask(&f, 1, text(0, 0), 600);
    ask(&f, 1, text(0, 0), 900);
    struct ingot_engine *e = f.engine;
    cr_assert_eq(e->resting_count, 1);
    cr_assert_eq(e->places - e->free_places, 48, "%d places are taken", e->places - e->free_places);
    shelf_settle(e);
    cr_assert_eq(e->shelf->moved, 48, "%d blocks moved: what lay there moved again", e->shelf->moved);
    ask(&f, 1, text(1, 0), 1100); /* 64 more: the first has to go */
    cr_assert_eq(e->places - e->free_places, 64);
    cr_assert_eq(ask(&f, 1, text(0, 0), 900).reused, 0);
    cr_assert_eq(ask(&f, 1, text(0, 0), 900).reused, 768);
    stop(&f);
}

/* Asking for less of it again does not lose the longer one, wherever it lies. */
Test(rest, the_longer_one_stays)
{
    struct fixture f = start("plain", 1, false);
    struct backend b;
    put_up_shelf(&f, &b, 300);
    ask(&f, 1, text(0, 0), 1100);
    for (int away = 0; away < 2; away++) {
        if (away)
            ask(&f, 2, text(1, 0), 1100); /* takes the pool's room from it */
        cr_assert_eq(ask(&f, 1, text(0, 0), 600).reused, 512);
        cr_assert_eq(ask(&f, 1, text(0, 0), 1100).reused, 1024);
    }
    struct ingot_engine *e = f.engine;
    cr_assert_eq(e->resting_count, 2);
    cr_assert_eq(e->places - e->free_places, 128, "%d places are taken", e->places - e->free_places);
    stop(&f);
}

/* Who wants to see all rows of a prompt gets them, whatever lies on the shelf. */
static void count_row(void *context, size_t position, const float *logits)
{
    (void)position, (void)logits;
    ++*(int *)context;
}

Test(rest, rows_that_are_wanted_are_computed)
{
    struct fixture f = start("plain", 1, false);
    struct backend b;
    struct ingot_session *s;
    struct ingot_request *r;
    struct ingot_request_options o;
    struct ingot_error err;
    struct ingot_event e;
    int rows = 0;
    put_up_shelf(&f, &b, 300);
    ask(&f, 1, text(0, 0), 1100);
    ask(&f, 2, text(1, 0), 1100); /* takes the pool's room from it */
    cr_assert_eq(ingot_session_begin(&s, f.engine, 1, text(0, 0), 600, &err), INGOT_OK, "%s", err.text);
    ingot_request_defaults(f.model, &o);
    o.max_tokens = 0;
    o.row = count_row, o.row_context = &rows;
    cr_assert_eq(ingot_request_start(&r, s, &o, &err), INGOT_OK, "%s", err.text);
    while (ingot_request_next(r, -1, &e))
        cr_assert(e.kind != INGOT_EVENT_ERROR, "%s", e.error->text);
    cr_assert_eq(rows, 600, "%d rows", rows);
    ingot_request_free(r);
    ingot_session_close(s);
    stop(&f);
}

/* One that waits for its turn holds what it will go on with, though it was used longest ago. */
Test(rest, waits_for_what_it_will_need)
{
    struct fixture f = start("plain", 1, false);
    struct backend b;
    struct ingot_session *s;
    struct ingot_request *r;
    struct ingot_request_options o;
    struct ingot_error err;
    struct ingot_event e;
    put_up_shelf(&f, &b, 140); /* for two */
    ask(&f, 1, text(0, 0), 1100);
    ask(&f, 2, text(1, 0), 1100); /* takes the pool's room from the first */
    cr_assert_eq(ingot_session_begin(&s, f.engine, 1, text(0, 0), 1100, &err), INGOT_OK);
    ask(&f, 3, text(2, 0), 1100);
    ask(&f, 4, text(3, 0), 1100);
    ingot_request_defaults(f.model, &o);
    o.max_tokens = 0;
    cr_assert_eq(ingot_request_start(&r, s, &o, &err), INGOT_OK, "%s", err.text);
    while (ingot_request_next(r, -1, &e))
        cr_assert(e.kind != INGOT_EVENT_ERROR, "%s", e.error->text);
    cr_assert_eq(e.reused_tokens, 1024, "%zu", e.reused_tokens);
    ingot_request_free(r);
    ingot_session_close(s);
    cr_assert_eq(f.engine->resting->claims, 0);
    stop(&f);
}
