/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_GGUF_H
#define ENGINE_GGUF_H

/* A GGUF v3 file (little endian), mapped read-only, every offset, count, type and shape checked
 * before use. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum tensor_type { /* the numbers of the format */
	TENSOR_F32 = 0,
	TENSOR_F16 = 1,
	TENSOR_Q4_0 = 2,
	TENSOR_Q4_1 = 3,
	TENSOR_Q5_0 = 6,
	TENSOR_Q5_1 = 7,
	TENSOR_Q8_0 = 8,
	TENSOR_Q4_K = 12,
	TENSOR_Q5_K = 13,
	TENSOR_Q6_K = 14,
	TENSOR_BF16 = 30,
};

struct tensor_type_info {
	const char *name;      /* "Q8_0" */
	uint32_t block_values; /* values a block: 1, 32 or 256 */
	uint32_t block_bytes;
};

/* borrows a static row; NULL for a type we do not compute with. */
const struct tensor_type_info *tensor_type_info(uint32_t type);

struct gguf_tensor {
	const char *name; /* NUL-terminated; borrowed from the file object */
	enum tensor_type type;
	uint32_t n_dims;
	uint64_t dim[4];  /* dim[0] is the contiguous one (columns); unused ones are 1 */
	const void *data; /* in the mapping; aligned to the file's alignment */
	size_t bytes;
};

struct gguf;

/*
 * new *out. Opens without blocking (O_NONBLOCK|O_CLOEXEC), refuses all but regular files and files
 * on forbidden_device (0: none). Errors, each with a sentence: those of open(2); -EINVAL not a
 * regular file, forbidden device; -EBADMSG damaged; -ENOTSUP another GGUF version, big endian, or a
 * tensor type we cannot compute with.
 */
int gguf_open(struct gguf **out, const char *path, dev_t forbidden_device, struct err *err);
/* The same over bytes in memory, which must outlive the object: for fuzzers and tests. */
int gguf_parse(struct gguf **out, const void *bytes, size_t n, struct err *err);
struct gguf *gguf_free(struct gguf *g);

/*
 * What has become of the file since it was opened, by one fstat(2): 0; 1: another one has its name,
 * or none has, and what is mapped is sound; -EBADMSG: it was truncated; -EIO: it was written to, or
 * touched. What was read before is not to be used then: a missing page reads as zeros (the SIGBUS
 * handler maps them over it, and hands faults of others to the handler that was there before), and
 * one that is there may have new bytes. The sentence begins with `whose` ("the model's file") and
 * ends with `when` ("in use").
 *
 * The second never waits: of a file on a file system of another machine (base/local_fs.h) it is
 * what the first said last.
 */
int gguf_changed(const struct gguf *g, const char *whose, const char *when, struct err *err);
int gguf_changed_now(const struct gguf *g, const char *whose, const char *when, struct err *err);

/* The tensor's data will hardly be read again: its pages may leave memory. They are still there for
 * who reads them. */
void gguf_forget(const struct gguf *g, const struct gguf_tensor *t);

size_t gguf_file_bytes(const struct gguf *g);

/* All borrow. NULL or the fallback when the key is absent or of another type. */
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);
size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);

bool gguf_has(const struct gguf *g, const char *key);
uint64_t gguf_uint(
	const struct gguf *g, const char *key, uint64_t fallback); /* any integer type >= 0 */
double gguf_float(const struct gguf *g, const char *key, double fallback);
bool gguf_bool(const struct gguf *g, const char *key, bool fallback);
/* *len bytes, not NUL-terminated. */
const char *gguf_string(const struct gguf *g, const char *key, size_t *len);

/* Arrays. Length 0 when absent or of another element type. */
size_t gguf_strings(const struct gguf *g, const char *key);
const char *gguf_string_at(const struct gguf *g, const char *key, size_t i, size_t *len); /* O(1) */
const float *gguf_floats(
	const struct gguf *g, const char *key, size_t *n); /* may be unaligned: memcpy out of it */
const int32_t *gguf_ints(
	const struct gguf *g, const char *key, size_t *n); /* 32-bit ones; may be unaligned */

#endif
