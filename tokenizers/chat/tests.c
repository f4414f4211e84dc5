/* Tests: x is NAME. */
#include "tokenizers/chat/chat.h"

#include <string.h>

#include "base/utf8.h"

#define TEST_OF(name) bool test_##name(struct vm *vm, struct value self, const struct args *args, struct value *out)
#define KIND_TEST(name, condition) /* true and false are macros themselves: not to be expanded on the way */                    \
    bool test_##name(struct vm *vm, struct value self, const struct args *args, struct value *out)                             \
    {                                                                                                                          \
        *out = BOOL_VALUE(condition);                                                                                          \
        return jinja_bind(vm, #name, "", args, NULL);                                                                          \
    }

KIND_TEST(defined, self.kind != K_UNDEFINED)
KIND_TEST(undefined, self.kind == K_UNDEFINED)
KIND_TEST(none, self.kind == K_NONE)
KIND_TEST(boolean, self.kind == K_BOOL)
KIND_TEST(true, self.kind == K_BOOL && self.truth)
KIND_TEST(false, self.kind == K_BOOL && !self.truth)
KIND_TEST(integer, self.kind == K_INT || self.kind == K_BIG)
KIND_TEST(float, self.kind == K_FLOAT)
KIND_TEST(number, is_number(&self))
KIND_TEST(string, self.kind == K_STRING)
KIND_TEST(mapping, self.kind == K_DICT)
KIND_TEST(iterable, iter_possible(self))
KIND_TEST(escaped, self.kind == K_STRING && self.safe)
KIND_TEST(sequence, self.kind == K_STRING || self.kind == K_LIST || self.kind == K_TUPLE || self.kind == K_DICT ||
                        self.kind == K_RANGE || self.kind == K_UNDEFINED)
KIND_TEST(callable, self.kind == K_FUNCTION || self.kind == K_METHOD || self.kind == K_MACRO || self.kind == K_LOOP ||
                        self.kind == K_JOINER || self.kind == K_BLOCK || self.kind == K_UNDEFINED)

static bool compare(struct vm *vm, const char *name, struct value self, const struct args *args, enum comparison op, struct value *out)
{
    struct value other;
    bool result;
    if (!jinja_bind(vm, name, "other", args, &other) || !jinja_compare(vm, op, self, other, &result))
        return false;
    *out = BOOL_VALUE(result);
    return true;
}

TEST_OF(eq) { return compare(vm, "eq", self, args, CMP_EQ, out); }
TEST_OF(ne) { return compare(vm, "ne", self, args, CMP_NE, out); }
TEST_OF(lt) { return compare(vm, "lt", self, args, CMP_LT, out); }
TEST_OF(le) { return compare(vm, "le", self, args, CMP_LE, out); }
TEST_OF(gt) { return compare(vm, "gt", self, args, CMP_GT, out); }
TEST_OF(ge) { return compare(vm, "ge", self, args, CMP_GE, out); }
TEST_OF(in) { return compare(vm, "in", self, args, CMP_IN, out); }

TEST_OF(sameas)
{
    struct value other;
    if (!jinja_bind(vm, "sameas", "other", args, &other))
        return false;
    *out = BOOL_VALUE(jinja_same(self, other));
    return true;
}

/* value % by == wanted */
static bool remainder_is(struct vm *vm, struct value v, struct value by, int64_t wanted, struct value *out)
{
    struct value rest;
    bool equal;
    if (!jinja_binary(vm, OP_MOD, v, by, &rest) || !jinja_equal(vm, rest, INT_VALUE(wanted), &equal))
        return false;
    *out = BOOL_VALUE(equal);
    return true;
}

TEST_OF(odd) { return jinja_bind(vm, "odd", "", args, NULL) && remainder_is(vm, self, INT_VALUE(2), 1, out); }
TEST_OF(even) { return jinja_bind(vm, "even", "", args, NULL) && remainder_is(vm, self, INT_VALUE(2), 0, out); }

TEST_OF(divisibleby)
{
    struct value by;
    return jinja_bind(vm, "divisibleby", "num", args, &by) && remainder_is(vm, self, by, 0, out);
}

TEST_OF(lower)
{
    return jinja_bind(vm, "lower", "", args, NULL) && jinja_str(vm, self, &self) && method_islower(vm, self, args, out);
}

TEST_OF(upper)
{
    return jinja_bind(vm, "upper", "", args, NULL) && jinja_str(vm, self, &self) && method_isupper(vm, self, args, out);
}

static bool known(struct vm *vm, const char *name, struct value self, const struct args *args, jinja_function *find(const char *, size_t),
                  struct value *out)
{
    uint32_t hash;
    if (!jinja_bind(vm, name, "", args, NULL) || !jinja_hash(vm, self, &hash))
        return false;
    *out = BOOL_VALUE(self.kind == K_STRING && find(self.text->data, self.text->size));
    return true;
}

TEST_OF(filter) { return known(vm, "filter", self, args, jinja_find_filter, out); }
TEST_OF(test) { return known(vm, "test", self, args, jinja_find_test, out); }

jinja_function *jinja_find_test(const char *name, size_t size)
{
    static const struct {
        const char *name;
        jinja_function *function;
    } tests[] = {
#define TEST(name, function) {name, function},
#include "tokenizers/chat/tests.def"
#undef TEST
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (strlen(tests[i].name) == size && memcmp(tests[i].name, name, size) == 0)
            return tests[i].function;
    return NULL;
}
