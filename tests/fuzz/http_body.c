/* Any bytes as the body of a completion request, against a tiny model: a request that is understood, or an error that names
 * what is wrong. The first byte chooses the endpoint. */
#include "base/log.h"
#include "runtime/serve/serve.h"
#include "tests/tiny_model.h"

static struct ingot_model *model;

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct error err = {0};
    if (!model) {
        char *folder = tiny_make("plain");
        log_set_level(LOG_QUIET);
        if (ingot_model_open(&model, folder, NULL, (struct ingot_error *)&err))
            abort();
        tiny_remove(folder);
    }
    if (!size)
        return 0;
    struct arena arena = {0};
    struct json body;
    struct json_options options = {.depth = 100};
    if (!json_parse(&arena, (const char *)data + 1, size - 1, &options, &body, &err) && body.kind == JSON_OBJECT) {
        struct ask ask = {0};
        const char *param = NULL;
        if (ask_read(&ask, &arena, &body, data[0] & 1, model, &(struct ingot_chat_options){0}, &param, &err)) {
            if (!err.text[0])
                abort();
        } else if (ask.prompt_count < 1 || ask.n < 1 || ask.n > MAX_CHOICES || ask.options.stop_count > MAX_STOPS) {
            abort();
        }
        ask_free(&ask);
    }
    arena_free(&arena);
    return 0;
}
