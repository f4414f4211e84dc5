/* Unicode normal forms of inside text (unicode.h). */
#ifndef TOKENIZERS_NORMAL_FORM_H
#define TOKENIZERS_NORMAL_FORM_H

#include <stdbool.h>

#include "base/str.h"

enum { FORM_COMPOSED = 1, FORM_COMPATIBLE = 2 };

/* Appends the normal form (NFC = COMPOSED, NFD = 0, NFKC, NFKD) of text to out; linear in its length, however many marks
 * are stacked. False: out of memory. */
bool normal_form(int form, const char *text, size_t size, struct str *out);

#endif
