#include "base/team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

enum { MOST = 256, SPIN_NS = 50000, YIELD_NS = 3000, LONG_NS = 300000 };

/* Two words that threads wait on, each on its own cache line: the run's number and the barrier's phase. */
struct gate {
    _Alignas(64) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
};

static struct {
    pthread_mutex_t lock; /* owner of the current run; guards everything below but the gates */
    int members;          /* threads that exist beside the caller */
    team_work *work;
    void *argument;
    int threads; /* of the current run */
    struct gate start, barrier;
    _Alignas(64) _Atomic int arrived, left;
    _Atomic int64_t lost; /* ns that threads of the present runs waited for others, each wait over LONG_NS */
} team = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Waits until gate's value differs from old: spin, then sleep. Returns for how long, in ns; 0: not worth a look at the clock. */
static int64_t gate_wait(struct gate *g, uint32_t old)
{
    int64_t start = 0;
    for (int i = 0; atomic_load_explicit(&g->value, memory_order_acquire) == old; i++) {
        relax();
        if (i % 64 != 63)
            continue;
        int64_t now = clock_ns();
        if (!start)
            start = now;
        if (now < start + SPIN_NS) {
            if (now > start + YIELD_NS) /* whoever is waited for may be on this very core */
                sched_yield();
            continue;
        }
        atomic_fetch_add(&g->sleepers, 1);
        syscall(SYS_futex, &g->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
        atomic_fetch_sub(&g->sleepers, 1);
    }
    return start ? clock_ns() - start : 0;
}

static void gate_open(struct gate *g)
{
    atomic_fetch_add(&g->value, 1);
    if (atomic_load(&g->sleepers))
        syscall(SYS_futex, &g->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void team_barrier(void)
{
    if (team.threads == 1)
        return;
    uint32_t phase = atomic_load_explicit(&team.barrier.value, memory_order_acquire);
    if (atomic_fetch_add(&team.arrived, 1) + 1 == team.threads) {
        atomic_store(&team.arrived, 0);
        gate_open(&team.barrier);
    } else {
        int64_t waited = gate_wait(&team.barrier, phase);
        if (waited > LONG_NS)
            atomic_fetch_add(&team.lost, waited);
    }
}

/* ---- a core that others use as well ------------------------------------------------------------------------------------ */

/* A thread that is taken off its core keeps all others at the barrier for milliseconds. Where that costs more than the thread is worth,
 * the team tries to do with one less, stays with it where runs end sooner so, and tries one more now and then. Runs of a while are
 * taken to be alike, as the steps of an answer are. Guarded by the team's lock. */
enum { WATCH_NS = 8000000, PAUSE_NS = 30000000, LONGEST_PAUSE_NS = 480000000 };
static struct {
    int fewer;         /* threads that are left out */
    int change;        /* the last step of `fewer`, as long as it is on trial; 0: none is */
    int64_t ran, runs; /* ns and number of those that are being watched */
    int64_t before;    /* ns of a run before the trial */
    int64_t pause, until; /* ns; the clock when the next trial may be */
} crowd = {.pause = PAUSE_NS};

static void crowd_try(int change, int64_t before)
{
    crowd.fewer += change;
    crowd.change = change;
    crowd.before = before;
}

/* A trial ends: it stays or not. The next one is the later the more of them changed nothing. */
static void crowd_judge(int64_t mean, int64_t now)
{
    bool better = mean < crowd.before;
    if (!better)
        crowd.fewer -= crowd.change;
    crowd.pause = better && crowd.change < 0 ? PAUSE_NS : crowd.pause * 2 < LONGEST_PAUSE_NS ? crowd.pause * 2 : LONGEST_PAUSE_NS;
    crowd.until = now + crowd.pause;
    crowd.change = 0;
}

static int crowd_threads(int threads) { return crowd.fewer < threads ? threads - crowd.fewer : 1; }

/* A run of `threads` out of `wanted` that began at `start` has ended. */
static void crowd_watch(int threads, int wanted, int64_t start)
{
    int64_t now = clock_ns();
    crowd.ran += now - start;
    crowd.runs++;
    if (wanted == 1 || crowd.ran < WATCH_NS)
        return;
    int64_t mean = crowd.ran / crowd.runs, lost = threads > 1 ? atomic_load(&team.lost) / (threads - 1) : 0;
    if (crowd.change)
        crowd_judge(mean, now);
    else if (now > crowd.until && lost * (threads < 4 ? threads : 4) > crowd.ran) /* of many threads a quarter: they wait for each other anyway */
        crowd_try(1, mean);
    else if (now > crowd.until && crowd.fewer)
        crowd_try(-1, mean);
    crowd.ran = crowd.runs = 0;
    atomic_store(&team.lost, 0);
}

static void *member(void *argument)
{
    int self = (int)(intptr_t)argument;
    /* run numbers start at 1; a member created for run n starts with n - 1 seen, handed over in the high bits */
    uint32_t seen = (uint32_t)((uintptr_t)argument >> 32);
    self &= 0xFFFF;
    for (;;) {
        gate_wait(&team.start, seen);
        seen = atomic_load(&team.start.value);
        if (self < team.threads)
            team.work(team.argument, self, team.threads);
        atomic_fetch_sub(&team.left, 1);
    }
    return NULL;
}

static void grow(int members)
{
    while (team.members < members) {
        pthread_t thread;
        uintptr_t packed = (uintptr_t)atomic_load(&team.start.value) << 32 | (uintptr_t)(team.members + 1);
        if (pthread_create(&thread, NULL, member, (void *)packed))
            return;
        pthread_detach(thread);
        team.members++;
    }
}

void team_run(int threads, team_work *work, void *argument)
{
    if (threads <= 0)
        threads = team_cores();
    if (threads > MOST)
        threads = MOST;
    pthread_mutex_lock(&team.lock);
    int64_t start = clock_ns();
    grow(threads - 1);
    if (threads > team.members + 1)
        threads = team.members + 1;
    int wanted = threads;
    threads = crowd_threads(wanted);
    team.threads = threads;
    if (threads == 1) {
        work(argument, 0, 1);
    } else {
        team.work = work;
        team.argument = argument;
        atomic_store(&team.left, team.members); /* members beyond this run's size only sign off */
        gate_open(&team.start);
        work(argument, 0, threads);
        for (int i = 0; atomic_load_explicit(&team.left, memory_order_acquire); i++)
            i > 20000 ? (void)sched_yield() : relax();
    }
    crowd_watch(threads, wanted, start);
    pthread_mutex_unlock(&team.lock);
}

/* Cores that the cgroup (v2, then v1) pays for: quota over period, rounded up; 0 when unlimited. */
static int quota_cores(void)
{
    double quota = -1, period = -1;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f) {
        if (fscanf(f, "%lf %lf", &quota, &period) != 2)
            quota = -1;
        fclose(f);
    } else if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re"))) {
        if (fscanf(f, "%lf", &quota) != 1)
            quota = -1;
        fclose(f);
        if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re"))) {
            if (fscanf(f, "%lf", &period) != 1)
                period = -1;
            fclose(f);
        }
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int team_cores(void)
{
    static _Atomic int known;
    int cores = atomic_load(&known);
    if (cores)
        return cores;
    cpu_set_t set;
    cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    int quota = quota_cores();
    if (quota && quota < cores)
        cores = quota;
    cores = cores < 1 ? 1 : cores > MOST ? MOST : cores;
    atomic_store(&known, cores);
    return cores;
}
