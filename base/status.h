/* Errors. A function that can fail returns enum status; the words go into a struct error.
 *
 * The message is one paragraph for a person: what was expected, what was found, where, what to do.
 * Whatever comes from a file or a socket is made safe to print when it enters a message: control and
 * bidirectional characters and broken UTF-8 become U+FFFD, and names are shortened (see quote()). */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include <stdarg.h>
#include <stddef.h>

enum status {
    STATUS_OK = 0,
    STATUS_FAILED,      /* failed while running: I/O, a peer, our own limits */
    STATUS_DEVICE,      /* no usable device of the kind asked for, or it was lost */
    STATUS_USAGE,       /* the caller's or the user's argument is wrong */
    STATUS_DENIED,      /* policy, or an approval nobody could give */
    STATUS_BAD_INPUT,   /* a model or input file is malformed or unsupported */
    STATUS_NOT_FOUND,   /* a model or input file is not there */
    STATUS_NO_ROOM,     /* does not fit in memory or context */
    STATUS_NETWORK,     /* network or remote service, or not cached and offline */
    STATUS_INTERRUPTED, /* the user or a closed connection ended it */
};

enum { ERROR_TEXT = 1200 };

struct error {
    enum status status;
    char text[ERROR_TEXT]; /* UTF-8, NUL-terminated, printable */
};

/* Sets the message (err may be NULL) and returns status, so that a failure is one line:
 *     return error_set(err, STATUS_BAD_INPUT, "%s: no tensor data", path); */
enum status error_set(struct error *err, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the message that is there. Returns err's status. */
enum status error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Out of memory in a place that has nothing better to say. */
enum status error_memory(struct error *err, const char *what);

/* errno's words, thread-safe. The string lives in static storage. */
const char *error_errno(int number);

/* The exit code of cli.md that belongs to a status. */
int status_exit_code(enum status status);

/* A name from outside, made safe and short enough for a message: at most about 80 bytes, the middle
 * replaced by "...". QUOTE() keeps the text alive until the end of the enclosing block. */
struct quoted {
    char text[100];
};
const char *quote(struct quoted *out, const char *bytes, size_t size);
#define QUOTE(bytes, size) quote(&(struct quoted){{0}}, (bytes), (size))

#endif
