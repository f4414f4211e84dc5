/* From a MODEL's name to a path on this disk. */
#ifndef RUNTIME_FETCH_FETCH_H
#define RUNTIME_FETCH_FETCH_H

#include "base/arena.h"
#include "base/status.h"
#include "runtime/ingot.h"

/* An existing path wins; then "default" and names on the Hub: the shared Hugging Face cache, then the network unless offline.
 * The path lives in the arena. STATUS_NOT_FOUND, STATUS_NETWORK, STATUS_FAILED (disk). */
enum status fetch_find(struct arena *arena, const char *name, const struct ingot_model_options *options, char **path, struct error *err);

#endif
