/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_TOKENIZER_H
#define ENGINE_TOKENIZER_H

/* Text to token ids and back, by the vocabulary in a GGUF file: "gpt2" (byte-level BPE with a PCRE2
 * pre-tokenizer pattern), "llama" (SentencePiece BPE with byte fallback) and "bert" (WordPiece,
 * uncased). Immutable after tokenizer_new: any thread may use it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/gguf.h"

struct tokenizer;

#define TOKENIZER_NONE UINT32_MAX

/* new *out; borrows nothing of g afterwards. -EBADMSG, -ENOTSUP, -ENOMEM with a sentence. */
int tokenizer_new(struct tokenizer **out, const struct gguf *g, struct err *err);
struct tokenizer *tokenizer_free(struct tokenizer *t);

uint32_t tokenizer_size(const struct tokenizer *t);
const char *tokenizer_model(const struct tokenizer *t);  /* "gpt2", "llama", "bert" */
uint32_t tokenizer_max_bytes(const struct tokenizer *t); /* longest token, in bytes of text */
/* TOKENIZER_NONE when there is none; [CLS] and [SEP] of "bert". */
uint32_t tokenizer_bos(const struct tokenizer *t);
uint32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_adds_bos(const struct tokenizer *t);
/* True when a text that opens a sequence gets a space in front (SentencePiece). */
bool tokenizer_adds_space(const struct tokenizer *t);
/* True for every token that ends a turn: eos, eot and their like (<|im_end|>, <|eot_id|>,
 * <|end_of_text|>, </s> ...). */
bool tokenizer_is_end(const struct tokenizer *t, uint32_t id);
bool tokenizer_is_control(const struct tokenizer *t, uint32_t id);
/* The id of a control token by its exact text, or TOKENIZER_NONE. */
uint32_t tokenizer_control(const struct tokenizer *t, const char *text);

struct token_list {
	uint32_t *ids;
	size_t n, cap;
};

int token_list_add(struct token_list *l, uint32_t id); /* 0 or -ENOMEM */
void token_list_free(struct token_list *l);

/*
 * Appends the ids of text, which is treated as plain text: no control token ever comes out of it,
 * no bos is added. `at_start`: the text opens a sequence (SentencePiece then adds its leading space
 * where the vocabulary says so). Any bytes are taken; byte sequences that are not UTF-8 go through
 * the byte tokens ("bert" has none and leaves them out). O(n log n). -ENOMEM.
 */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool at_start,
	struct token_list *out);

/* Of "bert" only: appends [CLS], the ids of text, [SEP], `most` (>= 2) at most: what is behind the
 * first most - 2 ids of text is not looked at. -ENOMEM. */
int tokenizer_encode_marked(
	const struct tokenizer *t, const char *text, size_t n, size_t most, struct token_list *out);

/* The bytes an id stands for, as part of an answer (SentencePiece spaces resolved, control tokens:
 * ""). borrows. */
const char *tokenizer_text(const struct tokenizer *t, uint32_t id, size_t *len);

#endif
