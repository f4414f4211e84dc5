/* A tiny model with an engine, and requests whose answers are compared bit by bit. */
#ifndef TESTS_UNIT_RUNTIME_FIXTURE_H
#define TESTS_UNIT_RUNTIME_FIXTURE_H

#include <criterion/criterion.h>

#include "runtime/engine/engine.h"
#include "tests/tiny_model.h"

struct fixture {
    char *folder;
    struct ingot_model *model;
    struct ingot_engine *engine;
};

static inline struct fixture start_with(const char *name, struct ingot_engine_options o)
{
    struct fixture f = {.folder = tiny_make(name)};
    struct ingot_error err;
    cr_assert_eq(ingot_model_open(&f.model, f.folder, NULL, &err), INGOT_OK, "%s", err.text);
    o.threads = 2;
    o.kv = o.kv ? o.kv : "f32";
    cr_assert_eq(ingot_engine_open(&f.engine, f.model, &o, &err), INGOT_OK, "%s", err.text);
    return f;
}

/* For tests that compare what one piece of a prompt gives with what several give. */
static inline struct fixture start(const char *name, int parallel)
{
    return start_with(name, (struct ingot_engine_options){.parallel = parallel, .deterministic = true});
}

static inline void stop(struct fixture *f)
{
    ingot_engine_close(f->engine);
    ingot_model_close(f->model);
    tiny_remove(f->folder);
}

static inline struct ingot_session *session(struct fixture *f, int first, int count)
{
    struct ingot_session *s;
    struct ingot_error err;
    cr_assert_eq(ingot_session_open(&s, f->engine, &err), INGOT_OK);
    for (int i = first; i < first + count; i++) {
        int32_t id = (i * 37 + 11) % 256;
        cr_assert_eq(ingot_session_append(s, &id, 1, &err), INGOT_OK, "%s", err.text);
    }
    return s;
}

static inline struct ingot_request *request(struct fixture *f, struct ingot_session *s, int tokens)
{
    struct ingot_request *r;
    struct ingot_request_options o;
    struct ingot_error err;
    ingot_request_defaults(f->model, &o);
    o.sampling.temperature = 0;
    o.max_tokens = tokens;
    o.ignore_end = true;
    cr_assert_eq(ingot_request_start(&r, s, &o, &err), INGOT_OK, "%s", err.text);
    return r;
}

/* Greedy tokens to the end; returns how many. */
static inline int collect(struct ingot_request *r, int32_t *out)
{
    struct ingot_event e;
    int n = 0;
    while (ingot_request_next(r, -1, &e)) {
        cr_assert(e.kind != INGOT_EVENT_ERROR, "%s", e.error->text);
        if (e.kind == INGOT_EVENT_TOKEN)
            out[n++] = e.token;
    }
    ingot_request_free(r);
    return n;
}

static inline int greedy(struct fixture *f, struct ingot_session *s, int tokens, int32_t *out) { return collect(request(f, s, tokens), out); }

/* Tokens and the bits of their log probabilities: two answers may read alike and still differ. */
struct answer {
    int32_t tokens[24];
    float logprobs[24], prompt[24];
};

static inline struct ingot_request *watched(struct fixture *f, struct ingot_session *s, int chunk, bool prompt_logprobs)
{
    struct ingot_request *r;
    struct ingot_request_options o;
    struct ingot_error err;
    ingot_request_defaults(f->model, &o);
    o.sampling.temperature = 0;
    o.max_tokens = 24;
    o.ignore_end = true;
    o.top_logprobs = 0;
    o.chunk = chunk;
    o.prompt_logprobs = prompt_logprobs;
    cr_assert_eq(ingot_request_start(&r, s, &o, &err), INGOT_OK, "%s", err.text);
    return r;
}

static inline struct answer answered(struct ingot_request *r)
{
    struct answer a;
    struct ingot_event e;
    int n = 0, prompt = 0;
    memset(&a, 0, sizeof a);
    while (ingot_request_next(r, -1, &e)) {
        cr_assert(e.kind != INGOT_EVENT_ERROR, "%s", e.error->text);
        if (e.kind == INGOT_EVENT_TOKEN) {
            a.tokens[n] = e.token;
            a.logprobs[n++] = e.logprob;
        } else if (e.kind == INGOT_EVENT_PROMPT_TOKEN) {
            a.prompt[prompt++ % 24] += e.logprob;
        }
    }
    ingot_request_free(r);
    cr_assert_eq(n, 24);
    return a;
}

#endif
