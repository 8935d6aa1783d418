/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_ENGINE_GGUF_WRITER_H
#define TESTS_ENGINE_GGUF_WRITER_H

/* Writes GGUF v3 files for tests. Ends the process when memory or the disk is out: it is only for
 * tests. Nothing is checked, so that bad files can be written too. Keys, texts and data are copied.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/gguf.h"

struct gguf_writer;

struct gguf_writer *gguf_writer_new(void);
struct gguf_writer *gguf_writer_free(struct gguf_writer *w);

void gguf_writer_add_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_add_u64(struct gguf_writer *w, const char *key, uint64_t value);
void gguf_writer_add_i32(struct gguf_writer *w, const char *key, int32_t value);
void gguf_writer_add_f32(struct gguf_writer *w, const char *key, float value);
void gguf_writer_add_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_writer_add_string(struct gguf_writer *w, const char *key, const char *value);
/* lens NULL: NUL-terminated texts. */
void gguf_writer_add_strings(struct gguf_writer *w, const char *key, const char *const *texts,
	const size_t *lens, size_t n);
void gguf_writer_add_floats(struct gguf_writer *w, const char *key, const float *values, size_t n);
void gguf_writer_add_ints(struct gguf_writer *w, const char *key, const int32_t *values, size_t n);

/* A tensor of any type number; its data lies at the next multiple of the alignment (32). */
void gguf_writer_add_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
	const uint64_t *dims, const void *data, size_t bytes);
/* The offset written for the tensor added last, instead of the true one. */
void gguf_writer_lie_about_offset(struct gguf_writer *w, uint64_t offset);

/* new: the whole file, malloc'ed. */
unsigned char *gguf_writer_bytes(const struct gguf_writer *w, size_t *n);
/* Writes the file. */
void gguf_writer_finish(const struct gguf_writer *w, const char *path);

/* A value, rounded as the format rounds it: what a test writes is what the model then has. */
uint16_t gguf_writer_f16(float f);
uint16_t gguf_writer_bf16(float f);
/* 256 values as a block of a K type. */
void gguf_writer_quantise_k(enum tensor_type type, const float *values, unsigned char *block);
/* new: n values as blocks of the type, malloc'ed; n is a multiple of the type's block. */
void *gguf_writer_quantise(enum tensor_type type, const float *values, size_t n, size_t *bytes);

#endif
