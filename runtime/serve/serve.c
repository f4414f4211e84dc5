/* The HTTP server: connections, bodies, routing, an orderly end. Threads of the server only move bytes; the engine's own
 * thread computes. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/serve/serve.h"

enum { CONNECTIONS = 1024, PER_ADDRESS = 512, POOL_BYTES = 64 << 10, BODY_LIMIT = 16 << 20, HEADER_SECONDS = 30, BODY_SECONDS = 600, DRAIN_SECONDS = 10 };

static int stop_pipe[2] = {-1, -1};

void ingot_serve_stop(void)
{
    if (stop_pipe[1] >= 0) {
        ssize_t n = write(stop_pipe[1], "x", 1);
        (void)n;
    }
}

/* ---- routes ----------------------------------------------------------------------------------------------------------- */

static enum MHD_Result route_health(struct exchange *x)
{
    struct str body = {0};
    struct error err;
    bool good = !served_health(&x->server->models, &err);
    if (good)
        str_add_text(&body, "{\"status\": \"ok\"}");
    else {
        str_add_text(&body, "{\"status\": \"error\", \"message\": ");
        json_write_string(&body, err.text, strlen(err.text));
        str_add_char(&body, '}');
    }
    enum MHD_Result result = reply_json(x->connection, good ? 200 : 503, &body);
    str_free(&body);
    return result;
}

static void model_object(struct str *out, const struct served *s)
{
    str_add_text(out, "{\"id\": ");
    json_write_string(out, s->id, strlen(s->id));
    str_format(out, ", \"object\": \"model\", \"created\": %lld, \"owned_by\": \"ingot\"}", (long long)s->created);
}

static enum MHD_Result route_models(struct exchange *x)
{
    struct str body = {0};
    const struct served_list *l = &x->server->models;
    for (int list = 0; list < 2; list++) { /* some clients read `models` instead of `data` */
        str_add_text(&body, list ? "], \"models\": [" : "{\"object\": \"list\", \"data\": [");
        for (int i = 0; i < l->count; i++) {
            str_add_text(&body, i ? ", " : "");
            model_object(&body, &l->list[i]);
        }
    }
    str_add_text(&body, "]}");
    enum MHD_Result result = reply_json(x->connection, 200, &body);
    str_free(&body);
    return result;
}

static enum MHD_Result route_chat(struct exchange *x) { return answer_completion(x, true); }

static enum MHD_Result route_completions(struct exchange *x) { return answer_completion(x, false); }

static const struct route {
    const char *method, *path;
    enum MHD_Result (*answer)(struct exchange *x);
} routes[] = {
    {"GET", "/health", route_health},
    {"GET", "/v1/models", route_models},
    {"GET", "/models", route_models},
    {"POST", "/v1/chat/completions", route_chat},
    {"POST", "/chat/completions", route_chat},
    {"POST", "/v1/completions", route_completions},
    {"POST", "/completions", route_completions},
};

static enum MHD_Result one_model(struct exchange *x, const char *id)
{
    const struct served_list *l = &x->server->models;
    for (int i = 0; i < l->count; i++)
        if (!strcmp(l->list[i].id, id)) {
            struct str body = {0};
            model_object(&body, &l->list[i]);
            enum MHD_Result result = reply_json(x->connection, 200, &body);
            str_free(&body);
            return result;
        }
    return reply_error(x->connection, 404, "model_not_found", "model", "this model is not served here");
}

static enum MHD_Result answer(struct exchange *x, const char *path, const char *method)
{
    const char *known = NULL;
    if (reply_is_preflight(x->connection, method))
        return reply_preflight(x->connection);
    if (!strcmp(method, "HEAD")) /* the daemon leaves the body out */
        method = "GET";
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(path, routes[i].path) != 0)
            continue;
        known = routes[i].method;
        if (!strcmp(method, routes[i].method))
            return routes[i].answer(x);
    }
    if (!strcmp(method, "GET") && !strncmp(path, "/v1/models/", 11))
        return one_model(x, path + 11);
    if (known)
        return reply_method(x->connection, known);
    char words[200];
    snprintf(words, sizeof words, "there is nothing at %s", QUOTE(path, strlen(path)));
    return reply_error(x->connection, 404, "not_found", NULL, words);
}

/* ---- exchanges -------------------------------------------------------------------------------------------------------- */

static struct exchange *exchange_open(struct server *s, struct MHD_Connection *c)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->server = s;
    x->connection = c;
    x->owner = guard_owner(s, c);
    x->started = clock_seconds();
    atomic_fetch_add(&s->waiting, 1);
    return x;
}

static void exchange_close(void *context, struct MHD_Connection *c, void **slot, enum MHD_RequestTerminationCode why)
{
    struct server *s = context;
    struct exchange *x = *slot;
    (void)c, (void)why;
    if (!x)
        return;
    answer_close(x);
    str_free(&x->body);
    str_free(&x->out);
    arena_free(&x->arena);
    free(x);
    *slot = NULL;
    atomic_fetch_sub(&s->waiting, 1);
}

