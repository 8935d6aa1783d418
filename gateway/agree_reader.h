/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_AGREE_READER_H
#define GATEWAY_AGREE_READER_H

/* A text being read: between agree_read.c, which makes items of its words, and agree_ask.c, which
 * sees to what is asked. */

#include <string.h>

#include "gateway/agree_parts.h"

struct reader {
	struct agree_sign *s;
	const struct tokens *t;
	enum agree_language language;
	uint8_t role;       /* for the next item */
	uint32_t role_word; /* what it is if there is no next one: turn it on, turn it off */
	size_t asked;       /* where the word of s->ask is */
	bool did;           /* there was an auxiliary verb in the sentence */
	uint32_t value;     /* of a number in words under way */
	bool has_value;
	bool polite;  /* behind a courtesy: what follows begins the sentence */
	uint16_t aux; /* all there were */
};

/* What is known of token i; borrows; NULL: nothing, or it is no word. */
static inline const struct word *agree_reader_word(const struct reader *r, size_t i)
{
	if (i >= r->t->n || r->t->at[i].kind != TOKEN_WORD)
		return NULL;
	return agree_word_find(r->t->at[i].hash, r->language);
}

/* Token i is this word, in lower case. */
static inline bool agree_reader_is(const struct reader *r, size_t i, const char *text)
{
	const struct token *k = &r->t->at[i];

	if (i >= r->t->n || k->kind != TOKEN_WORD)
		return false;
	return k->hash == agree_hash(text, strlen(text));
}

/* How many tokens, from the i-th on, say only how politely, or what whether or how would; 0: none.
 */
size_t agree_ask_courtesy(struct reader *r, size_t i);
/* How many are "how many" or the like; 0: they are not. */
size_t agree_ask_count(struct reader *r, size_t i);
/* A word of the question k with its QUESTION_* bits; next is what is known of the one behind it. */
void agree_ask_question(
	struct reader *r, const struct token *k, uint16_t bits, const struct word *next);
/* An auxiliary verb with its AUX_* bits. */
void agree_ask_aux(struct reader *r, const struct token *k, uint16_t bits);
/* Token i, an auxiliary verb elsewhere, is a verb of its own here. */
bool agree_ask_is_verb(const struct reader *r, size_t i);
/* A pronoun, token i, with its PERSON_* bits. */
void agree_ask_person(struct reader *r, size_t i, uint16_t bits);
/* At the end. */
void agree_ask_settle(struct reader *r);

#endif
