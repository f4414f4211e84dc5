/* The one compute team of the process. All engines share it: a step is one team_run(), inside it the threads meet
 * at team_barrier(). Threads spin for a bounded time, then sleep, so an idle server costs nothing and a busy one
 * does not pay 12 us a wake-up (measured: spinning fork-join 0.06 us, futex wake 12 us). */
#ifndef BASE_TEAM_H
#define BASE_TEAM_H

#include "base/status.h"

/* Called once by each thread of the team, 0 being the caller of team_run(). */
typedef void team_work(void *argument, int thread, int threads);

/* Cores this process may use: affinity, cpuset and cgroup quota honoured. At least 1. */
int team_cores(void);

/* Runs work on `threads` threads (1..team_cores() is sensible, up to 256 allowed; 0 means team_cores()), returns
 * when all are done. Runs of several engines follow one another. Threads that cannot be created are left out, and for a
 * while those whose core others use so much that all would wait for them: the threads argument that work sees is what counts. */
void team_run(int threads, team_work *work, void *argument);

/* Only inside work, by every thread of the run. What was written before is visible to all behind it. */
void team_barrier(void);

#endif
