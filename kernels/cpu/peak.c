/* The dot product roofs of the instruction set that runs. */
#include "base/clock.h"
#include "base/team.h"
#include "kernels/cpu/cpu.h"

struct job {
    const struct isa *isa;
    enum peak kind;
    int64_t rounds;
    double done[256]; /* [thread] */
};

static void work(void *argument, int thread, int threads)
{
    (void)threads;
    struct job *j = argument;
    j->done[thread] = j->isa->peak(j->kind, j->rounds);
}

double cpu_peak(enum peak kind, int threads)
{
    struct job j = {.isa = isa_best(NULL), .kind = kind, .rounds = 1000};
    if (!j.isa || j.isa->peak(kind, j.rounds) == 0)
        return 0;
    double best = 0;
    for (int i = 0; i < 3; i++) {
        double seconds = 0, done;
        for (;; j.rounds *= 2) { /* long enough for the clock and the clock speed */
            for (int t = 0; t < 256; t++)
                j.done[t] = 0;
            double start = clock_seconds();
            team_run(threads, work, &j);
            seconds = clock_seconds() - start;
            if (seconds > 0.02)
                break;
        }
        done = 0;
        for (int t = 0; t < 256; t++)
            done += j.done[t];
        best = done / seconds > best ? done / seconds : best;
    }
    return best;
}
