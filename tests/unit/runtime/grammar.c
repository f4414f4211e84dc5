/* Answers under a grammar on a tiny model, whose tokens are bytes: every answer that ended is a text of the grammar. */
#include <criterion/criterion.h>

#include "runtime/engine/engine.h"
#include "tests/tiny_model.h"

static const char schema[] = "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\", \"maxLength\": 4}, \"b\": {\"enum\": [1, null, \"x\"]}},"
                             "\"required\": [\"b\"], \"additionalProperties\": false}";

struct fixture {
    char *folder;
    struct ingot_model *model;
    struct ingot_engine *engine;
    struct ingot_grammar *grammar;
};

static struct fixture start(const char *text)
{
    struct fixture f = {.folder = tiny_make("plain")};
    struct ingot_error err;
    cr_assert_eq(ingot_model_open(&f.model, f.folder, NULL, &err), INGOT_OK, "%s", err.text);
    cr_assert_eq(ingot_engine_open(&f.engine, f.model, &(struct ingot_engine_options){.parallel = 8, .threads = 1}, &err), INGOT_OK, "%s", err.text);
    enum ingot_status status = text[0] == '{' ? ingot_grammar_open_schema(&f.grammar, text, strlen(text), &err)
                                              : ingot_grammar_open_regex(&f.grammar, text, strlen(text), &err);
    cr_assert_eq(status, INGOT_OK, "%s", err.text);
    return f;
}

static void stop(struct fixture *f)
{
    ingot_grammar_close(f->grammar);
    ingot_engine_close(f->engine);
    ingot_model_close(f->model);
    tiny_remove(f->folder);
}

static struct ingot_session *session(struct fixture *f)
{
    struct ingot_session *s;
    struct ingot_error err;
    cr_assert_eq(ingot_session_open(&s, f->engine, &err), INGOT_OK);
    cr_assert_eq(ingot_session_append(s, (int32_t[]){'h', 'i'}, 2, &err), INGOT_OK);
    return s;
}

static struct ingot_request *request(struct fixture *f, struct ingot_session *s, double temperature, uint64_t seed, int tokens)
{
    struct ingot_request *r;
    struct ingot_request_options o;
    struct ingot_error err;
    ingot_request_defaults(f->model, &o);
    o.sampling.temperature = temperature;
    o.sampling.seed = seed;
    o.sampling.seeded = true;
    o.sampling.repeat_penalty = seed % 2 ? 1.3 : 1;
    o.top_logprobs = 3;
    o.max_tokens = tokens;
    o.grammar = f->grammar;
    cr_assert_eq(ingot_request_start(&r, s, &o, &err), INGOT_OK, "%s", err.text);
    return r;
}

/* The answer, into text; how it ended. */
static enum ingot_finish collect(struct ingot_request *r, struct str *text)
{
    struct ingot_event e;
    enum ingot_finish finish = INGOT_FINISH_CANCELLED;
    while (ingot_request_next(r, -1, &e)) {
        cr_assert(e.kind != INGOT_EVENT_ERROR, "%s", e.error->text);
        if (e.kind == INGOT_EVENT_TOKEN)
            cr_assert_eq(e.top_count, 3, "logprobs stay those of the model");
        str_add(text, e.text, e.size);
        finish = e.kind == INGOT_EVENT_DONE ? e.finish : finish;
    }
    ingot_request_free(r);
    return finish;
}

static bool fits(struct fixture *f, const struct str *text)
{
    struct grammar_state *s;
    struct error err;
    cr_assert_eq(grammar_state_open(&s, (struct grammar *)f->grammar, &err), STATUS_OK);
    bool whole = grammar_accept_bytes(s, str_text(text), text->size, NULL, &err) == STATUS_OK && grammar_complete(s);
    grammar_state_close(s);
    return whole;
}

Test(grammar, every_answer_fits)
{
    struct fixture f = start(schema);
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct str text = {0};
        struct ingot_session *s = session(&f);
        enum ingot_finish finish = collect(request(&f, s, seed ? 0.5 * (double)seed : 0, seed, 400), &text);
        cr_expect_eq(finish, INGOT_FINISH_STOP, "seed %d: %s", (int)seed, str_text(&text));
        cr_expect(fits(&f, &text), "seed %d: %s", (int)seed, str_text(&text));
        str_free(&text);
        ingot_session_close(s);
    }
    stop(&f);
}

Test(grammar, the_answer_ends_where_nothing_can_follow)
{
    struct fixture f = start("[ab]{3}!");
    struct str text = {0};
    struct ingot_session *s = session(&f);
    cr_expect_eq(collect(request(&f, s, 0, 0, 100), &text), INGOT_FINISH_STOP);
    size_t count;
    ingot_session_tokens(s, &count);
    cr_expect_eq(count, 6u, "no end token is asked for");
    cr_expect(fits(&f, &text), "%s", str_text(&text));
    str_free(&text);
    ingot_session_close(s);
    stop(&f);
}

Test(grammar, forks_go_their_own_ways)
{
    struct fixture f = start(schema);
    struct ingot_session *first = session(&f), *forks[6];
    struct ingot_request *requests[6];
    struct ingot_error err;
    for (int i = 0; i < 6; i++)
        cr_assert_eq(ingot_session_fork(&forks[i], first, &err), INGOT_OK, "%s", err.text);
    for (int i = 0; i < 6; i++) /* all at once, one grammar */
        requests[i] = request(&f, forks[i], 1.5, (uint64_t)i, 400);
    for (int i = 0; i < 6; i++) {
        struct str text = {0}, alone = {0};
        cr_expect_eq(collect(requests[i], &text), INGOT_FINISH_STOP);
        cr_expect(fits(&f, &text), "%s", str_text(&text));
        struct ingot_session *s = session(&f);
        collect(request(&f, s, 1.5, (uint64_t)i, 400), &alone);
        cr_expect_str_eq(str_text(&text), str_text(&alone), "the same seed, alone");
        str_free(&text);
        str_free(&alone);
        ingot_session_close(s);
        ingot_session_close(forks[i]);
    }
    ingot_session_close(first);
    stop(&f);
}

Test(grammar, errors_name_what_is_wrong)
{
    struct ingot_grammar *g;
    struct ingot_error err;
    cr_expect_eq(ingot_grammar_open_schema(&g, "{\"type\": 5}", 11, &err), INGOT_BAD_INPUT);
    cr_expect(strstr(err.text, "#/type"), "%s", err.text);
    cr_expect_eq(ingot_grammar_open_schema(&g, "{", 1, &err), INGOT_BAD_INPUT);
    cr_expect_eq(ingot_grammar_open_regex(&g, "(", 1, &err), INGOT_BAD_INPUT);
    cr_expect_eq(ingot_grammar_open_gbnf(&g, "root", 4, &err), INGOT_BAD_INPUT);
    cr_expect_eq(ingot_grammar_open_lark(&g, "start", 5, &err), INGOT_BAD_INPUT);
    cr_expect_null(g);
}
