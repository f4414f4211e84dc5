/* What the program says about its own doings, on stderr, one line each. Results never come this way. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_QUIET, LOG_WARN, LOG_SAY, LOG_VERBOSE, LOG_DEBUG };

/* Messages above this level are dropped. Starts at LOG_SAY; INGOT_LOG (quiet, warn, say, verbose, debug) overrides. */
void log_set_level(enum log_level level);
enum log_level log_level(void);

/* One line; the newline is added. Thread-safe; unprintable characters become U+FFFD. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
