/* What containers hand out: named tensors (type, shape, bytes) and metadata, without meaning. Every number from the
 * file was checked against it before it appears here (R1): data lies inside the mapping, sizes match the shape. */
#ifndef BASE_FILES_TENSORS_H
#define BASE_FILES_TENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/mapping.h"
#include "base/status.h"

enum storage {
#define TYPE(id, name, elements, bytes, gguf, safetensors) STORAGE_##id,
#include "base/files/types.def"
#undef TYPE
    STORAGE_COUNT
};

struct storage_type {
    const char *name;
    int block_elements, block_bytes;
    int gguf;                /* type number in GGUF, -1: none */
    const char *safetensors; /* dtype string, NULL: none */
};
extern const struct storage_type storage_types[STORAGE_COUNT];

/* Bytes of `elements` values laid out in whole blocks; false if they are no whole number of blocks or overflow. */
bool storage_bytes(enum storage type, uint64_t elements, uint64_t *bytes);

enum { TENSOR_DIMS = 8 };

/* shape is outermost first (torch's order) for every container: a matrix is [out, in]. */
struct tensor {
    const char *name; /* NUL-terminated */
    enum storage type;
    int dims;
    int64_t shape[TENSOR_DIMS];
    const unsigned char *data; /* inside one of the set's mappings; no alignment is promised */
    uint64_t bytes;
};

/* Metadata values of GGUF; each getter names the type it wants (R3). */
enum meta_type { META_U8, META_I8, META_U16, META_I16, META_U32, META_I32, META_F32, META_BOOL, META_STRING, META_ARRAY, META_U64, META_I64, META_F64 };

struct meta {
    const char *key; /* NUL-terminated */
    enum meta_type type, element; /* element: of META_ARRAY (never META_ARRAY: nested arrays are refused) */
    uint64_t count;               /* elements of META_ARRAY, bytes of META_STRING */
    const unsigned char *data;    /* little-endian value(s), unaligned; array of strings: {u64 size, bytes} each */
};

/* One checkpoint's tensors, from one or several files. Immutable after opening; safe to read from any thread. */
struct tensor_set {
    struct arena arena;
    struct mapping **files;
    int file_count;
    struct tensor *tensors;
    int64_t tensor_count;
    struct meta *metas; /* GGUF only */
    int64_t meta_count;
    struct tensor_index *index; /* name -> tensor */
    uint64_t data_bytes;        /* sum over tensors */
};

/* A folder's weights: model.safetensors, or the shards that model.safetensors.index.json names; or a lone
 * .safetensors file. Errors name file and tensor: STATUS_BAD_INPUT, STATUS_NOT_FOUND, STATUS_NO_ROOM. */
enum status safetensors_open(struct tensor_set **out, const char *path, enum mapping_kind kind, struct error *err);

/* A GGUF file (v2, v3); any part of a split file brings the others. Metadata is the first part's. */
enum status gguf_open(struct tensor_set **out, const char *path, enum mapping_kind kind, struct error *err);
bool gguf_is(const char *path); /* starts with GGUF's magic */

void tensor_set_close(struct tensor_set *set); /* NULL is fine */

/* By name; NULL if absent. */
const struct tensor *tensor_find(const struct tensor_set *set, const char *name);

/* The file name of the first mapping that shrank while in use, NULL if none did. */
const char *tensor_set_lost(const struct tensor_set *set);

/* Metadata by key. A present value of another type is STATUS_BAD_INPUT naming the key; an absent one leaves *out as
 * it is and *found (may be NULL) false. Integers of every width are accepted where they fit. */
const struct meta *meta_find(const struct tensor_set *set, const char *key);
enum status meta_int(const struct tensor_set *set, const char *key, int64_t *out, bool *found, struct error *err);
enum status meta_float(const struct tensor_set *set, const char *key, double *out, bool *found, struct error *err);
enum status meta_bool(const struct tensor_set *set, const char *key, bool *out, bool *found, struct error *err);
enum status meta_string(const struct tensor_set *set, const char *key, const char **out, uint64_t *size, bool *found, struct error *err);
enum status meta_array(const struct tensor_set *set, const char *key, enum meta_type element, const struct meta **out, struct error *err);

/* Next string of an array of strings: *at starts at 0 (bytes into data). All were checked when the file was opened. */
const char *meta_next_string(const struct meta *array, uint64_t *at, uint64_t *size);

#endif
