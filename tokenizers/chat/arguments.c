/* Arguments of functions that are written here: bound to parameters as Python would. */
#include "tokenizers/chat/chat.h"

#include <string.h>

enum { PARAMETERS = 12 };

struct parameter {
    const char *name;
    size_t size;
    bool optional, by_name;
};

static int read_spec(const char *spec, struct parameter *out)
{
    int count = 0;
    for (const char *p = spec; *p;) {
        size_t n = strcspn(p, " ");
        if (n == 1 && *p == '/') {
            for (int i = 0; i < count; i++)
                out[i].by_name = false;
        } else {
            bool optional = p[n - 1] == '?';
            out[count++] = (struct parameter){.name = p, .size = n - optional, .optional = optional, .by_name = true};
        }
        p += n + (p[n] == ' ');
    }
    return count;
}

bool jinja_bind(struct vm *vm, const char *function, const char *spec, const struct args *args, struct value *out)
{
    struct parameter parameters[PARAMETERS];
    int count = read_spec(spec, parameters);
    if (args->count > (uint32_t)count)
        return jinja_fail(vm, "%s() takes at most %d argument(s) (%u given)", function, count, args->count);
    for (int i = 0; i < count; i++)
        out[i] = i < (int)args->count ? args->items[i] : MISSING_VALUE;
    for (uint32_t k = 0; k < args->named_count; k++) {
        const struct text *name = args->named[k].name;
        int at = 0;
        while (at < count && !(parameters[at].by_name && parameters[at].size == name->size &&
                               memcmp(parameters[at].name, name->data, name->size) == 0))
            at++;
        if (at == count)
            return jinja_fail(vm, "%s() got an unexpected keyword argument '%s'", function, QUOTE(name->data, name->size));
        if (out[at].kind != K_MISSING)
            return jinja_fail(vm, "%s() got multiple values for argument '%s'", function, QUOTE(name->data, name->size));
        out[at] = args->named[k].value;
    }
    for (int i = 0; i < count; i++)
        if (out[i].kind == K_MISSING && !parameters[i].optional)
            return jinja_fail(vm, "%s() is missing the argument '%.*s'", function, (int)parameters[i].size, parameters[i].name);
    return true;
}

bool jinja_flag(struct vm *vm, struct value v, bool otherwise, bool *out)
{
    *out = otherwise;
    return v.kind == K_MISSING || jinja_truth(vm, v, out);
}

bool jinja_int_or(struct vm *vm, struct value v, int64_t otherwise, int64_t *out)
{
    *out = otherwise;
    return v.kind == K_MISSING || jinja_as_int(vm, v, out);
}
