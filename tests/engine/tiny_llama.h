/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_ENGINE_TINY_LLAMA_H
#define TESTS_ENGINE_TINY_LLAMA_H

/*
 * Writes a small llama model with random weights and a byte-level BPE vocabulary: any text can be
 * said to it, and it answers nonsense at once. The same parameters give the same file, byte for
 * byte.
 *
 * Tokens: 0 .. 255 the bytes (id = byte), then n_vocab - 259 merges, then <|endoftext|>,
 * <|im_start|>, <|im_end|> (control). Template: chatml. eos is <|im_end|>.
 */

#include <stdbool.h>
#include <stdint.h>

#include "engine/gguf.h"

/* Zeros mean the default named here. */
struct tiny_llama {
	uint32_t n_layers; /* 2 */
	uint32_t
		n_embd; /* 64; a multiple of n_heads, and of 32 for quantised types, 256 for K types
			 */
	uint32_t n_heads;        /* 4 */
	uint32_t n_kv_heads;     /* n_heads; divides n_heads */
	uint32_t n_ff;           /* 2 * n_embd */
	uint32_t n_vocab;        /* 320; 259 .. 259 + 16,000 */
	uint32_t context_tok;    /* 2048 */
	float rope_base;         /* 10000 */
	enum tensor_type type;   /* of the matrices; norms are F32. TENSOR_F32 is 0 */
	enum tensor_type better; /* F32: none; else of attn_v, ffn_down and output, which files of
				    mixed types keep better than the others */
	bool tied;               /* no output.weight */
	uint64_t seed;
};

void tiny_llama_write(const struct tiny_llama *parameters, const char *path);

/* Writes over the beginning of the template in that file, in place: it is ChatML still, and has
 * that system message, of at most 40 bytes, for conversations without one. */
void tiny_llama_put_opening(const char *path, const char *opening);

#endif