/* MHD calls this with the headers, then for each piece of the body, then once more. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *c, const char *path, const char *method, const char *version,
                                  const char *data, size_t *size, void **slot)
{
    struct server *s = context;
    struct exchange *x = *slot;
    size_t limit = s->options->body_limit ? s->options->body_limit : BODY_LIMIT;
    (void)version;
    if (!x) {
        struct error err;
        unsigned code;
        if (!(x = *slot = exchange_open(s, c)))
            return MHD_NO;
        if (guard_check(s, c, method, &code, &err)) /* answered before the body is read; MHD closes then */
            return reply_error(c, code, NULL, NULL, err.text);
        const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Length");
        if (length && strtoull(length, NULL, 10) > limit)
            return reply_error(c, 413, "body_too_large", NULL, "the body is over the server's limit (--body-limit)");
        return MHD_YES;
    }
    if (*size) {
        if (clock_seconds() - x->started > BODY_SECONDS)
            return MHD_NO; /* it drips: the connection is for others */
        if (x->body.size + *size > limit)
            x->too_large = true;
        else
            str_add(&x->body, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (x->too_large)
        return reply_error(c, 413, "body_too_large", NULL, "the body is over the server's limit (--body-limit)");
    if (x->body.failed)
        return reply_error(c, 500, NULL, NULL, "out of memory for the body");
    return answer(x, path, method);
}

/* ---- start and end ---------------------------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24) == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

/* A port that another server listens on is refused; one that only waits out its last connections is taken. */
static enum status bind_socket(struct server *s, const struct addrinfo *a, struct error *err)
{
    const struct ingot_serve_options *o = s->options;
    s->listener = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->listener < 0 || setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) || bind(s->listener, a->ai_addr, a->ai_addrlen))
        return error_set(err, STATUS_FAILED, "cannot listen on %s port %d: %s%s", o->host ? o->host : "127.0.0.1", o->port ? o->port : 8080,
                         error_errno(errno), errno == EADDRINUSE ? "; is another server running there? choose another --port" : "");
    return STATUS_OK;
}

static enum status start_daemon(struct server *s, struct error *err)
{
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;
    errno = 0;
    s->daemon = listen(s->listener, SOMAXCONN)
                    ? NULL
                    : MHD_start_daemon(flags, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, s->listener, MHD_OPTION_NOTIFY_COMPLETED,
                                 exchange_close, s, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
                                 (unsigned)PER_ADDRESS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
                                 (unsigned)HEADER_SECONDS, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!s->daemon)
        return error_set(err, STATUS_FAILED, "cannot start the server: %s", error_errno(errno ? errno : ENOMEM));
    s->listener = -1;
    return STATUS_OK;
}

static enum status open_listener(struct server *s, struct error *err)
{
    const struct ingot_serve_options *o = s->options;
    const char *host = o->host ? o->host : "127.0.0.1";
    char port[16];
    snprintf(port, sizeof port, "%d", o->port ? o->port : 8080);
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    int why = getaddrinfo(host, port, &hints, &found);
    if (why)
        return error_set(err, STATUS_USAGE, "--host %s: %s", QUOTE(host, strlen(host)), gai_strerror(why));
    enum status status = STATUS_OK;
    if (!is_loopback(found->ai_addr) && !s->key_count && !o->no_auth)
        status = error_set(err, STATUS_USAGE, "%s can be reached from other machines: give --api-key-file FILE, or --no-auth to serve everybody", host);
    if (!status)
        status = bind_socket(s, found, err);
    freeaddrinfo(found);
    return status;
}

static void wait_for_stop(struct server *s)
{
    for (char byte;;) {
        struct pollfd wait = {.fd = stop_pipe[0], .events = POLLIN};
        if (poll(&wait, 1, 1000) > 0 && read(stop_pipe[0], &byte, 1) == 1)
            return;
        if (s->options->idle_unload)
            served_unload_idle(&s->models, clock_seconds());
    }
}

static void drain(struct server *s)
{
    MHD_socket socket = MHD_quiesce_daemon(s->daemon);
    if (socket != MHD_INVALID_SOCKET)
        close(socket);
    double end = clock_seconds() + DRAIN_SECONDS;
    int open = atomic_load(&s->waiting);
    if (open)
        log_line(LOG_SAY, "shutting down; %d answers get up to %d s to end", open, DRAIN_SECONDS);
    while (atomic_load(&s->waiting) && clock_seconds() < end)
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    atomic_store(&s->cutting, true);
    MHD_stop_daemon(s->daemon);
}

static enum status serve(struct server *s, struct error *err)
{
    const struct ingot_serve_options *o = s->options;
    enum status status = STATUS_OK;
    if (o->port < 0 || o->port > 65535)
        return error_set(err, STATUS_USAGE, "--port must be 1 to 65535");
    if (pipe(stop_pipe)) /* first, so that a stop while models load is not lost */
        return error_set(err, STATUS_FAILED, "cannot create a pipe: %s", error_errno(errno));
    if (o->api_key_file)
        status = guard_read_keys(s, o->api_key_file, err);
    if (!status && o->scripted)
        status = script_open(&s->script, o->scripted, err);
    if (!status)
        status = open_listener(s, err);
    if (!status)
        status = served_open(&s->models, o, err);
    if (!status)
        status = start_daemon(s, err);
    if (status)
        return status;
    char address[300];
    bool colons = o->host && strchr(o->host, ':'); /* IPv6 */
    snprintf(address, sizeof address, colons ? "http://[%s]:%d" : "http://%s:%d", o->host ? o->host : "127.0.0.1", o->port ? o->port : 8080);
    if (o->ready)
        o->ready(o->ready_context, address);
    wait_for_stop(s);
    drain(s);
    return STATUS_OK;
}

enum ingot_status ingot_serve(const struct ingot_serve_options *options, struct ingot_error *err)
{
    struct server s = {.options = options, .listener = -1};
    enum status status = serve(&s, inner(err));
    if (s.listener >= 0)
        close(s.listener);
    served_close(&s.models);
    script_close(s.script);
    arena_free(&s.arena);
    for (int i = 0; i < 2; i++) {
        if (stop_pipe[i] >= 0)
            close(stop_pipe[i]);
        stop_pipe[i] = -1;
    }
    return (enum ingot_status)status;
}
