/* Placeholder for one thing only: see settings_read_file. */
#include "agent/shell/shell.h"

enum status settings_read_file(struct settings *s, const struct command *c, const char *path, struct error *err)
{
    (void)s, (void)c;
    return error_set(err, STATUS_USAGE, "%s: configuration files are not supported yet", path);
}
