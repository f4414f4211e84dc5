/* The few words of Criterion that our tests use, for where it cannot run (its workers start neither under qemu-user nor
 * under the thread sanitizer):
 * tests register themselves and run one after the other in one process. The closing line is Criterion's. */
#ifndef TESTS_PLAIN_CRITERION_H
#define TESTS_PLAIN_CRITERION_H

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

struct plain_test {
    const char *suite, *name;
    void (*run)(void);
    struct plain_test *next;
};
static struct plain_test *plain_tests, **plain_end = &plain_tests; /* in the order of the file */
static jmp_buf plain_leave;
static int plain_failed;

#define Test(suite_, name_, ...)                                                                       \
    static void suite_##_##name_(void);                                                                \
    static struct plain_test plain_##suite_##_##name_ = {#suite_, #name_, suite_##_##name_, NULL};     \
    __attribute__((constructor)) static void plain_add_##suite_##_##name_(void)                        \
    {                                                                                                  \
        *plain_end = &plain_##suite_##_##name_;                                                        \
        plain_end = &plain_##suite_##_##name_.next;                                                    \
    }                                                                                                  \
    static void suite_##_##name_(void)

#define plain_check(truth, text, ...)                                                                  \
    do {                                                                                               \
        if (!(truth)) {                                                                                \
            printf("%s:%d: %s", __FILE__, __LINE__, text);                                             \
            printf(" " __VA_ARGS__);                                                                   \
            putchar('\n');                                                                             \
            plain_failed = 1;                                                                          \
            longjmp(plain_leave, 1);                                                                   \
        }                                                                                              \
    } while (0)
#define cr_assert(truth, ...) plain_check((truth), #truth, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) plain_check((a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) plain_check((a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) plain_check((a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) plain_check((a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) plain_check((a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) plain_check((a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_not(truth, ...) plain_check(!(truth), "not " #truth, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...) plain_check(memcmp((a), (b), (size)) == 0, #a " == " #b, __VA_ARGS__)
#define cr_assert_null(a, ...) plain_check((a) == NULL, #a " is NULL", __VA_ARGS__)
#define cr_assert_not_null(a, ...) plain_check((a) != NULL, #a " is not NULL", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) plain_check(strcmp((a), (b)) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_float_eq(a, b, e, ...) plain_check(fabs((double)(a) - (double)(b)) <= (double)(e), #a " == " #b, __VA_ARGS__)
#define cr_expect cr_assert
#define cr_expect_eq cr_assert_eq
#define cr_expect_null cr_assert_null
#define cr_expect_str_eq cr_assert_str_eq
#define cr_expect_lt cr_assert_lt
#define cr_expect_leq cr_assert_leq
#define cr_expect_geq cr_assert_geq
#define cr_skip_test(...) (printf("[SKIP] " __VA_ARGS__), putchar('\n'), longjmp(plain_leave, 1))

static void plain_run(const struct plain_test *t)
{
    plain_failed = 0;
    if (!setjmp(plain_leave))
        t->run();
}

int main(void)
{
    int tested = 0, failing = 0;
    for (const struct plain_test *t = plain_tests; t; t = t->next) {
        plain_run(t);
        if (plain_failed)
            printf("[FAIL] %s::%s\n", t->suite, t->name);
        tested++;
        failing += plain_failed;
    }
    printf("[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0\n", tested, tested - failing, failing);
    return failing != 0;
}

#endif
