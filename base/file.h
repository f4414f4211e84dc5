/* Whole files: reading with a bound, replacing so that a crash leaves the old or the new one. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"

/* Reads a regular file of at most limit bytes into the arena (NUL-terminated; the NUL is not in *size).
 * STATUS_NOT_FOUND, STATUS_BAD_INPUT (no file, too large), STATUS_NO_ROOM, STATUS_FAILED (read error). */
enum status file_read(struct arena *arena, const char *path, size_t limit, char **out, size_t *size, struct error *err);

/* Reads a descriptor to its end (stdin). Same bounds. */
enum status file_read_all(int fd, size_t limit, struct str *out, struct error *err);

/* Replaces path: temporary file in the same folder, write, fsync, rename, fsync of the folder. On any failure the
 * old content stays, the temporary file is gone and the message names file and cause (STATUS_FAILED). A symbolic link stays:
 * what it points to is replaced. Pipes and devices (/dev/null, /dev/stdout) are written to, never replaced. */
enum status file_replace(const char *path, const void *data, size_t size, struct error *err);

/* The same for content that is written in pieces: begin, write..., then commit or abandon. */
struct file_writer {
    int fd;
    char *path, *temporary; /* temporary NULL: written in place */
};
enum status file_writer_begin(struct file_writer *w, const char *path, struct error *err);
/* Truncates and writes path itself: for files whose name says that they may be unfinished. */
enum status file_writer_begin_in_place(struct file_writer *w, const char *path, struct error *err);
enum status file_writer_write(struct file_writer *w, const void *data, size_t size, struct error *err);
enum status file_writer_commit(struct file_writer *w, struct error *err);
void file_writer_abandon(struct file_writer *w); /* after commit: nothing */

/* Creates a folder and its missing parents, mode 0700. */
enum status file_make_folders(const char *path, struct error *err);

bool file_exists(const char *path);    /* regular file or link to one */
bool file_is_folder(const char *path);

/* "folder/name" in the arena. */
char *file_join(struct arena *arena, const char *folder, const char *name);

/* True if name is one harmless path component: not empty, no '/', no NUL, neither "." nor "..", no leading dot (R5). */
bool file_is_plain_name(const char *name, size_t size);

#endif
