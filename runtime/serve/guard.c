/* Who may ask (security.md R13-R15): framing, headers, Host and Origin, keys. */
#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "runtime/serve/serve.h"

enum { MAX_HEADERS = 100 };

struct headers {
    int count, lengths, chunked;
};

static enum MHD_Result count_header(void *context, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct headers *h = context;
    (void)kind, (void)value;
    h->count++;
    h->lengths += !strcasecmp(key, "Content-Length");
    h->chunked += !strcasecmp(key, "Transfer-Encoding");
    return MHD_YES;
}

/* "name", "name:port", "[::1]:port": the part in front of the port. */
static bool host_is(const char *header, const char *name)
{
    size_t n = strlen(name);
    const char *end = *header == '[' ? strchr(header, ']') : NULL;
    size_t size = end ? (size_t)(end - header) + 1 : strcspn(header, ":");
    return size == n && strncasecmp(header, name, n) == 0;
}

/* An address in digits: no name, so nobody's name server can point it here. */
static bool host_is_address(const char *header)
{
    char text[64];
    unsigned char address[16];
    const char *end = *header == '[' ? strchr(header, ']') : NULL;
    size_t size = end ? (size_t)(end - header) - 1 : strcspn(header, ":");
    if (size >= sizeof text)
        return false;
    memcpy(text, header + (end != NULL), size);
    text[size] = 0;
    return inet_pton(end ? AF_INET6 : AF_INET, text, address) == 1;
}

static bool host_allowed(const struct server *s, const char *host)
{
    static const char *const local[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if (host_is(host, local[i]))
            return true;
    for (int i = 0; i < s->options->allow_host_count; i++)
        if (host_is(host, s->options->allow_hosts[i]))
            return true;
    /* a server that listens beyond loopback is reached under its address or name; a key guards it */
    return s->options->host && (host_is(host, s->options->host) || host_is_address(host) || s->key_count);
}

static bool origin_allowed(const struct server *s, const char *origin)
{
    for (int i = 0; i < s->options->allow_origin_count; i++)
        if (!strcmp(origin, s->options->allow_origins[i]))
            return true;
    return false;
}

/* Its number from 1 on, 0: it is none. Compared in constant time, every key looked at. */
static uint64_t key_number(const struct server *s, const char *given)
{
    uint64_t number = 0;
    for (int i = 0; i < s->key_count; i++)
        if (strlen(given) == strlen(s->keys[i]) && CRYPTO_memcmp(given, s->keys[i], strlen(given)) == 0)
            number = (uint64_t)i + 1;
    return number;
}

uint64_t guard_owner(const struct server *s, struct MHD_Connection *c)
{
    const char *given = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization");
    return given && strncasecmp(given, "Bearer ", 7) == 0 ? key_number(s, given + 7) : 0;
}

enum status guard_check(const struct server *s, struct MHD_Connection *c, const char *method, unsigned *code, struct error *err)
{
    struct headers h = {0};
    MHD_get_connection_values(c, MHD_HEADER_KIND, count_header, &h);
    const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host");
    const char *origin = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Origin");
    *code = 403;
    if (!host || !host_allowed(s, host))
        return error_set(err, STATUS_DENIED, "the Host header names no address of this server; start it with --allow-host to answer under that name");
    if (origin && !origin_allowed(s, origin))
        return error_set(err, STATUS_DENIED, "web pages of %s may not call this server; start it with --allow-origin to let them", QUOTE(origin, strlen(origin)));
    *code = 400;
    if (h.lengths > 1 || h.chunked > 1 || (h.lengths && h.chunked))
        return error_set(err, STATUS_USAGE, "the request says its length twice");
    if (h.count > MAX_HEADERS) {
        *code = 431;
        return error_set(err, STATUS_USAGE, "more than %d header lines", MAX_HEADERS);
    }
    if (s->key_count && !reply_is_preflight(c, method)) { /* browsers ask beforehand without the key */
        *code = 401;
        if (!guard_owner(s, c))
            return error_set(err, STATUS_DENIED, "a valid API key is needed: Authorization: Bearer KEY");
    }
    if (!strcmp(method, "POST")) {
        const char *type = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Type");
        *code = 415;
        if (!type || strncasecmp(type, "application/json", 16) != 0)
            return error_set(err, STATUS_USAGE, "Content-Type must be application/json");
    }
    return STATUS_OK;
}

enum status guard_read_keys(struct server *s, const char *path, struct error *err)
{
    char *text;
    size_t size;
    enum status status = file_read(&s->arena, path, 1 << 20, &text, &size, err);
    if (status)
        return status;
    s->keys = arena_array(&s->arena, size / 2 + 1, sizeof *s->keys);
    if (!s->keys)
        return error_memory(err, "keys");
    for (char *rest = text, *line; (line = strsep(&rest, "\r\n"));)
        if (*line && *line != '#')
            s->keys[s->key_count++] = line;
    return s->key_count ? STATUS_OK : error_set(err, STATUS_BAD_INPUT, "%s: holds no key; write one per line", path);
}
