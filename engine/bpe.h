/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_BPE_H
#define ENGINE_BPE_H

/* Byte-level BPE: the "gpt2" kind of vocabulary. */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/gguf.h"
#include "engine/tokenizer.h"
#include "engine/vocab.h"

struct bpe;

/* Turns the printable stand-ins for bytes in v's tokens into the bytes. Before vocab_index. */
void bpe_decode_tokens(struct vocab *v);
/* new *out; borrows v, which must be indexed. -EBADMSG, -ENOTSUP, -ENOMEM. */
int bpe_new(struct bpe **out, const struct vocab *v, const struct gguf *g, struct err *err);
struct bpe *bpe_free(struct bpe *b);

/* As tokenizer_encode. */
int bpe_encode(const struct bpe *b, const char *text, size_t n, struct token_list *out);

#endif
