/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_WORDPIECE_H
#define ENGINE_WORDPIECE_H

/* WordPiece as uncased BERT models use it. The door is tokenizer.h. */

#include "base/err.h"
#include "engine/gguf.h"
#include "engine/tokenizer.h"
#include "engine/vocab.h"

struct wordpiece;

/* Of what stands between white space and signs, in code points: a longer one is [UNK]. */
#define WORDPIECE_MAX_WORD 100

/* new *out; borrows v, whose look-ups are built. -EBADMSG: no [UNK]; -ENOTSUP: the tokens are not
 * in the form of GGUF files (words begin with U+2581); -ENOMEM. */
int wordpiece_new(
	struct wordpiece **out, const struct vocab *v, const struct gguf *g, struct err *err);
struct wordpiece *wordpiece_free(struct wordpiece *w);

/* Appends the ids of text, of the first `most` of them. Bytes that are no UTF-8 are left out, as
 * control characters are. O(n) and not more than needed for `most`. -ENOMEM. */
int wordpiece_encode(
	const struct wordpiece *w, const char *text, size_t n, size_t most, struct token_list *out);

/* What an uncased BERT makes of a code point: the number written to out, each a code point. 0: it
 * is dropped. White space gives ' '. For tests. */
#define WORDPIECE_MAX_PARTS 4
uint32_t wordpiece_fold(uint32_t codepoint, uint32_t out[WORDPIECE_MAX_PARTS]);

#endif
