/* cc embed.c $(pkg-config --cflags --libs ingot) -o embed && ./embed default "Once upon a time" */
#include <ingot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct ingot_error err;
    struct ingot_model *model;
    struct ingot_engine *engine;
    struct ingot_session *session;
    struct ingot_request *request;
    struct ingot_request_options options;
    struct ingot_event event;
    int32_t *ids = NULL;
    size_t count = 0;
    if (argc < 3 || ingot_model_open(&model, argv[1], NULL, &err) || ingot_engine_open(&engine, model, NULL, &err) ||
        ingot_tokenize(model, argv[2], strlen(argv[2]), true, false, &ids, &count, &err) || ingot_session_open(&session, engine, &err) ||
        ingot_session_append(session, ids, count, &err) || (ingot_request_defaults(model, &options), options.max_tokens = 32, 0) ||
        ingot_request_start(&request, session, &options, &err))
        return fprintf(stderr, "%s\n", argc < 3 ? "usage: embed MODEL PROMPT" : err.text), 1;
    while (ingot_request_next(request, -1, &event))
        fwrite(event.text, 1, event.size, stdout);
    ingot_request_free(request), ingot_session_close(session), ingot_engine_close(engine), ingot_model_close(model), free(ids);
    return putchar('\n') == EOF;
}
