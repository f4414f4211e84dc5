#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

void json_write_string(struct str *out, const char *text, size_t size)
{
    str_add_char(out, '"');
    size_t at = 0, plain = 0; /* text[plain..at) is copied as it is */
    while (at < size) {
        unsigned char c = (unsigned char)text[at];
        uint32_t codepoint = c;
        size_t n = c < 0x80 ? 1 : utf8_decode(text + at, size - at, &codepoint);
        bool broken = codepoint == 0xFFFD && !(n == 3 && c == 0xEF);
        if (c >= 0x20 && c != '"' && c != '\\' && !broken) {
            at += n;
            continue;
        }
        str_add(out, text + plain, at - plain);
        const char *simple = c ? strchr("\"\"\\\\\bb\ff\nn\rr\tt", c) : NULL;
        if (broken)
            str_add_text(out, "\xEF\xBF\xBD");
        else if (simple)
            str_format(out, "\\%c", simple[1]);
        else
            str_format(out, "\\u%04x", c);
        at += n;
        plain = at;
    }
    str_add(out, text + plain, size - plain);
    str_add_char(out, '"');
}

void json_write_double(struct str *out, double value)
{
    if (!isfinite(value)) {
        str_add_text(out, "null"); /* JSON has no other word for it */
        return;
    }
    char text[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    str_add_text(out, text);
    if (!strpbrk(text, ".e"))
        str_add_text(out, ".0");
}

static void write_value(struct str *out, const struct json *v, const char *comma, const char *colon)
{
    bool object = v->kind == JSON_OBJECT;
    switch (v->kind) {
    case JSON_NULL:
        str_add_text(out, "null");
        break;
    case JSON_BOOL:
        str_add_text(out, v->truth ? "true" : "false");
        break;
    case JSON_NUMBER:
        str_add(out, v->text, v->size);
        break;
    case JSON_STRING:
        json_write_string(out, v->text, v->size);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        str_add_char(out, object ? '{' : '[');
        for (uint32_t i = 0; i < v->size; i++) {
            str_add_text(out, i ? comma : "");
            if (object) {
                json_write_string(out, v->members[i].key, v->members[i].key_size);
                str_add_text(out, colon);
            }
            write_value(out, object ? &v->members[i].value : &v->items[i], comma, colon);
        }
        str_add_char(out, object ? '}' : ']');
        break;
    }
}

void json_write(struct str *out, const struct json *v) { write_value(out, v, ",", ":"); }
void json_write_spaced(struct str *out, const struct json *v) { write_value(out, v, ", ", ": "); }
