/* What steers an answer beside its sampler: a grammar that it is held to, a budget for its reasoning. */
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine.h"

enum status request_hold(struct ingot_request *r, const struct ingot_grammar *grammar, struct error *err)
{
    enum status status = model_vocabulary(r->engine->model, &r->vocabulary, err);
    if (!status)
        status = grammar_state_open(&r->grammar, (struct grammar *)grammar, err); /* which keeps the grammar */
    if (status)
        return status;
    r->sampler.allowed_words = grammar_vocabulary_words(r->vocabulary);
    r->sampler.allowed = r->allowed = calloc(r->sampler.allowed_words + 1, sizeof *r->allowed);
    return r->allowed ? STATUS_OK : error_memory(err, "a mask");
}

/* Does the answer stand in its reasoning? Grammars begin behind it. */
static const char *reasoning(const struct ingot_request *r) { return r->options.chat ? output_reasoning(r->parts.output) : NULL; }

/* Before a grammar's first byte: reasoning may be opened, and what stands between it and the answer is white space. */
static bool is_prelude(const struct ingot_request *r, int32_t token)
{
    struct str text = {0};
    if (r->constrained || !r->options.chat)
        return false;
    if (!r->thought)
        return token == r->options.chat->think;
    tokenizer_bytes(r->engine->model->tokenizer, token, &text);
    bool blank = text.size > 0 && text.size < 3 && strspn(str_text(&text), "\n") == text.size;
    str_free(&text);
    return blank;
}

static void allow_prelude(struct ingot_request *r)
{
    static const char *const blanks[] = {"\n", "\n\n", "Ċ", "ĊĊ"}; /* the latter as byte-level vocabularies spell them */
    int32_t ids[5] = {r->options.chat ? r->options.chat->think : -1, -1, -1, -1, -1};
    for (size_t i = 0; i < sizeof blanks / sizeof *blanks && r->thought; i++)
        ids[i + 1] = tokenizer_find(r->engine->model->tokenizer, blanks[i], strlen(blanks[i]));
    for (int i = 0; i < 5; i++)
        if (ids[i] >= 0 && is_prelude(r, ids[i]))
            r->allowed[ids[i] / 32] |= 1u << ids[i] % 32;
}

enum status request_constrain(struct ingot_request *r, struct error *err)
{
    r->sampler.allowed = r->grammar && !reasoning(r) ? r->allowed : NULL;
    if (!r->sampler.allowed)
        return STATUS_OK;
    enum status status = grammar_mask(r->grammar, r->vocabulary, r->allowed, err);
    if (!status && !r->constrained)
        allow_prelude(r);
    for (size_t i = 0; i < r->sampler.allowed_words && !status; i++)
        if (r->allowed[i])
            return STATUS_OK;
    return status ? status : error_set(err, STATUS_FAILED, "no token of this model can continue what the grammar asks for");
}

enum status request_follow(struct ingot_request *r, int32_t token, struct error *err)
{
    r->thought += reasoning(r) != NULL;
    if (!r->sampler.allowed)
        return STATUS_OK;
    enum status status = grammar_accept_token(r->grammar, r->vocabulary, token, err);
    if (status == STATUS_USAGE && is_prelude(r, token))
        return STATUS_OK;
    r->constrained = true;
    if (!status && r->options.chat && r->options.chat->released && grammar_ended(r->grammar)) {
        grammar_state_close(r->grammar);
        r->grammar = NULL;
    }
    return status;
}

int32_t request_forced(struct ingot_request *r)
{
    if (r->forced_at < r->forced.count)
        return r->forced.data[r->forced_at++];
    const char *close = reasoning(r);
    int64_t budget = r->options.chat ? r->options.chat->thinking_budget : -1;
    /* not inside a character: the next tokens complete it */
    if (!close || budget < 0 || r->thought < budget || r->detokenizer.pending.size)
        return -1;
    struct error ignored;
    r->forced.count = r->forced_at = 0;
    if (tokenizer_encode(r->engine->model->tokenizer, close, strlen(close), (struct encode_options){.parse_special = true}, &r->forced, &ignored))
        return -1;
    return r->forced.count ? r->forced.data[r->forced_at++] : -1;
}
