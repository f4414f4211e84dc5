/* Whole answers, and errors as OpenAI's clients read them. */
#include <string.h>

#include "runtime/serve/serve.h"

void reply_add_origin(struct MHD_Connection *c, struct MHD_Response *r)
{
    const char *origin = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Origin");
    if (!origin)
        return;
    MHD_add_response_header(r, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(r, "Vary", "Origin");
}

bool reply_is_preflight(struct MHD_Connection *c, const char *method)
{
    return !strcmp(method, "OPTIONS") && MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Origin") &&
           MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Access-Control-Request-Method");
}

enum MHD_Result reply_preflight(struct MHD_Connection *c)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
    const char *headers = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Access-Control-Request-Headers");
    if (!r)
        return MHD_NO;
    reply_add_origin(c, r);
    MHD_add_response_header(r, "Access-Control-Allow-Methods", "GET, POST");
    if (headers)
        MHD_add_response_header(r, "Access-Control-Allow-Headers", headers);
    enum MHD_Result result = MHD_queue_response(c, MHD_HTTP_NO_CONTENT, r);
    MHD_destroy_response(r);
    return result;
}

/* allow (may be NULL): the method that would be answered. */
static enum MHD_Result reply_body(struct MHD_Connection *c, unsigned code, const char *allow, const struct str *body)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(body->size, (void *)(uintptr_t)str_text(body), MHD_RESPMEM_MUST_COPY);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type", "application/json");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (code == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
    if (code != MHD_HTTP_FORBIDDEN)
        reply_add_origin(c, r);
    if (allow)
        MHD_add_response_header(r, "Allow", allow);
    enum MHD_Result result = MHD_queue_response(c, code, r);
    MHD_destroy_response(r);
    return result;
}

enum MHD_Result reply_json(struct MHD_Connection *c, unsigned code, const struct str *body) { return reply_body(c, code, NULL, body); }

enum MHD_Result reply_method(struct MHD_Connection *c, const char *method)
{
    struct str body = {0};
    error_object(&body, 405, "method_not_allowed", NULL, "this path does not answer that method");
    enum MHD_Result result = reply_body(c, 405, !strcmp(method, "GET") ? "GET, HEAD" : method, &body);
    str_free(&body);
    return result;
}

void error_object(struct str *out, unsigned code, const char *code_name, const char *param, const char *message)
{
    const char *type = code == 401 ? "authentication_error" : code == 403 ? "permission_error" : code == 404 ? "not_found_error"
                       : code == 429 ? "rate_limit_error" : code >= 500 ? "server_error" : "invalid_request_error";
    str_add_text(out, "{\"error\": {\"message\": ");
    json_write_string(out, message, strlen(message));
    str_format(out, ", \"type\": \"%s\", \"param\": ", type);
    if (param)
        json_write_string(out, param, strlen(param));
    else
        str_add_text(out, "null");
    str_add_text(out, ", \"code\": ");
    if (code_name)
        json_write_string(out, code_name, strlen(code_name));
    else
        str_add_text(out, "null");
    str_add_text(out, "}}");
}

enum MHD_Result reply_error(struct MHD_Connection *c, unsigned code, const char *code_name, const char *param, const char *message)
{
    struct str body = {0};
    error_object(&body, code, code_name, param, message);
    enum MHD_Result result = reply_json(c, code, &body);
    str_free(&body);
    return result;
}

enum MHD_Result reply_status(struct MHD_Connection *c, const struct error *err, const char *param)
{
    static const struct {
        enum status status;
        unsigned code;
        const char *name;
    } codes[] = {{STATUS_USAGE, 400, NULL},
                 {STATUS_BAD_INPUT, 400, NULL},
                 {STATUS_NOT_FOUND, 404, "model_not_found"},
                 {STATUS_DENIED, 403, NULL},
                 {STATUS_NO_ROOM, 400, "context_length_exceeded"},
                 {STATUS_INTERRUPTED, 503, "shutting_down"}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].status == err->status)
            return reply_error(c, codes[i].code, codes[i].name, param, err->text);
    return reply_error(c, 500, NULL, param, err->text);
}
