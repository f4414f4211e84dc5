/* The AMX instruction set on emulated tiles, usable on every processor with AVX-512 and its bfloat16. Linked before the library, it
 * takes the place of the real one: a test of the backend, or the whole program, then runs its kernels. */
#include "tests/unit/kernels/tiles.h"

#include "kernels/cpu/amx/attend.c"
#include "kernels/cpu/amx/panel.c"
#include "kernels/cpu/amx/table.c"
#include "kernels/cpu/amx/unpack.c"

bool amx_usable(const char **why)
{
    if (why)
        *why = NULL;
    return true;
}
