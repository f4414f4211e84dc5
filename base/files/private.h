/* Shared by the container readers only. */
#ifndef BASE_FILES_PRIVATE_H
#define BASE_FILES_PRIVATE_H

#include "base/files/tensors.h"

/* Builds the name index and sums bytes; a name that occurs twice is STATUS_BAD_INPUT. */
enum status tensor_set_index(struct tensor_set *set, struct error *err);

/* Maps one more file of the set; it is closed with the set. */
enum status tensor_set_add_file(struct tensor_set *set, const char *path, enum mapping_kind kind, struct mapping **out, struct error *err);

/* An integer of any width; false if the type is none or the value does not fit. */
bool meta_integer(enum meta_type type, const unsigned char *data, int64_t *out);

#endif
