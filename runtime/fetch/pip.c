/* Where no index is configured pip goes to its own standard one. That address is pip's to know: it is asked. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/fetch/private.h"

enum { ANSWER = 500, SECONDS = 10 };
extern char **environ;

/* What the child prints, until it ends or the time is over. */
static size_t read_answer(int fd, char *out, size_t capacity)
{
    size_t used = 0;
    double end = clock_seconds() + SECONDS;
    while (used < capacity && clock_seconds() < end) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int ready = poll(&wait, 1, 100);
        ssize_t n = ready > 0 ? read(fd, out + used, capacity - used) : -1;
        if (ready > 0 && (n == 0 || (n < 0 && errno != EINTR)))
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    return used;
}

char *pip_standard_index(struct arena *arena)
{
    char *argv[] = {"python3", "-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)", NULL};
    char answer[ANSWER + 1];
    int ends[2];
    pid_t child;
    posix_spawn_file_actions_t actions;
    if (pipe(ends))
        return NULL;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0); /* 1: O_WRONLY */
    bool started = posix_spawnp(&child, argv[0], &actions, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t n = started ? read_answer(ends[0], answer, ANSWER) : 0;
    close(ends[0]);
    if (started) {
        kill(child, SIGKILL); /* it has said what it had to say */
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    answer[n] = 0;
    answer[strcspn(answer, "\r\n")] = 0;
    return strncmp(answer, "https://", 8) ? NULL : arena_copy(arena, answer, strlen(answer));
}
