/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_ENGINE_TINY_BERT_H
#define TESTS_ENGINE_TINY_BERT_H

/*
 * Writes a small encoder with random weights and a WordPiece vocabulary. The same parameters give
 * the same file, byte for byte.
 *
 * Tokens: [PAD] [UNK] [CLS] [SEP] [MASK], then the words of tiny_bert_words, then the letters a ..
 * z as beginnings and as continuations of words, "##ing", "##s", and the signs . , ? !.
 */

#include <stdbool.h>
#include <stdint.h>

#include "tests/engine/gguf_writer.h"

enum { TINY_BERT_PAD, TINY_BERT_UNK, TINY_BERT_CLS, TINY_BERT_SEP, TINY_BERT_MASK, TINY_BERT_WORD };

extern const char *const tiny_bert_words[]; /* NULL at the end */
uint32_t tiny_bert_id(const char *token);   /* as in the file: "\u2581the", "ing" */

/* Zeros mean the default named here. */
struct tiny_bert {
	uint32_t n_layers;     /* 2 */
	uint32_t n_embd;       /* 64; a multiple of n_heads, and of 32 for quantised types */
	uint32_t n_heads;      /* 4 */
	uint32_t n_ff;         /* 2 * n_embd */
	uint32_t context_tok;  /* 48 */
	enum tensor_type type; /* of the matrices; norms and biases are F32. TENSOR_F32 is 0 */
	bool cls;              /* pooling; else mean */
	bool no_kinds;         /* token_types.weight is zeros, and the last tensor of the file */
	uint64_t seed;

	/* For hostile files. */
	const char *left_out; /* a tensor that is not written */
	const char *bent;     /* a tensor that is written with one row (a vector: value) more */
	const char *unknown;  /* a tensor [n_embd] more */
	bool no_sizes;        /* bert.embedding_length is missing */
	int pooling;          /* bert.pooling_type, whatever it is */
	uint32_t n_tokens;    /* of the vocabulary: more than the embedding has */
};

void tiny_bert_write(const struct tiny_bert *parameters, const char *path);
/* new: the whole file, malloc'ed. */
unsigned char *tiny_bert_bytes(const struct tiny_bert *parameters, size_t *n);
/* Adds the tokenizer's keys. */
void tiny_bert_vocab(struct gguf_writer *w, uint32_t n_tokens);

#endif
