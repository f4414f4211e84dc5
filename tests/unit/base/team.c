/* The compute team: every thread takes part, barriers order what they see, runs of several callers follow one another. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/team.h"

enum { THREADS = 4, ROUNDS = 200 };

struct relay {
    int values[THREADS]; /* plain memory: only the barriers order it */
    atomic_int wrong;
};

static void pass_on(void *argument, int thread, int threads)
{
    struct relay *r = argument;
    for (int round = 0; round < ROUNDS; round++) {
        r->values[thread] = round * 10 + thread;
        team_barrier();
        for (int t = 0; t < threads; t++)
            if (r->values[t] != round * 10 + t)
                atomic_fetch_add(&r->wrong, 1);
        team_barrier();
    }
}

Test(team, barriers_order_what_threads_see)
{
    struct relay r = {0};
    team_run(THREADS, pass_on, &r);
    cr_assert_eq(atomic_load(&r.wrong), 0);
    for (int t = 0; t < THREADS; t++)
        cr_assert_eq(r.values[t], (ROUNDS - 1) * 10 + t, "thread %d took part", t);
}

static void count(void *argument, int thread, int threads)
{
    (void)thread;
    atomic_fetch_add((atomic_int *)argument, 1000 + threads);
}

/* Did so many threads take part as each was told? Not all that were asked for, where others have taken a core. */
static bool whole(int sum, int most)
{
    int threads = sum / 1000;
    return threads >= 1 && threads <= most && sum == threads * (1000 + threads);
}

Test(team, sizes_may_change_from_run_to_run)
{
    static const int sizes[] = {1, 4, 2, 3, 1, 4};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        atomic_int sum = 0;
        team_run(sizes[i], count, &sum);
        cr_assert(whole(atomic_load(&sum), sizes[i]), "run of %d: %d", sizes[i], atomic_load(&sum));
    }
}

static void *caller(void *argument)
{
    for (int i = 0; i < 50; i++) {
        atomic_int sum = 0;
        team_run(1 + i % THREADS, count, &sum);
        if (!whole(atomic_load(&sum), 1 + i % THREADS))
            atomic_fetch_add((atomic_int *)argument, 1);
    }
    return NULL;
}

Test(team, callers_take_turns)
{
    pthread_t threads[3];
    atomic_int wrong = 0;
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, caller, &wrong);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(atomic_load(&wrong), 0);
}

struct neighbour {
    atomic_bool busy; /* thread 1 loses its core before each barrier */
    int threads;      /* of the last run */
};

static void beside(void *argument, int thread, int threads)
{
    struct neighbour *n = argument;
    for (int i = 0; i < 4; i++) {
        if (thread == 1 && atomic_load(&n->busy))
            usleep(1500);
        team_barrier();
    }
    if (thread == 0)
        n->threads = threads;
}

static int last_threads(struct neighbour *n, int64_t ns)
{
    for (int64_t end = clock_ns() + ns; clock_ns() < end;)
        team_run(2, beside, n);
    return n->threads;
}

/* A thread that everybody waits for is left out, and comes back when its core is free again. */
Test(team, goes_on_without_a_crowded_core)
{
    struct neighbour n = {0};
    int seen = 0;
    atomic_store(&n.busy, true);
    for (int i = 0; i < 20 && seen != 1; i++)
        seen = last_threads(&n, 10000000);
    cr_expect_eq(seen, 1);
    atomic_store(&n.busy, false);
    for (int i = 0; i < 500 && seen != 2; i++)
        seen = last_threads(&n, 10000000);
    cr_expect_eq(seen, 2);
}
