/* An answer on the terminal. */
#ifndef AGENT_SHELL_VIEW_H
#define AGENT_SHELL_VIEW_H

#include <stdbool.h>

#include "base/status.h"
#include "base/str.h"

struct ingot_event;
struct ingot_answer;
struct ingot_call;

struct view {
    bool fold;  /* reasoning is a line that counts, not its text */
    bool reads; /* the request has a chat: content comes as events of its own */
    bool reasons, column; /* reasoning is being shown; the cursor stands behind text */
    double began;
    struct str reasoning;
};
/* Shows what an event brings. STATUS_FAILED: nobody reads stdout any more. */
enum status view_event(struct view *v, const struct ingot_event *e, struct error *err);
/* Tool calls, each as a line of JSON. */
void view_calls(struct view *v, const struct ingot_answer *a);
/* What was made of output that does not read, in words for a person. */
void view_warning(const struct ingot_event *e);
void view_free(struct view *v);

/* {"name": ..., "arguments": {...}, "id": ...} */
void call_json(struct str *out, const struct ingot_call *c);

#endif
