/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_ENGINE_TOKEN_FIXTURE_H
#define TESTS_ENGINE_TOKEN_FIXTURE_H

/* Tokenizers of files that are written in memory, and what tests say of their ids. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/tokenizer.h"
#include "tests/engine/tiny_vocab.h"

extern struct err token_err; /* what was wrong with the last that was loaded */

/* A new tokenizer of that file, or what was wrong; steals w. */
int token_load(struct gguf_writer *w, struct tokenizer **out);
/* new: of a tiny vocabulary. */
struct tokenizer *token_tiny(enum tiny_vocab_kind kind);

/* new; start: with what stands at the beginning of a text. */
struct token_list token_encode(const struct tokenizer *t, const char *text, size_t n, bool start);
/* The ids give back the text, and none of them is a control token. */
void token_assert_round_trip(const struct tokenizer *t, const char *text, size_t n);
void token_assert_ids(
	const struct tokenizer *t, const char *text, bool start, const uint32_t *want, size_t n);

#endif
