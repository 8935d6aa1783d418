/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_ENGINE_TINY_VOCAB_H
#define TESTS_ENGINE_TINY_VOCAB_H

/* Small vocabularies for tests, one of each kind. They take any bytes and give them back (the
 * SentencePiece one gives a space for U+2581). */

#include <stddef.h>
#include <stdint.h>

#include "tests/engine/gguf_writer.h"

enum tiny_vocab_kind {
	TINY_VOCAB_GPT2,
	TINY_VOCAB_LLAMA3,
	TINY_VOCAB_TEKKEN,
	TINY_VOCAB_SMOLLM,
	TINY_VOCAB_SENTENCEPIECE,
	TINY_VOCAB_KINDS,
};

/*
 * Adds the tokenizer's keys. n_tokens: 320 .. 16,000. Byte-level: the bytes (id = byte), merges of
 * letters, then
 * <|endoftext|> (bos), <|im_start|>, <|im_end|> (eos). SentencePiece: <unk>, <s>, </s>, the bytes
 * (id = byte + 3), the user-defined token <tool>, U+2581, then the 26 letters and pieces made of
 * them.
 */
void tiny_vocab_add(struct gguf_writer *w, enum tiny_vocab_kind kind, uint32_t n_tokens);
/* new: a file of 400 tokens and nothing else, malloc'ed. */
unsigned char *tiny_vocab_file(enum tiny_vocab_kind kind, size_t *n);

#endif
