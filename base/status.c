#include "base/status.h"

#include <stdio.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"

/* Copies text into out (capacity bytes with the NUL), replacing what must not reach a terminal. */
static void copy_printable(char *out, size_t capacity, const char *text, size_t size)
{
    size_t at = 0, used = 0;
    while (at < size) {
        uint32_t c;
        size_t n = utf8_decode(text + at, size - at, &c);
        const char *from = text + at;
        size_t length = n;
        if ((!utf8_is_printable(c) && c != '\n') || c == 0xFFFD) { /* U+FFFD may stand for broken bytes */
            from = "\xEF\xBF\xBD";
            length = 3;
        }
        if (used + length >= capacity)
            break;
        memcpy(out + used, from, length);
        used += length;
        at += n;
    }
    out[used] = 0;
}

enum status error_set(struct error *err, enum status status, const char *format, ...)
{
    if (!err)
        return status;
    char raw[ERROR_TEXT];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    err->status = status;
    copy_printable(err->text, sizeof err->text, raw, strlen(raw));
    return status;
}

enum status error_prefix(struct error *err, const char *format, ...)
{
    if (!err)
        return STATUS_FAILED;
    char raw[2 * ERROR_TEXT];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(raw, ERROR_TEXT, format, args);
    va_end(args);
    if (n < 0 || n >= ERROR_TEXT)
        n = ERROR_TEXT - 1;
    snprintf(raw + n, sizeof raw - (size_t)n, ": %s", err->text);
    copy_printable(err->text, sizeof err->text, raw, strlen(raw));
    return err->status;
}

enum status error_memory(struct error *err, const char *what)
{
    return error_set(err, STATUS_NO_ROOM, "out of memory for %s; close other programs or take a smaller model", what);
}

const char *error_errno(int number)
{
    const char *text = strerrordesc_np(number);
    return text ? text : "unknown error";
}

int status_exit_code(enum status status)
{
    static const int codes[] = {
        [STATUS_OK] = 0,        [STATUS_FAILED] = 1,    [STATUS_DEVICE] = 1,  [STATUS_USAGE] = 2,   [STATUS_DENIED] = 3,
        [STATUS_BAD_INPUT] = 4, [STATUS_NOT_FOUND] = 4, [STATUS_NO_ROOM] = 5, [STATUS_NETWORK] = 6, [STATUS_INTERRUPTED] = 130,
    };
    return codes[status];
}

const char *quote(struct quoted *out, const char *bytes, size_t size)
{
    if (size <= 80) {
        copy_printable(out->text, sizeof out->text, bytes, size);
        return out->text;
    }
    size_t head = 50, tail = size - 20; /* whole characters on both sides of the cut */
    while (head > 0 && ((unsigned char)bytes[head] & 0xC0) == 0x80)
        head--;
    while (tail < size && ((unsigned char)bytes[tail] & 0xC0) == 0x80)
        tail++;
    char cut[100];
    size_t n = 0;
    memcpy(cut, bytes, head);
    n += head;
    memcpy(cut + n, "...", 3);
    n += 3;
    memcpy(cut + n, bytes + tail, size - tail);
    n += size - tail;
    copy_printable(out->text, sizeof out->text, cut, n);
    return out->text;
}
