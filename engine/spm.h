/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_SPM_H
#define ENGINE_SPM_H

/* SentencePiece BPE: the "llama" kind of vocabulary. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"
#include "engine/tokenizer.h"
#include "engine/vocab.h"

struct spm;

/* new *out; borrows v, which must be indexed. -EBADMSG, -ENOTSUP, -ENOMEM. */
int spm_new(struct spm **out, const struct vocab *v, const struct gguf *g, struct err *err);
struct spm *spm_free(struct spm *s);

bool spm_adds_space(const struct spm *s);

/* As tokenizer_encode. */
int spm_encode(
	const struct spm *s, const char *text, size_t n, bool at_start, struct token_list *out);

/* The byte a token of the form <0x41> stands for, or -1. */
int spm_byte_of(const struct vocab *v, uint32_t id);

#endif
