/* Sessions of a model that mixes recurrent layers and attention: rewinding, forking, saving, and slots that run out. What a session
 * has computed never shows in what comes out. */
#include "fixture.h"

static int free_slots(const struct fixture *f)
{
    const struct pool *p = &f->engine->pool;
    for (int g = 0; g < p->group_count; g++)
        if (p->recurrent[g])
            return p->free_count[g];
    return -1;
}

static int all_slots(const struct fixture *f)
{
    const struct pool *p = &f->engine->pool;
    for (int g = 0; g < p->group_count; g++)
        if (p->recurrent[g])
            return p->blocks[g];
    return -1;
}

/* What a fresh session with these tokens goes on with. */
static void fresh(struct fixture *f, const int32_t *tokens, size_t count, int more, int32_t *out)
{
    struct ingot_session *s;
    struct ingot_error err;
    cr_assert_eq(ingot_session_open(&s, f->engine, &err), INGOT_OK);
    cr_assert_eq(ingot_session_append(s, tokens, count, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(greedy(f, s, more, out), more);
    ingot_session_close(s);
}

Test(marks, rewind_goes_to_the_nearest_and_on_as_fresh)
{
    struct fixture f = start_with("hybrid", (struct ingot_engine_options){.parallel = 3, .context = 4096, .deterministic = true});
    struct ingot_session *s = session(&f, 0, 2600);
    int32_t out[8], expected[8], copy[2604];
    size_t count;
    greedy(&f, s, 4, out);
    memcpy(copy, ingot_session_tokens(s, &count), sizeof copy);
    cr_assert_eq(count, 2604);
    const struct {
        size_t to;
        int64_t cached;
    } rewinds[] = {{2601, 2599}, {2599, 2599}, {2200, 2048}, {2048, 2048}, {1500, 1024}, {1000, 0}};
    for (size_t i = 0; i < sizeof rewinds / sizeof *rewinds; i++) {
        cr_assert_eq(ingot_session_rewind(s, rewinds[i].to), rewinds[i].to, "tokens are cut anywhere");
        cr_assert_eq(s->cached, rewinds[i].cached, "rewind to %zu: %lld", rewinds[i].to, (long long)s->cached);
        cr_assert_eq(s->mark_count ? s->marks[s->mark_count - 1].at : 0, s->cached);
        struct ingot_session *fork; /* the rewound one stays as it is */
        struct ingot_error err;
        cr_assert_eq(ingot_session_fork(&fork, s, &err), INGOT_OK, "%s", err.text);
        cr_assert_eq(greedy(&f, fork, 8, out), 8);
        fresh(&f, copy, rewinds[i].to, 8, expected);
        cr_assert(memcmp(out, expected, sizeof out) == 0, "rewind to %zu", rewinds[i].to);
        ingot_session_close(fork);
    }
    ingot_session_close(s);
    cr_assert_eq(free_slots(&f), all_slots(&f), "every slot came back");
    stop(&f);
}

Test(marks, one_more_turn_starts_where_the_last_ended)
{
    struct fixture f = start_with("hybrid", (struct ingot_engine_options){.parallel = 1, .context = 1024, .deterministic = true});
    struct ingot_session *s = session(&f, 0, 100);
    struct ingot_error err;
    int32_t out[20], again[20], turn[30];
    greedy(&f, s, 20, out);
    cr_assert_eq(s->cached, 119);
    for (int i = 0; i < 30; i++)
        turn[i] = (i * 7 + 3) % 250;
    cr_assert_eq(ingot_session_append(s, turn, 30, &err), INGOT_OK);
    struct ingot_request *r = request(&f, s, 4);
    struct ingot_event e;
    while (ingot_request_next(r, -1, &e))
        if (e.kind == INGOT_EVENT_DONE)
            cr_assert_eq(e.reused_tokens, 119, "%zu", e.reused_tokens);
    ingot_request_free(r);
    /* back to the end of the first turn, and another answer to it: the last token of its prompt alone is computed again */
    cr_assert_eq(ingot_session_rewind(s, 119), 119);
    cr_assert_eq(s->cached, 119);
    cr_assert_eq(ingot_session_rewind(s, 100), 100);
    cr_assert_eq(s->cached, 99);
    cr_assert_eq(greedy(&f, s, 20, again), 20);
    cr_assert(memcmp(out, again, sizeof out) == 0);
    ingot_session_close(s);
    stop(&f);
}

Test(marks, marks_stay_in_front_of_what_asks_for_an_answer)
{
    struct fixture f = start_with("hybrid", (struct ingot_engine_options){.parallel = 1, .context = 1024, .deterministic = true});
    struct ingot_session *s = session(&f, 0, 90), *other;
    struct ingot_error err;
    int32_t out[4], expected[4], end = 257, tail[] = {256, 97, 98};
    cr_assert_eq(ingot_session_append(s, &end, 1, &err), INGOT_OK);
    cr_assert_eq(ingot_session_append(s, tail, 3, &err), INGOT_OK);
    greedy(&f, s, 4, expected);
    cr_assert_eq(ingot_session_rewind(s, 92), 92); /* the next prompt has another tail */
    cr_assert_eq(s->cached, 91);
    cr_assert_eq(ingot_session_fork(&other, s, &err), INGOT_OK);
    cr_assert_eq(ingot_session_rewind(other, 91), 91);
    cr_assert_eq(ingot_session_append(other, tail, 3, &err), INGOT_OK);
    cr_assert_eq(greedy(&f, other, 4, out), 4);
    cr_assert(memcmp(out, expected, sizeof out) == 0);
    ingot_session_close(s);
    ingot_session_close(other);
    stop(&f);
}

Test(marks, forks_share_and_part)
{
    struct fixture f = start_with("hybrid", (struct ingot_engine_options){.parallel = 2, .context = 512, .deterministic = true});
    struct ingot_session *s = session(&f, 0, 40), *fork;
    struct ingot_error err;
    int32_t a[10], b[10], expected[10], other[41], id = 5;
    size_t count;
    greedy(&f, s, 0, a);
    int before = free_slots(&f);
    cr_assert_eq(ingot_session_fork(&fork, s, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(free_slots(&f), before, "a fork takes no slot");
    ingot_session_close(fork);
    cr_assert_eq(free_slots(&f), before, "and gives none back that the original has");
    cr_assert_eq(ingot_session_fork(&fork, s, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(ingot_session_append(fork, &id, 1, &err), INGOT_OK);
    memcpy(other, ingot_session_tokens(fork, &count), sizeof other);
    struct ingot_request *one = request(&f, s, 10), *two = request(&f, fork, 10);
    cr_assert_eq(collect(one, a), 10);
    cr_assert_eq(collect(two, b), 10);
    fresh(&f, other, 40, 10, expected);
    cr_assert(memcmp(a, expected, sizeof a) == 0, "the original goes on as if alone");
    fresh(&f, other, 41, 10, expected);
    cr_assert(memcmp(b, expected, sizeof b) == 0, "so does the fork");
    ingot_session_close(s);
    ingot_session_close(fork);
    cr_assert_eq(free_slots(&f), all_slots(&f), "every slot came back");
    stop(&f);
}

Test(marks, saved_and_loaded)
{
    struct fixture f = start_with("hybrid", (struct ingot_engine_options){.parallel = 1, .context = 512, .deterministic = true});
    struct ingot_session *s = session(&f, 0, 100), *loaded;
    struct ingot_error err;
    int32_t a[9], b[9];
    char path[700];
    snprintf(path, sizeof path, "%s/session", f.folder);
    greedy(&f, s, 5, a);
    cr_assert_gt(s->mark_count, 1, "the last is what counts");
    cr_assert_eq(ingot_session_save(s, path, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(ingot_session_load(&loaded, f.engine, path, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(loaded->cached, s->cached);
    cr_assert_eq(greedy(&f, s, 9, a), 9);
    cr_assert_eq(greedy(&f, loaded, 9, b), 9);
    cr_assert(memcmp(a, b, sizeof a) == 0);
    ingot_session_close(s);
    ingot_session_close(loaded);
    s = session(&f, 0, 7); /* nothing computed yet: no state in the file */
    cr_assert_eq(ingot_session_save(s, path, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(ingot_session_load(&loaded, f.engine, path, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(loaded->cached, 0);
    ingot_session_close(s);
    ingot_session_close(loaded);
    stop(&f);
}

/* More sessions than there are slots: those at rest give theirs up, the oldest first, and compute again. */
Test(marks, sessions_at_rest_give_slots_up)
{
    enum { SESSIONS = 12 };
    struct fixture f = start_with("hybrid", (struct ingot_engine_options){.parallel = 1, .context = 2048, .deterministic = true});
    struct ingot_session *s[SESSIONS];
    int32_t out[6], expected[6];
    cr_assert_lt(all_slots(&f), SESSIONS);
    for (int i = 0; i < SESSIONS; i++) {
        s[i] = session(&f, i, 30 + i);
        cr_assert_eq(greedy(&f, s[i], 6, out), 6);
    }
    cr_assert_eq(s[0]->cached, 0, "the oldest gave its state up");
    cr_assert_eq(s[0]->mark_count, 0);
    cr_assert_gt(s[SESSIONS - 1]->cached, 0);
    for (int i = 0; i < SESSIONS; i++) {
        size_t count;
        const int32_t *tokens = ingot_session_tokens(s[i], &count);
        fresh(&f, tokens, count, 6, expected);
        cr_assert_eq(greedy(&f, s[i], 6, out), 6);
        cr_assert(memcmp(out, expected, sizeof out) == 0, "session %d", i);
    }
    for (int i = 0; i < SESSIONS; i++)
        ingot_session_close(s[i]);
    cr_assert_eq(free_slots(&f), all_slots(&f), "every slot came back");
    stop(&f);
}

/* Many requests in the queue, more than slots, whose sessions already have some state. */
Test(marks, requests_that_wait_may_lose_their_state)
{
    enum { SESSIONS = 12 };
    struct fixture f = start_with("hybrid", (struct ingot_engine_options){.parallel = 2, .context = 2048, .deterministic = true});
    struct ingot_session *s[SESSIONS];
    struct ingot_request *r[SESSIONS];
    int32_t out[SESSIONS][6], expected[6], tokens[SESSIONS][40];
    for (int i = 0; i < SESSIONS; i++) {
        size_t count;
        s[i] = session(&f, i, 20 + i);
        greedy(&f, s[i], 3, out[i]);
        memcpy(tokens[i], ingot_session_tokens(s[i], &count), (size_t)(23 + i) * sizeof **tokens);
    }
    for (int i = 0; i < SESSIONS; i++)
        r[i] = request(&f, s[i], 6);
    for (int i = 0; i < SESSIONS; i++)
        cr_assert_eq(collect(r[i], out[i]), 6);
    for (int i = 0; i < SESSIONS; i++) {
        ingot_session_close(s[i]);
        fresh(&f, tokens[i], (size_t)(23 + i), 6, expected);
        cr_assert(memcmp(out[i], expected, sizeof expected) == 0, "session %d", i);
    }
    cr_assert_eq(free_slots(&f), all_slots(&f), "every slot came back");
    stop(&f);
}

/* A session keeps a bounded number of marks, spread over its length. */
Test(marks, long_sessions_thin_theirs_out)
{
    struct fixture f = start_with("hybrid", (struct ingot_engine_options){.parallel = 4, .context = 16384, .deterministic = true});
    struct ingot_session *s = session(&f, 0, 14000);
    int32_t out[2];
    greedy(&f, s, 2, out);
    cr_assert_leq(s->mark_count, MARKS_MOST);
    cr_assert_geq(s->mark_count, MARKS_MOST - 1);
    for (int i = 1; i < s->mark_count; i++) {
        cr_assert_gt(s->marks[i].at, s->marks[i - 1].at);
        cr_assert_leq(s->marks[i].at - s->marks[i - 1].at, 6 * MARK_EVERY, "%lld", (long long)s->marks[i].at);
    }
    ingot_session_close(s);
    stop(&f);
}
