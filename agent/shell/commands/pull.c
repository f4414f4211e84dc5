/* ingot pull, list, rm: the cache that is shared with other Hugging Face tools. */
#include <string.h>

#include "agent/shell/shell.h"
#include "runtime/ingot.h"

enum status command_pull(const struct settings *s, struct error *err)
{
    const char *name;
    struct ingot_model *model;
    struct ingot_model_info info;
    enum status status = settings_model(s, &name, err);
    if (!status)
        status = shell_model(s, name, &model, err);
    if (status)
        return status;
    ingot_model_info(model, &info); /* opened, so what was pulled is known to be whole */
    printf("%s\n", info.path);
    ingot_model_close(model);
    return STATUS_OK;
}
