/* The front: compiling a template, rendering it. */
#include "tokenizers/chat/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { LARGEST_TEMPLATE = 4 << 20 };

enum status chat_compile(struct chat_template **out, const char *name, const char *text, size_t size, struct error *err)
{
    *out = NULL;
    if (size > LARGEST_TEMPLATE)
        return error_set(err, STATUS_BAD_INPUT, "%s: a template of %zu bytes; at most %d are read", QUOTE(name, strlen(name)), size, LARGEST_TEMPLATE);
    size_t valid = utf8_valid_prefix(text, size);
    if (valid != size)
        return error_set(err, STATUS_BAD_INPUT, "%s: not UTF-8 at byte %zu", QUOTE(name, strlen(name)), valid);
    struct chat_template *t = calloc(1, sizeof *t);
    if (!t)
        return error_memory(err, "a chat template");
    t->arena.limit = 256 << 20;
    t->name = arena_copy(&t->arena, name, strlen(name));
    struct compiler c = {.template = t};
    c.vm = (struct vm){.template = t, .err = err, .stack = __builtin_frame_address(0), .line = 1};
    c.vm.limits.steps = 100000000;
    bool ok = t->name && compile_tokens(&c, text, size) && compile_statements(&c) && compile_scopes(&c);
    free(c.tokens);
    if (ok) {
        t->numbers = c.vm.arena; /* big integers of the text */
        *out = t;
        return STATUS_OK;
    }
    arena_free(&c.vm.arena);
    chat_free(t);
    return c.vm.status ? c.vm.status : error_memory(err, "a chat template");
}

void chat_free(struct chat_template *t)
{
    if (!t)
        return;
    arena_free(&t->numbers);
    arena_free(&t->arena);
    free(t);
}

void chat_text_free(struct chat_text *t)
{
    str_free(&t->text);
    free(t->marks);
    *t = (struct chat_text){0};
}

static bool set_clock(struct vm *vm, const char *now)
{
    struct tm *tm = &vm->now;
    if (!now) {
        time_t seconds = time(NULL);
        return localtime_r(&seconds, tm) != NULL;
    }
    int used = 0;
    if (sscanf(now, "%4d-%2d-%2d%*1[T ]%2d:%2d:%2d%n", &tm->tm_year, &tm->tm_mon, &tm->tm_mday, &tm->tm_hour, &tm->tm_min, &tm->tm_sec, &used) != 6)
        return false;
    if (tm->tm_year < 1 || tm->tm_mon < 1 || tm->tm_mon > 12 || tm->tm_mday < 1 || tm->tm_mday > 31 || tm->tm_hour < 0 ||
        tm->tm_hour > 23 || tm->tm_min < 0 || tm->tm_min > 59 || tm->tm_sec < 0 || tm->tm_sec > 60)
        return false;
    tm->tm_year -= 1900;
    tm->tm_mon -= 1;
    struct tm copy = *tm;
    time_t seconds = timegm(&copy); /* fills in the days of week and year */
    return gmtime_r(&seconds, tm) != NULL;
}

static bool set_context(struct vm *vm, const struct json *context)
{
    struct value v;
    if (!json_is(context, JSON_OBJECT))
        return jinja_fail(vm, "the variables must be an object, not %s", json_kind_name(context));
    if (!jinja_from_json(vm, context, &v))
        return false;
    vm->context = (struct dict *)v.dict;
    return true;
}

static bool run(struct vm *vm)
{
    const struct chat_template *t = vm->template;
    if (t->blocks.count && !(vm->exported = dict_new(vm, 0)))
        return false;
    struct env *env = jinja_enter(vm, NULL, t->scope, NULL);
    if (!env)
        return false;
    if (t->self_slot >= 0)
        env->slots[t->self_slot] = (struct value){.kind = K_SELF};
    return jinja_execute(vm, env, &t->body) != FLOW_FAIL;
}

enum status chat_render(const struct chat_template *t, const struct json *context, const char *now, const struct chat_limits *limits,
                        struct chat_text *out, struct error *err)
{
    struct vm vm = {.template = t, .limits = limits ? *limits : chat_default_limits, .err = err, .line = 1, .random = 88172645463325252u};
    vm.stack = __builtin_frame_address(0);
    vm.arena.limit = vm.limits.memory;
    vm.scratch.limit = vm.limits.memory < UINT32_MAX ? vm.limits.memory : UINT32_MAX;
    vm.out.limit = vm.limits.output;
    *out = (struct chat_text){0};
    if (!set_clock(&vm, now))
        return error_set(err, STATUS_BAD_INPUT, "now: expected a time such as 2026-01-02T03:04:05, not '%s'", QUOTE(now ? now : "", now ? strlen(now) : 0));
    bool ok = set_context(&vm, context) && run(&vm);
    if (ok) { /* the output's piles become the result */
        if (!vm.out.data)
            ok = pile_add(&vm, &vm.out, "", 1, true) && (vm.out.size = 0, true);
    }
    if (ok) {
        out->text = (struct str){.data = vm.out.data, .size = vm.out.size, .capacity = vm.out.capacity};
        out->marks = vm.out.marks;
        vm.out = (struct pile){0};
        str_add(&out->text, "", 0); /* the NUL behind it */
        if (out->text.failed) {
            chat_text_free(out);
            vm.status = error_memory(err, "a rendered prompt");
        }
    }
    pile_free(&vm.out);
    pile_free(&vm.scratch);
    arena_free(&vm.arena);
    return ok || vm.status ? vm.status : error_memory(err, "a rendered prompt");
}
