#include "base/log.h"

#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"

static _Atomic int current = -1;

enum log_level log_level(void)
{
    int level = atomic_load_explicit(&current, memory_order_relaxed);
    if (level >= 0)
        return (enum log_level)level;
    static const char *const names[] = {"quiet", "warn", "say", "verbose", "debug"};
    const char *wanted = getenv("INGOT_LOG");
    level = LOG_SAY;
    for (int i = 0; wanted && i < 5; i++)
        if (strcmp(wanted, names[i]) == 0)
            level = i;
    atomic_store_explicit(&current, level, memory_order_relaxed);
    return (enum log_level)level;
}

void log_set_level(enum log_level level) { atomic_store(&current, (int)level); }

void log_line(enum log_level level, const char *format, ...)
{
    if (level > log_level())
        return;
    char raw[ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    struct error clean; /* the one place that knows how to make text printable */
    error_set(&clean, STATUS_OK, "%s", raw);
    size_t n = strlen(clean.text);
    clean.text[n < sizeof clean.text - 1 ? n++ : n - 1] = '\n';
    for (size_t done = 0; done < n;) { /* one write, so that lines of threads do not mix */
        ssize_t w = write(STDERR_FILENO, clean.text + done, n - done);
        if (w <= 0)
            return;
        done += (size_t)w;
    }
}
