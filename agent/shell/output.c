/* Lines in, results out. */
#include "agent/shell/shell.h"

#include <errno.h>
#include <string.h>

enum status output_finish(FILE *out, struct error *err)
{
    errno = 0;
    if (fflush(out) || ferror(out))
        return error_set(err, STATUS_FAILED, "cannot write the result: %s",
                         errno ? error_errno(errno) : "the reader has gone, or the disk is full"); /* an earlier write failed */
    return STATUS_OK;
}

enum status line_read(struct line_reader *r, const char **line, size_t *size, bool *end, struct error *err)
{
    str_clear(&r->line);
    bool too_long = false;
    int c;
    *end = false;
    while ((c = getc_unlocked(r->in)) != EOF && c != '\n') {
        if (r->line.size >= r->limit)
            too_long = true;
        else
            str_add_char(&r->line, (char)c);
    }
    if (c == EOF && r->line.size == 0) {
        *end = true;
        return STATUS_OK;
    }
    if (r->line.failed)
        return error_memory(err, "an input line");
    *line = str_text(&r->line);
    *size = r->line.size;
    return too_long ? error_set(err, STATUS_BAD_INPUT, "a line is over the limit of %zu bytes", r->limit) : STATUS_OK;
}
