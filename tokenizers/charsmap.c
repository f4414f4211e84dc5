#include "tokenizers/charsmap.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "tokenizers/unicode.h"

static uint32_t read_u32(const char *at)
{
    const unsigned char *b = (const unsigned char *)at;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

enum status charsmap_open(struct charsmap *m, const char *bytes, size_t size, struct error *err)
{
    *m = (struct charsmap){0};
    if (!size)
        return STATUS_OK;
    uint32_t trie = size >= 4 ? read_u32(bytes) : 0;
    if (size < 4 || trie % 4 || trie > size - 4)
        return error_set(err, STATUS_BAD_INPUT, "precompiled_charsmap: its trie has %u bytes, but there are %zu", trie, size < 4 ? 0 : size - 4);
    const char *texts = bytes + 4 + trie;
    size_t rest = size - 4 - trie;
    if (!utf8_is_valid(texts, rest))
        return error_set(err, STATUS_BAD_INPUT, "precompiled_charsmap: its replacements are not UTF-8");
    m->count = trie / 4;
    m->units = malloc(m->count * sizeof *m->units + 1);
    str_add(&m->texts, texts, rest); /* ends in a NUL of its own */
    if (!m->units || m->texts.failed)
        return error_memory(err, "precompiled_charsmap");
    for (size_t i = 0; i < m->count; i++)
        m->units[i] = read_u32(bytes + 4 + 4 * i);
    return STATUS_OK;
}

void charsmap_free(struct charsmap *m)
{
    free(m->units);
    str_free(&m->texts);
    *m = (struct charsmap){0};
}

/* A unit: label in bits 0-7 and 31, bit 8: a text ends here, bit 9: the offset counts in 256, bits 10-30: offset of the children. */
static uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

bool charsmap_find(const struct charsmap *m, const char *text, size_t size, bool longest, size_t *length, const char **with, size_t *with_size)
{
    uint32_t found = UINT32_MAX;
    if (!m->count)
        return false;
    size_t node = offset_of(m->units[0]);
    for (size_t at = 0; at < size && text[at]; at++) {
        unsigned char byte = (unsigned char)text[at];
        node ^= byte;
        if (node >= m->count)
            break;
        uint32_t unit = m->units[node];
        if ((unit & (1u << 31 | 0xFF)) != byte)
            break;
        node ^= offset_of(unit);
        if (!(unit & 1u << 8))
            continue;
        if (node >= m->count)
            break;
        found = m->units[node] & ~(1u << 31);
        *length = at + 1;
        if (!longest)
            break;
    }
    if (found >= m->texts.size) /* none, or a map whose offsets point outside */
        return false;
    *with = m->texts.data + found;
    *with_size = strnlen(*with, m->texts.size - found);
    return true;
}

static bool replace_into(const struct charsmap *m, const char *text, size_t size, struct str *out)
{
    size_t length, with_size;
    const char *with;
    if (!charsmap_find(m, text, size, false, &length, &with, &with_size))
        return false;
    str_add(out, with, with_size); /* what is behind the match goes with it */
    return true;
}

/* utf8proc's rules, for marks that are newer than it as for those that it knows. */
static bool breaks(uint32_t before, uint32_t c, utf8proc_int32_t *state)
{
    if (before < 0x80 && c < 0x80)
        return before != '\r' || c != '\n';
    return utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, is_newly_joined(c) ? 0x301 : (utf8proc_int32_t)c, state);
}

/* End of the extended grapheme cluster that begins at `start`. */
static size_t grapheme_end(const char *text, size_t size, size_t start)
{
    uint32_t before, c;
    utf8proc_int32_t state = 0;
    size_t at = start + text_next(text + start, size - start, &before);
    for (size_t n; at < size; at += n, before = c) {
        n = text_next(text + at, size - at, &c);
        if (breaks(before, c, &state))
            break;
    }
    return at;
}

void charsmap_normalize(const struct charsmap *m, const char *text, size_t size, struct str *out)
{
    for (size_t start = 0, end; start < size; start = end) {
        end = grapheme_end(text, size, start);
        if (end - start < 6 && replace_into(m, text + start, end - start, out))
            continue;
        for (size_t at = start, n; at < end; at += n) {
            uint32_t c;
            n = text_next(text + at, end - at, &c);
            if (!replace_into(m, text + at, n, out))
                str_add(out, text + at, n);
        }
    }
}
