/* Ctrl-C. */
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "agent/shell/shell.h"

static atomic_int seen;

static void on_interrupt(int number)
{
    (void)number;
    if (atomic_fetch_add(&seen, 1) >= 1) /* nobody looked at the first one: end as a shell expects */
        _exit(130);
}

void interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool interrupt_seen(void) { return atomic_load(&seen) > 0; }

void interrupt_clear(void) { atomic_store(&seen, 0); }
