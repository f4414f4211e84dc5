/* Reading protobuf's wire format (protobuf.dev/programming-guides/encoding): field by field, every length held against the bytes that
 * are there. Groups are refused: proto2 deprecated them. */
#ifndef TOKENIZERS_PROTOBUF_H
#define TOKENIZERS_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct protobuf {
    const unsigned char *at, *end;
    bool broken; /* the bytes are no message */
};

struct protobuf_field {
    uint32_t number;
    uint64_t value;   /* varint, fixed64, fixed32; bool, enum */
    const char *data; /* string, bytes, message; NULL for the others */
    size_t size;
};

static inline uint64_t protobuf_varint(struct protobuf *p)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 70 && p->at < p->end; shift += 7) {
        unsigned char b = *p->at++;
        if (shift < 64)
            value |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80)
            return value;
    }
    p->broken = true;
    return 0;
}

static inline uint64_t protobuf_fixed(struct protobuf *p, size_t size)
{
    uint64_t value = 0;
    p->broken |= (size_t)(p->end - p->at) < size;
    for (size_t i = 0; i < size && !p->broken; i++)
        value |= (uint64_t)*p->at++ << (8 * i);
    return value;
}

/* The next field; false at the end or where the message is broken. */
static inline bool protobuf_next(struct protobuf *p, struct protobuf_field *f)
{
    enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };
    *f = (struct protobuf_field){0};
    if (p->broken || p->at == p->end)
        return false;
    uint64_t key = protobuf_varint(p);
    f->number = key >> 3 <= UINT32_MAX ? (uint32_t)(key >> 3) : 0;
    p->broken |= f->number == 0;
    switch (key & 7) {
    case VARINT:
        f->value = protobuf_varint(p);
        break;
    case FIXED64:
        f->value = protobuf_fixed(p, 8);
        break;
    case FIXED32:
        f->value = protobuf_fixed(p, 4);
        break;
    case BYTES:
        f->value = protobuf_varint(p);
        p->broken |= f->value > (uint64_t)(p->end - p->at);
        if (p->broken)
            return false;
        f->data = (const char *)p->at;
        f->size = (size_t)f->value;
        p->at += f->size;
        break;
    default:
        p->broken = true;
    }
    return !p->broken;
}

static inline struct protobuf protobuf_open(const char *data, size_t size)
{
    return (struct protobuf){(const unsigned char *)data, (const unsigned char *)data + size, false};
}

static inline float protobuf_float(const struct protobuf_field *f)
{
    uint32_t bits = (uint32_t)f->value;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
