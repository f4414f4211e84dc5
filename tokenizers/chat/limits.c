/* What a template may use up (security.md R10), and how a failing one is reported: with its name and line. */
#include "tokenizers/chat/chat.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct chat_limits chat_default_limits = {.steps = 10000000, .output = 16 << 20, .memory = 64 << 20, .depth = 200};

/* What recursion over trees and values may take of the thread's stack; threads that render need a good deal more. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WIDE_FRAMES
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define WIDE_FRAMES
#endif
#ifdef WIDE_FRAMES
enum { STACK_LIMIT = 4 << 20 };
#else
enum { STACK_LIMIT = 1 << 20 };
#endif

bool jinja_fail(struct vm *vm, const char *format, ...)
{
    if (vm->status) /* the first failure is the cause */
        return false;
    char words[ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    for (char *c = words; *c; c++)
        if (*c == '\n' || *c == '\r') /* a message is one paragraph */
            *c = ' ';
    const char *name = vm->template ? vm->template->name : "template";
    vm->status = error_set(vm->err, STATUS_BAD_INPUT, "%s, line %u: %s", QUOTE(name, strlen(name)), vm->line, words);
    return false;
}

bool jinja_memory(struct vm *vm)
{
    return jinja_fail(vm, "the template needs more memory than its limit of %zu bytes (or the machine) allows", vm->limits.memory);
}

bool jinja_step_limit(struct vm *vm)
{
    return jinja_fail(vm, "the template takes more than its limit of %llu steps", (unsigned long long)vm->limits.steps);
}

bool jinja_deep(struct vm *vm)
{
    const char *here = __builtin_frame_address(0);
    size_t used = vm->stack > here ? (size_t)(vm->stack - here) : (size_t)(here - vm->stack);
    return used < STACK_LIMIT || jinja_fail(vm, "nested or recursing too deeply");
}

void *jinja_alloc(struct vm *vm, size_t count, size_t size)
{
    void *p = arena_array(&vm->arena, count, size);
    if (!p)
        jinja_memory(vm);
    return p;
}

const char *jinja_type(const struct value *v)
{
    static const char *const names[] = {
        [K_MISSING] = "Undefined",    [K_UNDEFINED] = "Undefined", [K_NONE] = "NoneType",       [K_BOOL] = "bool",
        [K_INT] = "int",              [K_BIG] = "int",             [K_FLOAT] = "float",         [K_STRING] = "str",
        [K_LIST] = "list",            [K_TUPLE] = "tuple",         [K_DICT] = "dict",           [K_RANGE] = "range",
        [K_VIEW] = "dict view",       [K_ITERATOR] = "generator",  [K_NAMESPACE] = "Namespace", [K_MACRO] = "Macro",
        [K_LOOP] = "LoopContext",     [K_METHOD] = "method",       [K_FUNCTION] = "function",   [K_CYCLER] = "Cycler",
        [K_JOINER] = "Joiner",        [K_SELF] = "TemplateReference", [K_BLOCK] = "BlockReference",
    };
    return v->kind == K_STRING && v->safe ? "Markup" : names[v->kind];
}
