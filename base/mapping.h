/* Files mapped read-only. A mapped file that shrinks while it is used must end the request, not the process:
 * a SIGBUS inside a mapping puts zero pages where the file was and marks the mapping as lost; whoever computes
 * with it asks mapping_lost() before believing a result. */
#ifndef BASE_MAPPING_H
#define BASE_MAPPING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

struct mapping {
    const unsigned char *data;
    size_t size;
    char *path;
    atomic_bool lost;
};

enum mapping_kind {
    MAPPING_FILE,   /* shared pages of the page cache, nothing copied */
    MAPPING_COPY,   /* read into anonymous memory (huge pages where the system has them): --no-mmap */
};

/* Maps a regular file (a pipe, device or folder is refused). An empty file maps with size 0.
 * STATUS_NOT_FOUND if it is not there, STATUS_BAD_INPUT if it is no file, STATUS_NO_ROOM. */
enum status mapping_open(struct mapping **out, const char *path, enum mapping_kind kind, struct error *err);
void mapping_close(struct mapping *m); /* NULL is fine */

/* Keeps the pages in memory (--mlock). STATUS_NO_ROOM with the limit's name if the system refuses. */
enum status mapping_lock(struct mapping *m, struct error *err);

static inline bool mapping_lost(const struct mapping *m) { return atomic_load(&m->lost); }

#endif
