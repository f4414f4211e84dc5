/* Sessions and the scheduler on a tiny model: what a session has computed never shows in what comes out. */
#include <fcntl.h>
#include <math.h>
#include <pthread.h>

#include "fixture.h"

Test(session, rewind_and_sync_reuse_what_is_there)
{
    struct fixture f = start("plain", 2);
    int32_t a[12], b[12];
    struct ingot_error err;
    struct ingot_session *s = session(&f, 0, 20), *fresh = session(&f, 0, 20);
    cr_assert_eq(greedy(&f, s, 12, a), 12);
    size_t count, kept;
    ingot_session_tokens(s, &count);
    cr_assert_eq(count, 32);
    cr_assert_eq(ingot_session_rewind(s, 20), 20);
    cr_assert_eq(greedy(&f, s, 12, b), 12);
    cr_assert(memcmp(a, b, sizeof a) == 0, "after a rewind");
    const int32_t *tokens = ingot_session_tokens(fresh, &count);
    cr_assert_eq(ingot_session_sync(s, tokens, count, &kept, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(kept, 20);
    cr_assert_eq(greedy(&f, s, 12, b), 12);
    cr_assert(memcmp(a, b, sizeof a) == 0, "after a sync");
    cr_assert_eq(greedy(&f, fresh, 12, b), 12);
    cr_assert(memcmp(a, b, sizeof a) == 0, "a fresh session");
    ingot_session_close(s);
    ingot_session_close(fresh);
    stop(&f);
}

Test(session, forks_share_and_part)
{
    struct fixture f = start("window", 4);
    int32_t alone[10], a[10], b[10];
    struct ingot_error err;
    struct ingot_session *s = session(&f, 0, 21), *fork, *other = session(&f, 0, 21);
    greedy(&f, other, 10, alone);
    greedy(&f, s, 0, a); /* the prompt is computed, its last block is half full */
    int32_t free_before = f.engine->pool.free_count[0];
    cr_assert_eq(ingot_session_fork(&fork, s, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(f.engine->pool.free_count[0], free_before, "a fork takes no block");
    int32_t id = 5;
    cr_assert_eq(ingot_session_append(fork, &id, 1, &err), INGOT_OK);
    struct ingot_request *one = request(&f, s, 10), *two = request(&f, fork, 10);
    cr_assert_eq(collect(one, a), 10);
    cr_assert_eq(collect(two, b), 10);
    cr_assert(memcmp(a, alone, sizeof a) == 0, "the original goes on as if alone");
    cr_assert(memcmp(a, b, sizeof a) != 0, "the fork went another way");
    cr_assert_eq(s->table[0].blocks[0], fork->table[0].blocks[0], "a full block stays shared");
    cr_assert_neq(s->table[0].blocks[1], fork->table[0].blocks[1], "the block that both wrote into was copied");
    ingot_session_close(s);
    ingot_session_close(fork);
    ingot_session_close(other);
    cr_assert_eq(f.engine->pool.free_count[0], f.engine->pool.blocks[0], "every block came back");
    stop(&f);
}

static void six_at_once(const char *model, bool deterministic)
{
    /* prompts shorter than what takes another arithmetic, longer, and of several pieces whose last is short, so that pieces
     * cut elsewhere would show; one wants all its logits */
    static const struct {
        int length, chunk;
        bool logprobs;
    } prompts[6] = {{3, 0, false}, {2 * PIECE + 3, 0, false}, {17, 5, false}, {2 * PIECE_WANTED + 4, 0, true}, {PIECE + 2, 0, false}, {40, 9, false}};
    struct fixture f = start_with(model, (struct ingot_engine_options){.parallel = 6, .context = 2048, .deterministic = deterministic});
    struct answer alone[6];
    struct ingot_session *s[6];
    struct ingot_request *r[6];
    for (int i = 0; i < 6; i++) {
        s[i] = session(&f, i, prompts[i].length);
        alone[i] = answered(watched(&f, s[i], prompts[i].chunk, prompts[i].logprobs));
        ingot_session_close(s[i]);
    }
    for (int round = 0; round < 3; round++) { /* others come first each time */
        for (int k = 0; k < 6; k++)
            s[k] = session(&f, k, prompts[k].length);
        for (int k = 0, i = 0; k < 6; k++, i = (i + 5) % 6)
            r[(i + 2 * round) % 6] = watched(&f, s[(i + 2 * round) % 6], prompts[(i + 2 * round) % 6].chunk, prompts[(i + 2 * round) % 6].logprobs);
        for (int i = 0; i < 6; i++) {
            struct answer together = answered(r[i]);
            cr_assert(memcmp(&alone[i], &together, sizeof together) == 0, "request %d, round %d", i, round);
            ingot_session_close(s[i]);
        }
    }
    stop(&f);
}

Test(session, six_at_once_get_what_one_gets) { six_at_once("plain", false); }

Test(session, six_at_once_get_what_one_gets_deterministic) { six_at_once("plain", true); }

Test(session, six_at_once_get_what_one_gets_recurrent) { six_at_once("hybrid", false); }

/* A step has two whole pieces of a prompt where nobody waits for an answer; what comes of it is what comes of each alone. */
static void pieces_together(const char *model)
{
    struct fixture f = start_with(model, (struct ingot_engine_options){.parallel = 1, .context = 2048});
    static const int lengths[] = {2 * PIECE, 2 * PIECE + 40, 3 * PIECE + 3, 4 * PIECE + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct answer answer[2];
        for (int k = 0; k < 2; k++) {
            struct ingot_session *one = session(&f, 1, lengths[i]);
            answer[k] = answered(watched(&f, one, k ? PIECE : 0, false));
            ingot_session_close(one);
        }
        cr_assert(memcmp(&answer[0], &answer[1], sizeof answer[0]) == 0, "%s, %d tokens", model, lengths[i]);
    }
    stop(&f);
}

Test(session, pieces_together_are_pieces_alone)
{
    pieces_together("plain");
    pieces_together("hybrid");
}

Test(session, more_requests_than_places_wait_their_turn)
{
    struct fixture f = start("plain", 2);
    struct ingot_session *s[8];
    struct ingot_request *r[8];
    int32_t out[8];
    for (int i = 0; i < 8; i++) {
        s[i] = session(&f, i, 6);
        r[i] = request(&f, s[i], 8);
    }
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(collect(r[i], out), 8);
        ingot_session_close(s[i]);
    }
    stop(&f);
}

Test(session, a_cancel_ends_within_one_token)
{
    struct fixture f = start("plain", 1);
    struct ingot_session *s = session(&f, 0, 4);
    struct ingot_request *r = request(&f, s, 50);
    struct ingot_event e;
    cr_assert(ingot_request_next(r, -1, &e));
    ingot_request_cancel(r);
    int more = 0;
    enum ingot_finish finish = INGOT_FINISH_STOP;
    while (ingot_request_next(r, -1, &e)) {
        more += e.kind == INGOT_EVENT_TOKEN;
        finish = e.finish;
    }
    cr_assert(more < 50 && (finish == INGOT_FINISH_CANCELLED || finish == INGOT_FINISH_LENGTH));
    ingot_request_free(r);
    ingot_session_close(s);
    stop(&f);
}

Test(session, limits_are_told_with_both_counts)
{
    struct fixture f = start("plain", 1);
    struct ingot_error err;
    struct ingot_session *s;
    int32_t ids[100] = {0}, bad = 300;
    ingot_session_open(&s, f.engine, &err);
    cr_assert_eq(ingot_session_append(s, ids, 100, &err), INGOT_NO_ROOM);
    cr_assert(strstr(err.text, "100") && strstr(err.text, "64"), "%s", err.text);
    cr_assert_eq(ingot_session_append(s, &bad, 1, &err), INGOT_USAGE);
    cr_assert(strstr(err.text, "300"), "%s", err.text);
    struct ingot_request *r;
    struct ingot_request_options o;
    ingot_request_defaults(f.model, &o);
    cr_assert_eq(ingot_request_start(&r, s, &o, &err), INGOT_USAGE, "an empty prompt");
    int32_t out[64];
    cr_assert_eq(ingot_session_append(s, ids, 60, &err), INGOT_OK);
    cr_assert_eq(greedy(&f, s, 50, out), 4, "the context ends the answer");
    ingot_session_close(s);
    stop(&f);
}

Test(session, saved_and_loaded)
{
    struct fixture f = start("llama3", 2);
    struct ingot_error err;
    int32_t a[10], b[10];
    char path[700];
    struct ingot_session *s = session(&f, 0, 19), *loaded;
    snprintf(path, sizeof path, "%s/session", f.folder);
    greedy(&f, s, 5, a);
    cr_assert_eq(ingot_session_save(s, path, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(ingot_session_load(&loaded, f.engine, path, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(loaded->cached, s->cached, "the state came along");
    greedy(&f, s, 10, a);
    greedy(&f, loaded, 10, b);
    cr_assert(memcmp(a, b, sizeof a) == 0, "both go on alike");
    ingot_session_close(loaded);
    /* any flipped bit is found */
    int fd = open(path, O_RDWR);
    off_t size = lseek(fd, 0, SEEK_END);
    for (off_t at = 0; at < size; at += size / 23 + 1) {
        unsigned char byte, flipped;
        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        flipped = byte ^ 0x10;
        cr_assert_eq(pwrite(fd, &flipped, 1, at), 1);
        cr_assert_eq(ingot_session_load(&loaded, f.engine, path, &err), INGOT_BAD_INPUT, "bit flipped at %ld", (long)at);
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    }
    cr_assert_eq(ftruncate(fd, size - 1), 0);
    cr_assert_eq(ingot_session_load(&loaded, f.engine, path, &err), INGOT_BAD_INPUT);
    close(fd);
    ingot_session_close(s);
    /* another model's session is refused */
    s = session(&f, 0, 3);
    cr_assert_eq(ingot_session_save(s, path, &err), INGOT_OK);
    struct fixture other = start("linear", 1);
    cr_assert_eq(ingot_session_load(&loaded, other.engine, path, &err), INGOT_BAD_INPUT);
    cr_assert(strstr(err.text, "another model"), "%s", err.text);
    stop(&other);
    ingot_session_close(s);
    stop(&f);
}

/* Every type of K and V: the state is saved, and what is loaded has the same bytes. */
Test(session, saved_and_loaded_with_every_kv_type)
{
    static const char *const kv[] = {"f16", "bf16", "fp8", "q8_0", "q4_0", "q8_0,q4_0", "f32,fp8"};
    for (size_t k = 0; k < sizeof kv / sizeof *kv; k++) {
        struct fixture f = start_with("llama3", (struct ingot_engine_options){.parallel = 2, .deterministic = true, .kv = kv[k]});
        struct ingot_error err;
        int32_t a[10], b[10];
        char path[700];
        struct ingot_session *s = session(&f, 0, 19), *loaded;
        snprintf(path, sizeof path, "%s/session", f.folder);
        greedy(&f, s, 5, a);
        cr_assert_eq(ingot_session_save(s, path, &err), INGOT_OK, "%s", err.text);
        cr_assert_eq(ingot_session_load(&loaded, f.engine, path, &err), INGOT_OK, "%s", err.text);
        cr_assert_eq(loaded->cached, s->cached, "KV %s: the state came along", kv[k]);
        static float values[2][1 << 14];
        for (int64_t t = 0; t < s->cached; t++) {
            const struct ingot_engine *e = f.engine;
            memset(values, 0, sizeof values);
            for (int i = 0; i < 2; i++)
                e->backend->read_state(e->compiled, &e->pool.memory, 0, (i ? loaded : s)->table[0].blocks[t / BLOCK_TOKENS], (int)(t % BLOCK_TOKENS), 1, values[i], NULL);
            cr_assert(memcmp(values[0], values[1], sizeof values[0]) == 0, "KV %s: token %d came back otherwise", kv[k], (int)t);
        }
        greedy(&f, s, 10, a);
        greedy(&f, loaded, 10, b);
        cr_assert(memcmp(a, b, sizeof a) == 0, "KV %s: both go on alike", kv[k]);
        ingot_session_close(loaded);
        ingot_session_close(s);
        stop(&f);
    }
}

Test(session, another_kv_type_recomputes)
{
    struct fixture f = start("plain", 1);
    struct ingot_error err;
    char path[700];
    snprintf(path, sizeof path, "%s/session", f.folder);
    int32_t a[6], b[6];
    struct ingot_session *s = session(&f, 0, 12), *loaded;
    greedy(&f, s, 0, a);
    cr_assert_eq(ingot_session_save(s, path, &err), INGOT_OK);
    greedy(&f, s, 6, a);
    ingot_session_close(s);
    struct ingot_engine *half;
    cr_assert_eq(ingot_engine_open(&half, f.model, &(struct ingot_engine_options){.kv = "f16"}, &err), INGOT_OK);
    cr_assert_eq(ingot_session_load(&loaded, half, path, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(loaded->cached, 0);
    struct ingot_request *r = request(&(struct fixture){.model = f.model}, loaded, 6);
    cr_assert_eq(collect(r, b), 6);
    ingot_session_close(loaded);
    ingot_engine_close(half);
    stop(&f);
}

static void *hammer(void *context)
{
    struct fixture *f = context;
    int32_t out[6];
    for (int i = 0; i < 4; i++) {
        struct ingot_session *s = session(f, i, 8);
        cr_assert_eq(greedy(f, s, 6, out), 6);
        ingot_session_close(s);
    }
    return NULL;
}

Test(session, threads_share_an_engine)
{
    struct fixture f = start("plain", 3);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, hammer, &f);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(f.engine->pool.free_count[0], f.engine->pool.blocks[0]);
    cr_assert_eq(f.engine->pool.reserved, 0);
    stop(&f);
}

Test(session, damaged_weights_end_the_request)
{
    struct fixture f = {.folder = tiny_make("plain")};
    char path[700];
    struct ingot_error err;
    snprintf(path, sizeof path, "%s/model.safetensors", f.folder);
    int fd = open(path, O_RDWR);
    float nan[48];
    for (int i = 0; i < 48; i++)
        nan[i] = NAN;
    cr_assert_eq(pwrite(fd, nan, sizeof nan, lseek(fd, 0, SEEK_END) - (off_t)sizeof nan), (ssize_t)sizeof nan); /* the last norm */
    close(fd);
    cr_assert_eq(ingot_model_open(&f.model, f.folder, NULL, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(ingot_engine_open(&f.engine, f.model, NULL, &err), INGOT_OK, "%s", err.text);
    struct ingot_session *s = session(&f, 0, 4);
    struct ingot_request *r = request(&f, s, 4);
    struct ingot_event e;
    cr_assert(ingot_request_next(r, -1, &e));
    cr_assert_eq(e.kind, INGOT_EVENT_ERROR);
    cr_assert(strstr(e.error->text, "not numbers"), "%s", e.error->text);
    ingot_request_free(r);
    ingot_session_close(s);
    stop(&f);
}

Test(session, a_file_that_shrinks_ends_the_request_not_the_process)
{
    struct fixture f = start("plain", 1);
    char path[700];
    snprintf(path, sizeof path, "%s/model.safetensors", f.folder);
    cr_assert_eq(truncate(path, 4096), 0);
    struct ingot_session *s = session(&f, 0, 4);
    struct ingot_request *r = request(&f, s, 4);
    struct ingot_event e;
    cr_assert(ingot_request_next(r, -1, &e));
    cr_assert_eq(e.kind, INGOT_EVENT_ERROR);
    cr_assert(strstr(e.error->text, "model.safetensors"), "%s", e.error->text);
    ingot_request_free(r);
    ingot_session_close(s);
    stop(&f);
}

Test(session, memory_is_planned_before_anything_is_taken)
{
    struct fixture f = start("plain", 1);
    struct ingot_error err;
    struct ingot_engine *e;
    struct ingot_engine_options o = {.context = 1 << 20, .memory = 64 << 20};
    struct ingot_plan plan;
    cr_assert_eq(ingot_plan_make(f.model, &o, &plan, &err), INGOT_OK, "%s", err.text);
    cr_assert(!plan.fits && plan.advice_count > 0);
    cr_assert_eq(ingot_engine_open(&e, f.model, &o, &err), INGOT_NO_ROOM);
    cr_assert(strstr(err.text, plan.advice[0]), "the same advice as plan: %s", err.text);
    cr_assert(strstr(err.text, "--context"), "%s", err.text);
    stop(&f);
}

Test(session, closing_ends_what_still_runs)
{
    struct fixture f = start("plain", 2);
    for (int i = 0; i < 20; i++) {
        struct ingot_session *s = session(&f, 0, 40);
        struct ingot_request *r = request(&f, s, 400);
        struct ingot_event e;
        if (i % 2) /* in the queue, in a prompt, in an answer */
            ingot_request_next(r, -1, &e);
        struct ingot_session *copy;
        if (s->active) {
            struct ingot_error err;
            cr_assert_eq(ingot_session_fork(&copy, s, &err), INGOT_USAGE);
        }
        ingot_session_close(s);
        bool done = false;
        while (ingot_request_next(r, -1, &e))
            done = e.kind == INGOT_EVENT_DONE; /* cancelled, or just at its end */
        cr_assert(done);
        ingot_request_free(r);
    }
    cr_assert_eq(f.engine->pool.free_count[0], f.engine->pool.blocks[0]);
    stop(&f);
}
