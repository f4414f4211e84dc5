#include "base/base64.h"

#include <stdint.h>

enum { WRONG = 64 };

static uint32_t digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : WRONG;
}

bool base64_decode(const char *text, size_t size, struct str *out)
{
    size_t before = out->size;
    bool good = size % 4 == 0;
    for (size_t i = 0; i < size && good; i += 4) {
        size_t padding = i + 4 < size ? 0 : (size_t)(text[i + 3] == '=') + (text[i + 3] == '=' && text[i + 2] == '=');
        uint32_t bits = 0;
        for (size_t k = 0; k < 4; k++) {
            uint32_t d = k >= 4 - padding ? 0 : digit(text[i + k]);
            good &= d != WRONG;
            bits = bits << 6 | (d & 63);
        }
        char bytes[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
        str_add(out, bytes, 3 - padding);
    }
    if (!good)
        out->size = before;
    return good;
}
