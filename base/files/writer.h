/* Writing containers: one file, its tensors streamed in the order in which they were announced. The file appears under its
 * name when it is complete and on the disk; until then, and after any failure, there is nothing (base/file.h). */
#ifndef BASE_FILES_WRITER_H
#define BASE_FILES_WRITER_H

#include "base/file.h"
#include "base/files/tensors.h"
#include "base/str.h"

struct tensor_writer {
    struct file_writer file;
    const struct tensor *list; /* the caller's: name, type, dims, shape, bytes; data is not looked at */
    int64_t count, current;    /* tensors announced; the one being written */
    uint64_t left;             /* bytes of it still missing */
    uint32_t alignment;        /* every tensor is padded to this; 0: no padding */
    unsigned char *buffer;     /* small pieces wait here */
    size_t buffered;
};

/* list must outlive the writer. Errors: STATUS_FAILED (file system), STATUS_USAGE (a type that this container cannot hold,
 * named), STATUS_NO_ROOM. After a failure of any function here the temporary file is gone. */
enum status safetensors_begin(struct tensor_writer *w, const char *path, const struct tensor *list, int64_t count, struct error *err);

/* The next bytes of the data: of list[0], then of list[1] ... A call may not cross from one tensor into the next. */
enum status tensor_writer_add(struct tensor_writer *w, const void *data, size_t size, struct error *err);
/* All tensors must be complete. */
enum status tensor_writer_commit(struct tensor_writer *w, struct error *err);
void tensor_writer_abandon(struct tensor_writer *w); /* after commit or a failure: nothing */

/* GGUF metadata under construction; str's `failed` tells of memory running out, gguf_begin looks. */
struct gguf_keys {
    struct str bytes;
    uint64_t count;
};
void gguf_key_int(struct gguf_keys *k, const char *key, enum meta_type type, int64_t value); /* any integer type; BOOL */
void gguf_key_float(struct gguf_keys *k, const char *key, float value);
void gguf_key_string(struct gguf_keys *k, const char *key, const char *text, size_t size);
/* An array of count elements follows: gguf_add_string count times, or count values of a fixed size. */
void gguf_key_array(struct gguf_keys *k, const char *key, enum meta_type element, uint64_t count);
void gguf_add_string(struct gguf_keys *k, const char *text, size_t size);
void gguf_add_values(struct gguf_keys *k, const void *values, size_t bytes);
/* The same key and value as in another file. */
void gguf_key_copy(struct gguf_keys *k, const struct meta *m);

/* GGUF version 3, alignment 32. Shapes are given outermost first like everywhere here. */
enum status gguf_begin(struct tensor_writer *w, const char *path, const struct gguf_keys *keys, const struct tensor *list, int64_t count,
                       struct error *err);

#endif
