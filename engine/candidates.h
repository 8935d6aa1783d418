/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CANDIDATES_H
#define ENGINE_CANDIDATES_H

/*
 * How likely a model finds each of a few given words as the first one of its answer: what a judge
 * model is asked ("safe" or "unsafe"), without a draw.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/sampler.h"
#include "engine/tokenizer.h"

struct candidates { /* zeroed: none */
	size_t n;
	bool known;                          /* p was taken */
	uint32_t ids[ENGINE_CANDIDATES_MAX]; /* [n] no two alike */
	float p[ENGINE_CANDIDATES_MAX];      /* [n] NAN until known */
};

/*
 * Finds the tokens that stand for the texts: of each the first token that is not only white space,
 * the text being tokenised as the beginning of an answer. That is: as plain text that goes on from
 * the template, so that SentencePiece puts no space of its own in front; but where the template's
 * family has a space before an answer (`behind_space`: chat_answer_has_space), behind that space.
 * So "unsafe" is the token "unsafe" of a byte-level vocabulary, or "un" where that is no token, and
 * of a SentencePiece vocabulary "unsafe", or with Llama 2's template U+2581 "unsafe".
 * -EINVAL: more than ENGINE_CANDIDATES_MAX, a text that is empty, white space only, not UTF-8 or
 * longer than 256 bytes, two with the same token; -ENOMEM.
 */
int candidates_find(struct candidates *out, const struct tokenizer *t, const char *const *texts,
	size_t n, bool behind_space, struct err *err);

/*
 * Looks at what one position says when it is asked for the candidates. True: the most likely token
 * says something, so the answer begins here, and p[n] has the probabilities of the candidates
 * (softmax over all of the vocabulary at temperature 1; a function of the logits to the bit).
 * False: it is white space, so that the next position is to be looked at; or no logit is finite. A
 * control token is no white space.
 */
bool candidates_look(const struct candidates *c, const struct tokenizer *t,
	const struct sampler_facts *facts, float *p);

#endif
