/* One member of a zip archive (APPNOTE.TXT 6.3): the central directory at the end says where it lies. Stored and deflated
 * members; no zip64, no encryption: wheels that we read need neither. */
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mapping.h"
#include "runtime/fetch/private.h"

static uint16_t u16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t u32(const unsigned char *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

struct member {
    const unsigned char *data;
    uint64_t packed, size;
    uint16_t method;
    uint32_t crc;
};

static bool find_end(const struct mapping *m, uint32_t *directory, uint32_t *size, uint16_t *count)
{
    if (m->size < 22)
        return false;
    for (size_t back = 22; back <= m->size && back < 22 + 65536; back++) {
        const unsigned char *p = m->data + m->size - back;
        if (u32(p) != 0x06054b50)
            continue;
        *count = u16(p + 10);
        *size = u32(p + 12);
        *directory = u32(p + 16);
        return (uint64_t)*directory + *size <= m->size;
    }
    return false;
}

static bool find_member(const struct mapping *m, const char *suffix, struct member *out)
{
    uint32_t at, bytes;
    uint16_t count;
    if (!find_end(m, &at, &bytes, &count))
        return false;
    uint64_t end = (uint64_t)at + bytes, p = at;
    for (int i = 0; i < count && p + 46 <= end; i++) {
        const unsigned char *h = m->data + p;
        uint16_t name = u16(h + 28);
        if (u32(h) != 0x02014b50 || p + 46 + name > end)
            return false;
        size_t n = strlen(suffix);
        if (name >= n && !memcmp(h + 46 + name - n, suffix, n)) {
            uint64_t local = u32(h + 42);
            *out = (struct member){.packed = u32(h + 20), .size = u32(h + 24), .method = u16(h + 10), .crc = u32(h + 16)};
            if (local + 30 > m->size || u32(m->data + local) != 0x04034b50)
                return false;
            uint64_t data = local + 30 + u16(m->data + local + 26) + u16(m->data + local + 28);
            if (data > m->size || out->packed > m->size - data)
                return false;
            out->data = m->data + data;
            return out->method == 0 || out->method == 8;
        }
        p += 46u + name + u16(h + 30) + u16(h + 32);
    }
    return false;
}

static enum status inflate_to(const struct member *z, struct file_writer *w, const struct ingot_model_options *options, struct error *err)
{
    unsigned char buffer[1 << 16];
    z_stream s = {.next_in = (unsigned char *)(uintptr_t)z->data, .avail_in = (uInt)z->packed};
    uint64_t done = 0;
    uLong crc = crc32(0, NULL, 0);
    double shown = clock_seconds();
    enum status status = STATUS_OK;
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return error_memory(err, "unpacking");
    for (int code = Z_OK; code != Z_STREAM_END && !status;) {
        s.next_out = buffer;
        s.avail_out = sizeof buffer;
        code = inflate(&s, Z_NO_FLUSH);
        size_t n = sizeof buffer - s.avail_out;
        if ((code != Z_OK && code != Z_STREAM_END) || (n == 0 && code == Z_OK) || done + n > z->size) {
            status = error_set(err, STATUS_BAD_INPUT, "%s: the packed data are damaged", w->path);
            break;
        }
        crc = crc32(crc, buffer, (uInt)n);
        done += n;
        status = file_writer_write(w, buffer, n, err);
        if (options && options->progress && (clock_seconds() - shown > 0.1 || done == z->size)) {
            shown = clock_seconds();
            options->progress(options->progress_context, "unpacking", done, z->size);
        }
    }
    inflateEnd(&s);
    if (!status && (done != z->size || crc != z->crc))
        status = error_set(err, STATUS_BAD_INPUT, "%s: the unpacked data do not match their checksum", w->path);
    return status;
}

enum status zip_extract(const char *archive, const char *suffix, const char *path, const struct ingot_model_options *options, struct error *err)
{
    struct mapping *m;
    struct member z;
    struct file_writer w;
    enum status status = mapping_open(&m, archive, MAPPING_FILE, err);
    if (status)
        return status;
    if (!find_member(m, suffix, &z))
        status = error_set(err, STATUS_BAD_INPUT, "%s: no member *%s that can be unpacked", archive, suffix);
    if (!status && !(status = file_writer_begin_in_place(&w, path, err))) {
        status = z.method == 8 ? inflate_to(&z, &w, options, err) : file_writer_write(&w, z.data, z.packed, err);
        if (!status)
            status = file_writer_commit(&w, err);
        file_writer_abandon(&w);
    }
    mapping_close(m);
    return status;
}
