/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_ENCODER_H
#define ENGINE_ENCODER_H

/* A BERT-class encoder bound to its file, and its pass over a batch of texts: tokens in, one vector
 * of unit length a text out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"

enum encoder_pooling { ENCODER_MEAN = 1, ENCODER_CLS = 2 }; /* the numbers of bert.pooling_type */

struct encoder_config {
	uint32_t n_layers, n_embd, n_heads, head_dim, n_ff, n_vocab;
	uint32_t context_tok; /* longest text, with its two control tokens */
	uint32_t n_types;     /* token types; texts are all of the first */
	float norm_eps;
	enum encoder_pooling pooling;
};

struct encoder;

struct encoder_options {
	uint32_t n_threads;   /* >= 1 */
	const char *cpu_path; /* "scalar", "avx2", "avx512", NULL: the best */
	uint32_t max_rows;    /* most tokens in one batch */
	uint32_t max_texts;   /* most texts in one batch */
	void (*progress)(void *arg, double fraction);
	void *progress_arg;
};

/* Whether the file says that it is an encoder: nothing of it is checked. */
bool encoder_is_one(const struct gguf *g);

/* new *out; borrows g, which must outlive it. -EBADMSG (a shape that lies, a missing tensor),
 * -ENOTSUP, -EINVAL, -ENOMEM. */
int encoder_new(struct encoder **out, const struct gguf *g, const struct encoder_options *options,
	struct err *err);
struct encoder *encoder_free(struct encoder *e);

const struct encoder_config *encoder_config(const struct encoder *e);
const char *encoder_backend(const struct encoder *e); /* "cpu/avx512" */
uint64_t encoder_n_parameters(const struct encoder *e);
const char *encoder_file_type(const struct encoder *e);

/* The sizes alone, before anything is allocated. -EBADMSG, -ENOTSUP. */
int encoder_read_config(const struct gguf *g, struct encoder_config *out, struct err *err);

struct encoder_text {
	const uint32_t *ids; /* [n], control tokens among them */
	uint32_t n;          /* 1 .. context_tok */
};

/*
 * vectors: [n_texts][n_embd], each of length 1 (all zeros when the model gives nothing else). Sum
 * of n <= max_rows, n_texts <= max_texts. The numbers of a text are the same to the bit whatever
 * texts come with it. Never fails; the caller checks gguf_changed() afterwards. One thread at a
 * time.
 */
void encoder_step(
	struct encoder *e, const struct encoder_text *texts, size_t n_texts, float *vectors);

#endif
